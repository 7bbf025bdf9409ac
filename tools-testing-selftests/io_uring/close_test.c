// SPDX-License-Identifier: GPL-2.0
/*
 * IORING_POLL_CANCEL_ON_CLOSE: an armed poll doesn't hold its file, whoever closes
 * that for the last time ends the poll, with one -ECANCELED that lacks F_MORE.
 * A level triggered poll does so anyway.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring.h"

/* user_data */
#define POLL		1
#define OP		1000000

#define FIRST_FD	100	/* of many */
#define BATCH		16	/* SQEs */

static int sys_close_range(unsigned int first, unsigned int last)
{
	return syscall(__NR_close_range, first, last, 0);
}

/* The CQE of the last close, and then nothing. */
#define EXPECT_CLOSED(r, user_data)				\
	do {							\
		struct ring *__r = (r);				\
								\
		EXPECT_EQ(0, ring_wait(__r, 1));		\
		EXPECT_CQE(__r, user_data, -ECANCELED, 0);	\
		EXPECT_SILENT(__r);				\
	} while (0)

/* An event. It ends a poll that is one-shot. */
#define EXPECT_EVENT(r, flags, user_data, mask)			\
	do {							\
		struct ring *__r = (r);				\
								\
		EXPECT_EQ(0, ring_wait(__r, 1));		\
		EXPECT_CQE(__r, user_data, mask,		\
			   (flags) & IORING_POLL_ADD_MULTI ?	\
				IORING_CQE_F_MORE : 0);		\
	} while (0)

/* After an event, the file has been closed and there was no rearm(). */
#define EXPECT_CLOSED_OR_DONE(r, flags, user_data)		\
	do {							\
		struct ring *__ring = (r);			\
								\
		if ((flags) & IORING_POLL_ADD_MULTI)		\
			EXPECT_CLOSED(__ring, user_data);	\
		else						\
			EXPECT_SILENT(__ring);			\
	} while (0)

/* After an event, what an event loop does if the poll was one-shot: 1 if fine */
static int rearm(struct ring *r, unsigned int flags, int fd, __u32 mask,
		 __u64 user_data)
{
	if (flags & IORING_POLL_ADD_MULTI)
		return 1;
	return ring_arm_as(r, flags, fd, mask, user_data);
}

/*
 * The file is ready, and closed. Both were told if it is an edge triggered poll
 * and somebody looked in between, else there's just one CQE.
 */
static bool ends_once(struct ring *r, unsigned int flags, __u64 user_data,
		      int mask)
{
	struct io_uring_cqe cqe;

	do {
		if (ring_wait(r, 1) || !ring_pop(r, &cqe) ||
		    cqe.user_data != user_data)
			return false;
	} while (flags == POLL_EDGE && cqe.flags == IORING_CQE_F_MORE &&
		 cqe.res == mask);

	if (cqe.flags || ring_harvest_count(r))
		return false;
	return cqe.res == -ECANCELED ||
	       (flags == POLL_ONESHOT && cqe.res == mask);
}

/* The CQE of a request that was to close the file, and that of the poll. */
static bool op_and_closed(struct ring *op_ring, struct ring *r)
{
	struct io_uring_cqe op = {}, poll = {}, tmp;

	if (ring_wait(r, op_ring == r ? 2 : 1) || ring_wait(op_ring, 1) ||
	    !ring_pop(op_ring, &op) || !ring_pop(r, &poll))
		return false;
	if (op.user_data != OP) {
		tmp = op;
		op = poll;
		poll = tmp;
	}
	return op.user_data == OP && !op.res && poll.user_data == POLL &&
	       poll.res == -ECANCELED && !poll.flags && !ring_harvest_count(r);
}

static void prep_close(struct io_uring_sqe *sqe, int fd)
{
	sqe->opcode = IORING_OP_CLOSE;
	sqe->fd = fd;
	sqe->user_data = OP;
}

struct closer {
	pthread_t thread;
	pid_t waiter;	/* wait until it's asleep */
	int fd;
	int ret;
};

static void *closer_thread(void *arg)
{
	struct closer *c = arg;

	c->ret = c->waiter && !wait_asleep(c->waiter) ? -1 : close(c->fd);
	return NULL;
}

FIXTURE(poll)
{
	struct ring ring;
	int pipe[2];
};

FIXTURE_VARIANT(poll)
{
	unsigned int flags;
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(poll, oneshot_plain) {
	.flags = POLL_ONESHOT,
};

FIXTURE_VARIANT_ADD(poll, oneshot_coop_taskrun) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_COOP_TASKRUN,
};

FIXTURE_VARIANT_ADD(poll, oneshot_coop_taskrun_flag) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(poll, oneshot_defer_taskrun) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(poll, oneshot_sqpoll) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(poll, edge_plain) {
	.flags = POLL_EDGE,
};

FIXTURE_VARIANT_ADD(poll, edge_coop_taskrun) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_COOP_TASKRUN,
};

FIXTURE_VARIANT_ADD(poll, edge_coop_taskrun_flag) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(poll, edge_defer_taskrun) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(poll, edge_sqpoll) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(poll, level_plain) {
	.flags = POLL_LEVEL,
};

FIXTURE_VARIANT_ADD(poll, level_coop_taskrun) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_COOP_TASKRUN,
};

FIXTURE_VARIANT_ADD(poll, level_coop_taskrun_flag) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(poll, level_defer_taskrun) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(poll, level_sqpoll) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(poll, level_single_issuer) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER,
};

FIXTURE_VARIANT_ADD(poll, level_defer_taskrun_flag) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		      IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(poll, level_cqe32) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_CQE32,
};

FIXTURE_VARIANT_ADD(poll, level_cqe_mixed) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_CQE_MIXED,
};

FIXTURE_VARIANT_ADD(poll, level_no_sqarray) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_NO_SQARRAY,
};

FIXTURE_VARIANT_ADD(poll, level_r_disabled) {
	.flags = POLL_LEVEL,
	.ring.disabled = true,
};

FIXTURE_VARIANT_ADD(poll, level_resized) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	.ring.resize = true,
};

FIXTURE_SETUP(poll)
{
	if (!ring_has_kind(variant->flags))
		SKIP(return, "not supported");
	ASSERT_EQ(0, ring_init(&self->ring, &variant->ring));
	ASSERT_EQ(0, pipe(self->pipe));
}

FIXTURE_TEARDOWN(poll)
{
	ring_exit(&self->ring);
}

/* Arm one of the kind that is tested. */
#define ARM(r, fd, mask, user_data)					\
	ASSERT_EQ(1, ring_arm_as(r, variant->flags, fd, mask, user_data))

/*
 * Who closes it
 */

