"""The registry: from a name to a system. The module of a system is imported only when the system is first created.

The command line, plans and reports ask here which systems there are and what each of them can do.

All our own systems stand in one catalogue (`baselines.catalogue`), one line per system. Third parties add a system
through the entry-point group `semantic_bench.systems`, without touching this repository:

    [project.entry-points."semantic_bench.systems"]
    my-system = "my_package.my_module:MySystem"

The class derives from `systems.System`. Its class attributes say what it can do (`tasks`, `options`) and how figures
show it (`label`, `colour`). A plug-in that takes one of our names, or that cannot be imported, is disabled with a
message of one line. The other systems keep working.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from systems import checkpoint_option, entry_points
from systems.errors import CheckpointError, UnknownName, UserError, did_you_mean
from systems.interface import System
from systems.sidecars import sidecar

ENTRY_POINT_GROUP = "semantic_bench.systems"


class Mark(NamedTuple):
    """How figures draw a system, apart from its colour. Only the bench's own systems have one; figures choose it for
    others.

    place: position in legends, from 0.
    marker: as matplotlib names it, "" for none.
    dash: a name of `bench.report.system_looks.DASHES`.
    width: of the line, in points.
    size: of the marker, in points.
    """

    place: int
    marker: str
    dash: str
    width: float = 1.5
    size: float = 4.2


class SystemLook(NamedTuple):
    """How figures and tables show a system.

    label: its name there.
    colour: "#RRGGBB", or "" if figures shall choose a colour.
    mark: its mark, or None if figures shall choose one.
    like: the system whose look it shares; usually the system itself.
    """

    label: str
    colour: str
    mark: Mark | None
    like: str


@dataclass(frozen=True)
class Entry:
    """One registered system, or one family of systems whose names follow a pattern (such as `avif-ldpc-256qam`).

    name: the name that `--systems` takes. For a family, a form of the name for display only.
    target: "module:attribute" of a System class, or of a factory that is called as attribute(name=..., **options).
    tasks: the tasks that it can do; None: the class is asked when it is loaded.
    learned: it has weights, which `python -m bench train` trains. Of a plug-in, its class is asked (`trains`).
    fitted: its class has `fit`, which computes its statistics from training pictures.
    part: a network that other systems contain (the FCN). It can be trained, but it is no system of its own.
    pattern, examples, every: only for a family: the pattern of its names, some names that match it, and all of them.
    label: the name in figures and tables. For a family, a format string over the named groups of the pattern.
    colour, mark: as in `SystemLook`.
    looks: only for a family: (name, colour, mark) of single names.
    spelt: only for a family: (part of a name, its spelling in labels).
    like: only for a family: a format string as `label`, for the system that each of its systems looks like. The two
    never stand in one figure.
    asks: "module:attribute" of a class whose `match(sentence)` returns the task that a sentence asks for.
    plugin: it is a third party's system.
    """

    name: str
    target: str
    tasks: tuple[str, ...] | None = None
    learned: bool = False
    fitted: bool = False
    part: bool = False
    pattern: re.Pattern | None = None
    examples: tuple[str, ...] = ()
    every: tuple[str, ...] = ()
    label: str = ""
    colour: str = ""
    mark: Mark | None = None
    looks: tuple[tuple[str, str, Mark], ...] = ()
    spelt: tuple[tuple[str, str], ...] = ()
    like: str = ""
    asks: str = ""
    plugin: bool = False

    def load(self) -> Callable[..., System]:
        """Import and return the class or factory. Raises UserError if a plug-in cannot be imported or is no System."""
        module, _, attribute = self.target.partition(":")
        if not self.plugin:
            return getattr(importlib.import_module(module), attribute)
        try:
            kind = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"system {self.name!r} is disabled: its plug-in {self.target} does not import ({why}); mend or "
                "uninstall that package"
            ) from error
        if not callable(kind) or not getattr(kind, "tasks", ()):
            raise UserError(
                f"system {self.name!r} is disabled: its plug-in {self.target} names no tasks; it must be a class "
                "derived from systems.System, with the attribute tasks"
            )
        return kind

    def trains(self) -> bool:
        """Whether it has weights that `python -m bench train` trains. A plug-in's class says so itself. Raises as
        `load`.
        """
        if not self.plugin:
            return self.learned
        kind = self.load()
        return isinstance(kind, type) and issubclass(kind, System) and kind.learned

    @property
    def names(self) -> tuple[str, ...]:
        """Names that `create` takes. For a family, its examples."""
        return self.examples if self.pattern else (self.name,)

    def makes(self, name: str) -> bool:
        """Whether this entry makes the system `name`."""
        return bool(self.pattern.fullmatch(name)) if self.pattern else name == self.name


#: Names of third parties' systems, as they stand in tables and paths. A longer one would push the numbers of all
#: systems out of a terminal's lines.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")
#: Words of the bench that no system of a third party is called: options take some, and comparisons name their sides and
#: their verdicts by the others.
_WORDS = {"all", "none", "shipped", "a", "b", "tied", "undecided", "neither", "both", "only", "withheld"}
_PLAIN = re.compile(r"[A-Za-z0-9 .,:;+/()'=@%-]*")  # of their labels
_LONGEST_LABEL = 60  # letters of their labels, before the name that may follow
_ALIKE = str.maketrans("l1|05q96278(", "iiiosgggztbc")  # in many fonts

_OWN: dict[str, Entry] = {}
_plugins: dict[str, Entry] | None = None  # None: not searched yet
_disabled: dict[str, str] = {}


def register(name: str, target: str, *, pattern: str | None = None, **facts: Any) -> None:
    """Add one of our own systems.

    name, target: as in `Entry`. pattern: a regular expression, for a family. facts: other fields of `Entry`.
    Raises UserError if another system has the name.
    """
    entry = Entry(name, target, pattern=re.compile(pattern) if pattern else None, **facts)
    known = _OWN.get(name)
    if known is not None and known.target != target:
        raise UserError(f"the system name {name!r} is taken by {known.target}; give {target} another name")
    _OWN[name] = entry


def discover() -> None:
    """Search the installed packages for plug-ins again, for example after an installation."""
    global _plugins
    _plugins = {}
    _disabled.clear()
    points = entry_points.points(ENTRY_POINT_GROUP)
    for point in points:
        holder, like = _find(point.name), _twin(point.name)
        rivals = sorted({other.value for other in points if other.name == point.name})
        word = point.name.lower() in _WORDS
        if word or not _NAME.fullmatch(point.name) or (holder is None and like):
            why = "is a word of the bench" if word else f"looks like {like}" if like else "is no plain name"
            _disabled[point.name] = (
                f"plug-in {point.value} is disabled: its name {ascii(point.name)} {why}; give it another one, of at "
                "most 60 letters, digits, '-', '_', '+' and '.'"
            )
        elif holder is not None and not holder.plugin:
            _disabled[point.name] = (
                f"plug-in {point.value} is disabled: its name {point.name!r} is the bench's ({holder.target}); "
                "give it another name"
            )
        elif len(rivals) > 1:  # neither may run under the name of the other
            _disabled[point.name] = (
                f"plug-ins {' and '.join(rivals)} are disabled: both are called {point.name!r}; uninstall one of them"
            )
        else:
            _plugins[point.name] = Entry(point.name, point.value, plugin=True)
    _disabled.update(entry_points.damaged())


def _find(name: str) -> Entry | None:
    """The entry that makes `name`, or None. An exact name is preferred to a family."""
    known = (*_OWN.values(), *(_plugins or {}).values())
    exact = (entry for entry in known if entry.pattern is None and entry.makes(name))
    return next(exact, next((entry for entry in known if entry.makes(name)), None))


def _all() -> list[Entry]:
    if _plugins is None:
        discover()
    return [*_OWN.values(), *(_plugins or {}).values()]


def _catalogued(name: str) -> Entry | None:
    """The entry of a system or part of the bench. None for a third party's, and for an unknown name."""
    _all()
    entry = _find(name)
    return None if entry is None or entry.plugin else entry


