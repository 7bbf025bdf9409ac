// SPDX-License-Identifier: GPL-2.0
/*
 * How a level triggered poll ends if its file isn't closed: it's removed or
 * cancelled, times out, or whoever has armed it goes away
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "ring_fixture.h"

/* user_data of what cancels, the polls have got small ones */
#define CANCEL		1000

/* At which point of its life a poll is cancelled */
enum state {
	IDLE,
	READY,
	REPORTED,
	CONSUMED,
	NR_STATES,
};

static const char * const state_names[] = {
	[IDLE] = "idle",
	[READY] = "ready",
	[REPORTED] = "reported",
	[CONSUMED] = "reported and consumed",
};

/* And by what. ->res is what it returns then, ALL and ANY count. */
static const struct method {
	const char *name;
	unsigned int flags;	/* of the cancellation */
	bool remove;		/* IORING_OP_POLL_REMOVE */
	bool fixed;		/* armed on the fixed file */
	int res;
} methods[] = {
	{ "remove", .remove = true },
	{ "user_data", .flags = 0 },
	{ "user_data, explicitly", .flags = IORING_ASYNC_CANCEL_USERDATA },
	{ "all of user_data", .flags = IORING_ASYNC_CANCEL_ALL, .res = 1 },
	{ "fd", .flags = IORING_ASYNC_CANCEL_FD },
	{ "fd and user_data", .flags = IORING_ASYNC_CANCEL_FD |
				       IORING_ASYNC_CANCEL_USERDATA },
	{ "all of fd", .flags = IORING_ASYNC_CANCEL_FD |
				IORING_ASYNC_CANCEL_ALL, .res = 1 },
	{ "fixed fd", .flags = IORING_ASYNC_CANCEL_FD |
			       IORING_ASYNC_CANCEL_FD_FIXED, .fixed = true },
	{ "fd, armed as a fixed one", .flags = IORING_ASYNC_CANCEL_FD,
	  .fixed = true },
	{ "op", .flags = IORING_ASYNC_CANCEL_OP },
	{ "op, fd and user_data", .flags = IORING_ASYNC_CANCEL_OP |
					   IORING_ASYNC_CANCEL_FD |
					   IORING_ASYNC_CANCEL_USERDATA },
	{ "all of op", .flags = IORING_ASYNC_CANCEL_OP |
				IORING_ASYNC_CANCEL_ALL, .res = 1 },
	{ "any", .flags = IORING_ASYNC_CANCEL_ANY, .res = 1 },
};

static void prep_method(struct io_uring_sqe *sqe, const struct method *m,
			int fd, __u64 target)
{
	if (m->remove) {
		prep_poll_remove(sqe, target, CANCEL);
		return;
	}
	prep_cancel(sqe, target, m->flags, CANCEL);
	if (m->flags & IORING_ASYNC_CANCEL_FD)
		sqe->fd = fd;
	if (m->flags & IORING_ASYNC_CANCEL_FD_FIXED)
		sqe->fd = 0;
	if (m->flags & IORING_ASYNC_CANCEL_OP)
		sqe->len = IORING_OP_POLL_ADD;
}

static int sync_cancel(struct ring *r, const struct method *m, int fd,
		       __u64 target)
{
	struct io_uring_sync_cancel_reg reg = {
		.addr = target,
		.fd = m->flags & IORING_ASYNC_CANCEL_FD_FIXED ? 0 : fd,
		.flags = m->flags,
		.timeout = { .tv_sec = -1, .tv_nsec = -1 },
		.opcode = IORING_OP_POLL_ADD,
	};

	return sys_io_uring_register(r->fd, IORING_REGISTER_SYNC_CANCEL, &reg,
				     1);
}

/* Arm poll 1 and bring it to that state. */
static void arm(struct __test_metadata *_metadata, struct ring *r, int *p,
		enum state state, bool fixed)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	prep_level(sqe, fixed ? 0 : p[0], EPOLLIN, 1);
	sqe->flags = fixed ? IOSQE_FIXED_FILE : 0;
	ASSERT_EQ(1, ring_submit(r));
	if (state == IDLE) {
		EXPECT_SILENT(r);
		return;
	}
	feed(p[1]);
	if (state == READY)
		return;
	EXPECT_EQ(1, ring_harvest_count(r));
	if (state == CONSUMED)
		EXPECT_LEVEL(r, 1, EPOLLIN);
}

