"""Lines of status.json and metrics.jsonl."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import DataError
from tests.trials.small import SmallStereo, always_continue, parts, stereo_spec, trial
from trials.contract import Cause, Failure, Report, State
from trials.data.sample import SampleSet
from trials.run import run_trial
from trials.status import MetricsLog, StatusWriter, kpi_of


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_keys_of_taos_format_in_its_order(tmp_path: Path) -> None:
    StatusWriter(tmp_path / "status.json").write("RUNNING", "Eval metrics generated.", kpi={"val/loss": 0.5})
    (line,) = lines(tmp_path / "status.json")
    assert list(line) == ["date", "time", "status", "verbosity", "message", "kpi"]
    assert re.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}", line["date"])
    assert re.fullmatch(r"\d{1,2}:\d{1,2}:\d{1,2}", line["time"])


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    StatusWriter(tmp_path / "status.json").write("RUNNING", "x", kpi={"val/loss": float("nan"), "val/epe": float("inf"), "val/d1": None})
    assert lines(tmp_path / "status.json")[0]["kpi"] == {"val/loss": None, "val/epe": None, "val/d1": None}


def test_a_kpi_stands_on_its_own_line_only(tmp_path: Path) -> None:
    status = StatusWriter(tmp_path / "status.json")
    status.write("RUNNING", "a", kpi={"val/loss": 1.0})
    status.write("RUNNING", "b")
    assert ["kpi" in line for line in lines(tmp_path / "status.json")] == [True, False]


def test_the_epoch_line_counts_from_zero_with_times_as_text(tmp_path: Path) -> None:
    StatusWriter(tmp_path / "status.json").epoch(done=1, max_epochs=3, epoch_s=60.0)
    (line,) = lines(tmp_path / "status.json")
    assert list(line)[:4] == ["epoch", "max_epoch", "time_per_epoch", "eta"]
    assert (line["epoch"], line["max_epoch"], line["time_per_epoch"], line["eta"]) == (0, 2, "0:01:00", "0:02:00")


def test_a_failure_names_its_kind(tmp_path: Path) -> None:
    StatusWriter(tmp_path / "status.json").failure(Failure(cause=Cause.SPEC, message="lr must be above 0"))
    (line,) = lines(tmp_path / "status.json")
    assert (line["status"], line["message"]) == ("FAILURE", "Parameter validation error: lr must be above 0")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("status.json", lambda path: StatusWriter(path).write("RUNNING", "x")),
        ("metrics.jsonl", lambda path: MetricsLog(path).append(Report(number=0, epoch=1, step=1, metrics={}, elapsed_s=1.0))),
    ],
)
def test_a_full_disk_is_told_with_the_path(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / name}'"):
        write(tmp_path / name)


def test_stereo_also_writes_taos_spelling_of_the_loss() -> None:
    assert kpi_of({"val/loss": 1.0, "train/loss": 2.0}, "stereo") == {"val/loss": 1.0, "val_loss": 1.0}
    assert kpi_of({"val/loss": 1.0}, "mono") == {"val/loss": 1.0}


def test_the_metrics_log_is_cut_where_training_continues_and_mended_where_it_was_torn(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    reports = [Report(number=0, epoch=epoch, step=epoch, metrics={"val/loss": None}, elapsed_s=0.0) for epoch in (1, 2, 3)]
    for report in reports:
        log.append(report)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"number": 0, "ep')
    log.cut_after(2)
    assert [line["epoch"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]


def told(folder: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Status, message and kpi names of each line of a run."""
    return [(line["status"], line["message"], tuple(line.get("kpi", ()))) for line in lines(folder / "train" / "status.json")]


METRICS = ("val/loss", "val/epe", "val/bp1", "val/bp2", "val/bp3", "val/d1", "val/rmse", "val_loss")
EPOCH = [
    ("RUNNING", "Eval metrics generated.", METRICS),
    ("RUNNING", "Training loop in progress", ()),
    ("RUNNING", "Train metrics generated.", ("train_loss",)),
]


def test_a_training_run_line_by_line(scenes: SampleSet, tmp_path: Path) -> None:
    run_trial(trial(tmp_path, stereo_spec(scenes, resume="auto"), epochs=1), always_continue, parts=parts())
    start, end = ("STARTED", "Starting Depth Net train.", ()), ("RUNNING", "Training loop complete.", ())
    loop, success = ("STARTED", "Starting Training Loop.", ()), ("SUCCESS", "Train finished successfully.", METRICS)
    assert told(tmp_path) == [start, loop, *EPOCH, end, success]
    state = tmp_path / "train" / "model_epoch_000_step_00003.pth"
    run_trial(trial(tmp_path, stereo_spec(scenes, resume="auto"), epochs=2), always_continue, parts=parts())
    resumed = ("RUNNING", f"Resuming training from checkpoint: {state}", ())
    assert told(tmp_path)[7:] == [start, resumed, loop, *EPOCH, end, success]


class Ending(SmallStereo):
    """Ends its first training step with `error`."""

    error: BaseException

    def unroll(self, *args: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (RuntimeError("shape mismatch"), State.FAILED, "Unexpected error: RuntimeError: shape mismatch"),
        (KeyError("left"), State.FAILED, "Unexpected error: KeyError: 'left'"),
        (AssertionError("no"), State.FAILED, "Unexpected error: AssertionError: no"),
        (SystemExit(0), State.FAILED, "Unexpected error: SystemExit: 0"),
        (torch.OutOfMemoryError("CUDA out of memory"), State.FAILED, "Out of memory: "),
        (OSError(28, "No space left on device"), State.FAILED, "File system error: "),
        (DataError("row 7 of list.txt"), State.FAILED, "Data error: row 7 of list.txt"),
        (KeyboardInterrupt(), State.INTERRUPTED, "User/System interruption: "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_however_a_run_breaks_its_last_line_is_a_failure(
    scenes: SampleSet, tmp_path: Path, error: BaseException, state: State, message: str
) -> None:
    Ending.error = error
    result = run_trial(trial(tmp_path, stereo_spec(scenes), epochs=1), always_continue, parts=parts(Ending))
    assert result.state is state
    assert told(tmp_path)[-1][0] == "FAILURE"
    assert told(tmp_path)[-1][1].startswith(message)
