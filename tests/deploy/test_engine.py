"""Engines: what is asked of the builder, what is written, and what is refused before any of it."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser

from deploy.engine import (
    EngineReport,
    EngineSettings,
    Profile,
    Progress,
    build_engine,
    check_precision,
    check_profile,
    check_source,
    check_version,
    check_workspace,
    engine_sidecar,
    need_tensorrt,
)
from deploy.engine_plan import data_type_of
from deploy.engine_runtime import TrtPredictor, check_batch, engine_facts
from deploy.onnx_export import export_onnx
from deploy.precision import Precision, typed_graph
from deploy.runtime import TorchPredictor
from search_spaces.errors import CheckpointError, DataError, SpecError, UnsupportedError
from search_spaces.spec import Spec, with_values
from tests.deploy.networks import images_of, mono_spec, network_of
from tests.deploy.recorded_tensorrt import Recorded

SETTINGS = EngineSettings(precision="FP16", profile=Profile(low=1, usual=2, high=4), workspace_gib=4, timing_cache=None, verbose=False)
GRAPH = '<ir_version: 9, opset_import: ["" : 17]> g (float[n,3,14,28] images) => (float[n,3,14,28] y) { y = Relu(images) }'


def build(folder: Path, module: Recorded, settings: EngineSettings = SETTINGS, *, progress: Progress | None = None) -> EngineReport:
    source = folder / "m.onnx"
    onnx.save(parser.parse_model(GRAPH), source)
    graph, target = onnx.load(source), folder / "m.engine"
    return build_engine(graph, target, settings, tensorrt=module, gpu="H200", facts=None, source=source, progress=progress)


def test_the_builder_is_asked_for_a_strongly_typed_network_and_nothing_else_of_precision(tmp_path: Path) -> None:
    module = Recorded()
    build(tmp_path, module)
    assert module.calls == [
        ("create_network", (2,)),
        ("set_memory_pool_limit", ("workspace", 4 << 30)),
        ("clear_flag", ("tf32",)),
        ("set_shape", ("images", (1, 3, 14, 28), (2, 3, 14, 28), (4, 3, 14, 28))),
    ]


def test_workspace_0_leaves_the_memory_to_tensorrt(tmp_path: Path) -> None:
    module = Recorded()
    build(tmp_path, module, replace(SETTINGS, workspace_gib=0))
    assert "set_memory_pool_limit" not in dict(module.calls)


def test_engine_and_description(tmp_path: Path) -> None:
    report = build(tmp_path, Recorded())
    assert report.path.read_bytes() == b"plan"
    told = json.loads((tmp_path / "m.engine.json").read_text())["engine"]
    assert (told["precision"], told["profile"], told["tensorrt_version"], told["gpu"]) == (
        "FP16",
        {"low": 1, "usual": 2, "high": 4},
        "11.0.0.1",
        "H200",
    )
    assert engine_facts(report.path) is None


def test_a_broken_description_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "m.engine.json").write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match=r"m\.engine\.json: the engine's description cannot be read"):
        engine_facts(tmp_path / "m.engine")


def test_progress_counts_steps(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build(tmp_path, Recorded(), progress=lambda *given: seen.append(given))
    assert seen == [("Tactics", 1, 2), ("Tactics", 2, 2)]


def test_ctrl_c_ends_a_build_as_itself(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, Recorded(), progress=lambda *_: signal.raise_signal(signal.SIGINT))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_timing_cache_is_read_and_written_with_what_others_added(tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    assert build(tmp_path, Recorded(), replace(SETTINGS, timing_cache=cache)).timing_cache == "new"
    assert cache.read_bytes() == b"+"
    assert build(tmp_path, Recorded(), replace(SETTINGS, timing_cache=cache)).timing_cache == "read"
    assert cache.read_bytes() == b"+++"


def test_a_timing_cache_of_another_gpu_is_replaced_and_said(tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"old")
    told = build(tmp_path, Recorded(cache_fits=False), replace(SETTINGS, timing_cache=cache)).timing_cache
    assert told == "replaced: it was of another GPU or TensorRT, or damaged"


def test_a_damaged_timing_cache_is_replaced(tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"damaged")
    build(tmp_path, Recorded(), replace(SETTINGS, timing_cache=cache))
    assert cache.read_bytes() == b"+"


def test_an_engine_is_described_although_its_timings_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "timings").mkdir()
    with pytest.raises(DataError, match="cannot write"):
        build(tmp_path, Recorded(), replace(SETTINGS, timing_cache=tmp_path / "timings"))
    assert (tmp_path / "m.engine.json").is_file()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Recorded(refuses="node 3: bad kernel"), "cannot read the graph: node 3: bad kernel"),
        (Recorded(builds=False), "built no engine: no implementation fits into the workspace"),
    ],
)
def test_the_words_of_a_builder_that_fails_and_no_file(module: Recorded, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        build(tmp_path, module)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.usefixtures("without_gpu")
def test_one_error_names_all_that_is_missing() -> None:
    with pytest.raises(UnsupportedError) as caught:
        need_tensorrt(0, what="it", instead="; else graph_only")
    assert caught.value.message == "it needs an NVIDIA GPU (torch sees none) and the tensorrt package"
    assert str(caught.value.hint).endswith("driver; else graph_only")


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(SpecError, match=r"gpu_id is 1, but torch sees 1 GPU$"):
        need_tensorrt(1, what="it")


@pytest.mark.parametrize("version", ["10.15.1.29", "8.6.0", "12.0.0"])
def test_other_releases_are_refused(version: str) -> None:
    with pytest.raises(UnsupportedError, match=r"10\.16 to 11 are supported"):
        check_version(version)


def test_supported_releases() -> None:
    assert (check_version("10.16.0.1"), check_version("11.4.1")) == ((10, 16), (11, 4))


def test_a_workspace_in_mib_is_told_apart() -> None:
    check_workspace(4, 80 << 30)
    with pytest.raises(SpecError, match=r"is in GiB: 1024 GiB do not fit .* 80\.0 GiB; if MiB were meant, write 1"):
        check_workspace(1024, 80 << 30)


def test_a_profile_is_for_a_free_batch() -> None:
    profile, one = Profile(low=1, usual=2, high=4), Profile(low=1, usual=1, high=1)
    assert (check_profile(None, profile), check_profile(8, one), check_profile(2, Profile(low=2, usual=2, high=2))) == (profile, None, None)
    with pytest.raises(SpecError, match=r"has the batch 8, but the profile of gen_trt_engine\.tensorrt asks for batches 1/2/4"):
        check_profile(8, profile)


@pytest.mark.parametrize(
    ("asked", "family", "encoder", "quantized", "words"),
    [
        ("FP16", "mono", "vitl", False, "not for mono networks with vitl"),
        ("INT8", "mono", "vits", False, "needs a graph with QuantizeLinear"),
        ("FP16", "stereo", "vitl", True, "quantised to int8 already"),
    ],
)
def test_precisions_that_a_network_or_graph_does_not_bear(asked: str, family: str, encoder: str, *, quantized: bool, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        check_precision(asked, family=family, encoder=encoder, quantized=quantized)


def test_precisions_of_the_graph() -> None:
    assert check_precision("FP16", family="stereo", encoder="vitl", quantized=False) is Precision.FP16
    assert check_precision("INT8", family="mono", encoder="vits", quantized=True) is Precision.FP32


@pytest.mark.parametrize(
    ("asked", "family", "quantized", "capability", "chosen"),
    [
        (None, "mono", False, (8, 0), "BF16"),
        (None, "mono", False, (7, 5), "FP32"),
        (None, "stereo", False, (9, 0), "FP32"),
        (None, "mono", True, (9, 0), "INT8"),
        ("FP32", "mono", False, (9, 0), "FP32"),
        ("FP16", "stereo", False, (7, 5), "FP16"),
    ],
)
def test_an_engine_computes_in_what_was_said_or_else_in_what_fits(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, family: str, quantized: bool, capability: tuple[int, int], chosen: str
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    spec = with_values(Spec(), {"gen_trt_engine.tensorrt.data_type": asked})
    assert data_type_of(spec, family, quantized=quantized, gpu=0) == chosen


def test_bf16_that_the_gpu_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "T4")
    with pytest.raises(UnsupportedError, match=r"=BF16 needs a GPU of compute capability 8\.0 \(Ampere\) or later, not T4"):
        data_type_of(with_values(Spec(), {"gen_trt_engine.tensorrt.data_type": "BF16"}), "mono", quantized=False, gpu=0)


def test_sources_that_are_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff no")
    with pytest.raises(UnsupportedError, match=r"must end in \.onnx"):
        check_source(tmp_path / "m.etlt")
    with pytest.raises(CheckpointError, match="there is no such file"):
        check_source(tmp_path / "absent.onnx")
    with pytest.raises(CheckpointError, match="is not an ONNX file"):
        check_source(tmp_path / "m.onnx")


def test_a_batch_beyond_the_profile_names_both() -> None:
    check_batch((1, 3, 14, 28), (2, 2, 4), Path("m.engine"))  # a smaller one is filled up
    with pytest.raises(DataError, match=r"takes batches of 1 to 4 \(profile 1/2/4\), but got 8x3x320x736"):
        check_batch((8, 3, 320, 736), (1, 2, 4), Path("m.engine"))


def test_an_engine_keeps_clear_of_the_description_of_its_onnx_file() -> None:
    assert engine_sidecar(Path("a/m.engine")) == Path("a/m.engine.json")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="an engine is built on a GPU")
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_an_engine_answers_as_the_network_does(precision: Precision, tmp_path: Path) -> None:
    """Builds on the GPU that is there, with a free batch, and compares batches of one and three."""
    tensorrt = pytest.importorskip("tensorrt", reason="TensorRT comes from NVIDIA's own index: pip install -e '.[tensorrt]'")
    spec = mono_spec()
    network, source = network_of(spec), tmp_path / "m.onnx"
    facts = export_onnx(network, spec, source, height=28, width=42).facts
    settings = replace(SETTINGS, precision=precision.value, timing_cache=tmp_path / "timings")
    graph = typed_graph(onnx.load(source), precision).model
    name = torch.cuda.get_device_name(0)
    report = build_engine(graph, tmp_path / "m.engine", settings, tensorrt=tensorrt, gpu=name, facts=facts, source=source)
    engine, reference = TrtPredictor(report.path), TorchPredictor(network, "mono")
    for count in (1, 3):
        images = images_of(spec, count)
        given, expected = engine.predict(images).numpy(), reference.predict(images).numpy()
        np.testing.assert_allclose(given, expected, atol=1e-3 if precision is Precision.FP32 else 0.1)
    assert engine.facts == facts
