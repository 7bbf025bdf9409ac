// SPDX-License-Identifier: GPL-2.0
/*
 * The cap on CQEs of level triggered polls: IORING_REGISTER_POLL_LEVEL for the
 * ring, IORING_REG_WAIT_LEVEL_MAX for a single call
 */
#include "kselftest_harness.h"
#include "ring_fixture.h"
#include "sleeper.h"

#define NR_POLLS	5
#define MAX_CAP		65536

static void cap_arm(struct __test_metadata *_metadata, struct ring *r,
		    int (*p)[2])
{
	int i;

	for (i = 0; i < NR_POLLS; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(r, p[i][0], EPOLLIN, i));
	}
}

/* So many are reported, from that one on. */
static void expect_next(struct __test_metadata *_metadata, struct ring *r,
			unsigned int first, unsigned int n)
{
	unsigned int i;

	EXPECT_EQ(n, ring_cq_count(r));
	for (i = 0; i < n; i++)
		EXPECT_LEVEL(r, (first + i) % NR_POLLS, EPOLLIN);
}

TEST_F(ring, of_the_ring)
{
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(0, ring_set_cap(r, 2));
	for (i = 0; i < 10; i += 2) {
		EXPECT_EQ(0, ring_harvest(r));
		expect_next(_metadata, r, i, 2);
	}
	EXPECT_EQ(0, ring_set_cap(r, NR_POLLS + 1));
	EXPECT_EQ(0, ring_harvest(r));
	expect_next(_metadata, r, 0, NR_POLLS);

	/* and back to the default */
	EXPECT_EQ(0, ring_set_cap(r, 1));
	EXPECT_EQ(0, ring_harvest(r));
	expect_next(_metadata, r, 0, 1);
	EXPECT_EQ(0, ring_set_cap(r, 0));
	EXPECT_EQ(0, ring_harvest(r));
	expect_next(_metadata, r, 1, NR_POLLS);
}

/* Like epoll_wait() with maxevents of 1: it's not always the same one. */
TEST_F(ring, rotation)
{
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	unsigned int seen = 0;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	EXPECT_EQ(0, ring_set_cap(r, 1));
	for (i = 0; i < 3; i++)
		feed(p[i][1]);
	for (i = 0; i < 9; i++) {
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_EQ(1U, ring_cq_count(r));
		EXPECT_LEVEL(r, i % 3, EPOLLIN);
	}

	/* another one becomes ready, four calls get to all of them */
	feed(p[3][1]);
	for (i = 1; i <= 8; i++) {
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_EQ(1U, ring_cq_count(r));
		ASSERT_TRUE(ring_pop(r, &cqe));
		seen |= 1U << cqe.user_data;
		if (i % 4)
			continue;
		EXPECT_EQ(0xfU, seen);
		seen = 0;
	}
}

