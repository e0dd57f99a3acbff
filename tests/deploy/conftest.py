"""Small networks exported once for all the tests that read their graphs."""

from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto

from deploy.onnx_export import export_onnx
from tests.deploy.networks import mono_spec, network_of, stereo_spec

SLOW = pytest.param(("stereo", 18), marks=pytest.mark.slow)  # its export alone takes half a minute


@pytest.fixture(scope="session", params=[("mono", 17), ("mono", 23), ("stereo", 17), SLOW], ids=str)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The graph of a network of either family, by either of torch's exporters, with a free batch."""
    family, opset = request.param
    spec = stereo_spec() if family == "stereo" else mono_spec()
    height, width = (64, 96) if family == "stereo" else (28, 42)
    path = tmp_path_factory.mktemp(family) / "model.onnx"
    export_onnx(network_of(spec), spec, path, height=height, width=width, opset=opset, iterations=1)
    return onnx.load(path)
