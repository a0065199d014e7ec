#!/usr/bin/env bash
# The story of the demo: Debian's own Open vSwitch, stripped as it is shipped, forwards packets; two
# bugs in it are shown, repaired in the running process, and brought back, and no packet is lost.
# Ends with 0 only if all of it happened.
#
# ../demo installs what is needed and calls this. To be set from outside, if not as expected:
#   QPATCH        the qpatch program (else build/release/qpatch)
#   QPATCH_CACHE  where Open vSwitch is kept (else build/demo-cache)
#   TRAFFIC       the traffic program (else build/release/demos/traffic)
#   RATE          packets per second (else 2000)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
export QPATCH_CACHE=${QPATCH_CACHE:-$root/build/demo-cache}
# Absolute: the story changes into a directory of its own.
qpatch_program=$(realpath -m "${QPATCH:-$root/build/release/qpatch}")
traffic_program=$(realpath -m "${TRAFFIC:-$root/build/release/demos/traffic}")
rate=${RATE:-2000}
address=10.99.0.2:7000
# shellcheck source=demos/ovs_net.sh disable=SC1091
. "$here/ovs_net.sh"

bold='' dim='' red='' green='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi

step_number=0
step() {
  step_number=$((step_number + 1))
  printf '\n%s%d. %s%s  %s[%d s]%s\n' "$bold" $step_number "$*" "$plain" "$dim" "$SECONDS" "$plain"
}
say() { printf '   %s\n' "$*"; }
# try: shows a command and runs it, also if it may fail; its output is shown and is in $output.
try() {
  printf '   %s$ %s%s\n' "$bold" "$*" "$plain"
  local code=0
  output=$("$@" 2>&1) || code=$?
  [[ -z $output ]] || sed 's/^/   /' <<<"$output"
  return $code
}
run() { try "$@" || fail "exit code $? of: $*"; }
fail() { printf '\n%sFAILED: %s%s\n' "$red" "$*" "$plain" >&2; exit 1; }
# expect WHAT COMMAND...: WHAT is said if the command succeeds, else the demo has failed.
expect() {
  local what=$1
  shift
  "$@" || fail "expected: $what"
  printf '   %sok%s %s\n' "$green" "$plain" "$what"
}
equal() { [[ $1 == "$2" ]] || { printf '   is: %s, should be: %s\n' "$1" "$2" >&2; return 1; }; }
contains() { [[ $1 == *"$2"* ]]; }
lacks() {
  local text=$1 word
  shift
  for word in "$@"; do ! contains "$text" "$word" || return 1; done
}

