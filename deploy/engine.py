"""A TensorRT engine from a strongly typed ONNX graph, by the builder of TensorRT 10.16 and later, and the description beside it.

Precision lies in the graph (see deploy/precision.py): the flags that earlier releases had for it are gone in TensorRT 11, and a
strongly typed network of TensorRT 10 refuses them.  `tensorrt` is imported by the one function that hands it out, and passed on.
Reference: TensorRT Python API, https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/ (builder, ONNX parser,
timing cache, progress monitor).
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

from deploy.precision import Precision, TypedGraph
from deploy.sidecar import ModelFacts, file_sha256, write_json
from search_spaces.errors import CheckpointError, SpecError, UnsupportedError
from trials.data.decoders import write_atomically
from trials.interruption import Stop, StopRequest

GIB = 1 << 30
_OLDEST, _TOO_NEW = (10, 16), (12, 0)
INSTALL = "pip install -e '.[tensorrt]' in the folder of this program, on a machine with an NVIDIA GPU and its driver"
Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The batch sizes of an engine whose graph has a free batch: it takes low to high and is tuned for usual."""

    low: int
    usual: int
    high: int


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an engine is built; `profile` None goes with a fixed batch, `workspace_gib` 0 with all of the GPU's memory."""

    precision: str
    profile: Profile | None
    workspace_gib: int
    timing_cache: Path | None
    verbose: bool


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """What was built, as the description beside the engine says it too."""

    path: Path
    sidecar: Path
    precision: str
    profile: Profile | None
    tensorrt_version: str
    gpu: str
    seconds: float
    size_bytes: int
    timing_cache: str | None


def engine_sidecar(engine: Path) -> Path:
    """`<file>.engine.json`: an ONNX file of the same stem keeps its own `<stem>.json`."""
    return engine.with_name(f"{engine.name}.json")


def need_tensorrt(gpu: int, *, what: str, instead: str = "") -> Any:
    """The `tensorrt` module; UnsupportedError that names everything that `what` lacks on this machine, how to get it, and `instead`."""
    missing = []
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        missing.append("an NVIDIA GPU (torch sees none)")
    elif gpu >= count:
        raise SpecError(f"gen_trt_engine.gpu_id is {gpu}, but torch sees {count} GPU{'s' * (count > 1)}", hint="numbers begin with 0")
    if importlib.util.find_spec("tensorrt") is None:
        missing.append("the tensorrt package")
    if missing:
        raise UnsupportedError(f"{what} needs {' and '.join(missing)}", hint=f"{INSTALL}{instead}")
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise UnsupportedError(f"{what} needs TensorRT, which does not load: {error}", hint=INSTALL) from error
    check_version(tensorrt.__version__)
    return tensorrt


def check_version(version: str) -> tuple[int, ...]:
    """The first two numbers of TensorRT's version; UnsupportedError for releases that are not built for here."""
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if not _OLDEST <= numbers < _TOO_NEW:
        raise UnsupportedError(f"TensorRT {version} is installed, but 10.16 to 11 are supported", hint="pip install 'tensorrt>=10.16,<12'")
    return numbers


def check_workspace(workspace_gib: int, memory_bytes: int) -> None:
    """SpecError for a workspace beyond the GPU's memory, with the mistake that leads there."""
    if workspace_gib * GIB > memory_bytes:
        key = "gen_trt_engine.tensorrt.workspace_size"
        meant = f"; if MiB were meant, write {max(1, round(workspace_gib / 1024))}" if workspace_gib >= 128 else ""
        message = f"{key} is in GiB: {workspace_gib} GiB do not fit into the GPU's {memory_bytes / GIB:.1f} GiB{meant}"
        raise SpecError(message, hint=f"{key}=4 is enough for these networks, 0 leaves it to TensorRT")


