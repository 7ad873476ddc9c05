// One plate of several layers: what howard/align/fusion.py does pixel by pixel, at the size of the
// view. Regions are means of these pictures over a wide window.
#include "common.cuh"

// Mean difference of a pixel's channels, a whole level, up to `clip`.
__device__ __forceinline__ float difference(const u8* a, const u8* b, float clip) {
  float sum = 0.f;
  for (int c = 0; c < 3; c++) sum += abs((int)a[c] - b[c]);
  return fminf((float)to_level(sum / 3.f), clip);
}

// TILED. prices (height, width, layers), of which this writes one: what the layer, colour (height,
// width, 3) and covered (height, width), costs beside the person; what it does not cover costs
// `uncovered`.
extern "C" __global__ void price_layer(const u8* colour, const u8* covered, const u8* frame,
                                       const u8* person, int is_known, float clip, float uncovered,
                                       int width, int height, int layer, int layers,
                                       float* prices) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  int at = y * width + x;
  float price = is_known && person[at] ? 0.f : difference(colour + 3 * at, frame + 3 * at, clip);
  prices[at * layers + layer] = covered[at] ? price : uncovered;
}

// TILED. judged (height, width, 2): the difference where the layer has data beside the person, and
// 1 there; 0 elsewhere.
extern "C" __global__ void judge_layer(const u8* colour, const u8* covered, const u8* frame,
                                       const u8* person, float clip, int width, int height,
                                       float* judged) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  int at = y * width + x;
  bool counts = covered[at] && !person[at];
  judged[2 * at] = counts ? difference(colour + 3 * at, frame + 3 * at, clip) : 0.f;
  judged[2 * at + 1] = counts ? 1.f : 0.f;
}

#define COSTS 2048  // bins of the histogram of costs
#define COST_BIN 0.02f

// What a region costs where it can be judged: regions (2), the means of `judged`.
__device__ __forceinline__ float cost_of(const float* regions) {
  return regions[0] / (regions[1] + 1e-3f);
}

// Blocks of BLOCK, as many as there is work for: adds to histogram (COSTS) the costs of the regions
// (pixels, 2) around the pixels that are judged (pixels, 2).
extern "C" __global__ void count_costs(const float* judged, const float* regions, int pixels,
                                       int* histogram) {
  __shared__ int counts[COSTS];
  for (int i = threadIdx.x; i < COSTS; i += BLOCK) counts[i] = 0;
  __syncthreads();
  for (int at = blockIdx.x * BLOCK + threadIdx.x; at < pixels; at += gridDim.x * BLOCK)
    if (judged[2 * at + 1] > 0.f)
      atomicAdd(&counts[clamped((int)(cost_of(regions + 2 * at) / COST_BIN), COSTS)], 1);
  __syncthreads();
  for (int i = threadIdx.x; i < COSTS; i += BLOCK)
    if (counts[i]) atomicAdd(&histogram[i], counts[i]);
}

// A thread per pixel in blocks of BLOCK: poor (pixels) is 1 where a judged pixel's region costs
// more than `worth` above the median, and `least` of it can be judged.
extern "C" __global__ void find_poor(const float* judged, const float* regions,
                                     const int* histogram, float worth, float least, int pixels,
                                     u8* poor) {
  __shared__ int of_warps[WARPS];
  __shared__ float usual;
  const int* bins = histogram + threadIdx.x * (COSTS / BLOCK);
  int own = 0, total;
  for (int k = 0; k < COSTS / BLOCK; k++) own += bins[k];
  int before = sum_before(own, of_warps, &total), middle = (total - 1) / 2;
  // The thread whose bins the middle one falls into; thread 0 where nothing is judged.
  if (total ? before <= middle && middle < before + own : threadIdx.x == 0) {
    int k = 0;
    for (; k < COSTS / BLOCK - 1 && before + bins[k] <= middle; k++) before += bins[k];
    usual = (threadIdx.x * (COSTS / BLOCK) + k + 0.5f) * COST_BIN;
  }
  __syncthreads();
  int at = blockIdx.x * BLOCK + threadIdx.x;
  if (at >= pixels) return;
  const float* region = regions + 2 * at;
  poor[at] = judged[2 * at + 1] > 0.f && cost_of(region) > usual + worth && region[1] > least;
}