def entries() -> list[Entry]:
    """Every registered system, plug-ins included, in the catalogue's order. Parts of other systems are left out."""
    return [entry for entry in _all() if not entry.part]


def trainables() -> list[Entry]:
    """Everything that `python -m bench train` can train, parts included.

    Fitted systems come first and parts second, because the others start from these.
    """
    found = [entry for entry in _all() if entry.learned or entry.fitted]
    return sorted(found, key=lambda entry: (not entry.fitted, not entry.part))


def disabled() -> dict[str, str]:
    """Plug-ins whose names are taken, and packages that cannot be read: name -> one line. Nothing is imported."""
    if _plugins is None:
        discover()
    return dict(_disabled)


def names() -> list[str]:
    """Names of all systems that `create` takes. Of a family, its examples."""
    return [name for entry in entries() for name in entry.names]


def find(name: str, parts: bool = False) -> Entry:
    """The entry that makes `name`. parts: also find parts of other systems.

    Raises UnknownName, with the nearest names, if there is none.
    """
    _all()
    entry = _find(name)
    if entry is not None and (parts or not entry.part):
        return entry
    if name in _disabled:
        raise UnknownName(_disabled[name])
    if entry is not None:
        raise UnknownName(
            f"{name!r} is a part of other systems: it can be trained but not run; see `python -m bench list`"
        )
    raise UnknownName(f"unknown system {name!r}; {did_you_mean(name, names(), 'systems', most=3, cutoff=0.5)}")


