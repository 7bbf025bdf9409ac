// SPDX-License-Identifier: GPL-2.0
/*
 * Polls of io_uring against epoll. A seeded program does the same random things to
 * files that are watched by both: a history. Every few steps, what the ring reports
 * is compared with what level triggered epoll instances say about the same files:
 *
 * - TRUTH is asked just before the ring and just after it. What it says both times
 *   has to be reported, what it says once may be.
 * - CAPPED is asked with the same limit as the ring. Both have to report first who
 *   is listed first. When that is, is known as an interval, see struct turn.
 *
 * Files like TCP sockets change by themselves. They may be ready a moment before
 * those who wait for them are woken, and a poll that wasn't doesn't have to report
 * it. There is a third instance for them, edge triggered and told about them before
 * the others, so that it's the last one to be woken: WOKEN.
 *
 * With a mismatch, the history is made as short as possible and printed.
 *
 *	--seed N	1 unless said
 *	--steps N	for each kind of ring
 *	--ring KIND	only that kind: plain, sqpoll, ...
 *	--replay FILE	what was printed; tells what happens, step by step
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>

#include "kselftest_harness.h"

#include "fuzz_files.h"
#include "fuzz_history.h"
#include "ring_fixture.h"

#define NR_GROUPS	6	/* of files, the first one is the bell */
#define NR_FILES	(2 * NR_GROUPS)
#define NR_FDS		64
#define FIRST_FD	100
#define NR_WATCHES	16
#define NR_FLYING	4
#define CQ_ENTRIES	256	/* there's room for those of some steps */
#define NR_OTHERS	4	/* other polls than level triggered ones */
#define NO_ROOM		252	/* struct step.wait, it's a lot of work */
#define NONE		255
#define NEVER		UINT64_MAX
#define RESULT		(~0ULL ^ ~0ULL >> 1) /* user_data of what isn't a poll */
#define TIMEOUT		(24 * 60 * 60)
#define SHRINK_MS	60000

static unsigned long long seed = 1, steps = 5000;
static const char *replay;
static unsigned int patience = RING_SOON_MS;
static bool verbose;

struct file {
	unsigned int fds;
	unsigned int others;	/* references */
};

/*
 * When a poll was listed, or will be. Known exactly if it was reported and is listed
 * for that reason, and not to be listed as long as nothing happens to the file if it
 * was found idle.
 */
struct turn {
	uint64_t from, to;
	bool idle;
};

enum queue { OF_RING, OF_EPOLL, NR_QUEUES };

struct watch {
	uint64_t id;		/* the user_data, 0 if there's none */
	unsigned int file;
	unsigned int fd;	/* under which epoll knows it */
	unsigned int flags;	/* of the poll */
	uint32_t mask;
	bool in_epoll;
	bool over;		/* the ring has reported its end */
	bool ending;		/* and has to */
	bool pending;		/* its CQE hasn't been consumed */
	unsigned int pos;	/* of that */
	bool touched;		/* since the last look */
	bool quiet;		/* not ready the last time we looked */
	bool heard;		/* events of an edge triggered poll since then */
	struct turn turn[NR_QUEUES];
};

struct report {
	uint64_t id;
	uint32_t events;
};

struct look {
	uint32_t before[NR_WATCHES];
	uint32_t after[NR_WATCHES];
	uint64_t start;
	bool racing;		/* with another thread */
};

enum { TRUTH, CAPPED, WOKEN, NR_EPOLLS };

/* Of an episode */
static struct {
	struct ring ring;
	int epoll[NR_EPOLLS];
	int outer;		/* epoll that watches the ring */
	int carrier[2];		/* of files in flight */
	int go[2];		/* to tell a child */
	struct fuzz_group group[NR_GROUPS];
	struct file file[NR_FILES];
	uint8_t fd[NR_FDS];	/* the file behind each descriptor */
	uint8_t flying[NR_FLYING];
	unsigned int nr_flying;
	struct watch watch[NR_WATCHES];
	struct report report[NR_WATCHES];
	unsigned int nr_reports;
	unsigned int nr_late;	/* CQEs of files that change by themselves */
	unsigned int seen;	/* CQEs up to that position */
	unsigned int relisted;	/* the same, of those that were consumed */
	unsigned int cap;	/* of the ring */
	unsigned int unseen;	/* steps without a look */
	unsigned int nr_async;	/* groups of files that change by themselves */
	uint64_t ids;
	uint64_t now;
	bool racing;

	pthread_t thread;
	sem_t start, done;
	const struct step *step;	/* of the other thread, NULL to quit */
} g;

/* Outlives whoever plays a history. */
static struct {
	unsigned long long steps, looks, reports, ends, sleeps;
	unsigned long long episode;
	unsigned int step;
	char why[256];
} *result;

#define WATCH_END	(g.watch + NR_WATCHES)

static bool broken(void)
{
	return result->why[0];
}

static __printf(1, 2) void fail(const char *fmt, ...)
{
	va_list args;

	if (broken())
		return;
	va_start(args, fmt);
	vsnprintf(result->why, sizeof(result->why), fmt, args);
	va_end(args);
}

