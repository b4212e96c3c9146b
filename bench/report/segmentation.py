"""Fig. 7: segmentation accuracy against SNR, above rows of segmentations in the colours of PASCAL VOC.

`bench.report.figure_kinds` calls it. The labels are drawn over the picture, so that both are visible. With one SNR, a
picture takes one row, with its truth beside it. With several, there is one row per SNR, and the truth is below the
original.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.data.voc import VOC_CLASSES, VOID, voc_palette
from bench.report.charts import Chart, draw_chart, draw_panels
from bench.report.gallery import NOTHING
from bench.report.paper_sheet import PAGE, Sheet

TITLE = {"fontsize": 6.6, "fontweight": "bold", "linespacing": 1.05}
PAINT = 0.6  # how strongly a class's colour covers the picture


@dataclass
class Example:
    """The block of one picture.

    original: uint8 (H, W, 3).
    truth: labels (H, W).
    predictions: {snr_db: {system: labels (H, W), or None if this point has no valid picture}}.
    notes: {snr_db: {system: words in an empty tile, such as "outage"}}.
    """

    original: np.ndarray
    truth: np.ndarray
    predictions: dict[float, dict[str, np.ndarray | None]]
    notes: dict[float, dict[str, str]] = field(default_factory=dict)

    def labels(self) -> list[np.ndarray]:
        """All maps of the block, (H, W) each."""
        return [self.truth] + [p for row in self.predictions.values() for p in row.values() if p is not None]


def overlay(original: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The picture in grey below the colours of the classes, uint8 (H, W, 3). Background shows the picture, void is
    white.

    original: uint8 (H, W, 3). labels: (H, W). A dark line runs along the borders of classes.
    """
    grey = np.repeat(original.astype(np.float64).mean(axis=2, keepdims=True), 3, axis=2)
    if labels.shape != original.shape[:2]:  # the picture was replaced, so only labels are shown
        grey = np.full((*labels.shape, 3), 160.0)
    paint = voc_palette().astype(np.float64)[labels]
    share = np.where((labels == 0) | (labels == VOID), 0.0, PAINT)[..., None]
    shown = grey * (1 - share) + paint * share
    shown = np.where((labels == VOID)[..., None], 235.0, shown)
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return np.where(edge[..., None], 25, shown.round()).astype(np.uint8)


def classes_shown(examples: list[Example]) -> list[int]:
    """All classes that occur in a map of the figure, in order, void last."""
    found = {int(c) for example in examples for labels in example.labels() for c in np.unique(labels)}
    return sorted(c for c in found if c < len(VOC_CLASSES)) + ([VOID] if VOID in found else [])


def draw_segmentation(chart: Chart, examples: list[Example], systems: list[str]) -> Sheet:
    """Curves on top, and blocks of pictures below. Without pictures, a figure as wide as one column."""
    if not examples:
        return draw_chart(chart)
    sheet = Sheet(PAGE)
    bottom, handles, labels = draw_panels(sheet, chart, 0.5, 0.06, 4.4, height=1.9)
    labels = [sheet.fit(label, PAGE - 5.05 - 0.5, fontsize=7) for label in labels]
    sheet.legend(handles, labels, 5.05, 0.16, labelspacing=0.75, fontsize=7)
    sheet.bottom = max(sheet.bottom, bottom)
    _legend_of_classes(sheet, examples, _pictures(sheet, chart, examples, systems, sheet.bottom + 0.06))
    return sheet


def _pictures(sheet: Sheet, chart: Chart, examples: list[Example], systems: list[str], y: float) -> float:
    """Draw the blocks of pictures from `y` on. Returns where they end."""
    one = max(len(example.predictions) for example in examples) == 1
    first = ["Original", "Truth"] if one else ["Original,\ntruth below"]
    columns = len(first) + len(systems)
    gap, aside = 0.05, 0.2  # inches; the SNR is in the margin before the systems
    cell = min((PAGE - 0.02 - aside - gap * (columns - 1)) / columns, 1.3)
    left = [i * (cell + gap) + (aside if i >= len(first) else 0) for i in range(columns)]
    titles = [sheet.fit(title, cell, **TITLE) for title in first + [chart.looks.label(name) for name in systems]]
    head = 0.06 + max(sheet.measure(title, **TITLE)[1] for title in titles)
    for x, title in zip(left, titles):
        sheet.text(x + cell / 2, y + head - 0.04, title, ha="center", va="bottom", **TITLE)
    y += head
    for example in examples:
        high = min(cell * example.truth.shape[0] / example.truth.shape[1], 1.25 * cell)
        for place, picture in enumerate((example.original, overlay(example.original, example.truth))):
            x, at = (left[place], y) if one else (0.0, y + place * (high + gap))
            sheet.axes(x, at, cell, high, bare=True).imshow(picture, aspect="auto", interpolation="lanczos")
        for row, (snr, predictions) in enumerate(sorted(example.predictions.items())):
            level = y + row * (high + gap)
            sheet.text(left[len(first)] - 0.075 - gap / 2, level + high / 2, f"{snr:g} dB", rotation=90, fontsize=7.5,
                       ha="center", va="center")  # fmt: skip
            for x, system in zip(left[len(first) :], systems):
                tile = sheet.axes(x, level, cell, high, bare=True)
                labels = predictions.get(system)
                if labels is None:
                    tile.set_facecolor("#F2F2F2")
                    note = sheet.fit(example.notes.get(snr, {}).get(system, NOTHING), cell, fontsize=6)
                    tile.text(0.5, 0.5, note, transform=tile.transAxes, ha="center", va="center", fontsize=6,
                              color="#666666")  # fmt: skip
                else:
                    tile.imshow(overlay(example.original, labels), aspect="auto", interpolation="nearest")
        y += max(len(example.predictions), 1 if one else 2) * (high + gap) - gap + 0.1
    return y


def _legend_of_classes(sheet: Sheet, examples: list[Example], y: float) -> None:
    """Draw a legend of all classes that occur, in columns below the pictures."""
    from matplotlib.patches import Patch

    palette = voc_palette() / 255
    shown = classes_shown(examples)
    colours = [palette[c] * PAINT + 0.63 * (1 - PAINT) if c not in (0, VOID) else (0.63,) * 3 for c in shown]
    colours = [(235 / 255,) * 3 if c == VOID else colour for c, colour in zip(shown, colours)]
    names = [
        "background (the picture)" if c == 0 else "void (not scored)" if c == VOID else VOC_CLASSES[c] for c in shown
    ]
    patches = [Patch(facecolor=colour, edgecolor="#333333", linewidth=0.4) for colour in colours]
    sheet.legend(patches, names, 0.0, y - 0.02, min(7, len(shown)), handlelength=1.1, handleheight=1.0,
                 labelspacing=0.4, columnspacing=1.0, fontsize=6.4)  # fmt: skip
