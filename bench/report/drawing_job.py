"""One figure to draw (`DrawingJob`), and what a kind of figure makes of it (`Drawing`).

`bench.report.figures` makes the jobs. Each kind of figure (`bench.report.figure_kinds`, or a plug-in) takes a job and
returns drawings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from bench.analysis.undertrained import undertrained
from bench.report import system_looks
from bench.report.options import Options
from bench.report.paper_sheet import Sheet
from bench.results.reader import Run
from bench.spec.look import FigureLook, read_look


@dataclass(frozen=True)
class Drawing:
    """One figure, ready to be saved: the name of its file, the sheet, and the words of its footnote."""

    name: str
    sheet: Sheet
    words: list[str]


@dataclass
class DrawingJob:
    """One figure to draw: its id, the run, its entries in the manifest (one, or one per budget), and the user's
    options.

    overlays: {name of a run: (run, its systems, or None for all)}.
    notes: what cannot be drawn, one line each.
    """

    id: str
    run: Run
    figures: list[dict]
    options: Options
    overlays: Mapping[str, tuple[Run, tuple[str, ...] | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def figure(self) -> dict:
        """The figure's entry in the manifest. If there are several budgets, the first."""
        return self.figures[0]

    @property
    def look(self) -> FigureLook:
        """The wishes of the figure's file for the drawing. Raises UserError if the manifest is wrong."""
        return read_look(self.figure.get("look", {}), f"run {self.run.name}, figure {self.id}")

    def rows(self, figure: dict) -> pd.DataFrame:
        """Rows of summary.csv for a figure: its own, and those of overlays with names "RUN:system"."""
        tables = [self.run.summary_of(figure)]
        for name, (run, wanted) in self.overlays.items():
            systems = sorted(set(run.summary["system"])) if wanted is None else list(wanted)
            own = run.summary_of({**figure, "systems": systems})
            if not _asked_for_the_same(figure, run):
                own = own.iloc[:0]
            tables.append(own.assign(system=f"{name}:" + own["system"].astype(str)))
        rows = pd.concat([table for table in tables if len(table)]) if any(map(len, tables)) else tables[0]
        return rows if self.options.systems is None else rows[rows["system"].isin(self.options.systems)]

    def undertrained(self) -> frozenset[str]:
        """Systems that were trained too little, those of overlays with names "RUN:system"."""
        point = [(figure["task"], figure["dataset"], figure["channel"]) for figure in self.figures]
        others = (
            f"{key}:{name}"
            for key, (run, _) in self.overlays.items()
            for name in undertrained(
                run, [one for one in run.figures if (one["task"], one["dataset"], one["channel"]) in point]
            )
        )
        return undertrained(self.run, self.figures).union(others)

    def systems(self) -> list[str]:
        """The figure's systems, in the order of its file. With `--systems` only those."""
        named = list(dict.fromkeys(name for figure in self.figures for name in figure["systems"]))
        return named if self.options.systems is None else [n for n in self.options.systems if n in named]

    def looks(self, systems) -> system_looks.Looks:
        """The looks of these systems, from the catalogue, the file and the options."""
        wish = self.look
        others = {
            f"{key}:{name}": facts
            for key, (run, _) in self.overlays.items()
            for name, facts in run.system_facts.items()
        }
        return system_looks.looks_of(
            [*(name for name in self.systems() if name in set(systems)), *systems],
            {**self.run.system_facts, **others},
            self.options.systems or wish.order,
            wish.label,
            wish.colour,
            set(self.options.highlight) & set(systems),
            self.options.labels,
        )


def _asked_for_the_same(figure: dict, run: Run) -> bool:
    """Whether another run has a figure with this budget and this requirement. Tables have no column for the
    requirement, and those of earlier versions have none for a budget in uses.
    """
    point = ("task", "dataset", "channel", "cbr", "bits", "uses", "requirement")
    return any(all(figure.get(key) == other.get(key) for key in point) for other in run.figures)


def same_pictures(job: DrawingJob, run: Run, dataset: str) -> bool | None:
    """Whether another run used the same pictures for a data set of this name. None if a manifest does not say it."""
    ours, theirs = (r.manifest.get("datasets", {}).get(dataset, {}).get("fingerprint") for r in (job.run, run))
    return None if ours is None or theirs is None else ours == theirs
