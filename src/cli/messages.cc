// A refusal is told as: id, where, what was found; then, once per id, what to do about it.

#include "cli/messages.h"

#include <iostream>
#include <set>

#include <fmt/format.h>

namespace qp::cli {

void print_refusals(const std::vector<Refusal>& findings) {
  for (const Refusal& f : findings) {
    std::cerr << fmt::format("qpatch: refused: {}: {}: {}\n", f.id, f.where, f.detail);
  }
  std::set<std::string> told;
  for (const Refusal& f : findings) {
    if (told.insert(f.id).second) {
      std::cerr << fmt::format("  {}: {}\n  More: qpatch explain {}\n", f.id,
                               refusal_kind(f.id).remedy, f.id);
    }
  }
}

void print_error(const Error& error) {
  std::cerr << fmt::format("qpatch: {} ({})\n", error.what(), error.code());
  if (error.exit_code() == ExitCode::Permission) {
    std::cerr << "  This needs root, or CAP_SYS_PTRACE for processes of other users.\n";
  }
}

void print_warnings(const std::vector<std::string>& warnings) {
  for (const std::string& w : warnings) {
    std::cerr << "qpatch: warning: " << w << '\n';
  }
}

nlohmann::json to_json(const std::vector<Refusal>& findings) {
  auto out = nlohmann::json::array();
  for (const Refusal& f : findings) {
    out.push_back({{"id", f.id},
                   {"where", f.where},
                   {"detail", f.detail},
                   {"remedy", std::string(refusal_kind(f.id).remedy)}});
  }
  return out;
}

void print_json(nlohmann::json value) {
  value["schema"] = kSchema;
  std::cout << value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

}  // namespace qp::cli
