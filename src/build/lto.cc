// With -flto the objects of a build hold the compiler's intermediate language. What runs is made by
// the back end when the program is linked: functions of all units are inlined into each other, and
// statics of one name are told apart by new names. So the unit that can be diffed is the whole
// link. It is repeated twice with its recorded command, once with the touched objects compiled from
// the original source and once from the patched one, and -save-temps keeps the objects that the
// back end hands to the linker (GCC manual, "Options That Control Optimization": -flto;
// gcc/lto-wrapper.cc names them OUTPUT.ltransN.ltrans.o). Options of the link reach the back end,
// so -ffunction-sections can be added there.
//
// The command is not in compile_commands.json, which knows compilations only. CMake keeps it in
// link.txt (Makefiles) or can be asked through Ninja; otherwise the user gives it.
//
// -save-temps also writes beside each input object, which is the user's build tree. So all inputs
// are named through symbolic links in a directory of ours.

#include "build/lto.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "build/compdb.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRemedy =
    "give the command that links the target with --link-command FILE (a line of `make V=1`, "
    "CMake's link.txt, `ninja -t commands`), or build the target without -flto";

Error no_command(const fs::path& target, const std::string& why) {
  return Error("link-command", "can't repeat the link of", target.string(),
               fmt::format("{}; {}", why, kRemedy), ExitCode::Failure);
}

// Some generators wrap it: ": && cc … && :".
std::string unwrapped(std::string line) {
  constexpr std::string_view kBefore = ": && ", kAfter = " && :";
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) {
    line.pop_back();
  }
  if (line.starts_with(kBefore)) {
    line.erase(0, kBefore.size());
  }
  if (line.ends_with(kAfter)) {
    line.erase(line.size() - kAfter.size());
  }
  return line;
}

std::vector<std::string> parse(const std::string& line, const fs::path& target) {
  std::string problem;
  std::vector<std::string> words = split_command(unwrapped(line), problem);
  if (!problem.empty()) {
    throw no_command(target, "its recorded command can't be replayed: " + problem);
  }
  return words;
}

fs::path resolved(const fs::path& directory, const std::string& word) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(directory / word, error);
  return error ? (directory / word).lexically_normal() : path;
}

bool links(const std::vector<std::string>& words, const fs::path& directory,
           const fs::path& target) {
  auto output = std::find(words.begin(), words.end(), "-o");
  return output != words.end() && output + 1 != words.end() &&
         resolved(directory, *(output + 1)) == target;
}

// CMake's Makefiles: DIRECTORY/CMakeFiles/NAME.dir/link.txt, run in DIRECTORY.
std::optional<LinkCommand> find_link_txt(const fs::path& build, const fs::path& target) {
  std::error_code error;
  fs::path directory = target.parent_path();
  for (; !directory.empty(); directory = directory.parent_path()) {
    for (const auto& entry : fs::directory_iterator(directory / "CMakeFiles", error)) {
      fs::path file = entry.path() / "link.txt";
      if (!fs::exists(file, error)) {
        continue;
      }
      std::vector<std::string> words = parse(read_text(file), target);
      if (links(words, directory, target)) {
        return LinkCommand{std::move(words), directory};
      }
    }
    if (directory == build || directory == directory.parent_path()) {
      break;
    }
  }
  return std::nullopt;
}

std::optional<LinkCommand> ask_ninja(const fs::path& build, const fs::path& target) {
  std::error_code error;
  if (!fs::exists(build / "build.ninja", error)) {
    return std::nullopt;
  }
  RunOptions options;
  options.directory = build;
  RunResult result;
  try {
    result = run({"ninja", "-t", "commands", target.lexically_relative(build).string()}, options);
  } catch (const Error&) {
    return std::nullopt;  // no ninja here
  }
  std::string text = result.out;
  while (text.ends_with('\n')) {
    text.pop_back();
  }
  if (result.exit_code != 0 || text.empty()) {
    return std::nullopt;
  }
  size_t last = text.rfind('\n');
  std::vector<std::string> words =
      parse(text.substr(last == std::string::npos ? 0 : last + 1), target);
  return links(words, build, target) ? std::optional(LinkCommand{std::move(words), build})
                                     : std::nullopt;
}

bool mentions(const LinkCommand& link, const fs::path& object) {
  fs::path wanted = resolved("/", object.string());
  return std::any_of(link.words.begin(), link.words.end(), [&](const std::string& word) {
    return !word.starts_with("-") && resolved(link.directory, word) == wanted;
  });
}

