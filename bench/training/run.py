"""The work of `python -m bench train`: checks the request, reads the pictures, trains system after system, writes
weights.

Each weight file gets a sidecar. Nothing is written before the whole request has been checked.
"""

from __future__ import annotations

import csv
import functools
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import baselines  # noqa: F401  (registers the baselines)
from baselines.catalogue import FLOOR
from bench.data import default_data_root
from bench.measure.tasks import TASKS
from bench.training import state_file
from bench.training.crops import Album
from bench.training.distributed import World
from bench.training.protocol import Protocol, read_protocol
from bench.training.sidecar import data_of
from bench.training.sources import Library
from bench.training.teacher import check_teacher, teacher_name, with_labels
from bench.training.trainer import Trainer
from bench.training.validate import SIZE, SNRS, reconstruction_psnr
from bench.util.environment import git_commit
from systems import registry, weight_files
from systems.errors import UserError
from systems.learned import fill_from
from systems.sizes import sizes_of

MOST_MINUTES = 60 * 24 * 366


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class TrainingRequest:
    """One `train` command, checked."""

    systems: list[str]
    plan: Protocol
    root: Path
    out: Path
    size: str
    minutes: float | None
    pack: Path | None

    def folder(self, name: str) -> Path:
        """The folder of one system's run."""
        return self.out / f"{name}-{self.size}"

    def fitted(self, name: str) -> bool:
        """Whether a system is fitted in closed form instead of trained step by step."""
        return registry.find(name, parts=True).fitted


def run_training(
    systems: Sequence[str] | None,
    protocol: str | Path = "small",
    data_root: Path | None = None,
    out: Path | None = None,
    size: str = "small",
    device: str = "cpu",
    max_steps: int | None = None,
    threads: int | None = None,
    tasks: Sequence[str] | None = None,
    minutes: float | None = None,
    pack: Path | None = None,
    say: Callable[[str], None] = _say,
    began: float | None = None,
    speeds: Path | None = None,
    **overrides,
) -> list[Path]:
    """Train systems by one protocol. Returns the weight files.

    systems: names. None: all that have one of the tasks (with `minutes`: all that are trained in steps).
    protocol: a path, or a name in configs/train.
    tasks: only these tasks of it.
    pack: a file of `data pack` that contains the protocol's sources.
    minutes: the time for all systems together, including reading and writing, from `began` on.
    began: a time of `time.monotonic`; None: now.
    speeds: a table of `perf train --csv`, by which the minutes are divided instead of by the protocol's shares.
    max_steps: stop each system after this many steps.
    overrides: fields of the protocol. A run in `out` that was stopped is resumed. Raises UserError if anything in the
    request is impossible; then nothing was written.
    """
    began = time.monotonic() if began is None else began
    if threads:
        torch.set_num_threads(threads)
    request = check_request(systems, protocol, data_root, out, size, tasks, minutes, pack, speeds, **overrides)
    written = []
    with World.join(device) as world:
        library = Library(request.root, request.pack)
        for entry in request.plan.tasks.values():
            for source in entry.sources:
                library.check(source)
        albums = {
            task: _album(request, task, library, world, say if world.first else lambda text: None)
            for task in request.plan.tasks
            if any(task in registry.tasks_of(name) for name in request.systems)
        }
        clock, floor = _Clock(request, began), _Floor(request.plan, albums.get("reconstruction"))
        for name in request.systems:
            if request.fitted(name):
                written += [_fit(name, request, albums)] if world.first else []
            else:
                path = _train(name, request, albums, world, floor, clock.minutes(name), max_steps, say)
                written += [path] if path is not None else []
    return written


