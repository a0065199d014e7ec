// ld.so's search order, from outside.
//
// A symbol of a module is searched for in the global scope: the executable, preloaded libraries,
// what they need, breadth first, and then what was opened with RTLD_GLOBAL. A module that dlopen()
// loaded has a second scope, what the opened library needs (glibc elf/dl-lookup.c, dl-open.c). All
// of that is in private members of struct link_map; public are the link map itself (r_debug, <link.h>)
// and DT_NEEDED of the files. The link map is in the order of loading, so that what was loaded when
// the program started is its front, up to the last module that something of the front needs; that
// part is searched in this order.
//
// What can't be seen are the flags of dlopen(): RTLD_GLOBAL, RTLD_DEEPBIND, and which library was
// opened when two could have brought the target. So for a library an answer counts only if it would
// be the same with any of them, and else it comes with a doubt. For an executable the whole link
// map is searched: its own scope is the global one, to which dlopen() may have added.
//
// Every read of the process is bounded: the chain is walked at most kMostModules steps.

#include "apply/scope.h"

#include <algorithm>

#include <fmt/format.h>

namespace qp::apply {
namespace {

using Modules = std::vector<const proc::Module*>;

constexpr uint64_t kDtDebug = 21, kDtNull = 0;  // gABI figure 5-10
constexpr size_t kMostModules = 4096;

bool has(const Modules& list, const proc::Module* module) {
  return std::find(list.begin(), list.end(), module) != list.end();
}

// DT_DEBUG of the executable; if that is ld.so (it was run with the program as its argument), the
// symbol that debuggers look for.
std::optional<LiveAddr> find_r_debug(const proc::Process& process,
                                     const std::vector<proc::Module>& modules) {
  if (!modules.front().file) {
    return std::nullopt;
  }
  for (const elf::Segment& s : modules.front().file->segments()) {
    if (s.type != elf::SegmentType::Dynamic) {
      continue;
    }
    LiveAddr at = modules.front().bias(s.address);
    for (uint64_t i = 0; i + 16 <= s.memory_size; i += 16) {
      auto tag = find_word(process.memory(), at + i),
           value = find_word(process.memory(), at + i + 8);
      if (!tag || !value || *tag == kDtNull) {
        break;
      }
      if (*tag == kDtDebug && *value != 0) {
        return LiveAddr(*value);
      }
    }
  }
  if (auto symbol = find_definition(modules.front(), "_r_debug", "")) {
    return symbol->address;
  }
  return std::nullopt;
}

struct LinkMap {
  LiveAddr at;
  LoadBias bias;     // l_addr
  LiveAddr dynamic;  // l_ld
  // A patch's image has the bias of its target, and can stay after a revert.
  bool is_of(const proc::Module& module) const {
    return module.bias == bias && module.range.contains(dynamic);
  }
};

// Of every module, in the order of loading.
std::vector<LinkMap> read_link_map(const proc::Process& process,
                                   const std::vector<proc::Module>& modules) {
  std::vector<LinkMap> order;
  auto debug = find_r_debug(process, modules);
  auto map = debug ? find_word(process.memory(), *debug + 8) : std::nullopt;  // r_debug.r_map
  while (map && *map != 0 && order.size() < kMostModules) {
    auto bias = find_word(process.memory(), LiveAddr(*map));          // l_addr
    auto dynamic = find_word(process.memory(), LiveAddr(*map) + 16);  // l_ld
    if (!bias || !dynamic) {
      break;
    }
    order.push_back({LiveAddr(*map), LoadBias{*bias}, LiveAddr(*dynamic)});
    map = find_word(process.memory(), LiveAddr(*map) + 24);  // l_next
  }
  return order;
}

bool is_called(const proc::Module& module, const std::string& needed) {
  const auto file = std::string_view(module.path).substr(module.path.rfind('/') + 1);
  const bool is_musl =
      file.starts_with("ld-musl-") && (needed == "libc.so" || needed.starts_with("libc.musl-"));
  return module.file->soname() == needed || is_musl ||
         file == std::string_view(needed).substr(needed.rfind('/') + 1);
}

// Indexes of those in `loaded` that `module` needs.
std::vector<size_t> needs_of(const proc::Module& module, const Modules& loaded) {
  std::vector<size_t> out;
  for (const std::string& needed :
       module.file ? module.file->needed() : std::vector<std::string>()) {
    auto it = std::find_if(loaded.begin(), loaded.end(),
                           [&](const proc::Module* m) { return is_called(*m, needed); });
    if (it != loaded.end()) {
      out.push_back(static_cast<size_t>(it - loaded.begin()));
    }
  }
  return out;
}

// `root` and what it needs, breadth first.
Modules closure_of(const proc::Module* root, const Modules& loaded) {
  Modules out = {root};
  for (size_t i = 0; i < out.size(); ++i) {
    for (size_t needed : needs_of(*out[i], loaded)) {
      if (!has(out, loaded[needed])) {
        out.push_back(loaded[needed]);
      }
    }
  }
  return out;
}

std::optional<Definition> find_first(const Modules& modules, const std::string& name,
                                     const std::string& version) {
  for (const proc::Module* m : modules) {
    if (auto found = find_definition(*m, name, version)) {
      return found;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Definition> find_definition(const proc::Module& module, const std::string& name,
                                          const std::string& version) {
  if (!module.file) {
    return std::nullopt;
  }
  for (const elf::Symbol& s : module.file->dynamic_symbols()) {
    // An undefined function with a value: psABI "Function Addresses"; glibc elf/dl-lookup.c,
    // check_match().
    bool given = s.defined() || (s.value != 0 && s.type == elf::SymbolType::Func);
    bool fits = given && s.bind != elf::SymbolBind::Local && s.name == name &&
                (version.empty() ? s.default_version || !s.defined()
                                 : s.version.empty() || s.version == version);
    if (fits && s.visibility != elf::Visibility::Hidden &&
        s.visibility != elf::Visibility::Internal) {
      return Definition{&module, module.bias(LinkAddr(s.value)), s.type, s.bind, LinkAddr(s.value)};
    }
  }
  return std::nullopt;
}

std::optional<LiveAddr> find_link_map(const proc::Process& process,
                                      const std::vector<proc::Module>& modules,
                                      const proc::Module& module) {
  std::optional<LiveAddr> found;
  for (const LinkMap& map : read_link_map(process, modules)) {
    if (map.is_of(module)) {
      if (found) {
        return std::nullopt;  // another file of the same bias (the vdso of a process at 0, say)
      }
      found = map.at;
    }
  }
  return found;
}

Scope::Scope(const proc::Process& process, const std::vector<proc::Module>& modules,
             const proc::Module& target)
    : target_(&target), library_(target.file && target.file->is_library()) {
  if (modules.empty()) {
    return;
  }
  for (const LinkMap& map : read_link_map(process, modules)) {
    for (const proc::Module& m : modules) {
      if (map.is_of(m) && m.file && !has(all_, &m)) {
        all_.push_back(&m);
        break;
      }
    }
  }
  if (all_.empty()) {  // no link map (static, or not started yet): the executable alone
    all_.push_back(&modules.front());
  }
  // The front grows with each module that it takes in.
  size_t front = 1;
  for (size_t i = 0; i < front; ++i) {
    for (size_t needed : needs_of(*all_[i], all_)) {
      front = std::max(front, needed + 1);
    }
  }
  global_.assign(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(front));
  if (library_ && has_target() && !has(global_, target_)) {
    own_ = closure_of(target_, all_);
  }
}

bool Scope::has_target() const {
  return has(all_, target_);
}

bool Scope::is_of_start(const proc::Module& module) const {
  return has(global_, &module);
}

bool Scope::searches(const proc::Module& module) const {
  return is_of_start(module) || (library_ && has(own_, &module));
}

Scope::Found Scope::find(const std::string& name, const std::string& version) const {
  if (!library_) {
    return {find_first(all_, name, version), ""};
  }
  Found out{find_first(global_, name, version), ""};
  auto own = find_first(own_, name, version);
  if (own && out.first && own->module != out.first->module) {
    out.doubt = fmt::format(
        "{} and {} define it, and which of them is used depends on how the "
        "library was opened",
        out.first->module->path, own->module->path);
  }
  if (out.first) {
    return out;
  }
  out.first = own;
  for (const proc::Module* m : all_) {
    if (!has(global_, m) && !has(own_, m) && find_definition(*m, name, version)) {
      out.doubt = fmt::format(
          "{} defines it, and whether the library sees that depends on how it "
          "was opened",
          m->path);
      break;
    }
  }
  return out;
}

}  // namespace qp::apply
