"""Every way to run one champion on a CPU: runtime, precision, size, latency, difference from torch, metric.

    python -m bench.runtimes STUDY [--out FOLDER] [--size 192 224] [--rounds 20] [--threads 1] [--leave-out compiled]

STUDY is a study with a winner, the folder of a run, or a checkpoint of ours (it carries its spec).  The checkpoint is exported, typed,
quantised and converted by the code of `depth_net export`, `gen_trt_engine` and `quantize`; the files go to FOLDER, with `runtimes.md`
and `runtimes.csv`.  All runtimes get the same images, those of the validation list at the export shape.  Before the clock starts each
is held against torch: float32 to the tolerance of the export's gate, lower precisions to MEAN_SHARE and quantize.max_metric_drop.  One
that fails is a line with its figures and no time; one that cannot run here is a line with the reason.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from torch import Tensor

from automl.parents import resolve
from bench.timing import conditions, wall_times
from deploy.engine_plan import missing_for_engine
from deploy.latency import Latency, measure_latency
from deploy.onnx_export import export_onnx, nearest_legal_size
from deploy.onnx_runtime import OnnxPredictor
from deploy.openvino_runtime import OpenVinoPredictor, write_openvino
from deploy.parity import Check, Comparison, Tolerance, tolerance_for, worsening
from deploy.precision import Precision, typed_graph
from deploy.quantize import quantize
from deploy.runtime import load_network
from deploy.samples import sample_batches
from deploy.torch_runtime import TorchPredictor
from models.checkpoints import read_checkpoint, spec_of
from models.registry import network_info
from search_spaces.errors import CheckpointError, UnsupportedError, UserError
from search_spaces.objective import LEADING
from search_spaces.spec import Spec, with_values
from trials.evaluate import Predictor, evaluate, fitted_spec, images_of

MIB = 2.0**20
SAMPLES, WARM_UP, CPU_ROUNDS = 8, 3, 5
# mean difference that a lower precision may have, as a share of max_disparity or max_depth
MEAN_SHARE = 0.005
HEADER = (
    "runtime",
    "precision",
    "file MiB",
    "p50 ms",
    "p95 ms",
    "CPU ms",
    "of torch",
    "largest diff.",
    "mean diff.",
    "metric",
    "change",
    "remark",
)
Images = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A checkpoint, its spec fitted to the export shape, and the exported file."""

    checkpoint: Path
    spec: Spec
    model: Path
    images: Sequence[Images]


@dataclass(kw_only=True)
class Way:
    """One line: what it is, and what was found out; `remark` is the reason where a figure is missing."""

    runtime: str
    precision: str
    make: Callable[[], tuple[Predictor, Sequence[Path]]]
    exact: bool = False
    remark: str = ""
    predictor: Predictor | None = field(default=None, repr=False)
    size: int | None = None
    check: Check | None = None
    metric: float | None = None
    change: float | None = None
    latency: Latency | None = None
    cpu_ms: float | None = None


def champion_of(source: Path, folder: Path, size: tuple[int, int] | None) -> Champion:
    """The checkpoint of `source`, exported into `folder` at `size` or the legal one nearest to the validation crop."""
    checkpoint = resolve(source, "export", "best") if source.is_dir() else source
    spec = spec_of(read_checkpoint(checkpoint))
    if spec is None:
        raise CheckpointError(f"{checkpoint} carries no spec", hint="give a checkpoint that this program trained")
    crop = spec.dataset.val_dataset.augmentation.crop_size
    height, width = size or nearest_legal_size(crop[0], crop[1], network_info(spec.model.model_type).stride)
    model = folder / "model.onnx"
    export_onnx(
        load_network(checkpoint, spec), spec, model, height=height, width=width, batch=1, opset=17, overwrite=True, checkpoint=checkpoint
    )
    spec = with_values(fitted_spec(spec, "val", (height, width)), {"quantize.overwrite": True, "quantize.device": "cpu"})
    images = [images_of(batch) for batch in sample_batches(spec, "val", SAMPLES)]
    return Champion(checkpoint=checkpoint, spec=spec, model=model, images=images)


