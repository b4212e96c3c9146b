"""The identity of a system: its options, weights and code. It is part of every cell's id, and of the manifest.

`bench.spec.request` and `bench.sweep` call it. Our own systems are built here once, so that they can describe
themselves. A third party's system is asked in a separate process (`bench.measure.apart`), because the harness never
imports its code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import baselines  # noqa: F401  (registers its systems)
from bench.spec.frozen_files import States, changed, state_of, states
from bench.spec.source_code import imported, source_digest
from bench.util.cache_folder import cache_folder
from bench.util.environment import versions
from bench.util.files import StorageError, read_json, shown, write_atomic
from systems import registry
from systems.checkpoint_option import without_folders
from systems.errors import AuditError, UserError
from systems.interface import System

if TYPE_CHECKING:
    from bench.measure.apart import RemoteSystem

LEARNED_OPTIONS = ("size", "checkpoint")
MOST_PARAMETERS = 10**15  # that a system can say it has
_OURS = ("systems", "baselines")


@dataclass(frozen=True)
class SystemFacts:
    """A system as a run uses it.

    name: as in `--systems`.
    options: those given to it.
    variant: tag of weights, or of modulation and code.
    bits_per_use: coded bits per complex use, None for an analog system.
    parameters: number of parameters of its network.
    identity: everything that decides its rows. A cell on disk is valid only for the same identity.
    description: what it says of itself.
    target: "module:attribute" that makes it.
    plugin: it is a third party's, and runs in separate processes.
    encoder_sees_snr, genie, opens_files: as in `System`.
    label, colour: as in `System`, of a third party's system; the catalogue has those of ours.
    frozen: states of the files of a third party's system that others may write (`bench.spec.frozen_files`).
    """

    name: str
    options: dict[str, Any]
    variant: str
    bits_per_use: float | None
    parameters: int
    identity: dict[str, Any]
    description: dict[str, Any] = field(default_factory=dict)
    target: str = ""
    plugin: bool = False
    encoder_sees_snr: bool = False
    genie: bool = False
    opens_files: bool = False
    label: str = ""
    colour: str = ""
    frozen: States = field(default_factory=dict)

    def for_manifest(self) -> dict[str, Any]:
        """The facts as plain JSON, without paths."""
        options = {
            key: without_folders(str(value)) if key == "checkpoint" else value for key, value in self.options.items()
        }
        told = {"bits_per_use": self.bits_per_use, "options": options, "identity": self.identity}
        shown = {}
        if self.plugin:
            shown = {"label": self.label, "colour": self.colour, "opens_files": self.opens_files}
        return {**self.description, **told, **shown, "plugin": self.plugin}


def option_names(name: str) -> tuple[str, ...]:
    """Names of the options that a system takes: those in its class attribute `options`, and those of every learned
    system.
    """
    entry = registry.find(name)
    own = _look(name, entry.target)["options"] if entry.plugin else entry.load().options  # type: ignore[attr-defined]
    return tuple(dict.fromkeys((*(LEARNED_OPTIONS if is_learned(name) else ()), *own)))


def is_learned(name: str) -> bool:
    """Whether a system, or a part of systems, has weights that can be trained."""
    entry = registry.find(name, parts=True)
    if entry.plugin:
        return _look(name, entry.target)["learned"]
    return entry.learned


def tasks_of(name: str) -> tuple[str, ...]:
    """The tasks that a system can do. Raises UserError if a third party's class cannot be asked."""
    entry = registry.find(name)
    if not entry.plugin:
        return registry.tasks_of(name)
    found = tuple(_look(name, entry.target)["tasks"])
    if not found:
        raise UserError(f"system {name!r}: {entry.target} is no systems.System class and names no tasks")
    return found


@cache
def _look(name: str, target: str) -> dict[str, Any]:
    """The attributes of a third party's class, without building the system."""
    from bench.measure.apart import Home, inspect

    return inspect(Home.shared(), name, target, {}, build=False)


def build(name: str, options: dict[str, Any]) -> System:
    """The system, ready to run in this process: for our own systems. Raises UserError."""
    return registry.create(name, **options)


