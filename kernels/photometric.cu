// The last step to an exact homography, `align/photometric.py`, for N plates of one frame at once:
// details are pictures (h, w) of floats, levels without slow shading.
#include "common.cuh"

#define SQUARE 8  // pixels of a side; of each cell one point is looked at

// A thread per cell: the index of the pixel whose gradient is the steepest of the cell, the first
// of equal ones, or -1 where it is not steeper than `least` (levels a pixel) or the person is
// there; and its slopes across and down, as Sobel's filter has them: (cells, 2).
extern "C" __global__ void steepest_points(const float* detail, int width, int height,
                                           const u8* person, int is_known, float least,
                                           int* points, float* slopes) {
  int columns = width / SQUARE, rows = height / SQUARE, cell = pixel_x();
  if (cell >= columns * rows) return;
  float most = -1.f, across = 0.f, down = 0.f;
  int steepest = 0;
  for (int k = 0; k < SQUARE * SQUARE; k++) {
    int x = cell % columns * SQUARE + k % SQUARE, y = cell / columns * SQUARE + k / SQUARE;
    const float* here = detail + (size_t)y * width;
    const float* above = detail + (size_t)mirrored(y - 1, height) * width;
    const float* below = detail + (size_t)mirrored(y + 1, height) * width;
    int left = mirrored(x - 1, width), right = mirrored(x + 1, width);
    float a = (above[right] - above[left]) + 2.f * (here[right] - here[left]) +
              (below[right] - below[left]);
    float d = (below[left] - above[left]) + 2.f * (below[x] - above[x]) +
              (below[right] - above[right]);
    a *= 0.125f, d *= 0.125f;
    float squared = a * a + d * d;
    if (squared > most) most = squared, across = a, down = d, steepest = y * width + x;
  }
  bool is_good = most > least * least && !(is_known && person[steepest]);
  points[cell] = is_good ? steepest : -1;
  slopes[2 * cell] = across;
  slopes[2 * cell + 1] = down;
}

#define NOWHERE 0xFFFFFFFFu  // the key of what is not to be ranked, above all others

// Keys are ordered as their numbers are.
__device__ __forceinline__ unsigned ranking_of(float v) {
  unsigned bits = __float_as_uint(v);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float number_of(unsigned key) {
  return __uint_as_float(key >> 31 ? key & 0x7FFFFFFFu : ~key);
}

// The median of the `count` > 0 numbers that are ranked, by a block: two bits of it at a time.
__device__ __forceinline__ float median_of(const unsigned* keys, int cells, int count,
                                           float (*sums)[3], u64* of_warps) {
  unsigned lower = 0;
  for (int shift = 30; shift >= 0; shift -= 2) {
    float below[3] = {};
    for (int i = threadIdx.x; i < cells; i += BLOCK)
      for (unsigned k = 0; k < 3; k++) below[k] += keys[i] < lower + ((k + 1u) << shift);
    sum_over_block(below, sums);
    unsigned digit = 0;
    for (int k = 0; k < 3; k++) digit += below[k] <= (count - 1) / 2;
    lower += digit << shift;
  }
  if (count % 2) return number_of(lower);
  float upto[3] = {};
  u64 above = 0;  // the next number, upside down, for the largest is found
  for (int i = threadIdx.x; i < cells; i += BLOCK) {
    upto[0] += keys[i] <= lower;
    if (keys[i] > lower) above = max(above, (u64)(NOWHERE - keys[i]));
  }
  sum_over_block(upto, sums);
  above = largest_in_block(above, of_warps, threadIdx.x);
  unsigned upper = upto[0] > count / 2 ? lower : NOWHERE - (unsigned)above;
  return 0.5f * (number_of(lower) + number_of(upper));
}

#define NORMAL 36            // entries of a symmetric 8 x 8 matrix, upper triangle
#define TERMS (NORMAL + 10)  // these, the right side, the number of points, and their cost

struct Descent {
  double h[9], inverse[9], first_cost, limit;
  int goes_on;
};

__device__ __forceinline__ void invert(const double* m, double* out) {
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) {
      int a = (j + 1) % 3, b = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
      out[3 * i + j] = m[3 * a + c] * m[3 * b + d] - m[3 * a + d] * m[3 * b + c];
    }
  double det = m[0] * out[0] + m[1] * out[3] + m[2] * out[6];
  for (int k = 0; k < 9; k++) out[k] /= det;
}

#define FAR 1e30

