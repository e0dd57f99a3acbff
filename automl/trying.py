"""`automl try STUDY --left a.png --right b.png`: the champion's answer to images of your own, at once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from automl.actions import say_stretch
from automl.console import screen, tell
from automl.entry import DONE, FAILED, quiet_libraries, say_error
from automl.folders import check_here, check_writable
from automl.inferring import KINDS
from automl.status import PROMOTION_FILE, read_json
from automl.summary import shown_path
from search_spaces.errors import DataError, SpecError, StudyError, shell_word
from search_spaces.spec import Spec, load_spec, with_values
from trials.copy_notes import url_of_copy

CLASSES = {"stereo": "GenericDataset", "relative": "RelativeMonoDataset", "mono": "MetricMonoDataset"}


def try_champion(study: Path, images: Sequence[Path | None], overrides: Sequence[str], out: Path | None) -> int:
    """Writes picture, PFM and, where the spec or `overrides` give the camera, point cloud of one image or pair.

    `images` are left, right and the single one, None where not given.  StudyError without a promoted model or for images in a store;
    SpecError for images of the other family; DataError for a file that is not there.
    """
    quiet_libraries()
    verdict = read_json(study / PROMOTION_FILE)
    model = study / PROMOTION_FILE.parent / "model.onnx"
    if verdict is None or not verdict.get("promoted") or not model.is_file():
        raise StudyError(f"{study} holds no promoted model", hint=f"`automl promote {shell_word(study)}` ships its winner")
    spec = load_spec(model.parent / "spec.yaml", overrides)
    chosen = _images_for(spec, images)
    from trials.data.decoders import image_size

    sizes = [image_size(path) for path in chosen]
    if len(set(sizes)) > 1:
        told = ", ".join(f"{width}x{height}" for height, width in sizes)
        raise DataError(f"left and right differ in size: {told}", hint="give a rectified pair of one size")
    if out is None and url_of_copy(study) is not None:
        raise SpecError("the study is in an S3 store, so where to write has to be said", hint="add --out try")
    folder = out or study / "try"
    check_writable(folder, hint="choose another --out")
    from deploy.runtime import load_predictor
    from trials.inference import infer

    with tempfile.TemporaryDirectory() as scratch:
        line = " ".join(f'"{path.absolute()}"' for path in chosen)
        (Path(scratch) / "images.txt").write_text(f"{line}\n", encoding="utf-8")
        kind = "relative" if spec.is_relative else spec.family
        source = {"data_file": str(Path(scratch) / "images.txt"), "dataset_name": CLASSES[kind]}
        values = {"dataset.infer_dataset.data_sources": [source], "dataset.infer_dataset.workers": 0, "inference.input_dir": None}
        camera = bool(spec.dataset.focal_x and (spec.family == "mono" or spec.dataset.baseline) and not spec.is_relative)
        spec = with_values(spec, {**values, "inference.save_raw_pfm": True, "inference.save_ply": camera})
        predictor = load_predictor(model, spec, split="infer", runtime=spec.inference.runtime)
        say_stretch(predictor, spec, "infer", {sizes[0]}, screen())
        written = infer(predictor, spec, folder)
    for ending, files in written.files.items():
        tell(screen(), f"{KINDS[ending]:<12}  {shown_path(files[0])}")
    if not camera:
        tell(screen(), f"note  {_why_no_cloud(spec)}")
    if written.not_finite:
        say_error("the prediction is not finite somewhere", "the picture shows where: those pixels are grey")
        return FAILED
    return DONE


def _images_for(spec: Spec, images: Sequence[Path | None]) -> list[Path]:
    left, right, single = images
    wanted, given = ((left, right), (single,)) if spec.family == "stereo" else ((single,), (left, right))
    if None in wanted or any(path is not None for path in given):
        usage = "--left LEFT --right RIGHT" if spec.family == "stereo" else "--image IMAGE"
        raise SpecError(f"the champion is a {spec.family} network: it takes {usage}", hint=f"automl try STUDY {usage}")
    chosen = [path for path in wanted if path is not None]
    for path in chosen:
        check_here(path, what="an image", hint="depth_net inference takes images of a store: inference.input_dir, or a list")
        if not path.is_file():
            raise DataError(f"there is no image {path}", hint="check the path")
    return chosen


def _why_no_cloud(spec: Spec) -> str:
    if spec.is_relative:
        return "no point cloud: a relative model gives no metres"
    keys = "dataset.focal_x=... (pixels)" + (" dataset.baseline=... (metres)" if spec.family == "stereo" else "")
    return f"no point cloud: add {keys} of your camera"
