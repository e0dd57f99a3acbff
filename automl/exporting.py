"""`depth_net export`: a checkpoint as one ONNX file (and, asked for, OpenVINO's two) that was held against it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from automl.actions import begin, load, model_file
from automl.console import count_text, number_text, screen, tell
from automl.entry import DONE, FAILED, say_error
from automl.folders import check_writable
from automl.records import failures_recorded
from automl.summary import shown_path
from search_spaces.errors import UnsupportedError, UserError
from search_spaces.spec import Spec, results_folder
from trials.contract import Cause, Failure

if TYPE_CHECKING:
    from deploy.gated_export import Gated


def export_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """Writes the model and its description; FAILED, with the file kept as a rejected one, when its answers are not the checkpoint's."""
    from deploy.gated_export import export_gated
    from deploy.onnx_export import check_export, export_onnx
    from deploy.pairing import pairing_notes, shape_notes
    from deploy.runtime import load_network
    from deploy.samples import split_with_images

    loaded, console = load(spec_file, overrides, "export"), screen()
    spec = loaded.spec
    section = spec.export
    checkpoint = model_file(spec, "export", console)
    target = Path(section.onnx_file) if section.onnx_file else checkpoint.with_suffix(".onnx")
    folder = results_folder(spec, "export") if spec.results_dir or section.results_dir else target.parent / "export"
    batch = section.batch_size if section.batch_size and section.batch_size > 0 else None
    size = (section.input_height, section.input_width)
    check_export(spec, target, height=size[0], width=size[1], batch=batch)
    openvino = _check_format(spec, target)
    for place in (folder, target.parent):
        check_writable(place, hint="choose another export.onnx_file or results_dir")
    for line in (*pairing_notes(spec), *shape_notes(spec, loaded.given, size=size)):
        tell(console, f"note  {line}")
    split = split_with_images(spec)
    with failures_recorded(folder, "export") as status:
        network = load_network(checkpoint, spec)
        begin(status, folder, spec, "export", console)
        draw = functools.partial(
            export_onnx,
            network,
            spec,
            height=size[0],
            width=size[1],
            batch=batch,
            iterations=section.valid_iters,
            opset=section.opset_version,
            checkpoint=checkpoint,
        )
        done = export_gated(network, spec, target, draw, size=size, samples=section.parity_samples, split=split, openvino=openvino)
        if done.reason is None:
            status.write("SUCCESS", "Export finished successfully.")
        else:
            status.failure(Failure(cause=Cause.CRASH, message=done.reason))
    _say(console, done)
    if done.reason is not None:
        say_error(
            f"the exported model does not give the checkpoint's answers: {done.reason}", f"it is kept as {shown_path(done.report.path)}"
        )
        return FAILED
    return DONE


def _check_format(spec: Spec, target: Path) -> bool:
    """Whether OpenVINO files are asked for; refuses what cannot be written."""
    from deploy.openvino_runtime import check_openvino

    if spec.export.format == "xdl":
        raise UnsupportedError("export.format=xdl is not written by this program", hint="export.format=onnx, or openvino for CPUs")
    if spec.export.format != "openvino":
        return False
    check_openvino()
    xml = target.with_suffix(".xml")
    if xml.exists() and not spec.export.overwrite:
        raise UserError(f"{xml} is there already and is not overwritten", hint="give another export.onnx_file, or export.overwrite=true")
    return True


def _say(console: Console, done: Gated) -> None:
    report = done.report
    shapes = ", ".join(f"{name} {_shape_text(shape)}" for name, shape in {**report.inputs, **report.outputs}.items())
    tell(console, f"wrote {shown_path(report.path)}: opset {report.opset}, {report.nodes} nodes, {report.size_bytes / 2**20:.1f} MiB")
    for path in done.files[1:]:
        tell(console, f"wrote {shown_path(path)}: {path.stat().st_size / 2**20:.1f} MiB")
    tell(console, f"{shapes}; described in {shown_path(report.sidecar)}")
    if not done.checks:
        tell(console, "note  export.parity_samples=0: nobody looked whether the file gives the checkpoint's answers")
    elif done.compared_on is None:
        tell(console, "note  no test or val list: compared on smooth random images, which no network was trained for")
    for name, check in done.checks.items():
        images = count_text(check.samples, "made-up image" if done.compared_on is None else f"{done.compared_on} image")
        gap = f"largest difference {number_text(check.max_abs)} {check.unit}, mean {number_text(check.mean_abs)}"
        metric = "" if check.metric is None else f"; {check.metric} moves by {number_text(check.metric_change)}"
        tell(console, f"{name} against torch on {images}: {gap}{metric}")


def _shape_text(shape: Sequence[int | None]) -> str:
    return "x".join("N" if size is None else str(size) for size in shape)
