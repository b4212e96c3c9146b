"""A copy of a run that can grow, made from its tables alone.

`python -m bench runs RUN --restore FOLDER` calls it. A run is committed without its cells, which are many files and say
what its tables say. The copy has them again, so a command that adds a system to it computes this system alone:
`bench.sweep.grow` takes the cells of all others as those of earlier commands.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.results.csv_tables import read_rows
from bench.results.reader import Run
from bench.results.schema import CONFUSION_COLUMNS, FAILURE_COLUMNS, PICTURE_COLUMNS, SAMPLE_COLUMNS, problem_of
from bench.results.store import RunStore
from bench.sweep.grow import keep_plan
from bench.sweep.plan import Cell, Plan, WorkUnit
from bench.util.files import shown
from systems.errors import UserError

Row = dict[str, str]


def restore(source: Path, target: Path) -> int:
    """Copy the run in the folder `source` to the new folder `target`, with its cells. Returns their number.

    A cell has every digit that the tables have: nine, if they were compressed. Outputs that are kept as PNG are copied
    if they are there. Raises UserError if `target` exists, or if the tables do not fit the manifest.
    """
    run = Run.open(source)
    if target.exists():
        raise UserError(f"--restore {shown(target)}: it exists; choose a new folder")
    failed = read_rows(source / "failures.csv", FAILURE_COLUMNS)
    if failed:
        raise UserError(f"{shown(source)}: {len(failed)} of its cells failed; only a run without failures is restored")
    cells = _cells(source)
    if not cells:
        raise UserError(f"{shown(source / 'samples.csv')}: it holds no rows, so there is nothing to restore")
    kept = _pictures(source)
    units = _units(run, cells, kept)
    store = RunStore(target)
    store.open(str(run.manifest.get("config_sha256")))
    try:
        store.write_cells(cells)
        for file in (file for files in kept.values() for file in files.values()):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target / file)
        keep_plan(store, Plan((), (), {}, {}, earlier=units))
        for table in sorted({*source.glob("*.csv"), *source.glob("*.csv.xz"), *source.glob("*.csv.gz")}):
            shutil.copyfile(table, target / table.name)
        store.write_manifest(run.manifest)
    finally:
        store.close()
    return len(cells)


def _cells(source: Path) -> dict[str, list[Row]]:
    """The rows of each cell, by its id, with the counts of confusion.csv."""
    counts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in read_rows(source / "confusion.csv", CONFUSION_COLUMNS):
        of_class = ":".join(row[name] for name in ("class", "intersection", "predicted", "labelled"))
        counts[_picture_of(row)].append(of_class)
    cells: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(source / "samples.csv", SAMPLE_COLUMNS):
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
    for row in read_rows(source / "pictures.csv", PICTURE_COLUMNS):
        file = row["file"]
        if RunStore.picture_name(row["dataset"], row["image_id"], Path(file).stem) != file:
            raise UserError(f"{shown(source / 'pictures.csv')}: {shown(file)} is no picture of this run")
        if (source / file).is_file():
            found[Path(file).stem[-8:] if row["kind"] == "output" else ""][file if not row["system"] else
                                                                          row["image_id"]] = file  # fmt: skip
    return found


def _units(run: Run, cells: dict[str, list[Row]], kept: dict[str, dict[str, str]]) -> tuple[WorkUnit, ...]:
    """The work units of the cells. Cells of one system, operating point and block of pictures form one."""
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    for cell_id, rows in cells.items():
        first = rows[0]
        budget = tuple(float(first[name]) if first[name] else None for name in ("cbr_target", "bits_target"))
        figure = _figure_of(run, first, *budget)
        key = (
            first["system"], first["variant"], first["task"], first["dataset"], first["channel"], figure["cbr"],
            figure["bits"], figure.get("uses"), figure["requirement"], tuple(row["image_id"] for row in rows),
        )  # fmt: skip
        shown_here = tuple(row["image_id"] for row in rows if row["image_id"] in kept.get(cell_id[:8], {}))
        groups[key].append(Cell(cell_id, float(first["snr_db"]), int(first["rep"]), shown_here))
    return tuple(
        WorkUnit(system, task, set_name, images, channel, cbr, bits, requirement, tuple(own), tuple(own),
                 set_name=set_name, variant=variant, uses=uses)
        for (system, variant, task, set_name, channel, cbr, bits, uses, requirement, images), own in groups.items()
    )  # fmt: skip


def _figure_of(run: Run, row: Row, cbr: float | None, bits: float | None) -> dict[str, Any]:
    """The figure of the run for which a row was computed: it has the budget in full precision, and the requirement."""
    for figure in run.figures:
        same = all(figure[name] == row[name] for name in ("task", "dataset", "channel"))
        if same and row["system"] in figure["systems"] and _near(figure["cbr"], cbr) and _near(figure["bits"], bits):
            return figure
    raise UserError(f"{shown(run.directory)}: no figure of its manifest has the rows of cell {shown(row['cell_id'])}")


def _near(exact: float | None, told: float | None) -> bool:
    return exact is told if exact is None or told is None else abs(exact - told) <= 1e-8 * abs(exact)