def ways_of(champion: Champion, folder: Path) -> list[Way]:
    """All ways, torch in float32 first: the others are held against it."""
    spec, checkpoint, model = champion.spec, champion.checkpoint, champion.model
    xml = folder / "model.xml"

    def torch_(runtime: str) -> tuple[Predictor, Sequence[Path]]:
        return TorchPredictor(load_network(checkpoint, spec), spec.family, device="cpu", runtime=runtime), [checkpoint]

    def openvino(*, bf16: bool) -> tuple[Predictor, Sequence[Path]]:
        written = write_openvino(model, xml)
        return OpenVinoPredictor(xml, bf16=bf16), written

    def typed(precision: Precision) -> tuple[Predictor, Sequence[Path]]:
        path = folder / f"model.{precision.lower()}.onnx"
        onnx.save(typed_graph(onnx.load(model), precision).model, path)
        return OnnxPredictor(path, runtime="cpu"), [path]

    def quantized(backend: str, mode: str, algorithm: str) -> tuple[Predictor, Sequence[Path]]:
        values = {"quantize.backend": backend, "quantize.mode": mode, "quantize.algorithm": algorithm}
        source = checkpoint if backend == "torchao" else model
        path = quantize(source, with_values(spec, values), folder / algorithm).model
        return (torch_predictor(path) if backend == "torchao" else OnnxPredictor(path, runtime="cpu")), [path]

    def torch_predictor(path: Path) -> Predictor:
        return TorchPredictor(load_network(path, spec), spec.family, device="cpu")

    return [
        Way(runtime="torch", precision="float32", make=lambda: torch_("auto"), exact=True),
        Way(runtime="torch, compiled", precision="float32", make=lambda: torch_("compiled"), exact=True),
        Way(runtime="torch", precision="bf16 (autocast)", make=lambda: torch_("bf16")),
        Way(
            runtime="torch",
            precision="int8 weights (torchao)",
            make=lambda: quantized("torchao", "weight_only_ptq", "minmax"),
            remark="computes in float32",
        ),
        Way(runtime="ONNX Runtime", precision="float32", make=lambda: (OnnxPredictor(model, runtime="cpu"), [model]), exact=True),
        Way(runtime="ONNX Runtime", precision="FP16 graph", make=lambda: typed(Precision.FP16)),
        Way(
            runtime="ONNX Runtime",
            precision="BF16 graph",
            make=lambda: typed(Precision.BF16),
            remark="computes in float32, rounds each result",
        ),
        Way(runtime="ONNX Runtime", precision="int8, minmax", make=lambda: quantized("onnxruntime", "static_ptq", "minmax")),
        Way(runtime="ONNX Runtime", precision="int8, max (symmetric)", make=lambda: quantized("onnxruntime", "static_ptq", "max")),
        Way(runtime="OpenVINO", precision="float32", make=lambda: openvino(bf16=False), exact=True),
        Way(runtime="OpenVINO", precision="bf16", make=lambda: openvino(bf16=True)),
        Way(runtime="ONNX Runtime, CUDA", precision="float32", make=lambda: (OnnxPredictor(model, runtime="cuda"), [model]), exact=True),
        Way(runtime="TensorRT", precision="FP32, FP16, BF16, INT8", make=no_engine),
    ]


def no_engine() -> tuple[Predictor, Sequence[Path]]:
    """Nothing: TensorRT does not run on CPUs, and engines have a benchmark of their own where it does."""
    raise UnsupportedError(missing_for_engine() or "not measured here")


def allowed(spec: Spec, *, exact: bool) -> Tolerance:
    """What `exact` and other ways may differ by from torch in float32."""
    tolerance = tolerance_for(spec)
    if exact:
        return tolerance
    reach = {"px": spec.model.max_disparity, "m": spec.dataset.max_depth}.get(tolerance.unit) or 1.0
    return Tolerance(max_abs=math.inf, mean_abs=MEAN_SHARE * reach, unit=tolerance.unit)


def look(way: Way, reference: Predictor, champion: Champion, before: float | None) -> float | None:
    """Makes and checks one way and fills in all but the time; gives its metric."""
    spec, leading = champion.spec, LEADING[champion.spec.family]
    started = time.perf_counter()
    try:
        way.predictor, files = way.make()
        way.predictor.predict(champion.images[0])
    except (UserError, RuntimeError) as error:  # what is not installed, and what a library does not take
        way.predictor, way.remark = None, f"not run: {str(error).strip().splitlines()[0]}"
        return None
    way.size = sum(path.stat().st_size for path in files)
    if "compiled" in way.runtime:
        way.remark = f"the first call takes {time.perf_counter() - started:.0f} s"
    comparison = Comparison("torch", way.runtime, tolerance=allowed(spec, exact=way.exact))
    for images in champion.images:
        comparison.add(reference.predict(images), way.predictor.predict(images))
    way.check = comparison.check()
    way.metric = evaluate(way.predictor, spec, "val").metrics[leading]
    way.change, drop = worsening(before, way.metric, metric=leading, allowed=spec.quantize.max_metric_drop) if before else (None, None)
    reason = way.check.reason or drop
    if reason:
        way.remark, way.predictor = f"not timed: {reason}", None
    return way.metric


