"""Names of the full states in a run's `train/` folder, and how they are removed.  Imports no torch: a search's driver uses it.

The names are those of TAO Toolkit (Apache-2.0), with a 0-based epoch.
"""

from __future__ import annotations

import re
from pathlib import Path

from search_spaces.errors import CheckpointError, SpecError
from search_spaces.spec import Spec

LATEST = "dn_model_latest.pth"
_FULL_STATE = re.compile(r"model_epoch_\d{3,}_step_\d{5,}\.pth")


def full_states(folder: Path) -> list[Path]:
    """Every full state in `folder`, oldest first; files that only look alike are not among them."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _FULL_STATE.fullmatch(path.name) and path.is_file())


def drop_full_states(folder: Path) -> None:
    """Removes the full states in `folder` and the link to the newest; the best weights and all records stay.

    A run without them cannot be continued.  OSError when the file system refuses.
    """
    (folder / LATEST).unlink(missing_ok=True)
    for path in full_states(folder):
        path.unlink(missing_ok=True)


def check_resume(spec: Spec, folder: Path) -> None:
    """Refuses, before anything is written, what the spec's `train.resume` forbids for a run in `folder`.

    SpecError where a run lies there that is not to be continued, CheckpointError where the one to continue is missing.
    """
    named = spec.train.resume_training_checkpoint_path
    if named:
        if not Path(named).is_file():
            raise CheckpointError(
                f"train.resume_training_checkpoint_path={named}: there is no such file", hint=f"a run keeps its newest state as {LATEST}"
            )
        return
    latest = folder / LATEST
    if spec.train.resume == "never" and latest.exists():
        raise SpecError(
            f"{folder} already holds a run, and train.resume is never",
            hint="continue it with train.resume=auto, or choose another results_dir",
        )
    if spec.train.resume == "must" and not latest.exists():
        raise CheckpointError(f"train.resume is must, but {latest} does not exist", hint="train.resume=auto starts anew in that case")
