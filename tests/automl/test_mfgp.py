"""The searcher mfgp, part by part, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from automl.cube import Cube
from automl.gaussian import GaussianProcess
from automl.mfgp import Axes, CostModel, Forecast, _Judged, _selection, _tamed, carried_up, propose_by_model
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


def random_history(cost: object, count: int = 40) -> list[Observation]:
    assert callable(cost)
    cube, rng = Cube(SPACE), np.random.default_rng(0)
    drawn = [cube.values(rng.random(len(cube.axes))) for _ in range(count)]
    return [Observation(number=n, params=values, best_by_rung={3: cost(values)}) for n, values in enumerate(drawn)]


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


def test_the_model_expects_most_at_the_bottom_of_the_parabola() -> None:
    points = np.random.default_rng(1).random((40, 2))
    costs = 4.0 * (points[:, 0] - 0.3) ** 2
    places = np.full((21, 2), 0.5)
    places[:, 0] = np.linspace(0, 1, 21)
    found = CostModel.fit(points, Forecast(costs, np.zeros(40)), np.zeros((0, 2))).expected_improvement(places)
    assert places[int(np.argmax(found)), 0] == pytest.approx(0.3, abs=0.1)
    assert found.min() >= 0


def test_an_uncertain_value_is_believed_less() -> None:
    points, values = np.linspace(0.05, 0.95, 10)[:, None], np.repeat([0.0, -1.0], 5)
    sure, _ = GaussianProcess.fit(points, values).predict(np.array([[0.8]]))
    unsure, _ = GaussianProcess.fit(points, values, variances=np.repeat([0.0, 25.0], 5)).predict(np.array([[0.8]]))
    assert sure[0] == pytest.approx(-1.0, abs=0.1)
    assert unsure[0] > -0.6


def test_costs_above_the_median_are_drawn_in() -> None:
    assert _tamed(np.array([1.0, 2.0, 3.0, 4.0, 1e9])).tolist()[:3] == [1.0, 2.0, 3.0]
    assert _tamed(np.array([1.0, 2.0, 3.0, 5.0, 6.0]))[3:].tolist() == pytest.approx([3.0 + np.log(2.0), 3.0 + np.log(2.5)])


def test_the_best_half_of_what_is_kept_and_others_evenly() -> None:
    assert _selection(3, 4).tolist() == [0, 1, 2]
    assert _selection(11, 4).tolist() == [0, 1, 2, 10]


def test_what_cannot_work_promises_least() -> None:
    points, forecast = np.array([[0.1], [0.2], [0.3], [0.4]]), Forecast(np.array([4.0, 3.0, 2.0, 1.0]), np.zeros(4))
    downhill = CostModel.fit(points, forecast, np.zeros((0, 1))).expected_improvement(np.array([[0.6]]))
    failed = CostModel.fit(points, forecast, np.array([[0.6], [0.7]])).expected_improvement(np.array([[0.6]]))
    assert failed[0] < 0.1 * downhill[0]


def test_the_first_trials_are_drawn_blindly() -> None:
    assert propose_by_model(need(3), random_history(lambda values: 1.0, 3), "minimize").origin == {"by": "chance"}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_proposals_gather_at_the_best(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    history = random_history(lambda values: sign * (1.0 + (float(values["k0"]) - 0.8) ** 2))
    found = [float(propose_by_model(need(40 + n), history, direction).values["k0"]) for n in range(12)]  # type: ignore[arg-type]
    assert np.median(found) == pytest.approx(0.8, abs=0.15)


def test_a_region_that_cannot_work_is_left() -> None:
    history = random_history(lambda values: 1.0 + float(values["k0"]))
    history = [one if float(one.params["k0"]) > 0.4 else _infeasible(one) for one in history]
    found = [float(propose_by_model(need(40 + n), history, "minimize").values["k0"]) for n in range(12)]
    assert np.mean(np.array(found) > 0.35) > 0.7


def test_a_long_search_costs_no_more_than_a_long_list() -> None:
    history = random_history(lambda values: 1.0 + float(values["k0"]), 3000)
    assert propose_by_model(need(3000), history, "minimize").origin == {"by": "model"}


def _infeasible(one: Observation) -> Observation:
    return Observation(number=one.number, params=one.params, best_by_rung={}, infeasible=True)
