"""Two systems, or two runs, against each other: paired over pictures, an interval a point, a verdict a point.

Rows are joined on (task, data set, image, channel, SNR, budget, repetition), so each difference is one of the same
picture under the same noise. A picture that either side did not decode has no difference; how many there were is a
column, and a point where only one side decodes says so instead of a number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.bd import bd_psnr, bd_snr
from bench.analysis.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    bootstrap_mean,
    paired_difference,
    percentiles,
    resampled_sums,
)
from bench.analysis.summary import LOWER_IS_BETTER
from bench.measure.metrics.scores import mean_iou
from bench.results.find import find_run
from bench.results.reader import POINT, Run
from systems.errors import UserError

KEY = [*POINT, "snr_db", "image_id", "rep"]
DEFAULT_METRIC = {"reconstruction": "psnr_db", "segmentation": "miou"}
RATIOS = {"miou": "union", "pixel_accuracy": "labelled"}  # of sums over the data set: what the pixels are divided by
DECIMALS = 12  # a smaller difference is rounding of the arithmetic, and nobody is ahead by it
NO_BUDGET = -1.0  # stands for an empty budget column while tables are joined: NaN does not equal NaN


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the rows of one system (and variant) of one run."""

    run: Run
    system: str
    variant: str = ""
    foreign: bool = False  # of another run than the one compared in

    @property
    def label(self) -> str:
        """How tables name it."""
        own = self.system + (f"@{self.variant}" if self.variant else "")
        return f"{self.run.name}:{own}" if self.foreign else own

    @property
    def source(self) -> tuple[Path, str, str]:
        """What it is, whatever it is called."""
        return self.run.directory.resolve(), self.system, self.variant

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Rows of samples.csv."""
        return _filled(self._own(self.run.samples))

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Rows of confusion.csv, with the columns of POINT."""
        cells = self.samples[["cell_id", "image_id", *[c for c in POINT if c not in ("dataset", "channel")]]]
        return self._own(self.run.confusion).merge(
            cells.drop_duplicates(["cell_id", "image_id"]), on=["cell_id", "image_id"]
        )

    def _own(self, table: pd.DataFrame) -> pd.DataFrame:
        rows = table[table["system"] == self.system]
        return rows[rows["variant"] == self.variant] if self.variant else rows


def side(run: Run, system: str) -> Side:
    """`system`, or `system@variant` where the run has several variants of it. UserError where the run lacks it."""
    name, _, variant = system.partition("@")
    rows = run.samples[run.samples["system"] == name]
    if rows.empty:
        known = ", ".join(sorted(run.samples["system"].unique())) or "none"
        raise UserError(f"run {run.name} has no system {name!r}; it has {known}")
    variants = sorted(rows["variant"].unique())
    if variant and variant not in variants:
        raise UserError(f"run {run.name} has no {name}@{variant}; its variants are {', '.join(variants)}")
    # A point may be run in one variant a figure; two variants at one point would pair at random.
    if variant and _filled(rows[rows["variant"] == variant]).duplicated(KEY).any():
        raise UserError(f"run {run.name} has several rows of {name}@{variant} at one point; they cannot be paired")
    if not variant and _filled(rows).duplicated(KEY).any():
        raise UserError(
            f"{name} was run in {len(variants)} variants; name one: {', '.join(f'{name}@{v}' for v in variants)}"
        )
    return Side(run, name, variant)


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{c: rows[c].astype(float).fillna(NO_BUDGET) for c in ("cbr_target", "bits_target")})


