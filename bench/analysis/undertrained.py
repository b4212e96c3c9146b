"""Finds the systems of a run that were trained too little. Called by the claims, the figures and the tables.

A verdict that depends on such a system is withheld, and figures draw it with a thin line. There are three criteria:
the system's own facts mark it; its weights never saw the task; or its rows in this run are below a floor at the points
of the paper's figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from baselines.catalogue import FLOOR
from bench.analysis.intervals import bootstrap_mean
from bench.analysis.paper_points import asked_as_in_the_paper, at_a_paper_point
from bench.results.reader import Run

SNRS_DB = (0.0, 20.0)  # the range of the paper's figures, and of the training of the weights that ship
EQUAL_USES = 0.99  # a system that spends less than this share of the floor's channel uses is not held against it


def undertrained(run: Run, figures: Sequence[Mapping[str, Any]] | None = None) -> frozenset[str]:
    """Names of the systems whose weights were trained too little. It is decided once per run object and figures.

    figures: those of the run that are looked at; None: all. A figure's file may come from somebody else, so it marks
    nothing in other figures.
    """
    figures = run.figures if figures is None else figures
    known, ids = run.__dict__.setdefault("_undertrained", {}), tuple(figure["id"] for figure in figures)
    if ids not in known:
        known[ids] = frozenset(_marked(run) | _unseen(run, figures) | below_floor(run, figures))
    return known[ids]


def _marked(run: Run) -> set[str]:
    """Systems that say so themselves, or whose variant says so."""
    return {
        name
        for name, fact in run.system_facts.items()
        if fact.get("undertrained") is True or str(fact.get("variant", "")).endswith("-untrained")
    }


def _unseen(run: Run, figures: Sequence[Mapping[str, Any]]) -> set[str]:
    """Systems whose weights were trained on no picture for the task of one of these figures."""
    return {
        name
        for figure in figures
        for name in figure["systems"]
        for counts in _counts(run.system_facts.get(name, {}))
        if isinstance(counts, dict) and counts.get(figure["task"]) == 0
    }


def _counts(fact: Mapping[str, Any]) -> list[Any]:
    """What a system tells that its weights have seen. A checkpoint that tells it for its SNR speaks also where another
    one does not.
    """
    several = fact.get("seen_per_snr")
    found = [fact.get("images_seen"), *(several.values() if isinstance(several, dict) else ())]
    return [counts for counts in found if counts]


def below_floor(run: Run, figures: Sequence[Mapping[str, Any]]) -> set[str]:
    """Learned systems that lie below `linear` in these figures at some SNR of the paper's, at its budget, on AWGN.

    The interval of the difference, paired over pictures, decides: it must lie completely below 0. At other points a
    network may be where nobody trained it. A figure whose budget is beyond what a network can spend does not count for
    it: `linear` has more channel uses there. A run with --limit decides nothing.
    """
    found: set[str] = set()
    learned = {name for name, fact in run.system_facts.items() if _counts(fact)} - {FLOOR}
    if run.limited or not learned:
        return found
    for figure in figures:
        if figure["task"] != "reconstruction" or FLOOR not in figure["systems"]:
            continue
        rows = at_a_paper_point(asked_as_in_the_paper(run, run.samples_of(figure)))
        rows = rows[rows["snr_db"].between(*SNRS_DB)]
        floor = _means(rows, FLOOR)
        uses = rows.groupby("system")["n_uses"].mean()
        for name in sorted(learned & set(figure["systems"])):
            if not uses.get(name, 0.0) >= EQUAL_USES * uses.get(FLOOR, 0.0):
                continue
            gaps = _means(rows, name).sub(floor).dropna(how="all")
            found |= {name for _, gap in gaps.groupby(level="snr_db") if bootstrap_mean(gap.to_numpy()).high < 0}
    return found


def _means(rows: pd.DataFrame, system: str) -> Any:
    """PSNR of each picture at each SNR in dB, averaged over repetitions."""
    own = rows[(rows["system"] == system) & np.isfinite(rows["psnr_db"])]
    return own.groupby(["snr_db", "image_id"])["psnr_db"].mean()
