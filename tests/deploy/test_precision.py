"""Strongly typed graphs: which node computes in which type, what is cast, and what ONNX Runtime answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser

from deploy.precision import Precision, has_quantization, precision_of, rounded_in_float32, typed_graph
from search_spaces.errors import SpecError, UnsupportedError

F32 = NDArray[np.float32]
FLOATS = {TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16"}
# x -> conv -> relu -> softmax -> conv -> y, and a sum that the second convolution moves
CHAIN = """
<ir_version: 9, opset_import: ["" : 17]>
chain (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[1,1,1,1] w = {2.0}>
{
   [first] a = Conv(x, w)
   [relu] b = Relu(a)
   [softmax] c = Softmax(b)
   [second] d = Conv(c, w)
   [sum] y = Add(d, x)
}
"""


def types_of(model: onnx.ModelProto) -> dict[str, str]:
    """Name of a node -> the type of its first output."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    held = {value.name: FLOATS.get(value.type.tensor_type.elem_type, "other") for value in (*graph.value_info, *graph.output)}
    return {node.name: held[node.output[0]] for node in model.graph.node if node.op_type != "Cast"}


def answer(model: onnx.ModelProto, **inputs: F32) -> F32:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: F32 = session.run(None, inputs)[0]
    return result


def images_for(model: onnx.ModelProto) -> dict[str, F32]:
    generator = np.random.default_rng(1)
    sizes = {value.name: [size.dim_value or 1 for size in value.type.tensor_type.shape.dim] for value in model.graph.input}
    return {name: generator.standard_normal(size).astype(np.float32) for name, size in sizes.items()}


def test_heavy_operators_are_low_and_the_softmax_is_not() -> None:
    held = types_of(typed_graph(parser.parse_model(CHAIN), Precision.FP16).model)
    assert held == {"first": "FP16", "relu": "FP16", "softmax": "FP32", "second": "FP16", "sum": "FP32"}


def test_each_tensor_is_cast_once() -> None:
    found = typed_graph(parser.parse_model(CHAIN), Precision.FP16)
    casts = sorted(node.input[0] for node in found.model.graph.node if node.op_type == "Cast")
    assert casts == ["b", "c", "d", "x"]
    assert (found.casts, found.nodes, found.islands) == (4, {"FP16": 3, "FP32": 2}, {"Softmax": 1, "Add": 1})


def test_a_weight_is_stored_in_the_type_it_is_used_in() -> None:
    (weight,) = typed_graph(parser.parse_model(CHAIN), Precision.BF16).model.graph.initializer
    assert (weight.data_type, numpy_helper.to_array(weight).astype(np.float32).item()) == (TensorProto.BFLOAT16, 2.0)


def test_inputs_and_outputs_stay_float32() -> None:
    model = typed_graph(parser.parse_model(CHAIN.replace("y = Add(d, x)", "y = Conv(d, w)")), Precision.FP16).model
    onnx.checker.check_model(model, full_check=True)
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}


def test_float32_with_nothing_named_changes_no_node() -> None:
    model = parser.parse_model(CHAIN)
    found = typed_graph(model, Precision.FP32)
    assert [node.op_type for node in found.model.graph.node] == [node.op_type for node in model.graph.node]


def test_the_model_that_is_given_stays_as_it_is() -> None:
    model = parser.parse_model(CHAIN)
    before = model.SerializeToString()
    typed_graph(model, Precision.BF16)
    assert model.SerializeToString() == before


def test_named_layers_win_and_later_pairs_win_over_earlier_ones() -> None:
    found = typed_graph(parser.parse_model(CHAIN), Precision.FP16, layers=["*:fp16", "s*:fp32"])
    assert types_of(found.model) == {"first": "FP16", "relu": "FP16", "softmax": "FP32", "second": "FP32", "sum": "FP32"}
    assert found.named == ("first", "relu", "softmax", "second", "sum")


def test_one_layer_of_a_float32_graph_can_be_low() -> None:
    held = types_of(typed_graph(parser.parse_model(CHAIN), Precision.FP32, layers=["second:bf16"]).model)
    assert held == {"first": "FP32", "relu": "FP32", "softmax": "FP32", "second": "BF16", "sum": "FP32"}


def test_a_pattern_without_a_node_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(SpecError, match="no node of the graph is called secnd") as caught:
        typed_graph(parser.parse_model(CHAIN), Precision.FP16, layers=["secnd:fp32"])
    assert caught.value.hint == "did you mean second:fp32?"


def test_an_unknown_precision_of_a_layer_is_an_error() -> None:
    with pytest.raises(SpecError, match="'first:int4' must be a name pattern, a colon and a precision"):
        typed_graph(parser.parse_model(CHAIN), Precision.FP16, layers=["first:int4"])


