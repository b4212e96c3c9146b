"""The training protocol: one TOML file under `configs/train`, shared by all systems of a comparison.

`run` reads it. `Protocol` and `TaskProtocol` list the fields; configs/README.md explains them with examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.spec.figure import check_channel
from bench.spec.grammar import parse_cbr, parse_kbits
from bench.util.files import read_toml, user_path
from systems.errors import UserError
from systems.interface import TASKS, Budget
from systems.losses import RECONSTRUCTION_LOSSES
from systems.sidecars import NO_LICENCE
from systems.sizes import CONFIGS, fill

AUTOCAST = ("auto", "bfloat16", "off")
BUDGETS = 8  # sizes that a drawn budget has: each makes other shapes, which a GPU records or compiles once


@dataclass(frozen=True)
class CropStage:
    """One part of the crop schedule. It ends when the share `until` (0..1) of a task's crops,
    or of the time, is used.
    """

    until: float  # end of the stage: 0..1, of the task's crops or of the time
    crop: int  # side in pixels
    batch: int  # crops per step


@dataclass(frozen=True)
class TaskProtocol:
    """How one task is trained. Exactly one of `cbr` and `kbits` is given."""

    images_seen: int  # number of crops, repeats included; with --minutes only the ratio between tasks counts
    stages: tuple[CropStage, ...]  # the crop schedule, in order; the last one ends at 1
    sources: tuple[str, ...]  # a folder under the data root, folder:PATH, voc2012:SPLIT, bundled, pack:FILE
    cbr: str | None = None  # budget: complex channel uses over 3HW, "1/16"
    kbits: float | tuple[float, float] | None = None  # one budget, or a range: each batch has one of eight, even in log
    kbits_side: int = 224  # side of the picture that `kbits` is for; a crop gets its share by area
    validate_kbits: float = 20.0  # the budget in validation, if `kbits` is a range
    budget_jitter: float = 0.0  # half of the batches get one of eight shares of the budget, 1 - jitter to 1
    lowest_scale: float = 1.0  # below 1: random resized crops, at least this share of the picture's shorter side
    whole: float = 0.35  # share of the resized crops that are the whole picture, as in tests
    balance_classes: bool = False  # draw a class first, then a picture that contains it
    distill: float = 0.0  # weight of the teacher's class beside the ground truth
    coded: float = 0.0  # for a network behind a digital link: share of crops that go through JPEG
    coded_bytes: tuple[int, int] = (600, 8000)  # range of bytes of such a crop, uniform in log

    def budget(self, side: int, u: Sequence[float]) -> Budget:
        """The budget of a crop of side x side pixels. u: two uniform numbers, which decide if the protocol leaves a
        choice.
        """
        step = min(int(u[1] * BUDGETS), BUDGETS - 1) / (BUDGETS - 1)
        share = 1.0 if u[0] < 0.5 else 1.0 - self.budget_jitter * step
        if self.cbr is not None:
            return Budget.from_cbr(parse_cbr(self.cbr, "cbr") * share, side, side)
        kbits = self.kbits
        if isinstance(kbits, tuple):
            kbits, share = kbits[0] * (kbits[1] / kbits[0]) ** step, 1.0
        return self._bits(kbits * share, side)

    def validation_budget(self, side: int) -> Budget:
        """The budget of a whole picture of side x side pixels in validation."""
        if self.cbr is not None:
            return Budget.from_cbr(parse_cbr(self.cbr, "cbr"), side, side)
        return self._bits(self.validate_kbits if isinstance(self.kbits, tuple) else self.kbits, side)

    def _bits(self, kbits: float, side: int) -> Budget:
        return Budget(bits=max(1, round(kbits * 1000 * (side / self.kbits_side) ** 2)))


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a training run, except the system itself."""

    seed: int = 0  # seed of all random draws
    learning_rate: float = 1e-4  # highest learning rate
    learning_rates: dict[str, float] = field(default_factory=dict)  # for single systems, instead of `learning_rate`
    betas: tuple[float, float] = (0.5, 0.999)  # betas of AdamW
    weight_decay: float = 0.01  # weight decay of AdamW
    warmup: int = 100  # steps of linear warm-up
    final_rate: float = 0.02  # share of the learning rate at the end, after a cosine; 1: no decay
    clip_norm: float = 1.0  # largest norm of the gradient
    reconstruction_loss: str = "mse"  # "mse": Eq. 5; "log_mse": its logarithm for each picture
    ema: float = 0.999  # decay of the moving average of weights; the averaged weights are stored
    snr_db: float | tuple[float, float] = (0.0, 20.0)  # one SNR, or a range: one per picture is drawn, uniform in dB
    channel: str = "awgn"  # a channel of `list channels`
    autocast: str = "auto"  # "bfloat16", "off", or "auto": bfloat16 if the hardware can multiply it
    compile: bool = False  # torch.compile of the step; it saves time only after some minutes
    compile_seconds: float = 120.0  # time limit for compiling, in seconds; beyond it, the step is not compiled
    record: bool = True  # on one GPU: record the passes of a step and replay them (CUDA graphs)
    validate_every: int = 500  # steps between two validations
    validations: int = 8  # with --minutes: number of validations
    checkpoint_every: int = 100  # steps between two states on disk
    holdout: int = 24  # validation pictures, taken from each task's first source; never test pictures
    teacher: str = "none"  # "none", "fcn", or a .tflite file under the data root; used by tasks with `distill`
    # "none", or "shipped": start from the shipped weights ("shipped:SIZE": of that size); other tasks keep theirs
    start: str = "none"
    licence: str = NO_LICENCE  # licence of the training pictures, for the sidecar of the weights
    shares: dict[str, float] = field(default_factory=dict)  # share of --minutes of single systems; 1 for all others
    tasks: dict[str, TaskProtocol] = field(default_factory=dict)  # one table per task: [tasks.reconstruction], ...

    def rate_of(self, system: str) -> float:
        """The highest learning rate of a system."""
        return self.learning_rates.get(system, self.learning_rate)

    @property
    def snr_range(self) -> tuple[float, float]:
        """Lowest and highest SNR in dB. They are equal if the SNR is fixed."""
        return self.snr_db if isinstance(self.snr_db, tuple) else (self.snr_db, self.snr_db)

    def as_dict(self) -> dict:
        """Plain values, for the sidecar."""
        return asdict(self)


