// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to wait for a file: ping-pong over two pipes in a single thread
 *
 * A byte is written to a pipe, the thread waits until one of the pipes can be
 * read, reads the byte, and writes it to the other pipe. Both are waited for all
 * the time, as in an event loop.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

#include "kselftest.h"
#include "ring.h"

#define RUNS	3

struct bench {
	int pipe[2][2];
	struct pollfd pfd[2];
	int epfd;

	struct ring ring;
	unsigned int ring_index;	/* registered fd of the ring */
	unsigned int cq_mask;
	unsigned int cq_head;
	int rearm;			/* one-shot poll that has fired, or -1 */
};

struct method {
	const char *name;
	const char *ring;
	bool (*init)(struct bench *b, const struct method *m);
	void (*run)(struct bench *b, unsigned int events);
	unsigned int flags;		/* of the ring, of epoll, */
	unsigned int poll;		/* and of the poll */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/*
 * One loop for each method, with its way to wait inlined: it returns which of
 * the pipes can be read.
 */
static __always_inline void ping_pong(struct bench *b, unsigned int events,
				      int (*wait)(struct bench *b))
{
	char c = 'x';
	int i;

	if (write(b->pipe[0][1], &c, 1) != 1)
		die("write");
	while (events--) {
		i = wait(b);
		if (read(b->pipe[i][0], &c, 1) != 1 ||
		    write(b->pipe[!i][1], &c, 1) != 1)
			die("ping-pong");
	}
	i = wait(b);
	if (read(b->pipe[i][0], &c, 1) != 1)
		die("read");
}

static bool init_poll(struct bench *b, const struct method *m)
{
	int i;

	for (i = 0; i < 2; i++) {
		b->pfd[i].fd = b->pipe[i][0];
		b->pfd[i].events = m->poll;
	}
	return true;
}

static __always_inline int wait_poll(struct bench *b)
{
	if (poll(b->pfd, 2, -1) != 1)
		die("poll");
	return !b->pfd[0].revents;
}

static void run_poll(struct bench *b, unsigned int events)
{
	ping_pong(b, events, wait_poll);
}

static bool init_epoll(struct bench *b, const struct method *m)
{
	struct epoll_event ev = { .events = EPOLLIN | m->flags };
	int i;

	b->epfd = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < 2; i++) {
		ev.data.u32 = i;
		if (epoll_ctl(b->epfd, EPOLL_CTL_ADD, b->pipe[i][0], &ev))
			die("epoll_ctl");
	}
	return true;
}

static __always_inline int wait_epoll(struct bench *b)
{
	struct epoll_event ev;

	if (epoll_wait(b->epfd, &ev, 1, -1) != 1)
		die("epoll_wait");
	return ev.data.u32;
}

static void run_epoll(struct bench *b, unsigned int events)
{
	ping_pong(b, events, wait_epoll);
}

static void prep_ring_poll(struct bench *b, int i, unsigned int flags)
{
	prep_poll(ring_sqe(&b->ring), b->pipe[i][0], EPOLLIN, flags, i);
}

static bool init_ring(struct bench *b, const struct method *m)
{
	const struct ring_opts opts = { .flags = m->flags, .sq_entries = 4 };
	struct io_uring_rsrc_update upd = { .offset = -1U };
	int i;

	if (ring_init(&b->ring, &opts))
		return false;
	if ((m->poll & IORING_POLL_ADD_LEVEL) &&
	    (!(b->ring.features & IORING_FEAT_POLL_LEVEL) ||
	     ring_set_cap(&b->ring, 1)))
		return false;
	upd.data = b->ring.fd;
	if (sys_io_uring_register(b->ring.fd, IORING_REGISTER_RING_FDS, &upd,
				  1) != 1)
		return false;
	b->ring_index = upd.offset;
	b->cq_mask = b->ring.cq_entries - 1;
	b->cq_head = 0;
	b->rearm = -1;
	for (i = 0; i < 2; i++)
		prep_ring_poll(b, i, m->poll);
	return ring_submit(&b->ring) == 2;
}

static __always_inline void enter(struct bench *b, unsigned int to_submit)
{
	if (syscall(__NR_io_uring_enter, b->ring_index, to_submit, 1,
		    IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING,
		    NULL, 0) != (long)to_submit)
		die("io_uring_enter");
}

/* There is one. */
static __always_inline int get_cqe(struct bench *b)
{
	struct io_uring_cqe *cqe;
	int i;

	cqe = (struct io_uring_cqe *)b->ring.cqes + (b->cq_head & b->cq_mask);
	if (cqe->res != EPOLLIN)
		die("CQE");
	i = cqe->user_data;
	ring_store(b->ring.cq_head, ++b->cq_head);
	return i;
}

static __always_inline bool cq_empty(struct bench *b)
{
	return ring_load(b->ring.cq_tail) == b->cq_head;
}

