// The symbols of a linked file, made searchable.
//
// A symbol table of a linked program is a flat list with a convention: an entry of type FILE begins
// a scope, the local symbols behind it came out of that source file, and the global symbols follow
// after all locals (gABI, "Symbol Table": locals precede the others, sh_info says where they end).
// Two files can have the same name, so a scope is a number and a name. Hidden globals became locals
// when the program was linked; they stand behind the last FILE entry, or behind one without a name,
// and so a local entry whose file does not fit may still be a global of an object.
//
// What is promised: lookups by name, by name without compiler numbers, and by address cost a binary
// search; a 50 MB program has some hundred thousand entries. TLS symbols are offsets and not
// addresses: they take part in lookups by name only. Nothing of the file is believed but what
// elf::File checked; sizes that overflow are cut.

#include "match/symbol_map.h"

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "elf/frame_ranges.h"
#include "match/names.h"

namespace qp::match {
namespace {

uint64_t name_hash(std::string_view plain) {
  return std::hash<std::string_view>()(plain);
}

bool is_text_symbol(const MapEntry& entry) {
  return entry.type == elf::SymbolType::Func || entry.type == elf::SymbolType::GnuIfunc;
}

LinkAddr end_of(const MapEntry& entry) {
  const uint64_t room = ~uint64_t{0} - entry.address.value;
  return entry.address + std::min(entry.size, room);
}

bool is_nameable(const elf::Symbol& symbol) {
  return symbol.defined() && !symbol.name.empty() && symbol.type != elf::SymbolType::Section &&
         symbol.type != elf::SymbolType::File && symbol.type != elf::SymbolType::Common;
}

}  // namespace

SymbolMap SymbolMap::from_file(const elf::File& target, const NameSources& names) {
  SymbolMap map;
  map.is_static_ = target.is_static();
  map.is_library_ = target.is_library();
  map.is_fixed_ = target.type() == elf::FileType::Executable;
  const bool lost = target.symbols().empty() && names.debug;
  const elf::File& named = lost ? *names.debug : target;
  map.has_symtab_ = !named.symbols().empty();
  map.read_segments(target);
  map.frames_ = elf::read_frame_ranges(target);
  map.read_symbols(named, lost ? Source::DebugFile : Source::SymTab);
  if (!map.has_symtab_ && names.mini) {
    map.read_symbols(*names.mini, Source::MiniDebug);
  }
  map.read_dynamic_symbols(target);
  map.read_relocations(target);
  map.read_stubs(target);
  map.read_entry_point(target);
  map.read_exports(target);
  map.make_indexes();
  return map;
}

SymbolMap SymbolMap::from_entries(std::vector<MapEntry> entries, std::vector<ImportEntry> imports,
                                  bool has_symtab) {
  SymbolMap map;
  map.entries_ = std::move(entries);
  map.has_symtab_ = has_symtab;
  for (const MapEntry& entry : map.entries_) {
    if (entry.scope != 0) {
      map.scopes_.emplace_back(base_name(entry.file), entry.scope);
    }
  }
  map.imports_ = std::move(imports);
  for (uint32_t i = 0; i < map.imports_.size(); ++i) {
    const ImportEntry& import = map.imports_[i];
    map.import_names_.emplace(import.name + '\0' + import.version, i);
    if (import.stub.value != 0) {
      map.stubs_.emplace_back(import.stub, i);
    }
    if (import.slot.value != 0) {
      map.slots_.emplace_back(import.slot, i);
      map.dynamic_.push_back({DynamicValue::Kind::Import, import.slot, {}, i, 0});
    }
  }
  map.make_indexes();
  return map;
}

void SymbolMap::read_segments(const elf::File& file) {
  for (const elf::Segment& segment : file.segments()) {
    const uint64_t room = ~uint64_t{0} - segment.address.value;
    const LinkRange range{segment.address, segment.address + std::min(segment.memory_size, room)};
    if (segment.type == elf::SegmentType::Load) {
      if ((segment.flags & elf::kSegX) != 0) {
        code_tails_.push_back(file.tail_of(segment));
      }
      regions_.push_back({range, (segment.flags & elf::kSegW) != 0,
                          (segment.flags & elf::kSegX) != 0,
                          segment.address + std::min(segment.file_size, range.size())});
    } else if (segment.type == elf::SegmentType::GnuRelro) {
      relro_.push_back(range);
    }
  }
}

void SymbolMap::read_symbols(const elf::File& file, Source source) {
  std::string scope_file;
  uint32_t scope = 0;
  entries_.reserve(file.symbols().size());
  for (const elf::Symbol& symbol : file.symbols()) {
    if (symbol.type == elf::SymbolType::File) {
      scope_file = symbol.name;
      scopes_.emplace_back(base_name(scope_file), ++scope);
      continue;
    }
    if (!is_nameable(symbol)) {
      continue;
    }
    MapEntry entry;
    entry.name = symbol.name;
    if (symbol.bind == elf::SymbolBind::Local) {
      entry.file = scope_file;
      entry.scope = scope;
    }
    entry.address = LinkAddr(symbol.value);
    entry.size = symbol.size;
    entry.type = symbol.type;
    entry.bind = symbol.bind;
    entry.source = source;
    entries_.push_back(std::move(entry));
  }
}

void SymbolMap::read_dynamic_symbols(const elf::File& file) {
  std::unordered_multimap<uint64_t, uint32_t> known;  // by address
  known.reserve(entries_.size());
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    known.emplace(entries_[i].address.value, i);
  }
  for (const elf::Symbol& symbol : file.dynamic_symbols()) {
    if (!is_nameable(symbol)) {
      continue;
    }
    const auto [first, last] = known.equal_range(symbol.value);
    if (std::any_of(first, last,
                    [&](const auto& k) { return entries_[k.second].name == symbol.name; })) {
      continue;
    }
    MapEntry entry;
    entry.name = symbol.name;
    entry.address = LinkAddr(symbol.value);
    entry.size = symbol.size;
    entry.type = symbol.type;
    entry.bind = symbol.bind;
    entry.source = Source::DynSym;
    entries_.push_back(std::move(entry));
  }
}

