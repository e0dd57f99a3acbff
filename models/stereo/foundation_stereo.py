"""FoundationStereo: disparity of a rectified pair, in pixels.

Follows "FoundationStereo: Zero-Shot Stereo Matching" (arXiv 2501.09898) from its published shapes; the code is ours.
`variant` picks one of the two published graphs (models/stereo/variants.py).  State-dict names and shapes are the
published ones of that graph.

Shapes: B pairs, H W pixels (multiples of 32), h = H/4, w = W/4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models.stereo.context import ChannelAttention, ContextNetwork, SpatialAttention
from models.stereo.cost_volume import CONCAT_CHANNELS, VOLUME_CHANNELS, Classifier, VolumeStem, expected_disparity, groupwise_correlation
from models.stereo.features import Features
from models.stereo.geometry import GeometryLookup, lookup_channels
from models.stereo.hourglass import Hourglass
from models.stereo.layers import FeatureAttention
from models.stereo.limits import check_hidden, check_network, check_pair
from models.stereo.precision import fp32_island, reduced
from models.stereo.update import GruPlan, UpdateBlock
from models.stereo.upsampling import STEM_CHANNELS, MaskUpBlock, convex_upsample, left_stem, mask_to_scores
from models.stereo.variants import find_variant

# in the published files, and no output depends on them
IDLE = ("context_zqr_convs.", "cnet.down.", "cnet.norm.", "stem_4.")


class FoundationStereo(nn.Module):
    """`forward` gives the disparity of the left image, `unroll` every step on the way for training."""

    def __init__(
        self,
        *,
        encoder: str = "vits",
        variant: str = "nvlabs",
        max_disparity: int = 416,
        corr_levels: int = 2,
        corr_radius: int = 4,
        n_gru_layers: int = 3,
        hidden_dims: Sequence[int] = (128, 128, 128),
        train_iters: int = 22,
        valid_iters: int = 22,
        low_memory: bool = False,
        mixed_precision: bool = False,
        use_bn: bool = False,
        use_clstoken: bool = False,
        checkpoint_updates: bool = False,
    ) -> None:
        super().__init__()
        graph = find_variant(variant)
        check_network(encoder=encoder, max_disparity=max_disparity, corr_levels=corr_levels, corr_radius=corr_radius)
        hidden = check_hidden(hidden_dims, n_gru_layers)
        self.disparities = max_disparity // 4
        self.corr_levels, self.corr_radius = corr_levels, corr_radius
        self.train_iters, self.valid_iters = train_iters, valid_iters
        self.low_memory, self.mixed_precision, self.checkpoint_updates = low_memory, mixed_precision, checkpoint_updates
        feature = Features(encoder, use_bn=use_bn, use_clstoken=use_clstoken)
        norm, quarter = graph.attention_norm, feature.channels[0]
        side = feature.dino.depth_anything.side_channels
        self.cnet = ContextNetwork(hidden, side, scales=n_gru_layers, fusion_norm=norm)
        self.update_block = UpdateBlock(hidden, lookup_channels(corr_levels, corr_radius, VOLUME_CHANNELS), scales=n_gru_layers)
        self.sam = SpatialAttention()
        self.cam = ChannelAttention(hidden)
        self.context_zqr_convs = nn.ModuleList(nn.Conv2d(hidden, 3 * hidden, 3, padding=1) for _ in range(n_gru_layers))
        self.feature = feature
        self.proj_cmb = nn.Conv2d(quarter, CONCAT_CHANNELS, 1)
        self.stem_2 = left_stem(3, STEM_CHANNELS)
        self.stem_4 = left_stem(STEM_CHANNELS, 48)
        self.spx_2_gru = MaskUpBlock(transposed=graph.transposed_mask)
        self.spx_gru = mask_to_scores()
        self.corr_stem = VolumeStem(norm=norm)
        self.corr_feature_att = FeatureAttention(VOLUME_CHANNELS, quarter, norm=norm)
        self.cost_agg = Hourglass(VOLUME_CHANNELS, feature.channels, max_disparity=max_disparity, variant=graph)
        self.classifier = Classifier(norm=norm)

    def forward(self, left: Tensor, right: Tensor, iterations: int | None = None, initial: Tensor | None = None) -> Tensor:
        """(B, 1, H, W) float32, pixels, for two normalised images (B, 3, H, W); `valid_iters` updates unless said.

        `initial` (B, 1, h, w, quarter-resolution pixels) replaces the volume's own first estimate, as in a second run
        after one at half the size.  UserError for a size that the network cannot take.
        """
        check_pair(left, right, corr_levels=self.corr_levels)
        with reduced(left.device, wanted=self.mixed_precision):
            start = self._start(left, right, initial)
            disparity, hidden = start.disparity, start.hidden
            for _ in range(self.valid_iters if iterations is None else iterations):
                disparity, hidden = self._update(start, disparity.detach(), hidden)
            return self._upsample(start, disparity, hidden[0])

    def unroll(self, left: Tensor, right: Tensor, iterations: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """The volume's first estimate (B, 1, h, w; quarter-resolution pixels) and every update's map (B, 1, H, W; pixels).

        For training; `train_iters` updates unless said.  Each update starts from a detached disparity.
        """
        check_pair(left, right, corr_levels=self.corr_levels)
        with reduced(left.device, wanted=self.mixed_precision):
            start = self._start(left, right, None)
            disparity, hidden = start.disparity, start.hidden
            maps = []
            for _ in range(self.train_iters if iterations is None else iterations):
                disparity, upsampled, *hidden = self._training_step(start, disparity.detach(), hidden)
                maps.append(upsampled)
            return start.disparity, maps

    def blocks(self) -> list[nn.Module]:
        """The parts that ranks which share the weights gather one at a time; none that refinements need, which are the rest."""
        return [*self.feature.dino.depth_anything.blocks(), *self.feature.stages, self.cost_agg, self.cnet]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles in place, with the arguments of torch.compile: the start, one update, and the upsampling at the end.

        As one piece every update would be compiled again, which takes minutes each and makes nothing faster.
        """
        for part in ("_start", "_update", "_upsample"):
            setattr(self, part, torch.compile(getattr(self, part), *args, **kwargs))

    def unused_parameters(self) -> frozenset[str]:
        """Names of trainable parameters that the published files hold and no output depends on.

        They never receive a gradient: distributed training must not wait for one.
        """
        return frozenset(name for name, value in self.named_parameters() if value.requires_grad and name.startswith(IDLE))

    def _start(self, left: Tensor, right: Tensor, initial: Tensor | None) -> _Start:
        pairs = left.shape[0]
        pyramid, side = self.feature.pyramid(torch.cat((left, right)))
        lefts, right_quarter = [level[:pairs] for level in pyramid], pyramid[0][pairs:]
        volume = self._volume(lefts, right_quarter)
        disparity = expected_disparity(self.classifier(volume)) if initial is None else initial.float()
        lookup = GeometryLookup(
            volume, lefts[0], right_quarter, levels=self.corr_levels, radius=self.corr_radius, low_memory=self.low_memory
        )
        hidden, plans = self._context(left, side[:pairs])
        return _Start(disparity=disparity, hidden=hidden, plans=plans, lookup=lookup, stem=self.stem_2(left))

    def _volume(self, lefts: list[Tensor], right_quarter: Tensor) -> Tensor:
        correlation = groupwise_correlation(lefts[0], right_quarter, self.disparities)
        volume = self.corr_stem(correlation, self.proj_cmb(lefts[0]), self.proj_cmb(right_quarter))
        volume = self.corr_feature_att(volume, lefts[0])
        out: Tensor = self.cost_agg(volume, lefts)
        return out

    def _context(self, left: Tensor, side: Tensor) -> tuple[list[Tensor], list[GruPlan]]:
        maps = self.cnet(left, side)
        hidden = [torch.tanh(first) for first, _ in maps]
        contexts = [F.relu(second) for _, second in maps]
        contexts = [self.cam(context) * context for context in contexts]
        return hidden, self.update_block.plan(contexts, [self.sam(context) for context in contexts])

    def _update(self, start: _Start, disparity: Tensor, hidden: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        states = self.update_block(hidden, start.plans, disparity, start.lookup(disparity))
        delta: Tensor = self.update_block.disp_head(states[0])
        return disparity + delta.float(), states

    def _training_step(self, start: _Start, disparity: Tensor, hidden: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(disparity, upsampled map, *hidden states); with `checkpoint_updates` only its inputs are kept for backward."""

        def step(disparity: Tensor, *hidden: Tensor) -> tuple[Tensor, ...]:
            moved, states = self._update(start, disparity, hidden)
            return moved, self._upsample(start, moved, states[0]), *states

        if self.checkpoint_updates and torch.is_grad_enabled():
            out: tuple[Tensor, ...] = checkpoint(step, disparity, *hidden, use_reentrant=False, preserve_rng_state=False)
            return out
        return step(disparity, *hidden)

    def _upsample(self, start: _Start, disparity: Tensor, hidden: Tensor) -> Tensor:
        scores = self.spx_gru(self.spx_2_gru(self.update_block.mask_features(hidden), start.stem))
        with fp32_island(disparity.device):
            return convex_upsample(disparity, scores)


@dataclass(frozen=True, kw_only=True)
class _Start:
    """All that one pair gives to its updates."""

    disparity: Tensor
    hidden: list[Tensor]
    plans: list[GruPlan]
    lookup: GeometryLookup
    stem: Tensor
