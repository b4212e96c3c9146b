"""Finds the files of installed packages without importing them. `bench.spec.source_code`, `bench.spec.frozen_files`
and `bench.measure.apart` call it.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path


def spec_of(package: str) -> ModuleSpec | None:
    """The import system's record (`ModuleSpec`) of a top-level package; None if there is none or the search fails."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return None


def files_of(package: str) -> list[Path]:
    """The folders of a package, or a module and the files beside it, but no links; [] if there are none."""
    spec = spec_of(package)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(one) for one in spec.submodule_search_locations]
    if not spec.origin or not Path(spec.origin).is_file():
        return []
    own = Path(spec.origin)
    return [own, *(one for one in own.parent.iterdir() if one != own and one.is_file() and not one.is_symlink())]


def own_files(module: str) -> list[Path]:
    """The files of the module's top package. A namespace package may have folders of others: only those that hold
    the module count.
    """
    top, _, rest = module.partition(".")
    spec = spec_of(top)
    if spec is None or spec.origin is not None or not rest:
        return files_of(top)
    inside = rest.replace(".", "/")
    return [
        folder
        for folder in files_of(top)
        if any((folder / name).is_file() for name in (f"{inside}.py", f"{inside}/__init__.py"))
    ]
