/*
 * Unix SMB/CIFS implementation.
 *
 * what every backend of tevent has to do for a context
 *
 * Copyright (C) io_uring-level-poll developers 2026
 *
 *   ** NOTE! The following LGPL license applies to the tevent
 *   ** library. This does NOT imply that all of Samba is released
 *   ** under the LGPL
 *
 * This library is free software; you can redistribute it and/or
 * modify it under the terms of the GNU Lesser General Public
 * License as published by the Free Software Foundation; either
 * version 3 of the License, or (at your option) any later version.
 *
 * This library is distributed in the hope that it will be useful,
 * but WITHOUT ANY WARRANTY; without even the implied warranty of
 * MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the GNU
 * Lesser General Public License for more details.
 *
 * You should have received a copy of the GNU Lesser General Public
 * License along with this library; if not, see <http://www.gnu.org/licenses/>.
 */

#include "test_tevent_backends.h"
#ifdef HAVE_PTHREAD
#include "system/threads.h"
#endif
#include <sys/resource.h>

/*
 * Contexts
 */

static void test_many_contexts(void **state)
{
	struct tevent_context *ev[16];
	struct watch w[ARRAY_SIZE(ev)] = {};
	int fds[2];
	int round;
	size_t i;

	new_pipe(fds);
	for (i = 0; i < ARRAY_SIZE(ev); i++) {
		ev[i] = new_context(state);
		watch_start(&w[i], ev[i], fds[0], R);
	}
	for (round = 1; round <= 3; round++) {
		put(fds[1]);
		for (i = 0; i < ARRAY_SIZE(ev); i++) {
			loop_calls(ev[i], 1);
			assert_int_equal(w[i].calls, round);
		}
		get(fds[0]);
		for (i = 0; i < 2; i++) {
			loop_idle(ev[i]);
		}
	}

	/* without one, without its fd event */
	TALLOC_FREE(ev[0]);
	TALLOC_FREE(w[1].fde);
	put(fds[1]);
	for (i = 2; i < ARRAY_SIZE(ev); i++) {
		loop_calls(ev[i], 1);
	}
	get(fds[0]);
	close(fds[0]);
	assert_true(peer_closed(fds[1]));
	for (i = 2; i < ARRAY_SIZE(ev); i++) {
		TALLOC_FREE(ev[i]);
	}
	TALLOC_FREE(ev[1]);
}

/*
 * Those of other backends, one direction for each
 */
static void test_other_backends(void **state)
{
	const char **list = tevent_backend_list(NULL);
	struct tevent_context *ev = new_context(state);
	struct watch r = { .fde = NULL };
	int fds[2];
	size_t i;

	new_sockets(fds);
	watch_start(&r, ev, fds[0], R);
	for (i = 0; list[i] != NULL; i++) {
		struct tevent_context *other = NULL;
		struct watch w = { .fde = NULL };

		other = tevent_context_init_byname(NULL, list[i]);
		if (other == NULL) {
			continue;
		}
		watch_start(&w, other, fds[0], W);
		loop_calls(other, 1);
		loop_idle(ev);
		put(fds[1]);
		loop_calls(ev, 1);
		loop_calls(other, 1);
		assert_int_equal(r.flags, R);
		assert_int_equal(w.flags, W);
		get(fds[0]);
		TALLOC_FREE(other);
	}

	TALLOC_FREE(ev);
	TALLOC_FREE(list);
}

static void action_other_context(struct watch *w)
{
	struct watch *other = w->other;
	unsigned int before = other->calls;

	num_calls -= 1;
	put(other->other_fd);
	loop_calls(other->ev, 1);
	assert_int_equal(other->calls, before + 1);
	get(w->fd);
	if (other->calls == 3) {
		TALLOC_FREE(other->ev);
	}
}

/*
 * A handler uses another context, and frees it
 */
