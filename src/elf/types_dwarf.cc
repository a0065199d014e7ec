// Types as other code sees them.
//
// New code that thinks a struct has one more member reads and writes behind the end of the objects
// that old code allocated. No comparison of code can find that: the allocating function may be in
// another unit, or unchanged. DWARF tells the layout, so it is read on both sides and compared
// (objdiff/type_layout.cc).
//
// A type is reduced to what decides about existing objects: sizes, offsets, names of members,
// values of enumerators. The type of a member is written as text in which typedefs are resolved
// (renaming one changes nothing) and types without a name are written out with their members, so
// that a change in a nested anonymous struct shows in the outer one. Types with a name are only
// named: they have an entry of their own, and this also ends recursion.

#include "elf/types_dwarf.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/debug_info.h"

namespace qp::elf {
namespace {

constexpr int kDeepest = 64;  // nesting of hostile type descriptions

std::optional<uint64_t> number(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute attribute;
  Dwarf_Word value = 0;
  if (dwarf_attr_integrate(die, name, &attribute) == nullptr ||
      dwarf_formudata(&attribute, &value) != 0) {
    return std::nullopt;
  }
  return value;
}

bool flag(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute attribute;
  bool set = false;
  return dwarf_attr_integrate(die, name, &attribute) != nullptr &&
         dwarf_formflag(&attribute, &set) == 0 && set;
}

std::string own_name(Dwarf_Die* die) {
  const char* name = dwarf_diename(die);
  return name == nullptr ? "" : name;
}

// The name that the linker sees; a C function has no other than its own.
std::string linkage_name(Dwarf_Die* die) {
  for (unsigned name : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name}) {
    Dwarf_Attribute attribute;
    const char* text = dwarf_attr_integrate(die, name, &attribute) == nullptr
                           ? nullptr
                           : dwarf_formstring(&attribute);
    if (text != nullptr) {
      return text;
    }
  }
  return "";
}

// Slot of a virtual function in its class's vtable. Nullopt: not virtual, or not told.
std::optional<int64_t> vtable_slot(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  Dwarf_Op* operation = nullptr;
  size_t count = 0;
  if (number(die, DW_AT_virtuality).value_or(0) == 0 ||
      dwarf_attr_integrate(die, DW_AT_vtable_elem_location, &attribute) == nullptr ||
      dwarf_getlocation(&attribute, &operation, &count) != 0 || count == 0) {
    return std::nullopt;
  }
  return static_cast<int64_t>(operation[0].number);
}

std::optional<Dwarf_Die> type_of(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  Dwarf_Die type;
  if (dwarf_attr_integrate(die, DW_AT_type, &attribute) == nullptr ||
      dwarf_formref_die(&attribute, &type) == nullptr) {
    return std::nullopt;
  }
  return type;
}

template <class F>
void each_child(Dwarf_Die* die, F&& f) {
  Dwarf_Die child;
  if (dwarf_child(die, &child) != 0) {
    return;
  }
  do {
    f(&child);
  } while (dwarf_siblingof(&child, &child) == 0);
}

std::string_view kind_of(int tag) {
  switch (tag) {
    case DW_TAG_structure_type:
      return "struct";
    case DW_TAG_class_type:
      return "class";
    case DW_TAG_union_type:
      return "union";
    case DW_TAG_enumeration_type:
      return "enum";
    default:
      return {};
  }
}

// Types as text and as layouts. A type without a name is written out wherever it is mentioned, so
// that a small description in which such types share their members has a text that doubles at each
// level. What is read is therefore bounded by the size of the file.
class LayoutReader {
 public:
  explicit LayoutReader(const File& file)
      : file_(file), left_(kShare * (file.bytes().size() + kPageSize)) {}

  void spend(uint64_t work) {
    if (work > left_) {
      throw bad_file(file_.name(), "DWARF: its types are written out endlessly");
    }
    left_ -= work;
  }

