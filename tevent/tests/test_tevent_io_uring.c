/*
 * Unix SMB/CIFS implementation.
 *
 * tests of the io_uring backend: modes, fallbacks, requests
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "replace.h"
#include "system/filesys.h"
#include "system/network.h"
#include "system/select.h"
#include "system/threads.h"
#include "system/wait.h"
#include <liburing.h>
/* wrappers, without a warning */
#define TEVENT_DEPRECATED 1
#undef _DEPRECATED_
#define _DEPRECATED_
#include "tevent.h"
#include "tevent_io_uring.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define MANY 1000
#define BIG (1024 * 1024)

struct test {
	struct tevent_context *ev;
	int p[2];
	int calls;		/* of fd handlers */
	int logged;
	char *buf;
};

/* The mode that is tested, set by main() */
static enum tevent_io_uring_mode mode;

static int setup(void **state)
{
	struct test *t = talloc_zero(NULL, struct test);

	assert_non_null(t);
	tevent_io_uring_set_max_mode(mode);
	t->ev = tevent_context_init_byname(t, "io_uring");
	assert_non_null(t->ev);
	assert_int_equal(tevent_io_uring_get_mode(t->ev), mode);
	assert_int_equal(pipe(t->p), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	close(t->p[0]);
	close(t->p[1]);
	talloc_free(t);
	tevent_io_uring_set_max_mode(TEVENT_IO_URING_LEVEL);
	tevent_io_uring_set_standard(false);
	return 0;
}

static void reader(struct tevent_context *ev, struct tevent_fd *fde,
		   uint16_t flags, void *private_data)
{
	struct test *t = private_data;
	char c;

	t->calls++;
	assert_int_equal(flags, TEVENT_FD_READ);
	assert_int_equal(read(t->p[0], &c, 1), 1);
}

/* doesn't read, so the pipe stays ready */
static void looker(struct tevent_context *ev, struct tevent_fd *fde,
		   uint16_t flags, void *private_data)
{
	int *calls = private_data;

	(*calls)++;
}

/*
 * Requests
 */

struct job {
	struct tevent_io_uring_req *req;
	void (*prep)(struct io_uring_sqe *sqe, struct job *job);
	unsigned sqe_flags;
	int fd;
	char buf[8];
	struct __kernel_timespec ts;
	int submitted;		/* how often, and in which order */
	int completed;
	int more;
	int res;
	struct test *t;
};

static int submit_order;
static int in_callback;

static void job_submit(struct tevent_io_uring_req *req,
		       struct io_uring_sqe *sqe, void *private_data)
{
	struct job *job = private_data;

	assert_ptr_equal(req, job->req);
	job->submitted = ++submit_order;
	if (job->prep != NULL) {
		job->prep(sqe, job);
	}
	sqe->flags |= job->sqe_flags;
}

static void job_complete(struct tevent_io_uring_req *req,
			 const struct io_uring_cqe *cqe, void *private_data)
{
	struct job *job = private_data;

	assert_ptr_equal(req, job->req);
	in_callback++;
	job->res = cqe->res;
	if (cqe->flags & IORING_CQE_F_MORE) {
		job->more++;
		return;
	}
	job->completed++;
}

static void queue_job(struct test *t, struct job *job)
{
	job->t = t;
	job->req = tevent_io_uring_queue(t, t->ev, job_submit, job_complete,
					 job);
	assert_non_null(job->req);
}

static void prep_read(struct io_uring_sqe *sqe, struct job *job)
{
	io_uring_prep_read(sqe, job->fd, job->buf, sizeof(job->buf), 0);
}

static void prep_timeouts(struct io_uring_sqe *sqe, struct job *job)
{
	job->ts.tv_nsec = 1000000;
	io_uring_prep_timeout(sqe, &job->ts, 3, IORING_TIMEOUT_MULTISHOT);
}

static void loop_until(struct test *t, const int *what, int value)
{
	while (*what < value) {
		assert_int_equal(tevent_loop_once(t->ev), 0);
	}
}

static bool hung_up(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN, };

	return poll(&pfd, 1, ms) == 1 && (pfd.revents & (POLLHUP | POLLERR));
}

/* There's nothing to do: a loop ends with the timer. */
static void timer(struct tevent_context *ev, struct tevent_timer *te,
		  struct timeval now, void *private_data)
{
	bool *fired = private_data;

	*fired = true;
}

static void expect_silent(struct test *t)
{
	int calls = t->calls;
	int callbacks = in_callback;
	bool fired = false;
	struct tevent_timer *te =
		tevent_add_timer(t->ev, t, tevent_timeval_current_ofs(0, 20000),
				 timer, &fired);

	assert_non_null(te);
	while (!fired) {
		assert_int_equal(tevent_loop_once(t->ev), 0);
	}
	assert_int_equal(t->calls, calls);
	assert_int_equal(in_callback, callbacks);
}

static void test_nop(void **state)
{
	struct test *t = *state;
	struct job job = {};

	queue_job(t, &job);
	assert_int_equal(job.submitted, 0);
	loop_until(t, &job.completed, 1);
	assert_int_equal(job.res, 0);
	talloc_free(job.req);
	expect_silent(t);
}

