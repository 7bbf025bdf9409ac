// SPDX-License-Identifier: GPL-2.0
/*
 * Level triggered polls at the limits: a lot of them, no more descriptors, no more
 * memory, a CQ ring that is full all the time, signals that don't cease, CPUs that
 * go away. And what they cost those who have nothing to do with the ring.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "kselftest_harness.h"

#include "files.h"
#include "ring_fixture.h"
#include "sleeper.h"

#define NR_POLLS	100000
#define NR_FILES	4U	/* if it's not one for each poll */
#define FIRST_FD	100
#define TIMEOUT		240	/* seconds */

static int sys_close_range(unsigned int first, unsigned int last)
{
	return syscall(__NR_close_range, first, last, 0);
}

/* Arm polls @first to @first + @n - 1, in turn of @nr_files from @fd on: 0 if fine. */
static int arm_many(struct ring *r, int fd, unsigned int nr_files,
		    unsigned int first, unsigned int n)
{
	unsigned int i;
	int ret;

	for (i = 0; i < n; i++) {
		prep_level(ring_sqe(r), fd + i % nr_files, EPOLLIN, first + i);
		if (ring_to_submit(r) < r->sq_entries && i != n - 1)
			continue;
		ret = ring_submit(r);
		if (ret < 0)
			return ret;
		if (ring_to_submit(r))
			return -EAGAIN;
	}
	return 0;
}

static long long clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* A tenth of it on a kernel that takes its time, which one with KASAN does. */
static unsigned int scaled(unsigned int n)
{
	const struct ring_opts opts = { .sq_entries = 256 };
	static unsigned int divisor;
	long long start;
	struct ring r;
	int fd;

	if (!divisor) {
		fd = eventfd(0, EFD_CLOEXEC);
		if (ring_init(&r, &opts))
			abort();
		start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		if (arm_many(&r, fd, 1, 1, 2048))
			abort();
		divisor = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start > 40000000 ?
			  10 : 1;
		ring_exit(&r);
		close(fd);
	}
	n /= divisor;
	ksft_print_msg("%u polls\n", n);
	return n;
}

static bool nothing_lost(struct ring *r)
{
	return !ring_overflown(r) && !ring_load(r->cq_overflow);
}

/*
 * Consume CQEs of the polls 1 to n, which are ready: nobody has two turns before the
 * others have had one.
 */
static bool take_turns(struct ring *r, unsigned int n, unsigned int turns)
{
	unsigned int *had = calloc(n + 1, sizeof(*had)), got = 0;
	struct io_uring_cqe cqe;
	bool ok = had;

	while (ok && got < n * turns) {
		ok = !ring_wait(r, 1) && nothing_lost(r);
		while (ok && got < n * turns && ring_pop(r, &cqe)) {
			ok = cqe.user_data >= 1 && cqe.user_data <= n &&
			     cqe.flags & IORING_CQE_F_MORE &&
			     had[cqe.user_data] == got / n;
			if (ok)
				had[cqe.user_data]++;
			got++;
		}
	}
	free(had);
	return ok;
}

/*
 * A lot of polls. Few kinds of rings will do, and few CQEs have room.
 */

FIXTURE(many)
{
	struct ring ring;
};

FIXTURE_VARIANT(many)
{
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(many, plain) {
	.ring = { .sq_entries = 256, .cq_entries = 256 },
};

FIXTURE_VARIANT_ADD(many, defer_taskrun) {
	.ring = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
		.sq_entries = 256,
		.cq_entries = 256,
	},
};

FIXTURE_VARIANT_ADD(many, sqpoll) {
	.ring = {
		.flags = IORING_SETUP_SQPOLL,
		.sq_entries = 256,
		.cq_entries = 256,
	},
};

FIXTURE_SETUP(many)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&self->ring, &variant->ring));
}

FIXTURE_TEARDOWN(many)
{
	ring_exit(&self->ring);
}

/* Descriptors from FIRST_FD on of files that are ready. Returns how many. */
static unsigned int open_many(unsigned int n)
{
	struct rlimit lim;
	unsigned int i;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return 0;
	if (lim.rlim_max < n + FIRST_FD)
		lim.rlim_max = n + FIRST_FD;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) && getrlimit(RLIMIT_NOFILE, &lim))
		return 0;
	if (lim.rlim_cur < n + FIRST_FD) {
		n = lim.rlim_cur - FIRST_FD;
		ksft_print_msg("RLIMIT_NOFILE allows for %u\n", n);
	}
	for (i = 0; i < n; i++) {
		fd = eventfd(1, EFD_CLOEXEC);
		if (dup3(fd, FIRST_FD + i, O_CLOEXEC) < 0 || close(fd))
			return 0;
	}
	return n;
}

