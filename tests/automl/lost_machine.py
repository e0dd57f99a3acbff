"""A machine that is lost while it drives a study in an S3 store: `python -m tests.automl.lost_machine URL FOLDER REPORTS`.

Creates the study, or goes on with it, in the working copy FOLDER, and kills itself with SIGKILL after so many reports, wherever the
thread that feeds the store is by then.
"""

from __future__ import annotations

import sys
from pathlib import Path

from automl.config import CONFIG_FILE
from automl.engine import run_inline
from automl.study import Study
from tests.automl.killed_driver import die
from tests.automl.toy import ToyRun, toy_config
from trials import stored_folder
from trials.contract import Decision, ProgressTo, Report, ReportTo, TrialResult, TrialSpec
from trials.stored_folder import StoredFolder


class CountedRun(ToyRun):
    """Dies after its n-th report, before the state of that epoch is saved."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def counted(sent: Report) -> Decision:
            decision = report(sent)
            self.left -= 1
            if not self.left:
                die()
            return decision

        return super().__call__(trial, counted, progress=progress)


def main(url: str, folder: Path, reports: int) -> None:
    """Drives until death."""
    stored_folder.EVERY_S = 0.02
    with StoredFolder(folder, url) as kept:
        study = Study.open(kept.folder) if (kept.folder / CONFIG_FILE).exists() else Study.create(kept.folder, toy_config())
        run_inline(study, run=CountedRun(reports))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
