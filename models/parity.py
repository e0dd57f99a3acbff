"""Do our networks answer as the published ones?  `python -m models.parity FOLDER` runs every case of a parity folder.

A case is `<name>.npz` (the published network's answers) beside `<name>.keys.json` (its state dict: name -> shape).  Its name says the
rest: `dav2_relative_<encoder>_HxW`, `dav2_metric<max_depth>_<encoder>_HxW`, `edgenext_small_HxW`,
`foundation_stereo[_tao]_<encoder>_HxW_d<max_disparity>`; batch size and iterations are those of the arrays.  Weights and images follow
from names alone: every tensor is drawn from a generator seeded with its published name.  Nothing in the folder is executed.

Exit code: 0 when all cases agree, 1 when one differs or cannot be run, 2 when there is nothing to run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.backbones.dinov2 import ENCODERS
from models.backbones.edgenext import EdgeNeXt
from models.checkpoints import Checkpoint, Container
from models.layers.imagenet import normalise
from models.mono.depth_anything import DepthAnything
from models.stereo.foundation_stereo import FoundationStereo
from models.weights import load_checkpoint
from search_spaces.errors import UserError

Array = npt.NDArray[np.float32]

RANGE_TOLERANCE = 1e-4  # mono and EdgeNeXt: share of the array's range
INITIAL_TOLERANCE_PX = 1e-4
SEQUENCE_TOLERANCE_PX = 1e-3
_NAME = re.compile(
    r"(?P<kind>dav2_relative|dav2_metric(?P<max_depth>\d+(?:\.\d+)?)|edgenext_small|foundation_stereo(?P<tao>_tao)?)"
    r"(?:_(?P<encoder>[a-z]+))?_(?P<height>\d+)x(?P<width>\d+)(?:_d(?P<disparity>\d+))?"
)
# how far the content of the right image lies to the left, by image size; cases of 96 rows have one value for all widths
_SHIFTS = {(128, 160): 12.0, (128, 192): 16.0, (192, 256): 30.0}
_SHIFT_OF_96_ROWS = 20.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One published network at one size, and what it answered."""

    name: str
    network: str
    encoder: str | None
    max_depth: float | None
    variant: str
    height: int
    width: int
    max_disparity: int | None
    shapes: Mapping[str, tuple[int, ...]]
    expected: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a case ended.  `errors` is the largest difference of each array, `reason` why it could not be compared."""

    name: str
    passed: bool
    tensors: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    reason: str | None = None
    elapsed_s: float = 0.0

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        if self.reason is not None:
            return f"{verdict} {self.name}: {self.reason}"
        worst = ", ".join(f"{array} {error:.1e}" for array, error in self.errors.items())
        return f"{verdict} {self.name}: {self.tensors} tensors, largest error {worst} {self.unit} ({self.elapsed_s:.1f} s)"


def weight(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """The case's value of the tensor published as `name`: float32, or int64 zeros for a step counter."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = _generator(name).standard_normal(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "weight" and len(shape) > 1:
        scaled: Array = (noise / np.sqrt(int(np.prod(shape[1:])))).astype(np.float32)
        return scaled
    if leaf == "running_var":
        noise = np.abs(noise)
    centre, spread = {
        "running_var": (1.0, 0.1),
        "running_mean": (0.0, 0.05),
        "gamma": (0.3, 0.05),
        "bias": (0.0, 0.05),
        "weight": (1.0, 0.1),
    }.get(leaf, (0.0, 0.1))
    return (centre + spread * noise).astype(np.float32)


def image(name: str, shape: tuple[int, int, int], *, shift: float = 0.0) -> Array:
    """The case's RGB picture in 0..255 for shape (batch, height, width): twelve sine waves per channel, moved left by `shift` pixels."""
    batch, height, width = shape
    generator = _generator(name)
    columns = np.arange(width)[None, None, None, :] + shift
    rows = np.arange(height)[None, None, :, None]
    each = (batch, 3, 1, 1)
    total = np.zeros((batch, 3, height, width))
    for _ in range(12):
        across, down, phase = generator.uniform(0.02, 0.6, each), generator.uniform(0.02, 0.6, each), generator.uniform(0, 6.28, each)
        total += generator.uniform(0.2, 1.0, each) * np.sin(across * columns + down * rows + phase)
    scaled: Array = (255 * ((total - total.min()) / (total.max() - total.min()))).astype(np.float32)
    return scaled


