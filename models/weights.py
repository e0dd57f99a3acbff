"""Weights from any published file into a network: recognise, convert, load strictly, report.

Public: `inspect_checkpoint`, `load_weights`, `load_spec_weights`, `check_spec_weights`; `read_checkpoint` comes from `models.checkpoints`.
A file either fills the part it was asked for completely, or CheckpointError says what does not fit and what to set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.checkpoints import Checkpoint, Container, read_checkpoint
from models.layouts import STEREO_LAYOUTS, Layout, Traits, describe, recognise, unwrapped_names
from models.mono.depth_anything import DepthAnything
from models.parts import Part, check_fit, check_layout, check_traits, target_of
from models.registry import build_network
from search_spaces.errors import CheckpointError
from search_spaces.spec import Spec

__all__ = [
    "CheckpointInfo",
    "LoadReport",
    "check_spec_weights",
    "inspect_checkpoint",
    "load_checkpoint",
    "load_spec_weights",
    "load_weights",
    "read_checkpoint",
]


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a weight file is.  `traits` come from names and shapes; `spec`, `epoch`, `step` and `metrics` only from our own files."""

    path: Path
    layout: str
    container: str
    traits: Traits
    output: Literal["disparity", "relative", "depth"] | None
    tensors: int
    parameters: int
    spec: Mapping[str, Any] | None
    epoch: int | None
    step: int | None
    metrics: Mapping[str, float | None]

    @property
    def encoder(self) -> str | None:
        """Size of the vision transformer, None for an EdgeNeXt file or an unknown width."""
        return self.traits.encoder

    @property
    def variant(self) -> str | None:
        """`nvlabs` or `tao` for a FoundationStereo file."""
        return self.traits.variant


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What went from a file into a network.

    `missing` counts tensors that the file lacks and no output depends on, `unexpected` those of the file that the network has no
    use for; their names are in `set_aside`.  Anything else that does not fit is an error, never a report.
    """

    path: Path
    layout: str
    part: Part
    encoder: str | None
    loaded: int
    missing: int
    unexpected: int
    set_aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        size = f", {self.encoder}" if self.encoder else ""
        notes = "".join(f"; {note}" for note in self.notes)
        return (
            f"{self.path} ({self.layout}{size}): {self.loaded} tensors loaded, {self.missing} missing, {self.unexpected} unexpected{notes}"
        )


def inspect_checkpoint(path: Path) -> CheckpointInfo:
    """What `path` holds; CheckpointError when it cannot be read or belongs to no known network."""
    checkpoint = read_checkpoint(path)
    tensors, _ = _unwrapped(checkpoint)
    layout = _layout(checkpoint, tensors)
    return CheckpointInfo(
        path=path,
        layout=layout.value,
        container=checkpoint.container.value,
        traits=describe({name: tensor.shape for name, tensor in tensors.items()}),
        output=_output(checkpoint, layout),
        tensors=len(tensors),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        spec=checkpoint.spec,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        metrics=checkpoint.metrics,
    )


def load_weights(network: nn.Module, path: Path, *, part: Part = "all") -> LoadReport:
    """Fills `part` of `network` from `path`, in place.

    `all` takes a file of the same network, `mono_backbone` DINOv2 or Depth Anything V2, `side_network` (stereo) Depth Anything V2,
    `trunk` (stereo) EdgeNeXt-small; each in any published layout.  CheckpointError names every misfit and the key to set.
    """
    return load_checkpoint(network, read_checkpoint(path), part=part)


def load_spec_weights(network: nn.Module, spec: Spec) -> list[LoadReport]:
    """Loads every weight file that `spec` names into its `network`, parts before the whole; an empty path is none."""
    return [_from_spec(network, wanted, load=True) for wanted in _wanted(spec)]


def check_spec_weights(spec: Spec) -> list[LoadReport]:
    """What `load_spec_weights` would do for `spec`, without a network in memory: for checks before anything starts."""
    with torch.device("meta"):
        network = build_network(spec)
    return [_from_spec(network, wanted, load=False) for wanted in _wanted(spec)]


def _wanted(spec: Spec) -> list[tuple[str, str, Part]]:
    """Key of the spec, path, part."""
    stereo, mono = spec.model.stereo_backbone, spec.model.mono_backbone
    parts: list[tuple[str, str | None, Part]] = [("model.mono_backbone.pretrained_path", mono.pretrained_path, "mono_backbone")]
    if spec.family == "stereo":
        parts = [
            ("model.stereo_backbone.depth_anything_v2_pretrained_path", stereo.depth_anything_v2_pretrained_path, "side_network"),
            ("model.stereo_backbone.edgenext_pretrained_path", stereo.edgenext_pretrained_path, "trunk"),
        ]
    parts.append(("train.pretrained_model_path", spec.train.pretrained_model_path, "all"))
    return [(key, path, part) for key, path, part in parts if path]


def _from_spec(network: nn.Module, wanted: tuple[str, str, Part], *, load: bool) -> LoadReport:
    key, path, part = wanted
    try:
        return _fit(network, read_checkpoint(Path(path)), part=part, load=load)
    except CheckpointError as error:
        raise CheckpointError(f"{key}: {error.message}", hint=error.hint) from error


def load_checkpoint(network: nn.Module, checkpoint: Checkpoint, *, part: Part = "all") -> LoadReport:
    """`load_weights` for a file that is already read."""
    return _fit(network, checkpoint, part=part, load=True)


def _fit(network: nn.Module, checkpoint: Checkpoint, *, part: Part, load: bool) -> LoadReport:
    target = target_of(network, part)
    tensors, outside = _unwrapped(checkpoint)
    layout = _layout(checkpoint, tensors)
    check_layout(checkpoint.path, layout, target)
    traits = describe({name: tensor.shape for name, tensor in tensors.items()})
    own = describe({name: tensor.shape for name, tensor in network.state_dict().items()})
    check_traits(checkpoint.path, traits, own, target)
    notes = _check_meaning(checkpoint, layout, network) if part == "all" and isinstance(network, DepthAnything) else ()
    converted = target.convert(tensors)
    aside = [name for name in converted if name.startswith(target.ignores)]
    for name in aside:
        del converted[name]
    missing = check_fit(checkpoint.path, layout, converted, target)
    if load:
        target.module.load_state_dict(converted, strict=False)  # every name and shape was checked above
    return LoadReport(
        path=checkpoint.path,
        layout=layout.value,
        part=part,
        encoder=traits.encoder,
        loaded=len(converted),
        missing=len(missing),
        unexpected=len(aside) + len(outside),
        set_aside=(*aside, *outside),
        notes=notes,
    )


def _unwrapped(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of the network by their names without wrapper prefixes, and the names of the others in the file."""
    names = unwrapped_names(checkpoint.state_dict)
    tensors = {name: checkpoint.state_dict[source] for source, name in names.items()}
    return tensors, [name for name in checkpoint.state_dict if name not in names]


