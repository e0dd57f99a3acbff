"""An export that proves itself: the file takes its name only when it gives the checkpoint's answers.

One that does not is kept as `<stem>.rejected.onnx` with the figures in the `.json` beside it; what stood at the target stays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from deploy.onnx_export import ExportReport
from deploy.onnx_runtime import OnnxPredictor
from deploy.openvino_runtime import OpenVinoPredictor, move_openvino, write_openvino
from deploy.parity import Candidate, Check, compare, tolerance_for
from deploy.samples import samples_at
from deploy.sidecar import file_sha256, move_model, rejected, sidecar_path, write_json
from deploy.torch_runtime import TorchPredictor
from search_spaces.spec import Spec
from trials.evaluate import Predictor

# no further image is begun when it is over: at 576x960 one takes minutes on a CPU
BUDGET_S = 60.0
Draw = Callable[[Path], ExportReport]


@dataclass(frozen=True, kw_only=True)
class Gated:
    """What came of an export: the report names the file where it lies now.

    `checks` are per runtime (empty where none was asked for); `compared_on` is the split whose images were taken, None for made-up
    ones.  `reason` is None when everything passed.
    """

    report: ExportReport
    checks: Mapping[str, Check]
    compared_on: str | None
    files: tuple[Path, ...]
    reason: str | None


def export_gated(
    network: nn.Module,
    spec: Spec,
    target: Path,
    draw: Draw,
    *,
    size: tuple[int, int],
    samples: int,
    split: str | None,
    openvino: bool,
) -> Gated:
    """Lets `draw` write a file, holds it against `network` on up to `samples` images and names it `target`, or else a rejected one.

    `size` is the height and width that `draw` writes.  The images are those of `split`, made-up ones where it is None.  With
    `openvino` an `.xml` is written and checked too.  DataError for images that cannot be read, before anything is drawn.
    """
    candidate = target.with_name(f".{target.stem}.{os.getpid()}.candidate.onnx")
    xml = candidate.with_suffix(".xml")
    images = list(samples_at(size, spec, split, samples))
    try:
        report = draw(candidate)
        models = [candidate, *(write_openvino(candidate, xml)[:1] if openvino else ())]
        checks: dict[str, Check] = {}
        if images:
            reference = TorchPredictor(network, spec.family, iterations=report.facts.iterations)
            predictors: list[Predictor] = [OpenVinoPredictor(path) if path == xml else OnnxPredictor(path) for path in models]
            candidates = [Candidate(predictor=predictor, tolerance=tolerance_for(spec)) for predictor in predictors]
            checks = compare(reference, candidates, spec, images, budget_s=BUDGET_S)
        told = [f"{name}: {check.reason}" for name, check in checks.items() if check.reason is not None]
        final = rejected(target) if told else target
        files = _publish(candidate, final)
        gated = Gated(
            report=replace(report, path=final, sidecar=sidecar_path(final)),
            checks=checks,
            compared_on=split,
            files=files,
            reason="; ".join(told) or None,
        )
        _record(gated)
    finally:
        move_model(candidate, None)
        move_openvino(candidate, None)
    return gated


def _publish(candidate: Path, final: Path) -> tuple[Path, ...]:
    _drop_earlier(final)
    move_model(candidate, final)
    if not candidate.with_suffix(".xml").exists():
        return (final,)
    move_openvino(candidate, final)
    return final, final.with_suffix(".xml"), final.with_suffix(".bin")


def _drop_earlier(final: Path) -> None:
    """Removes the OpenVINO files that an earlier export wrote beside `final`, by its own record: they hold its weights."""
    try:
        written = json.loads(sidecar_path(final).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for path in (final.with_suffix(".xml"), final.with_suffix(".bin")):
        if path.name in written:
            path.unlink(missing_ok=True)


def _record(gated: Gated) -> None:
    """Adds figures and hashes to the description beside the model."""
    sidecar = gated.report.sidecar
    data = json.loads(sidecar.read_text(encoding="utf-8"))
    checks = {name: asdict(check) for name, check in gated.checks.items()}
    parity = {"compared_on": gated.compared_on or "made-up images", "passed": gated.reason is None, "runtimes": checks}
    hashes = {path.name: file_sha256(path) for path in gated.files}
    write_json(sidecar, {**data, "files": hashes, "parity": parity if checks else None})
