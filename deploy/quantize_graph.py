"""Static int8 of an ONNX file: Q/DQ nodes around the operators that hold weights, with ranges found on calibration images.

ONNX Runtime's quantisation tools (MIT, https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).  Weights are int8
with a scale for each output channel.  Activations are uint8 with a zero point, which x86 CPUs compute fastest; `symmetric` makes them
int8 around zero, the only form that TensorRT reads.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor

from deploy.calibration import Calibration
from deploy.quantize_rules import EIGHT_BIT, NATIVE, Part, Rule, chosen
from search_spaces.errors import SpecError, nearest
from search_spaces.spec import Spec

BACKEND = "onnxruntime"
WEIGHTS, ACTIVATIONS = (EIGHT_BIT, NATIVE), (EIGHT_BIT,)
ALGORITHMS = {"minmax": "MinMax", "max": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Count = Callable[[int, int], None]
_WARNINGS, _ERRORS = 2, 3  # of ONNX Runtime's severities; it starts with warnings and cannot be asked


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How ranges are found and numbers are laid out; all but `method` are keys of quantize.backend_kwargs.

    `reduce_range` keeps to 7 bits, for CPUs without VNNI, where sums of products of 8 bits overflow.  `percentile` is of the values that
    the range must hold, for that algorithm.
    """

    method: str
    per_channel: bool = True
    symmetric: bool = False
    reduce_range: bool = False
    percentile: float = 99.999


def graph_options(spec: Spec) -> GraphOptions:
    """The options that a spec asks for; algorithm max means symmetric.  SpecError for an unknown or impossible one."""
    kwargs, algorithm = spec.quantize.backend_kwargs, spec.quantize.algorithm
    known = [name for name in GraphOptions.__dataclass_fields__ if name != "method"]
    for name, value in kwargs.items():
        key = f"quantize.backend_kwargs.{name}"
        if name not in known:
            guess = nearest(name, known)
            raise SpecError(f"{key} is not known", hint=f"did you mean {guess}?" if guess else f"there are {', '.join(known)}")
        if name == "percentile":
            if algorithm != name or isinstance(value, bool) or not isinstance(value, int | float) or not 50 < value <= 100:
                raise SpecError(f"{key} must be above 50 and at most 100 with algorithm percentile, but is {value!r}", hint="99.999")
        elif not isinstance(value, bool):
            raise SpecError(f"{key} must be true or false, but is {value!r}", hint=f"add {key}=true")
    values: dict[str, Any] = {"symmetric": algorithm == "max", **kwargs}
    return GraphOptions(method=ALGORITHMS[algorithm], **values)


@contextlib.contextmanager
def prepared(model: Path, scratch: Path) -> Iterator[Path]:
    """A copy of `model` in the folder `scratch`, with known shapes, folded constants and a name for every node; gone afterwards."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "prepared.onnx"
        with _quiet(folder):
            quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
        graph = onnx.load(path)
        taken = {node.name for node in graph.graph.node}
        for number, node in enumerate(graph.graph.node):
            if not node.name:
                node.name = next(name for name in (f"{node.op_type}_{number}", f"{node.op_type}_{number}_") if name not in taken)
        onnx.save(graph, path)
        yield path


def choose_nodes(model: Path, spec: Spec, rules: Sequence[Rule]) -> dict[str, str]:
    """The nodes of a prepared graph that the rules name, among those that hold weights, each with int8; SpecError for none."""
    parts, all_kinds = parts_of(model)
    return chosen(parts, rules, spec.quantize.skip_names, all_kinds=all_kinds)


def parts_of(model: Path) -> tuple[list[Part], Counter[str]]:
    """The nodes of a graph that can be quantised (an operator of OPERATORS with constant weights), and the count of every operator."""
    graph = onnx.load(model).graph
    constants = {value.name for value in graph.initializer}
    parts = [
        Part(name=node.name, kind=node.op_type)
        for node in graph.node
        if node.op_type in OPERATORS and not constants.isdisjoint(node.input[:2])
    ]
    return parts, Counter(node.op_type for node in graph.node)


def quantize_graph(
    model: Path,
    target: Path,
    nodes: Mapping[str, str],
    images: Calibration,
    *,
    names: Sequence[str],
    batch: int,
    options: GraphOptions,
    progress: Count | None = None,
) -> None:
    """Writes the prepared `model` with its `nodes` in int8 to `target`, beside which lies meanwhile what was found on the images.

    `names` are the graph's inputs in the order of the images; a fixed `batch` is filled with copies of each image.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType, create_calibrator, quantize_static, save_tensors_data

    method = CalibrationMethod[options.method]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        found = {"symmetric": options.symmetric} | ({"percentile": options.percentile} if options.method == "Percentile" else {})
        calibrator = create_calibrator(
            str(model),
            list(OPERATORS),
            augmented_model_path=str(Path(folder) / "calibrated.onnx"),
            calibrate_method=method,
            extra_options=found,
        )
        for done, pair in enumerate(images.images(), start=1):
            # one image at a time: the tool keeps the answers of a whole reader in memory
            with _quiet(folder):
                calibrator.collect_data(_OneImage(names, pair, batch))
            if progress is not None:
                progress(done, images.count)
        ranges = Path(folder) / "ranges.json"
        with _quiet(folder):
            save_tensors_data(calibrator.compute_data(), ranges)
            del calibrator
            quantize_static(
                str(model),
                str(target),
                None,
                calibration_cache_path=ranges,
                calibrate_method=method,
                nodes_to_quantize=list(nodes),
                op_types_to_quantize=list(OPERATORS),
                per_channel=options.per_channel,
                reduce_range=options.reduce_range,
                activation_type=QuantType.QInt8 if options.symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"ActivationSymmetric": options.symmetric, "WeightSymmetric": True},
            )


class _OneImage:
    """What ONNX Runtime's calibrators read: `get_next` gives the inputs once, then None."""

    def __init__(self, names: Sequence[str], images: tuple[Tensor, ...], batch: int) -> None:
        self._inputs = [{name: image.expand(batch, -1, -1, -1).numpy() for name, image in zip(names, images, strict=True)}]

    def get_next(self) -> dict[str, Any] | None:
        """The inputs, then None."""
        return self._inputs.pop() if self._inputs else None


@contextlib.contextmanager
def _quiet(scratch: str) -> Iterator[None]:
    """The tools print and log how far they are, which their caller says better, and keep copies of the model: in `scratch` they go."""
    import onnxruntime

    root = logging.getLogger()
    level, elsewhere = root.level, tempfile.tempdir
    tempfile.tempdir = scratch
    root.setLevel(logging.CRITICAL)
    onnxruntime.set_default_logger_severity(_ERRORS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        tempfile.tempdir = elsewhere
        onnxruntime.set_default_logger_severity(_WARNINGS)
        root.setLevel(level)
