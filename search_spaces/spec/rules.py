"""Rules between keys: what must hold for a network to run, and what is legal but does nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from search_spaces.errors import SpecError, nearest
from search_spaces.spec.complete import SPLITS
from search_spaces.spec.keys import Acts, FieldInfo
from search_spaces.spec.tree import BLOCKS, Spec, all_fields, get_value
from search_spaces.spec.values import Places, place_of

STRIDES = {"stereo": 32, "mono": 14}
# one entry of quantize.layers, and what it says of weights or activations
LAYER = ("module_name", "weights", "activations")
QUANTIZER = ("dtype", "observer_or_fake_quant", "quant_axis", "observer_or_fake_quant_kwargs")
DTYPES = ("int8", "fp8_e4m3fn", "fp8_e5m2", "native")
DEVICE = re.compile(r"cuda(:\d+)?|cpu|trt")


def check_rules(spec: Spec, places: Places) -> None:
    """Raise SpecError for the first rule between keys that `spec` breaks."""
    for rule in RULES:
        rule(spec, _Fail(places))


def spec_warnings(spec: Spec, *, typed: Collection[str] = (), action: str | None = None) -> list[str]:
    """One line for each key that is set to something but does nothing, and for each doubtful combination.

    `typed` keys are told even where they repeat the default.  `action` leaves out the blocks of other actions.
    """
    others = tuple(f"{block}." for block in BLOCKS if action not in (None, block))
    lines = [f"{key} has no effect: {why}" for key, why in idle_keys(spec, typed) if not key.startswith(others)]
    if spec.family == "stereo":
        lines += _disparity_lines(spec.dataset.max_disparity, spec.model.max_disparity)
    if spec.train.distributed_strategy == "fsdp" and action in (None, "train"):
        lines += _sharing_lines(spec)
    workspace = spec.gen_trt_engine.tensorrt.workspace_size
    if workspace >= 128 and action in (None, "gen_trt_engine"):
        lines.append(
            f"gen_trt_engine.tensorrt.workspace_size is in GiB, so that {workspace} asks for {workspace} GiB; for as many MiB write "
            f"{max(1, round(workspace / 1024))}"
        )
    return lines


def shared_precision(spec: Spec) -> str:
    """What `train.precision` becomes on GPUs that share the weights (fsdp): 16 bit whatever the spec says, as in TAO."""
    if spec.train.precision != "fp32" or (spec.model.mixed_precision and spec.family == "stereo"):
        return spec.train.precision
    return {"stereo": "fp16", "mono": "bf16"}[spec.family]


def _sharing_lines(spec: Spec) -> Iterator[str]:
    key, precision = "train.distributed_strategy", shared_precision(spec)
    if spec.train.num_gpus * spec.train.num_nodes == 1:
        yield f"{key} fsdp has no effect: one device has nobody to share the weights with"
    elif precision != spec.train.precision:
        yield f"{key} fsdp computes in 16 bit: on GPUs train.precision {spec.train.precision} becomes {precision}"


def idle_keys(spec: Spec, typed: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Keys that are `typed` or differ from their default although nothing reads them in a run of `spec`, each with the reason."""
    for info in all_fields().values():
        if get_value(spec, info.key) == info.default and info.key not in typed:
            continue
        if info.acts is Acts.INERT:
            outside = info.rule.acts is not Acts.INERT
            yield info.key, "val, test and infer images are never augmented" if outside else info.rule.why
        elif not info.read_by(spec.family):
            yield info.key, info.rule.why or f"{spec.model.model_type} does not read it"
        elif (unread := condition_against(spec, info)) is not None:
            yield info.key, unread


