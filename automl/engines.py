"""`depth_net gen_trt_engine` and `depth_net check_onnx`: a TensorRT engine from an ONNX file, and whether TensorRT takes that file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from automl.actions import begin, load
from automl.console import count_text, number_text, screen, seconds_text, tell
from automl.entry import DONE, FAILED, INTERRUPTED, say_error
from automl.folders import check_writable
from automl.records import failures_recorded
from automl.summary import shown_path
from search_spaces.errors import UnsupportedError
from search_spaces.spec import Spec, require, results_folder

if TYPE_CHECKING:
    from deploy.engine import EngineReport
    from deploy.engine_plan import EnginePlan
    from deploy.trt_support import SupportReport

ACTION = "gen_trt_engine"
SAMPLES = 4  # images on which a typed graph is held against its float32 one
LONGEST = 40  # nodes that `--nodes` shows


def gen_trt_engine_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """An engine with its description, or, with graph_only, the ONNX graph that it would be built from."""
    from deploy.engine import need_tensorrt
    from deploy.engine_plan import build_planned

    spec, console = load(spec_file, overrides, ACTION).spec, screen()
    section = spec.gen_trt_engine
    source = Path(require(spec, f"{ACTION}.onnx_file", action=ACTION))
    target = _target(spec, source)
    folder = results_folder(spec, ACTION) if spec.results_dir or section.results_dir else target.parent / ACTION
    if source.suffix.lower() == ".onnx" and source.is_file() and not section.graph_only:
        instead = f"; {ACTION}.graph_only=true writes here the graph that it would be built from"
        need_tensorrt(section.gpu_id, what=f"depth_net {ACTION}", instead=instead)
    plan = _plan(spec, source, console)
    for place in (folder, target.parent):
        check_writable(place, hint=f"choose another {ACTION}.trt_engine or results_dir")
    try:
        with failures_recorded(folder, ACTION) as status:
            begin(status, folder, spec, ACTION, console)
            if section.graph_only:
                _write_graph(plan, target, spec, console)
            else:
                with _phases(console) as progress:
                    report = build_planned(plan, target, spec, what=f"depth_net {ACTION}", progress=progress)
                _say_engine(console, report)
            status.write("SUCCESS", "Gen_trt_engine finished successfully.")
    except KeyboardInterrupt:
        say_error("interrupted", "no engine was written; the same command starts again")
        return INTERRUPTED
    return DONE


def check_onnx_action(file: Path, nodes: str | None) -> int:
    """A table of the operators and what TensorRT's documentation says of each; FAILED when something blocks."""
    from deploy.engine import load_onnx
    from deploy.plain_operators import with_plain_operators
    from deploy.precision import has_quantization
    from deploy.trt_support import TABLE, check_graph, matching_nodes

    console, model = screen(), load_onnx(file)
    if nodes is not None:
        found = matching_nodes(model, nodes)
        for name, operator in found[:LONGEST]:
            tell(console, f"{operator:<20}{name}")
        tell(
            console, f"{count_text(len(found), 'node')} called {nodes}" + (f", the first {LONGEST} of them" if len(found) > LONGEST else "")
        )
        return DONE if found else FAILED
    report = check_graph(model)
    _show(console, file, report)
    if report.passes:
        tell(console, f"nothing blocks: {TABLE}'s documentation takes every operator")
        return DONE
    hint = "depth_net export writes a graph that TensorRT reads; other graphs need plug-ins or other operators there"
    if check_graph(with_plain_operators(model)).passes:
        hint = f"depth_net {ACTION} rewrites these operators by itself; depth_net export does so since this release"
    elif has_quantization(model):
        hint = "TensorRT wants int8 with zero points of 0: depth_net quantize with quantize.algorithm=max"
    blocking = [*report.blocks, *(f"{operator.name}: {operator.blocks}" for operator in report.operators if operator.blocks)]
    say_error(f"{shown_path(file)} cannot become an engine as it is: {'; '.join(blocking)}", hint)
    return FAILED


def _target(spec: Spec, source: Path) -> Path:
    named = spec.gen_trt_engine.trt_engine
    target = Path(named) if named else source.with_suffix(".engine")
    if target.suffix.lower() != ".engine":
        raise UnsupportedError(
            f"{ACTION}.trt_engine must end in .engine, but is {target}", hint=f"{ACTION}.trt_engine={target.stem}.engine"
        )
    return target


