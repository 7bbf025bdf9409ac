// SPDX-License-Identifier: GPL-2.0
/*
 * What a level triggered multishot poll reports, and when
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "kselftest_harness.h"
#include "ring_fixture.h"
#include "sleeper.h"

#define MAX_POLLS	64

TEST_F(ring, reported_as_long_as_ready)
{
	struct ring *r = &self->ring;
	int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 1, EPOLLIN);
	}
}

TEST_F(ring, silent_once_drained)
{
	struct ring *r = &self->ring;
	int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	for (i = 0; i < 3; i++) {
		feed(self->pipe[1]);
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 1, EPOLLIN);
		drain(self->pipe[0]);
		EXPECT_SILENT(r);
	}
}

TEST_F(ring, drained_before_it_was_looked_at)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	drain(self->pipe[0]);
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

TEST_F(ring, ready_when_armed)
{
	struct ring *r = &self->ring;

	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

/* However often it's looked at, and whatever happens to the file. */
TEST_F(ring, never_two_unconsumed)
{
	struct ring *r = &self->ring;
	int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	for (i = 0; i < 5; i++) {
		feed(self->pipe[1]);
		EXPECT_EQ(1, ring_harvest_count(r));
	}
	for (i = 0; i < 5; i++) {
		drain(self->pipe[0]);
		EXPECT_EQ(1, ring_harvest_count(r));
	}
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	drain(self->pipe[0]);
	EXPECT_SILENT(r);
}

TEST_F(ring, user_data_extremes)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 0));
	ASSERT_EQ(1, ring_arm(r, self->pipe[1], EPOLLOUT, ~0ULL));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, ~0ULL, EPOLLOUT);
	feed(self->pipe[1]);
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 0, EPOLLIN);
	EXPECT_LEVEL(r, ~0ULL, EPOLLOUT);
}

TEST_F(ring, wakes_up_who_waits)
{
	struct ring *r = &self->ring;
	struct sleeper s;
	int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_EQ(1U, ring_cq_count(r));
		EXPECT_LEVEL(r, 1, EPOLLIN);
		EXPECT_EQ(1, sleeper_join(&s));
		drain(self->pipe[0]);
	}
}

TEST_F(ring, wakes_up_who_waits_without_timeout)
{
	struct ring *r = &self->ring;
	struct sleeper s;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
	EXPECT_EQ(0, ring_enter(r, 1));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_EQ(1, sleeper_join(&s));
}

TEST_F(ring, timeout)
{
	struct ring *r = &self->ring;
	long long start = now_ms();

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	EXPECT_EQ(-ETIME, ring_wait_ms(r, 1, 20));
	EXPECT_LE(20, now_ms() - start);
	EXPECT_EQ(0U, ring_cq_count(r));
}

/* One poll is one CQE, so this waits for another one to become ready. */
TEST_F(ring, min_complete)
{
	struct ring *r = &self->ring;
	struct sleeper s;
	long long start;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, ring_arm(r, p[0], EPOLLIN, 2));
	feed(self->pipe[1]);

	start = now_ms();
	EXPECT_EQ(0, ring_wait_ms(r, 2, 50));
	EXPECT_LE(50, now_ms() - start);
	EXPECT_EQ(1U, ring_cq_count(r));

	ASSERT_EQ(0, sleeper_start(&s, p[1]));
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_EQ(1, sleeper_join(&s));
	EXPECT_EQ(2U, ring_cq_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_LEVEL(r, 2, EPOLLIN);

	/* both are ready, there's nothing to wait for */
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_EQ(2U, ring_cq_count(r));
}

/* That time over, what has come is enough. */
TEST_F(ring, min_wait)
{
	struct ring *r = &self->ring;
	long long start = now_ms();

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	EXPECT_EQ(0, ring_wait_min(r, 2, 20000));
	EXPECT_LE(20, now_ms() - start);
	EXPECT_EQ(1U, ring_cq_count(r));
}

/* The task isn't interrupted in what it does, unlike by task_work. */
TEST_F(ring, no_eintr)
{
	struct epoll_event ev;
	struct ring *r = &self->ring;
	struct sleeper s;
	int epfd;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, epfd);
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
	EXPECT_EQ(0, epoll_wait(epfd, &ev, 1, 200));
	EXPECT_EQ(1, sleeper_join(&s));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

