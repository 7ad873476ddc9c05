"""The build side: the network, its training, its export. Needs the `build` extra."""

import copy
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from engine.export import (  # noqa: E402
    PARITY,
    deployable,
    example_inputs,
    export_onnx,
    load_checkpoint,
)
from engine.exported import network_from_onnx  # noqa: E402
from engine.networks import HowardNetwork  # noqa: E402
from engine.networks.best_match import GROUPS, BestMatch, GlobalMatch, best_match  # noqa: E402
from engine.networks.howard import FAST, matte  # noqa: E402
from engine.networks.layers import shuffled_up  # noqa: E402
from engine.training import places, textures  # noqa: E402
from engine.training.batches import PHASES, MaterialConfig, pictures, split, stack  # noqa: E402
from engine.training.losses import ENTROPY, laplacian_loss, matting_loss  # noqa: E402
from engine.training.material import Material  # noqa: E402
from engine.training.people import People, premultiplied, ramp  # noqa: E402
from engine.training.places import make_place  # noqa: E402
from engine.training.precision import autocast, cpu_has_bfloat16  # noqa: E402
from engine.training.scenes import Sample, sample  # noqa: E402
from engine.training.train import TrainConfig, load, save, source, train  # noqa: E402
from engine.training.unfold import unfolded  # noqa: E402
from engine.training.windows import WINDOWS, WITHIN, Windows, chosen_places, windows  # noqa: E402
from howard.errors import WeightsError  # noqa: E402
from howard.matte import default_weights  # noqa: E402
from howard.matte.holes import GUESS_PERCENT  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = HowardNetwork()
    # The refinement begins as nothing: give it a say, or its export would not be tested.
    refinement = network.refinement
    for layer in (refinement.last, refinement.around.up, refinement.slopes):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return deployable(network)


def test_the_default_network_has_at_most_4_million_parameters(network):
    assert sum(p.numel() for p in network.parameters()) <= 4_000_000


@pytest.mark.parametrize("times", [2, 4])
def test_channels_are_shuffled_up_as_torch_does(times):
    x = torch.rand(2, times**2, 6, 10)
    assert torch.equal(shuffled_up(x, times), torch.nn.functional.pixel_shuffle(x, times))


def test_alpha_and_foreground_have_the_frames_size(network):
    with torch.no_grad():
        alpha, foreground, doubt = network(*example_inputs(2, 128, 192))
    assert alpha.shape == (2, 1, 128, 192)
    assert foreground.shape == (2, 3, 128, 192)
    assert doubt.shape == (2, 1, 32, 48)  # half the base size
    assert 0 <= alpha.min() <= alpha.max() <= 1


def test_what_has_learnt_looks_both_ways(network):
    """So that a mirrored picture has the mirrored matte."""
    generator = torch.Generator().manual_seed(2)
    pictures = [torch.rand(2, c, 64, 96, generator=generator) for c in (3, 3, 1)]
    with torch.no_grad():
        said = network.coarse(*pictures)
        mirrored = network.coarse(*(x.flip(3) for x in pictures))
        one_way = network.base(*pictures)[2]
        two_ways = (one_way + network.base(*(x.flip(3) for x in pictures))[2].flip(3)) / 2
    for a, b in zip(said, mirrored, strict=True):
        assert (a - b.flip(3)).abs().max() < 1e-5
    assert (said[2] - two_ways).abs().max() < 1e-5
    assert (said[2] - one_way).abs().max() > 1e-4
    learning = copy.deepcopy(network).train()
    assert torch.equal(learning.look(*pictures)[0], learning.base(*pictures)[0])


def test_best_match_forgives_a_displacement_within_its_radius():
    frame = torch.rand(1, 16, 20, 20)
    plate = torch.roll(frame, (2, -3), (2, 3))
    inside = np.s_[:, :, 5:-5, 5:-5]
    assert best_match(frame, plate, 3)[inside].max() < 1e-6
    assert best_match(frame, plate, 2)[inside].mean() > 0.05


def test_a_global_match_finds_what_the_plate_shows_anywhere():
    torch.manual_seed(0)
    match = GlobalMatch(16)
    place, person = torch.rand(2, 16, 6, 8), torch.rand(2, 16, 6, 8)
    order = torch.randperm(48)
    moved = place.flatten(2)[:, :, order].reshape(place.shape)
    frame = torch.where(torch.arange(8) < 4, place, person)
    shown = torch.ones(2, 1, 6, 8)
    found = match(frame, moved, shown)
    assert found.shape == (2, match.outputs, 6, 8)
    assert found[..., :4].min() > 0.99
    assert found[..., 4:].min(1).values.median() < 0.98
    assert torch.allclose(found, match(frame, place, shown), atol=1e-5)


