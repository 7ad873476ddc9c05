"""How networks learn: losses, windows, the run. Needs the `build` extra."""

import os
import pickle
import platform
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from engine.export import load_checkpoint  # noqa: E402
from engine.exported import network_from_onnx  # noqa: E402
from engine.networks import HowardNetwork  # noqa: E402
from engine.training.batches import PHASES, MaterialConfig, command  # noqa: E402
from engine.training.checkpoints import save  # noqa: E402
from engine.training.clock import Clock  # noqa: E402
from engine.training.config import TrainConfig  # noqa: E402
from engine.training.losses import (  # noqa: E402
    ENTROPY,
    FINE_ENTROPY,
    alpha_loss,
    fine_loss,
    laplacian_loss,
    matting_loss,
    outline_loss,
)
from engine.training.precision import autocast, cpu_has_bfloat16  # noqa: E402
from engine.training.train import load, source, train  # noqa: E402
from engine.training.unfold import unfolded  # noqa: E402
from engine.training.windows import WINDOWS, WITHIN, Windows, chosen_places, windows  # noqa: E402
from howard.matte import default_weights  # noqa: E402
from tests.media import write_person  # noqa: E402


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


def test_to_a_refinement_haze_costs_more_and_what_only_a_base_could_mend_less():
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 16:] = 1
    assert fine_loss(truth, truth) == 0
    # A corner wrong, or everything a little: the same difference.
    haze, blob = 0.9 * truth + 0.05, truth.clone()
    blob[..., :4, :16] = 0.8
    assert float((haze - truth).abs().mean()) == pytest.approx(float(blob.sub(truth).abs().mean()))
    of_blob, of_haze = (
        [float(loss(x, truth)) for loss in (fine_loss, alpha_loss)] for x in (blob, haze)
    )
    assert of_blob[0] / of_haze[0] < of_blob[1] / of_haze[1]


def test_at_the_end_of_a_run_the_loss_weighs_what_is_sure_and_wrong_less():
    sure = torch.zeros(1, 1, 8, 8)
    colour, true_alpha = torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    alpha = torch.full_like(true_alpha, 0.5)
    begin, end = (
        float(matting_loss(alpha, colour, sure, true_alpha, colour, part)[0]) for part in (0.0, 1.0)
    )
    assert begin - end == pytest.approx((ENTROPY - FINE_ENTROPY) * np.log(2), rel=1e-5)


def test_along_outlines_the_step_is_that_of_the_mean_colours_on_both_sides():
    true_alpha = torch.zeros(1, 1, 32, 32)
    true_alpha[..., 16:] = 1
    true_alpha[..., 15] = 0.3
    person, place = torch.tensor([0.8, 0.2, 0.5]), torch.tensor([0.1, 0.6, 0.5])
    foreground = person[None, :, None, None].expand(1, 3, 32, 32)
    background = place[None, :, None, None].expand(1, 3, 32, 32)
    frame = true_alpha * foreground + (1 - true_alpha) * background
    step = (foreground - background).clone()
    assert outline_loss(step, frame, true_alpha, foreground) < 1e-6
    collapsed = step.clone()
    collapsed[..., 16:] = 0  # within the person, where the foreground does not depend on it
    assert outline_loss(collapsed, frame, true_alpha, foreground) > 0.1
    far = step.clone()
    far[..., :10] = far[..., 22:] = 9
    assert outline_loss(far, frame, true_alpha, foreground) < 1e-6


def test_doubt_learns_the_error_of_alpha():
    true_alpha, colour = torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16)
    alpha = torch.full_like(true_alpha, 0.25)
    right, wrong = torch.full((1, 1, 8, 8), 0.25), torch.zeros(1, 1, 8, 8)
    aware = matting_loss(alpha, colour, right, true_alpha, colour)[0]
    unaware = matting_loss(alpha, colour, wrong, true_alpha, colour)[0]
    assert float(unaware - aware) == pytest.approx(0.25**2)


