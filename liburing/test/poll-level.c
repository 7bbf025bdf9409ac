/* SPDX-License-Identifier: MIT */
/*
 * Description: Level triggered polls: what they report, how often and in which
 *		order, how they end, and that kernels without them say so.
 *
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "liburing.h"
#include "helpers.h"

/* user_data of what isn't a poll */
#define UPDATE		1000
#define REMOVE		1001

#define NR_PIPES	8

static const unsigned kinds[] = {
	0,
	IORING_SETUP_COOP_TASKRUN,
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	IORING_SETUP_SQPOLL,
};

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

static bool arm(struct io_uring *ring, int fd, unsigned mask, __u64 user_data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_poll_level(sqe, fd, mask);
	sqe->user_data = user_data;
	return submit(ring);
}

/* How many CQEs there are once the application has asked for events */
static unsigned get_events(struct io_uring *ring)
{
	if (io_uring_get_events(ring) < 0)
		return -1U;
	return io_uring_cq_ready(ring);
}

/* The next CQE is that one, it's consumed. */
static bool next_is(struct io_uring *ring, __u64 user_data, int res,
		    unsigned flags)
{
	struct __kernel_timespec ts = { .tv_sec = 10 };
	struct io_uring_cqe *cqe;
	bool ok;
	int ret;

	ret = io_uring_wait_cqe_timeout(ring, &cqe, &ts);
	if (ret) {
		fprintf(stderr, "wait: %d\n", ret);
		return false;
	}
	ok = cqe->user_data == user_data && cqe->res == res &&
	     cqe->flags == flags;
	if (!ok)
		fprintf(stderr, "CQE of %llu: %d, %x, expected %llu: %d, %x\n",
			(unsigned long long) cqe->user_data, cqe->res,
			cqe->flags, (unsigned long long) user_data, res, flags);
	io_uring_cqe_seen(ring, cqe);
	return ok;
}

static bool reported(struct io_uring *ring, __u64 user_data, int res)
{
	return next_is(ring, user_data, res, IORING_CQE_F_MORE);
}

/* That was its last CQE. */
static bool ended(struct io_uring *ring, __u64 user_data)
{
	return next_is(ring, user_data, -ECANCELED, 0) && !get_events(ring);
}

/* Again and again, as long as it's ready and the CQE has been consumed */
static int test_ready(struct io_uring *ring)
{
	int i, n, p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, p[0], POLLIN, 1));
	CHECK(!get_events(ring));
	for (n = 0; n < 3; n++) {
		CHECK(feed(p[1]));
		for (i = 0; i < 3; i++) {
			CHECK(get_events(ring) == 1);
			CHECK(get_events(ring) == 1);
			CHECK(reported(ring, 1, POLLIN));
		}
		CHECK(drain(p[0]));
		CHECK(!get_events(ring));
	}

	/* ready as it's armed, and as those who wait are there */
	CHECK(feed(p[1]));
	CHECK(arm(ring, p[0], POLLIN, 2));
	CHECK(get_events(ring) == 2);
	CHECK(drain(p[0]));
	io_uring_cq_advance(ring, 2);
	CHECK(!get_events(ring));

	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

/* However often it's looked at, and whatever happens to the file meanwhile */
static int test_not_twice(struct io_uring *ring)
{
	int i, p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, p[0], POLLIN, 1));
	for (i = 0; i < 3; i++) {
		CHECK(feed(p[1]));
		CHECK(get_events(ring) == 1);
	}
	for (i = 0; i < 3; i++) {
		CHECK(drain(p[0]));
		CHECK(get_events(ring) == 1);
	}
	CHECK(feed(p[1]));
	CHECK(get_events(ring) == 1);
	CHECK(reported(ring, 1, POLLIN));
	CHECK(get_events(ring) == 1);
	CHECK(reported(ring, 1, POLLIN));
	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

