"""summary.csv: each operating point's means and intervals over pictures; what was not simulated has empty fields."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.analysis.intervals import LEVEL, Interval, bootstrap_mean, bootstrap_miou, rate_over_images, zero_error_bound
from bench.measure.metrics.scores import psnr_db
from bench.spec.figure import METRICS
from systems.interface import NUM_CLASSES

LOWER_IS_BETTER = ("lpips", "mse", "outage_rate", "n_uses", "bits", "encode_s", "decode_s")
_NOTHING = Interval(math.nan, math.nan, math.nan, math.nan, 0)


def summarise(
    points: Iterable[tuple[dict[str, Any], list[dict[str, str]]]], run: str, limited: bool
) -> list[dict[str, Any]]:
    """One row per point and metric. points: (columns that name the point, its rows as text), in the table's order.

    n_outage counts pictures, as n_images does: those lost in at least one repetition.
    """
    table = []
    for point, rows in points:
        outages = len({row["image_id"] for row in rows if row["status"] == "outage"})
        reps = len({row["rep"] for row in rows})
        for metric in (*METRICS[point["task"]], "outage_rate"):
            interval, method = _interval(metric, rows)
            table.append({
                **point, "snr_def": "esn0", "metric": metric, "higher_is_better": metric not in LOWER_IS_BETTER,
                "mean": interval.mean, "std": interval.std, "n_reps": reps,
                "n_images": len({r["image_id"] for r in _known(metric, rows)}),
                "ci_low": interval.low, "ci_high": interval.high, "ci_level": LEVEL, "ci_method": method,
                "n_outage": outages, "limited": limited, "run": run,
            })  # fmt: skip
    return table


def _known(metric: str, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows that hold what a metric is made of."""
    column = {"psnr_of_mean_mse_db": "mse", "outage_rate": "status", "miou": "confusion", "pixel_accuracy": "confusion"}
    return [row for row in rows if row[column.get(metric, metric)] != ""]


def _interval(metric: str, rows: list[dict[str, str]]) -> tuple[Interval, str]:
    known = _known(metric, rows)
    if not known:
        return _NOTHING, ""
    if metric == "outage_rate":
        lost = [{**row, "lost": row["status"] == "outage"} for row in known]
        interval, method = rate_over_images(_by_image(lost, "lost"))
        if interval.mean:
            return interval, method
        return Interval(0.0, 0.0, 0.0, zero_error_bound(interval.n), interval.n), "3/n"
    if metric in ("miou", "pixel_accuracy"):
        correct, union, labelled = confusion_counts(known)
        if metric == "pixel_accuracy":  # a ratio of sums over the data set, which is the IoU of one class
            correct, union = correct.sum(axis=1, keepdims=True), labelled.sum(axis=1, keepdims=True)
        return bootstrap_miou(correct, union), "bootstrap over images"
    if metric == "psnr_of_mean_mse_db":
        mse = bootstrap_mean(_by_image(known, "mse"))
        values = (psnr_db(mse.mean), math.nan, psnr_db(mse.high), psnr_db(mse.low))  # a larger error is a lower PSNR
        return Interval(*map(float, values), mse.n), "bootstrap over images"
    return bootstrap_mean(_by_image(known, metric)), "bootstrap over images"


def _by_image(rows: list[dict[str, str]], column: str) -> np.ndarray:
    """Values (images, repetitions), images in the order of the rows, NaN where a repetition is missing."""
    images, reps = _places(rows, "image_id"), _places(rows, "rep")
    values = np.full((len(images), len(reps)), np.nan)
    for row in rows:
        values[images[row["image_id"]], reps[row["rep"]]] = float(row[column])
    return values


def _places(rows: list[dict[str, str]], column: str) -> dict[str, int]:
    """A column's different values, numbered in the order of the rows."""
    return {value: place for place, value in enumerate(dict.fromkeys(row[column] for row in rows))}


def parse_confusion(text: str) -> list[tuple[int, int, int, int]]:
    """The `confusion` field of a cell's row -> (class, intersection, predicted, labelled) of the classes that occur."""
    return [tuple(map(int, entry.split(":"))) for entry in text.split(";")] if text else []


def confusion_counts(rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersections, unions and labelled pixels, (images, 21) each, repetitions summed."""
    images = _places(rows, "image_id")
    counts = np.zeros((3, len(images), NUM_CLASSES))
    for row in rows:
        for label, both, predicted, labelled in parse_confusion(row["confusion"]):
            counts[:, images[row["image_id"]], label] += both, predicted + labelled - both, labelled
    return counts[0], counts[1], counts[2]
