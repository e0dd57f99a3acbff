"""Which tensors of a network a weight file may fill, and every reason why a file does not fit.

Used by `models.weights`; all errors are CheckpointError with the key of the spec to set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from models.backbones.dinov2 import DinoV2
from models.backbones.edgenext import WIDTHS, EdgeNeXt
from models.inspection import Content
from models.layouts import ENCODER_LAYOUTS, MONO_LAYOUTS, STEREO_LAYOUTS, TRUNK_LAYOUTS, Layout, Traits
from models.mono.depth_anything import DepthAnything
from models.names import mono_name, stereo_name, trunk_name
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.errors import CheckpointError
from search_spaces.spec.weights import Part

Tensors = Mapping[str, Tensor]

_ENCODER = "pretrained."
_SIDE_TRAITS = ("encoder", "use_bn", "use_clstoken")
_STEREO_TRAITS = ("variant", *_SIDE_TRAITS, "hidden_dim", "gru_layers", "corr_levels", "corr_radius")
_MONO_HINT = (
    "a mono spec takes it as train.pretrained_model_path or model.mono_backbone.pretrained_path, "
    "a stereo spec as model.stereo_backbone.depth_anything_v2_pretrained_path"
)
_TRUNK_HINT = "a stereo spec takes it as model.stereo_backbone.edgenext_pretrained_path"
_STEREO_HINT = "it belongs to a spec with model.model_type=FoundationStereo, as train.pretrained_model_path"
_ENCODER_HINT = "a mono spec takes a DINOv2 encoder as model.mono_backbone.pretrained_path; the head then starts untrained"
_HINTS: Mapping[Layout, str] = MappingProxyType(
    {
        Layout.DINOV2: _ENCODER_HINT,
        Layout.DINOV2_HF: _ENCODER_HINT,
        Layout.DEPTH_ANYTHING: _MONO_HINT,
        Layout.DEPTH_ANYTHING_HF: _MONO_HINT,
        Layout.TAO_METRIC: _MONO_HINT,
        Layout.EDGENEXT_TIMM: _TRUNK_HINT,
        Layout.EDGENEXT_TAO: _TRUNK_HINT,
        Layout.STEREO_NVLABS: _STEREO_HINT,
        Layout.STEREO_TAO: _STEREO_HINT,
    }
)


_LOOKUP_WHY = "levels and radius of the lookup are layer shapes, so they must be those of the checkpoint"
_WHY: Mapping[str, str] = MappingProxyType(
    {
        "variant": "the two graphs differ in norms, attention and one convolution, so no conversion gives the weights of one the answers "
        "of the other",
        "corr_levels": _LOOKUP_WHY,
        "corr_radius": _LOOKUP_WHY,
    }
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where weights go: `module` and those of its tensors that the part comprises (`expected`, by the module's own names).

    `convert` brings a file of an accepted layout to those names; `traits` must agree between file and network; `idle` tensors may be
    missing because nothing reads them; tensors that begin with one of `ignores` are left in the file.
    """

    what: str
    module: nn.Module
    expected: Tensors
    accepts: tuple[Layout, ...]
    convert: Callable[[Tensors], dict[str, Tensor]]
    traits: tuple[str, ...]
    section: str
    idle: frozenset[str] = frozenset()
    ignores: tuple[str, ...] = ()


def target_of(network: nn.Module, part: Part) -> Target:
    """The target for `part` of one of our networks; CheckpointError when that network has no such part."""
    match network, part:
        case FoundationStereo(), "all":
            target = _stereo(network)
        case FoundationStereo(), "side_network":
            target = _depth_anything(network.feature.dino.depth_anything, "the side network of FoundationStereo", "model.stereo_backbone")
        case FoundationStereo(), "trunk":
            target = _trunk(network.feature, "the trunk of FoundationStereo")
        case DepthAnything(), "all":
            target = _depth_anything(network, "a Depth Anything network", "model.mono_backbone")
        case DepthAnything(), "mono_backbone":
            target = _encoder(network.pretrained)
        case EdgeNeXt(), "all":
            target = _trunk(network, "an EdgeNeXt trunk")
        case DinoV2(), "all":
            target = _encoder(network)
        case _:
            raise CheckpointError(
                f"{type(network).__name__} has no part {part!r} that a weight file could fill", hint="load it with part='all'"
            )
    return target


def _stereo(network: FoundationStereo) -> Target:
    return Target(
        what="a FoundationStereo network",
        module=network,
        expected=network.state_dict(),
        accepts=STEREO_LAYOUTS,
        convert=lambda tensors: {stereo_name(name): tensor for name, tensor in tensors.items()},
        traits=_STEREO_TRAITS,
        section="model.stereo_backbone",
    )


def _depth_anything(network: DepthAnything, what: str, section: str) -> Target:
    return Target(
        what=what,
        module=network,
        expected=network.state_dict(),
        accepts=MONO_LAYOUTS,
        convert=lambda tensors: {mono_name(name): tensor for name, tensor in tensors.items()},
        traits=_SIDE_TRAITS,
        section=section,
        idle=network.unused_parameters(),
    )


