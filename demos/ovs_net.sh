# shellcheck shell=bash disable=SC2034
# Functions to source: a switch (ovsdb-server and ovs-vswitchd of Debian's packages) and three hosts,
# each in a network namespace of its own.
#
#   net_start ROOT   starts all of it; sets net_dir, net_switch_pid, net_alice, net_bob, net_mallory
#                    (the packages may be installed, ROOT /, or unpacked somewhere)
#   net_stop         ends all of it; to be called by the caller's EXIT trap
#   vsctl, appctl, ofctl ARGS...   Open vSwitch's commands, for this switch
#
#   alice 10.99.0.1 --+
#   bob   10.99.0.2 --+-- switch, userspace datapath (netdev)
#   mallory .0.3    --+
#
# Nothing of the system is touched: the run-time state of Open vSwitch is in a temporary directory
# (the programs look in /var/run/openvswitch and /etc/openvswitch unless told otherwise), and the
# switch's devices are in the switch's own namespace, so that they vanish with it. Only processes
# that are written down in that directory are killed, and only if their start time is the noted one,
# as a number can meanwhile be another process's. What a killed run left behind, the next one
# removes.

net_bridge=br0
net_prefix=${TMPDIR:-/tmp}/qpatch-demo.

# When the process started, in clock ticks since boot; empty if there is no such process.
net_start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }                    # the name before it may contain anything
  # shellcheck disable=SC2086
  set -- $stat
  [[ $1 == Z ]] || printf '%s' "${20}"
}

net_note() { printf '%s %s\n' "$1" "$(net_start_time "$1")" >>"$net_dir/processes"; }

# Ends the processes and removes the namespaces that DIR says exist, and DIR.
net_remove() {
  local dir=$1 pid start name _
  if [[ -e $dir/processes ]]; then
    while read -r pid start; do
      [[ -z $start || $(net_start_time "$pid") != "$start" ]] || kill "$pid" || true
    done <"$dir/processes"
    while read -r pid start; do
      for _ in {1..100}; do
        [[ $(net_start_time "$pid") == "$start" ]] || break
        sleep 0.02
      done
      [[ -z $start || $(net_start_time "$pid") != "$start" ]] || kill -KILL "$pid" || true
      # Only a child of this shell can be waited for; others are reaped elsewhere.
      wait "$pid" 2>/dev/null || true
    done <"$dir/processes"
  fi
  if [[ -e $dir/namespaces ]]; then
    while read -r name; do
      [[ ! -e /run/netns/$name ]] || ip netns delete "$name" || true
    done <"$dir/namespaces"
  fi
  rm -rf "$dir"
}

# Removes what runs left whose process is no more.
net_sweep() {
  local dir pid start
  for dir in "$net_prefix"*; do
    [[ -e $dir/owner ]] || continue
    read -r pid start <"$dir/owner"
    [[ $(net_start_time "$pid") == "$start" ]] || net_remove "$dir"
  done
}

net_stop() {
  [[ -n ${net_dir:-} ]] || return 0
  net_remove "$net_dir"
  net_dir=
}

vsctl() { "$net_root/usr/bin/ovs-vsctl" --db="unix:$net_dir/db.sock" --timeout=20 "$@"; }
appctl() { "$net_root/usr/bin/ovs-appctl" --timeout=20 --target="$net_dir/vswitchd.ctl" "$@"; }
ofctl() { "$net_root/usr/bin/ovs-ofctl" --timeout=20 "$@"; }

# Says NAME before the namespace exists, so that it is removed also if this script dies in between.
net_add_namespace() {
  printf '%s\n' "$1" >>"$net_dir/namespaces"
  ip netns add "$1"
  ip -n "$1" link set lo up
}

