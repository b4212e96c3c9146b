"""What the paper's Sec. V states, as checks on a run's tables: each holds, is contradicted, stays undecided or is
withheld.

No verdict is set by hand. "best" and "better" are decided by intervals of differences paired over pictures:

- holds: every comparison that the statement covers is ahead with its 95 % interval clear of 0 (all must be, so no
  correction is due);
- contradicted: some comparison is behind with its interval clear of 0, at a level corrected for the number of
  comparisons looked at (Bonferroni), for among many one will be behind by chance;
- undecided: neither, or the run lacks the data.

A point at which a digital rival does not decode has nothing to compare and is left out of the differences; the numbers
say how many. Where a statement rests on a system marked undertrained the verdict is withheld: the numbers, which are
given, speak of these weights and not of the systems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.compare import KEY, Side, class_counts, compare_sides, paired_miou, side
from bench.analysis.intervals import LEVEL, bootstrap_mean, rate_over_images
from bench.analysis.undertrained import undertrained
from bench.results.reader import Run

HOLDS, CONTRADICTED, UNDECIDED, WITHHELD = "holds", "contradicted", "undecided", "withheld"
OURS = "gensc"
RECONSTRUCTION_RIVALS = ("witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam")
SEGMENTATION_RIVALS = ("deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn")
LOW_SNR_DB = 6.0  # "when SNR is low": the paper gives no number; points up to here
STABLE_MIOU = 0.02  # "will stabilize": within two points of mIoU of the value at the highest SNR
DECIMALS = 9  # below this a difference is rounding of the arithmetic, and no system is ahead by it
FIGURES = {"low": "fig4", "high": "fig5", "segmentation": "fig7"}


@dataclass(frozen=True)
class Claim:
    """One statement: its name, its words, where the paper says it, and the check that decides it."""

    name: str
    statement: str
    source: str
    check: Callable[[Run], tuple[str, list[str], set[str]]] = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """A decided claim. numbers: one line a comparison. undertrained: the systems it rests on that are marked so."""

    name: str
    statement: str
    source: str
    verdict: str
    numbers: tuple[str, ...]
    undertrained: tuple[str, ...] = ()


class _Missing(Exception):
    """The run lacks what a check needs; the message says what."""


# ---------------------------------------------------------------- checks


def _experiment(run: Run, figure: str) -> dict:
    for experiment in run.experiments:
        if experiment["id"] == figure and len(run.samples_of(experiment)):
            return experiment
    raise _Missing(f"the run has no rows of {figure}")


def _sides(run: Run, figure: str, rivals: tuple[str, ...]) -> tuple[dict, list[tuple[Side, Side]], list[str]]:
    """The figure, (ours, rival) for each rival that was run, and the names of those that were not."""
    experiment = _experiment(run, figure)
    rows = run.samples_of(experiment)
    part = run.cut_to(experiment)  # another figure's rows of the same systems must not enter
    here = set(rows["system"])
    if OURS not in here:
        raise _Missing(f"{figure} was run without {OURS}")
    pairs = [(side(part, OURS), side(part, rival)) for rival in rivals if rival in here]
    if not pairs:
        raise _Missing(f"{figure} was run without {', '.join(rivals)}")
    return experiment, pairs, [rival for rival in rivals if rival not in here]


def _decide(holds: list[bool], against: list[bool], complete: bool) -> str:
    if any(against):
        return CONTRADICTED
    return HOLDS if holds and all(holds) and complete else UNDECIDED


def _best(figure: str, rivals: tuple[str, ...], metric: str) -> Callable[[Run], tuple[str, list[str], set[str]]]:
    """Ours ahead of every rival at every SNR."""

    def check(run: Run) -> tuple[str, list[str], set[str]]:
        _, pairs, absent = _sides(run, figure, rivals)
        tables = [(rival.system, _points(compare_sides(ours, rival, metric))) for ours, rival in pairs]
        looked = sum(int((table["n_images"] > 0).sum()) for _, table in tables)
        scale, unit = (100.0, "points") if metric == "miou" else (1.0, "dB")
        holds, against, numbers = [], [], []
        for (ours, rival), (name, table) in zip(pairs, tables, strict=True):
            compared = table["n_images"] > 0
            ahead, behind = table.loc[compared, "ci_low"] > 0, table.loc[compared, "ci_high"] < 0
            behind_at = int(behind.sum())
            if behind_at:
                strict = _points(compare_sides(ours, rival, metric, level=1 - (1 - LEVEL) / looked))
                behind = strict.loc[compared, "ci_high"] < 0
            # Where only we decode we are ahead; where only the rival does, it is. Where neither does, nobody is best.
            silent = list(table.loc[~compared, "verdict"])
            holds += [*ahead, *(v == "only A decodes" for v in silent)]
            against += [*behind, *(v == "only B decodes" for v in silent)]
            lost = int((table["outages_b"] > 0).sum())
            numbers.append(
                f"{OURS} - {name}: "
                + _spread(table[compared], scale, unit, int(ahead.sum()), behind_at)
                + (f"; {name} loses pictures at {lost} SNRs" if lost else "")
            )
        numbers += [f"{name}: not in the run" for name in absent]
        return _decide(holds, against, not absent), numbers, {OURS, *(b.system for _, b in pairs)}

    return check


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of single SNRs. _Missing where the two sides share none."""
    if table.empty:
        raise _Missing("the systems share no picture at any SNR")
    return table.dropna(subset=["snr_db"]).reset_index(drop=True)


