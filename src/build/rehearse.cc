// The developer who writes a fix should learn on the build machine what can't be linked, not the
// operator on the night when it is applied. So the patch is linked once at the place that it would
// get in a process with nothing else mapped, and each detour is planned on the target's own bytes.
// The image is thrown away: processes get theirs from `apply`, which has their real distances.

#include "build/rehearse.h"

#include "build/exceptions.h"
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

}  // namespace

void rehearse_link(const format::Patch& patch, const TargetFile& target, Report& report) {
  if (const auto sign = find_exceptions(target, patch)) {
    report.refuse("exceptions-unsupported", target.name, *sign);
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
