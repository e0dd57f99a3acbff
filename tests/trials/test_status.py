"""Lines of status.json and metrics.jsonl."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trials.contract import Cause, Failure, Report
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