def training(tmp_path: Path, out: str) -> TrainConfig:
    write_person(tmp_path / "people")
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
    assert len(list((out / "validation").iterdir())) == 3
    train(replace(config, resume=True, steps=6))
    assert torch.load(out / "howard.pt", weights_only=True)["steps"] == 6


@pytest.mark.parametrize(
    ("part", "shares"),
    [("refinement", {"edges_share": 1.0}), ("detail", {"detail_share": 1.0})],
)
def test_at_the_end_one_part_learns_alone(tmp_path, part, shares):
    whole = replace(training(tmp_path, "whole"), edges_share=0.0, detail_share=0.0)
    train(whole)
    alone = replace(whole, out=tmp_path / "alone", start=whole.out, steps=2, **shares)
    train(alone)
    stored = (torch.load(c.out / "howard.pt", weights_only=True) for c in (whole, alone))
    before, after = next(stored)["weights"], next(stored)["latest"]
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(f"{part}.") for name in changed)


def test_each_phase_has_its_share_of_the_run_and_parts_their_own_course(tmp_path):
    config = replace(
        training(tmp_path, "run"),
        steps=80,
        people_share=0.125,
        base_share=0.5,
        edges_share=0.25,
        detail_share=0.125,
    )
    clocks = {steps: Clock(config, steps) for steps in (0, 9, 10, 39, 40, 49, 50, 69, 70, 79)}
    names = [clock.phase.name for clock in clocks.values()]
    assert names == [phase.name for phase in PHASES for _ in range(2)]
    parts = {steps: clock.part for steps, clock in clocks.items()}
    assert [parts[s] for s in (0, 50, 70)] == pytest.approx([0, 0, 0])
    assert [parts[s] for s in (49, 69, 79)] == pytest.approx([0.98, 0.95, 0.9])
    rates = {steps: clock.learning_rate() for steps, clock in clocks.items()}
    assert rates[49] < 0.1 * rates[10] < rates[50] == pytest.approx(rates[70])
    for spared in ({"edges_share": 0.0, "detail_share": 0.0}, {"edges_share": 0.875}):
        last = Clock(replace(config, **spared), 79).phase.name
        assert last == ("joint" if "detail_share" in spared else "detail")


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


PEAK_AND_AFTER = """
import sys
import numpy as np
from engine.training.memory import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
if sys.argv[1] == "kept":
    keep_freed_memory()
block = np.ones(2**25)
peak = resident()
del block
print(peak - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what the GNU C library does")
@pytest.mark.parametrize(("how", "given_back"), [("kept", 0), ("as usual", 2**28)])
def test_freed_memory_is_kept_for_the_next_tensor(how, given_back):
    done = subprocess.run(
        [sys.executable, "-c", PEAK_AND_AFTER, how], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == pytest.approx(given_back, abs=2**22)


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


@pytest.fixture
def told(tmp_path, monkeypatch, capfd):
    """The one line that a training with these options ends with, called from an empty folder."""

    def line(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["train", *options])
        assert command("engine.training.train", TrainConfig, train, None) == 2
        (told,) = capfd.readouterr().err.splitlines()
        return told

    monkeypatch.chdir(tmp_path)
    return line


def test_a_run_is_not_begun_where_one_is_nor_gone_on_with_where_none_is(told):
    missing = "run/howard.pt does not exist: leave --resume out to begin a run"
    assert missing in told("run", "--resume")
    assert not Path("run").exists()
    Path("run").mkdir()
    assert missing in told("run", "--resume")
    Path("run/howard.pt").write_bytes(b"an hour's work")
    assert "run/howard.pt is of an earlier run: give --resume" in told("run")
    assert Path("run/howard.pt").read_bytes() == b"an hour's work"
    several = "--networks", "howard", "context-switching"
    assert "run/context-switching.pt does not exist" in told("run", *several, "--resume")


class Code:
    """Makes a folder where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("hacked",)


