/* SPDX-License-Identifier: GPL-2.0 */
/* Files for the tests that take more than one system call to get. */
#ifndef IO_URING_SELFTEST_FILES_H
#define IO_URING_SELFTEST_FILES_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A minimal guest doesn't do that for us. */
static inline void lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (!ioctl(fd, SIOCGIFFLAGS, &ifr) && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	close(fd);
}

/* Bound to some port of the loopback device, see @addr. */
static inline int inet_socket(int type, struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	lo_up();
	*addr = (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	if (bind(fd, (struct sockaddr *)addr, len) ||
	    getsockname(fd, (struct sockaddr *)addr, &len)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A pair of connected TCP sockets. */
static inline int tcp_pair(int sk[2])
{
	struct sockaddr_in addr;
	int listener = inet_socket(SOCK_STREAM, &addr);
	int ret = -1;

	sk[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!listen(listener, 1) &&
	    !connect(sk[0], (struct sockaddr *)&addr, sizeof(addr))) {
		sk[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ret = sk[1] < 0 ? -1 : 0;
	}
	close(listener);
	return ret;
}

/* Put a copy of the files into the queue of the other end. */
static inline int send_fds(int sk, const int *fds, unsigned int n)
{
	char control[CMSG_SPACE(4 * sizeof(int))] = {};
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, n * sizeof(int));
	return sendmsg(sk, &msg, 0) == 1 ? 0 : -1;
}

/* Receive one file. */
static inline int recv_fd(int sk)
{
	char control[CMSG_SPACE(sizeof(int))];
	char c;
	struct iovec iov = { .iov_base = &c, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(sk, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/*
 * Make the read end of a pipe one that can be written as well: a file with two wait
 * queues. 0 if fine.
 */
static inline int both_ways(int *fd)
{
	char path[32];
	int both;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
	both = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (both < 0)
		return -1;
	close(*fd);
	*fd = both;
	return 0;
}

/* What poll() says about it, 0 if nothing happens within that time */
static inline short file_events(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

/* To a file of /proc or /sys, false if that fails */
static inline bool write_str(const char *path, const char *str)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, str, strlen(str)) == (int)strlen(str);

	close(fd);
	return ok;
}

#endif /* IO_URING_SELFTEST_FILES_H */
