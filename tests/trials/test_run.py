"""Whole runs of `run_trial` with small networks on sample scenes: what they write, how they end."""

from __future__ import annotations

import json
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.weights import read_checkpoint
from search_spaces.spec import load_spec
from tests.trials.small import (
    Constant,
    Exploding,
    Recorder,
    SmallMono,
    SmallStereo,
    always_continue,
    mono_spec,
    no_weights,
    parts,
    status_lines,
    stereo_spec,
    trial,
)
from trials.contract import Cause, Decision, ProgressEvent, Report, State, TrialResult, report_from_json, result_from_json
from trials.data.decoders import write_pfm
from trials.data.sample import SampleSet
from trials.run import run_trial
from trials.segment import Parts


@pytest.fixture(scope="module")
def done(scenes: SampleSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialResult, list[Report], list[ProgressEvent]]:
    """One finished stereo run of two epochs, looked at by several tests."""
    folder, recorder, events = tmp_path_factory.mktemp("done"), Recorder(), []
    result = run_trial(trial(folder, stereo_spec(scenes)), recorder, progress=events.append, parts=parts())
    return folder, result, recorder.reports, events


def test_a_run_completes_with_the_metrics_of_its_best_epoch(done: Any) -> None:
    folder, result, reports, _ = done
    assert result.state is State.COMPLETE, result.error
    assert [(report.epoch, report.step) for report in reports] == [(1, 3), (2, 6)]
    best = min(reports, key=lambda report: report.metrics["val/loss"])
    assert (result.best_epoch, result.metrics) == (best.epoch, best.metrics)
    assert result.checkpoint == folder / "train" / "best.pth"
    assert result.peak_memory_mib > 0


def test_reports_carry_loss_rate_and_the_stereo_metrics(done: Any) -> None:
    names = {"train/loss", "train/lr", *(f"val/{name}" for name in ("loss", "epe", "bp1", "bp2", "bp3", "d1", "rmse"))}
    assert set(done[2][0].metrics) == names


def test_the_rate_reported_is_that_of_the_last_step(done: Any) -> None:
    # warm-up 2 of 6 steps, then linear to zero over 4: rates 0.5 1 1 | 0.75 0.5 0.25
    assert [report.metrics["train/lr"] for report in done[2]] == pytest.approx([1e-3, 0.25e-3])


def test_the_folder_holds_what_it_should(done: Any) -> None:
    names = sorted(path.name for path in (done[0] / "train").iterdir())
    assert names == [
        "best.pth",
        "dn_model_latest.pth",
        "experiment.yaml",
        "metrics.jsonl",
        "model_epoch_000_step_00003.pth",
        "model_epoch_001_step_00006.pth",
        "result.json",
        "status.json",
        "train.log",
    ]
    assert (done[0] / "train" / "dn_model_latest.pth").readlink() == Path("model_epoch_001_step_00006.pth")


def test_metrics_and_result_files_read_back(done: Any) -> None:
    folder, result, reports, _ = done
    lines = (folder / "train" / "metrics.jsonl").read_text().splitlines()
    assert [report_from_json(json.loads(line)) for line in lines] == reports
    assert result_from_json(json.loads((folder / "train" / "result.json").read_text())) == result


def test_best_weights_carry_spec_and_metrics(done: Any) -> None:
    folder, result, _, _ = done
    checkpoint = read_checkpoint(folder / "train" / "best.pth")
    assert all(name.startswith("model.") for name in checkpoint.state_dict)
    assert checkpoint.metrics == result.metrics
    assert checkpoint.spec is not None
    assert (checkpoint.epoch, checkpoint.spec["train"]["num_epochs"]) == (result.best_epoch - 1, 2)


def test_the_resolved_spec_can_be_loaded_again(done: Any) -> None:
    spec = load_spec(done[0] / "train" / "experiment.yaml")
    assert (spec.train.num_epochs, spec.train.seed) == (2, 7)


def test_status_lines_begin_and_end_as_they_should(done: Any) -> None:
    lines = status_lines(done[0])
    assert [line["status"] for line in lines[:2]] == ["STARTED", "STARTED"]
    assert lines[0]["message"] == "Starting Depth Net train."
    assert (lines[-1]["status"], lines[-1]["message"]) == ("SUCCESS", "Train finished successfully.")
    assert lines[-1]["kpi"]["val_loss"] == lines[-1]["kpi"]["val/loss"]


