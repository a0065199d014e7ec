// An object file becomes atoms.
//
// kpatch and its relatives work on sections with rules about their names, and lose what no rule
// mentions: a changed switch table, a float constant, the bytes behind a NUL. Here the object is
// taken apart completely instead: every byte and every relocation of an allocated section ends in
// exactly one atom or unwind entry, is known metadata of the linker, or is refused. What is merely
// unusual (COMDAT, TLS, IFUNC, unknown relocations) is represented and marked, so that an object
// which contains it can still be compared; closure refuses it if the patch would need it.
//
// The order matters. Code is cut first, by function symbols, since only decoded code tells where
// PC-relative references lead (code_map.cc). These targets then help to cut anonymous data. Then
// all relocations become references: to the symbol of an atom at its offset 0, never to a section
// symbol, with the addend adjusted so that S + A stays the same address. A reference to one past
// the end belongs to the atom that begins there, if there is one; contents.cc takes care of what
// that means.
//
// Which atom a reference through a section symbol means is decided by where it leads; through a
// named symbol, by the name, even if it leads outside (`table[i - 5]`).

#include "objdiff/split.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "elf/cfi.h"
#include "elf/declarations.h"
#include "objdiff/bounds.h"
#include "objdiff/code_map.h"
#include "objdiff/pieces.h"
#include "objdiff/shared_section.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbolId;

class Splitter {
 public:
  Splitter(const elf::File& object, Report& report) : object_(object), report_(report) {}
  elf::AtomGraph run();

 private:
  void choose_sections();
  void cut_code();
  void cut_data();
  void make_atoms(const elf::Section& section, const std::vector<uint64_t>& targets);
  AtomId make_atom(const elf::Section& section, const Bounds& bounds);
  void place_commons();
  void make_references();
  void check_frame_relocations();
  void make_frames();
  void take_sections_apart();
  void note_declarations();

  const elf::Symbol& symbol(uint32_t index) const { return object_.symbols()[index]; }
  const Placed* find_placed(uint32_t section, uint64_t offset) const;
  const Placed* find_target(uint32_t section, int64_t offset) const;
  const CodeMap* code_map(AtomId atom);
  std::optional<elf::Ref> make_reference(const elf::Relocation& relocation,
                                         const elf::Section& section, const Placed& container);
  AtomSymbolId outside_symbol(uint32_t index);
  // A reference through it means a place in its section rather than a thing.
  static bool is_place(const elf::Symbol& s) { return s.type == elf::SymbolType::Section; }

  const elf::File& object_;
  Report& report_;
  elf::AtomGraph graph_;
  std::vector<const elf::Section*> sections_;            // to be split
  std::vector<std::vector<uint32_t>> symbols_in_;        // per section: defined symbols
  std::vector<std::vector<Placed>> placed_;              // per section: by start
  std::vector<std::optional<AtomSymbolId>> symbol_ids_;  // per ELF symbol
  std::vector<std::string> file_of_;                     // per ELF symbol: FILE scope
  std::set<uint32_t> comdat_;                            // section indexes
  std::map<AtomId, CodeMap> maps_;
};

void Splitter::choose_sections() {
  for (const elf::File::Group& g : object_.groups()) {
    comdat_.insert(g.members.begin(), g.members.end());
  }
  for (const elf::Section& s : object_.sections()) {
    // Notes are for tools and the loader; .eh_frame becomes frame entries.
    if (!s.has(elf::kAlloc) || s.type == elf::SectionType::Note || s.name == ".eh_frame" ||
        s.size == 0) {
      continue;
    }
    sections_.push_back(&s);
  }
  symbols_in_.resize(object_.sections().size());
  placed_.resize(object_.sections().size());
  symbol_ids_.resize(object_.symbols().size());
  file_of_.resize(object_.symbols().size());
  std::string file;
  for (const elf::Symbol& s : object_.symbols()) {
    if (s.type == elf::SymbolType::File) {
      file = s.name;
      if (graph_.source.empty()) {
        graph_.source = s.name;
      }
      continue;
    }
    file_of_[s.index] = s.bind == elf::SymbolBind::Local ? file : "";
    if (s.defined() && s.section < object_.sections().size()) {
      symbols_in_[s.section].push_back(s.index);
    }
  }
}

