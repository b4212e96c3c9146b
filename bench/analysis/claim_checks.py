"""The checks behind the paper's statements: each reads the rows of a run, and decides whether a statement holds there.

`bench.analysis.claims` has the statements and their thresholds, and calls the checks. A check returns a `Finding`, or
raises `Missing` if the run lacks the rows that it needs. Statements about PSNR are checked under both reductions: the
mean of PSNR over pictures, and the PSNR of the mean squared error. If these disagree, nothing is decided.
`bench.analysis.claim_overhead` has the check of the overhead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from bench.analysis.claim_evidence import (
    CALIBRATED,
    FEWEST_SNRS,
    FIGURES,
    HOLDS,
    NO_NUMBER,
    OURS,
    STATISTIC_DECIMALS,
    Check,
    Evidence,
    Finding,
    Missing,
    Tally,
    absent_snrs,
    at_point_of,
    both_reductions,
    figure_named,
    note_lacking,
    pairs_of,
    too_few,
    trainings_of,
    without_us,
)
from bench.analysis.compare_numbers import Pixels, class_counts, compare_sides, paired_miou
from bench.analysis.intervals import LEVEL, RESAMPLES, percentiles, rate_over_images, resampled_sums
from bench.analysis.paper_points import asked_as_in_the_paper, at_a_paper_point, rests_on, snrs_in_words
from bench.analysis.quantity import of_mean_error, quantity
from bench.analysis.sides import Side
from bench.analysis.training_spread import in_words, of_difference, spread_of_statistic
from bench.measure.metrics.image import psnr_db
from bench.results.reader import POINT, Run, points_without_mean

# ---------------------------------------------------------------- ahead at every SNR


def best(name: str, rivals: tuple[str, ...], metric: str) -> Callable[[Run], Finding]:
    """A check: our system is ahead of every rival at every SNR, over all pictures. PSNR is checked under both
    reductions.

    name: of the figure. rivals: names of systems.
    """

    def check(evidence: Evidence, metric: str) -> Finding:
        tally = evidence.tally()
        tables = [_points(compare_sides(p.ours, p.rival, metric, matched=p.joined)) for p in evidence.pairs]
        looked = sum(int((table["n_images"] > 0).sum()) for table in tables)
        tally.complete &= not any(table[["failed_a", "failed_b"]].to_numpy().any() for table in tables)
        record = quantity(metric)
        scale, unit = record.scale, "points" if record.unit == "%" else record.unit
        lines = []
        for pair, table in zip(evidence.pairs, tables, strict=True):
            silent = table["verdict"].str.contains("decodes")
            compared = (table["n_images"] > 0) & ~silent
            ahead, behind = (table.loc[compared, "verdict"] == side for side in "AB")
            behind_at = int(behind.sum())
            if behind_at:
                corrected = 1 - (1 - LEVEL) / looked
                strict = _points(compare_sides(pair.ours, pair.rival, metric, corrected, pair.joined))
                behind = strict.loc[compared, "verdict"] == "B"
            # If only one of the two decodes, it is ahead. If neither does, nobody is.
            tally.holds += [*ahead, *(v == "only A decodes" for v in table.loc[silent, "verdict"])]
            tally.against += [*behind, *(v == "only B decodes" for v in table.loc[silent, "verdict"])]
            lost = int((table["outages_b"] > 0).sum())
            lines.append(
                f"{pair.label}: "
                + _spread(table[compared], scale, unit, int(ahead.sum()), behind_at)
                + (f"; {pair.rival.label} loses pictures at {lost} SNRs" if lost else "")
                + in_words(scale * table["training_spread"].max(), unit, 2)
            )
        tally.numbers[:0] = lines
        return tally.finding()

    gather = partial(pairs_of, name=name, rivals=rivals)
    return both_reductions(check, gather) if metric == "psnr_db" else lambda run: check(gather(run), metric)


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of single SNRs. Raises Missing if the two sides share none."""
    if table.empty:
        raise Missing("the systems share no picture at any SNR")
    return table.dropna(subset=["snr_db"]).reset_index(drop=True)


