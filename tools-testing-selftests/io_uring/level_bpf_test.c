// SPDX-License-Identifier: GPL-2.0
/*
 * Level triggered polls of a ring that has a BPF run loop: io_uring_enter() runs
 * its program then, in steps, and each step reports them like an
 * io_uring_enter() does.
 *
 * The program is a dozen instructions, and is attached without libbpf.
 */
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>

#include "kselftest_harness.h"
#include "ring.h"
#include "sleeper.h"

#define OPS		"io_uring_bpf_ops"
#define OPS_VALUE	"bpf_struct_ops_" OPS
#define SUBMIT		"bpf_io_uring_submit_sqes"

static int sys_bpf(int cmd, union bpf_attr *attr, unsigned int size)
{
	int ret = syscall(__NR_bpf, cmd, attr, size);

	return ret < 0 ? -errno : ret;
}

/* The types of the kernel */

struct btf {
	char *data;
	const char *types;
	const char *types_end;
	const char *strings;
};

static bool btf_load(struct btf *btf)
{
	int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	const struct btf_header *hdr;
	size_t len = 0, size = 0;
	ssize_t n = 1;

	if (fd < 0)
		return false;
	btf->data = NULL;
	while (n > 0) {
		if (len == size) {
			size = 2 * size + (1 << 20);
			btf->data = realloc(btf->data, size);
			if (!btf->data)
				break;
		}
		n = read(fd, btf->data + len, size - len);
		len += n > 0 ? n : 0;
	}
	close(fd);
	if (n || len < sizeof(*hdr))
		return false;

	hdr = (void *)btf->data;
	if (hdr->magic != BTF_MAGIC)
		return false;
	btf->types = btf->data + hdr->hdr_len + hdr->type_off;
	btf->types_end = btf->types + hdr->type_len;
	btf->strings = btf->data + hdr->hdr_len + hdr->str_off;
	return true;
}

static size_t btf_type_size(const struct btf_type *t)
{
	unsigned int vlen = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(*t) + sizeof(__u32);
	case BTF_KIND_ARRAY:
		return sizeof(*t) + sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return sizeof(*t) + vlen * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return sizeof(*t) + vlen * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return sizeof(*t) + vlen * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return sizeof(*t) + vlen * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return sizeof(*t) + vlen * sizeof(struct btf_var_secinfo);
	default:
		return sizeof(*t);
	}
}

/* The id of what has that kind and name, 0 if there's none */
static int btf_find(const struct btf *btf, unsigned int kind, const char *name,
		    const struct btf_type **type)
{
	const char *p = btf->types;
	int id;

	for (id = 1; p < btf->types_end; id++) {
		const struct btf_type *t = (void *)p;

		if (BTF_INFO_KIND(t->info) == kind &&
		    !strcmp(btf->strings + t->name_off, name)) {
			*type = t;
			return id;
		}
		p += btf_type_size(t);
	}
	return 0;
}

/* Index of a member of a struct, and its offset in bytes */
static int btf_member(const struct btf *btf, const struct btf_type *t,
		      const char *name, unsigned int *offset)
{
	const struct btf_member *m = (void *)(t + 1);
	unsigned int i;

	for (i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		if (strcmp(btf->strings + m[i].name_off, name))
			continue;
		*offset = BTF_MEMBER_BIT_OFFSET(m[i].offset) / 8;
		return i;
	}
	return -1;
}

/*
 * int loop_step(struct iou_ctx *ctx, struct iou_loop_params *lp)
 * {
 *	if (lp->cq_wait_idx)
 *		return IOU_LOOP_STOP;
 *	bpf_io_uring_submit_sqes(ctx, 1);
 *	lp->cq_wait_idx = 1;
 *	return IOU_LOOP_CONTINUE;
 * }
 *
 * Two steps for each io_uring_enter(). It submits an SQE if there's any, and waits
 * in between if the ring hasn't had any CQE yet. If it's endless, there is no end to
 * the steps, and what each waits for is more than the CQ ring has room for.
 */
