// The conservative stack scan: its time is part of the pause. 64 KiB is a deep stack; most words of
// real stacks are far from any code, some are pointers into it.

#include <benchmark/benchmark.h>

#include <random>

#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

Bytes make_stack(size_t size, unsigned percent_near) {
  std::mt19937_64 random(1);
  Bytes stack;
  while (stack.size() < size) {
    uint64_t word = random() % 100 < percent_near ? 0x555555554000 + random() % 0x1000000
                                                  : random() >> (random() % 64);
    append(stack, word);
  }
  return stack;
}

// range(0): bytes of stack; range(1): percent of words within the target; range(2): functions.
void scan(benchmark::State& state) {
  Bytes stack =
      make_stack(static_cast<size_t>(state.range(0)), static_cast<unsigned>(state.range(1)));
  std::vector<LiveRange> ranges;
  for (int64_t i = 0; i < state.range(2); ++i) {
    LiveAddr start(0x555555554000 + static_cast<uint64_t>(i) * 0x8000);
    ranges.push_back({start, start + 0x200});
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(scan_words(stack, ranges));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(scan)->Args({65536, 0, 10})->Args({65536, 10, 10})->Args({65536, 10, 200});

}  // namespace
}  // namespace qp::unwind

BENCHMARK_MAIN();
