"""Compares two systems, or two runs: paired over pictures, with an interval and a verdict per point.

`python -m bench compare` and the claims call it. `bench.analysis.compare_text` prints the table.

Rows are joined on (task, data set, picture, channel, SNR, budget, repetition), so each difference is between two
results for the same picture. In two runs, pictures are the same if the manifests hold the same sha256 of their files.
Other pictures are left out and named. There are two reductions, and both are reported:

- "all pictures": a lost picture counts with what the harness painted for it (mid-grey, or the most common class). The
  verdict rests on this reduction, so that losing difficult pictures brings no advantage.
- "both delivered": only pictures that neither side lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
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
from bench.analysis.quantity import default_metric, lower_is_better, of_mean_error, quantity, whole_of
from bench.measure.metrics.image import psnr_db
from bench.measure.metrics.segmentation import mean_iou
from bench.measure.metrics.table import METRICS
from bench.results.find import find_run, find_system
from bench.results.reader import POINT, Run
from bench.util.files import shown
from systems.errors import UserError, did_you_mean

KEY = [*POINT, "snr_db", "image_id", "rep"]
ALL, DELIVERED = "all pictures", "both delivered"
NO_BUDGET = -1.0  # in place of an empty budget while tables are joined, because NaN does not equal NaN
_NOTHING = Interval(np.nan, np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True)
class Selection:
    """Which part of the runs is compared. None: all.

    figure: an id.
    channel: a name.
    snr_db: SNRs in dB.
    """

    figure: str | None = None
    channel: str | None = None
    snr_db: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the rows of one system (and variant) of one run."""

    run: Run
    system: str
    variant: str = ""
    foreign: bool = False  # True: it belongs to another run than the one at hand
    selection: Selection = Selection()

    @property
    def label(self) -> str:
        """Its name in tables."""
        own = self.system + (f"@{self.variant}" if self.variant else "")
        return f"{self.run.name}:{own}" if self.foreign else own

    @property
    def source(self) -> tuple[Path, str, str]:
        """Its folder, system and variant, which identify it whatever its label."""
        return self.run.directory.resolve(), self.system, self.variant

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Its rows of samples.csv. Raises UserError if the selection leaves none."""
        rows = self._own(_chosen(self.run, self.selection))
        if rows.empty:
            raise UserError(f"{self.label} has no rows {_words(self.selection)} in run {shown(self.run.name)}")
        return _filled(rows)

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Its rows of confusion.csv, with the columns of POINT."""
        cells = self.samples[["cell_id", "image_id", *[c for c in POINT if c not in ("dataset", "channel")]]]
        return self._own(self.run.confusion).merge(
            cells.drop_duplicates(["cell_id", "image_id"]), on=["cell_id", "image_id"]
        )

    def _own(self, table: pd.DataFrame) -> pd.DataFrame:
        rows = table[table["system"] == self.system]
        return rows[rows["variant"] == self.variant] if self.variant else rows