bool mentions_any(const LinkCommand& link, const std::vector<fs::path>& objects) {
  return std::any_of(objects.begin(), objects.end(),
                     [&](const fs::path& object) { return mentions(link, object); });
}

// Side effects of a link.
bool is_dropped(const std::string& word) {
  constexpr std::array kPrefixes = {"-Wl,-Map",        "-Wl,--Map",   "-Wl,--dependency-file",
                                    "-Wl,--cref",      "-save-temps", "--save-temps",
                                    "-Wl,--out-implib"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](const char* prefix) { return word.starts_with(prefix); });
}

bool is_input(const fs::path& path) {
  std::error_code error;
  std::string extension = path.extension().string();
  return (extension == ".o" || extension == ".a" || extension == ".lo") &&
         fs::is_regular_file(path, error);
}

}  // namespace

LinkCommand find_link_command(const fs::path& given, const fs::path& build_directory,
                              const fs::path& target, const std::vector<fs::path>& directories,
                              const std::vector<fs::path>& objects) {
  const fs::path canonical = resolved("/", target.string());
  if (given.empty()) {
    const fs::path build = resolved("/", build_directory.string());
    auto found = find_link_txt(build, canonical);
    if (!found) {
      found = ask_ninja(build, canonical);
    }
    if (!found) {
      throw no_command(target, "it is built with -flto, and no record of its link was found");
    }
    found->words = expand_response_files(found->words, found->directory);
    return std::move(*found);
  }
  std::vector<std::string> words = parse(read_text(given), target);
  // Where it was run is not recorded: where it names the objects.
  for (const fs::path& directory : directories) {
    LinkCommand link{expand_response_files(words, directory), directory};
    if (mentions_any(link, objects)) {
      return link;
    }
  }
  throw no_command(target, fmt::format("{} does not name {}, from no directory of the compile "
                                       "database",
                                       given.string(), objects.front().string()));
}

bool takes_part(const LinkCommand& link, const fs::path& object) {
  if (mentions(link, object)) {
    return true;
  }
  for (const std::string& word : link.words) {
    fs::path path = resolved(link.directory, word);
    if (word.starts_with("-") || path.extension() != ".a" || !is_input(path)) {
      continue;
    }
    RunResult members = run({"ar", "t", path.string()});
    if (("\n" + members.out).find("\n" + object.filename().string() + "\n") != std::string::npos) {
      throw no_command(object, fmt::format("it may be the one in the archive {}", path.string()));
    }
  }
  return false;
}

std::vector<fs::path> link_optimised(const LinkCommand& link, const Replacements& replacements,
                                     const fs::path& scratch) {
  fs::create_directories(scratch / "inputs");
  std::map<fs::path, fs::path> stand_ins;
  for (const auto& [object, by] : replacements) {
    stand_ins[resolved("/", object.string())] = by;
  }
  std::vector<std::string> words;
  size_t inputs = 0;
  for (size_t i = 0; i < link.words.size(); ++i) {
    const std::string& word = link.words[i];
    if (word == "-o") {
      ++i;
      continue;
    }
    if (is_dropped(word)) {
      continue;
    }
    fs::path path = i == 0 || word.starts_with("-") ? "" : resolved(link.directory, word);
    if (path.empty() || !is_input(path)) {
      words.push_back(word);
      continue;
    }
    auto by = stand_ins.find(path);
    fs::path shown =
        scratch / "inputs" /
        fmt::format("{}.{}{}", inputs++, path.stem().string(), path.extension().string());
    fs::create_symlink(by == stand_ins.end() ? path : by->second, shown);
    words.push_back(shown.string());
  }
  const fs::path output = scratch / "linked";
  words.insert(words.end(), {"-ffunction-sections", "-fdata-sections", "-Wa,-L", "-save-temps",
                             "-o", output.string()});
  RunOptions options;
  options.directory = link.directory;
  options.environment = {{"LC_ALL", "C"}};
  RunResult result = run(words, options);
  if (result.exit_code != 0) {
    throw Error("compile-failed", "can't repeat the link in", link.directory.string(),
                fmt::format("{} ended with {}\n{}", words[0], result.exit_code, result.err));
  }
  std::vector<fs::path> objects;
  for (size_t n = 0;; ++n) {
    fs::path object = scratch / fmt::format("linked.ltrans{}.ltrans.o", n);
    if (!fs::exists(object)) {
      break;
    }
    objects.push_back(std::move(object));
  }
  if (objects.empty()) {
    throw no_command(output.filename(),
                     "the link made no objects by link-time optimisation (only "
                     "GCC's is supported)");
  }
  return objects;
}

}  // namespace qp::build
