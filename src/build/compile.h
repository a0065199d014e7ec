// Runs the compiler for one unit.
#pragma once

#include <filesystem>
#include <string>

#include "build/command.h"
#include "build/patched_tree.h"

namespace qp::build {

// `which`: "original" or "patched", for messages. Both throw Error{compile-failed} with what the
// compiler said.
void compile_object(const Replay& replay, const View& view, const std::filesystem::path& object,
                    std::string_view which);
std::string preprocess(const Replay& replay, const View& view, std::string_view which);

}  // namespace qp::build
