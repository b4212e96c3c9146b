"""5G NR LDPC with QAM. CRC, encoder, rate matching, mapping and demapping are Sionna's (its PyTorch release,
`sionna-no-rt` 2.x).

Follows TS 38.212: code blocks of at most 8448 bits, a 24-bit CRC each (CRC24B), base graph 1 or 2, rate matching, and
the bit interleaver of 5.4.2.2. Two simplifications, both in the open: all blocks of a picture are equal (the left-over
uses are padding, which counts), and there is no further CRC over the whole transport block.

Blocks are decoded by `baselines.digital.layered` (min-sum, 8 bits, hundreds of times as fast) or by Sionna's belief
propagation, the reference; on the CPU, both: symbols that arrive on a GPU are brought there first.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from baselines.digital.frame import CodedModulation, Frame, plan_frame
from systems.errors import MissingDependency, UserError

CRC_BITS = 24
DECODERS = ("layered", "sionna")
MAX_K = {"bg1": 8448, "bg2": 3840}
LOWEST_RATE, HIGHEST_RATE = Fraction(1, 5), Fraction(948, 1024)


@dataclass(frozen=True)
class NrOptions:
    """Named choices of the receiver.

    decoder: "layered" (min-sum; a block stops at the first word of the code) or "sionna" (belief propagation: flooding,
    exact check-node rule). iterations: at most. check_every: of "sionna", iterations between two looks at the CRC;
    blocks that pass leave the batch. demapper: "app" (exact) or "maxlog". A CRC decides in the end, whatever the
    decoder.
    """

    decoder: str = "layered"
    iterations: int = 20
    check_every: int = 4
    demapper: str = "app"


class NrCodedModulation(CodedModulation):
    """NR LDPC for `uses` uses of `order`-QAM at `rate`, in equal blocks or as `frame` says.

    Raises BudgetTooSmall and UserError.
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
            raise UserError(f"code rate {rate} is outside what NR LDPC codes carry, 1/5 to 0.92; try 5/6")
        self.base_graph = None if rate >= Fraction(1, 3) else "bg2"  # None: the choice of TS 38.212
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
        return self._crc_encoder(payload)

    def encode_blocks(self, information: Tensor) -> Tensor:
        return self._encoder(information)

    def map(self, bits: Tensor) -> Tensor:
        return self._mapper(bits)

    def llr(self, symbols: Tensor, variance: Tensor) -> Tensor:
        return self._demapper(symbols, variance)

    @torch.no_grad()
    def decode_blocks(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        if self.options.decoder == "sionna":
            return self._belief_propagation(llr)
        found = self._layered(llr)
        bits, valid = self._crc_decoder(torch.from_numpy(found.bits).float())
        return bits, valid.reshape(-1) & torch.from_numpy(
            found.decided
        )  # a block of undecided bits is all 0, as is its CRC

    def _belief_propagation(self, llr: Tensor) -> tuple[Tensor, Tensor]:
        payload = torch.zeros(len(llr), self.frame.k - CRC_BITS)
        good = torch.zeros(len(llr), dtype=torch.bool)
        active, state, left = torch.arange(len(llr)), None, self.options.iterations
        while left > 0 and len(active):
            # flooding keeps its whole state in the variable-to-check messages: going on from them is exact
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
        raise MissingDependency(f"--link nr needs Sionna ({error}): pip install sionna-no-rt") from error
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
