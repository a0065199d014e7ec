// Real ELF files, read into values.

#include "elf/file.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "compiled.h"

namespace qp::elf {
namespace {

constexpr const char* kUnit = R"(
#include <string.h>
extern int other(int);
int counter = 7;
static int hidden_counter;
__thread int mine = 3;
int f(int a, void* p) { memcpy(p, &counter, 4); return other(a) + ++hidden_counter; }
static __attribute__((noinline)) int g(int a) { return a * counter; }
int h(int a) { return g(a) + mine; }
int main(void) { return h(1); }
)";

std::vector<std::string> object(const char* compiler) {
  return {compiler,          "-c",   "-O2", "-g",   "-ffunction-sections",
          "-fdata-sections", "{in}", "-o",  "{out}"};
}

std::string trim_line(const std::string& text, const std::string& before) {
  size_t at = text.find(before) + before.size();
  return text.substr(at, text.find('\n', at) - at);
}

class FileOf : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Both, FileOf, testing::Values("gcc", "clang-14"));

// Claim: the functions, variables and calls of an object file of either compiler are found.
TEST_P(FileOf, ObjectIsRead) {
  File file = parse_compiled(kUnit, object(GetParam()));
  EXPECT_EQ(file.type(), FileType::Relocatable);
  const Symbol* f = find_symbol(file.symbols(), "f");
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->type, SymbolType::Func);
  EXPECT_EQ(f->bind, SymbolBind::Global);
  const Section& text = file.sections()[f->section];
  EXPECT_EQ(text.name, ".text.f");
  EXPECT_EQ(text.flags, kAlloc | kExec);
  EXPECT_FALSE(find_symbol(file.symbols(), "other")->defined());
  EXPECT_EQ(find_symbol(file.symbols(), "mine")->type, SymbolType::Tls);
  auto relocations = file.relocations(text);
  bool calls_other = std::any_of(relocations.begin(), relocations.end(), [&](const auto& r) {
    return r.type == RelocType::PLT32 && file.symbols()[r.symbol].name == "other";
  });
  EXPECT_TRUE(calls_other);
  EXPECT_TRUE(std::is_sorted(relocations.begin(), relocations.end(),
                             [](auto& a, auto& b) { return a.offset < b.offset; }));
}

// Claim: the producer of an object with DWARF is found although its strings are relocations.
TEST_P(FileOf, ProducerOfAnObject) {
  File file = parse_compiled(kUnit, object(GetParam()));
  auto producers = file.producers();
  ASSERT_EQ(producers.size(), 1);
  bool gcc = std::string(GetParam()) == "gcc";
  EXPECT_NE(producers[0].find(gcc ? "GNU C17 12" : "clang version 14"), std::string::npos)
      << producers[0];
}

// Claim: without DWARF the producer comes from .comment.
TEST(File, ProducerFromComment) {
  File file = parse_compiled(kUnit, {"gcc", "-c", "{in}", "-o", "{out}"});
  ASSERT_EQ(file.producers().size(), 1);
  EXPECT_TRUE(file.producers()[0].starts_with("GCC: (Debian")) << file.producers()[0];
}

// Claim: the build-id of a program is the one that readelf prints.
TEST(File, BuildIdOfThisProgram) {
  File file = File::open("/proc/self/exe");
  RunResult result = run({"readelf", "-n", std::filesystem::read_symlink("/proc/self/exe")});
  EXPECT_EQ(file.build_id(), trim_line(result.out, "Build ID: "));
}

// Claim: what a program needs, and that it is not static, is read from its dynamic section.
TEST(File, NeededLibraries) {
  File file = File::open("/proc/self/exe");
  auto needed = file.needed();
  EXPECT_NE(std::find(needed.begin(), needed.end(), "libc.so.6"), needed.end());
  EXPECT_FALSE(file.is_static());
  EXPECT_EQ(file.soname(), "");
}

// Claim: libc's symbols have their versions, default and hidden ones, and it has its soname.
TEST(File, VersionsOfLibc) {
  File libc = File::open("/lib/x86_64-linux-gnu/libc.so.6");
  EXPECT_EQ(libc.soname(), "libc.so.6");
  std::vector<std::string> versions;
  for (const Symbol& s : libc.dynamic_symbols()) {
    if (s.name == "memcpy") {
      versions.push_back(s.version + (s.default_version ? " default" : ""));
    }
  }
  std::sort(versions.begin(), versions.end());
  EXPECT_EQ(versions, (std::vector<std::string>{"GLIBC_2.14 default", "GLIBC_2.2.5"}));
}

