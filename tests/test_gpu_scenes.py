"""Scenes composed in batches with torch: the same kinds as `engine.training.scenes` makes."""

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.training import camera, gpu_camera, gpu_people, gpu_places  # noqa: E402
from engine.training import clothes as clothes_one_by_one  # noqa: E402
from engine.training import pack as packing  # noqa: E402
from engine.training import places as places_one_by_one  # noqa: E402
from engine.training import scenes as scenes_one_by_one  # noqa: E402
from engine.training import things as things_one_by_one  # noqa: E402
from engine.training.batches import PHASES, MaterialConfig, pictures  # noqa: E402
from engine.training.gpu_align import aligned, filled, warped  # noqa: E402
from engine.training.gpu_camera import compressed  # noqa: E402
from engine.training.gpu_clothes import adorned, robed  # noqa: E402
from engine.training.gpu_draw import Draw, blur  # noqa: E402
from engine.training.gpu_material import (  # noqa: E402
    Atlas,
    DeviceMaterial,
    read_pictures,
    runs_of,
)
from engine.training.gpu_people import Trust, make_people  # noqa: E402
from engine.training.gpu_places import relief  # noqa: E402
from engine.training.gpu_scenes import batch, composites, gpu_batches  # noqa: E402
from engine.training.gpu_shapes import OF_CLOTHES, OF_PLACES, Texture  # noqa: E402
from engine.training.gpu_things import carried  # noqa: E402
from engine.training.losses import temporal_loss  # noqa: E402
from engine.training.material import Material  # noqa: E402
from engine.training.people import People  # noqa: E402
from engine.training.scenes import PLATES, sample  # noqa: E402
from engine.training.train import TrainConfig, train  # noqa: E402
from howard.matte.holes import REACH, fill_holes  # noqa: E402

HEIGHT, WIDTH = 48, 80
LOOKS = np.array(["plain", "stage", "odd", "plain"] * 2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Batches this small only wait for one another in several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Two stills and a motion sequence of four frames, in which the person moves to the right."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for name, step in [("still0", 0), ("still1", 0), *((f"seq_f{k}", k) for k in range(4))]:
        rgba = np.zeros((120, 100, 4), np.uint8)
        rgba[..., :3] = cv2.resize(rng.integers(0, 255, (6, 6, 3)).astype(np.uint8), (100, 120))
        alpha = np.zeros((120, 100), np.uint8)
        cv2.ellipse(alpha, (40 + 8 * step, 70), (25, 60), 0, 0, 360, 255, -1, cv2.LINE_AA)
        rgba[..., 3] = alpha
        cv2.imwrite(str(folder / f"{name}.webp"), rgba, [cv2.IMWRITE_WEBP_QUALITY, 100])
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    rng = np.random.default_rng(1)
    for k in range(4):
        coarse = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"place{k}.jpg"), picture)
    return folder


@pytest.fixture(scope="module")
def material(people, places) -> DeviceMaterial:
    found = read_pictures(pictures(people), pictures(places), [], 96)
    return DeviceMaterial(found, "cpu", procedural=16, side=64)


def scenes(material, seed=0, count=8, plates=PLATES, frames=1):
    return batch(seed, count, HEIGHT, WIDTH, material, "cpu", plates, frames)


def test_a_batch_depends_on_its_seed_alone(material):
    first, again, other = (scenes(material, seed) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.frame, other.frame)


