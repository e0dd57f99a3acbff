"""What is said of graphs that TensorRT takes, takes under a condition, or does not take."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser

from deploy.precision import Precision, typed_graph
from deploy.trt_support import TYPES, check_graph, matching_nodes


def graph(body: str, *, opset: int = 17, given: str = "float[1,3,8,8] x", weights: str = "") -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}, "com.shop" : 1]>\n g ({given}) => (y) {weights} {{ {body} }}')


def blocked(model: onnx.ModelProto) -> dict[str, str]:
    return {operator.name: operator.blocks for operator in check_graph(model).operators if operator.blocks}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Det(x)", {"Det": "not supported by TensorRT 10.15"}),
        ("y = com.shop.Sell(x)", {"com.shop.Sell": "no operator of ONNX: it needs a plug-in"}),
        ('y = Resize<mode = "cubic">(x, , s)', {"Resize": "mode cubic is not supported"}),
        ("y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", {"MaxPool": "dilations must be 1"}),
        ("y, i = MaxPool<kernel_shape = [2, 2]>(x)", {"MaxPool": "the output of indices is not supported"}),
        ("a = Relu(x) \n y = LayerNormalization(a, s)", {}),
        ("y, m = LayerNormalization(x, s)", {"LayerNormalization": "only the first output is supported"}),
        ("i = Cast<to = 7>(x) \n y = Clip(i)", {"Clip": "takes no INT64"}),
        ("a = Shape(x) \n y = ReduceSum(x, a)", {"ReduceSum": "axes must be constant"}),
        ("a = Relu(x) \n b = Less(a, x) \n y = Where(b, a, x)", {}),
    ],
)
def test_what_blocks_an_operator(body: str, expected: dict[str, str]) -> None:
    assert blocked(graph(body, weights="<float[4] s = {1.0, 1.0, 2.0, 2.0}>")) == expected


def test_how_many_of_a_kind_are_blocked_and_which() -> None:
    report = check_graph(graph("[good] a = Clip(x) \n i = Cast<to = 7>(a) \n [bad] y = Clip(i)"))
    (clip,) = [operator for operator in report.operators if operator.name == "Clip"]
    assert (clip.count, clip.blocks, clip.example) == (2, "takes no INT64 (1 of 2)", "bad")


def test_an_opset_beyond_the_table_blocks() -> None:
    assert check_graph(graph("y = Relu(x)", opset=25)).blocks == ("opset 25: TensorRT 10.15 reads 9 to 24",)


def test_only_the_batch_may_be_free() -> None:
    assert check_graph(graph("y = Relu(x)", given="float[n,3,8,8] x")).passes
    report = check_graph(graph("y = Relu(x)", given="float[n,3,h,w] x"))
    assert report.blocks == ("input x: only the batch may be free, but so is dimension 2, 3",)


def test_a_zero_point_that_is_not_zero_blocks() -> None:
    body = "q = QuantizeLinear(x, s, z) \n y = DequantizeLinear(q, s, z)"
    assert blocked(graph(body, weights="<float s = {0.5}, int8 z = {3}>"))["QuantizeLinear"] == "the zero point must be 0"
    assert blocked(graph(body, weights="<float s = {0.5}, int8 z = {0}>")) == {}


def test_types_of_the_table() -> None:
    assert {"FP32", "FP16", "BF16"} <= TYPES["Conv"]
    assert TYPES["Where"] == {"FP32", "FP16", "BF16", "INT32", "INT64", "BOOL"}
    assert "BF16" not in TYPES["GridSample"]


def test_nodes_are_found_by_pattern() -> None:
    assert matching_nodes(graph("[head_a] a = Relu(x) \n [body_b] y = Sigmoid(a)"), "head_*") == [("head_a", "Relu")]


def list_nothing(exported: onnx.ModelProto) -> None:
    for given in (exported, *(typed_graph(exported, precision).model for precision in (Precision.FP16, Precision.BF16))):
        report = check_graph(given)
        assert (report.blocks, blocked(given)) == ((), {})


def test_exported_graphs_and_their_typed_copies_list_nothing(exported: onnx.ModelProto) -> None:
    list_nothing(exported)


@pytest.mark.slow
def test_the_stereo_graph_of_torch_export_lists_nothing(stereo_by_torch_export: onnx.ModelProto) -> None:
    list_nothing(stereo_by_torch_export)
