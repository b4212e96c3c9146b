"""The checks of a system before its cells are computed: nothing may pass from encoder to decoder beside the channel.

`bench.sweep.worker.work` calls them for every work unit. The checks themselves are in `bench.measure.row_independence`.
This module chooses the pictures and points that are checked, and repeats no check that was passed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from bench.measure.apart import RemoteSystem, TooLate
from bench.measure.calls import LocalEnd
from bench.measure.point import Batch, Conditions, Delivered, Measurement, Point, Sent
from bench.measure.row_independence import RowsChanged, Seen, check_alone, check_apart, check_kept, check_rows
from bench.sweep.plan import WorkUnit
from bench.sweep.worker.batches import point_of
from bench.sweep.worker.systems import Systems
from systems import stage_times
from systems.errors import FAULTS, AuditError
from systems.interface import System

MOST_LATE = 3  # a system that takes too long this many times in a row is given up
Senders = Sequence[Callable[[Point], Sent]]  # one per batch


class Checks:
    """The checks that a worker's systems have passed."""

    def __init__(self, systems: Systems, device: str):
        self.systems, self.device = systems, device
        #: Work units without cells. Of our systems: those that were checked. Of others: those of the made pictures.
        self._passed: set[WorkUnit] = set()
        self._seen: dict[tuple[WorkUnit, tuple[str, ...]], Seen] = {}  # by work unit without cells, and pictures
        self._failed: dict[WorkUnit, set[float]] = {}  # by work unit without cells: SNRs at which a check failed

    def hold(
        self, system: System, unit: WorkUnit, conditions: Conditions, batches: Sequence[Batch], senders: Senders
    ) -> None:
        """Check that a receiver of the bench gives the same output in a process that never had the pictures.

        A sample of the work units is checked, with the first batch of the first cell. Raises AuditError if the outputs
        differ. Systems of third parties always decode in such a process, so their rows are checked instead. Bounds
        (`genie`) are no receivers.
        """
        if isinstance(system, RemoteSystem):
            self._hold_rows(system, unit, conditions, batches, senders)
            return
        if not unit.sampled or system.genie or unit.inputs in self._passed:
            return
        point = point_of(unit.cells[0])
        with stage_times.stage("apart"):
            here, there = LocalEnd(system, self.device), LocalEnd(self.systems.apart(unit.system), self.device)
            check_apart(here, there, conditions, batches[0], senders[0](point), point)
        self._passed.add(unit.inputs)

    def hold_kept(self, unit: WorkUnit, measurement: Measurement, batch: Batch, at: Point, own: Delivered) -> None:
        """Compare the rows that a cell keeps with the rows that were checked. Raises RowsChanged if they differ, and
        AuditError where the system failed in the check: else it would choose the SNR at which it is checked.
        """
        if at.snr_db in self._failed.get(unit.inputs, ()):
            raise AuditError(
                f"audit: system {measurement.facts.name}: at {at.snr_db:g} dB it failed in the check that rows stand "
                "alone, but not in the cell; repeat with --retry-failed"
            )
        seen = self._seen.get((unit.inputs, batch.ids))
        if seen is not None and seen.point == at:
            with stage_times.stage("apart"):
                check_kept(measurement, seen, own.sent, own.output)

    def hold_all_compared(self, unit: WorkUnit, compared: Collection[Point]) -> None:
        """Raise RowsChanged if a point at which rows were checked is not among those at which a cell was compared with
        them: a system could fail there.
        """
        checked = {seen.point for (inputs, _), seen in self._seen.items() if inputs == unit.inputs}
        if left := checked.difference(compared):
            raise RowsChanged(
                f"audit: system {unit.system}: at {min(left).snr_db:g} dB it passed the check that rows stand alone, "
                "but its cell failed there, so none of the cells that this check speaks for is kept; repeat with "
                "--retry-failed"
            )

    def _hold_rows(
        self, system: RemoteSystem, unit: WorkUnit, conditions: Conditions, batches: Sequence[Batch], senders: Senders
    ) -> None:
        """Check that the rows of a third party's system stand alone. Raises AuditError if they do not.

        It is checked once per worker with made pictures, and in every piece of a work unit with one picture of every
        batch at one of the piece's points: the pieces are cut by rising SNR, so a system would know which are not
        checked. If the system fails at a point, another point is used, and no cell at that SNR is kept. If it fails at
        all of them, all cells have its error: no cell is computed that was not checked. What was seen is kept for
        `hold_kept`, of the last piece only.
        """
        made = replace(unit.inputs, image_ids=(), points=())
        end = LocalEnd(system, self.device)
        self._failed[unit.inputs] = failing = set[float]()
        self._seen.clear()
        with stage_times.stage("apart"):
            if made not in self._passed:
                image = batches[0].reference[0].cpu()
                points = sorted(map(point_of, unit.cells), reverse=True)
                self._at_one_of(
                    system,
                    points,
                    set(),  # the made pictures may be harder
                    lambda point: check_rows(end, conditions, image, point.snr_db, self.device),
                )
                self._passed.add(made)
            for batch, sender in zip(batches, senders, strict=True):
                draw = conditions.seeds(batch.ids[:1], point_of(unit.cells[0]), "alone")[0] % len(unit.cells)
                points = [point_of(cell) for cell in (*unit.cells[draw:], *unit.cells[:draw])]
                self._at_one_of(
                    system, points, failing, partial(self._check_alone, end, unit, conditions, batch, sender)
                )

    def _check_alone(
        self,
        end: LocalEnd,
        unit: WorkUnit,
        conditions: Conditions,
        batch: Batch,
        sender: Callable[[Point], Sent],
        point: Point,
    ) -> None:
        seen = check_alone(end, conditions, batch, sender(point), point, self.device)
        if seen is not None:
            self._seen[unit.inputs, batch.ids] = seen

    def _at_one_of(
        self, system: System, points: Sequence[Point], failing: set[float], check: Callable[[Point], None]
    ) -> None:
        """Do a check at the first of `points` at which the system works. Raises its error at the last point, or when it
        hung too often.

        failing: SNRs at which it has failed; they are tried last. The set grows.
        """
        late = 0
        tried = [*(p for p in points if p.snr_db not in failing), *(p for p in points if p.snr_db in failing)]
        for point in tried:
            self.systems.start_clock(system)
            try:
                return check(point)
            except AuditError:
                raise
            except FAULTS as error:
                failing.add(point.snr_db)
                late += isinstance(error, TooLate)
                if point is tried[-1] or late >= MOST_LATE:
                    raise
