"""`gensc-select`: `linear-select` with a learned receiver, of transformer and residual blocks as in GenSC's decoder.

The registry makes it under this name. Some sizes also have a learned transmitter. `baselines.select.learned` describes
the inputs of the networks at both ends, and what they add.

In the words of the paper, the class map corresponds to the features that the source KB selects, but for each block of
the picture; and the codebook is the knowledge base that both ends hold.

Size `small` ships, a receiver alone, made in 45 minutes of two CPU cores:

    torchrun --nproc-per-node 2 -m bench train --systems gensc-select --config receiver --data-root DATA --minutes 45

`--checkpoint none` runs it untrained, which is `linear-select`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.select.lapped import BLOCK
from baselines.select.learned import FEATURES, FINE, READ, SelectingSystem, read_linear
from systems.gensc.reconstruction_decoder import DiTBlock, TimeEmbedding, diffusion_time, grid_positions
from systems.gensc.residual_block import ResidualBlock
from systems.layers.dense import Dense
from systems.layers.linear_path import start_from_zero
from systems.layers.padding import pad_to_multiple

STRIDE = 8  # pixels of the picture per token and axis
ADDED = 256  # details of a block that the transmitter's network may add to


@dataclass(frozen=True)
class GenSCSelectConfig:
    """Sizes of the networks at both ends."""

    depth: int = 8  # transformer blocks of the receiver
    width: int = 192  # channels of the transformer blocks
    heads: int = 6  # attention heads of the receiver
    window: int = 8  # side of the attention windows, in tokens of 8 x 8 pixels
    time_dim: int = 128  # dimension of the embedded noise level
    refine: int = 64  # channels of the residual blocks
    residuals: int = 4  # residual blocks of the receiver, after the transformer blocks
    encoder_depth: int = 0  # transformer blocks of the transmitter; 0: the transmitter has no network
    encoder_width: int = 96  # channels of the transmitter
    encoder_heads: int = 3  # attention heads of the transmitter


class _Tokens(nn.Module):
    """Windowed transformer blocks at 1/8 of the picture's size.

    They read a picture (B, 3, H, W), n features of each 16 x 16 block (B, H/16, W/16, n) and a time (B,), and give
    tokens (B, width, H/8, W/8).
    """

    def __init__(self, features: int, depth: int, width: int, heads: int, window: int, time_dim: int):
        super().__init__()
        self.window = window
        self.embed = Dense(3 * STRIDE**2 + features, width)
        self.time = TimeEmbedding(time_dim)
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads, window, window // 2 * (index % 2), time_dim) for index in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Tensor, features: Tensor, time: Tensor) -> Tensor:
        """See `_Tokens`: pictures (B, 3, H, W) -> tokens (B, width, H/8, W/8)."""
        repeat = BLOCK // STRIDE
        spread = features.repeat_interleave(repeat, dim=1).repeat_interleave(repeat, dim=2)
        values = F.pixel_unshuffle(picture - 0.5, STRIDE).permute(0, 2, 3, 1)
        tokens = self.embed(torch.cat([values, spread], dim=-1))
        height, width = tokens.shape[1:3]
        tokens = pad_to_multiple(tokens.permute(0, 3, 1, 2), self.window).permute(0, 2, 3, 1)
        tokens = tokens + grid_positions(*tokens.shape[1:], self.window, tokens.device)
        embedded = self.time(time)
        for block in self.blocks:
            tokens = block(tokens, embedded)
        return self.norm(tokens[:, :height, :width]).permute(0, 3, 1, 2)


class GenSCSelect(SelectingSystem):
    """Reconstruction by GenSC's diffusion transformer at the receiver, and a small one at the transmitter."""

    Config = GenSCSelectConfig

    def build_networks(self, config: GenSCSelectConfig) -> None:
        """Create the layers."""
        rest = config.window, config.time_dim
        self.receiver = _Tokens(2 * FEATURES + 1, config.depth, config.width, config.heads, *rest)
        self.upsample = nn.Conv2d(config.width, config.refine // 2 * (STRIDE // FINE) ** 2, 1)
        self.merge = nn.Conv2d(config.refine // 2 + READ, config.refine, 3, padding=1)
        self.residual = nn.ModuleList(ResidualBlock(config.refine, config.time_dim) for _ in range(config.residuals))
        self.picture = nn.Conv2d(config.refine, 3 * FINE**2, 3, padding=1)
        start_from_zero(self.picture)
        self.sends_features = config.encoder_depth > 0
        if self.sends_features:
            self.transmitter = _Tokens(
                FEATURES, config.encoder_depth, config.encoder_width, config.encoder_heads, *rest
            )
            self.add = nn.Conv2d(config.encoder_width, ADDED, BLOCK // STRIDE, BLOCK // STRIDE)
            start_from_zero(self.add)

    def added(self, images: Tensor, variances: Tensor, snr_db: Tensor) -> Tensor:
        """See `SelectingSystem.added`."""
        return self.add(self.transmitter(images, variances, _time(snr_db))).permute(0, 2, 3, 1)

    def correction(self, linear: Tensor, features: Tensor, unit: Tensor, snr_db: Tensor) -> Tensor:
        """See `SelectingSystem.correction`."""
        time = _time(snr_db)
        tokens = self.receiver(linear, torch.cat([features, unit.log10().permute(0, 2, 3, 1)], dim=-1), time)
        fine = F.interpolate(unit, scale_factor=BLOCK / FINE, mode="bilinear")
        x = torch.cat(
            [F.pixel_shuffle(self.upsample(tokens), STRIDE // FINE), *read_linear(linear, features, fine)], dim=1
        )
        x, embedded = self.merge(x), self.receiver.time(time)
        for block in self.residual:
            x = block(x, embedded)
        return F.pixel_shuffle(self.picture(F.silu(x)).float() * fine, FINE)


def _time(snr_db: Tensor) -> Tensor:
    """SNR in dB (B,) -> the diffusion's time (B,)."""
    return diffusion_time(10 ** (-snr_db / 20))
