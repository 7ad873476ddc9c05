"""What the user can ask of the alignment: where to search, what to do on a mismatch, pictures."""

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest

from howard.align.cpu import OpenCVAligner, OpenCVOperations
from howard.align.debug import LINE
from howard.align.mismatch import FEWEST_KEYPOINTS, Mismatch
from howard.align.plate_index import PlateIndex
from howard.config import AlignOptions, RunConfig
from howard.errors import InputError, OutputError
from howard.frames import Frame
from tests.test_align import Pictures, aligner, place, view


class Sampled(Pictures):
    """Pictures that can be sampled."""

    def sample(self, count):
        step = max(1, len(self.pictures) // count)
        return (f for f in self if f.index % step == 0)


def told(frames, on_mismatch="continue", found=False, keypoints=500):
    mismatch = Mismatch("shot.mp4", "plate.mp4", 100, on_mismatch)
    for _ in range(frames):
        mismatch.note(keypoints, found)
    return mismatch


def test_a_plate_of_another_scene_is_said_plainly_with_the_numbers():
    assert told(14).warnings == []
    (warning,) = told(15).warnings
    assert "plate.mp4: the clean plate does not show this scene" in warning
    assert "first 15 frames" in warning
    assert len(told(40).warnings) == 1


def test_stop_on_mismatch_names_the_option():
    with pytest.raises(InputError, match=r"does not show this scene.*--on-mismatch continue"):
        told(15, "stop")


def test_some_frames_that_were_found_or_black_frames_are_no_mismatch():
    assert told(40, "stop", keypoints=FEWEST_KEYPOINTS - 1).warnings == []
    for found, warnings in ((4, 0), (3, 1)):
        mismatch = told(5)
        for index in range(40):
            mismatch.note(500, found=index < found)
        assert len(mismatch.warnings) == warnings
    assert "3 of the first 15 frames" in mismatch.warnings[0]
    short = Mismatch("shot.mp4", "plate.mp4", 3, "stop")
    for found in (False, True, False):
        short.note(500, found)
    assert short.warnings == []


def test_a_frame_without_a_plate_of_its_own_tells_how_much_is_to_be_seen_in_it():
    align = aligner([place(1)[:270, :480]], shot_frames=3)
    found = align(Frame(0, 0.0, place(2)[:270, :480].copy())).alignment
    assert found.fallback is not None
    assert found.keypoints > FEWEST_KEYPOINTS


@pytest.mark.parametrize("levels", [0, 128, 255])
def test_a_plate_of_one_colour_is_no_plate_of_this_scene(levels):
    flat = np.full((270, 480, 3), levels, np.uint8)
    align = aligner([flat] * 3, shot_frames=3)
    plates = [align(Frame(i, 0.0, view(striped(), i, 0))) for i in range(3)]
    assert [plate.alignment.fallback for plate in plates] == ["identity"] * 3
    assert not any(plate.coverage.any() for plate in plates)


def striped():
    """Strong contrasts, so that nothing flat resembles it."""
    return np.where(place() > 128, 230, 20).astype(np.uint8)


def test_the_index_finds_the_part_of_the_plate_that_shows_the_frame():
    wide = cv2.hconcat([place(seed)[:270] for seed in range(4)])
    reader = Sampled([np.ascontiguousarray(wide[:, x : x + 480]) for x in range(0, 1500, 30)])
    operations = OpenCVOperations((480, 270), (480, 270))
    index = PlateIndex(reader, operations)
    look = operations.look_at_frame(Frame(0, 0.0, np.ascontiguousarray(wide[:, 910:1390])))
    assert abs(index.locate(look) * 30 - 910) <= 90
    other = operations.look_at_frame(Frame(0, 0.0, place(77)[:270, :480].copy()))
    assert index.locate(other) is None


def test_a_plate_that_shows_half_of_the_frame_is_not_kept_where_another_shows_all():
    """After a cut, say: what it covers fits, so that nothing is lost."""
    wide = cv2.hconcat([place(seed, (640, 270))[:270, :640] for seed in range(8)])
    pictures = [np.ascontiguousarray(wide[:, x : x + 480]) for x in range(0, 4500, 9)]
    align = OpenCVAligner(Pictures(pictures[:40]).info, Sampled(pictures), None, AlignOptions())
    assert align.search.window.capacity < len(pictures)
    shown = [*range(40, 47), *range(77, 80)]
    plates = [align(Frame(i, i / 30, pictures[k].copy())) for i, k in enumerate(shown)]
    assert [plate.alignment.plate_index for plate in plates[3:7]] == shown[3:7]
    assert [plate.alignment.plate_index for plate in plates[8:]] == shown[8:]
    assert min(plate.alignment.coverage for plate in plates[8:]) > 0.99


@pytest.mark.parametrize("length_is_known", [True, False])
def test_global_search_finds_a_start_that_the_window_does_not_hold(length_is_known):
    wide = cv2.hconcat([place(seed, (640, 270))[:270, :640] for seed in range(8)])
    pictures = [np.ascontiguousarray(wide[:, x : x + 480]) for x in range(0, 4500, 9)]
    frame = Frame(0, 0.0, pictures[450].copy())
    indices = {}
    for search in ("nearest", "global"):
        reader = Sampled(pictures)
        if not length_is_known:
            reader.info = replace(reader.info, frames=None)
        info = Pictures(pictures[:10]).info
        align = OpenCVAligner(info, reader, None, AlignOptions(search=search))
        assert align.search.window.capacity < len(pictures)
        indices[search] = align(frame).alignment
    assert abs(indices["global"].plate_index - 450) <= 12
    assert indices["global"].fallback is None
    assert indices["nearest"].fallback == "identity"


def test_debug_pictures_show_a_frame_each(tmp_path):
    scene = place()
    info = Pictures([view(scene, 0, 0)]).info
    options = AlignOptions(debug=tmp_path / "debug")
    align = OpenCVAligner(info, Pictures([view(scene, 5, 0)]), None, options)
    align(Frame(0, 0.0, view(scene, 0, 0)))
    picture = cv2.imread(str(tmp_path / "debug" / "000000.jpg"))
    assert picture.shape == (2 * 360 + LINE, 3 * 640, 3)
    # Matches that agree are drawn green on the frame.
    b, g, r = (picture[:360, :640, k].astype(int) for k in range(3))
    assert ((g > b + 80) & (g > r + 80)).sum() > 200


@pytest.mark.parametrize(("width", "height"), [(2, 300), (2600, 2)])
def test_debug_pictures_of_slivers(tmp_path, width, height):
    sliver = np.full((height, width, 3), 90, np.uint8)
    info = Pictures([sliver]).info
    align = OpenCVAligner(info, Pictures([sliver]), None, AlignOptions(debug=tmp_path))
    align(Frame(0, 0.0, sliver))
    assert cv2.imread(str(tmp_path / "000000.jpg")).shape[1] == 3 * 640


def test_a_debug_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    info = Pictures([place()[:270, :480]]).info
    with pytest.raises(OutputError, match="--debug"):
        OpenCVAligner(
            info, Pictures([place()[:270, :480]]), None, AlignOptions(debug=tmp_path / "file" / "d")
        )


def test_debug_pictures_replace_their_like_and_nothing_else(tmp_path):
    scene = place()
    reader = Pictures([view(scene, 5, 0)])
    options = AlignOptions(debug=tmp_path)
    for _ in range(2):
        OpenCVAligner(reader.info, reader, None, options)(Frame(0, 0.0, view(scene, 0, 0)))
    mine = tmp_path / "000001.jpg"
    cv2.imwrite(str(mine), scene)
    before = mine.read_bytes()
    with pytest.raises(OutputError, match=r"--debug .* holds 000001\.jpg, which Howard did not"):
        OpenCVAligner(reader.info, reader, None, options)
    assert mine.read_bytes() == before


def test_a_debug_folder_may_have_any_name(tmp_path):
    folder = tmp_path / os.fsdecode(b"d\xe9")  # no UTF-8
    scene = place()
    reader = Pictures([view(scene, 5, 0)])
    align = OpenCVAligner(reader.info, reader, None, AlignOptions(debug=folder))
    align(Frame(0, 0.0, view(scene, 0, 0)))
    assert (folder / "000000.jpg").stat().st_size > 10_000


def test_the_options_reach_the_aligner():
    config = RunConfig("shot", "plate", "out", plate_search="track", on_mismatch="stop")
    assert config.align_options == AlignOptions("track", None)


def test_what_the_plate_shows_too_is_not_taken_for_the_person():
    scene = place()
    align = aligner([view(scene, 0, 0)])
    frame = view(scene, 4, 0)
    frame[100:200, 200:280] = place(9)[100:200, 200:280]
    plate = align(Frame(0, 0.0, frame))
    wrong = np.zeros((270, 480), np.float32)
    wrong[100:200, 200:480] = 1  # the person, and all of the place to their right
    align.observe(plate, wrong)
    person = align.operations.person((480, 270))
    assert person[110:190, 210:270].min() == 1
    assert person[:, 330:440].max() == 0  # the right edge is not covered
