// Link-time optimisation: the code of a program is made when it is linked, so the link is repeated.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "build/command.h"

namespace qp::build {

// The recorded command that links a program.
struct LinkCommand {
  std::vector<std::string> words;  // response files expanded
  std::filesystem::path directory;
};

// Paths of objects: what the build recorded → what stands in for it.
using Replacements = std::map<std::filesystem::path, std::filesystem::path>;

// `given`: a file with the command, as `--link-command` names it; empty: looked for where CMake
// (link.txt) and Ninja keep it, by the name of `target`. `objects`: recorded paths, of which it has
// to name one, below one of `directories`. Throws Error{link-command} if there is none, with what
// to do.
LinkCommand find_link_command(const std::filesystem::path& given,
                              const std::filesystem::path& build_directory,
                              const std::filesystem::path& target,
                              const std::vector<std::filesystem::path>& directories,
                              const std::vector<std::filesystem::path>& objects);

// Whether an object goes into the link. Throws Error{link-command} if it does in an archive: then
// it can't be replaced.
bool takes_part(const LinkCommand& link, const std::filesystem::path& object);

// Links into `scratch`, an existing directory, and returns the objects that the compiler's back end
// made, in order. Nothing is written elsewhere. Throws Error{compile-failed} with the words of the
// compiler, Error{link-command} if it made no such objects.
std::vector<std::filesystem::path> link_optimised(const LinkCommand& link,
                                                  const Replacements& replacements,
                                                  const std::filesystem::path& scratch);

}  // namespace qp::build
