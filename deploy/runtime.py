"""One `predict` over torch and ONNX Runtime: images in, a B x 1 x H x W map out, whatever runs it.

Both classes satisfy `trials.evaluate.Predictor`.  Images are ImageNet-normalised float32, B x 3 x H x W, on any
device: (left, right) for stereo, (image,) for mono.  The answer is on the CPU: disparity in pixels, depth in
metres, or inverse depth without a unit.
ONNX Runtime's Python interface: https://onnxruntime.ai/docs/api/python/api_summary.html (MIT).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploy.sidecar import METADATA_KEY, ModelFacts, sidecar_path
from models.checkpoints import spec_of
from models.inspection import Content, content_of
from models.registry import build_network, network_info
from models.weights import load_checkpoint, read_checkpoint
from search_spaces.errors import CheckpointError, DataError, UnsupportedError
from search_spaces.spec import Spec, get_value
from trials.evaluate import Predictor

_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".tlt", ".safetensors")
_INPUTS = {"stereo": ("left_image", "right_image"), "mono": ("images",)}
# what a checkpoint's weights were shaped or scaled by; the rest of the spec may change after training
_FIXED_KEYS = {
    "stereo": (
        "model.model_type",
        "model.encoder",
        "model.variant",
        "model.hidden_dims",
        "model.n_gru_layers",
        "model.corr_levels",
        "model.corr_radius",
        "model.stereo_backbone.use_bn",
        "model.stereo_backbone.use_clstoken",
    ),
    "mono": (
        "model.model_type",
        "model.encoder",
        "model.mono_backbone.use_bn",
        "model.mono_backbone.use_clstoken",
        "dataset.min_depth",
        "dataset.max_depth",
        "dataset.normalize_depth",
    ),
}
# how images are prepared: another mean or std gives a map that looks right and drifts
_IMAGE_KEYS = ("augmentation.input_mean", "augmentation.input_std")


class TorchPredictor:
    """A network in evaluation mode on one device, in float32 without TF32.

    Takes any legal image size.  The network is moved to `device` (default: a CUDA device if there is one) and
    stays there; `iterations` are a stereo network's refinements (default: its own).
    """

    name = "torch"
    fixed_size: tuple[int, int] | None = None

    def __init__(self, network: nn.Module, family: str, *, iterations: int | None = None, device: str | torch.device | None = None) -> None:
        self.device = torch.device(device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu"))
        self.family = family
        self.iterations = iterations
        self.network = network.to(self.device).eval()

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """The map of each image (set), B x 1 x H x W float32 on the CPU; DataError for a wrong number of images."""
        _check_count(images, self.family, place=self.name)
        placed = [image.to(self.device) for image in images]
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output: Tensor = self.network(*placed, iterations=self.iterations) if self.family == "stereo" else self.network(*placed)
        return _as_map(output.float().cpu())


class OnnxPredictor:
    """One ONNX file in ONNX Runtime, on CUDA where its provider is installed, else on the CPU.

    Takes images of `fixed_size` only.  A file with a fixed batch is fed in batches of that size; the last one is
    filled up with its own last image and the surplus answers are dropped.  `facts` are the file's own description,
    None for a file that another program exported.  `threads` default to torch's.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.path = path
        self.threads = threads if threads is not None else torch.get_num_threads()
        self._session = _open_session(path, self.threads)
        self.provider: str = self._session.get_providers()[0]
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self.family = _family_of(inputs, path)
        self.facts = _read_facts(self._session, path)
        batch, _, height, width = inputs[_INPUTS[self.family][0]]
        if not isinstance(height, int) or not isinstance(width, int):
            message = f"{path}: the model's height and width must be fixed, but got {height} x {width}"
            raise UnsupportedError(
                message, hint="export it with one height and width: depth_net export export.input_height=... export.input_width=..."
            )
        self._size = (height, width)
        self.fixed_size: tuple[int, int] | None = self._size
        self.batch: int | None = batch if isinstance(batch, int) and batch > 0 else None

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """The map of each image (set), B x 1 x H x W float32; DataError for another size or number of images."""
        _check_count(images, self.family, place=str(self.path))
        given, own = tuple(images[0].shape[-2:]), self._size
        if given != own:
            message = f"{self.path.name} takes images of {own[0]}x{own[1]} only, but got {given[0]}x{given[1]}"
            raise DataError(message, hint=f"evaluate with augmentation.evaluation=resize augmentation.crop_size=[{own[0]},{own[1]}]")
        arrays = [image.detach().cpu().contiguous().numpy().astype(np.float32, copy=False) for image in images]
        count = arrays[0].shape[0]
        step = self.batch or count
        pieces = [self._run([array[start : start + step] for array in arrays], step) for start in range(0, count, step)]
        return _as_map(torch.from_numpy(np.concatenate(pieces)[:count]))

    def _run(self, arrays: list[NDArray[np.float32]], step: int) -> NDArray[np.float32]:
        missing = step - arrays[0].shape[0]
        if missing:
            arrays = [np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for array in arrays]
        answer: NDArray[np.float32] = self._session.run(None, dict(zip(_INPUTS[self.family], arrays, strict=True)))[0]
        return answer


