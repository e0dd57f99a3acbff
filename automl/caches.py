"""Where libraries keep their caches in a container that gives the user no home: a folder that goes away with the process.

Matplotlib, torch, MLflow and Ray write below the home folder when they are imported.  A container that is run under a user of its own
often has no such folder, one that may not be written, or not even a name for the user.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "depth-automl-"
CACHES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@contextlib.contextmanager
def usable_caches() -> Iterator[None]:
    """While it lasts every library finds a place for its caches; nothing changes for a user whose home can be written.

    What the user set already stays.  Child processes inherit the places.
    """
    home = _home()
    if home is not None and os.access(home, os.W_OK | os.X_OK):
        yield
        return
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as scratch:
        places = {**dict.fromkeys(CACHES, scratch), **before}
        if home is None:
            places["HOME"] = scratch
        os.environ.update(places)
        try:
            yield
        finally:
            for name in places:
                os.environ.pop(name, None)
            os.environ.update(before)


def _home() -> Path | None:
    """The user's home folder; None where there is none, or a path at which nothing is."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in the password file
        return None
    return home if home.is_dir() else None
