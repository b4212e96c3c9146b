"""Figures: what is simulated, as TOML files (`configs/figures`). `FIGURE_KEYS` lists each key with its bounds and
meaning.

`bench.spec.request` and `bench.report` read them. A figure has a task, a data set, systems, operating points and a
budget. Anyone can add one by writing such a file:

    id = "mine"                     # names files and the caption
    title = "PSNR against SNR"
    task = "reconstruction"         # or "segmentation"
    dataset = "photos-224"          # a name of `python -m bench list`, or "folder:PATH"
    systems = ["gensc", "linear"]
    channel = "awgn"
    snr_db = "0:20:2"               # start:stop:step with the stop included, or a list
    cbr = "1/16"                    # complex uses over 3HW; or kbits = 20, or uses = 5000. With a list there is
                                    # one figure per budget, and `plot` draws the metric against the budget
    metric = "psnr_db"              # what the curves show

    order = ["linear"]              # optional, like kind, label, colour and ylim: see `bench.spec.look`

    [pictures]                      # optional: outputs that are kept as PNG
    id = "fig6"                     # the figure that shows them (default: this one)
    snr_db = [18]                   # these must be points of the sweep
    limit = 2                       # this many pictures, from the first of the data set (default: 3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from bench.measure.budget import budget_of
from bench.measure.channel import CHANNELS
from bench.measure.metrics.table import METRICS, metrics_of
from bench.measure.tasks import TASKS
from bench.spec.grammar import (
    MOST_KBITS,
    MOST_REPS,
    parse_cbr,
    parse_choice,
    parse_count,
    parse_id,
    parse_kbits,
    parse_names,
    parse_snr,
    parse_text,
    snr_text,
)
from bench.spec.keys import Key, read_table
from bench.spec.look import LOOK_KEYS, FigureLook, read_look
from bench.util.files import clash, read_toml, user_path
from systems import registry
from systems.errors import UserError, did_you_mean
from systems.interface import Budget
from systems.sizes import CONFIGS

MOST_USES = 10_000_000  # largest budget of one picture
KEPT_PICTURES = 3  # outputs that a run keeps per point of [pictures], if it names no limit
#: If a data set is named without a figure, it gets the settings of this figure, by task.
TEMPLATES = {"reconstruction": "fig4", "segmentation": "fig7"}


@dataclass(frozen=True)
class Pictures:
    """The outputs that are kept as PNG.

    id: of the figure that shows them.
    snr_db: SNRs in dB.
    limit: number of pictures.
    """

    id: str = ""
    snr_db: tuple[float, ...] = ()
    limit: int = KEPT_PICTURES

    def of(self, image_ids: Sequence[str]) -> Sequence[str]:
        """Those of a data set's pictures whose outputs are kept, and shown: the first ones."""
        return image_ids[: self.limit]


@dataclass(frozen=True)
class Figure:
    """One figure, with every value filled in. Exactly one of `cbr`, `bits` and `uses` is set."""

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
    uses: int | None = None  # complex uses that every system gets
    pictures: Pictures = field(default_factory=Pictures)
    budgets_of: str = ""  # the id of the file whose list of budgets holds this one
    look: FigureLook = field(default_factory=FigureLook)  # how `plot` draws it; no cell depends on it

    def budget(self, height: int, width: int) -> Budget:
        """The budget of one picture of height x width pixels."""
        return budget_of(self.channel, height, width, cbr=self.cbr, bits=self.bits, uses=self.uses)

    def as_dict(self) -> dict[str, Any]:
        """The figure as plain JSON, for the manifest."""
        values = asdict(self)
        values["snr_db"], values["systems"] = list(self.snr_db), list(self.systems)
        values["pictures"]["snr_db"] = list(self.pictures.snr_db)
        values["look"] = self.look.as_dict()
        return values


#: What the figures of one figure over several budgets have in common.
_SHARED = ("task", "dataset", "channel", "requirement", "metric")


def gallery_id(figure_id: str, pictures_id: str) -> str:
    """The id of the figure that shows the kept pictures of a figure. pictures_id: the one in [pictures], or ""."""
    return pictures_id if pictures_id not in ("", figure_id) else f"{figure_id}-pictures"


def drawings_of(figure: Mapping[str, Any]) -> dict[str, str]:
    """What `plot` may draw of a figure (as `Figure.as_dict` gives it): name of a drawing's file, without its ending ->
    what it shows, in words. Pictures after the first of a gallery, and the drawings of a plug-in's kind, are not among
    them.
    """
    own = figure.get("budgets_of") or figure["id"]
    usual = "budgets" if figure.get("budgets_of") else "segmentation" if TASKS[figure["task"]].labels else "curves"
    kind, ends = figure.get("look", {}).get("kind") or usual, []
    if kind == "budgets" and len(figure["snr_db"]) > 1:
        ends = [f"{snr:g}dB" for snr in figure["snr_db"]]
    elif kind in ("curves", "segmentation"):
        ends = [metric.name for metric in metrics_of(figure["task"]) if metric.name != figure["metric"]]
    found = dict.fromkeys([own, *(f"{own}-{end}" for end in ends)], f"figure {own}")
    if figure["pictures"]["snr_db"] and kind != "segmentation":
        found[gallery_id(own, figure["pictures"]["id"])] = f"the pictures of figure {own}"
    return found


