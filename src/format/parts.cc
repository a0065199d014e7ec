// A patch for several targets.
//
// A fix of a program can reach into several of its modules: the executable, a library, code of a
// static library that is linked into both. What is known about one target (symbols, bindings,
// original code, new code) has nothing to do with the others; only the process brings them
// together. So each target has a patch of its own, complete and in the form that a patch for one
// target has, and the file holds these whole, a section for each. `readelf -S` shows the targets,
// `objcopy -O binary` with `--only-section` takes one out, and the reader of one part is the reader
// of them all.
//
// A file with several has another format number, so that a qpatch that knows only the first says so.
//
// The reader trusts nothing here either: parts are no larger together than the file, so that
// sections that name the same bytes can't multiply them, and no part holds parts.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "elf/file.h"
#include "elf/object_writer.h"
#include "format/check.h"
#include "format/digest.h"
#include "format/file.h"
#include "format/graph.h"
#include "format/layout.h"

namespace qp::format {
namespace {

std::vector<const elf::Section*> part_sections(const elf::File& file) {
  std::vector<const elf::Section*> out;
  for (const elf::Section& section : file.sections()) {
    if (section.name.starts_with(kPart)) {
      out.push_back(&section);
    }
  }
  return out;
}

void check_sizes(const std::vector<const elf::Section*>& sections, const elf::File& file) {
  uint64_t left = file.bytes().size();
  for (const elf::Section* section : sections) {
    if (section->type != elf::SectionType::ProgBits || section->size > left) {
      throw bad_file(file.name(), "its parts are larger than the file");
    }
    left -= section->size;
  }
}

// Without its digest.
elf::OutFile make_file(const PatchFile& file) {
  try {
    check_parts(file, "the patch");
  } catch (const Error& e) {
    throw Bug(fmt::format("an inconsistent patch was to be written: {}", e.what()));
  }
  if (file.parts.size() == 1) {
    return make_file(file.parts.front());
  }
  elf::OutFile out;
  std::vector<std::string> targets;
  for (const Patch& part : file.parts) {
    targets.push_back(part.meta.target_name);
    elf::OutSection section;
    section.name = kPart + part.meta.target_name;
    section.alignment = 8;
    section.content = write_patch(part);
    out.sections.push_back(std::move(section));
  }
  elf::OutSection meta;
  meta.name = kMeta;
  meta.content = write_parts_meta(targets);
  out.sections.push_back(std::move(meta));
  return out;
}

}  // namespace

Bytes write_patch_file(const PatchFile& file) {
  return write_sealed(make_file(file));
}

PatchFile read_patch_file(Bytes bytes, const std::string& name) {
  const elf::File file = elf::File::parse(std::move(bytes), name);
  const std::vector<const elf::Section*> sections = part_sections(file);
  PatchFile out;
  if (sections.empty()) {
    out.parts.push_back(read_patch(copy(file.bytes()), name));
    return out;
  }
  check_sizes(sections, file);
  const std::vector<std::string> targets =
      parse_parts_meta(file.content(demand_section(file, kMeta, elf::SectionType::ProgBits)), name);
  for (const elf::Section* section : sections) {
    out.parts.push_back(
        read_patch(copy(file.content(*section)), fmt::format("{} {}", name, section->name)));
  }
  const bool same = std::equal(
      out.parts.begin(), out.parts.end(), targets.begin(), targets.end(),
      [](const Patch& part, const std::string& target) { return part.meta.target_name == target; });
  if (!same) {
    throw bad_file(name, "its parts are not those that its metadata names");
  }
  check_parts(out, name);
  return out;
}

PatchFile open_patch(const std::filesystem::path& path) {
  Bytes bytes = read_file(path);
  check_digest(elf::File::parse(copy(bytes), path.string()));
  return read_patch_file(std::move(bytes), path.string());
}

std::string PatchFile::id() const {
  return content_hash(elf::write_file(make_file(*this))).substr(0, 8);
}

std::vector<elf::AtomSymbolId> new_globals(const Patch& patch) {
  std::set<elf::AtomId> replacing;
  for (const Replaced& r : patch.replaced) {
    replacing.insert(r.new_function);
  }
  std::vector<elf::AtomSymbolId> out;
  for (elf::AtomSymbolId id = 0; id < patch.fresh.symbols.size(); ++id) {
    const elf::AtomSymbol& symbol = patch.fresh.symbols[id];
    const bool exported = symbol.visibility == elf::Visibility::Default ||
                          symbol.visibility == elf::Visibility::Protected;
    if (symbol.atom && !replacing.contains(*symbol.atom) && !symbol.anonymous && exported &&
        symbol.bind != elf::SymbolBind::Local) {
      out.push_back(id);
    }
  }
  return out;
}

}  // namespace qp::format
