// Keypoints: corners, the strongest of each cell, so that one leafy place does not outvote the
// rest. Nothing depends on the order in which threads run.
#include "common.cuh"

#define WINDOW 2  // radius of the window whose gradients make a corner
#define HALO (WINDOW + 1)

// TILED, batched. The smaller eigenvalue of Harris' matrix (Shi and Tomasi, CVPR 1994), over 5 x 5
// Sobel gradients, in squared levels per pixel; 0 nearer than `margin` to an edge.
extern "C" __global__ void corner_score(const u8* luma, int width, int height, int margin,
                                        float* score) {
  __shared__ int levels[8 + 2 * HALO][32 + 2 * HALO];
  __shared__ int gradient_x[8 + 2 * WINDOW][32 + 2 * WINDOW];
  __shared__ int gradient_y[8 + 2 * WINDOW][32 + 2 * WINDOW];
  size_t image = (size_t)blockIdx.z * width * height;
  int thread = threadIdx.y * 32 + threadIdx.x;
  for (int i = thread; i < (8 + 2 * HALO) * (32 + 2 * HALO); i += 256) {
    int row = i / (32 + 2 * HALO), column = i % (32 + 2 * HALO);
    int x = clamped((int)blockIdx.x * 32 - HALO + column, width);
    int y = clamped((int)blockIdx.y * 8 - HALO + row, height);
    levels[row][column] = luma[image + y * width + x];
  }
  __syncthreads();
  for (int i = thread; i < (8 + 2 * WINDOW) * (32 + 2 * WINDOW); i += 256) {
    int row = i / (32 + 2 * WINDOW), column = i % (32 + 2 * WINDOW);
    const int *a = &levels[row][column], *b = &levels[row + 1][column], *c = &levels[row + 2][column];
    gradient_x[row][column] = a[2] - a[0] + 2 * (b[2] - b[0]) + c[2] - c[0];
    gradient_y[row][column] = c[0] - a[0] + 2 * (c[1] - a[1]) + c[2] - a[2];
  }
  __syncthreads();
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  int xx = 0, yy = 0, xy = 0;
  for (int j = 0; j <= 2 * WINDOW; j++)
    for (int i = 0; i <= 2 * WINDOW; i++) {
      int gx = gradient_x[threadIdx.y + j][threadIdx.x + i];
      int gy = gradient_y[threadIdx.y + j][threadIdx.x + i];
      xx += gx * gx;
      yy += gy * gy;
      xy += gx * gy;
    }
  const float unit = 1.f / (64.f * 25.f);  // Sobel weighs 8, and 25 pixels are summed
  float mean = (xx + yy) * (0.5f * unit), half = (xx - yy) * (0.5f * unit), c = xy * unit;
  bool inside = x >= margin && y >= margin && x < width - margin && y < height - margin;
  score[image + y * width + x] = inside ? fmaxf(mean - sqrtf(half * half + c * c), 0.f) : 0.f;
}

#define CELL 32
#define APART 2  // a spot is the highest score within this many pixels
#define SIDE (CELL + 2 * APART)

// Where between two pixels a parabola through three scores has its top.
__device__ __forceinline__ float peak(float before, float at, float after) {
  float bend = before - 2.f * at + after;
  return bend < 0.f ? within(0.5f * (before - after) / bend, -0.5f, 0.5f) : 0.f;
}

// Whether a score exceeds those around it; of equal ones the first in reading order wins.
__device__ __forceinline__ bool is_highest(const float* at) {
  for (int j = -APART; j <= APART; j++)
    for (int i = -APART; i <= APART; i++) {
      float other = at[j * SIDE + i];
      bool is_earlier = j < 0 || (j == 0 && i < 0);
      if (other > *at || (is_earlier && other == *at)) return false;
    }
  return true;
}

