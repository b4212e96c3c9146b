"""Which system exactly made a row: its options, weights and source. Part of every cell's id, and of the manifest."""

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
from bench.util.environment import cache_folder, versions
from bench.util.files import StorageError, read_json, write_atomic
from systems import registry
from systems.errors import UserError
from systems.interface import System

LEARNED_OPTIONS = ("size", "checkpoint")
_OURS = ("systems", "baselines")


@dataclass(frozen=True)
class SystemFacts:
    """A system as it is used in a run. `identity` decides whether a cell on disk is still valid."""

    name: str
    options: dict[str, Any]
    variant: str
    bits_per_use: float | None
    parameters: int
    identity: dict[str, Any]
    description: dict[str, Any] = field(default_factory=dict)

    def for_manifest(self) -> dict[str, Any]:
        """Plain JSON without paths."""
        options = {key: Path(str(value)).name if key == "checkpoint" else value for key, value in self.options.items()}
        return {**self.description, "bits_per_use": self.bits_per_use, "options": options, "identity": self.identity}


def option_names(name: str) -> tuple[str, ...]:
    """Options that a system takes: those of its class attribute `options`, and those of every learned system."""
    own = tuple(getattr(registry.find(name).load(), "options", ()))
    return tuple(dict.fromkeys((*(LEARNED_OPTIONS if is_learned(name) else ()), *own)))


def is_learned(name: str) -> bool:
    """Whether a system, or a part of systems, has weights that can be trained."""
    entry = registry.find(name, parts=True)
    return entry.learned or getattr(entry.load(), "learned", False)


def build(name: str, options: dict[str, Any]) -> System:
    """The system, ready to run."""
    return registry.create(name, **options)


def facts_of(name: str, options: dict[str, Any]) -> SystemFacts:
    """What a system is. Raises UserError (weights missing or altered, wrong options).

    Each is built once to say so; what ours said is kept in the user's cache folder under a hash of all that decides it,
    so that a plan of 10,000 pictures need not wait for networks.
    """
    path = _kept_facts(name, options)
    if path is None:
        return _built_facts(name, options)
    try:
        return SystemFacts(**read_json(path, "cache"))
    except (UserError, TypeError):  # not there, or not what this version writes
        facts = _built_facts(name, options)
    with contextlib.suppress(StorageError, TypeError):  # a cache: without it everything is the same, but slower
        write_atomic(path, json.dumps(asdict(facts)).encode())
    return facts


def _kept_facts(name: str, options: dict[str, Any]) -> Path | None:
    """Where the facts of one of our systems lie, or would; None for a third party's, whose files nobody here knows."""
    if not registry.is_ours(name):
        return None
    module = registry.find(name).target.partition(":")[0]
    files = [Path(str(options.get("checkpoint", "")))]
    for package in _OURS:
        files += sorted((Path(str(sys.modules[package].__file__)).parent / "weights").iterdir())
        files += sorted((Path(str(sys.modules[package].__file__)).parents[1] / "configs" / "models").glob("*.toml"))
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    key = json.dumps([name, options, source_digest(module), versions(), states], sort_keys=True, default=str)
    return cache_folder() / "facts" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _built_facts(name: str, options: dict[str, Any]) -> SystemFacts:
    system = build(name, options)
    description = dict(system.describe())
    plain = {key: value for key, value in options.items() if key != "checkpoint"}
    identity = {
        "name": name,
        "variant": system.variant,
        "options": plain,
        "weights": description.get("sha256"),
        "config": description.get("config"),
        "source": source_digest(type(system).__module__),
    }
    parameters = int(description.get("parameters") or 0)
    return SystemFacts(name, dict(options), system.variant, system.bits_per_use, parameters, identity, description)


@cache
def source_digest(module: str) -> str:
    """First 16 hex digits of the sha256 of a system's source, so that an edited system is computed again.

    What the bench adds to it is covered by the schema's number.
    """
    digest = hashlib.sha256()
    for name, file in source_files(module).items():
        digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def source_files(module: str) -> dict[str, Path]:
    """Files that may decide what a system does, in order, by their path from the package's parent.

    A system of this project shares parts with others (links, backbones), so all of systems/ and baselines/ counts; for
    a third party's it is its own package, and systems/, which it builds on.
    """
    top = module.partition(".")[0]
    files: dict[str, Path] = {}
    for package in dict.fromkeys(_OURS if top in _OURS else ("systems", top)):
        root = getattr(sys.modules.get(package), "__file__", None)
        if root is not None and Path(root).name == "__init__.py":
            folder = Path(root).parent
            files |= {f"{package}/{file.relative_to(folder).as_posix()}": file for file in folder.rglob("*.py")}
        elif package == top and (origin := getattr(sys.modules[module], "__file__", None)) is not None:
            files[Path(origin).name] = Path(origin)
    return dict(sorted(files.items()))