# net_add_host NAMESPACE DEVICE LAST_NUMBER: a host whose cable ends as port DEVICE in the switch.
net_add_host() {
  local namespace=$1 device=$2 n=$3 other
  net_add_namespace "$namespace"
  # No IPv6, so that nobody sends what the demo did not ask for.
  for other in all default; do
    nsenter --net="/run/netns/$namespace" -- \
      sh -c "echo 1 >/proc/sys/net/ipv6/conf/$other/disable_ipv6" 2>/dev/null || true
  done
  ip -n "$net_switch" link add "$device" type veth peer name eth0 netns "$namespace"
  ip -n "$namespace" link set eth0 address "02:00:00:00:00:0$n" up
  ip -n "$namespace" address add "10.99.0.$n/24" dev eth0
  ip -n "$net_switch" link set "$device" up
  # Known neighbours: no packet waits for, or is lost by, address resolution.
  for other in 1 2 3; do
    [[ $other == "$n" ]] ||
      ip -n "$namespace" neighbour add "10.99.0.$other" lladdr "02:00:00:00:00:0$other" \
        dev eth0 nud permanent
  done
}

net_wait_for() {
  local file=$1 pid=$2 _
  for _ in {1..500}; do
    [[ ! -e $file ]] || return 0
    [[ -n $(net_start_time "$pid") ]] || break
    sleep 0.02
  done
  printf 'ovs_net: %s did not appear; the end of the logs:\n' "$file" >&2
  tail -n 20 "$net_dir"/*.log >&2 || true
  return 1
}

net_start() {
  net_root=$1
  net_sweep
  net_dir=$(mktemp -d "$net_prefix"XXXXXX)
  printf '%s %s\n' "$$" "$(net_start_time $$)" >"$net_dir/owner"
  export OVS_RUNDIR=$net_dir OVS_DBDIR=$net_dir OVS_LOGDIR=$net_dir OVS_SYSCONFDIR=$net_dir
  export OVS_PKGDATADIR=$net_root/usr/share/openvswitch

  net_switch=qpdemo-$$-switch
  net_alice=qpdemo-$$-alice
  net_bob=qpdemo-$$-bob
  net_mallory=qpdemo-$$-mallory
  net_add_namespace "$net_switch"
  net_add_host "$net_alice" alice 1
  net_add_host "$net_bob" bob 2
  net_add_host "$net_mallory" mallory 3

  "$net_root/usr/bin/ovsdb-tool" create "$net_dir/conf.db" \
    "$OVS_PKGDATADIR/vswitch.ovsschema"
  # In the background but not as daemons, so that $! is their number.
  "$net_root/usr/sbin/ovsdb-server" "$net_dir/conf.db" --remote="punix:$net_dir/db.sock" \
    --unixctl="$net_dir/ovsdb.ctl" --pidfile="$net_dir/ovsdb-server.pid" \
    --log-file="$net_dir/ovsdb-server.log" -vconsole:off >"$net_dir/ovsdb-server.out.log" 2>&1 &
  net_note $!
  net_wait_for "$net_dir/db.sock" $!
  vsctl --no-wait init

  # The switch must get the processor when a packet comes, whatever else this machine is doing.
  # nsenter enters the network namespace only; `ip netns exec` would make a mount namespace too.
  nice -n -10 nsenter --net="/run/netns/$net_switch" -- \
    "$net_root/usr/lib/openvswitch-switch/ovs-vswitchd" "unix:$net_dir/db.sock" \
    --unixctl="$net_dir/vswitchd.ctl" --pidfile="$net_dir/ovs-vswitchd.pid" \
    --log-file="$net_dir/ovs-vswitchd.log" -vconsole:off --disable-system \
    >"$net_dir/ovs-vswitchd.out.log" 2>&1 &
  net_switch_pid=$!
  net_note $!
  net_wait_for "$net_dir/vswitchd.ctl" $!

  vsctl -- add-br "$net_bridge" -- set bridge "$net_bridge" datapath_type=netdev fail-mode=secure \
        -- add-port "$net_bridge" alice -- add-port "$net_bridge" bob \
        -- add-port "$net_bridge" mallory
  # By copying the source port into a register, every UDP flow needs a decision of its own, as a
  # switch with a firewall has to make; otherwise one cached decision would do for all of the load.
  ofctl add-flow "$net_bridge" \
    'priority=10,udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],normal'
  ofctl add-flow "$net_bridge" 'priority=0,actions=normal'
}
