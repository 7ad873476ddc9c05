"""Which displacements two cameras can have made."""

import numpy as np
import pytest

from howard.align.epipolar import FEWEST, find_epipole, sampling
from howard.align.field import plausible

F = np.float32
SIZE = HEIGHT, WIDTH = 90, 160
PERSON = np.s_[20:80, 60:100]


def seen_from_two_places(at=(200.0, 30.0), noise=0.1, seed=0):
    """(h, w, 2), towards this point or away from it, as depth has it; and trust of 1."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    away = np.dstack([at[0] - xs, at[1] - ys])
    away = away / np.hypot(*np.moveaxis(away, -1, 0))[..., None]
    rng = np.random.default_rng(seed)
    flow = away * rng.uniform(-6, 6, (*SIZE, 1)) + rng.normal(0, noise, away.shape)
    return flow.astype(F), np.ones(SIZE, F)


@pytest.mark.parametrize("at", [(200.0, 30.0), (70.3, 40.6), (-30.0, -300.0)])
def test_the_epipole_is_found_inside_and_outside_of_the_picture(at):
    x, y, w, known = find_epipole(*seen_from_two_places(at))
    assert known == 1
    # The farther, the more alike are the lines that lead there.
    away = np.hypot(at[0] - WIDTH / 2, at[1] - HEIGHT / 2)
    assert np.hypot(x / w - at[0], y / w - at[1]) < 0.5 + 0.02 * away


def test_a_camera_that_moves_sideways_has_it_at_infinity():
    flow, trust = seen_from_two_places((1e7, 45.0), noise=0.02)
    x, y, w, known = find_epipole(flow, trust)
    assert known == 1
    assert abs(x / w) > 20 * WIDTH
    assert abs(y / x) < 0.01


def test_what_a_person_makes_the_flow_believe_is_not_plausible():
    flow, trust = seen_from_two_places()
    flow[PERSON] = np.random.default_rng(1).normal(0, 6, flow[PERSON].shape)
    found = plausible(flow, trust)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.median(found[PERSON]) < 0.7
    found[PERSON] = 1
    assert found.min() > 0.99


def test_a_person_who_moves_as_one_across_the_lines_is_not_plausible():
    flow, trust = seen_from_two_places((5000.0, 45.0))
    flow[PERSON] = 0, 6
    assert plausible(flow, trust)[PERSON].max() < 0.25


def test_without_an_epipole_everything_is_plausible():
    flow, trust = seen_from_two_places()
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    turned = np.dstack([45.0 - ys, xs - 80.0]).astype(F) / 8
    for field, known_by in ((turned, trust), (flow * 0, trust), (flow, trust * 0)):
        assert find_epipole(field, known_by)[3] == 0
        assert plausible(field, known_by).min() == 1


def test_few_samples_say_nothing():
    step = sampling(*SIZE)
    assert step == 2
    flow, _ = seen_from_two_places()
    flow += np.sign(flow)  # none so short that it says nothing
    for count, known in ((FEWEST - 1, 0), (FEWEST, 1)):
        trust = np.zeros(SIZE, F)
        looked_at = np.zeros(trust[::step, ::step].shape, F)
        looked_at.flat[:count] = 1
        trust[::step, ::step] = looked_at
        assert find_epipole(flow, trust)[3] == known
