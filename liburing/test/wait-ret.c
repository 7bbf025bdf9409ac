/* SPDX-License-Identifier: MIT */
/*
 * Description: What every call that waits for CQEs returns, which CQE it
 *		returns, and how long it takes. Each row is one call on a ring of
 *		its own, with so many SQEs to submit, CQEs that are there already
 *		and CQEs to wait for, and a way for the wait to end.
 *
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "liburing.h"
#include "helpers.h"

/*
 * A wait that doesn't get its CQEs is to take that long, less than a tick is
 * lost on the way. If it takes as much again, it was waited twice.
 */
#define T_MS		200
#define TICK_MS		10
/* for what isn't to end the wait, or only one that would hang */
#define LONG_MS		(5 * T_MS)

#define NR_PARALLEL	16
/* a busy machine is slow at times, a bug is every time */
#define NR_TRIES	3

/* user_data */
enum {
	UD_NOP = 1,		/* ready before the call */
	UD_TIMER,		/* gets ready as the wait is to end */
	UD_GUARD,
	UD_POLL,		/* submitted by the call, isn't going to complete */
};

/*
 * How a wait ends that doesn't get its CQEs. Timers are polls of a timerfd: the
 * kernel returns for an IORING_OP_TIMEOUT, whatever it waits for.
 */
enum limit {
	NO_TS,			/* by timers, those make up for them */
	TS,			/* by its timeout */
	MIN_NO_TS,		/* by min_wait, or after that by the first CQE */
	MIN_TS,			/* by min_wait, or by its timeout without a CQE */
	NR_LIMITS,
};

static const char *limit_names[] = {
	"no ts", "ts", "min_wait and no ts", "min_wait and ts",
};

#define L(limit)	(1U << (limit))

struct kind {
	const char *name;
	unsigned flags;
	unsigned without;	/* features that liburing isn't to see */
};

static const struct kind kinds[] = {
	{ .name = "plain" },
	{ .name = "coop", .flags = IORING_SETUP_COOP_TASKRUN },
	{ .name = "defer", .flags = IORING_SETUP_SINGLE_ISSUER |
				    IORING_SETUP_DEFER_TASKRUN },
	{ .name = "sqpoll", .flags = IORING_SETUP_SQPOLL },
	{ .name = "no-ext-arg", .without = IORING_FEAT_EXT_ARG |
					   IORING_FEAT_MIN_TIMEOUT },
};

struct args {
	struct io_uring_cqe **cqe;
	unsigned wait_nr;
	struct __kernel_timespec *ts;
	unsigned min_wait;	/* usec */
	struct io_uring_reg_wait *reg;
};

struct call {
	const char *name;
	int (*fn)(struct io_uring *ring, struct args *a);
	unsigned features;	/* that the kernel needs */
	unsigned limits;
	int wait_from, wait_to;
	bool submits;
	bool no_wait_result;	/* returns nothing but what was submitted */
	bool reg;		/* needs a registered wait region */
	bool enters_once;	/* a single system call, whatever it returns */
};

static int submit_and_wait(struct io_uring *ring, struct args *a)
{
	int ret = io_uring_submit_and_wait(ring, a->wait_nr);

	/* it doesn't say which one is the first */
	__io_uring_peek_cqe(ring, a->cqe, NULL);
	return ret;
}

static int submit_and_get_events(struct io_uring *ring, struct args *a)
{
	int ret = io_uring_submit_and_get_events(ring);

	__io_uring_peek_cqe(ring, a->cqe, NULL);
	return ret;
}

static int submit_and_wait_timeout(struct io_uring *ring, struct args *a)
{
	return io_uring_submit_and_wait_timeout(ring, a->cqe, a->wait_nr, a->ts,
						NULL);
}

static int submit_and_wait_min_timeout(struct io_uring *ring, struct args *a)
{
	return io_uring_submit_and_wait_min_timeout(ring, a->cqe, a->wait_nr,
						    a->ts, a->min_wait, NULL);
}