def test_where_the_plate_shows_nothing_nothing_matches():
    torch.manual_seed(0)
    match = GlobalMatch(16)
    frame = torch.rand(1, 16, 6, 8)
    shown = torch.zeros(1, 1, 6, 8)
    assert match(frame, frame, shown).eq(-1).all()
    shown[..., :2] = 1
    found = match(frame, frame, shown)
    assert found[..., :2].min() > 0.99
    assert found[..., 2:].min(1).values.median() < 0.98


def test_best_match_is_the_smallest_of_the_differences():
    frame, plate = torch.rand(1, 16, 6, 7), torch.rand(1, 16, 6, 7)
    padded = np.pad(plate.numpy()[0], ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = np.full((GROUPS, 6, 7), np.inf)
    for dy in range(3):
        for dx in range(3):
            difference = np.abs(frame.numpy()[0] - padded[:, dy : dy + 6, dx : dx + 7])
            grouped = difference.reshape(GROUPS, -1, 6, 7).mean(1)
            expected = np.minimum(expected, grouped)
    assert best_match(frame, plate, 1)[0].numpy() == pytest.approx(expected, abs=1e-6)


def test_training_takes_the_gradient_of_best_match():
    frame, plate = torch.rand(2, 2, 16, 7, 9, dtype=torch.float64).requires_grad_()
    weight = torch.rand(2, GROUPS, 7, 9, dtype=torch.float64)
    expected, ours = best_match(frame, plate, 2), BestMatch.apply(frame, plate, 2)
    assert torch.equal(ours, expected)
    gradients = [torch.autograd.grad(x, (frame, plate), weight) for x in (expected, ours)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b)


def test_an_opaque_pixel_keeps_the_frames_colour_and_others_recompose():
    frame, background, alpha = torch.rand(3, 1, 3, 8, 8)
    logit = torch.logit(alpha[:, :1].clamp(0.05, 0.95))
    person = torch.rand(1, 3, 8, 8) * 0.5 + 0.25
    seen = torch.sigmoid(logit)
    mixed = seen * person + (1 - seen) * background
    out, foreground = matte(logit, person - background, mixed)
    assert (foreground - person).abs().max() < 1e-5
    assert (out - seen).abs().max() < 1e-6
    assert torch.equal(matte(logit + 99, torch.ones(1, 3, 8, 8), frame)[1], frame)


def test_the_fast_network_is_the_same_weights_looked_at_once_and_smaller(network, tmp_path):
    learnt = {"network": "howard", "weights": HowardNetwork().state_dict()}
    torch.save(learnt, tmp_path / "howard.pt")
    name, fast = load_checkpoint(tmp_path / "howard.pt", "howard-fast")
    assert name == "howard-fast"
    assert isinstance(fast, HowardNetwork)
    assert fast.metadata["base_pixels"] < network.metadata["base_pixels"]
    pictures = example_inputs(1, 64, 96)[2:]
    with torch.no_grad():
        assert torch.equal(fast.look(*pictures)[0], fast.base(*pictures)[0])
    shipped = [onnx.load(default_weights(name)).graph.initializer for name in ("howard", name)]
    stored = [{x.name: x.raw_data for x in graph if len(x.raw_data) > 1024} for graph in shipped]
    left_out = stored[0].keys() - stored[1].keys()
    assert left_out
    assert all(name.startswith("refinement.around.") for name in left_out)
    assert stored[1] == {k: v for k, v in stored[0].items() if k not in left_out}
    assert len(stored[1]) > 30


def test_the_fast_networks_refinement_is_the_quick_one_of_the_other(network):
    small = HowardNetwork(FAST).refinement.eval()
    large = copy.deepcopy(network.refinement)
    deployable(small)
    small.load_state_dict({k: v for k, v in large.state_dict().items() if k in small.state_dict()})
    generator = torch.Generator().manual_seed(3)
    sizes = (3, 32, 48), (3, 32, 48), (4, 16, 24), (3, 32, 48), (8, 8, 12)
    inputs = [torch.rand(2, *size, generator=generator) for size in sizes]
    with torch.no_grad():
        assert not torch.equal(large(*inputs), small(*inputs))
        large.be_quick(True)
        assert torch.equal(large(*inputs), small(*inputs))


def test_onnx_agrees_with_torch_at_other_sizes_and_batches(network, tmp_path):
    model = tmp_path / "network.onnx"
    differences = export_onnx(network, model)
    assert differences.keys() == PARITY.keys()
    assert all(differences[name] <= PARITY[name] for name in PARITY)
    assert model.stat().st_size < 10 * 2**20
    assert [p.name for p in tmp_path.iterdir()] == ["network.onnx"]


def test_folding_and_rounding_hardly_change_the_network():
    torch.manual_seed(1)
    network = HowardNetwork().eval()
    for module in network.modules():  # statistics as after training, not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    inputs = example_inputs(1, 128, 128)
    with torch.no_grad():
        before = network(*inputs)[0]
        after = deployable(network)(*inputs)[0]
    # Eleven bits of weight, through some forty layers.
    assert 0 < (before - after).abs().max() < 5e-3


def test_a_model_that_disagrees_with_torch_is_not_kept(network, tmp_path, monkeypatch):
    monkeypatch.setitem(PARITY, "alpha", -1.0)
    model = tmp_path / "network.onnx"
    model.write_bytes(b"the good one")
    with pytest.raises(WeightsError, match="alpha differs"):
        export_onnx(network, model)
    assert model.read_bytes() == b"the good one"
    assert [p.name for p in tmp_path.iterdir()] == ["network.onnx"]


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path):
    weights = HowardNetwork().state_dict()
    weights["base.head.bias"] = torch.zeros(5)
    torch.save({"network": "howard", "weights": weights, "steps": 1}, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match=r"c\.pt.*base\.head\.bias"):
        load_checkpoint(tmp_path / "c.pt")


