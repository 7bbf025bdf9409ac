// SPDX-License-Identifier: GPL-2.0
/*
 * How a level triggered poll is asked for, which mistakes are refused, what it
 * does together with other features of a ring, and where it shows up
 */
#include <fcntl.h>
#include <linux/io_uring/query.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kselftest_harness.h"
#include "files.h"
#include "ring_fixture.h"
#include "sleeper.h"

/* The whole of a file in /proc or tracefs, false if there isn't any. */
static bool read_all(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	while ((n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	close(fd);
	buf[len] = 0;
	return true;
}

static const struct {
	const char *what;
	unsigned int flags;
	unsigned int sqe_flags;
	__u32 events;
	__u64 off;
	__u64 addr;
	__u16 buf_index;
} refused[] = {
	{ "level without multi", .flags = IORING_POLL_ADD_LEVEL, },
	{ "a CQE that is skipped", .flags = POLL_LEVEL,
	  .sqe_flags = IOSQE_CQE_SKIP_SUCCESS },
	{ "update of events",
	  .flags = POLL_LEVEL | IORING_POLL_UPDATE_EVENTS },
	{ "update of user data",
	  .flags = POLL_LEVEL | IORING_POLL_UPDATE_USER_DATA },
	{ "unknown flag", .flags = POLL_LEVEL | 1U << 5 },
	{ "last flag", .flags = POLL_LEVEL | 1U << 31 },
	{ "edge triggered", .flags = POLL_LEVEL, .events = EPOLLET },
	{ "one-shot", .flags = POLL_LEVEL, .events = EPOLLONESHOT },
	{ "exclusive", .flags = POLL_LEVEL, .events = EPOLLEXCLUSIVE },
	{ "offset", .flags = POLL_LEVEL, .off = 1 },
	{ "address", .flags = POLL_LEVEL, .addr = 1 },
	{ "buffer", .flags = POLL_LEVEL, .buf_index = 1 },
};

/* The file is ready, it would be reported if it weren't refused. */
TEST_F(ring, refused)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe;
	unsigned int i;

	feed(self->pipe[1]);
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		sqe = ring_sqe(r);
		prep_poll(sqe, self->pipe[0], EPOLLIN | refused[i].events,
			  refused[i].flags, i);
		sqe->flags = refused[i].sqe_flags;
		sqe->off = refused[i].off;
		sqe->addr = refused[i].addr;
		sqe->buf_index = refused[i].buf_index;
		ASSERT_EQ(1, ring_submit(r));
		EXPECT_EQ(1, ring_harvest_count(r)) {
			TH_LOG("%s", refused[i].what);
		}
		EXPECT_CQE(r, i, -EINVAL, 0);
	}
	EXPECT_SILENT(r);
}

TEST_F(ring, bad_fd)
{
	struct ring *r = &self->ring;
	const int fds[] = { -1, 100000 };
	struct io_uring_sqe *sqe;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_EQ(1, ring_arm(r, fds[i], EPOLLIN, 1));
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_CQE(r, 1, -EBADF, 0);
	}
	sqe = ring_sqe(r);
	prep_level(sqe, 0, EPOLLIN, 2);
	sqe->flags = IOSQE_FIXED_FILE;
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_CQE(r, 2, -EBADF, 0);
	EXPECT_SILENT(r);
}

/* As with epoll: there's nothing that could tell when that changes. */
TEST_F(ring, not_pollable)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe;
	int fds[3];
	unsigned int i;

	fds[0] = memfd_create("level", MFD_CLOEXEC);
	fds[1] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(1, ring_arm(r, fds[i], EPOLLIN, i));
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_CQE(r, i, -EPERM, 0);

		sqe = ring_sqe(r);
		prep_level(sqe, fds[i], EPOLLIN, i);
		sqe->flags = IOSQE_ASYNC;
		ASSERT_EQ(1, ring_submit(r));
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_CQE(r, i, -EPERM, 0);
	}
	EXPECT_SILENT(r);
}

