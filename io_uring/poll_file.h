/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_POLL_FILE_H
#define IOU_POLL_FILE_H

#include <linux/fs.h>
#include <linux/io_uring_types.h>

void io_poll_file_attach(struct io_kiocb *req);
void __io_poll_file_detach(struct io_kiocb *req);
bool io_poll_file_hold(struct io_kiocb *req);

/*
 * Is it the task's turn to attach a poll that has been armed? The caller holds
 * ->uring_lock. The task is the owner then, and finds it cancelled if it is.
 */
static inline bool io_poll_attach_pending(const struct io_kiocb *req)
{
	/* a wake up may take other flags away */
	return (data_race(req->flags) & REQ_F_POLL_CLOSE) && req->file;
}

/*
 * Take a poll off the wait queues, and off its file if it's linked to that. The
 * caller is the owner. Unless it holds its file, the poll hasn't got one any more.
 */
static inline void io_poll_file_detach(struct io_kiocb *req)
{
	if (req->file)
		io_poll_remove_entries(req);
	else
		__io_poll_file_detach(req);
}

/*
 * Get a reference to the file of a poll that is linked to it. Fails if __fput()
 * is under way, don't wait for that. The caller holds ->uring_lock, so the poll
 * stays, and fput()s the file.
 */
static inline struct file *io_poll_file_get(struct io_kiocb *req)
{
	return get_file_active(&req->poll_file);
}

/* The same for a poll that may as well hold its file, it's to be unpinned then */
static inline struct file *io_poll_file_pin(struct io_kiocb *req)
{
	return req->file ?: io_poll_file_get(req);
}

static inline void io_poll_file_unpin(struct io_kiocb *req, struct file *file)
{
	if (!req->file)
		fput(file);
}

/*
 * The file of a request, whether it is referenced or not. Only good for being
 * compared with one that is.
 */
static inline struct file *io_req_file(const struct io_kiocb *req)
{
	/* a worker may be about to get the file, or to attach the poll to it */
	struct file *file = data_race(req->file);

	/* that flag doesn't change */
	if (!file && (data_race(req->flags) & REQ_F_POLL_CLOSE))
		file = data_race(req->poll_file); /* as above */
	return file;
}

#endif