def compare_sides(a: Side, b: Side, metric: str | None = None, level: float = LEVEL) -> pd.DataFrame:
    """One row a point that both sides have: means, a - b with its interval, and the verdict.

    verdict: "A", "B" (ahead), "tied" (the interval spans 0), "undecided" (one picture has no interval), "only A
    decodes", "only B decodes", "neither decodes". `snr_db` is empty in the row that takes all points together.
    outages_a, outages_b count pictures lost at least once. Columns same_noise and uses_a, uses_b say whether the
    comparison was a fair one.
    """
    if metric not in (None, "miou") and (metric not in a.run.samples or a.run.samples[metric].dtype == object):
        raise UserError(
            f"--metric {metric}: not a number in samples.csv; psnr_db, ms_ssim, mse, miou, pixel_accuracy, n_uses are"
        )
    joined = a.samples.merge(b.samples, on=KEY, suffixes=("_a", "_b"))
    rows = []
    for point, group in joined.groupby(POINT, sort=True):
        chosen = metric or DEFAULT_METRIC[point[0]]
        pairs = _Pairs(a, b, dict(zip(POINT, point, strict=True)), group, chosen, level)
        levels = [pairs.row([snr]) for snr in sorted(group["snr_db"].unique())]
        if (
            all(np.isnan(row["mean_a"]) and np.isnan(row["mean_b"]) for row in levels)
            and chosen != DEFAULT_METRIC[point[0]]
        ):
            continue  # a metric of the other task
        rows += levels
        shared = [row["snr_db"] for row in levels if row["n_images"] > 0]
        if len(shared) > 1:
            rows.append(pairs.row(shared))
    return pd.DataFrame(rows)


class _Pairs:
    """The joined rows of one operating point, over its SNRs."""

    def __init__(self, a: Side, b: Side, point: dict, group: pd.DataFrame, metric: str, level: float):
        self.a, self.b, self.point, self.group, self.metric, self.level = a, b, point, group, metric, level

    def row(self, snrs: list[float]) -> dict:
        """One line of the table: one SNR, or several together."""
        group = self.group[self.group["snr_db"].isin(snrs)]
        lost_a, lost_b = group["status_a"] == "outage", group["status_b"] == "outage"
        both = group[(group["status_a"] == "ok") & (group["status_b"] == "ok")]
        mean_a, mean_b, gap = self._ratios(both) if self.metric in RATIOS else self._means(both)
        if gap.n == 0:
            verdict = {
                (True, True): "neither decodes",
                (True, False): "only B decodes",
                (False, True): "only A decodes",
            }.get((bool(lost_a.any()), bool(lost_b.any())), "undecided")
        else:
            sign = -1 if self.metric in LOWER_IS_BETTER else 1
            verdict = {"higher": "AB"[sign < 0], "lower": "BA"[sign < 0]}.get(gap.decision, gap.decision)
        budget = {c: (np.nan if self.point[c] == NO_BUDGET else self.point[c]) for c in ("cbr_target", "bits_target")}
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
            "verdict": verdict,
            "outages_a": group.loc[lost_a, "image_id"].nunique(),
            "outages_b": group.loc[lost_b, "image_id"].nunique(),
            "uses_a": group["n_uses_a"].mean(),
            "uses_b": group["n_uses_b"].mean(),
            "same_noise": bool((group["seed_a"] == group["seed_b"]).all()),
        }

    def _means(self, both: pd.DataFrame) -> tuple[float, float, Interval]:
        # Mean over SNRs and repetitions first: pictures, not draws of noise, are what is sampled.
        values = both.groupby("image_id")[[f"{self.metric}_a", f"{self.metric}_b"]].mean().dropna().to_numpy(float)
        if not len(values):
            return np.nan, np.nan, bootstrap_mean(np.array([]))
        gap = paired_difference(
            np.round(values[:, 0] - values[:, 1], DECIMALS), np.zeros(len(values)), level=self.level
        )
        return float(values[:, 0].mean()), float(values[:, 1].mean()), gap

    def _ratios(self, both: pd.DataFrame) -> tuple[float, float, Interval]:
        if both.empty or self.point["task"] != "segmentation":
            return np.nan, np.nan, bootstrap_mean(np.array([]))
        key = ["image_id", "snr_db", "rep"]
        counts = [
            class_counts(s.confusion, both[[*key, cell]].rename(columns={cell: "cell_id"}), RATIOS[self.metric])
            for s, cell in ((self.a, "cell_id_a"), (self.b, "cell_id_b"))
        ]
        if self.metric == "pixel_accuracy":  # a ratio of sums is the IoU of one class
            counts = [tuple(pixels.sum(axis=2, keepdims=True) for pixels in count) for count in counts]
        return paired_miou(*counts, level=self.level)