// Claim: an import's version is known from .dynsym, and from the name in .symtab.
TEST(File, VersionOfAnImport) {
  File file = parse_compiled("#include <stdio.h>\nint main(int c, char** v) { return puts(v[c]); }",
                             {"gcc", "-O1", "{in}", "-o", "{out}"});
  const Symbol* dynamic = find_symbol(file.dynamic_symbols(), "puts");
  ASSERT_NE(dynamic, nullptr);
  EXPECT_EQ(dynamic->version, "GLIBC_2.2.5");
  const Symbol* symtab = find_symbol(file.symbols(), "puts");
  ASSERT_NE(symtab, nullptr);
  EXPECT_EQ(symtab->version, "GLIBC_2.2.5");
}

// Claim: .symver's default and hidden versions of an object are told apart.
TEST(File, SymverInAnObject) {
  File file =
      parse_compiled(".globl old,new\nold: ret\nnew: ret\n.symver old,f@V1\n.symver new,f@@V2\n",
                     {"as", "{in}", "-o", "{out}"}, ".s");
  std::vector<std::string> versions;
  for (const Symbol& s : file.symbols()) {
    if (s.name == "f") {
      versions.push_back(s.version + (s.default_version ? " default" : ""));
    }
  }
  EXPECT_EQ(versions, (std::vector<std::string>{"V1", "V2 default"}));
}

// Claim: a program's dynamic relocations name the functions that it imports.
TEST(File, DynamicRelocations) {
  File file = parse_compiled("#include <stdio.h>\nint main(int c, char** v) { return puts(v[c]); }",
                             {"gcc", "-O1", "-Wl,-z,lazy", "{in}", "-o", "{out}"});
  int slots = 0;
  for (const Relocation& r : file.dynamic_relocations()) {
    if (r.type == RelocType::JumpSlot) {
      ++slots;
      EXPECT_EQ(file.dynamic_symbols()[r.symbol].name, "puts");
    }
  }
  EXPECT_EQ(slots, 1);
}

// Claim: a static program has no dynamic symbols, is known as static, and its IRELATIVE relocations
// are found.
TEST(File, StaticProgram) {
  for (const char* linker : {"-fuse-ld=bfd", "-fuse-ld=gold", "-fuse-ld=lld", "-fuse-ld=mold"}) {
    SCOPED_TRACE(linker);
    File file = parse_compiled("int main(void) { return 0; }",
                               {"gcc", "-static", linker, "{in}", "-o", "{out}"});
    EXPECT_TRUE(file.is_static());
    EXPECT_TRUE(file.dynamic_symbols().empty());
    auto relocations = file.dynamic_relocations();
    ASSERT_FALSE(relocations.empty());
    EXPECT_EQ(relocations[0].type, RelocType::IRelative);
  }
}

// Claim: without section headers a program still has dynamic symbols with versions, and a build-id.
TEST(File, WithoutSectionHeaders) {
  for (const char* style : {"gnu", "sysv"}) {
    Bytes bytes = compile(
        "#include <stdio.h>\nint main(void) { return puts(\"a\"); }"
        "int mine(void) { return 1; }",
        {"gcc", "-rdynamic", std::string("-Wl,--hash-style=") + style, "{in}", "-o", "{out}"});
    File whole = File::parse(bytes, "whole");
    store(ByteSpan(bytes), 40, uint64_t{0});  // e_shoff
    store(ByteSpan(bytes), 60, uint32_t{0});  // e_shnum, e_shstrndx
    File file = File::parse(bytes, "headless");
    EXPECT_TRUE(file.sections().empty());
    EXPECT_EQ(file.dynamic_symbols().size(), whole.dynamic_symbols().size()) << style;
    EXPECT_EQ(find_symbol(file.dynamic_symbols(), "puts")->version, "GLIBC_2.2.5");
    EXPECT_EQ(find_symbol(file.dynamic_symbols(), "mine")->section, kSectionUnknown);
    EXPECT_EQ(file.build_id(), whole.build_id());
  }
}

void expect_debug_file(const std::filesystem::path& debug, const std::filesystem::path& program) {
  File file = File::open(debug);
  EXPECT_EQ(file.build_id(), File::open(program).build_id());
  EXPECT_NE(find_symbol(file.symbols(), "h"), nullptr);
  std::byte byte;
  EXPECT_EQ(FileReader(file).read_some(file.entry(), {&byte, 1}), 1);
  EXPECT_EQ(byte, std::byte{0});  // nothing of the program's content is there
}

std::filesystem::path make_program(const TempDir& dir) {
  auto program = dir.path() / "program";
  qp::write_file(program, compile(kUnit + std::string("int other(int a) { return a; }"),
                                  {"gcc", "-g", "-O1", "{in}", "-o", "{out}"}));
  return program;
}

