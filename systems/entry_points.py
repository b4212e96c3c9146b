"""Entry points of the installed packages, by which third parties add systems, data sets, channels, metrics and figures.

Everything that looks for plug-ins calls `points`. A package whose metadata cannot be read is left out, and `damaged`
names it; the packages beside it count.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points

from systems.errors import FAULTS, UserError


def points(group: str) -> list[EntryPoint]:
    """The entry points of a group, sorted by name and target. Nothing is imported."""
    try:
        found = list(entry_points(group=group))
    except Exception:  # one damaged package makes Python's own search fail for all
        found = _readable(group)[0]
    plain = (point for point in found if _is_plain(point))
    return sorted(plain, key=lambda point: (point.name, point.value))


def with_names(own: Iterable[str], group: str) -> list[str]:
    """The names `own`, and those of the entry points of a group, each once. Nothing is imported."""
    return list(dict.fromkeys((*own, *(point.name for point in points(group)))))


def damaged() -> dict[str, str]:
    """Installed packages whose entry points cannot be read or shown: name of the package -> one line that says why."""
    try:
        found = entry_points()
    except Exception:
        return _readable("")[1]
    ours = (group for group in found.groups if group.startswith("semantic_bench."))
    odd = (point for group in ours for point in found.select(group=group) if not _is_plain(point))
    return {
        ascii(point.name)[1:-1]: f"the entry point {point.name!a} = {point.value!a} holds a sign that cannot be shown; "
        "mend or uninstall its package"
        for point in odd
    }


def _is_plain(point: EntryPoint) -> bool:
    """Whether an entry point can be printed: a control character in it would write over the terminal."""
    return point.name.isprintable() and point.value.isprintable()


def loaded(point: EntryPoint) -> object:
    """What an entry point names. Raises UserError, in one line, whatever the import of its module does.

    `sys.exit` at the top of a module is a fault of the plug-in, and no reason to end a command.
    """
    try:
        return point.load()
    except FAULTS as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{point.value} does not import ({why})") from error


def _readable(group: str) -> tuple[list[EntryPoint], dict[str, str]]:
    """The entry points of the packages that can be read, and the reasons of the others. The first package of a name
    counts, as for Python's import.
    """
    found: dict[tuple[str, str], EntryPoint] = {}
    faults: dict[str, str] = {}
    for package in distributions():
        try:
            for point in package.entry_points.select(group=group):
                found.setdefault((point.name, point.value), point)
        except Exception as error:
            why = ascii(" ".join(f"{type(error).__name__}: {error}".split()))[1:-1]
            name = ascii(_name(package))[1:-1]
            faults[name] = f"entry_points.txt of the package {name} is damaged ({why}); install that package again"
    return list(found.values()), faults


def _name(package: Distribution) -> str:
    try:
        return str(package.metadata["Name"])
    except Exception:
        return "(without a name)"
