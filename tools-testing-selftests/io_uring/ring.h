/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rings for the tests, on top of the raw system calls.
 *
 * tools/include/io_uring/mini_liburing.h isn't used: its submit implies
 * IORING_ENTER_GETEVENTS, which is what these tests are about, and it doesn't
 * know all kinds of rings.
 */
#ifndef IO_URING_SELFTEST_RING_H
#define IO_URING_SELFTEST_RING_H

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RING_ENTRIES	32

/*
 * Upper bound for what must happen. It's long, as nothing waits that long
 * unless there's a bug, and debug kernels in an emulator are slow.
 */
#define RING_SOON_MS	20000

struct ring_opts {
	unsigned int flags;		/* IORING_SETUP_* */
	unsigned int sq_entries;	/* 0: RING_ENTRIES */
	unsigned int cq_entries;	/* 0: what the kernel makes of it */
	bool resize;			/* gets that size afterwards */
	bool disabled;			/* is enabled before it's returned */
	bool reg_wait;			/* for ring_wait_reg() */
};

struct ring {
	int fd;
	unsigned int flags;
	unsigned int features;

	unsigned int *sq_head;
	unsigned int *sq_tail;
	unsigned int *sq_flags;
	unsigned int *sq_array;
	unsigned int sq_entries;
	unsigned int sqe_tail;
	struct io_uring_sqe *sqes;

	unsigned int *cq_head;
	unsigned int *cq_tail;
	unsigned int *cq_flags;
	unsigned int *cq_overflow;
	unsigned int cq_entries;
	char *cqes;

	void *map;
	size_t map_len;
	struct io_uring_reg_wait *reg_wait;
};

static inline int sys_io_uring_setup(unsigned int entries,
				     struct io_uring_params *p)
{
	int ret = syscall(__NR_io_uring_setup, entries, p);

	return ret < 0 ? -errno : ret;
}

static inline int sys_io_uring_enter(int fd, unsigned int to_submit,
				     unsigned int min_complete,
				     unsigned int flags, const void *arg,
				     size_t argsz)
{
	int ret = syscall(__NR_io_uring_enter, fd, to_submit, min_complete,
			  flags, arg, argsz);

	return ret < 0 ? -errno : ret;
}

static inline int sys_io_uring_register(int fd, unsigned int opcode,
					const void *arg, unsigned int nr_args)
{
	int ret = syscall(__NR_io_uring_register, fd, opcode, arg, nr_args);

	return ret < 0 ? -errno : ret;
}

#define ring_load(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define ring_store(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)

static inline void ring_unmap(struct ring *r)
{
	munmap(r->map, r->map_len);
	munmap(r->sqes, r->sq_entries * sizeof(*r->sqes));
}

