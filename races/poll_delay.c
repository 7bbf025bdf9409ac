// SPDX-License-Identifier: GPL-2.0
/*
 * Makes races likely: delays in whatever is compiled with
 * -fsanitize-coverage=trace-pc, see build.patch. The compiler has each basic
 * block of that call __sanitizer_cov_trace_pc().
 *
 * Most calls do nothing. How often a block is delayed, and for how long, differs
 * from block to block, it costs 4 us a turn on average. That and the turns it
 * happens at are a hash of the seed, so a seed does the same to a kernel each
 * time. There is no delay without a seed.
 *
 * The long ones are for virtual machines: it may take the host that long to let
 * the other processor run.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/hash.h>
#include <linux/init.h>
#include <linux/jhash.h>
#include <linux/moduleparam.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include <asm/sections.h>

static unsigned int seed;
module_param(seed, uint, 0644);

/* far more than there are basic blocks */
#define NR_BLOCK_BITS	14

static struct block {
	unsigned long ip;
	atomic_t turns;
	atomic_t delays;
} blocks[BIT(NR_BLOCK_BITS)];

static struct block *find_block(unsigned long ip)
{
	unsigned int i = hash_long(ip, NR_BLOCK_BITS);
	unsigned long old;

	for (;; i = (i + 1) % ARRAY_SIZE(blocks)) {
		old = READ_ONCE(blocks[i].ip);
		if (!old)
			old = cmpxchg(&blocks[i].ip, 0, ip);
		if (!old || old == ip)
			return &blocks[i];
	}
}

static noinline void delay_block(unsigned long ip)
{
	struct block *b = find_block(ip);
	unsigned int kind;
	u32 turn;

	kind = jhash_2words(ip - (unsigned long)_stext, READ_ONCE(seed), 0);
	turn = jhash_2words(atomic_inc_return(&b->turns), kind, 0);
	/* one turn in 8, 32, 128 or 512 is delayed by up to 64, 256, ... us */
	kind = kind % 4 * 2;
	if (turn % (8 << kind))
		return;
	atomic_inc(&b->delays);
	udelay(1 + (turn >> 16) % (64 << kind));
}

__diag_push();
__diag_ignore_all("-Wmissing-prototypes", "it's the compiler that calls it");

void notrace __sanitizer_cov_trace_pc(void)
{
	unsigned long flags;

	if (likely(!READ_ONCE(seed)))
		return;
	/* it may be between user_access_begin() and user_access_end() */
	flags = user_access_save();
	delay_block(_RET_IP_);
	user_access_restore(flags);
}

__diag_pop();

/* What has been delayed: turns, delays, and where */
static int blocks_show(struct seq_file *m, void *v)
{
	struct block *b;

	for (b = blocks; b < blocks + ARRAY_SIZE(blocks); b++) {
		if (READ_ONCE(b->ip))
			seq_printf(m, "%u %u %pB\n", atomic_read(&b->turns),
				   atomic_read(&b->delays), (void *)b->ip);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(blocks);

static int __init poll_delay_init(void)
{
	debugfs_create_file("poll_delay", 0400, NULL, NULL, &blocks_fops);
	return 0;
}
late_initcall(poll_delay_init);
