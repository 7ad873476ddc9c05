// Alpha drawn to what the same surface had in the frame before: what howard/matte/steady.py does.
// Views are small pictures (view_height, view_width); flow (view_height, view_width, 2) says how far
// from x of the frame's view its place in the one before is.
#include "common.cuh"

// TILED over a view: how surely each pixel of colour (height, width, 3) is of the surface in moved,
// the colour before at x + flow; in [0, 1].
extern "C" __global__ void tell_likeness(const u8* colour, const u8* moved, const float* flow,
                                         int width, int height, float levels, float* likeness) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  int sum = 0, at = y * width + x;
  for (int v = y - 1; v <= y + 1; v++)
    for (int u = x - 1; u <= x + 1; u++) {
      int near = 3 * (mirrored(v, height) * width + mirrored(u, width)), most = 0;
      for (int c = 0; c < 3; c++) most = max(most, abs((int)colour[near + c] - moved[near + c]));
      sum += most;
    }
  float u = x + flow[2 * at], v = y + flow[2 * at + 1], off = sum / 9.f / levels;
  bool is_inside = u >= 0.f && v >= 0.f && u <= width - 1 && v <= height - 1;
  likeness[at] = is_inside ? expf(-(off * off)) : 0.f;
}

// Where a pixel of a frame lies in its view, and by how much towards the next pixel there.
struct Place {
  int first, next;
  float along;
};
__device__ __forceinline__ Place in_view(int x, int size, int view_size) {
  float at = (x + 0.5f) * ((float)view_size / size) - 0.5f;
  int first = __float2int_rd(at);
  return {clamped(first, view_size), clamped(first + 1, view_size), at - first};
}

// One channel of a small picture there, bilinear.
__device__ __forceinline__ float enlarged(const float* picture, int channels, int width, Place x,
                                          Place y) {
  const float* above = picture + (size_t)y.first * width * channels;
  const float* below = picture + (size_t)y.next * width * channels;
  int left = x.first * channels, right = x.next * channels;
  float a = above[left] + (above[right] - above[left]) * x.along;
  float b = below[left] + (below[right] - below[left]) * x.along;
  return a + (b - a) * y.along;
}

// Weight of a sample `off` pixels away, up to 2: OpenCV's cubic.
__device__ __forceinline__ float cubic(float off) {
  off = fabsf(off);
  if (off <= 1.f) return (1.25f * off - 2.25f) * off * off + 1.f;
  return ((-0.75f * off + 3.75f) * off - 6.f) * off + 3.f;
}

// TILED over a frame (height, width), of which alpha, before and drawn hold the top left part, rows
// of padded_width halves: alpha drawn to what was before by a share of at most `most`, and of the part
// `sure` of that where alpha is 0 or 1.
extern "C" __global__ void draw_alpha(const u16* alpha, const u16* before, int padded_width,
                                      const float* flow, const float* likeness, int view_width,
                                      int view_height, float most, float sure, int width,
                                      int height, u16* drawn) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  Place column = in_view(x, width, view_width), row = in_view(y, height, view_height);
  float share = most * enlarged(likeness, 1, view_width, column, row);
  float u = x + enlarged(flow, 2, view_width, column, row) * ((float)width / view_width);
  float v = y + enlarged(flow + 1, 2, view_width, column, row) * ((float)height / view_height);
  u = within(u, -2.f, width + 1.f);
  v = within(v, -2.f, height + 1.f);
  int left = __float2int_rd(u), top = __float2int_rd(v);
  float was = 0.f;
  for (int j = -1; j < 3; j++) {
    const u16* line = before + (size_t)clamped(top + j, height) * padded_width;
    float sum = 0.f;
    for (int i = -1; i < 3; i++)
      sum += cubic(u - (left + i)) * float_from_half(line[clamped(left + i, width)]);
    was += cubic(v - (top + j)) * sum;
  }
  size_t at = (size_t)y * padded_width + x;
  float now = float_from_half(alpha[at]);
  share *= sure + (1.f - sure) * fminf(8.f * now * (1.f - now), 1.f);
  drawn[at] = half_from_float(within(now + share * (was - now), 0.f, 1.f));
}
