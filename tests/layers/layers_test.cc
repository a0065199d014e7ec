// The module table of the design, checked against the sources.
//
// The table says which module may use which; it is what keeps the pure part (bytes in, values out)
// testable without a process, and the knowledge of ELF, of instructions and of ptrace in one place
// each. Such rules rot silently: one #include in a hurry, and a year later everything uses
// everything. So the table is repeated here, and compared with three things that could drift apart:
// the #include lines, the DEPS of the CMake modules, and the places where the "only user of"
// headers occur.
//
// A rule that is too strict is changed here and in the design, in one commit, with the reason.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace qp {
namespace {
namespace fs = std::filesystem;
using Names = std::set<std::string>;

// Besides base, which everybody may use. The transaction (apply) and the builder name types of elf
// that the interfaces of proc, format and match hand to them.
const std::map<std::string, Names>& allowed() {
  static const std::map<std::string, Names> table = {
      {"base", {}},
      {"elf", {}},
      {"insn", {}},
      {"format", {"elf"}},
      {"objdiff", {"elf", "insn"}},
      {"match", {"elf", "insn"}},
      {"link", {"elf", "insn", "format"}},
      {"unwind", {"elf", "insn"}},
      // `insn` is another one.
      {"proc", {"elf", "insn"}},
      {"apply", {"proc", "match", "link", "format", "unwind", "insn", "elf"}},
      // `link` is an addition to the design's table, see docs/overview.md.
      {"build", {"elf", "objdiff", "match", "format", "link"}},
      {"ops", {"apply", "format"}},
      {"cli",
       {"elf", "insn", "format", "objdiff", "match", "link", "unwind", "proc", "apply", "build",
        "ops"}},
  };
  return table;
}

// Headers (by prefix) that only one module may include.
const std::vector<std::pair<std::string, std::string>>& only_users() {
  static const std::vector<std::pair<std::string, std::string>> rules = {
      {"elf.h", "elf"},           {"libelf.h", "elf"},
      {"gelf.h", "elf"},          {"dwarf.h", "elf"},
      {"elfutils/", "elf"},       {"libdw", "elf"},
      {"lzma.h", "elf"},          {"Zydis", "insn"},
      {"Zycore", "insn"},         {"sys/ptrace.h", "proc"},
      {"linux/ptrace.h", "proc"}, {"sys/user.h", "proc"},
      {"sys/uio.h", "proc"},      {"CLI/", "cli"},
  };
  return rules;
}

std::string read(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string without_comments(const std::string& text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!in_string && text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size()) - 1;
      continue;
    }
    if (!in_string && text.compare(i, 2, "/*") == 0) {
      i = std::min(text.find("*/", i), text.size() - 2) + 1;
      continue;
    }
    // Quotes in character constants and raw strings do not occur in #include or /proc lines; an
    // apostrophe between digits is no quote at all.
    if (text[i] == '"' && (i == 0 || text[i - 1] != '\\')) {
      in_string = !in_string;
    }
    if (text[i] == '\n') {
      in_string = false;
    }
    out += text[i];
  }
  return out;
}

struct Source {
  fs::path file;
  std::string module;
  std::string text;                  // without comments
  std::vector<std::string> own;      // "elf/file.h"
  std::vector<std::string> foreign;  // <...>
};

const std::vector<Source>& sources() {
  static const std::vector<Source> all = [] {
    std::vector<Source> found;
    static const std::regex include(R"(#\s*include\s*(["<])([^">]+)[">])");
    const fs::path root = fs::path(QP_ROOT) / "src";
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      const std::string kind = entry.path().extension();
      if (kind != ".h" && kind != ".cc") {
        continue;
      }
      Source s;
      s.file = fs::relative(entry.path(), QP_ROOT);
      s.module = *std::next(s.file.begin());
      s.text = without_comments(read(entry.path()));
      for (std::sregex_iterator i(s.text.begin(), s.text.end(), include), end; i != end; ++i) {
        ((*i)[1] == "\"" ? s.own : s.foreign).push_back((*i)[2]);
      }
      found.push_back(std::move(s));
    }
    std::sort(found.begin(), found.end(),
              [](const Source& a, const Source& b) { return a.file < b.file; });
    return found;
  }();
  return all;
}

bool may_use(const std::string& from, const std::string& to) {
  return to == from || to == "base" || allowed().at(from).count(to) != 0;
}

