"""The JSCC decoder for reconstruction (Sec. IV-B).

It is a diffusion transformer over patches of (f~, y), followed by upsampling and residual blocks.
`systems.gensc.system` calls it.

The channel is the forward process of the diffusion: y = x + sigma e is the state of a variance-exploding diffusion
whose time is tied to the noise variance at the receiver, t = (2/pi) atan(sigma). This is the cosine schedule written
for sigma. The network predicts the picture; one step from y gives the MMSE estimate. A size with `latent_loss` also
predicts the clean symbols x. Then more steps are possible: they follow the deterministic (DDIM) path from sigma to 0
and predict x at each step.

Size `paper` fills the gaps of the paper, or differs from it, in these points:
- Time: the paper adds time step embeddings, and gives no schedule and no noise that is added in training. Here the
  channel gives time and noise, as above.
- Steps: the paper names several iterations of refinement by attention, and trains by Eq. 5 alone. Here there is one
  step through all blocks, and the symbols are not predicted.
- Patches: y and f~ are spread over 2 x 2 positions, so that each patch of 2 x 2 is one 16 x 16 block of the picture.
- Upsampling: the tokens are brought to 1/4 of the size by a linear layer, pixel shuffle and a 3 x 3 convolution. The
  residual block stands there, and a 3 x 3 convolution with pixel shuffle gives the picture. In the paper the residual
  block follows the upsampling to the full size.
- Start: the last convolution starts from zero, so the first picture is grey.

Differences from the cited DiT-XL/2 (W. Peebles and S. Xie, 2023), whose depth, heads and patch Table I has:
- It works on symbols and features of the receiver, not on the latent of a VAE. No class is embedded.
- The time is embedded by 64 sines and cosines of a time in (0, 1), not by 256 of a step from 0 to 1000.
- The norm after the last block has weights of its own. In DiT the time shifts and scales it.
- It predicts neither noise nor variances.
- Grids need not be square. The linear layers start from torch's default, those of DiT after Xavier.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.residual_block import ResidualBlock
from systems.layers.dense import Dense, two_layers
from systems.layers.linear_path import BLOCK, CORRECTION, LinearPath, picture_features, start_from_zero
from systems.layers.padding import pad_to_multiple
from systems.layers.swin import WindowAttention

FREQUENCIES = 32


def diffusion_time(sigma: Tensor) -> Tensor:
    """Standard deviation of the noise per unit-variance symbol, any shape, such as (B,) -> time in (0, 1), (2/pi)
    atan(sigma).
    """
    return torch.atan(sigma) * (2 / math.pi)


class TimeEmbedding(nn.Module):
    """Embedding of the time: sine and cosine features, then two linear layers."""

    def __init__(self, dim: int):
        super().__init__()
        self.rates: Tensor
        self.register_buffer("rates", torch.logspace(0, math.log10(60.0), FREQUENCIES), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Tensor) -> Tensor:
        """Time (B,) in (0, 1) -> (B, dim)."""
        phase = math.pi * time.float()[:, None] * self.rates
        return F.silu(self.mlp(torch.cat([phase.sin(), phase.cos()], dim=1)))


def grid_positions(height: int, width: int, dim: int, period: int, device: torch.device) -> Tensor:
    """Fixed 2D sine-cosine position embedding of a grid of tokens, (height, width, dim). The grid need not be square.

    period: with windowed attention, the side of a window: positions repeat with the window. A picture larger than the
    training crops then has no position that the network has not seen. 0: positions do not repeat.
    """
    quarter = dim // 4
    rates = 1 / 10000 ** (torch.arange(quarter, device=device) / quarter)
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    if period:
        rows, columns = rows % period, columns % period
    rows, columns = rows[:, None] * rates, columns[:, None] * rates
    vertical = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, width, -1)
    horizontal = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, -1, -1)
    return F.pad(torch.cat([vertical, horizontal], 2), (0, dim - 4 * quarter))


class GlobalAttention(nn.Module):
    """Multi-head attention of every token to every other token."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = Dense(dim, 3 * dim)
        self.proj = Dense(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, h, w, C) -> (B, h, w, C)."""
        qkv = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)
        return self.proj(out).unflatten(1, x.shape[1:3])


class DiTBlock(nn.Module):
    """Transformer block whose norms are shifted, scaled and gated by the time (adaLN-Zero).

    Source: W. Peebles and S. Xie, "Scalable diffusion models with transformers", ICCV 2023. window: side of the
    attention's windows in tokens; 0: global attention.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, time_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = WindowAttention(dim, window, shift, heads) if window else GlobalAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(Dense(dim, 4 * dim), nn.GELU(approximate="tanh"), Dense(4 * dim, dim))
        self.modulate = nn.Linear(time_dim, 6 * dim)
        start_from_zero(self.modulate)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Tokens (B, h, w, C), time (B, T) -> (B, h, w, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(time)[:, None, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * two_layers(self.mlp, self.norm2(x) * (1 + scale2) + shift2)


class ReconstructionDecoder(nn.Module):
    """Received symbols y, features f~ and the time -> picture. With `predicts_symbols` also the clean symbols.

    y and f~ are at 1/16 of the picture's size. Beside a linear path (`forward`), the decoder also reads the linear
    estimate of the coefficients, and corrects the picture that follows from it. Each token corrects the coefficients of
    its block: those that were sent and the next ones, in all `decoder_coefficients`. Then upsampled tokens and residual
    blocks at 1/4 of the size see across the edges of blocks. Without a linear path (`alone`, size `paper`) the tokens
    carry the whole picture, in [-1, 1].
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.patch, self.window = config.decoder_patch, config.decoder_window
        dim, refine = config.decoder_dim, config.decoder_refine
        inputs = config.channels * (2 if config.linear_path else 1)
        inputs += 2 * config.receiver_hidden if config.receiver_kb else 0
        self.up_factor = BLOCK // 4  # from the grid of tokens (1/16) to the grid of refinement (1/4)
        # Patches of `patch` x `patch` on a latent of inputs/patch^2 planes: one token per 16 x 16 block of the picture.
        self.embed = nn.Conv2d(inputs // self.patch**2, dim, self.patch, self.patch)
        window = self.window
        self.blocks = nn.ModuleList(
            DiTBlock(dim, config.decoder_heads, window, (window // 2) * (index % 2), config.time_dim)
            for index in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.symbols = Dense(dim, config.channels) if config.predicts_symbols else None
        self.coefficients = Dense(dim, config.decoder_coefficients) if config.decoder_coefficients else None
        self.upsample = Dense(dim, refine // 2 * self.up_factor**2)
        read = 3 * self.up_factor**2 if config.linear_path else 0
        self.merge = nn.Conv2d(refine // 2 + read, refine, 3, padding=1)
        time_dim = config.time_dim if config.noise_in_residuals else 0
        self.residual = nn.ModuleList(ResidualBlock(refine, time_dim) for _ in range(config.decoder_residuals))
        self.picture = nn.Conv2d(refine, 3 * self.up_factor**2, 3, padding=1)
        start_from_zero(*(layer for layer in (self.symbols, self.coefficients, self.picture) if layer is not None))

    def transform(self, inputs: Tensor, time: Tensor) -> Tensor:
        """Patches, with their positions, through all blocks: (B, C, h, w), time (B, T) -> tokens (B, h, w, dim)."""
        height, width = inputs.shape[-2:]
        tokens = self.embed(F.pixel_shuffle(inputs, self.patch))
        if self.window:
            tokens = pad_to_multiple(tokens, self.window)
        tokens = tokens.permute(0, 2, 3, 1)
        rows, columns, dim = tokens.shape[1:]
        tokens = tokens + grid_positions(rows, columns, dim, self.window, tokens.device)
        for block in self.blocks:
            tokens = block(tokens, time)
        return self.norm(tokens[:, :height, :width])

    def detail(self, tokens: Tensor, read: list[Tensor], time: Tensor) -> Tensor:
        """Upsampling and residual blocks: tokens (B, h, w, dim) -> (B, 3, 16h, 16w).

        read: maps (B, C, 4h, 4w) that the first convolution reads beside the tokens. time: (B, T).
        """
        fine = F.pixel_shuffle(self.upsample(tokens).permute(0, 3, 1, 2), self.up_factor)
        x = self.merge(torch.cat([fine, *(part.to(fine.dtype) for part in read)], dim=1))
        for block in self.residual:
            x = block(x, time)
        return F.pixel_shuffle(self.picture(F.silu(x)).float(), self.up_factor)

    def correction(self, tokens: Tensor) -> Tensor | None:
        """Tokens (B, h, w, dim) -> the difference between clean and received symbols, (B, C, h, w). None if it is not
        predicted.
        """
        return None if self.symbols is None else self.symbols(tokens).permute(0, 3, 1, 2).float()

    def alone(self, received: Tensor, feature: Tensor | None, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Decode without a linear path.

        received: symbols of unit variance, (B, C, h, w).
        feature: f~ (B, F, h, w), or None.
        time: (B, T).
        Returns the picture (B, 3, 16h, 16w), not clamped, and the correction of the symbols (B, C, h, w) or None.
        """
        tokens = self.transform(received if feature is None else torch.cat([received, feature], dim=1), time)
        return self.detail(tokens, [], time) / 2 + 0.5, self.correction(tokens)

    def forward(
        self,
        received: Tensor,
        feature: Tensor | None,
        estimate: Tensor,
        path: LinearPath,
        contrast: Tensor,
        time: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Decode beside a linear path.

        received: symbols of unit variance, (B, C, h, w).
        feature: f~ (B, F, h, w), or None.
        estimate: coefficients in absolute units, (B, C, h, w).
        contrast: (B, 1, 1, 1), the unit in which the picture is read and corrected.
        time: (B, T).
        Returns the picture (B, 3, 16h, 16w), not clamped, and the correction of the symbols (B, C, h, w) or None.
        """
        inputs = [received, estimate / path.unit(contrast)] + ([] if feature is None else [feature])
        tokens = self.transform(torch.cat(inputs, dim=1), time)
        if self.coefficients is not None:
            added = self.coefficients(tokens).permute(0, 3, 1, 2).float()
            added = added * path.deviation[: added.shape[1], None, None] * contrast
            estimate = F.pad(estimate, (0, 0, 0, 0, 0, added.shape[1] - estimate.shape[1])) + added
        coarse = path.synthesise(estimate)
        detail = self.detail(tokens, [picture_features(coarse, contrast, self.up_factor)], time)
        return coarse + CORRECTION * contrast * detail, self.correction(tokens)
