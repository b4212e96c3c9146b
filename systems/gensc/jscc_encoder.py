"""The unified JSCC encoder (Sec. IV-A): concat(image, f) -> residual block -> strided downsampling -> x.

A linear shortcut (one strided convolution, started at the block-KLT code) runs beside the three convolutions of Table I,
as the shortcut of a residual block with stride does: the network starts as the best linear code instead of as noise.
Gains per channel, task and SNR decide how the power is shared; they start at the KLT's lambda^(-1/4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.interface import TASKS

BLOCK = 16
LEAST_CONTRAST = 0.02  # standard deviation of a picture below which it counts as flat


class JSCCEncoder(nn.Module):
    """Images (B, 3, H, W), f (B, F, H/g, W/g), gain (B, channels) -> symbol features (B, channels, H/16, W/16); sides divide by 16."""

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.grid, hidden = config.encoder_grid, config.encoder_hidden
        self.sees_snr = config.encoder_sees_snr
        self.conv1 = nn.Conv2d(3 * self.grid**2 + config.feature_dim, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.down = nn.Conv2d(hidden, config.channels, 3, stride=BLOCK // self.grid, padding=1)
        self.shortcut = nn.Conv2d(3, config.channels, BLOCK, stride=BLOCK)
        # What the convolutions add is measured in the channel's own deviation and the picture's own contrast, so that a weak
        # channel or a flat picture is not drowned by the first steps of training.
        self.register_buffer("deviation", torch.ones(config.channels))
        self.log_gain = nn.Parameter(torch.zeros(len(TASKS), config.channels))
        self.power_allocation = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, len(TASKS) * config.channels))
        for layer in (self.down, self.power_allocation[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def gain(self, task: str, snr_db: Tensor) -> Tensor:
        """Amplitude of each channel, (B, channels), a function of what both ends know."""
        index = TASKS.index(task)
        gain = self.log_gain[index].float().expand(len(snr_db), -1)
        if self.sees_snr:
            level = snr_db[:, None] / 10 - 1
            allocation = self.power_allocation(torch.cat([level, level.square()], dim=1)).float()
            gain = gain + allocation.unflatten(1, (len(TASKS), -1))[:, index]
        return gain.exp()

    def forward(self, images: Tensor, feature: Tensor, gain: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        contrast = images.std(dim=(1, 2, 3), keepdim=True).clamp_min(LEAST_CONTRAST)
        x = torch.cat([F.pixel_unshuffle((images - mean) / contrast, self.grid), feature], dim=1)
        hidden = F.silu(self.conv1(x))
        hidden = hidden + self.conv2(F.silu(hidden))
        added = self.down(F.silu(hidden)).float() * contrast * self.deviation[:, None, None]
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 keeps 8 bits; weak coefficients need more
            symbols = self.shortcut(images.float()) + added
        return symbols * gain[:, :, None, None]