static int submit_and_wait_reg(struct io_uring *ring, struct args *a)
{
	memset(a->reg, 0, sizeof(*a->reg));
	a->reg->min_wait_usec = a->min_wait;
	if (a->ts) {
		a->reg->ts = *a->ts;
		a->reg->flags = IORING_REG_WAIT_TS;
	}
	return io_uring_submit_and_wait_reg(ring, a->cqe, a->wait_nr, 0);
}

static int peek_cqe(struct io_uring *ring, struct args *a)
{
	return io_uring_peek_cqe(ring, a->cqe);
}

static int wait_cqe(struct io_uring *ring, struct args *a)
{
	return io_uring_wait_cqe(ring, a->cqe);
}

static int wait_cqe_nr(struct io_uring *ring, struct args *a)
{
	return io_uring_wait_cqe_nr(ring, a->cqe, a->wait_nr);
}

static int wait_cqe_timeout(struct io_uring *ring, struct args *a)
{
	return io_uring_wait_cqe_timeout(ring, a->cqe, a->ts);
}

static int wait_cqes(struct io_uring *ring, struct args *a)
{
	return io_uring_wait_cqes(ring, a->cqe, a->wait_nr, a->ts, NULL);
}

static int wait_cqes_min_timeout(struct io_uring *ring, struct args *a)
{
	return io_uring_wait_cqes_min_timeout(ring, a->cqe, a->wait_nr, a->ts,
					      a->min_wait, NULL);
}

static const struct call calls[] = {
	{
		.name = "io_uring_submit_and_wait", .fn = submit_and_wait,
		.limits = L(NO_TS), .wait_to = 2,
		.submits = true, .no_wait_result = true, .enters_once = true,
	},
	{
		.name = "io_uring_submit_and_get_events",
		.fn = submit_and_get_events, .limits = L(NO_TS),
		.submits = true, .no_wait_result = true, .enters_once = true,
	},
	{
		.name = "io_uring_submit_and_wait_timeout",
		.fn = submit_and_wait_timeout,
		.limits = L(NO_TS) | L(TS), .wait_to = 2, .submits = true,
	},
	{
		.name = "io_uring_submit_and_wait_min_timeout",
		.fn = submit_and_wait_min_timeout,
		.features = IORING_FEAT_MIN_TIMEOUT,
		.limits = L(MIN_NO_TS) | L(MIN_TS), .wait_to = 2,
		.submits = true,
	},
	{
		.name = "io_uring_submit_and_wait_reg",
		.fn = submit_and_wait_reg, .features = IORING_FEAT_MIN_TIMEOUT,
		.limits = L(NO_TS) | L(TS) | L(MIN_NO_TS) | L(MIN_TS),
		.wait_to = 2,
		.submits = true, .reg = true, .enters_once = true,
	},
	{
		.name = "io_uring_peek_cqe", .fn = peek_cqe, .limits = L(NO_TS),
	},
	{
		.name = "io_uring_wait_cqe", .fn = wait_cqe,
		.limits = L(NO_TS), .wait_from = 1, .wait_to = 1,
	},
	{
		.name = "io_uring_wait_cqe_nr", .fn = wait_cqe_nr,
		.limits = L(NO_TS), .wait_to = 2,
	},
	{
		.name = "io_uring_wait_cqe_timeout", .fn = wait_cqe_timeout,
		.limits = L(NO_TS) | L(TS), .wait_from = 1, .wait_to = 1,
	},
	{
		.name = "io_uring_wait_cqes", .fn = wait_cqes,
		.limits = L(NO_TS) | L(TS), .wait_to = 2,
	},
	{
		.name = "io_uring_wait_cqes_min_timeout",
		.fn = wait_cqes_min_timeout,
		.features = IORING_FEAT_MIN_TIMEOUT,
		.limits = L(MIN_NO_TS) | L(MIN_TS), .wait_to = 2,
	},
};

