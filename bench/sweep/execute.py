"""Compute a resolved request: plan, checks, workers, tables. Called by `bench run` and `perf sweep`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from bench.results.archive import PACK_CELLS
from bench.results.store import RunStore
from bench.spec.request import Resolved, config_sha256
from bench.sweep.engines import Outcome, make_engine
from bench.sweep.engines.slurm import logged_failures
from bench.sweep.grow import keep_plan, merged_config, with_earlier
from bench.sweep.manifest import inside, make_manifest, now
from bench.sweep.plan import Plan, Task, make_plan, missing, only
from bench.sweep.preflight import Reading, Trial, preflight
from bench.sweep.salt import keep_salt, salt_of
from bench.sweep.schedule import schedule
from bench.sweep.tables import LOST, write_tables
from bench.util.devices import default_workers
from bench.util.files import write_atomic
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
    salt: str | None = None,
    cell_timeout: float | None = None,
) -> Result:
    """Compute what is missing, then write the tables. UserErrors come before anything is written, but a full disk.

    out: the run's folder; where a run that fits is there, it grows. salt: of the noise, as a manifest holds it; None:
    the run's own, or a new one. cell_timeout: seconds that one cell may take.
    """
    from bench.sweep.worker import CELL_SECONDS, Worker  # not needed to plan, and loads torch

    out = out or default_out(resolved)
    cell_timeout = cell_timeout or CELL_SECONDS
    spent: dict[tuple[str, str], Seconds] = {}
    with stopwatch.stage("plan"):
        store = RunStore(out)
        before = manifest_of(store)
        config = merged_config(out, before, resolved)
        plan = make_plan(resolved)
        if before is not None:  # without a manifest no command of this run got as far as its first cell
            plan = with_earlier(out, plan)
        own_salt = salt_of(out, before, salt)
        left = missing(plan, store)
    for one in inside():
        say(f"{one} of an installed package runs inside the harness, where it can change any number: trust its author")
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
    todo = with_samples(todo, plan)
    work = Worker(
        out.resolve(),
        dict(plan.systems),
        dict(plan.datasets),
        seed=resolved.request.seed,
        salt=own_salt,
        batch=batch,
        device=device,
        cell_timeout=cell_timeout,
    )
    with stopwatch.stage("plan"):
        checks, tasks = preflight(plan, todo), schedule(todo, plan, workers)
    total = len(plan.cells)
    count = sum(len(task.cells) for task in todo)
    cached = total - sum(len(task.cells) for task in (plan.tasks if force else left))
    system_of = {cell.id: task.system for task, cell in plan.cells}
    interrupted = False
    outcomes: dict[str, Outcome] = {}
    from bench.measure.apart import Home  # loads torch, which a dry run does without

    home = Home.shared() if todo and engine != "slurm" and hasattr(os, "fork") else None
    machine = make_engine(engine if todo else "serial", workers, out, slurm, home, cell_timeout)
    known = before and before.get("config_sha256")
    with contextlib.closing(machine.run(tasks, work, checks)) as stream:
        _pass(checks, stream, spent)
        store.open(known or config_sha256(config), shared=engine == "slurm" or collect, beside=collect)
        try:
            keep_salt(out, own_salt)
            if force:  # cells made anew must not fall back on their old rows when they fail
                store.drop_cells(cell.id for task in todo for cell in task.cells)
            say(f"run folder {out}: {total} cells, {cached} cached, {count} to compute")
            how = {"engine": engine, "workers": workers, "device": device, "batch": batch, "cell_timeout": cell_timeout}
            how["confinement"] = home.measures() if home is not None else []
            salt_is = (
                "published" if before and before.get("salt") else "given" if salt else "kept" if before else "drawn"
            )
            manifest = make_manifest(resolved, config, plan, store, argv, how, salt_is)
            keep_plan(store, plan)
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
                    if outcome.status == "failed" and outcome.trace:
                        write_atomic(trace_path(out, outcome.cell_id), outcome.trace.encode())
                    if outcome.status == "done" and done % PACK_CELLS == 0:
                        store.pack()
            except KeyboardInterrupt:
                interrupted = True
                stream.close()
            if progress is not None:
                progress.close(f"{cached} cached, {failed} failed")
            store.pack()
            if collect:
                outcomes |= logged_failures(out / "slurm")
            still_missing = {cell.id for task in missing(plan, store) for cell in task.cells}
            failures = {i: o for i, o in outcomes.items() if o.status == "failed" and i in still_missing}
            # What this command should have brought, and is not there although nothing failed.
            gone = still_missing - failures.keys() if not (interrupted or collect or retry_failed) else set()
            gone |= {identifier for identifier, outcome in outcomes.items() if outcome.status == "done"} & still_missing
            failures |= {identifier: Outcome(identifier, "failed", LOST) for identifier in gone}
            with stopwatch.stage("tables"):
                unread = write_tables(plan, store, failures, failed_before, still_missing, config, manifest["limited"])
            failures |= {identifier: Outcome(identifier, "failed", LOST) for identifier in unread}
            for line in store.refusals():
                say(line)
            _add(spent, "", stopwatch.take())
            there = total - len(still_missing | unread)
            manifest["cells"] = {"expected": total, "done": there, "failed": len(failures)}
            if not interrupted:
                manifest["end"], manifest["salt"] = now(), own_salt
            store.write_manifest(manifest)
        finally:
            store.close()
    done = sum(outcome.status == "done" for outcome in outcomes.values())
    waiting = len(still_missing - failures.keys()) if collect else 0
    return Result(out, total, cached, done, failures, system_of, spent, interrupted, own_salt, waiting)


def manifest_of(store: RunStore) -> dict[str, Any] | None:
    """The manifest of the run in a folder, or None. UserError where the folder holds something else."""
    manifest = store.manifest() if store.root.exists() else None
    store.check("" if manifest is None else manifest.get("config_sha256"))
    return manifest


def trace_path(run_dir: Path, cell_id: str) -> Path:
    """Where the traceback of a failed cell lies."""
    return run_dir / "failures" / f"{cell_id}.txt"


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
    """A folder named after what a run keeps while it grows, so that the same command finds its own run."""
    return Path("results") / f"run-{resolved.folder_hash[:8]}"
