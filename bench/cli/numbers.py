"""The type of options that take a number with a fraction. Called by the commands that have one."""

from __future__ import annotations

import math
from typing import Any

import click

YEAR_S = 366 * 86_400


class Amount(click.FloatRange):
    """A finite number within bounds. click's own range lets NaN through, which is neither below nor above a bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number in a text. The command ends with one line if it is none, or out of bounds."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a number to work with; write one such as 1.5", param, ctx)
        return number