def check_apart(figures: Iterable[Mapping[str, Any]]) -> None:
    """Refuse figures (as `Figure.as_dict` gives them) that share an id, or of which a drawing of one has the file of a
    drawing of another: `plot` would refuse their run. Nor do the budgets of one figure differ in anything else. Raises
    UserError.
    """
    figures = list(figures)
    first: dict[str, Mapping[str, Any]] = {}
    for figure in figures:
        same = first.setdefault(figure.get("budgets_of") or figure["id"], figure)
        for key in _SHARED if figure.get("budgets_of") else ():
            if figure.get(key) != same.get(key):
                raise UserError(f"figure {figure['budgets_of']} has {key} {same.get(key)} and {figure.get(key)}")
    ids = [figure["id"] for figure in figures]
    ids += dict.fromkeys(figure["budgets_of"] for figure in figures if figure.get("budgets_of"))
    if double := clash(ids):
        raise UserError(f"two figures have the id {double}")
    galleries = {
        figure.get("budgets_of") or figure["id"]: figure["pictures"]["id"]
        for figure in figures
        if figure["pictures"]["id"] not in ("", figure["id"])
    }
    if double := clash([*ids, *galleries.values()]):
        raise UserError(f"[pictures] id {double} is also the id of another figure; give it one of its own")
    drawn: dict[str, str] = {}  # by names in one case, which is ignored by some file systems
    for figure in figures:
        for name, what in drawings_of(figure).items():
            if (other := drawn.setdefault(name.casefold(), what)) != what:
                raise UserError(
                    f"{other} and {what} would both be drawn into the file {name}; give one of the figures another id"
                )


def check_channel(name: str, where: str = "--channel") -> str:
    """Return `name` if it is a channel's. Otherwise raise UserError. where: the option or key, for the message."""
    return parse_choice(name, where, CHANNELS.names(), "channels")


# ---------------------------------------------------------------- figure files


def _one_line(most: int):
    return partial(parse_text, most=most)


#: The keys of [pictures].
PICTURE_KEYS = (
    Key("id", "text", "the id of the figure that shows the pictures; it names files", parse_id,
        otherwise="the figure's own id"),
    Key("snr_db", "SNRs", "the SNRs whose outputs are kept, points of the sweep", parse_snr, required=True),
    Key("limit", "whole number 1..1000", "how many pictures, from the data set's first on",
        partial(parse_count, most=1000), KEPT_PICTURES),
)  # fmt: skip
#: The keys of a figure file. Exactly one of cbr, kbits and uses must be there.
FIGURE_KEYS = (
    Key("id", "text", "the figure's name: letters, digits, - and _; it names files and captions", parse_id,
        required=True),
    Key("title", "text", "the caption", _one_line(300), otherwise="the id"),
    Key("task", " or ".join(TASKS.own_names), "what the systems do",
        lambda v, w: parse_choice(v, w, TASKS.names(), "tasks"),
        required=True),
    Key("dataset", "text", "a data set of `list datasets`, NAME:SPLIT, or folder:PATH", _one_line(5000), required=True),
    Key("systems", "list of texts", "the systems, by the names of `list systems`, in the order of the legend",
        parse_names, required=True),
    Key("channel", ", ".join(CHANNELS.own_names), "the channel model; its column csi: the receiver's knowledge of it",
        check_channel, "awgn"),
    Key("snr_db", "SNRs", "Es/N0 in dB per complex use: start:stop:step with the stop included, or a list",
        parse_snr, "0:20:2"),
    Key("cbr", "ratio or list", "budget: complex channel uses per source value (3HW of them); a list makes a figure of "
        "each", parse_cbr),
    Key("kbits", "number or list", f"budget: thousands of coded bits per picture, at most {MOST_KBITS}; a list makes a "
        "figure of each", parse_kbits),
    Key("uses", f"whole number 1..{MOST_USES}", "budget: complex channel uses per picture, the same for every system",
        partial(parse_count, most=MOST_USES)),
    Key("metric", "text", "the metric of the curves: " + ", ".join(METRICS.own_names),
        _one_line(100), otherwise="the first of the task"),
    Key("reps", f"whole number 1..{MOST_REPS}", "noise draws per picture and point",
        partial(parse_count, most=MOST_REPS), 1),
    Key("requirement", "text", "the sentence that asks GenSC for the task", _one_line(1000),
        otherwise="the task's own"),
    Key("pictures", "table", "outputs that are kept as PNG: [pictures]",
        lambda values, where: read_table(values, PICTURE_KEYS, where.removesuffix("pictures") + "[pictures]")),
    *LOOK_KEYS,
)  # fmt: skip


