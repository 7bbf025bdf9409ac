// SPDX-License-Identifier: GPL-2.0
/*
 * Level triggered polls of all kinds of files report what a level triggered
 * epoll does: each file is watched by both, and after each step they have to
 * agree.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring.h"

#define MAX_FILES	4

struct look {
	__u32 events[MAX_FILES];
};

struct watches {
	struct ring ring;
	int ep;
	unsigned int n;
	int fd[MAX_FILES];
	unsigned int ended[MAX_FILES];
	bool broken;
	struct look epoll;
	struct look uring;
};

/* Have it watched by both. The error of epoll if they agree on that, or 1. */
static int watch(struct watches *w, int fd, __u32 mask)
{
	struct epoll_event e = { .events = mask, .data.u32 = w->n };
	struct io_uring_cqe cqe;
	int err = 0;

	if (epoll_ctl(w->ep, EPOLL_CTL_ADD, fd, &e))
		err = -errno;
	if (ring_arm(&w->ring, fd, mask, w->n) != 1)
		return 1;
	if (!err)
		w->fd[w->n++] = fd;
	else if (!ring_pop(&w->ring, &cqe) || cqe.res != err || cqe.flags)
		return 1;
	return err;
}

static void look_at_epoll(struct watches *w)
{
	struct epoll_event e[MAX_FILES];
	int i, n = epoll_wait(w->ep, e, MAX_FILES, 0);

	memset(&w->epoll, 0, sizeof(w->epoll));
	for (i = 0; i < n; i++)
		w->epoll.events[e[i].data.u32] = e[i].events;
}

static void look_at_ring(struct watches *w)
{
	struct io_uring_cqe cqe;

	memset(&w->uring, 0, sizeof(w->uring));
	if (ring_harvest(&w->ring))
		w->broken = true;
	while (ring_pop(&w->ring, &cqe)) {
		unsigned int i = cqe.user_data;

		if (i >= w->n || w->ended[i]) {
			w->broken = true;
		} else if (cqe.flags == IORING_CQE_F_MORE && cqe.res > 0) {
			w->broken |= w->uring.events[i];
			w->uring.events[i] = cqe.res;
		} else {
			w->broken |= cqe.flags || cqe.res != -ECANCELED;
			w->ended[i]++;
		}
	}
}

static void print_looks(const struct watches *w)
{
	unsigned int i;

	for (i = 0; i < w->n; i++)
		ksft_print_msg("file %u: epoll %x, io_uring %x%s\n", i,
			       w->epoll.events[i], w->uring.events[i],
			       w->broken ? ", unexpected CQEs" : "");
}

/*
 * They have to say the same twice in a row. It may change while they look, if
 * it arrives by softirq or a work queue, but they have to agree in the end.
 */
static bool agree(struct watches *w)
{
	unsigned int ms, same = 0;

	for (ms = 0; ms < RING_SOON_MS && same < 2 && !w->broken; ms++) {
		look_at_epoll(w);
		look_at_ring(w);
		if (!memcmp(&w->epoll, &w->uring, sizeof(w->epoll))) {
			same++;
			continue;
		}
		same = 0;
		usleep(1000);
	}
	if (same < 2)
		print_looks(w);
	return same == 2;
}

/* Close what is still open, that has to end all polls. */
static bool end(struct watches *w)
{
	unsigned int i, ms, left = w->n;

	for (i = 0; i < w->n; i++)
		if (!w->ended[i])
			close(w->fd[i]);
	for (ms = 0; ms < RING_SOON_MS && left && !w->broken; ms++) {
		look_at_ring(w);
		for (i = left = 0; i < w->n; i++)
			left += !w->ended[i];
		if (left)
			usleep(1000);
	}
	return !left && !w->broken;
}

FIXTURE(files)
{
	struct watches w;
};

