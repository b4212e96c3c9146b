"""Combines the look of each system of a figure: label, colour, marker, dash, place in the legend.

All drawings and tables ask here, so a system looks the same everywhere. The looks themselves stand elsewhere, in three
places; later ones win: the catalogue of systems, `baselines/catalogue.py` (or, for a third party's system, its class);
the figure's TOML file (`bench.spec.look`); the options of `plot`. `looks_of` combines them for the systems of one
figure. A system without a colour or mark of its own gets a spare one, chosen here. The style of a whole sheet
(`plot --style`) is in `bench.report.paper_sheet`.

What a class or a file says is checked: no system passes for another. What the user says to `plot` is shown as it is.

Markers and dashes alone suffice to distinguish all systems of a figure. Tests check that the colours can also be
distinguished in grey and with deuteranopia.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import baselines  # noqa: F401  (registers all systems)
from bench.report.published_curves import published_labels
from bench.report.text import printable
from bench.spec.look import read_look
from bench.util.colours import near, to_hex, too_light
from bench.util.files import shown
from systems import registry

#: Dash patterns by the names that the catalogue uses: strokes and gaps in line widths, as matplotlib takes them.
DASHES: dict[str, tuple] = {
    "solid": (0, ()),
    "dashed": (0, (5, 2)),
    "dotted": (0, (1, 1.3)),
    "dash-dot": (0, (6, 1.6, 1.4, 1.6)),
    "long": (0, (9, 2.4)),
    "short": (0, (2.6, 1.4)),
    "dash-dot-dot": (0, (5, 1.5, 1, 1.5, 1, 1.5)),
    "close": (0, (3.5, 1.0)),
    "wide dots": (0, (1.2, 1.8)),
}
ERROR_MAP = "magma"  # the colour map of error pictures, as matplotlib names it
FRAME = "#D2271F"  # round a part of a picture that is shown enlarged
_UNPLACED = 100  # in the order of legends: behind all systems with a mark


@dataclass(frozen=True)
class Style:
    """How one system is drawn: matplotlib's colour, marker and dash pattern, and its place in the legend."""

    colour: str
    marker: str
    dash: tuple
    label: str
    order: float = _UNPLACED
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


#: Colours for systems that name none: indigo, teal, olive, wine and rose of Tol's "muted" scheme.
_MUTED = ("#332288", "#44AA99", "#999933", "#882255", "#CC6677")
#: Looks for systems without a mark: colours and markers that no mark of the catalogue has.
_SPARE = [
    (colour, marker, DASHES[dash])
    for marker, dash, colour in product(
        ("<", ">", "h", "p", "d", "8"), ("dashed", "long", "dash-dot-dot", "short"), _MUTED
    )
]


def style_of(system: str, facts: Mapping | None = None, step: int = 0, wish: str = "") -> Style:
    """The look of a system: label and colour from the catalogue or the manifest, the rest from its name alone.

    facts: what the manifest says of the system.
    step: 0; 1 and more give the next spare looks. A system without a mark in the catalogue gets a spare look, chosen by
    a hash of its name.
    wish: a colour "#RRGGBB" in place of its own. One that could be taken for another system of ours is not granted.
    """
    look = registry.look(system, facts)
    number = int.from_bytes(hashlib.sha256(look.like.encode("utf-8", "surrogatepass")).digest()[:8])
    spare, marker, dash = _SPARE[(number + step) % len(_SPARE)]
    own, label = to_hex(look.colour), shown(look.label)  # not cut: its end may be the name of a third party's system
    if look.mark is None:
        colour = wish or own
        colour = colour if colour and _is_free(colour) else spare
        return Style(colour, marker, dash, label, width=1.6, marker_size=5.0)
    colour = wish if wish and _is_free(wish, own) else own
    return Style(
        colour, look.mark.marker, DASHES[look.mark.dash], label, look.mark.place, look.mark.width, look.mark.size
    )