/* One that isn't ready any more takes nobody's place. */
TEST_F(ring, rotation_skips_drained)
{
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	EXPECT_EQ(0, ring_set_cap(r, 1));
	for (i = 0; i < 3; i++)
		feed(p[i][1]);
	drain(p[0][0]);
	drain(p[1][0]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

/* Calls add up: the cap isn't on what sits in the CQ. */
TEST_F(ring, of_each_call)
{
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(0, ring_set_cap(r, 2));
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_EQ(4, ring_harvest_count(r));
	EXPECT_EQ(5, ring_harvest_count(r));
	EXPECT_EQ(5, ring_harvest_count(r));
	expect_next(_metadata, r, 0, NR_POLLS);
}

TEST_F(ring, hit_before_min_complete)
{
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	struct sleeper s;
	int i;

	cap_arm(_metadata, r, p);
	EXPECT_EQ(0, ring_set_cap(r, 2));

	/* becomes ready while it waits */
	for (i = 0; i < 2; i++)
		feed(p[i][1]);
	EXPECT_EQ(0, ring_enter(r, 3));
	expect_next(_metadata, r, 0, 2);
	drain(p[0][0]);
	drain(p[1][0]);

	EXPECT_EQ(0, ring_set_cap(r, 1));
	ASSERT_EQ(0, sleeper_start(&s, p[4][1]));
	EXPECT_EQ(0, ring_enter(r, 3));
	EXPECT_EQ(1, sleeper_join(&s));
	expect_next(_metadata, r, 4, 1);
}

TEST_F(ring, not_hit)
{
	struct ring *r = &self->ring;
	long long start = now_ms();
	int p[NR_POLLS][2];

	cap_arm(_metadata, r, p);
	EXPECT_EQ(0, ring_set_cap(r, 2));
	EXPECT_EQ(-ETIME, ring_wait_ms(r, 1, 10));
	feed(p[0][1]);
	EXPECT_EQ(0, ring_wait_ms(r, 2, 20));
	EXPECT_LE(30, now_ms() - start);
	expect_next(_metadata, r, 0, 1);
}

/* Submission tells how much has been submitted, as ever. */
TEST_F(ring, hit_after_submission)
{
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(0, ring_set_cap(r, 1));
	prep_nop(ring_sqe(r), 10);
	prep_nop(ring_sqe(r), 11);
	ring_store(r->sq_tail, r->sqe_tail);
	EXPECT_EQ(2, sys_io_uring_enter(r->fd, 2, 4, IORING_ENTER_GETEVENTS |
					IORING_ENTER_SQ_WAKEUP, NULL, 0));
	/* a thread submits those of SQPOLL, later maybe */
	if (r->flags & IORING_SETUP_SQPOLL)
		return;
	EXPECT_EQ(3U, ring_cq_count(r));
	EXPECT_CQE(r, 10, 0, 0);
	EXPECT_CQE(r, 11, 0, 0);
	EXPECT_LEVEL(r, 0, EPOLLIN);
}

TEST_F(ring, others_are_not_counted)
{
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	EXPECT_EQ(0, ring_set_cap(r, 1));
	for (i = 0; i < 3; i++)
		prep_nop(ring_sqe(r), 10 + i);
	ASSERT_EQ(3, ring_submit(r));
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(4, ring_harvest_count(r));
	for (i = 0; i < 3; i++)
		EXPECT_CQE(r, 10 + i, 0, 0);
	EXPECT_LEVEL(r, 0, EPOLLIN);

	/* but they are what min_complete counts */
	EXPECT_EQ(0, ring_set_cap(r, 3));
	prep_nop(ring_sqe(r), 13);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 4));
	EXPECT_CQE(r, 13, 0, 0);
	expect_next(_metadata, r, 1, 3);
}

TEST_F(ring, larger_than_the_cq)
{
	struct ring_opts opts = variant->ring;
	int p[NR_POLLS][2];
	struct ring r;
	int i;

	opts.sq_entries = 2;
	opts.cq_entries = 2;
	ASSERT_EQ(0, ring_init(&r, &opts));
	EXPECT_EQ(0, ring_set_cap(&r, MAX_CAP));
	cap_arm(_metadata, &r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	for (i = 0; i < 10; i += 2) {
		EXPECT_EQ(0, ring_harvest(&r));
		expect_next(_metadata, &r, i, 2);
		EXPECT_FALSE(ring_overflown(&r));
	}
	ring_exit(&r);
}

TEST_F(ring, of_a_single_call)
{
	struct ring_opts opts = variant->ring;
	int p[NR_POLLS][2];
	struct ring r;
	int i;

	opts.reg_wait = true;
	ASSERT_EQ(0, ring_init(&r, &opts));
	cap_arm(_metadata, &r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);

	/* down from the default, and that returns at once */
	EXPECT_EQ(0, ring_wait_cap(&r, 1, RING_SOON_MS, 1));
	expect_next(_metadata, &r, 0, 1);
	EXPECT_EQ(0, ring_wait_cap(&r, 5, RING_SOON_MS, 3));
	expect_next(_metadata, &r, 1, 3);
	EXPECT_EQ(0, ring_wait_cap(&r, 0, 0, 2));
	expect_next(_metadata, &r, 4, 2);
	EXPECT_EQ(0, ring_wait_cap(&r, 0, 0, MAX_CAP));
	expect_next(_metadata, &r, 1, 5);

	/* up from that of the ring, which stays what it is */
	EXPECT_EQ(0, ring_set_cap(&r, 1));
	EXPECT_EQ(0, ring_wait_cap(&r, 1, RING_SOON_MS, 3));
	expect_next(_metadata, &r, 1, 3);
	EXPECT_EQ(0, ring_wait_cap(&r, 1, RING_SOON_MS, 0));
	expect_next(_metadata, &r, 4, 1);
	EXPECT_EQ(0, ring_harvest(&r));
	expect_next(_metadata, &r, 0, 1);
	ring_exit(&r);
}

TEST_F(ring, of_a_single_call_and_timeout)
{
	struct ring_opts opts = variant->ring;
	long long start = now_ms();
	int p[NR_POLLS][2];
	struct sleeper s;
	struct ring r;

	opts.reg_wait = true;
	ASSERT_EQ(0, ring_init(&r, &opts));
	cap_arm(_metadata, &r, p);
	EXPECT_EQ(-ETIME, ring_wait_cap(&r, 1, 10, 1));
	feed(p[0][1]);
	EXPECT_EQ(0, ring_wait_cap(&r, 2, 20, 2));
	EXPECT_LE(30, now_ms() - start);
	expect_next(_metadata, &r, 0, 1);
	drain(p[0][0]);

	ASSERT_EQ(0, sleeper_start(&s, p[3][1]));
	EXPECT_EQ(0, ring_wait_cap(&r, 3, RING_SOON_MS, 1));
	EXPECT_EQ(1, sleeper_join(&s));
	expect_next(_metadata, &r, 3, 1);
	ring_exit(&r);
}

struct consumer {
	pthread_t thread;
	pid_t waiter;
	struct ring *ring;
	int fd;
	bool ok;
};

static void *consumer_thread(void *arg)
{
	struct consumer *c = arg;

	c->ok = wait_asleep(c->waiter) && ring_cq_count(c->ring) == 2;
	ring_seen_n(c->ring, 2);
	c->ok &= write(c->fd, "x", 1) == 1;
	return NULL;
}

/*
 * Wait for 4 CQEs. There are two, which another thread consumes, before it makes the
 * last poll ready: that's a single wake up, but those two are to be reported again.
 */
static void wait_and_consume(struct __test_metadata *_metadata,
			     struct ring_opts opts, unsigned int last,
			     unsigned int cqes)
{
	struct consumer c = { .waiter = gettid() };
	struct ring r;
	unsigned int tail;
	int p[3][2], i;

	opts.sq_entries = 4;
	opts.cq_entries = 4;
	ASSERT_EQ(0, ring_init(&r, &opts));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm_as(&r, i == 2 ? last : POLL_LEVEL,
					 p[i][0], EPOLLIN, i));
	}
	feed(p[0][1]);
	feed(p[1][1]);
	c.ring = &r;
	c.fd = p[2][1];
	tail = ring_load(r.cq_tail);
	ASSERT_EQ(0, pthread_create(&c.thread, NULL, consumer_thread, &c));
	EXPECT_EQ(0, ring_wait(&r, 4));
	ASSERT_EQ(0, pthread_join(c.thread, NULL));
	EXPECT_TRUE(c.ok);
	EXPECT_EQ(cqes, ring_load(r.cq_tail) - tail);
	ring_exit(&r);
}

