"""A NumPy twin of every CUDA kernel: the same name, the same arguments in the same order.

Like the kernels, the twins write into their output arrays. Batches are arrays with one more axis.
Where a kernel's arithmetic is in floats and its result is discrete, the twin computes in float32 in
the same order, so that they can be compared exactly; elsewhere it is written the plain way.
"""

from __future__ import annotations

import itertools

import numpy as np

from howard.align.geometry import project
from howard.align.light import gain_and_bias

F = np.float32


def to_levels(values):
    """Rounded to levels of 255, clipped; NaN counts as 0."""
    return np.rint(np.fmin(np.fmax(values, 0), 255)).astype(np.uint8)


def blended(source, at_x, at_y):
    """source (H, W, C) at the grid of columns at_x and rows at_y, bilinear, edges repeated."""
    height, width = source.shape[:2]
    at_x, at_y = np.asarray(at_x, F), np.asarray(at_y, F)
    left, top = np.floor(at_x).astype(int), np.floor(at_y).astype(int)
    along, down = (at_x - left.astype(F))[:, None], (at_y - top.astype(F))[:, None, None]
    x0, x1 = left.clip(0, width - 1), (left + 1).clip(0, width - 1)
    y0, y1 = top.clip(0, height - 1), (top + 1).clip(0, height - 1)
    source = source.astype(F)
    above = source[y0][:, x0] + (source[y0][:, x1] - source[y0][:, x0]) * along
    below = source[y1][:, x0] + (source[y1][:, x1] - source[y1][:, x0]) * along
    return above + (below - above) * down


# color.cu


def matrix_from(kr, kb, is_full):
    """(3, 4) float32 from (Y, Cb, Cr, 1) in levels of 255 to RGB: ITU-T H.273, section 8.3."""
    kg = 1 - kr - kb
    weights = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    offset, scale = (0, [1, 1, 1]) if is_full else (16, [255 / 219, 255 / 224, 255 / 224])
    weights = weights * scale
    return np.column_stack([weights, -weights @ [offset, 128, 128]]).astype(F)


def upright(picture, pose):
    """A picture (H, W, C) turned: 1 swaps the axes, then 2 mirrors x and 4 mirrors y."""
    picture = picture.transpose(1, 0, 2) if pose & 1 else picture
    return picture[:: -1 if pose & 4 else 1, :: -1 if pose & 2 else 1]


def rgb_of(matrix, y, cb, cr):
    m = matrix.reshape(3, 4)
    return to_levels(m[:, 0] * y + m[:, 1] * cb + m[:, 2] * cr + m[:, 3])


def rgb_from_planes(luma, chroma, width, height, site_x, site_y, scale, matrix, pose):
    columns, rows = (width + 1) // 2, (height + 1) // 2
    samples = chroma[:rows, : 2 * columns].reshape(rows, columns, 2)
    at_x, at_y = (np.arange(width) - site_x) * F(0.5), (np.arange(height) - site_y) * F(0.5)
    both = blended(samples, at_x, at_y) * F(scale)
    y = luma[:height, :width, None].astype(F) * F(scale)
    return upright(rgb_of(matrix, y, both[..., :1], both[..., 1:]), pose)


def nv12_to_rgb(
    luma, luma_pitch, chroma, chroma_pitch, width, height, site_x, site_y, matrix, pose, rgb
):
    rgb[:] = rgb_from_planes(luma, chroma, width, height, site_x, site_y, 1, matrix, pose)


def p010_to_rgb(
    luma, luma_pitch, chroma, chroma_pitch, width, height, site_x, site_y, matrix, pose, rgb
):
    rgb[:] = rgb_from_planes(luma, chroma, width, height, site_x, site_y, 1 / 256, matrix, pose)


def ycbcr_to_rgb(ycbcr, width, height, is_left, matrix, pose, rgb):
    for picture, out in zip(ycbcr.astype(F), rgb, strict=True):
        chroma = picture[..., 1:]
        if is_left:
            at = np.arange(width)
            left, right, far = (chroma[:, np.clip(at + d, 0, width - 1)] for d in (-1, 1, 2))
            near = chroma + right
            on_sample = near * F(0.75) - (left + far) * F(0.25)
            chroma = np.where(at[:, None] % 2, near * F(0.5), on_sample)
        out[:] = upright(rgb_of(matrix, picture[..., :1], chroma[..., :1], chroma[..., 1:]), pose)


def luma_from_rgb(rgb, width, height, luma):
    luma[:] = (rgb.astype(int) @ [9798, 19235, 3735] + (1 << 14)) >> 15


# resize.cu


def overlaps(size, padded, target):
    """(target, size): the share of each source pixel in each target pixel, by area."""
    edges = np.arange(target + 1) * (padded / target)
    at = np.arange(padded)
    shares = np.minimum(at + 1, edges[1:, None]) - np.maximum(at, edges[:-1, None])
    shares = shares.clip(0) / (padded / target)
    folded = shares[:, :size].copy()
    folded[:, -1] += shares[:, size:].sum(1)
    return folded


def resize_area(
    source,
    width,
    height,
    padded_width,
    padded_height,
    channels,
    target,
    target_width,
    target_height,
):
    rows = overlaps(height, padded_height, target_height)
    columns = overlaps(width, padded_width, target_width)
    target[:] = to_levels(np.einsum("yv,xu,nvuc->nyxc", rows, columns, source, optimize=True))


def resize_linear(
    source,
    width,
    height,
    padded_width,
    padded_height,
    channels,
    target,
    target_width,
    target_height,
):
    scale_x, scale_y = F(padded_width) / F(target_width), F(padded_height) / F(target_height)
    at_x = (np.arange(target_width, dtype=F) + F(0.5)) * scale_x - F(0.5)
    at_y = (np.arange(target_height, dtype=F) + F(0.5)) * scale_y - F(0.5)
    for picture, out in zip(source, target, strict=True):
        out[:] = to_levels(blended(picture, at_x, at_y))


def blur(source, width, height, channels, weights, radius, target):
    around = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    padded = np.pad(source.astype(float), around, "reflect")
    lines = sum(w * padded[:, :, k : k + width] for k, w in enumerate(weights))
    target[:] = to_levels(sum(w * lines[:, k : k + height] for k, w in enumerate(weights)))


# detect.cu


def windowed(values, radius):
    """Sums over squares of (2 radius + 1) pixels, of (N, H + 2 radius, W + 2 radius)."""
    side = 2 * radius + 1
    return np.lib.stride_tricks.sliding_window_view(values, (side, side), (1, 2)).sum((-1, -2))


def corner_score(luma, width, height, margin, score):
    levels = np.pad(luma.astype(np.int64), ((0, 0), (3, 3), (3, 3)), "edge")
    tall = levels[:, :-2] + 2 * levels[:, 1:-1] + levels[:, 2:]
    wide = levels[..., :-2] + 2 * levels[..., 1:-1] + levels[..., 2:]
    gx, gy = tall[..., 2:] - tall[..., :-2], wide[:, 2:] - wide[:, :-2]
    xx, yy, xy = (windowed(v, 2) for v in (gx * gx, gy * gy, gx * gy))
    unit = F(1) / (F(64) * F(25))
    mean, half = (xx + yy).astype(F) * (F(0.5) * unit), (xx - yy).astype(F) * (F(0.5) * unit)
    both = xy.astype(F) * unit
    score[:] = 0
    inner = np.s_[:, margin : height - margin, margin : width - margin]
    score[inner] = np.fmax(mean - np.sqrt(half * half + both * both), 0)[inner]


def is_highest(score, apart):
    """(H, W), where a score exceeds those around it; the first of equal ones wins."""
    height, width = score.shape
    padded = np.pad(score, apart)
    out = np.ones(score.shape, bool)
    for j, i in itertools.product(range(2 * apart + 1), repeat=2):
        other = padded[j : j + height, i : i + width]
        out &= score > other if (j, i) < (apart, apart) else score >= other
    return out