def figure_names() -> list[str]:
    """Names of the figures that come with the bench."""
    folder = CONFIGS / "figures"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def paper_figures() -> list[str]:
    """Names of the paper's figures: these are meant by `--figure all`. Others ("beyond", "fig7-uses") must be named."""
    return [name for name in figure_names() if name.removeprefix("fig").isdecimal()]


def load_figure(name: str) -> Figure:
    """A figure with a single budget, by its name or the path of its TOML file. Raises UserError."""
    figures = load_figures(name)
    if len(figures) > 1:
        raise UserError(f"{name} sets {len(figures)} budgets beside each other; here a figure of one budget is needed")
    return figures[0]


def load_figures(name: str) -> list[Figure]:
    """A figure by its name or the path of its TOML file: one Figure per budget. Raises UserError."""
    if name.lower().endswith(".toml"):
        path = user_path(name, "--figure")
        where = str(path)
    elif name in figure_names():
        path = CONFIGS / "figures" / f"{name}.toml"
        where = f"configs/figures/{name}.toml"
    else:
        for figure in (figure for other in figure_names() for figure in load_figures(other)):
            if figure.pictures.id == name:
                raise UserError(f"{name} shows pictures of {figure.id}; use --figure {figure.id}")
        hint = did_you_mean(name, [*figure_names(), "PATH.toml"], "figures")
        raise UserError(f"unknown figure {name!r}; {hint}")
    return read_figures(read_toml(path, "figure file"), where)


def read_figures(values: dict[str, Any], where: str) -> list[Figure]:
    """The figures in the content of a file: one, or one per budget of a list. where: the file, for messages. Raises
    UserError.
    """
    rule = next((key for key in ("kbits", "cbr") if isinstance(values.get(key), list)), None)
    if rule is None:
        return [read_figure(values, where)]
    if "pictures" in values or not 1 <= len(values[rule]) <= 100:
        raise UserError(
            f"{where}: a list of budgets must hold 1 to 100 budgets, and cannot be combined with [pictures]"
        )
    parse = parse_kbits if rule == "kbits" else parse_cbr
    budgets = [parse(budget, f"{where}: {rule}") for budget in values[rule]]
    if len(set(budgets)) < len(budgets):
        raise UserError(f"{where}: {rule} names a budget twice")
    whole, figures = parse_id(values.get("id"), f"{where}: id"), []
    for budget in values[rule]:
        text = str(budget).strip().replace("/", "_").replace(".", "_").replace("+", "").replace(" ", "")
        own = f"{whole}-{text}{'k' if rule == 'kbits' else ''}"
        figures.append(replace(read_figure({**values, rule: budget, "id": own}, where), budgets_of=whole))
    return figures


def read_figure(values: dict[str, Any], where: str) -> Figure:
    """The content of a figure file with one budget, checked. where: the file, for messages. Raises UserError."""
    read = read_table(values, FIGURE_KEYS, where)
    if sum(rule in read for rule in ("cbr", "kbits", "uses")) != 1:
        raise UserError(f"{where}: give cbr, kbits or uses, one of the three")
    task = read["task"]
    metric, metrics = read.get("metric", TASKS[task].default_metric), [metric.name for metric in metrics_of(task)]
    if metric not in metrics:
        raise UserError(f"{where}: metric {metric!r} is none of {task}: {', '.join(metrics)}")
    snr_db = read["snr_db"]
    look = read_look({key.name: values[key.name] for key in LOOK_KEYS if key.name in values}, where)
    if renamed := next(filter(registry.holds, look.label), None):
        raise UserError(
            f"{where}: label of {renamed!r}: no file renames a system of the bench; plot --label {renamed}=TEXT does"
        )
    shown = Pictures()
    if "pictures" in read:
        shown = Pictures(**{"id": read["id"], **read["pictures"]})
        if not set(shown.snr_db) <= set(snr_db):
            raise UserError(f"{where}: [pictures] snr_db must be points of the sweep, snr_db: {snr_text(snr_db[:20])}")
    return Figure(
        id=read["id"],
        title=read.get("title", read["id"]),
        task=task,
        dataset=read["dataset"],
        systems=read["systems"],
        channel=read["channel"],
        snr_db=snr_db,
        cbr=read.get("cbr"),
        bits=read.get("kbits"),
        metric=metric,
        reps=read["reps"],
        requirement=read.get("requirement") or TASKS[task].requirement,
        uses=read.get("uses"),
        pictures=shown,
        look=look,
    )


def with_snr(figure: Figure, snr_db: tuple[float, ...]) -> Figure:
    """The figure with other SNRs. Pictures are kept at the points of the new sweep that are nearest to the old ones."""
    shown = figure.pictures
    if shown.snr_db:
        nearest = {min(snr_db, key=lambda point: (abs(point - wanted), -point)) for wanted in shown.snr_db}
        shown = replace(shown, snr_db=tuple(sorted(nearest)))
    return replace(figure, snr_db=snr_db, pictures=shown)
