"""Names of the full states in a run's `train/` folder, and how they are removed.  Imports no torch: a search's driver uses it.

The names are those of TAO Toolkit (Apache-2.0), with a 0-based epoch.
"""

from __future__ import annotations

import re
from pathlib import Path

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
