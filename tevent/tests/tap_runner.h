/*
 * Unix SMB/CIFS implementation.
 *
 * run tests in processes of their own and report in TAP
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

#ifndef _TEVENT_TESTS_TAP_RUNNER_H_
#define _TEVENT_TESTS_TAP_RUNNER_H_

enum tap_result {
	TAP_OK = 0,
	TAP_FAIL = 1,
	TAP_SKIP = 77,
};

struct tap_test {
	/* "suite.test" */
	const char *name;
	/* what --backend selects, NULL for none in particular */
	const char *backend;
	/*
	 * Returns why it is known to fail, NULL if it has to pass. May be
	 * NULL itself.
	 */
	const char *(*todo)(const struct tap_test *test);
	/*
	 * Called in a child process.
	 *
	 * What it writes to stdout and stderr is shown if it fails,
	 * a line starting with "# " always. If it returns TAP_SKIP
	 * the last line is the reason.
	 */
	enum tap_result (*run)(const struct tap_test *test);
	void *private_data;
};

/*
 * main() of a program with these tests, which end with .name = NULL
 */
int tap_main(int argc, char *argv[], const struct tap_test *tests);

/*
 * TAP_SKIP if contexts of test->backend can't be created here
 */
enum tap_result tap_check_backend(const struct tap_test *test);

#endif /* _TEVENT_TESTS_TAP_RUNNER_H_ */
