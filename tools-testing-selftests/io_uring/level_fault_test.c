// SPDX-License-Identifier: GPL-2.0
/*
 * Out of memory: whatever is done with a poll is repeated, at first its first
 * allocation or copy from user space fails, then its second one, and so on until
 * none is left to fail. Whatever came of that, afterwards
 * - it's done, or an error says that it isn't, and it can be done then,
 * - a poll that is armed reports an event, one that isn't doesn't,
 * - each request has got exactly one CQE without F_MORE, and none after it,
 * - a file that has been closed is gone, its other end knows,
 * - so are the rings.
 *
 * That takes root, debugfs, and a kernel with CONFIG_FAULT_INJECTION_DEBUG_FS,
 * CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and CONFIG_FAULT_INJECTION_USERCOPY.
 */
#define _GNU_SOURCE
#include <dirent.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring_fixture.h"

#define MAX_TASKS	64	/* of a test: SQPOLL, workers, also while they exit */
#define MAX_FAULTS	1000
#define TIMEOUT		600	/* seconds */

/* user_data: which request it is, and whether a poll got that by an update */
#define POLL		1
#define OP		2
#define LINKED		3
#define WHICH		0xf
#define UPDATED		0x10

/* registered files */
#define SLOT_RING	0	/* tells when the ring is gone */
#define SLOT		1

/*
 * Faults
 */

static bool have_faults;

