// SPDX-License-Identifier: GPL-2.0
/*
 * IORING_OP_POLL_REMOVE with IORING_POLL_UPDATE_EVENTS and
 * IORING_POLL_UPDATE_USER_DATA: another mask or user_data in place, whatever
 * state a level triggered poll is in
 */
#include <pthread.h>
#include <sys/socket.h>

#include "kselftest_harness.h"
#include "ring_fixture.h"

/* user_data of the update, the polls have got small ones */
#define UPDATE		1000

#define EVENTS		IORING_POLL_UPDATE_EVENTS
#define USER_DATA	IORING_POLL_UPDATE_USER_DATA

static int update(struct ring *r, __u64 target, unsigned int flags,
		  __u32 mask, __u64 user_data)
{
	prep_poll_update(ring_sqe(r), target, flags, mask, user_data, UPDATE);
	return ring_submit(r);
}

static int set_mask(struct ring *r, __u64 target, __u32 mask)
{
	return update(r, target, POLL_LEVEL | EVENTS, mask, 0);
}

static int set_user_data(struct ring *r, __u64 target, __u64 user_data)
{
	return update(r, target, POLL_LEVEL | USER_DATA, 0, user_data);
}

#define EXPECT_UPDATED(r, res)	EXPECT_CQE(r, UPDATE, res, 0)

TEST_F(ring, mask_of_idle)
{
	struct ring *r = &self->ring;
	int sv[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLIN, 1));
	EXPECT_SILENT(r);

	/* ready for that, though nothing has happened to the file */
	ASSERT_EQ(1, set_mask(r, 1, EPOLLOUT));
	EXPECT_UPDATED(r, 0);
	EXPECT_TRUE(ring_taskrun(r));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLOUT);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLOUT);

	ASSERT_EQ(1, set_mask(r, 1, EPOLLIN));
	EXPECT_UPDATED(r, 0);
	EXPECT_SILENT(r);
	feed(sv[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	ASSERT_EQ(1, set_mask(r, 1, EPOLLIN | EPOLLOUT));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN | EPOLLOUT);
}

TEST_F(ring, mask_of_ready)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	ASSERT_EQ(1, set_mask(r, 1, EPOLLPRI));
	EXPECT_UPDATED(r, 0);
	EXPECT_SILENT(r);
	ASSERT_EQ(1, set_mask(r, 1, EPOLLPRI | EPOLLRDNORM));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLRDNORM);
}

TEST_F(ring, mask_of_reported)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	ASSERT_EQ(1, set_mask(r, 1, EPOLLIN | EPOLLRDNORM));
	/* still one, and the one it was */
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));

	ASSERT_EQ(1, set_mask(r, 1, EPOLLPRI));
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN | EPOLLRDNORM);
	EXPECT_UPDATED(r, 0);
	EXPECT_SILENT(r);
}

TEST_F(ring, mask_of_reported_and_consumed)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	ASSERT_EQ(1, set_mask(r, 1, EPOLLIN | EPOLLRDNORM));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN | EPOLLRDNORM);
	drain(self->pipe[0]);
	EXPECT_SILENT(r);
}

TEST_F(ring, user_data_of_idle)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, set_user_data(r, 1, ~0ULL));
	EXPECT_UPDATED(r, 0);
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, ~0ULL, EPOLLIN);
}

TEST_F(ring, user_data_of_ready)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	ASSERT_EQ(1, set_user_data(r, 1, 2));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

TEST_F(ring, user_data_of_reported)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	ASSERT_EQ(1, set_user_data(r, 1, 2));
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);

	/* consumed, but nobody has looked at it since then */
	ASSERT_EQ(1, set_user_data(r, 2, 3));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 3, EPOLLIN);
}

TEST_F(ring, both)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLPRI, 1));
	feed(self->pipe[1]);
	EXPECT_SILENT(r);
	ASSERT_EQ(1, update(r, 1, POLL_LEVEL | EVENTS | USER_DATA, EPOLLIN,
			    2));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

