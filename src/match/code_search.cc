// Finding code without names.
//
// A linker fills in fields and rewrites some instructions in place; it never moves a byte inside a
// function. An assembler does: a jump to a function of the same section is short in a plain .text,
// and long in an object with one section per function, and what follows is shifted. So the bytes of
// a function up to the first such jump, and without all fields that have a relocation, are in the
// target as they are in the object. That is the function's pattern: bytes, and a mask that says
// which of them count.
//
// Comparing each pattern at each address would cost functions x bytes. Instead each pattern gives
// an anchor, eight bytes in a row that all count (four, if it has no eight), and one pass over the
// target looks up each of its words in a table of anchors; a bitmap in front of the table answers
// nearly all of them. Of the eight bytes that a function could give the ones are taken that fewest
// functions of the object share, since many begin with the same pushes. 50 MB of code take some
// tenths of a second.
//
// Where unwind records cover the place, a function begins where a record begins; code that looks
// like a function in the middle of another one is none. What is found is a candidate, no more: the
// comparison has to prove it, and bind.cc to choose.

#include "match/code_search.h"

#include <algorithm>
#include <cstdlib>
#include <unordered_map>

#include "insn/instruction.h"

namespace qp::match {
namespace {

using elf::Atom;
using elf::Ref;
using elf::RelocType;
using insn::Instruction;

constexpr uint64_t kLongestPattern = 128;
constexpr size_t kMostPlaces = 64;
constexpr uint64_t kWide = 8, kNarrow = 4;  // sizes of anchors
constexpr uint64_t kChunk = uint64_t{16} << 20;

struct Pattern {
  Bytes bytes;
  std::vector<bool> counts;  // parallel

