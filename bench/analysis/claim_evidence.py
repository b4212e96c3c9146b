"""The parts that all checks of the paper's statements share: a verdict from many comparisons, both reductions of PSNR,
and the two sides of each comparison.

`bench.analysis.claim_checks` and `bench.analysis.claim_overhead` call it. A check returns a `Finding`, or raises
`Missing` if the run lacks the rows that it needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from bench.analysis.matching import Matched, match
from bench.analysis.paper_points import differences, rests_on
from bench.analysis.sides import KEY, Side, side
from bench.results.reader import POINT, Run, points_without_mean

HOLDS, CONTRADICTED, UNDECIDED = "holds", "contradicted", "undecided"
CALIBRATED = "calibrated"
OURS = "gensc"
RECONSTRUCTION_RIVALS = ("witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "jpeg-ldpc-adaptive")
SEGMENTATION_RIVALS = ("deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn")
FIGURES = {"low": "fig4", "high": "fig5", "segmentation": "fig7"}
STATISTIC_DECIMALS = 9  # areas and slopes are rounded to this many decimals: over many points, rounding errors add up
FEWEST_SNRS = 3  # a statement about a curve over SNR is not judged at fewer points of it
OF_MEAN_MSE = "psnr_of_mean_mse_db"
REDUCTIONS = {"psnr_db": "mean PSNR", OF_MEAN_MSE: "PSNR of the mean MSE"}
#: In place of a number. A number over the rows that are left could be over the pictures that a system chose, by failing
#: on the others.
NO_NUMBER = "no number, because cells are absent"


class Missing(Exception):
    """The run lacks the rows that a check needs. The message says which."""


@dataclass(frozen=True)
class Finding:
    """The result of a check: the verdict, one line of numbers per comparison, and the systems that it depends on.

    rests_on: the data set, channel, budget, SNRs and pictures of its rows, in words.
    """

    verdict: str
    numbers: tuple[str, ...]
    systems: frozenset[str] = frozenset()
    rests_on: str = ""


Check = Callable[[Run], Finding]


@dataclass
class Tally:
    """The comparisons of one check.

    holds: for each comparison, whether it supports the statement.
    against: for each comparison, whether it contradicts the statement.
    complete: False if the run lacks a part of the statement's comparisons.
    rests_on: as in `Finding`.
    """

    holds: list[bool] = field(default_factory=list)
    against: list[bool] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    systems: set[str] = field(default_factory=set)
    complete: bool = True
    rests_on: str = ""

    def finding(self) -> Finding:
        """The verdict of all comparisons, with their numbers."""
        if any(self.against):
            verdict = CONTRADICTED
        else:
            verdict = HOLDS if self.holds and all(self.holds) and self.complete else UNDECIDED
        return Finding(verdict, tuple(self.numbers), frozenset(self.systems), self.rests_on)


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

    def shared_snrs(self, up_to_db: float) -> int:
        """The number of SNRs up to `up_to_db` at which both were run."""
        both = set(self.ours.samples["snr_db"].unique()) & set(self.rival.samples["snr_db"].unique())
        return len([snr for snr in both if snr <= up_to_db])


@dataclass(frozen=True)
class Evidence:
    """What a check reads: the pairs that the run has. The other fields: what its tally begins with."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    complete: bool
    systems: frozenset[str]
    rests_on: str

    def tally(self) -> Tally:
        """A new tally of these pairs, without comparisons."""
        return Tally(
            numbers=list(self.notes), systems=set(self.systems), complete=self.complete, rests_on=self.rests_on
        )


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
    """The entry of a figure of the paper in the manifest. Raises Missing if the run has no rows of it, or none with the
    task, channel and budget of the paper's: a figure keeps its id when a command changes them.
    """
    found = [figure for figure in run.figures if figure["id"] == name and len(run.samples_of(figure))]
    if not found:
        raise Missing(f"the run has no rows of {name}")
    for figure in found:
        if not differences(figure, name):
            return figure
    raise Missing(f"{name} is not the paper's (configs/figures/{name}.toml): {'; '.join(differences(found[0], name))}")


def at_point_of(run: Run, figure: dict[str, Any]) -> Run:
    """The run with only a figure's operating points, and with every system that any figure ran there."""
    names = sorted({name for other in run.figures for name in other["systems"]})
    return run.cut_to({**figure, "systems": names})


def pairs_of(run: Run, name: str, rivals: tuple[str, ...], up_to_db: float = math.inf) -> Evidence:
    """Our system beside each rival in the run, for each training of the two. The notes name the rivals that are not in
    the run, or at too few SNRs up to `up_to_db`.
    """
    figure = figure_named(run, name)
    part = at_point_of(run, figure)
    here = set(part.samples["system"])
    if OURS not in here:
        raise without_us(run, figure)
    present = [rival for rival in rivals if rival in here]
    if not present:
        raise Missing(f"{name} was run without {', '.join(rivals)}")
    absent = [rival for rival in rivals if rival not in here]
    tally = Tally(complete=not absent)
    trained = trainings_of(part, OURS, tally)
    pairs = [Pair(own, other) for rival in present for other in trainings_of(part, rival, tally) for own in trained]
    failed = set(run.summary_of({**figure, "systems": absent})["system"])  # it names points whose cells all failed
    tally.numbers += [f"{rival}: {'cells are absent' if rival in failed else 'not in the run'}" for rival in absent]
    ours = part.samples[part.samples["system"] == OURS]
    shared = [pair.shared_snrs(up_to_db) for pair in pairs]
    whole = [pair for pair, number in zip(pairs, shared, strict=True) if number >= FEWEST_SNRS]
    up_to = "" if up_to_db == math.inf else f" up to {up_to_db:g} dB"
    if not whole:
        raise too_few(name, ours, max(shared), up_to)
    few = [pair.label for pair, number in zip(pairs, shared, strict=True) if number < FEWEST_SNRS]
    tally.complete &= not few
    tally.numbers += [f"{label}: fewer than {FEWEST_SNRS} SNRs in common{up_to}" for label in few]
    note_lacking(run.summary_of({**figure, "systems": [OURS, *present]}), tally)
    fewest = min(number for number in shared if number >= FEWEST_SNRS)
    least = pairs[shared.index(fewest)].joined.rows  # the others rest on no less
    kept = ours["snr_db"].isin(least["snr_db"]) & ours["image_id"].isin(least["image_id"])
    words = rests_on(ours[kept & (ours["snr_db"] <= up_to_db)])
    return Evidence(tuple(whole), tuple(tally.numbers), tally.complete, frozenset({OURS, *present}), words)


def without_us(run: Run, figure: dict[str, Any]) -> Missing:
    """The answer where a figure has no rows of our system."""
    if len(run.summary_of({**figure, "systems": [OURS]})):
        return Missing(f"{figure['id']} has no rows of {OURS}, because its cells are absent")
    return Missing(f"{figure['id']} was run without {OURS}")


def too_few(name: str, rows: pd.DataFrame, number: int, where: str = "") -> Missing:
    """The answer where a figure has too few SNRs. rows: those of our system. number: of SNRs, in the part `where`."""
    return Missing(
        f"{name} ({rests_on(rows)}) has {number} SNR{'s' * (number != 1)}{where}; a statement about a curve needs "
        f"{FEWEST_SNRS}"
    )


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
