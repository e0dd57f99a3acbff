"""Search spaces of the synthetic tasks: keys, ranges and defaults of the real specs, small and large, with and without no-ops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from search_spaces.space import Condition, Parameter, SearchSpace
from search_spaces.spec import Spec, get_value, spec_from_dict

Kind = Literal["curated", "wide", "mono"]
KINDS: tuple[Kind, ...] = ("curated", "wide", "mono")

LR, DECAY, FALL = "train.optim.lr", "train.optim.weight_decay", "train.optim.lr_decay"
WARMUP, CLIP = "train.optim.warmup_steps", "train.clip_grad_norm"
OPTIMIZER, MOMENTUM = "train.optim.optimizer", "train.optim.momentum"
BATCH, ENCODER, ITERATIONS = "dataset.train_dataset.batch_size", "model.encoder", "model.train_iters"
_AUGMENTATION = "dataset.{}_dataset.augmentation.{}"
_PROBABILITIES = (
    "color_aug_prob",
    "crop_min_valid_disp_ratio",
    "eraser_aug_prob",
    "h_flip_prob",
    "hshift_prob",
    "spatial_aug_prob",
    "stretch_prob",
    "v_flip_prob",
    "yjitter_prob",
)
_ACTING = ("color_aug_prob", "eraser_aug_prob", "spatial_aug_prob", "stretch_prob", "yjitter_prob")
AUGMENTATIONS = tuple(_AUGMENTATION.format("train", name) for name in _ACTING)

# of the 45 parameters that TAO searches by default: those of other splits, and those that this training does not read
NOOPS = (
    *(_AUGMENTATION.format(split, name) for split in ("val", "test", "infer") for name in _PROBABILITIES),
    *(_AUGMENTATION.format("train", name) for name in _PROBABILITIES if name not in _ACTING),
    *("train.optim.min_lr", "train.optim.lr_step_size", "model.cv_group", "model.volume_dim"),
)

_UNIT: dict[str, Any] = {"kind": "float", "low": 0.0, "high": 1.0}
_DOMAINS: dict[str, dict[str, Any]] = {
    LR: {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True},
    DECAY: {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True},
    FALL: {"kind": "float", "low": 0.05, "high": 1.0},
    WARMUP: {"kind": "int", "low": 0, "high": 200},
    CLIP: {"kind": "float", "low": 0.01, "high": 10.0, "log": True},
    BATCH: {"kind": "int", "low": 1, "high": 8},
    ENCODER: {"kind": "categorical", "choices": ("vits", "vitb", "vitl")},
    ITERATIONS: {"kind": "int", "low": 4, "high": 32},
    OPTIMIZER: {"kind": "categorical", "choices": ("AdamW", "SGD")},
    MOMENTUM: {"kind": "float", "low": 0.8, "high": 0.99, "condition": Condition(key=OPTIMIZER, values=("SGD",))},
    "train.optim.min_lr": {"kind": "float", "low": 1e-8, "high": 1e-3, "log": True},
    "train.optim.lr_step_size": {"kind": "int", "low": 1, "high": 10000},
    "model.cv_group": {"kind": "int", "low": 4, "high": 16},
    "model.volume_dim": {"kind": "int", "low": 16, "high": 64},
}
_KEYS: dict[Kind, tuple[str, ...]] = {
    "curated": (LR, DECAY, FALL, *AUGMENTATIONS),
    "mono": (LR, DECAY, FALL, WARMUP, CLIP, BATCH),
    "wide": (LR, DECAY, FALL, WARMUP, CLIP, BATCH, *AUGMENTATIONS, ENCODER, ITERATIONS, OPTIMIZER, MOMENTUM),
}


def base_spec() -> Spec:
    """The spec of every synthetic task: the stereo network with its small encoder, two pairs a step."""
    return spec_from_dict({"model": {"model_type": "FoundationStereo", "encoder": "vits"}, "dataset": {"train_dataset": {"batch_size": 2}}})


def space_of(kind: Kind, *, noops: int = 0) -> SearchSpace:
    """The space of `kind` with the first `noops` parameters (at most 35) that change nothing; defaults are those of `base_spec`."""
    if not 0 <= noops <= len(NOOPS):
        raise ValueError(f"0 <= noops <= {len(NOOPS)} must hold, but noops={noops}")
    spec = base_spec()
    parameters = [Parameter(key=key, **_DOMAINS.get(key, _UNIT)) for key in (*_KEYS[kind], *NOOPS[:noops])]
    return SearchSpace(skill="depth_net_stereo", parameters=tuple(replace(item, default=get_value(spec, item.key)) for item in parameters))