finish() {
  local code=$?
  trap - EXIT
  cd /
  if [[ $code -ne 0 && -d ${net_dir:-} ]]; then
    rm -rf "$QPATCH_CACHE/last-failure"
    cp -r "$net_dir" "$QPATCH_CACHE/last-failure" 2>/dev/null || true
    printf 'Logs: %s   Again: QPATCH=%s %s\n' \
      "$QPATCH_CACHE/last-failure" "$qpatch_program" "$here/demo.sh" >&2
  fi
  net_stop
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Short names, so that the commands shown can be read; they are what is run.
qpatch() { "$qpatch_program" "$@"; }
traffic() { "$traffic_program" "$@"; }

# probe FIRST_BYTE THIRD_BYTE: 20 frames from mallory to bob. The third byte tells the probes apart,
# since the switch goes on using what it decided for the addresses of an earlier probe.
probe() {
  run traffic probe --from "$net_mallory:eth0" --to "$net_bob:eth0" \
    --source "$1:00:$2:00:00:00" --count 20
}
sections() {
  readelf -SW "$1" | sed -n 's/^ *\[ *[0-9]*\] \(\.[^ ]*\).*/\1/p' | paste -sd' ' | fold -sw 90
}
static_addresses() { appctl fdb/show "$net_bridge" | grep -e MAC -e static; }

# The state with the bugs, and the one without. Number: makes the addresses of this call new ones.
show_bugs() {
  probe 03 "$1"
  expect "frames from a group address come through" equal "$output" 'sent=20 received=20'
  probe 02 "$1"
  expect "frames from an ordinary address come through" equal "$output" 'sent=20 received=20'
  run appctl fdb/add "$net_bridge" alice 5000 "02:00:$1:00:00:77"
  run static_addresses
  expect "VLAN 5000 is taken" contains "$output" " 5000  02:00:$1:00:00:77"
  appctl fdb/del "$net_bridge" 5000 "02:00:$1:00:00:77" >/dev/null
}
show_repair() {
  probe 03 "$1"
  expect "frames from a group address are dropped" equal "$output" 'sent=20 received=0'
  probe 02 "$1"
  expect "frames from an ordinary address come through" equal "$output" 'sent=20 received=20'
  run appctl ofproto/trace "$net_bridge" \
    "in_port=mallory,dl_src=03:00:$1:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff"
  expect "the switch says why" \
    contains "$output" "dropping frame with group source address 03:00:$1:00:00:01"
  try appctl fdb/add "$net_bridge" alice 5000 "02:00:$1:00:00:77" || true
  expect "VLAN 5000 is refused" contains "$output" 'bad VLAN: not in 0 to 4095'
}

# What the receiver saw since the last call.
load_mark() {
  local before _
  before=$(grep -c '^mark' load.out || true)
  kill -USR1 "$load_pid"
  for _ in {1..100}; do
    if [[ $(grep -c '^mark' load.out || true) != "$before" ]]; then
      grep '^mark' load.out | tail -n 1
      return 0
    fi
    sleep 0.02
  done
  fail "the load does not answer: $(cat load.out)"
}

# The code of the program as the process has it: read through /proc, not through qpatch.
live_code_hash() {
  local from to
  IFS='- ' read -r from to _ < <(grep -m 1 ' r-xp .*ovs-vswitchd$' "/proc/$net_switch_pid/maps")
  dd if="/proc/$net_switch_pid/mem" bs=64k iflag=skip_bytes,count_bytes,fullblock \
     skip=$((16#$from)) count=$((16#$to - 16#$from)) status=none | sha256sum | cut -c1-64
}
# The heap is left out: the switch allocates all the time.
show_map_changes() {
  say "$2"
  diff --unchanged-line-format='' --old-line-format='   - %L' --new-line-format='   + %L' \
    <(grep -v -F '[heap]' "$1") <(grep -v -F '[heap]' "/proc/$net_switch_pid/maps") || true
}
patches_json() {  # prints FIELD of each patch in the process, one per line
  qpatch list --pid "$net_switch_pid" --json | python3 -c '
import json, sys
for process in json.load(sys.stdin)["processes"]:
  for patch in process["patches"]:
    print(patch[sys.argv[1]])' "$1"
}
# How many places of the program the new code refers to, and by which kinds of evidence.
patch_evidence() {
  qpatch info fix.qp --json | python3 -c '
import json, sys
bindings = json.load(sys.stdin)["bindings"]
print(len(bindings), "by", ", ".join(sorted({b["evidence"] for b in bindings})))'
}
process_status() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$net_switch_pid/status"; }

[[ $EUID -eq 0 ]] || fail "must be run as root (network namespaces)"
[[ -x $qpatch_program ]] || fail "$qpatch_program does not exist; build it, or set QPATCH"
[[ -x $traffic_program ]] || fail "$traffic_program does not exist; build it, or set TRAFFIC"
for tool in ip nsenter dd diff file readelf python3; do
  command -v $tool >/dev/null || fail "$tool is missing"
done

step "Open vSwitch 3.1.0 as Debian ships it: stripped, and nothing in it made for qpatch"
made=$("$here/ovs_stock.sh")
{ read -r stock; read -r build_tree; read -r units; } <<<"$made"
target=$stock/usr/lib/openvswitch-switch/ovs-vswitchd
say "$target"
run file -b "$target"
run sections "$target"
expect "no symbol table, no debug information" \
  lacks "$output" .symtab .debug_ .gnu_debugdata
say "Of Debian's source, configured as debian/rules does, the compiler was asked for $units units:"
say "those that the fix touches, and util.c, which has a function that the fix calls."
run grep '"file":' "$build_tree/compile_commands.json"

step "A switch with three hosts"
net_start "$stock"
cd "$net_dir"
switch_start=$(net_start_time "$net_switch_pid")
say "ovs-vswitchd is process $net_switch_pid"

step "Two bugs"
sed '/^--- /,$d' "$here/fix.patch" | sed 's/^/   /'
show_bugs 11

step "The fix"
sed -n '/^--- /,$p' "$here/fix.patch" | sed 's/^/   /'

step "The fix becomes a patch file"
cp "$here/fix.patch" .
begin=$EPOCHREALTIME
run qpatch build --compdb "$build_tree" --patch fix.patch --target "$target" -o fix.qp
say "built in $(( (${EPOCHREALTIME/./} - ${begin/./}) / 1000 )) ms"
run readelf -SW fix.qp
run qpatch info fix.qp
evidence=$(patch_evidence)
expect "all that the new code refers to was found by comparing code: $evidence" \
  equal "${evidence#* }" "by proof"
run qpatch check fix.qp --pid "$net_switch_pid"

# Not earlier: what is counted is what patching does to the packets, and not what a compiler does
# to them that takes the processors away from the switch.
step "The process before, forwarding $rate packets a second from alice to bob"
nice -n -5 "$traffic_program" load --from "$net_alice" --to "$net_bob" --address $address \
  --rate "$rate" >load.out 2>load.err &
load_pid=$!
net_note $load_pid
for _ in {1..250}; do ! grep -qs '^ready' load.out || break; sleep 0.02; done
grep -q '^ready' load.out || fail "no packet arrives: $(cat load.out load.err)"
run grep ovs-vswitchd "/proc/$net_switch_pid/maps"
# One of them is glibc's, for writing the log; it comes and goes.
say "threads: $(cat /proc/"$net_switch_pid"/task/*/comm | paste -sd' ')"
code_before=$(live_code_hash)
cat "/proc/$net_switch_pid/maps" >maps.before
say "an ordinary second:  $(load_mark >/dev/null; sleep 1; load_mark)"

step "The patch is applied, while packets are forwarded"
load_mark >/dev/null
run qpatch apply fix.qp --pid "$net_switch_pid"
pause=$(grep -o 'pause [0-9.]* [µmun]*s' <<<"$output" | head -n 1 || true)
expect "the pause was measured: $pause" test -n "$pause"
sleep 0.2
say "seen by the packets: $(load_mark)"
show_map_changes maps.before "changes in /proc/$net_switch_pid/maps:"
run qpatch list --pid "$net_switch_pid"
id=$(patches_json id)
expect "one patch is listed" equal "$(wc -w <<<"$id")" 1

step "The bugs are gone"
show_repair 22
expect "the process is the same" equal "$(net_start_time "$net_switch_pid")" "$switch_start"

step "The patch is taken out again"
load_mark >/dev/null
run qpatch revert "$id" --pid "$net_switch_pid"
sleep 0.2
say "seen by the packets: $(load_mark)"
show_map_changes maps.before "differences to the process before:"
run qpatch list --pid "$net_switch_pid"
expect "no patch is listed" equal "$(patches_json id)" ''
expect "the code is byte for byte what it was" equal "$(live_code_hash)" "$code_before"
show_bugs 33

step "The account"
kill -TERM "$load_pid"
code=0
wait "$load_pid" || code=$?
tail -n 1 load.out | sed 's/^/   /'
expect "all packets arrived, each once" equal "$code" 0
expect "the process is the same" equal "$(net_start_time "$net_switch_pid")" "$switch_start"
expect "nobody traces it" equal "$(process_status TracerPid)" 0
expect "it is not stopped" test "$(process_status State | tr t T)" != T
printf '\n%sDone in %d s: repaired and reverted under load, %s, 0 of %s packets lost.%s\n' \
  "$green" "$SECONDS" "$pause" "$(sed -n 's/^sent=\([0-9]*\).*/\1/p' load.out)" "$plain"
