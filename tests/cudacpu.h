// Runs CUDA kernels on the CPU, for tests:  g++ -x c++ -include cudacpu.h kernel.cu
//
// The threads of a block are fibers of one OS thread, and blocks run one after the other. A fiber
// runs until it returns or meets a barrier or a warp collective; then the next one runs, in the
// order of their numbers or in a shuffled one. So a kernel that forgets a barrier reads what is
// not there yet: shared memory starts every block as garbage.
//
// Built with -fsanitize=thread but linked without its runtime, the compiler reports every memory
// access to the hooks below. They know which accesses to shared memory a barrier or a collective
// has ordered, and report the others as races, whatever the order in which fibers happened to run;
// and reads of what no thread of the block wrote.
//
// Stricter than a GPU: a thread may not return while others of its block wait at a barrier, and
// warp collectives take the full mask only. Not shown: races on global memory, textures,
// cooperative groups, limits of registers, how fast it is.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#ifndef __x86_64__
#error "the switch between fibers is written for x86-64"
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static __attribute__((section("cuda_shared")))

struct uint3 { unsigned x, y, z; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(8) ushort4 { unsigned short x, y, z, w; };
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
  return {x, y, z, w};
}
inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z,
                            unsigned short w) {
  return {x, y, z, w};
}

static uint3 threadIdx, blockIdx, blockDim, gridDim;
extern "C" {
extern char __start_cuda_shared[] __attribute__((weak));  // the linker names the section's ends
extern char __stop_cuda_shared[] __attribute__((weak));
void cudacpu_switch(void** save, void* to);
}

