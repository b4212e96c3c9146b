"""Computes a resolved request: plan, checks, workers, tables. Called by `bench run`, `bench.run` and `perf sweep`.

`execute` is in the order of the work. Each step is a module of its own: `plan`, `grow`, `salt`, `preflight`,
`schedule`, `engines`, `gather`, `make_manifest`, `make_tables`, `exit_status`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.results.manifest import KNOWN_SALTS
from bench.results.store import RunStore
from bench.spec.request import Resolved, config_sha256
from bench.sweep.engines import Outcome, make_engine
from bench.sweep.engines.slurm import logged_failures
from bench.sweep.exit_status import Result
from bench.sweep.gather import Spent, add_spent, gather, pass_checks
from bench.sweep.grow import keep_plan, merged_config, with_earlier
from bench.sweep.make_manifest import inside, make_manifest, now
from bench.sweep.make_tables import LOST, write_tables
from bench.sweep.plan import Plan, WorkUnit, make_plan, missing, only, with_samples
from bench.sweep.preflight import preflight
from bench.sweep.salt import check_cells, keep_salt, origin, salt_of
from bench.sweep.schedule import schedule
from bench.util.devices import default_workers
from systems import stage_times

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
    """Compute the cells that are missing, then write the tables. Returns how the run ended.

    resolved: the request.
    out: the run's folder. If it holds a run that fits, this run grows. None: a folder under results/.
    engine: "serial", "process" or "slurm". workers: number of processes or jobs. device: of each.
    batch: pictures per batch; None: chosen by size.
    force: compute all cells again. retry_failed: compute only the cells that failed.
    collect: compute nothing, and write the tables of the cells that exist.
    slurm: parameters of jobs. argv: the command line, for the manifest.
    say: receives lines for the user.
    salt: of the noise, as a manifest holds it. None: the run's own, or a new one.
    cell_timeout: seconds that one cell may take.
    Raises UserError before anything is written, and StorageError if the disk is full.
    """
    # imported late, because it loads torch, which plans do not need
    from bench.sweep.worker import CELL_SECONDS, Worker

    out = out or resolved.default_folder
    cell_timeout = cell_timeout or CELL_SECONDS
    workers = 1 if engine == "serial" else workers or (SLURM_JOBS if engine == "slurm" else default_workers(device))
    spent: Spent = {}

    # Plan: the cells of the run, the cells that are left to compute, and their order.
    with stage_times.stage("plan"):
        run = _look(resolved, out, salt)
    for note in _notes(run.plan):
        say(note)
    wanted = list(run.plan.units) if force else run.left
    failed_before = {row["cell_id"]: row for row in run.store.failures()}
    todo = [] if collect else only(wanted, set(failed_before)) if retry_failed else wanted
    todo = with_samples(todo, run.plan)
    with stage_times.stage("plan"):
        checks, units = preflight(run.plan, todo), schedule(todo, run.plan, workers)
    total, cached = len(run.plan.cells), len(run.plan.cells) - _cells_of(wanted)

    # Workers: where the work units are done. Nothing runs until the stream is read.
    home = _home() if todo and engine != "slurm" else None
    work = Worker(out.resolve(), dict(run.plan.systems), dict(run.plan.datasets), seed=resolved.request.seed,
                  salt=run.salt, batch=batch, device=device, cell_timeout=cell_timeout)  # fmt: skip
    machine = make_engine(engine if todo else "serial", workers, out, slurm, home, cell_timeout)
    how = {
        "engine": engine,
        "workers": workers,
        "device": device,
        "batch": batch,
        "cell_timeout": cell_timeout,
        "confinement": home.measures(any(one.plugin for one in run.plan.systems.values())) if home else [],
    }

    with contextlib.closing(machine.run(units, work, checks)) as stream:
        # Checks: the user's errors come before anything is written.
        add_spent(spent, "")
        pass_checks(checks, stream, spent)
        run.store.open(
            run.hash_before or config_sha256(run.config), shared=engine == "slurm" or collect, beside=collect
        )
        try:
            keep_salt(out, run.salt)
            if force:  # if a cell fails now, its old rows must not be used
                run.store.drop_cells(cell.id for unit in todo for cell in unit.cells)
            say(f"run folder {out}: {total} cells, {cached} cached, {_cells_of(todo)} to compute")
            manifest = make_manifest(resolved, run.config, run.plan, run.store, argv, how, run.salt_is)
            keep_plan(run.store, run.plan)
            if run.store.holds_lock:  # else the manifest is that of the run that goes on there
                run.store.write_manifest(manifest)
            add_spent(spent, "")

            outcomes, interrupted = gather(stream, todo, cached, run.store, spent)
            if collect:
                outcomes |= logged_failures(out / "slurm")
            partial = interrupted or collect or retry_failed
            failures, absent, others = _write_tables(run, outcomes, failed_before, partial, manifest["limited"], say)
            add_spent(spent, "")
            planned = total + _cells_of(run.plan.earlier)
            manifest["cells"] = {
                "expected": planned, "done": planned - len(absent) - others, "failed": len(failures)
            }  # fmt: skip
            to_come = len(absent - failures.keys() - failed_before.keys()) + others
            # No cell that is to come must meet noise that became known.
            if not interrupted and (run.salt_is in KNOWN_SALTS or not to_come):
                manifest["end"], manifest["salt"] = now(), run.salt
            if run.store.holds_lock:
                run.store.write_manifest(manifest)
        finally:
            for line in run.store.refusals():
                say(line)
            run.store.close()
    done = sum(outcome.status == "done" for outcome in outcomes.values())
    waiting = len(absent - failures.keys()) if collect else 0
    return Result(out, total, cached, done, failures, run.system_of, spent, interrupted, run.salt, waiting)


def manifest_of(store: RunStore) -> dict[str, Any] | None:
    """The manifest of the run in a folder, or None. Raises UserError if the folder holds something else."""
    manifest = store.manifest() if store.root.is_dir() else None
    store.check("" if manifest is None else manifest.get("config_sha256"))
    return manifest


@dataclass(frozen=True)
class _Run:
    """A run as one command finds it: its folder, what earlier commands left there, and the plan."""

    store: RunStore
    hash_before: str | None  # hash of the configuration in the folder
    config: dict[str, Any]  # of the whole run, earlier commands included
    plan: Plan
    left: list[WorkUnit]  # the plan's work units, with only the cells that are not on disk
    salt: str
    salt_is: str  # where the salt comes from, for the manifest

    @cached_property
    def system_of(self) -> dict[str, str]:
        """The system of each cell in the plan, by the cell's id."""
        return {cell.id: unit.system for unit, cell in self.plan.cells}


