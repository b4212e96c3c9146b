"""The runs in the folder `seeds` of a run: the same systems, each with the weights of a training with another seed.

They say how far the mean of a system moves from one training to the next (`bench.analysis.training_spread`), which can
keep a difference from being decided. So they may differ from the run in their weights alone: a training of another
network, on other pictures, or at points that the run does not have, says nothing of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

import baselines  # noqa: F401  (registers its systems)
from bench.util.files import shown
from systems import registry
from systems.errors import UserError

if TYPE_CHECKING:
    from bench.results.reader import Run

#: The parts of a system's identity that its trainings share; and those that a third party's do too. The code of our own
#: systems may be of another version of the bench.
_SHARED, _SHARED_BY_OTHERS = ("options", "config"), ("source", "target")


def checked(run: Run, trainings: tuple[Run, ...], point: list[str]) -> tuple[Run, ...]:
    """The trainings, each cut to the points that the run has too.

    point: the columns that name a point. A system without weights has no trainings, and is left out of them. Raises
    UserError for a training whose run has not ended, for one of another network, for one on other pictures, and for two
    with the same weights.
    """
    weights: dict[tuple[str, str], Run] = {}
    for one in trainings:
        if not one.ended:
            raise UserError(
                f"{shown(one.directory)}: this run of a training has not ended; repeat its command, or take the folder "
                "away"
            )
        _leave_trained(one)
        for system in sorted(run.system_facts.keys() & one.system_facts.keys()):
            _check_network(run, one, system)
            first = weights.setdefault((system, str(_weights(one, system))), one)
            if first is not one:
                raise UserError(
                    f"{shown(one.directory)}: {shown(system)} has the same weights as in {shown(first.directory)}, so "
                    "they are one training; take one of the folders away"
                )
        _cut(run, one, ["system", *point, "snr_db"])
        _check_pictures(run, one, ["system", *point, "snr_db", "metric"])
    return trainings


def _weights(run: Run, system: str) -> Any:
    """What names the weights of a system, None if it has none."""
    return run.system_facts[system].get("identity", {}).get("weights")


def _leave_trained(training: Run) -> None:
    """Leave out the systems that have no weights."""
    trained = {name: facts for name, facts in training.system_facts.items() if _weights(training, name) is not None}
    training.__dict__["system_facts"] = trained
    for table in ("summary", "samples", "failures"):
        rows = getattr(training, table)
        training.__dict__[table] = rows[rows["system"].isin(trained)]


def _check_network(run: Run, training: Run, system: str) -> None:
    facts = [one.system_facts[system] for one in (run, training)]
    here, there = (own.get("identity", {}) for own in facts)
    third_party = any(own.get("plugin") is True for own in facts) or not registry.holds(system)
    shared = (*_SHARED, *(_SHARED_BY_OTHERS if third_party else ()))
    other = [name for name in shared if here.get(name) != there.get(name)]
    if other:
        raise UserError(
            f"{shown(training.directory)}: {shown(system)} differs from that of the run in its {', '.join(other)}; a "
            "training with another seed differs in its weights alone: repeat it with the same options and code, or "
            "take the folder away"
        )


def _cut(run: Run, training: Run, columns: list[str]) -> None:
    """Leave out the rows of other points."""
    points = _keys(run.summary, columns)
    for table in ("summary", "samples"):
        rows = getattr(training, table)
        training.__dict__[table] = rows[_keys(rows, columns).isin(points)]
    # Cells that failed at points which the run lacks say nothing either. failures.csv has no column for the task.
    known = [name for name in columns if name != "task"]
    rows = training.failures
    training.__dict__["failures"] = rows[_keys(rows, known).isin(_keys(run.summary, known))]


def _check_pictures(run: Run, training: Run, columns: list[str]) -> None:
    """Raise UserError if the training has a mean over other pictures than the run has."""
    told = [{name: facts.get("fingerprint") for name, facts in one.manifest.get("datasets", {}).items()}
            for one in (run, training)]  # fmt: skip
    altered = {name for name in told[0].keys() & told[1].keys() if told[0][name] != told[1][name]}
    means = [one.summary.dropna(subset=["mean"]) for one in (run, training)]
    counts = [pd.Series(rows["n_images"].to_numpy(), index=_keys(rows, columns)) for rows in means]
    here, there = (one[~one.index.duplicated()] for one in counts)
    both = here.index.intersection(there.index)
    differ = both[(here.loc[both] != there.loc[both]).to_numpy()]
    where = columns.index("dataset")
    names = sorted({key[where] for key in differ} | altered & set(means[1]["dataset"]))
    if names:
        raise UserError(
            f"{shown(training.directory)}: it has other pictures of {shown(names[0])} than the run; repeat it with the "
            "pictures of the run, or take the folder away"
        )


def _keys(rows: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    """The values of `columns` in each row. Numbers are rounded: tables that were compressed have nine digits."""
    values = {name: rows[name].round(6).fillna(-1.0) if rows[name].dtype.kind in "fi" else rows[name].fillna("")
              for name in columns}  # fmt: skip
    return pd.MultiIndex.from_frame(pd.DataFrame(values))
