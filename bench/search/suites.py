"""Names on the command line -> tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.search.recorded import TABLES, RecordedTask
from bench.search.synthetic import Split, SyntheticTask
from bench.search.task import Task

COUNT = 12


def find_tasks(suite: str, split: Split) -> Sequence[Task]:
    """The tasks of `suite`: synthetic[+NOOPS][:COUNT], or recorded[:TABLE] (one split); ValueError for another word."""
    recorded = re.fullmatch(r"recorded(?::(\w+))?", suite)
    if recorded is not None:
        return _recorded(recorded[1])
    found = re.fullmatch(r"synthetic(?:\+(\d+))?(?::(\d+))?", suite)
    if found is None:
        raise ValueError(f"unknown tasks {suite!r}; known are synthetic, synthetic+35, synthetic:24, recorded, recorded:TABLE")
    noops, count = int(found[1] or 0), int(found[2] or COUNT)
    return [SyntheticTask(number, split, noops=noops) for number in range(count)]


def _recorded(name: str | None) -> Sequence[Task]:
    tables = sorted(TABLES.glob(f"{name or '*'}.csv"))
    if not tables:
        raise ValueError(f"no recorded table {name or ''} in {TABLES}; python -m bench.search.record makes one")
    return [RecordedTask(table.stem, table) for table in tables]
