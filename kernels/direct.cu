// Direct alignment of N plates to one frame: howard/align/direct.py between its warp and its fit,
// the flow aside (flow.cu). homographies (N, 2, 9): where each plate starts, frame_from_plate, and
// its inverse. Points of the frame lie on a regular grid: the first at half the stride.
#include "common.cuh"

// A level of a picture; 0 outside.
__device__ __forceinline__ float level_at(const u8* picture, int width, int height, int x, int y) {
  return x >= 0 && y >= 0 && x < width && y < height ? picture[y * width + x] : 0.f;
}

// Bilinear and rounded, as OpenCV samples 8-bit pictures; 0 outside, towards which the border
// fades.
__device__ __forceinline__ float rounded_sample(const u8* picture, int width, int height, float u,
                                                float v) {
  if (!(u > -1.f && v > -1.f && u < width && v < height)) return 0.f;
  int x = __float2int_rd(u), y = __float2int_rd(v);
  float a = level_at(picture, width, height, x, y);
  float b = level_at(picture, width, height, x, y + 1);
  float along = u - x, above = a + (level_at(picture, width, height, x + 1, y) - a) * along;
  float below = b + (level_at(picture, width, height, x + 1, y + 1) - b) * along;
  return to_level(above + (below - above) * (v - y));
}

// The share of a bilinear sample that lies on the picture, along one axis.
__device__ __forceinline__ float share_inside(float at, int size) {
  return within(fminf(at + 1.f, size - at), 0.f, 1.f);
}

// TILED over the frame, on a grid of 1 + N pictures (1 + N, height, width): a copy of the frame,
// and the plates (N, plate_height, plate_width) warped onto it. inside (N, height, width) is 255
// where a plate has data.
extern "C" __global__ void warp_textures(const u8* frame, const u8* plates, int plate_width,
                                         int plate_height, const double* homographies, int width,
                                         int height, u8* pictures, u8* inside) {
  int x = pixel_x(), y = pixel_y(), n = (int)blockIdx.z - 1;
  if (x >= width || y >= height) return;
  size_t pixels = (size_t)width * height, at = (size_t)y * width + x;
  if (n < 0) {
    pictures[at] = frame[at];
    return;
  }
  float h[9];
  for (int k = 0; k < 9; k++) h[k] = (float)homographies[18 * n + 9 + k];
  float w = h[6] * x + h[7] * y + h[8];
  float u = (h[0] * x + h[1] * y + h[2]) / w, v = (h[3] * x + h[4] * y + h[5]) / w;
  const u8* plate = plates + (size_t)n * plate_width * plate_height;
  pictures[(n + 1) * pixels + at] = (u8)rounded_sample(plate, plate_width, plate_height, u, v);
  inside[n * pixels + at] =
      to_level(255.f * share_inside(u, plate_width) * share_inside(v, plate_height));
}

#define SURELY_INSIDE 250.f

// Blocks of BLOCK threads over the columns * rows points, on a grid (points / BLOCK, 1, N).
// vectors (N, points, 4): where the plate shows the point, x and y; the weight of that, 0 where
// nothing is to be seen; the difference in levels that is left. person (height, width): not 0
// where the weight is multiplied by `in_person`. flow (N, height, width, 2).
extern "C" __global__ void weigh_vectors(const u8* pictures, const u8* inside, int width,
                                         int height, const float* flow, const u8* person,
                                         float in_person, const double* homographies, int stride,
                                         int columns, int rows, float texture, float matched,
                                         float* vectors) {
  int i = pixel_x(), n = blockIdx.z;
  if (i >= columns * rows) return;
  size_t pixels = (size_t)width * height;
  int x = stride / 2 + i % columns * stride, y = stride / 2 + i / columns * stride;
  int at = y * width + x;
  const float* by = flow + 2 * (n * pixels + at);
  float u = x + by[0], v = y + by[1], across[1], down[1];
  sobel(pictures, width, height, x, y, across, down);
  float slope = sqrtf(across[0] * across[0] + down[0] * down[0]) * 0.125f;
  const u8* plate = pictures + (n + 1) * pixels;
  float error = fabsf(rounded_sample(plate, width, height, u, v) - pictures[at]);
  bool is_seen = slope > texture * 0.25f &&
                 rounded_sample(inside + n * pixels, width, height, u, v) > SURELY_INSIDE;
  float share = error / matched, weight = slope / (slope + texture) / (1.f + 2.f * share * share);
  const double* h = homographies + 18 * n + 9;
  double w = h[6] * u + h[7] * v + h[8];
  float* out = vectors + 4 * ((size_t)n * columns * rows + i);
  out[0] = (float)((h[0] * u + h[1] * v + h[2]) / w);
  out[1] = (float)((h[3] * u + h[4] * v + h[5]) / w);
  out[2] = is_seen ? weight * (person[at] ? in_person : 1.f) : 0.f;
  out[3] = error;
}

