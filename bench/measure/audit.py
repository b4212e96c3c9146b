"""The audit: what a system really spent, and a hard stop where it broke the rules of the comparison.

A breach is an `AuditError` that names the system, the picture and the figures. It is never a warning: a curve that was
drawn with 1 % too much power is a wrong curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from systems.errors import AuditError
from systems.interface import NUM_CLASSES, Decoded, Link, System, Transmission

POWER_TOLERANCE = 1e-3  # of the mean of |x|^2 over one picture, never over a batch


@dataclass(frozen=True)
class Spent:
    """What each picture of a batch spent; a batch has one n, so all but the power are the same for its pictures.

    n_uses = symbol_uses + side_uses, complex; side_bits: bits of side information; tx_power: mean |x|^2 of each
    picture; cbr = n_uses / (3HW); budget_uses: what the system was allowed.
    """

    n_uses: int
    symbol_uses: int
    side_bits: int
    side_uses: int
    tx_power: list[float]
    cbr: float
    budget_uses: int


def audit(system: System, transmission: Transmission, link: Link) -> Spent:
    """Check one batch of symbols against the rules and count what it spent. Raises AuditError.

    Rules: symbols complex64 (B, n), n >= 1, finite, mean |x|^2 = 1 within 1e-3 for each picture; side information
    uint8 (B, b) of zeros and ones; symbol uses and the uses charged for side information together within the budget.
    Where the budget is in bits, a system that says it carries `bits_per_use` bits must send from an alphabet of
    2^bits_per_use points, or an analog system could claim QPSK and take twice its airtime. `genie = True` (a capacity
    bound sends no real code words) lifts the alphabet rule and no other.
    """
    symbols, side_info = transmission.symbols.detach(), transmission.side_info.detach()
    if symbols.dtype != torch.complex64:
        raise _breach(system, f"symbols are {_type_name(symbols)}, they must be complex64")
    if symbols.ndim != 2 or symbols.shape[1] < 1:
        raise _breach(system, f"symbols have shape {tuple(symbols.shape)}, they must be (pictures, uses)")
    batch, symbol_uses = symbols.shape

    bad = (~torch.isfinite(torch.view_as_real(symbols))).sum(dim=(1, 2))
    for index in bad.nonzero()[:1, 0].tolist():
        raise _breach(system, f"{int(bad[index])} real parts of {2 * symbol_uses} are not finite", index)
    power = torch.view_as_real(symbols).double().square().sum(dim=(1, 2)) / symbol_uses
    for index in ((power - 1).abs() > POWER_TOLERANCE).nonzero()[:1, 0].tolist():
        raise _breach(system, f"mean |x|^2 is {power[index]:.6f}, it must be 1 within {POWER_TOLERANCE:g}", index)

    if side_info.dtype != torch.uint8 or side_info.ndim != 2 or len(side_info) != batch:
        found = f"{_type_name(side_info)} {tuple(side_info.shape)}"
        raise _breach(system, f"side information is {found}, it must be uint8 ({batch}, bits)")
    for index in (side_info > 1).any(dim=1).nonzero()[:1, 0].tolist():
        value = int(side_info[index].max())
        raise _breach(system, f"side information holds the value {value}, only bits 0 and 1 may pass", index)

    side_bits = transmission.side_info_bits
    side_uses = link.budget.side_info_uses(side_bits)
    allowed = link.budget.allowed_uses(system.bits_per_use)
    used = symbol_uses + side_uses
    if used > allowed:
        parts = f"{symbol_uses} symbols + {side_uses} for {side_bits} bits of side information"
        what = f"{used} uses ({parts}) exceed the budget of {allowed} by {used - allowed}"
        raise _breach(system, what, f"0 to {batch - 1}")
    if link.budget.bits is not None and system.bits_per_use is not None and not getattr(system, "genie", False):
        limit = round(2**system.bits_per_use)
        for index in range(batch):
            points = _alphabet_size(symbols[index])
            if points > limit:
                what = f"{points} different symbols, but {system.bits_per_use:g} bits a use allow {limit}"
                raise _breach(system, what, index)
    cbr = used / (3 * link.height * link.width)
    return Spent(used, symbol_uses, side_bits, side_uses, power.tolist(), cbr, allowed)


def audit_output(system: System, decoded: Decoded, link: Link, batch: int) -> None:
    """Check what the receiver delivers: (B, 3, H, W) or logits (B, 21, H, W), finite floats. Raises AuditError."""
    channels = 3 if link.task == "reconstruction" else NUM_CLASSES
    output = decoded.output.detach()
    wanted = (batch, channels, link.height, link.width)
    if tuple(output.shape) != wanted or not output.is_floating_point():
        raise _breach(system, f"output is {_type_name(output)} {tuple(output.shape)}, it must be float {wanted}")
    bad = (~torch.isfinite(output)).flatten(1).sum(dim=1)
    for index in bad.nonzero()[:1, 0].tolist():
        raise _breach(system, f"{int(bad[index])} values of the output are not finite", index)


def _breach(system: System, what: str, picture: int | str | None = None) -> AuditError:
    where = "" if picture is None else f", picture {picture} of the batch"
    return AuditError(f"audit: system {system.name}{where}: {what}")


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _alphabet_size(symbols: Tensor, resolution: float = 1e-4) -> int:
    """Different points among complex symbols (n,). Those nearer than `resolution` are one: rounding adds none."""

    def level(values: Tensor) -> Tensor:
        ordered, order = values.sort()
        steps = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        steps[1:] = (ordered.diff() > resolution).cumsum(0)
        return torch.empty_like(steps).scatter_(0, order, steps)

    pairs = torch.stack([level(symbols.real), level(symbols.imag)])
    return torch.unique(pairs, dim=1).shape[1]
