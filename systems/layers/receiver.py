"""The first step of a receiver: estimates of the sent symbols, and the SNR that a picture met.

The learned systems call it before their decoder. The LMMSE estimate of KLT coefficients is in `systems.layers.klt`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from systems.interface import Received


def lmmse_symbols(received: Received) -> Tensor:
    """Linear MMSE estimate of unit-power symbols, complex (B, n): h* y / (|h|^2 + N0)."""
    symbols, variance = received.equalised()
    return symbols / (1 + variance)


def symbol_estimate(received: Received, with_lmmse: bool) -> Tensor:
    """The symbols that a network reads, complex (B, n): their linear MMSE estimate, or only equalised ones."""
    return lmmse_symbols(received) if with_lmmse else received.equalised()[0]


def receiver_snr_db(received: Received) -> Tensor:
    """SNR in dB that each picture met, float32 (B,): mean |h|^2 / N0. Under fading only the receiver knows it."""
    gain = received.csi.abs().square().mean(dim=1).clamp_min(1e-6)
    return 10 * torch.log10(gain / received.noise_var)
