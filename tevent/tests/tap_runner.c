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

#include "replace.h"
#include "system/filesys.h"
#include "system/select.h"
#include "system/time.h"
#include "system/wait.h"
#include <fnmatch.h>
#include <getopt.h>
#include <talloc.h>
#include <tevent.h>
#include <tevent_io_uring.h>
#include "tap_runner.h"

struct tap_options {
	bool list;
	bool verbose;
	int timeout;
	const char *backend;
	const char **exclude;
	char **patterns;
};

static void tap_usage(const char *program, FILE *f)
{
	fprintf(f,
		"Usage: %s [OPTION]... [PATTERN]...\n"
		"Run the tests that match a PATTERN, all if there is none,\n"
		"each in a process of its own. Report in TAP.\n"
		"  --list             only print the names\n"
		"  --backend NAME     those of this backend\n"
		"  --exclude PATTERN  not those\n"
		"  --default NAME     make this the default backend\n"
		"  --mode MODE        of the backend io_uring: off, oneshot,\n"
		"                     oneshot_close, level\n"
		"  --timeout SECONDS  kill a test then, 120 unless said\n"
		"  --verbose          show the output of all tests\n"
		"Exit status: 0 if all passed, 1 if not, 2 for a usage error.\n",
		program);
}

static bool tap_matches(const char **patterns, const char *name)
{
	size_t i;

	for (i = 0; patterns != NULL && patterns[i] != NULL; i++) {
		if (fnmatch(patterns[i], name, 0) == 0) {
			return true;
		}
	}

	return false;
}

static bool tap_wanted(const struct tap_options *options,
		       const struct tap_test *test)
{
	const char **patterns = discard_const_p(const char *,
						options->patterns);

	if (options->backend != NULL) {
		if (test->backend == NULL) {
			return false;
		}
		if (strcmp(options->backend, test->backend) != 0) {
			return false;
		}
	}
	if (tap_matches(options->exclude, test->name)) {
		return false;
	}
	if (patterns[0] == NULL) {
		return true;
	}

	return tap_matches(patterns, test->name);
}

/*
 * Start a test. Its output is what *fd gives.
 */
static pid_t tap_start(const struct tap_test *test, int *fd)
{
	int fds[2];
	pid_t pid;
	int ret;

	ret = pipe(fds);
	if (ret == -1) {
		return -1;
	}

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* what it forks is killed along with it */
		setpgid(0, 0);
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		setvbuf(stdout, NULL, _IOLBF, 0);
		exit(test->run(test));
	}

	close(fds[1]);
	if (pid == -1) {
		close(fds[0]);
		return -1;
	}
	setpgid(pid, pid);
	*fd = fds[0];

	return pid;
}

/*
 * Return false if it takes until the deadline
 */
static bool tap_read(int fd, const struct timeval *deadline, char **output)
{
	while (true) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		struct timeval now = tevent_timeval_current();
		struct timeval left = tevent_timeval_until(&now, deadline);
		char buf[4096];
		ssize_t nread;
		int ret;

		if (tevent_timeval_is_zero(&left)) {
			return false;
		}
		ret = poll(&pfd, 1, left.tv_sec * 1000 + 1000);
		if (ret <= 0) {
			continue;
		}
		nread = read(fd, buf, sizeof(buf));
		if (nread <= 0) {
			return true;
		}
		*output = talloc_strndup_append_buffer(*output, buf, nread);
	}
}

/*
 * Return false if it takes until the deadline
 */
static bool tap_exited(pid_t pid, const struct timeval *deadline)
{
	while (true) {
		struct timeval now = tevent_timeval_current();
		siginfo_t info = { .si_pid = 0 };
		int ret;

		/* the group keeps its number until it is waited for */
		ret = waitid(P_PID, pid, &info, WEXITED|WNOHANG|WNOWAIT);
		if (ret == 0 && info.si_pid == pid) {
			return true;
		}
		if (tevent_timeval_compare(&now, deadline) > 0) {
			return false;
		}
		usleep(1000);
	}
}

/*
 * Print the output, or only the lines that are to be shown always.
 * Cut it into lines and return the last one.
 */
static const char *tap_comments(const struct tap_test *test,
				char *output,
				bool all)
{
	const char *last = "";
	char *saveptr = NULL;
	char *line;

	for (line = strtok_r(output, "\n", &saveptr);
	     line != NULL;
	     line = strtok_r(NULL, "\n", &saveptr))
	{
		bool comment = (strncmp(line, "# ", 2) == 0);

		last = line;
		if (comment) {
			line += 2;
		}
		if (comment || all) {
			printf("# %s: %s\n", test->name, line);
		}
	}

	return last;
}