static void test_order(void **state)
{
	struct test *t = *state;
	struct job jobs[3] = {};
	size_t i;

	submit_order = 0;
	for (i = 0; i < LENGTH(jobs); i++) {
		queue_job(t, &jobs[i]);
	}
	for (i = 0; i < LENGTH(jobs); i++) {
		assert_int_equal(tevent_loop_once(t->ev), 0);
		assert_int_equal(jobs[i].submitted, i + 1);
		/* one handler a loop */
		assert_int_equal(jobs[i].completed, 1);
		assert_true(i == 2 || jobs[i + 1].completed == 0);
	}
}

static void test_read(void **state)
{
	struct test *t = *state;
	struct job job = { .prep = prep_read, .fd = t->p[0], };

	queue_job(t, &job);
	expect_silent(t);
	assert_int_equal(write(t->p[1], "abc", 3), 3);
	loop_until(t, &job.completed, 1);
	assert_int_equal(job.res, 3);
	assert_memory_equal(job.buf, "abc", 3);
}

static void prep_sendmsg(struct io_uring_sqe *sqe, struct job *job)
{
	static struct iovec iov;
	static struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, };

	iov = (struct iovec) { .iov_base = job->buf, .iov_len = 5, };
	io_uring_prep_sendmsg(sqe, job->fd, &msg, 0);
}

static void prep_recv(struct io_uring_sqe *sqe, struct job *job)
{
	io_uring_prep_recv(sqe, job->fd, job->buf, sizeof(job->buf), 0);
}

static void test_sendmsg_recv(void **state)
{
	struct test *t = *state;
	struct job in = { .prep = prep_recv, };
	struct job out = { .prep = prep_sendmsg, .buf = "hello", };
	int sk[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sk), 0);
	in.fd = sk[0];
	out.fd = sk[1];
	queue_job(t, &in);
	queue_job(t, &out);
	loop_until(t, &in.completed, 1);
	loop_until(t, &out.completed, 1);
	assert_int_equal(out.res, 5);
	assert_int_equal(in.res, 5);
	assert_memory_equal(in.buf, "hello", 5);
	close(sk[0]);
	close(sk[1]);
}

static void test_error(void **state)
{
	struct test *t = *state;
	struct job job = { .prep = prep_read, .fd = -1, };

	queue_job(t, &job);
	loop_until(t, &job.completed, 1);
	assert_int_equal(job.res, -EBADF);
}

static void test_refused_flags(void **state)
{
	static const unsigned flags[] = {
		IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_IO_DRAIN,
		IOSQE_CQE_SKIP_SUCCESS,
	};
	struct test *t = *state;
	size_t i;

	for (i = 0; i < LENGTH(flags); i++) {
		struct job job = { .sqe_flags = flags[i], };

		queue_job(t, &job);
		loop_until(t, &job.completed, 1);
		assert_int_equal(job.res, -EINVAL);
		talloc_free(job.req);
	}
}

static void test_multishot(void **state)
{
	struct test *t = *state;
	struct job job = { .prep = prep_timeouts, };

	queue_job(t, &job);
	loop_until(t, &job.completed, 1);
	assert_int_equal(job.more, 2);
	assert_int_equal(job.res, -ETIME);
}

static void free_complete(struct tevent_io_uring_req *req,
			  const struct io_uring_cqe *cqe, void *private_data)
{
	struct job *job = private_data;

	job->completed++;
	assert_int_equal(talloc_free(req), 0);
}

static void test_free_in_callback(void **state)
{
	void (*preps[])(struct io_uring_sqe *, struct job *) = {
		NULL, prep_timeouts,
	};
	struct test *t = *state;
	size_t i;

	for (i = 0; i < LENGTH(preps); i++) {
		struct job job = { .prep = preps[i], .t = t, };

		job.req = tevent_io_uring_queue(NULL, t->ev, job_submit,
						free_complete, &job);
		assert_non_null(job.req);
		loop_until(t, &job.completed, 1);
		expect_silent(t);
		assert_int_equal(job.completed, 1);
	}
}

static void test_cancel_queued(void **state)
{
	struct test *t = *state;
	struct job job = {};

	queue_job(t, &job);
	assert_int_equal(talloc_free(job.req), 0);
	expect_silent(t);
	assert_int_equal(job.submitted, 0);
}

/* The kernel is done with it when talloc_free() returns: it reads no more. */
static void test_cancel_submitted(void **state)
{
	struct test *t = *state;
	struct job job = { .prep = prep_read, .fd = t->p[0], };
	char buf[8];

	queue_job(t, &job);
	expect_silent(t);
	assert_true(job.submitted);
	assert_int_equal(talloc_free(job.req), 0);
	assert_int_equal(write(t->p[1], "abc", 3), 3);
	expect_silent(t);
	assert_int_equal(read(t->p[0], buf, sizeof(buf)), 3);
	assert_int_equal(job.buf[0], 0);
	assert_int_equal(job.completed, 0);
}

/* Both had completed when one of them is freed. */
static void test_cancel_completed(void **state)
{
	struct test *t = *state;
	struct job jobs[2] = {};

	queue_job(t, &jobs[0]);
	queue_job(t, &jobs[1]);
	loop_until(t, &jobs[0].completed, 1);
	assert_int_equal(jobs[1].completed, 0);
	assert_int_equal(talloc_free(jobs[1].req), 0);
	expect_silent(t);
	assert_int_equal(jobs[1].completed, 0);
}