class Malicious:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in a pickle was run')",)


def test_a_pickle_with_code_in_it_is_refused(tmp_path):
    torch.save({"network": "howard", "weights": Malicious()}, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match=r"c\.pt"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("text", ["", "not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_one_line_and_exit_2(tmp_path, text):
    bad = tmp_path / "bad.pt"
    bad.write_text(text)
    done = subprocess.run(
        [sys.executable, "build_engine.py", str(bad)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "bad.pt" in done.stderr
    assert "Traceback" not in done.stderr


def person(folder: Path) -> Path:
    rgba = np.zeros((120, 80, 4), np.uint8)
    cv2.ellipse(rgba, (40, 70), (20, 50), 0, 0, 360, (60, 90, 200, 255), -1, cv2.LINE_AA)
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "person.webp"), rgba)
    return folder / "person.webp"


def test_a_scene_depends_on_its_seed_alone(tmp_path):
    material = Material(People([person(tmp_path)], tmp_path / "cache"))
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


def test_light_comes_from_one_side():
    light = ramp(np.random.default_rng(0), 40, 60)
    assert light.shape == (40, 60, 1)
    assert light.max() - light.min() > 0.15
    assert light.mean() == pytest.approx(1, abs=0.02)
    ends = light[0, 0, 0] + light[-1, -1, 0]
    assert ends == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("kind", ["near", "aligned", "missing", "wrong"])
def test_scenes_are_what_they_say(tmp_path, kind):
    material = Material(People([person(tmp_path)], tmp_path / "cache"))
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
    material = Material(People([person(tmp_path)], tmp_path / "cache"))
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
    material = Material(People([person(tmp_path)], tmp_path / "cache"))
    differences = []
    for seed in range(30):
        scene = sample(seed, 64, 96, material, {"aligned": 1.0})
        empty = (scene.alpha == 0) & (scene.coverage == 1)
        if empty.sum() > 1000:
            differences.append(np.abs(scene.frame - scene.plate)[empty].mean())
    assert np.median(differences) < 0.1


def test_people_are_stored_premultiplied_and_cropped(tmp_path):
    out = premultiplied(person(tmp_path), 512)
    assert out.shape[0] < 120
    assert out.shape[1] < 80
    assert (out[..., :3] <= out[..., 3:]).all()


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


def test_the_losses_are_zero_for_the_truth_and_grow_with_the_error():
    alpha, foreground = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32)
    hard, sure = alpha.round(), torch.zeros(2, 1, 16, 16)
    loss, difference = matting_loss(hard, foreground, sure, hard, foreground)
    assert loss == difference == 0
    near = laplacian_loss(alpha + 0.1 * torch.randn_like(alpha), alpha)
    assert 0 < near < laplacian_loss(alpha + 0.3 * torch.randn_like(alpha), alpha)


def test_the_foreground_counts_only_where_it_is_seen():
    alpha, sure = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 8, 8)
    loss, _ = matting_loss(alpha, torch.ones(1, 3, 16, 16), sure, alpha, torch.zeros(1, 3, 16, 16))
    assert loss == 0


def test_what_is_sure_and_wrong_still_has_a_gradient():
    logit = torch.full((1, 1, 16, 16), -12.0, requires_grad=True)
    colour, sure = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 8, 8)
    true_alpha = torch.ones(1, 1, 16, 16)
    matting_loss(torch.sigmoid(logit), colour, sure, true_alpha, colour)[0].backward()
    assert logit.grad is not None
    assert float(logit.grad.sum()) == pytest.approx(-ENTROPY, rel=1e-2)