def check_request(
    systems: Sequence[str] | None,
    protocol: str | Path,
    data_root: Path | None,
    out: Path | None,
    size: str,
    tasks: Sequence[str] | None,
    minutes: float | None,
    pack: Path | None = None,
    speeds: Path | None = None,
    **overrides,
) -> TrainingRequest:
    """Check everything that can be checked before a picture is read. Writes nothing. Raises UserError."""
    plan = read_protocol(protocol, tasks, **overrides)
    if overrides.get("teacher") and not any(entry.distill for entry in plan.tasks.values()):
        raise UserError(
            f"--teacher has no effect: no task of the protocol trained here has `distill` ({', '.join(plan.tasks)})"
        )
    if minutes is not None and not (math.isfinite(minutes) and 0 < minutes <= MOST_MINUTES):
        raise UserError(f"--minutes {minutes}: it must be above 0, at most {MOST_MINUTES} (a year)")
    _check_start(plan.start)
    chosen = _all_of(plan) if systems is None else list(dict.fromkeys(systems))
    if systems is None and minutes is not None:  # fitted systems take no steps, and get no share of the time
        chosen = [name for name in chosen if not registry.find(name, parts=True).fitted]
    foreign = [name for name in chosen if registry.find(name, parts=True).plugin]
    if foreign and len(chosen) > 1:  # before its code is imported
        raise UserError(
            f"{foreign[0]}: the code of a third party's system runs in the process that trains, where it can change "
            "how others are trained; train it by a command of its own"
        )
    for name in chosen:
        _check_system(name, plan, size, systems is None)
    if systems is None and not re.fullmatch(r"[A-Za-z0-9_.-]+", size):
        raise UserError(f"--size {size}: it is the name of a file in configs/models, such as small")
    if systems is None:  # train those systems that have this size
        chosen = [n for n in chosen if registry.find(n, parts=True).fitted or _has_size(n, size)]
        if all(registry.find(n, parts=True).fitted for n in chosen):
            raise UserError(f"--size {size}: no system has it; see configs/models")
    if speeds is not None:
        plan = replace(plan, shares=_equal_shares(speeds, plan, size, chosen, minutes))
    root = Path(data_root) if data_root is not None else default_data_root()
    used = {task for name in chosen for task in registry.tasks_of(name)} & set(plan.tasks)
    if plan.teacher != "none" and any(plan.tasks[task].distill for task in used):
        carried = pack is not None or all(s.startswith("pack:") for task in used for s in plan.tasks[task].sources)
        if not carried:  # a pack contains the labels
            check_teacher(plan.teacher, root)
    folder = Path(out) if out is not None else Path("results") / "training"
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise UserError(f"--out {folder}: {parent} is a file; choose a folder")
    nearest = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if not os.access(nearest, os.W_OK):
        raise UserError(f"--out {folder}: nothing can be written in {nearest}; choose another folder")
    for name in chosen:
        _check_shipped(name, size, plan.start)
    request = TrainingRequest(chosen, plan, root, folder, size, minutes, pack)
    for name in chosen:
        state_file.read_facts(request.folder(name))  # so that a damaged state is found before any training
    return request


def _check_start(start: str) -> str:
    origin, _, other = start.partition(":")
    if origin not in ("none", "shipped") or (other and origin == "none"):
        raise UserError(f"unknown start {start!r} in the protocol; it is none or shipped, or shipped:SIZE")
    return start


def _check_shipped(name: str, size: str, start: str) -> None:
    """Raise UserError if a system has no weights that its training starts from: hours may pass before its turn."""
    origin, _, other = start.partition(":")
    entry = registry.find(name, parts=True)
    if origin != "shipped" or entry.fitted:
        return
    if weight_files.shipped(entry.target.partition(":")[0].partition(".")[0], name, other or size) is None:
        raise UserError(
            f"{name} ships no weights in size {other or size}, which the protocol's start = {start!r} asks for; leave "
            f'{name} out, or write start = "none"'
        )