static void test_free_context(void **state)
{
	struct test *t = *state;
	struct job jobs[2] = { { .prep = prep_read, .fd = t->p[0], }, };
	char c;

	queue_job(t, &jobs[0]);
	expect_silent(t);
	queue_job(t, &jobs[1]);
	talloc_free(t->ev);
	t->ev = NULL;
	assert_int_equal(write(t->p[1], "a", 1), 1);
	assert_int_equal(read(t->p[0], &c, 1), 1);
	assert_int_equal(talloc_free(jobs[0].req), 0);
	assert_int_equal(talloc_free(jobs[1].req), 0);
	assert_int_equal(jobs[0].completed + jobs[1].completed, 0);
}

static void test_re_initialise(void **state)
{
	struct test *t = *state;
	struct job old = { .prep = prep_read, .fd = t->p[0], };
	struct job job = {};

	queue_job(t, &old);
	expect_silent(t);
	assert_int_equal(tevent_re_initialise(t->ev), 0);
	assert_int_equal(tevent_io_uring_get_mode(t->ev), mode);
	queue_job(t, &job);
	loop_until(t, &job.completed, 1);
	assert_int_equal(old.completed, 0);
}

/* The last fd event is gone, the request that it has queued isn't. */
static void queue_and_free(struct tevent_context *ev, struct tevent_fd *fde,
			   uint16_t flags, void *private_data)
{
	struct job *job = private_data;

	queue_job(job->t, job);
	talloc_free(fde);
}

static void test_loop_wait_late(void **state)
{
	struct test *t = *state;
	struct job job = { .t = t, };

	assert_int_equal(write(t->p[1], "x", 1), 1);
	assert_non_null(tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ,
				      queue_and_free, &job));
	assert_int_equal(tevent_loop_wait(t->ev), 0);
	assert_int_equal(job.completed, 1);
}

static void test_loop_wait(void **state)
{
	struct test *t = *state;
	struct job job = { .prep = prep_timeouts, };

	queue_job(t, &job);
	assert_int_equal(tevent_loop_wait(t->ev), 0);
	assert_int_equal(job.completed, 1);
}

/* More than fit into the SQ ring, and then into the CQ ring */
static void test_many(void **state)
{
	struct test *t = *state;
	struct job *jobs = talloc_zero_array(t, struct job, MANY);
	size_t i;

	assert_non_null(jobs);
	for (i = 0; i < MANY; i++) {
		queue_job(t, &jobs[i]);
	}
	for (i = 0; i < MANY; i++) {
		loop_until(t, &jobs[i].completed, 1);
		assert_int_equal(jobs[i].res, 0);
	}
	expect_silent(t);
}

/* Requests and fd events wait together, and nobody starves. */
static void resubmit(struct tevent_io_uring_req *req,
		     const struct io_uring_cqe *cqe, void *private_data)
{
	struct job *job = private_data;

	job->completed++;
	talloc_free(req);
	job->req = tevent_io_uring_queue(job->t, job->t->ev, job_submit,
					 resubmit, job);
	assert_non_null(job->req);
}

static void test_shared_wait(void **state)
{
	struct test *t = *state;
	struct job jobs[2] = {};
	struct tevent_fd *fde[2];
	int calls[2] = {};
	size_t i;

	assert_int_equal(write(t->p[1], "x", 1), 1);
	for (i = 0; i < 2; i++) {
		fde[i] = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ,
				       looker, &calls[i]);
		assert_non_null(fde[i]);
		jobs[i].t = t;
		jobs[i].req = tevent_io_uring_queue(t, t->ev, job_submit,
						    resubmit, &jobs[i]);
		assert_non_null(jobs[i].req);
	}
	for (i = 0; i < 400; i++) {
		int before = calls[0] + calls[1] + jobs[0].completed +
			     jobs[1].completed;

		assert_int_equal(tevent_loop_once(t->ev), 0);
		assert_in_range(calls[0] + calls[1] + jobs[0].completed +
				jobs[1].completed - before, 0, 1);
	}
	assert_in_range(calls[0], 30, 400);
	assert_in_range(calls[1], 30, 400);
	assert_in_range(jobs[0].completed, 30, 400);
	assert_in_range(jobs[1].completed, 30, 400);
}

/* An event that sits behind a completion, whose callback makes it untrue */
static void drain(struct tevent_io_uring_req *req,
		  const struct io_uring_cqe *cqe, void *private_data)
{
	struct job *job = private_data;
	char c;

	job->completed++;
	if (read(job->t->p[0], &c, 1) != 1) {
		abort();
	}
}

