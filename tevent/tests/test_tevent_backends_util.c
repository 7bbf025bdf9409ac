/*
 * Unix SMB/CIFS implementation.
 *
 * helpers for the tests of all backends
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

uint32_t long_time = 5;

unsigned int num_calls;

struct tevent_context *new_context(void **state)
{
	struct tevent_context *ev = NULL;

	ev = tevent_context_init_byname(NULL, (const char *)*state);
	assert_non_null(ev);
	tevent_set_debug_stderr(ev);

	return ev;
}

static void watch_handler(struct tevent_context *ev,
			  struct tevent_fd *fde,
			  uint16_t flags,
			  void *private_data)
{
	struct watch *w = (struct watch *)private_data;

	assert_ptr_equal(ev, w->ev);
	assert_ptr_equal(fde, w->fde);
	/* at least one, and only those that it wants */
	assert_int_not_equal(flags, 0);
	assert_int_equal(flags & ~tevent_fd_get_flags(fde), 0);

	num_calls += 1;
	w->calls += 1;
	w->flags = flags;
	if (w->action != NULL) {
		w->action(w);
	}
}

void watch_start(struct watch *w,
		 struct tevent_context *ev,
		 int fd,
		 uint16_t flags)
{
	w->ev = ev;
	w->fd = fd;
	w->calls = 0;
	w->fde = tevent_add_fd(ev, ev, fd, flags, watch_handler, w);
	assert_non_null(w->fde);
}

static void timeout_handler(struct tevent_context *ev,
			    struct tevent_timer *te,
			    struct timeval now,
			    void *private_data)
{
	bool *timed_out = (bool *)private_data;

	*timed_out = true;
}

struct tevent_timer *start_timer(struct tevent_context *ev,
				 uint32_t secs,
				 uint32_t usecs,
				 bool *timed_out)
{
	struct tevent_timer *te = NULL;

	*timed_out = false;
	te = tevent_add_timer(ev, ev, tevent_timeval_current_ofs(secs, usecs),
			      timeout_handler, timed_out);
	assert_non_null(te);

	return te;
}

bool loop_once(struct tevent_context *ev)
{
	unsigned int before = num_calls;
	int ret;

	ret = tevent_loop_once(ev);
	assert_int_equal(ret, 0);
	assert_true(num_calls - before <= 1);

	return num_calls != before;
}

void _loop_until(struct tevent_context *ev,
		 const unsigned int *calls,
		 unsigned int target,
		 const char *location)
{
	unsigned int first = num_calls;
	unsigned int loops = 0;
	struct tevent_timer *te = NULL;
	bool timed_out;

	/* poll() needs long if there are many */
	te = start_timer(ev, long_time + (target - *calls) / 50, 0,
			 &timed_out);
	while (*calls != target && !timed_out) {
		loop_once(ev);
		loops += 1;
	}
	if (!timed_out) {
		TALLOC_FREE(te);
	}
	if (*calls != target) {
		print_error("%s: %u calls, not %u\n",
			    location, *calls, target);
	}
	assert_int_equal(*calls, target);

	/* a handler may have changed something, which wakes up poll_mt */
	first = num_calls - first;
	if (loops > 2 * first + MAX_SPURIOUS) {
		print_error("%s: %u loops for %u calls\n",
			    location, loops, first);
	}
	assert_true(loops <= 2 * first + MAX_SPURIOUS);
}

unsigned int loop_while(struct tevent_context *ev)
{
	unsigned int loops = 0;
	bool timed_out;

	start_timer(ev, 0, SHORT_TIME, &timed_out);
	while (!timed_out) {
		loop_once(ev);
		loops += 1;
	}

	return loops;
}

void _loop_idle(struct tevent_context *ev, const char *location)
{
	unsigned int before = num_calls;
	unsigned int loops;

	loops = loop_while(ev);
	if (num_calls != before || loops > MAX_SPURIOUS) {
		print_error("%s: %u calls, %u loops\n",
			    location, num_calls - before, loops);
	}
	assert_int_equal(num_calls, before);
	assert_true(loops <= MAX_SPURIOUS);
}

void set_nonblock(int fd)
{
	int ret;

	ret = fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(ret, 0);
}

void new_pipe(int fds[2])
{
	int ret;

	ret = pipe(fds);
	assert_int_equal(ret, 0);
	set_nonblock(fds[0]);
	set_nonblock(fds[1]);
}

void new_sockets(int fds[2])
{
	int ret;

	ret = socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
	assert_int_equal(ret, 0);
	set_nonblock(fds[0]);
	set_nonblock(fds[1]);
}

void put(int fd)
{
	ssize_t nwritten;

	nwritten = write(fd, "x", 1);
	assert_int_equal(nwritten, 1);
}

void get(int fd)
{
	ssize_t nread;
	char c;

	nread = read(fd, &c, 1);
	assert_int_equal(nread, 1);
}

void drain(int fd)
{
	char buf[4096];
	ssize_t nread;

	do {
		nread = read(fd, buf, sizeof(buf));
	} while (nread > 0);
}

void fill(int fd)
{
	char buf[4096] = { 0 };
	ssize_t nwritten;

	do {
		nwritten = write(fd, buf, sizeof(buf));
	} while (nwritten > 0);
	do {
		nwritten = write(fd, buf, 1);
	} while (nwritten > 0);
}

bool peer_closed(int fd)
{
	struct pollfd pfd = { .fd = fd };
	int ret;

	ret = poll(&pfd, 1, 0);
	assert_int_not_equal(ret, -1);

	return (pfd.revents & (POLLHUP | POLLERR)) != 0;
}

void action_get(struct watch *w)
{
	get(w->fd);
}

void action_drain(struct watch *w)
{
	drain(w->fd);
}

void wait_for(pid_t pid)
{
	pid_t ret;
	int status;

	do {
		ret = waitpid(pid, &status, 0);
	} while (ret == -1 && errno == EINTR);
	assert_int_equal(ret, pid);
	assert_int_equal(status, 0);
}

pid_t start_child(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_int_not_equal(pid, -1);

	return pid;
}

void start_ready(struct tevent_context *ev,
		 struct watch *w,
		 size_t num,
		 void (*action)(struct watch *w))
{
	size_t i;

	for (i = 0; i < num; i++) {
		int fds[2];

		new_pipe(fds);
		put(fds[1]);
		watch_start(&w[i], ev, fds[0], R);
		w[i].action = action;
		w[i].other = w;
		w[i].num_others = num;
		w[i].other_fd = fds[1];
	}
}
