// SPDX-License-Identifier: GPL-2.0
/*
 * Level triggered multishot poll: IORING_POLL_ADD_MULTI | IORING_POLL_ADD_LEVEL
 *
 * OVERVIEW
 *
 * As long as the file is ready, each io_uring_enter() that gets events posts
 * a CQE for the poll, unless the previous one is still in the CQ ring: a poll
 * never has two of them there. Like epoll, a ring keeps a list of the polls that
 * may be ready, and asks the files when somebody wants to know, see
 * io_level_harvest(). A wake up just puts the poll on the list, and wakes whoever
 * waits for the ring. There is no task_work, but to complete a poll in the end.
 *
 * A level triggered poll doesn't hold its file, see poll_file.c.
 *
 * STATES
 *
 *         wake up           harvest               harvest
 *   idle ---------> woken ----------> ready -----------------> reported
 *    ^                                | ^      CQE posted         |
 *    |            harvest             | |        harvest          |
 *    +--------------------------------+ +-------------------------+
 *             file isn't ready               CQE consumed
 *
 *   idle		on no list
 *   woken	->level_woken, lockless, pushed to by wake ups
 *   ready	->level_ready, a FIFO
 *   reported	->level_reported, in the order of the CQEs
 *
 * ->poll_refs tells who owns the poll:
 *
 *   0			idle. Whoever changes it to LISTED pushes the poll to
 *			->level_woken.
 *   LISTED | 1		on one of the lists, it belongs to the ring. Changed to 0
 *			by a harvest that finds the file not ready.
 *   LISTED | RETRY | 1	as above, woken since the harvest looked at it, or since
 *			it was listed. It doesn't become idle then, but is looked
 *			at once more.
 *   1			being armed, also with RETRY or CANCEL. A worker may
 *			leave it so until the task attaches it to its file, see
 *			io_poll_attach_by_task().
 *   CANCEL | 1		claimed. Whoever changed the above to that queues the
 *			task_work, which completes the poll. It may still be
 *			linked to a list.
 *
 * It's changed by a wake up (io_level_wake()), a harvest (io_level_look()), arming
 * (io_level_start(), io_level_update_events()), and whoever claims it
 * (io_level_claim()). Only the harvest and arming hold ->uring_lock for that. Each
 * is a single atomic operation. In particular, setting CANCEL and clearing LISTED
 * in one go is what makes sure that a poll isn't completed, and freed, before the
 * task_work of somebody else who claimed it was queued.
 *
 * LOCKING
 *
 *	ctx->uring_lock
 *	  io_poll_file_locks
 *	    lock of a wait queue of the file
 *	      ctx->cq_wait.lock
 *
 * ->uring_lock protects ->level_ready, ->level_reported and ->level_entry. It's
 * held while the file of an armed poll is polled, as for other polls. The wait queue
 * may be the ->poll_wq of a ring, even of the same one. It's never ->cq_wait, which
 * can't be polled.
 *
 * REMOVAL
 *
 * A poll goes away by its task_work alone, with ->uring_lock held. It takes the
 * poll off the wait queues first, which waits for a wake up that is about to push
 * it, and then off the lists of the ring.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/io_uring.h>

#include <trace/events/io_uring.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "napi.h"
#include "wait.h"
#include "poll.h"
#include "poll_file.h"
#include "poll_level.h"

#define IO_LEVEL_LISTED		(IO_POLL_LISTED_FLAG | 1)

static struct io_poll *io_level_poll(struct io_kiocb *req)
{
	return io_kiocb_to_cmd(req, struct io_poll);
}

/*
 * The CQE that ends at @tail has been consumed if it isn't one of those from the
 * head on. There are ->cq_entries of them at most, even after the positions have
 * wrapped around. A bogus head makes it one that has been consumed.
 */
static bool io_level_consumed(struct io_ring_ctx *ctx, unsigned int head,
			      unsigned int tail)
{
	return tail - head - 1 >= READ_ONCE(ctx->cq_entries);
}

