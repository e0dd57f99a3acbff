"""Small real networks with their specs, for the tests of deploy/."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.registry import build_network
from search_spaces.spec import Spec, load_spec, spec_to_dict

MONO_SIZE, STEREO_SIZE = (28, 42), (64, 96)


def mono_spec(*overrides: str, relative: bool = False) -> Spec:
    kind = "model.model_type=RelativeDepthAnything" if relative else "model.model_type=MetricDepthAnything"
    depth = [] if relative else ["dataset.max_depth=20"]
    crop = [f"dataset.{split}_dataset.augmentation.crop_size=[28,42]" for split in ("train", "val")]
    return load_spec(None, ["dataset.dataset_name=MonoDataset", "model.encoder=vitt", kind, *depth, *crop, *overrides])


def stereo_spec(*overrides: str) -> Spec:
    crop = [f"dataset.{split}_dataset.augmentation.crop_size=[64,96]" for split in ("train", "val")]
    sizes = ["model.max_disparity=64", "dataset.max_disparity=64", "model.train_iters=2", "model.valid_iters=2"]
    kind = ["dataset.dataset_name=StereoDataset", "model.model_type=FoundationStereo", "model.encoder=vitt", "model.hidden_dims=[48,48,48]"]
    return load_spec(None, [*kind, *sizes, *crop, *overrides])


def network_of(spec: Spec, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(spec)


def images_of(spec: Spec, batch: int, size: tuple[int, int] | None = None, seed: int = 1) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    stereo = spec.family == "stereo"
    shape = size or (STEREO_SIZE if stereo else MONO_SIZE)
    return tuple(torch.randn(batch, 3, *shape, generator=generator) for _ in range(2 if stereo else 1))


def save_checkpoint(network: nn.Module, spec: Spec, path: Path) -> Path:
    """A weights-only checkpoint as training writes it."""
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    facts = {"pytorch-lightning_version": "2.6.6", "epoch": 3, "global_step": 12, "metrics": {"val/loss": 1.0}}
    torch.save({**facts, "state_dict": state, "spec": spec_to_dict(spec)}, path)
    return path
