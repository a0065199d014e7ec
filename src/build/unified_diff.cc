// Reads the headers of a unified diff.
//
// Only names are taken from it: `patch` applies it, and the changed lines are found by comparing
// the texts. Still the hunks have to be counted through (POSIX.1-2017, "Diff -u Output Format"),
// since a removed line "-- x" looks like a header, "--- x".
//
// Names end at a tab (time stamps follow), may be quoted by git as in C, and are /dev/null on the
// side where the file does not exist. `diff -N` writes the name on both sides instead, so whether a
// file is created is told by its only hunk.

#include "build/unified_diff.h"

#include <charconv>

#include <fmt/format.h>

#include "base/error.h"
#include "build/line_diff.h"

namespace qp::build {
namespace {

std::string unquote(std::string_view s) {
  std::string out;
  for (size_t i = 1; i < s.size() && s[i] != '"'; ++i) {
    if (s[i] != '\\' || i + 1 >= s.size()) {
      out += s[i];
      continue;
    }
    char c = s[++i];
    if (c >= '0' && c <= '7') {
      int value = 0;
      for (int digits = 0; digits < 3 && i < s.size() && s[i] >= '0' && s[i] <= '7'; ++digits) {
        value = value * 8 + (s[i++] - '0');
      }
      --i;
      out += static_cast<char>(value);
    } else {
      out += c == 't' ? '\t' : c == 'n' ? '\n' : c;
    }
  }
  return out;
}

std::string file_name(std::string_view header) {
  std::string name =
      header.starts_with("\"") ? unquote(header) : std::string(header.substr(0, header.find('\t')));
  while (!name.empty() && (name.back() == ' ' || name.back() == '\r')) {
    name.pop_back();
  }
  return name == "/dev/null" ? "" : name;
}

// "12,3" → 3, "12" → 1.
bool parse_range(std::string_view text, uint64_t& count) {
  size_t comma = text.find(',');
  if (comma == std::string_view::npos) {
    count = 1;
    return !text.empty();
  }
  std::string_view digits = text.substr(comma + 1);
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  return error == std::errc() && end == digits.data() + digits.size();
}

// "@@ -a,b +c,d @@ …"
bool parse_hunk(std::string_view line, uint64_t& old_count, uint64_t& new_count) {
  if (!line.starts_with("@@ -")) {
    return false;
  }
  size_t plus = line.find(" +"), end = line.find(" @@", 4);
  if (plus == std::string_view::npos || end == std::string_view::npos || end < plus) {
    return false;
  }
  return parse_range(line.substr(4, plus - 4), old_count) &&
         parse_range(line.substr(plus + 2, end - plus - 2), new_count);
}

void check_name(const std::string& name, const std::string& diff) {
  std::filesystem::path path(name);
  bool leaves = path.is_absolute();
  for (const auto& part : path) {
    leaves |= part == "..";
  }
  if (leaves) {
    throw Error("patch-unsupported", "can't use", diff,
                fmt::format("it names '{}', which is not a path inside of the source tree", name));
  }
}

}  // namespace

std::string strip_components(std::string_view name, int count) {
  while (name.starts_with("./")) {
    name.remove_prefix(2);
  }
  for (int i = 0; i < count; ++i) {
    size_t slash = name.find('/');
    if (slash == std::string_view::npos) {
      return "";
    }
    name.remove_prefix(slash + 1);
  }
  return std::string(name);
}

std::vector<DiffedFile> parse_unified_diff(std::string_view text, const std::string& name) {
  std::vector<DiffedFile> out;
  std::vector<std::string_view> lines = split_lines(text);
  size_t hunks = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string_view line = lines[i];
    uint64_t old_count = 0, new_count = 0;
    if (line.starts_with("rename from ") || line.starts_with("copy from ")) {
      throw Error("patch-unsupported", "can't use", name,
                  fmt::format("it renames or copies a file ('{}'); write it as a deletion and a "
                              "creation (git diff --no-renames)",
                              line.substr(line.find("from ") + 5)));
    }
    if (line.starts_with("GIT binary patch")) {
      throw Error("patch-unsupported", "can't use", name, "it changes a binary file");
    }
    if (line.starts_with("--- ") && i + 1 < lines.size() && lines[i + 1].starts_with("+++ ")) {
      DiffedFile file;
      file.old_name = file_name(line.substr(4));
      file.new_name = file_name(lines[i + 1].substr(4));
      check_name(file.old_name, name);
      check_name(file.new_name, name);
      file.creates = file.old_name.empty();
      file.deletes = file.new_name.empty();
      out.push_back(std::move(file));
      hunks = 0;
      ++i;
    } else if (parse_hunk(line, old_count, new_count)) {
      if (out.empty()) {
        throw bad_file(name, fmt::format("line {} is a hunk without a file header", i + 1));
      }
      ++hunks;
      out.back().creates |= hunks == 1 && old_count == 0 && line.starts_with("@@ -0,0 ");
      out.back().deletes |= hunks == 1 && new_count == 0 && line.find(" +0,0 ") < 40;
      while (old_count + new_count > 0) {
        if (++i >= lines.size()) {
          throw bad_file(name, "it ends in the middle of a hunk");
        }
        char kind =
            lines[i].empty() ? ' ' : lines[i][0];  // mailers strip the blank of an empty line
        if (kind == '\\') {
          continue;  // "\ No newline at end of file"
        }
        if ((kind != ' ' && kind != '-' && kind != '+' && kind != '\t' && kind != '\r') ||
            (kind != '+' && old_count == 0) || (kind != '-' && new_count == 0)) {
          throw bad_file(name, fmt::format("line {} does not belong to its hunk", i + 1));
        }
        old_count -= kind != '+' ? 1 : 0;
        new_count -= kind != '-' ? 1 : 0;
      }
    }
  }
  if (out.empty()) {
    throw bad_file(name, "it has no '---'/'+++' file headers; a unified diff is needed (diff -u)");
  }
  return out;
}

}  // namespace qp::build