static bool tap_run(const struct tap_options *options,
		    const struct tap_test *test,
		    unsigned int number)
{
	struct timeval start = tevent_timeval_current();
	struct timeval deadline = tevent_timeval_add(&start,
						     options->timeout, 0);
	struct timeval end, elapsed;
	char *output = talloc_strdup(NULL, "");
	const char *todo = test->todo != NULL ? test->todo(test) : NULL;
	const char *last = NULL;
	bool in_time, ok, skipped;
	int status = -1;
	int fd = -1;
	pid_t pid;

	pid = tap_start(test, &fd);
	if (pid == -1) {
		printf("Bail out! %s: %s\n", test->name, strerror(errno));
		exit(1);
	}
	in_time = tap_read(fd, &deadline, &output) &&
		  tap_exited(pid, &deadline);
	close(fd);
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);

	end = tevent_timeval_current();
	elapsed = tevent_timeval_until(&start, &end);
	ok = (in_time && WIFEXITED(status) && WEXITSTATUS(status) == TAP_OK);
	skipped = (in_time && WIFEXITED(status) &&
		   WEXITSTATUS(status) == TAP_SKIP);

	last = tap_comments(test, output,
			    options->verbose || !(ok || skipped));
	if (!in_time) {
		printf("# %s: no end after %d s\n",
		       test->name, options->timeout);
	} else if (WIFSIGNALED(status)) {
		printf("# %s: signal %d, %s\n", test->name,
		       WTERMSIG(status), strsignal(WTERMSIG(status)));
	}
	printf("# %s: %d.%03d s\n", test->name,
	       (int)elapsed.tv_sec, (int)elapsed.tv_usec / 1000);

	printf("%s %u - %s", (ok || skipped) ? "ok" : "not ok",
	       number, test->name);
	if (skipped) {
		printf(" # SKIP %s", last);
	} else if (todo != NULL) {
		printf(" # TODO %s", todo);
	}
	printf("\n");
	fflush(stdout);
	TALLOC_FREE(output);

	return ok || skipped || todo != NULL;
}

/*
 * Is there such a mode, and has the kernel got it?
 */
static bool tap_set_mode(const char *name)
{
	static const char * const modes[] = {
		[TEVENT_IO_URING_OFF] = "off",
		[TEVENT_IO_URING_ONESHOT] = "oneshot",
		[TEVENT_IO_URING_ONESHOT_CLOSE] = "oneshot_close",
		[TEVENT_IO_URING_LEVEL] = "level",
	};
	struct tevent_context *ev = NULL;
	bool ok = false;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		if (strcmp(name, modes[i]) != 0) {
			continue;
		}
		tevent_io_uring_set_max_mode(i);
		ev = tevent_context_init_byname(NULL, "io_uring");
		ok = ev != NULL && tevent_io_uring_get_mode(ev) == i;
		TALLOC_FREE(ev);
	}

	return ok;
}

/*
 * Return -1 to go on
 */
static int tap_parse(int argc, char *argv[], struct tap_options *options)
{
	static const struct option long_options[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "backend", required_argument, NULL, 'b' },
		{ "exclude", required_argument, NULL, 'x' },
		{ "default", required_argument, NULL, 'd' },
		{ "mode", required_argument, NULL, 'm' },
		{ "timeout", required_argument, NULL, 't' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ .name = NULL },
	};
	size_t num_exclude = 0;
	int opt;

	options->exclude = talloc_zero_array(NULL, const char *, argc + 1);
	if (options->exclude == NULL) {
		return 1;
	}

	while (true) {
		opt = getopt_long(argc, argv, "", long_options, NULL);
		switch (opt) {
		case 'l':
			options->list = true;
			break;
		case 'b':
			options->backend = optarg;
			break;
		case 'x':
			options->exclude[num_exclude++] = optarg;
			break;
		case 'd':
			tevent_set_default_backend(optarg);
			break;
		case 'm':
			if (!tap_set_mode(optarg)) {
				fprintf(stderr, "%s: no mode %s here\n",
					argv[0], optarg);
				return 2;
			}
			break;
		case 't':
			options->timeout = atoi(optarg);
			break;
		case 'v':
			options->verbose = true;
			break;
		case 'h':
			tap_usage(argv[0], stdout);
			return 0;
		case -1:
			options->patterns = argv + optind;
			return -1;
		default:
			tap_usage(argv[0], stderr);
			return 2;
		}
	}
}

int tap_main(int argc, char *argv[], const struct tap_test *tests)
{
	struct tap_options options = { .timeout = 120 };
	const struct tap_test *test = NULL;
	unsigned int num_wanted = 0;
	unsigned int number = 0;
	bool ok = true;
	int ret;

	ret = tap_parse(argc, argv, &options);
	if (ret != -1) {
		return ret;
	}

	for (test = tests; test->name != NULL; test++) {
		if (!tap_wanted(&options, test)) {
			continue;
		}
		num_wanted += 1;
		if (options.list) {
			printf("%s\n", test->name);
		}
	}
	if (num_wanted == 0) {
		fprintf(stderr, "%s: no test matches\n", argv[0]);
		return 1;
	}
	if (options.list) {
		return 0;
	}

	printf("1..%u\n", num_wanted);
	for (test = tests; test->name != NULL; test++) {
		if (tap_wanted(&options, test)) {
			ok &= tap_run(&options, test, ++number);
		}
	}

	return ok ? 0 : 1;
}

enum tap_result tap_check_backend(const struct tap_test *test)
{
	struct tevent_context *ev = NULL;

	errno = 0;
	ev = tevent_context_init_byname(NULL, test->backend);
	if (ev == NULL) {
		printf("no context of backend '%s': %s\n",
		       test->backend, strerror(errno));
		return TAP_SKIP;
	}
	TALLOC_FREE(ev);

	return TAP_OK;
}
