"""What of a result depends on the machine: where there is a GPU with TensorRT every promotion has an engine, and ONNX Runtime's package
for CUDA runs under another name."""

from __future__ import annotations

import importlib.util

import onnxruntime
import torch


def lacks_for_engines() -> str | None:
    """What stands in promotion.json of a machine that builds no engines; None for one that does."""
    if not torch.cuda.is_available():
        return "no GPU"
    return "tensorrt is not installed" if importlib.util.find_spec("tensorrt") is None else None


def where_engines_are_built(*names: str) -> list[str]:
    """`names` on a machine that builds engines, nothing elsewhere."""
    return [] if lacks_for_engines() else list(names)


def onnx_name() -> str:
    """ONNX Runtime's name where nobody says how it is to run."""
    cuda = torch.cuda.is_available() and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return "onnxruntime cuda" if cuda else "onnxruntime"
