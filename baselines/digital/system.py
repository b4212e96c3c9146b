"""Digital systems: a picture codec, a channel code and QAM (`jpeg-ldpc-16qam` and its family).

The registry makes them. They are the paper's baseline "JPEG+LDPC+QAM", with separate source and channel coding. The
picture is stored in the best file that fits the payload of the budget (`baselines.digital.codec`). Then follow a
channel code at a fixed rate, Gray-mapped QAM, soft demapping, and iterative decoding. A CRC decides whether a block is
right. A picture with a failed block, or with an unreadable file, is an outage: it becomes mid-grey, or all background.

    <codec>-ldpc-<M>qam[-fcn]   -fcn labels the decoded picture with an FCN
    <codec>-ldpc-adaptive       the SNR, which both ends know, chooses the scheme from `baselines.digital.mcs`

`baselines.digital.names` holds the grammar of these names.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from baselines.digital import codec as source_codec
from baselines.digital import mcs as mcs_table
from baselines.digital import names
from baselines.digital.codec import Coded, UnreadablePayload
from baselines.digital.coded_modulation import BP_ITERATIONS, CodedModulation
from baselines.digital.fcn_stage import Labels
from baselines.digital.frame import Frame, parse_rate
from systems import stage_times
from systems.errors import BudgetTooSmall, UserError
from systems.interface import NUM_CLASSES, Decoded, Link, Received, System, Transmission
from systems.layers.power import unit_power
from systems.pixels import to_uint8

CODED_MODULATIONS = ("nr", "nr-sionna", "pyldpc")
HEADER_BITS = 24  # number of bytes of the file, at the start of the payload
GREY = 0.5  # value of the picture of an outage: 128 of 255 after rounding
PADDING_SEED = 20000


class _Digital(System):
    """What the fixed and the adaptive systems share. `_scheme` gives the constellation and the
    code rate for a picture.
    """

    opens_files = True  # the tables of codes are read, and numba imports its compiler, when they are first needed
    codec: str
    link_name = "nr"
    bp_iterations: int

    def _scheme(self, snr_db: float, channel: str) -> tuple[int, Fraction]:
        """Constellation size and code rate for a picture that is sent at `snr_db` dB on `channel`."""
        raise NotImplementedError(f"{type(self).__name__} must implement _scheme(snr_db, channel)")

    def _coder(self, uses: int, snr_db: float, channel: str) -> CodedModulation:
        order, rate = self._scheme(snr_db, channel)
        return make_coded_modulation(self.link_name, uses, order, rate, self.bp_iterations)

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1].

        Every picture uses all uses of the budget, padding included.
        """
        uses = link.budget.allowed_uses(self.bits_per_use)
        columns = ("mcs", "payload_bits", "header_bits", "coded_bits", "source_scale", "source_chroma", "quality")
        rows, report = [], {column: [] for column in columns}
        for image, snr in zip(to_pictures(images), link.snr_tensor(len(images)).tolist(), strict=True):
            order, rate = self._scheme(snr, link.channel)
            coder = self._coder(uses, snr, link.channel)
            coded = self._fit(image, coder.frame, mcs_table.tag(order, rate))
            rows.append(coder.encode(pack(coded.payload, coder.frame.payload_bits)))
            facts = (
                mcs_table.tag(order, rate),
                8 * len(coded.payload),
                HEADER_BITS,
                coder.frame.coded_bits,
                coded.scale,
                coded.chroma,
                coded.quality,
            )
            for column, value in zip(columns, facts, strict=True):
                report[column].append(value)
        symbols, _ = unit_power(torch.stack(rows))
        return Transmission(symbols.to(images.device), report=report)

    def _fit(self, image: np.ndarray, frame: Frame, tag: str) -> Coded:
        max_bytes = (frame.payload_bits - HEADER_BITS) // 8
        try:
            with stage_times.stage("source code"):
                return source_codec.encode_under(image, max_bytes, self.codec)
        except BudgetTooSmall as error:
            raise BudgetTooSmall(
                f"{self.name}: {frame.uses} channel uses at {tag} carry {max(max_bytes, 0)} bytes after CRC and "
                f"header, and {error}; give a larger CBR or bit budget"
            ) from error

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures float32 (B, 3, H, W) in [0, 1], grey for an outage."""
        pictures, report = self._pictures(received, link)
        stack = torch.stack([grey(link) if picture is None else from_uint8(picture) for picture in pictures])
        return Decoded(stack.to(received.symbols.device), report)

    def _pictures(self, received: Received, link: Link) -> tuple[list[np.ndarray | None], dict[str, list]]:
        """Decoded pictures, uint8 (H, W, 3), or None for an outage; and the receiver's report."""
        symbols, variance = (tensor.cpu() for tensor in received.equalised())
        uses = link.budget.allowed_uses(self.bits_per_use)
        columns = ("status", "n_blocks", "n_block_errors", "n_bits", "n_bit_errors", "stop_reason")
        pictures, report = [], {column: [] for column in columns}
        for row, snr in enumerate(link.snr_tensor(len(symbols)).tolist()):
            coder = self._coder(uses, snr, link.channel)
            delivery = coder.decode(symbols[row], variance[row])
            picture, reason = None, delivery.stop_reason
            if delivery.bits is not None:
                try:
                    with stage_times.stage("source code"):
                        picture = source_codec.decode(unpack(delivery.bits), self.codec, link.height, link.width)
                except UnreadablePayload:
                    reason = "unreadable file"
            pictures.append(picture)
            # the receiver does not know the bits that were sent, so the counts of bit errors stay empty
            status = "outage" if picture is None else "ok"
            # if decoding stopped early, the errors of the remaining blocks are not known
            blocks = coder.frame.blocks
            errors = delivery.block_errors if delivery.blocks_decoded == blocks else None
            facts = (status, blocks, errors, None, None, reason)
            for column, value in zip(columns, facts, strict=True):
                report[column].append(value)
        return pictures, report

    def describe(self) -> dict:
        """See `System.describe`."""
        return {
            "system": self.name,
            "variant": self.variant,
            "parameters": 0,
            "codec": self.codec,
            "link": self.link_name,
            "bp_iterations": self.bp_iterations,
            "knowledge": "channel gain and SNR at the receiver",
        }


