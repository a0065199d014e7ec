#include "build/patched_tree.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "build/compile.h"
#include "project.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

std::string code_of(const auto& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.code();
  }
  return "";
}

std::string preprocessed(const Project& project, const View& view, size_t unit = 0) {
  return preprocess(make_replay(project.commands()[unit]), view, "tested");
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Every way in which a compiler can be shown the files, where the kernel allows it.
class EveryView : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && !(can_bind_mount() && can_overlay_mount())) {
      GTEST_SKIP() << "no mount namespaces here";
    }
  }
};
INSTANTIATE_TEST_SUITE_P(PatchedTree, EveryView, testing::Values(true, false),
                         [](auto& tested) { return tested.param ? "Mounts" : "Copy"; });

// Claim: the compiler sees the patched file under the original's name, and everybody else the
// original; nothing of the user's tree is written.
TEST_P(EveryView, ChangedFile) {
  Project project{{"lib/a.c", "int a = 1;\n"}};
  project.add_command("lib/a.c");
  fs::path diff = project.diff({{"lib/a.c", "int a = 2;\nconst char* f = __FILE__;\n"}});
  std::string before = project.fingerprint();
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  ASSERT_EQ(tree.files().size(), 1u);
  EXPECT_EQ(tree.files()[0].path, project.root() / "lib/a.c");
  std::string out = preprocessed(project, tree.patched_view(GetParam()));
  EXPECT_TRUE(has(out, "int a = 2;")) << out;
  EXPECT_TRUE(has(out, "f = \"../lib/a.c\"")) << out;
  EXPECT_TRUE(has(preprocessed(project, View{}), "int a = 1;"));
  compile_object(make_replay(project.commands()[0]), tree.patched_view(GetParam()),
                 tree.scratch() / "x.o", "patched");
  EXPECT_EQ(project.fingerprint(), before);
  EXPECT_TRUE(warnings.empty());
}

// Claim: a file that the diff creates is there for the compiler, also in a new directory; one that
// it deletes is not; the rest of these directories is.
TEST_P(EveryView, NewAndDeletedFiles) {
  Project project{{"lib/a.c", "#include \"old.h\"\n"},
                  {"include/old.h", "int old;\n"},
                  {"include/kept.h", "int kept;\n"}};
  project.add_command("lib/a.c");
  fs::path diff =
      project.diff({{"lib/a.c",
                     "#include \"new.h\"\n#include \"deep/new.h\"\n#include \"kept.h\"\n"
                     "#if __has_include(\"old.h\")\nint still;\n#endif\n"},
                    {"include/new.h", "int new1;\n"},
                    {"include/deep/new.h", "int new2;\n"},
                    {"include/old.h", ""}});
  std::string before = project.fingerprint();
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  std::string out = preprocessed(project, tree.patched_view(GetParam()));
  for (const char* part : {"int new1;", "int new2;", "int kept;"}) {
    EXPECT_TRUE(has(out, part)) << part << out;
  }
  EXPECT_FALSE(has(out, "still"));
  EXPECT_EQ(project.fingerprint(), before);
}

// Claim: both compilations put the same paths into the object, so an unchanged unit comes out equal
// byte for byte.
TEST_P(EveryView, ObjectsOfAnUnchangedUnitAreEqual) {
  Project project{{"lib/a.c",
                   "#include <assert.h>\n#include \"h.h\"\nint f(int x) { assert(x > 1); "
                   "return x + H + sizeof(__TIMESTAMP__); }\n"},
                  {"include/h.h", "#define H 1\n"}};
  std::string absolute = (project.root() / "lib/a.c").string();
  project.add_command("lib/a.c", {"-g", "-DROOT=\"" + project.root().string() + "\""});
  auto arguments = project.commands()[0];
  for (std::string& word : arguments.arguments) {
    word = word == "../lib/a.c" ? absolute : word;
  }
  fs::path diff = project.diff({{"include/h.h", "#define H 1\n#define I 2\n"}});
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  Replay replay = make_replay(arguments);
  compile_object(replay, View{}, tree.scratch() / "o.o", "original");
  compile_object(replay, tree.patched_view(GetParam()), tree.scratch() / "p.o", "patched");
  auto loaded = [&](const char* name) {
    fs::path stripped = tree.scratch() / (std::string(name) + ".bin");
    run({"objcopy", "-O", "binary", "-j", ".text.f", "-j", ".rodata*", "-j", ".debug_line_str",
         "--set-section-flags", ".debug_line_str=alloc", (tree.scratch() / name).string(),
         stripped.string()});
    return read_text(stripped);
  };
  EXPECT_EQ(loaded("o.o"), loaded("p.o"));
  EXPECT_TRUE(has(loaded("o.o"), absolute));
}

// Claim: a -p0 diff is found too.
TEST(PatchedTree, StripLevelZero) {
  Project project{{"lib/a.c", "int a;\n"}};
  project.add_command("lib/a.c");
  fs::path diff = project.root().parent_path() / "p0.diff";
  write_file(diff, as_bytes("--- lib/a.c\n+++ lib/a.c\n@@ -1 +1 @@\n-int a;\n+int b;\n"));
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  EXPECT_EQ(tree.files().at(0).path, project.root() / "lib/a.c");
}

