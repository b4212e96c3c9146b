"""A copy of a run that can grow, made from its tables alone.

`python -m bench runs RUN --restore FOLDER` calls it. A run is committed without its cells, which are many files and say
what its tables say. The copy has them again, so a command that adds a system to it computes this system alone:
`bench.sweep.grow` takes the cells of all others as those of earlier commands. The copy says no more than the run: where
a cell of the run is absent it is refused, because the copy would forget that the cell was ever asked for.

A system that was trained anew takes the place of its old weights in a copy that was made without it (`--without`).
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.measure.point import Conditions
from bench.results.csv_tables import find_table, read_rows
from bench.results.manifest import NAME
from bench.results.reader import Run
from bench.results.schema import (
    CONFUSION_COLUMNS,
    PICTURES,
    SAMPLE_COLUMNS,
    SAMPLES,
    TABLES,
    first_names,
    names,
    problem_of,
)
from bench.results.store import RunStore
from bench.spec.request import config_sha256
from bench.sweep.grow import check_unit, keep_plan
from bench.sweep.plan import Cell, Plan, WorkUnit
from bench.sweep.uses_ledger import RunLedger
from bench.util.files import several, shown
from systems.errors import UserError, did_you_mean

Row = dict[str, str]


def restore(source: Path, target: Path, without: tuple[str, ...] = ()) -> int:
    """Copy the run in the folder `source` to the new folder `target`, with its cells. Returns their number.

    without: names of systems that the copy lacks. Its figures still name them, at their place, so that a run of them
    puts them there again; until then the figures show the other systems.
    A cell has every digit that the tables have: nine, if they were compressed. Outputs that are kept as PNG are copied
    if they are there, and so are the runs in the folder `seeds`. Raises UserError if `target` exists, if no cell is
    left, if the run lacks cells or has not ended, if the tables do not fit the manifest, or if a file is none of the
    run's own.
    """
    if target.exists():
        raise UserError(f"--restore {shown(target)}: it exists; choose a new folder")
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--restore {shown(target)}: it lies in the run itself; choose a folder outside of it")
    tables = _tables(source, source)
    run = Run.open(source)
    for name in without:
        if name not in run.system_facts:
            raise UserError(f"--without {shown(name)}: {did_you_mean(name, run.system_facts, 'its systems')}")
    seeds = [file for seed in run.seeds for file in (seed.directory / NAME, *_tables(seed.directory, source))]
    cells = _cells(source)
    if not cells:
        raise UserError(f"{shown(source / 'samples.csv')}: it holds no rows, so there is nothing to restore")
    _check_whole(run, len(cells))
    for seed in run.seeds:
        _check_whole(seed)
    kept = _pictures(source)
    units = tuple(unit for unit in _units(run, cells, kept) if unit.system not in without)
    if not units:
        raise UserError(
            f"--without {shown(', '.join(without))}: the run has rows of no other system; leave one out of it"
        )
    cells = {cell.id: cells[cell.id] for unit in units for cell in unit.cells}
    manifest = _manifest(run, without, len(cells))
    shown_here = ["", *(cell[:8] for cell in cells)]
    pictures = [source / file for cell in shown_here for file in kept.get(cell, {}).values()]
    store = RunStore(target)
    store.open(str(manifest.get("config_sha256")))
    try:
        store.write_cells(cells)
        for file in (*pictures, *seeds):
            copied = target / file.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
        for table in tables:
            _write_table(store, table, without)
        _keep_uses(run, units, cells, target)
        keep_plan(store, Plan((), (), {}, {}, earlier=units))
        store.write_manifest(manifest)
    finally:
        store.close()
    return len(cells)


def _manifest(run: Run, without: tuple[str, ...], cells: int) -> dict[str, Any]:
    """The manifest of a copy that has `cells` cells."""
    if not without:
        return run.manifest
    config, facts = run.manifest["config"], run.manifest["systems"]
    config = {**config, "systems": {name: own for name, own in config["systems"].items() if name not in without}}
    return {
        **run.manifest,
        "config": config,
        "config_sha256": config_sha256(config),
        "systems": {name: own for name, own in facts.items() if name not in without},
        "cells": {**run.manifest.get("cells", {}), "expected": cells, "done": cells},
    }


def _write_table(store: RunStore, file: Path, without: tuple[str, ...]) -> None:
    """Write a table of the run, less the rows of some systems."""
    name = file.name.partition(".")[0]
    rows = read_rows(file, first_names(TABLES[name]))
    store.write_table(f"{name}.csv", names(TABLES[name]), (row for row in rows if row["system"] not in without))


def _keep_uses(run: Run, units: tuple[WorkUnit, ...], cells: dict[str, list[Row]], target: Path) -> None:
    """Hold third parties' systems to the numbers of uses of the run, as in the run itself: else the first picture of
    the copy could choose another number.
    """
    for unit in units:
        facts = run.manifest["systems"].get(unit.system, {})
        if not facts.get("plugin"):
            continue
        ledger = RunLedger(target, facts.get("identity", {}))
        conditions = Conditions(unit.task, unit.set_name, unit.channel, unit.cbr, unit.bits, unit.requirement,
                                uses=unit.uses)  # fmt: skip
        for cell in unit.cells:
            for row in cells[cell.id]:
                used, side_bits, side_uses = (int(float(row[name])) for name in ("n_uses", "side_bits", "side_uses"))
                link = conditions.link(int(float(row["height"])), int(float(row["width"])), cell.snr_db)
                ledger.keep(link, [used - side_uses, side_bits, side_uses], cell.snr_db)


def _tables(folder: Path, source: Path) -> list[Path]:
    """The tables in `folder` that are there. Raises UserError if one of them, or the manifest, is no plain file of the
    run in `source`.
    """
    found = [find_table(folder / f"{name}.csv") for name in TABLES]
    tables = [table for table in found if table is not None]
    for file in (folder / NAME, *tables):
        _check_own(file, source)
    return tables


def _check_own(file: Path, source: Path) -> None:
    """Raise UserError for a file that is there, but is no plain file of the run in `source`: the run may be somebody
    else's, and a link in it may lead to a file that the user would not pass on.
    """
    own = source.resolve() / file.relative_to(source)
    if os.path.lexists(file) and (file.resolve() != own or not own.is_file()):
        raise UserError(f"{shown(file)}: it is a link, or no plain file; put the file itself there")


def _check_whole(run: Run, cells: int | None = None) -> None:
    """Raise UserError if the run lacks cells, or has not ended. cells: those of its tables, if they were counted.

    The copy's plan lists the cells that have rows, and no others. So a point without a mean would come back with the
    mean of the pictures that are left, which may be those that its system chose by failing or hanging on the rest.
    """
    folder, manifest = shown(run.directory), run.manifest
    if not run.ended:
        raise UserError(f"{folder}: the run has not ended, and its salt is not published; repeat its command first")
    if len(run.failures):
        raise UserError(
            f"{folder}: {several(len(run.failures), 'cell')} failed; only a run without failures is restored"
        )
    if len(run.lacking):
        points, first = several(len(run.lacking), "point"), run.lacking.iloc[0]
        raise UserError(
            f"{folder}: {points} of summary.csv without a mean (such as {first['system']} at {first['snr_db']:g} dB); "
            "repeat the commands that lack cells first"
        )
    counts = manifest.get("cells", {})
    expected = counts.get("expected")
    done = counts.get("done")
    if expected is not None and (done != expected or cells not in (None, expected)):
        tables = "" if cells is None else f", and its tables have {cells}"
        asked = several(expected, "cell")
        raise UserError(f"{folder}: it was asked for {asked}, {done} are done{tables}; only a whole run is restored")


def _cells(source: Path) -> dict[str, list[Row]]:
    """The rows of each cell, by its id, with the counts of confusion.csv."""
    counts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in read_rows(source / "confusion.csv", CONFUSION_COLUMNS):
        of_class = ":".join(row[name] for name in ("class", "intersection", "predicted", "labelled"))
        counts[_picture_of(row)].append(of_class)
    cells: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(source / "samples.csv", first_names(SAMPLES)):
        row |= {name: "" for name in SAMPLE_COLUMNS if name not in row}
        row["confusion"] = ";".join(counts.get(_picture_of(row), ()))
        problem = problem_of(row)
        if problem:
            raise UserError(f"{shown(source)}: a row of its tables cannot be restored: {problem}")
        cells[row["cell_id"]].append(row)
    return dict(cells)


def _picture_of(row: Row) -> tuple[str, ...]:
    return row["cell_id"], row["image_id"]


def _pictures(source: Path) -> dict[str, dict[str, str]]:
    """The PNGs that are there: by the first eight digits of the cell's id ("" for originals and masks), the file of
    each picture.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in read_rows(source / "pictures.csv", first_names(PICTURES)):
        file = row["file"]
        if RunStore.picture_name(row["dataset"], row["image_id"], Path(file).stem) != file:
            raise UserError(f"{shown(source / 'pictures.csv')}: {shown(file)} is no picture of this run")
        _check_own(source / file, source)
        if (source / file).is_file():
            cell, key = (Path(file).stem[-8:], row["image_id"]) if row["kind"] == "output" else ("", file)
            found[cell][key] = file
    return found


