"""Every key of TAO's depth_net spec (tao-core 6.25, Apache-2.0) as facts: type, default, range, options; and where ours differs, with why.

UNSET stands for TAO's null, empty text and ??? alike: all three mean that nobody has said anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

UNSET = None


@dataclass(frozen=True)
class Fact:
    """One key: TAO's word for its type, its default, and what TAO declares as legal."""

    key: str
    type: str
    default: Any = UNSET
    low: float | None = None
    high: float | None = None
    options: tuple[str | int, ...] = ()


def words(prefix: str, names: str) -> list[Fact]:
    return [Fact(f"{prefix}{name}", "string") for name in names.split()]


def switches(prefix: str, names: str, default: bool = False) -> list[Fact]:
    return [Fact(f"{prefix}{name}", "bool", default) for name in names.split()]


def whole(key: str, default: int | None, low: float | None = None, high: float | None = None) -> Fact:
    return Fact(key, "int", default, low, high)


def number(key: str, default: float | None, low: float | None = None, high: float | None = None) -> Fact:
    return Fact(key, "float", default, low, high)


def choice(key: str, default: str, options: str) -> Fact:
    return Fact(key, "categorical", default, options=tuple(options.split()))


def listed(key: str, default: list[Any] | None = None) -> Fact:
    return Fact(key, "list", default or [])


def root() -> list[Fact]:
    return [
        *words("", "model_name encryption_key results_dir"),
        *switches("wandb.", "enable", True),
        *switches("wandb.", "reinit sync_tensorboard save_code"),
        *words("wandb.", "entity group run_id"),
        Fact("wandb.project", "string", "TAO Toolkit"),
        Fact("wandb.name", "string", "TAO Toolkit Training"),
        listed("wandb.tags", ["tao-toolkit"]),
    ]


def dataset() -> list[Fact]:
    return [
        choice("dataset.dataset_name", "StereoDataset", "MonoDataset StereoDataset"),
        *switches("dataset.", "normalize_depth"),
        number("dataset.max_depth", UNSET, 1.0),
        number("dataset.min_depth", UNSET, 0.0),
        whole("dataset.max_disparity", 416, 1, 416),
        number("dataset.baseline", 0.193001, 0),
        number("dataset.focal_x", 1998.842, 0),
        *words("dataset.quant_calibration_dataset.", "images_dir"),
        *(fact for split in ("train", "val", "test", "infer") for fact in one_split(f"dataset.{split}_dataset.")),
    ]


def one_split(split: str) -> list[Fact]:
    aug = f"{split}augmentation."
    shares = {"yjitter": 1.0, "color_aug": 0.2, "eraser_aug": 0.5, "spatial_aug": 1.0, "stretch": 0.8}
    shares |= {"h_flip": 0.5, "v_flip": 0.5, "hshift": 0.5}
    return [
        listed(f"{split}data_sources"),
        whole(f"{split}batch_size", 1, 1),
        whole(f"{split}workers", 8, 1),
        *switches(split, "pin_memory", True),
        listed(f"{aug}input_mean", [0.485, 0.456, 0.406]),
        listed(f"{aug}input_std", [0.229, 0.224, 0.225]),
        listed(f"{aug}crop_size", [518, 518]),
        number(f"{aug}min_scale", -0.2, 0.2, 1),
        number(f"{aug}max_scale", 0.4, -0.2, 1),
        *switches(aug, "do_flip"),
        listed(f"{aug}gamma", [1, 1, 1, 1]),
        *(number(f"{aug}{name}_prob", default, 0, 1) for name, default in shares.items()),
        number(f"{aug}color_aug_brightness", 0.4, 0, 1),
        number(f"{aug}color_aug_contrast", 0.4, 0, 1),
        listed(f"{aug}color_aug_saturation", [0.0, 1.4]),
        listed(f"{aug}color_aug_hue_range", [-5 / 180, 5 / 180]),
        number(f"{aug}max_stretch", 0.2, 0, 1),
        number(f"{aug}crop_min_valid_disp_ratio", 0.0, 0, 1),
    ]


