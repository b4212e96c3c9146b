"""WITT: a Swin transformer on each side of the channel, with features modulated by the SNR.

Source: K. Yang, S. Wang, J. Dai, K. Tan, K. Niu, P. Zhang, "WITT: A wireless image transmission transformer for
semantic communications", ICASSP 2023. Encoder: 2x2 patches, four stages of pre-norm Swin blocks (window 8) with patch
merging before each later one, LayerNorm, channel ModNet, linear head to `channels` reals at 1/16 of the size. The
decoder mirrors it with patch-reverse merging (LayerNorm, linear, pixel shuffle); no sigmoid.

What differs from the authors' program, and why:
- power is normalised per picture, and real and imaginary parts come from the same picture, as the contract demands;
- the power before normalisation, which the authors hand to their receiver for nothing, goes as 8 charged bits of side
  information (the last symbols make room for it);
- the SNR is one per picture, not one per batch;
- token grids that the window does not divide are grown by repeating their edge, so that any picture size is served;
- blocks alternate between plain and shifted windows along the whole network, which is the same where depths are even;
- with `linear_path` (size `small`) the network adds to the block-KLT code instead of carrying the picture alone: see
  `systems.layers.linear_path`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformerBlock

from systems.interface import Decoded, Link, Received, Transmission
from systems.layers import analog
from systems.layers.linear_path import CORRECTION, LinearPath, start_from_zero, symbol_uses
from systems.learned import LearnedSystem


@dataclass(frozen=True)
class WITTConfig:
    """channels: real feature channels at 1/16 of the picture's size (the paper's C); 96 carry CBR 1/16.

    modnet_layers: gated layers of the channel ModNet, each `modnet_hidden` wide.
    """

    channels: int = 96
    embed: tuple[int, ...] = (128, 192, 256, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (4, 6, 8, 10)
    window: int = 8
    mlp_ratio: float = 4.0
    modnet_layers: int = 7
    modnet_hidden: int = 480
    linear_path: bool = False


class PatchMerging(nn.Module):
    """Tokens (B, h, w, C) -> (B, h/2, w/2, out): concatenate 2x2, LayerNorm, linear."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out, bias=False)
        nn.init.xavier_uniform_(self.reduction.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, dim).transpose(2, 3).flatten(3)
        return self.reduction(self.norm(x))


