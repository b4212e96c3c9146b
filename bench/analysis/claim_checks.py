"""The checks behind the paper's statements: each reads the rows of a run, and decides whether a statement holds there.

`bench.analysis.claims` names the statements and calls the checks. A check returns a `Finding`, or raises `Missing` if
the run lacks the rows that it needs. Statements about PSNR are checked under both reductions: the mean of PSNR over
pictures, and the PSNR of the mean squared error. If these disagree, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.differences import class_counts, compare_sides, paired_miou
from bench.analysis.intervals import LEVEL, RESAMPLES, Interval, percentiles, rate_over_images, resampled_sums
from bench.analysis.quantity import of_mean_error, quantity
from bench.analysis.sides import KEY, Side, side
from bench.measure.metrics.image import psnr_db
from bench.results.reader import Run

HOLDS, CONTRADICTED, UNDECIDED = "holds", "contradicted", "undecided"
CALIBRATED = "calibrated"
OURS = "gensc"
RECONSTRUCTION_RIVALS = ("witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "jpeg-ldpc-adaptive")
SEGMENTATION_RIVALS = ("deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn")
FIGURES = {"low": "fig4", "high": "fig5", "segmentation": "fig7"}
LOW_SNR_DB = 6.0  # "when SNR is low" in the paper, which gives no number: points up to here
STABLE_MIOU = 0.02  # "will stabilize" in the paper: within this mIoU of the value at the highest SNR
STATISTIC_DECIMALS = 9  # areas and slopes are rounded to this many decimals: over many points, rounding errors add up
OF_MEAN_MSE = "psnr_of_mean_mse_db"
REDUCTIONS = {"psnr_db": "mean PSNR", OF_MEAN_MSE: "PSNR of the mean MSE"}


class Missing(Exception):
    """The run lacks the rows that a check needs. The message says which."""


@dataclass(frozen=True)
class Finding:
    """The result of a check: the verdict, one line of numbers per comparison, and the systems that it depends on."""

    verdict: str
    numbers: tuple[str, ...]
    systems: frozenset[str] = frozenset()


Check = Callable[[Run], Finding]


@dataclass
class _Tally:
    """The comparisons of one check.

    holds, against: one entry per comparison: whether it supports the statement, whether it contradicts it.
    complete: False if something that the statement covers is missing.
    """

    holds: list[bool] = field(default_factory=list)
    against: list[bool] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    systems: set[str] = field(default_factory=set)
    complete: bool = True

    def finding(self) -> Finding:
        if any(self.against):
            verdict = CONTRADICTED
        else:
            verdict = HOLDS if self.holds and all(self.holds) and self.complete else UNDECIDED
        return Finding(verdict, tuple(self.numbers), frozenset(self.systems))


def both_reductions(check: Callable[[Run, str], Finding]) -> Check:
    """Turn a check of PSNR into one that runs under both reductions. If the two verdicts differ, it is undecided."""

    def combined(run: Run) -> Finding:
        found = {metric: check(run, metric) for metric in REDUCTIONS}
        first = found["psnr_db"]
        verdicts = {finding.verdict for finding in found.values()}
        by = ", ".join(f"by {REDUCTIONS[metric]}: {finding.verdict}" for metric, finding in found.items())
        verdict = first.verdict if len(verdicts) == 1 else UNDECIDED
        return replace(first, verdict=verdict, numbers=(*first.numbers, by))

    return combined


# ---------------------------------------------------------------- the rows of a figure


def _figure(run: Run, name: str) -> dict[str, Any]:
    for figure in run.figures:
        if figure["id"] == name and len(run.samples_of(figure)):
            return figure
    raise Missing(f"the run has no rows of {name}")


def _at_point_of(run: Run, figure: dict[str, Any]) -> Run:
    """The run with only a figure's operating points, and with every system that any figure ran there."""
    names = sorted({name for other in run.figures for name in other["systems"]})
    return run.cut_to({**figure, "systems": names})


def _sides(run: Run, name: str, rivals: tuple[str, ...], tally: _Tally) -> list[tuple[Side, Side]]:
    """(ours, rival) for each rival in the run, and for each training of the two. Absent rivals are noted in `tally`."""
    part = _at_point_of(run, _figure(run, name))
    here = set(part.samples["system"])
    if OURS not in here:
        raise Missing(f"{name} was run without {OURS}")
    present = [rival for rival in rivals if rival in here]
    if not present:
        raise Missing(f"{name} was run without {', '.join(rivals)}")
    ours = _trainings(part, OURS, tally)
    pairs = [(own, other) for rival in present for other in _trainings(part, rival, tally) for own in ours]
    absent = [rival for rival in rivals if rival not in here]
    tally.complete &= not absent
    tally.numbers += [f"{rival}: not in the run" for rival in absent]
    tally.systems |= {OURS, *present}
    return pairs


