// SPDX-License-Identifier: GPL-2.0
/*
 * Whoever doesn't wait in io_uring_enter() has to learn that a level triggered
 * poll wants to be looked at: those that poll the ring, by whatever means and
 * how ever indirectly, those that have an eventfd, and those that only peek.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring_fixture.h"
#include "sleeper.h"

/* user_data */
#define PIPE	1
#define RING	2

static bool pollin(int fd)
{
	return file_events(fd, POLLIN, 0) & POLLIN;
}

static int epoll_of(int fd, __u32 mask)
{
	struct epoll_event e = { .events = mask };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) ? -1 : ep;
}

/* How many of them are ready? There's one file in it. */
static int epoll_ready(int ep, int ms)
{
	struct epoll_event e;

	return epoll_wait(ep, &e, 1, ms);
}

/* Consume everything, unless there are two unconsumed CQEs of one poll. */
static bool pop_all(struct ring *r)
{
	struct io_uring_cqe cqe;
	__u64 seen = 0;

	while (ring_pop(r, &cqe)) {
		if (seen & (1ULL << cqe.user_data))
			return false;
		seen |= 1ULL << cqe.user_data;
	}
	return true;
}

/*
 * poll() and epoll
 */

TEST_F(ring, poll)
{
	char c;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	EXPECT_FALSE(pollin(self->ring.fd));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_TRUE(pollin(self->ring.fd));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_TRUE(pollin(self->ring.fd));
	EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
	/* consumed, but not read: it's to be reported again */
	EXPECT_TRUE(pollin(self->ring.fd));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
	ASSERT_EQ(1, read(self->pipe[0], &c, 1));
	EXPECT_SILENT(&self->ring);
	EXPECT_FALSE(pollin(self->ring.fd));
}

TEST_F(ring, poll_blocks)
{
	struct sleeper s;
	unsigned int i;
	char c;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(POLLIN, file_events(self->ring.fd, POLLIN,
					      RING_SOON_MS));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_EQ(1, ring_harvest_count(&self->ring));
		EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_SILENT(&self->ring);
	}
}

TEST_F(ring, epoll)
{
	int ep = epoll_of(self->ring.fd, EPOLLIN);
	struct sleeper s;
	unsigned int i;
	char c;

	ASSERT_LE(0, ep);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	EXPECT_EQ(0, epoll_ready(ep, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(1, epoll_ready(ep, RING_SOON_MS));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_EQ(1, ring_harvest_count(&self->ring));
		EXPECT_EQ(1, epoll_ready(ep, 0));
		EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
		/* epoll keeps the level as well */
		EXPECT_EQ(1, epoll_ready(ep, 0));
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_SILENT(&self->ring);
		EXPECT_EQ(0, epoll_ready(ep, 0));
	}
}

/* Going from idle to ready is an edge. */
TEST_F(ring, epoll_edge)
{
	int ep = epoll_of(self->ring.fd, EPOLLIN | EPOLLET);
	struct sleeper s;
	unsigned int i;
	char c;

	ASSERT_LE(0, ep);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(1, epoll_ready(ep, RING_SOON_MS));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_EQ(1, ring_harvest_count(&self->ring));
		EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_SILENT(&self->ring);
		/* those of the CQE */
		epoll_ready(ep, 0);
		EXPECT_EQ(0, epoll_ready(ep, 0));
	}
}

/*
 * A random walk. The model tells which files are ready, and which polls have an
 * unconsumed CQE.
 */

#define WALK_FILES	3
#define WALK_STEPS	400

struct walk {
	int pipe[WALK_FILES][2];
	unsigned int bytes[WALK_FILES];
	bool reported[WALK_FILES];
	int ep;
};

/* Would io_uring_enter() post something? */
static bool walk_pending(const struct walk *w)
{
	unsigned int i;

	for (i = 0; i < WALK_FILES; i++)
		if (w->bytes[i] && !w->reported[i])
			return true;
	return false;
}

static bool walk_harvest(struct walk *w, struct ring *r)
{
	unsigned int i, n = 0;

	for (i = 0; i < WALK_FILES; i++) {
		w->reported[i] |= w->bytes[i];
		n += w->reported[i];
	}
	return ring_harvest_count(r) == (int)n;
}

