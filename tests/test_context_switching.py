"""The network of Sengupta et al. 2020: against its published definition, its crop, its training."""

import json
from functools import partial
from itertools import islice
from shutil import copy

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402

from engine.export import deployable, example_inputs, export_onnx, load_checkpoint  # noqa: E402
from engine.networks import TRAINABLE  # noqa: E402
from engine.networks.context_switching import (  # noqa: E402
    DEAD,
    PUBLISHED_WIDTH,
    SIDE,
    TRAINED_WIDTH,
    ContextSwitching,
    encoder,
)
from engine.training.batches import stack  # noqa: E402
from engine.training.context_switching import (  # noqa: E402
    background,
    crops,
    gradient,
    l1,
    random_segmentation,
    segmentation_for,
    supervised_loss,
)
from engine.training.learner import Learner  # noqa: E402
from engine.training.material import Material  # noqa: E402
from engine.training.scenes import sample  # noqa: E402
from engine.training.train import TrainConfig, train  # noqa: E402
from engine.training.validate import Validation  # noqa: E402
from howard.config import RunConfig  # noqa: E402
from howard.engine.run import run  # noqa: E402
from howard.errors import WeightsError  # noqa: E402
from howard.frames import IDENTITY, Alignment, Frame, Matte, Plate  # noqa: E402
from howard.matte.context_switching import (  # noqa: E402
    ContextSwitchingNetwork,
    person_box,
    soft_segmentation,
)
from tests.media import write_image  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_gpu")

ALIGNMENT = Alignment(0, 0, 0, 0, 0.0, 1.0, None, IDENTITY)
WIDTH = 8
"""Of most networks here; the published one has 64, the one that is trained 32."""
PARITY = 1e-4
"""ONNX Runtime and torch sum in other orders."""
LARGEST_SHIPPED = 16 * 2**20
"""Bytes of a file of weights in the repository."""


def exercised(network):
    """Statistics of batch normalisation as after training, not 0 and 1."""
    network.train()
    with torch.no_grad():
        for seed in range(8):
            network(*example_inputs(2, 64, 64, seed, network.INPUTS))
    return network.eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return exercised(ContextSwitching(WIDTH))


@pytest.fixture(scope="module")
def checkpoint(network):
    """Weights as the authors publish them: with the motion encoder, out of a DataParallel."""
    weights = {f"module.{k}": v for k, v in network.state_dict().items()}
    motion = encoder(4, WIDTH).state_dict()
    return weights | {f"module.{DEAD}{k}": v for k, v in motion.items()}


def authors_names():
    """The state dict of the authors' network: by module, the places of convolutions with a bias
    (c), without (n), and of normalisations (b)."""
    down = "1c 2b 4c 5b 7c 8b"
    layout = {
        "model_enc1": "1c 2b 4c 5b",
        "model_enc2": "0c 1b",
        **{f"model_enc_{cue}": down for cue in ("back", "seg", "multi")},
        **{f"comb_{cue}": "0n 1b" for cue in ("back", "seg", "multi")},
        "model_res_dec": "0n 1b",
        "model_al_out": "1c 2b 5c 6b 9c",
        "model_dec_fg1": "1c 2b",
        "model_fg_out": "1c 2b 5c",
    }
    blocks = [("model_res_dec", range(3, 10))]
    blocks += [(f"model_res_dec_{out}", range(3)) for out in ("al", "fg")]
    for name, places in blocks:
        layout |= {f"{name}.{i}.conv_block": "1c 2b 5c 6b" for i in places}
    fields = {
        "c": ["weight", "bias"],
        "n": ["weight"],
        "b": ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
    }
    for module, places in layout.items():
        for place in places.split():
            yield from (f"{module}.{place[:-1]}.{field}" for field in fields[place[-1]])


