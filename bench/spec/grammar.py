"""Reads the small languages of the command line and of TOML files: SNRs, CBRs, kilobits, counts and names.

Called by `bench.spec.figure` and `bench.spec.request`, by the protocols of training, and by commands with such options.
Each function takes the value as it was written, and `where` (an option, or a file and a key) for its message. All raise
UserError for a value outside the bounds. Numbers are compared as numbers: 0.30000000000000004 dB is 0.3 dB. Every bound
is checked on the text of the number, before any work that grows with the number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from bench.util.files import has_control, shown
from systems.errors import UserError

MOST_POINTS = 1000  # most SNRs of one sweep
MOST_DB = 200
MOST_CBR = 4  # complex uses per source value
LEAST_CBR = Fraction(1, 1_000_000)
MOST_KBITS = 10_000  # per picture
MOST_REPS = 10_000
_DECIMALS = Decimal("1e-6")  # SNRs that differ by less are equal: seeds and tables do not tell them apart
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST = 60  # most characters of a number


def parse_snr(value: Any, where: str = "--snr") -> tuple[float, ...]:
    """SNRs in dB, sorted, from "0:20:2" (stop included), "1,4,7", both mixed, a number or a list. Raises UserError."""
    parts = value if isinstance(value, (list, tuple)) else _text_of(value).split(",")
    points: list[Decimal] = []
    for part in parts[: MOST_POINTS + 1]:
        text = _text_of(part).strip()
        points += _snr_range(text, where) if ":" in text else [_decibels(text, where)]
    if not points:
        raise UserError(f"{where}: no SNR given; write 0:20:2 or 1,4,7")
    if len(points) > MOST_POINTS or len(parts) > MOST_POINTS:
        raise UserError(f"{where}: {max(len(points), len(parts))} points; at most {MOST_POINTS}")
    points = sorted(points)
    for before, point in zip(points, points[1:]):
        if before == point:
            raise UserError(f"{where} {_quoted(value)}: {_plain(point)} dB is named twice")
    return tuple(float(point) + 0.0 for point in points)


def _snr_range(text: str, where: str) -> list[Decimal]:
    fields = text.split(":")
    if len(fields) != 3:
        raise UserError(f"{where} {_quoted(text)}: a range is start:stop:step, such as 0:20:2 (stop included)")
    start, stop, step = (_decibels(item, where) for item in fields)
    if step == 0:
        raise UserError(f"{where} {text!r}: the step is 0")
    steps = (stop - start) / step
    if steps < 0:
        raise UserError(f"{where} {text!r}: a step of {_plain(step)} leads away from {_plain(stop)}")
    if steps >= MOST_POINTS:
        raise UserError(f"{where} {text!r}: {int(steps) + 1} points; at most {MOST_POINTS}")
    if steps != steps.to_integral_value():
        last = start + int(steps) * step
        raise UserError(
            f"{where} {text!r}: steps of {_plain(step)} from {_plain(start)} do not reach {_plain(stop)}; "
            f"stop at {_plain(last)} or {_plain(last + step)}"
        )
    return [start + index * step for index in range(int(steps) + 1)]


def _decibels(text: str, where: str) -> Decimal:
    text = text.strip()
    if not _is_number(text):
        raise UserError(f"{where}: {_quoted(text)} is not a number of dB; write 0:20:2 or 1,4,7")
    number = Decimal(text)
    if abs(number) > MOST_DB:
        raise UserError(f"{where}: {text} dB is beyond +-{MOST_DB} dB")
    return number.quantize(_DECIMALS)


def _plain(number: Decimal) -> str:
    return f"{float(number):g}"


def snr_text(points: tuple[float, ...]) -> str:
    """All SNRs as text, for display."""
    return ", ".join(f"{point:g}" for point in points)


def parse_cbr(value: Any, where: str = "--cbr") -> float:
    """A channel bandwidth ratio in complex uses per source value, from "1/16" or 0.0625. Raises UserError outside (0,
    4].
    """
    ratio = parse_ratio(value, where, "a ratio; write 1/16 or 0.0625")
    if not LEAST_CBR <= ratio <= MOST_CBR:
        raise UserError(
            f"{where} {_quoted(value)}: a CBR lies above 0 (from {float(LEAST_CBR):g} on) and at most at {MOST_CBR} "
            "complex uses per source value"
        )
    return float(ratio)


def parse_kbits(value: Any, where: str = "--kbits") -> int:
    """Thousands of bits per picture -> bits. Raises UserError."""
    kbits = parse_ratio(value, where, "a number of kilobits; write 20")
    if kbits > MOST_KBITS:
        raise UserError(f"{where} {_quoted(value)}: a picture's budget is at most {MOST_KBITS} Kbits")
    bits = kbits * 1000
    if bits < 1 or bits.denominator != 1:
        raise UserError(f"{where} {_quoted(value)}: a budget is a whole number of bits, at least 1")
    return int(bits)


def parse_ratio(value: Any, where: str, what: str) -> Fraction:
    """A number or a ratio "a/b", exactly. Raises UserError for everything else; its message ends in "... is not WHAT".

    An exponent has at most three digits, because a larger one would make a number of a million digits.
    """
    text = _text_of(value).replace(" ", "")
    above, slash, below = text.partition("/")
    if not _is_number(above) or (slash and not _is_number(below)):
        raise UserError(f"{where}: {_quoted(value)} is not {what}")
    try:
        return Fraction(above) / Fraction(below if slash else 1)
    except ZeroDivisionError:
        raise UserError(f"{where}: {_quoted(value)} is not {what}") from None


def parse_count(value: Any, where: str, most: int, least: int = 1) -> int:
    """A whole number from `least` to `most`. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where} must be a whole number, at least {least}")
    if not least <= value <= most:
        raise UserError(f"{where} must be a whole number, at least {least} and at most {most}")
    return value


