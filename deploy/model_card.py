"""MODEL_CARD.md: what a promoted model is, what it was made from, what it measured, and what nobody measured.

The headings follow Mitchell et al., "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.latency import LatencyTable
from deploy.sidecar import ModelFacts
from models.checkpoints import read_checkpoint, spec_of
from search_spaces.objective import metric_info
from search_spaces.spec import Spec, get_value
from search_spaces.spec.weights import WeightFile, first_weights
from trials.data import build_dataset, data_hash

CARD = "MODEL_CARD.md"
BETTER = {"minimize": "lower", "maximize": "higher"}
_RECIPE = (
    "train.num_epochs",
    "train.seed",
    "train.precision",
    "train.optim.optimizer",
    "train.optim.lr",
    "train.optim.weight_decay",
    "train.optim.lr_scheduler",
    "dataset.train_dataset.batch_size",
    "dataset.train_dataset.augmentation.crop_size",
)
_SMALL = ("vitt", "vits")  # Depth Anything V2's licence depends on the size


def model_card(
    spec: Spec, promotion: Mapping[str, Any], facts: ModelFacts, latency: LatencyTable, *, checkpoint: Path, folder: Path
) -> str:
    """The card's text; `promotion` is what `promotion.json` holds, `folder` has its files.  DataError for unreadable lists."""
    sections = (
        f"# {facts.model_type} {facts.encoder}, {facts.height}x{facts.width}",
        _what_it_does(facts),
        "## Data",
        _table(("split", "lists", "hash"), _data_rows(spec)),
        "## Recipe",
        _table(("key", "value"), [(key, _plain(spec, key)) for key in _RECIPE]),
        f"Hash of the spec {facts.spec_sha256[:16]}, of the checkpoint {(facts.checkpoint_sha256 or 'none')[:16]}; `spec.yaml` has it all.",
        "## Metrics",
        _measured_on(promotion),
        _metrics(promotion["metrics"], spec),
        *_known_images(spec, promotion["evaluation"]["split"]),
        "## Against the checkpoint",
        _table(("runtime", "largest", "mean", "unit", "allowed"), _check_rows(promotion["checks"])),
        "## Files",
        _table(("file", "MiB", "what it is"), _file_rows(promotion, facts, folder)),
        "## Latency",
        _table(("runtime", "batch", "p50 ms", "p95 ms", "least ms"), _latency_rows(latency)),
        _machine(latency),
        "## Limits",
        "\n".join(_limits(facts)),
        "## Weights and licences",
        _licences(spec, checkpoint),
    )
    return "\n\n".join(sections) + "\n"


def _what_it_does(facts: ModelFacts) -> str:
    images = "`left_image` and `right_image`, a rectified pair," if facts.family == "stereo" else "`images`"
    quantity = (
        "disparity in pixels" if facts.family == "stereo" else "depth in metres" if facts.max_depth else "inverse depth without a unit"
    )
    return (
        f"Gives {quantity} for each pixel of {images} of {facts.batch or 'N'}x3x{facts.height}x{facts.width}: RGB / 255, "
        f"minus {list(facts.mean)}, divided by {list(facts.std)}, float32. `predict.py` shows it."
    )


def _data_rows(spec: Spec) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for split in ("train", "val"):
        sources = getattr(spec.dataset, f"{split}_dataset").data_sources
        if sources:
            lists = ", ".join(f"{Path(source.data_file).name} ({source.dataset_name})" for source in sources)
            rows.append((split, lists, data_hash(spec, split)))
    return rows


def _plain(spec: Spec, key: str) -> str:
    value = get_value(spec, key)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _measured_on(promotion: Mapping[str, Any]) -> str:
    told = promotion["evaluation"]
    count = f"images of the {told['split']} lists: {told['num_images']}"
    return f"At the model's size ({told['mode']}), {count}; evaluation hash {told['hash']}."


def _known_images(spec: Spec, split: str) -> Iterable[str]:
    """A warning where the metrics are those of images that the network was trained on."""
    if spec.dataset.train_dataset.data_sources:
        measured, trained = ({row.image for row in build_dataset(spec, name, training=False).rows} for name in (split, "train"))
        if known := measured & trained:
            yield f"**{len(known)} of these {len(measured)} images are also in the train lists: on new ones the figures will be worse.**"


def _metrics(metrics: Mapping[str, Mapping[str, float | None]], spec: Spec) -> str:
    names = list(next(values for values in metrics.values() if values))
    rows = []
    for name in names:
        info = metric_info(spec.family, name)
        rows.append((f"{name} ({BETTER[info.direction]})", info.unit or "", *(_number(values.get(name)) for values in metrics.values())))
    return _table(("metric (better)", "unit", *metrics), rows)


