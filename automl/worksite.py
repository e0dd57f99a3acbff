"""Whether a process on some machine can work on a study: whose code it would run, whether it sees the study folder.

Workers ask before each segment, and nodes of a cluster before a search begins.  Imports little before it has to: a worker pays for it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from automl.mailbox import WorkOrder
from automl.own_code import foreign_code


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with a machine, and the way out."""

    message: str
    hint: str


def digest_of(path: Path) -> str | None:
    """Sixteen hexadecimal digits that stand for the content of `path`, None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def training_fault(order: WorkOrder) -> Fault | None:
    """Why this process cannot train although it sees the study, or None: a package is missing, or Ray has a GPU that torch does not find.

    Imports all that training takes, so it is asked last.
    """
    if order.run is not None:
        return None
    place = os.uname().nodename
    try:
        from trials.layout import visible_gpus
        from trials.run import run_trial  # noqa: F401
    except ImportError as error:
        message = f"trials cannot be run on {place}: {type(error).__name__}: {error}"
        return Fault(message=message, hint="install this project there as it is installed here")
    if order.gpus and not visible_gpus():
        hint = "see what `nvidia-smi` and torch.cuda.is_available() say there, or start Ray there with --num-gpus=0"
        return Fault(message=f"Ray has a GPU for the trial on {place}, but torch finds none", hint=hint)
    return None


def worksite_fault(order: WorkOrder) -> Fault | None:
    """Why this process cannot work on the study of `order`, or None."""
    foreign = foreign_code(order.root, order.code)
    if foreign is not None:
        return Fault(message=foreign, hint="rename that folder, or start the search from another one")
    place = order.study_file.parent
    mount = f"mount the same storage at {place} on every node, or name a folder that they share with --results"
    found = digest_of(order.study_file)
    if found is None:
        return Fault(message=f"{order.study_file} is not there: the study folder is not shared with {os.uname().nodename}", hint=mount)
    if found != order.study_digest:
        return Fault(message=f"{place} on {os.uname().nodename} is another study's folder", hint=mount)
    if not os.access(place, os.W_OK | os.X_OK):
        return Fault(
            message=f"no permission to write in {place} on {os.uname().nodename} as user {os.geteuid()}", hint="run Ray as a user who may"
        )
    if not order.working_folder.is_dir():
        message = f"the folder {order.working_folder}, where relative paths start, is not on {os.uname().nodename}"
        return Fault(message=message, hint="start the search from a folder that every node has")
    return None
