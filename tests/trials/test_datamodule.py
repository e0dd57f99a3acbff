"""Orders of training batches and numbers of loader processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading

import psutil
import pytest

from trials.data import EpochSampler
from trials.datamodule import ShareOfBatches, Start, TrainBatches
from trials.ranks import Rank
from trials.workers import SMALLEST_SET, await_end, loader_workers, usable_cores

BATCHES = [[0, 1], [2, 3], [4, 5], [6]]


def batches(*, epoch: int = 0, batch: int = 0) -> TrainBatches:
    return TrainBatches(7, batch_size=2, seed=5, start=Start(epoch=epoch, batch=batch))


def test_ranks_share_the_batches_of_a_single_process() -> None:
    alone = TrainBatches(9, batch_size=4, seed=5, start=Start(epoch=2, batch=1))
    shares = [TrainBatches(9, batch_size=2, seed=5, start=Start(epoch=2, batch=1), rank=Rank(number=number, count=2)) for number in (0, 1)]
    assert [first + second for first, second in zip(*shares, strict=True)] == list(alone)


@pytest.mark.parametrize(("number", "share"), [(0, [[0, 1], [6]]), (1, [[2, 3]]), (2, [[4, 5]])])
def test_batches_to_validate_are_dealt_out_whole(number: int, share: list[list[int]]) -> None:
    mine = ShareOfBatches(BATCHES, Rank(number=number, count=3))
    assert (list(mine), len(mine)) == (share, len(share))


def test_a_rank_without_a_batch_takes_the_first() -> None:
    mine = ShareOfBatches(BATCHES, Rank(number=5, count=6))
    assert (list(mine), len(mine)) == ([[0, 1]], 1)


def test_batches_are_full_and_in_the_order_of_the_epoch() -> None:
    sampler = EpochSampler(7, 5)
    sampler.set_epoch(3)
    order = list(sampler)
    assert list(batches(epoch=3)) == [order[0:2], order[2:4], order[4:6]]
    assert len(batches()) == 3


def test_a_start_in_mid_epoch_holds_for_the_first_pass_alone() -> None:
    ours, whole = batches(epoch=1, batch=2), list(batches(epoch=1))
    assert list(ours) == whole[2:]
    assert list(ours) == whole
    assert len(ours) == 3


def test_epochs_have_different_orders() -> None:
    ours = batches()
    first = list(ours)
    ours.set_epoch(1)
    assert list(ours) != first


@pytest.mark.parametrize("gpu", [False, True])
def test_small_sets_are_loaded_in_the_training_process_unless_a_gpu_waits_for_them(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert loader_workers(8, samples=SMALLEST_SET - 1) == (min(8, usable_cores() - 1) if gpu else 0)


def test_loader_processes_leave_one_core() -> None:
    assert loader_workers(10_000, samples=10**6) == usable_cores() - 1
    assert loader_workers(0, samples=10**6) == 0


LOADING = """
import sys, time, torch
from torch.utils.data import DataLoader, TensorDataset
from trials.workers import EndWithTrainer
processes = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "forkserver"}
batches = iter(DataLoader(TensorDataset(torch.zeros(4)), worker_init_fn=EndWithTrainer(), **processes))
next(batches)
print("loading", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("sandboxed", [False, True])
def test_the_end_of_a_process_is_seen_in_a_sandbox_too(monkeypatch: pytest.MonkeyPatch, sandboxed: bool) -> None:
    def refused(_: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if sandboxed:
        monkeypatch.setattr(os, "pidfd_open", refused)
    monkeypatch.setattr("trials.workers._LOOK_S", 0.01)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:  # ends with its input
        watch = threading.Thread(target=await_end, args=(process.pid,), daemon=True)
        watch.start()
        watch.join(0.1)
        assert watch.is_alive()
    watch.join(120)
    assert not watch.is_alive()


def test_loader_processes_end_with_a_trainer_that_is_killed() -> None:
    with tempfile.TemporaryDirectory() as scratch:  # what is killed leaves its sockets
        environment = {**os.environ, "TMPDIR": scratch}
        trainer = subprocess.Popen([sys.executable, "-c", LOADING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"loading\n"
        loaders = psutil.Process(trainer.pid).children(recursive=True)
        assert loaders
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.wait()
        trainer.stdout.close()
        assert psutil.wait_procs(loaders, timeout=120)[1] == []
