"""Makes a run's folder with chosen numbers; the bench's own store and summary write it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from bench.analysis.summary import PointRows, summarise
from bench.measure.channel import CHANNELS, SNR_DEF
from bench.measure.seeds import draw_seed
from bench.results.csv_tables import field_text, read_rows
from bench.results.reader import BUDGETS
from bench.results.schema import (
    CELL_COLUMNS,
    CONFUSION_COLUMNS,
    PICTURE_COLUMNS,
    SAMPLE_COLUMNS,
    SUMMARY_COLUMNS,
    parse_confusion,
)
from bench.results.store import RunStore

SNRS = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0]
IMAGES = [f"image-{index}" for index in range(8)]


def figure(
    name: str, systems: list[str], task: str = "reconstruction", snrs: list[float] = SNRS, pictures=(), **changes
) -> dict:
    """One entry of the manifest's figures, as `Figure.as_dict` writes it."""
    segmentation = task == "segmentation"
    values = {
        "id": name,
        "title": f"Title of {name}",
        "task": task,
        "dataset": f"set-{name}",
        "systems": list(systems),
        "channel": "awgn",
        "snr_db": list(snrs),
        "cbr": None if segmentation else 1 / 16,
        "bits": 20000 if segmentation else None,
        "metric": "miou" if segmentation else "psnr_db",
        "reps": 1,
        "requirement": "",
        "pictures": {"id": "", "snr_db": list(pictures), "limit": 2},
    }
    return values | changes


def cell_of(figure: str, system: str, snr: float) -> str:
    """The id of the cell of a made run."""
    return hashlib.sha256(f"{figure}-{system}-{snr:g}".encode()).hexdigest()[:16]


def make_run(
    folder: Path,
    figures: list[dict],
    value: Callable[[dict, str, float, int], float | str | None],
    *,
    images: list[str] = IMAGES,
    uses: Callable[[str], int] | None = None,  # default: the uses that the CBR allows, or 9408
    systems: dict | None = None,
    datasets: dict | None = None,
    limited: bool = False,
    seed: int = 0,
) -> Path:
    """Write a run's folder with chosen numbers; returns the folder.

    `value(figure, system, snr, index of the image)` chooses each row: a PSNR in dB; for segmentation the share of 1000
    pixels of class 15 that is found; "outage"; or None for a row that was never simulated.
    """
    store, samples, points, confusion, pictures = RunStore(folder), [], [], [], []
    for figure in figures:
        segmentation = figure["task"] == "segmentation"
        for system in figure["systems"]:
            for snr in figure["snr_db"]:
                rows = []
                for index, image in enumerate(images):
                    result = value(figure, system, snr, index)
                    if result is None:
                        continue
                    lost = result == "outage"
                    spent = uses(system) if uses else round(150528 * (figure["cbr"] or 1 / 16))
                    row = {
                        "schema": 1,
                        "cell_id": cell_of(figure["id"], system, snr),
                        "system": system,
                        "variant": "small-1",
                        "task": figure["task"],
                        "dataset": figure["dataset"],
                        "image_id": image,
                        "height": 224,
                        "width": 224,
                        "rep": 0,
                        "noise_id": draw_seed(seed, figure["dataset"], image, figure["channel"], snr, 0, "channel"),
                        "channel": figure["channel"],
                        "csi": CHANNELS[figure["channel"]].csi.name,
                        "snr_def": SNR_DEF,
                        "snr_db": snr,
                        "tx_power": 1.0,
                        "cbr_target": figure["cbr"],
                        "bits_target": figure["bits"],
                        "uses_target": figure.get("uses"),
                        "budget_uses": figure.get("uses") or 9408,
                        "n_source": 150528,
                        "n_uses": spent,
                        "cbr": spent / 150528,
                        "bits_per_use": 4.0,
                        "bits": 4.0 * spent,
                        "side_bits": 0,
                        "side_uses": 0,
                        "status": "outage" if lost else "ok",
                        "encode_s": 0.011,
                        "channel_s": 0.001,
                        "decode_s": 0.023,
                        "batch": 1,
                        "device": "cpu",
                    }
                    text = ""
                    if segmentation:
                        found = 0 if lost else round(1000 * result)
                        wrong = 1000 - found
                        text = f"0:{1000}:{1000 + wrong}:{1000};15:{found}:{found}:{1000}"
                        confusion += [
                            {
                                "cell_id": row["cell_id"],
                                "system": system,
                                "variant": "small-1",
                                "dataset": figure["dataset"],
                                "image_id": image,
                                "channel": figure["channel"],
                                "snr_db": snr,
                                "rep": 0,
                                "class": label,
                                "intersection": both,
                                "predicted": predicted,
                                "labelled": labelled,
                                "union": predicted + labelled - both,
                            }
                            for label, both, predicted, labelled in parse_confusion(text)
                        ]
                        row["pixel_accuracy"] = (1000 + found) / 2000
                    else:
                        row["psnr_db"] = 13.0 if lost else result
                        row["mse"] = 255**2 * 10 ** (-row["psnr_db"] / 10)
                    samples.append(row)
                    fields = row | {"confusion": text}
                    rows.append([field_text(fields.get(column)) for column in CELL_COLUMNS])
                    if snr in figure["pictures"]["snr_db"] and index < figure["pictures"]["limit"]:
                        pictures += _pictures(store, figure, system, snr, image, index, row)
                point = {
                    "system": system,
                    "variant": "small-1",
                    "task": figure["task"],
                    "dataset": figure["dataset"],
                    "channel": figure["channel"],
                    "snr_db": snr,
                    "cbr_target": figure["cbr"],
                    "bits_target": figure["bits"],
                    "uses_target": figure.get("uses"),
                }
                points.append(PointRows(point))
                points[-1].add(rows)
    names = {name for figure in figures for name in figure["systems"]}
    facts = {name: {"system": name, "variant": "small-1", "parameters": 0, "options": {},
                    "identity": {"name": name, "weights": f"those of {folder}"}} for name in names}  # fmt: skip
    for name, extra in (systems or {}).items():
        facts[name] = facts.get(name, {}) | extra
    manifest = {
        "run": folder.name,
        "config": {"figures": figures},
        "systems": facts,
        "datasets": datasets or {},
        "limited": limited,
    }
    store.write_table("samples.csv", SAMPLE_COLUMNS, samples)
    store.write_table("confusion.csv", CONFUSION_COLUMNS, confusion)
    store.write_table("summary.csv", SUMMARY_COLUMNS, summarise(points, folder.name, limited))
    store.write_table("pictures.csv", PICTURE_COLUMNS, {row["file"]: row for row in pictures}.values())
    store.write_manifest(manifest)
    return folder