def _units(run: Run, cells: dict[str, list[Row]], kept: dict[str, dict[str, str]]) -> tuple[WorkUnit, ...]:
    """The work units of the cells. Cells of one system, operating point and block of pictures form one."""
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    figures = _figures(run)
    for cell_id, rows in cells.items():
        first, figure = rows[0], _figure_of(run, cell_id, figures)
        if figure["uses"] is not None:  # tables of earlier versions do not say it
            for row in rows:
                row["uses_target"] = str(figure["uses"])
        key = (
            first["system"], first["variant"], first["task"], first["dataset"], first["channel"], figure["cbr"],
            figure["bits"], figure["uses"], figure["requirement"], tuple(row["image_id"] for row in rows),
        )  # fmt: skip
        shown_here = tuple(row["image_id"] for row in rows if row["image_id"] in kept.get(cell_id[:8], {}))
        groups[key].append(Cell(cell_id, float(first["snr_db"]), int(first["rep"]), shown_here))
    units = tuple(
        WorkUnit(system, task, set_name, images, channel, cbr, bits, requirement, tuple(own), tuple(own),
                 set_name=set_name, variant=variant, uses=uses)
        for (system, variant, task, set_name, channel, cbr, bits, uses, requirement, images), own in groups.items()
    )  # fmt: skip
    for unit in units:
        check_unit(unit, run.directory)
    return units


def _figures(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The figures that show each cell, by its id."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for figure in run.figures:
        for cell_id in run.samples_of(figure)["cell_id"].unique():
            found[cell_id].append(figure)
    return found


def _figure_of(run: Run, cell_id: str, figures: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The figure of the run for which a cell was computed: it has the budget in full precision, and the requirement,
    for which tables have no column.

    Several figures may show it, if all of these are the same in them. Raises UserError for none, or for different ones.
    """
    fitting, where = figures.get(cell_id, []), f"of cell {shown(cell_id)}"
    if not fitting:
        raise UserError(f"{shown(run.directory)}: no figure of its manifest has the rows {where}")
    if len({tuple(figure.get(name) for name in ("cbr", "bits", "uses", "requirement")) for figure in fitting}) > 1:
        names = ", ".join(shown(figure["id"]) for figure in fitting)
        raise UserError(f"{shown(run.directory)}: the rows {where} may be of several figures, which differ: {names}")
    return fitting[0]
