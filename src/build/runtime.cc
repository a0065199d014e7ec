// The runtime's objects were compiled with qpatch itself, whatever the target is: position-independent
// code that refers to nothing but its own data and to a few functions of libc by name. Here they are
// taken apart like any other object, and what the patch needs of them becomes a part of its new
// code. So one way leads into a process: the patch file shows these functions, the image names them,
// and they are bound, linked, relocated and unwound as everything else.
//
// A static program has what its linker found a use for. If the functions that keep thread-specific
// data are not there, the program may be one that makes no threads; then there is a simpler way. If
// it may make threads, nothing could tell when they end.

#include "build/runtime.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "build/runtime_objects.h"
#include "link/image.h"
#include "match/way_of_target.h"
#include "objdiff/merge.h"
#include "objdiff/split.h"

namespace qp::build {
namespace {

using elf::AtomGraph;
using elf::AtomId;
using elf::AtomSymbolId;
using elf::Ref;

// In the place of the first, where a program can have one thread only.
constexpr const char *kThreads = "thread_locals", *kAlone = "thread_locals_alone";
constexpr const char* kSpecificData[] = {"pthread_key_create", "pthread_key_delete",
                                         "pthread_getspecific", "pthread_setspecific"};
constexpr const char* kMakers[] = {"pthread_create", "thrd_create", "clone", "clone3"};

AtomGraph read_objects(const std::string& left_out) {
  std::vector<AtomGraph> graphs;
  Report report;
  for (const RuntimeObject& object : runtime_objects()) {
    if (object.name != left_out) {
      const ByteView bytes = std::as_bytes(std::span(object.bytes, object.size));
      graphs.push_back(objdiff::split(elf::File::parse(copy(bytes), object.name), report));
    }
  }
  QP_ASSERT(report.clean());
  return objdiff::merge(std::move(graphs));
}

// The atoms of `graph` that the expected symbols need.
std::vector<AtomId> needed(const AtomGraph& graph, const Merger& fresh) {
  std::set<AtomId> seen;
  std::vector<AtomId> work;
  const auto add = [&](const std::optional<AtomId>& id) {
    if (id && seen.insert(*id).second) {
      work.push_back(*id);
    }
  };
  for (const elf::AtomSymbol& symbol : graph.symbols) {
    if (symbol.bind == elf::SymbolBind::Global && fresh.expects(symbol.name)) {
      add(symbol.atom);
    }
  }
  while (!work.empty()) {
    const AtomId id = work.back();
    work.pop_back();
    for (const Ref& ref : graph.atoms[id].refs) {
      add(graph.symbols[ref.symbol].atom);
    }
    for (AtomId piece = 0; piece < graph.atoms.size(); ++piece) {
      if (graph.atoms[piece].parent == id) {
        add(piece);
      }
    }
  }
  return {seen.begin(), seen.end()};
}

// Which of the two ways to keep the blocks of threads is not needed.
std::string left_out(const match::SymbolMap& symbols, Report& report) {
  const auto has = [&](const char* name) { return !symbols.named(name).empty(); };
  if (!symbols.is_static() ||
      std::all_of(std::begin(kSpecificData), std::end(kSpecificData), has)) {
    return kAlone;
  }
  const auto maker = std::find_if(std::begin(kMakers), std::end(kMakers), has);
  if (maker != std::end(kMakers) || !symbols.has_symtab()) {
    const auto lacking = std::find_if_not(std::begin(kSpecificData), std::end(kSpecificData), has);
    report.refuse("tls-unsupported", "new thread-local variables",
                  maker == std::end(kMakers)
                      ? "the target is static and has no names, so that nothing shows whether it "
                        "makes threads"
                      : fmt::format("the target is static and has {}, but not {}, which tells when "
                                    "a thread ends",
                                    *maker, *lacking));
  }
  return kThreads;
}

}  // namespace

bool finds_new_thread_local(const AtomGraph& graph, const elf::Atom& atom, const Ref& ref) {
  // psABI, "Thread-Local Storage": the call follows the lea at once, with prefixes or without.
  if (graph.symbols.empty() || &ref == atom.refs.data()) {
    return false;
  }
  const Ref& lea = *(&ref - 1);
  const bool fits =
      (lea.type == elf::RelocType::TLSGD && ref.at == lea.at + 8) ||
      (lea.type == elf::RelocType::TLSLD && (ref.at == lea.at + 5 || ref.at == lea.at + 6));
  const auto of = graph.symbols[lea.symbol].atom;
  return fits && of && elf::is_tls(graph.atoms[*of].storage);
}

bool is_called_by_patches(const std::string& symbol) {
  return symbol == "qpatch_shadow_get" || symbol == "qpatch_shadow_attach" ||
         symbol == "qpatch_shadow_detach";
}

void add_runtime(Merger& fresh, const match::SymbolMap& symbols, const BindByName& bind_by_name,
                 Report& report) {
  if (!fresh.expects_any()) {
    return;
  }
  const bool thread_locals =
      fresh.expects(link::kTlsGetAddr) || fresh.expects(link::kTlsDescriptor);
  AtomGraph graph = read_objects(thread_locals ? left_out(symbols, report) : kAlone);
  for (elf::AtomSymbol& symbol : graph.symbols) {
    symbol.file = link::kRuntimeFile;
  }
  if (!report.clean()) {
    return;
  }
  std::map<AtomId, AtomId> atoms;
  std::map<AtomSymbolId, AtomSymbolId> own;
  const std::vector<AtomId> ids = needed(graph, fresh);
  QP_ASSERT(!ids.empty());
  fresh.add_atoms(graph, ids, atoms, own);
  for (AtomId id : ids) {
    fresh.map_refs(atoms.at(id), [&](const Ref& ref, const elf::Atom&) {
      if (const auto known = own.find(ref.symbol); known != own.end()) {
        return known->second;
      }
      const elf::AtomSymbol& symbol = graph.symbols[ref.symbol];
      return fresh.add_external(
          symbol, match::as_the_target_does(bind_by_name(symbol), symbol, ref.type, symbols));
    });
  }
}

}  // namespace qp::build
