"""Curves that other authors published, for figures with the same data set, channel and budget.

`bench.report.figure_kinds` and the HTML report call it. The curves are read from `published_curves.toml`, which
names the origin of each. Figures draw them as thin labelled lines, and the caption names their origin.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib import resources

import numpy as np


@dataclass(frozen=True)
class PublishedCurve:
    """One published curve.

    x: SNR in dB, or CBR, (points,).
    values: in the metric's unit, (points,).
    """

    label: str
    x: np.ndarray
    values: np.ndarray
    origin: str

    def within(self, low: float, high: float) -> PublishedCurve | None:
        """The part of the curve from `low` to `high`, with interpolated ends. None if there is none."""
        low, high = max(low, self.x[0]), min(high, self.x[-1])
        if low > high:
            return None
        inside = self.x[(self.x > low) & (self.x < high)]
        x = np.unique([low, *inside, high])
        return replace(self, x=x, values=np.interp(x, self.x, self.values))


def published_for(
    figure: dict, metric: str, along: str = "snr_db", snr_db: float | None = None
) -> list[PublishedCurve]:
    """The published curves for a figure (as the manifest holds it), with its data set, channel, metric, and budget or
    SNR.
    """
    found = []
    for entry in _entries():
        if (entry["dataset"], entry["channel"], entry["metric"]) != (figure["dataset"], figure["channel"], metric):
            continue
        over_cbr = isinstance(entry["cbr"], list)
        if over_cbr != (along == "cbr_target"):
            continue
        if over_cbr:
            if snr_db != entry["snr_db"]:
                continue
            x = [float(Fraction(budget)) for budget in entry["cbr"]]
        else:
            if along != "snr_db" or figure["cbr"] is None or abs(figure["cbr"] - float(Fraction(entry["cbr"]))) > 1e-9:
                continue
            x = entry["snr_db"]
        found.append(
            PublishedCurve(entry["label"], np.array(x, float), np.array(entry["values"], float), entry["origin"])
        )
    return found


def published_labels() -> list[str]:
    """The labels of all published curves. No system's curve may look like one of them."""
    return [entry["label"] for entry in _entries()]


@cache
def _entries() -> list[dict]:
    text = (resources.files("bench.report") / "published_curves.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["curve"]
