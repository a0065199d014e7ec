// An atom graph as an ELF object, and back, without loss.
//
// A patch file should be readable with the tools that everybody has: `objdump -dr` shows the new
// functions with the names they refer to, `readelf -s` the symbols. So as much as possible is said
// in ELF's own words: an atom is a section (bytes, size, alignment, name; writable, executable,
// thread-local by its flags), a ref is a relocation, a symbol is a symbol, FILE symbols precede the
// locals of their file, and a version hangs on its name as in "memcpy@GLIBC_2.14". Only what ELF
// has no word for goes into .qpatch.atoms: kinds, the unwind entries, whose piece an atom is, which
// names are synthetic, which symbol is an atom's own, and which entry of the symbol table is which
// symbol of the graph (ELF wants locals first, the graph has its own order).
//
// Unwind entries are not written as .eh_frame: they would have to be taken apart again by the
// linker, which makes the .eh_frame of the image, with addresses that are known only then.
//
// The reader trusts nothing. The expensive trick of a hostile file is to name the same bytes many
// times (a thousand sections over one megabyte); therefore what all atoms hold together may not be
// more than the file, and zero-filled storage not more than could ever be placed.

#include "format/graph.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "format/encoding.h"

namespace qp::format {

using elf::Atom;
using elf::AtomGraph;
using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::FrameEntry;
using elf::OutSection;
using elf::OutSymbol;
using elf::Ref;
using elf::SectionType;
using elf::Storage;
using elf::SymbolBind;
using elf::SymbolType;

namespace {

constexpr uint64_t kMostZeros = uint64_t{1} << 30;  // an image lies within 2 GiB of its target

uint64_t section_flags(Storage storage) {
  switch (storage) {
    case Storage::Text:
      return elf::kAlloc | elf::kExec;
    case Storage::ReadOnly:
      return elf::kAlloc;
    case Storage::RelRo:
    case Storage::Data:
    case Storage::Bss:
      return elf::kAlloc | elf::kWrite;
    case Storage::TlsData:
    case Storage::TlsBss:
      return elf::kAlloc | elf::kWrite | elf::kTls;
  }
  throw Bug("unknown storage");
}

SectionType section_type(Storage storage) {
  return elf::has_bytes(storage) ? SectionType::ProgBits : SectionType::NoBits;
}

std::string versioned_name(const AtomSymbol& s) {
  return s.version.empty() ? s.name : s.name + "@" + s.version;
}

void encode_ref(Encoder& out, const std::optional<Ref>& ref) {
  out.number(ref ? 1 : 0);
  if (ref) {
    out.number(ref->at);
    out.number(static_cast<uint64_t>(ref->type));
    out.number(ref->symbol);
    out.signed_number(ref->addend);
  }
}

void encode_frame(Encoder& out, const FrameEntry& f) {
  out.number(f.offset);
  out.number(f.size);
  out.bytes(f.cie);
  out.bytes(f.instructions);
  encode_ref(out, f.personality);
  encode_ref(out, f.lsda);
}

// The graph's symbols in the order of an ELF file; fills `number` (of the file, per graph symbol).
std::vector<OutSymbol> order_symbols(const AtomGraph& graph, std::vector<uint32_t>& number) {
  std::vector<OutSymbol> out;
  number.resize(graph.symbols.size());
  auto add = [&](size_t i) {
    const AtomSymbol& s = graph.symbols[i];
    OutSymbol o;
    o.name = versioned_name(s);
    o.value = s.offset;
    o.size = s.size;
    o.type = s.type;
    o.bind = s.bind;
    o.visibility = s.visibility;
    o.section = s.atom ? *s.atom + 1 : elf::kUndefined;
    out.push_back(std::move(o));
    number[i] = static_cast<uint32_t>(out.size());
  };
  std::string scope;
  for (size_t i = 0; i < graph.symbols.size(); ++i) {
    const AtomSymbol& s = graph.symbols[i];
    if (s.bind != SymbolBind::Local) {
      continue;
    }
    if (s.file != scope) {
      scope = s.file;
      OutSymbol file;
      file.name = scope;
      file.type = SymbolType::File;
      file.section = elf::kAbsolute;
      out.push_back(std::move(file));
    }
    add(i);
  }
  for (size_t i = 0; i < graph.symbols.size(); ++i) {
    if (graph.symbols[i].bind != SymbolBind::Local) {
      add(i);
    }
  }
  return out;
}

class GraphReader {
 public:
  GraphReader(const elf::File& file, std::string_view symtab)
      : file_(file),
        in_(file.content(demand_section(file, kAtomsSection, SectionType::ProgBits)), file.name(),
            kAtomsSection) {
    const elf::Section& table = demand_section(file, symtab, SectionType::SymTab);
    table_ = elf::decode_symtab(file.content(table), file.content(file.sections()[table.link]),
                                file.name());
    if (table_.size() != file.symbols().size()) {
      throw bad_file(file.name(), "it has two symbol tables");
    }
  }

