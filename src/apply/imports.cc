// How a patch finds symbols of other modules, and what a library defines for everybody.
//
// The dynamic linker searches modules in an order (scope.cc) and takes the first definition that
// fits name and version. We do the same from outside, with the symbol tables of the module files.
// Two short cuts come first, since they are what the process itself uses: a GOT slot of the target
// that is already bound, and (for IFUNC symbols, whose value is the outcome of code that ran in the
// process) a bound GOT slot of any module, or the slot that the defining library has for its own
// calls. A library can have such a slot for a version of the resolver only if it calls it.
//
// A lazily bound slot holds an address in its own module's PLT until the first call; such a value
// is not an answer. Everything that is read from the process is checked before it is believed.
//
// A library's own symbols are the subtle part. Its code may reach a function that it defines by
// name, and then LD_PRELOAD, the executable, or a copy relocation of the executable can give it
// another module's. What it got is in its GOT, and new code takes the same. A value there that is
// no module's definition of that name was put there by somebody (a hook), who could not know of new
// code; that is refused, and so is a symbol without a slot for which the order of search leaves a
// doubt, or which nothing of the library reaches by name although another module would win: then
// the linker may have been told to bind it at once (-Bsymbolic-functions).

#include "apply/imports.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "apply/tls_modules.h"