def _layout(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> Layout:
    layout = recognise(tensors)
    if layout is None:
        first = ", ".join(list(tensors)[:4])
        raise CheckpointError(
            f"{checkpoint.path} holds {len(tensors)} tensors of no known network; the first are {first}",
            hint=f"known are {', '.join(known.value for known in Layout)}",
        )
    return layout


def _output(checkpoint: Checkpoint, layout: Layout) -> Literal["disparity", "relative", "depth"] | None:
    """What the network of the file predicts.  Published Depth Anything files have the same names for relative and metric: None."""
    if layout in STEREO_LAYOUTS:
        return "disparity"
    if layout is Layout.TAO_METRIC:
        return "depth"
    if layout is not Layout.DEPTH_ANYTHING:
        return None
    if checkpoint.container is Container.LIGHTNING:
        return "relative"  # TAO calls the head of its metric networks differently
    model = (checkpoint.spec or {}).get("model")
    model_type = model.get("model_type") if isinstance(model, Mapping) else None
    return {"RelativeDepthAnything": "relative", "MetricDepthAnything": "depth"}.get(str(model_type))  # type: ignore[return-value]


def _check_meaning(checkpoint: Checkpoint, layout: Layout, network: DepthAnything) -> tuple[str, ...]:
    """Notes on what the numbers mean; CheckpointError when a relative head would feed a metric network or the other way round."""
    ours, theirs = "relative" if network.relative else "depth", _output(checkpoint, layout)
    if theirs is not None and theirs != ours:
        words = {"relative": "RelativeDepthAnything", "depth": "MetricDepthAnything"}
        raise CheckpointError(
            f"{checkpoint.path} is a {words[theirs]} checkpoint, the spec says model.model_type={words[ours]}",
            hint="to start from its encoder alone give it as model.mono_backbone.pretrained_path",
        )
    dataset = (checkpoint.spec or {}).get("dataset")
    max_depth = dataset.get("max_depth") if isinstance(dataset, Mapping) else None
    if ours == "depth" and max_depth is not None and max_depth != network.max_depth:
        return (f"it was trained with dataset.max_depth={max_depth:g} m, this network scales by {network.max_depth}",)
    return ()