def apart(
    facts: SystemFacts, secrets: Iterable[Path], device: str = "cpu", printed: Callable[[str], None] = lambda text: None
) -> RemoteSystem:
    """The system in separate processes. They cannot open `secrets`, which are files and folders. printed: receives the
    text that the system prints. The processes of a third party's system are sealed (`bench.measure.apart.seal`), unless
    it opens files.

    Raises AuditError if a third party's system declares `genie`: this lifts a rule, and only the bench's bounds may.
    """
    from bench.measure.apart import Home, RemoteSystem, Sight
    from bench.measure.audit import REPORT_COLUMNS

    if facts.plugin and facts.genie:
        raise AuditError(
            f"audit: system {facts.name}: declares genie, which lifts a rule; only the bench's own bounds may do so"
        )
    open_files = facts.opens_files or not facts.plugin
    told = {"variant": facts.variant, "bits_per_use": facts.bits_per_use, "genie": facts.genie,
            "encoder_sees_snr": facts.encoder_sees_snr, "opens_files": open_files}  # fmt: skip
    sight, columns = Sight.of(facts.target, facts.options, secrets, device), sorted(REPORT_COLUMNS)
    return RemoteSystem(Home.shared(), facts.name, facts.target, facts.options, told, sight, columns, device, printed)


def facts_of(name: str, options: dict[str, Any]) -> SystemFacts:
    """Describe a system with these options. Raises UserError (weights missing or altered, wrong options).

    The system is built once for this. For our own systems the facts are stored in the user's cache folder, under a hash
    of everything that they depend on. So the plan of a run does not have to wait until networks are built.
    """
    if registry.find(name).plugin:
        return _asked_facts(name, options)
    path = _kept_facts(name, options)
    try:
        kept = SystemFacts(**read_json(path, "cache"))
    except (UserError, TypeError):  # there is no such file, or another version wrote it
        kept = None
    if kept is not None and _fits(kept, name, options):
        return kept
    facts = _built_facts(name, options)
    with contextlib.suppress(StorageError, TypeError):  # it is only a cache: without it the result is the same
        write_atomic(path, json.dumps(asdict(facts)).encode())
    return facts


def _fits(kept: SystemFacts, name: str, options: dict[str, Any]) -> bool:
    """Whether facts from the cache are of this system. If not (the file was edited or damaged), they are made again."""
    kinds = {"variant": str, "parameters": int, "identity": dict, "description": dict, "target": str, "plugin": bool,
             "encoder_sees_snr": bool, "genie": bool, "opens_files": bool, "label": str, "colour": str}  # fmt: skip
    return (
        (kept.name, kept.options) == (name, json.loads(json.dumps(options, default=str)))
        and all(type(getattr(kept, key)) is kind for key, kind in kinds.items())
        and type(kept.bits_per_use) in (int, float, type(None))
        and kept.bits_per_use == kept.bits_per_use  # no NaN
        and (kept.identity.get("name"), kept.identity.get("variant")) == (name, kept.variant)
        and isinstance(kept.identity.get("source"), str)
    )


class Unchanged:
    """Checks during a run that a system still has the code and the weights of its identity, and that nobody else
    touched a third party's files.

    A worker builds a system long after the plan was made, and a third party's system is imported anew for each call.
    Without this check, rows of edited code would be stored under the old identity.
    """

    def __init__(self, facts: SystemFacts, module: str, hidden: Collection[Path] = ()):
        """module: of the system's class. hidden: files and folders that it cannot open. Raises UserError as `check`."""
        self.facts, self.module, self.hidden = facts, module, hidden
        self._states: list[tuple[int, ...]] | None = None
        self._code: list[Path] = []
        self.check()

    def check(self) -> None:
        """Raise UserError if code or weights changed, or if a file was touched that others may write. Files are read
        only where their states say that they were touched."""
        if self.facts.plugin:
            touched = changed(self.facts.frozen, states(self.module, self.facts.options), self.hidden)
            if touched:
                raise UserError(
                    f"{shown(touched)} changed since this command began: {self.facts.name} can open it, and another "
                    "account may write it; let only the user write there (chmod go-w), and repeat the command"
                )
        weights = _weight_files(self.facts.options)
        if self._states is not None and self._states == [state_of(file) for file in (*self._code, *weights)]:
            return
        self._code = list(imported(self.module, (*_OURS, self.module.partition(".")[0])).values())
        self._states = [state_of(file) for file in (*self._code, *weights)]
        try:
            same = source_digest(self.module) == self.facts.identity["source"]
            told = _weights(weights, self.facts.description, self.facts.options, self.facts.plugin)
            same = same and told == self.facts.identity["weights"]
        except OSError:
            same = False
        if not same:
            self._states = None
            raise UserError(
                f"the code or the weights of {self.facts.name} changed since this command began; repeat the command"
            )


