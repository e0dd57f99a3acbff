"""Where the record of a study is, and who may write to it: a journal file in its folder, or a database that many machines reach.

The journal is for one machine: the lock on it holds there, and on the few network file systems that pass locks on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from automl.config import StudyConfig
from automl.database import DriverLease, PatientStorage, is_leased, open_database
from automl.journal import DriverLock, is_driven, open_journal


class DriverRight(Protocol):
    """The right to change one study, of one process at a time."""

    def take(self) -> None:
        """Take it; StudyError names who has it."""

    def check(self) -> None:
        """StudyError when it was lost."""

    def release(self) -> None:
        """Give it back; harmless when it is not held."""


def driver_right(folder: Path, config: StudyConfig) -> DriverRight:
    """The right to drive the study in `folder`, not yet taken."""
    if config.storage is None:
        return DriverLock(folder)
    return DriverLease(open_database(config.storage), config.record_name)


def open_record(folder: Path, config: StudyConfig, *, mend: bool) -> BaseStorage:
    """The storage of the study in `folder`.  `mend` is for the holder of the driver's right alone."""
    return open_journal(folder, mend=mend) if config.storage is None else open_database(config.storage)


def empty_record() -> BaseStorage:
    """What to read of a study whose driver died before it wrote its first word."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would tell that it makes one
    return InMemoryStorage()


def is_run(folder: Path, config: StudyConfig, storage: BaseStorage) -> bool:
    """True while some process drives the study."""
    return is_leased(storage, config.record_name) if isinstance(storage, PatientStorage) else is_driven(folder)
