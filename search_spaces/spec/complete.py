"""Keys that follow others when nobody set them.  Each rule leaves a line saying what was assumed."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from typing import Any

from search_spaces.spec.devices import pair_gpus
from search_spaces.spec.model import MODEL_TYPES, WIDEST
from search_spaces.spec.tree import family_of

METRIC_KEYS = {"dataset.min_depth": "min_depth", "dataset.max_depth": "max_depth"}
METRIC_RANGE_M = (0.001, 10.0)  # what TAO's metric datasets assume when both are null
STEREO_CROP = (320, 736)  # the crop TAO recommends for FoundationStereo; its generic 518 is no multiple of 32
# TAO's words for do_flip: the family that can flip that way, and why the other cannot
MIRRORED = ("mono", "a mirrored pair needs the right view's disparity, which annotation lists do not carry")
FLIP_WORDS = {"h": MIRRORED, "hf": MIRRORED, "v": ("stereo", "depth from one image leans on which way is up")}
SPLITS = ("train_dataset", "val_dataset", "test_dataset", "infer_dataset")

Tree = MutableMapping[str, Any]


def complete(tree: Tree, given: Collection[str]) -> list[str]:
    """Fill in, in place, what follows from the rest of the complete plain spec `tree`; `given` are the keys set by someone.

    Gives back one line for each value that was assumed and that a user would want to know.
    """
    model_type = next((name for name in MODEL_TYPES if name.lower() == str(tree["model"]["model_type"]).lower()), None)
    if model_type is None:
        return []  # the check of the options reports it
    stereo = family_of(model_type) == "stereo"
    dataset = tree["dataset"]
    if "dataset.dataset_name" not in given or dataset["dataset_name"] is None:
        dataset["dataset_name"] = "StereoDataset" if stereo else "MonoDataset"
    lines = [*pair_gpus(tree["train"], given), *_flips(dataset, "stereo" if stereo else "mono"), *_normalisation(dataset, given)]
    if stereo:
        return [*lines, *_stereo_crops(dataset, given), *_disparities(tree, given)]
    return [*lines, *_metric_range(dataset, given)] if model_type == "MetricDepthAnything" else lines


def _stereo_crops(dataset: Tree, given: Collection[str]) -> list[str]:
    absent = [split for split in SPLITS if f"dataset.{split}.augmentation.crop_size" not in given]
    for split in absent:
        dataset[split]["augmentation"]["crop_size"] = list(STEREO_CROP)
    if "train_dataset" not in absent:
        return []
    return [f"dataset.train_dataset.augmentation.crop_size is not set; {list(STEREO_CROP)} is assumed"]


def _flips(dataset: Tree, family: str) -> list[str]:
    """A word of TAO's becomes true or false; the line is about training, the one split that flips."""
    lines = []
    for split in SPLITS:
        augmentation = dataset[split]["augmentation"]
        word = augmentation["do_flip"]
        able, why = FLIP_WORDS.get(word.lower(), ("", "")) if isinstance(word, str) else ("", "")
        if not able:
            continue
        augmentation["do_flip"] = able == family
        probability = {"mono": "h_flip_prob", "stereo": "v_flip_prob"}[able]
        meaning = f"true: {probability} decides how often" if able == family else f"false: {why}"
        if split == "train_dataset":
            lines.append(f"dataset.{split}.augmentation.do_flip {word} is read as {meaning}")
    return lines


def _normalisation(dataset: Tree, given: Collection[str]) -> list[str]:
    """The other splits prepare images as training does: a network that sees other ones gives maps that look right and drift."""
    lines = []
    for name in ("input_mean", "input_std"):
        value = dataset["train_dataset"]["augmentation"][name]
        absent = [split for split in SPLITS[1:] if f"dataset.{split}.augmentation.{name}" not in given]
        if f"dataset.train_dataset.augmentation.{name}" not in given or not absent:
            continue
        if dataset[absent[0]]["augmentation"][name] != value:
            lines.append(f"{name} of {', '.join(absent)} follows train_dataset: {value}")
        for split in absent:
            dataset[split]["augmentation"][name] = value
    return lines


def _disparities(tree: Tree, given: Collection[str]) -> list[str]:
    dataset, model = tree["dataset"], tree["model"]
    set_data, set_model = "dataset.max_disparity" in given, "model.max_disparity" in given
    if set_model and not set_data and isinstance(model["max_disparity"], int) and 1 <= model["max_disparity"] <= WIDEST:
        dataset["max_disparity"] = model["max_disparity"]
        return [f"dataset.max_disparity follows model.max_disparity: {model['max_disparity']}"]
    if set_data and not set_model and isinstance(dataset["max_disparity"], int) and 1 <= dataset["max_disparity"] <= WIDEST:
        model["max_disparity"] = max(32, -(-dataset["max_disparity"] // 32) * 32)
        return [f"model.max_disparity follows dataset.max_disparity: {model['max_disparity']}"]
    return []


def _metric_range(dataset: Tree, given: Collection[str]) -> list[str]:
    """Fills in the depths that nobody spoke of; a null that someone wrote down (`given`) stays for the rules to refuse."""
    lines = []
    for (key, name), value in zip(METRIC_KEYS.items(), METRIC_RANGE_M, strict=True):
        if dataset[name] in (None, "", "???") and not (dataset[name] is None and key in given):
            dataset[name] = value
            lines.append(f"{key} is not set; {value:g} m is assumed for a metric model")
    return lines
