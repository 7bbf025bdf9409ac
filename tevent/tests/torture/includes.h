/*
 * Unix SMB/CIFS implementation.
 *
 * what testsuite.c, test_req.c and lib/torture get from the rest of Samba
 *
 * Copyright (C) io_uring-level-poll developers 2026
 *
 *   ** NOTE! The following LGPL license applies to the tevent
 *   ** library. This does NOT imply that all of Samba is released
 *   ** under the LGPL
 *
 * This library is free software; you can redistribute it and/or
 * modify it under the terms of the GNU Lesser General Public
 * License as published by the Free Software Foundation; either
 * version 3 of the License, or (at your option) any later version.
 *
 * This library is distributed in the hope that it will be useful,
 * but WITHOUT ANY WARRANTY; without even the implied warranty of
 * MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the GNU
 * Lesser General Public License for more details.
 *
 * You should have received a copy of the GNU Lesser General Public
 * License along with this library; if not, see <http://www.gnu.org/licenses/>.
 */

#ifndef _TEVENT_TESTS_INCLUDES_H_
#define _TEVENT_TESTS_INCLUDES_H_

#include "replace.h"
#include "system/time.h"
#include "system/wait.h"
#include <assert.h>
#include <talloc.h>

/* lib/torture/torture.c */
typedef uint32_t NTSTATUS;
#define NT_STATUS_OK 0
#define NT_STATUS_UNSUCCESSFUL 0xC0000001
#define NT_STATUS_INVALID_PARAMETER 0xC000000D
#define NT_STATUS_NO_MEMORY 0xC0000017
#define NT_STATUS_HAVE_NO_MEMORY(x) do { \
	if ((x) == NULL) { \
		return NT_STATUS_NO_MEMORY; \
	} \
} while(0)
#define map_nt_error_from_unix_common(err) NT_STATUS_UNSUCCESSFUL

#define SMB_ASSERT(x) assert(x)
#define DEBUG(level, body) printf body

/* lib/util/time.h, of which tevent has its own */
#define timeval_current() tevent_timeval_current()
#define timeval_add(tv, secs, usecs) tevent_timeval_add(tv, secs, usecs)
struct timeval timeval_current_ofs(uint32_t secs, uint32_t usecs);
double timeval_elapsed(const struct timeval *tv);

/* lib/util/talloc_stack.h */
#define talloc_stackframe() talloc_new(NULL)

/* lib/util/util.c and util_str_common.c */
void dump_data(int level, const uint8_t *buf, int len);
int strcmp_safe(const char *s1, const char *s2);

/* lib/util/tevent_debug.c */
struct tevent_context;
void samba_tevent_set_debug(struct tevent_context *ev, const char *name);
struct tevent_context *samba_tevent_context_init(TALLOC_CTX *mem_ctx);

#endif /* _TEVENT_TESTS_INCLUDES_H_ */
