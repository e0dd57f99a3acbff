"""Where the trials of a search run: how many devices each has and how many run at once, on this machine or on a cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

from automl.console import count_text
from automl.resolve import RunRequest
from search_spaces.errors import StudyError, UnsupportedError
from search_spaces.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`gpus` and `cpus` (None: this machine's cores by the number of trials) of one trial, trials at once, and all of it in words."""

    gpus: float
    cpus: float | None
    parallel: int
    text: str


def placed(request: RunRequest, spec: Spec, *, parallel: int | None, cpus: float | None) -> Placement:
    """Where the trials of `request` run, with `parallel` trials at once and `cpus` cores a trial as the settings say (None: unsaid).

    StudyError or UnsupportedError for what is not there.  A cluster is asked what it holds now; more trials at once than that are
    allowed there, because nodes may join.
    """
    if request.address is None:
        gpus = _gpus_here(request, spec)
        return Placement(gpus=gpus, cpus=None, parallel=_parallel_here(parallel, gpus), text=device_text(gpus))
    from automl.cluster import describe, describe_nodes, look, room, trial_resources

    present = look(request.address)
    there = max((node.gpus for node in present), default=0.0)
    gpus = _gpus_of(spec, there=math.floor(there)) if request.gpus_per_trial is None else request.gpus_per_trial
    resources = trial_resources(present, gpus=gpus, cpus=cpus)
    fits = room(present, resources)
    text = f"the cluster at {request.address} ({describe_nodes(present)}; room for {fits} now): {describe(resources)} a trial"
    return Placement(gpus=gpus, cpus=resources["CPU"], parallel=parallel or fits, text=text)


def device_text(gpus_per_trial: float) -> str:
    """The device of a trial on this machine in words."""
    import torch

    from trials.workers import usable_cores

    if not gpus_per_trial:
        return f"CPU ({count_text(usable_cores(), 'core')})"
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "GPU"
    return f"{gpus_per_trial:g} of {torch.cuda.device_count()} GPUs ({name}) a trial"


def has_gpu() -> bool:
    """Whether this machine has a CUDA device for us."""
    import torch

    return torch.cuda.is_available()


def _gpus_here(request: RunRequest, spec: Spec) -> float:
    """Devices of one trial: what was asked for, else what the spec says; none on a machine without any."""
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not request.gpus_per_trial:
        return _gpus_of(spec, there=there if request.gpus_per_trial is None else 0)
    if request.gpus_per_trial > there:
        raise StudyError(f"--gpus-per-trial {request.gpus_per_trial:g}, but this machine has {there}", hint="lower it; 0 trains on the CPU")
    return request.gpus_per_trial


def _gpus_of(spec: Spec, *, there: int) -> int:
    """Devices of one trial as the spec says; a single one may be missing, and is then the CPU."""
    wanted = spec.train.num_gpus
    if wanted > max(1, there):
        raise UnsupportedError(
            f"train.num_gpus is {wanted}, but a trial would find {there or 'no'} GPUs", hint=f"set train.num_gpus={max(1, there)}"
        )
    return min(wanted, there)


def _parallel_here(asked: int | None, gpus_per_trial: float) -> int:
    """Trials at once: what was asked for, as far as there are GPUs for it."""
    slots = slots_here(gpus_per_trial)
    if asked is not None and gpus_per_trial and asked > slots:
        raise StudyError(
            f"{asked} trials at once need {asked * gpus_per_trial:g} GPUs, but this machine has room for {slots}",
            hint=f"lower --parallel (automl_max_concurrent) to {slots}",
        )
    return asked or slots


def slots_here(gpus_per_trial: float) -> int:
    """Trials at once on this machine: one per group of GPUs, as many on a GPU as its shares allow, or one per two cores."""
    import torch

    from trials.workers import usable_cores

    if not gpus_per_trial:
        return max(1, usable_cores() // 2)
    count = torch.cuda.device_count()
    if gpus_per_trial < 1:
        return max(1, count * int(1 / gpus_per_trial + 1e-9))  # a trial lies on one GPU
    return max(1, int(count // gpus_per_trial))
