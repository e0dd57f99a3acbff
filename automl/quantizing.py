"""`depth_net quantize`: a smaller model, what it costs on the validation list, and whether that is allowed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from automl.actions import begin, check_image_memory, load, need_lists, preflight
from automl.console import count_text, counted, number_text, screen, tell
from automl.entry import DONE, FAILED, INTERRUPTED, say_error
from automl.folders import BY_KEY, check_writable
from automl.records import failures_recorded
from automl.summary import shown_path
from search_spaces.errors import CheckpointError
from search_spaces.objective import metric_info
from search_spaces.spec import Spec, require, results_folder

if TYPE_CHECKING:
    from deploy.quantize import Quantized


def quantize_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """The model, quantize.json and status.json; FAILED when the model lost more than quantize.max_metric_drop."""
    from deploy.quantize import REPORT, quantize
    from deploy.quantize_backends import check_quantize

    loaded, console = load(spec_file, overrides, "quantize"), screen()
    spec = loaded.spec
    model = _model_file(spec)
    folder = results_folder(spec, "quantize")
    check_quantize(spec, model, folder)
    need_lists(spec, "val", "quantize")
    check_writable(folder, hint=BY_KEY)
    try:
        with failures_recorded(folder, "quantize") as status:
            reports = preflight(spec, ("val",), console)
            if model.suffix.lower() != ".onnx":
                check_image_memory(spec, "val", {size for report in reports for size in report.sizes})
            begin(status, folder, spec, "quantize", console)
            done = quantize(model, spec, folder, stage=functools.partial(counted, console))
            if done.reason is not None:
                status.write("FAILURE", f"The quantised model is rejected: {done.reason}")
            else:
                kpi = {f"val/{name}": value for name, value in done.after.items()}
                status.write("SUCCESS", "Quantize finished successfully.", kpi=kpi)
    except KeyboardInterrupt:
        say_error("interrupted", "no model was written; the same command starts again")
        return INTERRUPTED
    _say(console, spec, done)
    tell(console, f"wrote {shown_path(done.model)}, {shown_path(folder / REPORT)}")
    if done.reason is not None:
        say_error(f"the quantised model is rejected: {done.reason}", _remedy(done))
        return FAILED
    return DONE


def _model_file(spec: Spec) -> Path:
    from models.checkpoints import check_there

    path = Path(require(spec, "quantize.model_path", action="quantize"))
    try:
        check_there(path)
    except CheckpointError as error:
        raise CheckpointError(f"quantize.model_path: {error.message}", hint=error.hint) from error
    return path


def _say(console: Console, spec: Spec, done: Quantized) -> None:
    for line in done.idle:
        tell(console, f"note  {line}")
    kinds = ", ".join(dict.fromkeys(done.kinds.values()))
    what = "layer" if done.backend == "torchao" else "node"
    tell(console, f"{count_text(len(done.kinds), what)} in {kinds} by {done.backend}; quantize.json names them")
    if done.calibrated_on:
        tell(console, f"calibrated on {done.calibrated_on}")
    unit = metric_info(spec.family, done.metric).unit
    unit = " px" if unit == "px" else ""
    allowed = f"allowed +{100 * spec.quantize.max_metric_drop:g} %"
    worse = "" if done.change is None else f" ({round(100 * done.change, 2) + 0.0:+.2f} %, {allowed})"
    before, after = (number_text(values.get(done.metric)) for values in (done.before, done.after))
    tell(console, f"{done.metric:<8}{before} -> {after}{unit}{worse}, {count_text(done.num_images, 'image')}, {done.mode}")
    sizes = f"{done.size_before / 2**20:.2f} -> {done.size_after / 2**20:.2f} MiB"
    tell(console, f"{'size':<8}{sizes} ({100 * done.size_after / done.size_before:.0f} %)")
    first, second = done.latency.rows
    shape = f"{first.batch}x{first.height}x{first.width}"
    ratio = second.median_ms / first.median_ms
    tell(
        console,
        f"{'latency':<8}{first.median_ms:.1f} -> {second.median_ms:.1f} ms ({ratio:.2f} times), median of {first.rounds} at {shape}",
    )
    if done.backend == "torchao":
        tell(
            console, "note  the weights are float32 again once loaded: the file is smaller, memory and speed of the running network are not"
        )


def _remedy(done: Quantized) -> str:
    if done.backend == "torchao":
        return "leave sensitive layers out with quantize.skip_names, or allow more with quantize.max_metric_drop"
    return (
        "leave sensitive nodes out with quantize.skip_names, try quantize.algorithm=percentile or more calibration images, "
        "or allow more with quantize.max_metric_drop"
    )
