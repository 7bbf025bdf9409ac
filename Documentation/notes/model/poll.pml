/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a level triggered poll, its file, the ring and those who wait for it hand
 * the poll over to each other: io_uring/poll_level.c and poll_file.c with their
 * callers, for spin. README.rst says what is modelled and what isn't.
 *
 * An inline is named after the function whose steps it has. What others can see
 * is read or changed in a step of its own. Merged into a step are: what only
 * the holder of a lock can see, asserts, and atomic_try_cmpxchg() loops, which
 * have no effect but that of the one that succeeds.
 *
 * -D options, the instance that is checked:
 */
#ifndef POLLS
#define POLLS	1	/* poll p is armed on file p % FILES, 2 at most */
#endif
#ifndef FILES
#define FILES	1	/* file g has wait queue g, and memory g % SLOTS: */
#endif
#ifndef SLOTS
#define SLOTS	FILES	/* with 1, file 1 gets that of file 0 once it is free */
#endif
#ifndef WAKES
#define WAKES	1	/* how often each file gets ready */
#endif
#ifndef WAITERS
#define WAITERS	1	/* tasks that sleep in io_uring_enter() ... */
#endif
#ifndef MIN
#define MIN	1	/* ... until there are that many CQEs */
#endif
#ifndef ENTRIES
#define ENTRIES	POLLS	/* of the CQ ring */
#endif
#ifndef CAP
#define CAP	ENTRIES	/* level_max */
#endif
/*
 * DEFER	the ring has IORING_SETUP_DEFER_TASKRUN
 * SUBMIT	polls are armed meanwhile, else they are idle at the start
 * FILL		the CQ ring is full of other CQEs at the start
 * CLOSE	each file may be closed at any time, else when all is quiet
 * CANCEL	POLL_REMOVE, an update with UPDATE, the end of the ring with EXIT
 * POLLFREE	the wait queue goes away before the file
 * PEEK		a thread that looks at the CQ ring and IORING_SQ_TASKRUN
 * ENTER	a thread that gets events once, without waiting
 * CONSUME	a thread that does nothing but consume CQEs, for MIN 2
 * LEAVE	the application may leave a file ready, and CQEs in the ring
 * BUG_*	a step or barrier is missing
 *
 * With NP, the verifier is to look for cycles in which a task that waits for CQEs
 * neither sleeps nor gets one.
 */

/* ->poll_refs */
#define LISTED		(2 | 1)
#define LISTED_FLAG	2
#define RETRY_FLAG	4
#define CANCEL_FLAG	8

/* ->f_ref */
#define FILE_REF_DEAD	0
#define FILE_REF_NOREF	1
#define FILE_REF_ONEREF	2

/* ->level_state */
#define IO_LEVEL_READY		1
#define IO_LEVEL_REPORTED	2

/*
 * Positions in the CQ ring wrap around. Final CQEs are posted without regard to
 * ENTRIES instead of being kept on the overflow list.
 */
#if ENTRIES == 1
#define POSITIONS	4
#else
#define POSITIONS	8
#endif
#define POS(x)		((x) & (POSITIONS - 1))

/* a CQE is the number of the poll, and perhaps */
#define FINAL		4
#define OTHER		8

#define FILE_OF(p)	((p) % FILES)
#define MEM(g)		((g) % SLOTS)

/* files */
bool file_ready[FILES];		/* what vfs_poll() says */
byte waking[FILES];		/* the driver is about to wake its wait queue */
bool wq_lock[FILES];
bool wq_gone[FILES];		/* freed, by ->release() at the latest */
bool released[FILES];
byte f_ref[SLOTS];
byte f_file[SLOTS];		/* which file this memory is */
bool f_free[SLOTS];
bool f_lock[SLOTS];		/* io_poll_file_lock() */
bool f_fput[SLOTS];		/* __fput() is to be called */

/* polls */
byte refs[POLLS];		/* ->poll_refs */
bool queued[POLLS];		/* poll->wait is on the wait queue */
bool head[POLLS];		/* poll->head */
byte poll_file[POLLS];		/* 1 + memory of the file */
bool linked[POLLS];		/* on ->f_uring_polls */
bool hashed[POLLS];		/* on ->cancel_table */
bool gone[POLLS];		/* freed */
byte cqe_end[POLLS];		/* poll->cq_tail */
byte unseen[POLLS];		/* CQEs that haven't been consumed */

/* the ring */
bool uring_lock;
bool ctx_gone;
chan level_woken = [POLLS] of { byte };
chan level_ready = [POLLS] of { byte };
chan level_reported = [POLLS] of { byte };
byte level_state;
byte level_next_tail;
chan task_work = [POLLS] of { byte };
byte compl;			/* 1 + poll that is to be completed */
bool cq_flush;
byte cqe[POSITIONS];
byte cached_cq_tail;
byte cq_tail;
byte cq_head;
bool taskrun;			/* IORING_SQ_TASKRUN */

