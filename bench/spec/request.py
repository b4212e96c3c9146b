"""The request for a run, and the same request with every name looked up. `bench run`, `perf sweep` and `bench.run` call
it.

`Request` holds the options as the user gave them. `resolve` turns them into a `Resolved`: figures, data sets, and
systems with their options. Nothing is written, and all errors of the user are found here.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.data import Dataset, keep_apart, open_dataset
from bench.measure.channel import CHANNELS
from bench.measure.tasks import TASKS, other_request
from bench.results.schema import SCHEMA
from bench.spec.figure import (
    TEMPLATES,
    Figure,
    check_apart,
    check_channel,
    load_figure,
    load_figures,
    paper_figures,
    with_snr,
)
from bench.spec.grammar import MOST_REPS, parse_cbr, parse_count, parse_kbits, parse_snr
from bench.spec.identity import SystemFacts, facts_of, is_learned, option_names, tasks_of
from bench.util.files import clash, shown, user_path
from systems import registry
from systems.checkpoint_option import absolute, split
from systems.errors import UserError
from systems.interface import Budget
from systems.side_info import control_uses

BLOCK = 8  # pictures per cell; it never depends on the number of workers
MOST_CELLS = 2_000_000  # per run


@dataclass(frozen=True)
class Request:
    """The options of the user. None: the option was not given."""

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
        """The data set that `dataset` names. It is opened once, because listing a folder of many
        pictures takes time.
        """
        return open_dataset(_absolute(self.dataset or ""), self.data_root)


@dataclass(frozen=True)
class Resolved:
    """A request with every name looked up and every system described: what the run will do."""

    request: Request
    figures: tuple[Figure, ...]
    datasets: dict[str, Dataset]
    systems: dict[str, SystemFacts]
    notes: tuple[str, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, as the manifest holds it. Every picture's file is read once. Raises UserError for
        copies of one picture in a set.
        """
        for dataset in self.datasets.values():
            dataset.refuse_copies()
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
            "control_word_uses": {n: control_uses(8, CHANNELS[n].control_snr_db) for n in CHANNELS.own_names},
            "schema": SCHEMA,
        }

    @property
    def config_hash(self) -> str:
        """sha256 of the configuration."""
        return config_sha256(self.config)

    @property
    def default_folder(self) -> Path:
        """The folder of a run without --name and --out, named after what stays the same while the run grows: everything
        but systems, SNRs and repetitions. So the same command finds its own run.

        Of the pictures' files, only the names and sizes count, so no picture is read.
        """
        config = self._config({d.name: d.quick_fingerprint() for d in self.datasets.values()})
        grows = ("systems", "snr_db", "reps")
        figures = [{key: value for key, value in figure.items() if key not in grows} for figure in config["figures"]]
        asked = {key: str(value) for key, value in self.request.options.items() if value is not None}
        sha = config_sha256({**config, "figures": figures, "systems": asked})
        return Path("results") / f"run-{sha[:8]}"


def config_sha256(config: dict[str, Any]) -> str:
    """sha256 of everything in a configuration that decides a cell. How a figure is drawn does not."""
    config = {**config, "figures": [{k: v for k, v in f.items() if k != "look"} for f in config["figures"]]}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- resolve


def resolve(request: Request) -> Resolved:
    """Look up everything that a request names. Nothing is written. Raises UserError."""
    for name in request.systems or ():
        if name == "all" and request.systems != ("all",):
            raise UserError("--systems: 'all' cannot be combined with names; give names, or all")
        if name != "all":
            registry.find(name)
    figures, notes = _choose_figures(request)
    figures = [replace(f, dataset=_absolute(f.dataset)) for f in _apply_overrides(figures, request)]
    datasets = keep_apart({figure.dataset: _open(figure, request) for figure in figures})
    figures, datasets = _one_spec_each(figures, datasets)
    notes += dict.fromkeys(note for dataset in datasets.values() for note in dataset.notes)
    names = list(dict.fromkeys(name for figure in figures for name in figure.systems))
    for figure in figures:
        for name in figure.systems:
            if figure.task not in tasks_of(name):
                raise UserError(f"figure {figure.id}: system {name!r} does not do {figure.task}")
    check_rows_apart([figure.as_dict() for figure in figures])
    notes += dict.fromkeys(note for note in map(check_request, figures) if note)
    try:
        check_apart([figure.as_dict() for figure in figures])
    except UserError as error:
        raise UserError(f"--figure: {error}") from None
    _check_size(figures, datasets)
    if request.options.get("size") is not None and request.systems not in (None, ("all",)):
        without = [name for name in names if "size" not in option_names(name)]
        if without and len(without) < len(names):
            raise UserError(f"--size: {', '.join(without)} has no sizes; add it to the run without --size")
    options = options_of(names, request.options)
    systems = {name: facts_of(name, options[name]) for name in names}
    return Resolved(request, tuple(figures), datasets, systems, tuple(notes))


