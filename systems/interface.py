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

if TYPE_CHECKING:  # budgets and names are asked for where nothing is computed, and torch takes seconds to import
    import torch
    from torch import Tensor

TASKS = ("reconstruction", "segmentation")

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

    Side information is charged at `side_info_bits_per_use` = 0.5: QPSK at code rate 1/4, whose Shannon limit (-3.8 dB)
    lies below the sweep on AWGN. Its delivery without error is granted, not simulated: the 8 bits of the analog
    systems, coded alone, would be lost about once in fifty times at 0 dB, and under block fading in every fade below
    the limit.
    """

    uses: int | None = None
    bits: int | None = None
    analog_bits_per_use: float = 4.0
    side_info_bits_per_use: float = 0.5

    def __post_init__(self):
        if (self.uses is None) == (self.bits is None):
            raise ValueError("a Budget has either uses or bits, not both and not neither")

    @classmethod
    def from_cbr(cls, cbr: float, height: int, width: int, **rule) -> Budget:
        """floor(CBR * 3HW) complex uses; the epsilon keeps 1/16 of 9408*16 from falling to 9407."""
        return cls(uses=math.floor(cbr * 3 * height * width + 1e-9), **rule)

    @classmethod
    def by_rule(cls, cbr: float | None, bits: int | None, height: int, width: int) -> Budget:
        """The budget of a picture from whichever of the two rules is given."""
        return cls(bits=bits) if cbr is None else cls.from_cbr(cbr, height, width)

    def allowed_uses(self, bits_per_use: float | None = None) -> int:
        """Complex uses granted to a system that carries `bits_per_use` coded bits a use (None: analog)."""
        if self.uses is not None:
            return self.uses
        return math.floor((self.bits or 0) / (bits_per_use or self.analog_bits_per_use) + 1e-9)

    def side_info_uses(self, side_info_bits: int) -> int:
        """Complex uses charged for side information that bypasses the symbols."""
        return math.ceil(side_info_bits / self.side_info_bits_per_use)


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
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; tasks are {', '.join(TASKS)}")
        if not self.requirement:
            object.__setattr__(self, "requirement", DEFAULT_REQUIREMENT[self.task])

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
    side_info: uint8 (B, b), bits 0 or 1. The decoder gets these very bits, so they cannot be under-declared.
    report: per-picture lists of values for the results table (payload_bits, header_bits, coded_bits, mcs,
    source_scale).
    """

    symbols: Tensor
    side_info: Tensor | None = None
    report: dict[str, list] = field(default_factory=dict)

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
    side_info: the transmitted bits, uint8 (B, b).
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
    bits_per_use: float | None = None
    learned: bool = False  # True: it has weights, a size, and can be trained
    genie: bool = False  # True: a bound, which the audit of what passes to the receiver does not hold; ours alone may
    encoder_sees_snr: bool = False  # False: one transmission serves every SNR of a sweep
    joins_snr: bool = False  # True: `decode` takes an SNR per picture, so that a batch may hold several points
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
