"""The control channel: it sends the words of side information, coded by the harness, over the same channel as the
symbols.

`bench.measure.point` calls `send`. A word follows the symbols of its picture as further uses of the same draw. So it
meets the same kind of noise and, under block fading, the same gain. `systems.side_info` gives the number of its uses,
which the audit charges. If the receiver knows that a word is lost, the picture is an outage. A wrong word that looks
right reaches the decoder.

A word of up to 11 bits is sent with the small block code of 5G (TS 38.212, 5.3.3.3, a subcode of the second-order
Reed-Muller code) and QPSK, repeated up to the word's length. The decoder compares all words (maximum likelihood). The
word counts as lost if its probability, given the received symbols, is below `SURE`. A CRC would
give the same check, but would spend uses. The polar code of 5G starts at 12 bits. With words padded to 12 bits it is no
better: for 8 bits in 80 coded bits at 0 dB, its union bound of the error rate is 3.0e-6, that of this code 1.2e-6.

A longer word gets a 24-bit CRC and 5G LDPC on 4, 16, 64 or 256QAM through `baselines.digital.nr`. The CRC shows whether
it is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bench.measure.channel import transmit
from systems.interface import Link, Received, Transmission
from systems.side_info import SHORT_WORD

#: A short word counts as lost if its posterior probability is below this.
SURE = 0.9

#: TS 38.212 Table 5.3.3.3-1: M[i, 0..10], i = 0..31.
_BASIS = (
    "11000000001 11100000011 10010010111 10110000101 11110001001 11001011101 10101010111 10011001101 "
    "11011001011 10111010011 10100111011 11100110101 10010101111 11010101011 10001101001 11001111011 "
    "11101110010 10011100100 11011111000 10000110000 10100010001 11010000011 10001001101 11101000111 "
    "11111011110 11000111001 10110100110 11110101110 10101110100 10111111100 11111111111 10000000000"
)
#: Constellations, and the largest number of bits per use (CRC included) that each is used for. At this number, 5G LDPC
#: needs the same SNR with the next larger constellation (by the thresholds of `baselines.digital.mcs`).
_ORDERS = ((4, 1.33), (16, 3.0), (64, 4.7), (256, math.inf))


def send(transmission: Transmission, link: Link, seeds: Sequence[int]) -> tuple[Received, Tensor]:
    """Send symbols (B, n) and control words (B, b) through one draw per picture. seeds: one per picture.

    Returns the received symbols with the side information as it arrived, and whether each word arrived, bool (B,). The
    bits of a word that did not arrive are zeros. Raises as `transmit` does.
    """
    assert transmission.side_info is not None
    words, symbols = transmission.side_info, transmission.symbols
    bits, uses = words.shape[1], symbols.shape[1]
    if bits == 0:
        return transmit(transmission, link, seeds), torch.ones(len(words), dtype=torch.bool)
    length = link.budget.side_info_uses(bits, transmission.side_info_snr_db)
    coded = encode(words.cpu().numpy(), length).to(symbols.device)
    received = transmit(Transmission(torch.cat([symbols, coded], dim=1)), link, seeds)
    gains = received.csi if received.csi.shape[1] == 1 else received.csi[:, uses:]
    decoded, arrived = decode(received.symbols[:, uses:].cpu(), gains.cpu(), received.noise_var.cpu(), bits)
    csi = received.csi if received.csi.shape[1] == 1 else received.csi[:, :uses].contiguous()
    side_info = torch.from_numpy(decoded).to(symbols.device)
    return Received(received.symbols[:, :uses].contiguous(), csi, received.noise_var, side_info), arrived


def bits_per_use(bits: int, uses: int) -> int:
    """Coded bits that one use of a word of `bits` bits in `uses` uses carries: log2 of its constellation's size."""
    return 2 if bits <= SHORT_WORD else _long_code(bits, uses).bits_per_use


def encode(words: np.ndarray, uses: int) -> Tensor:
    """Words uint8 (B, b) -> unit-power symbols complex64 (B, uses)."""
    if words.shape[1] <= SHORT_WORD:
        return torch.from_numpy(_qpsk(_small_block(words, 2 * uses)))
    code = _long_code(words.shape[1], uses)
    return torch.stack([code.encode(word) for word in words])


def decode(symbols: Tensor, gains: Tensor, noise_var: Tensor, bits: int) -> tuple[np.ndarray, Tensor]:
    """Received symbols complex64 (B, uses), gains (B, 1) or (B, uses), N0 (B,) -> words uint8 (B, bits), arrived (B,).

    Each word is decoded alone, so the result does not depend on the batch.
    """
    if bits <= SHORT_WORD:
        return _most_likely(symbols, gains, noise_var, bits)
    code = _long_code(bits, symbols.shape[1])
    arrived = torch.zeros(len(symbols), dtype=torch.bool)
    words = np.zeros((len(symbols), bits), np.uint8)
    power = gains.abs().square().clamp_min(1e-6)
    equalised = symbols * gains.conj() / power
    variance = (noise_var[:, None] / power).expand(symbols.shape)
    for row in range(len(symbols)):
        found = code.decode(equalised[row], variance[row].contiguous())
        if found is not None:
            words[row], arrived[row] = found, True
    return words, arrived


