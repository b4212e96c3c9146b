"""Which run is meant: a folder, a name under results/, or the last one."""

from __future__ import annotations

from pathlib import Path

from systems.errors import UserError

RESULTS = Path("results")


def find_run(name: str | None = None) -> Path:
    """The folder of a run; without a name, that of the run whose manifest was written last. Raises UserError."""
    if name is not None:
        for folder in (Path(name), RESULTS / name):
            if (folder / "manifest.json").is_file():
                return folder
        raise UserError(f"{name}: no run there (a folder with a manifest.json); runs are {_listed()}")
    known = runs()
    if not known:
        raise UserError(f"no run under {RESULTS}/; make one with `python -m bench run`, or name its folder")
    return max(known, key=lambda folder: ((folder / "manifest.json").stat().st_mtime_ns, folder.name))


def runs() -> list[Path]:
    """Runs under results/."""
    return sorted(path.parent for path in RESULTS.glob("*/manifest.json"))


def _listed() -> str:
    return ", ".join(folder.name for folder in runs()) or f"none yet under {RESULTS}/"
