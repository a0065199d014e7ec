// How a patch finds symbols of other modules.
//
// The dynamic linker searches the modules of the link map in load order and takes the first
// definition that fits name and version. We do the same from outside: the link map is read from the
// process (r_debug, which DT_DEBUG of the executable points to), the symbol tables from the module
// files. Two short cuts come first, since they are what the process itself uses: a GOT slot of the
// target that is already bound, and (for IFUNC symbols, whose value is the outcome of code that ran
// in the process) a bound GOT slot of any module, or the slot that the defining library has for its
// own calls. A library can have such a slot for a version of the resolver only if it calls it.
//
// A lazily bound slot holds an address in its own module's PLT until the first call; such a value
// is not an answer. Everything that is read from the process is checked before it is believed: the
// chain of the link map is walked at most kMostModules steps, and an address counts only if it lies
// in an executable mapping of a module (functions).
//
// Sources: gABI chapter 5 "Dynamic Linking"; struct r_debug and link_map: glibc <link.h>, the
// first five members of which are the public interface to debuggers.

#include "apply/imports.h"

#include <algorithm>

#include <fmt/format.h>

namespace qp::apply {
namespace {

constexpr uint64_t kDtDebug = 21, kDtNull = 0;  // gABI figure 5-10
constexpr size_t kMostModules = 4096;

template <class T>
std::optional<T> peek(const MemoryReader& memory, LiveAddr at) {
  T value{};
  if (!memory.try_read(at, std::as_writable_bytes(std::span(&value, 1)))) {
    return std::nullopt;
  }
  return value;
}

std::optional<LiveAddr> find_r_debug(const proc::Process& process, const proc::Module& executable) {
  if (!executable.file) {
    return std::nullopt;
  }
  for (const elf::Segment& s : executable.file->segments()) {
    if (s.type != elf::SegmentType::Dynamic) {
      continue;
    }
    LiveAddr at = executable.bias(s.address);
    for (uint64_t i = 0; i + 16 <= s.memory_size; i += 16) {
      auto tag = peek<uint64_t>(process.memory(), at + i);
      auto value = peek<uint64_t>(process.memory(), at + i + 8);
      if (!tag || !value || *tag == kDtNull) {
        break;
      }
      if (*tag == kDtDebug && *value != 0) {
        return LiveAddr(*value);
      }
    }
  }
  return std::nullopt;
}

// l_addr of every module, in the order in which ld.so searches them.
std::vector<LoadBias> read_link_map(const proc::Process& process, const proc::Module& executable) {
  std::vector<LoadBias> order;
  auto debug = find_r_debug(process, executable);
  if (!debug) {
    return order;
  }
  auto map = peek<uint64_t>(process.memory(), *debug + 8);  // r_debug.r_map
  while (map && *map != 0 && order.size() < kMostModules) {
    auto bias = peek<uint64_t>(process.memory(), LiveAddr(*map));  // l_addr
    if (!bias) {
      break;
    }
    order.push_back(LoadBias{*bias});
    map = peek<uint64_t>(process.memory(), LiveAddr(*map) + 24);  // l_next
  }
  return order;
}

bool is_code_of(const proc::Module& module, LiveAddr address) {
  return std::any_of(module.executable.begin(), module.executable.end(),
                     [&](LiveRange r) { return r.contains(address); });
}

}  // namespace

ImportResolver::ImportResolver(const proc::Process& process,
                               const std::vector<proc::Module>& modules, const proc::Module& target)
    : process_(process), target_(target) {
  if (modules.empty()) {
    return;
  }
  for (LoadBias bias : read_link_map(process, modules.front())) {
    for (const proc::Module& m : modules) {
      if (m.bias == bias && m.file && std::find(scope_.begin(), scope_.end(), &m) == scope_.end()) {
        scope_.push_back(&m);
        break;
      }
    }
  }
  if (scope_.empty()) {  // no link map (static, or not started yet): the executable alone
    scope_.push_back(&modules.front());
  }
}

std::optional<LiveAddr> ImportResolver::from_slot(LiveAddr slot, const proc::Module& owner) const {
  auto value = peek<uint64_t>(process_.memory(), slot);
  if (!value || *value == 0 || is_code_of(owner, LiveAddr(*value))) {
    return std::nullopt;  // not bound yet: it leads to the owner's own PLT
  }
  return LiveAddr(*value);
}

std::optional<LiveAddr> ImportResolver::from_any_slot(const std::string& name,
                                                      const proc::Module& definer) const {
  for (const proc::Module* m : scope_) {
    if (m == &definer || !m->file) {
      continue;
    }
    const auto& symbols = m->file->dynamic_symbols();
    for (const elf::Relocation& r : m->file->dynamic_relocations()) {
      bool slot = r.type == elf::RelocType::JumpSlot || r.type == elf::RelocType::GlobDat;
      if (!slot || r.symbol >= symbols.size() || symbols[r.symbol].name != name) {
        continue;
      }
      auto value = from_slot(m->bias(LinkAddr(r.offset)), *m);
      if (value && is_code_of(definer, *value)) {
        return value;
      }
    }
  }
  return std::nullopt;
}

// A library that calls its own IFUNC has an IRELATIVE relocation with the address of the resolver (the
// symbol's value), and ld.so has put the resolver's answer into its slot.
std::optional<LiveAddr> ImportResolver::from_own_slot(LinkAddr resolver,
                                                      const proc::Module& definer) const {
  for (const elf::Relocation& r : definer.file->dynamic_relocations()) {
    if (r.type != elf::RelocType::IRelative || static_cast<uint64_t>(r.addend) != resolver.value) {
      continue;
    }
    auto value = peek<uint64_t>(process_.memory(), definer.bias(LinkAddr(r.offset)));
    if (value && is_code_of(definer, LiveAddr(*value)) && *value != definer.bias(resolver).value) {
      return LiveAddr(*value);
    }
  }
  return std::nullopt;
}

std::optional<LiveAddr> ImportResolver::resolve(const elf::AtomSymbol& symbol,
                                                const elf::Binding& binding, Report& report) const {
  if (binding.got_slot.value != 0) {
    if (auto value = from_slot(target_.bias(binding.got_slot), target_)) {
      return value;
    }
  }
  for (const proc::Module* m : scope_) {
    if (!m->file) {
      continue;
    }
    for (const elf::Symbol& s : m->file->dynamic_symbols()) {
      bool fits = s.defined() && s.bind != elf::SymbolBind::Local && s.name == symbol.name &&
                  (binding.version.empty() ? s.default_version
                                           : s.version.empty() || s.version == binding.version);
      if (!fits) {
        continue;
      }
      if (s.type == elf::SymbolType::Tls) {
        report.refuse("tls-unsupported", symbol.name,
                      fmt::format("it is a thread-local variable of {}", m->path));
        return std::nullopt;
      }
      if (s.type != elf::SymbolType::GnuIfunc) {
        return m->bias(LinkAddr(s.value));
      }
      if (auto value = from_any_slot(symbol.name, *m)) {
        return value;
      }
      if (auto value = from_own_slot(LinkAddr(s.value), *m)) {
        return value;
      }
      report.refuse("import-ifunc", symbol.name,
                    fmt::format("{} chooses it at run time, and no module of the process has its "
                                "address bound",
                                m->path));
      return std::nullopt;
    }
  }
  if (symbol.bind == elf::SymbolBind::Weak) {
    return LiveAddr(0);
  }
  std::string version = binding.version.empty() ? "" : "@" + binding.version;
  report.refuse("import-missing", symbol.name,
                fmt::format("none of the {} modules of the process defines {}{}", scope_.size(),
                            symbol.name, version));
  return std::nullopt;
}

}  // namespace qp::apply