#define MUST(cond)						\
	do {							\
		if (!(cond))					\
			fail("line %d: %s, errno %d", __LINE__,	\
			     #cond, errno);			\
	} while (0)

static __printf(1, 2) void say(const char *fmt, ...)
{
	va_list args;

	if (!verbose)
		return;
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
}

/*
 * Files
 */

static int fd_nr(unsigned int i)
{
	return FIRST_FD + i;
}

static struct fuzz_group *group_of(unsigned int file)
{
	return &g.group[file / 2];
}

static enum fuzz_kind kind_of(unsigned int file)
{
	return group_of(file)->kind;
}

static bool is_async(unsigned int file)
{
	return fuzz_async(kind_of(file));
}

/* Something is about to happen to a file, or to the one it's connected with. */
static void touch(unsigned int file)
{
	struct watch *w;
	enum queue q;

	for (w = g.watch; w < WATCH_END; w++) {
		if (!w->id || w->file / 2 != file / 2)
			continue;
		w->touched = true;
		for (q = 0; q < NR_QUEUES; q++) {
			if (!w->turn[q].idle)
				continue;
			w->turn[q].idle = false;
			w->turn[q].from = ++g.now;
		}
	}
}

/* The nth descriptor of a file, NONE if it hasn't got any */
static unsigned int fd_of(unsigned int file, unsigned int n)
{
	unsigned int i;

	if (!g.file[file].fds)
		return NONE;
	n %= g.file[file].fds;
	for (i = 0; g.fd[i] != file || n--; i++)
		;
	return i;
}

/* Give a file one more descriptor, not one under which epoll knows another. */
static unsigned int place(int fd, unsigned int file)
{
	unsigned int i;
	struct watch *w;

	for (i = 0; i < NR_FDS; i++) {
		if (g.fd[i] != NONE)
			continue;
		for (w = g.watch; w < WATCH_END; w++)
			if (w->in_epoll && w->fd == i)
				break;
		if (w == WATCH_END)
			break;
	}
	MUST(i < NR_FDS && dup2(fd, fd_nr(i)) >= 0);
	g.fd[i] = file;
	g.file[file].fds++;
	return i;
}

/* The last reference is gone: epoll forgets about it, the ring tells. */
static void unref(unsigned int file)
{
	struct fuzz_group *gr = group_of(file);
	struct watch *w;

	if (g.file[file].fds || g.file[file].others)
		return;
	for (w = g.watch; w < WATCH_END; w++) {
		if (!w->id || w->file != file)
			continue;
		w->in_epoll = false;
		if (w->over)
			w->id = 0;
		else
			w->ending = true;
	}
	if (!--gr->open) {
		g.nr_async -= is_async(file);
		fuzz_destroy(gr);
	}
}

static void drop_fd(unsigned int i)
{
	unsigned int file = g.fd[i];

	touch(file);
	/* its memory is a reference */
	if (kind_of(file) == FUZZ_RING && g.file[file].fds == 1)
		ring_unmap(&group_of(file)->ring);
	g.fd[i] = NONE;
	MUST(!close(fd_nr(i)));
	g.file[file].fds--;
	unref(file);
}

static void drop_fds(unsigned int file)
{
	while (g.file[file].fds)
		drop_fd(fd_of(file, 0));
}

static void create(unsigned int group, enum fuzz_kind kind)
{
	struct fuzz_group *gr = &g.group[group];
	int fd[2];

	gr->nr = group;
	gr->open = fuzz_make(gr, kind, fd);
	MUST(gr->open);
	g.nr_async += fuzz_async(kind);
	for (group = 0; group < gr->open; group++) {
		say(" file %u,", 2 * gr->nr + group);
		place(fd[group], 2 * gr->nr + group);
		close(fd[group]);
	}
	say(" %s", fuzz_kinds[kind]);
}

static void write_file(unsigned int file, unsigned int n, bool fill)
{
	fuzz_write(group_of(file), fd_nr(fd_of(file, 0)), n, fill);
}

static void read_file(unsigned int file, unsigned int n, bool all)
{
	fuzz_read(group_of(file), fd_nr(fd_of(file, 0)), n, all);
}

/*
 * The watches of epoll. It knows a file by the descriptor it was told.
 */

static uint32_t epoll_mask(const struct watch *w)
{
	/* the others always report that */
	return w->mask | (w->flags == POLL_LEVEL ? 0 : EPOLLRDHUP);
}

static void epoll_do(struct watch *w, int op)
{
	struct epoll_event e = { .data.u32 = w - g.watch };
	int i;

	for (i = NR_EPOLLS - 1; i >= 0; i--) {
		e.events = epoll_mask(w) | (i == WOKEN ? EPOLLET : 0);
		if (i != WOKEN || is_async(w->file))
			MUST(!epoll_ctl(g.epoll[i], op, fd_nr(w->fd), &e));
	}
}

/* It may have been closed, take another one of the file then. */
static bool epoll_fd_get(struct watch *w)
{
	unsigned int i;

	if (g.fd[w->fd] == w->file)
		return true;
	i = fd_of(w->file, 0);
	return i != NONE && dup2(fd_nr(i), fd_nr(w->fd)) >= 0;
}

static void epoll_fd_put(struct watch *w)
{
	if (g.fd[w->fd] != w->file)
		close(fd_nr(w->fd));
}

static void epoll_forget(struct watch *w)
{
	if (w->in_epoll && epoll_fd_get(w)) {
		epoll_do(w, EPOLL_CTL_DEL);
		epoll_fd_put(w);
		w->in_epoll = false;
	}
	/* else it's in flight: when it has landed */
	if (w->over && !w->in_epoll)
		w->id = 0;
}

static void snapshot(unsigned int which, uint32_t *events)
{
	struct epoll_event e[NR_WATCHES];
	int i, n;

	memset(events, 0, NR_WATCHES * sizeof(*events));
	if (which == WOKEN && !g.nr_async)
		return;
	n = epoll_wait(g.epoll[which], e, NR_WATCHES, 0);
	MUST(n >= 0);
	for (i = 0; i < n; i++)
		events[e[i].data.u32] = e[i].events;
}

static void listed(struct turn *t, uint64_t when)
{
	t->from = when;
	t->to = when;
	t->idle = false;
}

/*
 * What the ring reports
 */

static void event_of_level(struct watch *w, const struct io_uring_cqe *cqe)
{
	if (!(cqe->flags & IORING_CQE_F_MORE) || cqe->res <= 0)
		fail("level: res %d, flags %x", cqe->res, cqe->flags);
	else if (w->pending)
		fail("a second CQE, the first one hasn't been consumed");
	else if (w->ending && !g.racing)
		fail("a CQE of a poll that has been removed, or closed");
	if (broken())
		return;
	w->pending = true;
	w->pos = g.seen;
	g.report[g.nr_reports++] = (struct report) {
		.id = w->id,
		.events = cqe->res,
	};
	result->reports++;
}

/* One-shot and edge triggered */
static void event_of_other(struct watch *w, const struct io_uring_cqe *cqe)
{
	const uint32_t always = EPOLLERR | EPOLLHUP | EPOLLRDHUP;
	enum fuzz_kind kind = kind_of(w->file);
	bool more = cqe->flags & IORING_CQE_F_MORE;
	/* woken up by CQEs, or the file has been hung up */
	bool may_end = kind == FUZZ_RING || kind == FUZZ_PTY;

	if (cqe->res <= 0 || cqe->res & ~(w->mask | always) ||
	    (more && w->flags == POLL_ONESHOT) ||
	    (!more && w->flags == POLL_EDGE && !may_end))
		fail("%s: res %d, flags %x",
		     w->flags == POLL_EDGE ? "edge" : "one-shot", cqe->res,
		     cqe->flags);
	w->heard = true;
	w->over = !more;
	g.nr_late += is_async(w->file);
	if (!more)
		epoll_forget(w);
}

static void handle_cqe(const struct io_uring_cqe *cqe)
{
	uint64_t id = cqe->user_data & ~RESULT;
	struct watch *w = &g.watch[id % NR_WATCHES];
	bool there = w->id == id && !w->over;

	if (cqe->user_data & RESULT) {
		/* others may have completed, or be about to report something */
		if (!there || !cqe->res)
			return;
		if (w->flags == POLL_LEVEL)
			fail("remove or modify: %d", cqe->res);
		w->ending = false;
	} else if (!there) {
		fail("a CQE of no poll: res %d, flags %x", cqe->res,
		     cqe->flags);
	} else if (cqe->res == -ECANCELED && !cqe->flags && w->ending) {
		result->ends++;
		w->over = true;
		epoll_forget(w);
	} else if (w->flags == POLL_LEVEL) {
		event_of_level(w, cqe);
	} else {
		event_of_other(w, cqe);
	}
}

static void collect(void)
{
	if (ring_overflown(&g.ring))
		fail("CQEs have overflown");
	for (; g.seen != ring_load(g.ring.cq_tail) && !broken(); g.seen++) {
		const struct io_uring_cqe *cqe = __ring_cqe(&g.ring, g.seen);

		if (!(cqe->flags & IORING_CQE_F_SKIP) && cqe->user_data)
			handle_cqe(cqe);
	}
}

/* The CQEs that have been consumed list their polls, in that order. */
static void relist_consumed(void)
{
	struct watch *w;

	for (; g.relisted != *g.ring.cq_head; g.relisted++) {
		for (w = g.watch; w < WATCH_END; w++) {
			if (!w->id || !w->pending || w->pos != g.relisted)
				continue;
			w->pending = false;
			listed(&w->turn[OF_RING], ++g.now);
		}
	}
}

/*
 * The comparison
 */

static unsigned int least(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

static bool takes_part(const struct watch *w, enum queue q)
{
	if (q == OF_EPOLL)
		return w->in_epoll;
	return w->id && w->flags == POLL_LEVEL && !w->over && !w->ending &&
	       !w->pending;
}

/* What has to be reported: it's listed, and all the time it has been ready. */
static uint32_t must_be(const struct look *l, enum queue q,
			const struct watch *w)
{
	unsigned int i = w - g.watch;

	if (w->turn[q].to == NEVER || (l->racing && w->touched))
		return 0;
	return l->before[i] & l->after[i];
}

/* May these be reported? */
static bool may_be(const struct look *l, const struct watch *w, uint32_t events)
{
	unsigned int i = w - g.watch, fd = fd_of(w->file, 0);

	events &= ~(l->before[i] | l->after[i]);
	if (!events || !is_async(w->file))
		return !events;
	/* TRUTH may not have been woken yet, the file knows */
	return (l->racing && w->touched) || fd == NONE ||
	       !(events & ~file_events(fd_nr(fd), events, 0));
}

static void start_look(struct look *l)
{
	uint32_t woken[NR_WATCHES];
	struct watch *w;
	enum queue q;

	snapshot(TRUTH, l->before);
	snapshot(WOKEN, woken);
	l->start = ++g.now;
	for (w = g.watch; w < WATCH_END; w++) {
		unsigned int i = w - g.watch;

		if (!w->id || !(is_async(w->file) ? woken[i] : l->before[i]))
			continue;
		for (q = 0; q < NR_QUEUES; q++) {
			w->turn[q].idle = false;
			if (w->turn[q].to > l->start)
				w->turn[q].to = l->start;
		}
	}
}

/* The ring and CAPPED have looked at all that WOKEN has been woken for before. */
static void end_look(struct look *l)
{
	uint32_t woken[NR_WATCHES];

	snapshot(WOKEN, woken);
	snapshot(TRUTH, l->after);
}

/* Of n that were reported, each in its turn? The limit was this one. */
static void judge(const struct look *l, enum queue q, const struct report *r,
		  unsigned int n, unsigned int limit)
{
	static const char *const names[] = { "ring", "epoll" };
	bool reported[NR_WATCHES] = {};
	uint64_t turn = 0;
	struct watch *w;
	unsigned int i;

	if (n > limit)
		fail("%s: %u reported, the limit is %u", names[q], n, limit);
	for (i = 0; i < n; i++) {
		unsigned int slot = r[i].id % NR_WATCHES;
		struct turn *t = &g.watch[slot].turn[q];

		w = &g.watch[slot];
		reported[slot] = true;
		if (w->id != r[i].id)
			continue;
		if (must_be(l, q, w) & ~r[i].events ||
		    !may_be(l, w, r[i].events))
			fail("%s: watch %u has events %x, %x before, %x after",
			     names[q], slot, r[i].events, l->before[slot],
			     l->after[slot]);
		if (t->from > turn)
			turn = t->from;
		/* if it wasn't ready all the time, it may be listed anew */
		if (t->to < turn && must_be(l, q, w))
			fail("%s: watch %u isn't in turn, %u of %u", names[q],
			     slot, i + 1, n);
		listed(t, turn);
	}
	for (w = g.watch; w < WATCH_END; w++) {
		struct turn *t = &w->turn[q];

		if (reported[w - g.watch] || !takes_part(w, q))
			continue;
		if (n < limit || t->to < turn) {
			/* it was asked, and wasn't ready */
			if (must_be(l, q, w))
				fail("%s: watch %d has events %x and isn't reported, %u of %u are",
				     names[q], (int)(w - g.watch),
				     must_be(l, q, w), n, limit);
			t->idle = !is_async(w->file);
			t->from = l->start;
			t->to = NEVER;
		} else {
			/* perhaps it was, and is listed anew */
			if (!must_be(l, q, w))
				t->to = NEVER;
			if (t->from < turn)
				t->from = turn;
		}
		if (l->racing && w->touched) {
			t->idle = false;
			t->to = NEVER;
		}
	}
}

static unsigned int ask_epoll(struct report *r, unsigned int limit)
{
	struct epoll_event e[NR_WATCHES];
	int i, n = epoll_wait(g.epoll[CAPPED], e, least(limit, NR_WATCHES), 0);

	MUST(n >= 0);
	for (i = 0; i < n; i++)
		r[i] = (struct report) {
			g.watch[e[i].data.u32].id, e[i].events
		};
	return n;
}

static void judge_epoll(const struct look *l, const struct report *r,
			unsigned int n, unsigned int limit)
{
	unsigned int i;

	judge(l, OF_EPOLL, r, n, least(limit, NR_WATCHES));
	/* they are listed again at once */
	for (i = 0; i < n; i++)
		listed(&g.watch[r[i].id % NR_WATCHES].turn[OF_EPOLL], ++g.now);
}

/* What has to be there by now, other than events of level triggered polls */
static const char *missing(const struct look *l)
{
	struct watch *w;

	for (w = g.watch; w < WATCH_END; w++) {
		uint32_t before = l->before[w - g.watch];

		if (!w->id || w->over)
			continue;
		if (w->ending)
			return "a poll doesn't end";
		if (is_async(w->file))
			continue;
		if (before && w->flags == POLL_ONESHOT)
			return "a one-shot poll doesn't complete";
		if (before && w->flags == POLL_EDGE && w->quiet && !w->heard)
			return "an edge triggered poll doesn't say anything";
	}
	return NULL;
}

/* With SQPOLL, it is for another thread to post that. */
static void settle(const struct look *l)
{
	long long start = now_ms();
	const char *what;

	while ((what = missing(l)) && g.ring.flags & IORING_SETUP_SQPOLL &&
	       now_ms() - start < patience && !broken()) {
		sched_yield();
		collect();
	}
	if (what)
		fail("%s", what);
}

/* Those who don't get events have to know that there are some. */
static void judge_flags(const struct look *l, bool check_poll)
{
	struct pollfd p = { .fd = g.ring.fd, .events = POLLIN };
	bool listed = false, readable = ring_cq_count(&g.ring);
	struct watch *w;

	for (w = g.watch; w < WATCH_END; w++) {
		if (!w->id || w->ending || w->flags != POLL_LEVEL ||
		    !must_be(l, OF_RING, w))
			continue;
		listed = true;
		readable |= !w->pending || (int)(w->pos - *g.ring.cq_head) < 0;
	}
	if (listed && !ring_taskrun(&g.ring))
		fail("IORING_SQ_TASKRUN isn't set");
	if (check_poll && readable && poll(&p, 1, 0) != 1)
		fail("the ring isn't readable");
}

/* Take up room in the CQ ring. Others than level triggered polls would overflow. */
static unsigned int leave_room(unsigned int room)
{
	struct watch *w;
	unsigned int n;

	for (w = g.watch; w < WATCH_END; w++)
		if (w->id && (w->flags != POLL_LEVEL || w->ending))
			return CQ_ENTRIES;
	for (n = CQ_ENTRIES - ring_cq_count(&g.ring) - room; n; n--) {
		struct io_uring_sqe *sqe = ring_sqe(&g.ring);

		prep_nop(sqe, 0);
		if (ring_to_submit(&g.ring) == RING_ENTRIES || n == 1)
			MUST(ring_submit(&g.ring) > 0);
	}
	collect();
	return room;
}

/* Get events without sleeping. Returns how many there may be of level polls. */
static unsigned int get_events(const struct step *s)
{
	unsigned int limit = g.cap ?: CQ_ENTRIES, min = s->wait % 2;
	unsigned int cap = 1 + s->cap % 3, before = ring_cq_count(&g.ring), n;
	int ret;

	if (s->wait < 128) {
		ret = ring_harvest(&g.ring);
		min = 0;
	} else if (s->wait >= NO_ROOM) {
		min = 0;
		limit = least(limit, leave_room(cap));
		ret = ring_harvest(&g.ring);
	} else {
		limit = cap;
		ret = ring_wait_cap(&g.ring, min, s->cap > 240, cap);
	}
	collect();
	n = g.seen - *g.ring.cq_head;
	/*
	 * The SQ thread may post something just after the time is over, and so may
	 * one-shot and edge triggered polls that others have woken.
	 */
	if (ret == -ETIME && !before &&
	    (g.ring.flags & IORING_SETUP_SQPOLL ? !g.nr_reports : g.nr_late == n))
		n = 0;
	if (ret != (min && !n ? -ETIME : 0))
		fail("io_uring_enter: %d with %u CQEs", ret, n);
	return limit;
}

static void print_look(const struct look *l)
{
	unsigned int i;

	say("   epoll");
	for (i = 0; i < NR_WATCHES; i++)
		if (l->before[i] || l->after[i])
			say(" %u:%x%s", i, l->after[i],
			    l->before[i] != l->after[i] ? "!" : "");
	say(", ring");
	for (i = 0; i < g.nr_reports; i++)
		say(" %u:%x", (unsigned int)(g.report[i].id % NR_WATCHES),
		    g.report[i].events);
	say(", %u CQEs\n", ring_cq_count(&g.ring));
}

static void look(const struct step *s)
{
	struct report r[NR_WATCHES];
	struct look l = {};
	unsigned int limit, n;
	struct watch *w;

	if (ring_cq_count(&g.ring) > CQ_ENTRIES / 8)
		ring_seen_n(&g.ring, ring_cq_count(&g.ring));
	start_look(&l);
	relist_consumed();
	g.nr_reports = 0;
	g.nr_late = 0;
	limit = get_events(s);
	settle(&l);
	n = ask_epoll(r, limit);
	end_look(&l);
	print_look(&l);
	judge(&l, OF_RING, g.report, g.nr_reports, limit);
	judge_epoll(&l, r, n, limit);

	n = ring_cq_count(&g.ring);
	if (s->wait < NO_ROOM && s->keep % 4 > 1)
		n = s->keep % 4 == 2 ? n / 2 : 0;
	ring_seen_n(&g.ring, n);
	if (!broken())
		judge_flags(&l, s->keep / 16 % 4 == 1);
	for (w = g.watch; w < WATCH_END; w++) {
		w->touched = false;
		if (w->over)
			epoll_forget(w);
		w->quiet = !l.after[w - g.watch];
		w->heard &= !w->quiet;
	}
	g.unseen = 0;
	result->looks++;
}

/*
 * The steps
 */

static unsigned int choose_file(unsigned int n)
{
	uint8_t file[NR_FILES];
	unsigned int i, nr = 0;

	for (i = 1; i < NR_FILES; i++)
		if (g.file[i].fds)
			file[nr++] = i;
	return nr ? file[n % nr] : NONE;
}

static struct watch *choose_watch(unsigned int n)
{
	struct watch *watch[NR_WATCHES], *w;
	unsigned int nr = 0;

	for (w = g.watch; w < WATCH_END; w++)
		if (w != g.watch && w->id && !w->over && !w->ending)
			watch[nr++] = w;
	return nr ? watch[n % nr] : NULL;
}

static uint64_t new_id(const struct watch *w)
{
	return ++g.ids * NR_WATCHES + (w - g.watch);
}

static struct io_uring_sqe *sqe_for(const struct watch *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&g.ring);

	prep_nop(sqe, RESULT | w->id);
	return sqe;
}

static void submit(void)
{
	MUST(ring_submit(&g.ring) == 1);
	collect();
}

static void add(unsigned int file, unsigned int flags, uint32_t mask)
{
	unsigned int n, fd, others = 0;
	struct watch *w, *other;

	for (w = g.watch; w < WATCH_END; w++)
		others += w->id && w->flags != POLL_LEVEL;
	if (others == NR_OTHERS)
		flags = POLL_LEVEL;
	for (w = g.watch; w < WATCH_END; w++)
		if (!w->id)
			break;
	if (w == WATCH_END)
		return;
	/* a descriptor that epoll doesn't know yet */
	for (n = 0; n < g.file[file].fds; n++) {
		fd = fd_of(file, n);
		for (other = g.watch; other < WATCH_END; other++)
			if (other->in_epoll && other->fd == fd)
				break;
		if (other == WATCH_END)
			break;
	}
	if (n == g.file[file].fds)
		fd = place(fd_nr(fd_of(file, 0)), file);

	*w = (struct watch) {
		.id = new_id(w),
		.file = file,
		.fd = fd,
		.flags = flags,
		.mask = mask,
		.in_epoll = true,
		.quiet = true,
	};
	for (n = 0; n < NR_QUEUES; n++)
		w->turn[n] = (struct turn) { .from = ++g.now, .to = NEVER };
	say(" watch %u: file %u, %s, mask %x", (unsigned int)(w - g.watch), file,
	    flags == POLL_LEVEL ? "level" :
	    flags == POLL_EDGE ? "edge" : "one-shot", mask);
	epoll_do(w, EPOLL_CTL_ADD);
	prep_poll(sqe_for(w), fd_nr(fd), mask, flags, w->id);
	submit();
}

static uint32_t choose_mask(unsigned int n)
{
	static const uint32_t masks[] = {
		EPOLLIN, EPOLLIN, EPOLLIN, EPOLLIN | EPOLLRDHUP, EPOLLOUT,
		EPOLLIN | EPOLLOUT, EPOLLRDHUP, EPOLLIN | EPOLLRDNORM, 0,
	};

	return masks[n % ARRAY_SIZE(masks)];
}

static void modify(struct watch *w, uint32_t mask, bool events, bool user_data)
{
	uint64_t id = user_data ? new_id(w) : w->id;

	if (w->flags != POLL_LEVEL || !epoll_fd_get(w))
		return;
	say(" watch %u: mask %x", (unsigned int)(w - g.watch), mask);
	touch(w->file);
	if (events) {
		w->mask = mask;
		epoll_do(w, EPOLL_CTL_MOD);
	}
	prep_poll_update(sqe_for(w), w->id,
			 (events ? IORING_POLL_UPDATE_EVENTS : 0) |
			 (user_data ? IORING_POLL_UPDATE_USER_DATA : 0),
			 events ? mask : 0, user_data ? id : 0, RESULT | w->id);
	submit();
	w->id = id;
	epoll_fd_put(w);
}

static void remove_watch(struct watch *w, bool cancel)
{
	/* epoll needs a descriptor to forget it */
	if (!g.file[w->file].fds)
		return;
	say(" watch %u", (unsigned int)(w - g.watch));
	w->ending = true;
	if (cancel)
		prep_cancel(sqe_for(w), w->id, 0, RESULT | w->id);
	else
		prep_poll_remove(sqe_for(w), w->id, RESULT | w->id);
	submit();
	if (w->id && w->ending)
		epoll_forget(w);
}

static void new_group(unsigned int kind)
{
	unsigned int i;

	for (i = 1; i < NR_GROUPS; i++) {
		if (g.group[i].open)
			continue;
		create(i, kind % FUZZ_KINDS);
		return;
	}
}

/* Somebody else has a reference no more. */
static void put_file(unsigned int file)
{
	touch(file);
	g.file[file].others--;
	unref(file);
}

/* Into the queue of a socket, and perhaps nowhere else any more */
static void pass(unsigned int file, bool all)
{
	int fd = fd_nr(fd_of(file, 0));

	/* rings can't be passed */
	if (g.nr_flying == NR_FLYING || kind_of(file) == FUZZ_RING)
		return;
	MUST(!send_fds(g.carrier[0], &fd, 1));
	g.file[file].others++;
	g.flying[g.nr_flying++] = file;
	if (all)
		drop_fds(file);
}

static void land(void)
{
	int fd;

	if (!g.nr_flying)
		return;
	fd = recv_fd(g.carrier[1]);
	MUST(fd >= 0);
	place(fd, g.flying[0]);
	close(fd);
	put_file(g.flying[0]);
	memmove(g.flying, g.flying + 1, --g.nr_flying);
}

/* The socket that they are in the queue of is closed. */
static void crash(void)
{
	close(g.carrier[0]);
	close(g.carrier[1]);
	while (g.nr_flying)
		put_file(g.flying[--g.nr_flying]);
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, g.carrier));
}

