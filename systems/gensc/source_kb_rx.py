"""Source KB at the receiver (Sec. III-C, Fig. 3): two residual blocks on the received signal, and selection by the
task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.gensc.residual_block import ResidualBlock


class SourceKBRx(nn.Module):
    """Received features -> f~: both blocks' features for reconstruction, the first's for segmentation.

    time_dim: width of the noise level's embedding, which then shifts the blocks; 0: they do not see it.
    """

    def __init__(self, channels: int, hidden: int, time_dim: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, hidden, 3, padding=1)
        self.block1 = ResidualBlock(hidden, time_dim)
        self.block2 = ResidualBlock(hidden, time_dim)

    def forward(self, received: Tensor, time: Tensor, task: str) -> Tensor:
        """received (B, channels, h, w), time (B, time_dim) -> (B, 2 hidden, h, w) for reconstruction, (B, hidden, h, w)
        for segmentation."""
        first = self.block1(self.stem(received), time)
        if task == "segmentation":
            return first
        return torch.cat([first, self.block2(first, time)], dim=1)
