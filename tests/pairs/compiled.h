// C sources compiled as qpatch build does it, and the diff of two of them.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/report.h"
#include "objdiff/diff.h"

namespace qp::pairs {

struct Compiler {
  std::string name;                // "gcc-12"
  std::vector<std::string> flags;  // "-O2", "-fPIC"
  std::string text() const;        // "gcc-12 -O2 -fPIC"
};

// What the pair number `n` is compiled with: gcc at every level, plain and with -fPIC; clang, which
// takes twice as long to start, at every level with one of the two; and every set of additional flags
// once. What goes round with n is which of the two, and which compiler, level and position
// independence the flags are added to, so that a table of thirty pairs has seen every combination.
std::vector<Compiler> compilers_for(size_t n);

// The object's bytes. Throws Error with the compiler's words if it fails. `labels`: keep local
// labels, as qpatch build does.
Bytes compile(const Compiler& compiler, const std::string& source, bool labels = true);

// What the compiler hands to the assembler, and the assembler's part: compile() in two steps.
std::string assembly_of(const Compiler& compiler, const std::string& source);
Bytes assemble(const std::string& text);

struct Outcome {
  Report report;
  objdiff::Diff diff;
  std::set<std::string> names(objdiff::Fate fate) const;
  std::set<std::string> refusal_ids() const;
  std::set<std::string> included() const;  // names, private data as "…"
  std::set<std::string> bound() const;
  std::string text() const;  // all of it, for messages
};
Outcome diff_objects(Bytes original, Bytes patched);

}  // namespace qp::pairs
