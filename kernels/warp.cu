// Small plates, warped onto small frames to be compared: exact bilinear samples, where all the pixels
// that they draw on exist. plate_from_frame (N, 9) maps pixels of a frame to those of its plate, both
// at full size; w > 0 in front of the camera.
#include "common.cuh"

// Where in the plate a point of the frame lies, and whether the plate has data there.
__device__ __forceinline__ bool locate(const float* h, float x, float y, float* u, float* v) {
  float w = h[6] * x + h[7] * y + h[8];
  *u = (h[0] * x + h[1] * y + h[2]) / w;
  *v = (h[3] * x + h[4] * y + h[5]) / w;
  return w > 0.f;
}

// The four pixels around a point, and the shares of the right and the lower ones.
struct Corners {
  size_t at[4];
  float along, down;
};

#define BESIDE (1.f / 512)  // pixels by which a point may miss: by rounding alone a whole border would

// False outside of the picture.
__device__ __forceinline__ bool find_corners(float u, float v, int width, int height, Corners* out) {
  float last_u = width - 1, last_v = height - 1;
  if (!(u >= -BESIDE && v >= -BESIDE && u <= last_u + BESIDE && v <= last_v + BESIDE)) return false;
  u = fminf(fmaxf(u, 0.f), last_u), v = fminf(fmaxf(v, 0.f), last_v);
  int left = (int)u, top = (int)v, right = min(left + 1, width - 1);
  size_t above = (size_t)top * width, below = (size_t)min(top + 1, height - 1) * width;
  *out = {{above + left, above + right, below + left, below + right}, u - left, v - top};
  return true;
}

__device__ __forceinline__ float blend(const Corners& c, float a, float b, float d, float e) {
  float above = a + (b - a) * c.along, below = d + (e - d) * c.along;
  return above + (below - above) * c.down;
}

// By how much the frame is larger than its small picture, and that of the plate than the plate.
struct Reduced {
  float frame_x, frame_y, plate_x, plate_y;
};

// `locate` between small pictures.
__device__ __forceinline__ bool locate_reduced(const float* h, const Reduced& sizes, int x, int y,
                                               float* u, float* v) {
  bool is_ahead = locate(h, (x + 0.5f) * sizes.frame_x - 0.5f, (y + 0.5f) * sizes.frame_y - 0.5f, u, v);
  *u = (*u + 0.5f) * sizes.plate_x - 0.5f;
  *v = (*v + 0.5f) * sizes.plate_y - 0.5f;
  return is_ahead;
}

// TILED over the small frame, batched: small pictures of plates (N, probe_height, probe_width, 3) on
// a small frame, for comparing them; warped (N, height, width, 3) stays in floats and is 0 where
// covered (N, height, width) is. The sizes of the full pictures tell how much smaller they are.
extern "C" __global__ void warp_probes(const u8* probes, int probe_width, int probe_height,
                                       int plate_width, int plate_height,
                                       const float* plate_from_frame, int width, int height,
                                       int frame_width, int frame_height, float* warped,
                                       u8* covered) {
  int x = pixel_x(), y = pixel_y(), n = blockIdx.z;
  if (x >= width || y >= height) return;
  const u8* probe = probes + (size_t)n * probe_width * probe_height * 3;
  size_t at = (size_t)n * width * height + y * width + x;
  Reduced sizes = {(float)frame_width / width, (float)frame_height / height,
                   (float)probe_width / plate_width, (float)probe_height / plate_height};
  float u, v;
  Corners corners;
  bool has_data = locate_reduced(plate_from_frame + 9 * n, sizes, x, y, &u, &v) &&
                  find_corners(u, v, probe_width, probe_height, &corners);
  for (int c = 0; c < 3; c++) {
    float levels[4];
    for (int k = 0; has_data && k < 4; k++) levels[k] = probe[3 * corners.at[k] + c];
    warped[3 * at + c] =
        has_data ? blend(corners, levels[0], levels[1], levels[2], levels[3]) : 0.f;
  }
  covered[at] = has_data;
}

#define TEXTURE_CLIP 60       // a difference of two textures costs no more
#define TEXTURE_UNCOVERED 50  // what a pixel without a plate costs

