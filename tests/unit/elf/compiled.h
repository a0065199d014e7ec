// Real files for the tests: small programs, compiled on the spot.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "elf/file.h"

namespace qp::elf {

// What `command` makes of `source`; "{in}" and "{out}" stand for the files.
inline Bytes compile(const std::string& source, std::vector<std::string> command,
                     const std::string& suffix = ".c") {
  TempDir dir("qpatch-elf-test");
  auto in = dir.path() / ("unit" + suffix), out = dir.path() / "out";
  qp::write_file(in, as_bytes(source));
  for (std::string& word : command) {
    word = word == "{in}" ? in.string() : word == "{out}" ? out.string() : word;
  }
  RunResult result = run(command);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return read_file(out);
}

inline File parse_compiled(const std::string& source, std::vector<std::string> command,
                           const std::string& suffix = ".c") {
  return File::parse(compile(source, std::move(command), suffix), "compiled");
}

inline const Symbol* find_symbol(const std::vector<Symbol>& symbols, std::string_view name) {
  for (const Symbol& s : symbols) {
    if (s.name == name) {
      return &s;
    }
  }
  return nullptr;
}

// Output of a tool over `bytes` in a file; fails the test if it complains.
inline std::string inspect(ByteView bytes, std::vector<std::string> command) {
  TempDir dir("qpatch-elf-test");
  auto path = dir.path() / "file.o";
  qp::write_file(path, bytes);
  command.push_back(path.string());
  RunResult result = run(command);
  EXPECT_EQ(result.exit_code, 0) << command[0] << ": " << result.err << result.out;
  EXPECT_EQ(result.err, "") << command[0];
  EXPECT_EQ(result.out.find("arning"), std::string::npos) << command[0] << ": " << result.out;
  return result.out;
}

}  // namespace qp::elf
