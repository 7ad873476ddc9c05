"""The alignment benchmark: its scenes' truth is right, and its judgement too."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks import alignment, alignment_long, alignment_scores
from benchmarks.alignment_camera import Camera, Move, Way, apply
from benchmarks.alignment_methods import CRASHED, HOMOGRAPHY, METHODS, Blind
from benchmarks.alignment_scenes import KINDS, Kind, Scene
from benchmarks.alignment_scores import FrameScore
from benchmarks.alignment_takes import Optics
from benchmarks.published_alignment import background_matting_v2, sengupta
from howard.align.plate_track import LONGEST_STEP
from howard.decode import VideoReader
from howard.frames import IDENTITY, Alignment, Frame, Matte, Plate

SIZE = WIDTH, HEIGHT = 320, 180
FRAMES = 4


@pytest.fixture(scope="module")
def planar() -> Scene:
    return Scene("planar", *SIZE, FRAMES)


def shift_between(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(2,) xy in pixels, by correlation (ECC)."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-6)
    start = np.eye(2, 3, dtype=np.float32)
    motion = (cv2.MOTION_TRANSLATION, criteria, mask.astype(np.uint8), 3)
    return cv2.findTransformECC(*grey, start, *motion)[1][:, 2]


def warped(scene: Scene, frame_index: int, plate_index: int) -> tuple[np.ndarray, np.ndarray]:
    """The clean-plate frame warped by the true homography, and where it has data, inside."""
    picture = scene.clean_plate.picture(plate_index).pixels
    homography = scene.homography_frame_from_plate(frame_index, plate_index)
    pixels = cv2.warpPerspective(picture, homography, SIZE)
    ones = np.full(picture.shape[:2], 255, np.uint8)
    covered = cv2.warpPerspective(ones, homography, SIZE) == 255
    return pixels, cv2.erode(covered.astype(np.uint8), np.ones((9, 9))) == 1


@pytest.mark.parametrize("pair", [(0, 0), (3, 1), (1, 3)])
def test_the_true_homography_takes_the_plate_onto_the_frame(planar, pair):
    pixels, inside = warped(planar, *pair)
    background = planar.shot.picture(pair[0]).background
    difference = alignment_scores.difference(pixels, background)[inside]
    # Noise of 2 levels is 1.6 in the mean; hard edges are resampled once more.
    assert inside.mean() > 0.7
    assert np.median(difference) < 3
    shifted = np.roll(pixels, 2, axis=1)
    assert difference.mean() < 0.5 * alignment_scores.difference(shifted, background)[inside].mean()
    # Half a pixel off would be an error of convention; noise moves it by some hundredths.
    assert np.abs(shift_between(pixels, background, inside)).max() < 0.05


def colours(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 3) float32, of a slightly blurred picture."""
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8).astype(np.float32)
    return cv2.remap(soft, points[None].astype(np.float32), None, cv2.INTER_LINEAR)[0]


@pytest.mark.parametrize("kind", ["planar", "zoom", "skewed"])
def test_a_point_has_the_same_colour_in_both_takes(kind, monkeypatch):
    # A rolling shutter so slow that it is seen at this size.
    monkeypatch.setitem(KINDS, "skewed", Kind(optics=Optics(readout=8)))
    scene = Scene(kind, *SIZE, FRAMES)
    across, down = np.meshgrid(np.linspace(40, WIDTH - 40, 40), np.linspace(30, HEIGHT - 30, 30))
    points = np.column_stack([across.ravel(), down.ravel()])
    frame = colours(scene.shot.picture(2).background, points)
    exact = scene.plate_points(2, 1, points)
    rigid = apply(np.linalg.inv(scene.homography_frame_from_plate(2, 1)), points)
    plate = scene.clean_plate.picture(1).background
    away, rigid_away = (np.abs(frame - colours(plate, at)).mean() for at in (exact, rigid))
    assert away < 4
    if kind == "skewed":
        assert np.hypot(*(exact - rigid).T).max() > 1
        assert rigid_away > 1.2 * away
    else:
        assert exact == pytest.approx(rigid)