TEST(iopoll_ring)
{
	struct ring r;
	int p[2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &(struct ring_opts) {
				       .flags = IORING_SETUP_IOPOLL }));
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(&r, p[0], EPOLLIN, 1));
	EXPECT_CQE(&r, 1, -EINVAL, 0);
	ring_exit(&r);
}

TEST(query)
{
	struct io_uring_query_opcode op = {};
	struct io_uring_query_hdr hdr = {
		.query_data = (uintptr_t)&op,
		.query_op = IO_URING_QUERY_OPCODES,
		.size = sizeof(op),
	};

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, sys_io_uring_register(-1, IORING_REGISTER_QUERY, &hdr, 0));
	ASSERT_EQ(0, hdr.result);
	EXPECT_TRUE(!!(op.feature_flags & IORING_FEAT_POLL_LEVEL));
	EXPECT_LT(IORING_REGISTER_POLL_LEVEL, (int)op.nr_register_opcodes);
}

/* Armed by a worker, unless that has been inline all the same */
TEST_F(ring, async)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe = ring_sqe(r);
	int i;

	feed(self->pipe[1]);
	prep_level(sqe, self->pipe[0], EPOLLIN, 1);
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, ring_submit(r));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_EQ(1U, ring_cq_count(r));
		EXPECT_LEVEL(r, 1, EPOLLIN);
	}
	drain(self->pipe[0]);
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

TEST_F(ring, fixed_file)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe = ring_sqe(r);
	int i;

	ASSERT_EQ(0, sys_io_uring_register(r->fd, IORING_REGISTER_FILES,
					   self->pipe, 2));
	/* the slot keeps it */
	ASSERT_EQ(0, close(self->pipe[0]));
	prep_level(sqe, 0, EPOLLIN, 1);
	sqe->flags = IOSQE_FIXED_FILE;
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 1, EPOLLIN);
	}
}

TEST_F(ring, registered_ring_fd)
{
	struct io_uring_rsrc_update upd = { .offset = -1U };
	struct ring *r = &self->ring;

	upd.data = r->fd;
	ASSERT_EQ(1, sys_io_uring_register(r->fd, IORING_REGISTER_RING_FDS,
					   &upd, 1));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	feed(self->pipe[1]);
	EXPECT_EQ(0, sys_io_uring_enter(upd.offset, 0, 1,
					IORING_ENTER_GETEVENTS |
					IORING_ENTER_REGISTERED_RING, NULL, 0));
	EXPECT_EQ(1U, ring_cq_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

/* Submit and wait, the kernel tells how much it has consumed */
TEST_F(ring, submit_and_wait)
{
	struct ring *r = &self->ring;

	feed(self->pipe[1]);
	prep_level(ring_sqe(r), self->pipe[0], EPOLLIN, 1);
	ring_store(r->sq_tail, r->sqe_tail);
	EXPECT_EQ(1, sys_io_uring_enter(r->fd, 1, 1,
					IORING_ENTER_GETEVENTS |
					IORING_ENTER_SQ_WAKEUP, NULL, 0));
	EXPECT_EQ(1U, ring_cq_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

/* It's the end of the poll that the next one waits for, not a CQE. */
static void link_next(struct __test_metadata *_metadata, struct ring *r,
		      int *p, unsigned int flag, int res)
{
	struct io_uring_sqe *sqe = ring_sqe(r);
	struct io_uring_cqe cqe;
	unsigned int seen = 0;
	int i;

	prep_level(sqe, p[0], EPOLLIN, 0);
	sqe->flags = flag;
	prep_nop(ring_sqe(r), 1);
	ASSERT_EQ(2, ring_submit(r));
	EXPECT_SILENT(r);
	feed(p[1]);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 0, EPOLLIN);
	}
	drain(p[0]);
	EXPECT_SILENT(r);

	prep_poll_remove(ring_sqe(r), 0, 2);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 3));
	for (i = 0; i < 3; i++) {
		const int expected[] = { -ECANCELED, res, 0 };

		ASSERT_TRUE(ring_pop(r, &cqe));
		ASSERT_GT(3U, cqe.user_data);
		seen |= 1U << cqe.user_data;
		EXPECT_EQ(expected[cqe.user_data], cqe.res);
		EXPECT_EQ(0U, cqe.flags);
	}
	EXPECT_EQ(7U, seen);
	EXPECT_SILENT(r);
}

