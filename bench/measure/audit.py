"""The audit: it counts what a system really spent, and raises an error if a rule of the comparison is broken.

`bench.measure.point` calls it for every batch. A breach is an `AuditError` that names the system, the picture and the
numbers. It is never only a warning, because a curve that was measured with 1 % too much power is wrong. `README.md`
beside this file lists the rules, and the breaches that no audit detects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from bench.measure import control_channel
from bench.util.files import is_formula
from systems.errors import AuditError
from systems.interface import Decoded, Link, Transmission

if TYPE_CHECKING:
    from bench.measure.tasks import Task

POWER_TOLERANCE = 1e-3  # of the mean of |x|^2 over one picture (not over a batch)
#: Symbols at most so far apart count as one point. Rounding errors are smaller, and a distance 80 dB below the signal
#: carries no information.
POINT_RADIUS = 1e-4
MOST_POINTS = 256  # an analog system with no more different symbols counts as digital, with its own constellation

#: Columns of samples.csv that a system may report, one value per picture, and their types.
REPORT_COLUMNS: dict[str, type] = {
    "payload_bits": int, "header_bits": int, "coded_bits": int, "mcs": str, "source_scale": float,
    "source_chroma": str,
    "status": str, "stop_reason": str, "n_bits": int, "n_bit_errors": int, "n_blocks": int, "n_block_errors": int,
}  # fmt: skip
_LONGEST_WORD = 100
STATUS = ("ok", "outage")


class Declared(Protocol):
    """What the audit needs to know of a system. Both `bench.measure.calls.Facts` and a system have it."""

    @property
    def name(self) -> str:
        """The name of the system."""
        ...

    @property
    def bits_per_use(self) -> int | None:
        """Coded bits per complex use; None: analog."""
        ...

    @property
    def genie(self) -> bool:
        """Whether it is a bound."""
        ...


@dataclass(frozen=True)
class Spent:
    """What each picture of a batch spent. All pictures of a batch have the same number of uses.

    n_uses: complex uses, symbol_uses + side_uses.
    symbol_uses, side_uses: uses of the symbols, and of the side information.
    side_bits: bits of side information.
    tx_power: mean |x|^2 of each picture.
    cbr: n_uses / (3HW).
    budget_uses: uses that the system was allowed.
    bits_per_use: of each picture: the declared number; or log2 of the number of different symbols, if that is small; or
    the bits that an analog use counts as.
    """

    n_uses: int
    symbol_uses: int
    side_bits: int
    side_uses: int
    tx_power: list[float]
    cbr: float
    budget_uses: int
    bits_per_use: list[int]

    @property
    def bits(self) -> list[float]:
        """Coded bits of each picture. The uses of the control word count like the others."""
        return [float(self.n_uses * bits) for bits in self.bits_per_use]


def audit(system: Declared, transmission: Transmission, link: Link) -> Spent:
    """Check one batch of symbols against the rules, and count what it spent. Raises AuditError.

    `link` is the harness's own object, so a system cannot have changed it. The rules:

    - Symbols are complex64 (B, n), n >= 1, finite, with mean |x|^2 = 1 within 1e-3 for each picture.
    - Side information is uint8 (B, b), zeros and ones.
    - The uses of the symbols and of the control word together are within the budget. Under a budget in bits, a use of
      a digital system's control word counts as the bits of the constellation that the harness sends it with, if these
      are more than the system's own. Otherwise a BPSK system could send its picture as a control word in 256QAM.
    - A system that declares `bits_per_use` sends at most 2^bits_per_use different symbols. Otherwise an analog system
      could claim QPSK and take twice its uses. Only this rule does not apply with `genie = True`, because a capacity
      bound sends no real code words.
    """
    symbols, side_info = transmission.symbols, transmission.side_info
    assert side_info is not None
    if symbols.dtype != torch.complex64:
        raise _breach(system, f"the symbols are {_type_name(symbols)}; they must be complex64")
    if symbols.ndim != 2 or symbols.shape[1] < 1:
        raise _breach(system, f"the symbols have shape {tuple(symbols.shape)}; it must be (pictures, uses)")
    batch, symbol_uses = symbols.shape

    bad = (~torch.isfinite(torch.view_as_real(symbols))).sum(dim=(1, 2))
    for index in bad.nonzero()[:1, 0].tolist():
        raise _breach(
            system, f"{int(bad[index])} of the {2 * symbol_uses} real values of its symbols are not finite", index
        )
    power = torch.view_as_real(symbols).double().square().sum(dim=(1, 2)) / symbol_uses
    for index in ((power - 1).abs() > POWER_TOLERANCE).nonzero()[:1, 0].tolist():
        raise _breach(
            system, f"the mean of |x|^2 is {power[index]:.6f}; it must be 1 within {POWER_TOLERANCE:g}", index
        )

    if side_info.dtype != torch.uint8 or side_info.ndim != 2 or len(side_info) != batch:
        found = f"{_type_name(side_info)} {tuple(side_info.shape)}"
        raise _breach(system, f"the side information is {found}; it must be uint8 ({batch}, bits)")
    for index in (side_info > 1).any(dim=1).nonzero()[:1, 0].tolist():
        value = int(side_info[index].max())
        raise _breach(system, f"the side information holds the value {value}; it may hold only 0 and 1", index)
    made_for = transmission.side_info_snr_db
    if made_for is not None and (not isinstance(made_for, int | float) or not math.isfinite(made_for)):
        raise _breach(system, f"side_info_snr_db is {made_for!r}; it must be a number of dB or None")

    side_bits = side_info.shape[1]
    side_uses = link.budget.side_info_uses(side_bits, made_for)
    allowed = link.budget.allowed_uses(system.bits_per_use)
    used = symbol_uses + side_uses
    if used > allowed:
        parts = f"{symbol_uses} symbols + {side_uses} for {side_bits} bits of side information"
        excess = f"{used} uses ({parts}) exceed the budget of {allowed} by {used - allowed}"
        raise _breach(system, excess, f"0 to {batch - 1}")
    if link.budget.bits is not None and system.bits_per_use is not None and side_bits:
        own, word = system.bits_per_use, control_channel.bits_per_use(side_bits, side_uses)
        coded = symbol_uses * own + side_uses * max(own, word)
        if coded > link.budget.bits:
            parts = f"{symbol_uses} symbols of {own} and {side_uses} uses of side information of {max(own, word)}"
            raise _breach(
                system, f"{coded} coded bits ({parts}) exceed the budget of {link.budget.bits}", f"0 to {batch - 1}"
            )
    carried = []
    for index in range(batch):
        if system.genie:
            carried.append(system.bits_per_use or link.budget.analog_bits_per_use)
            continue
        limit = MOST_POINTS if system.bits_per_use is None else 2**system.bits_per_use
        points = count_points(symbols[index], limit) if limit < symbol_uses else 0
        if system.bits_per_use is not None:
            if points > limit:
                excess = (
                    f"it sends more than {limit} different symbols; {system.bits_per_use} bits per use allow no more"
                )
                raise _breach(system, excess, index)
            carried.append(system.bits_per_use)
        else:
            few = 0 < points <= limit
            carried.append(max(1, math.ceil(math.log2(points))) if few else link.budget.analog_bits_per_use)
    cbr = used / (3 * link.height * link.width)
    return Spent(used, symbol_uses, side_bits, side_uses, power.tolist(), cbr, allowed, carried)


class Ledger:
    """Checks that all transmissions of a system under the same link have the same number of uses.

    Otherwise a number of uses that depends on the picture would tell the receiver something that is not counted.
    """

    def __init__(self) -> None:
        self._uses: dict[tuple, tuple[int, int, int]] = {}

    def check(self, system: Declared, link: Link, spent: Spent, snr_db: float | None) -> None:
        """Compare with earlier transmissions. snr_db: None if the encoder does not see it. Raises AuditError."""
        key = (link.task, link.requirement, link.height, link.width, link.budget, link.channel, snr_db)
        uses = (spent.symbol_uses, spent.side_bits, spent.side_uses)
        before = self._uses.setdefault(key, uses)
        if before != uses:
            names = "the symbol uses, bits and uses of side information"
            fix = "pad all pictures to the same numbers"
            raise _breach(system, f"{names} are {uses}, and were {before} for another picture of this link; {fix}")


def audit_output(system: Declared, decoded: Decoded, link: Link, batch: int, task: Task) -> Tensor:
    """Check the output of a receiver: finite floats (B, channels, H, W), as its task says. Returns it detached.

    Raises AuditError.
    """
    output = decoded.output
    if not isinstance(output, Tensor):
        raise _breach(system, f"the output is a {type(output).__name__}; it must be a tensor")
    output = output.detach()
    wanted = (batch, task.channels, link.height, link.width)
    if tuple(output.shape) != wanted or not output.is_floating_point():
        raise _breach(system, f"the output is {_type_name(output)} {tuple(output.shape)}; it must be float {wanted}")
    bad = (~torch.isfinite(output)).flatten(1).sum(dim=1)
    for index in bad.nonzero()[:1, 0].tolist():
        raise _breach(system, f"{int(bad[index])} values of the output are not finite", index)
    return output


def audit_report(system: Declared, report: Any, count: int) -> dict[str, list]:
    """Check those parts of a system's report that are columns of the table: one value per picture.

    A value is None, or of the type in `REPORT_COLUMNS`. Raises AuditError for other values, because a value that a
    table cannot hold would spoil the run for all systems.
    """
    if not isinstance(report, dict):
        raise _breach(system, f"the report is a {type(report).__name__}; it must be a dict of lists")
    own: dict[str, list] = {}
    for key, kind in REPORT_COLUMNS.items():
        if key not in report:
            continue
        values = report[key]
        if not isinstance(values, list | tuple) or len(values) != count:
            raise _breach(system, f"report {key!r} must be a list with one value per picture, {count} in all")
        own[key] = [_plain(system, key, kind, value) for value in values]
    for status in own.get("status", ()):
        if status not in STATUS:
            raise _breach(system, f"report 'status' is {status!r}; it must be one of {', '.join(STATUS)}")
    return own


def _plain(system: Declared, key: str, kind: type, value: Any) -> Any:
    if value is None:
        return None
    if kind is str:
        text = str(value)
        if len(text) <= _LONGEST_WORD and text.isprintable() and text.isascii() and not is_formula(text):
            return text
        raise _breach(
            system, f"report {key!r} must be at most {_LONGEST_WORD} printable ASCII letters, and no formula of a sheet"
        )
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number) or (kind is int and number != int(number)):
        wanted = "a whole number" if kind is int else "a number"
        raise _breach(system, f"report {key!r} holds {_brief(value)}; it must be {wanted} or None")
    return kind(number)


def _brief(value: Any) -> str:
    try:
        return repr(str(value)[:40])
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number with too many digits"


def _breach(system: Declared, breach: str, picture: int | str | None = None) -> AuditError:
    where = "" if picture is None else f", picture {picture} of the batch"
    return AuditError(f"audit: system {system.name}{where}: {breach}")


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def count_points(symbols: Tensor, limit: int) -> int:
    """The number of different points among complex symbols (n,), or `limit` + 1 if there are more than `limit`.

    A point is a disc of radius `POINT_RADIUS` around one of its symbols. Since discs have a fixed size, a chain of near
    neighbours (sorted analog symbols) is not one point.
    """
    # First count the cells of a grid that hold symbols: a disc touches at most nine cells.
    codes = torch.unique(symbols.contiguous().view(torch.int64))
    left = torch.view_as_real(codes.view(torch.complex64)).double().cpu()
    cells = (left / POINT_RADIUS).floor().to(torch.int64)
    if len(torch.unique(cells[:, 0] * 2**32 + cells[:, 1])) > 9 * limit:
        return limit + 1
    points = 0
    while len(left) and points <= limit:
        points += 1
        left = left[(left - left[0]).square().sum(dim=1) > POINT_RADIUS**2]
    return points