def _kept_facts(name: str, options: dict[str, Any]) -> Path:
    """The file for the stored facts of one of our systems. Its name depends on the content of the weights."""
    module = registry.find(name).target.partition(":")[0]
    files = registry.checkpoint_paths(options)
    for package in _OURS:
        files += sorted((Path(str(sys.modules[package].__file__)).parent / "weights").iterdir())
        files += sorted((Path(str(sys.modules[package].__file__)).parents[1] / "configs" / "models").glob("*.toml"))
    states = [(str(file), _file_digest(file)) for file in files if file.is_file()]
    key = json.dumps([name, options, source_digest(module), versions(), states], sort_keys=True, default=str)
    return cache_folder() / "facts" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weight_files(options: dict[str, Any]) -> list[Path]:
    """All files that the option `checkpoint` opens to a third party's system: of a folder, those below it."""
    paths = registry.checkpoint_paths(options)
    found = (sorted(one.rglob("*")) if one.is_dir() else [one] for one in paths)
    return [file for files in found for file in files if file.is_file()]


def _weights(files: Sequence[Path], description: dict[str, Any], options: dict[str, Any], plugin: bool) -> Any:
    """What names the weights of a system: the content of the files that its checkpoint names, sidecars too. Without
    such files, what it says.
    """
    if files:
        return _digest_of(files)
    told, given = description.get("sha256"), options.get("checkpoint")
    return told if not plugin or given in (None, "shipped") else [str(given), told]  # the system sees the text


def _digest_of(files: Sequence[Path]) -> str:
    """sha256 of a file, or of several files' contents and names."""
    if len(files) == 1:
        return _file_digest(files[0])
    above = Path(os.path.commonpath([file.parent for file in files]))
    lines = [f"{file.relative_to(above).as_posix()} {_file_digest(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()


def _built_facts(name: str, options: dict[str, Any]) -> SystemFacts:
    system, target = build(name, options), registry.find(name).target
    told = {"bits_per_use": system.bits_per_use, "encoder_sees_snr": system.encoder_sees_snr, "genie": system.genie,
            "opens_files": system.opens_files}  # fmt: skip
    description = dict(system.describe())
    return _facts(name, options, target, type(system).__module__, system.variant, description, False, told)


def _asked_facts(name: str, options: dict[str, Any]) -> SystemFacts:
    from bench.measure.apart import Home, inspect

    target = registry.find(name).target
    told = inspect(Home.shared(), name, target, options)
    told.pop("measures")
    return _facts(
        name, options, target, target.partition(":")[0], told.pop("variant"), told.pop("description"), True, told
    )


def _facts(
    name: str,
    options: dict[str, Any],
    target: str,
    module: str,
    variant: str,
    description: dict[str, Any],
    plugin: bool,
    told: dict[str, Any],
) -> SystemFacts:
    plain = {key: value for key, value in options.items() if key != "checkpoint"}
    try:
        weights = _weights(_weight_files(options), description, options, plugin)
    except OSError as error:
        raise UserError(
            f"--checkpoint: {error.filename} cannot be read ({error.strerror}); name another file"
        ) from None
    identity = {
        "name": name,
        "variant": variant,
        "options": plain,
        "weights": weights,
        "config": description.get("config"),
        "source": source_digest(module),
        **({"target": target} if plugin else {}),  # a module may hold several classes
    }
    try:
        parameters = int(description.get("parameters") or 0)
    except (TypeError, ValueError, OverflowError):  # whatever a third party's system says of itself
        parameters = 0
    if not 0 <= parameters < MOST_PARAMETERS:
        parameters = 0
    return SystemFacts(name, dict(options), variant, parameters=parameters, identity=identity, description=description,
                       target=target, plugin=plugin, frozen=states(module, options) if plugin else {},
                       **told)  # fmt: skip