def peak(before, at, after):
    bend = before - F(2) * at + after
    return np.clip(F(0.5) * (before - after) / bend, -0.5, 0.5) if bend < 0 else F(0)


def strongest_per_cell(
    score, width, height, least, per_cell, scale_x, scale_y, first, slots, spots
):
    cells = [(y, x) for y in range(0, height, 32) for x in range(0, width, 32)]
    for image, out in zip(score, spots, strict=True):
        kept = np.where(is_highest(image, 2) & (image > least), image, 0)
        around = np.pad(image, 1)
        out[first : first + len(cells) * per_cell] = 0
        for number, (top, left) in enumerate(cells):
            cell = kept[top : top + 32, left : left + 32]
            order = np.argsort(-cell, axis=None, kind="stable")[:per_cell]
            for rank, at in enumerate(order[cell.ravel()[order] > 0]):
                y, x = np.unravel_index(at, cell.shape) + np.array([top, left])
                _, (left_score, here, right_score), _ = around[y : y + 3, x : x + 3]
                full_x = F(x) + peak(left_score, here, right_score)
                full_y = F(y) + peak(around[y, x + 1], here, around[y + 2, x + 1])
                spot = (full_x + F(0.5)) * scale_x - F(0.5), (full_y + F(0.5)) * scale_y - F(0.5)
                out[first + number * per_cell + rank] = *spot, here


def compact_keypoints(
    spots,
    descriptors,
    slots,
    person,
    person_count,
    most,
    columns,
    rows,
    frame_width,
    frame_height,
    fewest,
    kept,
    packed,
    counts,
):
    for n, image in enumerate(spots):
        there = image[:, 2] > 0
        x = ((image[:, 0] + F(0.5)) * F(columns) / F(frame_width)).astype(int).clip(0, columns - 1)
        y = ((image[:, 1] + F(0.5)) * F(rows) / F(frame_height)).astype(int).clip(0, rows - 1)
        beside = there & (person[y, x] == 0)
        keep = beside if person_count[0] < most and beside.sum() >= fewest else there
        counts[n] = keep.sum()
        kept[n] = 0
        kept[n, : counts[n]] = image[keep]
        packed[n, : counts[n]] = descriptors[n, keep]


# describe.cu


def scattered(counter):
    """A random number of 32 bits; multiplication and xor, as in common.cuh."""
    v = (counter + 1) * 0x9E3779B9 & 0xFFFFFFFF
    v = (v ^ v >> 15) * 0x85EBCA6B & 0xFFFFFFFF
    v = (v ^ v >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return v ^ v >> 16


def brief_pattern(pattern):
    for row in range(256):
        for attempt in itertools.count():
            bits = [scattered((row << 16) + 4 * attempt + i) for i in range(4)]
            p = [sum((b >> d & 255) * 11 >> 8 for d in (0, 8, 16, 24)) - 20 for b in bits]
            ends = np.array(p).reshape(2, 2)
            if (np.hypot(*ends.T) <= 13).all() and np.hypot(*(ends[0] - ends[1])) >= 3:
                pattern[row] = p
                break


def pixel_of(full, scale):
    return int(np.rint((full + F(0.5)) / scale - F(0.5)))


def orient(luma, width, height, scale_x, scale_y, spots, first, count, slots, directions):
    v, u = np.mgrid[-15:16, -15:16]
    disc = u * u + v * v <= 240
    for n, image in enumerate(luma.astype(int)):
        for slot in range(first, first + count):
            spot = spots[n, slot]
            if spot[2] <= 0:
                continue
            x, y = pixel_of(spot[0], scale_x), pixel_of(spot[1], scale_y)
            patch = image[y - 15 : y + 16, x - 15 : x + 16] * disc
            across, down = F((u * patch).sum()), F((v * patch).sum())
            length = np.sqrt(across * across + down * down)
            directions[n, slot] = (across / length, down / length) if length > 0 else (1, 0)


def describe(
    blurred,
    width,
    height,
    scale_x,
    scale_y,
    pattern,
    spots,
    directions,
    first,
    count,
    slots,
    descriptors,
):
    px, py = pattern.reshape(256, 2, 2).astype(F).transpose(2, 0, 1)
    for n, image in enumerate(blurred):
        for slot in range(first, first + count):
            spot = spots[n, slot]
            if spot[2] <= 0:
                continue
            x, y = pixel_of(spot[0], scale_x), pixel_of(spot[1], scale_y)
            cosine, sine = directions[n, slot]
            u = np.rint(cosine * px - sine * py).astype(int)
            v = np.rint(sine * px + cosine * py).astype(int)
            levels = image[y + v, x + u]
            bits = np.packbits(levels[:, 0] < levels[:, 1], bitorder="little")
            descriptors[n, slot] = bits.view(np.uint32)


# match.cu


def hamming_best_two(descriptors, spots, counts, slots, pairs, apart, best, distances):
    bits = np.unpackbits(descriptors.view(np.uint8), axis=-1).astype(F)
    for row, (query, train) in enumerate(pairs):
        a, b = bits[query, : counts[query]], bits[train, : counts[train]]
        far = np.full((len(a), counts[train] + 1), 257)  # one that is farther than any
        far[:, : len(b)] = a @ (1 - b).T + (1 - a) @ b.T
        best[row, : len(a)] = nearest = far.argmin(1) if len(b) else 0
        distances[row, : len(a), 0] = far.min(1)
        x, y = spots[train, : counts[train], :2].T
        near = (x - x[:, None]) ** 2 + (y - y[:, None]) ** 2 <= apart * apart
        if len(b):
            far[:, : len(b)][near[nearest]] = 257
        distances[row, : len(a), 1] = far.min(1)


def mutual_matches(spots, counts, slots, pairs, best, distances, ratio, matched, matches):
    for pair in range(len(matches)):
        query, train = pairs[pair]
        rows = np.arange(counts[query] if counts[train] >= 2 else 0)
        there, back = best[pair, rows], best[len(matches) + pair]
        first, second = distances[pair, rows].T.astype(F)
        rows = rows[(back[there] == rows) & (first < ratio * second)]
        found = np.hstack([spots[query, rows, :2], spots[train, best[pair, rows], :2]])
        matched[pair, : len(found)] = found
        matches[pair] = len(found)


# homography.cu


def from_four(plate, frame):
    """The homography through four points, by eight linear equations; None if there is none."""
    rows = []
    for (x, y), (u, v) in zip(plate, frame, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return np.append(np.linalg.solve(np.array(rows), frame.ravel()), 1)


def areas(points):
    """Twice the signed area of the triangles that four points leave without one of them."""
    a, b, c = (np.roll(points, -k, axis=0) for k in (1, 2, 3))
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


def sample_homographies(matched, counts, slots, trials, seed, least_area, homographies):
    homographies[:] = 0
    for pair, trial in itertools.product(range(len(counts)), range(trials)):
        for attempt in range(8 if counts[pair] >= 4 else 0):
            counter = int(seed) + 4 * (8 * trial + attempt)
            four = matched[pair, [scattered(counter + i) % int(counts[pair]) for i in range(4)]]
            plate, frame = four[:, :2].astype(float), four[:, 2:].astype(float)
            a, b = areas(plate), areas(frame)
            if min(abs(a).min(), abs(b).min()) >= least_area and (a * b > 0).all():
                homographies[pair, trial] = from_four(plate, frame)
                break


def errors(homography, match):
    """(K,) distances in the frame; huge behind the camera."""
    h = homography.reshape(3, 3)
    w = match[:, :2] @ h[2, :2] + h[2, 2]
    apart = np.hypot(*(project(h, match[:, :2]) - match[:, 2:]).T)
    return np.where(w > 0, apart, 1e30)


def gains(homography, match, threshold):
    return (1 - np.minimum(errors(homography, match) / threshold, 1)) ** 2


def score_homographies(matched, counts, slots, homographies, trials, threshold, scores):
    for pair, trial in itertools.product(range(len(counts)), range(trials)):
        h = homographies[pair, trial]
        scores[pair, trial] = (
            gains(h, matched[pair, : counts[pair]], threshold).sum() if any(h) else 0
        )


def normaliser(width, height):
    scale = 2 / max(width, height)
    x, y = -scale * (width - 1) / 2, -scale * (height - 1) / 2
    return np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]])


