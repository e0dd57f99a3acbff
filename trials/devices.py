"""Which device a run takes, and Lightning's name for the arithmetic that the spec asks for there."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from search_spaces.errors import SpecError, UnsupportedError
from search_spaces.spec import Spec

MIB = 2**20


def cuda_device(spec: Spec) -> int | None:
    """The CUDA device of a run, None for the CPU; SpecError when `train.gpu_ids` names one that is not there."""
    if not torch.cuda.is_available():
        return None
    gpu, visible = spec.train.gpu_ids[0] if spec.train.gpu_ids else 0, torch.cuda.device_count()
    if gpu >= visible:
        seen = "GPU 0 is visible" if visible == 1 else f"GPUs 0 to {visible - 1} are visible"
        raise SpecError(
            f"train.gpu_ids names GPU {gpu}, but only {seen}", hint="GPUs count from 0, within CUDA_VISIBLE_DEVICES if it is set"
        )
    return gpu


def total_memory_mib() -> float:
    """Memory of the CUDA device that predictors take, or what this machine (or container) allows where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory / MIB
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MIB
    return min(installed, container_limit_mib() or installed)


def container_limit_mib(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The memory limit of the control group this process lives in (version 2, then 1); None without one."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((folder / name).read_text(encoding="ascii")) / MIB
        except (OSError, ValueError):  # no such file, or `max`: no limit
            continue
    return None


def check_device(spec: Spec) -> None:
    """Refuses, before anything is read or written, what this machine's device cannot do for `spec`."""
    lightning_precision(spec, cuda=cuda_device(spec) is not None)


def lightning_precision(spec: Spec, *, cuda: bool) -> str:
    """`32-true`, `bf16-mixed` or `16-mixed`; UnsupportedError where the device cannot do what `train.precision` says.

    Which network takes which arithmetic is a rule of the spec itself.
    """
    match spec.train.precision:
        case "bf16":
            if cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
                name = torch.cuda.get_device_name()
                raise UnsupportedError(
                    f"train.precision bf16 needs compute capability 8.0 (Ampere) or later, but {name} is older",
                    hint="use train.precision=fp32",
                )
            return "bf16-mixed"
        case "fp16":
            if not cuda:
                raise UnsupportedError(
                    "train.precision fp16 needs a CUDA device, but this run is on the CPU", hint="use train.precision=fp32"
                )
            return "16-mixed"
    return "32-true"