/* those who wait, and the application */
#if WAITERS
#define NW	WAITERS
#else
#define NW	1
#endif
bool cq_wait_lock;
bool on_cq_wait[NW];
bool running[NW] = true;	/* task state */
bool asleep[NW];		/* in schedule() */
byte iowq_tail[NW];
short cq_wait_nr = -1;
bool app_lock;
byte ended;			/* polls whose last CQE was consumed */
bool quiet;			/* nobody had anything to do */

#define LOCK(l)		atomic { !l -> l = true }
#define UNLOCK(l)	l = false
#define NONE(list)	(len(list) == 0)
#define LEFT		(POLLS - ended)

/* what must not happen */
#define TOUCH(p)	assert(!gone[p])
#define TOUCH_CTX	assert(!ctx_gone)
#define TOUCH_WQ(p)	assert(!wq_gone[FILE_OF(p)])
#define TOUCH_FILE(p)	assert(f_file[MEM(FILE_OF(p))] == FILE_OF(p) && \
			       !f_free[MEM(FILE_OF(p))])
#define NOT_LISTED(p)	assert(!(level_woken??[eval(p)]) && \
			       !(level_ready??[eval(p)]) && \
			       !(level_reported??[eval(p)]))

/* only of interest to those who wait for a grace period */
#if defined(POLLFREE) || defined(EXIT)
byte rcu_readers;
#define RCU_READ_LOCK		rcu_readers++
#define RCU_READ_UNLOCK		rcu_readers--
#define SYNCHRONIZE_RCU		rcu_readers == 0
#else
#define RCU_READ_LOCK		skip
#define RCU_READ_UNLOCK		skip
#endif

/* for each process that calls one of the inlines */
#define LOCALS	byte v, f, w, n, posted, h; short nr; \
		bool r, l, got, claimed, stop

/* ---- struct file ---- */

/* the last one has __fput() called later on, by whom doesn't matter */
inline fput(m)
{
	atomic {
		assert(f_ref[m] >= FILE_REF_ONEREF);
		f_ref[m]--;
		v = f_ref[m]
	};
	if
	:: v == FILE_REF_NOREF ->
		/* __file_ref_put() */
		atomic {
			if
			:: f_ref[m] == FILE_REF_NOREF ->
				f_ref[m] = FILE_REF_DEAD;
				f_fput[m] = true
			:: else
			fi
		}
	:: else
	fi
}

/* get_file_active(): got and f are the result */
inline io_poll_file_get(p)
{
	got = false;
	atomic { TOUCH(p); f = poll_file[p] };
	if
	:: f != 0 ->
		f--;
#ifdef BUG_NO_PIN
		got = true
#else
		/* file_ref_get() */
		atomic {
			got = f_ref[f] != FILE_REF_DEAD;
			if
			:: got -> f_ref[f]++
			:: else
			fi
		};
#ifndef BUG_NO_RECHECK
		if
		:: got ->
			atomic { got = poll_file[p] == f + 1 };
			if
			:: !got -> fput(f)
			:: else
			fi
		:: else
		fi
#endif
#endif
	:: else
	fi
}

inline io_poll_file_put()
{
#ifdef BUG_NO_PIN
	skip
#else
	fput(f)
#endif
}

/* ---- those who wait for CQEs ---- */

inline io_should_wake(w, r)
{
	r = POS(cq_tail - iowq_tail[w]) < POSITIONS / 2
}

#ifdef BUG_NOT_CONSUMED
#define IO_LEVEL_CONSUMED(h, t)	true
#else
#define IO_LEVEL_CONSUMED(h, t)	(POS(t - h - 1) >= ENTRIES)
#endif

inline io_level_reported_pending(r)
{
	r = (level_state & IO_LEVEL_REPORTED) != 0;
	if
	:: r ->
		h = cq_head;
		r = IO_LEVEL_CONSUMED(h, level_next_tail);
		h = 0
	:: else
	fi
}

inline io_level_pending(r)
{
	r = (level_state & IO_LEVEL_READY) != 0;
	if
	:: r
	:: else ->
		r = !NONE(level_woken);
		if
		:: r
		:: else -> io_level_reported_pending(r)
		fi
	fi
}

/* io_wake_function() for each that sleeps */
inline io_cqring_wake()
{
	if
	/* wq_has_sleeper() */
	:: atomic { on_cq_wait[0] || on_cq_wait[NW - 1] -> TOUCH_CTX };
		LOCK(cq_wait_lock);
		w = 0;
		do
		:: w < NW ->
			if
			:: on_cq_wait[w] ->
				io_should_wake(w, r);
				if
				:: r
				:: else -> io_level_pending(r)
				fi;
				if
				:: r ->
					atomic {
						on_cq_wait[w] = false;
						running[w] = true
					}
				:: else
				fi
			:: else
			fi;
			w++
		:: else -> w = 0; break
		od;
		UNLOCK(cq_wait_lock)
	:: else
	fi
}

