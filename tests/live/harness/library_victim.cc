// The host is a program of the usual protocol that knows the library in one of three ways: linked
// against it (and then not position-independent, so that it has copy relocations and stands-in for
// function addresses, the two ways in which an executable changes what a library's own names mean),
// or by dlopen(), visible to others or not. It hands the addresses of the library's functions back
// to it on request, to see whether both sides mean the same.

#include "harness/library_victim.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace qp::live {
namespace fs = std::filesystem;

namespace {

constexpr const char* kLinkedHost = R"(
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
int answer(int);
void host_start(void);
void* address_in_library(const char* name) { (void)name; return 0; }
void start(void) { host_start(); }
void probe(const char* request) { printf("%d", answer(atoi(request))); }
)";

constexpr const char* kOpeningHost = R"(
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void* library;
static int (*answer)(int);
void host_start(void);
void* address_in_library(const char* name) { return dlsym(library, name); }
void start(void) {
  const char* twice = getenv("ALSO_LOAD");
  if (getenv("ELSEWHERE")) {
#ifdef LM_ID_NEWLM  // musl has no namespaces
    library = dlmopen(LM_ID_NEWLM, getenv("LIBRARY"), RTLD_NOW);
#endif
  } else {
    library = dlopen(getenv("LIBRARY"), RTLD_NOW | atoi(getenv("FLAGS")));
  }
  if (twice) {
    dlopen(twice, RTLD_NOW | RTLD_LOCAL);
  }
  if (!library || !(answer = (int (*)(int))dlsym(library, "answer"))) {
    puts(dlerror());
    exit(1);
  }
  host_start();
}
void probe(const char* request) {
  if (!strcmp(request, "close")) {
    printf("%d", dlclose(library));
  } else if (!strcmp(request, "open")) {
    library = dlopen(getenv("LIBRARY"), RTLD_NOW);
    answer = (int (*)(int))dlsym(library, "answer");
    printf("%d", answer != 0);
  } else {
    printf("%d", answer(atoi(request)));
  }
}
)";

}  // namespace

std::string name_of(Loading how) {
  return how == Loading::AtStart    ? "at_start"
         : how == Loading::ByDlopen ? "dlopen"
                                    : "dlopen_local";
}

LibraryVictim::LibraryVictim(Workdir& dir, const LibraryRecipe& recipe, Loading how)
    : dir_(dir), recipe_(recipe), how_(how) {
  const bool linked = how == Loading::AtStart;
  dir.write_file("src/library.c", recipe.original);
  dir.write_file("new/library.c", recipe.patched);
  dir.write_file("host.c", std::string(linked ? kLinkedHost : kOpeningHost) + recipe.host);
  const fs::path build = dir.path() / "build";
  fs::create_directories(build);
  std::vector<std::string> compile = {
      recipe.compiler, "-O2", "-g", "-fPIC", "-o", "library.o", "-c", dir.path() / "src/library.c"};
  compile.insert(compile.end(), recipe.flags.begin(), recipe.flags.end());
  nlohmann::json entry = {{"directory", build.string()},
                          {"file", (dir.path() / "src/library.c").string()},
                          {"arguments", compile}};
  dir.write_file("build/compile_commands.json", nlohmann::json::array({entry}).dump());
  dir.must_run(compile, build);
  link({"library.o"});
  const std::string host_compiler = recipe.compiler == "musl-gcc" ? "musl-gcc" : "gcc";
  std::vector<std::string> host = {
      host_compiler,         "-O1",      "-rdynamic", "-o", dir.path() / "host",
      dir.path() / "host.c", QP_PROTOCOL};
  const std::vector<std::string> kind =
      linked ? std::vector<std::string>{"-no-pie", "-fno-pie", library(),
                                        "-Wl,-rpath," + build.string()}
             : std::vector<std::string>{"-pie", "-fPIE", "-ldl"};
  host.insert(host.end(), kind.begin(), kind.end());
  dir.must_run(host);
  if (!recipe.preload.empty()) {
    dir.write_file("preload.c", recipe.preload);
    dir.must_run({host_compiler, "-O1", "-shared", "-fPIC", "-o", dir.path() / "preload.so",
                  dir.path() / "preload.c"});
  }
}

void LibraryVictim::link(const std::vector<std::string>& objects) {
  const fs::path build = dir_.path() / "build";
  std::vector<std::string> command = {recipe_.compiler, "-shared", "-Wl,--build-id=sha1", "-o",
                                      library()};
  command.insert(command.end(), objects.begin(), objects.end());
  command.insert(command.end(), recipe_.link_flags.begin(), recipe_.link_flags.end());
  dir_.must_run(command, build);
  if (how_ == Loading::ByDlopen) {  // one of the three, so that each feature is seen without names
    dir_.must_run({"strip", library()}, build);
  }
}

void LibraryVictim::build_another() {
  dir_.write_file("build/front.c",
                  "static long data[500] = {1}; __thread int counted = 3;\n"
                  "int front(int x) { counted++; return (int)data[x] * counted; }\n");
  dir_.must_run({recipe_.compiler, "-O2", "-fPIC", "-c", "front.c"}, dir_.path() / "build");
  link({"front.o", "library.o"});
}

std::unique_ptr<Victim> LibraryVictim::start(const std::string& host,
                                             const std::map<std::string, std::string>& more) {
  std::map<std::string, std::string> environment = more;
  environment.emplace("LIBRARY", library());
  environment.emplace("FLAGS", how_ == Loading::ByDlopen ? "256" : "0");  // RTLD_GLOBAL
  if (!recipe_.preload.empty()) {
    environment.emplace("LD_PRELOAD", dir_.path() / "preload.so");
  }
  for (const auto& [name, value] : environment) {
    setenv(name.c_str(), value.c_str(), 1);
  }
  struct Restore {
    const std::map<std::string, std::string>& names;
    ~Restore() {
      for (const auto& [name, value] : names) {
        unsetenv(name.c_str());
      }
    }
  } restore{environment};
  return std::make_unique<Victim>(dir_.path() / host);
}

CommandResult LibraryVictim::build_patch(const std::vector<std::string>& more) {
  const CommandResult diff = dir_.run({"diff", "-u", "src/library.c", "new/library.c"});
  dir_.write_file("fix.patch", diff.out);
  std::vector<std::string> arguments = {"build",
                                        "--compdb",
                                        dir_.path() / "build",
                                        "--patch",
                                        dir_.path() / "fix.patch",
                                        "--target",
                                        library(),
                                        "-o",
                                        patch()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return dir_.qpatch(arguments, dir_.path() / "src");
}

}  // namespace qp::live