  AtomGraph read() {
    graph_.source = in_.text();
    uint64_t atoms = in_.count();
    if (atoms >= file_.sections().size()) {
      throw bad_file(file_.name(),
                     fmt::format("it has {} atoms in {} sections", atoms, file_.sections().size()));
    }
    check_total_size(atoms);
    for (uint64_t i = 0; i < atoms; ++i) {
      graph_.atoms.push_back(read_atom(static_cast<AtomId>(i)));
    }
    uint64_t symbols = in_.count();
    graph_id_.resize(table_.size());
    for (uint64_t i = 0; i < symbols; ++i) {
      graph_.symbols.push_back(read_symbol(static_cast<uint32_t>(i)));
    }
    in_.finish();
    for (uint32_t i = 1; i < table_.size(); ++i) {
      if (!graph_id_[i] && table_[i].type != SymbolType::File) {
        throw bad_file(file_.name(),
                       fmt::format("symbol {} ('{}') belongs to nothing", i, table_[i].name));
      }
    }
    for (AtomId i = 0; i < graph_.atoms.size(); ++i) {
      read_refs(i);
    }
    return std::move(graph_);
  }

 private:
  void check_total_size(uint64_t atoms) const {
    uint64_t bytes = 0, zeros = 0;
    for (const elf::Section& s : file_.sections()) {
      bool is_atom = s.index >= 1 && s.index <= atoms;
      if (is_atom && s.type == SectionType::NoBits) {
        zeros += std::min(s.size, kMostZeros + 1);
      } else if (is_atom || s.type == SectionType::Rela) {
        bytes += s.size;
      }
    }
    if (bytes > file_.bytes().size() || zeros > kMostZeros) {
      throw bad_file(file_.name(), "its atoms are larger than the file, or than can be placed");
    }
  }

  std::optional<Ref> read_ref() {
    if (!in_.flag()) {
      return std::nullopt;
    }
    Ref ref;
    ref.at = in_.number();
    ref.type = static_cast<elf::RelocType>(in_.below(uint64_t{1} << 32, "a relocation type"));
    ref.symbol = static_cast<elf::AtomSymbolId>(in_.below(table_.size(), "a symbol"));
    ref.addend = in_.signed_number();
    return ref;
  }

  Atom read_atom(AtomId id) {
    const elf::Section& s = file_.sections()[id + 1];
    Atom a;
    a.kind = static_cast<AtomKind>(
        in_.below(static_cast<uint64_t>(AtomKind::Anonymous) + 1, "the kind of an atom"));
    a.storage = static_cast<Storage>(
        in_.below(static_cast<uint64_t>(Storage::TlsBss) + 1, "the storage of an atom"));
    if (s.type != section_type(a.storage) || s.flags != section_flags(a.storage)) {
      throw bad_file(file_.name(), fmt::format("section {} ({}) is not of the kind of its atom",
                                               s.index, s.name));
    }
    a.alignment = s.alignment;
    a.size = s.size;
    a.bytes = copy(file_.content(s));
    a.section = s.name;
    a.symbol = static_cast<elf::AtomSymbolId>(in_.below(table_.size(), "the symbol of an atom"));
    uint64_t parent = in_.below(file_.sections().size(), "the parent of an atom");
    if (parent != 0) {
      a.parent = static_cast<AtomId>(parent - 1);
    }
    uint64_t frames = in_.count();
    for (uint64_t i = 0; i < frames; ++i) {
      FrameEntry f;
      f.offset = in_.number();
      f.size = in_.number();
      f.cie = in_.bytes();
      f.instructions = in_.bytes();
      f.personality = read_ref();
      f.lsda = read_ref();
      a.frames.push_back(std::move(f));
    }
    return a;
  }

