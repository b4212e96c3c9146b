"""The unified JSCC encoder (Sec. IV-A): concat(image, f) -> residual block -> strided downsampling -> x.

The shortcut of a residual block with stride is a linear map of what enters, here of the picture and f, and the three
convolutions of Table I add to it. For reconstruction it is the block-KLT code, the best linear map of the picture: the
network starts there instead of at noise. For segmentation, which wants meaning and not the picture, it is a projection
of f, and the picture enters weakly: at full strength f drowns in it. Both tasks go through the same convolutions; each
weighs them by an affine of its own (`TaskShare`). Gains share the power: one per channel, task and SNR, and one per
block (`local_gain`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.local_gain import GAIN_LIMIT, activity, bounded, per_channel
from systems.interface import TASKS
from systems.layers.klt import BlockKLT
from systems.layers.linear_path import BLOCK, LinearPath, contrast

ACTIVITY_EXPONENT = 0.125  # s^(-1/4) for deviation s, half of the best with a receiver that knows s


class TaskShare(nn.Module):
    """What belongs to one task alone: how it weighs the shared convolutions, and the power of its channels."""

    def __init__(self, config: GenSCConfig, task: str):
        super().__init__()
        channels, hidden = config.channels, config.encoder_hidden
        self.sees_snr = config.encoder_sees_snr
        reconstruct = task == "reconstruction"
        self.picture = None if reconstruct else nn.Parameter(torch.tensor(0.1))
        self.shortcut = None if reconstruct else nn.Parameter(torch.full((channels,), 0.03))
        self.project = None if reconstruct else nn.Conv2d(config.feature_dim, channels, 1)
        self.weight = nn.Parameter(torch.ones(2, hidden))
        self.bias = nn.Parameter(torch.zeros(2, hidden))
        # What the convolutions give is all of segmentation's signal and a small part of reconstruction's.
        self.scale = nn.Parameter(torch.full((channels,), 0.1 if reconstruct else 1.0))
        self.log_gain = nn.Parameter(torch.zeros(channels))
        self.power_allocation = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, channels))
        nn.init.zeros_(self.power_allocation[-1].weight)
        nn.init.zeros_(self.power_allocation[-1].bias)

    def affine(self, x: Tensor, layer: int) -> Tensor:
        """A scale and a shift per channel before the activation of the first or second convolution, (B, hidden, h,
        w)."""
        return x * self.weight[layer, :, None, None] + self.bias[layer, :, None, None]

    def gain(self, snr_db: Tensor) -> Tensor:
        """Logarithm of each channel's amplitude, (B, channels), a function of what both ends know."""
        gain = self.log_gain.float().expand(len(snr_db), -1)
        if self.sees_snr:
            level = snr_db[:, None] / 10 - 1
            gain = gain + self.power_allocation(torch.cat([level, level.square()], dim=1)).float()
        return gain


class JSCCEncoder(nn.Module):
    """Images (B, 3, H, W), f (B, F, H/g, W/g) -> maps (B, channels, H/16, W/16) and the logarithm of each block's gain
    beside its channel's, of the same shape, or a zero that broadcasts where blocks have none; sides divide by 16.
    Neither depends on the SNR, which decides the channels' gains alone (`gain`).

    Maps are in units of each coefficient's deviation and of the picture's contrast, as `LinearPath.send` takes them.
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.grid, hidden = config.encoder_grid, config.encoder_hidden
        self.local = config.local_gain
        stride = BLOCK // self.grid
        self.conv1 = nn.Conv2d(3 * self.grid**2 + config.feature_dim, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.down = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1)
        self.share = nn.ModuleDict({task: TaskShare(config, task) for task in TASKS})
        self.exponent = nn.Parameter(torch.full((config.channels,), ACTIVITY_EXPONENT)) if self.local else None
        self.local_gain = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1) if self.local else None
        if self.local:
            nn.init.zeros_(self.local_gain.weight)
            nn.init.zeros_(self.local_gain.bias)

    def start_from_klt(self, klt: BlockKLT) -> None:
        """The KLT's power allocation for reconstruction, equal power of all channels for segmentation."""
        count = len(self.share["reconstruction"].log_gain)
        with torch.no_grad():
            self.share["reconstruction"].log_gain.copy_(klt.amplitudes(count).log())
            self.share["segmentation"].log_gain.copy_(-klt.eigenvalues[:count].log() / 2)

    def gain(self, task: str, snr_db: Tensor) -> Tensor:
        """Logarithm of each channel's amplitude, (B, channels), a function of what both ends know."""
        return self.share[task].gain(snr_db)

    def forward(self, images: Tensor, feature: Tensor, path: LinearPath, task: str) -> tuple[Tensor, Tensor]:
        unit, share = contrast(images), self.share[task]
        picture = F.pixel_unshuffle((images - images.mean(dim=(1, 2, 3), keepdim=True)) / unit, self.grid)
        picture = picture if share.picture is None else picture * share.picture
        hidden = F.silu(share.affine(self.conv1(torch.cat([picture, feature], dim=1)), 0))
        hidden = F.silu(hidden + share.affine(self.conv2(F.silu(hidden)), 1))
        linear = path.analyse(images)
        if task == "reconstruction":
            shortcut = linear
        else:
            pooled = F.avg_pool2d(feature, BLOCK // self.grid)
            shortcut = share.project(pooled).float() + linear * share.shortcut[:, None, None]
        maps = shortcut + self.down(hidden).float() * share.scale[:, None, None]
        local = maps.new_zeros(1, 1, 1, 1)
        if (
            self.local and task == "reconstruction"
        ):  # for segmentation the convolutions alone decide what each block sends
            bands = activity(linear * path.unit(unit), path)
            local = bounded(self.local_gain(hidden).float(), GAIN_LIMIT)
            local = local - self.exponent[:, None, None] * per_channel(bands, linear.shape[1])
        return maps, local