def _encoder(network: DinoV2) -> Target:
    return Target(
        what="the encoder of a Depth Anything network",
        module=network,
        expected=network.state_dict(),
        accepts=(*ENCODER_LAYOUTS, *MONO_LAYOUTS),
        convert=_encoder_tensors,
        traits=("encoder",),
        section="model.mono_backbone",
        idle=frozenset({"mask_token"}),
    )


def _encoder_tensors(tensors: Tensors) -> dict[str, Tensor]:
    inside = {name.removeprefix(_ENCODER): tensor for name, tensor in tensors.items() if name.startswith(_ENCODER)}
    return inside or dict(tensors)


def _trunk(network: EdgeNeXt, what: str) -> Target:
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(("stem.", "stages."))}
    return Target(
        what=what,
        module=network,
        expected=own,
        accepts=TRUNK_LAYOUTS,
        convert=lambda tensors: {trunk_name(name): tensor for name, tensor in tensors.items()},
        traits=("trunk_width",),
        section="model.stereo_backbone",
        ignores=("head.",),  # timm's classifier
    )


def taken_as(layout: Layout) -> str:
    """Which key of which spec takes a file of that layout, in words."""
    return _HINTS[layout]


def check_layout(content: Content, target: Target) -> None:
    """Nothing, or the error that says what the file is and which key takes it."""
    if content.layout in target.accepts:
        return
    wanted = " or ".join(accepted.value for accepted in target.accepts)
    raise CheckpointError(f"{content.path} is a {content.layout.value} file, but {target.what} needs {wanted}", hint=_HINTS[content.layout])


def check_traits(content: Content, network: Traits, target: Target) -> None:
    """Nothing, or one error for all sizes and switches in which file and network differ, with the keys to set."""
    path, file = content.path, content.traits
    if "encoder" in target.traits and file.encoder is None:
        raise CheckpointError(
            f"{path} has an encoder of width {file.width}, which is none of vitt, vits, vitb, vitl, vitg",
            hint="take a published DINOv2 or Depth Anything V2 file",
        )
    if "trunk_width" in target.traits and file.trunk_width != WIDTHS[0]:
        raise CheckpointError(
            f"{path} is an EdgeNeXt of width {file.trunk_width}, but the trunk is EdgeNeXt-small, of width {WIDTHS[0]}",
            hint="give the weights of edgenext_small",
        )
    differing = [trait for trait in target.traits if None not in (getattr(file, trait), getattr(network, trait))]
    differing = [trait for trait in differing if getattr(file, trait) != getattr(network, trait)]
    if not differing:
        return
    theirs = [_setting(trait, getattr(file, trait), target.section) for trait in differing]
    ours = [_setting(trait, getattr(network, trait), target.section)[1] for trait in differing]
    sentences = [f"it was trained with {key} {value}, the spec says {own}" for (key, value), own in zip(theirs, ours, strict=True)]
    reasons = [_WHY[trait] for trait in ("variant", "corr_levels", "corr_radius") if trait in differing]
    why = f" ({reasons[0]})" if reasons else ""
    settings = " ".join(f"{key}={value}" for key, value in theirs)
    raise CheckpointError(f"{path} does not fit: {'; '.join(sentences)}", hint=f"set {settings}{why}")


def _setting(trait: str, value: object, section: str) -> tuple[str, str]:
    """The key of the spec behind a trait, and how its value is written."""
    keys = {
        "use_bn": f"{section}.use_bn",
        "use_clstoken": f"{section}.use_clstoken",
        "hidden_dim": "model.hidden_dims",
        "gru_layers": "model.n_gru_layers",
    }
    written = f"[{value},{value},{value}]" if trait == "hidden_dim" else str(value)
    if isinstance(value, bool):
        written = written.lower()
    return keys.get(trait, f"model.{trait}"), written


def check_fit(content: Content, converted: Tensors, target: Target) -> tuple[str, ...]:
    """Names that are missing but idle; CheckpointError for any other missing, unexpected or misshaped tensor."""
    missing = [name for name in target.expected if name not in converted]
    idle = tuple(name for name in missing if name in target.idle)
    missing = [name for name in missing if name not in target.idle]
    unexpected = [name for name in converted if name not in target.expected]
    misshaped = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(target.expected[name].shape)}"
        for name, tensor in converted.items()
        if name in target.expected and tensor.shape != target.expected[name].shape
    ]
    found = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (misshaped, "of another shape"))
        if names
    ]
    if found:
        fitting = len(target.expected) - len(missing) - len(misshaped) - len(idle)
        registers = any("register_tokens" in name for name in unexpected)
        filled = f"{content.path} ({content.layout.value}) fills {fitting} of {len(target.expected)} tensors of {target.what}"
        raise CheckpointError(
            f"{filled}; {'; '.join(found)}",
            hint="DINOv2 with register tokens is another network: take the file without `_reg`"
            if registers
            else "take the file of the network that the spec describes",
        )
    return idle
