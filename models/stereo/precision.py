"""Where reduced precision stops: the parts of FoundationStereo that stay in float32 under autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def fp32_island(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast; does nothing (and leaves no trace in an exported graph) when none is active.

    For volume normalisation, the softmax expectation, lookup coordinates and the disparity itself.
    """
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def reduced(device: torch.device, *, wanted: bool) -> AbstractContextManager[object]:
    """Autocast to bfloat16 if `wanted`; otherwise whatever the caller has set stays.

    bfloat16 on every device: its range is that of float32, and float16 has given NaN in training this network.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()
