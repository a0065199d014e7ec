// Where a test works, and how it runs programs.
//
// A live test that fails has to leave enough behind for a human: sources, objects, the target, the
// patch, and the commands in their order. So each test gets a directory with a fixed name below the
// build tree, which stays if the test failed, and each command is written down as it could be
// typed.
//
// Fixed names are also what makes `ctest -j` safe: two tests share nothing but the machine. Output
// of programs goes through files and not through pipes, so a program that writes much can't block,
// and one that leaves a child behind can't keep us waiting for the end of a pipe. A command that
// takes too long is killed: a hanging qpatch is a failure with a name, not a stuck test run.

#include "harness/workdir.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace qp::live {
namespace fs = std::filesystem;

namespace {

std::string quoted(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_@%+=:,./-") == std::string::npos;
  if (plain) {
    return word;
  }
  std::string out = "'";
  for (char c : word) {
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out + "'";
}

int wait_for(pid_t pid, std::chrono::seconds limit) {
  // pidfd_open: Linux 5.3. A wait with a deadline and without signals.
  const int handle = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  pollfd entry{handle, POLLIN, 0};
  const int ready = poll(&entry, 1, static_cast<int>(std::chrono::milliseconds(limit).count()));
  close(handle);
  if (ready == 0) {
    kill(pid, SIGKILL);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (ready == 0) {
    return 124;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Workdir::Workdir(const std::string& name) : path_(fs::path(QP_TEST_WORK) / name) {
  fs::remove_all(path_);
  fs::create_directories(path_);
}

Workdir::~Workdir() {
  if (!keep_) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
}

CommandResult Workdir::run(const std::vector<std::string>& argv, fs::path directory,
                           std::chrono::seconds limit) {
  if (directory.empty()) {
    directory = path_;
  }
  const std::string number = std::to_string(++count_);
  const fs::path out = path_ / ("command." + number + ".out");
  const fs::path err = path_ / ("command." + number + ".err");
  std::vector<char*> words;
  std::string line = "(cd " + quoted(directory) + " &&";
  for (const std::string& word : argv) {
    words.push_back(const_cast<char*>(word.c_str()));
    line += " " + quoted(word);
  }
  words.push_back(nullptr);

  const pid_t pid = fork();
  if (pid < 0) {
    throw std::runtime_error("fork: " + std::string(strerror(errno)));
  }
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int to_out = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const int to_err = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, 0);
    dup2(to_out, 1);
    dup2(to_err, 2);
    if (chdir(directory.c_str()) == 0) {
      execvp(words[0], words.data());
    }
    dprintf(2, "%s: %s\n", words[0], strerror(errno));
    _exit(127);
  }
  CommandResult result;
  result.exit_code = wait_for(pid, limit);
  result.out = read_text(out);
  result.err = read_text(err);
  line += ")  # exit " + std::to_string(result.exit_code) + "\n";
  // The long name of the directory once, as $W.
  for (size_t at = line.find(path_); at != std::string::npos; at = line.find(path_, at + 2)) {
    line.replace(at, path_.string().size(), "$W");
  }
  if (transcript_.empty()) {
    line.insert(0, "W=" + path_.string() + "\n");
  }
  transcript_ += line;
  std::ofstream(path_ / "commands.txt", std::ios::app) << line;
  return result;
}

CommandResult Workdir::must_run(const std::vector<std::string>& argv, fs::path directory) {
  CommandResult result = run(argv, std::move(directory));
  if (result.exit_code != 0) {
    throw std::runtime_error(argv[0] + " failed with exit code " +
                             std::to_string(result.exit_code) + ":\n" + result.both());
  }
  return result;
}

CommandResult Workdir::qpatch(std::vector<std::string> arguments, fs::path directory) {
  arguments.insert(arguments.begin(), qpatch_program());
  return run(arguments, std::move(directory));
}

void Workdir::write_file(const fs::path& relative, const std::string& text) const {
  const fs::path file = path_ / relative;
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

std::string qpatch_program() {
  const char* given = std::getenv("QPATCH");
  return given != nullptr && *given != '\0' ? given : QPATCH_PROGRAM;
}

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::map<std::string, std::string> tree_state(const fs::path& root) {
  std::map<std::string, std::string> state;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file()) {
      const auto when = entry.last_write_time().time_since_epoch().count();
      state[fs::relative(entry.path(), root)] =
          std::to_string(when) + " " + read_text(entry.path());
    }
  }
  return state;
}

bool names(const std::string& text, const std::string& id) {
  const auto part_of_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  };
  for (size_t at = text.find(id); at != std::string::npos; at = text.find(id, at + 1)) {
    const size_t end = at + id.size();
    if ((at == 0 || !part_of_word(text[at - 1])) &&
        (end == text.size() || !part_of_word(text[end]))) {
      return true;
    }
  }
  return false;
}

}  // namespace qp::live
