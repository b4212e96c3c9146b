"""The look of each system in figures and tables: label, colour, marker, dash, and place in the legend.

All drawings and tables ask here, so a system looks the same everywhere. A look comes from three places, and later ones
win: the catalogue of systems (or, for a third party's system, its class), the figure's TOML file, and the options of
`plot`. `looks_of` combines them for the systems of one figure.

Markers and dashes alone suffice to distinguish all systems of a figure. The colours can also be distinguished in grey
and with deuteranopia. `luminance`, `deuteranopia` and `distance` measure this, and the tests check it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

import baselines  # noqa: F401  (registers all systems)
from bench.report.page import load_matplotlib
from bench.report.text import printable
from bench.spec.look import read_look
from systems import registry
from systems.errors import UserError

SOLID, DASHED, DOTTED, DASHDOT = (0, ()), (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.6, 1.4, 1.6))
LONG, SHORT, DASHDOTDOT = (0, (9, 2.4)), (0, (2.6, 1.4)), (0, (5, 1.5, 1, 1.5, 1, 1.5))


@dataclass(frozen=True)
class Style:
    """How one system is drawn: matplotlib's colour, marker and dash pattern, and its place in the legend."""

    colour: str
    marker: str
    dash: tuple
    label: str
    order: float = 100
    width: float = 1.5
    marker_size: float = 4.2
    hollow: bool = False
    faint: bool = False  # another system of the figure is highlighted

    def line(self) -> dict:
        """Keyword arguments of `Axes.plot`."""
        stroke = self.marker in ("x", "+")
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "linewidth": self.width,
            "markersize": self.marker_size,
            "markeredgewidth": 1.1 if stroke or self.hollow else 0.5,
            "markeredgecolor": self.colour if stroke or self.hollow else "white",
            "markerfacecolor": "white" if self.hollow else self.colour,
            "alpha": 0.45 if self.faint else 1.0,
            "label": self.label,
        }


#: Marker, dash, line width and marker size of the paper's systems, in the order of legends. Others get spare looks.
_MARKS: dict[str, tuple[str, tuple, float, float]] = {
    "gensc": ("o", SOLID, 2.0, 5.0),
    "witt": ("s", DASHED, 1.5, 4.2),
    "adjscc": ("^", DASHDOT, 1.5, 4.8),
    "deepjscc": ("D", SHORT, 1.5, 3.8),
    "deeplab-jscc": ("P", LONG, 1.5, 6.0),
    "jpeg-ldpc-16qam": ("v", SOLID, 1.2, 4.6),
    "jpeg-ldpc-64qam": ("X", DASHDOTDOT, 1.5, 6.0),
    "jpeg-ldpc-adaptive": ("*", (0, (3.5, 1.0)), 1.2, 6.0),
    "fcn-ceiling": ("", DOTTED, 1.0, 4.2),
    "jpeg-capacity": ("", DOTTED, 1.0, 4.2),
    "linear": ("x", (0, (1.2, 1.8)), 1.2, 4.0),
}

#: Colours for systems that name none: indigo, teal, olive, wine and rose of Tol's "muted" scheme.
_MUTED = ("#332288", "#44AA99", "#999933", "#882255", "#CC6677")
#: Looks that no system of the paper has, with other colours and markers, and the same width and size.
_SPARE = [
    (colour, marker, dash)
    for marker, dash, colour in product(("<", ">", "h", "p", "d", "8"), (DASHED, LONG, DASHDOTDOT, SHORT), _MUTED)
]


def style_of(system: str, config: Mapping | None = None, step: int = 0) -> Style:
    """The look of a system: label and colour from the catalogue or its class, the rest from its name alone.

    config: the system's configuration, as the manifest holds it.
    step: 0; 1 and more give the next spare looks. A digital link followed by a segmentation network (`-fcn`) looks like
    the link alone, because the two never share axes. A system without its own look gets a spare one, chosen by a hash
    of its name.
    """
    label, colour = registry.look(system, config)
    base = system.removesuffix("-fcn")
    number = int.from_bytes(hashlib.sha256(base.encode("utf-8", "surrogatepass")).digest()[:8])
    spare, marker, dash = _SPARE[(number + step) % len(_SPARE)]
    colour = to_hex(colour) or spare
    if base in _MARKS:
        marker, dash, width, size = _MARKS[base]
        return Style(colour, marker, dash, printable(label), list(_MARKS).index(base), width, size)
    return Style(colour, marker, dash, printable(label), width=1.6, marker_size=5.0)


def label_of(system: str) -> str:
    """The name in legends, if the figure gives no other."""
    return style_of(system).label


def to_hex(value: object) -> str:
    """A colour as '#RRGGBB', from any text that matplotlib accepts ("#d2271f", "teal"). "" for anything else."""
    if not isinstance(value, str) or not value:
        return ""
    if re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
        return value.upper()
    load_matplotlib()
    from matplotlib.colors import is_color_like
    from matplotlib.colors import to_hex as as_hex

    return as_hex(value).upper() if is_color_like(value) else ""


