"""Work for the engines that is independent of the bench. Jobs of the Slurm engine import this module, so it does not
import torch.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from bench.sweep.engines import Outcome


@dataclass(frozen=True)
class FakeCell:
    id: str


@dataclass(frozen=True)
class FakeUnit:
    system: str
    cells: tuple[FakeCell, ...]
    block: int | None = None

    @property
    def inputs(self):
        return self.system, self.cells if self.block is None else self.block


def units(count, system="s", cells=3):
    return [FakeUnit(system, tuple(FakeCell(f"{system}{i}.{j}") for j in range(cells))) for i in range(count)]


@dataclass
class Fatal:
    """Writes a line for each cell that it begins, and then fails in the given way.

    Cells in `always` kill their process each time, those in `once` the first time only. Before those in `warned` the
    cluster announces, the first time, that the time limit is reached. Those in `fails` report a failure.
    """

    log: str
    always: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()

    def __call__(self, unit):
        for cell in unit.cells:
            first = cell.id not in Path(self.log).read_text().split()
            with open(self.log, "a") as file:
                file.write(cell.id + "\n")
            if cell.id in self.always or (first and cell.id in self.once):
                os.kill(os.getpid(), signal.SIGKILL)
            if first and cell.id in self.warned:
                os.kill(os.getpid(), signal.SIGUSR2)
            yield Outcome(cell.id, "failed" if cell.id in self.fails else "done")
