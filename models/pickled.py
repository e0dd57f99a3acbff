"""PyTorch files of strangers, read without running anything that they hold.

`torch.load(weights_only=True)` rebuilds tensors and plain data and refuses every other class.  Lightning files of other programs may
keep their settings as objects (an OmegaConf spec, an enum, a path).  Those are replaced by `Inert`, which takes any argument and does
nothing, as long as their class belongs to a package that is known to leave such settings; any other class refuses the whole file.
"""

from __future__ import annotations

import errno
import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from search_spaces.errors import CheckpointError

AGAIN = "fetch or copy it again; accepted are .pth, .pt, .ckpt, .tlt and .safetensors"
_TLT = "an encrypted .tlt cannot be read: save it without encryption where its key is"
# settings of a training run, never code: nothing of these packages is imported or called
_SETTINGS = re.compile(
    r"(omegaconf|nvidia_tao_core|nvidia_tao_pytorch|pytorch_lightning|lightning|lightning_fabric|lightning_utilities|typing|enum|pathlib"
    r"|argparse|numpy)\..+|collections\.defaultdict|builtins\.(dict|list|tuple|int|float|str|bool|type|object)|operator\.getitem"
)
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


class Inert:
    """Stands for an object that was not rebuilt: whatever it is given is dropped."""

    def __new__(cls, *_: object) -> Inert:
        """One more placeholder."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        """Nothing is kept."""

    def __setstate__(self, _: object) -> None:
        """Nothing is kept."""


def _plain_dict(*_: object) -> dict[object, object]:
    """In place of a dict with a factory: its items follow one by one and need a real dict."""
    return {}


def read_pickled(path: Path) -> tuple[object, tuple[str, ...]]:
    """The content of a PyTorch file, tensors on the CPU, and the classes in it that were left out; CheckpointError for any other file."""
    zipped = _check_start(path)
    try:
        return _load(path, mapped=zipped, inert=()), ()
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None or not zipped:
            raise _refused(path, wanted[1]) if wanted else _damaged(path) from error
    except _DAMAGE as error:
        raise _damaged(path) from error
    return _without_settings(path)


def _without_settings(path: Path) -> tuple[object, tuple[str, ...]]:
    """`read_pickled` for a file with objects of other classes."""
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            classes = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        strange = [name for name in classes if not _SETTINGS.fullmatch(name)]
        if strange:
            raise _refused(path, strange[0])
        return _load(path, mapped=True, inert=tuple(classes)), tuple(classes)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise _refused(path, "a kind that cannot be left out") from error


def _load(path: Path, *, mapped: bool, inert: tuple[str, ...]) -> object:
    known = [*_numpy_scalars(), *((_plain_dict if name == "collections.defaultdict" else Inert, name) for name in inert)]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(known):
            warnings.simplefilter("ignore")  # torch's advice on how a stranger's file was pickled
            # mapped: a check reads names and shapes of a file of gigabytes without its numbers
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            return content
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # torch seeks past the end of a file that is cut short
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}", hint="check that you may read it") from error
        raise _damaged(path) from error
    except RuntimeError as error:
        if "allocate memory" in str(error).lower():  # the file itself may be sound
            raise MemoryError(str(error)) from error
        raise


def _check_start(path: Path) -> bool:
    """Whether the file is a zip archive, as PyTorch writes; CheckpointError when it is no PyTorch file at all."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", hint="check that you may read it") from error
    if not start.startswith((b"PK\x03\x04", b"\x80")):
        what = "is empty" if not start else "is not a PyTorch weight file"
        raise CheckpointError(f"{path} {what}", hint=_TLT if path.suffix == ".tlt" and start else AGAIN)
    return start.startswith(b"PK")


def _damaged(path: Path) -> CheckpointError:
    if path.suffix == ".tlt":
        return CheckpointError(f"{path} is encrypted, damaged or cut short", hint=_TLT)
    return CheckpointError(f"{path} is damaged or cut short", hint="fetch or copy it again and compare its size with the source")


def _refused(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is refused: besides tensors it holds an object of {what}, and rebuilding objects from a file runs its code",
        hint='open it where you trust it and save the tensors alone: torch.save({"state_dict": weights}, "clean.pth")',
    )


def _numpy_scalars() -> list[Any]:
    """What a pickled NumPy number needs (published FoundationStereo files count their epochs in one); it runs no code."""
    numbers = [type(np.dtype(name)) for name in ("bool", "int32", "int64", "uint8", "float32", "float64")]
    scalar = multiarray.scalar
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *numbers]
