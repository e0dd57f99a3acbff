"""Operators that engine builders do not read, written with ones that all of them do.

TensorRT's documentation takes no cubic Resize (DINOv2's position embedding, and the image on its way into DINOv2) and no Clip of integers
(indices of the geometry lookup).  A cubic resize of a known size is a product with a constant matrix on either side, exact to the
last digits; a clip of integers is a Max and a Min.
Reference: ONNX operators Resize and Clip, https://onnx.ai/onnx/operators/ (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

# the matrix products of a resize keep this in their names: deploy.precision leaves them in float32, as the resize was
KEEPS_FLOAT32 = "/float32_"
_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def with_plain_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` without cubic Resize and integer Clip where their sizes are known, and without what nothing reads then; `model`
    itself where it has none."""
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    values = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.input, *inferred.output)}
    held = {value.name: value for value in model.graph.initializer}
    held |= {
        node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    sizes = {name: [size.dim_value for size in kind.shape.dim] for name, kind in values.items()}
    sizes |= {name: list(value.dims) for name, value in held.items()}
    nodes: list[onnx.NodeProto] = []
    weights: list[TensorProto] = []
    for node in model.graph.node:
        if node.op_type == "Clip" and node.input[0] in values and values[node.input[0]].elem_type in _INTEGERS:
            nodes += _bounds(node)
        elif _is_cubic(node) and len(sizes.get(node.input[0], [])) == 4 and all(sizes.get(node.output[0], [0])[2:]):
            written, matrices = _products(node, sizes[node.input[0]], sizes[node.output[0]], held)
            nodes += written
            weights += matrices
        else:
            nodes.append(node)
    if nodes == list(model.graph.node):
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.graph.node[:], plain.graph.initializer[:]
    outputs = [value.name for value in model.graph.output]
    plain.graph.node.extend(alive(nodes, outputs))
    used = {*outputs, *(name for node in plain.graph.node for name in _read_by(node))}
    plain.graph.initializer.extend(value for value in (*model.graph.initializer, *weights) if value.name in used)
    return plain


def alive(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that an output depends on, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    return kept[::-1]


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, in its branches and loops too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _read_by(inner)


def _is_cubic(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and any(attribute.name == "mode" and attribute.s == b"cubic" for attribute in node.attribute)


def _bounds(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Max with the lower bound, then Min with the upper one; an absent bound is left out."""
    given = [*node.input, "", ""]
    bounds = [(kind, bound) for kind, bound in (("Max", given[1]), ("Min", given[2])) if bound]
    names = [node.input[0], *(f"{node.output[0]}__{kind.lower()}" for kind, _ in bounds[:-1]), node.output[0]]
    return [
        helper.make_node(kind, [names[place], bound], [names[place + 1]], name=f"{node.name}/{kind}")
        for place, (kind, bound) in enumerate(bounds)
    ] or [helper.make_node("Identity", [names[0]], [names[-1]], name=node.name)]


def _products(
    node: onnx.NodeProto, given: list[int], wanted: list[int], held: dict[str, TensorProto]
) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """rows @ (image @ columns), with the two constant matrices."""
    scales = held.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    axes = next((attribute.ints for attribute in node.attribute if attribute.name == "axes"), range(4))
    # without a factor the sizes decide
    factors = {} if scales is None else {axis % 4: factor for axis, factor in zip(axes, numpy_helper.to_array(scales), strict=True)}
    rows = _matrix(node, given[2], wanted[2], factors.get(2))
    columns = _matrix(node, given[3], wanted[3], factors.get(3)).T
    names = [f"{node.output[0]}__{part}" for part in ("rows", "columns", "widened")]
    weights = [numpy_helper.from_array(np.ascontiguousarray(values), name) for values, name in zip((rows, columns), names[:2], strict=True)]
    widened = helper.make_node("MatMul", [node.input[0], names[1]], [names[2]], name=f"{node.name}{KEEPS_FLOAT32}columns")
    heightened = helper.make_node("MatMul", [names[0], names[2]], [node.output[0]], name=f"{node.name}{KEEPS_FLOAT32}rows")
    return [widened, heightened], weights


def _matrix(node: onnx.NodeProto, given: int, wanted: int, factor: float | None) -> NDArray[np.float32]:
    """(wanted, given): what the node makes of each unit column, by the answers of ONNX Runtime's own Resize."""
    import onnxruntime

    options = [attribute for attribute in node.attribute if attribute.name != "axes"]
    how = numpy_helper.from_array(np.array([1, 1, factor, 1], np.float32), "how")
    if factor is None:
        how = numpy_helper.from_array(np.array([given, 1, wanted, 1], np.int64), "how")
    resize = helper.make_node("Resize", ["x", "", "how"] if factor is not None else ["x", "", "", "how"], ["y"])
    resize.attribute.extend(options)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [given, 1, None, 1]) for name in ("x", "y")]
    graph = helper.make_graph([resize], "resize", ports[:1], ports[1:], [how])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {"x": np.eye(given, dtype=np.float32)[:, None, :, None]})[0]
    return answer[:, 0, :, 0].T
