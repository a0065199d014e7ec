// Runs the assembler for tests.

#include "assembled.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "objdiff/split.h"

namespace qp::objdiff {

elf::File assemble(const std::string& text) {
  TempDir directory("qpatch-as");
  auto s = directory.path() / "unit.s", o = directory.path() / "unit.o";
  write_file(s, as_bytes(text));
  RunResult result = run({"as", "--64", "--keep-locals", s.string(), "-o", o.string()});
  if (result.exit_code != 0) {
    throw Error("compile-failed", "can't assemble", "unit.s", result.err);
  }
  return elf::File::open(o);
}

elf::AtomGraph split_text(const std::string& text, Report& report) {
  return split(assemble(text), report);
}

elf::AtomId find(const elf::AtomGraph& graph, const std::string& name) {
  for (elf::AtomId id = 0; id < graph.atoms.size(); ++id) {
    if (graph.name_of(id) == name) {
      return id;
    }
  }
  throw Bug("no atom " + name);
}

}  // namespace qp::objdiff