def gauss_newton(h, plate, frame, threshold):
    """One step of reweighted least squares; h (9,) with last entry 1."""
    s = plate @ h[6:8] + 1
    u = (np.column_stack([plate, np.ones(len(plate))]) @ h[:6].reshape(2, 3).T) / s[:, None]
    left = frame - u
    share = np.hypot(*left.T) / threshold
    weight = np.where((share < 1) & (s > 0), 1 / np.maximum(share, 0.1) - 1, 0)
    terms = np.column_stack([plate, np.ones(len(plate))]) / s[:, None]
    jacobian = np.zeros((2, len(plate), 8))
    for axis in range(2):
        jacobian[axis, :, 3 * axis : 3 * axis + 3] = terms
        jacobian[axis, :, 6:] = -u[:, axis, None] * terms[:, :2]
    normal = np.einsum("aki,k,akj->ij", jacobian, weight, jacobian) + 1e-9 * np.eye(8)
    right = np.einsum("aki,k,ka->i", jacobian, weight, left)
    return h + np.append(np.linalg.solve(normal, right), 0)


def refine_homography(
    matched,
    counts,
    slots,
    homographies,
    scores,
    trials,
    threshold,
    rounds,
    plate_width,
    plate_height,
    frame_width,
    frame_height,
    frame_from_plate,
    plate_from_frame,
    verdicts,
):
    to_plate, to_frame = (
        normaliser(plate_width, plate_height),
        normaliser(frame_width, frame_height),
    )
    frame_from_plate[:], plate_from_frame[:], verdicts[:] = 0, 0, 0
    for pair, count in enumerate(counts):
        match = matched[pair, :count].astype(float)
        start = homographies[pair, scores[pair].argmax()]
        if count < 4 or scores[pair].max() <= 0:
            continue
        h = (to_frame @ start.reshape(3, 3) @ np.linalg.inv(to_plate)).ravel()
        h = h / h[8]
        plate, frame = project(to_plate, match[:, :2]), project(to_frame, match[:, 2:])
        for _ in range(rounds):
            h = gauss_newton(h, plate, frame, threshold * to_frame[0, 0])
        refined = (np.linalg.inv(to_frame) @ h.reshape(3, 3) @ to_plate).ravel()
        chosen = max(refined / refined[8], start, key=lambda m: gains(m, match, threshold).sum())
        inverse = np.linalg.inv(chosen.reshape(3, 3))
        w = inverse[2] @ [(frame_width - 1) / 2, (frame_height - 1) / 2, 1]
        frame_from_plate[pair], plate_from_frame[pair] = chosen, inverse.ravel() / w
        inliers = (errors(chosen, match) < threshold).sum()
        verdicts[pair] = gains(chosen, match, threshold).sum(), inliers


# warp.cu


def mapped(homography, x, y):
    """float32, in the kernels' order: columns x, rows y -> u, v, w (H, W)."""
    h, x, y = homography.astype(F), np.asarray(x, F)[None, :], np.asarray(y, F)[:, None]
    w = h[6] * x + h[7] * y + h[8]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w, w


def sampled(levels, u, v, has_data):
    """levels (H, W, 3) float32 at points u, v; 0 without data."""
    height, width = levels.shape[:2]
    u, v = np.where(has_data, u, F(0)), np.where(has_data, v, F(0))
    left, top = u.astype(int), v.astype(int)
    along, down = (u - left.astype(F))[..., None], (v - top.astype(F))[..., None]
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    above = levels[top, left] + (levels[top, right] - levels[top, left]) * along
    below = levels[bottom, left] + (levels[bottom, right] - levels[bottom, left]) * along
    return np.where(has_data[..., None], above + (below - above) * down, F(0))


def is_inside(u, v, width, height):
    """But for a 512th of a pixel."""
    beside = F(1 / 512)
    along = (u >= -beside) & (u <= width - 1 + beside)
    return along & (v >= -beside) & (v <= height - 1 + beside)


def mapped_reduced(homography, small, frame, plate, small_plate):
    """The same between small pictures; all sizes (width, height)."""
    half = F(0.5)
    x = (np.arange(small[0], dtype=F) + half) * (F(frame[0]) / F(small[0])) - half
    y = (np.arange(small[1], dtype=F) + half) * (F(frame[1]) / F(small[1])) - half
    u, v, w = mapped(homography, x, y)
    u = (u + half) * (F(small_plate[0]) / F(plate[0])) - half
    v = (v + half) * (F(small_plate[1]) / F(plate[1])) - half
    return u, v, w


def sampled_with_border(levels, u, v, is_ahead):
    """levels (H, W) at points u, v; they are 0 all around."""
    height, width = levels.shape
    near = is_ahead & (u > -1) & (v > -1) & (u < width) & (v < height)
    u, v = np.where(near, u, F(0)), np.where(near, v, F(0))
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    along, down = u - left.astype(F), v - top.astype(F)
    a, b, d, e = (
        np.pad(levels.astype(F), 1)[top + 1 + j, left + 1 + i] for j in (0, 1) for i in (0, 1)
    )
    above, below = a + (b - a) * along, d + (e - d) * along
    return np.where(near, above + (below - above) * down, F(0))


def mean_of_nine(levels):
    """(H, W) int: rounded means of 3 x 3 levels, mirrored at the edges."""
    around = np.pad(levels.astype(int), 1, "reflect")[None]
    return (windowed(around, 1)[0] + 4) // 9


def warp_probes(
    probes,
    probe_width,
    probe_height,
    plate_width,
    plate_height,
    plate_from_frame,
    width,
    height,
    frame_width,
    frame_height,
    warped,
    covered,
):
    sizes = (width, height), (frame_width, frame_height), (plate_width, plate_height)
    for n, homography in enumerate(plate_from_frame):
        u, v, w = mapped_reduced(homography, *sizes, (probe_width, probe_height))
        covered[n] = (w > 0) & is_inside(u, v, probe_width, probe_height)
        u, v = (x.clip(0, F(most - 1)) for x, most in ((u, probe_width), (v, probe_height)))
        warped[n] = sampled(probes[n].astype(F), u, v, covered[n] > 0)


def judge_textures(
    frame,
    textures,
    texture_width,
    texture_height,
    plate_width,
    plate_height,
    plate_from_frame,
    width,
    height,
    frame_width,
    frame_height,
    person,
    person_count,
    most,
    columns,
    rows,
    sums,
):
    sizes = (width, height), (frame_width, frame_height), (plate_width, plate_height)
    at = np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width
    beside = (person[at] == 0) | (person_count[0] >= most)
    for n, homography in enumerate(plate_from_frame):
        u, v, w = mapped_reduced(homography, *sizes, (texture_width, texture_height))
        has_data = (w > 0) & is_inside(u, v, texture_width, texture_height)
        warped = to_levels(sampled_with_border(textures[n], u, v, w > 0))
        apart = np.abs(mean_of_nine(frame) - mean_of_nine(warped))
        price = np.where(has_data, np.minimum(apart, 60), 50)[beside]
        sums[n] += price.sum(), price.size


# light.cu


def fit_light(frame, warped, covered, person, person_count, most, width, height, step, light):
    beside = person == 0 if person_count[0] < most else np.ones_like(person, bool)
    for picture, has_data, out in zip(warped, covered > 0, light, strict=True):
        one = np.arange(width * height).reshape(height, width) % step == 0
        seen = has_data & beside & one
        out[:] = gain_and_bias(frame[seen], picture[seen])


