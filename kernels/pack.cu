// Into the network and out of it. Planes are halves, (N, C, padded_height, padded_width).
#include "common.cuh"

// TILED over the padded picture, batched. pictures (N, height, width, channels), coverage (N,
// height, width): planes of pictures * scale, 0 where coverage is 0; beyond the picture its last
// row and column are repeated.
extern "C" __global__ void pack_planes(const u8* pictures, const u8* coverage, int width,
                                       int height, int channels, float scale, int padded_width,
                                       int padded_height, u16* planes) {
  int x = pixel_x(), y = pixel_y();
  if (x >= padded_width || y >= padded_height) return;
  size_t area = (size_t)padded_width * padded_height;
  size_t from = (size_t)blockIdx.z * width * height + min(y, height - 1) * width + min(x, width - 1);
  u16* to = planes + blockIdx.z * channels * area + (size_t)y * padded_width + x;
  for (int c = 0; c < channels; c++)
    to[c * area] = half_from_float(coverage[from] ? pictures[from * channels + c] * scale : 0.f);
}

// A half of [0, 1] as a level of `most`; what lies outside is clipped, NaN counts as 0.
__device__ __forceinline__ unsigned level_of(u16 half, float most) {
  return (unsigned)__float2int_rn(within(float_from_half(half), 0.f, 1.f) * most);
}

// Alpha as a level of `most`. Near its ends it snaps to them: a sigmoid never reaches them.
__device__ __forceinline__ unsigned opacity_of(u16 half, float most) {
  unsigned level = level_of(half, 255.f);
  return level <= 1u ? 0u : level >= 254u ? (unsigned)most : level_of(half, most);
}

// Colour as a level of `most`. Where the half is that of a level of 255, which is what pack_planes
// makes of a frame, it stands for that very level: the half's rounding must not show.
__device__ __forceinline__ unsigned colour_of(u16 half, float most) {
  unsigned level = level_of(half, 255.f);
  return half == half_from_float(level * (1.f / 255.f)) ? level * (unsigned)(most / 255.f)
                                                        : level_of(half, most);
}

// Straight RGBA of one pixel; the colour is 0 where nobody sees it.
__device__ __forceinline__ void rgba_of(const u16* alpha, const u16* foreground, size_t area,
                                        size_t image, size_t at, float most, unsigned* rgba) {
  rgba[3] = opacity_of(alpha[image * area + at], most);
  for (int c = 0; c < 3; c++)
    rgba[c] = rgba[3] ? colour_of(foreground[(3 * image + c) * area + at], most) : 0u;
}

// TILED, batched. alpha (N, 1, padded ...), foreground (N, 3, padded ...): rgba (N, height, width,
// 4), straight, 8 bits.
extern "C" __global__ void unpack_rgba8(const u16* alpha, const u16* foreground, int padded_width,
                                        int padded_height, int width, int height, u8* rgba) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  unsigned v[4];
  rgba_of(alpha, foreground, (size_t)padded_width * padded_height, blockIdx.z,
          (size_t)y * padded_width + x, 255.f, v);
  reinterpret_cast<uchar4*>(rgba)[((size_t)blockIdx.z * height + y) * width + x] =
      make_uchar4((u8)v[0], (u8)v[1], (u8)v[2], (u8)v[3]);
}

// The same with 16 bits, in the machine's byte order. Alpha snaps where it does with 8.
extern "C" __global__ void unpack_rgba16(const u16* alpha, const u16* foreground, int padded_width,
                                         int padded_height, int width, int height, u16* rgba) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  unsigned v[4];
  rgba_of(alpha, foreground, (size_t)padded_width * padded_height, blockIdx.z,
          (size_t)y * padded_width + x, 65535.f, v);
  reinterpret_cast<ushort4*>(rgba)[((size_t)blockIdx.z * height + y) * width + x] =
      make_ushort4((u16)v[0], (u16)v[1], (u16)v[2], (u16)v[3]);
}

// TILED, batched. seen (N, height, width, 2), levels: the shares of a pixel that the plate shows,
// and that it shows or fills. reached (N, height, width), 1 where all of it is shown or filled;
// planes (N, 1, height, width), 1 where all is shown, `guessed` where all is shown or filled, 0
// elsewhere.
extern "C" __global__ void pack_coverage(const u8* seen, int width, int height, float guessed,
                                         u8* reached, u16* planes) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  size_t at = ((size_t)blockIdx.z * height + y) * width + x;
  bool shown = seen[2 * at] == 255, all = seen[2 * at + 1] == 255;
  reached[at] = all;
  planes[at] = half_from_float(shown ? 1.f : all ? guessed : 0.f);
}

// One block of BLOCK threads per image, on a grid (1, 1, N). doubt (N, pixels): confidence (N,),
// 1 where the mean doubt is 0, 0.5 where it is `doubtful`.
extern "C" __global__ void tell_confidence(const u16* doubt, int pixels, float doubtful,
                                           float* confidence) {
  __shared__ float of_warps[WARPS][1];
  doubt += (size_t)blockIdx.z * pixels;
  float sum[1] = {};
  for (int i = threadIdx.x; i < pixels; i += BLOCK) sum[0] += float_from_half(doubt[i]);
  sum_over_block(sum, of_warps);
  if (threadIdx.x == 0) confidence[blockIdx.z] = 1.f / (1.f + sum[0] / pixels / doubtful);
}