static void test_context_in_handler(void **state)
{
	struct tevent_context *ev[2];
	struct watch w[2] = {};
	int i;

	for (i = 0; i < 2; i++) {
		int fds[2];

		ev[i] = new_context(state);
		new_pipe(fds);
		watch_start(&w[i], ev[i], fds[0], R);
		w[i].other_fd = fds[1];
	}
	w[0].action = action_other_context;
	w[0].other = &w[1];
	w[1].action = action_get;
	for (i = 1; i <= 3; i++) {
		put(w[0].other_fd);
		loop_until(ev[0], &w[0].calls, i);
		assert_int_equal(w[1].calls, i);
	}
	loop_idle(ev[0]);

	TALLOC_FREE(ev[0]);
}

static int highest_fd(void)
{
	struct rlimit limit;
	int ret;

	ret = getrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(ret, 0);

	return MIN(limit.rlim_cur, 4096);
}

static int count_fds(void)
{
	int max = highest_fd();
	int num = 0;
	int fd;

	for (fd = 0; fd < max; fd++) {
		if (fcntl(fd, F_GETFD) != -1) {
			num += 1;
		}
	}

	return num;
}

static void test_fd_leak(void **state)
{
	int before = count_fds();
	int round;

	for (round = 0; round < 20; round++) {
		struct tevent_context *ev = new_context(state);
		struct watch w[10] = {};
		size_t i;
		int ret;

		start_ready(ev, w, ARRAY_SIZE(w), NULL);
		loop_calls(ev, 5);
		if (round & 1) {
			ret = tevent_re_initialise(ev);
			assert_int_equal(ret, 0);
		}
		TALLOC_FREE(ev);
		for (i = 0; i < ARRAY_SIZE(w); i++) {
			close(w[i].fd);
			close(w[i].other_fd);
		}
		assert_int_equal(count_fds(), before);
	}
}

/*
 * No fd of the context is open in a program that is executed
 */
static void test_cloexec(void **state)
{
	bool open_before[4096];
	struct tevent_context *ev = NULL;
	struct watch w = { .fde = NULL };
	int max = highest_fd();
	int fds[2];
	int fd;

	new_pipe(fds);
	put(fds[1]);
	for (fd = 0; fd < max; fd++) {
		open_before[fd] = (fcntl(fd, F_GETFD) != -1);
	}
	ev = new_context(state);
	watch_start(&w, ev, fds[0], R);
	loop_calls(ev, 1);
	for (fd = 0; fd < max; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags != -1 && !open_before[fd]) {
			assert_int_equal(flags & FD_CLOEXEC, FD_CLOEXEC);
		}
	}

	TALLOC_FREE(ev);
}

/*
 * fork()
 */

struct fork_state {
	void *backend;
	struct tevent_context *ev;
	/* watched in the parent, and in the child while it has the context */
	struct watch w;
	struct watch shared;
	int fds[2];
	int shared_fds[2];
};

static void fork_setup(void **state, struct fork_state *f)
{
	*f = (struct fork_state) {
		.ev = new_context(state),
		.backend = *state,
	};

	new_pipe(f->fds);
	new_pipe(f->shared_fds);
	f->w.action = action_get;
	f->shared.action = action_get;
	watch_start(&f->w, f->ev, f->fds[0], R);
	watch_start(&f->shared, f->ev, f->shared_fds[0], R);
	put(f->fds[1]);
	put(f->shared_fds[1]);
	loop_calls(f->ev, 2);
}

/*
 * The parent's context does what it did before, whatever a child does
 */
static void fork_check_parent(struct fork_state *f)
{
	int i;

	for (i = 0; i < 3; i++) {
		f->w.calls = 0;
		f->shared.calls = 0;
		put(f->fds[1]);
		put(f->shared_fds[1]);
		loop_calls(f->ev, 2);
		assert_int_equal(f->w.calls, 1);
		assert_int_equal(f->shared.calls, 1);
	}
	loop_idle(f->ev);
}

