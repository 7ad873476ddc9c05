"""Homographies between resolutions, and which of them are believed."""

import numpy as np
import pytest

from howard.align.geometry import (
    WIDE,
    corners,
    fit_whole,
    is_plausible,
    is_plausible_from,
    project,
    scaling,
)

SIZE = (1280, 720)


def rotation(degrees, centre=(639.5, 359.5)):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    to, back = np.eye(3), np.eye(3)
    to[:2, 2], back[:2, 2] = centre, -np.array(centre)
    return to @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ back


def test_scaling_keeps_the_corners_of_the_pixels():
    # The left edge of the image lies at -0.5 and its right edge at width - 0.5 at any resolution.
    edges = np.array([[-0.5, -0.5], [639.5, 359.5]])
    assert project(scaling(2, 3), edges) == pytest.approx(
        np.array([[-0.5, -0.5], [1279.5, 1079.5]])
    )


def test_scaling_there_and_back_is_the_identity():
    assert scaling(0.3, 0.7) @ scaling(1 / 0.3, 1 / 0.7) == pytest.approx(np.eye(3))


def test_project_divides_by_the_scale():
    homography = np.array([[1, 0, 0], [0, 1, 0], [0.001, 0, 1]])
    assert project(homography, np.array([[1000.0, 500.0]])) == pytest.approx(np.array([[500, 250]]))


def test_corners_are_pixel_centres():
    assert corners(3, 2).tolist() == [[0, 0], [2, 0], [2, 1], [0, 1]]


@pytest.mark.parametrize("homography", [np.eye(3), rotation(10), scaling(1.3, 1.3), -np.eye(3)])
def test_similar_views_are_plausible(homography):
    assert is_plausible(homography, SIZE, SIZE)


mirrored = np.array([[-1, 0, 1279], [0, 1, 0], [0, 0, 1]], float)
folded = np.array([[1, 0, 0], [0, 1, 0], [-0.001, 0, 1]])
elsewhere = np.array([[1, 0, 4000], [0, 1, 0], [0, 0, 1]], float)


@pytest.mark.parametrize(
    "homography",
    [
        mirrored,
        folded,
        elsewhere,
        scaling(3, 3),
        scaling(0.3, 0.3),
        np.full((3, 3), np.nan),
        np.diag([1.0, 1.0, 0.0]),
        np.diag([1.0, 0.0, 1.0]),
    ],
    ids="mirrored folded elsewhere enlarged shrunk nan flat collapsed".split(),
)
def test_degenerate_views_are_refused(homography):
    assert not is_plausible(homography, SIZE, SIZE)


narrow = scaling(0.5, 1.0)


def test_views_that_differ_much_are_plausible_where_that_is_allowed():
    assert not is_plausible(narrow, SIZE, SIZE)
    assert is_plausible(narrow, SIZE, SIZE, WIDE)
    for never in (mirrored, folded, elsewhere):
        assert not is_plausible(never, SIZE, SIZE, WIDE)


def test_what_is_found_from_a_known_homography_may_differ_little_from_it():
    assert is_plausible_from(narrow, rotation(5) @ narrow, SIZE, SIZE)
    assert not is_plausible_from(np.eye(3), narrow, SIZE, SIZE)
    assert not is_plausible_from(narrow, narrow @ scaling(0.5, 1.0), SIZE, SIZE)
    # By itself it is one of a similar move.
    assert is_plausible_from(narrow, np.eye(3), SIZE, SIZE)


def test_plausibility_allows_for_a_plate_of_another_size():
    assert is_plausible(scaling(3, 3), (640, 360), (1920, 1080))


def test_fit_whole_is_the_identity_for_one_size():
    assert fit_whole(SIZE, SIZE) == pytest.approx(np.eye(3))


def test_fit_whole_centres_a_plate_of_another_shape():
    homography = fit_whole((100, 100), (200, 100))
    centre = project(homography, np.array([[49.5, 49.5]]))[0]
    assert centre == pytest.approx([99.5, 49.5])
    left, right = project(homography, np.array([[-0.5, 0], [99.5, 0]]))[:, 0]
    assert (left, right) == pytest.approx((-0.5, 199.5))