struct row {
	const struct kind *kind;
	const struct call *call;
	enum limit limit;
	int sqes;		/* to submit, 3: with an invalid one amid them */
	int ready;		/* CQEs that are there already */
	int wait_nr;
};

struct result {
	int ret;
	int cqes;		/* in the ring */
	int sqes;		/* that weren't submitted */
	int first;		/* user_data of the CQE, 0 for NULL */
	unsigned ms;
};

/* of this process */
static struct io_uring_reg_wait *reg;
static int quiet_pipe[2];
/* the timeout isn't a request */
static bool has_ext_arg;

static bool row_waits(const struct row *r)
{
	return r->ready < r->wait_nr;
}

static struct __kernel_timespec ms_to_ts(unsigned ms)
{
	return (struct __kernel_timespec) {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000,
	};
}

/*
 * The ts and min_wait of a row, how many timers it needs, and when it is to
 * end. That is the end of the batch wait if there's a CQE by then, otherwise
 * it comes after that.
 */
static int row_limits(const struct row *r, struct args *a,
		      struct __kernel_timespec *ts, unsigned *end_ms)
{
	bool has_ts = r->limit == TS || r->limit == MIN_TS;
	unsigned ts_ms = T_MS, min_ms = 0;
	int nr_timers = 0;

	*end_ms = T_MS;
	switch (r->limit) {
	case NO_TS:
		nr_timers = r->wait_nr - r->ready;
		break;
	case MIN_NO_TS:
		min_ms = T_MS;
		/* the kernel alone doesn't go on without a timeout */
		if (r->ready || r->call->enters_once)
			break;
		nr_timers = 1;
		min_ms = 3 * T_MS / 2;
		*end_ms = 2 * T_MS;
		break;
	case MIN_TS:
		min_ms = r->ready ? T_MS : T_MS / 2;
		ts_ms = r->ready ? LONG_MS : T_MS;
		break;
	default:
		break;
	}

	*ts = ms_to_ts(ts_ms);
	a->ts = has_ts ? ts : NULL;
	a->min_wait = min_ms * 1000;
	if (row_waits(r))
		return nr_timers;
	*end_ms = 0;
	return 0;
}

static void row_expect(const struct row *r, int nr_timers, unsigned end_ms,
		       struct result *e)
{
	/* a timeout that's a request submits whatever there is */
	bool submits = r->call->submits || (!has_ext_arg && r->limit == TS);

	e->cqes = r->ready + nr_timers;
	e->first = r->ready ? UD_NOP : nr_timers ? UD_TIMER : 0;
	e->sqes = submits ? 0 : r->sqes;
	e->ms = end_ms;

	if (r->call->submits && r->sqes)
		e->ret = r->sqes;
	else if (e->cqes || r->call->no_wait_result)
		e->ret = 0;
	else
		e->ret = r->wait_nr ? -ETIME : -EAGAIN;
}

static const char too_long[] = "time (too long)";

/* Returns what is wrong, NULL if nothing is. */
static const char *row_check(const struct row *r, const struct result *e,
			     const struct result *got)
{
	/* first, as what was waited for may have been something else then */
	if (got->ms >= (e->ms ? e->ms + T_MS : T_MS - TICK_MS))
		return too_long;
	if (e->ms && got->ms < e->ms - TICK_MS)
		return "time (too short)";

	if (got->ret != e->ret)
		return "return value";
	if (got->first != e->first)
		return "CQE";

	/* an internal timeout may be among them */
	if (got->cqes < e->cqes || (got->cqes > e->cqes && has_ext_arg))
		return "number of CQEs";

	/* a SQ thread takes its time */
	if (got->sqes != e->sqes &&
	    !(r->call->submits && (r->kind->flags & IORING_SETUP_SQPOLL)))
		return "number of SQEs left";
	return NULL;
}

