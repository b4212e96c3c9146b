"""The kinds of figure, as a table `KINDS`: a kind is a function from a `DrawingJob` to drawings.

`bench.report.figures` calls it. The file of a figure may name its kind; otherwise its task decides. Third parties add a
kind by the entry-point group `semantic_bench.figures`: a function with the signature of `curves` below, under the name
that figure files use.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from bench.measure.metrics.table import METRICS, metrics_of
from bench.report import system_looks
from bench.report.charts import UNSET, Chart, XAxis, draw_chart
from bench.report.curves import Series, bands_overlap, differences_of, series_of
from bench.report.drawing_job import Drawing, DrawingJob
from bench.report.footnote import footnote_words
from bench.report.gallery import NOTHING, Block, Tile, draw_gallery
from bench.report.published_curves import published_for
from bench.report.segmentation import Example, draw_segmentation
from bench.report.text import printable, thousands
from bench.util.files import clash, several, slug
from systems import entry_points
from systems.errors import FAULTS, UserError, did_you_mean

ENTRY_POINT_GROUP = "semantic_bench.figures"


Kind = Callable[[DrawingJob], list[Drawing]]


def curves(job: DrawingJob) -> list[Drawing]:
    """Quality against SNR: one drawing per measured metric. The drawing of the figure's own metric has the plain id."""
    rows, own = job.rows(job.figure), job.figure["metric"]
    drawings = []
    for metric in (own, *(m.name for m in metrics_of(job.figure["task"]) if m.name != own)):
        if metric != own and (metric == "psnr_of_mean_mse_db" or not _measured(rows, metric)):
            continue
        chart = _chart(job, rows, metric, own=metric == own)
        if chart.curves:
            name = job.id if metric == own else f"{job.id}-{metric}"
            drawings.append(Drawing(name, draw_chart(chart), footnote_words(job, job.figure, rows, chart)))
    return drawings


def budgets(job: DrawingJob) -> list[Drawing]:
    """Quality against the budget: one drawing per SNR."""
    first = job.figure
    rows = pd.concat([job.rows(figure) for figure in job.figures])
    rows = rows.assign(kbits=rows["bits_target"] / 1000)
    along, axis = (
        ("cbr_target", XAxis("CBR (complex uses over source values)", "", ratios=True))
        if first["bits"] is None
        else ("kbits", XAxis("Budget (kbits)", " kbits"))
    )
    snrs, drawings = sorted(rows["snr_db"].unique()), []
    for snr in snrs:
        own = rows[rows["snr_db"] == snr]
        chart = _chart(job, own, first["metric"], along=along, axis=axis, snr_db=snr)
        words = footnote_words(job, {**first, "cbr": None, "bits": None}, own, chart)
        words.insert(-1, f"SNR {snr:g} dB")
        drawings.append(Drawing(job.id + (f"-{snr:g}dB" if len(snrs) > 1 else ""), draw_chart(chart), words))
    return drawings


def pictures(job: DrawingJob) -> list[Drawing]:
    """Fig. 6: one drawing per stored picture, with every SNR at which outputs were kept."""
    table = job.run.pictures_of(job.figure)
    outputs, looks = table[table["system"] != ""], job.looks(job.systems())
    drawings: list[Drawing] = []
    for image_id in outputs["image_id"].drop_duplicates():
        own = table[table["image_id"] == image_id]
        original = _stored(job, own.loc[own["kind"] == "original", "file"])
        if original is None or original.ndim != 3:
            continue
        blocks, failed = [], job.run.failed_outputs(job.figure, image_id)
        for snr in sorted(outputs["snr_db"].unique()):
            block = Block(f"{snr:g} dB")
            at = own[own["snr_db"] == snr].drop_duplicates("system", keep="last").set_index("system")
            for system in looks.sorted(job.systems()):
                row = at.loc[system] if system in at.index else None
                block.tiles.append(_tile(job, looks, system, row, "failed" if (system, snr) in failed else NOTHING))
            blocks.append(block)
        if not any(tile.picture is not None for block in blocks for tile in block.tiles):
            continue
        size = f"{original.shape[1]} × {original.shape[0]}"
        name = job.id if not drawings else f"{job.id}-{slug(str(image_id))}"
        if clash([name, *(drawing.name for drawing in drawings)]):
            name = f"{job.id}-{slug(str(image_id), hashed=True)}"
        words = [printable(image_id), *footnote_words(job, job.figure, None, None)]
        words.insert(-1, "detail: where the original has most structure")
        if job.undertrained() & set(job.systems()):
            words.insert(-1, "* undertrained")
        drawings.append(Drawing(name, draw_gallery(original, blocks, size), words))
    if not drawings:
        job.notes.append(f"{job.id} is left out: its pictures are not in {job.run.directory / 'pictures'}")
    return drawings


