/*
 * Unix SMB/CIFS implementation.
 *
 * run testsuite.c and test_req.c without smbtorture
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

#include "includes.h"
#include <fnmatch.h>
#include <tevent.h>
#include "lib/torture/torture.h"
#include "torture/local/proto.h"
#include "tap_runner.h"

struct testsuite_test {
	struct torture_tcase *tcase;
	struct torture_test *test;
};

/*
 * For how long to run a test that measures the speed: context ends after two
 * seconds, fd_speed* after 600 or 1000000 events, which takes minutes in an
 * emulator.
 */
#define SPEED_MSECS_ENV "TEVENT_TESTSUITE_SPEED_MSECS"
static uint32_t speed_msecs;

/*
 * By how much to multiply timers of less than a second, and how late others may
 * be. fd1 expects that what is ready is handled within 2 milliseconds, fd3 that
 * a timer is late by 50 at most.
 */
#define TIMER_FACTOR_ENV "TEVENT_TESTSUITE_TIMER_FACTOR"
static uint32_t timer_factor = 1;

struct timeval timeval_current_ofs(uint32_t secs, uint32_t usecs)
{
	if (speed_msecs != 0) {
		secs = speed_msecs / 1000;
		usecs = speed_msecs % 1000 * 1000;
	} else if (secs == 0) {
		usecs *= timer_factor;
		secs = usecs / 1000000;
		usecs %= 1000000;
	}

	return tevent_timeval_current_ofs(secs, usecs);
}

double testsuite_parm_double(const char *option, double value)
{
	return strcmp(option, "max_latency") == 0 ? value * timer_factor : value;
}

double timeval_elapsed(const struct timeval *tv)
{
	struct timeval now = tevent_timeval_current();
	struct timeval elapsed = tevent_timeval_until(tv, &now);

	return elapsed.tv_sec + elapsed.tv_usec * 1.0e-6;
}

void samba_tevent_set_debug(struct tevent_context *ev, const char *name)
{
	tevent_set_debug_stderr(ev);
}

struct tevent_context *samba_tevent_context_init(TALLOC_CTX *mem_ctx)
{
	return tevent_context_init(mem_ctx);
}

void dump_data(int level, const uint8_t *buf, int len)
{
	int i;

	for (i = 0; i < len; i++) {
		printf("%02x%s", buf[i], i + 1 < len ? " " : "\n");
	}
}

int strcmp_safe(const char *s1, const char *s2)
{
	return strcmp(s1 != NULL ? s1 : "", s2 != NULL ? s2 : "");
}

static void testsuite_comment(struct torture_context *tctx,
			      const char *comment)
{
	double rate;
	int ret;

	ret = sscanf(comment, "Got %lf pipe events/sec", &rate);
	if (ret == 1 && strstr(comment, "/sec") != NULL) {
		printf("# %.0f pipe events/sec\n", rate);
		return;
	}

	printf("%s", comment);
}

static void testsuite_warning(struct torture_context *tctx,
			      const char *warning)
{
	printf("%s\n", warning);
}

static void testsuite_result(struct torture_context *tctx,
			     enum torture_result result,
			     const char *reason)
{
	enum tap_result *tap_result = tctx->results->ui_data;

	if (reason != NULL) {
		printf("%s\n", reason);
	}

	switch (result) {
	case TORTURE_OK:
		*tap_result = TAP_OK;
		break;
	case TORTURE_SKIP:
		*tap_result = TAP_SKIP;
		break;
	case TORTURE_FAIL:
	case TORTURE_ERROR:
		*tap_result = TAP_FAIL;
		break;
	}
}

static const struct torture_ui_ops testsuite_ui_ops = {
	.comment = testsuite_comment,
	.warning = testsuite_warning,
	.test_result = testsuite_result,
};

static enum tap_result testsuite_run(const struct tap_test *tap_test)
{
	struct testsuite_test *t = talloc_get_type_abort(
		tap_test->private_data, struct testsuite_test);
	enum tap_result result = TAP_FAIL;
	struct torture_results *results = NULL;
	struct torture_context *tctx = NULL;
	const char *msecs = getenv(SPEED_MSECS_ENV);
	const char *factor = getenv(TIMER_FACTOR_ENV);
	const char *name = t->test->name;

	if (tap_test->backend != NULL) {
		result = tap_check_backend(tap_test);
		if (result != TAP_OK) {
			return result;
		}
	}
	if (msecs != NULL && (strcmp(name, "context") == 0 ||
			      fnmatch("fd_speed*", name, 0) == 0)) {
		speed_msecs = atoi(msecs);
	}
	if (factor != NULL) {
		timer_factor = atoi(factor);
	}

	results = torture_results_init(NULL, &testsuite_ui_ops);
	if (results == NULL) {
		return TAP_FAIL;
	}
	results->ui_data = &result;
	tctx = torture_context_init(NULL, results);
	if (tctx == NULL) {
		return TAP_FAIL;
	}

	torture_run_test(tctx, t->tcase, t->test);

	TALLOC_FREE(tctx);
	TALLOC_FREE(results);

	return result;
}

static bool testsuite_is_backend(const char *name)
{
	const char **list = tevent_backend_list(NULL);
	bool found = false;
	size_t i;

	for (i = 0; list != NULL && list[i] != NULL; i++) {
		if (strcmp(list[i], name) == 0) {
			found = true;
		}
	}
	TALLOC_FREE(list);

	return found;
}

/*
 * Append the tests of the suite and its children
 */
static bool testsuite_add(struct tap_test **tests, struct torture_suite *suite)
{
	bool is_backend = testsuite_is_backend(suite->name);
	struct torture_suite *child = NULL;
	struct torture_tcase *tcase = NULL;
	struct torture_test *test = NULL;

	for (tcase = suite->testcases; tcase != NULL; tcase = tcase->next) {
		for (test = tcase->tests; test != NULL; test = test->next) {
			size_t len = talloc_array_length(*tests);
			struct testsuite_test *t = NULL;
			struct tap_test *tmp = NULL;

			tmp = talloc_realloc(NULL, *tests, struct tap_test,
					     len + 1);
			if (tmp == NULL) {
				return false;
			}
			*tests = tmp;
			t = talloc(tmp, struct testsuite_test);
			if (t == NULL) {
				return false;
			}
			t->tcase = tcase;
			t->test = test;
			tmp[len] = (struct tap_test) { .name = NULL };
			tmp[len - 1] = (struct tap_test) {
				.name = talloc_asprintf(tmp, "%s.%s",
							suite->name,
							test->name),
				.backend = is_backend ? suite->name : NULL,
				.run = testsuite_run,
				.private_data = t,
			};
			if (tmp[len - 1].name == NULL) {
				return false;
			}
		}
	}

	for (child = suite->children; child != NULL; child = child->next) {
		bool ok = testsuite_add(tests, child);

		if (!ok) {
			return false;
		}
	}

	return true;
}

int main(int argc, char *argv[])
{
	struct tap_test *tests = NULL;
	bool ok;
	int ret;

	/* the last one has no name */
	tests = talloc_zero_array(NULL, struct tap_test, 1);
	if (tests == NULL) {
		return 1;
	}
	ok = testsuite_add(&tests, torture_local_event(tests)) &&
	     testsuite_add(&tests, torture_local_tevent_req(tests));
	if (!ok) {
		return 1;
	}

	ret = tap_main(argc, argv, tests);
	TALLOC_FREE(tests);

	return ret;
}
