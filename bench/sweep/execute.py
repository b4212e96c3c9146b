"""`python -m bench run` without its command line: from options to figures, to cells, to tables."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from bench.data import Dataset, default_data_root, open_dataset
from bench.results.archive import PACK_CELLS
from bench.results.store import (
    CONFUSION_COLUMNS,
    FAILURE_COLUMNS,
    PICTURE_COLUMNS,
    SAMPLE_COLUMNS,
    SCHEMA,
    SUMMARY_COLUMNS,
    RunStore,
)
from bench.spec.figure import (
    TEMPLATES,
    Experiment,
    budget_text,
    check_channel,
    figure_names,
    load_figure,
    load_figures,
    parse_cbr,
    parse_kbits,
    parse_snr,
    snr_text,
    with_snr,
)
from bench.spec.identity import SystemFacts, facts_of, option_names
from bench.sweep.engines import Outcome, make_engine
from bench.sweep.plan import BLOCK, Cell, Plan, Reading, Task, Trial, make_plan, missing, only, preflight, schedule
from bench.util.environment import cores, git_state, host_facts, versions, without_paths
from systems import registry
from systems import timing as stopwatch
from systems.errors import UserError
from systems.interface import Budget
from systems.timing import Seconds

SIZES_LOOKED_AT = 250  # pictures whose headers a dry run reads, spread over the set
SLURM_JOBS = 16  # unless --workers says otherwise


@dataclass(frozen=True)
class Request:
    """What the user asked for; None: not said."""

    figures: tuple[str, ...] | None = None
    systems: tuple[str, ...] | None = None
    snr: Any = None
    dataset: str | None = None
    data_root: str | None = None
    cbr: Any = None
    kbits: Any = None
    channel: str | None = None
    requirement: str | None = None
    limit: int | None = None
    reps: int | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)  # size, checkpoint, code_rate, link

    @cached_property
    def named_set(self) -> Dataset:
        """The data set of `dataset`: a folder of many pictures is listed once."""
        return open_dataset(_absolute(self.dataset), self.data_root)


@dataclass(frozen=True)
class Resolved:
    """A request with every name looked up and every system built once: what will be done, and its fingerprint."""

    request: Request
    figures: tuple[Experiment, ...]
    datasets: dict[str, Dataset]
    systems: dict[str, SystemFacts]
    notes: tuple[str, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as the manifest holds it. Reads every picture's file once."""
        return self._config({d.name: d.fingerprint() for d in self.datasets.values()})

    def _config(self, fingerprints: dict[str, str]) -> dict[str, Any]:
        figures = [{**figure.as_dict(), "dataset": self.datasets[figure.dataset].name} for figure in self.figures]
        rules = Budget(uses=1)
        return {
            "figures": figures,
            "systems": {n: {**f.for_manifest()["options"], "variant": f.variant} for n, f in self.systems.items()},
            "datasets": fingerprints,
            "seed": self.request.seed,
            "limit": self.request.limit,
            "block": BLOCK,
            "analog_bits_per_use": rules.analog_bits_per_use,
            "side_info_bits_per_use": rules.side_info_bits_per_use,
            "schema": SCHEMA,
        }

    @property
    def config_hash(self) -> str:
        """sha256 of the configuration."""
        return _sha256(self.config)

    @property
    def quick_hash(self) -> str:
        """The same, with names and byte sizes of pictures in the place of their content: enough to name a folder."""
        return _sha256(self._config({d.name: d.quick_fingerprint() for d in self.datasets.values()}))

    def plan(self) -> Plan:
        """Its cells."""
        return make_plan(self.figures, self.datasets, self.systems, self.request.seed)


