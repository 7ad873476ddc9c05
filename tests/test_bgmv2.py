"""BackgroundMattingV2: against its published definition, exported, imported, run by name."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402

import build_engine  # noqa: E402
from engine.export import deployable, example_inputs, export_onnx, load_checkpoint  # noqa: E402
from engine.networks import NETWORKS  # noqa: E402
from engine.networks.backbones import BACKBONES  # noqa: E402
from engine.networks.bgmv2 import HIDDEN, BackgroundMattingV2, Refiner  # noqa: E402
from howard.config import Network, RunConfig  # noqa: E402
from howard.engine.__main__ import main  # noqa: E402
from howard.engine.run import run  # noqa: E402
from howard.errors import WeightsError  # noqa: E402
from howard.frames import IDENTITY, Alignment, Frame, Plate  # noqa: E402
from howard.matte import default_weights  # noqa: E402
from howard.matte.cpu import OnnxMattingNetwork, open_session  # noqa: E402
from howard.matte.holes import fill_holes  # noqa: E402
from tests.media import write_image  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_gpu")

ALIGNMENT = Alignment(0, 0, 0, 0, 0.0, 1.0, None, IDENTITY)
PATCHES = 40
"""Refined per picture, of some 400 and more."""
SIZES = ((1, 160, 224), (3, 128, 96), (2, 64, 96), (1, 64, 96))
"""Batch, height, width of what runtimes are compared on, those of `check_parity` first."""
CLEAR = 2e-5


def exercised(network):
    """Statistics of batch normalisation as after training, and an error map with something in it:
    a random network's own lies about zero."""
    network.train()
    with torch.no_grad():
        for seed in range(4):
            network(*example_inputs(2, 64, 96, seed, network.INPUTS))
        network.decoder.conv4.bias[4] += 0.2
    return network.eval()


def clearness(network) -> float:
    """How far apart the errors are of the last patch that is refined and of the first that is not:
    nearer than runtimes agree, and they refine other patches."""
    refiner, choose, gaps = network.refiner, network.refiner.choose, []

    def noted(error):
        last, next_one = error.topk(PATCHES + 1, dim=1).values[:, -2:].unbind(1)
        gaps.append(float((last - next_one).min()))
        return choose(error)

    refiner.choose = noted
    with torch.no_grad():
        for batch, height, width in SIZES:
            network(*example_inputs(batch, height, width, height, network.INPUTS))
    refiner.choose = choose
    return min(gaps)


@pytest.fixture(scope="module")
def network():
    """The first of several random ones in which it is clear what is to be refined."""
    for seed in range(20):
        torch.manual_seed(seed)
        found = exercised(BackgroundMattingV2("mobilenetv2", sample_pixels=16 * PATCHES))
        copy = BackgroundMattingV2("mobilenetv2", sample_pixels=16 * PATCHES)
        copy.load_state_dict(found.state_dict())
        if min(clearness(found), clearness(deployable(copy))) > CLEAR:
            return found
    raise AssertionError("none is clear")


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "bgmv2.onnx"
    copy = BackgroundMattingV2("mobilenetv2", sample_pixels=16 * PATCHES)
    copy.load_state_dict(network.state_dict())
    return out, export_onnx(deployable(copy), out)


# Names and arithmetic.


def norm_names(module):
    fields = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [f"{module}.{field}" for field in fields]


def mobilenet_names():
    """torchvision's MobileNetV2 without its last block and its classifier."""
    yield from ("features.0.0.weight", *norm_names("features.0.1"))
    for i in range(1, 18):
        normed = (0,) if i == 1 else (0, 1)  # the first block does not widen
        for j in normed:
            name = f"features.{i}.conv.{j}"
            yield from (f"{name}.0.weight", *norm_names(f"{name}.1"))
        last = len(normed)
        yield from (
            f"features.{i}.conv.{last}.weight",
            *norm_names(f"features.{i}.conv.{last + 1}"),
        )


