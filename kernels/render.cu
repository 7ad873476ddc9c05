// The plate at full resolution, in one resampling; the arithmetic of howard/align/render.py. A
// field of displacements, a gain and the weight of a layer come at the size of the view, and are
// bilinear in between, their edges repeated.
#include "common.cuh"

#define EDGE 0.05f  // pixels by which a sample may miss the plate: what alignments err by

// A level of the plate in another light, as a table of 256 levels has it.
__device__ __forceinline__ float relit(u8 level, float gain, float bias) {
  return to_level(level * gain + bias);
}

// TILED over the frame. pixels (frame_height, frame_width, 3): the plate (plate_height,
// plate_width, 3), each of its channels in its light, gain and bias (3, 2), at plate_from_frame (9)
// of x + field (field_height, field_width, 2, in its own pixels), times gain (gain_height,
// gain_width, 3); there is no field and no gain where their widths are 0. coverage (frame_height,
// frame_width) is 1 where all plate pixels exist that a sample draws on, but for EDGE; elsewhere
// pixels are 0.
// Adds to `covered` how many are covered.
extern "C" __global__ void draw_plate(const u8* plate, int plate_width, int plate_height,
                                      const float* plate_from_frame, const float* light,
                                      const float* field, int field_width, int field_height,
                                      const float* gain, int gain_width, int gain_height,
                                      int frame_width, int frame_height, u8* pixels, u8* coverage,
                                      int* covered) {
  int x = pixel_x(), y = pixel_y();
  bool has_data = false;
  if (x < frame_width && y < frame_height) {
    float at_x = x, at_y = y;
    if (field_width > 0) {
      InView p = in_view(x, y, frame_width, frame_height, field_width, field_height);
      at_x += upsampled(field, 2, 0, p) * ((float)frame_width / field_width);
      at_y += upsampled(field, 2, 1, p) * ((float)frame_height / field_height);
    }
    const float* h = plate_from_frame;
    float w = h[6] * at_x + h[7] * at_y + h[8];
    float u = (h[0] * at_x + h[1] * at_y + h[2]) / w;
    float v = (h[3] * at_x + h[4] * at_y + h[5]) / w;
    float last_u = plate_width - 1, last_v = plate_height - 1;
    has_data = w > 0.f && u >= -EDGE && v >= -EDGE && u <= last_u + EDGE && v <= last_v + EDGE;
    u = fminf(fmaxf(u, 0.f), last_u), v = fminf(fmaxf(v, 0.f), last_v);
    size_t at = (size_t)y * frame_width + x;
    coverage[at] = has_data;
    int left = has_data ? (int)u : 0, top = has_data ? (int)v : 0;
    int right = min(left + 1, plate_width - 1), bottom = min(top + 1, plate_height - 1);
    const u8 *above = plate + (size_t)top * plate_width * 3,
             *below = plate + (size_t)bottom * plate_width * 3;
    InView p = {};
    if (gain_width > 0) p = in_view(x, y, frame_width, frame_height, gain_width, gain_height);
    for (int c = 0; c < 3; c++) {
      float k = light[2 * c], b = light[2 * c + 1], level = 0.f;
      if (has_data)
        level = to_level(mixed(relit(above[3 * left + c], k, b), relit(above[3 * right + c], k, b),
                               relit(below[3 * left + c], k, b), relit(below[3 * right + c], k, b),
                               u - left, v - top));
      pixels[3 * at + c] = to_level(gain_width > 0 ? level * upsampled(gain, 3, c, p) : level);
    }
  }
  unsigned votes = __ballot_sync(FULL_WARP, has_data);
  if (threadIdx.x == 0 && votes) atomicAdd(covered, __popc(votes));
}

// TILED: blends another layer, above (height, width, 3) and above_coverage (height, width), over
// pixels and coverage in place, by weight (weight_height, weight_width) where both have data, and
// wholly where only it has. Adds to `covered` how many pixels that covers anew.
extern "C" __global__ void lay_over(const u8* above, const u8* above_coverage, const float* weight,
                                    int weight_width, int weight_height, int width, int height,
                                    u8* pixels, u8* coverage, int* covered) {
  int x = pixel_x(), y = pixel_y();
  bool is_new = false;
  if (x < width && y < height) {
    size_t at = (size_t)y * width + x;
    is_new = above_coverage[at] && !coverage[at];
    InView p = in_view(x, y, width, height, weight_width, weight_height);
    float share = is_new ? 1.f : above_coverage[at] * upsampled(weight, 1, 0, p);
    for (int c = 0; c < 3; c++) {
      float below = pixels[3 * at + c];
      pixels[3 * at + c] = to_level(below + (above[3 * at + c] - below) * share);
    }
    coverage[at] = coverage[at] | above_coverage[at];
  }
  unsigned votes = __ballot_sync(FULL_WARP, is_new);
  if (threadIdx.x == 0 && votes) atomicAdd(covered, __popc(votes));
}
