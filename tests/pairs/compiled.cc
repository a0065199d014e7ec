// Runs the compilers for the pair tests. A test must fail, not skip, if a compiler is missing: both
// are in tools/install_dependencies.

#include "compiled.h"

#include <iterator>

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

std::vector<Compiler> compilers_for(size_t n) {
  static const char* const compilers[] = {"gcc-12", "clang-14"};
  static const char* const levels[] = {"-O0", "-O1", "-O2", "-O3", "-Os"};
  static const char* const pics[] = {"-fPIE", "-fno-pie", "-fPIC"};
  // What distributions and cautious projects add. What works together goes together.
  static const std::vector<std::string> additions[] = {
      {"-g", "-fno-common"},
      {"-fcommon"},
      {"-fcf-protection=full"},
      {"-fstack-protector-strong", "-D_FORTIFY_SOURCE=2"},
      {"-fno-plt"},
      {"-mcmodel=medium"},
      {"-g", "-fcf-protection=full", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fno-plt"},
  };
  std::vector<Compiler> list;
  for (const char* level : levels) {
    list.push_back({"gcc-12", {level, "-fno-pie"}});
    list.push_back({"gcc-12", {level, "-fPIC"}});
  }
  for (size_t k = 0; k < std::size(levels); ++k) {
    list.push_back({"clang-14", {levels[k], (n + k) % 2 == 0 ? "-fno-pie" : "-fPIC"}});
  }
  for (size_t k = 0; k < std::size(additions); ++k) {
    Compiler c{compilers[(n + k) % 2], {levels[(n + k) % 5], pics[(n / 10 + k) % 3]}};
    c.flags.insert(c.flags.end(), additions[k].begin(), additions[k].end());
    list.push_back(std::move(c));
  }
  return list;
}

namespace {

// Runs the compiler on `source` in a directory of its own; `options` end in the output's name.
Bytes run_compiler(const Compiler& compiler, const std::string& source,
                   const std::vector<std::string>& options) {
  TempDir directory("qpatch-pairs");
  write_file(directory.path() / "unit.c", as_bytes(source));
  std::vector<std::string> argv = {compiler.name, "-w", "-ffunction-sections", "-fdata-sections"};
  argv.insert(argv.end(), compiler.flags.begin(), compiler.flags.end());
  argv.emplace_back("unit.c");
  argv.insert(argv.end(), options.begin(), options.end());
  RunOptions where;
  where.directory = directory.path();
  RunResult result = run(argv, where);
  if (result.exit_code != 0) {
    throw Error("compile-failed", "can't compile with", compiler.text(), result.err);
  }
  return read_file(directory.path() / options.back());
}

}  // namespace

Bytes compile(const Compiler& compiler, const std::string& source, bool labels) {
  return labels ? run_compiler(compiler, source, {"-Wa,-L", "-c", "-o", "unit.o"})
                : run_compiler(compiler, source, {"-c", "-o", "unit.o"});
}

std::string assembly_of(const Compiler& compiler, const std::string& source) {
  std::vector<std::string> options = {"-S", "-o", "unit.s"};
  if (compiler.name.starts_with("clang")) {
    options.insert(options.begin(), "-fno-addrsig");  // GNU as does not know it
  }
  return std::string(as_text(run_compiler(compiler, source, options)));
}

Bytes assemble(const std::string& text) {
  return compile({"gcc-12", {"-x", "assembler"}}, text);
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
