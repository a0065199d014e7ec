// The runtime that patches bring along, called here as patched code would call it.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace {

// src/build/runtime/runtime.h
struct TlsBlock {
  const char* initial;
  uint64_t initial_size, size;
  uint64_t state = 0;
};
struct TlsIndex {
  TlsBlock* block;
  uint64_t offset;
};
struct TlsDescriptor {
  void (*function)();
  TlsIndex index;
};

bool uses_vectors = false;

}  // namespace

extern "C" {
void* qpatch_tls_get_addr(const TlsIndex* index);
void qpatch_tls_descriptor();

// libc's function, made as rude as its type allows.
void* pthread_getspecific(pthread_key_t key) noexcept {
  static auto* const real =
      reinterpret_cast<void* (*)(pthread_key_t)>(dlsym(RTLD_NEXT, "pthread_getspecific"));
  void* value = real(key);
  if (uses_vectors) {
    asm volatile(
        "vxorps %%ymm0, %%ymm0, %%ymm0\n vmovaps %%ymm0, %%ymm1\n vmovaps %%ymm0, %%ymm7\n"
        "vmovaps %%ymm0, %%ymm15\n fninit\n"
        "xor %%esi, %%esi\n xor %%edi, %%edi\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n"
        "xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n xor %%r11d, %%r11d\n"
        :
        :
        : "xmm0", "xmm1", "xmm7", "xmm15", "rsi", "rdi", "rcx", "rdx", "r8", "r9", "r10", "r11");
  }
  return value;
}

extern void* __libc_calloc(size_t count, size_t size);
}

namespace {

// What the next call of calloc() uses, as a patched allocator would.
const TlsIndex* used_by_allocator = nullptr;
void* found_by_allocator = nullptr;

}  // namespace

extern "C" void* calloc(size_t count, size_t size) {
  if (used_by_allocator != nullptr) {
    found_by_allocator = qpatch_tls_get_addr(used_by_allocator);
  }
  return __libc_calloc(count, size);
}

namespace {

const char kInitial[16] = "initial content";
TlsBlock the_block = {kInitial, sizeof kInitial, 5000};

struct Registers {
  std::array<uint64_t, 8> general;
  std::array<std::array<uint64_t, 4>, 4> vectors;  // ymm0, 1, 7, 15
};

// Calls a descriptor with everything in registers, and tells what is in them afterwards.
uint64_t call_descriptor(const TlsDescriptor* descriptor, Registers& r) {
  uint64_t distance = reinterpret_cast<uint64_t>(descriptor);
  asm volatile(
      "lea -128(%%rsp), %%rsp\n push %%rbx\n mov %1, %%rbx\n"  // below the red zone
      "vmovups 64(%%rbx), %%ymm0\n vmovups 96(%%rbx), %%ymm1\n"
      "vmovups 128(%%rbx), %%ymm7\n vmovups 160(%%rbx), %%ymm15\n"
      "mov 0(%%rbx), %%rdi\n mov 8(%%rbx), %%rsi\n mov 16(%%rbx), %%rdx\n mov 24(%%rbx), %%rcx\n"
      "mov 32(%%rbx), %%r8\n mov 40(%%rbx), %%r9\n mov 48(%%rbx), %%r10\n mov 56(%%rbx), %%r11\n"
      "call *(%%rax)\n"
      "mov %%rdi, 0(%%rbx)\n mov %%rsi, 8(%%rbx)\n mov %%rdx, 16(%%rbx)\n mov %%rcx, 24(%%rbx)\n"
      "mov %%r8, 32(%%rbx)\n mov %%r9, 40(%%rbx)\n mov %%r10, 48(%%rbx)\n mov %%r11, 56(%%rbx)\n"
      "vmovups %%ymm0, 64(%%rbx)\n vmovups %%ymm1, 96(%%rbx)\n"
      "vmovups %%ymm7, 128(%%rbx)\n vmovups %%ymm15, 160(%%rbx)\n"
      "pop %%rbx\n lea 128(%%rsp), %%rsp\n vzeroupper\n"
      : "+a"(distance)
      : "r"(&r)
      : "memory", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm7",
        "xmm15");
  return distance;
}

// Claim: the function of a descriptor finds the variable and keeps every register but rax, also the
// upper halves of vectors, whatever libc's functions do, on the first call of a thread and later.
TEST(Runtime, DescriptorKeepsRegisters) {
  if (!__builtin_cpu_supports("avx")) {
    GTEST_SKIP() << "no AVX";
  }
  uses_vectors = true;
  const TlsDescriptor descriptor = {qpatch_tls_descriptor, {&the_block, 8}};
  for (int round = 0; round < 2; ++round) {
    Registers before;
    uint64_t n = 1;
    for (uint64_t& value : before.general) {
      value = n++ * 0x0101010101010101;
    }
    for (auto& vector : before.vectors) {
      for (uint64_t& value : vector) {
        value = n++ * 0x0101010101010101;
      }
    }
    Registers after = before;
    uint64_t thread_pointer = 0;
    asm("mov %%fs:0, %0" : "=r"(thread_pointer));
    const uint64_t address = thread_pointer + call_descriptor(&descriptor, after);
    EXPECT_EQ(address, reinterpret_cast<uint64_t>(qpatch_tls_get_addr(&descriptor.index)));
    EXPECT_STREQ(reinterpret_cast<const char*>(address), "content");
    EXPECT_EQ(after.general, before.general) << "round " << round;
    EXPECT_EQ(after.vectors, before.vectors) << "round " << round;
  }
  uses_vectors = false;
}

// Claim: in a process that has 32 keys libc allocates for the next one; an allocator that uses a new
// variable then finds the one that its thread will have, and does not ask for ever.
TEST(RuntimeDeathTest, AllocatorThatUsesAVariable) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto body = [] {
    for (int i = 0; i < 40; ++i) {
      pthread_key_t key;
      pthread_key_create(&key, nullptr);
    }
    const TlsIndex index = {&the_block, 8};
    used_by_allocator = &index;
    void* found = qpatch_tls_get_addr(&index);
    used_by_allocator = nullptr;
    const bool same = found == found_by_allocator && found == qpatch_tls_get_addr(&index) &&
                      strcmp(static_cast<const char*>(found), "content") == 0;
    _exit(same ? 0 : 1);
  };
  EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
}

// Claim: a block has the initial content and zeros behind it, and is a thread's own.
TEST(Runtime, BlockIsTheThreads) {
  const TlsIndex start = {&the_block, 0};
  auto* own = static_cast<char*>(qpatch_tls_get_addr(&start));
  own[20] = 'x';
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* others) -> void* {
                  const TlsIndex here = {&the_block, 0};
                  auto* block = static_cast<char*>(qpatch_tls_get_addr(&here));
                  const bool right =
                      block != others && std::memcmp(block, kInitial, sizeof kInitial) == 0 &&
                      block[20] == 0 && block[4999] == 0 && block == qpatch_tls_get_addr(&here);
                  return right ? others : nullptr;
                },
                own),
            0);
  void* result = nullptr;
  ASSERT_EQ(pthread_join(thread, &result), 0);
  EXPECT_EQ(result, own);
  EXPECT_EQ(own[20], 'x');
}

}  // namespace
