// Code of an executable takes a thread-local variable to be at a fixed distance from the thread
// pointer. A variable that comes with a patch is not: its threads were made without it. So the code
// has to ask somebody where it is, and the compiler has to be told, by the attribute
// tls_model("global-dynamic"), since for an executable it takes the fastest model that it can.
//
// Why not otherwise? -ftls-model=global-dynamic would change the code of all existing variables, and
// every function that uses one would come out different. Rewriting the finished instructions is not
// safe: a distance that was loaded into a register may be used after the code went on in another
// thread (coroutines do that), and what is true for a distance that all threads share is not true
// for one that each has of its own. An *address* is what C promises to stay right.
//
// So when a first compilation shows that the patched unit has new variables, the attribute is put into
// their declarations, and the unit is compiled again. The debug information tells the lines. No line
// moves, and no other variable is touched (one that shares a declaration with a new one is, which does
// no harm: link makes the fast code of it again).
//
// For libraries compilers choose local-dynamic for static variables: one call for all of them. New and
// old variables are in different blocks, so the attribute is needed there as well. GCC follows it
// everywhere; clang does for libraries only, and takes local-dynamic for static ones all the same, so
// that it is left alone here and link has the last word.
//
// A specifier that comes out of a macro is not to be found; then the attribute stands behind the
// declarator. Where all of a declaration comes out of one, link refuses, and says what the developer can
// write.

#include "build/thread_locals.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>

#include "build/line_diff.h"
#include "build/line_directives.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kSpecifiers = {"__thread", "_Thread_local",
                                                         "thread_local"};
constexpr std::string_view kAttribute = " __attribute__((tls_model(\"global-dynamic\")))";
constexpr size_t kLinesAbove = 5;  // of one declaration

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// The last place of `word`, as a word of its own, that begins before `end`.
size_t find_last_word(std::string_view text, std::string_view word, size_t end) {
  for (size_t at = text.rfind(word, end); at != std::string_view::npos;
       at = at == 0 ? std::string_view::npos : text.rfind(word, at - 1)) {
    const bool begins = at == 0 || !is_word(text[at - 1]);
    const bool ends = at + word.size() == text.size() || !is_word(text[at + word.size()]);
    if (begins && ends) {
      return at;
    }
  }
  return std::string_view::npos;
}

// Behind the specifier of the declaration that declares the name at `name`: nothing between the two
// ends a declaration.
std::optional<size_t> find_specifier_end(std::string_view text, size_t from, size_t name) {
  size_t end = std::string_view::npos;
  for (std::string_view specifier : kSpecifiers) {
    const size_t at = find_last_word(text, specifier, name);
    if (at != std::string_view::npos && at >= from &&
        (end == std::string_view::npos || at + specifier.size() > end)) {
      end = at + specifier.size();
    }
  }
  if (end == std::string_view::npos || end > name) {
    return std::nullopt;
  }
  const std::string_view between = text.substr(end, name - end);
  return between.find(';') == std::string_view::npos ? std::optional(end) : std::nullopt;
}

// Behind the declarator of `name`, which ends at `end`, where attributes can stand as well: for a specifier
// that comes out of a macro. Not if the name is in the parentheses of one.
std::optional<size_t> find_declarator_end(std::string_view text, size_t end) {
  const auto skip_spaces = [&](size_t at) {
    return std::min(text.find_first_not_of(" \t", at), text.size());
  };
  for (size_t next = skip_spaces(end); next < text.size(); next = skip_spaces(end)) {
    if (text[next] != '[') {
      return std::string_view("=;,").find(text[next]) != std::string_view::npos ? std::optional(end)
                                                                                : std::nullopt;
    }
    const size_t close = text.find(']', next);
    if (close == std::string_view::npos ||
        text.substr(next + 1, close - next).find('[') != std::string_view::npos) {
      return std::nullopt;
    }
    end = close + 1;
  }
  return std::nullopt;
}

std::string key_of(const elf::ThreadLocal& variable) {
  return variable.function + "\n" + variable.name;
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

std::vector<elf::ThreadLocal> find_new_thread_locals(const elf::File& original,
                                                     const elf::File& patched) {
  const std::vector<elf::ThreadLocal> before = elf::read_thread_locals(original);
  std::vector<elf::ThreadLocal> out;
  std::map<std::string, std::ptrdiff_t> more;  // how many of one name there are now
  for (const elf::ThreadLocal& variable : elf::read_thread_locals(patched)) {
    if (variable.is_defined) {
      more[key_of(variable)] += 1;
      out.push_back(variable);
    }
  }
  for (const elf::ThreadLocal& variable : before) {
    if (variable.is_defined) {
      more[key_of(variable)] -= 1;
    }
  }
  // Of several of one name in one function those are new whose place is.
  std::erase_if(out, [&](const elf::ThreadLocal& variable) {
    return more[key_of(variable)] <= 0 ||
           std::any_of(before.begin(), before.end(), [&](const elf::ThreadLocal& known) {
             return known.is_defined && key_of(known) == key_of(variable) &&
                    known.line == variable.line &&
                    base_name(known.file) == base_name(variable.file);
           });
  });
  return out;
}

std::optional<std::string> make_dynamic(std::string_view text, const std::string& name,
                                        int64_t line) {
  const std::vector<std::string_view> lines = split_lines(text);
  const std::vector<int64_t> numbers = presumed_numbers(lines);
  // A line that was inserted has the number of the one that it pushed down, so that several can have
  // one number; the name decides, and a specifier.
  std::optional<size_t> place;
  for (const bool by_specifier : {true, false}) {
    for (size_t i = 0; i < lines.size() && !place; ++i) {
      const size_t in_line = numbers[i] == line
                                 ? find_last_word(lines[i], name, std::string_view::npos)
                                 : std::string_view::npos;
      if (in_line == std::string_view::npos) {
        continue;
      }
      const size_t at = static_cast<size_t>(lines[i].data() - text.data()) + in_line;
      const size_t above = i < kLinesAbove ? 0 : i - kLinesAbove;
      place = by_specifier ? find_specifier_end(
                                 text, static_cast<size_t>(lines[above].data() - text.data()), at)
                           : find_declarator_end(text, at + name.size());
    }
  }
  if (!place) {
    return std::nullopt;
  }
  std::string out(text);
  if (!text.substr(*place).starts_with(
          kAttribute)) {  // of another variable of the same declaration
    out.insert(*place, kAttribute);
  }
  return out;
}

bool make_dynamic(PatchedTree& tree, const std::vector<elf::ThreadLocal>& variables) {
  bool any = false;
  for (const elf::ThreadLocal& variable : variables) {
    std::error_code error;
    const fs::path written = fs::path(variable.file).lexically_normal();
    const fs::path real = fs::weakly_canonical(written, error);
    const PatchedFile* file = tree.find(written);
    file = file == nullptr && !error ? tree.find(real) : file;
    if (file == nullptr || file->kind == PatchedFile::Kind::Deleted) {
      continue;
    }
    const auto text = make_dynamic(file->patched, variable.name, variable.line);
    if (text && *text != file->patched) {
      tree.rewrite(file->path, *text);
      any = true;
    }
  }
  return any;
}

}  // namespace qp::build
