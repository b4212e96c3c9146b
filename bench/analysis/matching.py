"""Joins the rows of two sides: one pair per picture, point and repetition.

In one run a picture is its name. In two runs, pictures are the same if the manifests hold the same hashes; others are
left out, and a note says so. Called by `compare` and `compare_numbers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bench.analysis.sides import KEY, Side
from bench.measure.tasks import TASKS
from bench.results.reader import POINT
from bench.util.files import several, shown


@dataclass(frozen=True)
class Matched:
    """The joined rows of two sides, for pictures that both have. notes: one line per group of rows left out."""

    rows: pd.DataFrame
    notes: tuple[str, ...]


def match(a: Side, b: Side) -> Matched:
    """Join two sides. In two runs, pictures are the same if the manifests hold the same hashes (see the module)."""
    left, right, notes = a.samples, b.samples, []
    if a.run.directory.resolve() != b.run.directory.resolve():
        left, right, notes = _by_content(a, b)
        left, right, notes = _asked_for_the_same(left, right, notes)
    texts = {name for name in left if left[name].dtype == object} - {"status", "cell_id", "noise_id"}
    kept = [name for name in left if name in KEY or (name in right and name not in texts)]
    joined = left[kept].merge(right[[name for name in kept if name in right]], on=KEY, suffixes=("_a", "_b"))
    sizes = (joined["height_a"] == joined["height_b"]) & (joined["width_a"] == joined["width_b"])
    unknown = joined[["height_a", "height_b"]].isna().any(axis=1)
    if not (sizes | unknown).all():
        notes.append(_left_out(joined.loc[~(sizes | unknown), "image_id"], "were measured in other sizes"))
        joined = joined[sizes | unknown]
    notes += _lonely_snrs(left, right)
    notes += _lonely_pictures(left, right)
    limited = [shown(run.name) for run in {one.run.directory: one.run for one in (a, b)}.values() if run.limited]
    notes += [f"LIMITED: {name} is a trial on a part of the pictures (--limit), not a result." for name in limited]
    measured = set(left["snr_db"]) | set(right["snr_db"])
    absent = [snr for snr in a.selection.snr_db or () if round(snr, 6) not in measured]
    if absent:
        notes.append(f"Left out: {_snrs(absent)}, which neither A nor B was measured at.")
    return Matched(joined, tuple(notes))


def _by_content(a: Side, b: Side) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The rows of both sides, with pictures named by their content if the manifests know it.

    The name of a folder does not count: the same pictures in another folder are the same.
    """
    notes: list[str] = []
    sides = []
    shared = set(a.samples["dataset"]) & set(b.samples["dataset"])
    unknown = set()
    for this, other in ((a, b), (b, a)):
        rows = this.samples.assign(requirement=_requirements(this))
        folders = rows["dataset"].str.startswith("folder:")
        for dataset in rows["dataset"].unique():
            own, theirs = this.run.picture_hashes(dataset), other.run.picture_hashes(dataset)
            here = rows["dataset"] == dataset
            if dataset.startswith("folder:") and own:
                names = _content_names(own)
                rows.loc[here, "image_id"] = [names.get(name, name) for name in rows.loc[here, "image_id"]]
            elif dataset in shared and own and theirs:
                same = {name for name, sha in own.items() if theirs.get(name) == sha}
                differ = here & rows["image_id"].isin(set(theirs) - same)
                if this is a and differ.any():
                    notes.append(
                        _left_out(rows.loc[differ, "image_id"], f"of {dataset} are different files in the two runs")
                    )
                rows = rows[~differ]
            elif dataset in shared:
                unknown.add(dataset)
        rows.loc[folders.reindex(rows.index), "dataset"] = "folder"
        sides.append(rows)
    if unknown:
        notes.append(
            f"Pictures of {', '.join(sorted(unknown))} are paired by name, because a manifest holds no hashes."
        )
    left, right = sides
    for rows, label, foreign in ((left, a.label, right), (right, b.label, left)):
        own = rows[rows["dataset"] == "folder"]
        alone = own[~own["image_id"].isin(foreign["image_id"])]
        if len(alone):
            names = (a if rows is left else b).samples.loc[alone.index, "image_id"]
            notes.append(_left_out(names, f"of {label} are in no folder of the other run"))
    return left, right, notes


