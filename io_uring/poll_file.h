/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_POLL_FILE_H
#define IOU_POLL_FILE_H

#include <linux/fs.h>
#include <linux/io_uring_types.h>

void io_poll_file_attach(struct io_kiocb *req);
void io_poll_file_detach(struct io_kiocb *req);

/*
 * Get a reference to the file of an armed poll. Fails if __fput() is under way,
 * don't wait for that. The caller holds ->uring_lock, so the poll stays, and
 * fput()s the file.
 */
static inline struct file *io_poll_file_get(struct io_kiocb *req)
{
	return get_file_active(&req->poll_file);
}

/*
 * The file of a request, whether it is referenced or not. Only good for being
 * compared with one that is.
 */
static inline struct file *io_req_file(const struct io_kiocb *req)
{
	struct file *file = req->file;

	if (!file && (req->flags & REQ_F_POLL_CLOSE))
		file = READ_ONCE(req->poll_file);
	return file;
}

#endif
