"""The worker, which computes cells. Every engine calls it with a work unit of the plan (`bench.sweep.plan`), or with a
check before the work units (`bench.sweep.preflight`).
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data import Dataset
from bench.measure.apart import Home, RemoteFailure, RemoteSystem, TooLate
from bench.measure.apart.ahead import import_ahead
from bench.measure.apart.wire import text as as_text
from bench.measure.audit import REPORT_COLUMNS, Ledger
from bench.measure.calls import LocalEnd
from bench.measure.point import Batch, Conditions, Delivered, Measurement, Point, Sent
from bench.measure.row_independence import check_alone, check_apart, check_rows
from bench.measure.tasks import TASKS
from bench.results.schema import SAMPLE_COLUMNS, SCHEMA
from bench.results.store import RunStore
from bench.spec.identity import SystemFacts, Unchanged, apart, build
from bench.sweep.engines import Outcome
from bench.sweep.ledger import RunLedger
from bench.sweep.plan import Cell, WorkUnit
from bench.sweep.preflight import Reading, Trial
from bench.sweep.salt import kept_salt
from bench.util.files import StorageError, slug
from systems import stage_times
from systems.errors import AuditError, UserError
from systems.interface import System
from systems.weight_files import seeded

MOST_LATE = 3  # cells of one system in a row that took too long; then a worker gives up the rest of its cells
CELL_SECONDS = 3600.0  # time limit of one cell, unless --cell-timeout is given
OUTPUT_BYTES = 1 << 20  # at most so much of what a third party's system prints is kept
#: Most pixels per batch, unless --batch is given: as many as fit a CPU's caches, or fill a GPU.
BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 22}


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
    _built: dict[str, System] = field(default_factory=dict, repr=False)
    _unchanged: dict[str, Unchanged] = field(default_factory=dict, repr=False)  # of third parties' systems
    _late: Counter[str] = field(default_factory=Counter, repr=False)  # cells of a system in a row that took too long
    _ledgers: dict[str, Ledger] = field(default_factory=dict, repr=False)
    _apart: set[WorkUnit] = field(default_factory=set, repr=False)  # work units that have passed the checks
    _ready: tuple[WorkUnit, list[Batch], list[Callable[[Point], Sent]]] | None = field(default=None, repr=False)
    _printed: dict[str, list[str]] = field(default_factory=dict, repr=False)  # by systems, in the order of their calls

    def __getstate__(self) -> dict:
        """The state without what was built, and without the salt: a cluster's jobs are stored in files, and read the
        run's salt.
        """
        return {
            **self.__dict__,
            "salt": None,
            "_built": {},
            "_unchanged": {},
            "_late": Counter(),
            "_ledgers": {},
            "_apart": set(),
            "_ready": None,
            "_printed": {},
        }

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
            self._keep_output()

    def _checked(self, check: Reading | Trial) -> Outcome:
        """The outcome of a check. It fails for errors of the user. Other faults of a system are ignored here: its cells
        will report them.
        """
        try:
            with stage_times.stage("preflight"):
                if isinstance(check, Reading):
                    for image_id in check.image_ids:
                        self._dataset(check.dataset).load(image_id)
                else:
                    self._try(check)
        except Exception as error:
            return _failed(check, error)
        return Outcome(check.id, "done")

    def _try(self, trial: Trial) -> None:
        """Let a system encode without noise, so the salt has no influence."""
        system = self._system(trial.system)
        for unit, image_ids, (lowest, highest) in trial.points:
            conditions = self._conditions(unit, salt="")
            self._start_clock(system)
            for image_id, snr_db in product(
                image_ids, sorted({lowest, highest}) if system.encoder_sees_snr else [highest]
            ):
                image = self._dataset(unit.dataset).load(image_id).image[None].to(self.device).float() / 255
                with torch.inference_mode(), seeded(0):
                    try:
                        system.encode(image, conditions.link(*image.shape[2:], snr_db))
                    except UserError:
                        raise
                    except Exception:  # a fault at one point must not hide an error of the user at another
                        continue

    def _outcomes(self, unit: WorkUnit) -> Iterator[Outcome]:
        if self._late[unit.system] >= MOST_LATE:
            yield from (_not_tried(cell) for cell in unit.cells)
            return
        try:
            with torch.inference_mode():
                system = self._system(unit.system)
                self._start_clock(system)
                batches, senders = self._prepared(system, unit)
                self._hold_apart(system, unit, batches, senders)
        except Exception as error:
            self._count_late(unit.system, error)
            for cell in unit.cells:
                yield _failed(cell, error)
            return
        for group in self._groups(system, unit, batches):
            wanted = [cell for cell in group if cell in unit.cells]
            if not wanted:
                continue
            if self._late[unit.system] >= MOST_LATE:
                yield from map(_not_tried, wanted)
                continue
            self._start_clock(system)
            try:
                rows = self._compute(system, unit, group, batches, senders)
            except Exception as error:
                self._count_late(unit.system, error)
                if len(group) == 1:
                    yield _failed(group[0], error)
                    continue
                rows = {}  # compute each point alone, so that only the faulty one fails
            for cell in wanted:
                try:
                    done = rows[cell] if rows else self._compute(system, unit, [cell], batches, senders)[cell]
                    with stage_times.stage("store"):
                        self._write(unit, cell, batches, *done)
                    self._late[unit.system] = 0
                    yield Outcome(cell.id, "done")
                    self._start_clock(system)
                except StorageError as error:
                    yield Outcome(cell.id, "fatal", str(error), users=True)
                    return
                except Exception as error:
                    yield _failed(cell, error)

    def _count_late(self, name: str, error: Exception) -> None:
        """Cells that a system hung in, one after another: a sweep of hundreds of cells must not wait hours for each."""
        self._late[name] = self._late[name] + 1 if isinstance(error, TooLate) else 0

    def _prepared(self, system: System, unit: WorkUnit) -> tuple[list[Batch], list[Callable[[Point], Sent]]]:
        """Batches of pictures, and their senders. If the last work unit was another piece of the same one, its own are
        used again.
        """
        if self._ready is None or self._ready[0] != unit.inputs:
            self._ready = None  # so that there are never two in memory
            with stage_times.stage("data"):
                batches = self._batches(unit)
            with stage_times.stage("encode"):
                senders = [self._measurement(system, unit).sender(batch) for batch in batches]
            self._ready = (unit.inputs, batches, senders)
        return self._ready[1:]

    def _hold_apart(
        self, system: System, unit: WorkUnit, batches: list[Batch], senders: list[Callable[[Point], Sent]]
    ) -> None:
        """Check that a receiver of the bench gives the same output in a process that never had the pictures.

        A sample of the work units is checked, with the first batch of the first cell. Raises AuditError if the outputs
        differ. Systems of third parties always decode in such a process, so their rows are checked instead. Bounds
        (`genie`) are no receivers.
        """
        if isinstance(system, RemoteSystem):
            self._hold_rows(system, unit, batches, senders)
            return
        if not unit.sampled or system.genie or unit.inputs in self._apart:
            return
        point = _point(unit.cells[0])
        with stage_times.stage("apart"):
            here, there = LocalEnd(system, self.device), LocalEnd(self._remote(unit.system), self.device)
            check_apart(here, there, self._conditions(unit), batches[0], senders[0](point), point)
        self._apart.add(unit.inputs)

    def _hold_rows(
        self, system: RemoteSystem, unit: WorkUnit, batches: list[Batch], senders: list[Callable[[Point], Sent]]
    ) -> None:
        """Check that the rows of a third party's system stand alone (`bench.measure.row_independence`).

        Raises AuditError if they do not.

        It is checked once per worker with made pictures, and with one picture of every batch at one of its points.
        If the system fails at a point, another point is used. If it fails at all of them, all cells have its error: no
        cell is computed that was not checked.
        """
        if unit.inputs in self._apart:
            return
        made = replace(unit.inputs, image_ids=(), points=())
        conditions, end, failing = self._conditions(unit), LocalEnd(system, self.device), set[float]()
        with stage_times.stage("apart"):
            if made not in self._apart:
                image = batches[0].reference[0].cpu()
                points = sorted(map(_point, unit.cells), reverse=True)
                self._at_one_of(
                    system,
                    points,
                    failing,
                    lambda point: check_rows(end, conditions, image, point.snr_db, self.device),
                )
                self._apart.add(made)
            for batch, sender in zip(batches, senders, strict=True):
                draw = conditions.seeds(batch.ids[:1], _point(unit.cells[0]), "alone")[0] % len(unit.cells)
                points = [_point(cell) for cell in (*unit.cells[draw:], *unit.cells[:draw])]
                self._at_one_of(system, points, failing, partial(self._check_alone, end, conditions, batch, sender))
        self._apart.add(unit.inputs)

    def _check_alone(
        self, end: LocalEnd, conditions: Conditions, batch: Batch, sender: Callable[[Point], Sent], point: Point
    ) -> None:
        check_alone(end, conditions, batch, sender(point), point, self.device)

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
            self._start_clock(system)
            try:
                return check(point)
            except AuditError:
                raise
            except Exception as error:
                failing.add(point.snr_db)
                late += isinstance(error, TooLate)
                if point is tried[-1] or late >= MOST_LATE:
                    raise

    def _groups(self, system: System, unit: WorkUnit, batches: list[Batch]) -> Iterator[Sequence[Cell]]:
        """Points that go through the decoder in one batch. They depend on the plan and the options, not on which cells
        are missing.
        """
        points, per = unit.points or unit.cells, 1
        if system.joins_snr:
            per = max(1, min(self._batch_size(*batch.size) // len(batch.ids) for batch in batches))
        return (points[start : start + per] for start in range(0, len(points), per))

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
        measurement, points = self._measurement(system, unit), [_point(cell) for cell in group]
        with torch.inference_mode():
            for batch, sender in zip(batches, senders, strict=True):
                with stage_times.stage("encode"):
                    sent = [sender(point) for point in points]
                for cell, delivered in zip(group, measurement.deliver(points, batch, sent), strict=True):
                    with stage_times.stage("metrics"):
                        scores = measurement.scores(batch, delivered)
                    rows[cell] += self._rows(system, unit, cell, batch, delivered, scores)
                    for image_id, output in zip(batch.ids, delivered.output, strict=True):
                        if image_id in cell.pictures:
                            kept[cell][image_id] = output.numpy()
        order = {image_id: index for index, image_id in enumerate(unit.image_ids)}
        return {cell: (sorted(own, key=lambda row: order[row["image_id"]]), kept[cell]) for cell, own in rows.items()}

    def _write(
        self, unit: WorkUnit, cell: Cell, batches: list[Batch], rows: list[dict], kept: dict[str, np.ndarray]
    ) -> None:
        if unit.system in self._unchanged:  # imported anew for this cell
            self._unchanged[unit.system].check()
        store, name = RunStore(self.root), unit.set_name
        palette = _palette() if TASKS[unit.task].labels else None
        for batch in batches:
            for index, image_id in enumerate(batch.ids):
                if image_id in kept:
                    pixels = kept[image_id] if palette else np.ascontiguousarray(kept[image_id].transpose(1, 2, 0))
                    store.write_picture(unit.picture_file(image_id, cell), pixels, palette)
                    _write_references(store, name, image_id, batch, index)
        store.write_cell(cell.id, rows)

    def _system(self, name: str) -> System:
        if name not in self._built:
            facts = self.systems[name]
            with stage_times.stage("start-up"):
                if facts.plugin:
                    self._unchanged[name] = Unchanged(facts, facts.target.partition(":")[0])
                    self._built[name] = self._remote(name)
                else:
                    system = build(name, facts.options).to(self.device)
                    if system.describe().get("sha256") != facts.description.get("sha256"):
                        raise UserError(f"the weights of {name} changed since this command began; repeat the command")
                    Unchanged(facts, type(system).__module__)
                    self._built[name] = system
        return self._built[name]

    def _remote(self, name: str) -> RemoteSystem:
        """The system in separate processes, which can open neither the pictures nor a run."""
        facts = self.systems[name]
        files = [
            path for one in self.datasets.values() for item in one.items.values() for path in (item.path, item.mask)
        ]
        secrets = [self.root, Path("results"), *(path for path in files if path is not None)]
        return apart(facts, secrets, self.device, partial(self._note_output, name))

    def _note_output(self, name: str, text: str) -> None:
        texts = self._printed.setdefault(name, [])
        if sum(map(len, texts)) < OUTPUT_BYTES:
            texts.append(text)

    def _keep_output(self) -> None:
        """Append what systems printed to `output/<system>.log` of the run, up to OUTPUT_BYTES.

        This is done when a work unit has ended. Before, a decoder could ask for the length of the file, and so receive
        a message of its encoder.
        """
        printed, self._printed = self._printed, {}
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        for name, texts in printed.items():
            path = self.root / "output" / f"{slug(name)}.log"
            try:
                path.parent.mkdir(exist_ok=True)
                with os.fdopen(os.open(path, flags, 0o644), "ab") as file:  # a link's target is somebody else's file
                    if file.tell() < OUTPUT_BYTES:
                        file.write("".join(texts).encode("utf-8", "backslashreplace"))
            except OSError:
                pass  # the run has no folder yet, or the disk is full; no row depends on this file

    def _start_clock(self, system: System) -> None:
        """Set the deadline of a cell that begins."""
        if isinstance(system, RemoteSystem):
            system.deadline = time.monotonic() + self.cell_timeout

    def _dataset(self, spec: str) -> Dataset:
        return self.datasets[spec]

    def _batches(self, unit: WorkUnit) -> list[Batch]:
        """Pictures of one size together, in order. Batches depend on the block and the options, never on the engine."""
        dataset = self._dataset(unit.dataset)
        sizes: dict[tuple[int, int], list] = {}
        for image_id in unit.image_ids:
            sample = dataset.load(image_id)
            sizes.setdefault(tuple(sample.image.shape[1:]), []).append(sample)
        batches = []
        for (height, width), samples in sizes.items():
            step = self._batch_size(height, width)
            for start in range(0, len(samples), step):
                batches.append(Batch.of(samples[start : start + step], unit.task, self.device))
        return batches

    def _batch_size(self, height: int, width: int) -> int:
        """Number of pictures per batch."""
        return self.batch or max(1, BATCH_PIXELS[torch.device(self.device).type] // (height * width))

    def _conditions(self, unit: WorkUnit, salt: str | None = None) -> Conditions:
        """What all points of the work unit share, for `bench.measure`."""
        if salt is None:
            self.salt = salt = kept_salt(self.root) if self.salt is None else self.salt
        name = self._dataset(unit.dataset).seed_name
        rule = (unit.cbr, unit.bits)
        return Conditions(unit.task, name, unit.channel, *rule, unit.requirement, self.seed, salt, unit.uses)

    def _measurement(self, system: System, unit: WorkUnit) -> Measurement:
        if unit.system not in self._ledgers:
            facts = self.systems[unit.system]
            self._ledgers[unit.system] = RunLedger(self.root, facts.identity) if facts.plugin else Ledger()
        ledger = self._ledgers[unit.system]
        return Measurement(LocalEnd(system, self.device), self._conditions(unit), self.device, ledger=ledger)

    def _rows(
        self,
        system: System,
        unit: WorkUnit,
        cell: Cell,
        batch: Batch,
        delivered: Delivered,
        scores: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """One row of samples.csv per picture."""
        dataset, sent = self._dataset(unit.dataset), delivered.sent
        height, width = batch.size
        report = {**sent.report, **delivered.report}
        rows = []
        for index, image_id in enumerate(batch.ids):
            row: dict[str, Any] = {
                "schema": SCHEMA, "cell_id": cell.id, "system": unit.system, "variant": system.variant,
                "task": unit.task, "dataset": dataset.name, "image_id": image_id, "height": height, "width": width,
                "rep": cell.rep, "seed": delivered.seeds[index], "channel": unit.channel, "csi": "perfect",
                "snr_def": "esn0",
                "snr_db": cell.snr_db, "tx_power": sent.spent.tx_power[index], "cbr_target": unit.cbr,
                "bits_target": unit.bits, "budget_uses": sent.spent.budget_uses,
                "n_source": 3 * height * width,
                "n_uses": sent.spent.n_uses, "cbr": sent.spent.cbr,
                "bits_per_use": float(sent.spent.bits_per_use[index]), "bits": sent.spent.bits[index],
                "side_bits": sent.spent.side_bits,
                "side_uses": sent.spent.side_uses, "status": "ok", "encode_s": sent.seconds,
                "channel_s": delivered.channel_s, "decode_s": delivered.decode_s, "batch": delivered.together,
                "device": self.device,
            }  # fmt: skip
            row |= {key: values[index] for key, values in report.items()}
            rows.append(row | scores[index])
        return rows


def _point(cell: Cell) -> Point:
    return Point(cell.snr_db, cell.rep)


def _not_tried(cell: Cell) -> Outcome:
    return Outcome(cell.id, "failed", f"not tried: the {MOST_LATE} cells before it took longer than --cell-timeout")


def _failed(cell: Cell | Reading | Trial, error: BaseException) -> Outcome:
    users = isinstance(error, UserError)
    lines = str(error).strip().splitlines() or ["no message"]
    own = users or isinstance(error, (RemoteFailure, AuditError))
    text = lines[0] if own else f"{type(error).__name__}: {lines[0]}"
    trace = "" if users else getattr(error, "traceback", "") or "".join(traceback.format_exception(error))
    return Outcome(cell.id, "failed", as_text(text)[:500], users, as_text(trace))


def _write_references(store: RunStore, dataset: str, image_id: str, batch: Batch, index: int) -> None:
    """Write the original, and the true labels, beside the outputs."""
    original = store.picture_name(dataset, image_id, "original")
    if not (store.root / original).is_file():
        store.write_picture(original, batch.reference[index].permute(1, 2, 0).contiguous().numpy())
    truth = store.picture_name(dataset, image_id, "truth")
    if batch.masks is not None and not (store.root / truth).is_file():
        store.write_picture(truth, batch.masks[index].numpy(), _palette())


def _palette() -> list[int]:
    from bench.data.voc import voc_palette

    return voc_palette().flatten().tolist()


assert set(REPORT_COLUMNS) <= set(SAMPLE_COLUMNS)