def test_homographies_are_those_of_a_pinhole_camera(planar):
    """Projected here point by point, with no matrix of the scene's own."""
    wall = planar.layers[0].plane
    points = np.array([[-1.0, -0.5], [0.7, 0.4], [1.2, -0.3]])
    for take, index in ((planar.shot, 3), (planar.clean_plate, 1)):
        angles, centre, focal = (v[0] for v in take.camera.pose(index / 30))
        pitch, yaw, roll = angles
        world = np.column_stack([points, np.full(3, wall[2, 2])]) - centre
        x = world[:, 0] * np.cos(yaw) - world[:, 2] * np.sin(yaw)
        z = world[:, 0] * np.sin(yaw) + world[:, 2] * np.cos(yaw)
        y = world[:, 1] * np.cos(pitch) + z * np.sin(pitch)
        z = -world[:, 1] * np.sin(pitch) + z * np.cos(pitch)
        x, y = x * np.cos(roll) + y * np.sin(roll), -x * np.sin(roll) + y * np.cos(roll)
        seen = np.column_stack([x, y]) / z[:, None] * focal + [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
        found = take.camera.homographies(take.seconds(index), wall)[0]
        assert apply(found, points) == pytest.approx(seen)


def test_a_camera_that_only_turns_sees_no_parallax():
    scene = Scene("rotating", *SIZE, FRAMES)
    first = scene.homography_frame_from_plate(2, 1)
    for layer in range(len(scene.layers)):
        assert scene.homography_frame_from_plate(2, 1, layer) == pytest.approx(first)


def test_near_things_move_more_in_a_parallax_scene():
    spreads = []
    for kind in ("parallax-mild", "parallax-strong"):
        scene = Scene(kind, *SIZE, FRAMES)
        layers = range(len(scene.layers))
        middle = [apply(scene.homography_frame_from_plate(0, 0, k), [(160, 90)])[0] for k in layers]
        spreads.append(np.hypot(*np.ptp(middle, axis=0)))
    assert 0.002 * WIDTH < spreads[0] < spreads[1] < 0.1 * WIDTH


def test_a_camera_on_a_tripod_stands_still():
    camera = Camera(*SIZE, Move(0, 0, shake=0), 1, Way((0, 0), (1, 1)))
    there = camera.homographies([0.0, 0.4, 1.0], np.diag([1.0, 1.0, 8.0]))
    assert np.ptp(there, axis=0).max() == 0


def test_the_frame_is_the_person_over_the_background_by_alpha(planar):
    picture = planar.shot.picture(1)
    drawn = planar.shot.person.colour(1 / 30)
    person = cv2.GaussianBlur(drawn, (0, 0), planar.shot.optics.softness_pixels).astype(float)
    alpha = picture.alpha[..., None]
    expected = alpha * person + (1 - alpha) * picture.background
    for part in (picture.alpha == 0, picture.alpha == 1, (picture.alpha > 0) & (picture.alpha < 1)):
        assert part.mean() > 0.005
        error = picture.pixels[part] - expected[part]
        # Noise of 2 levels, compression that halves the colours' resolution, clipping.
        assert np.abs(error).mean() < 6
        assert abs(error.mean()) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scene_has_its_person_and_another_noise_in_every_frame(kind):
    scene = Scene(kind, 160, 90, 2)
    first, again = scene.shot.picture(0), Scene(kind, 160, 90, 2).shot.picture(0)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.alpha.mean() == pytest.approx(KINDS[kind].person_share, abs=0.03)
    plates = list(scene.open_clean_plate())
    assert [p.index for p in plates] == list(range(max(1, round(2 * KINDS[kind].plate_length))))
    assert first.pixels.shape == plates[0].pixels.shape == (90, 160, 3)
    assert scene.clean_plate.picture(0).alpha.max() == 0
    noise = first.pixels.astype(int) - first.background
    assert noise[first.alpha == 0].std() > 1
    assert 0 <= scene.nearest_plate_index(0) < len(plates)


def test_a_scene_is_the_same_place_at_any_size():
    small, large = (Scene("parallax-mild", w, h, 2) for w, h in ((160, 90), (320, 180)))
    for one, other in zip(small.layers, large.layers, strict=True):
        assert np.array_equal(one.plane, other.plane)
    reduced = cv2.resize(large.shot.picture(0).alpha, (160, 90), interpolation=cv2.INTER_AREA)
    assert np.abs(small.shot.picture(0).alpha - reduced).mean() < 0.02
    assert small.view_distances(0) == pytest.approx(large.view_distances(0) / 2, rel=0.02)


def test_readers_of_one_scene_share_their_pictures(planar):
    reader: VideoReader = planar.open_clean_plate()
    first = iter(reader)
    assert next(first).pixels is next(iter(planar.open_clean_plate())).pixels
    assert [frame.index for frame in reader.read_from(2)] == [2, 3]
    assert list(first) == []  # a new pass ends the one before
    assert [frame.index for frame in reader.sample(2)] == [0, 3]
    assert [frame.index for frame in reader.sample(99)] == [0, 1, 2, 3]
    rest = iter(reader)
    reader.close()
    assert list(rest) == []


def test_the_nearest_view_follows_the_plates_clock():
    nearest = {
        kind: [Scene(kind, 64, 36, 30).nearest_plate_index(i) for i in (2, 15, 27)]
        for kind in ("planar", "plate-double", "plate-half", "plate-reversed")
    }
    # The hand's own shake takes a view some frames away.
    assert nearest["planar"] == pytest.approx([2, 15, 27], abs=6)
    assert nearest["plate-double"] == pytest.approx([4, 30, 54], abs=10)
    assert nearest["plate-half"] == pytest.approx([1, 7, 13], abs=4)
    assert nearest["plate-reversed"] == pytest.approx([28, 15, 3], abs=6)


def test_equally_near_views_are_no_error():
    scene = Scene("still", 64, 36, 5)
    assert [scene.plate_index_error(2, j) for j in range(5)] == [0] * 5
    scene = Scene("planar", 64, 36, 30)
    assert scene.plate_index_error(15, scene.nearest_plate_index(15)) == 0
    assert scene.plate_index_error(0, 29) > 10


def test_corner_vectors_by_hand():
    corners = alignment_scores.corners(101, 51)
    moved = np.array([[1, 0, 3.0], [0, 1, -4], [0, 0, 1]])
    found = alignment_scores.corner_vectors(moved, corners, corners)
    assert found == pytest.approx(np.tile([3.0, -4.0], (4, 1)))
    assert alignment_scores.corner_vectors(-moved, corners, corners) == pytest.approx(found)
    folded = np.array([[1, 0, 0], [0, 1, 0], [-0.015, 0, 1.0]])
    found = alignment_scores.corner_vectors(folded, corners, corners)
    assert np.isinf(found[[1, 2]]).all()  # 100 * 0.015 > 1: behind the camera
    assert np.isfinite(found[[0, 3]]).all()


def score_of(x: float, fallback: str | None = None, milliseconds: float = 10.0) -> FrameScore:
    """A frame whose corners are all off by x pixels to the right."""
    return FrameScore(0, ((x, 0.0),) * 4, 2.0, 0.1, 50.0, 0.9, 0, 1, fallback, milliseconds)


def test_a_summary_by_hand():
    first = [score_of(1.0), score_of(3.0), score_of(0.0, milliseconds=40.0)]
    second = [score_of(7.0), score_of(7.0, "last_homography")]
    found = alignment_scores.summarise([first, second], width=1920)
    assert found["corner_median_pixels"] == 3
    assert found["corner_max_pixels"] == 7
    assert found["success_share"] == 3 / 5  # 5 pixels at 1080p
    assert (found["crashes"], found["fallbacks"]) == (0, 1)
    # Changes 2, 3 and 0; none from one scene to the next.
    assert (found["jitter_median_pixels"], found["jitter_p99_pixels"]) == (2, 3)
    assert (found["milliseconds"], found["mean_milliseconds"]) == (10, 16)
    assert found["residual"] == 2
    assert alignment_scores.summarise([first], width=960)["success_share"] == 2 / 3


def test_a_crash_is_an_infinite_error_and_no_residual():
    found = alignment_scores.summarise([[score_of(1.0), alignment_scores.crash(1)]], width=1920)
    assert (found["crashes"], found["fallbacks"], found["success_share"]) == (1, 0, 0.5)
    assert found["corner_p99_pixels"] == np.inf
    assert found["residual"] == 2
    assert np.isnan(found["jitter_p99_pixels"])


def test_a_plate_is_judged_where_it_covers_and_nobody_stands(planar):
    picture = planar.shot.picture(0)
    pixels = np.where(picture.alpha[..., None] > 0, 0, picture.background).astype(np.uint8)
    rows = np.s_[:20]
    pixels[rows] = picture.background[rows] ^ 128  # 128 levels off
    pixels[-9:] = 0
    coverage = np.ones((HEIGHT, WIDTH), np.uint8)
    coverage[-9:] = 0
    outside = (picture.alpha == 0) & (coverage == 1)
    share = outside[rows].sum() / outside.sum()
    homography = planar.homography_frame_from_plate(0, 1)
    row = Alignment(1, 0, 0, 0, 0.0, 1.0, None, tuple(homography.ravel()))
    found = alignment_scores.score(planar, 0, Plate(pixels, coverage, row), 1.0)
    assert found.residual == pytest.approx(128 * share, rel=1e-3)
    assert found.off_share == pytest.approx(share, rel=1e-3)
    assert found.coverage == pytest.approx(1 - 9 / HEIGHT)
    assert found.person_residual > 50  # black there
    assert found.corner_errors.max() < 1e-6


@pytest.mark.parametrize("make", [sengupta, background_matting_v2])
def test_published_methods_find_an_easy_homography_and_give_up_on_a_blank(make):
    # Their features need some size, and ORB's keypoints lie on whole pixels.
    scene = Scene("planar", 640, 360, 2)
    plate = scene.clean_plate.picture(0).background
    true = np.array([[1.01, 0.01, 6.0], [-0.01, 1.01, -4.0], [0, 0, 1]])
    frame = cv2.warpPerspective(plate, true, (640, 360))
    estimate = make()
    points = alignment_scores.corners(640, 360)
    found = estimate(plate, frame)
    assert np.abs(apply(found, points) - apply(true, points)).max() < 3
    blank = np.full_like(plate, 127)
    assert estimate(plate, blank) is None
    assert estimate(blank, plate) is None


def test_where_a_published_program_would_crash_its_plate_covers_nothing(planar):
    aligner = METHODS["bgmv2"](planar)
    aligner.pictures = [np.full((HEIGHT, WIDTH, 3), 9, np.uint8)] * FRAMES
    found = alignment.run_frame(planar, 1, aligner)
    assert found.fallback == CRASHED
    assert found.coverage == 0
    assert np.isinf(found.corner_errors).all()


def test_the_true_homography_scores_zero(planar):
    scores = alignment.run_scene(planar, {"truth": METHODS["truth"](planar)})["truth"]
    assert max(s.corner_errors.max() for s in scores) < 1e-6
    assert all(s.plate_index_error == 0 and s.succeeded(WIDTH) for s in scores)


@pytest.fixture(scope="module")
def deep() -> Scene:
    return Scene("parallax-strong", *SIZE, FRAMES)


@pytest.fixture(scope="module")
def by_part(deep) -> dict[str, list[FrameScore]]:
    """Of Howard's aligner without bending and fusion, without fusion, and whole."""
    aligners, _ = alignment.build(deep, [HOMOGRAPHY, "howard-unfused", "howard"])
    return alignment.run_scene(deep, aligners)


def test_bending_mends_parallax_and_fusion_fills_holes(by_part):
    off, covered = (
        [np.mean([getattr(s, name) for s in scores]) for scores in by_part.values()]
        for name in ("off_share", "coverage")
    )
    assert off[0] > 0.03  # without bending, near things lie elsewhere
    assert max(off[1:]) < off[0] / 3
    assert covered[2] > covered[1] + 0.005


def test_without_a_part_the_same_homographies_are_found(by_part):
    plain, *others = by_part.values()
    for scores in others:
        assert [s.plate_index for s in scores] == [s.plate_index for s in plain]
        apart = np.subtract([s.corners for s in scores], [s.corners for s in plain])
        assert np.abs(apart).max() < 0.1  # what is known of the person depends on the plates


def test_the_homography_alone_is_one_warped_picture(deep):
    plate = METHODS[HOMOGRAPHY](deep)(Frame(0, 0.0, deep.shot.picture(0).pixels))
    picture = deep.plate_pictures()[plate.alignment.plate_index]
    homography = np.reshape(plate.alignment.homography_frame_from_plate, (3, 3))
    expected = cv2.warpPerspective(picture, homography, SIZE)
    apart = alignment_scores.difference(plate.pixels, expected)[plate.coverage > 0]
    assert np.percentile(apart, 99) < 3


def test_a_search_near_the_same_share_does_not_follow_a_reversed_plate():
    scene = Scene("plate-reversed", *SIZE, 8)
    names = ["howard-search-nearest", "howard-search-track"]
    scores = alignment.run_scene(scene, alignment.build(scene, names)[0])
    nearest, track = ([s.plate_index for s in scores[name]] for name in names)
    assert max(abs(at - i) for i, at in enumerate(nearest)) <= LONGEST_STEP
    assert track[0] > LONGEST_STEP
    assert track[0] > track[-1] + 3


class Sees:
    """A network that knows the person, or sees nobody."""

    def __init__(self, scene: Scene, share: float) -> None:
        self.scene, self.share = scene, share

    def __call__(self, frames, plates):
        alphas = [self.scene.shot.picture(frame.index).alpha for frame in frames]
        black = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        return [Matte(alpha * np.float32(self.share), black) for alpha in alphas]


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_mattes_over_the_plates_are_judged_by_alpha(planar, share):
    score = alignment.run_frame(planar, 1, METHODS["truth"](planar), Sees(planar, share))
    person = planar.shot.picture(1).alpha.mean() * 1e3
    assert score.alpha_mad == pytest.approx((1 - share) * person, rel=1e-5)


def test_ratios_are_to_the_homography_alone():
    plain = {"residual": 8.0, "off_share": 0.1, "alpha_mad": float("nan")}
    whole = {"residual": 2.0, "off_share": 0.0, "alpha_mad": float("nan")}
    found = alignment_scores.with_ratios({HOMOGRAPHY: plain, "howard": whole})
    assert (found["howard"]["residual_ratio"], found["howard"]["off_share_ratio"]) == (0.25, 0.0)
    assert np.isnan(found["howard"]["alpha_mad_ratio"])
    assert found[HOMOGRAPHY]["residual_ratio"] == 1
    alone = alignment_scores.with_ratios({"howard": dict(whole)})
    assert np.isnan(alone["howard"]["residual_ratio"])


class Clumsy:
    """An aligner that writes on its frames, and raises at the second."""

    def __call__(self, frame):
        frame.pixels[:] = 0
        if frame.index == 1:
            raise cv2.error("no homography")
        coverage = np.zeros(frame.pixels.shape[:2], np.uint8)
        row = Alignment(0, 0, 0, 0, 0.0, 0.0, "identity", IDENTITY)
        return Plate(frame.pixels, coverage, row)

    def observe(self, plate, alpha):
        raise AssertionError("a blind aligner is told nothing")

    def close(self):
        pass


def test_an_error_is_counted_and_does_not_end_the_run(planar, capsys):
    before = planar.shot.picture(0).pixels.copy()
    scores = alignment.run_scene(planar, {"clumsy": Blind(Clumsy())})["clumsy"]
    assert [s.fallback for s in scores] == ["identity", CRASHED, "identity", "identity"]
    assert "no homography" in capsys.readouterr().err
    assert np.array_equal(planar.shot.picture(0).pixels, before)


def test_the_command_line_writes_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "stabilo", None)  # as if it were not installed
    record = tmp_path / "alignment.json"
    arguments = ["--scenes", "still", "planar", "--methods", "howard", "truth", "stabilo"]
    options = ["--size", "320x180", "--frames", "2", "--no-observe", "--json", str(record)]
    assert alignment.main([*arguments, *options]) == 0
    written = json.loads(record.read_text())
    assert {"commit", "processor", "libraries", "load_average"} <= written["environment"].keys()
    assert written["config"] == {"size": "320x180", "frames": 2, "seed": 0}
    assert list(written["results"]) == ["still", "planar", alignment.ALL]
    assert list(written["results"]["planar"]) == ["howard-blind", "truth"]
    truth = written["results"]["planar"]["truth"]
    assert truth["corner_max_pixels"] == pytest.approx(0, abs=1e-6)
    assert truth.keys() >= alignment.COLUMNS.keys()
    printed = capsys.readouterr()
    assert "stabilo is left out" in printed.err
    assert "resid." in printed.out
    assert "x resid." not in printed.out  # without Howard's homography alone there is none


