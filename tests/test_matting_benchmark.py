"""The matting benchmark: its scenes are as hard as they say, and its judgement is right."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks import matting, matting_scenes, metrics
from benchmarks.matting_networks import DifferenceKey
from benchmarks.matting_scenes import KINDS, PLATES, Kind, Scene
from engine.export import store_weights_as_half
from engine.quantise import as_nouns, quantise
from engine.training.material import Material
from engine.training.scenes import sample
from howard.errors import WeightsError
from howard.frames import Matte
from howard.matte.cpu import OnnxMattingNetwork

SIZE = WIDTH, HEIGHT = 320, 180
FRAMES = 2


@cache
def scene(name: str) -> Scene:
    return Scene(name, 0, *SIZE, FRAMES)


class Truthful:
    """The network that knows."""

    def __init__(self, truth: list[matting_scenes.Truth]) -> None:
        self.truth = truth

    def __call__(self, frames, plates):
        known = [self.truth[frame.index] for frame in frames]
        return [Matte(truth.alpha, truth.foreground) for truth in known]


def plainer(monkeypatch: pytest.MonkeyPatch, name: str, **without: bool) -> Scene:
    """The same scene without what makes it hard."""
    monkeypatch.setitem(KINDS, name, replace(KINDS[name], **without))
    return Scene(name, 0, *SIZE, FRAMES)


@pytest.mark.parametrize("name", ["planar", "nobody"])
@pytest.mark.parametrize("origin", PLATES)
def test_the_truth_scores_nothing_in_every_metric(name, origin):
    for score in matting.score_scene(scene(name), Truthful(scene(name).truth), origin):
        errors = {k: v for k, v in vars(score).items() if not (name == "nobody" and "fore" in k)}
        assert set(errors.values()) == {0.0}


@pytest.mark.parametrize("name", ["planar", "parallax-strong", "similar-colours", "hair"])
def test_frames_show_the_truth_but_for_noise(name):
    for frame, truth in zip(scene(name).frames, scene(name).truth, strict=True):
        opacity = truth.alpha[..., None]
        composite = opacity * truth.foreground + (1 - opacity) * truth.background
        assert np.array_equal(composite, truth.picture)
        # Noise of 0.02 times at most 1.5, and compression, are below 0.04 in the mean.
        assert np.abs(frame.pixels / 255 - truth.picture).mean() < 0.04
        assert 0.02 < truth.alpha.mean() < 0.6


def test_a_scene_is_the_same_again_and_another_by_its_number():
    again, other = (Scene("planar", number, *SIZE, FRAMES) for number in (0, 1))
    for mine, same, not_same in zip(
        scene("planar").frames, again.frames, other.frames, strict=True
    ):
        assert np.array_equal(mine.pixels, same.pixels)
        assert not np.array_equal(mine.pixels, not_same.pixels)


def test_person_and_noise_move_on():
    moved = []
    for number in range(4):
        first, second = Scene("planar", number, *SIZE, FRAMES).truth
        moved.append(not np.array_equal(first.alpha, second.alpha))
        # As rigidly as a cut-out: no more and no less of it, but for the frame's sides.
        assert abs(first.alpha.mean() - second.alpha.mean()) < 0.03
    assert sum(moved) >= 2  # some walk by less than a pixel


@pytest.mark.parametrize("name", ["parallax-mild", "parallax-strong"])
def test_the_nearest_thing_is_displaced_by_the_parallax(name, monkeypatch):
    # One white thing before black: its centre of mass tells.
    monkeypatch.setattr(matting_scenes, "THINGS", 1)
    white = lambda rng, height, width, material: np.ones((height, width, 3), np.float32)  # noqa: E731
    monkeypatch.setattr(matting_scenes, "photograph", white)
    made = scene(name)
    place = np.zeros((3 * HEIGHT, 3 * WIDTH, 3), np.float32)
    centres = []
    for take in made.with_near_things(place):
        moments = cv2.moments(take[..., 0])
        centres.append(np.array([moments["m10"], moments["m01"]]) / moments["m00"])
    displaced = np.hypot(*(centres[1] - centres[0]))
    assert displaced == pytest.approx(made.kind.parallax * WIDTH, rel=0.05)


def test_parallax_and_holes_are_what_the_aligner_leaves():
    cover = {name: mean_coverage(name) for name in ("planar", "holes")}
    assert cover["planar"] > 0.9
    assert 0.5 < cover["holes"] < 0.85


def mean_coverage(name: str) -> float:
    return float(np.mean([plate.coverage for plate in scene(name).plates["aligned"]]))


def test_the_clean_plate_of_another_exposure_is_of_another_brightness():
    ratios = {name: brightness(name) for name in ("planar", "exposure")}
    assert abs(np.log(ratios["planar"])) < 0.1
    assert abs(np.log(ratios["exposure"])) > 0.15


def brightness(name: str) -> float:
    made = scene(name)
    live = np.mean([truth.background for truth in made.truth])
    return float(np.mean(made.clean_plate) / 255 / live)


def test_lamps_change_some_parts_more_than_others(monkeypatch):
    lit = [Scene("local-light", number, *SIZE, FRAMES) for number in range(4)]
    monkeypatch.setitem(KINDS, "local-light", replace(KINDS["local-light"], lamps=False))
    more = []
    for number, with_lamps in enumerate(lit):
        plain = Scene("local-light", number, *SIZE, FRAMES)
        lighter = with_lamps.clean_plate[0].mean(-1) - plain.clean_plate[0].mean(-1)
        change = np.abs(cv2.blur(lighter, (31, 31)))
        more.append(np.percentile(change, 95) - 4 * np.percentile(change, 10))
    assert np.median(more) > 5  # of some, all is lit


def test_similar_colours_are_nearer_to_the_place(monkeypatch):
    apart = [colour_apart(scene("similar-colours"))]
    apart.append(colour_apart(plainer(monkeypatch, "similar-colours", similar=False)))
    assert apart[0] < 0.7 * apart[1]


def colour_apart(made: Scene) -> float:
    """Mean colour of the person against that of what is behind."""
    truth, person = made.truth[0], made.truth[0].alpha > 0.5
    return float(np.abs(truth.foreground[person].mean(0) - truth.background[person].mean(0)).sum())


@pytest.mark.parametrize("name", ["holding", "stage"])
def test_things_and_robes_belong_to_the_person(monkeypatch, name):
    worn, bare = (
        made.truth[0] for made in (scene(name), plainer(monkeypatch, name, **{name: False}))
    )
    assert (worn.alpha >= bare.alpha).all()
    other = np.abs(worn.foreground - bare.foreground).max(-1) > 0.1
    assert 100 < (other & (worn.alpha > 0.5)).sum() < (worn.alpha > 0.5).sum()


def test_a_stage_is_full_of_lamps_in_both_takes(monkeypatch):
    lit, dark = scene("stage"), plainer(monkeypatch, "stage", stage=False)
    brightest = lambda picture: np.percentile(picture.max(-1), 98)  # noqa: E731
    for with_them, without in (
        (lit.truth[0].background, dark.truth[0].background),
        (lit.clean_plate[0], dark.clean_plate[0]),
    ):
        shape = with_them.reshape(-1, 3)
        assert brightest(shape) > np.median(shape) * 2
        assert np.median(shape) < 0.8 * np.median(without)


def test_hair_adds_strands_about_the_head(monkeypatch):
    with_it, without = scene("hair"), plainer(monkeypatch, "hair", hair=False)
    more = with_it.truth[0].alpha - without.truth[0].alpha
    assert (more > 0.1).mean() > 0.002
    assert more.min() > -0.01
    rows = np.flatnonzero((more > 0.1).any(1))
    head = np.flatnonzero((without.truth[0].alpha > 0.5).any(1))[0]
    assert rows[0] < head < rows[-1]


def test_nobody_is_nobody():
    assert not any(truth.alpha.any() for truth in scene("nobody").truth)


def test_without_a_clean_plate_nothing_is_covered():
    assert mean_coverage("missing-plate") == 0


def test_the_wrong_clean_plate_shows_another_place():
    apart = {name: plate_apart(scene(name)) for name in ("planar", "wrong-plate")}
    assert apart["wrong-plate"] > max(0.15, 2 * apart["planar"])


def plate_apart(made: Scene) -> float:
    """The clean plate, blurred, against what is truly behind: misalignment hardly counts."""
    pictures = made.clean_plate[0] / 255.0, made.truth[0].background
    return float(np.abs(np.subtract(*(cv2.blur(p, (41, 41)) for p in pictures))).mean())


def test_the_key_is_better_the_better_the_plate():
    mads = {
        origin: np.mean(
            [s.mad for s in matting.score_scene(scene("planar"), DifferenceKey(), origin)]
        )
        for origin in PLATES
    }
    assert mads["perfect"] < mads["aligned"] < min(mads["wrong"], mads["none"])


def test_the_key_unmixes_the_foreground():
    # Half a white thing before black, where the distance of 40 levels is half opaque.
    frame, plate = np.full((1, 1, 3), 40.0, np.float32), np.zeros((1, 1, 3), np.float32)
    matte = DifferenceKey().key(frame, plate)
    assert matte.alpha[0, 0] == pytest.approx(0.5)
    assert matte.foreground[0, 0] == pytest.approx([80 / 255] * 3, rel=1e-5)


def test_the_ceiling_is_the_mad_over_perfect_plates():
    summaries = {"howard": {"aligned": {"mad": 6.0}, "perfect": {"mad": 4.0}}}
    assert matting.with_ceiling(summaries)["howard"]["aligned"]["times_ceiling"] == 1.5
    alone = matting.with_ceiling({"howard": {"aligned": {"mad": 6.0}}})
    assert np.isnan(alone["howard"]["aligned"]["times_ceiling"])


def test_the_first_frame_counts_as_no_flicker():
    class Blinking(Truthful):
        def __call__(self, frames, plates):
            (matte,) = super().__call__(frames, plates)
            return [replace(matte, alpha=matte.alpha * (frames[0].index == 0))]

    made = scene("planar")
    first, second = matting.score_scene(made, Blinking(made.truth), "none")
    assert (first.dtssd, first.mad) == (0, 0)
    gone = metrics.dtssd(
        np.zeros_like(made.truth[0].alpha),
        made.truth[0].alpha,
        made.truth[1].alpha,
        made.truth[0].alpha,
    )
    assert second.dtssd == pytest.approx(gone)


def test_the_command_writes_a_record(tmp_path, capsys):
    out = tmp_path / "matting.json"
    small = ["--size", "160x96", "--frames", "2", "--scenes", "1", "--rounds", "1"]
    chosen = ["--networks", "difference-key", "--kinds", "planar", "--plates", "aligned", "perfect"]
    assert matting.main([*small, *chosen, "--json", str(out)]) == 0
    record = json.loads(out.read_text())
    found = record["results"]["kinds"]["planar"]["networks"]["difference-key"]
    assert set(found) == {"aligned", "perfect"}
    assert found["perfect"]["times_ceiling"] == 1
    assert record["results"]["milliseconds"]["difference-key"]["count"] == 1
    assert "x ceiling" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--kinds", "fog"], "fog"),
        (["--plates", "stolen"], "stolen"),
        (["--networks", "absent.onnx"], "absent.onnx"),
        (["--size", "720p"], "'720p' is no size: give WIDTHxHEIGHT"),
        (["--size", "0x720"], "'0x720' is no size"),
    ],
)
def test_a_wrong_name_is_an_error_that_names_it(wrong, named, capsys):
    assert matting.main(wrong) == 2
    assert named in capsys.readouterr().err


def test_every_kind_differs_from_the_plainest_by_something():
    assert [name for name, kind in KINDS.items() if kind == Kind()] == ["planar"]


def write_network(path, part="base"):
    """Two convolutions of 40 channels, the first in the network's `part`, the second a head."""
    rng = np.random.default_rng(0)
    shapes = {"first": (40, 3, 3, 3), "second": (4, 40, 3, 3)}
    stored = [
        onnx.numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float16).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    split = onnx.numpy_helper.from_array(np.array([1, 3]), "split")
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Sub", ["frame", "plate"], ["difference"]),
        helper.make_node("Conv", ["difference", "first"], ["a"], f"/{part}/trunk/Conv", **same),
        helper.make_node("Relu", ["a"], ["b"], f"/{part}/trunk/Relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], f"/{part}/head/Conv", **same),
        helper.make_node("Sigmoid", ["c"], ["d"]),
        helper.make_node("Split", ["d", "split"], ["alpha", "foreground"], axis=1),
    ]
    pictures = {"frame": 3, "plate": 3, "alpha": 1, "foreground": 3}
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in pictures.items()
    ]
    graph = helper.make_graph(nodes, "tiny", values[:2], values[2:], [*stored, split])
    store_weights_as_half(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.add(key="full_multiple", value="2")
    onnx.save_model(model, str(path))
    return path


def test_quantised_convolutions_give_nearly_the_same_matte(tmp_path):
    model, out = write_network(tmp_path / "tiny.onnx"), tmp_path / "tiny-int8.onnx"
    assert quantise(model, out, scenes=2) == ["/base/trunk/Conv"]
    weights = {t.name: t.data_type for t in onnx.load(out).graph.initializer}
    assert weights["first_quantized"] == onnx.TensorProto.INT8
    assert weights["second"] == onnx.TensorProto.FLOAT  # a head is left alone
    nouns = as_nouns(sample(1, 96, 160, Material()))
    alphas = [OnnxMattingNetwork(file, 1)(*nouns)[0].alpha for file in (model, out)]
    # Rounded to 256 levels of what the calibration saw, which is more than this scene's range.
    assert 0 < np.abs(alphas[0] - alphas[1]).mean() < 0.1 * alphas[0].std()


def test_a_network_without_a_base_is_not_quantised(tmp_path):
    out = tmp_path / "out.onnx"
    with pytest.raises(WeightsError, match="no convolutions named"):
        quantise(write_network(tmp_path / "other.onnx", "stem"), out, scenes=1)
    assert not out.exists()
