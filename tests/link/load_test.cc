// Images at work: compiled objects are linked for this process, mapped and called.

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include "elf/cfi.h"
#include "link/image.h"
#include "link/placement.h"
#include "object_patch.h"

// The target: what the new code refers to.
extern "C" {
int target_counter = 100;
[[gnu::noinline]] int target_helper(int n) {
  return n * 2;
}
[[gnu::noinline]] void target_throws(int n) {
  if (n > 0) {
    throw std::runtime_error("from the target");
  }
}
// libgcc: makes the unwinder of this process know tables that ld.so did not load.
void __register_frame(void*);
void __deregister_frame(void*);
}

namespace qp::link {
namespace {

std::vector<LiveRange> own_mappings() {
  std::vector<LiveRange> out;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uint64_t start = 0, end = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64, &start, &end) == 2 && end >> 47 == 0) {
      out.push_back({LiveAddr(start), LiveAddr(end)});
    }
  }
  return out;
}

// Maps an image into this process, as `apply` does it in another one.
class Loaded {
 public:
  Loaded(const format::Patch& patch, LinkRange target, LoadBias bias) : bias_(bias) {
    PlacementRequest request;
    request.target = target;
    request.size = image_size(patch, 256);
    request.bias = bias;
    request.low_2g = needs_low_2g(patch);
    request.occupied = own_mappings();
    auto place = choose_place(request);
    if (!place) {
      throw std::runtime_error("no room");
    }
    Report report;
    image_ = link_image(patch, *place, 256, report);
    report.checkpoint();
    file_ = std::make_shared<elf::File>(elf::File::parse(image_.file, "image"));
    for (const ImageSegment& s : image_.segments) {
      auto* at = reinterpret_cast<std::byte*>(bias(s.address).value);
      void* got = mmap(at, s.memory_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (got != at) {
        throw std::runtime_error("mmap");
      }
      std::copy_n(image_.file.begin() + static_cast<ptrdiff_t>(s.offset.value), s.file_size, at);
    }
    for (const Fill& fill : image_.fills) {
      uint64_t value = bias(fill.address).value;
      if (fill.kind == Fill::Kind::Import) {
        const std::string& name = patch.fresh.symbols[fill.import].name;
        void* import = dlsym(RTLD_DEFAULT, name.c_str());
        if (import == nullptr) {
          throw std::runtime_error("no " + name);
        }
        value = reinterpret_cast<uint64_t>(import) + static_cast<uint64_t>(fill.addend);
      }
      std::memcpy(reinterpret_cast<void*>(bias(fill.at).value), &value, 8);
    }
    for (const ImageSegment& s : image_.segments) {
      int protection = ((s.flags & elf::kSegR) != 0 ? PROT_READ : 0) |
                       ((s.flags & elf::kSegW) != 0 ? PROT_WRITE : 0) |
                       ((s.flags & elf::kSegX) != 0 ? PROT_EXEC : 0);
      if (mprotect(reinterpret_cast<void*>(bias(s.address).value), s.memory_size, protection) !=
          0) {
        throw std::runtime_error("mprotect");
      }
    }
    __register_frame(eh_frame());
  }
  ~Loaded() {
    __deregister_frame(eh_frame());
    munmap(reinterpret_cast<void*>(bias_(image_.range.start).value), image_.range.size());
  }
  Loaded(const Loaded&) = delete;
  Loaded& operator=(const Loaded&) = delete;

  template <class F>
  F* function(std::string_view name) const {
    for (const elf::Symbol& s : file_->symbols()) {
      if (s.name == name) {
        return reinterpret_cast<F*>(bias_(LinkAddr(s.value)).value);
      }
    }
    throw std::runtime_error("no symbol " + std::string(name));
  }
  LinkAddr place() const { return image_.range.start; }

 private:
  void* eh_frame() const {
    return reinterpret_cast<void*>(bias_(file_->find_section(".eh_frame")->address).value);
  }

  LoadBias bias_;
  Image image_;
  std::shared_ptr<elf::File> file_;
};

// The module that holds target_helper: this test.
std::pair<LinkRange, LoadBias> own_module() {
  std::pair<LinkRange, LoadBias> out;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& [range, bias] = *static_cast<std::pair<LinkRange, LoadBias>*>(data);
        bias = LoadBias{info->dlpi_addr};
        range = {LinkAddr(~uint64_t{0}), LinkAddr(0)};
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& p = info->dlpi_phdr[i];
          if (p.p_type == PT_LOAD) {
            range.start = std::min(range.start, LinkAddr(p.p_vaddr));
            range.end = std::max(range.end, LinkAddr(p.p_vaddr + p.p_memsz));
          }
        }
        return 1;  // the first is the executable
      },
      &out);
  return out;
}

