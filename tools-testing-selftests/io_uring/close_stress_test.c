// SPDX-License-Identifier: GPL-2.0
/*
 * Races of close() and polls that don't hold their file. Whoever wins, afterwards
 * - each request has got exactly one CQE without F_MORE, and none after it,
 * - a poll has ended, a file that has been closed is gone, its other end knows.
 */
#define _GNU_SOURCE
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#include "files.h"
#define DEFAULT_COUNT	100
#include "stress.h"

#define SLOT	1	/* of two registered files */

/* The other end of a pipe is closed. It may take a worker to do that. */
static bool released(int writer)
{
	bool ret = file_events(writer, 0, RING_SOON_MS) & POLLERR;

	close(writer);
	return ret;
}

/*
 * A pipe whose reader is polled: idle, ready, reported, or that and consumed. It may
 * be one that writes as well, and has two wait queues.
 */
static int polled_pipe(struct stress *s, int p[2])
{
	unsigned int state = pick(s, 4);

	begin(s, 0);
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) ||
	    (pick(s, 2) && both_ways(&p[0])) ||
	    submit_poll(s, p[0], EPOLLIN, 0) != 1)
		return -1;
	if (state > 0 && write(p[1], "x", 1) != 1)
		return -1;
	if (state > 1 && ring_wait(&s->ring, 1))
		return -1;
	if (state > 2)
		collect(s);
	return 0;
}

/* What those may come to while the poll is being closed */
static bool may_be(int res)
{
	return !res || res == -ENOENT || res == -EALREADY;
}

/* By the close, or by an event that was first */
static bool ended(const struct stress *s, unsigned int i)
{
	return s->res[i] == -ECANCELED ||
	       (!(s->flags & IORING_POLL_ADD_MULTI) && s->res[i] > 0);
}

FIXTURE(stress)
{
	struct stress s;
};

FIXTURE_VARIANT(stress)
{
	unsigned int flags;
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(stress, oneshot_plain) {
	.flags = POLL_ONESHOT,
};

FIXTURE_VARIANT_ADD(stress, oneshot_coop_taskrun_flag) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(stress, oneshot_defer_taskrun) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(stress, oneshot_sqpoll) {
	.flags = POLL_ONESHOT,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(stress, edge_plain) {
	.flags = POLL_EDGE,
};

FIXTURE_VARIANT_ADD(stress, edge_coop_taskrun_flag) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(stress, edge_defer_taskrun) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(stress, edge_sqpoll) {
	.flags = POLL_EDGE,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(stress, level_plain) {
	.flags = POLL_LEVEL,
};

FIXTURE_VARIANT_ADD(stress, level_coop_taskrun_flag) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(stress, level_defer_taskrun) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(stress, level_sqpoll) {
	.flags = POLL_LEVEL,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(stress)
{
	if (!ring_has_kind(variant->flags))
		SKIP(return, "not supported");
	ASSERT_EQ(0, stress_init(&self->s, &variant->ring, variant->flags));
}

FIXTURE_TEARDOWN(stress)
{
	stress_exit(&self->s);
}

TEST_F_TIMEOUT(stress, close_wait, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && released(p[1]));
	}
}

/* Two copies, whose close is the last one? */
TEST_F_TIMEOUT(stress, close_close, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		start(s, 0, OP_CLOSE, dup(p[0]));
		start_any(s, 1, p[1]);
		dawdle(s);
		close(p[0]);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && released(p[1]));
	}
}

TEST_F_TIMEOUT(stress, close_cancel, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(submit_cancel(s, 0) == 1 && settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && may_be(s->res[1]));
		CHECK(released(p[1]));
	}
}

/* The wait queue goes away with the file. */
TEST_F_TIMEOUT(stress, close_own_queue, TIMEOUT)
{
	struct stress *s = &self->s;
	int fd;

	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		fd = eventfd(pick(s, 2), EFD_CLOEXEC | EFD_NONBLOCK);
		CHECK(submit_poll(s, fd, EPOLLIN, 0) == 1);
		start(s, 0, OP_CLOSE, fd);
		dawdle(s);
		CHECK(pick(s, 2) || submit_cancel(s, 0) == 1);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && may_be(s->res[1]));
	}
}

TEST_F_TIMEOUT(stress, close_cancel_all, TIMEOUT)
{
	static const __u32 mask[] = { EPOLLIN, EPOLLOUT, 0 };
	struct stress *s = &self->s;
	unsigned int i;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		for (i = 0; i < ARRAY_SIZE(mask); i++)
			CHECK(submit_poll(s, p[0], mask[i], 0) == 1);
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(submit_cancel(s, IORING_ASYNC_CANCEL_ANY |
				       IORING_ASYNC_CANCEL_ALL) == 1);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		for (i = 0; i <= ARRAY_SIZE(mask); i++)
			CHECK(ended(s, i));
		CHECK(released(p[1]));
	}
}

