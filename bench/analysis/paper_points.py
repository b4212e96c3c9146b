"""Where the paper's statements are judged: at the task, channel and budget of its figures, asked for by the task's own
requirement. And words for the rows on which a verdict rests.

The points are those of the figures that come with the bench (`configs/figures`). A run may hold a figure of the same id
at another point, as `run --figure fig4 --cbr 1/2` makes it; that one says nothing of the paper's. Called by the checks
of the claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.measure.budget import budget_text
from bench.measure.tasks import other_request
from bench.results.reader import PAPER_FIGURES, Run, at_budget, belonging
from bench.util.files import read_toml, shown
from systems.sizes import CONFIGS

_SOME = 3  # budgets that are named one by one


@cache
def paper_point(name: str) -> dict[str, Any]:
    """The task, channel and budget of one of the paper's figures, as the manifest of a run names them."""
    values = read_toml(CONFIGS / "figures" / f"{name}.toml", "figure file")
    cbr, kbits = values.get("cbr"), values.get("kbits")
    return {
        "task": values["task"],
        "channel": values["channel"],
        "cbr": None if cbr is None else float(Fraction(cbr)),
        "bits": None if kbits is None else round(1000 * kbits),
    }


def differences(figure: Mapping[str, Any], name: str) -> list[str]:
    """In what a figure of a run differs from the paper's figure `name`: a few words for each, none if in nothing."""
    paper = paper_point(name)
    found = [
        f"{key} {shown(figure[key], 60)}, not {paper[key]}" for key in ("task", "channel") if figure[key] != paper[key]
    ]
    own, wanted = _budget(figure), _budget(paper)
    found += [f"{own}, not {wanted}"] if own != wanted else []
    asked = other_request(figure["task"], figure["requirement"])
    return found + ([f"requirement {shown(asked, 60)!r}, not the task's own"] if asked else [])


def asked_as_in_the_paper(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of a run without those of figures whose requirement is another than their task's own."""
    for figure in run.figures:
        if other_request(figure["task"], figure["requirement"]):
            rows = rows.drop(belonging(rows, figure).index)
    return rows


def at_a_paper_point(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that have the task, channel and budget of one of the paper's figures, of any data set."""
    chosen = pd.Series(False, index=rows.index)
    for point in map(paper_point, PAPER_FIGURES):
        chosen |= rows["task"].eq(point["task"]) & rows["channel"].eq(point["channel"]) & at_budget(rows, point)
    return rows[chosen]


def rests_on(rows: pd.DataFrame) -> str:
    """What the rows of samples.csv are of: data sets, channel, budgets, SNRs and pictures, in words."""
    pictures = len(rows[["dataset", "image_id"]].drop_duplicates())
    names = [", ".join(shown(name) for name in sorted(rows[column].unique())) for column in ("dataset", "channel")]
    return ", ".join([*names, _budgets(rows), snrs_in_words(sorted(rows["snr_db"].unique())), f"{pictures} pictures"])


def snrs_in_words(snrs: Sequence[float]) -> str:
    """SNRs in rising order, in dB, by their number and ends."""
    return f"{len(snrs)} SNRs from {snrs[0]:g} to {snrs[-1]:g} dB" if len(snrs) > 1 else f"1 SNR ({snrs[0]:g} dB)"


def _budgets(rows: pd.DataFrame) -> str:
    points = rows[["cbr_target", "bits_target"]].drop_duplicates().sort_values(["cbr_target", "bits_target"])
    words = [
        _budget({"cbr": None if np.isnan(cbr) else cbr, "bits": None if np.isnan(bits) else bits})
        for cbr, bits in points.to_numpy(float)
    ]
    return " and ".join(words) if len(words) <= _SOME else f"{len(words)} budgets from {words[0]} to {words[-1]}"


def _budget(point: Mapping[str, Any]) -> str:
    return budget_text(point["cbr"], point["bits"], point.get("uses"))
