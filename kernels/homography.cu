// Homographies from matched points, for P pairs of pictures at once: matched (P, slots, 4) holds
// x, y in the plate and x, y in the frame, of which counts[pair] are there.
#include "common.cuh"

// What a match adds to a homography's score, by its error as a share of the threshold: a truncated
// square, averaged over all thresholds up to the given one. After the idea of MAGSAC (Barath et
// al., CVPR 2019): no single noise scale is believed.
__device__ __forceinline__ float gain(float share) {
  float left = 1.f - fminf(share, 1.f);
  return left * left;
}

#define FLOOR 0.1  // share of the threshold below which errors are noise

// Weight of a match in least squares: the slope of that loss over the error, bounded near 0.
__device__ __forceinline__ double weight(double share) {
  return share < 1.0 ? 1.0 / fmax(share, FLOOR) - 1.0 : 0.0;
}

// Distance in the frame from a plate point, mapped, to its match; huge if it lies behind.
__device__ __forceinline__ float error_of(const float* h, const float* match) {
  float w = h[6] * match[0] + h[7] * match[1] + h[8];
  float x = (h[0] * match[0] + h[1] * match[1] + h[2]) / w - match[2];
  float y = (h[3] * match[0] + h[4] * match[1] + h[5]) / w - match[3];
  return w > 0.f ? sqrtf(x * x + y * y) : 1e30f;
}

__device__ __forceinline__ void multiply(const double* a, const double* b, double* out) {
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++)
      out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
}

// The inverse, times the determinant.
__device__ __forceinline__ void adjugate(const double* m, double* out) {
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) {
      int a = (j + 1) % 3, b = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
      out[3 * i + j] = m[3 * a + c] * m[3 * b + d] - m[3 * a + d] * m[3 * b + c];
    }
}

// The homography that maps the corners of the unit square to four points, in turn around it
// (Heckbert, Fundamentals of Texture Mapping, 1989, section 2.2.3), times a number > 0.
__device__ __forceinline__ void from_unit_square(const double (*p)[2], double* h) {
  double ax = p[1][0] - p[2][0], bx = p[3][0] - p[2][0], sx = p[0][0] - p[1][0] - bx;
  double ay = p[1][1] - p[2][1], by = p[3][1] - p[2][1], sy = p[0][1] - p[1][1] - by;
  double det = ax * by - ay * bx, sign = det < 0.0 ? -1.0 : 1.0;
  double g = sign * (sx * by - sy * bx), k = sign * (ax * sy - ay * sx);
  det *= sign;
  for (int i = 0; i < 2; i++) {
    h[3 * i] = (p[1][i] - p[0][i]) * det + g * p[1][i];
    h[3 * i + 1] = (p[3][i] - p[0][i]) * det + k * p[3][i];
    h[3 * i + 2] = p[0][i] * det;
  }
  h[6] = g;
  h[7] = k;
  h[8] = det;
}

// Twice the signed area of the triangle that is left of four points without one.
__device__ __forceinline__ double area_without(const double (*p)[2], int left_out) {
  const double *a = p[(left_out + 1) % 4], *b = p[(left_out + 2) % 4], *c = p[(left_out + 3) % 4];
  return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
}

#define ATTEMPTS 8

// Blocks of 64 threads, one per trial, on a grid (trials / 64, 1, P): homographies (P, trials, 9)
// from four matches each, drawn by `seed` and the trial's number, its last entry 1; zeros where
// no four were found that differ, span triangles of least_area (in squared pixels, doubled), and
// turn the same way in both pictures.
extern "C" __global__ void sample_homographies(const float* matched, const int* counts, int slots,
                                               int trials, unsigned seed, float least_area,
                                               double* homographies) {
  int trial = blockIdx.x * blockDim.x + threadIdx.x, count = counts[blockIdx.z];
  if (trial >= trials) return;
  matched += 4 * (size_t)blockIdx.z * slots;
  double* out = homographies + 9 * ((size_t)blockIdx.z * trials + trial);
  for (int k = 0; k < 9; k++) out[k] = 0.0;
  for (int attempt = 0; attempt < ATTEMPTS && count >= 4; attempt++) {
    double plate[4][2], frame[4][2];
    unsigned counter = seed + 4u * (trial * ATTEMPTS + attempt);
    for (int i = 0; i < 4; i++) {
      const float* match = matched + 4 * (scattered(counter + i) % (unsigned)count);
      for (int k = 0; k < 2; k++) plate[i][k] = match[k], frame[i][k] = match[2 + k];
    }
    bool is_good = true;  // a match drawn twice spans no area
    for (int i = 0; i < 4; i++) {
      double a = area_without(plate, i), b = area_without(frame, i);
      is_good = is_good && fabs(a) >= least_area && fabs(b) >= least_area && (a > 0.0) == (b > 0.0);
    }
    if (!is_good) continue;
    double to_plate[9], from_plate[9], to_frame[9], h[9];
    from_unit_square(plate, to_plate);
    adjugate(to_plate, from_plate);
    from_unit_square(frame, to_frame);
    multiply(to_frame, from_plate, h);
    if (h[8] != 0.0)
      for (int k = 0; k < 9; k++) out[k] = h[k] / h[8];
    return;
  }
}

