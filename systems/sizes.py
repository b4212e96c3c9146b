"""Sizes of learned systems: one TOML file per size, `configs/models/<system>-<size>.toml`, read into a frozen
dataclass.

A file may name another size of the same system as its `base`. It then holds only the values that differ. Called by
`systems.learned` when a network is built, and by the command line, which lists sizes.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from systems.errors import UserError

#: Found beside the packages. A folder `configs` in the working directory is not used.
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEFAULT_SIZE = "small"

Config = TypeVar("Config")


def read_toml(path) -> dict[str, Any]:
    """A TOML file as a dict. Raises UserError if it cannot be read or is not valid TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the file cannot be read as text ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: the file is not valid TOML ({error})") from None


def fill(kind: type[Config], values: dict[str, Any], where: str) -> Config:
    """Make a `kind` (a dataclass) from `values`; lists become tuples.

    where: the file's name, for messages. Raises UserError for an unknown key, a missing key, or a value of another
    type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: the configuration must be a table of keys, not {values!r:.60}")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # a type variable cannot say "a dataclass"
    known = {field.name for field in fields}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(f"{where}: unknown key {', '.join(unknown)}; known keys are {', '.join(sorted(known))}")
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if needed - set(values):
        raise UserError(f"{where}: these keys are missing: {', '.join(sorted(needed - set(values)))}")
    hints = get_type_hints(kind)
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise UserError(f"{where}: {key} must be {_words(hints[key])}, not {value!r}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from a TOML file has the type of a field. A whole number is also accepted as a float."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        if inner[-1] is Ellipsis:
            return all(_fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _words(hint: Any) -> str:
    """A field's type in words, for messages."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inner if one is not type(None))
    if origin is tuple:
        many = inner[-1] is Ellipsis
        return f"a list{'' if many else f' of {len(inner)}'}, each {_words(inner[0])}"
    return names.get(hint, f"of type {getattr(hint, '__name__', hint)}")


def sizes_of(system: str) -> list[str]:
    """The sizes that a system has files for, sorted."""
    folder = CONFIGS / "models"
    stems = (path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))
    return sorted(stem[len(system) + 1 :] for stem in stems if stem.rpartition("-")[0] == system)


def load_size(kind: type[Config], system: str, size: str) -> Config:
    """The configuration of a system in one size, as a `kind` (a dataclass).

    A third party's system without such files gets its defaults. Raises UserError for an unknown size.
    """
    folder = CONFIGS / "models"
    path = folder / f"{system}-{size}.toml"
    if not path.is_file():
        if not sizes_of(system):
            if size != DEFAULT_SIZE:
                raise UserError(f"{system} has no sizes; leave out --size")
            return kind()
        known = ", ".join(sizes_of(system))
        raise UserError(f"{system} has no size {size!r}; sizes are {known} (configs/models)")
    values = read_toml(path)
    if "base" in values:
        values = read_toml(folder / f"{system}-{values['base']}.toml") | values
    return fill(kind, {key: value for key, value in values.items() if key != "base"}, str(path))
