"""One side of a comparison: the rows of one system (and variant) in one run. A selection may leave a part of them.

Called by `bench.analysis.compare` and by the checks behind the claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

import baselines  # noqa: F401  (registers its systems)
from bench.results.reader import BUDGETS, POINT, Run, rounded_snr
from bench.util.files import shown
from systems import registry
from systems.errors import UserError, did_you_mean

KEY = [*POINT, "snr_db", "image_id", "rep"]  # what two rows must share to be compared
NO_BUDGET = -1.0  # in place of an empty budget while tables are joined, because NaN does not equal NaN


@dataclass(frozen=True)
class Selection:
    """The part of the runs that is compared. None: all.

    figure: an id; that of a figure over several budgets stands for all of them.
    channel: a name.
    snr_db: SNRs in dB.
    """

    figure: str | None = None
    channel: str | None = None
    snr_db: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the rows of one system (and variant) of one run."""

    run: Run
    system: str
    variant: str = ""
    foreign: bool = False  # True: it belongs to another run than the one at hand
    selection: Selection = Selection()

    @property
    def label(self) -> str:
        """Its name in tables."""
        own = self.system + (f"@{self.variant}" if self.variant else "")
        return f"{self.run.name}:{own}" if self.foreign else own

    @property
    def third_party(self) -> bool:
        """Whether it is a third party's system: the bench has none of this name."""
        return not registry.holds(self.system)

    @property
    def source(self) -> tuple[Path, str, str]:
        """Its folder, system and variant, which identify it whatever its label."""
        return self.run.directory.resolve(), self.system, self.variant

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Its rows of samples.csv. Raises UserError if the selection leaves none."""
        rows = self._own(_chosen(self.run, self.selection))
        if rows.empty:
            raise UserError(f"{self.label} has no rows {_words(self.selection)} in run {shown(self.run.name)}")
        return _filled(rows)

    @cached_property
    def failed(self) -> pd.DataFrame:
        """Its rows of failures.csv: cells without rows, perhaps those with its hardest pictures."""
        rows = self.run.failures
        return _filled(self._selected(rows[rows["system"] == self.system]))

    @cached_property
    def lacking(self) -> pd.DataFrame:
        """Its points that have no mean in summary.csv: its rows there may be those of the pictures that it chose."""
        return _filled(self._selected(self._own(self.run.lacking)))

    def _selected(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows at the SNRs of the selection."""
        if self.selection.figure is not None:
            rows = rows[rows["snr_db"].isin([snr for one in _figures(self.run, self.selection.figure)
                                             for snr in one["snr_db"]])]  # fmt: skip
        return rows if self.selection.snr_db is None else rows[rows["snr_db"].isin(_rounded(self.selection.snr_db))]

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Its rows of confusion.csv, with the columns of POINT."""
        cells = self.samples[["cell_id", "image_id", *[c for c in POINT if c not in ("dataset", "channel")]]]
        return self._own(self.run.confusion).merge(
            cells.drop_duplicates(["cell_id", "image_id"]), on=["cell_id", "image_id"]
        )

    def _own(self, table: pd.DataFrame) -> pd.DataFrame:
        rows = table[table["system"] == self.system]
        return rows[rows["variant"] == self.variant] if self.variant else rows


def side(run: Run, system: str, selection: Selection = Selection()) -> Side:  # noqa: B008  (frozen)
    """The side `system`, or `system@variant` if the run has several variants of it. Raises UserError if the run lacks
    it.
    """
    name, _, variant = system.partition("@")
    rows = run.samples[run.samples["system"] == name]
    if rows.empty and (reason := why_without_rows(run, name)):
        raise UserError(f"{name} has no rows in run {run.name}, because {reason}")
    if rows.empty:
        known = ", ".join(sorted(run.samples["system"].unique())) or "none"
        raise UserError(f"run {run.name} has no system {name!r}; it has {known}")
    variants = sorted(rows["variant"].unique())
    if variant and variant not in variants:
        raise UserError(f"run {run.name} has no {name}@{variant}; its variants are {', '.join(variants)}")
    # Two variants at the same point would be paired at random.
    if variant and _filled(rows[rows["variant"] == variant]).duplicated(KEY).any():
        raise UserError(f"run {run.name} has several rows of {name}@{variant} at one point; they cannot be paired")
    if not variant and _filled(rows).duplicated(KEY).any():
        raise UserError(
            f"{name} was run in {len(variants)} variants; name one: {', '.join(f'{name}@{v}' for v in variants)}"
        )
    return Side(run, name, variant, selection=selection)


def why_without_rows(run: Run, system: str) -> str:
    """Why a system that has no rows has none, in words; "" if the run does not name it."""
    if run.failures["system"].eq(system).any():
        return "its cells failed (failures.csv says why)"
    return "its cells were not computed" if any(system in figure["systems"] for figure in run.figures) else ""


def _filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Budgets as rounded numbers, so that rows can be joined on them."""
    filled = {column: rows[column].astype(float).round(9).fillna(NO_BUDGET) for column in BUDGETS}
    return rows.assign(**filled)


def _chosen(run: Run, selection: Selection) -> pd.DataFrame:
    rows = run.samples
    if selection.figure is not None:
        named = _figures(run, selection.figure)
        rows = pd.concat([run.samples_of(figure) for figure in named]) if len(named) > 1 else run.samples_of(named[0])
    if selection.channel is not None:
        rows = rows[rows["channel"] == selection.channel]
    if selection.snr_db is not None:
        rows = rows[rows["snr_db"].isin(_rounded(selection.snr_db))]
    return rows


def _figures(run: Run, name: str) -> list[dict]:
    """The figures of a run that a name stands for. Raises UserError if there is none."""
    named = [f for f in run.figures if name in (f["id"], f["budgets_of"])]
    if not named:
        known = dict.fromkeys(name for f in run.figures for name in (f["budgets_of"] or f["id"], f["id"]))
        hint = did_you_mean(name, known, "figures")
        raise UserError(f"--figure {shown(name)}: run {shown(run.name)} has no such figure; {hint}")
    return named


def _rounded(snrs: tuple[float, ...]) -> list[float]:
    return [rounded_snr(snr) for snr in snrs]


def _words(selection: Selection) -> str:
    parts = [f"of figure {selection.figure}" if selection.figure else "",
             f"on channel {selection.channel}" if selection.channel else "",
             "at " + ", ".join(f"{snr:g}" for snr in selection.snr_db) + " dB" if selection.snr_db else ""]  # fmt: skip
    return " ".join(part for part in parts if part)