// Blocks of 32 x 8, a warp per trial, on a grid (trials / 8, 1, P): the sum of gains.
extern "C" __global__ void score_homographies(const float* matched, const int* counts, int slots,
                                              const double* homographies, int trials,
                                              float threshold, float* scores) {
  int trial = blockIdx.x * 8 + threadIdx.y;
  if (trial >= trials) return;  // the whole warp
  size_t at = (size_t)blockIdx.z * trials + trial;
  matched += 4 * (size_t)blockIdx.z * slots;
  float h[9], sum = 0.f;
  for (int k = 0; k < 9; k++) h[k] = (float)homographies[9 * at + k];
  for (int i = threadIdx.x; i < counts[blockIdx.z]; i += 32)
    sum += gain(error_of(h, matched + 4 * i) / threshold);
  for (int bits = 16; bits; bits >>= 1) sum += __shfl_xor_sync(FULL_WARP, sum, bits);
  if (threadIdx.x == 0) scores[at] = sum;
}

// Maps pixels of a picture to about [-1, 1], for the sake of the arithmetic.
__device__ __forceinline__ void normaliser(int width, int height, double* out) {
  double scale = 2.0 / max(width, height);
  for (int k = 0; k < 9; k++) out[k] = 0.0;
  out[0] = out[4] = scale;
  out[2] = -scale * 0.5 * (width - 1);
  out[5] = -scale * 0.5 * (height - 1);
  out[8] = 1.0;
}

#define ROW 9                       // eight derivatives and what is left to explain
#define ENTRIES 44                  // of the upper triangle of the normal equations
#define SLICES (BLOCK / ENTRIES)    // threads that share the sum of an entry

// Gauss-Newton on the weighted squared errors in the frame; h is in normalised coordinates, with
// h[8] = 1, and `threshold` too. One step; all threads of the block take part.
__device__ __forceinline__ void step(const float* matched, int count, const double* to_plate,
                                     const double* to_frame, double threshold, double* h,
                                     float (*rows)[2 * ROW], double (*partial)[ENTRIES],
                                     double (*system)[ROW]) {
  int thread = threadIdx.x, entry = thread % ENTRIES, slice = thread / ENTRIES;
  int row = 0, column = entry;
  for (; column >= ROW - row; row++) column -= ROW - row;
  column += row;
  double sum = 0.0;
  for (int base = 0; base < count; base += BLOCK) {
    for (int k = 0; k < 2 * ROW; k++) rows[thread][k] = 0.f;
    if (base + thread < count) {
      const float* match = matched + 4 * (base + thread);
      double x = to_plate[0] * match[0] + to_plate[2], y = to_plate[4] * match[1] + to_plate[5];
      double w = h[6] * x + h[7] * y + h[8], u = (h[0] * x + h[1] * y + h[2]) / w;
      double v = (h[3] * x + h[4] * y + h[5]) / w;
      double du = to_frame[0] * match[2] + to_frame[2] - u;
      double dv = to_frame[4] * match[3] + to_frame[5] - v;
      double root = w > 0.0 ? sqrt(weight(sqrt(du * du + dv * dv) / threshold)) : 0.0;
      double terms[3] = {root * x / w, root * y / w, root / w};
      for (int k = 0; k < 3 && root > 0.0; k++) {
        rows[thread][k] = rows[thread][ROW + 3 + k] = (float)terms[k];
        if (k == 2) break;
        rows[thread][6 + k] = (float)(-u * terms[k]);
        rows[thread][ROW + 6 + k] = (float)(-v * terms[k]);
      }
      rows[thread][8] = (float)(root * du);
      rows[thread][ROW + 8] = (float)(root * dv);
    }
    __syncthreads();
    for (int k = slice; k < BLOCK; k += SLICES)
      sum += rows[k][row] * rows[k][column] + rows[k][ROW + row] * rows[k][ROW + column];
    __syncthreads();
  }
  if (slice < SLICES) partial[slice][entry] = sum;
  __syncthreads();
  if (thread < ENTRIES) {
    sum = row == column ? 1e-9 : 0.0;  // keeps the equations solvable
    for (int s = 0; s < SLICES; s++) sum += partial[s][entry];
    system[row][column] = sum;
    if (column < 8) system[column][row] = sum;
  }
  __syncthreads();
  // Gauss-Jordan elimination; needs no pivoting, for the matrix is positive definite.
  int i = thread / ROW, j = thread % ROW;
  for (int k = 0; k < 8; k++) {
    double reduced = 0.0;
    if (i < 8) reduced = system[i][j] - system[i][k] / system[k][k] * system[k][j];
    __syncthreads();
    if (i < 8 && i != k) system[i][j] = reduced;
    __syncthreads();
  }
  if (thread < 8) h[thread] += system[thread][8] / system[thread][thread];
  __syncthreads();
}

