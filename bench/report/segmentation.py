"""Fig. 7: segmentation accuracy against SNR over rows of segmentations, in the colours of PASCAL VOC."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from bench.data.voc import VOC_CLASSES, VOID, colourise, voc_palette
from bench.report import style
from bench.report.curves import AXES, Series, draw_series


def _broken(title: str, length: int) -> str:
    """A name over lines of at most `length` characters where it can be: broken before a + or at a space."""
    lines = [""]
    for part in re.findall(r"[+ ]?[^+ ]+", title):
        if lines[-1] and len(lines[-1] + part) > length:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return "\n".join(lines)


@dataclass
class Example:
    """One picture's block: the original uint8 (H, W, 3), its truth (H, W), and each system's labels at each SNR.

    predictions: {snr_db: {system: labels (H, W), or None where that point has no valid picture}}.
    notes: {snr_db: {system: words under an empty tile, such as "outage"}}.
    """

    original: np.ndarray
    truth: np.ndarray
    predictions: dict[float, dict[str, np.ndarray | None]]
    notes: dict[float, dict[str, str]] = field(default_factory=dict)


def draw_segmentation(
    curves: list[Series], examples: list[Example], systems: list[str], metric: str = "miou", label: str = ""
):
    """A matplotlib figure: curves on top, blocks of pictures below. `label` is set over the curves."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    gap, aside, head, margin = 0.05, 0.2, 0.32, 1.25  # inches; the margin at the right holds the names of the classes
    columns = 1 + len(systems)
    cell = min((style.PAGE - aside - margin - gap * (columns - 1)) / columns, 1.2)
    heights = [min(cell * e.truth.shape[0] / e.truth.shape[1], 1.25 * cell) for e in examples]
    plot_height = 2.55
    # The original and, below it, the truth stand in the first column, so a block has two rows at least.
    spans = [max(2, len(e.predictions)) * (h + gap) - gap for e, h in zip(examples, heights, strict=True)]
    height = plot_height + (head + sum(spans) + 0.1 * (len(spans) - 1) if examples else 0) + 0.05
    present = sorted(
        {int(c) for e in examples for c in np.unique(e.truth) if c != VOID and c < len(VOC_CLASSES)}
        | {
            int(c)
            for e in examples
            for row in e.predictions.values()
            for p in row.values()
            if p is not None
            for c in np.unique(p)
            if c < len(VOC_CLASSES) and (p == c).mean() > 0.005
        }
    )
    figure = Figure(figsize=(style.PAGE, height))

    def place(x: float, y: float, w: float, h: float, bare: bool = True):
        axes = figure.add_axes((x / style.PAGE, 1 - (y + h) / height, w / style.PAGE, h / height))
        if bare:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set(visible=True, color="#BBBBBB", linewidth=0.5)
        return axes

    axes = place(0.5, 0.22, 4.35, plot_height - 0.72, bare=False)
    axes.set_xlabel("SNR (dB)")
    axes.set_ylabel(AXES[metric][0])
    draw_series(axes, curves, floor=0.0)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles,
        [text.replace(" (", "\n(") for text in labels],
        loc="center left",
        bbox_to_anchor=(1.03, 0.5),
        labelspacing=0.75,
    )
    if label:
        axes.set_title(label, loc="left", fontsize=7.5, color="#B03A00", fontweight="bold")

    if not examples:
        return figure
    y = plot_height
    for index, title in enumerate(["Original / truth", *map(style.label_of, systems)]):
        x = index * (cell + gap) + (aside if index else 0)
        title = _broken(title, int(cell / 0.066))
        figure.text(
            (x + cell / 2) / style.PAGE,
            1 - (y + head - 0.08) / height,
            title,
            fontsize=6.6,
            fontweight="bold",
            ha="center",
            va="baseline",
            linespacing=1.0,
        )
    y += head
    top = y
    for example, high, span in zip(examples, heights, spans, strict=True):
        for row, picture in enumerate((example.original, colourise(example.truth))):
            place(0, y + row * (high + gap), cell, high).imshow(picture, aspect="auto")
        for row, (snr, predictions) in enumerate(sorted(example.predictions.items())):
            level = y + row * (high + gap)
            figure.text(
                (cell + gap + aside - 0.075) / style.PAGE,
                1 - (level + high / 2) / height,
                f"{snr:g} dB",
                rotation=90,
                fontsize=7.5,
                ha="center",
                va="center",
            )
            for index, system in enumerate(systems):
                tile = place((index + 1) * (cell + gap) + aside, level, cell, high)
                labels = predictions.get(system)
                if labels is None:
                    tile.set_facecolor("#F2F2F2")
                    note = example.notes.get(snr, {}).get(system, "not simulated")
                    tile.text(
                        0.5, 0.5, note, transform=tile.transAxes, ha="center", va="center", fontsize=7, color="#777777"
                    )
                else:
                    tile.imshow(colourise(labels), aspect="auto", interpolation="nearest")
        y += span + 0.1
    palette = voc_palette() / 255
    shown = [*present, *([VOID] if any((e.truth == VOID).any() for e in examples) else [])]
    figure.legend(
        [Patch(facecolor=palette[c], edgecolor="#555555", linewidth=0.4) for c in shown],
        [VOC_CLASSES[c] if c != VOID else "void (not scored)" for c in shown],
        loc="upper left",
        bbox_to_anchor=((columns * (cell + gap) + aside + 0.03) / style.PAGE, 1 - top / height),
        handlelength=1.1,
        handleheight=1.0,
        labelspacing=0.4,
        borderaxespad=0.0,
        fontsize=6.6,
        title="VOC classes",
        alignment="left",
        title_fontproperties={"weight": "bold", "size": 6.6},
    )
    return figure