def own_modules() -> frozenset[str]:
    """Names of the modules of the bench's own systems."""
    return frozenset(entry.target.partition(":")[0] for entry in _OWN.values())


def is_ours(name: str) -> bool:
    """Whether a system belongs to the bench. False: it is a third party's. Raises UnknownName."""
    return not find(name).plugin


def holds(name: str) -> bool:
    """Whether the catalogue has the system. False: it is a third party's, whatever a manifest says."""
    return _catalogued(name) is not None


def tasks_of(name: str) -> tuple[str, ...]:
    """The tasks that a system can do. The system is not built. Raises UnknownName."""
    entry = find(name, parts=True)
    return tuple(entry.tasks if entry.tasks is not None else entry.load().tasks)  # type: ignore[attr-defined]


def task_asked(requirement: str) -> str:
    """The task that a sentence asks for, as the system that understands sentences reads it.

    Raises UserError if no system does, or if the sentence fits no task.
    """
    for entry in entries():
        if entry.asks:
            module, _, attribute = entry.asks.partition(":")
            return getattr(importlib.import_module(module), attribute)().match(requirement)
    raise UserError("no installed system understands a requirement in words; leave out --requirement")


def bare(text: str) -> str:
    """A text as the eye remembers it: letters and digits only, in lower case. Signs that look alike become one, also
    pairs (vv, rn).
    """
    plain = "".join(filter(str.isalnum, text.casefold().translate(_ALIKE)))
    return plain.replace("vv", "w").replace("rn", "m")


def _readings(text: str) -> set[str]:
    """The ways to read a text: "cl" may be a "d", or end one word and begin the next (gensc-large)."""
    plain = bare(text)
    return {plain, plain.replace(bare("cl"), "d")}


def _twin(name: str) -> str:
    """The name of ours that a reader takes `name` for, though it is another; "" if there is none."""
    ours = [own for known in _OWN.values() for own in (*known.names, *known.every) if own != name]
    lower, readings = _find(name.casefold()), _readings(name)
    near = next((own for own in ours if bare(own) in readings), "")
    return near or (name.casefold() if lower is not None and not lower.plugin and name != name.casefold() else "")


def borrowed(label: str) -> bool:
    """Whether a label could be read as that of a system of ours: it holds its name or label, or no letter at all, or
    letters beyond ASCII, or signs that a terminal or Markdown takes for more than letters ("&#71;enSC").
    """
    names = (own for known in _OWN.values() for own in (*known.names, *known.every))
    ours = (bare(text) for own in names for text in (own, look(own).label))
    readings = _readings(label)
    return any(one in own for one in ours for own in readings) or not _PLAIN.fullmatch(label) or not bare(label)


