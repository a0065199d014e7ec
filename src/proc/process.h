// A running process, looked at from outside. Nothing here stops it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <sys/types.h>

#include "base/address.h"
#include "base/fd.h"
#include "base/memory_reader.h"
#include "elf/file.h"

namespace qp::proc {

struct Mapping {
  LiveRange range;
  bool readable = false, writable = false, executable = false, shared = false;
  uint64_t offset = 0;
  uint64_t device = 0, inode = 0;  // 0, 0: anonymous
  std::string name;                // path, "[heap]", "" …; " (deleted)" removed
  bool deleted = false;
};

class Memory final : public MemoryReader {
 public:
  explicit Memory(pid_t pid);  // opens /proc/PID/mem; throws Error{system} (ExitCode::Permission)
  size_t read_some(LiveAddr at, ByteSpan out) const override;  // process_vm_readv, then mem
  // Many ranges in few system calls; each is all or nothing: returns false if any was not readable.
  struct Piece {
    LiveAddr at;
    ByteSpan out;
  };
  bool read_pieces(const std::vector<Piece>& pieces) const;
  // Through /proc/PID/mem (copy on write of private text). Caller is attached. Throws
  // Error{system}.
  void write(LiveAddr at, ByteView bytes) const;
  // Nobody has this memory any more: the process exited, or runs another program.
  bool gone() const;

 private:
  pid_t pid_;
  bool by_number_;
  Fd mem_;
};

struct Module {
  std::string path;      // as in maps
  std::string build_id;  // lower-case hex, "" if none
  LoadBias bias;
  LiveRange range;  // first to last mapping
  std::vector<LiveRange> executable;
  std::shared_ptr<const elf::File> file;  // opened through /proc/PID/map_files (right when replaced
                                          // or unlinked, or in another mount namespace)
};

class Process {
 public:
  // Throws Error{no-process} if it does not exist, Error{system} if it may not be looked at.
  static Process open(pid_t pid);
  pid_t pid() const { return pid_; }
  const std::string& program() const { return program_; }  // base name of the executable
  bool alive() const;         // by pidfd: the same process, not a later one of that number
  bool same_program() const;  // alive, and has not called exec since open()
  int pidfd() const { return pidfd_.get(); }
  uint64_t start_time() const;  // clock ticks since boot; with the number it names the process
  // Of a thread's view, since a dead group leader shows empty maps.
  std::vector<Mapping> mappings() const;
  std::vector<pid_t> threads() const;  // ascending
  std::string thread_name(pid_t tid) const;
  // Who traces it already; asked of the leader and one living thread. Freezing and borrowing find
  // tracers of any thread.
  std::optional<pid_t> tracer() const;
  bool same_mount_namespace() const;  // as ours: then files open under our paths
  const Memory& memory() const { return *memory_; }
  // Every ELF module that is mapped, executable first. Files that can't be opened have file ==
  // null.
  std::vector<Module> modules() const;

 private:
  Process() = default;
  pid_t pid_ = 0;
  std::string program_;
  Fd pidfd_;
  std::unique_ptr<Memory> memory_;
};

// The first module whose notes in live memory hold this build-id; opens no other file. For a quick
// "does this process use the target?".
std::optional<Module> find_module_by_build_id(const Process& process, std::string_view build_id);

// A path that opens the executable that the process runs, also if it was replaced or unlinked.
std::filesystem::path executable_path(const Process& process);

// A process for as long as it runs one program: its number is given away again, and exec keeps number
// and start. (Where addresses are not randomised, an exec of the same command line is not told.)
struct Running {
  pid_t pid = 0;
  uint64_t start = 0, stack = 0;  // TaskStat
  pid_t parent = 0;
  bool operator<(const Running& o) const {
    return std::tie(pid, start, stack) < std::tie(o.pid, o.start, o.stack);
  }
};
// All processes that we can see, by PID; kernel threads left out.
std::vector<Running> running_processes();
std::vector<pid_t> all_processes();

}  // namespace qp::proc