void SymbolMap::make_indexes() {
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const MapEntry& a, const MapEntry& b) { return a.address < b.address; });
  plain_names_.reserve(entries_.size());
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    const MapEntry& entry = entries_[i];
    plain_names_.emplace_back(name_hash(plain_name(entry.name)), i);
    if (is_text_symbol(entry) && entry.size != 0) {
      functions_.emplace_back(entry.address, i);
      function_ends_.push_back(
          function_ends_.empty() ? end_of(entry) : std::max(function_ends_.back(), end_of(entry)));
    }
    if (is_text_symbol(entry) || entry.type == elf::SymbolType::NoType) {
      text_starts_.push_back(entry.address);
    }
  }
  std::sort(plain_names_.begin(), plain_names_.end());
  std::sort(scopes_.begin(), scopes_.end());
  scopes_.erase(std::unique(scopes_.begin(), scopes_.end()), scopes_.end());
  std::sort(stubs_.begin(), stubs_.end());
  std::sort(slots_.begin(), slots_.end());
  std::stable_sort(dynamic_.begin(), dynamic_.end(),
                   [](const DynamicValue& a, const DynamicValue& b) { return a.at < b.at; });
}

std::vector<const MapEntry*> SymbolMap::similar(std::string_view name) const {
  std::vector<const MapEntry*> found;
  const std::string plain = plain_name(name);
  const uint64_t hash = name_hash(plain);
  for (auto at = std::lower_bound(plain_names_.begin(), plain_names_.end(),
                                  std::pair<uint64_t, uint32_t>(hash, 0));
       at != plain_names_.end() && at->first == hash; ++at) {
    if (plain_name(entries_[at->second].name) == plain) {
      found.push_back(&entries_[at->second]);
    }
  }
  std::stable_partition(found.begin(), found.end(),
                        [&](const MapEntry* entry) { return entry->name == name; });
  return found;
}

std::vector<const MapEntry*> SymbolMap::named(std::string_view name) const {
  std::vector<const MapEntry*> found = similar(name);
  std::erase_if(found, [&](const MapEntry* entry) { return entry->name != name; });
  return found;
}

