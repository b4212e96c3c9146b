"""One look a system, whatever else is drawn: colour, marker and dash are functions of the system's name alone.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; markers and dashes keep the curves apart in
grey. A third party's system gets one of the looks that the paper's systems leave, picked by a hash of its name, so
that its look is the same in every figure and every run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE, GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#767676"

SOLID, DASHED, DOTTED, DASHDOT = (0, ()), (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.6, 1.4, 1.6))
LONG, SHORT, DASHDOTDOT = (0, (9, 2.4)), (0, (2.6, 1.4)), (0, (5, 1.5, 1, 1.5, 1, 1.5))

#: Column of a journal and the full page, inches.
COLUMN, PAGE = 3.5, 7.16
DPI = 200


@dataclass(frozen=True)
class Style:
    """How a system is drawn: matplotlib colour, marker and dash pattern, and its place in the order of legends."""

    colour: str
    marker: str
    dash: tuple
    label: str
    order: int = 100
    width: float = 1.5
    marker_size: float = 4.2

    def line(self, undertrained: bool = False) -> dict:
        """Keyword arguments of `Axes.plot`."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "linewidth": 0.7 if undertrained else self.width,
            "markersize": self.marker_size * (0.75 if undertrained else 1),
            "markeredgewidth": 0.5 if self.marker not in "x+" else 1.1,
            "markeredgecolor": self.colour if self.marker in "x+" else "white",
            "label": self.label + (" (undertrained)" if undertrained else ""),
        }


_FIXED: dict[str, Style] = {
    "gensc": Style(VERMILLION, "o", SOLID, "GenSC", 0, width=2.0, marker_size=5.0),
    "witt": Style(BLUE, "s", DASHED, "WITT", 1),
    "adjscc": Style(GREEN, "^", DASHDOT, "ADJSCC", 2, marker_size=4.8),
    "deepjscc": Style(PURPLE, "D", SHORT, "Deep JSCC", 3, marker_size=3.8),
    "deeplab-jscc": Style(SKY, "P", LONG, "DeepLab-JSCC", 4, marker_size=6.0),
    "jpeg-ldpc-16qam": Style(BLACK, "v", SOLID, "JPEG+LDPC+16QAM", 5, width=1.2, marker_size=4.6),
    "jpeg-ldpc-64qam": Style(ORANGE, "X", DASHDOTDOT, "JPEG+LDPC+64QAM", 6, marker_size=6.0),
    "jpeg-ldpc-adaptive": Style(YELLOW, "*", SOLID, "JPEG+LDPC, adaptive", 7, width=1.2, marker_size=6.0),
    "fcn-ceiling": Style(BLACK, "", DOTTED, "FCN on the original (ceiling)", 8, width=1.0),
    "jpeg-capacity": Style(BLACK, "", DOTTED, "JPEG at capacity (bound)", 8, width=1.0),
    "linear": Style(GREY, "x", DOTTED, "Linear (block KLT)", 9, width=1.2, marker_size=4.0),
}

#: Indigo, teal, olive, wine and rose of Tol's "muted" scheme, safe for colour-blind readers as well.
_MUTED = ("#332288", "#44AA99", "#999933", "#882255", "#CC6677")

#: Looks that no system of the paper has: other colours and other markers.
_SPARE = [
    (colour, marker, dash)
    for marker, dash, colour in product(("<", ">", "h", "p", "d", "8"), (DASHED, LONG, DASHDOTDOT, SHORT), _MUTED)
]

_DIGITAL = re.compile(r"(?P<codec>jpeg|webp|avif|jpeg2000)-ldpc-(?P<m>\d+)qam(?P<fcn>-fcn)?")
_CODEC = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jpeg2000": "JPEG 2000"}


def style_of(system: str) -> Style:
    """The look of a system.

    A digital link followed by a segmentation network (`-fcn`) looks as the link alone does: the two never share axes.
    """
    base = system.removesuffix("-fcn")
    label = label_of(system)
    if base in _FIXED:
        return replace(_FIXED[base], label=label)
    number = int.from_bytes(hashlib.sha256(base.encode()).digest()[:8], "big")
    colour, marker, dash = _SPARE[number % len(_SPARE)]
    return Style(colour, marker, dash, label)


def label_of(system: str) -> str:
    """The name that a legend shows."""
    match = _DIGITAL.fullmatch(system)
    if match:
        return f"{_CODEC[match['codec']]}+LDPC+{match['m']}QAM" + ("+FCN" if match["fcn"] else "")
    base = system.removesuffix("-fcn")
    if base in _FIXED:
        return _FIXED[base].label + ("+FCN" if base != system else "")
    return system


def legend_order(systems) -> list[str]:
    """Systems in the order of every legend and every row of pictures: the paper's first, then by name."""
    return sorted(systems, key=lambda name: (style_of(name).order, name))


def legend_places(systems) -> dict[str, int]:
    """Each system's place in that order."""
    return {name: place for place, name in enumerate(legend_order(set(systems)))}


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1] of an sRGB colour '#RRGGBB' (IEC 61966-2-1): what is left of it in grey."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@contextmanager
def paper_look() -> Iterator[None]:
    """matplotlib settings of every figure, undone afterwards; draws without a display."""
    import matplotlib

    settings = {
        "font.size": 8,
        "font.family": "DejaVu Sans",
        "axes.labelsize": 8.5,
        "axes.titlesize": 8.5,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#D9D9D9",
        "grid.linewidth": 0.5,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "xtick.direction": "out",
        "ytick.direction": "out",
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
        "pdf.fonttype": 42,
        "svg.hashsalt": "bench",
    }
    with matplotlib.rc_context(settings):
        yield