TEST_F_TIMEOUT(many, polls_of_few_files, TIMEOUT)
{
	unsigned int n = scaled(NR_POLLS);

	ASSERT_EQ(NR_FILES, open_many(NR_FILES));
	ASSERT_EQ(0, arm_many(&self->ring, FIRST_FD, NR_FILES, 1, n));
	EXPECT_TRUE(take_turns(&self->ring, n, 2));
	EXPECT_EQ(0, sys_close_range(FIRST_FD, FIRST_FD + NR_FILES - 1));
	EXPECT_TRUE(ring_each_ended(&self->ring, n, true));
}

TEST_F_TIMEOUT(many, polls_of_many_files, TIMEOUT)
{
	unsigned int n = open_many(scaled(NR_POLLS));

	ASSERT_NE(0U, n);
	ASSERT_EQ(0, arm_many(&self->ring, FIRST_FD, n, 1, n));
	EXPECT_TRUE(take_turns(&self->ring, n, 2));
	EXPECT_EQ(0, sys_close_range(FIRST_FD, FIRST_FD + n - 1));
	EXPECT_TRUE(ring_each_ended(&self->ring, n, true));
}

/* They go away with their ring: the file that it has registered tells. */
TEST_F_TIMEOUT(many, polls_and_exit_of_ring, TIMEOUT)
{
	unsigned int n = scaled(NR_POLLS);
	struct ring r;
	int p[2];

	ASSERT_EQ(0, ring_init(&r, &variant->ring));
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_EQ(0, sys_io_uring_register(r.fd, IORING_REGISTER_FILES, p, 1));
	EXPECT_EQ(0, close(p[0]));
	ASSERT_EQ(NR_FILES, open_many(NR_FILES));
	ASSERT_EQ(0, arm_many(&r, FIRST_FD, NR_FILES, 1, n));
	EXPECT_TRUE(take_turns(&r, n, 1));
	ring_exit(&r);
	EXPECT_EQ(POLLERR, file_events(p[1], 0, RING_SOON_MS));
}

/*
 * CPU time that they cost, in ns
 */

enum cost {
	COST_OF_CLOSE,		/* who has the last reference to the file */
	COST_OF_WAKE_UP,	/* who wakes those that poll it */
	COST_OF_HARVEST,	/* the ring, if they were woken for nothing */
};

static const char * const cost_names[] = {
	[COST_OF_CLOSE] = "close()",
	[COST_OF_WAKE_UP] = "a wake-up",
	[COST_OF_HARVEST] = "a harvest",
};

/* Of another process, which has nothing to do with the ring. */
static long long cost_for_other(enum cost what, const int *p)
{
	long long ns = -1;
	int result[2], go[2];
	pid_t child;

	if (pipe(result) || pipe(go))
		return -1;
	child = fork();
	if (!child) {
		close(go[1]);
		if (read(go[0], &ns, 1))
			_exit(1);
		ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		if (what == COST_OF_WAKE_UP)
			feed(p[1]);
		else
			close(p[0]);
		ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - ns;
		_exit(write(result[1], &ns, sizeof(ns)) != sizeof(ns));
	}
	close(p[0]);
	close(go[0]);
	close(go[1]);
	close(result[1]);
	if (child < 0 || read(result[0], &ns, sizeof(ns)) != sizeof(ns))
		ns = -1;
	close(result[0]);
	waitpid(child, NULL, 0);
	return ns;
}

static long long cost_for_ring(struct ring *r, const int *p)
{
	long long ns;

	feed(p[1]);
	drain(p[0]);
	ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (ring_harvest_count(r))
		return -1;
	ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - ns;
	close(p[0]);
	return ns;
}

