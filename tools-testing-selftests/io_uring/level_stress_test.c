// SPDX-License-Identifier: GPL-2.0
/*
 * Races of level triggered polls: in each round the test does something while
 * two other threads do something else. Whoever wins, afterwards
 * - each request has got exactly one CQE without F_MORE, and none after it,
 * - there never were two unconsumed CQEs of one poll,
 * - a poll is reported if its file is ready, no wake-up was lost,
 * - a file that has been closed is gone, its other end knows.
 *
 * LEVEL_STRESS_SEED and LEVEL_STRESS_COUNT (rounds a test) in the environment
 * override the defaults.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring.h"

#define DEFAULT_SEED	1
#define DEFAULT_COUNT	200
#define TIMEOUT		300	/* seconds */

#define RACERS		2
#define MAX_REQS	8	/* requests a round */
#define MAX_DELAY	16384	/* turns of an empty loop */

enum op {
	OP_QUIT,
	OP_CLOSE,
	OP_WRITE,
	OP_HARVEST,
};

struct racer {
	pthread_t thread;
	struct ring *ring;
	sem_t start;
	sem_t done;
	bool started;
	/* of that round */
	enum op op;
	unsigned int delay;
	int fd;
	bool failed;
};

struct stress {
	struct ring ring;
	struct racer racer[RACERS];
	unsigned int seed;
	unsigned int count;
	unsigned int round;

	/* the user_data of the requests is base + 0, 1, ... n - 1 */
	__u64 base;
	unsigned int n;
	unsigned int events[MAX_REQS];
	bool final[MAX_REQS];
	int res[MAX_REQS];
	bool broken;
};

static void delay(unsigned int turns)
{
	while (turns--)
		__asm__ __volatile__("");
}

static unsigned int pick(struct stress *s, unsigned int n)
{
	return rand_r(&s->seed) % n;
}

static void racer_act(struct racer *r)
{
	switch (r->op) {
	case OP_CLOSE:
		r->failed |= close(r->fd);
		break;
	case OP_WRITE:
		r->failed |= write(r->fd, "x", 1) != 1 && errno != EPIPE &&
			     errno != EAGAIN;
		break;
	default:
		ring_harvest(r->ring);
		break;
	}
}

/*
 * Give those that have been started a chance to be first. It takes a while to
 * wake them, don't spin together with them: that takes far longer if there are
 * not enough CPUs.
 */
static void dawdle(struct stress *s)
{
	delay(pick(s, 8 * MAX_DELAY));
}

static void *racer_thread(void *arg)
{
	struct racer *r = arg;

	for (;;) {
		sem_wait(&r->start);
		if (r->op == OP_QUIT)
			return NULL;
		delay(r->delay);
		racer_act(r);
		sem_post(&r->done);
	}
}

static void start_late(struct stress *s, int i, enum op op, int fd,
		       unsigned int max_delay)
{
	struct racer *r = &s->racer[i];

	r->op = op;
	r->fd = fd;
	r->delay = pick(s, max_delay);
	r->started = true;
	sem_post(&r->start);
}

static void start(struct stress *s, int i, enum op op, int fd)
{
	start_late(s, i, op, fd, MAX_DELAY);
}

/* Somebody who writes, or who looks at the polls if anybody may. */
static void start_any(struct stress *s, int i, int fd)
{
	bool may = !(s->ring.flags & IORING_SETUP_SINGLE_ISSUER);

	start(s, i, may && pick(s, 2) ? OP_HARVEST : OP_WRITE, fd);
}

static void finish(struct stress *s)
{
	int i;

	for (i = 0; i < RACERS; i++) {
		if (s->racer[i].started)
			sem_wait(&s->racer[i].done);
		s->racer[i].started = false;
		s->broken |= s->racer[i].failed;
	}
}

static unsigned int from_env(const char *name, unsigned int value)
{
	const char *env = getenv(name);

	return env ? strtoul(env, NULL, 0) : value;
}

static int stress_init(struct stress *s, const struct ring_opts *opts)
{
	int i, ret;

	s->seed = from_env("LEVEL_STRESS_SEED", DEFAULT_SEED);
	s->count = from_env("LEVEL_STRESS_COUNT", DEFAULT_COUNT);
	ksft_print_msg("LEVEL_STRESS_SEED=%u LEVEL_STRESS_COUNT=%u\n",
		       s->seed, s->count);
	signal(SIGPIPE, SIG_IGN);
	ret = ring_init(&s->ring, opts);
	for (i = 0; i < RACERS && !ret; i++) {
		s->racer[i].ring = &s->ring;
		sem_init(&s->racer[i].start, 0, 0);
		sem_init(&s->racer[i].done, 0, 0);
		ret = pthread_create(&s->racer[i].thread, NULL, racer_thread,
				     &s->racer[i]);
	}
	return ret;
}

