"""Takes the outcomes of an engine as they come: first those of the checks, then those of the cells.

Called by `bench.sweep.execute`. It returns the outcome of each cell, adds up the time of each stage, and says what the
progress line of a sweep shows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice

from bench.results.cell_archives import PACK_CELLS
from bench.results.store import RunStore
from bench.sweep.engines import Outcome
from bench.sweep.exit_status import trace_path
from bench.sweep.plan import WorkUnit
from bench.sweep.preflight import Reading, Trial
from bench.util.files import write_atomic
from bench.util.progress import Progress
from systems import stage_times
from systems.errors import UserError
from systems.stage_times import Seconds

Outcomes = Generator[Outcome, None, None]
Spent = dict[tuple[str, str], Seconds]  # by system ("": no system) and stage


def pass_checks(checks: Sequence[Reading | Trial], stream: Outcomes, spent: Spent) -> None:
    """Wait for the outcomes of all checks. Raises UserError for the first check that found an error of the user."""
    system_of, found = {check.id: check.system for check in checks}, {}
    for outcome in islice(stream, len(checks)):
        add_spent(spent, system_of[outcome.cell_id], outcome.spent)
        if outcome.users:
            found[outcome.cell_id] = outcome.error
    for check in checks:
        if check.id in found:
            raise UserError(found[check.id])


def gather(
    stream: Outcomes, todo: Sequence[WorkUnit], cached: int, store: RunStore, spent: Spent
) -> tuple[dict[str, Outcome], bool]:
    """The outcomes of all cells by their ids, and whether Ctrl-C interrupted them.

    todo: the work units whose cells come. cached: number of cells that exist, for the progress line. Tracebacks are
    written as they come, and cells are packed into archives from time to time. The last outcome of a cell counts: a
    check may take back a cell that was done. Raises UserError if an outcome says that the run must stop.
    """
    outcomes: dict[str, Outcome] = {}
    interrupted = False
    system_of = {cell.id: unit.system for unit in todo for cell in unit.cells}
    progress = Progress("sweep", sum(len(unit.cells) for unit in todo), "cells") if todo else None
    done = failed = 0
    try:
        for outcome in stream:
            if outcome.status == "fatal":
                raise UserError(outcome.error)
            before, outcomes[outcome.cell_id] = outcomes.get(outcome.cell_id), outcome
            add_spent(spent, system_of[outcome.cell_id], outcome.spent)
            if before is not None and (before.status, outcome.status) == ("done", "failed"):  # it was taken back
                done -= 1
                store.drop_cells([outcome.cell_id])
            done += outcome.status == "done"
            failed += outcome.status == "failed"
            if progress is not None:
                progress.update(done + failed, f"{cached} cached, {failed} failed")
            if outcome.status == "failed" and outcome.trace:
                write_atomic(trace_path(store.root, outcome.cell_id), outcome.trace.encode())
            if outcome.status == "done" and done % PACK_CELLS == 0:
                store.pack()
    except KeyboardInterrupt:
        interrupted = True
        stream.close()
    if progress is not None:
        progress.close(f"{cached} cached, {failed} failed")
    store.pack()
    return outcomes, interrupted


def add_spent(spent: Spent, system: str, more: dict[str, Seconds] | None = None) -> None:
    """Add seconds by stage to those of a system. more: None: the seconds that this process
    counted since the last call.
    """
    for stage, (wall, cpu) in (stage_times.take() if more is None else more).items():
        before = spent.get((system, stage), (0.0, 0.0))
        spent[system, stage] = (before[0] + wall, before[1] + cpu)