def segmentation(job: DrawingJob) -> list[Drawing]:
    """Fig. 7: accuracy against SNR above segmented pictures. Without pictures, the curves alone."""
    rows = job.rows(job.figure)
    chart = _chart(job, rows, job.figure["metric"])
    if job.run.is_demonstration(job.figure["dataset"]):
        count = int(rows["n_images"].max()) if len(rows) else 0
        chart = Chart(
            **{**vars(chart), "title": f"Demonstration set of {several(count, 'photograph')}, not a benchmark"}
        )
    examples = _examples(job)
    if not examples and len(job.run.pictures_of(job.figure)):
        job.notes.append(f"{job.id} is drawn without pictures: they are not in {job.run.directory / 'pictures'}")
    systems = chart.looks.sorted(job.systems())
    sheet = draw_segmentation(chart, examples, systems)
    drawings = [Drawing(job.id, sheet, footnote_words(job, job.figure, rows, chart))]
    for metric in (m.name for m in metrics_of("segmentation")):
        if metric != job.figure["metric"] and _measured(rows, metric):
            other = _chart(job, rows, metric, own=False)
            drawings.append(
                Drawing(f"{job.id}-{metric}", draw_chart(other), footnote_words(job, job.figure, rows, other))
            )
    return drawings


#: Name -> kind. A figure's file may give these names as `kind`.
KINDS: dict[str, Kind] = {
    "curves": curves,
    "budgets": budgets,
    "pictures": pictures,
    "segmentation": segmentation,
}


def kind_named(name: str, where: str) -> Kind:
    """A kind of ours, or of a plug-in. Raises UserError if there is none, or if the plug-in cannot be imported."""
    if name in KINDS:
        return KINDS[name]
    points = {point.name: point for point in entry_points.points(ENTRY_POINT_GROUP)}
    if name not in points:
        raise UserError(f"{where}: unknown kind {name!r}; {did_you_mean(name, [*KINDS, *points], 'kinds')}")
    try:
        kind = entry_points.loaded(points[name])
    except UserError as error:
        raise UserError(f"{where}: the plug-in of kind {name!r}: {printable(error)}") from None

    def guarded(job: DrawingJob) -> list[Drawing]:
        """The drawings. Raises UserError for whatever the plug-in raises, and for anything else that it returns."""
        try:
            drawings = kind(job)  # type: ignore[operator]
            if all(isinstance(drawing, Drawing) for drawing in drawings):
                return list(drawings)
            reason = "it returned something that is no list of drawings"
        except UserError:
            raise
        except FAULTS as error:
            reason = printable(f"{type(error).__name__}: {error}")
        raise UserError(f"{where}: the plug-in of kind {name!r} ({points[name].value}) cannot draw it: {reason}")

    return guarded


# ---------------------------------------------------------------- parts


def _measured(rows: pd.DataFrame, metric: str) -> bool:
    return metric in METRICS.names() and bool(rows.loc[rows["metric"] == metric, "mean"].notna().any())