  std::string name_of(Dwarf_Die* die) {
    std::string name = own_name(die);
    spend(1 + name.size());
    return name;
  }

  std::string parameters_text(Dwarf_Die* function, int depth) {
    std::string out;
    each_child(function, [&](Dwarf_Die* child) {
      int tag = dwarf_tag(child);
      if (tag == DW_TAG_formal_parameter) {
        out += (out.empty() ? "" : ", ") + type_text(type_of(child), depth + 1);
      } else if (tag == DW_TAG_unspecified_parameters) {
        out += out.empty() ? "..." : ", ...";
      }
    });
    return out;
  }

  TypeMember read_member(Dwarf_Die* child, int depth) {
    spend(1);
    TypeMember m;
    m.name = dwarf_tag(child) == DW_TAG_inheritance ? "(base)" : name_of(child);
    m.type = type_text(type_of(child), depth + 1);
    m.bit_size = number(child, DW_AT_bit_size).value_or(0);
    m.bit_offset = number(child, DW_AT_data_member_location).value_or(0) * 8 +
                   number(child, DW_AT_data_bit_offset).value_or(0);
    // DWARF 2 counts bit fields from the most significant bit of their storage.
    if (auto from_top = number(child, DW_AT_bit_offset)) {
      auto type = type_of(child);
      uint64_t storage = number(child, DW_AT_byte_size)
                             .value_or(type ? number(&*type, DW_AT_byte_size).value_or(4) : 4);
      m.bit_offset += storage * 8 - *from_top - m.bit_size;
    }
    return m;
  }

  TypeLayout read_layout(Dwarf_Die* die, int depth) {
    spend(1);
    TypeLayout t;
    t.kind = kind_of(dwarf_tag(die));
    t.size = number(die, DW_AT_byte_size).value_or(0);
    each_child(die, [&](Dwarf_Die* child) {
      int tag = dwarf_tag(child);
      bool field =
          tag == DW_TAG_inheritance ||
          (tag == DW_TAG_member && !flag(child, DW_AT_external) && !flag(child, DW_AT_declaration));
      if (field) {
        t.members.push_back(read_member(child, depth));
      } else if (tag == DW_TAG_enumerator) {
        Dwarf_Attribute attribute;
        Dwarf_Sword value = 0;
        if (dwarf_attr(child, DW_AT_const_value, &attribute) != nullptr) {
          dwarf_formsdata(&attribute, &value);
        }
        t.values[name_of(child)] = value;
      } else if (tag == DW_TAG_subprogram) {
        if (auto slot = vtable_slot(child)) {
          std::string linkage = linkage_name(child);
          t.virtuals[linkage.empty() ? name_of(child) : linkage] = *slot;
        }
      }
    });
    return t;
  }

  // Values of an enumeration are constants, which have an entry of their own.
  std::string written_out(Dwarf_Die* die, int depth) {
    TypeLayout t = read_layout(die, depth);
    std::string out = t.kind + " {";
    for (const TypeMember& m : t.members) {
      out += fmt::format(" {} {}@{}", m.type, m.name, m.bit_offset);
      out += m.bit_size != 0 ? fmt::format(":{};", m.bit_size) : ";";
    }
    return out + fmt::format(" }} of {}", t.size);
  }

  std::string array_text(Dwarf_Die* die, int depth) {
    std::string out = type_text(type_of(die), depth + 1);
    each_child(die, [&](Dwarf_Die* child) {
      if (dwarf_tag(child) != DW_TAG_subrange_type) {
        return;
      }
      auto count = number(child, DW_AT_count);
      auto bound = number(child, DW_AT_upper_bound);
      bool known = count || (bound && *bound != ~uint64_t{0});
      out += known ? fmt::format("[{}]", count ? *count : *bound + 1) : "[]";
    });
    return out;
  }