def read_case(folder: Path, name: str) -> Case:
    """The case called `name`; UserError when its name says no network or a file is missing or damaged."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"the name {name!r} says no network, size and disparity that are known here")
    shapes = _read_shapes(folder / f"{name}.keys.json")
    try:
        with np.load(folder / f"{name}.npz") as arrays:
            expected = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{name}.npz cannot be read: {error}") from error
    stereo = match["kind"].startswith("foundation_stereo")
    encoder = match["encoder"]
    if match["kind"] != "edgenext_small" and encoder not in ENCODERS:
        raise UserError(f"encoder {encoder!r} is none of {', '.join(ENCODERS)}")
    if stereo != (match["disparity"] is not None):
        raise UserError("a stereo case ends with _d<max_disparity>, no other does")
    return Case(
        name=name,
        network="foundation_stereo" if stereo else match["kind"].split("_")[0],
        encoder=encoder,
        max_depth=float(match["max_depth"]) if match["max_depth"] else None,
        variant="tao" if match["tao"] else "nvlabs",
        height=int(match["height"]),
        width=int(match["width"]),
        max_disparity=int(match["disparity"]) if stereo else None,
        shapes=shapes,
        expected=expected,
    )


def run_case(case: Case) -> Outcome:
    """Builds, loads and runs the network of `case` and compares every array."""
    started = time.perf_counter()
    answers = {"dav2": _run_mono, "edgenext": _run_trunk, "foundation_stereo": _run_stereo}[case.network](case)
    if set(answers) != set(case.expected):
        raise UserError(f"the arrays are {', '.join(case.expected)}, but this network gives {', '.join(answers)}")
    errors, passed = {}, True
    for name, expected in case.expected.items():
        answer = answers[name].numpy()
        if answer.shape != expected.shape:
            raise UserError(f"{name} has shape {answer.shape}, the published one {expected.shape}")
        errors[name], limit = _difference(case, name, answer, expected)
        passed &= bool(errors[name] <= limit)  # false for NaN
    unit = "px" if case.network == "foundation_stereo" else "of the range"
    elapsed_s = time.perf_counter() - started
    return Outcome(name=case.name, passed=passed, tensors=len(case.shapes), errors=errors, unit=unit, elapsed_s=elapsed_s)


def run_folder(folder: Path) -> Iterable[Outcome]:
    """One outcome after the other, in the order of names; UserError when the folder holds no case."""
    names = sorted({path.name.removesuffix(end) for end in (".npz", ".keys.json") for path in folder.glob(f"*{end}")})
    if not names:
        raise UserError(f"{folder} holds no case (<name>.npz with <name>.keys.json)", hint="name the folder of the parity cases")
    for name in names:
        try:
            yield run_case(read_case(folder, name))
        except UserError as error:
            yield Outcome(name=name, passed=False, reason=error.message)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: one line a case on stdout; the exit code comes back."""
    parser = argparse.ArgumentParser(prog="python -m models.parity", description="Compare our networks with published answers.")
    parser.add_argument("folder", type=Path, help="folder of <name>.npz and <name>.keys.json")
    folder = parser.parse_args(arguments).folder
    passed = True
    try:
        for outcome in run_folder(folder):
            sys.stdout.write(f"{outcome}\n")
            sys.stdout.flush()
            passed &= outcome.passed
    except UserError as error:
        sys.stderr.write(f"error: {error.message}\n\nhint: {error.hint}\n")
        return 2
    return 0 if passed else 1


def _generator(name: str) -> np.random.Generator:
    start = hashlib.sha256(name.encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(start, "little")))


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(shape, list) for shape in content.values()):
        raise UserError(f"{path.name} is no table of names and shapes")
    return {name: tuple(shape) for name, shape in content.items()}


def _fill(network: nn.Module, case: Case) -> None:
    """Loads the case's weights the way a published file would be loaded; CheckpointError when a name or shape differs."""
    tensors = {name: torch.from_numpy(weight(name, shape)) for name, shape in case.shapes.items()}
    load_checkpoint(network, Checkpoint(path=Path(case.name), container=Container.FLAT, state_dict=tensors))
    network.eval()


def _picture(case: Case, batch: int, *, shift: float = 0.0) -> Tensor:
    return normalise(torch.from_numpy(image(case.name, (batch, case.height, case.width), shift=shift)))


@torch.no_grad()
def _run_mono(case: Case) -> dict[str, Tensor]:
    network = DepthAnything(str(case.encoder), max_depth=case.max_depth, relative=case.max_depth is None)
    _fill(network, case)
    return {"depth": network(_picture(case, _batch(case, "depth")))}


@torch.no_grad()
def _run_trunk(case: Case) -> dict[str, Tensor]:
    network = EdgeNeXt()
    _fill(network, case)
    maps = network(_picture(case, _batch(case, "stage0")))
    return {f"stage{number}": level for number, level in enumerate(maps)}


@torch.no_grad()
def _run_stereo(case: Case) -> dict[str, Tensor]:
    size = (case.height, case.width)
    shift = _SHIFT_OF_96_ROWS if case.height == 96 else _SHIFTS.get(size)
    if shift is None:
        known = ", ".join(f"{height}x{width}" for height, width in _SHIFTS)
        raise UserError(f"the shift of the right image is not known for {case.height}x{case.width} (known: {known}, and 96 rows)")
    batch, iterations = _batch(case, "initial"), len(case.expected.get("sequence", ()))
    network = FoundationStereo(encoder=str(case.encoder), variant=case.variant, max_disparity=int(case.max_disparity or 0))
    _fill(network, case)
    left, right = _picture(case, batch), _picture(case, batch, shift=shift)
    initial, sequence = network.unroll(left, right, iterations)
    return {"initial": initial, "sequence": torch.stack(list(sequence)), "final": network(left, right, iterations)}


def _batch(case: Case, array: str) -> int:
    if array not in case.expected:
        raise UserError(f"the array {array!r} is missing, its arrays are {', '.join(case.expected)}")
    return int(case.expected[array].shape[0])


def _difference(case: Case, name: str, answer: Array, expected: Array) -> tuple[float, float]:
    """The largest difference and its limit: pixels for stereo, share of the published array's range for the others."""
    largest = float(np.abs(answer - expected).max())
    if case.network == "foundation_stereo":
        return largest, INITIAL_TOLERANCE_PX if name == "initial" else SEQUENCE_TOLERANCE_PX
    return largest / float(expected.max() - expected.min()), RANGE_TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
