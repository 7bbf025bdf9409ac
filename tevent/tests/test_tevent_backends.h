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

#ifndef _TEVENT_TESTS_BACKENDS_H_
#define _TEVENT_TESTS_BACKENDS_H_

#include "replace.h"
#include "system/filesys.h"
#include "system/network.h"
#include "system/select.h"
#include "system/time.h"
#include "system/wait.h"
#include <setjmp.h>
#include <stdarg.h>
#include <talloc.h>
/* nested loops */
#define TEVENT_DEPRECATED 1
#include <tevent.h>
#include <cmocka.h>

/*
 * A test is run once for each backend, in a process of its own. As it is
 * run with CMOCKA_TEST_ABORT set, an assertion that fails ends the process
 * it is in, so assertions may be used in handlers, threads and children.
 */
struct backend_test {
	const char *name;
	void (*fn)(void **state);
};

#define TEST(name) { #name, test_ ## name }

/* they end with .name = NULL */
extern const struct backend_test backends_fd_tests[];
extern const struct backend_test backends_context_tests[];

/* nothing that has to happen takes so many seconds, even in an emulator */
extern uint32_t long_time;

/* for how many microseconds to wait for what must not happen */
#define SHORT_TIME 20000

/*
 * The number of times tevent_loop_once() may return for nothing: it is
 * woken up for instance, or a timer is rounded.
 */
#define MAX_SPURIOUS 10

#define R TEVENT_FD_READ
#define W TEVENT_FD_WRITE
#define E TEVENT_FD_ERROR

struct watch {
	struct tevent_context *ev;
	struct tevent_fd *fde;
	int fd;
	/* how often its handler was called, and the flags of the last call */
	unsigned int calls;
	uint16_t flags;
	/* what the handler does, and to which one */
	void (*action)(struct watch *w);
	struct watch *other;
	size_t num_others;
	int other_fd;
	void *private_data;
};

/* the calls of all handlers */
extern unsigned int num_calls;

struct tevent_context *new_context(void **state);

void watch_start(struct watch *w,
		 struct tevent_context *ev,
		 int fd,
		 uint16_t flags);

struct tevent_timer *start_timer(struct tevent_context *ev,
				 uint32_t secs,
				 uint32_t usecs,
				 bool *timed_out);

/*
 * Return if a handler was called. More than one is wrong.
 */
bool loop_once(struct tevent_context *ev);

/*
 * Loop until a counter of calls, of all handlers or of one, has got there
 */
#define loop_until(ev, calls, target) \
	_loop_until(ev, calls, target, __location__)
void _loop_until(struct tevent_context *ev,
		 const unsigned int *calls,
		 unsigned int target,
		 const char *location);

/*
 * Loop for so many calls
 */
#define loop_calls(ev, calls) \
	_loop_until(ev, &num_calls, num_calls + (calls), __location__)

/*
 * Loop for a while, return how often. An assertion about the calls, if any,
 * is up to the caller.
 */
unsigned int loop_while(struct tevent_context *ev);

/*
 * No handler is called, without spinning
 */
#define loop_idle(ev) _loop_idle(ev, __location__)
void _loop_idle(struct tevent_context *ev, const char *location);

void set_nonblock(int fd);

void new_pipe(int fds[2]);

void new_sockets(int fds[2]);

void put(int fd);

void get(int fd);

void drain(int fd);

void fill(int fd);

/*
 * The other end is closed, as seen by poll() now, without waiting
 */
bool peer_closed(int fd);

void action_get(struct watch *w);

void action_drain(struct watch *w);

/*
 * Wait for a child that has to exit with 0
 */
void wait_for(pid_t pid);

pid_t start_child(void);

void start_ready(struct tevent_context *ev,
		 struct watch *w,
		 size_t num,
		 void (*action)(struct watch *w));

#endif /* _TEVENT_TESTS_BACKENDS_H_ */