def saved(stored: object) -> bytes:
    file = BytesIO()
    torch.save(stored, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["run", "--resume"], "put a copy of it in its place, or begin with another OUT"),
        (["new", "--start", "run"], "give OUT of an earlier run, or engine/weights"),
    ],
)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: b"an hour's work", id="text"),
        pytest.param(lambda: saved(HowardNetwork().state_dict())[:100_000], id="truncated"),
        pytest.param(lambda: saved(torch.zeros(1)), id="no parts"),
        pytest.param(lambda: saved(Code()), id="code in a zip"),
        pytest.param(lambda: pickle.dumps(Code()), id="code"),
    ],
)
def test_a_damaged_checkpoint_is_one_line_without_advice_to_run_it(told, content, options, remedy):
    Path("run").mkdir()
    Path("run/howard.pt").write_bytes(content())
    line = told(*options)
    assert line.endswith(f"run/howard.pt is damaged, or no checkpoint: {remedy}")
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"weights": {"some": torch.zeros(1)}}, "Missing key(s) in state_dict"),
        ({"weights": torch.zeros(1)}, "dict"),
        ({"network": "howard"}, "weights"),
    ],
)
def test_a_checkpoint_of_something_else_is_one_line(told, stored, reason):
    Path("run").mkdir()
    torch.save(stored, "run/howard.pt")
    for options in (["run", "--resume"], ["new", "--start", "run"]):
        line = told(*options)
        assert "run/howard.pt does not fit howard (" in line
        assert reason in line


def test_a_run_does_not_go_on_from_its_best_weights(told):
    Path("run").mkdir()
    stored = {"network": "howard", "weights": HowardNetwork().state_dict(), "steps": 3}
    torch.save(stored, "run/howard.pt")
    assert "run/howard.pt does not fit howard ('latest'): put a copy" in told("run", "--resume")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["run", "--people", "nobody"], "nobody holds no pictures"),
        (["run", "--places", "nowhere"], "nowhere holds no pictures"),
        (["run", "--views", "nowhere"], "nowhere holds no pictures"),
        (["run", "--start", "nowhere"], "--start nowhere holds neither howard.pt nor howard.onnx"),
        (["run", "--pack", "no.bin"], "no.bin is no pack: make one with engine.training.pack"),
        (["run", "--sequence", "2"], "--sequence needs --generator gpu"),
        (["run", "--device", "abacus"], "torch cannot use --device abacus"),
        (["run", "--stepps", "3"], "did you mean --steps?"),
        (["file"], "cannot write file"),
    ],
)
def test_a_training_that_cannot_be_is_one_line(told, options, error):
    Path("file").touch()
    assert error in told(*options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_missing_is_one_line(told):
    assert "torch cannot use --device cuda" in told("run", "--device", "cuda")


def test_a_photograph_that_cannot_be_read_is_one_line(told):
    write_person(Path("people"))
    Path("places").mkdir()
    Path("places/bad.jpg").write_bytes(b"not a picture")
    folders = "--people", "people", "--places", "places", "--cache", "cache"
    assert "places/bad.jpg is not a readable image" in told("run", *folders)


@pytest.mark.parametrize(
    ("module", "options", "error"),
    [
        ("train", ["run", "--resume"], "run/howard.pt does not exist"),
        ("evaluate", ["missing.pt"], "checkpoint missing.pt does not exist"),
        ("pack", ["out.bin", "--people", "nobody"], "nobody holds no pictures"),
    ],
)
def test_the_commands_of_the_training_end_in_one_line_and_exit_2(tmp_path, module, options, error):
    done = subprocess.run(
        [sys.executable, "-m", f"engine.training.{module}", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"engine.training.{module}: ")
    assert error in line
    assert done.returncode == 2


def test_a_checkpoint_is_written_whole(tmp_path):
    save(tmp_path / "c.pt", {"steps": 7})
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
    assert torch.load(tmp_path / "c.pt", weights_only=True)["steps"] == 7