  std::string type_text(std::optional<Dwarf_Die> type, int depth) {
    if (!type) {
      return "void";
    }
    spend(1);
    if (depth > kDeepest) {
      return "…";
    }
    Dwarf_Die* die = &*type;
    auto inner = [&] { return type_text(type_of(die), depth + 1); };
    int tag = dwarf_tag(die);
    switch (tag) {
      case DW_TAG_pointer_type:
        return inner() + " *";
      case DW_TAG_reference_type:
        return inner() + " &";
      case DW_TAG_rvalue_reference_type:
        return inner() + " &&";
      case DW_TAG_typedef: {
        // The name stands in for a type that has no other.
        auto to = type_of(die);
        bool nameless = to && !kind_of(dwarf_tag(&*to)).empty() && name_of(&*to).empty();
        return nameless ? name_of(die) : inner();
      }
      case DW_TAG_const_type:
      case DW_TAG_volatile_type:
      case DW_TAG_restrict_type:
      case DW_TAG_atomic_type:
        return inner();  // the same storage
      case DW_TAG_array_type:
        return array_text(die, depth);
      case DW_TAG_subroutine_type:
        return inner() + " (" + parameters_text(die, depth) + ")";
      case DW_TAG_ptr_to_member_type:
        return inner() + " ::*";
      default:
        break;
    }
    std::string_view kind = kind_of(tag);
    if (!kind.empty() && name_of(die).empty()) {
      return written_out(die, depth);
    }
    if (!kind.empty()) {
      return fmt::format("{} {}", kind, name_of(die));
    }
    // A base type: the size counts, since "long" can be 32 bits elsewhere.
    return fmt::format("{}", name_of(die));
  }

 private:
  static constexpr uint64_t kShare = 64;
  const File& file_;
  uint64_t left_;
};

// Whether the variable lives as long as its thread or the process.
bool has_static_storage(Dwarf_Die* variable) {
  Dwarf_Attribute attribute;
  Dwarf_Op* operations = nullptr;
  size_t count = 0;
  if (dwarf_attr_integrate(variable, DW_AT_location, &attribute) == nullptr ||
      dwarf_getlocation(&attribute, &operations, &count) != 0) {
    return false;
  }
  return std::any_of(operations, operations + count, [](const Dwarf_Op& operation) {
    switch (operation.atom) {
      case DW_OP_addr:
      case DW_OP_addrx:
      case DW_OP_GNU_addr_index:
      case DW_OP_form_tls_address:
      case DW_OP_GNU_push_tls_address:
        return true;
      default:
        return false;
    }
  });
}

// What `type` is made of or leads to, down to the first type with an entry of its own.
std::optional<Dwarf_Die> innermost(std::optional<Dwarf_Die> type) {
  for (int depth = 0; type && depth < kDeepest && kind_of(dwarf_tag(&*type)).empty(); ++depth) {
    type = type_of(&*type);
  }
  return type;
}

class Reader {
 public:
  Reader(const File& file, TypeTable& out) : out_(out), layouts_(file) {}

  // After read(): who uses the types that it found. `scope`: namespaces, outside of functions.
  void find_users(Dwarf_Die* die, const std::string& scope, const std::string& function,
                  int depth) {
    if (depth > kDeepest) {
      return;
    }
    each_child(die, [&](Dwarf_Die* child) {
      int tag = dwarf_tag(child);
      if (tag == DW_TAG_variable) {
        add_variable(child, scope, function);
      }
      if (tag == DW_TAG_variable || tag == DW_TAG_formal_parameter) {
        if (auto type = innermost(type_of(child))) {
          auto name = names_.find(dwarf_dieoffset(&*type));
          std::string user = function.empty() ? own_name(child) : function;
          if (name != names_.end() && !user.empty()) {
            out_.users[name->second].insert(user);
          }
        }
      } else if (tag == DW_TAG_subprogram) {
        find_users(child, scope, own_name(child), depth + 1);
      } else if (tag == DW_TAG_lexical_block) {
        find_users(child, scope, function, depth + 1);
      } else if (tag == DW_TAG_namespace) {
        find_users(child, scope + own_name(child) + "::", function, depth + 1);
      }
    });
  }