// Claim: of two places where the files exist, the one to which the diff applies is taken.
TEST(PatchedTree, VendoredCopy) {
  Project project{{"lib/a.c", "int a;\n"}, {"third_party/lib/a.c", "int other;\n"}};
  project.add_command("lib/a.c");
  project.add_command("third_party/lib/a.c");
  fs::path diff = project.diff({{"lib/a.c", "int b;\n"}});
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  EXPECT_EQ(tree.files().at(0).path, project.root() / "lib/a.c");
}

// Claim: if it applies to both, nothing is guessed.
TEST(PatchedTree, TwoPlacesAreAnError) {
  Project project{{"lib/a.c", "int a;\n"}, {"third_party/lib/a.c", "int a;\n"}};
  project.add_command("lib/a.c");
  project.add_command("third_party/lib/a.c");
  fs::path diff = project.diff({{"lib/a.c", "int b;\n"}});
  std::vector<std::string> warnings;
  EXPECT_EQ(code_of([&] { PatchedTree({diff}, project.commands(), warnings); }), "patch-root");
}

// Claim: files that nobody has are an error.
TEST(PatchedTree, NoPlaceIsAnError) {
  Project project{{"lib/a.c", "int a;\n"}};
  project.add_command("lib/a.c");
  fs::path diff = project.root().parent_path() / "x.diff";
  write_file(diff, as_bytes("--- a/no/such.c\n+++ b/no/such.c\n@@ -1 +1 @@\n-a\n+b\n"));
  std::vector<std::string> warnings;
  EXPECT_EQ(code_of([&] { PatchedTree({diff}, project.commands(), warnings); }), "patch-root");
}

// Claim: a hunk whose context differs is an error with the words of patch; there is no fuzz.
TEST(PatchedTree, FailingHunk) {
  Project project{{"lib/a.c", "1\n2\n3\n4\n5\n6\n7\n"}};
  project.add_command("lib/a.c");
  fs::path diff = project.diff({{"lib/a.c", "1\n2\n3\nx\n5\n6\n7\n"}});
  project.write("lib/a.c", "another\n2\n3\n4\n5\n6\n7\n");
  std::vector<std::string> warnings;
  try {
    PatchedTree({diff}, project.commands(), warnings);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "patch-failed");
    EXPECT_TRUE(has(e.said(), "Hunk #1 FAILED")) << e.said();
  }
}

// Claim: a diff that is applied already is an error, not a reverse patch.
TEST(PatchedTree, AppliedAlready) {
  Project project{{"lib/a.c", "int a;\n"}};
  project.add_command("lib/a.c");
  fs::path diff = project.diff({{"lib/a.c", "int b;\n"}});
  project.write("lib/a.c", "int b;\n");
  std::vector<std::string> warnings;
  EXPECT_EQ(code_of([&] { PatchedTree({diff}, project.commands(), warnings); }), "patch-failed");
}

// Claim: an offset is fine, and is told.
TEST(PatchedTree, OffsetIsAWarning) {
  Project project{{"lib/a.c", "1\n2\n3\n4\n5\n6\n7\n"}};
  project.add_command("lib/a.c");
  fs::path diff = project.diff({{"lib/a.c", "1\n2\n3\nx\n5\n6\n7\n"}});
  project.write("lib/a.c", "a\nb\nc\n1\n2\n3\n4\n5\n6\n7\n");
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(has(warnings[0], "offset 3 lines")) << warnings[0];
}

// Claim: several diffs are applied in their order, also to one file.
TEST(PatchedTree, DiffsInOrder) {
  Project project{{"lib/a.c", "int a;\n"}};
  project.add_command("lib/a.c");
  fs::path first = project.diff({{"lib/a.c", "int b;\n"}});
  project.write("lib/a.c", "int b;\n");
  fs::path second = project.diff({{"lib/a.c", "int c;\n"}, {"lib/new.h", "int n;\n"}});
  project.write("lib/a.c", "int a;\n");
  std::vector<std::string> warnings;
  PatchedTree tree({first, second}, project.commands(), warnings);
  ASSERT_EQ(tree.files().size(), 2u);
  EXPECT_EQ(tree.files()[0].patched, "int c;\n");
  EXPECT_EQ(tree.files()[1].kind, PatchedFile::Kind::Added);
}

// Claim: only sources get #line: a text of another kind stays as the diff makes it.
TEST(PatchedTree, OnlySourcesGetLineDirectives) {
  Project project{{"lib/a.c", "a;\nb;\n"}, {"NEWS", "a\nb\n"}, {"lib/x.S", "a\nb\n"}};
  project.add_command("lib/a.c");
  fs::path diff =
      project.diff({{"lib/a.c", "x;\na;\nb;\n"}, {"NEWS", "x\na\nb\n"}, {"lib/x.S", "x\na\nb\n"}});
  std::vector<std::string> warnings;
  PatchedTree tree({diff}, project.commands(), warnings);
  EXPECT_EQ(tree.find(project.root() / "lib/a.c")->patched, "x;\n#line 1\na;\nb;\n");
  EXPECT_EQ(tree.find(project.root() / "NEWS")->patched, "x\na\nb\n");
  EXPECT_EQ(tree.find(project.root() / "lib/x.S")->patched, "x\na\nb\n");
}

}  // namespace
}  // namespace qp::build