static bool walk_pop(struct walk *w, struct ring *r)
{
	struct io_uring_cqe cqe;

	if (!ring_pop(r, &cqe))
		return true;
	if (cqe.user_data >= WALK_FILES || !w->reported[cqe.user_data] ||
	    cqe.flags != IORING_CQE_F_MORE || cqe.res != EPOLLIN)
		return false;
	w->reported[cqe.user_data] = false;
	return true;
}

static bool walk_step(struct walk *w, struct ring *r, int op, int i)
{
	char c;

	switch (op) {
	case 0:
		return walk_harvest(w, r);
	case 1:
		return walk_pop(w, r);
	case 2:
		if (w->bytes[i] == 2)
			return true;
		w->bytes[i]++;
		return write(w->pipe[i][1], "x", 1) == 1;
	default:
		if (!w->bytes[i])
			return true;
		w->bytes[i]--;
		return read(w->pipe[i][0], &c, 1) == 1;
	}
}

TEST_F(ring, never_missed)
{
	unsigned int seed = 1;
	struct walk w = {};
	int i, op;

	w.ep = epoll_of(self->ring.fd, EPOLLIN);
	ASSERT_LE(0, w.ep);
	for (i = 0; i < WALK_FILES; i++) {
		ASSERT_EQ(0, pipe(w.pipe[i]));
		ASSERT_EQ(1, ring_arm(&self->ring, w.pipe[i][0], EPOLLIN, i));
	}
	for (i = 0; i < WALK_STEPS; i++) {
		op = rand_r(&seed) % 4;
		ASSERT_TRUE(walk_step(&w, &self->ring, op,
				      rand_r(&seed) % WALK_FILES)) {
			TH_LOG("operation %d of step %d", op, i);
		}
		if (walk_pending(&w))
			ASSERT_TRUE(ring_taskrun(&self->ring));
		if (!walk_pending(&w) && !ring_cq_count(&self->ring))
			continue;
		ASSERT_TRUE(pollin(self->ring.fd)) {
			TH_LOG("operation %d of step %d", op, i);
		}
		/* or else it drops it, and waits for a wake-up */
		if (rand_r(&seed) % 2)
			ASSERT_EQ(1, epoll_ready(w.ep, RING_SOON_MS));
	}
}

/*
 * Rings that poll rings
 */

TEST_F(ring, other_ring)
{
	struct ring other;
	struct sleeper s;
	unsigned int i;
	char c;

	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(1, ring_arm(&other, self->ring.fd, EPOLLIN, RING));
	EXPECT_SILENT(&other);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(0, ring_wait(&other, 1));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_EQ(1, ring_harvest_count(&other));
		EXPECT_LEVEL(&other, RING, EPOLLIN);
		EXPECT_EQ(1, ring_harvest_count(&self->ring));
		EXPECT_EQ(1, ring_harvest_count(&other));
		EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
		EXPECT_LEVEL(&other, RING, EPOLLIN);
		/* not read */
		EXPECT_EQ(1, ring_harvest_count(&other));
		EXPECT_LEVEL(&other, RING, EPOLLIN);
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_SILENT(&self->ring);
		EXPECT_SILENT(&other);
	}
	ring_exit(&other);
}

/* Nothing but itself: a CQE of something else makes it ready, its own doesn't. */
TEST_F(ring, only_itself)
{
	unsigned int i;

	ASSERT_EQ(1, ring_arm(&self->ring, self->ring.fd, EPOLLIN, RING));
	EXPECT_SILENT(&self->ring);
	prep_nop(ring_sqe(&self->ring), PIPE);
	ASSERT_EQ(1, ring_submit(&self->ring));
	for (i = 0; i < 3; i++) {
		ring_harvest(&self->ring);
		EXPECT_TRUE(pop_all(&self->ring));
	}
	EXPECT_SILENT(&self->ring);
}