/* See io_level_reported_pending() */
bool __io_level_reported_pending(struct io_ring_ctx *ctx)
{
	guard(rcu)();
	return io_level_consumed(ctx, READ_ONCE(io_get_rings(ctx)->cq.head),
				 READ_ONCE(ctx->level_next_tail));
}

/* See io_level_pending() */
bool __io_level_pending(struct io_ring_ctx *ctx)
{
	return (READ_ONCE(ctx->level_state) & IO_LEVEL_READY) ||
	       !llist_empty(&ctx->level_woken) ||
	       io_level_reported_pending(ctx);
}

/* Tell those who don't hold ->uring_lock what there is on the lists. */
static void io_level_set_state(struct io_ring_ctx *ctx, bool ready)
{
	unsigned int state = ready ? IO_LEVEL_READY : 0;
	struct io_kiocb *req;

	lockdep_assert_held(&ctx->uring_lock);

	req = list_first_entry_or_null(&ctx->level_reported, struct io_kiocb,
				       level_entry);
	if (req) {
		WRITE_ONCE(ctx->level_next_tail, io_level_poll(req)->cq_tail);
		state |= IO_LEVEL_REPORTED;
	}
	if (state != ctx->level_state)
		WRITE_ONCE(ctx->level_state, state);
}

/*
 * The lists have changed: tell that, and tell those who only peek whether they
 * have to enter the kernel for more CQEs.
 */
static void io_level_publish(struct io_ring_ctx *ctx)
{
	io_level_set_state(ctx, !list_empty(&ctx->level_ready));
	io_level_update_taskrun(ctx);
}

/* There is something new for those who wait for CQEs */
static void io_level_wake_waiters(struct io_ring_ctx *ctx, unsigned int tw_flags)
{
	if (ctx->flags & IORING_SETUP_DEFER_TASKRUN)
		io_local_work_wake(ctx, tw_flags);
	else
		io_cqring_wake(ctx);
}

/*
 * The caller has listed the poll, or found it woken when it was about to get idle.
 * The poll doesn't go away, the caller holds ->uring_lock or the lock of the wait
 * queue. Others look at ->level_woken after a full barrier, which llist_add() is on
 * this side.
 */
static void io_level_push(struct io_kiocb *req, unsigned int tw_flags)
{
	struct io_ring_ctx *ctx = req->ctx;

	if (llist_add(&req->level_wnode, &ctx->level_woken)) {
		io_ctx_set_taskrun(ctx);
		io_notify_pollers(ctx, tw_flags);
	}
	io_level_wake_waiters(ctx, tw_flags);
}

/* Called with the lock of the wait queue held, IOU_F_TWQ_IN_WAKE */
void io_level_wake(struct io_kiocb *req, unsigned int tw_flags)
{
	int v = atomic_read(&req->poll_refs), new;

	do {
		new = v ? v | IO_POLL_RETRY_FLAG : IO_LEVEL_LISTED;
	} while (!atomic_try_cmpxchg(&req->poll_refs, &v, new));

	/*
	 * If it was listed already, others have been told, and it counts once
	 * for those who wait for several. A task that went to sleep with its CQE
	 * in the ring has to be told if that was consumed by another task. Not so
	 * for those who poll the ring: it has been readable since.
	 */
	if (!v)
		io_level_push(req, tw_flags | IOU_F_TWQ_LAZY_WAKE);
	else if (io_level_reported_pending(req->ctx))
		io_level_wake_waiters(req->ctx, tw_flags);
}

/*
 * Flag a poll as cancelled. Returns true if the caller has to queue its task_work.
 * If not, the poll may go away, unless the caller holds a lock that prevents it.
 */
bool io_level_claim(struct io_kiocb *req)
{
	int v = atomic_read(&req->poll_refs), new;

	do {
		new = v | IO_POLL_CANCEL_FLAG | 1;
		new &= ~IO_POLL_LISTED_FLAG;
	} while (!atomic_try_cmpxchg(&req->poll_refs, &v, new));

	return !v || (v & IO_POLL_LISTED_FLAG);
}