def _spread(rows: pd.DataFrame, scale: float, unit: str, ahead: int, behind: int) -> str:
    if rows.empty:
        return "no SNR at which both decode"
    low, high = rows.loc[rows["difference"].idxmin()], rows.loc[rows["difference"].idxmax()]
    ends = [
        f"{scale * r['difference']:+.2f} {unit} [{scale * r['ci_low']:+.2f}, {scale * r['ci_high']:+.2f}] "
        f"at {r['snr_db']:g} dB"
        for r in (low, high)
    ]
    return f"from {ends[0]} to {ends[1]}; ahead at {ahead}, behind at {behind} of {len(rows)} SNRs"


def _low_snr(run: Run) -> tuple[str, list[str], set[str]]:
    """Ours ahead of every rival on average over the low SNRs, a picture at a time."""
    return _per_picture(run, FIGURES["high"], RECONSTRUCTION_RIVALS, _mean_gap, "dB, mean of SNR <= 6 dB")


def _growth(run: Run) -> tuple[str, list[str], set[str]]:
    """The gap to every rival has a positive slope over SNR."""
    return _per_picture(run, FIGURES["high"], RECONSTRUCTION_RIVALS, _slope, "dB of gap a dB of SNR")


def _mean_gap(gaps: pd.DataFrame) -> np.ndarray:
    return gaps.loc[:, gaps.columns <= LOW_SNR_DB].mean(axis=1).to_numpy(float)


def _slope(gaps: pd.DataFrame) -> np.ndarray:
    """Least-squares slope of each picture's gap over the SNRs at which every picture has one."""
    whole = gaps.dropna(axis=1)
    if whole.shape[1] < 2:
        return np.full(len(gaps), np.nan)
    x = whole.columns.to_numpy(float)
    x = x - x.mean()
    return (whole.to_numpy(float) @ x) / (x @ x)


def _per_picture(
    run: Run, figure: str, rivals: tuple[str, ...], statistic: Callable, unit: str
) -> tuple[str, list[str], set[str]]:
    """One number a picture from its gaps over SNR, and the interval of its mean over pictures; all must be positive."""
    _, pairs, absent = _sides(run, figure, rivals)
    holds, against, numbers, complete = [], [], [], not absent
    used = {OURS}
    for ours, rival in pairs:
        joined = ours.samples.merge(rival.samples, on=KEY, suffixes=("_a", "_b"))
        joined = joined[(joined["status_a"] == "ok") & (joined["status_b"] == "ok")]
        gaps = (
            (joined["psnr_db_a"] - joined["psnr_db_b"]).groupby([joined["image_id"], joined["snr_db"]]).mean().unstack()
        )
        values = np.round(statistic(gaps), DECIMALS) if len(gaps) else np.array([])
        interval = bootstrap_mean(values)
        if interval.n == 0:
            # A rival that decodes nothing here cannot be compared, and takes nothing from the statement either.
            numbers.append(f"{OURS} - {rival.system}: too few SNRs at which both decode")
            complete &= bool((rival.samples["status"] == "outage").any())
            continue
        used.add(rival.system)
        strict = bootstrap_mean(values, level=1 - (1 - LEVEL) / len(pairs))
        holds.append(interval.low > 0)
        against.append(strict.high < 0)
        ends = f"[{interval.low:+.3f}, {interval.high:+.3f}]"
        numbers.append(f"{OURS} - {rival.system}: {interval.mean:+.3f} {ends} {unit}, {interval.n} pictures")
    numbers += [f"{name}: not in the run" for name in absent]
    return _decide(holds, against, complete), numbers, used


