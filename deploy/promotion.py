"""How a checkpoint becomes a product: export, gate, latency, and one file that says what happened.

`<folder>/model.onnx` is there if, and only if, `promotion.json` says `"promoted": true`.  A model that the gate
stops is kept as `model.rejected.onnx` with its figures; one that was promoted earlier becomes `model.previous.onnx`.
The order of writing keeps that true after a crash at any point: the old verdict goes first, the new one comes last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploy.engine_plan import missing_for_engine, profile_of
from deploy.forms import ENGINE, INT8, MAKERS, Form, Made, Maker, check_formats, form_path, formats_of, move_form
from deploy.judgement import Judgement, Stage, judge, unseen
from deploy.model_card import CARD, model_card
from deploy.onnx_export import ExportReport, export_onnx, nearest_legal_size
from deploy.openvino_runtime import move_openvino, write_openvino
from deploy.parity import Candidate, Tolerance, tolerance_for
from deploy.runtime import OnnxPredictor, OpenVinoPredictor, load_network
from deploy.scratch import scratch_beside
from deploy.sidecar import file_sha256, move_model, rejected, sidecar_path, write_json
from models.registry import network_info
from search_spaces.spec import Spec, get_value, save_spec, with_values
from trials.failures import failure_of

PREDICT, TEMPLATE = "predict.py", Path(__file__).parent / "templates" / "predict.py"
MODEL, REJECTED, PREVIOUS = "model.onnx", "model.rejected.onnx", "model.previous.onnx"
VERDICT, SPEC = "promotion.json", "spec.yaml"


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The verdict on one checkpoint: `model` is the file that the gate let through, or the rejected one, then with a `reason`.

    `forms` has the engine, whether one was asked for or not, and int8 where it was.
    """

    promoted: bool
    reason: str | None
    folder: Path
    checkpoint: Path
    model: Path
    export: ExportReport
    judgement: Judgement
    forms: Mapping[str, Form]
    seconds: float


def promote(
    checkpoint: Path,
    folder: Path,
    *,
    spec: Spec,
    formats: Collection[str] | None = None,
    split: str = "val",
    height: int | None = None,
    width: int | None = None,
    samples: int = 8,
    tolerance: Tolerance | None = None,
    stage: Stage = unseen,
    makers: Mapping[str, Maker] = MAKERS,
) -> Promotion:
    """Exports `checkpoint`, holds the file against torch on real images and ships it, or says with figures why not.

    `spec` is the one the checkpoint was trained with.  `formats` are some of FORMATS, onnx is always made; None: what `formats_of` says, an
    engine only if it can be built.  The size defaults to the legal one nearest to the split's crop_size; the batch is 1, or free where the
    engines' profile goes beyond it.  `samples` are those of `judge`, `tolerance` stands for the network's own.  Running it again replaces
    what it wrote before.  A rejected model or form is an answer, not an error; UserError for what cannot be tried at all.
    """
    started = time.perf_counter()
    wanted = formats_of(spec) if formats is None else tuple(formats)
    check_formats([name for name in wanted if formats is not None or name != ENGINE], spec, makers)
    network = load_network(checkpoint, spec)
    largest = profile_of(spec).high
    spec = _as_drawn(spec, split, height=height, width=width, batch=1 if largest == 1 else None)
    with scratch_beside(folder) as scratch:
        export = export_onnx(
            network,
            spec,
            scratch / MODEL,
            height=spec.export.input_height,
            width=spec.export.input_width,
            batch=spec.export.batch_size,
            opset=spec.export.opset_version,
            checkpoint=checkpoint,
        )
        candidates = _exact(scratch / MODEL, tolerance or tolerance_for(spec), openvino="openvino" in wanted)
        made, forms = _make(scratch / MODEL, wanted, spec, makers, stage)
        candidates += [form.candidate for form in made.values()]
        bounded = _within_profile(spec, split, largest)
        judgement = judge(network, candidates, bounded, split=split, samples=samples, batches=sorted({1, largest}), stage=stage)
        model = folder / (MODEL if judgement.check.passed else REJECTED)
        promotion = Promotion(
            promoted=judgement.check.passed,
            reason=judgement.check.reason,
            folder=folder,
            checkpoint=checkpoint,
            model=model,
            export=replace(export, path=model, sidecar=sidecar_path(model)),
            judgement=judgement,
            forms=forms | {name: _form(folder, name, form, judgement) for name, form in made.items()},
            seconds=time.perf_counter() - started,
        )
        _publish(promotion, spec, scratch / MODEL)
    return promotion