def _look(resolved: Resolved, out: Path, given_salt: str | None) -> _Run:
    """Read the folder, and plan. Nothing is written. Raises UserError if the run in the folder and the request do not
    fit.
    """
    store = RunStore(out)
    before = manifest_of(store)
    config = merged_config(out, before, resolved)
    plan = make_plan(resolved)
    if before is not None:  # without a manifest, no earlier command reached its first cell
        plan = with_earlier(out, plan, before)
    salt = salt_of(out, before, given_salt)
    salt_is = origin(before, given_salt)
    left = missing(plan, store)
    check_cells(plan, store, {cell.id for unit in left for cell in unit.cells}, resolved.request.seed, salt)
    return _Run(store, before and before.get("config_sha256"), config, plan, left, salt, salt_is)


def _notes(plan: Plan) -> Iterator[str]:
    """Notes for the user before the run: code of others in the harness, systems whose processes are not sealed, and
    data sets that differ from the reference run's.
    """
    for one in inside():
        yield (
            f"{one} of an installed package runs inside the harness, where it can change any number: "
            "use it only if you trust its author"
        )
    for facts in plan.systems.values():
        if facts.plugin and facts.opens_files:
            yield (
                f"{facts.name} opens files while it encodes or decodes, so its processes are not sealed: "
                "bench/measure/README.md says which ways this leaves open"
            )
    for name in plan.changed:
        yield (
            f"{name} has changed since an earlier command of this run: its points that this command does not name have "
            "no mean until they are computed anew"
        )
    for dataset in plan.datasets.values():
        if note := dataset.reference_note():
            yield note


def _home():
    """The nursery from which the processes of systems are forked. None if the platform cannot fork."""
    from bench.measure.apart import Home  # imported late, because it loads torch

    return Home.shared() if hasattr(os, "fork") else None


def _cells_of(units: Sequence[WorkUnit]) -> int:
    return sum(len(unit.cells) for unit in units)


def _write_tables(
    run: _Run,
    outcomes: dict[str, Outcome],
    failed_before: dict[str, dict[str, str]],
    partial: bool,
    limited: bool,
    say: Callable[[str], None],
) -> tuple[dict[str, Outcome], set[str], int]:
    """Write the tables of the cells that exist. Returns the cells that failed, the ids of this plan's cells without
    rows and of cells whose rows were lost, and the number of cells of earlier commands that were never computed.
    """
    absent = {cell.id for unit in missing(run.plan, run.store) for cell in unit.cells}
    failures = _failures(outcomes, absent, partial)
    with stage_times.stage("tables"):
        unread = write_tables(run.plan, run.store, failures, failed_before, absent, run.config, limited)
    if note := unread.note():
        say(note)
    run.system_of.update(unread.lost)  # cells of earlier commands among them
    return failures | _lost(set(unread.lost)), absent | unread.lost.keys(), unread.waiting.total()


def _failures(outcomes: dict[str, Outcome], absent: set[str], partial: bool) -> dict[str, Outcome]:
    """The cells that failed and are absent, and the cells that are absent although nothing failed.

    partial: the command did not have to compute every cell.
    """
    failures = {i: outcome for i, outcome in outcomes.items() if outcome.status == "failed" and i in absent}
    gone = set() if partial else absent - failures.keys()
    gone |= {i for i, outcome in outcomes.items() if outcome.status == "done"} & absent
    return failures | _lost(gone)


def _lost(cell_ids: set[str]) -> dict[str, Outcome]:
    return {identifier: Outcome(identifier, "failed", LOST) for identifier in cell_ids}
