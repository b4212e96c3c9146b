"""Draws curves: the main panel, and below it outage rates and paired differences, if they show something.

`bench.report.figure_kinds` calls it. A `Chart` holds the content of one figure as numbers. `draw_chart` draws it on a
sheet as wide as one column, `draw_panels` at any place of a sheet (in Fig. 7, above the pictures). Where curves lie on
each other, the covered curve is drawn wider, so that both stay visible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from bench.analysis.quantity import OUTAGE_RATE, axis_label, quantity
from bench.report import system_looks
from bench.report.curves import DifferenceCurve, Series
from bench.report.paper_sheet import COLUMN, Sheet
from bench.report.published_curves import PublishedCurve
from bench.report.system_looks import Looks
from bench.report.text import ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNSET = (None, None)
COVERS = 1.2  # points; curves that are nearer lie on each other
MOST_COVERS = 2  # more covering curves make no difference
LEGEND_SIZE = 6.6
TITLE = {"fontsize": 7.5, "color": "#B03A00", "fontweight": "bold"}
#: Of published curves.
THIN_DASHES = [system_looks.DASHES[name] for name in ("solid", "short", "dotted", "dash-dot-dot")]
MOST_TICKS = 11


@dataclass(frozen=True)
class XAxis:
    """The horizontal axis: its name, the unit after its numbers (" dB"), and whether it shows ratios."""

    label: str = "SNR (dB)"
    unit: str = " dB"
    ratios: bool = False

    def show(self, value: float) -> str:
        """A value as text for its tick."""
        return ratio(value) if self.ratios else f"{value:g}"


@dataclass(frozen=True)
class Panel:
    """Axes on a sheet, with their size in inches."""

    axes: Axes
    sheet: Sheet
    width: float
    height: float

    def x_inches(self, value: float) -> float:
        """The distance of a value from the left of the frame."""
        low, high = self.axes.get_xlim()
        if self.axes.get_xscale() == "log":
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.width * (value - low) / (high - low)

    def y_inches(self, values: np.ndarray) -> np.ndarray:
        """The distance of values (n,) from the bottom of the frame."""
        low, high = self.axes.get_ylim()
        return self.height * (values - low) / (high - low)


@dataclass(frozen=True)
class Chart:
    """The content of one figure of curves.

    ylim: (low, high); None: the data decides.
    reach: (low, high) that the value axis shows at least, as a figure's file wishes it. A file may come from somebody
    else, so it hides no curve.
    """

    metric: str
    curves: list[Series]
    looks: Looks = field(default_factory=Looks)
    axis: XAxis = XAxis()
    bands: bool = True
    differences: list[DifferenceCurve] = field(default_factory=list)
    reference: str = ""
    published: list[PublishedCurve] = field(default_factory=list)
    ylim: tuple[float | None, float | None] = UNSET
    reach: tuple[float, float] | None = None
    title: str = ""

    @property
    def has_outages(self) -> bool:
        """Whether there is a panel of outage rates: in a fading channel, if any picture was lost."""
        return any(curve.faded and "outage" in curve.state for curve in self.curves)


def draw_chart(chart: Chart) -> Sheet:
    """A sheet as wide as one column: the panels, and the legend below them."""
    sheet = Sheet(COLUMN)
    left, right = 0.47, 0.08
    bottom, handles, labels = draw_panels(sheet, chart, left, 0.06, COLUMN - left - right)
    legend_under(sheet, handles, labels, bottom)
    return sheet


def legend_under(sheet: Sheet, handles: list, labels: list[str], top: float) -> None:
    """A legend of two columns across the sheet. top: in inches."""
    if not handles:
        return
    labels = [sheet.fit(label, sheet.width / 2 - 0.42, fontsize=LEGEND_SIZE) for label in labels]
    sheet.legend(handles, labels, sheet.width / 2, top, 2, loc="upper center", columnspacing=1.0, handletextpad=0.5,
                 labelspacing=0.35, fontsize=LEGEND_SIZE)  # fmt: skip


def draw_panels(
    sheet: Sheet, chart: Chart, x: float, y: float, width: float, height: float = 2.05
) -> tuple[float, list, list[str]]:
    """Draw the title and the panels from (x, y) on; all lengths in inches. Returns the bottom of the last axis label,
    and the entries of the legend.
    """
    if chart.title:
        title = sheet.fit(chart.title, width, **TITLE)
        sheet.text(x, y, title, va="top", **TITLE)
        y += sheet.measure(title, **TITLE)[1] + 0.05
    panels = [(_main, height)]
    if chart.has_outages:
        panels.append((_outages, 0.75))
    if chart.differences:
        panels.append((_differences, 0.85))
    handles: list = []
    labels: list[str] = []
    stack = []
    for index, (draw, high) in enumerate(panels):
        axes = sheet.axes(x, y, width, high)
        stack.append(axes)
        panel = Panel(axes, sheet, width, high)
        _x_axis(panel, chart)
        draw(panel, chart)
        if index == len(panels) - 1:
            axes.set_xlabel(chart.axis.label, labelpad=2)
        else:
            axes.tick_params(labelbottom=False)
        if index == 0:
            handles, labels = axes.get_legend_handles_labels()
        y += high + 0.07
    sheet.stack(stack, x)
    return y + 0.31, handles, labels


def _x_axis(panel: Panel, chart: Chart) -> None:
    """Limits, and ticks at points of the run: only at whole numbers if there are enough of them, and where their texts
    fit.
    """
    axes = panel.axes
    grid = sorted({float(x) for curve in chart.curves for x in curve.x})
    if not grid:
        return
    if chart.axis != XAxis() and grid[0] > 0 and grid[-1] / grid[0] > 16:  # a logarithmic axis for budgets, not for dB
        axes.set_xscale("log")
        axes.minorticks_off()
        room = (grid[-1] / grid[0]) ** 0.04
        axes.set_xlim(grid[0] / room, grid[-1] * room)
    else:
        room = 0.03 * ((grid[-1] - grid[0]) or 1.0)
        axes.set_xlim(grid[0] - room, grid[-1] + room)
    words = {value: chart.axis.show(value) for value in tick_values(grid)}
    size = axes.xaxis.get_ticklabels()[0].get_fontsize()
    wide = {value: panel.sheet.measure(text, fontsize=size)[0] for value, text in words.items()}
    kept: list[float] = []
    for value in [*list(words)[-1:], *list(words)[:-1]]:  # the last first: it stays
        near = (abs(panel.x_inches(value) - panel.x_inches(k)) - (wide[value] + wide[k]) / 2 for k in kept)
        if all(free > 0.04 for free in near):
            kept.append(value)
    axes.set_xticks(sorted(kept), [words[value] for value in sorted(kept)])


def tick_values(grid: list[float]) -> list[float]:
    """At most 11 points of the run, evenly chosen. If at least three are whole numbers, only whole numbers."""
    whole = [value for value in grid if value == round(value)]
    grid = whole if len(whole) >= 3 else grid
    return grid[:: math.ceil(len(grid) / MOST_TICKS)]


def _label(curve: Series, chart: Chart) -> str:
    text = chart.looks.label(curve.system)
    text = f" {text}" if text.startswith("_") else text  # matplotlib keeps such a label out of its legend
    if [c.system for c in chart.curves].count(curve.system) > 1:  # its variants look the same
        text += f" [{curve.variant}]"
    if curve.undertrained:
        text += " (undertrained)"
    if curve.loses_everywhere:
        text += " (outages at every point)"
    if set(curve.state) == {"missing"}:  # such as where cells failed at every point
        text += " (no value)"
    return text


def _options(curve: Series, chart: Chart) -> dict:
    """Keyword arguments of `Axes.plot` for a curve."""
    look = chart.looks[curve.system]
    options = look.line() | {"label": _label(curve, chart)}
    again = [c.variant for c in chart.curves if c.system == curve.system].index(curve.variant) > 0
    if (again or curve.undertrained) and look.marker not in ("x", "+", ""):
        options |= {"markerfacecolor": "white", "markeredgecolor": look.colour, "markeredgewidth": 1.1}
    return options


def _main(panel: Panel, chart: Chart) -> None:
    axes, looks = panel.axes, chart.looks
    axes.set_ylabel(axis_label(chart.metric), labelpad=3)
    _value_limits(axes, chart)
    low, high = axes.get_ylim()
    covered = _covered(chart.curves, 72 * panel.height / (high - low))
    for place, curve in enumerate(chart.curves):
        options, zorder = _options(curve, chart), 30 - place
        if chart.bands:
            axes.fill_between(curve.x, curve.low, curve.high, color=looks[curve.system].colour, alpha=0.12, linewidth=0,
                              zorder=2)  # fmt: skip
        axes.plot(curve.x, curve.mean, zorder=zorder, clip_on=chart.ylim != UNSET, **options)
        _outline(axes, curve, covered[place], options, zorder)
    for line, dash in zip(chart.published, cycle(THIN_DASHES)):
        axes.plot(line.x, line.values, color="#555555", linewidth=0.7, zorder=1.8, label=line.label, linestyle=dash)
    axes.set_ylim(low, high)
    _cliffs(panel, chart)


def _value_limits(axes, chart: Chart) -> None:
    """Set the value axis: from the data to whole numbers, within the metric's range; then `reach` and `ylim`."""
    from matplotlib.ticker import MaxNLocator

    values = [curve.mean for curve in chart.curves] + [line.values for line in chart.published]
    if chart.bands:
        values += [end for curve in chart.curves for end in (curve.low, curve.high)]
    known = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.array([])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    unit = quantity(chart.metric).unit
    step = 1.0 if unit else 0.05 if high - low > 0.12 else 0.01
    means = np.concatenate([curve.mean for curve in chart.curves] or [[]])
    share = not unit and bool((means[np.isfinite(means)] <= 1.0).all())  # an interval may pass 1
    ceiling = 100.0 if unit == "%" else 1.0 if share else math.inf
    room = max(0.25 * step, 0.04 * (high - low))  # no curve runs along the frame
    low, high = step * math.floor((low - room) / step), step * math.ceil((high + room) / step)
    low, high = max(low, 0.0) if known.size and known.min() >= 0 else low, min(high, ceiling)
    if chart.reach is not None:
        span = high - low  # a wish for more than three spans would make all curves one line
        low, high = min(low, max(chart.reach[0], low - span)), max(high, min(chart.reach[1], high + span))
    low, high = (given if given is not None else own for given, own in zip(chart.ylim, (low, high)))
    if not high > low:
        high = low + step
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=step == 1.0 and high - low >= 3, steps=[1, 2, 5, 10]))