TEST_F(ring, keeps_turn)
{
	struct ring *r = &self->ring;
	int p[3][2];
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(r, p[i][0], EPOLLIN, i));
		feed(p[i][1]);
	}
	ASSERT_EQ(0, ring_set_cap(r, 1));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 0, EPOLLIN);

	/* 1 and 2 are next */
	ASSERT_EQ(1, set_user_data(r, 1, 11));
	EXPECT_UPDATED(r, 0);
	ASSERT_EQ(1, set_mask(r, 0, EPOLLIN | EPOLLPRI));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 11, EPOLLIN);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 0, EPOLLIN);
}

/* That it's level triggered needn't be said again, and can't be changed. */
TEST_F(ring, keeps_kind)
{
	const unsigned int flags[] = {
		0,
		IORING_POLL_ADD_MULTI,
		POLL_LEVEL,
	};
	struct ring *r = &self->ring;
	unsigned int i, n;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_EQ(1, update(r, 1, flags[i] | EVENTS | USER_DATA,
				    EPOLLIN | EPOLLPRI, 1));
		EXPECT_UPDATED(r, 0);
		for (n = 0; n < 3; n++) {
			EXPECT_EQ(1, ring_harvest_count(r));
			EXPECT_LEVEL(r, 1, EPOLLIN);
		}
	}
}

TEST_F(ring, keeps_kind_of_edge_triggered)
{
	struct ring *r = &self->ring;

	prep_poll(ring_sqe(r), self->pipe[0], EPOLLPRI, IORING_POLL_ADD_MULTI,
		  1);
	ASSERT_EQ(1, ring_submit(r));
	ASSERT_EQ(1, set_mask(r, 1, EPOLLIN));
	EXPECT_UPDATED(r, 0);
	feed(self->pipe[1]);
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_EQ(1U, ring_cq_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_SILENT(r);
}

TEST_F(ring, err_and_hup_unasked)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, set_mask(r, 1, 0));
	EXPECT_UPDATED(r, 0);
	feed(self->pipe[1]);
	EXPECT_SILENT(r);
	ASSERT_EQ(0, close(self->pipe[1]));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLHUP);
}

TEST_F(ring, rdhup_if_asked_for)
{
	struct ring *r = &self->ring;
	int sv[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLIN, 1));
	ASSERT_EQ(1, set_mask(r, 1, EPOLLPRI));
	EXPECT_UPDATED(r, 0);
	ASSERT_EQ(0, shutdown(sv[1], SHUT_WR));
	EXPECT_SILENT(r);
	ASSERT_EQ(1, set_mask(r, 1, EPOLLRDHUP));
	EXPECT_UPDATED(r, 0);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLRDHUP);
}

static const struct {
	const char *what;
	unsigned int flags;
	__u32 mask;
	__u64 user_data;
} refused[] = {
	{ "level, not an update", .flags = IORING_POLL_ADD_LEVEL },
	{ "multi, not an update", .flags = IORING_POLL_ADD_MULTI },
	{ "both, not an update", .flags = POLL_LEVEL },
	{ "level without multi", .flags = IORING_POLL_ADD_LEVEL | EVENTS },
	{ "level without multi", .flags = IORING_POLL_ADD_LEVEL | USER_DATA },
	{ "unknown flag", .flags = POLL_LEVEL | EVENTS | 1U << 4 },
	{ "unused mask", .flags = POLL_LEVEL | USER_DATA, .mask = EPOLLIN },
	{ "unused user data", .flags = POLL_LEVEL | EVENTS, .user_data = 1 },
};

TEST_F(ring, refused)
{
	struct ring *r = &self->ring;
	unsigned int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		ASSERT_EQ(1, update(r, 1, refused[i].flags, refused[i].mask,
				    refused[i].user_data));
		EXPECT_EQ(1, ring_harvest_count(r)) {
			TH_LOG("%s", refused[i].what);
		}
		EXPECT_UPDATED(r, -EINVAL);
	}

	/* the poll is as it was */
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