def published(weights, image, back, seg, multi):
    """The authors' definition, step by step, motion encoder included, in plain calls."""
    w = {name.removeprefix("module."): value for name, value in weights.items()}

    def conv(x, name, stride=1, padding=0):
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride, padding)

    def norm(x, name):
        statistics = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, *statistics, w[f"{name}.weight"], w[f"{name}.bias"])

    def reflect(x, margin):
        return F.pad(x, (margin,) * 4, mode="reflect")

    def encode(x, name, last=9):
        x = F.relu(norm(conv(reflect(x, 3), f"{name}.1"), f"{name}.2"))
        for i in range(4, last, 3):
            x = F.relu(norm(conv(x, f"{name}.{i}", 2, 1), f"{name}.{i + 1}"))
        return x

    def combine(x, y, name):
        return F.relu(norm(conv(torch.cat([x, y], 1), f"{name}.0"), f"{name}.1"))

    def residual(x, name):
        y = F.relu(norm(conv(reflect(x, 1), f"{name}.conv_block.1"), f"{name}.conv_block.2"))
        return x + norm(conv(reflect(y, 1), f"{name}.conv_block.5"), f"{name}.conv_block.6")

    def up(x, name, i):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return F.relu(norm(conv(x, f"{name}.{i}", 1, 1), f"{name}.{i + 1}"))

    detail = encode(image, "model_enc1", last=5)
    feat = F.relu(norm(conv(detail, "model_enc2.0", 2, 1), "model_enc2.1"))
    back_feat, seg_feat = encode(back, "model_enc_back"), encode(seg, "model_enc_seg")
    encode(multi, "model_enc_multi")  # and nothing takes it up
    cues = [
        combine(feat, back_feat, "comb_back"),
        combine(feat, seg_feat, "comb_seg"),
        combine(feat, back_feat, "comb_multi"),
    ]
    x = combine(feat, torch.cat(cues, 1), "model_res_dec")
    for i in range(3, 10):
        x = residual(x, f"model_res_dec.{i}")
    alpha = foreground = x
    for i in range(3):
        alpha = residual(alpha, f"model_res_dec_al.{i}")
        foreground = residual(foreground, f"model_res_dec_fg.{i}")
    alpha = up(up(alpha, "model_al_out", 1), "model_al_out", 5)
    alpha = torch.tanh(conv(reflect(alpha, 3), "model_al_out.9"))
    foreground = torch.cat([up(foreground, "model_dec_fg1", 1), detail], 1)
    foreground = up(foreground, "model_fg_out", 1)
    return alpha, conv(reflect(foreground, 3), "model_fg_out.5")


def published_inputs(seed=0):
    """In [-1, 1], with the authors' motion input for a single image: four times its grey."""
    image, back, seg = (
        2 * x - 1 for x in example_inputs(2, 64, 96, seed, ("frame", "plate", "segmentation"))
    )
    return image, back, seg, image.mean(1, keepdim=True).expand(-1, 4, -1, -1)


def test_the_pruned_network_equals_the_published_one_exactly(network, checkpoint):
    image, back, seg, motion = published_inputs()
    with torch.no_grad():
        ours = network.published(image, back, seg)
        for frames in (motion, torch.randn_like(motion)):
            theirs = published(checkpoint, image, back, seg, frames)
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])


def test_every_part_has_a_say(network, checkpoint):
    inputs = published_inputs()
    with torch.no_grad():
        before = published(checkpoint, *inputs)
        for part in ("model_enc_back.7", "model_enc_seg.7", "comb_multi.0", "model_res_dec.9"):
            key = next(k for k in checkpoint if k.startswith(f"module.{part}"))
            after = published(checkpoint | {key: checkpoint[key] * 2}, *inputs)
            assert not torch.equal(before[0], after[0]), part
        dead = {k: v * 2 for k, v in checkpoint.items() if DEAD in k and v.is_floating_point()}
        assert torch.equal(before[0], published(checkpoint | dead, *inputs)[0])


