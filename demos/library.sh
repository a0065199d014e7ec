#!/usr/bin/env bash
# A shared library repaired in a running process: nanomsg 4.2.1, out of the npm package of that name,
# built and stripped. A subscriber takes the messages of two publishers; the fix makes its library
# drop those of one, and is taken out again. Ends with 0 if all of it happened, with 77 if the
# package can't be had (no network), with the reason.
#
#   QPATCH, QPATCH_CACHE: as for demo.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
cache=$(realpath -m "${QPATCH_CACHE:-$root/build/demo-cache}")
qpatch_program=$(realpath -m "${QPATCH:-$root/build/release/qpatch}")
url=https://registry.npmjs.org/nanomsg/-/nanomsg-4.2.1.tgz
sha256=21830e35c52724d36392f7105c8441e835404304b0f353b6022937f4473164a2

dir=$cache/nanomsg-${sha256:0:12}
tree=$dir/package/deps/nanomsg
build=$dir/build
library=$build/libnanomsg.so.5.1.0

say() { printf '%s\n' "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }
expect() {
  local what=$1
  shift
  "$@" || fail "expected: $what"
  say "ok $what"
}
qpatch() { "$qpatch_program" "$@"; }

[[ -x $qpatch_program ]] || fail "$qpatch_program does not exist; build it, or set QPATCH"
for tool in cmake curl ninja sha256sum strip; do
  command -v $tool >/dev/null || fail "$tool is missing"
done

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
if [[ ! -e $dir/built ]]; then
  if ! curl -sSf -m 120 -o "$dir/package.tgz" "$url"; then
    say "skipped: $url can't be had"
    exit 77
  fi
  sha256sum -c --quiet <<<"$sha256  $dir/package.tgz" || fail "$url is not what it was"
  tar -xzf "$dir/package.tgz" -C "$dir" --no-same-owner
  cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNN_TESTS=OFF \
    -DNN_ENABLE_DOC=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
    -DCMAKE_SHARED_LINKER_FLAGS=-Wl,--build-id >"$dir/cmake.log" 2>&1 || fail "see $dir/cmake.log"
  ninja -C "$build" >"$dir/ninja.log" 2>&1 || fail "see $dir/ninja.log"
  strip "$library"
  touch "$dir/built"
fi
exec 9>&-

work=$(mktemp -d "${TMPDIR:-/tmp}/qpatch-library.XXXXXX")
pids=()
finish() {
  local code=$?
  trap - EXIT
  # Only children of this shell: their numbers can't be others' before they are waited for.
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 143' TERM INT

export LD_LIBRARY_PATH=$build
"$build/nanocat" --sub --bind "ipc://$work/socket" --ascii >"$work/taken" 2>"$work/errors" &
subscriber=$!
pids+=("$subscriber")
for _ in {1..250}; do [[ ! -S $work/socket ]] || break; sleep 0.02; done
for word in Xavier Yvonne; do
  "$build/nanocat" --pub --connect "ipc://$work/socket" -D $word --interval 0.005 2>/dev/null &
  pids+=($!)
done

# Waits until COUNT more messages of WORD have come, 20 s at most.
count_of() { grep -c "^$1" "$work/taken" || true; }
more_of() {
  local want=$(($(count_of "$1") + $2)) _
  for _ in {1..1000}; do
    [[ $(count_of "$1") -lt $want ]] || return 0
    sleep 0.02
  done
  return 1
}
text_hash() {
  local from to
  IFS='- ' read -r from to _ < <(grep -m 1 ' r-xp .*libnanomsg' "/proc/$subscriber/maps")
  dd if="/proc/$subscriber/mem" bs=64k iflag=skip_bytes,count_bytes,fullblock \
     skip=$((16#$from)) count=$((16#$to - 16#$from)) status=none | sha256sum
}

expect "the library has no symbol table" sh -c "! readelf -SW '$library' | grep -q ' \.symtab '"
expect "messages of both come" more_of Xavier 20
expect "messages of both come" more_of Yvonne 20
text=$(text_hash)

qpatch build --compdb "$build" --patch "$here/library.patch" --target "$library" -o "$work/fix.qp"
qpatch check "$work/fix.qp" --pid "$subscriber"
qpatch apply "$work/fix.qp" --pid "$subscriber"
expect "a message that was on its way has come" more_of Yvonne 5
before=$(count_of Xavier)
expect "messages of one come" more_of Yvonne 50
expect "those of the other do not" test "$(count_of Xavier)" = "$before"
qpatch list --pid "$subscriber"
id=$(qpatch list --pid "$subscriber" --json | python3 -c '
import json, sys
for process in json.load(sys.stdin)["processes"]:
  for patch in process["patches"]:
    print(patch["id"])')

qpatch revert "$id" --pid "$subscriber"
expect "messages of both come" more_of Xavier 20
expect "the code of the library is byte for byte what it was" test "$(text_hash)" = "$text"
expect "the subscriber is the same process" kill -0 "$subscriber"
expect "it complained about nothing" test ! -s "$work/errors"