/* A child has the file, and takes it with it. */
static void fork_and_close(unsigned int file, const struct step *s)
{
	pid_t child = fork();
	char c;

	MUST(child >= 0);
	if (!child)
		_exit(read(g.go[0], &c, 1) != 1);
	g.file[file].others++;
	drop_fds(file);
	say(" and close\n");
	look(s);
	say("   the child exits");
	MUST(write(g.go[1], "x", 1) == 1);
	MUST(waitpid(child, NULL, 0) == child);
	put_file(file);
}

static void do_op(const struct step *s)
{
	static const unsigned int flags[] = { POLL_EDGE, POLL_ONESHOT };
	unsigned int file = choose_file(s->a);
	struct watch *w = choose_watch(s->a);

	if (s->op == NEW)
		new_group(s->b);
	else if (s->op == LAND)
		land();
	else if (s->op == CRASH)
		crash();
	else if (s->op == CAP)
		MUST(!ring_set_cap(&g.ring, g.cap = s->a % 5));
	else if (s->op == MODIFY && w)
		modify(w, choose_mask(s->c), s->b % 4, s->b % 4 < 2);
	else if (s->op == REMOVE && w)
		remove_watch(w, s->b % 2);
	if (s->op >= NEW && s->op != PASS && s->op != FORK && s->op != ADD)
		return;
	if (file == NONE)
		return;

	say(" file %u", file);
	if (s->op < CLOSE)
		touch(file);
	if (s->op == WRITE || s->op == FILL)
		write_file(file, s->b, s->op == FILL);
	else if (s->op == READ || s->op == DRAIN)
		read_file(file, s->b, s->op == DRAIN);
	else if (s->op == SHUTDOWN)
		shutdown(fd_nr(fd_of(file, 0)), s->b % 3);
	else if (s->op == CLOSE && s->b % 2)
		drop_fds(file);
	else if (s->op == CLOSE)
		drop_fd(fd_of(file, s->c));
	else if (s->op == DUP && g.file[file].fds < 3)
		place(fd_nr(fd_of(file, s->b)), file);
	else if (s->op == PASS)
		pass(file, s->b % 2);
	else if (s->op == FORK)
		fork_and_close(file, s);
	else if (s->op == ADD)
		add(file, s->b % 8 < 6 ? POLL_LEVEL : flags[s->b % 2],
		    choose_mask(s->c));
}

