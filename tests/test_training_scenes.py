"""What networks learn from: people, places, scenes, batches. Needs the `build` extra."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.training import camera, places, scenes, textures  # noqa: E402
from engine.training.batches import (  # noqa: E402
    PHASES,
    MaterialConfig,
    batch_shape,
    files_of,
    pictures,
    split,
    stack,
)
from engine.training.material import Material  # noqa: E402
from engine.training.people import People, cut_sides, premultiplied, put, ramp  # noqa: E402
from engine.training.places import make_place  # noqa: E402
from engine.training.scenes import Sample, sample  # noqa: E402
from howard.errors import InputError, InputMissing  # noqa: E402
from howard.matte.holes import GUESS_PERCENT  # noqa: E402
from tests.media import write_person  # noqa: E402


def test_a_scene_depends_on_its_seed_alone(tmp_path):
    material = Material(People([write_person(tmp_path)], tmp_path / "cache"))
    first, again, other = (sample(seed, 64, 96, material) for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first.frame, other.frame)


def test_people_of_one_name_in_two_folders_are_two(tmp_path):
    folders = [tmp_path / "red", tmp_path / "blue"]
    for folder, colour in zip(folders, ((0, 0, 255, 255), (255, 0, 0, 255)), strict=True):
        folder.mkdir()
        cv2.imwrite(str(folder / "0.png"), np.full((4, 4, 4), colour, np.uint8))
    rng, cache = np.random.default_rng(0), tmp_path / "cache"
    red, blue = (People([folder / "0.png"], cache).pick(rng)[0, 0, :3] for folder in folders)
    assert (red.tolist(), blue.tolist()) == ([255, 0, 0], [0, 0, 255])


def test_a_person_is_decoded_anew_where_the_file_is_another(tmp_path):
    """Though it be of the same name and age, as what comes from an archive often is."""
    file, cache = tmp_path / "0.png", tmp_path / "cache"
    seen = []
    for side in (4, 6):
        cv2.imwrite(str(file), np.full((side, side, 4), 255, np.uint8))
        os.utime(file, (1, 1))
        seen.append(People([file], cache).pick(np.random.default_rng(0)).shape[0])
    assert seen == [4, 6]


def test_a_person_is_decoded_anew_where_that_is_done_otherwise(tmp_path, monkeypatch):
    """Else a cut-out of 16 bits would stay as it was taken before."""
    file, cache = write_person(tmp_path), tmp_path / "cache"
    before = People([file], cache).files
    assert People([file], cache).files == before
    monkeypatch.setattr("engine.training.people.VERSION", 0)
    assert People([file], cache).files != before


def test_half_a_person_is_not_taken_for_one(tmp_path, monkeypatch):
    def interrupted(path, pixels):
        np.lib.format.write_array(path.open("wb"), pixels[:4])
        raise KeyboardInterrupt

    file, cache = write_person(tmp_path), tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            People([file], cache)
    whole = People([file], cache).pick(np.random.default_rng(0))
    assert np.array_equal(whole, premultiplied(file, 768))


def test_a_market_is_bright_and_full_of_detail():
    place = cv2.resize(np.random.default_rng(0).random((20, 30, 3), np.float32), (300, 200))
    lamps = np.zeros_like(place)
    textures.market(np.random.default_rng(1), lamps, place, np.array([1.0, 0.6, 0.2]))
    lit = lamps.max(-1) > 0
    assert 0.05 < lit.mean() < 0.9
    assert (lamps.min(), lamps.max()) == (0, 1)
    red, _, blue = lamps[lit].mean(0)
    assert red > blue
    detail = [cv2.Laplacian(x[..., 0], cv2.CV_32F)[lit].std() for x in (lamps, place)]
    assert detail[0] > 2 * detail[1]


def test_a_floodlight_falls_on_what_has_one_colour():
    place = np.zeros((64, 96, 3), np.float32)
    place[:, :48], place[:, 48:] = (0.6, 0.2, 0.1), (0.1, 0.2, 0.5)
    light = camera.Light(np.random.default_rng(0), 64, 96, 0.0)
    light.field[:] = 1
    assert light(place) == pytest.approx(place, abs=1e-6)
    red = np.array([1, 0, 0], np.float32)
    gain = np.array([0.5, 0.25, 2.0], np.float32)
    light.flood = camera.Flood(red, np.zeros((8, 12), np.float32), 0.5, gain)
    lit = light(place)
    assert lit[:, :40] == pytest.approx(np.broadcast_to(place[0, 0] * gain, (64, 40, 3)), abs=1e-5)
    assert lit[:, 56:] == pytest.approx(place[:, 56:], abs=1e-5)


def test_light_comes_from_one_side():
    light = ramp(np.random.default_rng(0), 40, 60)
    assert light.shape == (40, 60, 1)
    assert light.max() - light.min() > 0.15
    assert light.mean() == pytest.approx(1, abs=0.02)
    ends = light[0, 0, 0] + light[-1, -1, 0]
    assert ends == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("kind", ["near", "aligned", "missing", "wrong"])
def test_scenes_are_what_they_say(tmp_path, kind):
    material = Material(People([write_person(tmp_path)], tmp_path / "cache"))
    for seed in range(12):
        scene = sample(seed, 64, 96, material, {kind: 1.0})
        assert scene.frame.shape == scene.plate.shape == scene.foreground.shape == (64, 96, 3)
        assert scene.alpha.shape == scene.coverage.shape == (64, 96)
        for field in scene:
            assert field.dtype == np.float32
            assert field.min() >= 0
            assert field.max() <= 1
        assert set(np.unique(scene.coverage)) <= {0, GUESS_PERCENT / 100, 1}
        assert scene.plate[scene.coverage == 0].max(initial=0) == 0
        if kind == "missing":
            assert scene.coverage.max() == 0


def test_what_is_made_smaller_has_less_of_a_cameras_faults():
    flat = np.full((120, 160, 3), 0.5, np.float32)
    noise = {}
    for reduced in (1.0, 3.0):
        taken = [camera.expose(np.random.default_rng(s), flat, reduced) for s in range(20)]
        noise[reduced] = np.mean([x.std() for x in taken])
        assert all(np.allclose(255 * x, np.rint(255 * x), atol=1e-3) for x in taken)
    assert noise[3.0] < noise[1.0] / 2
    softest = [
        max(camera.Lens(np.random.default_rng(s), r).sigma for s in range(60)) for r in (1, 3)
    ]
    assert softest[0] == pytest.approx(3 * softest[1])


def test_there_is_noise_for_the_largest_pictures():
    rng = np.random.default_rng(0)
    for phase in PHASES:
        for _ in range(300):
            height, width, *_ = batch_shape(rng, 8, phase)
            assert max(height, width) < min(camera.noise_bank().shape[:2])


def test_colours_survive_compression(monkeypatch):
    """Red is the channel of red: seen as blue it would lose most of its detail."""
    monkeypatch.setattr(camera, "sensor_noise", lambda rng, h, w: np.zeros((h, w, 3), np.float32))
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::2, 0] = 1  # red
    coded = [camera.expose(np.random.default_rng(s), stripes) for s in range(40)]
    losses = [
        np.abs(x - stripes).mean(1).mean(0) for x in coded if np.abs(x - stripes).max() > 0.01
    ]
    assert len(losses) > 5
    blue = stripes[..., ::-1]
    levels = (np.ascontiguousarray(blue[..., ::-1]) * 255).astype(np.uint8)
    data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    of_blue = np.abs(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] / 255 - blue).mean()
    assert np.mean(losses) < of_blue * 3


def test_a_lens_blurs_the_truth_as_the_frame():
    lens = camera.Lens(np.random.default_rng(0))
    lens.sigma, lens.length = 2.0, 0.0
    layer = np.zeros((40, 60, 4), np.float32)
    layer[10:30, 20:40] = (0.8, 0.4, 0.2, 1)
    place = np.full((40, 60, 3), 0.1, np.float32)
    frame, colour, alpha = scenes.composite(place, [layer], lens)
    steps = np.abs(np.diff(alpha, axis=1))
    assert 0.1 < steps.max() < 0.25
    recomposed = alpha[..., None] * colour + (1 - alpha[..., None]) * place
    assert np.abs(recomposed - frame).max() < 0.011
    assert colour[alpha > 0.5] == pytest.approx(
        np.tile((0.8, 0.4, 0.2), ((alpha > 0.5).sum(), 1)), abs=1e-4
    )


def test_photographs_are_mirrored_rather_than_enlarged():
    picture = np.zeros((50, 80, 3), np.uint8)
    picture[:, ::2] = 255
    for seed in range(8):
        made = textures.crop(np.random.default_rng(seed), picture, 200, 300, 0.35)
        assert made.shape == (200, 300, 3)
        # Stripes of one pixel stay that fine, but for the last fifth; enlarged it would be 0.27.
        assert np.abs(np.diff(made[..., 0], axis=1)).mean() > 0.4


@pytest.mark.parametrize("side", ["left", "right", "above", "nowhere"])
def test_people_are_cut_off_by_the_frame_alone(side):
    stored = np.zeros((200, 120, 4), np.uint8)
    cv2.ellipse(stored, (60, 100), (59, 98), 0, 0, 360, (200, 100, 50, 255), -1, cv2.LINE_AA)
    if side == "left":
        stored = stored[:, 40:]
    elif side == "right":
        stored = stored[:, :-40]
    elif side == "above":
        stored = stored[60:]
    assert cut_sides(stored[..., 3] > 127) == tuple(side == x for x in ("left", "right", "above"))
    rng = np.random.default_rng(4)
    for _ in range(40):
        alpha = put(rng, 90, 160, stored)[..., 3]
        if side in ("left", "right"):
            outermost = alpha[:, [0, -1]].max(0)
            assert outermost.max() > 0.9
        elif side == "above":
            assert alpha[0].max() > 0.9


def test_a_plate_is_warped_by_what_moves_its_corners():
    plate = np.random.default_rng(0).random((40, 60, 3), np.float32)
    ys, xs = camera.pixel_grid(40, 60)
    same, inside = places.warped(plate, xs, ys, np.zeros((4, 2)))
    assert inside.all()
    assert np.array_equal(same, plate)
    moved, inside = places.warped(plate, xs, ys, np.full((4, 2), (2, 1), float))
    assert np.allclose(moved[:-1, :-2], plate[1:, 2:], atol=1e-3)
    assert inside[:-1, :-2].all()
    assert not inside[-1].any()
    assert not inside[:, -2:].any()


def test_some_plates_lie_within_a_pixel(monkeypatch):
    """However large the frame. Off by pixels they show another texture, by less much the same."""
    texture = cv2.blur(np.random.default_rng(0).random((124, 1240, 3), np.float32), (3, 3))
    monkeypatch.setattr(places, "photograph", lambda *_: texture)
    apart = {}
    for share in (0, 1):
        monkeypatch.setattr(places, "EXACT", share)
        made = (
            make_place(np.random.default_rng(seed), 100, 1000, Material(), "aligned", "plain")
            for seed in range(8)
        )
        apart[share] = [float(np.abs(x.live - x.plate).mean()) for x in made]
    assert 0 < np.median(apart[1]) < np.median(apart[0]) / 2


def test_a_place_without_a_plate_is_seen_from_elsewhere_or_not_at_all(monkeypatch):
    monkeypatch.setattr(places, "MISTAKEN", 0)
    found = [
        make_place(np.random.default_rng(seed), 64, 96, Material(), "missing", "odd")
        for seed in range(60)
    ]
    assert all(place.coverage.max() == place.plate.max() == 0 for place in found)
    assert not any(place.reliable or place.plausible for place in found)
    views = [place for place in found if place.unaligned is not None]
    assert 0.6 < len(views) / len(found) < 0.9  # UNALIGNED
    colours = np.array([[x.mean((0, 1)) for x in (p.live, p.unaligned)] for p in views])
    own = np.abs(colours[:, 0] - colours[:, 1]).mean()
    others = np.abs(colours[:, 0] - np.roll(colours[:, 1], 1, 0)).mean()
    assert own < 0.5 * others
    pixels = [np.abs(p.live - p.unaligned).mean() for p in views]
    assert np.median(pixels) > 0.05  # but not in its place


@pytest.mark.parametrize("kind", ["near", "missing"])
def test_figures_that_belong_to_a_place_are_in_both_takes(tmp_path, monkeypatch, kind):
    material = Material(People([write_person(tmp_path)], tmp_path / "cache"))
    monkeypatch.setattr(places, "UNALIGNED", 1)
    monkeypatch.setattr(places, "MISTAKEN", 0)
    monkeypatch.setattr(places, "put", lambda rng, h, w, *_, **__: np.ones((h, w, 4), np.float32))
    monkeypatch.setattr(places, "relief", lambda rng, live, baseline: live)
    monkeypatch.setattr(places, "parallax", lambda rng, live, plate, *_: (live, plate))
    for figures in (0, 1):
        monkeypatch.setattr(places, "FIGURES", figures)
        for seed in range(6):
            made = make_place(np.random.default_rng(seed), 64, 96, material, kind, "plain")
            shown = made.plate if kind == "near" else made.unaligned
            flat = [x.reshape(-1, 3).std(0).max() < 1e-4 for x in (made.live, shown)]
            assert flat == [figures, figures]
            if figures and kind == "near":
                assert made.coverage.mean() > 0.8  # no hole hides it


def test_the_network_gets_the_unaligned_plate_where_nothing_is_covered():
    coverage = np.zeros((64, 64), np.float32)
    coverage[:, 32:] = 1
    plate = np.full((64, 64, 3), 0.2, np.float32) * coverage[..., None]
    rest = np.zeros((64, 64, 3), np.float32), coverage, coverage
    one = Sample(rest[0], plate, *rest[1:], rest[0], np.full((64, 64, 3), 0.7, np.float32))
    _, _, _, full, _, small, _ = stack([one, one], 2)
    assert small[:, :, :, 16:].numpy() == pytest.approx(0.2)
    assert small[:, :, :, :16].numpy() == pytest.approx(0.7)
    assert full[:, :, :, :32].max() == 0


def test_where_nobody_stands_frame_and_aligned_plate_agree(tmp_path):
    material = Material(People([write_person(tmp_path)], tmp_path / "cache"))
    differences = []
    for seed in range(30):
        scene = sample(seed, 64, 96, material, {"aligned": 1.0})
        empty = (scene.alpha == 0) & (scene.coverage == 1)
        if empty.sum() > 1000:
            differences.append(np.abs(scene.frame - scene.plate)[empty].mean())
    assert np.median(differences) < 0.1


def test_people_are_stored_premultiplied_and_cropped(tmp_path):
    out = premultiplied(write_person(tmp_path), 512)
    assert out.shape[0] < 120
    assert out.shape[1] < 80
    assert (out[..., :3] <= out[..., 3:]).all()


def test_a_cut_out_of_16_bits_is_that_of_8(tmp_path):
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (12, 10, 4), np.uint8)
    rgba[0, 0, 3] = rgba[-1, -1, 3] = 255
    near = np.clip(rgba * 257.0 + rng.integers(-120, 121, rgba.shape), 0, 65535)
    pixels = {"8.png": rgba, "16.png": rgba * np.uint16(257), "16.tif": near.astype(np.uint16)}
    for name, content in pixels.items():
        cv2.imwrite(str(tmp_path / name), content)
    of_8, of_16, of_near = (premultiplied(tmp_path / name, 512).astype(int) for name in pixels)
    assert of_8.max() == 255
    assert np.array_equal(of_16, of_8)
    assert np.array_equal(of_near[..., 3], of_8[..., 3])
    assert np.abs(of_near - of_8).max() <= 1


def test_a_cut_out_that_shows_nobody_is_named(tmp_path):
    pictures = {
        "empty.png": (np.zeros((8, 8, 4), np.uint8), "is transparent throughout: leave it out"),
        "opaque.png": (np.zeros((8, 8, 3), np.uint8), "is no image with an alpha channel: give"),
        "float.tif": (np.ones((8, 8, 4), np.float32), "holds float32: give 8 or 16 bits"),
    }
    for name, (pixels, reason) in pictures.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        with pytest.raises(InputError, match=f"{name} {reason}"):
            premultiplied(tmp_path / name, 512)


def test_views_may_be_any_pictures_and_must_be_some(tmp_path):
    texture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    texture = cv2.resize(texture, (320, 240), interpolation=cv2.INTER_CUBIC)
    for name in ("0.webp", "1.JPEG", "2.tif"):
        cv2.imwrite(str(tmp_path / name), texture)
    found, held_out = files_of(MaterialConfig(views=(tmp_path,)))
    assert len(found.pairs) + len(held_out.pairs) == 6
    with pytest.raises(InputMissing, match="nowhere holds no pictures"):
        files_of(MaterialConfig(views=(tmp_path / "nowhere",)))


def test_views_of_which_no_two_can_be_aligned_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        cells = rng.integers(0, 256, (24, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(cells, (320, 240)))
    with pytest.raises(InputError, match=f"{tmp_path} holds no two .* can be aligned: give views"):
        files_of(MaterialConfig(views=(tmp_path,)))


def test_a_single_pair_of_views_is_learnt_from(tmp_path, monkeypatch):
    (tmp_path / "0.png").touch()
    monkeypatch.setattr("engine.training.batches.view_pairs", lambda files: ["pair"])
    found, held_out = files_of(MaterialConfig(views=(tmp_path,)))
    assert (found.pairs, held_out.pairs) == (["pair"], [])


def test_validation_files_are_never_trained_on():
    files = [Path(f"{i}.webp") for i in range(100)]
    kept, held = split(files, held_out=False), split(files, held_out=True)
    assert set(kept) | set(held) == set(files)
    assert not set(kept) & set(held)
    assert len(held) == 5


def test_fine_tuning_folders_may_hold_any_pictures(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [f.name for f in pictures(tmp_path)] == ["a.jpg", "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no pictures"):
        pictures(tmp_path / "empty")
