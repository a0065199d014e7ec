// Any bytes as a target: its names, its imports and a search of its code give a value or an Error
// (P8).

#include <cstddef>
#include <cstdint>

#include "elf/debug_files.h"
#include "exercise.h"
#include "match/code_search.h"
#include "match/proof.h"
#include "match/symbol_map.h"

namespace {

using namespace qp;

// One function: push %rbx; mov %edi,%ebx; call f; lea (%rbx,%rax,2),%eax; pop %rbx; ret
elf::AtomGraph one_function() {
  elf::AtomGraph graph;
  elf::AtomSymbol name;
  name.name = "f";
  name.atom = 0;
  graph.symbols.push_back(name);
  elf::Atom atom;
  for (const int byte :
       {0x53, 0x89, 0xfb, 0xe8, 0, 0, 0, 0, 0x8d, 0x04, 0x43, 0x5b, 0xc3, 0x90, 0x90, 0x90}) {
    atom.bytes.push_back(std::byte(byte));
  }
  atom.size = atom.bytes.size();
  atom.refs.push_back({4, elf::RelocType::PLT32, 0, -4});
  graph.atoms.push_back(std::move(atom));
  return graph;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  elf::ask([&] {
    const elf::File file = elf::File::parse(copy(std::as_bytes(std::span(data, size))), "hostile");
    match::NameSources names;
    elf::ask([&] { names.mini = elf::read_mini_debug(file); });
    elf::ask([&] { elf::debug_link(file); });
    elf::ask([&] {
      const match::SymbolMap map = match::SymbolMap::from_file(file, names);
      for (const match::MapEntry& entry : map.entries()) {
        map.similar(entry.name);
        map.at(entry.address);
        map.function_containing(entry.address);
        map.next_start_after(entry.address, entry.size);
        map.frame_containing(entry.address);
      }
      const elf::FileReader reader(file);
      const match::Target target{reader, map, file.tls_block_end()};
      const elf::AtomGraph graph = one_function();
      const std::vector<match::Places> places = match::find_places(graph, {0}, target);
      for (const LinkAddr at : places[0].at) {
        match::prove_unit(graph, 0, at, target);
      }
      match::prove_unit(graph, 0, file.entry(), target);
    });
  });
  return 0;
}