int rank(const elf::Symbol& s) {
  int bind = s.bind == elf::SymbolBind::Local ? 0 : s.bind == elf::SymbolBind::Weak ? 1 : 2;
  return bind * 2 + (s.type != elf::SymbolType::NoType ? 1 : 0);
}

std::string_view synthetic_prefix(AtomKind kind) {
  switch (kind) {
    case AtomKind::Function:
      return ".Lcode";
    case AtomKind::String:
      return ".Lstr";
    case AtomKind::Constant:
      return ".Lconst";
    default:
      return ".Ldata";
  }
}

AtomId Splitter::make_atom(const elf::Section& section, const Bounds& bounds) {
  auto id = static_cast<AtomId>(graph_.atoms.size());
  elf::Atom atom;
  atom.kind = bounds.kind;
  atom.storage = storage_of(section);
  atom.size = bounds.end - bounds.start;
  uint64_t low_bit = bounds.start & (~bounds.start + 1);
  uint64_t alignment = std::max<uint64_t>(section.alignment, 1);
  atom.alignment = low_bit == 0 ? alignment : std::min(alignment, low_bit);
  atom.section = section.name;
  atom.comdat = comdat_.contains(section.index);
  if (elf::has_bytes(atom.storage)) {
    atom.bytes = copy(slice(object_.content(section), bounds.start, atom.size));
  }
  // The name at offset 0 that is seen from farthest away is the atom's own; others are aliases.
  std::vector<uint32_t> names;
  for (uint32_t index : bounds.symbols) {
    if (!is_private_label(symbol(index).name)) {
      names.push_back(index);
    }
  }
  std::stable_sort(names.begin(), names.end(), [&](uint32_t a, uint32_t b) {
    const elf::Symbol &x = symbol(a), &y = symbol(b);
    bool x_inside = x.value != bounds.start, y_inside = y.value != bounds.start;
    return std::make_tuple(x_inside, -rank(x), std::string_view(x.name)) <
           std::make_tuple(y_inside, -rank(y), std::string_view(y.name));
  });
  bool named = !names.empty() && symbol(names.front()).value == bounds.start;
  atom.symbol = static_cast<AtomSymbolId>(graph_.symbols.size());
  if (!named) {
    elf::AtomSymbol s;
    s.name = fmt::format("{}.{}", synthetic_prefix(atom.kind), id);
    s.type = atom.kind == AtomKind::Function ? elf::SymbolType::Func : elf::SymbolType::Object;
    s.anonymous = true;
    s.atom = id;
    s.size = atom.size;
    graph_.symbols.push_back(std::move(s));
  }
  for (uint32_t index : names) {
    const elf::Symbol& from = symbol(index);
    elf::AtomSymbol s;
    s.name = from.name;
    s.version = from.version;
    s.file = file_of_[index];
    s.type = from.type;
    s.bind = from.bind;
    s.visibility = from.visibility;
    s.atom = id;
    s.offset = from.value - bounds.start;
    s.size = from.size;
    symbol_ids_[index] = static_cast<AtomSymbolId>(graph_.symbols.size());
    graph_.symbols.push_back(std::move(s));
  }
  graph_.atoms.push_back(std::move(atom));
  placed_[section.index].push_back({bounds.start, bounds.end, id});
  return id;
}

void Splitter::make_atoms(const elf::Section& section, const std::vector<uint64_t>& targets) {
  for (const Bounds& b : find_bounds(object_, section, symbols_in_[section.index], targets)) {
    make_atom(section, b);
  }
}

