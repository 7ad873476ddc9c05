// How well a warped plate explains a frame beside the person, judged on small pictures ("probes"),
// and how much brighter the frame is. The arithmetic of howard/align/light.py and comparison.py.
//
// frame (height, width, 3); warped (C, height, width, 3) and covered (C, height, width), one per
// candidate; person (height, width), 1 where the person may be, believed if person_count < most.
#include "common.cuh"

// A level that is neither crushed nor clipped.
__device__ __forceinline__ bool is_exposed(float level) { return level > 2.f && level < 253.f; }

#define RATIOS 91        // bins of the histogram of frame / plate
#define LOW_GAIN 0.25f
#define HIGH_GAIN 4.f
#define LOG_STEP 0.03046800794f  // log(HIGH_GAIN / LOW_GAIN) / RATIOS
#define DARK 20.f        // level below which noise and bias rule the ratio
#define FEWEST 50        // pixels that say something
#define SHRINKAGE 25.f   // squared levels of contrast that hold the gain near the ratio
#define NOISE 8.f        // level at which a pixel's weight has fallen to a quarter
#define ROUNDS 8
#define MIDDLE 128.f     // grey

// The level that half of the pixels of a histogram of levels do not exceed.
__device__ __forceinline__ float median_of(const int* histogram, int count) {
  int below = 0, level = 0;
  while (below + histogram[level] <= (count - 1) / 2) below += histogram[level++];
  return level;
}

// Where most of frame / plate lies; the ratio of the medians where it is too dark to tell.
__device__ __forceinline__ float commonest_ratio(const int* ratios, const int* frame_levels,
                                                 const int* plate_levels, int count, int bright) {
  if (bright < FEWEST)
    return within(median_of(frame_levels, count) / fmaxf(median_of(plate_levels, count), 1.f),
                  LOW_GAIN, HIGH_GAIN);
  int best = 0, most = -1;
  for (int i = 0; i < RATIOS; i++) {
    int sum = 2 * ratios[i] + (i ? ratios[i - 1] : 0) + (i < RATIOS - 1 ? ratios[i + 1] : 0);
    if (sum > most) most = sum, best = i;
  }
  return LOW_GAIN * expf((best + 0.5f) * LOG_STEP);
}