def test_progress_tells_steps_of_the_whole_run(done: Any) -> None:
    events = done[3]
    assert {event.total_steps for event in events} == {6}
    assert events[0].epoch == 1
    assert events[0].max_epochs == 2


def test_a_run_says_nothing_on_the_console(scenes: SampleSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("pytorch_lightning").level
    filters = list(warnings.filters)
    run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1), always_continue, parts=parts())
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("pytorch_lightning").level == level
    assert warnings.filters == filters


def test_a_metric_run_lowers_its_loss(scenes: SampleSet, tmp_path: Path) -> None:
    recorder = Recorder()
    spec = mono_spec(scenes, clip_grad_norm=0.0, optim={"lr": 1e-3, "warmup_steps": 0})
    run_trial(trial(tmp_path, spec, epochs=3, skill="depth_net_mono"), recorder, parts=parts(SmallMono))
    losses = [report.metrics["train/loss"] for report in recorder.reports]
    assert losses[-1] < losses[0]


def test_a_relative_run_reports_relative_metrics(scenes: SampleSet, tmp_path: Path) -> None:
    result = run_trial(trial(tmp_path, mono_spec(scenes, relative=True), epochs=1), always_continue, parts=parts(SmallMono))
    assert {name for name in result.metrics if name.startswith("val/")} == {"val/loss", "val/d1", "val/d2", "val/d3", "val/abs_rel"}


def test_bf16_trains_mono_with_a_clipped_gradient(scenes: SampleSet, tmp_path: Path) -> None:
    spec = mono_spec(scenes, precision="bf16", clip_grad_norm=0.5)
    assert run_trial(trial(tmp_path, spec, epochs=1), always_continue, parts=parts(SmallMono)).state is State.COMPLETE


def test_the_same_seed_gives_the_same_run(scenes: SampleSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    results = [run_trial(trial(tmp_path / name, stereo_spec(scenes)), always_continue, parts=parts()) for name in ("a", "b")]
    assert results[0].metrics == results[1].metrics
    assert torch.equal(before, torch.get_rng_state())  # the caller's randomness is untouched


def test_every_epoch_validates_at_the_interval_and_the_last_one_always(scenes: SampleSet, tmp_path: Path) -> None:
    recorder = Recorder()
    run_trial(trial(tmp_path, stereo_spec(scenes, validation_interval=2), epochs=3), recorder, parts=parts())
    assert [report.epoch for report in recorder.reports] == [2, 3]


def test_stop_ends_the_run_with_its_state_saved(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(scenes, checkpoint_interval=3)
    result = run_trial(trial(tmp_path, spec, epochs=3), Recorder(Decision.STOP), parts=parts())
    assert result.state is State.STOPPED
    assert (tmp_path / "train" / "dn_model_latest.pth").is_file()
    assert status_lines(tmp_path)[-1]["status"] == "SUCCESS"


def test_a_decision_after_the_last_epoch_changes_nothing(scenes: SampleSet, tmp_path: Path) -> None:
    result = run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1), Recorder(Decision.PAUSE), parts=parts())
    assert result.state is State.COMPLETE


def test_trials_of_a_study_keep_the_newest_state_alone(scenes: SampleSet, tmp_path: Path) -> None:
    run_trial(trial(tmp_path, stereo_spec(scenes), epochs=3, study="s"), always_continue, parts=parts())
    states = [path.name for path in (tmp_path / "train").glob("model_epoch_*.pth")]
    assert states == ["model_epoch_002_step_00009.pth"]


def test_a_non_finite_loss_stops_at_once_and_tells_what_was_there(scenes: SampleSet, tmp_path: Path) -> None:
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(Exploding))
    assert result.state is State.FAILED
    assert result.error is not None
    assert result.error.cause is Cause.NAN
    details = result.error.details
    assert (details["step"], details["last_finite_step"], details["valid_share"], len(details["paths"])) == (2, 1, 1.0, 2)
    assert 0 < details["target_range"][0] < details["target_range"][1] < 32
    for told in ("at step 2; the last finite one was at step 1", "100.0%", "ground truth", "learning rate", *details["paths"]):
        assert told in result.error.message
    assert "clipping is off" not in details["hint"]
    assert status_lines(tmp_path)[-1]["status"] == "FAILURE"
    assert "NonFiniteError" in (tmp_path / "train" / "error.log").read_text()
    assert not list((tmp_path / "train").glob("*.pth"))


