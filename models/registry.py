"""From a spec to an untrained network, and what the rest must know about each network.

To add one: a section of the spec, an entry in `NETWORKS` and a builder below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import nn

from models.mono.depth_anything import DepthAnything
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.errors import SpecError, nearest
from search_spaces.spec import Spec
from search_spaces.spec.rules import STRIDES

Output = Literal["disparity", "relative", "depth"]


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """Facts of one network.

    Height and width of its input are multiples of `stride` pixels.  `output` is disparity in pixels of the input, inverse depth up
    to scale and shift (`relative`), or depth in metres.
    """

    model_type: str
    family: Literal["stereo", "mono"]
    stride: int
    output: Output


NETWORKS: Mapping[str, NetworkInfo] = MappingProxyType(
    {
        info.model_type: info
        for info in (
            NetworkInfo(model_type="FoundationStereo", family="stereo", stride=STRIDES["stereo"], output="disparity"),
            NetworkInfo(model_type="MetricDepthAnything", family="mono", stride=STRIDES["mono"], output="depth"),
            NetworkInfo(model_type="RelativeDepthAnything", family="mono", stride=STRIDES["mono"], output="relative"),
        )
    }
)


def network_info(model_type: str) -> NetworkInfo:
    """Facts of `model.model_type`; SpecError with the nearest known one for a stranger."""
    if model_type in NETWORKS:
        return NETWORKS[model_type]
    guess = nearest(model_type, NETWORKS)
    raise SpecError(
        f"model.model_type must be one of {', '.join(NETWORKS)}, but got {model_type!r}",
        hint=f"did you mean model.model_type={guess}?" if guess else None,
    )


def build_network(spec: Spec) -> nn.Module:
    """The network of a validated `spec` with random weights from torch's current generator; no file is read (see `models.weights`)."""
    return _BUILDERS[network_info(spec.model.model_type).model_type](spec)


def _stereo(spec: Spec) -> nn.Module:
    model = spec.model
    return FoundationStereo(
        encoder=model.encoder,
        variant=model.variant,
        max_disparity=model.max_disparity,
        corr_levels=model.corr_levels,
        corr_radius=model.corr_radius,
        n_gru_layers=model.n_gru_layers,
        hidden_dims=model.hidden_dims,
        train_iters=model.train_iters,
        valid_iters=model.valid_iters,
        low_memory=model.low_memory > 0,
        mixed_precision=model.mixed_precision,
        use_bn=model.stereo_backbone.use_bn,
        use_clstoken=model.stereo_backbone.use_clstoken,
        checkpoint_updates=spec.train.activation_checkpoint,
    )


def _mono(spec: Spec) -> nn.Module:
    backbone = spec.model.mono_backbone
    return DepthAnything(
        spec.model.encoder,
        max_depth=None if spec.is_relative else spec.dataset.max_depth,
        relative=spec.is_relative,
        use_bn=backbone.use_bn,
        use_clstoken=backbone.use_clstoken,
        recompute_blocks=spec.train.activation_checkpoint,
    )


_BUILDERS: Mapping[str, Callable[[Spec], nn.Module]] = MappingProxyType(
    {
        "FoundationStereo": _stereo,
        "MetricDepthAnything": _mono,
        "RelativeDepthAnything": _mono,
    }
)
