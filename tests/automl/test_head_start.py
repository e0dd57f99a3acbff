"""What a search brings along: the user's points, trials of earlier studies, and what must not change when it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.config import CONFIG_FILE, StudyConfig, load_config, save_config
from automl.earlier import complete_point, differences_of, gather, read_points
from automl.engine import run_inline
from automl.fidelity import rule_of
from automl.head_start import EarlierTrial, HeadStart, Point, head_start_from_data
from automl.study import Study
from automl.unchanged import check_surroundings, skill_facts
from search_spaces.errors import SpecError, StudyError
from search_spaces.skill import find_skill
from search_spaces.space import Parameter
from search_spaces.spec import spec_from_dict, spec_to_dict, with_values
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, ToyRun, toy_config
from trials.contract import Cause

BASE = {LR: 1e-4, OPTIMIZER: "AdamW"}


@pytest.fixture(autouse=True)
def _known_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.earlier.data_facts", lambda spec: {"train": "t", "val": str(spec.dataset.max_disparity)})


def run_study(folder: Path, run: ToyRun | None = None, **changes: Any) -> StudyConfig:
    study = Study.create(folder, toy_config(**changes))
    run_inline(study, run=run or ToyRun())
    study.close()
    return study.config


def gathered(config: StudyConfig, **given: Any) -> tuple[HeadStart, tuple[str, ...]]:
    found = gather(config, rule_of(config), **given)
    return found.start, found.notes


def test_points_are_tried_right_after_the_baseline(tmp_path: Path) -> None:
    points = (Point(values={LR: 1e-3, OPTIMIZER: "AdamW"}, source="mine"), Point(values={LR: 1e-5, OPTIMIZER: "AdamW"}, source="mine"))
    study = Study.create(tmp_path / "s", toy_config(head_start=HeadStart(points=points)))
    snapshot = run_inline(study, run=ToyRun())
    study.close()
    assert [dict(trial.values) for trial in snapshot.trials[:3]] == [BASE, *(dict(point.values) for point in points)]
    assert snapshot.trial(1).origin == {"source": "mine"}
    assert len(snapshot.trials) == 12


def test_points_are_written_as_a_spec_is(tmp_path: Path) -> None:
    crop = Parameter(key="dataset.train_dataset.augmentation.crop_size", kind="categorical", choices=("[64, 96]", "[320, 736]"))
    path = tmp_path / "points.yaml"
    path.write_text(f"- {{train.optim.lr: 5e-4, {crop.key}: [64, 96]}}\n")
    (point,) = read_points(path, toy_config(space=replace(SPACE, parameters=(*SPACE.parameters, crop))))
    assert (point.values[LR], point.values[crop.key]) == (5e-4, "[64, 96]")


def test_a_point_is_completed_from_the_spec() -> None:
    spec = spec_from_dict(toy_config().spec)
    assert complete_point({LR: 1e-3}, SPACE, spec) == {LR: 1e-3, OPTIMIZER: "AdamW"}
    assert complete_point({OPTIMIZER: "SGD", MOMENTUM: 0.6}, SPACE, spec) == {LR: 1e-4, OPTIMIZER: "SGD", MOMENTUM: 0.6}


@pytest.mark.parametrize(
    ("point", "message"),
    [({"train.optim.rl": 1e-3}, "not in the search space"), ({LR: 1.0}, "must be in"), ({MOMENTUM: 0.6}, "counts only")],
)
def test_a_point_outside_the_space_is_refused(point: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        complete_point(point, SPACE, spec_from_dict(toy_config().spec))


@pytest.mark.parametrize(
    ("text", "message"), [("a: 1", "list of"), ("- {", "not valid YAML"), ("- {train.optim.lr: 5}", "configuration 1")]
)
def test_a_file_of_points_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "points.yaml").write_text(text)
    with pytest.raises(StudyError, match=message):
        gathered(toy_config(), points=tmp_path / "points.yaml")
    with pytest.raises(StudyError, match="cannot be read"):
        gathered(toy_config(), points=tmp_path / "nothing.yaml")


def test_more_points_than_trials_are_refused(tmp_path: Path) -> None:
    (tmp_path / "points.yaml").write_text("- {train.optim.lr: 0.001}\n- {train.optim.lr: 0.002}\n")
    with pytest.raises(StudyError, match="only 2 trials"):
        gathered(toy_config(trials=2), points=tmp_path / "points.yaml")


def test_a_study_that_is_alike_teaches_the_searcher_and_gives_its_best_point(tmp_path: Path) -> None:
    run_study(tmp_path / "old", ToyRun(faults={2: Cause.OOM, 4: Cause.CRASH}))
    start, notes = gathered(toy_config(seed=9), studies=[tmp_path / "old"])
    assert len(start.trials) == 11  # the crash teaches nothing
    assert [trial.infeasible for trial in start.trials].count(True) == 1
    assert start.trials[0].by_rung == ((1, 2.0), (3, pytest.approx(4 / 3)), (9, pytest.approx(10 / 9)))  # |log10 1e-4 + 3| + 1 / epoch
    assert len(start.points) == 1
    assert "tpe learns from 11 of its trials" in notes[0]


def test_with_earlier_trials_the_first_proposals_are_better_than_blind_ones(tmp_path: Path) -> None:
    run_study(tmp_path / "old", trials=40)
    near = []
    for seed in range(4):
        config = toy_config(seed=seed, trials=8)
        start, _ = gathered(config, studies=[tmp_path / "old"])
        study = Study.create(tmp_path / str(seed), replace(config, head_start=replace(start, points=())))
        near += [trial.values[LR] for trial in run_inline(study, run=ToyRun()).trials[1:]]
        study.close()
    assert sum(3e-4 <= lr <= 3e-3 for lr in near) >= len(near) // 2  # a quarter of the blind draws


def test_of_a_study_that_differs_only_points_are_taken(tmp_path: Path) -> None:
    run_study(tmp_path / "old", epochs=3, spec=spec_to_dict(with_values(spec_from_dict(toy_config().spec), {"dataset.max_disparity": 192})))
    start, notes = gathered(toy_config(), studies=[tmp_path / "old"])
    assert (start.trials, len(start.points)) == ((), 3)
    assert "old differs (epochs, dataset.max_disparity" in notes[0]


def test_another_validation_is_a_difference() -> None:
    config = toy_config()
    other = replace(config, spec=spec_to_dict(with_values(spec_from_dict(config.spec), {"dataset.max_disparity": 192})))
    assert differences_of(config, config) == []
    assert "val data" in differences_of(config, other)


def test_a_searcher_that_cannot_learn_from_others_is_said(tmp_path: Path) -> None:
    run_study(tmp_path / "old", trials=3)
    start, notes = gathered(toy_config(searcher="qmc"), studies=[tmp_path / "old"])
    assert start.trials == ()
    assert "qmc learns from no earlier trials" in notes[0]


def test_a_head_start_comes_back_as_it_was_written() -> None:
    trial = EarlierTrial(values=BASE, by_rung=((1, 0.5), (3, 0.25)), complete=False, infeasible=False)
    start = HeadStart(points=(Point(values=BASE, source="x"),), trials=(trial,))
    assert head_start_from_data(start.to_data()) == start
    assert [seen.number for seen in start.observations()] == [-1]


def test_settings_that_were_edited_are_refused(tmp_path: Path) -> None:
    run_study(tmp_path / "s", trials=2)
    config = load_config(tmp_path / "s")
    save_config(replace(config, parallel=3, finalists=1), tmp_path / "s")
    Study.open(tmp_path / "s").close()  # how it is run may change
    save_config(replace(config, seed=7, reduction_factor=2), tmp_path / "s")
    with pytest.raises(StudyError, match=f"seed, reduction_factor in {CONFIG_FILE} were changed"):
        Study.open(tmp_path / "s")
    save_config(config, tmp_path / "s")
    Study.open(tmp_path / "s").close()  # the refusal freed the lock


def test_a_changed_skill_is_said_and_changed_data_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    skill = skill_facts(find_skill("depth_net_stereo"))
    data = {"train": "a", "val": "b"}
    monkeypatch.setattr("automl.unchanged.data_facts", lambda spec: {"train": "a", "val": "b"})
    assert check_surroundings(toy_config(notes={"skill": skill, "data": data})) == []
    assert "the schema of depth_net_stereo was changed" in check_surroundings(toy_config(notes={"skill": {**skill, "schema": "x"}}))[0]
    assert "is gone" in check_surroundings(toy_config(notes={"skill": {**skill, "folder": "/nowhere"}}))[0]
    with pytest.raises(StudyError, match="validation data or how it is measured changed"):
        check_surroundings(toy_config(notes={"data": {**data, "val": "x"}}))