static void fork_check(void **state, void (*child)(struct fork_state *f))
{
	struct fork_state f;
	int go[2];
	pid_t pid;
	char c;

	fork_setup(state, &f);

	/* ready, but not reported yet */
	put(f.fds[1]);
	pid = start_child();
	if (pid == 0) {
		child(&f);
		_exit(0);
	}
	wait_for(pid);
	loop_calls(f.ev, 1);
	fork_check_parent(&f);

	/* two that are alive at the same time, and so is the parent */
	new_pipe(go);
	pid = start_child();
	if (pid == 0) {
		drain(f.fds[0]);
		child(&f);
		close(go[0]);
		put(go[1]);
		/* until the parent exits or closes it */
		close(go[1]);
		pause();
		_exit(1);
	}
	close(go[1]);
	fcntl(go[0], F_SETFL, 0);
	assert_int_equal(read(go[0], &c, 1), 1);
	fork_check_parent(&f);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	fork_check_parent(&f);

	TALLOC_FREE(f.ev);
	close(f.fds[0]);
	assert_true(peer_closed(f.fds[1]));
}

static void child_re_initialise(struct fork_state *f)
{
	struct watch w = { .action = action_get };
	int fds[2];
	int ret;

	ret = tevent_re_initialise(f->ev);
	assert_int_equal(ret, 0);
	/* nothing of the parent is left, though it is ready */
	loop_idle(f->ev);
	TALLOC_FREE(f->w.fde);

	new_pipe(fds);
	watch_start(&w, f->ev, fds[0], R);
	watch_start(&f->shared, f->ev, f->shared_fds[0], R);
	put(fds[1]);
	put(f->shared_fds[1]);
	loop_calls(f->ev, 2);
	assert_int_equal(w.calls, 1);
	assert_int_equal(f->shared.calls, 1);
	loop_idle(f->ev);
	TALLOC_FREE(f->ev);
}

static void test_fork_re_initialise(void **state)
{
	fork_check(state, child_re_initialise);
}

static void child_loop(struct fork_state *f)
{
	f->w.calls = 0;
	f->shared.calls = 0;
	f->w.action = NULL;
	put(f->shared_fds[1]);
	loop_until(f->ev, &f->shared.calls, 1);
	put(f->shared_fds[1]);
	loop_until(f->ev, &f->shared.calls, 2);
}

/*
 * The child goes on with the context, which is its own from now on
 */
static void test_fork_loop(void **state)
{
	fork_check(state, child_loop);
}

static void child_free(struct fork_state *f)
{
	TALLOC_FREE(f->shared.fde);
	TALLOC_FREE(f->w.fde);
}

static void test_fork_free(void **state)
{
	fork_check(state, child_free);
}

static void child_flags(struct fork_state *f)
{
	tevent_fd_set_flags(f->shared.fde, 0);
	tevent_fd_set_flags(f->w.fde, W);
	loop_idle(f->ev);
	tevent_fd_set_flags(f->shared.fde, R);
	put(f->shared_fds[1]);
	loop_calls(f->ev, 1);
}

static void test_fork_flags(void **state)
{
	fork_check(state, child_flags);
}

static void child_add(struct fork_state *f)
{
	struct watch w = { .action = action_get };
	int fds[2];

	new_pipe(fds);
	watch_start(&w, f->ev, fds[0], R);
	put(fds[1]);
	f->w.action = NULL;
	loop_until(f->ev, &w.calls, 1);
	TALLOC_FREE(w.fde);
}

static void test_fork_add(void **state)
{
	fork_check(state, child_add);
}

static void child_free_context(struct fork_state *f)
{
	TALLOC_FREE(f->ev);
}

static void test_fork_free_context(void **state)
{
	fork_check(state, child_free_context);
}

static void child_new_context(struct fork_state *f)
{
	struct watch w = { .action = action_get };
	int fds[2];
	struct tevent_context *ev = NULL;

	/* the old one just stays */
	ev = new_context(&f->backend);
	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	watch_start(&f->shared, ev, f->shared_fds[0], R);
	put(fds[1]);
	put(f->shared_fds[1]);
	loop_calls(ev, 2);
	assert_int_equal(w.calls, 1);
}

static void test_fork_new_context(void **state)
{
	fork_check(state, child_new_context);
}

