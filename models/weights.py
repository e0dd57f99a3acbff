"""Weights from any published file into a network: recognise, convert, load strictly, report.

Public: `load_weights`, `load_spec_weights`, `check_spec_weights`; what a file is says `models.inspection`.
A file either fills the part it was asked for completely, or CheckpointError says what does not fit and what to set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.checkpoints import Checkpoint, read_checkpoint
from models.inspection import Content, content_of
from models.layouts import describe
from models.mono.depth_anything import DepthAnything
from models.parts import Target, check_fit, check_layout, check_traits, target_of
from models.registry import build_network
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.errors import CheckpointError
from search_spaces.spec import Spec
from search_spaces.spec.weights import Part, WeightFile, weight_files

__all__ = ["LoadReport", "check_spec_weights", "load_checkpoint", "load_spec_weights", "load_weights", "read_checkpoint"]


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


def load_weights(network: nn.Module, path: Path, *, part: Part = "all") -> LoadReport:
    """Fills `part` of `network` from `path`, in place.

    `all` takes a file of the same network, `mono_backbone` DINOv2 or Depth Anything V2, `side_network` (stereo) Depth Anything V2,
    `trunk` (stereo) EdgeNeXt-small; each in any published layout.  CheckpointError names every misfit and the key to set.
    """
    return load_checkpoint(network, read_checkpoint(path), part=part)


def load_spec_weights(network: nn.Module, spec: Spec) -> list[LoadReport]:
    """Loads every weight file that `spec` names into its `network`, parts before the whole; an empty path is none."""
    return [_from_spec(network, wanted, load=True) for wanted in weight_files(spec)]


def check_spec_weights(spec: Spec) -> list[LoadReport]:
    """What `load_spec_weights` would do for `spec`, without a network in memory: for checks before anything starts."""
    with torch.device("meta"):
        network = build_network(spec)
    return [_from_spec(network, wanted, load=False) for wanted in weight_files(spec)]


def load_checkpoint(network: nn.Module, checkpoint: Checkpoint, *, part: Part = "all") -> LoadReport:
    """`load_weights` for a file that is already read."""
    return _fit(network, checkpoint, part=part, load=True)


def _from_spec(network: nn.Module, wanted: WeightFile, *, load: bool) -> LoadReport:
    try:
        return _fit(network, read_checkpoint(Path(wanted.path)), part=wanted.part, load=load)
    except CheckpointError as error:
        raise CheckpointError(f"{wanted.key}: {error.message}", hint=error.hint) from error


def _fit(network: nn.Module, checkpoint: Checkpoint, *, part: Part, load: bool) -> LoadReport:
    target = target_of(network, part)
    content = content_of(checkpoint)
    check_layout(content, target)
    check_traits(content, describe({name: tensor.shape for name, tensor in network.state_dict().items()}), target)
    notes = _check_meaning(content, network, target)
    converted = target.convert(content.tensors)
    aside = [name for name in converted if name.startswith(target.ignores)]
    for name in aside:
        del converted[name]
    missing = check_fit(content, converted, target)
    if load:
        target.module.load_state_dict(converted, strict=False)  # every name and shape was checked above
    return LoadReport(
        path=content.path,
        layout=content.layout.value,
        part=part,
        encoder=content.traits.encoder,
        loaded=len(converted),
        missing=len(missing),
        unexpected=len(aside) + len(content.outside),
        set_aside=(*aside, *content.outside),
        notes=notes,
    )


def _check_meaning(content: Content, network: nn.Module, target: Target) -> tuple[str, ...]:
    """Notes on what the numbers mean, for a file whose head is used; CheckpointError when that head belongs to another network."""
    if content.is_first_version and isinstance(target.module, DepthAnything):
        raise CheckpointError(
            f"{content.path} is Depth Anything V1, whose head reads other blocks of the encoder: in V2 it would give wrong depth",
            hint="take the V2 file of the same size; the encoder alone fits as model.mono_backbone.pretrained_path",
        )
    if target.module is not network:
        return ()
    if isinstance(network, FoundationStereo):
        trained, ours = content.max_disparity, 4 * network.disparities
        return () if trained in (None, ours) else (f"it was trained with model.max_disparity={trained}, this network has {ours}",)
    return _check_head(content, network) if isinstance(network, DepthAnything) else ()


def _check_head(content: Content, network: DepthAnything) -> tuple[str, ...]:
    """`_check_meaning` for a whole mono network."""
    ours, words = "relative" if network.relative else "depth", {"relative": "RelativeDepthAnything", "depth": "MetricDepthAnything"}
    theirs, max_depth = content.output, content.max_depth_m
    if theirs is None:
        return (f"nothing in the file says whether its head is relative or metric; it is taken as {words[ours]}",)
    if theirs != ours:
        raise CheckpointError(
            f"{content.path} is a {words[theirs]} checkpoint, the spec says model.model_type={words[ours]}",
            hint=f"set model.model_type={words[theirs]}; to train from its encoder alone give it as model.mono_backbone.pretrained_path",
        )
    if ours == "depth" and max_depth is not None and max_depth != network.max_depth:
        return (f"it was trained with dataset.max_depth={max_depth:g} m, this network scales by {network.max_depth}",)
    return ()