/* Does whoever sleeps in the ring have a reason to wake up? */
static bool anything_new(void)
{
	uint32_t events[NR_WATCHES];
	struct watch *w;

	snapshot(TRUTH, events);
	for (w = g.watch; w < WATCH_END; w++) {
		if (w->id && w->ending)
			return true;
		if (events[w - g.watch] && takes_part(w, OF_RING) &&
		    !is_async(w->file))
			return true;
	}
	return false;
}

static void *other_thread(void *arg)
{
	unsigned int delay;

	for (;;) {
		sem_wait(&g.start);
		if (!g.step)
			return arg;
		for (delay = g.step->cap * g.step->cap; delay; delay--)
			__asm__ __volatile__("");
		do_op(g.step);
		if (g.racing && (how_of(g.step) == EPOLL_SLEEPS || !anything_new())) {
			touch(0);
			eventfd_write(fd_nr(0), 1);
		}
		sem_post(&g.done);
	}
}

static int sleep_in_ring(unsigned int min_complete)
{
	const struct __kernel_timespec ts = ring_ms(patience);
	const struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&ts };

	return sys_io_uring_enter(g.ring.fd, 0, min_complete,
				  IORING_ENTER_GETEVENTS |
				  IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
}

/*
 * Edge triggered, for a ring that is readable already. The ends of polls, and of
 * rings, are task_work that interrupts it.
 */
