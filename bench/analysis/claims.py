"""The statements in the paper's Sec. V, as checks of a run's tables. No verdict is set by hand.

`python -m bench claims`, `plot` and `report` call it. The statements and their thresholds are here, the checks in
`bench.analysis.claim_checks` and `bench.analysis.claim_overhead`. "best" and "better" are decided by intervals of
differences paired over pictures:

- holds: in every comparison that the statement covers, our system is ahead, and the 95 % interval excludes 0. (All must
  be, so no correction is needed.)
- contradicted: in some comparison it is behind, and the interval excludes 0. Its level is corrected for the number of
  comparisons (Bonferroni): of many comparisons, one is easily behind by chance.
- calibrated: the run agrees because the bench was set up so that it agrees.
- undecided: none of these; or the run lacks the data (see below); or the two reductions of PSNR disagree; or the
  difference is smaller than what another seed of training moves it by, where this was measured
  (`bench.analysis.training_spread`).
- withheld: the statement depends on a system that was trained too little. The numbers are given. They hold for these
  weights, not for the systems.

A statement is judged at the task, channel and budget of the paper's figure (`bench.analysis.paper_points`), and at
three SNRs or more. One does otherwise: `lowest-overhead` compares the channel uses at equal PSNR. So it needs a sweep
of budgets (CBR), at the task and channel of Fig. 5. It is judged at each SNR that was swept, even a single one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.analysis.claim_checks import best, cliff, gap_statistic, mean_gap, slope, stable
from bench.analysis.claim_evidence import (
    CALIBRATED,
    CONTRADICTED,
    FIGURES,
    HOLDS,
    RECONSTRUCTION_RIVALS,
    SEGMENTATION_RIVALS,
    UNDECIDED,
    Check,
    Finding,
    Missing,
    both_reductions,
)
from bench.analysis.claim_overhead import overhead
from bench.analysis.undertrained import undertrained
from bench.results.reader import PAPER_FIGURES, Run
from bench.util.markdown import cell, markdown_table
from systems.errors import UserError

WITHHELD = "withheld"
LOW_SNR_DB = 6.0  # "when SNR is low" in the paper, which gives no number: points up to here
STABLE_MIOU = 0.02  # "will stabilize" in the paper: within this mIoU of the value at the highest SNR
__all__ = [
    "CALIBRATED",
    "CLAIMS",
    "CONTRADICTED",
    "HOLDS",
    "UNDECIDED",
    "WITHHELD",
    "judge",
    "markdown",
    "report",
    "table",
]


@dataclass(frozen=True)
class Claim:
    """One statement: its name, its words, its place in the paper, and the check that decides it."""

    name: str
    statement: str
    source: str
    check: Check = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """A decided claim.

    numbers: one line per comparison.
    rests_on: the data set, channel, budget, SNRs and pictures of its rows, in words; "" if it has none.
    undertrained: the systems that it depends on and that were trained too little.
    """

    name: str
    statement: str
    source: str
    verdict: str
    numbers: tuple[str, ...]
    rests_on: str = ""
    undertrained: tuple[str, ...] = ()


CLAIMS = (
    Claim(
        "low-resolution-best",
        "In the low-resolution case GenSC consistently achieves the best PSNR of all methods.",
        "Sec. V-B, Fig. 4",
        best(FIGURES["low"], RECONSTRUCTION_RIVALS, "psnr_db"),
    ),
    Claim(
        "high-resolution-low-snr",
        f"In the high-resolution case GenSC is slightly better than the baselines at low SNR (<= {LOW_SNR_DB:g} dB).",
        "Sec. V-B, Fig. 5",
        gap_statistic(
            FIGURES["high"],
            RECONSTRUCTION_RIVALS,
            mean_gap(LOW_SNR_DB),
            f"dB, mean of SNR <= {LOW_SNR_DB:g} dB",
            LOW_SNR_DB,
        ),  # fmt: skip
    ),
    Claim(
        "gap-grows-with-snr",
        "In the high-resolution case the gaps between GenSC and the baselines increase with SNR.",
        "Sec. V-B, Fig. 5",
        gap_statistic(FIGURES["high"], RECONSTRUCTION_RIVALS, slope, "dB of gap per dB of SNR"),
    ),
    Claim(
        "lowest-overhead",
        "GenSC has the lowest communication overhead of all methods (channel uses for equal PSNR).",
        "Sec. V-B, Fig. 6",
        both_reductions(overhead),
    ),
    Claim(
        "segmentation-best",
        "At 20 Kbits GenSC has the highest segmentation accuracy.",
        "Sec. V-C, Fig. 7",
        best(FIGURES["segmentation"], SEGMENTATION_RIVALS, "miou"),
    ),
    Claim(
        "segmentation-stable",
        f"Above 0 dB the segmentation accuracy of GenSC is stable (within {100 * STABLE_MIOU:g} points of mIoU).",
        "Sec. V-C, Fig. 7",
        stable(STABLE_MIOU),
    ),
    Claim(
        "16qam-fails-below-12db",
        "JPEG+LDPC+16QAM cannot deliver the picture below 12 dB.",
        "Sec. V-C, Fig. 7",
        cliff("16qam", 12.0),
    ),
    Claim(
        "64qam-fails-below-18db",
        "JPEG+LDPC+64QAM cannot deliver the picture below 18 dB.",
        "Sec. V-C, Fig. 7",
        cliff("64qam", 18.0),
    ),
)


# ---------------------------------------------------------------- the answer


def judge(run: Run | Path | str, names: Collection[str] | None = None) -> list[Verdict]:
    """Decide the claims of these names on one run, or every claim. Their order is that of `CLAIMS`.

    Raises UserError if the folder is no run or shows none of the paper's figures, or if there is no claim of a name.
    """
    known = [claim.name for claim in CLAIMS]
    for name in names or ():
        if name not in known:
            raise UserError(f"there is no claim {name!r}; claims are {', '.join(known)}")
    run = run if isinstance(run, Run) else Run.open(run)
    if not run.shows_a_paper_figure():
        ids = ", ".join(figure["id"] for figure in run.figures) or "none"
        raise UserError(f"run {run.name} has none of the paper's figures ({', '.join(PAPER_FIGURES)}); it has {ids}")
    papers = [figure for figure in run.figures if figure["id"] in PAPER_FIGURES]
    verdicts = []
    for claim in (claim for claim in CLAIMS if names is None or claim.name in names):
        try:
            found = claim.check(run)
        except Missing as reason:
            found = Finding(UNDECIDED, (str(reason),))
        weak = tuple(sorted(found.systems & undertrained(run, papers)))
        verdict = WITHHELD if weak else found.verdict
        trial = ", LIMITED: a trial, not a result" if run.limited and found.rests_on else ""
        verdicts.append(
            Verdict(claim.name, claim.statement, claim.source, verdict, found.numbers, found.rests_on + trial, weak)
        )
    return verdicts


def table(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row per claim, for CSV and Markdown."""
    return pd.DataFrame(
        [
            {
                "claim": v.name,
                "statement": v.statement,
                "source": v.source,
                "verdict": v.verdict,
                "rests_on": v.rests_on,
                "rests_on_undertrained": " ".join(v.undertrained),
                "numbers": " | ".join(v.numbers),
            }
            for v in verdicts
        ]
    )


def markdown(verdicts: list[Verdict]) -> str:
    """The claims as a table in Markdown."""
    rows = []
    for v in verdicts:
        weak = f"<br>rests on undertrained systems: {', '.join(v.undertrained)}" if v.undertrained else ""
        basis = f"<br>judged on {cell(v.rests_on)}" if v.rests_on else ""
        rows.append((f"{v.statement} ({v.source}){basis}", f"**{v.verdict}**{weak}", "<br>".join(v.numbers)))
    return markdown_table(("Statement of the paper", "Verdict", "Numbers"), "lll", rows) + "\n"


def report(verdicts: list[Verdict]) -> str:
    """The claims as text for a terminal."""
    lines = []
    for v in verdicts:
        lines.append(f"{v.verdict.upper():<13} {v.name} ({v.source})")
        lines.append(f"{'':<13} {v.statement}")
        if v.rests_on:
            lines.append(f"{'':<13} judged on {v.rests_on}")
        if v.undertrained:
            lines.append(f"{'':<13} rests on undertrained systems: {', '.join(v.undertrained)}")
        lines += [f"{'':<13} - {number}" for number in v.numbers]
        lines.append("")
    return "\n".join(lines)
