"""A TAO-like skill folder, made from facts about the published ones: what stands in them, oddities included."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

PROBABILITIES = {
    "color_aug_prob": 0.2,
    "crop_min_valid_disp_ratio": 0.0,
    "eraser_aug_prob": 0.5,
    "h_flip_prob": 0.5,
    "hshift_prob": 0.5,
    "spatial_aug_prob": 1.0,
    "stretch_prob": 0.8,
    "v_flip_prob": 0.5,
    "yjitter_prob": 1.0,
}
SPLITS = ("train", "val", "test", "infer")
SCHEDULERS = ["MultiStep", "StepLR", "CustomMultiStepLRScheduler", "LambdaLR", "PolynomialLR", "OneCycleLR", "CosineAnnealingLR"]


def number(kind: str, default: float, low: float, high: float, math_cond: str | None = None, **more: Any) -> dict[str, Any]:
    """A leaf that joins TAO's default search."""
    leaf: dict[str, Any] = {"type": kind, "default": default, "minimum": low, "maximum": high, "automl_enabled": True, **more}
    return leaf if math_cond is None else {**leaf, "math_cond": math_cond}


def group(**properties: Any) -> dict[str, Any]:
    return {"type": "collection", "automl_enabled": False, "properties": properties}


def augmentation() -> dict[str, Any]:
    return group(
        **{name: number("float", default, 0, 1) for name, default in PROBABILITIES.items()},
        min_scale={"type": "float", "default": -0.2, "minimum": 0.2, "maximum": 1.0},
        max_scale={
            "type": "float",
            "default": 0.4,
            "minimum": -0.2,
            "maximum": 1.0,
            "math_cond": "> depends_on",
            "depends_on": "min_scale",
        },
        crop_size={"type": "list", "default": [518, 518], "automl_enabled": False},
    )


def train_schema() -> dict[str, Any]:
    """45 parameters by default, and the leaves that the published schema gets wrong."""
    optim = group(
        lr=number("float", 1e-4, 1e-6, 1e-2, "> 0.0"),
        lr_decay=number("float", 0.1, 0, 1, "> 0.0"),
        lr_step_size=number("int", 1000, 1, 10000, "> 0"),
        min_lr=number("float", 1e-7, 1e-8, 1e-3, ">0"),
        momentum=number("float", 0.9, 0, 1, "> 0.0 <= 1.0"),
        weight_decay=number("float", 1e-4, 1e-6, 1e-2, "> 0.0"),
        optimizer={"type": "categorical", "default": "AdamW", "enum": ["AdamW", "SGD"], "option_weights": [3, 1], "parent_param": "TRUE"},
        lr_scheduler={"type": "categorical", "default": "MultiStepLR", "enum": SCHEDULERS},
        lr_steps={"type": "list", "default": [1000], "automl_enabled": False},
    )
    model = group(
        corr_radius=number("int", 4, 2, 8),
        cv_group=number("int", 8, 4, 16),
        volume_dim=number("int", 32, 16, 64),
        encoder={"type": "categorical", "default": "vitl", "enum": ["vits", "vitb", "vitl", "vitg"]},
        hidden_dims={"type": "list", "default": [128, 128, 128], "automl_enabled": False},
        max_disparity={"type": "int", "default": 416, "math_cond": "/ 32"},
        train_iters={"type": "int", "default": 22, "minimum": 1, "maximum": math.inf},
    )
    train = group(
        num_epochs={"type": "int", "default": 10, "minimum": 1, "maximum": math.inf, "popular": "yes"},
        clip_grad_norm={"type": "float", "default": 0.1, "math_cond": "> 0.0"},
        precision={"type": "categorical", "default": "fp32", "enum": ["bf16", "fp32", "fp16"]},
        optim=optim,
    )
    splits = {f"{split}_dataset": group(augmentation=augmentation()) for split in SPLITS}
    splits["train_dataset"]["properties"]["batch_size"] = {"type": "int", "default": 1, "minimum": 1, "maximum": math.inf}
    dataset = group(**splits, max_disparity={"type": "int", "default": 416, "minimum": 1, "maximum": 416})
    properties = {"train": train, "model": model, "dataset": dataset, "automl_disabled_parameters": ["train", "model"]}
    return {
        "type": "object",
        "required": ["quantize"],
        "properties": properties,
        "default": {},
        "popular": {"train": {"num_epochs": "yes"}},
    }


def train_template() -> dict[str, Any]:
    """The template as TAO ships it: one entry without a file, small crops; and one key that this trainer does not have."""
    crop = {"augmentation": {"crop_size": [128, 128]}}
    source = {"data_sources": [{"dataset_name": "Middlebury", "data_file": ""}]}
    return {
        "encryption_key": "???",
        "model": {"model_type": "FoundationStereo", "encoder": "vits", "max_disparity": 128},
        "dataset": {"max_disparity": 128, "train_dataset": {**source, **crop}, "val_dataset": {**source, **crop}},
        "train": {"num_epochs": 10, "optim": {"lr": 1e-4, "lr_scheduler": "MultiStepLR", "foreach": True}},
    }


def write_foreign_skill(root: Path, *, schema: dict[str, Any] | None = None) -> Path:
    """The folder of a skill called tao-train-foundation-stereo-x for the network depth_net_stereo, without a manifest."""
    (root / "references").mkdir(parents=True)
    (root / "schemas").mkdir()
    info = {
        "name": "tao-train-foundation-stereo-x",
        "network_arch": "depth_net_stereo",
        "automl_enabled": True,
        "container_image": "tao_toolkit.pyt",
        "data_format": "FSD",
        "gpu_spec_key": "train.num_gpus",
        "actions": {"train": {"command": "depth_net train -e {config_path}", "config_format": "yaml", "mode": "config"}},
        "spec_shorthand_keys": {"learning_rate": "train.optim.lr"},
    }
    (root / "references" / "skill_info.yaml").write_text(yaml.safe_dump(info), encoding="utf-8")
    (root / "references" / "spec_template_train.yaml").write_text(yaml.safe_dump(train_template()), encoding="utf-8")
    text = json.dumps(train_schema() if schema is None else schema)  # Infinity is written as TAO writes it
    (root / "schemas" / "train.schema.json").write_text(text, encoding="utf-8")
    return root
