"""Tables of the keys that a TOML file may hold: one record per key, with its bounds and its meaning.

`read_table` checks the values of a file by such a table, and `python -m bench list keys` prints the same table. So the
documentation always agrees with the check.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.util.files import shown
from systems.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Key:
    """One key of a TOML file.

    read: read(value, where) checks a value and returns it in its final type. It raises UserError for a wrong value.
    default: the value of a file that lacks the key, as a file would write it. None: there is none.
    otherwise: what holds without the key, in words, if that depends on other keys.
    """

    name: str
    kind: str  # for display: "text", "whole number 1..1000"
    doc: str
    read: Callable[[Any, str], Any]
    default: Any = None
    otherwise: str = ""
    required: bool = False


def as_it_is(value: Any, where: str) -> Any:
    """Return a value unchanged. It is checked elsewhere."""
    return value


def read_table(values: Any, keys: Iterable[Key], where: str) -> dict[str, Any]:
    """The values of a TOML table, each checked by its key. A missing key has its default; without a default it is left
    out. where: for messages. Raises UserError.
    """
    table = {key.name: key for key in keys}
    if not isinstance(values, dict):
        raise UserError(f"{where} must be a table of keys, such as {', '.join(list(table)[:3])}")
    for name in values:
        if name not in table:
            hint = did_you_mean(name, table, "known keys", cutoff=0.5)
            raise UserError(f"{where}: unknown key {shown(name, 80)}; {hint}")
    missing = [key.name for key in table.values() if key.required and key.name not in values]
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} is missing; {missing[0]} is {table[missing[0]].doc}")
    defaults = {key.name: key.default for key in table.values() if key.default is not None}
    return {name: table[name].read(value, f"{where}: {name}") for name, value in (defaults | values).items()}


def key_lines(keys: Iterable[Key]) -> list[tuple[str, str, str]]:
    """(name, kind and default, meaning) of each key, for `list keys`."""
    rows = []
    for key in keys:
        default = key.otherwise if key.default is None else key.default
        rows.append(
            (key.name, key.kind + (", required" if key.required else f" [{default}]" if default else ""), key.doc)
        )
    return rows


def field_lines(kind: type) -> list[tuple[str, str, str]]:
    """(name, type and default, meaning) of each field of a dataclass, for `list keys`.

    The meaning is the comment on the field's line or directly above it, or the text after "name: " in the docstring of
    the class.
    """
    comments = _comments(inspect.getsource(kind))
    said = _said(inspect.getdoc(kind) or "")
    rows = []
    for field in dataclasses.fields(kind):
        hint = str(field.type).removeprefix("<class '").removesuffix("'>").replace("tuple", "list")
        absent = field.default is dataclasses.MISSING
        default = ", required" if absent and field.default_factory is dataclasses.MISSING else ""
        default = default if absent else f" [{field.default}]"
        doc = comments.get(field.name) or said.get(field.name, "")
        rows.append((field.name, hint + default, doc))
    return rows


def _said(text: str) -> dict[str, str]:
    """The meaning of fields in a docstring such as "depth: layers of the network. heads, width: as in the paper." """
    flat = " ".join(text.split())
    names = r"(?:`?\w+`?, )*`?\w+`?"
    found = re.findall(rf"(?:^|[.;] )({names}): (.*?)(?=[.;] {names}: |\.?$)", flat)
    return {name.strip("` "): doc for several, doc in found for name in several.split(",")}


def _comments(source: str) -> dict[str, str]:
    """Field -> the comment beside it, or the comment lines directly above it."""
    lines: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0]] = token.string.lstrip("#: ")
    found: dict[str, str] = {}
    text = inspect.cleandoc(source).splitlines()
    for number, line in enumerate(text, 1):
        field = re.match(r"\s+(\w+)\s*:\s*[^#]+", line)
        if not field:
            continue
        above = text[number - 2].strip() if lines.get(number - 1) and not text[number - 2][:1].strip() else ""
        # A comment above a field that starts with a capital is the heading of a group; otherwise it is the field's.
        own = above.lstrip("#: ") if above.startswith("#") and not above.lstrip("#: ")[:1].isupper() else ""
        found.setdefault(field[1], lines.get(number) or own)
    return found