// How far apart two homographies bring the corners of the plate, at most, in pixels.
__device__ __forceinline__ double corners_apart(const double* a, const double* b, int width,
                                                int height) {
  double most = 0.0;
  for (int k = 0; k < 4; k++) {
    double x = k % 2 ? width - 1 : 0, y = k / 2 ? height - 1 : 0;
    double w = a[6] * x + a[7] * y + a[8], v = b[6] * x + b[7] * y + b[8];
    double dx = (a[0] * x + a[1] * y + a[2]) / w - (b[0] * x + b[1] * y + b[2]) / v;
    double dy = (a[3] * x + a[4] * y + a[5]) / w - (b[3] * x + b[4] * y + b[5]) / v;
    double off = sqrt(dx * dx + dy * dy);
    most = off <= most ? most : off < FAR ? off : FAR;  // FAR also for what is not a number
  }
  return most;
}

// One step of Gauss-Newton by the sums: h becomes back (step + 1) unit h, its last entry 1.
// All by one thread; m: (8, 9) of shared memory.
__device__ __forceinline__ void descend(const double* sums, int width, int height,
                                        double (*m)[9], double* h) {
  for (int i = 0, k = 0; i < 8; i++) {
    for (int j = i; j < 8; j++, k++) m[i][j] = m[j][i] = sums[k] + (i == j ? 1e-6 : 0.0);
    m[i][8] = sums[NORMAL + i];
  }
  for (int k = 0; k < 8; k++)  // needs no pivoting, for the matrix is positive definite
    for (int i = 0; i < 8; i++) {
      double factor = m[i][k] / m[k][k];
      for (int j = k; j < 9 && i != k; j++) m[i][j] -= factor * m[k][j];
    }
  double scale = 2.0 / max(width, height), drop = scale * height / 2.0, unit[9], moved[9];
  for (int k = 0; k < 3; k++) {
    unit[k] = scale * h[k] - h[6 + k];
    unit[3 + k] = scale * h[3 + k] - drop * h[6 + k];
    unit[6 + k] = h[6 + k];
  }
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) {
      moved[3 * i + j] = unit[3 * i + j];
      for (int k = 0; k < 3 && 3 * i + k < 8; k++)
        moved[3 * i + j] += m[3 * i + k][8] / m[3 * i + k][3 * i + k] * unit[3 * k + j];
    }
  for (int k = 0; k < 3; k++) {
    h[k] = (moved[k] + moved[6 + k]) / scale;
    h[3 + k] = (moved[3 + k] + drop * moved[6 + k]) / scale;
    h[6 + k] = moved[6 + k];
  }
  double last = h[8];
  for (int k = 0; k < 9; k++) h[k] /= last;
}