void Splitter::cut_code() {
  for (const elf::Section* s : sections_) {
    if (s->has(elf::kExec)) {
      make_atoms(*s, {});
    }
  }
}

void Splitter::cut_data() {
  // Where references through section symbols lead. A PC-relative entry of a table counts from the
  // table's start, which is not known yet, so only code and absolute fields are asked.
  std::map<uint32_t, std::vector<uint64_t>> targets;
  for (const elf::Section* s : sections_) {
    bool code = s->has(elf::kExec);
    for (const elf::Relocation& r : object_.relocations(*s)) {
      const elf::Symbol& to = symbol(r.symbol);
      const elf::RelocTraits* traits = elf::find_traits(r.type);
      if (!is_place(to) || to.section >= placed_.size() || traits == nullptr || traits->via_got ||
          (traits->pc_relative && !code)) {
        continue;
      }
      int64_t offset = static_cast<int64_t>(to.value) + r.addend;
      if (traits->pc_relative) {
        const Placed* container = find_placed(s->index, r.offset);
        if (container == nullptr) {
          continue;
        }
        uint64_t at = r.offset - container->start;
        auto end = code_map(container->atom)->instruction_end(at);
        offset += static_cast<int64_t>(end.value_or(at + traits->width) - at);
      }
      if (offset >= 0) {
        targets[to.section].push_back(static_cast<uint64_t>(offset));
      }
    }
  }
  for (const elf::Section* s : sections_) {
    if (!s->has(elf::kExec)) {
      std::vector<uint64_t>& t = targets[s->index];
      std::sort(t.begin(), t.end());
      t.erase(std::unique(t.begin(), t.end()), t.end());
      make_atoms(*s, t);
    }
  }
}

void Splitter::place_commons() {
  for (const elf::Symbol& s : object_.symbols()) {
    if (s.section != elf::kCommon) {
      continue;
    }
    auto id = static_cast<AtomId>(graph_.atoms.size());
    elf::Atom atom;
    atom.kind = AtomKind::Variable;
    atom.storage = s.type == elf::SymbolType::Tls ? elf::Storage::TlsBss : elf::Storage::Bss;
    atom.alignment = std::max<uint64_t>(s.value, 1);
    atom.size = s.size;
    atom.section = "COMMON";
    atom.symbol = static_cast<AtomSymbolId>(graph_.symbols.size());
    elf::AtomSymbol own;
    own.name = s.name;
    own.type = s.type == elf::SymbolType::Common ? elf::SymbolType::Object : s.type;
    own.bind = s.bind;
    own.visibility = s.visibility;
    own.atom = id;
    own.size = s.size;
    symbol_ids_[s.index] = atom.symbol;
    graph_.symbols.push_back(std::move(own));
    graph_.atoms.push_back(std::move(atom));
  }
}

const Placed* Splitter::find_placed(uint32_t section, uint64_t offset) const {
  const auto& list = placed_[section];
  auto it = std::upper_bound(list.begin(), list.end(), offset,
                             [](uint64_t at, const Placed& p) { return at < p.start; });
  if (it == list.begin() || offset >= std::prev(it)->end) {
    return nullptr;
  }
  return &*std::prev(it);
}

// Like find_placed, but a reference may also lead one past the end, into padding, or (biased
// indexes) before the first thing.
const Placed* Splitter::find_target(uint32_t section, int64_t offset) const {
  const auto& list = placed_[section];
  if (list.empty()) {
    return nullptr;
  }
  auto it = std::upper_bound(list.begin(), list.end(), offset, [](int64_t at, const Placed& p) {
    return at < static_cast<int64_t>(p.start);
  });
  return it == list.begin() ? &list.front() : &*std::prev(it);
}

const CodeMap* Splitter::code_map(AtomId atom) {
  const elf::Atom& a = graph_.atoms[atom];
  if (a.storage != elf::Storage::Text) {
    return nullptr;
  }
  auto it = maps_.find(atom);
  if (it == maps_.end()) {
    it = maps_.emplace(atom, CodeMap(a.bytes)).first;
  }
  return &it->second;
}

