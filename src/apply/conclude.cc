// A process can end at any step, and what is read of it then looks like anything: no target, no
// registry, damaged code. So apply, revert and recover ask the same question at their end, in one place:
// is it still the program that was looked at?

#include "apply/conclude.h"

#include "base/error.h"

namespace qp::apply {

void conclude(const std::optional<proc::Process>& process, Outcome& outcome) {
  const bool gone = process && !process->same_program();
  try {
    throw;
  } catch (const Refused& r) {
    if (!gone) {
      const bool absent = r.findings().front().id == "not-applied";
      outcome.verdict = absent ? Verdict::NotApplied : Verdict::Unpatchable;
      outcome.refusals = r.findings();
      return;
    }
  } catch (const Error&) {
    if (!gone) {
      throw;
    }
  }
  outcome.verdict = Verdict::Gone;
  outcome.refusals.clear();
}

}  // namespace qp::apply