def test_the_names_are_those_of_the_authors_checkpoints(checkpoint):
    assert {k.removeprefix("module.") for k in checkpoint} == set(authors_names())
    with torch.device("meta"):
        full, motion = ContextSwitching(), encoder(4, 64)
    count = sum(p.numel() for part in (full, motion) for p in part.parameters())
    assert count == 17_908_420  # of the authors' ResnetConditionHR((3, 3, 1, 4), 4)


def test_the_authors_checkpoint_loads(network, checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "netG_epoch_64.pth")
    name, loaded = load_checkpoint(tmp_path / "netG_epoch_64.pth", "context-switching")
    assert name == "context-switching"
    inputs = example_inputs(1, 64, 64, names=network.INPUTS)
    with torch.no_grad():
        difference = (loaded(*inputs)[0] - network(*inputs)[0]).abs().max()
    # Folded, and rounded to eleven bits of weight, through some forty layers.
    assert difference < 2e-2


@pytest.mark.parametrize("width", [TRAINED_WIDTH, PUBLISHED_WIDTH])
def test_a_checkpoint_says_how_wide_it_is(width, tmp_path):
    network = ContextSwitching(width)
    weights = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save(weights, tmp_path / "netG_epoch_64.pth")
    _, loaded = load_checkpoint(tmp_path / "netG_epoch_64.pth", "context-switching")
    # The last convolution has no normalisation behind it that would be folded into it.
    name = "model_fg_out.5.weight"
    assert torch.equal(loaded.state_dict()[name], network.state_dict()[name].half().float())


@pytest.mark.parametrize("shape", [(WIDTH + 1, 3, 7, 7), (0, 3, 7, 7), (999, 3, 7, 7), (8,), ()])
def test_a_checkpoint_of_an_odd_shape_is_refused_in_one_line(shape, checkpoint, tmp_path):
    odd = checkpoint | {"module.model_enc1.1.weight": torch.zeros(shape)}
    torch.save(odd, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"c\.pth does not fit the network.*model_enc1") as error:
        load_checkpoint(tmp_path / "c.pth", "context-switching")
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_a_part_is_refused(checkpoint, tmp_path):
    torch.save({k: v for k, v in checkpoint.items() if "comb_seg" not in k}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"c\.pth does not fit.*comb_seg"):
        load_checkpoint(tmp_path / "c.pth", "context-switching")


def test_howards_ranges_are_the_authors_halved_and_shifted(network):
    frame, plate, segmentation = example_inputs(1, 64, 64, names=network.INPUTS)
    with torch.no_grad():
        alpha, foreground = network(frame, plate, segmentation)
        raw = network.published(2 * frame - 1, 2 * plate - 1, 2 * segmentation - 1)
    assert torch.equal(alpha, (raw[0] + 1) / 2)
    assert torch.equal(foreground, ((raw[1] + 1) / 2).clamp(0, 1))


def test_onnx_agrees_with_torch(network, tmp_path):
    model = tmp_path / "network.onnx"
    again = ContextSwitching(WIDTH)
    again.load_state_dict(network.state_dict())
    differences = export_onnx(deployable(again), model)
    assert set(differences) == {"alpha", "foreground"}
    assert max(differences.values()) <= PARITY


def test_what_is_trained_is_exported_runs_and_may_be_shipped(tmp_path):
    torch.manual_seed(1)
    trained = exercised(TRAINABLE["context-switching"]())
    stored = {"network": "context-switching", "weights": trained.state_dict()}
    torch.save(stored, tmp_path / "context-switching.pt")
    name, loaded = load_checkpoint(tmp_path / "context-switching.pt")
    model = tmp_path / f"{name}.onnx"
    assert max(export_onnx(loaded, model).values()) <= PARITY
    assert model.stat().st_size < LARGEST_SHIPPED
    found = disc((96, 128), (64, 48), 30)
    [matte] = ContextSwitchingNetwork(model, coarse(found), 1)(*([x] for x in picture((96, 128))))
    assert matte.alpha.shape == (96, 128)
    assert 0 <= matte.alpha.min() < matte.alpha.max() <= 1
    assert 0 <= matte.foreground.min() <= matte.foreground.max() <= 1


