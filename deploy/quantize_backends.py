"""What each quantisation backend does here, and what of a spec is refused before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from deploy import quantize_graph, quantize_weights
from deploy.calibration import check_calibration
from deploy.quantize_rules import check_kinds, rules_of
from models.checkpoints import CHECKPOINT_ENDINGS
from models.registry import build_network
from search_spaces.errors import SpecError, UnsupportedError, UserError
from search_spaces.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What one library does here: the mode it has, the algorithms, the kinds of numbers, the models it takes and the file it writes."""

    mode: str
    algorithms: tuple[str, ...]
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    takes: tuple[str, ...]
    writes: str


BACKENDS: Mapping[str, Backend] = {
    quantize_weights.BACKEND: Backend(
        mode="weight_only_ptq",
        algorithms=quantize_weights.ALGORITHMS,
        weights=quantize_weights.WEIGHTS,
        activations=quantize_weights.ACTIVATIONS,
        takes=CHECKPOINT_ENDINGS,
        writes="quantized_model_torchao.pth",
    ),
    quantize_graph.BACKEND: Backend(
        mode="static_ptq",
        algorithms=tuple(quantize_graph.ALGORITHMS),
        weights=quantize_graph.WEIGHTS,
        activations=quantize_graph.ACTIVATIONS,
        takes=(".onnx",),
        writes="quantized_model_onnxruntime.onnx",
    ),
}
# TAO's names, and what does the nearest thing here
MODELOPT = {"modelopt.pytorch": "a checkpoint is exported first: depth_net export; then ", "modelopt.onnx": ""}


def check_quantize(spec: Spec, model: Path, folder: Path) -> None:
    """Raises what `quantize` would refuse of a request, before a model or an image is read."""
    section = spec.quantize
    if section.backend in MODELOPT:
        raise UnsupportedError(
            f"quantize.backend {section.backend} needs nvidia-modelopt, which this release does not run",
            hint=f"{MODELOPT[section.backend]}quantize.backend=onnxruntime quantize.mode=static_ptq writes int8 ONNX with Q/DQ nodes",
        )
    backend = BACKENDS[section.backend]
    for name, value, known in (("mode", section.mode, (backend.mode,)), ("algorithm", section.algorithm, backend.algorithms)):
        if value not in known:
            raise UnsupportedError(
                f"quantize.{name} {value} is not one of backend {section.backend}", hint=f"there: {', '.join(known)}{_elsewhere(value)}"
            )
    check_kinds(rules_of(spec), weights=backend.weights, activations=backend.activations, backend=section.backend)
    if section.backend == quantize_weights.BACKEND:
        if section.backend_kwargs:
            raise SpecError("quantize.backend_kwargs must be empty with backend torchao", hint="add quantize.backend_kwargs={}")
        quantize_weights.check_installed()
    else:
        quantize_graph.graph_options(spec)
        check_calibration(spec)
    _check_model(spec, model, backend)
    device_of(spec)
    target = folder / backend.writes
    if target.exists() and model.exists() and target.samefile(model):
        raise UserError(f"quantize.model_path is {target}, which this run would replace", hint="name the model that it was made from")
    if target.exists() and not section.overwrite:
        raise UserError(f"{target} is there already and is not overwritten", hint="give another results_dir, or quantize.overwrite=true")
    if section.backend == quantize_weights.BACKEND:
        with torch.device("meta"):
            network = build_network(spec)
        quantize_weights.choose_layers(network, spec, rules_of(spec))


def _check_model(spec: Spec, model: Path, backend: Backend) -> None:
    if model.suffix.lower() not in backend.takes:
        way = (
            "export it first: depth_net export; or pack its weights: quantize.backend=torchao quantize.mode=weight_only_ptq"
            if model.suffix.lower() in CHECKPOINT_ENDINGS
            else "for an ONNX file: quantize.backend=onnxruntime quantize.mode=static_ptq"
        )
        raise UnsupportedError(f"{model}: backend {spec.quantize.backend} takes {', '.join(backend.takes)}", hint=way)


def device_of(spec: Spec) -> str:
    """`cpu`, `cuda` or `cuda:N`; `cuda`, the default, means the CPU where there is no GPU.  UnsupportedError for one that is not there."""
    asked, there = spec.quantize.device, torch.cuda.device_count()
    if asked == "trt":
        raise UnsupportedError("quantize.device trt is not supported", hint="depth_net gen_trt_engine builds engines; here cuda or cpu")
    if ":" in asked and int(asked.partition(":")[2]) >= there:
        told = f"torch sees {there or 'no'} GPU{'s' * (there > 1)}"
        raise UnsupportedError(f"quantize.device is {asked}, but {told}", hint="quantize.device=cpu")
    return asked if there else "cpu"


def _elsewhere(value: str) -> str:
    names = [name for name, backend in BACKENDS.items() if value == backend.mode or value in backend.algorithms]
    return f"; backend {' and '.join(names)} has {value}" if names else ""