def side(run: Run, system: str, selection: Selection = Selection()) -> Side:  # noqa: B008  (frozen)
    """The side `system`, or `system@variant` if the run has several variants of it. Raises UserError if the run lacks
    it.
    """
    name, _, variant = system.partition("@")
    rows = run.samples[run.samples["system"] == name]
    if rows.empty:
        known = ", ".join(sorted(run.samples["system"].unique())) or "none"
        raise UserError(f"run {run.name} has no system {name!r}; it has {known}")
    variants = sorted(rows["variant"].unique())
    if variant and variant not in variants:
        raise UserError(f"run {run.name} has no {name}@{variant}; its variants are {', '.join(variants)}")
    # Two variants at the same point would be paired at random.
    if variant and _filled(rows[rows["variant"] == variant]).duplicated(KEY).any():
        raise UserError(f"run {run.name} has several rows of {name}@{variant} at one point; they cannot be paired")
    if not variant and _filled(rows).duplicated(KEY).any():
        raise UserError(
            f"{name} was run in {len(variants)} variants; name one: {', '.join(f'{name}@{v}' for v in variants)}"
        )
    return Side(run, name, variant, selection=selection)


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Budgets as rounded numbers, so that rows can be joined on them."""
    filled = {c: rows[c].astype(float).round(9).fillna(NO_BUDGET) for c in ("cbr_target", "bits_target")}
    return rows.assign(**filled)


def _chosen(run: Run, selection: Selection) -> pd.DataFrame:
    rows = run.samples
    if selection.figure is not None:
        figures = {figure["id"]: figure for figure in run.figures}
        if selection.figure not in figures:
            hint = did_you_mean(selection.figure, figures, "figures")
            raise UserError(f"--figure {shown(selection.figure)}: run {shown(run.name)} has no such figure; {hint}")
        rows = run.samples_of(figures[selection.figure])
    if selection.channel is not None:
        rows = rows[rows["channel"] == selection.channel]
    if selection.snr_db is not None:
        rows = rows[rows["snr_db"].isin([round(snr, 6) + 0.0 for snr in selection.snr_db])]
    return rows


def _words(selection: Selection) -> str:
    parts = [f"of figure {selection.figure}" if selection.figure else "",
             f"on channel {selection.channel}" if selection.channel else "",
             "at " + ", ".join(f"{snr:g}" for snr in selection.snr_db) + " dB" if selection.snr_db else ""]  # fmt: skip
    return " ".join(part for part in parts if part)


# ---------------------------------------------------------------- which pictures are the same


@dataclass(frozen=True)
class Matched:
    """The rows of two sides, one per picture that both have. notes: what was left out, one line each."""

    rows: pd.DataFrame
    notes: tuple[str, ...]


def match(a: Side, b: Side) -> Matched:
    """Join two sides. In two runs, pictures are the same if the manifests hold the same hashes (see the module)."""
    left, right, notes = a.samples, b.samples, []
    if a.run.directory.resolve() != b.run.directory.resolve():
        left, right, notes = _by_content(a, b)
    texts = {name for name in left if left[name].dtype == object} - {"status", "cell_id", "seed"}
    kept = [name for name in left if name in KEY or (name in right and name not in texts)]
    joined = left[kept].merge(right[[name for name in kept if name in right]], on=KEY, suffixes=("_a", "_b"))
    sizes = (joined["height_a"] == joined["height_b"]) & (joined["width_a"] == joined["width_b"])
    unknown = joined[["height_a", "height_b"]].isna().any(axis=1)
    if not (sizes | unknown).all():
        notes.append(_left_out(joined.loc[~(sizes | unknown), "image_id"], "were measured in other sizes"))
        joined = joined[sizes | unknown]
    notes += _lonely_snrs(left, right, joined)
    return Matched(joined, tuple(notes))


def _by_content(a: Side, b: Side) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The rows of both sides, with pictures named by their content if the manifests know it.

    The name of a folder does not count: the same pictures in another folder are the same.
    """
    notes: list[str] = []
    sides = []
    shared = set(a.samples["dataset"]) & set(b.samples["dataset"])
    unknown = set()
    for this, other in ((a, b), (b, a)):
        rows = this.samples.copy()
        folders = rows["dataset"].str.startswith("folder:")
        for dataset in rows["dataset"].unique():
            own, theirs = this.run.picture_hashes(dataset), other.run.picture_hashes(dataset)
            here = rows["dataset"] == dataset
            if dataset.startswith("folder:") and own:
                names = _content_names(own)
                rows.loc[here, "image_id"] = [names.get(name, name) for name in rows.loc[here, "image_id"]]
            elif dataset in shared and own and theirs:
                same = {name for name, sha in own.items() if theirs.get(name) == sha}
                differ = here & rows["image_id"].isin(set(theirs) - same)
                if this is a and differ.any():
                    notes.append(
                        _left_out(rows.loc[differ, "image_id"], f"of {dataset} are other files in the two runs")
                    )
                rows = rows[~differ]
            elif dataset in shared:
                unknown.add(dataset)
        rows.loc[folders.reindex(rows.index), "dataset"] = "folder"
        sides.append(rows)
    if unknown:
        notes.append(
            f"Pictures of {', '.join(sorted(unknown))} are paired by name: a manifest without hashes cannot tell more."
        )
    left, right = sides
    for rows, label, foreign in ((left, a.label, right), (right, b.label, left)):
        own = rows[rows["dataset"] == "folder"]
        alone = own[~own["image_id"].isin(foreign["image_id"])]
        if len(alone):
            names = (a if rows is left else b).samples.loc[alone.index, "image_id"]
            notes.append(_left_out(names, f"of {label} are in no folder of the other run"))
    return left, right, notes