@pytest.mark.parametrize("kind", PLATES)
def test_batches_are_what_they_say(material, kind):
    made = scenes(material, 1, 12, {kind: 1.0})
    shapes = {"coverage": 1, "alpha": 1}
    for name, tensor in made._asdict().items():
        assert tensor.shape == (12, shapes.get(name, 3), HEIGHT, WIDTH)
        assert tensor.dtype == torch.float32
        assert tensor.min() >= 0
        assert tensor.max() <= 1
    assert set(made.coverage.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert (made.plate[(made.coverage == 0).expand_as(made.plate)] == 0).all()
    assert (made.coverage.max() == 0) == (kind == "missing")


def test_frames_are_composed_of_foreground_and_background(material, monkeypatch):
    monkeypatch.setattr(gpu_camera.Lens, "__call__", lambda self, seen: seen)
    kinds, reduced = np.array(["near"] * 8), np.ones(8, np.float32)
    draw = Draw(5, 8, 1, "cpu")
    scene = composites(draw, material, HEIGHT, WIDTH, kinds, LOOKS, reduced)
    recomposed = scene.alpha * scene.foreground + (1 - scene.alpha) * scene.live
    # Below an alpha of 0.01 the foreground is the place's own colour.
    assert (recomposed - scene.frame).abs().max() < 0.011
    assert (recomposed - scene.frame).abs().mean() < 1e-4


def test_a_lens_blurs_the_truth_as_the_frame(material, monkeypatch):
    monkeypatch.setattr(
        gpu_camera.Lens, "__call__", lambda self, x: blur(self.draw, x, np.full(len(x), 2.0))
    )
    kinds, reduced = np.array(["near"] * 8), np.ones(8, np.float32)
    scene = composites(Draw(5, 8, 1, "cpu"), material, HEIGHT, WIDTH, kinds, LOOKS, reduced)
    assert (scene.frame - scene.alpha * scene.foreground).min() > -0.011
    steps = (scene.alpha[..., 1:] - scene.alpha[..., :-1]).abs().amax((1, 2, 3))
    assert 0.05 < steps.max() < 0.25


@pytest.mark.parametrize("look", ["plain", "stage", "odd"])
def test_plain_people_look_as_they_were_rendered(places, tmp_path, look, monkeypatch):
    """Pure red here, but for straps and badges and what they carry; others are dressed, tinted and
    disguised, more often than not."""
    for module in (scenes_one_by_one, gpu_people):
        for share in ("ADORNED", "CARRIED"):
            monkeypatch.setattr(module, share, 0.0)
    rgba = np.zeros((60, 40, 4), np.uint8)
    rgba[:, 5:35, 2:] = 255
    cv2.imwrite(str(tmp_path / "red.png"), rgba)
    count, grey = 64, 0.5
    found = read_pictures([tmp_path / "red.png"], pictures(places), [], 96)
    material = DeviceMaterial(found, "cpu", procedural=16, side=64)
    live, every = torch.full((count, 3, HEIGHT, WIDTH), grey), np.ones(count, bool)
    trust = Trust(~every, every, np.full(count, look))
    batch = make_people(Draw(4, count, 1, "cpu"), material, live, trust)[0]
    one_by_one = Material(People([tmp_path / "red.png"], tmp_path / "cache", 96), pictures(places))
    place = places_one_by_one.Place(
        np.full((HEIGHT, WIDTH, 3), grey, np.float32), np.zeros(1), np.zeros(1), False
    )
    rng = np.random.default_rng(5)
    singles = [
        scenes_one_by_one.make_people(rng, HEIGHT, WIDTH, one_by_one, place, look)
        for _ in range(count)
    ]
    layers = [layer for people in singles for layer in people]
    for made in (list(batch.permute(0, 2, 3, 1).numpy()), layers):
        other = np.mean([np.abs(x[..., 1:3]).max() > 0.02 for x in made])
        # One in ten, too, holds something.
        assert other < 0.25 if look == "plain" else other > 0.5


def test_stages_are_full_of_lamps_and_costumes_and_what_is_plain_is_a_photograph(material):
    looks = np.array(["plain", "stage"] * 16)
    for kinds, look, kind in (
        (OF_PLACES, "plain", 0),
        (OF_PLACES, "stage", 4),
        (OF_CLOTHES, "stage", 3),
    ):
        texture = Texture(Draw(6, 32, 1, "cpu"), material, HEIGHT, WIDTH, kinds, looks)
        begin, end = material.ranges[kind]
        which = texture.which[looks == look]
        assert begin < end
        assert ((begin <= which) & (which < end)).all()


def test_where_nobody_stands_frame_and_aligned_plate_agree(material):
    assert_frame_and_plate_agree(scenes(material, 2, 32, {"aligned": 1.0}))


def assert_frame_and_plate_agree(made):
    empty = (made.alpha == 0) & (made.coverage == 1)
    assert empty.float().mean() > 0.3
    error = ((made.frame - made.plate).abs() * empty).sum((1, 2, 3)) / (
        3 * empty.sum((1, 2, 3)) + 1
    )
    assert error.median() < 0.06


def test_the_distribution_is_that_of_the_scenes_made_one_by_one(material, people, places, tmp_path):
    one_by_one = Material(People(pictures(people), tmp_path, 96), pictures(places))
    for kind, count in (("near", 120), ("aligned", 120), ("wrong", 80), ("missing", 120)):
        singles = [sample(s, HEIGHT, WIDTH, one_by_one, {kind: 1.0}) for s in range(count)]
        many = scenes(material, 6, 4 * count, {kind: 1.0})
        theirs = np.array([statistics(*(np.atleast_3d(x) for x in s)) for s in singles])
        arrays = [x.permute(0, 2, 3, 1).numpy() for x in many]
        ours = np.array([statistics(*s) for s in zip(*arrays, strict=True)])
        two = (np.ma.masked_invalid(x).mean(0) for x in (ours, theirs))
        alpha, nobody, difference, unaligned, other = next(two) - next(two)
        # Three standard deviations of the means of so few scenes, about.
        assert abs(alpha) < 0.12
        assert abs(nobody) < 0.12
        if kind == "missing":
            assert abs(unaligned) < 0.12
            assert abs(other) < 0.06
        else:
            assert abs(difference) < (0.035 if kind != "wrong" else 0.08)


def test_views_from_elsewhere_are_warped_as_opencv_does(monkeypatch):
    found = []
    known = gpu_places.homographies
    monkeypatch.setattr(
        gpu_places, "homographies", lambda *ends: found.append(known(*ends)) or found[-1]
    )
    ys, xs = np.mgrid[0:60, 0:100].astype(np.float32)
    picture = np.stack([xs / 100, ys / 60, 0.5 + 0.4 * np.sin(xs / 9)], -1)
    view = torch.from_numpy(picture).permute(2, 0, 1).repeat(12, 1, 1, 1)
    made = gpu_places.from_elsewhere(Draw(5, 12, 1, "cpu"), view).permute(0, 2, 3, 1).numpy()
    how = {"borderMode": cv2.BORDER_REFLECT}
    for ours, homography in zip(made, found[0].reshape(-1, 3, 3), strict=True):
        theirs = cv2.warpPerspective(picture, homography, (100, 60), **how)
        assert np.median(np.abs(ours - theirs)) < 0.01
    assert np.abs(made - picture).mean((1, 2, 3)).min() > 0.02


@pytest.mark.parametrize("exact", [0, 1])
def test_some_plates_lie_within_a_pixel(monkeypatch, exact):
    monkeypatch.setattr(gpu_places, "EXACT", exact)
    plates = torch.rand(12, 3, 40, 1000)
    *_, flow = gpu_places.misalign(Draw(3, 12, 1, "cpu"), plates, np.ones(12), np.ones(12))
    assert (flow.abs().amax((1, 2, 3)).median() < 2) == exact


def test_a_figure_that_belongs_to_the_place_is_in_the_plate_too(material, monkeypatch):
    monkeypatch.setattr(gpu_places, "FIGURES", 1)
    assert_frame_and_plate_agree(scenes(material, 4, 24, {"aligned": 1.0}))
    place = torch.full((24, 3, 60, 80), 0.5)
    changed = gpu_places.with_figure(Draw(2, 24, 1, "cpu"), place, material) != place
    assert 0.02 < changed.float().mean() < 0.8


def test_robes_widen_people_below_the_waist_as_much_as_one_by_one(material):
    height, width, count = 96, 128, 60
    person = np.zeros((height, width, 4), np.float32)
    person[20:90, 54:74] = (0.2, 0.3, 0.4, 1)
    layer = torch.from_numpy(person).permute(2, 0, 1).repeat(count, 1, 1, 1)
    looks = np.full(count, "odd")
    made = [robed(Draw(3, count, 1, "cpu"), material, layer, looks).permute(0, 2, 3, 1).numpy()]
    rng = np.random.default_rng(3)
    cloth = np.full((height, width, 3), 0.5, np.float32)
    made.append(np.stack([clothes_one_by_one.robed(rng, person, cloth) for _ in range(count)]))
    wider = []
    for batches in made:
        alpha = batches[..., 3]
        assert (alpha <= 1 + 1e-6).all()
        assert (batches[..., :3] <= alpha[..., None] + 1e-6).all()
        assert np.array_equal(batches[:, :36], np.broadcast_to(person[:36], (count, 36, width, 4)))
        assert (alpha.min(0)[20:90, 54:74] > 0.999).all()
        wider.append((alpha.sum((1, 2)) / person[..., 3].sum()).mean())
    assert 1.2 < min(wider) < max(wider) < 1.15 * min(wider)
    nobody = torch.zeros_like(layer)
    assert robed(Draw(3, count, 1, "cpu"), material, nobody, looks).eq(0).all()


def test_marks_stay_within_people_and_are_as_many_as_one_by_one():
    height, width, count = 96, 128, 80
    person = np.zeros((height, width, 4), np.float32)
    person[20:90, 44:84] = (0.2, 0.3, 0.4, 1)
    place = np.full((height, width, 3), (0.9, 0.1, 0.6), np.float32)
    layer, live = (
        torch.from_numpy(x).permute(2, 0, 1).repeat(count, 1, 1, 1) for x in (person, place)
    )
    made = [adorned(Draw(3, count, 1, "cpu"), layer, live).permute(0, 2, 3, 1).numpy()]
    rng = np.random.default_rng(3)
    made.append(np.stack([clothes_one_by_one.adorned(rng, person, place) for _ in range(count)]))
    changed, like_the_place = [], []
    for batches in made:
        assert np.array_equal(batches[..., 3], np.broadcast_to(person[..., 3], batches.shape[:3]))
        assert (batches[..., :3] <= batches[..., 3:] + 1e-6).all()
        moved = batches[..., :3] - person[..., :3]
        change = np.abs(moved).max(-1)
        changed.append((change > 0.05).mean())
        towards = (place - person[..., :3]) * person[..., 3:]
        share = (moved * towards).sum(-1) / np.maximum((towards**2).sum(-1), 1e-9)
        like_the_place.append((share[change > 0.3] > 0.5).mean())  # where it is no soft edge
    assert 0.01 < min(changed) < max(changed) < 1.3 * min(changed)
    assert 0.5 < min(like_the_place) < max(like_the_place) < 0.9
    assert abs(like_the_place[0] - like_the_place[1]) < 0.15
    nobody = torch.zeros_like(layer)
    assert adorned(Draw(3, count, 1, "cpu"), nobody, live).eq(0).all()


def somebody(height, width, left=44) -> np.ndarray:
    """A head on a trunk with an arm to the right."""
    person = np.zeros((height, width, 4), np.float32)
    for rows, columns in ((20, 34), (12, 12)), ((34, 90), (0, 30)), ((40, 48), (30, 60)):
        first = left + columns[0] if columns[0] != columns[1] else left + 9
        last = left + columns[1] if columns[0] != columns[1] else left + 21
        person[rows[0] : rows[1], first:last] = (0.2, 0.3, 0.4, 1)
    return person


@pytest.mark.parametrize("kind", list(things_one_by_one.KINDS))
def test_what_people_carry_is_foreground_and_as_much_as_one_by_one(material, monkeypatch, kind):
    height, width, count = 96, 128, 120
    for module in ("things", "gpu_things"):
        monkeypatch.setattr(f"engine.training.{module}.KINDS", {kind: 1.0})
    person = somebody(height, width)
    place = np.full((height, width, 3), (0.9, 0.1, 0.6), np.float32)
    layer, live = (
        torch.from_numpy(x).permute(2, 0, 1).repeat(count, 1, 1, 1) for x in (person, place)
    )
    looks = np.full(count, "odd")
    made = [carried(Draw(3, count, 1, "cpu"), material, layer, live, looks)]
    made[0] = made[0].permute(0, 2, 3, 1).numpy()
    rng = np.random.default_rng(3)
    cloth = lambda: np.full((height, width, 3), 0.5, np.float32)  # noqa: E731
    one = lambda: things_one_by_one.carried(rng, person, place, cloth)  # noqa: E731
    made.append(np.stack([one() for _ in range(count)]))
    more, lowest = [], []
    for layers in made:
        alpha = layers[..., 3]
        assert (alpha <= 1 + 1e-6).all()
        assert (layers[..., :3] <= alpha[..., None] + 1e-6).all()
        assert (alpha >= person[..., 3] - 1e-6).all()  # it takes nothing from the person
        added = alpha - person[..., 3]
        more.append(added.sum((1, 2)).mean() / person[..., 3].sum())
        lowest.append(np.flatnonzero(added.max((0, 2)) > 0.5).max())
    assert 0.01 < min(more) < max(more) < 1.35 * min(more)
    if kind == things_one_by_one.HAT:
        assert max(lowest) < 34  # beside the head, not lower
    nobody = torch.zeros_like(layer)
    assert carried(Draw(3, count, 1, "cpu"), material, nobody, live, looks).eq(0).all()


def test_what_people_carry_goes_with_them_through_a_clip(material):
    clips, frames = 24, 3
    person = np.stack([somebody(96, 160, 50 + 4 * t) for t in range(frames)])
    layer = torch.from_numpy(np.tile(person, (clips, 1, 1, 1))).permute(0, 3, 1, 2)
    live = torch.full((clips * frames, 3, 96, 160), 0.5)
    draw = Draw(4, clips, frames, "cpu")
    alpha = carried(draw, material, layer, live, np.full(clips * frames, "odd"))[:, 3]
    first, _, last = alpha.reshape(clips, frames, 96, 160).unbind(1)
    follows = (first[:, :, 8:-16] - last[:, :, 16:-8]).abs().mean((1, 2))
    assert (follows < 1e-4).all()
    assert (first - torch.from_numpy(person[0, ..., 3])).sum((1, 2)).mean() > 20


def test_relief_displaces_the_place_as_it_says_and_as_much_as_one_by_one():
    rng = np.random.default_rng(4)
    coarse = rng.random((6, 8, 3), np.float32)
    picture = np.clip(cv2.resize(coarse, (160, 96), interpolation=cv2.INTER_CUBIC), 0, 1)
    live = torch.from_numpy(picture).permute(2, 0, 1).expand(24, -1, -1, -1)
    baseline = np.tile(np.float32([1.5, 0.5]), (24, 1))
    plate, shift = relief(Draw(3, 24, 1, "cpu"), live, baseline)
    ys, xs = torch.meshgrid(torch.arange(96.0), torch.arange(160.0), indexing="ij")
    back = warped(plate, xs + shift[:, :1], ys + shift[:, 1:], "reflection")
    moved = (plate - live).abs().mean()
    assert moved > 0.005
    assert (back - live).abs().mean() < 0.5 * moved
    singles = [
        np.abs(places_one_by_one.relief(np.random.default_rng(s), picture, baseline[0]) - picture)
        for s in range(24)
    ]
    assert np.mean(singles) == pytest.approx(float(moved), rel=0.35)
    still = places_one_by_one.relief(rng, picture, np.zeros(2))
    np.testing.assert_allclose(still, picture, atol=1e-6)


def test_holes_are_filled_as_the_run_side_fills_them():
    """Where two covered pixels are equally near, either will do."""
    rng = np.random.default_rng(0)
    plates = rng.random((4, HEIGHT, WIDTH, 3), np.float32)
    covered = np.ones((4, HEIGHT, WIDTH), np.uint8)
    covered[0, :, 30:70], covered[1, 20:, 10:], covered[2] = 0, 0, 0
    covered[3] = rng.random((HEIGHT, WIDTH)) < 0.05
    to_torch = torch.from_numpy
    reach = REACH * WIDTH
    found, reached = filled(
        to_torch(plates).permute(0, 3, 1, 2), to_torch(covered)[:, None].float(), reach
    )
    for k in range(4):
        want, near = fill_holes(plates[k], covered[k], reach)
        assert (reached[k, 0].numpy() == near).mean() > 0.99  # its distances are not exact
        same = np.isclose(found[k].permute(1, 2, 0).numpy(), want).all(2)
        assert same[covered[k] == 1].all()
        assert same.mean() > 0.9


def statistics(frame, plate, coverage, alpha, _, unaligned) -> tuple[float, ...]:
    """Mean alpha, whether nobody is there, how far frame and plate differ outside people; whether
    the plate is seen unaligned, and how far its mean colour is from the frame's then."""
    seen = ((alpha < 0.01) & (coverage > 0))[..., 0]
    apart = np.abs(frame - plate)[seen].mean() if seen.sum() > 50 else np.nan
    known = unaligned.max() > 0.1
    other = np.abs((frame - unaligned).mean((0, 1))).mean() if known else np.nan
    return alpha.mean(), float(alpha.max() < 0.5), apart, float(known), other


def test_the_aligner_is_modelled_as_taking_most_of_a_displacement_back():
    rng = np.random.default_rng(0)
    coarse = rng.random((16, 24, 3), dtype=np.float32)
    place = (
        torch.from_numpy(cv2.resize(coarse, (120, 80))).permute(2, 0, 1)[None].repeat(4, 1, 1, 1)
    )
    ys, xs = torch.meshgrid(torch.arange(80.0), torch.arange(120.0), indexing="ij")
    plate = warped(
        place, xs[None, None].repeat(4, 1, 1, 1) - 3, ys[None, None].repeat(4, 1, 1, 1), "border"
    )
    ones, nobody = torch.ones(4, 1, 80, 120), torch.zeros(4, 1, 80, 120)
    displacement = torch.cat([3 * ones, nobody], 1)
    dimmed, sure = 0.7 * plate + 0.05, np.ones(4, bool)
    seen = place, dimmed, ones, nobody, displacement
    refine = lambda which: aligned(Draw(0, 4, 1, "cpu"), which, sure, *seen)  # noqa: E731
    better, covered = refine(sure)
    inside = np.s_[:, :, 10:-10, 10:-10]
    assert covered[inside].mean() > 0.99
    before, after = ((place - p)[inside].abs().mean() for p in (plate, better))
    assert after < 0.7 * before
    first, covered = refine(~sure)  # in the frame's light, and no more
    assert covered.all()
    assert (first - plate).abs().mean() < 0.03 < (dimmed - plate).abs().mean()


def test_an_atlas_samples_like_a_picture():
    rng = np.random.default_rng(0)
    sizes = [(31, 40), (24, 18)]
    found = [rng.integers(0, 255, (*s, 3)).astype(np.uint8) for s in sizes]
    atlas = Atlas(found, "cpu")
    ys, xs = torch.meshgrid(torch.arange(18.0), torch.arange(14.0), indexing="ij")
    x, y = (v[None, None].repeat(2, 1, 1, 1) + 2.25 for v in (xs, ys))
    out = atlas(torch.tensor([0, 1]), x, y, torch.ones(2))
    for k in range(2):
        expected = cv2.remap(found[k].astype(np.float32), x[k, 0].numpy(), y[k, 0].numpy(), 1)
        assert 255 * out[k].permute(1, 2, 0).numpy() == pytest.approx(expected, abs=0.01)
    beyond = atlas(torch.tensor([0]), x[:1] + 100, y[:1], torch.ones(1), outside=True)
    assert (beyond == 0).all()
    half = atlas(torch.tensor([0]), 2 * x[:1] + 0.5, 2 * y[:1] + 0.5, torch.full((1,), 2.0))
    assert abs(float(half.mean()) - float(out[0].mean())) < 0.1


def test_floodlights_fall_as_one_by_one(places):
    place = pictures(places)[0]
    photograph = cv2.resize(cv2.imread(str(place)), (WIDTH, HEIGHT)).astype(np.float32) / 255
    light = gpu_camera.Light(Draw(3, 2, 1, "cpu"), HEIGHT, WIDTH, np.zeros(2, np.float32))
    light.field[:] = 1
    light.gamma[:] = 1
    light.floodlight(np.array([False, True]))
    batch = torch.from_numpy(photograph).permute(2, 0, 1).expand(2, -1, -1, -1)
    dark, lit = light(batch).permute(0, 2, 3, 1).numpy()
    alone = camera.Flood(
        light.along[1, :, 0, 0].numpy(),
        light.flood_field[1, 0].numpy(),
        float(light.dark_share[1]),
        light.flood[1],
    )
    assert dark == pytest.approx(photograph, abs=1e-5)
    assert lit == pytest.approx(np.clip(alone(photograph), 0, 1), abs=0.03)
    changed = np.abs(lit - photograph).max(-1) > 0.02
    assert 0.02 < changed.mean() < 0.98


def test_blur_and_compression_are_those_of_opencv():
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.random((9, 13, 3), dtype=np.float32), (96, 64))
    picture = np.clip(picture + 0.05 * rng.standard_normal(picture.shape), 0, 1).astype(np.float32)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
    draw = Draw(0, 1, 1, "cpu")
    soft = blur(draw, tensor, np.array([1.5], np.float32))[0].permute(1, 2, 0).numpy()
    expected = cv2.GaussianBlur(picture, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT_101)
    assert soft == pytest.approx(expected, abs=2e-3)  # OpenCV's kernel is cut off earlier
    quality = 60
    coded = compressed(draw, tensor, np.array([quality]))[0].permute(1, 2, 0).numpy()
    levels = (picture[..., ::-1] * 255 + 0.5).astype(np.uint8)
    data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    jpeg = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] / np.float32(255)
    assert np.abs(coded - jpeg).mean() < 0.25 * np.abs(picture - jpeg).mean()


