"""Names to systems, lazily: a system's module is imported when it is first created.

Third parties add a system through the entry-point group `semantic_bench.systems`, without touching this repository:

    [project.entry-points."semantic_bench.systems"]
    my-system = "my_package.my_module:MySystem"

The class is a `systems.System`; its class attribute `tasks` says what it can do.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from systems.errors import UnknownName, UserError, did_you_mean
from systems.interface import System

ENTRY_POINT_GROUP = "semantic_bench.systems"


@dataclass(frozen=True)
class Entry:
    """One registered system. `pattern` entries are families whose names compose (`avif-ldpc-256qam`)."""

    name: str
    target: str  # "module:attribute", a System class or a factory called as attribute(name=..., **options)
    tasks: tuple[str, ...] | None = None  # None: asked of the class when it is loaded
    learned: bool = False
    pattern: re.Pattern | None = None
    examples: tuple[str, ...] = ()

    def load(self) -> Callable[..., System]:
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


_ENTRIES: dict[str, Entry] = {
    "gensc": Entry("gensc", "systems.gensc.system:GenSC", ("reconstruction", "segmentation"), learned=True),
}
_plugins_loaded = False


def register(
    name: str,
    target: str,
    *,
    tasks: tuple[str, ...] | None = None,
    learned: bool = False,
    pattern: str | None = None,
    examples: tuple[str, ...] = (),
) -> None:
    """Add a system under `name`; a second, different system under the same name is an error."""
    entry = Entry(name, target, tasks, learned, re.compile(pattern) if pattern else None, examples)
    known = _ENTRIES.get(name)
    if known is not None and known.target != target:
        raise UserError(f"system name {name!r} is taken by {known.target}; {target} needs another name")
    _ENTRIES[name] = entry


def _load_plugins() -> None:
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    for point in entry_points(group=ENTRY_POINT_GROUP):
        register(point.name, point.value)


def entries() -> list[Entry]:
    """Every registered entry, plugins included, in order of registration."""
    _load_plugins()
    return list(_ENTRIES.values())


def names() -> list[str]:
    """Names that `create` takes as they are; of a family, its examples."""
    return [name for entry in entries() for name in (entry.examples if entry.pattern else (entry.name,))]


def find(name: str) -> Entry:
    """The entry that makes `name`, or UnknownName with the nearest names."""
    for entry in entries():
        if entry.pattern is None and entry.name == name:
            return entry
    for entry in entries():
        if entry.pattern is not None and entry.pattern.fullmatch(name):
            return entry
    raise UnknownName(f"unknown system {name!r}; {did_you_mean(name, names(), 'systems', most=3, cutoff=0.5)}")


def is_ours(name: str) -> bool:
    """Whether a system comes with the bench."""
    return find(name).target.partition(".")[0] in ("systems", "baselines")


def tasks_of(name: str) -> tuple[str, ...]:
    """The tasks that a system can do, without building it."""
    entry = find(name)
    return tuple(entry.tasks if entry.tasks is not None else entry.load().tasks)


def create(name: str, **options) -> System:
    """Build a system. `options`: size, checkpoint and device of learned systems; code_rate, link of digital ones."""
    entry = find(name)
    system = entry.load()(name=name, **options)
    if not isinstance(system, System):
        raise UserError(
            f"system {name!r}: {entry.target} made a {type(system).__name__}, which is not a systems.System"
        )
    return system