/* With @n polls, -1 if it fails */
static long long cost(struct ring *r, enum cost what, unsigned int n)
{
	long long ns;
	int p[2];

	if (pipe2(p, O_CLOEXEC) || arm_many(r, p[0], 1, 1, n))
		return -1;
	if (what == COST_OF_HARVEST)
		ns = cost_for_ring(r, p);
	else
		ns = cost_for_other(what, p);
	close(p[1]);
	if (ns < 0 || !ring_each_ended(r, n, true))
		return -1;
	ksft_print_msg("%s: %lld ns for each of %u polls\n", cost_names[what],
		       ns / n, n);
	return ns;
}

/*
 * It is in proportion to the number of polls, of that very file. To count that takes
 * a clock that tells instructions, an emulator has one. With interrupts, and with the
 * first polls, it's a bit more than that.
 */
static bool in_proportion(struct ring *r, enum cost what)
{
	unsigned int n = scaled(NR_POLLS);
	long long few = cost(r, what, n / 64), all = cost(r, what, n);

	return few > 0 && all > 0 && all < few * 64 * 2;
}

TEST_F_TIMEOUT(many, cost_of_close, TIMEOUT)
{
	if (!getenv("ICOUNT"))
		SKIP(return, "instructions aren't counted");
	EXPECT_TRUE(in_proportion(&self->ring, COST_OF_CLOSE));
}

TEST_F_TIMEOUT(many, cost_of_wake_up, TIMEOUT)
{
	if (!getenv("ICOUNT"))
		SKIP(return, "instructions aren't counted");
	EXPECT_TRUE(in_proportion(&self->ring, COST_OF_WAKE_UP));
}

TEST_F_TIMEOUT(many, cost_of_harvest, TIMEOUT)
{
	if (!getenv("ICOUNT"))
		SKIP(return, "instructions aren't counted");
	EXPECT_TRUE(in_proportion(&self->ring, COST_OF_HARVEST));
}

/*
 * Memory: polls are charged to who arms them
 */

#define CGROUP	"/sys/fs/cgroup"

FIXTURE(memcg)
{
	char dir[64];
	int sk[2];	/* to the child, which is in the cgroup */
	int pipe[2];	/* the child has its read end */
};

static bool write_in(const char *dir, const char *name, const char *str)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return write_str(path, str);
}

static long long memory_used(const char *dir)
{
	char path[128], buf[32] = {};
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/memory.current", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	return n > 0 ? atoll(buf) : -1;
}

/* Until it uses less than that. CPUs may keep some of it for a while. */
static bool memory_below(const char *dir, long long limit)
{
	long long start = now_ms();

	while (memory_used(dir) >= limit) {
		if (now_ms() - start > RING_SOON_MS)
			return false;
		usleep(10000);
	}
	return true;
}

/* Tell the other one, or wait for it: true if it did. */
static bool tell(int sk)
{
	return write(sk, "x", 1) == 1;
}

static bool hear(int sk)
{
	char c;

	return read(sk, &c, 1) == 1;
}

FIXTURE_SETUP(memcg)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	if (!write_str(CGROUP "/cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory cgroups");
	snprintf(self->dir, sizeof(self->dir), CGROUP "/level_limits_test.%d",
		 getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0755));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				self->sk));
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
}

FIXTURE_TEARDOWN(memcg)
{
	EXPECT_EQ(0, rmdir(self->dir));
}

/* Arms polls, until that fails or there are n of them. */
static int arm_in(const char *dir, int sk, int fd, unsigned int n)
{
	const struct ring_opts opts = { .sq_entries = 256 };
	struct ring r;

	if (!write_in(dir, "cgroup.procs", "0") || ring_init(&r, &opts))
		return 1;
	if (!tell(sk) || !hear(sk))
		return 1;
	if (arm_many(&r, fd, 1, 1, n))
		return 2;
	return tell(sk) && hear(sk) ? 0 : 1;
}

static pid_t fork_to_arm(const char *dir, const int *sk, const int *p,
			 unsigned int n)
{
	pid_t child = fork();

	if (!child) {
		close(sk[0]);
		close(p[1]);
		_exit(arm_in(dir, sk[1], p[0], n));
	}
	close(sk[1]);
	close(p[0]);
	return child;
}

