// Reads a patch file, trusting nothing in it.
//
// A patch is code that will run in somebody's database; but long before that it is a file from a
// network, read by a tool that runs as root. So reading has two layers. The first makes values out
// of bytes: each read is bounded (elf, Decoder), each number is compared with its limit, nothing is
// allocated that the file's size does not account for. The second (check.cc) asks whether the
// values make sense together. On top of that the file says some things twice, and they must agree:
// what refers to the running program is in the relocation tables and in diffdata; the name of a
// symbol is in the graph and in the table of the program.

#include <fmt/format.h>

#include "base/error.h"
#include "format/check.h"
#include "format/encoding.h"
#include "format/file.h"
#include "format/graph.h"
#include "format/layout.h"

namespace qp::format {
namespace {

using elf::AtomGraph;
using elf::Binding;
using elf::BindingKind;
using elf::File;
using elf::Section;
using elf::SectionType;

constexpr size_t kLongestVersion = 512;

class PatchReader {
 public:
  explicit PatchReader(const File& file) : file_(file) {}

  Patch read() {
    parse_meta(content(kMeta), file_.name(), patch_);
    patch_.fresh = decode_graph(file_, kSymtabDst);
    patch_.old = read_graph(copy(content(kOld)), file_.name() + " " + kOld);
    read_source_table();
    check_diffdata();
    check_patch(patch_, file_.name());
    return std::move(patch_);
  }

 private:
  ByteView content(const char* name, SectionType type = SectionType::ProgBits) const {
    return file_.content(demand_section(file_, name, type));
  }
  Error fail(std::string_view what) const { return bad_file(file_.name(), what); }

  void read_source_table() {
    source_ = elf::decode_symtab(content(kSymtabSrc, SectionType::DynSym),
                                 content(kStrtabSrc, SectionType::StrTab), file_.name());
    Decoder in(content(kBindings), file_.name(), kBindings);
    uint64_t entries = in.count();
    if (source_.size() != entries + 1) {
      throw fail(fmt::format("{} and {} have different sizes", kSymtabSrc, kBindings));
    }
    std::vector<Binding> bindings(1);
    std::vector<std::string> files(1);
    for (uint64_t i = 1; i <= entries; ++i) {
      bindings.push_back(read_binding(in, source_[i], files));
    }
    fresh_numbers_ = read_numbers(in, patch_.fresh, bindings, files, patch_.fresh_bindings);
    read_numbers(in, patch_.old, bindings, files, patch_.old_bindings);
    in.finish();
  }

  Binding read_binding(Decoder& in, elf::Symbol& symbol, std::vector<std::string>& files) const {
    Binding b;
    b.kind = static_cast<BindingKind>(in.byte());
    b.evidence = static_cast<elf::Evidence>(in.byte());
    files.push_back(in.text());
    b.version = in.text();
    if (b.version.size() > kLongestVersion) {  // it is copied to every symbol that uses it
      throw fail("a version is implausibly long");
    }
    b.stub = LinkAddr(in.number());
    b.got_slot = LinkAddr(in.number());
    uint32_t section = elf::kAbsolute;
    switch (b.kind) {
      case BindingKind::Address:
        b.address = LinkAddr(symbol.value);
        break;
      case BindingKind::TlsSlot:
        break;
      case BindingKind::TpOffset:
      case BindingKind::ModuleOffset:
        b.tp_offset = static_cast<int64_t>(symbol.value);
        break;
      case BindingKind::Import:
        section = elf::kUndefined;
        break;
      default:
        throw fail(fmt::format("the binding of '{}' is of no known kind", symbol.name));
    }
    std::string suffix = b.version.empty() ? "" : "@" + b.version;
    if (symbol.section != section || !symbol.name.ends_with(suffix)) {
      throw fail(fmt::format("'{}' in {} contradicts its binding", symbol.name, kSymtabSrc));
    }
    symbol.name.resize(symbol.name.size() - suffix.size());
    return b;
  }

  SourceNumbers read_numbers(Decoder& in, const AtomGraph& graph,
                             const std::vector<Binding>& bindings,
                             const std::vector<std::string>& files, std::vector<Binding>& out) {
    SourceNumbers numbers;
    if (in.count() != graph.symbols.size()) {
      throw fail("it does not have one binding per symbol");
    }
    for (const elf::AtomSymbol& s : graph.symbols) {
      uint64_t n = in.below(bindings.size(), "a symbol of the program");
      if (n != 0 && (source_[n].name != s.name || files[n] != s.file)) {
        throw fail(fmt::format("symbol '{}' is bound to '{}'", s.name, source_[n].name));
      }
      numbers.push_back(static_cast<uint32_t>(n));
      out.push_back(bindings[n]);
    }
    return numbers;
  }

  void check_diffdata() const {
    auto given = elf::decode_rela(content(kDiffData, SectionType::Rela), file_.name());
    if (elf::encode_rela(given) != elf::encode_rela(make_diffdata(patch_.fresh, fresh_numbers_))) {
      throw fail(fmt::format("{} and the relocations of the sections differ", kDiffData));
    }
  }

  const File& file_;
  Patch patch_;
  std::vector<elf::Symbol> source_;
  SourceNumbers fresh_numbers_;
};

}  // namespace

Patch read_patch(Bytes bytes, const std::string& name) {
  return PatchReader(File::parse(std::move(bytes), name)).read();
}

}  // namespace qp::format