inline io_local_work_wake(lazy)
{
	atomic { TOUCH_CTX; nr = cq_wait_nr };
	if
	:: nr > 0 ->
		l = lazy;
		if
		:: l -> io_level_reported_pending(r); l = !r
		:: else
		fi;
		if
		:: l -> atomic { cq_wait_nr--; r = cq_wait_nr == 0 }
		:: else -> atomic { r = cq_wait_nr > 0; cq_wait_nr = -1 }
		fi;
		l = false;
		/* wake_up_state() */
		if
		:: r -> running[0] = true
		:: else
		fi
	:: else
	fi;
	nr = 0
}

/* ---- IORING_SQ_TASKRUN ---- */

inline io_ctx_set_taskrun()
{
	if
	:: taskrun
	:: else -> taskrun = true
	fi
}

inline io_ctx_clear_taskrun()
{
	if
	:: level_state == 0 && NONE(level_woken) ->
		taskrun = false;
#ifndef BUG_TASKRUN
		if
		:: !NONE(level_woken) -> io_ctx_set_taskrun()
		:: else
		fi
#endif
	:: else
	fi
}

inline io_level_update_taskrun()
{
	r = taskrun;
	l = level_state != 0 || !NONE(level_woken);
	if
	:: !r && l -> io_ctx_set_taskrun()
	:: r && !l -> io_ctx_clear_taskrun()
	:: else
	fi
}

/* ---- poll_level.c ---- */

inline io_level_wake_waiters(lazy)
{
#ifdef DEFER
	io_local_work_wake(lazy)
#else
	io_cqring_wake()
#endif
}

inline io_level_push(p, lazy)
{
	/* llist_add() */
	atomic {
		TOUCH(p);
		TOUCH_CTX;
		NOT_LISTED(p);
		r = NONE(level_woken);
		level_woken!p
	};
	if
	:: r -> io_ctx_set_taskrun()
	:: else
	fi;
	io_level_wake_waiters(lazy)
}

inline io_level_wake(p)
{
#ifdef BUG_WAKE_OR
	atomic {
		TOUCH(p);
		v = refs[p];
		if
		:: v == 0 -> refs[p] = LISTED
		:: else
		fi
	};
	if
	:: v != 0 -> refs[p] = refs[p] | RETRY_FLAG
	:: else
	fi;
#else
	atomic {
		TOUCH(p);
		v = refs[p];
		refs[p] = (v -> v | RETRY_FLAG : LISTED)
	};
#endif
	if
	:: v == 0 -> io_level_push(p, true)
	:: else ->
#ifndef BUG_NO_REPORTED_WAKE
		io_level_reported_pending(r);
		if
		:: r -> io_level_wake_waiters(false)
		:: else
		fi
#endif
	fi
}

inline io_level_claim(p)
{
	atomic {
		TOUCH(p);
		v = refs[p];
#ifdef BUG_CLAIM_TWO_STEPS
		refs[p] = v | CANCEL_FLAG | 1;
#else
		refs[p] = (v | CANCEL_FLAG | 1) & ~LISTED_FLAG;
#endif
		claimed = !v || (v & LISTED_FLAG)
	};
#ifdef BUG_CLAIM_TWO_STEPS
	refs[p] = refs[p] & ~LISTED_FLAG
#endif
}

inline io_poll_execute_claimed(p)
{
#ifdef DEFER
	/* io_req_local_work_add() */
	RCU_READ_LOCK;
	atomic { TOUCH(p); TOUCH_CTX; task_work!p };
	io_local_work_wake(true);
	RCU_READ_UNLOCK
#else
	atomic { TOUCH(p); TOUCH_CTX; task_work!p }
#endif
}

inline io_level_set_state(is_ready)
{
	h = (is_ready -> IO_LEVEL_READY : 0);
	if
	:: !NONE(level_reported) ->
		atomic { level_reported?<v>; level_next_tail = cqe_end[v] };
		h = h | IO_LEVEL_REPORTED
	:: else
	fi;
#ifdef BUG_STALE_STATE
	level_state = level_state | h;
#else
	level_state = h;
#endif
	h = 0
}

inline io_level_publish()
{
#ifndef BUG_NO_PUBLISH
	io_level_set_state(!NONE(level_ready));
#endif
	io_level_update_taskrun()
}

inline io_level_splice_woken()
{
	/* llist_del_all(), and only we see the rest */
	atomic {
		do
		:: level_woken?v ->
			TOUCH(v);
			NOT_LISTED(v);
			level_ready!v
		:: NONE(level_woken) -> break
		od
	}
}

