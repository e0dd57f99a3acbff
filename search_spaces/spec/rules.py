"""Rules between keys: what must hold for a network to run, and what is legal but does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from search_spaces.errors import SpecError
from search_spaces.spec.complete import SPLITS
from search_spaces.spec.keys import Acts
from search_spaces.spec.tree import Spec, all_fields, get_value
from search_spaces.spec.values import Places, place_of

STRIDES = {"stereo": 32, "mono": 14}


def check_rules(spec: Spec, places: Places) -> None:
    """Raise SpecError for the first rule between keys that `spec` breaks."""
    for rule in (_pairing, _crops, _stereo_network, _mono_depths, _precision, _optimizer, _intervals, _ranges, _batch_profile):
        rule(spec, _Fail(places))


def spec_warnings(spec: Spec) -> list[str]:
    """One line for each key that is set to something but does nothing, and for each doubtful combination."""
    lines = [f"{key} has no effect: {why}" for key, why in idle_keys(spec)]
    dataset, model = spec.dataset, spec.model
    if spec.family == "stereo":
        if not model.max_disparity - 32 < dataset.max_disparity <= model.max_disparity:
            lines.append(
                f"dataset.max_disparity ({dataset.max_disparity}) and model.max_disparity ({model.max_disparity}) differ: "
                "ground truth is cut at the first, the network starts from at most the second"
            )
    if spec.gen_trt_engine.tensorrt.workspace_size >= 128:
        lines.append(f"gen_trt_engine.tensorrt.workspace_size is in GiB: {spec.gen_trt_engine.tensorrt.workspace_size} GiB is asked for")
    return lines


def idle_keys(spec: Spec) -> Iterator[tuple[str, str]]:
    """Keys whose value differs from the default although nothing reads them in a run of `spec`, each with the reason."""
    for info in all_fields().values():
        if info.read_by(spec.family) or get_value(spec, info.key) == info.default:
            continue
        if info.acts is not Acts.INERT:
            yield info.key, info.rule.why or f"{spec.model.model_type} does not read it"
        else:
            outside = info.rule.acts is not Acts.INERT
            yield info.key, "val, test and infer images are never augmented" if outside else info.rule.why


class _Fail:
    """Raises SpecError with the place where a key was written."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def __call__(self, key: str, message: str, hint: str) -> None:
        place = place_of(key, self._places)
        raise SpecError(f"{message} ({place})" if place else message, hint=hint)


Fail = Callable[[str, str, str], None]


def _nearest_multiples(value: int, of: int) -> str:
    below, above = value // of * of, -(-value // of) * of
    return f"{below} or {above}" if below >= of else f"{above}"


def _pairing(spec: Spec, fail: Fail) -> None:
    wanted = "StereoDataset" if spec.family == "stereo" else "MonoDataset"
    if spec.dataset.dataset_name != wanted:
        fail(
            "dataset.dataset_name",
            f"{spec.model.model_type} needs dataset.dataset_name {wanted}, but it is {spec.dataset.dataset_name}",
            f"leave dataset.dataset_name out, or change model.model_type (now {spec.model.model_type})",
        )
    if spec.family == "stereo" and spec.model.encoder == "vitg":
        fail(
            "model.encoder",
            "model.encoder vitg is for mono models, but model.model_type is FoundationStereo",
            "set model.encoder to vits, vitb or vitl (vitt for a smoke run)",
        )


def _crops(spec: Spec, fail: Fail) -> None:
    stride = STRIDES[spec.family]
    for split in SPLITS:
        augmentation = getattr(spec.dataset, split).augmentation
        if spec.family == "stereo" and split != "train_dataset" and augmentation.evaluation == "native":
            continue  # the whole image is used
        key = f"dataset.{split}.augmentation.crop_size"
        for side, value in zip(("height", "width"), augmentation.crop_size, strict=True):
            if value % stride:
                near = _nearest_multiples(value, stride)
                fail(
                    key,
                    f"{key} must be multiples of {stride} for {spec.model.model_type}, but the {side} is {value}",
                    f"the nearest {side} is {near}",
                )


