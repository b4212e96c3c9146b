"""The one rule that turns pictures in [0, 1] into 8-bit pixels. Metrics, tasks and digital systems use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Pictures in [0, 1] of any shape -> uint8 of the same shape: clamped, times 255, rounded.

    Pictures that are uint8 already are returned as they are. Raises ValueError for NaN and infinity.
    """
    import torch

    if images.dtype == torch.uint8:
        return images
    if not bool(torch.isfinite(images).all()):
        raise ValueError("a picture holds NaN or infinity; its values must be finite, in [0, 1]")
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
