// The recorded command of a compilation, turned into one that compiles the same into another place
// and touches nothing else.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "build/compdb.h"
#include "build/patched_tree.h"

namespace qp::build {

// A command without what names outputs and side effects; the rest as recorded, in order.
struct Replay {
  std::vector<std::string> arguments;  // argv[0] first; neither -c nor -o
  std::filesystem::path directory;
  std::filesystem::path source;                            // absolute
  std::vector<std::filesystem::path> include_directories;  // absolute, in order, all kinds
  std::vector<std::string> forced_includes;                // -include, -imacros: as written
  bool assembly = false;                                   // .s, .S
  bool needs_debug_info = true;                            // no -g, or less than types
  bool lto = false;
  bool opaque_inputs = false;  // an option names files or directories in a way that is not followed
  std::filesystem::path object;  // that the recorded command wrote, absolute
};

// By its name: C, C++, Objective-C or assembly that a compiler takes, not a header.
bool is_source(const std::filesystem::path& path);

// Response files are expanded. Throws Error{command-unsupported} for a command that can't be
// replayed.
Replay make_replay(const CompileCommand& command);

// Words that name something below view.root name the copy instead.
std::vector<std::string> redirect(const std::vector<std::string>& arguments, const View& view);

std::vector<std::string> object_command(const Replay& replay, const View& view,
                                        const std::filesystem::path& object);
std::vector<std::string> preprocess_command(const Replay& replay, const View& view);

}  // namespace qp::build
