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
  InView p = in_view(x, y, width, height, view_width, view_height);
  float share = most * upsampled(likeness, 1, 0, p);
  float u = x + upsampled(flow, 2, 0, p) * ((float)width / view_width);
  float v = y + upsampled(flow, 2, 1, p) * ((float)height / view_height);
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