TEST_F(poll, by_task)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, by_dup2)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(self->pipe[0], dup2(self->pipe[1], self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, by_close_range)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, sys_close_range(self->pipe[0], self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, by_thread)
{
	struct closer c = { .fd = self->pipe[0] };

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(0, pthread_create(&c.thread, NULL, closer_thread, &c));
	ASSERT_EQ(0, pthread_join(c.thread, NULL));
	EXPECT_EQ(0, c.ret);
	EXPECT_CLOSED(&self->ring, POLL);
}

/* Somebody waits for it in io_uring_enter() */
TEST_F(poll, by_thread_while_waiting)
{
	struct closer c = { .fd = self->pipe[0], .waiter = gettid() };

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(0, pthread_create(&c.thread, NULL, closer_thread, &c));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	ASSERT_EQ(0, pthread_join(c.thread, NULL));
	EXPECT_EQ(0, c.ret);
	EXPECT_SILENT(&self->ring);
}

TEST_F(poll, by_op_close)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	prep_close(ring_sqe(&self->ring), self->pipe[0]);
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_and_closed(&self->ring, &self->ring));
}

/* By a worker thread */
TEST_F(poll, by_op_close_async)
{
	struct io_uring_sqe *sqe;

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	sqe = ring_sqe(&self->ring);
	prep_close(sqe, self->pipe[0]);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_and_closed(&self->ring, &self->ring));
}

TEST_F(poll, by_op_close_of_other_ring)
{
	struct ring other;

	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	prep_close(ring_sqe(&other), self->pipe[0]);
	ASSERT_EQ(1, ring_submit(&other));
	EXPECT_TRUE(op_and_closed(&other, &self->ring));
	ring_exit(&other);
}

/*
 * When it is closed: the above are idle, these aren't
 */

TEST_F(poll, woken)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_TRUE(ends_once(&self->ring, variant->flags, POLL, EPOLLIN));
}

/* A one-shot poll completes when it's armed, and doesn't get armed. */
TEST_F(poll, ready_at_once)
{
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

TEST_F(poll, reported)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

TEST_F(poll, reported_and_consumed)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

TEST_F(poll, idle_again)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	drain(self->pipe[0]);
	ASSERT_EQ(1, rearm(&self->ring, variant->flags, self->pipe[0], EPOLLIN,
			   POLL));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* A file with two wait queues, one of which has woken the poll, or hasn't */
TEST_F(poll, two_wait_queues)
{
	ASSERT_EQ(0, both_ways(&self->pipe[0]));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, two_wait_queues_woken)
{
	ASSERT_EQ(0, both_ways(&self->pipe[0]));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_TRUE(ends_once(&self->ring, variant->flags, POLL, EPOLLIN));
}

/* Level triggered polls can't be exclusive. */
TEST_F(poll, exclusive)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN | EPOLLEXCLUSIVE, POLL);
	if (variant->flags == POLL_LEVEL) {
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_CQE(&self->ring, POLL, -EINVAL, 0);
	} else {
		EXPECT_EQ(0, close(self->pipe[0]));
		EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
		EXPECT_CLOSED(&self->ring, POLL);
	}
}

/* The other end first: that is an event, and no end. */
TEST_F(poll, hung_up)
{
	ARM(&self->ring, self->pipe[0], 0, POLL);
	EXPECT_EQ(0, close(self->pipe[1]));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLHUP);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

/*
 * Several of them
 */

TEST_F(poll, several_polls)
{
	static const __u32 mask[] = { EPOLLIN, EPOLLOUT, EPOLLIN, 0 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mask); i++)
		ARM(&self->ring, self->pipe[0], mask[i], i + 1);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_TRUE(ring_each_ended(&self->ring, ARRAY_SIZE(mask), false));
}

/* Only the rest when one of them is gone by then */
TEST_F(poll, several_polls_one_removed)
{
	struct io_uring_cqe cqe;
	unsigned int i;

	for (i = 1; i <= 3; i++)
		ARM(&self->ring, self->pipe[0], EPOLLIN, i);
	prep_poll_remove(ring_sqe(&self->ring), 3, OP);
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_EQ(0, ring_wait(&self->ring, 2));
	ASSERT_TRUE(ring_pop(&self->ring, &cqe) && ring_pop(&self->ring, &cqe));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_TRUE(ring_each_ended(&self->ring, 2, false));
}

TEST_F(poll, several_rings)
{
	struct ring other;

	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ARM(&other, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_CLOSED(&other, POLL);
	ring_exit(&other);
}

/* All of them at once, and far more than fit into the CQ ring */
TEST_F(poll, many_files)
{
	const int n = 500;
	int i, fd;

	for (i = 0; i < n; i++) {
		fd = eventfd(0, EFD_CLOEXEC);
		ASSERT_EQ(FIRST_FD + i, dup3(fd, FIRST_FD + i, O_CLOEXEC));
		close(fd);
		ARM(&self->ring, FIRST_FD + i, EPOLLIN, i + 1);
	}
	EXPECT_EQ(0, sys_close_range(FIRST_FD, FIRST_FD + n - 1));
	EXPECT_TRUE(ring_each_ended(&self->ring, n, false));
}

/* The number belongs to another file, the polls of the old one don't. */
TEST_F(poll, fd_reuse)
{
	int fd = self->pipe[0], new[2];
	struct io_uring_sqe *sqe;

	ASSERT_EQ(0, pipe(new));
	ARM(&self->ring, fd, EPOLLIN, POLL);
	EXPECT_EQ(0, close(fd));
	ASSERT_EQ(fd, fcntl(new[0], F_DUPFD, fd));
	ARM(&self->ring, fd, EPOLLIN, POLL + 1);

	EXPECT_CLOSED(&self->ring, POLL);
	ASSERT_EQ(1, write(new[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL + 1, EPOLLIN);
	drain(fd);
	ASSERT_EQ(1, rearm(&self->ring, variant->flags, fd, EPOLLIN, POLL + 1));
	EXPECT_SILENT(&self->ring);

	sqe = ring_sqe(&self->ring);
	prep_cancel(sqe, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL,
		    OP);
	sqe->fd = fd;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_EQ(2U, ring_cq_count(&self->ring));
	if (ring_peek(&self->ring)->user_data == OP) {
		EXPECT_CQE(&self->ring, OP, 1, 0);
		EXPECT_CQE(&self->ring, POLL + 1, -ECANCELED, 0);
	} else {
		EXPECT_CQE(&self->ring, POLL + 1, -ECANCELED, 0);
		EXPECT_CQE(&self->ring, OP, 1, 0);
	}
	EXPECT_SILENT(&self->ring);
}

/* A cancel by fd doesn't count a poll that has lost its file. */
TEST_F(poll, cancel_by_reused_fd)
{
	int fd = self->pipe[0], new[2];
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	unsigned int i, ended = 0;

	ASSERT_EQ(0, pipe(new));
	ARM(&self->ring, fd, EPOLLIN, POLL);
	EXPECT_EQ(0, close(fd));
	ASSERT_EQ(fd, fcntl(new[0], F_DUPFD, fd));
	sqe = ring_sqe(&self->ring);
	prep_cancel(sqe, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL,
		    OP);
	sqe->fd = fd;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(ring_pop(&self->ring, &cqe));
		if (cqe.user_data == OP) {
			EXPECT_EQ(0, cqe.res);
		} else {
			EXPECT_EQ(-ECANCELED, cqe.res);
			ended++;
		}
	}
	EXPECT_EQ(1U, ended);
	EXPECT_SILENT(&self->ring);
}

/*
 * Copies keep it armed
 */

TEST_F(poll, dup)
{
	int copy = dup(self->pipe[0]);

	ASSERT_LE(0, copy);
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	drain(copy);
	ASSERT_EQ(1, rearm(&self->ring, variant->flags, copy, EPOLLIN, POLL));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(copy));
	EXPECT_CLOSED(&self->ring, POLL);
}

struct reader {
	pthread_t thread;
	pid_t tid;
	int fd;
	ssize_t ret;
};

static void *reader_thread(void *arg)
{
	struct reader *r = arg;
	char c;

	__atomic_store_n(&r->tid, gettid(), __ATOMIC_RELEASE);
	r->ret = read(r->fd, &c, 1);
	return NULL;
}

/* A system call that is under way has got the last reference. */
TEST_F(poll, held_by_read)
{
	struct reader reader = { .fd = self->pipe[0] };

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(0, pthread_create(&reader.thread, NULL, reader_thread,
				    &reader));
	while (!__atomic_load_n(&reader.tid, __ATOMIC_ACQUIRE))
		sched_yield();
	ASSERT_TRUE(wait_asleep(reader.tid));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(0, pthread_join(reader.thread, NULL));
	EXPECT_EQ(1, reader.ret);
	EXPECT_TRUE(ends_once(&self->ring, variant->flags, POLL, EPOLLIN));
}

/* A poll without the flag has got it, which ends in io_uring_enter(). */
TEST_F(poll, held_by_request)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	struct ring holder;

	ASSERT_EQ(0, ring_init(&holder, &opts));
	prep_poll(ring_sqe(&holder), self->pipe[0], EPOLLIN, 0, OP);
	ASSERT_EQ(1, ring_submit(&holder));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, ring_wait(&holder, 1));
	EXPECT_CQE(&holder, OP, EPOLLIN, 0);
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
	ring_exit(&holder);
}

