// The registry: the record of a patch that lives in the patched process itself, at the start of the
// image's writable segment. It is the only truth about what is applied; list, status and revert
// read it from the process. It is read without trusting it (a process can write there).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/memory_reader.h"
#include "format/patch.h"

namespace qp::apply {

enum class State : uint32_t {
  Staged = 1,
  Committing = 2,
  Applied = 3,
  Reverting = 4,
  Reverted = 5,
  Yielding = 6,  // applied, and about to make room for a patch that supersedes it
};

struct RegistryDetour {
  std::string function;
  std::string file;  // FILE scope of a static function
  LiveAddr at;       // first overwritten byte
  Bytes saved;       // what was there
  Bytes jump;        // what is there now
  // Of a short one: where it leads, in padding of the target (link/detour.cc).
  struct Island {
    LiveAddr at;
    Bytes saved, jump;
  };
  std::optional<Island> island;
  LiveAddr entry;      // of the old function
  LiveRange new_code;  // the replacement in the image
  std::vector<LiveRange> old_code;
  bool of_patch = false;  // the old function is one of an earlier patch, in that one's image

  // All bytes that are changed, in the order in which they are: the island before the jump to it.
  struct Written {
    LiveAddr at;
    const Bytes& saved;
    const Bytes& jump;
    LiveRange range() const { return {at, at + jump.size()}; }
  };
  std::vector<Written> written() const;
};

// A hook for a revert to come, or one that has run.
struct RegistryHook {
  std::string name;
  format::Hook::When when = format::Hook::When::PreApply;
  format::Hook::Others others = format::Hook::Others::Stopped;
  LiveAddr function;
};

// A function that the patch brought and whose address it hands out, so that the program may keep it. A
// patch that supersedes this one makes it lead to its own function of that name.
struct RegistryFunction {
  std::string name;
  std::string file;  // FILE scope of a static one
  LiveRange code;
  bool operator==(const RegistryFunction&) const = default;
};

// A variable that the patch brought, or took over from one that it superseded. It is where it is: a
// patch that supersedes this one goes on using it there.
struct RegistryVariable {
  std::string name;  // without the numbers that compilers append
  std::string file;  // FILE scope of a static one
  std::string type;  // format::Variable's
  LiveAddr at;
  uint64_t size = 0;
  // Thread-local: `at` is the description of the block of its patch, which runtime.h calls tls_block.
  std::optional<uint64_t> block_offset;
  bool operator==(const RegistryVariable&) const = default;
};

struct Registry {
  State state = State::Staged;
  std::string patch_id;
  std::vector<std::string> cves;
  std::string description;
  std::string target_name, target_build_id;
  int64_t staged_at = 0, applied_at = 0;  // Unix seconds
  LiveRange image;                        // all mappings of the image
  LoadBias bias;
  // The patch's code hands out addresses of its own functions or variables, so that after a revert
  // something that no scan sees (the kernel, say) may still hold one: the image stays mapped.
  bool may_escape = true;
  // A patch can have several images in a process, which are applied and reverted together: those
  // with equal patch id and equal number here. 0: it is alone.
  uint64_t transaction = 0;
  std::vector<std::string> supersedes;  // ids of patches
  std::vector<RegistryDetour> detours;
  std::vector<RegistryVariable> variables;
  std::vector<RegistryFunction> functions;
  std::vector<RegistryHook> hooks;   // in the order of the patch
  LiveAddr hook_return, hook_asked;  // link::Image's, if there are hooks
};

// A fixed header (magic, version, state, length, checksum, time of commit), then the fields. State
// and time are outside of the checksum: each changes by one aligned write.
Bytes encode_registry(const Registry& registry);
// Nullopt and a reason in `why` if it is not one, was damaged, or lies.
std::optional<Registry> decode_registry(ByteView bytes, std::string& why);
inline constexpr uint64_t kRegistryHeader = 40;
inline constexpr uint64_t kStateOffset = 12;      // uint32_t, in the encoding
inline constexpr uint64_t kLengthOffset = 16;     // uint64_t, of what follows the header
inline constexpr uint64_t kAppliedAtOffset = 32;  // int64_t
// Bytes that encode_registry() will need at most for what is known before an image is linked.
uint64_t registry_room(const Registry& without_addresses);

}  // namespace qp::apply
