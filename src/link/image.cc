// Links a patch: from atoms to a file that processes map.
//
// The result serves three readers at once. The process executes it, so the bytes must be right at
// one distance from the target and the same for every process with that distance. Tools open it
// (gdb by add-symbol-file, perf and core dumps through the mapping), so it is an ordinary ELF file
// with segments, sections, symbols, unwind tables and a build-id, and its addresses are those of
// the target's address space: with the target's load bias everything falls into place. And qpatch
// finds it again: its name is the hash of its content, so equal images are one file in the page
// cache.
//
// The build-id is computed over the whole file with the build-id's own bytes zero. It covers what
// can't be seen in memory too (symbols), so that two images of one build-id are one file.
//
// A patch that can't be linked appends findings; what was built so far is thrown away by the
// caller.

#include "link/image.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/object_writer.h"
#include "link/frames.h"
#include "link/layout.h"
#include "link/relocate.h"

namespace qp::link {
namespace {

struct PartStyle {
  std::string_view name;
  elf::SectionType type;
  uint64_t flags;
};

PartStyle style_of(Part part) {
  constexpr auto kBits = elf::SectionType::ProgBits;
  switch (part) {
    case kNote:
      return {".note.gnu.build-id", elf::SectionType::Note, elf::kAlloc};
    case kEhFrameHdr:
      return {".eh_frame_hdr", kBits, elf::kAlloc};
    case kEhFrame:
      return {".eh_frame", kBits, elf::kAlloc};
    case kRodata:
      return {".rodata", kBits, elf::kAlloc};
    case kText:
      return {".text", kBits, elf::kAlloc | elf::kExec};
    case kRegistry:
      return {".qpatch.registry", kBits, elf::kAlloc | elf::kWrite};
    case kTlsData:  // not .tdata: it is no TLS segment of ld.so's
      return {".qpatch.tdata", kBits, elf::kAlloc | elf::kWrite};
    case kGot:
      return {".got", kBits, elf::kAlloc | elf::kWrite};
    case kDataRelRo:
      return {".data.rel.ro", kBits, elf::kAlloc | elf::kWrite};
    case kData:
      return {".data", kBits, elf::kAlloc | elf::kWrite};
    case kZeros:
      return {".bss", elf::SectionType::NoBits, elf::kAlloc | elf::kWrite};
    case kBss:  // not .bss, since its zeros are in the file
      return {".qpatch.bss", kBits, elf::kAlloc | elf::kWrite};
    case kParts:
      break;
  }
  throw Bug("no such part of an image");
}

// Section numbers (from 1) of the parts that are there.
using SectionNumbers = std::array<uint32_t, kParts>;

SectionNumbers add_sections(elf::OutFile& file, const Layout& layout, Content& content) {
  SectionNumbers numbers{};
  for (uint8_t i = 0; i < kParts; ++i) {
    auto part = static_cast<Part>(i);
    const Area& area = layout.parts[part];
    if (area.size == 0) {
      continue;
    }
    PartStyle style = style_of(part);
    elf::OutSection section;
    section.name = style.name;
    section.type = style.type;
    section.flags = style.flags;
    section.alignment = area.alignment;
    section.entry_size = part == kGot ? kSlotSize : 0;
    section.address = area.address;
    section.offset = layout.offset_of(area.address);
    section.content = std::move(content.parts[part]);
    section.size = area.size;
    QP_ASSERT(section.content.size() == (part == kZeros ? 0 : area.size));
    file.sections.push_back(std::move(section));
    numbers[part] = static_cast<uint32_t>(file.sections.size());
  }
  return numbers;
}

// Segments are whole pages; the writer fills the file up to their ends with zeros, so that what
// follows in the file (symbols, headers) is not to be seen in memory.
void add_segments(elf::OutFile& file, const Layout& layout) {
  for (const ImageSegment& s : layout.segments) {
    file.segments.push_back({elf::SegmentType::Load, s.flags, s.offset, s.address, s.file_size,
                             s.memory_size, kPageSize});
  }
  auto add = [&](elf::SegmentType type, Part part) {
    const Area& area = layout.parts[part];
    if (area.size != 0) {
      file.segments.push_back({type, elf::kSegR, layout.offset_of(area.address), area.address,
                               area.size, area.size, 4});
    }
  };
  add(elf::SegmentType::Note, kNote);
  add(elf::SegmentType::GnuEhFrame, kEhFrameHdr);
  file.segments.push_back(
      {elf::SegmentType::GnuStack, elf::kSegR | elf::kSegW, FileOffset(0), LinkAddr(0), 0, 0, 16});
}

void add_symbols(elf::OutFile& file, const format::Patch& patch, const Layout& layout,
                 const SectionNumbers& numbers) {
  for (const elf::AtomSymbol& symbol : patch.fresh.symbols) {
    // A thread-local variable has no address that a symbol could tell.
    if (!symbol.atom || symbol.anonymous || elf::is_tls(patch.fresh.atoms[*symbol.atom].storage)) {
      continue;
    }
    elf::OutSymbol out;
    out.name = symbol.name;
    out.value = (layout.atoms[*symbol.atom] + symbol.offset).value;
    out.size = symbol.size;
    out.type = symbol.type;
    out.bind = symbol.bind;
    out.visibility = symbol.visibility;
    out.section = numbers[layout.part_of[*symbol.atom]];
    file.symbols.push_back(std::move(out));
  }
  for (elf::AtomSymbolId import : layout.slots.veneers) {
    elf::OutSymbol out;
    out.name = patch.fresh.symbols[import].name + ".veneer";
    out.value = layout.veneer(import).value;
    out.size = kVeneerSize;
    out.type = elf::SymbolType::Func;
    out.section = numbers[kText];
    file.symbols.push_back(std::move(out));
  }
  if (layout.hook_return) {
    elf::OutSymbol out;
    out.name = "qpatch.hook_return";
    out.value = layout.hook_return->value;
    out.size = kHookReturn.size();
    out.type = elf::SymbolType::Func;
    out.section = numbers[kText];
    file.symbols.push_back(std::move(out));
  }
}

std::string stamp_build_id(Bytes& file) {
  std::string id = content_hash(file).substr(0, kBuildIdSize * 2);
  for (size_t i = 0; i < kBuildIdSize; ++i) {
    uint8_t byte = 0;
    const char* digits = id.data() + 2 * i;
    std::from_chars(digits, digits + 2, byte, 16);
    store(ByteSpan(file), kHeaderRoom + kNoteBuildIdAt + i, byte);
  }
  return id;
}

}  // namespace

bool needs_low_2g(const format::Patch& patch) {
  for (const elf::Atom& atom : patch.fresh.atoms) {
    for (const elf::Ref& ref : atom.refs) {
      bool absolute32 = ref.type == elf::RelocType::R32 || ref.type == elf::RelocType::R32S;
      if (absolute32 && patch.fresh.symbols[ref.symbol].atom) {
        return true;
      }
    }
  }
  return false;
}

LinkRange used_range(const format::Patch& patch) {
  constexpr uint64_t kField = 8;
  std::vector<LinkAddr> places;
  for (const format::Replaced& f : patch.replaced) {
    for (const LinkRange range : f.ranges) {
      places.push_back(range.start);
      places.push_back(range.end);
    }
  }
  for (const elf::Atom& atom : patch.fresh.atoms) {
    for (const elf::Ref& ref : atom.refs) {
      const elf::Binding& binding = patch.fresh_bindings[ref.symbol];
      const bool by_distance =
          !patch.fresh.symbols[ref.symbol].atom && ref.type != elf::RelocType::R64;
      if (by_distance && binding.kind == elf::BindingKind::Address) {
        places.push_back(binding.address + static_cast<uint64_t>(ref.addend));
      }
      for (const LinkAddr at : {binding.stub, binding.got_slot}) {
        if (by_distance && at.value != 0) {
          places.push_back(at);
        }
      }
    }
    for (const elf::FrameEntry& frame : atom.frames) {
      if (frame.personality) {
        const elf::Binding& binding = patch.fresh_bindings[frame.personality->symbol];
        if (binding.kind == elf::BindingKind::Address) {
          places.push_back(binding.address);
        }
      }
    }
  }
  QP_ASSERT(!places.empty());
  const auto [first, last] = std::minmax_element(places.begin(), places.end());
  return {*first, *last + kField};
}

uint64_t image_size(const format::Patch& patch, uint64_t registry_size) {
  Report ignored;  // link_image reports it
  return lay_out(patch, LinkAddr(0), registry_size, ignored).range.size();
}

Image link_image(const format::Patch& patch, LinkAddr base, uint64_t registry_size, Report& report,
                 const ThreadLocals& elsewhere) {
  const Layout layout = lay_out(patch, base, registry_size, report);
  Content content = make_content(patch, layout, elsewhere, report);

  const Area& eh_frame = layout.parts[kEhFrame];
  const Area& eh_frame_hdr = layout.parts[kEhFrameHdr];
  FrameTables frames = write_frames(
      described_ranges(patch, layout), eh_frame.address, eh_frame_hdr.address,
      [&](const elf::Ref& ref, bool indirect, std::string_view function) {
        return find_frame_pointer(patch, layout, ref, indirect, function, report);
      },
      report);
  content.parts[kEhFrame] = std::move(frames.eh_frame);
  content.parts[kEhFrameHdr] = std::move(frames.eh_frame_hdr);
  content.parts[kNote] = elf::encode_note("GNU", elf::kNoteBuildId, Bytes(kBuildIdSize));
  content.parts[kRegistry].resize(registry_size);

  elf::OutFile file;
  file.type = elf::FileType::SharedObject;
  SectionNumbers numbers = add_sections(file, layout, content);
  add_segments(file, layout);
  add_symbols(file, patch, layout, numbers);

  Image image;
  image.file = elf::write_file(file);
  image.build_id = stamp_build_id(image.file);
  image.range = layout.range;
  image.segments = layout.segments;
  image.atoms = layout.atoms;
  image.thread_locals = layout.tls.description;
  for (elf::AtomSymbolId id = 0; id < patch.fresh.symbols.size(); ++id) {
    const elf::AtomSymbol& symbol = patch.fresh.symbols[id];
    if (symbol.atom && elf::is_tls(patch.fresh.atoms[*symbol.atom].storage)) {
      image.block_offsets[id] = layout.tls.offsets[*symbol.atom] + symbol.offset;
    }
  }
  image.fills = std::move(content.fills);
  image.registry = {layout.parts[kRegistry].address,
                    layout.parts[kRegistry].address + registry_size};
  for (uint32_t i = 0; i < patch.replaced.size(); ++i) {
    const elf::AtomId id = patch.replaced[i].new_function;
    QP_ASSERT(id < patch.fresh.atoms.size());
    const LinkAddr start = layout.atoms[id];
    image.new_functions.push_back(
        {patch.replaced[i].name, {start, start + patch.fresh.atoms[id].size}, i});
  }
  for (const format::Hook& hook : patch.hooks) {
    QP_ASSERT(hook.function < patch.fresh.atoms.size());
    image.hooks.push_back(layout.atoms[hook.function]);
  }
  if (layout.hook_return) {
    image.hook_return = *layout.hook_return + kHookReturnEntry;
    image.hook_asked = *layout.hook_return + kHookReturnAsked;
  }
  return image;
}

}  // namespace qp::link
