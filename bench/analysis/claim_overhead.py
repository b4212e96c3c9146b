"""The check behind the paper's statement on overhead: channel uses for equal PSNR, over a sweep of the budget.

`bench.analysis.claims` calls `overhead`. As in Bjontegaard's delta rate, the mean logarithm of the ratio of uses is
taken over the quality that both systems reach. If one curve lies wholly above the other, there is only a bound, which
speaks for the upper curve or for nobody. Where trainings with other seeds were swept over the budget too
(`bench.analysis.training_spread`), a smaller gap than their spread decides nothing.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bench.analysis.claim_evidence import (
    FIGURES,
    NO_NUMBER,
    OURS,
    RECONSTRUCTION_RIVALS,
    STATISTIC_DECIMALS,
    Finding,
    Missing,
    Tally,
    note_lacking,
)
from bench.analysis.intervals import LEVEL, RESAMPLES, Interval, percentiles, resampled_sums
from bench.analysis.paper_points import asked_as_in_the_paper, paper_point, rests_on
from bench.analysis.quantity import of_mean_error, quantity
from bench.analysis.training_spread import UNKNOWN, Spread, in_words, of_difference, without_cells
from bench.measure.metrics.image import psnr_db
from bench.results.reader import Run, points_without_mean


def overhead(run: Run, metric: str) -> Finding:
    """A check: our system needs fewer channel uses than every rival for equal PSNR, over a sweep of CBR at each SNR.

    A curve is PSNR over log2 of the mean uses, for all pictures. The gap is its mean over the PSNRs that both reach.
    The interval is over resampled pictures.
    """
    swept = _swept(run)
    if not swept:
        how = 'cbr = ["1/48", "1/16"]'
        raise Missing(f"{OURS} was run with fewer than two budgets; to decide this, sweep over CBR, for example {how}")
    ours = pd.concat([rows[rows["system"] == OURS] for _, _, rows in swept])
    tally, lines = Tally(rests_on=rests_on(ours)), []
    jobs = [(where, snr, rows, rival) for where, snr, rows in swept for rival in RECONSTRUCTION_RIVALS]
    summary = _with_cbr(run, run.summary)
    here = {name for _, _, rows in swept for name in rows["system"].unique()} | _points_of(summary, swept)
    lacking = points_without_mean(summary)
    for where, snr, rows, rival in jobs:
        if rival not in here:
            continue
        at = f"{where} at {snr:g} dB, {OURS} - {rival}"
        if (lacking["dataset"].eq(where) & lacking["snr_db"].eq(snr) & lacking["system"].isin([OURS, rival])).any():
            lines.append(f"{at}: {NO_NUMBER}")
            tally.complete = False
            continue
        values, uses = zip(*(_over_uses(rows, name, metric) for name in (OURS, rival)), strict=True)
        shared = values[0].index.intersection(values[1].index)
        both = [side.loc[shared].to_numpy(float) for side in values]
        interval, strict = _fewer_uses(both, uses, metric, len(jobs))
        if np.isnan(interval.low):
            lines.append(f"{at}: {_why_open(rival, both, metric, interval)}")
            tally.complete = False
            continue
        moves = _between_trainings(run, where, snr, (OURS, rival), both, uses, shared, metric)
        tally.holds.append(interval.high < 0 and -interval.mean >= moves)
        tally.against.append(strict > 0 and interval.mean >= moves)
        words = _uses_text(interval, _in_common(both, metric))
        lines.append(f"{at}: {words}, {interval.n} pictures{_moves_text(moves)}")
    absent = [rival for rival in RECONSTRUCTION_RIVALS if rival not in here]
    tally.complete &= not absent
    tally.numbers = [*lines, *(f"{rival}: not in the sweep over CBR" for rival in absent)]
    tally.systems = {OURS, *RECONSTRUCTION_RIVALS} & here
    note_lacking(summary[summary["system"].isin(tally.systems)], tally)
    return tally.finding()


def _with_cbr(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of a run that a sweep over CBR may consist of: with the task and channel of the paper's
    figure, and asked for by the task's own requirement.
    """
    rows, paper = asked_as_in_the_paper(run, rows), paper_point(FIGURES["high"])
    return rows[rows["task"].eq(paper["task"]) & rows["channel"].eq(paper["channel"]) & rows["cbr_target"].notna()]


