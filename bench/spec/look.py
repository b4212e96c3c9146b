"""The keys of a figure's file that say how its systems are drawn. `bench.report` reads them; no simulation does.

In a figure file (`bench.spec.figure`):

    kind = "curves"                 # a name in bench.report.figure_kinds (default: by the task)
    order = ["mine", "gensc"]       # these systems come first in legends, in this order
    ylim = [20, 40]                 # what the value axis shows at least, in the axis' unit
    label = {mine = "My system"}    # names in legends and tables
    colour = {mine = "#AA3377"}

A file may come from somebody else, and no hash of a run holds these keys. So no label is blank and no colour is lost on
white paper. `bench.report.system_looks` checks both as it checks what a third party's system says of itself, and lets
no file rename a system of the bench.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from bench.spec.keys import Key, as_it_is
from bench.util.colours import to_hex, too_light
from bench.util.files import shown
from systems.errors import UserError

#: The keys as `list keys` describes them. `read_look` checks them together.
LOOK_KEYS = (
    Key(
        "kind",
        "text",
        "how the figure is drawn: a name in bench.report.figure_kinds",
        as_it_is,
        otherwise="by the task",
    ),
    Key("order", "list of texts", "systems that come first in legends, in this order", as_it_is),
    Key("label", "table of texts", 'names of systems in legends and tables: {mine = "My system"}', as_it_is),
    Key("colour", "table of texts", 'colours of systems: {mine = "#AA3377"}', as_it_is),
    Key("ylim", "two numbers", "what the value axis shows at least, in its unit; `plot --ylim` sets it", as_it_is),
)


_HOLLOW = "\u115f\u1160\u2800\u3164\uffa0"  # fillers and the empty Braille sign: letters and signs without ink


@dataclass(frozen=True)
class FigureLook:
    """The wishes of one figure. A field is empty if the file does not set it.

    colour: "#RRGGBB", by system. ylim: (low, high) that the value axis shows at least, in its unit.
    """

    kind: str = ""
    order: tuple[str, ...] = ()
    label: dict[str, str] = field(default_factory=dict)
    colour: dict[str, str] = field(default_factory=dict)
    ylim: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that are set, as plain JSON, for the manifest."""
        values = {"kind": self.kind, "order": list(self.order), "label": self.label, "colour": self.colour,
                  "ylim": None if self.ylim is None else list(self.ylim)}  # fmt: skip
        return {key: value for key, value in values.items() if value}


def read_look(values: Any, where: str) -> FigureLook:
    """Read the keys of LOOK_KEYS, from a figure file or from `look` in a manifest. where: the file, for messages.
    Raises UserError.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: look must be a table")
    kind = values.get("kind", "")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", kind):
        raise UserError(f"{where}: kind must be a name of letters, digits, - and _")
    order = values.get("order", [])
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise UserError(f"{where}: order must be a list of systems, as in ['gensc', 'mine']")
    tables = {}
    for key, example in (("label", "My system"), ("colour", "#AA3377")):
        table = values.get(key, {})
        if not isinstance(table, dict) or not all(isinstance(item, str) for item in table.values()):
            raise UserError(f"{where}: {key} must be a table of texts, as in {key} = {{mine = '{example}'}}")
        tables[key] = dict(table)
    for name, text in tables["label"].items():
        if is_blank(text):
            raise UserError(f"{where}: label of {shown(name, 60)!r} is blank; give it letters, or leave it out")
    tables["colour"] = {
        name: _dark_colour(text, f"{where}: colour of {shown(name, 60)!r}") for name, text in tables["colour"].items()
    }
    ylim = values.get("ylim")
    return FigureLook(kind, tuple(order), **tables, ylim=None if ylim is None else read_ylim(ylim, f"{where}: ylim"))


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it has no letter, digit or sign but such as are spaces or have no width."""
    return not any(unicodedata.category(letter)[0] in "LNPS" and letter not in _HOLLOW for letter in text)


def _dark_colour(text: str, where: str) -> str:
    """A colour as "#RRGGBB". Raises UserError for what is none, or cannot be seen on white."""
    colour = to_hex(text)
    if not colour:
        raise UserError(f"{where}: {shown(text, 60)!r} is no colour; write #RRGGBB or a name such as teal")
    if too_light(colour):
        raise UserError(f"{where}: {shown(text, 60)!r} is too light to be seen on white; choose a darker one")
    return colour


def read_ylim(values: Any, where: str) -> tuple[float, float]:
    """[low, high] -> two finite numbers. Raises UserError unless the first is lower."""
    numbers = list(values) if isinstance(values, (list, tuple)) else []
    real = all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e12 for v in numbers)
    if len(numbers) != 2 or not real or not numbers[0] < numbers[1]:
        raise UserError(f"{where} must be two numbers, the lower one first, as in [20, 40]")
    return float(numbers[0]), float(numbers[1])
