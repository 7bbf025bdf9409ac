// SPDX-License-Identifier: GPL-2.0
/*
 * An armed level triggered poll doesn't hold its file: whoever closes it for
 * the last time ends the poll, with one -ECANCELED that lacks F_MORE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring_fixture.h"

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

/* Consume the last CQEs of the polls 1 to @n. Is it one for each? */
static bool each_closed_once(struct ring *r, unsigned int n)
{
	bool *seen = calloc(n + 1, sizeof(*seen)), ok = seen;
	struct io_uring_cqe cqe;
	unsigned int got = 0;

	while (ok && got < n) {
		ok = !ring_wait(r, 1);
		while (ok && ring_pop(r, &cqe)) {
			ok = cqe.user_data >= 1 && cqe.user_data <= n &&
			     !seen[cqe.user_data] &&
			     cqe.res == -ECANCELED && !cqe.flags;
			seen[ok ? cqe.user_data : 0] = true;
			got++;
		}
	}
	free(seen);
	return ok && !ring_harvest_count(r);
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

/*
 * Who closes it
 */

TEST_F(ring, by_task)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, by_dup2)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(self->pipe[0], dup2(self->pipe[1], self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, by_close_range)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, sys_close_range(self->pipe[0], self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, by_thread)
{
	struct closer c = { .fd = self->pipe[0] };

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(0, pthread_create(&c.thread, NULL, closer_thread, &c));
	ASSERT_EQ(0, pthread_join(c.thread, NULL));
	EXPECT_EQ(0, c.ret);
	EXPECT_CLOSED(&self->ring, POLL);
}

/* Somebody waits for it in io_uring_enter() */
TEST_F(ring, by_thread_while_waiting)
{
	struct closer c = { .fd = self->pipe[0], .waiter = gettid() };

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(0, pthread_create(&c.thread, NULL, closer_thread, &c));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	ASSERT_EQ(0, pthread_join(c.thread, NULL));
	EXPECT_EQ(0, c.ret);
	EXPECT_SILENT(&self->ring);
}

TEST_F(ring, by_op_close)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	prep_close(ring_sqe(&self->ring), self->pipe[0]);
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_and_closed(&self->ring, &self->ring));
}

/* By a worker thread */
TEST_F(ring, by_op_close_async)
{
	struct io_uring_sqe *sqe;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	sqe = ring_sqe(&self->ring);
	prep_close(sqe, self->pipe[0]);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_and_closed(&self->ring, &self->ring));
}

TEST_F(ring, by_op_close_of_other_ring)
{
	struct ring other;

	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	prep_close(ring_sqe(&other), self->pipe[0]);
	ASSERT_EQ(1, ring_submit(&other));
	EXPECT_TRUE(op_and_closed(&other, &self->ring));
	ring_exit(&other);
}

/*
 * When it is closed: the above are idle, these aren't
 */

TEST_F(ring, ready)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, reported)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(&self->ring, 2));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	EXPECT_CQE(&self->ring, POLL, -ECANCELED, 0);
	EXPECT_SILENT(&self->ring);
}

TEST_F(ring, reported_and_consumed)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, idle_again)
{
	char c;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	ASSERT_EQ(1, read(self->pipe[0], &c, 1));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

/* The other end first: that is an event, and no end. */
TEST_F(ring, hung_up)
{
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], 0, POLL));
	EXPECT_EQ(0, close(self->pipe[1]));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLHUP);
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
}

/*
 * Several of them
 */

TEST_F(ring, several_polls)
{
	static const __u32 mask[] = { EPOLLIN, EPOLLOUT, EPOLLIN, 0 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mask); i++)
		ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], mask[i],
				      i + 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_TRUE(each_closed_once(&self->ring, ARRAY_SIZE(mask)));
}

/* Only the rest when one of them is gone by then */
TEST_F(ring, several_polls_one_removed)
{
	struct io_uring_cqe cqe;
	unsigned int i;

	for (i = 1; i <= 3; i++)
		ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, i));
	prep_poll_remove(ring_sqe(&self->ring), 3, OP);
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_EQ(0, ring_wait(&self->ring, 2));
	ASSERT_TRUE(ring_pop(&self->ring, &cqe) && ring_pop(&self->ring, &cqe));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_TRUE(each_closed_once(&self->ring, 2));
}