def _plan(spec: Spec, source: Path, console: Console) -> EnginePlan:
    """The strongly typed graph in the precision that is asked for; refuses whatever the network, the graph or the GPU does not bear."""
    from deploy.engine import check_source
    from deploy.engine_plan import plan_engine

    section = spec.gen_trt_engine
    plan = plan_engine(check_source(source), source, spec, gpu=None if section.graph_only else section.gpu_id)
    if section.tensorrt.data_type is None:
        tell(console, f"note  {ACTION}.tensorrt.data_type is not said: {plan.precision}")
    elif plan.precision == "BF16" and plan.family == "stereo":
        tell(console, "note  TAO builds stereo engines in FP32 and FP16; BF16 keeps fewer digits of a disparity than FP16")
    return plan


def _write_graph(plan: EnginePlan, target: Path, spec: Spec, console: Console) -> None:
    from deploy.engine import write_typed

    typed, path = plan.typed, target.with_suffix(f".{plan.precision.lower()}.onnx")
    if path.resolve() == plan.source.resolve():
        raise UnsupportedError(f"{path} is the graph that is read", hint=f"give another {ACTION}.trt_engine")
    write_typed(typed, path)
    counts = ", ".join(f"{count_text(count, 'operator')} in {kind}" for kind, count in typed.nodes.items())
    tell(console, f"wrote {shown_path(path)}: {counts}, {count_text(typed.casts, 'cast')}, {path.stat().st_size / 2**20:.1f} MiB")
    if typed.named:
        tell(console, f"layers_precision set {count_text(len(typed.named), 'operator')}: {', '.join(typed.named[:3])}")
    if typed.precision != "FP32" or typed.named:
        _compare(plan.source, path, spec, console)
    tell(console, f"note  {ACTION}.graph_only=true: no engine was built")


def _compare(source: Path, path: Path, spec: Spec, console: Console) -> None:
    """How far the typed graph's answers lie from the float32 ones, both in ONNX Runtime, on images of the lists if there are any."""
    from deploy.gated_export import BUDGET_S
    from deploy.onnx_runtime import OnnxPredictor
    from deploy.parity import Candidate, coarse_tolerance, compare
    from deploy.samples import samples_at, split_with_images

    reference, typed = OnnxPredictor(source, runtime="cpu"), OnnxPredictor(path, runtime="cpu")
    reference.name, typed.name = "float32", path.name
    split = split_with_images(spec)
    assert reference.fixed_size is not None
    samples = samples_at(reference.fixed_size, spec, split, SAMPLES)
    candidate = Candidate(predictor=typed, tolerance=coarse_tolerance(spec))
    (check,) = compare(reference, [candidate], spec, samples, budget_s=BUDGET_S).values()
    images = count_text(check.samples, "made-up image" if split is None else f"{split} image")
    gap = f"largest difference {number_text(check.max_abs)} {check.unit}, mean {number_text(check.mean_abs)}"
    metric = "" if check.metric is None else f"; {check.metric} moves by {number_text(check.metric_change)}"
    tell(console, f"in ONNX Runtime against float32 on {images}: {gap}{metric}")


def _say_engine(console: Console, report: EngineReport) -> None:
    profile = report.profile
    batches = "" if profile is None else f", batches {profile.low}/{profile.usual}/{profile.high}"
    built = f"{report.precision}{batches}, TensorRT {report.tensorrt_version} on {report.gpu}, built in {seconds_text(report.seconds)}"
    tell(console, f"wrote {shown_path(report.path)}: {built}, {report.size_bytes / 2**20:.1f} MiB")
    tell(console, f"described in {shown_path(report.sidecar)}")
    if report.timing_cache is not None:
        tell(console, f"timing cache {report.timing_cache}")


@contextmanager
def _phases(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """The builder's phases: a bar each in a terminal, elsewhere nothing until the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {}

        def step(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done, total=total)

        yield step


def _show(console: Console, file: Path, report: SupportReport) -> None:
    table = Table(title=f"{shown_path(file)}, opset {report.opset}", title_justify="left")
    for column, justify in (("operator", "left"), ("count", "right"), ("types", "left"), ("TensorRT", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # Rich's literal
    for operator in report.operators:
        place = f": {operator.example}" if operator.example else ""
        verdict = "takes it" if operator.blocks is None else f"{operator.blocks}{place}"
        table.add_row(operator.name, f"{operator.count}", " ".join(operator.types), verdict)
    console.print(table)
    for note in report.notes:
        tell(console, f"note  {note}")
