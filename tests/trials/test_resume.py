"""A run that is interrupted and continued ends with the same bits as one that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.errors import CheckpointError, SpecError
from search_spaces.spec import load_spec, spec_from_dict
from tests.trials.small import Recorder, SmallMono, SmallStereo, always_continue, mono_spec, parts, stereo_spec, trial
from tests.trials.test_interruption import Interrupting
from trials.checkpoints import read_resume
from trials.contract import Cause, Decision, Report, State
from trials.data.sample import SampleSet
from trials.resuming import describe
from trials.run import run_trial
from trials.states import LATEST as LINK
from trials.states import full_states, state_to_resume

LATEST = "train/dn_model_latest.pth"


def tensors(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of nested plain data by its path."""
    if isinstance(value, Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: tensor for key, inner in items for name, tensor in tensors(inner, f"{prefix}/{key}").items()}


def state(folder: Path) -> dict[str, Tensor]:
    """Weights, optimiser and random state of the newest full state."""
    content = torch.load(folder / LATEST, weights_only=True)
    return tensors({key: content[key] for key in ("state_dict", "optimizer_states", "rng")})


def assert_same_bits(first: Path, second: Path) -> None:
    ours, theirs = state(first), state(second)
    assert set(ours) == set(theirs)
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


@pytest.fixture(scope="module")
def whole(scenes: SampleSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Report]]:
    """Four epochs in one go."""
    folder, recorder = tmp_path_factory.mktemp("whole"), Recorder()
    assert run_trial(trial(folder, stereo_spec(scenes), epochs=4), recorder, parts=parts()).state is State.COMPLETE
    return folder, recorder.reports


