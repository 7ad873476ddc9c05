// Dense inverse search (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016) as
// OpenCV's DISOpticalFlow does it without refinement: patches of 8 x 8 pixels, 4 apart, compared
// without their means, descend from the coarser level's flow. Where OpenCV lets good vectors spread
// from patch to patch in turn, here each patch tries its four neighbours' of the pass before.
//
// pictures (1 + N, height, width) of one level: the frame's and the N plates'; found (N, rows *
// columns, 2) is the flow of the patches, x and y, flow (N, height, width, 2) that of the pixels.
#include "common.cuh"

#define PATCH 8
#define STRIDE 4
#define PIXELS 64.f       // of a patch
#define SEARCHERS 64      // threads of a block: eight patches, a thread per row of each
#define DESCENTS 8        // steps per pass
#define STEP 0.25f
#define SOBEL 8.f         // how much too large its derivatives are
#define LEAST_DETERMINANT 1e-3f

// One row of a patch, and what the whole patch holds.
struct Patch {
  int left, top;  // of the patch
  int row;        // of the eight
  float levels[PATCH], across[PATCH], down[PATCH];
  float sum_across, sum_down;     // of the derivatives, over the patch
  float xx, xy, yy;               // the inverse of their products
};

// The sums over the eight threads of a patch, for each of them.
template <int N> __device__ __forceinline__ void sum_over_patch(float (&values)[N]) {
  for (int n = 0; n < N; n++)
    for (int bits = 4; bits; bits >>= 1)
      values[n] += __shfl_xor_sync(FULL_WARP, values[n], bits);
}

__device__ __forceinline__ Patch patch_of(const u8* frame, int width, int height, int columns,
                                          int number) {
  Patch p;
  p.left = number % columns * STRIDE, p.top = number / columns * STRIDE;
  p.row = threadIdx.x % PATCH;
  const u8* line = frame + (p.top + p.row) * width + p.left;
  sobel(frame, width, height, p.left, p.top + p.row, p.across, p.down);
  float sums[5] = {};
  for (int k = 0; k < PATCH; k++) {
    p.levels[k] = line[k];
    sums[0] += p.across[k];
    sums[1] += p.down[k];
    sums[2] += p.across[k] * p.across[k];
    sums[3] += p.across[k] * p.down[k];
    sums[4] += p.down[k] * p.down[k];
  }
  sum_over_patch(sums);
  float determinant = fmaxf(sums[2] * sums[4] - sums[3] * sums[3], LEAST_DETERMINANT);
  p.sum_across = sums[0], p.sum_down = sums[1];
  p.xx = sums[4] / determinant, p.xy = -sums[3] / determinant, p.yy = sums[2] / determinant;
  return p;
}

// What is left of the plate, where the flow leads, minus the patch: sums over the patch of the
// differences and their squares, and of their products with the derivatives.
template <int N>
__device__ __forceinline__ void compare(const Patch& p, const u8* plate, int width, int height,
                                        float x, float y, float (&sums)[N]) {
  float u = within(p.left + x, 1.f - PATCH, width - 1.f);
  float v = within(p.top + y, 1.f - PATCH, height - 1.f);
  int left = __float2int_rd(u), top = __float2int_rd(v);
  float along = u - left, below = v - top, before = 0.f;
  const u8* line = plate + clamped(top + p.row, height) * width;
  const u8* next = plate + clamped(top + p.row + 1, height) * width;
  for (int n = 0; n < N; n++) sums[n] = 0.f;
  for (int k = 0; k <= PATCH; k++) {
    int column = clamped(left + k, width);
    float level = line[column] + (next[column] - (float)line[column]) * below;
    if (k > 0) {
      float off = before + (level - before) * along - p.levels[k - 1];
      sums[0] += off;
      sums[1] += off * off;
      if (N == 4) {
        sums[2] += off * p.across[k - 1];
        sums[3] += off * p.down[k - 1];
      }
    }
    before = level;
  }
  sum_over_patch(sums);
}

