"""How a picture in 0..255 becomes the input of every network here.

Mean and standard deviation are those of the ImageNet training images, the convention of all three published
checkpoints (DINOv2, EdgeNeXt, FoundationStereo).  This is the one place that holds them.
"""

from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(image_B3HW: Tensor) -> Tensor:
    """`(x / 255 - mean) / std` per channel, float32, for RGB in 0..255 of any leading shape (..., 3, H, W)."""
    mean = torch.tensor(IMAGENET_MEAN, device=image_B3HW.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image_B3HW.device).view(3, 1, 1)
    return (image_B3HW.float() / 255.0 - mean) / std
