/* SPDX-License-Identifier: MIT */
/*
 * Echo server on level triggered polls, with a client that checks it.
 *
 * The server reads and writes on its own, all it wants from the ring is to be
 * told when a socket is ready. What makes that simple is that it is told again
 * for as long as it is ready:
 *
 *   - It accepts one connection for each event, and reads a chunk. What is left
 *     behind is reported next time.
 *   - It waits for POLLIN or, if the client doesn't take what it is sent, for
 *     POLLOUT. That is a change to the poll.
 *   - A close() ends a connection, and the poll along with it. The last CQE of
 *     the poll, the one without IORING_CQE_F_MORE, says that nothing refers to
 *     the connection any more.
 *
 * In the end, each connection was closed and has had its last CQE, and the
 * client has got back all that it has sent, else an event was lost.
 *
 * Requires kernel >= 7.4, exits with 77 if it's older.
 *
 * Usage: ./poll-level-echo [-c connections] [-m messages] [-p port]
 *        Default: 1000 connections, 50 messages each, any port
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "liburing.h"
#include "helpers.h"

#define QD		256
/* what the server reads for an event */
#define CHUNK		4000
/* so small that they get full */
#define SOCKET_BUF	8192
/* after that, nothing is going to happen any more */
#define TIMEOUT_SEC	10

static unsigned nr_conns = 1000, nr_messages = 50;

static void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err));
	exit(1);
}