TEST_F_TIMEOUT(memcg, charged, TIMEOUT)
{
	const unsigned int n = 40000;
	long long before, used;
	pid_t child;
	int status;

	child = fork_to_arm(self->dir, self->sk, self->pipe, n);
	ASSERT_LE(0, child);
	ASSERT_TRUE(hear(self->sk[0]));
	before = memory_used(self->dir);
	ASSERT_TRUE(tell(self->sk[0]));
	ASSERT_TRUE(hear(self->sk[0]));
	used = memory_used(self->dir) - before;
	TH_LOG("%lld bytes for each of %u polls", used / n, n);
	/* a request is 256 bytes, and more only if it's to be debugged */
	EXPECT_LE(240, used / n);
	EXPECT_GE(1024, used / n);
	ASSERT_TRUE(tell(self->sk[0]));
	EXPECT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_TRUE(memory_below(self->dir, used / 8));
}

/* It's told that there is no memory, or it is killed. Nobody else, and cleanly so. */
TEST_F_TIMEOUT(memcg, limit, TIMEOUT)
{
	const long long max = 16 << 20;
	pid_t child;
	int status;

	ASSERT_TRUE(write_in(self->dir, "memory.max", "16M"));
	child = fork_to_arm(self->dir, self->sk, self->pipe, max / 128);
	ASSERT_LE(0, child);
	ASSERT_TRUE(hear(self->sk[0]));
	ASSERT_TRUE(tell(self->sk[0]));
	EXPECT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
		    (WIFEXITED(status) && WEXITSTATUS(status) == 2)) {
		TH_LOG("status %x", status);
	}
	EXPECT_EQ(POLLERR, file_events(self->pipe[1], 0, RING_SOON_MS));
	EXPECT_TRUE(memory_below(self->dir, max / 8));
}

/*
 * On each kind of ring
 */

/* There are no more descriptors. Those that are closed are used again at once. */
TEST_F(ring, no_descriptors)
{
	struct rlimit lim = { .rlim_cur = 60, .rlim_max = 60 };
	struct ring *r = &self->ring;
	unsigned int i, n = 0;
	int fds[60], fd;
	eventfd_t v;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &lim));
	while ((fd = eventfd(1, EFD_CLOEXEC)) >= 0)
		fds[n++] = fd;
	ASSERT_EQ(EMFILE, errno);
	ASSERT_LT(32U, n);
	for (i = 0; i < n; i++)
		ASSERT_EQ(1, ring_arm(r, fds[i], EPOLLIN, i + 1));
	EXPECT_TRUE(take_turns(r, n, 2));

	for (i = 0; i < n; i++)
		ASSERT_EQ(0, eventfd_read(fds[i], &v));
	EXPECT_SILENT(r);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, close(fds[i]));
		ASSERT_EQ(fds[i], eventfd(1, EFD_CLOEXEC));
		EXPECT_EQ(0, ring_wait(r, 1));
		EXPECT_CQE(r, i + 1, -ECANCELED, 0);
		EXPECT_SILENT(r);
	}
	for (i = 0; i < n; i++)
		ASSERT_EQ(1, ring_arm(r, fds[i], EPOLLIN, i + 1));
	EXPECT_TRUE(take_turns(r, n, 1));
}

/* All of them are ready, none is missed, and nothing overflows but what others do. */
TEST_F(ring, cq_of_one)
{
	struct ring_opts opts = variant->ring;
	struct ring r;
	int p[3][2], i;

	opts.sq_entries = 1;
	/* there has to be room for a CQE of either size */
	opts.cq_entries = opts.flags & IORING_SETUP_CQE_MIXED ? 2 : 1;
	ASSERT_EQ(0, ring_init(&r, &opts));
	ASSERT_EQ(opts.cq_entries, r.cq_entries);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		feed(p[i][1]);
		ASSERT_EQ(1, ring_arm(&r, p[i][0], EPOLLIN, i + 1));
	}
	EXPECT_TRUE(take_turns(&r, 3, 20));

	/* what's in the ring stays there, however often it's looked at */
	EXPECT_EQ((int)opts.cq_entries, ring_harvest_count(&r));
	EXPECT_EQ((int)opts.cq_entries, ring_harvest_count(&r));
	EXPECT_TRUE(nothing_lost(&r));
	prep_nop(ring_sqe(&r), 4);
	ASSERT_EQ(1, ring_submit(&r));
	EXPECT_TRUE(ring_overflown(&r));
	ring_seen_n(&r, opts.cq_entries);
	EXPECT_EQ(0, ring_wait(&r, 1));
	EXPECT_CQE(&r, 4, 0, 0);
	ring_seen_n(&r, ring_cq_count(&r));
	EXPECT_EQ(0U, ring_load(r.cq_overflow));

	for (i = 0; i < 3; i++)
		drain(p[i][0]);
	EXPECT_SILENT(&r);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, close(p[i][0]));
	EXPECT_TRUE(ring_each_ended(&r, 3, true));
	ring_exit(&r);
}

