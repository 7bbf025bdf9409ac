/*
   Unix SMB/CIFS implementation.

   main select loop and event handling - io_uring implementation

     ** NOTE! The following LGPL license applies to the tevent
     ** library. This does NOT imply that all of Samba is released
     ** under the LGPL

   SPDX-License-Identifier: LGPL-3.0-or-later
*/

/*
 * Each tevent_fd has a poll of its own. What the kernel has to be told about it
 * is submitted by the next wait, all of it at once: polls that differ from what
 * their tevent_fd wants are on ->dirty, the others on ->idle. A poll outlives
 * its tevent_fd until the kernel is done with it.
 *
 * Level triggered polls, with a limit of one event a wait, are what epoll_wait()
 * with maxevents = 1 is: a wait reports one file that is ready at that time, and
 * it's another one's turn next. The file may be closed whenever one likes.
 *
 * One-shot polls are armed again after each event. Several of them may be
 * reported at once, while at most one handler is called by loop_once, and what
 * they report is what woke them. So poll() is asked again. The same goes for a
 * level triggered poll whose event sat behind completions of requests. The CQ
 * ring is the queue of what is to be handled.
 *
 * A poll that isn't level triggered reports the peer's shutdown(), whoever asks
 * for that. It would be armed again for ever if it only waits for room to write.
 * So such a poll becomes a multishot one, which reports changes and is replaced
 * after each event.
 *
 * A poll that isn't close aware holds its file. It's removed before the
 * tevent_fd is, so that a close() that follows is seen by the peer.
 *
 * The ring has one owner: the thread that loops the context. Another process or
 * thread makes a ring of its own and arms all polls there.
 */

#include "replace.h"
#include "system/filesys.h"
#include "system/select.h"
#include "tevent.h"
#include "tevent_internal.h"
#include "tevent_util.h"
#include "tevent_io_uring.h"

#ifdef HAVE_TEVENT_IO_URING

#include <liburing.h>

/* SQEs, the CQ ring has twice as many. */
#define IOURING_ENTRIES 128

/* IO_LOCAL_TW_DEFAULT_MAX of the kernel */
#define IOURING_WAKE_UPS 20

/* In user_data: not a struct iouring_poll but a request */
#define IOURING_REQ 1

#define IOURING_SQE_REFUSED (IOSQE_IO_LINK | IOSQE_IO_HARDLINK | \
			     IOSQE_IO_DRAIN | IOSQE_CQE_SKIP_SUCCESS)

struct iouring_poll {
	struct iouring_poll *prev, *next;
	/* the one it's on: ->idle or ->dirty */
	struct iouring_poll **list;

	/* NULL: only waits for its last CQE */
	struct tevent_fd *fde;
	/* what the kernel waits for, 0: it has no such poll */
	uint32_t armed;
	/* its last CQE is going to come because we asked for it */
	bool removing;
	/* it was woken though there's no room to write: make it edge triggered */
	bool edge;
	/* it is, and has reported something */
	bool replace;
	/* a file that can't be polled is always ready, for a one-shot poll */
	bool oneshot;
	/* the file was closed, nobody has set flags since */
	bool closed;
	/* as in epoll: don't report it to those who only want to write */
	bool got_error;
};

/* A CQE that was taken from the ring while waiting for another one */
struct iouring_cqe {
	struct iouring_cqe *prev, *next;
	struct io_uring_cqe cqe;
};

struct tevent_io_uring_req {
	struct tevent_io_uring_req *prev, *next;
	/* ->queued or ->submitted of that, NULL: it has completed */
	struct tevent_io_uring_req **list;
	struct iouring_event_context *iou;

	/* instead of the result */
	int error;
	/* says that it was cancelled */
	struct tevent_immediate *im;

	tevent_io_uring_submit_fn submit;
	tevent_io_uring_complete_fn complete;
	void *private_data;
};

struct iouring_event_context {
	/* a pointer back to the generic event_context */
	struct tevent_context *ev;

	struct io_uring ring;
	bool ring_ok;
	/* it has an owner */
	bool enabled;
	pid_t pid;
	unsigned long owner;
	enum tevent_io_uring_mode max_mode;
	enum tevent_io_uring_mode mode;

	struct iouring_poll *idle, *dirty;

	struct tevent_io_uring_req *queued, *submitted;
	struct iouring_cqe *cqes;

	bool (*panic_fallback)(struct tevent_context *ev, bool replay);
};

static enum tevent_io_uring_mode iouring_max_mode = TEVENT_IO_URING_LEVEL;
static bool iouring_standard = false;

/*
 * The ring
 */

static bool iouring_close_aware(const struct iouring_event_context *iou)
{
	return iou->mode >= TEVENT_IO_URING_ONESHOT_CLOSE;
}

/* A number that, unlike pthread_t, isn't used again for another thread. */
static unsigned long iouring_this_thread(void)
{
	static unsigned long last;
	static __thread unsigned long id;

	if (id == 0) {
		id = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
	}
	return id;
}

/* May we use the ring now? */
static bool iouring_is_owner(const struct iouring_event_context *iou)
{
	return iou->ring_ok && iou->enabled &&
	       iou->pid == tevent_cached_getpid() &&
	       iou->owner == iouring_this_thread();
}

/* Afterwards none of them uses anything of ours. They complete later. */
static void iouring_sync_cancel(struct iouring_event_context *iou,
				uint64_t user_data, unsigned flags)
{
	struct io_uring_sync_cancel_reg reg = {
		.addr = user_data,
		.fd = -1,
		.flags = flags,
		/* for ever */
		.timeout = { .tv_sec = -1, .tv_nsec = -1, },
	};

	while (io_uring_register_sync_cancel(&iou->ring, &reg) == -EINTR) {
		continue;
	}
}

