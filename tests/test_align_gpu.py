"""The aligner on the GPU: the same policy, the kernels' arithmetic; here they run on the host."""

from pathlib import Path

import numpy as np
import pytest

from howard import cuda
from howard.align.cpu import OpenCVAligner
from howard.align.geometry import corners, project
from howard.align.gpu import CudaAligner
from howard.frames import Frame, VideoInfo
from tests.test_align import Pictures, homography, place, view, with_person

SIZE = (240, 136)
SHIFTS = [(0, 0), (5, -3), (10, -5), (14, -6)]
PARITY_PIXELS = 0.1
"""Of the homography at the corners."""
MOST_BYTES = 4000
"""Read back per frame for decisions: a hundredth of a picture of this size."""
PARITY_LEVELS = 2.0
"""Mean difference of the plates: a tenth of a pixel, in a place that is all texture."""


class DevicePictures(Pictures):
    """As the GPU's reader: pixels in device memory."""

    def __init__(self, host_gpu, pictures):
        super().__init__(pictures)
        self.pictures = [host_gpu.asarray(p) for p in pictures]

    def sample(self, count):
        return iter(self)


@pytest.fixture(scope="module")
def scene():
    return place(1, SIZE)


def takes(scene):
    """Frames with a person in the middle, and the clean plate's pictures, a little elsewhere."""
    plates = [view(scene, x + 2, y + 1, SIZE) for x, y in SHIFTS]
    return [with_person(view(scene, x, y, SIZE), 0.15) for x, y in SHIFTS], plates


def both(host_gpu, frames, plates):
    """Plates of the CPU's aligner and of the GPU's; the person is told of, as by a matte."""
    info = VideoInfo(Path("shot"), *SIZE, len(frames), 30.0)
    on_cpu = OpenCVAligner(info, Pictures(plates))
    on_gpu = CudaAligner(info, DevicePictures(host_gpu, plates))
    alpha = np.zeros(SIZE[::-1], np.float32)
    alpha[14:, 102:138] = 1
    for i, frame in enumerate(frames):
        expected = on_cpu(Frame(i, 0.0, frame))
        found = on_gpu(Frame(i, 0.0, host_gpu.asarray(frame)))
        yield expected, found
        on_cpu.observe(expected, alpha)
        # As a network leaves it: halves, padded.
        on_gpu.observe(found, host_gpu.asarray(np.pad(alpha, (0, 8)).astype(np.float16)[None]))
    on_cpu.close()
    on_gpu.close()


def test_plates_and_homographies_are_the_cpus(host_gpu, scene):
    before = cuda.traffic.bytes_read_back
    for expected, found in both(host_gpu, *takes(scene)):
        assert found.alignment.plate_index == expected.alignment.plate_index
        assert found.alignment.fallback is None
        ends = [project(homography(p), corners(*SIZE)) for p in (expected, found)]
        assert np.abs(ends[0] - ends[1]).max() < PARITY_PIXELS
        assert found.alignment.residual == pytest.approx(expected.alignment.residual, abs=0.5)
        assert found.alignment.coverage == pytest.approx(expected.alignment.coverage, abs=0.01)
        pixels, coverage = (x.get() for x in (found.pixels, found.coverage))
        seen = (coverage & expected.coverage) == 1
        apart = np.abs(pixels.astype(int) - expected.pixels)[seen]
        assert apart.mean() < PARITY_LEVELS
    each = (cuda.traffic.bytes_read_back - before) / len(SHIFTS)
    assert 0 < each < MOST_BYTES


def test_what_comes_down_is_counted_and_no_picture_among_it(host_gpu, scene):
    frames, plates = takes(scene)
    aligner = CudaAligner(VideoInfo(Path("shot"), *SIZE, 2, 30.0), DevicePictures(host_gpu, plates))
    before = cuda.traffic.bytes_read_back
    aligner(Frame(0, 0.0, host_gpu.asarray(frames[0])))
    assert sum(host_gpu.downloads) == cuda.traffic.bytes_read_back - before
    assert max(host_gpu.downloads) < SIZE[0] * SIZE[1] / 4


def test_a_frame_without_anything_to_see_has_a_fallback(host_gpu, scene):
    frames, plates = takes(scene)
    black = np.zeros_like(frames[0])
    found = [plate for _, plate in both(host_gpu, [*frames[:2], black], plates)]
    assert found[2].alignment.fallback == "last_homography"


def test_a_person_who_stands_still_is_not_absorbed(host_gpu, scene):
    frames, plates = takes(scene)
    *_, (_, last) = both(host_gpu, [frames[0]] * 3, plates[:2])
    middle = np.s_[60:120, 108:132]
    apart = np.abs(last.pixels.get()[middle].astype(int) - frames[0][middle])
    assert apart.mean() > 20