static int load_program(int ops_id, int member, int submit_id, bool endless)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_6,
		  .src_reg = BPF_REG_1, .off = 8 },
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2,
		  .src_reg = BPF_REG_6 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0,
		  .imm = 1 },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = BPF_REG_2,
		  .off = endless ? 0 : 6 },
		{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_1,
		  .src_reg = BPF_REG_1 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2,
		  .imm = 1 },
		{ .code = BPF_JMP | BPF_CALL,
		  .src_reg = BPF_PSEUDO_KFUNC_CALL, .imm = submit_id },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2,
		  .imm = endless ? 100 : 1 },
		{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_6,
		  .src_reg = BPF_REG_2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_STRUCT_OPS,
		.insns = (uintptr_t)insns,
		.insn_cnt = ARRAY_SIZE(insns),
		.license = (uintptr_t)"GPL",
		.attach_btf_id = ops_id,
		.expected_attach_type = member,
		.prog_flags = BPF_F_SLEEPABLE,
	};

	return sys_bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* Types of our own, which a map has to have. It uses none of them. */
static int load_types(void)
{
	struct {
		struct btf_header hdr;
		struct btf_type type;
		__u32 encoding;
		char strings[8];
	} types = {
		.hdr = {
			.magic = BTF_MAGIC,
			.version = BTF_VERSION,
			.hdr_len = sizeof(types.hdr),
			.type_len = sizeof(types.type) + sizeof(types.encoding),
			.str_off = sizeof(types.type) + sizeof(types.encoding),
			.str_len = sizeof(types.strings),
		},
		.type = {
			.name_off = 1,
			.info = BTF_KIND_INT << 24,
			.size = sizeof(int),
		},
		.encoding = BTF_INT_SIGNED << 24 | 8 * sizeof(int),
		.strings = "\0int",
	};
	union bpf_attr attr = {
		.btf = (uintptr_t)&types,
		.btf_size = sizeof(types),
	};

	return sys_bpf(BPF_BTF_LOAD, &attr, sizeof(attr));
}

/* A map of a single element: the ops, which are in use once they are set. */
static int attach_program(const struct btf *btf, const struct btf_type *ops,
			  int prog_fd, int ring_fd)
{
	unsigned int data, loop_step, fd, key = 0;
	const struct btf_type *t;
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_STRUCT_OPS,
		.key_size = sizeof(key),
		.max_entries = 1,
	};
	char value[1024] = {};
	__u64 prog = prog_fd;
	int map_fd, ret;

	attr.btf_vmlinux_value_type_id = btf_find(btf, BTF_KIND_STRUCT,
						  OPS_VALUE, &t);
	if (!attr.btf_vmlinux_value_type_id || t->size > sizeof(value) ||
	    btf_member(btf, t, "data", &data) < 0 ||
	    btf_member(btf, ops, "loop_step", &loop_step) < 0 ||
	    btf_member(btf, ops, "ring_fd", &fd) < 0)
		return -ENOENT;
	attr.value_size = t->size;
	ret = load_types();
	if (ret < 0)
		return ret;
	attr.btf_fd = ret;
	map_fd = sys_bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
	if (map_fd < 0)
		return map_fd;

	memcpy(value + data + loop_step, &prog, sizeof(prog));
	memcpy(value + data + fd, &ring_fd, sizeof(ring_fd));
	attr = (union bpf_attr) {
		.map_fd = map_fd,
		.key = (uintptr_t)&key,
		.value = (uintptr_t)value,
	};
	ret = sys_bpf(BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr));
	return ret < 0 ? ret : map_fd;
}

#define NR_PIPES	3

/* Three polls of which none is ready, then nothing but the program runs. */
static void set_up(struct __test_metadata *_metadata, struct ring *r,
		   int pipes[][2], unsigned int cq_entries, bool endless)
{
	const struct ring_opts opts = {
		.flags = IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = cq_entries,
		.sq_entries = cq_entries,
	};
	const struct btf_type *ops, *submit;
	unsigned int offset;
	int i, id, submit_id, prog_fd;
	struct btf btf;

	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	if (!btf_load(&btf))
		SKIP(return, "no BTF");
	id = btf_find(&btf, BTF_KIND_STRUCT, OPS, &ops);
	if (!id)
		SKIP(return, "no CONFIG_IO_URING_BPF_OPS");
	submit_id = btf_find(&btf, BTF_KIND_FUNC, SUBMIT, &submit);
	ASSERT_NE(0, submit_id);

	ASSERT_EQ(0, ring_init(r, &opts));
	for (i = 0; i < NR_PIPES; i++) {
		ASSERT_EQ(0, pipe(pipes[i]));
		ASSERT_EQ(1, ring_arm(r, pipes[i][0], EPOLLIN, i));
	}
	prog_fd = load_program(id, btf_member(&btf, ops, "loop_step", &offset),
			       submit_id, endless);
	if (prog_fd == -EPERM)
		SKIP(return, "not allowed to load programs");
	ASSERT_LE(0, prog_fd);
	ASSERT_LE(0, attach_program(&btf, ops, prog_fd, r->fd));
	free(btf.data);
}

