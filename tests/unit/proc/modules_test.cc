#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "proc/process.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::until;
using test::Victim;

std::map<std::string, uint64_t> loaded_modules() {
  std::map<std::string, uint64_t> out;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* to) {
        (*static_cast<std::map<std::string, uint64_t>*>(to))[info->dlpi_name] = info->dlpi_addr;
        return 0;
      },
      &out);
  return out;
}

const Module* find(const std::vector<Module>& modules, std::string_view part) {
  auto it = std::find_if(modules.begin(), modules.end(),
                         [&](const Module& m) { return m.path.find(part) != std::string::npos; });
  return it == modules.end() ? nullptr : &*it;
}

// Claim: every module that ld.so knows is found, with the bias that ld.so gave it, its file and the
// build-id of both; the executable is the first.
TEST(Modules, AreThoseOfTheDynamicLinker) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  std::vector<Module> modules = process.modules();
  std::map<std::string, uint64_t> loaded = loaded_modules();  // the victim is our image
  ASSERT_FALSE(modules.empty());
  EXPECT_EQ(modules[0].path, std::filesystem::read_symlink("/proc/self/exe").string());
  EXPECT_EQ(modules[0].bias.value, loaded[""]);
  EXPECT_EQ(modules.size(), loaded.size());
  for (const auto& [name, bias] : loaded) {
    if (name.empty() || name.find("vdso") != std::string::npos) {
      continue;
    }
    const Module* m = find(modules, std::filesystem::canonical(name).string());
    ASSERT_NE(m, nullptr) << name;
    EXPECT_EQ(m->bias.value, bias) << name;
    ASSERT_NE(m->file, nullptr) << name;
    EXPECT_EQ(m->build_id, m->file->build_id().value_or("")) << name;
    EXPECT_FALSE(m->executable.empty()) << name;
  }
}

// Claim: a module's range covers its .bss, and its code addresses map back to its file.
TEST(Modules, RangeCoversCodeAndBss) {
  static char in_bss[1 << 20];
  Victim victim(test::just_sleep);
  Module exe = Process::open(victim.pid()).modules().at(0);
  EXPECT_TRUE(exe.range.contains(LiveAddr(reinterpret_cast<uint64_t>(&in_bss[sizeof in_bss - 1]))));
  LiveAddr code(reinterpret_cast<uint64_t>(&test::just_sleep));
  EXPECT_TRUE(exe.range.contains(code));
  EXPECT_TRUE(std::any_of(exe.executable.begin(), exe.executable.end(),
                          [&](LiveRange r) { return r.contains(code); }));
  const elf::Section* section = exe.file->find_section_at(exe.bias(code));
  ASSERT_NE(section, nullptr);
  EXPECT_EQ(section->name, ".text");
}

// Claim: the vdso is a module whose file is its memory.
TEST(Modules, VdsoIsParsedFromMemory) {
  Victim victim(test::just_sleep);
  std::vector<Module> modules = Process::open(victim.pid()).modules();
  const Module* vdso = find(modules, "[vdso]");
  ASSERT_NE(vdso, nullptr);
  ASSERT_NE(vdso->file, nullptr);
  EXPECT_TRUE(std::any_of(vdso->file->dynamic_symbols().begin(),
                          vdso->file->dynamic_symbols().end(),
                          [](const elf::Symbol& s) { return s.name == "__vdso_clock_gettime"; }));
}

// Claim: when the program's file was replaced on disk, the module's file is still the one that
// runs.
TEST(Modules, ReplacedFileIsStillTheMappedOne) {
  TempDir directory("proc_modules");
  std::filesystem::path path = directory.path() / "program with (deleted)";
  std::filesystem::copy_file("/bin/sleep", path);
  Victim victim([&](const auto& ready) {
    ready();
    ::execl(path.c_str(), "sleep", "60", nullptr);
  });
  until(
      [&] {
        return test::sleeps(victim.pid(), victim.pid()) &&
               Process::open(victim.pid()).program() == "program with (deleted)";
      },
      "the program runs");
  std::filesystem::remove(path);
  std::ofstream(path) << "something else";
  Process process = Process::open(victim.pid());
  Module exe = process.modules().at(0);
  ASSERT_NE(exe.file, nullptr);
  EXPECT_EQ(exe.path, path.string());
  EXPECT_EQ(exe.file->build_id(), elf::File::open("/bin/sleep").build_id());
  EXPECT_EQ(exe.build_id, exe.file->build_id().value_or("?"));
}

// Claim: likewise of a library that was loaded later.
TEST(Modules, ReplacedLibraryIsStillTheMappedOne) {
  TempDir directory("proc_modules");
  std::filesystem::path path = directory.path() / "libreplaced.so";
  const std::vector<Module> ours = Process::open(::getpid()).modules();
  std::filesystem::copy_file(find(ours, "libm.so")->path, path);
  Victim victim([&](const auto& ready) {
    if (::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr) {
      test::just_sleep(ready);
    }
  });
  std::filesystem::remove(path);
  std::ofstream(path) << "something else";
  const std::vector<Module> modules = Process::open(victim.pid()).modules();
  const Module* library = find(modules, "libreplaced.so");
  ASSERT_NE(library, nullptr);
  ASSERT_NE(library->file, nullptr);
  EXPECT_FALSE(library->build_id.empty());
  EXPECT_EQ(library->build_id, find(ours, "libm.so")->build_id);
  EXPECT_NE(library->bias, find(modules, "libm.so")->bias);
}

// Claim: files that are mapped as data are no modules, however they are mapped.
TEST(Modules, DataFilesAreNone) {
  TempDir directory("proc_modules");
  std::filesystem::path path = directory.path() / "data";
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(::ftruncate(fd, off_t{1} << 33), 0);
  void* data = ::mmap(nullptr, size_t{1} << 33, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  ASSERT_NE(data, MAP_FAILED);
  int libc = ::open(find(Process::open(::getpid()).modules(), "libc.so")->path.c_str(),
                    O_RDONLY | O_CLOEXEC);
  void* view = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_PRIVATE, libc, 0);
  ASSERT_NE(view, MAP_FAILED);
  {
    Victim victim(test::just_sleep);
    std::vector<Module> modules = Process::open(victim.pid()).modules();
    EXPECT_EQ(find(modules, "data"), nullptr);
    EXPECT_EQ(
        std::count_if(modules.begin(), modules.end(),
                      [](const Module& m) { return m.path.find("libc.so") != std::string::npos; }),
        1);
    EXPECT_EQ(modules.size(), loaded_modules().size());
  }
  ::munmap(data, size_t{1} << 33);
  ::munmap(view, 1 << 20);
  ::close(fd);
  ::close(libc);
}

// Claim: a module is found by its build-id alone; an id that nobody has finds nothing.
TEST(Modules, FindByBuildId) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  const std::vector<Module> modules = process.modules();
  const Module* libc = find(modules, "libc.so");
  ASSERT_NE(libc, nullptr);
  ASSERT_FALSE(libc->build_id.empty());
  auto found = find_module_by_build_id(process, libc->build_id);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->bias, libc->bias);
  EXPECT_EQ(found->range, libc->range);
  EXPECT_EQ(found->file, libc->file) << "the parsed file is shared";
  EXPECT_FALSE(find_module_by_build_id(process, "0123456789abcdef"));
  EXPECT_FALSE(find_module_by_build_id(process, ""));
}

}  // namespace
}  // namespace qp::proc
