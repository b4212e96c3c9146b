"""Compute a resolved request: plan, checks, workers, tables. Called by `bench run`, `bench.run` and `perf sweep`.

`execute` reads from top to bottom as a run goes. What it calls stands in a module each: `plan`, `grow`, `salt`,
`preflight`, `schedule`, `engines`, `gather`, `manifest`, `tables`, `result`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results.store import RunStore
from bench.spec.request import Resolved, config_sha256
from bench.sweep.engines import Outcome, make_engine
from bench.sweep.engines.slurm import logged_failures
from bench.sweep.gather import Spent, add_spent, gather, pass_checks
from bench.sweep.grow import keep_plan, merged_config, with_earlier
from bench.sweep.manifest import inside, make_manifest, now
from bench.sweep.plan import Plan, Task, make_plan, missing, only, with_samples
from bench.sweep.preflight import preflight
from bench.sweep.result import Result
from bench.sweep.salt import keep_salt, salt_of
from bench.sweep.schedule import schedule
from bench.sweep.tables import LOST, write_tables
from bench.util.devices import default_workers
from systems import timing as stopwatch

SLURM_JOBS = 16  # unless --workers says otherwise


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
    workers = 1 if engine == "serial" else workers or (SLURM_JOBS if engine == "slurm" else default_workers(device))
    spent: Spent = {}

    # Plan: what the run holds, what of it is to be computed, and in which order.
    with stopwatch.stage("plan"):
        run = _look(resolved, out, salt)
    for note in _notes(run.plan):
        say(note)
    wanted = list(run.plan.tasks) if force else run.left
    failed_before = {row["cell_id"]: row for row in run.store.failures()}
    todo = [] if collect else only(wanted, set(failed_before)) if retry_failed else wanted
    todo = with_samples(todo, run.plan)
    with stopwatch.stage("plan"):
        checks, tasks = preflight(run.plan, todo), schedule(todo, run.plan, workers)
    total, cached = len(run.plan.cells), len(run.plan.cells) - _cells_of(wanted)

    # Workers: where the tasks are done. Nothing runs until the stream is read.
    home = _home() if todo and engine != "slurm" else None
    work = Worker(out.resolve(), dict(run.plan.systems), dict(run.plan.datasets), seed=resolved.request.seed,
                  salt=run.salt, batch=batch, device=device, cell_timeout=cell_timeout)  # fmt: skip
    machine = make_engine(engine if todo else "serial", workers, out, slurm, home, cell_timeout)
    how = {"engine": engine, "workers": workers, "device": device, "batch": batch, "cell_timeout": cell_timeout,
           "confinement": home.measures() if home is not None else []}  # fmt: skip

    with contextlib.closing(machine.run(tasks, work, checks)) as stream:
        # Checks: the user's errors come before anything is written.
        add_spent(spent, "")
        pass_checks(checks, stream, spent)
        run.store.open(
            run.hash_before or config_sha256(run.config), shared=engine == "slurm" or collect, beside=collect
        )
        try:
            keep_salt(out, run.salt)
            if force:  # cells made anew must not fall back on their old rows when they fail
                run.store.drop_cells(cell.id for task in todo for cell in task.cells)
            say(f"run folder {out}: {total} cells, {cached} cached, {_cells_of(todo)} to compute")
            manifest = make_manifest(resolved, run.config, run.plan, run.store, argv, how, run.salt_is)
            keep_plan(run.store, run.plan)
            run.store.write_manifest(manifest)
            add_spent(spent, "")

            outcomes, interrupted = gather(stream, _cells_of(todo), cached, run.system_of, run.store, spent)
            if collect:
                outcomes |= logged_failures(out / "slurm")
            partial = interrupted or collect or retry_failed
            failures, absent = _write_tables(run, outcomes, failed_before, partial, manifest["limited"], say)
            add_spent(spent, "")
            manifest["cells"] = {"expected": total, "done": total - len(absent), "failed": len(failures)}
            if not interrupted:
                manifest["end"], manifest["salt"] = now(), run.salt
            run.store.write_manifest(manifest)
        finally:
            run.store.close()
    done = sum(outcome.status == "done" for outcome in outcomes.values())
    waiting = len(absent - failures.keys()) if collect else 0
    return Result(out, total, cached, done, failures, run.system_of, spent, interrupted, run.salt, waiting)


def default_out(resolved: Resolved) -> Path:
    """A folder named after what a run keeps while it grows, so that the same command finds its own run."""
    return Path("results") / f"run-{resolved.folder_hash[:8]}"


def manifest_of(store: RunStore) -> dict[str, Any] | None:
    """The manifest of the run in a folder, or None. UserError where the folder holds something else."""
    manifest = store.manifest() if store.root.exists() else None
    store.check("" if manifest is None else manifest.get("config_sha256"))
    return manifest


@dataclass(frozen=True)
class _Run:
    """A run as one command finds it: its folder, what earlier commands left there, and the plan."""

    store: RunStore
    hash_before: str | None  # of the configuration that lies there
    config: dict[str, Any]  # of the whole run, earlier commands included
    plan: Plan
    left: list[Task]  # of the plan, with the cells that are not on disk
    salt: str
    salt_is: str  # where the salt comes from, for the manifest

    @property
    def system_of(self) -> dict[str, str]:
        """The system of each cell of the plan."""
        return {cell.id: task.system for task, cell in self.plan.cells}


def _look(resolved: Resolved, out: Path, given_salt: str | None) -> _Run:
    """Look into the folder and plan. Writes nothing; UserError where the folder's run and the request do not fit."""
    store = RunStore(out)
    before = manifest_of(store)
    config = merged_config(out, before, resolved)
    plan = make_plan(resolved)
    if before is not None:  # without a manifest no command of this run got as far as its first cell
        plan = with_earlier(out, plan)
    salt = salt_of(out, before, given_salt)
    salt_is = "published" if before and before.get("salt") else "given" if given_salt else "kept" if before else "drawn"
    return _Run(store, before and before.get("config_sha256"), config, plan, missing(plan, store), salt, salt_is)


