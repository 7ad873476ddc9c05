"""Where the person may be, frame by frame; the device's against the CPU's."""

import numpy as np
import pytest

from howard.align.comparison import PERSON_ALPHA
from howard.frames import Matte
from howard.matte.gpu import DeviceMatte
from howard.matte.gpu_presence import recalled as device_recalled
from howard.matte.presence import DOUBTS, KEPT, SURE, Presence, recalled

SIZE = WIDTH, HEIGHT = 64, 36
DOUBT = 32, 18
KNOWN, DOUBTED = SURE / 2, 0.3


def person(doubt, alpha=1.0, left=20):
    """A matte of somebody 20 pixels wide, and how much of them is doubted."""
    picture, doubts = np.zeros((HEIGHT, WIDTH), np.float32), np.zeros(DOUBT[::-1], np.float32)
    picture[10:, left : left + 20] = alpha
    doubts[5:, left // 2 : left // 2 + 10] = doubt
    return Matte(picture, np.zeros((HEIGHT, WIDTH, 3), np.float32), 0.5, doubts)


def share_of_person(seen, left=20):
    """Of where they are, beside which the aligner would look."""
    inside = np.zeros(DOUBT[::-1], bool)
    inside[5:, left // 2 : left // 2 + 10] = True
    assert not (seen[~inside] > PERSON_ALPHA).any()
    return (seen[inside] > PERSON_ALPHA).mean()


def after(*mattes):
    presence = Presence(recalled)
    return [presence(matte) for matte in mattes][-1]


def test_a_person_is_where_alpha_says():
    assert share_of_person(after(person(KNOWN))) == 1
    assert share_of_person(after(person(DOUBTED))) == 1


def test_whom_the_network_loses_in_doubt_is_remembered():
    assert share_of_person(after(person(KNOWN), person(DOUBTED, alpha=0))) == 1


def test_whom_it_surely_no_longer_sees_is_forgotten():
    gone = person(0.9 * PERSON_ALPHA / DOUBTS, alpha=0)
    assert share_of_person(after(person(KNOWN), gone)) == 0


def test_what_it_took_for_a_person_in_doubt_is_not_remembered():
    assert share_of_person(after(person(DOUBTED), person(DOUBTED, alpha=0))) == 0


def test_a_memory_does_not_last_for_ever():
    lost = [person(DOUBTED, alpha=0)]
    lasts = int(np.log(PERSON_ALPHA) / np.log(KEPT))
    assert share_of_person(after(person(KNOWN), *(lost * lasts))) == 1
    assert share_of_person(after(person(KNOWN), *(lost * (lasts + 1)))) == 0


def test_a_memory_follows_who_moves_on():
    steps = [person(DOUBTED, alpha=0, left=20 + 2 * n) for n in range(1, 5)]
    assert share_of_person(after(person(KNOWN), *steps), left=28) == 1


def test_without_doubt_the_matte_speaks_alone():
    matte = Matte(np.eye(6, dtype=np.float32), np.zeros((6, 6, 3), np.float32))
    assert after(matte) is matte.alpha


@pytest.mark.parametrize("seed", range(2))
def test_the_devices_is_the_cpus(host_gpu, seed):
    rng = np.random.default_rng(seed)
    presence, device = Presence(recalled), Presence(device_recalled)
    for _ in range(3):
        alpha = rng.random((HEIGHT, WIDTH)).astype(np.float16)
        doubt = rng.uniform(0, 0.3, DOUBT[::-1]).astype(np.float16)
        colour = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        want = presence(Matte(alpha.astype(np.float32), colour, 0.5, doubt.astype(np.float32)))
        buffers = (host_gpu.asarray(one[None]) for one in (alpha, doubt))
        host_gpu.downloads.clear()
        on_device, doubts = buffers
        got = device(DeviceMatte(on_device, on_device, *SIZE, None, doubts))
        assert host_gpu.downloads == []
        assert np.abs(got.get().astype(np.float32) - want).max() < 2e-3