def _swept(run: Run) -> list[tuple[str, float, pd.DataFrame]]:
    """(data set, SNR, rows) for each point at which our system was run with two budgets or more, on AWGN."""
    found = []
    for (dataset, snr), group in _with_cbr(run, run.samples).groupby(["dataset", "snr_db"]):
        if group.loc[group["system"] == OURS, "cbr_target"].nunique() >= 2:
            found.append((dataset, snr, group))
    return found


def _points_of(summary: pd.DataFrame, swept: list[tuple[str, float, pd.DataFrame]]) -> set[str]:
    """The systems that summary.csv names at the points of the sweep, also those whose cells all failed."""
    points = pd.MultiIndex.from_frame(summary[["dataset", "snr_db"]])
    return set(summary.loc[points.isin([(where, snr) for where, snr, _ in swept]), "system"])


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


def _between_trainings(
    run: Run, where: str, snr: float, systems: tuple[str, str], values: list[np.ndarray],
    uses: tuple[np.ndarray, ...], pictures: pd.Index, metric: str,
) -> float:  # fmt: skip
    """Standard deviation of log2 (our uses / theirs) between trainings with other seeds; 0 where none was swept,
    infinite where cells of one are absent, NaN where the curve of one decides nothing.

    values, uses: the curves of the run, (pictures, budgets) and (budgets,) of each side. Each training takes the place
    of its side, if it has all of the pictures.
    """
    spreads = []
    for place, name in enumerate(systems):
        if without_cells(run, name):
            spreads.append(UNKNOWN)
            continue
        gaps = []
        for seed in run.seeds:
            rows = _with_cbr(seed, seed.samples)
            table, own = _over_uses(rows[rows["dataset"].eq(where) & rows["snr_db"].eq(snr)], name, metric)
            if len(own) < 2 or not pictures.isin(table.index).all():
                continue
            curves = [(_quality(side.mean(axis=0), metric), side_uses) for side, side_uses in zip(values, uses)]
            curves[place] = _quality(table.loc[pictures].to_numpy(float).mean(axis=0), metric), own
            (ours, our_uses), (theirs, their_uses) = curves
            gaps.append(float(log_uses_gap(our_uses, ours[None], their_uses, theirs[None])[0]))
        spreads.append(Spread(float(np.std(gaps, ddof=1)), len(gaps)) if len(gaps) > 1 else Spread())
    return of_difference(*spreads)


def _moves_text(moves: float) -> str:
    """The result of `_between_trainings` in words."""
    if math.isnan(moves):
        return "; the curve of another training decides nothing"
    return in_words(100 * (2**moves - 1), "%", 1)


def _uses_text(interval: Interval, in_common: str) -> str:
    """The finding in words. in_common: as `_in_common` gives it; if it is not "", the number is a bound, and has no
    interval.
    """
    mean, low, high = (100 * (2**x - 1) for x in (interval.mean, interval.low, interval.high))
    if in_common:
        return f"at least {abs(mean):.1f} % {'fewer' if mean < 0 else 'more'} uses (there is {in_common})"
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}] uses for equal PSNR"


def _why_open(rival: str, values: list[np.ndarray], metric: str, interval: Interval) -> str:
    """Why two curves decide nothing, in words. values: (pictures, budgets) of each side, ours first. interval: as
    `_fewer_uses` gives it.
    """
    for name, side in zip((OURS, rival), values, strict=True):
        if side.shape[1] < 2:
            return f"{name} is {'at one budget of' if side.shape[1] else 'not in'} the sweep there"
    if interval.n < 2:
        return "fewer than two pictures that both have at all of their budgets"
    ours, theirs = (quality[0, 0] for quality in _curves(values, metric))
    if not np.isnan(interval.mean):
        return "decides nothing: in some resamples of the pictures no PSNR is shared, and the curve above spends more"
    if ours == theirs:
        return f"decides nothing: there is {_in_common(values, metric)}, at which both begin"
    above = OURS if ours > theirs else rival
    return f"decides nothing: there is {_in_common(values, metric)}, and {above}, the curve above, spends more"