def own_colours() -> frozenset[str]:
    """The colours of the bench's own systems, "#RRGGBB"."""
    colours = (colour for entry in _OWN.values() for colour in (entry.colour, *(own[1] for own in entry.looks)))
    return frozenset(filter(None, colours))


def look(name: str, told: Mapping[str, Any] | None = None) -> SystemLook:
    """How a system is shown. The name need not be registered (it may come from an old table). No network is built.

    told: the facts of the system in the manifest of a run. The label and the colour of a third party's system come from
    there, so that no code of its package runs where tables and figures are made. Where training of one of our systems
    started from the block-KLT code (`config`), the label says so, because the published network has no such start.
    """
    entry, told = _catalogued(name), told or {}
    if entry is None:
        label, colour = (str(told.get(key) or "") for key in ("label", "colour"))
        if len(label) > _LONGEST_LABEL:  # here, because the name that follows must stay whole
            label = f"{label[: _LONGEST_LABEL - 3]}..."
        if label and borrowed(label):
            label = f"{label} ({name})"  # no figure may show a third party's curve under one of our names
        elif not label and borrowed(name):  # such as gensc-large
            label = f"{name} (plug-in)"
        return SystemLook(label or name, colour, None, name)
    label, colour, mark, like = entry.label, entry.colour, entry.mark, name
    if entry.pattern is not None and (match := entry.pattern.fullmatch(name)):
        spelt = dict(entry.spelt)
        label = label.format(**{key: spelt.get(value, value) for key, value in match.groupdict("").items()})
        if entry.like:
            like = entry.like.format(**match.groupdict(""))
            colour, mark = look(like)[1:3]
        colour, mark = next((own[1:] for own in entry.looks if own[0] == name), (colour, mark))
    config = told.get("config")
    started = isinstance(config, Mapping) and bool(config.get("linear_path")) and not entry.fitted
    return SystemLook((label or name) + (" (KLT start)" if started else ""), colour, mark, like)


def create(name: str, **options) -> System:
    """Build a system.

    options: size, checkpoint and precision of learned systems; code_rate and link of digital systems.
    Raises UnknownName for the name, and UserError for options or weights that do not fit.
    """
    entry = find(name)
    return assemble(name, entry.target, entry.load(), options)


def assemble(name: str, target: str, kind: Callable[..., System], options: Mapping[str, Any]) -> System:
    """Build a system from its class or factory `kind`. Of a checkpoint per SNR, one network each.

    target: "module:attribute" of `kind`, for messages. Raises UserError if it makes no System.
    """
    files = checkpoint_option.split(str(options.get("checkpoint", "")))
    if files:
        from systems.per_snr import PerSNR  # imported here because it loads torch, which names and tasks do not need

        rest = {key: value for key, value in options.items() if key != "checkpoint"}
        return PerSNR(
            name, {snr: assemble(name, target, kind, {**rest, "checkpoint": file}) for snr, file in files.items()}
        )
    system = kind(name=name, **options)
    if not isinstance(system, System):
        raise UserError(f"system {name!r}: {target} made a {type(system).__name__}; it must make a systems.System")
    return system


def checkpoint_paths(options: Mapping[str, Any]) -> list[Path]:
    """The files and folders that the option `checkpoint` opens to a third party's system: weights, and beside each its
    sidecar. They need not exist. All of their content counts as weights (`bench.spec.identity`).

    Raises CheckpointError for a link that the user cannot see to open more than he named: to a folder, or, in place of
    the sidecar, out of the folder of the weights. Who made the files could have it lead to the pictures.
    """
    named = checkpoint_option.files_of(str(options.get("checkpoint") or ""))
    for one in named:
        beside = sidecar(one)
        for path in (one, beside):
            astray = path == beside != one and path.resolve().parent not in (one.parent.resolve(), one.resolve().parent)
            if path.is_symlink() and (path.is_dir() or astray):
                raise CheckpointError(
                    f"--checkpoint: {path} is a link to {path.resolve()}, which the system could read; name the place "
                    "that it leads to, or put a copy there"
                )
    return list(dict.fromkeys(path for one in named for path in (one, sidecar(one))))