/* The first to become ready is the first to be reported. */
TEST_F(ring, fifo)
{
	const int order[] = { 2, 0, 3, 1 };
	struct ring *r = &self->ring;
	int p[4][2];
	int i, n;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(r, p[i][0], EPOLLIN, i));
	}
	for (i = 0; i < 4; i++)
		feed(p[order[i]][1]);
	for (n = 0; n < 3; n++) {
		EXPECT_EQ(4, ring_harvest_count(r));
		for (i = 0; i < 4; i++)
			EXPECT_LEVEL(r, order[i], EPOLLIN);
	}

	/* The last one, on its own, falls behind. */
	EXPECT_EQ(4, ring_harvest_count(r));
	for (i = 0; i < 3; i++)
		EXPECT_LEVEL(r, order[i], EPOLLIN);
	EXPECT_EQ(4, ring_harvest_count(r));
	EXPECT_LEVEL(r, order[3], EPOLLIN);
	EXPECT_EQ(4, ring_harvest_count(r));
	for (i = 0; i < 4; i++)
		EXPECT_LEVEL(r, order[i], EPOLLIN);
}

/* A single call reports all of them, whatever number that is. */
TEST_F(ring, all_at_once)
{
	struct ring *r = &self->ring;
	int p[MAX_POLLS][2];
	int i;

	for (i = 0; i < MAX_POLLS; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(r, p[i][0], EPOLLIN, i));
	}
	for (i = 0; i < MAX_POLLS; i++)
		feed(p[i][1]);
	EXPECT_EQ(MAX_POLLS, ring_harvest_count(r));
	for (i = 0; i < MAX_POLLS; i++) {
		EXPECT_LEVEL(r, i, EPOLLIN);
		drain(p[i][0]);
	}
	EXPECT_SILENT(r);
}

/* Nothing overflows, nothing gets lost, and each one has its turn. */
TEST_F(ring, small_cq)
{
	struct ring_opts opts = variant->ring;
	int i, n, seen[16] = {};
	struct io_uring_cqe cqe;
	struct ring r;
	int p[16][2];

	opts.sq_entries = 4;
	opts.cq_entries = 4;
	ASSERT_EQ(0, ring_init(&r, &opts));
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(&r, p[i][0], EPOLLIN, i));
		feed(p[i][1]);
	}
	for (n = 1; n <= 8; n++) {
		EXPECT_EQ(4, ring_harvest_count(&r));
		/* it doesn't wait for what can't come */
		EXPECT_EQ(0, ring_wait(&r, 4));
		EXPECT_EQ(0, ring_wait(&r, 16));
		EXPECT_EQ(4U, ring_cq_count(&r));
		EXPECT_FALSE(ring_overflown(&r));
		while (ring_pop(&r, &cqe)) {
			ASSERT_GT(16U, cqe.user_data);
			EXPECT_EQ(EPOLLIN, cqe.res);
			EXPECT_EQ(IORING_CQE_F_MORE, cqe.flags);
			seen[cqe.user_data]++;
		}
		if (n % 4)
			continue;
		for (i = 0; i < 16; i++)
			EXPECT_EQ(n / 4, seen[i]);
	}
	EXPECT_EQ(0U, *r.cq_overflow);
	ring_exit(&r);
}

/* A waiter returns if there's no room, instead of spinning or sleeping. */
TEST_F(ring, full_cq)
{
	struct ring_opts opts = variant->ring;
	struct ring r;
	int i;

	opts.sq_entries = 4;
	opts.cq_entries = 4;
	ASSERT_EQ(0, ring_init(&r, &opts));
	for (i = 0; i < 4; i++)
		prep_nop(ring_sqe(&r), i);
	ASSERT_EQ(4, ring_submit(&r));
	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(&r, self->pipe[0], EPOLLIN, 4));
	EXPECT_EQ(4, ring_harvest_count(&r));
	EXPECT_EQ(0, ring_wait(&r, 4));
	EXPECT_FALSE(ring_overflown(&r));
	EXPECT_TRUE(ring_taskrun(&r));
	EXPECT_CQE(&r, 0, 0, 0);
	EXPECT_EQ(4, ring_harvest_count(&r));
	for (i = 1; i < 4; i++)
		EXPECT_CQE(&r, i, 0, 0);
	EXPECT_LEVEL(&r, 4, EPOLLIN);
	ring_exit(&r);
}

