"""The JSCC decoder for segmentation (Sec. IV-B): two residual blocks, upsampling, 1 x 1 convolution to 21 class logits.

`systems.gensc.system` calls it. The paper gives no widths. Table I gives one convolution of kernel 3, dropout 0.1 and
21 classes. Sec. IV-B gives two residual blocks. Their convolutions cannot be among the one of Table I. Here Table I's
convolution is the one after the first upsampling (`refine`). The blocks have two of kernel 3 each
(`systems.gensc.residual_block`).

Size `paper` fills the gaps of the paper, or differs from it, in these points:
- A 1 x 1 convolution joins y and f~ and brings them to `segmentation_hidden` channels. The paper names f~ alone as the
  input of the blocks, and both as the input of the decoder.
- The upsampling has two steps: a 1 x 1 convolution with pixel shuffle by 2, which leaves half of the channels, and a
  bilinear one by 8.
- SiLU precedes and follows the convolution at 1/8 of the size (`refine`). There is no norm outside the blocks.
- Dropout stands before the last 1 x 1 convolution. The paper does not say where it stands.
- The last 1 x 1 convolution comes before the bilinear upsampling. The order does not change the result, and there are
  fewer logits than features to upsample.

The class of a pixel depends on more than its near surroundings. Therefore, in our sizes, the second convolutions of
both blocks are dilated (`segmentation_dilations`), and with `segmentation_context` the mean of the whole map enters the
second block in the same way as the time. The size `paper` has neither.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.residual_block import ResidualBlock
from systems.interface import NUM_CLASSES


class SegmentationDecoder(nn.Module):
    """Received symbols y and features f~, at 1/16 of the picture's size -> class logits."""

    def __init__(self, config: GenSCConfig):
        super().__init__()
        time_dim = config.time_dim if config.noise_in_residuals else 0
        inputs = config.channels + (config.receiver_hidden if config.receiver_kb else 0)
        hidden = config.segmentation_hidden
        self.project = nn.Conv2d(inputs, hidden, 1)
        near, far = config.segmentation_dilations
        self.block1 = ResidualBlock(hidden, time_dim, near)
        self.context = nn.Linear(hidden, config.time_dim) if config.segmentation_context else None
        self.block2 = ResidualBlock(hidden, time_dim, far)
        self.up = nn.Conv2d(hidden, 2 * hidden, 1)
        self.refine = nn.Conv2d(hidden // 2, hidden // 2, 3, padding=1)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Conv2d(hidden // 2, NUM_CLASSES, 1)

    def forward(self, received: Tensor, feature: Tensor | None, time: Tensor, size: tuple[int, int]) -> Tensor:
        """Class logits (B, 21, 16h, 16w).

        received: (B, C, h, w).
        feature: (B, F, h, w), or None.
        time: (B, time_dim).
        size: (16h, 16w).
        """
        x = self.project(received if feature is None else torch.cat([received, feature], dim=1))
        x = self.block1(x, time)
        x = self.block2(x, time if self.context is None else time + self.context(x.mean(dim=(2, 3))))
        x = F.silu(self.refine(F.silu(F.pixel_shuffle(self.up(x), 2))))
        logits = self.classify(self.dropout(x)).float()
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)
