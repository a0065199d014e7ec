// What compilers do to names.
#pragma once

#include <string>
#include <string_view>

namespace qp::objdiff {

// The name without the numbers that compilers append: "aaa.1593" → "aaa", "f.constprop.0" →
// "f.constprop", "f.llvm.123" → "f.llvm". The words stay, since f.part is not f.
std::string stem(std::string_view name);

// The compiler may have given it a number, or no number for being the first: the name alone does not
// say which one it is.
bool is_counted(std::string_view name);

// Data that the compiler made and that nobody can name in the source: CSWTCH.13, C.0.1, __func__.2,
// switch.table.f, reltable.f, __const.f.t, __compound_literal.0, GCC_except_table3 (clang's LSDAs).
bool is_generated_name(std::string_view name);

}  // namespace qp::objdiff
