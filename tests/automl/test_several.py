"""Searches with several objectives: the front, the record, what the sampler is shown, what is refused, what is shipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from automl.config import StudyConfig, config_from_data, config_to_data
from automl.fidelity import rule_of
from automl.front import beats_everywhere, best_of, front_of, values_of
from automl.front_choice import choose_front, front_data
from automl.front_view import front_picture
from automl.head_start import EarlierTrial, HeadStart, head_start_from_data
from automl.several import check_costs, objective_notes
from automl.snapshot import TrialStatus, TrialSummary
from automl.sources import SearchSource, list_finalists
from automl.view import Observation, PrunedView, SameRungView
from automl.winner import Candidate, Judged, candidates_of
from search_spaces.errors import SpecError, StudyError
from search_spaces.objective import Objective, objectives_for
from search_spaces.space import Parameter, SearchSpace
from tests.automl.toy import LR, SPACE, toy_config
from tests.automl.virtual import Killed, Workers, study_in_memory
from trials.contract import Cause

LATENCY = Objective(metric="latency_ms", direction="minimize")
D1 = Objective(metric="val/d1", direction="maximize")


def config(**changes: Any) -> StudyConfig:
    """The toy config with the latency beside the loss."""
    return toy_config(**{"further": (LATENCY,), **changes})


def trial(number: int, value: float | None, latency: float | None, **changes: Any) -> TrialSummary:
    """A trial of the full budget with a checkpoint, unless `changes` say something else."""
    known: dict[str, Any] = {"status": TrialStatus.COMPLETE, "epoch": 9, "checkpoint": Path(f"/s/{number}/best.pth")}
    return TrialSummary(
        number=number,
        values={LR: 1e-4},
        seed=number,
        folder=Path(f"/s/{number}"),
        rung=9,
        value=value,
        metrics={"latency_ms": latency},
        **{**known, **changes},
    )


def numbers(*trials: TrialSummary, **changes: Any) -> list[int]:
    return [one.number for one in front_of(trials, config(**changes))]


def test_the_front_is_what_no_trial_beats_best_by_the_first_objective_first() -> None:
    assert numbers(trial(0, 3.0, 10.0), trial(1, 1.0, 30.0), trial(2, 2.0, 20.0), trial(3, 2.5, 25.0)) == [1, 2, 0]


def test_equal_trials_are_both_on_the_front() -> None:
    assert numbers(trial(0, 2.0, 20.0), trial(1, 2.0, 20.0), trial(2, 2.0, 21.0)) == [0, 1]


def test_a_trial_with_a_value_missing_or_that_failed_is_on_no_front() -> None:
    assert numbers(trial(0, 3.0, 10.0), trial(1, 1.0, None), trial(2, 1.0, 1.0, status=TrialStatus.FAILED)) == [0]


def test_a_lucky_low_rung_is_on_no_front() -> None:
    low = trial(1, 1.0, 5.0, status=TrialStatus.STOPPED, epoch=3)
    assert numbers(trial(0, 3.0, 10.0), low) == [0]
    assert numbers(trial(2, 0.5, 1.0, status=TrialStatus.PAUSED, epoch=1), low) == [1]


def test_an_accuracy_is_better_when_it_is_higher() -> None:
    one, other = (trial(number, 2.0, 0.0) for number in (0, 1))
    one, other = replace(one, metrics={"val/d1": 0.8}), replace(other, metrics={"val/d1": 0.9})
    assert numbers(one, other, further=(D1,)) == [1]


def test_one_objective_has_no_front() -> None:
    assert front_of((trial(0, 1.0, 1.0),), toy_config()) == ()


def test_peak_memory_is_that_of_all_segments() -> None:
    held = config(further=objectives_for("stereo", ["val/loss", "peak_memory_mib"])[1:])
    assert values_of(trial(0, 1.0, None, peak_memory_mib=700.0), held) == {"val/loss": 1.0, "peak_memory_mib": 700.0}


def test_better_everywhere_is_more_than_not_beaten() -> None:
    assert beats_everywhere(trial(1, 1.0, 9.0), trial(0, 2.0, 10.0), config())
    assert not beats_everywhere(trial(1, 1.0, 10.0), trial(0, 2.0, 10.0), config())


def latency_of(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Larger rates are slower: against the loss, whose valley lies at 1e-3."""
    return {"latency_ms": 20.0 + 3.0 * math.log10(values[LR])}


def searched(storage: InMemoryStorage | None = None, **changes: Any) -> tuple[TrialSummary, ...]:
    study = study_in_memory(config(**{"trials": 16, **changes}), storage, clock=lambda: 0.0)
    return Workers(beside=latency_of, faults={5: Cause.OOM}).run(study).trials


