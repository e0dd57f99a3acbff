"""What a weight file holds: its tensors and, in our own files, the spec and the progress they belong to.

Files come from strangers, so nothing but tensors and plain numbers is ever rebuilt from them: `torch.load` runs with
`weights_only=True`, `.safetensors` holds no objects at all.  Containers: a flat dict of tensors, `{"model": ...}` or
`{"state_dict": ...}` around one, and Lightning files (TAO's and ours; ours also carry `spec` and `metrics`).
"""

from __future__ import annotations

import errno
import json
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from search_spaces.errors import CheckpointError, nearest

LIGHTNING_KEY = "pytorch-lightning_version"
# what torch.load raises on damaged bytes depends on where the damage lies
_DAMAGE = (
    RuntimeError,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    pickle.UnpicklingError,
    struct.error,
)
_AGAIN = "fetch or copy it again; accepted are .pth, .ckpt and .safetensors"
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
    """The content of one file.  `state_dict` keeps the names of the file; what a file does not say is None."""

    path: Path
    container: Container
    state_dict: Mapping[str, Tensor] = field(repr=False)
    spec: dict[str, Any] | None = None
    epoch: int | None = None
    step: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors (on the CPU) and facts of `path`; CheckpointError when it is missing, damaged, unsafe or something else."""
    _check_path(path)
    if path.suffix == ".safetensors":
        return Checkpoint(path=path, container=Container.FLAT, state_dict=_read_safetensors(path))
    content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, but a weight file holds a dict of tensors", hint=_AGAIN)
    if content.get("state_dict_encrypted"):
        raise CheckpointError(f"{path} is encrypted", hint="export it unencrypted with the program that wrote it")
    container, tensors = _tensors_of(content)
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors (its keys: {', '.join(map(str, list(content)[:8])) or 'none'})", hint=_AGAIN)
    spec, metrics = content.get("spec"), content.get("metrics")
    if container is Container.LIGHTNING and isinstance(spec, Mapping):
        container = Container.OURS
    return Checkpoint(
        path=path,
        container=container,
        state_dict=tensors,
        spec=dict(spec) if isinstance(spec, Mapping) else None,
        epoch=_number(content.get("epoch")),
        step=_number(content.get("global_step")),
        metrics=dict(metrics) if isinstance(metrics, Mapping) else {},
    )


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
        files = [item.name for item in path.parent.iterdir() if item.is_file()] if path.parent.is_dir() else []
        guess = nearest(path.name, files)
        where = (
            f"did you mean {path.parent / guess}?"
            if guess
            else f"the folder {path.parent} " + ("has no such file" if files else "is empty or missing")
        )
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


def _read_torch(path: Path) -> object:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", hint="check that you may read it") from error
    if not start.startswith((b"PK\x03\x04", b"\x80")):
        what = "is empty" if not start else "is not a PyTorch weight file"
        raise CheckpointError(f"{path} {what}", hint=_AGAIN)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # torch's advice on how a stranger's file was pickled
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # torch seeks past the end of a file that is cut short
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}", hint="check that you may read it") from error
        raise _damaged(path) from error
    except _DAMAGE as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            raise CheckpointError(
                f"{path} is refused: besides tensors it holds an object of {wanted[1]}, and rebuilding objects from a file runs its code",
                hint='open it where you trust it and save the tensors alone: torch.save({"state_dict": weights}, "clean.pth")',
            ) from error
        raise _damaged(path) from error


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or cut short", hint="fetch or copy it again and compare its size with the source")


def _numpy_scalars() -> list[Any]:
    """What a pickled NumPy number needs (published FoundationStereo files count their epochs in one); it runs no code."""
    numbers = [type(np.dtype(name)) for name in ("bool", "int32", "int64", "uint8", "float32", "float64")]
    scalar = multiarray.scalar
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *numbers]
