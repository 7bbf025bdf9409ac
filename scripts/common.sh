# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Sourced by every script: names, folders, messages, and --help from a
# script's own header.

set -euo pipefail
# A caller's git hook or alias must not redirect the git calls of the scripts.
# shellcheck disable=SC2046
unset $(git rev-parse --local-env-vars 2>/dev/null || true)
# What runs in the background ignores Ctrl-C, and has to end as well.
trap 'kill 0' INT

# shellcheck disable=SC2034 # not every script uses all of them
{
	PROJECT=io_uring-level-poll
	ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
	CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/$PROJECT
	# SUBBUILD=NAME in the environment: build/NAME takes the place of build
	BUILD=$ROOT/build${SUBBUILD:+/$SUBBUILD}
	JOBS=${JOBS:-$(nproc)}
	SELF=${0##*/}
}

say() { printf '%s: %s\n' "$SELF" "$*" >&2; }
die() { say "$*"; exit 1; }

# The comment between the licence line and the first blank line is the help.
help() { sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; }

usage_error() {
	say "$*"
	help >&2
	exit 2
}

# need_arg OPTION COUNT: an option that takes a value was given one
need_arg() { [ "$2" -ge 2 ] || usage_error "$1 needs a value"; }

# load_base NAME: the variables of patches/NAME/BASE
load_base() {
	# KIND and the rest are read here and used by the script that sources us
	# shellcheck disable=SC2034
	KIND='' SUITE='' PACKAGE='' VERSION='' SHA256='' TARBALL='' EXTRACT='' \
		FALLBACK='' FALLBACK_SUMS='' DIGEST_PATHS='' DIGEST=''
	[ -f "$ROOT/patches/$1/BASE" ] || die "there is no series '$1': patches/$1/BASE is missing"
	# shellcheck disable=SC1090
	. "$ROOT/patches/$1/BASE"
}

apt_conf=()

# The machine's own mirror of Debian, as apt understands its sources.
mirror() {
	local codename
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016 # the $ are apt's
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 2>/dev/null |
		awk -v suite="$codename" '$2 == suite && $3 == "main" { print $1; exit }'
}

# apt_setup SUITE: apt_conf for an apt that has its own sources, lists and cache
# and touches nothing of the system. It inherits proxies and the like.
# trusted=yes: what decides is the sha256 that the caller has pinned, which also
# serves a machine whose keyring is older.
apt_setup() {
	local uri dir=$CACHE/apt/$1
	command -v apt-get >/dev/null || { say "this machine has no apt"; return 1; }
	uri=$(mirror)
	[ -n "$uri" ] || { say "apt's sources name no Debian mirror"; return 1; }
	mkdir -p "$dir/none" "$dir/lists/partial" "$dir/cache/archives/partial"
	printf '%s [trusted=yes] %s %s main\n' deb "$uri" "$1" deb-src "$uri" "$1" \
		>"$dir/sources.list"
	apt_conf=(-o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=-
		-o "Dir::Etc::Preferences=$dir/none" -o "Dir::Etc::PreferencesParts=$dir/none"
		-o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir/cache"
		-o Dir::Cache::Archives=archives
		-o APT::Sandbox::User=root -o Acquire::Retries=3
		-o Acquire::Languages=none -o APT::Update::Post-Invoke-Success::=true)
	say "reading the package lists of $1"
	apt-get "${apt_conf[@]}" -q update >&2
}

# lock NAME: one script at a time, until this process ends
lock() {
	mkdir -p "$BUILD"
	exec 9>"$BUILD/.$1.lock"
	flock -n 9 || { say "waiting for another run that uses build/$1"; flock 9; }
}

# worktree NAME: build/NAME, a second working tree of build/linux
worktree() {
	git -C "$BUILD/$1" rev-parse -q --verify HEAD >/dev/null 2>&1 && return
	rm -rf "${BUILD:?}/$1"
	git -C "$BUILD/linux" worktree prune
	git -C "$BUILD/linux" worktree add -q --detach "$BUILD/$1" base
}

# image_of FLAVOUR: the kernel to boot
image_of() {
	case $1 in
	*uml) echo "$BUILD/out/$1/linux" ;;
	*) echo "$BUILD/out/$1/arch/x86/boot/bzImage" ;;
	esac
}

# sources DIR COMMIT: what a kernel is built from, by content. The series change
# nothing in tools/ but tests.
sources() { git -C "$1" ls-tree "$2" | grep -vE '	(Documentation|MAINTAINERS|tools)$'; }

# save FILE PLACE [N]: keeps a copy in that place of the cache, the last N of them, 20
# unless said
save() {
	local dir
	dir=$(dirname "$2")
	mkdir -p "$dir"
	cp "$1" "$2.$$"
	mv "$2.$$" "$2"
	find "$dir" -type f -printf '%T@ %p\n' | sort -rn | tail -n "+$((${3-20} + 1))" |
		cut -d' ' -f2- | xargs -rd'\n' rm -f
}

# explained SUITE:TEST REASON: does scripts/skips say so for the kernel $flavour?
explained() {
	local kernels tests reason
	while read -r kernels tests reason; do
		case $kernels in '' | '#'*) continue ;; esac
		# shellcheck disable=SC2053,SC2154 # patterns; flavour is the caller's
		[[ $flavour == $kernels && $1 == $tests && $2 == $reason ]] && return
	done <"$ROOT/scripts/skips"
	return 1
}

# few_kinds: arguments of a selftest that leave out the kinds of rings whose polls go the
# same ways as those of others
few_kinds() {
	local kind
	for kind in coop_taskrun single_issuer defer_taskrun_flag cqe32 cqe_mixed no_sqarray r_disabled; do
		printf -- ' -V %s' "$kind" {oneshot,edge,level}_"$kind"
	done
}

# field MUTANT KEY [DEFAULT]: what the header of its patch says, see scripts/mutants
field() {
	local value
	value=$(sed '/^diff /Q' "$ROOT/mutants/$1.patch" | sed -n "s/^$2: //p")
	echo "${value:-${3-}}"
}

# command_of TEST: what runs that in the guest
command_of() {
	local words w
	read -ra words <<<"$1"
	printf '/selftests/%s' "${words[0]#io_uring:}"
	for w in "${words[@]:1}"; do
		printf -- ' -r %s' "$w"
	done
}

# For the kernel: its first complaint is enough.
# shellcheck disable=SC2034 # not every script uses it
first_complaint='panic_on_warn=1 oops=panic softlockup_panic=1 sysctl.kernel.panic_on_rcu_stall=1 sysctl.kernel.hung_task_panic=1'
