"""Compares two systems, or two runs: reads from the names which sides are meant, and makes one table of all of them.

`python -m bench compare` calls it. `sides` picks the rows, `matching` joins them, `compare_numbers` computes the
intervals and verdicts, and `compare_text` prints the table.

Rows are joined on (task, data set, picture, channel, SNR, budget, repetition), so each difference is between two
results for the same picture. In two runs, pictures are the same if the manifests hold the same sha256 of their files.
Other pictures are left out and named. There are two reductions, and both are reported:

- "all pictures": a lost picture counts with what the harness painted for it (`outage_level` of the task's record). The
  verdict rests on this reduction, so that losing difficult pictures brings no advantage.
- "both delivered": only pictures that neither side lost.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.analysis.compare_numbers import compare_sides
from bench.analysis.matching import match
from bench.analysis.sides import Selection, Side, side, why_without_rows
from bench.results.find import find_run, find_system
from bench.results.manifest import noise_was_known
from bench.results.reader import Run
from bench.util.files import several, shown
from systems.errors import UserError

_KNOWN = (
    "Note: noise of {} was known before it was computed (its salt was given or published), perhaps also to the author "
    "of a third party's system."
)


def compare(
    a: str,
    b: str | None = None,
    baseline: str | None = None,
    run: Path | str | None = None,
    metric: str | None = None,
    selection: Selection = Selection(),  # noqa: B008  (frozen)
) -> pd.DataFrame:
    """The table of `python -m bench compare A B [--run RUN] [--baseline X]`. Its `attrs["notes"]` are lines for the
    user.

    A, B and X are systems of `run` (`system` or `system@variant`; default: the last run), or of another run
    (`RUN:system`). Or A and B are two runs, each a folder or a name under results/. Then every system that both have is
    compared with itself (A's rows minus B's), and X is a system of both. If A is a run and B is None, every other
    system of A is compared with `baseline`, which must be given. With `baseline`, A and B are also compared with it.
    Raises UserError if nothing can be joined, or if both sides are the same rows.
    """
    pairs, notes = _pairs_of(a, b, baseline, run, selection)
    tables, others, known, joined = [], [], [], []
    for first, second in pairs:
        if first.source[:2] == second.source[:2] and first.samples.index.equals(second.samples.index):
            raise _itself(first)
        matched = match(first, second)
        tables.append(compare_sides(first, second, metric, matched=matched))
        notes += matched.notes
        joined.append(matched.rows[["dataset", "image_id"]])
        strangers = [one for one in (first, second) if one.third_party]
        others += [one.label for one in strangers]
        known += [one.run.name for one in strangers if noise_was_known(one.run.manifest)]
    found = [table for table in tables if len(table)]
    if not found:
        raise UserError(" ".join([f"nothing to compare: {_why_nothing(joined, metric)}.", *dict.fromkeys(notes)]))
    table = pd.concat(found, ignore_index=True)
    notes += [f"{label} is a third party's system." for label in others]
    notes += [_KNOWN.format(name) for name in known]
    table.attrs["notes"] = list(dict.fromkeys(notes))
    return table


def _why_nothing(joined: list[pd.DataFrame], metric: str | None) -> str:
    """Why no table has a row, in words. joined: data set and name of the picture, of the rows that both sides have."""
    pictures = len(pd.concat(joined).drop_duplicates()) if joined else 0
    if not pictures:
        return "the two sides share no picture at any operating point"
    return f"{metric} has no value at the operating points of the two sides, which share {several(pictures, 'picture')}"


def _pairs_of(
    a: str, b: str | None, baseline: str | None, run: Path | str | None, selection: Selection
) -> tuple[list[tuple[Side, Side]], list[str]]:
    """The pairs that are compared, and a note for each system of whole runs that is in no pair because its cells
    failed.
    """
    named = [None if name is None else find_system(name) for name in (a, b)]
    runs = [place[0] if place is not None and place[0] is not None and not place[1] else None for place in named]
    if runs[0] and runs[1]:
        first, second = map(Run.open, runs)
        shared = sorted(set(first.samples["system"]) & set(second.samples["system"]))
        pairs = [(side(first, name, selection), side(second, name, selection)) for name in shared]
        if baseline:
            pairs += [(side(r, name, selection), side(r, baseline, selection))
                      for r in (first, second) for name in shared if name != baseline]  # fmt: skip
        return pairs, [*_without_rows(first), *_without_rows(second)]
    if runs[0] and b is None:
        if baseline is None:
            raise UserError(f"compare {shown(a)}: name a second run or system, or --baseline SYSTEM")
        opened = Run.open(runs[0])
        pairs = [(side(opened, n, selection), side(opened, baseline, selection))
                 for n in sorted(set(opened.samples["system"])) if n != baseline]  # fmt: skip
        return pairs, _without_rows(opened)
    if runs[0] or runs[1]:
        raise UserError("compare takes two systems or two runs, not one of each; a system of another run is RUN:SYSTEM")
    if b is None and baseline is None:
        raise UserError(f"compare {shown(a)}: name a second system, or --baseline SYSTEM")
    asked = [name for name in (a, b, baseline) if name is not None]
    here = [name for name in asked if find_system(name)[0] is None]
    at_hand = Run.open(find_run(None if run is None else str(run))) if here else None
    sides = [_side_of(name, at_hand, selection) for name in asked]
    other = sides.pop() if baseline else None
    pairs = [(sides[0], sides[1])] if b is not None else []
    pairs += [(s, other) for s in sides if other is not None and s.source != other.source]
    if not pairs:
        raise _itself(sides[0])
    return list({(first.source, second.source): (first, second) for first, second in pairs}.values()), []


def _without_rows(run: Run) -> list[str]:
    """A line for each system of a run that has no rows."""
    absent = {name: why_without_rows(run, name) for figure in run.figures for name in figure["systems"]
              if not run.samples["system"].eq(name).any()}  # fmt: skip
    return [f"Left out: {shown(name)} has no rows in {run.name}, because {why}." for name, why in absent.items()]


def _itself(one: Side) -> UserError:
    return UserError(f"compare: {shown(one.label)} would be compared with itself; name another system or run")


def _side_of(name: str, at_hand: Run | None, selection: Selection) -> Side:
    """`system` of the run at hand, or `RUN:system` of another run."""
    folder, system = find_system(name)
    if folder is not None:
        return replace(side(Run.open(folder), system, selection), foreign=True)
    if at_hand is None:
        raise UserError(f"compare {shown(name)}: there is no run; name one with --run")
    return side(at_hand, system, selection)
