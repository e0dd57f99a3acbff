"""Optimisers, parameter groups and learning-rate laws.

The head of a mono network learns ten times as fast as its encoder, as in Depth Anything V2 (Apache-2.0).  Every law is a
pure function of the optimiser step over the full budget of the run: stopping early or resuming never changes its shape.
Step-counted laws (MultiStepLR, StepLR) count from step 0; the others start after the warm-up and end with the run.  So a
OneCycleLR waits at its first rate, a 25th of the peak, which the warm-up reaches from below, and then runs its whole cycle.
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
ONE_CYCLE_BETA1 = (0.95, 0.85)  # at the ends of the cycle, at its peak
ADAM_BETA1 = 0.9


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

    def beta1(self, step: int) -> float:
        """AdamW's memory of the gradient at `step`: OneCycleLR moves it against the rate, the other laws leave it at 0.9."""
        if self.kind != "OneCycleLR":
            return ADAM_BETA1
        ends, peak = ONE_CYCLE_BETA1
        return _one_cycle(*self._after_warmup(step), start=ends, peak=peak, end=ends)

    def _after_warmup(self, step: int) -> tuple[int, int]:
        """Steps since the warm-up, and how many there are in all."""
        return max(0, step - self.warmup_steps), max(1, self.total_steps - self.warmup_steps)

    def _law(self, step: int, base_lr: float) -> float:
        after, length = self._after_warmup(step)
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
                first = 1.0 / ONE_CYCLE_START
                return _one_cycle(after, length, start=first, peak=1.0, end=first / ONE_CYCLE_END)
        raise SpecError(f"train.optim.lr_scheduler {self.kind!r} is not known", hint="leave it out to take the default")


def make_schedule(spec: Spec, total_steps: int) -> Schedule:
    """The law of `spec` over `total_steps` optimiser steps of the full budget."""
    optim = spec.train.optim
    return Schedule(
        kind=optim.lr_scheduler,
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


def freeze_unused(network: nn.Module) -> None:
    """Freezes the parameters that no output depends on: ranks would wait for their gradients, or have to look for them in each step."""
    unused = network.unused_parameters() if isinstance(network, NamesUnused) else frozenset()
    for name, parameter in network.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)


def make_optimizer(network: nn.Module, spec: Spec) -> torch.optim.Optimizer:
    """AdamW or SGD over `parameter_groups`.  AdamW is the fused one except under fp16, whose loss scaling it would hide."""
    groups, optim = parameter_groups(network, spec), spec.train.optim
    if optim.optimizer == "SGD":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    # on a CPU the fused kernel is 6.5 times faster over the 700 tensors of FoundationStereo
    return torch.optim.AdamW(groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=spec.train.precision != "fp16")


def make_scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule) -> LambdaLR:
    """A scheduler that follows `schedule`, to be stepped once per optimiser step.

    Ratios between groups are kept by every law but CosineAnnealingLR, whose `min_lr` is the end of each group alike.
    """
    return LambdaLR(optimizer, [_law_of(schedule, base_lr=group["lr"]) for group in optimizer.param_groups])


def set_beta1(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    """Gives AdamW the beta1 of `step`; SGD keeps the momentum of its spec."""
    if isinstance(optimizer, torch.optim.AdamW):
        for group in optimizer.param_groups:
            group["betas"] = (schedule.beta1(step), group["betas"][1])


def _law_of(schedule: Schedule, *, base_lr: float) -> Callable[[int], float]:
    # a plain function: LambdaLR would pickle the state of a callable object into the checkpoint
    return lambda step: schedule.factor(step, base_lr=base_lr)


def _one_cycle(step: int, length: int, *, start: float, peak: float, end: float) -> float:
    """The two cosine arcs of PyTorch's OneCycleLR over `length` steps: from `start` to `peak` in 30 % of them, then to `end`."""
    top = ONE_CYCLE_RISE * length - 1
    last = length - 1
    if top > 0 and step <= top:
        return _cosine(start, peak, step / top)
    first = max(top, 0.0)
    return _cosine(peak, end, min(1.0, (step - first) / max(last - first, 1.0)))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
