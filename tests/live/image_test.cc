// The image as the kernel sees it: which file, which pages.
//
// Text is linked once for a distance from the target, and every process that has that place free maps
// the same file, whose pages are in memory once. What a process has for itself are the pages that it
// writes: the registry and what is filled per process.

#include <fstream>
#include <set>
#include <sstream>

#include "harness/live_case.h"

namespace qp::live {
namespace {

// One mapping of an image, by /proc/PID/smaps.
struct ImageMapping {
  std::string rights, file;                             // file: device, inode
  size_t rss = 0, shared_clean = 0, private_dirty = 0;  // KiB
};

std::vector<ImageMapping> image_mappings(pid_t pid) {
  std::ifstream smaps("/proc/" + std::to_string(pid) + "/smaps");
  std::vector<ImageMapping> all;
  bool is_image = false;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first, rights, offset, device, inode;
    words >> first;
    if (first.back() != ':') {
      words >> rights >> offset >> device >> inode;
      is_image = line.find(".qpi") != std::string::npos;
      if (is_image) {
        all.push_back({rights, device + " " + inode});
      }
    } else if (is_image) {
      size_t size = 0;
      words >> size;
      ImageMapping& m = all.back();
      (first == "Rss:"             ? m.rss
       : first == "Shared_Clean:"  ? m.shared_clean
       : first == "Private_Dirty:" ? m.private_dirty
                                   : size) = size;
    }
  }
  return all;
}

class Image : public LiveCase {};

// Claim: fifty processes have one file and one copy of the new code in memory, and one page each for
// themselves; a process in which that place is taken has another file, made for it.
TEST_P(Image, is_one_file_for_fifty_processes) {
  constexpr size_t kOthers = 49;
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  std::vector<std::unique_ptr<Victim>> others;
  for (size_t i = 0; i < kOthers; ++i) {
    others.push_back(std::make_unique<Victim>(target()));
  }
  Victim crowded(target());
  ASSERT_EQ(crowded.ask("take"), "1");
  const CommandResult applied = dir().qpatch({"apply", patch, "--all"});
  EXPECT_NE(applied.out.find("patched 51"), std::string::npos) << applied.both();

  std::set<std::string> files;
  others.push_back(nullptr);  // the fiftieth is the fixture's own
  for (const auto& other : others) {
    Victim& one = other ? *other : victim();
    EXPECT_EQ(one.ask("1"), "101");
    for (const ImageMapping& m : image_mappings(one.pid())) {
      files.insert(m.file);
      if (m.rights == "r-xp") {
        EXPECT_EQ(m.private_dirty, 0U);
        EXPECT_EQ(m.shared_clean, m.rss);
        EXPECT_GT(m.rss, 0U);
      } else if (m.rights == "rw-p") {
        EXPECT_EQ(m.private_dirty, 4U);
      }
    }
  }
  EXPECT_EQ(files.size(), 1U);
  EXPECT_EQ(crowded.ask("1"), "101");
  const std::vector<ImageMapping> own = image_mappings(crowded.pid());
  ASSERT_FALSE(own.empty());
  EXPECT_EQ(files.count(own.front().file), 0U);
  const CommandResult reverted = dir().qpatch({"revert", only_listed().id, "--all"});
  EXPECT_NE(reverted.out.find("reverted 51"), std::string::npos) << reverted.both();
  EXPECT_EQ(victim().ask("1"), "3");
}

INSTANTIATE_TEST_SUITE_P(Scenario, Image,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "many_processes")),
                         instance_name);

}  // namespace
}  // namespace qp::live