elf::Binding bind_here(const std::string& name) {
  static const std::map<std::string, void*> target = {
      {"target_counter", &target_counter},
      {"target_helper", reinterpret_cast<void*>(&target_helper)},
      {"target_throws", reinterpret_cast<void*>(&target_throws)}};
  elf::Binding b;
  auto it = target.find(name);
  b.kind = it == target.end() ? elf::BindingKind::Import : elf::BindingKind::Address;
  if (it != target.end()) {
    b.address = own_module().second(LiveAddr(reinterpret_cast<uint64_t>(it->second)));
  }
  return b;
}

constexpr const char* kSource = R"(
#include <stdexcept>
#include <stdlib.h>
#include <stdio.h>
extern "C" {
extern int target_counter;
int target_helper(int);
void target_throws(int);

int own_counter = 40;
static int zeros[3000];
static const char* const names[] = {"zero", "one", "two"};
static int (*const table[])(int) = {target_helper, abs};

const char* name_of(int n) { return names[n]; }
int counts() { return ++own_counter + ++zeros[2999] + ++target_counter; }
int imports(const char* text) { return atoi(text) + (stderr != nullptr) + table[1](-3); }
int through_table(int i, int n) { return table[i](n); }
int calls_target(int n) { return target_helper(n) + 1; }
double scaled(double x) { return x * 2.5 + 0.125; }
int chooses(int n) {
  switch (n) {
    case 0: return 17; case 1: return target_helper(4); case 2: return 99; case 3: return abs(n);
    case 4: return 1234; case 5: return own_counter; case 6: return target_counter; default: return -1;
  }
}
struct Guard { int* done; ~Guard() { ++*done; } };
int catches(int n) {
  int done = 0;
  try { Guard g{&done}; target_throws(n); }
  catch (const std::runtime_error& e) { return 10 + done; }
  return done;
}
void passes_through(int n, int* done) { Guard g{done}; target_throws(n); }
}
)";

struct Compiler {
  std::string name, program;
  std::vector<std::string> flags;
};

class LoadTest : public testing::TestWithParam<Compiler> {
 protected:
  void SetUp() override {
    auto object = compile(directory_, GetParam().program, kSource, GetParam().flags);
    auto [target, bias] = own_module();
    loaded_ = std::make_unique<Loaded>(patch_from(object, true, bind_here), target, bias);
  }
  TempDir directory_{"qpatch-load"};
  std::unique_ptr<Loaded> loaded_;
};

// Claim: new data and zeros are the image's own, the target's variables are the target's.
TEST_P(LoadTest, Variables) {
  target_counter = 100;
  auto* counts = loaded_->function<int()>("counts");
  EXPECT_EQ(counts(), 41 + 1 + 101);
  EXPECT_EQ(counts(), 42 + 2 + 102);
  EXPECT_EQ(target_counter, 102);
}

// Claim: pointers in constant data lead to the image's strings.
TEST_P(LoadTest, PointersInConstantData) {
  EXPECT_STREQ(loaded_->function<const char*(int)>("name_of")(2), "two");
}

// Claim: calls and data of other modules are reached, whether the target used them or not.
TEST_P(LoadTest, Imports) {
  EXPECT_EQ(loaded_->function<int(const char*)>("imports")("42"), 46);
}

// Claim: functions of the target are called directly, and through tables of pointers.
TEST_P(LoadTest, CallsOfTheTarget) {
  EXPECT_EQ(loaded_->function<int(int)>("calls_target")(20), 41);
  EXPECT_EQ(loaded_->function<int(int, int)>("through_table")(0, 4), 8);
  EXPECT_EQ(loaded_->function<int(int, int)>("through_table")(1, -9), 9);
}

// Claim: constants and jump tables work.
TEST_P(LoadTest, ConstantsAndJumpTables) {
  EXPECT_EQ(loaded_->function<double(double)>("scaled")(4), 10.125);
  auto* chooses = loaded_->function<int(int)>("chooses");
  EXPECT_EQ(chooses(0), 17);
  EXPECT_EQ(chooses(1), 8);
  EXPECT_EQ(chooses(3), 3);
  EXPECT_EQ(chooses(4), 1234);
  EXPECT_EQ(chooses(7), -1);
}

