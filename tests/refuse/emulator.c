// An emulator, as far as another process can see: a static program that maps a program's file, its code
// executable, and runs none of it. `emulator PROGRAM` says `ready` when it has, and ends with its input.

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, ROOM = 1 << 28 };

static int flags_of(const Elf64_Phdr* segment) {
  return (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
         (segment->p_flags & PF_X ? PROT_EXEC : 0);
}

int main(int argc, char** argv) {
  int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  char head[PAGE];
  if (fd < 0 || read(fd, head, sizeof head) <= 0) {
    return 1;
  }
  const Elf64_Ehdr* header = (const Elf64_Ehdr*)head;
  char* base = NULL;
  if (header->e_type == ET_DYN) {
    base = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  for (int i = 0; i < header->e_phnum; ++i) {
    Elf64_Phdr segment;
    memcpy(&segment, head + header->e_phoff + i * sizeof segment, sizeof segment);
    const unsigned long skew = segment.p_vaddr % PAGE;
    if (segment.p_type == PT_LOAD &&
        mmap(base + segment.p_vaddr - skew, segment.p_filesz + skew, flags_of(&segment),
             MAP_PRIVATE | MAP_FIXED, fd, (off_t)(segment.p_offset - skew)) == MAP_FAILED) {
      return 1;
    }
  }
  puts("ready");
  fflush(stdout);
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
  }
  return 0;
}
