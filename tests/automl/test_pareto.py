"""Points against each other, worked out by hand; less is better in every coordinate."""

from __future__ import annotations

import pytest

from automl.pareto import dominates, hypervolume, nondominated, representatives


def test_better_somewhere_and_nowhere_worse_dominates() -> None:
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 3), (2, 2))
    assert not dominates((1, 2), (1, 2))


def test_what_nothing_beats_is_the_front() -> None:
    assert nondominated([(1, 5), (2, 3), (3, 4), (4, 1), (4, 2)]) == [0, 1, 3]


def test_equal_points_stay_together() -> None:
    assert nondominated([(1, 2), (1, 2), (2, 2)]) == [0, 1]


def test_a_tie_in_one_coordinate_is_decided_by_the_other() -> None:
    assert nondominated([(1, 2), (1, 1)]) == [1]


def test_three_coordinates() -> None:
    assert nondominated([(1, 2, 3), (3, 2, 1), (3, 3, 3), (2, 2, 2)]) == [0, 1, 3]


def test_the_area_of_a_staircase() -> None:
    # against (4, 4): 3 x 1 for (1, 3), 2 x 1 for (2, 2), 1 x 1 for (3, 1)
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (4, 4)) == 6


def test_dominated_and_distant_points_add_nothing() -> None:
    assert hypervolume([(1, 1), (2, 3), (5, 0)], (4, 4)) == 9
    assert hypervolume([(4, 1)], (4, 4)) == 0


def test_a_volume() -> None:
    # boxes of 2 x 2 x 1 and 1 x 1 x 3 that share 1 x 1 x 1
    assert hypervolume([(0, 0, 2), (1, 1, 0)], (2, 2, 3)) == 4 + 3 - 1


@pytest.mark.parametrize(("count", "chosen"), [(0, []), (1, [2]), (2, [2, 1]), (3, [2, 1, 0]), (9, [2, 1, 0, 3])])
def test_the_best_by_the_first_comes_first_then_what_covers_most(count: int, chosen: list[int]) -> None:
    # on ranges 10 and 100, reference (1.1, 1.1), after (0, 1) covers 1.1 x 0.1 = 0.11:
    # (0.2, 0.2) adds 0.9 x 0.9 - 0.9 x 0.1 = 0.72, (0.8, 0.1) adds 0.3 x 0.9 = 0.27, (1, 0) adds 0.1 x 1 = 0.10
    # then (0.8, 0.1) adds 0.3 x 0.1 = 0.03, (1, 0) adds 0.1 x 0.2 = 0.02
    front = [(8.0, 10.0), (2.0, 20.0), (0.0, 100.0), (10.0, 0.0)]
    assert representatives(front, count) == chosen


def test_a_coordinate_that_is_the_same_everywhere_decides_nothing() -> None:
    assert representatives([(2.0, 5.0), (1.0, 5.0)], 1) == [1]
