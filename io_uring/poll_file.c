// SPDX-License-Identifier: GPL-2.0
/*
 * Polls that don't hold the file they wait for
 *
 * OVERVIEW
 *
 * A request usually holds a reference to its file. For a poll that means that
 * close() is without effect as long as the poll is armed: the other end of
 * a pipe or a connection doesn't get to know about it, and the poll never ends.
 *
 * A poll that has REQ_F_POLL_CLOSE set trades its reference for a link on
 * ->f_uring_polls of the file once it is armed, ->file is NULL from then on. When
 * the last reference to the file is put, __fput() ends the polls it finds there
 * with -ECANCELED. On a DEFER_TASKRUN ring, a worker that arms a poll of a fixed
 * file leaves that to the task: see io_poll_attach_by_task().
 *
 * LIFETIME
 *
 * __fput() empties ->f_uring_polls before it calls ->release() of the file. As
 * long as a poll is linked, ->release() hasn't been called: the file and the
 * wait queues that the poll sits on are valid. Whoever takes a poll off its
 * wait queues and then unlinks it, with the lock of the list held, needs no
 * reference for that:
 *
 *  - io_poll_file_detach(), by the owner of a poll that is about to complete it
 *    or to arm it anew, with ->uring_lock held,
 *  - __io_uring_file_release(), from __fput().
 *
 * It isn't left to __fput() if the last reference has been put already: that
 * would make exec, exit and cancellations wait for another task to get on with
 * its __fput(). The price is that removing the link that empties the list must
 * be the last access to the file. __fput() checks the list without the lock,
 * see hlist_del_release().
 *
 * Both sides may want to end the poll. ->poll_refs decides who queues the
 * task_work that completes it, see io_poll_claim(). Unless that is __fput(), the
 * poll may be completed and freed by its owner once ->poll_file is NULL.
 *
 * To look at the file, a reference is taken for that time. That fails when
 * __fput() is under way, which is going to end the poll then, or just did.
 * Nobody waits for it: it may be a task_work of the task that would have to wait.
 *
 * LOCKING
 *
 *	ctx->uring_lock
 *	  io_poll_file_locks
 *	    lock of a wait queue
 *
 * __fput() doesn't take ->uring_lock. The list isn't protected by ->f_lock, it's
 * of no use to somebody who has no reference: ->f_lock is initialised each time
 * the memory of the file is used again.
 *
 * ->poll_file is set with ->uring_lock held, and is cleared with the lock of the
 * list held. That's the only change while a poll is armed.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/file.h>
#include <linux/hash.h>
#include <linux/init.h>
#include <linux/io_uring.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "rsrc.h"
#include "poll.h"
#include "poll_file.h"

#define IO_POLL_FILE_LOCK_BITS	6
#define IO_POLL_FILE_LOCKS	BIT(IO_POLL_FILE_LOCK_BITS)

static struct io_poll_file_lock {
	/* protects ->f_uring_polls of the files that hash to it */
	spinlock_t		lock;
} ____cacheline_aligned_in_smp io_poll_file_locks[IO_POLL_FILE_LOCKS];

static spinlock_t *io_poll_file_lock(const struct file *file)
{
	return &io_poll_file_locks[hash_ptr(file, IO_POLL_FILE_LOCK_BITS)].lock;
}

/*
 * As __hlist_del(), but who finds the list empty also sees what happened before.
 */
static void hlist_del_release(struct hlist_node *n)
{
	struct hlist_node *next = n->next;

	if (next)
		WRITE_ONCE(next->pprev, n->pprev);
	/* pairs with smp_load_acquire() in io_uring_file_release() */
	smp_store_release(n->pprev, next);
}

static void io_poll_file_unlink(struct io_kiocb *req)
{
	lockdep_assert_held(io_poll_file_lock(req->poll_file));

	io_poll_remove_entries(req);
	hlist_del_release(&req->poll_node);
	/*
	 * The owner may free the request now, this has to be the last access to
	 * it. Pairs with smp_load_acquire() in io_poll_file_detach().
	 */
	smp_store_release(&req->poll_file, NULL);
}

/*
 * Link an armed poll to its file, and let go of the reference. The caller is the
 * owner of the poll. After that, it may find that it has been cancelled.
 */
void io_poll_file_attach(struct io_kiocb *req)
{
	bool fixed = req->flags & REQ_F_FIXED_FILE;
	struct io_rsrc_node *node = req->file_node;
	struct file *file = req->file;

	lockdep_assert_held(&req->ctx->uring_lock);

	/*
	 * ->poll_file takes the place of ->file_node. To be armed anew isn't left
	 * to a worker: it'd hold the file until there is one that has the time.
	 */
	req->flags &= ~(REQ_F_FIXED_FILE | REQ_F_FORCE_ASYNC);
	req->poll_file = file;
	scoped_guard(spinlock, io_poll_file_lock(file))
		hlist_add_head(&req->poll_node, &file->f_uring_polls);

	req->file = NULL;
	if (fixed)
		io_put_rsrc_node(req->ctx, node);
	else
		fput(file);
}

/* Unlink a poll, unless __fput() did that already. The caller is the owner. */
void __io_poll_file_detach(struct io_kiocb *req)
{
	/* pairs with smp_store_release() in io_poll_file_unlink() */
	struct file *file = smp_load_acquire(&req->poll_file);

	lockdep_assert_held(&req->ctx->uring_lock);

	if (!file)
		return;
	/* the file may be gone, its address still tells which lock it was */
	guard(spinlock)(io_poll_file_lock(file));
	if (req->poll_file)
		io_poll_file_unlink(req);
}

/*
 * Make a poll that is going to be armed anew hold its file again. The caller is
 * the owner. Returns false if __fput() is under way, the poll has to end then.
 */
bool io_poll_file_hold(struct io_kiocb *req)
{
	struct file *file;

	if (req->file)
		return true;
	file = io_poll_file_get(req);
	if (!file)
		return false;
	__io_poll_file_detach(req);
	req->file = file;
	return true;
}

/*
 * Called by __fput() for a file that has polls. There is no reference left, so
 * nobody adds to the list any more. Each poll is dealt with on its own, there
 * can be a lot of them.
 */
void __io_uring_file_release(struct file *file)
{
	spinlock_t *lock = io_poll_file_lock(file);
	struct io_kiocb *req;
	bool claimed;

	do {
		spin_lock(lock);
		req = hlist_entry_safe(file->f_uring_polls.first,
				       struct io_kiocb, poll_node);
		if (!req) {
			spin_unlock(lock);
			break;
		}
		trace_io_uring_poll_close(req);
		/* else its owner is about to complete it, and waits for us */
		claimed = io_poll_claim(req);
		io_poll_file_unlink(req);
		/*
		 * With the lock held, which keeps us from being preempted, unless
		 * it's PREEMPT_RT: only we can get it completed, and its owner may
		 * wait for that. As in a wake up handler, so that pollers of the
		 * ring are told later.
		 */
		if (claimed)
			io_poll_execute_claimed(req, IOU_F_TWQ_IN_WAKE);
		spin_unlock(lock);
		cond_resched();
	} while (1);
}

static int __init io_poll_file_init(void)
{
	int i;

	/* by an initializer, each would be a lock class of its own */
	for (i = 0; i < IO_POLL_FILE_LOCKS; i++)
		spin_lock_init(&io_poll_file_locks[i].lock);
	return 0;
}
device_initcall(io_poll_file_init);