// A flow and how badly it fits: the squared difference from the plate, but for the mean.
struct Guess {
  float x, y, cost;
};

__device__ __forceinline__ void attempt(const Patch& p, const u8* plate, int width, int height,
                                        float x, float y, Guess* best) {
  float sums[2];
  compare(p, plate, width, height, x, y, sums);
  float cost = sums[1] - sums[0] * sums[0] / PIXELS;
  if (cost < best->cost) *best = {x, y, cost};
}

// Steps of STEP times Gauss and Newton's: whole ones follow the noise, OpenCV's, an eighth, do not
// arrive unless good vectors spread in turn. Ends where a step made it worse; one that leads further
// than a patch away has gone astray.
__device__ __forceinline__ void descend(const Patch& p, const u8* plate, int width, int height,
                                        bool is_there, const Guess& start, float* out) {
  float x = start.x, y = start.y, cost = 1e30f, sums[4];
  bool is_active = is_there;
  for (int step = 0; step < DESCENTS && __ballot_sync(FULL_WARP, is_active); step++) {
    compare(p, plate, width, height, x, y, sums);
    float now = sums[1] - sums[0] * sums[0] / PIXELS;
    is_active = is_active && now < cost;
    cost = now;
    if (!is_active) continue;
    float across = sums[2] - sums[0] * p.sum_across / PIXELS;
    float down = sums[3] - sums[0] * p.sum_down / PIXELS;
    x -= (p.xx * across + p.xy * down) * (STEP * SOBEL);
    y -= (p.xy * across + p.yy * down) * (STEP * SOBEL);
  }
  float by_x = x - start.x, by_y = y - start.y;
  bool is_near = by_x * by_x + by_y * by_y <= PIXELS;
  if (is_there && p.row == 0) {
    out[0] = is_near ? x : start.x;
    out[1] = is_near ? y : start.y;
  }
}

// The flow of a level at a pixel of a larger one: bilinear, in pixels of the larger one.
__device__ __forceinline__ void grown(const float* flow, int from_width, int from_height, int x,
                                      int y, int width, int height, float* out) {
  float scale_x = (float)from_width / width, scale_y = (float)from_height / height;
  float u = within((x + 0.5f) * scale_x - 0.5f, 0.f, from_width - 1.f);
  float v = within((y + 0.5f) * scale_y - 0.5f, 0.f, from_height - 1.f);
  int left = (int)u, top = (int)v, right = min(left + 1, from_width - 1);
  const float* above = flow + 2 * top * from_width;
  const float* below = flow + 2 * min(top + 1, from_height - 1) * from_width;
  float along = u - left, down = v - top;
  for (int k = 0; k < 2; k++) {
    float a = above[2 * left + k] + (above[2 * right + k] - above[2 * left + k]) * along;
    float b = below[2 * left + k] + (below[2 * right + k] - below[2 * left + k]) * along;
    out[k] = (a + (b - a) * down) / (k ? scale_y : scale_x);
  }
}

// Blocks of SEARCHERS threads, a thread per row of a patch, on a grid (patches / 8, 1, N): the
// first pass, from the flow of the coarser level (N, coarser_height, coarser_width, 2) or from no
// motion; coarser_width 0 where there is no such level.
extern "C" __global__ void search_from_coarser(const u8* pictures, int width, int height,
                                               int columns, int rows, const float* coarser,
                                               int coarser_width, int coarser_height,
                                               float* found) {
  int number = blockIdx.x * (SEARCHERS / PATCH) + threadIdx.x / PATCH, n = blockIdx.z;
  bool is_there = number < columns * rows;
  number = min(number, columns * rows - 1);  // all stay, for the sake of the sums
  const u8* plate = pictures + (size_t)(n + 1) * width * height;
  Patch p = patch_of(pictures, width, height, columns, number);
  Guess best = {0.f, 0.f, 1e30f};
  if (coarser_width > 0) {
    float start[2];
    coarser += 2 * (size_t)n * coarser_width * coarser_height;
    grown(coarser, coarser_width, coarser_height, p.left + PATCH / 2, p.top + PATCH / 2, width,
          height, start);
    attempt(p, plate, width, height, start[0], start[1], &best);
  }
  attempt(p, plate, width, height, 0.f, 0.f, &best);
  float* out = found + 2 * ((size_t)n * columns * rows + number);
  descend(p, plate, width, height, is_there, best, out);
}