def load_predictor(
    path: Path,
    spec: Spec,
    *,
    split: str | None = None,
    iterations: int | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Predictor:
    """What runs `path`: a checkpoint in torch, an `.onnx` file in ONNX Runtime.

    CheckpointError where the file and the spec speak of different networks, or prepare the images of `split` differently, naming both
    values (without `split` an ONNX file is held against the val split);
    UnsupportedError for kinds of file that nothing here runs.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file", hint="give the path of a checkpoint (.pth, .ckpt, .safetensors) or of an .onnx file"
        )
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        predictor = OnnxPredictor(path, threads=threads)
        _check_facts(predictor, spec, split or "val")
        return predictor
    if suffix == ".engine":
        raise UnsupportedError(
            f"{path}: TensorRT engines cannot be run in this release", hint="give the .onnx file that the engine was built from"
        )
    if suffix not in _TORCH_SUFFIXES:
        known = ", ".join((*_TORCH_SUFFIXES, ".onnx"))
        raise UnsupportedError(f"{path}: nothing here runs a file ending in {path.suffix or 'nothing'}", hint=f"known endings: {known}")
    return TorchPredictor(load_network(path, spec, split=split), spec.family, iterations=iterations, device=device)


def onnx_facts(path: Path) -> ModelFacts | None:
    """The description of an ONNX file, from its metadata or the file beside it; None without either.  CheckpointError for a broken file."""
    return _read_facts(_open_session(path, 1), path)


def load_network(checkpoint: Path, spec: Spec, *, split: str | None = None) -> nn.Module:
    """The spec's network with the checkpoint's weights, in evaluation mode on the CPU.

    A checkpoint of ours carries the spec it was trained with; CheckpointError tells each key on which the two differ, those of the
    images of `split` included, if it is to see any.
    """
    content = read_checkpoint(checkpoint)
    own = spec_of(content)
    if own is not None:
        _check_same_network(own, spec, checkpoint, split)
    else:
        _check_metres(content_of(content), spec)
    network = build_network(spec)
    load_checkpoint(network, content)
    return network.eval()


def _check_same_network(own: Spec, spec: Spec, checkpoint: Path, split: str | None) -> None:
    pairs = [(key, key) for key in _FIXED_KEYS[network_info(own.model.model_type).family]]
    if split is not None:
        pairs += [(f"dataset.train_dataset.{key}", f"dataset.{split}_dataset.{key}") for key in _IMAGE_KEYS]
    differing = [
        (key, get_value(own, theirs), get_value(spec, key)) for theirs, key in pairs if get_value(own, theirs) != get_value(spec, key)
    ]
    if differing:
        told = "; ".join(f"{key} is {_plain(trained)} in the checkpoint, {_plain(asked)} in the spec" for key, trained, asked in differing)
        fix = " ".join(f"{key}={_plain(trained)}" for key, trained, _ in differing)
        raise CheckpointError(f"{checkpoint}: the checkpoint is of another network than the spec asks for: {told}", hint=f"add {fix}")


def _check_metres(content: Content, spec: Spec) -> None:
    """CheckpointError when a published metric network was trained for another range than the spec says: its depth would be scaled wrong."""
    trained, asked = content.max_depth_m, spec.dataset.max_depth
    if trained is not None and spec.model.model_type == "MetricDepthAnything" and trained != asked:
        raise CheckpointError(
            f"{content.path}: the checkpoint's depth reaches to {trained:g} m, but dataset.max_depth is {_plain(asked)} in the spec",
            hint=f"add dataset.max_depth={trained:g}",
        )


def _check_facts(predictor: OnnxPredictor, spec: Spec, split: str) -> None:
    facts = predictor.facts
    asked: list[tuple[str, object, object]] = [("the kind of network", predictor.family, spec.family)]
    if facts is not None and predictor.family == spec.family:
        mean, std = (f"dataset.{split}_dataset.{key}" for key in _IMAGE_KEYS)
        asked += [
            ("model.model_type", facts.model_type, spec.model.model_type),
            ("model.encoder", facts.encoder, spec.model.encoder),
            (mean, facts.mean, get_value(spec, mean)),
            (std, facts.std, get_value(spec, std)),
        ]
        if facts.max_depth is not None:
            asked += [
                ("dataset.min_depth", facts.min_depth, spec.dataset.min_depth),
                ("dataset.max_depth", facts.max_depth, spec.dataset.max_depth),
            ]
    differing = [f"{key} is {_plain(is_)} in the file, {_plain(wanted)} in the spec" for key, is_, wanted in asked if is_ != wanted]
    if differing:
        message = f"{predictor.path}: the model is another one than the spec asks for: {'; '.join(differing)}"
        raise CheckpointError(message, hint="use the spec that the model was exported with")


def _plain(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(_plain(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_count(images: tuple[Tensor, ...], family: str, *, place: str) -> None:
    wanted = len(_INPUTS[family])
    if len(images) != wanted:
        raise DataError(
            f"{place}: a {family} network takes {wanted} image(s), but got {len(images)}", hint="left and right for stereo, one for mono"
        )


def _as_map(output: Tensor) -> Tensor:
    return output.unsqueeze(1) if output.dim() == 3 else output


def _open_session(path: Path, threads: int) -> Any:
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
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except refusals as error:
        reason = str(error).rpartition(" : ")[2]  # before it stand the library's own name and numbers
        raise CheckpointError(f"{path}: ONNX Runtime cannot load the model: {reason}", hint="export it again") from error


def _family_of(inputs: dict[str, Any], path: Path) -> str:
    for family, names in _INPUTS.items():
        if set(inputs) == set(names):
            return family
    found = ", ".join(sorted(inputs))
    message = f"{path}: the model's inputs must be left_image and right_image, or images, but got {found}"
    raise UnsupportedError(message, hint="export the network with depth_net export")


def _read_facts(session: Any, path: Path) -> ModelFacts | None:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text:
        return ModelFacts.from_text(text, place=str(path))
    sidecar = sidecar_path(path)
    return ModelFacts.from_text(sidecar.read_text(encoding="utf-8"), place=str(sidecar)) if sidecar.is_file() else None
