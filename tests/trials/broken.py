"""Small networks that fail, wait or go without dropout, on one rank of several."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import distributed

from tests.trials.small import SmallStereo


class Steady(SmallStereo):
    """Without dropout: a step depends on its samples alone, however they are dealt to ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout.p = 0.0


class _AtSecondStepOfRankOne(SmallStereo, ABC):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def unroll(self, *args: Any) -> Any:
        self.steps += 1
        if self.steps == 2 and distributed.get_rank() == 1:
            self.fail()
        return super().unroll(*args)

    @abstractmethod
    def fail(self) -> None:
        """What goes wrong there."""


class NotFinite(_AtSecondStepOfRankOne):
    """A weight becomes NaN, as after a step too far."""

    def fail(self) -> None:
        with torch.no_grad():
            self.second.bias.fill_(float("nan"))


class Hungry(_AtSecondStepOfRankOne):
    """Asks for more memory than there is."""

    def fail(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


class Killed(_AtSecondStepOfRankOne):
    """Is killed as the kernel kills what takes too much memory."""

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Interrupting(_AtSecondStepOfRankOne):
    """Somebody presses Ctrl-C where the leader runs."""

    def fail(self) -> None:
        os.kill(os.getppid(), signal.SIGINT)


class Endless(_AtSecondStepOfRankOne):
    """Computes for ever."""

    def fail(self) -> None:
        time.sleep(3600)