/*
 * The parent frees one and adds another one before the child loops. Neither
 * is for the child.
 */
static void test_fork_parent_changes(void **state)
{
	struct fork_state f;
	struct watch new = { .action = NULL };
	int go[2], fds[2];
	pid_t pid;
	char c;

	fork_setup(state, &f);
	new_pipe(go);
	fcntl(go[0], F_SETFL, 0);
	pid = start_child();
	if (pid == 0) {
		assert_int_equal(read(go[0], &c, 1), 1);
		f.w.calls = 0;
		f.shared.calls = 0;
		put(f.fds[1]);
		put(f.shared_fds[1]);
		loop_calls(f.ev, 2);
		assert_int_equal(f.w.calls, 1);
		assert_int_equal(f.shared.calls, 1);
		loop_idle(f.ev);
		_exit(0);
	}
	TALLOC_FREE(f.w.fde);
	close(f.fds[0]);
	new_pipe(fds);
	watch_start(&new, f.ev, fds[0], R);
	put(fds[1]);
	put(go[1]);
	wait_for(pid);
	loop_calls(f.ev, 3);
	assert_int_equal(new.calls, 3);
	assert_true(peer_closed(f.fds[1]));

	TALLOC_FREE(f.ev);
}

/*
 * What smbd does: a handler forks, its child starts anew
 */
static void action_fork(struct watch *w)
{
	struct watch new = { .action = action_get };
	int fds[2];
	pid_t pid;
	int ret;

	get(w->fd);
	pid = start_child();
	if (pid != 0) {
		wait_for(pid);
		return;
	}

	ret = tevent_re_initialise(w->ev);
	assert_int_equal(ret, 0);
	TALLOC_FREE(w->fde);
	new_pipe(fds);
	watch_start(&new, w->ev, fds[0], R);
	put(w->other_fd);
	loop_idle(w->ev);
	get(w->fd);
	put(fds[1]);
	loop_calls(w->ev, 1);
	assert_int_equal(new.calls, 1);
	_exit(0);
}

static void test_fork_in_handler(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[3] = {};
	int i;

	start_ready(ev, w, 3, action_fork);
	loop_calls(ev, 3);
	loop_idle(ev);
	for (i = 0; i < 3; i++) {
		put(w[i].other_fd);
	}
	loop_calls(ev, 3);

	TALLOC_FREE(ev);
}

/*
 * Threads
 */

#ifdef HAVE_PTHREAD

static void run_thread(void *(*fn)(void *), void *private_data)
{
	pthread_t thread;
	int ret;

	ret = pthread_create(&thread, NULL, fn, private_data);
	assert_int_equal(ret, 0);
	ret = pthread_join(thread, NULL);
	assert_int_equal(ret, 0);
}

struct thread_state {
	void **state;
	struct tevent_context *ev;
	struct watch w[3];
	int fds[3][2];
};

static void *thread_use(void *private_data)
{
	struct thread_state *t = (struct thread_state *)private_data;
	int i;

	for (i = 0; i < 3; i++) {
		put(t->fds[i][1]);
	}
	loop_calls(t->ev, 3);
	loop_idle(t->ev);

	/* all kinds of changes */
	tevent_fd_set_flags(t->w[0].fde, 0);
	tevent_fd_set_flags(t->w[0].fde, R);
	TALLOC_FREE(t->w[1].fde);
	watch_start(&t->w[1], t->ev, t->fds[1][0], R);

	return NULL;
}

static void *thread_create(void *private_data)
{
	struct thread_state *t = (struct thread_state *)private_data;
	int i;

	t->ev = new_context(t->state);
	for (i = 0; i < 3; i++) {
		new_pipe(t->fds[i]);
		t->w[i].action = action_get;
		watch_start(&t->w[i], t->ev, t->fds[i][0], R);
	}

	return NULL;
}

static void *thread_create_and_use(void *private_data)
{
	thread_create(private_data);

	return thread_use(private_data);
}

