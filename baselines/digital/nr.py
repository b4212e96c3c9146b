"""5G NR LDPC with QAM, the usual link of the digital systems (`--link nr`, `--link nr-sionna`).

CRC, encoder and rate matching are in `nr_code`, mapping and demapping in `qam`. They are those of Sionna (its PyTorch
release, `sionna-no-rt` 2.x), bit for bit. The link follows TS 38.212: code blocks of at most 8448 bits, a 24-bit CRC
each (CRC24B), base graph 1 or 2, rate matching, and the bit interleaver of 5.4.2.2. It has two simplifications. All
blocks of a picture have the same length; the uses that are left over are padding, and count. And there is no further
CRC over the whole transport block.

Blocks are decoded by `baselines.digital.layered` (min-sum in 8 bits, hundreds of times as fast), or by Sionna's belief
propagation, the reference. Both run on the CPU. Symbols that arrive on a GPU are copied there first.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from baselines.digital.coded_modulation import BP_ITERATIONS, CodedModulation
from baselines.digital.frame import Frame, plan_frame
from baselines.digital.nr_code import CRC_BITS, NrCode, crc24b
from baselines.digital.qam import Qam
from systems.errors import UserError, missing_package

DECODERS = ("layered", "sionna")
MAX_K = {"bg1": 8448, "bg2": 3840}
LOWEST_RATE, HIGHEST_RATE = Fraction(1, 5), Fraction(948, 1024)


@dataclass(frozen=True)
class NrOptions:
    """Choices of the receiver. Whichever decoder is used, a CRC decides whether a block is right.

    decoder: "layered" (min-sum; a block stops at the first word of the code) or "sionna" (belief propagation with
    flooding and the exact check-node rule).
    iterations: the most that are done.
    check_every: only for "sionna": the CRC is checked after this many iterations, and blocks that pass leave the batch.
    demapper: "app" (exact) or "maxlog".
    """

    decoder: str = "layered"
    iterations: int = BP_ITERATIONS
    check_every: int = 4
    demapper: str = "app"


class NrCodedModulation(CodedModulation):
    """NR LDPC for `uses` uses of `order`-QAM at code rate `rate`, in equal blocks, or split as `frame` says.

    Raises BudgetTooSmall if no block fits, UserError for a rate or decoder that does not exist, MissingDependency
    without Sionna.
    """

    name = "nr"

    def __init__(
        self,
        uses: int,
        order: int,
        rate: Fraction,
        options: NrOptions = NrOptions(),
        frame: Frame | None = None,
    ):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(f"code rate {rate} is outside the range of NR LDPC codes, 1/5 to 0.92; try 5/6")
        self.base_graph = None if rate >= Fraction(1, 3) else "bg2"  # None: TS 38.212 chooses
        if frame is None:
            max_k = MAX_K[self.base_graph or "bg1"]
            frame = plan_frame(uses, order, rate, crc_bits=CRC_BITS, max_k=max_k, name="nr link")
        super().__init__(frame)
        if options.decoder not in DECODERS:
            raise UserError(f"unknown decoder {options.decoder!r} of the nr link; decoders are {', '.join(DECODERS)}")
        self.options = options
        self._code = _code(self.frame, self.base_graph)
        if options.decoder == "sionna":
            self._flooding = _flooding(self.frame, self.base_graph)
        else:
            self._layered = _layered(self.frame, self.base_graph, options.iterations)
        self._qam = _qam(self.frame.bits_per_use, options.demapper)

    def add_crc(self, payload: Tensor) -> Tensor:
        """Append CRC24B to each block: bits float32 (blocks, k - 24) -> (blocks, k)."""
        return torch.cat([payload, torch.from_numpy(crc24b(payload.numpy())).float()], dim=1)

    def encode_blocks(self, information: Tensor) -> Tensor:
        """Bits float32 (blocks, k) -> coded bits (blocks, n), rate-matched and interleaved."""
        return torch.from_numpy(self._code.encode(information.to(torch.uint8).numpy())).float()

    def map(self, bits: Tensor) -> Tensor:
        """Coded bits (..., m * bits_per_use) -> Gray-mapped QAM symbols complex64 (..., m)."""
        return self._qam.map(bits)

    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        """Symbols complex64 (..., m), N0 float32 (..., m) -> log P(1)/P(0), float32 (..., m * bits_per_use)."""
        return self._qam.llr(symbols, variance)

    @torch.no_grad()
    def decode_blocks(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        """log P(1)/P(0), (b, n) -> payload bits float32 (b, k - 24), and whether each block is right, bool (b,)."""
        if self.options.decoder == "sionna":
            return self._belief_propagation(llr)
        found = self._layered(llr)
        # undecided bits are 0, and the CRC of zeros is right
        good = _crc_holds(found.bits) & found.decided
        return torch.from_numpy(found.bits[:, :-CRC_BITS]).float(), torch.from_numpy(good)

    def _belief_propagation(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        payload = torch.zeros(len(llr), self.frame.k - CRC_BITS)
        good = torch.zeros(len(llr), dtype=torch.bool)
        active, state, left = torch.arange(len(llr)), None, self.options.iterations
        while left > 0 and len(active):
            # The variable-to-check messages are the whole state of flooding: decoding continues from them exactly.
            information, state = self._flooding(
                llr[active], num_iter=min(self.options.check_every, left), msg_v2c=state
            )
            left -= self.options.check_every
            valid = torch.from_numpy(_crc_holds(information.to(torch.uint8).numpy()))
            payload[active[valid]] = information[valid, :-CRC_BITS]
            good[active[valid]] = True
            active, state = active[~valid], state[~valid]
        return payload, good


def _crc_holds(blocks: np.ndarray) -> np.ndarray:
    """Whether the last 24 bits of each block are the CRC of the others: bits uint8 (b, k) -> bool (b,)."""
    return (crc24b(blocks[:, :-CRC_BITS]) == blocks[:, -CRC_BITS:]).all(axis=1)


@functools.lru_cache(maxsize=16)
def _code(frame: Frame, base_graph: str | None) -> NrCode:
    return NrCode(frame.k, frame.n, frame.bits_per_use, base_graph)


@functools.lru_cache(maxsize=16)
def _flooding(frame: Frame, base_graph: str | None):
    try:
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    except ImportError as error:
        raise missing_package("--link nr-sionna", "sionna-no-rt", error) from error
    encoder = LDPC5GEncoder(frame.k, frame.n, num_bits_per_symbol=frame.bits_per_use, bg=base_graph, device="cpu")
    return LDPC5GDecoder(encoder, return_state=True, device="cpu")


@functools.lru_cache(maxsize=16)
def _layered(frame: Frame, base_graph: str | None, iterations: int):
    from baselines.digital.layered import LayeredDecoder

    return LayeredDecoder(_code(frame, base_graph), iterations)


@functools.lru_cache(maxsize=16)
def _qam(bits_per_use: int, demapper: str) -> Qam:
    return Qam(bits_per_use, demapper)
