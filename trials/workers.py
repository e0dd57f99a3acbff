"""How many processes load data: what the spec asks for, within what this machine and this data set bear.

The spec's default of 8 is TAO's and meant for a GPU server.
"""

from __future__ import annotations

import logging
import multiprocessing
import os

import torch

logger = logging.getLogger(__name__)
# below this a loader process costs more to start than it saves
SMALLEST_SET = 64


def loader_workers(wanted: int, *, samples: int) -> int:
    """Loader processes to use: at most one less than this process may use cores; none inside a daemon.

    Without a GPU a small set gets none either: every core is busy with the network then, and decoded files are kept.
    """
    small = samples < SMALLEST_SET and not torch.cuda.is_available()
    alone = small or multiprocessing.current_process().daemon
    workers = 0 if alone else min(wanted, max(0, usable_cores() - 1))
    if workers != wanted:
        logger.info("%d loader processes instead of %d: %d samples, %d cores", workers, wanted, samples, usable_cores())
    return workers


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
