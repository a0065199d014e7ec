// The compile database: how each object of a project was compiled.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qp::build {

struct CompileCommand {
  std::filesystem::path directory;  // absolute
  std::filesystem::path file;       // absolute, without "." and ".."
  std::string recorded_file;        // as written
  std::vector<std::string>
      arguments;        // argv; launchers (ccache …) in front of the compiler removed
  std::string problem;  // not empty: the command can't be replayed, and why
  bool operator==(const CompileCommand&) const = default;
};

// `path`: compile_commands.json or its directory. One entry per object, in the file's order; exact
// repetitions are dropped, several objects of one source are kept. Throws Error{bad-file},
// Error{no-compile-database}.
std::vector<CompileCommand> read_compdb(const std::filesystem::path& path);
std::vector<CompileCommand> parse_compdb(std::string_view json, const std::filesystem::path& path);

// The words of a command line, quoted as for a POSIX shell; nothing is expanded. `problem` tells
// what a shell would do that we don't (operators, an open quote); "" if nothing.
std::vector<std::string> split_command(std::string_view command, std::string& problem);

// Replaces each "@file" by the words in it, as GCC does (nested; a file that can't be read stays as
// it is). Relative names are relative to `directory`.
std::vector<std::string> expand_response_files(const std::vector<std::string>& arguments,
                                               const std::filesystem::path& directory);

}  // namespace qp::build
