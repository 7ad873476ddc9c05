"""Which clean-plate frames are tried."""

import numpy as np
import pytest

from howard.align.plate_track import LOCATE_EVERY, LONGEST_STEP, NEAR, WIDE_COUNT, PlateTrack

EYE = np.eye(3)


def test_the_clocks_are_mapped_in_proportion_of_the_lengths():
    track = PlateTrack(shot_frames=101, plate_frames=51)
    assert [track.predict(i) for i in (0, 50, 100)] == [0, 25, 50]


def test_unknown_lengths_mean_equal_clocks():
    assert PlateTrack(None, 300).predict(42) == 42


def test_a_still_plate_is_always_its_one_frame():
    track = PlateTrack(100, 1)
    assert track.candidates(70, False, 0, 0) == [0]
    assert track.candidates(70, True, 0, 0) == [0]


def test_the_track_follows_the_last_good_match():
    track = PlateTrack(100, 100)
    track.accept(10, 40, EYE, 5.0)
    assert track.predict(11) == 41


def test_the_pace_is_learnt():
    track = PlateTrack(100, 100)
    for i in range(60):
        track.accept(i, 2 * i, EYE, 5.0)
    assert 1.95 < track.pace < 2.05
    assert track.predict(60) == 120


def test_what_the_lengths_say_of_the_pace_is_soon_forgotten():
    """The clean plate begins earlier and ends later: 40 frames for 10, at the same pace."""
    track = PlateTrack(10, 41)
    track.accept(0, 12, EYE, 5.0)
    errors = []
    for i in range(1, 10):
        true = 12 + i
        tried = track.candidates(i, False, 0, 40)
        errors.append(abs(tried[0] - true))
        track.accept(i, min(tried, key=lambda index: abs(index - true)), EYE, 5.0)
    assert errors[0] == 3
    assert max(errors[3:]) <= 1


def test_a_camera_that_stands_still_is_followed_though_the_lengths_say_that_it_hurries():
    track = PlateTrack(4, 80)
    track.accept(0, 19, EYE, 5.0)
    assert track.predict(1) == 45
    for i in range(1, 4):
        assert 19 in track.candidates(i, False, 0, 79)
        track.accept(i, 19, EYE, 5.0)
        assert track.predict(i + 1) == 19


def test_what_is_at_hand_holds_where_it_was_while_nothing_has_told_the_pace():
    track = PlateTrack(4, 800)
    assert track.centre(0) == 0
    track.accept(0, 300, EYE, 5.0)
    assert (track.centre(1), track.predict(1)) == (300, 566)
    assert track.centre(3) == track.predict(3)  # lost meanwhile
    track.accept(1, 301, EYE, 5.0)
    assert track.centre(2) == track.predict(2) == 302


def test_between_where_it_was_and_where_it_should_be_lies_the_track():
    track = PlateTrack(100, 1000)
    track.accept(0, 50, EYE, 5.0)
    track.accept(1, 60, EYE, 5.0)
    near = [track.is_on_track(2, index) for index in (60 - LONGEST_STEP, 65, 70 + LONGEST_STEP)]
    far = [track.is_on_track(2, index) for index in (55 - LONGEST_STEP, 75 + LONGEST_STEP)]
    assert (near, far) == ([True] * 3, [False] * 2)


def test_a_pace_of_part_of_a_frame_is_kept_where_every_prediction_is_right():
    track = PlateTrack(shot_frames=31, plate_frames=43)
    for i in range(25):
        track.accept(i, track.predict(i), EYE, 5.0)
    assert track.predict(25) == 35


def test_beside_a_wide_index_lies_what_is_not_nearer_to_another():
    track = PlateTrack(100, 500)
    wide = track.candidates(0, True, 100, 211)
    step = wide[1] - wide[0]
    assert step == 8
    assert track.beside(wide[3], 100, 211) == [wide[3] + d for d in (-4, -3, -2, -1, 1, 2, 3, 4)]
    assert track.beside(101, 100, 103) == []
    assert track.beside(100, 100, 211) == [101, 102, 103, 104]


