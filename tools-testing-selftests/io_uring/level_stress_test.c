// SPDX-License-Identifier: GPL-2.0
/*
 * Races of wake-ups and level triggered polls. Whoever wins, afterwards
 * - each request has got exactly one CQE without F_MORE, and none after it,
 * - there never were two unconsumed CQEs of one poll,
 * - a poll is reported if its file is ready, no wake-up was lost.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#define DEFAULT_COUNT	200
#include "stress.h"

/* The first request is a poll, and its file is ready. */
static bool reported(struct stress *s)
{
	unsigned int before;

	collect(s);
	before = s->events[0];
	if (ring_wait(&s->ring, 1))
		return false;
	collect(s);
	return s->events[0] == before + 1 && !s->final[0] && !s->broken;
}

FIXTURE(stress)
{
	struct stress s;
};

FIXTURE_VARIANT(stress)
{
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(stress, plain) {
	.ring.flags = 0,
};

FIXTURE_VARIANT_ADD(stress, coop_taskrun_flag) {
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(stress, defer_taskrun) {
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(stress, sqpoll) {
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(stress)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, stress_init(&self->s, &variant->ring, POLL_LEVEL));
}

FIXTURE_TEARDOWN(stress)
{
	stress_exit(&self->s);
}

/*
 * Wake-ups. The poll stays the same all the time, and at the end of each round
 * there's one byte to be read.
 */

static bool byte_read(int fd)
{
	char c;

	return read(fd, &c, 1) == 1;
}

/* It's about to go idle, or it sleeps. */
TEST_F_TIMEOUT(stress, wake, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	begin(s, 0);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(1, submit_poll(s, p[0], EPOLLIN, 0));
	ASSERT_EQ(1, write(p[1], "x", 1));
	for (s->round = 0; s->round < 5 * s->count; s->round++) {
		CHECK(reported(s));
		CHECK(byte_read(p[0]));
		start(s, 0, OP_WRITE, p[1]);
		dawdle(s);
		CHECK(!(pick(s, 2) ? ring_harvest(&s->ring) :
				     ring_wait(&s->ring, 1)));
		collect(s);
		CHECK(finish(s));
	}
	CHECK(reported(s));
}

/* Two files: one of them goes idle, the other one gets ready. */
TEST_F_TIMEOUT(stress, wake_other, TIMEOUT)
{
	struct stress *s = &self->s;
	unsigned int i;
	int p[2][2];

	begin(s, 0);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pipe2(p[i], O_CLOEXEC));
		ASSERT_EQ(1, submit_poll(s, p[i][0], EPOLLIN, 0));
	}
	for (s->round = 0; s->round < 5 * s->count; s->round++) {
		for (i = 0; i < 2; i++) {
			s->events[i] = 0;
			start(s, i, OP_WRITE, p[i][1]);
		}
		dawdle(s);
		while (!s->events[0] || !s->events[1]) {
			CHECK(!ring_wait(&s->ring, 1));
			collect(s);
			CHECK(!s->broken);
		}
		CHECK(finish(s));
		CHECK(byte_read(p[0][0]) && byte_read(p[1][0]));
		if (pick(s, 2))
			ring_harvest(&s->ring);
		collect(s);
	}
}

/* It gets ready as the time is over for which there have to be two. */
TEST_F_TIMEOUT(stress, wake_min_wait, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	begin(s, 0);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(1, submit_poll(s, p[0], EPOLLIN, 0));
	for (s->round = 0; s->round < s->count; s->round++) {
		s->events[0] = 0;
		start_late(s, 0, OP_WRITE, p[1], 128 * MAX_DELAY);
		CHECK(!ring_wait_min(&s->ring, 2, 1 + pick(s, 500)));
		collect(s);
		CHECK(s->events[0] == 1 && !s->broken);
		CHECK(finish(s));
		CHECK(byte_read(p[0]) && !ring_harvest_count(&s->ring));
	}
}