/* Those on the overflow list come first. */
TEST_F(ring, others_overflow)
{
	struct ring_opts opts = variant->ring;
	struct ring r;
	int i;

	opts.sq_entries = 4;
	opts.cq_entries = 4;
	ASSERT_EQ(0, ring_init(&r, &opts));
	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(&r, self->pipe[0], EPOLLIN, 6));
	for (i = 0; i < 6; i++) {
		prep_nop(ring_sqe(&r), i);
		ASSERT_EQ(1, ring_submit(&r));
	}
	EXPECT_EQ(4U, ring_cq_count(&r));
	EXPECT_TRUE(ring_overflown(&r));
	for (i = 0; i < 4; i++)
		EXPECT_CQE(&r, i, 0, 0);
	EXPECT_EQ(3, ring_harvest_count(&r));
	EXPECT_FALSE(ring_overflown(&r));
	EXPECT_CQE(&r, 4, 0, 0);
	EXPECT_CQE(&r, 5, 0, 0);
	EXPECT_LEVEL(&r, 6, EPOLLIN);
	EXPECT_EQ(0U, *r.cq_overflow);
	ring_exit(&r);
}

/* It overflows while a level triggered poll is in the ring. */
TEST_F(ring, overflow_behind_it)
{
	struct ring_opts opts = variant->ring;
	struct ring r;
	int i;

	opts.sq_entries = 4;
	opts.cq_entries = 4;
	ASSERT_EQ(0, ring_init(&r, &opts));
	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(&r, self->pipe[0], EPOLLIN, 6));
	EXPECT_EQ(1, ring_harvest_count(&r));
	for (i = 0; i < 6; i++) {
		prep_nop(ring_sqe(&r), i);
		ASSERT_EQ(1, ring_submit(&r));
	}
	EXPECT_TRUE(ring_overflown(&r));
	EXPECT_EQ(4, ring_harvest_count(&r));
	EXPECT_LEVEL(&r, 6, EPOLLIN);
	/* room for one, which isn't the level triggered one */
	EXPECT_EQ(4, ring_harvest_count(&r));
	for (i = 0; i < 4; i++)
		EXPECT_CQE(&r, i, 0, 0);
	EXPECT_EQ(3, ring_harvest_count(&r));
	EXPECT_CQE(&r, 4, 0, 0);
	EXPECT_CQE(&r, 5, 0, 0);
	EXPECT_LEVEL(&r, 6, EPOLLIN);
	ring_exit(&r);
}

/* For who looks at the CQ, and enters the kernel only if told to */
TEST_F(ring, taskrun_flag)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	/* resizing sets it, to be on the safe side */
	EXPECT_FALSE(ring_taskrun(r) && !variant->ring.resize);
	/* ready */
	feed(self->pipe[1]);
	EXPECT_TRUE(ring_taskrun(r));
	/* reported */
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_TRUE(ring_taskrun(r));
	/* and consumed */
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_TRUE(ring_taskrun(r));
	/* idle */
	drain(self->pipe[0]);
	EXPECT_SILENT(r);
	EXPECT_FALSE(ring_taskrun(r));

	feed(self->pipe[1]);
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 2));
	EXPECT_TRUE(ring_taskrun(r));
	EXPECT_EQ(2, ring_harvest_count(r));
}

TEST_F(ring, peek_only)
{
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	int i, n, entered = 0;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	for (n = 0; n < 3; n++) {
		feed(self->pipe[1]);
		for (i = 0; i < 4; i++) {
			if (!ring_peek(r) && ring_taskrun(r)) {
				EXPECT_EQ(0, ring_harvest(r));
				entered++;
			}
			if (ring_pop(r, &cqe)) {
				EXPECT_EQ(1U, cqe.user_data);
				drain(self->pipe[0]);
			}
		}
		/* one to get it, one to see that it's drained, then silence */
		EXPECT_EQ(2 * (n + 1), entered);
		EXPECT_FALSE(ring_taskrun(r));
	}
}

