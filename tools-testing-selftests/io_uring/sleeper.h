/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Make a file ready while the caller sleeps. No test depends on that for its
 * result: if the caller is late then there's just nothing to wake up.
 */
#ifndef IO_URING_SELFTEST_SLEEPER_H
#define IO_URING_SELFTEST_SLEEPER_H

#include <pthread.h>

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

#endif /* IO_URING_SELFTEST_SLEEPER_H */
