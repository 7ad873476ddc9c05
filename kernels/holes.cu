// Holes of a plate: what the clean plate never showed takes the colours beside it, as in
// howard/matte/holes.py: found on a small picture, as what is only guessed needs no detail. `reach`
// is in pixels of the small picture. Nothing is searched for where nothing is missing.
#include "common.cuh"

// TILED over the small picture, batched. coverage (N, height, width): solid (N, small_height,
// small_width), 1 where an area average of the coverage is 255 levels of 255.
extern "C" __global__ void find_solid(const u8* coverage, int width, int height, u8* solid,
                                      int small_width, int small_height) {
  int x = pixel_x(), y = pixel_y();
  if (x >= small_width || y >= small_height) return;
  coverage += (size_t)blockIdx.z * width * height;
  float scale_x = (float)width / small_width, left = x * scale_x, right = left + scale_x;
  float scale_y = (float)height / small_height, top = y * scale_y, bottom = top + scale_y;
  float open = 0.f;
  for (int v = __float2int_rd(top); v < bottom && v < height; v++)
    for (int u = __float2int_rd(left); u < right && u < width; u++)
      if (!coverage[(size_t)v * width + u])
        open += (fminf(u + 1, right) - fmaxf(u, left)) * (fminf(v + 1, bottom) - fmaxf(v, top));
  bool all = open * 510.f < scale_x * scale_y;  // less than half a level is missing
  solid[((size_t)blockIdx.z * small_height + y) * small_width + x] = all;
}

// So far is searched: the bilinear blend that is compared with the reach takes in pixels that are
// up to a diagonal further.
__device__ __forceinline__ int searched(float reach) { return __float2int_rd(reach) + 3; }

// TILED over the small picture, batched: rows (N, small_height, small_width), the row of the
// nearest solid pixel in each pixel's column, the upper one of two, -1 where none is near.
extern "C" __global__ void nearest_in_column(const u8* solid, int small_width, int small_height,
                                             float reach, int* rows) {
  int x = pixel_x(), y = pixel_y();
  if (x >= small_width || y >= small_height) return;
  size_t start = (size_t)blockIdx.z * small_width * small_height + x;
  int found = -1, most = min(searched(reach), small_height);
  for (int by = 0; by < most && found < 0; by++) {
    if (y + by < small_height && solid[start + (size_t)(y + by) * small_width]) found = y + by;
    if (y >= by && solid[start + (size_t)(y - by) * small_width]) found = y - by;
  }
  rows[start + (size_t)y * small_width] = found;
}

// TILED over the small picture, batched: the Euclidean distance to the nearest solid pixel, of the
// small picture at `nearest` (y * small_width + x; -1 where none is near, whose distance is what
// was searched). Exact: of each column, only its own nearest pixel can be the nearest.
extern "C" __global__ void nearest_solid(const int* rows, int small_width, int small_height,
                                         float reach, int* nearest, float* distance) {
  int x = pixel_x(), y = pixel_y();
  if (x >= small_width || y >= small_height) return;
  size_t start = (size_t)blockIdx.z * small_width * small_height;
  int most = searched(reach), best = most * most, found = -1;
  for (int by = 0; by < small_width && by * by < best; by++)
    for (int side = -1; side <= 1; side += 2) {
      int u = x + side * by, row = u < 0 || u >= small_width ? -1 : rows[start + y * small_width + u];
      int squared = by * by + (row - y) * (row - y);
      if (row >= 0 && squared < best) best = squared, found = row * small_width + u;
    }
  size_t at = start + (size_t)y * small_width + x;
  nearest[at] = found;
  distance[at] = sqrtf((float)best);
}

// TILED, batched. plate (N, height, width, 3), coverage (N, height, width), small (N, small_height,
// small_width, 3), the plate's area average: filled is the plate with the colours of the nearest
// solid pixels in its holes, up to the reach, blended bilinearly; seen (N, height, width, 2), levels
// 0 or 255: where it was covered, and where it was covered or is filled.
extern "C" __global__ void fill_holes(const u8* plate, const u8* coverage, int width, int height,
                                      const u8* small, const int* nearest, const float* distance,
                                      int small_width, int small_height, float reach, u8* filled,
                                      u8* seen) {
  int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  size_t at = ((size_t)blockIdx.z * height + y) * width + x;
  size_t start = (size_t)blockIdx.z * small_width * small_height;
  bool covered = coverage[at], reached = covered;
  for (int c = 0; c < 3; c++) filled[3 * at + c] = plate[3 * at + c];
  if (!covered) {
    float at_x = (x + 0.5f) * ((float)small_width / width) - 0.5f;
    float at_y = (y + 0.5f) * ((float)small_height / height) - 0.5f;
    int left = __float2int_rd(at_x), top = __float2int_rd(at_y);
    float along = at_x - left, down = at_y - top, far = 0.f, colour[3] = {};
    for (int corner = 0; corner < 4; corner++) {
      int u = clamped(left + corner % 2, small_width), v = clamped(top + corner / 2, small_height);
      float weight = (corner % 2 ? along : 1.f - along) * (corner / 2 ? down : 1.f - down);
      size_t of = start + (size_t)v * small_width + u;
      far += weight * distance[of];
      if (nearest[of] < 0) continue;
      for (int c = 0; c < 3; c++) colour[c] += weight * small[3 * (start + nearest[of]) + c];
    }
    reached = far <= reach;
    if (reached)
      for (int c = 0; c < 3; c++) filled[3 * at + c] = to_level(colour[c]);
  }
  seen[2 * at] = covered ? 255 : 0;
  seen[2 * at + 1] = reached ? 255 : 0;
}
