"""The worker, which computes cells. Every engine calls it with a work unit of the plan (`bench.sweep.plan`), or with a
check before the work units (`bench.sweep.preflight`).
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data import Dataset
from bench.measure.apart import Home, TooLate
from bench.measure.apart.ahead import import_ahead
from bench.measure.calls import LocalEnd
from bench.measure.point import Batch, Conditions, Measurement, Point, Sent
from bench.measure.row_independence import RowsChanged
from bench.spec.identity import SystemFacts
from bench.sweep.engines import Outcome
from bench.sweep.plan import Cell, WorkUnit
from bench.sweep.preflight import Reading, Trial
from bench.sweep.salt import kept_salt
from bench.sweep.worker.batches import batches_of, groups_of, point_of
from bench.sweep.worker.checks import MOST_LATE, Checks
from bench.sweep.worker.outcomes import failed, not_tried
from bench.sweep.worker.printed import Printed
from bench.sweep.worker.rows import sample_rows
from bench.sweep.worker.systems import Systems
from bench.sweep.worker.trial import read_pictures, try_system
from bench.sweep.worker.write_cell import take_back, write_cell
from bench.util.files import StorageError
from systems import stage_times
from systems.errors import FAULTS
from systems.interface import System

CELL_SECONDS = 3600.0  # time limit of one cell, unless --cell-timeout is given


class _Built:
    """All that a worker has built in its process. It never travels to another one."""

    def __init__(self, worker: Worker):
        pictures = [
            path for one in worker.datasets.values() for item in one.items.values() for path in (item.path, item.mask)
        ]
        secrets = [worker.root, Path("results"), *(path for path in pictures if path is not None)]
        self.printed = Printed(worker.root)
        self.systems = Systems(worker.root, worker.systems, secrets, worker.device, worker.cell_timeout, self.printed)
        self.checks = Checks(self.systems, worker.device)
        self.late: Counter[str] = Counter()  # by system: cells in a row that took too long
        self.ready: tuple[WorkUnit, list[Batch], list[Callable[[Point], Sent]]] | None = None


@dataclass
class Worker:
    """`work(unit)` for the engines: computes cells and writes them. It can be pickled; what it builds stays in its
    process.
    """

    root: Path
    systems: dict[str, SystemFacts]
    datasets: dict[str, Dataset]  # by the text that opens each; with the plan's hashes, so that no file is replaced
    seed: int = 0
    salt: str | None = None  # None: read from the run's folder
    batch: int | None = None
    device: str = "cpu"
    cell_timeout: float = CELL_SECONDS  # for systems in separate processes; the engine watches the others
    _in_process: _Built | None = field(default=None, repr=False)

    def __getstate__(self) -> dict:
        """The state without what was built, and without the salt: a cluster's jobs are stored in files, and read the
        run's salt.
        """
        return {**self.__dict__, "salt": None, "_in_process": None}

    def before_fork(self, units: Iterable[WorkUnit | Reading | Trial]) -> None:
        """Called before workers are forked: import the bench's own systems of `units` once, for all of them."""
        names = self.systems.keys() & {unit.system for unit in units}
        import_ahead(self.systems[name].target.partition(":")[0] for name in names)

    def place(self, index: int, nursery: socket.socket | None = None) -> None:
        """Called in worker number `index`: take its own GPU, and fork systems' processes from the run's `nursery`."""
        if nursery is not None:
            Home.share(Home(nursery))
        if self.device == "cuda":
            self.device = f"cuda:{index % torch.cuda.device_count()}"

    def __call__(self, unit: WorkUnit | Reading | Trial) -> Iterator[Outcome]:
        """Compute the cells of a work unit; cells that share a batch together. Each outcome contains the time spent by
        stage.
        """
        try:
            for outcome in self._outcomes(unit) if isinstance(unit, WorkUnit) else [self._checked(unit)]:
                yield replace(outcome, spent=stage_times.take())
        finally:
            self._built.systems.rest()
            self._built.printed.write()

    @property
    def _built(self) -> _Built:
        """The state of this process. It is made after `place`, which chooses the device."""
        if self._in_process is None:
            self._in_process = _Built(self)
        return self._in_process

    def _checked(self, check: Reading | Trial) -> Outcome:
        """The outcome of a check before the run."""
        try:
            with stage_times.stage("preflight"):
                if isinstance(check, Reading):
                    read_pictures(check, self.datasets)
                else:
                    try_system(
                        check, self._built.systems, self.datasets, partial(self._conditions, salt=""), self.device
                    )
        except FAULTS as error:
            return failed(check, error)
        return Outcome(check.id, "done")

    def _outcomes(self, unit: WorkUnit) -> Iterator[Outcome]:
        """The outcomes of a work unit: its system is built and checked, then its cells are computed group by group."""
        built = self._built
        if built.late[unit.system] >= MOST_LATE:
            yield from map(not_tried, unit.cells)
            return
        try:
            with torch.inference_mode():
                system = built.systems[unit.system]
                built.systems.start_clock(system)
                batches, senders = self._prepared(system, unit)
                built.checks.hold(system, unit, self._conditions(unit), batches, senders)
        except FAULTS as error:
            self._count_late(unit.system, error)
            for cell in unit.cells:
                yield failed(cell, error)
            return
        compared: set[Point] = set()
        try:
            for outcome in self._cells(system, unit, batches, senders, compared):
                yield outcome
                if outcome.status == "fatal":
                    return
            built.checks.hold_all_compared(unit, compared)
        except RowsChanged as error:  # so the system is honest where it is checked: none of these cells may stay
            take_back(self.root, unit)
            for cell in unit.cells:
                yield failed(cell, error)

    def _cells(
        self,
        system: System,
        unit: WorkUnit,
        batches: list[Batch],
        senders: list[Callable[[Point], Sent]],
        compared: set[Point],
    ) -> Iterator[Outcome]:
        """The outcomes of the cells of a work unit that was checked. Raises RowsChanged where a cell's rows are not
        those that were checked.

        compared: gets the points at which the system delivered, so that its rows were compared with those of the check.
        """
        built = self._built
        for group in groups_of(unit, batches, system.joins_snr, self.batch, self.device):
            wanted = [cell for cell in group if cell in unit.cells]
            if not wanted:
                continue
            if built.late[unit.system] >= MOST_LATE:
                yield from map(not_tried, wanted)
                continue
            built.systems.start_clock(system)
            try:
                rows = self._compute(system, unit, group, batches, senders)
            except RowsChanged:
                raise
            except FAULTS as error:
                self._count_late(unit.system, error)
                if len(group) == 1:
                    yield failed(group[0], error)
                    continue
                rows = {}  # compute each point alone, so that only the faulty one fails
            for cell in wanted:
                try:
                    done = rows[cell] if rows else self._compute(system, unit, [cell], batches, senders)[cell]
                    compared.add(point_of(cell))
                    with stage_times.stage("store"):
                        built.systems.check_unchanged(unit.system)
                        write_cell(self.root, unit, cell, batches, *done)
                    built.late[unit.system] = 0
                    yield Outcome(cell.id, "done")
                    built.systems.start_clock(system)
                except StorageError as error:
                    yield Outcome(cell.id, "fatal", str(error), users=True)
                    return
                except RowsChanged:
                    raise
                except FAULTS as error:
                    yield failed(cell, error)

    def _count_late(self, name: str, error: BaseException) -> None:
        """Count cells in a row that took too long: a sweep of hundreds of cells must not wait hours for each."""
        late = self._built.late
        late[name] = late[name] + 1 if isinstance(error, TooLate) else 0

    def _prepared(self, system: System, unit: WorkUnit) -> tuple[list[Batch], list[Callable[[Point], Sent]]]:
        """Batches of pictures, and their senders. If the last work unit was another piece of the same one, its own are
        used again.
        """
        built = self._built
        if built.ready is None or built.ready[0] != unit.inputs:
            built.ready = None  # so that there are never two in memory
            with stage_times.stage("data"):
                batches = batches_of(unit, self.datasets[unit.dataset], self.batch, self.device)
            with stage_times.stage("encode"):
                senders = [self._measurement(system, unit).sender(batch) for batch in batches]
            built.ready = (unit.inputs, batches, senders)
        return built.ready[1:]

    def _compute(
        self,
        system: System,
        unit: WorkUnit,
        group: Sequence[Cell],
        batches: list[Batch],
        senders: list[Callable[[Point], Sent]],
    ) -> dict[Cell, tuple[list[dict[str, Any]], dict[str, np.ndarray]]]:
        """Rows of the cells in the group, and outputs of the pictures that are kept."""
        rows: dict[Cell, list] = {cell: [] for cell in group}
        kept: dict[Cell, dict[str, np.ndarray]] = {cell: {} for cell in group}
        measurement, points = self._measurement(system, unit), [point_of(cell) for cell in group]
        built = self._built
        told = {"variant": system.variant, "dataset": self.datasets[unit.dataset].name, "device": self.device}
        with torch.inference_mode():
            for batch, sender in zip(batches, senders, strict=True):
                with stage_times.stage("encode"):
                    sent = [sender(point) for point in points]
                for cell, delivered in zip(group, measurement.deliver(points, batch, sent), strict=True):
                    built.checks.hold_kept(unit, measurement, batch, point_of(cell), delivered)
                    with stage_times.stage("metrics"):
                        scores = measurement.scores(batch, delivered)
                    rows[cell] += sample_rows(unit, cell, batch, delivered, scores, **told)
                    for image_id, output in zip(batch.ids, delivered.output, strict=True):
                        if image_id in cell.pictures:
                            kept[cell][image_id] = output.numpy()
        order = {image_id: index for index, image_id in enumerate(unit.image_ids)}
        return {cell: (sorted(own, key=lambda row: order[row["image_id"]]), kept[cell]) for cell, own in rows.items()}

    def _conditions(self, unit: WorkUnit, salt: str | None = None) -> Conditions:
        """What all points of the work unit share, for `bench.measure`. salt: None: the run's."""
        if salt is None:
            self.salt = salt = kept_salt(self.root) if self.salt is None else self.salt
        name = self.datasets[unit.dataset].seed_name
        rule = (unit.cbr, unit.bits)
        return Conditions(unit.task, name, unit.channel, *rule, unit.requirement, self.seed, salt, unit.uses)

    def _measurement(self, system: System, unit: WorkUnit) -> Measurement:
        ledger = self._built.systems.ledger(unit.system)
        return Measurement(LocalEnd(system, self.device), self._conditions(unit), self.device, ledger=ledger)