  bool fits(ByteView code) const {
    if (code.size() < bytes.size()) {
      return false;
    }
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (counts[i] && code[i] != bytes[i]) {
        return false;
      }
    }
    return true;
  }
  bool counts_all(size_t at, size_t size) const {
    return at + size <= bytes.size() &&
           std::all_of(counts.begin() + static_cast<ptrdiff_t>(at),
                       counts.begin() + static_cast<ptrdiff_t>(at + size),
                       [](bool c) { return c; });
  }
};

// What linkers replace by other instructions.
bool is_rewritten(RelocType type) {
  const elf::RelocTraits* traits = elf::find_traits(type);
  if (traits == nullptr || traits->via_got) {
    return true;
  }
  switch (type) {
    case RelocType::TLSGD:
    case RelocType::TLSLD:
    case RelocType::GOTTPOFF:
    case RelocType::GOTPC32_TLSDESC:
    case RelocType::TLSDESC_CALL:
    case RelocType::DTPOFF32:
    case RelocType::DTPOFF64:
      return true;
    default:
      return false;
  }
}

bool begins_call_sequence(RelocType type) {
  return type == RelocType::TLSGD || type == RelocType::TLSLD;
}

// A function's instructions, as far as they decode, with what belongs to each.
struct Step {
  uint64_t at;
  Instruction instruction;
  size_t first_ref, refs;
  bool varies;  // its own length may differ in the target
};

std::vector<Step> read_steps(const Atom& atom) {
  std::vector<Step> steps;
  size_t ref = 0;
  for (uint64_t at = 0; at < atom.size;) {
    const auto found = insn::decode(atom.bytes, at);
    if (!found || at + found->length > atom.size) {
      break;
    }
    const size_t first = ref;
    while (ref < atom.refs.size() && atom.refs[ref].at < at + found->length) {
      ++ref;
    }
    const bool jumps_away = found->branch.size != 0 && !found->is_call && ref != first;
    steps.push_back(
        {at, *found, first, ref - first, jumps_away || (found->is_nop && ref == first)});
    at += found->length;
  }
  return steps;
}

// Whether a jump inside the function has the same width everywhere, although what it jumps over may
// have another length.
bool keeps_width(const std::vector<Step>& steps, const Step& step) {
  const uint64_t end = step.at + step.instruction.length;
  const uint64_t to = end + static_cast<uint64_t>(step.instruction.branch.value);
  const uint64_t low = std::min(end, to), high = std::max(step.at, to);
  int64_t slack = 0;
  for (const Step& other : steps) {
    if (other.varies && other.at >= low && other.at < high) {
      slack += other.instruction.is_nop ? 64 : 4;
    }
  }
  constexpr int64_t kReach = 127;
  const int64_t distance = std::abs(step.instruction.branch.value);
  return step.instruction.branch.size == 1 ? distance + slack <= kReach
                                           : slack == 0 || distance - slack > kReach + 1;
}

Pattern pattern_of(const Atom& atom) {
  Pattern pattern;
  const std::vector<Step> steps = read_steps(atom);
  bool in_sequence = false;  // the call that belongs to a lea of the GD and LD models
  for (const Step& step : steps) {
    const Instruction& instruction = step.instruction;
    if (step.varies || step.at >= kLongestPattern ||
        (instruction.branch.size != 0 && step.refs == 0 && !keeps_width(steps, step))) {
      break;
    }
    const ByteView bytes = slice(atom.bytes, step.at, instruction.length);
    pattern.bytes.insert(pattern.bytes.end(), bytes.begin(), bytes.end());
    pattern.counts.resize(pattern.bytes.size(), !in_sequence);
    in_sequence = false;
    const auto ignore = [&](uint64_t from, uint64_t size) {
      for (uint64_t i = from; i < std::min<uint64_t>(from + size, pattern.counts.size()); ++i) {
        pattern.counts[i] = false;
      }
    };
    if (instruction.branch.size != 0) {
      ignore(step.at + instruction.branch.offset, instruction.branch.size);
    }
    for (size_t i = step.first_ref; i < step.first_ref + step.refs; ++i) {
      const Ref& ref = atom.refs[i];
      if (is_rewritten(ref.type)) {
        ignore(step.at, instruction.length);
        in_sequence |= begins_call_sequence(ref.type);
      } else {
        ignore(ref.at, elf::find_traits(ref.type)->width);
      }
    }
  }
  return pattern;
}

template <class Word>
Word word_at(ByteView bytes, uint64_t at) {
  return load<Word>(bytes, at);
}

// Anchors of one size: word → the patterns that have it, and where in them.
template <class Word>
class Anchors {
 public:
  void add(const Pattern& pattern, size_t function, uint64_t at) {
    const Word word = word_at<Word>(pattern.bytes, at);
    table_[word].push_back({function, at});
    bitmap_[slot(word)] = 1;
  }
  template <class F>
  void look_up(ByteView code, uint64_t at, const F& found) const {
    const Word word = word_at<Word>(code, at);
    if (bitmap_[slot(word)] == 0) {
      return;
    }
    if (const auto entry = table_.find(word); entry != table_.end()) {
      for (const Use& use : entry->second) {
        found(use.function, use.at);
      }
    }
  }
  bool empty() const { return table_.empty(); }

