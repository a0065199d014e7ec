// The metadata of a patch as JSON: what `qpatch info` prints and what people may grep for.
//
// Addresses are written as hexadecimal text, as tools print them; JSON's own numbers are for
// counts. Keys are sorted and the form is fixed, so that the bytes are deterministic. Unknown keys
// are ignored when reading (a later version may add some that can be ignored); a key that is missing
// or of another type is an error; a newer format version is an error that says so, since that is
// what a user can act on. Text that is not UTF-8 (a source path can be anything) is replaced where it is not: it is for
// people, the names that count are ELF symbols.

#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "format/layout.h"

namespace qp::format {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLargestMeta = 16 << 20;

std::string address_text(LinkAddr a) {
  return fmt::format("{:#x}", a.value);
}

Bytes to_bytes(const Json& json) {
  Bytes out;
  append_text(out, json.dump(1, ' ', false, Json::error_handler_t::replace));
  append_text(out, "\n");
  return out;
}

constexpr Hook::When kAllWhen[] = {Hook::When::PreApply, Hook::When::PostApply,
                                   Hook::When::PreRevert, Hook::When::PostRevert};
constexpr Hook::Others kAllOthers[] = {Hook::Others::Running, Hook::Others::Stopped};

class MetaReader {
 public:
  explicit MetaReader(const std::string& name) : name_(name) {}

  Error fail(std::string_view what) const {
    return bad_file(name_, fmt::format("{}: {}", kMeta, what));
  }

  Json parse(ByteView json, int version) const {
    if (json.size() > kLargestMeta) {
      throw fail("it is implausibly large");
    }
    std::string_view text = as_text(json);
    Json root = Json::parse(text.begin(), text.end(), nullptr, false);
    if (root.is_discarded()) {
      throw fail("it is not JSON");
    }
    const uint32_t has = number_at(root, "format");
    const bool hooks = version == kFormatVersion && has == kHooksVersion;
    if (!hooks && has != static_cast<uint32_t>(version)) {
      throw fail(fmt::format("the patch has format {}, this qpatch reads format {}", has, version));
    }
    return root;
  }

  const Json& at(const Json& object, const char* key) const {
    if (!object.is_object() || !object.contains(key)) {
      throw fail(fmt::format("'{}' is missing", key));
    }
    return object.at(key);
  }

  std::string text(const Json& value, std::string_view what) const {
    if (!value.is_string()) {
      throw fail(fmt::format("'{}' is not a text", what));
    }
    return value.get<std::string>();
  }
  std::string text_at(const Json& object, const char* key) const {
    return text(at(object, key), key);
  }

  const Json& list_at(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!value.is_array()) {
      throw fail(fmt::format("'{}' is not a list", key));
    }
    return value;
  }
  std::vector<std::string> texts_at(const Json& object, const char* key) const {
    std::vector<std::string> out;
    for (const Json& value : list_at(object, key)) {
      out.push_back(text(value, key));
    }
    return out;
  }

  bool flag_at(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!value.is_boolean()) {
      throw fail(fmt::format("'{}' is neither true nor false", key));
    }
    return value.get<bool>();
  }

  uint32_t number_at(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX) {
      throw fail(fmt::format("'{}' is not a number of 32 bits", key));
    }
    return value.get<uint32_t>();
  }

  LinkAddr address(const Json& value, std::string_view what) const {
    std::string digits = text(value, what);
    uint64_t number = 0;
    const char* end = digits.data() + digits.size();
    if (!digits.starts_with("0x") || digits.size() < 3) {
      throw fail(fmt::format("'{}' is not a hexadecimal number", what));
    }
    auto result = std::from_chars(digits.data() + 2, end, number, 16);
    if (result.ec != std::errc() || result.ptr != end) {
      throw fail(fmt::format("'{}' is not a hexadecimal number", what));
    }
    return LinkAddr(number);
  }

  Replaced replaced(const Json& value) const {
    Replaced r;
    r.name = text_at(value, "name");
    r.file = text_at(value, "file");
    r.old_function = number_at(value, "old");
    r.new_function = number_at(value, "new");
    r.entry = address(at(value, "entry"), "entry");
    for (const Json& range : list_at(value, "ranges")) {
      if (!range.is_array() || range.size() != 2) {
        throw fail("a range does not have two ends");
      }
      r.ranges.push_back({address(range[0], "ranges"), address(range[1], "ranges")});
    }
    r.why = text_at(value, "why");
    return r;
  }

  Variable variable(const Json& value) const {
    return {number_at(value, "symbol"), text_at(value, "name"), text_at(value, "type")};
  }

  template <class E, size_t n>
  E one_of(const E (&all)[n], const Json& object, const char* key) const {
    const std::string text = text_at(object, key);
    for (E e : all) {
      if (text == name_of(e)) {
        return e;
      }
    }
    throw fail(fmt::format("'{}' is not a known word for '{}'", text, key));
  }

  Hook hook(const Json& value) const {
    Hook h;
    h.name = text_at(value, "name");
    h.file = text_at(value, "file");
    h.when = one_of(kAllWhen, value, "when");
    h.others = one_of(kAllOthers, value, "others");
    h.function = number_at(value, "function");
    return h;
  }

 private:
  const std::string& name_;
};

}  // namespace

