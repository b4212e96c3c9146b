"""Gray-mapped QAM of 5G NR (TS 38.211, 5.1), and its demapper, for the link `nr`.

`baselines.digital.nr` calls it. Points and log-likelihood ratios are those of Sionna's `Mapper` and `Demapper`, bit
for bit, which the tests check. `baselines.digital.nr_code` says why its program is not used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LEAST_VARIANCE = float(np.finfo(np.float32).tiny)


class Qam:
    """A square constellation of 2^bits_per_use points of unit mean power; bits_per_use is even.

    method: of the demapper, "app" (exact) or "maxlog" (the nearest points alone).
    points: complex64 (2^bits_per_use,); the bits of a point are those of its index, the highest first.
    """

    def __init__(self, bits_per_use: int, method: str = "app"):
        self.bits_per_use, self.method = bits_per_use, method
        labels = np.arange(2**bits_per_use)[:, None] >> np.arange(bits_per_use - 1, -1, -1) & 1
        points = (_amplitudes(labels[:, 0::2]) + 1j * _amplitudes(labels[:, 1::2])).astype(np.complex64)
        levels = np.arange(1, 2 ** (bits_per_use // 2), 2)
        self.points = torch.from_numpy(points / np.sqrt(np.float32(2 * np.mean(levels**2))))
        self._weights = torch.from_numpy(2 ** np.arange(bits_per_use - 1, -1, -1))
        # (points / 2, bits_per_use): the points at which each bit is 0, and those at which it is 1. A bit's points
        # lie side by side, as in Sionna: sums over them are rounded in the order of the memory.
        self._zeros, self._ones = (
            torch.from_numpy(np.stack([np.flatnonzero(column == value) for column in labels.T])).T for value in (0, 1)
        )

    def map(self, bits: Tensor) -> Tensor:
        """Bits (..., m * bits_per_use) -> points complex64 (..., m)."""
        groups = bits.long().unflatten(-1, (-1, self.bits_per_use))
        return self.points[(groups * self._weights).sum(-1)]

    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        """Symbols complex64 (..., m), N0 float32 (..., m) -> log P(1)/P(0), float32 (..., m * bits_per_use)."""
        distances = (symbols[..., None] - self.points).abs().square()
        exponents = -distances / variance[..., None].clamp_min(_LEAST_VARIANCE)
        zeros, ones = exponents[..., self._zeros], exponents[..., self._ones]
        if self.method == "maxlog":
            ratios = ones.max(dim=-2).values - zeros.max(dim=-2).values
        else:
            ratios = torch.logsumexp(ones, dim=-2) - torch.logsumexp(zeros, dim=-2)
        return ratios.flatten(-2)


def _amplitudes(bits: np.ndarray) -> np.ndarray:
    """Gray-labelled amplitudes, odd integers: bits int64 (points, b) -> (points,)."""
    value = 1 - 2 * bits[:, -1]
    for index in range(bits.shape[1] - 2, -1, -1):
        value = (1 - 2 * bits[:, index]) * (2 ** (bits.shape[1] - 1 - index) - value)
    return value
