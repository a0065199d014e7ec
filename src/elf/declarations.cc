// Two static locals of one name in one function (`static struct vlog_rate_limit rl` in two blocks)
// have nothing that tells them apart but their place in the source. DWARF knows it: a variable with
// a fixed address, below the function that declares it. What is missing or broken in the DWARF
// means "not known" here.
//
// Of a thread-local variable the place is wanted where its declaration can be changed.

#include "elf/declarations.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/debug_info.h"

namespace qp::elf {
namespace {

constexpr int kDeepest = 64;

// The address of a variable that has one.
std::optional<uint64_t> fixed_address(Dwarf_Die* variable) {
  Dwarf_Attribute attribute;
  Dwarf_Op* operation = nullptr;
  size_t count = 0;
  if (dwarf_attr_integrate(variable, DW_AT_location, &attribute) == nullptr ||
      dwarf_getlocation(&attribute, &operation, &count) != 0 || count != 1) {
    return std::nullopt;
  }
  if (operation->atom == DW_OP_addr) {
    return operation->number;
  }
  Dwarf_Attribute indexed;
  Dwarf_Addr address = 0;
  if (operation->atom == DW_OP_addrx &&
      dwarf_getlocation_attr(&attribute, operation, &indexed) == 0 &&
      dwarf_formaddr(&indexed, &address) == 0) {
    return address;
  }
  return std::nullopt;
}

// libdw 0.188 takes file 0, which is the unit's own in DWARF 5, for none.
std::string place_of(Dwarf_Die* variable) {
  const char* file = dwarf_decl_file(variable);
  int line = 0, column = 0;
  if (dwarf_decl_line(variable, &line) != 0) {
    return "";
  }
  std::string_view name = file == nullptr ? "" : file;
  std::string place = fmt::format("{}:{}", name.substr(name.rfind('/') + 1), line);
  return dwarf_decl_column(variable, &column) == 0 ? fmt::format("{}:{}", place, column) : place;
}

class Reader {
 public:
  Reader(const File& object, const DebugInfo& info) {
    for (const Section& s : object.sections()) {
      if (s.has(kAlloc) && !s.has(kExec)) {
        sections_[info.base(s.index)] = &s;
      }
    }
  }

  void read(Dwarf_Die* die, const std::string& function, int depth) {
    Dwarf_Die child;
    if (depth > kDeepest || dwarf_child(die, &child) != 0) {
      return;
    }
    do {
      int tag = dwarf_tag(&child);
      if (tag == DW_TAG_variable && !function.empty()) {
        add(&child, function);
      } else if (tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine) {
        const char* name = dwarf_diename(&child);
        read(&child, name == nullptr ? "" : name, depth + 1);
      } else if (tag == DW_TAG_lexical_block || tag == DW_TAG_namespace) {
        read(&child, function, depth + 1);
      }
    } while (dwarf_siblingof(&child, &child) == 0);
  }

  std::vector<StaticLocal> found() && { return std::move(found_); }

 private:
  void add(Dwarf_Die* variable, const std::string& function) {
    auto address = fixed_address(variable);
    std::string place = place_of(variable);
    if (!address || place.empty()) {
      return;
    }
    auto section = sections_.upper_bound(*address);
    if (section == sections_.begin()) {
      return;
    }
    --section;
    uint64_t offset = *address - section->first;
    if (offset < section->second->size) {
      found_.push_back({section->second->index, offset, function, std::move(place)});
    }
  }

  std::map<uint64_t, const Section*> sections_;  // by address
  std::vector<StaticLocal> found_;
};

// DW_OP_form_tls_address, or GNU's older name for it, ends the location of a thread-local variable.
bool is_thread_local(Dwarf_Die* variable) {
  Dwarf_Attribute attribute;
  Dwarf_Op* operation = nullptr;
  size_t count = 0;
  if (dwarf_attr_integrate(variable, DW_AT_location, &attribute) == nullptr ||
      dwarf_getlocation(&attribute, &operation, &count) != 0 || count == 0) {
    return false;
  }
  const auto last = operation[count - 1].atom;
  return last == DW_OP_form_tls_address || last == DW_OP_GNU_push_tls_address;
}

class ThreadLocalReader {
 public:
  void read_unit(Dwarf_Die* unit) {
    const char* name = dwarf_diename(unit);
    Dwarf_Attribute attribute;
    const char* directory = dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attribute));
    unit_ = name == nullptr ? "" : name;
    if (!unit_.starts_with("/") && directory != nullptr) {
      unit_ = std::string(directory) + "/" + unit_;
    }
    read(unit, "", 0);
  }
  // Each once, however often its function was inlined.
  std::vector<ThreadLocal> found() && {
    std::sort(found_.begin(), found_.end());
    found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
    return std::move(found_);
  }

 private:
  void read(Dwarf_Die* die, const std::string& function, int depth) {
    Dwarf_Die child;
    if (depth > kDeepest || dwarf_child(die, &child) != 0) {
      return;
    }
    do {
      const int tag = dwarf_tag(&child);
      const char* name = dwarf_diename(&child);
      if (tag == DW_TAG_variable && name != nullptr) {
        add(&child, name, function);
      } else if (tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine) {
        read(&child, name == nullptr ? function : name, depth + 1);
      } else if (tag == DW_TAG_lexical_block || tag == DW_TAG_namespace) {
        read(&child, function, depth + 1);
      }
    } while (dwarf_siblingof(&child, &child) == 0);
  }

  void add(Dwarf_Die* variable, const std::string& name, const std::string& function) {
    Dwarf_Attribute attribute;
    bool declared = false;
    const bool declaration = dwarf_attr(variable, DW_AT_declaration, &attribute) != nullptr &&
                             dwarf_formflag(&attribute, &declared) == 0 && declared;
    int line = 0;
    if ((!declaration && !is_thread_local(variable)) || dwarf_decl_line(variable, &line) != 0 ||
        line <= 0) {
      return;
    }
    const char* file = dwarf_decl_file(variable);
    ThreadLocal one{name, function, file == nullptr ? unit_ : file, static_cast<uint32_t>(line),
                    !declaration};
    found_.push_back(std::move(one));
  }

  std::string unit_;
  std::vector<ThreadLocal> found_;
};

}  // namespace

std::vector<StaticLocal> read_static_locals(const File& object) {
  try {
    DebugInfo info(object);
    if (info.get() == nullptr) {
      return {};
    }
    Reader reader(object, info);
    info.each_unit([&](Dwarf_Die* unit) {
      reader.read(unit, "", 0);
      return true;
    });
    return std::move(reader).found();
  } catch (const Error&) {
    return {};
  }
}

std::vector<ThreadLocal> read_thread_locals(const File& object) {
  try {
    DebugInfo info(object);
    if (info.get() == nullptr) {
      return {};
    }
    ThreadLocalReader reader;
    info.each_unit([&](Dwarf_Die* unit) {
      reader.read_unit(unit);
      return true;
    });
    return std::move(reader).found();
  } catch (const Error&) {
    return {};
  }
}

}  // namespace qp::elf