def _is_free(colour: str, own: str = "") -> bool:
    """Whether a system may have the colour: it is not taken for one of ours, and can be seen on white. own: that of the
    system, if it is ours.
    """
    taken = registry.own_colours() - {own}
    return not too_light(colour) and not any(near(colour, other) for other in taken)


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of systems, by name. Where several look alike, or one like another's name or like the label of a
    published curve, they get the names too, so that none hides. So does a third party's label that holds the name or
    the label of another system: beside one with the label "Foo", "Foo (bar)" would be taken for the system bar, and
    "Foo, trained longer" for a form of it.
    """
    found = dict(labels)
    names = Counter(registry.bare(name) for name in labels)
    for _ in range(2):  # once more, because a label with a name may be what a third system calls itself
        counts = Counter(map(registry.bare, (*found.values(), *published_labels())))
        for name, label in found.items():
            bare, own = registry.bare(label), f" ({_named(name)})"
            taken = counts[bare] > 1 or names[bare] > (bare == registry.bare(name))
            if not registry.holds(name.rpartition(":")[2]):
                taken = taken or _holds_another(name, bare, labels)
            if taken and not label.endswith(own):
                found[name] = label + own
    return found


def _named(system: str) -> str:
    """The name of a system, of which no letter is cut (`registry` allows 60), behind that of its run if it has one."""
    run, colon, name = system.rpartition(":")
    return printable(run) + colon + printable(name)


def _holds_another(name: str, label: str, labels: Mapping[str, str]) -> bool:
    """Whether the label of a system holds the name or the label of another system, or the label of a published curve,
    of more than two letters, that its own name does not hold. label: as `registry.bare` gives it.
    """
    own, system = registry.bare(name), name.rpartition(":")[2]
    others = {other: text for other, text in labels.items() if other.rpartition(":")[2] != system}
    texts = map(registry.bare, (*others, *others.values(), *published_labels()))
    held = any(text in label and text not in own and len(text) > 2 for text in texts)
    return held and label != own


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
        """The place of each system in the order of `sorted`, from 0."""
        return {name: place for place, name in enumerate(self.sorted(systems))}


def looks_of(
    systems: Iterable[str],
    facts: Mapping[str, Mapping] | None = None,
    order: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
    colours: Mapping[str, str] | None = None,
    highlight: Iterable[str] = (),
    said: Mapping[str, str] | None = None,
) -> Looks:
    """The looks of the systems of one figure.

    facts: what the run's manifest says of each system.
    order: names that come first.
    labels, colours: by system, as a figure's file wants them (`FigureLook`). They are checked as those of a third
    party's system are. Systems of ours keep their labels.
    highlight: these are drawn wide, the others faint.
    said: labels by system that the user wants, shown as they are.
    A name "RUN:system" is a system of another run. It has the colour of the system, another dash and hollow markers.
    """
    facts, labels, colours, said = facts or {}, labels or {}, colours or {}, said or {}
    first = {name: place for place, name in enumerate(order)}
    highlight = set(highlight)
    styles: dict[str, Style] = {}
    given = {name: place for place, name in enumerate(dict.fromkeys(systems))}
    own_labels = distinct({name: _label_among(name, facts, labels, said) for name in given})
    # Those of this run first, then the same systems of others, whose looks are given; the rest is told apart from them.
    for system in sorted(given, key=lambda name: (":" in name, name.rpartition(":")[2] not in given, name)):
        run, _, name = system.rpartition(":")
        own = facts.get(system, facts.get(name, {}))
        if run and name in styles and system not in colours:
            style = _of_other_run(styles[name])
        else:
            wish = colours.get(system, colours.get(name, ""))
            style = _told_apart(name, own, bool(run), list(styles.values()), wish)
        style = replace(style, label=own_labels[system])
        if style.order >= _UNPLACED:  # without its own place: the order of its figure
            style = replace(style, order=_UNPLACED + given[system] / 1000 + 0.5 * bool(run))
        if system in said:
            style = replace(style, label=printable(said[system]))
        if system in first:
            style = replace(style, order=first[system] - 1000)
        if highlight:
            wide = system in highlight
            style = replace(style, faint=not wide, width=2.4 if wide else 1.1)
        styles[system] = style
    return Looks(styles)


def _label_among(system: str, facts: Mapping[str, Mapping], wishes: Mapping[str, str], said: Mapping[str, str]) -> str:
    """The label of a system, with the run of one of another run. said: the user's. wishes: of the figure's file, which
    may come from somebody else: none is granted for a system of ours, and no run passes for a system.
    """
    run, _, name = system.rpartition(":")
    ours = registry.holds(name)
    if system in wishes and not ours:
        return _granted(wishes[system], name)
    if run and name in said:
        label = printable(said[name])
    elif name in wishes and not ours:
        label = _granted(wishes[name], name)
    else:
        label = style_of(name, facts.get(system, facts.get(name))).label
    place = f"run {printable(run)}" if run and registry.borrowed(run) else printable(run)
    return f"{label} ({place})" if run else label


def _granted(wish: str, name: str) -> str:
    """The label that a figure's file wants for a system, with its name if it could be read as another of ours."""
    label = printable(wish)
    return f"{label} ({printable(name)})" if registry.borrowed(label) else label


def figure_looks(figure: Mapping, facts: Mapping[str, Mapping] | None = None) -> Looks:
    """The looks of a figure's systems (an entry of the manifest), as its file wants them. Tables use it."""
    wish = read_look(figure.get("look", {}), f"figure {figure['id']}")
    return looks_of(figure["systems"], facts, wish.order, wish.label, wish.colour)


def _told_apart(system: str, facts: Mapping, other_run: bool, others: list[Style], wish: str) -> Style:
    """The look by name. A spare look is the first that is least like those of the other systems of the figure. wish: a
    colour, "" for none.
    """
    found: list[tuple[int, Style]] = []
    for step in range(len(_SPARE) if style_of(system, facts).order >= _UNPLACED else 1):
        style = style_of(system, facts, step, wish)
        style = _of_other_run(style) if other_run else style
        likeness = max((_likeness(style, other) for other in others), default=0)
        if not likeness:
            return style
        found.append((likeness, style))
    return min(found, key=lambda pair: pair[0])[1]


def _likeness(one: Style, other: Style) -> int:
    """How alike two looks are. 0: they are told apart in print, in grey (by marker and dash) and on the page of the
    report, which draws no markers (by colour and dash); and so are their looks as systems of another run, which have
    other dashes (by colour and marker). 1: all but the last. 3: they are the same.
    """
    colour, marker, dash = near(one.colour, other.colour), one.marker == other.marker, one.dash == other.dash
    return 3 if colour and marker and dash else 2 if dash and (colour or marker) else int(colour and marker)


def _of_other_run(style: Style) -> Style:
    """The look of the same system of another run: it has the colour, another dash and hollow markers."""
    dash = DASHES["dashed"] if style.dash == DASHES["solid"] else DASHES["dotted"]
    return replace(style, dash=dash, hollow=True, order=style.order + 0.5)
