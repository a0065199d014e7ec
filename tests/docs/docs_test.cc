// The documents, tested: their commands run, their links lead somewhere, and the page of refusals
// is the table in the code.
//
// A block of commands is run if the line above it says so:
//
//     <!-- test -->
//     ```sh
//     qpatch check fix.qp --pid $PID
//     ```
//
// All marked blocks of one document run in order, in one shell with `set -e`, in a directory as a
// developer has it: src/ and build/ (with compile_commands.json) of a small program, build/victim
// that is linked and runs as process $PID, fix.patch beside them, and qpatch in PATH. So a document
// can tell the whole story, from build to revert, and the victim must be as before at its end.
//
// Lines of a block that begin with "$ " are a transcript: these are run, without the "$ ", and the
// others are output.

#include <algorithm>
#include <fstream>
#include <iostream>
#include <regex>
#include <set>
#include <sstream>

#include "base/report.h"
#include "harness/live_case.h"

namespace qp::live {
namespace {
namespace fs = std::filesystem;

std::vector<fs::path> documents() {
  std::vector<fs::path> files;
  for (const char* name : {"README.md", "CONTRIBUTING.md"}) {
    if (fs::exists(fs::path(QP_ROOT) / name)) {
      files.push_back(fs::path(QP_ROOT) / name);
    }
  }
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(QP_ROOT) / "docs")) {
    if (entry.path().extension() == ".md") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream in(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

// The commands of the marked blocks, in order.
std::string marked_commands(const fs::path& file) {
  const std::vector<std::string> lines = lines_of(file);
  std::string commands;
  for (size_t i = 0; i + 1 < lines.size(); ++i) {
    if (lines[i] != "<!-- test -->") {
      continue;
    }
    EXPECT_EQ(lines[i + 1], "```sh")
        << file << ":" << i + 2 << ": a marked block begins with ```sh";
    std::vector<std::string> block;
    for (i += 2; i < lines.size() && lines[i] != "```"; ++i) {
      block.push_back(lines[i]);
    }
    const bool transcript = std::any_of(
        block.begin(), block.end(), [](const std::string& line) { return line.starts_with("$ "); });
    for (const std::string& line : block) {
      if (!transcript) {
        commands += line + "\n";
      } else if (line.starts_with("$ ")) {
        commands += line.substr(2) + "\n";
      }
    }
  }
  return commands;
}

// GitHub's anchor of a heading: lower case, blanks to hyphens, punctuation dropped.
std::string anchor_of(const std::string& heading) {
  std::string anchor;
  for (char c : heading) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalnum(u) != 0 || c == '-' || c == '_' || u >= 0x80) {
      anchor += static_cast<char>(std::tolower(u));
    } else if (c == ' ') {
      anchor += '-';
    }
  }
  return anchor;
}

std::set<std::string> anchors_of(const fs::path& file) {
  std::set<std::string> anchors;
  for (const std::string& line : lines_of(file)) {
    const size_t level = line.find_first_not_of('#');
    if (level != 0 && level != std::string::npos && line[level] == ' ') {
      anchors.insert(anchor_of(line.substr(level + 1)));
    }
  }
  return anchors;
}

// What the program itself prints.
std::string refusals_page() {
  return Workdir("docs.refusals").qpatch({"explain", "--markdown"}).out;
}

std::vector<fs::path> marked_documents() {
  std::vector<fs::path> marked;
  for (const fs::path& file : documents()) {
    if (!marked_commands(file).empty()) {
      marked.push_back(file);
    }
  }
  return marked;
}

class Documents : public testing::TestWithParam<fs::path> {};
class MarkedDocuments : public Documents {};

std::string document_name(const testing::TestParamInfo<fs::path>& info) {
  std::string name = fs::relative(info.param, QP_ROOT);
  std::replace_if(
      name.begin(), name.end(),
      [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
}

// Claim: the page of refusals is what the table says.
TEST(Refusals, page_is_the_table) {
  const fs::path page = fs::path(QP_ROOT) / "docs" / "refusals.md";
  const std::string expected = refusals_page();
  if (read_text(page) != expected) {
    const fs::path made = fs::path(QP_BINARY_DIR) / "refusals.md";
    std::ofstream(made) << expected;
    ADD_FAILURE() << "docs/refusals.md is not the table; repair: cp " << made.string() << " "
                  << page.string();
  }
}

// Claim: there is a README and the pages that it promises.
TEST(Pages, exist) {
  for (const char* name :
       {"README.md", "CONTRIBUTING.md", "docs/overview.md", "docs/glossary.md", "docs/safety.md",
        "docs/limits.md", "docs/refusals.md", "docs/objdiff.md", "docs/performance.md"}) {
    EXPECT_TRUE(fs::exists(fs::path(QP_ROOT) / name)) << name;
  }
}

// Claim: a file of ours that a document or a comment names exists.
TEST(Pages, named_files_exist) {
  static const std::regex name(R"(\b((?:docs|src|tests|bench|demos|tools)/[\w./-]*\w\.[a-z]+)\b)");
  std::vector<fs::path> files = documents();
  for (const char* folder : {"src", "tests", "bench", "demos", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(QP_ROOT) / folder)) {
      const std::string kind = entry.path().extension();
      if (kind == ".cc" || kind == ".h" || kind == ".txt") {
        files.push_back(entry.path());
      }
    }
  }
  for (const fs::path& file : files) {
    for (const std::string& line : lines_of(file)) {
      for (std::sregex_iterator i(line.begin(), line.end(), name), end; i != end; ++i) {
        const bool ours = i->prefix().str().ends_with(' ') || i->prefix().str().ends_with('`') ||
                          i->prefix().str().ends_with('(');
        EXPECT_TRUE(!ours || fs::exists(fs::path(QP_ROOT) / (*i)[1].str()))
            << fs::relative(file, QP_ROOT) << " names " << (*i)[1];
      }
    }
  }
}

// "live.*Hooks*" as a regular expression. A name stands for all below it.
std::regex test_pattern(const std::string& name) {
  std::string pattern;
  for (const char c : name) {
    pattern += c == '*' ? ".*" : c == '.' ? "\\." : std::string(1, c);
  }
  return std::regex(pattern + "([./].*)?");
}

// Claim: a test that a document names exists, under that name in ctest or in its own program.
TEST(Pages, named_tests_exist) {
  static const std::regex listed(R"(\s*Test\s+#\d+: (\S+))");
  static const std::regex named(R"(`([A-Za-z_]+\.[A-Z*][\w*]*(?:[./][\w*]+)*)`)");
  std::vector<std::string> tests;
  std::istringstream list(
      Workdir("docs.tests").must_run({QP_CTEST, "--test-dir", QP_BINARY_DIR, "-N"}).out);
  for (std::string line; std::getline(list, line);) {
    if (std::smatch found; std::regex_match(line, found, listed)) {
      tests.push_back(found[1]);
    }
  }
  ASSERT_FALSE(tests.empty());
  size_t names = 0;
  for (const fs::path& document : documents()) {
    for (const std::string& line : lines_of(document)) {
      for (std::sregex_iterator i(line.begin(), line.end(), named), end; i != end; ++i) {
        const std::string name = (*i)[1];
        const std::regex pattern = test_pattern(name);
        // A program that is not built has one entry, which stands for all of its tests.
        const std::string unbuilt = "test_" + name.substr(0, name.find('.')) + "_NOT_BUILT";
        const bool there = std::any_of(tests.begin(), tests.end(), [&](const std::string& test) {
          return test.starts_with(unbuilt) || std::regex_match(test, pattern) ||
                 std::regex_match(test.substr(test.find('.') + 1), pattern);
        });
        EXPECT_TRUE(there) << fs::relative(document, QP_ROOT) << " names " << name;
        ++names;
      }
    }
  }
  EXPECT_GT(names, 10U);
}

// Claim: at least one page shows a whole repair in commands that are run here.
TEST(Pages, show_a_repair_that_runs) {
  std::string all;
  for (const fs::path& file : documents()) {
    all += marked_commands(file);
  }
  for (const char* verb : {"qpatch build", "qpatch apply", "qpatch revert"}) {
    EXPECT_NE(all.find(verb), std::string::npos) << verb << " is in no tested block";
  }
}

// Claim: every link to a file of ours leads to a file, and to a heading that it has.
TEST_P(Documents, links_resolve) {
  static const std::regex link(R"(\]\(([^)\s]+)\))");
  for (const std::string& line : lines_of(GetParam())) {
    for (std::sregex_iterator i(line.begin(), line.end(), link), end; i != end; ++i) {
      const std::string to = (*i)[1];
      if (to.find("://") != std::string::npos || to.starts_with("mailto:")) {
        continue;
      }
      const size_t hash = to.find('#');
      const std::string path = to.substr(0, hash);
      const fs::path file = path.empty() ? GetParam() : GetParam().parent_path() / path;
      EXPECT_TRUE(fs::exists(file)) << to;
      if (hash != std::string::npos && fs::exists(file)) {
        EXPECT_TRUE(anchors_of(file).count(to.substr(hash + 1)) != 0) << to;
      }
    }
  }
}

// Claim: the marked commands of the document run with exit code 0, and leave the process as it was.
TEST_P(MarkedDocuments, commands_run) {
  const std::string commands = marked_commands(GetParam());
  Case example;
  for (const Instance& instance : read_cases(QP_CASES)) {
    if (instance.what.name == "simple_change") {
      example = instance.what;
    }
  }
  Workdir dir("docs." + document_name({GetParam(), 0}));
  Workshop workshop(dir, example, {"gcc", true, "-O2"});
  Victim victim(workshop.build_target());
  const Snapshot before = take_snapshot(victim.pid());
  dir.write_file("commands.sh", "set -e\n" + commands);
  const std::string path =
      fs::path(qpatch_program()).parent_path().string() + ":" + std::getenv("PATH");
  const CommandResult result = dir.run(
      {"env", "PATH=" + path, "PID=" + std::to_string(victim.pid()), "sh", "-x", "commands.sh"});
  EXPECT_EQ(result.exit_code, 0) << result.both();
  EXPECT_EQ(left_behind(before, take_snapshot(victim.pid())), "");
  EXPECT_EQ(victim.ask("3"), "31");
  if (HasFailure()) {
    dir.keep();
    std::cout << "kept: " << dir.path().string() << "\n";
  }
}

// That there are such documents is a claim of its own (Pages.show_a_repair_that_runs).
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(MarkedDocuments);
INSTANTIATE_TEST_SUITE_P(All, Documents, testing::ValuesIn(documents()), document_name);
INSTANTIATE_TEST_SUITE_P(All, MarkedDocuments, testing::ValuesIn(marked_documents()),
                         document_name);

}  // namespace
}  // namespace qp::live
