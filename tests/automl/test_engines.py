"""`depth_net gen_trt_engine` and `depth_net check_onnx` on a machine without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import parser

from automl import depth_net
from automl.actions import output_folder
from automl.entry import DONE, FAILED, MISUSED, run_app
from deploy.precision import Precision, precision_of
from search_spaces.spec import load_spec, save_spec

Run = Callable[..., int]
GRAPH = """<ir_version: 9, opset_import: ["" : 17]>
g (float[BATCH,3,14,28] images) => (float[BATCH,1,14,28] outputs) <float[1,3,1,1] w = {0.1, 0.2, 0.3}>
{
   [conv] a = Conv(images, w)
   [act] outputs = Sigmoid(a)
}"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """depth_net gen_trt_engine on m.onnx of the current folder, with a mono spec that says nothing more."""
    monkeypatch.chdir(tmp_path)
    onnx.save(parser.parse_model(GRAPH.replace("BATCH", "n")), "m.onnx")
    Path("spec.yaml").write_text("model: {model_type: RelativeDepthAnything, encoder: vitl}\n", encoding="utf-8")

    def call(*overrides: str) -> int:
        return run_app(depth_net.app, "depth_net", ["gen_trt_engine", "-e", "spec.yaml", "gen_trt_engine.onnx_file=m.onnx", *overrides])

    return call


@pytest.mark.usefixtures("without_gpu")
def test_what_is_missing_is_said_before_any_work(run: Run, capsys: pytest.CaptureFixture[str]):
    assert run() == MISUSED
    err = capsys.readouterr().err
    assert err.startswith(
        "error: depth_net gen_trt_engine needs an NVIDIA GPU (torch sees none) and the tensorrt package\n\nhint: pip install"
    )
    assert sorted(path.name for path in Path().iterdir()) == ["m.onnx", "spec.yaml"]


def test_the_graph_alone_needs_no_gpu(run: Run, capsys: pytest.CaptureFixture[str]):
    assert run("gen_trt_engine.graph_only=true", "results_dir=out") == DONE
    typed = onnx.load("m.bf16.onnx")
    assert precision_of(typed) is Precision.BF16
    out = capsys.readouterr().out
    assert "gen_trt_engine.tensorrt.data_type is not said: BF16" in out
    assert "wrote m.bf16.onnx: 1 operator in BF16, 1 operator in FP32, 2 casts" in out
    assert "in ONNX Runtime against float32 on 4 made-up images: largest difference" in out
    lines = [json.loads(line)["message"] for line in Path("out/gen_trt_engine/status.json").read_text().splitlines()]
    assert lines == ["Starting depth_net gen_trt_engine.", "Gen_trt_engine finished successfully."]


def test_a_resolved_spec_says_no_more_than_its_source(run: Run, capsys: pytest.CaptureFixture[str]):
    save_spec(load_spec(Path("spec.yaml")), Path("spec.yaml"))
    assert run("gen_trt_engine.graph_only=true") == DONE
    assert "gen_trt_engine.tensorrt.data_type is not said: BF16" in capsys.readouterr().out


def test_layers_are_named_by_pattern(run: Run, capsys: pytest.CaptureFixture[str]):
    graph_only = ("gen_trt_engine.graph_only=true", "gen_trt_engine.tensorrt.data_type=FP32")
    assert run(*graph_only, "gen_trt_engine.tensorrt.layers_precision=[co*:fp16]") == DONE
    assert "layers_precision set 1 operator: conv" in capsys.readouterr().out
    assert run(*graph_only, "gen_trt_engine.tensorrt.layers_precision=[cnv:fp16]") == MISUSED
    assert "no node of the graph is called cnv\n\nhint: did you mean conv:fp16?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["gen_trt_engine.tensorrt.data_type=FP16"], "not for mono networks with vitl"),
        (["gen_trt_engine.tensorrt.data_type=INT8"], "needs a graph with QuantizeLinear"),
        (["gen_trt_engine.trt_engine=m.plan"], "must end in .engine"),
        (["gen_trt_engine.onnx_file=m.etlt"], "must end in .onnx"),
        (["gen_trt_engine.onnx_file=absent.onnx"], "there is no such file"),
        (["gen_trt_engine.onnx_file=fixed.onnx", "gen_trt_engine.tensorrt.max_batch_size=4"], "has the batch 2, but the profile"),
        (["gen_trt_engine.onnx_file=odd.onnx"], "TensorRT does not take the graph: Bernoulli: not supported"),
    ],
)
def test_refusals(run: Run, overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    onnx.save(parser.parse_model(GRAPH.replace("BATCH", "2")), "fixed.onnx")
    onnx.save(parser.parse_model(GRAPH.replace("BATCH", "n").replace("Sigmoid", "Bernoulli")), "odd.onnx")
    assert run("gen_trt_engine.graph_only=true", *overrides) == MISUSED
    assert words in capsys.readouterr().err
    assert not list(Path().glob("*.bf16.onnx"))


def test_check_onnx_shows_each_operator(run: Run, capsys: pytest.CaptureFixture[str]):
    assert run_app(depth_net.app, "depth_net", ["check_onnx", "m.onnx", "--target", "tensorrt"]) == DONE
    out = capsys.readouterr().out
    assert "Conv" in out
    assert "nothing blocks: TensorRT 10.15's documentation takes every operator" in out


def test_check_onnx_fails_on_what_blocks(run: Run, capsys: pytest.CaptureFixture[str]):
    onnx.save(parser.parse_model(GRAPH.replace("BATCH", "n").replace("Sigmoid", "Bernoulli")), "odd.onnx")
    assert run_app(depth_net.app, "depth_net", ["check_onnx", "odd.onnx"]) == FAILED
    assert "odd.onnx cannot become an engine as it is: Bernoulli: not supported by TensorRT 10.15" in capsys.readouterr().err


def test_check_onnx_lists_nodes(run: Run, capsys: pytest.CaptureFixture[str]):
    assert run_app(depth_net.app, "depth_net", ["check_onnx", "m.onnx", "--nodes", "*c*"]) == DONE
    assert capsys.readouterr().out.split() == ["Conv", "conv", "Sigmoid", "act", "2", "nodes", "called", "*c*"]


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("action", ["evaluate", "inference"])
def test_an_engine_needs_its_gpu_and_writes_nothing_without(action: str, run: Run, capsys: pytest.CaptureFixture[str]):
    Path("m.engine").write_bytes(b"plan")
    assert run_app(depth_net.app, "depth_net", [action, "-e", "spec.yaml", f"{action}.trt_engine=m.engine", "results_dir=out"]) == MISUSED
    assert f"error: depth_net {action} with m.engine needs an NVIDIA GPU (torch sees none)" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_stereo_engine_is_evaluated_pair_by_pair(run: Run, capsys: pytest.CaptureFixture[str]):
    Path("m.engine").write_bytes(b"plan")
    Path("spec.yaml").write_text("model: {model_type: FoundationStereo}\ndataset: {test_dataset: {batch_size: 2}}\n", encoding="utf-8")
    assert run_app(depth_net.app, "depth_net", ["evaluate", "-e", "spec.yaml", "evaluate.trt_engine=m.engine"]) == MISUSED
    err = capsys.readouterr().err
    assert "one pair at a time, but dataset.test_dataset.batch_size is 2\n\nhint: add dataset.test_dataset.batch_size=1" in err


def test_where_actions_write():
    spec = load_spec(None, ["results_dir=out", "inference.results_dir=mine"])
    assert output_folder(spec, "evaluate", Path("m.engine")) == Path("out/trt_evaluate")
    assert output_folder(spec, "evaluate", Path("m.onnx")) == Path("out/evaluate")
    assert output_folder(spec, "inference", Path("m.engine")) == Path("mine")
