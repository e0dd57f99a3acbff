"""A trial that paused at a rung and was promoted ends with the bits of one that was never paused, in process and on Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from automl.engine import run_inline
from automl.ray_engine import run_ray
from automl.ray_session import ray_session
from automl.requests import request_stop
from automl.snapshot import StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.space import Parameter, SearchSpace
from search_spaces.spec import spec_from_dict, spec_to_dict, with_values
from tests.automl.samples import small_mono_spec
from tests.automl.toy import LR, toy_config
from tests.trials.small import always_continue
from trials.contract import ProgressTo, ReportTo, TrialResult, TrialSpec
from trials.run import run_trial

pytestmark = pytest.mark.ray
SPACE = SearchSpace(skill="depth_net_mono", parameters=(Parameter(key=LR, kind="float", low=1e-5, high=1e-3, log=True, default=1e-4),))


def new_study(folder: Path, place: Path) -> Study:
    """Two trials of three epochs; the baseline is stopped, so that the other one, paused after one epoch, is promoted at last."""
    spec = with_values(spec_from_dict(yaml.safe_load((place / "mono.yaml").read_text())), {"train.num_epochs": 3})
    config = toy_config(spec=spec_to_dict(spec), space=SPACE, skill="depth_net_mono", trials=2, epochs=3, working_folder=place)
    study = Study.create(folder, config)
    request_stop(folder, trial=0)
    return study


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "train" / "best.pth", weights_only=True)["state_dict"]
    return found


def promoted(snapshot: StudySnapshot) -> tuple[Path, tuple[tuple[int, float], ...]]:
    trial = snapshot.trial(1)
    assert (trial.status, trial.segments, trial.epoch) == (TrialStatus.COMPLETE, 2, 3)
    return trial.folder, trial.curve


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread in this process, as in the workers below: the order of a sum depends on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_pausing_changes_no_bit(tmp_path: Path) -> None:
    small_mono_spec(tmp_path)
    study = new_study(tmp_path / "inline", tmp_path)
    first: dict[int, TrialSpec] = {}  # segments by trial

    def noted(trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        first.setdefault(trial.number, trial)
        return run_trial(trial, report, progress=progress)

    inline_folder, inline_curve = promoted(run_inline(study, run=noted))
    straight = first[1]
    folder = tmp_path / "straight"
    spec = {**straight.spec, "results_dir": str(folder)}
    result = run_trial(replace(straight, study="", folder=folder, spec=spec), always_continue)
    study.close()
    with ray_session(tmp_path, slots=len(os.sched_getaffinity(0))) as session:
        other = new_study(tmp_path / "ray", tmp_path)
        ray_folder, ray_curve = promoted(run_ray(other, session))
        other.close()
    assert inline_curve == ray_curve
    assert result.metrics["val/loss"] == min(value for _, value in inline_curve)
    expected = weights(folder)
    for found in (weights(inline_folder), weights(ray_folder)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