static void iouring_ring_exit(struct iouring_event_context *iou)
{
	if (iou->ring_ok) {
		if (!iouring_close_aware(iou) && iouring_is_owner(iou)) {
			/* or else the files are held for some time */
			iouring_sync_cancel(iou, 0, IORING_ASYNC_CANCEL_ANY |
						    IORING_ASYNC_CANCEL_ALL);
			io_uring_get_events(&iou->ring);
		}
		io_uring_queue_exit(&iou->ring);
	}
	iou->ring_ok = false;
	iou->enabled = false;
}

/*
 * Returns 0, or -1 with errno. The ring has no owner yet: it may be set up by
 * one thread for another.
 */
static int iouring_ring_init(struct iouring_event_context *iou)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_R_DISABLED,
	};
	struct io_uring_poll_level level = { .max_cqes = 1, };
	int ret;

	ret = io_uring_queue_init_params(IOURING_ENTRIES, &iou->ring, &params);
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	iou->ring_ok = true;
	iou->pid = tevent_cached_getpid();
	/* a loop that has nothing to do isn't waiting for a disk */
	io_uring_set_iowait(&iou->ring, false);

	iou->mode = TEVENT_IO_URING_ONESHOT;
	if (params.features & IORING_FEAT_POLL_CANCEL_ON_CLOSE) {
		iou->mode = TEVENT_IO_URING_ONESHOT_CLOSE;
	}
	if (params.features & IORING_FEAT_POLL_LEVEL) {
		iou->mode = TEVENT_IO_URING_LEVEL;
	}
	iou->mode = MIN(iou->mode, iou->max_mode);

	if (iou->mode == TEVENT_IO_URING_LEVEL) {
		ret = io_uring_register_poll_level(&iou->ring, &level);
		if (ret < 0) {
			iouring_ring_exit(iou);
			errno = -ret;
			return -1;
		}
	}
	return 0;
}

static struct tevent_fd *iouring_event_add_fd(struct tevent_context *ev,
					      TALLOC_CTX *mem_ctx,
					      int fd, uint16_t flags,
					      tevent_fd_handler_t handler,
					      void *private_data,
					      const char *handler_name,
					      const char *location);

/* NULL if its events come from elsewhere */
static struct iouring_event_context *iouring_of(struct tevent_context *ev)
{
	if (ev->ops->add_fd != iouring_event_add_fd) {
		return NULL;
	}
	return talloc_get_type_abort(ev->additional_data,
				     struct iouring_event_context);
}

/*
 * Polls
 */

static void iouring_poll_move(struct iouring_poll *p, struct iouring_poll **list)
{
	if (p->list == list) {
		return;
	}
	DLIST_REMOVE(*p->list, p);
	DLIST_ADD_END(*list, p);
	p->list = list;
}

static void iouring_poll_free(struct iouring_poll *p)
{
	DLIST_REMOVE(*p->list, p);
	TALLOC_FREE(p);
}

/* As the epoll backend does it, from TEVENT_FD_* to EPOLL* */
static uint32_t iouring_poll_wanted(const struct iouring_poll *p)
{
	uint16_t flags = p->fde != NULL ? p->fde->flags : 0;
	uint32_t ret = 0;

	if (p->closed) {
		return 0;
	}
	if (p->got_error &&
	    !(flags & (TEVENT_FD_READ | TEVENT_FD_ERROR))) {
		return 0;
	}
	if (flags & TEVENT_FD_READ) {
		ret |= EPOLLIN | EPOLLRDHUP;
	}
	if (flags & TEVENT_FD_WRITE) {
		ret |= EPOLLOUT;
	}
	if (flags & TEVENT_FD_ERROR) {
		ret |= EPOLLRDHUP;
	}
	return ret;
}

/* What is wanted may have changed: tell the kernel with the next wait. */
static void iouring_poll_update(struct iouring_event_context *iou,
				struct iouring_poll *p)
{
	bool dirty = !p->removing &&
		     (p->replace || p->armed != iouring_poll_wanted(p));

	iouring_poll_move(p, dirty ? &iou->dirty : &iou->idle);
}

static struct iouring_poll *iouring_poll_new(struct iouring_event_context *iou,
					     struct tevent_fd *fde)
{
	struct iouring_poll *p = talloc_zero(iou, struct iouring_poll);

	if (p != NULL) {
		p->fde = fde;
		p->list = &iou->idle;
		DLIST_ADD_END(iou->idle, p);
	}
	return p;
}

/*
 * Let another one poll the tevent_fd, of which @p doesn't know any more. Without
 * memory for it, @p has to be removed and armed again.
 */
static void iouring_poll_replace(struct iouring_event_context *iou,
				 struct iouring_poll *p)
{
	struct iouring_poll *other = iouring_poll_new(iou, p->fde);

	if (other == NULL) {
		return;
	}
	other->oneshot = p->oneshot;
	other->edge = p->edge;
	other->got_error = p->got_error;
	p->fde->additional_data = other;
	p->fde = NULL;
	iouring_poll_update(iou, other);
}

/*
 * If it fails, the poll has ended and we have got its last CQE, or will get it.
 * IORING_OP_POLL_REMOVE would leave a poll alone that is about to report.
 */
static void iouring_prep_remove(struct iouring_poll *p,
				struct io_uring_sqe *sqe)
{
	io_uring_prep_cancel64(sqe, (uintptr_t)p, 0);
	/* prep leaves what was there */
	io_uring_sqe_set_data64(sqe, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	p->removing = true;
}

static void iouring_prep_poll(struct iouring_event_context *iou,
			      struct iouring_poll *p,
			      struct io_uring_sqe *sqe)
{
	uint32_t wanted = iouring_poll_wanted(p);

