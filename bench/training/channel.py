"""The training channel: y = h x + n as in `bench.measure.channel`, but drawn on the device.

The training step calls it. Measurements draw on the CPU from one seed per picture. A GPU would have to wait for that at
every step. The units are the same: unit symbol power, n ~ CN(0, N0), N0 = 10^(-SNR/10). Tests check that both channels
have the same definition. `ON_DEVICE` names the channels that are drawn on the device, for speed. The record of any
other channel draws it here too, and so does a record whose receiver does not know h exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.measure import channel as measured
from bench.training import draws
from systems.interface import Link, Received, Transmission

ON_DEVICE = ("awgn", "rayleigh-block", "rayleigh-fast")
_SEED = (1 << 63) - 1  # seeds of the CPU's generators are not negative, keys may be


def transmit(transmission: Transmission, link: Link, keys: Tensor) -> Received:
    """Send each picture through its own draw.

    Symbols complex64 (B, n), keys int64 (B,) of `draws.sample_keys` on the same device -> symbols complex64 (B, n), csi
    complex64 (B, 1), or (B, n) for rayleigh-fast, noise_var float32 (B,). The result is differentiable in the symbols.
    Nothing is copied back from the device, except for a channel that its record draws: this needs the keys on the CPU.
    The name of the channel was checked when the protocol was read.
    """
    if link.channel not in ON_DEVICE or measured.CHANNELS[link.channel].csi is not measured.PERFECT_CSI:
        return measured.transmit(transmission, link, [key & _SEED for key in keys.tolist()])
    symbols = transmission.symbols
    batch, uses = symbols.shape
    with torch.autocast(symbols.device.type, enabled=False):
        noise_var = (10.0 ** (-link.snr_tensor(batch, symbols.device).double() / 10)).float()
        noise = noise_var.sqrt()[:, None] * draws.complex_normals(draws.stream(keys, draws.NOISE), uses)
        if link.channel == "awgn":
            csi = torch.ones(batch, 1, dtype=symbols.dtype, device=symbols.device)
            received = symbols + noise
        else:
            count = 1 if link.channel == "rayleigh-block" else uses
            csi = draws.complex_normals(draws.stream(keys, draws.FADING), count)
            received = csi * symbols + noise
    return Received(received, csi, noise_var, transmission.side_info)