/* Those that were woken get ready, the oldest one first */
static void io_level_splice_woken(struct io_ring_ctx *ctx)
{
	struct llist_node *node = llist_del_all(&ctx->level_woken);
	struct io_kiocb *req, *tmp;

	node = llist_reverse_order(node);
	llist_for_each_entry_safe(req, tmp, node, level_wnode)
		list_add_tail(&req->level_entry, &ctx->level_ready);
}

/* Those whose CQE has been consumed take their turn again */
static void io_level_splice_consumed(struct io_ring_ctx *ctx)
{
	unsigned int head = READ_ONCE(ctx->rings->cq.head);
	struct io_kiocb *req, *tmp;

	list_for_each_entry_safe(req, tmp, &ctx->level_reported, level_entry) {
		if (!io_level_consumed(ctx, head, io_level_poll(req)->cq_tail))
			break;
		list_move_tail(&req->level_entry, &ctx->level_ready);
	}
}

void io_level_task_func(struct io_tw_req tw_req, io_tw_token_t tw)
{
	struct io_kiocb *req = tw_req.req;
	struct io_ring_ctx *ctx = req->ctx;

	/* from now on there won't be any wake up that may list it */
	io_poll_file_detach(req);
	io_level_splice_woken(ctx);
	list_del(&req->level_entry);
	/* who missed the others meanwhile is woken by what completes this one */
	io_level_publish(ctx);
	hash_del(&req->hash_node);

	/* ->level_entry takes its place, and it is part of the CQE */
	memset(&req->big_cqe, 0, sizeof(req->big_cqe));
	req_set_fail(req);
	io_req_set_res(req, -ECANCELED, 0);
	io_req_task_complete(tw_req, tw);
}

/*
 * Put it on the wait queues of the file. Not having any is fine, there are files
 * in a state that doesn't change any more.
 */
static int io_level_arm(struct io_kiocb *req, struct file *file, __poll_t events,
			__poll_t *mask)
{
	struct io_poll *poll = io_level_poll(req);
	struct io_poll_table ipt = {
		.req = req,
	};

	io_init_poll_iocb(poll, events);
	/* RDHUP would be reported over and over, whoever wants it asks for it */
	poll->events = events | EPOLLERR | EPOLLHUP;
	req->apoll_events = poll->events;
	init_poll_funcptr(&ipt.pt, io_poll_queue_proc);
	ipt.pt._key = poll->events;

	*mask = vfs_poll(file, &ipt.pt) & poll->events;
	if (unlikely(ipt.error))
		io_poll_remove_entries(req);
	return ipt.error;
}

/*
 * Give up the ownership of a poll that has been armed. If it is ready, was woken
 * meanwhile, or isn't wanted any more, that is acted upon now.
 */
void io_level_start(struct io_kiocb *req, __poll_t mask)
{
	int v = 1;

	/* not woken and not ready: idle */
	if (!mask && atomic_try_cmpxchg(&req->poll_refs, &v, 0))
		return;

	v = atomic_read(&req->poll_refs);
	do {
		if (v & IO_POLL_CANCEL_FLAG) {
			io_poll_execute_claimed(req, 0);
			return;
		}
	} while (!atomic_try_cmpxchg(&req->poll_refs, &v, IO_LEVEL_LISTED));

	io_level_push(req, 0);
}

int io_level_add(struct io_kiocb *req, unsigned int issue_flags)
{
	bool by_task = io_poll_attach_by_task(req, issue_flags);
	struct io_ring_ctx *ctx = req->ctx;
	__poll_t mask;
	int ret;

	if (!file_can_poll(req->file))
		return -EPERM;

	INIT_HLIST_NODE(&req->hash_node);
	atomic_set(&req->poll_refs, 1);
	ret = io_level_arm(req, req->file, io_level_poll(req)->events, &mask);
	if (unlikely(ret))
		return ret;
	io_napi_add(req);

	io_ring_submit_lock(ctx, issue_flags);
	INIT_LIST_HEAD(&req->level_entry);
	/* as __io_arm_poll_handler() does */
	if (atomic_read(&req->work.flags) & IO_WQ_WORK_CANCEL)
		io_level_claim(req);
	io_poll_req_insert(req);
	if (by_task) {
		io_poll_queue_attach(req, mask);
	} else {
		io_poll_file_attach(req);
		io_level_start(req, mask);
	}
	io_ring_submit_unlock(ctx, issue_flags);
	return IOU_ISSUE_SKIP_COMPLETE;
}