TEST_F(ring, not_found)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, set_mask(r, 2, EPOLLIN));
	EXPECT_UPDATED(r, -ENOENT);

	ASSERT_EQ(1, set_user_data(r, 1, 2));
	EXPECT_UPDATED(r, 0);
	ASSERT_EQ(1, set_user_data(r, 1, 3));
	EXPECT_UPDATED(r, -ENOENT);
	prep_poll_remove(ring_sqe(r), 1, 4);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_CQE(r, 4, -ENOENT, 0);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

/* Two CQEs, in whatever order: the poll's last one, and that of the update */
static void expect_too_late(struct __test_metadata *_metadata, struct ring *r)
{
	struct io_uring_cqe cqe;
	unsigned int seen = 0;

	EXPECT_EQ(0, ring_wait(r, 2));
	while (ring_pop(r, &cqe)) {
		EXPECT_EQ(0U, cqe.flags);
		if (cqe.user_data == 1) {
			EXPECT_EQ(-ECANCELED, cqe.res);
			seen |= 1;
		} else {
			EXPECT_EQ((__u64)UPDATE, cqe.user_data);
			EXPECT_TRUE(cqe.res == -EALREADY ||
				    cqe.res == -ENOENT) {
				TH_LOG("%d", cqe.res);
			}
			seen |= 2;
		}
	}
	EXPECT_EQ(3U, seen);
	EXPECT_SILENT(r);
}

TEST_F(ring, closed)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(0, close(self->pipe[0]));
	ASSERT_EQ(1, update(r, 1, POLL_LEVEL | EVENTS | USER_DATA, EPOLLPRI,
			    2));
	expect_too_late(_metadata, r);
	ASSERT_EQ(1, set_mask(r, 1, EPOLLIN));
	EXPECT_UPDATED(r, -ENOENT);
}

TEST_F(ring, cancelled)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	prep_cancel(ring_sqe(r), 1, 0, 3);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 1));
	/* that of the cancellation comes first, it's issued right there */
	EXPECT_CQE(r, 3, 0, 0);
	ASSERT_EQ(1, update(r, 1, POLL_LEVEL | EVENTS | USER_DATA, EPOLLPRI,
			    2));
	expect_too_late(_metadata, r);
}

TEST_F(ring, then_removed)
{
	struct ring *r = &self->ring;

	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	ASSERT_EQ(1, set_user_data(r, 1, 2));
	EXPECT_UPDATED(r, 0);
	prep_poll_remove(ring_sqe(r), 2, 3);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_CQE(r, 3, 0, 0);
	EXPECT_CQE(r, 2, -ECANCELED, 0);
	EXPECT_SILENT(r);
}

struct waiter {
	struct ring *ring;
	pid_t tid;
	int ret;
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;

	ring_store(&w->tid, syscall(__NR_gettid));
	/* for as long as it takes: when a wait times out, it looks at polls too */
	w->ret = ring_enter(w->ring, 1);
	return NULL;
}

/* It's ready all at once, and somebody has been waiting for that. */
TEST(wakes_up_who_waits)
{
	const unsigned int flags[] = {
		IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_SQPOLL,
		IORING_SETUP_CQE32,
		0,
	};
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		struct ring_opts opts = { .flags = flags[i] };
		struct io_uring_sqe *sqe;
		struct waiter w = {};
		pthread_t thread;
		struct ring r;
		int sv[2];

		ASSERT_EQ(0, ring_init(&r, &opts));
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
		ASSERT_EQ(1, ring_arm(&r, sv[0], EPOLLIN, 1));
		w.ring = &r;
		ASSERT_EQ(0, pthread_create(&thread, NULL, waiter_thread, &w));
		while (!ring_load(&w.tid))
			sched_yield();
		wait_asleep(w.tid);

		/* no CQE of its own, that would be enough to wake it up */
		sqe = ring_sqe(&r);
		prep_poll_update(sqe, 1, POLL_LEVEL | EVENTS, EPOLLOUT, 0,
				 UPDATE);
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
		ASSERT_EQ(1, ring_submit(&r));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, w.ret);
		EXPECT_LEVEL(&r, 1, EPOLLOUT);
		ring_exit(&r);
	}
}

TEST_HARNESS_MAIN
