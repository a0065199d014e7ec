// Distributions keep symbols apart from programs, in three ways (GDB manual, "Separate Debug Files"
// and "MiniDebugInfo"):
//
//   /usr/lib/debug/.build-id/ab/cdef….debug    named by the build-id
//   .gnu_debuglink in the program              a file name and a CRC of that file
//   .gnu_debugdata in the program              an xz-compressed ELF file with a reduced .symtab
//
// The CRC is not computed: the build-id has to be equal, which says more, and a target without one
// is refused anyway.

#include "elf/debug_files.h"

#include <lzma.h>

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::elf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kDebugRoot = "/usr/lib/debug";
constexpr uint64_t kDecoderMemory = uint64_t{128} << 20;  // of the xz decoder
constexpr size_t kLargestMiniDebug = size_t{256} << 20;   // decompressed

std::vector<fs::path> usual_places(const File& file, const fs::path& path) {
  std::vector<fs::path> places;
  if (const auto id = file.build_id(); id && id->size() > 2) {
    places.push_back(fs::path(kDebugRoot) / ".build-id" / id->substr(0, 2) /
                     (id->substr(2) + ".debug"));
  }
  if (const auto name = debug_link(file)) {
    std::error_code error;
    fs::path directory = fs::canonical(path, error).parent_path();
    if (!error) {
      places.push_back(directory / *name);
      places.push_back(directory / ".debug" / *name);
      places.push_back(fs::path(kDebugRoot) / directory.relative_path() / *name);
    }
  }
  return places;
}

}  // namespace

std::optional<std::string> debug_link(const File& file) {
  const Section* section = file.find_section(".gnu_debuglink");
  if (section == nullptr) {
    return std::nullopt;
  }
  const ByteView content = file.content(*section);
  const auto end = std::find(content.begin(), content.end(), std::byte{0});
  const std::string name(reinterpret_cast<const char*>(content.data()),
                         static_cast<size_t>(end - content.begin()));
  const bool plain = !name.empty() && end != content.end() && name.find('/') == std::string::npos &&
                     name != "." && name != "..";
  return plain ? std::optional(name) : std::nullopt;
}

std::optional<File> find_debug_file(const File& file, const fs::path& path,
                                    std::vector<std::string>& warnings) {
  for (const fs::path& place : usual_places(file, path)) {
    std::error_code error;
    if (!fs::is_regular_file(place, error) || fs::equivalent(place, path, error)) {
      continue;
    }
    try {
      File debug = File::open(place);
      if (debug.build_id() == file.build_id() && !debug.symbols().empty()) {
        return debug;
      }
      warnings.push_back(
          fmt::format("{} is not the debug file of {}: {}", place.string(), path.string(),
                      debug.symbols().empty() ? "it has no .symtab" : "its build-id is another"));
    } catch (const Error& e) {
      warnings.push_back(fmt::format("{} was not used: {}", place.string(), e.what()));
    }
  }
  return std::nullopt;
}

std::optional<File> read_mini_debug(const File& file) {
  const Section* section = file.find_section(".gnu_debugdata");
  if (section == nullptr) {
    return std::nullopt;
  }
  const auto fail = [&](const std::string& what) {
    return Error("bad-file", "decompressing .gnu_debugdata of", file.name(), what);
  };
  const ByteView packed = file.content(*section);
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_decoder(&stream, kDecoderMemory, 0) != LZMA_OK) {
    throw fail("no memory");
  }
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> guard(&stream, lzma_end);
  stream.next_in = reinterpret_cast<const uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  Bytes bytes;
  lzma_ret result = LZMA_OK;
  while (result == LZMA_OK) {
    const size_t have = bytes.size();
    if (have >= kLargestMiniDebug) {
      throw fail("it is too large");
    }
    bytes.resize(std::min(kLargestMiniDebug, have + std::max<size_t>(have, 1 << 16)));
    stream.next_out = reinterpret_cast<uint8_t*>(bytes.data() + have);
    stream.avail_out = bytes.size() - have;
    result = lzma_code(&stream, LZMA_FINISH);
    bytes.resize(bytes.size() - stream.avail_out);
  }
  if (result != LZMA_STREAM_END) {
    throw fail(fmt::format("the xz decoder says {}", static_cast<int>(result)));
  }
  return File::parse(std::move(bytes), file.name() + " (.gnu_debugdata)");
}

}  // namespace qp::elf