inline io_level_splice_consumed()
{
	atomic {
		h = cq_head;
		do
		:: !NONE(level_reported) ->
			level_reported?<v>;
			TOUCH(v);
			if
			:: IO_LEVEL_CONSUMED(h, cqe_end[v]) ->
				level_reported?v;
				NOT_LISTED(v);
				level_ready!v
			:: else -> break
			fi
		:: else -> break
		od;
		h = 0
	}
}

/* REQ_F_SINGLE_POLL, and not REQ_F_DOUBLE_POLL */
inline io_poll_remove_entries(p)
{
#ifndef BUG_NO_RCU
	RCU_READ_LOCK;
#endif
	if
	:: atomic { head[p] -> TOUCH(p) };
		atomic {
			!wq_lock[FILE_OF(p)] ->
			TOUCH_WQ(p);
			wq_lock[FILE_OF(p)] = true
		};
		/* io_poll_remove_waitq() */
		atomic {
			TOUCH(p);
			TOUCH_WQ(p);
			queued[p] = false;
			head[p] = false
		};
		atomic { TOUCH_WQ(p); UNLOCK(wq_lock[FILE_OF(p)]) }
	:: else
	fi;
#ifndef BUG_NO_RCU
	RCU_READ_UNLOCK
#endif
}

inline hlist_del_release(p)
{
	atomic { TOUCH(p); TOUCH_FILE(p); assert(linked[p]); linked[p] = false }
}

inline io_poll_file_unlink(p)
{
#ifdef BUG_CLEAR_FIRST
	poll_file[p] = 0;
#endif
#ifdef BUG_UNLINK_FIRST
	hlist_del_release(p);
	io_poll_remove_entries(p);
#else
	io_poll_remove_entries(p);
	hlist_del_release(p);
#endif
#ifndef BUG_CLEAR_FIRST
	atomic { TOUCH(p); poll_file[p] = 0 }
#endif
}

inline io_poll_file_detach(p)
{
	atomic { TOUCH(p); f = poll_file[p] };
	if
	:: f != 0 ->
		f--;
#ifndef BUG_DETACH_NO_LOCK
		LOCK(f_lock[f]);
#endif
#ifdef BUG_DETACH_NO_CHECK
		io_poll_file_unlink(p);
#else
		if
		:: poll_file[p] != 0 -> io_poll_file_unlink(p)
		:: else
		fi;
#endif
#ifndef BUG_DETACH_NO_LOCK
		UNLOCK(f_lock[f])
#endif
	:: else
	fi
}

inline io_poll_file_attach(p)
{
	poll_file[p] = MEM(FILE_OF(p)) + 1;
	LOCK(f_lock[MEM(FILE_OF(p))]);
	linked[p] = true;
	UNLOCK(f_lock[MEM(FILE_OF(p))]);
#ifndef BUG_NO_FPUT
	fput(MEM(FILE_OF(p)))
#endif
}

/* with ->uring_lock held. The flush that follows posts the CQE, and frees it. */
inline io_level_task_func(p)
{
	assert(refs[p] & CANCEL_FLAG);
#ifndef BUG_UNLIST_FIRST
	io_poll_file_detach(p);
#endif
#ifndef BUG_NO_SPLICE
	io_level_splice_woken();
#endif
	/* list_del() */
	atomic {
		if
		:: level_ready??[eval(p)] -> level_ready??eval(p)
		:: else
		fi;
		if
		:: level_reported??[eval(p)] -> level_reported??eval(p)
		:: else
		fi
	};
	io_level_publish();
#ifdef BUG_UNLIST_FIRST
	io_poll_file_detach(p);
#endif
	hashed[p] = false;
	compl = p + 1
}

inline io_submit_flush_completions()
{
	if
	:: compl || cq_flush ->
		atomic {
			if
			:: compl ->
				cqe[cached_cq_tail] = (compl - 1) | FINAL;
				cached_cq_tail = POS(cached_cq_tail + 1)
			:: else
			fi
		};
		/* io_commit_cqring() */
		cq_tail = cached_cq_tail;
#ifndef DEFER
		io_cqring_wake();
#endif
		atomic {
			if
			:: compl ->
				v = compl - 1;
				/* the only final CQE, and nobody has a pointer */
				TOUCH(v);
				NOT_LISTED(v);
				assert(!queued[v] && !linked[v]);
				assert(!(task_work??[eval(v)]));
				gone[v] = true;
				compl = 0;
				v = 0
			:: else
			fi;
			cq_flush = false
		}
	:: else
	fi
}

/* arming, and the update: io_poll_queue_proc() and then what the file says */
inline io_level_arm(p)
{
	atomic {
		!wq_lock[FILE_OF(p)] ->
		TOUCH_WQ(p);
		assert(!queued[p]);
		queued[p] = true;
		head[p] = true
	};
	r = file_ready[FILE_OF(p)]
}

