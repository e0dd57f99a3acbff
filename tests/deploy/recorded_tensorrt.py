"""A double of the `tensorrt` module, for machines without one: the calls that deploy.engine makes are written down, nothing is built.

Names, arguments and return values are those that the Python API of TensorRT 10.16 and 11 documents; whether a real builder accepts the
graph is what the tests marked `gpu` find out.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import onnx


class ILogger:
    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)


class IProgressMonitor:
    """Its three methods are overridden by whoever watches a build."""


class Recorded:
    """What stands for the module; `calls` are (name, arguments) in their order."""

    __version__ = "11.0.0.1"
    ILogger = ILogger
    IProgressMonitor = IProgressMonitor
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    BuilderFlag = SimpleNamespace(TF32="tf32")

    def __init__(self, *, refuses: str | None = None, builds: bool = True, cache_fits: bool = True) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.refuses, self.builds, self.cache_fits = refuses, builds, cache_fits

    def Builder(self, log: Any) -> Any:
        return _Builder(self, log)

    def OnnxParser(self, network: Any, _: Any) -> Any:
        return _Parser(self, network)


class _Builder:
    def __init__(self, module: Recorded, log: Any) -> None:
        self.module, self.log = module, log

    def create_network(self, flags: int) -> Any:
        self.module.calls.append(("create_network", (flags,)))
        return SimpleNamespace(inputs=[])

    def create_builder_config(self) -> Any:
        return _Config(self.module)

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *given: self.module.calls.append(("set_shape", given)))

    def build_serialized_network(self, _: Any, config: Any) -> bytes | None:
        if not self.module.builds:
            self.log.log(ILogger.Severity.ERROR, "no implementation fits into the workspace")
            return None
        monitor = config.progress_monitor
        monitor.phase_start("Tactics", None, 2)
        went_on = all(monitor.step_complete("Tactics", step) for step in range(2))
        monitor.phase_finish("Tactics")
        return b"plan" if went_on else None


class _Parser:
    num_errors = 1

    def __init__(self, module: Recorded, network: Any) -> None:
        self.module, self.network = module, network

    def parse(self, model: bytes) -> bool:
        graph = onnx.load_from_string(model).graph
        shapes = {value.name: [size.dim_value or -1 for size in value.type.tensor_type.shape.dim] for value in graph.input}
        inputs = [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]
        self.network.num_inputs, self.network.get_input = len(inputs), inputs.__getitem__
        return self.module.refuses is None

    def get_error(self, _: int) -> Any:
        return SimpleNamespace(desc=lambda: self.module.refuses)


class _Config:
    progress_monitor: Any = None

    def __init__(self, module: Recorded) -> None:
        self.module = module
        self.cache: Any = None

    def set_memory_pool_limit(self, *given: Any) -> None:
        self.module.calls.append(("set_memory_pool_limit", given))

    def clear_flag(self, flag: Any) -> None:
        self.module.calls.append(("clear_flag", (flag,)))

    def add_optimization_profile(self, _: Any) -> int:
        return 0

    def create_timing_cache(self, blob: bytes) -> Any:
        return None if blob.startswith(b"damaged") else _Cache(blob)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        fits = self.module.cache_fits or not cache.blob
        self.cache = cache if fits else self.cache
        return fits and not ignore_mismatch

    def get_timing_cache(self) -> Any:
        return self.cache


class _Cache:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def combine(self, other: Any, _: bool) -> bool:
        self.blob += other.blob
        return True

    def serialize(self) -> bytes:
        return self.blob + b"+"
