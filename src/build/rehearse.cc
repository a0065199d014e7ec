// The developer who writes a fix should learn on the build machine what can't be linked, not the
// operator on the night when it is applied. So the patch is linked once at the place that it would
// get in a process with nothing else mapped, and each detour is planned on the target's own bytes.
// The image is thrown away: processes get theirs from `apply`, which has their real distances.
//
// The unwinder of C++ does not know the image (it asks ld.so, which did not load it), so an exception
// that is thrown in new code, or passes through it, would end the process. A target that was made to
// throw or catch is refused for that.

#include "build/rehearse.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "link/far.h"
#include "link/image.h"
#include "link/placement.h"
#include "match/padding.h"

namespace qp::build {
namespace {

constexpr uint64_t kRegistryGuess = 4096;
// Where the kernel puts a PIE, roughly (Linux arch/x86/include/asm/elf.h, ELF_ET_DYN_BASE); any
// address with room on both sides would do.
constexpr uint64_t kUsualBias = 0x555555554000;

// Whether code of the target throws or catches. (libc's own cleanups, which are in each static program,
// have another personality routine.)
bool uses_exceptions(const match::SymbolMap& symbols) {
  static constexpr std::array<std::string_view, 2> kSigns = {"__gxx_personality_v0", "__cxa_throw"};
  return std::any_of(kSigns.begin(), kSigns.end(), [&](std::string_view name) {
    return symbols.import_named(name) != nullptr || !symbols.named(name).empty();
  });
}

}  // namespace

void rehearse_link(const format::Patch& patch, const TargetFile& target, Report& report) {
  if (uses_exceptions(target.symbols)) {
    report.refuse("exceptions-unsupported", target.name,
                  "it can throw or catch exceptions, which would not get through new code");
  }
  link::PlacementRequest request;
  request.target = target.file->load_range();
  request.size = link::image_size(patch, kRegistryGuess);
  request.bias = LoadBias{patch.meta.position_independent ? kUsualBias : 0};
  request.low_2g = link::needs_low_2g(patch);
  request.occupied = {{request.bias(request.target.start), request.bias(request.target.end)}};
  auto base = link::choose_place(request);
  if (!base) {
    request.target = link::used_range(patch);
    base = link::choose_place(request);
  }
  std::optional<format::Patch> far;
  if (!base) {
    far = link::make_far(patch, report);
    request.size = link::image_size(*far, kRegistryGuess);
    request.far = true;
    base = link::choose_place(request);
  }
  if (!base) {
    report.refuse("no-room", target.name, "even an empty process has no room for the image");
  }
  if (!base || !report.clean()) {
    return;
  }
  link::Image image = link::link_image(far ? *far : patch, *base, kRegistryGuess, report);
  if (!report.clean()) {
    return;
  }
  const match::Target in_file = target.view();
  const link::TargetText text{
      [&](LinkAddr at, size_t size) {
        Bytes code(size);
        code.resize(target.reader->read_some(at, code));
        return code;
      },
      [&](LinkAddr at, uint64_t size) { return target.symbols.next_start_after(at, size); },
      [&](LinkRange window, uint64_t size) {
        std::vector<link::Spare> out;
        for (match::Padding& padding : match::find_padding(in_file, window, size)) {
          out.push_back({padding.at, std::move(padding.bytes)});
        }
        return out;
      },
      {},
      request.bias};
  link::plan_detours(patch, image, text, {}, report);
}

}  // namespace qp::build
