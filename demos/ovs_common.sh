# shellcheck shell=bash disable=SC2034
# What ovs_build.sh and ovs_stock.sh have in common; to source. Both make something out of Debian's
# package `openvswitch-source`.
#
# What they make lies in one cache directory ($QPATCH_CACHE, else build/demo-cache of the
# repository), under a name made of all that determines the result. A second run finds it complete
# and does nothing. A stage writes its stamp when it is done, so that an interrupted run is
# continued at the stage where it stopped.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
archive=${OVS_ARCHIVE:-/usr/src/openvswitch/openvswitch.tar.gz}
cache=$(realpath -m "${QPATCH_CACHE:-$root/build/demo-cache}")
jobs=${OVS_JOBS:-$(nproc)}

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0" .sh): $*"; exit 1; }

need() {
  [[ -r $archive ]] || die "$archive is missing: apt-get install openvswitch-source"
  local tool
  for tool in "$@"; do command -v "$tool" >/dev/null || die "$tool is missing"; done
}

# choose_directory KIND: dir and tree; the key is made of what is read.
choose_directory() {
  dir=$cache/$1-$(sha256sum | cut -c1-12)
  tree=$dir/openvswitch
}

# Two runs at a time: the second waits and finds it done.
lock_directory() {
  mkdir -p "$dir"
  exec 9>"$dir/lock"
  flock 9
}

# Runs a stage with its output in a log, and shows the end of the log if it fails.
stage() {
  local name=$1 begin=$SECONDS
  shift
  say "$(basename "$0" .sh): $name ..."
  # The compiler inherits the lock: if this script is killed and make goes on, the next run waits
  # for it.
  if ! "$@" >"$dir/$name.log" 2>&1; then
    tail -n 25 "$dir/$name.log" >&2
    die "$name failed, see $dir/$name.log"
  fi
  say "$(basename "$0" .sh): $name done in $((SECONDS - begin)) s"
}

# The commands of a stage are chained with &&, because `set -e` does not work in a command that is
# tested.
unpack() {
  rm -rf "$dir/unpack" "$tree" &&
    mkdir "$dir/unpack" &&
    tar -xzf "$archive" -C "$dir/unpack" --no-same-owner &&
    mv "$dir/unpack/openvswitch" "$tree" &&
    rmdir "$dir/unpack"
}

# In the directory of the build: nothing compiled and nothing recorded, since a database that misses
# the units which an interrupted run had compiled would be of no use. Then what `make all` generates
# first; a single program or object does not know that it needs it.
# shellcheck disable=SC2016
start_afresh() {
  rm -f compile_commands.json &&
    make clean &&
    printf 'include Makefile\nqp_generated: config.h $(BUILT_SOURCES)\n' |
      make -f - -j"$jobs" qp_generated
}
