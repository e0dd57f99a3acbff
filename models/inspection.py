"""What a weight file is: its layout, the network behind it, and the keys of the spec that it decides.

Names and shapes tell most of it.  What they cannot tell (relative or metric, metres of a metric network) comes from our own files' spec,
from the settings file that is published beside some weights, or from the name under which Depth Anything files are published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from models.backbones.dinov2 import ENCODERS
from models.checkpoints import Checkpoint, Container, read_checkpoint
from models.layouts import ENCODER_LAYOUTS, STEREO_LAYOUTS, TRUNK_LAYOUTS, Layout, Traits, describe, recognise, unwrapped_names
from models.names import encoder_from_hugging_face, mono_from_hugging_face
from search_spaces.errors import CheckpointError

Output = Literal["disparity", "relative", "depth"]

# metres of the published metric networks, by the data set in their file names
PUBLISHED_MAX_DEPTH_M: Mapping[str, float] = {"hypersim": 20.0, "vkitti": 80.0}
_PUBLISHED = re.compile(r"depth_anything_v2_(?:metric_(?P<data>hypersim|vkitti)_)?vit[sblg]")
_FIRST_VERSION = re.compile(r"depth_anything_vit[sbl](?:14)?")
_WORDS: Mapping[Output, str] = {
    "disparity": "FoundationStereo",
    "relative": "RelativeDepthAnything",
    "depth": "MetricDepthAnything",
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """The tensors of the network in a file, by original names without wrapper prefixes; `outside` are the other names in the file.

    `settings` is what the file published beside the weights says (cfg.yaml of FoundationStereo, config.json of Hugging Face).
    """

    checkpoint: Checkpoint
    layout: Layout
    tensors: Mapping[str, Tensor] = field(repr=False)
    outside: tuple[str, ...]
    traits: Traits
    settings: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        return self.checkpoint.path

    @property
    def output(self) -> Output | None:
        """What the network predicts; None for a part of a network and where a Depth Anything file does not say."""
        if self.layout in STEREO_LAYOUTS:
            return "disparity"
        if self.layout in (*ENCODER_LAYOUTS, *TRUNK_LAYOUTS):
            return None
        if self.checkpoint.container is Container.OURS:
            named = self._own("model", "model_type")
            return next((output for output, word in _WORDS.items() if word == named), None)
        # TAO names the head of its metric networks differently, so that of its other files is relative
        is_metric: bool | None = None if self.checkpoint.container is not Container.LIGHTNING else False
        published = _PUBLISHED.fullmatch(self.path.stem)
        if self.layout is Layout.TAO_METRIC:
            is_metric = True
        elif "depth_estimation_type" in self.settings:
            is_metric = self.settings["depth_estimation_type"] == "metric"
        elif is_metric is None and published is not None:
            is_metric = published["data"] is not None
        return None if is_metric is None else "depth" if is_metric else "relative"

    @property
    def max_depth_m(self) -> float | None:
        """What the answer of a metric network is scaled by, where the file says so."""
        if self.output != "depth":
            return None
        published = _PUBLISHED.fullmatch(self.path.stem)
        named = PUBLISHED_MAX_DEPTH_M[published["data"]] if published and published["data"] else None
        value = self._own("dataset", "max_depth") or self.settings.get("max_depth") or named
        return float(value) if isinstance(value, int | float) else None

    @property
    def max_disparity(self) -> int | None:
        """The range of the cost volume in training, where the file says so; the weights fit any."""
        value = self._own("model", "max_disparity") or self.settings.get("max_disp")
        return int(value) if isinstance(value, int) and self.output == "disparity" else None

    @property
    def is_first_version(self) -> bool:
        """Whether this is Depth Anything V1: the same names and shapes, but its head reads the last four blocks of the encoder."""
        backbone = self.settings.get("backbone_config")
        stages = backbone.get("out_indices") if isinstance(backbone, Mapping) else None
        taken = ENCODERS[self.traits.encoder].taken if self.traits.encoder else ()
        differ = isinstance(stages, list) and bool(taken) and [stage - 1 for stage in stages] != list(taken)
        return differ or _FIRST_VERSION.fullmatch(self.path.stem) is not None

    def _own(self, section: str, key: str) -> object:
        """A value of the spec that our own files carry, or None."""
        group = (self.checkpoint.spec or {}).get(section)
        return group.get(key) if isinstance(group, Mapping) else None


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a weight file is.  `decides` are the keys of the spec that its layers fix; `epoch`, `step` and `metrics` only where it says."""

    path: Path
    layout: Layout
    container: Container
    traits: Traits
    output: Output | None
    tensors: int
    parameters: int
    outside: tuple[str, ...]
    decides: Mapping[str, Any]
    max_depth_m: float | None
    max_disparity: int | None
    epoch: int | None
    step: int | None
    metrics: Mapping[str, float | None]
    left_out: tuple[str, ...]