def test_a_non_finite_loss_without_clipping_names_it_first(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(scenes, clip_grad_norm=0.0)
    result = run_trial(trial(tmp_path, spec), always_continue, parts=parts(Exploding))
    assert result.error is not None
    assert result.error.details["hint"].startswith("look at these samples; then train.clip_grad_norm=0.1 (clipping is off), ")


class Poisoned(SmallStereo):
    """Has one weight that is no number but leaves the loss finite: it is multiplied by nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.poison = nn.Parameter(torch.tensor([float("nan")]))


def test_a_state_with_weights_that_are_no_numbers_is_never_saved(scenes: SampleSet, tmp_path: Path) -> None:
    result = run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1), always_continue, parts=parts(Poisoned))
    assert result.error is not None
    assert result.error.cause is Cause.NAN
    assert "poison is not finite after step 3" in result.error.message
    assert not list((tmp_path / "train").glob("*.pth"))


def without_truth(scenes: SampleSet, folder: Path, *, empty: int) -> dict[str, Any]:
    """A spec with batches of one whose first `empty` training samples have no valid pixel."""
    nothing = folder / "nothing.pfm"
    write_pfm(nothing, np.full((64, 96), np.inf, np.float32))
    rows = [row.split() for row in scenes.list_file("stereo", "train").read_text().splitlines()]
    lines = [" ".join([*row[:2], str(nothing) if number < empty else row[2]]) for number, row in enumerate(rows)]
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    spec = stereo_spec(scenes)
    split = spec["dataset"]["train_dataset"]
    split["batch_size"] = 1
    split["data_sources"][0] |= {"data_file": str(folder / "list.txt"), "data_root": str(scenes.folder)}
    return spec


def test_batches_without_ground_truth_are_skipped_and_counted(scenes: SampleSet, tmp_path: Path) -> None:
    recorder = Recorder()
    result = run_trial(trial(tmp_path, without_truth(scenes, tmp_path, empty=2), epochs=1), recorder, parts=parts())
    assert result.state is State.COMPLETE, result.error
    assert 0 < recorder.reports[0].metrics["train/loss"] < 100
    assert "2 batches skipped: too few valid pixels" in (tmp_path / "train" / "train.log").read_text()


def test_an_epoch_without_any_ground_truth_is_a_data_failure(scenes: SampleSet, tmp_path: Path) -> None:
    cause, message = failure(tmp_path, without_truth(scenes, tmp_path, empty=6), epochs=1)
    assert cause is Cause.DATA
    assert "none of the 6 batches of epoch 1 has enough valid pixels" in message


def test_states_are_named_by_epoch_from_zero_and_steps_done(scenes: SampleSet, tmp_path: Path) -> None:
    spec = without_truth(scenes, tmp_path, empty=0)
    path = tmp_path / "list.txt"
    path.write_text("".join((path.read_text().splitlines(keepends=True) * 2)[:10]))
    run_trial(trial(tmp_path, spec, epochs=1), always_continue, parts=parts())
    assert [path.name for path in (tmp_path / "train").glob("model_*")] == ["model_epoch_000_step_00010.pth"]


def test_a_constant_prediction_is_a_collapse(scenes: SampleSet, tmp_path: Path) -> None:
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(Constant))
    assert result.error is not None
    assert result.error.cause is Cause.COLLAPSE


class Hungry(SmallStereo):
    """Runs out of memory at the first step."""

    def unroll(self, *args: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


class Broken(SmallStereo):
    """Has a defect."""

    def unroll(self, *args: Any) -> Any:
        raise KeyError("left")


@pytest.mark.parametrize(("network", "cause"), [(Hungry, Cause.OOM), (Broken, Cause.CRASH)])
def test_causes_of_failure_are_told_apart(scenes: SampleSet, tmp_path: Path, network: type[nn.Module], cause: Cause) -> None:
    result = run_trial(trial(tmp_path, stereo_spec(scenes)), always_continue, parts=parts(network))
    assert result.error is not None
    assert result.error.cause is cause
    assert result.error.details["traceback"]


def failure(folder: Path, spec: dict[str, Any], **fields: Any) -> tuple[Cause, str]:
    result = run_trial(trial(folder, spec, **fields), always_continue, parts=parts())
    assert result.state is State.FAILED
    assert result.error is not None
    return result.error.cause, result.error.message


def test_a_missing_list_is_a_data_failure(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(scenes)
    spec["dataset"]["train_dataset"]["data_sources"][0]["data_file"] = str(tmp_path / "none.txt")
    cause, message = failure(tmp_path, spec)
    assert cause is Cause.DATA
    assert "none.txt" in message


def test_too_few_samples_for_a_batch_is_a_data_failure(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(scenes)
    spec["dataset"]["train_dataset"]["batch_size"] = 7
    lists = scenes.list_file("stereo", "train")
    assert failure(tmp_path, spec) == (Cause.DATA, f"the training set has 6 samples, which is less than one batch of 7 ({lists})")


def test_an_impossible_spec_is_a_spec_failure(scenes: SampleSet, tmp_path: Path) -> None:
    assert failure(tmp_path, stereo_spec(scenes, num_gpus=2))[0] is Cause.SPEC


@pytest.mark.usefixtures("without_gpu")
def test_fp16_on_a_cpu_is_refused(scenes: SampleSet, tmp_path: Path) -> None:
    cause, message = failure(tmp_path, stereo_spec(scenes, precision="fp16"))
    assert cause is Cause.SPEC
    assert "fp16 needs a CUDA device" in message


def test_a_folder_that_cannot_be_made_is_the_machines_failure(scenes: SampleSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cause, message = failure(tmp_path / "file", stereo_spec(scenes))
    assert cause is Cause.INFRASTRUCTURE
    assert str(tmp_path / "file") in message


def test_without_a_validation_list_the_objective_must_be_the_training_loss(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(scenes)
    spec["dataset"]["val_dataset"]["data_sources"] = []
    assert failure(tmp_path / "a", spec)[0] is Cause.SPEC
    recorder = Recorder()
    result = run_trial(trial(tmp_path / "b", spec, objective="train/loss"), recorder, parts=parts())
    assert result.state is State.COMPLETE
    assert [set(report.metrics) for report in recorder.reports] == [{"train/loss", "train/lr"}] * 2


def test_a_dry_run_is_one_batch_and_leaves_no_checkpoint(scenes: SampleSet, tmp_path: Path) -> None:
    recorder = Recorder()
    result = run_trial(trial(tmp_path, stereo_spec(scenes, is_dry_run=True), epochs=5), recorder, parts=parts())
    assert (result.state, result.checkpoint) == (State.COMPLETE, None)
    assert [report.step for report in recorder.reports] == [1]
    assert not list((tmp_path / "train").glob("*.pth"))


def test_the_loss_is_logged_every_n_steps(scenes: SampleSet, tmp_path: Path) -> None:
    run_trial(trial(tmp_path, stereo_spec(scenes, log_every_n_steps=2)), always_continue, parts=parts())
    told = re.findall(r"epoch (\d) step (\d) loss [\d.]+$", (tmp_path / "train" / "train.log").read_text(), re.MULTILINE)
    assert told == [("1", "2"), ("2", "4"), ("2", "6")]


def test_cudnn_is_as_the_spec_says_for_the_run_alone(scenes: SampleSet, tmp_path: Path) -> None:
    seen, backend = [], torch.backends.cudnn
    before = backend.benchmark, backend.deterministic

    def network() -> nn.Module:
        seen.append((backend.benchmark, backend.deterministic))
        return SmallStereo()

    run_trial(
        trial(tmp_path, stereo_spec(scenes, cudnn={"benchmark": True, "deterministic": False}), epochs=1),
        always_continue,
        parts=parts(network),
    )
    assert (seen, (backend.benchmark, backend.deterministic)) == ([(True, False)], before)


def test_pretrained_weights_are_asked_for_once(scenes: SampleSet, tmp_path: Path) -> None:
    asked: list[nn.Module] = []

    def weights(network: nn.Module, spec: Any) -> list[object]:
        asked.append(network)
        return list(no_weights(network, spec))

    run_trial(
        trial(tmp_path, stereo_spec(scenes), epochs=1), always_continue, parts=Parts(network=lambda spec: SmallStereo(), weights=weights)
    )
    assert len(asked) == 1