# The run side.


def disc(size, centre, radius):
    alpha = np.zeros(size, np.float32)
    cv2.circle(alpha, centre, radius, 1.0, -1, cv2.LINE_AA)
    return alpha


def test_the_segmentation_is_soft_at_the_edge_and_drops_what_is_thin():
    alpha = disc((512, 512), (256, 256), 100)
    alpha[:, 40:52] = 1  # a lamp post
    soft = soft_segmentation(alpha)
    assert soft.shape == (512, 512)
    assert soft[256, 256] == pytest.approx(1)
    assert soft[:, 40:52].max() == 0
    # Ten steps in and ten out: the edge stays within a few pixels, the blur makes it gradual.
    assert soft[256, 340] > 0.9
    assert 0.2 < soft[256, 356] < 0.8
    assert soft[256, 376] < 0.05


def test_a_person_cut_by_the_frames_edge_stays_whole_there():
    alpha = np.zeros((512, 512), np.float32)
    alpha[200:, 200:300] = 1
    assert soft_segmentation(alpha)[-1, 250] == pytest.approx(1)


def test_the_box_is_a_square_around_the_person_with_a_margin():
    rows, columns = person_box(disc((480, 640), (320, 240), 100))
    assert rows.stop - rows.start == columns.stop - columns.start == pytest.approx(241, abs=3)
    assert (rows.start + rows.stop) / 2 == pytest.approx(240, abs=2)
    assert (columns.start + columns.stop) / 2 == pytest.approx(320, abs=2)


@pytest.mark.parametrize(
    ("centre", "radius"), [((10, 10), 60), ((630, 470), 90), ((320, 240), 300)]
)
def test_the_box_stays_inside_the_frame(centre, radius):
    alpha = disc((480, 640), centre, radius)
    rows, columns = person_box(alpha)
    assert rows.start >= 0
    assert columns.start >= 0
    assert rows.stop <= 480
    assert columns.stop <= 640
    assert alpha[rows, columns].sum() == alpha.sum()


def test_a_speck_is_nobody_and_does_not_stretch_the_box():
    speck = disc((480, 640), (600, 20), 3)
    assert person_box(speck) is None
    assert person_box(np.zeros((480, 640), np.float32)) is None
    person = disc((480, 640), (200, 240), 80)
    assert person_box(np.maximum(person, speck)) == person_box(person)


class Echo(torch.nn.Module):
    """Gives the segmentation back as alpha, and one colour."""

    INPUTS, OUTPUTS = ContextSwitching.INPUTS, ContextSwitching.OUTPUTS
    metadata = ContextSwitching.metadata

    def forward(self, frame, plate, segmentation):
        return segmentation, (frame + plate) * 0 + 0.25


def coarse(alpha):
    """A network that finds this."""
    colour = np.zeros((*alpha.shape, 3), np.float32)
    return lambda frames, plates: [Matte(alpha, colour, 0.75) for _ in frames]


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    model = tmp_path_factory.mktemp("echo") / "echo.onnx"
    export_onnx(Echo(), model)
    return model


