/*
   Unix SMB/CIFS implementation.

   requests for io_uring on the ring of an event context

     ** NOTE! The following LGPL license applies to the tevent
     ** library. This does NOT imply that all of Samba is released
     ** under the LGPL

   SPDX-License-Identifier: LGPL-3.0-or-later
*/

#ifndef _TEVENT_IO_URING_H_
#define _TEVENT_IO_URING_H_

#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>

struct io_uring_sqe;
struct io_uring_cqe;
struct tevent_context;

/**
 * @defgroup tevent_io_uring The io_uring backend
 * @ingroup tevent
 *
 * The backend "io_uring" waits for file descriptors with polls of a ring. What
 * it's to wait for is told to the kernel by the next tevent_loop_once(), all of
 * it at once. A descriptor that is closed before that, and whose number is used
 * again, is mistaken for the new file.
 *
 * Code that knows io_uring may put requests of its own on that ring: their
 * completions and the fd events share one wait.
 *
 * liburing.h is needed to fill an SQE and to read a CQE.
 *
 * @{
 */

/**
 * How a context uses io_uring, each one better than those before it.
 */
enum tevent_io_uring_mode {
	/** Not at all: io_uring can't be used, the context runs on epoll. */
	TEVENT_IO_URING_OFF = 0,
	/**
	 * A poll for each event. It holds its file: close() of a descriptor
	 * whose tevent_fd still exists isn't seen by the peer, nor is the exit
	 * of a process at once.
	 */
	TEVENT_IO_URING_ONESHOT,
	/** The same, with polls that don't hold the file. */
	TEVENT_IO_URING_ONESHOT_CLOSE,
	/** Level triggered polls, which report as long as a file is ready. */
	TEVENT_IO_URING_LEVEL,
};

/**
 * @brief Limit what contexts that are created later may use.
 *
 * A context uses the best mode that the kernel has and that isn't better than
 * this. This is for tests, and for those who have to avoid something.
 *
 * @param[in] mode	TEVENT_IO_URING_LEVEL is the default. With
 *			TEVENT_IO_URING_OFF, "io_uring" is epoll.
 *
 * @note Not thread-safe: call it before there are threads.
 *
 * @since tevent 0.16.3
 */
void tevent_io_uring_set_max_mode(enum tevent_io_uring_mode mode);

/**
 * @brief Let the backend "standard" try io_uring before epoll.
 *
 * It does so only where a kernel has level triggered polls. Off by default.
 *
 * @param[in] enable	true to try io_uring.
 *
 * @note Not thread-safe: call it before there are threads.
 *
 * @since tevent 0.16.3
 */
void tevent_io_uring_set_standard(bool enable);

/**
 * @brief How does a context use io_uring?
 *
 * @param[in] ev	The context.
 *
 * @return		The mode, TEVENT_IO_URING_OFF if its events don't come
 *			from a ring.
 *
 * @since tevent 0.16.3
 */
enum tevent_io_uring_mode tevent_io_uring_get_mode(struct tevent_context *ev);

struct tevent_io_uring_req;

/**
 * @brief Fills in the SQE, right before the kernel gets it.
 *
 * This is called from the event loop. The function must not call the event
 * loop, nor add, change or free events or requests.
 *
 * @param[in] req	The request.
 *
 * @param[out] sqe	To be filled in with one of io_uring_prep_*(3). It is a
 *			NOP until then. user_data belongs to tevent.
 *			IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_IO_DRAIN,
 *			IOSQE_CQE_SKIP_SUCCESS and IORING_OP_ASYNC_CANCEL, which
 *			might cancel what isn't yours, can't be used: the
 *			request completes with -EINVAL then. Memory that the SQE refers
 *			to must exist until the request has completed or has
 *			been freed.
 *
 * @param[in] private_data	What tevent_io_uring_queue() was given.
 */
typedef void (*tevent_io_uring_submit_fn)(struct tevent_io_uring_req *req,
					  struct io_uring_sqe *sqe,
					  void *private_data);

/**
 * @brief Called with the result.
 *
 * As for other events, there is at most one such call or call of a handler in
 * tevent_loop_once(). The function may free the request.
 *
 * @param[in] req	The request.
 *
 * @param[in] cqe	res is what the operation returned, a negative errno on
 *			failure. With IORING_CQE_F_MORE in flags there will be
 *			more calls, without it this was the last one.
 *
 * @param[in] private_data	What tevent_io_uring_queue() was given.
 */
typedef void (*tevent_io_uring_complete_fn)(struct tevent_io_uring_req *req,
					    const struct io_uring_cqe *cqe,
					    void *private_data);

/**
 * @brief Queue a request for the ring of a context.
 *
 * It's submitted when the context is looped the next time. Requests are
 * submitted in the order in which they were queued.
 *
 * talloc_free() of the request cancels it: the completion function isn't called
 * any more, and the kernel doesn't use the memory of the request any more when
 * talloc_free() returns. For that it waits if the operation can't be
 * interrupted. A result that there is by then is lost, a new descriptor for
 * instance. It has to be called by the thread that loops the context, otherwise
 * it fails and returns -1. The request isn't freed because it has completed.
 *
 * If the context is freed, or re-initialised, its requests are cancelled and
 * don't complete any more; that, too, is for the thread that loops it. They
 * complete with -ECANCELED in the child after a fork(), and if the context has
 * to leave io_uring because of an error. A context with requests that were
 * submitted can't be looped by another thread, not even if the first one has
 * exited: tevent_loop_once() fails with EBUSY there.
 *
 * @param[in] mem_ctx	The parent of the request, NULL for the context.
 *
 * @param[in] ev	The context. A wrapper of it is refused.
 *
 * @param[in] submit	Fills in the SQE.
 *
 * @param[in] complete	Is given the result.
 *
 * @param[in] private_data	For both.
 *
 * @return		The request. NULL on failure, with errno: ENOMEM, or
 *			ENOTSUP if the context isn't on a ring, see
 *			tevent_io_uring_get_mode().
 *
 * @since tevent 0.16.3
 */
struct tevent_io_uring_req *tevent_io_uring_queue(
					TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					tevent_io_uring_submit_fn submit,
					tevent_io_uring_complete_fn complete,
					void *private_data);

/** @} */

#endif /* _TEVENT_IO_URING_H_ */
