"""The parts that all checks of the paper's statements share: a verdict from many comparisons, both reductions of PSNR,
and the two sides of each comparison.

`bench.analysis.claim_checks` and `bench.analysis.claim_overhead` call it. A check returns a `Finding`, or raises
`Missing` if the run lacks the rows that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from bench.analysis.matching import Matched, match
from bench.analysis.sides import KEY, Side, side
from bench.results.reader import POINT, Run, points_without_mean

HOLDS, CONTRADICTED, UNDECIDED = "holds", "contradicted", "undecided"
CALIBRATED = "calibrated"
OURS = "gensc"
RECONSTRUCTION_RIVALS = ("witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "jpeg-ldpc-adaptive")
SEGMENTATION_RIVALS = ("deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn")
FIGURES = {"low": "fig4", "high": "fig5", "segmentation": "fig7"}
STATISTIC_DECIMALS = 9  # areas and slopes are rounded to this many decimals: over many points, rounding errors add up
OF_MEAN_MSE = "psnr_of_mean_mse_db"
REDUCTIONS = {"psnr_db": "mean PSNR", OF_MEAN_MSE: "PSNR of the mean MSE"}
#: In place of a number. A number over the rows that are left could be over the pictures that a system chose, by failing
#: on the others.
NO_NUMBER = "no number, because cells are absent"


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
class Tally:
    """The comparisons of one check.

    holds: for each comparison, whether it supports the statement.
    against: for each comparison, whether it contradicts the statement.
    complete: False if the run lacks a part of the statement's comparisons.
    """

    holds: list[bool] = field(default_factory=list)
    against: list[bool] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    systems: set[str] = field(default_factory=set)
    complete: bool = True

    def finding(self) -> Finding:
        """The verdict of all comparisons, with their numbers."""
        if any(self.against):
            verdict = CONTRADICTED
        else:
            verdict = HOLDS if self.holds and all(self.holds) and self.complete else UNDECIDED
        return Finding(verdict, tuple(self.numbers), frozenset(self.systems))


@dataclass
class Pair:
    """Our system and a rival, each in one training. Their rows are joined once, whatever is then computed from them."""

    ours: Side
    rival: Side

    @property
    def label(self) -> str:
        """Their names in a line of numbers."""
        return f"{self.ours.label} - {self.rival.label}"

    @cached_property
    def joined(self) -> Matched:
        """The rows of both."""
        return match(self.ours, self.rival)

    @cached_property
    def absent(self) -> set[float]:
        """The SNRs at which cells of either are absent."""
        return absent_snrs(self.ours, self.rival)


@dataclass(frozen=True)
class Evidence:
    """What a check reads: the pairs that the run has. notes, complete, systems: what its tally begins with."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    complete: bool
    systems: frozenset[str]

    def tally(self) -> Tally:
        """A new tally of these pairs, without comparisons."""
        return Tally(numbers=list(self.notes), systems=set(self.systems), complete=self.complete)


def both_reductions(check: Callable[[Any, str], Finding], gather: Callable[[Run], Any] = lambda run: run) -> Check:
    """Turn a check of PSNR into one under both reductions. If the two verdicts differ, it is undecided.

    gather: makes what `check` reads, once for both. Default: the run itself.
    """

    def combined(run: Run) -> Finding:
        evidence = gather(run)
        found = {metric: check(evidence, metric) for metric in REDUCTIONS}
        first = found["psnr_db"]
        verdicts = {finding.verdict for finding in found.values()}
        by = ", ".join(f"by {REDUCTIONS[metric]}: {finding.verdict}" for metric, finding in found.items())
        verdict = first.verdict if len(verdicts) == 1 else UNDECIDED
        return replace(first, verdict=verdict, numbers=(*first.numbers, by))

    return combined


# ---------------------------------------------------------------- the rows of a figure


def figure_named(run: Run, name: str) -> dict[str, Any]:
    """The entry of a figure in the manifest. Raises Missing if the run has no rows of it."""
    for figure in run.figures:
        if figure["id"] == name and len(run.samples_of(figure)):
            return figure
    raise Missing(f"the run has no rows of {name}")


def at_point_of(run: Run, figure: dict[str, Any]) -> Run:
    """The run with only a figure's operating points, and with every system that any figure ran there."""
    names = sorted({name for other in run.figures for name in other["systems"]})
    return run.cut_to({**figure, "systems": names})


def pairs_of(run: Run, name: str, rivals: tuple[str, ...]) -> Evidence:
    """Our system beside each rival in the run, for each training of the two. The notes name the rivals that are not in
    the run.
    """
    part = at_point_of(run, figure_named(run, name))
    here = set(part.samples["system"])
    if OURS not in here:
        raise Missing(f"{name} was run without {OURS}")
    present = [rival for rival in rivals if rival in here]
    if not present:
        raise Missing(f"{name} was run without {', '.join(rivals)}")
    absent = [rival for rival in rivals if rival not in here]
    tally = Tally(complete=not absent)
    ours = trainings_of(part, OURS, tally)
    pairs = [Pair(own, other) for rival in present for other in trainings_of(part, rival, tally) for own in ours]
    tally.numbers += [f"{rival}: not in the run" for rival in absent]
    note_lacking(run.summary_of({**figure_named(run, name), "systems": [OURS, *present]}), tally)
    return Evidence(tuple(pairs), tuple(tally.numbers), tally.complete, frozenset({OURS, *present}))


def note_lacking(rows: pd.DataFrame, tally: Tally) -> None:
    """Leave a statement open if cells of a system failed or were never computed: its points have no mean then.

    rows: of summary.csv.
    """
    lacking = sorted(set(points_without_mean(rows)["system"]))
    tally.complete &= not lacking
    tally.numbers += [f"{name}: cells are absent" for name in lacking]


def absent_snrs(*sides: Side) -> set[float]:
    """The SNRs at which cells of a side failed or were never computed, at the points of its rows."""
    found: set[float] = set()
    for one in sides:
        points = one.samples[POINT].drop_duplicates()
        for rows in (one.lacking, one.failed):
            found |= set(rows.merge(points, on=[name for name in POINT if name in rows])["snr_db"].astype(float))
    return found


def trainings_of(part: Run, system: str, tally: Tally) -> list[Side]:
    """One side per variant if the system was run in several variants (other seeds of training), otherwise a single
    side.
    """
    rows = part.samples[part.samples["system"] == system]
    if not rows.duplicated(KEY).any():
        return [side(part, system)]
    variants = sorted(rows["variant"].unique())
    column = "psnr_db" if rows["psnr_db"].notna().any() else "miou"
    spread = rows.groupby("variant")[column].mean().std(ddof=1)
    sides = [side(part, f"{system}@{variant}") for variant in variants]
    words = NO_NUMBER if absent_snrs(*sides) else f"the means of {column} spread by {spread:.3f} (std)"
    tally.numbers.append(f"{system}: {len(variants)} trainings, {words}")
    return sides