class PatchReverseMerging(nn.Module):
    """Tokens (B, h, w, C) -> (B, 2h, 2w, out): LayerNorm, linear to 4 out, pixel shuffle."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.increment = nn.Linear(dim, 4 * out, bias=False)
        nn.init.xavier_uniform_(self.increment.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.increment(self.norm(x))
        return F.pixel_shuffle(x.movedim(-1, 1), 2).movedim(1, -1)


class Stage(nn.Module):
    """Swin blocks on tokens (B, h, w, C); `first` is the number of blocks before it on its side of the channel."""

    def __init__(self, dim: int, depth: int, heads: int, window: int, mlp_ratio: float, first: int):
        super().__init__()
        self.window = window
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(dim, heads, [window] * 2, [window // 2 * ((first + index) % 2)] * 2, mlp_ratio)
                for index in range(depth)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        padded = analog.pad_to_multiple(x.movedim(-1, 1), self.window).movedim(1, -1)
        return self.blocks(padded)[:, :height, :width]


class ChannelModNet(nn.Module):
    """Gate of each token's channels from the token and the SNR in dB: (B, h, w, C), (B,) -> (B, h, w, C).

    A chain of linear layers on the (detached) token, each scaled by a gate that a small network makes of the SNR.
    """

    def __init__(self, dim: int, hidden: int, layers: int):
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(dim, hidden), *(nn.Linear(hidden, hidden) for _ in range(layers - 1))])
        self.gates = nn.ModuleList(
            nn.Sequential(
                nn.Linear(1, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.Sigmoid(),
            )
            for _ in range(layers)
        )
        self.out = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, snr_db: Tensor) -> Tensor:
        gated = x.detach()
        for linear, gate in zip(self.linears, self.gates):
            gated = linear(gated) * gate(snr_db[:, None])[:, None, None, :]
        return x * torch.sigmoid(self.out(gated))


class Encoder(nn.Module):
    """Images (B, 3, H, W), sides divisible by 16 -> tokens; tokens and SNR (B,) -> features (B, channels, H/16,
    W/16)."""

    def __init__(self, config: WITTConfig):
        super().__init__()
        self.embed = nn.Conv2d(3, config.embed[0], 2, 2)
        self.embed_norm = nn.LayerNorm(config.embed[0])
        self.merges, self.stages = nn.ModuleList(), nn.ModuleList()
        for level, (dim, depth, heads) in enumerate(zip(config.embed, config.depths, config.heads)):
            self.merges.append(PatchMerging(config.embed[level - 1], dim) if level else nn.Identity())
            first = sum(config.depths[:level])
            self.stages.append(Stage(dim, depth, heads, config.window, config.mlp_ratio, first))
        self.norm = nn.LayerNorm(config.embed[-1])
        self.modnet = ChannelModNet(config.embed[-1], config.modnet_hidden, config.modnet_layers)
        self.head = nn.Linear(config.embed[-1], config.channels)

    def tokens(self, images: Tensor) -> Tensor:
        """What the SNR has no part in: (B, H/16, W/16, C)."""
        x = self.embed_norm(self.embed(images).movedim(1, -1))
        for merge, stage in zip(self.merges, self.stages):
            x = stage(merge(x))
        return self.norm(x)

    def forward(self, tokens: Tensor, snr_db: Tensor) -> Tensor:
        return self.head(self.modnet(tokens, snr_db)).movedim(-1, 1)


class Decoder(nn.Module):
    """Features (B, channels, h, w) and SNR (B,) -> images (B, 3, 16h, 16w), not clamped."""

    def __init__(self, config: WITTConfig):
        super().__init__()
        embed, depths, heads = config.embed[::-1], config.depths[::-1], config.heads[::-1]
        self.head = nn.Linear(config.channels, embed[0])
        self.modnet = ChannelModNet(embed[0], config.modnet_hidden, config.modnet_layers)
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for level, (dim, out) in enumerate(zip(embed, (*embed[1:], 3))):
            first = sum(depths[:level])
            self.stages.append(Stage(dim, depths[level], heads[level], config.window, config.mlp_ratio, first))
            self.merges.append(PatchReverseMerging(dim, out))
        # Without a sigmoid behind it, a picture of unit variance is a bad start; the authors start all from 0.02.
        nn.init.trunc_normal_(self.merges[-1].increment.weight, std=0.02)

    def forward(self, features: Tensor, snr_db: Tensor) -> Tensor:
        x = self.modnet(self.head(features.movedim(1, -1)), snr_db)
        for stage, merge in zip(self.stages, self.merges):
            x = merge(stage(x))
        return x.movedim(-1, 1)


class WITT(LearnedSystem):
    """Reconstruction by Yang's Swin transformers, SNR-adaptive on both sides."""

    Config = WITTConfig
    tasks = ("reconstruction",)
    encoder_sees_snr = True

    def build(self, config: WITTConfig) -> None:
        self.stride = 2 ** len(config.embed)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.linear_path = LinearPath(config.channels) if config.linear_path else None
        if self.linear_path is not None:
            start_from_zero(self.encoder.head, self.decoder.merges[-1].increment)

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        padded = analog.pad_to_multiple(images, self.stride)
        tokens = self.encoder.tokens(padded)
        linear = None if self.linear_path is None else self.linear_path.analyse(padded)

        def send(at: Link) -> Transmission:
            features = self.encoder(tokens, at.snr_tensor(len(images), images.device))
            if linear is not None:
                return self.linear_path.send_beside(padded, linear, features, at, self.name)
            symbols, power = analog.unit_power(analog.to_symbols(features, symbol_uses(at, self.name)))
            return Transmission(symbols, analog.power_to_bits(power))

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        return self.prepare(images, link)(link)

    def decode(self, received: Received, link: Link) -> Decoded:
        snr_db = analog.receiver_snr_db(received)
        if self.linear_path is not None:
            opened = self.linear_path.open(received, link)
            images = opened.picture + CORRECTION * opened.unit * self.decoder(opened.symbols * 2**0.5, snr_db).float()
        else:
            height, width = analog.padded_size(link.height, link.width, self.stride)
            scale = analog.bits_to_power(received.side_info).sqrt()
            features = analog.to_features(
                analog.lmmse(received) * scale[:, None],
                self.config.channels,
                height // self.stride,
                width // self.stride,
            )
            images = self.decoder(features, snr_db).float()
        images = images[..., : link.height, : link.width]
        return Decoded(images if self.training else images.clamp(0, 1))
