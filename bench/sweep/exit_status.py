"""The end of a run: counts, failures and the exit code. `bench.sweep.execute` makes it; `bench run` and `bench.run`
show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.sweep.engines import Outcome
from bench.util.files import several
from systems.stage_times import Seconds


@dataclass(frozen=True)
class Result:
    """The end of one command."""

    run_dir: Path
    expected: int
    cached: int
    done: int
    failures: dict[str, Outcome]
    system_of: dict[str, str]  # of each cell
    spent: dict[tuple[str, str], Seconds]  # by system ("": no system) and stage
    interrupted: bool = False
    salt: str = ""  # of the run's noise, as its manifest holds it
    waiting: int = 0  # after --collect: cells that jobs of a cluster may still compute

    @property
    def exit_code(self) -> int:
        """0: all is done. 2: all failures are errors of the user. 1: other failures, or rows are missing. 130: after
        Ctrl-C.
        """
        if self.interrupted:
            return 130
        if not self.failures:
            return 1 if self.waiting else 0
        return 2 if all(outcome.users for outcome in self.failures.values()) else 1

    def failure_lines(self) -> list[str]:
        """One line per different error, with the systems and the number of cells that it affected."""
        cells: dict[str, list[str]] = {}
        for identifier, outcome in self.failures.items():
            cells.setdefault(outcome.error, []).append(identifier)
        lines = []
        for error, ids in cells.items():
            systems = ", ".join(sorted({self.system_of[one] for one in ids}))
            trace = next((one for one in ids if self.failures[one].trace), None)
            where = "" if trace is None else f"; traceback: {trace_path(self.run_dir, trace)}"
            lines.append(f"{systems}: {error} ({several(len(ids), 'cell')}{where})")
        if lines:
            lines.append(
                f"{len(self.failures)} of {self.expected} cells failed (failures.csv); the others are complete; "
                "--retry-failed repeats the failed ones"
            )
        if self.waiting:
            lines.append(f"{self.waiting} of {self.expected} cells are missing: their jobs have not finished yet")
        return lines

    @property
    def first_trace(self) -> str:
        """The traceback of the first failure that has one, or ""."""
        return next((outcome.trace for outcome in self.failures.values() if outcome.trace), "")


def trace_path(run_dir: Path, cell_id: str) -> Path:
    """The file with the traceback of a failed cell."""
    return run_dir / "failures" / f"{cell_id}.txt"