def _notes(plan: Plan) -> Iterator[str]:
    """What the user should know before the run: foreign code in the harness, and what a data set is not."""
    for one in inside():
        yield f"{one} of an installed package runs inside the harness, where it can change any number: trust its author"
    for dataset in plan.datasets.values():
        if note := dataset.reference_note():
            yield note


def _home():
    """The nursery that systems' processes are forked from; None where the platform cannot fork."""
    from bench.measure.apart import Home  # loads torch, which a dry run does without

    return Home.shared() if hasattr(os, "fork") else None


def _cells_of(tasks: Sequence[Task]) -> int:
    return sum(len(task.cells) for task in tasks)


def _write_tables(
    run: _Run,
    outcomes: dict[str, Outcome],
    failed_before: dict[str, dict[str, str]],
    partial: bool,
    limited: bool,
    say: Callable[[str], None],
) -> tuple[dict[str, Outcome], set[str]]:
    """Write the tables of what is there. Gives the cells that failed, and the ids of all cells without rows."""
    absent = {cell.id for task in missing(run.plan, run.store) for cell in task.cells}
    failures = _failures(outcomes, absent, partial)
    with stopwatch.stage("tables"):
        unread = write_tables(run.plan, run.store, failures, failed_before, absent, run.config, limited)
    for line in run.store.refusals():
        say(line)
    return failures | _lost(unread), absent | unread


def _failures(outcomes: dict[str, Outcome], absent: set[str], partial: bool) -> dict[str, Outcome]:
    """The cells that failed and are absent, and those that are absent although nothing failed.

    partial: the command need not have brought every cell.
    """
    failures = {i: outcome for i, outcome in outcomes.items() if outcome.status == "failed" and i in absent}
    gone = set() if partial else absent - failures.keys()
    gone |= {i for i, outcome in outcomes.items() if outcome.status == "done"} & absent
    return failures | _lost(gone)


def _lost(cell_ids: set[str]) -> dict[str, Outcome]:
    return {identifier: Outcome(identifier, "failed", LOST) for identifier in cell_ids}