TEST_F(ring, link_to_next)
{
	link_next(_metadata, &self->ring, self->pipe, IOSQE_IO_LINK,
		  -ECANCELED);
}

TEST_F(ring, hardlink_to_next)
{
	link_next(_metadata, &self->ring, self->pipe, IOSQE_IO_HARDLINK, 0);
}

TEST_F(ring, linked_behind)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe = ring_sqe(r);

	feed(self->pipe[1]);
	prep_nop(sqe, 1);
	sqe->flags = IOSQE_IO_LINK;
	prep_level(ring_sqe(r), self->pipe[0], EPOLLIN, 2);
	ASSERT_EQ(2, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_CQE(r, 1, 0, 0);
	EXPECT_LEVEL(r, 2, EPOLLIN);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

/* One that fails to be armed fails the link. */
TEST_F(ring, link_broken)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe = ring_sqe(r);

	prep_level(sqe, -1, EPOLLIN, 1);
	sqe->flags = IOSQE_IO_LINK;
	prep_nop(ring_sqe(r), 2);
	ASSERT_EQ(2, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_CQE(r, 1, -EBADF, 0);
	EXPECT_CQE(r, 2, -ECANCELED, 0);
}

TEST_F(ring, drain_behind_others)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	feed(self->pipe[1]);
	prep_poll(ring_sqe(r), p[0], EPOLLIN, 0, 1);
	sqe = ring_sqe(r);
	prep_level(sqe, self->pipe[0], EPOLLIN, 2);
	sqe->flags = IOSQE_IO_DRAIN;
	ASSERT_EQ(2, ring_submit(r));
	EXPECT_SILENT(r);
	feed(p[1]);
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_CQE(r, 1, EPOLLIN, 0);
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

/* Armed is pending: what drains the ring runs once the poll has ended. */
TEST_F(ring, drain_behind_it)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe;

	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	sqe = ring_sqe(r);
	prep_nop(sqe, 2);
	sqe->flags = IOSQE_IO_DRAIN;
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_SILENT(r);
	feed(self->pipe[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
	ASSERT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(r, 2));
	EXPECT_CQE(r, 1, -ECANCELED, 0);
	EXPECT_CQE(r, 2, 0, 0);

	/* and goes on */
	prep_nop(ring_sqe(r), 3);
	ASSERT_EQ(1, ring_submit(r));
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_CQE(r, 3, 0, 0);
}

static bool fdinfo_has(struct ring *r, const char *what)
{
	char buf[16384];

	return ring_fdinfo(r, buf, sizeof(buf)) && strstr(buf, what);
}

TEST(fdinfo)
{
	struct ring r;
	int p[2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &(struct ring_opts){}));
	if (!fdinfo_has(&r, "SqMask:"))
		SKIP(return, "no fdinfo");
	EXPECT_TRUE(fdinfo_has(&r, "PollLevelMax:\t0\n"));
	ASSERT_EQ(0, ring_set_cap(&r, 3));
	EXPECT_TRUE(fdinfo_has(&r, "PollLevelMax:\t3\n"));

	ASSERT_EQ(0, pipe(p));
	prep_poll(ring_sqe(&r), p[1], EPOLLPRI, IORING_POLL_ADD_MULTI, 1);
	ASSERT_EQ(1, ring_submit(&r));
	EXPECT_TRUE(fdinfo_has(&r, "  op=6, task_works=0\n"));
	EXPECT_FALSE(fdinfo_has(&r, "level="));

	ASSERT_EQ(1, ring_arm(&r, p[0], EPOLLIN, 2));
	EXPECT_TRUE(fdinfo_has(&r, "op=6"));
	EXPECT_TRUE(fdinfo_has(&r, "level=idle, events=19\n"));
	feed(p[1]);
	EXPECT_TRUE(fdinfo_has(&r, "level=listed, events=19\n"));
	EXPECT_EQ(1, ring_harvest_count(&r));
	EXPECT_TRUE(fdinfo_has(&r, "level=listed, events=19\n"));
	EXPECT_LEVEL(&r, 2, EPOLLIN);
	drain(p[0]);
	EXPECT_SILENT(&r);
	EXPECT_TRUE(fdinfo_has(&r, "level=idle, events=19\n"));
	close(p[0]);
	EXPECT_EQ(0, ring_wait(&r, 1));
	EXPECT_CQE(&r, 2, -ECANCELED, 0);
	EXPECT_FALSE(fdinfo_has(&r, "level="));
	ring_exit(&r);
}