TEST_F(ring, masks_on_one_file)
{
	struct ring *r = &self->ring;
	int sv[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLIN, 1));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLOUT, 2));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLIN | EPOLLOUT, 3));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLRDHUP, 4));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLPRI, 5));

	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLOUT);
	EXPECT_LEVEL(r, 3, EPOLLOUT);

	feed(sv[1]);
	EXPECT_EQ(0, ring_harvest(r));
	EXPECT_EQ(3U, ring_cq_count(r));
	while (ring_peek(r)) {
		struct io_uring_cqe cqe;

		ring_pop(r, &cqe);
		ASSERT_LE(1U, cqe.user_data);
		ASSERT_GE(3U, cqe.user_data);
		EXPECT_EQ(cqe.user_data == 1 ? EPOLLIN :
			  cqe.user_data == 2 ? EPOLLOUT :
						    EPOLLIN | EPOLLOUT,
			  cqe.res);
		EXPECT_EQ(IORING_CQE_F_MORE, cqe.flags);
	}

	drain(sv[0]);
	EXPECT_EQ(2, ring_harvest_count(r));
}

/* It isn't taken for granted that what is armed twice is one poll. */
TEST_F(ring, same_mask_twice)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 7));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 7));
	feed(self->pipe[1]);
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 7, EPOLLIN);
	EXPECT_EQ(2, ring_harvest_count(r));
}

TEST_F(ring, same_file_in_several_rings)
{
	struct ring *r = &self->ring;
	struct ring r2, r3;

	ASSERT_EQ(0, ring_init(&r2, &variant->ring));
	ASSERT_EQ(0, ring_init(&r3, &(struct ring_opts){}));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, ring_arm(&r2, self->pipe[0], EPOLLIN, 2));
	ASSERT_EQ(1, ring_arm(&r3, self->pipe[0], EPOLLIN, 3));
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_EQ(1, ring_harvest_count(&r2));
	EXPECT_EQ(1, ring_harvest_count(&r3));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_LEVEL(&r2, 2, EPOLLIN);
	ring_exit(&r3);
	drain(self->pipe[0]);
	EXPECT_SILENT(r);
	EXPECT_SILENT(&r2);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	ring_exit(&r2);
	EXPECT_LEVEL(r, 1, EPOLLIN);
	EXPECT_EQ(1, ring_harvest_count(r));
}

TEST_F(ring, other_kinds_of_poll)
{
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	unsigned int seen = 0;
	int i;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 0));
	prep_poll(ring_sqe(r), self->pipe[0], EPOLLIN, IORING_POLL_ADD_MULTI, 1);
	prep_poll(ring_sqe(r), self->pipe[0], EPOLLIN, 0, 2);
	ASSERT_EQ(2, ring_submit(r));
	feed(self->pipe[1]);
	EXPECT_EQ(0, ring_wait(r, 3));
	EXPECT_EQ(3U, ring_cq_count(r));
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(ring_pop(r, &cqe));
		ASSERT_GT(3U, cqe.user_data);
		seen |= 1U << cqe.user_data;
		EXPECT_TRUE(cqe.res & EPOLLIN);
		EXPECT_EQ(cqe.user_data < 2 ? IORING_CQE_F_MORE : 0, cqe.flags);
	}
	EXPECT_EQ(7U, seen);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 0, EPOLLIN);
	}
}

TEST_F(ring, mask_zero)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], 0, 1));
	feed(self->pipe[1]);
	EXPECT_SILENT(r);
	ASSERT_EQ(0, close(self->pipe[1]));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLHUP);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLHUP);
}

TEST_F(ring, err_and_hup_unasked)
{
	struct ring *r = &self->ring;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(1, ring_arm(r, p[1], EPOLLOUT, 2));
	feed(self->pipe[1]);
	ASSERT_EQ(0, close(self->pipe[1]));
	ASSERT_EQ(0, close(p[0]));
	EXPECT_EQ(2, ring_harvest_count(r));
	while (ring_peek(r)) {
		if (ring_peek(r)->user_data == 1)
			EXPECT_LEVEL(r, 1, EPOLLIN | EPOLLHUP);
		else
			EXPECT_LEVEL(r, 2, EPOLLOUT | EPOLLERR);
	}
	drain(self->pipe[0]);
	EXPECT_EQ(2, ring_harvest_count(r));
}

