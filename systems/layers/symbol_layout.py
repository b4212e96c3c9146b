"""The layout of symbols: from feature maps to complex channel uses, and back.

GenSC and all learned baselines call it. Feature maps are laid out channel by channel, and their real values are paired
in order into complex uses, (0, 1), (2, 3), and so on. If the budget is too small for all symbols of a picture, the last
ones are dropped: the last positions of the last channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def to_symbols(features: Tensor, uses: int) -> Tensor:
    """Feature maps (B, C, h, w) -> the first `uses` complex symbols, complex64 (B, min(uses, ceil(Chw/2))).

    The power is not normalised.
    """
    reals = features.flatten(1).float()
    if reals.shape[1] % 2:
        reals = F.pad(reals, (0, 1))
    reals = reals[:, : 2 * uses]
    return torch.view_as_complex(reals.reshape(len(reals), -1, 2).contiguous())


def to_features(symbols: Tensor, channels: int, height: int, width: int) -> Tensor:
    """The inverse of `to_symbols`: complex (B, n) -> float32 (B, channels, height, width). Values that were not sent
    are 0.
    """
    reals = torch.view_as_real(symbols).flatten(1)
    return _fill(reals, channels, height, width)


def spread_variance(variance: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Noise variance of each complex symbol, (B, n) -> of each real feature, (B, channels, height, width).

    Half of the noise of a use falls on each of its two reals. Values that were not sent get variance 0, because they
    are 0 and carry no noise.
    """
    return _fill((variance / 2).repeat_interleave(2, dim=1), channels, height, width)


def _fill(reals: Tensor, channels: int, height: int, width: int) -> Tensor:
    size = channels * height * width
    reals = reals[:, :size]
    return F.pad(reals, (0, size - reals.shape[1])).reshape(-1, channels, height, width)
