// The command line: the public interface of qpatch.
#pragma once

namespace qp::cli {

// Never throws; returns the exit code (base/error.h ExitCode).
int run(int argc, char** argv);

}  // namespace qp::cli