inline io_level_start(p)
{
#ifdef BUG_START_STORE
	refs[p] = (r -> LISTED : 0);
	v = (r -> 0 : CANCEL_FLAG);
	claimed = false;
#else
	atomic {
		v = refs[p];
		claimed = (v & CANCEL_FLAG) != 0;
		if
		:: claimed
		:: !claimed && !r && v == 1 -> refs[p] = 0; v = CANCEL_FLAG
		:: else -> refs[p] = LISTED
		fi
	};
#endif
	if
	:: claimed -> io_poll_execute_claimed(p)
	:: !claimed && v != CANCEL_FLAG -> io_level_push(p, false)
	:: else
	fi
}

/* as io-wq does it, others have had ->uring_lock from the beginning */
inline io_level_add(p)
{
	refs[p] = 1;
	io_level_arm(p);
	l = r;
	LOCK(uring_lock);
	hashed[p] = true;
	io_poll_file_attach(p);
	r = l;
	io_level_start(p);
	UNLOCK(uring_lock)
}

inline io_level_update_events(p)
{
#ifdef BUG_UPDATE_NO_PIN
	got = true;
#else
	io_poll_file_get(p);
#endif
	if
	:: got ->
		io_poll_remove_entries(p);
		io_level_arm(p);
		if
#ifdef BUG_UPDATE_NO_LOOK
		:: false ->
#else
		:: r ->
#endif
			atomic {
				v = refs[p];
				if
				:: v == 0 -> refs[p] = LISTED
				:: else
				fi
			};
			if
			:: v == 0 -> io_level_push(p, false)
			:: else
			fi
		:: else
		fi;
#ifndef BUG_UPDATE_NO_PIN
		io_poll_file_put()
#endif
	:: else
	fi
}

inline io_level_idle(p)
{
#ifdef BUG_IDLE_STORE
	refs[p] = 0
#else
	atomic {
		TOUCH(p);
		v = refs[p];
		if
		:: v == LISTED -> refs[p] = 0
		:: else
		fi
	};
	if
	:: v != LISTED && (v & LISTED_FLAG) ->
#ifdef BUG_IDLE_QUIET
		level_ready!p
#else
		io_level_push(p, false)
#endif
	:: else
	fi
#endif
}

/* io_req_post_cqe_tail() */
inline io_level_report(p)
{
	h = cq_head;
	atomic {
		cq_flush = true;
		if
		:: POS(cached_cq_tail - h) < ENTRIES ->
			/* never two of them */
			assert(unseen[p] == 0);
			unseen[p]++;
			cqe[cached_cq_tail] = p;
			cached_cq_tail = POS(cached_cq_tail + 1);
			cqe_end[p] = cached_cq_tail;
			NOT_LISTED(p);
			level_reported!p;
			posted++
		:: else ->
			/* list_add(), the others come after it */
			stop = true;
			NOT_LISTED(p);
			level_ready!p;
			h = len(level_ready);
			do
			:: h > 1 -> level_ready?v; level_ready!v; h--
			:: else -> break
			od
		fi;
		h = 0
	}
}

inline io_level_look(p)
{
	atomic { TOUCH(p); v = refs[p] };
	if
	:: v & LISTED_FLAG ->
#ifndef BUG_LATE_RETRY
		if
		:: v & RETRY_FLAG -> refs[p] = refs[p] & ~RETRY_FLAG
		:: else
		fi;
#endif
		io_poll_file_get(p);
		if
		:: got ->
			/* vfs_poll() */
			atomic {
				TOUCH_FILE(p);
				assert(!released[FILE_OF(p)]);
				r = file_ready[FILE_OF(p)]
			};
#ifdef BUG_LATE_RETRY
			refs[p] = refs[p] & ~RETRY_FLAG;
#endif
			if
			:: r -> io_level_report(p)
			:: else -> io_level_idle(p)
			fi;
			io_poll_file_put()
		:: else
		fi
	:: else
	fi
}

/* stop is true if io_uring_enter() has to return */
inline io_level_harvest(left)
{
	LOCK(uring_lock);
	io_level_splice_woken();
	io_level_splice_consumed();
	io_level_set_state(false);
	/* nobody else adds to it: as many as there are up to the last one */
	n = len(level_ready);
	posted = 0;
	stop = false;
	do
	:: n > 0 && !stop ->
		level_ready?p;
		io_level_look(p);
		stop = stop || posted == left;
		n--
	:: else -> break
	od;
	left = left - posted;
	atomic { n = 0; posted = 0; p = 0; v = 0; f = 0; got = false };
#ifdef BUG_LATE_PUBLISH
	io_submit_flush_completions();
	io_level_publish();
#else
	io_level_publish();
	io_submit_flush_completions();
#endif
	UNLOCK(uring_lock)
}

