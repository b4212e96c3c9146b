"""Where an installed package lies, found without importing it. For `bench.spec.source` and `bench.measure.apart`."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path


def spec_of(package: str) -> ModuleSpec | None:
    """What the import system knows of a top package; None where there is none, or where it cannot be looked up."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return None


def files_of(package: str) -> list[Path]:
    """The folders of a package, or the files beside a module. [] where there is neither."""
    spec = spec_of(package)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(one) for one in spec.submodule_search_locations]
    if not spec.origin or not Path(spec.origin).is_file():
        return []
    return [child for child in Path(spec.origin).parent.iterdir() if child.is_file()]