def _content_names(hashes: dict[str, str]) -> dict[str, str]:
    """A name for each picture from its content. Equal files in one folder are numbered in the order of their names."""
    seen: dict[str, int] = {}
    names = {}
    for name in sorted(hashes):
        seen[hashes[name]] = seen.get(hashes[name], 0) + 1
        names[name] = f"{hashes[name]} {seen[hashes[name]]}"
    return names


def _left_out(images: pd.Series, why: str) -> str:
    names = list(dict.fromkeys(images))
    some = ", ".join(shown(name, 60) for name in names[:5]) + (" ..." if len(names) > 5 else "")
    return f"Left out: {len(names)} pictures {why} ({some})."


def _lonely_snrs(left: pd.DataFrame, right: pd.DataFrame, joined: pd.DataFrame) -> list[str]:
    """One line for the SNRs of each side that the other side lacks, per task, data set, channel and budget."""
    notes = []
    for name, rows, other in (("A", left, right), ("B", right, left)):
        for point, own in rows.groupby(POINT, sort=True):
            theirs = other.loc[(other[POINT] == list(point)).all(axis=1), "snr_db"]
            alone = sorted(set(own["snr_db"]) - set(theirs))
            if alone and len(theirs):
                shown_snrs = ", ".join(f"{snr:g}" for snr in alone)
                notes.append(f"Left out: {shown_snrs} dB on {point[2]}, where only {name} has rows.")
    return notes


# ---------------------------------------------------------------- differences


def compare_sides(
    a: Side, b: Side, metric: str | None = None, level: float = LEVEL, matched: Matched | None = None
) -> pd.DataFrame:
    """One row per point that both sides have: the means, a - b with its interval, and the verdict.

    The columns mean_a to n_images are over all pictures, lost ones as the harness painted them. The columns that begin
    with delivered_ are over the pictures that neither side lost. `rests_on` names the reduction that decides the
    verdict. The verdict is "A" or "B" (this side is ahead), "tied" (the interval contains 0), "undecided" (a single
    picture has no interval), or "only A decodes", "only B decodes", "neither decodes" (a side lost every picture).
    `snr_db` is empty in the row over all SNRs together. outages_a and outages_b count pictures that were lost at least
    once. same_noise, uses_a, uses_b, bits_a and bits_b show whether the comparison was fair.

    level: of the intervals. matched: the joined rows, if the caller has them. Raises UserError for a metric that
    samples.csv does not have.
    """
    if metric is not None and quantity(metric).column == metric:  # not made of other columns
        if metric not in a.run.samples or a.run.samples[metric].dtype == object:
            raise UserError(
                f"--metric {metric}: not a number in samples.csv; {', '.join(METRICS.names())}, mse, n_uses are"
            )
    joined = (matched or match(a, b)).rows
    rows: list[dict[str, Any]] = []
    for point, group in joined.groupby(POINT, sort=True):
        default = default_metric(point[0])
        snrs = sorted(group["snr_db"].unique())
        pairs = _Pairs(a, b, dict(zip(POINT, point, strict=True)), group, metric or default, level)
        found = pairs.rows([[snr] for snr in snrs] + ([snrs] if len(snrs) > 1 else []))
        if metric not in (None, default) and all(np.isnan(row["mean_a"]) and np.isnan(row["mean_b"]) for row in found):
            continue  # the metric belongs to the other task
        rows += found
    return pd.DataFrame(rows)


