"""What TensorRT's documentation says of the operators of an ONNX graph: taken, taken under a condition, or not at all.

The facts are those of the operator table of onnx-tensorrt for TensorRT 10.15, which TensorRT 10.16 and 11 extend:
https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md (Apache-2.0).  An engine that has been built is the better proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx
from onnx import TensorProto, numpy_helper, shape_inference

TABLE = "TensorRT 10.15"
OPSETS = (9, 24)
_FLOATS = "FP32 FP16 BF16"
_NUMBERS = f"{_FLOATS} INT32 INT64"
_ANY = f"{_NUMBERS} BOOL"
# operators by the types that they take
_GROUPS: Mapping[str, str] = {
    _FLOATS: """Acos Acosh Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh
        CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid
        HardSwish Hardmax InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM LpNormalization LpPool MatMul
        MaxPool MeanVarianceNormalization PRelu RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike
        Reciprocal Resize RotaryEmbedding Round Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
        Upsample""",
    _NUMBERS: """Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod Mul Neg
        Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
        Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK""",
    _ANY: """Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape
        ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where""",
    f"{_ANY} UINT8": "Cast CastLike",
    "BOOL": "And Not Or Xor",
    "FP32 FP16": "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
    f"{_FLOATS} INT32": "TensorScatter",
    f"{_FLOATS} INT8 FP8": "QuantizeLinear DequantizeLinear",
    "FP32": "STFT",
}
TYPES: Mapping[str, frozenset[str]] = {name: frozenset(types.split()) for types, names in _GROUPS.items() for name in names.split()}
_SHORT = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.FLOAT8E4M3FN: "FP8",
}


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One kind of operator of a graph: how often, over which types, and what stops TensorRT from taking it (None where nothing does)."""

    name: str
    count: int
    types: tuple[str, ...]
    blocks: str | None
    example: str | None


