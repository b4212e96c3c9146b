"""Stops a training run and continues it exactly: which tensors and facts are saved, and how a learner takes them back.

The trainer calls it; `state_file` reads and writes the file. The digest of everything that decides the run is saved
too. A state with another digest is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.training import state_file
from bench.training.learner import Learner
from bench.training.precision import resolve
from systems.errors import UserError

#: Fields of a protocol that decide how fast a run is, not its result.
_SPEED = ("compile", "compile_seconds", "record", "shares")


def save(folder: Path, learner: Learner, rows: list[dict], seconds: float) -> None:
    """Write everything that resuming needs. rows: of metrics.csv. seconds: used so far.

    Raises StorageError if the disk refuses.
    """
    tensors = {f"model/{key}": value for key, value in learner.module.state_dict().items()}
    tensors |= {f"average/{key}": value for key, value in learner.average.values.items()}
    for index, parameter in enumerate(learner.parameters):
        entry = learner.optimiser.state.get(parameter, {})
        tensors |= {f"optimizer/{index}/{key}": value for key, value in entry.items()}
    schedule, step = learner.schedule, learner.step
    facts = {
        "step": step, "seen": learner.seen, "done": learner.done, "rows": rows, "protocol": run_digest(learner),
        "seconds": seconds, "minutes": schedule.minutes, "ended": schedule.ended(step),
    }  # fmt: skip
    state_file.save_state(folder, tensors, facts)


def load(folder: Path, learner: Learner) -> tuple[list[dict], float] | None:
    """Continue from the state in `folder`. Returns the rows of metrics.csv and the seconds used so far.

    Returns None if there is no state. Raises UserError if it is of another protocol, or damaged.
    """
    loaded = state_file.load_state(folder)
    if loaded is None:
        return None
    tensors, facts = loaded
    try:
        told = _take_facts(folder, learner, facts)
        _take_tensors(learner, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise state_file.damaged(state_file.path_in(folder)) from None
    return told


def _take_facts(folder: Path, learner: Learner, facts: dict[str, Any]) -> tuple[list[dict], float]:
    if facts["protocol"] != run_digest(learner):
        raise UserError(
            f"{folder}: the folder holds a training run of another protocol or data; choose another --out, or remove it"
        )
    step, rows, seconds = int(facts["step"]), list(facts["rows"]), float(facts["seconds"])
    learner.step = step
    learner.seen = {task: int(facts["seen"][task]) for task in learner.tasks}
    learner.done = {task: int(facts["done"][task]) for task in learner.tasks}
    if learner.minutes is not None:
        learner.schedule.minutes = float(facts["minutes"])
        learner.schedule.used = seconds
    return rows, seconds


def _take_tensors(learner: Learner, tensors: dict[str, Tensor]) -> None:
    learner.module.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model/")})
    for key, value in learner.average.values.items():
        value.copy_(tensors[f"average/{key}"])
    for index, parameter in enumerate(learner.parameters):
        prefix = f"optimizer/{index}/"
        entry = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        # Moments need their parameter's memory layout, because the fused optimiser reads both in order.
        learner.optimiser.state[parameter] = {
            key: value.to(parameter.device) if key == "step" else torch.empty_like(parameter.data).copy_(value)
            for key, value in entry.items()
        }


def protocol_of(learner: Learner) -> dict[str, Any]:
    """The protocol, with only those tasks that the system has."""
    return {**learner.protocol.as_dict(), "tasks": {task: asdict(plan) for task, plan in learner.tasks.items()}}


def run_digest(learner: Learner) -> str:
    """sha256 of everything that decides the run."""
    decides = [
        {key: value for key, value in protocol_of(learner).items() if key not in _SPEED},
        learner.module.facts.get("sha256"),
        {task: learner.albums[task].digest for task in learner.tasks},
        learner.name,
        learner.size,
        repr(learner.module.config),
        resolve(learner.protocol.autocast, learner.world.device),
        learner.teacher,
        "clock" if learner.minutes is not None else "crops",
    ]
    return hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()
