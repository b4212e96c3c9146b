"""The reader of manifest.json, and its check by a JSON schema (`manifest.schema.json`, beside this file).

Called by the store before a run, by the reader for figures, comparison and claims, and by `python -m bench runs`. For a
manifest that was edited or damaged, the message of one line names the file, the key, and the value that it needs.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from bench.util.files import clash, has_control, read_json
from systems.errors import UserError

NAME = "manifest.json"
#: Where the salt of a session came from (`bench.sweep.salt.origin`), if others could know it.
KNOWN_SALTS = ("given", "published")
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in a run's folder. None if there is none. Raises UserError if it does not fit the schema."""
    path = Path(folder) / NAME
    manifest = read_json(path, "manifest")
    if manifest is None and not path.is_file():
        return None
    problem = problem_of(manifest, schema()) or _twice(manifest) or _writes_over_a_terminal(manifest)
    if problem:
        raise UserError(f"{path}: not the manifest of a run: {problem}; restore the file or repeat the run")
    return manifest


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of a manifest."""
    return json.loads((resources.files("bench.results") / "manifest.schema.json").read_text(encoding="utf-8"))


def problem_of(value: Any, rules: dict[str, Any], where: str = "") -> str | None:
    """The first place where a JSON value breaks a JSON schema, in words. None if there is none.

    It knows the keywords of our schema: type, enum, required, properties, additionalProperties, items, minItems,
    pattern, maxLength, minimum, maximum. where: the place of the value, such as config.figures[0].id.
    """
    here = where or "the file"
    kinds = rules.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{here} is {_shown(value)}, it must be {' or '.join(kinds)}"
    if "enum" in rules and value not in rules["enum"]:
        return f"{here} is {_shown(value)}, it must be one of {', '.join(rules['enum'])}"
    if isinstance(value, str):
        if "pattern" in rules and re.search(rules["pattern"].replace("$", r"\Z"), value) is None:
            return f"{here} is {_shown(value)}, it must match {rules['pattern']}"
        if len(value) > rules.get("maxLength", math.inf):
            return f"{here} has {len(value)} characters, at most {rules['maxLength']} are allowed"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not rules.get("minimum", -math.inf) <= value <= rules.get("maximum", math.inf):
            return f"{here} is {_shown(value)}, out of range"
    if isinstance(value, list):
        if len(value) < rules.get("minItems", 0):
            return f"{here} is empty"
        for index, item in enumerate(value):
            if problem := problem_of(item, rules.get("items", {}), f"{where}[{index}]"):
                return problem
    if isinstance(value, dict):
        for key in rules.get("required", ()):
            if key not in value:
                return f"{here} lacks {key!r}"
        known = rules.get("properties", {})
        for key, item in value.items():
            own = known.get(key, rules.get("additionalProperties", {}))
            if own and (problem := problem_of(item, own, f"{where}.{key[:60]}" if where else key[:60])):
                return problem
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float):
        return kind == "number" and math.isfinite(value)
    return isinstance(value, _TYPES[kind])


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return "a huge number"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _twice(manifest: dict[str, Any]) -> str | None:
    """A message if two figures have the same id, because they would write the same files."""
    double = clash(figure["id"] for figure in manifest["config"]["figures"])
    return f"two of config.figures have the id {double}" if double else None


def _writes_over_a_terminal(manifest: dict[str, Any]) -> str | None:
    """A message if a text that commands print holds a control character: the run may be somebody else's."""
    figures = manifest["config"]["figures"]
    values = [value for figure in figures for value in figure.values()]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    texts += [manifest.get("start"), manifest.get("end"), *manifest.get("systems", {})]
    odd = next((text for text in texts if isinstance(text, str) and has_control(text)), None)
    return None if odd is None else f"{_shown(odd)} holds a control character"


def noise_was_known(manifest: dict[str, Any]) -> bool:
    """Whether the salt of a session was given by the user or already published. A system's author may have known it."""
    return any(one.get("salt") in KNOWN_SALTS for one in manifest.get("sessions", ()) if isinstance(one, dict))