// Saves the registers that a call must keep, swaps stacks, and returns on the other one.
asm(R"(
.text
.local cudacpu_switch
.type cudacpu_switch, @function
cudacpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace cudacpu {

enum State { READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct Fiber {
  void* stack_pointer;
  char* stack;
  uint3 index;
  State state;
  const char* barrier;  // where it waits
};

struct Warp {
  unsigned arrived;            // one bit per lane that has come to the present collective
  unsigned collectives;        // how many the warp has completed
  uint64_t given[32], all[32];  // what each lane gave; a copy when all have
};

constexpr unsigned MOST_THREADS = 1024;
constexpr size_t STACK_BYTES = 128 * 1024;

static Fiber fibers[MOST_THREADS];
static Warp warps[MOST_THREADS / 32];
static unsigned order[MOST_THREADS], threads, current;
static void* scheduler;       // its stack pointer while a fiber runs
static void (*body)();        // the kernel with its arguments
static unsigned seed;         // 0: threads and blocks run in the order of their numbers
static const char* skipped;   // a barrier, as "file:line", that is left out
static char message[256];     // the first thing that went wrong in a launch; "" if nothing did
static unsigned epoch;        // counts barriers and blocks, never reset
static unsigned first_epoch;  // of this block

template <class... A> void fail(const char* format, A... values) {
  if (!*message) snprintf(message, sizeof message, format, values...);
}

inline unsigned random_below(unsigned n) {
  seed = seed * 1664525u + 1013904223u;
  return unsigned((uint64_t(seed) * n) >> 32);
}

inline void shuffle(unsigned* values, unsigned n) {
  for (unsigned i = n; seed && i > 1; i--) std::swap(values[i - 1], values[random_below(i)]);
}

inline void leave(State state) {
  fibers[current].state = state;
  cudacpu_switch(&fibers[current].stack_pointer, scheduler);
}

inline void first_step() {
  body();
  leave(DONE);
}

inline void prepare(unsigned number) {
  Fiber& f = fibers[number];
  if (!f.stack) f.stack = (char*)aligned_alloc(64, STACK_BYTES);
  void** top = (void**)(f.stack + STACK_BYTES - 72);  // 16 n + 8 at entry, as after a call
  *--top = (void*)first_step;
  for (int registers = 0; registers < 6; registers++) *--top = nullptr;
  f.stack_pointer = top;
  f.index = {number % blockDim.x, number / blockDim.x % blockDim.y,
             number / (blockDim.x * blockDim.y)};
  f.state = READY;
}

inline bool resume_all_ready() {
  bool any = false;
  shuffle(order, threads);
  for (unsigned i = 0; i < threads && !*message; i++) {
    Fiber& f = fibers[order[i]];
    if (f.state != READY) continue;
    any = true;
    current = order[i];
    threadIdx = f.index;
    cudacpu_switch(&scheduler, f.stack_pointer);
  }
  return any;
}

// Nobody can go on by themselves: opens the barrier if all have come to the same one.
inline bool open_barrier() {
  for (unsigned i = 0; i < threads && !*message; i++) {
    if (fibers[i].state == AT_COLLECTIVE)
      fail("thread %u waits in a warp collective that not all lanes reach", i);
    else if (fibers[i].state == DONE)
      fail("thread %u has returned, others wait at a barrier or a warp collective", i);
    else if (strcmp(fibers[i].barrier, fibers[0].barrier))
      fail("threads wait at different barriers: %s, %s", fibers[0].barrier, fibers[i].barrier);
  }
  for (unsigned i = 0; i < threads; i++) fibers[i].state = READY;
  epoch++;
  return !*message;
}

inline bool all_done() {
  for (unsigned i = 0; i < threads; i++)
    if (fibers[i].state != DONE) return false;
  return true;
}

inline void run_block() {
  first_epoch = ++epoch;
  if (__start_cuda_shared)
    memset(__start_cuda_shared, 0xCD, size_t(__stop_cuda_shared - __start_cuda_shared));
  memset(warps, 0, sizeof warps);
  for (unsigned i = 0; i < threads; i++) {
    order[i] = i;
    fibers[i].barrier = nullptr;
    prepare(i);
  }
  while (!*message && !all_done())
    if (!resume_all_ready() && !open_barrier()) return;
}

inline bool is_skipped(const char* place) {
  size_t excess = skipped ? strlen(place) - strlen(skipped) : 0;  // the place has folders before
  return skipped && strlen(place) >= strlen(skipped) && !strcmp(place + excess, skipped);
}

inline void barrier(const char* place) {
  if (is_skipped(place)) return;
  fibers[current].barrier = place;
  leave(AT_BARRIER);
}

// Every lane of the warp gives a value and sees everyone's.
inline const uint64_t* exchange(unsigned mask, uint64_t value) {
  Warp& warp = warps[current / 32];
  if (mask != ~0u || threads % 32) fail("a warp collective without its full warp");
  warp.given[current % 32] = value;
  warp.arrived |= 1u << current % 32;
  if (warp.arrived != ~0u) {
    leave(AT_COLLECTIVE);
  } else {
    memcpy(warp.all, warp.given, sizeof warp.all);
    warp.arrived = 0;
    warp.collectives++;
    for (unsigned lane = 0; lane < 32; lane++)
      if (lane != current % 32) fibers[current / 32 * 32 + lane].state = READY;
  }
  return warp.all;
}

template <class T> T shuffled(unsigned mask, T value, unsigned lane) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
  uint64_t raw = 0;
  memcpy(&raw, &value, sizeof value);
  const uint64_t* all = exchange(mask, raw);
  if (lane < 32) memcpy(&value, &all[lane], sizeof value);
  return value;
}

// What is known of one byte of shared memory since the latest barrier.
struct Byte {
  unsigned write_epoch, writer, write_collectives;
  bool write_atomic;
  unsigned read_epoch, reading_warps;  // one bit per warp
  unsigned read_warp, read_collectives, reading_lanes;  // of the warp that read last
};
static Byte* shadow;
enum Access { READ, WRITE, ATOMIC };

#define CUDACPU_UNSEEN __attribute__((no_sanitize("thread"), noinline)) inline

CUDACPU_UNSEEN void see(const void* address, size_t size, Access access) {
  size_t offset = size_t((const char*)address - __start_cuda_shared);
  size_t all = size_t(__stop_cuda_shared - __start_cuda_shared);
  if (offset >= all) return;
  if (!shadow) shadow = (Byte*)calloc(all, sizeof(Byte));
  unsigned warp = current / 32, lane = 1u << current % 32, now = warps[warp].collectives;
  for (Byte* b = shadow + offset; b < shadow + offset + size; b++) {
    bool same_warp = b->writer / 32 == warp;
    bool ordered = b->writer == current || (same_warp && b->write_collectives != now);
    bool after_write = b->write_epoch == epoch && !ordered && !(b->write_atomic && access == ATOMIC);
    bool by_others = b->reading_warps & ~(1u << warp);
    bool by_mates = b->read_warp == warp && b->read_collectives == now && b->reading_lanes & ~lane;
    bool after_read = access != READ && b->read_epoch == epoch && (by_others || by_mates);
    const char* wrong = access != WRITE && b->write_epoch < first_epoch ? "reads what nobody wrote"
                        : after_write ? "does not wait for the one that wrote"
                        : after_read  ? "does not wait for those that read"
                                      : nullptr;
    if (wrong) {
      fail("a race on shared memory: block (%u, %u, %u), thread %u %s", blockIdx.x, blockIdx.y,
           blockIdx.z, current, wrong);
      leave(DONE);  // before it does harm with what it got
    }
    if (access == READ) {
      if (b->read_epoch != epoch) b->reading_warps = 0;
      bool new_set = b->read_epoch != epoch || b->read_warp != warp || b->read_collectives != now;
      b->reading_lanes = new_set ? lane : b->reading_lanes | lane;
      b->reading_warps |= 1u << warp;
      b->read_epoch = epoch, b->read_warp = warp, b->read_collectives = now;
    } else {
      b->write_epoch = epoch, b->writer = current, b->write_collectives = now;
      b->write_atomic = access == ATOMIC;
    }
  }
}

// An atomic operation: fibers are never interrupted, so plain arithmetic will do.
template <class T, class F> CUDACPU_UNSEEN T atomically(T* address, F change) {
#ifdef __SANITIZE_THREAD__
  see(address, sizeof(T), ATOMIC);
#endif
  T old = *address;
  *address = change(old);
  return old;
}

template <class... A> struct Launch {
  static inline void (*kernel)(A...);
  static inline void** values;
  template <size_t... I> static void call(std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)values[I]...);
  }
  static void run() { call(std::index_sequence_for<A...>()); }
};

