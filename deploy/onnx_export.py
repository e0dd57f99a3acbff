"""A trained network as one ONNX file of fixed height and width.

Names, shapes and the 14 / 32 pixel rules are those of TAO's depth_net export: inputs `left_image`, `right_image`
or `images` (normalised float32), outputs `disparity` (B, 1, H, W) or `outputs` (B, H, W).  Which of torch's two
exporters draws the graph, and why, is in docs/adr/0002-onnx-exporter.md.
Reference: https://docs.pytorch.org/docs/stable/onnx_export.html (BSD-3-Clause).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from deploy.plain_operators import with_plain_operators
from deploy.sidecar import METADATA_KEY, ModelFacts, file_sha256, sidecar_path, spec_sha256, write_json
from models.registry import network_info
from search_spaces.errors import CheckpointError, SpecError, UnsupportedError, UserError, shell_word
from search_spaces.spec import Spec

# protobuf refuses messages of 2 GiB; the margin is for the graph itself
_PROTOBUF_LIMIT = (1 << 31) - (64 << 20)
_OPSETS = (16, 23)
# below it the tracing exporter draws: torch.export's own has no lower opset (docs/adr/0002-onnx-exporter.md)
FIRST_GRAPH_OPSET = 18
_TALKERS = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written: `opset` and `nodes` are read from the file, `inputs` and `outputs` map names to shapes
    (None where the batch is free), `seconds` is the whole export with its checks."""

    path: Path
    sidecar: Path
    facts: ModelFacts
    nodes: int
    size_bytes: int
    opset: int
    seconds: float
    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]


