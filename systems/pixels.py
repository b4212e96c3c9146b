"""The one rule that turns images in [0, 1] into 8-bit pixels. Metrics, digital links and training all round by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1], or already uint8, any shape -> uint8: clamped, times 255, rounded. ValueError for NaN, inf."""
    import torch

    if images.dtype == torch.uint8:
        return images
    if not bool(torch.isfinite(images).all()):
        raise ValueError("a picture holds values that are not finite")
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