 private:
  struct Use {
    size_t function;
    uint64_t at;
  };
  static constexpr int kBits = 18;
  static size_t slot(Word word) {
    return static_cast<size_t>((static_cast<uint64_t>(word) * 0x9e3779b97f4a7c15u) >> (64 - kBits));
  }
  std::unordered_map<Word, std::vector<Use>> table_;
  std::vector<uint8_t> bitmap_ = std::vector<uint8_t>(size_t{1} << kBits);
};

// The start of the pattern's anchor: all `size` bytes count, and few patterns share them.
template <class Word>
std::optional<uint64_t> choose_anchor(const Pattern& pattern,
                                      const std::unordered_map<Word, uint32_t>& uses) {
  std::optional<uint64_t> best;
  uint32_t fewest = ~0u;
  for (uint64_t at = 0; at + sizeof(Word) <= pattern.bytes.size(); ++at) {
    if (pattern.counts_all(at, sizeof(Word))) {
      const uint32_t count = uses.at(word_at<Word>(pattern.bytes, at));
      if (count < fewest) {
        fewest = count;
        best = at;
      }
    }
  }
  return best;
}

template <class Word>
std::unordered_map<Word, uint32_t> count_words(const std::vector<Pattern>& patterns) {
  std::unordered_map<Word, uint32_t> uses;
  for (const Pattern& pattern : patterns) {
    for (uint64_t at = 0; at + sizeof(Word) <= pattern.bytes.size(); ++at) {
      if (pattern.counts_all(at, sizeof(Word))) {
        ++uses[word_at<Word>(pattern.bytes, at)];
      }
    }
  }
  return uses;
}

class Search {
 public:
  Search(const std::vector<Pattern>& patterns, const Target& target)
      : patterns_(patterns), target_(target), places_(patterns.size()) {
    const auto wide = count_words<uint64_t>(patterns);
    const auto narrow = count_words<uint32_t>(patterns);
    for (size_t i = 0; i < patterns.size(); ++i) {
      if (const auto at = choose_anchor(patterns[i], wide)) {
        wide_.add(patterns[i], i, *at);
        places_[i].complete = true;
      } else if (const auto narrow_at = choose_anchor(patterns[i], narrow)) {
        narrow_.add(patterns[i], i, *narrow_at);
        places_[i].complete = true;
      }
    }
  }

  void pass(LinkRange range) {
    Bytes code;
    for (uint64_t from = 0; from < range.size(); from += kChunk) {
      // A pattern that begins in this chunk may end in the next one.
      const uint64_t size = std::min(kChunk + 2 * kLongestPattern, range.size() - from);
      code.resize(size);
      code.resize(target_.memory.read_some(range.start + from, code));
      search(range.start + from, code, std::min(kChunk, size));
      if (code.size() < size) {
        return;
      }
    }
  }

  std::vector<Places> take() {
    for (Places& places : places_) {
      std::sort(places.at.begin(), places.at.end());
      places.at.erase(std::unique(places.at.begin(), places.at.end()), places.at.end());
      if (places.at.size() > kMostPlaces) {
        places = {};
      }
    }
    return std::move(places_);
  }

 private:
  // Patterns that begin in the first `starts` bytes of `code`.
  void search(LinkAddr base, ByteView code, uint64_t starts) {
    const auto found_at = [&](uint64_t at) {
      return [&, at](size_t function, uint64_t offset) {
        if (at >= offset && at - offset < starts) {
          consider(function, base, code, at - offset);
        }
      };
    };
    for (uint64_t at = 0; at + kWide <= code.size(); ++at) {
      wide_.look_up(code, at, found_at(at));
    }
    for (uint64_t at = 0; !narrow_.empty() && at + kNarrow <= code.size(); ++at) {
      narrow_.look_up(code, at, found_at(at));
    }
  }

  void consider(size_t function, LinkAddr base, ByteView code, uint64_t start) {
    Places& places = places_[function];
    if (places.at.size() > kMostPlaces || !patterns_[function].fits(code.subspan(start))) {
      return;
    }
    const auto frame = target_.symbols.frame_containing(base + start);
    if (!frame || frame->start == base + start) {
      places.at.push_back(base + start);
    }
  }

  const std::vector<Pattern>& patterns_;
  const Target& target_;
  std::vector<Places> places_;
  Anchors<uint64_t> wide_;
  Anchors<uint32_t> narrow_;
};

}  // namespace

std::vector<Places> find_places(const elf::AtomGraph& original,
                                const std::vector<elf::AtomId>& functions, const Target& target) {
  std::vector<Pattern> patterns;
  patterns.reserve(functions.size());
  for (const elf::AtomId id : functions) {
    patterns.push_back(pattern_of(original.atoms[id]));
  }
  Search search(patterns, target);
  for (const LinkRange range : target.symbols.executable_ranges()) {
    search.pass(range);
  }
  return search.take();
}

}  // namespace qp::match
