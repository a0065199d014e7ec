// Functions that, once called, do not come back: event loops, main.
#pragma once

#include <string>
#include <vector>

#include "format/patch.h"

namespace qp::apply {

// Of the functions that a patch replaces, those that no thread can be waited for to leave, with the
// reason ("it has a loop and no return"). By the original's code; the names as in Patch::replaced.
struct Endless {
  std::string function, why;
};
std::vector<Endless> find_endless(const format::Patch& patch);
// The sentence for the user: what it means, and how to write the fix.
std::string explain(const Endless& endless);

}  // namespace qp::apply
