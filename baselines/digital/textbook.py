"""The textbook link, `--link pyldpc`: Gallager's regular LDPC codes of pyldpc with the QAM of commpy.

Short blocks (1008 coded bits), column weight 3 or 4, pyldpc's sum-product decoder, a 16-bit CRC per block. It is slow
and weaker than NR. It is there to be read: blocks are demapped and decoded one by one, and the first failure ends the
work. The demapper is the exact one, computed here: commpy's divides two sums of exponentials, and both are 0 as soon
as a symbol lies off its point by much more than the noise. A picture scaled to unit power does so from 80 dB on.
"""

from __future__ import annotations

import functools
import warnings
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from baselines.digital.frame import CodedModulation, plan_frame
from systems.errors import MissingDependency, UserError

BLOCK_BITS = 1008  # divides by every check degree below and by 2, 4, 6 and 8 bits a symbol
CODE_SEED = 1
CRC_BITS = 16
CRC_POLYNOMIAL = 0x1021  # x^16 + x^12 + x^5 + 1, CRC16 of TS 38.212
#: (column weight, row weight) of the regular code: design rate 1 - column/row
DEGREES = {
    Fraction(1, 3): (4, 6),
    Fraction(1, 2): (3, 6),
    Fraction(2, 3): (3, 9),
    Fraction(3, 4): (3, 12),
    Fraction(5, 6): (3, 18),
}
MAX_LLR = 30.0


class TextbookCodedModulation(CodedModulation):
    """Gallager code for `uses` uses of `order`-QAM at `rate`. Raises BudgetTooSmall, UserError, MissingDependency."""

    name = "pyldpc"
    group = 1

    def __init__(self, uses: int, order: int, rate: Fraction, iterations: int = 20):
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
        bits = payload.numpy().astype(np.uint8)
        return torch.from_numpy(np.concatenate([bits, crc16(bits)], axis=1)).float()

    def encode_blocks(self, information: Tensor) -> Tensor:
        # regular Gallager matrices have dependent rows, so the code holds a few bits more than its design rate: zeros
        message = np.zeros((len(information), self._generator.shape[1]), dtype=np.int64)
        message[:, : self.frame.k] = information.numpy()
        return torch.from_numpy(message @ self._generator.T % 2).float()

    def map(self, bits: Tensor) -> Tensor:
        symbols = self._modem.modulate(bits.reshape(-1).numpy().astype(np.int64)) * self._scale
        return torch.from_numpy(symbols.astype(np.complex64)).reshape(*bits.shape[:-1], -1)

    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        points = torch.from_numpy(self._modem.constellation * self._scale)
        distances = (symbols.reshape(-1, 1).to(torch.complex128) - points).abs().square()
        likelihood = -distances / variance.reshape(-1, 1).double()  # logarithm, up to a constant
        ones = (torch.arange(len(points))[:, None] >> torch.arange(self.frame.bits_per_use - 1, -1, -1)) & 1 == 1
        llr = torch.stack(
            [likelihood[:, one].logsumexp(dim=1) - likelihood[:, ~one].logsumexp(dim=1) for one in ones.T], dim=1
        )
        return llr.float().reshape(*symbols.shape[:-1], -1)

    def decode_blocks(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        import pyldpc

        payload = torch.zeros(len(llr), self.frame.k - CRC_BITS)
        good = torch.zeros(len(llr), dtype=torch.bool)
        for row, values in enumerate(llr.double().clamp(-MAX_LLR, MAX_LLR).numpy()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "stopped before convergence": the syndrome and the CRC say so
                # decode() forms its channel LLR log P(0)/P(1) as 2 y / 10^(-snr/10)
                word = pyldpc.decode(self._check, -values / 2, 0.0, maxiter=self.iterations)
            information = word[: self.frame.k].astype(np.uint8)
            bits, crc = information[None, :-CRC_BITS], information[None, -CRC_BITS:]
            good[row] = not np.any(self._check @ word % 2) and np.array_equal(crc16(bits), crc)
            payload[row] = torch.from_numpy(bits[0]).float()
        return payload, good


def crc16(bits: np.ndarray) -> np.ndarray:
    """CRC16 of TS 38.212 (register starts at 0) of each row: uint8 (b, m) -> uint8 (b, 16), highest power first."""
    register = np.zeros(len(bits), dtype=np.int64)
    for column in bits.T.astype(np.int64):
        feedback = (register >> (CRC_BITS - 1)) ^ column
        register = ((register << 1) & 0xFFFF) ^ feedback * CRC_POLYNOMIAL
    return ((register[:, None] >> np.arange(CRC_BITS - 1, -1, -1)) & 1).astype(np.uint8)


@functools.cache
def _gallager(rate: Fraction):
    """Parity-check matrix (m, n) and generator (n, k') of the code, systematic in its first k' bits."""
    try:
        import pyldpc
    except ImportError as error:
        raise MissingDependency(
            f"--link pyldpc needs pyldpc ({error}): pip install --no-build-isolation pyldpc (after numpy), "
            "or use --link nr"
        ) from error
    column, row = DEGREES[rate]
    check, generator = pyldpc.make_ldpc(BLOCK_BITS, column, row, systematic=True, sparse=True, seed=CODE_SEED)
    return np.asarray(check, dtype=np.int64), np.asarray(generator, dtype=np.int64)


@functools.cache
def _modem(order: int):
    """commpy's square QAM and the factor that brings its points to unit mean power."""
    try:
        from commpy.modulation import QAMModem
    except ImportError as error:
        raise MissingDependency(f"--link pyldpc needs commpy ({error}): pip install scikit-commpy") from error
    modem = QAMModem(order)
    return modem, 1 / np.sqrt(np.mean(np.abs(modem.constellation) ** 2))
