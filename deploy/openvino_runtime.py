"""OpenVINO: an exported ONNX file as `.xml` and `.bin`, and what runs them on a CPU.

The file is read and written by OpenVINO's core alone; its converter, which reports its use to the maker, is never called.
https://docs.openvino.ai/2026/api/ie_python_api/api.html (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.graph_file import F32, INPUTS, family_of, fixed_shape, predict_in_batches
from deploy.sidecar import METADATA_KEY, ModelFacts
from search_spaces.errors import CheckpointError, UnsupportedError


class OpenVinoPredictor:
    """One OpenVINO model on the CPU, in float32 or, with `bf16`, in bfloat16 where the processor has it, on as many threads as torch has.

    Takes images of `fixed_size` only, in any number: see `predict_in_batches`.
    """

    def __init__(self, path: Path, *, bf16: bool = False) -> None:
        core = _core()
        self.path = path
        self.name = "openvino bf16" if bf16 else "openvino"
        model = _read(core, path)
        # the names that the exporter gave; a value may carry further ones
        inputs = {self._name_of(value): value.get_partial_shape() for value in model.inputs}
        self.family = family_of(inputs, path)
        self.facts = _facts_in(model, path)
        shape = inputs[INPUTS[self.family][0]]
        self.batch, size = fixed_shape(tuple(side.get_length() if side.is_static else None for side in shape), path)
        self.fixed_size: tuple[int, int] | None = size
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled = core.compile_model(model, "CPU", settings)

    @staticmethod
    def _name_of(value: Any) -> str:
        known = {name for names in INPUTS.values() for name in names}
        names: set[str] = set(value.get_names())
        return min(names & known or names)

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """The map of each image (set), B x 1 x H x W float32; DataError for another size or number of images."""
        return predict_in_batches(self, images, self._run)

    def _run(self, arrays: list[F32]) -> F32:
        answer = self._compiled(dict(zip(INPUTS[self.family], arrays, strict=True)))[0]
        return np.array(answer, np.float32)  # the library reuses its own memory


def check_openvino() -> None:
    """UnsupportedError, with the way to get it, where OpenVINO is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise UnsupportedError("OpenVINO is not installed", hint="pip install -e '.[openvino]' in the folder of this program")


def write_openvino(model: Path, target: Path) -> tuple[Path, Path]:
    """Writes the ONNX file `model` as `target` (`.xml`) with its weights beside it (`.bin`), in float32, the description in it.

    Gives both paths.  Existing files are replaced.  CheckpointError where OpenVINO cannot read the graph.
    """
    import openvino

    from deploy.onnx_runtime import onnx_facts

    facts = onnx_facts(model)
    graph = _read(_core(), model)
    if facts is not None:
        graph.set_rt_info(facts.to_text(), METADATA_KEY)
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial.xml")
    weights = target.with_suffix(".bin")
    try:
        openvino.save_model(graph, str(partial), compress_to_fp16=False)
        # the graph is what is looked for: it must never stand beside other weights
        target.unlink(missing_ok=True)
        partial.with_suffix(".bin").replace(weights)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        partial.with_suffix(".bin").unlink(missing_ok=True)
    return target, weights


def move_openvino(model: Path, target: Path | None) -> None:
    """Moves the `.xml` and `.bin` that belong to the model file `model` beside `target`, or removes them; nothing where there are none."""
    goal = None if target is None else target.with_suffix(".xml")
    graph, weights = model.with_suffix(".xml"), model.with_suffix(".bin")
    if goal is None or not graph.exists():
        graph.unlink(missing_ok=True)
        weights.unlink(missing_ok=True)
        return
    goal.unlink(missing_ok=True)  # it must never stand beside other weights
    weights.replace(goal.with_suffix(".bin"))
    graph.replace(goal)


def openvino_facts(path: Path) -> ModelFacts | None:
    """The description in an OpenVINO model, or None; CheckpointError for a file that is none."""
    return _facts_in(_read(_core(), path), path)


def _core() -> Any:
    """An openvino.Core; the library has no types of its own to name here."""
    check_openvino()
    import openvino

    return openvino.Core()


def _read(core: Any, path: Path) -> Any:
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CheckpointError(
            f"{path}: OpenVINO cannot load the model: {reason}", hint=f"is {path.with_suffix('.bin').name} beside it? export it again"
        ) from error


def _facts_in(model: Any, path: Path) -> ModelFacts | None:
    if not model.has_rt_info(METADATA_KEY):
        return None
    return ModelFacts.from_text(model.get_rt_info(METADATA_KEY).astype(str), place=str(path))
