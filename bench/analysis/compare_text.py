"""Prints a comparison on a terminal: first a summary of each pair, then its points, then notes.

`python -m bench compare` calls it.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bench.analysis.compare_numbers import ABSENT, ALL, DELIVERED, whole_curves
from bench.analysis.intervals import LEVEL_TEXT
from bench.analysis.quantity import quantity
from bench.measure.budget import budget_text
from bench.results.reader import BUDGETS, POINT
from bench.util.files import several

_SAME = 0.02  # uses or bits that differ by less than this share count as equal


def report(points: pd.DataFrame) -> str:
    """The table of `bench.analysis.compare.compare` as text."""
    groups = list(points.groupby(["a", "b", *POINT, "metric"], dropna=False, sort=False))
    lines = [
        "Summary (A - B over all SNRs; the verdict counts all pictures; lost ones count as the harness scored them)"
    ]
    rows = [_summary(group) for _, group in groups]
    heads = ("A", "B", "where", "metric", ALL, DELIVERED, "points: A ahead, tied, B ahead", "verdict")
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines += ["  ".join(f"{text:{width}}" for text, width in zip(row, widths)).rstrip() for row in (heads, *rows)]
    lines.append("")
    for _, group in groups:
        lines += _points(group)
    lines += points.attrs.get("notes", [])
    return "\n".join(lines).rstrip() + "\n"


def _summary(group: pd.DataFrame) -> tuple[str, ...]:
    first = group.iloc[0]
    at = group.dropna(subset=["snr_db"])
    whole = group[group["snr_db"].isna()]
    row = whole.iloc[0] if len(whole) else at.iloc[0]
    count = {v: int((at["verdict"] == v).sum()) for v in ("A", "tied", "B", "only A decodes", "only B decodes")}
    counts = f"{count['A'] + count['only A decodes']}, {count['tied']}, {count['B'] + count['only B decodes']}"
    return (
        first["a"], first["b"], f"{first['task']}, {first['dataset']}, {first['channel']}, {_budget(first)}",
        first["metric"], _difference(row, ""), _difference(row, "delivered_"), f"{counts} of {len(at)}",
        _with_reasons(_verdict(row["verdict"], first["a"], first["b"]), _absent(row)),
    )  # fmt: skip


def _points(group: pd.DataFrame) -> list[str]:
    """The table of one pair at one budget, and its notes."""
    first = group.iloc[0]
    a, b, metric = first["a"], first["b"], first["metric"]
    scale, unit = _unit(metric)
    lines = [
        f"A = {a}, B = {b}   {metric}{f' ({unit})' if unit else ''}, {first['task']}, {first['dataset']}, "
        f"{first['channel']}, {_budget(first)}",
        _matching(group),
        *_training(first, scale, unit),
        f"{'':>9} {ALL:^56}   {DELIVERED:^38}",
        f"{'SNR (dB)':>9} {'A':>9} {'B':>9} {'A - B':>9}   {LEVEL_TEXT + ' interval':<20} {'n':>4}   "
        f"{'A - B':>9}   {LEVEL_TEXT + ' interval':<20} {'n':>4}  verdict",
    ]
    for _, row in group.iterrows():
        snr = "all" if np.isnan(row["snr_db"]) else f"{row['snr_db']:g}"
        means = [_number(row[f"mean_{s}"], scale) for s in "ab"]
        lost = [f"{name} lost {count}" for name, count in (("A", row["outages_a"]), ("B", row["outages_b"])) if count]
        lost += _absent(row)
        verdict = _verdict(row["verdict"], a, b)
        other = _verdict(row["delivered_verdict"], a, b)
        if lost and row["delivered_verdict"] and other != verdict and "decodes" not in verdict:
            lost.append(f"{other} over those that both delivered")
        lines.append(
            f"{snr:>9} {means[0]:>9} {means[1]:>9} {_gap(row, '', scale)}   {_gap(row, 'delivered_', scale)}  "
            + _with_reasons(verdict, lost)
        )
    lines += _whole_curve(group, scale, unit)
    if not group["same_noise"].all():
        lines.append(
            "Note: the two sides have different noise, because their seeds or the names of their data sets differ."
        )
    return [*lines, ""]


def _absent(row: pd.Series) -> list[str]:
    """Which side lacks cells, in words: why the row has no numbers."""
    failed = [(name, row[f"failed_{name.lower()}"]) for name in "AB"]
    found = [f"{name} failed in {several(count, 'cell')}" for name, count in failed if count]
    return found + [f"{name} is not complete" for name, count in failed if row[f"lacking_{name.lower()}"] and not count]


def _with_reasons(verdict: str, reasons: list[str]) -> str:
    return verdict + (f" ({', '.join(reasons)})" if reasons else "")


def _whole_curve(group: pd.DataFrame, scale: float, unit: str) -> list[str]:
    if group["snr_db"].count() > 1 and group[ABSENT].to_numpy().any():
        return ["Over the whole curve: no number, because cells are absent."]
    lines = []
    for row in whole_curves(group).itertuples():
        if np.isnan(row.bd_gain):
            losers = " and ".join(side for side in "AB" if group[f"outages_{side.lower()}"].any())
            lines += [f"Over the whole curve: no number, because {losers} lost pictures."] if losers else []
            continue
        gain, least = scale * row.bd_gain, 0.001
        words = f"A is {abs(gain):.3f} {unit}".rstrip() + f" {'better' if gain > 0 else 'worse'} than B"
        if abs(gain) < least / 2:  # it would be shown as 0.000
            words = f"A and B differ by less than {least:g} {unit}".rstrip()
        words = f"Over the whole curve ({DELIVERED}{_open(group)}): {words}"
        if not np.isnan(row.snr_shift_db):
            shift = row.snr_shift_db
            if abs(shift) < 0.005:
                words += "; A and B need the same SNR for the same quality"
            else:
                words += (
                    f"; A needs {abs(shift):.2f} dB {'less' if shift > 0 else 'more'} SNR than B for the same quality"
                )
        lines.append(words + ".")
    return lines


def _open(group: pd.DataFrame) -> str:
    """What the verdict over all SNRs says, if it is for neither side: the number of a curve has no interval."""
    whole = group.loc[group["snr_db"].isna(), "delivered_verdict"]
    verdict = "" if whole.empty else whole.iloc[0]
    return "" if verdict in ("", "A", "B") else f"; {verdict}"


def _matching(group: pd.DataFrame) -> str:
    """Whether the two spent the same uses, the same bits, both or neither; per picture, over all SNRs."""
    uses, bits = ([group[f"{what}_{s}"].mean() for s in "ab"] for what in ("uses", "bits"))
    same_uses, same_bits = _equal(*uses), _equal(*bits)
    if math.isnan(bits[0]):
        words = "Matched: equal uses" if same_uses else "Not matched: uses are not equal"
        return f"{words} (uses A {uses[0]:.0f}, B {uses[1]:.0f}; bits are not known, because cells are absent)."
    spent = f"uses A {uses[0]:.0f}, B {uses[1]:.0f}; bits A {bits[0]:.0f}, B {bits[1]:.0f} per picture"
    if same_uses and same_bits:
        return f"Matched: equal uses and equal bits ({spent})."
    if same_uses:
        return f"Matched: equal uses ({spent})."
    if same_bits:
        return f"Matched: equal bits, not equal uses ({spent})."
    return f"Not matched: neither uses nor bits are equal ({spent})."


def _training(row: pd.Series, scale: float, unit: str) -> list[str]:
    """What chance in training means for the verdicts, if it was measured."""
    if not row["training_spread"]:
        return []
    moves = [f"{name} {_moves(scale * row[f'training_spread_{name.lower()}'], unit)}" for name in "AB"]
    return [f"From seed to seed of training, {', '.join(moves)}; a smaller difference is undecided."]


def _moves(std: float, unit: str) -> str:
    if math.isinf(std):
        return "lacks cells of a training, so nothing is decided"
    return f"moves by {std:.3f} {unit}".rstrip() + " (std)" if std >= 0 else "was not measured"


def _equal(a: float, b: float) -> bool:
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= _SAME * max(a, b)


def _unit(metric: str) -> tuple[float, str]:
    record = quantity(metric)
    return record.scale, "points" if record.unit == "%" else record.unit


def _budget(row: pd.Series) -> str:
    cbr, bits, uses = (None if np.isnan(row[name]) else float(row[name]) for name in BUDGETS)
    if cbr is None and bits is None and uses is None:  # tables of earlier versions hold only the uses that were spent
        return "up to " + budget_text(None, None, max(row["uses_a"], row["uses_b"]))
    return budget_text(cbr, bits, uses)


def _number(value: float, scale: float) -> str:
    return "" if np.isnan(value) else f"{scale * value:.3f}"


def _gap(row: pd.Series, which: str, scale: float) -> str:
    gap = "" if np.isnan(row[f"{which}difference"]) else f"{scale * row[f'{which}difference']:+.3f}"
    low, high = row[f"{which}ci_low"], row[f"{which}ci_high"]
    interval = "" if np.isnan(low) else f"[{scale * low:+.3f}, {scale * high:+.3f}]"
    return f"{gap:>9}   {interval:<20} {row[f'{which}n_images']:>4}"


def _difference(row: pd.Series, which: str) -> str:
    scale, unit = _unit(row["metric"])
    if np.isnan(row[f"{which}difference"]):
        return "-"
    low, high = row[f"{which}ci_low"], row[f"{which}ci_high"]
    interval = "" if np.isnan(low) else f" [{scale * low:+.2f}, {scale * high:+.2f}]"
    return f"{scale * row[f'{which}difference']:+.2f}{' ' * bool(unit)}{unit}{interval}"


def _verdict(verdict: str, a: str, b: str) -> str:
    if a == b:
        return {"A": "A ahead", "B": "B ahead"}.get(verdict, verdict)
    return {"A": f"{a} ahead", "B": f"{b} ahead"}.get(verdict, verdict)
