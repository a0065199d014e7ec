// The unwinder of C++ does not know the image (it asks ld.so, which did not load it), so an exception
// that is thrown in new code, or passes through it, would end the process.
//
// Code that throws or catches calls the C++ runtime, GCC's output and clang's alike, under names of
// the C++ ABI ("Itanium C++ ABI: Exception Handling"). In a program that is linked to a shared
// runtime these are dynamic symbols, which nobody can strip. They are looked for where they are
// referred to as well, since a library may only pass on what it calls.
//
// A target that contains the runtime itself can lose all names. But a runtime marks its exceptions
// with a class, and compares with it: eight bytes that say "GNUCC++" or "CLNGC++", which are
// immediates of its code. Of these the lowest byte tells the kind of exception and is left out here.
//
// Code of C++ that neither throws nor catches is passed by what it calls, unless it was compiled with
// -fno-exceptions. DWARF says what is C++; GCC also records that option.

#include "build/exceptions.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "elf/languages.h"

namespace qp::build {
namespace {

// Little-endian, without the lowest byte.
constexpr std::array<std::string_view, 2> kClasses = {"++CCUNG", "++CGNLC"};

// Functions that throw, rethrow, catch, or let an exception pass their cleanups. libc has a
// personality routine of its own for these, which is in each static program.
bool is_of_exceptions(std::string_view name) {
  name.remove_prefix(name.starts_with("DW.ref.") ? 7 : 0);
  return name.starts_with("__gxx_personality_") || name.starts_with("__cxa_throw") ||
         name.starts_with("__cxa_rethrow") || name.starts_with("__cxa_begin_catch") ||
         name.starts_with("__cxa_allocate_exception") ||
         (name.starts_with("_Z") && (name.find("__throw_") != std::string_view::npos ||
                                     name.find("rethrow_exception") != std::string_view::npos));
}

const elf::Symbol* find_symbol(const std::vector<elf::Symbol>& symbols) {
  const auto found = std::find_if(symbols.begin(), symbols.end(), [](const elf::Symbol& symbol) {
    return is_of_exceptions(symbol.name);
  });
  return found == symbols.end() ? nullptr : &*found;
}

bool holds_runtime(const elf::File& file) {
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return std::any_of(kClasses.begin(), kClasses.end(), [&](std::string_view name) {
    return text.find(name) != std::string_view::npos;
  });
}

}  // namespace

std::optional<std::string> find_exceptions(const TargetFile& target, const format::Patch& patch) {
  const elf::File* named = target.names.debug ? &*target.names.debug : target.file.get();
  for (const auto* symbols :
       {&target.file->symbols(), &target.file->dynamic_symbols(), &named->symbols()}) {
    if (const elf::Symbol* symbol = find_symbol(*symbols)) {
      return fmt::format("it has {}, so it can throw or catch exceptions", symbol->name);
    }
  }
  for (const elf::AtomSymbol& symbol : patch.fresh.symbols) {
    if (is_of_exceptions(symbol.name)) {
      return fmt::format("new code uses {}", symbol.name);
    }
  }
  if (holds_runtime(*target.file)) {
    return "it contains a runtime of C++, which can throw and catch exceptions";
  }
  if (const auto unit = elf::find_cxx_with_exceptions(*named)) {
    return fmt::format("{} is C++, through which exceptions can pass", *unit);
  }
  return std::nullopt;
}

}  // namespace qp::build