def _covered(curves: Sequence[Series | DifferenceCurve], points_per_unit: float) -> list[np.ndarray]:
    """For each curve, at each of its points: the number of curves drawn above it within COVERS typographic points."""
    counts = []
    for place, curve in enumerate(curves):
        count = np.zeros(len(curve.x), dtype=int)
        for above in curves[:place]:
            for index, x in enumerate(curve.x):
                at = np.flatnonzero(above.x == x)
                if len(at) and abs(above.mean[at[0]] - curve.mean[index]) * points_per_unit < COVERS:
                    count[index] = min(count[index] + 1, MOST_COVERS)
        counts.append(count)
    return counts


def _outline(axes, curve: Series | DifferenceCurve, covered: np.ndarray, options: dict, zorder: float) -> None:
    """Draw the covered part of a curve wider than the curve that covers it."""
    extra = {key: options[key] for key in ("color", "alpha")} | {"label": "_", "zorder": zorder - 0.5}
    for index in np.flatnonzero(covered):
        if options["marker"]:
            axes.plot(
                curve.x[index], curve.mean[index], marker="o", linestyle="none", markeredgewidth=0, clip_on=False,
                markersize=max(options["markersize"], 3.0) + 2.8 * covered[index], markerfacecolor=options["color"],
                **extra,
            )  # fmt: skip
        if index + 1 < len(covered) and covered[index + 1]:
            axes.plot(
                curve.x[index : index + 2], curve.mean[index : index + 2], linestyle="-", solid_capstyle="butt",
                linewidth=2.0 + 2.0 * min(covered[index], covered[index + 1]), **extra,
            )  # fmt: skip