def build_engine(
    graph: onnx.ModelProto,
    path: Path,
    settings: EngineSettings,
    *,
    tensorrt: Any,
    gpu: str,
    facts: ModelFacts | None,
    source: Path,
    progress: Progress | None = None,
) -> EngineReport:
    """Writes the engine of a strongly typed `graph` and its description, both whole or not at all.

    `tensorrt` is the module, `gpu` the device's name, `facts` and `source` describe the ONNX file that the graph was made from.
    UnsupportedError with TensorRT's own words when it does not take the graph or finds no way to build it, KeyboardInterrupt for a build
    that Ctrl-C has ended.
    """
    started = time.perf_counter()
    log = _log(tensorrt, verbose=settings.verbose)
    builder = tensorrt.Builder(log)
    with StopRequest() as stop:
        network = _parsed(graph, builder, tensorrt, log)
        config = builder.create_builder_config()
        if settings.workspace_gib:
            config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, settings.workspace_gib * GIB)
        config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
        # on by default; it would make FP32 a type of 10 bits
        config.clear_flag(tensorrt.BuilderFlag.TF32)
        if settings.profile is not None:
            config.add_optimization_profile(_batches(builder, network, settings.profile))
        told = _use_cache(config, settings.timing_cache)
        config.progress_monitor = _monitor(tensorrt, progress, stop)
        plan = builder.build_serialized_network(network, config)
    if stop.requested:
        raise KeyboardInterrupt
    if plan is None:
        reason = log.errors[-1] if log.errors else "it gave no reason"
        raise UnsupportedError(
            f"TensorRT {tensorrt.__version__} built no engine: {reason}", hint="gen_trt_engine.verbose=true shows its steps"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    engine_sidecar(path).unlink(missing_ok=True)
    write_atomically(path, bytes(plan))
    report = EngineReport(
        path=path,
        sidecar=engine_sidecar(path),
        precision=settings.precision,
        profile=settings.profile,
        tensorrt_version=tensorrt.__version__,
        gpu=gpu,
        seconds=time.perf_counter() - started,
        size_bytes=path.stat().st_size,
        timing_cache=told,
    )
    write_json(report.sidecar, _description(report, facts, source))
    if settings.timing_cache is not None:
        _save_cache(config, settings.timing_cache)
    return report


def _description(report: EngineReport, facts: ModelFacts | None, source: Path) -> dict[str, Any]:
    return {
        **({} if facts is None else asdict(facts)),
        "engine": {
            "precision": report.precision,
            "profile": None if report.profile is None else asdict(report.profile),
            "tensorrt_version": report.tensorrt_version,
            "gpu": report.gpu,
            "build_seconds": round(report.seconds, 3),
            "size_bytes": report.size_bytes,
            "sha256": file_sha256(report.path),
            "onnx_file": source.name,
            "onnx_sha256": file_sha256(source),
        },
    }


def _parsed(graph: onnx.ModelProto, builder: Any, tensorrt: Any, log: Any) -> Any:
    """The network of the graph."""
    typed = tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    # TensorRT 11 ignores the flag: its networks are strongly typed
    network = builder.create_network(1 << int(typed))
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse(graph.SerializeToString()):
        reasons = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)] or ["it gave no reason"]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        message = f"TensorRT {tensorrt.__version__} cannot read the graph: {reasons[0]}{more}"
        raise UnsupportedError(message, hint="depth_net check_onnx FILE --target tensorrt names operators that it does not take")
    return network


def _batches(builder: Any, network: Any, profile: Profile) -> Any:
    """The optimisation profile of every input: its own shape with the profile's batches."""
    batches = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        given = network.get_input(index)
        rest = tuple(given.shape)[1:]
        batches.set_shape(given.name, (profile.low, *rest), (profile.usual, *rest), (profile.high, *rest))
    return batches


def _use_cache(config: Any, path: Path | None) -> str | None:
    """Gives the builder the timings of earlier builds; says what became of the file, None without one."""
    if path is None:
        return None
    held = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(held)  # None for what is no cache
    if cache is not None and config.set_timing_cache(cache, False):
        return "read" if held else "new"
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return "replaced: it was of another GPU or TensorRT, or damaged"


def _save_cache(config: Any, path: Path) -> None:
    """Writes the timings, with those that another build has written meanwhile."""
    cache = config.get_timing_cache()
    others = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
    if others is not None:
        cache.combine(others, False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, bytes(cache.serialize()))


