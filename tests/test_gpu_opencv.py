"""Features by OpenCV's CUDA modules: our side of it, on a strict stand-in for theirs.

The stand-in takes what OpenCV's bindings take and nothing else, reads "device" memory through the
addresses that it is given, pads the rows of what it gives, and leaves keypoints in any order, as
the GPU does. ORB and the matcher are those of OpenCV on the CPU.
"""

import ctypes
import types

import cv2
import numpy as np
import pytest

from howard import cuda
from howard.align import gpu_opencv
from howard.align.gpu import CudaAligner
from howard.align.gpu_features import SLOTS, THOROUGH
from howard.align.gpu_person import nobody
from howard.config import AlignOptions, RunConfig
from howard.engine.run import run
from howard.errors import ConfigError, DeviceError
from howard.frames import Frame, VideoInfo
from tests.media import write_video
from tests.test_align import homography, view
from tests.test_align import place as textured_place
from tests.test_align_gpu import DevicePictures
from tests.test_gpu_features import (
    NEAR,
    SIZE,
    THRESHOLD,
    corner_error,
    hard_pair,
    known,
    person_mask,
    place,
    seen,
    turned,
)
from tests.test_run import plate_frame, report, shot_frame

KINDS = {
    cv2.CV_8UC1: (np.uint8, 1),
    cv2.CV_32FC1: (np.float32, 1),
    cv2.CV_32SC1: (np.int32, 1),
    cv2.CV_32SC2: (np.int32, 2),
}
PADDING = 64
"""Bytes behind each row: a GpuMat's rows begin where the device likes it."""


class GpuMat:
    """Where a matrix lies; it can neither be uploaded nor downloaded."""

    def __init__(self, rows, columns, kind, address, step, owner=None):
        self.rows, self.columns, self.kind, self.owner = rows, columns, kind, owner
        self.address, self.step = address, step

    def size(self):
        return self.columns, self.rows

    def channels(self):
        return KINDS[self.kind][1]

    def cudaPtr(self):
        return self.address


def content(mat):
    """What the device sees of a matrix."""
    dtype, channels = np.dtype(KINDS[mat.kind][0]), mat.channels()
    memory = (ctypes.c_uint8 * (mat.rows * mat.step)).from_address(mat.address)
    shape = mat.rows, mat.columns, channels
    strides = mat.step, channels * dtype.itemsize, dtype.itemsize
    return np.ndarray(shape, dtype, memory, strides=strides).squeeze(2 if channels == 1 else ())


def allocated(values, kind):
    """A matrix of OpenCV's own, with padded rows."""
    rows, width = len(values), values[0].nbytes
    memory = np.full((rows, width + PADDING), 0xEE, np.uint8)
    memory[:, :width] = np.ascontiguousarray(values).view(np.uint8).reshape(rows, width)
    columns = values.shape[1]
    return GpuMat(rows, columns, kind, memory.ctypes.data, width + PADDING, memory)


class Stream:
    def __init__(self, address):
        assert type(address) is int


class Orb:
    def __init__(
        self, *, nfeatures, scaleFactor, nlevels, edgeThreshold, fastThreshold, blurForDescriptor
    ):
        assert blurForDescriptor  # as on the CPU
        self.levels, self.step, self.edge = nlevels, scaleFactor, edgeThreshold
        self.orb = cv2.ORB.create(
            nfeatures, scaleFactor, nlevels, edgeThreshold, fastThreshold=fastThreshold
        )

    def detectAndComputeAsync(self, image, mask, *, stream):
        assert (type(image), mask, type(stream)) == (GpuMat, None, Stream)
        smallest = round(min(image.size()) * self.step ** (1 - self.levels))
        assert smallest > 2 * self.edge, "OpenCV's (ROI) assertion fails"
        points, words = self.orb.detectAndCompute(content(image).copy(), None)
        if not points:
            return (GpuMat(0, 0, cv2.CV_32FC1, 0, 0),) * 2
        rows = [(*p.pt, p.response, p.angle, p.octave, p.size) for p in points]
        order = np.random.default_rng().permutation(len(points))
        keypoints = np.array(rows, np.float32)[order].T
        return allocated(keypoints, cv2.CV_32FC1), allocated(words[order], cv2.CV_8UC1)