  AtomSymbol read_symbol(uint32_t id) {
    auto number = static_cast<uint32_t>(in_.below(table_.size(), "a symbol"));
    if (number == 0 || graph_id_[number]) {
      throw bad_file(file_.name(), fmt::format("symbol {} is used twice", number));
    }
    graph_id_[number] = id;
    const elf::Symbol& raw = table_[number];
    AtomSymbol s;
    s.anonymous = in_.flag();
    s.version = in_.text();
    s.file = in_.text();
    s.name = raw.name;
    if (!s.version.empty()) {
      std::string suffix = "@" + s.version;
      if (!s.name.ends_with(suffix)) {
        throw bad_file(file_.name(),
                       fmt::format("symbol '{}' is not of version {}", s.name, s.version));
      }
      s.name.resize(s.name.size() - suffix.size());
    }
    s.type = raw.type;
    s.bind = raw.bind;
    s.visibility = raw.visibility;
    s.offset = raw.value;
    s.size = raw.size;
    if (raw.section != elf::kUndefined) {
      if (raw.section > graph_.atoms.size()) {
        throw bad_file(file_.name(), fmt::format("symbol '{}' is not in an atom", s.name));
      }
      s.atom = raw.section - 1;
    }
    return s;
  }

  void read_refs(AtomId id) {
    Atom& a = graph_.atoms[id];
    for (const elf::Relocation& r : file_.relocations(file_.sections()[id + 1])) {
      if (!graph_id_[r.symbol]) {
        throw bad_file(file_.name(),
                       fmt::format("a relocation of section {} names no symbol", a.section));
      }
      a.refs.push_back({r.offset, r.type, *graph_id_[r.symbol], r.addend});
    }
  }

  const elf::File& file_;
  Decoder in_;
  std::vector<elf::Symbol> table_;
  std::vector<std::optional<uint32_t>> graph_id_;  // per entry of the symbol table
  AtomGraph graph_;
};

}  // namespace

const elf::Section& demand_section(const elf::File& file, std::string_view name, SectionType type) {
  const elf::Section* section = file.find_section(name);
  if (section == nullptr || section->type != type) {
    throw bad_file(file.name(), fmt::format("it has no section {} of the right type", name));
  }
  return *section;
}

GraphParts encode_graph(const AtomGraph& graph) {
  GraphParts parts;
  std::vector<uint32_t> number;
  parts.symbols = order_symbols(graph, number);
  Encoder rest;
  rest.text(graph.source);
  rest.number(graph.atoms.size());
  for (const Atom& a : graph.atoms) {
    OutSection s;
    s.name = a.section;
    s.type = section_type(a.storage);
    s.flags = section_flags(a.storage);
    s.alignment = a.alignment;
    s.size = a.size;
    s.content = a.bytes;
    for (const Ref& r : a.refs) {
      s.relocations.push_back({r.at, r.type, number[r.symbol] - 1, r.addend});
    }
    parts.sections.push_back(std::move(s));
    rest.number(static_cast<uint64_t>(a.kind));
    rest.number(static_cast<uint64_t>(a.storage));
    rest.number(a.symbol);
    rest.number(a.parent ? *a.parent + uint64_t{1} : 0);
    rest.number(a.frames.size());
    for (const FrameEntry& f : a.frames) {
      encode_frame(rest, f);
    }
  }
  rest.number(graph.symbols.size());
  for (size_t i = 0; i < graph.symbols.size(); ++i) {
    const AtomSymbol& s = graph.symbols[i];
    rest.number(number[i]);
    rest.number(s.anonymous ? 1 : 0);
    rest.text(s.version);
    rest.text(s.file);
  }
  parts.rest.name = kAtomsSection;
  parts.rest.content = rest.finish();
  return parts;
}

AtomGraph decode_graph(const elf::File& file, std::string_view symtab) {
  if (file.type() != elf::FileType::Relocatable) {
    throw bad_file(file.name(), "it is not a relocatable file");
  }
  return GraphReader(file, symtab).read();
}

Bytes write_graph(const AtomGraph& graph) {
  GraphParts parts = encode_graph(graph);
  elf::OutFile out;
  out.sections = std::move(parts.sections);
  out.sections.push_back(std::move(parts.rest));
  out.symbols = std::move(parts.symbols);
  return elf::write_file(out);
}

AtomGraph read_graph(Bytes bytes, const std::string& name) {
  return decode_graph(elf::File::parse(std::move(bytes), name), ".symtab");
}

}  // namespace qp::format
