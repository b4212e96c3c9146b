"""Source KB at the receiver (Sec. III-C, Fig. 3): two residual blocks on the received signal, and selection by the task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, with the noise level entering as a shift per channel; shape kept."""

    def __init__(self, channels: int, time_dim: int = 0):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(time_dim, channels) if time_dim else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        hidden = self.conv1(F.silu(self.norm(x)))
        if self.time is not None:
            hidden = hidden + self.time(time)[:, :, None, None]
        return x + self.conv2(F.silu(hidden))


class SourceKBRx(nn.Module):
    """Received features (B, channels, h, w) -> f~: both blocks' features for reconstruction, the first's for segmentation."""

    def __init__(self, channels: int, hidden: int, time_dim: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, hidden, 3, padding=1)
        self.block1 = ResidualBlock(hidden, time_dim)
        self.block2 = ResidualBlock(hidden, time_dim)

    def forward(self, received: Tensor, time: Tensor, task: str) -> Tensor:
        """(B, 2 hidden, h, w) for reconstruction, (B, hidden, h, w) for segmentation."""
        first = self.block1(self.stem(received), time)
        if task == "segmentation":
            return first
        return torch.cat([first, self.block2(first, time)], dim=1)
