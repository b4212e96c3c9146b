"""The unified JSCC encoder (Sec. IV-A): concat(image, f) -> residual block -> strided downsampling -> x.

`systems.gensc.system` calls it. As in Table I, it has three convolutions of kernel 3 with hidden dimension 128. The
first joins the image and f, the second is the residual block's, the third has the stride. Both tasks use the same
three.

Size `paper` fills the gaps of the paper, or differs from it, in these points:
- Image and f meet at 1/8 of the picture's size (`encoder_grid`). The image gets there by pixel unshuffle, with its
  values in [-1, 1]. The third convolution has stride 2.
- The residual block has one convolution, because Table I has three in all. The blocks of the cited ResNet have two.
- SiLU is the activation. There is no norm.
- The third convolution gives `channels` real values per 16 x 16 block, without an activation.

Our sizes switch on parts that the size `paper` does not have:
- `linear_path`: the shortcut around the convolutions is the block-KLT code, the best linear map of the picture, so that
  training starts there instead of at noise. Segmentation needs meaning and not the picture itself. For it the shortcut
  is a projection of f, and the picture enters weakly, because at full strength it would drown f.
- `contrast_units`: with it, the picture is in units of its own contrast.
- `task_share`: each task has its own scale and shift of the convolutions' features, and its own gain of each channel.
- `encoder_sees_snr`: these gains depend on the SNR of the link.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.interface import TASKS
from systems.layers.klt import BlockKLT
from systems.layers.linear_path import BLOCK, LinearPath, PowerAllocation


class TaskShare(nn.Module):
    """The parameters that belong to one task alone: its scale and shift of the shared convolutions, and the power of
    its channels.
    """

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
        # The convolutions give all of the signal for segmentation, and a small part of it for reconstruction.
        self.scale = nn.Parameter(torch.full((channels,), 0.1 if reconstruct and config.linear_path else 1.0))
        self.log_gain = nn.Parameter(torch.zeros(channels))
        self.power_allocation = PowerAllocation(channels)

    def affine(self, x: Tensor, layer: int) -> Tensor:
        """Scale and shift each channel of x (B, hidden, h, w), before the activation.

        layer: 0 for the first convolution, 1 for the second. The shape stays.
        """
        return x * self.weight[layer, :, None, None] + self.bias[layer, :, None, None]

    def gain(self, snr_db: Tensor) -> Tensor:
        """Logarithm of the amplitude of each channel, (B, channels), from the SNR in dB (B,), which both ends know."""
        gain = self.log_gain.float().expand(len(snr_db), -1)
        if self.sees_snr:
            gain = gain + self.power_allocation(snr_db)
        return gain


class JSCCEncoder(nn.Module):
    """Pictures and the feature of the source KB -> symbol maps. The sides of the pictures are multiples of 16.

    The maps do not depend on the SNR; only the gains of the channels (`gain`) do. With a linear path, the maps are in
    units of each coefficient's standard deviation and of the picture's contrast, as `LinearPath.send` takes them.
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.grid, hidden = config.encoder_grid, config.encoder_hidden
        stride = BLOCK // self.grid
        self.conv1 = nn.Conv2d(3 * self.grid**2 + config.feature_dim, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.down = nn.Conv2d(hidden, config.channels, 3, stride=stride, padding=1)
        self.share = nn.ModuleDict({task: TaskShare(config, task) for task in TASKS} if config.task_share else {})

    def of(self, task: str) -> TaskShare | None:
        """The parameters that belong to `task` alone. None without `task_share`."""
        return self.share[task] if self.share else None  # type: ignore[return-value]

    def start_from_klt(self, klt: BlockKLT) -> None:
        """Set the channels' gains: for reconstruction the KLT's power allocation, for segmentation equal power."""
        reconstruction, segmentation = self.of("reconstruction"), self.of("segmentation")
        if reconstruction is None or segmentation is None:
            return
        count = len(reconstruction.log_gain)
        with torch.no_grad():
            reconstruction.log_gain.copy_(klt.amplitudes(count).log())
            segmentation.log_gain.copy_(-klt.eigenvalues[:count].log() / 2)

    def gain(self, task: str, snr_db: Tensor) -> Tensor:
        """Logarithm of the amplitude of each channel, (B, channels), from the task and the SNR in dB (B,), which both
        ends know.

        Without `task_share` it is 0.
        """
        share = self.of(task)
        return snr_db.new_zeros(len(snr_db), self.down.out_channels) if share is None else share.gain(snr_db)

    def forward(self, images: Tensor, feature: Tensor, path: LinearPath | None, task: str) -> Tensor:
        """Symbol maps (B, channels, H/16, W/16).

        images: (B, 3, H, W) in [0, 1].
        feature: (B, F, H/g, W/g), where g is `encoder_grid`.
        path: the linear path, or None.
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
        if path is None:
            return maps
        linear = path.analyse(images)
        if share is None or share.project is None or share.shortcut is None:
            return linear + maps
        pooled = F.avg_pool2d(feature, BLOCK // self.grid)
        return share.project(pooled).float() + linear * share.shortcut[:, None, None] + maps