FIXTURE_VARIANT(files)
{
	__u32 mask;
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(files, none) {
	.mask = 0,
};

FIXTURE_VARIANT_ADD(files, in) {
	.mask = EPOLLIN,
};

FIXTURE_VARIANT_ADD(files, out) {
	.mask = EPOLLOUT,
};

FIXTURE_VARIANT_ADD(files, in_out) {
	.mask = EPOLLIN | EPOLLOUT,
};

FIXTURE_VARIANT_ADD(files, pri) {
	.mask = EPOLLPRI,
};

FIXTURE_VARIANT_ADD(files, rdhup) {
	.mask = EPOLLRDHUP,
};

FIXTURE_VARIANT_ADD(files, norm_band) {
	.mask = EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND,
};

FIXTURE_VARIANT_ADD(files, all) {
	.mask = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLERR |
		EPOLLHUP | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM |
		EPOLLWRBAND,
};

FIXTURE_VARIANT_ADD(files, in_defer_taskrun) {
	.mask = EPOLLIN,
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(files, in_sqpoll) {
	.mask = EPOLLIN,
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(files)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&self->w.ring, &variant->ring));
	self->w.ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, self->w.ep);
	signal(SIGPIPE, SIG_IGN);
}

FIXTURE_TEARDOWN(files)
{
	ring_exit(&self->w.ring);
}

#define WATCH(fd)	ASSERT_EQ(0, watch(&self->w, fd, variant->mask))

#define EXPECT_AGREE()	EXPECT_TRUE(agree(&self->w))
#define EXPECT_END()	EXPECT_TRUE(end(&self->w))

/* It has come to that, whatever is watched. */
#define EXPECT_STATE(fd, events)	\
	EXPECT_NE(0, file_events(fd, events, RING_SOON_MS))

static void set_nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Write until there's no room. */
static void fill(int fd)
{
	static const char buf[4096];

	set_nonblock(fd);
	while (write(fd, buf, sizeof(buf)) > 0)
		;
	while (write(fd, buf, 1) > 0)
		;
}

/* Read until there's nothing left. */
static void empty(int fd)
{
	char buf[4096];

	set_nonblock(fd);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

/*
 * Pipes
 */

TEST_F(files, pipe)
{
	int p[2];
	char c;

	ASSERT_EQ(0, pipe(p));
	WATCH(p[0]);
	WATCH(p[1]);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(p[1], "x", 1));
	EXPECT_AGREE();
	EXPECT_EQ(1, read(p[0], &c, 1));
	EXPECT_AGREE();
	fill(p[1]);
	EXPECT_AGREE();
	empty(p[0]);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, close(p[1]));
	EXPECT_AGREE();
	EXPECT_EQ(1, read(p[0], &c, 1));
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, pipe_reader_closed)
{
	int p[2];

	ASSERT_EQ(0, pipe(p));
	WATCH(p[1]);
	fill(p[1]);
	EXPECT_AGREE();
	EXPECT_EQ(0, close(p[0]));
	EXPECT_AGREE();
	EXPECT_END();
}

/* Readers and writers come and go. */
TEST_F(files, fifo)
{
	char dir[] = "/tmp/level_files.XXXXXX", path[64];
	int rd, wr;

	ASSERT_NE(NULL, mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	ASSERT_EQ(0, mkfifo(path, 0600));
	rd = open(path, O_RDONLY | O_NONBLOCK);
	wr = open(path, O_WRONLY | O_NONBLOCK);
	EXPECT_EQ(0, unlink(path));
	EXPECT_EQ(0, rmdir(dir));
	ASSERT_LE(0, rd);
	ASSERT_LE(0, wr);
	WATCH(rd);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(wr, "x", 1));
	EXPECT_AGREE();
	EXPECT_EQ(0, close(wr));
	EXPECT_AGREE();
	empty(rd);
	EXPECT_AGREE();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rd);
	wr = open(path, O_WRONLY | O_NONBLOCK);
	ASSERT_LE(0, wr);
	WATCH(wr);
	EXPECT_AGREE();
	EXPECT_END();
}

/*
 * Sockets
 */

static void unix_pair(struct __test_metadata *_metadata, struct watches *w,
		      __u32 mask, int type)
{
	int sk[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, type, 0, sk));
	ASSERT_EQ(0, watch(w, sk[0], mask));
	ASSERT_EQ(0, watch(w, sk[1], mask));
	EXPECT_TRUE(agree(w));
	EXPECT_EQ(1, write(sk[1], "x", 1));
	EXPECT_TRUE(agree(w));
	empty(sk[0]);
	EXPECT_TRUE(agree(w));
	fill(sk[1]);
	EXPECT_TRUE(agree(w));
	empty(sk[0]);
	EXPECT_TRUE(agree(w));
	EXPECT_EQ(0, shutdown(sk[1], SHUT_WR));
	EXPECT_TRUE(agree(w));
	EXPECT_EQ(0, close(sk[1]));
	EXPECT_TRUE(agree(w));
	EXPECT_TRUE(end(w));
}

