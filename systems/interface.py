"""The one interface of the bench: encode -> channel -> decode.

Units, said once. A *use* is one complex channel use (two reals). SNR is Es/N0 in dB per complex use: the mean of |x|^2
over a picture's symbols is 1 and the noise is CN(0, 10^(-SNR/10)), half of it per real dimension. CBR = uses / (3 H W).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from systems.side_info import control_uses

if TYPE_CHECKING:  # budgets and names are asked for where nothing is computed, and torch takes seconds to import
    import torch
    from torch import Tensor

TASKS = ("reconstruction", "segmentation")  # the paper's; `bench.measure.tasks` says what each of them is

#: What each task is asked for in words when the user gives no sentence of their own.
DEFAULT_REQUIREMENT = {
    "reconstruction": "Reconstruct the image at the receiver.",
    "segmentation": "Segment the image into object classes.",
}

NUM_CLASSES = 21  # PASCAL VOC: background and 20 objects
VOID = 255  # label of pixels that no metric counts


@dataclass(frozen=True)
class Budget:
    """What one picture may spend, fixed before any system runs.

    Exactly one of `uses` (complex channel uses; reconstruction, from a CBR) and `bits` (coded bits; segmentation) is
    given. A bit budget becomes uses through the bits that one use carries: log2(M) for M-QAM, and for analog symbols
    the granted `analog_bits_per_use` (4, the airtime of 16QAM).

    Side information is sent over the same channel, as a coded word of its own (`systems.side_info`), and charged by its
    length. `control_snr_db` is the SNR in dB that this word is made for where the transmitter asks for no other: the
    harness sets it by the channel, and it is the same at every SNR of a sweep, as an encoder that does not see the SNR
    needs. A word that is lost makes the picture an outage.
    """

    uses: int | None = None
    bits: int | None = None
    analog_bits_per_use: int = 4
    control_snr_db: float = 0.0

    def __post_init__(self):
        if (self.uses is None) == (self.bits is None):
            raise ValueError("a Budget has either uses or bits, not both and not neither")

    @classmethod
    def from_cbr(cls, cbr: float, height: int, width: int, **rule) -> Budget:
        """floor(CBR * 3HW) complex uses; the epsilon keeps 1/16 of 9408*16 from falling to 9407."""
        return cls(uses=math.floor(cbr * 3 * height * width + 1e-9), **rule)

    @classmethod
    def by_rule(
        cls, cbr: float | None, bits: int | None, height: int, width: int, *, uses: int | None = None, **rule
    ) -> Budget:
        """The budget of a picture from whichever of the three is given: a CBR, coded bits, or complex uses."""
        if cbr is not None:
            return cls.from_cbr(cbr, height, width, **rule)
        return cls(uses=uses, bits=bits, **rule)

    def allowed_uses(self, bits_per_use: int | None = None) -> int:
        """Complex uses granted to a system that carries `bits_per_use` coded bits a use (None: analog)."""
        if self.uses is not None:
            return self.uses
        assert self.bits is not None
        return self.bits // (bits_per_use or self.analog_bits_per_use)

    def side_info_uses(self, side_info_bits: int, snr_db: float | None = None) -> int:
        """Complex uses of a word of side information made for `snr_db` (None: for `control_snr_db`).

        A transmitter that sees the SNR may pass it here and as `Transmission.side_info_snr_db`: more bits fit at a high
        SNR than at a low one.
        """
        return control_uses(side_info_bits, self.control_snr_db if snr_db is None else snr_db)


@dataclass(frozen=True)
class Link:
    """All that both ends know beforehand. Nothing else passes from encoder to decoder but symbols and side info.

    `snr_db` is one number, or a tensor (B,) where every picture of a batch meets its own SNR (training, and the
    evaluation of several operating points at once).
    """

    task: str
    height: int
    width: int
    budget: Budget
    channel: str = "awgn"
    snr_db: float | Tensor = 10.0
    requirement: str = ""

    def __post_init__(self):
        if not self.requirement:  # a task that a third party added brings its sentence along
            object.__setattr__(self, "requirement", DEFAULT_REQUIREMENT.get(self.task, ""))

    def snr_tensor(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """SNR in dB of each picture, float32 (B,)."""
        import torch

        snr = torch.as_tensor(self.snr_db, dtype=torch.float32, device=device)
        return snr.expand(batch) if snr.ndim == 0 else snr

    def at(self, **changes) -> Link:
        """The same link with some fields changed."""
        return replace(self, **changes)


@dataclass
class Transmission:
    """What leaves the transmitter.

    symbols: complex64 (B, n), the mean of |x|^2 over each row is 1.
    side_info: uint8 (B, b), bits 0 or 1. They are coded, sent over the same channel beside the symbols, and charged.
    side_info_snr_db: the SNR in dB that they are coded for; None: `Budget.control_snr_db`. It may depend on the link
    alone, never on the pictures.
    report: per-picture lists of values for the results table (payload_bits, header_bits, coded_bits, mcs,
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
        """Bits of side information a picture."""
        return 0 if self.side_info is None else self.side_info.shape[1]


@dataclass
class Received:
    """What reaches the receiver: y = h x + n.

    symbols: complex64 (B, n). csi: the known h, complex64 (B, 1) or (B, n). noise_var: N0 = E|n|^2, float32 (B,).
    side_info: the bits as the control word brought them, uint8 (B, b). Pictures whose word is known to be lost do not
    reach the decoder.
    """

    symbols: Tensor
    csi: Tensor
    noise_var: Tensor
    side_info: Tensor

    def equalised(self) -> tuple[Tensor, Tensor]:
        """Zero-forced symbols y/h, complex64 (B, n), and the noise variance that each then has, float32 (B, n)."""
        gain = self.csi.abs().square().clamp_min(1e-6)
        variance = (self.noise_var[:, None] / gain).expand(self.symbols.shape)
        return self.symbols * self.csi.conj() / gain, variance


@dataclass
class Decoded:
    """What the receiver delivers.

    output: images float32 (B, 3, H, W) in [0, 1], or class logits float32 (B, 21, H, W).
    report: per-picture lists (status "ok" | "outage", n_bits, n_bit_errors, n_blocks, n_block_errors, stop_reason).
    """

    output: Tensor
    report: dict[str, list] = field(default_factory=dict)


class System(ABC):
    """A transmitter and its receiver.

    Subclasses set `name`, `tasks`, and `bits_per_use` (log2 M for a digital system, None for an analog one), and
    implement `encode` and `decode`. Learned systems derive from `systems.learned.LearnedSystem`. All that the harness
    asks of a system stands here.
    """

    name: str = ""
    variant: str = ""  # checkpoint or modulation-and-coding tag; a column of every row
    tasks: tuple[str, ...] = ("reconstruction",)
    options: tuple[str, ...] = ()  # options of the command line that the class takes, such as code_rate
    bits_per_use: int | None = None
    learned: bool = False  # True: it has weights, a size, and can be trained
    genie: bool = False  # True: a bound, which the audit of what passes to the receiver does not hold; ours alone may
    encoder_sees_snr: bool = False  # False: one transmission serves every SNR of a sweep
    joins_snr: bool = False  # True: `decode` takes an SNR per picture, so that a batch may hold several points
    draws: bool = False  # True: it uses the global random streams; it then gets one picture at a time
    label: str = ""  # how figures call a third party's system; "": its name
    colour: str = ""  # its colour there, "#RRGGBB"; "": the figures choose one

    def __init__(self, name: str = ""):
        """The registry passes the name that the system was asked for by."""
        self.name = name or type(self).name

    @abstractmethod
    def encode(self, images: Tensor, link: Link) -> Transmission:
        """Images float32 (B, 3, H, W) in [0, 1] -> at most `link.budget.allowed_uses(self.bits_per_use)` uses a
        picture,
        the uses charged for side information included. Raises BudgetTooSmall."""

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """`encode` in two steps, `prepare(images, link)(link)`: what no SNR changes, done once a sweep with a link
        whose SNR is NaN, and the rest, a function of the same link with its SNR. To override where the first step has
        work to
        do."""
        return lambda at: self.encode(images, at)

    @abstractmethod
    def decode(self, received: Received, link: Link) -> Decoded:
        """Received symbols -> pictures or class logits, at the size that `link` names."""

    def describe(self) -> dict:
        """Facts for the manifest and the table of systems: parameters, training, knowledge, licence."""
        return {"system": self.name, "variant": self.variant, "parameters": 0}

    def to(self, device: torch.device | str) -> System:
        """Move to a device; systems without tensors stay where they are."""
        return self
