"""The channel, y = h x + n. It belongs to the harness, never to a system.

Units: one complex use carries a symbol of unit mean power, so the SNR is Es/N0 in dB, and n ~ CN(0, N0) with N0 =
10^(-SNR/10), N0/2 on each real dimension. The gain h has E|h|^2 = 1. The receiver is told the SNR, and h as the
channel's `Csi` gives it.

A channel is a record (`Channel`). Its gain, its noise and the receiver's knowledge are defined here and nowhere else:
rows, manifest, tables and training read the record. A third party adds one by an entry point of the group
`semantic_bench.channels`. Measurements, and the validation of a training, call `transmit`. A training step draws its
noise on the device instead (`bench.training.channel`). The draw depends on the seed of the picture and on nothing
else. The received symbols are differentiable in the sent ones. Plans read only the records, so torch is imported inside
`transmit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.measure.plugins import Records
from systems.errors import UserError
from systems.interface import Link, Received, Transmission

if TYPE_CHECKING:
    from torch import Tensor

#: The definition of the SNR: its name in the column `snr_def`, and the same in words.
SNR_DEF, SNR_DEF_WORDS = "esn0", "E|x|^2 / N0 in dB per complex use"
# Separate streams of one seed. In a shared stream, the h of rayleigh-fast would depend on the number of noise values
# drawn before, so two systems with different numbers of uses would meet different channels.
_NOISE, _FADING = 0, 1


def standard_complex(seed: int, stream: int, count: int) -> np.ndarray:
    """Draws of CN(0, 1), complex128 (count,), E|z|^2 = 1. A smaller count gives the first part of a larger one."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))
    # Real and imaginary parts alternate. In two blocks, the second would depend on `count`.
    return generator.standard_normal(2 * count).view(np.complex128) * np.sqrt(0.5)


def white_noise(seed: int, uses: int) -> np.ndarray:
    """Noise n of unit variance, complex128 (uses,)."""
    return standard_complex(seed, _NOISE, uses)


def no_fading(seed: int, uses: int) -> np.ndarray:
    """h = 1, complex128 (1,)."""
    return np.ones(1, np.complex128)


def block_fading(seed: int, uses: int) -> np.ndarray:
    """One h ~ CN(0, 1) per picture, complex128 (1,): its magnitude is Rayleigh distributed."""
    return standard_complex(seed, _FADING, 1)


def fast_fading(seed: int, uses: int) -> np.ndarray:
    """One h ~ CN(0, 1) per use, complex128 (uses,)."""
    return standard_complex(seed, _FADING, uses)


def exact_gain(gain: np.ndarray, noise_var: float, seed: int) -> np.ndarray:
    """The gain itself, complex128 (1,) or (uses,)."""
    return gain


@dataclass(frozen=True)
class Csi:
    """The receiver's knowledge of the channel (channel state information).

    name: in the column `csi`.
    words: the same in words, for the manifest and `list columns`.
    estimate: estimate(h, N0, seed) is the h that the receiver is told, complex128 in the shape of h, (1,) or (uses,).
    Symbols fade by the true h. With fewer uses it must give the first part of what it gives with more. An estimate
    with an error of its own draws it by `standard_complex`, from stream 2 of the seed or a higher one.
    """

    name: str
    words: str
    estimate: Callable[[np.ndarray, float, int], np.ndarray]


PERFECT_CSI = Csi("perfect", "the receiver knows h and the SNR", exact_gain)


@dataclass(frozen=True)
class Channel:
    """All that the bench knows of a channel.

    name: as in `--channel` and in tables.
    label: for figures.
    gain: gain(seed, uses) is h, complex128 (1,) or (uses,), with E|h|^2 = 1.
    noise: noise(seed, uses) is n before it is scaled by N0, complex128 (uses,), with E|n|^2 = 1.
    control_snr_db: the SNR that words of side information are coded for, unless the transmitter names another one. On a
    channel where a whole word can fade, a word needs more uses than the mean SNR suggests.
    csi: the receiver's knowledge of h.

    With fewer uses, `gain` and `noise` must give the first part of what they give with more uses. The systems have
    different numbers of uses, and should meet the same draw.
    """

    name: str
    label: str
    gain: Callable[[int, int], np.ndarray]
    noise: Callable[[int, int], np.ndarray] = white_noise
    control_snr_db: float = 0.0
    csi: Csi = PERFECT_CSI