static int io_level_update_events(struct io_kiocb *req, __poll_t events)
{
	__poll_t behaviour = io_level_poll(req)->events & ~0xffff;
	struct file *file;
	__poll_t mask;
	int ret, v = 0;

	/* as long as it is held, __fput() doesn't look for polls */
	file = io_poll_file_get(req);
	if (!file)
		return -EALREADY;

	/* nor do wake ups, until it's added again */
	io_poll_remove_entries(req);
	if (req_has_async_data(req))
		io_req_async_data_free(req);
	req->flags &= ~(REQ_F_SINGLE_POLL | REQ_F_DOUBLE_POLL);

	ret = io_level_arm(req, file, behaviour | (events & 0xffff), &mask);
	if (unlikely(ret)) {
		/* as with other polls, the update is fine and the poll isn't */
		if (io_level_claim(req))
			io_poll_execute_claimed(req, 0);
	} else if (mask && atomic_try_cmpxchg(&req->poll_refs, &v,
					      IO_LEVEL_LISTED)) {
		/*
		 * Was idle. If it's listed, it'll be looked at anyway: those who
		 * wait are woken as the update completes.
		 */
		io_level_push(req, 0);
	}
	fput(file);
	return 0;
}

/*
 * POLL_REMOVE of a level triggered poll. An update is done in place, the poll
 * keeps its state: it isn't reported anew if there is a CQE of it in the CQ ring.
 */
int io_level_update(struct io_kiocb *req, struct io_poll_update *upd)
{
	int ret;

	lockdep_assert_held(&req->ctx->uring_lock);

	if (atomic_read(&req->poll_refs) & IO_POLL_CANCEL_FLAG)
		return -EALREADY;

	if (!upd->update_events && !upd->update_user_data) {
		if (io_level_claim(req))
			io_poll_execute_claimed(req, 0);
		else if (!io_poll_attach_pending(req))
			return -EALREADY;
		hash_del(&req->hash_node);
		return 0;
	}
	if (io_poll_attach_pending(req))
		return -EALREADY;

	if (upd->update_events) {
		ret = io_level_update_events(req, upd->events);
		if (ret)
			return ret;
	}
	if (upd->update_user_data) {
		hash_del(&req->hash_node);
		req->cqe.user_data = upd->new_user_data;
		io_poll_req_insert(req);
	}
	return 0;
}

/*
 * The file wasn't ready. Unless it has been woken, the poll gets idle. If so, it
 * is to be listed, and others are told: nobody saw it pending while it was looked
 * at. If it was claimed, its task_work waits for ->uring_lock.
 */
static void io_level_idle(struct io_kiocb *req)
{
	int v = IO_LEVEL_LISTED;

	if (!atomic_try_cmpxchg(&req->poll_refs, &v, 0) &&
	    (v & IO_POLL_LISTED_FLAG))
		io_level_push(req, 0);
}

/*
 * Look whether the file is ready, and post a CQE if so. Returns false if there is
 * no room for it.
 */
static bool io_level_look(struct io_kiocb *req, unsigned int *posted)
{
	struct poll_table_struct pt = { ._key = req->apoll_events };
	struct io_ring_ctx *ctx = req->ctx;
	struct file *file;
	bool room = true;
	__poll_t mask;
	int v;

	list_del_init(&req->level_entry);

	v = atomic_read(&req->poll_refs);
	if (unlikely(!(v & IO_POLL_LISTED_FLAG)))
		return true;
	if (v & IO_POLL_RETRY_FLAG)
		atomic_andnot(IO_POLL_RETRY_FLAG, &req->poll_refs);
	/*
	 * Either the wake up that set RETRY is seen by vfs_poll(), or RETRY is
	 * seen by io_level_idle(): taking a reference is a full barrier.
	 */
	file = io_poll_file_get(req);
	if (unlikely(!file))
		return true;

	mask = vfs_poll(file, &pt) & req->apoll_events;
	if (mask) {
		io_napi_add_file(ctx, file);
		room = io_req_post_cqe_tail(req, mangle_poll(mask),
					    IORING_CQE_F_MORE,
					    &io_level_poll(req)->cq_tail);
		if (likely(room)) {
			list_add_tail(&req->level_entry, &ctx->level_reported);
			(*posted)++;
		} else {
			list_add(&req->level_entry, &ctx->level_ready);
		}
	} else {
		io_level_idle(req);
	}
	fput(file);
	return room;
}

