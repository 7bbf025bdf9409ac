// SPDX-License-Identifier: GPL-2.0
/*
 * Shows what a level triggered poll does: it's reported as long as its file is
 * ready, and it ends when the file is closed, as other polls do that ask for it.
 * Returns 0 if that's what happened.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "kselftest.h"
#include "ring.h"

static int failed;

static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* A line of the transcript, and whether that is what should be there */
static void show(bool ok, const char *what, const char *fmt, ...)
{
	char result[80];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(result, sizeof(result), fmt, ap);
	va_end(ap);
	say("  %-26s%s%s", what, result, ok ? "" : "    <- unexpected");
	failed += !ok;
}

static const char *res_name(int res)
{
	switch (res) {
	case EPOLLIN:
		return "EPOLLIN";
	case -ECANCELED:
		return "-ECANCELED";
	default:
		return "something else";
	}
}

/* Consume a CQE, and show it. A res of 0: there's none. */
static void show_cqe(struct ring *r, const char *what, int res,
		     unsigned int flags)
{
	struct io_uring_cqe cqe;

	if (!ring_pop(r, &cqe)) {
		show(!res, what, "no CQE");
		return;
	}
	show(res == cqe.res && flags == cqe.flags && !ring_cq_count(r), what,
	     "CQE: %s, %s", res_name(cqe.res),
	     cqe.flags & IORING_CQE_F_MORE ? "more to come" : "the last one");
}

static void enter_and_show(struct ring *r, int res, unsigned int flags)
{
	if (ring_harvest(r))
		failed++;
	show_cqe(r, "io_uring_enter()", res, flags);
}

static void show_write(int fd, const char *text)
{
	ssize_t len = strlen(text);

	show(write(fd, text, len) == len, "write()", "\"%s\"", text);
}

static void show_read(int fd)
{
	char c;
	bool ok = read(fd, &c, 1) == 1;

	show(ok, "read()", "'%c'", ok ? c : ' ');
}

static void demo_level(struct ring *r, int *p)
{
	say("A pipe, and a level triggered poll on its read end");
	show(ring_arm(r, p[0], EPOLLIN, 1) == 1, "IORING_OP_POLL_ADD",
	     "MULTI | LEVEL");
	enter_and_show(r, 0, 0);
	show_write(p[1], "abc");
	enter_and_show(r, EPOLLIN, IORING_CQE_F_MORE);
	enter_and_show(r, EPOLLIN, IORING_CQE_F_MORE);
	show_read(p[0]);
	enter_and_show(r, EPOLLIN, IORING_CQE_F_MORE);
	show_read(p[0]);
	show_read(p[0]);
	enter_and_show(r, 0, 0);
	say("");
}

static void demo_close(struct ring *r, int *p)
{
	ssize_t n;

	say("Its read end is closed, and nobody has entered the ring");
	show(!close(p[0]), "close()", "done");
	n = write(p[1], "x", 1);
	show(n < 0 && errno == EPIPE, "write() to the other end", "%s",
	     n < 0 ? strerror(errno) : "fine, there's still a reader");
	enter_and_show(r, -ECANCELED, 0);
	enter_and_show(r, 0, 0);
	close(p[1]);
	say("");
}

static void demo_peer(struct ring *r, const char *what, unsigned int flags,
		      const char *flag_names)
{
	int sv[2];
	ssize_t n;
	char c;

	say(what);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv)) {
		perror("socketpair");
		exit(KSFT_FAIL);
	}
	show(ring_arm_as(r, flags, sv[0], EPOLLIN, 2) == 1,
	     "IORING_OP_POLL_ADD", "%s", flag_names);
	show(!close(sv[0]), "close()", "done");
	n = read(sv[1], &c, 1);
	show(!n, "read() by the peer", "%s",
	     n ? "nothing, it's still connected" : "end of file");
	enter_and_show(r, -ECANCELED, 0);
	close(sv[1]);
	say("");
}

/* What it's like without: the poll keeps the file open. */
static void demo_edge(struct ring *r, int *p)
{
	ssize_t n;

	say("For comparison, a poll that is neither");
	prep_poll(ring_sqe(r), p[0], EPOLLIN, IORING_POLL_ADD_MULTI, 3);
	show(ring_submit(r) == 1, "IORING_OP_POLL_ADD", "MULTI");
	show_write(p[1], "abc");
	enter_and_show(r, EPOLLIN, IORING_CQE_F_MORE);
	show_read(p[0]);
	enter_and_show(r, 0, 0);
	show(!close(p[0]), "close()", "done");
	n = write(p[1], "x", 1);
	show(n == 1, "write() to the other end", "%s",
	     n < 0 ? strerror(errno) : "fine, there's still a reader");
	say("");
}

int main(void)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	int p[2], p2[2];
	struct utsname uts;
	struct ring r;

	uname(&uts);
	if (!ring_supported()) {
		say("Linux %s has no level triggered polls", uts.release);
		return KSFT_SKIP;
	}
	signal(SIGPIPE, SIG_IGN);
	if (ring_init(&r, &opts) || pipe(p) || pipe(p2)) {
		perror("poll_demo");
		return KSFT_FAIL;
	}
	say("io_uring poll, level triggered and aware of close, Linux %s\n",
	    uts.release);
	demo_level(&r, p);
	demo_close(&r, p);
	demo_peer(&r, "A connection, polled and closed likewise", POLL_LEVEL,
		  "MULTI | LEVEL");
	demo_peer(&r, "Another one, with a one-shot poll",
		  IORING_POLL_CANCEL_ON_CLOSE, "CANCEL_ON_CLOSE");
	demo_edge(&r, p2);
	if (failed)
		say("%d of these lines are unexpected.", failed);
	else
		say("All of that is as it should be.");
	ring_exit(&r);
	return failed ? KSFT_FAIL : KSFT_PASS;
}
