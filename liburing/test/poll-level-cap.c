/* SPDX-License-Identifier: MIT */
/*
 * Description: The limit on CQEs of level triggered polls, of a ring and of a
 *		single call: how many are posted, whose turn it is, and that
 *		a wait for more than that returns.
 *
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "liburing.h"
#include "helpers.h"

#define NR_PIPES	5
#define MAX_CAP		65536

/* what must not take that long */
#define LONG_SEC	20

static const unsigned kinds[] = {
	0,
	IORING_SETUP_COOP_TASKRUN,
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	IORING_SETUP_SQPOLL,
};

static struct io_uring_reg_wait *reg;

#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "%s:%d: %s\n", __func__,	\
				__LINE__, #cond);			\
			return T_EXIT_FAIL;				\
		}							\
	} while (0)

static bool feed(int fd)
{
	return write(fd, "x", 1) == 1;
}

static bool drain(int fd)
{
	char c;

	return read(fd, &c, 1) == 1;
}

/* Returns if all SQEs have been issued, also those of a SQ thread. */
static bool submit(struct io_uring *ring)
{
	if (io_uring_submit(ring) < 0)
		return false;
	while (io_uring_sq_ready(ring))
		sched_yield();
	return true;
}

/* Pipes with a poll each, whose user_data is the index */
static bool open_pipes(struct io_uring *ring, int fds[NR_PIPES][2])
{
	int i;

	for (i = 0; i < NR_PIPES; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

		if (pipe(fds[i]) < 0)
			return false;
		io_uring_prep_poll_level(sqe, fds[i][0], POLLIN);
		sqe->user_data = i;
	}
	return submit(ring);
}

static bool feed_pipes(int fds[NR_PIPES][2], int n)
{
	bool ok = true;
	int i;

	for (i = 0; i < n; i++)
		ok &= feed(fds[i][1]);
	return ok;
}

