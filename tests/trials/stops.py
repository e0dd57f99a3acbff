"""Two ranks that are told to end at random moments, over and over: `random_stops`."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import socket
import time
import warnings
from pathlib import Path

import torch
from torch import distributed

from tests.trials.small import parts, stereo_spec, trial
from trials.contract import Decision, Report
from trials.data.sample import write_samples
from trials.failures import Interrupted
from trials.layout import Layout
from trials.rank_process import end_with_leader
from trials.ranks import Rank, connected
from trials.segment import Channels, Known, resolved_spec, train
from trials.status import StatusWriter

LAYOUT = Layout(devices=(torch.device("cpu"),) * 2)
EPOCHS = 4
ASKED = 3 * EPOCHS  # how often a run asks whether it shall end: after each step


class After:
    """A stop that is requested after `moments` questions; None is never."""

    def __init__(self, moments: int | None) -> None:
        self._left = moments

    @property
    def requested(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


def random_stops(count: int, folder: Path, *, limit_s: float) -> list[str]:
    """How each of `count` runs ended: its state, or where it stopped; fails when ranks disagree or are not done after `limit_s`."""
    write_samples(folder / "scenes", scenes=9, seed=1, height=64, width=96, max_disparity=32)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    store = distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_run_rank, args=(local, port, count, str(folder))) for local in range(2)]
    until_s = time.monotonic() + limit_s
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(max(0.0, until_s - time.monotonic()))
        assert [rank.exitcode for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
        del store
    ends: list[str] = json.loads((folder / "ends.json").read_text())
    return ends


def _run_rank(local: int, port: int, count: int, folder: str) -> None:
    end_with_leader()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    ends = []
    with connected(LAYOUT.rank(local), address="127.0.0.1", port=port, device=torch.device("cpu")) as rank:
        for number in range(count):
            end = _one(rank, number, Path(folder))
            both = rank.gather(end)
            assert both[0] == both[1], (number, both)
            ends.append(end)
        if rank.first:
            (Path(folder) / "ends.json").write_text(json.dumps(ends))
    os._exit(0)  # as a rank does: threads of torch that are still there at the end of Python may abort it


def _one(rank: Rank, number: int, folder: Path) -> str:
    """One run: a third of them by a request to one of the ranks, a third each by an answer to a report; half of them share the weights."""
    draw = random.Random(number)
    kind, epoch, told, moments = number % 3, draw.randint(1, EPOCHS), draw.randrange(2), draw.randrange(ASKED)
    answer = (Decision.CONTINUE, Decision.PAUSE, Decision.STOP)[kind]

    def report(sent: Report) -> Decision:
        return answer if sent.epoch == epoch else Decision.CONTINUE

    stop = After(moments if kind == 0 and told == rank.number else None)
    scenes = write_samples(folder / "scenes", scenes=9, seed=1, height=64, width=96, max_disparity=32)
    spec = stereo_spec(scenes, distributed_strategy=("ddp", "fsdp")[number // 3 % 2])
    spec["dataset"]["train_dataset"]["batch_size"] = 1
    work = trial(folder / "run", spec, epochs=EPOCHS, study="s")
    work.train_folder.mkdir(parents=True, exist_ok=True)
    known = Known(status=StatusWriter(None), spec=resolved_spec(work))
    channels = Channels(report=report, progress=None, stop=stop)
    try:
        return train(work, channels, parts=parts(), rank=rank, devices=LAYOUT.devices, known=known).value
    except Interrupted as error:
        return str(error)
