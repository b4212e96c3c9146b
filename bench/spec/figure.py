"""What is simulated: figures as TOML files (`configs/figures`), their overrides, and the small grammars of both.

A figure names a task, a data set, systems, operating points and a budget; anyone adds one by writing such a file:

    id = "mine"                     # file name and caption
    title = "PSNR against SNR"
    task = "reconstruction"         # or "segmentation"
    dataset = "photos-224"          # a name of `python -m bench list`, or "folder:PATH"
    systems = ["gensc", "linear"]
    channel = "awgn"
    snr_db = "0:20:2"               # start:stop:step with the stop included, or a list
    cbr = "1/16"                    # complex uses over 3HW; or: kbits = 20. A list makes a figure of each budget,
                                    # and `plot` draws the metric against the budget under this id
    metric = "psnr_db"              # what the curve shows

    order = ["linear"]              # optional, as are kind, label, colour and ylim: see `bench.spec.look`

    [pictures]                      # optional: outputs kept as PNG
    id = "fig6"                     # the figure that shows them (default: this one)
    snr_db = [18]                   # these must be points of the sweep
    limit = 3                       # of the data set's first so many pictures
"""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from bench.spec.look import KEYS as LOOK_KEYS
from bench.spec.look import Look, read_look
from systems.errors import UserError
from systems.interface import DEFAULT_REQUIREMENT, TASKS, Budget
from systems.sizes import fill, read_toml

METRICS = {
    "reconstruction": ("psnr_db", "psnr_of_mean_mse_db", "ms_ssim", "lpips"),
    "segmentation": ("miou", "pixel_accuracy"),
}
CHANNELS = ("awgn", "rayleigh-block", "rayleigh-fast")  # defined in bench.measure.channel
MOST_POINTS = 1000
#: The figure whose settings serve a data set that is named without a figure.
TEMPLATES = {"reconstruction": "fig4", "segmentation": "fig7"}


@dataclass(frozen=True)
class Pictures:
    """Which outputs are kept as PNG."""

    id: str = ""
    snr_db: tuple[float, ...] = ()
    limit: int = 3