std::vector<const MapEntry*> SymbolMap::at(LinkAddr address) const {
  std::vector<const MapEntry*> found;
  for (auto at = std::lower_bound(
           entries_.begin(), entries_.end(), address,
           [](const MapEntry&entry, LinkAddr wanted) { return entry.address < wanted; });
       at != entries_.end() && at->address == address; ++at) {
    if (at->type != elf::SymbolType::Tls) {
      found.push_back(&*at);
    }
  }
  return found;
}

const MapEntry* SymbolMap::function_containing(LinkAddr address) const {
  auto above = std::upper_bound(functions_.begin(), functions_.end(), address,
                                [](LinkAddr wanted, const auto& f) { return wanted < f.first; });
  // Functions can overlap (labels in assembly): look back as long as something reaches that far.
  for (auto i = static_cast<size_t>(above - functions_.begin()); i > 0; --i) {
    if (function_ends_[i - 1] <= address) {
      break;
    }
    const MapEntry& entry = entries_[functions_[i - 1].second];
    if (address < end_of(entry)) {
      return &entry;
    }
  }
  return nullptr;
}

std::optional<LinkAddr> SymbolMap::next_start_after(LinkAddr address, uint64_t size) const {
  const auto symbol = std::upper_bound(text_starts_.begin(), text_starts_.end(), address);
  const auto frame = std::upper_bound(
      frames_.begin(), frames_.end(), address,
      [](LinkAddr wanted, const LinkRange& range) { return wanted < range.start; });
  std::optional<LinkAddr> next;
  if (symbol != text_starts_.end()) {
    next = *symbol;
  }
  if (frame != frames_.end() && (!next || frame->start < *next)) {
    next = frame->start;
  }
  const bool unknown = !regions_.empty() && !has_symtab_ && !frame_containing(address);
  return unknown ? std::optional(address + size) : next;
}

std::vector<LinkRange> SymbolMap::executable_ranges() const {
  std::vector<LinkRange> ranges;
  for (const Region& region : regions_) {
    if (region.executable) {
      ranges.push_back({region.range.start, region.file_end});
    }
  }
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

std::optional<LinkRange> SymbolMap::frame_containing(LinkAddr at) const {
  const auto above = std::upper_bound(
      frames_.begin(), frames_.end(), at,
      [](LinkAddr wanted, const LinkRange& range) { return wanted < range.start; });
  if (above == frames_.begin() || !std::prev(above)->contains(at)) {
    return std::nullopt;
  }
  return *std::prev(above);
}

bool SymbolMap::is_constant(LinkRange range) const {
  const auto covers = [&](LinkRange outer) {
    return outer.start <= range.start && range.end <= outer.end;
  };
  return regions_.empty() || std::any_of(relro_.begin(), relro_.end(), covers) ||
         std::any_of(regions_.begin(), regions_.end(),
                     [&](const Region& r) { return !r.writable && covers(r.range); });
}

bool SymbolMap::is_writable(LinkAddr at) const {
  return regions_.empty() || std::any_of(regions_.begin(), regions_.end(), [&](const Region& r) {
           return r.writable && r.range.contains(at);
         });
}

bool SymbolMap::is_executable(LinkAddr at) const {
  return regions_.empty() || std::any_of(regions_.begin(), regions_.end(), [&](const Region& r) {
           return r.executable && r.range.contains(at);
         });
}

bool SymbolMap::has_files() const {
  return std::any_of(scopes_.begin(), scopes_.end(),
                     [](const auto& scope) { return !scope.first.empty(); });
}

bool SymbolMap::keeps_locals() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const MapEntry& entry) {
    return entry.bind == elf::SymbolBind::Local && !entry.file.empty() &&
           entry.type != elf::SymbolType::NoType;
  });
}

std::vector<uint32_t> SymbolMap::scopes_named(std::string_view file) const {
  std::vector<uint32_t> numbers;
  const std::string base(base_name(file));
  for (auto at = std::lower_bound(scopes_.begin(), scopes_.end(), std::pair(base, uint32_t{0}));
       at != scopes_.end() && at->first == base; ++at) {
    numbers.push_back(at->second);
  }
  return numbers;
}

}  // namespace qp::match