def test_the_record_is_an_optuna_study_of_several_objectives() -> None:
    storage = InMemoryStorage()
    trials = searched(storage)
    study = optuna.load_study(study_name="toy", storage=storage)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert all(one.values == [trials[one.number].value, trials[one.number].metrics["latency_ms"]] for one in done)
    assert all(dict(trials[one.number].curve) == one.intermediate_values for one in study.trials)
    best = {one.number for one in study.best_trials}
    assert best == {one.number for one in front_of(trials, config())}


def test_rungs_are_decided_by_the_first_objective_alone() -> None:
    def decisions(trials: tuple[TrialSummary, ...]) -> list[tuple[Any, ...]]:
        return [(one.status, dict(one.values), one.curve) for one in trials]

    alone = Workers(faults={5: Cause.OOM}).run(study_in_memory(toy_config(trials=16, searcher="random"), clock=lambda: 0.0)).trials
    assert decisions(searched(searcher="random")) == decisions(alone)


@pytest.mark.parametrize("kill_after", [3, 11, 30])
def test_a_killed_driver_changes_nothing(kill_after: int) -> None:
    storage, states = InMemoryStorage(), dict[int, int]()
    with pytest.raises(Killed):
        Workers(beside=latency_of, faults={5: Cause.OOM}, kill_after=kill_after, states=states).run(
            study_in_memory(config(trials=16), storage, clock=lambda: 0.0)
        )
    again = Workers(beside=latency_of, faults={5: Cause.OOM}, states=states).run(
        study_in_memory(config(trials=16), storage, clock=lambda: 0.0)
    )
    assert [(one.values, one.curve, one.metrics) for one in again.trials] == [(one.values, one.curve, one.metrics) for one in searched()]


def test_the_search_goes_for_the_front() -> None:
    late = [math.log10(float(one.values[LR])) for one in searched(trials=40, fidelity="full")[20:]]
    near = sum(rate <= -2.5 for rate in late) / len(late)  # beyond the valley both objectives get worse; that is an eighth of the space
    assert near > 0.9


def test_a_training_that_ends_without_one_of_its_values_has_failed() -> None:
    study = study_in_memory(config(trials=1), clock=lambda: 0.0)
    ended = Workers(beside=lambda values: {"latency_ms": None}).run(study).trials[0]
    assert ended.error is not None
    assert ended.error.message == "training ended without a finite latency_ms"


def seen(number: int, *rungs: tuple[int, float], beside: tuple[float, ...] | None, **changes: Any) -> Observation:
    return Observation(number=number, params={}, best_by_rung=dict(rungs), beside=beside, **changes)


def test_a_paused_trial_is_shown_by_its_rung_and_the_first_objective() -> None:
    done, paused = seen(0, (1, 2.0), (9, 1.0), beside=(7.0,), complete=True), seen(1, (1, 1.5), beside=(5.0,), running=True)
    shown = [(one.state.name, one.value, one.beside) for one in PrunedView().show([done, paused], "minimize") if one is not None]
    assert shown == [("COMPLETE", 1.0, (7.0,)), ("PRUNED", 1.5, ())]


def test_at_one_rung_a_point_that_cannot_work_is_the_worst_in_everything() -> None:
    known = [seen(0, (1, 2.0), beside=(5.0, 1.0)), seen(1, (1, 1.0), beside=(3.0, 4.0)), seen(2, beside=None, infeasible=True)]
    shown = SameRungView(enough=1).show(known, "minimize")[2]
    assert shown is not None
    assert (shown.state.name, shown.value, shown.beside, shown.violated) == ("COMPLETE", 2.0, (5.0, 4.0), True)


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "gp"])
def test_a_searcher_that_takes_several_proposes(name: str) -> None:
    trials = Workers(beside=latency_of).run(study_in_memory(config(trials=5, searcher=name, fidelity="full", epochs=2))).trials
    assert all(one.status is TrialStatus.COMPLETE for one in trials)


@pytest.mark.parametrize("name", ["cmaes", "bohb", "dehb", "bfbo"])
def test_a_searcher_that_takes_one_is_refused(name: str) -> None:
    one = config(searcher=name)
    with pytest.raises(StudyError, match=f"{name} takes one objective, but there are several: val/loss, latency_ms") as caught:
        SearchSource(one, rule_of(one))
    assert caught.value.hint == "use one of tpe, random, grid, qmc, gp"


def test_a_rule_that_keeps_the_best_alone_is_refused() -> None:
    one = config(searcher="random", fidelity="hyperband_es")
    with pytest.raises(StudyError, match="hyperband_es stops every trial"):
        SearchSource(one, rule_of(one))


