"""The textbook link, `--link pyldpc`: pyldpc's regular LDPC codes of Gallager with commpy's QAM.

It has short blocks (1008 coded bits), column weight 3 or 4, pyldpc's sum-product decoder, and a 16-bit CRC per block.
It is slower and weaker than NR. Its purpose is to be easy to read: blocks are demapped and decoded one by one, and
decoding stops at the first failure. The exact demapper is computed here. commpy's demapper divides two sums of
exponentials, and both are 0 if a symbol is much farther from its point than the noise. With a picture scaled to unit
power this happens from 80 dB on.
"""

from __future__ import annotations

import functools
import warnings
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from baselines.digital.coded_modulation import BP_ITERATIONS, CodedModulation
from baselines.digital.frame import plan_frame
from systems.errors import UserError, missing_package

BLOCK_BITS = 1008  # a multiple of every row weight below, and of 2, 4, 6 and 8 bits per symbol
CODE_SEED = 1
CRC_BITS = 16
CRC_POLYNOMIAL = 0x1021  # x^16 + x^12 + x^5 + 1, CRC16 of TS 38.212
#: Code rate -> (column weight, row weight) of the regular code; the design rate is 1 - column/row.
DEGREES = {
    Fraction(1, 3): (4, 6),
    Fraction(1, 2): (3, 6),
    Fraction(2, 3): (3, 9),
    Fraction(3, 4): (3, 12),
    Fraction(5, 6): (3, 18),
}
MAX_LLR = 30.0


class TextbookCodedModulation(CodedModulation):
    """A Gallager code for `uses` uses of `order`-QAM at code rate `rate`.

    Raises BudgetTooSmall if no block fits, UserError for another rate, MissingDependency without pyldpc or commpy.
    """

    name = "pyldpc"
    group = 1

    def __init__(self, uses: int, order: int, rate: Fraction, iterations: int = BP_ITERATIONS):
        if rate not in DEGREES:
            raise UserError(f"--link pyldpc has no code of rate {rate}; its rates are {', '.join(map(str, DEGREES))}")
        self._check, self._generator = _gallager(rate)
        frame = plan_frame(
            uses, order, rate, crc_bits=CRC_BITS, max_k=BLOCK_BITS, fixed_n=BLOCK_BITS, name="pyldpc link"
        )
        super().__init__(frame)
        self._modem, self._scale = _modem(order)
        self.iterations = iterations

    def add_crc(self, payload: Tensor) -> Tensor:
        """Append CRC16 to each block: bits float32 (blocks, k - 16) -> (blocks, k)."""
        bits = payload.numpy().astype(np.uint8)
        return torch.from_numpy(np.concatenate([bits, crc16(bits)], axis=1)).float()

    def encode_blocks(self, information: Tensor) -> Tensor:
        """Bits float32 (blocks, k) -> coded bits (blocks, n)."""
        # The rows of a regular Gallager matrix are dependent, so the code has room for a few more bits: these are 0.
        message = np.zeros((len(information), self._generator.shape[1]), dtype=np.int64)
        message[:, : self.frame.k] = information.numpy()
        return torch.from_numpy(message @ self._generator.T % 2).float()

    def map(self, bits: Tensor) -> Tensor:
        """Coded bits (..., m * bits_per_use) -> Gray-mapped QAM symbols complex64 (..., m)."""
        symbols = self._modem.modulate(bits.reshape(-1).numpy().astype(np.int64)) * self._scale
        return torch.from_numpy(symbols.astype(np.complex64)).reshape(*bits.shape[:-1], -1)

    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        """Symbols complex64 (..., m), N0 float32 (..., m) -> log P(1)/P(0), float32 (..., m * bits_per_use)."""
        points = torch.from_numpy(self._modem.constellation * self._scale)
        distances = (symbols.reshape(-1, 1).to(torch.complex128) - points).abs().square()
        likelihood = -distances / variance.reshape(-1, 1).double()  # logarithm, up to a constant
        ones = (torch.arange(len(points))[:, None] >> torch.arange(self.frame.bits_per_use - 1, -1, -1)) & 1 == 1
        llr = torch.stack(
            [likelihood[:, one].logsumexp(dim=1) - likelihood[:, ~one].logsumexp(dim=1) for one in ones.T], dim=1
        )
        return llr.float().reshape(*symbols.shape[:-1], -1)

    def decode_blocks(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        """log P(1)/P(0), (b, n) -> payload bits float32 (b, k - 16), and whether each block is right, bool (b,)."""
        import pyldpc

        payload = torch.zeros(len(llr), self.frame.k - CRC_BITS)
        good = torch.zeros(len(llr), dtype=torch.bool)
        for row, values in enumerate(llr.double().clamp(-MAX_LLR, MAX_LLR).numpy()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "stopped before convergence"; the syndrome and the CRC show it too
                # decode() computes the channel LLR log P(0)/P(1) as 2 y / 10^(-snr/10)
                word = pyldpc.decode(self._check, -values / 2, 0.0, maxiter=self.iterations)
            information = word[: self.frame.k].astype(np.uint8)
            bits, crc = information[None, :-CRC_BITS], information[None, -CRC_BITS:]
            good[row] = not np.any(self._check @ word % 2) and np.array_equal(crc16(bits), crc)
            payload[row] = torch.from_numpy(bits[0]).float()
        return payload, good


def crc16(bits: np.ndarray) -> np.ndarray:
    """CRC16 of TS 38.212 of each row, with a register that starts at 0: uint8 (b, m) -> uint8 (b, 16), highest power
    first.
    """
    register = np.zeros(len(bits), dtype=np.int64)
    for column in bits.T.astype(np.int64):
        feedback = (register >> (CRC_BITS - 1)) ^ column
        register = ((register << 1) & 0xFFFF) ^ feedback * CRC_POLYNOMIAL
    return ((register[:, None] >> np.arange(CRC_BITS - 1, -1, -1)) & 1).astype(np.uint8)


@functools.cache
def _gallager(rate: Fraction):
    """Parity-check matrix (m, n) and generator (n, k') of the code. The first k' bits of a word are the message."""
    try:
        import pyldpc
    except ImportError as error:
        advice = "after numpy; or use --link nr"
        raise missing_package("--link pyldpc", "pyldpc", error, "--no-build-isolation", advice) from error
    column, row = DEGREES[rate]
    check, generator = pyldpc.make_ldpc(BLOCK_BITS, column, row, systematic=True, sparse=True, seed=CODE_SEED)
    return np.asarray(check, dtype=np.int64), np.asarray(generator, dtype=np.int64)


@functools.cache
def _modem(order: int):
    """commpy's square QAM, and the factor that scales its points to unit mean power."""
    try:
        from commpy.modulation import QAMModem
    except ImportError as error:
        raise missing_package("--link pyldpc", "scikit-commpy", error, advice="or use --link nr") from error
    modem = QAMModem(order)
    return modem, 1 / np.sqrt(np.mean(np.abs(modem.constellation) ** 2))
