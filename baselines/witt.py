"""WITT: a Swin transformer on each side of the channel. The SNR modulates the features. Registered as `witt`.

Source: K. Yang, S. Wang, J. Dai, K. Tan, K. Niu, P. Zhang, "WITT: A wireless image transmission transformer for
semantic communications", ICASSP 2023. The encoder has 2x2 patches, four stages of pre-norm Swin blocks (window 8) with
patch merging before each stage but the first, LayerNorm, the channel ModNet, and a linear head to `channels` reals at
1/16 of the size. The decoder mirrors it with patch-reverse merging (LayerNorm, linear, pixel shuffle). It has no
sigmoid.

Size `paper` computes the same as the authors' program: with their weights it gives their features and their pictures
(`tests/baselines/test_witt_vectors.py`, `python -m bench weights import witt FILE`). These differences remain:
- The power is normalised per picture, and the real and imaginary parts are neighbours in a channel of the same picture,
  as the `System` interface demands. The authors normalise the whole batch and pair its first half with its second.
- The authors give their receiver the power before normalisation without cost. Here it is sent as 8 bits of side
  information, which are charged (the last symbols make room for them), so it is known in steps of 0.25 dB. In training
  no gradient passes through it.
- There is one SNR per picture, not one per batch. At the receiver it is the SNR that the picture met; on AWGN both are
  the same.
- Both ends are told the nearest SNR of the range that the weights were trained at (`LearnedSystem.told`), which is 1 to
  13 dB for the authors' weights. The authors' program is told any SNR as it is.
- Any picture size is accepted: the picture is padded to multiples of 16, and the tokens of each stage to whole windows,
  by repeating the edge. Both are cut afterwards. The authors take multiples of 128 only.
- In the authors' program, the size of the crops with which a network is built decides for ever whether the windows of a
  map shift. Imported weights keep this (`WITTConfig.shifted`). Otherwise a map shifts unless it is one window wide; for
  a network built with 256 x 256, this differs only where a side of a picture is at most 128.
- Under fading the receiver equalises. The authors' receiver does not know the channel.

These differences concern training alone:
- Initial weights: here the merging layers and the blocks' MLPs start after Xavier, the decoder's last layer from a
  deviation of 0.02, and the other linear layers from torch's default. The authors start all linear layers from a
  deviation of 0.02, and only the decoder's ModNet from torch's default.
- The loss sees the picture before it is clamped. The authors' loss sees it clamped.
- Training follows `configs/train`. The authors train at 13 dB first, then at 1, 4, 7, 10 and 13 dB.

The fields `linear_path`, `allocates_power`, `reads_linear`, `embed_norm` and `shift_across_stages` are off in `paper`.
With `linear_path` the network adds to the block-KLT code instead of carrying the whole picture (see
`systems.layers.linear_path`). With `allocates_power` the powers of that code's channels follow the SNR. With
`reads_linear` the decoder's stages from 1/8 of the size on also read the linear estimate of the picture, as the
decoders of the other systems do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.errors import UserError
from systems.interface import Decoded, Link, Received, Transmission
from systems.layers.dense import Dense
from systems.layers.linear_path import (
    CORRECTION,
    LinearPath,
    Opened,
    picture_features,
    start_from_zero,
    symbol_uses,
)
from systems.layers.padding import pad_to_multiple, padded_size
from systems.layers.power import bits_to_power, power_to_bits, unit_power
from systems.layers.receiver import receiver_snr_db
from systems.layers.swin import SwinBlock
from systems.layers.symbol_layout import to_features, to_symbols
from systems.learned import LearnedSystem


@dataclass(frozen=True)
class WITTConfig:
    """Sizes of the network.

    channels: real feature channels at 1/16 of the picture's size (the paper's C); 96 channels give CBR 1/16.
    window: side of the windows in tokens.
    windows: one side per stage of the encoder, if they differ.
    shifted: for each stage of the encoder, whether its windows shift at all, as the size of the training crops decided
    in the authors' program. Empty: a map is shifted unless it is one window wide.
    modnet_layers: gated layers of the channel ModNet. 0: no ModNet, the published "WITT_W/O".
    modnet_hidden: channels of these layers.
    linear_path: the network adds to the block-KLT code.
    allocates_power: the powers of the block-KLT code's channels follow the SNR.
    embed_norm: LayerNorm after the patch embedding.
    shift_across_stages: plain and shifted windows alternate through the whole network. False: each stage begins with
    plain windows.
    """

    channels: int = 96
    embed: tuple[int, ...] = (128, 192, 256, 320)  # channels per stage
    depths: tuple[int, ...] = (2, 2, 6, 2)  # blocks per stage
    heads: tuple[int, ...] = (4, 6, 8, 10)  # attention heads per stage
    window: int = 8
    windows: tuple[int, ...] = ()
    shifted: tuple[bool, ...] = ()
    mlp_ratio: float = 4.0  # hidden width of a block's MLP divided by its channels
    modnet_layers: int = 7
    modnet_hidden: int = 480
    linear_path: bool = False
    reads_linear: bool = False  # the decoder's stages from 1/8 on also read the linear estimate of the picture
    allocates_power: bool = False
    embed_norm: bool = False
    shift_across_stages: bool = False

    def __post_init__(self):
        if self.reads_linear and not self.linear_path:
            raise UserError("witt: reads_linear needs linear_path = true in the same configuration (configs/models)")

    def stage(self, level: int, first: int) -> SwinStage:
        """The encoder's stage `level`, or the decoder's that mirrors it. first: blocks before it on the same side."""
        window = self.windows[level] if self.windows else self.window
        start = first if self.shift_across_stages else 0
        shifts = self.shifted[level] if self.shifted else None
        return SwinStage(
            self.embed[level], self.depths[level], self.heads[level], window, self.mlp_ratio, start, shifts
        )


class PatchMerging(nn.Module):
    """Concatenate 2x2 tokens, then LayerNorm and a linear layer."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Dense(4 * dim, out, bias=False)
        nn.init.xavier_uniform_(self.reduction.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C), even h and w -> (B, h/2, w/2, out)."""
        batch, height, width, dim = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, dim).transpose(2, 3).flatten(3)
        return self.reduction(self.norm(x))


class PatchReverseMerging(nn.Module):
    """LayerNorm, a linear layer to 4 out channels, and a pixel shuffle."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.increment = Dense(dim, 4 * out, bias=False)
        nn.init.xavier_uniform_(self.increment.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, 2h, 2w, out)."""
        x = self.increment(self.norm(x))
        return F.pixel_shuffle(x.movedim(-1, 1), 2).movedim(1, -1)


class SwinStage(nn.Module):
    """Swin blocks, with plain and shifted windows in turn. With an even `first`, the first block has plain windows.

    shifts: whether windows shift at all; None: unless the map is one window wide.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, window: int, mlp_ratio: float, first: int, shifts: bool | None = None
    ):
        super().__init__()
        self.window = window
        turns = [window // 2 * ((first + index) % 2 if shifts is not False else 0) for index in range(depth)]
        always = shifts is True
        self.blocks = nn.Sequential(*(SwinBlock(dim, heads, window, shift, mlp_ratio, always) for shift in turns))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C). Sides that the window does not divide are padded, and cut afterwards."""
        height, width = x.shape[1:3]
        if height % self.window or width % self.window:
            padded = pad_to_multiple(x.movedim(-1, 1), self.window).movedim(1, -1)
            return self.blocks(padded)[:, :height, :width]
        return self.blocks(x)


class ChannelModNet(nn.Module):
    """Multiplies each token's channels by a gate, computed from the token and the SNR.

    A chain of linear layers reads the token, without passing gradients back to it. A small network of the SNR scales
    the output of each layer.
    """

    def __init__(self, dim: int, hidden: int, layers: int):
        super().__init__()
        self.linears = nn.ModuleList([Dense(dim, hidden), *(Dense(hidden, hidden) for _ in range(layers - 1))])
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
        self.out = Dense(hidden, dim)

    def forward(self, x: Tensor, snr_db: Tensor) -> Tensor:
        """Tokens (B, h, w, C), SNR in dB (B,) -> (B, h, w, C)."""
        gated = x.detach()
        for linear, gate in zip(self.linears, self.gates):
            gated = linear(gated) * gate(snr_db[:, None])[:, None, None, :]
        return x * torch.sigmoid(self.out(gated))


class NoModNet(nn.Module):
    """Takes the place of the ModNet and changes nothing (the published "WITT_W/O")."""

    def forward(self, x: Tensor, snr_db: Tensor) -> Tensor:
        """Tokens (B, h, w, C), SNR in dB (B,) -> the same tokens."""
        return x


def make_modnet(config: WITTConfig) -> ChannelModNet | NoModNet:
    """The ModNet of one side, or its substitute if the configuration has none."""
    if not config.modnet_layers:
        return NoModNet()
    return ChannelModNet(config.embed[-1], config.modnet_hidden, config.modnet_layers)


class Encoder(nn.Module):
    """Pictures -> tokens -> features. `tokens` does not depend on the SNR, `forward` does."""

    def __init__(self, config: WITTConfig):
        super().__init__()
        self.embed = nn.Conv2d(3, config.embed[0], 2, 2)
        self.embed_norm = nn.LayerNorm(config.embed[0]) if config.embed_norm else nn.Identity()
        self.merges, self.stages = nn.ModuleList(), nn.ModuleList()
        for level, dim in enumerate(config.embed):
            self.merges.append(PatchMerging(config.embed[level - 1], dim) if level else nn.Identity())
            self.stages.append(config.stage(level, sum(config.depths[:level])))
        self.norm = nn.LayerNorm(config.embed[-1])
        self.modnet = make_modnet(config)
        self.head = Dense(config.embed[-1], config.channels)

    def tokens(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), both sides multiples of 16 -> tokens (B, H/16, W/16, C)."""
        x = self.embed_norm(self.embed(images).movedim(1, -1))
        for merge, stage in zip(self.merges, self.stages):
            x = stage(merge(x))
        return self.norm(x)

    def forward(self, tokens: Tensor, snr_db: Tensor) -> Tensor:
        """Tokens (B, h, w, C), SNR in dB (B,) -> features (B, channels, h, w)."""
        return self.head(self.modnet(tokens, snr_db)).movedim(-1, 1)