static void test_stale_event(void **state)
{
	struct test *t = *state;
	struct job job = { .t = t, };
	struct tevent_fd *fde = NULL;
	int i;

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	assert_int_equal(fcntl(t->p[0], F_SETFL, O_NONBLOCK), 0);
	expect_silent(t);
	for (i = 0; i < 10; i++) {
		int calls = t->calls;

		job.completed = 0;
		job.req = tevent_io_uring_queue(t, t->ev, job_submit, drain,
						&job);
		assert_non_null(job.req);
		assert_int_equal(write(t->p[1], "x", 1), 1);
		assert_int_equal(tevent_loop_once(t->ev), 0);
		if (job.completed == 0) {
			/* the event came first, and has taken the byte */
			assert_int_equal(t->calls, calls + 1);
			assert_int_equal(write(t->p[1], "x", 1), 1);
			loop_until(t, &job.completed, 1);
			calls = t->calls;
		}
		expect_silent(t);
		assert_int_equal(t->calls, calls);
		talloc_free(job.req);
	}
}

/*
 * Other processes and threads
 */

static int exit_code(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void test_fork(void **state)
{
	struct test *t = *state;
	struct job in_flight = { .prep = prep_read, .fd = t->p[0], };
	struct job queued = {};
	pid_t child;

	queue_job(t, &in_flight);
	expect_silent(t);
	queue_job(t, &queued);

	child = fork();
	assert_in_range(child, 0, INT32_MAX);
	if (child == 0) {
		struct job own = {};

		alarm(10);
		own.req = tevent_io_uring_queue(t, t->ev, job_submit,
						job_complete, &own);
		while (!in_flight.completed || !queued.completed) {
			if (tevent_loop_once(t->ev) != 0) {
				_exit(1);
			}
		}
		if (in_flight.res != -ECANCELED || queued.res != -ECANCELED ||
		    queued.submitted) {
			_exit(2);
		}
		while (!own.completed) {
			if (tevent_loop_once(t->ev) != 0) {
				_exit(3);
			}
		}
		_exit(own.res == 0 ? 0 : 4);
	}
	assert_int_equal(exit_code(child), 0);
	loop_until(t, &queued.completed, 1);
	assert_int_equal(queued.res, 0);
	assert_int_equal(write(t->p[1], "abc", 3), 3);
	loop_until(t, &in_flight.completed, 1);
	assert_int_equal(in_flight.res, 3);
}

struct other {
	struct test *t;
	struct job *job;
	int ret;
	int error;
	int free_ret;
};

static void *other_thread(void *private_data)
{
	struct other *o = private_data;

	o->ret = tevent_loop_once(o->t->ev);
	o->error = errno;
	if (o->job != NULL) {
		o->free_ret = talloc_free(o->job->req);
	}
	return NULL;
}

static void run_other(struct other *o)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, other_thread, o), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_thread(void **state)
{
	struct test *t = *state;
	struct job job = {};
	struct other o = { .t = t, };
	int i;

	/* before anybody has looped it, after that, and back again */
	for (i = 1; i < 6; i++) {
		queue_job(t, &job);
		if (i & 1) {
			run_other(&o);
			assert_int_equal(o.ret, 0);
		} else {
			assert_int_equal(tevent_loop_once(t->ev), 0);
		}
		assert_int_equal(job.completed, i);
		assert_int_equal(job.res, 0);
		talloc_free(job.req);
	}
}

static void test_thread_in_flight(void **state)
{
	struct test *t = *state;
	struct job job = { .prep = prep_read, .fd = t->p[0], };
	struct other o = { .t = t, .job = &job, };

	queue_job(t, &job);
	expect_silent(t);
	run_other(&o);
	assert_int_equal(o.ret, -1);
	assert_int_equal(o.error, EBUSY);
	assert_int_equal(o.free_ret, -1);

	/* nothing is lost */
	assert_int_equal(write(t->p[1], "abc", 3), 3);
	loop_until(t, &job.completed, 1);
	assert_int_equal(job.res, 3);
}

/*
 * Modes and fallbacks
 */

static void log_it(void *private_data, enum tevent_debug_level level,
		   const char *fmt, va_list ap)
{
	struct test *t = private_data;

	if (strstr(fmt, "falling back") != NULL) {
		t->logged++;
	}
}

static void test_off(void **state)
{
	struct test *t = *state;
	struct tevent_context *ev[2];
	struct tevent_fd *fde = NULL;
	size_t i;

	tevent_io_uring_set_max_mode(TEVENT_IO_URING_OFF);
	for (i = 0; i < 2; i++) {
		ev[i] = tevent_context_init_byname(t, "io_uring");
		assert_non_null(ev[i]);
		tevent_set_debug(ev[i], log_it, t);
		assert_int_equal(tevent_io_uring_get_mode(ev[i]),
				 TEVENT_IO_URING_OFF);
		assert_null(tevent_io_uring_queue(t, ev[i], job_submit,
						  job_complete, NULL));
		assert_int_equal(errno, ENOTSUP);

		fde = tevent_add_fd(ev[i], t, t->p[0], TEVENT_FD_READ, reader,
				    t);
		assert_non_null(fde);
		assert_int_equal(write(t->p[1], "x", 1), 1);
		t->calls = 0;
		assert_int_equal(tevent_loop_once(ev[i]), 0);
		assert_int_equal(t->calls, 1);
		talloc_free(fde);
	}
	/* only once for a process, and this may not be the first test */
	assert_in_range(t->logged, 0, 1);

	/* it's tried again */
	tevent_io_uring_set_max_mode(mode);
	assert_int_equal(tevent_re_initialise(ev[0]), 0);
	assert_int_equal(tevent_io_uring_get_mode(ev[0]), mode);
}

