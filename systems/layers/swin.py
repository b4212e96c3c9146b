"""Swin transformer blocks, made fast: fused attention, one gather per block, no roll, no copies between layouts.

Called by WITT, by GenSC's source KB and by its diffusion transformer. Source: Z. Liu et al., "Swin Transformer:
Hierarchical vision transformer using shifted windows", ICCV 2021. The names and shapes of all weights are those of
torchvision (`torchvision.models.swin_transformer`). The results are also the same, which the tests check.

One gather turns a map of tokens (B, h, w, C) into windows (windows, N, C), where N = window^2 tokens. In a shifted map,
only the windows on the border hold tokens that must not attend to each other, so only these windows are masked. Without
gradients on a CPU, a block processes a few windows at a time, so that all data between two gathers stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.layers.dense import Dense, two_layers

MASKED = -100.0  # added to the logit of two tokens that must not attend to each other, as in the published code
CHUNK_TOKENS = 1024  # tokens per thread that are processed at a time, on a CPU without gradients


@dataclass(frozen=True)
class Part:
    """Windows that are treated alike.

    index: int64 (windows, N), positions in the flattened map (B h w).
    mask: None, or float32 (windows of one picture, 1, N, N), repeated for each picture.
    """

    index: Tensor
    mask: Tensor | None

    def chunks(self, windows: int) -> Iterator[Part]:
        """The same windows in pieces of at most `windows` windows."""
        for start in range(0, len(self.index), windows):
            end = min(start + windows, len(self.index))
            mask = self.mask
            if mask is not None:
                mask = mask[torch.arange(start, end, device=mask.device) % len(mask)]
            yield Part(self.index[start:end], mask)

    def bias(self, bias: Tensor) -> Tensor:
        """The values that are added to the logits: the positions' bias (heads, N, N), and the mask if there is one.

        Returns a tensor that broadcasts to (windows, heads, N, N).
        """
        if self.mask is None:
            return bias[None]
        repeats = len(self.index) // len(self.mask)
        return (bias + self.mask).repeat(repeats, 1, 1, 1) if repeats > 1 else bias + self.mask


@lru_cache(maxsize=128)
def window_parts(
    batch: int, height: int, width: int, window: int, shift: int, device: torch.device
) -> tuple[Part, ...]:
    """The windows of `batch` maps of `height` x `width` tokens; `window` divides both sides.

    The map is first shifted cyclically by `shift` tokens up and to the left, then cut.
    """
    with torch.inference_mode(False):
        positions = torch.arange(height * width).view(height, width)
        if shift:
            positions = positions.roll((-shift, -shift), (0, 1))
        tiles = positions.view(height // window, window, width // window, window).transpose(1, 2).flatten(2)
        pictures = torch.arange(batch)[:, None, None] * height * width
        if not shift:
            return (Part((pictures + tiles.flatten(0, 1)).flatten(0, 1).to(device), None),)
        inner, outer = tiles[:-1, :-1].flatten(0, 1), torch.cat([tiles[-1], tiles[:-1, -1]])
        # In the last row and column of windows, tokens from both ends of the map meet.
        rows = (torch.arange(window) >= window - shift).long()[:, None].expand(window, window)
        below, right = rows.flatten(), rows.T.flatten()
        regions = torch.stack([2 * below] * (len(tiles[-1]) - 1) + [2 * below + right] + [right] * (len(tiles) - 1))
        mask = torch.where(regions[:, :, None] == regions[:, None, :], 0.0, MASKED)[:, None]
        parts = [Part((pictures + outer).flatten(0, 1).to(device), mask.to(device))]
        if len(inner):
            parts.insert(0, Part((pictures + inner).flatten(0, 1).to(device), None))
        return tuple(parts)


@lru_cache(maxsize=16)
def relative_positions(window: int, device: torch.device) -> Tensor:
    """For each pair of tokens of a window, the row of the bias table, int64 (N, N)."""
    with torch.inference_mode(False):
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        return ((rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1).to(
            device
        )


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias per relative position.

    Tokens (B, h, w, C), h and w divisible by `window` -> (B, h, w, C). A map with a side of one window is not shifted,
    unless `always` is True.
    """

    def __init__(self, dim: int, window: int, shift: int, heads: int, always: bool = False):
        super().__init__()
        self.window, self.shift, self.heads, self.always = window, shift, heads, always
        self.qkv = Dense(dim, 3 * dim)
        self.proj = Dense(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def parts(self, x: Tensor) -> tuple[Part, ...]:
        """The windows of a map (B, h, w, C)."""
        batch, height, width, _ = x.shape
        shift = self.shift if self.always or min(height, width) > self.window else 0
        return window_parts(batch, height, width, self.window, shift, x.device)

    def bias(self) -> Tensor:
        """Bias of each pair of tokens, (heads, N, N)."""
        index = relative_positions(self.window, self.relative_position_bias_table.device)
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def within(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention inside each window: (windows, N, C) -> (windows, N, C). bias: broadcasts to
        (windows, heads, N, N).
        """
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(attend(q, k, v, bias.to(q.dtype)).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, h, w, C) -> (B, h, w, C)."""
        tokens, bias = x.reshape(-1, x.shape[-1]), self.bias()
        parts = self.parts(x)
        outs = [self.within(tokens[part.index], part.bias(bias)) for part in parts]
        return scatter(outs, parts).view(x.shape)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of (windows, heads, N, c) with `bias` added to the logits, (windows, heads, N, c).

    torch's fused form has no backward pass for a bias on a CPU. What it falls back to takes up to 2.6 times as long as
    these three lines.
    """
    if torch.is_grad_enabled() and q.device.type == "cpu":
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
        return logits.softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def scatter(outs: list[Tensor], parts: tuple[Part, ...]) -> Tensor:
    """The windows of each part, (windows, N, C) -> tokens (B h w, C), each at its place in the map. Differentiable."""
    index = torch.cat([part.index.flatten() for part in parts])
    places = torch.empty_like(index)
    places[index] = torch.arange(len(index), device=index.device)
    return torch.cat([out.flatten(0, 1) for out in outs])[places]


class SwinBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + MLP(norm(x)). Tokens (B, h, w, C) -> (B, h, w, C)."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, mlp_ratio: float = 4.0, always: bool = False):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, shift, heads, always)
        self.norm2 = nn.LayerNorm(dim)
        first, last = Dense(dim, hidden), Dense(hidden, dim)
        self.mlp = nn.Sequential(first, nn.GELU(), nn.Identity(), last)
        for layer in (first, last):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def within(self, windows: Tensor, bias: Tensor) -> Tensor:
        """The whole block on windows, (windows, N, C) -> (windows, N, C). No token needs another window."""
        windows = windows + self.attn.within(self.norm1(windows), bias)
        return windows + two_layers(self.mlp, self.norm2(windows))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, h, w, C), h and w divisible by the window -> (B, h, w, C)."""
        tokens, bias = x.reshape(-1, x.shape[-1]), self.attn.bias()
        parts = self.attn.parts(x)
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return scatter([self.within(tokens[part.index], part.bias(bias)) for part in parts], parts).view(x.shape)
        out = torch.empty_like(tokens)
        for part in parts:
            for chunk in part.chunks(max(1, CHUNK_TOKENS * torch.get_num_threads() // self.attn.window**2)):
                out[chunk.index] = self.within(tokens[chunk.index], chunk.bias(bias))
        return out.view(x.shape)