// One block of BLOCK threads per channel and candidate, on a grid (3, 1, C): light (C, 3, 2), the
// gain and bias in frame = gain * plate + bias, by least squares reweighted after Geman and
// McClure, over one of `step` pixels; (1, 0) where nothing can be said.
extern "C" __global__ void fit_light(const u8* frame, const float* warped, const u8* covered,
                                     const u8* person, const int* person_count, int most,
                                     int width, int height, int step, float* light) {
  __shared__ int ratios[RATIOS], frame_levels[256], plate_levels[256];
  __shared__ float counts[WARPS][2], sums[WARPS][5];
  __shared__ float prior;
  int channel = blockIdx.x, pixels = width * height;
  bool anywhere = *person_count >= most;
  warped += (size_t)blockIdx.z * pixels * 3;
  covered += (size_t)blockIdx.z * pixels;
  light += 6 * blockIdx.z + 2 * channel;
  if (threadIdx.x < RATIOS) ratios[threadIdx.x] = 0;
  frame_levels[threadIdx.x] = plate_levels[threadIdx.x] = 0;
  __syncthreads();
  float count[2] = {};  // of all pixels that serve, and of the bright ones
  for (int i = threadIdx.x * step; i < pixels; i += BLOCK * step) {
    float x = warped[3 * i + channel], y = frame[3 * i + channel];
    if (!covered[i] || (!anywhere && person[i]) || !is_exposed(x) || !is_exposed(y)) continue;
    count[0] += 1.f;
    atomicAdd(&frame_levels[to_level(y)], 1);
    atomicAdd(&plate_levels[to_level(x)], 1);
    if (x <= DARK) continue;
    count[1] += 1.f;
    int bin = __float2int_rd(logf(y / x / LOW_GAIN) / LOG_STEP);
    if (bin >= 0 && bin < RATIOS) atomicAdd(&ratios[bin], 1);
  }
  sum_over_block(count, counts);
  if (count[0] < FEWEST) {
    if (threadIdx.x < 2) light[threadIdx.x] = threadIdx.x ? 0.f : 1.f;
    return;
  }
  if (threadIdx.x == 0)
    prior = commonest_ratio(ratios, frame_levels, plate_levels, (int)count[0], (int)count[1]);
  __syncthreads();
  // All from middle grey, for what floats can hold.
  float gain = prior, offset = MIDDLE * (prior - 1.f), scale = 4.f * NOISE;
  for (int round = 0; round < ROUNDS; round++) {
    float sum[5] = {};  // of weights w, and of w x, w y, w x x, w x y
    for (int i = threadIdx.x * step; i < pixels; i += BLOCK * step) {
      float x = warped[3 * i + channel], y = frame[3 * i + channel];
      if (!covered[i] || (!anywhere && person[i]) || !is_exposed(x) || !is_exposed(y)) continue;
      x -= MIDDLE;
      y -= MIDDLE;
      float share = (y - gain * x - offset) / scale, root = 1.f / (1.f + share * share);
      float w = root * root;
      sum[0] += w;
      sum[1] += w * x;
      sum[2] += w * y;
      sum[3] += w * x * x;
      sum[4] += w * x * y;
    }
    sum_over_block(sum, sums);
    float mean_x = sum[1] / sum[0], mean_y = sum[2] / sum[0];
    float variance = sum[3] / sum[0] - mean_x * mean_x;
    float covariance = sum[4] / sum[0] - mean_x * mean_y;
    gain = within((covariance + SHRINKAGE * prior) / (variance + SHRINKAGE), LOW_GAIN, HIGH_GAIN);
    offset = mean_y - gain * mean_x;
    scale = fmaxf(NOISE, scale / 2.f);
  }
  if (threadIdx.x == 0) light[0] = gain, light[1] = offset + MIDDLE * (1.f - gain);
}

#define CLIP 40.f       // a pixel's difference costs no more
#define UNCOVERED 60.f  // what a pixel without a plate costs
#define CERTAIN 0.6f    // share taken for the place while nobody has said where the person is
#define BINS 1024       // a quarter of a level each
#define BIN 0.25f

// One block of BLOCK threads per candidate, on a grid (1, 1, C): verdicts (C, 2), in levels. Cost:
// the mean of clipped differences beside the person, uncovered pixels priced. Residual: the mean
// difference where covered, of its better part while no person is known; 255 if nothing is.
extern "C" __global__ void judge_plates(const u8* frame, const float* warped, const u8* covered,
                                        const u8* person, const int* person_count, int most,
                                        const float* light, int width, int height,
                                        float* verdicts) {
  __shared__ int histogram[BINS], of_warps[WARPS];
  __shared__ float sums[WARPS][4];
  int pixels = width * height;
  bool anywhere = *person_count >= most;
  warped += (size_t)blockIdx.z * pixels * 3;
  covered += (size_t)blockIdx.z * pixels;
  light += 6 * blockIdx.z;
  for (int i = threadIdx.x; i < BINS; i += BLOCK) histogram[i] = 0;
  __syncthreads();
  float sum[4] = {};  // of prices and pixels beside the person, of differences and pixels seen
  for (int i = threadIdx.x; i < pixels; i += BLOCK) {
    if (!anywhere && person[i]) continue;
    float difference = 0.f;
    for (int c = 0; c < 3; c++)
      difference += fabsf(warped[3 * i + c] * light[2 * c] + light[2 * c + 1] - frame[3 * i + c]);
    difference /= 3.f;
    sum[0] += covered[i] ? fminf(difference, CLIP) : UNCOVERED;
    sum[1] += 1.f;
    if (!covered[i]) continue;
    sum[2] += difference;
    sum[3] += 1.f;
    atomicAdd(&histogram[min((int)(difference / BIN), BINS - 1)], 1);
  }
  sum_over_block(sum, sums);
  // The better part: as many of the smallest differences as there are, counted by bins.
  int wanted = max(1, (int)(sum[3] * CERTAIN)), own = 0, total;
  const int* bins = histogram + threadIdx.x * (BINS / BLOCK);
  for (int k = 0; k < BINS / BLOCK; k++) own += bins[k];
  int before = sum_before(own, of_warps, &total);
  float part[1] = {};
  for (int k = 0; k < BINS / BLOCK; k++) {
    int taken = min(bins[k], max(wanted - before, 0));
    part[0] += taken * (threadIdx.x * (BINS / BLOCK) + k + 0.5f) * BIN;
    before += bins[k];
  }
  sum_over_block(part, reinterpret_cast<float(*)[1]>(sums));
  if (threadIdx.x != 0) return;
  float residual = anywhere ? part[0] / wanted : sum[2] / sum[3];
  verdicts[2 * blockIdx.z] = sum[1] > 0.f ? sum[0] / sum[1] : 0.f;
  verdicts[2 * blockIdx.z + 1] = sum[3] > 0.f ? residual : 255.f;
}