/* Also for those sockets that a listening one accepts */
static void set_options(int fd)
{
	int size = SOCKET_BUF, one = 1;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/*
 * The client: a process that doesn't know anything about io_uring. It sends as
 * much as it can, and reads less than that at a time, so the server gets stuck.
 */

struct message {
	uint32_t conn;
	uint32_t seq;
	char padding[1016];
};

struct client {
	unsigned sent;			/* messages */
	size_t sent_of_next;		/* bytes of the next one */
	unsigned received;
	size_t received_of_next;
	struct message in;
};

/* Shared with the server, which looks at it once the client has exited */
static struct totals {
	uint64_t sent, received;	/* bytes */
} *totals;

static int client_connect(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		die("client: socket", errno);
	set_options(fd);
	if (connect(fd, (const struct sockaddr *) addr, sizeof(*addr)))
		die("client: connect", errno);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void client_send(struct client *c, unsigned id, int fd)
{
	while (c->sent < nr_messages) {
		struct message m = { .conn = id, .seq = c->sent };
		ssize_t n = send(fd, (char *) &m + c->sent_of_next,
				 sizeof(m) - c->sent_of_next, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			die("client: send", errno);
		totals->sent += n;
		c->sent_of_next += n;
		if (c->sent_of_next == sizeof(m)) {
			c->sent_of_next = 0;
			c->sent++;
		}
	}
}

static void client_receive(struct client *c, unsigned id, int fd)
{
	ssize_t n = recv(fd, (char *) &c->in + c->received_of_next,
			 sizeof(c->in) - c->received_of_next, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("client: recv", n ? errno : ECONNRESET);
	totals->received += n;
	c->received_of_next += n;
	if (c->received_of_next < sizeof(c->in))
		return;
	if (c->in.conn != id || c->in.seq != c->received) {
		fprintf(stderr, "client: connection %u, message %u: it's message "
			"%u of %u\n", id, c->received, c->in.seq, c->in.conn);
		exit(1);
	}
	c->received_of_next = 0;
	c->received++;
}

static void client_run(const struct sockaddr_in *addr)
{
	struct client *clients = calloc(nr_conns, sizeof(*clients));
	struct pollfd *pfds = calloc(nr_conns, sizeof(*pfds));
	unsigned i, left = nr_conns;

	if (!clients || !pfds)
		die("client", ENOMEM);
	for (i = 0; i < nr_conns; i++) {
		pfds[i].fd = client_connect(addr);
		pfds[i].events = POLLIN | POLLOUT;
	}
	while (left) {
		if (poll(pfds, nr_conns, -1) < 0)
			die("client: poll", errno);
		for (i = 0; i < nr_conns; i++) {
			struct client *c = &clients[i];
			int fd = pfds[i].fd;

			if (fd < 0)
				continue;
			if (pfds[i].revents & POLLOUT)
				client_send(c, i, fd);
			if (pfds[i].revents & ~POLLOUT)
				client_receive(c, i, fd);
			if (c->sent == nr_messages)
				pfds[i].events = POLLIN;
			if (c->received == nr_messages) {
				close(fd);
				pfds[i].fd = -1;
				left--;
			}
		}
	}
}

/*
 * The server
 */

struct conn {
	int fd;			/* -1 once it's closed */
	unsigned events;	/* what its poll waits for */
	size_t off, len;	/* of what wasn't sent yet */
	char buf[CHUNK];
};

static struct io_uring ring;
static struct conn listener = { .fd = -1 };

static struct {
	unsigned accepted, closed, final;
	uint64_t in, out;	/* bytes */
	unsigned events, stuck;
} counters;

static struct io_uring_sqe *get_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	if (!sqe)
		die("get_sqe", EBUSY);
	return sqe;
}

static void conn_add(struct conn *c)
{
	struct io_uring_sqe *sqe = get_sqe();

	c->events = POLLIN;
	io_uring_prep_poll_level(sqe, c->fd, c->events);
	io_uring_sqe_set_data(sqe, c);
}

/* Only a failure has a CQE. There's none as long as the connection is open. */
static void conn_wait_for(struct conn *c, unsigned events)
{
	struct io_uring_sqe *sqe;

	if (c->events == events)
		return;
	c->events = events;
	sqe = get_sqe();
	io_uring_prep_poll_update(sqe, (uintptr_t) c, 0, events,
				  IORING_POLL_UPDATE_EVENTS);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data(sqe, NULL);
}

/* It's freed along with its last CQE, see conn_final(). */
static void conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
	counters.closed++;
}

static void conn_send(struct conn *c)
{
	ssize_t n = send(c->fd, c->buf + c->off, c->len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		die("send", errno);
	if (n > 0) {
		counters.out += n;
		c->off += n;
		c->len -= n;
	}
	if (c->len && c->events != POLLOUT)
		counters.stuck++;
	conn_wait_for(c, c->len ? POLLOUT : POLLIN);
}

static void conn_event(struct conn *c)
{
	ssize_t n;

	if (c->len) {
		conn_send(c);
		return;
	}
	/* once, if there's more than that there will be another event */
	n = recv(c->fd, c->buf, sizeof(c->buf), 0);
	if (n < 0 && errno != EAGAIN)
		die("recv", errno);
	if (!n)
		conn_close(c);
	if (n <= 0)
		return;
	counters.in += n;
	c->off = 0;
	c->len = n;
	conn_send(c);
}

static void accept_one(void)
{
	struct conn *c;
	int fd;

	fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && errno == EAGAIN)
		return;
	if (fd < 0)
		die("accept", errno);
	c = calloc(1, sizeof(*c));
	if (!c)
		die("accept", ENOMEM);
	c->fd = fd;
	counters.accepted++;
	conn_add(c);
}

/* The poll has ended, which is right only if that's our doing. */
static void conn_final(struct conn *c, int res)
{
	if (res != -ECANCELED || c->fd != -1)
		die("poll", -res);
	if (c == &listener)
		return;
	counters.final++;
	free(c);
}

static void handle_cqe(const struct io_uring_cqe *cqe)
{
	struct conn *c = io_uring_cqe_get_data(cqe);

	if (!c)
		die("poll update", -cqe->res);
	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		conn_final(c, cqe->res);
		return;
	}
	counters.events++;
	if (c == &listener)
		accept_one();
	else
		conn_event(c);
}

static void ring_init(void)
{
	int ret;

	ret = io_uring_queue_init(QD, &ring, IORING_SETUP_SINGLE_ISSUER |
					     IORING_SETUP_DEFER_TASKRUN);
	if (!ret && (ring.features & IORING_FEAT_POLL_LEVEL))
		return;
	if (ret && ret != -EINVAL)
		die("queue_init", -ret);
	printf("The kernel has no level triggered polls\n");
	exit(77);
}

/* Until all connections are gone. False if there are no events before that. */
static bool server_run(void)
{
	struct __kernel_timespec ts = { .tv_sec = TIMEOUT_SEC };
	struct io_uring_cqe *cqe;
	unsigned head;
	int ret;

	conn_add(&listener);
	while (counters.final < nr_conns) {
		unsigned n = 0;

		cqe = NULL;
		ret = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &ts,
						       NULL);
		if (ret == -ETIME || (ret >= 0 && !cqe))
			return false;
		if (ret < 0)
			die("wait", -ret);
		io_uring_for_each_cqe(&ring, head, cqe) {
			handle_cqe(cqe);
			n++;
		}
		/* from now on, these connections may be reported again */
		io_uring_cq_advance(&ring, n);
	}
	return true;
}

