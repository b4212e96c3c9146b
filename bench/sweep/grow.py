"""A run that grows: more systems, SNRs, repetitions or pictures in the folder of an earlier command.

Called by `bench.sweep.execute` and `dry_run`. A cell does not depend on the command that asked for it, so existing
cells are used. `plan.json` in the run's folder lists the cells of all commands, and the tables contain all of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.measure.tasks import TASKS
from bench.results.store import RunStore
from bench.spec.figure import check_apart
from bench.spec.request import Resolved, check_rows_apart, config_sha256
from bench.sweep.plan import Cell, Plan, WorkUnit
from bench.util.files import read_json, shown, write_atomic
from systems.errors import UserError

FILE = "plan.json"
_ADVICE = (
    "without it, one command must name all systems, SNRs and repetitions that the run has (finished cells are kept)"
)
_SAME = ("seed", "block", "analog_bits_per_use", "control_word_uses", "schema")
_SAME_OF_FIGURE = ("task", "dataset", "channel", "cbr", "bits", "uses", "requirement", "metric")


def merged_config(root: Path, manifest: dict[str, Any] | None, resolved: Resolved) -> dict[str, Any]:
    """The configuration of the run with this request added.

    root: the run's folder. manifest: the one there, or None. Raises UserError if the request does not fit: other rules,
    other options of a system, or other pictures.
    """
    new = resolved.config
    if manifest is None:
        return new
    old = manifest.get("config")
    if not isinstance(old, dict):
        raise UserError(f"{root / 'manifest.json'}: holds no configuration; choose another folder")
    if config_sha256(old) == config_sha256(new):
        return new
    if not (root / FILE).is_file():
        raise _other(root, f"it has no {FILE}, as an earlier version leaves it; {_ADVICE}")
    for key in _SAME:
        if old.get(key) != new[key]:
            raise _other(root, f"its {key} is {old.get(key)}, here it is {new[key]}")
    for name, options in new["systems"].items():
        known = old["systems"].get(name, options)
        if known != options:
            raise _other(
                root,
                f"{name} was run there as {_words(known)}, here it is {_words(options)} (to replace it, begin with "
                f"`python -m bench runs {shown(root)} --restore FOLDER --without {name}`)",
            )
    _check_pictures(root, manifest, resolved)
    figures = {figure["id"]: figure for figure in old["figures"]}
    for figure in new["figures"]:
        known = figures.get(figure["id"])
        for key in _SAME_OF_FIGURE if known else ():
            if known.get(key) != figure[key]:
                raise _other(root, f"figure {figure['id']} has {key} {known.get(key)} there, here it is {figure[key]}")
        figures[figure["id"]] = figure if known is None else _joined(known, figure)
    try:
        check_apart(figures.values())
    except UserError as error:
        raise _other(root, str(error)) from None
    check_rows_apart(figures.values())
    return {
        **new,
        "figures": list(figures.values()),
        "systems": {**old["systems"], **new["systems"]},
        "datasets": {**old["datasets"], **new["datasets"]},
    }


def _joined(known: dict[str, Any], figure: dict[str, Any]) -> dict[str, Any]:
    return {
        **figure,
        "systems": list(dict.fromkeys([*known["systems"], *figure["systems"]])),
        "snr_db": sorted({*known["snr_db"], *figure["snr_db"]}),
        "reps": max(known["reps"], figure["reps"]),
        "pictures": figure["pictures"] if figure["pictures"]["snr_db"] else known["pictures"],
    }


def _check_pictures(root: Path, manifest: dict[str, Any], resolved: Resolved) -> None:
    for dataset in resolved.datasets.values():
        known = manifest.get("datasets", {}).get(dataset.name, {}).get("files", {})
        files = dataset.hashes()
        for image_id, own in known.items():
            if image_id not in files:
                raise _other(
                    root,
                    f"{dataset.name} has {len(known)} pictures there, {image_id} among them, but here it is missing",
                )
            if files[image_id] != own:
                raise _other(root, f"picture {image_id} of {dataset.name} is a different file there")


def _words(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


def _other(root: Path, why: str) -> UserError:
    return UserError(f"{root} holds a run of another configuration: {why}; choose another --out or --name")


def with_earlier(root: Path, plan: Plan, manifest: dict[str, Any] | None = None) -> Plan:
    """The plan together with those cells of earlier commands that it does not replace. Raises UserError if plan.json is
    damaged.

    manifest: the one there. If another version of a third party's system made the earlier cells, their rows are left
    out, and `Plan.changed` names it: no curve may hold points of two versions, such as one for low SNRs and one for
    high ones. The points stay in the plan, without a mean, until a command computes them with the new version: else a
    system could lose those at which it failed or did badly, by saying something else of itself.
    """
    changed = _changed(plan, manifest)
    path = root / FILE
    if not path.is_file():
        return plan
    try:
        kept = read_json(path, "plan")
        earlier = [_read(entry) for entry in kept["tasks"]]
        if kept.get("sha256", _digest(kept["tasks"])) != _digest(kept["tasks"]):  # an earlier version wrote no hash
            raise UserError(f"{path}: it was changed since the run wrote it, so rows of earlier commands would be lost")
    except (UserError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = str(error) if isinstance(error, UserError) else f"{path}: not the plan of a run"
        raise UserError(f"{why}; delete it: {_ADVICE}") from None
    plan = _with_pictures(plan, earlier)
    taken: dict[tuple, set[str]] = {}
    for unit, cell in plan.cells:
        taken.setdefault(_point(unit, cell), set()).update(unit.image_ids)
    kept = []
    for unit in earlier:
        cells = tuple(
            cell for cell in unit.cells if not taken.get(_point(unit, cell), set()).intersection(unit.image_ids)
        )
        if cells and unit.system in changed:
            facts = plan.systems[unit.system]
            cells = tuple(replace(cell, id=_waiting(cell, facts.identity), pictures=()) for cell in cells)
            unit = replace(unit, variant=facts.variant)
        if cells:
            kept.append(replace(unit, cells=cells, points=cells))
    return replace(plan, earlier=(*kept, *_of_new_pictures(plan, kept)), changed=changed)


def _of_new_pictures(plan: Plan, earlier: list[WorkUnit]) -> list[WorkUnit]:
    """The pictures that a data set has now, and had not when an earlier command measured a point, as cells that were
    never computed: the point has no mean until a command computes them. Otherwise a system that was measured while the
    data set had a few pictures alone would keep their mean beside systems with all pictures.
    """
    everything = {dataset.name: dataset.ids for dataset in plan.datasets.values()}
    measured: dict[tuple, set[str]] = {}
    for unit in (*earlier, *plan.units):
        for cell in unit.cells:
            measured.setdefault(_point(unit, cell), set()).update(unit.image_ids)
    found: dict[WorkUnit, dict[tuple, Cell]] = {}
    for unit in earlier:
        for cell in unit.cells:
            point = _point(unit, cell)
            absent = tuple(name for name in everything.get(unit.set_name, ()) if name not in measured[point])
            if absent:
                of = replace(unit, image_ids=absent, cells=(), points=())
                own = Cell(_hash([point, unit.variant, absent]), cell.snr_db, cell.rep)
                found.setdefault(of, {})[point] = own
    return [replace(unit, cells=(own := tuple(cells.values())), points=own) for unit, cells in found.items()]


def _waiting(cell: Cell, identity: dict[str, Any]) -> str:
    """The id of a cell that another version of its system made: there is none of this version yet."""
    return _hash([cell.id, identity])


def _hash(value: Any) -> str:
    """An id for a cell that no command has computed."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _changed(plan: Plan, manifest: dict[str, Any] | None) -> tuple[str, ...]:
    """The third parties' systems of the plan that have another identity than in the manifest."""
    told = (manifest or {}).get("systems")
    known = told if isinstance(told, dict) else {}
    return tuple(
        name
        for name, facts in plan.systems.items()
        if facts.plugin
        and isinstance(known.get(name), dict)
        and known[name].get("identity") != json.loads(json.dumps(facts.identity))
    )