// TILED: owner (height, width) is the layer of the lowest cost, the first of equal ones; costs
// (height, width, layers); those after the first cost `loyalty` more, and are passed over if they
// owned fewer than `fewest` pixels before, owned_before (layers). Adds to `owned` (layers).
extern "C" __global__ void choose_layers(const float* costs, int layers, float loyalty,
                                         const int* owned_before, int fewest, int width, int height,
                                         u8* owner, int* owned) {
  int x = pixel_x(), y = pixel_y(), best = -1;
  if (x < width && y < height) {
    size_t at = (size_t)y * width + x;
    float lowest = costs[at * layers];
    best = 0;
    for (int k = 1; k < layers; k++) {
      float cost = costs[at * layers + k] + loyalty;
      if (owned_before[k] >= fewest && cost < lowest) best = k, lowest = cost;
    }
    owner[at] = (u8)best;
  }
  for (int k = 0; k < layers; k++) {
    unsigned votes = __ballot_sync(FULL_WARP, best == k);
    if (threadIdx.x == 0 && votes) atomicAdd(owned + k, __popc(votes));
  }
}

// TILED, blockIdx.z is the layer: shares (layers, height, width), how much of a row's neighbourhood
// it owns, by weights (2 radius + 1), which sum to 1.
extern "C" __global__ void soften_owners(const u8* owner, const float* weights, int radius,
                                         int width, int height, float* shares) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  const u8* row = owner + (size_t)y * width;
  float sum = 0.f;
  for (int k = -radius; k <= radius; k++)
    if (row[mirrored(x + k, width)] == blockIdx.z) sum += weights[radius + k];
  shares[((size_t)blockIdx.z * height + y) * width + x] = sum;
}

// Whether a layer has data at a pixel and all around it.
__device__ __forceinline__ bool is_within(const u8* covered, int x, int y, int width, int height) {
  bool inside = true;
  for (int k = 0; k < 9; k++) {
    int u = clamped(x - 1 + k % 3, width), v = clamped(y - 1 + k / 3, height);
    inside = inside && covered[v * width + u];
  }
  return inside;
}

// TILED: the same down the columns, and then no layer where it has no data, covered (layers,
// height, width), or not all around; the others' weights (layers, height, width) sum to 1. Adds to
// `used` (layers) the number of pixels where a layer has any.
extern "C" __global__ void weigh_layers(const float* shares, const u8* covered, int layers,
                                        const float* weights, int radius, int width, int height,
                                        float* weight, int* used) {
  int x = pixel_x(), y = pixel_y(), pixels = width * height, at = y * width + x;
  bool inside = x < width && y < height;
  float total = 0.f;
  for (int layer = 0; inside && layer < layers; layer++) {
    const float* column = shares + (size_t)layer * pixels + x;
    float sum = 0.f;
    for (int k = -radius; k <= radius; k++)
      sum += weights[radius + k] * column[mirrored(y + k, height) * width];
    if (!is_within(covered + (size_t)layer * pixels, x, y, width, height)) sum = 0.f;
    weight[(size_t)layer * pixels + at] = sum;
    total += sum;
  }
  for (int layer = 0; layer < layers; layer++) {
    float* own = weight + (size_t)layer * pixels + at;
    if (inside) *own = *own / fmaxf(total, 1e-6f);
    unsigned votes = __ballot_sync(FULL_WARP, inside && *own > 0.f);
    if (threadIdx.x == 0 && votes) atomicAdd(used + layer, __popc(votes));
  }
}