	if (p->armed == 0) {
		if (iou->mode == TEVENT_IO_URING_LEVEL && !p->oneshot) {
			io_uring_prep_poll_level(sqe, p->fde->fd, wanted);
		} else if (p->edge) {
			io_uring_prep_poll_multishot(sqe, p->fde->fd, wanted);
		} else {
			io_uring_prep_poll_add(sqe, p->fde->fd, wanted);
		}
		if (iouring_close_aware(iou)) {
			sqe->len |= IORING_POLL_CANCEL_ON_CLOSE;
		}
		io_uring_sqe_set_data(sqe, p);
		p->armed = wanted;
		return;
	}

	if (wanted != 0 &&
	    (iou->mode != TEVENT_IO_URING_LEVEL || p->oneshot)) {
		/* this one may be about to report, or has done so already */
		iouring_poll_replace(iou, p);
		wanted = 0;
	}
	if (wanted == 0) {
		iouring_prep_remove(p, sqe);
		return;
	}
	/*
	 * The same if this fails. It's the file that is polled, whatever has
	 * become of the descriptor: what epoll_ctl() would say is EBADF, as
	 * a new poll does.
	 */
	if (fcntl(p->fde->fd, F_GETFD) == -1) {
		iouring_prep_remove(p, sqe);
		return;
	}
	io_uring_prep_poll_update(sqe, (uintptr_t)p, 0, wanted,
				  IORING_POLL_UPDATE_EVENTS);
	io_uring_sqe_set_data64(sqe, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	p->armed = wanted;
}

/* NULL if the kernel takes no more SQEs for now */
static struct io_uring_sqe *iouring_get_sqe(struct iouring_event_context *iou)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&iou->ring);

	if (sqe == NULL) {
		io_uring_submit(&iou->ring);
		sqe = io_uring_get_sqe(&iou->ring);
	}
	return sqe;
}

/*
 * The file is about to be closed and the poll would hold it. Afterwards it
 * doesn't, its last CQE is still to come.
 */
static void iouring_poll_remove_now(struct iouring_event_context *iou,
				    struct iouring_poll *p)
{
	struct io_uring_sqe *sqe = NULL;

	if (iouring_close_aware(iou) || p->armed == 0 || p->removing) {
		return;
	}
	if (iou->pid != tevent_cached_getpid()) {
		/* that of another process, which holds the file anyway */
		return;
	}
	if (!iouring_is_owner(iou)) {
		/*
		 * Only the end of the ring helps. If there are requests, it
		 * has to wait for its owner.
		 */
		if (iou->submitted == NULL) {
			iouring_ring_exit(iou);
		}
		return;
	}
	sqe = iouring_get_sqe(iou);
	if (sqe == NULL) {
		return;
	}
	iouring_prep_remove(p, sqe);
	/* it's the task_work that lets go of the file */
	io_uring_submit_and_get_events(&iou->ring);
}

/*
 * Requests
 */

/* Are there no CQEs? */
static bool iouring_is_empty(const struct iouring_event_context *iou)
{
	return iou->cqes == NULL && io_uring_cq_ready(&iou->ring) == 0;
}

static bool iouring_pop(struct iouring_event_context *iou,
			struct io_uring_cqe *cqe)
{
	struct iouring_cqe *first = iou->cqes;
	struct io_uring_cqe *head = NULL;
	unsigned int i;

	if (first != NULL) {
		*cqe = first->cqe;
		DLIST_REMOVE(iou->cqes, first);
		TALLOC_FREE(first);
		return true;
	}
	io_uring_for_each_cqe(&iou->ring, i, head) {
		*cqe = *head;
		io_uring_cq_advance(&iou->ring, 1);
		return true;
	}
	return false;
}

static void iouring_req_move(struct tevent_io_uring_req *req,
			     struct tevent_io_uring_req **list)
{
	if (req->list != NULL) {
		DLIST_REMOVE(*req->list, req);
	}
	if (list != NULL) {
		DLIST_ADD_END(*list, req);
	}
	req->list = list;
}

/* Is it one of @req, and if so, is it the last one? */
static bool iouring_cqe_of(const struct io_uring_cqe *cqe,
			   const struct tevent_io_uring_req *req, bool *last)
{
	if (cqe->user_data != ((uintptr_t)req | IOURING_REQ)) {
		return false;
	}
	*last = !(cqe->flags & IORING_CQE_F_MORE);
	return true;
}

/* An event of a level triggered poll */
static bool iouring_comes_again(const struct iouring_event_context *iou,
				const struct io_uring_cqe *cqe)
{
	return iou->mode == TEVENT_IO_URING_LEVEL &&
	       !(cqe->user_data & IOURING_REQ) &&
	       (cqe->flags & IORING_CQE_F_MORE);
}

static void iouring_put_aside(struct iouring_event_context *iou,
			      const struct io_uring_cqe *cqe)
{
	struct iouring_cqe *aside = talloc(iou, struct iouring_cqe);

	if (aside == NULL) {
		tevent_abort(iou->ev, "io_uring: no memory for a completion");
		return;
	}
	*aside = (struct iouring_cqe) { .cqe = *cqe, };
	DLIST_ADD_END(iou->cqes, aside);
}

/*
 * The kernel has it. It may be at a place where it can't be cancelled, not even
 * found, so only its last CQE tells that its memory isn't used any more. CQEs of
 * others are put aside.
 */
