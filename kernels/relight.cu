// Light that differs from place to place: what howard/align/light.py's light_field does pixel by
// pixel.
#include "common.cuh"

// A thread per pixel in blocks of BLOCK. frame_mean, plate_mean (height, width, 3): levels averaged
// over a patch, here rounded as cv2.blur does; darkness is added before a logarithm. likeness
// (height, width) in [0, 1]; covered: 1 where the plate has data; where person is not 0, trust is
// multiplied by in_person. signal (height, width, 4): the logarithm of frame / plate times the
// trust, of each channel, and the trust. sums (blocks, 4): of the largest difference in levels of
// any channel, at most `limit`, times the trust; of the trust; and, at every `step` pixels of every
// `step` rows that have data and no person, of the differences, and how many there are.
extern "C" __global__ void compare_light(const float* frame_mean, const float* plate_mean,
                                         const float* likeness, const u8* covered, const u8* person,
                                         float in_person, float darkness, float limit, int step,
                                         int width, int height, float* signal, float* sums) {
  __shared__ float of_warps[WARPS][4];
  int at = blockIdx.x * BLOCK + threadIdx.x, x = at % width, y = at / width;
  float sum[4] = {};
  if (y < height) {
    float prior = covered[at] * (person[at] ? in_person : 1.f), trust = likeness[at] * prior;
    bool is_looked_at = x % step == 0 && y % step == 0 && prior == 1.f;
    float most = 0.f;
    for (int c = 0; c < 3; c++) {
      float here = to_level(frame_mean[3 * at + c]), there = to_level(plate_mean[3 * at + c]);
      signal[4 * at + c] = (logf(here + darkness) - logf(there + darkness)) * trust;
      most = fmaxf(most, fabsf(here - there));
      if (is_looked_at) sum[2] += fabsf(here - there);
    }
    signal[4 * at + 3] = trust;
    sum[0] = trust * fminf(most, limit);
    sum[1] = trust;
    sum[3] = 3.f * is_looked_at;
  }
  sum_over_block(sum, of_warps);
  if (threadIdx.x == 0)
    for (int k = 0; k < 4; k++) sums[4 * blockIdx.x + k] = sum[k];
}

// TILED: gain (height, width, 3) from the signal, smoothed: logarithms from `low` to `high`, none
// of which is farther than `hue` from their mean.
extern "C" __global__ void gain_of_light(const float* signal, float no_evidence, float low,
                                         float high, float hue, int width, int height,
                                         float* gain) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  int at = y * width + x;
  float logs[3], mean = 0.f;
  for (int c = 0; c < 3; c++) {
    logs[c] = within(signal[4 * at + c] / (signal[4 * at + 3] + no_evidence), low, high);
    mean += logs[c] / 3.f;
  }
  for (int c = 0; c < 3; c++) gain[3 * at + c] = expf(mean + within(logs[c] - mean, -hue, hue));
}
