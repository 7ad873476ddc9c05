// Binary descriptors, matched by brute force. A set holds the descriptors of one picture:
// descriptors (sets, slots, 8), of which counts[set] are there. pairs (2 P, 2) names query and
// train set of each comparison; its second half holds the first one's pairs the other way round.
#include "common.cuh"

#define QUERIES 64
#define NONE 257  // farther than any

// Blocks of QUERIES threads on a grid (slots / QUERIES, 1, 2 P): the nearest descriptor of each
// query, and the Hamming distances of it and of the nearest whose spot (sets, slots, 3) is more than
// `apart` pixels from its own, NONE where there is none: levels of a pyramid show one corner several
// times. Of equal distances the first one is the nearest.
extern "C" __global__ void hamming_best_two(const unsigned* descriptors, const float* spots,
                                            const int* counts, int slots, const int* pairs,
                                            float apart, int* best, int* distances) {
  __shared__ unsigned tile[QUERIES][8];
  __shared__ float places[QUERIES][2];
  const int* pair = pairs + 2 * blockIdx.z;
  int number = blockIdx.x * QUERIES + threadIdx.x, trains = counts[pair[1]];
  const unsigned* queries = descriptors + (size_t)pair[0] * slots * 8;
  const unsigned* train = descriptors + (size_t)pair[1] * slots * 8;
  const float* spot = spots + (size_t)pair[1] * slots * 3;
  bool is_there = number < counts[pair[0]];
  unsigned query[8];
  for (int k = 0; k < 8; k++) query[k] = is_there ? queries[8 * number + k] : 0u;
  int nearest = 0, first = NONE, second = NONE;
  for (int pass = 0; pass < 2; pass++) {
    int least = NONE;
    float x = spot[3 * nearest], y = spot[3 * nearest + 1];
    for (int base = 0; base < trains; base += QUERIES) {
      int own = base + threadIdx.x;
      for (int k = 0; own < trains && k < 8; k++) tile[threadIdx.x][k] = train[8 * own + k];
      for (int k = 0; own < trains && k < 2; k++) places[threadIdx.x][k] = spot[3 * own + k];
      __syncthreads();
      for (int i = 0; i < min(QUERIES, trains - base); i++) {
        int distance = 0;
        for (int k = 0; k < 8; k++) distance += __popc(query[k] ^ tile[i][k]);
        float dx = places[i][0] - x, dy = places[i][1] - y;
        if (distance >= least || (pass && dx * dx + dy * dy <= apart * apart)) continue;
        least = distance;
        if (!pass) nearest = base + i;
      }
      __syncthreads();
    }
    if (pass) second = least;
    else first = least;
  }
  if (!is_there) return;
  size_t slot = (size_t)blockIdx.z * slots + number;
  best[slot] = nearest;
  distances[2 * slot] = first;
  distances[2 * slot + 1] = second;
}

// One block of BLOCK threads per pair, on a grid (1, 1, P): the spots (sets, slots, 3) of mutually
// nearest descriptors whose distance is below `ratio` times the second's, as matched (P, slots, 4):
// x, y in the query's picture, x, y in the train's. In order; matches counts them.
extern "C" __global__ void mutual_matches(const float* spots, const int* counts, int slots,
                                          const int* pairs, const int* best, const int* distances,
                                          float ratio, float* matched, int* matches) {
  __shared__ int of_warps[WARPS];
  const int* pair = pairs + 2 * blockIdx.z;
  const int* there = best + (size_t)blockIdx.z * slots;
  const int* back = best + (size_t)(gridDim.z + blockIdx.z) * slots;
  const int* distance = distances + 2 * (size_t)blockIdx.z * slots;
  const float* query = spots + 3 * (size_t)pair[0] * slots;
  const float* train = spots + 3 * (size_t)pair[1] * slots;
  int filled = 0, total, queries = counts[pair[1]] < 2 ? 0 : counts[pair[0]];
  for (int base = 0; base < queries; base += BLOCK) {
    int i = base + threadIdx.x;
    bool keep = i < queries && back[there[i]] == i &&
                distance[2 * i] < ratio * distance[2 * i + 1];
    int rank = sum_before(keep, of_warps, &total);
    float* out = matched + 4 * ((size_t)blockIdx.z * slots + filled + rank);
    for (int k = 0; keep && k < 2; k++) {
      out[k] = query[3 * i + k];
      out[2 + k] = train[3 * there[i] + k];
    }
    filled += total;
  }
  if (threadIdx.x == 0) matches[blockIdx.z] = filled;
}
