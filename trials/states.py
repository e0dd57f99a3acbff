"""Names of the full states in a run's folder, which of them a run continues, and how they are removed.  Imports no torch: a
search's driver uses it.

The names are those of TAO Toolkit (Apache-2.0), with a 0-based epoch.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from search_spaces.errors import CheckpointError, SpecError, shell_word
from search_spaces.spec import Spec

LATEST = "dn_model_latest.pth"
BEST = "best.pth"
_FULL_STATE = re.compile(r"model_epoch_(\d{3,})_step_(\d{5,})\.pth")
NAMED = "train.resume_training_checkpoint_path"


def is_full_state(name: str) -> bool:
    """Whether a file of this name (or path) is a full state."""
    return _FULL_STATE.fullmatch(name.rpartition("/")[2]) is not None


def epoch_of(state: Path) -> int:
    """The last epoch, 0-based, that a full state holds; KeyError for another file."""
    match = _FULL_STATE.fullmatch(state.name)
    if match is None:
        raise KeyError(state.name)
    return int(match[1])


def full_states(folder: Path) -> list[Path]:
    """Every full state in `folder`, oldest first; files that only look alike are not among them."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _FULL_STATE.fullmatch(path.name)) and path.is_file()]
    return [path for _, path in sorted(found, key=lambda pair: (int(pair[0][2]), int(pair[0][1])))]


def steps_saved(folder: Path) -> int:
    """Optimiser steps of the state that a run in `folder` would go on from, 0 where there is none."""
    match = _FULL_STATE.fullmatch((folder / LATEST).resolve().name) if (folder / LATEST).is_file() else None
    return int(match[2]) if match else 0


def hand_over(donor: Path, heir: Path) -> bool:
    """Gives the run in `heir` the newest full state of the run in `donor`; False where there is no state.

    The best weights stay with the donor: what it reached is no result of the heir.  The file is shared where the disk can link it, and
    each run removes its own name alone.  Done twice, it changes nothing.  OSError when the file system refuses.
    """
    state = donor / LATEST
    if not state.is_file():
        return False
    heir.mkdir(parents=True, exist_ok=True)
    own = heir / state.resolve().name
    if not own.exists():
        try:
            own.hardlink_to(state.resolve())
        except OSError:
            partial = own.with_name(f".{own.name}.tmp")
            try:
                shutil.copy2(state, partial)
                partial.replace(own)
            finally:
                partial.unlink(missing_ok=True)
    if not (heir / LATEST).exists():
        (heir / LATEST).symlink_to(own.name)
    return True


def drop_full_states(folder: Path) -> None:
    """Removes the full states in `folder`, what a killed run wrote of one, and the link to the newest; best weights and records stay.

    A run without them cannot be continued.  OSError when the file system refuses.
    """
    (folder / LATEST).unlink(missing_ok=True)
    for path in (*full_states(folder), *folder.glob(".*.pth.tmp")):
        path.unlink(missing_ok=True)


def state_to_resume(spec: Spec, folder: Path) -> Path | None:
    """The full state that a run in `folder` continues as the spec says, None for a run that starts anew.  Writes nothing.

    `train.resume_training_checkpoint_path` names one; otherwise `train.resume` decides about the newest in the folder.
    SpecError where a run lies there that is not to be continued, or where two states are asked for; CheckpointError where
    the state to continue is missing.
    """

    from trials.weight_copies import local_file

    given = spec.train.resume_training_checkpoint_path
    named = local_file(spec, given, key=NAMED) if given else None
    if named is not None and not named.is_file():
        raise CheckpointError(f"{NAMED}={named}: there is no such file", hint=f"a run keeps its newest state as {LATEST}")
    if spec.train.resume == "never":
        inside = named is not None and named.resolve().parent == folder.resolve()
        if _holds_run(folder) and not inside:
            raise SpecError(
                f"{folder} already holds a run, and train.resume is never",
                hint="continue it with train.resume=auto, or choose another results_dir",
            )
        return named
    own = _newest(folder)
    if named is not None and own is not None and own != named.resolve():
        raise SpecError(
            f"two states are to be continued: train.resume={spec.train.resume} finds {own}, {NAMED} names {named}",
            hint=f"leave out {NAMED} to continue the run in {folder}, or choose another results_dir",
        )
    if own is None and named is None and spec.train.resume == "must":
        raise CheckpointError(
            f"train.resume is must, but {folder / LATEST} does not exist", hint="train.resume=auto starts anew in that case"
        )
    return named or own


def _holds_run(folder: Path) -> bool:
    """Whether something of an earlier run would be overwritten."""
    return (folder / LATEST).is_symlink() or any((folder / name).is_file() for name in (LATEST, BEST)) or bool(full_states(folder))


def _newest(folder: Path) -> Path | None:
    """The state that the link names, or without a link (copies often lose it) the newest file; CheckpointError for a stale link."""
    latest, states = folder / LATEST, full_states(folder)
    if latest.exists():
        return latest.resolve()
    if latest.is_symlink():
        way_out = (
            f"the newest that is there: {shell_word(f'{NAMED}={states[-1]}')} train.resume=never"
            if states
            else "remove the link to start anew"
        )
        raise CheckpointError(f"{latest} points to {latest.readlink()}, which is gone", hint=f"{way_out}, or choose another results_dir")
    return states[-1].resolve() if states else None