def condition_against(spec: Spec, info: FieldInfo) -> str | None:
    """Why the spec's other keys keep `info` from being read (`read only with lr_scheduler StepLR; ...`), or None."""
    when = info.rule.when
    if when is None or get_value(spec, when[0]) in when[1]:
        return None
    parent = when[0].rsplit(".", 1)[-1]
    return f"read only with {parent} {' or '.join(map(_word, when[1]))}; the spec has {_word(get_value(spec, when[0]))}"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _disparity_lines(counted: int, covered: int) -> list[str]:
    """What follows where `dataset.max_disparity` (counted) is not the one that `model.max_disparity` (covered) is made for."""
    if counted > covered:
        what = "ground truth between the two counts in loss and metrics, but the cost volume does not reach it"
    elif counted <= covered - 32:
        what = f"ground truth from {counted} px on is left out; the cost volume beyond costs memory and time for nothing"
    else:
        return []
    return [f"dataset.max_disparity ({counted}) and model.max_disparity ({covered}) differ: {what}"]


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
        if spec.family == "stereo" and set(augmentation.crop_size) == {stride}:
            fail(key, f"{key} must be larger than {stride}x{stride}: the network works down to 1/{stride} of it", "the next is [32, 64]")


def _tiles(spec: Spec, fail: Fail) -> None:
    for split in SPLITS:
        if getattr(spec.dataset, split).augmentation.evaluation != "tile":
            continue
        key = f"dataset.{split}.augmentation.evaluation"
        if spec.family != "stereo":
            fail(key, f"{key}=tile is for stereo: what a network sees in a part of one image has a scale of its own", f"{key}=resize")
        if split not in {"test_dataset", "infer_dataset"}:
            fail(key, f"{key}=tile is for evaluate and inference: training looks at whole images or crops", f"{key}=native")


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
        return
    for name, value, example in (("min_depth", low, "0.001"), ("max_depth", high, "10")):
        if value is None and spec.family == "mono":
            fail(
                f"dataset.{name}",
                f"dataset.{name} must be set for {spec.model.model_type}, but is null: the network's answer is scaled by the range",
                f"give it in metres, for example dataset.{name}={example}",
            )
    if low is not None and high is not None and low >= high:
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


def _gpus(spec: Spec, fail: Fail) -> None:
    ids = spec.train.gpu_ids
    if len(set(ids)) != len(ids):
        fail("train.gpu_ids", f"train.gpu_ids must name each GPU once, but is {list(ids)}", f"write {sorted(set(ids))}")


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


def _quantize(spec: Spec, fail: Fail) -> None:
    section = spec.quantize
    if not DEVICE.fullmatch(section.device):
        fail("quantize.device", f"quantize.device must be cuda, cuda:N, cpu or trt, but is {section.device!r}", "for example cuda:0")
    for i, layer in enumerate(section.layers):
        key = f"quantize.layers[{i}]"
        _known_names(key, layer, LAYER, fail)
        if not isinstance(layer.get("module_name"), str):
            fail(key, f"{key} needs a module_name, a pattern of module names", "for example {module_name: Linear, weights: {dtype: int8}}")
        for part in ("weights", "activations"):
            rule = layer.get(part)
            if rule is None:
                continue
            if not isinstance(rule, Mapping):
                fail(key, f"{key}.{part} must be a group of keys, but is {rule!r}", "for example {dtype: int8}")
                continue
            _known_names(f"{key}.{part}", rule, QUANTIZER, fail)
            if rule.get("dtype", "native") not in DTYPES:
                fail(key, f"{key}.{part}.dtype must be one of {', '.join(DTYPES)}, but is {rule['dtype']!r}", "native leaves it as it is")


def _known_names(key: str, group: Mapping[str, object], known: Collection[str], fail: Fail) -> None:
    for name in group:
        if name not in known:
            guess = nearest(str(name), known)
            fail(key, f"unknown key {key}.{name}", f"did you mean {guess}?" if guess else f"there are {', '.join(known)}")


def _layer_precisions(spec: Spec, fail: Fail) -> None:
    key = "gen_trt_engine.tensorrt.layers_precision"
    for i, text in enumerate(spec.gen_trt_engine.tensorrt.layers_precision):
        layer, _, precision = text.rpartition(":")
        if not layer or not precision:
            fail(key, f"{key}[{i}] must be layer:precision, but is {text!r}", "for example /head/Conv:fp32; the last colon divides")


RULES = (
    _pairing,
    _crops,
    _tiles,
    _stereo_network,
    _mono_depths,
    _precision,
    _optimizer,
    _gpus,
    _intervals,
    _ranges,
    _batch_profile,
    _quantize,
    _layer_precisions,
)