def export_onnx(
    network: nn.Module,
    spec: Spec,
    path: Path,
    *,
    height: int,
    width: int,
    batch: int | None = None,
    iterations: int | None = None,
    opset: int = 17,
    overwrite: bool = False,
    checkpoint: Path | None = None,
) -> ExportReport:
    """Writes `path` and `<stem>.json`, both whole or not at all, and returns what is in them.

    `network` is left as it is: a copy in evaluation mode on the CPU is drawn.  `batch` None leaves the batch free.
    `iterations` are the unrolled refinements of a stereo network (default: model.valid_iters).  `checkpoint` is the
    file the weights came from; its hash goes into the sidecar.  SpecError for an illegal shape, batch or opset,
    UserError for a file that is there already, UnsupportedError for weights beyond protobuf's 2 GiB.
    """
    started = time.perf_counter()
    info = network_info(spec.model.model_type)
    check_export(spec, path, height=height, width=width, batch=batch, opset=opset, overwrite=overwrite)
    _check_size(network)
    stereo = info.family == "stereo"
    steps = (iterations if iterations is not None else spec.model.valid_iters) if stereo else None
    graph = _StereoGraph(network, steps) if stereo else _MonoGraph(network)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _draw(graph, partial, batch=batch, size=(height, width), opset=opset)
        model = with_plain_operators(onnx.load(partial))
        facts = _facts(
            spec, family=info.family, shape=(batch, height, width), iterations=steps, checkpoint=checkpoint, opset=_opset_of(model)
        )
        _finish(model, partial, facts, output=(batch, 1, height, width) if stereo else (batch, height, width))
        report = ExportReport(
            path=path,
            sidecar=sidecar_path(path),
            facts=facts,
            nodes=count_nodes(model.graph),
            size_bytes=partial.stat().st_size,
            opset=facts.opset,
            seconds=time.perf_counter() - started,
            inputs={value.name: _dims(value) for value in model.graph.input},
            outputs={value.name: _dims(value) for value in model.graph.output},
        )
        digest = file_sha256(partial)
        # an old description must never stand beside a new model
        report.sidecar.unlink(missing_ok=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    write_json(report.sidecar, {**asdict(facts), **_file_facts(report), "sha256": digest})
    return report


def check_export(
    spec: Spec, path: Path, *, height: int, width: int, batch: int | None, opset: int | None = None, overwrite: bool | None = None
) -> None:
    """Raises what `export_onnx` would refuse of a request, before a network is loaded; `opset` and `overwrite` default to the spec's."""
    info = network_info(spec.model.model_type)
    _check_request(height, width, info.stride, batch=batch, opset=spec.export.opset_version if opset is None else opset)
    if spec.export.input_channel != 3:
        message = f"{info.model_type} takes images of 3 channels, but got export.input_channel={spec.export.input_channel}"
        raise SpecError(message, hint="export.input_channel=3; repeat a grey image three times")
    _check_target(path, overwrite=spec.export.overwrite if overwrite is None else overwrite)


def nearest_legal_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """The multiples of `stride`, at least one stride each, that lie nearest to (height, width)."""
    nearest_height = max(stride, round(height / stride) * stride)
    nearest_width = max(stride, round(width / stride) * stride)
    return nearest_height, nearest_width


def count_nodes(graph: onnx.GraphProto) -> int:
    """Operators of the graph, those inside branches and loops included."""
    inner = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return len(graph.node) + sum(count_nodes(subgraph) for subgraph in inner)


class _StereoGraph(nn.Module):
    """The graph's border for a stereo network: two named images in, the last disparity out."""

    names = (("left_image", "right_image"), "disparity")

    def __init__(self, network: nn.Module, iterations: int | None) -> None:
        super().__init__()
        self.network = _copy_for_export(network)
        self.iterations = iterations

    def forward(self, left_image: Tensor, right_image: Tensor) -> Tensor:
        """Disparity (B, 1, H, W) in pixels."""
        disparity: Tensor = self.network(left_image, right_image, iterations=self.iterations)
        return disparity


class _MonoGraph(nn.Module):
    """The graph's border for a mono network: one named image in, one map out."""

    names = (("images",), "outputs")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = _copy_for_export(network)

    def forward(self, images: Tensor) -> Tensor:
        """Depth or inverse depth (B, H, W)."""
        outputs: Tensor = self.network(images)
        return outputs


def _copy_for_export(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).cpu().float().eval().requires_grad_(False)


def _check_request(height: int, width: int, stride: int, *, batch: int | None, opset: int) -> None:
    if height < stride or width < stride or height % stride or width % stride:
        legal = nearest_legal_size(height, width, stride)
        message = f"height and width must be multiples of {stride} for this network, but got {height}x{width}"
        raise SpecError(
            message, hint=f"the nearest legal size is {legal[0]}x{legal[1]}: export.input_height={legal[0]} export.input_width={legal[1]}"
        )
    if batch is not None and batch < 1:
        raise SpecError(f"the batch must be 1 or more, or free, but got {batch}", hint="export.batch_size=-1 leaves it free")
    low, high = _OPSETS
    if not low <= opset <= high:
        raise SpecError(
            f"export.opset_version must lie in {low} .. {high}, but got {opset}",
            hint="export.opset_version=17 suits every supported runtime",
        )


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".onnx":
        raise SpecError(
            f"the exported file must end in .onnx, but got {path.name}", hint=shell_word(f"export.onnx_file={path.with_suffix('.onnx')}")
        )
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already and is not overwritten", hint="give another export.onnx_file, or export.overwrite=true")
    if path.is_dir():
        raise UserError(f"{path} is a folder", hint="give the path of a file as export.onnx_file")
    description = sidecar_path(path)
    if description.exists() and not overwrite and not _is_description(description):
        raise UserError(
            f"{description}, where the model's description goes, is there already and is none", hint="give another export.onnx_file"
        )


def _is_description(path: Path) -> bool:
    try:
        ModelFacts.from_text(path.read_text(encoding="utf-8"), place=str(path))
    except (CheckpointError, OSError, UnicodeDecodeError):
        return False
    return True


def _check_size(network: nn.Module) -> None:
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size > _PROTOBUF_LIMIT:
        message = f"the weights take {size / 1e9:.1f} GB, but one ONNX file holds at most {_PROTOBUF_LIMIT / 1e9:.1f} GB"
        raise UnsupportedError(message, hint="export a smaller encoder: vits, vitb or vitl")


def _draw(graph: _StereoGraph | _MonoGraph, path: Path, *, batch: int | None, size: tuple[int, int], opset: int) -> None:
    """Runs torch's exporter for `opset`, silently, on random images; a free batch is drawn with 2."""
    input_names, output_name = graph.names
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(batch or 2, 3, *size, generator=generator) for _ in input_names)
    draw = functools.partial(
        torch.onnx.export, graph.eval(), images, path, input_names=list(input_names), output_names=[output_name], opset_version=opset
    )
    try:
        with torch.no_grad(), _silence():
            if opset >= FIRST_GRAPH_OPSET:
                free = {name: {0: torch.export.Dim("batch")} for name in input_names} if batch is None else None
                draw(dynamo=True, dynamic_shapes=free, external_data=False, verbose=False)
            else:
                axes = {name: {0: "batch"} for name in (*input_names, output_name)} if batch is None else None
                draw(dynamo=False, dynamic_axes=axes)
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:  # the tracing exporter's C++ part raises RuntimeError
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        message = f"torch {torch.__version__} cannot draw this network for opset {opset}: {reason}"
        other = FIRST_GRAPH_OPSET if opset < FIRST_GRAPH_OPSET else FIRST_GRAPH_OPSET - 1
        raise UnsupportedError(message, hint=f"export.opset_version={other} takes torch's other exporter") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing of the exporters' own talk reaches the console; levels and filters come back afterwards.

    Before it fails the tracing exporter writes its whole graph to file descriptor 1, past Python.
    """
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _descriptors_closed():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _descriptors_closed() -> Iterator[None]:
    """What anybody in this process writes to descriptors 1 and 2 meanwhile is thrown away."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, number)
            os.close(saved)


