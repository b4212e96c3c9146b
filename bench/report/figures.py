"""From a run's tables to files: which figures the run has, their footnotes, and the files. Called by `plot`.

The files are written together, after the last of them was made: a command that fails changes none. Two drawings with
one file are such a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.analysis.quantity import has_labels
from bench.report import paper_sheet
from bench.report.drawing_job import Drawing, DrawingJob, same_pictures
from bench.report.figure_kinds import kind_named
from bench.report.options import Options
from bench.report.text import printable
from bench.results.find import check_once
from bench.results.reader import Run
from bench.spec.figure import gallery_id
from bench.util.files import clash, shown, write_all
from systems.errors import UserError, did_you_mean

Overlay = tuple[Run, tuple[str, ...] | None]


@dataclass
class Drawn:
    """The files that were written, and notes on what was left out, one line each."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draw_run(
    run_dir: Path, figures: Sequence[str] | None = None, options: Options | None = None,
    overlays: Sequence[tuple[Path, str]] = (),
) -> Drawn:  # fmt: skip
    """See `bench.report.draw_all`. overlays: (folder of another run, a system of it or "") to draw over the figures."""
    from bench.report.tables import tables_of

    options, run = options or Options(), Run.open(run_dir)
    jobs = jobs_of(run, options, _overlays(run, overlays))
    for name in figures or ():
        if name not in jobs:
            raise UserError(f"run {run.name} has no figure {name!r}; {did_you_mean(name, jobs, 'its figures')}")
    files: dict[Path, bytes] = {}
    figure_of: dict[str, str] = {}
    notes: list[str] = []
    with paper_sheet.drawing(options.style, options.resolution):
        for name, (job, kind) in jobs.items():
            if figures is not None and name not in figures:
                continue
            for drawing in kind(job):
                own = _files(job, drawing)
                _must_be_new(own, figure_of, name)
                files |= own
            notes += dict.fromkeys(job.notes)
    if figures is not None and not files:
        raise UserError("; ".join(notes) or f"run {run.name} has nothing to draw for {', '.join(figures)}")
    if figures is None and options.out is None:
        files |= tables_of(run)
    return Drawn(write_all(files), notes)


def jobs_of(
    run: Run, options: Options | None = None, overlays: dict[str, Overlay] | None = None
) -> dict[str, tuple[DrawingJob, Callable[[DrawingJob], list[Drawing]]]]:
    """Figure id -> the job and its kind, for figures with data. Raises UserError for names that the run lacks."""
    options, overlays = options or Options(), overlays or {}
    found: dict[str, tuple[DrawingJob, Callable]] = {}
    groups: dict[str, list[dict]] = {}
    known: dict[str, None] = {}
    for figure in run.figures:
        known |= dict.fromkeys(figure["systems"])
        groups.setdefault(figure["budgets_of"] or figure["id"], []).append(figure)
    for id_, group in groups.items():
        if len(group) > 1 and not all(figure["budgets_of"] for figure in group):
            raise _one_id(run, repr(id_))
    if double := clash(groups):
        raise _one_id(run, double)
    for name, (other, wanted) in overlays.items():
        known |= {f"{name}:{system}": None for system in wanted or sorted(set(other.summary["system"]))}
    options.check_names(list(known))
    for id_, group in groups.items():
        job, first = DrawingJob(id_, run, group, options, overlays), group[0]
        for name, (other, _) in overlays.items():
            if not len(other.summary_of({**first, "systems": sorted(set(other.summary["system"]))})):
                continue
            same = same_pictures(job, other, first["dataset"])
            if same is None:
                job.notes.append(
                    f"{id_}: whether {name} has the same pictures of {first['dataset']} is not known, because a "
                    "manifest holds no hashes"
                )
            if same is False:
                raise UserError(
                    f"data set {first['dataset']} holds other pictures in {run.name} than in {name}: their curves "
                    "cannot share axes"
                )
        kind = job.look.kind or (
            "budgets" if first["budgets_of"] else "segmentation" if has_labels(first["task"]) else "curves"
        )
        rows = pd.concat([job.rows(figure) for figure in group])
        if len(rows):
            found[id_] = job, kind_named(kind, f"figure {id_}")
            job.notes += [
                f"{id_}: nothing of {name} is drawn, because it has no rows of this data set, channel, budget, "
                "requirement and SNRs"
                for name in overlays
                if not rows["system"].str.startswith(f"{name}:").any()
            ]
        if kind != "segmentation" and len(run.pictures_of(first)):
            gallery = gallery_id(id_, first["pictures"]["id"])
            if double := clash([*(other for other in found if other not in groups), *groups, gallery]):
                raise _one_id(run, double)
            found[gallery] = DrawingJob(gallery, run, group, options), kind_named("pictures", f"figure {gallery}")
    return found


def _one_id(run: Run, double: str) -> UserError:
    return UserError(
        f"run {run.name} has two figures with the id {double}, and one would hide the other; give one another id in "
        "its file, and run it into a folder of its own"
    )


def _must_be_new(files: Iterable[Path], figure_of: dict[str, str], name: str) -> None:
    """Note in `figure_of` that these are files of the figure `name`. Raises UserError if one of them is a file of an
    earlier drawing, which it would hide. Names that differ in case alone are one file: some file systems ignore it.
    """
    for path in files:
        key = path.name.casefold()
        if key not in figure_of:
            figure_of[key] = name
            continue
        both, fix = f"two drawings of figure {name}", "its kind must give each a name of its own"
        if (other := figure_of[key]) != name:
            both = f"drawings of the figures {other} and {name}"
            fix = "draw each figure into a folder of its own (--figure ID --out FOLDER), or give one another id"
        raise UserError(f"{both} have one file, {shown(path.name)}, so one would hide the other; {fix}")


def _overlays(run: Run, named: Sequence[tuple[Path, str]]) -> dict[str, Overlay]:
    """(folder of a run, a system of it or "") -> the runs by name. Raises UserError for an unknown system, or
    a run that is named twice.
    """
    found: dict[str, Overlay] = {}
    check_once([run.directory, *(folder for folder, system in named if not system)])
    for folder, system in named:
        other = Run.open(folder)
        name = other.name
        check_once([run.directory, folder])
        if name == run.name or (name in found and found[name][0].directory.resolve() != other.directory.resolve()):
            name = str(folder)
        systems = sorted(set(other.summary["system"]))
        if system and system not in systems:
            raise UserError(f"run {other.name} has no system {system!r}; {did_you_mean(system, systems, 'systems')}")
        earlier = found.get(name, (other, ()))[1]
        found[name] = other, None if not system or earlier is None else (*earlier, system)
    return found


def _files(job: DrawingJob, drawing: Drawing) -> dict[Path, bytes]:
    """The files of a drawing, with its footnote, and its origin in their metadata."""
    options, run = job.options, job.run
    if options.caption:
        drawing.sheet.footnote(drawing.words)
    provenance = {
        "Title": f"{drawing.name}: {printable(job.figure.get('title', ''))}",
        "Description": " · ".join(drawing.words),
        "Keywords": ", ".join(
            f"{key} {value}"
            for key, value in (
                ("run", printable(run.name)),
                ("configuration", run.manifest.get("config_sha256")),
                ("commit", (run.manifest.get("git") or {}).get("commit")),
            )
            if value
        ),
    }
    folder = options.out or run.directory / "figures"
    return paper_sheet.rendered(
        drawing.sheet.finish(), folder, drawing.name, options.formats, options.resolution, provenance, options.small
    )
