// An ambiguous name is an error that lists the candidates: reverting the wrong patch is worse than
// asking again.

#include "cli/patch_name.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "proc/process.h"

namespace qp::cli {
namespace {

constexpr size_t kIdLength = 8;  // format::Patch::id()

std::set<std::string> find_ids(const std::vector<apply::Applied>& applied,
                               const std::string& name) {
  std::set<std::string> ids;
  for (const apply::Applied& a : applied) {
    const auto& cves = a.registry.cves;
    bool by_cve = std::find(cves.begin(), cves.end(), name) != cves.end();
    if (!a.registry.patch_id.empty() &&
        (by_cve || (!name.empty() && a.registry.patch_id.starts_with(name)))) {
      ids.insert(a.registry.patch_id);
    }
  }
  if (ids.size() > 1) {
    throw Error("usage", "finding the patch", name,
                fmt::format("it could be {}", fmt::join(ids, " or ")), ExitCode::Usage);
  }
  return ids;
}

}  // namespace

bool is_patch_id(std::string_view text) {
  return text.size() == kIdLength &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string find_patch_id(const std::vector<apply::Applied>& applied, const std::string& name) {
  const std::set<std::string> ids = find_ids(applied, name);
  if (ids.empty()) {
    throw Refused({{"not-applied", name, "no patch in the process has this id or CVE id"}});
  }
  return *ids.begin();
}

void add_replace(CLI::App& app, std::vector<std::string>& out) {
  app.add_option(
      "--replace", out,
      "Patch (prefix of its id, or CVE id) that makes room in the same step, where it is "
      "applied; repeat for several");
}

std::vector<std::string> find_replaced(pid_t pid, const std::vector<std::string>& names) {
  std::vector<std::string> out;
  if (names.empty()) {
    return out;
  }
  const std::vector<apply::Applied> applied = apply::list(proc::Process::open(pid));
  for (const std::string& name : names) {
    const std::set<std::string> ids = find_ids(applied, name);
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

}  // namespace qp::cli
