"""The CUDA kernels, on the CPU and, where there is one, on a GPU: against their NumPy twins and
OpenCV; in chains, against the aligner on the CPU; compiled for every GPU that CUDA 13 knows.

`cudacpu.h` runs them without a GPU, in two orders of threads, and reports races on shared memory;
one run is under the address and undefined-behaviour sanitizers.
"""

from __future__ import annotations

import copy
import inspect
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import kernel_cases
import numpy as np
import pytest
import reference
from gpu import golden
from gpu.compile_all import compiled as compiled_for_gpus
from hostcuda import COMPILER, IS_MISSING, WITHOUT, HostModule, LaunchError
from kernel_cases import CASES, TRUE_HOMOGRAPHY, F, luma_of, textured
from kernel_runners import SOURCES, Gpu, Host, host_kernel, host_module, parameters, topics

from howard import cuda
from howard.align.comparison import Comparison
from howard.align.geometry import corners, project
from howard.align.light import gain_and_bias
from howard.align.render import EDGE
from howard.cuda import TILE, tiles
from howard.errors import DeviceError
from howard.write.pack import pack_rgba

HERE = Path(__file__).parent
KERNELS = sorted(topics())
IS_GPU_REQUIRED = os.environ.get("HOWARD_REQUIRE_GPU") == "1"

needs_compiler = pytest.mark.skipif(IS_MISSING, reason=WITHOUT)


@pytest.fixture(scope="session")
def host():
    """Runs kernels on the CPU; all are compiled at once."""
    if IS_MISSING:
        pytest.skip(WITHOUT)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(host_module, (source.stem for source in SOURCES)))
    return Host()


@pytest.fixture(params=["host", "gpu"])
def runner(request):
    """Runs kernels; without a GPU those tests skip, or fail with HOWARD_REQUIRE_GPU=1."""
    if request.param == "host":
        return request.getfixturevalue("host")
    try:
        cuda.cupy()
    except DeviceError as error:
        if IS_GPU_REQUIRED:
            raise
        pytest.skip(str(error))
    return Gpu()


def assert_close(name, got, want, tolerance):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    difference = np.abs(got.astype(float) - want.astype(float))
    allowed = tolerance.most + tolerance.relative * np.abs(want.astype(float))
    assert (difference <= allowed).all(), f"{name}: off by {difference.max()}"
    share = (difference > 0).mean()
    assert share <= tolerance.share, f"{name}: {share:.2%} differ"


# Every kernel and its twin


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_has_a_twin_and_cases(name):
    twin = getattr(reference, name)
    assert list(inspect.signature(twin).parameters) == [p.name for p in parameters(name)]
    assert name in CASES


def test_every_kernel_is_found():
    text = "".join(source.read_text() for source in SOURCES)
    assert text.count("__global__") == len(KERNELS) == len(CASES)


@pytest.mark.parametrize("name", KERNELS)
def test_twin_agrees(runner, name):
    names = [p.name for p in parameters(name)]
    for case in CASES[name]():
        want = copy.deepcopy(case.args)
        getattr(reference, name)(*want)
        for seed in runner.seeds:
            got = copy.deepcopy(case.args)
            runner(name, case.grid, case.block, got, seed=seed)
            for at, output in enumerate(names):
                tolerance = case.tolerances.get(output, kernel_cases.EXACT)  # inputs stay as is
                if isinstance(got[at], np.ndarray):
                    assert_close(output, got[at], want[at], tolerance)


GOLDEN = HERE / "gpu" / "golden.npz"


@pytest.mark.skipif(not GOLDEN.exists(), reason="no GPU has run tests/gpu/golden.py yet")
@pytest.mark.parametrize("name", KERNELS)
def test_the_host_gives_what_a_gpu_gave(host, name):
    kept = np.load(GOLDEN)
    for number, case in enumerate(CASES[name]()):
        key = f"{name}/{number}"
        if kept[f"{key}/inputs"] != golden.hash_of(case.args):
            pytest.skip(f"the inputs of {key} are others than the GPU's")
        for output, got in golden.outputs(host, name, case).items():
            assert_close(output, got, kept[f"{key}/{output}"], case.tolerances[output])


