"""How a checkpoint becomes a product: export, gate, latency, and one file that says what happened.

`<folder>/model.onnx` is there if, and only if, `promotion.json` says `"promoted": true`.  A model that the gate
stops is kept as `model.rejected.onnx` with its figures; one that was promoted earlier becomes `model.previous.onnx`.
The order of writing keeps that true after a crash at any point: the old verdict goes first, the new one comes last.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deploy.latency import LatencyTable, measure_latency
from deploy.onnx_export import ExportReport, export_onnx, nearest_legal_size
from deploy.parity import Check, Tolerance, compare, tolerance_for, with_metric
from deploy.runtime import OnnxPredictor, TorchPredictor, load_network
from deploy.samples import sample_batches
from deploy.sidecar import move_model, sidecar_path, write_json
from models.registry import network_info
from search_spaces.spec import Spec, get_value, save_spec
from trials.data import evaluation_hash
from trials.evaluate import evaluate, fitted_spec, images_of
from trials.failures import NonFiniteError

MODEL, REJECTED, PREVIOUS, CANDIDATE = "model.onnx", "model.rejected.onnx", "model.previous.onnx", "candidate.onnx"
VERDICT, SPEC = "promotion.json", "spec.yaml"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Whether a TensorRT engine was built, and why not."""

    built: bool
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How an exported model did against the network it was drawn from.

    `metrics` are those of each runtime (unprefixed names) over every image of `split` at the export shape; a runtime whose
    answers are not finite has none.  `evaluation_hash` says what they were measured on, `mode` how images met the network.
    """

    check: Check
    metrics: Mapping[str, Mapping[str, float | None]]
    split: str
    mode: str
    evaluation_hash: str
    num_images: int | None
    latency: LatencyTable


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The verdict on one checkpoint: `model` is the file that the gate let through, or the rejected one, then with a `reason`."""

    promoted: bool
    reason: str | None
    folder: Path
    checkpoint: Path
    model: Path
    export: ExportReport
    judgement: Judgement
    engine: Engine
    seconds: float


def promote(
    checkpoint: Path,
    folder: Path,
    *,
    spec: Spec,
    split: str = "val",
    height: int | None = None,
    width: int | None = None,
    batch: int | None = 1,
    opset: int | None = None,
    samples: int = 8,
    tolerance: Tolerance | None = None,
) -> Promotion:
    """Exports `checkpoint`, holds the file against torch on real images and ships it, or says with figures why not.

    `spec` is the one the checkpoint was trained with.  The size defaults to the legal one nearest to the split's
    crop_size, `opset` to export.opset_version; `batch` None leaves the batch free; `samples` and `tolerance` are those of
    `judge`.  Running it again replaces what it wrote before.  A rejected model is an answer, not an error; UserError for
    what cannot be tried at all.
    """
    started = time.perf_counter()
    network = load_network(checkpoint, spec)
    crop = get_value(spec, f"dataset.{split}_dataset.augmentation.crop_size")
    legal = nearest_legal_size(crop[0], crop[1], network_info(spec.model.model_type).stride)
    folder.mkdir(parents=True, exist_ok=True)
    candidate = folder / CANDIDATE
    try:
        export = export_onnx(
            network,
            spec,
            candidate,
            height=legal[0] if height is None else height,
            width=legal[1] if width is None else width,
            batch=batch,
            opset=spec.export.opset_version if opset is None else opset,
            overwrite=True,
            checkpoint=checkpoint,
        )
        judgement = judge(network, candidate, spec, split=split, samples=samples, tolerance=tolerance)
        promotion = _verdict(checkpoint, folder, export, judgement, seconds=time.perf_counter() - started)
        _publish(promotion, spec, candidate)
    finally:
        move_model(candidate, None)
    return promotion


