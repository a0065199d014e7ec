// Writes the fields of a patch's atoms for the place where they lie. Private to link.
#pragma once

#include <array>
#include <vector>

#include "base/bytes.h"
#include "base/report.h"
#include "format/patch.h"
#include "link/image.h"
#include "link/layout.h"

namespace qp::link {

struct Content {
  std::array<Bytes, kParts> parts;
  std::vector<Fill> fills;  // by `at`
};

// The bytes of kRodata, kText, kGot, kDataRelRo, kData and kBss (each of its part's size), and what
// remains to be filled per process. Findings: those of route.h and reloc-range.
Content make_content(const format::Patch& patch, const Layout& layout,
                     const ThreadLocals& elsewhere, Report& report);

}  // namespace qp::link
