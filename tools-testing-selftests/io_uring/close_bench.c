// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to close files: those that nobody polls, and those that are
 * polled in a way that ends with them. Runs on any kernel.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

#include "kselftest.h"
#include "ring.h"

#define FIRST_FD	100
#define RUNS		3

struct method {
	const char *name;
	bool epoll;
	unsigned int flags;	/* of the poll, 0: there's none */
};

static const struct method methods[] = {
	{ .name = "nobody" },
	{ .name = "epoll", .epoll = true },
	{ .name = "one-shot poll", .flags = POLL_ONESHOT },
	{ .name = "edge multishot poll", .flags = POLL_EDGE },
	{ .name = "level multishot poll", .flags = POLL_LEVEL },
};

/* The time, or the instructions, for each file */
struct cost {
	double close;
	double cqe;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void watch(const struct method *m, struct ring *r, int epfd, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (m->epoll && epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev))
		die("epoll_ctl");
	if (m->flags && ring_arm_as(r, m->flags, fd, EPOLLIN, fd) != 1)
		die("io_uring_enter");
}

/* The last CQE of each poll */
static void reap(struct ring *r, unsigned int n)
{
	struct io_uring_cqe cqe;

	while (n) {
		if (ring_enter(r, 1))
			die("io_uring_enter");
		for (; n && ring_pop(r, &cqe); n--) {
			if (cqe.res != -ECANCELED) {
				fprintf(stderr, "CQE: %d\n", cqe.res);
				exit(1);
			}
		}
	}
}

static struct cost close_files(const struct method *m, struct ring *r, int epfd,
			       unsigned int n)
{
	double start, closed, end;
	unsigned int i;
	int fd;

	for (i = 0; i < n; i++) {
		fd = eventfd(0, EFD_CLOEXEC);
		if (fd < 0 || dup3(fd, FIRST_FD + i, O_CLOEXEC) < 0)
			die("eventfd");
		close(fd);
		watch(m, r, epfd, FIRST_FD + i);
	}
	start = now_ns();
	if (syscall(__NR_close_range, FIRST_FD, FIRST_FD + n - 1, 0))
		die("close_range");
	closed = now_ns();
	if (m->flags)
		reap(r, n);
	end = now_ns();
	return (struct cost) { (closed - start) / n, (end - closed) / n };
}

/* The best of some runs */
static void measure(const struct method *m, struct ring *r, int epfd,
		    unsigned int n)
{
	struct cost c, best = { 1e9, 1e9 };
	int i;

	for (i = 0; i < RUNS; i++) {
		c = close_files(m, r, epfd, n);
		if (c.close < best.close)
			best.close = c.close;
		if (c.cqe < best.cqe)
			best.cqe = c.cqe;
	}
	printf("%-22s %6u %18.0f", m->name, n, best.close);
	if (m->flags)
		printf(" %16.0f", best.cqe);
	putchar('\n');
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const unsigned int files[] = { 100, 1000, 10000 };
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = 16384,
	};
	bool icount = argc == 2 && !strcmp(argv[1], "--icount");
	struct rlimit lim = { FIRST_FD + 10000, FIRST_FD + 10000 };
	const char *unit = icount ? "instructions" : "ns";
	unsigned int i, j, need;
	struct utsname uts;
	struct ring r;
	int epfd;

	if (argc > 1 && !icount) {
		fprintf(stderr, "Usage: %s [--icount]\n"
			"What close() costs for each file, by who polls it.\n\n"
			"  --icount  a nanosecond is an instruction: QEMU, -icount shift=0\n",
			argv[0]);
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &lim))
		die("setrlimit");
	if (ring_init(&r, &opts))
		die("io_uring_setup");
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0)
		die("epoll_create1");

	uname(&uts);
	printf("Linux %s, %s for each file\n\n", uts.release, unit);
	printf("%-22s %6s %18s %16s\n", "polled by", "files", "close", "its CQE");
	for (i = 0; i < ARRAY_SIZE(methods); i++) {
		need = methods[i].flags & IORING_POLL_ADD_LEVEL ?
			IORING_FEAT_POLL_LEVEL :
			IORING_FEAT_POLL_CANCEL_ON_CLOSE;
		if (methods[i].flags && !(r.features & need)) {
			printf("%-22s %25s\n", methods[i].name, "unsupported");
			continue;
		}
		for (j = 0; j < ARRAY_SIZE(files); j++)
			measure(&methods[i], &r, epfd, files[j]);
	}
	return 0;
}