def _facts(
    spec: Spec, *, family: str, shape: tuple[int | None, int, int], iterations: int | None, checkpoint: Path | None, opset: int
) -> ModelFacts:
    stereo = family == "stereo"
    images = spec.dataset.val_dataset.augmentation
    batch, height, width = shape
    return ModelFacts(
        model_type=spec.model.model_type,
        family=family,
        encoder=spec.model.encoder,
        variant=spec.model.variant if stereo else None,
        height=height,
        width=width,
        batch=batch,
        mean=tuple(images.input_mean),
        std=tuple(images.input_std),
        min_depth=None if stereo or spec.is_relative else spec.dataset.min_depth,
        max_depth=None if stereo or spec.is_relative else spec.dataset.max_depth,
        max_disparity=spec.model.max_disparity if stereo else None,
        iterations=iterations,
        checkpoint=None if checkpoint is None else checkpoint.name,
        checkpoint_sha256=None if checkpoint is None else file_sha256(checkpoint),
        spec_sha256=spec_sha256(spec),
        opset=opset,
        torch_version=torch.__version__,
        onnx_version=onnx.__version__,
    )


def _finish(model: onnx.ModelProto, path: Path, facts: ModelFacts, *, output: tuple[int | None, ...]) -> None:
    """Puts the facts into the file, writes it to the disk and lets ONNX check it as a reader would.

    The exporters leave the output's shape open where they cannot infer it; it is known, and engine builders want it.
    """
    onnx.helper.set_model_props(model, {METADATA_KEY: facts.to_text()})
    shape = model.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    for size in output:
        shape.dim.add(dim_value=size) if size is not None else shape.dim.add(dim_param="batch")
    with path.open("wb") as stream:
        stream.write(model.SerializeToString())
        stream.flush()
        os.fsync(stream.fileno())
    onnx.checker.check_model(path, full_check=True)


def _opset_of(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"})


def _dims(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _file_facts(report: ExportReport) -> dict[str, object]:
    return {
        "nodes": report.nodes,
        "size_bytes": report.size_bytes,
        "inputs": report.inputs,
        "outputs": report.outputs,
        "export_seconds": round(report.seconds, 3),
    }