def test_doubt_learns_the_error_of_alpha():
    true_alpha, colour = torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16)
    alpha = torch.full_like(true_alpha, 0.25)
    right, wrong = torch.full((1, 1, 8, 8), 0.25), torch.zeros(1, 1, 8, 8)
    aware = matting_loss(alpha, colour, right, true_alpha, colour)[0]
    unaware = matting_loss(alpha, colour, wrong, true_alpha, colour)[0]
    assert float(unaware - aware) == pytest.approx(0.25**2)


def training(tmp_path: Path, out: str) -> TrainConfig:
    person(tmp_path / "people")
    return TrainConfig(
        tmp_path / out,
        networks=("howard",),
        material=MaterialConfig(people=tmp_path / "people", cache=tmp_path / "cache"),
        steps=4,
        base_share=0.5,
        batch=2,
        validate_every=2,
        workers=0,
        threads=1,
    )


def test_training_leaves_checkpoints_pictures_and_can_be_resumed(tmp_path):
    config = training(tmp_path, "run")
    train(config)
    out = config.out
    names = ["howard-best.pt", "howard.pt", "validation"]
    assert sorted(f.name for f in out.iterdir()) == names
    for file in out.glob("*.pt"):
        name, network = load_checkpoint(file)
        assert name == "howard"
        assert not network.training
    assert len(list((out / "validation").iterdir())) == 2
    train(replace(config, resume=True, steps=6))
    assert torch.load(out / "howard.pt", weights_only=True)["steps"] == 6


def test_at_the_end_the_refinement_learns_alone(tmp_path):
    whole = replace(training(tmp_path, "whole"), edges_share=0.0)
    train(whole)
    edges = replace(whole, out=tmp_path / "edges", start=whole.out, edges_share=1.0, steps=2)
    train(edges)
    stored = (torch.load(c.out / "howard.pt", weights_only=True) for c in (whole, edges))
    before, after = next(stored)["weights"], next(stored)["latest"]
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("refinement.") for name in changed)


