// The object diff on a real program: Open vSwitch 3.1.0 (ovs-vswitchd), 228 units.
//
// What must be found in code that nobody wrote for this test? A marker helps: a random function is
// given a statement with a reference to a name that exists nowhere else, in the original and, a
// little different, in the patched version. Wherever the compiler put that function (inlined into
// callers, cloned, split), the reference shows it. So exactly the units that have the reference
// must come out as changed, and no other.
//
// A statement that only one version has changes more: whether the function is inlined, what it
// clobbers, whether it is pure. Then every changed unit has to be reached from the function through
// changed units that call each other or had a common piece of code; nothing may change for no
// reason.
//
// By default a seeded sample is taken, since compiling is slow; QPATCH_SCALE=full takes all units
// and 200 functions (docs/objdiff.md).

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "build/compdb.h"
#include "build/line_directives.h"
#include "build/touched_units.h"
#include "elf/file.h"
#include "objdiff/diff.h"
#include "objdiff/names.h"
#include "objdiff/split.h"
#include "open_vswitch.h"
#include "source_functions.h"

namespace qp::scale {
namespace {

namespace fs = std::filesystem;
using objdiff::Fate;

struct Found {
  objdiff::Diff diff;
  Report report;
  std::set<std::string> names(Fate fate) const {
    std::set<std::string> out;
    for (const objdiff::Unit& u : diff.units) {
      if (u.fate == fate) {
        out.insert(u.name);
      }
    }
    return out;
  }
  std::string refusals() const {
    std::string out;
    for (const Refusal& r : report.refusals()) {
      out += fmt::format("{} {}: {}\n", r.id, r.where, r.detail);
    }
    return out;
  }
};

Found compare(Bytes original, Bytes patched) {
  Found out;
  elf::AtomGraph a = objdiff::split(elf::File::parse(std::move(original), "original"), out.report);
  elf::AtomGraph b = objdiff::split(elf::File::parse(std::move(patched), "patched"), out.report);
  out.diff = objdiff::diff(std::move(a), std::move(b), out.report);
  return out;
}

void expect_no_change(const Found& found, const std::string& what) {
  EXPECT_FALSE(found.diff.changed())
      << what << ": " << testing::PrintToString(found.names(Fate::Changed));
  EXPECT_TRUE(found.names(Fate::Removed).empty()) << what;
  EXPECT_EQ(found.refusals(), "") << what;
}

// Claim: an object compared with a second compilation of the same source has no changes.
TEST(OpenVswitch, UnitsAgainstThemselves) {
  for (const build::Replay* unit : sample_of_units(12)) {
    expect_no_change(compare(compile(*unit, ""), compile(*unit, "")), unit->source.string());
  }
}

// Claim: a comment in a line of its own, at the top and in the middle, changes no function, although
// the code is full of __LINE__.
TEST(OpenVswitch, CommentLines) {
  for (const build::Replay* unit : sample_of_units(8)) {
    std::string text = read_text(unit->source);
    std::string patched = "/* one more line */\n" + text;
    size_t middle = patched.find("\n\n", patched.size() / 2);
    if (middle != std::string::npos) {
      patched.insert(middle, "\n/* and\n another */");
    }
    patched = build::keep_line_numbers(text, patched);
    expect_no_change(compare(compile(*unit, ""), compile(*unit, patched)), unit->source.string());
  }
}

// Claim: a header that everybody reads and that only gets a macro changes nothing: no unit has
// another text, so nothing is compiled.
TEST(OpenVswitch, HeaderWithAnotherMacro) {
  TempDir directory("qpatch-scale");
  fs::path root = units().front().directory, header = "include/openvswitch/util.h";
  std::string text = read_text(root / header);
  size_t at = text.find("\n#define ");
  ASSERT_NE(at, std::string::npos);
  for (const char* side : {"a", "b"}) {
    fs::create_directories((directory.path() / side / header).parent_path());
    write_file(directory.path() / side / header, as_bytes(text));
    text.insert(at, "\n/* Nobody uses it. */\n#define QP_UNUSED_LIMIT 17");
  }
  RunOptions options;
  options.directory = directory.path();
  write_file(directory.path() / "fix.patch", as_bytes(run({"diff", "-ru", "a", "b"}, options).out));

  std::vector<build::CompileCommand> commands = build::read_compdb(root);
  std::vector<std::string> warnings;
  build::PatchedTree tree({directory.path() / "fix.patch"}, commands, warnings);
  build::TouchedUnits touched = build::find_touched_units(commands, tree, 2, warnings);
  EXPECT_TRUE(touched.units.empty());
  EXPECT_GT(touched.skipped.size(), 150u);
}

// The original and the patched statement, which replaces the "{" of a function.
struct Kind {
  const char* name;
  const char* original;
  const char* patched;
};
constexpr Kind kMarked[] = {
    {"constant", "{ extern volatile int qp_marker; qp_marker = 1001;",
     "{ extern volatile int qp_marker; qp_marker = 1002;"},
    {"call", "{ extern int qp_marker, qp_first(int); qp_first(qp_marker);",
     "{ extern int qp_marker, qp_second(int); qp_second(qp_marker);"},
    {"branch", "{ extern volatile int qp_marker; if (qp_marker == 31) { qp_marker = 7; }",
     "{ extern volatile int qp_marker; if (qp_marker != 31) { qp_marker = 7; }"},
};
constexpr Kind kAdded = {"added", "{",
                         "{ extern int qp_marker, qp_first(int); qp_first(qp_marker);"};

struct Chosen {
  const build::Replay* unit;
  SourceFunction function;
  std::string with(const char* statement) const {
    return read_text(unit->source).replace(function.brace, 1, statement);
  }
};

std::vector<Chosen> all_functions() {
  std::vector<Chosen> out;
  for (const build::Replay& unit : units()) {
    for (SourceFunction& f : find_functions(read_text(unit.source))) {
      out.push_back({&unit, std::move(f)});
    }
  }
  std::mt19937_64 random(kSeed);
  std::shuffle(out.begin(), out.end(), random);
  return out;
}

// Functions of `graph`, whole units, that refer to a name.
std::set<std::string> referring(const elf::AtomGraph& graph, const std::string& name) {
  std::set<std::string> out;
  for (const elf::Atom& atom : graph.atoms) {
    for (const elf::Ref& ref : atom.refs) {
      if (atom.storage == elf::Storage::Text && graph.symbols[ref.symbol].name == name) {
        out.insert(graph
                       .symbol_of(atom.parent.value_or(
                           static_cast<elf::AtomId>(&atom - graph.atoms.data())))
                       .name);
      }
    }
  }
  return out;
}

std::set<std::string> changed_or_new(const Found& found) {
  std::set<std::string> out = found.names(Fate::Changed), fresh = found.names(Fate::New);
  out.merge(fresh);
  return out;
}

// Claim: when a statement of a random function changes, exactly the functions that contain it
// change.
TEST(OpenVswitch, MarkedFunctions) {
  size_t wanted = full() ? 200 : 24, tried = 0, done = 0;
  for (const Chosen& chosen : all_functions()) {
    if (done == wanted || ++tried > wanted * 2) {
      break;
    }
    const Kind& kind = kMarked[done % std::size(kMarked)];
    std::string what = fmt::format("{} in {} of {}", kind.name, chosen.function.name,
                                   chosen.unit->source.string());
    Bytes original, patched;
    try {
      original = compile(*chosen.unit, chosen.with(kind.original));
      patched = compile(*chosen.unit, chosen.with(kind.patched));
    } catch (const Error&) {
      continue;  // what was found is no definition
    }
    Found found = compare(std::move(original), std::move(patched));
    std::set<std::string> containing = referring(found.diff.patched, "qp_marker");
    if (containing.empty()) {
      continue;  // not compiled, or nobody calls it
    }
    ++done;
    EXPECT_EQ(changed_or_new(found), containing) << what;
    EXPECT_EQ(found.refusals(), "") << what;
  }
  EXPECT_EQ(done, wanted);
}

// The functions that a changed one could have been changed by: it refers to them, or they to it.
bool is_linked(const Found& found, const std::string& a, const std::string& b) {
  auto refers = [](const elf::AtomGraph& graph, const std::string& from, const std::string& to) {
    std::set<std::string> users;
    for (const elf::AtomSymbol& s : graph.symbols) {
      if (objdiff::stem(s.name) == objdiff::stem(to)) {
        users.merge(referring(graph, s.name));
      }
    }
    return std::any_of(users.begin(), users.end(), [&](const std::string& user) {
      return objdiff::stem(user) == objdiff::stem(from);
    });
  };
  return refers(found.diff.original, a, b) || refers(found.diff.patched, a, b) ||
         refers(found.diff.original, b, a) || refers(found.diff.patched, b, a);
}

// Claim: when a random function gets a call, all functions that contain it are found, and every
// other change has a reason: a chain of changed functions that refer to each other leads to it.
TEST(OpenVswitch, FunctionsWithAnAddedCall) {
  size_t wanted = full() ? 60 : 6, tried = 0, done = 0;
  for (const Chosen& chosen : all_functions()) {
    if (done == wanted || ++tried > wanted * 2) {
      break;
    }
    std::string what = fmt::format("{} of {}", chosen.function.name, chosen.unit->source.string());
    Bytes patched;
    try {
      patched = compile(*chosen.unit, chosen.with(kAdded.patched));
    } catch (const Error&) {
      continue;
    }
    Found found = compare(compile(*chosen.unit, ""), std::move(patched));
    std::set<std::string> reached = referring(found.diff.patched, "qp_marker");
    if (reached.empty()) {
      continue;
    }
    ++done;
    std::set<std::string> changed = changed_or_new(found);
    EXPECT_TRUE(std::includes(changed.begin(), changed.end(), reached.begin(), reached.end()))
        << what;
    reached.insert(chosen.function.name);  // calls of it, now that it is not inlined any more
    for (bool again = true; again;) {
      again = false;
      for (const std::string& name : changed) {
        bool linked = std::any_of(reached.begin(), reached.end(), [&](const std::string& other) {
          return is_linked(found, name, other);
        });
        if (linked && reached.insert(name).second) {
          again = true;
        }
      }
    }
    EXPECT_TRUE(std::includes(reached.begin(), reached.end(), changed.begin(), changed.end()))
        << what << ": changed " << testing::PrintToString(changed) << ", explained "
        << testing::PrintToString(reached);
    EXPECT_EQ(found.refusals(), "") << what;
  }
  EXPECT_EQ(done, wanted);
}

}  // namespace
}  // namespace qp::scale
