// Names without what a compiler numbers.
#pragma once

#include <string>
#include <string_view>

namespace qp::match {

// "aaa.1593" → "aaa", "foo.constprop.0" → "foo.constprop", "foo.cold.7" → "foo.cold",
// "foo.lto_priv.0" and "foo.llvm.123" → "foo". Two names that come out equal may be one thing in
// two compilations; which of several is decided by proof.
std::string plain_name(std::string_view name);

// The last component of a path: FILE symbols hold "a.c" from GCC and "src/a.c" from clang.
std::string_view base_name(std::string_view path);

}  // namespace qp::match
