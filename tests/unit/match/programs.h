// Real programs for the tests: compiled and linked on the spot, once as a user would, and each
// source once more as qpatch does it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/report.h"
#include "base/subprocess.h"
#include "elf/file.h"
#include "match/bind.h"
#include "match/proof.h"
#include "match/symbol_map.h"
#include "objdiff/split.h"

namespace qp::match {

using Words = std::vector<std::string>;

struct Recipe {
  std::string compiler = "gcc-12";
  Words compile = {"-O2"};
  Words link = {};
  std::string linker = "bfd";
};

class Program {
 public:
  // `sources`: path below the program's directory → text. `target_only`: flags that only the
  // target is compiled with.
  Program(const std::map<std::string, std::string>& sources, Recipe recipe, Words target_only = {})
      : dir_("qpatch-match-test"), recipe_(std::move(recipe)) {
    for (const auto& [path, text] : sources) {
      std::filesystem::create_directories((dir_.path() / path).parent_path());
      qp::write_file(dir_.path() / path, as_bytes(text));
      compile(path, path + ".target.o", target_only);
      compile(path, path + ".object.o", {"-ffunction-sections", "-fdata-sections", "-Wa,-L"});
      objects_.push_back(path + ".target.o");
    }
    link(recipe_.linker);
  }

  void link(const std::string& linker) {
    oracle_.reset();
    Words command = {recipe_.compiler, "-fuse-ld=" + linker, "-Wl,--build-id", "-o", "target"};
    command.insert(command.end(), objects_.begin(), objects_.end());
    command.insert(command.end(), recipe_.link.begin(), recipe_.link.end());
    command.push_back("-w");
    tool(command);
    load();
  }
  // Another program over the linked file ("target" is its name), then everything is read anew.
  void process(const Words& command) {
    tool(command);
    load();
  }

  // Takes the names away from the target. truth() still knows them.
  void strip() {
    oracle_ = symbols_;
    process({"strip", "target"});
  }

  const elf::File& file() const { return *file_; }
  const SymbolMap& symbols() const { return symbols_; }
  const elf::FileReader& memory() const { return *memory_; }
  Target target() const { return {*memory_, symbols_, file_->tls_block_end()}; }

  elf::AtomGraph original(const std::string& path) const {
    Report report;
    elf::AtomGraph graph =
        objdiff::split(elf::File::open(dir_.path() / (path + ".object.o")), report);
    EXPECT_TRUE(report.clean()) << path << ": " << report.refusals().front().id << " "
                                << report.refusals().front().detail;
    return graph;
  }

  // The oracle: where the target's own symbol table has `name`, of `file` if that is given.
  std::optional<LinkAddr> truth(std::string_view name, std::string_view file = "") const {
    std::optional<LinkAddr> found;
    for (const MapEntry* entry : (oracle_ ? *oracle_ : symbols_).named(name)) {
      if (file.empty() || std::filesystem::path(entry->file).filename() == file) {
        EXPECT_TRUE(!found || *found == entry->address) << name << " is not unique";
        found = entry->address;
      }
    }
    return found;
  }

 private:
  void tool(const Words& command) {
    RunOptions options;
    options.directory = dir_.path();
    const RunResult result = run(command, options);
    std::string line;
    for (const std::string& word : command) {
      line += word + " ";
    }
    ASSERT_EQ(result.exit_code, 0) << line << "\n" << result.err;
  }
  void compile(const std::string& in, const std::string& out, const Words& more) {
    Words command = {recipe_.compiler, "-w", "-c", in, "-o", out};
    command.insert(command.end(), recipe_.compile.begin(), recipe_.compile.end());
    command.insert(command.end(), more.begin(), more.end());
    tool(command);
  }
  void load() {
    file_ = std::make_unique<elf::File>(elf::File::open(dir_.path() / "target"));
    memory_ = std::make_unique<elf::FileReader>(*file_);
    symbols_ = SymbolMap::from_file(*file_);
  }

  TempDir dir_;
  Recipe recipe_;
  Words objects_;
  std::unique_ptr<elf::File> file_;
  std::unique_ptr<elf::FileReader> memory_;
  SymbolMap symbols_;
  std::optional<SymbolMap> oracle_;  // of the target before strip()
};

inline elf::AtomId function(const elf::AtomGraph& graph, std::string_view name) {
  for (elf::AtomId id = 0; id < graph.atoms.size(); ++id) {
    if (graph.atoms[id].kind == elf::AtomKind::Function && graph.name_of(id) == name) {
      return id;
    }
  }
  ADD_FAILURE() << "no function " << name;
  return 0;
}

// The symbols whose name begins with `name`: static locals have numbers.
inline std::vector<elf::AtomSymbolId> symbols_like(const elf::AtomGraph& graph,
                                                   std::string_view name) {
  std::vector<elf::AtomSymbolId> found;
  for (elf::AtomSymbolId id = 0; id < graph.symbols.size(); ++id) {
    if (graph.symbols[id].name == name ||
        graph.symbols[id].name.starts_with(std::string(name) + ".")) {
      found.push_back(id);
    }
  }
  return found;
}

inline elf::AtomSymbolId symbol(const elf::AtomGraph& graph, std::string_view name) {
  const auto found = symbols_like(graph, name);
  EXPECT_EQ(found.size(), 1u) << name;
  return found.empty() ? 0 : found.front();
}

inline std::vector<elf::AtomId> all_functions(const elf::AtomGraph& graph) {
  std::vector<elf::AtomId> all;
  for (elf::AtomId id = 0; id < graph.atoms.size(); ++id) {
    if (graph.atoms[id].kind == elf::AtomKind::Function && !graph.atoms[id].parent) {
      all.push_back(id);
    }
  }
  return all;
}

inline std::string ids_of(const Report& report) {
  std::string all;
  for (const Refusal& refusal : report.refusals()) {
    all += refusal.id + " " + refusal.where + ": " + refusal.detail + "\n";
  }
  return all;
}

// What the target has, but for the bytes that are `change`d: at an address, a value to xor with.
class ChangedReader final : public TargetReader {
 public:
  explicit ChangedReader(const TargetReader& memory) : memory_(memory) {}
  void change(LinkAddr at, uint8_t bits) { changes_[at] ^= bits; }
  void clear() { changes_.clear(); }
  size_t read_some(LinkAddr at, ByteSpan out) const override {
    const size_t got = memory_.read_some(at, out);
    for (const auto& [where, bits] : changes_) {
      if (where >= at && where < at + got) {
        out[static_cast<size_t>(where - at)] ^= std::byte{bits};
      }
    }
    return got;
  }

 private:
  const TargetReader& memory_;
  std::map<LinkAddr, uint8_t> changes_;
};

}  // namespace qp::match