def test_clips_move_smoothly_and_only_the_noise_is_new(material):
    clips = scenes(material, 8, 6, {"near": 1.0}, frames=4)
    assert len(clips.frame) == 24
    alpha = clips.alpha.reshape(6, 4, HEIGHT, WIDTH)
    within, across = alpha.diff(dim=1).abs().mean(), (alpha[1:] - alpha[:-1]).abs().mean()
    assert 0 < within < 0.3 * across
    frames = clips.frame.reshape(6, 4, 3, HEIGHT, WIDTH)
    assert (frames.diff(dim=1).abs().mean((1, 2, 3, 4)) > 0).all()


def test_the_frames_of_a_sequence_are_cropped_alike_and_shown_in_order(people):
    files = pictures(people)
    runs = runs_of(files)
    assert sorted(len(run) for run in runs) == [1, 1, 4]
    found = read_pictures(files, [], [], 96)
    moving = next(run for run in runs if len(run) == 4)
    frames = [found.people[i] for i in moving]
    assert len({frame.shape for frame in frames}) == 1
    columns = [np.nonzero(frame[..., 3])[1].mean() for frame in frames]
    assert columns == sorted(columns)


def test_flicker_costs_and_motion_does_not():
    moving = torch.rand(6, 1, 8, 8)
    assert temporal_loss(moving, moving, 3) == 0
    assert temporal_loss(moving + 0.2, moving, 3) < 1e-6
    flicker = torch.tensor([0.0, 0.1, 0.0] * 2).reshape(6, 1, 1, 1)
    assert float(temporal_loss(moving + flicker, moving, 3)) == pytest.approx(0.1, abs=1e-6)


