// Images as readelf, objdump and gdb see them.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/subprocess.h"
#include "link/image.h"
#include "object_patch.h"

namespace qp::link {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kSource = R"(
extern "C" {
extern int target_counter;
int target_helper(int);
int puts(const char*);
extern char** environ;
static const char* const names[] = {"zero", "one", "two"};
int own_counter = 40;
int own_zeros[3000];
const char* patched(int n) {
  own_counter += target_helper(n) + (environ != nullptr);
  own_zeros[n & 7] = ++target_counter;
  puts(names[n & 1]);
  return names[n % 3];
}
}
)";

class Tools : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    auto object = compile(directory_, "g++", kSource, {"-fPIC"});
    auto patch = patch_from(object, true, [](const std::string& name) {
      elf::Binding b;
      bool target = name.starts_with("target_");
      b.kind = target ? elf::BindingKind::Address : elf::BindingKind::Import;
      b.address = LinkAddr(target ? 0x1230 : 0);
      return b;
    });
    Report report;
    image_ = link_image(patch, LinkAddr(GetParam()), 4000, report);
    report.checkpoint();
    path_ = (directory_.path() / "image").string();
    write_file(path_, image_.file);
  }

  TempDir directory_{"qpatch-tools"};
  Image image_;
  std::string path_;
};

// Claim: readelf reads everything without a warning, and sees three segments and the build-id.
TEST_P(Tools, Readelf) {
  RunResult r = run({"readelf", "-aW", path_});
  EXPECT_EQ(r.exit_code, 0);
  EXPECT_EQ(r.err, "");
  EXPECT_THAT(r.out, Not(HasSubstr("arning")));
  EXPECT_THAT(r.out, HasSubstr("Build ID: " + image_.build_id));
  EXPECT_THAT(r.out, HasSubstr("patched"));
  EXPECT_THAT(r.out, HasSubstr("GNU_EH_FRAME"));
  EXPECT_THAT(r.out, Not(HasSubstr("RWE")));
}

// Claim: readelf finds the unwind entries and the search table agrees with them.
TEST_P(Tools, ReadelfFrames) {
  RunResult r = run({"readelf", "--debug-dump=frames-interp", path_});
  EXPECT_EQ(r.err, "");
  EXPECT_THAT(r.out, HasSubstr("FDE"));
}

// Claim: objdump disassembles the new function under its name, with calls that lead to the target.
TEST_P(Tools, Objdump) {
  RunResult r = run({"objdump", "-d", path_});
  EXPECT_EQ(r.exit_code, 0);
  EXPECT_EQ(r.err, "");
  EXPECT_THAT(r.out, HasSubstr("<patched>:"));
  EXPECT_THAT(r.out, HasSubstr("<puts.veneer>"));
  EXPECT_THAT(r.out, HasSubstr("call   1230"));
}

// Claim: gdb takes the file at the target's load bias without a warning and knows the new function.
TEST_P(Tools, Gdb) {
  constexpr uint64_t kBias = 0x555555554000;
  RunResult r = run({"gdb", "-nx", "-batch", "-ex", "set architecture i386:x86-64", "-ex",
                     fmt::format("add-symbol-file {} -o {:#x}", path_, kBias), "-ex",
                     "info symbol patched", "-ex", "info address patched"});
  EXPECT_EQ(r.exit_code, 0);
  EXPECT_EQ(r.err, "");
  EXPECT_THAT(r.out, HasSubstr("patched in section .text"));
  uint64_t text = GetParam() + kPageSize + kBias;
  EXPECT_THAT(r.out, HasSubstr(fmt::format("\"patched\" is at {:#x}", text)));
}

INSTANTIATE_TEST_SUITE_P(AboveAndBelow, Tools,
                         testing::Values(uint64_t{0x1000000}, uint64_t{0xffffffffff000000}),
                         [](const auto& instance) {
                           return std::string(instance.param >> 63 != 0 ? "Below" : "Above");
                         });

}  // namespace
}  // namespace qp::link