def parse_names(value: Any, where: str, most: int = 100) -> tuple[str, ...]:
    """A list of names, without repetitions, in order. Raises UserError for none, or for more than `most`."""
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise UserError(f"{where} must be a list of names")
    names = tuple(dict.fromkeys(value))
    if len(names) > most:
        raise UserError(f"{where}: {len(names)} names; at most {most}")
    for name in names:
        parse_text(name, where, most=200)
    return names


def parse_text(value: Any, where: str, most: int = 1000) -> str:
    """One line of text without control characters, of at most `most` characters. Raises UserError."""
    if not isinstance(value, str):
        raise UserError(f"{where} must be a text")
    if len(value) > most:
        raise UserError(f"{where} has {len(value)} characters; at most {most}")
    if has_control(value):
        raise UserError(f"{where} {_quoted(value)} holds a line's end or another control character; take it out")
    return value


def parse_id(value: Any, where: str) -> str:
    """The id of a figure: letters, digits, - and _, because it names files. Raises UserError."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        return value
    if not isinstance(value, str):
        raise UserError(f"{where} must be a text")
    raise UserError(f"{where} {_quoted(value)} may hold letters, digits, - and _ only, at most 64: it names files")


def parse_choice(value: Any, where: str, known: Iterable[str], what: str) -> str:
    """One of the `known` names. Raises UserError with the nearest names. what: the kind of name, in the plural."""
    from systems.errors import did_you_mean

    known = tuple(known)
    parse_text(value, where, most=10_000)
    if value not in known:
        raise UserError(f"{where}: unknown {what.removesuffix('s')} {_quoted(value)}; "
                        f"{did_you_mean(value, known, what)}")  # fmt: skip
    return value


def _text_of(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal, Fraction)):
        return "" if isinstance(value, (list, tuple, dict)) else str(value)
    try:
        return str(value)
    except ValueError:  # a whole number with more digits than Python converts
        return "a number of thousands of digits"


def _quoted(value: Any) -> str:
    """A value as a message shows it."""
    return shown(repr(value) if isinstance(value, (list, tuple, dict)) else repr(_text_of(value)), 80)


def _is_number(text: str) -> bool:
    return len(text) <= _LONGEST and _NUMBER.fullmatch(text) is not None


def split_names(text: str | None, flag: str) -> tuple[str, ...] | None:
    """The comma-separated names given to the option `flag`. None if it was not given. Raises UserError if there is no
    name.
    """
    if text is None:
        return None
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise UserError(f"{flag} {text!r} names nothing; give names with commas between them")
    return found
