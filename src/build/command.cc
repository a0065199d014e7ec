// What stays and what goes of a recorded command.
//
// Everything that can influence the code stays: optimisation, -m, -f, -D, -I, -std, -include,
// instrumentation, also options that we have never heard of. What goes are the options that write
// files or would stop the compilation: outputs (-o), dependency files (-M…, also as -Wp,-MD,file,
// the way of the Linux Makefiles), temporaries, dumps, listings, and -Werror (a warning about the
// patched file is no reason not to compile it; #line can cause one in pedantic C90).
//
// What is added:
//   -ffunction-sections -fdata-sections   so that functions can be told apart and taken out: the
//        assembler resolves references within one section (DESIGN.md section 3);
//   -Wa,-L     keeps .L symbols, which bound strings and tables that have no other name;
//   -g         only if types are missing: their layouts are compared. GCC and Clang make the same
//        code with and without it (GCC tests itself with -fcompare-debug);
//   -fstandalone-debug, -femit-class-debug-always   C++: the layout of a class is told in each unit
//        that uses it, and not only where its key function is;
//   -gno-split-dwarf   debug information belongs into the object.
// Options come after the recorded ones, since the last one wins; prefix maps come first, since GCC
// tries the last one given first and the user's own maps shall keep their effect.
//
// An LTO object holds GCC's intermediate language; what runs was made by the link. Replaying with
// -fno-lto gives other code than the target's, so the proof would fail function by function;
// `lto` lets the caller say why beforehand.

#include "build/command.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

// Options that are dropped together with the word behind them.
constexpr std::array kDroppedWithValue = {"-MF",
                                          "-MT",
                                          "-MQ",
                                          "-MJ",
                                          "-dumpbase",
                                          "-dumpbase-ext",
                                          "-dumpdir",
                                          "-auxbase",
                                          "-auxbase-strip",
                                          "-serialize-diagnostics",
                                          "--serialize-diagnostics",
                                          "-index-store-path",
                                          "-dependency-file",
                                          "-aux-info"};
// Dropped when equal.
constexpr std::array kDropped = {"-c",
                                 "-S",
                                 "-E",
                                 "-M",
                                 "-MM",
                                 "-MD",
                                 "-MMD",
                                 "-MG",
                                 "-MP",
                                 "-MV",
                                 "-pedantic-errors",
                                 "-fstack-usage",
                                 "-gsplit-dwarf",
                                 "-v",
                                 "-fsyntax-only",
                                 "-time",
                                 "-ftime-report",
                                 "-###"};
// Dropped when the word begins so (values joined).
constexpr std::array kDroppedPrefix = {"-MF",
                                       "-MT",
                                       "-MQ",
                                       "-save-temps",
                                       "--save-temps",
                                       "-fdump-",
                                       "-fcallgraph-info",
                                       "-Wa,-a",
                                       "-Werror",
                                       "-ftime-trace",
                                       "-fsave-optimization-record",
                                       "-fopt-info",
                                       "-time=",
                                       "-fcompare-debug"};
// These take the word behind them; needed to tell values from sources.
constexpr std::array kWithValue = {"-I",
                                   "-D",
                                   "-U",
                                   "-include",
                                   "-imacros",
                                   "-isystem",
                                   "-iquote",
                                   "-idirafter",
                                   "-iprefix",
                                   "-iwithprefix",
                                   "-iwithprefixbefore",
                                   "-isysroot",
                                   "--sysroot",
                                   "-x",
                                   "-Xclang",
                                   "-Xpreprocessor",
                                   "-Xassembler",
                                   "-Xlinker",
                                   "-L",
                                   "-l",
                                   "-T",
                                   "-u",
                                   "-z",
                                   "-arch",
                                   "-target",
                                   "--param",
                                   "-B",
                                   "-imultilib",
                                   "-imultiarch",
                                   "-mllvm",
                                   "-include-pch",
                                   "-Xarch_host",
                                   "-A",
                                   "-wrapper",
                                   "-specs",
                                   "-e"};

template <class Table>
bool contains(const Table& table, std::string_view word) {
  return std::find(table.begin(), table.end(), word) != table.end();
}
template <class Table>
bool any_prefix(const Table& table, std::string_view word) {
  return std::any_of(table.begin(), table.end(),
                     [&](std::string_view prefix) { return word.starts_with(prefix); });
}

