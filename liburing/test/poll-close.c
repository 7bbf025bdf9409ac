/* SPDX-License-Identifier: MIT */
/*
 * Description: IORING_POLL_CANCEL_ON_CLOSE for polls that are one-shot or edge
 *		triggered: the last close of the file ends them, once, and the
 *		other end gets to know.
 *
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "liburing.h"
#include "helpers.h"

/* user_data of what isn't a poll */
#define OTHER		1000

#define NR_POLLS	4

static const unsigned kinds[] = {
	0,
	IORING_SETUP_COOP_TASKRUN,
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	IORING_SETUP_SQPOLL,
};

#define ONESHOT		IORING_POLL_CANCEL_ON_CLOSE
#define EDGE		(IORING_POLL_CANCEL_ON_CLOSE | IORING_POLL_ADD_MULTI)

#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "%s:%d: %s\n", __func__,	\
				__LINE__, #cond);			\
			return T_EXIT_FAIL;				\
		}							\
	} while (0)

static bool feed(int fd)
{
	return write(fd, "x", 1) == 1;
}

/* Returns if all SQEs have been issued, also those of a SQ thread. */
static bool submit(struct io_uring *ring)
{
	if (io_uring_submit(ring) < 0)
		return false;
	while (io_uring_sq_ready(ring))
		sched_yield();
	return true;
}

static bool arm(struct io_uring *ring, unsigned flags, int fd, unsigned mask,
		__u64 user_data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_poll_add(sqe, fd, mask);
	sqe->len |= flags;
	sqe->user_data = user_data;
	return submit(ring);
}

/* No CQE, and there won't be one. */
static bool silent(struct io_uring *ring)
{
	return !io_uring_get_events(ring) && !io_uring_cq_ready(ring);
}

static bool next_cqe(struct io_uring *ring, struct io_uring_cqe *to)
{
	struct __kernel_timespec ts = { .tv_sec = 10 };
	struct io_uring_cqe *cqe;
	int ret;

	ret = io_uring_wait_cqe_timeout(ring, &cqe, &ts);
	if (ret) {
		fprintf(stderr, "wait: %d\n", ret);
		return false;
	}
	*to = *cqe;
	io_uring_cqe_seen(ring, cqe);
	return true;
}

/* The next CQE is that one, it's consumed. */
static bool next_is(struct io_uring *ring, __u64 user_data, int res,
		    unsigned flags)
{
	struct io_uring_cqe cqe;

	if (!next_cqe(ring, &cqe))
		return false;
	if (cqe.user_data == user_data && cqe.res == res && cqe.flags == flags)
		return true;
	fprintf(stderr, "CQE of %llu: %d, %x, expected %llu: %d, %x\n",
		(unsigned long long) cqe.user_data, cqe.res, cqe.flags,
		(unsigned long long) user_data, res, flags);
	return false;
}

static bool closed(struct io_uring *ring, __u64 user_data)
{
	return next_is(ring, user_data, -ECANCELED, 0) && silent(ring);
}

/* An event. It ends a poll that is one-shot. */
static bool event(struct io_uring *ring, unsigned flags, __u64 user_data)
{
	return next_is(ring, user_data, POLLIN,
		       flags == EDGE ? IORING_CQE_F_MORE : 0);
}

/* The read end of the pipe has been released. */
static bool peer_knows(int fd, int timeout)
{
	struct pollfd pfd = { .fd = fd };

	return poll(&pfd, 1, timeout) == 1 && (pfd.revents & POLLERR);
}

/* What the flag is about: without it, nothing happens. */
static int test_held(struct io_uring *ring, unsigned flags)
{
	struct io_uring_sqe *sqe;
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags & ~IORING_POLL_CANCEL_ON_CLOSE, p[0], POLLIN, 1));
	close(p[0]);
	CHECK(silent(ring));
	CHECK(!peer_knows(p[1], 0));
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_poll_remove(sqe, 1);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	CHECK(submit(ring));
	CHECK(closed(ring, 1));
	close(p[1]);
	return T_EXIT_PASS;
}

