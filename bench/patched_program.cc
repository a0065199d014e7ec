// qpatch is a program here, run as users run it: what is measured includes its start and its end.

#include "patched_program.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include <fmt/format.h>

namespace bench {
namespace fs = std::filesystem;

namespace {

std::string read_text(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

int run(const std::vector<std::string>& argv, const fs::path& log) {
  std::vector<char*> args;
  for (const std::string& a : argv) {
    args.push_back(const_cast<char*>(a.c_str()));
  }
  args.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    be_ordinary();
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp(args[0], args.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace

void die(const std::string& what) {
  std::cerr << "bench: " << what << '\n';
  std::exit(1);
}

void be_first() {
  const sched_param high{.sched_priority = 1};
  sched_setscheduler(0, SCHED_FIFO, &high);
}

void be_ordinary() {
  const sched_param none{};
  sched_setscheduler(0, SCHED_OTHER, &none);
}

void must_run(const std::vector<std::string>& argv, const fs::path& log) {
  if (const int code = run(argv, log); code != 0) {
    std::cerr << read_text(log);
    die(fmt::format("{} {} exits with {}", argv[0], argv.size() > 1 ? argv[1] : "", code));
  }
}

Folder::Folder() {
  char pattern[] = "/tmp/qpatch-bench-XXXXXX";
  if (mkdtemp(pattern) == nullptr) {
    die("no folder below /tmp");
  }
  path_ = pattern;
}

Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

PatchedProgram::PatchedProgram(const fs::path& folder, const std::string& qpatch,
                               const fs::path& source, const std::string& before,
                               const std::string& after)
    : folder_(folder), qpatch_(fs::absolute(qpatch)) {
  build(source, before, after);
  must_run({qpatch_, "info", (folder_ / "fix.qp").string(), "--json"}, folder_ / "log");
  const std::string text = read_text(folder_ / "log");
  const size_t quote = text.find('"', text.find(':', text.find("\"id\"")));
  id_ = text.substr(quote + 1, text.find('"', quote + 1) - quote - 1);
}

void PatchedProgram::build(const fs::path& source, const std::string& before,
                           const std::string& after) {
  fs::copy_file(source, folder_ / "victim.c");
  std::ofstream(folder_ / "compile_commands.json") << fmt::format(
      R"([{{"directory": "{0}", "file": "victim.c",
            "arguments": ["gcc", "-O2", "-g", "-pthread", "-c", "victim.c", "-o", "victim.o"]}}])",
      folder_.string());
  const fs::path log = folder_ / "log";
  must_run({"gcc", "-O2", "-g", "-pthread", (folder_ / "victim.c").string(), "-o",
            program().string(), "-Wl,--build-id"},
           log);
  std::string text = read_text(folder_ / "victim.c");
  fs::create_directories(folder_ / "a");
  fs::create_directories(folder_ / "b");
  std::ofstream(folder_ / "a/victim.c") << text;
  text.replace(text.find(before), before.size(), after);
  std::ofstream(folder_ / "b/victim.c") << text;
  run({"sh", "-c",
       fmt::format("cd {} && diff -u a/victim.c b/victim.c > fix.patch", folder_.string())},
      log);
  must_run(
      {qpatch_, "build", "--compdb", folder_.string(), "--patch", (folder_ / "fix.patch").string(),
       "--target", program().string(), "-o", (folder_ / "fix.qp").string()},
      log);
}

void PatchedProgram::apply(const std::vector<std::string>& selection) const {
  std::vector<std::string> argv = {qpatch_, "apply", (folder_ / "fix.qp").string()};
  argv.insert(argv.end(), selection.begin(), selection.end());
  must_run(argv, folder_ / "log");
}

void PatchedProgram::revert(const std::vector<std::string>& selection) const {
  std::vector<std::string> argv = {qpatch_, "revert", id_};
  argv.insert(argv.end(), selection.begin(), selection.end());
  must_run(argv, folder_ / "log");
}

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(q * static_cast<double>(v.size() - 1))];
}

}  // namespace bench