static void iouring_req_cancel(struct iouring_event_context *iou,
			       struct tevent_io_uring_req *req)
{
	struct iouring_cqe *aside = NULL;
	struct iouring_cqe *next = NULL;
	struct io_uring_cqe *cqe = NULL;
	bool last = false;
	unsigned int i;
	unsigned int n;
	int ret;

	for (aside = iou->cqes; aside != NULL; aside = next) {
		next = aside->next;
		if (iouring_cqe_of(&aside->cqe, req, &last)) {
			DLIST_REMOVE(iou->cqes, aside);
			TALLOC_FREE(aside);
		}
	}
	while (!last) {
		io_uring_submit(&iou->ring);
		iouring_sync_cancel(iou, (uintptr_t)req | IOURING_REQ, 0);
		ret = io_uring_submit_and_wait(&iou->ring, 1);
		n = 0;
		io_uring_for_each_cqe(&iou->ring, i, cqe) {
			if (!iouring_cqe_of(cqe, req, &last) &&
			    !iouring_comes_again(iou, cqe)) {
				iouring_put_aside(iou, cqe);
			}
			n++;
		}
		io_uring_cq_advance(&iou->ring, n);
		if (ret < 0 && ret != -EINTR && ret != -EAGAIN &&
		    ret != -EBUSY) {
			/* somebody has closed it */
			break;
		}
	}
}

static int iouring_req_destructor(struct tevent_io_uring_req *req)
{
	struct iouring_event_context *iou = req->iou;

	if (req->list == NULL) {
		return 0;
	}
	if (req->list == &iou->submitted &&
	    iou->pid == tevent_cached_getpid()) {
		if (!iouring_is_owner(iou)) {
			tevent_debug(iou->ev, TEVENT_DEBUG_ERROR,
				     "io_uring: another thread has submitted "
				     "this request, it isn't freed\n");
			return -1;
		}
		iouring_req_cancel(iou, req);
	}
	iouring_req_move(req, NULL);
	return 0;
}

static void iouring_req_canceled(struct tevent_context *ev,
				 struct tevent_immediate *im,
				 void *private_data)
{
	struct tevent_io_uring_req *req =
		talloc_get_type_abort(private_data,
		struct tevent_io_uring_req);
	struct io_uring_cqe cqe = { .res = -ECANCELED, };

	req->complete(req, &cqe, req->private_data);
}

/* Take all requests from the ring. @complete: and tell them, later */
static void iouring_cancel_all(struct iouring_event_context *iou, bool complete)
{
	struct tevent_io_uring_req *req = NULL;

	while ((req = iou->submitted) != NULL || (req = iou->queued) != NULL) {
		if (req->list == &iou->submitted && iouring_is_owner(iou)) {
			iouring_req_cancel(iou, req);
		}
		iouring_req_move(req, NULL);
		if (complete) {
			tevent_schedule_immediate(req->im, iou->ev,
						  iouring_req_canceled, req);
		}
	}
}

static bool iouring_have_reqs(struct tevent_context *ev)
{
	struct iouring_event_context *iou = iouring_of(ev);

	return iou != NULL && (iou->queued != NULL || iou->submitted != NULL);
}

static void iouring_prep_req(struct iouring_event_context *iou,
			     struct tevent_io_uring_req *req,
			     struct io_uring_sqe *sqe)
{
	iouring_req_move(req, &iou->submitted);

	io_uring_prep_nop(sqe);
	req->submit(req, sqe, req->private_data);
	if ((sqe->flags & IOURING_SQE_REFUSED) ||
	    sqe->opcode == IORING_OP_ASYNC_CANCEL) {
		io_uring_prep_nop(sqe);
		sqe->flags = 0;
		req->error = -EINVAL;
	}
	sqe->user_data = (uintptr_t)req | IOURING_REQ;
}

/*
 * Waiting
 */

/* Prepare an SQE for all that has changed. false: there is more */
static bool iouring_flush(struct iouring_event_context *iou)
{
	struct iouring_poll *p = NULL;
	struct io_uring_sqe *sqe = NULL;

	while ((p = iou->dirty) != NULL) {
		iouring_poll_update(iou, p);
		if (p->list != &iou->dirty) {
			continue;
		}
		sqe = iouring_get_sqe(iou);
		if (sqe == NULL) {
			return false;
		}
		iouring_prep_poll(iou, p, sqe);
		iouring_poll_move(p, &iou->idle);
	}
	while (iou->queued != NULL) {
		sqe = iouring_get_sqe(iou);
		if (sqe == NULL) {
			return false;
		}
		iouring_prep_req(iou, iou->queued, sqe);
	}
	return true;
}

/* Wait for a CQE. Returns a negative errno, -ETIME perhaps, or at least 0. */
static int iouring_wait(struct iouring_event_context *iou,
			const struct timeval *tval)
{
	struct __kernel_timespec ts = {
		.tv_sec = tval->tv_sec,
		.tv_nsec = tval->tv_usec * 1000,
	};
	struct io_uring_getevents_arg arg = {
		.sigmask_sz = _NSIG / 8,
		.ts = (uintptr_t)&ts,
	};
	struct io_uring_cqe *cqe = NULL;
	unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;

	if (io_uring_sq_ready(&iou->ring) != 0) {
		return io_uring_submit_and_wait_timeout(&iou->ring, &cqe, 1,
							&ts, NULL);
	}
	/* what that does if there is nothing to submit, in less time */
	if (iou->ring.features & IORING_FEAT_NO_IOWAIT) {
		flags |= IORING_ENTER_NO_IOWAIT;
	}
	return io_uring_enter2(iou->ring.ring_fd, 0, 1, flags,
			       &arg, sizeof(arg));
}