def test_the_command_line_mattes_over_the_plates(tmp_path, capsys):
    record = tmp_path / "parts.json"
    arguments = ["--scenes", "planar", "--methods", HOMOGRAPHY, "howard"]
    options = ["--size", "320x180", "--frames", "2", "--json", str(record)]
    assert alignment.main([*arguments, *options, "--network", "difference-key"]) == 0
    written = json.loads(record.read_text())
    assert written["config"]["network"] == "difference-key"
    plain = written["results"][alignment.ALL][HOMOGRAPHY]
    assert plain["alpha_mad"] > 0
    assert plain["alpha_mad_ratio"] == plain["residual_ratio"] == 1
    assert "x MAD" in capsys.readouterr().out
    assert alignment.main([*arguments, *options, "--network", "absent.onnx"]) == 2
    assert "absent.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "name"), [(["--scenes", "moon"], "moon"), (["--methods", "luck"], "luck")]
)
def test_an_unknown_name_is_exit_status_2(arguments, name, capsys):
    assert alignment.main(arguments) == 2
    assert f"{name!r} is no" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["1080p", "1920x", "0x1080"])
@pytest.mark.parametrize("asked", [[], ["--long-plate", "90"]])
def test_a_size_that_is_none_is_exit_status_2(size, asked, capsys):
    assert alignment.main(["--size", size, *asked]) == 2
    assert capsys.readouterr().err == f"{size!r} is no size: give WIDTHxHEIGHT, as 1920x1080\n"


