// From diffs to patched files that a compiler can be shown.
//
// Where do the names of a diff start? At a source root that nobody tells us. But the compile
// database knows where sources are: every directory above one of its files or working directories
// is a candidate, and the root is the one below which all original files of the diff exist (names
// cut as for patch -p1, then -p0, -p2, -p3). Several candidates can name the same files through
// symbolic links; that is no ambiguity. If they name different files (a vendored copy of the
// project), those to which the diff applies remain; if that is not exactly one we don't guess.
//
// The diff is applied by `patch` to copies in a temporary directory that mirrors absolute paths.
// No fuzz: a hunk whose context differs may be in the wrong place, and this goes into a running
// program. Offsets are common (a distribution's own patches came before) and only reported.
//
// The compiler must see the patched files under the original's names: paths get into the object by
// __FILE__ and #include resolution. Changed files are bound over the originals, in a mount
// namespace of the compiler's own. A bind can't create or hide names, so a directory that gains or
// loses files is shown through an overlay whose upper layer holds the new files, and a whiteout
// (character device 0/0) for each deleted one. Where mounts are not allowed, the source root is
// copied, and -ffile-prefix-map gives the objects the names of the original. The user's tree is
// only read.

#include "build/patched_tree.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "build/line_diff.h"
#include "build/line_directives.h"
#include "build/unified_diff.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

constexpr int kStripLevels[] = {1, 0, 2, 3};

// Every directory that the database knows, and those above, without repetition.
std::vector<fs::path> candidate_roots(const std::vector<CompileCommand>& commands) {
  std::set<fs::path> known;
  auto add = [&](fs::path directory) {
    while (known.insert(directory).second && directory.has_relative_path()) {
      directory = directory.parent_path();
    }
  };
  for (const CompileCommand& command : commands) {
    add(command.file.parent_path());
    add(command.directory);
  }
  std::set<fs::path> real;
  for (const fs::path& path : known) {
    std::error_code error;
    fs::path canonical = fs::canonical(path, error);
    if (!error) {
      real.insert(canonical);
    }
  }
  // Deeper ones first, so that of several directories with the same files the nearest is taken.
  std::vector<fs::path> out(real.begin(), real.end());
  std::stable_sort(out.begin(), out.end(), [](const fs::path& a, const fs::path& b) {
    return std::distance(a.begin(), a.end()) > std::distance(b.begin(), b.end());
  });
  return out;
}

struct Place {
  fs::path root;
  int strip = 1;
  std::vector<std::string> names;    // of the diff's files, cut
  std::vector<fs::path> identities;  // of those that exist: canonical paths
};

std::string cut_name(const DiffedFile& file, int strip) {
  return strip_components(file.old_name.empty() ? file.new_name : file.old_name, strip);
}

bool is_text_of_c(const fs::path& path) {
  static const std::set<std::string> extensions = {
      ".c", ".h",   ".cc",  ".hh",  ".cpp", ".hpp", ".cxx", ".hxx", ".c++", ".h++", ".C",
      ".H", ".inc", ".inl", ".def", ".ipp", ".tcc", ".ii",  ".i",   ".ixx", ".m",   ".mm"};
  return extensions.contains(path.extension().string());
}

std::vector<std::string> patch_command(const fs::path& directory, int strip, const fs::path& diff) {
  return {"patch",
          fmt::format("-p{}", strip),
          "--batch",
          "--forward",
          "--fuzz=0",
          "--no-backup-if-mismatch",
          "--reject-file=-",
          "-d",
          directory.string(),
          "-i",
          fs::absolute(diff).string()};
}

void copy_text(const fs::path& from, const fs::path& to) {
  fs::create_directories(to.parent_path());
  write_file(to, read_file(from));
}

bool is_below(const fs::path& path, const fs::path& directory) {
  auto [end, ignored] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

// What a compiler can't want: repositories, and results of compilers.
bool is_left_out(const fs::directory_entry& entry) {
  static const std::set<std::string> names = {".git", ".svn", ".hg"};
  static const std::set<std::string> results = {".o",   ".a", ".lo",   ".la",   ".so", ".gch",
                                                ".pch", ".d", ".gcda", ".gcno", ".dwo"};
  fs::path name = entry.path().filename();
  return names.contains(name.string()) ||
         (entry.is_regular_file() && results.contains(name.extension().string()));
}

void copy_tree(const fs::path& from, const fs::path& to, const fs::path& root,
               const fs::path& copy) {
  fs::create_directories(to);
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    fs::path target = to / entry.path().filename();
    if (is_left_out(entry) || is_below(copy, entry.path())) {
      continue;
    }
    if (entry.is_symlink()) {
      fs::path points = fs::read_symlink(entry.path());
      if (points.is_absolute() && is_below(points, root)) {
        points = copy / points.lexically_relative(root);
      } else if (points.is_relative() && !is_below((from / points).lexically_normal(), root)) {
        points = (from / points).lexically_normal();
      }
      fs::create_symlink(points, target);
    } else if (entry.is_directory()) {
      copy_tree(entry.path(), target, root, copy);
    } else if (entry.is_regular_file()) {
      fs::copy_file(entry.path(), target);
    }
  }
}

}  // namespace

