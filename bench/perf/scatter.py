"""PSNR of a run against the latency that `perf model` measured: the cost of a decibel in time.
`perf model` calls it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.report import system_looks
from bench.report.charts import legend_under
from bench.report.paper_sheet import COLUMN, Sheet, drawing, rendered
from bench.report.text import printable
from bench.results.reader import Run
from bench.util.files import write_all
from systems.errors import UserError


def draw_scatters(run: Run, rows: list[dict[str, Any]], snr_db: float, out: Path | None = None) -> list[Path]:
    """A figure for each figure of the run that shows PSNR, as PNG and PDF. Returns the files. Raises UserError if
    nothing matches.
    """
    files: dict[Path, bytes] = {}
    for figure in run.figures:
        points = points_of(run, figure, rows, snr_db)
        if points:
            with drawing():
                looks = system_looks.figure_looks(figure, run.system_facts)
                sheet = draw(points, figure["title"], snr_db, looks)
                files |= rendered(sheet.finish(), out or run.directory / "figures", f"latency-{figure['id']}")
    if not files:
        raise UserError(
            f"run {run.name} shows no PSNR of the measured systems at {snr_db:g} dB; give another --snr or --run"
        )
    return write_all(files)


def points_of(run: Run, figure: dict, rows: list[dict[str, Any]], snr_db: float) -> list[tuple[str, str, float, float]]:
    """(system, device, latency in ms, PSNR in dB). The latency is that of the measured size nearest to the figure's
    pictures.

    A system has no point if this size has less than half or more than twice their pixels.
    """
    summary = run.summary_of(figure)
    at = summary[
        (summary["metric"] == "psnr_db") & (summary["snr_db"] == snr_db) & (summary["n_outage"].fillna(0) == 0)
    ]
    if at.empty:
        return []
    means = dict(zip(at["system"], at["mean"]))
    samples = run.samples_of(figure)
    pixels = float((samples["height"] * samples["width"]).median())
    points = []
    for name, device in dict.fromkeys((row["system"], row["device"]) for row in rows):
        own = [row for row in rows if (row["system"], row["device"]) == (name, device)]
        away, nearest = min(
            ((abs(np.log2(row["height"] * row["width"] / pixels)), row) for row in own), key=lambda pair: pair[0]
        )
        if name in means and away <= 1:
            points.append((name, device, nearest["latency_ms"], float(means[name])))
    return points


def draw(points: list[tuple[str, str, float, float]], title: str, snr_db: float, looks: system_looks.Looks) -> Sheet:
    """A sheet as wide as one column: filled markers for the CPU, open markers for a GPU."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    names = looks.sorted(name for name, *_ in points)
    devices = list(dict.fromkeys(device for _, device, *_ in points))
    sheet = Sheet(COLUMN)
    axes = sheet.axes(0.47, 0.26, COLUMN - 0.55, 2.3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("Latency, encoder and decoder (ms per picture)", labelpad=2)
    axes.set_ylabel(f"PSNR at {snr_db:g} dB (dB)", labelpad=3)
    axes.set_title(printable(title), pad=4)
    for name in names:
        look = looks[name]
        for own, device, latency, psnr in points:
            if own == name:
                hollow = device != "cpu"
                axes.plot(latency, psnr, marker=look.marker or ".", markersize=look.marker_size + 2, linestyle="none",
                          color=look.colour, markerfacecolor="white" if hollow else look.colour,
                          markeredgecolor=look.colour, markeredgewidth=1.1,
                          label="_" if hollow and "cpu" in devices else look.label)  # fmt: skip
    if len(devices) > 1:
        gpu = next(device for device in devices if device != "cpu")
        axes.annotate(f"filled: CPU; open: {gpu}", (0.02, 0.02), xycoords="axes fraction", fontsize=6.3)
    axes.margins(0.08)
    sheet.stack([axes], 0.47)
    legend_under(sheet, *axes.get_legend_handles_labels(), 2.56 + 0.35)
    return sheet
