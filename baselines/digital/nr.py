"""5G NR LDPC with QAM, the usual link of the digital systems (`--link nr`, `--link nr-sionna`).

CRC, encoder, rate matching, mapping and demapping are Sionna's (its PyTorch release, `sionna-no-rt` 2.x). The link
follows TS 38.212: code blocks of at most 8448 bits, a 24-bit CRC each (CRC24B), base graph 1 or 2, rate matching, and
the bit interleaver of 5.4.2.2. It has two simplifications. All blocks of a picture have the same length; the uses
that are left over are padding, and count. And there is no further CRC over the whole transport block.

Blocks are decoded by `baselines.digital.layered` (min-sum in 8 bits, hundreds of times as fast), or by Sionna's belief
propagation, the reference. Both run on the CPU. Symbols that arrive on a GPU are copied there first.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from baselines.digital.frame import BP_ITERATIONS, CodedModulation, Frame, plan_frame
from systems.errors import MissingDependency, UserError

CRC_BITS = 24
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
        self._crc_encoder, self._crc_decoder = _crc(self.frame.k - CRC_BITS)
        self._encoder = _encoder(self.frame, self.base_graph)
        if options.decoder == "sionna":
            self._flooding = _flooding(self.frame, self.base_graph)
        else:
            self._layered = _layered(self.frame, self.base_graph, options.iterations)
        self._mapper, self._demapper = _qam(self.frame.bits_per_use, options.demapper)

    def add_crc(self, payload: Tensor) -> Tensor:
        """Append CRC24B to each block: bits float32 (blocks, k - 24) -> (blocks, k)."""
        return self._crc_encoder(payload)

    def encode_blocks(self, information: Tensor) -> Tensor:
        """Bits float32 (blocks, k) -> coded bits (blocks, n), rate-matched and interleaved."""
        return self._encoder(information)

    def map(self, bits: Tensor) -> Tensor:
        """Coded bits (..., m * bits_per_use) -> Gray-mapped QAM symbols complex64 (..., m)."""
        return self._mapper(bits)

    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        """Symbols complex64 (..., m), N0 float32 (..., m) -> log P(1)/P(0), float32 (..., m * bits_per_use)."""
        return self._demapper(symbols, variance)

    @torch.no_grad()
    def decode_blocks(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        """log P(1)/P(0), (b, n) -> payload bits float32 (b, k - 24), and whether each block is right, bool (b,)."""
        if self.options.decoder == "sionna":
            return self._belief_propagation(llr)
        found = self._layered(llr)
        bits, valid = self._crc_decoder(torch.from_numpy(found.bits).float())
        # undecided bits are 0, and the CRC of zeros is right
        return bits, valid.reshape(-1) & torch.from_numpy(found.decided)

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
            bits, valid = self._crc_decoder(information)
            valid = valid.reshape(-1)
            payload[active[valid]] = bits[valid]
            good[active[valid]] = True
            active, state = active[~valid], state[~valid]
        return payload, good


def _sionna():
    try:
        import sionna.phy
    except ImportError as error:
        raise MissingDependency(
            f"--link nr needs Sionna ({error}); install it with `pip install sionna-no-rt`"
        ) from error
    return sionna.phy


@functools.lru_cache(maxsize=16)
def _encoder(frame: Frame, base_graph: str | None):
    _sionna()
    from sionna.phy.fec.ldpc import LDPC5GEncoder

    return LDPC5GEncoder(frame.k, frame.n, num_bits_per_symbol=frame.bits_per_use, bg=base_graph, device="cpu")


@functools.lru_cache(maxsize=16)
def _flooding(frame: Frame, base_graph: str | None):
    from sionna.phy.fec.ldpc import LDPC5GDecoder

    return LDPC5GDecoder(_encoder(frame, base_graph), return_state=True, device="cpu")


@functools.lru_cache(maxsize=16)
def _layered(frame: Frame, base_graph: str | None, iterations: int):
    from baselines.digital.layered import LayeredDecoder

    return LayeredDecoder(_encoder(frame, base_graph), iterations)


@functools.lru_cache(maxsize=16)
def _crc(bits: int):
    _sionna()
    from sionna.phy.fec.crc import CRCDecoder, CRCEncoder

    encoder = CRCEncoder("CRC24B", k=bits, device="cpu")
    return encoder, CRCDecoder(encoder, device="cpu")


@functools.lru_cache(maxsize=16)
def _qam(bits_per_use: int, demapper: str):
    _sionna()
    from sionna.phy.mapping import Constellation, Demapper, Mapper

    constellation = Constellation("qam", bits_per_use, device="cpu")
    return Mapper(constellation=constellation, device="cpu"), Demapper(
        demapper, constellation=constellation, device="cpu"
    )
