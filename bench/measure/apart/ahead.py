"""Imports systems of the bench before a process forks, so that its children need not each import and compile the same.

The nursery calls it before it forks the process of such a system, and `bench.sweep` before it forks its workers.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable

import baselines  # noqa: F401  (fills the catalogue)
from systems import registry


def import_ahead(modules: Iterable[str]) -> None:
    """Import those of `modules` that the bench's own catalogue names, and call their `before_fork`, if they have it.

    All others are left out, so no code of a third party runs here. Nothing is raised: the process that needs a module
    says what is wrong with it.
    """
    for name in registry.own_modules().intersection(modules):
        with contextlib.suppress(Exception):
            getattr(importlib.import_module(name), "before_fork", lambda: None)()