/*
 * Fixed files
 */

static int set_slot(struct ring *r, int fd)
{
	struct io_uring_files_update up = { .fds = (uintptr_t)&fd };

	return sys_io_uring_register(r->fd, IORING_REGISTER_FILES_UPDATE, &up,
				     1);
}

static int poll_slot(struct ring *r, unsigned int flags, __u32 mask)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	prep_poll(sqe, 0, mask, flags, POLL);
	sqe->flags = IOSQE_FIXED_FILE;
	return ring_submit(r);
}

/* Move it to the only slot, and poll it there. */
static int arm_fixed(struct ring *r, unsigned int flags, int fd)
{
	if (sys_io_uring_register(r->fd, IORING_REGISTER_FILES, &fd, 1) ||
	    close(fd))
		return -1;
	return poll_slot(r, flags, EPOLLIN);
}

TEST_F(poll, fixed_cleared)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(poll, fixed_idle_again)
{
	int copy = dup(self->pipe[0]);

	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	drain(copy);
	EXPECT_EQ(0, close(copy));
	if (!(variant->flags & IORING_POLL_ADD_MULTI))
		ASSERT_EQ(1, poll_slot(&self->ring, variant->flags,
				       EPOLLIN));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* A one-shot poll of a ready file leaves the slot alone. */
TEST_F(poll, fixed_ready_at_once)
{
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(poll, fixed_replaced)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	EXPECT_EQ(1, set_slot(&self->ring, self->pipe[1]));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(poll, fixed_unregistered)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_UNREGISTER_FILES, NULL, 0));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(poll, fixed_by_op_close)
{
	struct io_uring_sqe *sqe;

	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	sqe = ring_sqe(&self->ring);
	prep_close(sqe, 0);
	sqe->file_index = 1;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_and_closed(&self->ring, &self->ring));
}

/* The fd and the slot are copies of each other. */
TEST_F(poll, fixed_and_fd)
{
	int copy = dup(self->pipe[0]);

	ASSERT_LE(0, copy);
	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	ARM(&self->ring, copy, EPOLLIN, POLL + 1);
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(copy));
	EXPECT_TRUE(ring_each_ended(&self->ring, 2, false));
}

/*
 * A ring that never enters the kernel doesn't keep the other end waiting
 */

TEST_F(poll, peer_of_pipe_reader)
{
	signal(SIGPIPE, SIG_IGN);
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(-1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, peer_of_pipe_writer)
{
	char c;

	ARM(&self->ring, self->pipe[1], 0, POLL);
	EXPECT_EQ(0, file_events(self->pipe[0], POLLIN, 0));
	EXPECT_EQ(0, close(self->pipe[1]));
	EXPECT_EQ(POLLHUP, file_events(self->pipe[0], POLLIN, 0));
	EXPECT_EQ(0, read(self->pipe[0], &c, 1));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, peer_of_socketpair)
{
	int sk[2];
	char c;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	ARM(&self->ring, sk[0], EPOLLIN, POLL);
	EXPECT_EQ(0, file_events(sk[1], POLLIN, 0));
	EXPECT_EQ(0, close(sk[0]));
	EXPECT_EQ(POLLIN | POLLHUP, file_events(sk[1], POLLIN, 0));
	EXPECT_EQ(0, read(sk[1], &c, 1));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, peer_of_tcp)
{
	int sk[2];
	char c;

	ASSERT_EQ(0, tcp_pair(sk));
	ARM(&self->ring, sk[0], EPOLLIN, POLL);
	EXPECT_EQ(0, file_events(sk[1], POLLIN, 0));
	EXPECT_EQ(0, close(sk[0]));
	EXPECT_EQ(POLLIN, file_events(sk[1], POLLIN, RING_SOON_MS));
	EXPECT_EQ(0, read(sk[1], &c, 1));
	EXPECT_CLOSED(&self->ring, POLL);
}

/*
 * Requests that depend on it
 */

/* The request fails, and so does the rest of the chain. */
TEST_F(poll, linked)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);

	prep_poll(sqe, self->pipe[0], EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_IO_LINK;
	prep_nop(ring_sqe(&self->ring), OP);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	EXPECT_CQE(&self->ring, OP, -ECANCELED, 0);
	EXPECT_SILENT(&self->ring);
}

TEST_F(poll, hard_linked)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);

	prep_poll(sqe, self->pipe[0], EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_IO_HARDLINK;
	prep_nop(ring_sqe(&self->ring), OP);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_SILENT(&self->ring);
}

/* It's the second one of a chain, and the file is that of its time. */
TEST_F(poll, behind_others)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);

	prep_nop(sqe, OP);
	sqe->flags = IOSQE_IO_LINK;
	prep_poll(ring_sqe(&self->ring), self->pipe[0], EPOLLIN,
		  variant->flags, POLL);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_SILENT(&self->ring);
	/* SQPOLL: the first CQE is there before that */
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* The two CQEs, in any order */
static bool poll_and_timeout(struct ring *r, int timeout_res)
{
	struct io_uring_cqe cqe;
	bool poll = false, timeout = false;
	int i;

	for (i = 0; i < 2; i++) {
		if (ring_wait(r, 1) || !ring_pop(r, &cqe) || cqe.flags)
			return false;
		poll |= cqe.user_data == POLL && cqe.res == -ECANCELED;
		timeout |= cqe.user_data == OP && cqe.res == timeout_res;
	}
	return poll && timeout && !ring_harvest_count(r);
}

