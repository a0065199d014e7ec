// What a target says about its own symbols: .symtab with FILE scopes, .dynsym, PLT stubs, and what
// ld.so writes into its data.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.h"
#include "elf/file.h"
#include "match/name_sources.h"

namespace qp::match {

// Where a name comes from: the target, its debug file, its .gnu_debugdata, its .dynsym, a stub, or
// code that was proven.
enum class Source : uint8_t { SymTab, DebugFile, MiniDebug, DynSym, Plt, Proof };

struct MapEntry {
  std::string name;
  std::string file;    // FILE scope (as in the FILE symbol) of a local symbol, else ""
  uint32_t scope = 0;  // number of the FILE scope, since two files can have one name; 0: global
  LinkAddr address;    // TLS: st_value, an offset in the TLS block
  uint64_t size = 0;
  elf::SymbolType type = elf::SymbolType::NoType;
  elf::SymbolBind bind = elf::SymbolBind::Local;
  Source source = Source::SymTab;
};

// An imported function's stub, or an imported symbol's GOT slot. One per name and version; a
// nameless one per IFUNC that the target resolves for itself.
struct ImportEntry {
  std::string name, version;
  LinkAddr stub;  // 0 if there is none
  LinkAddr slot;  // 0 if there is none; of several the one that is filled when the program starts
  LinkAddr own;   // where the target itself defines it (IFUNC: the resolver); 0: it does not
  bool ifunc = false;    // what the slot gets is the result of the resolver at `own`
  bool defined = false;  // the target itself defines it; TLS: `own` is an offset, which may be 0
};

// What ld.so writes to a place of the target when it starts.
struct DynamicValue {
  enum class Kind : uint8_t {
    Address,       // bias + address
    Import,        // address of imports()[import] + addend
    TpOffset,      // offset from the thread pointer: of import + addend, or addend in this module
    ModuleId,      // TLS module number of import, or of this module; addend: of the word behind it
    ModuleOffset,  // offset in the TLS block of the module, as TpOffset
    Descriptor,    // two words of a TLS descriptor, as TpOffset
    Other,         // COPY, or something this table does not understand
  } kind = Kind::Other;
  LinkAddr at;
  LinkAddr address;
  std::optional<uint32_t> import;
  int64_t addend = 0;
};

// A symbol that a shared library defines for everybody. ld.so may give another module's definition
// of that name to the library's own code (it is preemptible), unless it is linked -Bsymbolic.
struct Export {
  std::string name, version;
  LinkAddr address;  // TLS: st_value, an offset in the TLS block
  bool tls = false;
};

class SymbolMap {
 public:
  SymbolMap() = default;
  // `names` may hold what `target` lost.
  static SymbolMap from_file(const elf::File& target, const NameSources& names = {});
  static SymbolMap from_entries(std::vector<MapEntry> entries, std::vector<ImportEntry> imports,
                                bool has_symtab);

  const std::vector<MapEntry>& entries() const { return entries_; }  // by address
  const std::vector<ImportEntry>& imports() const { return imports_; }
  // All symbols are known. False: only exported ones and perhaps those of functions, and the rest has
  // to come from the code.
  bool has_symtab() const { return has_symtab_; }
  bool is_static() const { return is_static_; }  // nothing can be imported
  bool is_library() const { return is_library_; }
  bool is_fixed() const { return is_fixed_; }  // linked at the address where it runs
  // Whether a call of that address is one of a function that nobody defines, in a static program: a stub
  // whose slot no relocation fills.
  bool is_dead_stub(LinkAddr address) const;
  // Of a library: the preemptible definition of that name at that address (TLS: offset in the
  // block). Nullptr: there is none, so that the library's code uses its own.
  const Export* preemptible(std::string_view name, LinkAddr address, bool tls = false) const;
  // The dynamic relocation that names the preemptible symbol, as an import. Nullptr: nothing of the
  // library refers to it by name.
  const ImportEntry* import_of(const Export& symbol) const;
  // The target's GOT slot through which code reaches a thread-local variable by a relocation of
  // type `type` (TLSGD, GOTTPOFF, GOTPC32_TLSDESC): of a variable that is found by name, or of the
  // one at `offset` in the target's own TLS block. TLSLD: the slot for the block itself.
  std::optional<LinkAddr> find_tls_slot(elf::RelocType type, std::string_view name) const;
  std::optional<LinkAddr> find_tls_slot(elf::RelocType type, int64_t offset) const;