TEST_F(files, unix_stream)
{
	unix_pair(_metadata, &self->w, variant->mask, SOCK_STREAM);
}

TEST_F(files, unix_dgram)
{
	unix_pair(_metadata, &self->w, variant->mask, SOCK_DGRAM);
}

TEST_F(files, unix_seqpacket)
{
	unix_pair(_metadata, &self->w, variant->mask, SOCK_SEQPACKET);
}

TEST_F(files, tcp_listen)
{
	struct sockaddr_in addr;
	int listener = inet_socket(SOCK_STREAM, &addr);
	int sk[2];

	ASSERT_LE(0, listener);
	WATCH(listener);
	EXPECT_AGREE();
	ASSERT_EQ(0, listen(listener, 1));
	EXPECT_AGREE();
	sk[0] = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_LE(0, sk[0]);
	WATCH(sk[0]);
	EXPECT_AGREE();
	ASSERT_EQ(0, connect(sk[0], (struct sockaddr *)&addr, sizeof(addr)));
	EXPECT_STATE(listener, POLLIN);
	EXPECT_AGREE();
	sk[1] = accept(listener, NULL, NULL);
	ASSERT_LE(0, sk[1]);
	WATCH(sk[1]);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, tcp_refused)
{
	struct sockaddr_in addr;
	int closed = inet_socket(SOCK_STREAM, &addr);
	int sk = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	ASSERT_LE(0, closed);
	ASSERT_LE(0, sk);
	WATCH(sk);
	EXPECT_AGREE();
	EXPECT_EQ(-1, connect(sk, (struct sockaddr *)&addr, sizeof(addr)));
	EXPECT_STATE(sk, POLLERR);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, tcp_half_close)
{
	int sk[2];

	ASSERT_EQ(0, tcp_pair(sk));
	WATCH(sk[0]);
	WATCH(sk[1]);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(sk[1], "x", 1));
	EXPECT_STATE(sk[0], POLLIN);
	EXPECT_AGREE();
	empty(sk[0]);
	EXPECT_AGREE();
	EXPECT_EQ(1, send(sk[1], "x", 1, MSG_OOB));
	EXPECT_STATE(sk[0], POLLPRI);
	EXPECT_AGREE();
	empty(sk[0]);
	EXPECT_AGREE();
	EXPECT_EQ(0, shutdown(sk[1], SHUT_WR));
	EXPECT_STATE(sk[0], POLLRDHUP);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(sk[0], "x", 1));
	EXPECT_STATE(sk[1], POLLIN);
	EXPECT_AGREE();
	EXPECT_EQ(0, shutdown(sk[0], SHUT_WR));
	EXPECT_STATE(sk[0], POLLHUP);
	EXPECT_STATE(sk[1], POLLHUP);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, tcp_full)
{
	int sk[2], size = 4096;

	ASSERT_EQ(0, tcp_pair(sk));
	EXPECT_EQ(0, setsockopt(sk[1], SOL_SOCKET, SO_SNDBUF, &size,
				sizeof(size)));
	WATCH(sk[0]);
	WATCH(sk[1]);
	fill(sk[1]);
	EXPECT_AGREE();
	while (!(file_events(sk[1], POLLOUT, 0) & POLLOUT))
		empty(sk[0]);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, tcp_reset)
{
	const struct linger linger = { .l_onoff = 1 };
	int sk[2];

	ASSERT_EQ(0, tcp_pair(sk));
	WATCH(sk[0]);
	EXPECT_AGREE();
	ASSERT_EQ(0, setsockopt(sk[1], SOL_SOCKET, SO_LINGER, &linger,
				sizeof(linger)));
	EXPECT_EQ(0, close(sk[1]));
	EXPECT_STATE(sk[0], POLLERR);
	EXPECT_AGREE();
	EXPECT_EQ(-1, write(sk[0], "x", 1));
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, udp)
{
	struct sockaddr_in addr;
	int sk[2];

	sk[0] = inet_socket(SOCK_DGRAM, &addr);
	sk[1] = socket(AF_INET, SOCK_DGRAM, 0);
	ASSERT_LE(0, sk[0]);
	ASSERT_LE(0, sk[1]);
	ASSERT_EQ(0, connect(sk[1], (struct sockaddr *)&addr, sizeof(addr)));
	WATCH(sk[0]);
	WATCH(sk[1]);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(sk[1], "x", 1));
	EXPECT_STATE(sk[0], POLLIN);
	EXPECT_AGREE();
	empty(sk[0]);
	EXPECT_AGREE();
	/* nobody's there any more: ICMP tells */
	EXPECT_EQ(0, close(sk[0]));
	EXPECT_EQ(1, write(sk[1], "x", 1));
	EXPECT_STATE(sk[1], POLLERR);
	EXPECT_AGREE();
	EXPECT_EQ(-1, write(sk[1], "x", 1));
	EXPECT_AGREE();
	EXPECT_END();
}

