#!/usr/bin/env bash
# Builds Open vSwitch 3.1.0 with symbols for the tests in tests/scale, from Debian's package
# `openvswitch-source`, and prints the directory of the build.
#
# Everything lies in one cache directory ($QPATCH_CACHE, else build/demo-cache of the repository),
# under a name made of what determines the result: the archive, the compiler and the options below.
# A second run finds it complete and does nothing. A stage writes its stamp when it is done, so that
# an interrupted run is continued at the stage where it stopped.
#
# The build is an ordinary one: GCC's defaults (PIE), -g -O2, no option for qpatch's sake. `bear`
# records the compiler's command lines, because make does not write compile_commands.json.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
archive=${OVS_ARCHIVE:-/usr/src/openvswitch/openvswitch.tar.gz}
cache=${QPATCH_CACHE:-$root/build/demo-cache}
jobs=${OVS_JOBS:-$(nproc)}

cflags='-g -O2'
# What would make the build depend on libraries that happen to be
# there.
options=(--disable-ssl --disable-libcapng --disable-afxdp --disable-silent-rules)
programs=(vswitchd/ovs-vswitchd)

say() { printf '%s\n' "$*" >&2; }
die() { say "ovs_build: $*"; exit 1; }

[[ -r $archive ]] || die "$archive is missing: apt-get install openvswitch-source"
for tool in bear gcc make python3 flock; do
  command -v "$tool" >/dev/null || die "$tool is missing"
done

key=$( { sha256sum <"$archive"; gcc --version | head -1; echo "$cflags" "${options[@]}"; } |
       sha256sum | cut -c1-12)
dir=$cache/ovs-$key
tree=$dir/openvswitch

complete() {
  [[ -e $dir/built && -s $tree/compile_commands.json ]] || return 1
  local program
  for program in "${programs[@]}"; do [[ -x $tree/$program ]] || return 1; done
}

if complete; then printf '%s\n' "$tree"; exit 0; fi

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9                                # two runs at a time: the second waits and finds it done
if complete; then printf '%s\n' "$tree"; exit 0; fi

# Runs a stage with its output in a log, and shows the end of the log if it fails.
stage() {
  local name=$1 begin=$SECONDS
  shift
  say "ovs_build: $name ..."
  # The compiler inherits the lock: if this script is killed and make goes on, the next run waits
  # for it.
  if ! "$@" >"$dir/$name.log" 2>&1; then
    tail -n 25 "$dir/$name.log" >&2
    die "$name failed, see $dir/$name.log"
  fi
  say "ovs_build: $name done in $((SECONDS - begin)) s"
}

# The stages are chained with &&, because `set -e` does not work in a command that is tested.
unpack() {
  rm -rf "$dir/unpack" "$tree" &&
    mkdir "$dir/unpack" &&
    tar -xzf "$archive" -C "$dir/unpack" --no-same-owner &&
    mv "$dir/unpack/openvswitch" "$tree" &&
    rmdir "$dir/unpack"
}

configure() { cd "$tree" && ./configure CFLAGS="$cflags" "${options[@]}"; }

# `make clean`, because a database that misses the units which an interrupted run had compiled would
# be of no use. Then what `make all` generates first; a single program does not know that it needs
# it.
# shellcheck disable=SC2016
compile() {
  cd "$tree" &&
    rm -f compile_commands.json &&
    make clean &&
    printf 'include Makefile\nqp_generated: config.h $(BUILT_SOURCES)\n' |
      make -f - -j"$jobs" qp_generated &&
    bear --output compile_commands.json -- make -j"$jobs" "${programs[@]}"
}

[[ -e $dir/unpacked ]] || { stage unpack unpack; touch "$dir/unpacked"; }
[[ -e $dir/configured ]] || { stage configure configure; touch "$dir/configured"; }
stage compile compile
touch "$dir/built"

complete || die "the build in $tree is not complete"
readelf -SW "$tree/vswitchd/ovs-vswitchd" | grep ' \.symtab ' >/dev/null ||
  die "ovs-vswitchd has no .symtab"
printf '%s\n' "$tree"