/* Each connection has two ends, one in each process. */
static void raise_nofile(void)
{
	rlim_t need = nr_conns + 32;
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl))
		die("getrlimit", errno);
	if (rl.rlim_cur >= need)
		return;
	rl.rlim_cur = need;
	if (rl.rlim_max < need)
		rl.rlim_max = need;
	if (setrlimit(RLIMIT_NOFILE, &rl)) {
		fprintf(stderr, "%u connections: RLIMIT_NOFILE is too low: %s\n",
			nr_conns, strerror(errno));
		exit(1);
	}
}

static void parse_args(int argc, char *argv[], int *port)
{
	int opt;

	while ((opt = getopt(argc, argv, "c:m:p:")) != -1) {
		switch (opt) {
		case 'c':
			nr_conns = atoi(optarg);
			break;
		case 'm':
			nr_messages = atoi(optarg);
			break;
		case 'p':
			*port = atoi(optarg);
			break;
		default:
			nr_conns = 0;
		}
	}
	if (optind != argc || !nr_conns || !nr_messages) {
		fprintf(stderr, "%s: [-c connections] [-m messages per "
			"connection] [-p port]\n", argv[0]);
		exit(2);
	}
}

int main(int argc, char *argv[])
{
	struct sockaddr_in addr = { };
	socklen_t addrlen = sizeof(addr);
	int status, port = 0;
	uint64_t expected;
	bool ok;
	pid_t pid;

	parse_args(argc, argv, &port);
	expected = (uint64_t) nr_conns * nr_messages * sizeof(struct message);

	ring_init();
	raise_nofile();
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED)
		die("mmap", errno);

	listener.fd = setup_listening_socket(port, 0);
	if (listener.fd < 0)
		return 1;
	fcntl(listener.fd, F_SETFL, O_NONBLOCK);
	set_options(listener.fd);
	if (getsockname(listener.fd, (struct sockaddr *) &addr, &addrlen))
		die("getsockname", errno);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

	pid = fork();
	if (pid < 0)
		die("fork", errno);
	if (!pid) {
		/* what it holds would stay when the server exits */
		close(listener.fd);
		io_uring_queue_exit(&ring);
		client_run(&addr);
		_exit(0);
	}

	ok = server_run();
	/* it has nobody to talk to if the server has given up */
	if (!ok)
		kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid", errno);

	printf("connections: %u accepted, %u closed, %u final CQEs; "
	       "bytes: %llu in, %llu out, client %llu sent, %llu got back; "
	       "%u events, %u times stuck\n",
	       counters.accepted, counters.closed, counters.final,
	       (unsigned long long) counters.in,
	       (unsigned long long) counters.out,
	       (unsigned long long) totals->sent,
	       (unsigned long long) totals->received,
	       counters.events, counters.stuck);

	ok = ok && !status && counters.accepted == nr_conns &&
	     counters.closed == nr_conns && counters.final == nr_conns &&
	     counters.in == expected && counters.out == expected &&
	     totals->sent == expected && totals->received == expected;
	if (!ok)
		fprintf(stderr, "FAILED: expected %u connections, %llu bytes\n",
			nr_conns, (unsigned long long) expected);
	io_uring_queue_exit(&ring);
	return ok ? 0 : 1;
}