// Blocks of 32 x 8, one per cell of 32 x 32 pixels; batched. The per_cell highest local maxima
// above `least`, best first, go to spots (N, slots, 3) from slot `first` on, cell by cell: x and y
// in pixels of the full picture, which is (scale_x, scale_y) times as large, and the score, 0
// where there is none.
extern "C" __global__ void strongest_per_cell(const float* score, int width, int height,
                                              float least, int per_cell, float scale_x,
                                              float scale_y, int first, int slots, float* spots) {
  __shared__ float tile[SIDE][SIDE];
  __shared__ u64 of_warps[WARPS];
  score += (size_t)blockIdx.z * width * height;
  int thread = threadIdx.y * 32 + threadIdx.x;
  for (int i = thread; i < SIDE * SIDE; i += BLOCK) {
    int x = blockIdx.x * CELL - APART + i % SIDE, y = blockIdx.y * CELL - APART + i / SIDE;
    bool inside = x >= 0 && y >= 0 && x < width && y < height;
    tile[i / SIDE][i % SIDE] = inside ? score[y * width + x] : 0.f;
  }
  __syncthreads();
  u64 own = 0, taken = ~0ull;  // keys of this thread's pixels go in falling order
  int cell = blockIdx.y * gridDim.x + blockIdx.x;
  float* spot = spots + 3 * ((size_t)blockIdx.z * slots + first + cell * per_cell);
  for (int rank = 0; rank < per_cell; rank++, spot += 3) {
    own = 0;
    for (int row = threadIdx.y; row < CELL; row += 8) {
      const float* at = &tile[row + APART][threadIdx.x + APART];
      u64 key = key_of(*at, row * CELL + threadIdx.x);
      if (*at > least && key < taken && key > own && is_highest(at)) own = key;
    }
    taken = largest_in_block(own, of_warps, thread);
    if (taken && own == taken) {
      int column = index_of(taken) % CELL, row = index_of(taken) / CELL;
      const float* at = &tile[row + APART][column + APART];
      float x = blockIdx.x * CELL + column + peak(at[-1], *at, at[1]);
      float y = blockIdx.y * CELL + row + peak(at[-SIDE], *at, at[SIDE]);
      spot[0] = (x + 0.5f) * scale_x - 0.5f;
      spot[1] = (y + 0.5f) * scale_y - 0.5f;
      spot[2] = *at;
    } else if (!taken && thread == 0) {
      spot[0] = spot[1] = spot[2] = 0.f;
    }
  }
}

// Whether a point of the frame lies beside the person of a mask (rows, columns), 1 where they are.
__device__ __forceinline__ bool is_beside(const float* point, const u8* person, int columns,
                                          int rows, int frame_width, int frame_height) {
  int x = clamped((int)((point[0] + 0.5f) * columns / frame_width), columns);
  int y = clamped((int)((point[1] + 0.5f) * rows / frame_height), rows);
  return !person[y * columns + x];
}

// One block of BLOCK threads per image: copies the spots that are there, and their descriptors, to
// the front of kept (N, slots, 3) and packed (N, slots, 8), in order, empties the slots behind them,
// and counts them. Those on the person are left out, if one is known (person_count < most) and
// `fewest` others are left. What was kept may be the spots of another call.
extern "C" __global__ void compact_keypoints(const float* spots, const unsigned* descriptors,
                                             int slots, const u8* person, const int* person_count,
                                             int most, int columns, int rows, int frame_width,
                                             int frame_height, int fewest, float* kept,
                                             unsigned* packed, int* counts) {
  __shared__ int of_warps[WARPS];
  size_t start = (size_t)blockIdx.z * slots;
  int beside = 0, total;
  for (int i = threadIdx.x; i < slots; i += BLOCK) {
    const float* spot = spots + 3 * (start + i);
    beside += spot[2] > 0.f &&
              is_beside(spot, person, columns, rows, frame_width, frame_height);
  }
  sum_before(beside, of_warps, &total);
  bool all = *person_count >= most || total < fewest;
  int filled = 0;
  for (int base = 0; base < slots; base += BLOCK) {
    int i = base + threadIdx.x;
    const float* spot = spots + 3 * (start + i);
    bool keep = i < slots && spot[2] > 0.f &&
                (all || is_beside(spot, person, columns, rows, frame_width, frame_height));
    size_t to = start + filled + sum_before(keep, of_warps, &total);
    if (keep) {
      for (int k = 0; k < 3; k++) kept[3 * to + k] = spot[k];
      for (int k = 0; k < 8; k++) packed[8 * to + k] = descriptors[8 * (start + i) + k];
    }
    filled += total;
  }
  for (int i = filled + threadIdx.x; i < slots; i += BLOCK)
    for (int k = 0; k < 3; k++) kept[3 * (start + i) + k] = 0.f;
  if (threadIdx.x == 0) counts[blockIdx.z] = filled;
}