TEST_F_TIMEOUT(stress, close_remove, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(submit_remove(s) == 1 && settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && may_be(s->res[1]));
		CHECK(released(p[1]));
	}
}

TEST_F_TIMEOUT(stress, close_update, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(submit_update(s, pick(s, 2) ? EPOLLIN : EPOLLOUT) == 1);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && may_be(s->res[1]));
		CHECK(released(p[1]));
	}
}

/* A worker removes the poll as its time is over. */
TEST_F_TIMEOUT(stress, close_timeout_remove, TIMEOUT)
{
	struct __kernel_timespec ts = {};
	struct stress *s = &self->s;
	struct io_uring_sqe *sqe;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(!pipe2(p, O_CLOEXEC | O_NONBLOCK));
		ts.tv_nsec = 1 + pick(s, 1000000);
		sqe = ring_sqe(&s->ring);
		prep_poll(sqe, p[0], EPOLLIN, s->flags, s->base + s->n++);
		sqe->flags = IOSQE_IO_LINK;
		prep_link_timeout(ring_sqe(&s->ring), &ts, s->base + s->n++);
		sqe = ring_sqe(&s->ring);
		prep_poll_remove(sqe, s->base, s->base + s->n++);
		sqe->flags = IOSQE_ASYNC;
		CHECK(ring_submit(&s->ring) == 3);
		start(s, 0, OP_CLOSE, p[0]);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(s->res[0] == -ECANCELED);
		CHECK(s->res[1] < 0 && may_be(s->res[2]));
		CHECK(released(p[1]));
	}
}

/*
 * The number and the memory of the file are used again, by one that's ready. The poll
 * is none of that one, even if the ring still has to look at it.
 */
TEST_F_TIMEOUT(stress, close_replace, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(!pipe2(p, O_CLOEXEC));
		CHECK(submit_poll(s, p[0], EPOLLIN, 0) == 1);
		/* others would have been told of that event */
		if (s->flags == POLL_LEVEL) {
			feed(p[1]);
			drain(p[0]);
		}
		start_late(s, 0, OP_REPLACE, p[0], MAX_DELAY / 4);
		if (pick(s, 2))
			CHECK(submit_update(s, EPOLLIN) == 1);
		while (!s->final[0] && !s->broken) {
			ring_harvest(&s->ring);
			collect(s);
		}
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(!s->events[0] && s->res[0] == -ECANCELED);
		CHECK(may_be(s->res[1]) && released(p[1]));
	}
}

/* By the file, if that is still there */
TEST_F_TIMEOUT(stress, close_cancel_fd, TIMEOUT)
{
	struct stress *s = &self->s;
	struct io_uring_sqe *sqe;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(!polled_pipe(s, p));
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		sqe = ring_sqe(&s->ring);
		prep_cancel(sqe, 0, IORING_ASYNC_CANCEL_FD,
			    s->base + s->n++);
		sqe->fd = p[0];
		CHECK(ring_submit(&s->ring) == 1 && settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && (may_be(s->res[1]) ||
				      s->res[1] == -EBADF));
		CHECK(released(p[1]));
	}
}

/*
 * inotify doesn't tell what it wakes for: the poll asks the file, a one-shot one is
 * armed anew, while that goes away.
 */
TEST_F_TIMEOUT(stress, close_woken_for_nothing, TIMEOUT)
{
	struct stress *s = &self->s;
	int fd;

	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		fd = inotify_init1(IN_CLOEXEC);
		CHECK(inotify_add_watch(fd, STRESS_TOUCHED, IN_OPEN) > 0);
		CHECK(submit_poll(s, fd, EPOLLPRI, 0) == 1);
		start(s, 0, OP_TOUCH, -1);
		start(s, 1, OP_CLOSE, fd);
		dawdle(s);
		switch (pick(s, 3)) {
		case 0:
			ring_harvest(&s->ring);
			break;
		case 1:
			CHECK(submit_update(s, EPOLLERR) == 1);
			break;
		}
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(s->res[0] == -ECANCELED && may_be(s->res[1]));
	}
}

/* A worker arms the poll, if it still finds the file. */
TEST_F_TIMEOUT(stress, close_async_arm, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(!pipe2(p, O_CLOEXEC));
		CHECK(submit_poll(s, p[0], EPOLLIN, IOSQE_ASYNC) == 1);
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		if (pick(s, 2))
			CHECK(submit_cancel(s, 0) == 1);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) || s->res[0] == -EBADF);
		CHECK(may_be(s->res[1]));
		CHECK(ring_wait_released(&s->ring, p[1]) && released(p[1]));
	}
}

static int add_slots(struct ring *r)
{
	int slot[2] = { -1, -1 };

	return sys_io_uring_register(r->fd, IORING_REGISTER_FILES, slot, 2);
}

static bool set_slot(struct ring *r, int fd)
{
	struct io_uring_files_update up = {
		.offset = SLOT,
		.fds = (uintptr_t)&fd,
	};

	return sys_io_uring_register(r->fd, IORING_REGISTER_FILES_UPDATE, &up,
				     1) == 1;
}