static int arm_with_timeout(struct ring *r, unsigned int flags, int fd,
			    struct __kernel_timespec *ts)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	prep_poll(sqe, fd, EPOLLIN, flags, POLL);
	sqe->flags = IOSQE_IO_LINK;
	prep_link_timeout(ring_sqe(r), ts, OP);
	return ring_submit(r);
}

TEST_F(poll, linked_timeout)
{
	struct __kernel_timespec ts = ring_ms(RING_SOON_MS);

	ASSERT_EQ(2, arm_with_timeout(&self->ring, variant->flags,
				      self->pipe[0], &ts));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_TRUE(poll_and_timeout(&self->ring, -ECANCELED));
}

TEST_F(poll, linked_timeout_first)
{
	struct __kernel_timespec ts = ring_ms(1);

	ASSERT_EQ(2, arm_with_timeout(&self->ring, variant->flags,
				      self->pipe[0], &ts));
	EXPECT_TRUE(poll_and_timeout(&self->ring, -ETIME));
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_SILENT(&self->ring);
}

/* What waits for all others waits for the close. */
TEST_F(poll, drain_behind_it)
{
	struct io_uring_sqe *sqe;

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	sqe = ring_sqe(&self->ring);
	prep_nop(sqe, OP);
	sqe->flags = IOSQE_IO_DRAIN;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_SILENT(&self->ring);
}

TEST_F(poll, drain_behind_others)
{
	struct io_uring_sqe *sqe;
	int other[2];

	ASSERT_EQ(0, pipe(other));
	prep_poll(ring_sqe(&self->ring), other[0], EPOLLIN, 0, OP);
	sqe = ring_sqe(&self->ring);
	prep_poll(sqe, self->pipe[0], EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_IO_DRAIN;
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(other[1], "x", 1));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, EPOLLIN, 0);
	EXPECT_SILENT(&self->ring);
	/* it takes a worker thread, as if it were async */
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* A worker thread arms it. */
TEST_F(poll, async)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);

	prep_poll(sqe, self->pipe[0], EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	/* the worker may be about to put its reference */
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, async_ready)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);

	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	prep_poll(sqe, self->pipe[0], EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_TRUE(ring_wait_released(&self->ring, self->pipe[1]));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

TEST_F(poll, async_fixed)
{
	struct io_uring_sqe *sqe;

	ASSERT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_REGISTER_FILES,
					   self->pipe, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	sqe = ring_sqe(&self->ring);
	prep_poll(sqe, 0, EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC | IOSQE_FIXED_FILE;
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* The only worker is busy until the task sleeps. */
struct late_worker {
	pthread_t thread;
	pid_t task;
	struct ring ring;
	int busy[2], sink[2];
	/* whose other end is found to be closed then, and who is told: if any */
	int writer, end[2];
	int ret;
};

static bool late_worker_init(struct late_worker *l, struct ring *r)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	unsigned int max[2] = { 1, 1 };
	struct io_uring_sqe *sqe;

	l->task = gettid();
	if (pipe(l->busy) || pipe(l->sink) || pipe(l->end) ||
	    ring_init(&l->ring, &opts) ||
	    sys_io_uring_register(r->fd, IORING_REGISTER_IOWQ_MAX_WORKERS, max,
				  2))
		return false;
	sqe = ring_sqe(&l->ring);
	sqe->opcode = IORING_OP_SPLICE;
	sqe->splice_fd_in = l->busy[0];
	sqe->splice_off_in = -1;
	sqe->fd = l->sink[1];
	sqe->off = -1;
	sqe->len = 1;
	return ring_submit(&l->ring) == 1;
}

static void *late_worker_thread(void *arg)
{
	struct late_worker *l = arg;

	l->ret = -1;
	if (!wait_asleep(l->task) || write(l->busy[1], "x", 1) != 1)
		return NULL;
	l->ret = 0;
	if (!l->writer)
		return NULL;
	l->ret = file_events(l->writer, 0, RING_SOON_MS);
	if (write(l->end[1], "x", 1) != 1)
		l->ret = -1;
	return NULL;
}

/* Its slot is gone by the time it is armed: the tag wakes who waits for it. */
TEST_F(poll, async_fixed_tag)
{
	const __u64 tag = OP;
	struct io_uring_rsrc_register reg = {
		.nr = 1,
		.data = (uintptr_t)self->pipe,
		.tags = (uintptr_t)&tag,
	};
	struct late_worker l = {};
	struct io_uring_sqe *sqe;

	ASSERT_TRUE(late_worker_init(&l, &self->ring));
	ASSERT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_REGISTER_FILES2, &reg,
					   sizeof(reg)));
	sqe = ring_sqe(&self->ring);
	prep_poll(sqe, 0, EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC | IOSQE_FIXED_FILE;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	ASSERT_EQ(0, pthread_create(&l.thread, NULL, late_worker_thread, &l));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	ASSERT_EQ(0, pthread_join(l.thread, NULL));
	EXPECT_EQ(0, l.ret);
	EXPECT_CQE(&self->ring, OP, 0, 0);
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED(&self->ring, POLL);
	ring_exit(&l.ring);
}

/*
 * The same without a tag, for a task that sleeps until there are more CQEs than it
 * is going to post. The file isn't held until then.
 */
TEST_F(poll, async_fixed_let_go)
{
	struct late_worker l = { .writer = self->pipe[1] };
	bool poll = false, end = false;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe cqe;

	ASSERT_TRUE(late_worker_init(&l, &self->ring));
	ASSERT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_REGISTER_FILES,
					   self->pipe, 1));
	sqe = ring_sqe(&self->ring);
	prep_poll(sqe, 0, EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC | IOSQE_FIXED_FILE;
	prep_poll(ring_sqe(&self->ring), l.end[0], EPOLLIN, 0, OP);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_EQ(0, close(self->pipe[0]));
	ASSERT_EQ(0, pthread_create(&l.thread, NULL, late_worker_thread, &l));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	ASSERT_EQ(0, pthread_join(l.thread, NULL));
	EXPECT_EQ(POLLERR, l.ret);
	while (ring_pop(&self->ring, &cqe)) {
		poll |= cqe.user_data == POLL && cqe.res == -ECANCELED;
		end |= cqe.user_data == OP && cqe.res == EPOLLIN;
	}
	EXPECT_TRUE(poll);
	EXPECT_TRUE(end);
	EXPECT_SILENT(&self->ring);
	ring_exit(&l.ring);
}

/*
 * Requests that change or end it
 */

static int update(struct ring *r, unsigned int flags, __u32 mask,
		  __u64 user_data)
{
	prep_poll_update(ring_sqe(r), POLL, flags, mask, user_data, OP);
	return ring_submit(r);
}

