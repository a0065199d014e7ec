#include "cli/consistency.h"

#include <map>

namespace qp::cli {

void add_consistency(CLI::App& app, apply::Consistency& out) {
  using apply::Consistency;
  static const std::map<std::string, Consistency> kNames = {{"process", Consistency::Process},
                                                            {"thread", Consistency::Thread},
                                                            {"none", Consistency::None}};
  app.add_option(
         "--consistency", out,
         "Who may be in the code that goes, at the switch: process (nobody, suspended contexts "
         "included), thread (suspended contexts finish it), none (threads too)")
      ->transform(CLI::CheckedTransformer(kNames).description("process|thread|none"));
}

}  // namespace qp::cli