def resnet_names(blocks):
    """torchvision's ResNet of bottlenecks without its classifier."""
    yield from ("conv1.weight", *norm_names("bn1"))
    for layer, count in enumerate(blocks, 1):
        for i in range(count):
            name = f"layer{layer}.{i}"
            for j in (1, 2, 3):
                yield from (f"{name}.conv{j}.weight", *norm_names(f"{name}.bn{j}"))
            if i == 0:
                yield from (f"{name}.downsample.0.weight", *norm_names(f"{name}.downsample.1"))


def head_names():
    """torchvision's ASPP, then decoder and refiner."""
    for i in range(4):
        yield from (f"aspp.convs.{i}.0.weight", *norm_names(f"aspp.convs.{i}.1"))
    yield from ("aspp.convs.4.1.weight", *norm_names("aspp.convs.4.2"))
    yield from ("aspp.project.0.weight", *norm_names("aspp.project.1"))
    for module in ("decoder", "refiner"):
        for i in (1, 2, 3):
            yield from (f"{module}.conv{i}.weight", *norm_names(f"{module}.bn{i}"))
        yield from (f"{module}.conv4.weight", f"{module}.conv4.bias")


@pytest.mark.parametrize(
    ("backbone", "names", "parameters"),
    [
        ("mobilenetv2", mobilenet_names(), 5_006_839),
        ("resnet50", resnet_names((3, 4, 6, 3)), 40_247_703),
        ("resnet101", resnet_names((3, 4, 23, 3)), 59_239_831),
    ],
)
def test_the_names_are_those_of_the_official_checkpoints(backbone, names, parameters):
    with torch.device("meta"):
        network = BackgroundMattingV2(backbone)
    assert set(network.state_dict()) == {f"backbone.{n}" for n in names} | set(head_names())
    # As counted on the official definition.
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_backbone_keeps_a_sixteenth_of_the_size_by_dilation(name):
    with torch.device("meta"):
        backbone = BACKBONES[name]().eval()
        features = backbone(torch.zeros(1, 6, 64, 96))
    assert [x.shape[1] for x in features] == list(backbone.CHANNELS)
    assert [x.shape[2:] for x in features] == [(64 // s, 96 // s) for s in (16, 8, 4, 2, 1)]
    dilated = [m for m in backbone.modules() if getattr(m, "dilation", 1) == (2, 2)]
    # All 3x3 of the stage that would halve the size again, but that which would do it.
    assert len(dilated) == (3 if name == "mobilenetv2" else 2)
    assert all(m.kernel_size == (3, 3) and m.stride == (1, 1) for m in dilated)


def refiner_inputs(height=24, width=40):
    generator = torch.Generator().manual_seed(5)
    shapes = [(6, height, width), (4, 6, 10), (1, 6, 10), (HIDDEN, 6, 10)]
    return [torch.rand(2, *shape, generator=generator) for shape in shapes]


def make_refiner(mode, count=7, threshold=0.6):
    torch.manual_seed(1)
    return Refiner(mode, 16 * count, threshold).eval()


def refined_patch(refiner, pictures, coarse, hidden, row, column):
    """One patch of 4x4 pixels by the paper's section 3.2: 8x8 at half size around it, two
    convolutions, enlarged, 8x8 at full size beside it, two convolutions. pictures (6, H, W)."""
    height, width = pictures.shape[1:]
    joined = [
        F.interpolate(x[None], (height // 2, width // 2), mode="bilinear")
        for x in (hidden, coarse, pictures)
    ]
    half = F.pad(torch.cat(joined, 1), (3,) * 4)
    x = half[:, :, 2 * row : 2 * row + 8, 2 * column : 2 * column + 8]
    x = F.relu(refiner.bn1(refiner.conv1(x)))
    x = F.relu(refiner.bn2(refiner.conv2(x)))
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    full = F.pad(pictures[None], (2,) * 4)
    y = full[:, :, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
    return refiner.conv4(F.relu(refiner.bn3(refiner.conv3(torch.cat([x, y], 1)))))[0]


def expected_result(refiner, inputs, chosen):
    """The enlarged coarse result, patch by patch replaced where `chosen` (N, rows, columns)."""
    pictures, coarse, _, hidden = inputs
    out = F.interpolate(coarse, pictures.shape[2:], mode="bilinear")
    for n, row, column in np.argwhere(chosen):
        patch = refined_patch(refiner, pictures[n], coarse[n], hidden[n], row, column)
        out[n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = patch
    return out


@torch.no_grad()
def test_sampling_refines_the_patches_of_largest_error_of_each_picture():
    refiner, inputs = make_refiner("sampling"), refiner_inputs()
    chosen = np.zeros((2, 60), bool)
    for flags, error in zip(chosen, inputs[2].flatten(1).numpy(), strict=True):
        flags[np.argsort(error)[-7:]] = True
    expected = expected_result(refiner, inputs, chosen.reshape(2, 6, 10))
    assert (refiner(*inputs) - expected).abs().max() < 1e-6


@torch.no_grad()
def test_thresholding_refines_where_the_error_is_larger():
    refiner, inputs = make_refiner("thresholding"), refiner_inputs()
    chosen = inputs[2][:, 0].numpy() > 0.6
    assert 10 < chosen.sum() < 60
    expected = expected_result(refiner, inputs, chosen)
    assert (refiner(*inputs) - expected).abs().max() < 1e-6


@torch.no_grad()
def test_full_refinement_is_that_of_all_patches():
    refiner, inputs = make_refiner("full"), refiner_inputs()
    expected = expected_result(refiner, inputs, np.ones((2, 6, 10), bool))
    assert (refiner(*inputs) - expected).abs().max() < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("mode", ["sampling", "thresholding"])
def test_where_no_error_is_expected_the_coarse_result_stays(mode):
    refiner, inputs = make_refiner(mode), refiner_inputs()
    inputs[2].zero_()
    expected = expected_result(refiner, inputs, np.zeros((2, 6, 10), bool))
    assert torch.equal(refiner(*inputs), expected)


@torch.no_grad()
def test_more_patches_than_there_are_refines_all():
    few, many = make_refiner("sampling", 60), make_refiner("sampling", 5000)
    inputs = refiner_inputs()
    assert torch.equal(few(*inputs), many(*inputs))


@torch.no_grad()
def test_alpha_and_foreground_come_from_the_base_and_the_refinement(network):
    frame, plate = example_inputs(2, 64, 96, 3, network.INPUTS)
    alpha, foreground = network(frame, plate)
    small = F.interpolate(torch.cat([frame, plate], 1), (16, 24), mode="bilinear")
    deepest, *features = network.backbone(small)
    x = network.decoder(network.aspp(deepest), *features)
    coarse = torch.cat([x[:, :1].clamp(0, 1), x[:, 1:4]], 1)
    error, hidden = x[:, 4:5].clamp(0, 1), x[:, 5:].clamp(min=0)
    out = network.refiner(torch.cat([frame, plate], 1), coarse, error, hidden)
    assert torch.equal(alpha, out[:, :1].clamp(0, 1))
    assert torch.equal(foreground, (out[:, 1:] + frame).clamp(0, 1))
    assert alpha.std() > 0.01


# Export.


def test_onnx_agrees_with_torch_at_other_sizes_and_batches(model):
    _, differences = model
    assert set(differences) == {"alpha", "foreground"}
    assert max(differences.values()) <= 1e-4


def test_folding_and_rounding_hardly_change_the_network(network):
    copy = BackgroundMattingV2("mobilenetv2", sample_pixels=16 * PATCHES)
    copy.load_state_dict(network.state_dict())
    inputs = example_inputs(1, 64, 96, 9, network.INPUTS)
    with torch.no_grad():
        difference = (deployable(copy)(*inputs)[1] - network(*inputs)[1]).abs()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in copy.modules())
    # Eleven bits of weight, through some sixty layers; a patch may be chosen for another.
    assert 0 < difference.median() < 2e-3
    assert (difference > 2e-2).float().mean() < 0.02


@pytest.mark.parametrize("size", [(37, 53), (64, 96), (1, 1)])
def test_any_size_comes_back_as_it_went_in(model, size):
    rng = np.random.default_rng(0)
    frames = [Frame(i, 0.0, rng.integers(0, 255, (*size, 3), np.uint8)) for i in range(2)]
    ones = np.ones(size, np.uint8)
    plates = [Plate(frame.pixels[::-1].copy(), ones, ALIGNMENT) for frame in frames]
    for matte in OnnxMattingNetwork(model[0], 1)(frames, plates):
        assert matte.alpha.shape == size
        assert matte.foreground.shape == (*size, 3)
        assert 0 <= matte.alpha.min() <= matte.alpha.max() <= 1


def test_holes_take_the_colour_of_the_nearest_covered_pixel(model):
    plate = np.zeros((40, 60, 3), np.uint8)
    plate[:, :30], plate[:, 30:50] = (200, 10, 10), (10, 10, 200)
    coverage = np.ones((40, 60), np.uint8)
    coverage[:, 50:] = 0
    out, _ = fill_holes(plate, coverage)
    assert np.array_equal(out[:, :50], plate[:, :50])
    assert (out[:, 50:] == (10, 10, 200)).all()
    assert fill_holes(plate, np.zeros_like(coverage))[0] is plate
    run = OnnxMattingNetwork(model[0], 1)
    frame = Frame(0, 0.0, out)
    one, other = (run([frame], [Plate(p, coverage, ALIGNMENT)])[0] for p in (plate, out))
    assert np.array_equal(one.alpha, other.alpha)


# Import.


def test_published_weights_are_exported_by_name(network, tmp_path, monkeypatch, capsys):
    torch.save(network.state_dict(), tmp_path / "pytorch_mobilenetv2.pth")
    argv = ["build_engine.py", "--network", "bgmv2-mobilenetv2"]
    argv += ["--checkpoint", str(tmp_path / "pytorch_mobilenetv2.pth")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", argv)
    assert build_engine.main() == 0
    assert "engine/built/bgmv2-mobilenetv2.onnx" in capsys.readouterr().out
    assert default_weights("bgmv2-mobilenetv2").resolve().is_relative_to(tmp_path)
    open_session(default_weights("bgmv2-mobilenetv2"), 1)


class Malicious:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in a pickle was run')",)


def other_shape(weights):
    return weights | {"decoder.conv4.bias": torch.zeros(5)}


@pytest.mark.parametrize(
    ("change", "network", "told"),
    [
        (other_shape, "bgmv2-mobilenetv2", r"does not fit.*decoder\.conv4\.bias"),
        (lambda w: w, "bgmv2-resnet50", "does not fit the network 'bgmv2-resnet50'"),
        (lambda w: w, None, "give --network"),
        (lambda w: w, "bgmv3", "there is no network 'bgmv3'; known are howard,"),
        (lambda w: {"a": Malicious()}, "bgmv2-mobilenetv2", "not a checkpoint"),
        (lambda w: {"epoch": 3}, "bgmv2-mobilenetv2", "holds no weights"),
        (lambda w: {"network": "howard", "weights": 3}, None, "not a checkpoint.*no weights"),
        (lambda w: list(w.values()), "bgmv2-mobilenetv2", "not a checkpoint.*no weights"),
        (
            lambda w: dict(enumerate(w.values())),
            "bgmv2-mobilenetv2",
            "not a checkpoint.*no weights",
        ),
        (lambda w: {"network": "howard", "weights": w}, "bgmv2-mobilenetv2", "holds the network"),
    ],
)
def test_a_bad_checkpoint_is_one_line_and_exit_2(
    change, network, told, tmp_path, monkeypatch, capsys
):
    good = BackgroundMattingV2("mobilenetv2").state_dict()
    torch.save(change(good), tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=rf"bad\.pth.*{told}"):
        load_checkpoint(tmp_path / "bad.pth", network)
    options = ["--network", network] if network else []
    monkeypatch.setattr("sys.argv", ["build_engine.py", str(tmp_path / "bad.pth"), *options])
    assert build_engine.main() == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert len(error) < 500


@pytest.mark.parametrize("arguments", [[], ["a.pt", "--checkpoint", "b.pt"]])
def test_one_checkpoint_is_needed(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build_engine.py", *arguments])
    assert build_engine.main() == 2
    assert "give one checkpoint" in capsys.readouterr().err


# The command line of a run.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "shot").mkdir()
    rng = np.random.default_rng(0)
    place = np.repeat(np.repeat(rng.integers(0, 255, (12, 16, 3), np.uint8), 8, 0), 8, 1)
    for i in range(2):
        write_image(folder / "shot" / f"{i}.png", place)
    write_image(folder / "plate.png", place)
    return folder / "shot", folder / "plate.png"


def test_a_run_by_name_finds_what_was_built_and_says_so(pictures, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = tmp_path / "engine" / "built" / "bgmv2-resnet101.onnx"
    built.parent.mkdir(parents=True)
    built.write_bytes(model[0].read_bytes())
    run(RunConfig(*pictures, tmp_path / "out", network="bgmv2-resnet101"))
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["000000.png", "000001.png"]
    identity = json.loads((tmp_path / "out" / "report.json").read_text())["run"]
    assert identity["network"] == "bgmv2-resnet101"
    assert identity["weights"]["bytes"] == built.stat().st_size


def test_weights_that_were_not_built_name_the_command(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("howard.matte.__file__", str(tmp_path / "howard" / "matte" / "x.py"))
    arguments = [*map(str, pictures), str(tmp_path / "out"), "--network", "bgmv2-resnet50"]
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "python build_engine.py --network bgmv2-resnet50 --checkpoint FILE" in error
    assert not (tmp_path / "out").exists()


def test_another_networks_weights_are_refused(pictures, model, tmp_path, capsys):
    arguments = [*map(str, pictures), str(tmp_path / "out"), "--network", "context-switching"]
    assert main(["run", *arguments, "--weights", str(model[0])]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "bgmv2.onnx has the inputs frame, plate" in error


def test_a_model_without_its_sizes_is_refused(model, tmp_path):
    import onnx

    stored = onnx.load(model[0])
    del stored.metadata_props[:]
    onnx.save_model(stored, str(tmp_path / "bare.onnx"))
    with pytest.raises(WeightsError, match=r"bare\.onnx was not exported.*full_multiple"):
        OnnxMattingNetwork(tmp_path / "bare.onnx", 1)


def test_run_and_build_know_the_same_networks():
    assert set(get_args(Network)) == set(NETWORKS)


def test_the_table_of_published_checkpoints_says_what_the_networks_take():
    table = tomllib.loads(Path("engine/checkpoints.toml").read_text())
    shipped = table.pop("shipped")
    assert {Path(entry["file"]) for entry in shipped.values()} == set(
        Path("engine/weights").glob("*.onnx")
    )
    for entry in shipped.values():
        assert hashlib.sha256(Path(entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert set(table) == {n for n in NETWORKS if not n.startswith("howard")}
    for name, entry in table.items():
        with torch.device("meta"):
            network = NETWORKS[name]()
        assert tuple(entry["inputs"]) == network.INPUTS
        assert tuple(entry["outputs"]) == network.OUTPUTS
        assert entry["input_multiple"] == network.metadata["full_multiple"]