/* It's looked at while it looks at itself. That comes to an end. */
TEST_F(ring, itself)
{
	bool silent = false;
	unsigned int i;
	char c;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(1, ring_arm(&self->ring, self->ring.fd, EPOLLIN, RING));
	EXPECT_SILENT(&self->ring);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_TRUE(pop_all(&self->ring));
	for (i = 0; i < 10; i++) {
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_TRUE(pop_all(&self->ring));
	}
	ASSERT_EQ(1, read(self->pipe[0], &c, 1));
	for (i = 0; i < 10 && !silent; i++) {
		silent = !ring_harvest_count(&self->ring);
		EXPECT_TRUE(pop_all(&self->ring));
	}
	EXPECT_TRUE(silent);
}

/*
 * Nobody promises that these two ever fall silent, each has something to look
 * at when the other one has. But no event is lost, and nothing hangs.
 */
TEST_F(ring, each_other)
{
	struct ring other;
	unsigned int i;
	char c;

	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(1, ring_arm(&self->ring, other.fd, EPOLLIN, RING));
	ASSERT_EQ(1, ring_arm(&other, self->ring.fd, EPOLLIN, RING));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(1, write(self->pipe[1], "x", 1));
		EXPECT_EQ(0, ring_wait(&other, 1));
		EXPECT_TRUE(pop_all(&other));
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_TRUE(pop_all(&self->ring));
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
	}
	ring_exit(&other);
}

static void chain(struct __test_metadata *_metadata,
		  const struct ring_opts *opts, unsigned int n)
{
	struct ring *r = calloc(n, sizeof(*r));
	int p[2], fd;
	unsigned int i;
	char c;

	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, pipe(p));
	for (i = 0, fd = p[0]; i < n; fd = r[i++].fd) {
		ASSERT_EQ(0, ring_init(&r[i], opts));
		ASSERT_EQ(1, ring_arm(&r[i], fd, EPOLLIN, RING));
	}
	/* being polled for the first time makes some of them look up */
	for (i = 0; i < n; i++) {
		EXPECT_LE(0, ring_harvest(&r[i]));
		EXPECT_TRUE(pop_all(&r[i]));
	}
	for (i = 0; i < n; i++)
		EXPECT_SILENT(&r[i]);
	ASSERT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, ring_wait(&r[n - 1], 1));
	for (i = n; i--;)
		EXPECT_EQ(1, ring_harvest_count(&r[i]));
	ASSERT_EQ(1, read(p[0], &c, 1));
	for (i = 0; i < n; i++) {
		EXPECT_LEVEL(&r[i], RING, EPOLLIN);
		EXPECT_SILENT(&r[i]);
	}
	/* from the bottom, each of them loses what it polls */
	close(p[0]);
	for (i = 0; i < n; i++) {
		EXPECT_EQ(0, ring_wait(&r[i], 1));
		EXPECT_CQE(&r[i], RING, -ECANCELED, 0);
		ring_exit(&r[i]);
	}
	free(r);
}

TEST_F(ring, chain)
{
	chain(_metadata, &variant->ring, 8);
}

/* Each wake-up leads to the next one, that must not be recursion. */
TEST(long_chain)
{
	const struct ring_opts opts = { .sq_entries = 1 };

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	chain(_metadata, &opts, 150);
}

/* A ring that is going to tell who polls it is closed before it comes to that. */
TEST(exit_before_notified)
{
	const struct ring_opts opts = {};
	struct ring r, poller;
	unsigned int i;
	int ep, ret;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &opts));
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(0, ring_init(&poller, &opts));
		ep = epoll_of(poller.fd, EPOLLIN);
		ASSERT_LE(0, ep);
		ASSERT_EQ(1, ring_arm(&poller, r.fd, EPOLLIN, RING));
		prep_nop(ring_sqe(&r), PIPE);
		ASSERT_EQ(1, ring_submit(&r));
		/* what is left of the last one may interrupt that */
		do
			ret = epoll_ready(ep, RING_SOON_MS);
		while (ret < 0 && errno == EINTR);
		EXPECT_EQ(1, ret);
		EXPECT_TRUE(pop_all(&r));
		EXPECT_EQ(0, ring_harvest(&poller));
		/* twice in a jiffy: the second time is in the next one */
		prep_nop(ring_sqe(&r), PIPE);
		ASSERT_EQ(1, ring_submit(&r));
		EXPECT_TRUE(pop_all(&r));
		ring_exit(&poller);
		close(ep);
	}
	ring_exit(&r);
}

