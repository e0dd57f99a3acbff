"""The action `depth_net train`, and what every action on a model has in common.

A checkpoint of ours carries the spec it was trained with.  Its model section stands in for what the given spec leaves
unsaid, so that `depth_net evaluate -e data.yaml evaluate.checkpoint=best.pth` needs no second copy of the network's
settings; where the two disagree the load refuses and names the keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from automl.console import count_text, screen, tell
from automl.entry import quiet_libraries
from automl.folders import BY_KEY, check_writable, place_text
from automl.from_weights import exported_template, fitted, template_of
from automl.launch import check_memory, check_weights
from automl.plain import PlainRun, finish, tell_resume, train
from automl.resolve import check_devices, no_spec_file
from search_spaces.errors import CheckpointError, SpecError, UnsupportedError, shell_word
from search_spaces.objective import objective_for
from search_spaces.spec import LoadedSpec, Spec, read_spec, require, results_folder, save_spec, spec_to_dict, text_at, with_values
from trials.status import StatusWriter

if TYPE_CHECKING:
    from deploy.sidecar import ModelFacts
    from trials.data.preflight import SourceReport
    from trials.evaluate import Predictor

# what a checkpoint decides about the data beside mean and standard deviation of its images: the range of its output
OUTPUT_KEYS = ("dataset_name", "max_disparity", "min_depth", "max_depth", "normalize_depth")
ENGINE = ".engine"
EXPORTED = (".onnx", ".xml", ENGINE)
MODEL_KEYS = {"quantize": "model_path", "gen_trt_engine": "onnx_file"}  # elsewhere it is `checkpoint`
RUNS_ENGINES = ("evaluate", "inference")  # with the key `trt_engine`
WRITTEN_BESIDE = {"export": "onnx_file", "gen_trt_engine": "trt_engine"}  # what goes beside the model where nobody says where
LARGEST_STRETCH = 0.05
LEAST_MEMORY = 2.0  # of a prediction, in cost volumes; measured peaks are 2.4 to 3.6


def train_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """`depth_net train`: the run_trial of a search, on the spec as it stands."""
    from trials.devices import check_device

    loaded, console = load(spec_file, overrides, "train"), screen()
    spec = loaded.spec
    folder = results_folder(spec, "train")
    need_lists(spec, "train", "train")
    check_devices(loaded)
    trained = check_device(spec)
    check_writable(folder, hint=BY_KEY)
    metric = "val/loss" if spec.dataset.val_dataset.data_sources else "train/loss"
    root = Path(spec.results_dir) if spec.results_dir else folder
    run = PlainRun(spec=spec, folder=root, objective=objective_for(spec.family, metric, relative=spec.is_relative), skill="")
    continues = tell_resume(replace(run, spec=trained), console)
    if metric == "train/loss":
        tell(console, "note  no validation list: train/loss picks the best checkpoint, which is only a proxy")
    preflight(spec, ("train", "val"), console)
    for line in (*(() if continues else check_weights(spec)), *check_memory(spec)):
        tell(console, line)
    tell(console, f"Train results will be saved at: {place_text(folder)}")
    return finish(run, train(run, console), console)


def load(spec_file: Path, overrides: Sequence[str], action: str) -> LoadedSpec:
    """The spec of an action; a checkpoint that it names fills in the model section where the user left it out."""
    quiet_libraries()
    if not spec_file.is_file():
        raise no_spec_file(spec_file)
    if action == "train":
        loaded = fitted(read_spec(spec_file, overrides, action=action, environ=os.environ))
    else:
        loaded = _with_model(spec_file, overrides, action)
    console = screen()
    for line in (*loaded.assumed, *loaded.warnings):
        tell(console, f"note  {line}")
    return loaded


def _with_model(spec_file: Path, overrides: Sequence[str], action: str) -> LoadedSpec:
    """The spec of an action on a model, which says what the spec leaves out; it takes one device, whatever a scheduler says."""
    from trials.data.urls import is_url
    from trials.weight_copies import local_file

    keys = [MODEL_KEYS.get(action, "checkpoint"), *(["trt_engine"] if action in RUNS_ENGINES else [])]
    key, named = next(((key, text) for key in keys if (text := text_at(spec_file, overrides, f"{action}.{key}"))), (keys[0], None))
    model = Path(named) if named and not is_url(named) else None
    template = model_template(model) if model is not None and model.is_file() else {}
    loaded = read_spec(spec_file, overrides, template=template, action=action)
    if named is None or not is_url(named):
        return loaded
    output = WRITTEN_BESIDE.get(action)
    if output is not None and not getattr(getattr(loaded.spec, action), output):
        told = f"{action}.{key} is in an S3 store, so where to write has to be said"
        raise SpecError(told, hint=f"add {action}.{output}=..., a file of this machine")
    model = local_file(loaded.spec, named, key=f"{action}.{key}")
    loaded = read_spec(spec_file, overrides, template=model_template(model), action=action)
    return replace(loaded, spec=with_values(loaded.spec, {f"{action}.{key}": str(model)}))


def model_template(model: Path) -> Mapping[str, Any]:
    """What a model says about its network, as a spec template: ours their spec, others their layers; {} where nothing is known."""
    if model.suffix.lower() in EXPORTED:
        return exported_template(model)
    from models.checkpoints import CHECKPOINT_ENDINGS, read_checkpoint, spec_of

    if model.suffix.lower() not in CHECKPOINT_ENDINGS:
        return {}
    spec = spec_of(read_checkpoint(model))
    if spec is None:
        return template_of(model)
    own = spec_to_dict(spec)
    network = {name: value for name, value in own["model"].items() if not isinstance(value, Mapping)}
    # weights of parts were loaded into the checkpoint long ago
    for part in ("mono_backbone", "stereo_backbone"):
        network[part] = {name: value for name, value in own["model"][part].items() if not name.endswith("pretrained_path")}
    images = own["dataset"]["train_dataset"]["augmentation"]
    # a mono network sees an image at the size that it is resized to, and knows things at the size of its training
    scale = ("crop_size",) if spec.family == "mono" else ()
    prepared = {"augmentation": {name: images[name] for name in ("input_mean", "input_std", *scale)}}
    outputs = {name: own["dataset"][name] for name in OUTPUT_KEYS}
    return {"model": network, "dataset": {**outputs, **{f"{split}_dataset": prepared for split in ("val", "test", "infer")}}}


def model_file(spec: Spec, action: str, console: Console) -> Path:
    """The checkpoint, exported file or engine that an action runs; refuses an engine on a machine that cannot run it."""
    from models.checkpoints import check_there

    section = getattr(spec, action)
    engine = None if action == "export" else section.trt_engine
    key = "trt_engine" if engine and not section.checkpoint else "checkpoint"
    path = Path(require(spec, f"{action}.{key}", action=action))
    try:
        check_there(path)
    except CheckpointError as error:
        raise CheckpointError(f"{action}.{key}: {error.message}", hint=error.hint) from error
    if path.suffix.lower() == ENGINE:
        _check_engine(spec, action, path)
    if engine and key == "checkpoint":
        tell(console, f"note  {action}.trt_engine is not used: {action}.checkpoint is")
    return path


def _check_engine(spec: Spec, action: str, path: Path) -> None:
    from deploy.engine import need_tensorrt

    if action == "export":
        raise UnsupportedError(f"export.checkpoint is an engine: {path}", hint="an engine has no weights to export: give the checkpoint")
    batch = spec.dataset.test_dataset.batch_size
    if action == "evaluate" and spec.family == "stereo" and batch != 1:
        message = f"evaluate of a stereo engine takes one pair at a time, but dataset.test_dataset.batch_size is {batch}"
        raise SpecError(message, hint="add dataset.test_dataset.batch_size=1")
    need_tensorrt(0, what=f"depth_net {action} with {path.name}")


def name_of(action: str, model: Path) -> str:
    """The action as TAO's files and records call it: `trt_evaluate` and `trt_inference` with an engine."""
    return f"trt_{action}" if model.suffix.lower() == ENGINE else action