/* The CQE of whatever cancels, and the last one of each of n polls from 1 on */
static void expect_ends(struct __test_metadata *_metadata, struct ring *r,
			unsigned int n, bool cancel, int res)
{
	struct io_uring_cqe cqe;
	unsigned int seen = 0;

	EXPECT_EQ(0, ring_wait(r, n + cancel));
	while (ring_pop(r, &cqe)) {
		EXPECT_EQ(0U, cqe.flags);
		if (cancel && cqe.user_data == CANCEL) {
			EXPECT_EQ(res, cqe.res);
			cancel = false;
			continue;
		}
		EXPECT_EQ(-ECANCELED, cqe.res);
		ASSERT_LE(1U, cqe.user_data);
		ASSERT_GE(n, cqe.user_data);
		EXPECT_EQ(0U, seen & (1U << cqe.user_data));
		seen |= 1U << cqe.user_data;
	}
	EXPECT_FALSE(cancel);
	EXPECT_EQ((1U << (n + 1)) - 2, seen);
	EXPECT_SILENT(r);
}

TEST_F(ring, each_method_in_each_state)
{
	struct ring *r = &self->ring;
	enum state state;
	unsigned int i;

	ASSERT_EQ(0, sys_io_uring_register(r->fd, IORING_REGISTER_FILES,
					   self->pipe, 1));
	for (i = 0; i < ARRAY_SIZE(methods); i++) {
		const struct method *m = &methods[i];

		for (state = IDLE; state < NR_STATES; state++) {
			arm(_metadata, r, self->pipe, state, m->fixed);
			prep_method(ring_sqe(r), m, self->pipe[0], 1);
			ASSERT_EQ(1, ring_submit(r));
			if (state == REPORTED)
				EXPECT_LEVEL(r, 1, EPOLLIN);
			expect_ends(_metadata, r, 1, true, m->res);
			if (state != IDLE)
				drain(self->pipe[0]);
			ASSERT_EQ(0, _metadata->exit_code) {
				TH_LOG("by %s, %s", m->name,
				       state_names[state]);
			}
		}
	}
}

TEST_F(ring, each_method_synchronously)
{
	struct ring *r = &self->ring;
	enum state state;
	unsigned int i;

	ASSERT_EQ(0, sys_io_uring_register(r->fd, IORING_REGISTER_FILES,
					   self->pipe, 1));
	for (i = 0; i < ARRAY_SIZE(methods); i++) {
		const struct method *m = &methods[i];

		if (m->remove)
			continue;
		for (state = IDLE; state < NR_STATES; state++) {
			arm(_metadata, r, self->pipe, state, m->fixed);
			EXPECT_EQ(m->res, sync_cancel(r, m, self->pipe[0], 1));
			if (state == REPORTED)
				EXPECT_LEVEL(r, 1, EPOLLIN);
			expect_ends(_metadata, r, 1, false, 0);
			if (state != IDLE)
				drain(self->pipe[0]);
			ASSERT_EQ(0, _metadata->exit_code) {
				TH_LOG("by %s, %s", m->name,
				       state_names[state]);
			}
		}
	}
}