/* A half closed connection is one that can be used for long. */
TEST_F(ring, rdhup_if_asked_for)
{
	struct ring *r = &self->ring;
	char buf[4096] = {};
	int sv[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv));
	while (write(sv[0], buf, sizeof(buf)) > 0)
		;
	ASSERT_EQ(EAGAIN, errno);
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLOUT, 1));
	ASSERT_EQ(0, shutdown(sv[1], SHUT_WR));
	EXPECT_SILENT(r);

	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLOUT | EPOLLRDHUP, 2));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLIN, 3));
	EXPECT_EQ(2, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLRDHUP);
	EXPECT_LEVEL(r, 3, EPOLLIN);

	while (read(sv[1], buf, sizeof(buf)) > 0)
		;
	EXPECT_EQ(3, ring_harvest_count(r));
}

/* The size changes while there are CQEs that nobody has looked at. */
TEST(resize)
{
	struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
		.sq_entries = 4,
		.cq_entries = 4,
	};
	struct ring r;
	int p[6][2];
	int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &opts));
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(&r, p[i][0], EPOLLIN, i));
		feed(p[i][1]);
	}
	EXPECT_EQ(4, ring_harvest_count(&r));
	ASSERT_EQ(0, ring_resize(&r, 8, 16));
	EXPECT_TRUE(ring_taskrun(&r));
	EXPECT_EQ(4U, ring_cq_count(&r));
	EXPECT_EQ(6, ring_harvest_count(&r));
	EXPECT_EQ(6, ring_harvest_count(&r));
	for (i = 0; i < 6; i++)
		EXPECT_LEVEL(&r, i, EPOLLIN);
	EXPECT_EQ(6, ring_harvest_count(&r));
	for (i = 0; i < 3; i++)
		EXPECT_LEVEL(&r, i, EPOLLIN);
	ASSERT_EQ(0, ring_resize(&r, 4, 4));
	EXPECT_EQ(4, ring_harvest_count(&r));
	for (i = 3; i < 6; i++)
		EXPECT_LEVEL(&r, i, EPOLLIN);
	EXPECT_LEVEL(&r, 0, EPOLLIN);
	EXPECT_EQ(4, ring_harvest_count(&r));
	ring_exit(&r);
}

/* Several threads at one ring */

#define NR_THREADS	4
#define NR_EVENTS	200

static const unsigned int shared_flags[] = {
	0,
	IORING_SETUP_COOP_TASKRUN,
	IORING_SETUP_SQPOLL,
	IORING_SETUP_CQE32,
};

struct shared {
	struct ring ring;
	pthread_mutex_t lock;
	int pipe[NR_THREADS][2];
	int stop[2];
	int got;
	int failed;
};

/* Consume a CQE and drain its pipe. False: that's the one to stop for. */
static bool shared_consume(struct shared *s)
{
	struct io_uring_cqe *cqe;
	bool more = true;
	char c;

	pthread_mutex_lock(&s->lock);
	cqe = ring_peek(&s->ring);
	if (cqe && cqe->user_data == NR_THREADS) {
		more = false;
	} else if (cqe) {
		/* another thread may have emptied it meanwhile */
		if (read(s->pipe[cqe->user_data][0], &c, 1) == 1)
			s->got++;
		ring_seen(&s->ring, cqe);
	}
	pthread_mutex_unlock(&s->lock);
	return more;
}

static void *shared_thread(void *arg)
{
	struct shared *s = arg;

	do {
		if (ring_wait(&s->ring, 1)) {
			__atomic_fetch_add(&s->failed, 1, __ATOMIC_RELAXED);
			break;
		}
	} while (shared_consume(s));
	return NULL;
}

static int shared_got(struct shared *s)
{
	int got;

	pthread_mutex_lock(&s->lock);
	got = s->got;
	pthread_mutex_unlock(&s->lock);
	return got;
}

