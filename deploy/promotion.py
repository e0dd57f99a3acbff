"""How a checkpoint becomes a product: export, gate, latency, and one file that says what happened.

`<folder>/model.onnx` is there if, and only if, `promotion.json` says `"promoted": true`.  A model that the gate
stops is kept as `model.rejected.onnx` with its figures; one that was promoted earlier becomes `model.previous.onnx`.
The order of writing keeps that true after a crash at any point: the old verdict goes first, the new one comes last.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deploy.graph_file import FilePredictor
from deploy.latency import LatencyTable, measure_latency
from deploy.model_card import CARD, model_card
from deploy.onnx_export import ExportReport, export_onnx, nearest_legal_size
from deploy.openvino_runtime import check_openvino, move_openvino, write_openvino
from deploy.parity import Check, Comparison, Tolerance, tolerance_for, with_metric
from deploy.runtime import OnnxPredictor, OpenVinoPredictor, TorchPredictor, load_network
from deploy.samples import sample_batches
from deploy.sidecar import file_sha256, move_model, sidecar_path, write_json
from models.registry import network_info
from search_spaces.spec import Spec, get_value, save_spec
from trials.data import evaluation_hash
from trials.evaluate import evaluate, fitted_spec, images_of
from trials.failures import NonFiniteError

PREDICT, TEMPLATE = "predict.py", Path(__file__).parent / "templates" / "predict.py"
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

    `checks` are those of each runtime, `check` that of the first one that did not pass, else of ONNX Runtime.  `metrics` are those of
    each runtime (unprefixed names) over every image of `split` at the export shape; a runtime whose answers are not finite has none.
    `evaluation_hash` says what they were measured on, `mode` how images met the network.
    """

    check: Check
    checks: Mapping[str, Check]
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
    if spec.export.format == "openvino":
        check_openvino()
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
        xml = write_openvino(candidate, candidate.with_suffix(".xml"))[0] if spec.export.format == "openvino" else None
        judgement = judge(network, candidate, spec, split=split, samples=samples, tolerance=tolerance, openvino=xml)
        promotion = _verdict(checkpoint, folder, export, judgement, seconds=time.perf_counter() - started)
        _publish(promotion, spec, candidate)
    finally:
        move_openvino(candidate, None)
        move_model(candidate, None)
    return promotion


def judge(
    network: nn.Module,
    model: Path,
    spec: Spec,
    *,
    split: str = "val",
    samples: int = 8,
    tolerance: Tolerance | None = None,
    openvino: Path | None = None,
) -> Judgement:
    """Holds an exported file, and its `openvino` form, against its `network` on the images of `split`, all of them at the file's size.

    Up to `samples` images, evenly spread over the list, are compared pixel by pixel against `tolerance` (default:
    `tolerance_for(spec)`); every image is evaluated in each runtime; all are timed.  DataError for lists that cannot be used.
    """
    reference, exported = TorchPredictor(network, spec.family), OnnxPredictor(model)
    candidates: list[FilePredictor] = [exported, *([] if openvino is None else [OpenVinoPredictor(openvino)])]
    spec = fitted_spec(spec, split, exported.fixed_size)
    images = [images_of(batch) for batch in sample_batches(spec, split, samples)]
    wanted = reference.name
    expected = [reference.predict(sample) for sample in images]
    checks: dict[str, Check] = {}
    for candidate in candidates:
        comparison = Comparison(wanted, candidate.name, tolerance=tolerance or tolerance_for(spec))
        for sample, answer in zip(images, expected, strict=True):
            comparison.add(answer, candidate.predict(sample))
        checks[candidate.name] = comparison.check()
    metrics: dict[str, Mapping[str, float | None]] = {}
    counted = None
    for predictor in (reference, *candidates):
        try:
            evaluation = evaluate(predictor, spec, split)
        except NonFiniteError as error:
            metrics[predictor.name] = {}
            for name in [predictor.name] if predictor.name in checks else checks:
                checks[name] = replace(checks[name], passed=False, reason=checks[name].reason or f"{predictor.name}: {error.message}")
        else:
            metrics[predictor.name], counted = evaluation.metrics, evaluation.num_images
    checks = {name: with_metric(check, spec, metrics[wanted], metrics[name]) for name, check in checks.items()}
    timed = tuple(image.expand(exported.batch or 1, -1, -1, -1).contiguous() for image in images[0])
    return Judgement(
        check=next((check for check in checks.values() if not check.passed), checks[exported.name]),
        checks=checks,
        metrics=metrics,
        split=split,
        mode=get_value(spec, f"dataset.{split}_dataset.augmentation.evaluation"),
        evaluation_hash=evaluation_hash(spec, split),
        num_images=counted,
        latency=measure_latency({each.name: each for each in (reference, *candidates)}, timed),
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
    return Engine(built=False, reason="promotion builds none: depth_net gen_trt_engine --parent does")


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
        "checks": {name: asdict(check) for name, check in judgement.checks.items()},
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
    folder, data = promotion.folder, promotion_to_json(promotion)
    (folder / VERDICT).unlink(missing_ok=True)
    if promotion.promoted:
        move_model(folder / REJECTED, None)
        move_openvino(folder / REJECTED, None)
    elif (folder / MODEL).exists():
        move_model(folder / MODEL, folder / PREVIOUS)
    # the card and the example are about model.onnx, and the OpenVINO files are its
    for name in (CARD, PREDICT):
        (folder / name).unlink(missing_ok=True)
    move_openvino(folder / MODEL, None)
    move_model(candidate, promotion.model)
    move_openvino(candidate, promotion.model)
    save_spec(spec, folder / SPEC)
    if promotion.promoted:
        shutil.copyfile(TEMPLATE, folder / PREDICT)
        facts, latency = promotion.export.facts, promotion.judgement.latency
        (folder / CARD).write_text(model_card(spec, data, facts, latency, checkpoint=promotion.checkpoint), encoding="utf-8")
    data["files"] = {path.name: file_sha256(path) for path in sorted(folder.glob(f"{promotion.model.stem}.*")) if path.suffix != ".json"}
    write_json(folder / VERDICT, data)