def inspect_checkpoint(path: Path) -> CheckpointInfo:
    """What `path` holds; CheckpointError when it cannot be read or belongs to no known network."""
    content = content_of(read_checkpoint(path))
    return CheckpointInfo(
        path=path,
        layout=content.layout,
        container=content.checkpoint.container,
        traits=content.traits,
        output=content.output,
        tensors=len(content.tensors),
        parameters=sum(tensor.numel() for tensor in content.tensors.values()),
        outside=content.outside,
        decides=decided_keys(content),
        max_depth_m=content.max_depth_m,
        max_disparity=content.max_disparity,
        epoch=content.checkpoint.epoch,
        step=content.checkpoint.step,
        metrics=content.checkpoint.metrics,
        left_out=content.checkpoint.left_out,
    )


def content_of(checkpoint: Checkpoint) -> Content:
    """The network in a file that was read; CheckpointError for tensors of no known one."""
    names = unwrapped_names(checkpoint.state_dict)
    tensors = {name: checkpoint.state_dict[source] for source, name in names.items()}
    layout = recognise(tensors)
    if layout is None:
        first = ", ".join(list(tensors)[:4])
        raise CheckpointError(
            f"{checkpoint.path} holds {len(tensors)} tensors of no known network; the first are {first}",
            hint=f"known are {'; '.join(known.value for known in Layout)}",
        )
    outside = tuple(name for name in checkpoint.state_dict if name not in names)
    if layout is Layout.DEPTH_ANYTHING_HF:
        tensors = mono_from_hugging_face(tensors)
    elif layout is Layout.DINOV2_HF:
        tensors = encoder_from_hugging_face(tensors)
    traits = describe({name: tensor.shape for name, tensor in tensors.items()})
    settings = _settings(checkpoint.path, layout)
    return Content(checkpoint=checkpoint, layout=layout, tensors=tensors, outside=outside, traits=traits, settings=settings)


def decided_keys(content: Content) -> dict[str, Any]:
    """The keys of the spec that the layers of a whole network (or of an encoder) decide, with their values."""
    traits, output = content.traits, content.output
    section = "model.stereo_backbone" if output == "disparity" else "model.mono_backbone"
    found = {
        "model.model_type": None if output is None else _WORDS[output],
        "model.variant": traits.variant,
        "model.encoder": traits.encoder,
        f"{section}.use_bn": traits.use_bn,
        f"{section}.use_clstoken": traits.use_clstoken,
        "model.hidden_dims": None if traits.hidden_dim is None else [traits.hidden_dim] * 3,
        "model.n_gru_layers": traits.gru_layers,
        "model.corr_levels": traits.corr_levels,
        "model.corr_radius": traits.corr_radius,
    }
    return {key: value for key, value in found.items() if value is not None}


def _settings(path: Path, layout: Layout) -> Mapping[str, Any]:
    """The settings file that is published beside weights of that layout; {} when there is none or it cannot be read."""
    import yaml

    name = {Layout.STEREO_NVLABS: "cfg.yaml", Layout.DEPTH_ANYTHING_HF: "config.json"}.get(layout)
    if name is None or not (path.parent / name).is_file():
        return {}
    try:
        text = (path.parent / name).read_text(encoding="utf-8")
        data = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return data if isinstance(data, Mapping) else {}
