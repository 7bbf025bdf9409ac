/*
 * Unix SMB/CIFS implementation.
 *
 * the parameters of lib/torture: their defaults, unless the runner knows better
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

#ifndef _TEVENT_TESTS_PARAM_H_
#define _TEVENT_TESTS_PARAM_H_

#define lpcfg_parm_int(lp, service, type, option, value) (value)
#define lpcfg_parm_ulong(lp, service, type, option, value) (value)
#define lpcfg_parm_double(lp, service, type, option, value) \
	testsuite_parm_double(option, value)
#define lpcfg_parm_bool(lp, service, type, option, value) (value)
#define lpcfg_parm_string(lp, service, type, option) NULL

double testsuite_parm_double(const char *option, double value);

#endif /* _TEVENT_TESTS_PARAM_H_ */
