"""The power of the symbols of a picture: scaled to 1 before the channel; sent as side information where that is needed.

All systems call `unit_power`. Systems with a linear code also send the power before scaling, in 8 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

POWER_BITS = 8
POWER_STEP_DB = 0.25
POWER_FLOOR_DB = -40.0


def unit_power(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the symbols of each picture, complex (B, n), to mean |x|^2 = 1.

    Returns them, and their power before scaling, float32 (B,).
    """
    power = symbols.abs().square().mean(dim=1).clamp_min(1e-12)
    return symbols / power.sqrt()[:, None], power


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