static int sleep_in_epoll(unsigned int ms)
{
	struct epoll_event e;
	int ret;

	do {
		ret = epoll_wait(g.outer, &e, 1, ms);
	} while (ret < 0 && errno == EINTR);
	return ret == 1 ? 0 : -ETIME;
}

/* Sleep while the other thread does something. */
static void race(const struct step *s, bool in_ring)
{
	const struct step all = { .keep = 3 };
	struct look l = { .racing = true };
	unsigned int min;
	long long start;
	int ret;

	/* that of the bell is to be a new one */
	if (g.watch->pending)
		ring_seen_n(&g.ring, ring_cq_count(&g.ring));
	/* what is ready has its CQE then, and doesn't keep us from sleeping */
	look(&all);
	if (!in_ring) {
		sleep_in_epoll(0);
		look(&all);
	}
	if (broken())
		return;
	start_look(&l);
	relist_consumed();
	g.nr_reports = 0;
	g.racing = true;
	g.step = s;
	result->sleeps++;
	min = ring_cq_count(&g.ring) + 1;
	start = now_ms();
	sem_post(&g.start);
	ret = in_ring ? sleep_in_ring(min) : sleep_in_epoll(patience);
	if (ret || now_ms() - start >= patience)
		fail("%s: not woken up, %d", in_ring ? "io_uring_enter" :
		     "epoll_wait of the ring", ret);
	sem_wait(&g.done);
	collect();
	g.racing = false;
	say("\n");
	if (in_ring) {
		end_look(&l);
		print_look(&l);
		judge(&l, OF_RING, g.report, g.nr_reports,
		      g.cap ?: CQ_ENTRIES);
	}
	touch(0);
	read_file(0, 0, true);
}

