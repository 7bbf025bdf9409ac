/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads that make a file ready while the caller sleeps, or wake its polls all the
 * time. No test that is right depends on that for its result: if the caller is late
 * then there's just nothing to wake up.
 */
#ifndef IO_URING_SELFTEST_SLEEPER_H
#define IO_URING_SELFTEST_SLEEPER_H

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "ring.h"

struct sleeper {
	pthread_t thread;
	pid_t tid;
	int fd;
};

static inline pid_t sys_gettid(void)
{
	return syscall(__NR_gettid);
}

static inline void *__sleeper_write(void *arg)
{
	struct sleeper *s = arg;

	wait_asleep(s->tid);
	return (void *)(long)(write(s->fd, "x", 1) == 1);
}

/* Write a byte to fd once the caller sleeps. */
static inline int sleeper_start(struct sleeper *s, int fd)
{
	s->tid = sys_gettid();
	s->fd = fd;
	return pthread_create(&s->thread, NULL, __sleeper_write, s);
}

/* 1 if it has been written */
static inline int sleeper_join(struct sleeper *s)
{
	void *ret = NULL;

	pthread_join(s->thread, &ret);
	return (long)ret;
}

/* A thread that does something all the time */
struct busy {
	pthread_t thread;
	struct ring *ring;
	int fd;
	bool stop;
};

static inline void busy_end(struct busy *b)
{
	ring_store(&b->stop, true);
	pthread_join(b->thread, NULL);
}

/* inotify doesn't tell what it wakes for. It does so if there was nothing to read. */
static inline void *touch_thread(void *arg)
{
	struct busy *b = arg;
	char buf[256];

	while (!ring_load(&b->stop)) {
		close(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
		if (read(b->fd, buf, sizeof(buf)) < 0)
			abort();
	}
	return NULL;
}

#endif /* IO_URING_SELFTEST_SLEEPER_H */
