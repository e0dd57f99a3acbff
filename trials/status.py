"""Records of a run that other programs read: status.json (TAO's line format), metrics.jsonl and result.json.

Line format and messages of status.json are those of TAO Toolkit (tao-core, Apache-2.0), mended: every line is valid JSON
(a missing or non-finite number is null), a kpi stands only on the line it was measured for, and the last line of a run
says SUCCESS or FAILURE.  One process writes these files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from search_spaces.writing import replace_text
from trials.contract import Cause, Failure, Report, TrialResult, report_from_json, report_to_json, result_to_json

Status = Literal["STARTED", "RUNNING", "SUCCESS", "FAILURE"]
PREFIXES: Mapping[Cause, str] = {
    Cause.OOM: "Out of memory",
    Cause.NAN: "Non-finite value",
    Cause.COLLAPSE: "Collapsed prediction",
    Cause.DATA: "Data error",
    Cause.SPEC: "Parameter validation error",
    Cause.CRASH: "Unexpected error",
    Cause.TIMEOUT: "Time limit",
    Cause.INFRASTRUCTURE: "File system error",
}


class StatusWriter:
    """Appends lines to one status.json, creating it and its folder when needed; each line is on disk when the call returns.

    `begun` says whether this writer has written.  Without a path it writes nothing: one rank of a run writes, the others do not.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.begun = False

    def write(self, status: Status, message: str, *, kpi: Mapping[str, float | None] | None = None) -> None:
        """One line; `kpi` numbers are written as they are named, null where they are missing or not finite."""
        self._append({} if kpi is None else {"kpi": finite(kpi)}, status, message)

    def epoch(self, *, done: int, max_epochs: int, epoch_s: float) -> None:
        """The line of a finished epoch (`done` epochs so far): TAO counts from 0, times are H:MM:SS texts."""
        fields = {
            "epoch": done - 1,
            "max_epoch": max_epochs - 1,
            "time_per_epoch": str(timedelta(seconds=epoch_s)),
            "eta": str(timedelta(seconds=epoch_s * (max_epochs - done))),
        }
        self._append({}, "RUNNING", "Training loop in progress", before=fields)

    def failure(self, failure: Failure) -> None:
        """The last line of a failed run."""
        self.write("FAILURE", f"{PREFIXES[failure.cause]}: {failure.message}")

    def _append(self, after: Mapping[str, Any], status: Status, message: str, *, before: Mapping[str, Any] | None = None) -> None:
        if self._path is None:
            return
        now = datetime.now()
        line = {
            **(before or {}),
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": "INFO",
            "message": message,
            **after,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        before_this, self.begun = self.begun, True  # before the file is there: a signal may come right after
        try:
            _add_line(self._path, line)
        except OSError:
            self.begun = before_this
            raise


def kpi_of(metrics: Mapping[str, float | None], family: str) -> dict[str, float | None]:
    """The `val/*` numbers of `metrics`; for stereo also `val_loss`, the spelling that TAO writes."""
    kpi = {name: value for name, value in metrics.items() if name.startswith("val/")}
    if family == "stereo" and "val/loss" in kpi:
        kpi["val_loss"] = kpi["val/loss"]
    return kpi


def finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """`metrics` with None in place of numbers that are not finite."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}


class MetricsLog:
    """metrics.jsonl: one report a line, in order of epochs.  Without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def append(self, report: Report) -> None:
        """Adds a line."""
        if self._path is not None:
            _add_line(self._path, report_to_json(report))

    def cut_after(self, epoch: int) -> None:
        """Drops reports of later epochs, which a resumed run trains again, and a line torn by a kill."""
        if self._path is None or not self._path.is_file():
            return
        kept = [
            report for line in self._path.read_text(encoding="utf-8").splitlines() if (report := _report(line)) and report.epoch <= epoch
        ]
        replace_text(self._path, "".join(json.dumps(report_to_json(report)) + "\n" for report in kept))


def write_result(path: Path, result: TrialResult) -> None:
    """result.json, all or nothing."""
    replace_text(path, json.dumps(result_to_json(result), indent=2, default=str) + "\n")


def _add_line(path: Path, data: Mapping[str, Any]) -> None:
    """Adds a line of JSON, whole or not at all; OSError with the path when the disk refuses."""
    end = path.stat().st_size if path.is_file() else 0
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data, allow_nan=False) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, end)  # a full disk takes half a line, which no reader understands
        raise OSError(error.errno, error.strerror, str(path)) from error


def _report(line: str) -> Report | None:
    try:
        return report_from_json(json.loads(line))
    except (ValueError, TypeError):
        return None
