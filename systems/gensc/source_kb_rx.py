"""The source KB at the receiver (Sec. III-C, Fig. 3): two residual blocks on the received signal.

The task selects the features. `systems.gensc.system` calls it, and gives its result to the decoders.

Table I gives three convolutions of kernel 3 and no width. Sec. III-C gives two residual blocks of two convolutions
each. These numbers contradict each other. Here Sec. III-C holds, and a convolution before the blocks (the stem) brings
the symbols to `receiver_hidden` channels. So there are five convolutions, all of kernel 3. Table I is read as three
parts: the stem and two blocks.

Size `paper` fills the gaps of the paper, or differs from it, also in these points:
- The stem has neither norm nor activation. Those of the blocks are in `systems.gensc.residual_block`.
- The input is the equalised signal, scaled to unit variance per real value without noise, not y itself.
- For reconstruction the features of both blocks are combined by concatenation.
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