def model() -> list[Fact]:
    return [
        choice("model.model_type", "MetricDepthAnything", "FoundationStereo MetricDepthAnything RelativeDepthAnything"),
        choice("model.encoder", "vitl", "vits vitb vitl vitg"),
        *words("model.mono_backbone.", "pretrained_path"),
        *switches("model.mono_backbone.", "use_bn use_clstoken"),
        *words("model.stereo_backbone.", "depth_anything_v2_pretrained_path edgenext_pretrained_path"),
        *switches("model.stereo_backbone.", "use_bn use_clstoken"),
        listed("model.hidden_dims", [128, 128, 128]),
        whole("model.corr_radius", 4, 2, 8),
        whole("model.cv_group", 8, 4, 16),
        whole("model.train_iters", 22, 1),
        whole("model.valid_iters", 22, 1),
        whole("model.volume_dim", 32, 16, 64),
        whole("model.low_memory", 0, 0, 4),
        *switches("model.", "mixed_precision"),
        whole("model.n_gru_layers", 3, 1, 3),
        whole("model.corr_levels", 2, 1, 2),
        whole("model.n_downsample", 2, 1, 2),
        whole("model.max_disparity", 416),
    ]


def gpus(block: str) -> list[Fact]:
    return [whole(f"{block}.num_gpus", 1, 1), listed(f"{block}.gpu_ids", [0]), whole(f"{block}.num_nodes", 1, 1)]


def train() -> list[Fact]:
    return [
        *gpus("train"),
        whole("train.seed", 1234, -1),
        *switches("train.cudnn.", "benchmark"),
        *switches("train.cudnn.", "deterministic", True),
        whole("train.num_epochs", 10, 1),
        whole("train.checkpoint_interval", 1, 1),
        choice("train.checkpoint_interval_unit", "epoch", "epoch step"),
        whole("train.checkpoint_interval_steps", UNSET),
        whole("train.validation_interval", 1, 1),
        *words("train.", "resume_training_checkpoint_path pretrained_model_path results_dir"),
        number("train.clip_grad_norm", 0.1, 0.0),
        *switches("train.", "dataloader_visualize is_dry_run activation_checkpoint inference_tile"),
        whole("train.vis_step_interval", 10),
        choice("train.precision", "fp32", "bf16 fp32 fp16"),
        choice("train.distributed_strategy", "ddp", "ddp fsdp"),
        Fact("train.tile_wtype", "string", "gaussian"),
        listed("train.tile_min_overlap", [16, 16]),
        whole("train.log_every_n_steps", 500),
        *optim(),
    ]


def optim() -> list[Fact]:
    laws = "MultiStep StepLR CustomMultiStepLRScheduler LambdaLR PolynomialLR OneCycleLR CosineAnnealingLR"
    return [
        choice("train.optim.optimizer", "AdamW", "AdamW SGD"),
        choice("train.optim.monitor_name", "val_loss", "val_loss train_loss"),
        number("train.optim.lr", 1e-4, 1e-6, 1e-2),
        number("train.optim.momentum", 0.9, 0, 1),
        number("train.optim.weight_decay", 1e-4, 1e-6, 1e-2),
        choice("train.optim.lr_scheduler", "MultiStepLR", laws),
        listed("train.optim.lr_steps", [1000]),
        whole("train.optim.lr_step_size", 1000, 1, 10000),
        number("train.optim.lr_decay", 0.1, 0, 1),
        number("train.optim.min_lr", 1e-7, 1e-8, 1e-3),
        whole("train.optim.warmup_steps", 20, 0),
    ]


def looking(block: str) -> list[Fact]:
    """What evaluate and inference share."""
    return [
        *gpus(block),
        *words(f"{block}.", "checkpoint trt_engine results_dir"),
        whole(f"{block}.batch_size", -1, -1),
        whole(f"{block}.input_width", UNSET, 1),
        whole(f"{block}.input_height", UNSET, 1),
    ]


def shipping() -> list[Fact]:
    engine, profile = "gen_trt_engine.", "gen_trt_engine.tensorrt."
    return [
        *words("export.", "results_dir checkpoint onnx_file"),
        whole("export.gpu_id", 0),
        *switches("export.", "on_cpu verbose"),
        Fact("export.input_channel", "ordered_int", 3, options=(1, 3)),
        whole("export.input_width", 960, 32),
        whole("export.input_height", 544, 32),
        whole("export.opset_version", 17, 1),
        whole("export.batch_size", -1, -1),
        choice("export.format", "onnx", "onnx xdl"),
        whole("export.valid_iters", 22, 1),
        *words(engine, "results_dir timing_cache onnx_file trt_engine"),
        whole(f"{engine}gpu_id", 0, 0),
        *switches(engine, "verbose"),
        whole(f"{engine}batch_size", -1, -1),
        whole(f"{profile}workspace_size", 1024, 0),
        *(whole(f"{profile}{size}_batch_size", 1, 1) for size in ("min", "opt", "max")),
        listed(f"{profile}layers_precision"),
        choice(f"{profile}data_type", "FP32", "FP32 FP16"),
    ]


