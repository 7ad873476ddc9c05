// From decoded pictures to upright 8-bit RGB, and from RGB to luma.
#include "common.cuh"

// What `pose` is made of: how the decoded picture has to be turned to be upright.
#define SWAPS_AXES 1
#define MIRRORS_X 2  // after swapping
#define MIRRORS_Y 4

// Where pixel (x, y) of a picture of width x height goes, as an index into the upright one.
__device__ __forceinline__ int upright(int x, int y, int width, int height, int pose) {
  int u = pose & SWAPS_AXES ? y : x, v = pose & SWAPS_AXES ? x : y;
  int columns = pose & SWAPS_AXES ? height : width, rows = pose & SWAPS_AXES ? width : height;
  if (pose & MIRRORS_X) u = columns - 1 - u;
  if (pose & MIRRORS_Y) v = rows - 1 - v;
  return v * columns + u;
}

// matrix: 3 x 4, from (Y, Cb, Cr, 1) to RGB, all in levels of 255.
__device__ __forceinline__ void store_rgb(u8* rgb, const float* matrix, float y, float cb, float cr) {
  for (int c = 0; c < 3; c++) {
    const float* m = matrix + 4 * c;
    rgb[c] = to_level(m[0] * y + m[1] * cb + m[2] * cr + m[3]);
  }
}

// Chroma (2 channels, half the size) at a pixel of luma, bilinear. The first chroma sample lies
// at (site_x, site_y) in pixels of luma: 0.5 between two of them, 0 on the first.
template <class T>
__device__ __forceinline__ void rgb_from_planes(const T* luma, int luma_pitch, const T* chroma,
                                                int chroma_pitch, int width, int height,
                                                float site_x, float site_y, float scale,
                                                const float* matrix, int pose, u8* rgb) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  float at_x = (x - site_x) * 0.5f, at_y = (y - site_y) * 0.5f;
  int left = __float2int_rd(at_x), top = __float2int_rd(at_y);
  float along = at_x - left, down = at_y - top;
  int columns = (width + 1) / 2, rows = (height + 1) / 2;
  const T* above = chroma + clamped(top, rows) * chroma_pitch;
  const T* below = chroma + clamped(top + 1, rows) * chroma_pitch;
  int x0 = 2 * clamped(left, columns), x1 = 2 * clamped(left + 1, columns);
  float both[2];
  for (int c = 0; c < 2; c++) {
    float a = above[x0 + c] + (above[x1 + c] - (float)above[x0 + c]) * along;
    float b = below[x0 + c] + (below[x1 + c] - (float)below[x0 + c]) * along;
    both[c] = (a + (b - a) * down) * scale;
  }
  u8* out = rgb + 3 * upright(x, y, width, height, pose);
  store_rgb(out, matrix, luma[y * luma_pitch + x] * scale, both[0], both[1]);
}

// TILED over the decoded picture. luma (height, pitch), chroma (rows, pitch) with Cb and Cr
// interleaved, pitches in samples; rgb upright.
extern "C" __global__ void nv12_to_rgb(const u8* luma, int luma_pitch, const u8* chroma,
                                       int chroma_pitch, int width, int height, float site_x,
                                       float site_y, const float* matrix, int pose, u8* rgb) {
  rgb_from_planes(luma, luma_pitch, chroma, chroma_pitch, width, height, site_x, site_y, 1.f,
                  matrix, pose, rgb);
}

// The same with 10 to 16 bits, in the upper bits of each sample: levels with a fraction. (Full range
// then ends at 255.75 with 10 bits; swscale takes it so, too.)
extern "C" __global__ void p010_to_rgb(const u16* luma, int luma_pitch, const u16* chroma,
                                       int chroma_pitch, int width, int height, float site_x,
                                       float site_y, const float* matrix, int pose, u8* rgb) {
  rgb_from_planes(luma, luma_pitch, chroma, chroma_pitch, width, height, site_x, site_y,
                  1.f / 256.f, matrix, pose, rgb);
}

// TILED, batched. ycbcr (N, height, width, 3), as DALI gives it: chroma brought to full size as if
// its samples lay between two pixels. is_left: they lie on the first (x even). From samples c then
// come u(2k) = (c(k - 1) + 3 c(k)) / 4, u(2k + 1) = (3 c(k) + c(k + 1)) / 4, and these weights of
// four u give c(k), and (c(k) + c(k + 1)) / 2 beside it. rgb upright.
extern "C" __global__ void ycbcr_to_rgb(const u8* ycbcr, int width, int height, int is_left,
                                        const float* matrix, int pose, u8* rgb) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  size_t image = (size_t)blockIdx.z * width * height * 3;
  const u8* row = ycbcr + image + 3 * y * width;
  const u8 *in = row + 3 * x, *right = row + 3 * clamped(x + 1, width);
  float chroma[2];
  for (int c = 1; c < 3; c++) {
    float here = in[c], near = here + right[c];
    if (is_left && x % 2) here = 0.5f * near;
    if (is_left && x % 2 == 0) {
      const u8 *left = row + 3 * clamped(x - 1, width), *far = row + 3 * clamped(x + 2, width);
      here = 0.75f * near - 0.25f * ((float)left[c] + far[c]);
    }
    chroma[c - 1] = here;
  }
  u8* out = rgb + image + 3 * upright(x, y, width, height, pose);
  store_rgb(out, matrix, in[0], chroma[0], chroma[1]);
}

// TILED, batched. BT.601 luma in OpenCV's fixed point (15 bits): equal to its cvtColor.
extern "C" __global__ void luma_from_rgb(const u8* rgb, int width, int height, u8* luma) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  size_t at = (size_t)blockIdx.z * width * height + y * width + x;
  const u8* in = rgb + 3 * at;
  luma[at] = (u8)((9798 * in[0] + 19235 * in[1] + 3735 * in[2] + (1 << 14)) >> 15);
}