/* Returns 0 or a negative errno. */
static int iouring_enter(struct iouring_event_context *iou,
			 const struct timeval *tval, bool wait)
{
	unsigned int before;
	int ret;

	wait = iouring_flush(iou) && wait;
	before = io_uring_cq_ready(&iou->ring);

	tevent_trace_point_callback(iou->ev, TEVENT_TRACE_BEFORE_WAIT);
	if (wait) {
		ret = iouring_wait(iou, tval);
	} else {
		ret = io_uring_submit_and_get_events(&iou->ring);
	}
	tevent_trace_point_callback(iou->ev, TEVENT_TRACE_AFTER_WAIT);

	/*
	 * The kernel runs so many wake-ups at a time. Have all of them before
	 * polls that are armed again come in between.
	 */
	while (iou->mode != TEVENT_IO_URING_LEVEL && ret >= 0) {
		unsigned int ready = io_uring_cq_ready(&iou->ring);

		if (ready - before < IOURING_WAKE_UPS) {
			break;
		}
		before = ready;
		ret = io_uring_get_events(&iou->ring);
	}

	switch (ret) {
	case -ETIME:
	case -EINTR:
	/* out of memory, or too many completions: handle those we have */
	case -EAGAIN:
	case -EBUSY:
		return 0;
	}
	return MIN(ret, 0);
}

/*
 * called to set the panic fallback function.
 */
_PRIVATE_ void tevent_iouring_set_panic_fallback(
				struct tevent_context *ev,
				bool (*panic_fallback)(struct tevent_context *ev,
						       bool replay))
{
	struct iouring_event_context *iou =
		talloc_get_type_abort(ev->additional_data,
		struct iouring_event_context);

	iou->panic_fallback = panic_fallback;
}

/*
 * called when a call of io_uring fails: iou is gone afterwards. Always from
 * loop_once, before it has called a handler.
 */
static void iouring_panic(struct iouring_event_context *iou,
			  const char *reason, int error)
{
	struct tevent_context *ev = iou->ev;
	bool (*panic_fallback)(struct tevent_context *ev, bool replay) =
		iou->panic_fallback;

	iouring_cancel_all(iou, true);
	TALLOC_FREE(ev->additional_data);

	tevent_debug(ev,
		     panic_fallback != NULL ?
		     TEVENT_DEBUG_ERROR : TEVENT_DEBUG_FATAL,
		     "io_uring: %s (%s) - calling %s\n", reason,
		     strerror(error),
		     panic_fallback != NULL ? "panic_fallback" : "abort()");
	if (panic_fallback == NULL || !panic_fallback(ev, true)) {
		abort();
	}
	errno = EINVAL;
}

/* What follows says what loop_once has to do then. */
enum iouring_step {
	IOURING_GO_ON,
	/* a handler was called, don't use iou any more */
	IOURING_HANDLED,
	/* iou is gone */
	IOURING_PANIC,
};

static enum iouring_step iouring_event(struct iouring_event_context *iou,
				       struct iouring_poll *p,
				       uint32_t revents)
{
	struct tevent_fd *fde = p->fde;
	uint16_t flags = 0;

	if (revents & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
		p->got_error = true;
		flags |= TEVENT_FD_ERROR | TEVENT_FD_READ;
	}
	if (revents & EPOLLIN) {
		flags |= TEVENT_FD_READ;
	}
	if (revents & EPOLLOUT) {
		flags |= TEVENT_FD_WRITE;
	}

	/*
	 * if we only wait for TEVENT_FD_WRITE, we should not tell the event
	 * handler about an error, and stop polling, to match the select()
	 * behavior
	 */
	if (p->got_error &&
	    !(fde->flags & (TEVENT_FD_READ | TEVENT_FD_ERROR))) {
		fde->flags &= ~TEVENT_FD_WRITE;
		iouring_poll_update(iou, p);
		return IOURING_GO_ON;
	}

	/* make sure we only pass the flags the handler is expecting. */
	flags &= fde->flags;
	if (flags == 0) {
		return IOURING_GO_ON;
	}
	tevent_common_invoke_fd_handler(fde, flags, NULL);
	return IOURING_HANDLED;
}

/* The poll has ended without an event. */
static enum iouring_step iouring_poll_ended(struct iouring_event_context *iou,
					    struct iouring_poll *p, int error,
					    bool removed)
{
	struct tevent_common_fd_buf buf = {};
	struct tevent_fd *fde = p->fde;

	switch (error) {
	case ECANCELED:
		/* removed: its flags may have been set again meanwhile */
		p->closed = !removed && iouring_close_aware(iou);
		iouring_poll_update(iou, p);
		return IOURING_GO_ON;
	case EPERM:
		if (p->oneshot) {
			break;
		}
		p->oneshot = true;
		iouring_poll_update(iou, p);
		return IOURING_GO_ON;
	case EBADF:
		TEVENT_DEBUG(iou->ev, TEVENT_DEBUG_ERROR,
			     "io_uring: EBADF for %s - disabling\n",
			     tevent_common_fd_str(&buf, "fde", fde));
		fde->additional_data = NULL;
		iouring_poll_free(p);
		tevent_common_fd_disarm(fde);
		/* perhaps there's nothing left to wait for */
		return tevent_common_have_events(iou->ev) ?
		       IOURING_GO_ON : IOURING_HANDLED;
	}
	TEVENT_DEBUG(iou->ev, TEVENT_DEBUG_FATAL,
		     "io_uring: poll of %s failed - %s\n",
		     tevent_common_fd_str(&buf, "fde", fde), strerror(error));
	iouring_panic(iou, "poll failed", error);
	return IOURING_PANIC;
}

