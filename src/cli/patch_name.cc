// An ambiguous name is an error that lists the candidates: reverting the wrong patch is worse than
// asking again.

#include "cli/patch_name.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

namespace qp::cli {

std::string find_patch_id(const std::vector<apply::Applied>& applied, const std::string& name) {
  std::set<std::string> ids;
  for (const apply::Applied& a : applied) {
    const auto& cves = a.registry.cves;
    bool by_cve = std::find(cves.begin(), cves.end(), name) != cves.end();
    if (!a.registry.patch_id.empty() &&
        (by_cve || (!name.empty() && a.registry.patch_id.starts_with(name)))) {
      ids.insert(a.registry.patch_id);
    }
  }
  if (ids.empty()) {
    throw Refused({{"not-applied", name, "no patch in the process has this id or CVE id"}});
  }
  if (ids.size() > 1) {
    throw Error("usage", "finding the patch", name,
                fmt::format("it could be {}", fmt::join(ids, " or ")), ExitCode::Usage);
  }
  return *ids.begin();
}

}  // namespace qp::cli
