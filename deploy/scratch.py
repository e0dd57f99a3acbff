"""Where models lie while they are being made: a folder beside their place, in which they have their names and nobody looks for them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

NAME = ".candidate"


@contextlib.contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """`<folder>/.candidate`, empty and on the disk of the results; gone afterwards.

    A run that was killed leaves it behind, up to gigabytes, and the next one into the same `folder` removes it.
    """
    scratch = folder / NAME
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