static void do_step(const struct step *s)
{
	enum how how = s->op < FORK ? how_of(s) : ALONE;

	say("%s:", ops[s->op].name);
	if (how >= RING_SLEEPS) {
		say(" by another thread, while %s sleeps\n",
		    how == RING_SLEEPS ? "the ring" : "epoll");
		race(s, how == RING_SLEEPS);
	} else if (how == JOINED) {
		g.step = s;
		sem_post(&g.start);
		sem_wait(&g.done);
	} else {
		do_op(s);
	}
	say("\n");
	result->steps++;
	if (broken())
		return;
	collect();
	/* others than level triggered polls fill the CQ ring meanwhile */
	if (how >= RING_SLEEPS || s->keep / 64 || ++g.unseen > 3 ||
	    ring_cq_count(&g.ring) > CQ_ENTRIES / 4)
		look(s);
}

static void begin_episode(const struct ring_opts *kind)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	struct ring_opts opts = *kind;
	int i;

	memset(&g, 0, sizeof(g));
	memset(g.fd, NONE, sizeof(g.fd));
	g.ids = 1;
	opts.cq_entries = CQ_ENTRIES;
	opts.reg_wait = true;
	MUST(!ring_init(&g.ring, &opts));
	for (i = 0; i < NR_EPOLLS; i++)
		g.epoll[i] = epoll_create1(EPOLL_CLOEXEC);
	g.outer = epoll_create1(EPOLL_CLOEXEC);
	MUST(!epoll_ctl(g.outer, EPOLL_CTL_ADD, g.ring.fd, &e));
	MUST(!pipe2(g.go, O_CLOEXEC));
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, g.carrier));
	sem_init(&g.start, 0, 0);
	sem_init(&g.done, 0, 0);
	MUST(!pthread_create(&g.thread, NULL, other_thread, NULL));
	say("the bell:");
	create(0, FUZZ_EVENTFD);
	add(0, POLL_LEVEL, EPOLLIN);
	say("\n");
}

