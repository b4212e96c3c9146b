"""A table of trained weights, from their sidecars: what trained them, and what they reached on held-out pictures.

`python -m bench weights show` prints it. It puts trainings beside each other: learning rates, seeds, a part of a
network left out. No network is built and no weight is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.util.files import shown
from systems.errors import UserError
from systems.interface import TASKS
from systems.sidecars import check_facts, images_seen, read_facts, sidecar

_PREFIX = "val_"  # of the columns that a validation measures


def weights_table(places: Iterable[Path]) -> pd.DataFrame:
    """One row per weight file, in the order of `places`. A folder stands for all weight files below it, by path.

    Columns: file, system, size, seed, learning_rate; for each task the number of crops seen, before this training too;
    commit; and the measures of the last validation, in their own units. A measure that no file has gets no column.
    Raises UserError if there is no weight file, CheckpointError for a broken sidecar.
    """
    rows = [_row(path) for place in places for path in _files(place)]
    measured = sorted({key for row in rows for key in row if key.startswith(_PREFIX)}, key=_by_snr)
    known = ["file", "system", "size", "seed", "learning_rate", *(f"crops_{task}" for task in TASKS), "commit"]
    return pd.DataFrame(rows, columns=[*known, *measured])


def words(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The table as texts for a terminal, with a line of names first. Columns that are empty everywhere are left out."""
    kept = [name for name in table if name not in ("file", "commit") and not table[name].isna().all()]
    kept = [name for name in kept if not (name.startswith("crops_") and (table[name] == 0).all())]
    head = (*(name.removeprefix(_PREFIX) for name in kept), "file")
    return [head, *((*(_text(row[name]) for name in kept), shown(row["file"])) for row in table.to_dict("records"))]


def _text(value: Any) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else shown(value, 60)


def _files(place: Path) -> list[Path]:
    if place.suffix == ".safetensors":
        return [place]
    found = sorted(path for path in place.rglob("*.safetensors") if sidecar(path).is_file())  # a state has none
    if not found:
        raise UserError(f"{place}: there are no weights here; name a .safetensors file, or a folder of `train --out`")
    return found


def _row(path: Path) -> dict[str, Any]:
    facts = read_facts(path)
    check_facts(facts, sidecar(path).as_posix())
    protocol, curve, seen = facts.get("protocol", {}), facts.get("validation", []), images_seen(facts)
    rates = protocol.get("learning_rates") if isinstance(protocol.get("learning_rates"), dict) else {}
    last = curve[-1] if curve and isinstance(curve[-1], dict) else {}
    own = {key: facts.get(key) for key in ("system", "size", "seed", "commit")}
    return {
        "file": path.as_posix(),
        **own,
        "learning_rate": rates.get(own["system"], protocol.get("learning_rate")),
        **{f"crops_{task}": seen.get(task, 0) for task in TASKS},
        **{key: value for key, value in last.items() if key.startswith(_PREFIX) and isinstance(value, int | float)},
    }


def _by_snr(name: str) -> tuple[str, float]:
    """The order of measures: val_psnr_0db, val_psnr_10db, val_psnr_20db."""
    kind, _, snr = name.removesuffix("db").rpartition("_")
    try:
        return kind, float(snr)
    except ValueError:
        return name, 0.0