// The same blocks: the next pass, from a patch's own flow of the pass before or a neighbour's.
extern "C" __global__ void search_from_neighbours(const u8* pictures, int width, int height,
                                                  int columns, int rows, const float* before,
                                                  float* found) {
  int number = blockIdx.x * (SEARCHERS / PATCH) + threadIdx.x / PATCH, n = blockIdx.z;
  bool is_there = number < columns * rows;
  number = min(number, columns * rows - 1);
  const u8* plate = pictures + (size_t)(n + 1) * width * height;
  Patch p = patch_of(pictures, width, height, columns, number);
  before += 2 * (size_t)n * columns * rows;
  int column = number % columns, row = number / columns;
  Guess best = {0.f, 0.f, 1e30f};
  for (int k = 0; k < 5; k++) {  // itself, left, right, above, below
    int across = clamped(column + (k == 2) - (k == 1), columns);
    const float* guess = before + 2 * (clamped(row + (k == 4) - (k == 3), rows) * columns + across);
    attempt(p, plate, width, height, guess[0], guess[1], &best);
  }
  float* out = found + 2 * ((size_t)n * columns * rows + number);
  descend(p, plate, width, height, is_there, best, out);
}

// TILED, batched: the flow of a pixel is the mean of the patches' that hold it, by weights of 1
// over the difference in levels that each leaves there.
extern "C" __global__ void flow_of_patches(const u8* pictures, int width, int height, int columns,
                                           int rows, const float* found, float* flow) {
  int x = pixel_x(), y = pixel_y(), n = blockIdx.z;
  if (x >= width || y >= height) return;
  const u8* plate = pictures + (size_t)(n + 1) * width * height;
  found += 2 * (size_t)n * columns * rows;
  float level = pictures[y * width + x], total = 0.f, total_x = 0.f, total_y = 0.f;
  // Beyond the last patch, that one.
  int last_column = min(x / STRIDE, columns - 1), last_row = min(y / STRIDE, rows - 1);
  int first_column = min(max(x - STRIDE, 0) / STRIDE, last_column);
  int first_row = min(max(y - STRIDE, 0) / STRIDE, last_row);
  for (int row = first_row; row <= last_row; row++)
    for (int column = first_column; column <= last_column; column++) {
      const float* by = found + 2 * (row * columns + column);
      float u = within(x + by[0], 0.f, width - 1.f), v = within(y + by[1], 0.f, height - 1.f);
      int left = (int)u, top = (int)v, right = min(left + 1, width - 1);
      const u8 *line = plate + top * width, *next = plate + min(top + 1, height - 1) * width;
      float above = line[left] + (line[right] - (float)line[left]) * (u - left);
      float below = next[left] + (next[right] - (float)next[left]) * (u - left);
      float weight = 1.f / fmaxf(fabsf(above + (below - above) * (v - top) - level), 1.f);
      total += weight;
      total_x += weight * by[0];
      total_y += weight * by[1];
    }
  float* out = flow + 2 * (((size_t)n * height + y) * width + x);
  out[0] = total_x / total;
  out[1] = total_y / total;
}

// TILED over the larger picture, batched: the flow of a level, grown to (N, height, width, 2).
extern "C" __global__ void grow_flow(const float* flow, int from_width, int from_height, int width,
                                     int height, float* larger) {
  int x = pixel_x(), y = pixel_y(), n = blockIdx.z;
  if (x >= width || y >= height) return;
  grown(flow + 2 * (size_t)n * from_width * from_height, from_width, from_height, x, y, width,
        height, larger + 2 * (((size_t)n * height + y) * width + x));
}