/* What is it ready for by now? */
static uint32_t iouring_poll_again(const struct iouring_poll *p)
{
	struct pollfd pfd = {
		.fd = p->fde->fd,
		.events = iouring_poll_wanted(p),
	};

	if (poll(&pfd, 1, 0) != 1 || (pfd.revents & POLLNVAL)) {
		return 0;
	}
	return pfd.revents;
}

/* @fresh: no handler was called since the kernel has looked */
static enum iouring_step iouring_handle_poll(struct iouring_event_context *iou,
					     struct iouring_poll *p,
					     const struct io_uring_cqe *cqe,
					     bool fresh)
{
	bool level = iou->mode == TEVENT_IO_URING_LEVEL && !p->oneshot;
	bool last = !(cqe->flags & IORING_CQE_F_MORE);
	bool removed = p->removing;
	uint32_t revents = cqe->res;

	if (last) {
		p->armed = 0;
		p->removing = false;
		p->replace = false;
	}
	if (p->fde == NULL) {
		if (last) {
			iouring_poll_free(p);
		}
		return IOURING_GO_ON;
	}
	if (cqe->res < 0) {
		return iouring_poll_ended(iou, p, -cqe->res, removed);
	}
	if (!level || !fresh) {
		revents = iouring_poll_again(p);
	}
	if (!level) {
		if (revents == 0 && iouring_poll_wanted(p) == EPOLLOUT) {
			p->edge = true;
		}
		/* before the handler, which may wait for the same event */
		p->replace = !last && revents != 0;
		iouring_poll_update(iou, p);
	}
	return iouring_event(iou, p, revents);
}

static enum iouring_step iouring_handle_req(struct tevent_io_uring_req *req,
					    struct io_uring_cqe *cqe)
{
	if (req->error != 0) {
		cqe->res = req->error;
	}
	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		iouring_req_move(req, NULL);
	}
	cqe->user_data = 0;
	req->complete(req, cqe, req->private_data);
	return IOURING_HANDLED;
}

static enum iouring_step iouring_handle(struct iouring_event_context *iou,
					struct io_uring_cqe *cqe, bool fresh)
{
	uintptr_t data = cqe->user_data;

	if (data == 0) {
		/* a removal or an update that had nothing to do */
		return IOURING_GO_ON;
	}
	if (data & IOURING_REQ) {
		data &= ~(uintptr_t)IOURING_REQ;
		return iouring_handle_req((struct tevent_io_uring_req *)data,
					  cqe);
	}
	return iouring_handle_poll(iou, (struct iouring_poll *)data, cqe,
				   fresh);
}

/*
 * event loop handling using io_uring: wait for something and call one handler
 */
static int iouring_event_loop(struct iouring_event_context *iou,
			      struct timeval *tval)
{
	struct tevent_context *ev = iou->ev;
	struct io_uring_cqe cqe;
	bool fresh = false;
	bool empty;
	int ret;

	while (true) {
		empty = iouring_is_empty(iou);
		if (empty || iou->queued != NULL) {
			ret = iouring_enter(iou, tval, empty);
			if (ret < 0) {
				iouring_panic(iou, "io_uring_enter() failed",
					      -ret);
				return -1;
			}
			fresh = fresh || empty;
		}
		if (!iouring_pop(iou, &cqe)) {
			break;
		}
		switch (iouring_handle(iou, &cqe, fresh)) {
		case IOURING_GO_ON:
			break;
		case IOURING_HANDLED:
			return 0;
		case IOURING_PANIC:
			return -1;
		}
		if (iouring_is_empty(iou)) {
			*tval = tevent_common_loop_timer_delay(ev);
			if (tevent_timeval_is_zero(tval)) {
				return 0;
			}
		}
	}

	/* a signal or a time-out, perhaps both */
	if (ev->signal_events && tevent_common_check_signal(ev)) {
		return 0;
	}
	/* we don't care about a possible delay here */
	tevent_common_loop_timer_delay(ev);
	return 0;
}

/* Close the ring: none of the polls is armed any more. */
static void iouring_leave(struct iouring_event_context *iou)
{
	struct iouring_poll *p = NULL;
	struct iouring_poll *next = NULL;

	iouring_ring_exit(iou);
	while (iou->cqes != NULL) {
		struct iouring_cqe *aside = iou->cqes;

		DLIST_REMOVE(iou->cqes, aside);
		TALLOC_FREE(aside);
	}
	for (p = iou->idle; p != NULL; p = next) {
		next = p->next;
		iouring_poll_move(p, &iou->dirty);
	}
	for (p = iou->dirty; p != NULL; p = next) {
		next = p->next;
		if (p->fde == NULL) {
			iouring_poll_free(p);
			continue;
		}
		p->armed = 0;
		p->removing = false;
		p->replace = false;
	}
}

/* The ring and its requests are our parent's. */
static void iouring_check_fork(struct iouring_event_context *iou)
{
	if (iou->pid == tevent_cached_getpid()) {
		return;
	}
	iouring_leave(iou);
	iouring_cancel_all(iou, true);
	iou->pid = tevent_cached_getpid();
}

/* Make the ring ours. -1 with errno: we can't have it */
static int iouring_take(struct iouring_event_context *iou)
{
	int ret;

	if (iouring_is_owner(iou)) {
		return 0;
	}
	iouring_check_fork(iou);
	if (iou->enabled && iou->submitted != NULL) {
		tevent_debug(iou->ev, TEVENT_DEBUG_ERROR,
			     "io_uring: requests of another thread\n");
		errno = EBUSY;
		return -1;
	}
	/* it may be gone already: see iouring_poll_remove_now() */
	if (iou->enabled || !iou->ring_ok) {
		iouring_leave(iou);
	}
	if (!iou->ring_ok && iouring_ring_init(iou) != 0) {
		iouring_panic(iou, "io_uring_setup() failed", errno);
		return -1;
	}
	ret = io_uring_enable_rings(&iou->ring);
	if (ret < 0) {
		iouring_panic(iou, "io_uring_enable_rings() failed", -ret);
		return -1;
	}
	iou->enabled = true;
	iou->owner = iouring_this_thread();
	return 0;
}