/* Consume a CQE of 32 bytes, whose second half is empty. -1 if it's not so. */
static int pop_cqe32(struct ring *r)
{
	struct io_uring_cqe *cqe = ring_wait(r, 1) ? NULL : ring_peek(r);
	int res;

	if (!cqe || cqe->big_cqe[0] || cqe->big_cqe[1])
		return -1;
	res = cqe->res;
	ring_seen_n(r, 1);
	return res;
}

/*
 * The kernel has something else where it has the second half of a CQE, while the poll
 * is on its lists: none of that gets out.
 */
TEST(cqe32)
{
	const struct ring_opts opts = { .flags = IORING_SETUP_CQE32 };
	struct ring r;
	int i, p[4][2];

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&r, &opts));
	/* idle, woken, ready, and reported: several, so that they have neighbours */
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pipe(p[i]));
		ASSERT_EQ(1, ring_arm(&r, p[i][0], EPOLLIN, i));
	}
	feed(p[2][1]);
	feed(p[3][1]);
	ASSERT_EQ(0, ring_set_cap(&r, 1));
	EXPECT_EQ(EPOLLIN, pop_cqe32(&r));
	EXPECT_EQ(EPOLLIN, pop_cqe32(&r));
	ASSERT_EQ(1, ring_harvest_count(&r));
	feed(p[1][1]);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, close(p[i][0]));
	EXPECT_EQ(EPOLLIN, pop_cqe32(&r));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(-ECANCELED, pop_cqe32(&r));
	EXPECT_SILENT(&r);
	ring_exit(&r);
}

static void on_cpu(unsigned int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

/*
 * Somebody else writes a byte each time that it's told to
 */
struct writer {
	pthread_t thread;
	sem_t go;
	int fd;
	int cpu;	/* stay there, as long as that is possible */
	bool stop;
};

static void *writer_thread(void *arg)
{
	unsigned int seed = 1;
	struct writer *w = arg;

	for (;;) {
		sem_wait(&w->go);
		if (ring_load(&w->stop))
			return NULL;
		if (w->cpu)
			on_cpu(w->cpu);
		usleep(rand_r(&seed) % 500);
		feed(w->fd);
	}
}

static int writer_start(struct writer *w)
{
	sem_init(&w->go, 0, 0);
	return pthread_create(&w->thread, NULL, writer_thread, w);
}

static void writer_end(struct writer *w)
{
	ring_store(&w->stop, true);
	sem_post(&w->go);
	pthread_join(w->thread, NULL);
}

static unsigned int signals;

static void count_signal(int sig)
{
	signals += sig == SIGUSR1;
}

struct storm {
	pthread_t thread;
	pthread_t target;
	bool stop;
};

static void *storm_thread(void *arg)
{
	struct storm *s = arg;

	while (!ring_load(&s->stop)) {
		pthread_kill(s->target, SIGUSR1);
		usleep(10);
	}
	return NULL;
}

/* Waits are interrupted all the time. No event is lost, and there's none too many. */
TEST_F(ring, signals)
{
	const struct sigaction act = { .sa_handler = count_signal };
	struct writer w = { .fd = self->pipe[1] };
	struct storm s = { .target = pthread_self() };
	struct ring *r = &self->ring;
	unsigned int i, interrupted = 0;
	long long start;
	int ret;

	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	ASSERT_EQ(1, ring_arm(r, self->pipe[0], EPOLLIN, 1));
	ASSERT_EQ(0, writer_start(&w));
	ASSERT_EQ(0, pthread_create(&s.thread, NULL, storm_thread, &s));
	for (i = 0; i < 200; i++) {
		start = now_ms();
		sem_post(&w.go);
		while ((ret = ring_wait(r, 1)) == -EINTR &&
		       now_ms() - start < RING_SOON_MS)
			interrupted++;
		ASSERT_EQ(0, ret);
		EXPECT_LEVEL(r, 1, EPOLLIN);
		drain(self->pipe[0]);
		EXPECT_SILENT(r);
	}
	ring_store(&s.stop, true);
	pthread_join(s.thread, NULL);
	writer_end(&w);
	TH_LOG("%u signals, %u waits interrupted", signals, interrupted);
	EXPECT_NE(0U, signals);
	ASSERT_EQ(0, close(self->pipe[0]));
	EXPECT_EQ(0, ring_wait(r, 1));
	EXPECT_CQE(r, 1, -ECANCELED, 0);
	EXPECT_SILENT(r);
}

/* Waits end by a signal, even if polls are woken for nothing all the time. */
TEST_F(ring, signal_among_wake_ups)
{
	const struct sigaction act = { .sa_handler = count_signal };
	struct storm s = { .target = pthread_self() };
	struct ring *r = &self->ring;
	struct busy b;
	unsigned int i;

	b = (struct busy) { .fd = inotify_init1(IN_CLOEXEC) };
	ASSERT_LT(0, inotify_add_watch(b.fd, "/proc/self/exe", IN_OPEN));
	ASSERT_EQ(1, ring_arm(r, b.fd, EPOLLPRI, 1));
	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	ASSERT_EQ(0, pthread_create(&b.thread, NULL, touch_thread, &b));
	ASSERT_EQ(0, pthread_create(&s.thread, NULL, storm_thread, &s));
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(-EINTR, ring_enter(r, 1));
		EXPECT_EQ(0U, ring_cq_count(r));
	}
	ring_store(&s.stop, true);
	pthread_join(s.thread, NULL);
	busy_end(&b);
}

