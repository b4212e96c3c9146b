"""The common part of all coded modulations: scrambling, padding, and the order in which blocks are decoded.

A coded modulation is a channel code together with a constellation; users choose one by `--link`. It turns exactly
`frame.payload_bits` bits into exactly `frame.uses` complex uses, and back. The digital systems
(`baselines.digital.system`) call it. The subclasses `nr` and `textbook` bring channel code, constellation and decoder.
Another decoder is a subclass that overrides `decode_blocks`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.digital.frame import Frame

#: Smallest noise variance that a demapper gets, 300 dB below the symbols. Squared distances divided by it stay finite.
LEAST_VARIANCE = 1e-30
BP_ITERATIONS = 20  # of an LDPC decoder, at most: the default of the option bp_iterations
_SCRAMBLER_SEED = 38211
_PADDING_SEED = 38212


@dataclass
class Delivery:
    """The receiver's result for one picture.

    bits: the payload, uint8 (payload_bits,), or None if a block failed.
    blocks_decoded: number of blocks that were decoded. Decoding stops after the first group with a failure.
    block_errors: how many of these failed.
    stop_reason: why decoding stopped, or empty.
    """

    bits: np.ndarray | None
    blocks_decoded: int
    block_errors: int
    stop_reason: str = ""


class CodedModulation(ABC):
    """Payload bits <-> unit-power symbols, for one budget, one constellation and one code rate.

    Symbols are complex64 (uses,). Noise variances are float32 (uses,): N0 of each use after equalisation (E|x|^2 = 1).
    Pictures are processed one at a time, in groups of blocks of fixed size, so the result of a picture does not depend
    on its batch.
    """

    name: str
    group: int = 2  # blocks that are decoded together; after a failed group the rest is not decoded

    def __init__(self, frame: Frame):
        self.frame = frame

    # --- every subclass implements these ------------------------------------------------------------------------------

    @abstractmethod
    def add_crc(self, payload: Tensor) -> Tensor:
        """Append the CRC of each block: bits float32 (blocks, k - crc_bits) -> (blocks, k)."""

    @abstractmethod
    def encode_blocks(self, information: Tensor) -> Tensor:
        """Bits float32 (blocks, k) -> coded bits (blocks, n), in the order in which `map` reads them."""

    @abstractmethod
    def map(self, bits: Tensor) -> Tensor:
        """Coded bits (..., m * bits_per_use) -> symbols complex64 (..., m), from a constellation of unit mean power."""

    @abstractmethod
    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        """Symbols complex64 (..., m), N0 float32 (..., m) -> log P(1)/P(0), float32 (..., m * bits_per_use)."""

    @abstractmethod
    def decode_blocks(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        """log P(1)/P(0), (b, n) -> payload bits float32 (b, k - crc_bits), and whether each CRC is right, bool (b,)."""

    # --- the same in all subclasses -----------------------------------------------------------------------------------

    def encode(self, payload: np.ndarray) -> Tensor:
        """Payload bits uint8 (payload_bits,) -> symbols complex64 (uses,), padding included."""
        frame = self.frame
        scrambled = payload ^ _fixed_bits(_SCRAMBLER_SEED, frame.payload_bits)
        blocks = torch.from_numpy(scrambled).float().reshape(frame.blocks, -1)
        coded = self.encode_blocks(self.add_crc(blocks)).reshape(-1)
        padding = torch.from_numpy(_fixed_bits(_PADDING_SEED, frame.padding_uses * frame.bits_per_use)).float()
        return self.map(torch.cat([coded, padding]))

    def decode(self, symbols: Tensor, variance: Tensor) -> Delivery:
        """Decode equalised symbols complex64 (uses,), with N0 of each, float32 (uses,)."""
        frame = self.frame
        used = frame.blocks * frame.uses_per_block
        symbols = symbols[:used].reshape(frame.blocks, -1)
        variance = variance[:used].clamp_min(LEAST_VARIANCE).reshape(frame.blocks, -1)
        pieces, decoded = [], 0
        for start in range(0, frame.blocks, self.group):
            rows = slice(start, start + self.group)
            bits, good = self.decode_blocks(self.llr(symbols[rows], variance[rows]))
            decoded += len(bits)
            errors = int((~good).sum())
            if errors:
                return Delivery(None, decoded, errors, "first failed block")
            pieces.append(bits.to(torch.uint8))
        bits = torch.cat(pieces).reshape(-1).numpy()
        return Delivery(bits ^ _fixed_bits(_SCRAMBLER_SEED, frame.payload_bits), decoded, 0)


@functools.lru_cache(maxsize=64)
def _fixed_bits(seed: int, count: int) -> np.ndarray:
    """Random bits that both ends know, uint8 (count,).

    They scramble the payload (as in TS 38.211, 7.3.1.1), so that all points of the constellation are used about equally
    often. Then the mean power of a picture is close to 1 before normalisation, for any bytes in the file.
    """
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2, count, dtype=np.uint8)
