"""The plan of a run: its cells, and the work units that workers receive. Nothing here needs torch.

`bench.sweep.execute` calls it. A cell is one system on one block of pictures at one operating point and repetition: the
unit of caching and resuming. Its id is a hash of everything that decides its rows. So a cell that is on disk is never
computed again, and a cell whose weights, pictures or source code changed always is. A work unit is the cells of one
system and one block. If the encoder does not see the SNR, the pictures of a work unit are encoded once for the
whole sweep.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from bench.data import Dataset
from bench.measure.channel import CHANNELS
from bench.results.schema import SCHEMA
from bench.results.store import RunStore
from bench.spec.figure import Figure
from bench.spec.identity import SystemFacts
from bench.spec.request import BLOCK, Resolved
from bench.spec.source_code import measure_digest
from systems.interface import Budget
from systems.side_info import control_uses


@dataclass(frozen=True)
class Cell:
    """One operating point and repetition of a work unit. pictures: images whose output is kept as PNG."""

    id: str
    snr_db: float
    rep: int
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkUnit:
    """The work for a worker: one system, one block of pictures, and the wanted cells."""

    system: str
    task: str
    dataset: str  # the text that opens it
    image_ids: tuple[str, ...]
    channel: str
    cbr: float | None
    bits: int | None
    requirement: str
    cells: tuple[Cell, ...]
    points: tuple[Cell, ...] = ()  # all cells of the plan, because batches must not depend on which are wanted
    sampled: bool = False  # True: decoded once more in a separate process, which must give the same
    set_name: str = ""  # name of the data set in tables
    variant: str = ""  # variant of the system
    uses: int | None = None  # the budget, if it is given in complex uses

    @property
    def inputs(self) -> WorkUnit:
        """The work unit without its cells. Pieces of one work unit have equal inputs, and need the same preparation."""
        return replace(self, cells=())

    def picture_file(self, image_id: str, cell: Cell) -> str:
        """The path of the PNG of one output, relative to the run."""
        return RunStore.picture_name(self.set_name, image_id, f"{self.system}-{cell.snr_db:g}dB-{cell.id[:8]}")


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do, in the order of its tables.

    datasets: by the text that figures use.
    earlier: work units of earlier commands in the same folder. They appear in the tables, and are not computed.
    changed: third parties' systems that have changed since; what earlier commands computed of them is left out.
    """

    figures: tuple[Figure, ...]
    units: tuple[WorkUnit, ...]
    datasets: dict[str, Dataset]
    systems: dict[str, SystemFacts]
    earlier: tuple[WorkUnit, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def cells(self) -> list[tuple[WorkUnit, Cell]]:
        """Every cell of this command, with its work unit."""
        return [(unit, cell) for unit in self.units for cell in unit.cells]


def cell_id(facts: SystemFacts, fingerprint: str, unit: WorkUnit, snr_db: float, rep: int, seed: int) -> str:
    """First 16 hex digits of a sha256 over everything that decides a cell's rows, except the run's salt.

    fingerprint: of the pictures in the block only, so that a set may grow. The name of the data set counts, not the
    text that opens it.
    """
    key = {
        "schema": SCHEMA,
        "system": facts.identity,
        "measure": measure_digest(),
        "task": unit.task,
        "dataset": unit.set_name,
        "fingerprint": fingerprint,
        "block": unit.image_ids,
        "channel": unit.channel,
        "snr_db": float(snr_db),
        "cbr": unit.cbr,
        "bits": unit.bits,
        "uses": unit.uses,
        "rules": [Budget(uses=1).analog_bits_per_use, control_uses(8, CHANNELS[unit.channel].control_snr_db)],
        "requirement": unit.requirement,
        "rep": rep,
        "base_seed": seed,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def make_plan(resolved: Resolved) -> Plan:
    """All cells of a resolved request. Cells that two figures share are planned once."""
    figures, datasets, systems = resolved.figures, resolved.datasets, resolved.systems
    seed = resolved.request.seed
    units: dict[Any, dict] = {}
    for figure in figures:
        dataset = datasets[figure.dataset]
        image_ids = dataset.ids
        shown = figure.pictures.of(image_ids)
        for system in figure.systems:
            for start in range(0, len(image_ids), BLOCK):
                block = image_ids[start : start + BLOCK]
                key = WorkUnit(system, figure.task, figure.dataset, block, figure.channel, figure.cbr, figure.bits,
                           figure.requirement, (), uses=figure.uses)  # fmt: skip
                cells = units.setdefault(key, {})
                for snr_db in figure.snr_db:
                    for rep in range(figure.reps):
                        keep = shown if rep == 0 and snr_db in figure.pictures.snr_db else ()
                        before = cells.get((snr_db, rep), ())
                        cells[snr_db, rep] = tuple(i for i in block if i in keep or i in before)

    @cache
    def fingerprint(spec: str, block: tuple[str, ...]) -> str:
        dataset = datasets[spec]
        return replace(dataset, items={image_id: dataset.items[image_id] for image_id in block}).fingerprint()

    planned = []
    for unit, cells in units.items():
        facts = systems[unit.system]
        unit = replace(unit, set_name=datasets[unit.dataset].name, variant=facts.variant)
        content = fingerprint(unit.dataset, unit.image_ids)
        points = tuple(
            Cell(cell_id(facts, content, unit, *point, seed), *point, cells[point]) for point in sorted(cells)
        )
        planned.append(replace(unit, cells=points, points=points))
    return Plan(figures, tuple(planned), datasets, systems)


def missing(plan: Plan, store: RunStore) -> list[WorkUnit]:
    """The plan's work units with only those cells that are not on disk, completely and with their pictures."""
    left = []
    store.look()
    for unit in plan.units:
        cells = tuple(
            cell
            for cell in unit.cells
            if not store.has_cell(cell.id, unit.image_ids)
            or not all((store.root / unit.picture_file(image_id, cell)).is_file() for image_id in cell.pictures)
        )
        if cells:
            left.append(replace(unit, cells=cells))
    return left


def only(units: list[WorkUnit], ids: set[str]) -> list[WorkUnit]:
    """The work units with only the cells in `ids`."""
    cut = (replace(unit, cells=tuple(cell for cell in unit.cells if cell.id in ids)) for unit in units)
    return [unit for unit in cut if unit.cells]


def with_samples(todo: list[WorkUnit], plan: Plan) -> list[WorkUnit]:
    """The work units, one per figure marked as `sampled`: its first cell is decoded once more in a separate process."""
    if not hasattr(os, "fork"):
        return todo
    marked: set[int] = set()
    for figure in plan.figures:
        own = (
            index
            for index, unit in enumerate(todo)
            if (unit.task, unit.dataset, unit.channel, unit.cbr, unit.bits, unit.uses)
            == (figure.task, figure.dataset, figure.channel, figure.cbr, figure.bits, figure.uses)
            and unit.system in figure.systems
            and not plan.systems[unit.system].plugin
            and not plan.systems[unit.system].genie
        )
        marked.update(islice(own, 1))
    return [replace(unit, sampled=True) if index in marked else unit for index, unit in enumerate(todo)]