def _one_spec_each(figures: list[Figure], datasets: dict[str, Dataset]) -> tuple[list[Figure], dict[str, Dataset]]:
    """One spec for each data set. A set that two figures open in two ways (a link to a folder, `voc2012:val`) is one
    set: what the figures share is measured once, and has one row per picture in the tables."""
    spec_of = {dataset.name: spec for spec, dataset in reversed(datasets.items())}
    figures = [replace(figure, dataset=spec_of[datasets[figure.dataset].name]) for figure in figures]
    return figures, {figure.dataset: datasets[figure.dataset] for figure in figures}


def _check_size(figures: list[Figure], datasets: dict[str, Dataset]) -> None:
    """Refuse a run with more cells than any machine can compute."""
    cells = {f.id: len(f.snr_db) * f.reps * -(-len(datasets[f.dataset]) // BLOCK) * len(f.systems) for f in figures}
    largest, total = max(cells, key=lambda name: cells[name]), sum(cells.values())
    if total > MOST_CELLS:
        raise UserError(
            f"this run has {total} cells, {cells[largest]} of them in figure {largest}; at most {MOST_CELLS}: "
            "take fewer repetitions, SNRs or pictures (--reps, --snr, --limit)"
        )


def check_rows_apart(figures: Iterable[Mapping[str, Any]]) -> None:
    """Refuse figures (as `Figure.as_dict` gives them) that ask for the same with different requirements, or with CBRs
    that tables do not tell apart. Tables have no column for the requirement, so systems that were asked for different
    things would be compared.
    """
    for a, b in combinations(figures, 2):
        if any(a.get(key) != b.get(key) for key in ("task", "dataset", "channel", "bits", "uses")):
            continue
        one, other = a.get("cbr"), b.get("cbr")
        if one != other:
            if one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6, abs_tol=2e-9):
                raise UserError(
                    f"figures {a['id']} and {b['id']} have nearly one CBR, {one!r} and {other!r}, which tables do not "
                    "tell apart; give both the same"
                )
        elif a.get("requirement") != b.get("requirement"):
            raise UserError(f"figures {a['id']} and {b['id']} differ in their requirement; give each a run of its own")


def check_request(figure: Figure) -> str:
    """Refuse a figure whose requirement asks for another task than its own, as the system reads it that understands
    sentences. Returns a line for the user if the requirement is not the task's own, otherwise "". A package's task is
    not checked: none of our systems does it.
    """
    asked = other_request(figure.task, figure.requirement)
    if not asked or figure.task not in TASKS.own_names:
        return ""
    try:
        task = registry.task_asked(asked)
    except UserError as error:
        raise UserError(f"figure {figure.id}: {error}") from None
    if task != figure.task:
        raise UserError(f"figure {figure.id}: requirement {shown(asked)!r} asks for {task}, not for {figure.task}")
    return f"requirement {shown(asked)!r} asks for {task}"


def _choose_figures(request: Request) -> tuple[list[Figure], list[str]]:
    named = request.figures is not None and request.figures != ("all",)
    notes: list[str] = []
    if named:
        files = [_load(name) for name in dict.fromkeys(request.figures or ())]
    elif request.dataset is not None:
        files = [[_figure_for(request.dataset, request)]]
    else:
        files = [load_figures(name) for name in paper_figures()]
    figures = [figure for file in files for figure in file]
    if double := clash([file[0].budgets_of or file[0].id for file in files]):
        raise UserError(f"--figure: two figures have the id {double}")
    if request.dataset is not None:
        tasks = request.named_set.tasks
        for figure in figures:
            if figure.task not in tasks and named:
                raise UserError(
                    f"--dataset {request.dataset} does not serve figure {figure.id}: {figure.task} needs "
                    f"{TASKS[figure.task].target}s; it has {', '.join(tasks)}"
                )
        figures = [replace(figure, dataset=request.dataset) for figure in figures]
    if request.requirement is not None:
        task = registry.task_asked(request.requirement)
        kept = [replace(figure, requirement=request.requirement) for figure in figures if figure.task == task]
        if not kept:
            raise UserError(f"--requirement {request.requirement!r} asks for {task}; no figure of this run does that")
        figures = kept
    if request.systems is not None and request.systems != ("all",):
        figures, more = _choose_systems(figures, request.systems)
        notes += more
    return figures, notes


def _load(name: str) -> list[Figure]:
    figures = load_figures(name)
    for system in figures[0].systems:
        try:
            registry.find(system)
        except UserError as error:
            raise UserError(f"--figure {name}: {error}") from None
    return figures


def _choose_systems(figures: list[Figure], wanted: tuple[str, ...]) -> tuple[list[Figure], list[str]]:
    wanted = tuple(dict.fromkeys(wanted))
    tasks = {name: tasks_of(name) for name in wanted}
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


def _figure_for(dataset: str, request: Request) -> Figure:
    """The settings for a data set that is named without a figure: those of the paper's figure for its task."""
    tasks = request.named_set.tasks
    if request.systems is not None and request.systems != ("all",):
        able = {task for name in request.systems for task in tasks_of(name)}
        tasks = tuple(task for task in tasks if task in able) or tasks
    task = "segmentation" if "segmentation" in tasks else "reconstruction"
    figure = load_figure(TEMPLATES[task])
    return replace(figure, id=task, title=f"{task.capitalize()}, {request.named_set.name}", dataset=dataset)


def _open(figure: Figure, request: Request) -> Dataset:
    named = request.dataset is not None and figure.dataset == _absolute(request.dataset)
    dataset = request.named_set if named else open_dataset(figure.dataset, request.data_root)
    if figure.task not in dataset.tasks:
        raise UserError(
            f"figure {figure.id}: data set {dataset.name} serves {', '.join(dataset.tasks)}, not {figure.task}"
        )
    if not dataset.ids:
        raise UserError(f"data set {dataset.name} holds no pictures")
    return dataset.take(request.limit) if request.limit else dataset


def _apply_overrides(figures: list[Figure], request: Request) -> list[Figure]:
    if request.snr is not None:
        points = parse_snr(request.snr)
        figures = [with_snr(figure, points) for figure in figures]
    if request.channel is not None:
        check_channel(request.channel)
        figures = [replace(figure, channel=request.channel) for figure in figures]
    if request.reps is not None:
        reps = parse_count(request.reps, "--reps", MOST_REPS)
        figures = [replace(figure, reps=reps) for figure in figures]
    # An option that no figure takes is an error: a value that is recorded but has no effect makes a false table.
    if request.cbr is not None:
        figures = _with_budget(figures, "cbr", parse_cbr(request.cbr), "--cbr", "in bits (--kbits)")
    if request.kbits is not None:
        figures = _with_budget(figures, "bits", parse_kbits(request.kbits), "--kbits", "by CBR (--cbr)")
    return figures


def _with_budget(figures: list[Figure], rule: str, value: float, flag: str, others: str) -> list[Figure]:
    """Another budget for the figures that have one by this rule, and not a list of budgets of their own."""
    takes = [getattr(figure, rule) is not None and not figure.budgets_of for figure in figures]
    if not any(takes):
        raise UserError(f"{flag} has no effect: the figures of this run have budgets {others} or a list of their own")
    changed: dict[str, Any] = {rule: value}
    return [replace(figure, **changed) if own else figure for figure, own in zip(figures, takes, strict=True)]


def options_of(names: list[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each system: name -> {option: value}. Raises UserError for an option that no system takes."""
    given = {key: value for key, value in given.items() if value is not None}
    takes = {name: option_names(name) for name in names} if given else {}
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in given.items():
        takers = [name for name in names if key in takes[name]]
        flag = "--" + key.replace("_", "-")
        # these words are also allowed for systems without weights
        if key == "checkpoint" and value in ("shipped", "none"):
            options = {name: {**own, **({key: value} if is_learned(name) else {})} for name, own in options.items()}
            continue
        if key == "checkpoint":
            for name, path in _checkpoints(str(value), takers).items():
                options[name][key] = absolute(path)
        else:
            for name in takers:
                options[name][key] = value
        if not takers:
            raise UserError(f"{flag} has no effect: none of {', '.join(names)} takes it")
    return options


def _checkpoints(value: str, learned: list[str]) -> dict[str, str]:
    """Read --checkpoint: FILE (with one learned system), name=FILE,name=FILE, or name@SNR=FILE,name@SNR=FILE."""
    if "=" not in value:
        if len(learned) != 1:
            raise UserError(f"--checkpoint {value}: there are {len(learned)} learned systems ({', '.join(learned)}); "
                            "write name=FILE,name=FILE")  # fmt: skip
        return {learned[0]: value}
    chosen: dict[str, str] = {}
    for part in value.split(","):
        left, _, path = part.partition("=")
        name, at, snr = left.partition("@")
        if name not in learned or not path:
            raise UserError(
                f"--checkpoint {part!r}: write name=FILE, or name@SNR=FILE with one file per SNR, with a learned "
                f"system of this run ({', '.join(learned)})"
            )
        if at and not re.fullmatch(r"-?\d+(\.\d+)?", snr):
            raise UserError(f"--checkpoint {part!r}: the SNR behind @ is a number in dB, as in {name}@7=FILE")
        if name in chosen and not (at and split(chosen[name])):
            raise UserError(f"--checkpoint names {name} twice; give one file, or name@SNR=FILE for each SNR")
        chosen[name] = f"{chosen[name]},{snr}={path}" if name in chosen else f"{snr}={path}" if at else path
    return chosen


def _absolute(spec: str) -> str:
    """A `folder:PATH` with an absolute path, which is right in every working directory (a cluster's job)."""
    if spec.startswith("folder:") and spec != "folder:":
        return "folder:" + str(user_path(spec.removeprefix("folder:"), "folder").absolute())
    return spec