/* What doesn't match goes on. */
TEST_F(ring, no_match)
{
	const struct method by_fd = { .flags = IORING_ASYNC_CANCEL_FD };
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe;
	unsigned int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	for (i = 0; i < 3; i++) {
		static const struct method m[] = {
			{ "remove", .remove = true },
			{ "user_data", .flags = 0 },
			{ "fd and user_data",
			  .flags = IORING_ASYNC_CANCEL_FD |
				   IORING_ASYNC_CANCEL_USERDATA },
		};

		prep_method(ring_sqe(r), &m[i], self->pipe[0], 2);
		ASSERT_EQ(1, ring_submit(r));
		EXPECT_CQE(r, CANCEL, -ENOENT, 0);
	}

	/* another file, no file, and not that kind of request */
	prep_method(ring_sqe(r), &by_fd, self->pipe[1], 0);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_CQE(r, CANCEL, -ENOENT, 0);
	prep_method(ring_sqe(r), &by_fd, -1, 0);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_CQE(r, CANCEL, -EBADF, 0);
	sqe = ring_sqe(r);
	prep_cancel(sqe, 0, IORING_ASYNC_CANCEL_OP, CANCEL);
	sqe->len = IORING_OP_READ;
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_CQE(r, CANCEL, -ENOENT, 0);
	EXPECT_EQ(-ENOENT, sync_cancel(r, &by_fd, self->pipe[1], 0));

	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

TEST_F(ring, one_of_several)
{
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	unsigned int seen = 0;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 2));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 3));
	feed(self->pipe[1]);
	EXPECT_EQ(3, ring_harvest_count(r));
	while (ring_peek(r))
		ring_seen(r, ring_peek(r));

	prep_poll_remove(ring_sqe(r), 1, CANCEL);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_CQE(r, CANCEL, 0, 0);
	EXPECT_EQ(0, ring_wait(r, 3));
	EXPECT_EQ(3U, ring_cq_count(r));
	while (ring_pop(r, &cqe)) {
		EXPECT_EQ(cqe.user_data == 1 ? -ECANCELED : EPOLLIN, cqe.res);
		EXPECT_EQ(cqe.user_data == 1 ? 0 : IORING_CQE_F_MORE,
			  cqe.flags);
		seen |= 1U << cqe.user_data;
	}
	EXPECT_EQ(0xeU, seen);
	EXPECT_EQ(2, ring_harvest_count(r));
}

TEST_F(ring, all_of_a_file)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe;
	int p[2], i;

	ASSERT_EQ(0, pipe(p));
	feed(self->pipe[1]);
	for (i = 1; i <= 3; i++)
		ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, i));
	ASSERT_EQ(1, ring_arm(r, p[0], EPOLLIN, 4));
	sqe = ring_sqe(r);
	prep_cancel(sqe, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL,
		    CANCEL);
	sqe->fd = self->pipe[0];
	ASSERT_EQ(1, ring_submit(r));
	expect_ends(_metadata, r, 3, true, 3);
	feed(p[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 4, EPOLLIN);
}

/* Together with others */
TEST_F(ring, any)
{
	struct ring *r = &self->ring;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, ring_arm(r, p[0], EPOLLIN, 2));
	prep_poll(ring_sqe(r), p[0], EPOLLIN, IORING_POLL_ADD_MULTI, 3);
	prep_poll(ring_sqe(r), p[0], EPOLLIN, 0, 4);
	ASSERT_EQ(2, ring_submit(r));
	prep_cancel(ring_sqe(r), 0, IORING_ASYNC_CANCEL_ANY, CANCEL);
	ASSERT_EQ(1, ring_submit(r));
	expect_ends(_metadata, r, 4, true, 4);
}

/* It ends once, even if several want it to. */
TEST_F(ring, twice)
{
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	int i, ended = 0;

	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	prep_poll_remove(ring_sqe(r), 1, CANCEL);
	prep_cancel(ring_sqe(r), 1, 0, CANCEL + 1);
	prep_poll_remove(ring_sqe(r), 1, CANCEL + 2);
	ASSERT_EQ(3, ring_submit(r));
	ASSERT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(r, 4));
	EXPECT_EQ(4U, ring_cq_count(r));
	for (i = 0; ring_pop(r, &cqe); i++) {
		EXPECT_EQ(0U, cqe.flags);
		switch (cqe.user_data) {
		case 1:
			EXPECT_EQ(-ECANCELED, cqe.res);
			ended++;
			break;
		case CANCEL:
			EXPECT_EQ(0, cqe.res);
			break;
		default:
			EXPECT_NE(0, cqe.res);
		}
	}
	EXPECT_EQ(1, ended);
	EXPECT_SILENT(r);
}

TEST_F(ring, after_close)
{
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	int i, ended = 0;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(0, close(self->pipe[0]));
	prep_poll_remove(ring_sqe(r), 1, CANCEL);
	prep_cancel(ring_sqe(r), 1, 0, CANCEL);
	ASSERT_EQ(2, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 3));
	EXPECT_EQ(3U, ring_cq_count(r));
	for (i = 0; ring_pop(r, &cqe); i++) {
		EXPECT_EQ(0U, cqe.flags);
		ended += cqe.user_data == 1 && cqe.res == -ECANCELED;
	}
	EXPECT_EQ(1, ended);
	EXPECT_SILENT(r);
}