/*
 * The ops
 */

/* Nothing is logged before tevent_set_debug(), so it's a loop that says this. */
static void iouring_log_mode(struct tevent_context *ev,
			     enum tevent_io_uring_mode mode)
{
	static bool logged;

	if (logged || mode == TEVENT_IO_URING_LEVEL) {
		return;
	}
	logged = true;
	tevent_debug(ev, TEVENT_DEBUG_WARNING, "io_uring: falling back to %s\n",
		     mode == TEVENT_IO_URING_ONESHOT_CLOSE ?
		     "one-shot polls" :
		     mode == TEVENT_IO_URING_ONESHOT ?
		     "one-shot polls that hold their files" :
		     "epoll");
}

/*
  do a single event loop using the events defined in ev
*/
static int iouring_event_loop_once(struct tevent_context *ev,
				   const char *location)
{
	struct iouring_event_context *iou =
		talloc_get_type_abort(ev->additional_data,
		struct iouring_event_context);
	struct timeval tval;

	if (ev->signal_events &&
	    tevent_common_check_signal(ev)) {
		return 0;
	}

	if (ev->threaded_contexts != NULL) {
		tevent_common_threaded_activate_immediate(ev);
	}

	if (ev->immediate_events &&
	    tevent_common_loop_immediate(ev)) {
		return 0;
	}

	tval = tevent_common_loop_timer_delay(ev);
	if (tevent_timeval_is_zero(&tval)) {
		return 0;
	}

	if (iouring_take(iou) != 0) {
		return -1;
	}
	iouring_log_mode(ev, iou->mode);
	if (ev->immediate_events != NULL) {
		/* requests that fork() has cancelled */
		return 0;
	}
	return iouring_event_loop(iou, &tval);
}

/* Requests are events, too. */
static int iouring_event_loop_wait(struct tevent_context *ev,
				   const char *location)
{
	int ret;

	do {
		while (iouring_have_reqs(ev)) {
			ret = _tevent_loop_once(ev, location);
			if (ret != 0) {
				return ret;
			}
		}
		ret = tevent_common_loop_wait(ev, location);
	} while (ret == 0 && iouring_have_reqs(ev));
	return ret;
}

static int iouring_event_fd_destructor(struct tevent_fd *fde)
{
	struct iouring_poll *p = fde->additional_data;
	struct iouring_event_context *iou = NULL;

	if (p == NULL) {
		return tevent_common_fd_destructor(fde);
	}
	fde->additional_data = NULL;
	p->fde = NULL;
	if (fde->event_ctx == NULL) {
		/* its context is being freed, or its wrapper has been */
		if (p->armed == 0) {
			iouring_poll_free(p);
		}
		return tevent_common_fd_destructor(fde);
	}

	iou = talloc_get_type_abort(fde->event_ctx->additional_data,
				    struct iouring_event_context);
	iouring_poll_remove_now(iou, p);
	if (p->armed == 0) {
		iouring_poll_free(p);
	} else {
		iouring_poll_update(iou, p);
	}
	return tevent_common_fd_destructor(fde);
}

/*
  add a fd based event
  return NULL on failure (memory allocation error)
*/
static struct tevent_fd *iouring_event_add_fd(struct tevent_context *ev,
					      TALLOC_CTX *mem_ctx,
					      int fd, uint16_t flags,
					      tevent_fd_handler_t handler,
					      void *private_data,
					      const char *handler_name,
					      const char *location)
{
	struct iouring_event_context *iou =
		talloc_get_type_abort(ev->additional_data,
		struct iouring_event_context);
	struct iouring_poll *p = NULL;
	struct tevent_fd *fde = NULL;

	fde = tevent_common_add_fd(ev, mem_ctx, fd, flags,
				   handler, private_data,
				   handler_name, location);
	if (fde == NULL) {
		return NULL;
	}
	p = iouring_poll_new(iou, fde);
	if (p == NULL) {
		talloc_free(fde);
		return NULL;
	}
	fde->additional_data = p;
	talloc_set_destructor(fde, iouring_event_fd_destructor);

	iouring_poll_update(iou, p);
	return fde;
}

/*
  set the fd event flags
*/
static void iouring_event_set_fd_flags(struct tevent_fd *fde, uint16_t flags)
{
	struct iouring_event_context *iou = NULL;
	struct iouring_poll *p = fde->additional_data;

	if (fde->flags == flags) {
		return;
	}
	fde->flags = flags;

	iou = talloc_get_type_abort(fde->event_ctx->additional_data,
				    struct iouring_event_context);
	p->closed = false;
	p->edge = false;
	if (iouring_poll_wanted(p) == 0) {
		iouring_poll_remove_now(iou, p);
	}
	iouring_poll_update(iou, p);
}

static int iouring_ctx_destructor(struct iouring_event_context *iou)
{
	struct iouring_poll *p = NULL;

	iouring_cancel_all(iou, false);
	for (p = iou->idle; p != NULL; p = p->next) {
		if (p->fde != NULL) {
			p->fde->additional_data = NULL;
		}
	}
	for (p = iou->dirty; p != NULL; p = p->next) {
		if (p->fde != NULL) {
			p->fde->additional_data = NULL;
		}
	}
	iouring_ring_exit(iou);
	return 0;
}

