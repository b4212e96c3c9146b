"""Fig. 4 and Fig. 5: quality against SNR, a curve a system, with 95 % bands; or against the budget, at one SNR.

What is drawn is first a list of `Series`, plain numbers that tests and other tools can read, and then ink.

An operating point at which any picture was an outage is not part of a curve: a grey picture's PSNR says nothing of a
link. The curve is broken there and a thin vertical line marks the cliff, the first SNR at which every picture decodes.
A point that was not simulated is a gap, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.report import style

#: Metric -> axis label and factor from the table's unit to the axis' unit.
AXES = {
    "psnr_db": ("PSNR (dB)", 1.0),
    "psnr_of_mean_mse_db": ("PSNR of mean MSE (dB)", 1.0),
    "ms_ssim": ("MS-SSIM", 1.0),
    "lpips": ("LPIPS", 1.0),
    "miou": ("mIoU (%)", 100.0),
    "pixel_accuracy": ("Pixel accuracy (%)", 100.0),
}


@dataclass(frozen=True)
class Series:
    """One curve: arrays over the figure's grid, NaN where nothing is drawn.

    x: SNR in dB, or the budget; mean, low, high in the unit of the metric's axis. state: "ok", "outage" (at least one
    picture did not decode) or "missing" (not simulated).
    """

    system: str
    variant: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    outages: np.ndarray
    state: tuple[str, ...]
    undertrained: bool = False

    @property
    def cliff(self) -> float | None:
        """The first x that decodes every picture, where a lower one did not; None without a cliff."""
        for index in range(1, len(self.state)):
            if self.state[index] == "ok" and "outage" in self.state[:index]:
                return float(self.x[index])
        return None

    @property
    def loses_everywhere(self) -> bool:
        """True where points were simulated and none of them decodes every picture."""
        return "outage" in self.state and "ok" not in self.state


def series_of(
    summary: pd.DataFrame, metric: str, undertrained: frozenset[str] = frozenset(), along: str = "snr_db"
) -> list[Series]:
    """The curves of one metric in `summary` (rows of one figure), in the order of legends.

    `undertrained` names the systems that are drawn thin; `along` the column that is the figure's horizontal axis.
    """
    scale = AXES[metric][1]
    rows = summary[summary["metric"] == metric]
    grid = np.array(sorted(rows[along].dropna().unique()), dtype=float)
    curves = []
    keys = rows[["system", "variant"]].drop_duplicates().itertuples(index=False)
    place = style.legend_places(rows["system"])
    for system, variant in sorted(keys, key=lambda key: (place[key[0]], key[1])):
        own = rows[(rows["system"] == system) & (rows["variant"] == variant)].set_index(along)
        own = own[~own.index.duplicated(keep="last")].reindex(grid)
        outages = own["n_outage"].fillna(0).to_numpy(dtype=float)
        value = own["mean"].to_numpy(dtype=float) * scale
        # A point where every picture failed may carry no mean at all: it was simulated, and it is an outage.
        state = tuple(
            "outage" if lost > 0 else "missing" if np.isnan(mean) else "ok"
            for mean, lost in zip(value, outages, strict=True)
        )
        drawn = np.array([s == "ok" for s in state])
        low, high = (
            np.where(drawn, own[column].to_numpy(dtype=float) * scale, np.nan) for column in ("ci_low", "ci_high")
        )
        curves.append(
            Series(
                system, variant, grid, np.where(drawn, value, np.nan), low, high, outages, state, system in undertrained
            )
        )
    return curves


def draw_series(axes, curves: list[Series], floor: float | None = None, unit: str = "dB") -> None:
    """Ink the curves on a matplotlib axes: bands below, lines above, a drop line at each digital cliff.

    `floor` is where the value axis begins; None leaves it to the data. `unit` is the horizontal axis'.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    systems = [curve.system for curve in curves]
    for index, curve in enumerate(curves):
        look = style.style_of(curve.system)
        options = look.line(curve.undertrained)
        if systems.count(curve.system) > 1:  # several variants of a system share its look, and the legend tells them
            options["label"] += f" [{curve.variant}]"
            if curve.system in systems[:index]:
                options["markerfacecolor"] = "white"
                options["markeredgecolor"] = look.colour
        if curve.loses_everywhere:
            options["label"] += " (outages everywhere)"
        zorder = 30 - look.order if look.order < 25 else 4
        axes.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.10, linewidth=0, zorder=2)
        axes.plot(curve.x, curve.mean, zorder=zorder, clip_on=False, **options)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=unit != "", steps=[1, 2, 5, 10]))
    bottom, top = axes.get_ylim()
    bottom = bottom if floor is None else floor
    axes.set_ylim(bottom, max(top, bottom + 1))  # fixed here: the drop lines stretch no axis
    for curve in curves:
        if curve.cliff is None:
            continue
        colour = style.style_of(curve.system).colour
        top = float(curve.mean[list(curve.x).index(curve.cliff)])
        axes.vlines(curve.cliff, bottom, top, color=colour, linewidth=0.9, linestyle=style.DOTTED, zorder=3)
        axes.annotate(
            f"{curve.cliff:g} {unit}".rstrip(),
            (curve.cliff, bottom),
            xytext=(2, 2.5),
            textcoords="offset points",
            fontsize=6.3,
            color=colour,
            rotation=90,
            va="bottom",
            zorder=40,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )


def draw_curves(curves: list[Series], metric: str = "psnr_db", axis: str = "SNR (dB)"):
    """A matplotlib figure of one column's width: the curves, and the legend under them. `axis`: "name (unit)", or a
    name."""
    from matplotlib.figure import Figure

    broken = sum(curve.loses_everywhere for curve in curves)  # their names take two lines
    legend = 0.155 * -(-len(curves) // 2) + 0.11 * broken
    height = 2.62 + legend
    figure = Figure(figsize=(style.COLUMN, height))
    bottom = 0.33 + legend
    axes = figure.add_axes((0.135, (bottom + 0.06) / height, 0.85, (height - bottom - 0.12) / height))
    axes.set_xlabel(axis, labelpad=2)
    axes.set_ylabel(AXES[metric][0], labelpad=3)
    draw_series(axes, curves, unit=axis.partition("(")[2].rstrip(")"))
    if curves:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            [label.replace(" (outages", "\n(outages") for label in labels],
            ncols=2,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.0),
            columnspacing=1.0,
            handletextpad=0.5,
            labelspacing=0.35,
            borderaxespad=0.1,
            fontsize=6.6,
        )
    return figure
