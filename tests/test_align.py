"""The aligner on the sample, against its exact truth, and where there is nothing to align."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks.alignment import run_frame
from benchmarks.alignment_methods import METHODS
from benchmarks.alignment_scenes import Scene
from howard.align.aligner import others
from howard.align.candidate import Candidate
from howard.align.comparison import Fit, coverage_of
from howard.align.cpu import OpenCVAligner
from howard.align.geometry import corners, project, scaling
from howard.align.plate_track import LONGEST_STEP, LOST_RATIO, USELESS_LEVELS
from howard.align.polish import Polish
from howard.config import AlignOptions
from howard.frames import Frame, VideoInfo
from sample.truth import load_truth

SIZE = (480, 270)
"""Of the drawn scenes; the sample's own size is 1280 x 720."""


class Pictures:
    """A VideoReader over a list of pictures."""

    def __init__(self, pictures, still=False):
        height, width = pictures[0].shape[:2]
        self.pictures, self.warnings, self.closed = pictures, [], False
        self.info = VideoInfo(Path("pictures"), width, height, len(pictures), 30.0, still)

    @property
    def first(self):
        return Frame(0, 0.0, self.pictures[0])

    def read_from(self, index, without=()):
        numbered = enumerate(self.pictures)
        return (Frame(i, i / 30, p) for i, p in numbered if i >= index and i not in without)

    def __iter__(self):
        return self.read_from(0)

    def sample(self, count):
        return self.read_from(0)

    def close(self):
        self.closed = True


