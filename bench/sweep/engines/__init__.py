"""Where the work is done: one method, `run(tasks, work, before)`, that gives outcomes as they come.

A task is one system on one block of pictures (its `inputs`), with all its cells (operating points and repetitions).
`work(task)` yields one `Outcome` a cell, after the cell's file is safely written; an engine hands them on in whatever
order they come, never raises for a failing cell, and never lets one cancel its siblings. The rows do not depend on the
engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.measure.apart import Home
    from bench.sweep.plan import Task
    from systems.timing import Seconds

ENGINES = ("serial", "process", "slurm")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: "done", "failed" (its error is one line), or "fatal": the whole run must stop."""

    cell_id: str
    status: str
    error: str = ""
    users: bool = False  # the error is one the user can mend (exit code 2)
    trace: str = ""  # the traceback, for failures/
    spent: dict[str, Seconds] = field(default_factory=dict)  # by stage, since the worker's outcome before


Work = Callable[["Task"], Iterator[Outcome]]


class Engine(Protocol):
    """Runs tasks somewhere."""

    def run(self, tasks: list[Task], work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Outcomes of all cells of all tasks, as they complete; those of the tasks in `before` come before any other
        begins."""
        ...


def lost(task: Task, seen: Iterable[str], error: str) -> Iterator[Outcome]:
    """The cells of a task that no outcome came for."""
    known = set(seen)
    return (Outcome(cell.id, "failed", error) for cell in task.cells if cell.id not in known)


def keep_freed_memory() -> None:
    """Ask glibc's malloc to keep freed blocks of up to 1 GiB for the next tensor, where it would hand large ones back.

    A network's activations are of the same sizes at every operating point; page by page from the system they cost up to
    a third of the time. Other C libraries are left as they are.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_* of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in ((mmap_threshold, 1 << 30), (trim_threshold, 1 << 30), (top_pad, 1 << 24)):
        mallopt(parameter, value)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and BLAS inside: sums are added in one order, so every engine gives the same digits."""
    import torch
    from threadpoolctl import threadpool_limits

    keep_freed_memory()
    before = torch.get_num_threads()
    with threadpool_limits(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def make_engine(
    name: str,
    workers: int,
    run_dir: Path,
    slurm: dict | None = None,
    home: Home | None = None,
    cell_timeout: float = math.inf,
) -> Engine:
    """An engine by name. home: the nursery of this process, for workers of this machine. cell_timeout: in seconds.
    MissingDependency where slurm's package is not installed."""
    if name == "serial":
        from bench.sweep.engines.serial import SerialEngine

        return SerialEngine()
    if name == "process":
        from bench.sweep.engines.process import ProcessEngine

        return ProcessEngine(workers, home, cell_timeout)
    if name == "slurm":
        from bench.sweep.engines.slurm import SlurmEngine

        return SlurmEngine(workers, run_dir / "slurm", slurm or {})
    raise ValueError(f"unknown engine {name!r}")
