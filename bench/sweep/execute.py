"""Compute a resolved request: plan, checks, workers, tables. Called by `bench run` and `perf sweep`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bench.results.archive import PACK_CELLS
from bench.results.store import RunStore
from bench.spec.request import Resolved
from bench.sweep.engines import Outcome, make_engine
from bench.sweep.manifest import make_manifest, now
from bench.sweep.plan import make_plan, missing, only
from bench.sweep.preflight import Reading, Trial, preflight
from bench.sweep.schedule import schedule
from bench.sweep.tables import write_tables
from bench.util.devices import default_workers
from bench.util.progress import Progress
from systems import timing as stopwatch
from systems.errors import UserError
from systems.timing import Seconds

SLURM_JOBS = 16  # unless --workers says otherwise


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    run_dir: Path
    expected: int
    cached: int
    done: int
    failures: dict[str, Outcome]
    system_of: dict[str, str]  # of each cell
    spent: dict[tuple[str, str], Seconds]  # by system ("": none) and stage
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0; 2 where all that failed is the user's to mend; 1 otherwise; 130 after Ctrl-C."""
        if self.interrupted:
            return 130
        if not self.failures:
            return 0
        return 2 if all(outcome.users for outcome in self.failures.values()) else 1

    def failure_lines(self) -> list[str]:
        """One line for each different error, with how many cells of which systems it took."""
        cells: dict[str, list[str]] = {}
        for identifier, outcome in self.failures.items():
            cells.setdefault(outcome.error, []).append(self.system_of[identifier])
        lines = [f"{', '.join(sorted(set(names)))}: {error} ({len(names)} cells)" for error, names in cells.items()]
        if lines:
            lines.append(
                f"{len(self.failures)} of {self.expected} cells failed (failures.csv); the others are whole; "
                "--retry-failed tries them again"
            )
        return lines


def execute(
    resolved: Resolved,
    out: Path | None = None,
    engine: str = "process",
    workers: int | None = None,
    device: str = "cpu",
    batch: int | None = None,
    force: bool = False,
    retry_failed: bool = False,
    collect: bool = False,
    slurm: dict[str, Any] | None = None,
    argv: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Compute what is missing, then write the tables. UserErrors come before anything is written, but a full disk."""
    from bench.sweep.worker import Worker  # not needed to plan, and loads torch

    out = out or default_out(resolved)
    spent: dict[tuple[str, str], Seconds] = {}
    with stopwatch.stage("plan"):
        plan, store = make_plan(resolved), RunStore(out)
        store.check(resolved.config_hash)
        left = missing(plan, store)
    for dataset in plan.datasets.values():
        if note := dataset.reference_note():
            say(note)
    todo = list(plan.tasks) if force else left
    failed_before = {row["cell_id"]: row for row in store.failures()}
    if retry_failed:
        todo = only(todo, set(failed_before))
    if collect:
        todo = []
    workers = 1 if engine == "serial" else workers or (SLURM_JOBS if engine == "slurm" else default_workers(device))
    machine = make_engine(engine if todo else "serial", workers, out, slurm)
    work = Worker(
        out.resolve(),
        {name: facts.options for name, facts in plan.systems.items()},
        dict(plan.datasets),
        resolved.request.seed,
        batch,
        device,
    )
    with stopwatch.stage("plan"):
        checks, tasks = preflight(plan, todo), schedule(todo, plan, workers)
    total = len(plan.cells)
    count = sum(len(task.cells) for task in todo)
    cached = total - sum(len(task.cells) for task in (plan.tasks if force else left))
    system_of = {cell.id: task.system for task, cell in plan.cells}
    interrupted = False
    outcomes: dict[str, Outcome] = {}
    with contextlib.closing(machine.run(tasks, work, checks)) as stream:
        _pass(checks, stream, spent)
        store.open(resolved.config_hash, shared=engine == "slurm" or collect, beside=collect)
        try:
            if force:  # cells made anew must not fall back on their old rows when they fail
                store.drop_cells(cell.id for task in todo for cell in task.cells)
            say(f"run folder {out}: {total} cells, {cached} cached, {count} to compute")
            how = {"engine": engine, "workers": workers, "device": device, "batch": batch}
            manifest = make_manifest(resolved, plan, store, argv, how)
            store.write_manifest(manifest)
            progress = Progress("sweep", count, "cells") if count else None
            done = failed = 0
            _add(spent, "", stopwatch.take())
            try:
                for outcome in stream:
                    if outcome.status == "fatal":
                        raise UserError(outcome.error)
                    outcomes[outcome.cell_id] = outcome
                    _add(spent, system_of[outcome.cell_id], outcome.spent)
                    done += outcome.status == "done"
                    failed += outcome.status == "failed"
                    progress.update(done + failed, f"{cached} cached, {failed} failed")
                    if outcome.status == "done" and done % PACK_CELLS == 0:
                        store.pack()
            except KeyboardInterrupt:
                interrupted = True
                stream.close()
            if progress is not None:
                progress.close(f"{cached} cached, {failed} failed")
            store.pack()
            still_missing = {cell.id for task in missing(plan, store) for cell in task.cells}
            failures = {i: o for i, o in outcomes.items() if o.status == "failed" and i in still_missing}
            with stopwatch.stage("tables"):
                write_tables(plan, store, failures, failed_before, still_missing, resolved)
            _add(spent, "", stopwatch.take())
            manifest["cells"] = {"expected": total, "done": total - len(still_missing), "failed": len(failures)}
            manifest["end"] = None if interrupted else now()
            store.write_manifest(manifest)
        finally:
            store.close()
    done = sum(outcome.status == "done" for outcome in outcomes.values())
    return Result(out, total, cached, done, failures, system_of, spent, interrupted)


def _pass(checks: Sequence[Reading | Trial], stream: Iterator[Outcome], spent: dict[tuple[str, str], Seconds]) -> None:
    """Wait for the outcomes of all checks. UserError for the first that found something for the user to mend."""
    system_of, found = {check.id: check.system for check in checks}, {}
    _add(spent, "", stopwatch.take())
    for outcome in islice(stream, len(checks)):
        _add(spent, system_of[outcome.cell_id], outcome.spent)
        if outcome.users:
            found[outcome.cell_id] = outcome.error
    for check in checks:
        if check.id in found:
            raise UserError(found[check.id])


def _add(spent: dict[tuple[str, str], Seconds], system: str, more: dict[str, Seconds]) -> None:
    for stage, (wall, cpu) in more.items():
        before = spent.get((system, stage), (0.0, 0.0))
        spent[system, stage] = (before[0] + wall, before[1] + cpu)


def default_out(resolved: Resolved) -> Path:
    """A folder named after the configuration, so that the same command finds its own run."""
    return Path("results") / f"run-{resolved.quick_hash[:8]}"