class _Pairs:
    """The joined rows of one operating point, over its SNRs."""

    def __init__(self, a: Side, b: Side, point: dict[str, Any], group: pd.DataFrame, metric: str, level: float):
        self.a, self.b, self.point, self.group, self.metric, self.level = a, b, point, group, metric, level

    def rows(self, levels: Sequence[list[float]]) -> list[dict[str, Any]]:
        """One row of the table for each list of SNRs."""
        snrs = self.group["snr_db"].to_numpy()
        chosen = [np.isin(snrs, level) for level in levels]
        ok = ((self.group["status_a"] == "ok") & (self.group["status_b"] == "ok")).to_numpy()
        parts = [self._estimates(chosen, np.ones(len(ok), bool)), self._estimates(chosen, ok)]
        return [self._row(*row) for row in zip(levels, (self.group[rows] for rows in chosen), *parts, strict=True)]

    def _row(self, snrs: list[float], group: pd.DataFrame, over_all: tuple, of_both: tuple) -> dict[str, Any]:
        lost_a, lost_b = group["status_a"] == "outage", group["status_b"] == "outage"
        budget = {c: (np.nan if self.point[c] == NO_BUDGET else self.point[c]) for c in ("cbr_target", "bits_target")}
        mean_a, mean_b, gap = over_all
        return {
            "a": self.a.label,
            "b": self.b.label,
            **self.point,
            **budget,
            "snr_db": snrs[0] if len(snrs) == 1 else np.nan,
            "metric": self.metric,
            "mean_a": mean_a,
            "mean_b": mean_b,
            "difference": gap.mean,
            "ci_low": gap.low,
            "ci_high": gap.high,
            "ci_level": self.level,
            "n_images": gap.n,
            "verdict": self._verdict(gap, bool(lost_a.all()), bool(lost_b.all())),
            "rests_on": ALL,
            "delivered_mean_a": of_both[0],
            "delivered_mean_b": of_both[1],
            "delivered_difference": of_both[2].mean,
            "delivered_ci_low": of_both[2].low,
            "delivered_ci_high": of_both[2].high,
            "delivered_n_images": of_both[2].n,
            "delivered_verdict": self._verdict(of_both[2], False, False) if of_both[2].n else "",
            "outages_a": group.loc[lost_a, "image_id"].nunique(),
            "outages_b": group.loc[lost_b, "image_id"].nunique(),
            "uses_a": group["n_uses_a"].mean(),
            "uses_b": group["n_uses_b"].mean(),
            "bits_a": group["bits_a"].mean(),
            "bits_b": group["bits_b"].mean(),
            "same_noise": bool((group["seed_a"] == group["seed_b"]).all()),
        }

    def _verdict(self, gap: Interval, none_a: bool, none_b: bool) -> str:
        if none_a or none_b:
            return "neither decodes" if none_a and none_b else "only B decodes" if none_a else "only A decodes"
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
        codes, names = pd.factorize(self.group["image_id"], sort=True)
        sides = [self.group[f"{column}_{s}"].to_numpy(float) for s in "ab"]
        values = []
        for rows in chosen:
            # First the mean over SNRs and repetitions, because pictures are resampled, not draws of noise.
            both = np.stack([_by_picture(codes, side, rows & kept, len(names)) for side in sides], axis=1)
            values.append(both[~np.isnan(both).any(axis=1)])
        if of_mean_error(self.metric):
            return [_psnr_of_means(part, self.level) for part in values]
        gaps = bootstrap_means([np.round(part[:, 0] - part[:, 1], DECIMALS) for part in values], self.level)
        means = [part.mean(axis=0) if len(part) else (np.nan, np.nan) for part in values]
        return [(float(a), float(b), gap) for (a, b), gap in zip(means, gaps, strict=True)]

    def _ratios(self, chosen: list[np.ndarray], kept: np.ndarray, whole: str) -> list[tuple[float, float, Interval]]:
        group = self.group[kept]
        if group.empty or self.point["task"] != "segmentation":
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
            found.append(paired_miou(*((i[at][:, of], u[at][:, of]) for i, u in sides), level=self.level))
        return found


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