TEST_F(ring, epoll_in_ring)
{
	int ep = epoll_of(self->ring.fd, EPOLLIN);
	struct ring other;
	struct sleeper s;
	unsigned int i;
	char c;

	ASSERT_LE(0, ep);
	ASSERT_EQ(0, ring_init(&other, &variant->ring));
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(1, ring_arm(&other, ep, EPOLLIN, RING));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(0, ring_wait(&other, 1));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_LEVEL(&other, RING, EPOLLIN);
		EXPECT_EQ(1, epoll_ready(ep, 0));
		EXPECT_EQ(1, ring_harvest_count(&self->ring));
		EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_SILENT(&self->ring);
		EXPECT_SILENT(&other);
	}
	ring_exit(&other);
}

/* epoll refuses loops, but cannot see this one. */
TEST_F(ring, epoll_loop)
{
	int ep = epoll_of(self->ring.fd, EPOLLIN);
	unsigned int i;
	char c;

	ASSERT_LE(0, ep);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(1, ring_arm(&self->ring, ep, EPOLLIN, RING));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(1, write(self->pipe[1], "x", 1));
		EXPECT_EQ(1, epoll_ready(ep, RING_SOON_MS));
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_TRUE(pop_all(&self->ring));
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_LE(0, ring_harvest(&self->ring));
		EXPECT_TRUE(pop_all(&self->ring));
	}
}

/*
 * Registered eventfd
 */

static int register_eventfd(struct ring *r, unsigned int op)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	return sys_io_uring_register(r->fd, op, &fd, 1) ? -1 : fd;
}

/*
 * For what io-wq does: that a worker's write wakes a poll is as good as one of
 * its own requests. The same goes for polls that aren't level triggered.
 */
TEST(eventfd_async_worker)
{
	const unsigned int kinds[] = { IORING_POLL_ADD_MULTI, POLL_LEVEL };
	const struct ring_opts opts[] = {
		{ .flags = IORING_SETUP_SINGLE_ISSUER |
			   IORING_SETUP_DEFER_TASKRUN },
		{},
	};
	struct io_uring_sqe *sqe;
	struct ring r[2];
	unsigned int i;
	int fd, p[2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, ring_init(&r[0], &opts[0]));
		ASSERT_EQ(0, ring_init(&r[1], &opts[1]));
		ASSERT_EQ(0, pipe(p));
		fd = register_eventfd(&r[0], IORING_REGISTER_EVENTFD_ASYNC);
		ASSERT_LE(0, fd);
		prep_poll(ring_sqe(&r[0]), p[0], EPOLLIN, kinds[i], PIPE);
		ASSERT_EQ(1, ring_submit(&r[0]));
		feed(p[1]);
		EXPECT_EQ(0, file_events(fd, POLLIN, 20));
		EXPECT_EQ(1, ring_harvest_count(&r[0]));
		EXPECT_LEVEL(&r[0], PIPE, EPOLLIN);
		drain(p[0]);
		EXPECT_SILENT(&r[0]);

		sqe = ring_sqe(&r[1]);
		sqe->opcode = IORING_OP_WRITE;
		sqe->flags = IOSQE_ASYNC;
		sqe->fd = p[1];
		sqe->addr = (uintptr_t)"x";
		sqe->len = 1;
		ASSERT_EQ(1, ring_submit(&r[1]));
		EXPECT_EQ(POLLIN, file_events(fd, POLLIN, RING_SOON_MS));
		ring_exit(&r[0]);
		ring_exit(&r[1]);
	}
}

