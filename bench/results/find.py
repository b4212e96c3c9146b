"""Finds a run by its folder, by its name under results/, or as the last one; and lists all runs.

Called by every command that reads a run. Only this module reads `RUN:SYSTEM`, which means one system of a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.results.manifest import NAME, read_manifest
from bench.util.files import shown
from systems.errors import UserError, did_you_mean

RESULTS = Path("results")


def find_run(name: str | None = None) -> Path:
    """The folder of a run. Without a name: of the run whose manifest was written last, which is printed on stderr.

    Raises UserError if there is no such run.
    """
    if name is not None:
        folder = _folder(name)
        if folder is not None:
            return folder
        names = [shown(run.name) for run in runs()]
        hint = did_you_mean(name, names, "runs") if names else f"none is under {RESULTS}/ yet"
        raise UserError(f"{shown(name)}: no run there (a folder with a {NAME}); {hint}")
    known = runs()
    if not known:
        raise UserError(f"no run under {RESULTS}/; make one with `python -m bench run`, or name its folder")
    last = max(known, key=lambda folder: ((folder / NAME).stat().st_mtime_ns, folder.name))
    print(f"the last run: {shown(last)}", file=sys.stderr)
    return last


def find_system(name: str) -> tuple[Path | None, str]:
    """`RUN` -> (its folder, ""); `RUN:SYSTEM` -> (the folder, the system); any other text -> (None, the text).

    A folder whose name contains a colon is found as a run. Raises UserError if RUN of `RUN:SYSTEM` is no run.
    """
    folder = _folder(name)
    if folder is not None:
        return folder, ""
    run, colon, system = name.rpartition(":")
    if not colon:
        return None, name
    if not run or not system:
        raise UserError(f"{shown(name)}: a system of another run is RUN:SYSTEM, as in my_run:gensc")
    return find_run(run), system


def check_once(folders: Iterable[Path]) -> None:
    """Raise UserError if two of the folders are one run: it would stand beside itself under two names."""
    found: set[Path] = set()
    for folder in folders:
        if (place := folder.resolve()) in found:
            raise UserError(f"{shown(folder)}: this run is named twice; name each run once")
        found.add(place)


def runs() -> list[Path]:
    """The folders of all runs under results/."""
    return sorted(path.parent for path in RESULTS.glob(f"*/{NAME}"))


def _folder(name: str) -> Path | None:
    """The run with this name. None if there is none, or if no file can have such a name."""
    for folder in (Path(name), RESULTS / name):
        try:
            if (folder / NAME).is_file():
                return folder
        except (OSError, ValueError):
            return None
    return None


def _bytes_of(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:  # a run that goes on has just renamed it
        return 0


# ---------------------------------------------------------------- the list


@dataclass(frozen=True)
class RunFacts:
    """What `python -m bench runs` shows of a run. problem: the reason why its manifest cannot be read, or ""."""

    name: str
    date: str
    command: str
    figures: tuple[str, ...]
    systems: tuple[str, ...]
    cells: str
    size: int  # of all its files, in bytes
    asked: tuple[tuple[str, str], ...] = ()  # (task, requirement) of its figures
    limited: bool = False
    problem: str = ""


def facts_of_run(folder: Path) -> RunFacts:
    """The facts of one run, from its manifest. A damaged manifest raises nothing; see `RunFacts.problem`."""
    size = sum(_bytes_of(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)
    name = folder.name or folder.resolve().name
    try:
        manifest = read_manifest(folder) or {"config": {"figures": []}}
    except UserError as error:
        return RunFacts(name, "", "", (), (), "", size, problem=str(error))
    figures = manifest["config"]["figures"]
    cells = manifest.get("cells", {})
    done, expected = cells.get("done"), cells.get("expected")
    date = (manifest.get("end") or manifest.get("start") or "").replace("T", " ")[:16]
    return RunFacts(
        name,
        date,
        " ".join(["python -m bench", *manifest.get("argv", ["run"])]),
        tuple(figure["id"] for figure in figures),
        tuple(dict.fromkeys(name for figure in figures for name in figure["systems"])),
        "unfinished" if done is None else f"{done}/{expected}" if done != expected else f"{done}",
        size,
        tuple(dict.fromkeys((figure["task"], figure.get("requirement", "")) for figure in figures)),
        bool(manifest.get("limited")),
    )