def test_few_are_tried_first_while_planes_lie_where_they_were_predicted():
    track = PlateTrack(100, 100)
    tried = []
    for i, (index, is_plane) in enumerate([(40, True), (41, True), (42, True), (44, True)]):
        track.accept(10 + i, index, EYE, 5.0, is_plane)
        tried.append(track.first_of(track.candidates(11 + i, False, 0, 99), 11 + i))
    assert tried[1:3] == [[42, 43], [43, 42]]
    track.accept(14, 45, EYE, 5.0, is_plane=False)
    tried.append(track.first_of(track.candidates(15, False, 0, 99), 15))
    assert tried[0] == [41, 42, 40, 44, 37, 39]  # nothing has told the pace: where it was, too
    assert [len(indices) for indices in tried[1:]] == [2, 2, len(NEAR), len(NEAR)]


def test_what_costs_clearly_more_than_usual_is_looked_into_once():
    track = PlateTrack(100, 100)
    assert not track.is_costly(50.0)
    for cost in (8.0, 4.0, 5.0):
        track.note_cost(cost, is_least=False)
    assert track.cost == pytest.approx(4.0 * 1.01)
    assert not track.is_costly(7.0)
    assert track.is_costly(7.1)
    track.note_cost(9.0, is_least=True)  # nothing better was found
    assert not track.is_costly(9.0)
    track.sees_more()
    assert not track.is_costly(50.0)


def test_a_run_is_located_at_its_first_frame_wherever_it_begins():
    track = PlateTrack(100, 100)
    due = [i for i in range(61, 61 + 2 * LOCATE_EVERY) if track.is_due_to_be_located(i)]
    assert due == [61, 61 + LOCATE_EVERY]


def test_a_relocation_says_nothing_about_the_pace():
    track = PlateTrack(100, 100)
    track.accept(0, 0, EYE, 5.0)
    track.accept(1, 60, EYE, 5.0)
    assert track.pace == 1.0
    assert track.predict(2) == 61


def test_candidates_stay_in_the_window_and_come_once():
    track = PlateTrack(100, 100)
    track.accept(10, 99, EYE, 5.0)
    near = track.candidates(11, False, 20, 99)
    assert near[0] == 99
    assert len(near) == len(set(near)) <= len(NEAR)
    assert all(20 <= i <= 99 for i in near)


def test_wide_candidates_span_the_window():
    track = PlateTrack(100, 500)
    wide = track.candidates(0, True, 100, 299)
    assert WIDE_COUNT <= len(wide) <= WIDE_COUNT + 2
    assert min(wide) < 114
    assert max(wide) > 285


def test_a_window_that_moves_on_keeps_most_wide_candidates():
    track = PlateTrack(100, 500)
    before, after = (set(track.candidates(0, True, low, low + 199)) for low in (100, 110))
    assert len(before & after) >= len(before) - 1


def test_nearest_keeps_to_the_clocks():
    track = PlateTrack(101, 51, follows=False)
    track.accept(10, 40, EYE, 5.0)
    assert track.predict(20) == 10
    assert not track.is_due_for_a_look_around(0)


def test_a_window_smaller_than_the_wide_set_is_tried_whole():
    assert PlateTrack(100, 500).candidates(0, True, 7, 9) == [7, 8, 9]


def test_the_track_is_lost_only_when_the_residual_jumps():
    track = PlateTrack(100, 100)
    assert not track.is_lost(200.0)
    track.accept(0, 0, EYE, 5.0)
    assert not track.is_lost(6.0)
    assert track.is_lost(20.0)


def test_what_is_usual_once_the_person_is_known_is_told_anew():
    """Photographs from far apart: 16.5 levels of the better part, 31 of all beside the person."""
    track = PlateTrack(100, 100)
    track.accept(0, 0, EYE, 16.5)
    assert not track.is_useless(31.0)
    track.sees_more()
    assert not track.is_useless(31.0)
    assert track.is_useless(70.0)
    assert not track.is_lost(70.0)
    track.accept(1, 1, EYE, 10.0)
    assert track.is_useless(31.0)


def test_a_new_track_looks_around():
    track = PlateTrack(100, 100)
    assert track.is_due_for_a_look_around(5)
    track.accept(5, 5, EYE, 5.0)
    assert not track.is_due_for_a_look_around(7)


def test_a_place_that_is_lost_is_looked_up_at_once_and_then_now_and_then():
    """After a cut, whose first frame nobody knew to be lost before it was looked at."""
    track = PlateTrack(100, 200)
    track.is_due_to_be_located(10)
    track.accept(10, 40, EYE, 5.0)
    due = [i for i in range(11, 30) if track.is_due_to_be_located(i)]
    assert due == [12, 11 + LOCATE_EVERY, 11 + 2 * LOCATE_EVERY]
