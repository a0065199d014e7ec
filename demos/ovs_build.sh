#!/usr/bin/env bash
# Builds ovs-vswitchd of Open vSwitch 3.1.0 with symbols, from Debian's package
# `openvswitch-source`, and prints the directory of the build. tests/scale uses it: a real program
# whose every unit is recorded, and that has names to compare with. (The demo uses Debian's own
# program: ovs_stock.sh.)
#
# The build is an ordinary one: GCC's defaults (PIE), -g -O2, no option for qpatch's sake. `bear`
# records the compiler's command lines, because make does not write compile_commands.json.
set -euo pipefail
# shellcheck source=demos/ovs_common.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/ovs_common.sh"

cflags='-g -O2'
# What no test uses, and what would make the build depend on libraries that happen to be there.
options=(--disable-ssl --disable-libcapng --disable-afxdp --disable-silent-rules)
program=vswitchd/ovs-vswitchd

need bear gcc make python3 flock
choose_directory ovs < <(sha256sum <"$archive"; gcc --version | head -1
                         echo "$cflags" "${options[@]}")

complete() { [[ -e $dir/built && -s $tree/compile_commands.json && -x $tree/$program ]]; }

if complete; then printf '%s\n' "$tree"; exit 0; fi
lock_directory
if complete; then printf '%s\n' "$tree"; exit 0; fi

configure() { cd "$tree" && ./configure CFLAGS="$cflags" "${options[@]}"; }

compile() {
  cd "$tree" &&
    start_afresh &&
    bear --output compile_commands.json -- make -j"$jobs" "$program"
}

[[ -e $dir/unpacked ]] || { stage unpack unpack; touch "$dir/unpacked"; }
[[ -e $dir/configured ]] || { stage configure configure; touch "$dir/configured"; }
stage compile compile
touch "$dir/built"

complete || die "the build in $tree is not complete"
readelf -SW "$tree/$program" | grep ' \.symtab ' >/dev/null || die "$program has no .symtab"
printf '%s\n' "$tree"