TEST_F(ring, several_rings)
{
	struct ring other;

	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	ASSERT_EQ(1, ring_arm(&other, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_CLOSED(&other, POLL);
	ring_exit(&other);
}

/* All of them at once, and far more than fit into the CQ ring */
TEST_F(ring, many_files)
{
	const int n = 500;
	int i, fd;

	for (i = 0; i < n; i++) {
		fd = eventfd(0, EFD_CLOEXEC);
		ASSERT_EQ(FIRST_FD + i, dup3(fd, FIRST_FD + i, O_CLOEXEC));
		close(fd);
		ASSERT_EQ(1, ring_arm(&self->ring, FIRST_FD + i, EPOLLIN,
				      i + 1));
	}
	EXPECT_EQ(0, sys_close_range(FIRST_FD, FIRST_FD + n - 1));
	EXPECT_TRUE(each_closed_once(&self->ring, n));
}

/* The number belongs to another file, the polls of the old one don't. */
TEST_F(ring, fd_reuse)
{
	int fd = self->pipe[0], new[2];
	struct io_uring_sqe *sqe;
	char c;

	ASSERT_EQ(0, pipe(new));
	ASSERT_EQ(1, ring_arm(&self->ring, fd, EPOLLIN, POLL));
	EXPECT_EQ(0, close(fd));
	ASSERT_EQ(fd, fcntl(new[0], F_DUPFD, fd));
	ASSERT_EQ(1, ring_arm(&self->ring, fd, EPOLLIN, POLL + 1));

	EXPECT_CLOSED(&self->ring, POLL);
	ASSERT_EQ(1, write(new[1], "x", 1));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL + 1, EPOLLIN);
	ASSERT_EQ(1, read(fd, &c, 1));
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
TEST_F(ring, cancel_by_reused_fd)
{
	int fd = self->pipe[0], new[2];
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	unsigned int i, ended = 0;

	ASSERT_EQ(0, pipe(new));
	ASSERT_EQ(1, ring_arm(&self->ring, fd, EPOLLIN, POLL));
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

TEST_F(ring, dup)
{
	int copy = dup(self->pipe[0]);
	char c;

	ASSERT_LE(0, copy);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	ASSERT_EQ(1, read(copy, &c, 1));
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
TEST_F(ring, held_by_read)
{
	struct reader reader = { .fd = self->pipe[0] };

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
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
	EXPECT_CLOSED(&self->ring, POLL);
}

/* A one-shot poll has got it, which ends in io_uring_enter(). */
TEST_F(ring, held_by_request)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	struct ring holder;

	ASSERT_EQ(0, ring_init(&holder, &opts));
	prep_poll(ring_sqe(&holder), self->pipe[0], EPOLLIN, 0, OP);
	ASSERT_EQ(1, ring_submit(&holder));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	EXPECT_EQ(0, ring_wait(&holder, 1));
	EXPECT_CQE(&holder, OP, EPOLLIN, 0);
	EXPECT_CLOSED(&self->ring, POLL);
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

/* Move it to the only slot, and poll it there. */
static int arm_fixed(struct ring *r, int fd)
{
	struct io_uring_sqe *sqe;

	if (sys_io_uring_register(r->fd, IORING_REGISTER_FILES, &fd, 1) ||
	    close(fd))
		return -1;
	sqe = ring_sqe(r);
	prep_level(sqe, 0, EPOLLIN, POLL);
	sqe->flags = IOSQE_FIXED_FILE;
	return ring_submit(r);
}

TEST_F(ring, fixed_cleared)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(ring, fixed_replaced)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, self->pipe[0]));
	EXPECT_EQ(1, set_slot(&self->ring, self->pipe[1]));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(ring, fixed_unregistered)
{
	ASSERT_EQ(1, arm_fixed(&self->ring, self->pipe[0]));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, sys_io_uring_register(self->ring.fd,
					   IORING_UNREGISTER_FILES, NULL, 0));
	EXPECT_CLOSED(&self->ring, POLL);
	EXPECT_TRUE(file_events(self->pipe[1], 0, 0) & POLLERR);
}

TEST_F(ring, fixed_by_op_close)
{
	struct io_uring_sqe *sqe;

	ASSERT_EQ(1, arm_fixed(&self->ring, self->pipe[0]));
	sqe = ring_sqe(&self->ring);
	prep_close(sqe, 0);
	sqe->file_index = 1;
	ASSERT_EQ(1, ring_submit(&self->ring));
	EXPECT_TRUE(op_and_closed(&self->ring, &self->ring));
}

/* The fd and the slot are copies of each other. */
TEST_F(ring, fixed_and_fd)
{
	int copy = dup(self->pipe[0]);

	ASSERT_LE(0, copy);
	ASSERT_EQ(1, arm_fixed(&self->ring, self->pipe[0]));
	ASSERT_EQ(1, ring_arm(&self->ring, copy, EPOLLIN, POLL + 1));
	EXPECT_EQ(1, set_slot(&self->ring, -1));
	EXPECT_SILENT(&self->ring);
	EXPECT_EQ(0, close(copy));
	EXPECT_TRUE(each_closed_once(&self->ring, 2));
}

/*
 * A ring that never enters the kernel doesn't keep the other end waiting
 */

TEST_F(ring, peer_of_pipe_reader)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
	EXPECT_EQ(-1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(EPIPE, errno);
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, peer_of_pipe_writer)
{
	char c;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[1], EPOLLOUT, POLL));
	EXPECT_EQ(0, file_events(self->pipe[0], POLLIN, 0));
	EXPECT_EQ(0, close(self->pipe[1]));
	EXPECT_EQ(POLLHUP, file_events(self->pipe[0], POLLIN, 0));
	EXPECT_EQ(0, read(self->pipe[0], &c, 1));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, peer_of_socketpair)
{
	int sk[2];
	char c;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	ASSERT_EQ(1, ring_arm(&self->ring, sk[0], EPOLLIN, POLL));
	EXPECT_EQ(0, file_events(sk[1], POLLIN, 0));
	EXPECT_EQ(0, close(sk[0]));
	EXPECT_EQ(POLLIN | POLLHUP, file_events(sk[1], POLLIN, 0));
	EXPECT_EQ(0, read(sk[1], &c, 1));
	EXPECT_CLOSED(&self->ring, POLL);
}

