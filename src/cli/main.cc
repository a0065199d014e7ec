#include "cli/cli.h"

int main(int argc, char** argv) {
  return qp::cli::run(argc, argv);
}
