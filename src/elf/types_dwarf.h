// The types and prototypes of a compilation unit, from its DWARF, reduced to what other code relies
// on: sizes, offsets, values, parameters.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "elf/file.h"

namespace qp::elf {

struct TypeMember {
  std::string name;         // "" for an anonymous one; "(base)" for a C++ base class
  uint64_t bit_offset = 0;  // from the start of the type
  uint64_t bit_size = 0;    // bit fields; else 0
  std::string type;         // "const char *"; typedefs resolved, anonymous types written out
  bool operator==(const TypeMember&) const = default;
};

struct TypeLayout {
  std::string kind;  // "struct", "union", "class", "enum"
  uint64_t size = 0;
  std::vector<TypeMember> members;          // as declared
  std::map<std::string, int64_t> values;    // enum
  std::map<std::string, int64_t> virtuals;  // C++: slot of the vtable, by linkage name
  bool operator==(const TypeLayout&) const = default;
};

struct TypeTable {
  bool available = false;  // the file has DWARF
  // By tag or, for an anonymous type, typedef; C++ names are qualified. Several: block scopes.
  std::map<std::string, std::vector<TypeLayout>> types;
  // Per type: functions with parameters or variables of it (or pointing to it), and variables.
  std::map<std::string, std::set<std::string>> users;
  // Variables with static storage, declared or defined: their types. Static locals: "function::name".
  // Others in C++: by linkage name, or qualified if they have none.
  std::map<std::string, std::set<std::string>> variables;
  // Values of enumerations without a name.
  std::map<std::string, int64_t> constants;
  // External functions that are defined here: "int (struct foo *, long)". C++: by linkage name.
  std::map<std::string, std::string> prototypes;
};

// Throws Error{bad-file} for DWARF that can't be read.
TypeTable read_types(const File& file);

}  // namespace qp::elf
