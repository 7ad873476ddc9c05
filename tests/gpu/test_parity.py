"""The two devices side by side, stage by stage, on the bundled sample: on a GPU at full size, and
always in small on the stand-in for one, so that what a GPU will be asked is known to work.

Without a GPU its half skips, or fails with HOWARD_REQUIRE_GPU=1.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

import howard
from benchmarks import metrics
from benchmarks.output import read_report, read_rgba
from howard import cuda
from howard.align.cpu import OpenCVAligner
from howard.align.geometry import corners, project
from howard.align.gpu import CudaAligner
from howard.config import RunConfig
from howard.decode import open_video
from howard.decode.gpu import open_device_video
from howard.engine.run import run
from howard.errors import DeviceError
from howard.frames import Frame
from sample.truth import CLEAN_PLATE, SHOT, Truth, load_truth
from tests.media import write_video
from tests.test_align import Pictures, homography
from tests.test_align_gpu import DevicePictures

FULL = 1.0, 30
"""Scale and frames on a GPU."""
REDUCED = 0.25, 2
"""The same on the stand-in, which takes seconds for a full frame."""
DECODED_LEVELS = 2
"""NVDEC's RGB and FFmpeg's are rounded differently."""
CORNER_PIXELS = 0.1
"""Both end at the same pictures' least difference."""
PLATE_LEVELS, FURTHER_OFF = 1, 0.06
"""This share of the levels may differ by more: at an edge of 100 levels, a fiftieth of a pixel is
two. Seen: 0.04."""
EDGE_SHARE = 2e-3
"""Of the frame, covered by one of the plates only: a hair along the edges."""
AROUND = 31
"""Pixels about the person, where nothing is aligned: a plate is bent at will there."""
ALPHA_MOST, ALPHA_MEAN = 2e-2, 1e-3
"""Halves on the device."""
MAD_SHARE = 0.05
"""Of the CPU's MAD, by which that of the GPU may differ."""


@dataclass(frozen=True)
class Take:
    """The first frames of the sample, and what of its clean plate lies near them."""

    shot: Path
    clean_plate: Path
    truth: Truth
    size: tuple[int, int]
    frames: int

    def alpha(self, index: int) -> np.ndarray:
        """(H, W) float32, the truth."""
        return cv2.resize(self.truth.alpha(index), self.size, interpolation=cv2.INTER_AREA)


def pixels_of(path: Path, first: int = 0, count: int | None = None) -> list[np.ndarray]:
    with closing(open_video(path)) as reader:
        return [frame.pixels for frame in islice(reader.read_from(first), count)]


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """By scale and number of frames; made when first asked for."""
    made = {}

    def take(scale: float, frames: int) -> Take:
        if (scale, frames) not in made:
            made[scale, frames] = cut(tmp_path_factory.mktemp("take"), scale, frames)
        return made[scale, frames]

    return take


def cut(folder: Path, scale: float, frames: int) -> Take:
    """Encoded anew, nearly without a loss."""
    truth = load_truth()
    near = [truth.best_plate_index(i) for i in (0, frames // 2, frames - 1)]
    first = max(0, min(near) - 3)
    size = round(truth.width * scale), round(truth.height * scale)

    def write(name: str, path: Path, start: int, count: int) -> Path:
        pictures = (
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            for picture in pixels_of(path, start, count)
        )
        return write_video(folder / name, pictures, crf=10, preset="veryfast")

    shot = write("shot.mp4", SHOT, 0, frames)
    clean_plate = write("clean_plate.mp4", CLEAN_PLATE, first, max(near) + 4 - first)
    return Take(shot, clean_plate, truth, size, frames)


@pytest.fixture(params=["host", "gpu"])
def device(request, takes):
    """CuPy or its stand-in, and the take for it."""
    if request.param == "host":
        request.getfixturevalue("host_runner")
        return request.getfixturevalue("host_gpu"), takes(*REDUCED)
    try:
        return cuda.cupy(), takes(*FULL)
    except DeviceError as error:
        if os.environ.get("HOWARD_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


def test_decoded_pixels(device):
    cp, take = device
    for path in (take.shot, take.clean_plate):
        with closing(open_device_video(path)) as reader:
            found = [cp.asnumpy(frame.pixels) for frame in reader]
        expected = pixels_of(path)
        assert len(found) == len(expected)
        for here, there in zip(found, expected, strict=True):
            assert np.abs(here.astype(int) - there).max() <= DECODED_LEVELS


def middle_plate(take: Take) -> np.ndarray:
    """One clean-plate frame: of several that fit equally well, the devices may take another."""
    plates = pixels_of(take.clean_plate)
    return plates[len(plates) // 2]


def test_plates(device):
    """From the same pixels, both told where the person truly is."""
    cp, take = device
    shot, plate = pixels_of(take.shot), middle_plate(take)
    info = Pictures(shot).info
    on_cpu = OpenCVAligner(info, Pictures([plate], still=True))
    on_gpu = CudaAligner(info, DevicePictures(cp, [plate]))
    for i, picture in enumerate(shot):
        expected = on_cpu(Frame(i, i / 30, picture))
        found = on_gpu(Frame(i, i / 30, cp.asarray(picture)))
        assert found.alignment.fallback is None
        here, there = (project(homography(p), corners(*take.size)) for p in (found, expected))
        pixels, coverage = cp.asnumpy(found.pixels), cp.asnumpy(found.coverage)
        alpha = take.alpha(i)
        beside = cv2.dilate(alpha, np.ones((AROUND, AROUND))) == 0
        seen = beside & (coverage == 1) & (expected.coverage == 1)
        off = np.abs(pixels.astype(int) - expected.pixels)[seen]
        assert np.abs(here - there).max() < CORNER_PIXELS
        assert (off > PLATE_LEVELS).mean() < FURTHER_OFF
        assert off.mean() < PLATE_LEVELS / 2
        assert (coverage != expected.coverage).mean() < EDGE_SHARE
        on_cpu.observe(expected, alpha)
        on_gpu.observe(found, cp.asarray(alpha.astype(np.float16)))


def test_alpha(device):
    """Of the same inputs: a frame and its plate by the CPU."""
    cp, take = device
    shot = pixels_of(take.shot)
    plate = OpenCVAligner(Pictures(shot).info, Pictures([middle_plate(take)]))(
        Frame(0, 0.0, shot[0])
    )
    # All counts as seen: a hole takes the nearest colour, and of two as near the devices may take
    # another, which `test_matte_gpu.py` allows for.
    inputs = shot[0], plate.pixels, np.ones_like(plate.coverage)
    expected = howard.Matting(device="cpu")(*inputs)[0]
    found = howard.Matting(device="gpu")(*(cp.asarray(x) for x in inputs))[0]
    off = np.abs(cp.asnumpy(found) - expected)
    assert off.max() <= ALPHA_MOST
    assert off.mean() <= ALPHA_MEAN


def test_the_whole_run(device, tmp_path):
    _, take = device
    errors = {}
    for name in ("cpu", "gpu"):
        out = tmp_path / name
        run(RunConfig(take.shot, take.clean_plate, out, device=name))
        alphas = [read_rgba(out, i)[..., 3] / np.float32(255) for i in range(take.frames)]
        errors[name] = np.mean([metrics.mad(a, take.alpha(i)) for i, a in enumerate(alphas)])
    assert errors["gpu"] == pytest.approx(errors["cpu"], rel=MAD_SHARE)
    assert read_report(tmp_path / "gpu")["totals"]["downloads_per_frame"] <= 1
