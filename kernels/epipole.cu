// The point from which what lies off a plane moves away: what howard/align/epipolar.py finds.
#include "common.cuh"

// The direction, of either sign, in which a symmetric matrix (xx, xy, xz, yy, yz, zz) is smallest:
// its adjugate is largest there, and the more so the more often it is squared. 0 if there is none.
__device__ __forceinline__ void smallest_direction(const float* sums, double* direction) {
  double scale = (double)sums[0] + sums[3] + sums[5], a[6], m[3][3];
  for (int k = 0; k < 6; k++) a[k] = scale > 0. ? sums[k] / scale : 0.;
  m[0][0] = a[3] * a[5] - a[4] * a[4];
  m[1][1] = a[0] * a[5] - a[2] * a[2];
  m[2][2] = a[0] * a[3] - a[1] * a[1];
  m[0][1] = m[1][0] = a[2] * a[4] - a[1] * a[5];
  m[0][2] = m[2][0] = a[1] * a[4] - a[2] * a[3];
  m[1][2] = m[2][1] = a[1] * a[2] - a[0] * a[4];
  for (int squared = 0; squared < 6; squared++) {
    double trace = m[0][0] + m[1][1] + m[2][2], by = trace > 0. ? 1. / trace : 0., p[3][3];
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++) p[i][j] = m[i][j] * by;
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++)
        m[i][j] = p[i][0] * p[0][j] + p[i][1] * p[1][j] + p[i][2] * p[2][j];
  }
  bool is_first = m[0][0] >= m[1][1] && m[0][0] >= m[2][2], is_second = m[1][1] >= m[2][2];
  double v[3];  // the column with the largest diagonal
  for (int i = 0; i < 3; i++) v[i] = is_first ? m[i][0] : is_second ? m[i][1] : m[i][2];
  double length = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  for (int i = 0; i < 3; i++) direction[i] = length > 0. ? v[i] / length : 0.;
}

// What samples say of an epipole: sums over a block of BLOCK threads, for every thread, of the
// products of their lines, weighted; of the trust; of the trust of those nearer than `close` to
// their line; and their number. Each counts a quarter at `wide` pixels from its line; without an
// epipole yet, each counts as a direction, however long.
struct Samples {
  const float* signal;
  int width, height, step;
  float least_trust, least_pixels, close;

  __device__ __forceinline__ void sum(const double* epipole, float wide, float (&sums)[9],
                                      float (*of_warps)[9]) const {
    float side = (float)max(width, height);
    int columns = (width + step - 1) / step, rows = (height + step - 1) / step;
    for (int k = 0; k < 9; k++) sums[k] = 0.f;
    for (int i = threadIdx.x; i < columns * rows; i += BLOCK) {
      int column = i % columns * step, row = i / columns * step;
      const float* sample = signal + 3 * ((size_t)row * width + column);
      float trust = sample[2];
      if (!(trust > least_trust)) continue;
      float u = sample[0] / trust, v = sample[1] / trust;
      if (!(u * u + v * v > least_pixels * least_pixels)) continue;
      float x = (column - (width - 1) / 2.f) / side, y = (row - (height - 1) / 2.f) / side;
      float weight = trust / (1.f + u * u + v * v);
      u /= side;
      v /= side;
      float line[3] = {-v, u, x * v - y * u};
      if (epipole) {
        float ex = (float)epipole[0], ey = (float)epipole[1], ew = (float)epipole[2];
        float across = ex - ew * x, down = ey - ew * y;
        float away = sqrtf(across * across + down * down) + 0.1f / side;
        float off = fabsf(line[0] * ex + line[1] * ey + line[2] * ew) / away * side;
        float root = (1.f + off / wide * (off / wide)) * away;
        weight = trust / (root * root);
        if (off < close) sums[7] += trust;
      }
      for (int a = 0, k = 0; a < 3; a++)
        for (int b = a; b < 3; b++) sums[k++] += weight * line[a] * line[b];
      sums[6] += trust;
      sums[8] += 1.f;
    }
    sum_over_block(sums, of_warps);
  }
};

// One block: from every `step`-th pixel of every `step`-th row of a signal (height, width, 3), x
// and y of a field times their trust, and the trust; those count whose trust exceeds least_trust
// and whose length least_pixels. Two searches of so many rounds, from anywhere and from infinity,
// what is close being `wider` and `wider_far` times as wide at first, in each round that follows
// half of it. epipole (4): x, y, w, and 1 if samples of this share of the trust are nearer to their
// line than `close`, and there are `fewest`; else zeros.
extern "C" __global__ void find_epipole(const float* signal, int width, int height, int step,
                                        float least_trust, float least_pixels, int fewest,
                                        float close, int wider, int wider_far, float share,
                                        int rounds, float* epipole) {
  __shared__ float of_warps[WARPS][9];
  __shared__ double point[3], best[3];
  Samples samples = {signal, width, height, step, least_trust, least_pixels, close};
  float sums[9], most = -1.f;
  if (threadIdx.x == 0) best[0] = best[1] = best[2] = 0.;  // its own alone
  for (int far = 0; far < 2; far++) {
    samples.sum(nullptr, close, sums, of_warps);
    if (far) {
      sums[5] += sums[0] + sums[3];
      sums[2] = sums[4] = 0.f;
    }
    for (int round = 0; round < rounds; round++) {
      if (threadIdx.x == 0) smallest_direction(sums, point);  // doubles are slow on most GPUs
      __syncthreads();
      samples.sum(point, close * max(1, (far ? wider_far : wider) >> round), sums, of_warps);
    }
    bool is_found = point[0] != 0. || point[1] != 0. || point[2] != 0.;
    if (is_found && sums[7] > most) {
      most = sums[7];
      if (threadIdx.x == 0)
        for (int k = 0; k < 3; k++) best[k] = point[k];
    }
  }
  if (threadIdx.x) return;
  double x = best[0], y = best[1], w = best[2], side = max(width, height);
  double largest = fabs(y) > fabs(x) ? y : x;
  if (fabs(w) > fabs(largest)) largest = w;
  double sign = largest < 0. ? -1. : 1.;
  bool is_known = most >= 0.f && sums[8] >= (float)fewest && most >= share * sums[6];
  epipole[0] = is_known ? (float)(sign * (x * side + w * (width - 1) / 2)) : 0.f;
  epipole[1] = is_known ? (float)(sign * (y * side + w * (height - 1) / 2)) : 0.f;
  epipole[2] = is_known ? (float)(sign * w) : 0.f;
  epipole[3] = is_known ? 1.f : 0.f;
}