/* It's signalled when the file gets ready, there's no CQE yet. */
TEST_F(ring, eventfd)
{
	int fd = register_eventfd(&self->ring, IORING_REGISTER_EVENTFD);
	struct sleeper s;
	unsigned int i;
	eventfd_t v;
	char c;

	ASSERT_LE(0, fd);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s, self->pipe[1]));
		EXPECT_EQ(POLLIN, file_events(fd, POLLIN, RING_SOON_MS));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_EQ(0U, ring_cq_count(&self->ring));
		EXPECT_EQ(1, ring_harvest_count(&self->ring));
		EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
		ASSERT_EQ(1, read(self->pipe[0], &c, 1));
		EXPECT_SILENT(&self->ring);
		EXPECT_EQ(0, eventfd_read(fd, &v));
	}
}

TEST_F(ring, eventfd_disabled)
{
	int fd = register_eventfd(&self->ring, IORING_REGISTER_EVENTFD);
	char c;

	ASSERT_LE(0, fd);
	ring_store(self->ring.cq_flags, IORING_CQ_EVENTFD_DISABLED);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, ring_harvest_count(&self->ring));
	EXPECT_LEVEL(&self->ring, PIPE, EPOLLIN);
	ASSERT_EQ(1, read(self->pipe[0], &c, 1));
	EXPECT_SILENT(&self->ring);
	EXPECT_FALSE(file_events(fd, POLLIN, 20));

	ring_store(self->ring.cq_flags, 0);
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(POLLIN, file_events(fd, POLLIN, RING_SOON_MS));
}

/* A level poll is as little asynchronous as any other multishot poll. */
TEST_F(ring, eventfd_async)
{
	int fd[2], p[2];
	struct ring edge;

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, ring_init(&edge, &variant->ring));
	fd[0] = register_eventfd(&self->ring, IORING_REGISTER_EVENTFD_ASYNC);
	fd[1] = register_eventfd(&edge, IORING_REGISTER_EVENTFD_ASYNC);
	ASSERT_LE(0, fd[0]);
	ASSERT_LE(0, fd[1]);
	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	prep_poll(ring_sqe(&edge), p[0], EPOLLIN, IORING_POLL_ADD_MULTI, PIPE);
	ASSERT_EQ(1, ring_submit(&edge));
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	ASSERT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, ring_wait(&self->ring, 1));
	EXPECT_EQ(0, ring_wait(&edge, 1));
	EXPECT_EQ(file_events(fd[1], POLLIN, 20), file_events(fd[0], POLLIN, 0));
	ring_exit(&edge);
}

/* It polls the eventfd that it signals, which ends with the CQ ring. */
TEST_F(ring, eventfd_loop)
{
	int fd = register_eventfd(&self->ring, IORING_REGISTER_EVENTFD);
	unsigned int i;
	eventfd_t v;

	ASSERT_LE(0, fd);
	ASSERT_EQ(1, ring_arm(&self->ring, fd, EPOLLIN, RING));
	ASSERT_EQ(0, eventfd_write(fd, 1));
	for (i = 0; i < 20; i++) {
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_EQ(1U, ring_cq_count(&self->ring));
		EXPECT_LEVEL(&self->ring, RING, EPOLLIN);
		EXPECT_EQ(0, eventfd_read(fd, &v));
		EXPECT_EQ(0, eventfd_write(fd, 1));
	}
	/* as any other, it isn't looked at until it's woken again, and again */
	for (i = 0; i < 2; i++) {
		while (ring_harvest_count(&self->ring) == 1) {
			EXPECT_TRUE(pop_all(&self->ring));
			EXPECT_EQ(0, eventfd_read(fd, &v));
		}
		EXPECT_EQ(0, eventfd_write(fd, 1));
		EXPECT_EQ(0, ring_wait(&self->ring, 1));
		EXPECT_LEVEL(&self->ring, RING, EPOLLIN);
	}
}

/*
 * Those who only look at the ring, and enter when IORING_SQ_TASKRUN asks for it
 */

struct peeked {
	pthread_t thread;
	int fd;
	unsigned int n;
	unsigned int consumed;
};

static void *peeked_thread(void *arg)
{
	struct peeked *p = arg;
	unsigned int i;

	for (i = 0; i < p->n; i++) {
		while (ring_load(&p->consumed) != i)
			sched_yield();
		if (write(p->fd, "x", 1) != 1)
			return p;
	}
	return NULL;
}

