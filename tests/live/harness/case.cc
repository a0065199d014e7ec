// Reads case.json, and decides in which configurations a case runs.
//
// The matrix is {gcc, clang} × {PIE, non-PIE} × {-O0, -O2, -Os}; all of it for every case would
// take far too long on two cores. Cases with "matrix": "full" run in eight configurations. The
// others run in two, one per compiler, which a hash of the case's name chooses: the choice is
// stable when cases are added, every configuration is used by many cases, and each case has seen
// both compilers, one PIE and one non-PIE. In one of the two, and in half of the full matrix, the
// target is stripped before it runs: what a patch does must not depend on names. A case that needs
// them says "needs_names".
//
// A case that says "musl" runs with that C library as well: "dynamic", a stripped PIE, and "static".
//
// An unknown key is an error: a misspelt expectation would otherwise be one that nobody checks.

#include "harness/case.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <stdexcept>

namespace qp::live {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

uint32_t fnv1a(const std::string& text) {
  uint32_t hash = 2166136261U;
  for (char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return hash ^ (hash >> 15);
}

void only_known_keys(const json& object, const std::set<std::string>& known, const fs::path& file) {
  for (const auto& [key, value] : object.items()) {
    if (known.count(key) == 0) {
      throw std::runtime_error(file.string() + ": unknown key '" + key + "'");
    }
  }
}

std::vector<std::string> strings(const json& object, const char* key) {
  if (!object.contains(key)) {
    return {};
  }
  const json& value = object.at(key);
  if (value.is_string()) {
    return {value.get<std::string>()};
  }
  return value.get<std::vector<std::string>>();
}

std::vector<Configuration> configurations(const json& object, const std::string& name) {
  std::vector<Configuration> chosen;
  if (object.value("matrix", "two") == "full") {
    chosen = full_matrix();
  } else {
    const uint32_t hash = fnv1a(name);
    const std::vector<std::string> levels = {"-O2", "-O2", "-O0", "-Os"};
    const bool pie = (hash & 1) != 0;
    const bool strip_first = (hash >> 5 & 1) != 0;
    chosen = {{"gcc", pie, levels[(hash >> 1) & 3], strip_first},
              {"clang-14", !pie, levels[(hash >> 3) & 3], !strip_first}};
  }
  for (const std::string& kind : strings(object, "musl")) {
    const bool is_static = kind == "static";
    if (!is_static && kind != "dynamic") {
      throw std::runtime_error(name + ": unknown kind of musl '" + kind + "'");
    }
    chosen.push_back({"musl-gcc", !is_static, "-O2", !is_static, is_static});
  }
  const bool named = object.value("needs_names", false) || object.contains("refusal");
  const bool all = getenv("QPATCH_STRIP_ALL") != nullptr && !object.contains("refusal");
  const std::vector<std::string> compilers = strings(object, "compilers");
  const std::vector<std::string> optimise = strings(object, "optimise");
  const auto differs = [](const std::vector<std::string>& allowed, const std::string& value) {
    return !allowed.empty() && std::find(allowed.begin(), allowed.end(), value) == allowed.end();
  };
  std::vector<Configuration> kept;
  for (Configuration c : chosen) {
    if (c.compiler != "musl-gcc" && differs(compilers, c.compiler)) {
      continue;
    }
    if (differs(optimise, c.optimise)) {
      if (object.value("matrix", "two") == "full") {
        continue;
      }
      c.optimise = optimise.front();
    }
    if (object.contains("pie")) {
      c.pie = object.at("pie").get<bool>();
    }
    c.stripped &= !named;
    c.stripped |= all;
    // Restrictions make configurations of the full matrix equal.
    const bool known = std::any_of(kept.begin(), kept.end(), [&](const Configuration& other) {
      return other.name() == c.name();
    });
    if (!known) {
      kept.push_back(c);
    }
  }
  return kept;
}

Case read_case(const fs::path& file) {
  std::ifstream in(file);
  const json object = json::parse(in);
  only_known_keys(object,
                  {"claim", "matrix", "compilers", "optimise", "pie", "flags", "link_flags",
                   "before_link", "finish", "build_flags", "drift", "probes", "functions",
                   "only_functions", "library", "needs_names", "musl", "sources", "refusal"},
                  file);
  Case c;
  c.directory = file.parent_path();
  c.name = c.directory.filename();
  if (object.contains("sources")) {  // those of another case
    c.directory = c.directory.parent_path() / object.at("sources").get<std::string>();
  }
  c.claim = object.at("claim").get<std::string>();
  c.configurations = configurations(object, c.name);
  c.flags = strings(object, "flags");
  c.link_flags = strings(object, "link_flags");
  c.before_link = strings(object, "before_link");
  c.finish = strings(object, "finish");
  c.build_flags = strings(object, "build_flags");
  c.drift = object.value("drift", "");
  c.functions = strings(object, "functions");
  c.only_functions = object.value("only_functions", false);
  c.library = object.value("library", false);
  for (const json& probe : object.value("probes", json::array())) {
    only_known_keys(probe, {"ask", "before", "after", "reverted", "fresh"}, file);
    Probe p;
    p.ask = probe.at("ask").get<std::string>();
    p.before = probe.at("before").get<std::string>();
    p.after = probe.value("after", p.before);
    p.reverted = probe.value("reverted", p.before);
    p.fresh = probe.value("fresh", p.after);
    c.probes.push_back(p);
  }
  if (object.contains("refusal")) {
    const json& refusal = object.at("refusal");
    only_known_keys(refusal, {"command", "id", "exit", "names"}, file);
    ExpectedRefusal expected;
    expected.command = refusal.at("command").get<std::string>();
    expected.ids = strings(refusal, "id");
    const json& exits = refusal.at("exit");
    expected.exit_codes = exits.is_array()
                              ? exits.get<std::vector<int>>()
                              : std::vector<int>(expected.ids.size(), exits.get<int>());
    expected.names = refusal.value("names", "");
    c.refusal = expected;
  }
  return c;
}

}  // namespace

std::string Configuration::name() const {
  const std::string who = compiler == "musl-gcc" ? "musl" : compiler.substr(0, compiler.find('-'));
  return who +
         (is_static ? "_static_"
          : pie     ? "_pie_"
                    : "_nopie_") +
         optimise.substr(1) + (stripped ? "_stripped" : "");
}

std::vector<Configuration> full_matrix() {
  return {{"gcc", true, "-O2", false},     {"gcc", false, "-O2", true},
          {"clang-14", true, "-O2", true}, {"clang-14", false, "-O2", false},
          {"gcc", true, "-O0", true},      {"clang-14", false, "-O0", false},
          {"gcc", false, "-Os", true},     {"clang-14", true, "-Os", false}};
}

std::ostream& operator<<(std::ostream& out, const Instance& instance) {
  return out << instance.what.claim;
}

std::vector<Instance> read_cases(const fs::path& root) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (fs::exists(entry.path() / "case.json")) {
      files.push_back(entry.path() / "case.json");
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Instance> instances;
  for (const fs::path& file : files) {
    const Case c = read_case(file);
    for (const Configuration& configuration : c.configurations) {
      instances.push_back({c, configuration});
    }
  }
  return instances;
}

}  // namespace qp::live
