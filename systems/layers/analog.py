"""The steps between the network of an analog (JSCC) system and the channel: layout of symbols, unit power, padding of
pictures, estimates at the receiver. GenSC and all learned baselines call it.

The layout: feature maps are laid out channel by channel, and their real values are paired in order into complex uses,
(0, 1), (2, 3), and so on. If the budget is too small for all symbols of a picture, the last ones are dropped: the last
positions of the last channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from systems.interface import Received

POWER_BITS = 8
POWER_STEP_DB = 0.25
POWER_FLOOR_DB = -40.0


def unit_power(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the symbols of each picture, complex (B, n), to mean |x|^2 = 1.

    Returns them, and their power before scaling, float32 (B,).
    """
    power = symbols.abs().square().mean(dim=1).clamp_min(1e-12)
    return symbols / power.sqrt()[:, None], power


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


def power_to_bits(power: Tensor) -> Tensor:
    """Power (B,) -> 8 bits of side information per picture, uint8 (B, 8).

    The power is rounded in steps of 0.25 dB from -40 dB upwards, and clamped at both ends of this range.
    """
    level = ((10 * torch.log10(power.detach().float()) - POWER_FLOOR_DB) / POWER_STEP_DB).round()
    level = level.clamp(0, 2**POWER_BITS - 1).to(torch.int64)
    shifts = torch.arange(POWER_BITS - 1, -1, -1, device=power.device)
    return ((level[:, None] >> shifts) & 1).to(torch.uint8)


def bits_to_power(bits: Tensor) -> Tensor:
    """The inverse of `power_to_bits`: uint8 (B, 8) -> float32 (B,)."""
    weights = 2 ** torch.arange(POWER_BITS - 1, -1, -1, device=bits.device)
    level = (bits.to(torch.int64) * weights).sum(dim=1).float()
    return 10 ** ((level * POWER_STEP_DB + POWER_FLOOR_DB) / 10)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Extend (B, C, H, W) on the right and below, by repeating the edge, until `multiple` divides both sides."""
    height, width = images.shape[-2:]
    right, below = (-width) % multiple, (-height) % multiple
    return F.pad(images, (0, right, 0, below), mode="replicate") if right or below else images


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Height and width after `pad_to_multiple`."""
    return math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple


def lmmse_symbols(received: Received) -> Tensor:
    """Linear MMSE estimate of unit-power symbols, complex (B, n): h* y / (|h|^2 + N0)."""
    symbols, variance = received.equalised()
    return symbols / (1 + variance)


def estimate(received: Received, with_lmmse: bool) -> Tensor:
    """The symbols that a network reads, complex (B, n): their linear MMSE estimate, or only equalised ones."""
    return lmmse_symbols(received) if with_lmmse else received.equalised()[0]


def receiver_snr_db(received: Received) -> Tensor:
    """SNR in dB that each picture met, float32 (B,): mean |h|^2 / N0. Under fading only the receiver knows it."""
    gain = received.csi.abs().square().mean(dim=1).clamp_min(1e-6)
    return 10 * torch.log10(gain / received.noise_var)
