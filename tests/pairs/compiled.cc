// Runs the compilers for the pair tests. A test must fail, not skip, if a compiler is missing: both
// are in tools/install_dependencies.

#include "compiled.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "elf/file.h"
#include "objdiff/split.h"

namespace qp::pairs {

std::string Compiler::text() const {
  std::string out = name;
  for (const std::string& f : flags) {
    out += " " + f;
  }
  return out;
}

const std::vector<Compiler>& all_compilers() {
  static const std::vector<Compiler> all = [] {
    std::vector<Compiler> list;
    for (const char* name : {"gcc-12", "clang-14"}) {
      for (const char* level : {"-O0", "-O1", "-O2", "-O3", "-Os"}) {
        for (const char* pic : {"-fno-pie", "-fPIE", "-fPIC"}) {
          // PIE differs from PIC only in what may be interposed: one level shows it.
          if (std::string(pic) != "-fPIE" || std::string(level) == "-O2") {
            list.push_back({name, {level, pic}});
          }
        }
      }
    }
    return list;
  }();
  return all;
}

Bytes compile(const Compiler& compiler, const std::string& source, bool labels) {
  TempDir directory("qpatch-pairs");
  auto c = directory.path() / "unit.c", o = directory.path() / "unit.o";
  write_file(c, as_bytes(source));
  std::vector<std::string> argv = {compiler.name, "-w", "-ffunction-sections", "-fdata-sections",
                                   "-c"};
  argv.insert(argv.end(), compiler.flags.begin(), compiler.flags.end());
  if (labels) {
    argv.emplace_back("-Wa,-L");
  }
  argv.insert(argv.end(), {"unit.c", "-o", "unit.o"});
  RunOptions options;
  options.directory = directory.path();
  RunResult result = run(argv, options);
  if (result.exit_code != 0) {
    throw Error("compile-failed", "can't compile with", compiler.text(), result.err);
  }
  return read_file(o);
}

std::set<std::string> Outcome::names(objdiff::Fate fate) const {
  std::set<std::string> out;
  for (const objdiff::Unit& u : diff.units) {
    if (u.fate == fate) {
      out.insert(u.name);
    }
  }
  return out;
}

std::set<std::string> Outcome::refusal_ids() const {
  std::set<std::string> out;
  for (const Refusal& r : report.refusals()) {
    out.insert(r.id);
  }
  return out;
}

std::set<std::string> Outcome::included() const {
  std::set<std::string> out;
  for (const objdiff::Inclusion& i : diff.included) {
    const elf::AtomSymbol& s = diff.patched.symbol_of(i.patched);
    out.insert(s.anonymous ? "…" : s.name);
  }
  return out;
}

std::set<std::string> Outcome::bound() const {
  std::set<std::string> out;
  for (const auto& b : diff.bound) {
    out.insert(diff.patched.symbols[b.patched].name);
  }
  return out;
}

std::string Outcome::text() const {
  std::string out;
  for (const objdiff::Unit& u : diff.units) {
    if (u.fate != objdiff::Fate::Same) {
      out += fmt::format("{} {}: {}\n",
                         u.fate == objdiff::Fate::Changed ? "changed"
                         : u.fate == objdiff::Fate::New   ? "new"
                                                          : "removed",
                         u.name, u.first_difference ? u.first_difference->what : "");
    }
  }
  for (const objdiff::Inclusion& i : diff.included) {
    out += fmt::format("included {}: {}\n", diff.patched.name_of(i.patched), i.why);
  }
  for (const auto& b : diff.bound) {
    out += fmt::format("bound {}: {}\n", diff.patched.symbols[b.patched].name, b.why);
  }
  for (const Refusal& r : report.refusals()) {
    out += fmt::format("refused {} {}: {}\n", r.id, r.where, r.detail);
  }
  return out;
}

Outcome diff_objects(Bytes original, Bytes patched) {
  Outcome out;
  elf::AtomGraph a =
      objdiff::split(elf::File::parse(std::move(original), "original.o"), out.report);
  elf::AtomGraph b = objdiff::split(elf::File::parse(std::move(patched), "patched.o"), out.report);
  out.diff = objdiff::diff(std::move(a), std::move(b), out.report);
  return out;
}

}  // namespace qp::pairs