def picture(size=(360, 480), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    return Frame(0, 0.0, pixels), Plate(pixels, np.ones(size, np.uint8), ALIGNMENT)


def test_the_crop_is_pasted_back_where_it_was(echo):
    found = disc((360, 480), (330, 200), 90)
    frame, plate = picture()
    [matte] = ContextSwitchingNetwork(echo, coarse(found), 1)([frame], [plate])
    assert matte.alpha.shape == (360, 480)
    assert matte.alpha.dtype == matte.foreground.dtype == np.float32
    # The segmentation's blur is all that differs, and it is symmetric.
    assert np.abs(matte.alpha - found).mean() < 0.02
    weights = matte.alpha / matte.alpha.sum()
    rows, columns = np.indices(weights.shape)
    assert (rows * weights).sum() == pytest.approx(200, abs=0.5)
    assert (columns * weights).sum() == pytest.approx(330, abs=0.5)
    opaque = matte.alpha > 0.98
    assert np.array_equal(matte.foreground[opaque], frame.pixels[opaque] / np.float32(255))
    soft = (matte.alpha > 0.2) & (matte.alpha < 0.9)
    assert matte.foreground[soft] == pytest.approx(0.25)
    assert matte.confidence == 0.75


def test_where_nobody_is_found_the_matte_is_empty(echo):
    nobody = np.full((360, 480), 0.05, np.float32)
    [matte] = ContextSwitchingNetwork(echo, coarse(nobody), 1)(*([x] for x in picture()))
    assert matte.alpha.max() == 0
    assert matte.alpha.shape == (360, 480)


def test_a_model_with_other_inputs_is_refused(tmp_path):
    class Two(Echo):
        INPUTS = ("frame", "plate")

        def forward(self, frame, plate):
            return frame[:, :1], plate

    export_onnx(Two(), tmp_path / "two.onnx")
    with pytest.raises(WeightsError, match=r"two\.onnx has the inputs frame, plate, not those"):
        ContextSwitchingNetwork(tmp_path / "two.onnx", coarse(np.zeros((8, 8))), 1)


@pytest.mark.parametrize("built", [False, True])
def test_a_run_by_name_names_both_files_of_weights(built, echo, tmp_path, monkeypatch):
    frame, plate = picture((96, 128))
    shot = write_image(tmp_path / "shot_0.png", frame.pixels)
    place = write_image(tmp_path / "plate.png", plate.pixels)
    if built:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "engine" / "built").mkdir(parents=True)
        copy(echo, tmp_path / "engine" / "built" / "context-switching.onnx")
    out, weights = tmp_path / "out", None if built else echo
    run(RunConfig(shot, place, out, network="context-switching", weights=weights, threads=1))
    identity = json.loads((out / "report.json").read_text())["run"]
    assert identity["network"] == "context-switching"
    assert identity["weights"]["files"] == 2
    assert (out / "000000.png").exists()


# Training.


@pytest.fixture(scope="module")
def batch():
    """Two scenes so full of somebody that they are in any window."""
    made = (sample(seed, 96, 128, Material()) for seed in range(300))
    return stack(list(islice((scene for scene in made if scene.alpha.mean() > 0.5), 2)), 1)


def test_crops_hold_the_person_in_the_order_that_the_loss_expects(batch):
    frame, plate, foreground, alpha, segmentation = crops(batch, lambda a: a, 0.1)
    assert frame.shape == plate.shape == foreground.shape == (2, 3, SIDE, SIDE)
    assert torch.equal(alpha, segmentation)
    assert alpha.shape == (2, 1, SIDE, SIDE)
    # The person fills no less of a crop than of the scene; resampling rounds.
    assert alpha.mean() > batch[0].mean() - 1e-5
    opaque = (alpha > 0.999).expand_as(frame)
    assert (frame - foreground)[opaque].abs().mean() < 0.1  # but for noise and light


def test_crops_of_scenes_larger_than_the_networks_input_shrink():
    scenes = (sample(seed, 640, 768, Material()) for seed in range(9))
    larger = stack([next(scene for scene in scenes if scene.alpha.max() == 1)], 2)
    *_, alpha, _ = crops(larger, lambda a: a, 0.4)
    assert alpha.shape == (1, 1, SIDE, SIDE)
    assert alpha.max() > 0.9