def read_protocol(path: Path | str, tasks: Sequence[str] | None = None, **overrides) -> Protocol:
    """A protocol, from a path or by the name of a file in `configs/train`.

    tasks: only these tasks of it.
    overrides: fields that replace the file's; None keeps the file's. `sources` and `crops` replace those of every task.
    Raises UserError, in one line with file and key, for unknown keys, wrong values, and numbers that are too large.
    """
    file = user_path(path, "--config")
    if not file.exists():
        folder = CONFIGS / "train"
        file = folder / f"{path}.toml"
        if Path(path).name != str(path) or not file.is_file():
            known = ", ".join(sorted(item.stem for item in folder.glob("*.toml")))
            raise UserError(f"no training protocol {str(path)!r}; give a TOML file, or one of {known}")
    values = read_toml(file, "training protocol")
    changes = {"sources": overrides.pop("sources", None), "images_seen": overrides.pop("crops", None)}
    if overrides.get("learning_rate") is not None:
        values["learning_rates"] = {}  # the given rate is used for every system
    tables = values.pop("tasks", {})
    if not isinstance(tables, dict):
        raise UserError(f"{file}: tasks must be tables, [tasks.reconstruction] or [tasks.segmentation]")
    plans = {task: _plan(task, entries, f"{file} [tasks.{task}]", changes) for task, entries in tables.items()}
    if absent := set(tasks or ()) - set(plans):
        raise UserError(
            f"{file}: does not train {', '.join(sorted(absent))}; its tasks are {', '.join(plans) or 'none'}"
        )
    plans = {task: plan for task, plan in plans.items() if not tasks or task in tasks}
    if not plans:
        raise UserError(f"{file}: has no task; add [tasks.reconstruction] or [tasks.segmentation]")
    values.update({key: value for key, value in overrides.items() if value is not None})
    protocol = fill(Protocol, {**values, "tasks": plans}, str(file))
    _check_protocol(str(file), protocol)
    return protocol


def _plan(task: str, entries: Any, where: str, changes: dict[str, Any]) -> TaskProtocol:
    if task not in TASKS:
        raise UserError(f"{where}: no such task; tasks are {', '.join(TASKS)}")
    if not isinstance(entries, dict):
        raise UserError(f"{where}: must be a table")
    stages = entries.get("stages")
    if not stages or not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UserError(f"{where}: needs stages = [{{until = 1.0, crop = 112, batch = 16}}]")
    filled = tuple(fill(CropStage, stage, f"{where} stages") for stage in stages)
    entries = {**entries, "stages": filled, **{key: value for key, value in changes.items() if value is not None}}
    plan = fill(TaskProtocol, entries, where)
    if (plan.cbr is None) == (plan.kbits is None):
        raise UserError(f"{where}: needs either cbr or kbits")
    _check_plan(plan, where)
    return plan


