"""The network's runner: sizes, padding, batches, and what it refuses."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from howard.errors import WeightsError
from howard.frames import IDENTITY, Alignment, Frame, Plate
from howard.matte import default_weights
from howard.matte.cpu import (
    DOUBTFUL,
    OnnxMattingNetwork,
    base_size,
    confidence,
    open_session,
    planes,
    shrink_coverage,
    trusted,
)
from howard.matte.holes import fill_holes

ALIGNMENT = Alignment(0, 0, 0, 0, 0.0, 1.0, None, IDENTITY)


@pytest.fixture(scope="module")
def network():
    return OnnxMattingNetwork(default_weights(), threads=2)


def scene(width, height, seed=0):
    """A frame with an orange figure on a textured place, and the plate of that place."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(40, 160, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    plate = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    alpha = np.zeros((height, width), np.uint8)
    middle, foot = (width // 2, int(height * 0.85)), (int(width * 0.16), int(height * 0.5))
    cv2.ellipse(alpha, middle, foot, 0, 0, 360, 255, -1)
    cv2.circle(alpha, (width // 2, int(height * 0.27)), int(height * 0.13), 255, -1)
    frame = plate.copy()
    frame[alpha > 0] = (230, 110, 60)
    return frame, plate, alpha / np.float32(255)


def run(network, frame, plate, coverage=None):
    coverage = np.ones(frame.shape[:2], np.uint8) if coverage is None else coverage
    return network([Frame(0, 0.0, frame)], [Plate(plate, coverage, ALIGNMENT)])[0]


@pytest.mark.parametrize("size", [(320, 240), (321, 241), (97, 211), (640, 360), (31, 17), (1, 1)])
def test_any_size_comes_back_as_it_went_in(network, size):
    frame, plate, _ = scene(*size)
    matte = run(network, frame, plate)
    assert matte.alpha.shape == (size[1], size[0])
    assert matte.foreground.shape == (size[1], size[0], 3)
    assert matte.alpha.dtype == matte.foreground.dtype == np.float32
    assert 0 <= matte.alpha.min() <= matte.alpha.max() <= 1
    assert 0 <= matte.foreground.min() <= matte.foreground.max() <= 1


def test_a_person_who_is_not_in_the_plate_is_cut_out(network):
    frame, plate, alpha = scene(640, 360)
    matte = run(network, frame, plate)
    assert matte.alpha[alpha == 1].mean() > 0.85
    assert matte.alpha[alpha == 0].mean() < 0.05


def test_an_odd_size_is_not_stretched(network):
    frame, plate, alpha = scene(67, 131)
    even = [np.pad(p, ((0, 1), (0, 1), (0, 0)), mode="edge") for p in (frame, plate)]
    expected = run(network, *even).alpha[:131, :67]
    assert np.abs(run(network, frame, plate).alpha - expected).max() < 1e-5
    assert alpha.shape == (131, 67)


def test_an_empty_place_stays_empty(network):
    _, plate, _ = scene(640, 360)
    assert run(network, plate, plate).alpha.mean() < 0.01


def test_the_foreground_is_the_persons_colour(network):
    frame, plate, alpha = scene(640, 360)
    inside = cv2.erode(alpha, np.ones((15, 15))) == 1
    colour = run(network, frame, plate).foreground[inside].mean(0) * 255
    assert colour == pytest.approx([230, 110, 60], abs=12)


def test_a_batch_gives_what_single_frames_give(network):
    scenes = [scene(200, 150, seed) for seed in range(3)]
    ones = np.ones((150, 200), np.uint8)
    frames = [Frame(i, 0.0, s[0]) for i, s in enumerate(scenes)]
    plates = [Plate(s[1], ones, ALIGNMENT) for s in scenes]
    for (frame, plate, _), matte in zip(scenes, network(frames, plates), strict=True):
        # Sums in another order: fp32 rounding.
        assert np.abs(matte.alpha - run(network, frame, plate).alpha).max() < 1e-4


def test_what_lies_under_a_hole_of_the_plate_does_not_matter(network):
    frame, plate, _ = scene(320, 192)
    coverage = np.ones(frame.shape[:2], np.uint8)
    coverage[:, 256:] = 0
    plate[coverage == 0] = 0
    alpha = run(network, frame, plate, coverage).alpha
    # A black hole that is taken for a plate would make the whole strip foreground.
    assert alpha[:, 288:].mean() < 0.5


@pytest.fixture
def fed(network, monkeypatch):
    """What the network is given."""
    feeds = {}

    class Session:
        def run(self, outputs, given):
            feeds.update(given)
            return session.run(outputs, given)

    session = network.session
    monkeypatch.setattr(network, "session", Session())
    return feeds


def half_covered(size, unaligned):
    """A frame, and a plate of which the left half is missing, of level 90 elsewhere."""
    frame, plate, _ = scene(*size)
    coverage = np.ones(size[::-1], np.uint8)
    coverage[:, : size[0] // 2] = 0
    plate[:] = 90 * coverage[..., None]
    return [Frame(0, 0.0, frame)], [Plate(plate, coverage, ALIGNMENT, unaligned=unaligned)]


@pytest.mark.parametrize("size", [(64, 64), (1500, 900), (20, 300)])
def test_where_nothing_is_covered_the_network_sees_the_unaligned_plate(network, fed, size):
    view = np.full((*size, 3), 200, np.uint8)
    network(*half_covered((640, 352), view))
    small = fed["small_plate"][0]
    assert small.shape == (3, 320, 576)
    assert small[:, :, :200] == pytest.approx(200 / 255)
    assert small[:, :, 300:] == pytest.approx(90 / 255, abs=0.005)
    assert fed["plate"][0, :, :, :220].max() == 0
    assert fed["small_coverage"][0, :, :, :200].max() == 0


def test_an_unaligned_plate_that_is_not_known_or_not_taken_is_black(network, fed, monkeypatch):
    network(*half_covered((640, 352), None))
    expected = fed["small_plate"].copy()
    assert expected[0, :, :, :200].max() == 0
    monkeypatch.setattr(network, "takes_unaligned", 0)
    network(*half_covered((640, 352), np.full((64, 64, 3), 200, np.uint8)))
    assert np.array_equal(fed["small_plate"], expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (512, 288)),
        ((3840, 2160), (512, 288)),
        ((1080, 1920), (288, 512)),
        ((720, 720), (384, 384)),
        ((320, 240), (320, 256)),
        ((10, 10), (32, 32)),
    ],
)
def test_the_base_keeps_the_aspect_and_the_multiple(size, expected):
    assert base_size(*size, 512 * 288, 32) == expected


def test_planes_are_rgb_in_0_to_1():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 1] = (255, 51, 0)
    out = planes([picture, picture])
    assert out.shape == (2, 3, 2, 3)
    assert out[1, :, 0, 1] == pytest.approx([1, 0.2, 0])


def test_a_small_pixel_is_covered_only_if_all_of_it_is():
    coverage = np.ones((64, 64), np.uint8)
    coverage[0, 0] = 0
    small = shrink_coverage(coverage, (32, 32))
    assert small[0, 0] == 0
    assert small.sum() == 32 * 32 - 1


def test_missing_weights_are_one_line(tmp_path):
    with pytest.raises(WeightsError, match="do not exist"):
        open_session(tmp_path / "none.onnx", 1)


def test_a_file_that_is_no_model_is_one_line(tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x08\x01 nothing")
    with pytest.raises(WeightsError) as error:
        open_session(bad, 1)
    assert "bad.onnx" in str(error.value)
    assert "\n" not in str(error.value)


def test_too_little_memory_is_not_blamed_on_the_weights(monkeypatch):
    def starve(*_, **__):
        raise RuntimeError("Load model failed:std::bad_alloc")

    monkeypatch.setattr(onnxruntime, "InferenceSession", starve)
    with pytest.raises(RuntimeError, match="bad_alloc"):
        OnnxMattingNetwork(default_weights(), 1)


def test_an_unknown_network_has_no_default_weights():
    with pytest.raises(WeightsError, match="--weights"):
        default_weights("nobody")


def test_weights_that_the_user_built_win_over_those_that_ship(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = default_weights()
    built = tmp_path / "engine" / "built" / "howard.onnx"
    built.parent.mkdir(parents=True)
    built.touch()
    assert default_weights().resolve() == built
    assert default_weights("howard-fast").parent == shipped.parent


def test_the_default_weights_are_small_enough_to_ship():
    assert isinstance(default_weights(), Path)
    assert default_weights().stat().st_size < 10 * 2**20


def test_confidence_falls_with_the_expected_error_whoever_is_in_the_picture():
    assert confidence(np.zeros((1, 8, 8), np.float32)) == 1
    assert confidence(np.full((1, 8, 8), DOUBTFUL, np.float32)) == pytest.approx(0.5)
    assert confidence(np.full((1, 8, 8), 0.2, np.float32)) < 0.1


def test_a_narrow_hole_takes_the_colours_beside_it_and_a_wide_one_stays():
    plate = np.full((40, 60, 3), 90, np.uint8)
    coverage = np.ones((40, 60), np.uint8)
    coverage[:, 40:] = 0
    plate[:, 40:] = 0
    out, known = fill_holes(plate, coverage, 5)
    assert out[:, 40:45].min() == 90
    assert out[:, 46:].max() == 0
    assert np.array_equal(out[:, :40], plate[:, :40])
    assert known[:, :44].min() == 1
    assert known[:, 47:].max() == 0
    nothing = np.zeros_like(coverage)
    assert fill_holes(plate, nothing, 5) == (plate, nothing)


def test_the_network_is_told_what_of_the_plate_is_a_guess():
    seen, reached = np.array([[1, 0, 0]], np.uint8), np.array([[1, 1, 0]], np.uint8)
    assert trusted([seen], [reached], 0.5).tolist() == [[[[1.0, 0.5, 0.0]]]]
