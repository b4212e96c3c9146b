"""The tables of a run: results of each figure, overheads, claims. CSV in full precision, and Markdown. Called by
`plot`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.intervals import LEVEL_TEXT
from bench.analysis.quantity import OUTAGE_RATE, axis_label, has_labels, quantities, quantity
from bench.report import system_looks
from bench.report.class_tables import class_markdown, class_table
from bench.report.overheads import kept_flops, overhead_markdown, overhead_table, spending_notes
from bench.report.text import printable
from bench.results.csv_tables import frame_text
from bench.results.reader import Run
from bench.util.files import slug
from bench.util.markdown import cell, markdown_table

RESULT_COLUMNS = [
    "figure", "system", "variant", "dataset", "channel", "cbr_target", "bits_target", "uses_target", "snr_db", "metric",
    "mean", "std", "ci_low", "ci_high", "ci_level", "n_images", "n_outage", "limited",
]  # fmt: skip


def tables_of(run: Run) -> dict[Path, bytes]:
    """All tables of the run: path in its folder tables/ -> content. No network is built, and nothing is written."""
    from bench.analysis import claims

    files: dict[Path, bytes] = {}
    overheads = overhead_table(run, kept_flops(run))
    for figure in run.figures:
        rows = results_table(run, figure)
        if len(rows):
            looks = system_looks.figure_looks(figure, run.system_facts)
            text = results_markdown(rows, figure, looks)
            text += spending_notes(overheads[overheads["figure"] == figure["id"]], looks)
            files |= _files(run, f"results-{figure['id']}", rows, text)
            if has_labels(figure["task"]):
                classes = class_table(run, figure)
                files |= _files(
                    run, f"classes-{figure['id']}", classes, class_markdown(classes, figure["title"], looks)
                )
    if len(overheads):
        files |= _files(run, "overheads", overheads, overhead_markdown(overheads, run.system_facts))
    if len(run.samples) and run.shows_a_paper_figure():
        verdicts = claims.judge(run)
        files |= _files(run, "claims", claims.table(verdicts), claims.markdown(verdicts))
    return files


def _files(run: Run, name: str, table: pd.DataFrame, markdown: str) -> dict[Path, bytes]:
    paths = [run.directory / "tables" / f"{slug(name)}{end}" for end in (".csv", ".md")]
    note = (
        f"\nRun {printable(run.name)}."
        + (" LIMITED RUN (`--limit`): a trial, not a result." if run.limited else "")
        + "\n"
    )
    texts = frame_text(table), markdown + note
    return {path: text.encode("utf-8", "backslashreplace") for path, text in zip(paths, texts)}


# ---------------------------------------------------------------- results


def results_table(run: Run, figure: dict) -> pd.DataFrame:
    """One row per metric, system and SNR, with RESULT_COLUMNS: the figure's own metric first, systems in the order of
    the legend.

    Metrics that were not measured in the figure have no rows.
    """
    rows = run.summary_of(figure)
    known = rows["mean"].notna() | (rows["metric"].eq(figure["metric"]) & (rows["n_outage"] > 0))
    measured = rows[known].groupby("metric").size()
    metrics = [figure["metric"], *(m.name for m in quantities() if m.name != figure["metric"])]
    places = {metric: place for place, metric in enumerate(metrics)}
    rows = rows[rows["metric"].isin([m for m in metrics if m in measured.index])].copy()
    looks = system_looks.figure_looks(figure, run.system_facts)
    rows.insert(0, "figure", figure["id"])
    rows = rows.assign(
        _metric=rows["metric"].map(places), _order=rows["system"].map(looks.places(rows["system"]))
    ).sort_values(["_metric", "_order", "variant", "snr_db"], kind="stable")
    if figure["channel"] == "awgn" and not (rows["n_outage"] > 0).any():
        rows = rows[rows["metric"] != OUTAGE_RATE.name]
    return rows[RESULT_COLUMNS].reset_index(drop=True)


def results_markdown(rows: pd.DataFrame, figure: dict, looks: system_looks.Looks | None = None) -> str:
    """One table per metric, systems by SNR: mean and 95 % interval.

    Where pictures were lost, a cell gives their number. In a fading channel, where every SNR loses some, the value is
    also given, with lost pictures as they were scored. What was not simulated is empty.
    """
    faded = figure["channel"] != "awgn"
    return "\n".join(_metric_markdown(own, str(metric), figure["title"], looks or system_looks.Looks(), faded)
                     for metric, own in rows.groupby("metric", sort=False))  # fmt: skip


def _metric_markdown(rows: pd.DataFrame, metric: str, title: str, looks: system_looks.Looks, faded: bool) -> str:
    snrs = sorted(rows["snr_db"].unique())
    of = "mean over images" if quantity(metric).reduction == "mean" else "of the whole data set"
    body = []
    for (system, variant), own in rows.groupby(["system", "variant"], sort=False):
        several = rows[rows["system"] == system]["variant"].nunique() > 1
        cells = []
        for snr in snrs:
            at = own[own["snr_db"] == snr]
            cells.append(_value(at.iloc[-1], metric, faded) if len(at) else "")
        name = cell(looks.label(system)) + (f" [{cell(variant)}]" if several else "")
        body.append((name, *cells))
    text = markdown_table(("System", *(f"{snr:g} dB" for snr in snrs)), "l" + "r" * len(snrs), body)
    return f"**{cell(title)}**: {axis_label(metric)}, {of}, with its {LEVEL_TEXT} interval.\n\n{text}\n"


def _value(row: pd.Series, metric: str, faded: bool) -> str:
    """One cell: the mean with its interval, and the number of lost pictures."""
    scale, places = quantity(metric).scale, quantity(metric).digits
    lost = f"{row['n_outage']:g} lost" if row["n_outage"] > 0 and metric != OUTAGE_RATE.name else ""
    if lost and not faded:
        return f"outage ({lost})"
    if np.isnan(row["mean"]):
        return lost
    text = f"{scale * row['mean']:.{places}f}"
    inside = (
        []
        if np.isnan(row["ci_low"])
        else [" to ".join(f"{scale * row[end]:.{places}f}" for end in ("ci_low", "ci_high"))]
    )
    inside += [lost] if lost else []
    return text + (f" ({'; '.join(inside)})" if inside else "")