/* By default it's the size of the CQ ring, also if that's emptied meanwhile. */
TEST_F(ring, default_and_a_consumer)
{
	wait_and_consume(_metadata, variant->ring, POLL_LEVEL, 4);
}

/* A CQE of another kind is none of those that there is a limit for. */
TEST_F(ring, edge_and_a_consumer)
{
	wait_and_consume(_metadata, variant->ring, POLL_EDGE, 5);
}

TEST_F(ring, register_errors)
{
	struct io_uring_poll_level arg = { .max_cqes = 1 };
	const int op = IORING_REGISTER_POLL_LEVEL;
	struct ring *r = &self->ring;
	int p[NR_POLLS][2];
	int i;

	cap_arm(_metadata, r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(0, ring_set_cap(r, 2));

	EXPECT_EQ(-EINVAL, sys_io_uring_register(r->fd, op, NULL, 1));
	EXPECT_EQ(-EINVAL, sys_io_uring_register(r->fd, op, NULL, 0));
	EXPECT_EQ(-EINVAL, sys_io_uring_register(r->fd, op, &arg, 0));
	EXPECT_EQ(-EINVAL, sys_io_uring_register(r->fd, op, &arg, 2));
	EXPECT_EQ(-EFAULT, sys_io_uring_register(r->fd, op, (void *)1, 1));
	arg.flags = 1;
	EXPECT_EQ(-EINVAL, sys_io_uring_register(r->fd, op, &arg, 1));
	arg.flags = 0;
	for (i = 0; i < 3; i++) {
		arg.resv[i] = 1ULL << 63;
		EXPECT_EQ(-EINVAL, sys_io_uring_register(r->fd, op, &arg, 1));
		arg.resv[i] = 0;
	}
	EXPECT_EQ(-EINVAL, ring_set_cap(r, MAX_CAP + 1));
	EXPECT_EQ(-EINVAL, ring_set_cap(r, ~0U));

	/* none of them has changed anything */
	EXPECT_EQ(0, ring_harvest(r));
	expect_next(_metadata, r, 0, 2);
	EXPECT_EQ(0, ring_set_cap(r, MAX_CAP));
	EXPECT_EQ(0, ring_harvest(r));
	expect_next(_metadata, r, 2, NR_POLLS);
}

TEST_F(ring, wait_errors)
{
	struct ring_opts opts = variant->ring;
	struct io_uring_reg_wait ok = {
		.flags = IORING_REG_WAIT_TS | IORING_REG_WAIT_LEVEL_MAX,
		.ts = ring_ms(1),
		.level_max = 1,
	};
	struct ring r;
	int i;

	opts.reg_wait = true;
	ASSERT_EQ(0, ring_init(&r, &opts));
	ASSERT_EQ(1, ring_arm(&r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);

	*r.reg_wait = ok;
	r.reg_wait->level_max = 0;
	EXPECT_EQ(-EINVAL, ring_wait_reg(&r, 1));
	r.reg_wait->level_max = MAX_CAP + 1;
	EXPECT_EQ(-EINVAL, ring_wait_reg(&r, 1));
	for (i = 0; i < 2; i++) {
		*r.reg_wait = ok;
		r.reg_wait->pad[i] = 1;
		EXPECT_EQ(-EINVAL, ring_wait_reg(&r, 1));
		*r.reg_wait = ok;
		r.reg_wait->pad2[i] = 1;
		EXPECT_EQ(-EINVAL, ring_wait_reg(&r, 1));
	}
	for (i = 2; i < 32; i++) {
		*r.reg_wait = ok;
		r.reg_wait->flags |= 1U << i;
		EXPECT_EQ(-EINVAL, ring_wait_reg(&r, 1));
	}
	EXPECT_EQ(0U, ring_cq_count(&r));

	/* Without the flag it's ignored, along with the padding, as ever. */
	memset(r.reg_wait, 0xff, sizeof(*r.reg_wait));
	r.reg_wait->ts = ok.ts;
	r.reg_wait->flags = IORING_REG_WAIT_TS;
	r.reg_wait->min_wait_usec = 0;
	r.reg_wait->sigmask = 0;
	EXPECT_EQ(0, ring_wait_reg(&r, 1));
	EXPECT_LEVEL(&r, 1, EPOLLIN);

	/* The timeout is a flag of its own. */
	*r.reg_wait = ok;
	r.reg_wait->flags = IORING_REG_WAIT_LEVEL_MAX;
	EXPECT_EQ(0, ring_wait_reg(&r, 2));
	EXPECT_LEVEL(&r, 1, EPOLLIN);
	ring_exit(&r);
}

struct other {
	struct ring *ring;
	int ret;
};

static void *other_thread(void *arg)
{
	struct other *o = arg;

	o->ret = ring_set_cap(o->ring, 1);
	return NULL;
}

/* As with other registrations, a single issuer is the only one to do that. */
TEST_F(ring, other_thread)
{
	bool single = self->ring.flags & IORING_SETUP_SINGLE_ISSUER;
	struct other o = { .ring = &self->ring };
	pthread_t thread;

	/* becomes the issuer, if it hasn't been before */
	prep_nop(ring_sqe(&self->ring), 1);
	ASSERT_EQ(1, ring_submit(&self->ring));
	ASSERT_EQ(0, pthread_create(&thread, NULL, other_thread, &o));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(single ? -EEXIST : 0, o.ret);
}

TEST_F(ring, before_it_is_enabled)
{
	struct ring_opts opts = variant->ring;
	int p[NR_POLLS][2];
	struct ring r;
	int i;

	opts.disabled = true;
	opts.resize = false;
	ASSERT_EQ(0, ring_create(&r, &opts));
	EXPECT_EQ(0, ring_set_cap(&r, 2));
	ASSERT_EQ(0, ring_enable(&r));
	cap_arm(_metadata, &r, p);
	for (i = 0; i < NR_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(2, ring_harvest_count(&r));
	ring_exit(&r);
}

/* Which registrations are possible is a list of those that are. */
TEST_F(ring, restrictions)
{
	struct io_uring_restriction res[] = {
		{ .opcode = IORING_RESTRICTION_REGISTER_OP,
		  .register_op = IORING_REGISTER_ENABLE_RINGS },
		{ .opcode = IORING_RESTRICTION_REGISTER_OP,
		  .register_op = IORING_REGISTER_POLL_LEVEL },
	};
	struct ring_opts opts = variant->ring;
	struct ring r;
	int n;

	opts.disabled = true;
	opts.resize = false;
	for (n = 1; n <= 2; n++) {
		ASSERT_EQ(0, ring_create(&r, &opts));
		ASSERT_EQ(0, sys_io_uring_register(r.fd,
						   IORING_REGISTER_RESTRICTIONS,
						   res, n));
		ASSERT_EQ(0, ring_enable(&r));
		EXPECT_EQ(n == 1 ? -EACCES : 0, ring_set_cap(&r, 1));
		ring_exit(&r);
	}
}

TEST_HARNESS_MAIN