def _between(low: float, high: float) -> tuple[Callable[[Any], Any], str]:
    return (lambda x: low <= x <= high), f"from {low:,} to {high:,}".replace(",", " ")


def _above(high: float) -> tuple[Callable[[Any], Any], str]:
    return (lambda x: 0 < x <= high), f"above 0, at most {high:g}"


_SHARE = _between(0, 1)
_PAIR = (lambda x: not isinstance(x, tuple) or x[0] <= x[1]), "lowest and highest"


def _check_protocol(file: str, protocol: Protocol) -> None:
    _check(
        file,
        protocol,
        {
            **dict.fromkeys(("learning_rate", "clip_norm"), _above(1e6)),
            **dict.fromkeys(("validate_every", "checkpoint_every"), _between(1, 10**9)),
            **dict.fromkeys(("holdout", "validations"), _between(1, 10**6)),
            "weight_decay": _between(0, 1000),
            "compile_seconds": _above(1e6),
            "warmup": _between(0, 10**9),
            "final_rate": _SHARE,
            "seed": _between(0, 2**62),
            "ema": ((lambda x: 0 <= x < 1), "from 0 to below 1"),
            "betas": ((lambda x: all(0 <= one < 1 for one in x)), "from 0 to below 1"),
            "snr_db": _PAIR,
            "autocast": ((lambda x: x in AUTOCAST), " | ".join(AUTOCAST)),
            "reconstruction_loss": ((lambda x: x in RECONSTRUCTION_LOSSES), " | ".join(RECONSTRUCTION_LOSSES)),
        },
    )
    if not -50 <= protocol.snr_range[0] <= protocol.snr_range[1] <= 100:
        raise UserError(f"{file}: snr_db = {protocol.snr_db!r}; it must be lowest and highest, from -50 to 100 dB")
    for key in ("learning_rates", "shares"):
        for name, value in getattr(protocol, key).items():
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1e6
            if not good:
                raise UserError(f"{file}: {key}.{name} = {value!r}; it must be a number above 0, at most 1e+06")
    try:
        check_channel(protocol.channel)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _check_plan(plan: TaskProtocol, where: str) -> None:
    _check(
        where,
        plan,
        {
            "images_seen": ((lambda x: 1 <= x <= 10**12), "at least 1, at most 1e+12"),
            **dict.fromkeys(("budget_jitter", "distill", "coded", "whole"), _SHARE),
            "coded_bytes": ((lambda x: 1 <= x[0] <= x[1] <= 10**9), "least and most, at least 1"),
            "lowest_scale": ((lambda x: 0 < x <= 1), "above 0, at most 1"),
            "sources": (len, "at least one"),
            "kbits": (_PAIR[0], _PAIR[1]),
            "kbits_side": _between(16, 10**5),
            "validate_kbits": _above(1e9),
        },
    )
    for stage in plan.stages:
        _check(
            f"{where} stages",
            stage,
            {
                "until": ((lambda x: 0 < x <= 1e6), "above 0"),
                "crop": ((lambda x: 16 <= x <= 4096), "at least 16, at most 4096"),
                "batch": ((lambda x: 1 <= x <= 65536), "at least 1, at most 65536"),
            },
        )
        if 3 * stage.batch * stage.crop**2 > 2**31:
            raise UserError(f"{where} stages: a batch of {stage.batch} crops of {stage.crop} fits no memory; lower one")
    if plan.cbr is None:
        for kbits in plan.kbits if isinstance(plan.kbits, tuple) else (plan.kbits,):
            parse_kbits(kbits, f"{where}: kbits")
    else:
        parse_cbr(plan.cbr, f"{where}: cbr")
    side = min(stage.crop for stage in plan.stages)
    if plan.budget(side, (1.0, 0.0 if isinstance(plan.kbits, tuple) else 1.0)).allowed_uses() < 1:
        rule = "cbr" if plan.cbr is not None else "kbits"
        raise UserError(
            f"{where}: the least budget is below one channel use in a crop of {side}; raise {rule} or crop, or lower "
            "budget_jitter"
        )


def _check(where: str, values, rules: dict[str, tuple[Callable[[Any], Any], str]]) -> None:
    for key, (holds, words) in rules.items():
        value = getattr(values, key)
        numbers = value if isinstance(value, tuple) else (value,)
        finite = all(not isinstance(one, float) or math.isfinite(one) for one in numbers)
        if not finite or not holds(value):
            raise UserError(f"{where}: {key} = {value!r}; it must be {words}")
