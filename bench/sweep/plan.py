"""What a run will do: its cells, and the tasks in which they are given to workers. Nothing here needs torch.

`bench.sweep.execute` calls it. A cell is one system on one block of pictures at one operating point and repetition: the
unit of caching and resuming. Its id is a hash of everything that decides its rows. So a cell that is on disk is never
computed again, and a cell whose weights, pictures or source code changed always is. A task is the cells of one system
and one block. If the encoder does not see the SNR, the pictures of a task are encoded once for the whole sweep.
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
from bench.spec.source import measure_digest
from systems.interface import Budget
from systems.side_info import control_uses


@dataclass(frozen=True)
class Cell:
    """One operating point and repetition of a task. pictures: images whose output is kept as PNG."""

    id: str
    snr_db: float
    rep: int
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
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
    def inputs(self) -> Task:
        """The task without its cells. Pieces of one task have equal inputs, and need the same preparation."""
        return replace(self, cells=())

    def picture_file(self, image_id: str, cell: Cell) -> str:
        """The path of the PNG of one output, relative to the run."""
        return RunStore.picture_name(self.set_name, image_id, f"{self.system}-{cell.snr_db:g}dB-{cell.id[:8]}")


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do, in the order of its tables.

    datasets: by the text that figures use.
    earlier: tasks of earlier commands in the same folder. They appear in the tables, and are not computed.
    """

    figures: tuple[Figure, ...]
    tasks: tuple[Task, ...]
    datasets: dict[str, Dataset]
    systems: dict[str, SystemFacts]
    earlier: tuple[Task, ...] = ()

    @property
    def cells(self) -> list[tuple[Task, Cell]]:
        """Every cell of this command, with its task."""
        return [(task, cell) for task in self.tasks for cell in task.cells]


def cell_id(facts: SystemFacts, fingerprint: str, task: Task, snr_db: float, rep: int, seed: int) -> str:
    """First 16 hex digits of a sha256 over everything that decides a cell's rows, except the run's salt.

    fingerprint: of the pictures in the block only, so that a set may grow. The name of the data set counts, not the
    text that opens it.
    """
    key = {
        "schema": SCHEMA,
        "system": facts.identity,
        "measure": measure_digest(),
        "task": task.task,
        "dataset": task.set_name,
        "fingerprint": fingerprint,
        "block": task.image_ids,
        "channel": task.channel,
        "snr_db": float(snr_db),
        "cbr": task.cbr,
        "bits": task.bits,
        "uses": task.uses,
        "rules": [Budget(uses=1).analog_bits_per_use, control_uses(8, CHANNELS[task.channel].control_snr_db)],
        "requirement": task.requirement,
        "rep": rep,
        "base_seed": seed,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def make_plan(resolved: Resolved) -> Plan:
    """All cells of a resolved request. Cells that two figures share are planned once."""
    figures, datasets, systems = resolved.figures, resolved.datasets, resolved.systems
    seed = resolved.request.seed
    tasks: dict[Any, dict] = {}
    for figure in figures:
        dataset = datasets[figure.dataset]
        image_ids = dataset.ids
        shown = image_ids[: figure.pictures.limit]
        for system in figure.systems:
            for start in range(0, len(image_ids), BLOCK):
                block = image_ids[start : start + BLOCK]
                key = Task(system, figure.task, figure.dataset, block, figure.channel, figure.cbr, figure.bits,
                           figure.requirement, (), uses=figure.uses)  # fmt: skip
                cells = tasks.setdefault(key, {})
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
    for task, cells in tasks.items():
        facts = systems[task.system]
        task = replace(task, set_name=datasets[task.dataset].name, variant=facts.variant)
        content = fingerprint(task.dataset, task.image_ids)
        points = tuple(
            Cell(cell_id(facts, content, task, *point, seed), *point, cells[point]) for point in sorted(cells)
        )
        planned.append(replace(task, cells=points, points=points))
    return Plan(figures, tuple(planned), datasets, systems)


def missing(plan: Plan, store: RunStore) -> list[Task]:
    """The plan's tasks with only those cells that are not on disk, completely and with their pictures."""
    left = []
    store.look()
    for task in plan.tasks:
        cells = tuple(
            cell
            for cell in task.cells
            if not store.has_cell(cell.id, task.image_ids)
            or not all((store.root / task.picture_file(image_id, cell)).is_file() for image_id in cell.pictures)
        )
        if cells:
            left.append(replace(task, cells=cells))
    return left


def only(tasks: list[Task], ids: set[str]) -> list[Task]:
    """The tasks with only the cells in `ids`."""
    cut = (replace(task, cells=tuple(cell for cell in task.cells if cell.id in ids)) for task in tasks)
    return [task for task in cut if task.cells]


def with_samples(todo: list[Task], plan: Plan) -> list[Task]:
    """The tasks, one per figure marked as `sampled`: its first cell is decoded once more in a separate process."""
    if not hasattr(os, "fork"):
        return todo
    marked: set[int] = set()
    for figure in plan.figures:
        own = (
            index
            for index, task in enumerate(todo)
            if (task.task, task.dataset, task.channel, task.cbr, task.bits, task.uses)
            == (figure.task, figure.dataset, figure.channel, figure.cbr, figure.bits, figure.uses)
            and task.system in figure.systems
            and not plan.systems[task.system].plugin
            and not plan.systems[task.system].genie
        )
        marked.update(islice(own, 1))
    return [replace(task, sampled=True) if index in marked else task for index, task in enumerate(todo)]