// One block of BLOCK threads per plate, on a grid (1, 1, N): from starts (N, 9), homographies
// frame_from_plate, to where the points differ least, `rounds` steps at most, until none moves a
// corner by `still` pixels; found (N, 9), all 0 where nothing was: with fewer than `fewest` points in
// the plate, a cost above `worth` times the first, or a corner `furthest` pixels away. Weights have begun to fall
// at `spreads` medians of the differences, at `least_spread` levels or more; in the cost `clipped`
// of those count. seen, keys (N, cells): to work in.
extern "C" __global__ void descend_details(const float* frame, int width, int height,
                                           const float* plates, int plate_width, int plate_height,
                                           const int* points, const float* slopes,
                                           const double* starts, int rounds, int fewest,
                                           float still, float furthest, float worth,
                                           float least_spread, float spreads, float clipped,
                                           float least_gain, float most_gain, float* seen,
                                           unsigned* keys, double* found) {
  __shared__ float sums[WARPS][3];
  __shared__ u64 of_warps[WARPS];
  __shared__ double partial[WARPS][TERMS], totals[TERMS], system[8][9];
  __shared__ Descent at;
  int cells = (width / SQUARE) * (height / SQUARE), thread = threadIdx.x;
  const float* plate = plates + (size_t)blockIdx.z * plate_width * plate_height;
  const double* start = starts + 9 * blockIdx.z;
  seen += (size_t)blockIdx.z * cells;
  keys += (size_t)blockIdx.z * cells;
  double scale = 2.0 / max(width, height), drop = scale * height / 2.0;
  if (thread < 9) at.h[thread] = start[thread];
  if (thread == 0) at.goes_on = 1;
  __syncthreads();
  for (int round = 0; at.goes_on; round++) {
    if (thread == 0) invert(at.h, at.inverse);
    __syncthreads();
    float inside[3] = {};
    for (int i = thread; i < cells; i += BLOCK) {
      int x = points[i] % width, y = points[i] / width;
      const double* m = at.inverse;
      double w = m[6] * x + m[7] * y + m[8];
      float u = (float)((m[0] * x + m[1] * y + m[2]) / w);
      float v = (float)((m[3] * x + m[4] * y + m[5]) / w);
      keys[i] = NOWHERE;
      if (points[i] < 0 || !(u > 1.f && v > 1.f && u < plate_width - 2 && v < plate_height - 2))
        continue;
      int left = (int)u, top = (int)v;
      const float* p = plate + (size_t)top * plate_width + left;
      float across = u - left, along = v - top;
      float above = p[0] * (1.f - across) + p[1] * across;
      float below = p[plate_width] * (1.f - across) + p[plate_width + 1] * across;
      seen[i] = above * (1.f - along) + below * along;
      keys[i] = ranking_of(fabsf(seen[i]));
      inside[0] += 1.f;
    }
    sum_over_block(inside, sums);
    int count = (int)inside[0];
    if (count < fewest) {
      if (thread < 9) found[9 * blockIdx.z + thread] = 0.0;
      return;  // the whole block
    }
    float usual = median_of(keys, cells, count, sums, of_warps), clear[3] = {};
    for (int i = thread; i < cells; i += BLOCK) {
      if (keys[i] == NOWHERE) continue;
      bool is_clear = fabsf(seen[i]) > usual;
      // What is inside but not clear has a key as well: the next one, which no number has.
      keys[i] = is_clear ? ranking_of(frame[points[i]] / seen[i]) : NOWHERE - 1u;
      clear[0] += is_clear;
    }
    sum_over_block(clear, sums);
    float gain = 1.f;
    if (clear[0] > 0.f)
      gain = within(median_of(keys, cells, (int)clear[0], sums, of_warps), least_gain, most_gain);
    for (int i = thread; i < cells; i += BLOCK)
      if (keys[i] != NOWHERE) keys[i] = ranking_of(fabsf(gain * seen[i] - frame[points[i]]));
    float middle = median_of(keys, cells, count, sums, of_warps);
    float spread = fmaxf(least_spread, spreads * middle);
    double limit = (double)clipped * spread, terms[TERMS] = {};
    if (round) limit = fmin(limit, at.limit);
    for (int i = thread; i < cells; i += BLOCK) {
      if (keys[i] == NOWHERE) continue;
      int x = points[i] % width, y = points[i] / width;
      double u = x * scale - 1.0, v = y * scale - drop;
      double gu = slopes[2 * i] / scale, gv = slopes[2 * i + 1] / scale, slide = -(gu * u + gv * v);
      double row[8] = {gu * u, gu * v, gu, gv * u, gv * v, gv, slide * u, slide * v};
      double error = (double)(gain * seen[i] - frame[points[i]]), share = error / (2.0 * spread);
      double weight = 1.0 / ((1.0 + share * share) * (1.0 + share * share));
      for (int a = 0, k = 0; a < 8; a++) {
        for (int b = a; b < 8; b++, k++) terms[k] += weight * row[a] * row[b];
        terms[NORMAL + a] += weight * row[a] * error;
      }
      terms[NORMAL + 8] += 1.0;
      terms[NORMAL + 9] += fmin(fabs(error), limit);
    }
    for (int n = 0; n < TERMS; n++)
      for (int bits = 16; bits; bits >>= 1) terms[n] += __shfl_xor_sync(FULL_WARP, terms[n], bits);
    if (thread % 32 == 0)
      for (int n = 0; n < TERMS; n++) partial[thread / 32][n] = terms[n];
    __syncthreads();
    if (thread < TERMS) {
      totals[thread] = 0.0;
      for (int warp = 0; warp < WARPS; warp++) totals[thread] += partial[warp][thread];
    }
    __syncthreads();
    if (thread == 0) {
      double cost = totals[NORMAL + 9] / totals[NORMAL + 8], before[9];
      if (!round) at.first_cost = cost, at.limit = limit;
      // The step before moved less than counts, or was the last: this was to see what it costs.
      bool ends = at.goes_on == 2 || round == rounds;
      if (!ends) {
        for (int k = 0; k < 9; k++) before[k] = at.h[k];
        descend(totals, width, height, system, at.h);
        double moved = corners_apart(at.h, before, plate_width, plate_height);
        at.goes_on = moved < still ? 2 : 1;
      } else {
        bool is_better = cost <= worth * at.first_cost &&
                         corners_apart(at.h, start, plate_width, plate_height) < furthest;
        for (int k = 0; k < 9; k++) found[9 * blockIdx.z + k] = is_better ? at.h[k] : 0.0;
        at.goes_on = 0;
      }
    }
    __syncthreads();
  }
}
