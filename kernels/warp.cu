// Plates, warped onto frames: exact bilinear samples, where all the pixels that they draw on exist.
// plate_from_frame (N, 9) maps pixels of a frame to those of its plate, both at full size; w > 0
// in front of the camera.
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

// False outside of the picture.
__device__ __forceinline__ bool find_corners(float u, float v, int width, int height, Corners* out) {
  if (!(u >= 0.f && v >= 0.f && u <= width - 1 && v <= height - 1)) return false;
  int left = (int)u, top = (int)v, right = min(left + 1, width - 1);
  size_t above = (size_t)top * width, below = (size_t)min(top + 1, height - 1) * width;
  *out = {{above + left, above + right, below + left, below + right}, u - left, v - top};
  return true;
}

__device__ __forceinline__ float blend(const Corners& c, float a, float b, float d, float e) {
  float above = a + (b - a) * c.along, below = d + (e - d) * c.along;
  return above + (below - above) * c.down;
}

// TILED over the frame, batched. plates (pool, plate_height, plate_width, 3); chosen (N) names the
// plate of each frame; light (N, 3, 2) is the gain and bias of each channel, which clip as levels
// do. warped (N, H, W, 3) is 0 where coverage (N, H, W) is 0. Adds to covered (N) the number of
// pixels where it is 1.
extern "C" __global__ void warp_plates(const u8* plates, int plate_width, int plate_height,
                                       const int* chosen, const float* plate_from_frame,
                                       const float* light, int frame_width, int frame_height,
                                       u8* warped, u8* coverage, int* covered) {
  int x = pixel_x(), y = pixel_y(), n = blockIdx.z;
  bool inside = x < frame_width && y < frame_height, has_data = false;
  if (inside) {
    size_t at = (size_t)n * frame_width * frame_height + y * frame_width + x;
    const u8* plate = plates + (size_t)chosen[n] * plate_width * plate_height * 3;
    float u, v;
    Corners corners;
    has_data = locate(plate_from_frame + 9 * n, x, y, &u, &v) &&
               find_corners(u, v, plate_width, plate_height, &corners);
    for (int c = 0; c < 3; c++) {
      float gain = light[6 * n + 2 * c], bias = light[6 * n + 2 * c + 1], levels[4];
      for (int k = 0; has_data && k < 4; k++)
        levels[k] = within(plate[3 * corners.at[k] + c] * gain + bias, 0.f, 255.f);
      warped[3 * at + c] =
          has_data ? to_level(blend(corners, levels[0], levels[1], levels[2], levels[3])) : 0;
    }
    coverage[at] = has_data;
  }
  unsigned votes = __ballot_sync(FULL_WARP, has_data);
  if (threadIdx.x == 0 && votes) atomicAdd(covered + n, __popc(votes));
}

// TILED over the small frame, batched: the same between small pictures of plates (pool, ...) and
// frames, for comparing them; warped (N, height, width, 3) stays in floats, covered (N, height,
// width) is 1 where there is data. The sizes of the full pictures tell how much smaller they are.
extern "C" __global__ void warp_probes(const u8* probes, int probe_width, int probe_height,
                                       int plate_width, int plate_height, const int* chosen,
                                       const float* plate_from_frame, int width, int height,
                                       int frame_width, int frame_height, float* warped,
                                       u8* covered) {
  int x = pixel_x(), y = pixel_y(), n = blockIdx.z;
  if (x >= width || y >= height) return;
  const u8* probe = probes + (size_t)chosen[n] * probe_width * probe_height * 3;
  size_t at = (size_t)n * width * height + y * width + x;
  float full_x = (x + 0.5f) * ((float)frame_width / width) - 0.5f;
  float full_y = (y + 0.5f) * ((float)frame_height / height) - 0.5f;
  float u, v;
  bool has_data = locate(plate_from_frame + 9 * n, full_x, full_y, &u, &v);
  u = (u + 0.5f) * ((float)probe_width / plate_width) - 0.5f;
  v = (v + 0.5f) * ((float)probe_height / plate_height) - 0.5f;
  Corners corners;
  has_data = has_data && find_corners(u, v, probe_width, probe_height, &corners);
  for (int c = 0; c < 3; c++) {
    float levels[4];
    for (int k = 0; has_data && k < 4; k++) levels[k] = probe[3 * corners.at[k] + c];
    warped[3 * at + c] =
        has_data ? blend(corners, levels[0], levels[1], levels[2], levels[3]) : 0.f;
  }
  covered[at] = has_data;
}
