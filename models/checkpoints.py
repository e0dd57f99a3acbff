"""What a weight file holds: its tensors and, in our own files, the spec and the progress they belong to.

Files come from strangers, so nothing but tensors and plain data is ever rebuilt from them (`models.pickled`); `.safetensors` holds no
objects at all.  Containers: a flat dict of tensors, `{"model": ...}` or `{"state_dict": ...}` around one, and Lightning files (TAO's
and ours; ours also carry `spec` and `metrics`).  Weights that `depth_net quantize` packed into 8 bits come back as float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from models.packed_weights import PACKED_KEY, unpacked
from models.pickled import AGAIN, read_pickled
from search_spaces.errors import CheckpointError, SpecError, nearest, shell_word
from search_spaces.spec import Spec, spec_from_dict

LIGHTNING_KEY = "pytorch-lightning_version"
CHECKPOINT_ENDINGS = (".pth", ".pt", ".ckpt", ".tlt", ".safetensors")
_FOREIGN = {
    ".onnx": "an ONNX model",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".yaml": "a spec",
    ".json": "a JSON file",
}


class Container(Enum):
    """How the tensors lie in the file."""

    FLAT = "flat"
    WRAPPED = "wrapped"
    LIGHTNING = "lightning"
    OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of one file.  `state_dict` keeps the names of the file; what a file does not say is None.

    `left_out` names the classes of objects that stand beside the tensors and were not rebuilt.
    """

    path: Path
    container: Container
    state_dict: Mapping[str, Tensor] = field(repr=False)
    spec: dict[str, Any] | None = None
    epoch: int | None = None
    step: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors (on the CPU) and facts of `path`; CheckpointError when it is missing, damaged, unsafe or something else."""
    _check_path(path)
    if path.suffix == ".safetensors":
        return Checkpoint(path=path, container=Container.FLAT, state_dict=_read_safetensors(path))
    content, left_out = read_pickled(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, but a weight file holds a dict of tensors", hint=AGAIN)
    if content.get("state_dict_encrypted"):
        raise CheckpointError(
            f"{path} is encrypted: its weights can be read with TAO's key alone, which this program does not take",
            hint="save it without encryption where the key is: in TAO train or finetune without encryption_key",
        )
    container, tensors = _tensors_of(content)
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors (its keys: {', '.join(map(str, list(content)[:8])) or 'none'})", hint=AGAIN)
    if isinstance(content.get(PACKED_KEY), Mapping):
        tensors = unpacked(tensors, content[PACKED_KEY], path)
    spec, metrics = content.get("spec"), content.get("metrics")
    # other programs may keep something of that name too
    spec = dict(spec) if isinstance(spec, Mapping) and "model" in spec else None
    if container is Container.LIGHTNING and spec is not None:
        container = Container.OURS
    return Checkpoint(
        path=path,
        container=container,
        state_dict=tensors,
        spec=spec,
        epoch=_number(content.get("epoch")),
        step=_number(content.get("global_step")),
        metrics=dict(metrics) if isinstance(metrics, Mapping) else {},
        left_out=left_out,
    )


def spec_of(checkpoint: Checkpoint) -> Spec | None:
    """The checked spec that a file of ours carries, None for a file of others; CheckpointError for one that cannot be read here."""
    if checkpoint.spec is None:
        return None
    try:
        return spec_from_dict(checkpoint.spec)
    except SpecError as error:
        raise CheckpointError(
            f"{checkpoint.path} carries a spec that this release cannot read: {error.message}",
            hint=f"take its weights alone: depth_net inspect {shell_word(checkpoint.path)} --write weights.pth",
        ) from error


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int | float | np.integer | np.floating) and np.isfinite(value) else None


def _tensors_of(content: Mapping[Any, Any]) -> tuple[Container, dict[str, Tensor]]:
    for key in ("state_dict", "model", "model_state_dict", "teacher"):
        inner = content.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            container = Container.LIGHTNING if LIGHTNING_KEY in content else Container.WRAPPED
            return container, {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    return Container.FLAT, {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def check_there(path: Path) -> None:
    """Nothing for an existing file, else CheckpointError that names the nearest file of the same folder."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, but a weight file is needed", hint="name the file in it, such as best.pth")
    if not path.is_file():
        if not path.parent.is_dir():
            raise CheckpointError(
                f"weight file {path} does not exist", hint=f"there is no folder {path.parent}; in a container: is it mounted?"
            )
        files = [item.name for item in path.parent.iterdir() if item.is_file()]
        guess, lacking = nearest(path.name, files), "has no such file" if files else "is empty"
        where = f"did you mean {path.parent / guess}?" if guess else f"the folder {path.parent} {lacking}"
        raise CheckpointError(f"weight file {path} does not exist", hint=where)


def _check_path(path: Path) -> None:
    check_there(path)
    if path.suffix in _FOREIGN:
        raise CheckpointError(
            f"{path} is {_FOREIGN[path.suffix]}, but a weight file is needed (.pth, .ckpt, .safetensors)",
            hint="training keeps the best weights as best.pth",
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}", hint="fetch or copy it again") from error
