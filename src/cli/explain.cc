// qpatch explain: a refusal in full. The text comes from the one table of refusals.

#include <iostream>
#include <memory>

#include <fmt/format.h>

#include "base/report.h"
#include "cli/commands.h"
#include "cli/messages.h"
#include "cli/spelling.h"

namespace qp::cli {
namespace {

struct ExplainArguments {
  std::string id;
  bool markdown = false, json = false;
};

void print_kind(const RefusalKind& kind) {
  std::cout << fmt::format(
      "{}: {}\n\n{}\n\nWhat to do: {}\n\nExit code {}.{}\n", kind.id, kind.title, kind.why,
      kind.remedy, static_cast<int>(kind.exit_code),
      kind.waivable ? fmt::format(" Can be allowed: --allow={}:NAME.", kind.id) : "");
}

// docs/refusals.md is this output; a test compares them.
void print_markdown() {
  std::cout
      << "# Refusals\n\n"
         "qpatch refuses rather than guesses. A refusal happens before anything is changed, and "
         "names an id, what it\nis about, and what was found there; the exit code says of which "
         "sort it is ([cli.md](cli.md)).\n\n"
         "This page is the output of `qpatch explain --markdown`.\n\n"
         "| id | in short | exit code | waivable |\n|---|---|---|---|\n";
  for (const RefusalKind& k : all_refusals()) {
    std::cout << fmt::format("| [{0}](#{0}) | {1} | {2} | {3} |\n", k.id, k.title,
                             static_cast<int>(k.exit_code),
                             k.waivable ? fmt::format("`--allow={}:NAME`", k.id) : "");
  }
  for (const RefusalKind& k : all_refusals()) {
    std::cout << fmt::format("\n## {}\n\n{}.\n\n*Why:* {}\n\n*What to do:* {}\n", k.id, k.title,
                             k.why, k.remedy);
  }
}

nlohmann::json kind_json(const RefusalKind& k) {
  return {{"id", std::string(k.id)},
          {"title", std::string(k.title)},
          {"why", std::string(k.why)},
          {"remedy", std::string(k.remedy)},
          {"exit_code", static_cast<int>(k.exit_code)},
          {"waivable", k.waivable}};
}

ExitCode explain(const ExplainArguments& args) {
  if (args.markdown) {
    print_markdown();
    return ExitCode::Done;
  }
  if (args.id.empty()) {
    auto all = nlohmann::json::array();
    for (const RefusalKind& k : all_refusals()) {
      args.json ? all.push_back(kind_json(k))
                : void(std::cout << fmt::format("{:<22}  {}\n", k.id, k.title));
    }
    if (args.json) {
      print_json({{"refusals", std::move(all)}});
    }
    return ExitCode::Done;
  }
  std::vector<std::string> ids;
  for (const RefusalKind& k : all_refusals()) {
    ids.emplace_back(k.id);
    if (k.id == args.id) {
      args.json ? print_json(kind_json(k)) : print_kind(k);
      return ExitCode::Done;
    }
  }
  auto guess = nearest(args.id, ids);
  throw Error("usage", "explaining", args.id,
              guess ? fmt::format("no refusal has this id; did you mean '{}'?", *guess)
                    : "no refusal has this id; `qpatch explain` lists them",
              ExitCode::Usage);
}

}  // namespace

Command add_explain(CLI::App& app) {
  auto args = std::make_shared<ExplainArguments>();
  CLI::App* sub = app.add_subcommand("explain", "A refusal in full: why it exists, what to do");
  sub->add_option("id", args->id, "Id of the refusal; without one, all are listed");
  sub->add_flag("--markdown", args->markdown, "All of them as docs/refusals.md");
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return explain(*args); }};
}

}  // namespace qp::cli