/* A worker arms it, this thread may have to do the rest. */
static bool arm_by_worker(struct ring *r, unsigned int flags, const int *fd)
{
	struct io_uring_sqe *sqe;

	if (sys_io_uring_register(r->fd, IORING_REGISTER_FILES, fd, 1))
		return false;
	sqe = ring_sqe(r);
	prep_poll(sqe, 0, EPOLLIN, flags, POLL);
	sqe->flags = IOSQE_ASYNC | IOSQE_FIXED_FILE;
	return ring_submit(r) == 1 && ring_wait_worker_armed(r);
}

/* It ends, and is told so once, as is who wants that. */
static bool op_ends_it(struct ring *r)
{
	unsigned int polls = 0, ops = 0, others = 0;
	struct io_uring_cqe cqe;

	if (ring_submit(r) != 1 || ring_wait(r, 2))
		return false;
	while (ring_pop(r, &cqe)) {
		if (cqe.user_data == POLL && cqe.res == -ECANCELED)
			polls++;
		else if (cqe.user_data == OP && !cqe.res)
			ops++;
		else
			others++;
	}
	return polls == 1 && ops == 1 && !others && !ring_harvest_count(r);
}

TEST_F(poll, async_fixed_canceled)
{
	ASSERT_TRUE(arm_by_worker(&self->ring, variant->flags, self->pipe));
	prep_cancel(ring_sqe(&self->ring), POLL, 0, OP);
	EXPECT_TRUE(op_ends_it(&self->ring));
}

TEST_F(poll, async_fixed_removed)
{
	/* on other rings the worker may be about to be done with it */
	if (variant->ring.flags & IORING_SETUP_DEFER_TASKRUN) {
		ASSERT_TRUE(arm_by_worker(&self->ring, variant->flags,
					  self->pipe));
	} else {
		ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags,
				       self->pipe[0]));
	}
	prep_poll_remove(ring_sqe(&self->ring), POLL, OP);
	EXPECT_TRUE(op_ends_it(&self->ring));
}

/* It's too early for an update. */
TEST_F(poll, async_fixed_updated)
{
	struct io_uring_cqe cqe;

	ASSERT_TRUE(arm_by_worker(&self->ring, variant->flags, self->pipe));
	EXPECT_EQ(0, close(self->pipe[0]));
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLIN,
			    0));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	ASSERT_TRUE(ring_pop(&self->ring, &cqe));
	EXPECT_EQ((__u64)OP, cqe.user_data);
	/* on other rings the worker may be about to be done with it */
	if (cqe.res || variant->ring.flags & IORING_SETUP_DEFER_TASKRUN)
		EXPECT_EQ(-EALREADY, cqe.res);
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* It's armed anew, and lets go of the file again. */
TEST_F(poll, mask_updated)
{
	ARM(&self->ring, self->pipe[0], EPOLLPRI, POLL);
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLIN,
			    0));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	drain(self->pipe[0]);
	ASSERT_EQ(1, rearm(&self->ring, variant->flags, self->pipe[0],
			   EPOLLPRI, POLL));
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLPRI,
			    0));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* To one that the file is ready for */
TEST_F(poll, mask_updated_to_ready)
{
	unsigned int i, polls = 0, ops = 0;
	struct io_uring_cqe cqe;

	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ARM(&self->ring, self->pipe[0], EPOLLPRI, POLL);
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLIN,
			    0));
	ASSERT_EQ(0, ring_wait(&self->ring, 2));
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(ring_pop(&self->ring, &cqe));
		polls += cqe.user_data == POLL && cqe.res == EPOLLIN;
		ops += cqe.user_data == OP && !cqe.res;
	}
	EXPECT_EQ(1U, polls);
	EXPECT_EQ(1U, ops);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

/* A one-shot poll completes then, and lets go of the file before it's reported. */
TEST_F(poll, mask_updated_to_ready_and_closed)
{
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ARM(&self->ring, self->pipe[0], EPOLLPRI, POLL);
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLIN,
			    0));
	EXPECT_EQ(0, close(self->pipe[0]));
	/* SQPOLL: while it's being updated */
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

TEST_F(poll, user_data_updated)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_USER_DATA, 0,
			    POLL + 1));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED(&self->ring, POLL + 1);
}

/* By a worker thread: what was canceled there before has nothing to do with it. */
TEST_F(poll, mask_updated_by_worker)
{
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	int i;

	for (i = 0; i < BATCH; i++) {
		sqe = ring_sqe(&self->ring);
		sqe->opcode = IORING_OP_READ;
		sqe->fd = -1;
		sqe->flags = IOSQE_ASYNC;
	}
	ASSERT_EQ(BATCH, ring_submit(&self->ring));
	for (i = 0; i < BATCH; i++) {
		ASSERT_EQ(0, ring_wait(&self->ring, 1));
		ASSERT_TRUE(ring_pop(&self->ring, &cqe));
		EXPECT_EQ(-EBADF, cqe.res);
	}
	EXPECT_SILENT(&self->ring);

	ARM(&self->ring, self->pipe[0], EPOLLPRI, POLL);
	sqe = ring_sqe(&self->ring);
	prep_poll_update(sqe, POLL, IORING_POLL_UPDATE_EVENTS, EPOLLIN, 0, OP);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

/* The slot still holds it, and nothing but the slot. */
TEST_F(poll, fixed_updated)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, variant->flags, self->pipe[0]));
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLPRI,
			    0));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* It completes for one reason, and the other one finds it gone. */
static bool op_finds_it_gone(struct ring *r)
{
	bool poll = false, op = false;
	struct io_uring_cqe cqe;
	int i;

	for (i = 0; i < 2; i++) {
		if (ring_wait(r, 1) || !ring_pop(r, &cqe) || cqe.flags)
			return false;
		poll |= cqe.user_data == POLL && cqe.res == -ECANCELED;
		op |= cqe.user_data == OP &&
		      (cqe.res == -ENOENT || cqe.res == -EALREADY);
	}
	return poll && op && !ring_harvest_count(r);
}

TEST_F(poll, updated_when_closed)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, close(self->pipe[0]));
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS, EPOLLPRI,
			    0));
	EXPECT_TRUE(op_finds_it_gone(&self->ring));
}

TEST_F(poll, removed_when_closed)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	EXPECT_EQ(0, close(self->pipe[0]));
	prep_poll_remove(ring_sqe(&self->ring), POLL, OP);
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_finds_it_gone(&self->ring));
}

/*
 * The file has been closed by a request before, and is released as the task leaves
 * the kernel. What finds it in between doesn't wait for that.
 */
static bool dying_file(struct ring *r, int *res)
{
	unsigned int i, closes = 0, polls = 0, ops = 0;
	struct io_uring_cqe cqe;

	for (i = 0; i < 3; i++) {
		if (ring_wait(r, 1) || !ring_pop(r, &cqe) || cqe.flags)
			return false;
		closes += cqe.user_data == OP && !cqe.res;
		polls += cqe.user_data == POLL && cqe.res == -ECANCELED;
		if (cqe.user_data == OP + 1) {
			ops++;
			*res = cqe.res;
		}
	}
	return closes == 1 && polls == 1 && ops == 1 && !ring_harvest_count(r);
}

