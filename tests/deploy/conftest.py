"""Small networks exported once for all the tests that read their graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from deploy.onnx_export import export_onnx
from tests.deploy.networks import mono_spec, network_of, stereo_spec


@pytest.fixture(scope="session", params=[("mono", 17), ("mono", 23), ("stereo", 17)], ids=str)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The graph of a network of either family, by either of torch's exporters, with a free batch."""
    family, opset = request.param
    return graph_of(family, opset, tmp_path_factory.mktemp(family) / "model.onnx")


@pytest.fixture(scope="session")
def stereo_by_torch_export(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The stereo graph by torch.export, whose drawing alone takes half a minute."""
    return graph_of("stereo", 18, tmp_path_factory.mktemp("stereo") / "model.onnx")


def graph_of(family: str, opset: int, path: Path) -> ModelProto:
    """A small network's graph."""
    spec = stereo_spec() if family == "stereo" else mono_spec()
    height, width = (64, 96) if family == "stereo" else (28, 42)
    export_onnx(network_of(spec), spec, path, height=height, width=width, opset=opset, iterations=1)
    return onnx.load(path)