def test_a_cost_that_nothing_changes_is_refused() -> None:
    with pytest.raises(SpecError, match="nothing that is searched changes the network, so latency_ms would be the same"):
        check_costs(config())
    encoder = Parameter(key="model.encoder", kind="categorical", choices=("vits", "vitb"), default="vits")
    check_costs(config(space=SearchSpace(skill=SPACE.skill, parameters=(*SPACE.parameters, encoder))))
    check_costs(config(further=(D1,)))


def test_what_several_objectives_mean_is_said() -> None:
    assert objective_notes(toy_config()) == ()
    assert [note.split()[0] for note in objective_notes(config(parallel=2))] == ["asha", "latency_ms"]
    assert objective_notes(config(fidelity="full")) == ()


def test_the_config_keeps_them_and_an_older_file_has_none() -> None:
    data = config_to_data(config(further=(LATENCY, D1)))
    assert config_from_data(data).objectives == (Objective(metric="val/loss", direction="minimize"), LATENCY, D1)
    del data["further"]
    assert config_from_data(data).further == ()


def test_earlier_trials_keep_their_further_values_and_those_of_one_objective_are_written_as_ever() -> None:
    known: dict[str, Any] = {"values": {LR: 1e-3}, "by_rung": ((1, 2.0),), "complete": False, "infeasible": False}
    several, one = (HeadStart(trials=(EarlierTrial(**known, beside=beside),)) for beside in ((12.0,), ()))
    assert head_start_from_data(several.to_data()) == several
    assert head_start_from_data(several.to_data()).observations()[0].beside == (12.0,)
    assert "beside" not in one.to_data()["trials"][0]


FRONT = (trial(1, 1.0, 30.0), trial(2, 1.2, 12.0), trial(3, 2.8, 11.0), trial(0, 3.0, 10.0))


def test_finalists_stand_for_the_front() -> None:
    # in ranges of 2 and 20 trial 2 is (0.1, 0.1) and adds most to trial 1
    assert [one.number for one in best_of(FRONT, config(), 2)] == [1, 2]
    study = optuna.create_study(directions=["minimize", "minimize"])
    assert [one.parent for one in list_finalists(study, FRONT, config(finalists=3))] == [1, 2, 3]


def judged(measured: Mapping[str, tuple[float, float]]) -> Any:
    def judge(candidate: Candidate) -> Judged:
        value, latency = measured[candidate.name]
        return Judged(candidate=candidate, value=value, metrics={}, evaluation_hash="same", further=(latency,))

    return judge


def test_what_the_fixed_evaluation_leaves_is_shipped() -> None:
    repeated = [trial(place, 1.0, 10.0, parent=parent) for place, parent in enumerate((1, 2, 3))]
    candidates = candidates_of(FRONT, repeated, config(finalists=3), unrepeated=len(FRONT))
    assert [one.configuration for one in candidates] == [1, 2, 3, 1, 2, 3]
    # means: trial 1 (1.5, 30), trial 2 (1.3, 12), trial 3 (2.8, 11): trial 1 is beaten now
    values = {"trial 1": (1.0, 30.0), "trial 2": (1.2, 12.0), "trial 3": (2.8, 11.0)}
    values |= {"trial 1, seed 0": (2.0, 30.0), "trial 2, seed 1": (1.4, 12.0), "trial 3, seed 2": (2.8, 11.0)}
    choice = choose_front(candidates, judged(values), config().objectives)
    assert [one.candidate.name for one in choice.front] == ["trial 2", "trial 3"]
    assert choice.reason.startswith("trial 2 has the best val/loss of the front, 1.3; trial 3 is not beaten")
    entries = front_data(choice, config().objectives)
    assert [(one["trial"], one["runs"], one["folder"], one["aliases"]) for one in entries] == [
        (2, 2, "promotion", ["champion"]),
        (3, 2, "front/0003", ["best-latency_ms"]),
    ]
    assert entries[0]["objectives"] == {"val/loss": pytest.approx(1.3), "latency_ms": 12.0}


def test_without_finalists_the_whole_front_is_judged() -> None:
    assert [one.configuration for one in candidates_of(FRONT, (), config(), unrepeated=len(FRONT))] == [1, 2, 3, 0]


def test_the_picture_has_the_numbers_of_the_front_and_points_for_the_rest() -> None:
    study = study_in_memory(config(), clock=lambda: 0.0)
    lines = front_picture(replace(study.snapshot(), trials=(*FRONT, trial(7, 3.0, 29.0)))).splitlines()
    assert lines[0] == "val/loss"
    assert lines[1] == "3 |0" + " " * 59 + "."
    assert lines[12] == "1 |" + " " * 63 + "1"
    assert lines[-1].strip() == "latency_ms"
