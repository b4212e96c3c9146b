"""The one interface of the bench: encode -> channel -> decode.

Every system implements `System`. The harness (`bench.measure`) calls it, sends what it transmits over a channel, and
measures what it decodes. This module also holds what passes between the two: `Budget`, `Link`, `Transmission`,
`Received`, `Decoded`.

Units of all code. A *use* is one complex channel use, which carries two real numbers. SNR is Es/N0 in dB per complex
use: the mean of |x|^2 over the symbols of one picture is 1, and the noise is CN(0, 10^(-SNR/10)), half of it per real
dimension. CBR (channel bandwidth ratio) = uses / (3 H W). In shapes, B is the number of pictures in a batch, n the uses
per picture, H and W the height and width in pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from systems.errors import AuditError
from systems.side_info import control_uses

if TYPE_CHECKING:  # torch takes seconds to import; budgets and names are also needed where nothing is computed
    import torch
    from torch import Tensor

TASKS = ("reconstruction", "segmentation")  # the paper's two tasks; `bench.measure.tasks` describes each

#: The sentence that asks for each task when the user gives none.
DEFAULT_REQUIREMENT = {
    "reconstruction": "Reconstruct the image at the receiver.",
    "segmentation": "Segment the image into object classes.",
}

NUM_CLASSES = 21  # PASCAL VOC: background and 20 objects
VOID = 255  # label of pixels that no metric counts


@dataclass(frozen=True)
class Budget:
    """The channel uses or coded bits that one picture may spend, fixed before any system runs.

    Exactly one of `uses` (complex channel uses; for reconstruction, from a CBR) and `bits` (coded bits; for
    segmentation) is given. A budget in bits is converted to uses by the number of bits that one use carries. This
    number is log2(M) for M-QAM. For analog symbols it is `analog_bits_per_use` (4, as 16QAM has).

    Side information is sent over the same channel as a coded word of its own (`systems.side_info`), and the uses of
    this word are charged. `control_snr_db` is the SNR in dB that the word is coded for, unless the transmitter asks for
    another one. The harness sets it for each channel. It is the same at every SNR of a sweep, because an encoder that
    does not see the SNR needs this. If the word is lost, the picture is an outage.

    Raises ValueError unless exactly one of `uses` and `bits` is given.
    """

    uses: int | None = None
    bits: int | None = None
    analog_bits_per_use: int = 4
    control_snr_db: float = 0.0

    def __post_init__(self):
        if (self.uses is None) == (self.bits is None):
            raise ValueError(f"a Budget takes exactly one of uses and bits; it got uses={self.uses}, bits={self.bits}")

    @classmethod
    def from_cbr(cls, cbr: float, height: int, width: int, **rule) -> Budget:
        """The budget of one picture: floor(cbr * 3 * height * width) complex uses.

        `rule` holds other fields of `Budget`. The small constant 1e-9 makes up for rounding: without it, a product that
        should be whole could fall to the next lower whole number.
        """
        return cls(uses=math.floor(cbr * 3 * height * width + 1e-9), **rule)

    def allowed_uses(self, bits_per_use: int | None = None) -> int:
        """Complex uses granted to a system whose uses carry `bits_per_use` coded bits each (None: an analog system)."""
        if self.uses is not None:
            return self.uses
        assert self.bits is not None
        return self.bits // (bits_per_use or self.analog_bits_per_use)

    def side_info_uses(self, side_info_bits: int, snr_db: float | None = None) -> int:
        """Complex uses of a word of `side_info_bits` bits, coded for an SNR of `snr_db` dB (None: `control_snr_db`).

        A transmitter that sees the SNR may pass it here and as `Transmission.side_info_snr_db`. The same uses hold more
        bits at a high SNR than at a low one.
        """
        return control_uses(side_info_bits, self.control_snr_db if snr_db is None else snr_db)


@dataclass(frozen=True)
class Link:
    """Everything that both ends know beforehand. From encoder to decoder pass only the symbols and the side
    information.

    task: one of `TASKS`, or a task that a third party added. height, width: of the pictures, in pixels. channel: its
    name.
    snr_db: one number, or a tensor (B,) where every picture of a batch has its own SNR (in training, and where several
    operating points are evaluated at once).
    requirement: the user's request in words; empty: the default sentence of the task.
    """

    task: str
    height: int
    width: int
    budget: Budget
    channel: str = "awgn"
    snr_db: float | Tensor = 10.0
    requirement: str = ""

    def __post_init__(self):
        if not self.requirement:  # a task that a third party added has no default sentence
            object.__setattr__(self, "requirement", DEFAULT_REQUIREMENT.get(self.task, ""))

    def snr_tensor(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """SNR in dB of each picture, float32 (B,)."""
        import torch

        snr = torch.as_tensor(self.snr_db, dtype=torch.float32, device=device)
        return snr.expand(batch) if snr.ndim == 0 else snr

    def at(self, **changes) -> Link:
        """A copy of this link with some fields changed."""
        return replace(self, **changes)


@dataclass
class Transmission:
    """The output of a transmitter.

    symbols: complex64 (B, n); the mean of |x|^2 over each row is 1.
    side_info: uint8 (B, b), bits 0 or 1; None means no bits. The harness codes them, sends them over the same channel
    beside the symbols, and charges their uses.
    side_info_snr_db: the SNR in dB that they are coded for; None: `Budget.control_snr_db`. It may depend on the link
    alone, never on the pictures.
    report: lists with one value per picture, for the results table (payload_bits, header_bits, coded_bits, mcs,
    source_scale, source_chroma).
    """

    symbols: Tensor
    side_info: Tensor | None = None
    report: dict[str, list] = field(default_factory=dict)
    side_info_snr_db: float | None = None

    def __post_init__(self):
        if self.side_info is None:
            import torch

            self.side_info = torch.zeros(len(self.symbols), 0, dtype=torch.uint8, device=self.symbols.device)

    @property
    def side_info_bits(self) -> int:
        """Bits of side information per picture."""
        return 0 if self.side_info is None else self.side_info.shape[1]


@dataclass
class Received:
    """The input of a receiver: y = h x + n.

    symbols: y, complex64 (B, n).
    csi: h as the receiver knows it, complex64 (B, 1) or (B, n).
    noise_var: N0 = E|n|^2, float32 (B,).
    side_info: the bits of the control word as they were received, uint8 (B, b). A picture whose word is known to be
    lost is not given to the decoder.
    """

    symbols: Tensor
    csi: Tensor
    noise_var: Tensor
    side_info: Tensor

    def equalised(self) -> tuple[Tensor, Tensor]:
        """Zero-forced symbols y/h, complex64 (B, n), and the noise variance of each after this division, float32
        (B, n).
        """
        gain = self.csi.abs().square().clamp_min(1e-6)
        variance = (self.noise_var[:, None] / gain).expand(self.symbols.shape)
        return self.symbols * self.csi.conj() / gain, variance


@dataclass
class Decoded:
    """The output of a receiver.

    output: pictures float32 (B, 3, H, W) in [0, 1], or class logits float32 (B, 21, H, W).
    report: lists with one value per picture (status "ok" or "outage", n_bits, n_bit_errors, n_blocks, n_block_errors,
    stop_reason).
    """

    output: Tensor
    report: dict[str, list] = field(default_factory=dict)


def joined_reports(reports: Sequence[dict[str, list]]) -> dict[str, list]:
    """Reports of single pictures as the report of their batch. What one does not tell is None."""
    keys = dict.fromkeys(key for report in reports for key in report)
    return {key: [value for report in reports for value in report.get(key, [None])] for key in keys}


def joined_transmissions(transmissions: Sequence[Transmission]) -> Transmission:
    """Several transmissions with one number of uses as one batch. Raises AuditError if their control words are made for
    different SNRs, since a batch has one.
    """
    import torch

    made_for = {sent.side_info_snr_db for sent in transmissions}
    if len(made_for) > 1:
        raise AuditError("audit: the control words of one batch are made for different SNRs")
    side_info = [sent.side_info for sent in transmissions if sent.side_info is not None]
    return Transmission(
        torch.cat([sent.symbols for sent in transmissions]),
        torch.cat(side_info),
        joined_reports([sent.report for sent in transmissions]),
        *made_for,
    )


class System(ABC):
    """A transmitter and its receiver.

    Subclasses set `name`, `tasks`, and `bits_per_use` (log2 M for a digital system, None for an analog one), and
    implement `encode` and `decode`. Learned systems derive from `systems.learned.LearnedSystem`. This class declares
    everything that the harness asks of a system.
    """

    name: str = ""
    variant: str = ""  # tag of the checkpoint, or of modulation and code; a column of the results
    tasks: tuple[str, ...] = ("reconstruction",)
    options: tuple[str, ...] = ()  # options of the command line that `__init__` takes, such as code_rate
    bits_per_use: int | None = None
    learned: bool = False  # True: it has weights, a size, and can be trained
    genie: bool = False  # True: a bound, not bound by the audit; only our own systems may set it
    encoder_sees_snr: bool = False  # False: one transmission serves every SNR of a sweep
    opens_files: bool = False  # True: `encode` or `decode` opens files, imports modules, or starts programs
    joins_snr: bool = False  # True: `decode` takes one SNR per picture, so a batch may hold several points
    draws: bool = False  # True: it uses global random generators; the harness then gives it single pictures
    label: str = ""  # the name of a third party's system in figures; "": the system's own name
    colour: str = ""  # its colour in figures, "#RRGGBB"; "": the figures choose one

    def __init__(self, name: str = ""):
        """name: the name that the user asked for; the registry passes it. Empty: the class's own name."""
        self.name = name or type(self).name

    @abstractmethod
    def encode(self, images: Tensor, link: Link) -> Transmission:
        """Encode pictures for the channel.

        images: float32 (B, 3, H, W) in [0, 1]. Each picture may spend at most
        `link.budget.allowed_uses(self.bits_per_use)` complex uses. These include the uses that are charged for side
        information. Raises BudgetTooSmall if the smallest message does not fit.
        """

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """Split `encode` into two steps: `encode(images, link)` equals `prepare(images, link)(link)`.

        The first step does everything that does not depend on the SNR. The harness calls it once per sweep, with a link
        whose SNR is NaN. It returns the second step: a function that takes the same link with its SNR and returns the
        transmission.
        images: float32 (B, 3, H, W) in [0, 1]. Raises BudgetTooSmall, in either step. Override it in a system whose
        first step takes long.
        """
        return lambda at: self.encode(images, at)

    @abstractmethod
    def decode(self, received: Received, link: Link) -> Decoded:
        """Decode received symbols (B, n) at the height and width that `link` gives.

        The output holds pictures float32 (B, 3, H, W) in [0, 1], or class logits float32 (B, 21, H, W), as `link.task`
        asks.
        """

    def describe(self) -> dict:
        """Facts for the manifest and the table of systems, such as parameters, training, knowledge and licence."""
        return {"system": self.name, "variant": self.variant, "parameters": 0}

    def to(self, device: torch.device | str) -> System:
        """Move the system to a device and return it. Systems without tensors stay where they are."""
        return self
