"""The build side: the networks and their export. Needs the `build` extra."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import build_engine  # noqa: E402
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
from howard.errors import WeightsError  # noqa: E402
from howard.matte import default_weights  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = HowardNetwork()
    # These begin as nothing: give them a say, or their export would not be tested.
    refinement = network.refinement
    for layer in (refinement.last, refinement.around.up, refinement.slopes, network.detail.last):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return deployable(network)


def test_the_default_network_has_at_most_4_million_parameters(network):
    """Beside those that are multiplied by the zeros that fill up BLOCKs."""
    base = network.base
    joins = [(base.join16, base.trunk16[0]), (base.join8, base.decode8[0])]
    joins += [(base.join4, base.decode4[0]), (base.join2, base.decode2)]
    idle = sum(join.beside * layer[0].out_channels * 9 for join, layer in joins)
    every = sum(p.numel() for p in network.parameters())
    assert 0 < idle < 0.005 * every
    assert every - idle <= 4_000_000


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
    seen = alpha[:, :1].clamp(0.05, 0.95)
    person = torch.rand(1, 3, 8, 8) * 0.5 + 0.25
    mixed = seen * person + (1 - seen) * background
    out, foreground = matte(seen, person - background, mixed, has_learnt=False)
    assert (foreground - person).abs().max() < 1e-5
    assert torch.equal(out, seen)
    opaque = torch.ones_like(seen)
    assert torch.equal(matte(opaque, torch.ones(1, 3, 8, 8), frame, False)[1], frame)


def test_what_is_nearly_opaque_or_transparent_is_so_once_the_network_has_learnt(network):
    alpha = torch.tensor([0.015, 0.02, 0.04, 0.06, 0.5, 0.94, 0.96, 0.98, 0.99])
    black = torch.zeros(1, 3, 1, 9)
    cut = matte(alpha.reshape(1, 1, 1, 9), black, black, has_learnt=True)[0]
    wanted = [0, 0, 0.03, 0.06, 0.5, 0.94, 0.97, 1, 1]
    assert cut.flatten().tolist() == pytest.approx(wanted, abs=1e-6)
    other = copy.deepcopy(network)
    other.base.head.bias.data.fill_(-5.0)
    small = (
        torch.full((1, 3, 64, 64), 0.5),
        torch.full((1, 3, 64, 64), 0.6),
        torch.ones(1, 1, 64, 64),
    )
    assert other.eval().coarse(*small)[0].max() == 0
    assert other(*small[:2], *small)[0].min() == 0
    assert 0 < other.train().coarse(*small)[0].max() < 0.025


def test_what_parity_is_measured_on_is_neither_opaque_nor_transparent_to_the_default_weights():
    network = network_from_onnx(default_weights("howard"), "howard").eval()
    with torch.no_grad():
        alpha = network(*example_inputs(2, 128, 192))[0]
    assert ((alpha > 0.05) & (alpha < 0.95)).sum() > 300


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
    assert all(name.startswith(("refinement.around.", "detail.")) for name in left_out)
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


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """The one line that a build of these options ends with, called from an empty folder."""

    def build(*options: object) -> str:
        monkeypatch.setattr("sys.argv", ["build_engine.py", *map(str, options)])
        assert build_engine.main() == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    monkeypatch.chdir(tmp_path)
    return build


@pytest.mark.parametrize(
    ("name", "content"), [("bad.pt", b""), ("README.md", b"# Howard\n"), ("some.onnx", b"\x08\x08")]
)
def test_what_is_no_checkpoint_is_refused_without_advice_to_run_it(told, name, content):
    Path(name).write_bytes(content)
    line = told(name)
    assert f"{name} is not a checkpoint" in line
    assert "weights_only" not in line
    assert ("--weights some.onnx" in line) == (name == "some.onnx")


def test_a_model_that_ships_is_no_checkpoint_but_weights(told):
    model = default_weights("howard")
    assert f"{model} is not a checkpoint: give an ONNX model by --weights {model}" in told(model)


def test_weights_that_are_no_model_are_one_line(told):
    assert "weights no.onnx do not exist" in told("--exported", "--weights", "no.onnx")
    Path("README.md").write_text("# Howard\n")
    line = told("--exported", "--weights", "README.md")
    assert "README.md is no ONNX model that can be read: give one" in line
    assert not list(Path("engine/built").glob("*"))


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ("folder", "folder is a folder: give --out a file in it, folder/howard.onnx"),
        ("/proc/x.onnx", "cannot write /proc/x.onnx: No such file or directory: choose a place"),
        ("file/x.onnx", "cannot write file/x.onnx: File exists: choose a place"),
        ("file/in/x.onnx", "cannot write file/in/x.onnx: Not a directory: choose a place"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_export(told, monkeypatch, out, error):
    torch.save({"network": "howard", "weights": HowardNetwork().state_dict()}, "howard.pt")
    Path("folder").mkdir()
    Path("file").touch()
    monkeypatch.setattr("engine.export.export_onnx", None)
    assert error in told("howard.pt", "--out", out)
    assert sorted(path.name for path in Path().iterdir()) == ["file", "folder", "howard.pt"]


def test_a_program_that_cannot_be_written_is_told_before_it_is_made(told, monkeypatch):
    Path("engine").touch()
    monkeypatch.setattr("engine.exported.program_from_onnx", None)
    assert "cannot write engine/built/howard" in told("--exported")


WITHOUT = """
import sys
sys.modules[sys.argv.pop()] = None
import build_engine
sys.exit(build_engine.main())
"""


@pytest.mark.parametrize("missing", ["torch", "onnx"])
@pytest.mark.parametrize("asked", [["some.pt"], ["--exported"]])
def test_without_the_build_extra_a_build_is_one_line_and_exit_2(missing, asked):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *asked, missing], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == f"build_engine.py: {missing} is not installed: pip install '.[build]'\n"