/* Arm the poll along with a timeout that ends it. */
static void arm_timeout(struct __test_metadata *_metadata, struct ring *r,
			int fd, struct __kernel_timespec *ts)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	prep_level(sqe, fd, EPOLLIN, 1);
	sqe->flags = IOSQE_IO_LINK;
	prep_link_timeout(ring_sqe(r), ts, 2);
	ASSERT_EQ(2, ring_submit(r));
}

static void expect_timed_out(struct __test_metadata *_metadata, struct ring *r,
			     int res)
{
	struct io_uring_cqe cqe;
	unsigned int seen = 0;

	EXPECT_EQ(0, ring_wait(r, 2));
	while (ring_pop(r, &cqe)) {
		EXPECT_EQ(0U, cqe.flags);
		EXPECT_EQ(cqe.user_data == 1 ? -ECANCELED : res, cqe.res);
		seen |= 1U << cqe.user_data;
	}
	EXPECT_EQ(6U, seen);
	EXPECT_SILENT(r);
}

TEST_F(ring, linked_timeout)
{
	struct __kernel_timespec ts = ring_ms(20);
	struct ring *r = &self->ring;

	arm_timeout(_metadata, r, self->pipe[0], &ts);
	expect_timed_out(_metadata, r, -ETIME);
}

/* Being ready doesn't end the poll, nor the timeout. */
TEST_F(ring, linked_timeout_of_ready)
{
	struct __kernel_timespec ts = ring_ms(100);
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	unsigned int i;

	feed(self->pipe[1]);
	arm_timeout(_metadata, r, self->pipe[0], &ts);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ring_wait(r, 1));
		/* that's all on a busy machine */
		if (ring_peek(r) && !ring_peek(r)->flags)
			break;
		ASSERT_TRUE(ring_pop(r, &cqe));
		EXPECT_EQ(EPOLLIN, cqe.res);
	}
	drain(self->pipe[0]);
	expect_timed_out(_metadata, r, -ETIME);
}

TEST_F(ring, linked_timeout_and_close)
{
	struct __kernel_timespec ts = ring_ms(RING_SOON_MS);
	struct ring *r = &self->ring;

	feed(self->pipe[1]);
	arm_timeout(_metadata, r, self->pipe[0], &ts);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	ASSERT_EQ(0, close(self->pipe[0]));
	expect_timed_out(_metadata, r, -ECANCELED);
}

TEST_F(ring, linked_timeout_and_remove)
{
	struct __kernel_timespec ts = ring_ms(RING_SOON_MS);
	struct ring *r = &self->ring;

	arm_timeout(_metadata, r, self->pipe[0], &ts);
	prep_poll_remove(ring_sqe(r), 1, CANCEL);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_CQE(r, CANCEL, 0, 0);
	expect_timed_out(_metadata, r, -ECANCELED);
}

/*
 * A ring that goes away takes its fixed files with it, once all of its requests
 * are done.
 */
static int fix(struct ring *r, int *p)
{
	int ret;

	ret = sys_io_uring_register(r->fd, IORING_REGISTER_FILES, p, 1);
	close(p[0]);
	return ret;
}

static bool is_gone(int *p)
{
	struct pollfd pfd = { .fd = p[1] };

	return poll(&pfd, 1, RING_SOON_MS) == 1 && pfd.revents == POLLERR;
}

TEST_F(ring, ring_exit)
{
	int p[NR_STATES][2], fixed[2];
	enum state state;
	struct ring r;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(0, pipe(fixed));
	ASSERT_EQ(0, fix(&r, fixed));
	for (state = IDLE; state < NR_STATES; state++) {
		ASSERT_EQ(0, pipe(p[state]));
		ASSERT_EQ(1, ring_arm(&r, p[state][0], EPOLLIN, state));
	}
	feed(p[CONSUMED][1]);
	feed(p[REPORTED][1]);
	EXPECT_EQ(2, ring_harvest_count(&r));
	EXPECT_LEVEL(&r, CONSUMED, EPOLLIN);
	feed(p[READY][1]);
	ring_exit(&r);
	EXPECT_TRUE(is_gone(fixed));
	for (state = IDLE; state < NR_STATES; state++) {
		close(p[state][0]);
		EXPECT_TRUE(is_gone(p[state]));
	}
}