// A bilinear sample of a picture that is 0 all around, as OpenCV has it.
__device__ __forceinline__ float sample_with_border(const u8* picture, int width, int height,
                                                    float u, float v) {
  if (!(u > -1.f && v > -1.f && u < width && v < height)) return 0.f;
  int left = __float2int_rd(u), top = __float2int_rd(v);
  bool columns[2] = {left >= 0, left + 1 < width}, rows[2] = {top >= 0, top + 1 < height};
  const u8 *above = picture + top * width + left, *below = above + width;
  float a = rows[0] && columns[0] ? above[0] : 0.f, b = rows[0] && columns[1] ? above[1] : 0.f;
  float d = rows[1] && columns[0] ? below[0] : 0.f, e = rows[1] && columns[1] ? below[1] : 0.f;
  return blend({{}, u - left, v - top}, a, b, d, e);
}

// The mean of 3 x 3 levels, rounded; there are no ties.
__device__ __forceinline__ int mean_of_nine(const u8 (*levels)[34], int x, int y) {
  int sum = 0;
  for (int j = 0; j < 3; j++)
    for (int i = 0; i < 3; i++) sum += levels[y + j][x + i];
  return (sum + 4) / 9;
}

// TILED over the frame's texture (height, width), batched: how badly those of plates (N,
// texture_height, texture_width) explain it beside the person. Adds to sums (N, 2) the clipped
// differences of both, smoothed, uncovered pixels priced, and the number of pixels. person (rows,
// columns), 1 where the person may be, believed if person_count < most. Sizes as in warp_probes.
extern "C" __global__ void judge_textures(const u8* frame, const u8* textures, int texture_width,
                                          int texture_height, int plate_width, int plate_height,
                                          const float* plate_from_frame, int width, int height,
                                          int frame_width, int frame_height, const u8* person,
                                          const int* person_count, int most, int columns,
                                          int rows, int* sums) {
  __shared__ u8 here[10][34], there[10][34];  // the tile and a pixel around it
  int n = blockIdx.z, price = 0, counts = 0;
  bool is_covered = false;
  const u8* texture = textures + (size_t)n * texture_width * texture_height;
  Reduced sizes = {(float)frame_width / width, (float)frame_height / height,
                   (float)texture_width / plate_width, (float)texture_height / plate_height};
  for (int i = threadIdx.y * 32 + threadIdx.x; i < 10 * 34; i += 256) {
    int x = mirrored((int)blockIdx.x * 32 + i % 34 - 1, width);
    int y = mirrored((int)blockIdx.y * 8 + i / 34 - 1, height);
    float u, v;
    bool is_ahead = locate_reduced(plate_from_frame + 9 * n, sizes, x, y, &u, &v);
    here[i / 34][i % 34] = frame[y * width + x];
    there[i / 34][i % 34] =
        is_ahead ? to_level(sample_with_border(texture, texture_width, texture_height, u, v)) : 0;
  }
  __syncthreads();
  int x = pixel_x(), y = pixel_y();
  if (x < width && y < height) {
    float u, v;
    Corners c;
    is_covered = locate_reduced(plate_from_frame + 9 * n, sizes, x, y, &u, &v) &&
                 find_corners(u, v, texture_width, texture_height, &c);
    bool is_beside = *person_count >= most || !person[y * rows / height * columns + x * columns / width];
    int apart = abs(mean_of_nine(here, threadIdx.x, threadIdx.y) -
                    mean_of_nine(there, threadIdx.x, threadIdx.y));
    counts = is_beside;
    price = is_beside ? (is_covered ? min(apart, TEXTURE_CLIP) : TEXTURE_UNCOVERED) : 0;
  }
  for (int bits = 16; bits; bits >>= 1) {
    price += __shfl_xor_sync(FULL_WARP, price, bits);
    counts += __shfl_xor_sync(FULL_WARP, counts, bits);
  }
  if (threadIdx.x == 0 && counts) {
    atomicAdd(sums + 2 * n, price);
    atomicAdd(sums + 2 * n + 1, counts);
  }
}