def _quality(means: np.ndarray, metric: str) -> np.ndarray:
    """The quality of means over pictures, (..., budgets)."""
    return np.asarray(psnr_db(means)) if of_mean_error(metric) else means


def _curves(values: list[np.ndarray], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The curves (1, budgets) of both sides over all pictures. values: (pictures, budgets) of each side."""
    ours, theirs = (_quality(side.mean(axis=0, keepdims=True), metric) for side in values)
    return ours, theirs


def _in_common(values: list[np.ndarray], metric: str) -> str:
    """The PSNRs that both curves reach, in words; "" for a range of them. values: (pictures, budgets) of each side."""
    low, high = _shared_range(*map(_best_so_far, _curves(values, metric)))
    return "" if high > low else "a single PSNR that both reach" if high == low else "no PSNR that both reach"


def _fewer_uses(
    values: list[np.ndarray], uses: tuple[np.ndarray, ...], metric: str, comparisons: int
) -> tuple[Interval, float]:
    """Mean of log2 (our uses / theirs) at equal PSNR with its interval, and the lower end of the corrected interval.

    values: (pictures, budgets) of each side. NaN if the curves decide nothing, or those of a resample of the pictures.
    """
    n = len(values[0])
    nothing = Interval(np.nan, np.nan, np.nan, np.nan, n)
    if n < 2 or min(v.shape[1] for v in values) < 2:
        return nothing, np.nan

    def gap(means: np.ndarray) -> np.ndarray:
        ours, theirs = np.split(_quality(means, metric), [values[0].shape[1]], axis=-1)
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
    quality falls with more uses, the best quality so far counts.

    If the curves share no range of qualities, the uses for the first quality of the upper one are compared. The upper
    curve may reach it with fewer uses than were swept, and the lower one with more. So the number is a bound in favour
    of the upper curve: it saves at least as much. If the number says that the upper curve spends more, it is no bound.
    Then it is NaN, as it is if both curves begin at the same quality.
    """
    q_a, q_b = _best_so_far(quality_a), _best_so_far(quality_b)
    u_a, u_b = np.log2(uses_a), np.log2(uses_b)
    low, high = _shared_range(q_a, q_b)
    width = np.where(high > low, high - low, 1.0)
    mean = (_area(q_a, u_a, low, high) - _area(q_b, u_b, low, high)) / width
    bound = _first_uses(q_a, u_a, low) - _first_uses(q_b, u_b, low)
    above = np.sign(q_a[:, 0] - q_b[:, 0])  # 1: a is the upper curve, -1: b
    return np.where(high > low, mean, np.where((above != 0) & (above * bound <= 0), bound, np.nan))


def _best_so_far(quality: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(quality, axis=1)


def _shared_range(q_a: np.ndarray, q_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends (curves,) of the qualities that both reach. Curves that share none have a lower end above the upper."""
    return np.maximum(q_a[:, 0], q_b[:, 0]), np.minimum(q_a[:, -1], q_b[:, -1])


def _first_uses(quality: np.ndarray, log_uses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """log_uses (curves,) at which each curve first reaches the quality wanted (curves,); the most uses where it does
    not.
    """
    found = np.full(len(quality), log_uses[-1])
    for left in reversed(range(len(log_uses) - 1)):
        q0, q1 = quality[:, left], quality[:, left + 1]
        share = np.clip((wanted - q0) / np.where(q1 > q0, q1 - q0, 1.0), 0.0, 1.0)
        found = np.where(wanted <= q1, log_uses[left] + share * (log_uses[left + 1] - log_uses[left]), found)
    return found


def _area(quality: np.ndarray, log_uses: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Integral of the piecewise linear curves log_uses(quality) from low to high, one per row."""
    total = np.zeros(len(quality))
    for left in range(len(log_uses) - 1):
        q0, q1 = quality[:, left], quality[:, left + 1]
        rise = np.where(q1 > q0, (log_uses[left + 1] - log_uses[left]) / np.where(q1 > q0, q1 - q0, 1.0), 0.0)
        start, end = np.clip(q0, low, high), np.clip(q1, low, high)
        total += (end - start) * (log_uses[left] + rise * ((start + end) / 2 - q0))
    return total