  void read(Dwarf_Die* die, const std::string& scope, int depth) {
    if (depth > kDeepest) {
      return;
    }
    each_child(die, [&](Dwarf_Die* child) {
      int tag = dwarf_tag(child);
      std::string name = own_name(child);
      std::string qualified = scope.empty() ? name : scope + "::" + name;
      if (!kind_of(tag).empty()) {
        if (!flag(child, DW_AT_declaration) && !name.empty()) {
          add(qualified, child);
        }
        if (tag == DW_TAG_enumeration_type && name.empty()) {
          add_constants(scope, child);
        }
        read(child, name.empty() ? scope : qualified, depth + 1);
      } else if (tag == DW_TAG_typedef) {
        auto to = type_of(child);
        if (to && !kind_of(dwarf_tag(&*to)).empty() && own_name(&*to).empty()) {
          add(qualified, &*to);
        }
      } else if (tag == DW_TAG_namespace) {
        read(child, qualified, depth + 1);
      } else if (tag == DW_TAG_subprogram) {
        add_prototype(qualified, child);
        read(child, scope, depth + 1);
      } else if (tag == DW_TAG_lexical_block) {
        read(child, scope, depth + 1);
      }
    });
  }

 private:
  void add(const std::string& name, Dwarf_Die* die) {
    names_[dwarf_dieoffset(die)] = name;
    TypeLayout layout = layouts_.read_layout(die, 0);
    auto& list = out_.types[name];
    for (const TypeLayout& known : list) {
      if (known == layout) {
        return;
      }
    }
    list.push_back(std::move(layout));
  }

  // Outside of functions all variables have static storage; a location says so inside.
  // Two namespaces can have variables of one name; the linkage name tells them apart.
  void add_variable(Dwarf_Die* die, const std::string& scope, const std::string& function) {
    const std::string name = own_name(die);
    const bool declared = function.empty() && flag(die, DW_AT_declaration);
    if (!name.empty() && (declared || has_static_storage(die))) {
      const std::string linkage = function.empty() ? linkage_name(die) : "";
      const std::string qualified =
          function.empty() ? scope + name : fmt::format("{}::{}", function, name);
      out_.variables[linkage.empty() ? qualified : linkage].insert(
          layouts_.type_text(type_of(die), 0));
    }
  }

  void add_constants(const std::string& scope, Dwarf_Die* die) {
    for (const auto& [name, value] : layouts_.read_layout(die, 0).values) {
      out_.constants[scope.empty() ? name : scope + "::" + name] = value;
    }
  }

  void add_prototype(const std::string& name, Dwarf_Die* die) {
    bool definition = !flag(die, DW_AT_declaration) && flag(die, DW_AT_external);
    // Inlined copies refer to the abstract function, which has been seen.
    if (definition && !name.empty() && !dwarf_hasattr(die, DW_AT_abstract_origin)) {
      std::string linkage = linkage_name(die);
      out_.prototypes[linkage.empty() ? name : linkage] =
          layouts_.type_text(type_of(die), 0) + " (" + layouts_.parameters_text(die, 0) + ")";
    }
  }

  TypeTable& out_;
  LayoutReader layouts_;
  std::map<Dwarf_Off, std::string> names_;
};

}  // namespace

TypeTable read_types(const File& file) {
  TypeTable out;
  DebugInfo info(file);
  if (info.get() == nullptr) {
    return out;
  }
  info.each_unit([&](Dwarf_Die* unit) {
    out.available = true;
    Reader reader(file, out);
    reader.read(unit, "", 0);
    reader.find_users(unit, "", "", 0);
    return true;
  });
  return out;
}

}  // namespace qp::elf