/* task_work always has ->uring_lock held */
inline io_run_task_work()
{
	LOCK(uring_lock);
	if
	:: task_work?p ->
		io_level_task_func(p);
		io_submit_flush_completions()
	:: NONE(task_work)
	fi;
	atomic { p = 0; f = 0; UNLOCK(uring_lock) }
}

/* ---- io_uring/wait.c ---- */

/* the application has got a CQE */
inline handle(c)
{
	if
	:: c >= FINAL
#ifdef LEAVE
	:: c < FINAL
#endif
	:: c < FINAL -> file_ready[FILE_OF(c)] = false
	fi
}

inline consume_one(c)
{
	c = cqe[cq_head];
#ifndef CONSUME
	handle(c);
#endif
	atomic {
		cqe[cq_head] = 0;
		cq_head = POS(cq_head + 1);
		if
		:: c < FINAL -> unseen[c]--
		:: c & FINAL -> ended++
		:: else
		fi
	};
#ifdef CONSUME
	handle(c);
#endif
	c = 0
}

inline consume(c)
{
	LOCK(app_lock);
	do
	:: cq_head != cq_tail ->
progress:	consume_one(c)
#ifdef LEAVE
	:: true -> break
#else
	:: else -> break
#endif
	od;
	UNLOCK(app_lock)
}

inline prepare_to_wait(me)
{
#ifdef DEFER
#ifdef BUG_ARM_ORDER
	cq_wait_nr = (left < iowq_nr -> left : iowq_nr);
	running[me] = false
#else
	/* io_cq_wait_arm() */
	running[me] = false;
	cq_wait_nr = (left < iowq_nr -> left : iowq_nr)
#endif
#else
	atomic { !cq_wait_lock -> on_cq_wait[me] = true; running[me] = false }
#endif
}

inline finish_wait(me)
{
#ifdef DEFER
	cq_wait_nr = -1
#else
	atomic { !cq_wait_lock -> on_cq_wait[me] = false }
#endif
}

#ifdef DEFER
#define WORK_PENDING	(!NONE(task_work))
#else
#define WORK_PENDING	false
#endif

#if WAITERS
proctype waiter(byte me)
{
	LOCALS;
	byte p, left, iowq_nr;
	bool sleeping;

user:
	consume(p);
	if
	:: LEFT == 0 -> goto out
	:: else
	fi;

	/* io_cqring_wait(), and __io_cqring_wait() once it gets to sleep */
	atomic { left = CAP; sleeping = false };
	do
	:: true ->
		if
		:: sleeping ->
#ifdef BUG_CHECK_FIRST
			io_level_pending(r);
			prepare_to_wait(me);
			l = WORK_PENDING || r;
#else
			prepare_to_wait(me);
			/* io_cqring_wait_schedule() */
			l = WORK_PENDING;
			if
			:: l
			:: else -> io_level_pending(l)
			fi;
#endif
			if
			:: l
			:: else -> io_should_wake(me, l)
			fi;
			if
			:: l
			:: else ->
progress_sleep:			asleep[me] = true;
				/* or a signal, when there won't be enough of them */
				if
				:: running[me]
				:: LEFT == 0 || (quiet && LEFT < MIN)
				fi;
				asleep[me] = false
			fi;
			atomic { l = false; r = false; running[me] = true };
#ifdef DEFER
			cq_wait_nr = -1;
#endif
			if
			:: LEFT == 0 -> break
			:: else
			fi
		:: else
		fi;
		if
		:: WORK_PENDING -> io_run_task_work()
		:: else
		fi;
		io_level_pending(r);
		if
		:: r ->
			io_level_harvest(left);
			if
			:: stop -> break
			:: else
			fi
		:: else
		fi;
		if
		:: sleeping ->
			io_should_wake(me, r);
			if
			:: r -> break
			:: else
			fi
		:: else ->
			if
			:: POS(cq_tail - cq_head) >= MIN -> break
			:: else
			fi;
			iowq_tail[me] = POS(cq_head + MIN);
			sleeping = true
		fi;
		iowq_nr = POS(iowq_tail[me] - cq_tail)
	od;
	if
	:: sleeping -> finish_wait(me)
	:: else
	fi;
	atomic {
		iowq_nr = 0;
		iowq_tail[me] = 0;
		r = false;
		stop = false;
		left = 0
	};
	goto user;
out:
	skip
}
#endif

#ifdef PEEK
/* it has to enter the kernel only if it finds the flag set */
proctype peeker()
{
	LOCALS;
	byte p, left;

	do
	:: cq_head != cq_tail -> consume(p)
	:: taskrun && cq_head == cq_tail ->
		left = CAP;
		io_level_pending(r);
		if
		:: r -> io_level_harvest(left)
		:: else
		fi;
		atomic { left = 0; r = false; stop = false }
	:: LEFT == 0 -> break
	od
}
#endif