static inline int ring_map(struct ring *r, const struct io_uring_params *p)
{
	size_t cqe_size = sizeof(struct io_uring_cqe);
	size_t sq_len, cq_len;

	if (r->flags & IORING_SETUP_CQE32)
		cqe_size *= 2;
	sq_len = p->sq_off.array + p->sq_entries * sizeof(unsigned int);
	cq_len = p->cq_off.cqes + p->cq_entries * cqe_size;
	if (r->flags & IORING_SETUP_NO_SQARRAY)
		sq_len = 0;
	r->map_len = sq_len > cq_len ? sq_len : cq_len;
	r->map = mmap(NULL, r->map_len, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	if (r->map == MAP_FAILED)
		return -errno;
	r->sqes = mmap(NULL, p->sq_entries * sizeof(*r->sqes),
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		       r->fd, IORING_OFF_SQES);
	if (r->sqes == MAP_FAILED)
		return -errno;

	r->sq_head = r->map + p->sq_off.head;
	r->sq_tail = r->map + p->sq_off.tail;
	r->sq_flags = r->map + p->sq_off.flags;
	r->sq_array = NULL;
	if (!(r->flags & IORING_SETUP_NO_SQARRAY))
		r->sq_array = r->map + p->sq_off.array;
	r->sq_entries = p->sq_entries;
	r->sqe_tail = *r->sq_tail;
	r->cq_head = r->map + p->cq_off.head;
	r->cq_tail = r->map + p->cq_off.tail;
	r->cq_flags = r->map + p->cq_off.flags;
	r->cq_overflow = r->map + p->cq_off.overflow;
	r->cq_entries = p->cq_entries;
	r->cqes = r->map + p->cq_off.cqes;
	return 0;
}

/* Change the size, which takes IORING_SETUP_DEFER_TASKRUN. */
static inline int ring_resize(struct ring *r, unsigned int sq_entries,
			      unsigned int cq_entries)
{
	struct io_uring_params p = {
		.sq_entries = sq_entries,
		.cq_entries = cq_entries,
		.flags = IORING_SETUP_CQSIZE,
	};
	int ret;

	ret = sys_io_uring_register(r->fd, IORING_REGISTER_RESIZE_RINGS, &p, 1);
	if (ret)
		return ret;
	ring_unmap(r);
	return ring_map(r, &p);
}

static inline int ring_enable(struct ring *r)
{
	return sys_io_uring_register(r->fd, IORING_REGISTER_ENABLE_RINGS,
				     NULL, 0);
}

/* For a ring that isn't enabled yet. */
static inline int ring_register_wait(struct ring *r)
{
	struct io_uring_region_desc rd = {
		.size = getpagesize(),
		.flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_mem_region_reg mr = {
		.region_uptr = (uintptr_t)&rd,
		.flags = IORING_MEM_REGION_REG_WAIT_ARG,
	};

	r->reg_wait = mmap(NULL, rd.size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (r->reg_wait == MAP_FAILED)
		return -errno;
	rd.user_addr = (uintptr_t)r->reg_wait;
	return sys_io_uring_register(r->fd, IORING_REGISTER_MEM_REGION, &mr, 1);
}

static unsigned int ring_features;	/* IORING_FEAT_* of the kernel */

/*
 * Before any test is forked. A child finds out, as what's left to do once a ring
 * has been closed interrupts the system calls of those who have used it.
 */
static inline void __attribute__((constructor)) ring_find_features(void)
{
	struct io_uring_params p = {};
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		abort();
	pid = fork();
	if (pid < 0)
		abort();
	if (!pid) {
		if (sys_io_uring_setup(1, &p) < 0)
			p.features = 0;
		_exit(write(fds[1], &p.features, sizeof(p.features)) < 0);
	}
	close(fds[1]);
	if (read(fds[0], &ring_features, sizeof(ring_features)) < 0)
		ring_features = 0;
	close(fds[0]);
	waitpid(pid, NULL, 0);
}

static inline bool ring_has(unsigned int features)
{
	return (ring_features & features) == features;
}

/* Kinds of polls that end with their file, sqe->len of POLL_ADD */
#define POLL_ONESHOT	IORING_POLL_CANCEL_ON_CLOSE
#define POLL_EDGE	(IORING_POLL_CANCEL_ON_CLOSE | IORING_POLL_ADD_MULTI)
#define POLL_LEVEL	(IORING_POLL_ADD_MULTI | IORING_POLL_ADD_LEVEL)

static inline bool ring_has_kind(unsigned int flags)
{
	return ring_has(flags & IORING_POLL_ADD_LEVEL ?
			IORING_FEAT_POLL_LEVEL :
			IORING_FEAT_POLL_CANCEL_ON_CLOSE);
}

/* The kernel has level triggered polls. Not so: SKIP(return, "..."). */
static inline bool ring_supported(void)
{
	return ring_has(IORING_FEAT_POLL_LEVEL);
}

/* A ring that has to be enabled by ring_enable() if IORING_SETUP_R_DISABLED */
static inline int ring_create(struct ring *r, const struct ring_opts *o)
{
	unsigned int sq_entries = o->sq_entries ?: RING_ENTRIES;
	struct io_uring_params p = {
		.flags = o->flags,
		.sq_thread_idle = 100,
	};
	int ret;

	memset(r, 0, sizeof(*r));
	if (o->disabled || o->reg_wait)
		p.flags |= IORING_SETUP_R_DISABLED;
	if (o->cq_entries && !o->resize) {
		p.flags |= IORING_SETUP_CQSIZE;
		p.cq_entries = o->cq_entries;
	}
	r->fd = sys_io_uring_setup(o->resize ? 1 : sq_entries, &p);
	if (r->fd < 0)
		return r->fd;
	r->flags = p.flags;
	r->features = p.features;
	ret = ring_map(r, &p);
	if (!ret && o->reg_wait)
		ret = ring_register_wait(r);
	if (!ret && o->resize)
		ret = ring_resize(r, sq_entries,
				  o->cq_entries ?: 2 * sq_entries);
	return ret;
}

static inline int ring_init(struct ring *r, const struct ring_opts *o)
{
	int ret = ring_create(r, o);

	if (!ret && (r->flags & IORING_SETUP_R_DISABLED))
		ret = ring_enable(r);
	return ret;
}

static inline void ring_exit(struct ring *r)
{
	ring_unmap(r);
	close(r->fd);
}

/* Submission */

static inline struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe;
	unsigned int i = r->sqe_tail & (r->sq_entries - 1);

	if (r->sqe_tail - ring_load(r->sq_head) >= r->sq_entries)
		return NULL;
	sqe = &r->sqes[i];
	memset(sqe, 0, sizeof(*sqe));
	if (r->sq_array)
		r->sq_array[i] = i;
	r->sqe_tail++;
	return sqe;
}

static inline unsigned int ring_to_submit(struct ring *r)
{
	return r->sqe_tail - ring_load(r->sq_head);
}

/*
 * Submit everything, returns the number of SQEs that got consumed. Neither
 * waits nor asks for events. Those of an SQPOLL ring have been issued then too.
 */
static inline int ring_submit(struct ring *r)
{
	unsigned int n = ring_to_submit(r);

	ring_store(r->sq_tail, r->sqe_tail);
	if (!(r->flags & IORING_SETUP_SQPOLL))
		return sys_io_uring_enter(r->fd, n, 0, 0, NULL, 0);

	while (ring_load(r->sq_head) != r->sqe_tail) {
		int ret;

		/* its barrier is what io_uring_enter() has, at the latest */
		ret = sys_io_uring_enter(r->fd, 0, 0, IORING_ENTER_SQ_WAKEUP,
					 NULL, 0);
		if (ret < 0)
			return ret;
		sched_yield();
	}
	return n;
}

/* Waiting */

static inline int ring_enter(struct ring *r, unsigned int min_complete)
{
	return sys_io_uring_enter(r->fd, 0, min_complete,
				  IORING_ENTER_GETEVENTS, NULL, 0);
}

/* Get what's there without waiting. */
static inline int ring_harvest(struct ring *r)
{
	return ring_enter(r, 0);
}

static inline long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static inline struct __kernel_timespec ring_ms(unsigned int ms)
{
	return (struct __kernel_timespec) {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000,
	};
}

/*
 * The kernel looks once more before it returns as time is over, and doesn't tell
 * that it is if there's a CQE. What should have woken it up has got lost then.
 */
static inline int ring_in_time(long long start, unsigned int ms, int ret)
{
	return ms == RING_SOON_MS && now_ms() - start >= ms ? -ETIME : ret;
}

static inline int __ring_wait(struct ring *r, unsigned int min_complete,
			      unsigned int ms, unsigned int min_wait_usec)
{
	struct __kernel_timespec ts = ring_ms(ms);
	struct io_uring_getevents_arg arg = {
		.ts = (uintptr_t)&ts,
		.min_wait_usec = min_wait_usec,
	};
	long long start = now_ms();
	int ret;

	ret = sys_io_uring_enter(r->fd, 0, min_complete,
				 IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
				 &arg, sizeof(arg));
	return ring_in_time(start, ms, ret);
}

/* -ETIME if nothing is there after that time, 0 if there's anything */
static inline int ring_wait_ms(struct ring *r, unsigned int min_complete,
			       unsigned int ms)
{
	return __ring_wait(r, min_complete, ms, 0);
}

/* From that time on, a single one is enough. */
static inline int ring_wait_min(struct ring *r, unsigned int min_complete,
				unsigned int min_wait_usec)
{
	return __ring_wait(r, min_complete, RING_SOON_MS, min_wait_usec);
}

/* Wait for something that has to come. */
static inline int ring_wait(struct ring *r, unsigned int min_complete)
{
	return ring_wait_ms(r, min_complete, RING_SOON_MS);
}

/* With what has been written to r->reg_wait[0]. */
static inline int ring_wait_reg(struct ring *r, unsigned int min_complete)
{
	return sys_io_uring_enter(r->fd, 0, min_complete,
				  IORING_ENTER_GETEVENTS |
				  IORING_ENTER_EXT_ARG |
				  IORING_ENTER_EXT_ARG_REG,
				  NULL, sizeof(struct io_uring_reg_wait));
}

/* Level CQEs: at most cap, 0 for that of the ring. Needs ->reg_wait. */
static inline int ring_wait_cap(struct ring *r, unsigned int min_complete,
				unsigned int ms, unsigned int cap)
{
	long long start = now_ms();

	*r->reg_wait = (struct io_uring_reg_wait) {
		.ts = ring_ms(ms),
		.flags = IORING_REG_WAIT_TS |
			 (cap ? IORING_REG_WAIT_LEVEL_MAX : 0),
		.level_max = cap,
	};
	return ring_in_time(start, ms, ring_wait_reg(r, min_complete));
}

/* The cap of the ring. */
static inline int ring_set_cap(struct ring *r, unsigned int cap)
{
	struct io_uring_poll_level arg = { .max_cqes = cap };

	return sys_io_uring_register(r->fd, IORING_REGISTER_POLL_LEVEL, &arg,
				     1);
}

/* What /proc says about a thread of this process, false if it doesn't */
static inline bool thread_info(pid_t tid, const char *what, char *buf,
			       size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

/*
 * Until that thread of this process sleeps, most likely where it has been told
 * to wait, and isn't about to look once more before it does: it has let go of the
 * processor. Returns false if it doesn't.
 */
static inline bool wait_asleep(pid_t tid)
{
	char stat[256], call[256], *state;
	unsigned int ms;

	for (ms = 0; ms < RING_SOON_MS; ms++) {
		if (!thread_info(tid, "stat", stat, sizeof(stat)))
			return false;
		state = strrchr(stat, ')');
		if (state && state[1] && state[2] == 'S' &&
		    thread_info(tid, "syscall", call, sizeof(call)) &&
		    strcmp(call, "running\n"))
			return true;
		usleep(1000);
	}
	return false;
}

/* Completion */

static inline unsigned int ring_cq_count(struct ring *r)
{
	return ring_load(r->cq_tail) - *r->cq_head;
}

/* Enter the kernel without waiting, the number of unconsumed CQEs after it. */
static inline int ring_harvest_count(struct ring *r)
{
	int ret = ring_harvest(r);

	return ret < 0 ? ret : (int)ring_cq_count(r);
}

static inline struct io_uring_cqe *__ring_cqe(struct ring *r, unsigned int pos)
{
	size_t i = pos & (r->cq_entries - 1);

	if (r->flags & IORING_SETUP_CQE32)
		i *= 2;
	return (struct io_uring_cqe *)(r->cqes + i * sizeof(struct io_uring_cqe));
}

static inline void ring_seen_n(struct ring *r, unsigned int n)
{
	ring_store(r->cq_head, *r->cq_head + n);
}

/* The first unconsumed CQE, or NULL. */
static inline struct io_uring_cqe *ring_peek(struct ring *r)
{
	struct io_uring_cqe *cqe;

	while (ring_cq_count(r)) {
		cqe = __ring_cqe(r, *r->cq_head);
		if (!(cqe->flags & IORING_CQE_F_SKIP))
			return cqe;
		ring_seen_n(r, 1);
	}
	return NULL;
}

static inline void ring_seen(struct ring *r, const struct io_uring_cqe *cqe)
{
	ring_seen_n(r, cqe->flags & IORING_CQE_F_32 ? 2 : 1);
}

/* Copy and consume one. */
static inline bool ring_pop(struct ring *r, struct io_uring_cqe *to)
{
	struct io_uring_cqe *cqe = ring_peek(r);

	if (!cqe)
		return false;
	memcpy(to, cqe, sizeof(*to));
	ring_seen(r, cqe);
	return true;
}

static inline bool ring_taskrun(struct ring *r)
{
	return ring_load(r->sq_flags) & IORING_SQ_TASKRUN;
}

/* There are CQEs that didn't fit. */
static inline bool ring_overflown(struct ring *r)
{
	return ring_load(r->sq_flags) & IORING_SQ_CQ_OVERFLOW;
}

/* Requests */

/* What the kernel expects in poll32_events. */
static inline uint32_t ring_poll_mask(uint32_t mask)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	mask = mask << 16 | mask >> 16;
#endif
	return mask;
}

static inline void prep_poll(struct io_uring_sqe *sqe, int fd, uint32_t mask,
			     unsigned int flags, uint64_t user_data)
{
	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = fd;
	sqe->len = flags;
	sqe->poll32_events = ring_poll_mask(mask);
	sqe->user_data = user_data;
}

static inline void prep_level(struct io_uring_sqe *sqe, int fd, uint32_t mask,
			      uint64_t user_data)
{
	prep_poll(sqe, fd, mask, POLL_LEVEL, user_data);
}

static inline void prep_poll_remove(struct io_uring_sqe *sqe, uint64_t target,
				    uint64_t user_data)
{
	sqe->opcode = IORING_OP_POLL_REMOVE;
	sqe->fd = -1;
	sqe->addr = target;
	sqe->user_data = user_data;
}

/* @flags: IORING_POLL_UPDATE_EVENTS to @mask, _USER_DATA to @new_data */
static inline void prep_poll_update(struct io_uring_sqe *sqe, uint64_t target,
				    unsigned int flags, uint32_t mask,
				    uint64_t new_data, uint64_t user_data)
{
	prep_poll_remove(sqe, target, user_data);
	sqe->len = flags;
	sqe->poll32_events = ring_poll_mask(mask);
	sqe->off = new_data;
}

/* Of the request before it, which needs IOSQE_IO_LINK. */
static inline void prep_link_timeout(struct io_uring_sqe *sqe,
				     const struct __kernel_timespec *ts,
				     uint64_t user_data)
{
	sqe->opcode = IORING_OP_LINK_TIMEOUT;
	sqe->fd = -1;
	sqe->addr = (uintptr_t)ts;
	sqe->len = 1;
	sqe->user_data = user_data;
}

static inline void prep_cancel(struct io_uring_sqe *sqe, uint64_t target,
			       unsigned int flags, uint64_t user_data)
{
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->fd = -1;
	sqe->addr = target;
	sqe->cancel_flags = flags;
	sqe->user_data = user_data;
}

static inline void prep_nop(struct io_uring_sqe *sqe, uint64_t user_data)
{
	sqe->opcode = IORING_OP_NOP;
	sqe->fd = -1;
	sqe->user_data = user_data;
}

/* Arm a poll. The number of SQEs consumed, so 1 if it's fine. */
static inline int ring_arm_as(struct ring *r, unsigned int flags, int fd,
			      uint32_t mask, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	if (!sqe)
		return -EBUSY;
	prep_poll(sqe, fd, mask, flags, user_data);
	return ring_submit(r);
}

/* The same for a level triggered one. */
static inline int ring_arm(struct ring *r, int fd, uint32_t mask,
			   uint64_t user_data)
{
	return ring_arm_as(r, POLL_LEVEL, fd, mask, user_data);
}

/* What /proc tells about the ring, false if it doesn't. */
static inline bool ring_fdinfo(struct ring *r, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", r->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	close(fd);
	buf[n < 0 ? 0 : n] = 0;
	return n > 0;
}

/*
 * Consume CQEs of the polls 1 to @n until each of them has ended, once. There may be
 * @events before that, and nothing is left afterwards.
 */
static inline bool ring_each_ended(struct ring *r, unsigned int n, bool events)
{
	bool *ended = calloc(n + 1, sizeof(*ended)), ok = ended;
	struct io_uring_cqe cqe;
	unsigned int got = 0;

	while (ok && got < n) {
		ok = !ring_wait(r, 1);
		while (ok && ring_pop(r, &cqe)) {
			ok = cqe.user_data >= 1 && cqe.user_data <= n &&
			     !ended[cqe.user_data];
			if (ok && events && cqe.flags & IORING_CQE_F_MORE)
				continue;
			ok = ok && cqe.res == -ECANCELED && !cqe.flags;
			ended[ok ? cqe.user_data : 0] = true;
			got++;
		}
	}
	free(ended);
	return ok && !ring_harvest_count(r);
}

static inline bool __ring_wait_armed(struct ring *r, bool harvest)
{
	char buf[16384];
	unsigned int ms;

	for (ms = 0; ms < RING_SOON_MS; ms++) {
		if (harvest)
			ring_harvest(r);
		if (ring_fdinfo(r, buf, sizeof(buf)) &&
		    strstr(buf, "\n  op=6,"))
			return true;
		usleep(1000);
	}
	return false;
}

/* Until a poll is armed, by a worker thread or by this one when it gets events. */
static inline bool ring_wait_armed(struct ring *r)
{
	return __ring_wait_armed(r, true);
}

/* The same by a worker thread, while this one gets no events */
static inline bool ring_wait_worker_armed(struct ring *r)
{
	return __ring_wait_armed(r, false);
}

/*
 * Until the other end of the pipe is released. A request that has completed in
 * a worker, without being armed, may leave that to the task.
 */
static inline bool ring_wait_released(struct ring *r, int writer)
{
	struct pollfd p = { .fd = writer };
	unsigned int ms;

	for (ms = 0; ms < RING_SOON_MS; ms += 10) {
		ring_harvest(r);
		if (poll(&p, 1, 10) == 1 && p.revents & POLLERR)
			return true;
	}
	return false;
}

/* A byte more or less in what is polled */

static inline void feed(int fd)
{
	if (write(fd, "x", 1) != 1)
		abort();
}

static inline void drain(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		abort();
}

/* Expectations, for those who include kselftest_harness.h */

/* The next CQE is exactly that one, consume it. */
#define EXPECT_CQE(r, _user_data, _res, _flags)			\
	do {							\
		struct io_uring_cqe __cqe = {};			\
		const __u64 __user_data = (_user_data);		\
								\
		EXPECT_TRUE(ring_pop(r, &__cqe)) {		\
			TH_LOG("no CQE");			\
		}						\
		EXPECT_EQ(__user_data, __cqe.user_data);	\
		EXPECT_EQ((_res), __cqe.res);			\
		EXPECT_EQ((__u32)(_flags), __cqe.flags);	\
	} while (0)

/* One CQE of a level triggered poll that stays armed. */
#define EXPECT_LEVEL(r, user_data, res)	\
	EXPECT_CQE(r, user_data, res, IORING_CQE_F_MORE)

/* Nothing to be had, neither now nor after entering the kernel. */
#define EXPECT_SILENT(r)	EXPECT_EQ(0, ring_harvest_count(r))

#endif /* IO_URING_SELFTEST_RING_H */