static void shared_run(struct __test_metadata *_metadata, unsigned int flags)
{
	struct shared s = { .lock = PTHREAD_MUTEX_INITIALIZER };
	long long end = now_ms() + RING_SOON_MS;
	pthread_t threads[NR_THREADS];
	int i;

	ASSERT_EQ(0, ring_init(&s.ring, &(struct ring_opts){ .flags = flags }));
	for (i = 0; i < NR_THREADS; i++) {
		ASSERT_EQ(0, pipe2(s.pipe[i], O_NONBLOCK));
		ASSERT_EQ(1, ring_arm(&s.ring, s.pipe[i][0], EPOLLIN, i));
	}
	ASSERT_EQ(0, pipe(s.stop));
	ASSERT_EQ(1, ring_arm(&s.ring, s.stop[0], EPOLLIN, NR_THREADS));
	for (i = 0; i < NR_THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, shared_thread,
					    &s));
	for (i = 0; i < NR_EVENTS; i++)
		feed(s.pipe[i % NR_THREADS][1]);
	while (shared_got(&s) < NR_EVENTS && now_ms() < end)
		sched_yield();
	EXPECT_EQ(NR_EVENTS, shared_got(&s));
	/* nobody consumes this, so that everybody sees it */
	feed(s.stop[1]);
	for (i = 0; i < NR_THREADS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_EQ(0, s.failed);
	ring_exit(&s.ring);
}

TEST(threads_share_a_ring)
{
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(shared_flags); i++)
		shared_run(_metadata, shared_flags[i]);
}

struct waiter {
	struct ring *ring;
	pid_t tid;
	int ret;
};

static void *wait_for_two(void *arg)
{
	struct waiter *w = arg;

	ring_store(&w->tid, sys_gettid());
	w->ret = ring_wait(w->ring, 2);
	return NULL;
}

/*
 * A thread sleeps while another one consumes the CQE, which makes it possible
 * to report that poll again. An event that comes after it wakes it up.
 */
TEST(consumed_by_another_thread)
{
	unsigned int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(shared_flags); i++) {
		struct ring_opts opts = { .flags = shared_flags[i] };
		struct waiter w = {};
		pthread_t thread;
		struct ring r;
		int p[2];

		ASSERT_EQ(0, ring_init(&r, &opts));
		ASSERT_EQ(0, pipe(p));
		ASSERT_EQ(1, ring_arm(&r, p[0], EPOLLIN, 1));
		prep_nop(ring_sqe(&r), 2);
		ASSERT_EQ(1, ring_submit(&r));
		EXPECT_CQE(&r, 2, 0, 0);
		feed(p[1]);
		EXPECT_EQ(1, ring_harvest_count(&r));

		w.ring = &r;
		ASSERT_EQ(0, pthread_create(&thread, NULL, wait_for_two, &w));
		while (!ring_load(&w.tid))
			sched_yield();
		wait_asleep(w.tid);
		EXPECT_LEVEL(&r, 1, EPOLLIN);
		drain(p[0]);
		feed(p[1]);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, w.ret);
		EXPECT_EQ(1U, ring_cq_count(&r));
		EXPECT_LEVEL(&r, 1, EPOLLIN);
		ring_exit(&r);
	}
}

struct writer {
	pid_t waiter;
	int fd[2];
};

/* The first one twice, then the other one, each as the waiter is asleep */
static void *write_thrice(void *arg)
{
	struct writer *w = arg;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		wait_asleep(w->waiter);
		feed(w->fd[i / 2]);
	}
	return NULL;
}

static long context_switches(void)
{
	struct rusage ru = {};

	getrusage(RUSAGE_THREAD, &ru);
	return ru.ru_nvcsw;
}

/*
 * Whoever waits for two on a ring that counts what it's woken for sleeps until
 * there are two, however often the first one is woken. (A pipe that isn't empty
 * wouldn't wake it at all.)
 */
TEST(counts_once)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	struct writer w = { .waiter = sys_gettid() };
	pthread_t thread;
	struct ring r;
	long before;
	int i, sk[2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &opts));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
		ASSERT_EQ(1, ring_arm(&r, sk[0], EPOLLIN, i));
		w.fd[i] = sk[1];
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_thrice, &w));
	before = context_switches();
	EXPECT_EQ(0, ring_wait(&r, 2));
	EXPECT_EQ(before + 1, context_switches());
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(2U, ring_cq_count(&r));
	ring_exit(&r);
}

TEST_HARNESS_MAIN
