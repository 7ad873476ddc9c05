// Oriented BRIEF: 256 comparisons of two pixels around a spot, turned with the patch (Calonder et
// al., ECCV 2010; Rublee et al., ICCV 2011). One warp per spot, in blocks of 32 x 8.
#include "common.cuh"

#define RADIUS 15         // of the disc that gives the direction
#define PATTERN_RADIUS 13  // of the disc that the comparisons stay in
#define CLOSEST 3         // pixels between the two of a comparison, at least

// A coordinate, from four digits of a random number: near normal, with a deviation of 6.3.
__device__ __forceinline__ int drawn(unsigned counter) {
  unsigned bits = scattered(counter);
  int sum = -20;
  for (int digit = 0; digit < 32; digit += 8) sum += (int)((bits >> digit & 255u) * 11u >> 8);
  return sum;
}

// One block of 256 threads: pattern (256, 4), each row x, y of one pixel and of the other.
extern "C" __global__ void brief_pattern(signed char* pattern) {
  const int most = PATTERN_RADIUS * PATTERN_RADIUS;
  unsigned counter = threadIdx.x << 16;
  int p[4];
  do {
    for (int i = 0; i < 4; i++) p[i] = drawn(counter++);
  } while (p[0] * p[0] + p[1] * p[1] > most || p[2] * p[2] + p[3] * p[3] > most ||
           (p[0] - p[2]) * (p[0] - p[2]) + (p[1] - p[3]) * (p[1] - p[3]) < CLOSEST * CLOSEST);
  for (int i = 0; i < 4; i++) pattern[4 * threadIdx.x + i] = (signed char)p[i];
}

// The pixel of a spot in a picture 1 / scale times as large as the full one.
__device__ __forceinline__ int pixel_of(float full, float scale) {
  return __float2int_rn((full + 0.5f) / scale - 0.5f);
}

// Batched: spots (N, slots, 3), of which `count` from `first` on were found in these pictures.
// directions (N, slots, 2): cosine and sine from the spot to its patch's centre of brightness.
extern "C" __global__ void orient(const u8* luma, int width, int height, float scale_x,
                                  float scale_y, const float* spots, int first, int count,
                                  int slots, float* directions) {
  int lane = threadIdx.x, number = blockIdx.x * 8 + threadIdx.y;
  size_t slot = (size_t)blockIdx.z * slots + first + number;
  const float* spot = spots + 3 * slot;
  if (number >= count || spot[2] <= 0.f) return;  // the whole warp
  int x = pixel_of(spot[0], scale_x), y = pixel_of(spot[1], scale_y), u = lane - RADIUS;
  const u8* at = luma + (size_t)blockIdx.z * width * height + y * width + x;
  int across = 0, down = 0;
  for (int v = -RADIUS; v <= RADIUS; v++)
    if (u * u + v * v <= RADIUS * (RADIUS + 1)) {
      int level = at[v * width + u];
      across += u * level;
      down += v * level;
    }
  for (int bits = 16; bits; bits >>= 1) {
    across += __shfl_xor_sync(FULL_WARP, across, bits);
    down += __shfl_xor_sync(FULL_WARP, down, bits);
  }
  float length = sqrtf((float)across * across + (float)down * down);
  if (lane == 0) {
    directions[2 * slot] = length > 0.f ? across / length : 1.f;
    directions[2 * slot + 1] = length > 0.f ? down / length : 0.f;
  }
}

// Batched like `orient`, on blurred pictures. descriptors (N, slots, 8): bit k of the 256 is set
// where the first pixel of row k of the pattern, turned, is darker than the second.
extern "C" __global__ void describe(const u8* blurred, int width, int height, float scale_x,
                                    float scale_y, const signed char* pattern, const float* spots,
                                    const float* directions, int first, int count, int slots,
                                    unsigned* descriptors) {
  int lane = threadIdx.x, number = blockIdx.x * 8 + threadIdx.y;
  size_t slot = (size_t)blockIdx.z * slots + first + number;
  const float* spot = spots + 3 * slot;
  if (number >= count || spot[2] <= 0.f) return;
  int x = pixel_of(spot[0], scale_x), y = pixel_of(spot[1], scale_y);
  const u8* at = blurred + (size_t)blockIdx.z * width * height + y * width + x;
  float cosine = directions[2 * slot], sine = directions[2 * slot + 1];
  unsigned byte = 0;
  for (int bit = 0; bit < 8; bit++) {
    int levels[2];
    for (int end = 0; end < 2; end++) {
      const signed char* p = pattern + 4 * (8 * lane + bit) + 2 * end;
      int u = __float2int_rn(cosine * p[0] - sine * p[1]);
      int v = __float2int_rn(sine * p[0] + cosine * p[1]);
      levels[end] = at[v * width + u];
    }
    byte |= (unsigned)(levels[0] < levels[1]) << bit;
  }
  ((u8*)(descriptors + 8 * slot))[lane] = (u8)byte;
}