static void stress_exit(struct stress *s)
{
	int i;

	for (i = 0; i < RACERS; i++) {
		start(s, i, OP_QUIT, -1);
		pthread_join(s->racer[i].thread, NULL);
	}
	ring_exit(&s->ring);
}

/* Forget about all requests but the first ones, which are still armed. */
static void begin(struct stress *s, unsigned int keep)
{
	unsigned int i;

	if (!keep)
		s->base += MAX_REQS;
	s->n = keep;
	for (i = keep; i < MAX_REQS; i++) {
		s->events[i] = 0;
		s->final[i] = false;
		s->res[i] = 0;
	}
}

/* Consume all at once what's there. */
static void collect(struct stress *s)
{
	struct ring *r = &s->ring;
	unsigned int head = *r->cq_head, tail = ring_load(r->cq_tail);
	unsigned int pos, seen = 0;

	for (pos = head; pos != tail; pos++) {
		const struct io_uring_cqe *cqe = __ring_cqe(r, pos);
		__u64 i = cqe->user_data - s->base;

		if (i >= s->n || s->final[i]) {
			s->broken = true;
		} else if (!(cqe->flags & IORING_CQE_F_MORE)) {
			s->final[i] = true;
			s->res[i] = cqe->res;
		} else {
			s->broken |= seen & (1 << i);
			seen |= 1 << i;
			s->events[i]++;
		}
	}
	ring_seen_n(r, tail - head);
}

/* All but the first ones have to come to their end. */
static bool settle(struct stress *s, unsigned int keep)
{
	unsigned int i;

	for (;;) {
		collect(s);
		for (i = keep; i < s->n && s->final[i]; i++)
			;
		if (i == s->n || s->broken)
			break;
		if (ring_wait(&s->ring, 1))
			return false;
	}
	return !s->broken;
}

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

/* The other end of a pipe is closed. It may take a worker to do that. */
static bool released(int writer)
{
	bool ret = file_events(writer, 0, RING_SOON_MS) & POLLERR;

	close(writer);
	return ret;
}

/*
 * Requests, they return 1
 */

static int submit_poll(struct stress *s, int fd, __u32 mask, __u8 flags)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	prep_level(sqe, fd, mask, s->base + s->n++);
	sqe->flags = flags;
	return ring_submit(&s->ring);
}

static int submit_cancel(struct stress *s, unsigned int flags)
{
	prep_cancel(ring_sqe(&s->ring), flags ? 0 : s->base, flags,
		    s->base + s->n++);
	return ring_submit(&s->ring);
}

static int submit_remove(struct stress *s)
{
	prep_poll_remove(ring_sqe(&s->ring), s->base, s->base + s->n++);
	return ring_submit(&s->ring);
}

static int submit_update(struct stress *s, __u32 mask)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	prep_poll_remove(sqe, s->base, s->base + s->n++);
	sqe->len = IORING_POLL_UPDATE_EVENTS | POLL_LEVEL;
	sqe->poll32_events = ring_poll_mask(mask);
	return ring_submit(&s->ring);
}

/* What those may come to while the poll is being closed */
static bool may_be(int res)
{
	return !res || res == -ENOENT || res == -EALREADY;
}

/* A pipe whose reader is polled: idle, ready, reported, or that and consumed */
static int polled_pipe(struct stress *s, int p[2])
{
	unsigned int state = pick(s, 4);

	begin(s, 0);
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) ||
	    submit_poll(s, p[0], EPOLLIN, 0) != 1)
		return -1;
	if (state > 0 && write(p[1], "x", 1) != 1)
		return -1;
	if (state > 1 && ring_harvest_count(&s->ring) != 1)
		return -1;
	if (state > 2)
		collect(s);
	return 0;
}

static bool in_round(const struct stress *s, bool ok)
{
	if (!ok)
		ksft_print_msg("in round %u\n", s->round);
	return ok;
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
	ASSERT_EQ(0, stress_init(&self->s, &variant->ring));
}

FIXTURE_TEARDOWN(stress)
{
	stress_exit(&self->s);
}

/* Of a round, which is named if it fails. */
#define CHECK(cond)	ASSERT_TRUE(in_round(s, cond))

/*
 * Close
 */

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
		finish(s);
		CHECK(s->res[0] == -ECANCELED && released(p[1]));
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
		finish(s);
		CHECK(s->res[0] == -ECANCELED && released(p[1]));
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
		finish(s);
		CHECK(s->res[0] == -ECANCELED && may_be(s->res[1]));
		CHECK(released(p[1]));
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
		finish(s);
		for (i = 0; i <= ARRAY_SIZE(mask); i++)
			CHECK(s->res[i] == -ECANCELED);
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
		finish(s);
		CHECK(s->res[0] == -ECANCELED && may_be(s->res[1]));
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
		finish(s);
		CHECK(s->res[0] == -ECANCELED && may_be(s->res[1]));
		CHECK(released(p[1]));
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
		finish(s);
		CHECK(s->res[0] == -ECANCELED || s->res[0] == -EBADF);
		CHECK(may_be(s->res[1]) && released(p[1]));
	}
}

