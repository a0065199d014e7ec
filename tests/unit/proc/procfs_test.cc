#include "proc/procfs.h"

#include <sys/sysmacros.h>

#include <gtest/gtest.h>

#include "base/error.h"
#include "proc/maps.h"

namespace qp::proc {
namespace {

// Claim: a thread's name can't pose as the fields behind it.
TEST(Stat, HostileNameIsNotParsed) {
  TaskStat stat = parse_stat(
      "17 (a) Z 1 (\n) R 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99 0 0 "
      "18446744073709551615");
  EXPECT_EQ(stat.state, 'R');
  EXPECT_EQ(stat.flags, 4194560u);
  EXPECT_EQ(stat.threads, 3);
  EXPECT_FALSE(stat.kernel_only());
  EXPECT_FALSE(stat.kernel_thread());
}

// Claim: workers that run no user code are known by their flags.
TEST(Stat, KernelWorkers) {
  EXPECT_TRUE(parse_stat("1 (iou-wrk-7) S 1 1 1 0 -1 16 1").kernel_only());
  EXPECT_TRUE(parse_stat("1 (vhost-7) S 1 1 1 0 -1 16384 1").kernel_only());
  EXPECT_TRUE(parse_stat("1 (kthreadd) S 1 1 1 0 -1 2097152 1").kernel_thread());
}

// Claim: garbage where stat should be gives no state, not a crash.
TEST(Stat, Garbage) {
  EXPECT_EQ(parse_stat("").state, '?');
  EXPECT_EQ(parse_stat("1 (x)").state, '?');
  EXPECT_EQ(parse_stat(")))) ").state, '?');
}

// Claim: tracer, seccomp mode and signal sets are read from status.
TEST(Status, Fields) {
  TaskStatus status = parse_status(
      "Name:\tx\\nTracerPid:\t9\nTracerPid:\t42\nSigBlk:\t0000000000010000\n"
      "SigIgn:\t0000000000001000\nSigCgt:\t0000000180004002\nSeccomp:\t2\n");
  EXPECT_EQ(status.tracer, 42);
  EXPECT_EQ(status.seccomp, 2);
  EXPECT_EQ(status.blocked, 0x10000u);
  EXPECT_EQ(status.ignored, 0x1000u);
  EXPECT_EQ(status.caught, 0x180004002u);
}

// Claim: all fields of a line of maps are read.
TEST(Maps, OneLine) {
  auto maps = parse_maps(
      "559d0e628000-559d0e62a000 r-xp 00028000 fe:01 1835213                    /usr/bin/foo\n");
  ASSERT_EQ(maps.size(), 1u);
  const Mapping& m = maps[0];
  EXPECT_EQ(m.range.start, LiveAddr(0x559d0e628000));
  EXPECT_EQ(m.range.end, LiveAddr(0x559d0e62a000));
  EXPECT_TRUE(m.readable && m.executable);
  EXPECT_FALSE(m.writable || m.shared || m.deleted);
  EXPECT_EQ(m.offset, 0x28000u);
  EXPECT_EQ(m.device, makedev(0xfe, 1));
  EXPECT_EQ(m.inode, 1835213u);
  EXPECT_EQ(m.name, "/usr/bin/foo");
}

// Claim: names with spaces stay whole, " (deleted)" is taken off once, and an escaped newline stays
// an escape.
TEST(Maps, Names) {
  auto maps = parse_maps(
      "1000-2000 rw-s 00000000 00:01 7      /dev/a b  c (deleted)\n"
      "2000-3000 rw-p 00000000 00:00 0 \n"
      "3000-4000 r--p 00000000 fe:01 8      /tmp/x (deleted) (deleted)\n"
      "4000-5000 r--p 00000000 fe:01 9      /tmp/x\\0121000-2000 r-xp\n"
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n");
  ASSERT_EQ(maps.size(), 5u);
  EXPECT_EQ(maps[0].name, "/dev/a b  c");
  EXPECT_TRUE(maps[0].deleted);
  EXPECT_TRUE(maps[0].shared);
  EXPECT_EQ(maps[1].name, "");
  EXPECT_EQ(maps[2].name, "/tmp/x (deleted)");
  EXPECT_EQ(maps[3].name, "/tmp/x\\0121000-2000 r-xp");
  EXPECT_EQ(maps[4].range.end.value, 0xffffffffff601000u);
}

// Claim: a line that is none is an Error, not a mapping.
TEST(Maps, Garbage) {
  EXPECT_THROW(parse_maps("hello\n"), Error);
  EXPECT_THROW(parse_maps("1000-2000 r"), Error);
  EXPECT_THROW(parse_maps("1000-2000 r-xp 0 fe:01"), Error);
  EXPECT_TRUE(parse_maps("").empty());
}

// Claim: control characters of a name can't reach the terminal.
TEST(Printable, ControlCharactersAreEscaped) {
  EXPECT_EQ(printable("a\nb\033[2Jc\x7f"), "a\\012b\\033[2Jc\\177");
  EXPECT_EQ(printable("ordinär 7"), "ordinär 7");
}

}  // namespace
}  // namespace qp::proc
