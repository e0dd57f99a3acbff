"""The `model` section: network, encoder, backbones and the knobs of FoundationStereo (names follow TAO's depth_net spec)."""

from __future__ import annotations

from dataclasses import dataclass, field

from search_spaces.spec.keys import Acts, key

MODEL_TYPES = ("FoundationStereo", "MetricDepthAnything", "RelativeDepthAnything")
# vitt is ours: a very small encoder for smoke runs and tests, without published weights
ENCODERS = ("vitt", "vits", "vitb", "vitl", "vitg")
WIDEST = 416  # pixels: the largest disparity of TAO's stereo networks


@dataclass(frozen=True, kw_only=True)
class MonoBackbone:
    """The Depth Anything network of mono models."""

    pretrained_path: str | None = key(None, "weights of the encoder alone", acts=Acts.MONO)
    use_bn: bool = key(False, "batch normalisation in the head's residual units", acts=Acts.MONO)
    use_clstoken: bool = key(False, "project the class token into every patch token", acts=Acts.MONO)


@dataclass(frozen=True, kw_only=True)
class StereoBackbone:
    """The frozen Depth Anything side network and the EdgeNeXt trunk of FoundationStereo."""

    depth_anything_v2_pretrained_path: str | None = key(None, "Depth Anything V2 weights of the side network", acts=Acts.STEREO)
    edgenext_pretrained_path: str | None = key(None, "EdgeNeXt-small weights of the trunk", acts=Acts.STEREO)
    use_bn: bool = key(False, "batch normalisation in the side network's head", acts=Acts.STEREO)
    use_clstoken: bool = key(False, "project the class token in the side network", acts=Acts.STEREO)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network.  Keys below the backbones act on stereo networks alone."""

    model_type: str = key("MetricDepthAnything", "the network", options=MODEL_TYPES)
    variant: str = key(
        "nvlabs", "which published FoundationStereo graph; a checkpoint's layout must agree", options=("nvlabs", "tao"), acts=Acts.STEREO
    )
    encoder: str = key("vitl", "size of the vision transformer; vitg is for mono alone", options=ENCODERS)
    mono_backbone: MonoBackbone = field(default_factory=MonoBackbone)
    stereo_backbone: StereoBackbone = field(default_factory=StereoBackbone)
    hidden_dims: tuple[int, int, int] = key(
        (128, 128, 128), "width of the recurrent units at each scale: equal, a multiple of 16", low=16, acts=Acts.STEREO
    )
    corr_radius: int = key(4, "radius of the cost volume lookup; changes layer shapes", low=2, high=8, acts=Acts.STEREO, automl=True)
    cv_group: int = key(
        8, "groups of the cost volume", low=4, high=16, acts=Acts.INERT, automl=True, why="FoundationStereo always has 8 groups"
    )
    train_iters: int = key(22, "recurrent refinement steps in training", low=1, acts=Acts.STEREO)
    valid_iters: int = key(22, "recurrent refinement steps in validation and inference", low=1, acts=Acts.EVALUATION, stereo_only=True)
    volume_dim: int = key(
        32, "channels of the cost volume", low=16, high=64, acts=Acts.INERT, automl=True, why="FoundationStereo always has 28 channels"
    )
    low_memory: int = key(
        0, "above 0: look up the cost volume in chunks; 1 to 4 do the same", low=0, high=4, acts=Acts.RUNNING, stereo_only=True
    )
    mixed_precision: bool = key(False, "bfloat16 inside the stereo network, its volume sums and lookups apart", acts=Acts.STEREO)
    n_gru_layers: int = key(3, "scales of the recurrent unit; changes the layers", low=1, high=3, acts=Acts.STEREO)
    corr_levels: int = key(2, "pyramid levels of the cost volume lookup; changes layer shapes", low=1, high=2, acts=Acts.STEREO)
    n_downsample: int = key(2, "log2 of the resolution the network works at; only 2 exists", low=1, high=2, acts=Acts.STEREO)
    max_disparity: int = key(
        WIDEST,
        "range of the cost volume, a multiple of 32; follows dataset.max_disparity",
        low=32,
        high=WIDEST,
        unit="px",
        acts=Acts.STEREO,
    )
