// The numbers that compilers put behind names.
//
// A static variable of a function becomes "aaa.1593", a specialised clone "foo.constprop.0", the
// unlikely part "foo.cold" (GCC before 9: "foo.cold.12"), a local that link-time optimisation had
// to tell from another one "foo.lto_priv.0" or, in clang, "foo.llvm.8312". The numbers come from
// counters that run through the whole unit, so the same thing has another number when anything
// before it changed, or when another flag made the compiler ask for one declaration more. The
// words say what kind of thing it is, and they stay: foo.isra is not foo. The suffixes of link-time
// optimisation go altogether, since the object that is compared with was not compiled that way.

#include "match/names.h"

#include <algorithm>

namespace qp::match {

std::string plain_name(std::string_view name) {
  size_t dot = name.find('.', 1);  // a leading dot belongs to the name
  if (dot == std::string_view::npos) {
    return std::string(name);
  }
  std::string plain(name.substr(0, dot));
  while (dot != std::string_view::npos) {
    const size_t next = name.find('.', dot + 1);
    const std::string_view part =
        name.substr(dot + 1, next == std::string_view::npos ? next : next - dot - 1);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
    if (!number && part != "lto_priv" && part != "llvm") {
      plain += '.';
      plain += part;
    }
    dot = next;
  }
  return plain;
}

std::string_view base_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace qp::match
