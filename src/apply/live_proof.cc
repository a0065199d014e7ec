// The proof is repeated on live memory although `build` did it on the file: the process can run a
// file that was replaced, and breakpoints, uprobes or another patcher can have changed its text. Who
// wrote over a function is told apart from code that was another one to begin with, since the user
// does different things about it.

#include "apply/live_proof.h"

#include <algorithm>

#include <fmt/format.h>

namespace qp::apply {
namespace {

const char* describe(elf::BindingKind kind) {
  switch (kind) {
    case elf::BindingKind::Unbound:
      return "unbound";
    case elf::BindingKind::Address:
      return "an address";
    case elf::BindingKind::TpOffset:
    case elf::BindingKind::ModuleOffset:
    case elf::BindingKind::TlsSlot:
      return "thread-local";
    case elf::BindingKind::Import:
      return "an import";
  }
  return "";
}

void check_solutions(const format::Patch& patch, const std::vector<match::Solution>& solutions,
                     Report& report) {
  for (const match::Solution& s : solutions) {
    const elf::Binding& want = patch.old_bindings[s.symbol];
    const elf::Binding& have = s.binding;
    const std::string& name = patch.old.symbols[s.symbol].name;
    if (want.kind == elf::BindingKind::Unbound) {
      continue;
    }
    if (want.kind != have.kind) {
      report.refuse("binding-conflict", name,
                    fmt::format("the patch has {}, the process {}", describe(want.kind),
                                describe(have.kind)));
    } else if (want.kind == elf::BindingKind::Address && want.address != have.address) {
      report.refuse("binding-conflict", name,
                    fmt::format("the patch has it at {:#x}, the process at {:#x}",
                                want.address.value, have.address.value));
    } else if (want.tp_offset != have.tp_offset) {
      report.refuse("binding-conflict", name,
                    fmt::format("the patch has it at {:#x} in thread-local storage, the process at "
                                "{:#x}",
                                want.tp_offset, have.tp_offset));
    }
  }
}

// Did somebody write over the function since the file was mapped: a breakpoint, an uprobe, a patcher?
std::string find_modification(const proc::Process& process, const proc::Module& module,
                              const format::Replaced& f) {
  elf::FileReader file(*module.file);
  for (LinkRange range : f.ranges) {
    Bytes want(range.size());
    Bytes have(range.size());
    if (!file.try_read(range.start, want) ||
        !process.memory().try_read(module.bias(range.start), have)) {
      return "";
    }
    auto [w, h] = std::mismatch(want.begin(), want.end(), have.begin());
    if (w != want.end()) {
      auto at = static_cast<size_t>(w - want.begin());
      size_t size = std::min<size_t>(8, want.size() - at);
      return fmt::format("{:#x} holds {}, the file has {}", (module.bias(range.start) + at).value,
                         hex(ByteView(have).subspan(at, size)),
                         hex(ByteView(want).subspan(at, size)));
    }
  }
  return "";
}

// P1: the live code is the original's, instruction by instruction.
void prove(const proc::Process& process, const proc::Module& module, const match::Target& target,
           const format::Patch& patch, Report& report) {
  for (const format::Replaced& f : patch.replaced) {
    auto proof = match::prove_unit(patch.old, f.old_function, f.entry, target);
    if (!proof.proven) {
      if (std::string what = find_modification(process, module, f); !what.empty()) {
        report.refuse("text-modified", f.name, what);
        continue;
      }
      report.refuse("code-differs", f.name,
                    proof.difference
                        ? fmt::format("{} at {:#x}: {}", proof.difference->function,
                                      proof.difference->target_at.value, proof.difference->what)
                        : "its code could not be read");
      continue;
    }
    if (proof.ranges != f.ranges) {
      report.refuse("code-differs", f.name, "its pieces are not where the patch has them");
    }
    check_solutions(patch, proof.solutions, report);
  }
}

void check_mappings(const std::vector<proc::Mapping>& mappings, LoadBias bias,
                    const format::Patch& patch, Report& report) {
  for (const format::Replaced& f : patch.replaced) {
    LiveAddr entry = bias(f.entry);
    auto it = std::find_if(mappings.begin(), mappings.end(),
                           [&](const proc::Mapping& m) { return m.range.contains(entry); });
    if (it == mappings.end()) {
      report.refuse("code-differs", f.name, fmt::format("{:#x} is not mapped", entry.value));
    } else if (it->shared) {
      report.refuse("text-not-private", f.name, fmt::format("{} is mapped shared", it->name));
    } else if (it->writable) {
      report.refuse("text-not-private", f.name,
                    fmt::format("{} is mapped writable and executable", it->name));
    }
  }
}

}  // namespace

void prove_live(const proc::Process& process, const proc::Module& module,
                const match::Target& target, const format::Patch& patch, Report& report) {
  prove(process, module, target, patch, report);
  check_mappings(process.mappings(), module.bias, patch, report);
}

}  // namespace qp::apply
