"""Errors that every package shares.

A `UserError` is one that the user can correct: the command line prints it as one line and exits with code 2. An
`AuditError` means that a system broke the rules of the comparison.
"""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message says in one line what is wrong, where it is, and how to correct it."""


class UnknownName(UserError):
    """A name that is not registered. The message suggests the nearest registered names."""


class BudgetTooSmall(UserError):
    """The budget cannot hold even the smallest message that a system can send."""


class CheckpointError(UserError):
    """A weight file that is missing, truncated, altered, or whose tensors have other shapes than the network."""


class MissingDependency(UserError):
    """An optional package that the request needs is not installed."""


class AuditError(RuntimeError):
    """A system broke a rule of the comparison (power, budget, finite symbols). It is never only a warning."""


def missing_package(
    what: str, package: str, why: object = "", options: str = "", advice: str = ""
) -> MissingDependency:
    """The error for an optional package that is not installed, or does not work: one wording for all of them.

    what: the part of the request that needs it. package: as pip names it. why: the error that its import raised.
    options: of pip. advice: what else helps.
    """
    command = " ".join(filter(None, ("pip install", options, package)))
    return MissingDependency(
        f"{what} needs the package {package}{f' ({why})' if str(why) else ''}; install it with `{command}`"
        f"{f' ({advice})' if advice else ''}"
    )


#: Errors that third-party code may raise. Its `sys.exit` is a fault like others, and must not end a command silently.
FAULTS = (Exception, SystemExit)


def reason(error: BaseException, most: int = 120) -> str:
    """What went wrong, for the brackets in a message of one line: the error's first line, or its kind if it says none.

    most: letters of it.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def did_you_mean(name: str, known: Iterable[str], what: str, most: int = 1, cutoff: float = 0.6) -> str:
    """The hint at the end of an UnknownName's message.

    It is "did you mean A, B?" with at most `most` names of `known` that resemble `name`. If none does, it lists all:
    "WHAT are A, B, C".
    cutoff: the least similarity, from 0 to 1, as in `difflib.get_close_matches`.
    """
    from difflib import get_close_matches

    known = list(known)
    # The time of the comparison grows with the square of the length. A name of over 200 letters is no typing error.
    near = get_close_matches(name, known, n=most, cutoff=cutoff) if len(name) <= 200 else []
    return f"did you mean {', '.join(near)}?" if near else f"{what} are {', '.join(known) or 'none'}"
