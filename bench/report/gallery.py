"""Fig. 6: the pictures that each system delivers, at each wanted SNR: the picture, an enlarged detail, and the error.

`bench.report.figure_kinds` calls it. There is one column per system, and the original comes first. The place of the
detail is chosen from the original alone. Error maps show the mean absolute error over the three colours, with one scale
for the whole figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from bench.report import system_looks
from bench.report.paper_sheet import PAGE, Sheet

COLUMNS = 9  # at most: the original and eight systems
TITLE = {"fontsize": 6.4, "fontweight": "bold", "linespacing": 1.05}
CAPTION = {"fontsize": 5.8, "linespacing": 1.15}
NOTHING = "not simulated"  # in place of a picture
MOST_OF_MIDDLE = 4.0  # of the error of the middle tile, the scale of the error maps


@dataclass(frozen=True)
class Tile:
    """One system's picture.

    picture: uint8 (H, W, 3), or None if there is none.
    title, caption: above and below it.
    nothing: the words in place of a picture.
    """

    picture: np.ndarray | None
    title: str
    caption: str = ""
    nothing: str = NOTHING


@dataclass
class Block:
    """The tiles of one SNR."""

    title: str
    tiles: list[Tile] = field(default_factory=list)


def detail_window(original: np.ndarray, share: float = 0.3, aspect: float = 1.33) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the enlarged part: where `original` (H, W, 3) has the most gradient energy.

    It depends on the original alone, so no system can influence it.
    share: width of the window over the width of the picture.
    aspect: width of the window over its height. A margin of 4 % of the picture is left out.
    """
    grey = original.astype(np.float64).mean(axis=2)
    rows, columns = grey.shape
    width = min(columns, max(16, round(share * columns)))
    height = min(rows, max(8, round(width / aspect)))
    if min(grey.shape) < 2:
        return 0, 0, rows, columns
    # Without the square root, a single hard edge would count more than a whole region of structure.
    energy = np.sqrt(np.hypot(*np.gradient(grey)))
    total = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = min(round(0.04 * rows), (rows - height) // 2), min(round(0.04 * columns), (columns - width) // 2)
    inner = sums[top : sums.shape[0] - top, left : sums.shape[1] - left]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(y) + top, int(x) + left, height, width


def error_map(picture: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Mean absolute error over the colours of two pictures (H, W, 3): (H, W), in grey levels of 0..255."""
    return np.abs(picture.astype(np.float64) - original.astype(np.float64)).mean(axis=2)


def error_scale(blocks: list[Block], original: np.ndarray) -> float:
    """The error that the maps show as brightest: the 99th percentile over all tiles, at least 8 levels of 255, and at
    most MOST_OF_MIDDLE times that of the middle tile, so that no system with large errors makes the maps of all others
    black.

    original: (H, W, 3). Lost pictures, which are uniformly grey, do not count.
    """
    errors = [
        error_map(tile.picture, original)
        for block in blocks
        for tile in block.tiles
        if tile.picture is not None and "outage" not in tile.caption and tile.picture.shape == original.shape
    ]
    if not errors:
        return 8.0
    middle = float(np.median([np.percentile(error, 99) for error in errors]))
    largest = float(np.percentile(np.concatenate([error.ravel() for error in errors]), 99))
    return max(8.0, min(largest, MOST_OF_MIDDLE * middle))


def draw_gallery(original: np.ndarray, blocks: list[Block], size: str = "") -> Sheet:
    """A page-wide sheet of one picture: one block of tiles per SNR, each with the original in the first column.

    original: uint8 (H, W, 3). size: text below the original.
    """
    rows, cols = original.shape[:2]
    window = detail_window(original)
    gap, aside = 0.05, 0.16  # inches; the SNR is in the margin at the left
    most = max((len(block.tiles) for block in blocks), default=1) or 1
    per_line = math.ceil(most / math.ceil(most / (COLUMNS - 1)))  # lines of equal length, no system left alone
    columns = 1 + per_line
    cell = min((PAGE - 0.02 - aside - gap * (columns - 1)) / columns, 1.5)
    high = min(cell * rows / cols, 1.5 * cell)
    detail = cell * window[2] / window[3]
    largest = error_scale(blocks, original)
    sheet, y = Sheet(PAGE), 0.02
    for block in blocks:
        for start in range(0, len(block.tiles), per_line):
            tiles = [Tile(original, "Original", size), *block.tiles[start : start + per_line]]
            titles = [sheet.fit(tile.title, cell, **TITLE) for tile in tiles]
            head = 0.05 + max(sheet.measure(title, **TITLE)[1] for title in titles)
            foot = 0.02 + max(sheet.measure(tile.caption, **CAPTION)[1] for tile in tiles)
            body = high + detail + high + 0.06
            sheet.text(0.02, y + head + body / 2, block.title, rotation=90, fontsize=8, fontweight="bold", va="center")
            for index, (tile, title) in enumerate(zip(tiles, titles)):
                x = aside + index * (cell + gap)
                sheet.text(x + cell / 2, y + head - 0.03, title, ha="center", va="bottom", **TITLE)
                _tile(sheet, tile, original, window, (x, y + head, cell, high, detail), largest, index == 0)
                sheet.text(x + cell / 2, y + head + body + 0.02, tile.caption, ha="center", va="top", color="#222222",
                           **CAPTION)  # fmt: skip
            y += head + body + foot + 0.06
            sheet.bottom = max(sheet.bottom, y - 0.04)
    return sheet


def _tile(sheet: Sheet, tile: Tile, original: np.ndarray, window, box, largest: float, is_original: bool) -> None:
    """Draw the picture with the frame of the detail, the detail, and the error, one below the other."""
    from matplotlib.patches import Rectangle

    x, y, cell, high, detail = box
    top, left, tall, wide = window
    places = [(y, high), (y + high + 0.03, detail), (y + high + detail + 0.06, high)]
    full, zoom, error = (sheet.axes(x, at, cell, size, bare=True) for at, size in places)
    if tile.picture is None:
        for axes in (full, zoom, error):
            axes.set_facecolor("#F2F2F2")
        full.text(0.5, 0.5, tile.nothing, transform=full.transAxes, ha="center", va="center", fontsize=5.5,
                  color="#777777")  # fmt: skip
        return
    full.imshow(tile.picture, interpolation="lanczos", aspect="auto")
    for colour, width in (("white", 1.4), (system_looks.FRAME, 0.7)):
        full.add_patch(Rectangle((left - 0.5, top - 0.5), wide, tall, fill=False, edgecolor=colour, linewidth=width))
    zoom.imshow(tile.picture[top : top + tall, left : left + wide], interpolation="nearest", aspect="auto")
    for spine in zoom.spines.values():
        spine.set(color=system_looks.FRAME, linewidth=0.7)
    if is_original:
        _scale(error, largest)
    elif tile.picture.shape == original.shape:
        error.imshow(
            error_map(tile.picture, original), cmap=system_looks.ERROR_MAP, vmin=0, vmax=largest, aspect="auto"
        )


def _scale(axes, largest: float) -> None:
    """Draw the scale of the error maps below the original."""
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = axes.inset_axes((0.06, 0.42, 0.88, 0.16))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=system_looks.ERROR_MAP, aspect="auto", extent=(0, 1, 0, 1))
    bar.set_yticks([])
    bar.grid(False)
    bar.tick_params(labelsize=5.5, length=1.5, pad=1)
    bar.set_xticks([0, 1], ["0", f"{math.floor(largest)}"])
    axes.text(0.5, 0.66, "Absolute error", transform=axes.transAxes, fontsize=5.8, ha="center", va="bottom")
    axes.text(0.5, 0.14, "levels of 255", transform=axes.transAxes, fontsize=5.2, ha="center", va="top",
              color="#444444")  # fmt: skip
