"""The sheet on which a figure is drawn: matplotlib's settings, places in inches, and the files of the figure.

All drawings use it. A figure is laid out on a `Sheet` of fixed width, in inches from the top left. Its height follows
from its content. Texts and legends are measured with matplotlib's renderer before the next part is placed, so that none
touches another, whatever their words and font. `drawing` starts from matplotlib's own defaults, so that the user's
matplotlibrc and MPLBACKEND do not change a figure. `rendered` makes PNG, PDF and SVG with the figure's origin in
their metadata, without dates.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from bench.report.text import broken
from bench.util.matplotlib_import import load_matplotlib
from systems.errors import UserError

#: Width of a journal's column, and of the full page, in inches.
COLUMN, PAGE = 3.5, 7.16
FORMATS = ("png", "pdf", "svg")
STYLES = ("screen", "ieee")
DPI = {"screen": 200, "ieee": 600}
SMALL_DPI = 100
NOTE_SIZE = 5.6  # points; of footnotes

_SANS = ("DejaVu Sans",)
#: Times, and fonts with the same widths; matplotlib contains STIXGeneral. DejaVu Sans has letters that they lack.
_TIMES = (
    "Times New Roman", "Times", "Nimbus Roman", "TeX Gyre Termes", "Liberation Serif", "STIXGeneral", "DejaVu Sans",
)  # fmt: skip

_COMMON = {
    "font.size": 8,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "text.parse_math": False,  # names may contain $, ^ and _
    "pdf.fonttype": 42,
    "svg.hashsalt": "bench",
    "svg.fonttype": "path",
}
_OWN = {
    "screen": {"axes.spines.top": False, "axes.spines.right": False},
    "ieee": {
        "xtick.direction": "in",
        "ytick.direction": "in",
        "xtick.top": True,
        "ytick.right": True,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.35,
        "grid.linestyle": (0, (1, 1.5)),
        "grid.color": "#B5B5B5",
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
    },
}


@contextlib.contextmanager
def drawing(style: str = "screen", dpi: int | None = None) -> Iterator[None]:
    """In a `with` block: matplotlib's defaults with the settings of `style`. No display is needed.

    dpi: at which texts are measured; None: that of the style. It must be the dpi at which they are drawn: at few dots
    per inch letters are rounded to whole dots, and so are wider.

    Letters that no font contains become boxes. There is at most one warning about them.
    """
    load_matplotlib()
    import matplotlib
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    families = [name for name in (_TIMES if style == "ieee" else _SANS) if name in there]
    with matplotlib.rc_context(), warnings.catch_warnings(record=False):
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_COMMON, **_OWN[style], "font.family": families, "figure.dpi": dpi or DPI[style]})
        yield


class Sheet:
    """A figure of fixed width. Its parts are placed in inches from the top left. `finish` sets its height."""

    def __init__(self, width: float):
        from matplotlib.figure import Figure

        self.width, self.bottom = width, 0.0
        self.figure = Figure(figsize=(width, 1.0))
        self._axes: list[tuple] = []
        self._texts: list[tuple] = []
        self._legends: list[tuple] = []
        self._stacks: list[tuple[list, float]] = []

    def _drawn(self):
        """The renderer of matplotlib that measures the sizes of texts."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = self.figure.canvas
        return (canvas if isinstance(canvas, FigureCanvasAgg) else FigureCanvasAgg(self.figure)).get_renderer()

    def size(self, artist) -> tuple[float, float]:
        """Width and height of a text or legend in inches, as it is drawn."""
        box = artist.get_window_extent(self._drawn())
        return box.width / self.figure.dpi, box.height / self.figure.dpi

    def measure(self, words: str, **options) -> tuple[float, float]:
        """Width and height in inches that a text would have. options: those of `Figure.text`."""
        text = self.figure.text(0, 0, words, **options)
        size = self.size(text)
        text.remove()
        return size

    def fit(self, words: str, width: float, **options) -> str:
        """These words on as few lines as fit into `width` inches. options: those of `Figure.text`."""
        whole = self.measure(words, **options)[0]
        if whole <= width:
            return words
        for length in range(min(len(words), int(1.6 * len(words) * width / whole) + 2), 2, -1):
            lines = broken(words, length)
            if self.measure(lines, **options)[0] <= width:
                return lines
        return broken(words, 2)

    def axes(self, x: float, y: float, width: float, height: float, bare: bool = False):
        """Axes with this box as their frame. bare: without ticks and grid, for a picture."""
        axes = self.figure.add_axes((0, 0, 1, 1), label=str(len(self._axes)))
        if bare:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.tick_params(length=0)
            for spine in axes.spines.values():
                spine.set(visible=True, color="#BBBBBB", linewidth=0.4)
        self._axes.append((axes, x, y, width, height))
        self.bottom = max(self.bottom, y + height)
        return axes

    def text(self, x: float, y: float, words: str, **options):
        """A text at this point. options: those of `Figure.text`."""
        text = self.figure.text(0, 0, words, **options)
        self._texts.append((text, x, y))
        return text

    def legend(self, handles, labels, x: float, y: float, columns: int = 1, **options):
        """A legend with its upper left corner (or the corner that `loc` names) at this point.

        columns: at most; fewer if the legend would be wider than the sheet.
        """
        options = {"loc": "upper left", "borderaxespad": 0.0, **options}
        for count in range(columns, 0, -1):
            legend = self.figure.legend(handles, labels, ncols=count, **options)
            width, height = self.size(legend)
            if width <= self.width or count == 1:
                break
            legend.remove()
        self._legends.append((legend, x, y))
        self.bottom = max(self.bottom, y + height)
        return legend

    def stack(self, axes: list, room: float) -> None:
        """Axes that stand one above the other have their labels in one line, beside the widest of their tick labels.

        room: inches left of the axes for tick labels and label. If they need more, the axes become narrower. `finish`
        does it, because the ticks depend on the height.
        """
        self._stacks.append((axes, room))

    def footnote(self, words: list[str]) -> None:
        """Small text below everything that was placed: the words, joined by a dot, on lines as wide as the sheet."""
        if not words:
            return
        options = {"fontsize": NOTE_SIZE, "linespacing": 1.25}
        lines = [""]
        for part in " · ".join(words).split(" "):
            longer = f"{lines[-1]} {part}" if lines[-1] else part
            if self.measure(longer, **options)[0] <= self.width - 0.08:
                lines[-1] = longer
            else:
                lines += self.fit(part, self.width - 0.08, **options).split("\n")
        note = "\n".join(line.removesuffix(" ·") for line in lines if line)
        text = self.text(0.04, self.bottom + 0.05, note, color="#555555", va="top", **options)
        self.bottom += 0.05 + self.size(text)[1]

    def finish(self):
        """The matplotlib figure, as high as its content."""
        height = self.bottom + 0.04
        self.figure.set_size_inches(self.width, height)
        for axes, x, y, wide, high in self._axes:
            axes.set_position((x / self.width, 1 - (y + high) / height, wide / self.width, high / height))
        for stack, room in self._stacks:
            self._align(stack, room)
        for text, x, y in self._texts:
            text.set_position((x / self.width, 1 - y / height))
        for legend, x, y in self._legends:
            legend.set_bbox_to_anchor((x / self.width, 1 - y / height), transform=self.figure.transFigure)
        return self.figure

    def _align(self, stack: list, room: float) -> None:
        """Place the labels of the value axes, see `stack`."""
        left, wide = stack[0].get_position().x0 * self.width, stack[0].get_position().width * self.width
        ends = []
        for axes in stack:
            axes.yaxis.label.set_visible(False)  # without it the box holds the tick labels alone
            ends.append(axes.yaxis.get_tightbbox(self._drawn()).x0 / self.figure.dpi)
            axes.yaxis.label.set_visible(True)
        ticks = left - min(ends) + 0.03
        more = max(0.0, ticks + max(self.size(axes.yaxis.label)[0] for axes in stack) - room)
        for axes in stack:
            box = axes.get_position()
            axes.set_position((box.x0 + more / self.width, box.y0, (wide - more) / self.width, box.height))
            axes.yaxis.set_label_coords(-ticks / (wide - more), 0.5)