def class_counts(confusion: pd.DataFrame, wanted: pd.DataFrame, whole: str = "union") -> tuple[np.ndarray, np.ndarray]:
    """Intersections and unions in pixels, (SNRs, images, classes) each, of the rows in `wanted`.

    confusion: rows of confusion.csv.
    wanted: the columns cell_id, image_id, snr_db, rep. Repetitions are summed. Images are in the order of their ids.
    whole: the column that is returned instead of the unions.
    """
    rows = confusion.merge(wanted, on=["cell_id", "image_id", "snr_db", "rep"])
    if rows.empty:
        nothing = np.zeros((wanted["snr_db"].nunique(), wanted["image_id"].nunique(), 0))
        return nothing, nothing
    cube = rows.pivot_table(
        index=["snr_db", "image_id"], columns="class", values=["intersection", whole], aggfunc="sum", fill_value=0
    )
    index = pd.MultiIndex.from_product([sorted(wanted["snr_db"].unique()), sorted(wanted["image_id"].unique())])
    cube = cube.reindex(index, fill_value=0)
    shape = (len(index.levels[0]), len(index.levels[1]), -1)
    return cube["intersection"].to_numpy(float).reshape(shape), cube[whole].to_numpy(float).reshape(shape)


def paired_miou(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float, Interval]:
    """mIoU of both sides, and the interval of a - b. Each side is (intersections, unions), (SNRs, images, classes)
    each.

    Pictures are resampled for both sides at once. The mIoU of the resampled set is computed at each SNR, then averaged
    over SNRs. The sides may differ in their number of classes: a class that one side never had has no union there.
    """
    n = a[0].shape[1]
    mean_a, mean_b = (float(np.mean(mean_iou(i.sum(axis=1), u.sum(axis=1)))) for i, u in (a, b))
    if n < 2:
        return mean_a, mean_b, Interval(mean_a - mean_b, np.nan, np.nan, np.nan, n)
    parts = [np.moveaxis(part, 0, 1).reshape(n, -1) for part in (*a, *b)]
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    sums = np.split(resampled_sums(np.concatenate(parts, axis=1), resamples, 0), ends, axis=1)
    i_a, u_a, i_b, u_b = (s.reshape(resamples, len(whole), -1) for s, whole in zip(sums, (*a, *b), strict=True))
    gaps = mean_iou(i_a, u_a).mean(axis=1) - mean_iou(i_b, u_b).mean(axis=1)
    gaps = gaps[~np.isnan(gaps)]
    if len(gaps) < 2:
        return mean_a, mean_b, Interval(mean_a - mean_b, np.nan, np.nan, np.nan, n)
    return mean_a, mean_b, Interval(mean_a - mean_b, float(gaps.std(ddof=1)), *percentiles(gaps, n, level), n)


def whole_curves(points: pd.DataFrame) -> pd.DataFrame:
    """BD gain (dB of PSNR, or points of another metric) and SNR shift (dB) of a over b, from the rows of
    `compare_sides`.

    Both curves are over the pictures that both sides delivered, so neither has a cliff. snr_shift_db is positive if a
    needs less SNR than b for the same quality.
    """
    rows = []
    for key, group in points.dropna(subset=["snr_db"]).groupby(["a", "b", *POINT, "metric"], dropna=False, sort=False):
        snr = group["snr_db"].to_numpy(float)
        ours, theirs = (group[f"delivered_mean_{s}"].to_numpy(float) for s in "ab")
        if lower_is_better(group["metric"].iloc[0]):
            ours, theirs = -ours, -theirs
        rows.append(
            {
                **dict(zip(["a", "b", *POINT, "metric"], key, strict=True)),
                "bd_gain": bd_psnr(snr, theirs, snr, ours),
                "snr_shift_db": bd_snr(snr, theirs, snr, ours),
            }
        )
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- which sides