const char* name_of(Hook::When when) {
  switch (when) {
    case Hook::When::PreApply:
      return "pre-apply";
    case Hook::When::PostApply:
      return "post-apply";
    case Hook::When::PreRevert:
      return "pre-revert";
    case Hook::When::PostRevert:
      return "post-revert";
  }
  return "unknown";
}

const char* name_of(Hook::Others others) {
  return others == Hook::Others::Running ? "running" : "stopped";
}

Bytes write_meta(const Patch& patch) {
  const Meta& m = patch.meta;
  Json replaced = Json::array();
  for (const Replaced& r : patch.replaced) {
    Json ranges = Json::array();
    for (const LinkRange& range : r.ranges) {
      ranges.push_back(Json::array({address_text(range.start), address_text(range.end)}));
    }
    replaced.push_back({{"name", r.name},
                        {"file", r.file},
                        {"old", r.old_function},
                        {"new", r.new_function},
                        {"entry", address_text(r.entry)},
                        {"ranges", ranges},
                        {"why", r.why}});
  }
  Json json = {{"format", patch.hooks.empty() ? kFormatVersion : kHooksVersion},
               {"target",
                {{"name", m.target_name},
                 {"soname", m.target_soname},
                 {"build_id", m.target_build_id},
                 {"position_independent", m.position_independent}}},
               {"description", m.description},
               {"cves", m.cves},
               {"toolchain", m.toolchain},
               {"sources", m.sources},
               {"waivers", m.waivers},
               {"supersedes", m.supersedes},
               {"replaced", replaced},
               {"variables", Json::array()}};
  for (const Variable& v : patch.variables) {
    json["variables"].push_back({{"symbol", v.symbol}, {"name", v.name}, {"type", v.type}});
  }
  for (const Hook& h : patch.hooks) {
    json["hooks"].push_back({{"name", h.name},
                             {"file", h.file},
                             {"when", name_of(h.when)},
                             {"others", name_of(h.others)},
                             {"function", h.function}});
  }
  return to_bytes(json);
}

Bytes write_parts_meta(const std::vector<std::string>& targets) {
  return to_bytes({{"format", kPartsVersion}, {"parts", targets}});
}

std::vector<std::string> parse_parts_meta(ByteView json, const std::string& name) {
  MetaReader reader(name);
  return reader.texts_at(reader.parse(json, kPartsVersion), "parts");
}

void parse_meta(ByteView json, const std::string& name, Patch& patch) {
  MetaReader reader(name);
  Json root = reader.parse(json, kFormatVersion);
  const Json& target = reader.at(root, "target");
  Meta& m = patch.meta;
  m.target_name = reader.text_at(target, "name");
  m.target_soname = reader.text_at(target, "soname");
  m.target_build_id = reader.text_at(target, "build_id");
  m.position_independent = reader.flag_at(target, "position_independent");
  m.description = reader.text_at(root, "description");
  m.cves = reader.texts_at(root, "cves");
  m.toolchain = reader.text_at(root, "toolchain");
  m.sources = reader.texts_at(root, "sources");
  m.waivers = reader.texts_at(root, "waivers");
  m.supersedes = reader.texts_at(root, "supersedes");
  for (const Json& value : reader.list_at(root, "replaced")) {
    patch.replaced.push_back(reader.replaced(value));
  }
  for (const Json& value : reader.list_at(root, "variables")) {
    patch.variables.push_back(reader.variable(value));
  }
  if (reader.number_at(root, "format") == kHooksVersion) {
    for (const Json& value : reader.list_at(root, "hooks")) {
      patch.hooks.push_back(reader.hook(value));
    }
  }
}

}  // namespace qp::format