class Decoder(nn.Module):
    """Features and SNR -> pictures."""

    def __init__(self, config: WITTConfig):
        super().__init__()
        levels = range(len(config.embed))[::-1]
        self.head = Dense(config.channels, config.embed[-1])
        self.modnet = make_modnet(config)
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for level in levels:
            self.stages.append(config.stage(level, sum(config.depths[level + 1 :])))
            self.merges.append(PatchReverseMerging(config.embed[level], config.embed[level - 1] if level else 3))
        # A token of stage `level` stands for 2^(level + 1) pixels per side. At 1/16 the symbols are the linear code.
        self.reads = nn.ModuleList(
            Dense(3 * 4 ** (level + 1), config.embed[level]) for level in list(levels)[1:] if config.reads_linear
        )
        # There is no sigmoid, so the usual weights would start from unit variance. The authors start this
        # layer from a deviation of 0.02 too.
        nn.init.trunc_normal_(self.merges[-1].increment.weight, std=0.02)

    def forward(self, features: Tensor, snr_db: Tensor, opened: Opened | None = None) -> Tensor:
        """Features (B, channels, h, w), SNR in dB (B,) -> pictures (B, 3, 16h, 16w), not clamped.

        opened: the linear code as the receiver decodes it. Its picture is read if the configuration says so.
        """
        x = self.modnet(self.head(features.movedim(1, -1)), snr_db)
        reads = [None, *self.reads] if self.reads and opened is not None else [None] * len(self.stages)
        for place, (read, stage, merge) in enumerate(zip(reads, self.stages, self.merges)):
            if read is not None:
                planes = picture_features(opened.picture, opened.unit, 2 ** (len(self.stages) - place))
                x = x + read(planes.movedim(1, -1))
            x = merge(stage(x))
        return x.movedim(-1, 1)


