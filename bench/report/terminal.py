"""The means of a run as text for the terminal: each figure's metric, systems by SNR. Called by `bench run`."""

from __future__ import annotations

from pathlib import Path

from bench.analysis.quantity import axis_label, has_labels, outage_words, quantity
from bench.measure.budget import budget_text
from bench.measure.metrics.table import Metric
from bench.results.csv_tables import read_rows
from bench.spec.request import Resolved
from bench.util.files import several


def result_tables(resolved: Resolved, out: Path) -> str:
    """The mean of each figure's metric, systems by SNR. Third parties' systems are named: one may be called like a size
    of ours.
    """
    summary = read_rows(out / "summary.csv")
    blocks, lost_as, lacking = [], [], False
    for figure in resolved.figures:
        dataset = resolved.datasets[figure.dataset]
        means = {
            (row["system"], float(row["snr_db"])): row
            for row in summary
            if row["metric"] == figure.metric and row["dataset"] == dataset.name and row["channel"] == figure.channel
            and row["task"] == figure.task and row["cbr_target"] == ("" if figure.cbr is None else repr(figure.cbr))
            and row["bits_target"] == ("" if figure.bits is None else str(figure.bits))
            and row["uses_target"] == ("" if figure.uses is None else str(figure.uses))
        }  # fmt: skip
        marks = " (LIMITED)" if resolved.request.limit else ""
        marks += " (demonstration)" if dataset.demonstration and has_labels(figure.task) else ""
        head = (
            f"{figure.id}: {axis_label(figure.metric)}, {dataset.name}, {several(len(dataset.ids), 'picture')}, "
            f"{figure.channel}, {budget_text(figure.cbr, figure.bits, figure.uses)}{marks}"
        )
        width = max(len(name) for name in (*figure.systems, "SNR (dB)"))
        metric = quantity(figure.metric)
        lines = [head, "  ".join([f"{'SNR (dB)':{width}}", *(f"{point:6g}" for point in figure.snr_db)])]
        for name in figure.systems:
            fields = [_mean_text(means.get((name, point)), metric) for point in figure.snr_db]
            lines.append("  ".join([f"{name:{width}}", *fields]))
        blocks.append("\n".join(lines))
        lacking |= any(row["mean"] == "" for (name, _), row in means.items() if name in figure.systems)
        if any("*" in line for line in lines[2:]):
            lost_as.append(outage_words(figure.task))
    if lost_as:
        blocks.append(f"* some of the pictures were outages, scored as {' or '.join(dict.fromkeys(lost_as))}")
    if lacking:
        blocks.append("- cells failed or were not computed, so the point has no mean")
    others = [name for name, facts in resolved.systems.items() if facts.plugin]
    if others:
        blocks.append(f"of third parties: {', '.join(others)}")
    return "\n\n".join(blocks)


def _mean_text(row: dict[str, str] | None, metric: Metric) -> str:
    if row is None or row["mean"] == "":
        return f"{'-':>6}"
    mark = "*" if row["n_outage"] not in ("", "0") else ""
    return f"{metric.scale * float(row['mean']):.{metric.digits}f}{mark}".rjust(6)
