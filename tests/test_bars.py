"""Black bars around the pictures of both takes: found, left out, and put back around the result."""

import cv2
import numpy as np
import pytest

from howard.config import RunConfig
from howard.decode import open_video
from howard.decode.bars import INSET, Box, Cropped, bars_of, pictures_in
from howard.engine.run import run
from tests.media import write_image
from tests.test_align import Pictures, place, view
from tests.test_run import picture, plate_frame, report, shot_frame

LEFT, TOP, RIGHT, BOTTOM = 0, 26, 0, 30
FRAMES = 4


def barred(pixels, left=LEFT, top=TOP, right=RIGHT, bottom=BOTTOM, level=0):
    colour = (level,) * 3
    made = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)
    made += np.random.default_rng(0).integers(0, 3, made.shape, np.uint8)
    height, width = pixels.shape[:2]
    made[top : top + height, left : left + width] = pixels
    return made


def views(count=6):
    scene = place(3)
    return [np.maximum(view(scene, 4 * i, 2 * i), 8) for i in range(count)]


@pytest.mark.parametrize("level", [0, 16])
@pytest.mark.parametrize(
    "sides", [(0, 40, 0, 40), (0, 40, 0, 12), (0, 0, 0, 30), (120, 0, 110, 0), (50, 30, 50, 30)]
)
def test_bars_are_found_to_the_pixel(sides, level):
    assert bars_of(Pictures([barred(x, *sides, level=level) for x in views()])) == sides


def test_a_timecode_in_a_bar_does_not_hide_it():
    takes = [barred(x) for x in views()]
    for index, take in enumerate(takes):
        cv2.putText(take, f"00:0{index}", (40, 18), cv2.FONT_HERSHEY_PLAIN, 1, (255, 255, 255))
    assert bars_of(Pictures(takes)) == (LEFT, TOP, RIGHT, BOTTOM)


def test_a_dark_sky_or_a_black_wall_that_moves_is_no_bar():
    height, width = views()[0].shape[:2]
    skyline = 80 + np.random.default_rng(1).integers(-40, 40, width)
    nights, walls = [], []
    for index, x in enumerate(views()):
        night, wall = x.copy(), x.copy()
        night[np.arange(height)[:, None] < np.roll(skyline, 4 * index)] = 3
        wall[: 60 - 4 * index] = 0
        nights.append(night)
        walls.append(wall)
    assert bars_of(Pictures(nights)) == (0, 0, 0, 0)
    # What stays black in all of them may well be one; it is not where any of them shows something.
    assert bars_of(Pictures(walls))[1] <= 60 - 4 * 5


def test_takes_without_bars_are_not_read_beyond_their_first_frame():
    class Once(Pictures):
        def sample(self, count):
            raise AssertionError("read through")

    assert pictures_in(Once(views()), Once(views())) is None


@pytest.mark.parametrize("sides", [(0, 40, 0, 40), (0, 0, 0, 0)])
def test_a_take_that_begins_in_black_has_its_bars(sides):
    taken = [barred(x, *sides) for x in views()]
    black = barred(np.zeros_like(views()[0]), *sides)
    assert bars_of(Pictures([black, *taken])) == sides


def test_only_what_both_takes_have_counts():
    sky = views()
    for x in sky:
        x[:40] = 0
    shot, plate = Pictures([barred(x) for x in views()]), Pictures(sky)
    height, width = barred(views()[0]).shape[:2]
    assert pictures_in(shot, Pictures(views())) is None
    ours, theirs = pictures_in(shot, plate)
    assert ours == Box(0, TOP, width, height)
    assert theirs == Box(0, 40 + INSET, *views()[0].shape[1::-1])


def test_a_reader_is_cropped_in_every_pass():
    taken = views()
    reader = Cropped(Pictures(taken), Box(10, 20, 110, 70))
    assert (reader.info.width, reader.info.height) == (100, 50)
    for frames, first in ((iter(reader), 0), (reader.read_from(2), 2), (reader.sample(3), 0)):
        frame = next(frames)
        assert frame.index == first
        assert np.array_equal(frame.pixels, taken[first][20:70, 10:110])
        assert frame.pixels.flags.c_contiguous


def folder(path, frames):
    for index, pixels in enumerate(frames):
        write_image(path / f"{index:03d}.png", pixels)
    return path


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """With bars; and as they are seen without them, where the plate's edges are left out."""
    at = tmp_path_factory.mktemp("bars")
    shot, plate = [[make(i) for i in range(FRAMES)] for make in (shot_frame, plate_frame)]
    return (
        (folder(at / "shot", map(barred, shot)), folder(at / "plate", map(barred, plate))),
        (folder(at / "bare", shot), folder(at / "plain", [x[INSET:-INSET] for x in plate])),
    )


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_result_is_that_without_bars_with_nothing_around_it(device, takes, tmp_path, request):
    request.getfixturevalue("host_runner" if device == "gpu" else "no_gpu")
    out, bare = tmp_path / "out", tmp_path / "bare"
    run(RunConfig(*takes[0], out, device=device))
    run(RunConfig(*takes[1], bare, device=device))
    height = picture(bare, 0).shape[0]
    for index in range(FRAMES):
        whole, inside = picture(out, index), picture(bare, index)
        assert np.array_equal(whole[TOP : TOP + height], inside)
        assert whole[:TOP].max() == whole[TOP + height :].max() == 0
    (told,) = [w for w in report(out)["warnings"] if "bars" in w]
    assert f"192 x 128 pixels at (0, {TOP}) of the shot" in told
    rows = zip(report(out)["frames"], report(bare)["frames"], strict=True)
    frame, plate = np.eye(3), np.eye(3)
    frame[1, 2], plate[1, 2] = TOP, -(TOP + INSET)
    for here, there in rows:
        found, expected = (
            np.reshape(row["homography_frame_from_plate"], (3, 3)) for row in (here, there)
        )
        expected = frame @ expected @ plate
        assert found == pytest.approx(expected / expected[2, 2], abs=1e-6)
        assert here["coverage"] == there["coverage"]


def test_a_run_goes_on_from_whole_frames_alignment(takes, tmp_path, no_gpu):
    for out, pair in (("out", takes[0]), ("bare", takes[1])):
        for frames in ("0:2", "2:4"):
            run(RunConfig(*pair, tmp_path / out, device="cpu", frames=frames))
    for index in range(FRAMES):
        inside = picture(tmp_path / "bare", index)
        whole = picture(tmp_path / "out", index)[TOP : TOP + len(inside)]
        assert cv2.absdiff(whole, inside).max() <= 1  # a homography rounded otherwise


def test_real_files_have_none():
    """What the sample shows is picture to its border."""
    from sample.truth import CLEAN_PLATE, SHOT

    shot, plate = open_video(SHOT), open_video(CLEAN_PLATE)
    assert pictures_in(shot, plate) is None
    shot.close()
    plate.close()
