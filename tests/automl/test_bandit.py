"""The Gaussian process, and the two searchers that trust its better end, on functions whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from automl.bandit import explore_by_bound, propose_by_bound
from automl.exploring import Heritage
from automl.gaussian import GaussianProcess
from automl.proposals import Need
from automl.view import Observation
from search_spaces.space import Parameter, SearchSpace
from tests.automl.toy import LR, OPTIMIZER, SPACE

LINE = SearchSpace(skill="toy", parameters=(Parameter(key="x", kind="float", low=0.0, high=1.0),))
POINTS = np.array([[0.0], [0.25], [0.5], [0.75], [1.0]])


def test_the_model_goes_through_what_it_saw_and_doubts_what_it_did_not() -> None:
    model = GaussianProcess.fit(POINTS, 10.0 + POINTS[:, 0] ** 2)
    mean, deviation = model.predict(np.array([[0.5], [0.625], [3.0]]))
    assert mean[:2] == pytest.approx([10.25, 10.39], abs=0.05)
    assert deviation[0] < deviation[1] < 0.2 * deviation[2]


def test_an_axis_that_changes_nothing_gets_a_great_length() -> None:
    points = np.random.default_rng(0).random((40, 2))
    model = GaussianProcess.fit(points, np.sin(6.0 * points[:, 0]))
    assert model.lengths[1] > 4 * model.lengths[0]


def test_many_axes_are_expected_to_do_nothing() -> None:
    points = np.random.default_rng(0).random((30, 40))
    model = GaussianProcess.fit(points, np.sin(3.0 * points[:, 0]) + points[:, 1])
    places = np.random.default_rng(1).random((200, 40))
    mean, _ = model.predict(places)
    assert np.corrcoef(mean, np.sin(3.0 * places[:, 0]) + places[:, 1])[0, 1] > 0.8  # 0.36 where long ones are not expected


def test_values_that_are_all_alike_are_no_trouble() -> None:
    mean, _ = GaussianProcess.fit(POINTS, np.ones(5)).predict(np.array([[0.3]]))
    assert mean[0] == pytest.approx(1.0)


def test_what_is_expected_makes_surer_and_changes_no_belief() -> None:
    model = GaussianProcess.fit(POINTS[[0, 4]], np.array([0.0, 1.0]))
    surer = model.expecting(np.array([[0.5]]))
    (before, doubt), (after, less) = model.predict(np.array([[0.5]])), surer.predict(np.array([[0.5]]))
    assert after[0] == pytest.approx(before[0], abs=0.02)
    assert less[0] < 0.5 * doubt[0]


def tried(number: int, x: float, **changes: object) -> Observation:
    settings = {"best_by_rung": {1: (x - 0.6) ** 2}, "complete": True, **changes}
    return Observation(number=number, params={"x": x}, **settings)  # type: ignore[arg-type]


SEEN = [tried(number, x) for number, x in enumerate((0.05, 0.3, 0.5, 0.7, 0.95))]


def proposed(past: list[Observation], number: int = 40) -> float:
    return float(propose_by_bound(Need(seed=1, number=number, space=LINE, startup=4), past, "minimize").values["x"])


def test_bfbo_goes_to_the_bottom_of_the_valley() -> None:
    assert proposed([*SEEN, *[tried(number, 0.1 * number) for number in range(6, 10)]]) == pytest.approx(0.6, abs=0.1)


def test_bfbo_keeps_away_from_what_is_being_trained() -> None:
    first = proposed(SEEN)
    running = Observation(number=6, params={"x": first}, best_by_rung={}, running=True)
    assert abs(proposed([*SEEN, running]) - first) > 0.03


def test_bfbo_keeps_away_from_where_trials_fail() -> None:
    bad = [Observation(number=10 + n, params={"x": x}, best_by_rung={}, infeasible=True) for n, x in enumerate((0.55, 0.6, 0.65, 0.8, 0.9))]
    assert proposed([*SEEN[:3], tried(5, 0.45), *bad]) < 0.55


def population(best_lr: float, *, generations: int) -> list[Observation]:
    """Twelve members that gained the more the nearer their rate was to `best_lr`."""
    found = []
    for number in range(12):
        lr = 10.0 ** (-6 + number / 3)
        gain = 0.1 * np.exp(-((np.log10(lr / best_lr)) ** 2))
        costs = {2 * done: 1.0 - gain * done for done in range(1, generations + 1)}
        found.append(Observation(number=number, params={LR: lr, OPTIMIZER: "AdamW"}, best_by_rung=costs, running=True))
    return found


@pytest.mark.parametrize("generations", [1, 3])
def test_pb2_chooses_the_rate_that_gained_most(generations: int) -> None:
    settings = {"perturbation_factor": 1.2, "resample_prob": 0.2}
    need = Need(seed=1, number=12, space=SPACE, startup=4, settings=settings)
    heritage = Heritage(number=1, values={LR: 10.0 ** (-6 + 1 / 3), OPTIMIZER: "AdamW"}, epoch=2 * generations)
    child = explore_by_bound(need, heritage, population(1e-3, generations=generations), "minimize")
    assert 2e-4 < float(child.values[LR]) < 5e-3
    assert (child.values[OPTIMIZER], child.origin) == ("AdamW", {"donor": 1, "epoch": 2 * generations})


def test_pb2_does_not_choose_for_two_children_alike() -> None:
    need = Need(seed=1, number=12, space=SPACE, startup=4, settings={"perturbation_factor": 1.2, "resample_prob": 0.0})
    past = population(1e-3, generations=1)
    heritage = Heritage(number=1, values=past[1].params, epoch=2)
    first = explore_by_bound(need, heritage, past, "minimize")
    born = Observation(number=12, params=first.values, best_by_rung={}, running=True, origin={"donor": 1, "epoch": 2, "replaces": 0})
    second = explore_by_bound(need, heritage, [*past, born], "minimize")
    assert abs(np.log10(float(first.values[LR]) / float(second.values[LR]))) > 0.1


def test_pb2_perturbs_while_little_is_known() -> None:
    need = Need(seed=1, number=12, space=SPACE, startup=4, settings={"perturbation_factor": 1.2, "resample_prob": 0.0})
    child = explore_by_bound(
        need, Heritage(number=0, values={LR: 1e-4, OPTIMIZER: "AdamW"}, epoch=2), population(1e-3, generations=1)[:2], "minimize"
    )
    assert round(float(child.values[LR]), 9) in {1.2e-4, round(1e-4 / 1.2, 9)}