def _check_system(name: str, plan: Protocol, size: str, any_size: bool) -> None:
    entry = registry.find(name, parts=True)
    if entry.fitted:
        task = entry.load().fitted_task
        if task not in plan.tasks:
            raise UserError(
                f"{name} is fitted to pictures of {task}, which the protocol does not train; leave {name} out"
            )
        return
    if not entry.trains():
        known = ", ".join(entry.name for entry in registry.trainables())
        raise UserError(f"{name} has nothing to train; learned systems are {known}")
    if not set(registry.tasks_of(name)) & set(plan.tasks):
        raise UserError(f"{name}: the protocol trains {', '.join(plan.tasks)}, which {name} does not do")
    if not any_size and not _has_size(name, size):
        raise UserError(
            f"{name} has no size {size!r}; sizes are {', '.join(sizes_of(name)) or 'small'} (configs/models)"
        )


def _has_size(name: str, size: str) -> bool:
    known = sizes_of(name)
    return size in known if known else size == "small"  # a third party's system without files of sizes


def _all_of(plan: Protocol) -> list[str]:
    """All systems with one of the protocol's tasks. Those from which others start come first."""
    return [entry.name for entry in registry.trainables() if set(registry.tasks_of(entry.name)) & set(plan.tasks)]


def _equal_shares(path: Path, plan: Protocol, size: str, chosen: list[str], minutes: float | None) -> dict[str, float]:
    """Shares of time in which every system sees the protocol's crops, or as many less as its neighbours, at the speeds
    that `perf train --csv` measured. UserError where the table does not say."""
    if minutes is None:
        raise UserError("--speeds has no effect without --minutes, which it shares")
    seconds: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["size"] == size and row["task"] in plan.tasks:
                    crops = plan.tasks[row["task"]].images_seen
                    seconds[row["system"]] = seconds.get(row["system"], 0.0) + crops / float(row["crops_per_s"])
    except (OSError, KeyError, TypeError, ValueError, ZeroDivisionError, csv.Error) as error:
        raise UserError(f"{path}: not a table of `perf train --csv` ({type(error).__name__}: {error})") from None
    for name in chosen:
        if not registry.find(name, parts=True).fitted and not 0 < seconds.get(name, 0.0) < math.inf:
            raise UserError(f"{path}: has no speed of {name} in size {size}; measure it with `perf train --csv`")
    return seconds


class _Clock:
    """Shares the time of a command among its systems. Time that earlier sessions used counts."""

    def __init__(self, request: TrainingRequest, began: float):
        self.request, self.end = request, None
        if request.minutes is not None:
            states = (state_file.read_facts(request.folder(name)) for name in request.systems)
            used = sum(facts["seconds"] for facts in states if facts is not None)
            self.end = began + 60 * request.minutes - used
        self.left = [name for name in request.systems if not request.fitted(name)]

    def minutes(self, name: str) -> float | None:
        """The minutes that `name`, the next system, may use."""
        if self.end is None:
            return None
        shares = self.request.plan.shares
        part = shares.get(name, 1.0) / sum(shares.get(one, 1.0) for one in self.left)
        self.left.remove(name)
        return max(1e-3, part * (self.end - time.monotonic()) / 60)


def _album(request: TrainingRequest, task: str, library: Library, world: World, say: Callable[[str], None]) -> Album:
    entry = request.plan.tasks[task]
    pictures = [picture for source in entry.sources for picture in library.read(source)]
    masks = TASKS[task].target == "mask"
    if masks and entry.distill and request.plan.teacher != "none":
        pictures = with_labels(pictures, request.plan.teacher, request.root, world.device, say=say)
    least = max(SIZE, *(stage.crop for stage in entry.stages))
    return Album(pictures, pictures[0].source, request.plan.holdout, least, masks, world.device)


def build(name: str, size: str, start: str):
    """The network at the start of training: from scratch, with the statistics of `linear`, or with the shipped weights.

    start: "none", "shipped" or "shipped:SIZE". Raises UserError or CheckpointError.
    """
    origin, _, other = _check_start(start).partition(":")
    system = registry.find(name, parts=True).load()(name=name, size=size, checkpoint="none")
    if origin == "shipped":  # loaded into the network for training, where the backbone's first stages are frozen
        system.facts, system.variant = fill_from(system, name, other or size, origin)
    else:
        system.start_from_klt(registry.create(FLOOR).klt)
    return system


