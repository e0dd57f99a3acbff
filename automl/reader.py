"""Reading a study that somebody else may be running: nothing is locked, mended or written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from automl.config import load_config
from automl.ledger import ledger_of, snapshot_of
from automl.retention import forget_removed
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary
from automl.storage import is_run, open_record
from search_spaces.errors import StudyError, shell_word


def read_snapshot(folder: Path, *, finalists: bool = False, clock: Callable[[], float] = time.time) -> StudySnapshot:
    """The study in `folder` as it stands, or its final (`finalists`); StudyError when there is none.

    A trial that has begun and not ended counts as RUNNING while a driver holds the study, else as WAITING.
    """
    config = load_config(folder)
    folder = folder.resolve()
    if finalists:
        config = replace(config, name=f"{config.name}/finalists", fidelity="full")
    storage = open_record(folder, config, mend=False)
    try:
        ledger = ledger_of(storage, config, clock=clock, create=False)
    except KeyError as error:
        raise StudyError(
            f"{folder} holds no study named {config.name} yet", hint=f"`automl resume {shell_word(folder)}` continues it"
        ) from error
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
