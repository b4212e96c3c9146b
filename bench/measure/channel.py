"""The channel, y = h x + n, which belongs to the harness and never to a system.

Units: one complex use carries a symbol of unit mean power, so the SNR is Es/N0 in dB and n ~ CN(0, N0) with
N0 = 10^(-SNR/10), N0/2 on each real dimension; h ~ CN(0, 1) (Rayleigh magnitude, E|h|^2 = 1), known to the receiver.

    awgn            h = 1
    rayleigh-block  one h a picture
    rayleigh-fast   one h a use

`transmit` serves measurement and training alike: the draw depends on a picture's seed and nothing else, and the
received symbols are differentiable in those sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.spec.figure import check_channel
from systems.errors import UserError
from systems.interface import Link, Received, Transmission

# Separate streams of one seed. A shared one would make h of rayleigh-fast depend on how many noise values came before
# it, and two systems with different numbers of uses would no longer meet the same channel.
_NOISE, _FADING = 0, 1


def standard_complex(seed: int, stream: int, count: int) -> np.ndarray:
    """`count` draws of CN(0, 1), complex128, E|z|^2 = 1. A smaller count gives a prefix of a larger one."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
    # I and Q alternate in one sequence: drawn as two blocks, Q would shift with `count` and the prefix would break.
    return generator.standard_normal(2 * count).view(np.complex128) * np.sqrt(0.5)


def transmit(transmission: Transmission, link: Link, seeds: Sequence[int]) -> Received:
    """Send each picture through its own draw; `seeds` holds one non-negative integer a picture.

    Symbols complex64 (B, n) -> symbols complex64 (B, n), csi complex64 (B, 1), or (B, n) for rayleigh-fast, noise_var
    float32 (B,). Draws are made on the CPU in float64, so a GPU run meets the same noise. Raises UserError for an
    unknown channel, ValueError for a number of seeds or SNRs that is not the batch.
    """
    check_channel(link.channel)
    symbols = transmission.symbols
    batch, uses = symbols.shape
    if len(seeds) != batch:
        raise ValueError(f"{len(seeds)} seeds for {batch} pictures")
    noise_var = _noise_variance(link, batch)
    if not bool(torch.isfinite(noise_var).all()):
        raise UserError(f"SNR must be a number in dB, got {link.snr_db}")
    amplitude = noise_var.double().sqrt().numpy()

    noise = np.empty((batch, uses), np.complex128)
    for row, seed in enumerate(seeds):
        noise[row] = amplitude[row] * standard_complex(seed, _NOISE, uses)
    fading = None
    if link.channel != "awgn":
        count = 1 if link.channel == "rayleigh-block" else uses
        fading = np.stack([standard_complex(seed, _FADING, count) for seed in seeds])

    def place(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(torch.complex64).to(symbols.device)

    csi = torch.ones(batch, 1, dtype=torch.complex64, device=symbols.device) if fading is None else place(fading)
    received = symbols + place(noise) if fading is None else csi * symbols + place(noise)
    return Received(received, csi, noise_var.to(symbols.device), transmission.side_info)


def _noise_variance(link: Link, batch: int) -> Tensor:
    """N0 of each picture, float32 (B,)."""
    snr = link.snr_tensor(batch)
    if snr.shape != (batch,):
        raise ValueError(f"link.snr_db has shape {tuple(snr.shape)} for {batch} pictures")
    return (10.0 ** (-snr.double() / 10)).float()
