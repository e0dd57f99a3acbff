"""What sizes FoundationStereo can take, said before anything is computed.

The volume is halved three times along every axis at a quarter of the resolution: 4 * 2**3 = 32.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.backbones import dinov2 as backbones
from models.stereo.cost_volume import VOLUME_CHANNELS
from search_spaces.errors import SpecError, UserError, nearest

STEP_PX = 32
HIDDEN_STEP = 16
ENCODERS = tuple(name for name in backbones.ENCODERS if name != "vitg")  # the giant was never published as a side network
MIB = 2**20
LIVE_VOLUMES = 4  # of 28 channels, at once without gradients: volume, hourglass input, convolution, norm
KEPT_VOLUMES = 38  # kept for the backward pass, counted at 320x736 with 192 disparities


def check_network(*, encoder: str, max_disparity: int, corr_levels: int, corr_radius: int) -> None:
    """Nothing, or SpecError that names the nearest legal value."""
    if encoder not in ENCODERS:
        guess = nearest(encoder, ENCODERS)
        raise SpecError(
            f"model.encoder of a stereo network must be one of {', '.join(ENCODERS)}, but got {encoder!r}",
            hint=f"did you mean {guess!r}?" if guess else None,
        )
    if max_disparity < STEP_PX or max_disparity % STEP_PX:
        raise SpecError(
            f"model.max_disparity must be a positive multiple of {STEP_PX}, but got {max_disparity}",
            hint=f"use {_or(legal_sizes(max_disparity))}",
        )
    if corr_radius < 1:
        raise SpecError(f"model.corr_radius must be at least 1, but got {corr_radius}", hint="4 is the published value")
    most = (max_disparity // 4).bit_length()
    if not 1 <= corr_levels <= most:
        raise SpecError(
            f"model.corr_levels must be in 1..{most} for model.max_disparity={max_disparity}, but got {corr_levels}",
            hint="every level halves the disparities; 2 is the published value",
        )


def check_hidden(hidden_dims: Sequence[int], n_gru_layers: int) -> int:
    """The hidden width; SpecError when the widths differ, fit no group of 16 or the number of scales is not 1..3."""
    if n_gru_layers not in (1, 2, 3):
        raise SpecError(f"model.n_gru_layers must be 1, 2 or 3, but got {n_gru_layers}", hint="3 is the published value")
    width = hidden_dims[0] if hidden_dims else 0
    if len(set(hidden_dims)) != 1 or width < HIDDEN_STEP or width % HIDDEN_STEP:
        raise SpecError(
            f"model.hidden_dims must repeat one multiple of {HIDDEN_STEP}, but got {list(hidden_dims)}",
            hint="use [128, 128, 128], the published width, or for example [48, 48, 48] for quick runs",
        )
    return width


def check_pair(left_B3HW: Tensor, right_B3HW: Tensor, *, corr_levels: int) -> None:
    """Nothing, or UserError for images whose sizes differ or that the network cannot take."""
    if left_B3HW.shape != right_B3HW.shape or left_B3HW.ndim != 4 or left_B3HW.shape[1] != 3:
        raise UserError(
            f"left and right must both be (B, 3, H, W), but got {tuple(left_B3HW.shape)} and {tuple(right_B3HW.shape)}",
            hint="pad or crop both images of a pair alike",
        )
    check_size(int(left_B3HW.shape[2]), int(left_B3HW.shape[3]), corr_levels=corr_levels)


def check_size(height: int, width: int, *, corr_levels: int = 2) -> None:
    """Nothing, or UserError that names the nearest legal height and width."""
    if height % STEP_PX or width % STEP_PX or min(height, width) < STEP_PX:
        rows, columns = (_or(legal_sizes(side)) for side in (height, width))
        raise UserError(
            f"height and width must be multiples of {STEP_PX}, but got {height}x{width}",
            hint=f"use a height of {rows} and a width of {columns}",
        )
    if height * width < 2 * STEP_PX**2:
        raise UserError(
            f"an image must be larger than {STEP_PX}x{STEP_PX}, but got {height}x{width}",
            hint="at 1/32 of the size one single pixel is left, which has no statistics; use 64x64 or more",
        )
    if (width // 4) >> (corr_levels - 1) < 1:
        raise UserError(
            f"a width of {width} is too small for model.corr_levels={corr_levels}",
            hint=f"use a width of at least {4 * 2 ** (corr_levels - 1)} or fewer levels",
        )


def legal_sizes(side: int) -> tuple[int, ...]:
    """The multiples of 32 around `side` (one, if it is legal), smallest first, none below 32."""
    below = max(STEP_PX, side // STEP_PX * STEP_PX)
    above = max(STEP_PX, -(-side // STEP_PX) * STEP_PX)
    return (below,) if below == above else (below, above)


def volume_memory_mib(height: int, width: int, max_disparity: int, *, batch: int = 1, training: bool = False) -> float:
    """Estimated memory of the float32 cost volumes in MiB, for a message about memory; features and updates come on top.

    For the nvlabs graph; in training the tao graph keeps about three times as much (its transformer sees the full volume).
    """
    points = batch * (max_disparity // 4) * (height // 4) * (width // 4)
    return (KEPT_VOLUMES if training else LIVE_VOLUMES) * VOLUME_CHANNELS * points * 4 / MIB


def _or(values: Sequence[int]) -> str:
    return " or ".join(str(value) for value in values)
