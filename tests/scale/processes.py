"""Which processes of a test are still there: ranks, nodes and what they started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that ended and was not asked for its exit code does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_of(process: psutil.Process) -> int | None:
    """The number of the process that began its session, which orphans keep; None for one that is gone."""
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def ranks_below(leader: int) -> list[psutil.Process]:
    """The ranks among the descendants of a process: Python's own tracker of resources is none, nor is a server of other tests."""
    found = []
    for child in psutil.Process(leader).children(recursive=True):
        try:
            if "multiprocessing.spawn" in " ".join(child.cmdline()):  # that of a zombie is empty
                found.append(child)
        except psutil.Error:  # gone meanwhile
            continue
    return found


def wait_for(condition: Callable[[], bool], *, limit_s: float = 800.0) -> None:
    """Until `condition` holds; fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