static void close_pipes(int fds[NR_PIPES][2])
{
	int i;

	for (i = 0; i < NR_PIPES; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

static int set_cap(struct io_uring *ring, unsigned cap)
{
	struct io_uring_poll_level arg = { .max_cqes = cap };

	return io_uring_register_poll_level(ring, &arg);
}

/* There are so many CQEs, of the polls from that one on. Consumes them. */
static bool next_are(struct io_uring *ring, unsigned first, unsigned n)
{
	struct io_uring_cqe *cqe;
	unsigned head, i = 0;
	bool ok = true;

	io_uring_for_each_cqe(ring, head, cqe) {
		ok &= cqe->user_data == (first + i) % NR_PIPES;
		ok &= cqe->res == POLLIN && cqe->flags == IORING_CQE_F_MORE;
		i++;
	}
	if (!ok || i != n)
		fprintf(stderr, "%u CQEs, expected %u from %u on%s\n", i, n,
			first, ok ? "" : ", not these ones");
	io_uring_cq_advance(ring, i);
	return ok && i == n;
}

static int test_ring(struct io_uring *ring)
{
	int i, fds[NR_PIPES][2];

	CHECK(open_pipes(ring, fds));
	CHECK(!set_cap(ring, 2));
	CHECK(feed_pipes(fds, NR_PIPES));
	for (i = 0; i < 2 * NR_PIPES; i += 2) {
		CHECK(!io_uring_get_events(ring));
		CHECK(next_are(ring, i, 2));
	}

	/* it's a call that is limited, not the CQ ring */
	for (i = 0; i < 3; i++)
		CHECK(!io_uring_get_events(ring));
	CHECK(next_are(ring, 0, NR_PIPES));

	/* one at a time, a file that isn't ready is left out */
	CHECK(!set_cap(ring, 1));
	CHECK(drain(fds[1][0]));
	CHECK(!io_uring_get_events(ring));
	CHECK(next_are(ring, 0, 1));
	for (i = 2; i <= 5; i++) {
		CHECK(!io_uring_get_events(ring));
		CHECK(next_are(ring, i, 1));
	}

	/* and back to all of them */
	CHECK(feed(fds[1][1]));
	CHECK(!set_cap(ring, MAX_CAP));
	CHECK(!io_uring_get_events(ring));
	CHECK(io_uring_cq_ready(ring) == NR_PIPES);
	io_uring_cq_advance(ring, NR_PIPES);
	CHECK(!set_cap(ring, 0));
	CHECK(!io_uring_get_events(ring));
	CHECK(io_uring_cq_ready(ring) == NR_PIPES);
	close_pipes(fds);
	return T_EXIT_PASS;
}

/*
 * There are no more than the limit, ever, so a call that waits for more has to
 * return with the kernel. Else this test doesn't end.
 */
static int test_wait(struct io_uring *ring)
{
	struct __kernel_timespec ts = { .tv_sec = LONG_SEC };
	int i, fds[NR_PIPES][2];
	struct io_uring_cqe *cqe;
	struct timeval tv;

	CHECK(open_pipes(ring, fds));
	CHECK(!set_cap(ring, 2));
	CHECK(feed_pipes(fds, 2));
	gettimeofday(&tv, NULL);
	for (i = 0; i < 6; i++) {
		switch (i) {
		case 0:
			CHECK(!io_uring_submit_and_wait(ring, 4));
			break;
		case 1:
			CHECK(!io_uring_wait_cqe_nr(ring, &cqe, 4));
			break;
		case 2:
			CHECK(!io_uring_wait_cqes(ring, &cqe, 4, NULL, NULL));
			break;
		case 3:
			CHECK(!io_uring_submit_and_wait_timeout(ring, &cqe, 4,
								NULL, NULL));
			break;
		case 4:
			CHECK(!io_uring_wait_cqes(ring, &cqe, 4, &ts, NULL));
			break;
		case 5:
			CHECK(!io_uring_submit_and_wait_timeout(ring, &cqe, 4,
								&ts, NULL));
			break;
		}
		CHECK(next_are(ring, 0, 2));
	}
	CHECK(mtime_since_now(&tv) < LONG_SEC * 1000);

	/* without a limit, it's the time that ends it */
	ts.tv_sec = 0;
	ts.tv_nsec = 20000000;
	CHECK(!set_cap(ring, 0));
	gettimeofday(&tv, NULL);
	CHECK(!io_uring_wait_cqes(ring, &cqe, 4, &ts, NULL));
	CHECK(mtime_since_now(&tv) >= 19);
	CHECK(next_are(ring, 0, 2));
	close_pipes(fds);
	return T_EXIT_PASS;
}

static void *feed_later(void *arg)
{
	int *fd = arg;

	usleep(50000);
	feed(*fd);
	return NULL;
}

/* The same for one that gets ready while somebody sleeps */
static int test_wake(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int fds[NR_PIPES][2];
	pthread_t thread;

	CHECK(open_pipes(ring, fds));
	CHECK(!set_cap(ring, 1));
	CHECK(!pthread_create(&thread, NULL, feed_later, &fds[3][1]));
	CHECK(!io_uring_wait_cqe_nr(ring, &cqe, 3));
	CHECK(next_are(ring, 3, 1));
	CHECK(!pthread_join(thread, NULL));
	close_pipes(fds);
	return T_EXIT_PASS;
}

/* CQEs of other requests don't count. */
static int test_others(struct io_uring *ring)
{
	int i, fds[NR_PIPES][2];

	CHECK(open_pipes(ring, fds));
	CHECK(!set_cap(ring, 1));
	for (i = 0; i < 3; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

		io_uring_prep_nop(sqe);
	}
	CHECK(submit(ring));
	CHECK(feed_pipes(fds, NR_PIPES));
	CHECK(!io_uring_get_events(ring));
	CHECK(io_uring_cq_ready(ring) == 4);
	io_uring_cq_advance(ring, 3);
	CHECK(next_are(ring, 0, 1));
	close_pipes(fds);
	return T_EXIT_PASS;
}

static int test_errors(struct io_uring *ring)
{
	struct io_uring_poll_level arg = { .max_cqes = 1 };
	int i, fds[NR_PIPES][2];

	CHECK(open_pipes(ring, fds));
	CHECK(feed_pipes(fds, NR_PIPES));
	CHECK(!set_cap(ring, 2));
	CHECK(set_cap(ring, MAX_CAP + 1) == -EINVAL);
	CHECK(set_cap(ring, -1U) == -EINVAL);
	arg.flags = 1;
	CHECK(io_uring_register_poll_level(ring, &arg) == -EINVAL);
	arg.flags = 0;
	for (i = 0; i < 3; i++) {
		arg.resv[i] = 1;
		CHECK(io_uring_register_poll_level(ring, &arg) == -EINVAL);
		arg.resv[i] = 0;
	}
	CHECK(io_uring_register_poll_level(ring, NULL) == -EINVAL);

	/* it's still what it was */
	CHECK(!io_uring_get_events(ring));
	CHECK(next_are(ring, 0, 2));
	close_pipes(fds);
	return T_EXIT_PASS;
}

static int wait_reg(struct io_uring *ring, unsigned wait_nr)
{
	struct io_uring_cqe *cqe;

	return io_uring_submit_and_wait_reg(ring, &cqe, wait_nr, 0);
}

/* That of a call, and of the ring if there's none */
static int test_reg(struct io_uring *ring)
{
	static const struct {
		unsigned ring, call;
		unsigned expected;
	} caps[] = {
		{ 0, 0, 5 },
		{ 0, 1, 1 },
		{ 0, 3, 3 },
		{ 1, 0, 1 },
		{ 1, 3, 3 },
		{ 3, 1, 1 },
		{ 3, 0, 3 },
		{ 0, MAX_CAP, 5 },
	};
	unsigned i, next = 0;
	int fds[NR_PIPES][2];
	struct timeval tv;

	CHECK(open_pipes(ring, fds));
	CHECK(feed_pipes(fds, NR_PIPES));
	memset(reg, 0, sizeof(*reg));
	reg->ts.tv_sec = LONG_SEC;
	reg->flags = IORING_REG_WAIT_TS;

	gettimeofday(&tv, NULL);
	for (i = 0; i < ARRAY_SIZE(caps); i++) {
		CHECK(!set_cap(ring, caps[i].ring));
		io_uring_reg_wait_set_poll_level(reg, caps[i].call);
		CHECK(reg->flags & IORING_REG_WAIT_TS);
		CHECK(!wait_reg(ring, NR_PIPES));
		CHECK(next_are(ring, next, caps[i].expected));
		next += caps[i].expected;
	}
	CHECK(mtime_since_now(&tv) < LONG_SEC * 1000);

	/* there is nothing to count if nothing is ready */
	for (i = 0; i < NR_PIPES; i++)
		CHECK(drain(fds[i][0]));
	reg->ts.tv_sec = 0;
	reg->ts.tv_nsec = 20000000;
	io_uring_reg_wait_set_poll_level(reg, 1);
	CHECK(wait_reg(ring, 1) == -ETIME);
	close_pipes(fds);
	return T_EXIT_PASS;
}

static int test_reg_errors(struct io_uring *ring)
{
	int i, fds[NR_PIPES][2];

	CHECK(open_pipes(ring, fds));
	CHECK(feed_pipes(fds, 1));
	memset(reg, 0, sizeof(*reg));
	reg->flags = IORING_REG_WAIT_LEVEL_MAX;
	CHECK(wait_reg(ring, 1) == -EINVAL);
	io_uring_reg_wait_set_poll_level(reg, MAX_CAP + 1);
	CHECK(wait_reg(ring, 1) == -EINVAL);
	for (i = 0; i < 4; i++) {
		memset(reg, 0, sizeof(*reg));
		io_uring_reg_wait_set_poll_level(reg, 1);
		if (i < 2)
			reg->pad[i] = 1;
		else
			reg->pad2[i - 2] = 1;
		CHECK(wait_reg(ring, 1) == -EINVAL);
	}
	CHECK(!io_uring_cq_ready(ring));

	/* it may be the only thing that is set */
	memset(reg, 0, sizeof(*reg));
	io_uring_reg_wait_set_poll_level(reg, 1);
	CHECK(!wait_reg(ring, 2));
	CHECK(next_are(ring, 0, 1));
	io_uring_reg_wait_set_poll_level(reg, 0);
	CHECK(!reg->flags && !reg->level_max);
	close_pipes(fds);
	return T_EXIT_PASS;
}

/* A wait region can be registered only as long as the ring is disabled. */
static int create_ring(struct io_uring *ring, unsigned flags)
{
	struct io_uring_region_desc rd = {
		.user_addr = (unsigned long) reg,
		.size = sysconf(_SC_PAGESIZE),
		.flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_mem_region_reg mr = {
		.region_uptr = (unsigned long) &rd,
		.flags = IORING_MEM_REGION_REG_WAIT_ARG,
	};
	int ret;

	ret = t_create_ring(16, ring, flags | IORING_SETUP_R_DISABLED);
	if (ret)
		return ret;
	ret = io_uring_register_region(ring, &mr);
	if (ret == -EINVAL)
		return T_SETUP_SKIP;
	return ret ? ret : io_uring_enable_rings(ring);
}

static int (* const tests[])(struct io_uring *ring) = {
	test_ring,
	test_wait,
	test_wake,
	test_others,
	test_errors,
	test_reg,
	test_reg_errors,
};

static int test_kind(unsigned flags)
{
	unsigned i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		struct io_uring ring;

		ret = create_ring(&ring, flags);
		if (ret == T_SETUP_SKIP)
			return T_EXIT_SKIP;
		CHECK(ret == T_SETUP_OK);
		ret = tests[i](&ring);
		io_uring_queue_exit(&ring);
		if (ret)
			return ret;
	}
	return T_EXIT_PASS;
}

/* Without the feature bit, both are to be refused. */
static int test_unsupported(struct io_uring *ring)
{
	CHECK(set_cap(ring, 1) == -EINVAL);
	memset(reg, 0, sizeof(*reg));
	io_uring_reg_wait_set_poll_level(reg, 1);
	CHECK(wait_reg(ring, 1) == -EINVAL);
	return T_EXIT_SKIP;
}

int main(int argc, char *argv[])
{
	struct io_uring ring;
	unsigned i;
	int ret;

	if (argc > 1)
		return T_EXIT_SKIP;

	reg = t_aligned_alloc(sysconf(_SC_PAGESIZE), sysconf(_SC_PAGESIZE));
	CHECK(reg);
	ret = create_ring(&ring, 0);
	if (ret == T_SETUP_SKIP)
		return T_EXIT_SKIP;
	CHECK(ret == T_SETUP_OK);
	if (!(ring.features & IORING_FEAT_POLL_LEVEL))
		return test_unsupported(&ring);
	io_uring_queue_exit(&ring);

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		ret = test_kind(kinds[i]);
		if (ret && ret != T_EXIT_SKIP) {
			fprintf(stderr, "setup flags %x\n", kinds[i]);
			return ret;
		}
	}
	return T_EXIT_PASS;
}