FIXTURE(loop)
{
	struct ring ring;
	int pipe[NR_PIPES][2];
};

FIXTURE_SETUP(loop)
{
	set_up(_metadata, &self->ring, self->pipe, 0, false);
}

FIXTURE_TEARDOWN(loop)
{
	ring_exit(&self->ring);
}

TEST_F(loop, wakes_up_who_waits)
{
	struct ring *r = &self->ring;
	struct sleeper s;

	ASSERT_EQ(0, sleeper_start(&s, self->pipe[1][1]));
	EXPECT_EQ(0, ring_enter(r, 0));
	EXPECT_EQ(1, sleeper_join(&s));
	EXPECT_EQ(1U, ring_cq_count(r));
	EXPECT_LEVEL(r, 1, EPOLLIN);
}

TEST_F(loop, reported_as_long_as_ready)
{
	struct ring *r = &self->ring;
	int i;

	feed(self->pipe[0][1]);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, 0, EPOLLIN);
	}
	drain(self->pipe[0][0]);
	EXPECT_SILENT(r);
	feed(self->pipe[2][1]);
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_LEVEL(r, 2, EPOLLIN);
}

/* The cap is on a step: there is one that reports in each of these calls. */
TEST_F(loop, cap)
{
	struct ring *r = &self->ring;
	int i;

	ASSERT_EQ(0, ring_set_cap(r, 1));
	for (i = 0; i < 3; i++)
		feed(self->pipe[i][1]);
	for (i = 0; i < 6; i++) {
		EXPECT_EQ(1, ring_harvest_count(r));
		EXPECT_LEVEL(r, i % 3, EPOLLIN);
	}
}

TEST_F(loop, closed)
{
	struct ring *r = &self->ring;

	ASSERT_EQ(0, close(self->pipe[1][0]));
	EXPECT_EQ(1, ring_harvest_count(r));
	EXPECT_CQE(r, 1, -ECANCELED, 0);
	EXPECT_SILENT(r);
}

/* By a step, which then waits for that */
TEST_F(loop, closed_by_itself)
{
	struct ring *r = &self->ring;
	struct io_uring_sqe *sqe = ring_sqe(r);

	sqe->opcode = IORING_OP_CLOSE;
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	sqe->fd = self->pipe[1][0];
	ring_store(r->sq_tail, r->sqe_tail);
	EXPECT_EQ(0, ring_enter(r, 0));
	EXPECT_CQE(r, 1, -ECANCELED, 0);
	EXPECT_SILENT(r);
}

FIXTURE(endless)
{
	struct ring ring;
	int pipe[NR_PIPES][2];
};

FIXTURE_SETUP(endless)
{
	set_up(_metadata, &self->ring, self->pipe, 2, true);
}

FIXTURE_TEARDOWN(endless)
{
	ring_exit(&self->ring);
}

struct other {
	struct ring *ring;
	pthread_t main;
};

/* Takes the lock of the ring, as all do who register something with it. */
static void *take_lock(void *arg)
{
	struct other *o = arg;

	while (ring_cq_count(o->ring) < 2)
		sched_yield();
	ring_set_cap(o->ring, 1);
	pthread_kill(o->main, SIGUSR1);
	return NULL;
}

static int signalled;

static void on_signal(int sig)
{
	signalled = sig;
}

/* There is one poll more than there's room for: step by step, it finds none. */
TEST_F(endless, others_get_the_lock)
{
	const struct sigaction sa = { .sa_handler = on_signal };
	struct other o = { &self->ring, pthread_self() };
	pthread_t thread;
	int i;

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	for (i = 0; i < NR_PIPES; i++)
		feed(self->pipe[i][1]);
	ASSERT_EQ(0, pthread_create(&thread, NULL, take_lock, &o));
	EXPECT_EQ(-EINTR, ring_enter(&self->ring, 0));
	pthread_join(thread, NULL);
	EXPECT_EQ(SIGUSR1, signalled);
	EXPECT_LEVEL(&self->ring, 0, EPOLLIN);
	EXPECT_LEVEL(&self->ring, 1, EPOLLIN);
}

TEST_HARNESS_MAIN
