"""Weight-only quantisation of a checkpoint: torchao rounds the weights of Linear layers, the file keeps 8 bits and a scale for each row.

The numbers are torchao's (`quantize_` with Int8WeightOnlyConfig or Float8WeightOnlyConfig, BSD-3-Clause,
https://docs.pytorch.org/ao/stable/); the file holds plain tensors instead of its classes, so that reading it runs nothing of a stranger's
and needs no torchao (`models.packed_weights`).
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploy.quantize_rules import Part, Rule, chosen
from models.checkpoints import LIGHTNING_KEY, read_checkpoint
from models.packed_weights import KINDS, PACKED_KEY, packed
from search_spaces.errors import UnsupportedError
from search_spaces.spec import Spec, spec_to_dict

BACKEND = "torchao"
WEIGHTS, ACTIVATIONS = (*KINDS, "native"), ("native",)
ALGORITHMS = ("minmax", "max")
_TALKERS = ("torchao", "torch.utils._pytree")


def check_installed() -> None:
    """UnsupportedError without torchao."""
    if importlib.util.find_spec(BACKEND) is None:
        raise UnsupportedError("quantize.backend torchao needs torchao, which is not installed", hint="pip install -e '.[quant]'")


def parts_of(network: nn.Module) -> tuple[list[Part], Counter[str]]:
    """The Linear layers of `network`, and how many modules of each class it has."""
    modules = [(name, module) for name, module in network.named_modules() if name]
    parts = [Part(name=name, kind=type(module).__name__) for name, module in modules if isinstance(module, nn.Linear)]
    return parts, Counter(type(module).__name__ for _, module in modules)


def pack_network(network: nn.Module, kinds: Mapping[str, str]) -> dict[str, Tensor]:
    """The state dict of `network` with the weights of the layers in `kinds` (layer name -> kind of number) packed; it stays as it was."""
    tensors = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    with _quiet():
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

        for kind in dict.fromkeys(kinds.values()):
            config: Any = (
                Int8WeightOnlyConfig(set_inductor_config=False) if kind == "int8" else Float8WeightOnlyConfig(weight_dtype=KINDS[kind])
            )
            for name in (name for name, wanted in kinds.items() if wanted == kind):
                # one layer at a time: a copy of the whole network would double the memory
                layer = nn.Sequential(copy.deepcopy(network.get_submodule(name)).cpu().float().requires_grad_(False))
                quantize_(layer, config)
                held: Any = layer[0].weight
                tensors |= packed(f"{name}.weight", held.qdata, held.scale)
    return tensors


def choose_layers(network: nn.Module, spec: Spec, rules: Sequence[Rule]) -> dict[str, str]:
    """The Linear layers of `network` that the spec's rules name, each with its kind of number; SpecError for none."""
    parts, all_kinds = parts_of(network)
    return chosen(parts, rules, spec.quantize.skip_names, all_kinds=all_kinds)


def write_packed(network: nn.Module, kinds: Mapping[str, str], source: Path, spec: Spec, target: Path) -> int:
    """Writes `network`, loaded from `source`, with the layers in `kinds` packed to `target`, whole or not at all; bytes of its tensors.

    The file is a weights-only checkpoint as training writes them, with the spec of `source` where that has one.
    """
    content = read_checkpoint(source)
    tensors = {f"model.{name}": value for name, value in pack_network(network, kinds).items()}
    data = {
        LIGHTNING_KEY: version("pytorch-lightning"),
        "epoch": content.epoch,
        "global_step": content.step,
        "metrics": dict(content.metrics),
        "state_dict": tensors,
        PACKED_KEY: {f"model.{name}.weight": kind for name, kind in kinds.items()},
        "spec": content.spec or spec_to_dict(spec),
    }
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        torch.save(data, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return sum(value.numel() * value.element_size() for value in tensors.values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchao says at import which of its GPU kernels it could not load, and torch what it thinks of torchao: neither concerns the user."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
