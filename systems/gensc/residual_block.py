"""The residual block of both decoders, of the source KB at the receiver, and of segmentation's feature selection."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; shape kept.

    time_dim: width of an embedding of the noise level, which enters as a shift per channel; 0: none, as in the paper.
    dilation: of the second convolution (atrous); 1 is the paper's plain one.
    """

    def __init__(self, channels: int, time_dim: int = 0, dilation: int = 1):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.time = nn.Linear(time_dim, channels) if time_dim else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, channels, h, w), time (B, time_dim) -> (B, channels, h, w)."""
        hidden = self.conv1(F.silu(self.norm(x)))
        if self.time is not None:
            hidden = hidden + self.time(time)[:, :, None, None]
        return x + self.conv2(F.silu(hidden))