def without_means(run: Path, points: Collection[tuple[str, float]]) -> None:
    """Empty the means of points, (system, SNR) each, in summary.csv, as a run leaves them where cells are absent."""
    lines = read_rows(run / "summary.csv")
    for line in lines:
        if (line["system"], float(line["snr_db"])) in points:
            line.update(mean="", ci_low="", ci_high="", n_images="0")
    RunStore(run).write_table("summary.csv", SUMMARY_COLUMNS, lines)


def _pictures(store: RunStore, figure: dict, system: str, snr: float, image: str, index: int, row: dict) -> list[dict]:
    """The output of one row, the original and the ground truth, as the runner stores them."""
    from bench.data.voc import voc_palette

    y, x = np.mgrid[:60, :90]
    original = np.stack(
        [2 * y + 40, 2 * x + 30, np.where((x - 45) ** 2 + (y - 30) ** 2 < 500 + 100 * index, 200, 60)], axis=2
    )
    labels = np.where((x - 45) ** 2 + (y - 30) ** 2 < 500, 15, 0)
    noise = np.random.default_rng(index).normal(0, 25 - snr, original.shape)
    base = {
        "figure": figure["pictures"]["id"] or figure["id"],
        "task": figure["task"],
        "dataset": figure["dataset"],
        "image_id": image,
    }
    rows = [base | {"kind": "original", "file": store.picture_name(figure["dataset"], image, "original")}]
    store.write_picture(rows[0]["file"], original.astype(np.uint8))
    output = base | {key: row[key] for key in ("system", "variant", "channel", "snr_db", *BUDGETS, "n_uses", "status")}
    output |= {
        "kind": "output",
        "psnr_db": row.get("psnr_db"),
        "file": store.picture_name(figure["dataset"], image, f"{system}-{snr:g}dB-1"),
    }
    if figure["task"] == "segmentation":
        palette = voc_palette().flatten().tolist()
        truth = base | {"kind": "truth", "file": store.picture_name(figure["dataset"], image, "truth")}
        store.write_picture(truth["file"], labels.astype(np.uint8), palette)
        store.write_picture(output["file"], np.roll(labels, 3, axis=1).astype(np.uint8), palette)
        return [*rows, truth, output]
    store.write_picture(output["file"], np.clip(original + noise, 0, 255).astype(np.uint8))
    return [*rows, output]