def _requirements(side: Side) -> pd.Series:
    """What was asked for in each row of a side: the requirement of the figures of its point, which is the same in all
    of them.
    """
    asked = pd.Series("", side.samples.index)
    for figure in side.run.figures:
        words = figure["requirement"] or TASKS[figure["task"]].requirement
        asked[side.samples.index.isin(side.run.samples_of(figure).index)] = words
    return asked


def _asked_for_the_same(
    left: pd.DataFrame, right: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The rows without the points for which the two runs have different requirements, and one more note for them."""
    asked = [rows.groupby(POINT)["requirement"].agg(lambda own: tuple(sorted(set(own)))) for rows in (left, right)]
    shared = asked[0].index.intersection(asked[1].index)
    differ = shared[(asked[0].loc[shared] != asked[1].loc[shared]).to_numpy()]
    if differ.empty:
        return left, right, notes
    words = [shown(text, 60) for one in asked for text in one.loc[differ[0]]]
    notes = [*notes, f"Left out: {several(len(differ), 'point')} with another requirement in each run, such as "
             f"{' and '.join(map(repr, words))}."]  # fmt: skip
    kept = [rows[~pd.MultiIndex.from_frame(rows[POINT]).isin(differ)] for rows in (left, right)]
    return kept[0], kept[1], notes


def _content_names(hashes: dict[str, str]) -> dict[str, str]:
    """A name for each picture from its content. Equal files in one folder are numbered in the order of their names."""
    seen: dict[str, int] = {}
    names = {}
    for name in sorted(hashes):
        seen[hashes[name]] = seen.get(hashes[name], 0) + 1
        names[name] = f"{hashes[name]} {seen[hashes[name]]}"
    return names


def _left_out(images: pd.Series, why: str) -> str:
    names = list(dict.fromkeys(images))
    some = ", ".join(shown(name, 60) for name in names[:5]) + (" ..." if len(names) > 5 else "")
    return f"Left out: {len(names)} pictures {why} ({some})."


def _snrs(values: Iterable[float]) -> str:
    return ", ".join(f"{snr:g}" for snr in values) + " dB"


def _lonely_pictures(left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """One line for the pictures of each side that the other side lacks, in a data set that both have. Those of folders
    in two runs have lines of their own.
    """
    notes = []
    for name, rows, other in (("A", left, right), ("B", right, left)):
        for dataset, own in rows[rows["dataset"] != "folder"].groupby("dataset", sort=True):
            theirs = other.loc[other["dataset"] == dataset, "image_id"]
            alone = own.loc[~own["image_id"].isin(theirs), "image_id"]
            if len(alone) and len(theirs):
                notes.append(_left_out(alone, f"of {shown(dataset)}, where only {name} has rows"))
    return notes


def _lonely_snrs(left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """One line for the SNRs of each side that the other side lacks, per task, data set, channel and budget; then one
    for the repetitions that it lacks at the SNRs that both have.
    """
    snrs, repetitions = [], []
    for name, rows, other in (("A", left, right), ("B", right, left)):
        for point, own in rows.groupby(POINT, sort=True):
            theirs = other.loc[(other[POINT] == list(point)).all(axis=1), ["snr_db", "rep"]]
            drawn, shared = own[["snr_db", "rep"]], set(theirs["snr_db"])
            alone = sorted(set(own["snr_db"]) - shared)
            if alone and len(theirs):
                snrs.append(f"Left out: {_snrs(alone)} on {point[2]}, where only {name} has rows.")
            more = set(drawn.itertuples(index=False, name=None)) - set(theirs.itertuples(index=False, name=None))
            more = {(snr, rep) for snr, rep in more if snr in shared}
            if more:
                number = several(len({rep for _, rep in more}), "repetition")
                at = _snrs(sorted({snr for snr, _ in more}))
                repetitions.append(f"Left out: {number} at {at} on {point[2]}, which only {name} has.")
    return snrs + repetitions