def judge(
    network: nn.Module, model: Path, spec: Spec, *, split: str = "val", samples: int = 8, tolerance: Tolerance | None = None
) -> Judgement:
    """Holds an exported file against its `network` on the images of `split`, all of them at the file's own size.

    Up to `samples` images, evenly spread over the list, are compared pixel by pixel against `tolerance` (default:
    `tolerance_for(spec)`); every image is evaluated in both runtimes; both are timed.  DataError for lists that cannot be used.
    """
    reference, exported = TorchPredictor(network, spec.family), OnnxPredictor(model)
    spec = fitted_spec(spec, split, exported.fixed_size)
    images = [images_of(batch) for batch in sample_batches(spec, split, samples)]
    check = compare(reference, exported, images, tolerance=tolerance or tolerance_for(spec))
    metrics: dict[str, Mapping[str, float | None]] = {}
    counted = None
    for predictor in (reference, exported):
        try:
            evaluation = evaluate(predictor, spec, split)
        except NonFiniteError as error:
            metrics[predictor.name] = {}
            check = replace(check, passed=False, reason=check.reason or f"{predictor.name}: {error.message}")
        else:
            metrics[predictor.name], counted = evaluation.metrics, evaluation.num_images
    check = with_metric(check, spec, metrics[reference.name], metrics[exported.name])
    timed = tuple(image.expand(exported.batch or 1, -1, -1, -1).contiguous() for image in images[0])
    return Judgement(
        check=check,
        metrics=metrics,
        split=split,
        mode=get_value(spec, f"dataset.{split}_dataset.augmentation.evaluation"),
        evaluation_hash=evaluation_hash(spec, split),
        num_images=counted,
        latency=measure_latency({reference.name: reference, exported.name: exported}, timed),
    )


def _verdict(checkpoint: Path, folder: Path, export: ExportReport, judgement: Judgement, *, seconds: float) -> Promotion:
    model = folder / (MODEL if judgement.check.passed else REJECTED)
    return Promotion(
        promoted=judgement.check.passed,
        reason=judgement.check.reason,
        folder=folder,
        checkpoint=checkpoint,
        model=model,
        export=replace(export, path=model, sidecar=sidecar_path(model)),
        judgement=judgement,
        engine=engine_status(),
        seconds=seconds,
    )


def engine_status() -> Engine:
    """Why no TensorRT engine stands beside the model on this machine."""
    if not torch.cuda.is_available():
        return Engine(built=False, reason="no GPU")
    if importlib.util.find_spec("tensorrt") is None:
        return Engine(built=False, reason="tensorrt is not installed")
    return Engine(built=False, reason="this release builds no engines")


def promotion_to_json(promotion: Promotion) -> dict[str, Any]:
    """Plain data of `promotion`, as `promotion.json` holds it; the model is named relative to the folder."""
    judgement, facts = promotion.judgement, promotion.export.facts
    export = asdict(promotion.export)
    export["path"], export["sidecar"] = promotion.export.path.name, promotion.export.sidecar.name
    return {
        "promoted": promotion.promoted,
        "reason": promotion.reason,
        "model": promotion.model.name,
        "checkpoint": str(promotion.checkpoint),
        "checkpoint_sha256": facts.checkpoint_sha256,
        "spec_sha256": facts.spec_sha256,
        "export": export,
        "check": asdict(judgement.check),
        "metrics": {name: dict(values) for name, values in judgement.metrics.items()},
        "evaluation": {
            "split": judgement.split,
            "mode": judgement.mode,
            "hash": judgement.evaluation_hash,
            "num_images": judgement.num_images,
        },
        "latency": asdict(judgement.latency),
        "engine": asdict(promotion.engine),
        "seconds": round(promotion.seconds, 3),
    }


def _publish(promotion: Promotion, spec: Spec, candidate: Path) -> None:
    folder = promotion.folder
    (folder / VERDICT).unlink(missing_ok=True)
    if promotion.promoted:
        move_model(folder / REJECTED, None)
    elif (folder / MODEL).exists():
        move_model(folder / MODEL, folder / PREVIOUS)
    move_model(candidate, promotion.model)
    save_spec(spec, folder / SPEC)
    write_json(folder / VERDICT, promotion_to_json(promotion))