PatchedTree::PatchedTree(const std::vector<fs::path>& patches,
                         const std::vector<CompileCommand>& commands,
                         std::vector<std::string>& warnings)
    : dir_("qpatch-build-") {
  std::vector<fs::path> roots = candidate_roots(commands);
  for (const fs::path& patch : patches) {
    apply(patch, roots, warnings);
  }
  collect();
}

fs::path PatchedTree::work(const fs::path& path) const {
  return dir_.path() / "tree" / path.relative_path();
}

// Copies the files of `patch` into the mirror, unless an earlier diff did, and applies it there.
void PatchedTree::apply(const fs::path& patch, const std::vector<fs::path>& roots,
                        std::vector<std::string>& warnings) {
  std::vector<DiffedFile> files = parse_unified_diff(read_text(patch), patch.string());
  auto is_touched = [&](const fs::path& path) {
    return std::any_of(touched_.begin(), touched_.end(),
                       [&](const PatchedFile& f) { return f.path == path; });
  };
  bool has_original = std::any_of(files.begin(), files.end(), [](auto& f) { return !f.creates; });
  std::vector<Place> places;
  for (int strip : kStripLevels) {
    for (const fs::path& root : roots) {
      Place place{root, strip, {}, {}};
      bool fits = has_original || root == root_;
      for (const DiffedFile& file : files) {
        std::string name = cut_name(file, strip);
        fits = fits && !name.empty();
        if (!fits) {
          break;
        }
        place.names.push_back(name);
        std::error_code error;
        if (!file.creates && !is_touched(root / name)) {
          fits = fs::is_regular_file(root / name, error);
        }
        if (fs::path real = fs::canonical(root / name, error); !error) {
          place.identities.push_back(real);
        }
      }
      bool known = std::any_of(places.begin(), places.end(),
                               [&](auto& p) { return p.identities == place.identities; });
      if (fits && !known) {
        places.push_back(std::move(place));
      }
    }
    if (!places.empty()) {
      break;
    }
  }
  RunOptions options;
  options.environment = {{"LC_ALL", "C"}};
  auto prepare = [&](const Place& place) {
    for (const std::string& name : place.names) {
      fs::path path = place.root / name;
      fs::create_directories(work(path).parent_path());
      if (!is_touched(path) && !fs::exists(work(path)) && fs::exists(path)) {
        copy_text(path, work(path));
      }
    }
  };
  if (places.size() > 1) {
    std::erase_if(places, [&](const Place& place) {
      prepare(place);
      std::vector<std::string> command = patch_command(work(place.root), place.strip, patch);
      command.push_back("--dry-run");
      return run(command, options).exit_code != 0;
    });
  }
  if (places.size() != 1) {
    auto first = std::find_if(files.begin(), files.end(), [](auto& f) { return !f.creates; });
    std::string name = first == files.end() ? files[0].new_name : first->old_name;
    throw Error("patch-root", "can't place", patch.string(),
                places.empty()
                    ? fmt::format("no directory above the sources of the compile database has all "
                                  "the files that it changes (the first is '{}')",
                                  name)
                    : fmt::format("it fits below {} and below {}", places[0].root.string(),
                                  places[1].root.string()));
  }
  const Place& place = places[0];
  prepare(place);
  for (const std::string& name : place.names) {
    fs::path path = place.root / name;
    if (!is_touched(path)) {
      touched_.push_back({path, name, PatchedFile::Kind::Changed, ""});
    }
  }
  if (root_.empty()) {
    root_ = place.root;
  }
  RunResult result = run(patch_command(work(place.root), place.strip, patch), options);
  if (result.exit_code != 0) {
    std::string said = result.out + result.err;
    while (said.ends_with("\n")) {
      said.pop_back();
    }
    throw Error("patch-failed", "can't apply",
                fmt::format("{} to {}", patch.string(), place.root.string()), said);
  }
  std::string file;
  for (std::string_view line : split_lines(result.out)) {
    if (line.starts_with("patching file ")) {
      file = line.substr(14);
    } else if (line.find("(offset ") != std::string_view::npos) {
      warnings.push_back(fmt::format("{}: {}: {}", patch.string(), file, line));
    }
  }
}

