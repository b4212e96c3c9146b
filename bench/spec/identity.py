"""Which system exactly makes a row: its options, weights and code. Part of every cell's id, and of the manifest.

Our own systems are built here once to say what they are. A third party's is asked in a process of its own
(`bench.measure.apart`): its code is never imported by the harness.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import baselines  # noqa: F401  (registers its systems)
from bench.spec.source import source_digest
from bench.util.environment import cache_folder, versions
from bench.util.files import StorageError, read_json, write_atomic
from systems import registry
from systems.checkpoints import files_of, without_folders
from systems.errors import UserError
from systems.interface import System

LEARNED_OPTIONS = ("size", "checkpoint")
_OURS = ("systems", "baselines")


@dataclass(frozen=True)
class SystemFacts:
    """A system as it is used in a run. `identity` decides whether a cell on disk is still valid.

    target: "module:attribute" that makes it. plugin: it is a third party's, and runs in processes of its own.
    bits_per_use: coded bits per complex use, None for an analog system.
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

    def for_manifest(self) -> dict[str, Any]:
        """Plain JSON without paths."""
        options = {
            key: without_folders(str(value)) if key == "checkpoint" else value for key, value in self.options.items()
        }
        told = {"bits_per_use": self.bits_per_use, "options": options, "identity": self.identity}
        return {**self.description, **told, "plugin": self.plugin}


def option_names(name: str) -> tuple[str, ...]:
    """Options that a system takes: those of its class attribute `options`, and those of every learned system."""
    entry = registry.find(name)
    own = _look(name, entry.target)["options"] if entry.plugin else getattr(entry.load(), "options", ())
    return tuple(dict.fromkeys((*(LEARNED_OPTIONS if is_learned(name) else ()), *own)))


def is_learned(name: str) -> bool:
    """Whether a system, or a part of systems, has weights that can be trained."""
    entry = registry.find(name, parts=True)
    if entry.plugin:
        return _look(name, entry.target)["learned"]
    return entry.learned or getattr(entry.load(), "learned", False)


def tasks_of(name: str) -> tuple[str, ...]:
    """The tasks that a system can do. UserError where a third party's class cannot say so."""
    entry = registry.find(name)
    return tuple(_look(name, entry.target)["tasks"]) if entry.plugin else registry.tasks_of(name)


@cache
def _look(name: str, target: str) -> dict[str, Any]:
    """What a third party's class says without being built."""
    from bench.measure.apart import Home, inspect

    return inspect(Home.shared(), name, target, {}, build=False)


def build(name: str, options: dict[str, Any]) -> System:
    """The system, ready to run in this process: for those of the bench, and where a user evaluates her own."""
    return registry.create(name, **options)


def facts_of(name: str, options: dict[str, Any]) -> SystemFacts:
    """What a system is. Raises UserError (weights missing or altered, wrong options).

    Each is built once to say so; what ours said is kept in the user's cache folder under a hash of all that decides it,
    so that a plan of 10,000 pictures need not wait for networks.
    """
    if registry.find(name).plugin:
        return _asked_facts(name, options)
    path = _kept_facts(name, options)
    try:
        return SystemFacts(**read_json(path, "cache"))
    except (UserError, TypeError):  # not there, or not what this version writes
        facts = _built_facts(name, options)
    with contextlib.suppress(StorageError, TypeError):  # a cache: without it everything is the same, but slower
        write_atomic(path, json.dumps(asdict(facts)).encode())
    return facts


def _kept_facts(name: str, options: dict[str, Any]) -> Path:
    """Where the facts of one of our systems lie, or would. Weights count by their content."""
    module = registry.find(name).target.partition(":")[0]
    named = files_of(str(options.get("checkpoint") or ""))
    files = [*named, *(file.with_suffix(".json") for file in named)]
    for package in _OURS:
        files += sorted((Path(str(sys.modules[package].__file__)).parent / "weights").iterdir())
        files += sorted((Path(str(sys.modules[package].__file__)).parents[1] / "configs" / "models").glob("*.toml"))
    states = [(str(file), _file_digest(file)) for file in files if file.is_file()]
    key = json.dumps([name, options, source_digest(module), versions(), states], sort_keys=True, default=str)
    return cache_folder() / "facts" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _built_facts(name: str, options: dict[str, Any]) -> SystemFacts:
    system, target = build(name, options), registry.find(name).target
    told = {"bits_per_use": system.bits_per_use, "encoder_sees_snr": system.encoder_sees_snr, "genie": system.genie}
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
    checkpoint = options.get("checkpoint")
    weights = description.get("sha256")
    if plugin and checkpoint not in (None, "shipped", "none") and Path(str(checkpoint)).is_file():
        weights = _file_digest(Path(str(checkpoint)))  # by its content, whatever the system says
    identity = {
        "name": name,
        "variant": variant,
        "options": plain,
        "weights": weights,
        "config": description.get("config"),
        "source": source_digest(module),
    }
    try:
        parameters = int(description.get("parameters") or 0)
    except (TypeError, ValueError):
        parameters = 0
    return SystemFacts(name, dict(options), variant, parameters=parameters, identity=identity, description=description,
                       target=target, plugin=plugin, **told)  # fmt: skip
