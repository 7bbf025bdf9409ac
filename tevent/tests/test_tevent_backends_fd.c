/*
 * Unix SMB/CIFS implementation.
 *
 * what every backend of tevent has to do for a file
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
#include <sys/resource.h>
#ifdef HAVE_EPOLL
#include <sys/epoll.h>
#endif
#ifdef HAVE_EVENTFD
#include <sys/eventfd.h>
#endif

/*
 * Readiness
 */

static void test_level(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w = { .fde = NULL };
	int fds[2];
	int i;

	new_pipe(fds);

	/* ready before it is watched */
	put(fds[1]);
	put(fds[1]);
	watch_start(&w, ev, fds[0], R);
	for (i = 0; i < 3; i++) {
		loop_calls(ev, 1);
		assert_int_equal(w.flags, R);
	}

	/* still ready, then not, then again */
	get(fds[0]);
	loop_calls(ev, 2);
	get(fds[0]);
	loop_idle(ev);
	put(fds[1]);
	loop_calls(ev, 2);

	/* ready and not ready again while nobody looks */
	get(fds[0]);
	put(fds[1]);
	get(fds[0]);
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void test_exact_flags(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w = { .fde = NULL };
	int fds[2];

	new_sockets(fds);
	watch_start(&w, ev, fds[0], R | W);
	loop_calls(ev, 1);
	assert_int_equal(w.flags, W);
	put(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(w.flags, R | W);
	fill(fds[0]);
	loop_calls(ev, 1);
	assert_int_equal(w.flags, R);
	get(fds[0]);
	loop_idle(ev);
	drain(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(w.flags, W);

	TALLOC_FREE(ev);
}

/*
 * Each one that is ready gets its turn before any of them gets the next,
 * and there is one call for each tevent_loop_once().
 */
static void test_fairness(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[50] = {};
	unsigned int round;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(w); i++) {
		int fds[2];

		new_pipe(fds);
		watch_start(&w[i], ev, fds[0], R);
		w[i].other_fd = fds[1];
	}
	loop_idle(ev);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		put(w[i].other_fd);
	}

	for (round = 1; round <= 5; round++) {
		for (i = 0; i < ARRAY_SIZE(w); i++) {
			bool called = loop_once(ev);

			assert_true(called);
		}
		for (i = 0; i < ARRAY_SIZE(w); i++) {
			assert_int_equal(w[i].calls, round);
		}
	}

	/* one that is never done doesn't keep a new one from being called */
	for (i = 1; i < ARRAY_SIZE(w); i++) {
		get(w[i].fd);
	}
	loop_calls(ev, 5);
	put(w[1].other_fd);
	w[1].calls = 0;
	loop_calls(ev, 2);
	assert_int_equal(w[1].calls, 1);

	TALLOC_FREE(ev);
}

/*
 * The same with what handlers usually do
 */
static void test_fairness_drain(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[20] = {};
	unsigned int round;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(w); i++) {
		int fds[2];

		new_sockets(fds);
		watch_start(&w[i], ev, fds[0], R);
		w[i].action = action_get;
		w[i].other_fd = fds[1];
	}

	for (round = 1; round <= 20; round++) {
		for (i = 0; i < ARRAY_SIZE(w); i++) {
			put(w[i].other_fd);
		}
		loop_calls(ev, ARRAY_SIZE(w));
		for (i = 0; i < ARRAY_SIZE(w); i++) {
			assert_int_equal(w[i].calls, round);
		}
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void action_drain_others(struct watch *w)
{
	size_t i;

	for (i = 0; i < w->num_others; i++) {
		drain(w->other[i].fd);
	}
}

/*
 * What a handler has read is not reported to another one as ready
 */
static void test_stale_drain(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[10] = {};
	unsigned int round;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(w); i++) {
		int fds[2];

		new_pipe(fds);
		watch_start(&w[i], ev, fds[0], R);
		w[i].action = action_drain_others;
		w[i].other = w;
		w[i].num_others = ARRAY_SIZE(w);
		w[i].other_fd = fds[1];
	}

	for (round = 0; round < 5; round++) {
		for (i = 0; i < ARRAY_SIZE(w); i++) {
			put(w[i].other_fd);
		}
		loop_calls(ev, 1);
		loop_idle(ev);
	}

	TALLOC_FREE(ev);
}

static void action_fill_other(struct watch *w)
{
	fill(w->fd);
	fill(w->other->fd);
}

static void test_stale_write(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[2] = {};
	int fds[2][2];
	int i;

	for (i = 0; i < 2; i++) {
		new_sockets(fds[i]);
		watch_start(&w[i], ev, fds[i][0], W);
		w[i].action = action_fill_other;
		w[i].other = &w[!i];
	}
	loop_calls(ev, 1);
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void action_disable_other(struct watch *w)
{
	tevent_fd_set_flags(w->fde, 0);
	tevent_fd_set_flags(w->other->fde, 0);
}

static void action_write_other(struct watch *w)
{
	tevent_fd_set_flags(w->fde, 0);
	tevent_fd_set_flags(w->other->fde, W);
	w->other->action = action_disable_other;
}

/*
 * A handler changes the flags of another one that is ready as well
 */
static void test_stale_flags(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[2] = {};
	int fds[2][2];
	int i;

	for (i = 0; i < 2; i++) {
		new_sockets(fds[i]);
		put(fds[i][1]);
		watch_start(&w[i], ev, fds[i][0], R);
		w[i].action = action_disable_other;
		w[i].other = &w[!i];
	}
	loop_calls(ev, 1);
	loop_idle(ev);

	for (i = 0; i < 2; i++) {
		w[i].calls = 0;
		w[i].action = action_write_other;
		tevent_fd_set_flags(w[i].fde, R);
	}
	loop_calls(ev, 2);
	assert_int_equal(w[0].calls, 1);
	assert_int_equal(w[1].calls, 1);
	assert_int_equal(w[0].flags | w[1].flags, R | W);
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * More than one for the same file
 */

static void test_split(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch r = { .fde = NULL };
	struct watch w = { .fde = NULL };
	int fds[2];
	int i;

	for (i = 0; i < 2; i++) {
		struct watch *first = (i == 0) ? &r : &w;
		struct watch *second = (i == 0) ? &w : &r;

		new_sockets(fds);
		watch_start(first, ev, fds[0], (i == 0) ? R : W);
		watch_start(second, ev, fds[0], (i == 0) ? W : R);

		loop_calls(ev, 3);
		assert_int_equal(r.calls, 0);
		assert_int_equal(w.calls, 3);

		put(fds[1]);
		loop_calls(ev, 4);
		assert_int_equal(r.calls, 2);
		assert_int_equal(w.calls, 5);

		fill(fds[0]);
		loop_calls(ev, 2);
		assert_int_equal(r.calls, 4);
		assert_int_equal(w.calls, 5);

		/* without one of them, the other one goes on */
		drain(fds[1]);
		TALLOC_FREE(first->fde);
		second->calls = 0;
		loop_calls(ev, 2);
		assert_int_equal(second->calls, 2);
		get(fds[0]);
		put(fds[1]);
		loop_calls(ev, 2);
		assert_int_equal(second->calls, 4);
		TALLOC_FREE(second->fde);
		loop_idle(ev);
	}

	TALLOC_FREE(ev);
}

static void test_same_fd(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[5] = {};
	int fds[2];
	size_t i;

	new_pipe(fds);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		watch_start(&w[i], ev, fds[0], R);
	}
	put(fds[1]);
	loop_calls(ev, 3 * ARRAY_SIZE(w));
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		assert_int_equal(w[i].calls, 3);
	}

	/* from the first to the last */
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		TALLOC_FREE(w[i].fde);
		if (i + 1 < ARRAY_SIZE(w)) {
			loop_calls(ev, ARRAY_SIZE(w) - 1 - i);
			assert_int_equal(w[i + 1].calls, 4 + i);
		}
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * Flags
 */

static void action_next_flags(struct watch *w)
{
	static const uint16_t next[] = { W, R | W, R, 0 };

	tevent_fd_set_flags(w->fde, next[w->calls - 1]);
}

static void test_flags_in_handler(void **state)
{
	static const uint16_t expected[] = { R, W, R | W, R };
	struct tevent_context *ev = new_context(state);
	struct watch w = { .action = action_next_flags };
	int fds[2];
	int round;
	size_t i;

	new_sockets(fds);
	put(fds[1]);
	watch_start(&w, ev, fds[0], 0);
	loop_idle(ev);
	for (round = 0; round < 3; round++) {
		w.calls = 0;
		tevent_fd_set_flags(w.fde, R);
		for (i = 0; i < ARRAY_SIZE(expected); i++) {
			loop_calls(ev, 1);
			assert_int_equal(w.flags, expected[i]);
		}
		assert_int_equal(tevent_fd_get_flags(w.fde), 0);
		loop_idle(ev);
	}

	TALLOC_FREE(ev);
}

/*
 * The last one of many changes counts, and there is one call for it
 */
static void test_flags_toggle(void **state)
{
	static const uint16_t flags[] = { R, 0, W, R | W, E, W | E, R };
	struct tevent_context *ev = new_context(state);
	struct watch w = { .action = action_get };
	int fds[2];
	size_t i;

	new_sockets(fds);
	watch_start(&w, ev, fds[0], R);
	for (i = 0; i < 7000; i++) {
		tevent_fd_set_flags(w.fde, flags[i % ARRAY_SIZE(flags)]);
	}
	assert_int_equal(tevent_fd_get_flags(w.fde), R);
	loop_idle(ev);
	put(fds[1]);
	loop_calls(ev, 1);
	loop_idle(ev);

	for (i = 0; i < 1000; i++) {
		tevent_fd_set_flags(w.fde, W);
		tevent_fd_set_flags(w.fde, R);
		tevent_fd_set_flags(w.fde, 0);
		put(fds[1]);
		tevent_fd_set_flags(w.fde, R);
		loop_calls(ev, 1);
		assert_int_equal(w.flags, R);
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * Without flags nothing is reported, errors included
 */
static void test_flags_none(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[2] = {};
	int fds[2][2];
	int i;

	for (i = 0; i < 2; i++) {
		new_sockets(fds[i]);
		put(fds[i][1]);
		watch_start(&w[i], ev, fds[i][0], i == 0 ? 0 : R);
	}
	loop_calls(ev, 1);
	tevent_fd_set_flags(w[1].fde, 0);
	loop_idle(ev);
	close(fds[0][1]);
	close(fds[1][1]);
	loop_idle(ev);
	for (i = 0; i < 2; i++) {
		tevent_fd_set_flags(w[i].fde, R);
		w[i].calls = 0;
	}
	loop_calls(ev, 2);
	assert_int_equal(w[0].calls, 1);
	assert_int_equal(w[1].calls, 1);

	TALLOC_FREE(ev);
}

/*
 * Errors
 */

enum error_kind {
	SHUTDOWN,	/* the peer won't write any more */
	SHUTDOWN_DATA,	/* but has written */
	SHUTDOWN_OWN,	/* won't read any more */
	PEER_CLOSED,
	PEER_CLOSED_DATA,
	PEER_RESET,	/* did not read what it got */
	NO_WRITER,
	NO_WRITER_DATA,
	NO_READER,
	NO_READER_FULL,
	REFUSED,	/* connect() */
	NUM_ERRORS,
};

static const char *error_names[NUM_ERRORS] = {
	"shutdown", "shutdown with data", "own shutdown",
	"peer closed", "peer closed with data", "peer reset",
	"no writer", "no writer, data", "no reader", "no reader, full",
	"refused",
};

static int refused_socket(void)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(sin);
	int fd, used;
	int ret;

	/* a port that is in use, but nobody listens there */
	used = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_not_equal(used, -1);
	ret = bind(used, (struct sockaddr *)&sin, sizeof(sin));
	assert_int_equal(ret, 0);
	ret = getsockname(used, (struct sockaddr *)&sin, &len);
	assert_int_equal(ret, 0);

	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_not_equal(fd, -1);
	set_nonblock(fd);
	ret = connect(fd, (struct sockaddr *)&sin, sizeof(sin));
	assert_int_equal(ret, -1);
	close(used);

	return fd;
}

/*
 * Return the fd to watch, and its peer
 */
static int error_start(enum error_kind kind, int *peer)
{
	int fds[2];

	switch (kind) {
	case REFUSED:
		*peer = -1;
		return refused_socket();
	case NO_WRITER:
	case NO_WRITER_DATA:
		new_pipe(fds);
		*peer = fds[1];
		return fds[0];
	case NO_READER:
	case NO_READER_FULL:
		new_pipe(fds);
		*peer = fds[0];
		return fds[1];
	default:
		new_sockets(fds);
		*peer = fds[1];
		return fds[0];
	}
}

static void error_happen(enum error_kind kind, int fd, int *peer)
{
	switch (kind) {
	case SHUTDOWN_DATA:
		put(*peer);
		FALL_THROUGH;
	case SHUTDOWN:
		shutdown(*peer, SHUT_WR);
		return;
	case SHUTDOWN_OWN:
		shutdown(fd, SHUT_RD);
		return;
	case PEER_CLOSED_DATA:
	case NO_WRITER_DATA:
		put(*peer);
		break;
	case PEER_RESET:
		put(fd);
		break;
	case NO_READER_FULL:
		fill(fd);
		break;
	default:
		break;
	}
	if (*peer != -1) {
		close(*peer);
		*peer = -1;
	}
}

static char flags_char(uint16_t flags)
{
	return "-RWwEreX"[flags & 7];
}

static void action_append(struct watch *w)
{
	char *calls = (char *)w->private_data;

	if (w->calls <= 3) {
		calls[strlen(calls)] = flags_char(w->flags);
	}
}

static void trace_count_wait(enum tevent_trace_point point, void *private_data)
{
	if (point == TEVENT_TRACE_AFTER_WAIT) {
		*(unsigned int *)private_data += 1;
	}
}

/*
 * Loop for three calls, or until nothing has happened for a while although
 * it has waited, twice
 */
static void error_loop(struct tevent_context *ev, struct watch *w)
{
	unsigned int loops = 0;
	unsigned int idle = 0;

	w->calls = 0;
	while (w->calls < 3 && idle < 2) {
		unsigned int before = w->calls;
		unsigned int waits = 0;
		struct tevent_timer *te = NULL;
		bool timed_out;

		tevent_set_trace_callback(ev, trace_count_wait, &waits);
		te = start_timer(ev, 0, 2000, &timed_out);
		while (w->calls == before && !timed_out) {
			loop_once(ev);
			loops += 1;
		}
		if (timed_out && waits > 0) {
			idle += 1;
		} else if (!timed_out) {
			TALLOC_FREE(te);
		}
	}
	tevent_set_trace_callback(ev, NULL, NULL);
	assert_true(loops <= w->calls + MAX_SPURIOUS);
}

/*
 * The flags of the first calls, one letter each, and those that are set
 * afterwards
 */
static void error_report(const char *backend,
			 enum error_kind kind,
			 uint16_t flags,
			 bool late,
			 char report[20])
{
	struct tevent_context *ev = NULL;
	struct watch w = { .action = action_append, .private_data = report };
	int fd, peer;

	memset(report, 0, 20);
	ev = tevent_context_init_byname(NULL, backend);
	assert_non_null(ev);
	fd = error_start(kind, &peer);

	if (late) {
		watch_start(&w, ev, fd, 0);
		tevent_fd_set_flags(w.fde, flags);
		error_loop(ev, &w);
		strlcat(report, ",", 20);
		error_happen(kind, fd, &peer);
	} else {
		error_happen(kind, fd, &peer);
		watch_start(&w, ev, fd, flags);
	}
	error_loop(ev, &w);
	strlcat(report, "/", 20);
	report[strlen(report)] = flags_char(tevent_fd_get_flags(w.fde));

	TALLOC_FREE(ev);
	close(fd);
	if (peer != -1) {
		close(peer);
	}
}

/*
 * All of them report the same in the same cases
 */
static void test_error_like_epoll(void **state)
{
#ifdef HAVE_EPOLL
	const char *reference = "epoll";
#else
	const char *reference = "poll";
#endif
	unsigned int differences = 0;
	int kind, late;
	uint16_t flags;

	for (kind = 0; kind < NUM_ERRORS; kind++) {
		for (flags = 1; flags <= (R | W | E); flags++) {
			for (late = 0; late < 2; late++) {
				char expected[20], got[20];

				error_report(reference, kind, flags, late,
					     expected);
				error_report((const char *)*state, kind, flags,
					     late, got);
				if (strcmp(expected, got) == 0) {
					continue;
				}
				printf("%s%s, flags %c: %s, %s: %s\n",
				       error_names[kind],
				       late ? ", late" : "",
				       flags_char(flags), got,
				       reference, expected);
				differences += 1;
			}
		}
	}
	assert_int_equal(differences, 0);
}

/*
 * What is expected of it, written down for the most important cases
 */
static void test_error_flags(void **state)
{
	static const struct {
		enum error_kind kind;
		uint16_t flags;
		const char *report;
	} expected[] = {
		{ SHUTDOWN, R, "RRR/R" },
		{ SHUTDOWN, E, "EEE/E" },
		{ SHUTDOWN, R | E, "rrr/r" },
		{ SHUTDOWN_DATA, R, "RRR/R" },
		{ PEER_CLOSED, R, "RRR/R" },
		{ PEER_CLOSED, W, "/-" },
		{ PEER_CLOSED, E, "EEE/E" },
		{ PEER_CLOSED, R | W, "www/w" },
		{ PEER_CLOSED, R | W | E, "XXX/X" },
		{ NO_WRITER, R, "RRR/R" },
		{ NO_WRITER, E, "EEE/E" },
		{ NO_READER, W, "/-" },
		{ NO_READER, E, "EEE/E" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(expected); i++) {
		char report[20];

		error_report((const char *)*state, expected[i].kind,
			     expected[i].flags, false, report);
		printf("%s, flags %c: %s\n", error_names[expected[i].kind],
		       flags_char(expected[i].flags), report);
		assert_string_equal(report, expected[i].report);
	}
}

/*
 * Free
 */

static void action_free(struct watch *w)
{
	TALLOC_FREE(w->fde);
}

static void action_free_others(struct watch *w)
{
	size_t i;

	for (i = 0; i < w->num_others; i++) {
		if (&w->other[i] != w) {
			TALLOC_FREE(w->other[i].fde);
		}
	}
}

static void action_free_all(struct watch *w)
{
	action_free_others(w);
	TALLOC_FREE(w->fde);
}

static void test_free_self(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[10] = {};
	size_t i;

	start_ready(ev, w, ARRAY_SIZE(w), action_free);
	loop_calls(ev, ARRAY_SIZE(w));
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		assert_int_equal(w[i].calls, 1);
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void test_free_others(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[10] = {};
	unsigned int left = 0;
	size_t i;

	start_ready(ev, w, ARRAY_SIZE(w), action_free_others);
	loop_calls(ev, 5);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		if (w[i].fde != NULL) {
			left += 1;
			assert_int_equal(w[i].calls, 5);
		}
	}
	assert_int_equal(left, 1);

	TALLOC_FREE(ev);
}

static void test_free_all(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[10] = {};
	int ret;

	start_ready(ev, w, ARRAY_SIZE(w), action_free_all);
	loop_calls(ev, 1);
	loop_idle(ev);

	/* there is nothing to wait for any more */
	start_ready(ev, w, ARRAY_SIZE(w), action_free_all);
	ret = tevent_loop_wait(ev);
	assert_int_equal(ret, 0);

	TALLOC_FREE(ev);
}

static void action_add(struct watch *w)
{
	struct watch *new = w->other;

	w->action = action_drain;
	new->action = action_drain;
	watch_start(new, w->ev, new->other_fd, R);
}

static void test_add_in_handler(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[2] = {};
	int fds[2];

	new_pipe(fds);
	put(fds[1]);
	start_ready(ev, w, 1, action_add);
	w[0].other = &w[1];
	w[1].other_fd = fds[0];
	loop_calls(ev, 3);
	assert_int_equal(w[0].calls, 2);
	assert_int_equal(w[1].calls, 1);
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * The fd events may be children of something else and outlive the context
 */
static void test_free_context(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[4] = {};
	int fds[4][2];
	int ret;
	int i;

	for (i = 0; i < 4; i++) {
		new_pipe(fds[i]);
		put(fds[i][1]);
		watch_start(&w[i], ev, fds[i][0], R);
		talloc_steal(NULL, w[i].fde);
		if (i & 1) {
			tevent_fd_set_auto_close(w[i].fde);
		}
	}
	loop_calls(ev, 2);
	TALLOC_FREE(ev);
	for (i = 0; i < 4; i++) {
		assert_int_equal(tevent_fd_get_flags(w[i].fde), 0);
		tevent_fd_set_flags(w[i].fde, R);
		TALLOC_FREE(w[i].fde);
		ret = fcntl(fds[i][0], F_GETFD);
		assert_int_equal(ret == -1, i & 1);
	}
}

static void test_re_initialise(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch old = { .fde = NULL };
	struct watch new = { .fde = NULL };
	int fds[2];
	int ret;
	int i;

	new_pipe(fds);
	put(fds[1]);
	for (i = 0; i < 5; i++) {
		watch_start(&old, ev, fds[0], R);
		loop_calls(ev, 1);
		ret = tevent_re_initialise(ev);
		assert_int_equal(ret, 0);
		loop_idle(ev);
		watch_start(&new, ev, fds[0], R);
		loop_calls(ev, 1);
		TALLOC_FREE(old.fde);
		loop_calls(ev, 1);
		assert_int_equal(new.calls, 2);
		TALLOC_FREE(new.fde);
	}

	TALLOC_FREE(ev);
}

/*
 * Close
 */

static void close_fn(struct tevent_context *ev,
		     struct tevent_fd *fde,
		     int fd,
		     void *private_data)
{
	struct watch *w = (struct watch *)private_data;
	int ret;

	assert_ptr_equal(fde, w->fde);
	assert_int_equal(fd, w->fd);
	*(int *)w->private_data += 1;

	/* the backend doesn't hold it, nor will it */
	assert_false(peer_closed(w->other_fd));
	ret = close(fd);
	assert_int_equal(ret, 0);
	assert_true(peer_closed(w->other_fd));
}

static void action_free_closed(struct watch *w)
{
	/* close_fn() wants to know it */
	talloc_free(w->fde);
	w->fde = NULL;
	assert_int_equal(*(int *)w->private_data, 1);
}

static void test_close_fn(void **state)
{
	struct tevent_context *ev = new_context(state);
	int round;

	for (round = 0; round < 6; round++) {
		int closed = 0;
		struct watch w = { .private_data = &closed };
		int fds[2];

		if (round & 1) {
			new_sockets(fds);
		} else {
			new_pipe(fds);
		}
		watch_start(&w, ev, fds[0], R);
		tevent_fd_set_close_fn(w.fde, close_fn);
		w.other_fd = fds[1];
		switch (round / 2) {
		case 0:
			/* never looped */
			action_free_closed(&w);
			break;
		case 1:
			loop_idle(ev);
			action_free_closed(&w);
			break;
		default:
			put(fds[1]);
			w.action = action_free_closed;
			loop_calls(ev, 1);
			break;
		}
		assert_int_equal(closed, 1);
		loop_idle(ev);
		close(fds[1]);
	}

	TALLOC_FREE(ev);
}

static void test_auto_close(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[3] = {};
	int fds[3][2];
	int ret;
	int i;

	for (i = 0; i < 3; i++) {
		new_sockets(fds[i]);
		watch_start(&w[i], ev, fds[i][0], R);
		tevent_fd_set_auto_close(w[i].fde);
	}
	loop_idle(ev);
	TALLOC_FREE(w[0].fde);
	assert_true(peer_closed(fds[0][1]));
	ret = tevent_re_initialise(ev);
	assert_int_equal(ret, 0);
	assert_false(peer_closed(fds[1][1]));
	TALLOC_FREE(w[1].fde);
	assert_true(peer_closed(fds[1][1]));
	/* along with the context, of which it is a child */
	TALLOC_FREE(ev);
	assert_true(peer_closed(fds[2][1]));
}

/*
 * Someone closed it and left the fd event alone
 */
static void test_raw_close(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch closed[3] = {};
	struct watch w = { .action = action_get };
	int fds[2], other[3][2];
	int i;

	for (i = 0; i < 3; i++) {
		new_sockets(other[i]);
		watch_start(&closed[i], ev, other[i][0], R);
		if (i == 1) {
			/* about to be reported */
			put(other[i][1]);
		}
	}
	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	loop_calls(ev, 1);
	assert_int_equal(closed[1].calls, 1);

	for (i = 0; i < 3; i++) {
		closed[i].calls = 0;
		close(other[i][0]);
		assert_true(peer_closed(other[i][1]));
	}
	loop_idle(ev);
	put(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(w.calls, 1);

	tevent_fd_set_flags(closed[0].fde, W);
	TALLOC_FREE(closed[1].fde);
	loop_idle(ev);
	TALLOC_FREE(closed[0].fde);
	put(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(w.calls, 2);

	/* along with closed[2] */
	TALLOC_FREE(ev);
}

static void action_close_other(struct watch *w)
{
	if (w->other->fd != -1) {
		close(w->other->fd);
		w->other->fd = -1;
	}
}

/*
 * It is a handler that closes it, the one of another fd that is ready too
 */
static void test_raw_close_in_handler(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[2] = {};

	start_ready(ev, w, 2, action_close_other);
	w[0].other = &w[1];
	w[1].other = &w[0];
	loop_calls(ev, 5);
	assert_int_equal(MAX(w[0].calls, w[1].calls), 5);

	TALLOC_FREE(ev);
}

/*
 * Like that, but there is another fd for the file, in a child for instance
 */
static void test_raw_close_dup(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch closed = { .fde = NULL };
	struct watch w = { .action = action_get };
	int fds[2], other[2];
	int copy;

	new_pipe(other);
	new_pipe(fds);
	watch_start(&closed, ev, other[0], R);
	watch_start(&w, ev, fds[0], R);
	loop_idle(ev);
	copy = dup(other[0]);
	assert_int_not_equal(copy, -1);
	close(other[0]);
	TALLOC_FREE(closed.fde);
	put(other[1]);
	loop_idle(ev);
	put(fds[1]);
	loop_calls(ev, 1);

	TALLOC_FREE(ev);
}

/*
 * A new file gets the number of one that was closed
 */
static void reuse(int fd, int fds[2])
{
	int ret;

	new_pipe(fds);
	if (fds[1] == fd) {
		fds[1] = dup(fd);
		assert_int_not_equal(fds[1], -1);
	}
	if (fds[0] != fd) {
		ret = dup2(fds[0], fd);
		assert_int_equal(ret, fd);
		close(fds[0]);
		fds[0] = fd;
	}
}

/*
 * Start with the old fd event still there, with tevent_loop_once() in
 * between or without
 */
static void reuse_raw(struct tevent_context *ev,
		      bool loop,
		      struct watch *old,
		      struct watch *new)
{
	int fds[2], new_fds[2];

	new_pipe(fds);
	watch_start(old, ev, fds[0], R);
	loop_idle(ev);
	close(fds[0]);
	if (loop) {
		loop_idle(ev);
	}
	reuse(fds[0], new_fds);
	new->action = action_get;
	new->other_fd = new_fds[1];
	watch_start(new, ev, new_fds[0], R);
	loop_idle(ev);
}

static void reuse_check_call(void **state, bool loop)
{
	struct tevent_context *ev = new_context(state);
	struct watch old = { .fde = NULL };
	struct watch new = { .fde = NULL };

	reuse_raw(ev, loop, &old, &new);
	new.action = NULL;
	put(new.other_fd);
	loop_calls(ev, 4);
	assert_int_equal(old.calls, 0);
	assert_int_equal(new.calls, 4);

	TALLOC_FREE(ev);
}

static void reuse_check_free(void **state, bool loop)
{
	struct tevent_context *ev = new_context(state);
	struct watch old = { .fde = NULL };
	struct watch new = { .fde = NULL };

	reuse_raw(ev, loop, &old, &new);
	TALLOC_FREE(old.fde);
	loop_idle(ev);
	put(new.other_fd);
	loop_calls(ev, 1);
	assert_int_equal(new.calls, 1);
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void test_reuse_call(void **state)
{
	reuse_check_call(state, false);
}

static void test_reuse_loop_call(void **state)
{
	reuse_check_call(state, true);
}

static void test_reuse_free(void **state)
{
	reuse_check_free(state, false);
}

static void test_reuse_loop_free(void **state)
{
	reuse_check_free(state, true);
}

/*
 * The fd event is freed in time, before or after close()
 */
static void test_reuse_freed(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch old = { .fde = NULL };
	struct watch new = { .action = action_get };
	int fds[2], new_fds[2];
	int round;

	for (round = 0; round < 500; round++) {
		new_pipe(fds);
		watch_start(&old, ev, fds[0], R);
		if (round & 1) {
			/* there is something to report about it */
			put(fds[1]);
		}
		if (round < 8) {
			loop_while(ev);
			old.calls = 0;
		}
		if (round & 2) {
			close(fds[0]);
			TALLOC_FREE(old.fde);
		} else {
			TALLOC_FREE(old.fde);
			close(fds[0]);
		}
		reuse(fds[0], new_fds);
		watch_start(&new, ev, new_fds[0], R);
		put(new_fds[1]);
		loop_calls(ev, 1);
		assert_int_equal(old.calls, 0);
		assert_int_equal(new.calls, 1);
		TALLOC_FREE(new.fde);
		close(fds[1]);
		close(new_fds[0]);
		close(new_fds[1]);
	}

	TALLOC_FREE(ev);
}

static void action_reuse(struct watch *w)
{
	int fds[2];

	get(w->fd);
	close(w->other_fd);
	/* closes it as well */
	TALLOC_FREE(w->fde);
	reuse(w->fd, fds);
	watch_start(w->other, w->ev, fds[0], R);
	tevent_fd_set_auto_close(w->other->fde);
	w->other->other_fd = fds[1];
	put(fds[1]);
}

/*
 * A handler frees its fd event, and adds one with the same number
 */
static void test_reuse_in_handler(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w[2] = {};
	int fds[2];
	int i;

	for (i = 0; i < 2; i++) {
		w[i].action = action_reuse;
		w[i].other = &w[!i];
	}
	new_pipe(fds);
	watch_start(&w[0], ev, fds[0], R);
	tevent_fd_set_auto_close(w[0].fde);
	w[0].other_fd = fds[1];
	put(fds[1]);
	loop_calls(ev, 500);

	TALLOC_FREE(ev);
}

/*
 * The fd isn't open
 */
static void test_ebadf_add(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch bad = { .fde = NULL };
	struct watch w = { .action = action_get };
	int fds[2];
	int fd;

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	fd = dup(fds[0]);
	close(fd);
	watch_start(&bad, ev, fd, R | W);
	loop_idle(ev);
	/* it has been disabled */
	assert_int_equal(tevent_fd_get_flags(bad.fde), 0);
	tevent_fd_set_flags(bad.fde, R);
	assert_int_equal(tevent_fd_get_flags(bad.fde), 0);
	put(fds[1]);
	loop_calls(ev, 1);
	TALLOC_FREE(bad.fde);
	put(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(w.calls, 2);

	TALLOC_FREE(ev);
}

static void test_ebadf_flags(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch bad = { .fde = NULL };
	struct watch w = { .action = action_get };
	int fds[2];
	int fd;

	new_pipe(fds);
	watch_start(&w, ev, fds[0], R);
	fd = dup(fds[1]);
	watch_start(&bad, ev, fd, 0);
	loop_idle(ev);
	close(fd);
	tevent_fd_set_flags(bad.fde, W);
	loop_idle(ev);
	assert_int_equal(tevent_fd_get_flags(bad.fde), 0);
	put(fds[1]);
	loop_calls(ev, 1);
	TALLOC_FREE(bad.fde);

	/* the same while it is watched */
	fd = dup(fds[1]);
	watch_start(&bad, ev, fd, R);
	loop_idle(ev);
	close(fd);
	tevent_fd_set_flags(bad.fde, R | W);
	loop_idle(ev);
	assert_int_equal(tevent_fd_get_flags(bad.fde), 0);
	put(fds[1]);
	loop_calls(ev, 1);
	assert_int_equal(w.calls, 2);

	TALLOC_FREE(ev);
}

static void test_ebadf_wait(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch bad = { .fde = NULL };
	int ret;
	int fd;

	fd = dup(0);
	close(fd);
	watch_start(&bad, ev, fd, R);
	/* there is nothing to wait for */
	ret = tevent_loop_wait(ev);
	assert_int_equal(ret, 0);

	TALLOC_FREE(ev);
}

/*
 * A file without poll(), which is always ready
 */
static void test_regular_file(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct watch w = { .fde = NULL };
	FILE *f = NULL;

	f = tmpfile();
	assert_non_null(f);
	watch_start(&w, ev, fileno(f), R);
	loop_calls(ev, 2);
	assert_int_equal(w.flags, R);
	TALLOC_FREE(w.fde);
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * The peers notice a close at once, even if the context is idle for long.
 * There are three ways: to free the fd event, which closes the fd, the two
 * after each other, and without freeing it.
 */
static void idle_close(struct watch *w, int how)
{
	assert_false(peer_closed(w->other_fd));
	switch (how) {
	case 0:
		tevent_fd_set_auto_close(w->fde);
		TALLOC_FREE(w->fde);
		break;
	case 1:
		TALLOC_FREE(w->fde);
		close(w->fd);
		break;
	default:
		close(w->fd);
		break;
	}
	assert_true(peer_closed(w->other_fd));
	close(w->other_fd);
}

static void idle_check(void **state, bool looped)
{
	static const uint16_t flags[] = { R, W, R | W, E, R | W | E, 0 };
	struct tevent_context *ev = new_context(state);
	struct watch w[3][3][ARRAY_SIZE(flags)] = {};
	int how, kind;
	size_t i;

	for (how = 0; how < 3; how++) {
		for (kind = 0; kind < 3; kind++) {
			for (i = 0; i < ARRAY_SIZE(flags); i++) {
				struct watch *_w = &w[how][kind][i];
				bool end = (kind == 1);
				int fds[2];

				if (kind == 2) {
					new_sockets(fds);
				} else {
					new_pipe(fds);
				}
				watch_start(_w, ev, fds[end], flags[i]);
				_w->other_fd = fds[!end];
			}
		}
	}
	if (looped) {
		loop_while(ev);
	}
	for (how = 0; how < 3; how++) {
		for (kind = 0; kind < 3; kind++) {
			for (i = 0; i < ARRAY_SIZE(flags); i++) {
				idle_close(&w[how][kind][i], how);
			}
		}
	}
	/* nothing of this is reported afterwards */
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void test_idle_close(void **state)
{
	idle_check(state, false);
}

static void test_idle_close_looped(void **state)
{
	idle_check(state, true);
}

/*
 * More than fits in a queue
 */

#define NUM_MANY 1000

static void many_setup(void **state,
		       struct tevent_context **ev,
		       struct watch **w)
{
	struct rlimit limit;
	size_t i;
	int ret;

	ret = getrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(ret, 0);
	if (limit.rlim_cur < 2 * NUM_MANY + 100) {
		limit.rlim_cur = 2 * NUM_MANY + 100;
		ret = setrlimit(RLIMIT_NOFILE, &limit);
		assert_int_equal(ret, 0);
	}

	*ev = new_context(state);
	*w = talloc_zero_array(*ev, struct watch, NUM_MANY);
	assert_non_null(*w);
	for (i = 0; i < NUM_MANY; i++) {
		int fds[2];

		new_pipe(fds);
		watch_start(&(*w)[i], *ev, fds[0], R);
		(*w)[i].other_fd = fds[1];
	}
}

static void test_many_idle(void **state)
{
	struct tevent_context *ev = NULL;
	struct watch *w = NULL;
	size_t i;

	many_setup(state, &ev, &w);
	loop_idle(ev);
	for (i = 0; i < NUM_MANY; i += 99) {
		put(w[i].other_fd);
		loop_calls(ev, 1);
		assert_int_equal(w[i].calls, 1);
		get(w[i].fd);
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

static void test_many_ready(void **state)
{
	struct tevent_context *ev = NULL;
	struct watch *w = NULL;
	unsigned int round;
	size_t i;

	many_setup(state, &ev, &w);
	loop_idle(ev);
	for (i = 0; i < NUM_MANY; i++) {
		put(w[i].other_fd);
	}
	for (round = 1; round <= 3; round++) {
		loop_calls(ev, NUM_MANY);
		for (i = 0; i < NUM_MANY; i++) {
			assert_int_equal(w[i].calls, round);
		}
	}
	/* not even one that is stale */
	for (i = 0; i < NUM_MANY; i++) {
		get(w[i].fd);
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * More changes than fit, between one tevent_loop_once() and the next
 */
static void test_many_changes(void **state)
{
	struct tevent_context *ev = NULL;
	struct watch *w = NULL;
	int round;
	size_t i;

	many_setup(state, &ev, &w);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < NUM_MANY; i++) {
			tevent_fd_set_flags(w[i].fde, 0);
			put(w[i].other_fd);
			tevent_fd_set_flags(w[i].fde, R);
			tevent_fd_set_flags(w[i].fde, R | E);
			if (i & 1) {
				TALLOC_FREE(w[i].fde);
			}
			w[i].calls = 0;
		}
		loop_calls(ev, NUM_MANY / 2);
		for (i = 0; i < NUM_MANY; i++) {
			assert_int_equal(w[i].calls, !(i & 1));
		}
		for (i = 0; i < NUM_MANY; i++) {
			get(w[i].fd);
			if (i & 1) {
				watch_start(&w[i], ev, w[i].fd, R);
			}
		}
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * The peers of so many notice as well
 */
static void test_many_close(void **state)
{
	struct tevent_context *ev = NULL;
	struct watch *w = NULL;
	size_t i;

	many_setup(state, &ev, &w);
	for (i = 0; i < NUM_MANY; i++) {
		idle_close(&w[i], i % 3);
	}
	loop_idle(ev);

	TALLOC_FREE(ev);
}

/*
 * Kinds of files
 */

static void kind_check(struct tevent_context *ev,
		       const char *kind,
		       int fd,
		       int peer,
		       void (*ready)(int peer),
		       void (*done)(int fd))
{
	struct watch w = { .fde = NULL };
	int i;

	printf("%s\n", kind);
	watch_start(&w, ev, fd, R);
	loop_idle(ev);
	for (i = 0; i < 3; i++) {
		ready(peer);
		loop_calls(ev, 2);
		assert_int_equal(w.flags, R);
		done(fd);
		loop_idle(ev);
	}
	TALLOC_FREE(w.fde);
	loop_idle(ev);
	close(fd);
	close(peer);
}

static void ready_connect(int peer)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	int fd;
	int ret;

	ret = getsockname(peer, (struct sockaddr *)&sun, &len);
	assert_int_equal(ret, 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_not_equal(fd, -1);
	ret = connect(fd, (struct sockaddr *)&sun, len);
	assert_int_equal(ret, 0);
	close(fd);
}

static void done_accept(int fd)
{
	int client;

	client = accept(fd, NULL, NULL);
	assert_int_not_equal(client, -1);
	close(client);
}

static void ready_line(int peer)
{
	ssize_t nwritten;

	nwritten = write(peer, "x\n", 2);
	assert_int_equal(nwritten, 2);
}

#ifdef HAVE_EVENTFD
static void ready_eventfd(int peer)
{
	uint64_t val = 1;
	ssize_t nwritten;

	nwritten = write(peer, &val, sizeof(val));
	assert_int_equal(nwritten, sizeof(val));
}
#endif

#ifdef HAVE_EPOLL
static int epoll_peer = -1;

static void done_epoll(int fd)
{
	struct epoll_event event;
	int ret;

	ret = epoll_wait(fd, &event, 1, 0);
	assert_int_equal(ret, 1);
	get(epoll_peer);
}
#endif

static void test_kinds(void **state)
{
	struct tevent_context *ev = new_context(state);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fds[2];
	int ret;

	new_pipe(fds);
	kind_check(ev, "pipe", fds[0], fds[1], put, get);

	new_sockets(fds);
	kind_check(ev, "stream socket", fds[0], fds[1], put, get);

	ret = socketpair(AF_UNIX, SOCK_DGRAM, 0, fds);
	assert_int_equal(ret, 0);
	kind_check(ev, "datagram socket", fds[0], fds[1], put, get);

	/* autobind */
	fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_not_equal(fds[0], -1);
	ret = bind(fds[0], (struct sockaddr *)&sun, sizeof(sa_family_t));
	assert_int_equal(ret, 0);
	ret = listen(fds[0], 5);
	assert_int_equal(ret, 0);
	fds[1] = dup(fds[0]);
	kind_check(ev, "listening socket", fds[0], fds[1],
		   ready_connect, done_accept);

	fds[1] = posix_openpt(O_RDWR | O_NOCTTY);
	assert_int_not_equal(fds[1], -1);
	ret = grantpt(fds[1]);
	assert_int_equal(ret, 0);
	ret = unlockpt(fds[1]);
	assert_int_equal(ret, 0);
	fds[0] = open(ptsname(fds[1]), O_RDWR | O_NOCTTY | O_NONBLOCK);
	assert_int_not_equal(fds[0], -1);
	kind_check(ev, "terminal", fds[0], fds[1], ready_line, drain);

#ifdef HAVE_EVENTFD
	fds[0] = eventfd(0, EFD_NONBLOCK);
	assert_int_not_equal(fds[0], -1);
	fds[1] = dup(fds[0]);
	kind_check(ev, "eventfd", fds[0], fds[1], ready_eventfd, drain);
#endif

#ifdef HAVE_EPOLL
	{
		struct epoll_event event = { .events = EPOLLIN };

		new_pipe(fds);
		epoll_peer = fds[0];
		fds[0] = epoll_create1(0);
		assert_int_not_equal(fds[0], -1);
		ret = epoll_ctl(fds[0], EPOLL_CTL_ADD, epoll_peer, &event);
		assert_int_equal(ret, 0);
		kind_check(ev, "epoll", fds[0], fds[1], put, done_epoll);
	}
#endif

	TALLOC_FREE(ev);
}

/*
 * All of these
 */

const struct backend_test backends_fd_tests[] = {
	TEST(level),
	TEST(exact_flags),
	TEST(fairness),
	TEST(fairness_drain),
	TEST(stale_drain),
	TEST(stale_write),
	TEST(stale_flags),
	TEST(split),
	TEST(same_fd),
	TEST(flags_in_handler),
	TEST(flags_toggle),
	TEST(flags_none),
	TEST(error_like_epoll),
	TEST(error_flags),
	TEST(free_self),
	TEST(free_others),
	TEST(free_all),
	TEST(add_in_handler),
	TEST(free_context),
	TEST(re_initialise),
	TEST(close_fn),
	TEST(auto_close),
	TEST(raw_close),
	TEST(raw_close_in_handler),
	TEST(raw_close_dup),
	TEST(reuse_call),
	TEST(reuse_loop_call),
	TEST(reuse_free),
	TEST(reuse_loop_free),
	TEST(reuse_freed),
	TEST(reuse_in_handler),
	TEST(ebadf_add),
	TEST(ebadf_flags),
	TEST(ebadf_wait),
	TEST(regular_file),
	TEST(idle_close),
	TEST(idle_close_looped),
	TEST(many_idle),
	TEST(many_ready),
	TEST(many_changes),
	TEST(many_close),
	TEST(kinds),
	{ .name = NULL },
};