def _cliff(modulation: str, threshold: float) -> Callable[[Run], tuple[str, list[str], set[str]]]:
    """Below `threshold` dB most pictures are lost, from there on most arrive, by that rate's interval over pictures."""

    def check(run: Run) -> tuple[str, list[str], set[str]]:
        rows = run.samples
        rows = rows[
            rows["system"].isin([f"jpeg-ldpc-{modulation}", f"jpeg-ldpc-{modulation}-fcn"])
            & (rows["channel"] == "awgn")
        ]
        if rows.empty:
            raise _Missing(f"the run has no rows of jpeg-ldpc-{modulation} on AWGN")
        holds, against, numbers = [], [], []
        for snr, group in rows.groupby("snr_db"):
            lost = (group["status"] == "outage").astype(float)
            rate, _ = rate_over_images(lost.groupby([group["dataset"], group["image_id"]]).mean().to_numpy())
            fails, arrives = rate.low > 0.5, rate.high < 0.5
            below = snr < threshold
            holds.append(fails if below else arrives)
            against.append(arrives if below else fails)
            if abs(snr - threshold) <= 2.5 or against[-1]:
                numbers.append(f"{snr:g} dB: {rate.mean:.0%} lost [{rate.low:.0%}, {rate.high:.0%}] of {rate.n}")
        levels = rows["snr_db"].unique()
        both = (levels < threshold).any() and (levels >= threshold).any()
        if not both:
            numbers.append(f"the sweep has no SNR on one side of {threshold:g} dB")
        return _decide(holds, against, both), numbers, set()

    return check


def _stable(run: Run) -> tuple[str, list[str], set[str]]:
    """Above 0 dB our mIoU stays within STABLE_MIOU of its value at the highest SNR (an equivalence test)."""
    experiment = _experiment(run, FIGURES["segmentation"])
    rows = run.samples_of(experiment)
    rows = rows[(rows["system"] == OURS) & (rows["snr_db"] > 0) & (rows["status"] == "ok")]
    levels = sorted(rows["snr_db"].unique())
    if len(levels) < 2:
        raise _Missing(f"fewer than two SNRs above 0 dB of {OURS} in {FIGURES['segmentation']}")
    confusion = run.confusion[run.confusion["system"] == OURS]

    def counts(snr: float) -> tuple[np.ndarray, np.ndarray]:
        return class_counts(confusion, rows.loc[rows["snr_db"] == snr, ["cell_id", "image_id", "snr_db", "rep"]])

    top = counts(levels[-1])
    holds, against, numbers = [], [], []
    for snr in levels[:-1]:
        other = counts(snr)
        if other[0].shape[1] != top[0].shape[1]:
            raise _Missing("the SNRs were run on different pictures")
        _, _, gap = paired_miou(other, top)
        _, _, strict = paired_miou(other, top, level=1 - (1 - LEVEL) / (len(levels) - 1))
        holds.append(-STABLE_MIOU < gap.low and gap.high < STABLE_MIOU)
        against.append(strict.high < -STABLE_MIOU or strict.low > STABLE_MIOU)
        ends = f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
        numbers.append(f"mIoU at {snr:g} dB less that at {levels[-1]:g} dB: {100 * gap.mean:+.2f} {ends} points")
    return _decide(holds, against, True), [f"stable means within {100 * STABLE_MIOU:g} points", *numbers], {OURS}


def _overhead(run: Run) -> tuple[str, list[str], set[str]]:
    """Ours spends fewer channel uses a picture than every rival, side information counted."""
    holds, against, numbers, complete = [], [], [], True
    for figure in (FIGURES["low"], FIGURES["high"]):
        _, pairs, absent = _sides(run, figure, RECONSTRUCTION_RIVALS)
        complete &= not absent
        for ours, rival in pairs:
            spent = [s.samples.groupby("image_id")["n_uses"].mean() for s in (ours, rival)]
            values = (spent[0] - spent[1]).dropna().to_numpy(float)
            interval = bootstrap_mean(values)
            strict = bootstrap_mean(values, level=1 - (1 - LEVEL) / (2 * len(RECONSTRUCTION_RIVALS)))
            holds.append(interval.high < 0)
            against.append(strict.low > 0)
            ends = f"[{interval.low:+.1f}, {interval.high:+.1f}]"
            numbers.append(f"{figure}, {OURS} - {rival.system}: {interval.mean:+.1f} {ends} uses a picture")
    numbers.append("the bench grants every system the same budget, so the statement cannot show its strength here")
    return _decide(holds, against, complete), numbers, set()