/*
  create a iouring_event_context structure, unless that would be worse than
  @min_mode. Returns 0, or -1 with errno.
*/
static int iouring_event_context_create(struct tevent_context *ev,
					enum tevent_io_uring_mode min_mode)
{
	struct iouring_event_context *iou = NULL;

	/*
	 * We might be called during tevent_re_initialise()
	 * which means we need to free our old additional_data.
	 */
	TALLOC_FREE(ev->additional_data);

	if (iouring_max_mode < min_mode) {
		errno = ENOTSUP;
		return -1;
	}
	iou = talloc_zero(ev, struct iouring_event_context);
	if (iou == NULL) {
		errno = ENOMEM;
		return -1;
	}
	iou->ev = ev;
	iou->max_mode = iouring_max_mode;
	if (iouring_ring_init(iou) != 0) {
		talloc_free(iou);
		return -1;
	}
	talloc_set_destructor(iou, iouring_ctx_destructor);
	if (iou->mode < min_mode) {
		talloc_free(iou);
		errno = ENOTSUP;
		return -1;
	}
	ev->additional_data = iou;
	return 0;
}

static int iouring_event_context_init(struct tevent_context *ev);

static const struct tevent_ops iouring_event_ops = {
	.context_init		= iouring_event_context_init,
	.add_fd			= iouring_event_add_fd,
	.set_fd_close_fn	= tevent_common_fd_set_close_fn,
	.get_fd_flags		= tevent_common_fd_get_flags,
	.set_fd_flags		= iouring_event_set_fd_flags,
	.add_timer		= tevent_common_add_timer_v2,
	.schedule_immediate	= tevent_common_schedule_immediate,
	.add_signal		= tevent_common_add_signal,
	.loop_once		= iouring_event_loop_once,
	.loop_wait		= iouring_event_loop_wait,
};

/* For contexts of "io_uring" that can't have it: epoll, if there is such */
static const struct tevent_ops *iouring_other_ops;
static struct tevent_ops iouring_fallback_ops;

static int iouring_fallback_loop_once(struct tevent_context *ev,
				      const char *location)
{
	iouring_log_mode(ev, TEVENT_IO_URING_OFF);
	return iouring_other_ops->loop_once(ev, location);
}

static int iouring_event_context_init(struct tevent_context *ev)
{
	if (iouring_event_context_create(ev, TEVENT_IO_URING_ONESHOT) == 0) {
		ev->ops = &iouring_event_ops;
		return 0;
	}
	ev->ops = &iouring_fallback_ops;
	return iouring_other_ops->context_init(ev);
}

_PRIVATE_ bool tevent_iouring_init(void)
{
	iouring_other_ops = tevent_find_ops_byname("epoll");
	if (iouring_other_ops == NULL) {
		iouring_other_ops = tevent_find_ops_byname("poll");
	}
	iouring_fallback_ops = *iouring_other_ops;
	iouring_fallback_ops.context_init = iouring_event_context_init;
	iouring_fallback_ops.loop_once = iouring_fallback_loop_once;

	return tevent_register_backend("io_uring", &iouring_event_ops);
}

_PRIVATE_ const struct tevent_ops *tevent_iouring_standard_init(
						struct tevent_context *ev)
{
	if (!iouring_standard ||
	    iouring_event_context_create(ev, TEVENT_IO_URING_LEVEL) != 0) {
		return NULL;
	}
	return &iouring_event_ops;
}

/*
 * What others may call
 */

enum tevent_io_uring_mode tevent_io_uring_get_mode(struct tevent_context *ev)
{
	struct iouring_event_context *iou = iouring_of(ev);

	return iou != NULL ? iou->mode : TEVENT_IO_URING_OFF;
}

struct tevent_io_uring_req *tevent_io_uring_queue(
					TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					tevent_io_uring_submit_fn submit,
					tevent_io_uring_complete_fn complete,
					void *private_data)
{
	struct iouring_event_context *iou = iouring_of(ev);
	struct tevent_io_uring_req *req = NULL;

	if (iou == NULL) {
		errno = ENOTSUP;
		return NULL;
	}
	req = talloc(mem_ctx != NULL ? mem_ctx : ev,
		     struct tevent_io_uring_req);
	if (req == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	*req = (struct tevent_io_uring_req) {
		.iou		= iou,
		.im		= tevent_create_immediate(req),
		.submit		= submit,
		.complete	= complete,
		.private_data	= private_data,
	};
	if (req->im == NULL) {
		talloc_free(req);
		errno = ENOMEM;
		return NULL;
	}
	iouring_check_fork(iou);
	iouring_req_move(req, &iou->queued);
	talloc_set_destructor(req, iouring_req_destructor);
	return req;
}

void tevent_io_uring_set_max_mode(enum tevent_io_uring_mode mode)
{
	iouring_max_mode = mode;
}

void tevent_io_uring_set_standard(bool enable)
{
	iouring_standard = enable;
}

#else /* HAVE_TEVENT_IO_URING */

void tevent_io_uring_set_max_mode(enum tevent_io_uring_mode mode)
{
}

void tevent_io_uring_set_standard(bool enable)
{
}

enum tevent_io_uring_mode tevent_io_uring_get_mode(struct tevent_context *ev)
{
	return TEVENT_IO_URING_OFF;
}

struct tevent_io_uring_req *tevent_io_uring_queue(
					TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					tevent_io_uring_submit_fn submit,
					tevent_io_uring_complete_fn complete,
					void *private_data)
{
	errno = ENOTSUP;
	return NULL;
}

#endif /* HAVE_TEVENT_IO_URING */
