"""Writing study.yaml anew for a study that nobody runs: more trials, other limits, another cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from automl.config import StudyConfig, load_config, save_config
from automl.storage import driver_right
from search_spaces.errors import StudyError


def amend(folder: Path, before: StudyConfig, after: StudyConfig) -> None:
    """Writes `after` in the place of `before`; StudyError when the study is being run, or was changed since `before` was read."""
    lock = driver_right(folder, before)
    lock.take()
    try:
        if load_config(folder) != before:
            raise StudyError(f"{folder} was changed by another process in the meantime", hint="run the command again")
        save_config(after, folder)
    finally:
        lock.release()


def moved(config: StudyConfig, address: str) -> StudyConfig:
    """The study on the Ray cluster at `address`, with the cores of a trial and the trials at once that it has, as far as they fit there.

    StudyError when nobody answers at `address`.
    """
    from automl.cluster import look, room, trial_resources

    present = look(address)
    resources = trial_resources(present, gpus=config.gpus_per_trial, cpus=config.cpus_per_trial)
    parallel = config.parallel if config.address is not None else room(present, resources)
    return replace(config, engine="ray", address=address, cpus_per_trial=resources["CPU"], parallel=min(config.trials, parallel))