class Matcher:
    """Matches lie on the device as indices above distances."""

    def __init__(self, norm):
        self.matcher = cv2.BFMatcher(norm)

    def knnMatchAsync(self, query, train, k, *, stream):
        assert (type(query), type(train), type(stream), k) == (GpuMat, GpuMat, Stream, 2)
        return allocated(np.stack(self.found(query, train, 2)), cv2.CV_32SC2)

    def matchAsync(self, query, train, *, stream):
        assert (type(query), type(train), type(stream)) == (GpuMat, GpuMat, Stream)
        return allocated(np.stack(self.found(query, train, 1))[..., 0], cv2.CV_32SC1)

    def found(self, query, train, k):
        found = self.matcher.knnMatch(content(query), content(train), k)
        indices = np.array([[m.trainIdx for m in row] for row in found], np.int32)
        distances = np.array([[m.distance for m in row] for row in found], np.float32)
        return indices, distances.view(np.int32)

    def knnMatchConvert(self, matches):
        assert (type(matches), matches.dtype, matches.shape[::2]) == (np.ndarray, np.int32, (2, 2))
        indices, distances = matches[0], matches[1].view(np.float32)
        return tuple(
            tuple(cv2.DMatch(i, int(index), float(d)) for index, d in zip(*row, strict=True))
            for i, row in enumerate(zip(indices, distances, strict=True))
        )

    def matchConvert(self, matches):
        assert (type(matches), matches.dtype, len(matches)) == (np.ndarray, np.int32, 2)
        distances = np.ascontiguousarray(matches[1]).view(np.float32)
        pairs = enumerate(zip(matches[0], distances, strict=True))
        return tuple(cv2.DMatch(i, int(index), float(d)) for i, (index, d) in pairs)


@pytest.fixture
def opencv(host_gpu, monkeypatch):
    """cv2.cuda as a build with CUDA has it; `wrapped` are the addresses that it was given."""
    wrapped = []

    def wrap(rows, columns, kind, address, step):
        assert all(type(x) is int for x in (rows, columns, kind, address, step))
        wrapped.append(address)
        return GpuMat(rows, columns, kind, address, step)

    stand_in = types.SimpleNamespace(
        ORB_create=Orb,
        DescriptorMatcher_createBFMatcher=Matcher,
        createGpuMatFromCudaMemory=wrap,
        wrapStream=Stream,
        getCudaEnabledDeviceCount=lambda: 1,
        wrapped=wrapped,
    )
    monkeypatch.setattr(cv2, "cuda", stand_in)
    made = gpu_opencv.detector, gpu_opencv.brute_force
    for one in made:
        one.cache_clear()
    yield stand_in
    for one in made:
        one.cache_clear()


def features(cp, picture, thorough=False):
    return gpu_opencv.find_features(cp.asarray(picture), thorough)


def found_between(cp, plate, frame, person=None, thorough=False):
    there, here = features(cp, plate, thorough), features(cp, frame, thorough)
    args = [there], here, person or nobody(), THRESHOLD, SIZE, SIZE
    return gpu_opencv.find_homographies(*args)[0]


def check_hard_pairs(cp):
    errors = []
    for seed in range(3):
        plate, frame, truth = hard_pair(seed)
        found = found_between(cp, plate, frame)
        errors.append(np.inf if found is None else corner_error(found.homography, truth))
    assert max(errors) < NEAR
    assert np.median(errors) < 3


def test_hard_pairs_are_found(host_gpu, opencv):
    check_hard_pairs(host_gpu)