// DEPS of `qp_module(name …)` in a module's CMakeLists.txt.
Names declared_dependencies(const std::string& module) {
  const std::string text = read(fs::path(QP_ROOT) / "src" / module / "CMakeLists.txt");
  std::smatch match;
  static const std::regex call(R"(qp_module\s*\(\s*(\w+)([^)]*)\))");
  Names names;
  if (std::regex_search(text, match, call)) {
    EXPECT_EQ(match[1], module) << "src/" << module << "/CMakeLists.txt";
    std::istringstream words(match[2]);
    bool in_deps = false;
    for (std::string word; words >> word;) {
      if (word == "SOURCES" || word == "LIBRARIES" || word == "DEPS") {
        in_deps = word == "DEPS";
      } else if (in_deps) {
        names.insert(word);
      }
    }
  } else {
    ADD_FAILURE() << "no qp_module in src/" << module << "/CMakeLists.txt";
  }
  return names;
}

Names modules() {
  Names names;
  for (const Source& s : sources()) {
    names.insert(s.module);
  }
  return names;
}

// Claim: there are sources, and each folder of src/ is a module of the table.
TEST(Layers, every_folder_is_a_module) {
  EXPECT_GT(sources().size(), 20U);
  for (const std::string& module : modules()) {
    EXPECT_TRUE(allowed().count(module) != 0) << "src/" << module;
  }
}

// Claim: every #include of our own headers follows an arrow of the table and names its module.
TEST(Layers, includes_follow_the_arrows) {
  for (const Source& s : sources()) {
    for (const std::string& header : s.own) {
      EXPECT_TRUE(fs::exists(fs::path(QP_ROOT) / "src" / header))
          << s.file << " includes \"" << header << "\", which is not below src/";
      const std::string module = *fs::path(header).begin();
      EXPECT_TRUE(may_use(s.module, module)) << s.file << " includes " << header;
    }
  }
}

// Claim: DEPS of each module are arrows of the table, and name every module that is included.
TEST(Layers, cmake_agrees) {
  for (const std::string& module : modules()) {
    const Names declared = declared_dependencies(module);
    for (const std::string& dependency : declared) {
      EXPECT_TRUE(may_use(module, dependency)) << module << " DEPS " << dependency;
    }
    for (const Source& s : sources()) {
      for (const std::string& header : s.own) {
        const std::string used = *fs::path(header).begin();
        EXPECT_TRUE(s.module != module || used == module || declared.count(used) != 0)
            << s.file << " includes " << header << ", but DEPS of " << module << " lack " << used;
      }
    }
  }
}

// Claim: the table has no cycle.
TEST(Layers, arrows_go_one_way) {
  // Remove modules that use nothing that is left, until none is left or none can be removed.
  std::map<std::string, Names> rest = allowed();
  for (bool removed = true; removed && !rest.empty();) {
    removed = false;
    for (auto it = rest.begin(); it != rest.end();) {
      const bool free = std::none_of(it->second.begin(), it->second.end(),
                                     [&](const std::string& m) { return rest.count(m) != 0; });
      removed = removed || free;
      it = free ? rest.erase(it) : std::next(it);
    }
  }
  EXPECT_TRUE(rest.empty()) << rest.begin()->first << " is in a cycle";
}

// Claim: libelf, libdw and <elf.h> are used by elf alone, Zydis by insn, ptrace by proc.
TEST(Layers, foreign_headers_stay_in_their_module) {
  for (const Source& s : sources()) {
    for (const std::string& header : s.foreign) {
      for (const auto& [prefix, owner] : only_users()) {
        EXPECT_TRUE(!header.starts_with(prefix) || s.module == owner)
            << s.file << " includes <" << header << ">; only " << owner << " may";
      }
    }
  }
}

// Claim: only proc looks into /proc of other processes. /proc/self and /proc/sys say nothing about
// the process that is patched.
TEST(Layers, proc_alone_reads_proc) {
  static const std::regex path(R"(/proc/(?!self|sys/)[^"]*)");
  for (const Source& s : sources()) {
    std::smatch match;
    if (s.module != "proc" && std::regex_search(s.text, match, path)) {
      ADD_FAILURE() << s.file << " mentions " << match[0];
    }
  }
}

// Not a claim but a look: STYLE's soft limits, 200 lines a header, 500 a source.
TEST(Layers, long_files_are_listed) {
  for (const Source& s : sources()) {
    const std::string text = read(fs::path(QP_ROOT) / s.file);
    const auto lines = std::count(text.begin(), text.end(), '\n');
    const long limit = s.file.extension() == ".h" ? 200 : 500;
    if (lines > limit) {
      std::cout << "long: " << s.file.string() << " has " << lines << " lines (limit " << limit
                << ")\n";
    }
  }
}

}  // namespace
}  // namespace qp
