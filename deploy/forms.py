"""Further forms of an exported model: int8 for CPUs, and a TensorRT engine.  Each is made of the ONNX file and judged with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.engine import engine_sidecar, load_onnx
from deploy.engine_plan import build_planned, check_engine, missing_for_engine, plan_engine
from deploy.engine_runtime import TrtPredictor
from deploy.graph_file import FilePredictor
from deploy.judgement import Stage
from deploy.onnx_runtime import OnnxPredictor
from deploy.openvino_runtime import check_openvino
from deploy.parity import Candidate, coarse_tolerance, tolerance_for
from deploy.quantize import convert_to_int8
from deploy.quantize_backends import check_quantize
from deploy.samples import made_up_images
from deploy.sidecar import sidecar_path, write_json
from search_spaces.errors import SpecError, nearest
from search_spaces.spec import Spec, with_values

INT8, ENGINE = "int8", "engine"
FORMATS = ("onnx", "openvino", INT8, ENGINE)
_WHAT = "automl promote --to engine"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What became of one form: `file` names it in the model's folder, None where there is none; `reason` says why it is not `built`.

    A form that was built and is too far from the checkpoint keeps `.rejected` in its name and counts as not built.
    """

    built: bool
    reason: str | None
    file: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file that was not judged yet: how it is held against the network, and what the verdict tells of it."""

    candidate: Candidate
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Maker:
    """How a form is made: `check` raises UserError for what a spec and the machine refuse before any work, `make` gets the ONNX file and
    the file to write."""

    check: Callable[[Spec], None]
    make: Callable[[Path, Path, Spec, Stage], Made]


def check_formats(formats: Collection[str], spec: Spec, makers: Mapping[str, Maker] | None = None) -> None:
    """Raises what a promotion to `formats` would be refused for on this machine, before anything is read."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        guess = nearest(unknown[0], FORMATS)
        raise SpecError(
            f"a model is promoted to {', '.join(FORMATS)}, but got {', '.join(unknown)}",
            hint=f"did you mean {guess}?" if guess else "--to onnx,openvino",
        )
    if "openvino" in formats:
        check_openvino()
    for name, maker in (makers or MAKERS).items():
        if name in formats:
            maker.check(spec)


def formats_of(spec: Spec) -> tuple[str, ...]:
    """What a promotion that nobody said more about makes: openvino where export.format says so, an engine where the machine can."""
    openvino = ("openvino",) if spec.export.format == "openvino" else ()
    return ("onnx", *openvino, *(() if missing_for_engine() else (ENGINE,)))


def int8_spec(spec: Spec) -> Spec:
    """`spec` with the backend that quantises an ONNX file; algorithm, layers and calibration images stay the user's."""
    return with_values(spec, {"quantize.backend": "onnxruntime", "quantize.mode": "static_ptq", "quantize.overwrite": True})


def check_int8(spec: Spec) -> None:
    """SpecError or DataError for quantize settings without sense, or nothing to calibrate on."""
    check_quantize(int8_spec(spec), Path("model.onnx"), Path("promotion"))


def make_int8(source: Path, target: Path, spec: Spec, stage: Stage) -> Made:
    """Q/DQ nodes around the operators that hold weights, with ranges of the calibration images or of the train lists."""
    spec = int8_spec(spec)
    made = convert_to_int8(source, target, spec, stage)
    details = {
        "backend": spec.quantize.backend,
        "algorithm": spec.quantize.algorithm,
        "calibrated_on": made.calibrated_on,
        "quantized_nodes": len(made.kinds),
        "size_bytes": {"before": made.size_before, "after": made.size_after},
    }
    predictor = OnnxPredictor(target)
    predictor.name = f"{predictor.name} int8"
    facts = {} if predictor.facts is None else asdict(predictor.facts)
    write_json(sidecar_path(target), {**facts, "size_bytes": made.size_after, "quantization": {**details, "quantized": dict(made.kinds)}})
    return Made(candidate=Candidate(predictor=predictor, tolerance=coarse_tolerance(spec), decides=False), details=details)


def make_engine(source: Path, target: Path, spec: Spec, stage: Stage) -> Made:
    """A TensorRT engine in the spec's data_type, that of `depth_net gen_trt_engine` where it is null."""
    plan = plan_engine(load_onnx(source), source, spec, gpu=spec.gen_trt_engine.gpu_id)
    with stage("builds the engine") as progress:
        report = build_planned(plan, target, spec, what=_WHAT, progress=lambda _, done, total: progress(done, total))
    predictor: FilePredictor = TrtPredictor(target)
    predictor.name = f"tensorrt {plan.precision.lower()}"
    assert predictor.fixed_size is not None
    for images in made_up_images(spec.family, predictor.fixed_size, 1):
        predictor.predict(images)  # one that does not run falls here, alone
    tolerance = tolerance_for(spec) if plan.precision == "FP32" else coarse_tolerance(spec)
    details = {
        "precision": plan.precision,
        "profile": None if report.profile is None else asdict(report.profile),
        "tensorrt_version": report.tensorrt_version,
        "gpu": report.gpu,
        "build_seconds": round(report.seconds, 3),
        "size_bytes": report.size_bytes,
    }
    return Made(candidate=Candidate(predictor=predictor, tolerance=tolerance, decides=False), details=details)


MAKERS: Mapping[str, Maker] = {
    INT8: Maker(check=check_int8, make=make_int8),
    ENGINE: Maker(check=functools.partial(check_engine, what=_WHAT), make=make_engine),
}
_ENDINGS = {INT8: ".int8.onnx", ENGINE: ".engine"}


def form_path(model: Path, name: str) -> Path:
    """Where a form of the model file `model` lies: `model.int8.onnx` or `model.engine`."""
    return model.with_name(f"{model.stem}{_ENDINGS[name]}")


def move_form(form: Path, target: Path | None) -> None:
    """Moves a form with the description beside it, or removes both where there is no target."""
    describe = engine_sidecar if form.suffix == _ENDINGS[ENGINE] else sidecar_path
    for path, goal in ((describe(form), target and describe(target)), (form, target)):
        if goal is None or not path.exists():
            path.unlink(missing_ok=True)
        else:
            path.replace(goal)