static void *thread_free(void *private_data)
{
	struct thread_state *t = (struct thread_state *)private_data;

	TALLOC_FREE(t->ev);

	return NULL;
}

/*
 * Created in one thread, looped in others, one after the other
 */
static void test_thread_other(void **state)
{
	struct thread_state t = { .state = state };
	int i;

	thread_create(&t);
	for (i = 0; i < 3; i++) {
		run_thread(thread_use, &t);
		thread_use(&t);
	}
	run_thread(thread_free, &t);
	close(t.fds[0][0]);
	assert_true(peer_closed(t.fds[0][1]));
}

/*
 * The one that created it is gone
 */
static void test_thread_gone(void **state)
{
	struct thread_state t = { .state = state };

	run_thread(thread_create, &t);
	thread_use(&t);
	run_thread(thread_use, &t);
	thread_free(&t);

	t = (struct thread_state) { .state = state };
	run_thread(thread_create_and_use, &t);
	run_thread(thread_use, &t);
	thread_use(&t);
	close(t.fds[0][0]);
	assert_true(peer_closed(t.fds[0][1]));
	thread_free(&t);
}

static void *thread_close(void *private_data)
{
	struct thread_state *t = (struct thread_state *)private_data;

	close(t->fds[0][0]);
	assert_true(peer_closed(t->fds[0][1]));

	return NULL;
}

/*
 * Another thread closes it, while this one doesn't use the context
 */
static void test_thread_close(void **state)
{
	struct thread_state t = { .state = state };

	thread_create(&t);
	thread_use(&t);
	run_thread(thread_close, &t);
	loop_idle(t.ev);
	put(t.fds[1][1]);
	loop_calls(t.ev, 1);
	thread_free(&t);
}

static void *thread_wait(void *private_data)
{
	struct thread_state *t = (struct thread_state *)private_data;

	loop_calls(t->ev, 1);

	return NULL;
}

/*
 * The same while a thread waits
 */
static void test_thread_close_wait(void **state)
{
	struct thread_state t = { .state = state };
	pthread_t thread;
	int ret;

	thread_create(&t);
	thread_use(&t);
	ret = pthread_create(&thread, NULL, thread_wait, &t);
	assert_int_equal(ret, 0);
	usleep(100000);
	thread_close(&t);
	usleep(SHORT_TIME);
	put(t.fds[1][1]);
	ret = pthread_join(thread, NULL);
	assert_int_equal(ret, 0);
	assert_int_equal(t.w[0].calls, 1);
	assert_int_equal(t.w[1].calls, 1);
	thread_free(&t);
}

static void thread_handler(struct tevent_context *ev,
			   struct tevent_fd *fde,
			   uint16_t flags,
			   void *private_data)
{
	*(unsigned int *)private_data += 1;
}

static void *thread_own(void *private_data)
{
	struct tevent_context *ev = NULL;
	struct tevent_fd *fde = NULL;
	unsigned int calls = 0;
	int fds[2];
	int ret;

	ev = tevent_context_init_byname(NULL, (const char *)private_data);
	assert_non_null(ev);
	new_pipe(fds);
	/* the counters of the others are not for threads */
	fde = tevent_add_fd(ev, ev, fds[0], R, thread_handler, &calls);
	assert_non_null(fde);
	while (calls < 300) {
		unsigned int before = calls;

		put(fds[1]);
		while (calls == before) {
			ret = tevent_loop_once(ev);
			assert_int_equal(ret, 0);
		}
		get(fds[0]);
	}
	TALLOC_FREE(ev);
	assert_false(peer_closed(fds[1]));
	close(fds[0]);
	assert_true(peer_closed(fds[1]));

	return NULL;
}

/*
 * Each one has a context
 */
static void test_thread_own(void **state)
{
	pthread_t threads[8];
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		ret = pthread_create(&threads[i], NULL, thread_own, *state);
		assert_int_equal(ret, 0);
	}
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		ret = pthread_join(threads[i], NULL);
		assert_int_equal(ret, 0);
	}
}

#define NUM_WAKEUPS 200