// "-Wp,-MMD,dir/.x.o.d,-DX" → "-Wp,-DX"; "" if nothing is left.
std::string clean_preprocessor_list(const std::string& word) {
  std::string out = "-Wp";
  size_t at = 4;
  bool drop_next = false;
  while (at <= word.size()) {
    size_t end = std::min(word.find(',', at), word.size());
    std::string part = word.substr(at, end - at);
    at = end + 1;
    if (drop_next) {
      drop_next = false;
    } else if (part == "-MD" || part == "-MMD" || part == "-MF" || part == "-MT" || part == "-MQ") {
      drop_next = true;
    } else if (part != "-MP" && part != "-MG" && part != "-M" && part != "-MM") {
      out += "," + part;
    }
  }
  return out == "-Wp" ? "" : out;
}

// Handles the debug options: what the last one says about types.
void note_debug_option(const std::string& word, bool& needs) {
  static const std::set<std::string> full = {"-g",        "-g2",       "-g3",       "-ggdb",
                                             "-ggdb2",    "-ggdb3",    "-gfull",    "-gdwarf",
                                             "-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5"};
  static const std::set<std::string> less = {
      "-g0", "-g1", "-ggdb0", "-ggdb1", "-gmlt", "-gline-tables-only", "-gline-directives-only"};
  if (full.contains(word)) {
    needs = false;
  } else if (less.contains(word)) {
    needs = true;
  }
}

struct Words {
  std::vector<std::string> kept;
  std::vector<fs::path> sources;
};

// The include directory that an option names, if it names one; `next` is the word behind it.
std::string include_directory(const std::string& word, const std::string& next) {
  for (std::string_view option : {"-I", "-isystem", "-iquote", "-idirafter"}) {
    if (word == option) {
      return next;
    }
    if (word.starts_with(option)) {
      return word.substr(option.size());
    }
  }
  return "";
}

// Whether an option that is not followed may name files that are read: --include=F, -includeF,
// -Wp,-include,F, -Xpreprocessor -include. Macros can contain any word.
bool names_inputs(const std::string& word) {
  const bool macro = word.starts_with("-D") || word.starts_with("-U");
  return word.starts_with("-") && !macro &&
         (word == "-Xpreprocessor" || word.find("include") != std::string::npos ||
          word.find("imacros") != std::string::npos ||
          (word.starts_with("-Wp,") && word.find("-I") != std::string::npos));
}

}  // namespace

bool is_source(const fs::path& path) {
  static const std::set<std::string> extensions = {".c",  ".cc", ".cpp", ".cxx", ".c++", ".C", ".i",
                                                   ".ii", ".s",  ".S",   ".sx",  ".m",   ".mm"};
  return extensions.contains(path.extension().string());
}

Replay make_replay(const CompileCommand& command) {
  auto unsupported = [&](const std::string& why) {
    return Error("command-unsupported", "can't replay the compilation of", command.recorded_file,
                 why);
  };
  if (!command.problem.empty()) {
    throw unsupported(command.problem);
  }
  std::vector<std::string> words = expand_response_files(command.arguments, command.directory);
  Replay out;
  out.directory = command.directory;
  out.source = command.file;
  std::string extension = command.file.extension().string();
  out.assembly = extension == ".s" || extension == ".S" || extension == ".sx";
  out.object = command.directory / (command.file.stem().string() + ".o");
  out.arguments.push_back(words.at(0));
  bool has_source = false;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::string& word = words[i];
    const std::string next = i + 1 < words.size() ? words[i + 1] : "";
    if (word == "-o" && !next.empty()) {
      out.object = (command.directory / next).lexically_normal();
    }
    if (word == "-o" || contains(kDroppedWithValue, word)) {
      ++i;
      continue;
    }
    if (word.starts_with("-o") && word.size() > 2) {
      out.object = (command.directory / word.substr(2)).lexically_normal();
    }
    // "-object…", "-openmp" do not exist in GCC; "-oFILE" does.
    if (contains(kDropped, word) || any_prefix(kDroppedPrefix, word) ||
        (word.starts_with("-o") && word.size() > 2)) {
      continue;
    }
    if (word.starts_with("-Wp,")) {
      if (std::string cleaned = clean_preprocessor_list(word); !cleaned.empty()) {
        out.opaque_inputs |= names_inputs(cleaned);
        out.arguments.push_back(cleaned);
      }
      continue;
    }
    if (word.starts_with("-flto")) {
      out.lto = true;
    } else if (word == "-fno-lto") {
      out.lto = false;
    }
    note_debug_option(word, out.needs_debug_info);
    if (std::string directory = include_directory(word, next); !directory.empty()) {
      out.include_directories.push_back((command.directory / directory).lexically_normal());
    }
    if ((word == "-include" || word == "-imacros") && !next.empty()) {
      out.forced_includes.push_back(next);
    } else if (include_directory(word, next).empty() && names_inputs(word)) {
      out.opaque_inputs = true;
    }
    out.arguments.push_back(word);
    if (contains(kWithValue, word)) {
      if (i + 1 < words.size()) {
        out.arguments.push_back(words[++i]);
      }
      continue;
    }
    if (!word.starts_with("-")) {
      fs::path path = (command.directory / word).lexically_normal();
      if (path == command.file) {
        has_source = true;
      } else if (is_source(path)) {
        // One command for several sources: the entry is about one of them.
        out.arguments.pop_back();
      }
    }
  }
  if (!has_source) {
    throw unsupported(
        fmt::format("its command does not name it (in {})", command.directory.string()));
  }
  return out;
}

