"""The footnote of a figure: data set, pictures, channel, budget, what is drawn, origins, run.

`bench.report.figure_kinds` calls it for every drawing. `plot --no-caption` leaves the footnote out.
"""

from __future__ import annotations

import pandas as pd

from bench.analysis.intervals import LEVEL_TEXT, method_of
from bench.analysis.quantity import outage_words
from bench.measure.budget import budget_text
from bench.measure.channel import channel_label
from bench.measure.tasks import other_request
from bench.report.charts import Chart
from bench.report.drawing_job import DrawingJob
from bench.report.text import printable
from bench.util.files import several


def footnote_words(job: DrawingJob, figure: dict, rows: pd.DataFrame | None, chart: Chart | None) -> list[str]:
    """The parts of the footnote, in order. rows: of summary.csv, for the count of pictures. chart: what is drawn."""
    words = [printable(figure["dataset"])]
    if rows is not None:
        counts = rows.loc[rows["metric"].eq(figure["metric"]) & (rows["n_images"] > 0), "n_images"].astype(int)
        if len(counts):
            words.append(
                several(counts.max(), "image")
                if counts.min() == counts.max()
                else f"{counts.min()} to {counts.max()} images"
            )
    words.append(channel_label(figure["channel"]))
    if (figure["cbr"], figure["bits"], figure.get("uses")) != (None, None, None):  # otherwise the budget is the axis
        words.append(budget_text(figure["cbr"], figure["bits"], figure.get("uses")))
    if asked := other_request(figure["task"], figure["requirement"]):
        words.append(f"asked for by {printable(asked)!r}")
    if chart is not None:
        if chart.bands:
            words.append(f"bands: {LEVEL_TEXT} {method_of(int(counts.min()) if len(counts) else 0)}")
        if chart.differences:
            words.append(
                f"below: difference to {chart.looks.label(chart.reference)}, paired over images, {LEVEL_TEXT} intervals"
            )
        if chart.has_outages:
            words.append(f"lost pictures are scored as {outage_words(figure['task'])}")
        lost = [curve for curve in chart.curves if not curve.faded and "outage" in curve.state]
        if lost:
            words.append("no points where pictures were lost")
        for curve in lost:
            if curve.loses_again is not None:
                words.append(f"{chart.looks.label(curve.system)} loses pictures above {curve.loses_again:g} too")
        for origin in dict.fromkeys(line.origin for line in chart.published):
            labels = "; ".join(line.label for line in chart.published if line.origin == origin)
            words.append(f"thin lines, trained and measured elsewhere: {labels} ({origin})")
    words.append(f"run {printable(job.run.name)}")
    words[-1] += "".join(
        f", {printable(name)}" + (" (LIMITED)" if run.limited else "") for name, (run, _) in job.overlays.items()
    )
    if job.run.limited:
        words.append("LIMITED RUN (--limit)")
    return words