/*
 * Look at each poll that may be ready once, and post CQEs, *@left of them at most.
 * That is what an io_uring_enter() has got left. Returns true if it has to return
 * to user space whatever number of CQEs it is waiting for: nothing is left, or
 * there is no room in the CQ ring.
 */
bool io_level_harvest_locked(struct io_ring_ctx *ctx, unsigned int *left)
{
	struct io_kiocb *req, *last;
	unsigned int posted = 0;
	bool stop = false;

	lockdep_assert_held(&ctx->uring_lock);

	io_level_splice_woken(ctx);
	io_level_splice_consumed(ctx);
	/*
	 * A poll of this very ring is not to see itself. Others may miss the rest
	 * of ->level_ready meanwhile: if there's anything left in the end, that
	 * is because of a CQE, or no room for one. Either makes the flush wake
	 * them.
	 */
	io_level_set_state(ctx, false);

	if (!list_empty(&ctx->level_ready)) {
		last = list_last_entry(&ctx->level_ready, struct io_kiocb,
				       level_entry);
		do {
			req = list_first_entry(&ctx->level_ready,
					       struct io_kiocb, level_entry);
			stop = !io_level_look(req, &posted) || posted == *left;
			cond_resched();
		} while (req != last && !stop);
	}

	*left -= posted;
	io_level_publish(ctx);
	trace_io_uring_poll_level_harvest(ctx, posted, *left);
	io_submit_flush_completions(ctx);
	return stop;
}

bool io_level_harvest(struct io_ring_ctx *ctx, unsigned int *left)
{
	guard(mutex)(&ctx->uring_lock);
	return io_level_harvest_locked(ctx, left);
}

/* IORING_REGISTER_POLL_LEVEL, with ->uring_lock held */
int io_level_register(struct io_ring_ctx *ctx, void __user *arg)
{
	struct io_uring_poll_level reg;

	if (copy_from_user(&reg, arg, sizeof(reg)))
		return -EFAULT;
	if (reg.flags || memchr_inv(&reg.resv, 0, sizeof(reg.resv)))
		return -EINVAL;
	if (reg.max_cqes > IORING_MAX_CQ_ENTRIES)
		return -EINVAL;

	WRITE_ONCE(ctx->level_max, reg.max_cqes);
	return 0;
}

/* IORING_REG_WAIT_LEVEL_MAX: the limit of a single io_uring_enter() */
int io_level_reg_wait(const struct io_uring_reg_wait *w, unsigned int *max)
{
	/* the application may change it at any time */
	*max = READ_ONCE(w->level_max);
	if (!*max || *max > IORING_MAX_CQ_ENTRIES)
		return -EINVAL;
	if (READ_ONCE(w->pad[0]) || READ_ONCE(w->pad[1]) ||
	    READ_ONCE(w->pad2[0]) || READ_ONCE(w->pad2[1]))
		return -EINVAL;
	return 0;
}

void io_level_show_fdinfo(struct io_kiocb *req, struct seq_file *m)
{
	int v = atomic_read(&req->poll_refs);
	const char *state = "idle";

	if (v & IO_POLL_CANCEL_FLAG)
		state = "cancelled";
	else if (v & IO_POLL_LISTED_FLAG)
		state = "listed";
	else if (io_poll_attach_pending(req))
		state = "arming";
	seq_printf(m, ", level=%s, events=%x", state,
		   mangle_poll(req->apoll_events));
}
