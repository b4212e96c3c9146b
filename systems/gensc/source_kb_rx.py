"""The source KB at the receiver (Sec. III-C, Fig. 3): two residual blocks on the received signal.

The task selects the features. `systems.gensc.system` calls it, and gives its result to the decoders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.gensc.residual_block import ResidualBlock


class SourceKBRx(nn.Module):
    """Received symbols -> f~: for reconstruction the features of both blocks, for segmentation those of the first.

    time_dim: width of the embedding of the noise level, which then shifts the blocks. 0: the blocks do not see it.
    """

    def __init__(self, channels: int, hidden: int, time_dim: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, hidden, 3, padding=1)
        self.block1 = ResidualBlock(hidden, time_dim)
        self.block2 = ResidualBlock(hidden, time_dim)

    def forward(self, received: Tensor, time: Tensor, task: str) -> Tensor:
        """f~: (B, 2 hidden, h, w) for reconstruction, (B, hidden, h, w) for segmentation.

        received: (B, channels, h, w).
        time: (B, time_dim).
        """
        first = self.block1(self.stem(received), time)
        if task == "segmentation":
            return first
        return torch.cat([first, self.block2(first, time)], dim=1)