// Claim: an exception of the target is caught by new code, and destructors run.
TEST_P(LoadTest, CatchesExceptions) {
  auto* catches = loaded_->function<int(int)>("catches");
  EXPECT_EQ(catches(0), 1);
  EXPECT_EQ(catches(1), 11);
}

// Claim: an exception passes through new code to an old caller, and destructors run.
TEST_P(LoadTest, ExceptionsPassThrough) {
  int done = 0;
  EXPECT_THROW(loaded_->function<void(int, int*)>("passes_through")(1, &done), std::runtime_error);
  EXPECT_EQ(done, 1);
}

// Claim: the image lies below the program, at a distance that does not depend on the load bias.
TEST_P(LoadTest, PlaceBelowTheProgram) {
  EXPECT_LT(static_cast<int64_t>(loaded_->place().value), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Compilers, LoadTest,
    testing::Values(Compiler{"GccPic", "g++", {"-fPIC"}},
                    Compiler{"GccPie", "g++", {"-fPIE", "-mno-direct-extern-access"}},
                    Compiler{
                        "GccPieNoPlt", "g++", {"-fPIE", "-mno-direct-extern-access", "-fno-plt"}},
                    Compiler{"GccCet", "g++", {"-fPIC", "-fcf-protection=full"}},
                    Compiler{"ClangPie", "clang++-14", {"-fPIE"}},
                    Compiler{"ClangPic", "clang++-14", {"-fPIC"}}),
    [](const auto& instance) { return instance.param.name; });

// Claim: GCC's direct access to data of another module in a PIE, for which a static linker would
// have made a copy relocation, is refused with the remedy.
TEST(LoadPie, DirectAccessToImportedDataIsRefused) {
  TempDir directory("qpatch-load");
  auto object = compile(directory, "g++",
                        "#include <stdio.h>\nFILE* unused_before() { return stderr; }", {"-fPIE"});
  Report report;
  link_image(patch_from(object, true, bind_here), LinkAddr(0x1000000), 0, report);
  ASSERT_EQ(report.refusals().size(), 1U);
  EXPECT_EQ(report.refusals()[0].id, "reloc-unsupported");
  EXPECT_THAT(report.refusals()[0].detail, testing::HasSubstr("stderr"));
}

// Claim: code for a fixed address (32-bit absolute references, absolute jump tables) works in the
// low 2 GiB.
TEST(LoadNonPie, AbsoluteReferences) {
  TempDir directory("qpatch-load");
  auto object = compile(directory, "g++", R"(
extern "C" {
int own_table[100];
int* address_of(int i) { return own_table + i; }
int chooses(int n) {
  switch (n) {
    case 0: return own_table[n]++; case 1: own_table[5] = 3; return 8; case 2: return 99;
    case 3: return own_table[5]; case 4: own_table[6]++; return 1; case 5: return own_table[6] * 2;
  }
  return -1;
}
}
)",
                        {"-fno-pie"});
  auto patch = patch_from(object, false, bind_here);
  ASSERT_TRUE(needs_low_2g(patch));
  Loaded loaded(patch, {LinkAddr(0x400000), LinkAddr(0x500000)}, LoadBias{0});
  auto* chooses = loaded.function<int(int)>("chooses");
  EXPECT_EQ(chooses(0), 0);
  EXPECT_EQ(chooses(0), 1);
  EXPECT_EQ(chooses(1), 8);
  EXPECT_EQ(chooses(3), 3);
  EXPECT_EQ(chooses(6), -1);
  int* third = loaded.function<int*(int)>("address_of")(3);
  EXPECT_EQ(third, loaded.function<int>("own_table") + 3);
  EXPECT_LT(reinterpret_cast<uint64_t>(third), uint64_t{1} << 31);
}

// Claim: the same code in a position-independent target is refused, every reference by name.
TEST(LoadNonPie, RefusedInAPie) {
  TempDir directory("qpatch-load");
  auto object =
      compile(directory, "g++",
              "int own_table[9]; int* address_of(int i) { return own_table + i; }", {"-fno-pie"});
  Report report;
  link_image(patch_from(object, true, bind_here), LinkAddr(0x1000000), 0, report);
  ASSERT_FALSE(report.clean());
  EXPECT_EQ(report.refusals()[0].id, "reloc-unsupported");
  EXPECT_THAT(report.refusals()[0].detail, testing::HasSubstr("own_table"));
}

}  // namespace
}  // namespace qp::link