def _log(tensorrt: Any, *, verbose: bool) -> Any:
    """A logger of TensorRT's kind: errors are kept for the message, the rest is shown only if it is asked for."""

    class Log(tensorrt.ILogger):  # type: ignore[misc]  # its base is known at run time alone
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt.ILogger.Severity.ERROR, tensorrt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())
            if verbose:
                print(f"tensorrt: {message}")  # noqa: T201  the user asked for it

    return Log()


def _monitor(tensorrt: Any, progress: Progress | None, stop: Stop) -> Any:
    """A progress monitor of TensorRT's kind that ends the build at its next step once `stop` is requested.

    Ctrl-C must not raise while the builder works: TensorRT prints what is raised in a method that it calls, and goes on.
    """

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]  # its base is known at run time alone
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if progress is not None:
                progress(phase_name, step + 1, self.steps.get(phase_name, step + 1))
            return not stop.requested

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def check_profile(batch: int | None, profile: Profile) -> Profile | None:
    """The profile of a graph whose batch is free (None); SpecError for a profile that a fixed batch contradicts."""
    if batch is None:
        return profile
    sizes = (profile.low, profile.usual, profile.high)
    if sizes not in ((1, 1, 1), (batch, batch, batch)):
        told = "/".join(map(str, sizes))
        message = f"the ONNX file has the batch {batch}, but the profile of gen_trt_engine.tensorrt asks for batches {told} (min/opt/max)"
        raise SpecError(message, hint="export with export.batch_size=-1 for a free batch, or leave the profile at 1/1/1")
    return None


def check_precision(asked: str, *, family: str, encoder: str | None, quantized: bool) -> Precision:
    """The graph's precision for a data_type; UnsupportedError for what the network or the graph does not bear."""
    key = "gen_trt_engine.tensorrt.data_type"
    if asked == "INT8":
        if not quantized:
            message = f"{key}=INT8 needs a graph with QuantizeLinear and DequantizeLinear nodes, and this one has none"
            raise UnsupportedError(
                message,
                hint="one is written by depth_net quantize with quantize.backend=onnxruntime mode=static_ptq algorithm=max",
            )
        return Precision.FP32
    if quantized and asked != "FP32":
        raise UnsupportedError(f"{key}={asked}: the graph is quantised to int8 already", hint=f"{key}=INT8 builds it as it is")
    if asked == "FP16" and family == "mono" and encoder == "vitl":
        message = f"{key}=FP16 is not for mono networks with vitl: activations of that encoder leave FP16's range, and depth becomes NaN"
        raise UnsupportedError(message, hint=f"{key}=BF16 on Ampere and later, else FP32")
    return Precision(asked)


def check_source(path: Path) -> onnx.ModelProto:
    """The ONNX file that an engine is to be built from; UnsupportedError for another kind, CheckpointError for one that cannot be read."""
    key = "gen_trt_engine.onnx_file"
    if path.suffix.lower() != ".onnx":
        raise UnsupportedError(f"{key} must end in .onnx, but is {path}", hint="depth_net export writes an .onnx file")
    return load_onnx(path, place=f"{key}: ")


def load_onnx(path: Path, *, place: str = "") -> onnx.ModelProto:
    """The model in a file; CheckpointError, beginning with `place`, for one that is not there or no ONNX."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{place}{path}: there is no such file", hint="depth_net export writes one") from error
    except (DecodeError, IsADirectoryError) as error:
        raise CheckpointError(f"{place}{path} is not an ONNX file", hint="depth_net export writes one") from error
    if not model.graph.node:
        raise CheckpointError(f"{place}{path} holds no graph", hint="depth_net export writes one")
    return model


def write_typed(typed: TypedGraph, path: Path) -> None:
    """The graph as a file, checked as a reader would, whole or not at all; UnsupportedError for types that an operator does not take."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.onnx")
    try:
        onnx.save(typed.model, partial)
        onnx.checker.check_model(partial, full_check=True)
        partial.replace(path)
    except onnx.shape_inference.InferenceError as error:
        hint = "name fewer nodes in gen_trt_engine.tensorrt.layers_precision"
        raise UnsupportedError(f"the typed graph is no valid ONNX: {' '.join(str(error).split())}", hint=hint) from error
    finally:
        partial.unlink(missing_ok=True)