def test_hard_pairs_are_found_by_opencv_itself():
    """On a GPU, with an OpenCV that has CUDA: both are rare together, and never asked for."""
    try:
        cp = cuda.cupy()
        gpu_opencv.check()
    except DeviceError as error:
        pytest.skip(str(error))
    check_hard_pairs(cp)


def test_a_turn_by_28_degrees_is_found(host_gpu, opencv):
    scene, truth = place(960, 540, 4), turned(28, 1.0, (0, 0))
    plate, frame = seen(scene, np.eye(3)), seen(scene, truth, seed=1)
    found = found_between(host_gpu, plate, frame, thorough=True)
    assert corner_error(found.homography, truth) < NEAR


def test_unrelated_pictures_agree_on_nothing(host_gpu, opencv):
    plate, frame = (seen(place(960, 540, seed), np.eye(3), seed=seed) for seed in (5, 6))
    assert found_between(host_gpu, plate, frame) is None


def test_opencv_works_on_the_memory_of_cupy(host_gpu, opencv, monkeypatch):
    textures = []

    def texture_of(picture):
        textures.append(texture(picture))
        return textures[-1]

    texture = gpu_opencv.texture_of
    monkeypatch.setattr(gpu_opencv, "texture_of", texture_of)
    plate, frame, _ = hard_pair(0)
    host_gpu.downloads.clear()
    before = cuda.traffic.bytes_read_back
    there, here = (features(host_gpu, picture) for picture in (plate, frame))
    assert opencv.wrapped == [t.data.ptr for t in textures]
    assert not host_gpu.downloads
    (found,) = gpu_opencv.find_homographies([there], here, nobody(), THRESHOLD, SIZE, SIZE)
    assert opencv.wrapped[2] == there.descriptors.data.ptr
    assert sum(host_gpu.downloads) == cuda.traffic.bytes_read_back - before > 0
    assert found.inliers <= found.matches <= found.keypoints == len(here)


@pytest.mark.parametrize(("thorough", "slots"), [(False, SLOTS), (True, THOROUGH[1])])
def test_keypoints_fill_the_first_slots(host_gpu, opencv, thorough, slots):
    found = features(host_gpu, place(*SIZE, 8).astype(np.uint8), thorough)
    spots = found.spots.get()
    assert spots.shape == (slots, 3)
    assert found.descriptors.shape == (slots, 8)
    assert 100 < len(found) < slots
    assert (spots[: len(found), 2] > 0).all()
    assert not spots[len(found) :].any()
    assert (spots[:, :2] >= 0).all()
    assert (spots[:, :2] <= np.array(SIZE) - 1).all()


def test_two_calls_give_the_same(host_gpu, opencv):
    picture = place(*SIZE, 8).astype(np.uint8)
    one, other = features(host_gpu, picture), features(host_gpu, picture)
    np.testing.assert_array_equal(one.spots, other.spots)
    np.testing.assert_array_equal(one.descriptors, other.descriptors)


def test_keypoints_come_in_full_resolution_pixels(host_gpu, opencv):
    small = place(640, 360, 9).astype(np.uint8)
    large = cv2.resize(small, (1280, 720), interpolation=cv2.INTER_CUBIC)
    there, here = features(host_gpu, small), features(host_gpu, large)
    sizes = (640, 360), (1280, 720)
    (found,) = gpu_opencv.find_homographies([there], here, nobody(), THRESHOLD, *sizes)
    expected = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    assert corner_error(found.homography, expected) < 0.5


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_has_no_keypoints(host_gpu, opencv, level):
    flat = features(host_gpu, np.full((180, 320, 3), level, np.uint8))
    other = features(host_gpu, place(*SIZE, 7).astype(np.uint8))
    assert len(flat) == 0
    for there, here in ((flat, other), (other, flat)):
        args = [there], here, nobody(), THRESHOLD, SIZE, SIZE
        assert gpu_opencv.find_homographies(*args) == [None]


