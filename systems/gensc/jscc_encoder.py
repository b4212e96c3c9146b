"""The unified JSCC encoder (Sec. IV-A): concat(image, f) -> residual block -> strided downsampling -> x.

The linear path (the block-KLT code) runs beside the three convolutions of Table I, as the shortcut of a residual block with
stride does, and they add to it: the network starts as the best linear code instead of as noise. For segmentation, which
does not want the picture, the shortcut enters weakly. Gains share the power: one per channel, task and SNR, and one per
block (`local_gain`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.local_gain import GAIN_LIMIT, activity, bounded, per_channel
from systems.interface import TASKS
from systems.klt import BlockKLT
from systems.linear_path import BLOCK, LinearPath, contrast

ACTIVITY_EXPONENT = 0.125  # s^(-1/4) for deviation s, half of the best with a receiver that knows s


class JSCCEncoder(nn.Module):
    """Images (B, 3, H, W), f (B, F, H/g, W/g), SNR (B,) -> maps and their gain, (B, channels, H/16, W/16); sides divide by 16.

    Maps are in units of each coefficient's deviation and of the picture's contrast, as `LinearPath.send` takes them.
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.grid, hidden = config.encoder_grid, config.encoder_hidden
        self.sees_snr, self.local = config.encoder_sees_snr, config.local_gain
        stride = BLOCK // self.grid
        self.conv1 = nn.Conv2d(3 * self.grid**2 + config.feature_dim, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.down = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1)
        # What the convolutions give is all of segmentation's signal and a small part of reconstruction's: without a scale of
        # its own each task would fight the other's.
        self.scale = nn.Parameter(torch.tensor([0.1, 1.0])[:, None].repeat(1, config.channels))
        self.shortcut_scale = nn.Parameter(torch.full((config.channels,), 0.03))
        self.log_gain = nn.Parameter(torch.zeros(len(TASKS), config.channels))
        self.power_allocation = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, len(TASKS) * config.channels))
        self.exponent = nn.Parameter(torch.full((config.channels,), ACTIVITY_EXPONENT)) if self.local else None
        self.local_gain = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1) if self.local else None
        for layer in (self.power_allocation[-1], *([self.local_gain] if self.local else [])):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def start_from_klt(self, klt: BlockKLT) -> None:
        """The KLT's power allocation for reconstruction, equal power of all channels for segmentation."""
        count = self.log_gain.shape[1]
        with torch.no_grad():
            self.log_gain[TASKS.index("reconstruction")] = klt.amplitudes(count).log()
            self.log_gain[TASKS.index("segmentation")] = -klt.eigenvalues[:count].log() / 2

    def gain(self, task: str, snr_db: Tensor) -> Tensor:
        """Logarithm of each channel's amplitude, (B, channels), a function of what both ends know."""
        index = TASKS.index(task)
        gain = self.log_gain[index].float().expand(len(snr_db), -1)
        if self.sees_snr:
            level = snr_db[:, None] / 10 - 1
            allocation = self.power_allocation(torch.cat([level, level.square()], dim=1)).float()
            gain = gain + allocation.unflatten(1, (len(TASKS), -1))[:, index]
        return gain

    def forward(self, images: Tensor, feature: Tensor, path: LinearPath, task: str, snr_db: Tensor) -> tuple[Tensor, Tensor]:
        unit = contrast(images)
        x = torch.cat([F.pixel_unshuffle((images - images.mean(dim=(1, 2, 3), keepdim=True)) / unit, self.grid), feature], dim=1)
        hidden = F.silu(self.conv1(x))
        hidden = F.silu(hidden + self.conv2(F.silu(hidden)))
        linear = path.analyse(images)
        reconstruct = task == "reconstruction"
        shortcut = linear if reconstruct else linear * self.shortcut_scale[:, None, None]
        maps = shortcut + self.down(hidden).float() * self.scale[TASKS.index(task)][:, None, None]
        gain = self.gain(task, snr_db)[:, :, None, None]
        if self.local and reconstruct:  # for segmentation the convolutions alone decide what each block sends
            bands = activity(linear * path.unit(unit), path)
            gain = gain + bounded(self.local_gain(hidden).float(), GAIN_LIMIT)
            gain = gain - self.exponent[:, None, None] * per_channel(bands, linear.shape[1])
        return maps, gain.exp()