def _stereo_network(spec: Spec, fail: Fail) -> None:
    if spec.family != "stereo":
        return
    model = spec.model
    if model.max_disparity % 32:
        near = _nearest_multiples(model.max_disparity, 32)
        fail(
            "model.max_disparity",
            f"model.max_disparity must be a multiple of 32, but is {model.max_disparity}",
            f"the nearest values are {near}" if "or" in near else f"the nearest value is {near}",
        )
    if len(set(model.hidden_dims)) != 1 or model.hidden_dims[0] % 16:
        width = max(16, round(model.hidden_dims[0] / 16) * 16)
        fail(
            "model.hidden_dims",
            f"model.hidden_dims must be three equal multiples of 16, but is {list(model.hidden_dims)}",
            f"for example {[width] * 3}; published weights need [128, 128, 128]",
        )
    if model.n_downsample != 2:
        fail("model.n_downsample", f"model.n_downsample must be 2, but is {model.n_downsample}", "leave it out: the network works at 1/4")


def _mono_depths(spec: Spec, fail: Fail) -> None:
    dataset = spec.dataset
    low, high = dataset.min_depth, dataset.max_depth
    if spec.is_relative:
        for name, value in (("min_depth", low), ("max_depth", high)):
            if value is not None:
                fail(
                    f"dataset.{name}",
                    f"dataset.{name} is for metric models, but is {value:g} with RelativeDepthAnything",
                    f"set dataset.{name} to null, or model.model_type to MetricDepthAnything",
                )
    elif low is not None and high is not None and low >= high:
        fail("dataset.min_depth", f"dataset.min_depth < dataset.max_depth must hold, but {low:g} >= {high:g}", "both are in metres")


def _precision(spec: Spec, fail: Fail) -> None:
    wrong, way_out = {
        "stereo": ("bf16", "use fp32 (with model.mixed_precision=true the network inside computes in bfloat16), or fp16 on a GPU"),
        "mono": ("fp16", "use bf16, which takes as little memory and does not overflow, or fp32"),
    }[spec.family]
    if spec.train.precision == wrong:
        fail("train.precision", f"train.precision {wrong} is not supported for {spec.model.model_type}", way_out)


def _optimizer(spec: Spec, fail: Fail) -> None:
    if spec.family == "mono" and spec.train.optim.optimizer == "SGD":
        fail(
            "train.optim.optimizer",
            f"train.optim.optimizer SGD is for FoundationStereo, but model.model_type is {spec.model.model_type}",
            "use train.optim.optimizer=AdamW: transformers do not fine-tune with SGD",
        )


def _batch_profile(spec: Spec, fail: Fail) -> None:
    profile = spec.gen_trt_engine.tensorrt
    sizes = (profile.min_batch_size, profile.opt_batch_size, profile.max_batch_size)
    if list(sizes) != sorted(sizes):
        fail(
            "gen_trt_engine.tensorrt",
            f"min_batch_size <= opt_batch_size <= max_batch_size must hold in gen_trt_engine.tensorrt, but they are {sizes}",
            "for example 1, 1, 4",
        )


def _intervals(spec: Spec, fail: Fail) -> None:
    train = spec.train
    names = ["validation_interval", *(["checkpoint_interval"] if train.checkpoint_interval_unit == "epoch" else [])]
    for name in names:
        value = getattr(train, name)
        if value > train.num_epochs:
            fail(
                f"train.{name}",
                f"train.{name} <= train.num_epochs must hold, but {value} > {train.num_epochs}",
                f"set train.{name} to at most {train.num_epochs}",
            )
    steps = train.optim.lr_steps
    if list(steps) != sorted(set(steps)):
        fail("train.optim.lr_steps", f"train.optim.lr_steps must rise, but is {list(steps)}", f"write {sorted(set(steps))}")


def _ranges(spec: Spec, fail: Fail) -> None:
    for split in SPLITS:
        augmentation = getattr(spec.dataset, split).augmentation
        prefix = f"dataset.{split}.augmentation"
        if augmentation.min_scale > augmentation.max_scale:
            fail(
                f"{prefix}.min_scale",
                f"min_scale <= max_scale must hold in {prefix}, but {augmentation.min_scale:g} > {augmentation.max_scale:g}",
                "both are log2 of a scale",
            )
        for name in ("color_aug_saturation", "color_aug_hue_range"):
            low, high = getattr(augmentation, name)
            if low > high:
                fail(f"{prefix}.{name}", f"{prefix}.{name} must be [low, high], but is [{low:g}, {high:g}]", "swap the two values")
        if min(augmentation.input_std) <= 0:
            fail(
                f"{prefix}.input_std",
                f"{prefix}.input_std must be above 0, but is {list(augmentation.input_std)}",
                "images are divided by it",
            )
