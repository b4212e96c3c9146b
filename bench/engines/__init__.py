"""Where the work is done: one method, `run(tasks, work)`, that gives outcomes as they come.

A task is one system on one block of pictures, with all its cells (operating points and repetitions). `work(task)`
yields one `Outcome` a cell, after the cell's file is safely written; an engine hands them on in whatever order they
come, never raises for a failing cell, and never lets one cancel its siblings. The rows do not depend on the engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.runner import Task
    from systems.stopwatch import Seconds

ENGINES = ("serial", "process", "slurm")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: "done", "failed" (its error is one line), or "fatal": the whole run must stop."""

    cell_id: str
    status: str
    error: str = ""
    users: bool = False  # the error is one the user can mend (exit code 2)
    spent: dict[str, Seconds] = field(default_factory=dict)  # by stage, since the worker's outcome before


Work = Callable[["Task"], Iterator[Outcome]]


class Engine(Protocol):
    """Runs tasks somewhere."""

    def run(self, tasks: list[Task], work: Work) -> Iterator[Outcome]:
        """Outcomes of all cells of all tasks, as they complete."""
        ...


def lost(task: Task, seen: Iterable[str], error: str) -> Iterator[Outcome]:
    """The cells of a task that no outcome came for."""
    known = set(seen)
    return (Outcome(cell.id, "failed", error) for cell in task.cells if cell.id not in known)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and BLAS inside: sums are added in one order, so every engine gives the same digits."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def make_engine(name: str, workers: int, run_dir, slurm: dict | None = None) -> Engine:
    """An engine by name. MissingDependency where slurm's package is not installed."""
    if name == "serial":
        from bench.engines.serial import SerialEngine

        return SerialEngine()
    if name == "process":
        from bench.engines.process import ProcessEngine

        return ProcessEngine(workers)
    if name == "slurm":
        from bench.engines.slurm import SlurmEngine

        return SlurmEngine(workers, run_dir / "slurm", slurm or {})
    raise ValueError(f"unknown engine {name!r}")
