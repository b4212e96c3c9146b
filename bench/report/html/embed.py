"""The pictures of a run as data URIs, as many as a page can hold. `bench.report.html.build` calls it.

Photographs are embedded as WebP of quality 92, which is good enough to look at. The PSNR and the uses below them come
from the run's tables, which were computed from the exact output. Class maps are embedded without loss.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.results.reader import Run
from systems.errors import UserError

WEBP_QUALITY = 92


def embedded_pictures(runs: list[Run], most_mib: float, key: Callable[[Run, str], str]) -> dict[str, Any]:
    """{"items": [...], "left_out": n}. An item is one picture of one figure, with its original and all its outputs.

    most_mib: the most MiB of pictures.
    key: key(run, system) is the name of the system in the page. Pictures that are not on disk are left out and counted.
    """
    items: list[dict[str, Any]] = []
    left, spent = 0, 0.0
    for run in runs:
        for figure in run.figures:
            rows = run.pictures_of(figure)
            for image in rows["image_id"].drop_duplicates() if len(rows) else ():
                item = None if spent > most_mib else _item(run, figure, rows[rows["image_id"] == image], key)
                if item is None:
                    left += 1
                    continue
                spent += item.pop("bytes") / 2**20
                items.append(item)
    return {"items": items, "left_out": left}


def _item(run: Run, figure: dict, rows: pd.DataFrame, key: Callable[[Run, str], str]) -> dict[str, Any] | None:
    original = _uri(run, rows[rows["kind"] == "original"])
    if original is None:
        return None
    truth = _uri(run, rows[rows["kind"] == "truth"])
    outputs, size = [], len(original) + len(truth or "")
    for _, row in rows[rows["system"] != ""].iterrows():
        uri = _uri(run, rows[rows["file"] == row["file"]])
        if uri is None:
            continue
        size += len(uri)
        outputs.append({
            "system": key(run, row["system"]), "snr": float(row["snr_db"]), "uri": uri,
            "psnr": None if pd.isna(row["psnr_db"]) else float(row["psnr_db"]),
            "miou": None if pd.isna(row["miou"]) else float(row["miou"]),
            "uses": None if pd.isna(row["n_uses"]) else int(row["n_uses"]), "lost": row["status"] == "outage",
        })  # fmt: skip
    if not outputs:
        return None
    image = str(rows["image_id"].iloc[0])
    failed = sorted([key(run, system), snr] for system, snr in run.failed_outputs(figure, image))
    return {"figure": figure["id"], "run": run.name, "task": figure["task"], "image": image, "original": original,
            "truth": truth, "outputs": outputs, "failed": failed, "bytes": size}  # fmt: skip


def _uri(run: Run, rows: pd.DataFrame) -> str | None:
    """The first file of `rows` as a data URI. None if there is none, or if it cannot be read."""
    if rows.empty:
        return None
    out = io.BytesIO()
    try:
        with run.opened_picture(str(rows["file"].iloc[0])) as picture:
            if picture.mode == "P":
                picture.save(out, "PNG", optimize=True)
                kind = "png"
            else:
                picture.convert("RGB").save(out, "WEBP", quality=WEBP_QUALITY, method=4)
                kind = "webp"
    except UserError:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
