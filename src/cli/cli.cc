// Parses the command line, runs one command, and turns whatever it throws into a message and an exit
// code. This is the one place where refusals, failures and bugs become text.
//
// Data goes to stdout, everything else to stderr. A message says what, where, why and what to do;
// scripts get the exit code (docs/cli.md) and, with --json, the data.

#include "cli/cli.h"

#include <iostream>
#include <vector>

#include <fmt/format.h>

#include "base/report.h"
#include "cli/commands.h"
#include "cli/messages.h"
#include "cli/spelling.h"

namespace qp::cli {
namespace {

constexpr const char* kVersion = "qpatch 0.1.0";

std::vector<std::string> subcommand_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) {
    names.push_back(sub->get_name());
  }
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

int usage_error(const CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  std::cerr << "qpatch: " << e.what() << '\n';
  std::vector<std::string> known = subcommand_names(app);
  const CLI::App* chosen = nullptr;
  for (const CLI::App* sub : app.get_subcommands({})) {
    if (argc > 1 && sub->get_name() == argv[1]) {
      chosen = sub;
    }
  }
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    word = word.substr(0, word.find('='));
    bool option = word.starts_with("--");
    if (!option && (chosen != nullptr || i > 1)) {
      continue;
    }
    auto names = option ? option_names(chosen != nullptr ? *chosen : app) : known;
    if (auto guess = nearest(word, names); guess && *guess != word) {
      std::cerr << fmt::format("Did you mean '{}'?\n", *guess);
      break;
    }
  }
  std::cerr << fmt::format("Try: qpatch {}--help\n",
                           chosen != nullptr ? chosen->get_name() + " " : "");
  return static_cast<int>(ExitCode::Usage);
}

int run_command(const std::vector<Command>& commands) {
  try {
    for (const Command& c : commands) {
      if (c.app->parsed()) {
        return static_cast<int>(c.run());
      }
    }
    return static_cast<int>(ExitCode::Usage);
  } catch (const Refused& r) {
    print_refusals(r.findings());
    return static_cast<int>(r.exit_code());
  } catch (const Error& e) {
    print_error(e);
    return static_cast<int>(e.exit_code());
  } catch (const CLI::Error& e) {  // a value that only the command can judge
    std::cerr << "qpatch: " << e.what() << '\n';
    return static_cast<int>(ExitCode::Usage);
  } catch (const std::exception& e) {  // Bug, bad_alloc: ours
    std::cerr << "qpatch: " << e.what() << '\n';
    return static_cast<int>(ExitCode::Failure);
  }
}

}  // namespace

int run(int argc, char** argv) {
  CLI::App app(
      "Repairs running programs: makes a patch from a source diff, proves that it fits, "
      "and puts it into processes that go on working.");
  app.name("qpatch");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  std::vector<Command> commands = {add_build(app),   add_diff(app),   add_info(app),
                                   add_check(app),   add_apply(app),  add_revert(app),
                                   add_recover(app), add_list(app),   add_stacks(app),
                                   add_map(app),     add_explain(app)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return usage_error(app, e, argc, argv);
  }
  int code = run_command(commands);
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "qpatch: writing the output failed\n";
    return code != 0 ? code : static_cast<int>(ExitCode::Failure);
  }
  return code;
}

}  // namespace qp::cli