// The mean of a matte's alpha, halves (alpha_height, alpha_width), over an area.
__device__ __forceinline__ float mean_alpha(const u16* alpha, int alpha_width, int alpha_height,
                                            float left, float right, float top, float bottom) {
  float sum = 0.f;
  for (int y = __float2int_rd(top); y < bottom; y++) {
    const u16* line = alpha + (size_t)clamped(y, alpha_height) * alpha_width;
    float along = 0.f;
    for (int x = __float2int_rd(left); x < right; x++)
      along += float_from_half(line[clamped(x, alpha_width)]) * (fminf(x + 1, right) - fmaxf(x, left));
    sum += along * (fminf(y + 1, bottom) - fmaxf(y, top));
  }
  return sum / ((right - left) * (bottom - top));
}

// The highest of (rows, columns) within `gap` pixels, across and down.
__device__ __forceinline__ float highest_near(const float* values, int columns, int rows, int gap,
                                              int x, int y) {
  float highest = 0.f;
  for (int v = max(y - gap, 0); v <= min(y + gap, rows - 1); v++)
    for (int u = max(x - gap, 0); u <= min(x + gap, columns - 1); u++)
      highest = fmaxf(highest, values[v * columns + u]);
  return highest;
}

// TILED over a network's doubt, halves (rows, columns): seen, halves, the mean of the alpha of a
// matte, halves (alpha_height, alpha_width), or what is remembered, if that is more; and after, what
// to remember: alpha where doubt is at most `sure`, none of it from twice that on, and the part `kept`
// of the highest of before within `reach`, at most `doubts` times the doubt.
extern "C" __global__ void recall_person(const u16* alpha, int alpha_width, int alpha_height,
                                         const u16* doubt, const float* before, int columns,
                                         int rows, float sure, float doubts, float kept, int reach,
                                         u16* seen, float* after) {
  int x = pixel_x(), y = pixel_y();
  if (x >= columns || y >= rows) return;
  float step_x = (float)alpha_width / columns, step_y = (float)alpha_height / rows;
  float now = mean_alpha(alpha, alpha_width, alpha_height, x * step_x, (x + 1) * step_x, y * step_y,
                         (y + 1) * step_y);
  float unsure = float_from_half(doubt[y * columns + x]);
  float old = fminf(kept * highest_near(before, columns, rows, reach, x, y), doubts * unsure);
  float memory = fmaxf(now * within(2.f - unsure / sure, 0.f, 1.f), old);
  after[y * columns + x] = memory;
  seen[y * columns + x] = half_from_float(fmaxf(now, memory));
}