AtomSymbolId Splitter::outside_symbol(uint32_t index) {
  if (!symbol_ids_[index]) {
    const elf::Symbol& from = symbol(index);
    elf::AtomSymbol s;
    s.name = from.name;
    s.version = from.version;
    s.type = from.type;
    s.bind = from.bind;
    s.visibility = from.visibility;
    symbol_ids_[index] = static_cast<AtomSymbolId>(graph_.symbols.size());
    graph_.symbols.push_back(std::move(s));
  }
  return *symbol_ids_[index];
}

std::optional<elf::Ref> Splitter::make_reference(const elf::Relocation& r,
                                                 const elf::Section& section,
                                                 const Placed& container) {
  const elf::Symbol& to = symbol(r.symbol);
  elf::Ref ref{r.offset - container.start, r.type, 0, r.addend};
  std::string where = fmt::format("{}+{:#x}", section.name, r.offset);
  if (to.section == elf::kUndefined || to.section == elf::kCommon) {
    ref.symbol = outside_symbol(r.symbol);
    return ref;
  }
  if (to.section >= placed_.size()) {
    report_.refuse("object-unsupported", where,
                   fmt::format("it refers to the absolute symbol {}", to.name));
    return std::nullopt;
  }
  if (!is_place(to) && symbol_ids_[r.symbol]) {
    AtomId atom = *graph_.symbols[*symbol_ids_[r.symbol]].atom;
    ref.symbol = graph_.atoms[atom].symbol;
    ref.addend += static_cast<int64_t>(graph_.symbols[*symbol_ids_[r.symbol]].offset);
    return ref;
  }
  int64_t base = static_cast<int64_t>(to.value);
  const elf::RelocTraits* traits = elf::find_traits(r.type);
  // A label of the compiler is exact; of a section symbol only the sum says what is meant.
  bool by_sum = is_place(to) && traits != nullptr && !traits->via_got;
  int64_t offset = base;
  if (by_sum) {
    offset += target_offset(ref, graph_.atoms[container.atom], code_map(container.atom));
  }
  const Placed* target = find_target(to.section, offset);
  if (target == nullptr) {
    report_.refuse("object-unsupported", where,
                   fmt::format("it refers to the section {}, which holds nothing",
                               object_.sections()[to.section].name));
    return std::nullopt;
  }
  ref.symbol = graph_.atoms[target->atom].symbol;
  ref.addend += base - static_cast<int64_t>(target->start);
  return ref;
}

void Splitter::make_references() {
  for (const elf::Section* s : sections_) {
    for (const elf::Relocation& r : object_.relocations(*s)) {
      if (r.type == elf::RelocType::None) {
        continue;  // asks the linker to keep a section; it has no field
      }
      const Placed* container = find_placed(s->index, r.offset);
      const elf::RelocTraits* traits = elf::find_traits(r.type);
      if (container == nullptr ||
          (traits != nullptr && r.offset + traits->width > container->end)) {
        report_.refuse("object-unsupported", fmt::format("{}+{:#x}", s->name, r.offset),
                       "a relocation outside of everything that has a name or a size");
        continue;
      }
      if (auto ref = make_reference(r, *s, *container)) {
        graph_.atoms[container->atom].refs.push_back(*ref);
      }
    }
  }
  for (elf::Atom& a : graph_.atoms) {
    std::stable_sort(a.refs.begin(), a.refs.end(),
                     [](const elf::Ref& x, const elf::Ref& y) { return x.at < y.at; });
  }
}

