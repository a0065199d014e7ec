// An original and a patched source, and what the diff of the two must find.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "compiled.h"

namespace qp::pairs {

using Names = std::set<std::string>;

struct Pair {
  std::string name;
  std::string original, patched;
  Names changed, fresh = {}, removed = {}, refused = {};
  Names included = {};  // must be among the included
  Names bound = {};     // must be among the bound
  Names state = {};     // new variables, without what compilers add to names; all else is bound
  // May change too at gcc -O0, which puts all strings into one .rodata: the end of one is the start
  // of the next there, and a function that could mean either counts as changed.
  Names beside = {};
  std::function<bool(const Compiler&)> where = nullptr;  // nullptr: everywhere
};

// The table, by topic.
std::vector<Pair> content_pairs();
std::vector<Pair> code_pairs();
std::vector<Pair> state_pairs();
std::vector<Pair> name_pairs();

bool has_flag(const Compiler& c, const std::string& flag);
bool executable_only(const Compiler& c);  // not for shared libraries
bool gcc_only(const Compiler& c);

std::string replaced(std::string text, const std::string& what, const std::string& with);
// A pair whose patched source is the original with one replacement.
Pair edit(std::string name, const std::string& source, const std::string& what,
          const std::string& with, Names changed);
Pair refusal(std::string name, const std::string& source, const std::string& what,
             const std::string& with, Names changed, Names refused);

}  // namespace qp::pairs
