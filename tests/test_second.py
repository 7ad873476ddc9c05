"""Mattes made again without their plate, on either device."""

from dataclasses import replace

import numpy as np
import pytest

from howard.frames import Alignment, Frame, Matte, Plate
from howard.matte.cpu import confidences
from howard.matte.second import DOUBTED, SOMEBODY, SURER, UNSURE, SecondOpinion

SIZE = (4, 6)
SHOWN, PLACE = 30, 90
FILMED = np.full((3, 5, 3), 60, np.uint8)
"""The clean plate, unaligned."""
NOT_SWAPPED = 0.1, 0.2


class Unsure:
    """Sure of a matte by `seen` with a plate, by `alone` without, by `swapped` where the frame is
    the plate; alpha says which it was. Its mattes share memory, as the GPU's do."""

    def __init__(self, seen, alone, swapped):
        self.seen, self.alone, self.swapped = seen, alone, swapped
        self.warnings, self.calls = ["from within"], []
        self.memory = np.zeros((20, *SIZE), np.float32)

    def __call__(self, frames, plates):
        self.calls.append(len(frames))
        out = []
        for k, plate in enumerate(plates):
            sure, alpha = self.seen[frames[k].index], 1.0
            if not plate.coverage.any():
                assert not plate.pixels.any()
                assert plate.alignment.coverage == 0
                assert plate.unaligned is FILMED
                sure, alpha = self.alone, 0.5
            elif frames[k].pixels.max() == PLACE:
                assert plate.pixels.max() == plate.unaligned.max() == SHOWN
                sure, alpha = self.swapped
            self.memory[k] = alpha
            out.append(Matte(self.memory[k], np.zeros((*SIZE, 3), np.float32), sure))
        return out


def own(matte):
    return replace(matte, alpha=matte.alpha.copy())


def shot(count, coverage=1.0):
    frames = [Frame(i, i / 30, np.full((*SIZE, 3), SHOWN, np.uint8)) for i in range(count)]
    how = Alignment(0, 9, 9, 9, 20.0, coverage, None, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    picture, covered = np.full((*SIZE, 3), PLACE, np.uint8), np.ones(SIZE, np.uint8)
    plate = Plate(picture, covered, how, unaligned=FILMED)
    return frames, [plate] * count


def asked(seen, alone, coverage=1.0, swapped=NOT_SWAPPED):
    network = Unsure(seen, alone, swapped)
    second = SecondOpinion(network, tell=confidences, keep=own)
    mattes = second(*shot(len(seen), coverage))
    return network, second, [float(m.alpha.mean()) for m in mattes]


def test_a_sure_network_is_asked_once():
    network, second, alphas = asked([UNSURE, 0.9], alone=1.0)
    assert network.calls == [2]
    assert alphas == [1, 1]
    assert second.warnings == ["from within"]


def test_the_surer_matte_is_taken_and_told():
    network, second, alphas = asked([0.9, 0.1, 0.2, 0.05], alone=0.15)
    assert network.calls == [4, 1, 1, 1, 1, 1]  # two of them to see whether they are swapped
    assert alphas == [1, 0.5, 1, 0.5]
    own_warning = second.warnings[1]
    assert "2 frames" in own_warning
    assert "first is 1" in own_warning


def test_without_a_plate_there_is_nothing_to_leave_out():
    network, _, _ = asked([0.1], alone=0.9, coverage=0.0)
    assert network.calls == [1]


def test_unsure_frames_are_not_matted_again_throughout():
    network, second, alphas = asked([DOUBTED] * 20, alone=1.0)
    assert network.calls == [20] + [1] * 5
    assert alphas == [1] * 20
    assert second.warnings == ["from within"]


@pytest.mark.parametrize(
    ("seen", "swapped", "told"),
    [
        (0.4, (0.4 + SURER, 0.3), True),
        (0.4, (0.4 + SURER / 2, 0.3), False),
        (0.3, (UNSURE - 0.01, 0.3), False),  # sure of neither
        (0.4, (0.9, SOMEBODY / 2), False),  # nobody in the plate
        (UNSURE, (0.9, 0.3), False),
    ],
)
def test_takes_that_seem_swapped_are_told(seen, swapped, told):
    _, second, alphas = asked([seen] * 3, alone=1.0, swapped=swapped)
    assert alphas == [1] * 3
    assert any("swapped" in warning for warning in second.warnings) == told


@pytest.mark.parametrize("alone", [0.05, 0.9])
def test_a_device_keeps_what_the_next_call_writes_over(host_gpu, alone):
    from howard.matte.gpu import DeviceMatte, copied
    from howard.matte.gpu import confidences as read

    cp, (height, width) = host_gpu, SIZE
    memory = cp.zeros((2, 1, height, width), np.float16)

    def network(frames, plates):
        sure = [
            alone if not p.coverage.any() else 0.9 - 0.8 * f.index for f, p in both(frames, plates)
        ]
        for k, plate in enumerate(plates):
            memory[k] = 1 if plate.coverage.any() else 0.5
        told = cp.asarray(np.array(sure, np.float32))
        return [
            DeviceMatte(memory[k], memory[k], width, height, told[k : k + 1])
            for k in range(len(frames))
        ]

    both = lambda *lists: zip(*lists, strict=True)  # noqa: E731
    network.warnings = []
    frames, plates = shot(2)
    plates = [
        replace(p, pixels=cp.asarray(p.pixels), coverage=cp.asarray(p.coverage)) for p in plates
    ]
    mattes = SecondOpinion(network, tell=read, keep=copied)(frames, plates)
    found = [float(cp.asnumpy(m.alpha).mean()) for m in mattes]
    assert found == [1, 0.5 if alone > 0.1 else 1]
