// A case: a directory with a victim's sources, a diff, and what is expected (case.json).
#pragma once

#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace qp::live {

struct Configuration {
  std::string compiler;  // "gcc", "clang-14", "musl-gcc"
  bool pie = true;
  std::string optimise;      // "-O2"
  bool stripped = false;     // the target has lost its .symtab
  bool is_static = false;    // linked with -static
  std::string name() const;  // "gcc_pie_O2", "gcc_pie_O2_stripped"
};

// Asked before apply, after apply and after revert. A victim with state answers by its history, so
// a program built from the patched source can answer differently: then `fresh` says what.
struct Probe {
  std::string ask, before, after, reverted, fresh;
};

struct ExpectedRefusal {
  std::string command;           // "build", "check" (apply must say the same)
  std::vector<std::string> ids;  // one of them; more than one only where a compiler decides
  std::vector<int> exit_codes;   // parallel to ids
  std::string names;             // what the message must mention, may be empty
};

struct Case {
  std::string name, claim;
  std::filesystem::path directory;
  std::vector<Configuration> configurations;
  std::vector<std::string> flags;  // of every compilation
  std::vector<std::string> link_flags;
  std::vector<std::string> before_link;  // extra arguments, before the objects: a version script, …
  std::vector<std::string> finish;       // a program that is run on the linked target ("strip")
  std::vector<std::string> build_flags;  // of qpatch build ("--allow=…")
  std::string drift;                     // diff that makes the target's source another one
  std::vector<Probe> probes;
  std::vector<std::string> functions;  // must be replaced
  bool only_functions = false;         // and no others
  bool library = false;                // the target is a shared library; no victim runs
  std::optional<ExpectedRefusal> refusal;
};

// A case in one configuration: a test.
struct Instance {
  Case what;
  Configuration how;
  std::string name() const { return what.name + "_" + how.name(); }
};
std::ostream& operator<<(std::ostream& out, const Instance& instance);

// Every directory below `root` that has a case.json, in each of its configurations, by name.
// Throws std::runtime_error for a case.json that says something unknown.
std::vector<Instance> read_cases(const std::filesystem::path& root);

// The eight configurations of a full matrix.
std::vector<Configuration> full_matrix();

}  // namespace qp::live