/*
 * Files that are events
 */

TEST_F(files, eventfd)
{
	int fd = eventfd(0, 0);

	ASSERT_LE(0, fd);
	WATCH(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, eventfd_write(fd, 1));
	EXPECT_AGREE();
	empty(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, eventfd_write(fd, ~0ULL - 1));
	EXPECT_AGREE();
	empty(fd);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, eventfd_semaphore)
{
	int fd = eventfd(2, EFD_SEMAPHORE);
	eventfd_t v;

	ASSERT_LE(0, fd);
	WATCH(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, eventfd_read(fd, &v));
	EXPECT_AGREE();
	EXPECT_EQ(0, eventfd_read(fd, &v));
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, timerfd)
{
	const struct itimerspec once = { .it_value.tv_nsec = 1000000 };
	const struct itimerspec off = {};
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);

	ASSERT_LE(0, fd);
	WATCH(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, timerfd_settime(fd, 0, &once, NULL));
	EXPECT_STATE(fd, POLLIN);
	EXPECT_AGREE();
	empty(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, timerfd_settime(fd, 0, &once, NULL));
	EXPECT_STATE(fd, POLLIN);
	EXPECT_EQ(0, timerfd_settime(fd, 0, &off, NULL));
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, signalfd)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &set, NULL));
	fd = signalfd(-1, &set, 0);
	ASSERT_LE(0, fd);
	WATCH(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, raise(SIGUSR1));
	EXPECT_AGREE();
	empty(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, kill(getpid(), SIGUSR1));
	EXPECT_AGREE();
	empty(fd);
	EXPECT_AGREE();
	EXPECT_END();
}

/*
 * Its wait queue belongs to the signal handlers of whoever armed the poll, and
 * goes away with that process. That ends any kind of poll.
 */
TEST(signalfd_of_other_process)
{
	static const unsigned int kinds[] = {
		0,
		IORING_POLL_ADD_MULTI,
		POLL_ONESHOT,
		POLL_EDGE,
		POLL_LEVEL,
	};
	const struct ring_opts opts = {};
	unsigned int i;
	struct ring r;
	sigset_t set;
	pid_t child;
	int fd;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &set, NULL));
	fd = signalfd(-1, &set, 0);
	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, ring_init(&r, &opts));
		child = fork();
		ASSERT_LE(0, child);
		/* a signal that it is woken by isn't an event of others */
		if (!child)
			_exit(ring_arm_as(&r, kinds[i], fd, EPOLLIN, 1) != 1 ||
			      (kinds[i] == POLL_LEVEL && raise(SIGUSR1)));
		EXPECT_EQ(child, waitpid(child, NULL, 0));
		EXPECT_EQ(0, ring_wait(&r, 1));
		EXPECT_CQE(&r, 1, -ECANCELED, 0);
		EXPECT_EQ(0, raise(SIGUSR1));
		EXPECT_SILENT(&r);
		empty(fd);
		ring_exit(&r);
	}
}

TEST_F(files, inotify)
{
	char dir[] = "/tmp/level_files.XXXXXX";
	int fd = inotify_init1(IN_NONBLOCK);

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_LE(0, inotify_add_watch(fd, dir, IN_DELETE_SELF));
	WATCH(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, rmdir(dir));
	EXPECT_STATE(fd, POLLIN);
	EXPECT_AGREE();
	empty(fd);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, pidfd)
{
	pid_t child = fork();
	int fd;

	ASSERT_LE(0, child);
	if (!child)
		for (;;)
			pause();
	fd = syscall(__NR_pidfd_open, child, 0);
	ASSERT_LE(0, fd);
	WATCH(fd);
	EXPECT_AGREE();
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_STATE(fd, POLLIN);
	EXPECT_AGREE();
	EXPECT_EQ(child, waitpid(child, NULL, 0));
	EXPECT_AGREE();
	EXPECT_END();
}