static void end_episode(void)
{
	const struct step all = {};
	struct watch *w;
	unsigned int i;

	crash();
	for (i = 0; i < NR_FILES; i++)
		drop_fds(i);
	say("the end\n");
	look(&all);
	for (w = g.watch; w < WATCH_END; w++)
		if (w->id)
			fail("watch %u is left", (unsigned int)(w - g.watch));
	g.step = NULL;
	sem_post(&g.start);
	pthread_join(g.thread, NULL);
	for (i = 0; i < NR_EPOLLS; i++)
		close(g.epoll[i]);
	for (i = 0; i < 2; i++) {
		close(g.go[i]);
		close(g.carrier[i]);
	}
	close(g.outer);
	munmap(g.ring.reg_wait, getpagesize());
	ring_exit(&g.ring);
}

static void play(const struct ring_opts *kind, const struct step *s,
		 unsigned int n)
{
	unsigned int i;

	begin_episode(kind);
	for (i = 0; i < n && !broken(); i++) {
		result->step = i;
		say("%u ", i);
		do_step(&s[i]);
	}
	if (!broken())
		end_episode();
}

/*
 * Each run is in a child of its own: what is left after a failure does no harm.
 * Returns whether it failed.
 */
static bool fails(void (*run)(const struct ring_opts *, const struct step *,
			      unsigned int),
		  const struct ring_opts *kind, const struct step *s,
		  unsigned int n)
{
	int status;
	pid_t child;

	memset(result, 0, sizeof(*result));
	fflush(stdout);
	child = fork();
	if (!child) {
		run(kind, s, n);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		fail("the program ended with status %x", status);
	return broken();
}

static void run_episodes(const struct ring_opts *kind, const struct step *s,
			 unsigned int n)
{
	struct step random[EPISODE];

	while (result->steps < steps && !broken()) {
		generate(random, seed, result->episode);
		play(kind, random, EPISODE);
		if (!broken())
			result->episode++;
	}
	(void)s;
	(void)n;
}

/* Races may go the other way: a history that has failed once in a few runs does. */
static bool fails_again(const struct ring_opts *kind, const struct step *s,
			unsigned int n, unsigned int runs)
{
	while (runs--)
		if (fails(play, kind, s, n))
			return true;
	return false;
}

/* Leave out what isn't needed, first many steps at a time, then few. */
static unsigned int shrink(const struct ring_opts *kind, struct step *s,
			   unsigned int n, unsigned int runs)
{
	long long end = now_ms() + SHRINK_MS;
	struct step less[EPISODE];
	unsigned int chunk, at, i;

	for (chunk = n / 2 ?: 1; chunk; chunk /= 2) {
		for (at = 0; at + chunk <= n && now_ms() < end;) {
			memcpy(less, s, at * sizeof(*s));
			memcpy(less + at, s + at + chunk,
			       (n - at - chunk) * sizeof(*s));
			if (!fails_again(kind, less, n - chunk, runs)) {
				at += chunk;
				continue;
			}
			n -= chunk;
			memcpy(s, less, n * sizeof(*s));
		}
	}
	/* and then how steps are done: nothing special, but do look */
	for (at = 0; at < n && now_ms() < end; at++) {
		const struct step plain = { .keep = 64 };
		const size_t from = offsetof(struct step, how);

		for (i = from; i < sizeof(*s); i++) {
			memcpy(less, s, n * sizeof(*s));
			((uint8_t *)&less[at])[i] = ((uint8_t *)&plain)[i];
			if (memcmp(less, s, n * sizeof(*s)) &&
			    fails_again(kind, less, n, runs))
				s[at] = less[at];
		}
	}
	return n;
}

static void investigate(const struct ring_opts *kind, const char *ring)
{
	unsigned long long episode = result->episode;
	unsigned int runs, n = result->step + 1;
	struct step s[EPISODE];

	printf("# MISMATCH seed %llu ring %s episode %llu step %u: %s\n", seed,
	       ring, episode, result->step, result->why);
	generate(s, seed, episode);
	patience = RING_SOON_MS / 20;
	for (runs = 1; runs <= 16; runs *= 2)
		if (fails_again(kind, s, n, runs))
			break;
	if (runs > 16)
		printf("# It doesn't happen again.\n");
	else
		n = shrink(kind, s, n, runs);
	if (runs <= 16 && fails_again(kind, s, n, runs))
		printf("# %s\n", result->why);
	print_history(ring, s, n);
}

TEST_F_TIMEOUT(ring, history, TIMEOUT)
{
	struct __fixture_variant_metadata *v = _metadata->fixture->variant;
	struct step s[EPISODE];
	char *ring = NULL;
	sigset_t set;

	while (v->data != variant)
		v = v->next;
	signal(SIGPIPE, SIG_IGN);
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	lo_up();
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, result);
	if (replay) {
		unsigned int n = read_history(replay, s, &ring);

		ASSERT_LT(0U, n);
		verbose = true;
		EXPECT_FALSE(fails(play, &variant->ring, s, n)) {
			TH_LOG("%s", result->why);
		}
		return;
	}
	EXPECT_FALSE(fails(run_episodes, &variant->ring, NULL, 0)) {
		investigate(&variant->ring, v->name);
		return;
	}
	ksft_print_msg("%s: seed %llu, %llu steps, %llu looks, %llu CQEs, %llu ends, %llu sleeps\n",
		       v->name, seed, result->steps, result->looks,
		       result->reports, result->ends, result->sleeps);
}

int main(int argc, char **argv)
{
	char variant[] = "-v", *args[4] = { argv[0], variant };
	struct step s[EPISODE];
	int i;

	for (i = 1; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
		if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--steps"))
			steps = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--ring"))
			args[2] = argv[i + 1];
		else if (!strcmp(argv[i], "--replay"))
			replay = argv[i + 1];
		else
			break;
	}
	if (i == 1)
		return test_harness_run(argc, argv);
	if (i < argc) {
		fprintf(stderr, "usage: %s [--seed N] [--steps N] [--ring KIND] [--replay FILE]\n",
			argv[0]);
		return KSFT_FAIL;
	}
	if (replay)
		read_history(replay, s, &args[2]);
	return test_harness_run(args[2] ? 3 : 1, args);
}
