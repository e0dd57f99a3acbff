"""`depth_net <action> -e spec.yaml key=value ...`: one action on one network, with TAO's grammar.

Only the grammar stands here; `automl.actions` does the work.  `depth_net train` is the same `run_trial` as a trial of a search.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from automl.entry import run_app

app = typer.Typer(
    name="depth_net",
    help="Train, evaluate, run and export one depth network (stereo FoundationStereo, mono Depth Anything V2).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpecFile = Annotated[Path, typer.Option("-e", "--experiment_spec_file", help="The spec; any file name.", metavar="FILE")]
WeightNames = Literal["tao", "published"]
Parent = Annotated[
    Path | None,
    typer.Option(
        "--parent", help="Take the model that this run, export or study (or its s3:// URL) left.", metavar="DIR", show_default=False
    ),
]
Pick = Annotated[
    str,
    typer.Option("--pick", help="Of a run best, latest, epoch=N, step=N; of a study also onnx, openvino, int8, engine.", metavar="WHICH"),
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Spec values; they win over the file.", metavar="[KEY=VALUE]...")]


@app.command("default_specs")
def default_specs(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.", metavar="DIR")],
    skill: Annotated[
        str | None, typer.Option("--skill", help="depth_net_stereo, depth_net_mono, or a skill's folder.", metavar="NAME")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite specs that are there.", metavar="")] = False,
) -> int:
    """Write a spec to fill in for each action: convert.yaml, train.yaml and so on."""
    from automl.default_specs import default_specs_action

    return default_specs_action(skill, out, force=force)


@app.command()
def convert(spec: SpecFile, overrides: Overrides = None) -> int:
    """Annotation lists of a folder of images: train.txt and val.txt, or test.txt."""
    from automl.converting import convert_action

    return convert_action(spec, tuple(overrides or ()))


@app.command()
def train(spec: SpecFile, overrides: Overrides = None) -> int:
    """Train; writes <results_dir>/train."""
    from automl.actions import train_action
    from automl.stored import stored

    return stored("train", spec, tuple(overrides or ()), train_action)


@app.command()
def evaluate(spec: SpecFile, overrides: Overrides = None, *, parent: Parent = None, pick: Pick = "best") -> int:
    """Metrics of evaluate.checkpoint (a checkpoint or an ONNX file) on dataset.test_dataset."""
    from automl.evaluating import evaluate_action
    from automl.parents import with_parent
    from automl.stored import stored

    return stored("evaluate", spec, with_parent("evaluate", overrides, parent, pick), evaluate_action)


@app.command()
def inference(spec: SpecFile, overrides: Overrides = None, *, parent: Parent = None, pick: Pick = "best") -> int:
    """Pictures, raw maps and point clouds from inference.checkpoint for dataset.infer_dataset or inference.input_dir."""
    from automl.inferring import inference_action
    from automl.parents import with_parent
    from automl.stored import stored

    return stored("inference", spec, with_parent("inference", overrides, parent, pick), inference_action)


@app.command()
def export(spec: SpecFile, overrides: Overrides = None, *, parent: Parent = None, pick: Pick = "best") -> int:
    """Write export.checkpoint as ONNX to export.onnx_file, held against it on images."""
    from automl.exporting import export_action
    from automl.parents import with_parent
    from automl.stored import stored

    return stored("export", spec, with_parent("export", overrides, parent, pick), export_action)


@app.command()
def quantize(spec: SpecFile, overrides: Overrides = None, *, parent: Parent = None, pick: Pick = "best") -> int:
    """A smaller model from quantize.model_path: 8-bit weights, or an int8 ONNX file; measured before it counts as done."""
    from automl.parents import with_parent
    from automl.quantizing import quantize_action
    from automl.stored import stored

    return stored("quantize", spec, with_parent("quantize", overrides, parent, pick), quantize_action)


@app.command("gen_trt_engine")
def gen_trt_engine(spec: SpecFile, overrides: Overrides = None, *, parent: Parent = None, pick: Pick = "best") -> int:
    """Build a TensorRT engine from gen_trt_engine.onnx_file, on the GPU that will run it."""
    from automl.engines import gen_trt_engine_action
    from automl.parents import with_parent
    from automl.stored import stored

    return stored("gen_trt_engine", spec, with_parent("gen_trt_engine", overrides, parent, pick), gen_trt_engine_action)


@app.command("check_onnx")
def check_onnx(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", metavar="FILE")],
    target: Annotated[Literal["tensorrt"], typer.Option("--target", help="What is to read it.")] = "tensorrt",  # noqa: ARG001  there is one
    nodes: Annotated[
        str | None, typer.Option("--nodes", help="List the nodes of these names instead, for layers_precision.", metavar="PATTERN")
    ] = None,
) -> int:
    """Each operator of an ONNX file, and whether TensorRT's documentation takes it."""
    from automl.engines import check_onnx_action

    return check_onnx_action(file, nodes)


@app.command()
def sample(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.", metavar="DIR")],
    scenes: Annotated[
        int, typer.Option("--scenes", min=3, help="Scenes in all: 20 % for validation, 10 % for test, at least one each.", metavar="N")
    ] = 12,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same scenes.", metavar="N")] = 0,
) -> int:
    """Write synthetic scenes with exact ground truth, their annotation files and ready-to-run specs."""
    from automl.sample_specs import sample_action

    return sample_action(out, scenes, seed)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint or weight file.", metavar="FILE")],
    write: Annotated[Path | None, typer.Option("--write", help="Also write its weights here.", metavar="FILE")] = None,
    names: Annotated[WeightNames | None, typer.Option("--names", help="Whose names to write them under.")] = None,
) -> int:
    """What a weight file is and which key takes it; also writes it for TAO or for the project that released the network."""
    from automl.weight_file import inspect_action

    return inspect_action(file, write, names)


def main() -> None:
    """Console script `depth_net`."""
    sys.exit(run_app(app, "depth_net"))