TEST_F(ring, peek_only)
{
	struct peeked p = { .fd = self->pipe[1], .n = 50 };
	time_t deadline = time(NULL) + RING_SOON_MS / 1000;
	struct io_uring_cqe cqe;
	void *failed;
	char c;

	ASSERT_EQ(1, ring_arm(&self->ring, self->pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(0, pthread_create(&p.thread, NULL, peeked_thread, &p));
	while (p.consumed < p.n) {
		ASSERT_LT(time(NULL), deadline);
		if (ring_pop(&self->ring, &cqe)) {
			ASSERT_EQ(1, read(self->pipe[0], &c, 1));
			ring_store(&p.consumed, p.consumed + 1);
			/* and now it's idle, instead of looked at once more */
			EXPECT_LE(0, ring_harvest(&self->ring));
		} else if (ring_taskrun(&self->ring)) {
			EXPECT_EQ(0, ring_harvest(&self->ring));
		} else {
			sched_yield();
		}
	}
	ASSERT_EQ(0, pthread_join(p.thread, &failed));
	EXPECT_EQ(NULL, failed);
	EXPECT_SILENT(&self->ring);
	EXPECT_FALSE(ring_taskrun(&self->ring));
}

/*
 * Several threads wait on one ring, which takes one without a single issuer
 */

#define WAITERS		4

struct waiters {
	struct ring ring;
	int pipe[2];
	pthread_t thread[WAITERS];
	pthread_mutex_t lock;	/* the CQ ring, and reading */
	bool stop;
	sem_t done;
};

FIXTURE(waiters)
{
	struct waiters w;
};

FIXTURE_VARIANT(waiters)
{
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(waiters, plain) {
	.ring.flags = 0,
};

FIXTURE_VARIANT_ADD(waiters, coop_taskrun) {
	.ring.flags = IORING_SETUP_COOP_TASKRUN,
};

FIXTURE_VARIANT_ADD(waiters, sqpoll) {
	.ring.flags = IORING_SETUP_SQPOLL,
};

/*
 * There's no timeout: who isn't woken sits there until the test gives up.
 * Told to stop it consumes the CQE, and leaves the data to the others.
 */
static void *waiter_thread(void *arg)
{
	struct waiters *w = arg;
	struct io_uring_cqe cqe;
	bool stop, done;
	char c;

	do {
		ring_enter(&w->ring, 1);
		pthread_mutex_lock(&w->lock);
		stop = w->stop;
		done = ring_pop(&w->ring, &cqe) && !stop &&
		       read(w->pipe[0], &c, 1) == 1;
		pthread_mutex_unlock(&w->lock);
		if (done || stop)
			sem_post(&w->done);
	} while (!stop);
	return NULL;
}

FIXTURE_SETUP(waiters)
{
	int i;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&self->w.ring, &variant->ring));
	ASSERT_EQ(0, pipe2(self->w.pipe, O_NONBLOCK));
	ASSERT_EQ(1, ring_arm(&self->w.ring, self->w.pipe[0], EPOLLIN, PIPE));
	ASSERT_EQ(0, pthread_mutex_init(&self->w.lock, NULL));
	ASSERT_EQ(0, sem_init(&self->w.done, 0, 0));
	for (i = 0; i < WAITERS; i++)
		ASSERT_EQ(0, pthread_create(&self->w.thread[i], NULL,
					    waiter_thread, &self->w));
}

FIXTURE_TEARDOWN(waiters)
{
	ring_exit(&self->w.ring);
}

static int sem_wait_soon(sem_t *sem)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += RING_SOON_MS / 1000;
	return sem_timedwait(sem, &ts);
}

