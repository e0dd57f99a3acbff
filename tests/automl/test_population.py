"""Populations: who is replaced by whom and when, what a child inherits, and that a killed driver changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.course import Birth, Course, Promotion
from automl.engine import run_inline
from automl.exploring import Heritage, changeable, perturb
from automl.population import PopulationRule
from automl.proposals import Need
from automl.segments import LATEST
from automl.snapshot import StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError
from search_spaces.space import Parameter, SearchSpace
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, ToyRun, result_of, standings_of, toy_config
from trials import states
from trials.contract import Cause, Decision, Failure, ProgressTo, Report, ReportTo, State, TrialResult, TrialSpec

RULE = PopulationRule(full=9, size=5, interval=3)


def member(number: int, cost: float, *, at: int = 3, **changes: Any) -> Course:
    settings = {"costs": {at: cost}, "granted": at, "paused": True, "exempt": number == 0, **changes}
    return Course(number=number, **settings)


def turn(*members: Course) -> Promotion | Birth | None:
    return RULE.promotable(standings_of(RULE, members))


GENERATION = tuple(member(number, cost) for number, cost in enumerate((0.5, 0.1, 0.9, 0.3, 0.7)))


def test_generations_end_with_the_full_budget() -> None:
    assert RULE.rungs == (3, 6, 9)
    assert PopulationRule(full=10, size=5, interval=4).rungs == (4, 8, 10)
    assert [RULE.first_grant(number) for number in (0, 1)] == [3, 3]


def test_every_member_pauses_at_the_end_of_a_generation_the_baseline_too() -> None:
    standings = standings_of(RULE, ())
    for number in (0, 1):
        assert RULE.judge(member(number, 0.1, paused=False), standings).decision is Decision.PAUSE
        assert RULE.judge(member(number, 0.1, at=2, granted=3), standings).decision is Decision.CONTINUE


def test_nobody_goes_on_before_all_are_there() -> None:
    assert turn(*GENERATION[:4]) is None
    assert turn(*GENERATION[:4], member(4, 0.7, at=2, granted=3, paused=False)) is None


def test_the_worst_is_replaced_by_a_child_of_the_best() -> None:
    assert turn(*GENERATION) == Birth(replaces=2, donors=(1,), epoch=3, to_epoch=6)


def test_after_the_births_the_others_go_on_best_first() -> None:
    after = [replace(one, over=one.number == 2, paused=one.number != 2) for one in GENERATION]
    child = Course(number=5, costs={}, granted=6, start=3, replaces=2)
    assert turn(*after, child) == Promotion(number=1, to_epoch=6)
    gone_on = [replace(one, granted=6, paused=False) if one.number == 1 else one for one in after]
    assert turn(*gone_on, child) == Promotion(number=3, to_epoch=6)


def test_the_baseline_is_never_replaced() -> None:
    assert turn(member(0, 2.0), *GENERATION[1:]) == Birth(replaces=2, donors=(1,), epoch=3, to_epoch=6)


def test_a_member_that_failed_is_replaced_once_a_generation() -> None:
    failed = Course(number=4, costs={}, granted=3, over=True)
    after = [*(replace(one, over=one.number == 2, paused=one.number != 2) for one in GENERATION[:4]), failed]
    child = Course(number=5, costs={}, granted=6, start=3, replaces=2)
    assert turn(*after, child) == Birth(replaces=4, donors=(1,), epoch=3, to_epoch=6)
    stillborn = Course(number=6, costs={}, granted=6, start=3, replaces=4, over=True)
    assert turn(*after, child, stillborn) == Promotion(number=1, to_epoch=6)


def test_children_are_not_compared_at_the_epoch_of_their_birth() -> None:
    last = [member(number, cost, at=6) for number, cost in enumerate((0.5, 0.1, 0.9, 0.3, 0.7)) if number != 2]
    gone = member(2, 0.9, paused=False, over=True)
    child = member(5, 0.05, at=6, start=3, replaces=2)
    assert turn(*last, gone, child) == Birth(replaces=4, donors=(5,), epoch=6, to_epoch=9)


def need(number: int = 7, space: SearchSpace = SPACE, **settings: float) -> Need:
    return Need(seed=1, number=number, space=space, startup=4, settings={"perturbation_factor": 1.2, "resample_prob": 0.0, **settings})


def child_of(values: Mapping[str, Any], asked: Need) -> dict[str, Any]:
    return perturb(asked, Heritage(number=3, values=values, epoch=6), (), "minimize").values


def test_what_can_change_is_multiplied_or_divided_and_the_rest_is_inherited() -> None:
    parent = {LR: 1e-3, OPTIMIZER: "SGD", MOMENTUM: 0.8}
    children = [child_of(parent, need(number)) for number in range(20)]
    assert {round(values[LR], 9) for values in children} == {1.2e-3, round(1e-3 / 1.2, 9)}
    assert all((values[OPTIMIZER], values[MOMENTUM]) == ("SGD", 0.8) for values in children)


def test_some_values_are_drawn_anew() -> None:
    drawn = {child_of({LR: 1e-3, OPTIMIZER: "AdamW"}, need(number, resample_prob=1.0))[LR] for number in range(10)}
    assert len(drawn) == 10


def test_a_child_stays_inside_the_space() -> None:
    assert {child_of({LR: 1e-2, OPTIMIZER: "AdamW"}, need(number))[LR] for number in range(9)} <= {1e-2, 1e-2 / 1.2}


def test_zero_and_small_whole_numbers_move_too() -> None:
    space = SearchSpace(
        skill="toy",
        parameters=(
            Parameter(key="dataset.train_dataset.augmentation.yjitter_prob", kind="float", low=0.0, high=1.0),
            Parameter(key="train.optim.lr_step_size", kind="int", low=1, high=9),
        ),
    )
    parent = {space.parameters[0].key: 0.0, space.parameters[1].key: 2}
    children = [child_of(parent, need(number, space)) for number in range(20)]
    assert {values[space.parameters[0].key] for values in children} == {0.0, 0.02}
    assert {values[space.parameters[1].key] for values in children} == {1, 3}


def test_the_networks_shape_and_the_steps_of_the_schedule_cannot_change() -> None:
    fixed = (
        "model.encoder",
        "model.corr_radius",
        OPTIMIZER,
        "dataset.train_dataset.batch_size",
        "dataset.train_dataset.augmentation.crop_size",
    )
    assert not any(map(changeable, fixed))
    assert all(map(changeable, (LR, "train.optim.weight_decay", "dataset.train_dataset.augmentation.do_flip")))


def test_a_space_in_which_nothing_can_change_is_refused(tmp_path: Path) -> None:
    space = replace(SPACE, parameters=(SPACE.parameters[1],))
    with pytest.raises(StudyError, match=f"none of these can: {OPTIMIZER}"):
        Study.create(tmp_path / "s", toy_config(searcher="pbt", fidelity="population", space=space))


@pytest.mark.parametrize(("searcher", "fidelity"), [("pbt", "asha"), ("tpe", "population")])
def test_a_population_needs_its_own_searcher(tmp_path: Path, searcher: str, fidelity: str) -> None:
    with pytest.raises(StudyError, match="do not go together"):
        Study.create(tmp_path / "s", toy_config(searcher=searcher, fidelity=fidelity))


class Walk(ToyRun):
    """What is left of a way after each epoch: a step is longest at lr = 1e-3.  The state on disk is the epoch and what is left."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        if trial.number in self.faults:
            return result_of(trial.number, State.FAILED, error=Failure(cause=self.faults[trial.number], message="made to fail"))
        latest = trial.folder / LATEST
        at = json.loads(trial.resume_from.read_text()) if trial.resume_from else {"epoch": 0, "left": 1.0}
        self.log.append((trial.number, at["epoch"], at["left"]))
        for epoch in range(at["epoch"] + 1, trial.max_epochs + 1):
            left = at["left"] * (0.6 + 0.4 * self.loss(trial.values, 10**9) / 3.3)
            answer = report(Report(number=trial.number, epoch=epoch, step=epoch, metrics={"val/loss": left}, elapsed_s=1.0))
            at = {"epoch": epoch, "left": left}
            latest.parent.mkdir(parents=True, exist_ok=True)
            part = latest.with_suffix(".part")
            part.write_text(json.dumps(at))
            part.replace(latest)
            if answer is not Decision.CONTINUE:
                return result_of(trial.number, State.PAUSED)
        return result_of(trial.number, State.COMPLETE, metrics={"val/loss": at["left"]}, best_epoch=trial.max_epochs)