def _with_pictures(plan: Plan, earlier: list[WorkUnit]) -> Plan:
    """The plan with more pictures to keep: if an earlier command has the same point, the pictures kept there stay.

    The id of its cell may differ, if the system's code has changed since.
    """
    kept: dict[tuple, set[str]] = {}
    for unit in earlier:
        for cell in unit.cells:
            kept.setdefault(_point(unit, cell), set()).update(cell.pictures)
    units = []
    for unit in plan.units:
        cells = tuple(
            replace(
                cell,
                pictures=tuple(i for i in unit.image_ids if i in {*cell.pictures, *kept.get(_point(unit, cell), ())}),
            )
            for cell in unit.cells
        )
        units.append(replace(unit, cells=cells, points=cells))
    return replace(plan, units=tuple(units))


def keep_plan(store: RunStore, plan: Plan) -> None:
    """Write plan.json: the cells of the run, those of earlier commands first."""
    tasks = [_written(unit) for unit in (*plan.earlier, *plan.units)]
    write_atomic(
        store.root / FILE, json.dumps({"tasks": tasks, "sha256": _digest(tasks)}, separators=(",", ":")).encode()
    )


def check_unit(unit: WorkUnit, source: Path) -> None:
    """Raise UserError for a work unit that plan.json would not give back as it is.

    source: where its cells come from, for the message.
    """
    try:
        _read(_written(unit))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{shown(source)}: cell {shown(unit.cells[0].id)} fits no plan: {error}") from None


def _digest(tasks: Any) -> str:
    return hashlib.sha256(json.dumps(tasks, separators=(",", ":")).encode()).hexdigest()


def _point(unit: WorkUnit, cell: Cell) -> tuple:
    conditions = (unit.task, unit.set_name, unit.channel, unit.cbr, unit.bits, unit.uses, unit.requirement)
    return (unit.system, *conditions, cell.snr_db, cell.rep)


_FIELDS = ("system", "variant", "task", "set_name", "channel", "cbr", "bits", "uses", "requirement")


def _written(unit: WorkUnit) -> dict[str, Any]:
    cells = [[cell.id, cell.snr_db, cell.rep, list(cell.pictures)] for cell in unit.cells]
    return {**{name: getattr(unit, name) for name in _FIELDS}, "image_ids": list(unit.image_ids), "cells": cells}


def _read(entry: dict[str, Any]) -> WorkUnit:
    """A work unit as `_written` left it. Raises KeyError, TypeError, ValueError or AttributeError for anything else."""
    cells = tuple(
        Cell(_id(id_), _number(snr_db), int(rep), _texts(shown)) for id_, snr_db, rep, shown in entry["cells"]
    )
    names = {name: _text(entry[name]) for name in ("system", "variant", "task", "set_name", "channel", "requirement")}
    budget = {name: None if entry.get(name) is None else _number(entry[name]) for name in ("cbr", "bits", "uses")}
    if names["task"] not in TASKS.names():
        raise ValueError("an unknown task")
    return WorkUnit(
        dataset=names["set_name"], image_ids=_texts(entry["image_ids"]), cells=cells, points=cells, **names, **budget
    )


def _id(value: Any) -> str:
    """The id of a cell, which becomes the name of its file."""
    if not re.fullmatch(r"[0-9a-f]{16}", _text(value)):
        raise ValueError("an id that is not 16 hex digits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("no list")
    return tuple(map(_text, values))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("no finite number")
    return value