/* The same by its time. There are so many polls that some are woken all the time. */
TEST_F_TIMEOUT(many, timeout_among_wake_ups, TIMEOUT)
{
	const unsigned int polls = 20000;
	struct ring *r = &self->ring;
	struct busy b;
	unsigned int i;

	b = (struct busy) { .fd = inotify_init1(IN_CLOEXEC) };
	ASSERT_LT(0, inotify_add_watch(b.fd, "/proc/self/exe", IN_OPEN));
	for (i = 1; i <= polls; i++)
		ASSERT_EQ(1, ring_arm(r, b.fd, EPOLLPRI, i));
	ASSERT_EQ(0, pthread_create(&b.thread, NULL, touch_thread, &b));
	for (i = 0; i < 8; i++) {
		long long start = now_ms();

		/* one is enough at once, or after a while */
		ASSERT_EQ(-ETIME, __ring_wait(r, 2, 10, i % 2 ? 5000 : 0));
		EXPECT_GT(start + 2000, now_ms());
		EXPECT_EQ(0U, ring_cq_count(r));
	}
	busy_end(&b);
}

static void *move_head_thread(void *arg)
{
	struct busy *b = arg;
	unsigned int seed = 1;

	while (!ring_load(&b->stop)) {
		unsigned int to = ring_load(b->ring->cq_tail);

		ring_store(b->ring->cq_head,
			   rand_r(&seed) % 16 ? to : (unsigned int)rand_r(&seed));
	}
	return NULL;
}

/*
 * Somebody makes room for more CQEs all the time, and moves the head to where it
 * can't be. A call posts what the ring has room for in total at most.
 */
TEST_F(ring, head_moves)
{
	struct ring_opts opts = variant->ring;
	struct busy b = {};
	unsigned int i, tail;
	struct ring r;

	opts.sq_entries = 4;
	opts.cq_entries = 4;
	ASSERT_EQ(0, ring_init(&r, &opts));
	feed(self->pipe[1]);
	ASSERT_EQ(0, arm_many(&r, self->pipe[0], 1, 1, 256));
	b.ring = &r;
	ASSERT_EQ(0, pthread_create(&b.thread, NULL, move_head_thread, &b));
	for (i = 0; i < 200; i++) {
		tail = ring_load(r.cq_tail);
		ASSERT_EQ(0, ring_harvest(&r));
		EXPECT_GE(4U, ring_load(r.cq_tail) - tail);
	}
	busy_end(&b);
	EXPECT_EQ(0U, ring_load(r.cq_overflow));
	ring_store(r.cq_head, ring_load(r.cq_tail));
	EXPECT_TRUE(take_turns(&r, 256, 2));
	ring_exit(&r);
}

static void *consume_thread(void *arg)
{
	struct busy *b = arg;
	struct io_uring_cqe cqe;

	on_cpu(1);
	while (!ring_load(&b->stop)) {
		ring_enter(b->ring, 1);
		while (ring_pop(b->ring, &cqe))
			;
	}
	return NULL;
}

