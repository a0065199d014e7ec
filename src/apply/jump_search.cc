#include "apply/jump_search.h"

#include <algorithm>

#include "base/error.h"
#include "base/report.h"
#include "elf/file.h"

namespace qp::apply {
namespace {

// Data, or the middle of other instructions, can look like such a jump.
bool is_of_file(const proc::Module& module, LiveAddr at, ByteView code) {
  Bytes original(code.size());
  return module.file && elf::read_code(*module.file, module.bias(at), original) &&
         std::equal(code.begin(), code.end(), original.begin());
}

// Where the jump at the beginning of `code`, which is at `at`, leads: those of link/detour.cc.
std::optional<LiveAddr> long_jump_target(ByteView code, LiveAddr at) {
  constexpr uint64_t kJump = 5, kFarJump = 14, kAddress = 6;
  if (code.front() == std::byte{0xe9}) {  // jmp rel32
    const auto distance = static_cast<int64_t>(load<int32_t>(code, 1));
    return at + kJump + static_cast<uint64_t>(distance);
  }
  const bool indirect = code.size() >= kFarJump && code[0] == std::byte{0xff} &&
                        code[1] == std::byte{0x25} && load<uint32_t>(code, 2) == 0;
  return indirect ? std::optional(LiveAddr(load<uint64_t>(code, kAddress))) : std::nullopt;
}

}  // namespace

std::optional<LiveAddr> find_jump_into(const proc::Process& process, LiveRange image) {
  constexpr uint64_t kJump = 5, kLongest = 14, kChunk = uint64_t{1} << 20;
  // A sparse file can be mapped as terabytes of code.
  constexpr uint64_t kMostCode = uint64_t{4} << 30;
  uint64_t total = 0;
  Bytes code;
  for (const proc::Module& module : process.modules()) {
    for (LiveRange range : module.executable) {
      total += range.size();
      if (total > kMostCode) {
        throw Refused({{"registry-damaged", process.program(),
                        "the process has too much code to be searched for jumps"}});
      }
      for (LiveAddr at = range.start; !range.overlaps(image) && at < range.end;
           at += kChunk - kLongest + 1) {
        code.resize(std::min<uint64_t>(kChunk, static_cast<uint64_t>(range.end - at)));
        code.resize(process.memory().read_some(at, code));
        for (size_t i = 0; i + kJump <= code.size(); ++i) {
          const auto to = long_jump_target(ByteView(code).subspan(i), at + i);
          const size_t size = code[i] == std::byte{0xe9} ? kJump : kLongest;
          if (to && image.contains(*to) &&
              !is_of_file(module, at + i, ByteView(code).subspan(i, size))) {
            return at + i;
          }
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace qp::apply