TEST_F(ring, peer_of_tcp)
{
	int sk[2];
	char c;

	ASSERT_EQ(0, tcp_pair(sk));
	ASSERT_EQ(1, ring_arm(&self->ring, sk[0], EPOLLIN, POLL));
	EXPECT_EQ(0, file_events(sk[1], POLLIN, 0));
	EXPECT_EQ(0, close(sk[0]));
	EXPECT_EQ(POLLIN, file_events(sk[1], POLLIN, RING_SOON_MS));
	EXPECT_EQ(0, read(sk[1], &c, 1));
	EXPECT_CLOSED(&self->ring, POLL);
}

/*
 * The ring goes first
 */

TEST_F(ring, ring_exit)
{
	struct ring r;
	char c;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(1, ring_arm(&r, self->pipe[0], EPOLLIN, POLL));
	ring_exit(&r);
	EXPECT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, read(self->pipe[0], &c, 1));
	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, 0));
}

/* The slots go with it, the file goes with its slot. */
TEST_F(ring, ring_exit_fixed)
{
	struct ring r;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(1, arm_fixed(&r, self->pipe[0]));
	EXPECT_EQ(0, file_events(self->pipe[1], 0, 0));
	ring_exit(&r);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

/* Rings that poll themselves go away. Their fixed file tells. */
TEST_F(ring, ring_exit_polls_itself)
{
	struct ring r;

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(1, arm_fixed(&r, self->pipe[0]));
	ASSERT_EQ(1, ring_arm(&r, r.fd, EPOLLIN, POLL + 1));
	ring_exit(&r);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
}

/* ... or each other */
TEST_F(ring, ring_exit_polled)
{
	struct ring a, b;

	ASSERT_EQ(0, ring_init(&a, &variant->ring));
	ASSERT_EQ(0, ring_init(&b, &variant->ring));
	ASSERT_EQ(1, arm_fixed(&a, self->pipe[0]));
	ASSERT_EQ(1, ring_arm(&a, b.fd, EPOLLIN, POLL + 1));
	ASSERT_EQ(1, ring_arm(&b, a.fd, EPOLLIN, POLL));
	ring_exit(&a);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_CLOSED(&b, POLL);
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
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(process, plain) {
	.ring.flags = 0,
};

FIXTURE_VARIANT_ADD(process, defer_taskrun) {
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(process, sqpoll) {
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(process)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&self->ring, &variant->ring));
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(self->go, O_CLOEXEC));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				self->sk));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, POLL));
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
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	EXPECT_EQ(0, close(self->go[1]));
	EXPECT_EQ(0, exit_code(child));
	EXPECT_CLOSED(&self->ring, POLL);
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
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, POLL, EPOLLIN);
	fd = recv_fd(self->sk[1]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, close(fd));
	EXPECT_CLOSED(&self->ring, POLL);
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

/* As many as we are allowed to have, closed by the exit of the last owner */
TEST_F(process, many_files)
{
	struct rlimit lim;
	int i, n, fd;
	pid_t child;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &lim));
	if (lim.rlim_max < 10000 + FIRST_FD)
		lim.rlim_max = 10000 + FIRST_FD;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &lim));
	n = lim.rlim_cur < 10000 + FIRST_FD ? lim.rlim_cur - FIRST_FD : 10000;
	ASSERT_LT(FIRST_FD, n);

	EXPECT_EQ(0, close(self->pipe[0]));
	EXPECT_CLOSED(&self->ring, POLL);
	for (i = 0; i < n; i++) {
		fd = eventfd(0, EFD_CLOEXEC);
		ASSERT_EQ(FIRST_FD + i, dup3(fd, FIRST_FD + i, O_CLOEXEC));
		close(fd);
		prep_level(ring_sqe(&self->ring), FIRST_FD + i, EPOLLIN, i + 1);
		if (i % BATCH == BATCH - 1 || i == n - 1)
			ASSERT_EQ(i % BATCH + 1, ring_submit(&self->ring));
	}
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
	EXPECT_TRUE(each_closed_once(&self->ring, n));
}

int main(int argc, char **argv)
{
	char c;

	/* what the exec test executes: nothing, until it's told to exit */
	if (argc == 2 && !strcmp(argv[1], "--wait"))
		return read(STDIN_FILENO, &c, 1) ? 1 : 0;
	return test_harness_run(argc, argv);
}