/* Threads and processes */

static const unsigned int shared_flags[] = {
	0,
	IORING_SETUP_COOP_TASKRUN,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	IORING_SETUP_SQPOLL,
	IORING_SETUP_CQE32,
};

struct worker {
	struct ring_opts opts;
	struct ring ring;
	int *pipe;
	pid_t tid;
	int ret;
};

static void *arm_and_exit(void *arg)
{
	struct worker *w = arg;

	w->ret = ring_arm(&w->ring, w->pipe[0], EPOLLIN, 1);
	return NULL;
}

/* As with other requests, the ring is all that they need. */
TEST(thread_exit)
{
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < 2 * ARRAY_SIZE(shared_flags); i++) {
		struct worker w = { .opts.flags = shared_flags[i / 2] };
		struct ring *r = &w.ring;
		pthread_t thread;
		int p[2], n;

		ASSERT_EQ(0, ring_init(r, &w.opts));
		ASSERT_EQ(0, pipe(p));
		w.pipe = p;
		ASSERT_EQ(0, pthread_create(&thread, NULL, arm_and_exit, &w));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(1, w.ret);
		for (n = 0; n < 3; n++) {
			feed(p[1]);
			EXPECT_EQ(0, ring_wait(r, 1));
			EXPECT_LEVEL(r, 1, EPOLLIN);
			drain(p[0]);
			EXPECT_SILENT(r);
		}
		if (i % 2) {
			prep_poll_remove(ring_sqe(r), 1, CANCEL);
			ASSERT_EQ(1, ring_submit(r));
			EXPECT_CQE(r, CANCEL, 0, 0);
		} else {
			ASSERT_EQ(0, close(p[0]));
		}
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_CQE(r, 1, -ECANCELED, 0);
		ring_exit(r);
	}
}

static void *own_ring(void *arg)
{
	struct worker *w = arg;

	w->ret = ring_init(&w->ring, &w->opts);
	if (w->ret)
		return NULL;
	w->ret = ring_arm(&w->ring, w->pipe[0], EPOLLIN, 1);
	return NULL;
}

/* Nobody else may use its ring, but anybody may close the files. */
TEST(single_issuer_exit)
{
	const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < 3 * ARRAY_SIZE(flags); i++) {
		struct worker w = { .opts.flags = flags[i / 3] };
		pthread_t thread;
		int p[2];

		ASSERT_EQ(0, pipe(p));
		w.pipe = p;
		ASSERT_EQ(0, pthread_create(&thread, NULL, own_ring, &w));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(1, w.ret);
		/* ready, closed, then the ring. Or any of it later. */
		if (i % 3 > 0)
			feed(p[1]);
		if (i % 3 > 1)
			ring_exit(&w.ring);
		ASSERT_EQ(0, close(p[0]));
		EXPECT_TRUE(is_gone(p));
		if (i % 3 <= 1)
			ring_exit(&w.ring);
	}
}

static void *wait_for_one(void *arg)
{
	struct worker *w = arg;

	ring_store(&w->tid, syscall(__NR_gettid));
	w->ret = ring_wait(&w->ring, 1);
	return NULL;
}

/* Whoever waits gets to know, though it's another thread that cancels. */
TEST(wakes_up_who_waits)
{
	static const struct method by_user_data = { .flags = 0 };
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(shared_flags); i++) {
		struct worker w = { .opts.flags = shared_flags[i] };
		pthread_t thread;
		int p[2];

		ASSERT_EQ(0, ring_init(&w.ring, &w.opts));
		ASSERT_EQ(0, pipe(p));
		ASSERT_EQ(1, ring_arm(&w.ring, p[0], EPOLLIN, 1));
		ASSERT_EQ(0, pthread_create(&thread, NULL, wait_for_one, &w));
		while (!ring_load(&w.tid))
			sched_yield();
		wait_asleep(w.tid);
		EXPECT_EQ(0, sync_cancel(&w.ring, &by_user_data, -1, 1));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, w.ret);
		EXPECT_CQE(&w.ring, 1, -ECANCELED, 0);
		ring_exit(&w.ring);
	}
}

