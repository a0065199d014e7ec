// Calls everything that reads a file; used by the sweeps and by the fuzz target.
#pragma once

#include <memory>

#include "base/error.h"
#include "elf/cfi.h"
#include "elf/file.h"

namespace qp::elf {

// An Error is a good answer to a bad file; each question is asked although another one failed.
template <class Question>
void ask(Question question) {
  try {
    question();
  } catch (const Error&) {
  }
}

inline void exercise(ByteView bytes) {
  ask([&] {
    auto file = std::make_shared<const File>(File::parse(copy(bytes), "hostile"));
    for (const Section& s : file->sections()) {
      ask([&] { file->content(s); });
      if (file->type() == FileType::Relocatable) {
        ask([&] { file->relocations(s); });
      }
    }
    ask([&] { file->dynamic_relocations(); });
    ask([&] { file->groups(); });
    ask([&] { file->build_id(); });
    ask([&] { file->soname(); });
    ask([&] { file->needed(); });
    ask([&] { file->tls_block_end(); });
    ask([&] { file->load_range(); });
    ask([&] { file->find_section_at(file->entry()); });
    ask([&] {
      Bytes buffer(64);
      FileReader(*file).read_some(file->entry(), buffer);
    });
    ask([&] {
      if (file->type() == FileType::Relocatable) {
        read_frame_records(*file);
      }
    });
    ask([&] { file->producers(); });
    ask([&] {
      if (file->type() != FileType::Relocatable) {
        CfiTable table = CfiTable::from_file(file);
        table.find_rules(file->entry());
        for (const Symbol& s : file->dynamic_symbols()) {
          table.find_rules(LinkAddr(s.value));
          table.find_range(LinkAddr(s.value));
        }
      }
    });
  });
}

}  // namespace qp::elf