def compare(
    a: str,
    b: str | None = None,
    baseline: str | None = None,
    run: Path | str | None = None,
    metric: str | None = None,
    selection: Selection = Selection(),  # noqa: B008  (frozen)
) -> pd.DataFrame:
    """The table of `python -m bench compare A B [--run RUN] [--baseline X]`. Its `attrs["notes"]` are lines for the
    user.

    A, B and X are systems of `run` (`system` or `system@variant`; default: the last run), or of another run
    (`RUN:system`). Or A and B are two runs, each a folder or a name under results/. Then every system that both have is
    compared with itself (A's rows minus B's), and X is a system of both. A single run needs `baseline`: every other
    system of it minus that one. With `baseline`, A and B are also compared with it. Raises UserError if nothing can be
    joined.
    """
    tables, notes = [], []
    for first, second in _pairs_of(a, b, baseline, run, selection):
        matched = match(first, second)
        tables.append(compare_sides(first, second, metric, matched=matched))
        notes += matched.notes
    found = [table for table in tables if len(table)]
    if not found:
        raise UserError(" ".join(["nothing to compare: the two sides share no picture at any operating point.",
                                  *dict.fromkeys(notes)]))  # fmt: skip
    table = pd.concat(found, ignore_index=True)
    table.attrs["notes"] = list(dict.fromkeys(notes))
    return table


def _pairs_of(
    a: str, b: str | None, baseline: str | None, run: Path | str | None, selection: Selection
) -> list[tuple[Side, Side]]:
    named = [None if name is None else find_system(name) for name in (a, b)]
    runs = [place[0] if place is not None and place[0] is not None and not place[1] else None for place in named]
    if runs[0] and runs[1]:
        first, second = map(Run.open, runs)
        shared = sorted(set(first.samples["system"]) & set(second.samples["system"]))
        pairs = [(side(first, name, selection), side(second, name, selection)) for name in shared]
        if baseline:
            pairs += [(side(r, name, selection), side(r, baseline, selection))
                      for r in (first, second) for name in shared if name != baseline]  # fmt: skip
        return pairs
    if runs[0] and b is None:
        if baseline is None:
            raise UserError(f"compare {shown(a)}: name a second run or system, or --baseline SYSTEM")
        opened = Run.open(runs[0])
        return [(side(opened, n, selection), side(opened, baseline, selection))
                for n in sorted(set(opened.samples["system"])) if n != baseline]  # fmt: skip
    if runs[0] or runs[1]:
        raise UserError("compare takes two systems or two runs, not one of each; a system of another run is RUN:SYSTEM")
    if b is None and baseline is None:
        raise UserError(f"compare {shown(a)}: name a second system, or --baseline SYSTEM")
    asked = [name for name in (a, b, baseline) if name is not None]
    here = [name for name in asked if find_system(name)[0] is None]
    at_hand = Run.open(find_run(None if run is None else str(run))) if here else None
    sides = [_side_of(name, at_hand, selection) for name in asked]
    other = sides.pop() if baseline else None
    pairs = [(sides[0], sides[1])] if b is not None else []
    return pairs + [(s, other) for s in sides if other is not None and s.source != other.source]


def _side_of(name: str, at_hand: Run | None, selection: Selection) -> Side:
    """`system` of the run at hand, or `RUN:system` of another run."""
    folder, system = find_system(name)
    if folder is not None:
        return replace(side(Run.open(folder), system, selection), foreign=True)
    if at_hand is None:
        raise UserError(f"compare {shown(name)}: no run is at hand; name one with --run")
    return side(at_hand, system, selection)
