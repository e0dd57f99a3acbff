"""The additive searcher, part by part, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from automl.additive import AdditiveModel, Axes, Forecast, _Judged, carried_up, propose_additively
from automl.cube import Cube
from automl.proposals import Need
from automl.view import Observation
from search_spaces.space import Condition, Parameter, SearchSpace

NUMBER = np.array([0])
SPACE = SearchSpace(
    skill="depth_net_stereo",
    parameters=(
        *(Parameter(key=f"k{n}", kind="float", low=0.0, high=1.0, default=0.5) for n in range(4)),
        Parameter(key="choice", kind="categorical", choices=("a", "b", "c"), default="a"),
        Parameter(key="only_b", kind="float", low=0.0, high=1.0, default=0.5, condition=Condition(key="choice", values=("b",))),
    ),
)


def seen(number: int, best: Mapping[int, float], **values: float | str) -> Observation:
    params = {f"k{n}": 0.5 for n in range(4)} | {"choice": "a"} | values
    return Observation(number=number, params=params, best_by_rung=best, running=True)


def random_history(cost: object, count: int = 40, **flags: bool) -> list[Observation]:
    assert callable(cost)
    cube, rng = Cube(SPACE), np.random.default_rng(0)
    drawn = [cube.values(rng.random(len(cube.axes))) for _ in range(count)]
    return [Observation(number=n, params=values, best_by_rung={3: cost(values)}, **flags) for n, values in enumerate(drawn)]


def need(number: int) -> Need:
    return Need(seed=1, number=number, space=SPACE, startup=10)


def test_a_density_of_one_axis_has_an_area_of_one() -> None:
    axes = Axes(np.array([[0.1], [0.15], [0.8]]), NUMBER)
    places = (np.arange(2000) + 0.5) / 2000
    assert np.exp(axes.log_density(places[:, None])).mean() == pytest.approx(1.0, abs=1e-3)


def test_a_kernel_is_as_wide_as_the_larger_gap() -> None:
    centres, widths = Axes(np.array([[0.8], [0.1], [0.2]]), NUMBER)._kernels(0)
    assert centres.tolist() == [0.1, 0.2, 0.8, 0.5]
    assert widths.tolist() == pytest.approx([0.2, 0.6, 0.6, 1.0])  # 0.1 and 0.1, but a fifth at least; 0.1 and 0.6; 0.6 and 0.2; broad


def test_a_choice_has_its_share_and_a_part_of_one_more_trial() -> None:
    axes = Axes(np.array([[1 / 6], [1 / 6], [5 / 6]]), np.array([3]))
    assert axes._shares(0).tolist() == pytest.approx([(2 + 1 / 3) / 4, (1 / 3) / 4, (1 + 1 / 3) / 4])


def test_samples_stay_inside_and_gather_where_the_points_are() -> None:
    drawn = Axes(np.array([[0.9], [0.92], [0.95]]), NUMBER).sample(500, np.random.default_rng(0))
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    assert np.median(drawn) > 0.7


def test_a_low_rung_is_carried_up_by_the_trials_that_reached_both() -> None:
    trials = [_Judged.of(seen(n, {1: -1.0 - n, 3: -2.0 - n}), 1.0) for n in range(8)] + [_Judged.of(seen(8, {1: -5.0}), 1.0)]
    forecast = carried_up(trials)
    assert forecast.costs[-1] == pytest.approx(-6.0)  # one lower than at the low rung, as all others
    assert forecast.variances[:-1].tolist() == [0.0] * 8
    assert forecast.variances[-1] > 0


def test_costs_above_zero_are_taken_as_logarithms() -> None:
    assert carried_up([_Judged.of(seen(0, {1: np.e}), 1.0)]).costs.tolist() == pytest.approx([1.0])


def test_the_model_finds_the_parabola() -> None:
    points = np.random.default_rng(1).random((200, 3))
    costs = 4.0 * (points[:, 0] - 0.3) ** 2
    model = AdditiveModel.of_costs(points, Forecast(costs, np.zeros(200)), np.zeros(3, dtype=int))
    places = np.full((21, 3), 0.5)
    places[:, 0] = np.linspace(0, 1, 21)
    drawn = model.draw(np.random.default_rng(0), places)
    assert places[int(np.argmin(drawn)), 0] == pytest.approx(0.3, abs=0.1)


def test_what_is_not_active_counts_for_nothing() -> None:
    points = np.array([[0.2, np.nan], [0.9, 0.4]] * 10)
    model = AdditiveModel.of_costs(points, Forecast(np.arange(20.0), np.zeros(20)), np.zeros(2, dtype=int))
    one, other = model.draw(np.random.default_rng(0), np.array([[0.2, np.nan], [0.2, np.nan]]))
    assert one == other


def test_the_first_trials_are_drawn_blindly() -> None:
    assert propose_additively(need(3), random_history(lambda values: 1.0, 3), "minimize").origin == {"by": "chance"}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_proposals_gather_at_the_best(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    history = random_history(lambda values: sign * (1.0 + (float(values["k0"]) - 0.8) ** 2))
    found = [float(propose_additively(need(40 + n), history, direction).values["k0"]) for n in range(12)]  # type: ignore[arg-type]
    assert np.median(found) == pytest.approx(0.8, abs=0.15)


def test_a_region_that_cannot_work_is_left() -> None:
    history = random_history(lambda values: 1.0 + float(values["k0"]))
    history = [one if float(one.params["k0"]) > 0.4 else _infeasible(one) for one in history]
    found = [float(propose_additively(need(40 + n), history, "minimize").values["k0"]) for n in range(12)]
    assert np.mean(np.array(found) > 0.35) > 0.7


def test_a_long_search_costs_no_more_than_a_long_list() -> None:
    history = random_history(lambda values: 1.0 + float(values["k0"]), 3000)
    assert propose_additively(need(3000), history, "minimize").origin == {"by": "model"}


def _infeasible(one: Observation) -> Observation:
    return Observation(number=one.number, params=one.params, best_by_rung={}, infeasible=True)
