/*
 * Unix SMB/CIFS implementation.
 *
 * what every backend of tevent has to do
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
#include "tevent_io_uring.h"
#include "tap_runner.h"

/*
 * What a backend can't do
 */
#define EPOLL_DUP "the file is still watched, by an fd event that is gone"
#define EPOLL_REUSE "EPOLL_CTL_DEL by number takes away the new file"
#define POLL_REUSE "knows no files, only numbers"
#define POLL_WAIT "poll() keeps the file open"
#define ONESHOT_HOLDS "a poll keeps the file open"
#define ONESHOT_TURNS "turns are not exact if there are many"

static const struct {
	const char *name;
	const char *reason;
} known_failures[] = {
	{ "epoll.raw_close_dup", EPOLL_DUP },
	{ "epoll.regular_file", "abort() as EPOLL_CTL_ADD gives EPERM" },
	{ "epoll.reuse_free", EPOLL_REUSE },
	{ "epoll.reuse_loop_free", EPOLL_REUSE },
	{ "io_uring_oneshot.fork_parent_changes", ONESHOT_HOLDS },
	{ "io_uring_oneshot.idle_close_looped", ONESHOT_HOLDS },
	{ "io_uring_oneshot.many_ready", ONESHOT_TURNS },
	{ "io_uring_oneshot.raw_close", ONESHOT_HOLDS },
	{ "io_uring_oneshot.thread_close_wait", ONESHOT_HOLDS },
	{ "io_uring_oneshot_close.many_ready", ONESHOT_TURNS },
	{ "poll.reuse_call", POLL_REUSE },
	{ "poll.thread_close_wait", POLL_WAIT },
	{ "poll_mt.cloexec", "the wakeup fd has no FD_CLOEXEC" },
	{ "poll_mt.reuse_call", POLL_REUSE },
	{ "poll_mt.thread_close_wait", POLL_WAIT },
	{ "standard.raw_close_dup", EPOLL_DUP },
	{ "standard.reuse_free", EPOLL_REUSE },
	{ "standard.reuse_loop_free", EPOLL_REUSE },
	{ NULL, NULL },
};

/*
 * What the backend is by the name that it has above. In another mode io_uring
 * is another one.
 */
static const char *backend_kind(const char *backend)
{
	struct tevent_context *ev = NULL;
	const char *kind = backend;

	if (strcmp(backend, "io_uring") != 0) {
		return backend;
	}
	ev = tevent_context_init_byname(NULL, backend);
	if (ev == NULL) {
		return backend;
	}
	switch (tevent_io_uring_get_mode(ev)) {
	case TEVENT_IO_URING_OFF:
		kind = "epoll";
		break;
	case TEVENT_IO_URING_ONESHOT:
		kind = "io_uring_oneshot";
		break;
	case TEVENT_IO_URING_ONESHOT_CLOSE:
		kind = "io_uring_oneshot_close";
		break;
	case TEVENT_IO_URING_LEVEL:
		break;
	}
	TALLOC_FREE(ev);

	return kind;
}

static const char *known_failure(const struct tap_test *test)
{
	const char *kind = backend_kind(test->backend);
	const char *name = test->name + strlen(test->backend);
	size_t len = strlen(kind);
	size_t i;

	for (i = 0; known_failures[i].name != NULL; i++) {
		const char *known = known_failures[i].name;

		if (strncmp(known, kind, len) == 0 &&
		    strcmp(known + len, name) == 0) {
			return known_failures[i].reason;
		}
	}

	return NULL;
}

static enum tap_result backend_run(const struct tap_test *tap_test)
{
	const struct backend_test *t =
		(const struct backend_test *)tap_test->private_data;
	const struct CMUnitTest tests[] = {
		{
			.name = tap_test->name,
			.test_func = t->fn,
			.initial_state = discard_const_p(char,
							 tap_test->backend),
		},
	};
	struct rlimit no_core = { .rlim_cur = 0 };
	enum tap_result result;
	int ret;

	result = tap_check_backend(tap_test);
	if (result != TAP_OK) {
		return result;
	}

	if (known_failure(tap_test) != NULL) {
		/* it won't happen */
		long_time = 1;
	}
	talloc_set_log_stderr();
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGPIPE, SIG_IGN);
	ret = cmocka_run_group_tests(tests, NULL, NULL);

	return ret == 0 ? TAP_OK : TAP_FAIL;
}

/*
 * Append these tests of a backend
 */
static bool add_tests(struct tap_test **tests,
		      const char *backend,
		      const struct backend_test *t)
{
	for (; t->name != NULL; t++) {
		size_t len = talloc_array_length(*tests);
		struct tap_test *tmp = NULL;
		char *name = NULL;

		tmp = talloc_realloc(NULL, *tests, struct tap_test, len + 1);
		if (tmp == NULL) {
			return false;
		}
		*tests = tmp;
		name = talloc_asprintf(tmp, "%s.%s", backend, t->name);
		if (name == NULL) {
			return false;
		}
		tmp[len] = (struct tap_test) { .name = NULL };
		tmp[len - 1] = (struct tap_test) {
			.name = name,
			.backend = backend,
			.todo = known_failure,
			.run = backend_run,
			.private_data = discard_const_p(
				struct backend_test, t),
		};
	}

	return true;
}

int main(int argc, char *argv[])
{
	const char **list = tevent_backend_list(NULL);
	struct tap_test *tests = NULL;
	size_t i;
	bool ok;
	int ret;

	/* the last one has no name */
	tests = talloc_zero_array(NULL, struct tap_test, 1);
	if (tests == NULL || list == NULL) {
		return 1;
	}
	for (i = 0; list[i] != NULL; i++) {
		ok = add_tests(&tests, list[i], backends_fd_tests) &&
		     add_tests(&tests, list[i], backends_context_tests);
		if (!ok) {
			return 1;
		}
	}

	ret = tap_main(argc, argv, tests);
	TALLOC_FREE(tests);
	TALLOC_FREE(list);

	return ret;
}