TEST_F(poll, updated_when_dying)
{
	int res = 0;

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	prep_close(ring_sqe(&self->ring), self->pipe[0]);
	prep_poll_update(ring_sqe(&self->ring), POLL, IORING_POLL_UPDATE_EVENTS,
			 EPOLLPRI, 0, OP + 1);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_TRUE(dying_file(&self->ring, &res));
	EXPECT_TRUE(res == -EALREADY || res == -ENOENT);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

TEST_F(poll, removed_when_dying)
{
	int res = 1;

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	prep_close(ring_sqe(&self->ring), self->pipe[0]);
	prep_poll_remove(ring_sqe(&self->ring), POLL, OP + 1);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_TRUE(dying_file(&self->ring, &res));
	EXPECT_TRUE(!res || res == -EALREADY || res == -ENOENT);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

TEST_F(poll, canceled_when_dying)
{
	int res = 1;

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	prep_close(ring_sqe(&self->ring), self->pipe[0]);
	prep_cancel(ring_sqe(&self->ring), POLL, 0, OP + 1);
	ASSERT_EQ(2, ring_submit(&self->ring));
	EXPECT_TRUE(dying_file(&self->ring, &res));
	EXPECT_TRUE(!res || res == -EALREADY || res == -ENOENT);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

/* Neither keeps the file. */
TEST_F(poll, removed)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	prep_poll_remove(ring_sqe(&self->ring), POLL, OP);
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(2U, ring_cq_count(&self->ring));
}

TEST_F(poll, canceled_by_fd)
{
	struct io_uring_sqe *sqe;

	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	sqe = ring_sqe(&self->ring);
	prep_cancel(sqe, 0, IORING_ASYNC_CANCEL_FD, OP);
	sqe->fd = self->pipe[0];
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(2U, ring_cq_count(&self->ring));
}

/*
 * Woken for nothing: inotify doesn't tell what it wakes for, so it has to be asked.
 * A one-shot poll is armed anew then.
 */

#define WATCHED		"/proc/self/exe"

static int watch(void)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	/* two of them: one that's like the last one doesn't wake */
	if (inotify_add_watch(fd, WATCHED, IN_OPEN | IN_CLOSE) < 0)
		abort();
	return fd;
}

static void touch(void)
{
	close(open(WATCHED, O_RDONLY | O_CLOEXEC));
}

TEST_F(poll, woken_for_nothing)
{
	int inotify = watch();

	ARM(&self->ring, inotify, EPOLLPRI, POLL);
	touch();
	EXPECT_SILENT(&self->ring);
	touch();
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(inotify));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* It was a worker that armed it. */
TEST_F(poll, async_woken_for_nothing)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);
	int inotify = watch();

	prep_poll(sqe, inotify, EPOLLPRI, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	touch();
	EXPECT_SILENT(&self->ring);
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	EXPECT_EQ(0, close(inotify));
	EXPECT_CLOSED(&self->ring, POLL);
}

/*
 * To arm it anew isn't left to a worker. The only one is busy, and the poll would hold
 * its file for that long.
 */
TEST_F(poll, async_woken_for_nothing_and_busy)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);
	struct late_worker l = {};
	int inotify = watch();

	prep_poll(sqe, inotify, EPOLLPRI, variant->flags, POLL);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_TRUE(ring_wait_armed(&self->ring));
	ASSERT_TRUE(late_worker_init(&l, &self->ring));
	touch();
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(inotify));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_EQ(1, write(l.busy[1], "x", 1));
}

/* There was something, but somebody else was faster. */
TEST_F(poll, woken_too_late)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	int inotify = watch();
	char buf[4096];
	struct ring r;

	/* other kinds of rings wouldn't let us be faster */
	ASSERT_EQ(0, ring_init(&r, &opts));
	ARM(&r, inotify, EPOLLIN, POLL);
	touch();
	ASSERT_LT(0, read(inotify, buf, sizeof(buf)));
	EXPECT_SILENT(&r);
	touch();
	EXPECT_EVENT(&r, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, close(inotify));
	EXPECT_CLOSED_OR_DONE(&r, variant->flags, POLL);
	ring_exit(&r);
}

/* Nobody has had a look by then, unless it's the kernel that gets events. */
TEST_F(poll, woken_for_nothing_and_closed)
{
	int inotify = watch();

	ARM(&self->ring, inotify, EPOLLPRI, POLL);
	touch();
	EXPECT_EQ(0, close(inotify));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* Armed anew, what was polled by its slot is still that file. */
TEST_F(poll, fixed_woken_for_nothing)
{
	int inotify = watch(), copy = dup(inotify);

	ASSERT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_REGISTER_FILES, &inotify, 1));
	EXPECT_EQ(0, close(inotify));
	ASSERT_EQ(1, poll_slot(&self->ring, variant->flags, EPOLLPRI));
	touch();
	EXPECT_SILENT(&self->ring);
	/* the slot is another file's, the poll isn't */
	EXPECT_EQ(1, set_slot(&self->ring, self->pipe[0]));
	touch();
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(copy));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* Its own CQE wakes the poll: that's the last one, io_uring can't go on. */
TEST_F(poll, eventfd_of_ring)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	ASSERT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_REGISTER_EVENTFD, &fd, 1));
	ARM(&self->ring, fd, EPOLLIN, POLL);
	prep_nop(ring_sqe(&self->ring), OP);
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_UNREGISTER_EVENTFD, NULL, 0));
	EXPECT_CQE(&self->ring, POLL, EPOLLIN,
		   variant->flags == POLL_LEVEL ? IORING_CQE_F_MORE : 0);
	EXPECT_EQ(0, close(fd));
	if (variant->flags == POLL_LEVEL)
		EXPECT_CLOSED(&self->ring, POLL);
	else
		EXPECT_SILENT(&self->ring);
}

/*
 * The flag
 */

/* Without it, the poll keeps the file. */
TEST_F(poll, without_flag)
{
	unsigned int flags = variant->flags & IORING_POLL_ADD_MULTI;
	struct io_uring_cqe cqe;

	ASSERT_EQ(1, ring_arm_as(&self->ring, flags, self->pipe[0], EPOLLIN,
				 POLL));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, flags, POLL, EPOLLIN);
	if (flags) {
		prep_poll_remove(ring_sqe(&self->ring), POLL, OP);
		ASSERT_EQ(1, ring_submit(&self->ring));
		EXPECT_EQ(0, ring_wait(&self->ring, 2));
		EXPECT_TRUE(ring_pop(&self->ring, &cqe));
		EXPECT_TRUE(ring_pop(&self->ring, &cqe));
	}
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

/* A file that can't be polled is ready at any time, if not level triggered. */
TEST_F(poll, not_pollable)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ARM(&self->ring, fd, EPOLLIN, POLL);
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, POLL,
		   variant->flags == POLL_LEVEL ? -EPERM : EPOLLIN, 0);
	EXPECT_EQ(0, close(fd));
	EXPECT_SILENT(&self->ring);
}