/* A worker arms it, of a fixed file: the task has yet to attach it. */
TEST(fdinfo_arming)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
	};
	struct io_uring_sqe *sqe;
	struct ring r;
	int p[2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &opts));
	if (!fdinfo_has(&r, "SqMask:"))
		SKIP(return, "no fdinfo");
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, sys_io_uring_register(r.fd, IORING_REGISTER_FILES, p, 1));
	sqe = ring_sqe(&r);
	prep_poll(sqe, 0, EPOLLIN, POLL_LEVEL, 1);
	sqe->flags = IOSQE_ASYNC | IOSQE_FIXED_FILE;
	ASSERT_EQ(1, ring_submit(&r));
	while (!fdinfo_has(&r, "level="))
		sched_yield();
	EXPECT_TRUE(fdinfo_has(&r, "level=arming, events=19\n"));
	EXPECT_SILENT(&r);
	EXPECT_TRUE(fdinfo_has(&r, "level=idle, events=19\n"));
	ring_exit(&r);
}

#define TRACEFS		"/sys/kernel/tracing"
#define TRACE_INSTANCE	TRACEFS "/instances/io_uring_level_test"

static bool trace_enable(const char *event)
{
	char path[256];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), TRACE_INSTANCE "/events/io_uring/%s/enable",
		 event);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, "1", 1) == 1;
	close(fd);
	return ok;
}

/* to truncate it is to clear it */
static bool trace_clear(void)
{
	return !close(open(TRACE_INSTANCE "/trace",
			   O_WRONLY | O_TRUNC | O_CLOEXEC));
}

/* How often was that event seen? Less than 0 if there is no telling. */
static int trace_count(const char *event, char *buf, size_t size)
{
	int n = 0;
	char *s;

	if (!read_all(TRACE_INSTANCE "/trace", buf, size))
		return -1;
	for (s = buf; (s = strstr(s, event)); s++)
		n++;
	return n;
}

#define HARVEST		"io_uring_poll_level_harvest"

FIXTURE(trace)
{
	struct ring ring;
	char buf[65536];
};

FIXTURE_SETUP(trace)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	/* it may well be there already */
	mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	if (access(TRACEFS "/events/io_uring/io_uring_create", F_OK))
		SKIP(return, "no access to tracefs, or no events there");
	rmdir(TRACE_INSTANCE);
	ASSERT_EQ(0, mkdir(TRACE_INSTANCE, 0700));
	ASSERT_EQ(0, ring_init(&self->ring, &(struct ring_opts){}));
}

FIXTURE_TEARDOWN(trace)
{
	ring_exit(&self->ring);
	rmdir(TRACE_INSTANCE);
}

