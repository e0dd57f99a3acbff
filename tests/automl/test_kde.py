"""The density model behind bohb: a density indeed, and a model that is really used."""

from __future__ import annotations

import numpy as np
import pytest

from automl.cube import Cube
from automl.kde import Density, propose_by_density
from automl.proposals import Need, Proposal
from automl.view import Observation
from search_spaces.space import Parameter, SearchSpace
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE

LINE = SearchSpace(skill="toy", parameters=(Parameter(key="x", kind="float", low=0.0, high=1.0),))
SETTINGS = {"kde_samples": 64, "top_n_percent": 15.0, "min_points_in_model": 10, "random_share": 0.0}


def tried(number: int, x: float, *, rungs: tuple[int, ...] = (1,), **changes: object) -> Observation:
    cost = abs(x - 0.8)
    return Observation(number=number, params={"x": x}, best_by_rung=dict.fromkeys(rungs, cost), **changes)  # type: ignore[arg-type]


def proposed(past: list[Observation], *, number: int = 50, **settings: float) -> Proposal:
    need = Need(seed=1, number=number, space=LINE, startup=4, settings={**SETTINGS, **settings})
    return propose_by_density(need, past, "minimize")


def test_the_density_of_a_line_integrates_to_one() -> None:
    density = Density(np.array([[0.05], [0.6], [np.nan]]), np.array([0]))
    points = (np.arange(2000) + 0.5) / 2000
    total = np.exp(density.log_density(points[:, None], np.ones((2000, 1), dtype=bool))).mean()
    assert total == pytest.approx(1.0, abs=1e-4)


def test_the_density_of_choices_sums_to_one() -> None:
    density = Density(np.array([[0.5 / 3], [2.5 / 3]]), np.array([3]))
    middles = np.array([[0.5], [1.5], [2.5]]) / 3
    shares = np.exp(density.log_density(middles, np.ones((3, 1), dtype=bool))) / 3
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] == pytest.approx(shares[2])
    assert shares[0] > 2 * shares[1]


def test_draws_stay_in_the_cube_and_gather_where_the_kernels_are() -> None:
    density = Density(np.array([[0.01], [0.02], [0.03], [0.04]]), np.array([0]))
    drawn = density.sample(500, np.random.default_rng(0))
    assert ((drawn >= 0.0) & (drawn <= 1.0)).all()
    assert (drawn < 0.4).mean() > 0.8  # four kernels of five lie there


def test_the_random_phase_ends_with_min_points_in_model() -> None:
    past = [tried(number, number / 12) for number in range(9)]
    assert proposed(past).origin == {"by": "chance"}
    assert proposed([*past, tried(9, 0.75)]).origin == {"by": "model", "rung": 1}
    assert proposed(past, min_points_in_model=9).origin == {"by": "model", "rung": 1}


def test_the_model_looks_where_good_trials_are() -> None:
    past = [tried(number, number / 40) for number in range(40)]
    drawn = [float(proposed(past, number=number).values["x"]) for number in range(100, 120)]
    assert sum(abs(x - 0.8) < 0.2 for x in drawn) >= 18


def test_the_highest_rung_with_enough_trials_is_modelled() -> None:
    past = [tried(number, number / 30, rungs=(1, 3) if number % 2 else (1,)) for number in range(30)]
    assert proposed(past).origin["rung"] == 3
    assert proposed(past, min_points_in_model=16).origin["rung"] == 1


def test_where_trials_fail_nothing_is_proposed() -> None:
    past = [tried(number, number / 40, infeasible=number > 30) for number in range(40)]
    past = [
        one if not one.infeasible else Observation(number=one.number, params=one.params, best_by_rung={}, infeasible=True) for one in past
    ]
    drawn = [float(proposed(past, number=number).values["x"]) for number in range(100, 120)]
    assert sum(x > 0.82 for x in drawn) <= 4


def test_conditional_parameters_are_part_of_the_model() -> None:
    past = [
        Observation(number=n, params={LR: 10.0 ** (-6 + n / 10), OPTIMIZER: "SGD", MOMENTUM: 0.9}, best_by_rung={1: abs(n - 30.0)})
        if n % 2
        else Observation(number=n, params={LR: 10.0 ** (-6 + n / 10), OPTIMIZER: "AdamW"}, best_by_rung={1: abs(n - 30.0) + 20})
        for n in range(40)
    ]
    drawn = []
    for number in range(100, 120):
        drawn.append(propose_by_density(Need(seed=1, number=number, space=SPACE, startup=4, settings=SETTINGS), past, "minimize").values)
    assert all((MOMENTUM in values) == (values[OPTIMIZER] == "SGD") for values in drawn)
    assert sum(values[OPTIMIZER] == "SGD" for values in drawn) >= 15
    assert Cube(SPACE).point(past[0].params)[2] != Cube(SPACE).point(past[0].params)[2]  # NaN: not active
