// Keeps a known value in every register of the CPU for a while, and says what it found afterwards.
#pragma once

#include <cstdint>

namespace qp::test {

struct CpuState {
  alignas(64) uint8_t vector[32][64] = {};  // zmm, or ymm, or xmm 0–15
  uint64_t mask[8] = {};                    // k1 … k7 in 1 … 7
  uint64_t general[10] = {};                // rbx rbp r8 … r15
  uint64_t red_zone[16] = {};               // below the stack pointer
  uint64_t x87[2] = {};                     // as doubles
  uint64_t direction = 0;                   // how far lodsb moved
  uint32_t mxcsr = 0;
  uint16_t x87_control = 0;
};

// A state that has something in every register that this CPU has.
CpuState some_cpu_state();
// Loads `state`, spins, and stores what is there then.
CpuState spin_with(const CpuState& state, uint64_t spins);
bool operator==(const CpuState& a, const CpuState& b);

}  // namespace qp::test