static int register_wait(struct io_uring *ring)
{
	struct io_uring_region_desc rd = {
		.user_addr = (unsigned long) reg,
		.size = sysconf(_SC_PAGESIZE),
		.flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_mem_region_reg mr = {
		.region_uptr = (unsigned long) &rd,
		.flags = IORING_MEM_REGION_REG_WAIT_ARG,
	};

	return io_uring_register_region(ring, &mr);
}

static int create_ring(const struct kind *kind, bool with_reg,
		       struct io_uring *ring)
{
	struct io_uring_params p = {
		.flags = kind->flags,
		/* awake for the call, and asleep while that waits */
		.sq_thread_idle = 20,
	};
	int ret;

	if (with_reg)
		p.flags |= IORING_SETUP_R_DISABLED;
	ret = t_create_ring_params(16, ring, &p);
	if (ret)
		return ret;
	if (with_reg) {
		ret = register_wait(ring);
		if (ret) {
			io_uring_queue_exit(ring);
			return ret == -EINVAL ? T_SETUP_SKIP : ret;
		}
		ret = io_uring_enable_rings(ring);
		if (ret) {
			fprintf(stderr, "enable_rings: %d\n", ret);
			return ret;
		}
	}
	ring->features &= ~kind->without;
	return T_SETUP_OK;
}

static int submit_all(struct io_uring *ring, int nr_cqes)
{
	int ret = io_uring_submit(ring);

	if (ret < 0) {
		fprintf(stderr, "submit: %d\n", ret);
		return ret;
	}
	/* if that's up to a thread */
	while (io_uring_sq_ready(ring) || io_uring_cq_ready(ring) < nr_cqes)
		sched_yield();
	return 0;
}

/* Polls that complete at that time */
static int prep_timers(struct io_uring *ring, int n, unsigned ms,
		       __u64 user_data)
{
	struct itimerspec its = {
		.it_value.tv_sec = ms / 1000,
		.it_value.tv_nsec = ms % 1000 * 1000000,
	};
	struct io_uring_sqe *sqe;
	int fd;

	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (fd < 0 || timerfd_settime(fd, 0, &its, NULL)) {
		perror("timerfd");
		return -1;
	}
	while (n--) {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_poll_add(sqe, fd, POLLIN);
		sqe->user_data = user_data;
	}
	return fd;
}

/* CQEs to start with, and the timers that are going to end the wait */
static int prepare(struct io_uring *ring, const struct row *r, int nr_timers,
		   unsigned end_ms)
{
	int i, ret, timer = -1, guard = -1;
	struct io_uring_sqe *sqe;

	for (i = 0; i < r->ready; i++) {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_nop(sqe);
		sqe->user_data = UD_NOP;
	}
	if (nr_timers) {
		timer = prep_timers(ring, nr_timers, end_ms, UD_TIMER);
		if (timer < 0)
			return timer;
	}
	/* as it is for ever, in a library that gets it wrong */
	if (r->limit == NO_TS || r->limit == MIN_NO_TS) {
		guard = prep_timers(ring, 2, LONG_MS, UD_GUARD);
		if (guard < 0)
			return guard;
	}
	ret = submit_all(ring, r->ready);
	/* the polls hold them */
	close(timer);
	close(guard);
	return ret;
}

static void prep_sqes(struct io_uring *ring, const struct row *r)
{
	struct io_uring_sqe *sqe;
	int i;

	for (i = 0; i < r->sqes; i++) {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_poll_add(sqe, quiet_pipe[0], POLLIN);
		sqe->user_data = UD_POLL;
	}
}

static int row_run(const struct row *r, struct result *e, struct result *got)
{
	struct io_uring_cqe *cqe = (void *) -1UL;
	struct __kernel_timespec ts;
	struct args a = { .cqe = &cqe, .wait_nr = r->wait_nr, .reg = reg };
	struct io_uring ring;
	struct timeval tv;
	int ret, nr_timers;
	unsigned end_ms;

	ret = create_ring(r->kind, r->call->reg, &ring);
	if (ret)
		return ret;

	nr_timers = row_limits(r, &a, &ts, &end_ms);
	row_expect(r, nr_timers, end_ms, e);

	/* the timers start before the call */
	gettimeofday(&tv, NULL);
	ret = prepare(&ring, r, nr_timers, end_ms);
	if (!ret) {
		prep_sqes(&ring, r);
		got->ret = r->call->fn(&ring, &a);
		got->ms = mtime_since_now(&tv);
		got->cqes = io_uring_cq_ready(&ring);
		got->sqes = io_uring_sq_ready(&ring);
		got->first = cqe ? cqe == (void *) -1UL ? -1 : cqe->user_data :
			     0;
	}
	io_uring_queue_exit(&ring);
	return ret;
}

/* Returns if it's right, after a line that says what is wrong if it isn't. */
static bool row_test(const struct row *r)
{
	struct result e = {}, got = {};
	const char *what;
	int i;

	for (i = 0; i < NR_TRIES; i++) {
		if (row_run(r, &e, &got)) {
			fprintf(stderr, "%s: %s: can't be set up\n",
				r->kind->name, r->call->name);
			return false;
		}
		what = row_check(r, &e, &got);
		if (!what)
			return true;
		if (what != too_long)
			break;
	}
	fprintf(stderr, "%s: %s with %d SQEs, %d CQEs ready, wait_nr %d, %s: "
		"wrong %s: returned %d in %u ms, CQE %d of %d, %d SQEs left, "
		"expected %d in %u ms, CQE %d of %d, %d SQEs left\n",
		r->kind->name, r->call->name, r->sqes, r->ready, r->wait_nr,
		limit_names[r->limit], what,
		got.ret, got.ms, got.first, got.cqes, got.sqes,
		e.ret, e.ms, e.first, e.cqes, e.sqes);
	return false;
}

/*
 * Three SQEs, the second one fails, which is where the kernel stops. Without a
 * timeout, liburing submits the third one too.
 */
static bool partial_test(const struct row *r)
{
	bool sqpoll = r->kind->flags & IORING_SETUP_SQPOLL;
	struct io_uring_cqe *cqe = NULL;
	struct __kernel_timespec ts;
	struct args a = { .cqe = &cqe, .wait_nr = r->wait_nr, .reg = reg };
	struct io_uring ring;
	unsigned end_ms;
	int ret, e = 3;

	if (create_ring(r->kind, r->call->reg, &ring))
		return false;
	row_limits(r, &a, &ts, &end_ms);
	if (!sqpoll && (r->call->enters_once || (a.ts && has_ext_arg)))
		e = 2;

	prep_sqes(&ring, r);
	ring.sq.sqes[1].opcode = 0xff;
	ret = r->call->fn(&ring, &a);
	if (ret == e && !sqpoll && io_uring_sq_ready(&ring) != 3 - e)
		ret = -1;
	if (ret == e && r->wait_nr && (!cqe || cqe->res != -EINVAL))
		ret = -2;
	io_uring_queue_exit(&ring);
	if (ret == e)
		return true;
	fprintf(stderr, "%s: %s, the second one of 3 SQEs fails, %s: "
		"returned %d, expected %d\n", r->kind->name, r->call->name,
		limit_names[r->limit], ret, e);
	return false;
}

/*
 * Without a kernel's timeout it takes an SQE, and there's none as long as the
 * thread leaves those of a disabled ring where they are.
 */
static bool full_test(void)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SQPOLL | IORING_SETUP_R_DISABLED,
	};
	unsigned sq_flags = 0;
	struct __kernel_timespec ts = ms_to_ts(T_MS);
	struct io_uring_cqe none, *cqe = &none;
	struct io_uring ring;
	int ret;

	ret = t_create_ring_params(4, &ring, &p);
	if (ret)
		return ret == T_SETUP_SKIP;
	ring.features &= ~(IORING_FEAT_EXT_ARG | IORING_FEAT_MIN_TIMEOUT);
	/* nor is it to be woken up, which fails */
	ring.sq.kflags = &sq_flags;
	while (io_uring_get_sqe(&ring))
		;
	ret = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &ts, NULL);
	io_uring_queue_exit(&ring);
	if (ret == 4 && !cqe)
		return true;
	fprintf(stderr, "no SQE for a timeout: returned %d and %s, expected 4 and "
		"no CQE\n", ret, cqe == &none ? "nothing" : cqe ? "a CQE" : "none");
	return false;
}

