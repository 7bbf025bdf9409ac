// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs those who use none of the polls that end with their file: files
 * that are opened and closed, pipes, poll(), epoll, other requests of io_uring.
 * Runs on any kernel, the numbers are to be compared with those of another one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "kselftest.h"
#include "ring.h"

#define ROUNDS	2000

struct bench {
	struct ring ring;
	int epfd;
	int pipe[2];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

static void open_close(struct bench *b)
{
	int fd = open("/", O_RDONLY | O_CLOEXEC);

	(void)b;
	must(fd >= 0 && !close(fd), "open");
}

static void eventfd_close(struct bench *b)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)b;
	must(fd >= 0 && !close(fd), "eventfd");
}

static void pipe_write_read(struct bench *b)
{
	feed(b->pipe[1]);
	drain(b->pipe[0]);
}

static void poll_ready(struct bench *b)
{
	struct pollfd p = { .fd = b->pipe[1], .events = POLLOUT };

	must(poll(&p, 1, -1) == 1, "poll");
}

static void epoll_add_del(struct bench *b)
{
	struct epoll_event ev = { .events = EPOLLIN };

	must(!epoll_ctl(b->epfd, EPOLL_CTL_ADD, b->pipe[0], &ev) &&
	     !epoll_ctl(b->epfd, EPOLL_CTL_DEL, b->pipe[0], NULL), "epoll_ctl");
}

/* The other end is the only one that is polled by it */
static void epoll_ready(struct bench *b)
{
	struct epoll_event ev;

	must(epoll_wait(b->epfd, &ev, 1, -1) == 1, "epoll_wait");
}

static void reap(struct bench *b, unsigned int flags)
{
	struct io_uring_cqe cqe;

	must(ring_enter(&b->ring, 1) >= 0 && ring_pop(&b->ring, &cqe) &&
	     cqe.res >= 0 && cqe.flags == flags, "CQE");
}

static void uring_nop(struct bench *b)
{
	prep_nop(ring_sqe(&b->ring), 1);
	must(ring_submit(&b->ring) == 1, "submit");
	reap(b, 0);
}

static void uring_poll_ready(struct bench *b)
{
	must(ring_arm_as(&b->ring, 0, b->pipe[1], POLLOUT, 1) == 1, "submit");
	reap(b, 0);
}

static void uring_poll_woken(struct bench *b)
{
	must(ring_arm_as(&b->ring, 0, b->pipe[0], POLLIN, 1) == 1, "submit");
	feed(b->pipe[1]);
	reap(b, 0);
	drain(b->pipe[0]);
}

static void uring_edge_woken(struct bench *b)
{
	feed(b->pipe[1]);
	reap(b, IORING_CQE_F_MORE);
	drain(b->pipe[0]);
}

static void no_init(struct bench *b)
{
	(void)b;
}

static void epoll_init(struct bench *b)
{
	struct epoll_event ev = { .events = EPOLLOUT };

	must(!epoll_ctl(b->epfd, EPOLL_CTL_ADD, b->pipe[1], &ev), "epoll_ctl");
}

static void edge_init(struct bench *b)
{
	must(ring_arm_as(&b->ring, IORING_POLL_ADD_MULTI, b->pipe[0], POLLIN,
			 1) == 1, "submit");
}

static const struct row {
	const char *name;
	void (*init)(struct bench *b);
	void (*run)(struct bench *b);
} rows[] = {
	{ "open and close a file", no_init, open_close },
	{ "open and close an eventfd", no_init, eventfd_close },
	{ "write and read a pipe", no_init, pipe_write_read },
	{ "poll() a file that is ready", no_init, poll_ready },
	{ "add to epoll and delete", no_init, epoll_add_del },
	{ "epoll_wait(), ready", epoll_init, epoll_ready },
	{ "io_uring: NOP", no_init, uring_nop },
	{ "io_uring: one-shot poll, ready", no_init, uring_poll_ready },
	{ "io_uring: one-shot poll, woken", no_init, uring_poll_woken },
	{ "io_uring: edge poll, woken", edge_init, uring_edge_woken },
};

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

/* The best of some runs, so that a timer's interrupt doesn't count */
static double measure(const struct row *row)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	double start, ns, best = 1e12;
	struct bench b;
	int i, j;

	must(!ring_init(&b.ring, &opts), "io_uring_setup");
	b.epfd = epoll_create1(EPOLL_CLOEXEC);
	must(b.epfd >= 0 && !pipe(b.pipe), "pipe");
	row->init(&b);
	for (i = 0; i < ROUNDS; i++)
		row->run(&b);
	for (i = 0; i < 5; i++) {
		start = now_ns();
		for (j = 0; j < ROUNDS; j++)
			row->run(&b);
		ns = (now_ns() - start) / ROUNDS;
		if (ns < best)
			best = ns;
	}
	ring_exit(&b.ring);
	close(b.epfd);
	close(b.pipe[0]);
	close(b.pipe[1]);
	return best;
}

int main(void)
{
	unsigned int i;

	/* ns, which are instructions in QEMU with -icount shift=0 */
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		printf("%-32s %8.1f\n", rows[i].name, measure(&rows[i]));
		fflush(stdout);
	}
	return 0;
}