def judge_plates(
    frame, warped, covered, person, person_count, most, light, width, height, verdicts
):
    is_known = person_count[0] < most
    beside = person == 0 if is_known else np.ones_like(person, bool)
    for n, has_data in enumerate(covered > 0):
        apart = np.abs(warped[n] * light[n, :, 0] + light[n, :, 1] - frame).mean(-1)
        price = np.where(has_data, np.minimum(apart, 40), 60)[beside]
        seen = np.sort(apart[has_data & beside])
        part = seen if is_known else seen[: max(1, int(len(seen) * 0.6))]
        verdicts[n] = price.mean() if price.size else 0, part.mean() if seen.size else 255


def find_person(
    alpha,
    alpha_width,
    alpha_height,
    shared,
    columns,
    rows,
    gap,
    least,
    width,
    height,
    found,
    person_count,
):
    def reduced(values, to_width, to_height):
        across = overlaps(values.shape[1], values.shape[1], to_width)
        return overlaps(values.shape[0], values.shape[0], to_height) @ values @ across.T

    near = np.pad(shared, gap)
    windows = np.lib.stride_tricks.sliding_window_view(near, (2 * gap + 1,) * 2)
    own = reduced(alpha.view(np.float16).astype(float), columns, rows) * (1 - windows.max((-1, -2)))
    found[:] = reduced(own, width, height) > least
    person_count[0] = 0


def recall_person(
    alpha,
    alpha_width,
    alpha_height,
    doubt,
    before,
    columns,
    rows,
    sure,
    doubts,
    kept,
    reach,
    seen,
    after,
):
    across, down = (
        overlaps(alpha_width, alpha_width, columns),
        overlaps(alpha_height, alpha_height, rows),
    )
    now = down @ alpha.view(np.float16).reshape(alpha_height, alpha_width).astype(float) @ across.T
    unsure = doubt.view(np.float16).reshape(rows, columns).astype(float)
    windows = np.lib.stride_tricks.sliding_window_view
    nearby = windows(np.pad(before, reach), (2 * reach + 1,) * 2).max((-1, -2))
    known = now * np.clip(2 - unsure / sure, 0, 1)
    after[:] = np.maximum(known, np.minimum(kept * nearby, doubts * unsure))
    seen.view(np.float16)[:] = np.maximum(now, after)


def drop_specks(found, width, height, opened):
    windows = np.lib.stride_tricks.sliding_window_view
    inner = windows(np.pad(found, 1, constant_values=1), (3, 3)).min((-1, -2))
    opened[:] = windows(np.pad(inner, 1), (3, 3)).max((-1, -2))


def widen_person(found, width, height, radius, person, person_count):
    padded = np.pad(found, radius)
    person[:] = 0
    for dy in range(-radius, radius + 1):
        reach = int(np.rint(np.sqrt(radius * radius - dy * dy)))
        for dx in range(-reach, reach + 1):
            top, left = radius + dy, radius + dx
            person |= padded[top : top + height, left : left + width]
    person_count[0] += person.sum()


def resize_person(person, person_count, most, columns, rows, width, height, target):
    at = np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width
    target[:] = person[at] if person_count[0] < most else 0


# pack.cu


def pack_planes(
    pictures, coverage, width, height, channels, scale, padded_width, padded_height, planes
):
    around = ((0, 0), (0, padded_height - height), (0, padded_width - width), (0, 0))
    values = np.where(coverage[..., None] > 0, pictures * F(scale), F(0))
    halves = np.pad(values, around, "edge").astype(np.float16)
    planes[:] = halves.transpose(0, 3, 1, 2).view(np.uint16)