static bool call_test(const struct kind *kind, const struct call *call)
{
	struct row r = { .kind = kind, .call = call };
	bool ok = true;

	for (r.limit = 0; r.limit < NR_LIMITS; r.limit++) {
		if (!(call->limits & L(r.limit)))
			continue;
		for (r.sqes = 0; r.sqes <= 2; r.sqes++)
		for (r.ready = 0; r.ready <= 2; r.ready++)
		for (r.wait_nr = call->wait_from; r.wait_nr <= call->wait_to;
		     r.wait_nr++)
			ok &= row_test(&r);

		if (!call->submits)
			continue;
		r.sqes = 3;
		r.ready = 0;
		r.wait_nr = call->wait_to ? 1 : 0;
		ok &= partial_test(&r);
	}
	return ok;
}

/* In a child of its own */
static int child(const struct kind *kind, const struct call *call)
{
	struct io_uring ring;
	unsigned features;
	int ret;

	reg = t_aligned_alloc(sysconf(_SC_PAGESIZE), sysconf(_SC_PAGESIZE));
	if (!reg || pipe(quiet_pipe) < 0) {
		perror("set up");
		return T_EXIT_FAIL;
	}
	ret = create_ring(kind, call->reg, &ring);
	if (ret)
		return ret == T_SETUP_SKIP ? T_EXIT_SKIP : T_EXIT_FAIL;
	features = ring.features;
	has_ext_arg = features & IORING_FEAT_EXT_ARG;
	io_uring_queue_exit(&ring);

	if ((features & call->features) != call->features)
		return T_EXIT_SKIP;
	return call_test(kind, call) ? T_EXIT_PASS : T_EXIT_FAIL;
}

