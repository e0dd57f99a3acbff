"""Reading a study that somebody else may be running: nothing is locked, mended or written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from automl.config import load_config
from automl.journal import JOURNAL_FILE
from automl.ledger import ledger_of, snapshot_of
from automl.retention import forget_removed
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary
from automl.storage import empty_record, is_run, open_record
from search_spaces.errors import StudyError


def read_snapshot(folder: Path, *, finalists: bool = False, clock: Callable[[], float] = time.time) -> StudySnapshot:
    """The study in `folder` as it stands, or its final (`finalists`); StudyError when there is none.

    A trial that has begun and not ended counts as RUNNING while a driver holds the study, else as WAITING.
    """
    config = load_config(folder)
    folder = folder.resolve()
    if finalists:
        config = replace(config, name=f"{config.name}/finalists", fidelity="full")
    begun = finalists or (folder / "trials").exists()
    unwritten = config.storage is None and not (folder / JOURNAL_FILE).is_file()
    storage = empty_record() if unwritten and not begun else open_record(folder, config, mend=False)
    try:
        ledger = ledger_of(storage, config, clock=clock, create=False)
    except KeyError as error:
        if begun:
            lost = f"{config.storage or JOURNAL_FILE} holds no record of {config.name} in {folder}"
            raise StudyError(lost, hint="put the one back that it began in, or start a new study") from error
        # its driver died before it wrote the first word: nothing is lost, and `automl resume` begins
        ledger = ledger_of(empty_record(), config, clock=clock, create=True)
    forget_removed(ledger, folder, config)
    active = is_run(folder, config, storage)
    for record in ledger.records:
        if active and record.status is TrialStatus.WAITING and record.segments > 0:
            record.status = TrialStatus.RUNNING
    return snapshot_of(folder, config, ledger, active=active, now=clock())


def final_trials(folder: Path) -> tuple[TrialSummary, ...]:
    """The finalists of the study in `folder`, none before its final began."""
    try:
        return read_snapshot(folder, finalists=True).trials
    except StudyError:
        return ()
