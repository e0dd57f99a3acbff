"""What a finished search leaves on disk: best weights and records of every trial, the full state of the best one alone."""

from __future__ import annotations

from contextlib import suppress

from automl.snapshot import StudySnapshot
from trials.states import drop_full_states


def drop_leftovers(snapshot: StudySnapshot) -> None:
    """Removes the states of ended trials, three times the size of their weights, except those of the best trial.

    A file that cannot be removed stays: it is no reason to lose the search.
    """
    for trial in snapshot.trials:
        if trial.status.ended and (snapshot.best is None or trial.number != snapshot.best.number):
            with suppress(OSError):
                drop_full_states(trial.folder / "train")