std::vector<std::string> redirect(const std::vector<std::string>& arguments, const View& view) {
  if (view.copy.empty()) {
    return arguments;
  }
  const std::string root = view.root.string(), copy = view.copy.string();
  std::vector<std::string> out;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string word = arguments[i];
    // The text of a macro is code.
    bool is_macro = word.starts_with("-D") || word.starts_with("-U") ||
                    (i > 0 && (arguments[i - 1] == "-D" || arguments[i - 1] == "-U"));
    size_t at = is_macro || i == 0 ? std::string::npos : word.find(root);
    while (at != std::string::npos) {
      size_t end = at + root.size();
      bool whole =
          (end == word.size() || word[end] == '/' || word[end] == '=' || word[end] == ',') &&
          (at == 0 || word[at - 1] != '/');
      if (whole) {
        word.replace(at, root.size(), copy);
        end = at + copy.size();
      }
      at = word.find(root, end);
    }
    out.push_back(std::move(word));
  }
  return out;
}

namespace {

bool is_cxx(const fs::path& source) {
  static const std::set<std::string> extensions = {".cc", ".cpp", ".cxx", ".c++", ".C", ".ii"};
  return extensions.contains(source.extension().string());
}

// The compiler, or what a wrapper before it (ccache) runs.
bool is_clang(const Replay& replay) {
  auto names_it = [&](size_t i) {
    return i < replay.arguments.size() &&
           fs::path(replay.arguments[i]).filename().string().find("clang") != std::string::npos;
  };
  return names_it(0) || names_it(1);
}

}  // namespace

std::vector<std::string> object_command(const Replay& replay, const View& view,
                                        const fs::path& object) {
  std::vector<std::string> out = redirect(replay.arguments, view);
  if (!view.copy.empty()) {
    out.insert(out.begin() + 1,
               fmt::format("-ffile-prefix-map={}={}", view.copy.string(), view.root.string()));
  }
  out.insert(out.end(), {"-ffunction-sections", "-fdata-sections", "-Wa,-L", "-gno-split-dwarf"});
  if (replay.needs_debug_info && !replay.assembly) {
    out.push_back("-g");
  }
  if (is_cxx(replay.source)) {
    out.emplace_back(is_clang(replay) ? "-fstandalone-debug" : "-femit-class-debug-always");
  }
  out.insert(out.end(), {"-c", "-o", object.string()});
  return out;
}

std::vector<std::string> preprocess_command(const Replay& replay, const View& view) {
  std::vector<std::string> out = redirect(replay.arguments, view);
  if (!view.copy.empty()) {
    // Not in linemarkers: they shall tell which file was read.
    out.insert(out.begin() + 1,
               fmt::format("-fmacro-prefix-map={}={}", view.copy.string(), view.root.string()));
  }
  out.insert(out.end(), {"-E", "-o", "-"});
  return out;
}

}  // namespace qp::build