template <class... A>
const char* launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, void** values,
                   unsigned with_seed, const char* without_barrier) {
  Launch<A...>::kernel = kernel;
  Launch<A...>::values = values;
  body = Launch<A...>::run;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  threads = block[0] * block[1] * block[2];
  seed = with_seed;
  skipped = without_barrier;
  *message = 0;
  unsigned blocks = grid[0] * grid[1] * grid[2];
  unsigned* numbers = (unsigned*)malloc(blocks * sizeof(unsigned));
  for (unsigned i = 0; i < blocks; i++) numbers[i] = i;
  shuffle(numbers, blocks);
  for (unsigned i = 0; i < blocks && !*message; i++) {
    unsigned n = numbers[i];
    blockIdx = {n % grid[0], n / grid[0] % grid[1], n / (grid[0] * grid[1])};
    run_block();
  }
  free(numbers);
  return message;
}

}  // namespace cudacpu

// The function that a test calls; returns what went wrong, or "".
#define CUDACPU_EXPORT(name)                                                                     \
  extern "C" __attribute__((visibility("default"))) const char* launch_##name(                   \
      const unsigned* grid, const unsigned* block, void** values, unsigned seed,                 \
      const char* without_barrier) {                                                             \
    return cudacpu::launch(name, grid, block, values, seed, without_barrier);                    \
  }

#ifdef __SANITIZE_THREAD__
#define CUDACPU_HOOKS(size)                                                                      \
  CUDACPU_HOOK __tsan_read##size(void* p) { cudacpu::see(p, size, cudacpu::READ); }              \
  CUDACPU_HOOK __tsan_write##size(void* p) { cudacpu::see(p, size, cudacpu::WRITE); }
#define CUDACPU_HOOK __attribute__((no_sanitize("thread"))) void
extern "C" {
CUDACPU_HOOKS(1)
CUDACPU_HOOKS(2)
CUDACPU_HOOKS(4)
CUDACPU_HOOKS(8)
CUDACPU_HOOKS(16)
CUDACPU_HOOK __tsan_read_range(void* p, size_t size) { cudacpu::see(p, size, cudacpu::READ); }
CUDACPU_HOOK __tsan_write_range(void* p, size_t size) { cudacpu::see(p, size, cudacpu::WRITE); }
CUDACPU_HOOK __tsan_func_entry(void*) {}
CUDACPU_HOOK __tsan_func_exit() {}
CUDACPU_HOOK __tsan_init() {}
}
#endif

// CUDA's own functions, as far as the kernels use them.
#define CUDACPU_TEXT_(value) #value
#define CUDACPU_TEXT(value) CUDACPU_TEXT_(value)
#define __syncthreads() cudacpu::barrier(__FILE__ ":" CUDACPU_TEXT(__LINE__))
template <class T> T __shfl_xor_sync(unsigned mask, T v, unsigned bits) {
  return cudacpu::shuffled(mask, v, cudacpu::current % 32 ^ bits);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by) {
  return cudacpu::shuffled(mask, v, cudacpu::current % 32 - by);  // below 0: keeps its own
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
  const uint64_t* all = cudacpu::exchange(mask, vote);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; lane++) votes |= unsigned(all[lane]) << lane;
  return votes;
}
template <class T> T atomicAdd(T* p, T v) {
  return cudacpu::atomically(p, [v](T old) { return T(old + v); });
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __float2int_rn(float v) { return int(lrintf(v)); }
inline int __float2int_rd(float v) { return int(floorf(v)); }
inline unsigned __float_as_uint(float v) {
  unsigned bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

// Half floats as their 16 bits; on a GPU an instruction each (common.cuh).
inline float float_from_half(unsigned short half) {
  unsigned sign = unsigned(half & 0x8000) << 16, exponent = half >> 10 & 31, rest = half & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7F800000 | rest << 13);
  float v = exponent ? ldexpf(float(rest | 1024), int(exponent) - 25) : ldexpf(float(rest), -24);
  return sign ? -v : v;
}
inline unsigned short half_from_float(float v) {  // to the nearest, a tie to the even one
  unsigned sign = __float_as_uint(v) >> 16 & 0x8000;
  float size = fabsf(v);
  if (size != size) return 0x7FFF;
  if (size >= 65520.f) return (unsigned short)(sign | 0x7C00);
  int exponent = size < 0x1p-14f ? -14 : ilogbf(size);
  unsigned steps = unsigned(lrintf(ldexpf(size, 10 - exponent)));  // 1024 to 2048, or subnormal
  return (unsigned short)(sign | (steps + (unsigned(exponent + 14) << 10)));
}