/* An update doesn't change it, and says so. */
TEST_F(poll, update_has_no_flag)
{
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_UPDATE_EVENTS |
			    IORING_POLL_CANCEL_ON_CLOSE, EPOLLIN, 0));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, -EINVAL, 0);
	ASSERT_EQ(1, update(&self->ring, IORING_POLL_CANCEL_ON_CLOSE, 0, 0));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, OP, -EINVAL, 0);
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(poll, unknown_flags)
{
	unsigned int bit;

	for (bit = 5; bit < 32; bit++) {
		EXPECT_EQ(1, ring_arm_as(&self->ring,
					 variant->flags | 1U << bit,
					 self->pipe[0], EPOLLIN, POLL));
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_CQE(&self->ring, POLL, -EINVAL, 0);
	}
}

/* It may be said what's implied. */
TEST_F(poll, with_flag)
{
	ASSERT_EQ(1, ring_arm_as(&self->ring, variant->flags |
				 IORING_POLL_CANCEL_ON_CLOSE,
				 self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* Success is silent, but that isn't one. Multishot polls can't have it. */
TEST_F(poll, skip_success)
{
	struct io_uring_sqe *sqe = ring_sqe(&self->ring);
	bool multi = variant->flags & IORING_POLL_ADD_MULTI;

	prep_poll(sqe, self->pipe[0], EPOLLIN, variant->flags, POLL);
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, POLL, multi ? -EINVAL : -ECANCELED, 0);
	EXPECT_SILENT(&self->ring);
}

/*
 * The ring goes first
 */

TEST_F(poll, ring_exit)
{
	struct ring r;
	char c;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ARM(&r, self->pipe[0], EPOLLIN, POLL);
	ring_exit(&r);
	EXPECT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, read(self->pipe[0], &c, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
}

/* The slots go with it, the file goes with its slot. */
TEST_F(poll, ring_exit_fixed)
{
	struct ring r;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(1, arm_fixed(&r, variant->flags, self->pipe[0]));
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	ring_exit(&r);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

/* Rings that poll themselves go away. Their fixed file tells. */
TEST_F(poll, ring_exit_polls_itself)
{
	struct ring r;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(1, arm_fixed(&r, variant->flags, self->pipe[0]));
	ARM(&r, r.fd, EPOLLIN, POLL + 1);
	ring_exit(&r);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

/* ... or each other */
TEST_F(poll, ring_exit_polled)
{
	struct io_uring_cqe cqe = {};
	struct ring a, b;

	ASSERT_EQ(0, ring_init(&a, &variant->ring));
	ASSERT_EQ(0, ring_init(&b, &variant->ring));
	ASSERT_EQ(1, arm_fixed(&a, variant->flags, self->pipe[0]));
	ARM(&a, b.fd, EPOLLIN, POLL + 1);
	ARM(&b, a.fd, EPOLLIN, POLL);
	ring_exit(&a);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	/* there may have been an event, those wake each other */
	EXPECT_EQ(0, ring_wait(&b, 1));
	while (ring_pop(&b, &cqe) && cqe.flags & IORING_CQE_F_MORE)
		EXPECT_EQ(0, ring_wait(&b, 1));
	EXPECT_EQ(0U, cqe.flags);
	EXPECT_SILENT(&b);
	ring_exit(&b);
}

/*
 * Other processes. They don't care what kind of ring it is, a few will do.
 */

FIXTURE(process)
{
	struct ring ring;
	int pipe[2];	/* its read end is polled */
	int sk[2];
	int go[2];	/* the child goes on when our end is closed */
};

FIXTURE_VARIANT(process)
{
	unsigned int flags;
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(process, oneshot_plain) {
	.flags = POLL_ONESHOT,
};

FIXTURE_VARIANT_ADD(process, oneshot_defer_taskrun) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(process, oneshot_sqpoll) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(process, edge_plain) {
	.flags = POLL_EDGE,
};

FIXTURE_VARIANT_ADD(process, edge_defer_taskrun) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(process, edge_sqpoll) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(process, level_plain) {
	.flags = POLL_LEVEL,
};

FIXTURE_VARIANT_ADD(process, level_defer_taskrun) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(process, level_sqpoll) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(process)
{
	if (!ring_has_kind(variant->flags))
		SKIP(return, "not supported");
	ASSERT_EQ(0, ring_init(&self->ring, &variant->ring));
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(self->go, O_CLOEXEC));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				self->sk));
	ARM(&self->ring, self->pipe[0], EPOLLIN, POLL);
}

FIXTURE_TEARDOWN(process)
{
	ring_exit(&self->ring);
}

/* In the child */
static void wait_for_go(const int go[2])
{
	char c;

	close(go[1]);
	if (read(go[0], &c, 1))
		_exit(1);
}

static int exit_code(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* The child has a copy, then it's the only one. */
TEST_F(process, fork)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		wait_for_go(self->go);
		_exit(0);
	}
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->go[1]));
	EXPECT_EQ(0, exit_code(child));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

TEST_F(process, fork_closes)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		wait_for_go(self->go);
		close(self->pipe[0]);
		close(self->sk[0]);
		pause();
	}
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->go[1]));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_EQ(child, waitpid(child, NULL, 0));
}

TEST_F(process, fork_killed)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child)
		for (;;)
			pause();
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_EQ(child, waitpid(child, NULL, 0));
}

/* See main() for what it executes. */
TEST_F(process, exec)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		close(self->go[1]);
		dup2(self->go[0], STDIN_FILENO);
		execl("/proc/self/exe", "close_test", "--wait", NULL);
		_exit(1);
	}
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
	/* by exec, that is: it's still there */
	EXPECT_EQ(0, waitpid(child, NULL, WNOHANG));
	EXPECT_EQ(0, close(self->go[1]));
	EXPECT_EQ(0, exit_code(child));
}

