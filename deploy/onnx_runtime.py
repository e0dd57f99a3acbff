"""An ONNX file in ONNX Runtime, on its CPU, CUDA or TensorRT provider.

Python interface: https://onnxruntime.ai/docs/api/python/api_summary.html (MIT).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from deploy.graph_file import F32, INPUTS, family_of, fixed_shape, predict_in_batches
from deploy.precision import Precision, precision_of, rounded_in_float32
from deploy.sidecar import METADATA_KEY, ModelFacts, sidecar_path
from search_spaces.errors import CheckpointError, UnsupportedError

CPU = "CPUExecutionProvider"
PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    # float32 in float32: TF32 keeps 10 bits of the mantissa
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    # FP16 is off by itself (and its switch takes no numbers), and for TF32, which is on, there is none
    "tensorrt": ("TensorrtExecutionProvider", {}),
}
_NEEDS = {
    "cuda": "pip install onnxruntime-gpu in the place of onnxruntime, on a machine with an NVIDIA GPU",
    "tensorrt": "pip install onnxruntime-gpu in the place of onnxruntime, and NVIDIA's TensorRT libraries",
}


class OnnxPredictor:
    """One ONNX file in ONNX Runtime, on as many threads as torch has.

    `runtime` is a provider: `cpu`, `cuda` or `tensorrt` (which builds an engine at each start, for minutes); `auto` takes CUDA where it
    is installed, else the CPU.  Takes images of `fixed_size` only, in any number: see `predict_in_batches`.
    `name` says where it runs: CUDA that is installed and does not start leaves `auto` on the CPU.
    A BF16 graph is computed in float32 where there are no kernels for it, with each result rounded to bfloat16.
    UnsupportedError for a provider that is not there.
    """

    def __init__(self, path: Path, *, runtime: str = "auto") -> None:
        self.path = path
        self._session = _open_session(path, torch.get_num_threads(), runtime)
        self.name = _name_by(self._session.get_providers()[0])
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        self.family = family_of(shapes, path)
        self.facts = _read_facts(self._session, path)
        shape = tuple(size if isinstance(size, int) and size > 0 else None for size in shapes[INPUTS[self.family][0]])
        self.batch, size = fixed_shape(shape, path)
        self.fixed_size: tuple[int, int] | None = size

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """The map of each image (set), B x 1 x H x W float32; DataError for another size or number of images."""
        return predict_in_batches(self, images, self._run)

    def _run(self, arrays: list[F32]) -> F32:
        answer: F32 = self._session.run(None, dict(zip(INPUTS[self.family], arrays, strict=True)))[0]
        return answer


def _name_by(provider: str) -> str:
    used = next((f" {name}" for name, (known, _) in PROVIDERS.items() if known == provider), "")
    return f"onnxruntime{used}"


def onnx_facts(path: Path) -> ModelFacts | None:
    """The description of an ONNX file, from its metadata or the file beside it; None without either.  CheckpointError for a broken file."""
    return _read_facts(_open_session(path, 1, "cpu"), path)


def _open_session(path: Path, threads: int, runtime: str) -> Any:
    """An onnxruntime.InferenceSession; the library has no types of its own to name here."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    refusals = (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NotImplemented,
        errors.RuntimeException,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised; saying it twice helps nobody
    providers = _providers(runtime, onnxruntime.get_available_providers())
    start = functools.partial(onnxruntime.InferenceSession, sess_options=options, providers=providers)
    try:
        try:
            session = start(str(path))
        except errors.NotImplemented:  # a CPU multiplies no bfloat16
            model = onnx.load(path)
            if precision_of(model) is not Precision.BF16:
                raise
            session = start(rounded_in_float32(model).SerializeToString())
    except refusals as error:
        reason = str(error).rpartition(" : ")[2]  # before it stand the library's own name and numbers
        raise CheckpointError(f"{path}: ONNX Runtime cannot load the model: {reason}", hint="export it again") from error
    if runtime in PROVIDERS and session.get_providers()[0] != PROVIDERS[runtime][0]:
        raise UnsupportedError(
            f"ONNX Runtime could not start its {PROVIDERS[runtime][0]}",
            hint="is there a GPU, and do its libraries fit? runtime=cpu runs anyway",
        )
    return session


def _providers(runtime: str, available: list[str]) -> list[Any]:
    """What ONNX Runtime is to try, in order; UnsupportedError for one that is asked for and not installed."""
    asked = ["cuda"] if runtime == "auto" and PROVIDERS["cuda"][0] in available else [runtime] if runtime in PROVIDERS else []
    for name in asked:
        if PROVIDERS[name][0] not in available:
            told = ", ".join(available)
            raise UnsupportedError(f"runtime={name} needs ONNX Runtime's {PROVIDERS[name][0]}, but it has {told}", hint=_NEEDS[name])
    return [*(PROVIDERS[name] for name in asked), CPU]


def _read_facts(session: Any, path: Path) -> ModelFacts | None:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text:
        return ModelFacts.from_text(text, place=str(path))
    sidecar = sidecar_path(path)
    return ModelFacts.from_text(sidecar.read_text(encoding="utf-8"), place=str(sidecar)) if sidecar.is_file() else None
