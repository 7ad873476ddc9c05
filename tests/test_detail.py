"""The last stage of Howard's network, and the tiles it works in. Needs the `build` extra."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from torch.nn.functional import interpolate, pad  # noqa: E402

from engine.export import deployable, example_inputs, export_onnx  # noqa: E402
from engine.exported import in_one_piece, network_from_onnx, program_of  # noqa: E402
from engine.networks import HowardNetwork  # noqa: E402
from engine.networks.detail import KNOWN, Detail, colours  # noqa: E402
from engine.networks.tiles import HALO, NEAR, SIDE, cut, inside, over, put_back, worth  # noqa: E402
from howard.errors import WeightsError  # noqa: E402
from howard.matte import default_weights  # noqa: E402

SIZES = [(128, 192), (132, 260), (64, 64), (32, 40), (200, 68), (4, 8)]
"""(height, width): of whole tiles, of parts of them, of less than one."""


def mixed_here_and_there(height, width, seed=0):
    """frame, plate and a logit of alpha that is mixed in parts of the first picture, in a corner of
    the second and nowhere in the third."""
    generator = torch.Generator().manual_seed(seed)
    frame, plate = torch.rand(2, 3, 3, height, width, generator=generator)
    cells = torch.randn(3, 1, height // 16 + 1, width // 16 + 1, generator=generator)
    logit = interpolate(9 * cells, size=(height, width), mode="bicubic")
    logit[0, :, : height // 2, : width // 2] = -9
    logit[1:] = 9
    logit[1, :, -3:, -5:-3] = 0.5
    return frame, plate, logit


def with_a_say(seed=0):
    """What has learnt nothing, but changes alpha by much."""
    torch.manual_seed(seed)
    detail = Detail(8)
    torch.nn.init.normal_(detail.last.weight, std=0.1)
    return detail.eval()


@pytest.mark.parametrize("size", SIZES)
def test_in_tiles_alpha_is_the_same(size):
    detail = with_a_say()
    inputs = mixed_here_and_there(*size)
    with torch.no_grad():
        whole = detail(*inputs)
        detail.in_tiles = True
        tiled = detail(*inputs)
    assert whole.shape == inputs[2].shape
    assert (whole - tiled).abs().max() < 1e-5
    changed = (tiled - torch.sigmoid(inputs[2])).abs().amax((1, 2, 3)) > 0.01
    assert changed.tolist() == [size[0] > 4, True, False]


def test_only_tiles_in_which_alpha_is_mixed_change():
    detail = with_a_say()
    detail.in_tiles = True
    frame, plate = torch.rand(2, 1, 3, 3 * SIDE, 4 * SIDE)
    logit = torch.full((1, 1, 3 * SIDE, 4 * SIDE), -9.0)
    logit[..., SIDE + 20, 2 * SIDE + 30] = 0.0
    sure = torch.logit(torch.tensor(KNOWN)) - 1e-3
    logit[..., SIDE + 20, 30] = sure
    with torch.no_grad():
        changed = detail(frame, plate, logit) != torch.sigmoid(logit)
    rows, columns = np.nonzero(changed[0, 0].numpy())
    assert (rows.min(), rows.max()) == (SIDE, 2 * SIDE - 1)
    assert (columns.min(), columns.max()) == (2 * SIDE, 3 * SIDE - 1)


def test_a_tile_is_worth_the_work_where_something_is_marked_in_it_or_near():
    marked = torch.zeros(1, 1, 2 * SIDE + 12, 3 * SIDE)
    marked[..., 5, SIDE - NEAR // 2] = 1
    marked[..., 2 * SIDE + 3, -1] = 1
    found = worth(marked)[0, 0].tolist()
    assert found == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]
    shown = over(worth(marked), marked)
    assert shown.shape == marked.shape
    assert shown[0, 0, SIDE - 1, 2 * SIDE - 1] == 1
    assert shown[0, 0, SIDE - 1, 2 * SIDE] == 0


@pytest.mark.parametrize("scale", [1, 4])
def test_tiles_are_cut_with_what_is_around_and_put_back(scale):
    height, width = (2 * SIDE + 8) // scale, (3 * SIDE + 12) // scale
    picture = torch.rand(2, 3, height, width)
    at = torch.tensor([[0, 0, 0], [1, 1, 2], [1, 2, 3]])
    halo, side = HALO // scale, SIDE // scale
    tiles = cut(picture, at, scale)
    if scale == 1:
        tiles = tiles * inside(picture, at)
        around = pad(picture, (halo, side + halo, halo, side + halo))
    else:
        around = pad(picture, (halo, side + halo, halo, side + halo), "replicate")
    for tile, (n, row, column) in zip(tiles, at.tolist(), strict=True):
        y, x = row * side, column * side
        expected = around[n, :, y : y + side + 2 * halo, x : x + side + 2 * halo]
        assert torch.equal(tile, expected)
    if scale == 1:
        one = picture[:, :1]
        inner = tiles[:, :1, HALO:-HALO, HALO:-HALO]
        changed = put_back(1 + inner, one, at) - one
        for part in (changed[0, 0, :SIDE, :SIDE], changed[1, 0, 2 * SIDE :, 3 * SIDE :]):
            assert part.min() == pytest.approx(1)
        assert changed.sum() == pytest.approx(2 * SIDE**2 + 8 * 12, rel=1e-4)


def test_colours_of_both_sides_are_those_of_who_is_seen_there():
    place, person = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.9, 0.5, 0.1])
    plain = lambda colour: colour.view(1, 3, 1, 1).expand(1, 3, 64, 64)  # noqa: E731
    alpha = torch.zeros(1, 1, 64, 64)
    alpha[..., 28:36] = 0.5
    alpha[..., 36:] = 1
    frame = torch.lerp(plain(place), plain(person), alpha)
    plate = (plain(place) - 0.05).clone()
    plate[..., :8] = 0  # it shows nothing there
    found = colours(frame, plate, alpha)
    assert found.shape == (1, 16, 16, 16)
    near, far = found.chunk(2, 1)
    inner = np.s_[0, :, 8, 9]  # beside the outline, within the person
    for side in (near, far):
        seen = side[inner]
        assert (seen[2:5] / seen[0]).tolist() == pytest.approx(person.tolist(), abs=0.01)
    seen = far[inner]
    assert (seen[5:] / seen[1]).tolist() == pytest.approx([0.05] * 3, abs=0.01)
    assert near[0, 1, 8, 9] == 0  # from near, nothing of the place is seen
    assert near[0, :, 8, 0].tolist() == [0] * 8  # nor is anything where the plate shows nothing


def test_the_matting_equation_tells_strands_that_the_refinement_has_blurred():
    """With colours that are plain on both sides, the plate off in its light, and all trust in what
    comes from far."""
    columns = torch.arange(128)
    truth = torch.where(columns < 64, 0.0, 1.0)
    truth[53:64:4] = 0.7  # strands
    truth = truth.view(1, 1, 1, 128).expand(1, 1, 64, 128)
    blurred = torch.where(columns < 52, -9.0, torch.where(columns < 64, 0.0, 9.0))
    place, person = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.3, 0.3, 0.5], [0.8, 0.5, 0.2]))
    frame = truth * person + (1 - truth) * place
    plate = (place - 0.04).expand(1, 3, 64, 128)
    detail = Detail(8)
    with torch.no_grad():
        detail.begin()
        detail.last.bias[:12] = torch.tensor([-8.0, -8, 8]).repeat_interleave(4)
        found = detail(frame, plate, blurred.view(1, 1, 1, 128).expand(1, 1, 64, 128))
    off = (found - truth).abs()[..., 8:-8, :]
    assert off.max() < 0.05
    assert (torch.sigmoid(blurred) - truth[0, 0, 0]).abs().max() == 0.5


def test_learning_begins_with_nearly_what_the_refinement_says():
    detail = Detail(8)
    with torch.no_grad():
        detail.begin()
        frame, plate, logit = mixed_here_and_there(64, 96)
        assert (detail(frame, plate, logit) - torch.sigmoid(logit)).abs().mean() < 0.1


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = HowardNetwork()
    torch.nn.init.normal_(network.detail.last.weight, std=0.1)
    for module in network.modules():  # as after training: alike, they would be stored once
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return deployable(network)


def test_a_model_is_exported_in_tiles_and_for_tensorrt_in_one_piece(network, tmp_path):
    import onnxruntime

    model, others = tmp_path / "howard.onnx", tmp_path / "others"
    others.mkdir()
    export_onnx(network, model)
    whole = in_one_piece(model, "howard", others)
    kinds = [{n.op_type for n in onnx.load(file).graph.node} for file in (model, whole)]
    assert kinds[0] - kinds[1] >= {"NonZero", "ScatterND"}
    inputs = example_inputs(2, 192, 256)
    feeds = {k: x.numpy() for k, x in zip(HowardNetwork.INPUTS, inputs, strict=True)}
    alphas = [onnxruntime.InferenceSession(f).run(["alpha"], feeds)[0] for f in (model, whole)]
    assert np.abs(alphas[0] - alphas[1]).max() < 1e-4
    fast = default_weights("howard-fast")
    assert in_one_piece(fast, "howard-fast", others) == fast
    with pytest.raises(WeightsError, match="not hold"):
        in_one_piece(model, "howard-fast", others)


def test_a_torch_program_is_in_one_piece(network, tmp_path):
    export_onnx(network, tmp_path / "howard.onnx")
    program = program_of(network_from_onnx(tmp_path / "howard.onnx", "howard"))
    assert not any("nonzero" in str(node.target) for node in program.graph.nodes)
