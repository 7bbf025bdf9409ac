/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A fixture with a ring, TEST_F(ring, ...) runs once for each kind of it.
 * Include this once, after kselftest_harness.h.
 */
#ifndef IO_URING_SELFTEST_RING_FIXTURE_H
#define IO_URING_SELFTEST_RING_FIXTURE_H

#include "ring.h"

FIXTURE(ring)
{
	struct ring ring;
	int pipe[2];
};

FIXTURE_VARIANT(ring)
{
	struct ring_opts ring;
};

FIXTURE_VARIANT_ADD(ring, plain) {
	.ring.flags = 0,
};

FIXTURE_VARIANT_ADD(ring, coop_taskrun) {
	.ring.flags = IORING_SETUP_COOP_TASKRUN,
};

FIXTURE_VARIANT_ADD(ring, coop_taskrun_flag) {
	.ring.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(ring, single_issuer) {
	.ring.flags = IORING_SETUP_SINGLE_ISSUER,
};

FIXTURE_VARIANT_ADD(ring, defer_taskrun) {
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(ring, defer_taskrun_flag) {
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		      IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(ring, sqpoll) {
	.ring.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(ring, cqe32) {
	.ring.flags = IORING_SETUP_CQE32,
};

FIXTURE_VARIANT_ADD(ring, cqe_mixed) {
	.ring.flags = IORING_SETUP_CQE_MIXED,
};

FIXTURE_VARIANT_ADD(ring, no_sqarray) {
	.ring.flags = IORING_SETUP_NO_SQARRAY,
};

FIXTURE_VARIANT_ADD(ring, r_disabled) {
	.ring.disabled = true,
};

FIXTURE_VARIANT_ADD(ring, resized) {
	.ring.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	.ring.resize = true,
};

FIXTURE_SETUP(ring)
{
	if (!ring_supported())
		SKIP(return, "no IORING_FEAT_POLL_LEVEL");
	ASSERT_EQ(0, ring_init(&self->ring, &variant->ring));
	ASSERT_EQ(0, pipe(self->pipe));
}

FIXTURE_TEARDOWN(ring)
{
	ring_exit(&self->ring);
}

#endif /* IO_URING_SELFTEST_RING_FIXTURE_H */
