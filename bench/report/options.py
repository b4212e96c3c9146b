"""The choices of a user for drawings: the options of `plot`, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import paper_sheet
from bench.spec.look import is_blank, read_ylim
from systems.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Options:
    """How the figures of a run are drawn; the fields are the options of `plot`. None: not given, the figure decides.

    out: the folder for figures (default: in the run's own folder, together with its tables).
    systems: only these, in this order.
    bands: True or False as the user wants. None: bands are drawn if they do not overlap.
    relative_to: the system that the lower panel compares with; "" for no such panel.
    dpi: of PNG.
    small: PNG for a repository or a mail; pictures at 100 dpi with 256 colours.
    """

    out: Path | None = None
    formats: tuple[str, ...] = ("png", "pdf")
    style: str = "screen"
    dpi: int | None = None
    systems: tuple[str, ...] | None = None
    bands: bool | None = None
    ylim: tuple[float, float] | None = None
    caption: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    highlight: tuple[str, ...] = ()
    relative_to: str | None = None
    small: bool = False

    @property
    def resolution(self) -> int:
        """Dots per inch of PNG."""
        return self.dpi or (paper_sheet.SMALL_DPI if self.small else paper_sheet.DPI[self.style])

    def check_names(self, known: list[str]) -> None:
        """Raise UserError if an option names a system that the run does not have."""
        for flag, names in (
            ("--systems", self.systems or ()), ("--label", self.labels), ("--highlight", self.highlight),
            ("--relative-to", [self.relative_to] if self.relative_to else []),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise UserError(f"{flag}: the run has no system {name!r}; {did_you_mean(name, known, 'systems')}")


def parse_formats(text: str) -> tuple[str, ...]:
    """ "png,pdf" -> the formats, each once. Raises UserError."""
    formats = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    for name in formats:
        if name not in paper_sheet.FORMATS:
            raise UserError(f"--format: {name!r} is none; {did_you_mean(name, paper_sheet.FORMATS, 'formats')}")
    return formats


def parse_limits(text: str) -> tuple[float, float]:
    """ "20,40" or "20:40" -> (20.0, 40.0). Raises UserError."""
    parts = text.replace(":", ",").split(",")
    try:
        return read_ylim([float(part) for part in parts], "--ylim")
    except ValueError:
        raise UserError(f"--ylim {text!r}: write two numbers, the lower one first, as in 20,40") from None


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """("gensc=Ours", ...) -> {"gensc": "Ours"}. Raises UserError."""
    labels = {}
    for text in texts:
        name, equals, label = text.partition("=")
        if not equals or not name or is_blank(label):
            raise UserError(f"--label {text!r}: write NAME=TEXT, as in gensc=Ours")
        labels[name] = label.strip()
    return labels
