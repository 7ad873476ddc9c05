// Pictures made ready for direct alignment: means over windows, contrast normalised by them, and how
// well two pictures agree. Means are planes of floats, one quantity after the other.
#include "common.cuh"

// The index folded at the ends, which are not repeated, as often as it takes: OpenCV's default
// border, for windows of any size.
__device__ __forceinline__ int folded(int i, int size) {
  if ((unsigned)i < (unsigned)size) return i;
  if (size == 1) return 0;
  int period = 2 * size - 2, at = abs(i) % period;
  return at < size ? at : period - at;
}

#define RUN 8            // lines that a thread slides its window over
#define STRIP (8 * RUN)  // lines of a block

// Blocks of 32 x 8 on a grid (across / 32, count / STRIP, images * interleaved): means over windows
// of `side` lines of source (images, count, interleaved, across), written transposed: target
// (images, across, count, interleaved). Twice in a row, it is the mean over a square. The sums are
// in double, as OpenCV's: they lose nothing while the window slides.
extern "C" __global__ void mean_of_lines(const float* source, int count, int interleaved, int across,
                                         int side, float* target) {
  __shared__ float means[32][STRIP + 1];
  int image = blockIdx.z / interleaved, channel = blockIdx.z % interleaved;
  size_t start = (size_t)image * count * interleaved * across, pitch = (size_t)interleaved * across;
  int left = blockIdx.x * 32, top = blockIdx.y * STRIP, x = left + threadIdx.x;
  int first = top + threadIdx.y * RUN, before = side / 2;
  if (x < across && first < count) {
    const float* column = source + start + (size_t)channel * across + x;
    double sum = 0.0, share = 1.0 / side;
    for (int k = 0; k < side; k++) sum += column[folded(first - before + k, count) * pitch];
    for (int k = 0; k < RUN; k++) {
      int line = first - before + k;  // the window's first
      means[threadIdx.x][threadIdx.y * RUN + k] = (float)(sum * share);
      sum += (double)column[folded(line + side, count) * pitch] - column[folded(line, count) * pitch];
    }
  }
  __syncthreads();
  for (int i = threadIdx.y * 32 + threadIdx.x; i < 32 * STRIP; i += 256) {
    int column = i / STRIP, line = i % STRIP;
    if (left + column < across && top + line < count)
      target[start + ((size_t)(left + column) * count + top + line) * interleaved + channel] =
          means[column][line];
  }
}

// Blocks of BLOCK threads over the pixels: a and a * a; with five planes a, b, a * a, b * b and
// a * b. products (planes, pixels).
extern "C" __global__ void local_products(const u8* a, const u8* b, int pixels, int planes,
                                          float* products) {
  int i = pixel_x();
  if (i >= pixels) return;
  float x = a[i], y = b[i];
  products[i] = x;
  if (planes == 2) {
    products[pixels + i] = x * x;
    return;
  }
  products[pixels + i] = y;
  products[2 * pixels + i] = x * x;
  products[3 * pixels + i] = y * y;
  products[4 * pixels + i] = x * y;
}

// The same blocks: luma minus its local mean, over its local deviation plus `least`; means
// (2, pixels) of the luma and of its square. Cut off, not rounded, as NumPy converts.
extern "C" __global__ void normalise_texture(const u8* luma, const float* means, int pixels,
                                             float contrast, float least, u8* texture) {
  int i = pixel_x();
  if (i >= pixels) return;
  float mean = means[i], deviation = sqrtf(fmaxf(means[pixels + i] - mean * mean, 0.f));
  float normal = (luma[i] - mean) * (contrast / (deviation + least)) + 128.f;
  texture[i] = (u8)within(normal, 0.f, 255.f);
}

// The same blocks: correlation, brought to 0 at `low` and 1 at `high`; means (5, pixels) of x, y,
// x * x, y * y and x * y; flatness in squared levels.
extern "C" __global__ void correlate(const float* means, int pixels, float flatness, float low,
                                     float high, float* agreement) {
  int i = pixel_x();
  if (i >= pixels) return;
  float x = means[i], y = means[pixels + i];
  float spread_x = means[2 * pixels + i] - x * x + flatness;
  float spread_y = means[3 * pixels + i] - y * y + flatness;
  float correlation = (means[4 * pixels + i] - x * y) / sqrtf(fmaxf(spread_x * spread_y, 1.f));
  agreement[i] = within((correlation - low) / (high - low), 0.f, 1.f);
}

// TILED: the gradient's magnitude in levels a pixel.
extern "C" __global__ void gradient(const u8* picture, int width, int height, float* magnitude) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  float across[1], down[1];
  sobel(picture, width, height, x, y, across, down);
  magnitude[y * width + x] = sqrtf(across[0] * across[0] + down[0] * down[0]) * 0.125f;
}
