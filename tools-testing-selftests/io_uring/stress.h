/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Races: in each round the test does something while two other threads do
 * something else. Include this after kselftest_harness.h, and tell the
 * DEFAULT_COUNT.
 *
 * POLL_STRESS_SEED and POLL_STRESS_COUNT (rounds a test) in the environment
 * override the defaults.
 */
#ifndef IO_URING_SELFTEST_STRESS_H
#define IO_URING_SELFTEST_STRESS_H

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "ring.h"

#define DEFAULT_SEED	1
#define TIMEOUT		300	/* seconds */

#define RACERS		2
#define MAX_REQS	8	/* requests a round */
#define MAX_DELAY	16384	/* turns of an empty loop */
#define STRESS_TOUCHED	"/proc/self/exe"

enum op {
	OP_QUIT,
	OP_CLOSE,
	OP_WRITE,
	OP_HARVEST,
	OP_TOUCH,
	OP_REPLACE,
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
	unsigned int flags;	/* of the polls */
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

static inline void delay(unsigned int turns)
{
	while (turns--)
		__asm__ __volatile__("");
}

static inline unsigned int pick(struct stress *s, unsigned int n)
{
	return rand_r(&s->seed) % n;
}

/*
 * Close it, and open others that are ready. One of them has its number, and most
 * likely its memory.
 */
static inline bool replace(int fd)
{
	int fds[3];
	unsigned int i;
	bool ok;

	ok = !close(fd);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = eventfd(1, EFD_CLOEXEC);
	usleep(2000);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		ok &= !close(fds[i]);
	return ok;
}

static inline void racer_act(struct racer *r)
{
	switch (r->op) {
	case OP_CLOSE:
		r->failed |= close(r->fd);
		break;
	case OP_WRITE:
		r->failed |= write(r->fd, "x", 1) != 1 && errno != EPIPE &&
			     errno != EAGAIN;
		break;
	case OP_TOUCH:
		r->failed |= close(open(STRESS_TOUCHED, O_RDONLY | O_CLOEXEC));
		break;
	case OP_REPLACE:
		r->failed |= !replace(r->fd);
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
static inline void dawdle(struct stress *s)
{
	delay(pick(s, 8 * MAX_DELAY));
}

static inline void *racer_thread(void *arg)
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

static inline void start_late(struct stress *s, int i, enum op op, int fd,
			      unsigned int max_delay)
{
	struct racer *r = &s->racer[i];

	r->op = op;
	r->fd = fd;
	r->delay = pick(s, max_delay);
	r->started = true;
	sem_post(&r->start);
}

static inline void start(struct stress *s, int i, enum op op, int fd)
{
	start_late(s, i, op, fd, MAX_DELAY);
}

/* Somebody who writes, or who looks at the polls if anybody may. */
static inline void start_any(struct stress *s, int i, int fd)
{
	bool may = !(s->ring.flags & IORING_SETUP_SINGLE_ISSUER);

	start(s, i, may && pick(s, 2) ? OP_HARVEST : OP_WRITE, fd);
}

/* False if anything has been wrong so far. */
static inline bool finish(struct stress *s)
{
	int i;

	for (i = 0; i < RACERS; i++) {
		if (s->racer[i].started)
			sem_wait(&s->racer[i].done);
		s->racer[i].started = false;
		s->broken |= s->racer[i].failed;
	}
	return !s->broken;
}

static inline unsigned int from_env(const char *name, unsigned int value)
{
	const char *env = getenv(name);

	return env ? strtoul(env, NULL, 0) : value;
}

static inline int stress_init(struct stress *s, const struct ring_opts *opts,
			      unsigned int flags)
{
	int i, ret;

	s->flags = flags;
	s->seed = from_env("POLL_STRESS_SEED", DEFAULT_SEED);
	s->count = from_env("POLL_STRESS_COUNT", DEFAULT_COUNT);
	ksft_print_msg("POLL_STRESS_SEED=%u POLL_STRESS_COUNT=%u\n",
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

static inline void stress_exit(struct stress *s)
{
	int i;

	for (i = 0; i < RACERS; i++) {
		start(s, i, OP_QUIT, -1);
		pthread_join(s->racer[i].thread, NULL);
	}
	ring_exit(&s->ring);
}

/* Forget about all requests but the first ones, which are still armed. */
static inline void begin(struct stress *s, unsigned int keep)
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
static inline void collect(struct stress *s)
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
			if (s->flags & IORING_POLL_ADD_LEVEL)
				s->broken |= seen & (1 << i);
			seen |= 1 << i;
			s->events[i]++;
		}
	}
	ring_seen_n(r, tail - head);
}

/* All but the first ones have to come to their end. */
static inline bool settle(struct stress *s, unsigned int keep)
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

/*
 * Requests, they return 1
 */

static inline int submit_poll(struct stress *s, int fd, __u32 mask, __u8 flags)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	prep_poll(sqe, fd, mask, s->flags, s->base + s->n++);
	sqe->flags = flags;
	return ring_submit(&s->ring);
}

static inline int submit_cancel(struct stress *s, unsigned int flags)
{
	prep_cancel(ring_sqe(&s->ring), flags ? 0 : s->base, flags,
		    s->base + s->n++);
	return ring_submit(&s->ring);
}

static inline int submit_remove(struct stress *s)
{
	prep_poll_remove(ring_sqe(&s->ring), s->base, s->base + s->n++);
	return ring_submit(&s->ring);
}

static inline int submit_update(struct stress *s, __u32 mask)
{
	prep_poll_update(ring_sqe(&s->ring), s->base, IORING_POLL_UPDATE_EVENTS,
			 mask, 0, s->base + s->n++);
	return ring_submit(&s->ring);
}

static inline bool in_round(const struct stress *s, bool ok)
{
	if (!ok)
		ksft_print_msg("in round %u\n", s->round);
	return ok;
}

/* Of a round, which is named if it fails. */
#define CHECK(cond)	ASSERT_TRUE(in_round(s, cond))

#endif /* IO_URING_SELFTEST_STRESS_H */