KNOWN = {
    2: np.array([[1.02, 0.03, 5.0], [-0.02, 0.99, -7.0], [2e-5, 1e-5, 1.0]]),
    3: np.array([[0.9, -0.08, 20.0], [0.06, 0.92, 4.0], [-5e-5, 2e-5, 1.0]]),
}


def write_pairs(folder, name: str, numbers: list[int]) -> None:
    """The first view of a scene's clean plate, and what a known homography makes of it."""
    size = 480, 360
    place = Scene("planar", *size, 1).clean_plate.picture(0).background
    cv2.imwrite(str(folder / name.format(1)), place)
    for number in numbers:
        warped = cv2.warpPerspective(place, KNOWN[number], size)
        cv2.imwrite(str(folder / name.format(number)), warped)


@pytest.mark.parametrize("layout", ["oxford", "opencv"])
def test_real_pictures_are_aligned_to_the_first_of_their_folder(layout, tmp_path):
    if layout == "oxford":
        numbers = [2, 3]
        write_pairs(tmp_path, "img{}.ppm", numbers)
        for number in numbers:
            np.savetxt(tmp_path / f"H1to{number}p", KNOWN[number])
    else:
        numbers = [3]
        write_pairs(tmp_path, "graf{}.png", numbers)
        (tmp_path / "box.png").write_bytes(b"another sample")
        stored = cv2.FileStorage(str(tmp_path / "H1to3p.xml"), cv2.FILE_STORAGE_WRITE)
        stored.write("H13", KNOWN[3])
        stored.release()
    record = tmp_path / "pairs.json"
    methods = ["--methods", "howard", "truth", "sengupta"]
    assert alignment.main(["--pairs", str(tmp_path), *methods, "--json", str(record)]) == 0
    written = json.loads(record.read_text())
    assert written["config"] == {"pairs": tmp_path.name}
    stem = "img" if layout == "oxford" else "graf"
    assert list(written["results"]) == [*(f"{stem}{n}" for n in numbers), alignment.ALL]
    found = written["results"][alignment.ALL]
    assert found["truth"]["corner_max_pixels"] == pytest.approx(0, abs=1e-9)
    assert found["howard"]["corner_max_pixels"] < 0.5  # it finds these to a few hundredths
    assert found["sengupta"]["success_share"] == 1


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (None, "holds no pairs: give a folder with img1.ppm"),
        (["img1.ppm", "img2.ppm"], "holds no pairs"),
        (["H1to2p", "img2.ppm"], "holds no pairs"),
        (["H1to2p", "img1.ppm", "img2.ppm"], "H1to2p holds no homography: give nine numbers"),
        (["H1to2p.xml", "img1.ppm", "img2.ppm"], "H1to2p.xml holds no homography"),
    ],
)
def test_a_folder_without_pairs_is_one_line_and_exit_status_2(tmp_path, names, told, capfd):
    for name in names or []:
        (tmp_path / name).write_text("1 2 3\n")
    folder = tmp_path if names else tmp_path / "nowhere"
    assert alignment.main(["--pairs", str(folder), "--methods", "truth"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert str(folder) in line
    assert told in line


def test_the_long_plate_is_read_and_judged():
    cost = alignment_long.search_cost(*SIZE, plate_frames=90, frames=2)
    assert cost.milliseconds.count == 2
    assert cost.amortised_milliseconds >= cost.mean_milliseconds > 0
    wander = alignment_long.Wander(*SIZE, 9)
    first, second = wander.window(40), wander.window(41)
    x, y = np.subtract(wander.corner(41), wander.corner(40))
    assert np.array_equal(first[y:, x:], second[: HEIGHT - y, : WIDTH - x])
    true = np.eye(3)
    true[:2, 2] = -np.array(alignment_long.SHOT_OFFSET)
    row = Alignment(5, 0, 0, 0, 0.0, 1.0, None, tuple(true.ravel()))
    assert alignment_long.is_aligned(wander, 5, row)
    assert not alignment_long.is_aligned(wander, 5, replace(row, plate_index=8))