#ifdef ENTER
/* it gets events once, with min_complete 0, and does something else then */
proctype enter()
{
	LOCALS;
	byte p, left = CAP;

	io_level_pending(r);
	if
	:: r -> io_level_harvest(left)
	:: else
	fi
}
#endif

#ifdef CONSUME
proctype consumer()
{
	byte c;

end:
	do
	:: cq_head != cq_tail -> consume(c)
	:: LEFT == 0 -> break
	od
}
#endif

/* ---- others ---- */

#ifndef DEFER
/* of the task that submitted the polls, if that isn't the one that waits */
proctype task_work_run()
{
	LOCALS;
	byte p;

end:
	do
	:: !NONE(task_work) -> io_run_task_work()
	od
}
#endif

/* io_pollfree_wake() */
inline io_pollfree_wake(p)
{
	io_level_claim(p);
	if
	:: claimed -> io_poll_execute_claimed(p)
	:: else
	fi;
	/* io_poll_remove_waitq() */
#ifdef BUG_HEAD_FIRST
	head[p] = false;
	atomic { TOUCH(p); queued[p] = false }
#else
	atomic { TOUCH(p); queued[p] = false };
	atomic { TOUCH(p); head[p] = false }
#endif
}

/* io_poll_wake() for each poll on the wait queue */
inline wake_up(g, pollfree)
{
	LOCK(wq_lock[g]);
	p = 0;
	do
	:: p < POLLS ->
		if
		:: FILE_OF(p) == g && queued[p] ->
			if
			:: pollfree -> io_pollfree_wake(p)
			:: else -> io_level_wake(p)
			fi
		:: else
		fi;
		p++
	:: else -> p = 0; break
	od;
	UNLOCK(wq_lock[g])
}

proctype waker(byte g)
{
	LOCALS;
	byte p, i;

	do
	:: i < WAKES ->
		/* that the wait queue stays meanwhile is up to the driver */
		atomic {
			if
			:: !wq_gone[g] -> waking[g]++
			:: else -> break
			fi
		};
		file_ready[g] = true;
		wake_up(g, false);
		waking[g]--;
		i++
	:: else -> break
	od
}

#define ON_FILE(p, m)	(linked[p] && MEM(FILE_OF(p)) == m)
#define NO_POLLS(m)	(!ON_FILE(0, m) && !ON_FILE(POLLS - 1, m))

/* the wait queue goes away before the file, an RCU grace period later */
#ifdef POLLFREE
proctype wake_up_pollfree(byte g)
{
	LOCALS;
	byte p;

	atomic {
		if
		:: !wq_gone[g] -> waking[g]++
		:: else -> goto out
		fi
	};
	wake_up(g, true);
	SYNCHRONIZE_RCU;
	atomic {
		waking[g] == 1 ->
		assert(!wq_lock[g]);
		wq_gone[g] = true;
		waking[g] = 0
	};
out:
	skip
}
#endif

inline io_uring_file_release(m)
{
	if
	/* without the lock, it's only seen whether there are any */
	:: !NO_POLLS(m) ->
		do
		:: true ->
			LOCK(f_lock[m]);
			if
			:: NO_POLLS(m) -> UNLOCK(f_lock[m]); break
			:: else
			fi;
			p = (ON_FILE(0, m) -> 0 : POLLS - 1);
			io_level_claim(p);
			io_poll_file_unlink(p);
#ifndef BUG_NO_EXECUTE
			if
			:: claimed -> io_poll_execute_claimed(p)
			:: else
			fi;
#endif
			atomic {
				claimed = false;
				v = 0;
				p = 0;
				UNLOCK(f_lock[m])
			}
		od
	:: else
	fi
}

proctype __fput(byte m)
{
	LOCALS;
	byte p, g;

end:
	do
	:: f_fput[m] ->
		g = f_file[m];
#ifndef BUG_NO_HOOK
		io_uring_file_release(m);
#endif
		/* ->release(), after which the driver doesn't wake anybody */
		atomic {
			waking[g] == 0 ->
			assert(!wq_lock[g]);
			p = 0;
			do
			:: p < POLLS ->
				assert(FILE_OF(p) != g || !queued[p]);
				p++
			:: else -> p = 0; break
			od;
			wq_gone[g] = true;
			released[g] = true
		};
		/* file_free() */
		atomic { f_fput[m] = false; f_free[m] = true }
	od
}

/* whoever has the descriptor */
proctype file(byte g)
{
	LOCALS;
	bool early;

	if
	:: g >= SLOTS ->
		/* init_file(), ->f_ref is the last thing that is set */
		atomic {
			f_free[MEM(g)] ->
			f_free[MEM(g)] = false;
			f_file[MEM(g)] = g
		};
		f_ref[MEM(g)] = FILE_REF_ONEREF
	:: else
	fi;
#ifdef CLOSE
	if
	:: early = true
	:: early = false
	fi;
#endif
	if
	:: early
	:: quiet
	fi;
	fput(MEM(g))
}