def search(folder: Path, run: ToyRun, **changes: Any) -> StudySnapshot:
    settings = {"automl_eval_interval": 2, **changes.pop("settings", {})}
    study = Study.create(folder, toy_config(searcher="pbt", fidelity="population", trials=5, settings=settings, **changes))
    try:
        return run_inline(study, run=run)
    finally:
        study.close()


def test_a_child_goes_on_where_its_donor_stood(tmp_path: Path) -> None:
    run = Walk()
    snapshot = search(tmp_path / "s", run)
    children = [trial for trial in snapshot.trials if trial.start]
    assert len(children) == 4  # one in each generation but the last: epochs 2, 4, 6, 8
    for child in children:
        donor = snapshot.trial(child.origin["donor"])
        left = dict(donor.curve).get(child.start) if child.start > donor.start else None
        first = next(entry for entry in run.log if entry[0] == child.number)
        assert first[1] == child.start
        assert left is None or first[2] == pytest.approx(left)
        assert snapshot.trial(child.origin["replaces"]).stopped_by == f"replaced by trial {child.number}"
        assert child.curve[0][0] == child.start + 1


def test_every_place_is_trained_to_the_end_and_no_epoch_twice(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", Walk())
    assert [trial.status for trial in snapshot.trials].count(TrialStatus.COMPLETE) == 5
    assert sum(len(trial.curve) for trial in snapshot.trials) == 5 * 9
    assert snapshot.best is not None
    assert snapshot.best.value == min(trial.value for trial in snapshot.trials if trial.value is not None)


def test_a_population_with_failures_comes_to_its_end(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", Walk(faults={1: Cause.OOM, 3: Cause.CRASH, 6: Cause.NAN, 8: Cause.CRASH}))
    assert snapshot.end is not None
    assert snapshot.end.reason.value == "exhausted"
    assert [trial.status for trial in snapshot.trials].count(TrialStatus.COMPLETE) == 5


def test_a_population_whose_members_all_fail_says_so(tmp_path: Path) -> None:
    faults = dict.fromkeys(range(4), Cause.OOM)
    snapshot = search(tmp_path / "s", Walk(faults={**faults, 4: Cause.CRASH, 3: Cause.CRASH}))
    assert snapshot.end is not None
    assert snapshot.end.reason.value == "failed"


def test_the_state_is_shared_and_each_run_removes_its_own_names(tmp_path: Path) -> None:
    donor, heir = tmp_path / "donor", tmp_path / "heir"
    donor.mkdir()
    state = donor / "model_epoch_001_step_00010.pth"
    state.write_text("weights")
    (donor / states.LATEST).symlink_to(state.name)
    (donor / states.BEST).write_text("best")
    assert states.hand_over(donor, heir)
    assert states.hand_over(donor, heir)
    states.drop_full_states(donor)
    assert (heir / states.LATEST).resolve().read_text() == "weights"
    assert not (heir / states.BEST).exists()  # what the donor reached is no result of the heir
    assert not states.hand_over(donor, tmp_path / "other")


def outcome(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.rung, t.stopped_by, dict(t.origin)) for t in snapshot.trials]


def test_a_driver_that_dies_in_a_birth_finishes_it_when_it_is_back(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", Walk())
    in_the_way = tmp_path / "s" / "trials" / "0005"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("no folder can be made here")
    with pytest.raises(OSError, match="0005"):
        search(tmp_path / "s", Walk())
    in_the_way.unlink()
    study = Study.open(tmp_path / "s")
    resumed = run_inline(study, run=Walk())
    study.close()
    assert outcome(resumed) == outcome(whole)