#define SUMS 24     // four symmetric 3 x 3 matrices, which make up the normal equations
#define COLUMNS 9   // eight entries of the homography, and the right side

// The sums of N values over a block of BLOCK threads, into `totals`.
template <int N>
__device__ __forceinline__ void add_up(double (&values)[N], double (*of_warps)[SUMS],
                                       double* totals) {
  for (int n = 0; n < N; n++)
    for (int bits = 16; bits; bits >>= 1)
      values[n] += __shfl_xor_sync(FULL_WARP, values[n], bits);
  if (threadIdx.x % 32 == 0)
    for (int n = 0; n < N; n++) of_warps[threadIdx.x / 32][n] = values[n];
  __syncthreads();
  if (threadIdx.x < N) {
    double sum = 0.0;
    for (int warp = 0; warp < WARPS; warp++) sum += of_warps[warp][threadIdx.x];
    totals[threadIdx.x] = sum;
  }
  __syncthreads();
}

// A point in the plate, q = (x, y, 1), and in the frame, (u, v), both brought to about [-1, 1]; and
// how far in pixels the homography, in these coordinates, is off.
struct Point {
  double q[3], u, v, off;
};

__device__ __forceinline__ Point point_of(const float* vector, int i, int stride, int columns,
                                          double scale, const double* h) {
  Point p = {{vector[0] * scale - 1.0, vector[1] * scale - 1.0, 1.0}};
  p.u = (stride / 2 + i % columns * stride) * scale - 1.0;
  p.v = (stride / 2 + i / columns * stride) * scale - 1.0;
  double w = h[6] * p.q[0] + h[7] * p.q[1] + 1.0;
  double du = (h[0] * p.q[0] + h[1] * p.q[1] + h[2]) / w - p.u;
  double dv = (h[3] * p.q[0] + h[4] * p.q[1] + h[5]) / w - p.v;
  p.off = sqrt(du * du + dv * dv) / scale;
  return p;
}

// Adds w q q', times 1, u, v and u u + v v: six entries of each.
__device__ __forceinline__ void accumulate(const Point& p, double w, double (&sums)[SUMS]) {
  double factors[4] = {w, w * p.u, w * p.v, w * (p.u * p.u + p.v * p.v)};
  int k = 0;
  for (int i = 0; i < 3; i++)
    for (int j = i; j < 3; j++, k++)
      for (int f = 0; f < 4; f++) sums[6 * f + k] += factors[f] * (p.q[i] * p.q[j]);
}

// An entry of the normal equations of u = (h0 h1 h2) q / (h6 h7 1) q and of v, both multiplied by
// the denominator. Their rows are (q, 0, -u q) and (0, q, -v q); the last entry of each is the
// right side, with the other sign.
__device__ __forceinline__ double entry(const double* sums, int row, int column) {
  int a = row / 3, b = column / 3, i = row % 3, j = column % 3;
  int low = min(i, j), at = low * (5 - low) / 2 + max(i, j);
  double sign = column == 8 ? -1.0 : 1.0;
  if (a == b) return sign * sums[(a == 2 ? 18 : 0) + at];
  return max(a, b) < 2 ? 0.0 : -sign * sums[6 * (1 + min(a, b)) + at];
}

#define RIDGE 1e-9  // of the trace, keeps the equations solvable

// Solves them: h's first eight entries, the ninth is 1. All threads of the block take part.
__device__ __forceinline__ void solve(const double* sums, double (*system)[COLUMNS], double* h) {
  int thread = threadIdx.x, i = thread / COLUMNS, j = thread % COLUMNS;
  double trace = 2.0 * (sums[0] + sums[3] + sums[5]) + sums[18] + sums[21];
  if (i < 8) system[i][j] = entry(sums, i, j) + (i == j ? RIDGE * trace : 0.0);
  __syncthreads();
  // Gauss-Jordan elimination; needs no pivoting, for the matrix is positive definite.
  for (int k = 0; k < 8; k++) {
    double reduced = 0.0;
    if (i < 8) reduced = system[i][j] - system[i][k] / system[k][k] * system[k][j];
    __syncthreads();
    if (i < 8 && i != k) system[i][j] = reduced;
    __syncthreads();
  }
  if (thread < 8) h[thread] = system[thread][8] / system[thread][thread];
  __syncthreads();
}

// A homography of pixels, in coordinates p * scale - 1 on both sides, its last entry 1; and back.
__device__ __forceinline__ void to_unit(const double* from, double scale, double* to) {
  double h[9];
  for (int k = 0; k < 9; k += 3) {
    h[k] = from[k] / scale, h[k + 1] = from[k + 1] / scale;
    h[k + 2] = from[k + 2] + h[k] + h[k + 1];
  }
  for (int k = 0; k < 9; k++) to[k] = (k < 6 ? scale * h[k] - h[6 + k % 3] : h[k]) / h[8];
}
__device__ __forceinline__ void to_pixels(const double* from, double scale, double* to) {
  double h[9];
  for (int k = 0; k < 9; k += 3) {
    h[k] = from[k] * scale, h[k + 1] = from[k + 1] * scale;
    h[k + 2] = from[k + 2] - from[k] - from[k + 1];
  }
  for (int k = 0; k < 9; k++) to[k] = (k < 6 ? (h[k] + h[6 + k % 3]) / scale : h[k]) / h[8];
}

