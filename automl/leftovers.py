"""What a finished search leaves on disk: best weights and records of every trial, one full state: that of the best of the full budget."""

from __future__ import annotations

from contextlib import suppress

from automl.snapshot import StudySnapshot, TrialStatus, ranking
from trials.states import drop_full_states


def drop_leftovers(snapshot: StudySnapshot) -> None:
    """Removes the states of ended trials, three times the size of their weights, except those of the best trial of the full budget.

    A file that cannot be removed stays: it is no reason to lose the search.
    """
    ranked = ranking(snapshot.trials, snapshot.config.direction)
    best = next((trial for trial in ranked if trial.status is TrialStatus.COMPLETE), None)
    for trial in snapshot.trials:
        if trial.status.ended and trial is not best:
            with suppress(OSError):
                drop_full_states(trial.folder / "train")