def class_counts(confusion: pd.DataFrame, wanted: pd.DataFrame, whole: str = "union") -> tuple[np.ndarray, np.ndarray]:
    """Intersections and unions in pixels, (SNRs, images, classes) each, of the rows that `wanted` names.

    wanted: columns cell_id, image_id, snr_db, rep. Repetitions are summed. Images are in order of their ids.
    whole: the column that is given in the place of the unions.
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
    """mIoU of both sides and the interval of a - b; each is (intersections, unions), (SNRs, images, classes).

    Pictures are resampled for both sides at once, the set's mIoU taken anew at each SNR, then averaged over SNRs.
    Classes may differ in number between the sides: a class that one side never met has no union there.
    """
    n = a[0].shape[1]

    mean_a, mean_b = (float(np.mean(mean_iou(i.sum(axis=1), u.sum(axis=1)))) for i, u in (a, b))
    if n < 2:
        return mean_a, mean_b, Interval(mean_a - mean_b, np.nan, np.nan, np.nan, n)
    parts = [np.moveaxis(part, 0, 1).reshape(n, -1) for part in (*a, *b)]
    sums = np.split(
        resampled_sums(np.concatenate(parts, axis=1), resamples, 0), np.cumsum([p.shape[1] for p in parts])[:-1], axis=1
    )
    sums = [part.reshape(resamples, len(whole), -1) for part, whole in zip(sums, (*a, *b), strict=True)]
    gaps = mean_iou(sums[0], sums[1]).mean(axis=1) - mean_iou(sums[2], sums[3]).mean(axis=1)
    gaps = gaps[~np.isnan(gaps)]
    return mean_a, mean_b, Interval(mean_a - mean_b, float(gaps.std(ddof=1)), *percentiles(gaps, n, level), n)


def whole_curves(points: pd.DataFrame) -> pd.DataFrame:
    """BD gain (dB of PSNR, or points of another metric) and SNR shift (dB) of a over b, from `compare_sides`' rows."""
    rows = []
    for key, group in points.dropna(subset=["snr_db"]).groupby(["a", "b", *POINT, "metric"], dropna=False, sort=False):
        curves = (
            (group["snr_db"].to_numpy(float), group["mean_b"].to_numpy(float)),
            (group["snr_db"].to_numpy(float), group["mean_a"].to_numpy(float)),
        )
        rows.append(
            {
                **dict(zip(["a", "b", *POINT, "metric"], key, strict=True)),
                "bd_gain": bd_psnr(*curves[0], *curves[1]),
                "snr_shift_db": bd_snr(*curves[0], *curves[1]),
            }
        )
    return pd.DataFrame(rows)


