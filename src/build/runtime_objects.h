// The objects of src/build/runtime, as they were compiled with qpatch. Private to build.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace qp::build {

struct RuntimeObject {
  std::string name;  // of the source, without ".c"
  const unsigned char* bytes = nullptr;
  size_t size = 0;
};

const std::vector<RuntimeObject>& runtime_objects();

}  // namespace qp::build
