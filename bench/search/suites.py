"""Names on the command line -> tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.search.synthetic import Split, SyntheticTask
from bench.search.task import Task

COUNT = 12


def find_tasks(suite: str, split: Split) -> Sequence[Task]:
    """The tasks of `suite`: synthetic[+NOOPS][:COUNT]; ValueError for another word."""
    found = re.fullmatch(r"synthetic(?:\+(\d+))?(?::(\d+))?", suite)
    if found is None:
        raise ValueError(f"unknown tasks {suite!r}; known are synthetic, synthetic+35, synthetic:24")
    noops, count = int(found[1] or 0), int(found[2] or COUNT)
    return [SyntheticTask(number, split, noops=noops) for number in range(count)]
