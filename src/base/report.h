// Findings are data. A phase looks at everything, appends what stands against the patch, and stops
// at its checkpoint with all of it at once, so that a user fixes three things in one go.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace qp {

// What a refusal id means. One table (refusals.cc) makes the ids, `qpatch explain` and
// docs/refusals.md; a test demands a test per id.
struct RefusalKind {
  std::string_view id;      // "type-layout"
  std::string_view title;   // one line
  std::string_view why;     // why qpatch refuses, and what would happen if it did not
  std::string_view remedy;  // what the user can do
  ExitCode exit_code;
  bool waivable;  // may be named in --allow=ID:NAME
};
const std::vector<RefusalKind>& all_refusals();
// Throws Bug for an id that the table does not have.
const RefusalKind& refusal_kind(std::string_view id);

struct Refusal {
  std::string id;
  std::string where;   // function, symbol, file, thread: what the user can look for
  std::string detail;  // what was found there
};

// Thrown by Report::checkpoint().
class Refused : public std::runtime_error {
 public:
  explicit Refused(std::vector<Refusal> findings);
  const std::vector<Refusal>& findings() const { return findings_; }
  ExitCode exit_code() const;  // of the first finding

 private:
  std::vector<Refusal> findings_;
};

class Report {
 public:
  Report() = default;
  // `waivers`: what --allow named, as "id:where" ("type-layout:Foo").
  explicit Report(std::set<std::string> waivers) : waivers_(std::move(waivers)) {}

  // Appends a refusal, or a waived one if the kind is waivable and "id:where" was allowed.
  void refuse(std::string_view id, std::string where, std::string detail);
  void warn(std::string text) { warnings_.push_back(std::move(text)); }
  bool clean() const { return refusals_.empty(); }
  void checkpoint() const;  // throws Refused if there are refusals

  const std::vector<Refusal>& refusals() const { return refusals_; }
  const std::vector<Refusal>& waived() const { return waived_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  std::set<std::string> waivers_;
  std::vector<Refusal> refusals_, waived_;
  std::vector<std::string> warnings_;
};

}  // namespace qp
