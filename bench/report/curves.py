"""Curves as numbers: the content of Fig. 4, 5 and 7, from a run's tables, before it is drawn.

A `Series` is one system's curve over SNR or over the budget. A `DifferenceCurve` is one system minus another, paired
over pictures. `bench.report.charts` draws both. Tests and other tools read them too.

On AWGN, a point at which any picture was an outage is not part of a curve. The curve is broken there, and a thin line
marks the cliff between the last SNR with outages and the first one without. In a fading channel every SNR has outages.
There the curve is drawn with lost pictures as they were scored, with a panel of outage rates. A point that was not
simulated is a gap, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from bench.analysis.all_pairs import all_pairs
from bench.analysis.quantity import OUTAGE_RATE, has_labels, quantity
from bench.measure.metrics.table import METRICS
from bench.report.system_looks import Looks
from bench.results.reader import Run


@dataclass(frozen=True)
class Band:
    """A line of one system with its intervals: arrays (points,), NaN where there is none.

    x: SNR in dB, or the budget.
    mean, low, high: in the unit of the metric's axis.
    """

    system: str
    variant: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class DifferenceCurve(Band):
    """A system minus the reference, paired over pictures."""


@dataclass(frozen=True)
class Series(Band):
    """One curve over the figure's grid: arrays (points,), NaN where nothing is drawn.

    outages: number of lost pictures.
    state: "ok", "outage" (at least one picture was not decoded) or "missing" (not simulated), per point.
    rate, rate_low, rate_high: outage rate in [0, 1] with its interval, NaN where the table has none.
    faded: True: outages do not break the curve.
    """

    outages: np.ndarray
    state: tuple[str, ...]
    undertrained: bool = False
    faded: bool = False
    rate: np.ndarray | None = None
    rate_low: np.ndarray | None = None
    rate_high: np.ndarray | None = None

    @property
    def cliff(self) -> tuple[float, float] | None:
        """(last x with outages, first x after it where every picture is decoded). None if there is no cliff."""
        for index in range(1, len(self.state)):
            if not self.faded and self.state[index] == "ok" and "outage" in self.state[:index]:
                lost = max(i for i in range(index) if self.state[i] == "outage")
                return float(self.x[lost]), float(self.x[index])
        return None

    @property
    def loses_again(self) -> float | None:
        """The last x where every picture is decoded, if pictures are lost above it: no cliff explains that. None
        otherwise.
        """
        whole = [index for index, state in enumerate(self.state) if state == "ok"]
        return float(self.x[whole[-1]]) if whole and "outage" in self.state[whole[-1] :] else None

    @property
    def loses_everywhere(self) -> bool:
        """True if points were simulated, but at none of them every picture was decoded, so nothing is drawn."""
        return not self.faded and "outage" in self.state and "ok" not in self.state


def series_of(
    summary: pd.DataFrame,
    metric: str,
    undertrained: frozenset[str] = frozenset(),
    along: str = "snr_db",
    looks: Looks | None = None,
    faded: bool = False,
) -> list[Series]:
    """The curves of one metric, in the order of legends.

    summary: rows of summary.csv of one figure.
    undertrained: names of systems that are marked so.
    along: the column of the horizontal axis.
    looks: of the systems. faded: outages do not break curves.
    """
    scale = quantity(metric).scale
    rows = summary[summary["metric"] == metric]
    rates = summary[summary["metric"] == OUTAGE_RATE.name]
    grid = np.array(sorted(rows[along].dropna().unique()), dtype=float)
    places = (looks or Looks()).places(rows["system"])
    keys = rows[["system", "variant"]].drop_duplicates().itertuples(index=False)
    curves = []
    for system, variant in sorted(keys, key=lambda key: (places[key[0]], key[1])):
        own, rate = (
            of[(of["system"] == system) & (of["variant"] == variant)]
            .drop_duplicates(along, keep="last")
            .set_index(along)
            .reindex(grid)
            for of in (rows, rates)
        )
        outages = own["n_outage"].fillna(0).to_numpy(dtype=float)
        value = own["mean"].to_numpy(dtype=float) * scale
        # A point where every picture failed may have no mean. It was simulated, and is an outage.
        state = tuple(
            "outage" if lost > 0 else "missing" if np.isnan(mean) else "ok"
            for mean, lost in zip(value, outages, strict=True)
        )
        drawn = np.array([s == "ok" or (faded and s == "outage") for s in state], dtype=bool)
        low, high = (
            np.where(drawn, own[column].to_numpy(dtype=float) * scale, np.nan) for column in ("ci_low", "ci_high")
        )
        curves.append(
            Series(
                system,
                variant,
                grid,
                np.where(drawn, value, np.nan),
                low,
                high,
                outages,
                state,
                system in undertrained,
                faded,
                *(rate[column].to_numpy(dtype=float) for column in ("mean", "ci_low", "ci_high")),
            )  # fmt: skip
        )
    return curves


def bands_overlap(curves: list[Series]) -> bool:
    """Whether the intervals of two systems overlap at any point, so that bands would hide each other."""
    for a, b in combinations(curves, 2):
        for x in set(a.x) & set(b.x):
            i, j = int(np.flatnonzero(a.x == x)[0]), int(np.flatnonzero(b.x == x)[0])
            if a.low[i] <= b.high[j] and b.low[j] <= a.high[i]:
                return True
    return False


def differences_of(
    runs: dict[str, Run],
    figures: list[dict],
    curves: list[Series],
    metric: str,
    reference: str,
    along: str = "snr_db",
    snr_db: float | None = None,
) -> list[DifferenceCurve]:
    """Every curve's system minus `reference`, paired over pictures, with the interval of the difference.

    runs: "" is the run at hand; any other key is the run of the systems "KEY:system".
    figures: the run's figures that share the axes (one, or one per budget).
    along: the column of the horizontal axis.
    snr_db: only this SNR. All pictures count, lost ones as they were scored. Where one of the two curves is not drawn,
    there is no difference. Curves without rows per picture are left out.
    """
    names = {f"{place}": curve for place, curve in enumerate(curves)}  # one name per curve, for every run and variant
    base = next((name for name, curve in names.items() if curve.system == reference), None)
    if base is None or metric not in METRICS.names():
        return []
    gaps: dict[tuple[str, float], tuple[float, float, float]] = {}
    for figure in figures:
        samples, confusion = _rows_of(runs, figure, names, snr_db)
        budget = {"cbr_target": figure["cbr"], "kbits": (figure["bits"] or 0) / 1000}
        for gap in all_pairs(samples, confusion, metric, against=base):
            sign, other = (1, gap.a) if gap.b == base else (-1, gap.b)
            low, high = sorted((sign * gap.low, sign * gap.high)) if gap.low <= gap.high else (np.nan, np.nan)
            gaps[other, gap.snr_db if along == "snr_db" else budget[along]] = sign * gap.mean, low, high
    scale, found = quantity(metric).scale, []
    for name, curve in names.items():
        drawn = ~np.isnan(curve.mean) & np.isin(curve.x, names[base].x[~np.isnan(names[base].mean)])
        nothing = (np.nan, np.nan, np.nan)
        values = np.array([gaps.get((name, x), nothing) if own else nothing for x, own in zip(curve.x, drawn)])
        if name != base and not np.isnan(values).all():
            found.append(DifferenceCurve(curve.system, curve.variant, curve.x, *(scale * values.reshape(-1, 3).T)))
    return found


def _rows_of(
    runs: dict[str, Run], figure: dict, names: dict[str, Series], snr_db: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of samples.csv and confusion.csv behind the curves of a figure, with the names of the curves."""
    samples, confusion = [], []
    for name, curve in names.items():
        key, _, system = curve.system.rpartition(":")
        own = runs[key].samples_of({**figure, "systems": [system]})
        own = own[(own["variant"] == curve.variant) & (True if snr_db is None else own["snr_db"] == snr_db)]
        samples.append(own.assign(system=name))
        if has_labels(figure["task"]):
            pixels = runs[key].confusion
            same = (pixels["system"] == system) & (pixels["variant"] == curve.variant)
            confusion.append(pixels[same & pixels["cell_id"].isin(own["cell_id"].unique())].assign(system=name))
    return pd.concat(samples), pd.concat(confusion) if confusion else next(iter(runs.values())).confusion.head(0)
