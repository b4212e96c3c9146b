"""summary.csv: means and intervals over pictures of each operating point. What was not simulated is an empty field.

`bench.sweep.make_tables` adds the rows of each operating point to a `PointRows`, which keeps only the columns that
metrics need, as numbers. `summarise` makes the table from the points. Only a few points are in memory at a time.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from sys import intern
from typing import Any

import numpy as np

from bench.analysis.intervals import (
    LEVEL,
    Interval,
    bootstrap_means,
    bootstrap_miou,
    method_of,
    rate_over_images,
    zero_error_bound,
)
from bench.analysis.quantity import OUTAGE_RATE, lower_is_better, of_mean_error, quantity, whole_of
from bench.measure.channel import SNR_DEF
from bench.measure.metrics.image import psnr_db
from bench.measure.metrics.table import metrics_of
from bench.results.schema import CELL_COLUMNS, parse_confusion
from systems.interface import NUM_CLASSES

_NOTHING = Interval(math.nan, math.nan, math.nan, math.nan, 0)
_TOGETHER = 1_000_000  # values of pictures in memory at a time
_PLACE = {name: index for index, name in enumerate(CELL_COLUMNS)}


class PointRows:
    """The rows of one operating point. names: the columns of the summary that identify it, from system to budget.

    lacking: a cell of the point failed, or was not computed. The point then has no means: they would be over the other
    pictures, and a system could choose its pictures by failing on the rest, or by hanging there until the user stops.
    """

    def __init__(self, names: dict[str, Any], lacking: bool = False):
        self.names, self.lacking = names, lacking
        self.metrics = tuple(metric.name for metric in metrics_of(names["task"]))
        self._images: dict[str, int] = {}
        self._reps: dict[str, int] = {}
        self._columns = [c for c in dict.fromkeys(quantity(m).column for m in self.metrics) if c != "confusion"]
        self._values = {column: array("d") for column in self._columns}
        self._picture, self._rep, self._lost = array("q"), array("q"), array("d")
        self._counts: list[tuple[int, int, int, int, int]] = []  # picture, class, intersection, predicted, labelled

    def __len__(self) -> int:
        return len(self._lost)

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Add rows as the store reads them: fields as text, in the order of CELL_COLUMNS."""
        image, rep, status, counts = (_PLACE[name] for name in ("image_id", "rep", "status", "confusion"))
        places = [(self._values[column], _PLACE[column]) for column in self._columns]
        for row in rows:
            # so that all points share one string
            picture = self._images.setdefault(intern(row[image]), len(self._images))
            self._picture.append(picture)
            self._rep.append(self._reps.setdefault(row[rep], len(self._reps)))
            self._lost.append(row[status] == "outage" if row[status] else math.nan)
            for values, place in places:
                values.append(float(row[place]) if row[place] else math.nan)
            if row[counts]:
                self._counts += [(picture, *entry) for entry in parse_confusion(row[counts])]

    def facts(self) -> dict[str, Any]:
        """The columns that all metrics of the point share. n_outage: pictures that were lost in at least one
        repetition.
        """
        lost = np.frombuffer(self._lost) if self._lost else np.zeros(0)
        pictures = np.frombuffer(self._picture, dtype=np.int64) if self._picture else np.zeros(0, np.int64)
        return {**self.names, "snr_def": SNR_DEF, "n_reps": len(self._reps), "n_outage": len(set(pictures[lost == 1]))}

    def values(self, metric: str) -> np.ndarray:
        """Values of a metric, float64 (pictures, repetitions). NaN: not simulated."""
        table = np.full((len(self._images), len(self._reps)), np.nan)
        source = self._lost if metric == OUTAGE_RATE.name else self._values[quantity(metric).column]
        if len(source):
            places = (np.frombuffer(array_, dtype=np.int64) for array_ in (self._picture, self._rep))
            table[tuple(places)] = np.frombuffer(source)
        return table

    def class_counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Intersections, unions and labelled pixels, (pictures, 21) each, of the pictures with a mask. Repetitions are
        summed.
        """
        entries = np.array(self._counts, dtype=np.int64).reshape(-1, 5)
        pictures, places = np.unique(entries[:, 0], return_inverse=True)
        counts = np.zeros((3, len(pictures), NUM_CLASSES))
        both, predicted, labelled = entries[:, 2:].T
        for table, pixels in zip(counts, (both, predicted + labelled - both, labelled), strict=True):
            np.add.at(table, (places, entries[:, 1]), pixels)
        return counts[0], counts[1], counts[2]


def summarise(points: Iterable[PointRows], run: str, limited: bool) -> Iterator[dict[str, Any]]:
    """One row per point and metric, in the order of the points. It reads ahead as many points
    as are estimated at once.
    """
    waiting: list[PointRows] = []
    held = 0
    for point in points:
        waiting.append(point)
        held += len(point) * len(point.metrics)
        if held >= _TOGETHER:
            yield from _rows(waiting, run, limited)
            waiting, held = [], 0
    yield from _rows(waiting, run, limited)


def _rows(points: list[PointRows], run: str, limited: bool) -> Iterator[dict[str, Any]]:
    """The rows of some points. The intervals of their means are computed at once."""
    wanted = [(p, m) for p in points for m in p.metrics if not whole_of(m)]
    intervals = dict(zip([(id(p), m) for p, m in wanted], bootstrap_means([p.values(m) for p, m in wanted])))
    for point in points:
        facts = point.facts()
        for metric in (*point.metrics, OUTAGE_RATE.name):
            if point.lacking:
                interval, method = _NOTHING, ""
            elif metric == OUTAGE_RATE.name:
                interval, method = _outage_rate(point.values(metric))
            elif whole_of(metric):
                interval = _of_counts(metric, *point.class_counts())
                method = method_of(interval.n)
            else:
                interval = _of_mean(metric, intervals[id(point), metric])
                method = method_of(interval.n)
            yield {
                **facts, "metric": metric, "higher_is_better": not lower_is_better(metric),
                "mean": interval.mean, "std": interval.std, "n_images": interval.n,
                "ci_low": interval.low, "ci_high": interval.high, "ci_level": LEVEL,
                "ci_method": method if interval.n else "", "limited": limited, "run": run,
            }  # fmt: skip


def _outage_rate(lost: np.ndarray) -> tuple[Interval, str]:
    interval, method = rate_over_images(lost)
    if interval.mean or not interval.n:
        return interval, method
    return Interval(0.0, 0.0, 0.0, zero_error_bound(interval.n), interval.n), "3/n"


def _of_counts(metric: str, correct: np.ndarray, union: np.ndarray, labelled: np.ndarray) -> Interval:
    if quantity(metric).reduction == "pixel_accuracy":  # a ratio of sums is computed as the IoU of one class
        correct, labelled = (pixels.sum(axis=1, keepdims=True) for pixels in (correct, labelled))
        union = labelled
    return bootstrap_miou(correct, union, labelled)


def _of_mean(metric: str, interval: Interval) -> Interval:
    if not of_mean_error(metric) or not interval.n:
        return interval
    least = np.maximum(0.0, interval.low)  # Student's interval may reach below 0
    values = (psnr_db(interval.mean), math.nan, psnr_db(interval.high), psnr_db(least))
    return Interval(*map(float, values), interval.n)  # a larger error means a lower PSNR
