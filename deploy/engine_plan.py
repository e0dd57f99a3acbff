"""What engine is to be built of an ONNX file: its strongly typed graph, its profile and its settings, checked before any building."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from deploy.engine import (
    EngineReport,
    EngineSettings,
    Profile,
    Progress,
    build_engine,
    check_precision,
    check_profile,
    check_workspace,
    need_tensorrt,
)
from deploy.graph_file import INPUTS, family_of
from deploy.onnx_runtime import onnx_facts
from deploy.plain_operators import with_plain_operators
from deploy.precision import TypedGraph, has_quantization, typed_graph
from deploy.trt_support import check_graph
from search_spaces.errors import UnsupportedError, shell_word
from search_spaces.spec import Spec

AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """A strongly typed graph of `source`, the name of its precision (FP32, FP16, BF16, INT8), and the batches it is built for."""

    source: Path
    family: str
    typed: TypedGraph
    precision: str
    profile: Profile | None


def plan_engine(model: onnx.ModelProto, source: Path, spec: Spec, *, gpu: int | None) -> EnginePlan:
    """The engine of `model`, read from `source`, for GPU number `gpu`, or where it is None for one that has every type.

    SpecError, UnsupportedError for what the network, the graph or the GPU refuses.
    """
    family = family_of([value.name for value in model.graph.input], source)
    sizes = next(value for value in model.graph.input if value.name == INPUTS[family][0]).type.tensor_type.shape.dim
    profile = check_profile(sizes[0].dim_value or None, profile_of(spec))
    quantized = has_quantization(model)
    data_type = data_type_of(spec, family, quantized=quantized, gpu=gpu)
    precision = check_precision(data_type, family=family, encoder=spec.model.encoder, quantized=quantized)
    plain = with_plain_operators(model)
    support = check_graph(plain)
    if not support.passes:
        found = [*support.blocks, *(f"{operator.name}: {operator.blocks}" for operator in support.operators if operator.blocks)]
        raise UnsupportedError(
            f"{source}: TensorRT does not take the graph: {'; '.join(found)}", hint=f"depth_net check_onnx {shell_word(source)}"
        )
    typed = typed_graph(plain, precision, layers=spec.gen_trt_engine.tensorrt.layers_precision)
    return EnginePlan(source=source, family=family, typed=typed, precision=data_type, profile=profile)


def profile_of(spec: Spec) -> Profile:
    """The batches that the spec asks for."""
    section = spec.gen_trt_engine.tensorrt
    return Profile(low=section.min_batch_size, usual=section.opt_batch_size, high=section.max_batch_size)


def data_type_of(spec: Spec, family: str, *, quantized: bool, gpu: int | None) -> str:
    """What an engine computes in: the spec's data_type; where that is null INT8 if quantised, BF16 for mono where the GPU has it, or FP32.

    `gpu` is as in `plan_engine`.  UnsupportedError for BF16 on a GPU without.
    """
    asked = spec.gen_trt_engine.tensorrt.data_type
    has_bf16 = gpu is None or torch.cuda.get_device_capability(gpu) >= AMPERE
    if asked == "BF16" and not has_bf16:
        key, told = "gen_trt_engine.tensorrt.data_type", torch.cuda.get_device_name(gpu)
        raise UnsupportedError(f"{key}=BF16 needs a GPU of compute capability 8.0 (Ampere) or later, not {told}", hint=f"{key}=FP32")
    if asked is not None:
        return asked
    if quantized:
        return "INT8"
    return "BF16" if family == "mono" and has_bf16 else "FP32"


def missing_for_engine() -> str | None:
    """What this machine lacks for an engine, in a few words; None where one can be built."""
    if not torch.cuda.is_available():
        return "no GPU"
    return "tensorrt is not installed" if importlib.util.find_spec("tensorrt") is None else None


def check_engine(spec: Spec, *, what: str) -> None:
    """UnsupportedError or SpecError where `what` cannot build the engine that the spec asks for of a float32 graph, before any work."""
    section = spec.gen_trt_engine
    need_tensorrt(section.gpu_id, what=what)
    check_workspace(section.tensorrt.workspace_size, torch.cuda.get_device_properties(section.gpu_id).total_memory)
    data_type = data_type_of(spec, spec.family, quantized=False, gpu=section.gpu_id)
    check_precision(data_type, family=spec.family, encoder=spec.model.encoder, quantized=False)


def build_planned(plan: EnginePlan, target: Path, spec: Spec, *, what: str, progress: Progress | None = None) -> EngineReport:
    """Builds the engine on the spec's GPU; UnsupportedError where `what` lacks something or TensorRT builds none."""
    section = spec.gen_trt_engine
    tensorrt = need_tensorrt(section.gpu_id, what=what)
    torch.cuda.set_device(section.gpu_id)
    check_workspace(section.tensorrt.workspace_size, torch.cuda.get_device_properties(section.gpu_id).total_memory)
    settings = EngineSettings(
        precision=plan.precision,
        profile=plan.profile,
        workspace_gib=section.tensorrt.workspace_size,
        timing_cache=Path(section.timing_cache) if section.timing_cache else None,
        verbose=section.verbose,
    )
    return build_engine(
        plan.typed.model,
        target,
        settings,
        tensorrt=tensorrt,
        gpu=torch.cuda.get_device_name(section.gpu_id),
        facts=onnx_facts(plan.source),
        source=plan.source,
        progress=progress,
    )