static void test_logged_once(void **state)
{
	pid_t child;

	/* in a process that hasn't said it yet */
	child = fork();
	assert_in_range(child, 0, INT32_MAX);
	if (child == 0) {
		char path[16];

		snprintf(path, sizeof(path), "%d", (int)mode);
		execl("/proc/self/exe", "test_tevent_io_uring", "--log", path,
		      NULL);
		_exit(127);
	}
	assert_int_equal(exit_code(child),
			 mode == TEVENT_IO_URING_LEVEL ? 0 : 1);
}

/* --log MODE: the exit status is how often it was logged */
static int count_logs(enum tevent_io_uring_mode max_mode)
{
	struct test *t = talloc_zero(NULL, struct test);
	int i;

	tevent_io_uring_set_max_mode(max_mode);
	for (i = 0; i < 4; i++) {
		struct tevent_context *ev =
			tevent_context_init_byname(t, "io_uring");
		bool fired = false;

		tevent_set_debug(ev, log_it, t);
		tevent_add_timer(ev, t, tevent_timeval_current_ofs(0, 1000),
				 timer, &fired);
		while (!fired) {
			tevent_loop_once(ev);
		}
	}
	return t->logged;
}

static void test_standard(void **state)
{
	struct test *t = *state;
	struct tevent_context *ev = NULL;

	ev = tevent_context_init_byname(t, "standard");
	assert_non_null(ev);
	assert_int_equal(tevent_io_uring_get_mode(ev), TEVENT_IO_URING_OFF);

	tevent_io_uring_set_standard(true);
	ev = tevent_context_init_byname(t, "standard");
	assert_non_null(ev);
	assert_int_equal(tevent_io_uring_get_mode(ev),
			 mode == TEVENT_IO_URING_LEVEL ?
			 TEVENT_IO_URING_LEVEL : TEVENT_IO_URING_OFF);
	assert_int_equal(tevent_re_initialise(ev), 0);
	assert_int_equal(tevent_io_uring_get_mode(ev),
			 mode == TEVENT_IO_URING_LEVEL ?
			 TEVENT_IO_URING_LEVEL : TEVENT_IO_URING_OFF);
}

/* What a program may do by mistake */
static void close_ring(void)
{
	char link[64];
	char path[32];
	int fd;

	for (fd = 1023; fd > 2; fd--) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, link, sizeof(link) - 1);
		if (n > 0) {
			link[n] = '\0';
			if (strstr(link, "io_uring") != NULL) {
				close(fd);
				return;
			}
		}
	}
	fail();
}

/* io_uring fails: "standard" goes on with poll(). */
static void test_panic_fallback(void **state)
{
	struct test *t = *state;
	struct job jobs[2] = {
		{ .prep = prep_read, .fd = t->p[0], },
		{ .prep = prep_read, .fd = t->p[0], },
	};
	struct tevent_fd *fde = NULL;
	int callbacks;
	int p[2];

	if (mode != TEVENT_IO_URING_LEVEL) {
		/* that's epoll, as in test_standard() */
		return;
	}
	tevent_io_uring_set_standard(true);
	talloc_free(t->ev);
	t->ev = tevent_context_init_byname(t, "standard");
	assert_non_null(t->ev);
	queue_job(t, &jobs[0]);
	queue_job(t, &jobs[1]);
	expect_silent(t);

	assert_int_equal(pipe(p), 0);
	fde = tevent_add_fd(t->ev, t, p[0], TEVENT_FD_READ, looker, &t->calls);
	assert_non_null(fde);
	assert_int_equal(write(p[1], "x", 1), 1);
	close_ring();
	callbacks = in_callback;
	assert_int_equal(tevent_loop_once(t->ev), 0);
	assert_in_range(t->calls + in_callback - callbacks, 0, 1);
	loop_until(t, &t->calls, 3);
	assert_int_equal(tevent_io_uring_get_mode(t->ev), TEVENT_IO_URING_OFF);
	assert_int_equal(jobs[0].completed, 1);
	assert_int_equal(jobs[0].res, -ECANCELED);
	assert_int_equal(jobs[1].completed, 1);
	talloc_free(fde);
	expect_silent(t);
	close(p[0]);
	close(p[1]);
}

