// The way back has the same steps whether a patch is reverted or an interrupted run is cleaned up:
// look whether the registry tells the truth, write the saved bytes over the detours while nobody is
// inside, and let go of the image.
//
// A forged registry can make us restore original code, and nothing else.

#include "apply/undo.h"

#include <algorithm>

#include <fmt/format.h>

#include "apply/reach.h"
#include "apply/stage.h"
#include "apply/superseded.h"
#include "elf/file.h"

namespace qp::apply {
namespace {

// What may be scanned while the process stands still: about half a millisecond.
constexpr uint64_t kScanLimit = uint64_t{1} << 20;

Bytes read_live(const proc::Process& process, LiveAddr at, size_t size) {
  Bytes bytes(size);
  bytes.resize(process.memory().read_some(at, bytes));
  return bytes;
}

// Whether a patch that is applied has these bytes there: one that was about to be superseded by this one.
bool is_written_by_another(const proc::Process& process, const Registry& registry, LiveAddr at,
                           const Bytes& bytes) {
  for (const FoundRegistry& found : find_registries(process)) {
    if (!found.registry || found.registry->state != State::Applied ||
        found.registry->image == registry.image) {
      continue;
    }
    for (const CodeWrite& write : writes_of(*found.registry)) {
      if (write.at == at && write.wanted == bytes) {
        return true;
      }
    }
  }
  return false;
}

bool has_code(const proc::Module& module, LiveRange range) {
  return module.file &&
         std::any_of(module.executable.begin(), module.executable.end(), [&](LiveRange code) {
           return code.contains(range.start) && code.contains(range.end - 1);
         });
}

// The images of patches, as modules.
class Images {
 public:
  explicit Images(const proc::Process& process)
      : modules_(process.modules()), registries_(find_registries(process)) {}
  // The one with a readable registry that has code there; nullptr: none has. (By its code: one can be
  // mapped between the segments of a library.)
  const proc::Module* find(LiveRange code) const {
    const bool known = std::any_of(registries_.begin(), registries_.end(), [&](auto& found) {
      return found.registry && found.image.contains(code.start);
    });
    const auto module =
        std::find_if(modules_.begin(), modules_.end(), [&](auto& m) { return has_code(m, code); });
    return known && module != modules_.end() ? &*module : nullptr;
  }

