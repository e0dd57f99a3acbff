"""`depth_net inference`: pictures and, where the spec asks, raw maps and point clouds of the infer lists or of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from automl.actions import ENGINE, begin, load, model_file, name_of, need_lists, output_folder, predictor_of, preflight, say_shapes
from automl.console import count_text, counted, screen, tell
from automl.entry import DONE, FAILED, INTERRUPTED, say_error
from automl.folders import BY_KEY, check_writable
from automl.records import failures_recorded
from automl.summary import shown_path
from search_spaces.spec import Spec
from trials.contract import Cause, Failure

if TYPE_CHECKING:
    from trials.inference import Written

KINDS = {".png": "picture", ".pfm": "PFM map", ".npy": "NumPy map", ".ply": "point cloud"}
# baseline in metres and focal length in pixels that TAO writes into every spec: Middlebury's Motorcycle at half its size
TAO_CAMERA = (0.193001, 1998.842)
NAMED = 3
ENGINE_PICTURES = "predicted_depth"  # TAO's folder for what an engine predicts


def inference_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """Writes the outputs of every image; FAILED when a prediction was NaN somewhere, with the files there to look at."""
    from trials.inference import infer
    from trials.point_cloud import camera_of

    loaded, console = load(spec_file, overrides, "inference"), screen()
    spec = loaded.spec
    model = model_file(spec, "inference", console)
    need_lists(spec, "infer", "inference")
    if spec.inference.save_ply:
        camera_of(spec)
        _question_camera(spec, console)
    folder = output_folder(spec, "inference", model)
    pictures = folder / ENGINE_PICTURES if model.suffix.lower() == ENGINE else folder
    check_writable(folder, hint=BY_KEY)
    try:
        with failures_recorded(folder, "inference") as status:
            predictor = predictor_of(model, spec, "infer", preflight(spec, ("infer",), console), console)
            say_shapes(predictor, loaded, "infer", console)
            begin(status, folder, spec, name_of("inference", model), console)
            with counted(console, "infers") as count:
                written = infer(predictor, spec, pictures, progress=count)
            if written.not_finite:
                status.failure(Failure(cause=Cause.NAN, message=_not_finite(written)))
            else:
                status.write("SUCCESS", "Inference finished successfully.")
    except KeyboardInterrupt:
        say_error("interrupted", f"each file in {shown_path(folder)} is whole; the same command starts again")
        return INTERRUPTED
    _say(console, written, pictures)
    if written.not_finite:
        say_error(_not_finite(written), "the pictures show where: those pixels are grey")
        return FAILED
    return DONE


def _question_camera(spec: Spec, console: Console) -> None:
    """A note for a spec of TAO's whose camera may have been set by nobody."""
    if (spec.dataset.baseline, spec.dataset.focal_x) == TAO_CAMERA:
        tell(
            console,
            "note  dataset.baseline and dataset.focal_x are TAO's defaults, which fit one scene of Middlebury: are they your camera's?",
        )


def _say(console: Console, written: Written, folder: Path) -> None:
    counts = ", ".join(count_text(len(files), KINDS[ending]) for ending, files in written.files.items())
    replaced = f"; {written.replaced} of them replaced older files" if written.replaced else ""
    tell(console, f"wrote {counts} in {shown_path(folder)}{replaced}")
    if written.no_points:
        tell(console, f"note  {count_text(len(written.no_points), 'point cloud')} without any point: {_names(written.no_points)}")


def _not_finite(written: Written) -> str:
    return f"the prediction of {len(written.not_finite)} of {len(written.files['.png'])} images is not finite: {_names(written.not_finite)}"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:NAMED])) + (", ..." if len(paths) > NAMED else "")