// Adds points of the plate, (x, y), at their places in the frame by the homography.
__device__ __forceinline__ void hold(const double (*ends)[2], const double* h, double w,
                                     double (&sums)[SUMS]) {
  for (int k = 0; k < 4; k++) {
    Point p = {{ends[k][0], ends[k][1], 1.0}};
    double z = h[6] * p.q[0] + h[7] * p.q[1] + 1.0;
    p.u = (h[0] * p.q[0] + h[1] * p.q[1] + h[2]) / z;
    p.v = (h[3] * p.q[0] + h[4] * p.q[1] + h[5]) / z;
    accumulate(p, w, sums);
  }
}

#define FIT 13  // numbers that come of it

// One block of BLOCK threads per plate, on a grid (1, 1, N): the homography frame_from_plate that
// the vectors agree on, by least squares with the weights of Geman and McClure, round by round at
// the widths given, in pixels; the frame's corners, with corner_share of the vectors' weight
// together, hold to where they were the round before. fits (N, FIT): the homography, its last
// entry 1; the share of the weight within near_pixels of it; the number of points, of those with
// less than `matched` levels left, and of these within near_pixels. The homography is 0 with fewer
// than `fewest` points, or if there is none.
extern "C" __global__ void fit_vectors(const float* vectors, int width, int height, int stride,
                                       int columns, int rows, const double* homographies,
                                       const double* widths, int rounds, double corner_share,
                                       float matched, float near_pixels, int fewest,
                                       double* fits) {
  __shared__ double of_warps[WARPS][SUMS], sums[SUMS], system[8][COLUMNS], h[9];
  __shared__ double ends[4][2];
  int points = columns * rows;
  double scale = 2.0 / max(width, height);
  vectors += 4 * (size_t)blockIdx.z * points;
  fits += FIT * blockIdx.z;
  double total[1] = {};
  for (int i = threadIdx.x; i < points; i += BLOCK) total[0] += vectors[4 * i + 2];
  add_up(total, of_warps, sums);
  if (threadIdx.x == 0) {
    double back[9];
    to_unit(homographies + 18 * blockIdx.z, scale, h);
    to_unit(homographies + 18 * blockIdx.z + 9, scale, back);
    for (int k = 0; k < 4; k++) {
      double u = k % 2 * (width - 1) * scale - 1.0, v = k / 2 * (height - 1) * scale - 1.0;
      double z = back[6] * u + back[7] * v + back[8];
      ends[k][0] = (back[0] * u + back[1] * v + back[2]) / z;
      ends[k][1] = (back[3] * u + back[4] * v + back[5]) / z;
    }
  }
  double of_corner = corner_share * sums[0] / 4;
  __syncthreads();
  for (int round = 0; round < rounds; round++) {
    double own[SUMS] = {};
    for (int i = threadIdx.x; i < points; i += BLOCK) {
      if (vectors[4 * i + 2] == 0.f) continue;
      Point p = point_of(vectors + 4 * i, i, stride, columns, scale, h);
      double share = p.off / widths[round], falloff = 1.0 + share * share;
      accumulate(p, vectors[4 * i + 2] / (falloff * falloff), own);
    }
    if (threadIdx.x == 0) hold(ends, h, of_corner, own);
    add_up(own, of_warps, sums);
    solve(sums, system, h);
  }
  double verdict[5] = {};  // weight, of it near, points, matches, inliers
  for (int i = threadIdx.x; i < points; i += BLOCK) {
    double weight = vectors[4 * i + 2];
    if (weight == 0.0) continue;
    bool is_near = point_of(vectors + 4 * i, i, stride, columns, scale, h).off < near_pixels;
    bool is_match = vectors[4 * i + 3] < matched;
    verdict[0] += weight;
    verdict[1] += is_near ? weight : 0.0;
    verdict[2] += 1.0;
    verdict[3] += is_match;
    verdict[4] += is_match && is_near;
  }
  add_up(verdict, of_warps, sums);
  if (threadIdx.x != 0) return;
  bool is_good = sums[2] >= fewest && fabs(1.0 - h[6] - h[7]) > 1e-9;
  to_pixels(h, scale, fits);
  for (int k = 0; k < 9; k++) is_good = is_good && fabs(fits[k]) < 1e30;  // nor NaN
  for (int k = 0; k < 9 && !is_good; k++) fits[k] = 0.0;
  fits[9] = is_good ? sums[1] / sums[0] : 0.0;
  fits[10] = sums[2], fits[11] = sums[3];
  fits[12] = is_good ? sums[4] : 0.0;
}
