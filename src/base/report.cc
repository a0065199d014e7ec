// Findings: see report.h. The table they refer to is in refusals.cc.

#include "base/report.h"

#include <algorithm>

#include <fmt/format.h>

namespace qp {
namespace {

std::string summary(const std::vector<Refusal>& findings) {
  std::string text;
  for (const Refusal& f : findings) {
    text += fmt::format("{}{}: {}: {}", text.empty() ? "" : "\n", f.id, f.where, f.detail);
  }
  return text;
}

}  // namespace

const RefusalKind& refusal_kind(std::string_view id) {
  const auto& table = all_refusals();
  auto it = std::find_if(table.begin(), table.end(), [&](const auto& k) { return k.id == id; });
  if (it == table.end()) {
    throw Bug(fmt::format("no refusal has the id '{}'", id));
  }
  return *it;
}

Refused::Refused(std::vector<Refusal> findings)
    : std::runtime_error(summary(findings)), findings_(std::move(findings)) {
  QP_ASSERT(!findings_.empty());
}

ExitCode Refused::exit_code() const {
  return refusal_kind(findings_.front().id).exit_code;
}

void Report::refuse(std::string_view id, std::string where, std::string detail) {
  const RefusalKind& kind = refusal_kind(id);
  bool waived = kind.waivable && waivers_.contains(fmt::format("{}:{}", id, where));
  auto& list = waived ? waived_ : refusals_;
  bool known = std::any_of(list.begin(), list.end(), [&](const Refusal& r) {
    return r.id == id && r.where == where && r.detail == detail;
  });
  if (!known) {
    list.push_back({std::string(id), std::move(where), std::move(detail)});
  }
}

void Report::checkpoint() const {
  if (!refusals_.empty()) {
    throw Refused(refusals_);
  }
}

}  // namespace qp