static int reap(int *result)
{
	int status;

	if (wait(&status) < 0) {
		perror("wait");
		return -1;
	}
	if (!WIFEXITED(status))
		*result = T_EXIT_FAIL;
	else if (WEXITSTATUS(status) != T_EXIT_SKIP && *result != T_EXIT_FAIL)
		*result = WEXITSTATUS(status);
	return 0;
}

int main(int argc, char *argv[])
{
	int nr_running = 0, result = T_EXIT_SKIP;
	unsigned i;

	if (argc > 1)
		return T_EXIT_SKIP;
	if (!full_test())
		return T_EXIT_FAIL;

	/* most of the time they sleep */
	for (i = 0; i < ARRAY_SIZE(calls) * ARRAY_SIZE(kinds); i++) {
		const struct call *call = &calls[i / ARRAY_SIZE(kinds)];
		const struct kind *kind = &kinds[i % ARRAY_SIZE(kinds)];
		pid_t pid;

		if (nr_running == NR_PARALLEL) {
			if (reap(&result))
				return T_EXIT_FAIL;
			nr_running--;
		}
		pid = fork();
		if (pid < 0) {
			perror("fork");
			return T_EXIT_FAIL;
		}
		if (!pid)
			_exit(child(kind, call));
		nr_running++;
	}
	while (nr_running--)
		if (reap(&result))
			return T_EXIT_FAIL;
	return result;
}
