// A smooth field of displacements on top of a homography: what howard/align/field.py does pixel by
// pixel. flow and field (height, width, 2) say how far from x of one picture its place in another
// is.
#include "common.cuh"

// One channel of a picture (height, width, channels) at a point, bilinear; 0 outside.
template <class T>
__device__ __forceinline__ float at_point(const T* picture, int width, int height, int channels,
                                          float x, float y) {
  x = within(x, -1.f, (float)width);
  y = within(y, -1.f, (float)height);
  int left = __float2int_rd(x), top = __float2int_rd(y);
  float along = x - left, down = y - top, corners[4];
  for (int k = 0; k < 4; k++) {
    int u = left + k % 2, v = top + k / 2;
    bool inside = u >= 0 && v >= 0 && u < width && v < height;
    corners[k] = inside ? (float)picture[((size_t)v * width + u) * channels] : 0.f;
  }
  float above = corners[0] + (corners[1] - corners[0]) * along;
  float below = corners[2] + (corners[3] - corners[2]) * along;
  return above + (below - above) * down;
}

// TILED: picture (height, width, channels) at x + flow, 0 outside.
extern "C" __global__ void displace_levels(const u8* picture, int width, int height, int channels,
                                           const float* flow, u8* displaced) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  size_t at = (size_t)y * width + x;
  float u = x + flow[2 * at], v = y + flow[2 * at + 1];
  for (int c = 0; c < channels; c++)
    displaced[at * channels + c] = to_level(at_point(picture + c, width, height, channels, u, v));
}

// Mean of |a - b| over 5 x 5 pixels, a whole level; as cv2.blur of cv2.absdiff.
__device__ __forceinline__ float error_around(const u8* a, const u8* b, int x, int y, int width,
                                              int height) {
  int sum = 0;
  for (int v = y - 2; v <= y + 2; v++)
    for (int u = x - 2; u <= x + 2; u++) {
      int at = mirrored(v, height) * width + mirrored(u, width);
      sum += abs((int)a[at] - b[at]);
    }
  return (float)((sum + 12) / 25);
}

// TILED: how far each vector of flow can be believed by itself; trusted (height, width, 3) is the
// vector times its trust, and the trust. frame, moved: textures, the latter at x + flow; slope: the
// frame's gradient, averaged; likeness in [0, 1]; covered: 1 where the other picture has data;
// where person is not 0, trust is multiplied by in_person. `matched` and `textured` are the levels
// at which trust has fallen to about a third and a half.
extern "C" __global__ void trust_flow(const u8* frame, const u8* moved, const float* flow,
                                      const float* slope, const float* likeness, const u8* covered,
                                      const u8* person, float in_person, float matched,
                                      float textured, int width, int height, float* trusted) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  int at = y * width + x;
  float error = error_around(frame, moved, x, y, width, height) / matched;
  float u = flow[2 * at], v = flow[2 * at + 1];
  bool has_data = at_point(covered, width, height, 1, x + u, y + v) > 0.5f;
  float trust = slope[at] / (slope[at] + textured) * expf(-(error * error)) * likeness[at];
  trust *= (has_data ? 1.f : 0.f) * (person[at] ? in_person : 1.f);
  trusted[3 * at] = u * trust;
  trusted[3 * at + 1] = v * trust;
  trusted[3 * at + 2] = trust;
}

// A thread per pixel in blocks of BLOCK: how far each vector can be believed beside its neighbours;
// around (height, width, 3) is the mean of `trusted` over a window, and vectors `lonely` pixels
// from it count a quarter. signal (height, width, 3): the whole displacement, flow on top of field
// where there is one, at most `reach` in x and y, times its trust, and the trust. sums (blocks, 2):
// of the trust in vectors longer than `needed`, and in all.
extern "C" __global__ void believe_flow(const float* flow, const float* trusted,
                                        const float* around, const float* field, int has_field,
                                        float lonely, float needed, float reach, int width,
                                        int height, float* signal, float* sums) {
  __shared__ float of_warps[WARPS][2];
  int at = blockIdx.x * BLOCK + threadIdx.x, x = at % width, y = at / width;
  float sum[2] = {};
  if (y < height) {
    float total[2], apart = 0.f, length = 0.f, company = around[3 * at + 2] + 1e-3f;
    for (int k = 0; k < 2; k++) {
      float v = flow[2 * at + k], away = v - around[3 * at + k] / company;
      apart += away * away;
      length += v * v;
      total[k] = v;
    }
    for (int k = 0; has_field && k < 2; k++)
      total[k] += at_point(field + k, width, height, 2, x + flow[2 * at], y + flow[2 * at + 1]);
    float root = 1.f + apart / (lonely * lonely), trust = trusted[3 * at + 2] / (root * root);
    for (int k = 0; k < 2; k++) signal[3 * at + k] = within(total[k], -reach, reach) * trust;
    signal[3 * at + 2] = trust;
    sum[0] = length > needed * needed ? trust : 0.f;
    sum[1] = trust;
  }
  sum_over_block(sum, of_warps);
  if (threadIdx.x < 2) sums[2 * blockIdx.x + threadIdx.x] = threadIdx.x ? sum[1] : sum[0];
}
