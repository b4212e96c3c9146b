"""From a run's tables to files: which figures it holds, the rows of each, and the line of small print below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis.undertrained import undertrained
from bench.report import style
from bench.report.curves import draw_curves, series_of
from bench.report.gallery import Tile, draw_gallery
from bench.report.segmentation import Example, draw_segmentation
from bench.results.reader import Run
from bench.spec.figure import budget_text
from systems.errors import UserError, did_you_mean

CHANNELS = {"awgn": "AWGN", "rayleigh-block": "block Rayleigh fading", "rayleigh-fast": "fast Rayleigh fading"}


def draw_run(run_dir: Path, figures: list[str] | None = None) -> list[Path]:
    """See `bench.report.draw_all`."""
    from bench.report.tables import write_tables

    run = Run.open(run_dir)
    makers = figure_makers(run)
    for name in figures or ():
        if name not in makers:
            hint = did_you_mean(name, makers, "its figures")
            raise UserError(f"run {run.name} has no figure {name!r}; {hint}")
    written: list[Path] = []
    with style.paper_look():
        for name, make in makers.items():
            if figures is None or name in figures:
                for suffix, figure in make():
                    written += save(figure, run.directory / "figures", name + suffix)
    if figures is None:
        written += write_tables(run)
    return written


def save(figure, folder: Path, name: str) -> list[Path]:
    """Write a matplotlib figure as PNG (200 dpi) and PDF without dates, so that equal tables give equal files."""
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            metadata = {"Software": None} if path.suffix == ".png" else {"CreationDate": None, "Producer": None}
            figure.savefig(path, dpi=style.DPI, bbox_inches="tight", pad_inches=0.04, metadata=metadata)
    except OSError as error:
        raise UserError(f"cannot write {folder / name}: {error.strerror}; make the folder writable") from None
    return paths


def figure_makers(run: Run) -> dict:
    """Figure id -> a function giving [(suffix of the file name, matplotlib figure), ...]; only figures with data."""
    makers = {}
    groups: dict[str, list[dict]] = {}
    for experiment in run.experiments:
        if experiment.get("budgets_of"):
            groups.setdefault(experiment["budgets_of"], []).append(experiment)
            continue
        rows = run.summary_of(experiment)
        pictures = run.pictures_of(experiment)
        if len(rows):
            segmentation = experiment["task"] == "segmentation"
            maker = _segmentation if segmentation else _curves
            makers[experiment["id"]] = lambda m=maker, e=experiment, r=rows, p=pictures: m(run, e, r, p)
            if segmentation:
                continue
        if len(pictures):
            shown = experiment["pictures"].get("id") or experiment["id"]
            shown += "-pictures" if shown == experiment["id"] else ""
            makers[shown] = lambda e=experiment, p=pictures: _gallery(run, e, p)
    for name, group in groups.items():
        if any(len(run.summary_of(experiment)) for experiment in group):
            makers[name] = lambda g=group: _budgets(run, g)
    return makers


def _curves(run: Run, experiment: dict, rows: pd.DataFrame, _pictures: pd.DataFrame) -> list:
    curves = series_of(rows, experiment["metric"], undertrained(run))
    return [
        (
            "",
            small_print(
                draw_curves(curves, experiment["metric"]), run, experiment, rows, bands=True, width=style.COLUMN
            ),
        )
    ]


def _budgets(run: Run, group: list[dict]) -> list:
    """Quality against the budget, a figure an SNR."""
    rows, first = pd.concat([run.summary_of(experiment) for experiment in group]), group[0]
    along, axis = ("cbr_target", "CBR") if first["bits"] is None else ("kbits", "Budget (kbits)")
    rows = rows.assign(kbits=rows["bits_target"] / 1000)
    snrs, at = sorted(rows["snr_db"].unique()), {**first, "cbr": None, "bits": None}
    figures = []
    for snr in snrs:
        own = rows[rows["snr_db"] == snr]
        figure = draw_curves(series_of(own, first["metric"], undertrained(run), along), first["metric"], axis)
        figures.append(
            (
                f"-{snr:g}dB" if len(snrs) > 1 else "",
                small_print(figure, run, at, own, bands=True, extra=[f"SNR {snr:g} dB"], width=style.COLUMN),
            )
        )
    return figures


def _gallery(run: Run, experiment: dict, pictures: pd.DataFrame) -> list:
    figures = []
    outputs = pictures[pictures["system"] != ""]
    for image_id in pictures["image_id"].drop_duplicates():
        originals = pictures[(pictures["image_id"] == image_id) & (pictures["kind"] == "original")]
        if originals.empty:
            continue
        original = run.picture(originals["file"].iloc[0])
        for snr in sorted(outputs["snr_db"].unique()):
            tiles = [Tile(original, "Original", f"{original.shape[1]} × {original.shape[0]}")]
            for system in style.legend_order(experiment["systems"]):
                own = outputs[
                    (outputs["image_id"] == image_id) & (outputs["snr_db"] == snr) & (outputs["system"] == system)
                ]
                title = style.label_of(system) + (" *" if system in undertrained(run) else "")
                if own.empty:
                    tiles.append(Tile(None, title))
                    continue
                row = own.iloc[-1]
                uses = "" if np.isnan(row["n_uses"]) else f" · {thousands(row['n_uses'])} uses"
                lost = row["status"] == "outage"
                tiles.append(
                    Tile(run.picture(row["file"]), title, ("outage" if lost else f"{row['psnr_db']:.2f} dB") + uses)
                )
            first = not figures
            suffix = "" if first else f"-{image_id}" + (f"-{snr:g}dB" if outputs["snr_db"].nunique() > 1 else "")
            extra = [f"{image_id} at {snr:g} dB", "detail: the original's richest part"]
            if undertrained(run) & set(experiment["systems"]):
                extra.append("* undertrained")
            figures.append(
                (suffix, small_print(draw_gallery(tiles), run, experiment, None, extra=extra, width=style.PAGE))
            )
    return figures


def _segmentation(run: Run, experiment: dict, rows: pd.DataFrame, pictures: pd.DataFrame) -> list:
    curves = series_of(rows, experiment["metric"], undertrained(run))
    systems = style.legend_order(experiment["systems"])
    outputs = pictures[pictures["system"] != ""]
    examples = []
    for image_id in pictures["image_id"].drop_duplicates():
        own = pictures[pictures["image_id"] == image_id]
        files = {kind: own.loc[own["kind"] == kind, "file"] for kind in ("original", "truth")}
        if any(file.empty for file in files.values()):
            continue
        predictions, notes = {}, {}
        for snr in sorted(outputs["snr_db"].unique()):
            at = (
                own[(own["snr_db"] == snr) & (own["system"] != "")]
                .drop_duplicates("system", keep="last")
                .set_index("system")
            )
            lost = {system for system in at.index if at.loc[system, "status"] == "outage"}
            predictions[snr] = {s: run.picture(at.loc[s, "file"]) for s in systems if s in at.index and s not in lost}
            notes[snr] = dict.fromkeys(lost, "does not decode")
        if predictions:
            examples.append(
                Example(*(run.picture(files[kind].iloc[0]) for kind in ("original", "truth")), predictions, notes)
            )
    label = ""
    if run.is_demonstration(experiment["dataset"]):
        label = (
            f"Demonstration set: {int(rows['n_images'].max())} photographs with masks drawn by hand, not a benchmark"
        )
    figure = draw_segmentation(curves, examples, systems, experiment["metric"], label)
    return [("", small_print(figure, run, experiment, rows, bands=True, width=style.PAGE))]


def small_print(
    figure,
    run: Run,
    experiment: dict,
    rows: pd.DataFrame | None,
    *,
    bands: bool = False,
    extra: list[str] | None = None,
    width: float = style.PAGE,
):
    """Set the footnote: data set, pictures, channel, budget, run; it stands below the canvas, never over the
    drawing."""
    words = [experiment["dataset"]]
    if rows is not None:
        counts = rows.loc[rows["metric"].eq(experiment["metric"]) & (rows["n_images"] > 0), "n_images"].astype(int)
        if len(counts):
            words.append(
                f"{counts.max()} images" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()} images"
            )
    words.append(CHANNELS.get(experiment["channel"], experiment["channel"]))
    if (experiment["cbr"], experiment["bits"]) != (None, None):  # else the budget is the axis
        words.append(budget_text(experiment["cbr"], experiment["bits"]))
    words += extra or []
    if bands:
        words.append("bands: 95 % bootstrap over images")
    words.append(f"run {run.name}")
    if run.limited:
        words.append("LIMITED RUN (--limit)")
    lines, limit = [""], 78 if width == style.COLUMN else 160
    for word in words:
        if lines[-1] and len(lines[-1]) + 3 + len(word) > limit:
            lines.append("")
        lines[-1] += (" · " if lines[-1] else "") + word
    figure.text(
        0.0 if width == style.PAGE else 0.02,
        -0.04 / figure.get_figheight(),
        "\n".join(lines),
        fontsize=5.6,
        color="#666666",
        va="top",
        linespacing=1.25,
    )
    return figure


def thousands(number: float) -> str:
    """12345.0 -> '12 345', with narrow spaces."""
    return f"{round(number):,}".replace(",", "\u202f")