namespace qp::apply {
namespace {

bool is_code_of(const proc::Module& module, LiveAddr address) {
  return std::any_of(module.executable.begin(), module.executable.end(),
                     [&](LiveRange r) { return r.contains(address); });
}

}  // namespace

ImportResolver::ImportResolver(const proc::Process& process,
                               const std::vector<proc::Module>& modules, const proc::Module& target,
                               const Peers& peers)
    : process_(process),
      modules_(modules),
      target_(target),
      peers_(peers),
      scope_(process, modules, target) {}

// What ld.so put into a slot of the target. Nullopt: nothing yet; until the first call a slot of a
// lazy PLT holds what the file has there, moved by the load bias.
std::optional<LiveAddr> ImportResolver::from_slot(LinkAddr slot) const {
  auto value = find_word(process_.memory(), target_.bias(slot));
  Bytes initial(sizeof(uint64_t));
  if (!value || *value == 0 ||
      (elf::FileReader(*target_.file).try_read(slot, initial) &&
       target_.bias(LinkAddr(load<uint64_t>(initial))).value == *value)) {
    return std::nullopt;
  }
  return LiveAddr(*value);
}

std::optional<LiveAddr> ImportResolver::from_any_slot(const std::string& name,
                                                      const proc::Module& definer) const {
  for (const proc::Module* m : scope_.all()) {
    if (m == &definer || !m->file) {
      continue;
    }
    const auto& symbols = m->file->dynamic_symbols();
    for (const elf::Relocation& r : m->file->dynamic_relocations()) {
      bool slot = r.type == elf::RelocType::JumpSlot || r.type == elf::RelocType::GlobDat;
      if (!slot || r.symbol >= symbols.size() || symbols[r.symbol].name != name) {
        continue;
      }
      auto value = find_word(process_.memory(), m->bias(LinkAddr(r.offset)));
      if (value && is_code_of(definer, LiveAddr(*value))) {
        return LiveAddr(*value);
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
    auto value = find_word(process_.memory(), definer.bias(LinkAddr(r.offset)));
    if (value && is_code_of(definer, LiveAddr(*value)) && *value != definer.bias(resolver).value) {
      return LiveAddr(*value);
    }
  }
  return std::nullopt;
}

// What another part of the patch defines anew, if its module is one that ld.so would search. Names
// without a version only: what version a rebuilt library would give to a new symbol is not known.
std::optional<LiveAddr> ImportResolver::from_peers(const std::string& name,
                                                   const std::string& version) const {
  const auto found = peers_.defined.find(name);
  if (found == peers_.defined.end() || !version.empty()) {
    return std::nullopt;
  }
  std::optional<LiveAddr> out;
  for (const Definition& definition : found->second) {
    if (scope_.searches(*definition.module)) {
      if (out) {
        return std::nullopt;
      }
      out = definition.address;
    }
  }
  return out;
}

// Some module of the process has it under this name (of an IFUNC: one of its implementations).
bool ImportResolver::is_explained(LiveAddr value, const std::string& name) const {
  return std::any_of(modules_.begin(), modules_.end(), [&](const proc::Module& m) {
    if (!m.file) {
      return false;
    }
    const auto& symbols = m.file->dynamic_symbols();
    return std::any_of(symbols.begin(), symbols.end(), [&](const elf::Symbol& s) {
      bool ifunc = s.type == elf::SymbolType::GnuIfunc && is_code_of(m, value);
      return s.name == name && (s.defined() || s.value != 0) &&
             (ifunc || m.bias(LinkAddr(s.value)) == value);
    });
  });
}

std::optional<Definition> ImportResolver::find(const elf::AtomSymbol& symbol,
                                               const elf::Binding& binding, Report& report) const {
  const std::string& name = symbol.name;
  std::optional<Definition> own;
  if (target_.file && target_.file->is_library()) {
    own = find_definition(target_, name, binding.version);
  }
  Scope::Found found = scope_.find(name, binding.version);
  bool of_other = own && found.first && found.first->module != &target_;
  if (found.doubt.empty() && own && own->bind == elf::SymbolBind::GnuUnique && of_other) {
    found.doubt = fmt::format("{} defines it as well, and it is unique in the process",
                              found.first->module->path);
  }
  if (found.doubt.empty() && of_other && binding.evidence == elf::Evidence::None) {
    found.doubt = fmt::format(
        "{} defines it as well, and nothing of the library shows whether it "
        "takes it from there",
        found.first->module->path);
  }
  if (!found.doubt.empty()) {
    report.refuse("interposed", name, found.doubt);
    return std::nullopt;
  }
  if (!found.first) {
    return std::nullopt;
  }
  // The patched program would have been linked with what it needs, not with what it opens.
  const bool first_use = binding.got_slot.value == 0 && binding.stub.value == 0;
  if (first_use && !target_.file->is_library() && !scope_.is_of_start(*found.first->module)) {
    report.refuse("import-missing", name,
                  fmt::format("only {} defines it, which the program does not need but opened",
                              found.first->module->path));
    return std::nullopt;
  }
  return found.first;
}

std::optional<LiveAddr> ImportResolver::resolve(const elf::AtomSymbol& symbol,
                                                const elf::Binding& binding, Report& report) const {
  const std::string& name = symbol.name;
  if (binding.got_slot.value != 0) {
    if (auto value = from_slot(binding.got_slot)) {
      const bool own = target_.file && target_.file->is_library() &&
                       find_definition(target_, name, binding.version);
      if (own && !is_explained(*value, name)) {
        report.refuse("interposed", name,
                      fmt::format("the library's GOT slot at {:#x} holds {:#x}, which no module of "
                                  "the process defines under this name",
                                  target_.bias(binding.got_slot).value, value->value));
        return std::nullopt;
      }
      return value;
    }
  }
  Report here;
  const auto definition = find(symbol, binding, here);
  for (const Refusal& refusal : here.refusals()) {
    report.refuse(refusal.id, refusal.where, refusal.detail);
  }
  if (!definition && here.clean()) {
    if (auto value = from_peers(name, binding.version)) {
      return value;
    }
    if (symbol.bind == elf::SymbolBind::Weak) {
      return LiveAddr(0);
    }
    std::string version = binding.version.empty() ? "" : "@" + binding.version;
    report.refuse("import-missing", name,
                  fmt::format("none of the {} modules of the process defines {}{}",
                              scope_.all().size(), name, version));
  }
  if (!definition) {
    return std::nullopt;
  }
  if (definition->type == elf::SymbolType::Tls) {
    report.refuse("tls-unsupported", name,
                  fmt::format("it is a thread-local variable of {}", definition->module->path));
    return std::nullopt;
  }
  if (definition->type != elf::SymbolType::GnuIfunc) {
    return definition->address;
  }
  if (auto value = from_any_slot(name, *definition->module)) {
    return value;
  }
  if (auto value = from_own_slot(definition->value, *definition->module)) {
    return value;
  }
  report.refuse("import-ifunc", name,
                fmt::format("{} chooses it at run time, and no module of the process has its "
                            "address bound",
                            definition->module->path));
  return std::nullopt;
}

std::optional<ImportResolver::ThreadLocal> ImportResolver::resolve_thread_local(
    const elf::AtomSymbol& symbol, const elf::Binding& binding, Report& report) const {
  Report here;
  const auto definition = find(symbol, binding, here);
  for (const Refusal& refusal : here.refusals()) {
    report.refuse(refusal.id, refusal.where, refusal.detail);
  }
  if (!definition || definition->type != elf::SymbolType::Tls) {
    if (here.clean()) {
      report.refuse("tls-unsupported", symbol.name,
                    "no module of the process defines a thread-local variable of this name");
    }
    return std::nullopt;
  }
  ThreadLocal out;
  out.offset = definition->value.value;
  const proc::Module& module = *definition->module;
  const auto known = find_tls_module(process_, modules_, module);
  out.module = known ? known->number : 0;
  if (&module == &modules_.front() && module.file->tls_block_end()) {
    out.tp_offset = out.offset + static_cast<uint64_t>(*module.file->tls_block_end());
  } else if (known && known->below_thread_pointer) {
    out.tp_offset = out.offset - *known->below_thread_pointer;
  }
  return out;
}

std::optional<uint64_t> ImportResolver::tls_module_of_target(Report& report) const {
  const auto known = find_tls_module(process_, modules_, target_);
  if (!known) {
    report.refuse("tls-unsupported", target_.path,
                  "nothing in the process tells which number ld.so gave it");
    return std::nullopt;
  }
  return known->number;
}

void ImportResolver::check_interposition(const format::Patch& patch, Report& report) const {
  if (!scope_.has_target()) {
    report.refuse("other-namespace", target_.path,
                  "it is not in the link map that the executable's own symbols are resolved by");
    return;
  }
  std::set<elf::AtomId> replacing;
  for (const format::Replaced& f : patch.replaced) {
    replacing.insert(f.new_function);
    for (const elf::Symbol& s : target_.file->dynamic_symbols()) {
      if (!s.defined() || LinkAddr(s.value) != f.entry || s.type != elf::SymbolType::Func) {
        continue;
      }
      Scope::Found found = scope_.find(s.name, s.version);
      if (found.first && found.first->module != &target_ &&
          !peers_.replaced.contains(found.first->address)) {
        report.warn(
            fmt::format("{} of {} gives way to the one in {}, which the patch does not "
                        "replace: who calls it by name runs that one",
                        s.name, target_.path, found.first->module->path));
      }
    }
  }
  for (size_t i = 0; i < patch.fresh.symbols.size(); ++i) {
    const elf::AtomSymbol& symbol = patch.fresh.symbols[i];
    const elf::Binding& binding = patch.fresh_bindings[i];
    if (binding.kind == elf::BindingKind::Import) {
      const auto own = find_definition(target_, symbol.name, binding.version);
      if (own && own->type == elf::SymbolType::Tls) {
        resolve_thread_local(symbol, binding, report);
      } else if (own) {
        resolve(symbol, binding, report);
      }
    }
    if (!symbol.atom || replacing.contains(*symbol.atom) || symbol.anonymous ||
        symbol.bind == elf::SymbolBind::Local || symbol.visibility != elf::Visibility::Default) {
      continue;
    }
    Scope::Found found = scope_.find(symbol.name, "");
    if (found.first && found.first->module != &target_) {
      report.refuse("interposed", symbol.name,
                    fmt::format("the patch defines it, and so does {}, which the library would "
                                "have to use",
                                found.first->module->path));
    }
  }
}

}  // namespace qp::apply
