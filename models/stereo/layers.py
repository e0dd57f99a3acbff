"""Convolution blocks of FoundationStereo, with the quick exact forms of its two slow 3-D convolutions.

Follows "FoundationStereo: Zero-Shot Stereo Matching" (arXiv 2501.09898); residual blocks as in "Deep Residual
Learning" (arXiv 1512.03385).  Attribute names are those of the published state dicts, also where they stretch the
truth (`bn` may hold an instance norm that has no parameters).

Shapes: B pairs, C channels, D disparities, H W rows and columns of the map at hand.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "instance", "none"]
LEAK = 0.01  # slope of every leaky ReLU of the published network
DISPARITY_KERNEL = 17  # reach of the axial convolution along the disparity axis

_CONVOLUTIONS: dict[tuple[int, bool], type[nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d]] = {
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}


def norm_layer(norm: Norm, channels: int, dims: int) -> nn.Module:
    """Batch norm, instance norm without parameters, or nothing, for maps with `dims` (2 or 3) spatial axes."""
    match norm, dims:
        case "batch", 2:
            return nn.BatchNorm2d(channels)
        case "batch", _:
            return nn.BatchNorm3d(channels)
        case "instance", 2:
            return nn.InstanceNorm2d(channels)
        case "instance", _:
            return nn.InstanceNorm3d(channels)
        case _:
            return nn.Identity()


class ConvNorm(nn.Module):
    """Convolution without bias, norm, leaky ReLU; 2-D or 3-D, plain or transposed."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dims: int = 2,
        stride: int = 1,
        norm: Norm = "batch",
        transposed: bool = False,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.bn = norm_layer(norm, outputs, dims)
        padding = 1 if transposed and stride == 2 else kernel // 2
        self.conv = _CONVOLUTIONS[dims, transposed](inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Same size as given; halved with stride 2, doubled when transposed with stride 2."""
        x = self.bn(self.conv(x))
        return F.leaky_relu(x, LEAK) if self.activation else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, ReLU at the end.

    The shortcut's norm is listed twice in the published state dict (`norm3`, `downsample.1`): one module, two names.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1 = norm_layer(norm, outputs, 2)
        self.norm2 = norm_layer(norm, outputs, 2)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.norm3 = norm_layer(norm, outputs, 2)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride), self.norm3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        if self.downsample is not None:
            x = self.downsample(x)
        return F.relu(x + y)


class BasicBlock(nn.Module):
    """Two convolutions of kernel 3 without bias around an identity shortcut; 2-D or 3-D.

    Unlike `ResidualBlock` it has no ReLU in front of the sum.
    """

    def __init__(self, channels: int, *, dims: int, norm: Norm) -> None:
        super().__init__()
        convolution = _CONVOLUTIONS[dims, False]
        self.conv1 = convolution(channels, channels, 3, padding=1, bias=False)
        self.bn1 = norm_layer(norm, channels, dims)
        self.conv2 = convolution(channels, channels, 3, padding=1, bias=False)
        self.bn2 = norm_layer(norm, channels, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as given."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class DisparityConv3d(nn.Conv3d):
    """A (k, 1, 1) convolution, computed as a 2-D one over (D, H*W): several times quicker, same numbers."""

    def __init__(self, channels: int, kernel: int = DISPARITY_KERNEL) -> None:
        super().__init__(channels, channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0))

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Same shape as given."""
        size = [int(side) for side in x_BCDHW.shape[-2:]]
        flat = F.conv2d(x_BCDHW.flatten(3), self.weight[..., 0], self.bias, padding=(self.kernel_size[0] // 2, 0))
        return torch.unflatten(flat, 3, size)


class AxialPlanarConv(nn.Module):
    """A planar (1, 3, 3) convolution, then an axial one along disparity, each with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        planar = nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1))
        self.conv1 = nn.Sequential(planar, nn.BatchNorm3d(channels), nn.ReLU())
        self.conv2 = nn.Sequential(DisparityConv3d(channels), nn.BatchNorm3d(channels), nn.ReLU())

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Same shape as given."""
        out: Tensor = self.conv2(self.conv1(x_BCDHW))
        return out


class OneChannelConv3d(nn.Conv3d):
    """A k x k x k convolution to one channel: k outputs of a 2-D convolution per disparity, then shifted sums.

    A 3-D kernel with one output wastes almost the whole vector width; this form is several times quicker.
    """

    def __init__(self, inputs: int, kernel: int) -> None:
        super().__init__(inputs, 1, kernel, padding=kernel // 2)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, 1, D, H, W)."""
        kernel, reach, disparities = self.kernel_size[0], self.kernel_size[0] // 2, int(x_BCDHW.shape[2])
        slices = x_BCDHW.transpose(1, 2).flatten(0, 1)
        parts = F.conv2d(slices, self.weight[0].transpose(0, 1), padding=reach)  # one channel for each depth of the kernel
        parts = F.pad(torch.unflatten(parts, 0, (-1, disparities)), (0, 0, 0, 0, 0, 0, reach, reach))
        out = parts[:, 0:disparities, 0]
        for depth in range(1, kernel):
            out = out + parts[:, depth : depth + disparities, depth]
        return out[:, None] if self.bias is None else out[:, None] + self.bias


class FeatureAttention(nn.Module):
    """A cost volume weighted per channel and pixel by what the left image shows there."""

    def __init__(self, volume_channels: int, feature_channels: int, *, norm: Norm) -> None:
        super().__init__()
        half = feature_channels // 2
        self.feat_att = nn.Sequential(ConvNorm(feature_channels, half, 1, norm=norm), nn.Conv2d(half, volume_channels, 1))

    def forward(self, volume_BCDHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """The volume, same shape; both maps have the same H and W."""
        weights = torch.sigmoid(self.feat_att(feature_BCHW))
        return weights[:, :, None] * volume_BCDHW
