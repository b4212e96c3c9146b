"""Engines: where the work of a run is done. Each has one method, `run(units, work, before)`, which yields outcomes as
they come.

`bench.sweep.execute` calls it. A work unit is one system on one block of pictures (its `inputs`), with all its cells
(operating points and repetitions). `work(unit)` yields one `Outcome` per cell, after the file of the cell is safely
written. An engine passes outcomes on in any order. It never raises for a failing cell, and a failing cell never cancels
others. The rows do not depend on the engine.
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
    from bench.sweep.plan import WorkUnit
    from systems.stage_times import Seconds

ENGINES = ("serial", "process", "slurm")


@dataclass(frozen=True)
class Outcome:
    """The end of a cell: "done", "failed" (`error` is one line), or "fatal": the whole run must stop."""

    cell_id: str
    status: str
    error: str = ""
    users: bool = False  # True: the user can correct the error (exit code 2)
    trace: str = ""  # the traceback, for failures/
    spent: dict[str, Seconds] = field(default_factory=dict)  # by stage, since the worker's last outcome


Work = Callable[["WorkUnit"], Iterator[Outcome]]


class Engine(Protocol):
    """Runs work units somewhere."""

    def run(self, units: list[WorkUnit], work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Yield the outcomes of all cells of all work units as they complete. Those in `before` end before any other
        begins.
        """
        ...


def lost(unit: WorkUnit, seen: Iterable[str], error: str) -> Iterator[Outcome]:
    """An outcome for each cell of a work unit that has none yet. seen: ids of the cells that have one."""
    known = set(seen)
    return (Outcome(cell.id, "failed", error) for cell in unit.cells if cell.id not in known)


def keep_freed_memory() -> None:
    """Ask glibc's malloc to keep freed blocks of up to 1 GiB for the next tensor, instead of returning them to the
    system.

    The activations of a network have the same sizes at every operating point. Getting this memory from the system again
    costs up to a third of the time. Other C libraries are not changed.
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
    """In a `with` block: torch and BLAS use one thread. Sums are then added in one order, so all engines give the same
    digits.
    """
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
    """An engine by its name.

    run_dir: the run's folder.
    slurm: parameters of jobs.
    home: the nursery of this process, for workers on this machine.
    cell_timeout: in seconds.
    Raises MissingDependency if slurm's package is not installed, ValueError for another name.
    """
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