def _train(
    name: str,
    request: TrainingRequest,
    albums: dict[str, Album],
    world: World,
    floor: _Floor,
    minutes: float | None,
    max_steps: int | None,
    say: Callable[[str], None],
) -> Path | None:
    began = time.monotonic()
    plan = request.plan
    module = build(name, request.size, plan.start)
    taught = teacher_name(plan.teacher) if _is_taught(plan, module) else ""
    trainer = Trainer(module, plan, albums, request.folder(name), world, minutes, taught, say)
    if trainer.load_state():
        if world.first:
            total = "" if trainer.schedule.total is None else f" of {trainer.schedule.total}"
            say(f"{name}: resuming at step {trainer.learner.step}{total}")
    elif world.first:
        say(f"{name}: training begins; state, curves and weights go to {trainer.folder}")
    least = floor.values if "reconstruction" in trainer.tasks and world.first else {}  # while there is time
    if not trainer.run(max_steps, began) or not world.first:
        return None
    facts = {**trainer.facts(), "knowledge": knowledge(plan, module, taught), "commit": git_commit()}
    facts |= {key: module.facts[key] for key in ("linear_validation", "undertrained") if key in module.facts}
    if least:
        last = trainer.rows[-1]
        facts |= {
            "linear_validation": least,
            "undertrained": any(last.get(key, -math.inf) < least[key] for key in least),
        }
    try:
        weight_files.save_weights(trainer.weights_file, trainer.weights(), facts)
    except ValueError as error:
        raise UserError(f"{error}; lower learning_rates.{name} in the protocol and train again") from None
    return trainer.weights_file


class _Floor:
    """The scores of `linear` on the held-out pictures, measured once for all systems. A learned system with lower
    scores counts as undertrained.
    """

    def __init__(self, plan: Protocol, album: Album | None):
        self.plan, self.album = plan, album

    @functools.cached_property
    def values(self) -> dict[str, float]:
        """Mean PSNR in dB, by the names of the validation's columns."""
        low, high = self.plan.snr_range
        snrs = (low,) if low == high else SNRS
        task = self.plan.tasks["reconstruction"]
        return reconstruction_psnr(registry.create(FLOOR), self.album, task, self.plan.channel, snrs)


def _is_taught(plan: Protocol, module) -> bool:
    """Whether a system learns from the protocol's teacher. The FCN does not teach itself."""
    wanted = any(plan.tasks[task].distill for task in module.tasks if task in plan.tasks)
    return plan.teacher != "none" and wanted and plan.teacher != module.name


def knowledge(plan: Protocol, module, taught: str) -> str:
    """What a system knew besides the training pictures: a column of the tables."""
    parts = [*module.knowledge()]
    if not module.sends and any(entry.coded for entry in plan.tasks.values()):
        parts.append("crops as JPEG leaves them")
    if taught:
        parts.append(f"labels of {taught}")
    return "; ".join(parts) or "none"


def _fit(name: str, request: TrainingRequest, albums: dict[str, Album]) -> Path:
    """Compute the statistics of a system without a network, from the training pictures of its task."""
    kind, plan = registry.find(name).load(), request.plan
    album = albums[kind.fitted_task]
    state = kind.fit(torch.from_numpy(p.pixels).permute(2, 0, 1).float() / 255 for p in album.training)
    path = request.folder(name) / f"{name}-{kind.fitted_size}.safetensors"
    facts = {
        "system": name,
        "size": kind.fitted_size,
        "images_seen": {kind.fitted_task: len(album)},
        "licence": plan.licence,
        "commit": git_commit(),
        "knowledge": kind.fitted_knowledge,
        "data": {kind.fitted_task: data_of(plan.tasks[kind.fitted_task], album)},
    }
    weight_files.save_weights(path, state, facts)
    return path