CLAIMS = (
    Claim(
        "low-resolution-best",
        "In the low-resolution case GenSC consistently achieves the best PSNR of all methods.",
        "Sec. V-B, Fig. 4",
        _best(FIGURES["low"], RECONSTRUCTION_RIVALS, "psnr_db"),
    ),
    Claim(
        "high-resolution-low-snr",
        "In the high-resolution case GenSC is slightly better than the baselines when SNR is low.",
        "Sec. V-B, Fig. 5",
        _low_snr,
    ),
    Claim(
        "gap-grows-with-snr",
        "In the high-resolution case the gaps between GenSC and the baselines increase with SNR.",
        "Sec. V-B, Fig. 5",
        _growth,
    ),
    Claim(
        "lowest-overhead", "GenSC has the lowest communication overhead of all methods.", "Sec. V-B, Fig. 6", _overhead
    ),
    Claim(
        "segmentation-best",
        "At 20 Kbits GenSC has the highest segmentation accuracy.",
        "Sec. V-C, Fig. 7",
        _best(FIGURES["segmentation"], SEGMENTATION_RIVALS, "miou"),
    ),
    Claim(
        "segmentation-stable", "Above 0 dB the segmentation accuracy of GenSC is stable.", "Sec. V-C, Fig. 7", _stable
    ),
    Claim(
        "16qam-fails-below-12db",
        "JPEG+LDPC+16QAM cannot deliver the picture below 12 dB.",
        "Sec. V-C, Fig. 7",
        _cliff("16qam", 12.0),
    ),
    Claim(
        "64qam-fails-below-18db",
        "JPEG+LDPC+64QAM cannot deliver the picture below 18 dB.",
        "Sec. V-C, Fig. 7",
        _cliff("64qam", 18.0),
    ),
)


# ---------------------------------------------------------------- the answer


def judge(run: Run | Path | str) -> list[Verdict]:
    """Every claim, decided on one run. UserError where the folder is not a run."""
    run = run if isinstance(run, Run) else Run.open(run)
    verdicts = []
    for claim in CLAIMS:
        try:
            verdict, numbers, used = claim.check(run)
        except _Missing as reason:
            verdict, numbers, used = UNDECIDED, [str(reason)], set()
        weak = tuple(sorted(used & undertrained(run)))
        verdict = WITHHELD if weak else verdict
        verdicts.append(Verdict(claim.name, claim.statement, claim.source, verdict, tuple(numbers), weak))
    return verdicts


def table(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row a claim, for CSV and Markdown."""
    return pd.DataFrame(
        [
            {
                "claim": v.name,
                "statement": v.statement,
                "source": v.source,
                "verdict": v.verdict,
                "rests_on_undertrained": " ".join(v.undertrained),
                "numbers": " | ".join(v.numbers),
            }
            for v in verdicts
        ]
    )


def markdown(verdicts: list[Verdict]) -> str:
    """The claims for the eye."""
    lines = ["| Statement of the paper | Verdict | Numbers |", "|---|---|---|"]
    for v in verdicts:
        weak = f"<br>rests on undertrained systems: {', '.join(v.undertrained)}" if v.undertrained else ""
        lines.append(f"| {v.statement} ({v.source}) | **{v.verdict}**{weak} | {'<br>'.join(v.numbers)} |")
    return "\n".join(lines) + "\n"


def report(verdicts: list[Verdict]) -> str:
    """The claims as text for a terminal."""
    lines = []
    for v in verdicts:
        lines.append(f"{v.verdict.upper():<13} {v.name} ({v.source})")
        lines.append(f"{'':<13} {v.statement}")
        if v.undertrained:
            lines.append(f"{'':<13} rests on undertrained systems: {', '.join(v.undertrained)}")
        lines += [f"{'':<13} - {number}" for number in v.numbers]
        lines.append("")
    return "\n".join(lines)
