// The registry's encoding.
//
// It lies in memory that the process can write, so that reading it is reading a file from a
// stranger: every length is checked, the payload carries a checksum, and nothing in it is acted
// upon before it was compared with the process (apply.cc, intact()). A checksum is no defence
// against malice; it tells damage from a record. What malice could gain is bounded: revert writes
// saved bytes only to addresses inside executable mappings of the module that the registry names,
// and only where the jump that the registry names is found.
//
//   0  magic "QPATCHRG"     16 length of the payload       32 time of commit (not in the checksum)
//   8  version              24 checksum of the payload     40 payload
//   12 state (not in the checksum)

#include "apply/registry.h"

#include <fmt/format.h>

#include "base/error.h"

namespace qp::apply {
namespace {

constexpr std::string_view kMagic = "QPATCHRG";
constexpr uint32_t kVersion = 6;
constexpr uint64_t kMostDetours = 65536;

uint64_t checksum(ByteView payload) {
  return std::stoull(content_hash(payload).substr(0, 16), nullptr, 16);
}

void put_text(Bytes& out, std::string_view text) {
  append(out, static_cast<uint32_t>(text.size()));
  append_text(out, text);
}
void put_texts(Bytes& out, const std::vector<std::string>& texts) {
  append(out, static_cast<uint32_t>(texts.size()));
  for (const std::string& text : texts) {
    put_text(out, text);
  }
}
void put_range(Bytes& out, LiveRange range) {
  append(out, range.start.value);
  append(out, range.end.value);
}

std::string get_text(ByteCursor& in) {
  auto size = in.read<uint32_t>();
  return std::string(as_text(in.take(size)));
}
Bytes get_bytes(ByteCursor& in) {
  auto size = in.read<uint32_t>();
  return copy(in.take(size));
}
LiveRange get_range(ByteCursor& in) {
  LiveAddr start{in.read<uint64_t>()};
  LiveAddr end{in.read<uint64_t>()};
  if (end < start) {
    throw bad_file("registry", "a range ends before it starts");
  }
  return {start, end};
}
// A count that can't be satisfied by the bytes left is a lie, and must not become an allocation.
uint32_t get_count(ByteCursor& in) {
  auto count = in.read<uint32_t>();
  if (count > in.left() || count > kMostDetours) {
    throw bad_file("registry", fmt::format("it claims {} entries", count));
  }
  return count;
}

std::vector<std::string> get_texts(ByteCursor& in) {
  std::vector<std::string> out;
  for (uint32_t i = get_count(in); i > 0; --i) {
    out.push_back(get_text(in));
  }
  return out;
}

RegistryDetour get_detour(ByteCursor& in) {
  RegistryDetour d;
  d.function = get_text(in);
  d.file = get_text(in);
  d.at = LiveAddr(in.read<uint64_t>());
  d.saved = get_bytes(in);
  d.jump = get_bytes(in);
  if (in.read<uint8_t>() != 0) {
    RegistryDetour::Island island;
    island.at = LiveAddr(in.read<uint64_t>());
    island.saved = get_bytes(in);
    island.jump = get_bytes(in);
    d.island = std::move(island);
  }
  d.entry = LiveAddr(in.read<uint64_t>());
  d.of_patch = in.read<uint8_t>() != 0;
  d.new_code = get_range(in);
  auto ranges = get_count(in);
  for (uint32_t i = 0; i < ranges; ++i) {
    d.old_code.push_back(get_range(in));
  }
  for (const RegistryDetour::Written& w : d.written()) {
    if (w.saved.size() != w.jump.size() || w.saved.empty() || w.saved.size() > 16) {
      throw bad_file("registry", fmt::format("the detour of {} has no sane size", d.function));
    }
  }
  return d;
}

void put_variables(Bytes& out, const std::vector<RegistryVariable>& variables) {
  append(out, static_cast<uint32_t>(variables.size()));
  for (const RegistryVariable& v : variables) {
    put_text(out, v.name);
    put_text(out, v.file);
    put_text(out, v.type);
    append(out, v.at.value);
    append(out, v.size);
    append(out, static_cast<uint8_t>(v.block_offset.has_value()));
    append(out, v.block_offset.value_or(0));
  }
}

void get_variables(ByteCursor& in, Registry& registry) {
  for (uint32_t i = get_count(in); i > 0; --i) {
    RegistryVariable v;
    v.name = get_text(in);
    v.file = get_text(in);
    v.type = get_text(in);
    v.at = LiveAddr(in.read<uint64_t>());
    v.size = in.read<uint64_t>();
    const bool is_thread_local = in.read<uint8_t>() != 0;
    const auto offset = in.read<uint64_t>();
    v.block_offset = is_thread_local ? std::optional(offset) : std::nullopt;
    registry.variables.push_back(std::move(v));
  }
}

void put_functions(Bytes& out, const std::vector<RegistryFunction>& functions) {
  append(out, static_cast<uint32_t>(functions.size()));
  for (const RegistryFunction& f : functions) {
    put_text(out, f.name);
    put_text(out, f.file);
    put_range(out, f.code);
  }
}

// They are written over: where they lie is believed only within the image.
void get_functions(ByteCursor& in, Registry& registry) {
  for (uint32_t i = get_count(in); i > 0; --i) {
    RegistryFunction f;
    f.name = get_text(in);
    f.file = get_text(in);
    f.code = get_range(in);
    if (f.code.start < registry.image.start || registry.image.end < f.code.end) {
      throw bad_file("registry", fmt::format("the function {} is none of its image", f.name));
    }
    registry.functions.push_back(std::move(f));
  }
}

void put_hooks(Bytes& out, const Registry& registry) {
  append(out, static_cast<uint32_t>(registry.hooks.size()));
  if (registry.hooks.empty()) {
    return;
  }
  append(out, registry.hook_return.value);
  append(out, registry.hook_asked.value);
  for (const RegistryHook& h : registry.hooks) {
    put_text(out, h.name);
    append(out, static_cast<uint8_t>(h.when));
    append(out, static_cast<uint8_t>(h.others));
    append(out, h.function.value);
  }
}

// Hooks are run: where they lie is believed only within the image.
void get_hooks(ByteCursor& in, Registry& registry) {
  using format::Hook;
  const uint32_t count = get_count(in);
  if (count == 0) {
    return;
  }
  registry.hook_return = LiveAddr(in.read<uint64_t>());
  registry.hook_asked = LiveAddr(in.read<uint64_t>());
  for (uint32_t i = 0; i < count; ++i) {
    RegistryHook h;
    h.name = get_text(in);
    h.when = static_cast<Hook::When>(in.read<uint8_t>());
    h.others = static_cast<Hook::Others>(in.read<uint8_t>());
    h.function = LiveAddr(in.read<uint64_t>());
    const bool known = h.when >= Hook::When::PreApply && h.when <= Hook::When::PostRevert &&
                       (h.others == Hook::Others::Running || h.others == Hook::Others::Stopped);
    if (!known || !registry.image.contains(h.function)) {
      throw bad_file("registry", fmt::format("the hook {} is none of its image", h.name));
    }
    registry.hooks.push_back(std::move(h));
  }
  if (!registry.image.contains(registry.hook_return) ||
      !registry.image.contains(registry.hook_asked)) {
    throw bad_file("registry", "its hooks return to a place outside of its image");
  }
}

}  // namespace

std::vector<RegistryDetour::Written> RegistryDetour::written() const {
  std::vector<Written> out;
  if (island) {
    out.push_back({island->at, island->saved, island->jump});
  }
  out.push_back({at, saved, jump});
  return out;
}

Bytes encode_registry(const Registry& registry) {
  Bytes payload;
  put_text(payload, registry.patch_id);
  put_texts(payload, registry.cves);
  put_text(payload, registry.description);
  put_text(payload, registry.target_name);
  put_text(payload, registry.target_build_id);
  append(payload, registry.staged_at);
  put_range(payload, registry.image);
  append(payload, registry.bias.value);
  append(payload, static_cast<uint8_t>(registry.may_escape));
  append(payload, registry.transaction);
  append(payload, static_cast<uint32_t>(registry.detours.size()));
  for (const RegistryDetour& d : registry.detours) {
    put_text(payload, d.function);
    put_text(payload, d.file);
    append(payload, d.at.value);
    put_text(payload, as_text(d.saved));
    put_text(payload, as_text(d.jump));
    append(payload, static_cast<uint8_t>(d.island.has_value()));
    if (d.island) {
      append(payload, d.island->at.value);
      put_text(payload, as_text(d.island->saved));
      put_text(payload, as_text(d.island->jump));
    }
    append(payload, d.entry.value);
    append(payload, static_cast<uint8_t>(d.of_patch));
    put_range(payload, d.new_code);
    append(payload, static_cast<uint32_t>(d.old_code.size()));
    for (LiveRange r : d.old_code) {
      put_range(payload, r);
    }
  }
  put_texts(payload, registry.supersedes);
  put_variables(payload, registry.variables);
  put_functions(payload, registry.functions);
  put_hooks(payload, registry);
  Bytes out;
  append_text(out, kMagic);
  append(out, kVersion);
  append(out, static_cast<uint32_t>(registry.state));
  append(out, static_cast<uint64_t>(payload.size()));
  append(out, checksum(payload));
  append(out, registry.applied_at);
  QP_ASSERT(out.size() == kRegistryHeader);
  append_bytes(out, payload);
  return out;
}

uint64_t registry_room(const Registry& without_addresses) {
  return align_up(encode_registry(without_addresses).size(), 64);
}

std::optional<Registry> decode_registry(ByteView bytes, std::string& why) {
  try {
    ByteCursor header(bytes, "registry");
    if (as_text(header.take(kMagic.size())) != kMagic) {
      why = "it has no magic number";
      return std::nullopt;
    }
    const auto version = header.read<uint32_t>();
    if (version != kVersion) {
      why = fmt::format("it has version {}; this qpatch knows {}", version, kVersion);
      return std::nullopt;
    }
    Registry r;
    auto state = header.read<uint32_t>();
    if (state < static_cast<uint32_t>(State::Staged) ||
        state > static_cast<uint32_t>(State::Yielding)) {
      why = fmt::format("its state is {}", state);
      return std::nullopt;
    }
    r.state = static_cast<State>(state);
    auto length = header.read<uint64_t>();
    auto sum = header.read<uint64_t>();
    r.applied_at = header.read<int64_t>();
    ByteView payload = header.take(length);
    if (checksum(payload) != sum) {
      why = "its checksum is wrong";
      return std::nullopt;
    }
    ByteCursor in(payload, "registry");
    r.patch_id = get_text(in);
    r.cves = get_texts(in);
    r.description = get_text(in);
    r.target_name = get_text(in);
    r.target_build_id = get_text(in);
    r.staged_at = in.read<int64_t>();
    r.image = get_range(in);
    r.bias = LoadBias{in.read<uint64_t>()};
    r.may_escape = in.read<uint8_t>() != 0;
    r.transaction = in.read<uint64_t>();
    auto detours = get_count(in);
    for (uint32_t i = 0; i < detours; ++i) {
      r.detours.push_back(get_detour(in));
    }
    r.supersedes = get_texts(in);
    get_variables(in, r);
    get_functions(in, r);
    get_hooks(in, r);
    return r;
  } catch (const Error& e) {
    why = e.what();
    return std::nullopt;
  }
}

}  // namespace qp::apply