# Against OpenCV and against the CPU's stages

OPENCV_LEVELS = 1
"""OpenCV rounds resized and blurred pictures in fixed point."""
WARP_LEVELS = 1
"""OpenCV 5 warps in floats; a rounding apart."""


def test_luma_is_opencvs(runner):
    rgb = textured(40, 70)
    luma = np.zeros((40, 70), np.uint8)
    runner("luma_from_rgb", tiles(70, 40), TILE, [rgb, 70, 40, luma])
    np.testing.assert_array_equal(luma, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("matrix", [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (9, 0.2627, 0.0593)])
@pytest.mark.parametrize("is_full", [False, True])
def test_nv12_is_converted_as_by_the_reader_on_the_cpu(runner, matrix, is_full):
    av = pytest.importorskip("av")
    from howard.decode.colour import RgbConverter

    code, kr, kb = matrix
    width, height = 64, 36
    picture = av.VideoFrame(width, height, "yuv420p")
    picture.colorspace, picture.color_range = code, 2 if is_full else 1
    smooth = [
        cv2.resize(luma_of(9, 16, s), (p.width, p.height)) for s, p in enumerate(picture.planes)
    ]
    for plane, levels in zip(picture.planes, smooth, strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : plane.width] = levels
        plane.update(padded.tobytes())
    expected = RgbConverter(picture, "clip", [])(picture)
    chroma = np.stack(smooth[1:], -1).reshape(height // 2, width)
    rgb = np.zeros((height, width, 3), np.uint8)
    args = [smooth[0], width, chroma, width, width, height, F(0.5), F(0.5)]
    args += [reference.matrix_from(kr, kb, is_full), 0, rgb]
    runner("nv12_to_rgb", tiles(width, height), TILE, args)
    # The bound for decoding; swscale works in fixed point.
    assert np.abs(rgb.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("kernel", "size", "how"),
    [
        ("resize_area", (40, 24), cv2.INTER_AREA),
        ("resize_area", (53, 31), cv2.INTER_AREA),
        ("resize_linear", (130, 80), cv2.INTER_LINEAR),
    ],
)
def test_resizing_is_opencvs(runner, kernel, size, how):
    picture = textured(72, 120)
    out = np.zeros((size[1], size[0], 3), np.uint8)
    runner(kernel, tiles(*size), TILE, [picture, 120, 72, 120, 72, 3, out, *size])
    expected = cv2.resize(picture, size, interpolation=how)
    assert np.abs(out.astype(int) - expected).max() <= OPENCV_LEVELS


def test_blur_is_opencvs(runner):
    picture = textured(40, 70)
    weights = cv2.getGaussianKernel(5, 0.7, cv2.CV_32F).ravel()
    out = np.zeros_like(picture)
    runner("blur", tiles(70, 40, 3), TILE, [picture, 70, 40, 3, weights, 2, out])
    expected = cv2.GaussianBlur(picture, (5, 5), 0.7)
    assert np.abs(out.astype(int) - expected).max() <= OPENCV_LEVELS


def test_corner_score_is_opencvs(runner):
    luma = luma_of(60, 90)
    score = np.zeros((60, 90), F)
    runner("corner_score", tiles(90, 60), TILE, [luma, 90, 60, 16, score])
    unit = (4 * 5 * 255) ** 2 / (64 * 25)  # OpenCV's own scale, to squared levels per pixel
    expected = cv2.cornerMinEigenVal(luma, 5, ksize=3)[16:-16, 16:-16] * unit
    # OpenCV rounds its scaled gradients in float32, and small eigenvalues are differences.
    np.testing.assert_allclose(score[16:-16, 16:-16], expected, rtol=1e-3, atol=1e-2)


def test_matches_are_opencvs(runner):
    descriptors, counts, _ = kernel_cases.described()
    pairs = np.array([(0, 1), (1, 0)], np.int32)
    best, distances = np.zeros((2, 330), np.int32), np.zeros((2, 330, 2), np.int32)
    spots = kernel_cases.rng().random((4, 330, 3)).astype(F)  # no two at one place
    args = [descriptors, spots, counts, 330, pairs, F(0), best, distances]
    runner("hamming_best_two", (6, 1, 2), (64,), args)
    bytes_of = [descriptors[s, : counts[s]].view(np.uint8) for s in range(2)]
    for row, (query, train) in enumerate(pairs):
        matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
        for i, two in enumerate(matcher.knnMatch(bytes_of[query], bytes_of[train], 2)):
            assert list(distances[row, i]) == [m.distance for m in two]
            assert best[row, i] == two[0].trainIdx or two[0].distance == two[1].distance


def warp(runner, plate, frame_from_plate, size):
    """warped, coverage and the number of covered pixels; size is the frame's (width, height)."""
    width, height = size
    inverse = np.linalg.inv(frame_from_plate).ravel().astype(F)
    out = [np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)]
    out += [np.zeros(1, np.int32)]
    light, none = np.array(((1, 0),) * 3, F), (np.zeros(1, F), 0, 0)
    args = [plate, plate.shape[1], plate.shape[0], inverse, light, *none, *none, width, height]
    runner("draw_plate", tiles(width, height), TILE, [*args, *out])
    return out


def test_warp_is_exact(runner):
    """Against float64, with coordinates in float64: the truth, but for a rounding."""
    plate = textured(60, 90)
    warped, coverage, covered = warp(runner, plate, TRUE_HOMOGRAPHY, (90, 60))
    x, y = np.meshgrid(np.arange(90), np.arange(60))
    u, v = project(np.linalg.inv(TRUE_HOMOGRAPHY), np.column_stack([x.ravel(), y.ravel()])).T
    inside = (u >= -EDGE) & (v >= -EDGE) & (u <= 89 + EDGE) & (v <= 59 + EDGE)
    np.testing.assert_array_equal(coverage.ravel(), inside)
    u, v = u.clip(0, 89), v.clip(0, 59)
    assert covered[0] == inside.sum()
    left, top = np.floor(u[inside]).astype(int), np.floor(v[inside]).astype(int)
    right, bottom = np.minimum(left + 1, 89), np.minimum(top + 1, 59)
    along, down = (u[inside] - left)[:, None], (v[inside] - top)[:, None]
    above = plate[top, left] * (1 - along) + plate[top, right] * along
    below = plate[bottom, left] * (1 - along) + plate[bottom, right] * along
    exact = above * (1 - down) + below * down
    # Half a level is the rounding; float32 coordinates are good to a hundredth of a level.
    assert np.abs(warped.reshape(-1, 3)[inside] - exact).max() < 0.51
    assert not warped[coverage == 0].any()


def test_warp_is_opencvs(runner):
    plate = textured(60, 90)
    warped, coverage, _ = warp(runner, plate, TRUE_HOMOGRAPHY, (90, 60))
    expected = cv2.warpPerspective(
        plate, TRUE_HOMOGRAPHY, (90, 60), borderMode=cv2.BORDER_REPLICATE
    )
    difference = np.abs(warped.astype(int) - expected)[coverage == 1]
    if cv2.__version__.startswith("4."):  # samples at multiples of a 32nd of a pixel
        assert difference.mean() < 0.5
    else:
        assert difference.max() <= WARP_LEVELS


def test_identity_covers_everything(runner):
    plate = textured(33, 47)
    warped, coverage, covered = warp(runner, plate, np.eye(3), (47, 33))
    np.testing.assert_array_equal(warped, plate)
    assert coverage.all()
    assert covered[0] == coverage.size


def test_widening_is_opencvs(runner):
    found = (kernel_cases.rng().random((40, 70)) < 0.01).astype(np.uint8)
    person, count = np.zeros_like(found), np.zeros(1, np.int32)
    runner("widen_person", tiles(70, 40), TILE, [found, 70, 40, 7, person, count])
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    np.testing.assert_array_equal(person, cv2.dilate(found, ellipse))


def test_pictures_are_packed_as_on_the_cpu(runner):
    alpha, foreground = kernel_cases.matte_halves()
    rgba = np.zeros((2, 24, 48, 4), np.uint8)
    args = [alpha, foreground, 48, 24, 48, 24, rgba]
    runner("unpack_rgba8", tiles(48, 24, 2), TILE, args)
    for n in range(2):
        opacity = alpha[n, 0].view(np.float16).astype(F)
        colour = foreground[n].view(np.float16).astype(F).transpose(1, 2, 0)
        np.testing.assert_array_equal(rgba[n], pack_rgba(opacity, colour))


def test_16_bit_pictures_are_packed_as_on_the_cpu(runner):
    alpha, foreground = kernel_cases.matte_halves()
    rgba = np.zeros((2, 24, 48, 4), np.uint16)
    args = [alpha, foreground, 48, 24, 48, 24, rgba]
    runner("unpack_rgba16", tiles(48, 24, 2), TILE, args)
    for n in range(2):
        opacity = alpha[n, 0].view(np.float16).astype(F)
        colour = foreground[n].view(np.float16).astype(F).transpose(1, 2, 0)
        expected = pack_rgba(opacity, colour, 16)
        np.testing.assert_array_equal(rgba[n, ..., 3], expected[..., 3])
        assert np.abs(rgba[n].astype(int) - expected).max() <= kernel_cases.HALF_LEVELS


def test_a_frames_colour_passes_through_halves_unchanged(runner):
    """From 8 bits through the network's planes to 16."""
    picture = np.arange(256, dtype=np.uint8).reshape(8, 32, 1).repeat(3, 2)
    everywhere = np.ones((8, 32), np.uint8)
    planes, rgba = np.zeros((3, 8, 32), np.uint16), np.zeros((8, 32, 4), np.uint16)
    args = [picture, everywhere, 32, 8, 3, F(1 / 255), 32, 8, planes]
    runner("pack_planes", tiles(32, 8), TILE, args)
    alpha = np.ones((8, 32), np.float16).view(np.uint16)
    runner("unpack_rgba16", tiles(32, 8), TILE, [alpha, planes, 32, 8, 32, 8, rgba])
    np.testing.assert_array_equal(rgba[..., :3], 257 * picture.astype(np.uint16))


def test_light_of_the_dark_is_the_cpus(runner):
    """Too dark for ratios: the medians decide, which the kernel knows to a level."""
    arrays, _ = kernel_cases.lit()
    arrays[0], arrays[1] = (arrays[0] / 16).astype(np.uint8) + 4, arrays[1] / 16 + 4
    light = np.zeros((3, 3, 2), F)
    args = [*arrays, *kernel_cases.known(arrays[3], True), 50, 30, 1, light]
    runner("fit_light", (3, 1, 3), (256,), args)
    seen = (arrays[2][0] > 0) & (arrays[3] == 0)
    expected = gain_and_bias(arrays[0][seen], arrays[1][0][seen])
    at_ten = light[0, :, 0] * 10 + light[0, :, 1]
    np.testing.assert_allclose(at_ten, expected[:, 0] * 10 + expected[:, 1], atol=0.1)


# Chains of kernels


@pytest.mark.parametrize("is_person_known", [False, True])
def test_candidates_are_judged_as_on_the_cpu(runner, is_person_known):
    """warp_probes, fit_light and judge_plates against Comparison.fit."""
    size, probe_size = (480, 270), (240, 135)
    plate = textured(270, 480)
    frame = cv2.warpPerspective(plate, TRUE_HOMOGRAPHY, size)
    frame = (frame * 0.9 + 12).astype(np.uint8)
    comparison = Comparison(size, size)
    person = np.zeros((135, 240), np.uint8)
    if is_person_known:
        cv2.circle(person, (110, 70), 30, 1, -1)
        frame[np.repeat(np.repeat(person, 2, 0), 2, 1) > 0] = 99
        comparison.person = person
    probes = [comparison.of_frame(frame), comparison.of_plate(plate)]
    small_frame, small_plate = (p.astype(np.uint8) for p in probes)
    guesses = [TRUE_HOMOGRAPHY, np.eye(3)]
    inverses = np.stack([np.linalg.inv(g).ravel() for g in guesses]).astype(F)
    warped, covered = np.zeros((2, 135, 240, 3), F), np.zeros((2, 135, 240), np.uint8)
    light, verdicts = np.zeros((2, 3, 2), F), np.zeros((2, 2), F)
    both = np.stack([small_plate] * 2)
    where = [both, *probe_size, *size, inverses, *probe_size, *size]
    runner("warp_probes", tiles(*probe_size, 2), TILE, [*where, warped, covered])
    known = kernel_cases.known(person, is_person_known)
    compared = [small_frame, warped, covered, person, *known]
    runner("fit_light", (3, 1, 2), (256,), [*compared, *probe_size, 1, light])
    runner("judge_plates", (1, 1, 2), (256,), [*compared, light, *probe_size, verdicts])
    for guess, verdict in zip(guesses, verdicts, strict=True):
        fit = comparison.fit(*probes, guess)
        # The CPU fits the light to every fifth pixel, the kernel to all.
        np.testing.assert_allclose(verdict, [fit.cost, fit.residual], rtol=0.02, atol=0.1)
    np.testing.assert_allclose(light[0] @ [128, 1], np.full(3, 0.9 * 128 + 12), atol=1)


def found_features(runner, pictures, per_cell=6):
    """spots, descriptors and counts of pictures (N, H, W, 3), at two sizes."""
    images, height, width, _ = pictures.shape
    luma = np.zeros(pictures.shape[:3], np.uint8)
    runner("luma_from_rgb", tiles(width, height, images), TILE, [pictures, width, height, luma])
    pattern = np.zeros((256, 4), np.int8)
    runner("brief_pattern", (1,), (256,), [pattern])
    sizes = [(width, height), (round(width / 1.25), round(height / 1.25))]
    shares = [-(-w // 32) * -(-h // 32) * per_cell for w, h in sizes]
    slots, first = sum(shares), 0
    spots, directions = np.zeros((images, slots, 3), F), np.zeros((images, slots, 2), F)
    descriptors = np.zeros((images, slots, 8), np.uint32)
    weights = cv2.getGaussianKernel(7, 1.8, cv2.CV_32F).ravel()
    for (w, h), share in zip(sizes, shares, strict=True):
        scale, cells = (F(width / w), F(height / h)), (-(-w // 32), -(-h // 32), images)
        level, score = np.zeros((images, h, w), np.uint8), np.zeros((images, h, w), F)
        blurred, warps = np.zeros_like(level), (-(-share // 8), 1, images)
        source = [luma, width, height, width, height, 1]
        runner("resize_area", tiles(w, h, images), TILE, [*source, level, w, h])
        runner("corner_score", tiles(w, h, images), TILE, [level, w, h, 16, score])
        args = [score, w, h, F(1), per_cell, *scale, first, slots, spots]
        runner("strongest_per_cell", cells, TILE, args)
        runner("blur", tiles(w, h, images), TILE, [level, w, h, 1, weights, 3, blurred])
        args = [level, w, h, *scale, spots, first, share, slots, directions]
        runner("orient", warps, TILE, args)
        where = [pattern, spots, directions, first, share, slots, descriptors]
        runner("describe", warps, TILE, [blurred, w, h, *scale, *where])
        first += share
    kept, packed = np.zeros((images, slots, 3), F), np.zeros_like(descriptors)
    counts, nobody = np.zeros(images, np.int32), np.zeros((1, 1), np.uint8)
    person = [nobody, np.zeros(1, np.int32), 0, 1, 1, width, height, 48]
    args = [spots, descriptors, slots, *person, kept, packed, counts]
    runner("compact_keypoints", (1, 1, images), (256,), args)
    return kept, packed, counts


def found_homography(runner, spots, descriptors, counts, size):
    """frame_from_plate and its verdict, from picture 0 to picture 1."""
    slots, trials = spots.shape[1], 200
    pairs = np.array([(0, 1), (1, 0)], np.int32)
    best, distances = np.zeros((2, slots), np.int32), np.zeros((2, slots, 2), np.int32)
    args = [descriptors, spots, counts, slots, pairs, F(8), best, distances]
    runner("hamming_best_two", (-(-slots // 64), 1, 2), (64,), args)
    matched, matches = np.zeros((1, slots, 4), F), np.zeros(1, np.int32)
    args = [spots, counts, slots, pairs, best, distances, F(0.85), matched, matches]
    runner("mutual_matches", (1, 1, 1), (256,), args)
    guesses, scores = np.zeros((1, trials, 9)), np.zeros((1, trials), F)
    args = [matched, matches, slots, trials, np.uint32(0), F(100), guesses]
    runner("sample_homographies", (-(-trials // 64), 1, 1), (64,), args)
    args = [matched, matches, slots, guesses, trials, F(2), scores]
    runner("score_homographies", (-(-trials // 8), 1, 1), TILE, args)
    out = [np.zeros((1, 9)), np.zeros((1, 9), F), np.zeros((1, 2), F)]
    args = [matched, matches, slots, guesses, scores, trials, F(2), 10, *size, *size, *out]
    runner("refine_homography", (1, 1, 1), (256,), args)
    return out[0].reshape(3, 3), out[2][0], matched[0, : matches[0]]


def test_a_homography_is_found_between_two_pictures(runner):
    """All of detect, describe, match and homography; OpenCV's own fit to the same matches and the
    truth say how good it is."""
    size = (320, 180)
    plate = textured(180, 320, 3)
    frame = cv2.warpPerspective(plate, TRUE_HOMOGRAPHY, size)
    noise = kernel_cases.rng(1).normal(0, 3, frame.shape)
    pictures = np.stack([plate, (frame + noise).clip(0, 255).astype(np.uint8)])
    found, verdict, matched = found_homography(runner, *found_features(runner, pictures), size)
    theirs, _ = cv2.findHomography(matched[:, :2], matched[:, 2:], cv2.USAC_MAGSAC, 2.0)
    truth = project(TRUE_HOMOGRAPHY, corners(*size))
    error = np.hypot(*(project(found, corners(*size)) - truth).T).max()
    assert verdict[1] > 300  # of some 480 matches
    assert error < 0.2
    assert error < 1.5 * np.hypot(*(project(theirs, corners(*size)) - truth).T).max()


# What the host runner can see


def planted(tmp_path, body):
    """A kernel of 64 threads, `planted(const int* a, int* out)`, with this body."""
    source = tmp_path / "planted.cu"
    (tmp_path / "common.cuh").write_text("")
    source.write_text(
        f'extern "C" __global__ void planted(const int* a, int* out) {{\n{body}\n}}\n'
    )
    return source


NEIGHBOUR = """
  __shared__ int s[64];
  s[threadIdx.x] = a[threadIdx.x];
  {}
  out[threadIdx.x] = s[(threadIdx.x + 1) % 64];
"""
EARLY = "if (threadIdx.x < 32) return;\n __syncthreads();"
APART = "if (threadIdx.x < 32)\n __syncthreads();\n else\n __syncthreads();"
LONELY = "if (threadIdx.x == 3) return;\n out[threadIdx.x] = __ballot_sync(0xFFFFFFFFu, 1);"


@needs_compiler
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (NEIGHBOUR.format("__syncthreads();"), None),
        (NEIGHBOUR.format(""), "race"),
        (NEIGHBOUR.format("__ballot_sync(0xFFFFFFFFu, 1);"), "race"),  # between warps
        (EARLY, "others wait at a barrier"),
        (APART, "different barriers"),
        (LONELY, "a warp collective"),
    ],
)
def test_the_host_runner_sees_a_wrong_barrier(tmp_path, body, message, seed):
    kernel = HostModule(planted(tmp_path, body)).get_function("planted")
    args = [np.arange(64, dtype=np.int32), np.zeros(64, np.int32)]
    if message is None:
        kernel((1,), (64,), args, seed=seed)
        np.testing.assert_array_equal(args[1], np.roll(args[0], -1))
    else:
        with pytest.raises(LaunchError, match=message):
            kernel((1,), (64,), args, seed=seed)


def test_the_host_runner_refuses_other_types(host):
    kernel = host_kernel("luma_from_rgb")
    rgb, luma = np.zeros((8, 32, 3), np.uint8), np.zeros((8, 32), np.uint8)
    for wrong in ([rgb.astype(F), 32, 8, luma], [rgb, 32.0, 8, luma], [rgb, 32, 8, luma.T], [rgb]):
        with pytest.raises(TypeError):
            kernel((1,), TILE, wrong)


BARRIERS = [
    f"{source.name}:{number}"
    for source in [*SOURCES, cuda.folder() / "common.cuh"]
    for number, line in enumerate(source.read_text().splitlines(), 1)
    if "__syncthreads()" in line
]


def complaint(name, case, barrier):
    """What the host runner says of a case without a barrier; "" if nothing."""
    try:
        host_kernel(name)(case.grid, case.block, case.args, without_barrier=barrier)
    except LaunchError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("barrier", BARRIERS)
def test_no_barrier_can_be_dropped(host, barrier):
    """Without it, some case of some kernel is a race. (This does not depend on luck: the runner
    knows what is ordered, whatever the order in which it ran.)"""
    topic = barrier.partition(".")[0]
    names = [name for name in KERNELS if topic in ("common", topics()[name])]
    complaints = (complaint(name, case, barrier) for name in names for case in CASES[name]())
    assert any("race" in text for text in complaints)


# Memory errors and undefined behaviour


def sanitized(*command):
    """Run Python with the sanitizers' runtime; skips where it is missing."""
    found = [
        subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True)
        for name in ("libasan.so", "libubsan.so")
    ]
    libraries = [Path(f.stdout.strip()) for f in found]
    if not all(library.is_absolute() for library in libraries):
        pytest.skip(f"{COMPILER} has no libasan or no libubsan")
    environment = os.environ | {
        "LD_PRELOAD": " ".join(map(str, libraries)),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "HOWARD_SANITIZE": "1",
        "PYTHONPATH": f"{HERE.parent}:{HERE}",
    }
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, cwd=HERE.parent
    )


@needs_compiler
def test_twins_agree_under_the_sanitizers():
    tests = [str(Path(__file__)), "-k", "twin_agrees and host", "-p", "no:cacheprovider"]
    run = sanitized("-m", "pytest", "-x", "-rA", *tests)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert run.stdout.count("PASSED") == len(KERNELS)


@needs_compiler
def test_the_sanitizers_are_awake(tmp_path):
    source = planted(tmp_path, "out[threadIdx.x] = a[threadIdx.x + 1];")
    script = f"""
import numpy as np, pathlib, hostcuda
kernel = hostcuda.HostModule(pathlib.Path({str(source)!r}), hostcuda.MEMORY).get_function("planted")
kernel((1,), (64,), [np.zeros(64, np.int32), np.zeros(64, np.int32)])
"""
    run = sanitized("-c", script)
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stderr


# For a GPU


@pytest.mark.parametrize("architecture", ["sm_75", "sm_120"])
def test_kernels_compile_for_gpus_without_spills(architecture, tmp_path):
    """The oldest and the newest; tests/gpu/compile_all.py does all of them."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    rows = compiled_for_gpus(architecture, tmp_path)
    assert sorted(row.kernel for row in rows) == KERNELS
    for row in rows:
        assert row.spilled == row.stack == 0, row
        assert row.shared <= 48 * 1024, row


def test_the_source_holds_what_it_includes():
    for source in SOURCES:
        text = cuda.source(source.stem)
        assert "\n#include" not in text
        assert "typedef unsigned char u8;" in text


def test_without_cupy_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    cuda.loaded.cache_clear()
    with pytest.raises(DeviceError, match=r"pip install '\.\[gpu\]"):
        cuda.cupy()


def test_without_a_gpu_the_error_names_the_remedy(monkeypatch):
    class RuntimeFailure(RuntimeError):
        pass

    def no_device():
        raise RuntimeFailure("cudaErrorNoDevice")

    runtime = SimpleNamespace(getDeviceCount=no_device, CUDARuntimeError=RuntimeFailure)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    cuda.loaded.cache_clear()
    with pytest.raises(DeviceError, match="no NVIDIA GPU can be used"):
        cuda.cupy()