class WITT(LearnedSystem):
    """Reconstruction by the Swin transformers of Yang et al. Both sides adapt to the SNR."""

    Config = WITTConfig
    tasks = ("reconstruction",)
    encoder_sees_snr = True

    def build(self, config: WITTConfig) -> None:
        """Create the layers that `config` describes."""
        self.stride = 2 ** len(config.embed)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.linear_path:
            self.linear_path = LinearPath(config.channels, allocates=config.allocates_power)
            start_from_zero(self.encoder.head, self.decoder.merges[-1].increment)

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        The first step computes the tokens. The ModNet and the head depend on the SNR.
        """
        padded = pad_to_multiple(images, self.stride)
        tokens = self.encoder.tokens(padded)
        linear = None if self.linear_path is None else self.linear_path.analyse(padded)

        def send(at: Link) -> Transmission:
            snr_db = self.shared_snr_db(at, images)
            features = self.encoder(tokens, snr_db)
            if linear is not None:
                return self.linear_path.send_beside(padded, linear, features, snr_db, at, self.name)
            symbols, power = unit_power(to_symbols(features, symbol_uses(at, self.name)))
            return Transmission(symbols, power_to_bits(power))

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]."""
        return self.prepare(images, link)(link)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W), in [0, 1] outside of training."""
        snr_db = self.told(receiver_snr_db(received))
        if self.linear_path is not None:
            opened = self.linear_path.open(received, self.shared_snr_db(link, snr_db), link)
            added = self.decoder(opened.symbols * 2**0.5, snr_db, opened).float()
            images = opened.picture + CORRECTION * opened.unit * added
        else:
            height, width = padded_size(link.height, link.width, self.stride)
            scale = bits_to_power(received.side_info).sqrt()
            features = to_features(
                received.equalised()[0] * scale[:, None],
                self.config.channels,
                height // self.stride,
                width // self.stride,
            )
            images = self.decoder(features, snr_db).float()
        images = images[..., : link.height, : link.width]
        return Decoded(images if self.training else images.clamp(0, 1))