// One block of BLOCK threads per pair, on a grid (1, 1, P): the trial with the best score, refined
// by `rounds` of reweighted least squares if that scores better. frame_from_plate (P, 9), last
// entry 1; plate_from_frame (P, 9), scaled so that w is 1 at the frame's centre; verdicts (P, 2):
// score and number of matches within the threshold. All zeros if there is none.
extern "C" __global__ void refine_homography(const float* matched, const int* counts, int slots,
                                             const double* homographies, const float* scores,
                                             int trials, float threshold, int rounds,
                                             int plate_width, int plate_height, int frame_width,
                                             int frame_height, double* frame_from_plate,
                                             float* plate_from_frame, float* verdicts) {
  __shared__ u64 of_warps[WARPS];
  __shared__ float sums[WARPS][4];
  __shared__ float rows[BLOCK][2 * ROW];
  __shared__ double partial[SLICES][ENTRIES], system[8][ROW], h[9], refined[9];
  int pair = blockIdx.z, count = counts[pair];
  matched += 4 * (size_t)pair * slots;
  u64 key = 0;
  for (int i = threadIdx.x; i < trials; i += BLOCK)
    key = max(key, key_of(scores[(size_t)pair * trials + i], i));
  key = largest_in_block(key, of_warps, threadIdx.x);
  const double* start = homographies + 9 * ((size_t)pair * trials + index_of(key));
  bool is_none = count < 4 || !(key >> 32) || start[8] == 0.0;
  if (is_none) {
    if (threadIdx.x < 9) frame_from_plate[9 * pair + threadIdx.x] = 0.0;
    if (threadIdx.x < 9) plate_from_frame[9 * pair + threadIdx.x] = 0.f;
    if (threadIdx.x < 2) verdicts[2 * pair + threadIdx.x] = 0.f;
    return;
  }
  double to_plate[9], to_frame[9], back[9], product[9];
  normaliser(plate_width, plate_height, to_plate);
  normaliser(frame_width, frame_height, to_frame);
  if (threadIdx.x == 0) {
    adjugate(to_plate, back);
    multiply(start, back, product);
    multiply(to_frame, product, h);
    double last = h[8];
    for (int k = 0; k < 9; k++) h[k] /= last;
  }
  __syncthreads();
  for (int round = 0; round < rounds; round++)
    step(matched, count, to_plate, to_frame, threshold * to_frame[0], h, rows, partial, system);
  if (threadIdx.x == 0) {
    adjugate(to_frame, back);
    multiply(h, to_plate, product);
    multiply(back, product, refined);
    double last = refined[8];
    for (int k = 0; k < 9; k++) refined[k] /= last;
  }
  __syncthreads();
  float before[9], after[9], verdict[4] = {};
  for (int k = 0; k < 9; k++) before[k] = (float)start[k], after[k] = (float)refined[k];
  for (int i = threadIdx.x; i < count; i += BLOCK) {
    float share_before = error_of(before, matched + 4 * i) / threshold;
    float share_after = error_of(after, matched + 4 * i) / threshold;
    verdict[0] += gain(share_before);
    verdict[1] += share_before < 1.f;
    verdict[2] += gain(share_after);
    verdict[3] += share_after < 1.f;
  }
  sum_over_block(verdict, sums);
  if (threadIdx.x != 0) return;
  bool is_better = verdict[2] > verdict[0];
  const double* chosen = is_better ? refined : start;
  adjugate(chosen, back);
  double w = back[6] * 0.5 * (frame_width - 1) + back[7] * 0.5 * (frame_height - 1) + back[8];
  for (int k = 0; k < 9; k++) {
    frame_from_plate[9 * pair + k] = chosen[k];
    plate_from_frame[9 * pair + k] = (float)(back[k] / w);
  }
  verdicts[2 * pair] = is_better ? verdict[2] : verdict[0];
  verdicts[2 * pair + 1] = is_better ? verdict[3] : verdict[1];
}
