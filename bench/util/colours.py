"""Colours as "#RRGGBB": read from any text that matplotlib takes, and compared. `bench.spec.look` and
`bench.report.system_looks` use it.
"""

from __future__ import annotations

import math
import re

from bench.util.matplotlib_import import load_matplotlib

#: Two colours that are nearer than this (in red, green and blue, 0 to 255) count as one. One that is lighter than this
#: is lost on white paper (the luminance of white is 1).
_NEAREST, _LIGHTEST = 32.0, 0.5
_LONGEST_NAME = 60  # letters; matplotlib would read "C999..." as a number


def to_hex(value: object) -> str:
    """A colour as '#RRGGBB', from any text that matplotlib accepts ("#d2271f", "teal"). "" for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return ""
    if re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
        return value.upper()
    load_matplotlib()
    from matplotlib.colors import is_color_like
    from matplotlib.colors import to_hex as as_hex

    return as_hex(value).upper() if is_color_like(value) else ""


def near(colour: str, other: str) -> bool:
    """Whether a reader takes two colours "#RRGGBB" for one."""
    return math.dist(_parts(colour), _parts(other)) < _NEAREST


def too_light(colour: str) -> bool:
    """Whether a colour "#RRGGBB" is too light to be seen on white paper."""
    light = sum(w * (part / 255) ** 2.2 for w, part in zip((0.2126, 0.7152, 0.0722), _parts(colour), strict=True))
    return light > _LIGHTEST


def _parts(colour: str) -> list[int]:
    """Red, green and blue of "#RRGGBB"."""
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
