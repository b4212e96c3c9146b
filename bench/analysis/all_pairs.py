"""Differences of all pairs of systems in one figure, with intervals paired over pictures.

`bench.report.html` shows any system relative to any other. `compare` compares one pair, also from two runs. This module
compares all pairs of one figure at once, with the same resamples, so both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from bench.analysis.intervals import DECIMALS, LEVEL, RESAMPLES, bootstrap_mean, few, percentiles, resample
from bench.analysis.quantity import of_mean_error, quantity, whole_of
from bench.measure.metrics.image import psnr_db
from bench.measure.metrics.segmentation import mean_iou_of_resample
from systems.interface import NUM_CLASSES


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over all pictures, and its 95 % interval (NaN if there is none). Lost pictures count as they were
    scored, so that nobody gains by losing some.

    n: number of pictures. The unit is that of the metric.
    """

    a: str
    b: str
    snr_db: float
    mean: float
    low: float
    high: float
    n: int


def all_pairs(
    rows: pd.DataFrame, confusion: pd.DataFrame, metric: str, against: str | None = None
) -> list[PairedDifference]:
    """Differences of all pairs of systems at each SNR. against: only the pairs with this system.

    rows: rows of samples.csv of one figure.
    confusion: rows of confusion.csv of the same run (read for segmentation).
    metric: the name of a metric (`bench.measure.metrics.table`).
    """
    found = []
    ratio = whole_of(metric)
    counts = _counts(rows, confusion, ratio) if ratio else {}
    for snr, here in rows.groupby("snr_db", sort=True):
        if ratio:
            values = {
                system: counts[snr, system] for system in dict.fromkeys(here["system"]) if (snr, system) in counts
            }
        else:
            column = quantity(metric).column
            means = here.assign(value=here[column].astype(float)).groupby(["system", "image_id"])["value"].mean()
            values = {
                system: own.droplevel(0).dropna().to_frame() for system, own in means.groupby(level=0, sort=False)
            }
        found += _pairs_at(float(snr), values, metric, against)
    return found


def _counts(rows: pd.DataFrame, confusion: pd.DataFrame, whole: str) -> dict[tuple[float, str], pd.DataFrame]:
    """Pixels of each picture by (SNR, system): the intersections of all classes, then their denominators, then the
    labelled pixels.
    """
    own = confusion[confusion["cell_id"].isin(rows["cell_id"].unique())]
    kinds, classes = ["intersection", whole, "labelled"], np.arange(float(NUM_CLASSES))
    tables = {}
    for (snr, system), part in own.groupby(["snr_db", "system"], sort=False):
        sums = part.groupby(["image_id", "class"])[list(dict.fromkeys(kinds))].sum().unstack(fill_value=0)
        by_kind = [sums[kind].reindex(columns=classes, fill_value=0) for kind in kinds]
        tables[float(snr), system] = pd.concat(by_kind, axis=1)
    return tables


def _pairs_at(snr: float, values: dict[str, pd.DataFrame], metric: str, against: str | None) -> list[PairedDifference]:
    names, found = list(values), []
    # Pairs with the same pictures share one resample: usually all pairs.
    groups: dict[tuple, list[tuple[str, str]]] = {}
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            if against not in (None, a, b):
                continue
            images = tuple(i for i in values[a].index if i in values[b].index)
            groups.setdefault(images, []).append((a, b))
    for images, pairs in groups.items():
        systems = list(dict.fromkeys(name for pair in pairs for name in pair))
        points, samples = _resampled([values[s].loc[list(images)].to_numpy(float) for s in systems], metric)
        for a, b in pairs:
            ia, ib = systems.index(a), systems.index(b)
            low = high = np.nan
            if few(len(images)) and not (of_mean_error(metric) or whole_of(metric)):  # Student's, as in `compare`
                own = [values[name].loc[list(images)].to_numpy(float)[:, 0] for name in (a, b)]
                interval = bootstrap_mean(np.round(own[0] - own[1], DECIMALS))
                low, high = interval.low, interval.high
            elif len(images) > 1:
                gaps = np.round(samples[:, ia] - samples[:, ib], DECIMALS)
                gaps = gaps[~np.isnan(gaps)]
                low, high = percentiles(gaps, len(images), LEVEL) if len(gaps) else (np.nan, np.nan)
            mean = float(np.round(points[ia] - points[ib], DECIMALS)) if images else np.nan
            found.append(PairedDifference(a, b, snr, mean, float(low), float(high), len(images)))
    return found


@lru_cache(maxsize=4)
def _weights(n: int) -> np.ndarray:
    """How often each of `n` pictures is in each resample, (resamples, n). It is the same for all points of a figure."""
    parts = []
    for picks in resample(n, RESAMPLES, 0):
        places = picks + n * np.arange(len(picks))[:, None]
        parts.append(np.bincount(places.ravel(), minlength=n * len(picks)).reshape(-1, n).astype(float))
    return np.concatenate(parts)


def _resampled(tables: list[np.ndarray], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The metric of each system on the pictures, (systems,), and on each resample of them, (resamples, systems)."""
    n = len(tables[0])
    if n == 0:
        return np.full(len(tables), np.nan), np.empty((0, len(tables)))
    weights, reduction = _weights(n), quantity(metric).reduction

    def score(sums: np.ndarray, total: np.ndarray, of_set: np.ndarray) -> np.ndarray:
        """Sums over pictures (..., columns) -> the metric. of_set: the sums over all pictures, (columns,)."""
        if reduction == "miou":
            return mean_iou_of_resample(*np.split(sums, 3, axis=-1), np.split(of_set, 3)[2])
        if reduction == "pixel_accuracy":
            inside, whole, _ = np.split(sums, 3, axis=-1)
            return inside.sum(axis=-1) / whole.sum(axis=-1)
        return np.asarray(psnr_db(sums[..., 0] / total) if of_mean_error(metric) else sums[..., 0] / total)

    wholes = [table.sum(axis=0) for table in tables]
    points = np.array([score(whole, np.float64(n), whole) for whole in wholes])
    samples = np.stack([score(weights @ table, np.float64(n), of) for table, of in zip(tables, wholes)], axis=1)
    return points, samples
