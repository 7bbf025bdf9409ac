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

#define RING_VARIANT(name, ...)						\
	FIXTURE_VARIANT_ADD(ring, name) { .ring = { __VA_ARGS__ }, };
RING_KINDS(RING_VARIANT)

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
