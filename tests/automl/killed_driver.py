"""A driver that kills itself with SIGKILL at a chosen point: `python -m tests.automl.killed_driver FOLDER NUMBER EPOCH WHEN`.

WHEN: `reporting` (epoch trained, not yet reported), `answered` (reported, not yet saved), `told` (right after the result).
Creates the study, or goes on with the one that is there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from automl.config import CONFIG_FILE
from automl.engine import run_inline
from automl.events import StudyEvent, TrialEnded
from automl.study import Study
from tests.automl.toy import ToyRun, toy_config
from trials.contract import Decision, ProgressTo, Report, ReportTo, TrialResult, TrialSpec


def die() -> None:
    """End this process as the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingRun(ToyRun):
    """Dies around the report of one epoch of one trial."""

    def __init__(self, number: int, epoch: int, when: str) -> None:
        super().__init__()
        self.point = (number, epoch)
        self.when = when

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def dying(sent: Report) -> Decision:
            here = (sent.number, sent.epoch) == self.point
            if here and self.when == "reporting":
                die()
            decision = report(sent)
            if here and self.when == "answered":
                die()
            return decision

        return super().__call__(trial, dying, progress=progress)


def main(folder: Path, number: int, epoch: int, when: str) -> None:
    """Run until death."""

    def on_event(event: StudyEvent) -> None:
        if when == "told" and isinstance(event, TrialEnded) and event.number == number:
            die()

    study = Study.open(folder) if (folder / CONFIG_FILE).exists() else Study.create(folder, toy_config())
    run_inline(study, run=DyingRun(number, epoch, when), on_event=on_event)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