def test_two_segments_equal_one(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    spec = stereo_spec(scenes)
    first = run_trial(trial(tmp_path, spec, epochs=4), Recorder(Decision.CONTINUE, Decision.PAUSE), parts=parts())
    assert first.state is State.PAUSED
    recorder = Recorder()
    second = run_trial(trial(tmp_path, spec, epochs=4, resume_from=tmp_path / LATEST), recorder, parts=parts())
    assert second.state is State.COMPLETE, second.error
    assert_same_bits(tmp_path, whole[0])
    assert [report.metrics for report in recorder.reports] == [report.metrics for report in whole[1][2:]]


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it."""


def kill_during_the_third_report(scenes: SampleSet, folder: Path) -> None:
    """Leave what a run of four epochs has written by then in `folder`."""

    def report(sent: Report) -> Decision:
        if sent.epoch == 3:
            raise Killed
        return Decision.CONTINUE

    with pytest.raises(Killed):
        run_trial(trial(folder, stereo_spec(scenes), epochs=4), report, parts=parts())


def test_a_kill_during_a_report_costs_that_epoch_alone(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    kill_during_the_third_report(scenes, tmp_path)
    recorder = Recorder()
    run_trial(trial(tmp_path, stereo_spec(scenes), epochs=4, resume_from=tmp_path / LATEST), recorder, parts=parts())
    assert_same_bits(tmp_path, whole[0])
    assert [report.epoch for report in recorder.reports] == [3, 4]
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "train" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


def test_best_weights_that_are_newer_than_the_state_are_told_as_what_they_are(scenes: SampleSet, tmp_path: Path) -> None:
    kill_during_the_third_report(scenes, tmp_path)
    # after the 6 steps of the state no weight changes any more: nothing gets better than the third epoch of the killed run
    still = stereo_spec(scenes, optim={"lr_scheduler": "StepLR", "lr_step_size": 6, "lr_decay": 1e-9})
    result = run_trial(trial(tmp_path, still, epochs=4, resume_from=tmp_path / LATEST), always_continue, parts=parts())
    best = torch.load(tmp_path / "train" / "best.pth", weights_only=True)
    assert (result.best_epoch, result.metrics) == (best["epoch"] + 1, best["metrics"]) == (3, best["metrics"])


def test_ctrl_c_in_mid_epoch_continues_with_the_next_batch(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    spec = stereo_spec(scenes, resume="auto")
    assert run_trial(trial(tmp_path, spec, epochs=4), always_continue, parts=parts(Interrupting)).state is State.INTERRUPTED
    recorder = Recorder()
    run_trial(trial(tmp_path, spec, epochs=4), recorder, parts=parts())
    assert_same_bits(tmp_path, whole[0])
    assert [report.metrics for report in recorder.reports] == [report.metrics for report in whole[1]]


def test_every_checkpoint_by_steps_can_be_continued(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    spec = stereo_spec(scenes, checkpoint_interval=2, checkpoint_interval_unit="step")
    run_trial(trial(tmp_path / "a", spec, epochs=4), always_continue, parts=parts())
    saved = sorted((tmp_path / "a" / "train").glob("model_epoch_*.pth"))
    # steps 2, 4, ..., 12 of 3 an epoch; step 6 ends epoch 2, step 12 the run
    places = ((0, 2), (1, 4), (1, 6), (2, 8), (3, 10), (3, 12))
    assert [path.name for path in saved] == [f"model_epoch_{epoch:03d}_step_{step:05d}.pth" for epoch, step in places]
    for path in saved[:5]:
        folder = tmp_path / path.stem
        run_trial(trial(folder, spec, epochs=4, resume_from=path), always_continue, parts=parts())
        assert_same_bits(folder, whole[0])


def test_loader_processes_change_nothing(scenes: SampleSet, tmp_path: Path) -> None:
    rows = scenes.list_file("stereo", "train").read_text().splitlines()
    many = tmp_path / "many.txt"
    many.write_text("\n".join((rows * 11)[:64]) + "\n")
    spec = stereo_spec(scenes)
    spec["dataset"]["train_dataset"] |= {"batch_size": 16, "workers": 1}
    spec["dataset"]["train_dataset"]["data_sources"][0] |= {"data_file": str(many), "data_root": str(scenes.folder)}
    alone = json.loads(json.dumps(spec))
    alone["dataset"]["train_dataset"]["workers"] = 0
    run_trial(trial(tmp_path / "alone", alone), always_continue, parts=parts())
    run_trial(trial(tmp_path / "b", spec), Recorder(Decision.PAUSE), parts=parts())
    run_trial(trial(tmp_path / "b", spec, resume_from=tmp_path / "b" / LATEST), always_continue, parts=parts())
    assert_same_bits(tmp_path / "b", tmp_path / "alone")


def test_mono_resumes_exactly(scenes: SampleSet, tmp_path: Path) -> None:
    spec = mono_spec(scenes)
    run_trial(trial(tmp_path / "a", spec), always_continue, parts=parts(SmallMono))
    run_trial(trial(tmp_path / "b", spec), Recorder(Decision.PAUSE), parts=parts(SmallMono))
    run_trial(trial(tmp_path / "b", spec, resume_from=tmp_path / "b" / LATEST), always_continue, parts=parts(SmallMono))
    assert_same_bits(tmp_path / "a", tmp_path / "b")


def test_resuming_a_finished_run_is_complete_at_once(scenes: SampleSet, whole: tuple[Path, list[Report]]) -> None:
    folder, reports = whole
    recorder = Recorder()
    result = run_trial(trial(folder, stereo_spec(scenes, resume="auto"), epochs=4), recorder, parts=parts())
    assert (result.state, recorder.reports) == (State.COMPLETE, [])
    assert result.metrics == min((report.metrics for report in reports), key=lambda metrics: metrics["val/loss"] or 0.0)


def test_a_finished_run_can_be_extended(scenes: SampleSet, tmp_path: Path) -> None:
    run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1), always_continue, parts=parts())
    recorder = Recorder()
    result = run_trial(trial(tmp_path, stereo_spec(scenes), epochs=3, resume_from=tmp_path / LATEST), recorder, parts=parts())
    assert result.state is State.COMPLETE
    assert [(report.epoch, report.step) for report in recorder.reports] == [(2, 6), (3, 9)]


def test_the_best_epoch_survives_a_move_to_another_folder(scenes: SampleSet, tmp_path: Path) -> None:
    # from epoch 2 on the rate is too small to change a weight, and an equal value is no better one
    spec = stereo_spec(scenes, optim={"lr_scheduler": "StepLR", "lr_step_size": 3, "lr_decay": 1e-9, "warmup_steps": 0})
    run_trial(trial(tmp_path / "a", spec), Recorder(Decision.PAUSE), parts=parts())
    result = run_trial(trial(tmp_path / "b", spec, resume_from=tmp_path / "a" / LATEST), always_continue, parts=parts())
    assert (result.best_epoch, result.checkpoint) == (1, tmp_path / "b" / "train" / "best.pth")


def test_a_resumed_run_follows_the_learning_rate_of_its_own_spec(scenes: SampleSet, tmp_path: Path) -> None:
    def spec(lr: float) -> dict[str, Any]:
        return stereo_spec(scenes, optim={"lr": lr, "lr_scheduler": "MultiStepLR", "warmup_steps": 0})

    run_trial(trial(tmp_path, spec(1e-3)), Recorder(Decision.PAUSE), parts=parts())
    recorder = Recorder()
    run_trial(trial(tmp_path, spec(1e-4), resume_from=tmp_path / LATEST), recorder, parts=parts())
    assert recorder.reports[0].metrics["train/lr"] == pytest.approx(1e-4)


def test_a_longer_budget_counts_from_the_first_step_on(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(scenes, optim={"lr_scheduler": "PolynomialLR", "warmup_steps": 0})
    spec["dataset"]["train_dataset"]["batch_size"] = 6  # one step an epoch
    run_trial(trial(tmp_path, spec, epochs=1), always_continue, parts=parts())  # ends with a rate of 0
    recorder = Recorder()
    run_trial(trial(tmp_path, spec, epochs=2, resume_from=tmp_path / LATEST), recorder, parts=parts())
    assert recorder.reports[0].metrics["train/lr"] == pytest.approx(5e-4)


def refused(folder: Path, spec: dict[str, Any], **fields: Any) -> str:
    result = run_trial(trial(folder, spec, **fields), always_continue, parts=parts())
    assert result.error is not None
    assert result.error.cause is Cause.SPEC
    return result.error.message


def test_a_folder_that_holds_a_run_is_not_overwritten(scenes: SampleSet, whole: tuple[Path, list[Report]]) -> None:
    before = {path: path.read_bytes() for path in (whole[0] / "train").iterdir()}
    assert "already holds a run" in refused(whole[0], stereo_spec(scenes), epochs=4)
    assert before == {path: path.read_bytes() for path in (whole[0] / "train").iterdir()}


def test_must_resume_needs_a_state(scenes: SampleSet, tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path, stereo_spec(scenes, resume="must"))


def test_the_path_of_the_spec_is_resumed(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    path = whole[0] / "train" / "model_epoch_002_step_00009.pth"
    spec = stereo_spec(scenes, resume_training_checkpoint_path=str(path))
    recorder = Recorder()
    run_trial(trial(tmp_path, spec, epochs=4), recorder, parts=parts())
    assert [report.epoch for report in recorder.reports] == [4]
    assert_same_bits(tmp_path, whole[0])


def test_best_weights_are_no_state_to_resume(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    assert "weights without a training state" in refused(tmp_path, stereo_spec(scenes), resume_from=whole[0] / "train" / "best.pth")


def test_a_state_of_another_network_is_named(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    class Wider(SmallStereo):
        def __init__(self) -> None:
            super().__init__()
            self.third = torch.nn.Conv2d(1, 1, 1)

    result = run_trial(trial(tmp_path, stereo_spec(scenes), epochs=4, resume_from=whole[0] / LATEST), always_continue, parts=parts(Wider))
    assert result.error is not None
    assert "another network" in result.error.message


FIRST, SECOND = "model_epoch_000_step_00003.pth", "model_epoch_001_step_00006.pth"
NAMED = "train.resume_training_checkpoint_path"


def chosen(folder: Path, resume: str, named: Path | None = None) -> Path | None:
    values = [f"train.resume={resume}", *([f"{NAMED}={named}"] if named else [])]
    return state_to_resume(load_spec(None, ["dataset.max_depth=10", *values]), folder)


def with_states(folder: Path, *names: str, link: str | None = None) -> Path:
    for name in names:
        (folder / name).touch()
    if link is not None:
        (folder / LINK).symlink_to(link)
    return folder


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_an_empty_folder_starts_a_run(tmp_path: Path, resume: str) -> None:
    assert chosen(tmp_path, resume) is None


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_the_link_decides_which_state_is_continued(tmp_path: Path, resume: str) -> None:
    assert chosen(with_states(tmp_path, FIRST, SECOND, link=FIRST), resume) == tmp_path / FIRST


def test_a_copy_that_lost_its_link_is_continued_from_its_newest_state(tmp_path: Path) -> None:
    assert chosen(with_states(tmp_path, "model_epoch_999_step_02997.pth", "model_epoch_1000_step_03000.pth"), "auto") == (
        tmp_path / "model_epoch_1000_step_03000.pth"
    )


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_a_stale_link_is_told_with_the_state_that_is_there(tmp_path: Path, resume: str) -> None:
    with pytest.raises(CheckpointError, match=f"points to {SECOND}, which is gone") as caught:
        chosen(with_states(tmp_path, FIRST, link=SECOND), resume)
    assert f"{NAMED}={tmp_path / FIRST}" in str(caught.value.hint)


@pytest.mark.parametrize("left", [FIRST, "best.pth"])
def test_never_protects_whatever_a_run_left(tmp_path: Path, left: str) -> None:
    with pytest.raises(SpecError, match="already holds a run"):
        chosen(with_states(tmp_path, left), "never")


def test_never_protects_a_run_whose_link_is_stale(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="already holds a run"):
        chosen(with_states(tmp_path, link=SECOND), "never")


def test_a_named_state_of_the_same_folder_goes_back_to_it(tmp_path: Path) -> None:
    assert chosen(with_states(tmp_path, FIRST, SECOND, link=SECOND), "never", tmp_path / FIRST) == tmp_path / FIRST


def test_a_named_state_and_another_one_in_the_folder_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="two states are to be continued"):
        chosen(with_states(tmp_path, FIRST, SECOND, link=SECOND), "auto", tmp_path / FIRST)


def test_another_spec_is_told_key_by_key(scenes: SampleSet, whole: tuple[Path, list[Report]]) -> None:
    resume = read_resume(whole[0] / LATEST, objective="val/loss")
    told = list(describe(resume, spec_from_dict(stereo_spec(scenes, num_epochs=6, seed=7, optim={"lr": 1e-4}))))
    assert told == [
        f"continues {resume.path} after 4 of 6 epochs",
        "train.num_epochs was 4 and is 6 from here on",
        "train.optim.lr was 0.001 and is 0.0001 from here on",
    ]


def test_a_run_that_has_all_its_epochs_says_so(scenes: SampleSet, whole: tuple[Path, list[Report]]) -> None:
    resume = read_resume(whole[0] / LATEST, objective="val/loss")
    told = list(describe(resume, spec_from_dict(stereo_spec(scenes, num_epochs=4, seed=7))))
    assert told[1] == "nothing is left to train: train.num_epochs is 4; a larger one goes on"


def test_another_optimiser_does_not_take_over(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    message = refused(tmp_path, stereo_spec(scenes, optim={"optimizer": "SGD"}), epochs=5, resume_from=whole[0] / LATEST)
    assert "train.optim.optimizer is AdamW there and SGD in the spec" in message


def test_an_epoch_of_another_length_is_refused(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    spec = stereo_spec(scenes)
    spec["dataset"]["train_dataset"]["batch_size"] = 1
    assert "an epoch has 6 steps here, but 3 in the run of" in refused(tmp_path, spec, epochs=5, resume_from=whole[0] / LATEST)


def test_a_training_state_of_tao_is_refused_with_the_way_to_use_it(tmp_path: Path) -> None:
    path = tmp_path / "dn_model_latest.pth"
    keys = ("loops", "callbacks", "optimizer_states", "lr_schedulers")
    torch.save({"pytorch-lightning_version": "2.3", "state_dict": {"model.x": torch.zeros(1)}, **{key: {} for key in keys}}, path)
    with pytest.raises(CheckpointError, match="a training state of another program") as caught:
        read_resume(path, objective="val/loss")
    assert f"train.pretrained_model_path={path}" in str(caught.value.hint)


class Breaking(SmallStereo):
    """Breaks in the fifth step, as a bad file would: before anything random is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def unroll(self, *args: Any) -> Any:
        self.steps += 1
        if self.steps == 5:
            raise KeyError("left")
        return super().unroll(*args)


def test_a_run_that_breaks_keeps_its_last_whole_step(scenes: SampleSet, tmp_path: Path, whole: tuple[Path, list[Report]]) -> None:
    spec = stereo_spec(scenes, resume="auto")
    broken = run_trial(trial(tmp_path, spec, epochs=4), always_continue, parts=parts(Breaking))
    assert broken.error is not None
    assert broken.error.details["state"] == str(tmp_path / "train" / "model_epoch_001_step_00004.pth")
    assert run_trial(trial(tmp_path, spec, epochs=4), always_continue, parts=parts()).state is State.COMPLETE
    assert_same_bits(tmp_path, whole[0])


def test_a_trial_of_a_study_that_breaks_saves_nothing_more(scenes: SampleSet, tmp_path: Path) -> None:
    run_trial(trial(tmp_path, stereo_spec(scenes), study="s"), always_continue, parts=parts(Breaking))
    assert [path.name for path in full_states(tmp_path / "train")] == [FIRST]


def test_sgd_is_resumed_with_the_momentum_of_its_own_spec(scenes: SampleSet, tmp_path: Path) -> None:
    def spec(momentum: float) -> dict[str, Any]:
        return stereo_spec(scenes, optim={"optimizer": "SGD", "momentum": momentum})

    run_trial(trial(tmp_path, spec(0.9)), Recorder(Decision.PAUSE), parts=parts())
    run_trial(trial(tmp_path, spec(0.5), resume_from=tmp_path / LATEST), always_continue, parts=parts())
    state = torch.load(tmp_path / LATEST, weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["momentum"] == 0.5


def test_a_new_attempt_of_a_study_trial_starts_clean(scenes: SampleSet, tmp_path: Path) -> None:
    run_trial(trial(tmp_path, stereo_spec(scenes), study="s"), always_continue, parts=parts())
    recorder = Recorder()
    run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1, study="s"), recorder, parts=parts())
    assert [report.epoch for report in recorder.reports] == [1]
    assert len((tmp_path / "train" / "metrics.jsonl").read_text().splitlines()) == 1
