"""A weight file for another program: the same tensors under its names and in its container, where the function is the same.

`tao` is what NVIDIA TAO's depth_net reads, `published` what the projects read that released the networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from models.checkpoints import LIGHTNING_KEY
from models.inspection import Content
from models.layouts import ENCODER_LAYOUTS, STEREO_LAYOUTS, TRUNK_LAYOUTS, Layout
from models.names import mono_name, stereo_name, tao_mono_name, tao_stereo_name, tao_trunk_name, trunk_name
from search_spaces.errors import CheckpointError

Names = Literal["tao", "published"]

TAO_LIGHTNING_VERSION = "2.5.0"  # of TAO 6.25; Lightning reads a file by its version's rules


def rewrite(content: Content, names: Names, path: Path) -> None:
    """Writes the network of `content` to `path` for another program; CheckpointError when its graph is another or `path` exists."""
    if path.exists():
        raise CheckpointError(f"{path} exists", hint="choose another name")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        torch.save(rewritten(content, names), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rewritten(content: Content, names: Names) -> dict[str, object]:
    """What `rewrite` saves."""
    if content.layout in STEREO_LAYOUTS:
        return _stereo(content, names)
    if content.layout in ENCODER_LAYOUTS:
        return dict(content.tensors)  # TAO, too, reads DINOv2 as it was released
    if content.layout in TRUNK_LAYOUTS:
        trunk = {trunk_name(name): tensor for name, tensor in content.tensors.items()}
        return {"state_dict": {tao_trunk_name(name): tensor for name, tensor in trunk.items()}} if names == "tao" else dict(trunk)
    mono = {mono_name(name): tensor for name, tensor in content.tensors.items()}
    if names == "published":
        return dict(mono)
    if content.output is None:
        raise CheckpointError(
            f"nothing in {content.path} says whether its head is relative or metric, and TAO names the two differently",
            hint="give the file the name that it was published under, such as depth_anything_v2_metric_hypersim_vits.pth",
        )
    metric = content.output == "depth"
    return _lightning(content, {tao_mono_name(name, metric=metric): tensor for name, tensor in mono.items()})


def _stereo(content: Content, names: Names) -> dict[str, object]:
    tensors = {stereo_name(name): tensor for name, tensor in content.tensors.items()}
    own: Names = "tao" if content.layout is Layout.STEREO_TAO else "published"
    if own != names:
        theirs, graph = ("TAO", "tao") if names == "tao" else ("the research release", "nvlabs")
        raise CheckpointError(
            f"{content.path} cannot be written for {theirs}: its graph is {content.traits.variant}, that of {theirs} is {graph}, and the "
            "two differ in norms, attention and one convolution",
            hint=f"train with model.variant={graph} to get weights for {theirs}",
        )
    if names == "published":
        progress = {"global_step": content.checkpoint.step or 0, "epoch": content.checkpoint.epoch or 0}
        return {"model": tensors, **progress}
    return _lightning(content, {tao_stereo_name(name): tensor for name, tensor in tensors.items()})


def _lightning(content: Content, tensors: dict[str, Tensor]) -> dict[str, object]:
    """TAO's container of whole networks."""
    return {
        LIGHTNING_KEY: TAO_LIGHTNING_VERSION,
        "epoch": content.checkpoint.epoch or 0,
        "global_step": content.checkpoint.step or 0,
        "state_dict": {f"model.{name}": tensor for name, tensor in tensors.items()},
    }