// Compares the mirror with the user's tree.
void PatchedTree::collect() {
  for (PatchedFile& file : touched_) {
    bool before = fs::exists(file.path), after = fs::exists(work(file.path));
    std::string original = before ? read_text(file.path) : "";
    file.patched = after ? read_text(work(file.path)) : "";
    if (before == after && original == file.patched) {
      continue;
    }
    file.kind = !before  ? PatchedFile::Kind::Added
                : !after ? PatchedFile::Kind::Deleted
                         : PatchedFile::Kind::Changed;
    if (file.kind == PatchedFile::Kind::Changed && is_text_of_c(file.path)) {
      file.patched = keep_line_numbers(original, file.patched);
      write_file(work(file.path), as_bytes(file.patched));
    }
    files_.push_back(file);
  }
  std::sort(files_.begin(), files_.end(), [](auto& a, auto& b) { return a.path < b.path; });
}

const PatchedFile* PatchedTree::find(const fs::path& path) const {
  for (const PatchedFile& file : files_) {
    if (file.path == path) {
      return &file;
    }
  }
  return nullptr;
}

void PatchedTree::make_mounts() {
  std::set<fs::path> directories;
  for (const PatchedFile& file : files_) {
    if (file.kind == PatchedFile::Kind::Changed) {
      view_.binds.push_back({work(file.path), file.path});
      continue;
    }
    fs::path directory = file.path.parent_path();
    while (!fs::exists(directory)) {
      directory = directory.parent_path();
    }
    directories.insert(directory);
  }
  // The topmost ones only: an overlay of an overlay is not needed, since the layer can hold
  // subdirectories. Sorted, so a directory comes before those below it.
  std::vector<fs::path> tops;
  for (const fs::path& directory : directories) {
    if (tops.empty() || !is_below(directory, tops.back())) {
      tops.push_back(directory);
    }
  }
  for (size_t i = 0; i < tops.size(); ++i) {
    fs::path layer = dir_.path() / fmt::format("layer{}", i);
    fs::create_directory(layer);
    for (const PatchedFile& file : files_) {
      if (file.kind == PatchedFile::Kind::Changed || !is_below(file.path, tops[i])) {
        continue;
      }
      fs::path in_layer = layer / file.path.lexically_relative(tops[i]);
      if (file.kind == PatchedFile::Kind::Added) {
        copy_text(work(file.path), in_layer);
      } else {
        fs::create_directories(in_layer.parent_path());
        if (::mknod(in_layer.c_str(), S_IFCHR | 0600, 0) != 0) {
          throw system_error("can't make a whiteout", in_layer.string(), errno);
        }
      }
    }
    view_.overlays.push_back({layer, tops[i]});
  }
}

void PatchedTree::make_copy() {
  view_.root = root_;
  view_.copy = dir_.path() / "copy";
  copy_tree(root_, view_.copy, root_, view_.copy);
  for (const PatchedFile& file : files_) {
    if (!is_below(file.path, root_)) {
      throw Error("patch-root", "can't copy the source tree for", file.path.string(),
                  fmt::format("it is not below {}", root_.string()));
    }
    fs::path path = view_.copy / file.path.lexically_relative(root_);
    if (file.kind == PatchedFile::Kind::Deleted) {
      fs::remove(path);
    } else {
      fs::remove(path);  // a symbolic link would lead out of the copy
      copy_text(work(file.path), path);
    }
  }
}

const View& PatchedTree::patched_view(bool allow_mounts) {
  if (!view_ready_) {
    bool only_changes = std::all_of(files_.begin(), files_.end(), [](const PatchedFile& f) {
      return f.kind == PatchedFile::Kind::Changed;
    });
    // An overlay is read-only; the objects must not go below it.
    bool overlay_fits = !is_below(dir_.path(), root_);
    if (allow_mounts && can_bind_mount() &&
        (only_changes || (overlay_fits && can_overlay_mount()))) {
      make_mounts();
    } else {
      make_copy();
    }
    view_ready_ = true;
  }
  return view_;
}

void PatchedTree::rewrite(const fs::path& path, std::string text) {
  const auto file = std::find_if(files_.begin(), files_.end(),
                                 [&](const PatchedFile& f) { return f.path == path; });
  QP_ASSERT(file != files_.end() && file->kind != PatchedFile::Kind::Deleted);
  file->patched = std::move(text);
  write_file(work(path), as_bytes(file->patched));
  if (!view_.copy.empty()) {
    copy_text(work(path), view_.copy / path.lexically_relative(root_));
  }
  for (const OverlayMount& overlay : view_.overlays) {
    if (file->kind == PatchedFile::Kind::Added && is_below(path, overlay.over)) {
      copy_text(work(path), overlay.layer / path.lexically_relative(overlay.over));
    }
  }
}

}  // namespace qp::build
