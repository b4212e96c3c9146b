"""Padding of pictures, until the steps of a network divide their sides. All learned and linear systems call it."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Extend (B, C, H, W) on the right and below, by repeating the edge, until `multiple` divides both sides."""
    height, width = images.shape[-2:]
    right, below = (-width) % multiple, (-height) % multiple
    return F.pad(images, (0, right, 0, below), mode="replicate") if right or below else images


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Height and width after `pad_to_multiple`."""
    return math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple
