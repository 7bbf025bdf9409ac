/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files of all kinds that can be polled, for level_fuzz_test: how they are made, how
 * they get ready and unready again. The operations may fail, nobody minds.
 */
#ifndef IO_URING_SELFTEST_FUZZ_FILES_H
#define IO_URING_SELFTEST_FUZZ_FILES_H

#include <pty.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "files.h"
#include "ring.h"

#define FUZZ_BUF	1024	/* all buffers are small, they are soon full */
#define FUZZ_MANY	16	/* times to try until they are */

enum fuzz_kind {
	FUZZ_EVENTFD, FUZZ_PIPE, FUZZ_FIFO, FUZZ_STREAM, FUZZ_DGRAM,
	FUZZ_SEQPACKET, FUZZ_TCP, FUZZ_PTY, FUZZ_TIMERFD, FUZZ_SIGNALFD,
	FUZZ_INOTIFY, FUZZ_EPOLL, FUZZ_RING, FUZZ_KINDS
};

static const char *const fuzz_kinds[FUZZ_KINDS] = {
	"eventfd", "pipe", "FIFO", "stream socket", "datagram socket",
	"seqpacket socket", "TCP socket", "pty", "timerfd", "signalfd",
	"inotify", "epoll", "ring",
};

/* One file, or two that are connected */
struct fuzz_group {
	unsigned int nr;
	enum fuzz_kind kind;
	unsigned int open;	/* files */
	int inner;		/* an eventfd that is watched by the file */
	struct ring ring;	/* which is the file */
};

/* Do they change by themselves, or by what happens to others? */
static inline bool fuzz_async(enum fuzz_kind kind)
{
	return kind == FUZZ_TCP || kind == FUZZ_PTY || kind == FUZZ_TIMERFD ||
	       kind == FUZZ_SIGNALFD || kind == FUZZ_RING;
}

static inline const char *fuzz_path(const struct fuzz_group *gr)
{
	static __thread char path[64];

	snprintf(path, sizeof(path), "/tmp/level_fuzz.%d.%u", getpid(), gr->nr);
	return path;
}

/* No two groups have the same one. */
static inline int fuzz_signal(const struct fuzz_group *gr, sigset_t *set)
{
	static const int signals[] = {
		SIGPROF, SIGUSR1, SIGUSR2, SIGHUP, SIGQUIT, SIGVTALRM,
	};

	sigemptyset(set);
	sigaddset(set, signals[gr->nr]);
	return signals[gr->nr];
}

static inline int fuzz_make_fifo(const struct fuzz_group *gr, int *fd)
{
	if (mkfifo(fuzz_path(gr), 0600))
		return -1;
	fd[0] = open(fuzz_path(gr), O_RDWR | O_CLOEXEC); /* two wait queues */
	fd[1] = open(fuzz_path(gr), O_RDONLY | O_CLOEXEC);
	return fcntl(fd[1], F_SETPIPE_SZ, 2 * getpagesize());
}

static inline int fuzz_make_pty(int *fd)
{
	struct termios raw = {};

	cfmakeraw(&raw);
	return openpty(&fd[0], &fd[1], NULL, &raw, NULL);
}

static inline int fuzz_make_inotify(const struct fuzz_group *gr)
{
	int fd = inotify_init1(IN_CLOEXEC);

	close(open(fuzz_path(gr), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	return inotify_add_watch(fd, fuzz_path(gr), IN_ATTRIB) < 0 ? -1 : fd;
}

static inline int fuzz_make_epoll(struct fuzz_group *gr)
{
	struct epoll_event e = { .events = EPOLLIN };
	int fd = epoll_create1(EPOLL_CLOEXEC);

	gr->inner = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return epoll_ctl(fd, EPOLL_CTL_ADD, gr->inner, &e) ? -1 : fd;
}

static inline int fuzz_make_ring(struct fuzz_group *gr)
{
	const struct ring_opts opts = { .sq_entries = 4 };

	gr->inner = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ring_init(&gr->ring, &opts) ||
	    ring_arm(&gr->ring, gr->inner, EPOLLIN, 1) != 1)
		return -1;
	return gr->ring.fd;
}

static inline int __fuzz_make(struct fuzz_group *gr, int *fd)
{
	sigset_t set;

	switch (gr->kind) {
	case FUZZ_PIPE:
		return pipe2(fd, O_CLOEXEC) ?:
		       fcntl(fd[0], F_SETPIPE_SZ, 2 * getpagesize());
	case FUZZ_FIFO:
		return fuzz_make_fifo(gr, fd);
	case FUZZ_STREAM:
		return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd);
	case FUZZ_DGRAM:
		return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd);
	case FUZZ_SEQPACKET:
		return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				  fd);
	case FUZZ_TCP:
		return tcp_pair(fd);
	case FUZZ_PTY:
		return fuzz_make_pty(fd);
	case FUZZ_TIMERFD:
		return fd[0] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	case FUZZ_SIGNALFD:
		fuzz_signal(gr, &set);
		return fd[0] = signalfd(-1, &set, SFD_CLOEXEC);
	case FUZZ_INOTIFY:
		return fd[0] = fuzz_make_inotify(gr);
	case FUZZ_EPOLL:
		return fd[0] = fuzz_make_epoll(gr);
	case FUZZ_RING:
		return fd[0] = fuzz_make_ring(gr);
	default:
		return fd[0] = eventfd(0, EFD_CLOEXEC);
	}
}