 private:
  std::vector<proc::Module> modules_;
  std::vector<FoundRegistry> registries_;
};

std::vector<LiveRange> ranges_of(const std::vector<MappedImage>& images) {
  std::vector<LiveRange> out;
  for (const MappedImage& image : images) {
    out.push_back(image.range);
  }
  return out;
}

// Second look, after the switch: are the images unreachable?
std::string why_reachable(const proc::Process& process, const std::vector<MappedImage>& images) {
  if (std::any_of(images.begin(), images.end(), [](auto& image) { return image.may_escape; })) {
    return "its code hands out addresses of its own functions or variables";
  }
  ReachScan scan(process, ranges_of(images), kScanLimit);
  if (std::string obstacle = scan.obstacle(); !obstacle.empty()) {
    return obstacle;
  }
  proc::Frozen frozen = proc::Frozen::freeze(process);
  std::string reach = frozen.gone() ? "" : scan.look(frozen);
  frozen.thaw();
  return reach;
}

void note_kept(LiveRange image, std::string_view why, Outcome& outcome) {
  outcome.notes.push_back(fmt::format("image kept mapped ({} KiB at {:#x}): {}",
                                      image.size() / 1024, image.start.value, why));
}

// Takes out those that code of others uses. One that stays is used by what uses its variables, and so
// uses those of others itself.
void keep_used(const std::vector<FoundRegistry>& registries, std::vector<MappedImage>& images,
               Outcome& outcome) {
  for (size_t before = images.size() + 1; images.size() < before;) {
    before = images.size();
    const std::vector<FoundRegistry> used = in_use(registries, Users::Mapped, ranges_of(images));
    std::erase_if(images, [&](const MappedImage& image) {
      const bool stays = std::any_of(used.begin(), used.end(),
                                     [&](auto& home) { return home.image == image.range; });
      if (stays) {
        note_kept(image.range, "a patch uses its variables, or leads on from its functions",
                  outcome);
      }
      return stays;
    });
  }
}

}  // namespace

const proc::Module* find_module(const std::vector<proc::Module>& modules, const Registry& r) {
  for (const proc::Module& m : modules) {
    if (m.build_id == r.target_build_id && m.bias == r.bias) {
      return &m;
    }
  }
  return nullptr;
}

std::vector<std::string> find_faults(const proc::Process& process, const proc::Module* module,
                                     const Registry& r, Expected expected) {
  if (module == nullptr || !module->file) {
    return {fmt::format("{} (build-id {}) is not mapped at the place that it names", r.target_name,
                        r.target_build_id)};
  }
  std::vector<std::string> faults;
  std::optional<Images> images;  // looked for if there is anything to look for in one
  for (const RegistryDetour& d : r.detours) {
    if (d.of_patch && !images) {
      images.emplace(process);
    }
    const proc::Module* home = d.of_patch ? images->find({d.at, d.at + d.jump.size()}) : module;
    for (const RegistryDetour::Written& w : d.written()) {
      Bytes original(w.saved.size());
      if (home == nullptr || !has_code(*home, w.range()) || !r.image.contains(d.new_code.start)) {
        faults.push_back(fmt::format("the detour of {} at {:#x} is not in the {}", d.function,
                                     w.at.value,
                                     d.of_patch ? "code of an image" : "target's text"));
      } else if (!elf::read_code(*home->file, home->bias(w.at), original) || original != w.saved) {
        faults.push_back(fmt::format("the saved bytes of {} are not those of the {}'s file",
                                     d.function, d.of_patch ? "image" : "target"));
      } else if (Bytes have = read_live(process, w.at, w.jump.size());
                 have != w.jump && expected != Expected::Anything &&
                 !(expected == Expected::HalfDone &&
                   (have == w.saved || is_cut(w.at, have, w.saved, w.jump) ||
                    is_written_by_another(process, r, w.at, have)))) {
        faults.push_back(fmt::format("{} at {:#x} holds {}, not the detour {}", d.function,
                                     w.at.value, hex(have), hex(w.jump)));
      }
    }
  }
  return faults;
}

void add_new_code_ranges(const Registry& registry, std::vector<LiveRange>& out) {
  out.push_back(registry.image);
  for (const RegistryDetour& d : registry.detours) {
    if (d.island) {
      out.push_back({d.island->at, d.island->at + d.island->jump.size()});
    }
  }
}

std::vector<CodeWrite> undo_writes(const proc::Process& process, const Registry& registry) {
  std::vector<CodeWrite> writes;
  for (const RegistryDetour& d : registry.detours) {
    for (const RegistryDetour::Written& w : d.written()) {
      Bytes have = read_live(process, w.at, w.jump.size());
      if (have == w.jump || (have != w.saved && is_cut(w.at, have, w.saved, w.jump))) {
        writes.push_back({d.function, w.at, std::move(have), w.saved});
      }
    }
  }
  // Backwards: a jump goes before the island that it leads to.
  std::reverse(writes.begin(), writes.end());
  return writes;
}

std::vector<MappedImage> images_of(const std::vector<FoundRegistry>& registries) {
  std::vector<MappedImage> out;
  for (const FoundRegistry& found : registries) {
    out.push_back({found.image, found.registry && found.registry->may_escape});
  }
  return out;
}

void release_images(const proc::Process& process, std::vector<MappedImage> images,
                    Outcome& outcome) {
  std::string reach;
  // The old code is back already. What fails from here on keeps the images, and is no failure of
  // the revert.
  try {
    keep_used(find_registries(process), images, outcome);
    if (images.empty()) {
      return;
    }
    reach = why_reachable(process, images);
    if (reach.empty() && !unmap_images(process, ranges_of(images))) {
      reach = "no thread could be borrowed to unmap it";
    }
  } catch (const Error& e) {
    reach = e.what();
  }
  for (const MappedImage& image : images) {
    if (!reach.empty() && process.same_program()) {  // else all of them are gone
      note_kept(image.range, reach, outcome);
    }
  }
}

}  // namespace qp::apply
