"""A smaller model from a trained one, measured on the validation list before it counts as done.

`quantized_model_torchao.pth` (weights in 8 bits) or `quantized_model_onnxruntime.onnx` (int8 arithmetic) is there if `quantize.json` says
`"accepted": true`; a model that loses more than quantize.max_metric_drop keeps `.rejected` in its name.  File names are TAO's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from deploy import quantize_graph, quantize_weights
from deploy.calibration import calibration
from deploy.graph_file import INPUTS
from deploy.judgement import Stage, unseen
from deploy.latency import LatencyTable, measure_latency
from deploy.parity import worsening
from deploy.quantize_backends import BACKENDS, device_of
from deploy.quantize_rules import idle_rules, rules_of
from deploy.runtime import OnnxPredictor, TorchPredictor, load_network, load_predictor
from deploy.samples import sample_batches
from deploy.scratch import scratch_beside
from deploy.sidecar import METADATA_KEY, ModelFacts, file_sha256, rejected, sidecar_path, write_json
from search_spaces.objective import LEADING
from search_spaces.spec import Spec
from trials.evaluate import Evaluation, Predictor, evaluate, fitted_spec, images_of
from trials.failures import NonFiniteError

REPORT = "quantize.json"


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What became of one model.

    `model` is the accepted or the rejected file, then with a `reason`.  `kinds` are the kinds of numbers by layer or node.  `before` and
    `after` are all metrics (unprefixed) of the validation list, `change` the relative worsening of `metric`: None where it is no number.
    Sizes are those of all tensors for a checkpoint, of the file for ONNX.  `latency` has the rows `before` and `after`.
    `facts` describe an ONNX file.
    """

    accepted: bool
    reason: str | None
    model: Path
    source: Path
    backend: str
    kinds: Mapping[str, str]
    idle: tuple[str, ...]
    calibrated_on: str | None
    metric: str
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    change: float | None
    mode: str
    evaluation_hash: str
    num_images: int
    size_before: int
    size_after: int
    latency: LatencyTable
    facts: ModelFacts | None
    seconds: float


def quantize(model: Path, spec: Spec, folder: Path, *, stage: Stage = unseen) -> Quantized:
    """Quantises `model` into `folder` and measures both on dataset.val_dataset, in the same way and at the same shape.

    `check_quantize` has let the request through.  A rejected model is an answer, not an error; an interruption leaves `folder` as it was.
    """
    started = time.perf_counter()
    target = folder / BACKENDS[spec.quantize.backend].writes
    with scratch_beside(folder) as scratch:
        candidate = scratch / target.name
        if spec.quantize.backend == quantize_weights.BACKEND:
            made = _pack(model, candidate, spec)
        else:
            made = convert_to_int8(model, candidate, spec, stage)
        done = _measure(made, target, candidate, spec, stage=stage, started=started)
        _publish(done, target, candidate, spec)
    return done