/* Armed once, no need to enter the kernel if there's a CQE already. */
static __always_inline int wait_multishot(struct bench *b)
{
	while (cq_empty(b))
		enter(b, 0);
	return get_cqe(b);
}

static void run_multishot(struct bench *b, unsigned int events)
{
	ping_pong(b, events, wait_multishot);
}

/* The one that has fired is armed again by the call that waits. */
static __always_inline int wait_oneshot(struct bench *b)
{
	if (b->rearm >= 0) {
		prep_ring_poll(b, b->rearm, 0);
		ring_store(b->ring.sq_tail, b->ring.sqe_tail);
		enter(b, 1);
	}
	while (cq_empty(b))
		enter(b, 0);
	b->rearm = get_cqe(b);
	return b->rearm;
}

static void run_oneshot(struct bench *b, unsigned int events)
{
	ping_pong(b, events, wait_oneshot);
}

#define DEFER	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

static const struct method methods[] = {
	{ "poll", "", init_poll, run_poll, 0, POLLIN },
	{ "epoll, level", "", init_epoll, run_epoll, 0, 0 },
	{ "epoll, edge", "", init_epoll, run_epoll, EPOLLET, 0 },
	{ "io_uring one-shot", "default", init_ring, run_oneshot, 0, 0 },
	{ "io_uring one-shot", "DEFER_TASKRUN", init_ring, run_oneshot, DEFER,
	  0 },
	{ "io_uring edge multishot", "default", init_ring, run_multishot, 0,
	  IORING_POLL_ADD_MULTI },
	{ "io_uring edge multishot", "DEFER_TASKRUN", init_ring, run_multishot,
	  DEFER, IORING_POLL_ADD_MULTI },
	{ "io_uring level multishot", "default", init_ring, run_multishot, 0,
	  POLL_LEVEL },
	{ "io_uring level multishot", "DEFER_TASKRUN", init_ring,
	  run_multishot, DEFER, POLL_LEVEL },
};

static unsigned long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* The best of some runs in ns for each event, 0 if it isn't supported */
static double measure(const struct method *m, unsigned int events)
{
	unsigned long long start, ns, best = ~0ULL;
	struct bench b = { .epfd = -1, .ring.fd = -1 };
	bool ok;
	int i;

	for (i = 0; i < 2; i++)
		if (pipe(b.pipe[i]))
			die("pipe");
	ok = m->init(&b, m);
	if (ok) {
		m->run(&b, events / 10 + 100);
		for (i = 0; i < RUNS; i++) {
			start = now_ns();
			m->run(&b, events);
			ns = now_ns() - start;
			if (ns < best)
				best = ns;
		}
	}
	if (b.ring.fd >= 0)
		ring_exit(&b.ring);
	if (b.epfd >= 0)
		close(b.epfd);
	for (i = 0; i < 2; i++) {
		close(b.pipe[i][0]);
		close(b.pipe[i][1]);
	}
	return ok ? (double)best / events : 0;
}

static void usage(FILE *f, const char *name)
{
	fprintf(f, "Usage: %s [--events N] [--icount] [--markdown]\n"
		"Ping-pong over two pipes, by each way to wait for them.\n\n"
		"  --events N  that many events for each of them (100000)\n"
		"  --icount    a nanosecond is an instruction: QEMU, -icount shift=0\n"
		"  --markdown  print a Markdown table\n", name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "events", required_argument, NULL, 'e' },
		{ "icount", no_argument, NULL, 'i' },
		{ "markdown", no_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	bool icount = false, markdown = false;
	unsigned int i, events = 100000;
	const char *fmt, *sep;
	struct utsname uts;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'e':
			events = strtoul(optarg, NULL, 10);
			break;
		case 'i':
			icount = true;
			break;
		case 'm':
			markdown = true;
			break;
		case 'h':
			usage(stdout, argv[0]);
			return 0;
		default:
			usage(stderr, argv[0]);
			return 2;
		}
	}
	if (!events || optind != argc) {
		usage(stderr, argv[0]);
		return 2;
	}

	uname(&uts);
	printf("Pipe ping-pong, %u events, Linux %s\n\n", events, uts.release);
	fmt = markdown ? "| %-24s | %-13s | %12s | %18s |\n" :
			 "%-24s  %-13s  %12s  %18s\n";
	sep = "------------------------";
	printf(fmt, "method", "ring", "events/s",
	       icount ? "instructions/event" : "ns/event");
	if (markdown)
		printf("|-%.24s-|-%.13s-|-%.12s:|-%.18s:|\n", sep, sep, sep,
		       sep);

	for (i = 0; i < ARRAY_SIZE(methods); i++) {
		double ns = measure(&methods[i], events);
		char rate[32] = "unsupported", cost[32] = "-";

		if (ns) {
			snprintf(rate, sizeof(rate), "%.0f", 1e9 / ns);
			snprintf(cost, sizeof(cost), "%.0f", ns);
		}
		printf(fmt, methods[i].name, methods[i].ring, rate, cost);
		fflush(stdout);
	}
	return 0;
}