def rendered(
    figure, folder: Path, name: str, formats: tuple[str, ...] = ("png", "pdf"), dpi: int = DPI["screen"],
    provenance: dict[str, str] | None = None, small: bool = False,
) -> dict[Path, bytes]:  # fmt: skip
    """The files of a matplotlib figure: path in `folder` -> content. Equal tables give equal files. Nothing is written.

    provenance: "Title", "Description" and "Keywords", for the metadata of each file.
    small: also reduce photographs to 256 colours. A PNG that only has lines always gets a palette of 256 colours.
    Raises UserError for a name that makes no file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*", name):
        raise UserError(
            f"a figure cannot be called {name!r}: its name becomes the name of a file; use letters, digits, - and _"
        )
    files = {}
    for kind in formats:
        data = io.BytesIO()
        figure.savefig(data, format=kind, dpi=dpi, metadata=_metadata(kind, provenance or {}))
        content = data.getvalue()
        photographs = any(axes.images for axes in figure.axes)
        if kind == "png" and (small or not photographs):
            content = _with_palette(content, dither=photographs)
        files[folder / f"{name}.{kind}"] = content
    return files


def _metadata(kind: str, provenance: dict[str, str]) -> dict[str, str | None]:
    title, words, keywords = (provenance.get(key, "") for key in ("Title", "Description", "Keywords"))
    if kind == "png":
        facts: dict[str, str | None] = {"Title": title, "Description": words, "Keywords": keywords, "Software": None}
    elif kind == "pdf":
        facts = {"Title": title, "Subject": words, "Keywords": keywords, "CreationDate": None, "Producer": None}
    else:
        facts = {"Title": title, "Description": words, "Keywords": keywords, "Date": None, "Creator": None}
    return {key: value for key, value in facts.items() if value != ""}


def _with_palette(png: bytes, dither: bool = False) -> bytes:
    """The PNG with at most 256 colours, a third of its size. Its texts and its resolution stay."""
    from PIL import Image, PngImagePlugin

    with Image.open(io.BytesIO(png)) as picture:
        info = PngImagePlugin.PngInfo()
        for key, value in picture.text.items():
            info.add_itxt(key, value) if not value.isascii() else info.add_text(key, value)
        out = io.BytesIO()
        plain = picture.convert("RGB")
        reduced = plain.quantize(256)
        if dither:  # Pillow dithers only with a given palette, so the palette is computed first
            reduced = plain.quantize(palette=reduced, dither=Image.Dither.FLOYDSTEINBERG)
        reduced.save(out, "png", optimize=True, dpi=picture.info.get("dpi", (200, 200)), pnginfo=info)
    return min(png, out.getvalue(), key=len)