/* Everything may fail, also what could sleep instead, without a word about it. */
static bool allow_faults(void)
{
	static const struct {
		const char *path;
		const char *value;
	} knobs[] = {
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
		{ "/sys/kernel/debug/fail_usercopy/verbose", "0" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		if (!write_str(knobs[i].path, knobs[i].value))
			return false;
	return true;
}

/* Where this thread, and those that work for it, are told which call fails */
struct faults {
	int self;
	int others[MAX_TASKS];
	unsigned int n;
};

/*
 * To tell, and to ask, are copies that fail as well if it's their turn. What was to
 * be tested got through without then.
 */
static void set_nth(int fd, unsigned int nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", nth);

	if (pwrite(fd, buf, len, 0) != len && errno == EFAULT &&
	    pwrite(fd, buf, len, 0) != len)
		abort();
}

static bool clear_nth(int fd)
{
	char buf[16] = {};
	bool hit;

	hit = pread(fd, buf, sizeof(buf) - 1, 0) > 0 && !strcmp(buf, "0\n");
	set_nth(fd, 0);
	close(fd);
	return hit;
}

/* Fails, as the rest does, if the thread is gone. */
static int open_nth(const char *tid)
{
	char path[300];

	snprintf(path, sizeof(path), "/proc/self/task/%s/fail-nth", tid);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* From now on, the nth call of each thread fails. */
static void faults_begin(struct faults *f, unsigned int nth)
{
	pid_t self = syscall(__NR_gettid);
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	unsigned int i;

	f->n = 0;
	while (dir && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		if (atoi(d->d_name) == self)
			f->self = open_nth(d->d_name);
		else if (f->n < MAX_TASKS)
			f->others[f->n++] = open_nth(d->d_name);
	}
	closedir(dir);
	for (i = 0; i < f->n; i++)
		set_nth(f->others[i], nth);
	set_nth(f->self, nth);
}

/* True if one of the others has failed */
static bool faults_end_others(struct faults *f)
{
	bool hit = false;

	while (f->n)
		hit |= clear_nth(f->others[--f->n]);
	return hit;
}

/*
 * A poll, and what is done with it
 */

struct env {
	const struct ring_opts *opts;
	unsigned int flags;	/* of the poll */
	bool fixed;		/* its file is a registered one */
	bool both;		/* and has two wait queues */

	struct ring ring;
	bool ring_gone;
	int pipe[2];		/* its read end is polled */
	unsigned int asked;	/* which requests there are, a bit each */
	unsigned int ended;	/* those that have got their last CQE */
	int res[WHICH + 1];	/* which said that */
	unsigned int events;	/* CQEs of the poll */
};

static struct io_uring_sqe *get_sqe(struct env *e, unsigned int which)
{
	e->asked |= 1U << which;
	return ring_sqe(&e->ring);
}

static struct io_uring_sqe *get_poll(struct env *e)
{
	struct io_uring_sqe *sqe = get_sqe(e, POLL);

	prep_poll(sqe, e->fixed ? SLOT : e->pipe[0], EPOLLIN, e->flags, POLL);
	if (e->fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	return sqe;
}

/* 0 if everything was submitted. Some of it means that there's no memory for more. */
static int submit(struct env *e)
{
	int ret = ring_submit(&e->ring);

	if (ret < 0)
		return ret;
	return ring_to_submit(&e->ring) ? -EAGAIN : 0;
}

static int add(struct env *e)
{
	get_poll(e);
	return submit(e);
}

static int add_async(struct env *e)
{
	get_poll(e)->flags |= IOSQE_ASYNC;
	return submit(e);
}

static int add_with_timeout(struct env *e)
{
	static const struct __kernel_timespec ts = { .tv_sec = 1000 };

	get_poll(e)->flags |= IOSQE_IO_LINK;
	prep_link_timeout(get_sqe(e, LINKED), &ts, LINKED);
	return submit(e);
}

static int remove_it(struct env *e)
{
	prep_poll_remove(get_sqe(e, OP), POLL, OP);
	return submit(e);
}

static int update(struct env *e)
{
	prep_poll_update(get_sqe(e, OP), POLL, IORING_POLL_UPDATE_EVENTS,
			 EPOLLIN | EPOLLPRI, 0, OP);
	return submit(e);
}

static int update_async(struct env *e)
{
	struct io_uring_sqe *sqe = get_sqe(e, OP);

	prep_poll_update(sqe, POLL, IORING_POLL_UPDATE_EVENTS,
			 EPOLLIN | EPOLLPRI, 0, OP);
	sqe->flags |= IOSQE_ASYNC;
	return submit(e);
}

static int update_both(struct env *e)
{
	prep_poll_update(get_sqe(e, OP), POLL,
			 IORING_POLL_UPDATE_EVENTS |
			 IORING_POLL_UPDATE_USER_DATA,
			 EPOLLIN | EPOLLPRI, POLL | UPDATED, OP);
	return submit(e);
}

static int cancel(struct env *e)
{
	prep_cancel(get_sqe(e, OP), POLL, 0, OP);
	return submit(e);
}

static unsigned int by_file(const struct env *e)
{
	return IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL |
	       (e->fixed ? IORING_ASYNC_CANCEL_FD_FIXED : 0);
}

static int cancel_by_file(struct env *e)
{
	struct io_uring_sqe *sqe = get_sqe(e, OP);

	prep_cancel(sqe, 0, by_file(e), OP);
	sqe->fd = e->fixed ? SLOT : e->pipe[0];
	return submit(e);
}

static int sync_cancel(struct env *e)
{
	struct io_uring_sync_cancel_reg reg = {
		.fd = e->fixed ? SLOT : e->pipe[0],
		.flags = by_file(e),
		.timeout = { .tv_sec = -1, .tv_nsec = -1 },
	};
	int ret;

	ret = sys_io_uring_register(e->ring.fd, IORING_REGISTER_SYNC_CANCEL,
				    &reg, 1);
	return ret < 0 ? ret : 0;
}

static int cap(struct env *e)
{
	return ring_set_cap(&e->ring, 4);
}

static int harvest(struct env *e)
{
	return ring_harvest(&e->ring);
}

static int wait_arg(struct env *e)
{
	struct __kernel_timespec ts = ring_ms(RING_SOON_MS);
	sigset_t set;
	struct io_uring_getevents_arg arg = {
		.sigmask = (uintptr_t)&set,
		.sigmask_sz = _NSIG / 8,
		.ts = (uintptr_t)&ts,
	};

	sigemptyset(&set);
	return sys_io_uring_enter(e->ring.fd, 0, 1, IORING_ENTER_GETEVENTS |
				  IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
}

static int wait_reg(struct env *e)
{
	return ring_wait_cap(&e->ring, 1, RING_SOON_MS, 1);
}

/* The descriptor, or the slot. The latter may fail. */
static int close_file(struct env *e)
{
	struct io_uring_files_update up = {
		.offset = SLOT,
		.fds = (uintptr_t)&(int){ -1 },
	};
	int ret;

	if (e->pipe[0] >= 0) {
		ret = close(e->pipe[0]);
		e->pipe[0] = -1;
		return ret;
	}
	if (!e->fixed || e->ring_gone)
		return 0;
	ret = sys_io_uring_register(e->ring.fd, IORING_REGISTER_FILES_UPDATE,
				    &up, 1);
	return ret < 0 ? ret : 0;
}

static int exit_ring(struct env *e)
{
	e->ring_gone = true;
	ring_exit(&e->ring);
	return 0;
}

static const struct op {
	const char *name;
	int (*act)(struct env *e);	/* 0 or -errno */
	bool adds;			/* there is no poll yet */
	bool async;			/* a worker does it */
	bool ready;			/* the file is ready */
	bool ends;			/* it ends the poll */
	bool reg_wait;			/* needs that */
	int res;			/* of OP if nothing fails */
} add_ops[] = {
	{ .name = "add", .act = add, .adds = true },
	{ .name = "add with a timeout", .act = add_with_timeout, .adds = true },
}, add_async_ops[] = {
	{ .name = "add by a worker", .act = add_async, .adds = true,
	  .async = true },
}, update_ops[] = {
	{ .name = "update", .act = update },
	{ .name = "update by a worker", .act = update_async, .async = true },
	{ .name = "update of both", .act = update_both },
}, cancel_ops[] = {
	{ .name = "remove", .act = remove_it, .ends = true },
	{ .name = "cancel", .act = cancel, .ends = true },
	{ .name = "cancel by file", .act = cancel_by_file, .ends = true,
	  .res = 1 },
	{ .name = "sync cancel", .act = sync_cancel, .ends = true },
}, wait_ops[] = {
	{ .name = "cap", .act = cap },
	{ .name = "harvest", .act = harvest, .ready = true },
	{ .name = "wait", .act = wait_arg, .ready = true },
	{ .name = "wait, registered", .act = wait_reg, .ready = true,
	  .reg_wait = true },
}, close_ops[] = {
	{ .name = "close", .act = close_file, .ends = true },
	{ .name = "exit of the ring", .act = exit_ring, .ends = true },
};

/*
 * What comes of it
 */

/* Consume what's there. False if it's not what may be there. */
static bool collect(struct env *e)
{
	struct io_uring_cqe cqe;
	unsigned int which;

	while (ring_pop(&e->ring, &cqe)) {
		which = cqe.user_data & WHICH;
		if (!(e->asked & (1U << which)) || e->ended & (1U << which))
			return false;
		if (which == POLL && cqe.res >= 0)
			e->events++;
		if (cqe.flags & IORING_CQE_F_MORE)
			continue;
		e->ended |= 1U << which;
		e->res[which] = cqe.res;
	}
	return true;
}

/* Until these requests have ended, or the poll has had more events than that. */
static bool until(struct env *e, unsigned int ended, unsigned int events)
{
	long long start = now_ms();

	while (now_ms() - start < RING_SOON_MS) {
		if (!collect(e))
			return false;
		if ((e->ended & ended) == ended || e->events > events)
			return true;
		ring_wait_ms(&e->ring, 1, 100);
	}
	return false;
}

/* Until a worker has armed the poll, or has ended it. */
static bool armed_or_ended(struct env *e)
{
	char buf[16384];
	long long start = now_ms();

	while (now_ms() - start < RING_SOON_MS) {
		if (!collect(e))
			return false;
		if (e->ended & (1U << POLL))
			return true;
		if (ring_fdinfo(&e->ring, buf, sizeof(buf)) &&
		    strstr(buf, "\n  op=6,"))
			return true;
		ring_wait_ms(&e->ring, 1, 1);
	}
	return false;
}

/* How something may end if a call has failed, other than well */
static bool is_fault(int res)
{
	return res == -ENOMEM || res == -EAGAIN || res == -EFAULT;
}

/* A single request has a worker, which waits for more then. */
static bool have_worker(struct env *e)
{
	struct io_uring_sqe *sqe = get_sqe(e, OP);

	/* it's of the same kind, not one of those that are bounded */
	prep_poll(sqe, e->pipe[1], EPOLLOUT, 0, OP);
	sqe->flags |= IOSQE_ASYNC;
	if (submit(e) || !until(e, 1U << OP, ~0U))
		return false;
	e->asked = 0;
	e->ended = 0;
	return true;
}

static bool set_up(struct env *e, const struct op *op, int gone)
{
	struct ring_opts opts = *e->opts;
	int fds[] = { [SLOT_RING] = gone, [SLOT] = -1 };

	e->ring_gone = false;
	e->asked = 0;
	e->ended = 0;
	e->events = 0;
	opts.reg_wait = op->reg_wait;
	if (ring_init(&e->ring, &opts) || pipe2(e->pipe, O_CLOEXEC) ||
	    (e->both && both_ways(&e->pipe[0])))
		return false;
	if (e->fixed)
		fds[SLOT] = e->pipe[0];
	if (sys_io_uring_register(e->ring.fd, IORING_REGISTER_FILES, fds, 2))
		return false;
	if (e->fixed) {
		close(e->pipe[0]);
		e->pipe[0] = -1;
	}
	if (op->async && !have_worker(e))
		return false;
	if (!op->adds && add(e))
		return false;
	if (op->ready)
		feed(e->pipe[1]);
	return true;
}

/* Everything is as it should be. *@hit: a call has failed, so there may be more. */
static const char *try(struct env *e, const struct op *op, int gone,
		       unsigned int nth, bool *hit)
{
	unsigned int poll = 1U << POLL, done, events;
	struct faults f;
	int ret;

	if (!set_up(e, op, gone))
		return "set-up";
	faults_begin(&f, nth);
	ret = op->act(e);
	*hit = clear_nth(f.self);
	if (op->async && ret >= 0 &&
	    !(op->adds ? armed_or_ended(e) : until(e, 1U << OP, ~0U)))
		return "the worker";
	*hit |= faults_end_others(&f);
	if (ret && !(*hit && is_fault(ret)))
		return "the result";

	/* it can be done now, the part that hasn't been */
	if (!e->ring_gone && ring_to_submit(&e->ring) && submit(e))
		return "the next submission";
	if (ret && !op->adds && !(e->asked & (1U << OP)) && op->act(e))
		return "the next call";

	if (!e->ring_gone) {
		done = e->asked & (1U << OP);
		if (!until(e, done, ~0U))
			return "the CQE of the operation";
		if (done && e->res[OP] != op->res &&
		    !(*hit && (is_fault(e->res[OP]) ||
			       e->res[OP] == -ECANCELED)))
			return "the result in the CQE";
		if (op->ends && !done && !until(e, e->asked & poll, ~0U))
			return "the end of the poll";
	}

	/* also a second one if it has had one, as long as the file is ready */
	if (!e->ring_gone && !op->ends) {
		events = e->events;
		feed(e->pipe[1]);
		if (!until(e, poll, events))
			return "an event";
		if (!*hit && e->ended & poll && e->res[POLL] < 0)
			return "the poll, which has ended";
	}

	if (close_file(e) < 0)
		return "close";
	if (e->ring_gone) {
		if (!(file_events(e->pipe[1], 0, RING_SOON_MS) & POLLERR))
			return "the file, which isn't gone";
		close(e->pipe[1]);
		return NULL;
	}
	if (!ring_wait_released(&e->ring, e->pipe[1]))
		return "the file, which isn't gone";
	close(e->pipe[1]);
	if (!until(e, e->asked, ~0U))
		return "the last CQEs";
	if (e->res[POLL] < 0 && e->res[POLL] != -ECANCELED &&
	    !(*hit && is_fault(e->res[POLL])))
		return "the result of the poll";
	if (ring_harvest_count(&e->ring))
		return "a CQE too many";
	exit_ring(e);
	return NULL;
}

/* Returns how many calls have failed, or -1. */
static int fail_each_call(struct env *e, const struct op *op)
{
	const char *wrong = NULL;
	bool hit = true;
	unsigned int nth;
	int gone[2];

	if (pipe2(gone, O_CLOEXEC))
		return -1;
	for (nth = 1; hit && !wrong && nth < MAX_FAULTS; nth++)
		wrong = try(e, op, gone[0], nth, &hit);
	close(gone[0]);
	if (!wrong && hit)
		wrong = "the end of failures";
	if (!wrong && !(file_events(gone[1], 0, RING_SOON_MS) & POLLERR))
		wrong = "a ring, which isn't gone";
	close(gone[1]);
	if (!wrong)
		return nth - 2;
	ksft_print_msg("%s, %s, %s file, %s: call %u fails, wrong is %s\n",
		       op->name, e->flags == POLL_LEVEL ? "level triggered" :
				 e->flags == POLL_EDGE ? "edge triggered" :
							 "one-shot",
		       e->fixed ? "fixed" : "normal",
		       e->both ? "two wait queues" : "one wait queue",
		       nth - 1, wrong);
	return -1;
}

/* On each kind of poll and of file. Returns how many calls have failed, or -1. */
static int fail_all(const struct ring_opts *opts, const struct op *ops,
		    unsigned int n)
{
	static const unsigned int kinds[] = {
		POLL_ONESHOT, POLL_EDGE, POLL_LEVEL,
	};
	unsigned int i, kind, file;
	int ret, sum = 0;

	for (i = 0; i < n; i++) {
		for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
			for (file = 0; file < 4; file++) {
				struct env e = {
					.opts = opts,
					.flags = kinds[kind],
					.fixed = file & 1,
					.both = file & 2,
				};

				ret = fail_each_call(&e, &ops[i]);
				if (ret < 0)
					return ret;
				sum += ret;
			}
		}
	}
	ksft_print_msg("%d calls have failed\n", sum);
	return sum;
}

/* Each of these takes a request at least, or copies something. */

TEST_F_TIMEOUT(ring, add, TIMEOUT)
{
	if (!have_faults)
		SKIP(return, "no fault injection");
	EXPECT_LT(0, fail_all(&variant->ring, add_ops, ARRAY_SIZE(add_ops)));
}

TEST_F_TIMEOUT(ring, add_by_worker, TIMEOUT)
{
	if (!have_faults)
		SKIP(return, "no fault injection");
	EXPECT_LT(0, fail_all(&variant->ring, add_async_ops, ARRAY_SIZE(add_async_ops)));
}

TEST_F_TIMEOUT(ring, update, TIMEOUT)
{
	if (!have_faults)
		SKIP(return, "no fault injection");
	EXPECT_LT(0, fail_all(&variant->ring, update_ops, ARRAY_SIZE(update_ops)));
}

TEST_F_TIMEOUT(ring, cancel, TIMEOUT)
{
	if (!have_faults)
		SKIP(return, "no fault injection");
	EXPECT_LT(0, fail_all(&variant->ring, cancel_ops, ARRAY_SIZE(cancel_ops)));
}

TEST_F_TIMEOUT(ring, wait_for_it, TIMEOUT)
{
	if (!have_faults)
		SKIP(return, "no fault injection");
	EXPECT_LT(0, fail_all(&variant->ring, wait_ops, ARRAY_SIZE(wait_ops)));
}

TEST_F_TIMEOUT(ring, close, TIMEOUT)
{
	if (!have_faults)
		SKIP(return, "no fault injection");
	EXPECT_LT(0, fail_all(&variant->ring, close_ops, ARRAY_SIZE(close_ops)));
}

int main(int argc, char **argv)
{
	have_faults = allow_faults();
	return test_harness_run(argc, argv);
}