def _check_rows(checks: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, check in checks.items():
        allowed = check["tolerance"]
        drop = allowed["metric_drop"]
        exact = f"{_number(allowed['max_abs'])} / {_number(allowed['mean_abs'])}"
        limits = exact if drop is None else f"{check['metric']} up to {100 * drop:g} % worse"
        rows.append((name, _number(check["max_abs"]), _number(check["mean_abs"]), str(check["unit"]), limits))
    return rows


def _file_rows(promotion: Mapping[str, Any], facts: ModelFacts, folder: Path) -> Iterable[tuple[str, ...]]:
    """The model files, their sizes and how they were made."""
    what = {promotion["model"]: f"ONNX, opset {facts.opset}, float32"}
    if (int8 := promotion["int8"]) and int8["built"]:
        told = int8["details"]
        nodes = f"{told['quantized_nodes']} nodes in int8 ({told['algorithm']})"
        what[int8["file"]] = f"ONNX, {nodes}, calibrated on {told['calibrated_on']}"
    if (engine := promotion["engine"])["built"]:
        told = engine["details"]
        what[engine["file"]] = f"TensorRT {told['tensorrt_version']}, {told['precision']}, for {told['gpu']} alone"
    for name in promotion["files"]:
        if ".rejected" not in name:
            yield f"`{name}`", f"{(folder / name).stat().st_size / 2**20:.2f}", what.get(name, "OpenVINO, float32")


def _latency_rows(latency: LatencyTable) -> list[tuple[str, ...]]:
    return [(row.runtime, str(row.batch), f"{row.median_ms:.1f}", f"{row.p95_ms:.1f}", f"{row.min_ms:.1f}") for row in latency.rows]


def _machine(latency: LatencyTable) -> str:
    machine, row = latency.machine, latency.rows[0]
    # ONNX Runtime's usual package and OpenVINO run on the CPU where torch and an engine have the GPU
    where = ", ".join(part for part in (machine.gpu, machine.processor, f"{machine.cores} cores") if part)
    load = "" if machine.load_after is None else f", load {machine.load_after:.1f}"
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    return f"{row.rounds} calls after {row.warm_up} for warm-up, runtimes taking turns; {where}, {threads}{load}."


def _limits(facts: ModelFacts) -> Iterable[str]:
    yield f"- One size, {facts.height}x{facts.width}. Other images are resized, and those of another shape distorted."
    if facts.max_disparity is not None:
        yield f"- Disparities up to {facts.max_disparity} px at that size. What is nearer is wrong, without a sign of it."
    if facts.max_depth is not None:
        yield f"- Depths up to {facts.max_depth:g} m. What lies beyond is wrong, without a sign of it."
    if facts.family == "mono" and facts.max_depth is not None:
        yield "- Metres hold for cameras like those of the training lists: another focal length scales them."
    yield "- Nothing is known of scenes, weather, light and cameras that the validation lists do not have."
    yield "- The model gives no confidence."


def _licences(spec: Spec, checkpoint: Path) -> str:
    record = checkpoint.parent / "result.json"
    told = json.loads(record.read_text(encoding="utf-8")).get("first_weights") if record.is_file() else None
    first = first_weights(spec)
    lines = [f"Training started from: {told or first}."]
    lines += [f"- `{Path(file.path).name}` ({file.key}): {_licence(file, spec)}" for file in first.files]
    if not first.files:
        lines.append("- No weights of others are named in the spec.")
    lines.append("- The terms of the data sets in the lists are those of their owners.")
    return "\n".join(lines)


def _licence(file: WeightFile, spec: Spec) -> str:
    anything = "Apache-2.0" if spec.model.encoder in _SMALL else "CC-BY-NC-4.0, not for commercial use"
    match file.part:
        case "side_network":
            return f"as published, Depth Anything V2 of this size is {anything}"
        case "mono_backbone":
            return f"as published, DINOv2 is Apache-2.0 and Depth Anything V2 of this size {anything}"
        case "trunk":
            return "as its publisher says"
        case "all" if _is_ours(Path(file.path)):
            return "trained by this program; the terms of what it started from hold"
        case "all":
            whole = "NVIDIA's FoundationStereo research weights are not for commercial use"
            return f"as published, {whole if spec.family == 'stereo' else f'Depth Anything V2 of this size is {anything}'}"


def _is_ours(weights: Path) -> bool:
    return weights.is_file() and spec_of(read_checkpoint(weights)) is not None


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