// TILED over the small picture: found (height, width), 1 where the mean of the alpha of a matte,
// halves (alpha_height, alpha_width), exceeds `least`. What frame and plate share is no person:
// where shared (rows, columns) is 1 within `gap` pixels, alpha counts as 0. Empties person_count
// for widen_person.
extern "C" __global__ void find_person(const u16* alpha, int alpha_width, int alpha_height,
                                       const float* shared, int columns, int rows, int gap,
                                       float least, int width, int height, u8* found,
                                       int* person_count) {
  int x = pixel_x(), y = pixel_y();
  if (x == 0 && y == 0) *person_count = 0;
  if (x >= width || y >= height) return;
  float scale_x = (float)columns / width, left = x * scale_x, right = left + scale_x;
  float scale_y = (float)rows / height, top = y * scale_y, bottom = top + scale_y;
  float step_x = (float)alpha_width / columns, step_y = (float)alpha_height / rows, sum = 0.f;
  for (int v = __float2int_rd(top); v < bottom && v < rows; v++)
    for (int u = __float2int_rd(left); u < right && u < columns; u++) {
      float area = (fminf(u + 1, right) - fmaxf(u, left)) * (fminf(v + 1, bottom) - fmaxf(v, top));
      float own = 1.f - highest_near(shared, columns, rows, gap, u, v);
      if (own > 0.f)
        sum += area * own * mean_alpha(alpha, alpha_width, alpha_height, u * step_x,
                                       (u + 1) * step_x, v * step_y, (v + 1) * step_y);
    }
  found[y * width + x] = sum > least * (scale_x * scale_y);
}

// Whether all within a pixel of (x, y) was found; what is outside of the picture counts as found.
__device__ __forceinline__ bool is_inner(const u8* found, int width, int height, int x, int y) {
  for (int v = max(y - 1, 0); v <= min(y + 1, height - 1); v++)
    for (int u = max(x - 1, 0); u <= min(x + 1, width - 1); u++)
      if (!found[v * width + u]) return false;
  return true;
}

// TILED: opened (height, width), found without what no square of 3 x 3 pixels fits into.
extern "C" __global__ void drop_specks(const u8* found, int width, int height, u8* opened) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  bool is_kept = false;
  for (int v = max(y - 1, 0); v <= min(y + 1, height - 1); v++)
    for (int u = max(x - 1, 0); u <= min(x + 1, width - 1); u++)
      is_kept = is_kept || is_inner(found, width, height, u, v);
  opened[y * width + x] = is_kept;
}

// TILED: person (height, width), 1 within `radius` pixels of what was found. Adds their number to
// person_count.
extern "C" __global__ void widen_person(const u8* found, int width, int height, int radius,
                                        u8* person, int* person_count) {
  int x = pixel_x(), y = pixel_y();
  bool inside = x < width && y < height, is_near = false;
  for (int v = max(y - radius, 0); inside && !is_near && v <= min(y + radius, height - 1); v++) {
    int reach = __float2int_rn(sqrtf((float)(radius * radius - (v - y) * (v - y))));
    for (int u = max(x - reach, 0); u <= min(x + reach, width - 1); u++)
      is_near = is_near || found[v * width + u];
  }
  if (inside) person[y * width + x] = is_near;
  unsigned votes = __ballot_sync(FULL_WARP, is_near);
  if (threadIdx.x == 0 && votes) atomicAdd(person_count, __popc(votes));
}

// TILED over the target (height, width): the person (rows, columns) at another size, the nearest
// pixel; 0 unless it is believed.
extern "C" __global__ void resize_person(const u8* person, const int* person_count, int most,
                                         int columns, int rows, int width, int height,
                                         u8* target) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  bool is_person = person[y * rows / height * columns + x * columns / width];
  target[y * width + x] = is_person && *person_count < most;
}