  std::vector<const MapEntry*> named(std::string_view name) const;  // all of that exact name
  // All whose name is equal but for the numbers of the compiler (names.h), exact names first.
  std::vector<const MapEntry*> similar(std::string_view name) const;
  std::vector<const MapEntry*> at(LinkAddr address) const;      // all that start there, not TLS
  const MapEntry* function_containing(LinkAddr address) const;  // by [address, +size)
  // The first start of an entry of type Func/NoType (text), or of an unwind record, above `address`;
  // bounds padding. A function that neither names nor unwind records tell anything about ends where
  // the next byte begins: the caller passes the function's `size`.
  std::optional<LinkAddr> next_start_after(LinkAddr address, uint64_t size) const;
  const ImportEntry* import_named(std::string_view name) const;
  const ImportEntry* import_by_stub(LinkAddr stub) const;
  const ImportEntry* import_by_slot(LinkAddr slot) const;
  const DynamicValue* dynamic_value_at(LinkAddr place) const;
  // What the program headers say; true if there are none to ask (from_entries).
  bool is_constant(LinkRange range) const;  // nothing of it is written after the start
  bool is_writable(LinkAddr at) const;
  bool is_executable(LinkAddr at) const;
  // What is executable behind the code, up to the end of the page (elf::File::tail_of).
  const std::vector<LinkRange>& code_tails() const { return code_tails_; }
  std::vector<LinkRange> executable_ranges() const;  // what the file has of them, by address
  // The range of the unwind record that covers `at`: a function or a piece of one, stripped or not.
  std::optional<LinkRange> frame_containing(LinkAddr at) const;
  // Whether any FILE symbol with a name is there. Linkers and strip can drop them all (`ld -x`).
  bool has_files() const;
  // Whether local symbols of objects are there. `strip -x` drops them and keeps the FILE symbols.
  bool keeps_locals() const;
  // Numbers of the FILE scopes named `file` (base name comparison), ascending.
  std::vector<uint32_t> scopes_named(std::string_view file) const;

 private:
  using HashIndex = std::vector<std::pair<uint64_t, uint32_t>>;     // (hash, index), sorted
  using AddressIndex = std::vector<std::pair<LinkAddr, uint32_t>>;  // (address, index), sorted

  void read_segments(const elf::File& file);
  void read_symbols(const elf::File& file, Source source);
  void read_dynamic_symbols(const elf::File& file);
  void read_relocations(const elf::File& file);                                // imports.cc
  void read_stubs(const elf::File& file);                                      // imports.cc
  void read_entry_point(const elf::File& file);                                // entry_point.cc
  void read_exports(const elf::File& file);                                    // exports.cc
  bool is_tls_slot(const DynamicValue& value, DynamicValue::Kind kind) const;  // exports.cc
  uint32_t import_index(std::string_view name, std::string_view version);      // imports.cc
  void make_indexes();

  std::vector<MapEntry> entries_;
  std::vector<ImportEntry> imports_;
  std::vector<DynamicValue> dynamic_;                     // by place
  std::vector<std::pair<std::string, uint32_t>> scopes_;  // (base name, number), sorted
  HashIndex plain_names_;                                 // into entries_
  AddressIndex functions_;                                // into entries_: with a size
  std::vector<LinkAddr> function_ends_;                   // greatest end up to there
  std::vector<LinkAddr> text_starts_;
  std::vector<LinkRange> frames_;                 // of unwind records
  AddressIndex stubs_, slots_;                    // into imports_
  std::map<std::string, uint32_t> import_names_;  // "name" NUL "version"
  struct Region {
    LinkRange range;
    bool writable, executable;
    LinkAddr file_end;  // behind it is what the kernel fills with zeros
  };
  std::vector<Region> regions_;  // PT_LOAD
  std::vector<LinkRange> relro_, code_tails_;
  std::vector<LinkAddr> dead_stubs_;
  std::vector<Export> exports_;  // of a library, by name
  bool has_symtab_ = false, is_static_ = false, is_library_ = false, is_fixed_ = false;
};

}  // namespace qp::match