TEST_F(trace, harvest)
{
	struct ring *r = &self->ring;
	int p[2];

	ASSERT_TRUE(trace_enable(HARVEST));
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(r, p[0], EPOLLIN, 1));
	feed(p[1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LT(0, trace_count(HARVEST ": ", self->buf, sizeof(self->buf)));
}

TEST_F(trace, close)
{
	struct ring *r = &self->ring;
	int p[2];

	ASSERT_TRUE(trace_enable("io_uring_poll_close"));
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(1, ring_arm(r, p[0], EPOLLIN, 1));
	ASSERT_EQ(0, close(p[0]));
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_CQE(r, 1, -ECANCELED, 0);
	EXPECT_EQ(1, trace_count("io_uring_poll_close: ", self->buf,
				 sizeof(self->buf)));
}

/*
 * Polls are woken all the time. A wait whose time is over looks at them at the
 * beginning, if it's woken instead of going to sleep, and at the end: twice, or three
 * times now and then. One that goes on does so a hundred times in some of the rounds.
 */
TEST_F(trace, timeout_among_wake_ups)
{
	struct ring *r = &self->ring;
	unsigned int i;
	struct busy b;
	int looks;

	ASSERT_TRUE(trace_enable(HARVEST));
	b = (struct busy) { .fd = inotify_init1(IN_CLOEXEC) };
	ASSERT_LT(0, inotify_add_watch(b.fd, "/proc/self/exe", IN_OPEN));
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(1, ring_arm(r, b.fd, EPOLLPRI, i));
	ASSERT_EQ(0, pthread_create(&b.thread, NULL, touch_thread, &b));
	for (i = 0; i < 200; i++) {
		ASSERT_TRUE(trace_clear());
		ASSERT_EQ(-ETIME, ring_wait_ms(r, 1, 0));
		looks = trace_count(HARVEST ": ", self->buf, sizeof(self->buf));
		EXPECT_LT(0, looks);
		EXPECT_GE(10, looks);
	}
	busy_end(&b);
}

/*
 * A ring that polls itself is woken by its own CQEs, the last time when the one before
 * was told in the same jiffy. Who waits finds that there is nothing, once or twice, and
 * not in each jiffy.
 */
TEST_F(trace, asleep_on_itself)
{
	const int times = 10;
	struct ring *r = &self->ring;
	struct io_uring_cqe cqe;
	int i, k, looks;

	ASSERT_TRUE(trace_enable(HARVEST));
	ASSERT_EQ(1, ring_arm(r, r->fd, EPOLLIN, 1));
	for (i = 0; i < 20; i++) {
		/* before, as it takes several jiffies */
		ASSERT_TRUE(trace_clear());
		for (k = 0; k < times; k++) {
			prep_nop(ring_sqe(r), 2);
			ASSERT_EQ(1, ring_submit(r));
			while (ring_pop(r, &cqe))
				EXPECT_EQ(2U, cqe.user_data);
			EXPECT_EQ(0, ring_harvest_count(r));
		}
		EXPECT_EQ(-ETIME, ring_wait_ms(r, 1, 200));
		EXPECT_EQ(0U, ring_cq_count(r));
		looks = trace_count(HARVEST ": ", self->buf, sizeof(self->buf));
		EXPECT_LE(times, looks);
		EXPECT_GE(times + 5, looks);
	}
}

/* A ring that polls busily for a moment, before it sleeps */
TEST_F(ring, napi)
{
	const int strategy[] = {
		IO_URING_NAPI_TRACKING_DYNAMIC,
		IO_URING_NAPI_TRACKING_STATIC,
	};
	struct ring *r = &self->ring;
	struct sleeper s;
	unsigned int i;
	int sv[2];

	ASSERT_EQ(0, tcp_pair(sv));
	ASSERT_EQ(1, ring_arm(r, sv[0], EPOLLIN, 1));
	for (i = 0; i < ARRAY_SIZE(strategy); i++) {
		struct io_uring_napi napi = {
			.busy_poll_to = 100,
			.op_param = strategy[i],
		};
		int ret;

		ret = sys_io_uring_register(r->fd, IORING_REGISTER_NAPI, &napi,
					    1);
		if (ret == -EINVAL)
			SKIP(return, "no CONFIG_NET_RX_BUSY_POLL");
		ASSERT_EQ(0, ret);

		EXPECT_EQ(-ETIME, ring_wait_ms(r, 1, 5));
		ASSERT_EQ(0, sleeper_start(&s, sv[1]));
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_EQ(1, sleeper_join(&s));
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 1, EPOLLIN);
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_LEVEL(r, 1, EPOLLIN);
		drain(sv[0]);
		EXPECT_SILENT(r);
	}
	ASSERT_EQ(0, close(sv[0]));
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_CQE(r, 1, -ECANCELED, 0);
}

TEST_HARNESS_MAIN