def test_training_starts_from_weights_that_ship_as_they_are(tmp_path):
    """In evaluation the same network; in training, on its own scenes, nearly so."""
    config = replace(training(tmp_path, "run"), batch=8)  # fewer have statistics of their own
    model = default_weights("howard")
    expected = network_from_onnx(model, "howard").eval()
    material, _ = load(config)
    batches = list(islice(source(config, material, PHASES[2], 5), 12))
    network = unfolded(model, "howard", batches).eval()
    inputs = batches[0][2:]
    with torch.no_grad():
        for ours, theirs in zip(network(*inputs), expected(*inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        network.train()
        pairs = [
            [x.base(*batch[4:])[0][:, :1].sigmoid() for x in (expected, network)]
            for batch in batches
        ]
    apart = sum(float((learning - alpha).abs().mean()) for alpha, learning in pairs)
    spread = sum(float((alpha - alpha.mean()).abs().mean()) for alpha, _ in pairs)
    assert apart < 0.2 * spread


def test_windows_lie_around_outlines_and_show_the_same_place():
    alpha = torch.zeros(2, 1, 96, 160)
    alpha[1, 0, 40:44, 100:108] = 0.5
    places = chosen_places(alpha, ratio=4, side=12)
    assert {n for n, _, _ in places} == {1}
    assert all(y % 2 == 0 and x % 2 == 0 for _, y, x in places)
    cut = windows(alpha, places, 12, 4)
    assert cut.shape[1:] == (1, 48, 48)
    assert (cut.amax((1, 2, 3)) == 0.5).all()
    column = torch.arange(40.0).expand(2, 1, 24, 40)
    at_base, at_full = (
        windows(column, places, 12, 1),
        windows(column.repeat_interleave(4, 3), places, 12, 4),
    )
    assert torch.equal(at_full[:, :, 0, ::4], at_base[:, :, 0])
    assert chosen_places(torch.zeros(2, 1, 96, 160), 4, 12) == [(0, 0, 0), (1, 0, 0)]


def test_some_windows_lie_within_people():
    alpha = torch.zeros(1, 1, 96, 160)
    alpha[..., 80:] = 1
    alpha[..., 79] = 0.5
    places = chosen_places(alpha, ratio=1, side=12)
    opaque = (windows(alpha, places, 12, 1) == 1).flatten(1).all(1)
    assert opaque[:WINDOWS].sum() == 0
    assert len(places) == WINDOWS + WITHIN
    assert opaque[WINDOWS:].any()


def test_windows_of_the_latest_batches_are_kept_with_what_the_base_says_of_them():
    network: Any = SimpleNamespace(look=lambda frame, plate, covered: (frame, halved(plate), None))
    kept = Windows()
    rng = torch.Generator().manual_seed(3)
    for ratio in (1, 4):
        small = torch.rand(2, 3, 192, 256, generator=rng)
        alpha = torch.zeros(2, 1, 192 * ratio, 256 * ratio)
        alpha[..., 100 * ratio :] = 1
        alpha[..., 100 * ratio] = 0.5
        large = small.repeat_interleave(ratio, 2).repeat_interleave(ratio, 3)
        small[:, 0] = 20 * torch.nn.functional.avg_pool2d(alpha, ratio)[:, 0] - 10
        kept.add(network, (alpha, large, large, large, small, small, small[:, :1]))
    sides = set()
    for _ in range(20):
        drawn = kept.draw()
        side = drawn.logits.shape[-1]
        sides.add(side)
        assert drawn.frame.shape[2:] == drawn.true_alpha.shape[2:] == (192, 192)
        step = 192 // side
        assert torch.equal(drawn.frame[:, 1:, ::step, ::step], drawn.logits[:, 1:])
        torch.testing.assert_close(
            halved(drawn.logits)[:, 1:], drawn.hidden[:, 1:], rtol=0, atol=1e-3
        )
        coarse = torch.sigmoid(torch.nn.functional.interpolate(drawn.logits[:, :1], (192, 192)))
        assert ((coarse > 0.5) == (drawn.true_alpha > 0.5)).float().mean() > 0.97
    assert sides == {192, 48}
    for one in kept.kept:  # its own memory alone
        assert all(x.untyped_storage().nbytes() == x.nbytes for x in one)


def test_windows_that_the_base_has_wrong_are_not_kept_beside_others(monkeypatch):
    monkeypatch.setattr("engine.training.windows.KEPT", 10)
    network: Any = SimpleNamespace(look=lambda frame, plate, covered: (frame, halved(plate), None))
    alpha = torch.zeros(2, 1, 192, 256)
    alpha[..., 100:] = 1
    alpha[..., 100] = 0.5
    right = torch.cat([20 * alpha - 10, torch.zeros(2, 2, 192, 256)], 1)
    pictures = torch.rand(2, 3, 192, 256)
    kept = Windows()
    kept.add(network, (alpha, pictures, pictures, pictures, -right, pictures, alpha))
    assert len(kept.kept) == 10  # there are no others
    kept.add(network, (alpha, pictures, pictures, pictures, right, pictures, alpha))
    before = list(kept.kept)
    assert all(x.logits[0].mul(x.true_alpha[0] - 0.5).mean() > 0 for x in before)
    kept.add(network, (alpha, pictures, pictures, pictures, -right, pictures, alpha))
    assert all(x is y for x, y in zip(kept.kept, before, strict=True))


def halved(x):
    return torch.nn.functional.avg_pool2d(x, 2)


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16", None])
def test_training_takes_bfloat16_where_the_processor_has_it(monkeypatch, feature):
    """Where it has not, a step takes twelve times as long as in fp32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True}, raising=False)
    cpu_has_bfloat16.cache_clear()
    with autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if feature else torch.float32)
    cpu_has_bfloat16.cache_clear()


def test_training_depends_on_its_seed_alone(tmp_path):
    first, again = training(tmp_path, "first"), training(tmp_path, "again")
    train(first)
    train(again)
    a, b = (torch.load(c.out / "howard.pt", weights_only=True) for c in (first, again))
    for key, value in a["latest"].items():
        assert torch.equal(value, b["latest"][key])


def test_fine_tuning_begins_with_the_given_weights(tmp_path):
    train(training(tmp_path, "first"))
    config = replace(
        training(tmp_path, "tuned"), start=tmp_path / "first", learning_rate=0.0, steps=1
    )
    train(config)
    a, b = (
        torch.load(tmp_path / name / "howard.pt", weights_only=True) for name in ("first", "tuned")
    )
    key = "base.head.weight"
    assert torch.equal(a["weights"][key], b["latest"][key])


def test_a_checkpoint_is_written_whole(tmp_path):
    save(tmp_path / "c.pt", {"steps": 7})
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
    assert torch.load(tmp_path / "c.pt", weights_only=True)["steps"] == 7
