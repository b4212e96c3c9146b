"""Checks that rows stand alone: the row of a picture must depend on this picture only, not on its batch or position.

Without these checks a system could send picture i in the row of picture i + 1, or spread the budget of a batch unevenly
over its pictures, or pass information by the order of rows. `bench.sweep.worker` checks systems of third parties:

- `check_rows` before a run computes anything (`test_row_independence.py` calls it for every registered system). A
  system could distinguish its pictures from those of a run.
- `check_alone` for every batch of a run. By the clock a system can distinguish these calls from those of the run. But
  in the run it does not know which SNR was checked.
- `check_kept` for a cell at the point that `check_alone` has checked.

A system that fails during a check has not passed it.

`check_apart` compares two processes: the output of a receiver must not depend on whether its process encoded the
pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from bench.measure import control_channel
from bench.measure.calls import End
from bench.measure.point import Batch, Conditions, Measurement, Point, Sent
from systems.errors import AuditError

#: Largest mean squared difference of unit-power symbols between two batches. Rounding gives 1e-10. A difference of
#: -60 dB carries nothing that would have an effect at up to 30 dB.
SYMBOL_TOLERANCE = 1e-6
#: Largest share of a delivered picture's values that may differ by more than one level, or of its labels that may
#: differ at all.
OUTPUT_TOLERANCE = 0.01

Result = TypeVar("Result")


class Seen(NamedTuple):
    """What `check_alone` has seen of a batch: the point, the transmission of the batch and its delivered output, uint8
    (B, 3, H, W) or (B, H, W).
    """

    point: Point
    sent: Sent
    output: Tensor


class RowsChanged(AuditError):
    """The rows of a cell differ from those that were checked. So no row of this system here counts as checked."""


def check_rows(end: End, conditions: Conditions, image: Tensor, snr_db: float, device: str = "cpu") -> None:
    """Send four pictures made from one, uint8 (3, H, W), all at once, in another order, and in two parts.

    Raises AuditError if a row changes, or if the system fails on a part of a batch that it takes as a whole. Errors of
    the system on the whole batch are passed on.
    """
    name = end.facts.name
    pictures = torch.stack([image, image.flip(2), 255 - image, image.flip(1)])
    ids = tuple(f"row {index}" for index in range(len(pictures)))
    measurement, point = Measurement(end, conditions, device), Point(snr_db, 0)
    parts: tuple[list[int], ...] = ([2, 0, 3, 1], [3], [0, 1], [2, 3])
    whole = _sent(measurement, pictures, ids, [0, 1, 2, 3], point)
    sent: list[Sent] = []
    for rows in parts:
        other = _again(name, rows, partial(_sent, measurement, pictures, ids, rows, point))
        sent.append(other)
        for place, row in enumerate(rows):
            _compare(name, whole, row, other, place, rows)
    first = _delivered(measurement, pictures, ids, [0, 1, 2, 3], point, whole)
    for rows, other in zip(parts[:2], sent):
        output = _again(name, rows, partial(_delivered, measurement, pictures, ids, rows, point, other))
        for place, row in enumerate(rows):
            if _away(measurement, first[row], output[place]):
                raise _breach(name, row, rows, "the receiver delivers another result")


def check_alone(
    end: End, conditions: Conditions, batch: Batch, sent: Sent, point: Point, device: str = "cpu"
) -> Seen | None:
    """Send and deliver one picture of a run's batch again, alone. The salt decides which picture.

    sent: the transmission of the whole batch. Returns what was compared, for `check_kept`; None for a batch of one
    picture.
    Raises AuditError if its row differs from that in the batch, or if the system fails on it alone. Errors of the
    system on the whole batch are passed on.
    """
    name, count = end.facts.name, len(batch.ids)
    if count == 1:
        return None
    measurement = Measurement(end, conditions, device)
    draws = conditions.seeds(batch.ids, point, "alone")
    row = draws.index(min(draws))
    own = slice(row, row + 1)
    masks = None if batch.masks is None else batch.masks[own]
    alone = Batch(batch.ids[own], batch.images[own], batch.reference[own], masks)
    (whole,) = measurement.deliver([point], batch, [sent])
    again = _again(name, [row], lambda: measurement.sender(alone)(point), count)
    _compare(name, sent, row, again, 0, [row])
    (single,) = _again(name, [row], lambda: list(measurement.deliver([point], alone, [again])), count)
    if _away(measurement, whole.output[row], single.output[0]):
        raise _breach(name, row, [row], "the receiver delivers another result", count)
    return Seen(point, sent, whole.output)


def check_kept(measurement: Measurement, seen: Seen, sent: Sent, output: Tensor) -> None:
    """Compare the rows that a cell keeps with those that `check_alone` has seen of the same batch at the same point.

    A system may guess by the clock which of its calls are checks, and keep to the rules only there. Then these rows
    differ. output: the output that the cell keeps, in the shape of `Seen.output`, such as (B, 3, H, W). Raises
    RowsChanged.
    """
    name = measurement.facts.name
    for row, (before, now) in enumerate(zip(seen.output, output, strict=True)):
        change = _change(seen.sent, row, sent, row)
        if not change and _away(measurement, before, now):
            change = "the receiver delivers another result"
        if change:
            raise RowsChanged(
                f"audit: system {name}: for picture {row} of a batch of {len(output)}, {change} in a cell than in the "
                "check that rows stand alone; the same call must give the same rows"
            )


def check_apart(here: End, there: End, conditions: Conditions, batch: Batch, sent: Sent, point: Point) -> None:
    """Decode one batch in two processes; `there` never saw the pictures. Raises AuditError where the outputs differ.

    Both draw from the receiver's streams. The channel's seeds stay here: they tell the noise.
    """
    link = conditions.link(*batch.size, snr_db=point.snr_db)
    received, _ = control_channel.send(sent.transmission, link, conditions.seeds(batch.ids, point, "channel"))
    draws = conditions.seeds(batch.ids, point, "decoder")
    one = here.decode(received, link, draws).decoded.output
    try:
        other = there.decode(received, link, draws).decoded.output
    except Exception as error:
        raise AuditError(
            f"audit: system {here.facts.name}: its receiver fails in a process that did not encode ({error}); "
            "something passes from encode to decode outside the transmission"
        ) from error
    if one.shape != other.shape or not torch.allclose(one.cpu(), other.cpu(), rtol=1e-4, atol=1e-4, equal_nan=True):
        raise AuditError(
            f"audit: system {here.facts.name}: its receiver gives another result for the same symbols in a process "
            "that did not encode them; something passes from encode to decode outside the transmission"
        )


def _again(name: str, rows: list[int], work: Callable[[], Result], count: int = 4) -> Result:
    """The result for some rows of a batch that the system has processed as a whole. AuditError if it fails on them."""
    try:
        return work()
    except AuditError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise _breach(name, rows[0], rows, f"the system fails ({lines[0]})", count) from error


def _away(measurement: Measurement, one: Tensor, two: Tensor) -> bool:
    """Whether two delivered pictures differ too much."""
    away = (one.int() - two.int()).abs() > (0 if measurement.task.labels else 1)
    return float(away.float().mean()) > OUTPUT_TOLERANCE


def _batch(measurement: Measurement, pictures: Tensor, ids: tuple[str, ...], rows: list[int]) -> Batch:
    chosen = pictures[rows]
    masks = torch.zeros(len(rows), *chosen.shape[2:], dtype=torch.uint8) if measurement.task.target == "mask" else None
    images = chosen.to(measurement.device).float() / 255
    return Batch(tuple(ids[row] for row in rows), images, chosen, masks)


def _sent(measurement: Measurement, pictures: Tensor, ids: tuple[str, ...], rows: list[int], point: Point) -> Sent:
    return measurement.sender(_batch(measurement, pictures, ids, rows))(point)


def _delivered(
    measurement: Measurement, pictures: Tensor, ids: tuple[str, ...], rows: list[int], point: Point, sent: Sent
) -> Tensor:
    batch = _batch(measurement, pictures, ids, rows)
    (delivered,) = measurement.deliver([point], batch, [sent])
    return delivered.output


def _compare(name: str, whole: Sent, row: int, other: Sent, place: int, rows: list[int]) -> None:
    change = _change(whole, row, other, place)
    if change:
        raise _breach(name, row, rows, change, len(whole.transmission.symbols))


def _change(whole: Sent, row: int, other: Sent, place: int) -> str:
    """In words: how two transmissions of the same picture differ. "" if they do not.

    row, place: the row of the picture in `whole` and in `other`.
    """
    one, two = whole.transmission, other.transmission
    assert one.side_info is not None and two.side_info is not None
    if one.symbols.shape[1] != two.symbols.shape[1]:
        return f"{two.symbols.shape[1]} symbols are sent instead of {one.symbols.shape[1]}"
    if not torch.equal(one.side_info[row], two.side_info[place]):
        return "other side information is sent"
    if float((one.symbols[row] - two.symbols[place]).abs().square().mean()) > SYMBOL_TOLERANCE:
        return "other symbols are sent"
    return ""


def _breach(name: str, row: int, rows: list[int], change: str, count: int = 4) -> AuditError:
    held = f"picture {rows[0]} alone" if len(rows) == 1 else f"pictures {', '.join(map(str, rows))}"
    return AuditError(
        f"audit: system {name}: rows do not stand alone: for picture {row} of a batch of {count}, {change} if the "
        f"batch holds {held}; a row must depend on its own picture only"
    )