def compare(
    a: str, b: str | None = None, baseline: str | None = None, run: Path | str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """The table behind `python -m bench compare A B [--run RUN] [--baseline X]`.

    A, B and X are systems of `run` (`system` or `system@variant`; default: the last run) or of another, `RUN:system`.
    Or A and B are two runs, each a folder or a name under results/: then every system that both have is compared with
    itself, A's rows minus B's, and X is a system of both. A run alone needs `baseline`: every other system of it minus
    that one. With `baseline`, A and B are compared with it as well. UserError where nothing can be joined.
    """
    pairs: list[tuple[Side, Side]] = []
    folders = [_run_folder(name) for name in (a, b)]
    runs = [folder is not None for folder in folders]
    if all(runs):
        first, second = map(Run.open, folders)
        shared = sorted(set(first.samples["system"]) & set(second.samples["system"]))
        pairs = [(side(first, name), side(second, name)) for name in shared]
        if baseline:
            pairs += [
                (side(r, name), side(r, baseline)) for r in (first, second) for name in shared if name != baseline
            ]
    elif runs[0] and b is None:
        if baseline is None:
            raise UserError(f"compare {a}: name a second run or system, or --baseline SYSTEM")
        opened = Run.open(folders[0])
        pairs = [
            (side(opened, n), side(opened, baseline)) for n in sorted(set(opened.samples["system"])) if n != baseline
        ]
    elif any(runs):
        raise UserError("compare takes two systems or two runs, not one of each; a system of another run is RUN:SYSTEM")
    else:
        if b is None and baseline is None:
            raise UserError(f"compare {a}: name a second system, or --baseline SYSTEM")
        asked = [name for name in (a, b, baseline) if name is not None]
        at_hand = None if all(":" in name for name in asked) else Run.open(find_run(None if run is None else str(run)))
        sides = [_side_of(name, at_hand) for name in asked]
        other = sides.pop() if baseline else None
        pairs = [tuple(sides)] if b is not None else []
        pairs += [(s, other) for s in sides if other is not None and s.source != other.source]
    tables = [compare_sides(first, second, metric) for first, second in pairs]
    table = (
        pd.concat([t for t in tables if len(t)], ignore_index=True) if any(len(t) for t in tables) else pd.DataFrame()
    )
    if table.empty:
        raise UserError("nothing to compare: the two sides share no picture at any operating point")
    return table


def _side_of(name: str, at_hand: Run | None) -> Side:
    """`system` of the run at hand, or `RUN:system` of another."""
    run, colon, system = name.rpartition(":")
    if not colon:
        return side(at_hand, name)
    if not run or not system:
        raise UserError(f"compare {name}: a system of another run is RUN:SYSTEM, as in my_run:gensc")
    return replace(side(Run.open(find_run(run)), system), foreign=True)


def _run_folder(name: str | None) -> Path | None:
    """The folder of the run so named; None where there is none, so that the name is a system's."""
    try:
        return None if name is None else find_run(name)
    except UserError:
        return None


def report(points: pd.DataFrame) -> str:
    """The comparison as text for a terminal."""
    lines = []
    for key, group in points.groupby(["a", "b", *POINT, "metric"], dropna=False, sort=False):
        a, b, task, dataset, channel, cbr, bits, metric = key
        scale, unit = (
            (100.0, "points") if metric in ("miou", "pixel_accuracy") else (1.0, "dB" if metric.endswith("_db") else "")
        )
        budget = f"CBR {cbr:.4g}" if not np.isnan(cbr) else f"{bits / 1000:g} Kbits"
        lines.append(f"A = {a}, B = {b}   {metric}, {task}, {dataset}, {channel}, {budget}")
        lines.append(f"{'SNR (dB)':>9} {'A':>9} {'B':>9} {'A - B':>9}   {'95 % interval':<20} {'n':>4}  verdict")
        for row in group.itertuples():
            snr = "all" if np.isnan(row.snr_db) else f"{row.snr_db:g}"
            number = ["" if np.isnan(x) else f"{scale * x:.3f}" for x in (row.mean_a, row.mean_b)]
            gap = "" if np.isnan(row.difference) else f"{scale * row.difference:+.3f}"
            interval = "" if np.isnan(row.ci_low) else f"[{scale * row.ci_low:+.3f}, {scale * row.ci_high:+.3f}]"
            lost = [f"{side} lost {count}" for side, count in (("A", row.outages_a), ("B", row.outages_b)) if count]
            verdict = {"A": f"{a} ahead", "B": f"{b} ahead"}.get(row.verdict, row.verdict)
            verdict = verdict if a != b else {"A": "A ahead", "B": "B ahead"}.get(row.verdict, row.verdict)
            lines.append(
                f"{snr:>9} {number[0]:>9} {number[1]:>9} {gap:>9}   {interval:<20} {row.n_images:>4}  "
                + verdict
                + (f" ({', '.join(lost)})" if lost else "")
            )
        for row in whole_curves(group).itertuples():
            shift = "" if np.isnan(row.snr_shift_db) else f", the same quality at {row.snr_shift_db:+.2f} dB less SNR"
            if not np.isnan(row.bd_gain):
                lines.append(f"Over the whole curve: {scale * row.bd_gain:+.3f} {unit}{shift}")
        if not group["same_noise"].all():
            lines.append("Note: the two sides met different noise (other seeds).")
        if (group["uses_a"] - group["uses_b"]).abs().max() > 0.02 * group["uses_a"].max():
            lines.append(
                f"Note: channel uses differ, A {group['uses_a'].mean():.0f}, B {group['uses_b'].mean():.0f} a picture."
            )
        lines.append("")
    return "\n".join(lines)