def output_folder(spec: Spec, action: str, model: Path) -> Path:
    """Where an action writes: `<action>.results_dir`, else below results_dir under the action's name."""
    folder = results_folder(spec, action)
    return folder if getattr(spec, action).results_dir else folder.with_name(name_of(action, model))


def predictor_of(model: Path, spec: Spec, split: str, reports: Sequence[SourceReport], console: Console) -> Predictor:
    """What runs `model` on the images of a split; notes say what nobody could check and which images it stretches."""
    from deploy.runtime import load_predictor

    sizes = {size for report in reports for size in report.sizes}
    if model.suffix.lower() not in EXPORTED:
        check_image_memory(spec, split, sizes)
    section = getattr(spec, "inference" if split == "infer" else "evaluate")
    predictor = load_predictor(model, spec, split=split, runtime=section.runtime)
    if model.suffix.lower() in EXPORTED:
        _say_facts(getattr(predictor, "facts", None), spec, console)
    say_stretch(predictor, spec, split, sizes, console)
    return predictor


def say_shapes(predictor: Predictor, loaded: LoadedSpec, split: str, console: Console) -> None:
    """A note on a crop_size of the user's that a model of one size overrules."""
    from deploy.pairing import shape_notes

    if predictor.fixed_size is not None:
        for line in shape_notes(loaded.spec, loaded.given, size=predictor.fixed_size, splits=(split,)):
            tell(console, f"note  {line}")


def _say_facts(facts: ModelFacts | None, spec: Spec, console: Console) -> None:
    """A note on what nobody could check in an exported file, or on what it decides whatever the spec says."""
    if facts is None:
        tell(console, "note  the file carries no description: encoder, image normalisation and depth range are taken from the spec")
    elif facts.max_disparity not in (None, spec.model.max_disparity):
        asked = f"model.max_disparity={spec.model.max_disparity} of the spec changes nothing"
        tell(console, f"note  the file covers disparities up to {facts.max_disparity}: {asked}")


