"""What the devices of this machine can do for a run: their memory, and Lightning's name for the arithmetic that the spec asks for."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from search_spaces.errors import UnsupportedError
from search_spaces.spec import Spec
from trials.layout import as_trained, run_layout, visible_gpus

MIB = 2**20


def total_memory_mib() -> float:
    """Memory of the CUDA device that predictors take, or what this machine (or container) allows where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory / MIB
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MIB
    return min(installed, container_limit_mib() or installed)


def keep_to_share(share: float) -> None:
    """This process takes no more than `share` of the memory of each GPU it sees, so that its hunger is never its neighbour's failure."""
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(share, device)


def container_limit_mib(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The memory limit of the control group this process lives in (version 2, then 1); None without one."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((folder / name).read_text(encoding="ascii")) / MIB
        except (OSError, ValueError):  # no such file, or `max`: no limit
            continue
    return None


def check_device(spec: Spec, *, study: bool = False) -> Spec:
    """`spec` as this machine's devices train it in one run, or in a trial of a study.

    Refuses, before anything is read or written, what they cannot do.
    """
    layout = run_layout(spec, study=study, environ=os.environ, gpus=visible_gpus())
    trained = as_trained(spec, layout)
    lightning_precision(trained, cuda=layout.devices[0].type == "cuda")
    return trained


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
                    hint="use train.precision=fp32 (fsdp computes in 16 bit in any case)",
                )
            return "bf16-mixed"
        case "fp16":
            if not cuda:
                raise UnsupportedError(
                    "train.precision fp16 needs a CUDA device, but this run is on the CPU", hint="use train.precision=fp32"
                )
            return "16-mixed"
    return "32-true"