TEST_F(process, scm_rights)
{
	int fd;

	ASSERT_EQ(0, send_fds(self->sk[0], self->pipe, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	fd = recv_fd(self->sk[1]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, close(fd));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

TEST_F(process, scm_rights_exit)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		close(self->pipe[0]);
		if (recv_fd(self->sk[1]) < 0 || write(self->sk[1], "x", 1) != 1)
			_exit(1);
		wait_for_go(self->go);
		_exit(0);
	}
	ASSERT_EQ(0, send_fds(self->sk[0], self->pipe, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLIN, file_events(self->sk[0], POLLIN, RING_SOON_MS));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->go[1]));
	EXPECT_EQ(0, exit_code(child));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* Never received */
TEST_F(process, scm_rights_dropped)
{
	ASSERT_EQ(0, send_fds(self->sk[0], self->pipe, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->sk[1]));
	EXPECT_CLOSED(&self->ring, POLL);
}

/*
 * Never received by a socket that sits in its own queue. It takes the garbage
 * collector to drop that, hence a kernel thread, and a delayed fput().
 */
TEST_F(process, scm_rights_garbage)
{
	int fds[2] = { self->pipe[0], self->sk[1] };

	ASSERT_EQ(0, send_fds(self->sk[0], fds, 2));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->sk[1]));
	EXPECT_EQ(0, close(self->sk[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

/*
 * Nobody but io_uring_enter() runs task_work, so a lot may happen before that
 */

FIXTURE(deferred)
{
	struct ring ring;
};

FIXTURE_VARIANT(deferred)
{
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(deferred, oneshot) {
	.flags = POLL_ONESHOT,
};

FIXTURE_VARIANT_ADD(deferred, edge) {
	.flags = POLL_EDGE,
};

FIXTURE_VARIANT_ADD(deferred, level) {
	.flags = POLL_LEVEL,
};

FIXTURE_SETUP(deferred)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};

	if (!ring_has_kind(variant->flags))
		SKIP(return, "not supported");
	ASSERT_EQ(0, ring_init(&self->ring, &opts));
}

FIXTURE_TEARDOWN(deferred)
{
	ring_exit(&self->ring);
}

#define OFTEN		3000	/* polls count up to 128 at most */

static bool wake_often(int fd)
{
	unsigned int i;

	for (i = 0; i < OFTEN && !eventfd_write(fd, 1); i++)
		;
	return i == OFTEN;
}

TEST_F(deferred, woken_often)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	eventfd_t v;

	ARM(&self->ring, fd, EPOLLIN, POLL);
	ASSERT_TRUE(wake_often(fd));
	EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLIN);
	EXPECT_EQ(0, eventfd_read(fd, &v));
	EXPECT_EQ((eventfd_t)OFTEN, v);
	ASSERT_EQ(1, rearm(&self->ring, variant->flags, fd, EPOLLIN, POLL));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(fd));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(deferred, canceled_and_woken_often)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	ARM(&self->ring, fd, EPOLLIN, POLL);
	prep_cancel(ring_sqe(&self->ring), POLL, 0, OP);
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_TRUE(wake_often(fd));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_CQE(&self->ring, OP, 0, 0);
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(fd));
	EXPECT_SILENT(&self->ring);
}

/* The end is told, even if it's not what has woken the poll first. */
TEST_F(deferred, hung_up_behind_data)
{
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ARM(&self->ring, p[0], EPOLLIN, POLL);
	feed(p[1]);
	EXPECT_EQ(0, close(p[1]));
	/* a one-shot poll is off the wait queue by then */
	EXPECT_EVENT(&self->ring, variant->flags, POLL,
		     variant->flags == POLL_ONESHOT ? EPOLLIN :
						      EPOLLIN | EPOLLHUP);
	drain(p[0]);
	ASSERT_EQ(1, rearm(&self->ring, variant->flags, p[0], EPOLLIN, POLL));
	if (variant->flags != POLL_EDGE)
		EXPECT_EVENT(&self->ring, variant->flags, POLL, EPOLLHUP);
	EXPECT_EQ(0, close(p[0]));
	EXPECT_CLOSED_OR_DONE(&self->ring, variant->flags, POLL);
}

/* The same for a request that polls in order to receive all there is. */
TEST(received_to_the_end)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	struct io_uring_cqe cqe = {};
	struct io_uring_sqe *sqe;
	char buf[2][16];
	int sk[2], len = 0;
	struct ring r;

	if (!ring_has_kind(POLL_EDGE))
		SKIP(return, "not supported");
	ASSERT_EQ(0, ring_init(&r, &opts));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	sqe = ring_sqe(&r);
	sqe->opcode = IORING_OP_PROVIDE_BUFFERS;
	sqe->fd = ARRAY_SIZE(buf);
	sqe->addr = (uintptr_t)buf;
	sqe->len = sizeof(buf[0]);
	sqe->user_data = OP;
	sqe = ring_sqe(&r);
	sqe->opcode = IORING_OP_RECV;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->fd = sk[0];
	sqe->user_data = POLL;
	ASSERT_EQ(2, ring_submit(&r));
	EXPECT_CQE(&r, OP, 0, 0);
	feed(sk[1]);
	EXPECT_EQ(0, close(sk[1]));
	do {
		ASSERT_EQ(0, ring_wait(&r, 1));
		ASSERT_TRUE(ring_pop(&r, &cqe));
		len += cqe.res;
	} while (cqe.flags & IORING_CQE_F_MORE);
	EXPECT_EQ(0, cqe.res);
	EXPECT_EQ(1, len);
	ring_exit(&r);
}

/*
 * As many as we are allowed to have are polled, from FIRST_FD on, by the numbers 1 to
 * that. Returns how many, 0 if that failed.
 */
static unsigned int arm_many(struct ring *r, unsigned int flags)
{
	unsigned int i, n = 10000;
	struct rlimit lim;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return 0;
	if (lim.rlim_max < n + FIRST_FD)
		lim.rlim_max = n + FIRST_FD;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) && getrlimit(RLIMIT_NOFILE, &lim))
		return 0;
	if (lim.rlim_cur < n + FIRST_FD)
		n = lim.rlim_cur - FIRST_FD;

	for (i = 0; i < n; i++) {
		fd = eventfd(0, EFD_CLOEXEC);
		if (dup3(fd, FIRST_FD + i, O_CLOEXEC) < 0 || close(fd))
			return 0;
		prep_poll(ring_sqe(r), FIRST_FD + i, EPOLLIN, flags, i + 1);
		if ((i % BATCH == BATCH - 1 || i == n - 1) &&
		    ring_submit(r) != (int)(i % BATCH + 1))
			return 0;
	}
	return n;
}

FIXTURE(many)
{
	struct ring ring;
	int go[2];
};

FIXTURE_VARIANT(many)
{
	unsigned int flags;
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(many, oneshot_defer_taskrun) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(many, edge_plain) {
	.flags = POLL_EDGE,
};

FIXTURE_VARIANT_ADD(many, level_defer_taskrun) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(many, level_sqpoll) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(many)
{
	if (!ring_has_kind(variant->flags))
		SKIP(return, "not supported");
	ASSERT_EQ(0, ring_init(&self->ring, &variant->ring));
	ASSERT_EQ(0, pipe2(self->go, O_CLOEXEC));
}

FIXTURE_TEARDOWN(many)
{
	ring_exit(&self->ring);
}

TEST_F_TIMEOUT(many, closed, 120)
{
	unsigned int n = arm_many(&self->ring, variant->flags);

	ASSERT_NE(0U, n);
	EXPECT_EQ(0, sys_close_range(FIRST_FD, FIRST_FD + n - 1));
	EXPECT_TRUE(ring_each_ended(&self->ring, n, false));
}

/* By the exit of the last owner */
TEST_F_TIMEOUT(many, closed_by_exit, 120)
{
	unsigned int n = arm_many(&self->ring, variant->flags);
	pid_t child;

	ASSERT_NE(0U, n);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		wait_for_go(self->go);
		_exit(0);
	}
	EXPECT_EQ(0, sys_close_range(FIRST_FD, FIRST_FD + n - 1));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->go[1]));
	EXPECT_EQ(0, exit_code(child));
	EXPECT_TRUE(ring_each_ended(&self->ring, n, false));
}

int main(int argc, char **argv)
{
	char c;

	/* what the exec test executes: nothing, until it's told to exit */
	if (argc == 2 && !strcmp(argv[1], "--wait"))
		return read(STDIN_FILENO, &c, 1) ? 1 : 0;
	return test_harness_run(argc, argv);
}