def quantize() -> list[Fact]:
    return [
        choice("quantize.backend", "torchao", "modelopt.pytorch torchao modelopt.onnx"),
        choice("quantize.mode", "weight_only_ptq", "static_ptq weight_only_ptq"),
        choice("quantize.algorithm", "minmax", "minmax max entropy awq_clip awq_lite awq_full rtn_dq"),
        listed("quantize.layers"),
        listed("quantize.skip_names"),
        *words("quantize.", "model_path results_dir"),
        Fact("quantize.backend_kwargs", "collection", {}),
        Fact("quantize.device", "string", "cuda"),
    ]


def all_facts() -> Iterator[Fact]:
    """Every key of TAO's spec once."""
    yield from [*root(), *dataset(), *model(), *train(), *looking("evaluate"), *looking("inference"), *shipping(), *quantize()]
    yield number("inference.conf_threshold", 0.5)
    yield Fact("inference.save_raw_pfm", "bool", False)


# (key, what differs, here, why); a key of a split stands for all four
DIFFERENT: tuple[tuple[str, str, Any, str], ...] = (
    ("wandb.enable", "default", False, "nothing logs to W&B: who asks for it is told so, who does not is not"),
    ("dataset.dataset_name", "default", None, "it follows model.model_type"),
    ("dataset.baseline", "default", None, "one camera's number must not silently become everybody's"),
    ("dataset.focal_x", "default", None, "one camera's number must not silently become everybody's"),
    ("workers", "low", 0, "0 loads in the training process"),
    ("augmentation.min_scale", "low", -1.0, "TAO's bound of 0.2 shuts out its own default"),
    ("model.encoder", "options", ("vitt", "vits", "vitb", "vitl", "vitg"), "vitt is ours, for smoke runs"),
    (
        "train.optim.lr_scheduler",
        "options",
        ("MultiStepLR", "StepLR", "LambdaLR", "PolynomialLR", "OneCycleLR", "CosineAnnealingLR"),
        "TAO's code takes MultiStepLR alone (MultiStep is understood) and has no CustomMultiStepLRScheduler",
    ),
    ("export.input_width", "low", 14, "mono networks work in steps of 14"),
    ("export.input_height", "low", 14, "mono networks work in steps of 14"),
    ("export.format", "options", ("onnx", "openvino", "xdl"), "OpenVINO files for CPUs"),
    ("export.opset_version", "low", 16, "older operator sets lack what the graphs need"),
    ("inference.conf_threshold", "low", 0.0, "a probability"),
    ("train.num_gpus", "high", 64, "no machine has more"),
    ("gen_trt_engine.tensorrt.workspace_size", "default", 4, "TAO's builder reads 1024 as GiB"),
    ("quantize.backend", "options", ("torchao", "onnxruntime", "modelopt.pytorch", "modelopt.onnx"), "static int8 runs in ONNX Runtime"),
    (
        "quantize.algorithm",
        "options",
        ("minmax", "max", "entropy", "percentile", "awq_clip", "awq_lite", "awq_full", "rtn_dq"),
        "a calibrator of ONNX Runtime's",
    ),
    ("gen_trt_engine.tensorrt.data_type", "options", ("FP32", "FP16", "BF16", "INT8"), "mono engines run in BF16"),
    ("gen_trt_engine.tensorrt.data_type", "default", None, "it follows the network, the graph and the GPU"),
)
# bounds of ours where TAO has none
MORE_BOUNDS = {
    "model.max_disparity": (32, 416),
    "train.checkpoint_interval_steps": (1, None),
    "train.vis_step_interval": (1, None),
    "train.log_every_n_steps": (1, None),
    "export.opset_version": (16, 23),
    "export.gpu_id": (0, None),
    "inference.conf_threshold": (0.0, 1.0),
}
# legal outside the range: it switches the thing off
OFF = {"train.optim.weight_decay": 0.0, "train.optim.min_lr": 0.0}
# TAO shuts the lower end of these: math_cond "> 0"
OPEN = ("train.optim.momentum", "train.optim.lr_decay")
