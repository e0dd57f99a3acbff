"""A TensorRT engine as a predictor: it runs on the GPU and the release of TensorRT that it was built with.

Reference: TensorRT Python API, https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/ (Runtime, ICudaEngine,
IExecutionContext).  Memory and stream are torch's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.engine import engine_sidecar, need_tensorrt
from deploy.graph_file import F32, INPUTS, family_of, fixed_shape, predict_in_batches
from deploy.sidecar import ModelFacts
from search_spaces.errors import CheckpointError, DataError, UnsupportedError

_AGAIN = "build it with depth_net gen_trt_engine"


class TrtPredictor:
    """One engine file on the GPU that is torch's current one when it is made: that of a build in the same process, else the first.

    Takes images of `fixed_size`.  A free batch must lie in the engine's profile: DataError names both for a larger one, a smaller one is
    filled up.  `facts` are those of the description beside the file, None without it.
    """

    name = "tensorrt"

    def __init__(self, path: Path) -> None:
        tensorrt = need_tensorrt(0, what=f"running {path.name}")
        self.path = path
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            built = _built_with(path)
            here = f"TensorRT {tensorrt.__version__} on {torch.cuda.get_device_name(self._device)}"
            raise CheckpointError(f"{path}: {here} cannot load the engine{built}", hint="build it here: depth_net gen_trt_engine")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        self.family = family_of(inputs, path)
        self._output = _only_output([name for name in names if name not in inputs], path)
        for name in names:  # other tools build engines whose memory would be misread
            if (kind := engine.get_tensor_dtype(name)) != tensorrt.DataType.FLOAT:
                raise UnsupportedError(f"{path}: {name} of the engine must be float32, but is {kind}", hint=_AGAIN)
        self.facts = engine_facts(path)
        shape = tuple(size if size > 0 else None for size in tuple(engine.get_tensor_shape(INPUTS[self.family][0])))
        self.batch, size = fixed_shape(shape, path)
        self.fixed_size: tuple[int, int] | None = size
        self.profile: tuple[int, int, int] | None = None
        if self.batch is None:
            low, usual, high = engine.get_tensor_profile_shape(INPUTS[self.family][0], 0)
            self.profile = (low[0], usual[0], high[0])
        self._engine = engine  # it must outlive its context
        self._context = engine.create_execution_context()
        if self._context is None:  # how TensorRT says that memory ran out
            raise UnsupportedError(
                f"{path}: TensorRT found no memory on {torch.cuda.get_device_name(self._device)} to run the engine",
                hint="end what else uses the GPU, or build for a smaller batch or image",
            )
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """The map of each image (set), B x 1 x H x W float32; DataError for another size or number of images."""
        if self.profile is not None:
            check_batch(tuple(images[0].shape), self.profile, self.path)
        return predict_in_batches(self, images, self._run)

    def _run(self, arrays: list[F32]) -> F32:
        count = arrays[0].shape[0]
        least = self.profile[0] if self.profile else count
        if count < least:
            arrays = [np.concatenate([array, np.repeat(array[-1:], least - count, axis=0)]) for array in arrays]
        placed = [torch.from_numpy(array).to(self._device) for array in arrays]
        for name, image in zip(INPUTS[self.family], placed, strict=True):
            self._context.set_input_shape(name, tuple(image.shape))
            self._context.set_tensor_address(name, image.data_ptr())
        answer = torch.empty(tuple(self._context.get_tensor_shape(self._output)), device=self._device)
        self._context.set_tensor_address(self._output, answer.data_ptr())
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise CheckpointError(f"{self.path}: TensorRT could not run the engine", hint="build it again: depth_net gen_trt_engine")
        self._stream.synchronize()
        result: F32 = answer[:count].cpu().numpy()
        return result


def _only_output(names: list[str], path: Path) -> str:
    if len(names) != 1:
        raise UnsupportedError(f"{path}: the engine must give one map, but its outputs are {', '.join(names) or 'none'}", hint=_AGAIN)
    return names[0]


def check_batch(shape: tuple[int, ...], profile: tuple[int, int, int], path: Path) -> None:
    """DataError when a batch is larger than the engine's profile allows."""
    if shape[0] > profile[2]:
        asked, told = "x".join(map(str, shape)), "/".join(map(str, profile))
        message = f"{path.name} takes batches of {profile[0]} to {profile[2]} (profile {told}), but got {asked}"
        raise DataError(
            message, hint=f"batch_size={profile[2]} of the split, or build it with gen_trt_engine.tensorrt.max_batch_size={shape[0]}"
        )


def engine_facts(path: Path) -> ModelFacts | None:
    """What the description beside an engine says of the network; None without one or for an ONNX file that had none.

    CheckpointError for a description that cannot be read.
    """
    told = _description(path)
    return ModelFacts.from_text(json.dumps(told), place=str(engine_sidecar(path))) if "model_type" in told else None


def _built_with(path: Path) -> str:
    built = _description(path).get("engine")
    return f"; it was built with TensorRT {built['tensorrt_version']} on {built['gpu']}" if built else ""


def _description(path: Path) -> dict[str, Any]:
    """The description beside an engine, {} without one."""
    sidecar = engine_sidecar(path)
    if not sidecar.is_file():
        return {}
    try:
        told: object = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{sidecar}: the engine's description cannot be read ({error})", hint="build it again, or remove it"
        ) from error
    return told if isinstance(told, dict) else {}
