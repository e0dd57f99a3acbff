"""How many processes load data: what the spec asks for, within what this machine and this data set bear; and how they end.

The spec's default of 8 is TAO's and meant for a GPU server.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import threading
import time
from pathlib import Path

import torch

logger = logging.getLogger(__name__)
# below this a loader process costs more to start than it saves
SMALLEST_SET = 64
_LOOK_S = 1.0


def loader_workers(wanted: int, *, samples: int, ranks: int = 1) -> int:
    """Loader processes to use: at most one less than this process may use cores, which `ranks` processes share; none inside a daemon.

    Without a GPU a small set gets none either: every core is busy with the network then, and decoded files are kept.
    """
    small = samples < SMALLEST_SET and not torch.cuda.is_available()
    alone = small or multiprocessing.current_process().daemon
    workers = 0 if alone else min(wanted, max(0, usable_cores() // ranks - 1))
    if workers != wanted:
        logger.info("%d loader processes instead of %d: %d samples, %d cores", workers, wanted, samples, usable_cores())
    return workers


class EndWithTrainer:
    """Called in a new loader process: lets it end as soon as the process that made this object is gone, also after `kill -9`.

    Torch's own watch looks at the parent.  That is the fork server here, which waits for its children: all would stay for ever.
    """

    def __init__(self) -> None:
        self._trainer = os.getpid()

    def __call__(self, worker: int) -> None:
        """Begin to watch; `worker` is the number that torch gives."""
        threading.Thread(target=_end_with, args=(self._trainer,), name=f"watch-{worker}", daemon=True).start()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def await_end(process: int) -> None:
    """Comes back when the process of that number is gone."""
    try:
        end = os.pidfd_open(process)
    except ProcessLookupError:
        return
    except OSError:  # a sandbox without that call
        while Path(f"/proc/{process}").exists():
            time.sleep(_LOOK_S)
        return
    watch = select.poll()
    watch.register(end, select.POLLIN)  # readable once the process has ended
    watch.poll()
    os.close(end)


def _end_with(process: int) -> None:
    await_end(process)
    os._exit(1)