def quantized_to_json(done: Quantized, spec: Spec) -> dict[str, Any]:
    """Plain data of `done`, as quantize.json holds it."""
    section = spec.quantize
    return {
        "accepted": done.accepted,
        "reason": done.reason,
        "model": done.model.name,
        "sha256": file_sha256(done.model),
        "source": str(done.source),
        "source_sha256": file_sha256(done.source),
        "backend": done.backend,
        "mode": section.mode,
        "algorithm": section.algorithm,
        "calibrated_on": done.calibrated_on,
        "quantized": dict(done.kinds),
        "metric": {
            "name": done.metric,
            "before": done.before.get(done.metric),
            "after": done.after.get(done.metric),
            "change": done.change,
            "max_metric_drop": section.max_metric_drop,
        },
        "metrics": {"before": dict(done.before), "after": dict(done.after)},
        "evaluation": {"split": "val", "mode": done.mode, "hash": done.evaluation_hash, "num_images": done.num_images},
        "size_bytes": {"before": done.size_before, "after": done.size_after},
        "latency": asdict(done.latency),
        "seconds": round(done.seconds, 3),
    }


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A quantised file that was not measured yet, and the model it came from."""

    source: Path
    original: Predictor
    kinds: Mapping[str, str]
    idle: list[str]
    calibrated_on: str | None
    size_before: int
    size_after: int


def _pack(model: Path, target: Path, spec: Spec) -> Converted:
    rules = rules_of(spec)
    network = load_network(model, spec, split="val")
    kinds = quantize_weights.choose_layers(network, spec, rules)
    before = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    after = quantize_weights.write_packed(network, kinds, model, spec, target)
    return Converted(
        source=model,
        original=TorchPredictor(network, spec.family, device=device_of(spec)),
        kinds=kinds,
        idle=idle_rules(quantize_weights.parts_of(network)[0], rules, spec.quantize.skip_names),
        calibrated_on=None,
        size_before=before,
        size_after=after,
    )


def convert_to_int8(model: Path, target: Path, spec: Spec, stage: Stage) -> Converted:
    """Writes the int8 form of the ONNX file `model`, calibrated as the spec says and measured by nobody yet.

    What it needs on the way lies in the folder of `target`.
    """
    scratch = target.parent
    rules, original = rules_of(spec), _predictor(model, spec)
    assert isinstance(original, OnnxPredictor)
    with quantize_graph.prepared(model, scratch) as graph:
        nodes = quantize_graph.choose_nodes(graph, spec, rules)
        idle = idle_rules(quantize_graph.parts_of(graph)[0], rules, spec.quantize.skip_names)
        assert original.fixed_size is not None
        with calibration(spec, original.fixed_size, scratch) as images, stage("calibrates") as progress:
            quantize_graph.quantize_graph(
                graph,
                target,
                nodes,
                images,
                names=INPUTS[original.family],
                batch=original.batch or 1,
                options=quantize_graph.graph_options(spec),
                progress=progress,
            )
            used = f"{images.count} of {images.found} images of {images.source}"
    written = onnx.load(target)
    onnx.helper.set_model_props(written, {} if original.facts is None else {METADATA_KEY: original.facts.to_text()})
    onnx.save(written, target)
    return Converted(
        source=model,
        original=original,
        kinds=nodes,
        idle=idle,
        calibrated_on=used,
        size_before=model.stat().st_size,
        size_after=target.stat().st_size,
    )


def _predictor(path: Path, spec: Spec) -> Predictor:
    device = device_of(spec)
    if path.suffix.lower() == ".onnx":
        return load_predictor(path, spec, split="val", runtime="cpu" if device == "cpu" else "auto")
    return load_predictor(path, spec, split="val", device=device)


def _measure(made: Converted, target: Path, candidate: Path, spec: Spec, *, stage: Stage, started: float) -> Quantized:
    quantized, metric = _predictor(candidate, spec), LEADING[spec.family]
    with stage("evaluates the original") as progress:
        before = evaluate(made.original, spec, "val", progress=progress)
    after: Evaluation | None = None
    broken = None
    try:
        with stage("evaluates the quantised") as progress:
            after = evaluate(quantized, spec, "val", progress=progress)
    except NonFiniteError as error:
        broken = error.message
    metrics = {} if after is None else after.metrics
    change, reason = worsening(before.metrics.get(metric), metrics.get(metric), metric=metric, allowed=spec.quantize.max_metric_drop)
    reason = broken or reason
    return Quantized(
        accepted=reason is None,
        reason=reason,
        model=target if reason is None else rejected(target),
        source=made.source,
        backend=spec.quantize.backend,
        kinds=made.kinds,
        idle=tuple(made.idle),
        calibrated_on=made.calibrated_on,
        metric=metric,
        before=before.metrics,
        after=metrics,
        change=change,
        mode=before.mode,
        evaluation_hash=before.evaluation_hash,
        num_images=before.num_images,
        size_before=made.size_before,
        size_after=made.size_after,
        latency=_latency(made.original, quantized, spec),
        facts=made.original.facts if isinstance(made.original, OnnxPredictor) else None,
        seconds=time.perf_counter() - started,
    )


def _latency(original: Predictor, quantized: Predictor, spec: Spec) -> LatencyTable:
    """Both on the first image of the validation list, as evaluation feeds it."""
    images = images_of(next(sample_batches(fitted_spec(spec, "val", original.fixed_size), "val", 1)))
    return measure_latency({"before": original, "after": quantized}, images, warm_up=1, budget_s=20.0)


def _publish(done: Quantized, target: Path, candidate: Path, spec: Spec) -> None:
    """The folder holds the result of one run: what an earlier one left under these names goes, its report first and the new one last."""
    (target.parent / REPORT).unlink(missing_ok=True)
    for path in (target, rejected(target)):
        path.unlink(missing_ok=True)
        sidecar_path(path).unlink(missing_ok=True)
    candidate.replace(done.model)
    report = quantized_to_json(done, spec)
    if done.facts is not None:
        told = {key: report[key] for key in ("accepted", "backend", "algorithm", "quantized", "source_sha256", "sha256")}
        write_json(sidecar_path(done.model), {**asdict(done.facts), "size_bytes": done.size_after, "quantization": told})
    write_json(target.parent / REPORT, report)