def _cliffs(panel: Panel, chart: Chart) -> None:
    """Draw a dotted vertical line at each digital cliff, with the two points between which it lies."""
    from matplotlib.patheffects import withStroke

    axes, bottom = panel.axes, panel.axes.get_ylim()[0]
    seen: list[float] = []
    taken: list[tuple[float, float, float, float]] = []
    for curve in chart.curves:
        if curve.cliff is None:
            continue
        lost, first = curve.cliff
        colour = chart.looks[curve.system].colour
        top = float(curve.mean[list(curve.x).index(first)])
        axes.vlines(first, bottom, top, color=colour, linewidth=0.9, linestyle=system_looks.DASHES["dotted"], zorder=3)
        if first in seen:  # a second curve with the same cliff needs no second text
            continue
        seen.append(first)
        words = f"between {chart.axis.show(lost)} and {chart.axis.show(first)}{chart.axis.unit}"
        options = {"fontsize": 5.6, "rotation": 90}
        box = _free_place(panel, chart, panel.x_inches(first) - 0.02, panel.sheet.measure(words, **options), taken)
        taken.append(box)
        axes.text(box[2] / panel.width, box[1] / panel.height, words, transform=axes.transAxes, color="#333333",
                  va="bottom", ha="right", zorder=40, path_effects=[withStroke(linewidth=2, foreground="white")],
                  **options)  # fmt: skip