def _sha256(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- resolve


def resolve(request: Request) -> Resolved:
    """Look everything up, touching nothing. Raises UserError."""
    for name in request.systems or ():
        if name == "all" and len(request.systems) > 1:
            raise UserError("--systems: 'all' stands alone; name systems, or say all")
        if name != "all":
            registry.find(name)
    figures, notes = _choose_figures(request)
    figures = [replace(f, dataset=_absolute(f.dataset)) for f in _apply_overrides(figures, request)]
    datasets = {figure.dataset: _open(figure, request) for figure in figures}
    names = list(dict.fromkeys(name for figure in figures for name in figure.systems))
    for figure in figures:
        for name in figure.systems:
            if figure.task not in registry.tasks_of(name):
                raise UserError(f"figure {figure.id}: system {name!r} does not do {figure.task}")
    _check_requirements(figures)
    options = options_of(names, request.options)
    systems = {name: facts_of(name, options[name]) for name in names}
    return Resolved(request, tuple(figures), datasets, systems, tuple(notes))


def _check_requirements(figures: list[Experiment]) -> None:
    """Tables have no column for the sentence that a receiver was asked with: in one run a point has one."""
    for a, b in combinations(figures, 2):
        same = (a.task, a.dataset, a.channel, a.cbr, a.bits) == (b.task, b.dataset, b.channel, b.cbr, b.bits)
        if (
            same
            and a.requirement != b.requirement
            and set(a.systems) & set(b.systems)
            and set(a.snr_db) & set(b.snr_db)
        ):
            raise UserError(
                f"figures {a.id} and {b.id} differ in nothing but the requirement; give each a run of its own"
            )


def _choose_figures(request: Request) -> tuple[list[Experiment], list[str]]:
    named = request.figures is not None and request.figures != ("all",)
    notes: list[str] = []
    if named:
        figures = [figure for name in dict.fromkeys(request.figures) for figure in _load(name)]
    elif request.dataset is not None:
        figures = [_figure_for(request.dataset, request)]
    else:
        figures = [figure for name in figure_names() for figure in load_figures(name)]
    ids = [figure.id for figure in figures]
    if len(set(ids)) < len(ids):
        raise UserError(f"--figure: two figures have the id {next(i for i in ids if ids.count(i) > 1)!r}")
    shown = [figure.pictures.id for figure in figures if figure.pictures.id not in ("", figure.id)]
    for id_ in shown:
        if id_ in ids or shown.count(id_) > 1:
            raise UserError(f"--figure: [pictures] id {id_!r} is also the id of another figure; give it one of its own")
    if request.dataset is not None:
        tasks = request.named_set.tasks
        for figure in figures:
            if figure.task not in tasks and named:
                raise UserError(
                    f"--dataset {request.dataset} does not serve figure {figure.id}: {figure.task} needs "
                    f"{'masks' if figure.task == 'segmentation' else 'pictures'}; it has {', '.join(tasks)}"
                )
        figures = [replace(figure, dataset=request.dataset) for figure in figures]
    if request.requirement is not None:
        from systems.gensc.task_kb import TaskKB

        task = TaskKB().match(request.requirement)
        kept = [replace(figure, requirement=request.requirement) for figure in figures if figure.task == task]
        if not kept:
            raise UserError(f"--requirement {request.requirement!r} asks for {task}; no figure of this run does that")
        notes.append(f"requirement {request.requirement!r} asks for {task}")
        figures = kept
    if request.systems is not None and request.systems != ("all",):
        figures, more = _choose_systems(figures, request.systems)
        notes += more
    return figures, notes


def _load(name: str) -> list[Experiment]:
    figures = load_figures(name)
    for system in figures[0].systems:
        try:
            registry.find(system)
        except UserError as error:
            raise UserError(f"--figure {name}: {error}") from None
    return figures


def _choose_systems(figures: list[Experiment], wanted: tuple[str, ...]) -> tuple[list[Experiment], list[str]]:
    wanted = tuple(dict.fromkeys(wanted))
    tasks = {name: registry.tasks_of(name) for name in wanted}
    able = {figure.task for figure in figures}
    for name in wanted:
        if not able & set(tasks[name]):
            hint = f"; did you mean {name}-fcn?" if "ldpc" in name and able == {"segmentation"} else ""
            raise UserError(
                f"system {name!r} does {', '.join(tasks[name])}, but the figures of this run are "
                f"{', '.join(sorted(able))}{hint}"
            )
    kept, notes = [], []
    for figure in figures:
        own = tuple(name for name in wanted if figure.task in tasks[name])
        if own:
            kept.append(replace(figure, systems=own))
        else:
            notes.append(f"{figure.id} is left out: none of the named systems does {figure.task}")
    return kept, notes


def _figure_for(dataset: str, request: Request) -> Experiment:
    """The settings for a data set that is named without a figure: those of the paper's figure of its task."""
    tasks = request.named_set.tasks
    if request.systems is not None and request.systems != ("all",):
        able = {task for name in request.systems for task in registry.tasks_of(name)}
        tasks = [task for task in tasks if task in able] or tasks
    task = "segmentation" if "segmentation" in tasks else "reconstruction"
    figure = load_figure(TEMPLATES[task])
    return replace(figure, id=task, title=f"{task.capitalize()}, {request.named_set.name}", dataset=dataset)


def _open(figure: Experiment, request: Request) -> Dataset:
    named = request.dataset is not None and figure.dataset == _absolute(request.dataset)
    dataset = request.named_set if named else open_dataset(figure.dataset, request.data_root)
    if figure.task not in dataset.tasks:
        raise UserError(
            f"figure {figure.id}: data set {dataset.name} serves {', '.join(dataset.tasks)}, not {figure.task}"
        )
    if not dataset.ids:
        raise UserError(f"data set {dataset.name} holds no pictures")
    return dataset.take(request.limit) if request.limit else dataset


def _apply_overrides(figures: list[Experiment], request: Request) -> list[Experiment]:
    if request.snr is not None:
        points = parse_snr(request.snr)
        figures = [with_snr(figure, points) for figure in figures]
    if request.channel is not None:
        check_channel(request.channel)
        figures = [replace(figure, channel=request.channel) for figure in figures]
    if request.reps is not None:
        figures = [replace(figure, reps=request.reps) for figure in figures]
    # An option that no figure takes is an error: a value that is recorded but has no effect makes a false table.
    if request.cbr is not None:
        figures = _with_budget(figures, "cbr", parse_cbr(request.cbr), "--cbr", "in bits (--kbits)")
    if request.kbits is not None:
        figures = _with_budget(figures, "bits", parse_kbits(request.kbits), "--kbits", "by CBR (--cbr)")
    return figures


def _with_budget(figures: list[Experiment], rule: str, value: float, flag: str, others: str) -> list[Experiment]:
    """Another budget for the figures that have one by this rule, and not a list of budgets of their own."""
    takes = [getattr(figure, rule) is not None and not figure.budgets_of for figure in figures]
    if not any(takes):
        raise UserError(f"{flag} has no effect: the figures of this run have budgets {others} or a list of their own")
    return [replace(figure, **{rule: value}) if own else figure for figure, own in zip(figures, takes, strict=True)]


def options_of(names: list[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Which option goes to which system; one that goes to none is an error."""
    given = {key: value for key, value in given.items() if value is not None}
    takes = {name: option_names(name) for name in names} if given else {}
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in given.items():
        takers = [name for name in names if key in takes[name]]
        flag = "--" + key.replace("_", "-")
        if key == "checkpoint":
            for name, path in _checkpoints(str(value), takers).items():
                options[name][key] = path
        else:
            for name in takers:
                options[name][key] = value
        if not takers:
            raise UserError(f"{flag} has no effect: none of {', '.join(names)} takes it")
    return options


def _checkpoints(value: str, learned: list[str]) -> dict[str, str]:
    """--checkpoint shipped | none | FILE (one learned system) | name=FILE,name=FILE."""
    if value in ("shipped", "none"):
        return dict.fromkeys(learned, value)
    if "=" not in value:
        if len(learned) != 1:
            raise UserError(f"--checkpoint {value}: there are {len(learned)} learned systems ({', '.join(learned)}); "
                            "write name=FILE,name=FILE")  # fmt: skip
        return {learned[0]: value}
    chosen = {}
    for part in value.split(","):
        name, _, path = part.partition("=")
        if name not in learned or not path:
            raise UserError(
                f"--checkpoint {part!r}: write name=FILE with a learned system of this run ({', '.join(learned)})"
            )
        chosen[name] = path
    return chosen


def pick_device(name: str) -> str:
    """auto | cpu | cuda | cuda:N -> a device that is there. Raises UserError."""
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: devices are auto, cpu, cuda and cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UserError(
                f"--device {name}: this machine has {count or 'no'} CUDA device{'s' if count > 1 else ''}; "
                "use --device cpu"
            )
    return name


def default_workers(device: str) -> int:
    """One a core, or one a GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.device_count() if device == "cuda" else 1
    return cores()


# ---------------------------------------------------------------- run


@dataclass
class Progress:
    """Done of total on stderr, with the time left: in place on a terminal, else a line now and then."""

    total: int
    cached: int
    done: int = 0
    failed: int = 0
    start: float = field(default_factory=time.monotonic)
    last: float = float("-inf")

    def show(self, final: bool = False) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if not final and now - self.last < (0.2 if terminal else 10.0):
            return
        self.last = now
        ended = self.done + self.failed
        left = (now - self.start) / ended * (self.total - ended) if ended else None
        eta = "" if left is None or final else f", ETA {int(left) // 60}:{int(left) % 60:02d}"
        text = f"{ended}/{self.total} cells, {self.cached} cached, {self.failed} failed{eta}"
        sys.stderr.write(("\r\x1b[K" if terminal else "") + text + ("\n" if final or not terminal else ""))
        sys.stderr.flush()


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
        plan, store = resolved.plan(), RunStore(out)
        store.check(resolved.config_hash)
        left = missing(plan, store)
    todo = list(plan.tasks) if force else left
    failed_before = {row["cell_id"]: row for row in store.failures()}
    if retry_failed:
        todo = only(todo, set(failed_before))
    if collect:
        todo = []
    workers = 1 if engine == "serial" else workers or (SLURM_JOBS if engine == "slurm" else default_workers(device))
    machine = make_engine(engine if todo else "serial", workers, out, slurm)
    root = str(Path(resolved.request.data_root or default_data_root()).expanduser().resolve())
    work = Worker(
        out.resolve(),
        {name: facts.options for name, facts in plan.systems.items()},
        {spec: (root, resolved.request.limit) for spec in plan.datasets},
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
            manifest = _manifest(resolved, plan, store, argv, how)
            store.write_manifest(manifest)
            progress = Progress(count, cached)
            _add(spent, "", stopwatch.take())
            try:
                for outcome in stream:
                    if outcome.status == "fatal":
                        raise UserError(outcome.error)
                    outcomes[outcome.cell_id] = outcome
                    _add(spent, system_of[outcome.cell_id], outcome.spent)
                    progress.done += outcome.status == "done"
                    progress.failed += outcome.status == "failed"
                    progress.show()
                    if outcome.status == "done" and progress.done % PACK_CELLS == 0:
                        store.pack()
            except KeyboardInterrupt:
                interrupted = True
                stream.close()
            if count:
                progress.show(final=True)
            store.pack()
            still_missing = {cell.id for task in missing(plan, store) for cell in task.cells}
            failures = {i: o for i, o in outcomes.items() if o.status == "failed" and i in still_missing}
            with stopwatch.stage("tables"):
                _write_tables(plan, store, failures, failed_before, still_missing, resolved)
            _add(spent, "", stopwatch.take())
            manifest["cells"] = {"expected": total, "done": total - len(still_missing), "failed": len(failures)}
            manifest["end"] = None if interrupted else _now()
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


def _absolute(spec: str) -> str:
    """A folder's spec that also holds in another working directory (a cluster's job)."""
    if spec.startswith("folder:"):
        return "folder:" + str(Path(spec.removeprefix("folder:")).expanduser().resolve())
    return spec


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _manifest(
    resolved: Resolved, plan: Plan, store: RunStore, argv: Sequence[str], engine: dict[str, Any]
) -> dict[str, Any]:
    before = store.manifest() or {}
    return {
        "schema": SCHEMA,
        "run": store.root.resolve().name,
        "argv": without_paths(argv),
        "config": resolved.config,
        "config_sha256": resolved.config_hash,
        "base_seed": resolved.request.seed,
        "limited": resolved.request.limit is not None,
        "definitions": {
            "snr_def": "esn0: E|x|^2 / N0 in dB per complex use",
            "csi": "the receiver knows h and the SNR",
            "n_uses": "complex channel uses, those charged for side information included",
            "bits": "n_uses x bits_per_use; an analog use counts as 4 bits; coded_bits where a system varies its modulation",
            "outage": "scored as mid-grey, flagged and counted",
        },
        "versions": versions(),
        "git": git_state(),
        "systems": {name: facts.for_manifest() for name, facts in plan.systems.items()},
        "datasets": {
            dataset.name: {
                "fingerprint": dataset.fingerprint(),
                "pictures": len(dataset.ids),
                "tasks": list(dataset.tasks),
                "demonstration": dataset.demonstration,
                "licence": dataset.licence,
                "description": ""
                if dataset.name.startswith("folder:")
                else dataset.description,  # a folder's holds its path
                "files": dataset.hashes(),
            }
            for dataset in plan.datasets.values()
        },
        "host": host_facts(),
        "engine": engine,
        "cells": {"expected": len(plan.cells), "done": None, "failed": None},
        # Cells of another session than the last were made by what is said here of it.
        "sessions": [
            *before.get("sessions", []),
            {
                "start": _now(),
                "argv": without_paths(argv),
                "versions": versions(),
                "git": git_state(),
                "engine": engine,
            },
        ],
        "start": before.get("start") or _now(),
        "end": None,
    }


# ---------------------------------------------------------------- tables


def _write_tables(
    plan: Plan,
    store: RunStore,
    failures: dict[str, Outcome],
    failed_before: dict[str, dict[str, str]],
    still_missing: set[str],
    resolved: Resolved,
) -> None:
    """samples, confusion, pictures, summary, failures: all from the cell files, one operating point in memory at a
    time."""
    from bench.analysis.summary import summarise

    shown: list[tuple[int, Any, Any, dict[str, str]]] = []  # place in the plan, task, cell, row
    failed: list[dict[str, Any]] = []
    points: dict[tuple, tuple[dict[str, Any], list]] = {}
    for place, (task, cell) in enumerate(plan.cells):
        dataset = plan.datasets[task.dataset].name
        point = {
            "system": task.system, "variant": plan.systems[task.system].variant, "task": task.task, "dataset": dataset,
            "channel": task.channel, "snr_db": cell.snr_db, "cbr_target": task.cbr, "bits_target": task.bits,
        }  # fmt: skip
        cells_of_point = points.setdefault((*point.values(), task.requirement), (point, []))[1]
        if cell.id in failures:
            failed.append(_failure(task, cell, dataset, failures[cell.id].error))
        elif cell.id in failed_before and cell.id in still_missing:
            failed.append(failed_before[cell.id])
        if cell.id not in still_missing:
            cells_of_point.append((place, task, cell))
    order = {name: index for index, name in enumerate(plan.systems)}
    ranked = sorted(points.values(), key=lambda entry: _point_order(entry[0], order))
    with (
        store.table("samples.csv", SAMPLE_COLUMNS) as sample,
        store.table("confusion.csv", CONFUSION_COLUMNS) as confusion,
    ):

        def rows_of_points():
            for point, cells in ranked:
                rows = []
                for place, task, cell in sorted(cells, key=lambda entry: entry[2].rep):
                    own = store.read_cell(cell.id, task.image_ids) or ()
                    rows += own
                    shown.extend((place, task, cell, row) for row in own if row["image_id"] in cell.pictures)
                for row in rows:
                    sample({column: row[column] for column in SAMPLE_COLUMNS})
                    for entry in _confusion_rows(row):
                        confusion(entry)
                yield point, rows

        summary = summarise(rows_of_points(), store.root.resolve().name, resolved.request.limit is not None)
    pictures: dict[str, dict[str, Any]] = {}
    figures = {figure.pictures.id: figure for figure in plan.figures if figure.pictures.snr_db}
    for _, task, cell, row in sorted(shown, key=lambda entry: entry[0]):
        _list_picture(pictures, figures, store, task, cell, row)
    store.write_table("pictures.csv", PICTURE_COLUMNS, pictures.values())
    store.write_table("summary.csv", SUMMARY_COLUMNS, summary)
    store.write_table("failures.csv", FAILURE_COLUMNS, failed)


def _confusion_rows(row: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The counts of each class in a row's `confusion`."""
    from bench.analysis.summary import parse_confusion

    key = {column: row[column] for column in CONFUSION_COLUMNS if column in row}
    for label, both, predicted, labelled in parse_confusion(row["confusion"]):
        yield {**key, "class": label, "intersection": both, "predicted": predicted, "labelled": labelled,
               "union": predicted + labelled - both}  # fmt: skip


def _failure(task, cell, dataset: str, error: str) -> dict[str, Any]:
    return {
        "cell_id": cell.id, "system": task.system, "dataset": dataset, "images": " ".join(task.image_ids),
        "channel": task.channel, "snr_db": cell.snr_db, "cbr_target": task.cbr, "bits_target": task.bits,
        "rep": cell.rep, "error": error,
    }  # fmt: skip


def _list_picture(pictures: dict, figures: dict, store: RunStore, task, cell, row: dict[str, str]) -> None:
    """Rows of pictures.csv for one stored output, and once for its original and truth."""
    dataset, image_id = row["dataset"], row["image_id"]
    for kind in ("original", "truth"):
        file = store.picture_name(dataset, image_id, kind)
        if (store.root / file).is_file():
            pictures.setdefault(file, {"kind": kind, "dataset": dataset, "image_id": image_id, "file": file})
    file = task.picture_file(dataset, image_id, cell)
    figure = next((id_ for id_, f in figures.items() if f.task == task.task and f.dataset == task.dataset), "")
    own = {key: row[key] for key in PICTURE_COLUMNS if key in row}
    pictures[file] = {**own, "figure": figure, "kind": "output", "file": file}


def result_tables(resolved: Resolved, out: Path) -> str:
    """The mean of each figure's metric, systems by SNR, for the terminal."""
    from bench.results.store import read_table

    summary = read_table(out / "summary.csv")
    blocks = []
    for figure in resolved.figures:
        dataset = resolved.datasets[figure.dataset]
        means = {
            (row["system"], float(row["snr_db"])): row
            for row in summary
            if row["metric"] == figure.metric and row["dataset"] == dataset.name and row["channel"] == figure.channel
            and row["task"] == figure.task and row["cbr_target"] == ("" if figure.cbr is None else repr(figure.cbr))
            and row["bits_target"] == ("" if figure.bits is None else str(figure.bits))
        }  # fmt: skip
        marks = " (LIMITED)" if resolved.request.limit else ""
        marks += " (demonstration)" if dataset.demonstration and figure.task == "segmentation" else ""
        head = (
            f"{figure.id}: {figure.metric}, {dataset.name}, {len(dataset.ids)} pictures, {figure.channel}, "
            f"{budget_text(figure.cbr, figure.bits)}{marks}"
        )
        width = max(len(name) for name in (*figure.systems, "SNR (dB)"))
        digits = 2 if figure.metric.startswith("psnr") else 3
        lines = [head, "  ".join([f"{'SNR (dB)':{width}}", *(f"{point:6g}" for point in figure.snr_db)])]
        for name in figure.systems:
            fields = [_mean_text(means.get((name, point)), digits) for point in figure.snr_db]
            lines.append("  ".join([f"{name:{width}}", *fields]))
        blocks.append("\n".join(lines))
    text = "\n\n".join(blocks)
    return text + ("\n\n* some of the pictures were outages, scored as mid-grey" if "*" in text else "")


def _mean_text(row: dict[str, str] | None, digits: int) -> str:
    if row is None or row["mean"] == "":
        return f"{'-':>6}"
    mark = "*" if row["n_outage"] not in ("", "0") else ""
    return f"{float(row['mean']):.{digits}f}{mark}".rjust(6)


def dry_run_text(resolved: Resolved, out: Path | None) -> str:
    """Cells, what is cached, and what each system may spend. Touches nothing."""
    out = out or default_out(resolved)
    cached: list[tuple[Task, Cell]] = []
    if out.exists():
        plan, store = resolved.plan(), RunStore(out)
        store.check(resolved.config_hash)
        gone = {cell.id for task in missing(plan, store) for cell in task.cells}
        cached = [(task, cell) for task, cell in plan.cells if cell.id not in gone]
    # In a new folder nothing is cached, and no picture need be read to count its cells.
    points = {point for figure in resolved.figures for name in figure.systems for point in _points_of(figure, name)}
    total = sum(-(-len(resolved.datasets[point[2]]) // BLOCK) for point in points)
    lines = [f"run folder {out}", f"{total} cells, {len(cached)} cached, {total - len(cached)} to compute"]
    for figure in resolved.figures:
        dataset = resolved.datasets[figure.dataset]
        looked_at = dataset.ids[:: -(-len(dataset.ids) // SIZES_LOOKED_AT)]
        sizes = sorted({dataset.size(image_id) for image_id in looked_at}, key=lambda size: size[0] * size[1])
        lines.append(f"\n{figure.id}: {figure.task}, {dataset.name}, {len(dataset.ids)} pictures, {figure.channel}, "
                     f"{budget_text(figure.cbr, figure.bits)}, SNR {snr_text(figure.snr_db)} dB, "
                     f"{figure.reps} repetition(s)")  # fmt: skip
        for name in figure.systems:
            facts = resolved.systems[name]
            count = -(-len(dataset) // BLOCK) * len(list(_points_of(figure, name)))
            own = (name, figure.task, figure.dataset, figure.channel, figure.cbr, figure.bits)
            done = sum((t.system, t.task, t.dataset, t.channel, t.cbr, t.bits) == own for t, _ in cached)
            spends = [_spend(figure, facts, *size) for size in dict.fromkeys((sizes[0], sizes[-1]))]
            lines.append(f"  {name}: {count} cells, {done} cached; at most {' to '.join(spends)} a picture")
    return "\n".join(lines)


def _points_of(figure: Experiment, system: str) -> Iterator[tuple]:
    """What tells the cells of one block of pictures apart."""
    of = (system, figure.task, figure.dataset, figure.channel, figure.cbr, figure.bits, figure.requirement)
    return ((*of, snr_db, rep) for snr_db in figure.snr_db for rep in range(figure.reps))


def _spend(figure: Experiment, facts: SystemFacts, height: int, width: int) -> str:
    budget = figure.budget(height, width)
    uses = budget.allowed_uses(facts.bits_per_use)
    bits = uses * (facts.bits_per_use or budget.analog_bits_per_use)
    return f"{uses} uses = {bits:g} bits ({height}x{width})"


def _point_order(point: dict[str, Any], systems: dict[str, int]) -> tuple:
    return (
        point["task"], point["dataset"], point["channel"], point["cbr_target"] or 0.0, point["bits_target"] or 0,
        systems[point["system"]], point["snr_db"],
    )  # fmt: skip