def _spread(rows: pd.DataFrame, scale: float, unit: str, ahead: int, behind: int) -> str:
    if rows.empty:
        return "no SNR at which both have all cells and decode"
    low, high = rows.loc[rows["difference"].idxmin()], rows.loc[rows["difference"].idxmax()]
    ends = [
        f"{scale * r['difference']:+.2f} {unit} [{scale * r['ci_low']:+.2f}, {scale * r['ci_high']:+.2f}] "
        f"at {r['snr_db']:g} dB"
        for r in (low, high)
    ]
    return f"from {ends[0]} to {ends[1]}; ahead at {ahead}, behind at {behind} of {len(rows)} SNRs"


# ---------------------------------------------------------------- one number from the gap over SNR


def mean_gap(up_to_db: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A statistic: statistic(snrs, gaps) is the mean of gaps (resamples, SNRs) over the SNRs (SNRs,) up to `up_to_db`
    dB: (resamples,). NaN if there is no such SNR.
    """

    def statistic(snrs: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        low = snrs <= up_to_db
        return gaps[:, low].mean(axis=1) if low.any() else np.full(len(gaps), np.nan)

    return statistic


def slope(snrs: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Least-squares slope of gaps (resamples, SNRs) over SNR, in dB per dB: (resamples,). NaN
    for fewer than two SNRs.
    """
    if len(snrs) < 2:
        return np.full(len(gaps), np.nan)
    x = snrs - snrs.mean()
    return (gaps @ x) / (x @ x)


def gap_statistic(
    name: str, rivals: tuple[str, ...], statistic: Callable, unit: str, up_to_db: float = math.inf
) -> Check:
    """A check: a statistic of the gap to each rival is above 0, over the SNRs at which both deliver every picture.

    statistic: `slope`, or one that `mean_gap` made. unit: of its value, for display. up_to_db: the highest SNR that it
    reads. A rival with fewer than FEWEST_SNRS such SNRs cannot be compared, and then the statement cannot hold either.
    """

    def check(evidence: Evidence, metric: str) -> Finding:
        tally, lines = evidence.tally(), []
        for pair in evidence.pairs:
            if pair.absent:
                lines.append(f"{pair.label}: {NO_NUMBER}")
                tally.complete = False
                continue
            value, low, high, strict, n, snrs = _estimate(pair.joined.rows, metric, statistic, len(evidence.pairs))
            snrs = [snr for snr in snrs if snr <= up_to_db]
            if not n or len(snrs) < FEWEST_SNRS:
                lines.append(f"{pair.label}: fewer than {FEWEST_SNRS} SNRs at which both decode; it cannot be compared")
                tally.complete = False
                continue
            at = pair.joined.rows[POINT].iloc[0].to_dict()
            seeds = of_difference(*(spread_of_statistic(one.run, one.system, at, metric, statistic)
                                    for one in (pair.ours, pair.rival)))  # fmt: skip
            tally.holds.append(low > 0 and value >= seeds)
            tally.against.append(strict < 0 and -value >= seeds)
            over = f"{n} pictures, {snrs_in_words(snrs)}"
            lines.append(f"{pair.label}: {value:+.3f} [{low:+.3f}, {high:+.3f}] {unit}, {over}" + in_words(seeds, ""))
        tally.numbers[:0] = lines
        return tally.finding()

    return both_reductions(check, partial(pairs_of, name=name, rivals=rivals, up_to_db=up_to_db))


def _estimate(
    joined: pd.DataFrame, metric: str, statistic: Callable, comparisons: int
) -> tuple[float, float, float, float, int, list[float]]:
    """The statistic, its interval, the upper end of the corrected interval, the number of pictures (0: no result), and
    the SNRs at which both deliver every picture.
    """
    column = quantity(metric).column
    nothing = (*(np.nan,) * 4, 0, [])
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
    return value, low, high, percentiles(draws, n, 1 - (1 - LEVEL) / comparisons)[1], n, list(snrs)


# ---------------------------------------------------------------- cliffs, stability


def cliff(modulation: str, threshold: float) -> Check:
    """A check: below `threshold` dB most pictures are lost, and from there on most arrive. The interval of the rate
    decides.

    modulation: such as "16qam". The rows are those at the points of the paper's figures. The bench chose its code rate
    so that the cliffs lie where the paper has them. So an agreement is called "calibrated"; it is not a finding. The
    spread between trainings does not apply: nothing in these systems was trained.
    """

    def check(run: Run) -> Finding:
        names = [f"jpeg-ldpc-{modulation}", f"jpeg-ldpc-{modulation}-fcn"]
        tables = (asked_as_in_the_paper(run, table) for table in (run.samples, run.summary))
        rows, points = (at_a_paper_point(table[table["system"].isin(names)]) for table in tables)
        if rows.empty:
            raise Missing(f"the run has no rows of {names[0]} with the task, channel and budget of a paper's figure")
        if rows["snr_db"].nunique() < FEWEST_SNRS:
            raise too_few(names[0], rows, rows["snr_db"].nunique())
        tally = Tally(rests_on=rests_on(rows))
        absent = set(points_without_mean(points)["snr_db"])
        for snr, group in rows.groupby("snr_db"):
            if snr in absent:
                tally.numbers.append(f"{snr:g} dB: {NO_NUMBER}")
                continue
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
        note_lacking(points, tally)
        found = tally.finding()
        if found.verdict != HOLDS:
            return found
        why = "the bench's code rate was chosen to give these cliffs, so their place is no independent result"
        return replace(found, verdict=CALIBRATED, numbers=(*found.numbers, why))

    return check


def stable(within: float) -> Check:
    """A check: above 0 dB, our mIoU stays within `within` of its value at the highest SNR (a test of equivalence).

    within: a share, such as 0.02 for 2 points. The spread between trainings does not apply: each training is compared
    with itself alone.
    """

    def check(run: Run) -> Finding:
        figure = figure_named(run, FIGURES["segmentation"])
        part = at_point_of(run, figure)
        ours = part.samples[part.samples["system"] == OURS]
        if ours.empty:
            raise without_us(run, figure)
        tally = Tally(systems={OURS})
        for training in trainings_of(part, OURS, tally):
            above = training.samples["snr_db"]
            if (number := above[above > 0].nunique()) < FEWEST_SNRS:
                raise too_few(figure["id"], ours, number, " above 0 dB")
            _stability(training, within, tally)
        tally.rests_on = rests_on(ours[ours["snr_db"] > 0])
        note_lacking(run.summary_of({**figure, "systems": [OURS]}), tally)
        tally.numbers.insert(0, f"stable means within {100 * within:g} points")
        return tally.finding()

    return check


def _stability(training: Side, within: float, tally: Tally) -> None:
    if any(snr > 0 for snr in absent_snrs(training)):  # the highest SNR may be absent, to which all are compared
        tally.numbers.append(f"{training.label}: {NO_NUMBER}")
        tally.complete = False
        return
    rows = training.samples[training.samples["snr_db"] > 0]
    levels = sorted(rows["snr_db"].unique())

    def counts(snr: float) -> Pixels:
        wanted = rows.loc[rows["snr_db"] == snr, ["cell_id", "image_id", "snr_db", "rep"]]
        return class_counts(training.confusion, wanted)

    top = counts(levels[-1])
    for snr in levels[:-1]:
        other = counts(snr)
        if other[0].shape[1] != top[0].shape[1]:
            raise Missing("the SNRs were run on different pictures")
        _, _, gap = paired_miou(other, top)
        _, _, strict = paired_miou(other, top, level=1 - (1 - LEVEL) / (len(levels) - 1))
        tally.holds.append(-within < gap.low and gap.high < within)
        tally.against.append(strict.high < -within or strict.low > within)
        ends = f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
        tally.numbers.append(f"mIoU at {snr:g} dB less that at {levels[-1]:g} dB: {100 * gap.mean:+.2f} {ends} points")
