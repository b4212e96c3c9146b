"""Errors that are the user's to mend: the command line prints them as one line and exits with code 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to put it right, in one line."""


class UnknownName(UserError):
    """A name that nothing is registered under; the message suggests the nearest ones."""


class BudgetTooSmall(UserError):
    """The budget cannot hold even the smallest message that a system can send."""


class CheckpointError(UserError):
    """A weight file that is missing, truncated, altered or of another shape."""


class MissingDependency(UserError):
    """An optional package that the request needs is not installed."""


class AuditError(RuntimeError):
    """A system broke the rules of the comparison (power, budget, finite symbols); never a warning."""


def did_you_mean(name: str, known: Iterable[str], what: str, most: int = 1, cutoff: float = 0.6) -> str:
    """The hint of an UnknownName: "did you mean A, B?" with the `most` nearest of `known`, else "WHAT are A, B, C"."""
    from difflib import get_close_matches

    known = list(known)
    # The comparison takes time with the square of the length; nobody mistypes a name of 200 letters.
    near = get_close_matches(name, known, n=most, cutoff=cutoff) if len(name) <= 200 else []
    return f"did you mean {', '.join(near)}?" if near else f"{what} are {', '.join(known) or 'none'}"
