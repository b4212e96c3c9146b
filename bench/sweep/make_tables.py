"""The tables of a run, made from the files of its cells. `bench.sweep.execute` calls it when the cells exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.results.csv_tables import line_of, read_column
from bench.results.schema import (
    CELL_COLUMNS,
    CONFUSION_COLUMNS,
    FAILURE_COLUMNS,
    PICTURE_COLUMNS,
    SAMPLE_COLUMNS,
    SUMMARY_COLUMNS,
    parse_confusion,
)
from bench.results.store import RunStore
from bench.sweep.engines import Outcome
from bench.sweep.plan import Cell, Plan, WorkUnit
from bench.util.files import no_formula
from systems.errors import UserError


def write_tables(
    plan: Plan,
    store: RunStore,
    failures: dict[str, Outcome],
    failed_before: dict[str, dict[str, str]],
    still_missing: set[str],
    config: dict[str, Any],
    limited: bool,
) -> Unread:
    """Write samples, confusion, pictures, summary and failures, from the files of cells. One operating point is in
    memory at a time.

    failures: cells that failed now. failed_before: rows of failures.csv from before. still_missing: ids of cells
    without rows.
    config: of the whole run, as the manifest holds it. Existing cells of earlier commands appear too. Returns the cells
    that could not be read back.
    """
    failed = _failed_rows(plan, failures, failed_before, still_missing)
    shown, absent, had = _write_rows(plan, store, still_missing, limited)
    own, unread = {cell.id for _, cell in plan.cells}, Unread()
    for unit, cell in absent:
        if cell.id in own or cell.id in had:
            unread.lost[cell.id] = unit.system
            failed.append(_failure(unit, cell, LOST))
        elif cell.id in failed_before:
            failed.append(failed_before[cell.id])
        else:
            unread.waiting[unit.system] += 1
    store.write_table("pictures.csv", PICTURE_COLUMNS, _picture_rows(store, config, shown))
    store.write_table("failures.csv", FAILURE_COLUMNS, failed)
    return unread


@dataclass
class Unread:
    """Cells of the run whose rows are in no table.

    lost: cell id -> system, of cells that had rows and cannot be read back. They appear in failures.csv.
    waiting: system -> number of cells of earlier commands that were never computed.
    """

    lost: dict[str, str] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)

    def note(self) -> str:
        """One line about the cells of earlier commands, "" if none is missing."""
        if not self.waiting:
            return ""
        whose = ", ".join(f"{count} of {system}" for system, count in self.waiting.items())
        return (
            f"cells of earlier commands were never computed ({whose}), so their points have no mean; repeat those "
            "commands to have them"
        )


#: A cell whose PNGs are listed: its position in the plan, work unit, cell and the row of the picture.
Shown = tuple[int, WorkUnit, Cell, dict[str, str]]


def _of_run(plan: Plan) -> list[tuple[WorkUnit, Cell]]:
    """The cells of all commands of the run, those of earlier commands first."""
    return [*((unit, cell) for unit in plan.earlier for cell in unit.cells), *plan.cells]


def _failed_rows(
    plan: Plan, failures: dict[str, Outcome], failed_before: dict[str, dict[str, str]], still_missing: set[str]
) -> list[dict[str, Any]]:
    """Rows of failures.csv, in the order of the plan: what failed now, and what failed before and is still missing."""
    rows: list[dict[str, Any]] = []
    for unit, cell in _of_run(plan):
        if cell.id in failures:
            rows.append(_failure(unit, cell, failures[cell.id].error))
        elif cell.id in failed_before and cell.id in still_missing:
            rows.append(failed_before[cell.id])
    return rows


def _points(plan: Plan) -> list[tuple[dict[str, Any], list[tuple[int, WorkUnit, Cell]]]]:
    """The operating points in the order of summary.csv: the columns that name one, and its cells."""
    points: dict[tuple, tuple[dict[str, Any], list]] = {}
    for place, (unit, cell) in enumerate(_of_run(plan)):
        point = {
            "system": unit.system, "variant": unit.variant, "task": unit.task, "dataset": unit.set_name,
            "channel": unit.channel, "snr_db": cell.snr_db, "cbr_target": unit.cbr, "bits_target": unit.bits,
            "uses_target": unit.uses,
        }  # fmt: skip
        points.setdefault((*point.values(), unit.requirement), (point, []))[1].append((place, unit, cell))
    names = [unit.system for unit in plan.earlier] + list(plan.systems)
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return sorted(points.values(), key=lambda entry: _point_order(entry[0], order))


def _write_rows(
    plan: Plan, store: RunStore, still_missing: set[str], limited: bool
) -> tuple[list[Shown], list[tuple[WorkUnit, Cell]], set[str]]:
    """Write samples, confusion and summary in one reading of the cells.

    Returns the rows of kept pictures, the cells that could not be read back, and which of these cells (by id) had rows
    in the earlier table.
    """
    from bench.analysis.summary import PointRows, summarise  # loads SciPy

    shown: list[Shown] = []
    absent: list[tuple[WorkUnit, Cell]] = []
    with (
        store.lines("samples.csv", SAMPLE_COLUMNS) as sample,
        store.lines("confusion.csv", CONFUSION_COLUMNS) as confusion,
        store.table("summary.csv", SUMMARY_COLUMNS) as summary,
    ):

        def filled_points() -> Iterator[PointRows]:
            for names, cells in _points(plan):
                point = PointRows(names)
                for place, unit, cell in sorted(cells, key=lambda entry: entry[2].rep):
                    missing = cell.id in still_missing
                    rows = None if missing else store.read_cell(cell.id, unit.image_ids)
                    if rows is None:
                        point.lacking = True
                        if not missing:
                            absent.append((unit, cell))
                        continue
                    point.add(rows)
                    sample([line_of(row[:-1]) for row in rows])
                    confusion([line for row in rows if row[-1] for line in _confusion_lines(row)])
                    if cell.pictures:
                        named = [dict(zip(CELL_COLUMNS, row, strict=True)) for row in rows]
                        shown.extend((place, unit, cell, row) for row in named if row["image_id"] in cell.pictures)
                yield point

        for line in summarise(filled_points(), store.root.resolve().name, limited):
            summary(line)
        had = _in_table(store.root / "samples.csv", {cell.id for _, cell in absent})  # the new one is not there yet
    return sorted(shown, key=lambda entry: entry[0]), absent, had


def _in_table(path: Path, cells: set[str]) -> set[str]:
    """Which of the cells, by id, have rows in the table of samples at `path`."""
    if not cells:
        return set()
    try:
        return cells.intersection(read_column(path, "cell_id"))
    except UserError:  # there is no such table, or it is damaged
        return set()


def _picture_rows(store: RunStore, config: dict[str, Any], shown: list[Shown]) -> list[dict[str, Any]]:
    """Rows of pictures.csv: every stored output, and once its original and its true mask."""
    figures: dict[str, set[tuple[str, str]]] = {}
    for figure in config["figures"]:
        own = figure.get("pictures") or {}
        if own.get("snr_db"):
            figures.setdefault(own.get("id") or figure["id"], set()).add((figure["task"], figure["dataset"]))
    pictures: dict[str, dict[str, Any]] = {}
    for _, unit, cell, row in shown:
        _list_picture(pictures, figures, store, unit, cell, row)
    return list(pictures.values())


#: The error of a cell that was computed, but whose file is missing.
LOST = "its rows are not in the run's folder: they were deleted or damaged while the run went on; repeat the command"


_OF_ROW = [CELL_COLUMNS.index(name) for name in CONFUSION_COLUMNS if name in CELL_COLUMNS]


def _confusion_lines(row: list[str]) -> Iterator[str]:
    """The counts of each class, from `confusion`, the last field of a row."""
    key = line_of([row[place] for place in _OF_ROW])
    for label, both, predicted, labelled in parse_confusion(row[-1]):
        yield f"{key},{label},{both},{predicted},{labelled},{predicted + labelled - both}"


def _failure(unit: WorkUnit, cell: Cell, error: str) -> dict[str, Any]:
    return {
        "cell_id": cell.id, "system": unit.system, "dataset": unit.set_name, "images": " ".join(unit.image_ids),
        "channel": unit.channel, "snr_db": cell.snr_db, "cbr_target": unit.cbr, "bits_target": unit.bits,
        "uses_target": unit.uses, "rep": cell.rep, "error": no_formula(error),
    }  # fmt: skip


def _list_picture(pictures: dict, figures: dict, store: RunStore, unit, cell, row: dict[str, str]) -> None:
    """Rows of pictures.csv for one stored output, and (once) for its original and its true mask."""
    dataset, image_id = row["dataset"], row["image_id"]
    for kind in ("original", "truth"):
        file = store.picture_name(dataset, image_id, kind)
        if (store.root / file).is_file():
            pictures.setdefault(file, {"kind": kind, "dataset": dataset, "image_id": image_id, "file": file})
    file = unit.picture_file(image_id, cell)
    figure = next((id_ for id_, names in figures.items() if (unit.task, unit.set_name) in names), "")
    own = {key: row[key] for key in PICTURE_COLUMNS if key in row}
    pictures[file] = {**own, "figure": figure, "kind": "output", "file": file}


def _point_order(point: dict[str, Any], systems: dict[str, int]) -> tuple:
    return (
        point["task"], point["dataset"], point["channel"], point["cbr_target"] or 0.0, point["bits_target"] or 0,
        point["uses_target"] or 0, systems[point["system"]], point["snr_db"],
    )  # fmt: skip
