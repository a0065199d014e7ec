// Between two functions assemblers and linkers leave NOPs, int3 or zeros, so that the second one
// begins at a round address. Five bytes of it can hold a jump. But bytes that look like padding need
// not be: a function may begin with a NOP, and a symbol's size can be wrong.
//
// So padding is what lies behind a function whose end is known (by a symbol's size or by its unwind
// record), up to the next start of anything that is known, where the function decodes to exactly
// that end, its last instruction does not run on, and none of its jumps leads behind it. In a target
// that has lost its symbols only unwind records tell of starts, and the code behind a function may
// have none; there padding reaches no further than the next round address, since nobody pads beyond
// the one that the next function wants. Zeros are padding up to there in any target: behind it they
// can be data that nobody named (a table in assembly, a literal pool).
//
// Behind all code, up to the end of the page, is what the file happens to have there: zeros, if the
// linker begins the next segment on a page of its own. No address of the target is there.

#include "match/padding.h"

#include <algorithm>

#include "insn/instruction.h"

namespace qp::match {
namespace {

constexpr uint64_t kLargestFunction = 64 << 10, kRound = 16;

// The function is code from its start to its end, and that end is never run over.
bool is_closed(const Target& target, LinkRange function, LinkAddr behind) {
  if (function.size() > kLargestFunction) {
    return false;
  }
  Bytes code(function.size());
  if (!target.memory.try_read(function.start, code)) {
    return false;
  }
  insn::Flow last = insn::Flow::Next;
  for (uint64_t at = 0; at < code.size();) {
    const auto found = insn::decode(code, at);
    if (!found) {
      return false;
    }
    if (const auto to = found->branch_target()) {
      const LinkAddr target_at = function.start + at + static_cast<uint64_t>(*to);
      if (function.end <= target_at && target_at < behind) {
        return false;
      }
    }
    last = found->flow;
    at += found->length;
  }
  return last == insn::Flow::Return || last == insn::Flow::Jump ||
         last == insn::Flow::IndirectJump || last == insn::Flow::Stop;
}

// Functions and pieces of functions that end in `window`.
std::vector<LinkRange> functions_that_end_in(const SymbolMap& symbols, LinkRange window) {
  std::vector<LinkRange> out;
  for (LinkAddr at = window.start - 1; at < window.end; at += 1) {
    const auto frame = symbols.frame_containing(at);
    if (frame && frame->end == at + 1) {
      out.push_back(*frame);
      continue;
    }
    const MapEntry* function = symbols.function_containing(at);
    if (function != nullptr && function->address + function->size == at + 1) {
      out.push_back({function->address, at + 1});
    }
  }
  return out;
}

LinkAddr find_end(const Target& target, LinkRange function, LinkAddr limit) {
  const SymbolMap& symbols = target.symbols;
  if (symbols.function_containing(function.end) != nullptr ||
      symbols.frame_containing(function.end)) {
    return function.end;
  }
  LinkAddr end = symbols.next_start_after(function.end - 1, 1).value_or(limit);
  if (!symbols.has_symtab()) {
    end = std::min(end, LinkAddr(align_up(function.end.value, kRound)));
  }
  return std::min(end, limit);
}

// The zeros with which a segment of code is filled up to a page.
void find_in_tails(const Target& target, LinkRange window, uint64_t least,
                   std::vector<Padding>& out) {
  for (const LinkRange tail : target.symbols.code_tails()) {
    const LinkRange part{std::max(tail.start, window.start), std::min(tail.end, window.end)};
    if (part.end < part.start + least) {
      continue;
    }
    Bytes bytes(part.size());
    if (target.memory.try_read(part.start, bytes)) {
      const auto end =
          std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
      bytes.erase(end, bytes.end());
      if (bytes.size() >= least) {
        out.push_back({part.start, std::move(bytes)});
      }
    }
  }
}

}  // namespace

std::vector<Padding> find_padding(const Target& target, LinkRange window, uint64_t least) {
  std::vector<Padding> out;
  for (const LinkRange function : functions_that_end_in(target.symbols, window)) {
    const LinkAddr end = find_end(target, function, window.end);
    if (end < function.end + least || !target.symbols.is_executable(function.end) ||
        !target.symbols.is_executable(end - 1) || !is_closed(target, function, end)) {
      continue;
    }
    Bytes bytes(static_cast<size_t>(end - function.end));
    if (!target.memory.try_read(function.end, bytes)) {
      continue;
    }
    const uint64_t round = align_up(function.end.value, kRound) - function.end.value;
    uint64_t size = 0;
    for (uint64_t more = 1; more != 0 && size < bytes.size(); size += more) {
      more = insn::padding_at(bytes, size);
      const bool zero = bytes[size] == std::byte{0};
      if (size + more > bytes.size() || (zero && size >= round)) {
        break;
      }
    }
    if (size >= least) {
      bytes.resize(size);
      out.push_back({function.end, std::move(bytes)});
    }
  }
  find_in_tails(target, window, least, out);
  return out;
}

}  // namespace qp::match