@dataclass(frozen=True)
class Experiment:
    """One figure, resolved. Exactly one of `cbr` and `bits` is set."""

    id: str
    title: str
    task: str
    dataset: str
    systems: tuple[str, ...]
    channel: str
    snr_db: tuple[float, ...]
    cbr: float | None
    bits: int | None
    metric: str
    reps: int = 1
    requirement: str = ""
    pictures: Pictures = field(default_factory=Pictures)
    budgets_of: str = ""  # the figure that sets this budget beside others
    look: Look = field(default_factory=Look)  # how `plot` draws it; no cell depends on it

    def budget(self, height: int, width: int) -> Budget:
        """What one picture of that size may spend."""
        return Budget.by_rule(self.cbr, self.bits, height, width)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: plain JSON."""
        values = asdict(self)
        values["snr_db"], values["systems"] = list(self.snr_db), list(self.systems)
        values["pictures"]["snr_db"] = list(self.pictures.snr_db)
        values["look"] = self.look.as_dict()
        return values


# ---------------------------------------------------------------- small grammars


def parse_snr(value: Any, where: str = "--snr") -> tuple[float, ...]:
    """SNRs in dB: "0:20:2" (stop included), "1,4,7", both mixed, a number or a list of numbers. Raises UserError."""
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    points: list[Decimal] = []
    for part in parts:
        text = str(part).strip()
        points += _snr_range(text, where) if ":" in text else [_number(text, where)]
    if not points:
        raise UserError(f"{where}: no SNR given; write 0:20:2 or 1,4,7")
    twice = sorted({point for point in points if points.count(point) > 1})
    if twice:
        raise UserError(f"{where} {value}: {twice[0]} dB is named twice")
    return tuple(float(point) + 0.0 for point in sorted(points))


def _snr_range(text: str, where: str) -> list[Decimal]:
    fields = text.split(":")
    if len(fields) != 3:
        raise UserError(f"{where} {text!r}: a range is start:stop:step, such as 0:20:2 (stop included)")
    start, stop, step = (_number(item, where) for item in fields)
    if step == 0:
        raise UserError(f"{where} {text!r}: the step is 0")
    steps = (stop - start) / step
    if steps < 0:
        raise UserError(f"{where} {text!r}: a step of {step} leads away from {stop}")
    if steps != steps.to_integral_value():
        last = start + int(steps) * step
        raise UserError(
            f"{where} {text!r}: steps of {step} from {start} do not reach {stop}; stop at {last} or {last + step}"
        )
    if steps >= MOST_POINTS:
        raise UserError(f"{where} {text!r}: {int(steps) + 1} points; at most {MOST_POINTS}")
    return [start + index * step for index in range(int(steps) + 1)]


def _number(text: str, where: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise UserError(f"{where}: {text.strip()!r} is not a number of dB; write 0:20:2 or 1,4,7")
    if abs(number) > 200:
        raise UserError(f"{where}: {text.strip()} dB is beyond +-200 dB")
    return number


def snr_text(points: tuple[float, ...]) -> str:
    """The expanded list, for the eye."""
    return ", ".join(f"{point:g}" for point in points)


def parse_cbr(value: Any, where: str = "--cbr") -> float:
    """A channel bandwidth ratio, "1/16" or 0.0625, above 0 and at most 4. Raises UserError."""
    try:
        ratio = Fraction(str(value).replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{where}: {value!r} is not a ratio; write 1/16 or 0.0625") from None
    if not 0 < ratio <= 4:
        raise UserError(f"{where} {value}: a CBR lies above 0 and at most at 4 complex uses a source value")
    return float(ratio)


def parse_kbits(value: Any, where: str = "--kbits") -> int:
    """Thousands of bits -> bits. Raises UserError."""
    try:
        bits = Fraction(str(value)) * 1000
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{where}: {value!r} is not a number of kilobits; write 20") from None
    if bits < 1 or bits.denominator != 1:
        raise UserError(f"{where} {value}: a budget is a whole number of bits, at least 1")
    return int(bits)


def check_channel(name: str) -> None:
    """UserError unless `name` is a channel."""
    if name not in CHANNELS:
        near = difflib.get_close_matches(name, CHANNELS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown channel {name!r}; {hint}channels are {', '.join(CHANNELS)}")


# ---------------------------------------------------------------- figure files

_KEYS = {
    "id", "title", "task", "dataset", "systems", "channel", "snr_db", "cbr", "kbits", "metric", "reps", "requirement",
    "pictures", *LOOK_KEYS,
}  # fmt: skip


def figure_names() -> list[str]:
    """Figures that come with the bench."""
    folder = resources.files("configs") / "figures"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load_figure(name: str) -> Experiment:
    """A figure of one budget by name, or by the path of its TOML file. Raises UserError."""
    figures = load_figures(name)
    if len(figures) > 1:
        raise UserError(f"{name} sets {len(figures)} budgets beside each other; here a figure of one budget is needed")
    return figures[0]


def load_figures(name: str) -> list[Experiment]:
    """A figure by name, or by the path of its TOML file; an experiment for each of its budgets. Raises UserError."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"--figure {name}: no such file")
    else:
        if name not in figure_names():
            for figure in (figure for other in figure_names() for figure in load_figures(other)):
                if figure.pictures.id == name:
                    raise UserError(f"{name} shows pictures of {figure.id}; use --figure {figure.id}")
            near = difflib.get_close_matches(name, figure_names(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"unknown figure {name!r}; {hint}figures are {', '.join(figure_names())}, or a .toml file's path"
            )
        path = resources.files("configs") / "figures" / f"{name}.toml"
    where = str(path) if name.endswith(".toml") else f"configs/figures/{name}.toml"
    values = read_toml(path)
    rule = next((key for key in ("kbits", "cbr") if isinstance(values.get(key), list)), None)
    if rule is None:
        return [read_figure(values, where)]
    if "pictures" in values or not values[rule]:
        raise UserError(f"{where}: a list of budgets names at least one, and keeps no pictures")
    id_, figures = values.get("id"), []
    _check_id(id_, f"{where}: id")
    for budget in values[rule]:
        own = f"{id_}-{str(budget).replace('/', '_').replace('.', '_')}{'k' if rule == 'kbits' else ''}"
        figures.append(replace(read_figure({**values, rule: budget, "id": own}, where), budgets_of=id_))
    return figures


def read_figure(values: dict[str, Any], where: str) -> Experiment:
    """The content of a figure file, checked. `where` names the file in errors."""
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        near = difflib.get_close_matches(unknown[0], _KEYS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{where}: unknown key {', '.join(unknown)}{hint}; known keys are {', '.join(sorted(_KEYS))}")
    missing = [key for key in ("id", "task", "dataset", "systems") if key not in values]
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} is missing")
    if ("cbr" in values) == ("kbits" in values):
        raise UserError(f"{where}: give cbr or kbits, one of the two")
    texts = {
        key: values[key]
        for key in ("id", "title", "task", "dataset", "channel", "metric", "requirement")
        if key in values
    }
    wrong = [key for key, value in texts.items() if not isinstance(value, str)]
    if wrong:
        raise UserError(f"{where}: {wrong[0]} must be a text")
    _check_id(values["id"], f"{where}: id")
    systems = values["systems"]
    if not isinstance(systems, list) or not systems or not all(isinstance(name, str) for name in systems):
        raise UserError(f"{where}: systems must be a list of names")
    task = values["task"]
    if task not in TASKS:
        raise UserError(f"{where}: unknown task {task!r}; tasks are {', '.join(TASKS)}")
    metric = values.get("metric", METRICS[task][0])
    if metric not in METRICS[task]:
        raise UserError(f"{where}: metric {metric!r} is none of {task}: {', '.join(METRICS[task])}")
    snr_db = parse_snr(values.get("snr_db", "0:20:2"), f"{where}: snr_db")
    pictures = values.get("pictures", {})
    if not isinstance(pictures, dict):
        raise UserError(f"{where}: pictures must be a table, [pictures]")
    if "snr_db" in pictures:
        pictures = {**pictures, "snr_db": parse_snr(pictures["snr_db"], f"{where}: [pictures] snr_db")}
    pictures = fill(Pictures, pictures, f"{where}: [pictures]")
    if pictures.snr_db or "pictures" in values:
        shown = parse_snr(pictures.snr_db, f"{where}: [pictures] snr_db")
        if not set(shown) <= set(snr_db):
            raise UserError(f"{where}: [pictures] snr_db must be points of the sweep, snr_db")
        _check_count(pictures.limit, f"{where}: [pictures] limit")
        pictures = replace(pictures, id=values["id"] if pictures.id == "" else pictures.id, snr_db=shown)
        _check_id(pictures.id, f"{where}: [pictures] id")
    experiment = Experiment(
        id=values["id"],
        title=values.get("title", values["id"]),
        task=task,
        dataset=values["dataset"],
        systems=tuple(dict.fromkeys(systems)),
        channel=values.get("channel", "awgn"),
        snr_db=snr_db,
        cbr=parse_cbr(values["cbr"], f"{where}: cbr") if "cbr" in values else None,
        bits=parse_kbits(values["kbits"], f"{where}: kbits") if "kbits" in values else None,
        metric=metric,
        reps=values.get("reps", 1),
        requirement=values.get("requirement", "") or DEFAULT_REQUIREMENT[task],
        pictures=pictures,
        look=read_look({key: values[key] for key in LOOK_KEYS if key in values}, where),
    )
    try:
        check_channel(experiment.channel)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    _check_count(experiment.reps, f"{where}: reps")
    return experiment


def _check_id(value: Any, where: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise UserError(f"{where} {value!r} may hold letters, digits, - and _ only: it names files")


def _check_count(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{where} must be a whole number, at least 1")


def with_snr(experiment: Experiment, snr_db: tuple[float, ...]) -> Experiment:
    """Another sweep; of each point at which pictures are kept, the nearest one of the sweep takes the place."""
    shown = experiment.pictures
    if shown.snr_db:
        nearest = {min(snr_db, key=lambda point: (abs(point - wanted), -point)) for wanted in shown.snr_db}
        shown = replace(shown, snr_db=tuple(sorted(nearest)))
    return replace(experiment, snr_db=snr_db, pictures=shown)


def budget_text(cbr: float | None, bits: int | None) -> str:
    """The budget in words."""
    return f"{bits / 1000:g} kbits" if cbr is None else f"CBR {Fraction(cbr).limit_denominator(10000)}"