/* The order in which they got ready, and that of their turns after that */
static int test_order(struct io_uring *ring)
{
	const int order[4] = { 2, 0, 3, 1 };
	int i, n, p[4][2];

	for (i = 0; i < 4; i++) {
		CHECK(!pipe(p[i]));
		CHECK(arm(ring, p[i][0], POLLIN, i));
	}
	for (i = 0; i < 4; i++)
		CHECK(feed(p[order[i]][1]));
	for (n = 0; n < 3; n++) {
		CHECK(get_events(ring) == 4);
		for (i = 0; i < 4; i++)
			CHECK(reported(ring, order[i], POLLIN));
	}
	for (i = 0; i < 4; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	return T_EXIT_PASS;
}

/* There's room for half of them. Each has its turn, and nothing overflows. */
static int test_small_cq(unsigned flags)
{
	struct io_uring_params p = {
		.flags = flags | IORING_SETUP_CQSIZE,
		.cq_entries = NR_PIPES / 2,
	};
	int i, n, seen[NR_PIPES] = { }, fds[NR_PIPES][2];
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	unsigned head;

	CHECK(t_create_ring_params(NR_PIPES / 2, &ring, &p) == T_SETUP_OK);
	for (i = 0; i < NR_PIPES; i++) {
		CHECK(!pipe(fds[i]));
		CHECK(arm(&ring, fds[i][0], POLLIN, i));
		CHECK(feed(fds[i][1]));
	}
	for (n = 1; n <= 6; n++) {
		CHECK(get_events(&ring) == NR_PIPES / 2);
		/* returns, there's nothing it could wait for */
		CHECK(io_uring_submit_and_wait(&ring, NR_PIPES) == 0);
		io_uring_for_each_cqe(&ring, head, cqe) {
			CHECK(cqe->user_data < NR_PIPES);
			CHECK(cqe->res == POLLIN);
			CHECK(cqe->flags == IORING_CQE_F_MORE);
			seen[cqe->user_data]++;
		}
		io_uring_cq_advance(&ring, NR_PIPES / 2);
		for (i = 0; !(n % 2) && i < NR_PIPES; i++)
			CHECK(seen[i] == n / 2);
	}
	CHECK(!io_uring_cq_has_overflow(&ring));
	CHECK(!*ring.cq.koverflow);
	for (i = 0; i < NR_PIPES; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	io_uring_queue_exit(&ring);
	return T_EXIT_PASS;
}

static int test_two_masks(struct io_uring *ring)
{
	int sv[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK(arm(ring, sv[0], POLLIN, 1));
	CHECK(arm(ring, sv[0], POLLOUT, 2));
	CHECK(arm(ring, sv[0], POLLIN | POLLOUT, 3));
	CHECK(get_events(ring) == 2);
	CHECK(reported(ring, 2, POLLOUT));
	CHECK(reported(ring, 3, POLLOUT));

	CHECK(feed(sv[1]));
	CHECK(get_events(ring) == 3);
	io_uring_cq_advance(ring, 3);
	CHECK(drain(sv[0]));
	CHECK(get_events(ring) == 2);
	io_uring_cq_advance(ring, 2);

	/* not asked for, like POLLRDHUP */
	CHECK(arm(ring, sv[0], POLLRDHUP, 4));
	CHECK(arm(ring, sv[0], 0, 5));
	CHECK(!shutdown(sv[1], SHUT_WR));
	CHECK(get_events(ring) == 4);
	io_uring_cq_advance(ring, 4);
	close(sv[1]);
	CHECK(get_events(ring) == 5);
	io_uring_cq_advance(ring, 5);
	close(sv[0]);
	return T_EXIT_PASS;
}

static bool update(struct io_uring *ring, __u64 old, __u64 new, unsigned mask,
		   unsigned flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_poll_update(sqe, old, new, mask, flags);
	sqe->user_data = UPDATE;
	return submit(ring);
}

static int test_update(struct io_uring *ring)
{
	int sv[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK(arm(ring, sv[0], POLLIN, 1));
	CHECK(!get_events(ring));

	/* ready for that, though nothing has happened to the file */
	CHECK(update(ring, 1, 0, POLLOUT, IORING_POLL_UPDATE_EVENTS));
	CHECK(next_is(ring, UPDATE, 0, 0));
	CHECK(reported(ring, 1, POLLOUT));
	CHECK(get_events(ring) == 1);

	/* that CQE was posted before */
	CHECK(update(ring, 1, 2, POLLIN, IORING_POLL_UPDATE_EVENTS |
					 IORING_POLL_UPDATE_USER_DATA));
	CHECK(reported(ring, 1, POLLOUT));
	CHECK(next_is(ring, UPDATE, 0, 0));
	CHECK(!get_events(ring));
	CHECK(feed(sv[1]));
	CHECK(reported(ring, 2, POLLIN));

	CHECK(drain(sv[0]));
	CHECK(!get_events(ring));

	/* still level triggered, whatever the flags say */
	CHECK(update(ring, 2, 3, 0, IORING_POLL_UPDATE_USER_DATA |
				    IORING_POLL_ADD_MULTI));
	CHECK(next_is(ring, UPDATE, 0, 0));
	CHECK(feed(sv[1]));
	CHECK(reported(ring, 3, POLLIN));
	CHECK(reported(ring, 3, POLLIN));
	CHECK(drain(sv[0]));
	CHECK(!get_events(ring));

	CHECK(update(ring, 2, 0, POLLIN, IORING_POLL_UPDATE_EVENTS));
	CHECK(next_is(ring, UPDATE, -ENOENT, 0));
	CHECK(update(ring, 3, 0, POLLIN, IORING_POLL_UPDATE_EVENTS |
					 IORING_POLL_CANCEL_ON_CLOSE));
	CHECK(next_is(ring, UPDATE, -EINVAL, 0));

	close(sv[0]);
	CHECK(ended(ring, 3));
	close(sv[1]);
	return T_EXIT_PASS;
}

/* It's ready, and there's a CQE of it. That stays. */
static int test_remove(struct io_uring *ring)
{
	struct io_uring_sqe *sqe;
	int p[2];

	CHECK(!pipe(p));
	CHECK(feed(p[1]));
	CHECK(arm(ring, p[0], POLLIN, 1));
	CHECK(get_events(ring) == 1);
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_poll_remove(sqe, 1);
	sqe->user_data = REMOVE;
	CHECK(submit(ring));
	CHECK(reported(ring, 1, POLLIN));
	CHECK(next_is(ring, REMOVE, 0, 0));
	CHECK(ended(ring, 1));
	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

/* Idle, reported, and ready, the latter while a copy is still open */
static int test_close(struct io_uring *ring)
{
	int i, copy, p[2];

	for (i = 0; i < 3; i++) {
		CHECK(!pipe(p));
		CHECK(arm(ring, p[0], POLLIN, i));
		if (i)
			CHECK(feed(p[1]));
		if (i == 1)
			CHECK(get_events(ring) == 1);
		copy = dup(p[0]);
		CHECK(copy >= 0);
		close(p[0]);
		if (i)
			CHECK(reported(ring, i, POLLIN));
		else
			CHECK(!get_events(ring));
		close(copy);
		CHECK(ended(ring, i));
		close(p[1]);
	}
	return T_EXIT_PASS;
}

/* Nobody enters the kernel, and the other end gets to know all the same. */
static int test_peer(struct io_uring *ring)
{
	struct pollfd pfd = { .events = POLLIN };
	int sv[2];
	char c;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK(arm(ring, sv[0], POLLIN, 1));
	close(sv[0]);
	pfd.fd = sv[1];
	CHECK(poll(&pfd, 1, 10000) == 1);
	CHECK(read(sv[1], &c, 1) == 0);
	CHECK(ended(ring, 1));
	close(sv[1]);
	return T_EXIT_PASS;
}

/* The slot keeps it open. */
static int test_fixed_file(struct io_uring *ring)
{
	struct io_uring_sqe *sqe;
	int i, none = -1, p[2];

	CHECK(!pipe(p));
	CHECK(!io_uring_register_files(ring, p, 1));
	close(p[0]);
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_poll_level(sqe, 0, POLLIN);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = 1;
	CHECK(submit(ring));
	CHECK(!get_events(ring));
	CHECK(feed(p[1]));
	for (i = 0; i < 3; i++)
		CHECK(reported(ring, 1, POLLIN));
	CHECK(io_uring_register_files_update(ring, 0, &none, 1) == 1);
	CHECK(ended(ring, 1));
	CHECK(!io_uring_unregister_files(ring));
	close(p[1]);
	return T_EXIT_PASS;
}

static bool has_taskrun(struct io_uring *ring)
{
	return IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_TASKRUN;
}

/* Just the helpers that look at the CQ ring, which enter if they have to */
static int test_peek(struct io_uring *ring)
{
	struct io_uring_cqe *cqe, *cqes[4];
	int i, p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, p[0], POLLIN, 1));
	CHECK(io_uring_peek_cqe(ring, &cqe) == -EAGAIN);
	CHECK(!io_uring_peek_batch_cqe(ring, cqes, 4));
	CHECK(!has_taskrun(ring));
	CHECK(feed(p[1]));
	CHECK(has_taskrun(ring));
	for (i = 0; i < 3; i++) {
		CHECK(!io_uring_peek_cqe(ring, &cqe));
		CHECK(cqe->user_data == 1 && cqe->res == POLLIN);
		io_uring_cqe_seen(ring, cqe);
		CHECK(io_uring_peek_batch_cqe(ring, cqes, 4) == 1);
		CHECK(cqes[0]->user_data == 1 && cqes[0]->res == POLLIN);
		io_uring_cq_advance(ring, 1);
	}
	CHECK(drain(p[0]));
	CHECK(io_uring_peek_cqe(ring, &cqe) == -EAGAIN);
	CHECK(!has_taskrun(ring));

	/* and a submission gets events along with it */
	CHECK(feed(p[1]));
	CHECK(submit(ring));
	CHECK(io_uring_cq_ready(ring) == 1);
	CHECK(reported(ring, 1, POLLIN));
	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

static void *feed_later(void *arg)
{
	int *fd = arg;

	usleep(50000);
	feed(*fd);
	return NULL;
}

static int test_wait(struct io_uring *ring)
{
	struct __kernel_timespec ts = { .tv_nsec = 10000000 };
	struct io_uring_cqe *cqe;
	pthread_t thread;
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, p[0], POLLIN, 1));
	CHECK(io_uring_wait_cqe_timeout(ring, &cqe, &ts) == -ETIME);
	CHECK(!pthread_create(&thread, NULL, feed_later, &p[1]));
	CHECK(!io_uring_wait_cqe(ring, &cqe));
	CHECK(reported(ring, 1, POLLIN));
	CHECK(!pthread_join(thread, NULL));

	/* it's ready, but that's one, and the time is over for another one */
	CHECK(!io_uring_wait_cqes(ring, &cqe, 2, &ts, NULL));
	CHECK(io_uring_cq_ready(ring) == 1);
	CHECK(reported(ring, 1, POLLIN));
	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

static const struct {
	unsigned len;
	unsigned mask;
	unsigned sqe_flags;
	int res;
} refused[] = {
	{ .len = IORING_POLL_ADD_LEVEL, .res = -EINVAL },
	{ .len = IORING_POLL_ADD_MULTI | IORING_POLL_ADD_LEVEL | 1U << 5,
	  .res = -EINVAL },
	{ .sqe_flags = IOSQE_CQE_SKIP_SUCCESS, .res = -EINVAL },
	{ .mask = EPOLLET, .res = -EINVAL },
	{ .mask = EPOLLONESHOT, .res = -EINVAL },
	{ .mask = EPOLLEXCLUSIVE, .res = -EINVAL },
};

static bool is_refused(struct io_uring *ring, int fd, int res)
{
	return arm(ring, fd, POLLIN, 1) && next_is(ring, 1, res, 0) &&
	       !get_events(ring);
}

static int test_refused(struct io_uring *ring)
{
	struct io_uring_sqe *sqe;
	int fd, p[2];
	unsigned i;

	CHECK(!pipe(p));
	CHECK(feed(p[1]));
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_poll_level(sqe, p[0], POLLIN | refused[i].mask);
		if (refused[i].len)
			sqe->len = refused[i].len;
		sqe->flags |= refused[i].sqe_flags;
		sqe->user_data = i;
		CHECK(submit(ring));
		CHECK(next_is(ring, i, refused[i].res, 0));
	}
	CHECK(!get_events(ring));
	CHECK(is_refused(ring, -1, -EBADF));
	fd = open("/", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0);
	CHECK(is_refused(ring, fd, -EPERM));
	close(fd);
	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

static int test_iopoll(void)
{
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int p[2];

	CHECK(t_create_ring(4, &ring, IORING_SETUP_IOPOLL) == T_SETUP_OK);
	CHECK(!pipe(p));
	CHECK(arm(&ring, p[0], POLLIN, 1));
	CHECK(!io_uring_peek_cqe(&ring, &cqe));
	CHECK(cqe->res == -EINVAL);
	io_uring_queue_exit(&ring);
	close(p[0]);
	close(p[1]);
	return T_EXIT_PASS;
}

static int (* const tests[])(struct io_uring *ring) = {
	test_ready,
	test_not_twice,
	test_order,
	test_two_masks,
	test_update,
	test_remove,
	test_close,
	test_peer,
	test_fixed_file,
	test_peek,
	test_wait,
	test_refused,
};

static int test_kind(unsigned flags)
{
	unsigned i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		struct io_uring ring;

		ret = t_create_ring(32, &ring, flags);
		if (ret == T_SETUP_SKIP)
			return T_EXIT_SKIP;
		CHECK(ret == T_SETUP_OK);
		ret = tests[i](&ring);
		io_uring_queue_exit(&ring);
		if (ret)
			return ret;
	}
	return test_small_cq(flags);
}

/* Without the feature bit, it is to be refused. */
static int test_unsupported(struct io_uring *ring)
{
	int p[2];

	CHECK(!pipe(p));
	CHECK(is_refused(ring, p[0], -EINVAL));
	close(p[0]);
	close(p[1]);
	return T_EXIT_SKIP;
}

int main(int argc, char *argv[])
{
	struct io_uring ring;
	unsigned i;
	int ret;

	if (argc > 1)
		return T_EXIT_SKIP;

	CHECK(t_create_ring(4, &ring, 0) == T_SETUP_OK);
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
	return test_iopoll();
}