/* The interrupts of irq_work on the first CPU, -1 if they aren't counted */
static long irq_works(void)
{
	FILE *f = fopen("/proc/interrupts", "r");
	long n = -1;
	char line[4096];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, " IWI: %ld", &n) == 1)
			break;
	}
	if (f)
		fclose(f);
	return n;
}

/*
 * A ring that polls itself is notified by itself, and takes so long to notify all
 * others that a task on another CPU has looked at that poll meanwhile. That goes on
 * for ever, but not in interrupts: none of them is needed where a ring has woken.
 */
TEST(notified_by_itself)
{
	const struct ring_opts opts = {};
	struct ring r, other;
	struct busy b = { .ring = &r };
	struct io_uring_sqe *sqe;
	struct io_uring_cqe cqe;
	unsigned int i;
	long before;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	if (irq_works() < 0)
		SKIP(return, "interrupts of irq_work aren't counted");
	ASSERT_EQ(0, ring_init(&r, &opts));
	ASSERT_EQ(0, ring_init(&other, &opts));
	ASSERT_EQ(0, arm_many(&other, r.fd, 1, 1, 20000));
	/* the last one is woken first */
	ASSERT_EQ(1, ring_arm(&r, r.fd, EPOLLIN, 1));
	ASSERT_EQ(0, pthread_create(&b.thread, NULL, consume_thread, &b));
	on_cpu(0);
	before = irq_works();
	for (i = 0; i < 200; i++) {
		ring_store(&b.stop, i == 199);
		/* a worker doesn't hold what the other task needs */
		sqe = ring_sqe(&r);
		prep_nop(sqe, 2);
		sqe->flags |= IOSQE_ASYNC;
		ASSERT_EQ(1, ring_submit(&r));
		usleep(1000);
	}
	pthread_join(b.thread, NULL);
	/* if it takes any at all, it's one for each of those */
	for (i = 0; i < 200; i++) {
		prep_nop(ring_sqe(&r), 2);
		ASSERT_EQ(1, ring_submit(&r));
		while (ring_pop(&r, &cqe))
			;
		ASSERT_EQ(0, ring_harvest(&r));
	}
	EXPECT_GT(100, irq_works() - before);
	ring_exit(&other);
	ring_exit(&r);
}

#define CPU		1
#define CPU_ONLINE	"/sys/devices/system/cpu/cpu1/online"

static void *hotplug_thread(void *stop)
{
	unsigned int i;
	bool ok = true;

	for (i = 0; i < 4 && ok; i++) {
		ok = write_str(CPU_ONLINE, "0");
		usleep(20000);
		ok &= write_str(CPU_ONLINE, "1");
		usleep(20000);
	}
	ring_store((bool *)stop, true);
	return (void *)(long)ok;
}

/*
 * Polls are woken on a CPU that goes away and comes back. Who polls the ring is told
 * by work that is queued on that CPU.
 */
TEST_F_TIMEOUT(many, cpu_goes_away, TIMEOUT)
{
	struct ring *r = &self->ring;
	struct writer w = { .cpu = CPU };
	bool stop = false;
	unsigned int events = 0;
	pthread_t hotplug;
	void *ok = NULL;
	int p[2];

	if (access(CPU_ONLINE, W_OK))
		SKIP(return, "no CPU that can be taken offline");
	ASSERT_EQ(0, pipe(p));
	w.fd = p[1];
	ASSERT_EQ(1, ring_arm(r, p[0], EPOLLIN, 1));
	ASSERT_EQ(0, writer_start(&w));
	ASSERT_EQ(0, pthread_create(&hotplug, NULL, hotplug_thread, &stop));
	while (!ring_load(&stop)) {
		sem_post(&w.go);
		ASSERT_EQ(POLLIN, file_events(r->fd, POLLIN, RING_SOON_MS));
		ASSERT_EQ(0, ring_wait(r, 1));
		EXPECT_LEVEL(r, 1, EPOLLIN);
		drain(p[0]);
		EXPECT_SILENT(r);
		events++;
	}
	pthread_join(hotplug, &ok);
	writer_end(&w);
	TH_LOG("%u events", events);
	EXPECT_NE(NULL, ok);
}

TEST_HARNESS_MAIN