@dataclass(frozen=True, kw_only=True)
class SupportReport:
    """What `check_graph` found: `operators` by name, `blocks` what stops the whole graph, `notes` what only deserves to be known."""

    opset: int
    operators: tuple[Operator, ...]
    blocks: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether nothing is known that TensorRT would refuse."""
        return not self.blocks and all(operator.blocks is None for operator in self.operators)


def check_graph(model: onnx.ModelProto) -> SupportReport:
    """Each operator of `model` held against the table, and the graph's opset, inputs and types against what an engine can be built from."""
    facts = _Facts(model)
    kinds: dict[str, list[onnx.NodeProto]] = {}
    for node in facts.nodes:
        kinds.setdefault(node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}", []).append(node)
    operators = []
    for name, nodes in sorted(kinds.items()):
        found = [(node, reason) for node in nodes if (reason := _refusal(name, node, facts)) is not None]
        types = sorted({facts.short(tensor) for node in nodes for tensor in (*node.input, *node.output) if facts.short(tensor)})
        blocks = None
        if found:
            some = "" if len(found) == len(nodes) else f" ({len(found)} of {len(nodes)})"
            blocks = f"{found[0][1]}{some}"
        example = found[0][0].name if found else None
        operators.append(Operator(name=name, count=len(nodes), types=tuple(types), blocks=blocks, example=example))
    opset = next((int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    whole = [] if OPSETS[0] <= opset <= OPSETS[1] else [f"opset {opset}: {TABLE} reads {OPSETS[0]} to {OPSETS[1]}"]
    for value in model.graph.input:
        free = [place for place, size in enumerate(value.type.tensor_type.shape.dim) if place and not size.dim_value]
        if free:
            whole.append(f"input {value.name}: only the batch may be free, but so is dimension {', '.join(map(str, free))}")
    notes = [f"{name} is double: TensorRT computes it in FP32" for name in facts.doubles()[:3]]
    return SupportReport(opset=opset, operators=tuple(operators), blocks=tuple(whole), notes=tuple(notes))


def matching_nodes(model: onnx.ModelProto, pattern: str) -> list[tuple[str, str]]:
    """(name, operator) of each node whose name a shell pattern matches, in the graph's order."""
    return [(node.name, node.op_type) for node in model.graph.node if fnmatchcase(node.name, pattern)]


class _Facts:
    """Types, ranks and constants of a graph's tensors; what shape inference cannot find is None."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = shape_inference.infer_shapes(model).graph
        self.nodes = list(_all_nodes(graph))
        values = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
        self._types = {name: kind.elem_type for name, kind in values.items()} | {item.name: item.data_type for item in graph.initializer}
        self._ranks = {name: len(kind.shape.dim) for name, kind in values.items() if kind.HasField("shape")}
        self._ranks |= {item.name: len(item.dims) for item in graph.initializer}
        self._weights = {item.name: item for item in graph.initializer}
        self.constant = set(self._weights)
        for node in self.nodes:
            if all(not name or name in self.constant for name in node.input):
                self.constant.update(node.output)
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._weights[node.output[0]] = node.attribute[0].t

    def short(self, tensor: str) -> str:
        """The type in TensorRT's words, ONNX's own name for one it does not have, "" where it is not known."""
        kind = self._types.get(tensor, 0)
        return _SHORT.get(kind, TensorProto.DataType.Name(kind)) if kind else ""

    def rank(self, tensor: str) -> int | None:
        """The number of dimensions."""
        return self._ranks.get(tensor)

    def zero(self, tensor: str) -> bool:
        """Whether the tensor is known to hold zeros alone."""
        return tensor in self._weights and not numpy_helper.to_array(self._weights[tensor]).any()

    def doubles(self) -> list[str]:
        """Computed tensors in double precision."""
        return [name for node in self.nodes for name in node.output if self._types.get(name) == TensorProto.DOUBLE]


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes in their order, those of branches and loops after the node that holds them."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _all_nodes(attribute.g)
    return found


def _refusal(name: str, node: onnx.NodeProto, facts: _Facts) -> str | None:
    """Why TensorRT's documentation does not take this node; None where it does."""
    if name not in TYPES:
        return "no operator of ONNX: it needs a plug-in" if node.domain not in {"", "ai.onnx"} else f"not supported by {TABLE}"
    takes = TYPES[name] | ({"BOOL"} if name in {"Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual"} else set())
    # the first input is the data; what comes out of Shape, comparisons and casts has a type of its own
    data = node.input[1] if name == "Where" else node.input[0] if node.input else node.output[0]
    kind = facts.short(data)
    if kind and kind not in takes and kind != "DOUBLE" and data not in facts.constant:
        return f"takes no {kind}"
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    condition = _CONDITIONS.get(name)
    return condition(node, attributes, facts) if condition is not None else None


Attributes = Mapping[str, object]
Condition = Callable[[onnx.NodeProto, Attributes, _Facts], str | None]


def _pooling(node: onnx.NodeProto, attributes: Attributes, facts: _Facts) -> str | None:
    rank = facts.rank(node.input[0])
    if rank is not None and rank not in (4, 5):
        return f"pools 2 or 3 dimensions, not {rank - 2}"
    if set(_numbers(attributes.get("dilations"))) - {1}:
        return "dilations must be 1"
    return "the output of indices is not supported" if len(node.output) > 1 else None


def _resize(_: onnx.NodeProto, attributes: Attributes, __: _Facts) -> str | None:
    known = {
        "coordinate_transformation_mode": ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
        "mode": ("nearest", "linear"),
        "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
        "keep_aspect_ratio_policy": ("stretch",),
    }
    for name, options in known.items():
        value = attributes.get(name)
        text = value.decode() if isinstance(value, bytes) else None
        if text is not None and text not in options:
            return f"{name} {text} is not supported"
    return "antialiasing is not supported" if attributes.get("antialias") else None


def _attention(node: onnx.NodeProto, attributes: Attributes, facts: _Facts) -> str | None:
    if any(facts.rank(name) not in (4, None) for name in node.input[:4] if name):
        return "Q, K, V and the mask must have 4 dimensions"
    if any(node.input[4:]) or any(node.output[1:]):
        return "past keys and values and further outputs are not supported"
    return (
        "softcap and qk_matmul_output_mode are not supported"
        if attributes.get("softcap") or attributes.get("qk_matmul_output_mode")
        else None
    )


def _constant_input(place: int, what: str) -> Condition:
    def check(node: onnx.NodeProto, _: Attributes, facts: _Facts) -> str | None:
        given = node.input[place] if len(node.input) > place else ""
        return f"{what} must be constant" if given and given not in facts.constant else None

    return check


def _symmetric(node: onnx.NodeProto, _: Attributes, facts: _Facts) -> str | None:
    given = node.input[2] if len(node.input) > 2 else ""
    return "the zero point must be 0" if given and not facts.zero(given) else None


def _normalisation(node: onnx.NodeProto, _: Attributes, __: _Facts) -> str | None:
    return "only the first output is supported" if any(node.output[1:]) else None


def _grid_sample(node: onnx.NodeProto, _: Attributes, facts: _Facts) -> str | None:
    return "the input must have 4 dimensions" if facts.rank(node.input[0]) not in (4, None) else None


def _numbers(value: object) -> Sequence[int]:
    return [int(number) for number in value] if isinstance(value, Sequence) and not isinstance(value, bytes | str) else []


_CONDITIONS: Mapping[str, Condition] = {
    **dict.fromkeys([name for name in TYPES if name.startswith("Reduce")], _constant_input(1, "axes")),
    **dict.fromkeys(["Squeeze", "Unsqueeze"], _constant_input(1, "axes")),
    **dict.fromkeys(["AveragePool", "MaxPool", "LpPool"], _pooling),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], _symmetric),
    "Attention": _attention,
    "CumSum": _constant_input(1, "the axis"),
    "GridSample": _grid_sample,
    "LayerNormalization": _normalisation,
    "OneHot": _constant_input(1, "depth"),
    "Resize": _resize,
}