def place(seed=0, size=SIZE, margin=60):
    """Smooth noise in two octaves: texture to find, and detail to find it by."""
    rng = np.random.default_rng(seed)
    large = (size[0] + 2 * margin, size[1] + 2 * margin)
    total = np.zeros((large[1], large[0], 3))
    for cells, weight in ((30, 0.6), (110, 0.4)):
        octave = rng.uniform(0, 255, (cells, cells * 3 // 2, 3))
        total += weight * cv2.resize(octave, large, interpolation=cv2.INTER_CUBIC)
    return np.uint8(np.clip(total, 0, 255))


def view(scene, x, y, size=SIZE, margin=60):
    return np.ascontiguousarray(scene[margin + y :, margin + x :][: size[1], : size[0]])


def aligner(plates, shot_frames=10, size=SIZE, **options):
    info = VideoInfo(Path("shot"), *size, shot_frames, 30.0)
    return OpenCVAligner(info, Pictures(plates, **options))


def homography(plate):
    return np.array(plate.alignment.homography_frame_from_plate).reshape(3, 3)


def with_person(picture, share):
    """A textured person-like block in the middle that covers this share of the picture."""
    out = picture.copy()
    height, width = out.shape[:2]
    h, w = int(height * 0.9), int(width * share / 0.9)
    texture = cv2.resize(place(99), (w, h))
    out[height - h :, (width - w) // 2 :][:, :w] = texture
    return out


def test_a_shifted_plate_is_found_to_a_tenth_of_a_pixel():
    scene = place()
    plate = aligner([view(scene, 9, -5)])(Frame(0, 0.0, view(scene, 0, 0)))
    assert plate.alignment.fallback is None
    error = project(homography(plate), corners(*SIZE)) - (corners(*SIZE) + (9, -5))
    assert np.abs(error).max() < 0.1


def askew(scene, degrees, size=SIZE):
    """A flat scene, filmed by a camera that went around its middle by this much, and that camera's
    homography from the scene."""
    height, width = scene.shape[:2]
    angle, far = np.radians(degrees), 1.2 * size[0]
    to = np.array([[1, 0, (1 - width) / 2], [0, 1, (1 - height) / 2], [0, 0, 1]])
    turn = np.array([[np.cos(angle), 0, 0], [0, 1, 0], [-np.sin(angle) / far, 0, 1]])
    back = np.array([[1, 0, (size[0] - 1) / 2], [0, 1, (size[1] - 1) / 2], [0, 0, 1]])
    made = back @ turn @ to
    return cv2.warpPerspective(scene, made, size), made


def test_a_plate_from_far_aside_is_found_and_followed():
    """A wall from 50 degrees aside: no similar move, but hundreds of matches say so."""
    scene = place(size=(720, 400))
    plate, from_scene = askew(scene, 50)
    walk = aligner([plate] * 4)
    for index in range(3):
        frame, to_frame = askew(np.roll(scene, 3 * index, 1), 0)
        shift = np.array([[1, 0, 3.0 * index], [0, 1, 0], [0, 0, 1]])
        made = walk(Frame(index, index / 30, frame))
        walk.observe(made, np.zeros(frame.shape[:2], np.float32))
        truth = to_frame @ shift @ np.linalg.inv(from_scene)
        # Where the plate shows the middle half of the frame.
        at = project(np.linalg.inv(truth), corners(*SIZE) / 2 + np.array(SIZE) / 4)
        assert made.alignment.fallback is None
        assert np.abs(project(homography(made), at) - project(truth, at)).max() < 1


def test_the_plate_is_warped_onto_the_frame_and_covers_what_it_shows():
    scene = place()
    frame = view(scene, 0, 0)
    plate = aligner([view(scene, 20, 0)])(Frame(0, 0.0, frame))
    assert plate.pixels.shape == frame.shape
    assert plate.coverage.shape == frame.shape[:2]
    assert plate.coverage[:, :18].max() == 0
    assert plate.coverage[2:-2, 22:].min() == 1
    assert plate.pixels[plate.coverage == 0].max() == 0
    difference = cv2.absdiff(plate.pixels, frame)[plate.coverage == 1]
    assert difference.mean() < 1.0
    assert plate.alignment.coverage == pytest.approx(1 - 20 / SIZE[0], abs=0.005)


def test_the_person_is_not_explained_away():
    scene = place()
    frame = with_person(view(scene, 6, 3), 0.3)
    plate = aligner([view(scene, 0, 0)])(Frame(0, 0.0, frame))
    error = project(homography(plate), corners(*SIZE)) - (corners(*SIZE) - (6, 3))
    assert np.abs(error).max() < 0.3
    middle = np.s_[150:250, 220:260]
    assert cv2.absdiff(plate.pixels, frame)[middle].mean() > 30


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_light_is_matched_beside_a_person_of_any_size(share):
    scene = place()
    frame = with_person(view(scene, 4, 0), share)
    dark = np.uint8(view(scene, 0, 0) * 0.7)
    plate = aligner([dark])(Frame(0, 0.0, frame))
    beside = np.s_[:, 4 : int(SIZE[0] * 0.15)]
    assert cv2.absdiff(plate.pixels, frame)[beside].mean() < 4


def test_the_candidate_that_fits_best_wins():
    scene = place()
    plates = [view(scene, x, 0) for x in (50, 40, 30, 20, 10, 0, -10)]
    plate = aligner(plates, shot_frames=7)(Frame(0, 0.0, view(scene, 1, 0)))
    assert plate.alignment.plate_index == 5


def test_the_track_follows_a_plate_of_another_speed():
    scene = place()
    plates = [view(scene, 2 * i - 40, 0) for i in range(40)]
    align = aligner(plates, shot_frames=20)
    found = [align(Frame(i, i / 30, view(scene, 4 * i - 40, 0))).alignment for i in range(20)]
    assert all(a.fallback is None for a in found)
    assert [a.plate_index for a in found] == pytest.approx([2 * i for i in range(20)], abs=1)


def with_near_thing(picture, x):
    """A bar of another texture before the place, at this column."""
    out = picture.copy()
    out[:, x : x + 60] = place(7)[: len(out), :60]
    return out


def test_a_short_shot_finds_its_time_in_a_long_plate():
    """Its first frame between those that are tried, its pace a fifth of what the lengths say; near
    and far move apart, so that only one time fits."""
    scene = place()
    plates = [with_near_thing(view(scene, i - 40, 0), 40 + 5 * i) for i in range(70)]
    align = aligner(plates, shot_frames=14)
    at = [27 + i for i in range(6)] + [37 + i for i in range(6)]  # the camera hurries once
    found = []
    for i, t in enumerate(at):
        plate = align(Frame(i, i / 30, plates[t]))
        align.observe(plate, np.zeros((270, 480), np.float32))
        found.append(plate.alignment.plate_index)
    assert found[:6] == pytest.approx(at[:6], abs=1)
    assert found[8:] == pytest.approx(at[8:], abs=1)


def test_the_track_walks_to_where_a_camera_that_hurried_is():
    scene = place()
    plates = [with_near_thing(view(scene, i - 40, 0), 40 + 5 * i) for i in range(60)]
    align = aligner(plates, shot_frames=60)
    for i in (20, 21):
        plate = align(Frame(i, i / 30, plates[i]))
        align.observe(plate, np.zeros((270, 480), np.float32))
        assert plate.alignment.plate_index == i
    align.operations.find = lambda frame, plates, thorough=False: [None] * len(plates)
    assert align(Frame(22, 0.7, plates[29])).alignment.plate_index == pytest.approx(29, abs=1)


def test_the_second_frame_is_found_between_where_the_first_was_and_where_the_lengths_say():
    scene = place()
    plates = [with_near_thing(view(scene, i - 40, 0), 40 + 4 * i) for i in range(80)]
    align = aligner(plates, shot_frames=4)
    for i, at in enumerate((19, 30)):
        plate = align(Frame(i, i / 30, plates[at]))
        align.observe(plate, np.zeros((270, 480), np.float32))
        assert plate.alignment.plate_index == pytest.approx(at, abs=1)


@pytest.mark.parametrize("search", ["nearest", "track"])
def test_a_run_that_begins_later_begins_where_the_clocks_say(search):
    """All clean-plate frames are alike: there is nothing else to go by."""
    scene = place()
    info = VideoInfo(Path("shot"), *SIZE, 120, 30.0)
    plates = Pictures([view(scene, 0, 0)] * 120)
    align = OpenCVAligner(info, plates, options=AlignOptions(search=search))
    found = [align(Frame(i, i / 30, view(scene, 3, 0))).alignment for i in (63, 64)]
    assert [a.plate_index for a in found] == [63, 64]


def test_nearest_keeps_to_the_clocks_where_another_frame_fits():
    scene = place()
    plates = [with_near_thing(view(scene, i - 40, 0), 40 + 5 * i) for i in range(60)]
    info = VideoInfo(Path("shot"), *SIZE, 60, 30.0)
    align = OpenCVAligner(info, Pictures(plates), options=AlignOptions(search="nearest"))
    for i in (20, 21, 22):
        plate = align(Frame(i, i / 30, plates[i + 9]))
        align.observe(plate, np.zeros((270, 480), np.float32))
        assert abs(plate.alignment.plate_index - i) <= LONGEST_STEP


def test_the_residual_tells_a_good_plate_from_a_bad_one():
    scene = place()
    rng = np.random.default_rng(1)
    good = view(scene, 0, 0)
    noisy = np.uint8(np.clip(good + rng.normal(0, 40, good.shape), 0, 255))
    frame = Frame(0, 0.0, view(scene, 1, 1))
    residual = aligner([good])(frame).alignment.residual
    assert residual < 3
    assert aligner([noisy])(frame).alignment.residual > 2 * residual


def test_black_frames_take_the_last_good_homography_and_the_track_recovers():
    scene = place()
    align = aligner([view(scene, 0, 0)], still=True)
    good = align(Frame(0, 0.0, view(scene, 7, 0))).alignment
    black = align(Frame(1, 0.0, np.zeros_like(view(scene, 0, 0)))).alignment
    again = align(Frame(2, 0.0, view(scene, 8, 0))).alignment
    assert (good.fallback, black.fallback, again.fallback) == (None, "last_homography", None)
    assert black.homography_frame_from_plate == good.homography_frame_from_plate
    assert black.matches == black.inliers == 0


@pytest.mark.parametrize("level", [0, 127, 255])
def test_without_any_texture_the_identity_is_taken(level):
    flat = np.full((270, 480, 3), level, np.uint8)
    plate = aligner([flat])(Frame(0, 0.0, flat))
    assert plate.alignment.fallback == "identity"
    assert homography(plate) == pytest.approx(np.eye(3))
    assert plate.coverage.min() == 1


def test_a_plate_of_another_place_is_not_forced_and_not_used():
    plate = aligner([view(place(5), 0, 0)])(Frame(0, 0.0, view(place(6), 0, 0)))
    assert plate.alignment.fallback == "identity"
    assert plate.coverage.max() == plate.pixels.max() == 0
    assert plate.alignment.coverage == 0


def test_a_guess_that_fits_is_used():
    flat = np.full((270, 480, 3), 90, np.uint8)
    plate = aligner([flat])(Frame(0, 0.0, flat))
    assert plate.alignment.fallback == "identity"
    assert plate.alignment.coverage == 1


def test_a_mirrored_plate_is_not_forced():
    scene = place()
    mirrored = np.ascontiguousarray(view(scene, 0, 0)[:, ::-1])
    assert aligner([mirrored])(Frame(0, 0.0, view(scene, 0, 0))).alignment.fallback == "identity"


def test_a_mirrored_plate_is_not_forced_where_its_details_are_symmetric():
    rng, scene = np.random.default_rng(4), np.full((270, 480, 3), 40, np.uint8)
    for _ in range(300):
        at = rng.integers((0, 0), SIZE).tolist()
        shade = rng.integers(60, 255, 3).tolist()
        cv2.circle(scene, at, int(rng.integers(2, 14)), shade, -1, cv2.LINE_AA)
    seen, mirrored = Frame(0, 0.0, scene), np.ascontiguousarray(scene[:, ::-1])
    assert aligner([scene])(seen).alignment.fallback is None
    assert aligner([mirrored])(seen).alignment.fallback == "identity"


def test_a_plate_of_another_size_is_scaled():
    scene = place()
    frame = view(scene, 0, 0)
    double = cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    plate = aligner([double])(Frame(0, 0.0, frame))
    assert plate.pixels.shape == frame.shape
    # The plate's pixels are half as large: (x + 0.5) / 2 - 0.5.
    expected = project(scaling(0.5, 0.5), corners(960, 540))
    assert project(homography(plate), corners(960, 540)) == pytest.approx(expected, abs=0.15)


def test_once_the_matte_is_known_the_person_hardly_counts():
    scene = place()
    align = aligner([view(scene, 0, 0)])
    frame = with_person(view(scene, 5, 0), 0.4)
    plate = align(Frame(0, 0.0, frame))
    before = plate.alignment
    alpha = np.float32(cv2.absdiff(frame, view(scene, 5, 0)).max(-1) > 0)
    align.observe(plate, alpha)
    after = align(Frame(1, 0.0, frame))
    # The residual is taken beside them: no more than the scene's own.
    assert after.alignment.residual < before.residual
    assert after.alignment.inliers > 0.9 * before.inliers
    error = project(homography(after), corners(*SIZE)) - (corners(*SIZE) - (5, 0))
    assert np.abs(error).max() < 0.1


def test_a_matte_that_went_wrong_does_not_hide_the_place():
    scene = place()
    align = aligner([view(scene, 0, 0)])
    frame = Frame(0, 0.0, view(scene, 5, 0))
    align(frame)  # by keypoints; from here on by what it found
    before = align(frame)
    align.observe(before, np.ones((270, 480), np.float32))
    after = align(frame).alignment
    assert (after.keypoints, after.fallback) == (before.alignment.keypoints, None)


def test_the_first_matte_does_not_make_the_track_look_lost():
    scene = place()
    align = aligner([view(scene, 0, 0)])
    frame = with_person(view(scene, 0, 0), 0.3)  # a thing that the plate does not show
    before = align(Frame(0, 0.0, frame))
    align.observe(before, np.zeros((270, 480), np.float32))
    searched = []
    align.operations.find = lambda *asked: searched.append(asked) or []
    after = align(Frame(1, 0.0, frame)).alignment
    assert after.residual > LOST_RATIO * before.alignment.residual + 2
    assert (searched, after.fallback) == ([], None)


def test_a_plate_that_leaves_much_unexplained_is_found_again_by_keypoints():
    """Strong parallax, say: once the matte tells where nobody is, the residual is large."""
    scene = place()
    align = aligner([view(scene, 0, 0)])
    frame = with_person(view(scene, 5, 0), 0.5)
    before = align(Frame(0, 0.0, frame))
    align.observe(before, np.zeros((270, 480), np.float32))
    after = align(Frame(1, 0.0, frame))
    assert after.alignment.residual > USELESS_LEVELS
    assert after.alignment.fallback is None
    assert after.alignment.coverage > 0.95
    error = project(homography(after), corners(*SIZE)) - (corners(*SIZE) - (5, 0))
    assert np.abs(error).max() < 1


def test_a_resumed_track_goes_on_where_the_last_one_was():
    scene = place()
    plates = [view(scene, i - 40, 0) for i in range(80)]
    first = aligner(plates, shot_frames=80)
    last = first(Frame(30, 1.0, view(scene, -5, 0))).alignment
    info = VideoInfo(Path("shot"), *SIZE, 80, 30.0)
    resumed = OpenCVAligner(info, Pictures(plates), (30, last))
    assert resumed.track.predict(31) == last.plate_index + 1


def test_close_closes_the_clean_plate():
    reader = Pictures([view(place(), 0, 0)])
    align = OpenCVAligner(VideoInfo(Path("shot"), *SIZE, 1, 30.0), reader)
    align.close()
    assert reader.closed


def test_coverage_is_exact_for_whole_pixel_shifts():
    shift = np.array([[1, 0, 3], [0, 1, -2], [0, 0, 1]], float)
    expected = np.zeros((20, 30), np.uint8)
    expected[:18, 3:] = 1
    assert (coverage_of(shift, (30, 20), (30, 20)) == expected).all()


def candidate(plate_index, cost):
    fit = Fit(cost, cost, np.ones((3, 2)))
    return Candidate(plate_index, np.eye(3), 0, 0, 0, fit, cost)


def test_other_layers_are_the_cheapest_of_each_clean_plate_frame():
    costs = [(5, 4.0), (5, 5.0), (7, 4.5), (6, 5.0), (7, 5.5), (8, 7.0)]
    best, *found = (candidate(*x) for x in costs)
    assert [(c.plate_index, c.cost) for c in others(best, found)] == [(7, 4.5), (6, 5.0)]


def test_other_layers_do_not_tell_whether_the_place_is_a_plane():
    """Of the frame's best alone is that remembered for the next frame."""
    planes = {1: True, 2: False}
    search = SimpleNamespace(
        operations=SimpleNamespace(
            exact=lambda look, plates, starts, reach: starts,
            is_plane=lambda look, plate, homography: planes[plate],
        ),
        frame_size=(64, 48),
        plate_size=(64, 48),
        looks=list,
        direct=lambda *_: [],
    )
    polish = Polish(search)
    for best, beside in ((1, 2), (2, 1)):
        assert polish.best(None, candidate(best, 1.0)).is_plane == planes[best]
        (other,) = polish(None, [candidate(beside, 1.0)])
        assert other.is_plane == planes[beside]
        assert polish.is_deep != planes[best]


def test_the_sample_is_aligned_within_a_pixel():
    from howard.decode import open_video
    from sample.truth import CLEAN_PLATE, SHOT

    truth = load_truth()
    shot, clean_plate = open_video(SHOT), open_video(CLEAN_PLATE)
    align = OpenCVAligner(shot.info, clean_plate)
    size, errors, flat = (truth.width, truth.height), [], 0
    for frame in shot:
        if frame.index > 8:
            break
        plate = align(frame)
        align.observe(plate, truth.alpha(frame.index))
        assert plate.alignment.fallback is None
        true = truth.homography_frame_from_plate(frame.index, plate.alignment.plate_index)
        at = project(np.linalg.inv(true), corners(*size))
        errors.append(np.linalg.norm(project(homography(plate), at) - corners(*size), axis=1))
        flat += not align.search.polish.is_deep
    shot.close()
    align.close()
    assert np.median(errors) < 0.3
    assert np.max(errors) < 1.0
    assert flat >= 5  # of 9: a photograph is a plane, which spares half of the work


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (640, 8)])
def test_pictures_too_small_to_align_have_a_plate_nevertheless(size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    align = aligner([picture, picture], size=size)
    for i in range(2):
        plate = align(Frame(i, 0.0, picture))
        assert plate.pixels.shape == picture.shape
        align.observe(plate, np.zeros(size[::-1], np.float32))


def test_after_a_cut_in_the_shot_the_last_homography_is_not_followed():
    here = place()
    # Without detail, so that the flow agrees with many a homography.
    soft = cv2.GaussianBlur(place(11), (0, 0), 20).astype(float)
    elsewhere = np.uint8(np.clip(5 * (soft - soft.mean()) + 128, 0, 255))
    align = aligner([view(here, i, 0) for i in range(12)], shot_frames=12)
    plates = []
    for i in range(12):
        scene = elsewhere if 4 <= i < 8 else here
        plates.append(align(Frame(i, i / 30, view(scene, i, 0))))
    lost = [p.alignment.fallback is not None for p in plates]
    assert lost == [4 <= i < 8 for i in range(12)]
    assert all(p.coverage.max() == 0 for p in plates[4:8])


def test_a_wall_with_hardly_any_texture_is_followed():
    # A wrong homography may cost less there, for covering more: once it led 64 pixels away.
    scene = Scene("low-texture", 1280, 720, 6, seed=7)
    align = METHODS["howard"](scene)
    errors = [run_frame(scene, i, align).corner_errors.max() for i in range(6)]
    assert max(errors) < 1.0