struct wakeup_state {
	struct tevent_threaded_context *tctx;
	unsigned int calls;
};

static void wakeup_handler(struct tevent_context *ev,
			   struct tevent_immediate *im,
			   void *private_data)
{
	struct wakeup_state *s = (struct wakeup_state *)private_data;

	s->calls += 1;
	TALLOC_FREE(im);
}

static void *thread_wakeup(void *private_data)
{
	struct wakeup_state *s = (struct wakeup_state *)private_data;
	int i;

	for (i = 0; i < NUM_WAKEUPS; i++) {
		struct tevent_immediate *im = tevent_create_immediate(NULL);

		assert_non_null(im);
		tevent_threaded_schedule_immediate(s->tctx, im,
						   wakeup_handler, s);
		if (i % 20 == 0) {
			usleep(1000);
		}
	}

	return NULL;
}

/*
 * Another thread wakes up one that waits
 */
static void test_thread_wakeup(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct wakeup_state s = { .calls = 0 };
	struct watch w = { .fde = NULL };
	pthread_t thread;
	bool timed_out;
	int fds[2];
	int ret;

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	s.tctx = tevent_threaded_context_create(ev, ev);
	assert_non_null(s.tctx);
	start_timer(ev, long_time, 0, &timed_out);
	ret = pthread_create(&thread, NULL, thread_wakeup, &s);
	assert_int_equal(ret, 0);
	while (s.calls < NUM_WAKEUPS) {
		loop_once(ev);
		assert_false(timed_out);
	}
	pthread_join(thread, NULL);
	assert_int_equal(w.calls, 0);

	TALLOC_FREE(ev);
}

#endif /* HAVE_PTHREAD */

/*
 * Signals, timers and immediates
 */

static void append_event(void *private_data, char event)
{
	char *events = (char *)private_data;

	assert_true(strlen(events) < 15);
	events[strlen(events)] = event;
	num_calls += 1;
}

static void order_signal(struct tevent_context *ev,
			 struct tevent_signal *se,
			 int signum,
			 int count,
			 void *siginfo,
			 void *private_data)
{
	append_event(private_data, 's');
}

static void order_immediate(struct tevent_context *ev,
			    struct tevent_immediate *im,
			    void *private_data)
{
	append_event(private_data, 'i');
}

static void order_timer(struct tevent_context *ev,
			struct tevent_timer *te,
			struct timeval now,
			void *private_data)
{
	append_event(private_data, 't');
}

static void order_fd(struct tevent_context *ev,
		     struct tevent_fd *fde,
		     uint16_t flags,
		     void *private_data)
{
	append_event(private_data, 'f');
	TALLOC_FREE(fde);
}

static void test_order(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct tevent_signal *se = NULL;
	struct tevent_immediate *im = NULL;
	struct tevent_fd *fde = NULL;
	int fds[2];
	int round;

	new_pipe(fds);
	put(fds[1]);
	im = tevent_create_immediate(ev);
	assert_non_null(im);

	for (round = 0; round < 3; round++) {
		char events[16] = { 0 };
		struct tevent_timer *te = NULL;

		fde = tevent_add_fd(ev, ev, fds[0], R, order_fd, events);
		assert_non_null(fde);
		te = tevent_add_timer(ev, ev, tevent_timeval_zero(),
				      order_timer, events);
		assert_non_null(te);
		tevent_schedule_immediate(im, ev, order_immediate, events);
		se = tevent_add_signal(ev, ev, SIGUSR1, 0, order_signal,
				       events);
		assert_non_null(se);
		kill(getpid(), SIGUSR1);

		loop_calls(ev, 4);
		assert_string_equal(events, "sitf");
		loop_idle(ev);
		TALLOC_FREE(se);
	}

	TALLOC_FREE(ev);
}

static void count_signal(struct tevent_context *ev,
			 struct tevent_signal *se,
			 int signum,
			 int count,
			 void *siginfo,
			 void *private_data)
{
	unsigned int *num = (unsigned int *)private_data;

	*num += count;
}

/*
 * One that comes while it waits
 */