def _as_drawn(spec: Spec, split: str, *, height: int | None, width: int | None, batch: int | None) -> Spec:
    """`spec` with its model's size, batch and refinements, so that `depth_net export -e promotion/spec.yaml` draws the same one again."""
    crop = get_value(spec, f"dataset.{split}_dataset.augmentation.crop_size")
    legal = nearest_legal_size(crop[0], crop[1], network_info(spec.model.model_type).stride)
    size = {"export.input_height": legal[0] if height is None else height, "export.input_width": legal[1] if width is None else width}
    return with_values(spec, {**size, "export.batch_size": batch, "export.valid_iters": None})


def _within_profile(spec: Spec, split: str, largest: int) -> Spec:
    """`spec` with batches of the split that an engine of that profile takes too; a fixed batch takes any number of images."""
    key = f"dataset.{split}_dataset.batch_size"
    return spec if largest == 1 else with_values(spec, {key: min(largest, get_value(spec, key))})


def _exact(model: Path, tolerance: Tolerance, *, openvino: bool) -> list[Candidate]:
    """The runtimes that compute in float32: the model is rejected with any of them."""
    candidates = [Candidate(predictor=OnnxPredictor(model), tolerance=tolerance)]
    if openvino:
        xml, _ = write_openvino(model, model.with_suffix(".xml"))
        candidates.append(Candidate(predictor=OpenVinoPredictor(xml), tolerance=tolerance))
    return candidates


def _make(
    model: Path, wanted: Collection[str], spec: Spec, makers: Mapping[str, Maker], stage: Stage
) -> tuple[dict[str, Made], dict[str, Form]]:
    """The forms that were made of `model`, and what to say of the others."""
    made: dict[str, Made] = {}
    others: dict[str, Form] = {}
    for name, maker in makers.items():
        if name not in wanted:
            if name == ENGINE:
                others[name] = Form(built=False, reason=missing_for_engine() or "not asked for")
            continue
        try:
            made[name] = maker.make(model, form_path(model, name), spec, stage)
        except Exception as error:  # noqa: BLE001  whatever a library makes of a form, the model itself ships
            others[name] = Form(built=False, reason=failure_of(error).message)
    return made, others


def _form(folder: Path, name: str, made: Made, judgement: Judgement) -> Form:
    """What became of a form that was made: it is kept as a rejected one if it is too far off, and not at all with a rejected model."""
    if not judgement.check.passed:
        return Form(built=False, reason="the model was rejected")
    check, path = judgement.checks[made.candidate.predictor.name], form_path(folder / MODEL, name)
    return Form(built=check.passed, reason=check.reason, file=(path if check.passed else rejected(path)).name, details=made.details)


def promotion_to_json(promotion: Promotion) -> dict[str, Any]:
    """Plain data of `promotion`, as `promotion.json` holds it; files are named relative to the folder."""
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
        **{name: asdict(promotion.forms[name]) if name in promotion.forms else None for name in (ENGINE, INT8)},
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
    # the card and the example are about model.onnx, and the OpenVINO files and other forms are its
    for name in (CARD, PREDICT):
        (folder / name).unlink(missing_ok=True)
    move_openvino(folder / MODEL, None)
    for path in [form_path(folder / MODEL, name) for name in (ENGINE, INT8)]:
        move_form(path, None)
        move_form(rejected(path), None)
    move_model(candidate, promotion.model)
    move_openvino(candidate, promotion.model)
    for name, form in promotion.forms.items():
        if form.file is not None:
            move_form(form_path(candidate, name), folder / form.file)
    save_spec(spec, folder / SPEC)
    own = [path for path in sorted(folder.glob(f"{promotion.model.stem}.*")) if path.suffix != ".json" and path.name != PREVIOUS]
    data["files"] = {path.name: file_sha256(path) for path in own}
    if promotion.promoted:
        shutil.copyfile(TEMPLATE, folder / PREDICT)
        facts, latency = promotion.export.facts, promotion.judgement.latency
        (folder / CARD).write_text(model_card(spec, data, facts, latency, checkpoint=promotion.checkpoint, folder=folder), encoding="utf-8")
    write_json(folder / VERDICT, data)
