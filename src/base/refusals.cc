// The one table of refusals: `qpatch explain`, docs/refusals.md and the test that demands a test per
// id are all made from it. An id is public and stays.

#include "base/report.h"

namespace qp {

const std::vector<RefusalKind>& all_refusals() {
  static const std::vector<RefusalKind> table = {
      // build: input
      {"no-function-sections", "functions of the object share a section",
       "One leads to another by a distance that the assembler has computed and that a patch can't "
       "keep: a short jump reaches 127 bytes, and a copy of the function lies much farther away.",
       "C: compile with -ffunction-sections (qpatch build does it by itself). Assembly: put the "
       "function into a section of its own, or leave it by a call or a return.",
       ExitCode::Failure, false},
      {"reloc-unknown", "a relocation type that qpatch does not know",
       "A field that is not understood can neither be compared nor be linked.",
       "Report the type and the compiler; rewrite the fix without the construct that needs it.",
       ExitCode::Failure, false},
      {"object-unsupported", "the object has something that qpatch can't take apart yet",
       "Every byte of the object has to be accounted for; this part could not be.",
       "See the detail; docs/limits.md lists what is not supported.", ExitCode::Failure, false},
      {"tls-unsupported",
       "the patch needs a kind of thread-local storage that is not supported yet",
       "New code reaches a thread-local variable as the target does: by a fixed offset from the "
       "thread pointer, or through words that tell ld.so which one is meant. A variable that the "
       "patch adds has no fixed offset, since the threads were made without it; its code has to "
       "call a function that the patch brings along. `build` tells GCC so; clang does not follow "
       "in executables, nor for static variables of libraries beside existing ones. A static "
       "program must have what is needed to know when a thread ends.",
       "Write the fix so that the changed functions do not touch this variable. For a new one: "
       "write __attribute__((tls_model(\"global-dynamic\"))) into its declaration if that comes "
       "out "
       "of a macro; compile with GCC; or keep the values in an array by thread, or in "
       "pthread_setspecific().",
       ExitCode::Failure, false},
      {"comdat-unsupported", "the patch needs code or data of a COMDAT group",
       "Other modules can hold copies of it, which would not be replaced.",
       "C++ inline functions and templates are not supported yet; see docs/limits.md.",
       ExitCode::Failure, false},
      {"ifunc-unsupported", "an indirect function (IFUNC) changed or is added",
       "Its resolver has run already when the process started; the outcome is cached in many "
       "places.",
       "Change the implementation functions instead of the resolver.", ExitCode::Failure, false},
      {"init-changed", "code that runs only at start or exit changed",
       "Constructors have run already; replacing them has no effect on the process.",
       "Leave .init_array/.fini_array as they are and put the repair into functions that run "
       "again, or into a hook (<qpatch/hooks.h>) that does for the process what the constructor "
       "does for a new one; then allow it by name: --allow=init-changed:NAME.",
       ExitCode::Failure, true},
      {"coroutine-changed", "the body of a C++20 coroutine changed",
       "A coroutine that is suspended keeps its variables and the number of the place where it "
       "goes on in a frame, which the compiler lays out anew for the new body. There, another "
       "place can have that number.",
       "Put the fix into a function that the coroutine calls. If no coroutine of it can be "
       "suspended in the process, or neither its variables nor its suspension points changed, "
       "allow it by name: --allow=coroutine-changed:NAME.",
       ExitCode::Failure, true},
      {"file-scope-asm", "file-scope data or code could not be assigned to a symbol",
       "Bytes without an owner could change without anybody noticing.",
       "Give the code symbols with type and size.", ExitCode::Failure, false},
      {"lto-unsupported", "a touched unit is compiled with -flto, and its link can't be repeated",
       "Its object holds the compiler's intermediate language; the code that runs is made when the "
       "program is linked, so that link has to be repeated with the original and the patched "
       "source.",
       "Give the command that links the target with --link-command FILE (GCC only), or build the "
       "program without -flto.",
       ExitCode::Failure, false},
      {"unit-missing", "none of the changed units is part of the target",
       "The target's symbol table has neither their files nor their functions, so there is nothing "
       "to replace in it.",
       "Give the program or library that contains the changed code with --target.",
       ExitCode::NoMatch, false},
      {"source-not-compiled", "a source file of the diff is compiled by no command",
       "What it changes would be missing in the patch, and the rest of the fix may rely on it.",
       "Make the compile database complete (with all programs that the target needs). If the file "
       "is "
       "no part of the target (a test, another program), say so: --allow=source-not-compiled:NAME.",
       ExitCode::Failure, true},
      {"exceptions-unsupported", "exceptions could not pass through the new code",
       "The unwinder of C++ does not find new code, and calls std::terminate() when an exception "
       "is "
       "thrown there or passes through.",
       "If nothing is thrown in the changed functions and in what they call, say so: "
       "--allow=exceptions-unsupported:TARGET.",
       ExitCode::Failure, true},
      {"definition-conflict", "a new global function or variable exists already",
       "Old code would go on using the one that is there, new code the new one: two functions, or "
       "two copies of a variable, under one name.",
       "If the definition was moved from another file, leave it there; else give the new one a "
       "name "
       "of its own, or make it static.",
       ExitCode::Failure, false},
      // diff
      {"diff-unexplained", "a difference that no unit of the patch accounts for",
       "The first law of the diff: nothing is lost. A part of the object changed and nothing in "
       "the "
       "patch would bring that change into the process.",
       "Look at `qpatch diff`; usually the change is one of data that nobody in this unit reads.",
       ExitCode::Failure, false},
      {"initialiser-changed", "the initial value of an existing variable changed",
       "The variable lives in the process already and has a value of its own; a new initialiser "
       "would have no effect, or destroy state.",
       "Set the value in a hook (<qpatch/hooks.h>), or leave the old one if only new processes "
       "need "
       "the new one; then allow it by name: --allow=initialiser-changed:NAME.",
       ExitCode::Failure, true},
      {"hook-invalid", "a hook that can't be one",
       "Hooks are functions that the patch brings into the process (new or changed ones), declared "
       "with the macros of the <qpatch/hooks.h> that this qpatch knows.",
       "See the detail. Give a hook that the program's source has from an earlier patch another "
       "name.",
       ExitCode::Failure, false},
      {"alias-changed", "a name leads to another function or variable than before",
       "Callers in all units, and function pointers, go to the old one; there is no entry at which "
       "they could be led elsewhere, since the old one has a name of its own.",
       "Leave the alias as it is, and change the function that it leads to.", ExitCode::Failure,
       false},
      {"variable-resized", "an existing variable has another size or alignment",
       "Its storage in the process can't grow; the new code would write behind it.",
       "Keep the old variable, and add a new one for the new part.", ExitCode::Failure, false},
      {"state-ambiguous", "a writable variable has several possible counterparts",
       "Guessing would mix up the state of two variables.",
       "Give the variables distinct names, or keep the functions that use them apart.",
       ExitCode::Failure, false},
      {"readonly-escapes", "changed read-only data whose address is kept elsewhere",
       "Old pointers to it live in data that is not replaced, so both versions would be in use.",
       "Make the users call a function that returns the value.", ExitCode::Failure, false},
      {"type-layout", "the layout of a type changed",
       "Objects of the old layout exist in the process; new code would read them wrongly.",
       "Keep the layout (use padding, side tables); if no such object can exist or be reached, "
       "allow it by name: --allow=type-layout:NAME.",
       ExitCode::Failure, true},
      {"prototype-changed", "a function's prototype changed and not all callers are in the patch",
       "Old callers would pass arguments that the new function does not expect.",
       "Add a new function with the new prototype, and keep the old one.", ExitCode::Failure, true},
      {"label-address", "a writable table of label addresses of a changed function",
       "The table in the process holds addresses inside the old code.",
       "Make the table const, or use a switch.", ExitCode::Failure, false},
      // match
      {"function-missing", "a function to be replaced is not in the target",
       "The compiler inlined it everywhere, or the target was built from other sources.",
       "Check the version of the sources; put the fix into the callers.", ExitCode::NoMatch, false},
      {"code-differs", "the target's code is not what the original source compiles to",
       "A function is replaced only if its running code was proven to be the original's.",
       "Use the source, compiler and flags that the target was built with; the detail names the "
       "first instruction that differs.",
       ExitCode::NoMatch, false},
      {"symbol-missing", "a symbol that the new code uses is not in the target",
       "There is no address to link against.",
       "If the symbol was optimised away in the target, add a copy of it to the fix under a new "
       "name.",
       ExitCode::NoMatch, false},
      {"symbol-ambiguous", "a symbol has more than one candidate in the target",
       "Guessing would patch the wrong function or use the wrong variable.",
       "Build against the same sources as the target, so that code can tell them apart.",
       ExitCode::NoMatch, false},
      {"binding-conflict", "two proven functions disagree about where a symbol is",
       "At least one of the proofs can't be what it seems; nothing of it can be trusted.",
       "Check that the target was built from these sources; report it if it was.",
       ExitCode::NoMatch, false},
      {"unconfirmed", "nothing confirms that this code is the function",
       "The target has no names. The function's code is there once, but a function of another file "
       "could have the same code: nothing of its unit refers to it, shares a variable with it or "
       "lies beside it.",
       "Give the target's debug file with --debuginfo.", ExitCode::NoMatch, false},
      {"code-folded", "another function shares this code",
       "The linker folded functions of equal code into one (--icf). A detour would replace all of "
       "them.",
       "Fix the callers instead, or link the target without folding.", ExitCode::NoMatch, false},
      {"target-unsupported", "this kind of target is not supported",
       "A patch is for a linked program or library of this architecture: processes run nothing "
       "else.",
       "See docs/limits.md.", ExitCode::NoMatch, false},
      {"no-build-id", "the target has no build-id",
       "The build-id names the target in the patch file and finds it in processes.",
       "Link with -Wl,--build-id.", ExitCode::NoMatch, false},
      // link
      {"reloc-unsupported", "a relocation that can't be made in an image",
       "The field's value can't be computed for code that is mapped apart from its target.",
       "See the detail for the symbol; the remedy is usually another compiler flag or construct.",
       ExitCode::Failure, false},
      {"reloc-range", "a relocation does not fit its field",
       "The distance between the image and what it refers to is too large for the instruction.",
       "Free address space near the target; for non-PIE programs compile the fix without "
       "-mcmodel=large data.",
       ExitCode::Failure, false},
      {"symbol-unbound", "a symbol of the patch has no binding", "The patch file is incomplete.",
       "Build the patch again.", ExitCode::Failure, false},
      {"function-short", "a function is too short for a jump",
       "Its five bytes would overwrite the function behind it. Two bytes can lead to a jump in "
       "padding "
       "between functions, but there is none within 128 bytes, or not even two bytes are there.",
       "Put the fix into its callers.", ExitCode::NoMatch, false},
      {"no-room", "no free address range near the target",
       "Code reaches other code and data by distances of 32 bits, so the image should lie within 2 "
       "GiB of all that it refers to in the target. The process has mapped all of that. Elsewhere "
       "calls and most accesses to variables are led through words that hold addresses, but not "
       "instructions that need the stack pointer, jump tables in code that is linked at a fixed "
       "address, or a target without padding for the way there.",
       "Let the process unmap or not reserve memory there (MAP_32BIT, arenas at fixed addresses), "
       "or restart it with the corrected program. A program linked as PIE is not bound to the low "
       "2 "
       "GiB.",
       ExitCode::NoMatch, false},
      // apply
      {"not-in-process", "the process does not use the target of the patch",
       "No mapping of it has the target's build-id.",
       "Check the PID; `qpatch info` shows the build-id that the patch was made for.",
       ExitCode::NoMatch, false},
      {"not-executed", "the process maps the target's code and runs something else",
       "An emulator, valgrind for example, reads the code of a program and runs what it made of "
       "it. A change of that code would have no effect, while the process is listed as patched.",
       "Restart the program with the corrected file.", ExitCode::NoMatch, false},
      {"mapped-twice", "the process has the target more than once",
       "Copies of a library are patched together. An executable that is mapped again can't be told "
       "apart from the one that runs, and a copy whose file can't be opened can't be proven; it "
       "would go on running the old code while the process is listed as patched.",
       "Restart the process with the corrected program.", ExitCode::NoMatch, false},
      {"other-namespace", "the library is not in the process's link map",
       "dlmopen loaded it into a namespace of its own, or it was not ld.so that loaded it; the "
       "order in which its symbols are searched for is not known then.",
       "Restart the process with the corrected library.", ExitCode::NoMatch, false},
      {"interposed", "another module has a definition that may take the place of the library's",
       "LD_PRELOAD, the executable or a hook in the library's GOT decide which definition old code "
       "uses; what new code would have to use does not follow from what can be seen.",
       "Write the fix so that the changed functions do not need this symbol, or restart the "
       "process "
       "without the other definition.",
       ExitCode::NoMatch, false},
      {"import-missing", "a symbol of another module is not in the process",
       "ld.so would not find it either.", "Link the function into the fix, or do without it.",
       ExitCode::NoMatch, false},
      {"import-ifunc", "the address of an indirect function is not known in the process",
       "Its resolver would have to run inside the process.",
       "Call it through a function of the target that uses it already.", ExitCode::NoMatch, false},
      {"text-not-private", "the code to be changed is shared or not in ordinary pages",
       "A write would change other processes, or is not possible; and of code that was copied to "
       "other memory nothing says whose it is.",
       "Restart the process without huge pages for its code (libhugetlbfs, --use-largepages and "
       "the like) "
       "or shared mappings of it. Transparent huge pages are no obstacle.",
       ExitCode::NoMatch, false},
      {"text-modified", "the first bytes of a function were changed by somebody else",
       "A breakpoint, an uprobe or another patch is there.",
       "Detach debuggers and tracers, or revert the other patch first.", ExitCode::NoMatch, false},
      {"call-at-entry", "a suspended context could return into the jump",
       "The function calls another one within its first five bytes, which the jump to the new code "
       "overwrites. A coroutine that waits in that call would return into the middle of the jump.",
       "Put the fix into the functions that it calls, or into its callers.", ExitCode::NoMatch,
       false},
      {"traced", "the process is traced by another program",
       "Only one tracer can be attached at a time.", "Detach the debugger or strace.",
       ExitCode::Busy, false},
      {"memory-shared", "another process runs in the same memory",
       "A child of vfork or posix_spawn before its exec, or a process made with CLONE_VM: it is "
       "not "
       "stopped with the threads of the process, and could be inside the code that is changed.",
       "Try again, with a longer --timeout; a process that always shares its memory can't be "
       "patched.",
       ExitCode::Busy, false},
      {"busy", "a thread is inside a function that is replaced",
       "It would return into bytes that were changed, or mix old and new code.",
       "Try again with a longer --timeout; `qpatch stacks` shows who it is. A function that never "
       "returns can't be replaced: put the fix into a function that it calls.",
       ExitCode::Busy, false},
      {"not-applied", "the patch is not applied in the process", "There is nothing to revert.",
       "See `qpatch list`.", ExitCode::NoMatch, false},
      {"already-replaced", "another patch has replaced the same function",
       "The live code of the function is that patch's jump, not the original's code, so nothing "
       "can "
       "be proven about it.",
       "Build one patch that holds both fixes, with `--supersedes`, or say `--replace` if this one "
       "does; or revert the other patch first (`qpatch list`).",
       ExitCode::NoMatch, false},
      {"superseded", "a patch that took this one's place is applied",
       "It was made to hold what this one repairs, and more. Applying this one would take that out "
       "again, or mix the two.",
       "Nothing, as a rule. To go back to this patch: `--replace` with the id of the other one.",
       ExitCode::NoMatch, false},
      {"variable-changed", "a variable that an earlier patch brought is another one in this patch",
       "A patch that takes the place of an earlier one goes on with its variables. This one has "
       "another size or type, or there are several of its name, so the value it has can't be used.",
       "Give the new variable another name; a post-apply hook can fill it. Or revert the earlier "
       "patch first: then its variables are gone.",
       ExitCode::NoMatch, false},
      {"registry-damaged", "the record of a patch in the process can't be trusted",
       "The process wrote over it, or it belongs to another version of qpatch; an empty one was "
       "left "
       "by an interrupted run.",
       "Run `qpatch recover`; if that says the same, restart the process.", ExitCode::NeedsRecover,
       false},
      {"interrupted", "an interrupted run left a patch half done",
       "Neither the old nor the new state is complete in the registry. apply and revert undo that "
       "first; check never writes, and where undoing is not possible the detail says why.",
       "Run `qpatch recover`.", ExitCode::NeedsRecover, false},
      {"hook-refused", "a hook of the patch said no",
       "A pre-apply or pre-revert hook returned a value other than 0. Its author wants the patch "
       "not to be applied, or reverted, in the state in which the process is.",
       "The hook's message, if it left one, and its source say why.", ExitCode::NoMatch, false},
      {"hook-crashed", "a hook of the patch crashed",
       "It got a signal for what it did, or was about to make or end a thread or a process. It was "
       "ended there, and the thread that it ran on is what it was; what it had changed or locked "
       "stays so.",
       "Correct the hook; the detail names the place.", ExitCode::Failure, false},
      {"hook-timeout", "a hook of the patch did not come to its end in time",
       "It was ended where it was. A hook that runs while the other threads stand still waits in "
       "vain for any lock that one of them has.",
       "Try again, with a longer --hook-timeout; a hook that needs locks has to be declared "
       "QPATCH_RUNNING.",
       ExitCode::Busy, false},
      {"hook-impossible", "hooks can't run in this process",
       "A hook runs on a thread of the process. Under a seccomp filter, which tracing sets aside, "
       "its own system calls would not be filtered; with a shadow stack it could not return.",
       "Use a patch without hooks.", ExitCode::NoMatch, false},
      {"seccomp", "a seccomp filter of the process would stop the system calls qpatch needs",
       "A borrowed thread has to map memory; the filter can kill the process for that.",
       "Run qpatch with CAP_SYS_ADMIN and without a filter of its own.", ExitCode::NoMatch, false},
      {"process-limit", "the process is at a limit of its own",
       "A patch needs a few pages of address space in the process and, for a moment, one file "
       "descriptor. The process may not have more of them.",
       "Raise the limit that is named (prlimit --pid), apply, and set it back.", ExitCode::NoMatch,
       false},
      {"cgroup-frozen", "the process is frozen by its control group",
       "A frozen process runs nothing, not even the system calls that map a patch.",
       "Thaw it first (docker unpause, systemctl thaw).", ExitCode::Busy, false},
      {"unresponsive", "a thread does not stop",
       "All threads have to stand still for a moment. One that waits in the kernel without "
       "listening (a vfork that has not called exec yet, a disk that does not answer) can't be "
       "stopped, and may run on at any time.",
       "Try again with a longer --timeout; `ps -L -o tid,stat,wchan -p PID` shows what it waits "
       "for.",
       ExitCode::Busy, false},
      {"no-thread", "no thread can run a system call for qpatch",
       "A thread is borrowed to map the patch: one that is in user mode or sleeps in a call that "
       "can be interrupted. All threads of the process are in calls that can't be, in 32-bit code, "
       "or in restartable sequences.",
       "Try again; `ps -L -o tid,stat,wchan -p PID` shows what its threads wait for.",
       ExitCode::Busy, false},
  };
  return table;
}

}  // namespace qp
