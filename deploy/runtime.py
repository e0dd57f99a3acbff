"""One `predict` over torch, ONNX Runtime, OpenVINO and TensorRT: images in, a B x 1 x H x W map out, whatever runs it.

Every class satisfies `trials.evaluate.Predictor`.  Images are ImageNet-normalised float32, B x 3 x H x W, on any
device: (left, right) for stereo, (image,) for mono.  The answer is on the CPU: disparity in pixels, depth in
metres, or inverse depth without a unit.  `load_predictor` picks the class by the file's ending.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from deploy.engine_runtime import TrtPredictor
from deploy.graph_file import FilePredictor
from deploy.onnx_runtime import OnnxPredictor
from deploy.openvino_runtime import OpenVinoPredictor
from deploy.torch_runtime import TorchPredictor
from models.checkpoints import CHECKPOINT_ENDINGS, spec_of
from models.inspection import Content, content_of
from models.registry import build_network, network_info
from models.weights import load_checkpoint, read_checkpoint
from search_spaces.errors import CheckpointError, SpecError, UnsupportedError
from search_spaces.spec import Spec, get_value
from trials.evaluate import Predictor

__all__ = ["OnnxPredictor", "OpenVinoPredictor", "TorchPredictor", "check_runtime", "load_network", "load_predictor"]

_OF_TORCH = ("auto", "compiled", "bf16", "cpu", "cuda")
# what `evaluate.runtime` and `inference.runtime` may say of a file, by its ending: elsewhere the arithmetic lies in the file
RUNTIMES = {
    **dict.fromkeys(CHECKPOINT_ENDINGS, _OF_TORCH),
    ".onnx": ("auto", "cpu", "cuda", "tensorrt"),
    ".xml": ("auto", "cpu", "bf16"),
    ".engine": ("auto", "cuda"),
}
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


def load_predictor(
    path: Path,
    spec: Spec,
    *,
    split: str | None = None,
    device: str | None = None,
    runtime: str = "auto",
) -> Predictor:
    """What runs `path`: a checkpoint in torch, an `.onnx` file in ONNX Runtime, an `.xml` file in OpenVINO, an `.engine` in TensorRT;
    `runtime` says how.

    CheckpointError where the file and the spec speak of different networks, or prepare the images of `split` differently, naming both
    values (without `split` an exported file is held against the val split);
    UnsupportedError for kinds of file that nothing here runs; SpecError for a runtime that the kind of file does not have.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file",
            hint="give the path of a checkpoint (.pth, .ckpt, .safetensors), of an .onnx, .xml or .engine file",
        )
    suffix = path.suffix.lower()
    check_runtime(path, runtime)
    if suffix in CHECKPOINT_ENDINGS:
        network = load_network(path, spec, split=split)
        return TorchPredictor(network, spec.family, device=device, runtime=runtime)
    predictor: FilePredictor
    if suffix == ".onnx":
        predictor = OnnxPredictor(path, runtime=runtime)
    elif suffix == ".engine":
        predictor = TrtPredictor(path)
    else:
        predictor = OpenVinoPredictor(path, bf16=runtime == "bf16")
    check_facts(predictor, spec, split or "val")
    return predictor


def check_runtime(path: Path, runtime: str) -> None:
    """UnsupportedError for a kind of file that nothing here runs, SpecError for a `runtime` that its kind does not have."""
    suffix = path.suffix.lower()
    if suffix not in RUNTIMES:
        raise UnsupportedError(
            f"{path}: nothing here runs a file ending in {path.suffix or 'nothing'}", hint=f"known endings: {', '.join(RUNTIMES)}"
        )
    if runtime not in RUNTIMES[suffix]:
        raise SpecError(f"runtime={runtime} is not for {suffix} files ({path})", hint=f"for them: {', '.join(RUNTIMES[suffix])}")


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


def check_facts(predictor: FilePredictor, spec: Spec, split: str) -> None:
    """CheckpointError when the description of an exported file contradicts the spec, naming each key with both values."""
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
        if facts.variant is not None:
            asked.append(("model.variant", facts.variant, spec.model.variant))
        if facts.max_depth is not None:
            asked += [
                ("dataset.min_depth", facts.min_depth, spec.dataset.min_depth),
                ("dataset.max_depth", facts.max_depth, spec.dataset.max_depth),
            ]
    differing = [(key, _plain(is_), _plain(wanted)) for key, is_, wanted in asked if is_ != wanted]
    if differing:
        told = "; ".join(f"{key} is {is_} in the file, {wanted} in the spec" for key, is_, wanted in differing)
        fix = "add " + " ".join(f"{key}={is_}" for key, is_, _ in differing)
        hint = fix if predictor.family == spec.family else "use the spec that the model was exported with"
        raise CheckpointError(f"{predictor.path}: the model is another one than the spec asks for: {told}", hint=hint)


def _plain(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(_plain(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
