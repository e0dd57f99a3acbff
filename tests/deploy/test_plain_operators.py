"""Cubic resizes as matrix products and integer clips as bounds give the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from deploy.plain_operators import with_plain_operators
from deploy.precision import Precision, typed_graph

HEAD = '<ir_version: 9, opset_import: ["" : 17]>'
SIZES = f"""{HEAD}
r (float[n,3,5,7] x) => (float[n,3,9,4] y) <int64[2] hw = {{9, 4}}, int64[1] zero = {{0}}, int64[1] two = {{2}}>
{{
   shape = Shape(x)
   front = Slice(shape, zero, two)
   sizes = Concat<axis = 0>(front, hw)
   [resize] y = Resize<mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel", cubic_coeff_a = -0.75>(x, , , sizes)
}}"""
SCALES = f"""{HEAD}
r (float[1,3,5,7] x) => (float[1,3,10,17] y) <float[4] scales = {{1.0, 1.0, 2.01, 2.5}}>
{{
   [resize] y = Resize<mode = "cubic", coordinate_transformation_mode = "half_pixel">(x, , scales)
}}"""
OF_AXES = """<ir_version: 9, opset_import: ["" : 18]>
r (float[1,3,5,7] x) => (float[1,3,10,17] y) <float[2] scales = {2.5, 2.01}>
{
   [resize] y = Resize<mode = "cubic", axes = [-1, 2]>(x, , scales)
}"""
CLIP = f"""{HEAD}
c (int64[4] x) => (int64[4] y) <int64 low = {{0}}, int64 high = {{2}}>
{{
   [clip] y = Clip(x, BOUNDS)
}}"""


def answer(model: onnx.ModelProto, x: Any) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("text", [SIZES, SCALES, OF_AXES], ids=["sizes", "scales", "scales of named axes"])
def test_a_cubic_resize_becomes_two_products_with_the_same_answer(text: str) -> None:
    model = parser.parse_model(text)
    image = np.random.default_rng(0).standard_normal((1, 3, 5, 7)).astype(np.float32)
    plain = with_plain_operators(model)
    assert "Resize" not in {node.op_type for node in plain.graph.node}
    np.testing.assert_allclose(answer(plain, image), answer(model, image), atol=1e-5)


@pytest.mark.parametrize("text", [SIZES, SCALES], ids=["sizes", "scales"])
def test_nothing_unread_stays(text: str) -> None:
    graph = with_plain_operators(parser.parse_model(text)).graph
    assert [node.op_type for node in graph.node] == ["MatMul", "MatMul"]
    assert {value.name for value in graph.initializer} == {"y__rows", "y__columns"}


def test_what_a_branch_reads_stays() -> None:
    branch = """b () => (int64[4] z) { z = Add(w, w) }"""
    text = f"""{HEAD}
    c (int64[4] x, bool cond) => (int64[4] y) <int64 low = {{0}}, int64[4] w = {{1, 2, 3, 4}}>
    {{
       clipped = Clip(x, low)
       chosen = If (cond) <then_branch = {branch}, else_branch = {branch}>
       y = Add(clipped, chosen)
    }}"""
    model = with_plain_operators(parser.parse_model(text))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([-3, 0, 2, 7]), "cond": np.array(True)})[0].tolist() == [2, 4, 8, 15]


def test_a_cubic_resize_stays_in_float32() -> None:
    typed = typed_graph(with_plain_operators(parser.parse_model(SCALES)), Precision.FP16)
    assert typed.nodes == {"FP32": 2}


@pytest.mark.parametrize(
    ("bounds", "expected", "operators"),
    [("low, high", [0, 0, 2, 2], ["Max", "Min"]), ("low", [0, 0, 2, 7], ["Max"]), (", high", [-3, 0, 2, 2], ["Min"])],
)
def test_a_clip_of_integers_becomes_bounds(bounds: str, expected: list[int], operators: list[str]) -> None:
    plain = with_plain_operators(parser.parse_model(CLIP.replace("BOUNDS", bounds)))
    assert [node.op_type for node in plain.graph.node] == operators
    assert answer(plain, np.array([-3, 0, 2, 7])).tolist() == expected


def test_a_graph_without_them_is_given_back() -> None:
    model = parser.parse_model(f"{HEAD}\n f (float[2] x) => (float[2] y) {{ y = Clip(x) }}")
    assert with_plain_operators(model) is model