/* "io_uring" itself has nothing to fall back to then, as epoll. */
static void test_panic_abort(void **state)
{
	struct test *t = *state;
	int status;
	pid_t child;

	child = fork();
	assert_in_range(child, 0, INT32_MAX);
	if (child == 0) {
		struct job job = {};

		signal(SIGABRT, SIG_DFL);
		queue_job(t, &job);
		loop_until(t, &job.completed, 1);
		close_ring();
		tevent_loop_once(t->ev);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* It can't be polled, and is ready, as for poll(). */
static void test_regular_file(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde[2];
	FILE *f = tmpfile();
	int calls[2] = {};

	assert_non_null(f);
	assert_int_equal(write(t->p[1], "x", 1), 1);
	fde[0] = tevent_add_fd(t->ev, t, fileno(f), TEVENT_FD_READ, looker,
			       &calls[0]);
	assert_non_null(fde[0]);
	fde[1] = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, looker,
			       &calls[1]);
	assert_non_null(fde[1]);
	loop_until(t, &calls[0], 5);
	loop_until(t, &calls[1], 5);
	talloc_free(fde[0]);
	talloc_free(fde[1]);
	expect_silent(t);
	fclose(f);
}

/*
 * More SQEs than the ring has, and removals that fail as the poll has ended:
 * what they report is nobody's.
 */
static void free_other(struct tevent_context *ev, struct tevent_fd *fde,
		       uint16_t flags, void *private_data)
{
	struct tevent_fd **fdes = private_data;

	if (fdes[0] != fde) {
		TALLOC_FREE(fdes[0]);
	} else {
		TALLOC_FREE(fdes[1]);
	}
}

static void test_failing_removals(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fdes[2];
	int i, p[2][2];

	for (i = 0; i < 300; i++) {
		assert_int_equal(pipe(p[0]), 0);
		assert_int_equal(pipe(p[1]), 0);
		assert_int_equal(write(p[0][1], "x", 1), 1);
		assert_int_equal(write(p[1][1], "x", 1), 1);
		fdes[0] = tevent_add_fd(t->ev, t, p[0][0], TEVENT_FD_READ,
					free_other, fdes);
		fdes[1] = tevent_add_fd(t->ev, t, p[1][0], TEVENT_FD_READ,
					free_other, fdes);
		assert_non_null(fdes[0]);
		assert_non_null(fdes[1]);
		while (fdes[0] != NULL && fdes[1] != NULL) {
			assert_int_equal(tevent_loop_once(t->ev), 0);
		}
		close(p[0][0]);
		close(p[1][0]);
		TALLOC_FREE(fdes[0]);
		TALLOC_FREE(fdes[1]);
		close(p[0][1]);
		close(p[1][1]);
	}
	expect_silent(t);
}

/* Only wants to write, and the peer doesn't write any more. */
static void writer(struct tevent_context *ev, struct tevent_fd *fde,
		   uint16_t flags, void *private_data)
{
	int *calls = private_data;

	(*calls)++;
	assert_int_equal(flags, TEVENT_FD_WRITE);
}

static void count_waits(enum tevent_trace_point point, void *private_data)
{
	int *waits = private_data;

	if (point == TEVENT_TRACE_BEFORE_WAIT) {
		(*waits)++;
	}
}

static void test_write_after_shutdown(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde = NULL;
	char buf[4096] = {};
	int waits = 0;
	int calls = 0;
	int sk[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sk), 0);
	assert_int_equal(fcntl(sk[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(shutdown(sk[1], SHUT_WR), 0);
	fde = tevent_add_fd(t->ev, t, sk[0], TEVENT_FD_WRITE, writer, &calls);
	assert_non_null(fde);
	loop_until(t, &calls, 3);
	while (write(sk[0], buf, sizeof(buf)) > 0) {
		continue;
	}
	/* no room: neither calls nor a busy loop */
	calls = 0;
	tevent_set_trace_callback(t->ev, count_waits, &waits);
	expect_silent(t);
	tevent_set_trace_callback(t->ev, NULL, NULL);
	assert_int_equal(calls, 0);
	assert_in_range(waits, 1, 10);
	assert_int_equal(read(sk[1], buf, sizeof(buf)), sizeof(buf));
	while (read(sk[1], buf, sizeof(buf)) == sizeof(buf) &&
	       recv(sk[1], buf, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
		continue;
	}
	loop_until(t, &calls, 3);
	talloc_free(fde);
	close(sk[0]);
	close(sk[1]);
}

/*
 * A poll that has been made edge triggered, and has reported something, ends as
 * the last flag is cleared. Nothing takes its place.
 */
static void fill_and_stop(struct tevent_context *ev, struct tevent_fd *fde,
			  uint16_t flags, void *private_data)
{
	struct test *t = private_data;
	char buf[4096] = {};

	t->calls++;
	assert_int_equal(flags, TEVENT_FD_WRITE);
	while (write(t->p[1], buf, sizeof(buf)) > 0) {
		continue;
	}
	tevent_fd_set_flags(fde, 0);
}

static void test_two_writers(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fdes[2];
	char buf[4096];
	int i;

	assert_int_equal(fcntl(t->p[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(t->p[1], F_SETFL, O_NONBLOCK), 0);
	for (i = 0; i < 2; i++) {
		fdes[i] = tevent_add_fd(t->ev, t, t->p[1], TEVENT_FD_WRITE,
					fill_and_stop, t);
		assert_non_null(fdes[i]);
	}
	loop_until(t, &t->calls, 1);
	/* no room for the other one */
	expect_silent(t);
	while (read(t->p[0], buf, sizeof(buf)) > 0) {
		continue;
	}
	loop_until(t, &t->calls, 2);
	expect_silent(t);
	talloc_free(fdes[0]);
	talloc_free(fdes[1]);
	while (read(t->p[0], buf, sizeof(buf)) > 0) {
		continue;
	}
	close(t->p[1]);
	assert_true(hung_up(t->p[0], 1000));
	t->p[1] = -1;
	expect_silent(t);
}

/* A wake-up whose cause is gone when its event is reported */
static void take_byte(struct tevent_context *ev, struct tevent_timer *te,
		      struct timeval now, void *private_data)
{
	struct test *t = private_data;
	char c;

	assert_int_equal(read(t->p[0], &c, 1), 1);
}

static void test_stale_wake_up(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde = NULL;
	int i;

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	assert_int_equal(fcntl(t->p[0], F_SETFL, O_NONBLOCK), 0);
	for (i = 0; i < 10; i++) {
		expect_silent(t);
		assert_non_null(tevent_add_timer(t->ev, t,
						 tevent_timeval_zero(),
						 take_byte, t));
		assert_int_equal(write(t->p[1], "x", 1), 1);
		expect_silent(t);
	}
	assert_int_equal(t->calls, 0);
	talloc_free(fde);
}

/* By O_DIRECT: it can't be cancelled, so talloc_free() has to wait. */
static void prep_read_big(struct io_uring_sqe *sqe, struct job *job)
{
	io_uring_prep_read(sqe, job->fd, job->t->buf, BIG, 0);
}

static void test_free_direct(void **state)
{
	struct test *t = *state;
	char path[] = "tevent_io_uring.XXXXXX";
	int fd = mkstemp(path);
	int i;

	assert_int_not_equal(fd, -1);
	unlink(path);
	assert_int_equal(posix_memalign((void **)&t->buf, 4096, BIG), 0);
	memset(t->buf, 'x', BIG);
	assert_int_equal(write(fd, t->buf, BIG), BIG);
	/* tmpfs has its own way, which completes at once */
	if (fcntl(fd, F_SETFL, O_DIRECT) == 0) {
		assert_int_equal(fsync(fd), 0);
	}
	for (i = 0; i < 20; i++) {
		struct job job = { .prep = prep_read_big, .fd = fd, };
		bool fired = false;
		int j;

		queue_job(t, &job);
		assert_non_null(tevent_add_timer(t->ev, t,
				tevent_timeval_current_ofs(0, 1), timer,
				&fired));
		while (!job.submitted) {
			assert_int_equal(tevent_loop_once(t->ev), 0);
		}
		assert_int_equal(talloc_free(job.req), 0);
		memset(t->buf, 'y', BIG);
		usleep(2000);
		for (j = 0; j < BIG; j++) {
			assert_int_equal(t->buf[j], 'y');
		}
		while (!fired) {
			assert_int_equal(tevent_loop_once(t->ev), 0);
		}
	}
	free(t->buf);
	close(fd);
}

/*
 * Files: what differs by mode
 */

/* fde freed, then closed: every mode lets the peer see that at once. */
static void test_free_and_close(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde = NULL;

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	expect_silent(t);
	talloc_free(fde);
	close(t->p[0]);
	assert_true(hung_up(t->p[1], 1000));
	t->p[0] = -1;
}

static void test_auto_close(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde = NULL;

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	tevent_fd_set_auto_close(fde);
	expect_silent(t);
	talloc_free(fde);
	assert_true(hung_up(t->p[1], 1000));
	t->p[0] = -1;
}

static void test_no_flags_and_close(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde = NULL;

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	expect_silent(t);
	tevent_fd_set_flags(fde, 0);
	close(t->p[0]);
	assert_true(hung_up(t->p[1], 1000));
	t->p[0] = -1;
	expect_silent(t);
	talloc_free(fde);
}

/* Closed behind our back, by a context that doesn't loop */
static void test_close(void **state)
{
	struct test *t = *state;
	struct tevent_fd *fde = NULL;

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	expect_silent(t);
	close(t->p[0]);
	t->p[0] = -1;
	if (mode == TEVENT_IO_URING_ONESHOT) {
		assert_false(hung_up(t->p[1], 100));
	} else {
		assert_true(hung_up(t->p[1], 1000));
		expect_silent(t);
	}
	talloc_free(fde);
	assert_true(hung_up(t->p[1], 1000));
}

static void *free_thread(void *private_data)
{
	talloc_free(private_data);
	return NULL;
}

/* By another thread than the one that has looped. Others are still polled. */
static void test_thread_frees(void **state)
{
	struct test *t = *state;
	struct tevent_timer *te = NULL;
	struct tevent_fd *fde = NULL;
	struct tevent_fd *other = NULL;
	bool fired = false;
	pthread_t thread;
	int calls = 0;
	int p[2];

	assert_int_equal(pipe(p), 0);
	other = tevent_add_fd(t->ev, t, p[0], TEVENT_FD_READ, looker, &calls);
	assert_non_null(other);
	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	expect_silent(t);
	assert_int_equal(pthread_create(&thread, NULL, free_thread, fde), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(t->p[0]);
	assert_true(hung_up(t->p[1], 1000));
	t->p[0] = -1;
	expect_silent(t);

	te = tevent_add_timer(t->ev, t, tevent_timeval_current_ofs(10, 0),
			      timer, &fired);
	assert_non_null(te);
	assert_int_equal(write(p[1], "x", 1), 1);
	while (calls == 0 && !fired) {
		assert_int_equal(tevent_loop_once(t->ev), 0);
	}
	assert_int_equal(calls, 1);
	talloc_free(te);
	talloc_free(other);
	close(p[0]);
	close(p[1]);
}

/* A wrapper takes the flags of its tevent_fds with it, not their memory. */
static void test_wrapper(void **state)
{
	static const struct tevent_wrapper_ops ops = { .name = "test", };
	struct test *t = *state;
	size_t blocks = talloc_total_blocks(t->ev);
	struct tevent_context *wrapper = NULL;
	struct tevent_fd *fde = NULL;
	int *private_state = NULL;
	int i;

	for (i = 0; i < 10; i++) {
		wrapper = tevent_context_wrapper_create(t->ev, t, &ops,
							&private_state, int);
		assert_non_null(wrapper);
		fde = tevent_add_fd(wrapper, t, t->p[0], TEVENT_FD_READ, reader,
				    t);
		assert_non_null(fde);
		expect_silent(t);
		talloc_free(wrapper);
		expect_silent(t);
		talloc_free(fde);
		expect_silent(t);
	}
	assert_int_equal(talloc_total_blocks(t->ev), blocks);
}

/* How many tasks /proc/stat says to wait for a disk */
static int procs_blocked(void)
{
	FILE *f = fopen("/proc/stat", "r");
	char *line = NULL;
	size_t size = 0;
	int n = -1;

	assert_non_null(f);
	while (n == -1 && getline(&line, &size, f) != -1) {
		sscanf(line, "procs_blocked %d", &n);
	}
	free(line);
	fclose(f);
	return n;
}

static bool is_asleep(pid_t pid)
{
	char path[32];
	char c = 0;
	FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d (%*[^)]) %c", &c), 1);
	fclose(f);
	return c == 'S';
}

/* Does a wait count as one for a disk, after so many others? */
static bool waits_for_disk(struct test *t, int waits)
{
	bool ret = true;
	pid_t child;
	int i;

	child = fork();
	assert_in_range(child, 0, INT32_MAX);
	if (child == 0) {
		bool fired;

		alarm(60);
		for (i = 0; i < waits; i++) {
			tevent_add_timer(t->ev, t,
					 tevent_timeval_current_ofs(0, 1000),
					 timer, &fired);
			tevent_loop_once(t->ev);
		}
		tevent_loop_once(t->ev);
		_exit(0);
	}
	/* there may be others that do, now and then */
	for (i = 0; i < 1000 && ret; i++) {
		usleep(10000);
		ret = i < 20 || !is_asleep(child) || procs_blocked() != 0;
	}
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	return ret;
}

static void test_iowait(void **state)
{
	struct test *t = *state;
	struct io_uring_params params = {};
	struct io_uring ring;
	struct tevent_fd *fde = NULL;

	assert_int_equal(io_uring_queue_init_params(1, &ring, &params), 0);
	io_uring_queue_exit(&ring);
	if (!(params.features & IORING_FEAT_NO_IOWAIT)) {
		skip();
	}

	fde = tevent_add_fd(t->ev, t, t->p[0], TEVENT_FD_READ, reader, t);
	assert_non_null(fde);
	/* the first one submits something, the next one doesn't */
	assert_false(waits_for_disk(t, 0));
	assert_false(waits_for_disk(t, 1));
	talloc_free(fde);
}

static const char *mode_name(void)
{
	switch (mode) {
	case TEVENT_IO_URING_OFF:
		break;
	case TEVENT_IO_URING_ONESHOT:
		return "oneshot";
	case TEVENT_IO_URING_ONESHOT_CLOSE:
		return "oneshot_close";
	case TEVENT_IO_URING_LEVEL:
		return "level";
	}
	return "off";
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(nop), TEST(order), TEST(read), TEST(sendmsg_recv),
		TEST(error), TEST(refused_flags), TEST(multishot),
		TEST(free_in_callback), TEST(cancel_queued),
		TEST(cancel_submitted), TEST(cancel_completed),
		TEST(free_context), TEST(re_initialise), TEST(loop_wait), TEST(loop_wait_late),
		TEST(many), TEST(shared_wait), TEST(stale_event), TEST(fork),
		TEST(thread), TEST(thread_in_flight), TEST(off),
		TEST(logged_once), TEST(standard), TEST(panic_fallback),
		TEST(panic_abort), TEST(regular_file), TEST(failing_removals),
		TEST(write_after_shutdown), TEST(two_writers),
		TEST(stale_wake_up), TEST(wrapper), TEST(iowait),
		TEST(free_direct), TEST(free_and_close), TEST(auto_close),
		TEST(no_flags_and_close), TEST(close), TEST(thread_frees),
	};
	enum tevent_io_uring_mode best;
	struct tevent_context *ev = NULL;
	int failed = 0;

	if (argc == 3 && strcmp(argv[1], "--log") == 0) {
		return count_logs(atoi(argv[2]));
	}

	ev = tevent_context_init_byname(NULL, "io_uring");
	if (ev == NULL) {
		return 1;
	}
	best = tevent_io_uring_get_mode(ev);
	talloc_free(ev);
	if (best == TEVENT_IO_URING_OFF) {
		printf("1..0 # SKIP no io_uring\n");
		return 0;
	}
	for (mode = TEVENT_IO_URING_ONESHOT; mode <= best; mode++) {
		failed += cmocka_run_group_tests_name(mode_name(), tests, NULL,
						      NULL);
	}
	return failed != 0;
}
