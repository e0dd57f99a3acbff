"""Weights of a file that holds them in 8 bits with one scale for each row; they are float32 again as soon as they are read.

Layout: `<name>` (int8, float8_e4m3fn or float8_e5m2, out x in) beside `<name>_scale` (float32, out x 1); weight = value * scale.
Plain tensors, so that the file is read like any other and every action takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from search_spaces.errors import CheckpointError

PACKED_KEY = "quantized"  # of the file: kind of number by the name of a packed tensor
SCALE_ENDING = "_scale"
KINDS = {"int8": torch.int8, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


def packed(name: str, values: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """The two tensors that stand for the weight `name` (out x in): its 8-bit `values` and a `scale` for each row (out x 1)."""
    assert scale.shape == (values.shape[0], 1), (name, scale.shape)
    return {name: values, f"{name}{SCALE_ENDING}": scale.float()}


def unpacked(tensors: Mapping[str, Tensor], kinds: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """`tensors` of the file `path` without the scales, every weight named in `kinds` in float32.

    CheckpointError where values and scales are not what `kinds` says.
    """
    plain = dict(tensors)
    for name, kind in kinds.items():
        values, scale = plain.get(name), plain.pop(f"{name}{SCALE_ENDING}", None)
        if values is None or scale is None or values.dtype != KINDS.get(str(kind)) or scale.shape != (*values.shape[:1], 1):
            raise CheckpointError(
                f"{path}: {name} should be {kind} values with a scale for each row, but is not", hint="quantise the checkpoint again"
            )
        plain[name] = values.float() * scale
    return plain