TEST_F_TIMEOUT(stress, wake_update, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	begin(s, 0);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(1, submit_poll(s, p[0], EPOLLIN, 0));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 1);
		CHECK(submit_update(s, EPOLLOUT) == 1 && settle(s, 1));
		start(s, 0, OP_WRITE, p[1]);
		dawdle(s);
		CHECK(submit_update(s, EPOLLIN) == 1 && settle(s, 1));
		CHECK(finish(s));
		CHECK(!s->res[1] && !s->res[2]);
		CHECK(reported(s));
		CHECK(byte_read(p[0]));
	}
}

TEST_F_TIMEOUT(stress, wake_cancel, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC | O_NONBLOCK));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(submit_poll(s, p[0], EPOLLIN, 0) == 1);
		start(s, 0, OP_WRITE, p[1]);
		start_any(s, 1, p[1]);
		dawdle(s);
		if (pick(s, 2))
			ring_harvest(&s->ring);
		CHECK((pick(s, 2) ? submit_cancel(s, 0) : submit_remove(s)) ==
		      1);
		CHECK(settle(s, 0));
		CHECK(finish(s));
		CHECK(s->res[0] == -ECANCELED && !s->res[1]);
		while (byte_read(p[0]))
			;
	}
}

/* It's reported before who wakes it has said that there is something to report. */
TEST_F_TIMEOUT(stress, wake_taskrun, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	begin(s, 0);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(1, submit_poll(s, p[0], EPOLLIN, 0));
	for (s->round = 0; s->round < 5 * s->count; s->round++) {
		s->events[0] = 0;
		start(s, 0, OP_WRITE, p[1]);
		while (!s->events[0]) {
			CHECK(!ring_harvest(&s->ring));
			collect(s);
			CHECK(!s->broken);
		}
		CHECK(byte_read(p[0]) && !ring_harvest_count(&s->ring));
		CHECK(finish(s));
		CHECK(!ring_harvest_count(&s->ring));
		CHECK(!ring_taskrun(&s->ring));
	}
}

/* Armed by a worker, while it gets ready. */
TEST_F_TIMEOUT(stress, wake_async_arm, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		start(s, 0, OP_WRITE, p[1]);
		dawdle(s);
		CHECK(submit_poll(s, p[0], EPOLLIN, IOSQE_ASYNC) == 1);
		CHECK(reported(s));
		CHECK(finish(s));
		CHECK(byte_read(p[0]));
		CHECK(submit_remove(s) == 1 && settle(s, 0));
		CHECK(s->res[0] == -ECANCELED && !s->res[1]);
	}
}

/* Armed by a worker, and updated as soon as it's found. */
TEST_F_TIMEOUT(stress, update_async_arm, TIMEOUT)
{
	struct stress *s = &self->s;
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(1, write(p[1], "x", 1));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(submit_poll(s, p[0], EPOLLOUT, IOSQE_ASYNC) == 1);
		do {
			begin(s, 1);
			CHECK(submit_update(s, EPOLLIN) == 1 && settle(s, 1));
		} while (s->res[1] == -ENOENT || s->res[1] == -EALREADY);
		CHECK(!s->res[1]);
		CHECK(reported(s));
		CHECK(submit_remove(s) == 1 && settle(s, 0));
		CHECK(s->res[0] == -ECANCELED && !s->res[2]);
	}
}

/* IORING_REGISTER_RESIZE_RINGS is for this kind of ring. */
TEST(wake_resize)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	struct stress stress = {}, *s = &stress;
	unsigned int entries;
	int p[2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, stress_init(s, &opts, POLL_LEVEL));
	begin(s, 0);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(1, submit_poll(s, p[0], EPOLLIN, 0));
	ASSERT_EQ(1, write(p[1], "x", 1));
	for (s->round = 0; s->round < s->count; s->round++) {
		CHECK(reported(s));
		if (pick(s, 2))
			CHECK(ring_harvest_count(&s->ring) == 1);
		CHECK(byte_read(p[0]));
		start(s, 0, OP_WRITE, p[1]);
		dawdle(s);
		entries = 1 << pick(s, 7);
		CHECK(!ring_resize(&s->ring, entries, 2 * entries));
		CHECK(!ring_harvest(&s->ring));
		collect(s);
		CHECK(finish(s));
	}
	CHECK(reported(s));
	stress_exit(s);
}

TEST_HARNESS_MAIN
