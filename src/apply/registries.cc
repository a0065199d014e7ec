// Images are found by the name of their mapping, in /proc/PID/maps: a file in an image store or a
// memfd, either called qpatch-….qpi. The registry starts the first writable mapping of an image.
// A process can map anything under that name; so what is found there is checked against the maps
// before it is called a registry: the image range that it claims must be the one that is mapped.

#include "apply/registries.h"

#include <algorithm>

#include <fmt/format.h>

namespace qp::apply {
namespace {

constexpr std::string_view kPrefix = "qpatch-", kSuffix = ".qpi";
constexpr uint64_t kMostRegistry = uint64_t{16} << 20;
// Of all registries of a process together: it can map as many as the kernel lets it.
constexpr uint64_t kMostBytes = uint64_t{64} << 20;

// "qpatch-ID-HASH.qpi" without what is before it; empty if it is not called so.
std::string_view image_part(std::string_view name) {
  if (auto colon = name.rfind("memfd:"); colon != std::string_view::npos) {
    name.remove_prefix(colon + 6);
  } else if (auto slash = name.rfind('/'); slash != std::string_view::npos) {
    name.remove_prefix(slash + 1);
  }
  return name.starts_with(kPrefix) && name.ends_with(kSuffix) ? name : std::string_view();
}

std::string id_in(std::string_view image) {
  image.remove_prefix(kPrefix.size());
  return std::string(image.substr(0, image.find('-')));
}

// The header tells how much there is to be read; `budget` is what may still be.
void read_registry(const proc::Process& process, FoundRegistry& found, uint64_t room,
                   uint64_t& budget) {
  Bytes bytes(kRegistryHeader);
  bytes.resize(process.memory().read_some(found.at, bytes));
  const uint64_t length =
      bytes.size() == kRegistryHeader ? load<uint64_t>(bytes, kLengthOffset) : 0;
  const uint64_t most = std::min(room, kMostRegistry);
  if (length <= most && bytes.size() + length <= most) {
    if (length > budget) {
      found.fault = "the process has more of them than are looked at";
      return;
    }
    budget -= length;
    bytes.resize(kRegistryHeader + length);
    bytes.resize(process.memory().read_some(found.at, bytes));
  }
  found.registry = decode_registry(bytes, found.fault);
  found.blank =
      bytes.size() >= kRegistryHeader && std::all_of(bytes.begin(), bytes.begin() + kRegistryHeader,
                                                     [](std::byte b) { return b == std::byte{0}; });
  if (found.registry && found.registry->image != found.image) {
    found.fault = fmt::format("it claims the range {:#x}-{:#x}, mapped is {:#x}-{:#x}",
                              found.registry->image.start.value, found.registry->image.end.value,
                              found.image.start.value, found.image.end.value);
    found.registry.reset();
  }
}

// Behind the anonymous memory that begins at `from`, if the image called `name` goes on there: large
// variables without content (link/layout.cc). Else `from`.
size_t skip_zeros(const std::vector<proc::Mapping>& mappings, size_t from, std::string_view name) {
  for (size_t i = from; i < mappings.size(); ++i) {
    const proc::Mapping& m = mappings[i];
    if (i > from && m.range.start != mappings[i - 1].range.end) {
      return from;
    }
    if (m.name == name) {
      return m.offset != 0 ? i : from;
    }
    if (m.inode != 0 || m.shared || m.executable || !m.name.empty()) {
      return from;
    }
  }
  return from;
}

}  // namespace

std::string image_name(const std::string& patch_id, const std::string& build_id) {
  return fmt::format("{}{}-{}{}", kPrefix, patch_id, build_id.substr(0, 12), kSuffix);
}

bool is_image_name(std::string_view name) {
  return !image_part(name).empty();
}

const char* state_name(State state) {
  switch (state) {
    case State::Staged:
      return "staged";
    case State::Committing:
      return "committing";
    case State::Applied:
      return "applied";
    case State::Reverting:
      return "reverting";
    case State::Reverted:
      return "reverted";
    case State::Yielding:
      return "yielding";
  }
  return "unknown";
}

void write_state(const proc::Memory& memory, LiveAddr registry, State state) {
  Bytes bytes;
  append(bytes, static_cast<uint32_t>(state));
  memory.write(registry + kStateOffset, bytes);
}

std::vector<FoundRegistry> find_registries(const proc::Process& process) {
  std::vector<FoundRegistry> all;
  std::vector<proc::Mapping> mappings = process.mappings();
  uint64_t budget = kMostBytes;
  for (size_t i = 0; i < mappings.size();) {
    const proc::Mapping& first = mappings[i];
    if (!is_image_name(first.name)) {
      ++i;
      continue;
    }
    // An image begins at file offset 0; two images of one file never touch.
    FoundRegistry found{.at = LiveAddr(0),
                        .where = first.name,
                        .named_id = id_in(image_part(first.name)),
                        .image = first.range};
    uint64_t room = 0;
    size_t j = i;
    while (j < mappings.size() && (j == i || mappings[j].range.start == found.image.end)) {
      const size_t next = j == i ? j : skip_zeros(mappings, j, first.name);
      const proc::Mapping& m = mappings[next];
      if (m.name != first.name || (next != i && m.offset == 0)) {
        break;
      }
      found.image.end = m.range.end;
      if (m.writable && room == 0) {
        found.at = m.range.start;
        room = m.range.size();
      }
      j = next + 1;
    }
    if (room == 0) {
      found.fault = "the image has no writable mapping";
      found.blank = true;
    } else {
      read_registry(process, found, room, budget);
    }
    all.push_back(std::move(found));
    i = j;
  }
  return all;
}

std::vector<const Registry*> records_of(const std::vector<FoundRegistry>& registries) {
  std::vector<const Registry*> out;
  for (const FoundRegistry& found : registries) {
    if (found.registry) {
      out.push_back(&*found.registry);
    }
  }
  return out;
}

bool is_one_of(const std::vector<FoundRegistry>& registries, const FoundRegistry& found) {
  return std::any_of(registries.begin(), registries.end(),
                     [&](const FoundRegistry& other) { return other.image == found.image; });
}

std::vector<FoundRegistry> in_use(const std::vector<FoundRegistry>& registries, Users users,
                                  const std::vector<LiveRange>& going) {
  const auto uses = [&](const FoundRegistry& user, const FoundRegistry& home) {
    if (user.image == home.image || std::count(going.begin(), going.end(), user.image) != 0) {
      return false;
    }
    if (!user.registry) {
      return users == Users::Mapped && !user.blank;
    }
    const bool applied = user.registry->state != State::Reverted;
    const auto& variables = user.registry->variables;
    const auto& detours = user.registry->detours;
    return ((users == Users::Mapped || applied) &&
            std::any_of(variables.begin(), variables.end(),
                        [&](const RegistryVariable& v) { return home.image.contains(v.at); })) ||
           (applied && std::any_of(detours.begin(), detours.end(), [&](const RegistryDetour& d) {
              return home.image.contains(d.at);
            }));
  };
  std::vector<FoundRegistry> out;
  std::copy_if(registries.begin(), registries.end(), std::back_inserter(out), [&](auto& home) {
    return std::any_of(registries.begin(), registries.end(),
                       [&](const FoundRegistry& user) { return uses(user, home); });
  });
  return out;
}

std::vector<Group> group_registries(const std::vector<FoundRegistry>& all) {
  std::vector<Group> groups;
  for (const FoundRegistry& found : all) {
    if (!found.registry) {
      continue;
    }
    const auto same = [&](const Group& group) {
      const Registry& r = *group.front().registry;
      return r.transaction != 0 && r.transaction == found.registry->transaction &&
             r.patch_id == found.registry->patch_id;
    };
    const auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) {
      groups.push_back({found});
    } else {
      group->push_back(found);
    }
  }
  return groups;
}

}  // namespace qp::apply
