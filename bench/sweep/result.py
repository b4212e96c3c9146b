"""How a run ended: counts, failures and the exit code. Made by `bench.sweep.execute`, told by `bench run` and
`bench.run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.sweep.engines import Outcome
from systems.timing import Seconds


@dataclass(frozen=True)
class Result:
    """How one command ended."""

    run_dir: Path
    expected: int
    cached: int
    done: int
    failures: dict[str, Outcome]
    system_of: dict[str, str]  # of each cell
    spent: dict[tuple[str, str], Seconds]  # by system ("": none) and stage
    interrupted: bool = False
    salt: str = ""  # of the run's noise, as its manifest holds it
    waiting: int = 0  # cells that jobs of a cluster may still bring, after --collect

    @property
    def exit_code(self) -> int:
        """0; 2 where all that failed is the user's to mend; 1 otherwise, also where rows are missing; 130 after
        Ctrl-C."""
        if self.interrupted:
            return 130
        if not self.failures:
            return 1 if self.waiting else 0
        return 2 if all(outcome.users for outcome in self.failures.values()) else 1

    def failure_lines(self) -> list[str]:
        """One line for each different error, with how many cells of which systems it took."""
        cells: dict[str, list[str]] = {}
        for identifier, outcome in self.failures.items():
            cells.setdefault(outcome.error, []).append(identifier)
        lines = []
        for error, ids in cells.items():
            systems = ", ".join(sorted({self.system_of[one] for one in ids}))
            trace = next((one for one in ids if self.failures[one].trace), None)
            where = "" if trace is None else f"; traceback: {trace_path(self.run_dir, trace)}"
            lines.append(f"{systems}: {error} ({len(ids)} cells{where})")
        if lines:
            lines.append(
                f"{len(self.failures)} of {self.expected} cells failed (failures.csv); the others are whole; "
                "--retry-failed tries them again"
            )
        if self.waiting:
            lines.append(f"{self.waiting} of {self.expected} cells are not there: their jobs have not brought them yet")
        return lines

    @property
    def first_trace(self) -> str:
        """The traceback of the first failure that has one."""
        return next((outcome.trace for outcome in self.failures.values() if outcome.trace), "")


def trace_path(run_dir: Path, cell_id: str) -> Path:
    """Where the traceback of a failed cell lies."""
    return run_dir / "failures" / f"{cell_id}.txt"