/* Nobody enters the kernel before the other end gets to know. */
static int test_idle(struct io_uring *ring, unsigned flags)
{
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	CHECK(silent(ring));
	close(p[0]);
	CHECK(peer_knows(p[1], 10000));
	CHECK(closed(ring, 1));
	close(p[1]);
	return T_EXIT_PASS;
}

static int test_copy(struct io_uring *ring, unsigned flags)
{
	int copy, p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	copy = dup(p[0]);
	CHECK(copy >= 0);
	close(p[0]);
	CHECK(silent(ring));
	close(copy);
	CHECK(closed(ring, 1));
	close(p[1]);
	return T_EXIT_PASS;
}

/* What has been posted stays. */
static int test_event_before(struct io_uring *ring, unsigned flags)
{
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	CHECK(feed(p[1]));
	CHECK(event(ring, flags, 1));
	close(p[0]);
	if (flags == EDGE)
		CHECK(closed(ring, 1));
	else
		CHECK(silent(ring));
	close(p[1]);
	return T_EXIT_PASS;
}

/* Its event may be posted or not, but there's one last CQE. */
static int test_event_amid(struct io_uring *ring, unsigned flags)
{
	struct io_uring_cqe cqe;
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	CHECK(feed(p[1]));
	close(p[0]);
	CHECK(next_cqe(ring, &cqe));
	if (flags == EDGE && cqe.flags) {
		CHECK(cqe.flags == IORING_CQE_F_MORE && cqe.res == POLLIN);
		CHECK(next_cqe(ring, &cqe));
	}
	CHECK(!cqe.flags);
	CHECK(cqe.res == -ECANCELED || (cqe.res == POLLIN && flags != EDGE));
	CHECK(silent(ring));
	CHECK(peer_knows(p[1], 10000));
	close(p[1]);
	return T_EXIT_PASS;
}

static int test_several(struct io_uring *ring, unsigned flags)
{
	struct io_uring_cqe cqe;
	unsigned seen = 0;
	int i, p[2];

	CHECK(!pipe(p));
	for (i = 0; i < NR_POLLS; i++)
		CHECK(arm(ring, flags, p[0], POLLIN, i));
	close(p[0]);
	for (i = 0; i < NR_POLLS; i++) {
		CHECK(next_cqe(ring, &cqe));
		CHECK(cqe.res == -ECANCELED && !cqe.flags);
		CHECK(cqe.user_data < NR_POLLS);
		seen |= 1U << cqe.user_data;
	}
	CHECK(seen == (1U << NR_POLLS) - 1);
	CHECK(silent(ring));
	close(p[1]);
	return T_EXIT_PASS;
}

/* The number is that of another file, which isn't what was closed. */
static int test_fd_reuse(struct io_uring *ring, unsigned flags)
{
	int p[2], other[2];

	CHECK(!pipe(p));
	CHECK(!pipe(other));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	CHECK(dup2(other[0], p[0]) == p[0]);
	CHECK(arm(ring, flags, p[0], POLLIN, 2));
	CHECK(closed(ring, 1));
	CHECK(feed(other[1]));
	CHECK(event(ring, flags, 2));
	close(p[0]);
	close(p[1]);
	CHECK(silent(ring));
	close(other[0]);
	if (flags == EDGE)
		CHECK(closed(ring, 2));
	close(other[1]);
	return T_EXIT_PASS;
}

static int test_close_request(struct io_uring *ring, unsigned flags)
{
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	unsigned i, seen = 0;
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_close(sqe, p[0]);
	sqe->user_data = OTHER;
	CHECK(submit(ring));
	for (i = 0; i < 2; i++) {
		CHECK(next_cqe(ring, &cqe));
		CHECK(cqe.res == (cqe.user_data == OTHER ? 0 : -ECANCELED));
		CHECK(!cqe.flags);
		seen |= cqe.user_data == OTHER ? 1 : 2;
	}
	CHECK(seen == 3);
	CHECK(silent(ring));
	close(p[1]);
	return T_EXIT_PASS;
}

/* The slot keeps it open. */
static int test_fixed_file(struct io_uring *ring, unsigned flags)
{
	struct io_uring_sqe *sqe;
	int none = -1, p[2];

	CHECK(!pipe(p));
	CHECK(!io_uring_register_files(ring, p, 1));
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_poll_add(sqe, 0, POLLIN);
	sqe->len |= flags;
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = 1;
	CHECK(submit(ring));
	close(p[0]);
	CHECK(silent(ring));
	CHECK(io_uring_register_files_update(ring, 0, &none, 1) == 1);
	CHECK(closed(ring, 1));
	CHECK(!io_uring_unregister_files(ring));
	close(p[1]);
	return T_EXIT_PASS;
}