def _trainings(part: Run, system: str, tally: _Tally) -> list[Side]:
    """One side per variant if the system was run in several variants (other seeds of training), otherwise a single
    side.
    """
    rows = part.samples[part.samples["system"] == system]
    if not rows.duplicated(KEY).any():
        return [side(part, system)]
    variants = sorted(rows["variant"].unique())
    column = "psnr_db" if rows["psnr_db"].notna().any() else "miou"
    spread = rows.groupby("variant")[column].mean().std(ddof=1)
    tally.numbers.append(f"{system}: {len(variants)} trainings, the means of {column} spread by {spread:.3f} (std)")
    return [side(part, f"{system}@{variant}") for variant in variants]


# ---------------------------------------------------------------- ahead at every SNR


def best(name: str, rivals: tuple[str, ...], metric: str) -> Callable[[Run], Finding]:
    """A check: our system is ahead of every rival at every SNR, over all pictures. PSNR is checked under both
    reductions.

    name: of the figure. rivals: names of systems.
    """

    def check(run: Run, metric: str = metric) -> Finding:
        tally = _Tally()
        pairs = _sides(run, name, rivals, tally)
        tables = [_points(compare_sides(ours, rival, metric)) for ours, rival in pairs]
        looked = sum(int((table["n_images"] > 0).sum()) for table in tables)
        record = quantity(metric)
        scale, unit = record.scale, "points" if record.unit == "%" else record.unit
        lines = []
        for (ours, rival), table in zip(pairs, tables, strict=True):
            silent = table["verdict"].str.contains("decodes")
            compared = (table["n_images"] > 0) & ~silent
            ahead, behind = table.loc[compared, "ci_low"] > 0, table.loc[compared, "ci_high"] < 0
            behind_at = int(behind.sum())
            if behind_at:
                strict = _points(compare_sides(ours, rival, metric, level=1 - (1 - LEVEL) / looked))
                behind = strict.loc[compared, "ci_high"] < 0
            # If only one of the two decodes, it is ahead. If neither does, nobody is.
            tally.holds += [*ahead, *(v == "only A decodes" for v in table.loc[silent, "verdict"])]
            tally.against += [*behind, *(v == "only B decodes" for v in table.loc[silent, "verdict"])]
            lost = int((table["outages_b"] > 0).sum())
            lines.append(
                f"{ours.label} - {rival.label}: "
                + _spread(table[compared], scale, unit, int(ahead.sum()), behind_at)
                + (f"; {rival.label} loses pictures at {lost} SNRs" if lost else "")
            )
        tally.numbers[:0] = lines
        return tally.finding()

    return both_reductions(check) if metric == "psnr_db" else check


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of single SNRs. Raises Missing if the two sides share none."""
    if table.empty:
        raise Missing("the systems share no picture at any SNR")
    return table.dropna(subset=["snr_db"]).reset_index(drop=True)


def _spread(rows: pd.DataFrame, scale: float, unit: str, ahead: int, behind: int) -> str:
    if rows.empty:
        return "no SNR at which both decode"
    low, high = rows.loc[rows["difference"].idxmin()], rows.loc[rows["difference"].idxmax()]
    ends = [
        f"{scale * r['difference']:+.2f} {unit} [{scale * r['ci_low']:+.2f}, {scale * r['ci_high']:+.2f}] "
        f"at {r['snr_db']:g} dB"
        for r in (low, high)
    ]
    return f"from {ends[0]} to {ends[1]}; ahead at {ahead}, behind at {behind} of {len(rows)} SNRs"


# ---------------------------------------------------------------- one number from the gap over SNR


def mean_gap(snrs: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Mean of gaps (resamples, SNRs) over the low SNRs, in dB: (resamples,). NaN if there is no
    low SNR. snrs: (SNRs,).
    """
    low = snrs <= LOW_SNR_DB
    return gaps[:, low].mean(axis=1) if low.any() else np.full(len(gaps), np.nan)


