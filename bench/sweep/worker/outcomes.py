"""The outcomes of cells that fail, each with one line for the user. `bench.sweep.worker.work` calls it, and
`probe` for the line."""

from __future__ import annotations

import traceback

from bench.measure.apart import RemoteFailure
from bench.measure.apart.wire import text as as_text
from bench.sweep.engines import Outcome
from bench.sweep.plan import Cell
from bench.sweep.preflight import Reading, Trial
from bench.sweep.worker.checks import MOST_LATE
from systems.errors import AuditError, UserError


def failed(cell: Cell | Reading | Trial, error: BaseException) -> Outcome:
    """The outcome of a cell, or of a check, that `error` ended."""
    users = isinstance(error, UserError)
    trace = "" if users else getattr(error, "traceback", "") or "".join(traceback.format_exception(error))
    return Outcome(cell.id, "failed", line_of(error), users, as_text(trace))


def line_of(error: BaseException) -> str:
    """An error of a system in one line: its message, with its type if it is none of the bench's own."""
    lines = str(error).strip().splitlines() or ["no message"]
    own = isinstance(error, (UserError, RemoteFailure, AuditError))
    return as_text(lines[0] if own else f"{type(error).__name__}: {lines[0]}")[:500]


def not_tried(cell: Cell) -> Outcome:
    """The outcome of a cell whose system was given up."""
    return Outcome(cell.id, "failed", f"not tried: the {MOST_LATE} cells before it took longer than --cell-timeout")
