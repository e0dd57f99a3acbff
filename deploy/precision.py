"""A float32 ONNX graph as a strongly typed one: FP16 or BF16 in its heavy operators, float32 where the networks need it.

TensorRT 11 takes precision from the graph alone, so that casts in the graph are the one way that suits every release.  The rule is
that of automatic mixed precision: convolutions and matrix products run in the low type; softmax, norms, sums and other operators
that lose range or digits stay in float32; the rest follows its inputs and is float32 as soon as one of them is.  Coordinates of
the geometry lookup, the disparity that the updates add up and depth in metres are float32 by that rule, whatever the nodes are called.
Three things are said beyond it, see `_exact_nodes`.  Inputs and outputs of the graph stay float32.
Types of the operators: https://onnx.ai/onnx/operators/ (Apache-2.0); casts under autocast: https://docs.pytorch.org/docs/stable/amp.html
(BSD-3-Clause).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from deploy.plain_operators import KEEPS_FLOAT32, alive
from search_spaces.errors import SpecError, UnsupportedError, nearest

PRECISION_KEY = "depth_automl_precision"
# the first operator set in which convolutions and poolings take bfloat16
BF16_OPSET = 22
LAYERS_KEY = "gen_trt_engine.tensorrt.layers_precision"


class Precision(StrEnum):
    """The arithmetic of a graph's heavy operators."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"


ELEMENT = {Precision.FP32: TensorProto.FLOAT, Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
_TORCH = {TensorProto.FLOAT16: torch.float16, TensorProto.BFLOAT16: torch.bfloat16}
# what flows from the images: floats and their quantised forms; other integers are shapes and indices
_DATA = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8)
HEAVY = frozenset({"Attention", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_SUMS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
FLOAT32 = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "RMSNormalization"}
    | {"Softmax", "LogSoftmax", "Softplus", "CumSum", "Einsum", "GridSample", "Mod"}
    | {"Ceil", "Cos", "Exp", "Floor", "Log", "Pow", "Reciprocal", "Round", "Sin", "Sqrt"}
    | {f"Reduce{name}" for name in _SUMS}
)
# these take any type as it comes, or have one of their own
_ANY_TYPE = frozenset({"Cast", "Constant", "ConstantOfShape", "Shape", "Size"})
# these change no value, so that a rounded one stays rounded
_MOVES = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Pad", "Relu", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Tile", "Transpose", "Unsqueeze", "Where"}
)
# inputs that ONNX wants in float32 whatever the data's type
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}


@dataclass(frozen=True, kw_only=True)
class TypedGraph:
    """A strongly typed model with what was decided.

    `nodes` counts operators with float data by type, `islands` those kept in float32 by their kind, `casts` the conversions that
    are in the graph; `named` are the nodes that the user's own patterns set.
    """

    model: onnx.ModelProto
    precision: Precision
    nodes: Mapping[str, int]
    islands: Mapping[str, int]
    casts: int
    named: tuple[str, ...]


def typed_graph(model: onnx.ModelProto, precision: Precision, *, layers: Sequence[str] = ()) -> TypedGraph:
    """A copy of the float32 `model` whose every tensor has the type it is to be computed in; `model` is left as it is.

    `layers` are `pattern:precision` pairs over node names (shell patterns, case counts, later ones win).  BF16 raises the opset to 22.
    SpecError for a pair that names no node, UnsupportedError for graphs with branches, loops, Q/DQ nodes or other types than float32.
    """
    wanted = {ELEMENT[precision], *(ELEMENT[_layer(text)[1]] for text in layers)} - {TensorProto.FLOAT}
    if wanted:
        _check(model)
    source = _raised(model) if TensorProto.BFLOAT16 in wanted else model
    types = _tensor_types(source)
    named = _named(source.graph, layers)
    kinds = _choose(source.graph, types, ELEMENT[precision], named)
    typed = _Writer(source, types, kinds).write()
    entries = {entry.key: entry.value for entry in typed.metadata_props}
    helper.set_model_props(typed, {**entries, PRECISION_KEY: precision})
    names = {element: name.value for name, element in ELEMENT.items()}
    counted = Counter(names[kind] for kind in kinds if kind is not None)
    islands = Counter(node.op_type for node, kind in zip(source.graph.node, kinds, strict=True) if kind == TensorProto.FLOAT)
    return TypedGraph(
        model=typed,
        precision=precision,
        nodes=dict(sorted(counted.items())),
        islands=dict(islands.most_common()),
        casts=sum(node.op_type == "Cast" for node in typed.graph.node),
        named=tuple(source.graph.node[index].name for index in sorted(named)),
    )