# ---------------------------------------------------------------- short words


def _small_block(words: np.ndarray, coded_bits: int) -> np.ndarray:
    """TS 38.212, 5.3.3.3, with rate matching by repetition: uint8 (B, coded_bits)."""
    basis = np.array([[int(bit) for bit in row] for row in _BASIS.split()], np.uint8)[:, : words.shape[1]]
    coded = (words @ basis.T) % 2
    return coded[:, np.arange(coded_bits) % 32]


def _qpsk(coded: np.ndarray) -> np.ndarray:
    """TS 38.211, 5.1.3: bits (B, 2m) -> symbols complex64 (B, m)."""
    signs = 1.0 - 2.0 * coded.astype(np.float64)
    return ((signs[:, 0::2] + 1j * signs[:, 1::2]) / math.sqrt(2)).astype(np.complex64)


@lru_cache(maxsize=32)
def _codebook(bits: int, coded_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """All words uint8 (2^bits, bits), and the signs of their coded bits float64 (coded_bits, 2^bits)."""
    words = ((np.arange(2**bits)[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
    return words, 1.0 - 2.0 * _small_block(words, coded_bits).astype(np.float64).T


def _most_likely(symbols: Tensor, gains: Tensor, noise_var: Tensor, bits: int) -> tuple[np.ndarray, Tensor]:
    matched = (gains.conj() * symbols).to(torch.complex128).numpy()
    coded_bits = 2 * symbols.shape[1]
    soft = np.empty((len(matched), coded_bits))
    soft[:, 0::2], soft[:, 1::2] = matched.real, matched.imag
    soft *= math.sqrt(2) / noise_var.double().clamp_min(1e-30).numpy()[:, None]
    words, signs = _codebook(bits, coded_bits)
    # row by row, because the rounding of a matrix product depends on the batch's shape
    likelihood = np.stack([row @ signs for row in soft])
    best = likelihood.argmax(axis=1)
    rest = likelihood - likelihood.max(axis=1, keepdims=True)
    posterior = 1 / np.exp(rest).sum(axis=1)
    arrived = posterior >= SURE
    return np.where(arrived[:, None], words[best], 0).astype(np.uint8), torch.from_numpy(arrived)


# ---------------------------------------------------------------- long words


class _LongCode:
    """CRC and 5G LDPC for words of `bits` bits in `uses` uses."""

    def __init__(self, bits: int, uses: int):
        from baselines.digital.frame import Frame
        from baselines.digital.nr import MAX_K, NrCodedModulation
        from baselines.digital.nr_code import CRC_BITS

        self.bits, self.uses = bits, uses
        for largest in (MAX_K["bg1"], MAX_K["bg2"]):  # below rate 1/3 only the smaller base graph has enough parity
            blocks = math.ceil(bits / (largest - CRC_BITS))
            k = math.ceil(bits / blocks) + CRC_BITS
            order = next(order for order, most in _ORDERS if blocks * k / uses <= most)
            bits_per_use = order.bit_length() - 1
            # Below rate 1/5, 5G repeats the word, and the receiver adds up the copies.
            self.repeats = math.ceil(uses * bits_per_use / (5 * k * blocks))
            n = uses // self.repeats // blocks * bits_per_use
            if 3 * k >= n:
                break
        self.bits_per_use = bits_per_use
        self.frame = Frame(uses // self.repeats, bits_per_use, blocks, k, n, CRC_BITS)
        self.link = NrCodedModulation(self.frame.uses, order, Fraction(k, n), frame=self.frame)

    def encode(self, word: np.ndarray) -> Tensor:
        """Bits uint8 (bits,) -> symbols complex64 (uses,)."""
        payload = np.zeros(self.frame.payload_bits, np.uint8)
        payload[: self.bits] = word
        return self.link.encode(payload).repeat(self.repeats + 1)[: self.uses]

    def decode(self, symbols: Tensor, variance: Tensor) -> np.ndarray | None:
        """Equalised symbols and their noise variances -> the word. None if a CRC fails."""
        uses = self.frame.uses
        copies = [slice(start, start + uses) for start in range(0, self.repeats * uses, uses)]
        weight = torch.stack([1 / variance[copy].clamp_min(1e-30) for copy in copies])
        heard = torch.stack([symbols[copy] for copy in copies])
        total = weight.sum(dim=0)
        delivery = self.link.decode((heard * weight).sum(dim=0) / total, 1 / total)
        return None if delivery.bits is None else delivery.bits[: self.bits]


@lru_cache(maxsize=32)
def _long_code(bits: int, uses: int) -> _LongCode:
    return _LongCode(bits, uses)
