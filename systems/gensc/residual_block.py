"""The residual block. Both decoders, the source KB at the receiver, and segmentation's feature selection use it.

The paper says that a block has two convolutions and a shortcut (Sec. III-C). It names no norm and no activation, and
cites ResNet in ResNet (S. Targ et al., 2016), which has batch norm and ReLU. Here GroupNorm with 8 groups stands before
the first convolution, and SiLU before both. No activation follows the sum.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut. The shape stays.

    time_dim: width of an embedding of the noise level, which shifts each channel. 0: there is none, as in the paper.
    dilation: of the second convolution. 1: a plain convolution, as in the paper.
    """

    def __init__(self, channels: int, time_dim: int = 0, dilation: int = 1):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.time = nn.Linear(time_dim, channels) if time_dim else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """x (B, channels, h, w), time (B, time_dim) or None -> (B, channels, h, w)."""
        hidden = self.conv1(F.silu(self.norm(x)))
        if self.time is not None:
            hidden = hidden + self.time(time)[:, :, None, None]
        return x + self.conv2(F.silu(hidden))