static void test_signal_wait(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct tevent_signal *se = NULL;
	struct watch w = { .action = action_get };
	unsigned int num = 0;
	unsigned int loops = 0;
	bool timed_out;
	int fds[2];
	pid_t pid;

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	se = tevent_add_signal(ev, ev, SIGUSR1, 0, count_signal, &num);
	assert_non_null(se);
	pid = start_child();
	if (pid == 0) {
		usleep(50000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	start_timer(ev, long_time, 0, &timed_out);
	while (num == 0) {
		loop_once(ev);
		loops += 1;
	}
	assert_false(timed_out);
	assert_true(loops <= MAX_SPURIOUS);
	assert_int_equal(num, 1);
	wait_for(pid);

	/* one that came before */
	kill(getpid(), SIGUSR1);
	loop_once(ev);
	assert_int_equal(num, 2);
	put(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(num, 2);

	TALLOC_FREE(ev);
}

static volatile sig_atomic_t num_alarms;

static void alarm_handler(int signum)
{
	num_alarms += 1;
}

static void start_alarms(int usecs)
{
	struct itimerval it = {
		.it_interval = { .tv_usec = usecs },
		.it_value = { .tv_usec = usecs },
	};
	int ret;

	ret = setitimer(ITIMER_REAL, &it, NULL);
	assert_int_equal(ret, 0);
}

/*
 * Those that tevent doesn't know about are not an error
 */
static void test_signal_other(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct sigaction act = { .sa_handler = alarm_handler };
	struct watch w = { .action = action_get };
	struct timeval start, end;
	bool timed_out;
	int fds[2];

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	sigaction(SIGALRM, &act, NULL);
	start = tevent_timeval_current();
	start_timer(ev, 0, 200000, &timed_out);
	start_alarms(10000);
	while (!timed_out) {
		loop_once(ev);
	}
	end = tevent_timeval_current();
	end = tevent_timeval_until(&start, &end);
	assert_true(end.tv_sec > 0 || end.tv_usec >= 200000);
	assert_true(num_alarms > 0);
	assert_int_equal(w.calls, 0);
	put(fds[1]);
	loop_calls(ev, 1);
	start_alarms(0);

	TALLOC_FREE(ev);
}

static void test_signal_storm(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct tevent_signal *se = NULL;
	struct watch w = { .action = action_get };
	unsigned int num = 0;
	bool timed_out;
	int fds[2];
	int i;

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	se = tevent_add_signal(ev, ev, SIGALRM, 0, count_signal, &num);
	assert_non_null(se);
	start_alarms(1000);
	start_timer(ev, 0, 500000, &timed_out);
	for (i = 0; !timed_out; i++) {
		unsigned int before = w.calls;

		put(fds[1]);
		while (w.calls == before && !timed_out) {
			loop_once(ev);
		}
	}
	start_alarms(0);
	assert_true(num > 0);
	assert_true(w.calls > 0);
	assert_true(i - w.calls <= 1);

	TALLOC_FREE(ev);
}

/*
 * A timer is not called before its time, nor does it spin until then
 */
static void test_timer(void **state)
{
	static const int usecs[] = { 300, 1000, 1300, 2700, 5500, 20900 };
	struct tevent_context *ev = new_context(state);
	struct watch w = { .fde = NULL };
	int fds[2];
	size_t i;

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	loop_idle(ev);
	for (i = 0; i < ARRAY_SIZE(usecs); i++) {
		struct timeval start, end;
		unsigned int loops = 0;
		bool timed_out;

		start = tevent_timeval_current();
		start_timer(ev, 0, usecs[i], &timed_out);
		while (!timed_out) {
			loop_once(ev);
			loops += 1;
		}
		end = tevent_timeval_current();
		end = tevent_timeval_until(&start, &end);
		assert_true(end.tv_sec > 0 || end.tv_usec >= usecs[i]);
		assert_true(loops <= 3);
	}

	TALLOC_FREE(ev);
}

static void action_nested(struct watch *w)
{
	struct watch *other = w->other;
	unsigned int before = other->calls;

	get(w->fd);
	if (*(int *)w->private_data == 0) {
		return;
	}
	*(int *)w->private_data -= 1;
	put(other->other_fd);
	while (other->calls == before) {
		int ret = tevent_loop_once(w->ev);

		assert_int_equal(ret, 0);
	}
	assert_int_equal(other->calls, before + 1);
}

static void test_nested(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[20] = {};
	struct tevent_timer *te = NULL;
	int depth = ARRAY_SIZE(w) - 1;
	bool timed_out;
	size_t i;

	tevent_loop_allow_nesting(ev);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		int fds[2];

		new_pipe(fds);
		watch_start(&w[i], ev, fds[0], R);
		w[i].action = action_nested;
		w[i].other = &w[(i + 1) % ARRAY_SIZE(w)];
		w[i].other_fd = fds[1];
		w[i].private_data = &depth;
	}
	loop_idle(ev);
	put(w[0].other_fd);
	te = start_timer(ev, long_time, 0, &timed_out);
	while (w[0].calls == 0) {
		int ret = tevent_loop_once(ev);

		assert_int_equal(ret, 0);
		assert_false(timed_out);
	}
	TALLOC_FREE(te);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		assert_int_equal(w[i].calls, 1);
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * The trace points are where they should be
 */

static void trace_callback(enum tevent_trace_point point, void *private_data)
{
	switch (point) {
	case TEVENT_TRACE_BEFORE_WAIT:
		append_event(private_data, '(');
		break;
	case TEVENT_TRACE_AFTER_WAIT:
		append_event(private_data, ')');
		break;
	default:
		break;
	}
}

static void test_trace_wait(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct tevent_immediate *im = NULL;
	struct tevent_fd *fde = NULL;
	struct tevent_timer *te = NULL;
	char events[16] = { 0 };
	int fds[2];
	int ret;

	loop_idle(ev);
	im = tevent_create_immediate(ev);
	assert_non_null(im);
	tevent_set_trace_callback(ev, trace_callback, events);

	/* not for these */
	tevent_schedule_immediate(im, ev, order_immediate, events);
	ret = tevent_loop_once(ev);
	assert_int_equal(ret, 0);
	te = tevent_add_timer(ev, ev, tevent_timeval_zero(), order_timer,
			      events);
	assert_non_null(te);
	ret = tevent_loop_once(ev);
	assert_int_equal(ret, 0);
	assert_string_equal(events, "it");

	new_pipe(fds);
	put(fds[1]);
	fde = tevent_add_fd(ev, ev, fds[0], R, order_fd, events);
	assert_non_null(fde);
	/* once more to be woken up */
	while (strchr(events, 'f') == NULL) {
		ret = tevent_loop_once(ev);
		assert_int_equal(ret, 0);
	}
	assert_string_equal(events + strlen(events) - 3, "()f");
	assert_true(strcmp(events, "it()f") == 0 ||
		    strcmp(events, "it()()f") == 0);

	TALLOC_FREE(ev);
}

/*
 * All of these
 */

const struct backend_test backends_context_tests[] = {
	TEST(many_contexts),
	TEST(other_backends),
	TEST(context_in_handler),
	TEST(fd_leak),
	TEST(cloexec),
	TEST(fork_re_initialise),
	TEST(fork_loop),
	TEST(fork_free),
	TEST(fork_flags),
	TEST(fork_add),
	TEST(fork_free_context),
	TEST(fork_new_context),
	TEST(fork_parent_changes),
	TEST(fork_in_handler),
#ifdef HAVE_PTHREAD
	TEST(thread_other),
	TEST(thread_gone),
	TEST(thread_close),
	TEST(thread_close_wait),
	TEST(thread_own),
	TEST(thread_wakeup),
#endif
	TEST(order),
	TEST(signal_wait),
	TEST(signal_other),
	TEST(signal_storm),
	TEST(timer),
	TEST(nested),
	TEST(trace_wait),
	{ .name = NULL },
};
