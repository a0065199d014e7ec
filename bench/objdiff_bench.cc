// The object diff on one large unit: split both versions, compare, close over, check. The floor is
// reading the two objects (parse), which nobody can do without. Time and memory should grow with
// the number of functions and not faster.

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include "compiled.h"
#include "elf/file.h"
#include "large_unit.h"
#include "objdiff/split.h"

namespace qp::pairs {
namespace {

Bytes object_of(int functions) {
  return compile({"gcc-12", {"-x", "assembler"}}, large_unit(functions));
}

void parse(benchmark::State& state) {
  Bytes object = object_of(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(elf::File::parse(Bytes(object), "original.o"));
    benchmark::DoNotOptimize(elf::File::parse(Bytes(object), "patched.o"));
  }
}
BENCHMARK(parse)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void parse_and_diff(benchmark::State& state) {
  Bytes object = object_of(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(diff_objects(Bytes(object), Bytes(object)));
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["peak_MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}
BENCHMARK(parse_and_diff)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qp::pairs

BENCHMARK_MAIN();