def parse_colour(value: object, where: str) -> str:
    """A colour as '#RRGGBB'. where: for the message. Raises UserError."""
    colour = to_hex(value)
    if not colour:
        raise UserError(f"{where}: {printable(value)!r} is no colour; write #RRGGBB or a name such as teal")
    return colour


@dataclass(frozen=True)
class Looks:
    """The looks of the systems of one figure. Other names get the look of `style_of`."""

    styles: Mapping[str, Style] = field(default_factory=dict)

    def __getitem__(self, system: str) -> Style:
        return self.styles[system] if system in self.styles else style_of(system)

    def label(self, system: str) -> str:
        """The name in legends, rows of pictures and tables."""
        return self[system].label

    def sorted(self, systems: Iterable[str]) -> list[str]:
        """Systems in the order of the legend: by place, then by name; each once."""
        return sorted(set(systems), key=lambda name: (self[name].order, name))

    def places(self, systems: Iterable[str]) -> dict[str, int]:
        """The place of each system in this order."""
        return {name: place for place, name in enumerate(self.sorted(systems))}


def looks_of(
    systems: Iterable[str],
    facts: Mapping[str, Mapping] | None = None,
    order: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
    colours: Mapping[str, str] | None = None,
    highlight: Iterable[str] = (),
) -> Looks:
    """The looks of the systems of one figure.

    facts: what the run's manifest says of each system. Its `config` influences the label.
    order: names that come first.
    labels, colours: by system, instead of the catalogue's.
    highlight: these are drawn wide, the others faint. A name "RUN:system" is a system of another run. It has the colour
    of the system, another dash and hollow markers. Raises UserError for a colour that does not exist.
    """
    facts, labels, colours = facts or {}, labels or {}, colours or {}
    first = {name: place for place, name in enumerate(order)}
    highlight = set(highlight)
    styles: dict[str, Style] = {}
    taken: set[tuple] = set()
    given = {name: place for place, name in enumerate(dict.fromkeys(systems))}
    for system in sorted(given, key=lambda name: (":" in name, name)):
        run, _, name = system.rpartition(":")
        own = facts.get(system, facts.get(name, {}))
        config = own.get("config") if isinstance(own.get("config"), Mapping) else None
        style = styles.get(name) if run and name in styles else _told_apart(name, config, taken)
        if style.order >= 100:  # without its own place: the order of its figure
            style = replace(style, order=100 + given[system] / 1000)
        if run:
            style = replace(
                style, label=f"{style.label} ({printable(run)})", dash=_other_dash(style.dash), hollow=True,
                order=style.order + 0.5,
            )  # fmt: skip
        if system in labels:
            style = replace(style, label=printable(labels[system]))
        if system in colours:
            style = replace(style, colour=parse_colour(colours[system], f"colour of {system}"))
        if system in first:
            style = replace(style, order=first[system] - 1000)
        if highlight:
            wide = system in highlight
            style = replace(style, faint=not wide, width=2.4 if wide else 1.1)
        styles[system] = style
    return Looks(styles)


def figure_looks(figure: Mapping, facts: Mapping[str, Mapping] | None = None) -> Looks:
    """The looks of a figure's systems (an entry of the manifest), as its file wants them. Tables use it."""
    wish = read_look(figure.get("look", {}), f"figure {figure['id']}")
    return looks_of(figure["systems"], facts, wish.order, wish.label, wish.colour)


def _told_apart(system: str, config: Mapping | None, taken: set[tuple]) -> Style:
    """The look by name. A spare look is one that no other system of the figure has."""
    style, step = style_of(system, config), 0
    while system.removesuffix("-fcn") not in _MARKS and (style.marker, style.dash) in taken and step < len(_SPARE):
        step += 1
        style = style_of(system, config, step)
    taken.add((style.marker, style.dash))
    return style


def _other_dash(dash: tuple) -> tuple:
    return DASHED if dash == SOLID else DOTTED


# ---------------------------------------------------------------- colour vision


def _linear(colour: str) -> np.ndarray:
    """sRGB '#RRGGBB' -> linear RGB (3,) in [0, 1] (IEC 61966-2-1)."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    """Linear RGB (3,) -> CIE L*a*b* (3,), white D65."""
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    ratio = to_xyz @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(np.maximum(ratio, 0)), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1] of '#RRGGBB': the colour in grey."""
    return float(_linear(colour) @ np.array([0.2126729, 0.7151522, 0.0721750]))


#: Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency",
#: IEEE TVCG 15(6), 2009: deuteranomaly of severity 1.0, on linear RGB.
DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                         [-0.011820, 0.042940, 0.968881]])  # fmt: skip


def distance(first: str, second: str, seen: str = "normal") -> float:
    """Distance of two colours '#RRGGBB' in CIE L*a*b*. seen: "normal", "deuteranopia" or "grey"."""

    def lab(colour: str) -> np.ndarray:
        linear = _linear(colour)
        if seen == "deuteranopia":
            linear = np.clip(DEUTERANOPIA @ linear, 0, 1)
        elif seen == "grey":
            linear = np.full(3, luminance(colour))
        return _lab(linear)

    return float(np.linalg.norm(lab(first) - lab(second)))
