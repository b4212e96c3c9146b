"""What a run will do: cells, the tasks that they are handed out in, and the order of work. Nothing here needs torch.

A cell is one system on one block of pictures at one operating point and repetition: the unit of caching and resume. Its
id is a hash of everything that decides its rows, so a cell that is on disk is never computed again, and one whose
weights, pictures or source changed always is. A task is the cells of one system and block: its pictures are encoded
once for the whole sweep wherever the encoder does not see the SNR.
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
    """One operating point and repetition of a task. `pictures`: images whose output is kept as PNG."""

    id: str
    snr_db: float
    rep: int
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What a worker is given: one system, one block of pictures, and the cells wanted of them."""

    system: str
    task: str
    dataset: str  # the spec that opens it
    image_ids: tuple[str, ...]
    channel: str
    cbr: float | None
    bits: int | None
    requirement: str
    cells: tuple[Cell, ...]
    points: tuple[Cell, ...] = ()  # the plan's, wanted or not: which of them share a batch must not depend on that
    sampled: bool = False  # decoded once more in a process apart, to see that it gives the same
    set_name: str = ""  # of the data set, as the tables have it
    variant: str = ""  # of the system
    uses: int | None = None  # the budget, where it is given in complex uses

    @property
    def inputs(self) -> Task:
        """What it does before its first cell: pieces of one task have equal inputs."""
        return replace(self, cells=())

    def picture_file(self, image_id: str, cell: Cell) -> str:
        """Where the PNG of one output lies, relative to the run."""
        return RunStore.picture_name(self.set_name, image_id, f"{self.system}-{cell.snr_db:g}dB-{cell.id[:8]}")


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, in the order of its tables. `datasets`: by the spec that the figures use. `earlier`:
    tasks of earlier commands in the same folder, which count in the tables and are not computed."""

    figures: tuple[Figure, ...]
    tasks: tuple[Task, ...]
    datasets: dict[str, Dataset]
    systems: dict[str, SystemFacts]
    earlier: tuple[Task, ...] = ()

    @property
    def cells(self) -> list[tuple[Task, Cell]]:
        """Every cell of this command with its task."""
        return [(task, cell) for task in self.tasks for cell in task.cells]


def cell_id(facts: SystemFacts, fingerprint: str, task: Task, snr_db: float, rep: int, seed: int) -> str:
    """First 16 hex digits of the sha256 of all that decides a cell's rows, but for the run's salt.

    fingerprint: of the block's own pictures, so that a set may grow. The name of the data set counts, not what opens
    it.
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
    """All cells of a resolved request; what two figures share is planned once."""
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
    """The plan's tasks with the cells that are not on disk, whole and with their pictures."""
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
    """The tasks cut to some cells."""
    cut = (replace(task, cells=tuple(cell for cell in task.cells if cell.id in ids)) for task in tasks)
    return [task for task in cut if task.cells]


def with_samples(todo: list[Task], plan: Plan) -> list[Task]:
    """The tasks, one of each figure marked: its first cell is decoded once more in a process apart."""
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