def _chart(
    job: DrawingJob, rows: pd.DataFrame, metric: str, along: str = "snr_db", axis: XAxis | None = None,
    snr_db: float | None = None, own: bool = True,
) -> Chart:  # fmt: skip
    looks = job.looks(rows["system"].drop_duplicates())
    faded = job.figure["channel"] != "awgn"
    drawn = series_of(rows, metric, job.undertrained(), along, looks, faded)
    overlap = bands_overlap(drawn)
    known = any(np.isfinite(curve.low).any() for curve in drawn)  # with a single picture there is no interval
    bands = known and (not overlap if job.options.bands is None else job.options.bands)
    reference = _reference(job, drawn)
    differences = []
    # The panel of differences takes the place of overlapping bands, unless the user has chosen about bands.
    if reference and (job.options.relative_to or (job.options.bands is None and overlap)):
        runs = {"": job.run} | {name: run for name, (run, _) in job.overlays.items()}
        differences = differences_of(runs, job.figures, drawn, metric, reference, along, snr_db)
    grid = rows[along].dropna()
    inside = [line.within(grid.min(), grid.max()) for line in published_for(job.figure, metric, along, snr_db)]
    published = [line for line in inside if line is not None]
    limits, reach = (job.options.ylim or UNSET, job.look.ylim) if own else (UNSET, None)
    return Chart(metric, drawn, looks, axis or XAxis(), bands, differences, reference, published, limits, reach)


def _reference(job: DrawingJob, drawn: list[Series]) -> str:
    """The system that the lower panel compares with: the wanted one, otherwise the highlighted one, otherwise the first
    in the legend.
    """
    there = [curve.system for curve in drawn]
    if job.options.relative_to is not None:
        return job.options.relative_to if job.options.relative_to in there else ""
    first = [name for name in job.options.highlight if name in there]
    own = [name for name in there if ":" not in name]
    return (first or own or [""])[0] if len(there) > 1 else ""


def _stored(job: DrawingJob, files: pd.Series) -> np.ndarray | None:
    """The first of these stored pictures that can be read, or None."""
    for file in files:
        try:
            return job.run.picture(file)
        except UserError as error:
            if (job.run.directory / str(file)).exists():
                job.notes.append(str(error))
    return None


def _tile(job: DrawingJob, looks: system_looks.Looks, system: str, row: pd.Series | None, otherwise: str) -> Tile:
    title = looks.label(system) + (" *" if system in job.undertrained() else "")
    picture = None if row is None else _stored(job, pd.Series([row["file"]]))
    if picture is None or picture.ndim != 3:
        return Tile(None, title, nothing=otherwise)
    uses = "" if np.isnan(row["n_uses"]) else f"\n{thousands(row['n_uses'])} uses"
    return Tile(picture, title, ("outage" if row["status"] == "outage" else f"{row['psnr_db']:.2f} dB") + uses)


def _examples(job: DrawingJob) -> list[Example]:
    table = job.run.pictures_of(job.figure)
    outputs, found = table[table["system"] != ""], []
    for image_id in outputs["image_id"].drop_duplicates():
        own = table[table["image_id"] == image_id]
        original, truth = (_stored(job, own.loc[own["kind"] == kind, "file"]) for kind in ("original", "truth"))
        if original is None or truth is None or original.ndim != 3 or truth.ndim != 2:
            continue
        failed = job.run.failed_outputs(job.figure, image_id)
        predictions: dict[float, dict[str, np.ndarray | None]] = {}
        notes: dict[float, dict[str, str]] = {}
        for snr in sorted(outputs["snr_db"].unique()):
            at = own[(own["snr_db"] == snr) & (own["system"] != "")].drop_duplicates("system", keep="last")
            lost = set(at.loc[at["status"] == "outage", "system"])
            shown = {
                row.system: _stored(job, pd.Series([row.file])) for row in at.itertuples() if row.system not in lost
            }
            predictions[float(snr)] = {
                name: labels for name, labels in shown.items() if labels is not None and labels.ndim == 2
            }
            broken = {system: "failed" for system, at_snr in failed if at_snr == snr}
            notes[float(snr)] = broken | dict.fromkeys(lost, "does not decode")
        if any(predictions.values()):
            found.append(Example(original, truth, predictions, notes))
    return found