#ifdef SUBMIT
/* the task that arms the poll, it has looked up the file */
proctype submit(byte p)
{
	LOCALS;

	atomic {
		got = f_ref[MEM(FILE_OF(p))] != FILE_REF_DEAD &&
		      f_file[MEM(FILE_OF(p))] == FILE_OF(p);
		if
		:: got -> f_ref[MEM(FILE_OF(p))]++
		:: else -> gone[p] = true; ended++
		fi
	};
	if
	:: got -> io_level_add(p)
	:: else
	fi
}
#endif

#ifdef CANCEL
/* POLL_REMOVE, or ASYNC_CANCEL */
proctype canceller(byte p)
{
	LOCALS;

	LOCK(uring_lock);
	if
	:: hashed[p] ->
#ifdef UPDATE
		if
		:: !(refs[p] & CANCEL_FLAG) -> io_level_update_events(p)
		:: else
		fi
#else
		io_level_claim(p);
		if
		:: claimed -> hashed[p] = false; io_poll_execute_claimed(p)
		:: else
		fi
#endif
	:: else
	fi;
	UNLOCK(uring_lock)
}
#endif

#ifdef EXIT
/* io_ring_exit_work() */
proctype ring_exit()
{
	LOCALS;
	byte p;

	do
	:: true ->
#ifdef DEFER
		do
		:: !NONE(task_work) -> io_run_task_work()
		:: else -> break
		od;
#endif
		/* io_poll_remove_all() */
		LOCK(uring_lock);
		p = 0;
		do
		:: p < POLLS ->
			if
			:: hashed[p] ->
				hashed[p] = false;
				io_level_claim(p);
				if
				:: claimed -> io_poll_execute_claimed(p)
				:: else
				fi
			:: else
			fi;
			p++
		:: else -> p = 0; break
		od;
		UNLOCK(uring_lock);
		/* ->ref_comp, or time to run what has been queued */
		if
		:: gone[0] && gone[POLLS - 1] && !uring_lock -> break
#ifdef DEFER
		:: !NONE(task_work)
#endif
		fi
	od;
	/* io_ring_ctx_free() */
	SYNCHRONIZE_RCU;
	atomic { assert(NONE(level_woken) && NONE(task_work)); ctx_gone = true }
}
#endif

#define NOT_ENOUGH(n, t)	(POS(cq_tail + n - t) >= POSITIONS / 2)

/*
 * Nobody has anything to do, and there may still be polls. Those that are ready,
 * and have no CQE in the ring, would post one now: nobody sleeps who has waited
 * for it.
 */
proctype judge()
{
	byte p, n;

	timeout;
	d_step {
		p = 0;
		do
		:: p < POLLS ->
			if
			:: !gone[p] && !(refs[p] & CANCEL_FLAG) &&
			   !unseen[p] && file_ready[FILE_OF(p)] -> n++
			:: else
			fi;
			p++
		:: else -> break
		od;
		assert(!asleep[0] || NOT_ENOUGH(n, iowq_tail[0]));
		assert(!asleep[NW - 1] || NOT_ENOUGH(n, iowq_tail[NW - 1]));
#ifdef PEEK
		assert(n == 0 && cq_head == cq_tail);
#endif
		/* for those who look at the flag */
		assert(taskrun || (level_state == 0 && NONE(level_woken)));
		n = 0;
		p = 0;
		quiet = true
	}
}

init {
	byte i;

	atomic {
		i = 0;
		do
		:: i < SLOTS ->
			f_ref[i] = FILE_REF_ONEREF;
			f_file[i] = i;
			run __fput(i);
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < POLLS ->
#ifdef SUBMIT
			run submit(i);
#else
			poll_file[i] = MEM(FILE_OF(i)) + 1;
			linked[i] = true;
			queued[i] = true;
			head[i] = true;
			hashed[i] = true;
#endif
			i++
		:: else -> break
		od;
#ifdef FILL
		i = 0;
		do
		:: i < ENTRIES -> cqe[i] = OTHER; i++
		:: else -> break
		od;
		cq_tail = ENTRIES;
		cached_cq_tail = ENTRIES;
#endif
		i = 0;
		do
		:: i < FILES -> run file(i); run waker(i); i++
		:: else -> break
		od;
#if WAITERS
		i = 0;
		do
		:: i < WAITERS -> run waiter(i); i++
		:: else -> break
		od;
#endif
		i = 0;
#ifndef DEFER
		run task_work_run();
#endif
#ifdef CANCEL
		run canceller(0);
#endif
#ifdef EXIT
		run ring_exit();
#endif
#ifdef POLLFREE
		run wake_up_pollfree(0);
#endif
#ifdef PEEK
		run peeker();
#endif
#ifdef ENTER
		run enter();
#endif
#ifdef CONSUME
		run consumer();
#endif
		run judge()
	}
}