def _free_place(
    panel: Panel, chart: Chart, right: float, size: tuple[float, float], taken: list
) -> tuple[float, float, float, float]:
    """The best place for a text that ends at `right`: no other text is there, and the fewest curves pass. Of several
    such places it is the lowest. Returns the box (left, bottom, right, top) in inches from the panel's corner.

    size: of the text. taken: boxes of other texts.
    """
    wide, high = size
    left = right - wide
    lines = [(c.x, c.mean) for c in chart.curves] + [(line.x, line.values) for line in chart.published]
    passing = []
    for x, values in lines:
        known = np.isfinite(values)
        if known.any():
            at = np.linspace(left - 0.02, right + 0.05, 8)
            inches = [panel.x_inches(value) for value in x[known]]
            passing.append(panel.y_inches(np.interp(at, inches, values[known], left=np.nan, right=np.nan)))
    places = np.arange(0.04, max(panel.height - high - 0.04, 0.05), 0.05)

    def cost(bottom: float) -> tuple[int, int]:
        texts = sum(left < box[2] and right > box[0] and bottom < box[3] and bottom + high > box[1] for box in taken)
        near = [(bottom - 0.04 < y) & (y < bottom + high + 0.04) for y in passing]
        return texts, sum(bool(hits.any()) for hits in near)

    bottom = min((float(place) for place in places), key=cost)
    return left, bottom, right, bottom + high


def _outages(panel: Panel, chart: Chart) -> None:
    """Draw the outage rates in per cent, with their intervals."""
    axes = panel.axes
    axes.set_ylabel(axis_label(OUTAGE_RATE.name), labelpad=3)
    for place, curve in enumerate(chart.curves):
        if curve.rate is None:
            continue
        look, zorder = chart.looks[curve.system], 30 - place
        axes.fill_between(curve.x, 100 * curve.rate_low, 100 * curve.rate_high, color=look.colour, alpha=0.12,
                          linewidth=0, zorder=2)  # fmt: skip
        axes.plot(curve.x, 100 * curve.rate, zorder=zorder, clip_on=False, **_options(curve, chart))
    top = max((np.nanmax(100 * c.rate) for c in chart.curves if c.rate is not None and np.isfinite(c.rate).any()),
              default=1.0)  # fmt: skip
    axes.set_ylim(0, min(100.0, max(1.0, 1.08 * top)))


def _difference_label(panel: Panel, reference: str, unit: str) -> tuple[str, float]:
    """The name of the axis of differences, and its size. The label of the reference stands there whole, on two lines at
    most, or not at all: what a bracket at its end says may be whose system it is.
    """
    whole = f"Δ to {reference}{unit}"
    for size in (7.0, 6.2, 5.6):
        if panel.sheet.measure(whole, fontsize=size)[0] <= panel.height:
            return whole, size
    lines = panel.sheet.fit(whole, panel.height, fontsize=5.6)
    return (lines, 5.6) if lines.count("\n") < 2 else (f"Δ{unit}", 7.0)


def _differences(panel: Panel, chart: Chart) -> None:
    """Draw each system minus the reference, with the interval of the difference. The line at 0 is the reference."""
    from matplotlib.ticker import MaxNLocator

    axes = panel.axes
    unit = quantity(chart.metric).unit
    unit = {"": "", "%": " (points)"}.get(unit, f" ({unit})")
    words, size = _difference_label(panel, chart.looks.label(chart.reference), unit)
    axes.set_ylabel(words, fontsize=size)
    axes.axhline(0, color=chart.looks[chart.reference].colour, linewidth=1.2, zorder=2.5)
    place = {(curve.system, curve.variant): curve for curve in chart.curves}
    ends = []
    finite = np.concatenate([np.append(gap.mean[np.isfinite(gap.mean)], 0.0) for gap in chart.differences])
    covered = _covered(chart.differences, 72 * panel.height / (1.3 * (finite.max() - finite.min()) or 1.0))
    for index, gap in enumerate(chart.differences):
        curve = place[gap.system, gap.variant]
        look = chart.looks[gap.system]
        options = _options(curve, chart) | {"label": "_"}
        options |= {"linewidth": 0.8 * look.width, "markersize": 0.7 * look.marker_size}
        axes.fill_between(gap.x, gap.low, gap.high, color=look.colour, alpha=0.2, linewidth=0, zorder=2)
        axes.errorbar(gap.x, gap.mean, yerr=(gap.mean - gap.low, gap.high - gap.mean), fmt="none",
                      ecolor=look.colour, elinewidth=0.7, capsize=1.2, capthick=0.6, zorder=20 - index)  # fmt: skip
        axes.plot(gap.x, gap.mean, zorder=20 - index, clip_on=False, **options)
        _outline(axes, gap, covered[index], options, 20 - index)
        ends += [gap.low[np.isfinite(gap.low)], gap.high[np.isfinite(gap.high)], gap.mean[np.isfinite(gap.mean)]]
    known = np.concatenate([*ends, [0.0]])
    pad = 0.06 * (known.max() - known.min() or 1.0)
    axes.set_ylim(known.min() - pad, known.max() + pad)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], min_n_ticks=3))
