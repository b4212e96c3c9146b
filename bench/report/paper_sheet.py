"""The sheet on which a figure is drawn: matplotlib's settings, places in inches, and the files of the figure.

All drawings use it. A figure is laid out on a `Sheet` of fixed width, in inches from the top left. Its height follows
from its content. `drawing` starts from matplotlib's own defaults, so that the user's matplotlibrc and MPLBACKEND do not
change a figure. `rendered` makes PNG, PDF and SVG with the figure's origin in their metadata, without dates.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from systems.errors import UserError

#: Width of a journal's column, and of the full page, in inches.
COLUMN, PAGE = 3.5, 7.16
FORMATS = ("png", "pdf", "svg")
STYLES = ("screen", "ieee")
DPI = {"screen": 200, "ieee": 600}
SMALL_DPI = 100

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


def load_matplotlib() -> None:
    """Import matplotlib without the user's settings, because a damaged matplotlibrc or backend would make the import
    fail.

    matplotlib looks for a matplotlibrc first in the working directory, then at the path in MATPLOTLIBRC.
    """
    if "matplotlib" in sys.modules:
        return
    own = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "matplotlibrc"
    before = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=str(own))
    try:
        here: str | None = os.getcwd()
    except OSError:  # the folder was deleted
        here = None
    try:
        with tempfile.TemporaryDirectory() as empty:
            if here is not None:
                os.chdir(empty)
            try:
                logging.getLogger("matplotlib").setLevel(logging.ERROR)
                import matplotlib  # noqa: F401
            finally:
                if here is not None:
                    os.chdir(here)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def drawing(style: str = "screen") -> Iterator[None]:
    """In a `with` block: matplotlib's defaults with the settings of `style`. No display is needed.

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
        matplotlib.rcParams.update({**_COMMON, **_OWN[style], "font.family": families, "figure.dpi": DPI["screen"]})
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

    def legend(self, handles, labels, x: float, y: float, height: float, **options):
        """A legend with its upper left corner (or the corner that `loc` names) at this point. It
        takes `height` inches.
        """
        legend = self.figure.legend(handles, labels, **{"loc": "upper left", "borderaxespad": 0.0, **options})
        self._legends.append((legend, x, y))
        self.bottom = max(self.bottom, y + height)
        return legend

    def footnote(self, lines: list[str]) -> None:
        """Small text below everything that was placed."""
        if not lines:
            return
        size = 5.6
        most = int(self.width * 72 / (0.6 * size))  # characters per line: a letter is about half as wide as high
        lines = [part for line in lines for part in textwrap.wrap(line, most, break_long_words=True) or [line]]
        self.text(0.04, self.bottom + 0.05, "\n".join(lines), fontsize=size, color="#555555", va="top",
                  linespacing=1.25)  # fmt: skip
        self.bottom += 0.06 + len(lines) * 1.25 * size * 1.2 / 72

    def finish(self):
        """The matplotlib figure, as high as its content."""
        height = self.bottom + 0.04
        self.figure.set_size_inches(self.width, height)
        for axes, x, y, wide, high in self._axes:
            axes.set_position((x / self.width, 1 - (y + high) / height, wide / self.width, high / height))
        for text, x, y in self._texts:
            text.set_position((x / self.width, 1 - y / height))
        for legend, x, y in self._legends:
            legend.set_bbox_to_anchor((x / self.width, 1 - y / height), transform=self.figure.transFigure)
        return self.figure


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
