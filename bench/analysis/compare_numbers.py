"""The differences of two sides: means, intervals paired over pictures, a verdict at each point, and whole curves.

Called by `bench.analysis.compare` and by the checks behind the claims.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.bd import bd_psnr, bd_snr
from bench.analysis.intervals import (
    DECIMALS,
    LEVEL,
    RESAMPLES,
    Interval,
    bootstrap_means,
    percentiles,
    resampled_sums,
)
from bench.analysis.matching import Matched, match
from bench.analysis.quantity import (
    COSTS,
    default_metric,
    has_labels,
    lower_is_better,
    of_mean_error,
    quantity,
    whole_of,
)
from bench.analysis.sides import NO_BUDGET, Side
from bench.analysis.training_spread import of_difference, spread
from bench.measure.metrics.image import psnr_db
from bench.measure.metrics.segmentation import mean_iou, mean_iou_of_resample
from bench.measure.metrics.table import METRICS
from bench.results.reader import BUDGETS, POINT
from systems.errors import UserError

#: Intersections, unions and labelled pixels, (SNRs, images, classes) each.
Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]
ALL, DELIVERED = "all pictures", "both delivered"
#: The columns that count absent cells. If one is not 0, nothing is decided there, and no number is given.
ABSENT = ["failed_a", "failed_b", "lacking_a", "lacking_b"]
_NOTHING = Interval(np.nan, np.nan, np.nan, np.nan, 0)


def compare_sides(
    a: Side, b: Side, metric: str | None = None, level: float = LEVEL, matched: Matched | None = None
) -> pd.DataFrame:
    """One row per point that both sides have: the means, a - b with its interval, and the verdict.

    The columns mean_a to n_images are over all pictures; lost pictures have the scores that the harness gave them. The
    columns that begin with delivered_ are over the pictures that neither side lost. `rests_on` names the reduction that
    decides the verdict. The verdict is one of these:

    - "A" or "B": this side is ahead.
    - "tied": the interval contains 0. "undecided": it contains 0 and there are fewer than 7 pictures, or there is one
      picture, so no interval.
    - "undecided" also if the difference is smaller than `training_spread`, the standard deviation of this difference
      between trainings with other seeds (`bench.analysis.training_spread`). training_spread_a and training_spread_b are
      those of the sides; what was not measured is NaN, and counts as 0.
    - "undecided" also if a cell of a side failed or was never computed, because it could choose its pictures by failing
      on the others, or by hanging there. Then the row has no means, differences, intervals and bits either, as the
      point has no mean in summary.csv. failed_a and failed_b count cells that failed, lacking_a and lacking_b the
      points without a mean.
    - "only A decodes", "only B decodes", "neither decodes": a side lost every picture.

    `snr_db` is empty in the row over all SNRs together; SNRs at which a side has no row count there, if it failed.
    outages_a and outages_b count pictures that were lost at least once. same_noise, uses_a, uses_b, bits_a and bits_b
    show whether the comparison was fair. Outages and uses are over the rows that there are: the uses follow the link,
    never the picture.

    metric: one of `METRICS` or `quantity.COSTS`. level: of the intervals. matched: the joined rows, if the caller has
    them. Raises UserError for another metric, or one that samples.csv does not have.
    """
    known = (*METRICS.names(), *COSTS)
    if metric is not None and (metric not in known or quantity(metric).column not in {*a.run.samples, "confusion"}):
        raise UserError(f"--metric {metric}: no side is ahead by it in this run; choose one of {', '.join(known)}")
    joined = (matched or match(a, b)).rows
    rows: list[dict[str, Any]] = []
    for point, group in joined.groupby(POINT, sort=True):
        default = default_metric(point[0])
        snrs = sorted(group["snr_db"].unique())
        pairs = _Pairs(a, b, dict(zip(POINT, point, strict=True)), group, metric or default, level)
        if metric in (None, default) or pairs.measured:  # else the metric belongs to the other task
            rows += pairs.rows(snrs)
    return pd.DataFrame(rows)


class _Pairs:
    """The joined rows of one operating point, over its SNRs."""

    def __init__(self, a: Side, b: Side, point: dict[str, Any], group: pd.DataFrame, metric: str, level: float):
        self.a, self.b, self.point, self.group, self.metric, self.level = a, b, point, group, metric, level
        self.spreads = [spread(side.run, side.system, point, metric) for side in (a, b)]
        self.spread = of_difference(*self.spreads)
        self._gone = [self._by_snr(rows) for side in (a, b) for rows in (side.failed, side.lacking)]
        # As arrays, because each is read at every SNR, where a selection of rows of a table would cost milliseconds.
        self._snrs = group["snr_db"].to_numpy()
        self._lost = [(group[f"status_{s}"] == "outage").to_numpy() for s in "ab"]
        self._pictures, self._names = pd.factorize(group["image_id"], sort=True)
        self._same_noise = (group["noise_id_a"] == group["noise_id_b"]).to_numpy()
        self._spent = {f"{name}_{s}": group[f"{name}_{s}"].to_numpy(float) for name in ("n_uses", "bits") for s in "ab"}

    @property
    def measured(self) -> bool:
        """Whether the rows have values of the metric."""
        if whole_of(self.metric):
            return has_labels(self.point["task"])
        columns = (f"{quantity(self.metric).column}_{s}" for s in "ab")
        return any(name in self.group and self.group[name].notna().any() for name in columns)

    def rows(self, shared: list[float]) -> list[dict[str, Any]]:
        """One row of the table for each SNR that both sides have, and one over all (None). A single SNR has no such
        row, unless cells are absent at others.
        """
        several = len(shared) > 1 or self._absent(None) != self._absent(shared[0])
        levels = [*shared, *([None] if several else [])]
        chosen = [self._snrs == level if level is not None else np.ones(len(self._snrs), bool) for level in levels]
        ok = ((self.group["status_a"] == "ok") & (self.group["status_b"] == "ok")).to_numpy()
        parts = [self._estimates(chosen, np.ones(len(ok), bool)), self._estimates(chosen, ok)]
        return [self._row(*row) for row in zip(levels, chosen, *parts, strict=True)]

    def _row(self, snr: float | None, rows: np.ndarray, over_all: tuple, of_both: tuple) -> dict[str, Any]:
        none_a, none_b = (bool(lost[rows].all()) for lost in self._lost)
        outages = [len(np.unique(self._pictures[rows & lost])) for lost in self._lost]
        spent = {name: _mean(values[rows]) for name, values in self._spent.items()}
        budget = {c: (np.nan if self.point[c] == NO_BUDGET else self.point[c]) for c in BUDGETS}
        failed, lacking = zip(*self._absent(snr), strict=True)
        open_ = any(failed) or any(lacking)
        if open_:  # the rows that are left may be those of the pictures that a side chose
            over_all = of_both = (np.nan, np.nan, _NOTHING)
        mean_a, mean_b, gap = over_all
        return {
            "a": self.a.label,
            "b": self.b.label,
            **self.point,
            **budget,
            "snr_db": np.nan if snr is None else snr,
            "metric": self.metric,
            "mean_a": mean_a,
            "mean_b": mean_b,
            "difference": gap.mean,
            "ci_low": gap.low,
            "ci_high": gap.high,
            "ci_level": self.level,
            "n_images": gap.n,
            "training_spread_a": self.spreads[0].std,
            "training_spread_b": self.spreads[1].std,
            "training_spread": self.spread,
            "verdict": "undecided" if open_ else self._verdict(gap, none_a, none_b),
            "rests_on": ALL,
            "delivered_mean_a": of_both[0],
            "delivered_mean_b": of_both[1],
            "delivered_difference": of_both[2].mean,
            "delivered_ci_low": of_both[2].low,
            "delivered_ci_high": of_both[2].high,
            "delivered_n_images": of_both[2].n,
            "delivered_verdict": self._verdict(of_both[2], False, False) if of_both[2].n else "",
            "failed_a": failed[0],
            "failed_b": failed[1],
            "lacking_a": lacking[0],
            "lacking_b": lacking[1],
            "outages_a": outages[0],
            "outages_b": outages[1],
            "uses_a": spent["n_uses_a"],
            "uses_b": spent["n_uses_b"],
            "bits_a": np.nan if open_ else spent["bits_a"],
            "bits_b": np.nan if open_ else spent["bits_b"],
            "same_noise": bool(self._same_noise[rows].all()),
        }

    def _absent(self, snr: float | None) -> list[tuple[int, int]]:
        """Of each side, the number of cells that failed and of points without a mean: at an SNR, or (None) at any of
        the point.
        """
        counts = [sum(own.values()) if snr is None else own.get(snr, 0) for own in self._gone]
        return [(counts[0], counts[1]), (counts[2], counts[3])]

    def _by_snr(self, rows: pd.DataFrame) -> dict[float, int]:
        """The number of rows at each SNR, of those that belong to this operating point."""
        dataset = self.point["dataset"]
        here = rows["channel"].eq(self.point["channel"])
        here &= rows["dataset"].str.startswith("folder:") if dataset == "folder" else rows["dataset"].eq(dataset)
        for name in ("task", *BUDGETS):
            here &= rows[name].eq(self.point[name]) if name in rows else True
        return Counter(rows.loc[here, "snr_db"].astype(float))

    def _verdict(self, gap: Interval, none_a: bool, none_b: bool) -> str:
        if none_a or none_b:
            return "neither decodes" if none_a and none_b else "only B decodes" if none_a else "only A decodes"
        if gap.decision in ("higher", "lower") and abs(gap.mean) < self.spread:
            return "undecided"
        sign = -1 if lower_is_better(self.metric) else 1
        return {"higher": "AB"[sign < 0], "lower": "BA"[sign < 0]}.get(gap.decision, gap.decision)

    def _estimates(self, chosen: list[np.ndarray], kept: np.ndarray) -> list[tuple[float, float, Interval]]:
        """(mean of a, mean of b, interval of a - b) over the rows that are kept, for each choice of rows."""
        whole = whole_of(self.metric)
        if whole:
            return self._ratios(chosen, kept, whole)
        column = quantity(self.metric).column
        if f"{column}_a" not in self.group or self.group[f"{column}_a"].dtype == object:
            return [(np.nan, np.nan, _NOTHING)] * len(chosen)
        sides = [self.group[f"{column}_{s}"].to_numpy(float) for s in "ab"]
        values = []
        for rows in chosen:
            # First the mean over SNRs and repetitions, because pictures are resampled, not draws of noise.
            means = [_by_picture(self._pictures, side, rows & kept, len(self._names)) for side in sides]
            both = np.stack(means, axis=1)
            values.append(both[~np.isnan(both).any(axis=1)])
        if of_mean_error(self.metric):
            return [_psnr_of_means(part, self.level) for part in values]
        gaps = bootstrap_means([np.round(part[:, 0] - part[:, 1], DECIMALS) for part in values], self.level)
        means = [part.mean(axis=0) if len(part) else (np.nan, np.nan) for part in values]
        return [(float(a), float(b), gap) for (a, b), gap in zip(means, gaps, strict=True)]

    def _ratios(self, chosen: list[np.ndarray], kept: np.ndarray, whole: str) -> list[tuple[float, float, Interval]]:
        group = self.group[kept]
        if group.empty or not has_labels(self.point["task"]):
            return [(np.nan, np.nan, _NOTHING)] * len(chosen)
        key = ["image_id", "snr_db", "rep"]
        sides = []
        for s, cell in ((self.a, "cell_id_a"), (self.b, "cell_id_b")):
            wanted = group[[*key, cell]].rename(columns={cell: "cell_id"})
            counts = class_counts(s.confusion, wanted, whole)
            if quantity(self.metric).reduction == "pixel_accuracy":  # a ratio of sums is the IoU of one class
                counts = tuple(pixels.sum(axis=2, keepdims=True) for pixels in counts)
            sides.append(counts)
        names, snrs = np.unique(group["image_id"]), np.unique(group["snr_db"])
        found = []
        for rows in chosen:
            part = self.group[rows & kept]
            at, of = np.isin(snrs, part["snr_db"].unique()), np.isin(names, part["image_id"].unique())
            if part.empty:
                found.append((np.nan, np.nan, _NOTHING))
                continue
            ours, theirs = (tuple(pixels[at][:, of] for pixels in side) for side in sides)
            found.append(paired_miou(ours, theirs, level=self.level))
        return found


def _mean(values: np.ndarray) -> float:
    """Mean of the values that there are. NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _by_picture(codes: np.ndarray, values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Mean of each picture's values over its rows, (count,). NaN if it has none. codes: the picture of each row."""
    known = rows & ~np.isnan(values)
    sums = np.bincount(codes[known], values[known], minlength=count)
    number = np.bincount(codes[known], minlength=count)
    return np.where(number > 0, sums / np.maximum(number, 1), np.nan)


def _psnr_of_means(values: np.ndarray, level: float) -> tuple[float, float, Interval]:
    """PSNR of the mean MSE of both sides, and the interval of a - b, in dB. values: MSE, (pictures, 2)."""
    n = len(values)
    if n == 0:
        return np.nan, np.nan, _NOTHING
    mean_a, mean_b = (float(psnr_db(mse)) for mse in values.mean(axis=0))
    gap = float(np.round(mean_a - mean_b, DECIMALS))
    if n == 1:
        return mean_a, mean_b, Interval(gap, np.nan, np.nan, np.nan, 1)
    psnr = np.asarray(psnr_db(resampled_sums(values, RESAMPLES, 0) / n))
    gaps = np.round(psnr[:, 0] - psnr[:, 1], DECIMALS)
    return mean_a, mean_b, Interval(gap, float(gaps.std(ddof=1)), *percentiles(gaps, n, level), n)


def class_counts(confusion: pd.DataFrame, wanted: pd.DataFrame, whole: str = "union") -> Pixels:
    """Intersections, unions and labelled pixels, (SNRs, images, classes) each, of the rows in `wanted`.

    confusion: rows of confusion.csv.
    wanted: the columns cell_id, image_id, snr_db, rep. Repetitions are summed. Images are in the order of their ids.
    whole: the column that is returned instead of the unions.
    """
    rows = confusion.merge(wanted, on=["cell_id", "image_id", "snr_db", "rep"])
    if rows.empty:
        nothing = np.zeros((wanted["snr_db"].nunique(), wanted["image_id"].nunique(), 0))
        return nothing, nothing, nothing
    columns = ["intersection", whole, "labelled"]
    cube = rows.pivot_table(
        index=["snr_db", "image_id"], columns="class", values=sorted({*columns}), aggfunc="sum", fill_value=0
    )
    index = pd.MultiIndex.from_product([sorted(wanted["snr_db"].unique()), sorted(wanted["image_id"].unique())])
    cube = cube.reindex(index, fill_value=0)
    shape = (len(index.levels[0]), len(index.levels[1]), -1)
    intersection, union, labelled = (cube[column].to_numpy(float).reshape(shape) for column in columns)
    return intersection, union, labelled


def paired_miou(
    a: Pixels, b: Pixels, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float, Interval]:
    """mIoU of both sides, and the interval of a - b. Each side is (intersections, unions, labelled pixels), (SNRs,
    images, classes) each.

    Pictures are resampled for both sides at once. The mIoU of the resampled set is computed at each SNR, then averaged
    over SNRs. The sides may differ in their number of classes: a class that one side never had has no union there.
    """
    n = a[0].shape[1]
    mean_a, mean_b = (float(np.mean(mean_iou(i.sum(axis=1), u.sum(axis=1)))) for i, u, _ in (a, b))
    if n < 2:
        return mean_a, mean_b, Interval(mean_a - mean_b, np.nan, np.nan, np.nan, n)
    parts = [np.moveaxis(part, 0, 1).reshape(n, -1) for part in (*a, *b)]
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    sums = np.split(resampled_sums(np.concatenate(parts, axis=1), resamples, 0), ends, axis=1)
    drawn = [s.reshape(resamples, len(whole), -1) for s, whole in zip(sums, (*a, *b), strict=True)]
    of_a, of_b = (
        mean_iou_of_resample(*part, side[2].sum(axis=1)).mean(axis=1) for part, side in ((drawn[:3], a), (drawn[3:], b))
    )
    gaps = of_a - of_b
    gaps = gaps[~np.isnan(gaps)]
    if len(gaps) < 2:
        return mean_a, mean_b, Interval(mean_a - mean_b, np.nan, np.nan, np.nan, n)
    return mean_a, mean_b, Interval(mean_a - mean_b, float(gaps.std(ddof=1)), *percentiles(gaps, n, level), n)


def whole_curves(points: pd.DataFrame) -> pd.DataFrame:
    """BD gain (dB of PSNR, or points of another metric) and SNR shift (dB) of a over b, from the rows of
    `compare_sides`.

    Both curves are over the pictures that both sides delivered, so neither has a cliff. snr_shift_db is positive if a
    needs less SNR than b for the same quality. A number is NaN if cells of a side are absent, because a side could
    choose its SNRs by failing at the others, or if the side that this number favours lost pictures, because it could
    choose these. The two numbers may favour different sides.
    """
    rows = []
    for key, group in points.groupby(["a", "b", *POINT, "metric"], dropna=False, sort=False):
        at = group.dropna(subset=["snr_db"])
        snr = at["snr_db"].to_numpy(float)
        ours, theirs = (at[f"delivered_mean_{s}"].to_numpy(float) for s in "ab")
        if group[ABSENT].to_numpy().any():
            ours = theirs = np.full(len(snr), np.nan)
        if lower_is_better(group["metric"].iloc[0]):
            ours, theirs = -ours, -theirs
        numbers = {"bd_gain": bd_psnr(snr, theirs, snr, ours), "snr_shift_db": bd_snr(snr, theirs, snr, ours)}
        lost = {side: bool(group[f"outages_{side}"].any()) for side in "ab"}
        for name, value in numbers.items():
            if lost["a" if value > 0 else "b"]:
                numbers[name] = np.nan
        rows.append({**dict(zip(["a", "b", *POINT, "metric"], key, strict=True)), **numbers})
    return pd.DataFrame(rows)