// Claim: a debug file split off by objcopy has symbols and build-id, although its segments are
// empty.
TEST(File, DebugFileOfObjcopy) {
  TempDir dir("qpatch-elf-test");
  auto program = make_program(dir), debug = dir.path() / "program.debug";
  RunResult result = run({"objcopy", "--only-keep-debug", program.string(), debug.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  expect_debug_file(debug, program);
}

// Claim: so has one whose program headers point behind its end, as eu-strip -f leaves them.
TEST(File, DebugFileWithOldProgramHeaders) {
  TempDir dir("qpatch-elf-test");
  auto program = make_program(dir), debug = dir.path() / "program.debug";
  RunResult result = run({"objcopy", "--only-keep-debug", program.string(), debug.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  Bytes bytes = read_file(debug);
  auto table = load<uint64_t>(bytes, 32);  // e_phoff
  auto count = load<uint16_t>(bytes, 56);  // e_phnum
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t header = table + i * 56;
    store(ByteSpan(bytes), header + 8, uint64_t{1} << 40);                    // p_offset
    store(ByteSpan(bytes), header + 32, load<uint64_t>(bytes, header + 40));  // p_filesz: p_memsz
  }
  qp::write_file(debug, bytes);
  expect_debug_file(debug, program);
}

// Claim: FileReader gives a program's bytes, zeros for .bss, and stops where nothing is mapped.
TEST(FileReader, ReadsSegments) {
  File file = parse_compiled(
      "int data[4] = {1, 2, 3, 4}; int zeros[4000]; int main(void) {"
      "return zeros[data[0]]; }",
      {"gcc", "-no-pie", "{in}", "-o", "{out}"});
  FileReader reader(file);
  Bytes four(4, std::byte{9});
  const Symbol* data = find_symbol(file.symbols(), "data");
  EXPECT_EQ(reader.read_some(LinkAddr(data->value + 4), four), 4);
  EXPECT_EQ(load<uint32_t>(four), 2);
  const Symbol* zeros = find_symbol(file.symbols(), "zeros");
  EXPECT_EQ(reader.read_some(LinkAddr(zeros->value + 15000), four), 4);
  EXPECT_EQ(load<uint32_t>(four), 0);
  LinkAddr end(0);
  for (const Segment& s : file.segments()) {
    end = s.type == SegmentType::Load ? std::max(end, s.address + s.memory_size) : end;
  }
  EXPECT_EQ(reader.read_some(end - 2, four), 2);
  EXPECT_EQ(reader.read_some(LinkAddr(16), four), 0);
}

// Claim: a thread-local variable's offset from the thread pointer is the one that it has when the
// program runs.
TEST(File, TlsOffsets) {
  Bytes bytes = compile(
      "#include <stdio.h>\n__thread int a = 1; __thread char pad[100];"
      "__thread long z __attribute__((aligned(64)));"
      "int main(void) { pad[a] = 1; printf(\"%ld\","
      "(long)((char*)&z - (char*)__builtin_thread_pointer())); return 0; }",
      {"gcc", "-O2", "{in}", "-o", "{out}"});
  File file = File::parse(bytes, "compiled");
  TempDir dir("qpatch-elf-test");
  auto program = dir.path() / "program";
  qp::write_file(program, bytes, 0755);
  const Symbol* z = find_symbol(file.symbols(), "z");
  ASSERT_NE(z, nullptr);
  EXPECT_EQ(std::to_string(static_cast<int64_t>(z->value) + *file.tls_block_end()),
            run({program.string()}).out);
}

// Claim: a COMDAT group has its signature and all its members.
TEST(File, ComdatGroups) {
  File file = parse_compiled(
      "inline int twice(int a) { static int n; return n += 2 * a; }"
      "int f(int a) { return twice(a); }",
      {"g++", "-c", "-O0", "{in}", "-o", "{out}"}, ".cc");
  auto groups = file.groups();
  auto it = std::find_if(groups.begin(), groups.end(),
                         [](auto& g) { return g.signature == "_Z5twicei"; });
  ASSERT_NE(it, groups.end());
  ASSERT_FALSE(it->members.empty());
  EXPECT_EQ(file.sections()[it->members[0]].name, ".text._Z5twicei");
}

// Claim: with more than 65,279 sections, symbols are still in the right one.
TEST(File, ManySections) {
  std::string source;
  for (int i = 0; i < 66000; ++i) {
    source += ".section .text.f" + std::to_string(i) + ",\"ax\"\n.globl f" + std::to_string(i) +
              "\nf" + std::to_string(i) + ": ret\n";
  }
  File file = parse_compiled(source, {"as", "{in}", "-o", "{out}"}, ".s");
  for (const char* name : {"f7", "f65290", "f65520", "f65999"}) {
    const Symbol* f = find_symbol(file.symbols(), name);
    ASSERT_NE(f, nullptr);
    EXPECT_EQ(file.sections()[f->section].name, std::string(".text.") + name);
  }
}

// Claim: a symbol of an archive member or a script is refused with a reason, not misread.
TEST(File, NotAnElfFile) {
  try {
    File::parse(copy(as_bytes("#!/bin/sh\necho this is a script that is longer than a header, "
                              "so that only the magic can tell\n")),
                "script");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "bad-file");
    EXPECT_NE(std::string(e.what()).find("not an ELF file"), std::string::npos);
  }
}

}  // namespace
}  // namespace qp::elf
