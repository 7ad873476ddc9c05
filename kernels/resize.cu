// Other sizes of a picture, and its blur.
#include "common.cuh"

// TILED over the target, batched. Area average. The source counts as padded to padded_width x
// padded_height by repeating its last row and column.
extern "C" __global__ void resize_area(const u8* source, int width, int height, int padded_width,
                                       int padded_height, int channels, u8* target,
                                       int target_width, int target_height) {
  int x = pixel_x(), y = pixel_y();
  if (x >= target_width || y >= target_height) return;
  source += (size_t)blockIdx.z * width * height * channels;
  target += ((size_t)blockIdx.z * target_height + y) * target_width * channels + x * channels;
  float scale_x = (float)padded_width / target_width, left = x * scale_x, right = left + scale_x;
  float scale_y = (float)padded_height / target_height, top = y * scale_y, bottom = top + scale_y;
  for (int c = 0; c < channels; c++) {
    float sum = 0.f;
    for (int v = __float2int_rd(top); v < bottom; v++) {
      const u8* line = source + (size_t)clamped(v, height) * width * channels + c;
      float along = 0.f;
      for (int u = __float2int_rd(left); u < right; u++)
        along += line[clamped(u, width) * channels] * (fminf(u + 1, right) - fmaxf(u, left));
      sum += along * (fminf(v + 1, bottom) - fmaxf(v, top));
    }
    target[c] = to_level(sum / (scale_x * scale_y));
  }
}

// TILED over the target, batched. Bilinear, for a side that grows; padded as above.
extern "C" __global__ void resize_linear(const u8* source, int width, int height, int padded_width,
                                         int padded_height, int channels, u8* target,
                                         int target_width, int target_height) {
  int x = pixel_x(), y = pixel_y();
  if (x >= target_width || y >= target_height) return;
  source += (size_t)blockIdx.z * width * height * channels;
  target += ((size_t)blockIdx.z * target_height + y) * target_width * channels + x * channels;
  float at_x = (x + 0.5f) * ((float)padded_width / target_width) - 0.5f;
  float at_y = (y + 0.5f) * ((float)padded_height / target_height) - 0.5f;
  int left = __float2int_rd(at_x), top = __float2int_rd(at_y);
  float along = at_x - left, down = at_y - top;
  int x0 = clamped(left, width) * channels, x1 = clamped(left + 1, width) * channels;
  const u8* above = source + (size_t)clamped(top, height) * width * channels;
  const u8* below = source + (size_t)clamped(top + 1, height) * width * channels;
  for (int c = 0; c < channels; c++) {
    float a = above[x0 + c] + (above[x1 + c] - (float)above[x0 + c]) * along;
    float b = below[x0 + c] + (below[x1 + c] - (float)below[x0 + c]) * along;
    target[c] = to_level(a + (b - a) * down);
  }
}

#define MOST_RADIUS 3

// TILED; blockIdx.z is image * channels + channel. weights (2 radius + 1) sum to 1.
extern "C" __global__ void blur(const u8* source, int width, int height, int channels,
                                const float* weights, int radius, u8* target) {
  __shared__ float levels[8 + 2 * MOST_RADIUS][32 + 2 * MOST_RADIUS];
  __shared__ float lines[8 + 2 * MOST_RADIUS][32];
  int image = blockIdx.z / channels, channel = blockIdx.z % channels;
  size_t start = (size_t)image * width * height * channels + channel;
  int left = blockIdx.x * 32 - radius, top = blockIdx.y * 8 - radius;
  int columns = 32 + 2 * radius, rows = 8 + 2 * radius;
  for (int i = threadIdx.y * 32 + threadIdx.x; i < columns * rows; i += 256) {
    int x = mirrored(left + i % columns, width), y = mirrored(top + i / columns, height);
    levels[i / columns][i % columns] = source[start + (size_t)(y * width + x) * channels];
  }
  __syncthreads();
  for (int row = threadIdx.y; row < rows; row += 8) {
    float sum = 0.f;
    for (int k = 0; k <= 2 * radius; k++) sum += weights[k] * levels[row][threadIdx.x + k];
    lines[row][threadIdx.x] = sum;
  }
  __syncthreads();
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  float sum = 0.f;
  for (int k = 0; k <= 2 * radius; k++) sum += weights[k] * lines[threadIdx.y + k][threadIdx.x];
  target[start + (size_t)(y * width + x) * channels] = to_level(sum);
}