class DigitalSystem(_Digital):
    """`<codec>-ldpc-<M>qam`: one constellation and one code rate at every SNR.

    code_rate: such as '5/6' or 0.8333.
    link: 'nr' (5G NR LDPC), 'nr-sionna' (the same code, decoded by Sionna's belief propagation) or 'pyldpc' (Gallager
    codes).
    bp_iterations: the most iterations of the decoder.
    Raises UserError for values that do not exist.
    """

    tasks = ("reconstruction",)
    options = ("code_rate", "link", "bp_iterations")
    family = names.FIXED

    def __init__(self, name: str, code_rate: float | str = "5/6", link: str = "nr", bp_iterations: int = BP_ITERATIONS):
        parts = self.family.parse(name)
        self.name, self.codec, self.order = name, parts.codec, parts.order
        self.bits_per_use = self.order.bit_length() - 1
        self.rate = parse_rate(code_rate)
        self.link_name = check_coded_modulation(link)
        self.bp_iterations = check_iterations(bp_iterations)
        self.variant = mcs_table.tag(self.order, self.rate) + ("" if link == "nr" else f"-{link}")

    def _scheme(self, snr_db: float, channel: str) -> tuple[int, Fraction]:
        return self.order, self.rate


class DigitalSegmentation(Labels, DigitalSystem):
    """`<codec>-ldpc-<M>qam-fcn`: the FCN labels the decoded picture. An outage is labelled background.

    size, checkpoint, precision: of the FCN. The other options are those of DigitalSystem.
    """

    options = (*DigitalSystem.options, "size", "checkpoint", "precision")
    family = names.LABELLED

    def __init__(
        self, name: str, size: str = "small", checkpoint: str = "shipped", precision: str = "float32", **options
    ):
        super().__init__(name, **options)
        self._take_fcn(size=size, checkpoint=checkpoint, precision=precision)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> class logits float32 (B, 21, H, W)."""
        pictures, report = self._pictures(received, link)
        logits = torch.zeros(len(pictures), NUM_CLASSES, link.height, link.width)
        for row, picture in enumerate(pictures):
            if picture is None:
                logits[row, 0] = 1.0  # background, the most common class, is the best guess without a picture
            else:
                logits[row] = self._label(from_uint8(picture))
        return Decoded(logits.to(received.symbols.device), report)

    def describe(self) -> dict:
        """See `System.describe`."""
        labeller = {key: value for key, value in self.fcn.describe().items() if key not in ("system", "variant")}
        return super().describe() | labeller | {"fcn": self.fcn.variant}


class AdaptiveDigital(_Digital):
    """`<codec>-ldpc-adaptive`: the best scheme of the table for the mean SNR and the channel, which both ends know.

    The transmitter does not know the gain. Under block fading it takes the best scheme that loses at most one picture
    in ten (`mcs.choose`).
    """

    tasks = ("reconstruction",)
    options = ("bp_iterations",)
    encoder_sees_snr = True
    variant = "adaptive"

    def __init__(self, name: str, bp_iterations: int = BP_ITERATIONS):
        self.name, self.codec = name, names.ADAPTIVE.parse(name).codec
        self.bp_iterations = check_iterations(bp_iterations)

    def _scheme(self, snr_db: float, channel: str) -> tuple[int, Fraction]:
        scheme = mcs_table.choose(snr_db, channel)
        return scheme.order, scheme.rate


def make_coded_modulation(name: str, uses: int, order: int, rate: Fraction, iterations: int) -> CodedModulation:
    """The coded modulation for `--link NAME` (one of CODED_MODULATIONS), for one budget and one scheme.

    uses: complex uses. order: points of the constellation. rate: of the code. iterations: of the decoder.
    Raises BudgetTooSmall, UserError, MissingDependency.
    """
    if name != "pyldpc":
        from baselines.digital.nr import NrCodedModulation, NrOptions

        decoder = "sionna" if name == "nr-sionna" else "layered"
        return NrCodedModulation(uses, order, rate, NrOptions(decoder, iterations))
    from baselines.digital.textbook import TextbookCodedModulation

    return TextbookCodedModulation(uses, order, rate, iterations)


def before_fork() -> None:
    """Load the compiled decoder. The harness calls it before it forks processes that would each do so."""
    link = make_coded_modulation("nr", uses=512, order=4, rate=Fraction(1, 2), iterations=1)
    link.decode_blocks(link.llr(torch.zeros(1, 512, dtype=torch.complex64), torch.ones(1, 512)))


def check_coded_modulation(name: str) -> str:
    """Return `name` if it is one of CODED_MODULATIONS. Otherwise raise UserError."""
    if name not in CODED_MODULATIONS:
        raise UserError(f"unknown link {name!r}; links are {', '.join(CODED_MODULATIONS)}")
    return name


def check_iterations(iterations: int) -> int:
    """Return `iterations` if it is at least 1. Otherwise raise UserError."""
    if iterations < 1:
        raise UserError(f"bp_iterations is {iterations}; it must be at least 1")
    return iterations


def pack(payload: bytes, payload_bits: int) -> np.ndarray:
    """A file in the payload of a frame, uint8 (payload_bits,): header (number of bytes), file, and known random bits as
    padding.
    """
    header = len(payload).to_bytes(HEADER_BITS // 8, "big")
    bits = np.unpackbits(np.frombuffer(header + payload, dtype=np.uint8))
    rng = np.random.Generator(np.random.PCG64(PADDING_SEED))
    return np.concatenate([bits, rng.integers(0, 2, payload_bits - len(bits), dtype=np.uint8)])


def unpack(bits: np.ndarray) -> bytes:
    """The inverse of `pack`: bits uint8 (payload_bits,) -> file. Raises UnreadablePayload if the header claims more
    bytes than there are.
    """
    count = int.from_bytes(np.packbits(bits[:HEADER_BITS]).tobytes(), "big")
    end = HEADER_BITS + 8 * count
    if end > len(bits):
        raise UnreadablePayload(f"the header claims {count} bytes, more than the payload holds")
    return np.packbits(bits[HEADER_BITS:end]).tobytes()


def to_pictures(images: Tensor) -> np.ndarray:
    """Pictures float32 (B, 3, H, W) in [0, 1] -> uint8 (B, H, W, 3), the layout of the codecs."""
    return to_uint8(images).permute(0, 2, 3, 1).cpu().contiguous().numpy()


def from_uint8(picture: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture).copy()).permute(2, 0, 1).float() / 255


def grey(link: Link) -> Tensor:
    """The picture of an outage, float32 (3, H, W)."""
    return torch.full((3, link.height, link.width), GREY)