/* Take it out of its slot, which is the last reference. */
TEST_F_TIMEOUT(stress, fixed, TIMEOUT)
{
	int p[2], slot[2] = { -1, -1 }, none = -1;
	struct io_uring_files_update up = { .offset = 1 };
	struct stress *s = &self->s;

	ASSERT_EQ(0, sys_io_uring_register(s->ring.fd, IORING_REGISTER_FILES,
					   slot, 2));
	for (s->round = 0; s->round < s->count; s->round++) {
		begin(s, 0);
		CHECK(!pipe2(p, O_CLOEXEC));
		up.fds = (uintptr_t)&p[0];
		CHECK(sys_io_uring_register(s->ring.fd,
					    IORING_REGISTER_FILES_UPDATE,
					    &up, 1) == 1);
		CHECK(submit_poll(s, 1, EPOLLIN, IOSQE_FIXED_FILE) == 1);
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		if (pick(s, 2))
			ring_harvest(&s->ring);
		up.fds = (uintptr_t)&none;
		CHECK(sys_io_uring_register(s->ring.fd,
					    IORING_REGISTER_FILES_UPDATE,
					    &up, 1) == 1);
		CHECK(settle(s, 0));
		finish(s);
		CHECK(s->res[0] == -ECANCELED && released(p[1]));
	}
}

/* A child has a copy, and exits. */
TEST_F_TIMEOUT(stress, close_exit, TIMEOUT)
{
	struct stress *s = &self->s;
	pid_t child;
	int p[2];

	for (s->round = 0; s->round < s->count / 10; s->round++) {
		CHECK(!polled_pipe(s, p));
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			delay(pick(s, MAX_DELAY));
			_exit(0);
		}
		start(s, 0, OP_CLOSE, p[0]);
		start_any(s, 1, p[1]);
		dawdle(s);
		CHECK(settle(s, 0));
		finish(s);
		CHECK(waitpid(child, NULL, 0) == child);
		CHECK(s->res[0] == -ECANCELED && released(p[1]));
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
			CHECK(ring_arm(&r, p[i][0], EPOLLIN, 2 * i) == 1);
			CHECK(ring_arm(&r, p[i][0], EPOLLOUT, 2 * i + 1) == 1);
		}
		CHECK(write(p[1][1], "x", 1) == 1);
		CHECK(pick(s, 2) || ring_harvest_count(&r) == 1);
		start(s, 0, OP_CLOSE, p[0][0]);
		start(s, 1, OP_CLOSE, p[1][0]);
		dawdle(s);
		ring_exit(&r);
		finish(s);
		CHECK(released(p[0][1]) && released(p[1][1]));
	}
}

/* A process exits with armed polls while we close what they poll. */
TEST_F_TIMEOUT(stress, close_process_exit, TIMEOUT)
{
	struct stress *s = &self->s;
	struct ring r;
	pid_t child;
	int p[2];

	for (s->round = 0; s->round < s->count / 10; s->round++) {
		CHECK(!pipe2(p, O_CLOEXEC));
		child = fork();
		CHECK(child >= 0);
		if (!child) {
			close(p[1]);
			if (ring_init(&r, &variant->ring) ||
			    ring_arm(&r, p[0], EPOLLIN, 0) != 1 ||
			    ring_arm(&r, p[0], EPOLLOUT, 1) != 1)
				_exit(1);
			if (pick(s, 2))
				close(p[0]);
			delay(pick(s, MAX_DELAY));
			_exit(0);
		}
		start(s, 0, OP_CLOSE, p[0]);
		start(s, 1, OP_WRITE, p[1]);
		dawdle(s);
		finish(s);
		CHECK(waitpid(child, NULL, 0) == child);
		CHECK(released(p[1]));
	}
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
		finish(s);
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
		finish(s);
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
		finish(s);
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
		finish(s);
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
		finish(s);
		CHECK(s->res[0] == -ECANCELED && !s->res[1]);
		while (byte_read(p[0]))
			;
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
		finish(s);
		CHECK(byte_read(p[0]));
		CHECK(submit_remove(s) == 1 && settle(s, 0));
		CHECK(s->res[0] == -ECANCELED && !s->res[1]);
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
	ASSERT_EQ(0, stress_init(s, &opts));
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
		finish(s);
	}
	CHECK(reported(s));
	stress_exit(s);
}

TEST_HARNESS_MAIN