/* An update leaves it as it is, and can't ask for it either. */
static int test_update(struct io_uring *ring, unsigned flags)
{
	struct io_uring_sqe *sqe;
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLPRI, 1));
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_poll_update(sqe, 1, 2, POLLIN,
				  IORING_POLL_UPDATE_EVENTS |
				  IORING_POLL_UPDATE_USER_DATA |
				  (flags & IORING_POLL_ADD_MULTI));
	sqe->user_data = OTHER;
	CHECK(submit(ring));
	CHECK(next_is(ring, OTHER, 0, 0));
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_poll_update(sqe, 2, 3, 0, IORING_POLL_UPDATE_USER_DATA |
						IORING_POLL_CANCEL_ON_CLOSE);
	sqe->user_data = OTHER;
	CHECK(submit(ring));
	CHECK(next_is(ring, OTHER, -EINVAL, 0));
	close(p[0]);
	CHECK(peer_knows(p[1], 10000));
	CHECK(closed(ring, 2));
	close(p[1]);
	return T_EXIT_PASS;
}

static void *close_later(void *arg)
{
	int *fd = arg;

	usleep(50000);
	close(*fd);
	return NULL;
}

static int test_wait(struct io_uring *ring, unsigned flags)
{
	struct io_uring_cqe *cqe;
	pthread_t thread;
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, flags, p[0], POLLIN, 1));
	CHECK(!pthread_create(&thread, NULL, close_later, &p[0]));
	CHECK(!io_uring_wait_cqe(ring, &cqe));
	CHECK(closed(ring, 1));
	CHECK(!pthread_join(thread, NULL));
	close(p[1]);
	return T_EXIT_PASS;
}

static int (* const tests[])(struct io_uring *ring, unsigned flags) = {
	test_held,
	test_idle,
	test_copy,
	test_event_before,
	test_event_amid,
	test_several,
	test_fd_reuse,
	test_close_request,
	test_fixed_file,
	test_update,
	test_wait,
};

static int test_kind(unsigned ring_flags, unsigned flags)
{
	unsigned i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		struct io_uring ring;

		ret = t_create_ring(16, &ring, ring_flags);
		if (ret == T_SETUP_SKIP)
			return T_EXIT_SKIP;
		CHECK(ret == T_SETUP_OK);
		ret = tests[i](&ring, flags);
		io_uring_queue_exit(&ring);
		if (ret)
			return ret;
	}
	return T_EXIT_PASS;
}

/* Without the feature bit, it is to be refused. */
static int test_unsupported(struct io_uring *ring)
{
	int p[2];

	CHECK(!pipe(p));
	CHECK(arm(ring, ONESHOT, p[0], POLLIN, 1));
	CHECK(next_is(ring, 1, -EINVAL, 0));
	CHECK(arm(ring, EDGE, p[0], POLLIN, 2));
	CHECK(next_is(ring, 2, -EINVAL, 0));
	close(p[0]);
	close(p[1]);
	return T_EXIT_SKIP;
}

int main(int argc, char *argv[])
{
	struct io_uring ring;
	unsigned i;
	int ret;

	if (argc > 1)
		return T_EXIT_SKIP;

	CHECK(t_create_ring(4, &ring, 0) == T_SETUP_OK);
	if (!(ring.features & IORING_FEAT_POLL_CANCEL_ON_CLOSE))
		return test_unsupported(&ring);
	io_uring_queue_exit(&ring);

	for (i = 0; i < 2 * ARRAY_SIZE(kinds); i++) {
		unsigned kind = kinds[i / 2], flags = i % 2 ? EDGE : ONESHOT;

		ret = test_kind(kind, flags);
		if (ret && ret != T_EXIT_SKIP) {
			fprintf(stderr, "setup flags %x, poll flags %x\n", kind,
				flags);
			return ret;
		}
	}
	return T_EXIT_PASS;
}
