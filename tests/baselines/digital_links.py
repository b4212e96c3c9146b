"""Links, a channel and an error measure that the tests of the digital systems and of the bounds share."""

import numpy as np
import torch

from systems.interface import Budget, Link, Received

SIZE = 96
USES = SIZE * SIZE * 3 // 8


def make_link(snr_db=20.0, channel="awgn", cbr=1 / 8, task="reconstruction", size=SIZE):
    return Link(task, size, size, Budget.from_cbr(cbr, size, size), channel, snr_db)


def through(transmission, link, seeds):
    """Compute y = h x + n with one generator per picture, so that a picture meets the same noise in any batch."""
    symbols, snr = transmission.symbols, link.snr_tensor(len(transmission.symbols))
    count = {"awgn": 0, "rayleigh-block": 1, "rayleigh-fast": symbols.shape[1]}[link.channel]
    noise_var = 10 ** (-snr / 10)
    rows, gains = [], []
    for row, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        draw = rng.standard_normal((count + symbols.shape[1], 2)) @ np.array([1, 1j]) / np.sqrt(2)
        gain = torch.from_numpy(draw[:count]).to(torch.complex64) if count else torch.ones(1, dtype=torch.complex64)
        noise = torch.from_numpy(draw[count:]).to(torch.complex64)
        rows.append(gain * symbols[row] + noise_var[row].sqrt() * noise)
        gains.append(gain)
    return Received(torch.stack(rows), torch.stack(gains), noise_var, transmission.side_info)


def mse(images, others):
    return ((images - others) ** 2).mean(dim=(1, 2, 3))