def measured(champion: Champion, folder: Path, rounds: int, left_out: Sequence[str]) -> list[Way]:
    """All ways but those whose name holds one of `left_out`, with what was found out; the timed ones took turns."""
    ways = [way for way in ways_of(champion, folder) if not any(text in f"{way.runtime} {way.precision}" for text in left_out)]
    reference = ways[0].make()[0]
    before: float | None = None
    for way in ways:
        print(f"{way.runtime}, {way.precision} ...", file=sys.stderr, flush=True)
        metric = look(way, reference, champion, before)
        before = metric if before is None else before
    timed = {str(number): way.predictor for number, way in enumerate(ways) if way.predictor is not None}
    table = measure_latency(timed, champion.images[0], warm_up=WARM_UP, rounds=rounds, budget_s=600.0)
    for row in table.rows:
        way = ways[int(row.runtime)]
        way.latency = row
        if way.predictor is not None:
            call = functools.partial(way.predictor.predict, champion.images[0])
            way.cpu_ms = 1000 * wall_times(call, rounds=CPU_ROUNDS, warm_up=0).cpu
    return ways


def cells(way: Way, torch_ms: float | None) -> tuple[str, ...]:
    """The texts of one line, as HEADER names them; empty where there is nothing.  `torch_ms` is the CPU time of torch in float32."""
    times = ("", "") if way.latency is None else (f"{way.latency.median_ms:.1f}", f"{way.latency.p95_ms:.1f}")
    differences = [None, None] if way.check is None else [way.check.max_abs, way.check.mean_abs]
    return (
        way.runtime,
        way.precision,
        "" if way.size is None else f"{way.size / MIB:.1f}",
        *times,
        "" if way.cpu_ms is None else f"{way.cpu_ms:.1f}",
        "" if way.cpu_ms is None or torch_ms is None else f"{way.cpu_ms / torch_ms:.2f}",
        *("" if value is None else f"{value:.2g}" for value in differences),
        "" if way.metric is None else f"{way.metric:.5f}",
        "" if way.change is None else f"{round(100 * way.change, 2) + 0.0:+.2f} %",
        way.remark,
    )


def titled(champion: Champion) -> str:
    """What was measured, in a line above the table."""
    spec, exact, other = champion.spec, allowed(champion.spec, exact=True), allowed(champion.spec, exact=False)
    size = "x".join(map(str, spec.dataset.val_dataset.augmentation.crop_size))
    return (
        f"{spec.model.model_type} {spec.model.encoder}, {size}, batch 1; metric {LEADING[spec.family]}, differences in {exact.unit}, on "
        f"{len(champion.images)} images. Allowed: float32 {exact.max_abs:g} (mean {exact.mean_abs:g}), others mean {other.mean_abs:g} and "
        f"{100 * spec.quantize.max_metric_drop:g} % of the metric. {WARM_UP} calls for warm-up, then turns; "
        f"CPU ms is the least of {CPU_ROUNDS} more."
    )


def write_tables(ways: Sequence[Way], title: str, folder: Path) -> str:
    """Writes `runtimes.csv` and `runtimes.md` and gives the text of the second."""
    rows = [cells(way, ways[0].cpu_ms) for way in ways]
    with (folder / "runtimes.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    lines = [f"| {' | '.join(row)} |".replace("  ", " ") for row in (HEADER, ("---",) * len(HEADER), *rows)]
    text = "\n".join([conditions(), "", title, "", *lines, ""])
    (folder / "runtimes.md").write_text(text, encoding="utf-8")
    return text


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """`folder`, or one that goes at the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, help="keep the files here; default is a temporary folder")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="export shape; default is the validation crop")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="TEXT", help="ways whose name holds it")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with kept(asked.out) as folder:
        champion = champion_of(asked.study, folder, asked.size and tuple(asked.size))
        print(write_tables(measured(champion, folder, asked.rounds, asked.leave_out), titled(champion), folder))


if __name__ == "__main__":
    main()
