"""Fig. 6: each system's picture beside the original, with an enlarged detail, the PSNR and the channel uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.report import style


@dataclass(frozen=True)
class Tile:
    """One picture of the grid: uint8 (H, W, 3) or None where it was not simulated, a title and a line of figures."""

    picture: np.ndarray | None
    title: str
    caption: str = ""


def detail_window(original: np.ndarray, share: float = 0.3, aspect: float = 2.0) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the enlarged part: where `original` (H, W, 3) has the most gradient energy.

    Chosen from the original alone, so that no system has a say in which part is shown. `share` is the window's width
    over the picture's, `aspect` its width over its height. A margin of 4 % of the picture is kept clear.
    """
    grey = original.astype(np.float64).mean(axis=2)
    rows, columns = grey.shape
    width = min(columns, max(16, round(share * columns)))
    height = min(rows, max(8, round(width / aspect)))
    # The square root tempers single hard edges, which would win over a whole region of structure.
    energy = np.sqrt(np.hypot(*np.gradient(grey)))
    total = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = min(round(0.04 * rows), (rows - height) // 2), min(round(0.04 * columns), (columns - width) // 2)
    inner = sums[top : sums.shape[0] - top, left : sums.shape[1] - left]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(y) + top, int(x) + left, height, width


def draw_gallery(tiles: list[Tile], columns: int = 4):
    """A matplotlib figure of the tiles, the original first; a detail of each below it."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    original = tiles[0].picture
    rows, cols = original.shape[:2]
    window = detail_window(original)
    top, left, high, wide = window
    columns = min(columns, len(tiles))
    lines = math.ceil(len(tiles) / columns)
    gap, head, foot = 0.06, 0.34, 0.09  # inches: between columns, for the two lines of text, below a tile
    cell = (style.PAGE - gap * (columns - 1)) / columns
    picture_height, detail_height = cell * rows / cols, cell * high / wide
    pitch = head + picture_height + 0.03 + detail_height + foot
    size = (style.PAGE, lines * pitch - foot)
    figure = Figure(figsize=size)

    def place(x: float, y: float, w: float, h: float):
        """Axes at inches from the top left."""
        axes = figure.add_axes((x / size[0], 1 - (y + h) / size[1], w / size[0], h / size[1]))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    for index, tile in enumerate(tiles):
        x, y = (index % columns) * (cell + gap), (index // columns) * pitch
        figure.text(x / size[0], 1 - (y + 0.145) / size[1], tile.title, fontsize=8.5, fontweight="bold", va="baseline")
        figure.text(x / size[0], 1 - (y + 0.295) / size[1], tile.caption, fontsize=7.5, color="#333333", va="baseline")
        full = place(x, y + head, cell, picture_height)
        zoom = place(x, y + head + picture_height + 0.03, cell, detail_height)
        if tile.picture is None:
            for axes in (full, zoom):
                axes.set_facecolor("#F2F2F2")
            full.text(0.5, 0.5, "not simulated", transform=full.transAxes, ha="center", va="center", color="#777777")
            continue
        full.imshow(tile.picture, interpolation="lanczos", aspect="auto")
        full.add_patch(Rectangle((left - 0.5, top - 0.5), wide, high, fill=False, edgecolor="white", linewidth=1.6))
        full.add_patch(Rectangle((left - 0.5, top - 0.5), wide, high, fill=False, edgecolor="#D55E00", linewidth=0.9))
        zoom.imshow(tile.picture[top : top + high, left : left + wide], interpolation="nearest", aspect="auto")
        for spine in zoom.spines.values():
            spine.set(visible=True, color="#D55E00", linewidth=0.9)
    return figure