def test_batches_have_the_shapes_that_the_network_takes(material):
    source = gpu_batches(material, "cpu", 2, PHASES[-1], first_seed=1, frames=2)
    alpha, foreground, frame, plate, small, _, covered = next(source)
    assert len(alpha) % 2 == 0
    assert frame.shape == plate.shape == foreground.shape
    assert frame.shape[2] % small.shape[2] == 0
    assert covered.shape[2:] == small.shape[2:]


@pytest.fixture(scope="module")
def packed(people, places, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    patched = pytest.MonkeyPatch()
    patched.setattr(packing, "held_out_scenes", lambda material: few_scenes(material))
    out = folder / "training.bin"
    config = MaterialConfig(people, places, cache=folder / "cache")
    packing.pack(packing.PackConfig(out, config, max_mb=4.0))
    patched.undo()
    return out


def few_scenes(material):
    return [(kind, sample(1, 64, 96, material, {kind: 1.0})) for kind in ("near", "missing")]


def test_a_pack_brings_back_what_went_in(packed, people, places):
    before = read_pictures(pictures(people), pictures(places), [])
    found, held_out = packing.unpack(packed)
    assert [p.shape for p in found.people] == [p.shape for p in before.people]
    assert found.runs == before.runs
    for a, b in zip(found.people, before.people, strict=True):
        assert np.array_equal(a[..., 3], b[..., 3])
        assert np.abs(a.astype(float) - b).mean() < 6
    for a, b in zip(found.places, before.places, strict=True):
        assert np.abs(a.astype(float) - b).mean() < 6
    assert [kind for kind, _ in held_out] == ["near", "missing"]
    scene = held_out[0][1]
    assert scene.frame.shape == (64, 96, 3)
    assert scene.alpha.shape == (64, 96)
    assert (scene.plate[scene.coverage == 0] == 0).all()
    assert held_out[1][1].coverage.max() == 0


def test_a_pack_that_cannot_fit_is_refused(people, places, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "held_out_scenes", lambda material: [])
    config = packing.PackConfig(
        tmp_path / "x", MaterialConfig(people, places, cache=tmp_path), 1e-3
    )
    with pytest.raises(ValueError, match="--max-mb"):
        packing.pack(config)


@pytest.mark.parametrize("sequence", [0, 2])
def test_training_from_a_pack_alone(packed, tmp_path, sequence):
    config = TrainConfig(
        tmp_path / "run",
        networks=("howard",),
        pack=packed,
        sequence=sequence,
        steps=3,
        base_share=0.7,
        batch=1,
        validate_every=3,
        drawn=4,
        threads=1,
    )
    train(config)
    stored = torch.load(config.out / "howard.pt", weights_only=True)
    assert stored["steps"] == 3
    assert all(v.isfinite().all() for v in stored["latest"].values())


def test_clips_need_the_generator_that_makes_them(tmp_path):
    with pytest.raises(ValueError, match="--sequence needs"):
        train(TrainConfig(tmp_path / "run", sequence=2, generator="cpu"))