/* Returns how many files there are, 0 if it fails. */
static inline unsigned int fuzz_make(struct fuzz_group *gr, enum fuzz_kind kind,
				     int *fd)
{
	const struct linger reset = { .l_onoff = 1 };
	int size = FUZZ_BUF;
	unsigned int i;

	gr->kind = kind;
	gr->inner = -1;
	fd[1] = -1;
	if (__fuzz_make(gr, fd) < 0)
		return 0;
	for (i = 0; i < 2 && fd[i] >= 0; i++) {
		fcntl(fd[i], F_SETFL, fcntl(fd[i], F_GETFL) | O_NONBLOCK);
		setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		/* nothing is to be left of a connection, there are many */
		if (kind == FUZZ_TCP)
			setsockopt(fd[i], SOL_SOCKET, SO_LINGER, &reset,
				   sizeof(reset));
	}
	return i;
}

/* After its files, but the memory of a ring is to be unmapped before that. */
static inline void fuzz_destroy(struct fuzz_group *gr)
{
	const struct timespec now = {};
	sigset_t set;

	if (gr->inner >= 0)
		close(gr->inner);
	unlink(fuzz_path(gr));
	fuzz_signal(gr, &set);
	sigtimedwait(&set, NULL, &now);
}

/* Some bytes, or as many as fit */
static inline void fuzz_write(struct fuzz_group *gr, int fd, unsigned int n,
			      bool fill)
{
	static const struct itimerspec soon = { .it_value.tv_nsec = 1 };
	static const char buf[FUZZ_BUF];
	sigset_t set;

	switch (gr->kind) {
	case FUZZ_EVENTFD:
		eventfd_write(fd, fill ? ~0ULL - 1 : 1);
		break;
	case FUZZ_TIMERFD:
		timerfd_settime(fd, 0, &soon, NULL);
		break;
	case FUZZ_SIGNALFD:
		kill(getpid(), fuzz_signal(gr, &set));
		break;
	case FUZZ_INOTIFY:
		chmod(fuzz_path(gr), 0600);
		break;
	case FUZZ_RING:
		gr->ring.fd = fd;
		if (!fill) {
			eventfd_write(gr->inner, 1);
			break;
		}
		/* the SQ ring is never full, nobody is woken when it isn't */
		if (ring_cq_count(&gr->ring) == gr->ring.cq_entries)
			break;
		prep_nop(ring_sqe(&gr->ring), 0);
		ring_submit(&gr->ring);
		break;
	case FUZZ_EPOLL:
		eventfd_write(gr->inner, 1);
		break;
	default:
		if (!fill) {
			n = write(fd, buf, 1 + n % 4);
			break;
		}
		for (n = 0; n < FUZZ_MANY && write(fd, buf, sizeof(buf)) > 0;)
			n++;
	}
}

/* Some bytes, or all of them */
static inline void fuzz_read(struct fuzz_group *gr, int fd, unsigned int n,
			     bool all)
{
	static const struct itimerspec off;
	char buf[4 * FUZZ_BUF];
	struct io_uring_cqe cqe;
	eventfd_t v;

	switch (gr->kind) {
	case FUZZ_TIMERFD:
		if (all)
			timerfd_settime(fd, 0, &off, NULL);
		else
			n = read(fd, &v, sizeof(v));
		break;
	case FUZZ_EPOLL:
		eventfd_read(gr->inner, &v);
		break;
	case FUZZ_RING:
		gr->ring.fd = fd;
		if (all) {
			eventfd_read(gr->inner, &v);
			while (ring_pop(&gr->ring, &cqe))
				;
		}
		ring_harvest(&gr->ring);
		ring_pop(&gr->ring, &cqe);
		break;
	default:
		if (!all) {
			n = read(fd, buf, 1 + n % 4);
			break;
		}
		for (n = 0; n < FUZZ_MANY && read(fd, buf, sizeof(buf)) > 0;)
			n++;
	}
}

#endif /* IO_URING_SELFTEST_FUZZ_FILES_H */
