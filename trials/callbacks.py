"""Small Lightning callbacks of a run: who hears SIGTERM, random state in checkpoints, peak memory, progress for a console."""

from __future__ import annotations

import resource
import signal
import threading
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from trials.contract import ProgressEvent, ProgressTo
from trials.ranks import ALONE, Rank
from trials.seeding import random_state, set_random_state

RNG_KEY = "rng"
RNG_OF_RANKS = "rng_of_ranks"
PROGRESS_INTERVAL_S = 0.25
MIB = 2.0**20


class OwnSignals(pl.Callback):
    """Leaves SIGTERM with whom it was when this was made.

    Lightning puts a handler of its own before that one, which ends a run after an epoch by an exception, without its state.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has installed its own by now.  Signals can be caught in the main thread alone."""
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)


class ExactResume(pl.Callback):
    """Stores the random state with every checkpoint and sets it again when training goes on: Lightning does neither."""

    def __init__(self, rank: Rank = ALONE) -> None:
        self._rank = rank
        self._loaded: dict[str, Any] | None = None

    @override
    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the state of all generators, those of other ranks apart."""
        checkpoint[RNG_KEY], *others = self._rank.gather(random_state())
        if others:
            checkpoint[RNG_OF_RANKS] = others

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the stored state for the start: what lies between may still draw numbers.  A rank that was not there begins anew."""
        states = [checkpoint.get(RNG_KEY), *checkpoint.get(RNG_OF_RANKS, [])]
        self._loaded = states[self._rank.number] if self._rank.number < len(states) else None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sets the stored state."""
        if self._loaded is not None:
            set_random_state(self._loaded)
            self._loaded = None


class PeakMemory(pl.Callback):
    """Peak memory of the run in MiB: CUDA allocations, or the process's resident set sampled where activations are largest."""

    def __init__(self) -> None:
        self._peak: float | None = None

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the peak of earlier runs in this process."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Takes a sample: every activation of the step is alive."""
        self._sample(pl_module.device)

    @override
    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Takes a sample."""
        self._sample(pl_module.device)

    def _sample(self, device: torch.device) -> None:
        used = torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else resident_mib()
        self._peak = used if self._peak is None else max(used, self._peak)

    @property
    def peak_mib(self) -> float | None:
        """The largest sample; None before the first step."""
        return self._peak


def resident_mib() -> float:
    """Memory that this process holds now; where psutil is missing, the most it ever held."""
    try:
        import psutil
    except ImportError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return float(psutil.Process().memory_info().rss) / MIB


class ProgressFeed(pl.Callback):
    """Tells `progress` how far the run is, at most four times a second."""

    def __init__(self, progress: ProgressTo, *, number: int, max_epochs: int, total_steps: int) -> None:
        self._progress = progress
        self._number = number
        self._max_epochs = max_epochs
        self._total_steps = total_steps
        self._last_told = float("-inf")
        self._started = time.monotonic()
        self._first_step = 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the remaining time."""
        self._started, self._first_step = time.monotonic(), trainer.global_step

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Tells about training."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self._tell(trainer, "train", float(loss) if self._due() and isinstance(loss, Tensor) else None)

    @override
    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Tells about validation."""
        self._tell(trainer, "validation", None)

    def _due(self) -> bool:
        return time.monotonic() - self._last_told >= PROGRESS_INTERVAL_S

    def _tell(self, trainer: pl.Trainer, phase: Any, loss: float | None) -> None:
        if not self._due():
            return
        now, step = time.monotonic(), trainer.global_step
        done = step - self._first_step
        eta_s = (now - self._started) / done * (self._total_steps - step) if done else None
        self._last_told = now
        self._progress(
            ProgressEvent(
                number=self._number,
                phase=phase,
                epoch=trainer.current_epoch + 1,
                max_epochs=self._max_epochs,
                step=step,
                total_steps=self._total_steps,
                loss=loss,
                eta_s=eta_s,
            )
        )
