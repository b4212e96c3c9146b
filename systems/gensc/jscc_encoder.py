"""The unified JSCC encoder (Sec. IV-A): concat(image, f) -> residual block -> strided downsampling -> x.

Table I: three convolutions of kernel 3 and hidden dimension 128: one brings image and f together, one is the residual
block's, one has the stride. Both tasks go through the same three.

What our sizes switch on, and `paper` does not have:
- `linear_path`: the shortcut around the convolutions is the block-KLT code, the best linear map of the picture, so that
  training starts there instead of at noise. For segmentation, which wants meaning and not the picture, the shortcut is
  a projection of f, and the picture enters weakly: at full strength f drowns in it.
- `task_share`: each task weighs the convolutions by an affine of its own, and gives each channel a gain.
- `local_gain`: one gain per block beside the channel's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.local_gain import GAIN_LIMIT, activity, bounded, per_channel
from systems.interface import TASKS
from systems.layers.klt import BlockKLT
from systems.layers.linear_path import BLOCK, LinearPath, start_from_zero

ACTIVITY_EXPONENT = 0.125  # s^(-1/4) for deviation s, half of the best with a receiver that knows s


class TaskShare(nn.Module):
    """What belongs to one task alone: how it weighs the shared convolutions, and the power of its channels."""

    def __init__(self, config: GenSCConfig, task: str):
        super().__init__()
        channels, hidden = config.channels, config.encoder_hidden
        self.sees_snr = config.encoder_sees_snr
        reconstruct = task == "reconstruction"
        beside = config.linear_path and not reconstruct
        self.picture = nn.Parameter(torch.tensor(0.1)) if not reconstruct else None
        self.shortcut = nn.Parameter(torch.full((channels,), 0.03)) if beside else None
        self.project = nn.Conv2d(config.feature_dim, channels, 1) if beside else None
        self.weight = nn.Parameter(torch.ones(2, hidden))
        self.bias = nn.Parameter(torch.zeros(2, hidden))
        # What the convolutions give is all of segmentation's signal and a small part of reconstruction's.
        self.scale = nn.Parameter(torch.full((channels,), 0.1 if reconstruct and config.linear_path else 1.0))
        self.log_gain = nn.Parameter(torch.zeros(channels))
        self.power_allocation = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, channels))
        start_from_zero(self.power_allocation[-1])

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
    """Images and the source KB's feature -> symbol maps; sides of the images divide by 16.

    None of it depends on the SNR, which decides the channels' gains alone (`gain`). With a linear path maps are in
    units of each coefficient's deviation and of the picture's contrast, as `LinearPath.send` takes them.
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.grid, hidden = config.encoder_grid, config.encoder_hidden
        stride = BLOCK // self.grid
        self.conv1 = nn.Conv2d(3 * self.grid**2 + config.feature_dim, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.down = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1)
        self.share = nn.ModuleDict({task: TaskShare(config, task) for task in TASKS} if config.task_share else {})
        self.exponent: nn.Parameter | None = None
        self.local_gain: nn.Conv2d | None = None
        if config.local_gain:
            self.exponent = nn.Parameter(torch.full((config.channels,), ACTIVITY_EXPONENT))
            self.local_gain = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1)
            start_from_zero(self.local_gain)

    def of(self, task: str) -> TaskShare | None:
        """What the task has to itself; None without `task_share`."""
        return self.share[task] if self.share else None  # type: ignore[return-value]

    def start_from_klt(self, klt: BlockKLT) -> None:
        """The KLT's power allocation for reconstruction, equal power of all channels for segmentation."""
        reconstruction, segmentation = self.of("reconstruction"), self.of("segmentation")
        if reconstruction is None or segmentation is None:
            return
        count = len(reconstruction.log_gain)
        with torch.no_grad():
            reconstruction.log_gain.copy_(klt.amplitudes(count).log())
            segmentation.log_gain.copy_(-klt.eigenvalues[:count].log() / 2)

    def gain(self, task: str, snr_db: Tensor) -> Tensor:
        """Logarithm of each channel's amplitude, (B, channels), a function of what both ends know: task and SNR in dB
        (B,). Without `task_share` it is 0."""
        share = self.of(task)
        return snr_db.new_zeros(len(snr_db), self.down.out_channels) if share is None else share.gain(snr_db)

    def forward(self, images: Tensor, feature: Tensor, path: LinearPath | None, task: str) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W) in [0, 1], feature (B, F, H/g, W/g) -> maps (B, channels, H/16, W/16), and the logarithm
        of each block's gain beside its channel's, of the same shape, or a zero that broadcasts where blocks have none.
        """
        share = self.of(task)
        if path is None:
            picture = 2 * images - 1
        else:
            picture = (images - images.mean(dim=(1, 2, 3), keepdim=True)) / path.contrast(images)
        picture = F.pixel_unshuffle(picture, self.grid)
        if share is not None and share.picture is not None:
            picture = picture * share.picture
        hidden = self.conv1(torch.cat([picture, feature], dim=1))
        hidden = F.silu(hidden if share is None else share.affine(hidden, 0))
        added = self.conv2(F.silu(hidden))
        hidden = F.silu(hidden + (added if share is None else share.affine(added, 1)))
        maps = self.down(hidden).float()
        if share is not None:
            maps = maps * share.scale[:, None, None]
        none = maps.new_zeros(1, 1, 1, 1)
        if path is None:
            return maps, none
        linear = path.analyse(images)
        if share is None or share.project is None or share.shortcut is None:
            maps = linear + maps
        else:
            pooled = F.avg_pool2d(feature, BLOCK // self.grid)
            maps = share.project(pooled).float() + linear * share.shortcut[:, None, None] + maps
        if self.local_gain is None or self.exponent is None or task != "reconstruction":
            return maps, none  # for segmentation the convolutions alone decide what each block sends
        bands = activity(linear * path.unit(path.contrast(images)), path)
        local = bounded(self.local_gain(hidden).float(), GAIN_LIMIT)
        return maps, local - self.exponent[:, None, None] * per_channel(bands, linear.shape[1])
