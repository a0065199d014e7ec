// Matching one object against a large stripped target: reading its names and searching its code.
// The floor is reading the file, which nobody can do without. Targets: cc1plus (34 MB) and
// libLLVM (105 MB), which the packages that build qpatch bring along; nothing of the object is in
// them, so that every function is searched for to the end.

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <stdexcept>

#include "base/fd.h"
#include "base/subprocess.h"
#include "corpus.h"
#include "elf/file.h"
#include "match/bind.h"
#include "match/symbol_map.h"
#include "objdiff/split.h"

namespace qp::match {
namespace {

const char* const kTargets[] = {"/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus",
                                "/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1"};

elf::AtomGraph object() {
  const TempDir directory("qpatch-bench");
  write_file(directory.path() / "g0.c", as_bytes(generate(0)));
  RunOptions options;
  options.directory = directory.path();
  const RunResult result =
      run({"gcc", "-w", "-O2", "-fPIC", "-ffunction-sections", "-fdata-sections", "-c", "g0.c"},
          options);
  if (result.exit_code != 0) {
    throw std::runtime_error(result.err);
  }
  Report report;
  return objdiff::split(elf::File::open(directory.path() / "g0.o"), report);
}

void tell_memory(benchmark::State& state) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["peak_MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}

void read_target(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(elf::File::open(kTargets[state.range(0)]));
  }
  tell_memory(state);
}
BENCHMARK(read_target)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void read_and_match(benchmark::State& state) {
  const elf::AtomGraph graph = object();
  for (auto _ : state) {
    const elf::File file = elf::File::open(kTargets[state.range(0)]);
    const SymbolMap symbols = SymbolMap::from_file(file);
    const elf::FileReader reader(file);
    Report report;
    benchmark::DoNotOptimize(match(graph, {}, {}, {reader, symbols, file.tls_block_end()}, report));
  }
  tell_memory(state);
}
BENCHMARK(read_and_match)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qp::match

BENCHMARK_MAIN();