def slope(snrs: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Least-squares slope of gaps (resamples, SNRs) over SNR, in dB per dB: (resamples,). NaN
    for fewer than two SNRs.
    """
    if len(snrs) < 2:
        return np.full(len(gaps), np.nan)
    x = snrs - snrs.mean()
    return (gaps @ x) / (x @ x)


def gap_statistic(name: str, rivals: tuple[str, ...], statistic: Callable, unit: str) -> Check:
    """A check: a statistic of the gap to each rival is above 0, over the SNRs at which both deliver every picture.

    statistic: `mean_gap` or `slope`. unit: of its value, for display. A rival without such SNRs cannot be compared, and
    then the statement cannot hold either.
    """

    def check(run: Run, metric: str) -> Finding:
        tally = _Tally()
        pairs = _sides(run, name, rivals, tally)
        lines = []
        for ours, rival in pairs:
            joined = ours.samples.merge(rival.samples, on=KEY, suffixes=("_a", "_b"))
            value, low, high, strict, n = _estimate(joined, metric, statistic, len(pairs))
            if not n:
                lines.append(f"{ours.label} - {rival.label}: too few SNRs at which both decode; it cannot be compared")
                tally.complete = False
                continue
            tally.holds.append(low > 0)
            tally.against.append(strict < 0)
            lines.append(f"{ours.label} - {rival.label}: {value:+.3f} [{low:+.3f}, {high:+.3f}] {unit}, {n} pictures")
        tally.numbers[:0] = lines
        return tally.finding()

    return both_reductions(check)


def _estimate(
    joined: pd.DataFrame, metric: str, statistic: Callable, comparisons: int
) -> tuple[float, float, float, float, int]:
    """The statistic, its interval, the upper end of the corrected interval, and the number of
    pictures (0: no result).
    """
    column = quantity(metric).column
    nothing = (np.nan,) * 4 + (0,)
    ok = (joined["status_a"] == "ok") & (joined["status_b"] == "ok")
    whole = [snr for snr, good in ok.groupby(joined["snr_db"]) if good.all()]
    rows = joined[joined["snr_db"].isin(whole)]
    if rows.empty:
        return nothing
    tables = [rows.pivot_table(index="image_id", columns="snr_db", values=f"{column}_{s}") for s in "ab"]
    both = pd.concat(tables, axis=1).dropna().to_numpy(float)
    n, snrs = len(both), tables[0].columns.to_numpy(float)
    if n < 2:
        return nothing

    def of_means(means: np.ndarray) -> np.ndarray:
        quality = np.asarray(psnr_db(means)) if of_mean_error(metric) else means
        ours, theirs = np.split(quality, 2, axis=-1)
        return np.round(statistic(snrs, ours - theirs), STATISTIC_DECIMALS)

    value = float(of_means(both.mean(axis=0, keepdims=True))[0])
    draws = of_means(resampled_sums(both, RESAMPLES, 0) / n)
    if np.isnan(value) or np.isnan(draws).any():
        return nothing
    low, high = percentiles(draws, n, LEVEL)
    return value, low, high, percentiles(draws, n, 1 - (1 - LEVEL) / comparisons)[1], n


# ---------------------------------------------------------------- cliffs, stability


def cliff(modulation: str, threshold: float) -> Check:
    """A check: below `threshold` dB most pictures are lost, and from there on most arrive. The interval of the rate
    decides.

    modulation: such as "16qam". The bench chose its code rate so that the cliffs lie where the paper has them. So an
    agreement is called "calibrated"; it is not a finding.
    """

    def check(run: Run) -> Finding:
        rows = run.samples
        names = [f"jpeg-ldpc-{modulation}", f"jpeg-ldpc-{modulation}-fcn"]
        rows = rows[rows["system"].isin(names) & (rows["channel"] == "awgn")]
        if rows.empty:
            raise Missing(f"the run has no rows of {names[0]} on AWGN")
        tally = _Tally()
        for snr, group in rows.groupby("snr_db"):
            lost = (group["status"] == "outage").astype(float)
            rate, _ = rate_over_images(lost.groupby([group["dataset"], group["image_id"]]).mean().to_numpy())
            fails, arrives = rate.low > 0.5, rate.high < 0.5
            below = snr < threshold
            tally.holds.append(fails if below else arrives)
            tally.against.append(arrives if below else fails)
            if abs(snr - threshold) <= 2.5 or tally.against[-1]:
                tally.numbers.append(f"{snr:g} dB: {rate.mean:.0%} lost [{rate.low:.0%}, {rate.high:.0%}] of {rate.n}")
        levels = rows["snr_db"].unique()
        tally.complete = bool((levels < threshold).any() and (levels >= threshold).any())
        if not tally.complete:
            tally.numbers.append(f"the sweep has no SNR on one side of {threshold:g} dB")
        found = tally.finding()
        if found.verdict != HOLDS:
            return found
        why = "the bench's code rate was chosen to give these cliffs, so their place is no independent result"
        return replace(found, verdict=CALIBRATED, numbers=(*found.numbers, why))

    return check


def stable(run: Run) -> Finding:
    """A check: above 0 dB, our mIoU stays within STABLE_MIOU of its value at the highest SNR (a
    test of equivalence).
    """
    figure = _figure(run, FIGURES["segmentation"])
    part = _at_point_of(run, figure)
    tally = _Tally(systems={OURS})
    rows = part.samples[(part.samples["system"] == OURS) & (part.samples["snr_db"] > 0)]
    if rows["snr_db"].nunique() < 2:
        raise Missing(f"fewer than two SNRs above 0 dB of {OURS} in {FIGURES['segmentation']}")
    for training in _trainings(part, OURS, tally):
        _stability(training, tally)
    tally.numbers.insert(0, f"stable means within {100 * STABLE_MIOU:g} points")
    return tally.finding()


def _stability(training: Side, tally: _Tally) -> None:
    rows = training.samples[training.samples["snr_db"] > 0]
    levels = sorted(rows["snr_db"].unique())

    def counts(snr: float) -> tuple[np.ndarray, np.ndarray]:
        wanted = rows.loc[rows["snr_db"] == snr, ["cell_id", "image_id", "snr_db", "rep"]]
        return class_counts(training.confusion, wanted)

    top = counts(levels[-1])
    for snr in levels[:-1]:
        other = counts(snr)
        if other[0].shape[1] != top[0].shape[1]:
            raise Missing("the SNRs were run on different pictures")
        _, _, gap = paired_miou(other, top)
        _, _, strict = paired_miou(other, top, level=1 - (1 - LEVEL) / (len(levels) - 1))
        tally.holds.append(-STABLE_MIOU < gap.low and gap.high < STABLE_MIOU)
        tally.against.append(strict.high < -STABLE_MIOU or strict.low > STABLE_MIOU)
        ends = f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
        tally.numbers.append(f"mIoU at {snr:g} dB less that at {levels[-1]:g} dB: {100 * gap.mean:+.2f} {ends} points")


# ---------------------------------------------------------------- overhead


def overhead(run: Run, metric: str) -> Finding:
    """A check: our system needs fewer channel uses than every rival for equal PSNR, over a sweep of CBR at each SNR.

    A curve is PSNR over log2 of the mean uses, for all pictures. The gap is its mean over the PSNRs that both reach.
    The interval is over resampled pictures.
    """
    swept = _swept(run)
    if not swept:
        raise Missing('every system has one budget; to decide this, sweep over CBR, for example cbr = ["1/48", "1/16"]')
    tally, lines = _Tally(), []
    jobs = [(where, snr, rows, rival) for where, snr, rows in swept for rival in RECONSTRUCTION_RIVALS]
    here = {name for _, _, rows, _ in jobs for name in rows["system"].unique()}
    for where, snr, rows, rival in jobs:
        values, uses = zip(*(_over_uses(rows, name, metric) for name in (OURS, rival)), strict=True)
        at = f"{where} at {snr:g} dB, {OURS} - {rival}"
        if rival not in here:
            continue
        shared = values[0].index.intersection(values[1].index)
        interval, strict = _fewer_uses([v.loc[shared].to_numpy(float) for v in values], uses, metric, len(jobs))
        if np.isnan(interval.low):
            lines.append(f"{at}: no PSNR that both reach")
            tally.complete = False
            continue
        tally.holds.append(interval.high < 0)
        tally.against.append(strict > 0)
        mean, low, high = (100 * (2**x - 1) for x in (interval.mean, interval.low, interval.high))
        lines.append(f"{at}: {mean:+.1f} % [{low:+.1f}, {high:+.1f}] uses for equal PSNR, {interval.n} pictures")
    absent = [rival for rival in RECONSTRUCTION_RIVALS if rival not in here]
    tally.complete &= not absent
    tally.numbers = [*lines, *(f"{rival}: not in the sweep over CBR" for rival in absent)]
    tally.systems = {OURS, *RECONSTRUCTION_RIVALS} & here
    return tally.finding()


def _swept(run: Run) -> list[tuple[str, float, pd.DataFrame]]:
    """(data set, SNR, rows) for each point at which our system was run with two budgets or more, on AWGN."""
    rows = run.samples
    rows = rows[(rows["task"] == "reconstruction") & (rows["channel"] == "awgn") & rows["cbr_target"].notna()]
    found = []
    for (dataset, snr), group in rows.groupby(["dataset", "snr_db"]):
        if group.loc[group["system"] == OURS, "cbr_target"].nunique() >= 2:
            found.append((dataset, snr, group))
    return found


def _over_uses(rows: pd.DataFrame, system: str, metric: str) -> tuple[pd.DataFrame, np.ndarray]:
    """PSNR or MSE of each picture, with one column per budget in order of rising uses; and the mean uses of each
    budget.
    """
    own = rows[rows["system"] == system]
    if own.empty:
        return pd.DataFrame(), np.array([])
    own = own.assign(value=own[quantity(metric).column], budget=own["cbr_target"].round(9))
    table = own.pivot_table(index="image_id", columns="budget", values="value").dropna()
    uses = own.groupby("budget")["n_uses"].mean().reindex(table.columns).to_numpy(float)
    order = np.argsort(uses)
    return table.iloc[:, order], uses[order]


def _fewer_uses(
    values: list[np.ndarray], uses: tuple[np.ndarray, ...], metric: str, comparisons: int
) -> tuple[Interval, float]:
    """Mean of log2 (our uses / theirs) at equal PSNR with its interval, and the lower end of the corrected interval.

    values: (pictures, budgets) of each side. NaN if there is no PSNR at which to compare.
    """
    n = len(values[0])
    nothing = Interval(np.nan, np.nan, np.nan, np.nan, n)
    if n < 2 or min(v.shape[1] for v in values) < 2:
        return nothing, np.nan

    def gap(means: np.ndarray) -> np.ndarray:
        quality = np.asarray(psnr_db(means)) if of_mean_error(metric) else means
        ours, theirs = np.split(quality, [values[0].shape[1]], axis=-1)
        return np.round(log_uses_gap(uses[0], ours, uses[1], theirs), STATISTIC_DECIMALS)

    both = np.concatenate(values, axis=1)
    mean = float(gap(both.mean(axis=0, keepdims=True))[0])
    draws = gap(resampled_sums(both, RESAMPLES, 0) / n)
    strict, _ = percentiles(draws, n, 1 - (1 - LEVEL) / comparisons)
    return Interval(mean, float(draws.std(ddof=1)), *percentiles(draws, n, LEVEL), n), strict


def log_uses_gap(uses_a: np.ndarray, quality_a: np.ndarray, uses_b: np.ndarray, quality_b: np.ndarray) -> np.ndarray:
    """Mean of log2(uses of a / uses of b) over the qualities that both reach, of many curves: (curves,).

    uses_a, uses_b: (budgets,), rising.
    quality_a, quality_b: (curves, budgets). Between two budgets, log2 of the uses is linear in the quality. If the
    quality falls with more uses, the best quality so far counts. If one curve lies wholly above the other, they share
    no quality. Then the least uses of the upper curve are compared with the most uses of the lower one: the upper curve
    saves at least as much.
    """
    q_a, q_b = (np.maximum.accumulate(quality, axis=1) for quality in (quality_a, quality_b))
    u_a, u_b = np.log2(uses_a), np.log2(uses_b)
    low, high = np.maximum(q_a[:, 0], q_b[:, 0]), np.minimum(q_a[:, -1], q_b[:, -1])
    width = np.where(high > low, high - low, 1.0)
    mean = (_area(q_a, u_a, low, high) - _area(q_b, u_b, low, high)) / width
    apart = np.where(q_a[:, 0] >= q_b[:, -1], u_a[0] - u_b[-1], u_a[-1] - u_b[0])
    return np.where(high > low, mean, apart)


def _area(quality: np.ndarray, log_uses: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Integral of the piecewise linear curves log_uses(quality) from low to high, one per row."""
    total = np.zeros(len(quality))
    for left in range(len(log_uses) - 1):
        q0, q1 = quality[:, left], quality[:, left + 1]
        rise = np.where(q1 > q0, (log_uses[left + 1] - log_uses[left]) / np.where(q1 > q0, q1 - q0, 1.0), 0.0)
        start, end = np.clip(q0, low, high), np.clip(q1, low, high)
        total += (end - start) * (log_uses[left] + rise * ((start + end) / 2 - q0))
    return total