/* The child arms, its parent has got the ring and another copy of the fd. */
TEST(armed_by_child)
{
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(shared_flags); i++) {
		struct ring_opts opts = { .flags = shared_flags[i] };
		struct ring r;
		int status;
		pid_t child;
		int p[2];

		/* its thread has got the files of who created the ring */
		if (opts.flags & IORING_SETUP_SQPOLL)
			continue;
		ASSERT_EQ(0, ring_init(&r, &opts));
		ASSERT_EQ(0, pipe(p));
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			int own[2];

			/* the first one ends with the child */
			if (pipe(own) ||
			    ring_arm(&r, own[0], EPOLLIN, 1) != 1 ||
			    ring_arm(&r, p[0], EPOLLIN, 2) != 1)
				_exit(1);
			_exit(0);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		/* what it has submitted, it has submitted in place of us */
		r.sqe_tail = ring_load(r.sq_tail);
		EXPECT_EQ(0, ring_wait(&r, 1));
		EXPECT_CQE(&r, 1, -ECANCELED, 0);
		EXPECT_SILENT(&r);

		feed(p[1]);
		EXPECT_EQ(0, ring_wait(&r, 1));
		EXPECT_LEVEL(&r, 2, EPOLLIN);
		prep_poll_remove(ring_sqe(&r), 2, CANCEL);
		ASSERT_EQ(1, ring_submit(&r));
		EXPECT_CQE(&r, CANCEL, 0, 0);
		EXPECT_EQ(0, ring_wait(&r, 1));
		EXPECT_CQE(&r, 2, -ECANCELED, 0);
		ring_exit(&r);
	}
}

/* A child that has the ring removes what the parent has armed. */
TEST(removed_by_child)
{
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(shared_flags); i++) {
		struct ring_opts opts = { .flags = shared_flags[i] };
		struct ring r;
		int status;
		pid_t child;
		int p[2];

		ASSERT_EQ(0, ring_init(&r, &opts));
		ASSERT_EQ(0, pipe(p));
		ASSERT_EQ(1, ring_arm(&r, p[0], EPOLLIN, 1));
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			prep_poll_remove(ring_sqe(&r), 1, CANCEL);
			_exit(ring_submit(&r) != 1);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		r.sqe_tail = ring_load(r.sq_tail);
		EXPECT_EQ(0, ring_wait(&r, 2));
		EXPECT_CQE(&r, CANCEL, 0, 0);
		EXPECT_CQE(&r, 1, -ECANCELED, 0);
		EXPECT_SILENT(&r);
		ring_exit(&r);
	}
}

/*
 * Exec ends requests, of rings that are passed on too. What the new program gets
 * is the ring's fd, which is enough to see its CQEs in fdinfo.
 */
static int after_exec(const char *ring_fd)
{
	char path[64], buf[16384];
	unsigned int ms;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", ring_fd);
	for (ms = 0; ms < RING_SOON_MS; ms++) {
		fd = open(path, O_RDONLY);
		n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
		close(fd);
		if (n < 0)
			return 2;
		buf[n] = 0;
		if (strstr(buf, "user_data:1, res:-125, flags:0"))
			return 0;
		usleep(1000);
	}
	fputs(buf, stderr);
	return 1;
}

TEST_F(ring, exec)
{
	int status;
	pid_t child;

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct ring_opts opts = variant->ring;
		char ring_fd[16];
		struct ring r;

		if (ring_init(&r, &opts) ||
		    ring_arm(&r, self->pipe[0], EPOLLIN, 1) != 1 ||
		    fcntl(r.fd, F_SETFD, 0))
			_exit(3);
		snprintf(ring_fd, sizeof(ring_fd), "%d", r.fd);
		execl("/proc/self/exe", "level_cancel_test", "--after-exec",
		      ring_fd, NULL);
		_exit(4);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(argv[2]);
	return test_harness_run(argc, argv);
}
