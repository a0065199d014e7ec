// Reads compile_commands.json.
//
// The format is Clang's ("JSON Compilation Database Format Specification"); its writers differ.
// CMake writes `command`, one string quoted for a shell; Meson too, with relative file names; bear
// writes `arguments`, with the compiler's absolute path, and one entry for each compilation that it
// saw, so a libtool build has two for a source (with and without -fPIC -DPIC), and repeated builds
// can leave exact repetitions. All are real: two objects of one source are two units, of which a
// target may hold either.
//
// A `command` is taken apart as a POSIX shell would (XCU 2.2 Quoting), but nothing is expanded and
// nothing is run: a word with an unquoted operator marks the entry as one that can't be replayed,
// which matters only if the diff touches it.

#include "build/compdb.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fd.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Programs that run the compiler that follows them, and could answer from a cache.
bool is_launcher(const std::string& word) {
  static const std::set<std::string> names = {"ccache", "sccache", "distcc", "icecc", "env"};
  return names.contains(fs::path(word).filename().string());
}

const std::string& text_field(const json& entry, const char* key, size_t number,
                              const fs::path& path) {
  auto it = entry.find(key);
  if (it == entry.end() || !it->is_string()) {
    throw bad_file(path.string(), fmt::format("entry {} has no text '{}'", number, key));
  }
  return it->get_ref<const std::string&>();
}

CompileCommand parse_entry(const json& entry, size_t number, const fs::path& path) {
  if (!entry.is_object()) {
    throw bad_file(path.string(), fmt::format("entry {} is not an object", number));
  }
  CompileCommand out;
  // A relative directory is relative to the database (Clang's reading of it).
  fs::path base = path.has_parent_path() ? path.parent_path() : fs::path(".");
  out.directory =
      (fs::absolute(base) / text_field(entry, "directory", number, path)).lexically_normal();
  out.recorded_file = text_field(entry, "file", number, path);
  out.file = (out.directory / out.recorded_file).lexically_normal();
  if (auto it = entry.find("arguments"); it != entry.end()) {
    if (!it->is_array()) {
      throw bad_file(path.string(), fmt::format("'arguments' of entry {} is not a list", number));
    }
    for (const json& word : *it) {
      if (!word.is_string()) {
        throw bad_file(
            path.string(),
            fmt::format("'arguments' of entry {} holds something else than text", number));
      }
      out.arguments.push_back(word.get<std::string>());
    }
  } else {
    out.arguments = split_command(text_field(entry, "command", number, path), out.problem);
  }
  while (out.arguments.size() > 1 && is_launcher(out.arguments[0]) &&
         !out.arguments[1].starts_with("-")) {
    out.arguments.erase(out.arguments.begin());
  }
  if (out.arguments.empty() && out.problem.empty()) {
    out.problem = "the command is empty";
  }
  return out;
}

void expand_into(const std::vector<std::string>& arguments, const fs::path& directory, int depth,
                 std::vector<std::string>& out) {
  for (const std::string& word : arguments) {
    if (word.size() < 2 || word[0] != '@' || depth > 16) {
      out.push_back(word);
      continue;
    }
    fs::path path = directory / word.substr(1);
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) {
      out.push_back(word);
      continue;
    }
    std::string problem;
    expand_into(split_command(read_text(path), problem), directory, depth + 1, out);
  }
}

}  // namespace

std::vector<std::string> split_command(std::string_view command, std::string& problem) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  size_t i = 0;
  auto complain = [&](std::string text) {
    if (problem.empty()) {
      problem = std::move(text);
    }
  };
  while (i < command.size()) {
    char c = command[i];
    if (is_space(c)) {
      if (in_word) {
        words.push_back(std::move(word));
        word.clear();
        in_word = false;
      }
      ++i;
      continue;
    }
    in_word = true;
    if (c == '\'') {
      size_t end = command.find('\'', i + 1);
      if (end == std::string_view::npos) {
        complain("a single quote is not closed");
        end = command.size();
      }
      word += command.substr(i + 1, end - i - 1);
      i = end + 1;
    } else if (c == '"') {
      for (++i; i < command.size() && command[i] != '"'; ++i) {
        if (command[i] == '\\' && i + 1 < command.size() &&
            std::string_view("$`\"\\\n").find(command[i + 1]) != std::string_view::npos) {
          ++i;
          if (command[i] == '\n') {
            continue;
          }
        }
        word += command[i];
      }
      if (i >= command.size()) {
        complain("a double quote is not closed");
      }
      ++i;
    } else if (c == '\\' && i + 1 < command.size()) {
      if (command[i + 1] != '\n') {
        word += command[i + 1];
      }
      i += 2;
    } else {
      if (std::string_view("|&;<>`").find(c) != std::string_view::npos) {
        complain(fmt::format("the command uses the shell operator '{}'", c));
      }
      word += c;
      ++i;
    }
  }
  if (in_word) {
    words.push_back(std::move(word));
  }
  return words;
}

std::vector<std::string> expand_response_files(const std::vector<std::string>& arguments,
                                               const std::filesystem::path& directory) {
  std::vector<std::string> out;
  expand_into(arguments, directory, 0, out);
  return out;
}

std::vector<CompileCommand> parse_compdb(std::string_view text, const std::filesystem::path& path) {
  json root;
  try {
    root = json::parse(text);
  } catch (const json::exception& e) {
    throw bad_file(path.string(), e.what());
  }
  if (!root.is_array()) {
    throw bad_file(path.string(), "a compile database is a list of entries; this is none");
  }
  std::vector<CompileCommand> out;
  std::set<std::pair<std::string, std::vector<std::string>>> seen;
  for (size_t i = 0; i < root.size(); ++i) {
    CompileCommand entry = parse_entry(root[i], i, path);
    if (seen.insert({entry.directory.string() + '\0' + entry.file.string(), entry.arguments})
            .second) {
      out.push_back(std::move(entry));
    }
  }
  if (out.empty()) {
    throw Error("no-compile-database", "can't use", path.string(), "it has no entries");
  }
  return out;
}

std::vector<CompileCommand> read_compdb(const std::filesystem::path& path) {
  std::error_code ignored;
  fs::path file = fs::is_directory(path, ignored) ? path / "compile_commands.json" : path;
  if (!fs::exists(file, ignored)) {
    throw Error("no-compile-database", "can't read", file.string(),
                "there is no such file; CMake writes one with -DCMAKE_EXPORT_COMPILE_COMMANDS=ON, "
                "Meson always, and for other build systems `bear -- make`");
  }
  return parse_compdb(read_text(file), file);
}

}  // namespace qp::build