def check_image_memory(spec: Spec, split: str, sizes: Set[tuple[int, int]]) -> None:
    """UnsupportedError for whole images that need more memory than there is: a machine that runs out of it kills without a word."""
    from models.stereo.limits import STEP_PX, volume_memory_mib
    from trials.devices import total_memory_mib

    section = getattr(spec.dataset, f"{split}_dataset")
    whole = ("native", "center_crop") if split == "infer" else ("native",)  # inference cuts nothing off
    if spec.family != "stereo" or section.augmentation.evaluation not in whole or not sizes:
        return
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    have_mib = total_memory_mib()
    need_mib = LEAST_MEMORY * volume_memory_mib(height, width, spec.model.max_disparity, batch=section.batch_size)
    if need_mib <= have_mib:
        return
    share = (have_mib / need_mib / 2) ** 0.5  # half of what there is
    fitting = [max(2 * STEP_PX, int(side * share) // STEP_PX * STEP_PX) for side in (height, width)]
    key = f"dataset.{split}_dataset.augmentation"
    raise UnsupportedError(
        f"images of {width}x{height} with model.max_disparity {spec.model.max_disparity} need at least {need_mib / 1024:.0f} GiB "
        f"of memory (batch {section.batch_size}), but there are {have_mib / 1024:.0f}",
        hint=f"add {key}.evaluation=resize {key}.crop_size={fitting}".replace(", ", ","),
    )


def say_stretch(predictor: Predictor, spec: Spec, split: str, sizes: Set[tuple[int, int]], console: Console) -> None:
    """A note on the image size whose shape a resize to the network's own changes most, if by more than 5 %, or that takes most tiles.

    SpecError where tiles are too narrow for an image.
    """
    from trials.evaluate import fitted_spec, stretch
    from trials.tiles import TiledPredictor, tiled, tiles_of

    predictor, spec = tiled(predictor, spec, split)
    if isinstance(predictor, TiledPredictor):
        count, size = max((tiles_of(size, predictor.size, lead=predictor.lead), size) for size in sizes)
        told = f"images of {size[1]}x{size[0]} are taken as {count_text(count, 'tile')} of {predictor.size[1]}x{predictor.size[0]}"
        told += f" (the most of {len(sizes)} sizes)" if len(sizes) > 1 else ""
        tell(console, f"note  {told}, at their own scale: disparities up to {predictor.lead} px")
        return
    augmentation = getattr(fitted_spec(spec, split, predictor.fixed_size).dataset, f"{split}_dataset").augmentation
    if augmentation.evaluation != "resize":
        return
    height, width = augmentation.crop_size
    bent = {size: share for size in sizes if abs(share := stretch(size, (height, width))) > LARGEST_STRETCH}
    if bent:
        size = max(sorted(bent), key=lambda one: abs(bent[one]))
        told = f"images of {size[1]}x{size[0]} are resized to {width}x{height}, which makes things {100 * abs(bent[size]):.0f} %"
        told += " wider" if bent[size] > 0 else " higher"
        told += f" (the most of {len(bent)} such sizes)" if len(bent) > 1 else ""
        tell(console, f"note  {told}: expect worse results than at their own shape")


def need_lists(spec: Spec, split: str, action: str) -> None:
    """SpecError when the split that an action reads is empty."""
    if split == "infer" and spec.inference.input_dir:
        return
    if not getattr(spec.dataset, f"{split}_dataset").data_sources:
        key = f"dataset.{split}_dataset.data_sources"
        example = {"stereo": "GenericDataset", "mono": "RelativeMonoDataset" if spec.is_relative else "MetricMonoDataset"}[spec.family]
        folder = ", or a folder of images: inference.input_dir=..." if split == "infer" else ""
        value = shell_word(f"{key}=[{{data_file:{split}.txt,dataset_name:{example}}}]")  # a shell would take the braces apart
        raise SpecError(f"depth_net {action} needs {key}", hint=f"add {value}{folder}")


def preflight(spec: Spec, splits: Sequence[str], console: Console) -> list[SourceReport]:
    """Checks the images and lists of the splits that are named in the spec and says what was found."""
    from trials.data.preflight import preflight as check

    filled = {split: bool(getattr(spec.dataset, f"{split}_dataset").data_sources) for split in splits}
    reports = check(spec, [split for split in splits if filled[split] or (split == "infer" and spec.inference.input_dir)])
    for report in reports:
        tell(console, f"data  {report.describe()}")
        for warning in report.warnings:
            tell(console, f"      warning: {warning}")
    return reports


def begin(status: StatusWriter, folder: Path, spec: Spec, action: str, console: Console) -> None:
    """From here on the action leaves records in its folder: experiment.yaml and the first line of status.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_spec(spec, folder / "experiment.yaml")
    name = "DepthNet" if action == "export" else "depth_net" if "trt_" in action else "Depth Net"
    status.write("STARTED", f"Starting {name} {action}.")
    tell(console, f"{action.capitalize()} results will be saved at: {place_text(folder)}")
