"""Names, seeds, distributions, views and the two samplers of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from automl.algorithms import complete_settings
from automl.distributions import distribution_of, from_unit, to_unit
from automl.proposals import Need, derive_seed
from automl.searchers import find_searcher, startup_trials
from automl.view import BlindView, Observation, PrunedView, RunningView, SameRungView, View, common_rung
from search_spaces.errors import StudyError
from search_spaces.space import Parameter, SearchSpace
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE


def seen(number: int, *best: tuple[int, float], complete: bool = False, running: bool = False) -> Observation:
    return Observation(number=number, params={LR: 1e-4, OPTIMIZER: "AdamW"}, best_by_rung=dict(best), complete=complete, running=running)


def test_a_log_range_becomes_a_log_distribution() -> None:
    assert distribution_of(SPACE.parameter(LR)) == FloatDistribution(1e-6, 1e-2, log=True)


def test_a_switch_and_a_choice_become_categories() -> None:
    assert distribution_of(Parameter(key="k", kind="bool")) == CategoricalDistribution((False, True))
    assert distribution_of(SPACE.parameter(OPTIMIZER)) == CategoricalDistribution(("AdamW", "SGD"))


def test_a_range_ends_at_its_last_step() -> None:
    assert distribution_of(Parameter(key="k", kind="int", low=1, high=10, step=4)) == IntDistribution(1, 9, step=4)
    assert distribution_of(Parameter(key="k", kind="float", low=0, high=1, step=0.3)).high == pytest.approx(0.9)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("distribution", "position", "value"),
    [
        (FloatDistribution(0, 4), 0.25, 1.0),
        (FloatDistribution(1e-4, 1e-2, log=True), 0.5, 1e-3),
        (FloatDistribution(0, 1, step=0.5), 0.99, 1.0),
        (IntDistribution(2, 8, step=3), 0.5, 5),
        (IntDistribution(1, 1), 1.0, 1),
        (CategoricalDistribution(("a", "b")), 1.0, "b"),
        (CategoricalDistribution(("a", "b")), 0.49, "a"),
    ],
)
def test_the_unit_interval_maps_onto_a_distribution(distribution: FloatDistribution, position: float, value: float) -> None:
    assert from_unit(distribution, position) == pytest.approx(value)


@pytest.mark.parametrize(
    "distribution",
    [FloatDistribution(1, 9), FloatDistribution(1, 9, log=True), IntDistribution(1, 9, step=2), IntDistribution(1, 9, log=True)],
)
def test_there_and_back_is_the_same_number(distribution: FloatDistribution) -> None:
    assert [from_unit(distribution, to_unit(distribution, value)) for value in (1, 5, 9)] == pytest.approx([1, 5, 9])


def test_seeds_depend_on_every_part_and_never_change() -> None:
    assert derive_seed(1, "train", 2) == 1553322856
    assert derive_seed(1, "train", 3) != derive_seed(1, "train", 2) != derive_seed(2, "train", 2)


@pytest.mark.parametrize(("trials", "startup"), [(1, 4), (20, 5), (40, 10), (1000, 10)])
def test_a_quarter_of_a_small_budget_is_drawn_blindly(trials: int, startup: int) -> None:
    assert startup_trials(trials) == startup


def test_an_unknown_searcher_suggests_the_nearest() -> None:
    with pytest.raises(StudyError) as caught:
        find_searcher("tpe2")
    assert caught.value.hint == "did you mean tpe?"


def states(view: View, *trials: Observation) -> list[tuple[str, float | None] | None]:
    return [None if one is None else (one.state.name, one.value) for one in view.show(trials, "minimize")]


def test_a_paused_trial_is_shown_as_pruned_at_its_highest_rung() -> None:
    assert states(PrunedView(), seen(1, (1, 0.9), (3, 0.5), running=True)) == [("PRUNED", 0.5)]


def test_a_trial_without_a_rung_is_shown_only_while_it_runs() -> None:
    assert states(PrunedView(), seen(1, running=True), seen(2)) == [("RUNNING", None), None]


def test_the_running_view_shows_what_may_go_on_as_running() -> None:
    paused, stopped, done = seen(1, (1, 0.9), running=True), seen(2, (1, 0.8)), seen(3, (1, 0.7), (9, 0.4), complete=True)
    assert states(RunningView(), paused, stopped, done) == [("RUNNING", None), ("PRUNED", 0.8), ("COMPLETE", 0.4)]


def test_same_rung_values_come_from_the_highest_rung_with_enough() -> None:
    trials = [seen(0, (1, 0.9), (3, 0.6), (9, 0.3), complete=True), seen(1, (1, 0.8), (3, 0.5)), seen(2, (1, 0.7))]
    assert common_rung(trials, 2) == 3
    assert states(SameRungView(enough=2), *trials) == [("COMPLETE", 0.6), ("COMPLETE", 0.5), ("PRUNED", 0.7)]


def test_a_point_that_cannot_work_is_the_worst_of_its_rung() -> None:
    trials = [seen(0, (1, 0.9)), seen(1, (1, 0.8)), replace(seen(2), infeasible=True)]
    shown = SameRungView(enough=2).show(trials, "minimize")
    assert [(one.value, one.violated) for one in shown if one] == [(0.9, False), (0.8, False), (0.9, True)]
    highest = SameRungView(enough=2).show(trials, "maximize")[2]
    assert highest is not None
    assert highest.value == 0.8
    pruned = PrunedView().show(trials, "minimize")[2]
    assert pruned is not None
    assert (pruned.state.name, pruned.violated) == ("PRUNED", True)


def test_a_blind_view_shows_nothing() -> None:
    assert states(BlindView(), seen(1, (1, 0.9))) == [None]


def test_sobol_points_fill_the_space_evenly() -> None:
    drawn = [find_searcher("qmc").propose(Need(seed=3, number=n, space=SPACE, startup=4), (), "minimize").values for n in range(1, 17)]
    decades = [sum(10.0**d <= values[LR] < 10.0 ** (d + 1) for values in drawn) for d in (-6, -5, -4, -3)]  # type: ignore[operator]
    assert decades == [4, 4, 4, 4]
    assert all((MOMENTUM in values) == (values[OPTIMIZER] == "SGD") for values in drawn)


BOWL = SearchSpace(skill="toy", parameters=tuple(Parameter(key=key, kind="float", low=0.0, high=1.0) for key in ("x", "y")))


def searched(name: str, trials: int, *, highest: float = 1.0) -> list[Observation]:
    """Trials in a bowl with its middle at (0.8, 0.2); what lies above x = `highest` cannot work."""
    known: list[Observation] = []
    for number in range(trials):
        settings = complete_settings({}, searcher=name, fidelity="full")
        need = Need(seed=1, number=number, space=BOWL, startup=6, settings=settings, origins=[trial.origin for trial in known])
        proposal = find_searcher(name).propose(need, known, "minimize")
        x, y = (float(proposal.values[key]) for key in ("x", "y"))
        seen = {} if x > highest else {1: (x - 0.8) ** 2 + (y - 0.2) ** 2}
        known.append(
            Observation(
                number=number, params=proposal.values, best_by_rung=seen, complete=True, infeasible=not seen, origin=proposal.origin
            )
        )
    return known


@pytest.mark.parametrize(("name", "trials"), [("cmaes", 60), ("tpe", 40), ("bohb", 60), ("bfbo", 25), ("dehb", 120)])
def test_a_model_finds_the_middle_of_a_bowl(name: str, trials: int) -> None:
    known = searched(name, trials)
    assert min(trial.best_by_rung[1] for trial in known[6:]) < 0.01  # of blind draws one in 32 is that good


def test_cmaes_moves_away_from_what_cannot_work() -> None:
    known = searched("cmaes", 80, highest=0.5)
    assert sum(trial.infeasible for trial in known[40:]) <= 15  # the bowl would draw nearly all of them there