CHANNELS = Records(
    "channel",
    "semantic_bench.channels",
    Channel,
    (
        Channel("awgn", "AWGN", no_fading),
        Channel("rayleigh-block", "block Rayleigh fading", block_fading, control_snr_db=-10.0),
        Channel("rayleigh-fast", "fast Rayleigh fading", fast_fading, control_snr_db=-1.0),
    ),
)


def channel_label(name: str) -> str:
    """The name of a channel in figures: its record's label, or its name if its package is not installed."""
    return CHANNELS[name].label if name in CHANNELS.names() else name


def csi_words(names: Iterable[str]) -> str:
    """The receiver's knowledge of these channels in words, each kind of knowledge once: "perfect: the receiver ..."."""
    known = dict.fromkeys(CHANNELS[name].csi for name in names)
    return "; ".join(f"{csi.name}: {csi.words}" for csi in known)


def transmit(transmission: Transmission, link: Link, seeds: Sequence[int]) -> Received:
    """Send the symbols of each picture through a channel draw of its own.

    seeds: one non-negative integer per picture. Symbols complex64 (B, n) -> symbols complex64 (B, n), csi complex64
    (B, 1) or (B, n), noise_var float32 (B,).

    Side information passes unchanged: training does not simulate its loss, and measurements send it by
    `bench.measure.control_channel`. The draws are made on the CPU, so a run on a GPU meets the same noise.
    Raises UnknownName for an unknown channel, UserError for an SNR that is not finite, and ValueError if the number of
    seeds or SNRs is not that of the pictures.
    """
    import torch

    channel = CHANNELS[link.channel]
    symbols = transmission.symbols
    batch, uses = symbols.shape
    if len(seeds) != batch:
        raise ValueError(f"there are {len(seeds)} seeds for {batch} pictures; each picture needs one")
    noise_var = _noise_variance(link, batch)
    if not bool(torch.isfinite(noise_var).all()):
        raise UserError(f"the SNR is {link.snr_db}; it must be a finite number in dB")
    amplitude = noise_var.double().sqrt().numpy()
    noise = np.empty((batch, uses), np.complex128)
    for row, seed in enumerate(seeds):
        noise[row] = amplitude[row] * channel.noise(seed, uses)
    gain = np.stack([channel.gain(seed, uses) for seed in seeds])

    def place(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(symbols.device)

    told = gain
    if channel.csi is not PERFECT_CSI:
        noise_power = noise_var.double().tolist()
        told = np.stack([channel.csi.estimate(*known) for known in zip(gain, noise_power, seeds, strict=True)])
    # In float64, and rounded once. Noise in float32 that is larger than a symbol has a coarser grid than the symbol, so
    # wherever it nearly cancels one, the last digits of the symbol would arrive without an error, at any SNR.
    sent = symbols.to(torch.complex128)
    faded = sent if channel.gain is no_fading else place(gain) * sent  # multiplying by 1 would only cost time
    received, csi = (faded + place(noise)).to(torch.complex64), place(told).to(torch.complex64)
    assert transmission.side_info is not None
    return Received(received, csi, noise_var.to(symbols.device), transmission.side_info)


def _noise_variance(link: Link, batch: int) -> Tensor:
    """N0 of each picture, float32 (B,)."""
    snr = link.snr_tensor(batch)
    if snr.shape != (batch,):
        raise ValueError(
            f"link.snr_db has shape {tuple(snr.shape)}; for {batch} pictures it must be one number or ({batch},)"
        )
    return (10.0 ** (-snr.double() / 10)).float()
