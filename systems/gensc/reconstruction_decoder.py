"""JSCC decoder for reconstruction (Sec. IV-B): a diffusion transformer over patches of (f~, y), upsampling, residual
block.

The channel is the forward process of the diffusion: y = x + sigma e is the state of a variance-exploding diffusion
whose time is tied to the noise variance at the receiver, t = (2/pi) atan(sigma), the cosine schedule written for sigma.
The network predicts the clean signal: the symbols x, and from them and its own features the picture. One step from y is
the MMSE estimate. More steps walk the deterministic (DDIM) path from sigma to 0, predicting x at each.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.gensc.config import GenSCConfig
from systems.gensc.residual_block import ResidualBlock
from systems.layers.analog import pad_to_multiple
from systems.layers.linear_path import BLOCK, CORRECTION, LinearPath, picture_features, start_from_zero
from systems.layers.swin import WindowAttention

FREQUENCIES = 32


def diffusion_time(sigma: Tensor) -> Tensor:
    """Noise standard deviation per unit-variance symbol -> time in (0, 1): (2/pi) atan(sigma)."""
    return torch.atan(sigma) * (2 / math.pi)


class TimeEmbedding(nn.Module):
    """Time (B,) in (0, 1) -> (B, dim), sinusoidal features through two linear layers."""

    def __init__(self, dim: int):
        super().__init__()
        self.rates: Tensor
        self.register_buffer("rates", torch.logspace(0, math.log10(60.0), FREQUENCIES), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Tensor) -> Tensor:
        """Time (B,) -> (B, dim)."""
        phase = math.pi * time.float()[:, None] * self.rates
        return F.silu(self.mlp(torch.cat([phase.sin(), phase.cos()], dim=1)))


def grid_positions(height: int, width: int, dim: int, period: int, device: torch.device) -> Tensor:
    """Fixed 2D sine-cosine position embedding of a token grid, (height, width, dim); any grid, also not square.

    With windowed attention positions repeat with the window (`period`), so that a picture larger than the training
    crops shows the network no position it has not seen; period 0 counts on.
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
    """Multi-head attention of every token to every other; (B, h, w, C) -> (B, h, w, C)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, h, w, C) -> (B, h, w, C)."""
        qkv = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)
        return self.proj(out).unflatten(1, x.shape[1:3])


class DiTBlock(nn.Module):
    """Transformer block whose norms are shifted, scaled and gated by the time (adaLN-Zero); (B, h, w, C), time (B,
    T)."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, time_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = WindowAttention(dim, window, shift, heads) if window else GlobalAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
        self.modulate = nn.Linear(time_dim, 6 * dim)
        start_from_zero(self.modulate)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Tokens (B, h, w, C), time (B, T) -> (B, h, w, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(time)[:, None, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class ReconstructionDecoder(nn.Module):
    """(y, f~) at 1/16 of the picture, and the time -> picture; with `predicts_symbols` also the clean symbols.

    Beside a linear path the decoder also reads the linear estimate of the coefficients, and corrects the picture that
    it makes: each token corrects the coefficients of its block, the transmitted ones and the next
    `decoder_coefficients` that were not; upsampled tokens and residual blocks at 1/4 of the size then see across the
    blocks' edges. Without one (size `paper`) the tokens carry the picture alone, in [-1, 1].
    """

    def __init__(self, config: GenSCConfig):
        super().__init__()
        self.patch, self.window = config.decoder_patch, config.decoder_window
        dim, refine = config.decoder_dim, config.decoder_refine
        inputs = config.channels * (2 if config.linear_path else 1)
        inputs += 2 * config.receiver_hidden if config.receiver_kb else 0
        self.up_factor = BLOCK // 4  # DiT tokens (1/16) to the refinement grid (1/4)
        # Patches of `patch` x `patch` on a latent of inputs/patch^2 planes: one token per 16 x 16 block of the picture.
        self.embed = nn.Conv2d(inputs // self.patch**2, dim, self.patch, self.patch)
        window = self.window
        self.blocks = nn.ModuleList(
            DiTBlock(dim, config.decoder_heads, window, (window // 2) * (index % 2), config.time_dim)
            for index in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.symbols = nn.Linear(dim, config.channels) if config.predicts_symbols else None
        self.coefficients = nn.Linear(dim, config.decoder_coefficients) if config.decoder_coefficients else None
        self.upsample = nn.Linear(dim, refine // 2 * self.up_factor**2)
        read = 3 * self.up_factor**2 if config.linear_path else 0
        self.merge = nn.Conv2d(refine // 2 + read, refine, 3, padding=1)
        time_dim = config.time_dim if config.noise_in_residuals else 0
        self.residual = nn.ModuleList(ResidualBlock(refine, time_dim) for _ in range(config.decoder_residuals))
        self.picture = nn.Conv2d(refine, 3 * self.up_factor**2, 3, padding=1)
        start_from_zero(*(layer for layer in (self.symbols, self.coefficients, self.picture) if layer is not None))

    def transform(self, inputs: Tensor, time: Tensor) -> Tensor:
        """Patches with their positions through all blocks: (B, C, h, w), time (B, T) -> tokens (B, h, w, dim)."""
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
        """Upsampling and residual blocks: tokens (B, h, w, dim) -> (B, 3, 16h, 16w). read: maps at 1/4 of the size that
        the first convolution reads beside them."""
        fine = F.pixel_shuffle(self.upsample(tokens).permute(0, 3, 1, 2), self.up_factor)
        x = self.merge(torch.cat([fine, *(part.to(fine.dtype) for part in read)], dim=1))
        for block in self.residual:
            x = block(x, time)
        return F.pixel_shuffle(self.picture(F.silu(x)).float(), self.up_factor)

    def correction(self, tokens: Tensor) -> Tensor | None:
        """What is to be added to the received symbols, (B, C, h, w), so that they are clean."""
        return None if self.symbols is None else self.symbols(tokens).permute(0, 3, 1, 2).float()

    def alone(self, received: Tensor, feature: Tensor | None, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Without a linear path. received (B, C, h, w), symbols of unit variance -> picture (B, 3, 16h, 16w), not
        clamped, and the correction to the symbols (B, C, h, w) or None."""
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
        """Beside a linear path. received (B, C, h, w): symbols of unit variance; estimate (B, C, h, w): absolute
        coefficients; contrast (B, 1, 1, 1): the picture's unit, in which it is read and corrected. Gives the picture
        (B, 3, 16h, 16w), not clamped, and the correction to the symbols (B, C, h, w) or None."""
        inputs = [received, estimate / path.unit(contrast)] + ([] if feature is None else [feature])
        tokens = self.transform(torch.cat(inputs, dim=1), time)
        if self.coefficients is not None:
            added = self.coefficients(tokens).permute(0, 3, 1, 2).float()
            added = added * path.deviation[: added.shape[1], None, None] * contrast
            estimate = F.pad(estimate, (0, 0, 0, 0, 0, added.shape[1] - estimate.shape[1])) + added
        coarse = path.synthesise(estimate)
        detail = self.detail(tokens, [picture_features(coarse, contrast, self.up_factor)], time)
        return coarse + CORRECTION * contrast * detail, self.correction(tokens)
