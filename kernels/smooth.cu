// The Fast Global Smoother (Min et al., "Fast Global Image Smoothing Based on Weighted Least
// Squares", TIP 2014): each line of a picture is a tridiagonal system, (1 + left + right) u_i -
// left u_(i-1) - right u_(i+1) = f_i, whose ties to the neighbours are weak across the guide's
// edges.
#include "common.cuh"

#define MOST_LINE 512
#define MOST_SIGNALS 4

// How strongly two neighbours of the guide are tied.
__device__ __forceinline__ float tie(const u8* a, const u8* b, float smoothness, float edge) {
  int red = a[0] - b[0], green = a[1] - b[1], blue = a[2] - b[2];
  return smoothness * expf(-sqrtf((float)(red * red + green * green + blue * blue)) / edge);
}

// One block of BLOCK threads per line, on a grid (height) along the rows or (width) down the
// columns: solves it in place for the interleaved channels of signal (height, width, channels), at
// most MOST_SIGNALS, lines of at most MOST_LINE; guide (height, width, 3).
//
// By parallel cyclic reduction (Hockney & Jesshope, "Parallel Computers", 1981): each step replaces
// the ties to the neighbours by ties twice as far, till none is left within the line. It adds and
// multiplies what is positive and subtracts nothing, so that nothing cancels however strong the
// ties: a row keeps its surplus over the ties, `own`, instead of its diagonal.
extern "C" __global__ void smooth_lines(const u8* guide, int width, int height, int is_down,
                                        float smoothness, float edge, int channels, float* signal) {
  __shared__ float left[2][MOST_LINE], right[2][MOST_LINE], own[2][MOST_LINE];
  __shared__ float values[2][MOST_SIGNALS][MOST_LINE];
  int length = is_down ? height : width;
  size_t start = is_down ? blockIdx.x : (size_t)blockIdx.x * width, step = is_down ? width : 1;
  for (int i = threadIdx.x; i < length; i += BLOCK) {
    const u8* here = guide + 3 * (start + i * step);
    left[0][i] = i > 0 ? tie(here, here - 3 * step, smoothness, edge) : 0.f;
    right[0][i] = i + 1 < length ? tie(here, here + 3 * step, smoothness, edge) : 0.f;
    own[0][i] = 1.f;
    for (int c = 0; c < channels; c++) values[0][c][i] = signal[channels * (start + i * step) + c];
  }
  int now = 0;
  for (int reach = 1; reach < length; reach *= 2, now ^= 1) {
    __syncthreads();
    for (int i = threadIdx.x; i < length; i += BLOCK) {
      // Beyond the ends there is a row of zeros, to which nothing is tied.
      int a = max(i - reach, 0), b = min(i + reach, length - 1);
      float before = i < reach ? 0.f : left[now][i] / (own[now][a] + left[now][a] + right[now][a]);
      float after =
          i + reach < length ? right[now][i] / (own[now][b] + left[now][b] + right[now][b]) : 0.f;
      left[!now][i] = before * left[now][a];
      right[!now][i] = after * right[now][b];
      own[!now][i] = own[now][i] + before * own[now][a] + after * own[now][b];
      for (int c = 0; c < channels; c++)
        values[!now][c][i] =
            values[now][c][i] + before * values[now][c][a] + after * values[now][c][b];
    }
  }
  for (int i = threadIdx.x; i < length; i += BLOCK)
    for (int c = 0; c < channels; c++)
      signal[channels * (start + i * step) + c] =
          values[now][c][i] / (own[now][i] + left[now][i] + right[now][i]);
}