TEST_F(waiters, each_event_is_served)
{
	int i;

	for (i = 0; i < 200; i++) {
		ASSERT_EQ(1, write(self->w.pipe[1], "x", 1));
		ASSERT_EQ(0, sem_wait_soon(&self->w.done)) {
			TH_LOG("nobody was woken by write %d", i);
		}
	}
	pthread_mutex_lock(&self->w.lock);
	self->w.stop = true;
	pthread_mutex_unlock(&self->w.lock);
	/*
	 * Who stops has consumed the CQE, the poll is still listed: only new
	 * data wakes the next one.
	 */
	for (i = 0; i < WAITERS; i++) {
		ASSERT_EQ(1, write(self->w.pipe[1], "x", 1));
		ASSERT_EQ(0, sem_wait_soon(&self->w.done)) {
			TH_LOG("nobody was woken to stop, write %d", i);
		}
	}
	for (i = 0; i < WAITERS; i++)
		ASSERT_EQ(0, pthread_join(self->w.thread[i], NULL));
}

/* All of them learn that there won't be anything more. */
TEST_F(waiters, close)
{
	int i;

	pthread_mutex_lock(&self->w.lock);
	self->w.stop = true;
	pthread_mutex_unlock(&self->w.lock);
	EXPECT_EQ(0, close(self->w.pipe[0]));
	ASSERT_EQ(0, sem_wait_soon(&self->w.done));
	for (i = 1; i < WAITERS; i++) {
		prep_nop(ring_sqe(&self->w.ring), 0);
		ASSERT_EQ(1, ring_submit(&self->w.ring));
		ASSERT_EQ(0, sem_wait_soon(&self->w.done));
	}
	for (i = 0; i < WAITERS; i++)
		ASSERT_EQ(0, pthread_join(self->w.thread[i], NULL));
}

/* Task_work that has run clears the flag, unless there are polls to report. */
TEST_F(ring, taskrun_kept)
{
	struct ring *r = &self->ring;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, PIPE));
	prep_poll(ring_sqe(r), p[0], EPOLLIN, IORING_POLL_ADD_MULTI, RING);
	ASSERT_EQ(1, ring_submit(r));
	feed(self->pipe[1]);
	EXPECT_TRUE(ring_taskrun(r));
	/* it runs at the end of this, at the latest when asked for events */
	feed(p[1]);
	EXPECT_TRUE(ring_taskrun(r));
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_EQ(2U, ring_cq_count(r));
	EXPECT_TRUE(ring_taskrun(r));
}

/* Not so when the last one has ended, and something else was done after that. */
TEST_F(ring, taskrun_ends)
{
	struct ring *r = &self->ring;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, PIPE));
	prep_poll(ring_sqe(r), p[0], EPOLLIN, 0, RING);
	ASSERT_EQ(1, ring_submit(r));
	feed(self->pipe[1]);
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_LEVEL(r, PIPE, EPOLLIN);
	EXPECT_TRUE(ring_taskrun(r));
	close(self->pipe[0]);
	feed(p[1]);
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_EQ(2U, ring_cq_count(r));
	EXPECT_EQ(0, ring_harvest(r));
	EXPECT_FALSE(ring_taskrun(r));
	EXPECT_TRUE(pop_all(r));
	close(p[0]);
	close(p[1]);
}

/*
 * A stopped process has work to do for an edge triggered poll of its own, which
 * the flag tells. It isn't for another one that gets level triggered polls to
 * clear it.
 */
TEST(taskrun_of_another_task)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	};
	int edge[2], level[2], status;
	struct ring r;
	pid_t pid;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &opts));
	ASSERT_EQ(0, pipe(edge));
	ASSERT_EQ(0, pipe(level));
	ASSERT_EQ(1, ring_arm(&r, level[0], EPOLLIN, PIPE));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prep_poll(ring_sqe(&r), edge[0], EPOLLIN, IORING_POLL_ADD_MULTI,
			  RING);
		if (ring_submit(&r) != 1 || raise(SIGSTOP))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_FALSE(ring_taskrun(&r));
	feed(edge[1]);
	EXPECT_TRUE(ring_taskrun(&r));

	feed(level[1]);
	EXPECT_EQ(1, ring_harvest_count(&r));
	EXPECT_LEVEL(&r, PIPE, EPOLLIN);
	drain(level[0]);
	EXPECT_SILENT(&r);
	EXPECT_TRUE(ring_taskrun(&r));

	EXPECT_EQ(0, kill(pid, SIGCONT));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	ring_exit(&r);
}

TEST_HARNESS_MAIN
