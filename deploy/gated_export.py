"""An export that proves itself: the file takes its name only when it gives the checkpoint's answers.

One that does not is kept as `<stem>.rejected.onnx` with the figures in the `.json` beside it; what stood at the target stays.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from deploy.graph_file import FilePredictor
from deploy.onnx_export import ExportReport
from deploy.onnx_runtime import OnnxPredictor
from deploy.openvino_runtime import OpenVinoPredictor, move_openvino, write_openvino
from deploy.parity import Check, Comparison, tolerance_for, with_metric
from deploy.samples import made_up_images, sample_batches
from deploy.sidecar import file_sha256, move_model, sidecar_path, write_json
from deploy.torch_runtime import TorchPredictor
from search_spaces.spec import Spec
from trials.data import Batch, to_target_grid
from trials.evaluate import Predictor, fitted_spec, images_of
from trials.scoring import Scorer

# no further image is begun when it is over: at 576x960 one takes minutes on a CPU
BUDGET_S = 60.0
Draw = Callable[[Path], ExportReport]
Sample = tuple[tuple[Tensor, ...], Batch | None]


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
    images = _read(spec, split, size, samples)
    try:
        report = draw(candidate)
        models = [candidate, *(write_openvino(candidate, xml)[:1] if openvino else ())]
        checks: dict[str, Check] = {}
        if images:
            reference = TorchPredictor(network, spec.family, iterations=report.facts.iterations)
            candidates: list[FilePredictor] = [OpenVinoPredictor(path) if path == xml else OnnxPredictor(path) for path in models]
            checks = _compared(reference, candidates, spec, images)
        told = [f"{name}: {check.reason}" for name, check in checks.items() if check.reason is not None]
        final = target.with_suffix(".rejected.onnx") if told else target
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


def _read(spec: Spec, split: str | None, size: tuple[int, int], samples: int) -> list[Sample]:
    """The images that the gate looks at, each with its batch where that has ground truth."""
    if split is None:
        return [(images, None) for images in made_up_images(spec.family, size, samples)]
    batches = sample_batches(fitted_spec(spec, split, size), split, samples) if samples else ()
    return [(images_of(batch), batch if "target" in batch else None) for batch in batches]


def check_candidates(
    reference: Predictor, candidates: Sequence[FilePredictor], spec: Spec, *, samples: int, split: str | None
) -> dict[str, Check]:
    """The check of each candidate on up to `samples` images of `split` (None: made-up ones) at the size of the first; see `_compared`."""
    size = candidates[0].fixed_size
    assert size is not None
    return _compared(reference, candidates, spec, _read(spec, split, size, samples))


def _compared(reference: Predictor, candidates: Sequence[FilePredictor], spec: Spec, samples: Sequence[Sample]) -> dict[str, Check]:
    """The check of each candidate, all on the same images; the reference answers each image once."""
    names = [reference.name, *(candidate.name for candidate in candidates)]
    scorers = {name: Scorer(spec, keep_going=True) for name in names}
    comparisons = {name: Comparison(reference.name, name, tolerance=tolerance_for(spec)) for name in names[1:]}
    started = time.perf_counter()
    for images, batch in samples:
        answers = {predictor.name: predictor.predict(images) for predictor in (reference, *candidates)}
        for name, answer in answers.items():
            if name in comparisons:
                comparisons[name].add(answers[reference.name], answer)
            if batch is not None:
                _score(scorers[name], answer, batch, spec)
        if time.perf_counter() - started > BUDGET_S:
            break
    metrics = {name: scorer.compute() if scorer.num_images else {} for name, scorer in scorers.items()}
    return {name: with_metric(each.check(), spec, metrics[reference.name], metrics[name]) for name, each in comparisons.items()}


def _score(scorer: Scorer, answer: Tensor, batch: Batch, spec: Spec) -> None:
    if tuple(answer.shape[-2:]) == batch["geometry"].network_size:  # else the comparison says what is wrong
        scorer.update(to_target_grid(answer, batch["geometry"], spec.family), batch["target"], batch["valid"], batch["path"])


def _publish(candidate: Path, final: Path) -> tuple[Path, ...]:
    move_model(candidate, final)
    if not candidate.with_suffix(".xml").exists():
        return (final,)
    move_openvino(candidate, final)
    return final, final.with_suffix(".xml"), final.with_suffix(".bin")


def _record(gated: Gated) -> None:
    """Adds figures and hashes to the description beside the model."""
    sidecar = gated.report.sidecar
    data = json.loads(sidecar.read_text(encoding="utf-8"))
    checks = {name: asdict(check) for name, check in gated.checks.items()}
    parity = {"compared_on": gated.compared_on or "made-up images", "passed": gated.reason is None, "runtimes": checks}
    hashes = {path.name: file_sha256(path) for path in gated.files}
    write_json(sidecar, {**data, "files": hashes, "parity": parity if checks else None})