def test_a_weight_beyond_fp16_is_an_error_that_names_it() -> None:
    with pytest.raises(UnsupportedError, match="Conv first has a weight of 7e\\+04, beyond FP16's largest") as caught:
        typed_graph(parser.parse_model(CHAIN.replace("2.0", "70000.0")), Precision.FP16)
    assert "layers_precision=[first:fp32]" in str(caught.value.hint)


def test_a_sum_that_a_layer_norm_reads_is_float32() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    block (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1.0,0.0,0.0,1.0}, float[2] s = {1.0,1.0}>
    {
       [one] a = MatMul(x, w)
       [two] b = MatMul(a, w)
       [residual] c = Add(a, b)
       [norm] d = LayerNormalization(c, s)
       [three] e = MatMul(d, w)
       [other] f = Add(e, a)
       [last] y = MatMul(f, w)
    }"""
    held = types_of(typed_graph(parser.parse_model(text), Precision.BF16).model)
    assert (held["residual"], held["norm"], held["other"]) == ("FP32", "FP32", "BF16")


def test_a_bf16_result_is_rounded_as_torch_rounds_it() -> None:
    text = CHAIN.replace("2.0", "1.2345678").replace("Conv(c, w)", "Conv(b, w)").replace("y = Add(d, x)", "y = Relu(d)")
    image = np.array([[[[1.001, 2.002], [3.003, 4.004]]]], dtype=np.float32)
    given = answer(rounded_in_float32(typed_graph(parser.parse_model(text), Precision.BF16).model), x=image)
    weight = torch.tensor(1.2345678).bfloat16()
    expected = (torch.from_numpy(image).bfloat16() * weight) * weight
    assert np.array_equal(given, expected.float().numpy())


def test_a_quantised_graph_is_refused_and_recognised() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    q (float[2] x) => (float[2] y) <float s = {0.5}, int8 z = {0}>
    {
       a = QuantizeLinear(x, s, z)
       y = DequantizeLinear(a, s, z)
    }"""
    model = parser.parse_model(text)
    assert has_quantization(model)
    assert typed_graph(model, Precision.FP32).nodes == {"FP32": 2}
    with pytest.raises(UnsupportedError, match="quantised already"):
        typed_graph(model, Precision.FP16)


def test_a_typed_graph_is_not_typed_again() -> None:
    typed = typed_graph(parser.parse_model(CHAIN), Precision.FP16).model
    assert precision_of(typed) is Precision.FP16
    with pytest.raises(UnsupportedError, match="not float32"):
        typed_graph(typed, Precision.BF16)


def test_networks_in_fp16_run_in_onnxruntime_and_answer_nearly_the_same(exported: onnx.ModelProto) -> None:
    images = images_for(exported)
    found = typed_graph(exported, Precision.FP16)
    onnx.checker.check_model(found.model, full_check=True)
    reference, given = answer(exported, **images), answer(found.model, **images)
    assert given.dtype == np.float32
    assert np.abs(given - reference).max() < 0.01 * reference.max()


def test_networks_in_bf16_answer_nearly_the_same(exported: onnx.ModelProto) -> None:
    images = images_for(exported)
    found = typed_graph(exported, Precision.BF16)
    onnx.checker.check_model(found.model, full_check=True)
    reference, given = answer(exported, **images), answer(rounded_in_float32(found.model), **images)
    assert 0 < np.abs(given - reference).max() < 0.02 * reference.max()


def test_islands_of_the_networks(exported: onnx.ModelProto) -> None:
    """Every norm and softmax, and, in stereo, everything that knows where something is."""
    held = types_of(typed_graph(exported, Precision.FP16).model)
    kind = {node.name: node.op_type for node in exported.graph.node}
    always = {"Softmax", "LayerNormalization", "InstanceNormalization", "ReduceSum", "ReduceL2", "Floor", "GatherElements"}
    assert {held[name] for name in held if kind.get(name) in always} == {"FP32"}
    convolutions = [held[name] for name in held if kind.get(name) in {"Conv", "ConvTranspose"}]
    assert convolutions.count("FP16") >= len(convolutions) - 1  # one projects a constant position embedding: builders fold it
    assert held[exported.graph.node[-1].name] == "FP32"


def test_the_file_of_a_typed_network_is_about_half(exported: onnx.ModelProto) -> None:
    size = typed_graph(exported, Precision.FP16).model.ByteSize()
    assert size < 0.65 * exported.ByteSize()


def test_every_node_may_be_named_at_once(exported: onnx.ModelProto) -> None:
    found = typed_graph(exported, Precision.FP32, layers=["*:fp16"])
    onnx.checker.check_model(found.model, full_check=True)
    assert found.nodes.keys() == {"FP16"}
    assert np.isfinite(answer(found.model, **images_for(exported))).all()