def test_a_random_segmentation_resembles_the_person_and_varies():
    alpha = disc((SIDE, SIDE), (256, 256), 140)
    made = [random_segmentation(alpha, np.random.default_rng(seed)) for seed in range(4)]
    for soft in made:
        assert soft.shape == alpha.shape
        assert 0 <= soft.min() <= soft.max() <= 1 + 1e-6
        assert soft[256, 256] > 0.99
        assert np.abs(soft - alpha).mean() < 0.25
    assert not np.array_equal(made[0], made[1])


def test_training_sees_the_run_sides_segmentation_and_random_ones():
    alpha = disc((SIDE, SIDE), (256, 256), 140)
    rng = np.random.default_rng(0)
    as_run = [
        np.array_equal(segmentation_for(alpha, rng), soft_segmentation(alpha)) for _ in range(20)
    ]
    assert 5 <= sum(as_run) <= 15


def test_the_background_is_unmixed_where_it_is_seen():
    foreground, behind, plate = torch.rand(3, 1, 3, 16, 16)
    alpha = torch.rand(1, 1, 16, 16)
    frame = alpha * foreground + (1 - alpha) * behind
    out = background(frame, plate, foreground, alpha)
    seen = (alpha < 0.9).expand_as(out)
    assert (out - behind)[seen].abs().max() < 1e-5
    assert torch.equal(out[~seen], plate[~seen])


def test_the_losses_count_pixels_of_the_mask():
    a, b = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    assert l1(a, b, mask) == 0
    mask[..., 0, :2] = 1
    assert l1(a, b, mask) == pytest.approx(3)  # summed over the channels
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    assert torch.equal(gradient(ramp)[0, :, 2, 2], torch.tensor([-8.0, 0.0]))


def test_the_loss_falls_when_the_answer_is_better(batch):
    class Fixed(ContextSwitching):
        def unbounded(self, image, background, segmentation):
            return torch.full_like(segmentation, self.alpha), image

    network = Fixed(4)
    differences = []
    for network.alpha in (-9.0, 9.0):
        torch.manual_seed(0)
        loss, difference = supervised_loss(network, batch)
        differences.append((float(difference), float(loss)))
    empty, full = differences
    assert empty[0] + full[0] == pytest.approx(1)  # |0 - a| + |1 - a|
    assert (empty[0] < full[0]) == (empty[1] < full[1])


def test_a_network_that_is_sure_and_wrong_still_learns(batch):
    class Sure(ContextSwitching):
        def unbounded(self, image, background, segmentation):
            self.alpha = torch.full_like(segmentation, -30.0, requires_grad=True)
            return self.alpha, image

    network = Sure(4)
    torch.manual_seed(0)
    loss, difference = supervised_loss(network, batch)
    assert difference > 0.01
    loss.backward()
    assert network.alpha.grad.min() < 0


def test_three_steps_of_training_leave_a_checkpoint_that_loads(tmp_path, monkeypatch):
    monkeypatch.setitem(TRAINABLE, "context-switching", lambda: ContextSwitching(4))
    monkeypatch.setattr("engine.training.train.Validation", partial(Validation, scenes=1))
    config = TrainConfig(
        tmp_path, networks=("context-switching",), steps=3, batch=2, workers=0, threads=1
    )
    train(config)
    name, _ = load_checkpoint(tmp_path / "context-switching.pt")
    assert name == "context-switching"
    assert list((tmp_path / "validation").iterdir())


def test_training_goes_on_with_a_checkpoint_of_another_width(network, tmp_path):
    torch.save({"weights": network.state_dict()}, tmp_path / "context-switching.pt")
    started = Learner("context-switching", "cpu")
    started.start_from(tmp_path, iter(()))
    resumed = Learner("context-switching", "cpu")
    resumed.restore(started.state())
    for learner in (started, resumed):
        for held in (learner.network, learner.average):
            assert all(
                torch.equal(a, b)
                for a, b in zip(
                    held.state_dict().values(), network.state_dict().values(), strict=True
                )
            )
        trained = {id(p) for group in learner.optimiser.param_groups for p in group["params"]}
        assert trained == {id(p) for p in learner.network.parameters()}
