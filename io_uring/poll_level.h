/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_POLL_LEVEL_H
#define IOU_POLL_LEVEL_H

#include <linux/io_uring_types.h>
#include <uapi/linux/eventpoll.h>

struct io_poll_update;
struct seq_file;

int io_level_add(struct io_kiocb *req, unsigned int issue_flags);
int io_level_update(struct io_kiocb *req, struct io_poll_update *upd);
void io_level_wake(struct io_kiocb *req, unsigned int tw_flags);
bool io_level_claim(struct io_kiocb *req);
void io_level_start(struct io_kiocb *req, __poll_t mask);
void io_level_task_func(struct io_tw_req tw_req, io_tw_token_t tw);
int io_level_register(struct io_ring_ctx *ctx, void __user *arg);
int io_level_reg_wait(const struct io_uring_reg_wait *w, unsigned int *max);
void io_level_show_fdinfo(struct io_kiocb *req, struct seq_file *m);
bool __io_level_reported_pending(struct io_ring_ctx *ctx);
bool io_level_harvest_locked(struct io_ring_ctx *ctx, unsigned int *left);
bool io_level_harvest(struct io_ring_ctx *ctx, unsigned int *left);

/* Neither edge triggered nor one-shot, that is a level triggered poll */
static inline bool io_poll_is_level(__poll_t events)
{
	return !(events & (EPOLLET | EPOLLONESHOT));
}

/* The same for an armed poll that may belong to somebody else */
static inline bool io_req_is_level(const struct io_kiocb *req)
{
	/* a wake up may set EPOLLONESHOT meanwhile, but not EPOLLET */
	return io_poll_is_level(data_race(req->apoll_events));
}

/* Is there a poll that was reported, and may be reported again? */
static inline bool io_level_reported_pending(struct io_ring_ctx *ctx)
{
	return (READ_ONCE(ctx->level_state) & IO_LEVEL_REPORTED) &&
	       __io_level_reported_pending(ctx);
}

/*
 * How many CQEs of level triggered polls an io_uring_enter() may post. There has
 * to be a limit: whoever moves the CQ head makes room as long as we look.
 */
static inline unsigned int io_level_max(struct io_ring_ctx *ctx)
{
	return READ_ONCE(ctx->level_max) ?: READ_ONCE(ctx->cq_entries);
}

#endif
