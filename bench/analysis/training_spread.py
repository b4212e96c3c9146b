"""How far the mean of a system moves from one training to the next, if they differ in their seed alone.

An interval over pictures says how well the pictures stand for other pictures. It says nothing of the chance in a
training. So the folder of a run may hold runs of the same systems from trainings with other seeds:

    python -m bench run --figure fig5 --systems gensc --checkpoint gensc=FIRST.safetensors --out RUN/seeds/1
    python -m bench run --figure fig5 --systems gensc --checkpoint gensc=SECOND.safetensors --out RUN/seeds/2

`bench.analysis.compare_numbers` and the claims read them: a difference that is smaller than this spread is "undecided".
These trainings may be shorter than those of the run itself. If cells of a system are absent in one of them, its spread
is not known, and nothing is decided: it could fail where a training does badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.sides import NO_BUDGET
from bench.results.reader import BUDGETS, POINT, Run


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a system's mean over its trainings, in the unit of the metric.

    std: NaN if it was not measured, infinite if cells of a training are absent. trainings: their number.
    """

    std: float = float("nan")
    trainings: int = 0

    @property
    def measured(self) -> bool:
        """Whether there were two trainings or more."""
        return self.trainings > 1


#: Of a system that has a training in which cells are absent.
UNKNOWN = Spread(math.inf, 2)


def without_cells(run: Run, system: str) -> tuple[str, ...]:
    """The trainings in which cells of a system failed, or were never computed: the names of their folders."""
    return tuple(
        seed.directory.name
        for seed in run.seeds
        if system in seed.system_facts
        and (seed.failures["system"].eq(system).any() or seed.lacking["system"].eq(system).any())
    )


def spread(run: Run, system: str, at: Mapping[str, Any], metric: str) -> Spread:
    """The largest standard deviation over the SNRs of a point.

    at: the point, with the keys of POINT. If no training was measured there, the largest over the points of its task
    and channel, and if there is none, of its task. So a figure that somebody else adds to a run and to its trainings,
    in a fading channel say, where other draws move a mean by more, changes nothing at points that were measured.
    """
    if without_cells(run, system):
        return UNKNOWN
    points = _nearest(_means(run, system, at["task"], metric), at)
    return _largest([(group["mean"].std(ddof=1), len(group)) for _, group in points.groupby([*POINT, "snr_db"],
                                                                                           dropna=False)])  # fmt: skip


def spread_of_statistic(
    run: Run,
    system: str,
    at: Mapping[str, Any],
    metric: str,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Spread:
    """The same for one number of a whole curve, such as its slope.

    statistic: statistic(snrs (SNRs,), means (trainings, SNRs)) -> (trainings,).
    """
    if without_cells(run, system):
        return UNKNOWN
    found = []
    for _, group in _nearest(_means(run, system, at["task"], metric), at).groupby(POINT, dropna=False):
        curves = group.pivot_table(index="training", columns="snr_db", values="mean").dropna()
        if len(curves) > 1:
            values = statistic(curves.columns.to_numpy(float), curves.to_numpy())
            found.append((np.std(values, ddof=1), len(curves)))
    return _largest(found)


def of_difference(a: Spread, b: Spread) -> float:
    """Standard deviation of the difference of two systems that were trained independently. A spread that was not
    measured counts as 0; with one that is not known, the result is infinite.
    """
    return float(np.hypot(*(one.std if one.measured else 0.0 for one in (a, b))))


def in_words(moves: float, unit: str, decimals: int = 3) -> str:
    """The result of `of_difference` for a line of numbers, "" for 0. moves: in `unit`, "" for none."""
    if math.isinf(moves):
        return "; cells of a training are absent"
    return "; " + f"{moves:.{decimals}f} {unit}".rstrip() + " between trainings" if moves else ""


def _means(run: Run, system: str, task: str, metric: str) -> pd.DataFrame:
    """One row for each training and point."""
    parts = [_of_training(seed, system, task, metric).assign(training=seed.directory.name) for seed in run.seeds]
    if not parts:
        return pd.DataFrame(columns=[*POINT, "training", "snr_db", "mean"])
    return pd.concat(parts).dropna(subset=["mean"])


def _nearest(points: pd.DataFrame, at: Mapping[str, Any]) -> pd.DataFrame:
    """The rows at the point `at`, otherwise those of its channel, otherwise all."""
    same = points[points["channel"] == at["channel"]]
    sets, wanted = same["dataset"], at["dataset"]
    exact = sets.eq(wanted) | (sets.str.startswith("folder:") if wanted == "folder" else False)
    for budget in BUDGETS:
        own, asked = (pd.Series(values, dtype=float).fillna(NO_BUDGET) for values in (same[budget], [at[budget]]))
        exact &= np.isclose(own, asked.iloc[0], rtol=1e-6, atol=0)
    return next((rows for rows in (same[exact], same) if len(rows)), points)


def _of_training(seed: Run, system: str, task: str, metric: str) -> pd.DataFrame:
    """The means of one training: those of summary.csv, or, for a column of samples.csv that is not summarised, such as
    `mse`, the means over pictures. A point that has no mean in summary.csv has none of such a column either.
    """
    point = [*POINT, "snr_db"]
    whole = seed.summary[(seed.summary["system"] == system) & (seed.summary["task"] == task)]
    if whole["metric"].eq(metric).any():
        return whole.loc[whole["metric"] == metric, [*point, "mean"]]
    rows = seed.samples[(seed.samples["system"] == system) & (seed.samples["task"] == task)]
    if metric not in rows or rows[metric].dtype == object:
        return pd.DataFrame(columns=[*point, "mean"])
    by_picture = rows.groupby([*point, "image_id"], dropna=False, as_index=False)[metric].mean()
    means = by_picture.groupby(point, dropna=False, as_index=False)[metric].mean().rename(columns={metric: "mean"})
    return means.merge(whole.dropna(subset=["mean"])[point].drop_duplicates(), on=point)


def _largest(found: list[tuple[float, int]]) -> Spread:
    known = [Spread(float(std), count) for std, count in found if count > 1 and np.isfinite(std)]
    return max(known, key=lambda one: one.std, default=Spread())
