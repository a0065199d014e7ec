#!/usr/bin/env bash
# Debian's own Open vSwitch 3.1.0, and what is needed to make a patch for it. Prints two directories:
#
#   the programs  as the packages openvswitch-switch and openvswitch-common have them: stripped. They
#                 are taken out of the packages and not installed, so that no service is started on
#                 the machine that shows the demo.
#   the build     of Debian's source (package openvswitch-source), configured as debian/rules does.
#                 Nothing is built in it but generated headers and the units that the demo's fix
#                 touches, whose compiler commands `bear` records.
#
# Everything lies in one cache directory ($QPATCH_CACHE, else build/demo-cache of the repository),
# under a name made of what determines the result. A second run finds it complete and needs no
# network. A stage writes its stamp when it is done, so that an interrupted run is continued there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
archive=${OVS_ARCHIVE:-/usr/src/openvswitch/openvswitch.tar.gz}
cache=${QPATCH_CACHE:-$root/build/demo-cache}
jobs=${OVS_JOBS:-$(nproc)}
# The two that the fix touches, and one with a function that the fix calls anew.
units=(ofproto/ofproto-dpif-xlate.lo ofproto/ofproto-dpif.lo lib/util.lo)
options=(--prefix=/usr --localstatedir=/var --enable-ssl --sysconfdir=/etc)
packages=(openvswitch-switch openvswitch-common)

say() { printf '%s\n' "$*" >&2; }
die() { say "ovs_stock: $*"; exit 1; }

[[ -r $archive ]] || die "$archive is missing: apt-get install openvswitch-source"
for tool in apt-get bear dpkg-buildflags dpkg-deb flock gcc make python3; do
  command -v "$tool" >/dev/null || die "$tool is missing"
done
version=$(dpkg-query -W -f='${Version}' openvswitch-source)

key=$( { sha256sum <"$archive"; gcc --version | head -1; echo "$version" "${options[@]}"; } |
       sha256sum | cut -c1-12)
dir=$cache/stock-$key
programs=$dir/programs
build=$dir/openvswitch/_debian

complete() { [[ -e $dir/recorded && -x $programs/usr/lib/openvswitch-switch/ovs-vswitchd ]]; }
answer() { printf '%s\n%s\n' "$programs" "$build"; }

if complete; then answer; exit 0; fi

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9                                # two runs at a time: the second waits and finds it done
if complete; then answer; exit 0; fi

# Runs a stage with its output in a log, and shows the end of the log if it fails.
stage() {
  local name=$1 begin=$SECONDS
  shift
  [[ ! -e $dir/$name ]] || return 0
  say "ovs_stock: ${name/ed/}ing ..."
  if ! "$@" >"$dir/$name.log" 2>&1; then
    tail -n 25 "$dir/$name.log" >&2
    die "$name: failed, see $dir/$name.log"
  fi
  touch "$dir/$name"
  say "ovs_stock: $name in $((SECONDS - begin)) s"
}

# The stages are chained with &&, because `set -e` does not work in a command that is tested.
fetch() {  # the version of the source, since another one has other code
  local package
  rm -rf "$dir/packages" "$programs" && mkdir "$dir/packages" &&
    cd "$dir/packages" &&
    apt-get -o APT::Sandbox::User=root download "${packages[@]/%/=$version}" &&
    for package in *.deb; do dpkg-deb -x "$package" "$programs" || return 1; done
}
unpack() {
  rm -rf "$dir/unpack" "$dir/openvswitch" && mkdir "$dir/unpack" &&
    tar -xzf "$archive" -C "$dir/unpack" --no-same-owner &&
    mv "$dir/unpack/openvswitch" "$dir/openvswitch" && rmdir "$dir/unpack"
}
# debian/rules: these two variables, dpkg-buildflags from the top of the tree, and a directory of its
# own below it.
configure() {
  export DEB_BUILD_MAINT_OPTIONS=hardening=+all DEB_CFLAGS_MAINT_APPEND=-fPIC
  cd "$dir/openvswitch" && eval "$(dpkg-buildflags --export=sh)" &&
    mkdir -p "$build" && cd "$build" && ../configure "${options[@]}"
}
# What `make all` generates first, because a single unit does not know that it needs it.
# shellcheck disable=SC2016
record() {
  cd "$build" && rm -f "${units[@]}" &&
    printf 'include Makefile\nqp_generated: config.h $(BUILT_SOURCES)\n' |
      make -f - -j"$jobs" qp_generated &&
    bear --output compile_commands.json -- make -j"$jobs" "${units[@]}"
}

stage fetched fetch
stage unpacked unpack
stage configured configure
stage recorded record
complete || die "what is in $dir is not complete"
answer