// Those of unwind entries name code, a personality or an LSDA. A type that asks for anything else
// (the GOT, the size of a symbol) would be read as one of these.
void Splitter::check_frame_relocations() {
  using elf::RelocType;
  static const std::set<RelocType> plain = {RelocType::None, RelocType::R32,  RelocType::R32S,
                                            RelocType::R64,  RelocType::PC32, RelocType::PC64,
                                            RelocType::PLT32};
  const elf::Section* frames = object_.find_section(".eh_frame");
  if (frames == nullptr) {
    return;
  }
  for (const elf::Relocation& r : object_.relocations(*frames)) {
    if (!plain.contains(r.type)) {
      report_.refuse("object-unsupported", fmt::format(".eh_frame+{:#x}", r.offset),
                     fmt::format("an unwind entry with a relocation of type {}",
                                 static_cast<uint32_t>(r.type)));
    }
  }
}

void Splitter::make_frames() {
  check_frame_relocations();
  for (const elf::FrameRecord& record : elf::read_frame_records(object_)) {
    const Placed* container =
        record.section < placed_.size() ? find_placed(record.section, record.offset) : nullptr;
    if (container == nullptr) {
      if (record.size != 0) {
        report_.refuse("object-unsupported", fmt::format(".eh_frame, {:#x}", record.offset),
                       "an unwind entry that describes no function");
      }
      continue;
    }
    elf::FrameEntry entry;
    entry.offset = record.offset - container->start;
    entry.size = record.size;
    entry.cie = record.cie;
    entry.instructions = record.instructions;
    // The pointers of a record are read one by one, like those of an LSDA: where they lead is S +
    // A.
    auto reference = [&](const elf::Relocation& r) -> std::optional<elf::Ref> {
      const elf::Symbol& to = symbol(r.symbol);
      elf::Ref ref{0, r.type, 0, r.addend};
      if (to.section >= placed_.size() || to.section == elf::kUndefined) {
        ref.symbol = outside_symbol(r.symbol);
        return ref;
      }
      int64_t offset = static_cast<int64_t>(to.value) + r.addend;
      const Placed* target = find_target(to.section, offset);
      if (target == nullptr) {
        return std::nullopt;
      }
      ref.symbol = graph_.atoms[target->atom].symbol;
      ref.addend = offset - static_cast<int64_t>(target->start);
      return ref;
    };
    if (record.personality) {
      entry.personality = reference(*record.personality);
    }
    if (record.lsda) {
      entry.lsda = reference(*record.lsda);
    }
    graph_.atoms[container->atom].frames.push_back(std::move(entry));
  }
  for (elf::Atom& a : graph_.atoms) {
    std::stable_sort(
        a.frames.begin(), a.frames.end(),
        [](const elf::FrameEntry& x, const elf::FrameEntry& y) { return x.offset < y.offset; });
  }
}

void Splitter::take_sections_apart() {
  for (const elf::Section* s : sections_) {
    if (s->has(elf::kExec) && placed_[s->index].size() > 1) {
      take_apart(graph_, placed_[s->index], s->name, report_);
    }
  }
}

void Splitter::note_declarations() {
  for (elf::StaticLocal& local : elf::read_static_locals(object_)) {
    const Placed* placed =
        local.section < placed_.size() ? find_placed(local.section, local.offset) : nullptr;
    if (placed != nullptr && placed->start == local.offset) {
      graph_.atoms[placed->atom].declared_in = std::move(local.function);
      graph_.atoms[placed->atom].declared_at = std::move(local.place);
    }
  }
}

elf::AtomGraph Splitter::run() {
  choose_sections();
  cut_code();
  cut_data();
  place_commons();
  make_references();
  make_frames();
  take_sections_apart();
  note_declarations();
  find_pieces(graph_, [&](AtomId id) { return code_map(id); });
  return std::move(graph_);
}

}  // namespace

elf::AtomGraph split(const elf::File& object, Report& report) {
  if (object.type() != elf::FileType::Relocatable) {
    throw bad_file(object.name(), "not a relocatable object (.o)");
  }
  return Splitter(object, report).run();
}

}  // namespace qp::objdiff
