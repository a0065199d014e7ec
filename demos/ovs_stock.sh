#!/usr/bin/env bash
# Makes ready what is needed to patch Debian's own Open vSwitch 3.1.0, as it runs on many machines,
# and prints three lines:
#
#   STOCK   root directory of Debian's binary packages: STOCK/usr/lib/openvswitch-switch/ovs-vswitchd
#   BUILD   directory with the compile_commands.json for the units that fix.patch is about
#   COUNT   "3 of 231": units that were recorded, and units that ovs-vswitchd is made of
#
# The programs are those of the packages `openvswitch-switch` and `openvswitch-common`: stripped,
# PIE, hardened, not built here. The packages are downloaded and unpacked, not installed, because
# their installation would start Open vSwitch as a service of this machine.
#
# The source is Debian's package `openvswitch-source` of the same version, configured as its
# debian/rules does. It is not built: what the compiler is told is recorded for the units that
# matter, and qpatch compiles these itself.
set -euo pipefail
# shellcheck source=demos/ovs_common.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/ovs_common.sh"

patch=$root/demos/fix.patch
packages=(openvswitch-switch openvswitch-common)
programs=(usr/lib/openvswitch-switch/ovs-vswitchd usr/sbin/ovsdb-server usr/bin/ovsdb-tool
          usr/bin/ovs-vsctl usr/bin/ovs-appctl usr/bin/ovs-ofctl)

# From debian/rules.
export DEB_BUILD_MAINT_OPTIONS=hardening=+all DEB_CFLAGS_MAINT_APPEND=-fPIC
options=(--prefix=/usr --localstatedir=/var --enable-ssl --sysconfdir=/etc)
# Debian's build dependencies that ./configure asks for; without one of them, config.h or the list
# of units is another one than Debian's. The rest of them is for documentation, Python and DPDK.
libraries=(libbpf-dev libcap-ng-dev libnuma-dev libssl-dev libunbound-dev libxdp-dev)

# The units that the patch touches, and what its new code calls that these units never called before
# (str_to_uint). A stripped program has no name for that; code tells where it is, so the unit that
# defines it is compared with the program as well.
mapfile -t units < <(sed -n 's|^+++ b/\(.*\)\.c$|\1.lo|p' "$patch"; echo lib/util.lo)

need apt-get bear dpkg-buildflags dpkg-deb dpkg-parsechangelog flock gcc make python3 readelf
for library in "${libraries[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$library" 2>/dev/null) == installed ]] ||
    die "$library is missing: $root/tools/install_dependencies"
done
choose_directory stock < <(sha256sum <"$archive"; gcc --version | head -1; cd /
                           dpkg-buildflags; echo "${options[@]}")
build=$tree/_debian
stock=$dir/stock

# The stamp `recorded` says which units are, and of how many.
complete() {
  [[ -s $build/compile_commands.json && -e $dir/recorded && -e $dir/fetched ]] || return 1
  grep -q -x -F "${units[*]}" "$dir/recorded" || return 1
  local program
  for program in "${programs[@]}"; do [[ -x $stock/$program ]] || return 1; done
}
print_result() {
  printf '%s\n' "$stock" "$build" "${#units[@]} of $(tail -n 1 "$dir/recorded")"
}

if complete; then print_result; exit 0; fi
lock_directory
if complete; then print_result; exit 0; fi

# Debian's packages of exactly the version of the source: qpatch would refuse to patch others
# (code-differs), but here it can be said better. apt checks the signatures.
fetch() {
  local version package
  version=$(dpkg-parsechangelog -l "$tree/debian/changelog" -S Version) &&
    rm -rf "$dir/packages" "$stock" "$stock.part" &&
    mkdir "$dir/packages" "$stock.part" &&
    cd "$dir/packages" || return 1
  # On a fresh machine apt knows no packages yet.
  apt-cache show "${packages[0]}" >/dev/null 2>&1 || [[ $EUID -ne 0 ]] || apt-get update -q
  for package in "${packages[@]}"; do
    if ! apt-cache madison "$package" | awk '{ print $3 }' | grep -x -F "$version" >/dev/null; then
      echo "The source in $archive is of version $version, but apt does not offer $package of it:"
      apt-cache policy "$package" | sed -n '2,3p'
      echo "Bring both to one version: apt-get update && apt-get install openvswitch-source"
      return 1
    fi
  done
  # As root: apt's own user, to whom downloads are left otherwise, can't write into this directory.
  if ! apt-get -q -o APT::Sandbox::User=root download "${packages[@]/%/=$version}"; then
    echo "The packages could not be downloaded: ${packages[*]}, version $version."
    echo "Is there a network? If so, apt's lists may be out of date: apt-get update"
    return 1
  fi
  for package in *.deb; do
    # shellcheck disable=SC2016
    [[ $(dpkg-deb -W --showformat='${source:Version}' "$package") == "$version" ]] || {
      echo "$package was not made from version $version of the source"
      return 1
    }
    dpkg-deb -x "$package" "$stock.part" || return 1
  done
  mv "$stock.part" "$stock" && cd "$dir" && rm -r packages
}

# The flags name the tree (-ffile-prefix-map), so they are asked for in it. A subshell, because they
# become variables of the environment.
configure() (
  cd "$tree" &&
    flags=$(dpkg-buildflags --export=sh) &&
    eval "$flags" &&
    mkdir -p _debian && cd _debian && ../configure "${options[@]}"
)

# What make would have to compile is counted, and not compiled.
record() {
  local all
  rm -f "$dir/recorded" &&
    cd "$build" &&
    start_afresh &&
    all=$(make -n vswitchd/ovs-vswitchd | grep -o -e ' -c -o [^ ]*' | sort -u | wc -l) &&
    bear --output compile_commands.json -- make -j"$jobs" "${units[@]}" &&
    printf '%s\n' "${units[*]}" "$all" >"$dir/recorded"
}

[[ -e $dir/unpacked ]] || { stage unpack unpack; touch "$dir/unpacked"; }
[[ -e $dir/fetched ]] || { stage fetch fetch; touch "$dir/fetched"; }
[[ -e $dir/configured ]] || { stage configure configure; touch "$dir/configured"; }
stage record record

complete || die "what is in $dir is not complete"
print_result