def rounded_in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a BF16 `model` for runtimes without bfloat16 kernels, such as ONNX Runtime on a CPU.

    Everything is float32, and each result that the typed graph would hold in bfloat16 is rounded to it: weights, inputs and sums have
    the same digits as on a device that multiplies bfloat16 and adds in float32.  It measures precision, not speed.
    """
    types = _tensor_types(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.node[:], graph.initializer[:]
    for value in model.graph.initializer:
        wide = numpy_helper.to_array(value).astype("float32") if value.data_type == TensorProto.BFLOAT16 else None
        graph.initializer.append(value if wide is None else numpy_helper.from_array(wide, value.name))
    for node in model.graph.node:
        graph.node.append(node)
        lowered = [name for name in node.output if types.get(name) == TensorProto.BFLOAT16]
        if not lowered or node.op_type in _MOVES:
            continue
        written = graph.node[-1]
        if node.op_type == "Cast":  # now a step from float32 to float32
            written.attribute[0].i = TensorProto.FLOAT
        for place, name in enumerate(node.output):
            if name in lowered:
                written.output[place] = f"{name}__exact"
                graph.node.append(helper.make_node("Cast", [f"{name}__exact"], [f"{name}__bits"], to=TensorProto.BFLOAT16))
                graph.node.append(helper.make_node("Cast", [f"{name}__bits"], [name], to=TensorProto.FLOAT))
    return copy


def has_quantization(model: onnx.ModelProto) -> bool:
    """Whether the graph carries explicit quantisation: QuantizeLinear or DequantizeLinear nodes."""
    return any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in model.graph.node)


def precision_of(model: onnx.ModelProto) -> Precision:
    """What `typed_graph` wrote into the model's metadata; FP32 for every other file."""
    held = {entry.key: entry.value for entry in model.metadata_props}
    return Precision(held.get(PRECISION_KEY, Precision.FP32))


def _layer(text: str) -> tuple[str, Precision]:
    pattern, _, name = text.rpartition(":")
    known = [precision.value for precision in Precision]
    if name.upper() not in known or not pattern:
        raise SpecError(f"{LAYERS_KEY}: {text!r} must be a name pattern, a colon and a precision", hint=f"precisions: {', '.join(known)}")
    return pattern, Precision(name.upper())


def _named(graph: onnx.GraphProto, layers: Sequence[str]) -> dict[int, int]:
    """Node number -> element type, for the nodes that the user's patterns name."""
    found: dict[int, int] = {}
    for text in layers:
        pattern, precision = _layer(text)
        matched = [index for index, node in enumerate(graph.node) if fnmatchcase(node.name, pattern)]
        if not matched:
            near = nearest(pattern, (node.name for node in graph.node if node.op_type in HEAVY))
            hint = (
                f"did you mean {near}:{precision.lower()}?"
                if near
                else "depth_net check_onnx FILE --nodes '*' lists the names; * matches any text"
            )
            raise SpecError(f"{LAYERS_KEY}: no node of the graph is called {pattern}", hint=hint)
        found.update(dict.fromkeys(matched, ELEMENT[precision]))
    return found