/* Take it out of its slot, which is the last reference. */
TEST_F_TIMEOUT(stress, fixed, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	ASSERT_EQ(0, add_slots(&s->ring));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(!pipe2(p, O_CLOEXEC));
		CHECK(set_slot(&s->ring, p[0]));
		CHECK(submit_poll(s, SLOT, EPOLLIN, IOSQE_FIXED_FILE) == 1);
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		if (pick(s, 2))
			ring_harvest(&s->ring);
		CHECK(set_slot(&s->ring, -1));
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(ended(s, 0) && released(p[1]));
	}
}

/*
 * The same while workers arm the polls, if they still find the file. It takes the
 * task of a DEFER_TASKRUN ring to finish that.
 */
TEST_F_TIMEOUT(stress, fixed_async_arm, TIMEOUT)
{
	const unsigned int polls = 4;
	struct stress *s = &self->s;
	unsigned int i;
	int p[2];

	ASSERT_EQ(0, add_slots(&s->ring));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(!pipe2(p, O_CLOEXEC));
		CHECK(set_slot(&s->ring, p[0]));
		for (i = 0; i < polls; i++)
			CHECK(submit_poll(s, SLOT, EPOLLIN, IOSQE_FIXED_FILE |
							    IOSQE_ASYNC) == 1);
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		switch (pick(s, 4)) {
		case 0:
			ring_harvest(&s->ring);
			break;
		case 1:
			CHECK(submit_cancel(s, 0) == 1);
			break;
		case 2:
			CHECK(submit_remove(s) == 1);
			break;
		}
		CHECK(set_slot(&s->ring, -1));
		CHECK(settle(s, 0));
		CHECK(finish(s));
		for (i = 0; i < polls; i++)
			CHECK(ended(s, i) || s->res[i] == -EBADF);
		CHECK(may_be(s->res[polls]));
		CHECK(ring_wait_released(&s->ring, p[1]) && released(p[1]));
	}
}

/* A child has a copy, and exits. */
TEST_F_TIMEOUT(stress, close_exit, TIMEOUT)
{
	struct stress *s = &self->s;
	unsigned int turns;
	pid_t child;
	int p[2];

	for (s->round = 0; s->round < s->count / 10; s->round++) {
		CHECK(!polled_pipe(s, p));
		turns = pick(s, MAX_DELAY);
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			delay(turns);
			_exit(0);
		}
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(waitpid(child, NULL, 0) == child);
		CHECK(ended(s, 0) && released(p[1]));
	}
}

/* The ring goes away as well. */
TEST_F_TIMEOUT(stress, close_ring_exit, TIMEOUT)
{
	struct stress *s = &self->s;
	unsigned int i;
	struct ring r;
	int p[2][2];

	for (s->round = 0; s->round < s->count / 5; s->round++) {
		CHECK(!ring_init(&r, &variant->ring));
		for (i = 0; i < 2; i++) {
			CHECK(!pipe2(p[i], O_CLOEXEC));
			CHECK(ring_arm_as(&r, s->flags, p[i][0], EPOLLIN,
					  2 * i) == 1);
			CHECK(ring_arm_as(&r, s->flags, p[i][0], EPOLLOUT,
					  2 * i + 1) == 1);
		}
		CHECK(write(p[1][1], "x", 1) == 1);
		CHECK(pick(s, 2) || !ring_wait(&r, 1));
		start(s, 0, OP_CLOSE, p[0][0]);
		start(s, 1, OP_CLOSE, p[1][0]);
		dawdle(s);
		ring_exit(&r);
		CHECK(finish(s));
		CHECK(released(p[0][1]) && released(p[1][1]));
	}
}

/* A process exits with armed polls while we close what they poll. */
TEST_F_TIMEOUT(stress, close_process_exit, TIMEOUT)
{
	struct stress *s = &self->s;
	unsigned int turns;
	bool closes;
	struct ring r;
	pid_t child;
	int p[2], status;

	for (s->round = 0; s->round < s->count / 10; s->round++) {
		CHECK(!pipe2(p, O_CLOEXEC));
		turns = pick(s, MAX_DELAY);
		closes = pick(s, 2);
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			close(p[1]);
			if (ring_init(&r, &variant->ring) ||
			    ring_arm_as(&r, s->flags, p[0], EPOLLIN, 0) != 1 ||
			    ring_arm_as(&r, s->flags, p[0], EPOLLOUT, 1) != 1)
				_exit(1);
			if (closes)
				close(p[0]);
			delay(turns);
			_exit(0);
		}
		start(s, 0, OP_CLOSE, p[0]);
		start(s, 1, OP_WRITE, p[1]);
		dawdle(s);
		CHECK(finish(s));
		CHECK(waitpid(child, &status, 0) == child && !status);
		CHECK(released(p[1]));
	}
}

TEST_HARNESS_MAIN
