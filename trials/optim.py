"""Optimisers, parameter groups and learning-rate laws.

The head of a mono network learns ten times as fast as its encoder, as in Depth Anything V2 (Apache-2.0).  Every law is a
pure function of the optimiser step over the full budget of the run: stopping early or resuming never changes its shape.
Step-counted laws (MultiStepLR, StepLR) count from step 0; the others start after the warm-up and end with the run.
OneCycleLR shapes the learning rate alone: the optimiser's momentum stays as it is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from search_spaces.errors import SpecError
from search_spaces.spec import Spec

HEAD_RATIO = 10.0
ENCODER_PREFIX = "pretrained."
ONE_CYCLE_RISE = 0.3  # share of the run spent rising
ONE_CYCLE_START = 25.0  # peak rate over first rate
ONE_CYCLE_END = 1e4  # first rate over last rate


@runtime_checkable
class NamesUnused(Protocol):
    """A network that knows which of its parameters never receive a gradient."""

    def unused_parameters(self) -> frozenset[str]:
        """Full parameter names."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning-rate law of one run: `spec.train.optim` over `total_steps` optimiser steps.

    `warmup_steps` may be shorter than the spec's: a warm-up that would fill more than half of the run is cut to half of it.
    """

    kind: str
    lr: float
    min_lr: float
    milestones: tuple[int, ...]
    step_size: int
    decay: float
    warmup_steps: int
    total_steps: int

    def factor(self, step: int, *, base_lr: float) -> float:
        """The learning rate at `step` (0-based) over `base_lr`, the rate of the parameter group."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return warm * self._law(step, base_lr)

    def _law(self, step: int, base_lr: float) -> float:
        after = max(0, step - self.warmup_steps)
        length = max(1, self.total_steps - self.warmup_steps)
        done = min(1.0, after / length)
        match self.kind:
            case "MultiStepLR":
                return self.decay ** bisect_right(sorted(self.milestones), step)
            case "StepLR":
                return self.decay ** (step // self.step_size)
            case "LambdaLR" | "PolynomialLR":  # both fall linearly to zero: the power of the polynomial is 1
                return 1.0 - done
            case "CosineAnnealingLR":
                floor = min(1.0, self.min_lr / base_lr)
                return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))
            case "OneCycleLR":
                return _one_cycle(after, length)
        raise SpecError(f"train.optim.lr_scheduler {self.kind!r} is not known", hint="leave it out to take the default")


def make_schedule(spec: Spec, total_steps: int) -> Schedule:
    """The law of `spec` over `total_steps` optimiser steps of the full budget."""
    optim = spec.train.optim
    return Schedule(
        kind=optim.lr_scheduler,
        lr=optim.lr,
        min_lr=optim.min_lr,
        milestones=tuple(optim.lr_steps),
        step_size=optim.lr_step_size,
        decay=optim.lr_decay,
        warmup_steps=min(optim.warmup_steps, total_steps // 2),
        total_steps=total_steps,
    )


def parameter_groups(network: nn.Module, spec: Spec) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: encoder and head (10 x lr) for mono, one group for stereo; trainable parameters only.

    Parameters that the network names in `unused_parameters()` (published weights that no output depends on) are left out.
    Raises SpecError when nothing is left to train.
    """
    unused = network.unused_parameters() if isinstance(network, NamesUnused) else frozenset()
    trainable = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad and name not in unused]
    lr = spec.train.optim.lr
    if spec.family == "stereo":
        groups = [{"name": "all", "lr": lr, "params": [parameter for _, parameter in trainable]}]
    else:
        encoder = [parameter for name, parameter in trainable if name.startswith(ENCODER_PREFIX)]
        head = [parameter for name, parameter in trainable if not name.startswith(ENCODER_PREFIX)]
        groups = [{"name": "encoder", "lr": lr, "params": encoder}, {"name": "head", "lr": HEAD_RATIO * lr, "params": head}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise SpecError("the network has no trainable parameter", hint="train.optim and model.* say what is frozen")
    return groups


def make_optimizer(network: nn.Module, spec: Spec) -> torch.optim.Optimizer:
    """AdamW or SGD over `parameter_groups`.  AdamW is the fused one except under fp16, whose loss scaling it would hide.

    SpecError for SGD with a mono network: its encoder does not train with it.
    """
    groups, optim = parameter_groups(network, spec), spec.train.optim
    if optim.optimizer == "SGD":
        if spec.family == "mono":
            raise SpecError(
                "train.optim.optimizer SGD is for stereo networks, but the model is mono", hint="use train.optim.optimizer=AdamW"
            )
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    # on a CPU the fused kernel is 6.5 times faster over the 700 tensors of FoundationStereo
    return torch.optim.AdamW(groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=spec.train.precision != "fp16")


def make_scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule) -> LambdaLR:
    """A scheduler that follows `schedule`, to be stepped once per optimiser step; ratios between groups are kept."""
    return LambdaLR(optimizer, [_law_of(schedule, base_lr=group["lr"]) for group in optimizer.param_groups])


def _law_of(schedule: Schedule, *, base_lr: float) -> Callable[[int], float]:
    # a plain function: LambdaLR would pickle the state of a callable object into the checkpoint
    return lambda step: schedule.factor(step, base_lr=base_lr)


def _one_cycle(step: int, length: int) -> float:
    """PyTorch's OneCycleLR (cosine, 30 % rise, from 1/25 of the peak to 1/250000) as a factor of the peak rate."""
    peak = ONE_CYCLE_RISE * length - 1
    last = length - 1
    start, end = 1.0 / ONE_CYCLE_START, 1.0 / (ONE_CYCLE_START * ONE_CYCLE_END)
    if peak > 0 and step <= peak:
        return _cosine(start, 1.0, step / peak)
    first = max(peak, 0.0)
    return _cosine(1.0, end, min(1.0, (step - first) / max(last - first, 1.0)))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