def unpacked(alpha, foreground, width, height, most):
    """(N, H, W, 4) in levels of `most`."""
    planes = np.concatenate([foreground, alpha], 1).view(np.float16)[..., :height, :width]
    values = np.fmin(np.fmax(planes.astype(F), 0), 1).transpose(0, 2, 3, 1)
    levels = np.rint(values * F(most))
    as_frame = np.rint(values * F(255))
    is_frames = (as_frame * F(1 / 255)).astype(np.float16) == planes.transpose(0, 2, 3, 1)
    is_frames[..., 3] = False
    levels = np.where(is_frames, as_frame * (most // 255), levels)
    opacity = np.rint(values[..., 3] * F(255))
    levels[..., 3] = np.where(opacity >= 254, most, np.where(opacity <= 1, 0, levels[..., 3]))
    return levels * (levels[..., 3:] > 0)


def unpack_rgba8(alpha, foreground, padded_width, padded_height, width, height, rgba):
    rgba[:] = unpacked(alpha, foreground, width, height, 255)


def unpack_rgba16(alpha, foreground, padded_width, padded_height, width, height, rgba):
    rgba[:] = unpacked(alpha, foreground, width, height, 65535)


# steady.cu


def tell_likeness(colour, moved, flow, width, height, levels, likeness):
    apart = np.abs(colour.astype(np.int64) - moved).max(-1)
    off = windowed(np.pad(apart, 1, "reflect")[None], 1)[0].astype(F) / F(9) / levels
    x, y = displacement(flow)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    likeness[:] = np.where(inside, np.exp(-np.square(off)), 0)


def enlarged(picture, width, height):
    """(H, W, C) of a small picture (h, w, C), bilinear, pixel centres half a pixel in."""
    for size, axis in ((height, 0), (width, 1)):
        there = picture.shape[axis]
        at = (np.arange(size, dtype=F) + F(0.5)) * (F(there) / F(size)) - F(0.5)
        first = np.floor(at).astype(int)
        a, b = (picture.take((first + k).clip(0, there - 1), axis) for k in (0, 1))
        picture = a + (b - a) * (at - first).astype(F).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
    return picture


def draw_alpha(
    alpha,
    before,
    padded_width,
    flow,
    likeness,
    view_width,
    view_height,
    most,
    sure,
    width,
    height,
    drawn,
):
    now, was = (
        p.view(np.float16).astype(F)[..., :height, :width].squeeze() for p in (alpha, before)
    )
    share = most * enlarged(likeness[..., None], width, height)[..., 0]
    scale = np.array([F(width) / F(view_width), F(height) / F(view_height)], F)
    x, y = displacement(enlarged(flow, width, height) * scale)
    x, y = x.clip(-2, width + 1), y.clip(-2, height + 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    found = np.zeros_like(now)
    for down in range(-1, 3):
        row, line = (top + down).clip(0, height - 1), np.zeros_like(now)
        for across in range(-1, 3):
            column = (left + across).clip(0, width - 1)
            line += cubic(x - (left + across)) * was[row, column]
        found += cubic(y - (top + down)) * line
    share = share * (sure + (F(1) - sure) * np.fmin(F(8) * now * (F(1) - now), F(1)))
    mixed = (now + share * (found - now)).clip(0, 1)
    drawn.view(np.float16)[..., :height, :width] = mixed


def cubic(off):
    """OpenCV's weights of samples that far away, in single precision."""
    off = np.abs(off).astype(F)
    near = (F(1.25) * off - F(2.25)) * off * off + F(1)
    return np.where(off <= 1, near, ((F(-0.75) * off + F(3.75)) * off - F(6)) * off + F(3))


# holes.cu


def find_solid(coverage, width, height, solid, small_width, small_height):
    rows = overlaps(height, height, small_height)
    columns = overlaps(width, width, small_width)
    missing = np.einsum("yv,xu,nvu->nyx", rows, columns, coverage == 0, optimize=True)
    solid[:] = missing * 510 < 1


def nearest_in_column(solid, small_width, small_height, reach, rows):
    most = int(reach) + 3
    for n, y, x in np.ndindex(solid.shape):
        candidates = np.flatnonzero(solid[n, :, x])
        near = candidates[np.abs(candidates - y) < most]
        rows[n, y, x] = near[np.abs(near - y).argmin()] if near.size else -1


def nearest_solid(rows, small_width, small_height, reach, nearest, distance):
    most = int(reach) + 3
    offsets = sorted(range(-most + 1, most), key=abs)  # of two, the left one
    for n, y, x in np.ndindex(rows.shape):
        columns = np.array([x + by for by in offsets if 0 <= x + by < small_width])
        row = rows[n, y, columns]
        squared = np.where(row < 0, most * most, (columns - x) ** 2 + (row - y) ** 2)
        best = squared.argmin()
        is_near = squared[best] < most * most
        nearest[n, y, x] = row[best] * small_width + columns[best] if is_near else -1
        distance[n, y, x] = np.sqrt(F(min(squared[best], most * most)))


def fill_holes(
    plate,
    coverage,
    width,
    height,
    small,
    nearest,
    distance,
    small_width,
    small_height,
    reach,
    filled,
    seen,
):
    at_x = (np.arange(width, dtype=F) + F(0.5)) * (F(small_width) / F(width)) - F(0.5)
    at_y = (np.arange(height, dtype=F) + F(0.5)) * (F(small_height) / F(height)) - F(0.5)
    for n, covered in enumerate(coverage > 0):
        guess = small[n].reshape(-1, 3)[nearest[n].clip(0)]
        far = blended(distance[n][..., None], at_x, at_y)[..., 0]
        reached = covered | (far <= reach)
        colours = to_levels(blended(guess, at_x, at_y))
        filled[n] = np.where((reached & ~covered)[..., None], colours, plate[n])
        seen[n] = np.stack([covered, reached], -1) * 255


# pack.cu, for coverage and confidence


def pack_coverage(seen, width, height, guessed, reached, planes):
    shown, all_of_it = (seen == 255).transpose(3, 0, 1, 2)
    reached[:] = all_of_it
    planes[:, 0] = np.where(shown, F(1), all_of_it * guessed).astype(np.float16).view(np.uint16)


def tell_confidence(doubt, pixels, doubtful, confidence):
    means = doubt.view(np.float16).astype(float).reshape(-1, pixels).mean(1)
    confidence[:] = 1 / (1 + means / doubtful)


# smooth.cu


def solved(ties, values):
    """u of (1 + left + right) u_i - left u_(i-1) - right u_(i+1) = values (n, lines, C), by
    Thomas's algorithm; ties (n - 1, lines) between neighbours."""
    ties = np.pad(ties, ((1, 1), (0, 0)))[..., None]
    right, u = np.zeros((len(values), *ties.shape[1:])), values.copy()
    for i in range(len(values)):
        pivot = 1 + ties[i] + ties[i + 1] - (ties[i] * right[i - 1] if i else 0)
        right[i] = ties[i + 1] / pivot
        u[i] = (u[i] + (ties[i] * u[i - 1] if i else 0)) / pivot
    for i in range(len(values) - 2, -1, -1):
        u[i] += right[i] * u[i + 1]
    return u


def smooth_lines(guide, width, height, is_down, smoothness, edge, channels, signal):
    colours, values = guide.astype(float), signal.astype(float)
    if not is_down:
        colours, values = colours.swapaxes(0, 1), values.swapaxes(0, 1)
    apart = np.sqrt(np.square(np.diff(colours, axis=0)).sum(-1))
    out = solved(smoothness * np.exp(-apart / edge), values)
    signal[:] = out if is_down else out.swapaxes(0, 1)


# field.cu


def at_points(picture, x, y):
    """(H, W, C) of picture (h, w, C) at points (H, W), bilinear, float32; 0 outside."""
    height, width = picture.shape[:2]
    x, y = x.clip(-1, width), y.clip(-1, height)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    along, down = (x - left.astype(F))[..., None], (y - top.astype(F))[..., None]
    padded = np.pad(picture.astype(F), ((1, 2), (1, 2), (0, 0)))
    a, b = padded[top + 1, left + 1], padded[top + 1, left + 2]
    c, d = padded[top + 2, left + 1], padded[top + 2, left + 2]
    above, below = a + (b - a) * along, c + (d - c) * along
    return above + (below - above) * down


def displacement(flow):
    """Where x + flow lies: x, y (H, W) float32."""
    height, width = flow.shape[:2]
    return np.arange(width, dtype=F) + flow[..., 0], np.arange(height, dtype=F)[:, None] + flow[
        ..., 1
    ]


def displace_levels(picture, width, height, channels, flow, displaced):
    displaced[:] = to_levels(at_points(picture, *displacement(flow)))


def trust_flow(
    frame,
    moved,
    flow,
    slope,
    likeness,
    covered,
    person,
    in_person,
    matched,
    textured,
    width,
    height,
    trusted,
):
    apart = np.abs(frame.astype(np.int64) - moved)
    error = (windowed(np.pad(apart, 2, "reflect")[None], 2)[0] + 12) // 25
    has_data = at_points(covered[..., None], *displacement(flow))[..., 0] > 0.5
    trust = slope / (slope + textured) * np.exp(-np.square(error.astype(F) / matched)) * likeness
    trust = trust * has_data * np.where(person, in_person, F(1))
    trusted[:] = np.concatenate([flow, np.ones_like(flow[..., :1])], -1) * trust[..., None]


def per_block(values):
    """(blocks, C), the sums of values (h, w, C) over blocks of 256 pixels."""
    values = values.reshape(-1, values.shape[-1])
    blocks = -(-len(values) // 256)
    padded = np.pad(values, ((0, blocks * 256 - len(values)), (0, 0)))
    return padded.reshape(blocks, 256, -1).sum(1, dtype=float)


def believe_flow(
    flow,
    trusted,
    around,
    field,
    has_field,
    lonely,
    needed,
    reach,
    width,
    height,
    signal,
    sums,
):
    company = around[..., :2] / (around[..., 2:] + F(1e-3))
    apart = np.square(flow - company).sum(-1)
    trust = trusted[..., 2] / (1 + apart / lonely**2) ** 2
    total = flow + at_points(field, *displacement(flow)) if has_field else flow
    signal[..., :2] = total.clip(-reach, reach) * trust[..., None]
    signal[..., 2] = trust
    is_off = np.square(flow).sum(-1) > needed * needed
    sums[:] = per_block(np.stack([trust * is_off, trust], -1))


# epipole.cu


def find_epipole(
    signal,
    width,
    height,
    step,
    least_trust,
    least_pixels,
    fewest,
    close,
    wider,
    wider_far,
    share,
    rounds,
    epipole,
):
    samples = signal[::step, ::step].astype(float)
    ys, xs = np.mgrid[:height:step, :width:step]
    trust = samples[..., 2]
    flow = samples[..., :2] / np.maximum(trust, 1e-9)[..., None]
    counts = (trust > least_trust) & (np.hypot(*np.moveaxis(flow, -1, 0)) > least_pixels)
    centre, side = np.array([width - 1, height - 1]) / 2, max(width, height)
    places = (np.column_stack([xs[counts], ys[counts]]) - centre) / side
    moved = places + flow[counts] / side
    lines = np.cross(*(np.column_stack([p, np.ones(len(p))]) for p in (places, moved)))
    trust, long = trust[counts], np.square(flow[counts]).sum(-1)
    best, most = np.zeros(3), 0.0
    for is_far in (0, 1) if len(trust) else ():
        weight = trust / (1 + long)
        for k in range(rounds):
            sums = (lines * weight[:, None]).T @ lines
            if is_far and k == 0:
                sums = np.diag([0, 0, np.trace(sums)]) + np.pad(sums[:2, :2], (0, 1))
            point = np.linalg.eigh(sums)[1][:, 0]
            away = np.hypot(*(point[:2] - point[2] * places).T) + 0.1 / side
            off = np.abs(lines @ point) / away * side
            wide = close * max(1, (wider_far if is_far else wider) // 2**k)
            weight = trust / (1 + (off / wide) ** 2) ** 2 / away**2
        if trust[off < close].sum() > most:
            best, most = point, trust[off < close].sum()
    epipole[:] = 0
    if len(trust) >= fewest and most >= share * trust.sum():
        point = best * np.sign(best[np.abs(best).argmax()])
        epipole[:] = *(point[:2] * side + centre * point[2]), point[2], 1


# relight.cu


def compare_light(
    frame_mean,
    plate_mean,
    likeness,
    covered,
    person,
    in_person,
    darkness,
    limit,
    step,
    width,
    height,
    signal,
    sums,
):
    here, there = (to_levels(x).astype(F) for x in (frame_mean, plate_mean))
    gain, prior = (
        np.log(here + darkness) - np.log(there + darkness),
        covered * np.where(person, in_person, F(1)),
    )
    trust = likeness * prior
    signal[..., :3], signal[..., 3] = gain * trust[..., None], trust
    looked_at = np.zeros_like(trust)
    looked_at[::step, ::step] = prior[::step, ::step] == 1
    off = np.abs(here - there)
    sizes, count = looked_at * off.sum(-1), 3 * looked_at
    sums[:] = per_block(np.stack([trust * np.minimum(off.max(-1), limit), trust, sizes, count], -1))


def gain_of_light(signal, no_evidence, low, high, hue, width, height, gain):
    logs = (signal[..., :3] / (signal[..., 3:] + no_evidence)).clip(low, high)
    mean = logs.mean(-1, keepdims=True)
    gain[:] = np.exp(mean + (logs - mean).clip(-hue, hue))


# render.cu


def upsampled(values, width, height):
    """values (h, w, C) at the size of a frame."""
    rows, columns = values.shape[:2]
    half = F(0.5)
    at_x = (np.arange(width, dtype=F) + half) * (F(columns) / F(width)) - half
    at_y = (np.arange(height, dtype=F) + half) * (F(rows) / F(height)) - half
    return blended(values, at_x, at_y)


def draw_plate(
    plate,
    plate_width,
    plate_height,
    plate_from_frame,
    light,
    field,
    field_width,
    field_height,
    gain,
    gain_width,
    gain_height,
    frame_width,
    frame_height,
    pixels,
    coverage,
    covered,
):
    x, y = np.arange(frame_width, dtype=F), np.arange(frame_height, dtype=F)[:, None]
    if field_width:
        moved = upsampled(field, frame_width, frame_height)
        x = x + moved[..., 0] * (F(frame_width) / F(field_width))
        y = y + moved[..., 1] * (F(frame_height) / F(field_height))
    h = plate_from_frame
    w = h[6] * x + h[7] * y + h[8]
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = (h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w
    edge, last = F(0.05), (F(plate_width - 1), F(plate_height - 1))
    has_data = (w > 0) & (u >= -edge) & (v >= -edge)
    has_data &= (u <= last[0] + edge) & (v <= last[1] + edge)
    u, v = np.clip(u, 0, last[0]), np.clip(v, 0, last[1])
    lit = to_levels(plate * light[:, 0] + light[:, 1]).astype(F)
    levels = to_levels(sampled(lit, u, v, has_data))
    if gain_width:
        levels = to_levels(levels * upsampled(gain, frame_width, frame_height))
    pixels[:], coverage[:] = levels, has_data
    covered[0] += has_data.sum()


def lay_over(
    above,
    above_coverage,
    weight,
    weight_width,
    weight_height,
    width,
    height,
    pixels,
    coverage,
    covered,
):
    is_new = (above_coverage > 0) & (coverage == 0)
    share = upsampled(weight[..., None], width, height)[..., 0] * above_coverage
    share = np.where(is_new, F(1), share)[..., None]
    below = pixels.astype(F)
    pixels[:] = to_levels(below + (above.astype(F) - below) * share)
    coverage |= above_coverage
    covered[0] += is_new.sum()


# fuse.cu


def level_difference(colour, frame, clip):
    return np.minimum(to_levels(np.abs(colour.astype(F) - frame).sum(-1) / F(3)), clip)


def price_layer(
    colour,
    covered,
    frame,
    person,
    is_known,
    clip,
    uncovered,
    width,
    height,
    layer,
    layers,
    prices,
):
    hidden = (person > 0) & bool(is_known)
    price = np.where(hidden, 0, level_difference(colour, frame, clip))
    prices[..., layer] = np.where(covered, price, uncovered)


def judge_layer(colour, covered, frame, person, clip, width, height, judged):
    counts = (covered > 0) & (person == 0)
    judged[..., 0] = level_difference(colour, frame, clip) * counts
    judged[..., 1] = counts


def cost_bins(judged, regions):
    """Costs of regions (..., 2), and the bins of those that are judged."""
    costs = regions[..., 0] / (regions[..., 1] + F(1e-3))
    return costs, (costs[judged[..., 1] > 0] / F(0.02)).astype(int).clip(0, 2047)


def count_costs(judged, regions, pixels, histogram):
    histogram += np.bincount(cost_bins(judged, regions)[1], minlength=2048).astype(np.int32)


def find_poor(judged, regions, histogram, worth, least, pixels, poor):
    costs, bins = cost_bins(judged, regions)
    middle = np.sort(bins)[(len(bins) - 1) // 2] if len(bins) else 0
    usual = (F(middle) + F(0.5)) * F(0.02)
    poor[:] = (judged[..., 1] > 0) & (costs > usual + worth) & (regions[..., 1] > least)


def choose_layers(costs, layers, loyalty, owned_before, fewest, width, height, owner, owned):
    prices = costs.copy()
    prices[..., 1:] += loyalty
    prices[..., 1:][..., owned_before[1:] < fewest] = np.inf
    owner[:] = prices.argmin(-1)
    owned += np.bincount(owner.ravel(), minlength=layers).astype(np.int32)


def soften_owners(owner, weights, radius, width, height, shares):
    for layer, share in enumerate(shares):
        own = np.pad((owner == layer).astype(F), ((0, 0), (radius, radius)), "reflect")
        share[:] = sum(w * own[:, k : k + width] for k, w in enumerate(weights))


def weigh_layers(shares, covered, layers, weights, radius, width, height, weight, used):
    padded = np.pad(shares, ((0, 0), (radius, radius), (0, 0)), "reflect")
    own = sum(w * padded[:, k : k + height] for k, w in enumerate(weights))
    around = np.pad(covered, ((0, 0), (1, 1), (1, 1)), "edge")
    own = own * (windowed(around.astype(int), 1) == 9)
    weight[:] = own / np.maximum(own.sum(0), F(1e-6))
    used += (weight > 0).sum((1, 2)).astype(np.int32)


# view.cu


def mean_of_lines(source, count, interleaved, across, side, target):
    around = (side // 2, side - 1 - side // 2)
    padded = np.pad(source.astype(float), ((0, 0), around, (0, 0), (0, 0)), "reflect")
    means = sum(padded[:, k : k + count] for k in range(side)) / side
    target[:] = means.transpose(0, 3, 1, 2)


def local_products(a, b, pixels, planes, products):
    x, y = a.astype(F), b.astype(F)
    products[:] = (x, x * x) if planes == 2 else (x, y, x * x, y * y, x * y)


def normalise_texture(luma, means, pixels, contrast, least, texture):
    deviation = np.sqrt(np.maximum(means[1] - means[0] * means[0], F(0)))
    normal = (luma.astype(F) - means[0]) * (contrast / (deviation + least)) + F(128)
    texture[:] = normal.clip(0, 255).astype(np.uint8)


def correlate(means, pixels, flatness, low, high, agreement):
    x, y, xx, yy, xy = means
    spread = (xx - x * x + flatness) * (yy - y * y + flatness)
    correlation = (xy - x * y) / np.sqrt(np.maximum(spread, F(1)))
    agreement[:] = ((correlation - low) / (high - low)).clip(0, 1)


def sobels(picture):
    """Sobel's derivatives of (H, W), along x and along y, times 8, as float32."""
    levels = np.pad(picture.astype(F), 1, "reflect")
    tall = levels[:-2] + 2 * levels[1:-1] + levels[2:]
    wide = levels[:, :-2] + 2 * levels[:, 1:-1] + levels[:, 2:]
    return tall[:, 2:] - tall[:, :-2], wide[2:] - wide[:-2]


def gradient(picture, width, height, magnitude):
    across, down = sobels(picture)
    magnitude[:] = np.sqrt(across * across + down * down) * F(0.125)


# flow.cu


def added(values):
    """The sum over the last axis, one after the other."""
    return sum(values[..., k] for k in range(values.shape[-1]))


def over_patch(values):
    """(P, 8, 8) to (P): along each row, then row with row, as the threads of a patch do."""
    sums = added(values)
    for bits in (4, 2, 1):
        sums = sums + sums[:, np.arange(8) ^ bits]
    return sums[:, 0]


class PatchesOf:
    """The patches of a level of the frame, (P, 8, 8), to be compared with one plate's."""

    def __init__(self, frame, plate, columns, rows):
        numbers = np.arange(columns * rows)
        self.columns, self.rows, self.plate = columns, rows, plate
        self.left, self.top = numbers % columns * 4, numbers // columns * 4
        self.ys = self.top[:, None, None] + np.arange(8)[:, None]
        self.xs = self.left[:, None, None] + np.arange(8)
        across, down = sobels(frame)
        self.levels = frame[self.ys, self.xs].astype(F)
        self.across, self.down = across[self.ys, self.xs], down[self.ys, self.xs]
        self.sums = over_patch(self.across), over_patch(self.down)
        xx, xy, yy = (
            over_patch(a * b)
            for a, b in (
                (self.across, self.across),
                (self.across, self.down),
                (self.down, self.down),
            )
        )
        determinant = np.maximum(xx * yy - xy * xy, F(1e-3))
        self.inverse = yy / determinant, -xy / determinant, xx / determinant

    def off(self, flow):
        """How much brighter than the patch the plate is where the flow (P, 2) leads."""
        height, width = self.plate.shape
        u = (self.left.astype(F) + flow[:, 0]).clip(F(-7), F(width - 1))
        v = (self.top.astype(F) + flow[:, 1]).clip(F(-7), F(height - 1))
        left, top = np.floor(u), np.floor(v)
        along, below = (u - left)[:, None, None], (v - top)[:, None, None]
        xs = (left.astype(int)[:, None, None] + np.arange(9)).clip(0, width - 1)
        ys = top.astype(int)[:, None, None] + np.arange(8)[:, None]
        levels = self.plate.astype(F)
        line, following = (levels[(ys + k).clip(0, height - 1), xs] for k in (0, 1))
        lines = line + (following - line) * below
        return lines[..., :-1] + (lines[..., 1:] - lines[..., :-1]) * along - self.levels

    def cost(self, off):
        total = over_patch(off)
        return over_patch(off * off) - total * total / F(64)

    def best(self, guesses):
        """Of flows (P, 2), the first that fits best."""
        costs = np.stack([self.cost(self.off(guess)) for guess in guesses])
        return np.stack(guesses)[costs.argmin(0), np.arange(len(self.left))]

    def descended(self, start):
        flow, before = start.copy(), np.full(len(start), F(1e30))
        is_active = np.ones(len(start), bool)
        for _ in range(8):
            off = self.off(flow)
            cost, total = self.cost(off), over_patch(off)
            is_active &= cost < before
            before = cost
            x = over_patch(off * self.across) - total * self.sums[0] / F(64)
            y = over_patch(off * self.down) - total * self.sums[1] / F(64)
            xx, xy, yy = self.inverse
            step = np.stack([xx * x + xy * y, xy * x + yy * y], -1)
            flow = np.where(is_active[:, None], flow - step * F(0.25 * 8), flow)
        by = flow - start
        is_near = by[:, 0] * by[:, 0] + by[:, 1] * by[:, 1] <= 64
        return np.where(is_near[:, None], flow, start)


def grown(flow, width, height):
    """A flow (h, w, 2) at a larger size, in pixels of that."""
    from_height, from_width = flow.shape[:2]
    scale_x, scale_y = F(from_width) / F(width), F(from_height) / F(height)
    u = (np.arange(width, dtype=F) + F(0.5)) * scale_x - F(0.5)
    v = (np.arange(height, dtype=F) + F(0.5)) * scale_y - F(0.5)
    larger = blended(flow, u.clip(0, from_width - 1), v.clip(0, from_height - 1))
    return larger / np.stack([scale_x, scale_y])


def search_from_coarser(
    pictures, width, height, columns, rows, coarser, coarser_width, coarser_height, found
):
    for plate, above, out in zip(pictures[1:], coarser, found, strict=True):
        patches = PatchesOf(pictures[0], plate, columns, rows)
        guesses = [np.zeros_like(out)]
        if coarser_width:
            guesses.insert(0, grown(above, width, height)[patches.top + 4, patches.left + 4])
        out[:] = patches.descended(patches.best(guesses))


def search_from_neighbours(pictures, width, height, columns, rows, before, found):
    for plate, own, out in zip(pictures[1:], before, found, strict=True):
        patches = PatchesOf(pictures[0], plate, columns, rows)
        grid = np.pad(own.reshape(rows, columns, 2), ((1, 1), (1, 1), (0, 0)), "edge")
        places = ((1, 1), (1, 0), (1, 2), (0, 1), (2, 1))
        guesses = [grid[y : y + rows, x : x + columns].reshape(-1, 2) for y, x in places]
        out[:] = patches.descended(patches.best(guesses))


def flow_of_patches(pictures, width, height, columns, rows, found, flow):
    ys, xs = np.mgrid[:height, :width]
    last = np.minimum(ys // 4, rows - 1), np.minimum(xs // 4, columns - 1)
    first = [
        np.minimum(np.maximum(at - 4, 0) // 4, end) for at, end in ((ys, last[0]), (xs, last[1]))
    ]
    for plate, patches, out in zip(pictures[1:], found, flow, strict=True):
        levels, total, moved = plate.astype(F), np.zeros((height, width), F), np.zeros_like(out)
        for down, across in itertools.product((0, 1), (0, 1)):
            row, column = first[0] + down, first[1] + across
            is_there = (row <= last[0]) & (column <= last[1])
            by = patches[np.minimum(row, last[0]) * columns + np.minimum(column, last[1])]
            u = (xs.astype(F) + by[..., 0]).clip(0, F(width - 1))
            v = (ys.astype(F) + by[..., 1]).clip(0, F(height - 1))
            there = sampled(levels[..., None], u, v, np.ones_like(is_there))[..., 0]
            weight = is_there / np.maximum(np.abs(there - pictures[0].astype(F)), F(1))
            total += weight
            moved += weight[..., None] * by
        out[:] = moved / total[..., None]


def grow_flow(flow, from_width, from_height, width, height, larger):
    for source, out in zip(flow, larger, strict=True):
        out[:] = grown(source, width, height)


# direct.cu


def rounded_sample(picture, u, v):
    """Of (H, W) at points; 0 outside, towards which the border fades."""
    height, width = picture.shape
    u, v = u.clip(-1, width), v.clip(-1, height)
    padded = np.pad(picture.astype(F), ((1, 2), (1, 2)))
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    along, down = u - left.astype(F), v - top.astype(F)
    a, b, c, d = (padded[top + 1 + y, left + 1 + x] for y in (0, 1) for x in (0, 1))
    above, below = a + (b - a) * along, c + (d - c) * along
    return to_levels(above + (below - above) * down)


def warp_textures(
    frame, plates, plate_width, plate_height, homographies, width, height, pictures, inside
):
    ys, xs = np.mgrid[:height, :width].astype(F)
    pictures[0] = frame
    for n, plate in enumerate(plates):
        h = homographies[n, 1].astype(F)
        w = h[6] * xs + h[7] * ys + h[8]
        u, v = ((h[k] * xs + h[k + 1] * ys + h[k + 2]) / w for k in (0, 3))
        pictures[n + 1] = rounded_sample(plate, u, v)
        share_x = np.minimum(u + 1, F(plate_width) - u).clip(0, 1)
        share_y = np.minimum(v + 1, F(plate_height) - v).clip(0, 1)
        inside[n] = to_levels(F(255) * share_x * share_y)


def grid_of(stride, columns, rows):
    """Points on the grid: x and y of each."""
    numbers = np.arange(columns * rows)
    return stride // 2 + numbers % columns * stride, stride // 2 + numbers // columns * stride


def weigh_vectors(
    pictures,
    inside,
    width,
    height,
    flow,
    person,
    in_person,
    homographies,
    stride,
    columns,
    rows,
    texture,
    matched,
    vectors,
):
    x, y = grid_of(stride, columns, rows)
    across, down = (d[y, x] for d in sobels(pictures[0]))
    slope = np.sqrt(across * across + down * down) * F(0.125)
    for n, out in enumerate(vectors):
        u, v = x.astype(F) + flow[n, y, x, 0], y.astype(F) + flow[n, y, x, 1]
        there = rounded_sample(pictures[n + 1], u, v).astype(F)
        error = np.abs(there - pictures[0, y, x].astype(F))
        is_seen = (slope > texture / 4) & (rounded_sample(inside[n], u, v) > 250)
        share = error / matched
        weight = slope / (slope + texture) / (1 + 2 * share * share)
        weight = weight * np.where(person[y, x], in_person, F(1))
        out[:, :2] = project(homographies[n, 1].reshape(3, 3), np.stack([u, v], -1))
        out[:, 2], out[:, 3] = np.where(is_seen, weight, 0), error


def fit_vectors(
    vectors,
    width,
    height,
    stride,
    columns,
    rows,
    homographies,
    widths,
    rounds,
    corner_share,
    matched,
    near_pixels,
    fewest,
    fits,
):
    scale = 2 / max(width, height)
    unit = np.array([[scale, 0, -1], [0, scale, -1], [0, 0, 1]])
    grid = np.stack(grid_of(stride, columns, rows), -1)
    for n, out in enumerate(fits):
        seen = vectors[n, :, 2] > 0
        plate, frame = vectors[n, seen, :2].astype(float), grid[seen]
        weight, error = vectors[n, seen, 2].astype(float), vectors[n, seen, 3]
        out[:] = 0
        out[10:12] = seen.sum(), (error < matched).sum()
        if seen.sum() < fewest:
            continue
        homography = homographies[n, 0].reshape(3, 3)
        p, f = project(unit, plate), project(unit, frame)
        ends = np.array([[x, y] for x in (0, width - 1) for y in (0, height - 1)], float)
        begun = project(np.linalg.inv(homography), ends)
        p = np.vstack([p, project(unit, begun)])
        zero, one = np.zeros((len(p), 3)), np.ones((len(p), 1))
        for scale_pixels in widths[:rounds]:
            off = np.hypot(*(project(homography, plate) - frame).T)
            w = weight / (1 + (off / scale_pixels) ** 2) ** 2
            w = np.append(w, np.full(4, corner_share * weight.sum() / 4))
            f = project(unit, np.vstack([frame, project(homography, begun)]))
            across = np.hstack([p, one, zero, -f[:, :1] * p])
            along = np.hstack([zero, p, one, -f[:, 1:] * p])
            normal = (across.T * w) @ across + (along.T * w) @ along
            right = (across.T * w) @ f[:, 0] + (along.T * w) @ f[:, 1]
            entries = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(8), right)
            homography = np.linalg.inv(unit) @ np.append(entries, 1).reshape(3, 3) @ unit
        near = np.hypot(*(project(homography, plate) - frame).T) < near_pixels
        out[:9] = (homography / homography[2, 2]).ravel()
        out[9] = weight[near].sum() / weight.sum()
        out[12] = (near & (error < matched)).sum()


def steepest_points(detail, width, height, person, is_known, least, points, slopes):
    p = np.pad(detail.reshape(height, width), 1, mode="reflect")
    right, down = p[:, 2:] - p[:, :-2], p[2:] - p[:-2]
    across = (right[:-2] + 2 * right[1:-1] + right[2:]) / F(8)
    along = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / F(8)
    squared = across * across + along * along
    rows, columns = height // 8, width // 8
    for cell in range(rows * columns):
        y, x = cell // columns * 8, cell % columns * 8
        at = squared[y : y + 8, x : x + 8].argmax()
        y, x = y + at // 8, x + at % 8
        is_good = squared[y, x] > least * least and not (is_known and person[y, x])
        points[cell] = y * width + x if is_good else -1
        slopes[cell] = across[y, x], along[y, x]


def descend_details(
    frame,
    width,
    height,
    plates,
    plate_width,
    plate_height,
    points,
    slopes,
    starts,
    rounds,
    fewest,
    still,
    furthest,
    worth,
    least_spread,
    spreads,
    clipped,
    least_gain,
    most_gain,
    seen,
    keys,
    found,
):
    """seen and keys are left alone."""
    scale = 2 / max(width, height)
    unit = np.array([[scale, 0, -1], [0, scale, -scale * height / 2], [0, 0, 1]])
    ends = np.array([(x, y) for y in (0, plate_height - 1) for x in (0, plate_width - 1)], float)
    at, slope = points[points >= 0], slopes[points >= 0]
    pixels = np.stack([at % width, at // width], -1)
    wanted = frame.ravel()[at]
    u, v = (pixels * scale).T - [[1], [scale * height / 2]]
    gu, gv = slope.T / scale
    slide = -(gu * u + gv * v)
    jacobian = np.stack([gu * u, gu * v, gu, gv * u, gv * v, gv, slide * u, slide * v])

    def sums(plate, homography, limit):
        x, y = project(np.linalg.inv(homography), pixels).astype(F).T
        inside = (x > 1) & (y > 1) & (x < plate_width - 2) & (y < plate_height - 2)
        if inside.sum() < fewest:
            return None
        x, y, j, want = x[inside], y[inside], jacobian[:, inside], wanted[inside]
        left, top = x.astype(int), y.astype(int)
        right, low = (x - left).astype(F), (y - top).astype(F)
        above = plate[top, left] * (1 - right) + plate[top, left + 1] * right
        below = plate[top + 1, left] * (1 - right) + plate[top + 1, left + 1] * right
        there = above * (1 - low) + below * low
        clear = np.abs(there) > np.median(np.abs(there))
        gain = np.median(want[clear] / there[clear]) if clear.any() else 1.0
        error = (np.clip(gain, least_gain, most_gain) * there - want).astype(float)
        spread = max(least_spread, spreads * np.median(np.abs(error)))
        limit = min(limit, clipped * spread)
        weighted = j / (1 + (error / (2 * spread)) ** 2) ** 2
        cost = np.minimum(np.abs(error), limit).mean()
        return weighted @ j.T, weighted @ error, cost, limit

    def apart(a, b):
        return np.hypot(*(project(a, ends) - project(b, ends)).T).max()

    found[:] = 0
    for n, plate in enumerate(plates):
        start = h = starts[n].reshape(3, 3)
        first = last = sums(plate, h, np.inf)
        for _ in range(rounds):
            if last is None:
                break
            step = np.append(np.linalg.solve(last[0] + 1e-6 * np.eye(8), last[1]), 0)
            before = h
            h = np.linalg.inv(unit) @ (step.reshape(3, 3) + np.eye(3)) @ unit @ h
            h = h / h[2, 2]
            last = sums(plate, h, first[3])
            if apart(h, before) < still:
                break
        if last is not None and last[2] <= worth * first[2] and apart(h, start) < furthest:
            found[n] = h.ravel()
