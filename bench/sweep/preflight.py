"""The checks before a run writes anything. They are planned here; workers carry them out (`bench.sweep.worker`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bench.sweep.plan import Plan, WorkUnit

READ_TOGETHER = 64  # pictures per `Reading`
PREFLIGHT_PARAMETERS = 100_000_000  # a larger system is not tried, because building it once more takes too long


class _Check:
    """A check in the form of a work unit with one cell, so that engines can run it."""

    @property
    def inputs(self) -> _Check:
        """The check itself, because it shares no preparation with others."""
        return self

    @property
    def cells(self) -> tuple[_Check]:
        """One cell, which stands for the whole check."""
        return (self,)


@dataclass(frozen=True)
class Reading(_Check):
    """Read pictures once before anything is written, so that an unreadable picture stops the run first."""

    id: str
    dataset: str
    image_ids: tuple[str, ...]
    system = ""


@dataclass(frozen=True)
class Trial(_Check):
    """Build a system, and let it encode pictures at the lowest and the highest SNR of each of its points.

    points: (a work unit without pictures, ids of pictures, (lowest SNR, highest SNR)).
    """

    id: str
    system: str
    points: tuple[tuple[WorkUnit, tuple[str, ...], tuple[float, float]], ...]


def preflight(plan: Plan, units: list[WorkUnit]) -> list[Reading | Trial]:
    """The checks that find errors of the user before anything is written: unreadable pictures, budgets that are too
    small.

    Every picture is read once. Every system, except very large ones, encodes the smallest picture with each of its
    budgets. With a budget in bits it also encodes the largest picture, which has the fewest bits per pixel.
    """
    checks: list[Reading | Trial] = []
    ends: dict[str, tuple[str, ...]] = {}  # the smallest picture and the largest
    for spec in dict.fromkeys(unit.dataset for unit in units):
        dataset = plan.datasets[spec]
        ordered = sorted(dataset.ids, key=lambda image_id: math.prod(dataset.size(image_id)))
        ends[spec] = (ordered[0], ordered[-1])
        for start in range(0, len(dataset.ids), READ_TOGETHER):
            checks.append(Reading(f"{spec} {start}", spec, dataset.ids[start : start + READ_TOGETHER]))
    points: dict[str, dict[WorkUnit, set[float]]] = {}
    for unit in units:
        of_system = points.setdefault(unit.system, {})
        of_system.setdefault(replace(unit, image_ids=(), cells=(), points=()), set()).update(
            cell.snr_db for cell in unit.cells
        )
    for name, own in points.items():
        if plan.systems[name].parameters <= PREFLIGHT_PARAMETERS:
            tried = tuple(
                (point, ends[point.dataset][: 1 if point.bits is None else 2], (min(snrs), max(snrs)))
                for point, snrs in own.items()
            )
            checks.append(Trial(name, name, tried))
    return checks