/*
 * Terminals
 */

TEST_F(files, pty)
{
	int master, slave;

	ASSERT_EQ(0, openpty(&master, &slave, NULL, NULL, NULL));
	WATCH(master);
	WATCH(slave);
	EXPECT_AGREE();
	EXPECT_EQ(2, write(master, "x\n", 2));
	EXPECT_STATE(slave, POLLIN);
	EXPECT_STATE(master, POLLIN);	/* the echo */
	EXPECT_AGREE();
	empty(slave);
	empty(master);
	EXPECT_AGREE();
	EXPECT_EQ(1, write(slave, "x", 1));
	EXPECT_STATE(master, POLLIN);
	EXPECT_AGREE();
	EXPECT_EQ(0, close(slave));
	EXPECT_STATE(master, POLLHUP);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, pty_hangup)
{
	int master, slave, copy;

	ASSERT_EQ(0, openpty(&master, &slave, NULL, NULL, NULL));
	WATCH(slave);
	EXPECT_AGREE();
	EXPECT_EQ(0, close(master));
	EXPECT_STATE(slave, POLLHUP);
	EXPECT_AGREE();
	/* this one offers no wait queue */
	copy = dup(slave);
	ASSERT_LE(0, copy);
	WATCH(copy);
	EXPECT_AGREE();
	EXPECT_END();
}

/*
 * Files that poll others, see level_nested_test.c
 */

TEST_F(files, epoll)
{
	struct epoll_event e = { .events = EPOLLIN };
	int fd = epoll_create1(0), p[2];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe(p));
	WATCH(fd);
	EXPECT_AGREE();
	ASSERT_EQ(0, epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &e));
	EXPECT_AGREE();
	EXPECT_EQ(1, write(p[1], "x", 1));
	EXPECT_AGREE();
	EXPECT_EQ(1, epoll_wait(fd, &e, 1, 0));
	EXPECT_AGREE();
	empty(p[0]);
	EXPECT_AGREE();
	EXPECT_END();
}

TEST_F(files, ring)
{
	const struct ring_opts opts = {};
	struct io_uring_cqe cqe;
	struct ring r;

	ASSERT_EQ(0, ring_init(&r, &opts));
	WATCH(r.fd);
	EXPECT_AGREE();
	prep_nop(ring_sqe(&r), 0);
	ASSERT_EQ(1, ring_submit(&r));
	EXPECT_AGREE();
	EXPECT_TRUE(ring_pop(&r, &cqe));
	EXPECT_AGREE();
	ring_unmap(&r);
	EXPECT_END();
}

/*
 * Files that cannot be polled
 */

FIXTURE(refused)
{
	struct watches w;
	int fd;
};

FIXTURE_VARIANT(refused)
{
	const char *path;
	int flags;
	int error;
};

FIXTURE_VARIANT_ADD(refused, regular) {
	.path = "/proc/self/exe",
	.flags = O_RDONLY,
	.error = -EPERM,
};

FIXTURE_VARIANT_ADD(refused, directory) {
	.path = "/",
	.flags = O_RDONLY,
	.error = -EPERM,
};

FIXTURE_VARIANT_ADD(refused, dev_null) {
	.path = "/dev/null",
	.flags = O_RDWR,
	.error = -EPERM,
};

FIXTURE_VARIANT_ADD(refused, dev_zero) {
	.path = "/dev/zero",
	.flags = O_RDWR,
	.error = -EPERM,
};

FIXTURE_VARIANT_ADD(refused, path) {
	.path = "/dev/null",
	.flags = O_PATH,
	.error = -EBADF,
};

FIXTURE_SETUP(refused)
{
	const struct ring_opts opts = {};

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&self->w.ring, &opts));
	self->w.ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, self->w.ep);
	self->fd = open(variant->path, variant->flags);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(refused)
{
	ring_exit(&self->w.ring);
}

TEST_F(refused, error)
{
	static const __u32 mask[] = { 0, EPOLLIN, EPOLLIN | EPOLLOUT };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mask); i++)
		EXPECT_EQ(variant->error, watch(&self->w, self->fd, mask[i]));
	EXPECT_SILENT(&self->w.ring);
}

TEST_F(refused, closed)
{
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(-EBADF, watch(&self->w, self->fd, EPOLLIN));
	EXPECT_SILENT(&self->w.ring);
}

TEST_HARNESS_MAIN