@pytest.mark.parametrize("height", [1, 40, 62, 63, 64, 65, 100, 180, 230])
def test_the_pyramid_ends_where_orb_would_fail(host_gpu, opencv, height):
    picture = np.random.default_rng(0).integers(0, 256, (height, 300, 3)).astype(np.uint8)
    assert (len(features(host_gpu, picture)) > 0) == (height >= 64)


def test_keypoints_on_the_person_do_not_count(host_gpu, opencv):
    plate, frame, truth = hard_pair(1)
    without = found_between(host_gpu, plate, frame)
    found = found_between(host_gpu, plate, frame, known(host_gpu, person_mask()))
    assert found.keypoints < 0.75 * without.keypoints
    assert found.inliers / found.matches > without.inliers / without.matches
    assert corner_error(found.homography, truth) < NEAR


def test_no_plates_ask_for_nothing(host_gpu, opencv):
    frame = features(host_gpu, place(*SIZE, 8).astype(np.uint8))
    host_gpu.downloads.clear()
    assert gpu_opencv.find_homographies([], frame, nobody(), THRESHOLD, SIZE, SIZE) == []
    assert not host_gpu.downloads


def test_the_aligner_finds_its_first_frame_by_it(host_gpu, opencv):
    scene = textured_place(1, (480, 270))
    pictures = DevicePictures(host_gpu, [view(scene, 20, 10, (480, 270))])
    options = AlignOptions(features="opencv-cuda")
    align = CudaAligner(VideoInfo("shot", 480, 270, 1, 30.0), pictures, None, options)
    plate = align(Frame(0, 0.0, host_gpu.asarray(view(scene, 0, 0, (480, 270)))))
    assert opencv.wrapped
    assert plate.alignment.fallback is None
    assert homography(plate)[:2, 2] == pytest.approx([20, 10], abs=0.5)


# The choice


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    shot = write_video(folder / "shot.mp4", map(shot_frame, range(2)))
    return shot, write_video(folder / "clean_plate.mp4", map(plate_frame, range(3)))


def test_a_run_can_choose_it(host_runner, host_gpu, opencv, videos, tmp_path):
    run(RunConfig(*videos, tmp_path, device="gpu", features="opencv-cuda"))
    assert report(tmp_path)["run"]["features"] == "opencv-cuda"
    with pytest.raises(Exception, match="another run"):
        run(RunConfig(*videos, tmp_path, device="gpu"))


@pytest.mark.parametrize("device", ["gpu", "auto"])
@pytest.mark.parametrize(
    ("lacks", "words"), [("ORB_create", "built without CUDA"), (None, "find no GPU")]
)
def test_an_opencv_that_cannot_is_refused_first(
    host_runner, host_gpu, opencv, videos, tmp_path, device, lacks, words
):
    if lacks:
        delattr(opencv, lacks)
    opencv.getCudaEnabledDeviceCount = lambda: 0
    config = RunConfig(*videos, tmp_path / "out", device=device, features="opencv-cuda")
    with pytest.raises(DeviceError, match=words) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_opencv_of_pypi_is_refused(host_gpu):
    if hasattr(cv2.cuda, "ORB_create"):
        pytest.skip("this OpenCV was built with CUDA")
    with pytest.raises(DeviceError, match="WITH_CUDA=ON"):
        gpu_opencv.check()


def test_it_is_for_the_gpu(videos, tmp_path):
    config = RunConfig(*videos, tmp_path, device="cpu", features="opencv-cuda")
    with pytest.raises(ConfigError, match="--device gpu"):
        run(config)


def test_without_a_gpu_auto_does_not_pass_over_the_wish(monkeypatch, videos, tmp_path):
    def missing():
        raise DeviceError("no NVIDIA GPU can be used: give --device cpu")

    monkeypatch.setattr(cuda, "loaded", missing)
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        run(RunConfig(*videos, tmp_path, features="opencv-cuda"))
