"""The training protocol: one TOML file under `configs/train`, shared by every system of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from bench.spec.figure import check_channel
from bench.spec.grammar import parse_cbr, parse_kbits
from systems.errors import UserError
from systems.interface import TASKS
from systems.sizes import fill, read_toml

AUTOCAST = ("auto", "bfloat16", "off")


@dataclass(frozen=True)
class Stage:
    """One stretch of the crop schedule: it ends when `until` (0..1) of a task's images have been seen."""

    until: float
    crop: int
    batch: int


@dataclass(frozen=True)
class TaskProtocol:
    """How one task is trained. images_seen counts crops, repeats included."""

    images_seen: int
    stages: tuple[Stage, ...]
    sources: tuple[str, ...]
    cbr: str | None = None
    kbits: float | None = None
    budget_jitter: float = 0.0  # half of the batches may spend only a random share down to 1 - jitter of the budget
    lowest_scale: float = 1.0  # random resized crops take at least this share of the picture's shorter side
    balance_classes: bool = False
    distill: float = 0.0  # weight of the teacher's soft labels beside the ground truth
    coded: float = (
        0.0  # of the crops of a network that sits behind a digital link, the share that it sees as JPEG leaves them
    )
    coded_bytes: tuple[int, int] = (600, 8000)  # what such a crop may have, drawn on a logarithmic scale

    @property
    def cbr_value(self) -> float:
        return parse_cbr(self.cbr, "cbr")


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a training run besides the system itself."""

    seed: int = 0
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.01
    warmup: int = 100
    clip_norm: float = 1.0
    reconstruction_loss: str = "mse"  # Eq. 5; "log_mse": its logarithm picture by picture
    ema: float = 0.999
    snr_db: tuple[float, float] = (0.0, 20.0)
    channel: str = "awgn"
    autocast: str = "auto"  # "bfloat16", "off", or "auto": bfloat16 where the hardware multiplies it
    validate_every: int = 500
    checkpoint_every: int = 100
    holdout: int = 24  # pictures of each task kept from training, to watch it; never test pictures
    teacher: str = "none"  # or "fcn", or a .tflite file under the data root; used where a task's `distill` asks for it
    # "shipped": go on from the weights that ship (":SIZE": in that size); what untrained tasks use of them stays
    start: str = "none"
    licence: str = "not stated"  # of the training pictures; goes into the weights' sidecar
    tasks: dict[str, TaskProtocol] = field(default_factory=dict)

    def as_dict(self) -> dict:
        return asdict(self)


def read_protocol(path: Path | str, tasks: Sequence[str] | None = None, **overrides) -> Protocol:
    """A protocol from a path, or by the name of a file in `configs/train`; of its tasks only those in `tasks`, where
    given.

    overrides: fields in place of the file's; None leaves the file's. UserError on unknown keys or values.
    """
    file = Path(path)
    if not file.is_file():
        file = resources.files("configs") / "train" / f"{path}.toml"
    if not file.is_file():
        folder = resources.files("configs") / "train"
        known = ", ".join(
            sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
        )
        raise UserError(f"no training protocol {str(path)!r}; give a TOML file, or one of {known}")
    values = read_toml(file)
    plans = {}
    for task, entries in values.pop("tasks", {}).items():
        where = f"{file} [tasks.{task}]"
        if task not in TASKS:
            raise UserError(f"{where}: no such task; tasks are {', '.join(TASKS)}")
        if not entries.get("stages"):
            raise UserError(f"{where}: needs stages = [{{until = 1.0, crop = 112, batch = 16}}]")
        stages = tuple(fill(Stage, stage, f"{where} stages") for stage in entries.pop("stages"))
        plans[task] = fill(TaskProtocol, {**entries, "stages": stages}, where)
        if (plans[task].cbr is None) == (plans[task].kbits is None):
            raise UserError(f"{where}: needs either cbr or kbits")
        _check_plan(plans[task], where)
    if absent := set(tasks or ()) - set(plans):
        raise UserError(f"{file}: does not train {', '.join(sorted(absent))}; its tasks are {', '.join(plans)}")
    plans = {task: plan for task, plan in plans.items() if not tasks or task in tasks}
    values.update({key: value for key, value in overrides.items() if value is not None})
    protocol = fill(Protocol, {**values, "tasks": plans}, str(file))
    _check(
        str(file),
        protocol,
        {
            **dict.fromkeys(("learning_rate", "clip_norm"), (lambda x: x > 0, "above 0")),
            **dict.fromkeys(("validate_every", "checkpoint_every", "holdout"), (lambda x: x >= 1, "at least 1")),
            **dict.fromkeys(("weight_decay", "warmup"), (lambda x: x >= 0, "0 or above")),
            "ema": (lambda x: 0 <= x < 1, "from 0 to below 1"),
            "betas": (lambda x: all(0 <= one < 1 for one in x), "from 0 to below 1"),
            "snr_db": (lambda x: x[0] <= x[1], "lowest and highest"),
            "autocast": (lambda x: x in AUTOCAST, " | ".join(AUTOCAST)),
        },
    )
    try:
        check_channel(protocol.channel)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return protocol


def _check_plan(plan: TaskProtocol, where: str) -> None:
    share = (lambda x: 0 <= x <= 1, "from 0 to 1")
    _check(
        where,
        plan,
        {
            "images_seen": (lambda x: x >= 1, "at least 1"),
            **dict.fromkeys(("budget_jitter", "distill", "coded"), share),
            "coded_bytes": (lambda x: 1 <= x[0] <= x[1], "least and most, at least 1"),
            "lowest_scale": (lambda x: 0 < x <= 1, "above 0, at most 1"),
            "sources": (len, "at least one"),
        },
    )
    for stage in plan.stages:
        _check(f"{where} stages", stage, {
            "until": (lambda x: x > 0, "above 0"), "crop": (lambda x: x >= 16, "at least 16"), "batch": (lambda x: x >= 1, "at least 1"),
        })  # fmt: skip
    if plan.cbr is None:
        parse_kbits(plan.kbits, f"{where}: kbits")
    else:
        parse_cbr(plan.cbr, f"{where}: cbr")


def _check(where: str, values, rules: dict[str, tuple[Callable[[Any], Any], str]]) -> None:
    for key, (holds, words) in rules.items():
        if not holds(getattr(values, key)):
            raise UserError(f"{where}: {key} = {getattr(values, key)!r}; it must be {words}")