def _check(model: onnx.ModelProto) -> None:
    again = "export the network again with depth_net export"
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise UnsupportedError(f"the graph has a branch or loop ({node.op_type} {node.name}): it cannot be typed", hint=again)
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            hint = "gen_trt_engine.tensorrt.data_type=INT8 builds it as it is, or give the ONNX file from before the quantisation"
            raise UnsupportedError(
                f"the graph is quantised already ({node.op_type} {node.name}): FP16 and BF16 start from float32", hint=hint
            )
    lower = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    if any(value.data_type in lower for value in model.graph.initializer) or precision_of(model) is not Precision.FP32:
        raise UnsupportedError("the graph is not float32: parts of it have a low type already", hint=again)


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` in an operator set whose convolutions take bfloat16."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if opset >= BF16_OPSET:
        return model
    raised: onnx.ModelProto = version_converter.convert_version(model, BF16_OPSET)
    del raised.metadata_props[:]
    raised.metadata_props.extend(model.metadata_props)
    return raised


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model).graph
    typed = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return {**typed, **{value.name: value.data_type for value in graph.initializer}}


def _choose(graph: onnx.GraphProto, types: Mapping[str, int], low: int, named: Mapping[int, int]) -> list[int | None]:
    """The element type that each node computes in; None where its own types stay: integers, casts, and what only constants feed."""
    exact = _exact_nodes(graph) if low != TensorProto.FLOAT or named else set()
    constant = {value.name for value in graph.initializer}
    held: dict[str, int] = {value.name: TensorProto.FLOAT for value in graph.input}
    kinds: list[int | None] = []
    for index, node in enumerate(graph.node):
        moving = [name for name in node.input if types.get(name) in _DATA and name not in constant]
        floats = any(types.get(name) == TensorProto.FLOAT for name in (*node.output, *moving))
        kind: int | None
        if not floats or node.op_type in _ANY_TYPE or not moving:
            kind = None
        elif index in named:
            kind = named[index]
        elif node.op_type in FLOAT32 or index in exact:
            kind = TensorProto.FLOAT
        elif node.op_type in HEAVY:
            kind = low
        else:
            follows = {held[name] for name in moving}
            kind = follows.pop() if len(follows) == 1 else TensorProto.FLOAT
        kinds.append(kind)
        held.update(dict.fromkeys(node.output, TensorProto.FLOAT if kind is None else kind))
        if not moving and kind is None:
            constant.update(node.output)
    return kinds


def _exact_nodes(graph: onnx.GraphProto) -> set[int]:
    """Numbers of the nodes that are float32 for what they feed.

    Everything between the last heavy operator and an output (the final sigmoid and its scale, the last upsampling); the values that the
    geometry lookup reads, with the product of the two images' features that they come from; cubic resizes; and sums that a layer norm
    reads, which are a transformer's residual stream: its channels reach values of which a low type keeps too few digits.
    """
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output}
    weights = {value.name for value in graph.initializer} | {name for node in graph.node if not any(node.input) for name in node.output}
    queue = [value.name for value in graph.output] + [node.input[0] for node in graph.node if node.op_type == "GatherElements"]
    exact = {index for index, node in enumerate(graph.node) if KEEPS_FLOAT32 in node.name}
    while queue:
        index = maker.get(queue.pop())
        if index is None or index in exact:
            continue
        node = graph.node[index]
        if node.op_type not in HEAVY:
            queue.extend(node.input)
        elif node.op_type != "MatMul" or weights.intersection(node.input):
            continue
        exact.add(index)
    read = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
    return exact | {maker[name] for name in read if name in maker and graph.node[maker[name]].op_type == "Add"}


class _Writer:
    """Writes the nodes of a graph in their types: a tensor that is needed in another type is cast once, a weight is converted."""

    def __init__(self, model: onnx.ModelProto, types: Mapping[str, int], kinds: Sequence[int | None]) -> None:
        self.model = model
        self.types = types
        self.kinds = kinds
        self.held: dict[str, int] = {}
        self.copies: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, TensorProto] = {value.name: value for value in model.graph.initializer}
        # tensors that are an initializer under another name
        self.values: dict[str, TensorProto] = dict(self.weights)
        self.outputs = {value.name for value in model.graph.output}

    def write(self) -> onnx.ModelProto:
        """The typed model, without what nothing reads any more."""
        for node, kind in zip(self.model.graph.node, self.kinds, strict=True):
            self._remember(node)
            self._node(node, kind)
        kept = alive(self.nodes, self.outputs)
        used = {name for node in kept for name in node.input} | self.outputs
        model = onnx.ModelProto()
        for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
            setattr(model, field, getattr(self.model, field))
        model.opset_import.extend(self.model.opset_import)
        model.metadata_props.extend(self.model.metadata_props)
        model.graph.name = self.model.graph.name
        model.graph.input.extend(self.model.graph.input)
        model.graph.output.extend(self.model.graph.output)
        model.graph.node.extend(kept)
        model.graph.initializer.extend(value for name, value in self.weights.items() if name in used)
        return model

    def _remember(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Identity" and node.input[0] in self.values:
            self.values[node.output[0]] = self.values[node.input[0]]
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            self.values[node.output[0]] = node.attribute[0].t

    def _node(self, source: onnx.NodeProto, kind: int | None) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        inputs = list(source.input)
        if kind is not None:
            kept = _ALWAYS_FLOAT32.get(source.op_type, ())
            wanted = [TensorProto.FLOAT if place in kept else kind for place in range(len(inputs))]
            inputs = [self._as(name, element, source) for name, element in zip(inputs, wanted, strict=True)]
        if source.op_type == "Attention" and kind not in (None, TensorProto.FLOAT):
            node.attribute.append(helper.make_attribute("softmax_precision", TensorProto.FLOAT))
        outputs, casts = [], []
        for name in source.output:
            element = kind if kind is not None and self.types.get(name) == TensorProto.FLOAT else self.types.get(name, 0)
            self.held[name] = element
            if name in self.outputs and element != self.types.get(name):
                outputs.append(f"{name}__{TensorProto.DataType.Name(element).lower()}")
                casts.append(helper.make_node("Cast", [outputs[-1]], [name], name=f"{name}__out", to=self.types[name]))
                self.held[name] = self.types[name]
            else:
                outputs.append(name)
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        self.nodes += [node, *casts]

    def _as(self, name: str, element: int, reader: onnx.NodeProto) -> str:
        """The name of tensor `name` in type `element`; integers and truth values keep theirs."""
        if self.types.get(name) != TensorProto.FLOAT or self.held.get(name, TensorProto.FLOAT) == element:
            return name
        if (name, element) not in self.copies:
            copy = f"{name}__{TensorProto.DataType.Name(element).lower()}"
            self.copies[name, element] = copy
            if name in self.values and self.held.get(name, TensorProto.FLOAT) == TensorProto.FLOAT:
                self.weights[copy] = _converted(self.values[name], copy, element, reader)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [copy], name=f"{copy}__cast", to=element))
        return self.copies[name, element]


def _converted(value: TensorProto, name: str, element: int, reader: onnx.NodeProto) -> TensorProto:
    given = torch.from_numpy(numpy_helper.to_array(value).copy())
    lower = given.to(_TORCH[element])
    if torch.isinf(lower).any() and not torch.isinf(given).any():
        largest = float(given.abs().max())
        message = f"{reader.op_type} {reader.name} has a weight of {largest:.3g}, beyond FP16's largest of 65504"
        raise UnsupportedError(message, hint=f"gen_trt_engine.tensorrt.data_type=BF16, or {LAYERS_KEY}=[{reader.name}:fp32]")
    tensor = TensorProto(name=name, data_type=element, dims=list(given.shape))
    tensor.raw_data = lower.contiguous().view(torch.int16).numpy().tobytes()
    return tensor
