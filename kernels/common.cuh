// What the kernels share. Its text is put in the place of `#include "common.cuh"`, since CuPy's
// cache of compiled kernels does not look into included files.
//
// Images of a batch lie one after the other, rows without gaps, channels interleaved, unless a
// kernel says otherwise; `blockIdx.z` is then the image. TILED kernels run one thread per pixel
// in blocks of 32 x 8, on a grid that covers the picture.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned long long u64;

#define FULL_WARP 0xFFFFFFFFu
#define BLOCK 256           // threads of the kernels that are not tiled
#define WARPS (BLOCK / 32)

#ifdef __CUDACC__
// Half floats travel as their 16 bits: no header is needed, and tests can run them on the CPU.
__device__ __forceinline__ float float_from_half(u16 half) {
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(half));
  return v;
}
__device__ __forceinline__ u16 half_from_float(float v) {
  u16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(v));
  return half;
}
#endif

__device__ __forceinline__ int clamped(int v, int size) { return min(max(v, 0), size - 1); }

// The index mirrored at the ends, which are not repeated: OpenCV's default border.
__device__ __forceinline__ int mirrored(int i, int size) {
  if (i < 0) i = -i;
  return clamped(i < size ? i : 2 * size - 2 - i, size);
}

__device__ __forceinline__ float within(float v, float low, float high) {
  return fminf(fmaxf(v, low), high);  // NaN becomes low
}

// Rounded to the nearest level of 255, a tie to the even one.
__device__ __forceinline__ u8 to_level(float v) {
  return (u8)__float2int_rn(within(v, 0.f, 255.f));
}

__device__ __forceinline__ int pixel_x() { return (int)(blockIdx.x * blockDim.x + threadIdx.x); }
__device__ __forceinline__ int pixel_y() { return (int)(blockIdx.y * blockDim.y + threadIdx.y); }

// Where in a view (width, height) a pixel of the frame lies: four pixels, the shares of the right
// and the lower ones.
struct InView {
  int at[4];
  float along, down;
};

__device__ __forceinline__ InView in_view(int x, int y, int frame_width, int frame_height,
                                          int width, int height) {
  float u = (x + 0.5f) * ((float)width / frame_width) - 0.5f;
  float v = (y + 0.5f) * ((float)height / frame_height) - 0.5f;
  int left = __float2int_rd(u), top = __float2int_rd(v);
  int x0 = clamped(left, width), x1 = clamped(left + 1, width);
  int above = clamped(top, height) * width, below = clamped(top + 1, height) * width;
  return {{above + x0, above + x1, below + x0, below + x1}, u - left, v - top};
}

__device__ __forceinline__ float mixed(float a, float b, float c, float d, float along,
                                       float down) {
  float above = a + (b - a) * along, below = c + (d - c) * along;
  return above + (below - above) * down;
}

// Channel c of values (height, width, channels).
__device__ __forceinline__ float upsampled(const float* values, int channels, int c, InView p) {
  values += c;
  return mixed(values[p.at[0] * channels], values[p.at[1] * channels], values[p.at[2] * channels],
               values[p.at[3] * channels], p.along, p.down);
}

// Scatters the bits of a counter: a random number that needs no state.
__device__ __forceinline__ unsigned scattered(unsigned v) {
  v = (v + 1u) * 0x9E3779B9u;
  v = (v ^ v >> 15) * 0x85EBCA6Bu;
  v = (v ^ v >> 13) * 0xC2B2AE35u;
  return v ^ v >> 16;
}

// Sobel's derivatives, times 8, of the N pixels from (x, y) on, of a picture (height, width).
template <int N>
__device__ __forceinline__ void sobel(const u8* picture, int width, int height, int x, int y,
                                      float (&across)[N], float (&down)[N]) {
  const u8* above = picture + mirrored(y - 1, height) * width;
  const u8 *here = picture + y * width, *below = picture + mirrored(y + 1, height) * width;
  int sums[N + 2], steps[N + 2];
  for (int k = 0; k < N + 2; k++) {
    int column = mirrored(x - 1 + k, width);
    sums[k] = above[column] + 2 * here[column] + below[column];
    steps[k] = below[column] - above[column];
  }
  for (int k = 0; k < N; k++) {
    across[k] = (float)(sums[k + 2] - sums[k]);
    down[k] = (float)(steps[k] + 2 * steps[k + 1] + steps[k + 2]);
  }
}

// The sums of N values over a block of BLOCK threads, for every thread.
template <int N>
__device__ __forceinline__ void sum_over_block(float (&values)[N], float (*of_warps)[N]) {
  for (int n = 0; n < N; n++)
    for (int bits = 16; bits; bits >>= 1)
      values[n] += __shfl_xor_sync(FULL_WARP, values[n], bits);
  if (threadIdx.x % 32 == 0)
    for (int n = 0; n < N; n++) of_warps[threadIdx.x / 32][n] = values[n];
  __syncthreads();
  for (int n = 0; n < N; n++) {
    values[n] = 0.f;
    for (int warp = 0; warp < WARPS; warp++) values[n] += of_warps[warp][n];
  }
  __syncthreads();  // the shared memory may be used again
}

// How much the threads before this one hold, of BLOCK threads; `total` is what all hold.
__device__ __forceinline__ int sum_before(int value, int* of_warps, int* total) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = value;
  for (int by = 1; by < 32; by *= 2) {
    int lower = __shfl_up_sync(FULL_WARP, sum, by);
    if (lane >= by) sum += lower;
  }
  if (lane == 31) of_warps[warp] = sum;
  __syncthreads();
  int before = sum - value;
  *total = 0;
  for (int w = 0; w < WARPS; w++) {
    if (w < warp) before += of_warps[w];
    *total += of_warps[w];
  }
  __syncthreads();  // the shared memory may be used again
  return before;
}

// The largest key of a block of BLOCK threads, for every thread. `thread` is its number.
__device__ __forceinline__ u64 largest_in_block(u64 key, u64* of_warps, int thread) {
  for (int bits = 16; bits; bits >>= 1) key = max(key, __shfl_xor_sync(FULL_WARP, key, bits));
  if (thread % 32 == 0) of_warps[thread / 32] = key;
  __syncthreads();
  for (int warp = 0; warp < WARPS; warp++) key = max(key, of_warps[warp]);
  __syncthreads();  // the shared memory may be used again
  return key;
}

// A key that orders scores >= 0, of equal ones the lowest index first.
__device__ __forceinline__ u64 key_of(float score, int index) {
  return (u64)__float_as_uint(score) << 32 | (unsigned)~index;
}
__device__ __forceinline__ int index_of(u64 key) { return (int)~(unsigned)key; }
