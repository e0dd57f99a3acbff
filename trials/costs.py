"""What a network costs beside what it achieves: the time of a prediction and the count of its numbers.

Both follow from the network alone and not from how long it was trained, so that they are measured once, at the first report of a trial,
and hold for all of it.  The time is taken as deployment sees it: one image (pair) at a time, gradients off, after untimed calls; the
fastest of several calls, because whatever shares the machine only adds to it.  It stays a measurement: two runs differ by some percent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from typing_extensions import override

from search_spaces.objective import LATENCY, PARAMETERS
from search_spaces.spec import Spec
from trials.data import build_dataset, collate
from trials.module import Batch, DepthModule, predict_map

WARM_UP = 2
ROUNDS, FEWEST = 10, 3
BUDGET_S = 10.0  # for slow networks: after it no further call is timed, once there are FEWEST


class CostMeter(pl.Callback):
    """Measures the costs called `names` of the network that a trainer trains; `known` are those of an earlier segment, not measured again.

    Draws no random number of the run and leaves the modes of all modules as they were.
    """

    def __init__(self, names: Sequence[str], *, known: Mapping[str, float | None]) -> None:
        self._found = {name: known[name] for name in names if known.get(name) is not None}
        self._names = tuple(names)
        self._size: tuple[int, int] | None = None

    @override
    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keeps the size of the first image that is validated."""
        self._size = self._size or _size_of(batch)

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps the size of the first training image of a run that validates nothing."""
        if not trainer.limit_val_batches:
            self._size = self._size or _size_of(batch)

    def measured(self, module: DepthModule) -> dict[str, float | None]:
        """The costs by name; called after a validation."""
        if PARAMETERS in self._names and PARAMETERS not in self._found:
            self._found[PARAMETERS] = float(parameter_count(module.model))
        if LATENCY in self._names and LATENCY not in self._found:
            assert self._size is not None, "nothing was validated yet"
            self._found[LATENCY] = prediction_ms(module.model, module.spec.family, self._size)
        return dict(self._found)


def costs_of(network: nn.Module, spec: Spec, names: Sequence[str], *, split: str) -> dict[str, float]:
    """The costs among `names` that need the network alone; it is timed where it is, with the first image of `split` as the size."""
    found = {PARAMETERS: float(parameter_count(network))} if PARAMETERS in names else {}
    if LATENCY in names:
        batch = collate([build_dataset(spec, split, training=False)[0]])
        found[LATENCY] = prediction_ms(network, spec.family, _size_of(batch))
    return found


def parameter_count(network: nn.Module) -> int:
    """How many numbers the network consists of, frozen ones too; those that two layers share count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def prediction_ms(network: nn.Module, family: str, size: tuple[int, int]) -> float:
    """Milliseconds that `network` takes, where it is and in float32, for one image (pair) of `size` (height, width).

    The arithmetic is that of an evaluation, whatever the training uses.
    """
    device = next(network.parameters()).device
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    batch: Batch = {"image": image, "right_image": image}
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return fastest_ms(lambda: predict_map(network, batch, family), finish=_waiter(device))
    finally:
        for module, training in modes.items():
            module.training = training


def fastest_ms(call: Callable[[], object], *, finish: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of `call`, until `finish` returns: the fastest of up to ROUNDS calls after WARM_UP untimed ones."""
    began = clock()
    for _ in range(WARM_UP):
        call()
    finish()
    taken: list[float] = []
    while len(taken) < FEWEST or (len(taken) < ROUNDS and clock() - began < BUDGET_S):
        started = clock()
        call()
        finish()
        taken.append((clock() - started) * 1000.0)
    return min(taken)


def _waiter(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all it was told."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def _size_of(batch: Batch) -> tuple[int, int]:
    height, width = batch["image"].shape[-2:]
    return int(height), int(width)
