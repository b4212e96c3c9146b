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
    _check_facts(folder, learner, facts)
    _check_tensors(folder, learner, tensors, facts["step"])
    learner.step, learner.seen, learner.done = facts["step"], facts["seen"], facts["done"]
    if learner.minutes is not None:
        learner.schedule.minutes, learner.schedule.used = facts["minutes"], facts["seconds"]
    _take_tensors(learner, tensors)
    return facts["rows"], facts["seconds"]


def _check_facts(folder: Path, learner: Learner, facts: dict[str, Any]) -> None:
    """Raise UserError if facts that are well formed are of another run, or of none that the schedule allows."""
    if facts["protocol"] != run_digest(learner):
        raise UserError(
            f"{folder}: the folder holds a training run of another protocol or data; choose another --out, or remove it"
        )
    path, schedule = state_file.path_in(folder), learner.schedule
    if not schedule.agrees(facts["step"], facts["done"], facts["seen"]):
        raise state_file.damaged(path, "its steps and crops are not those of the protocol's schedule")
    if (facts["minutes"] is None) != (schedule.minutes is None):
        raise state_file.damaged(path, "its minutes are not those of such a run")
    steps = [row["step"] for row in facts["rows"]]
    if steps != sorted(set(steps)) or (steps and steps[-1] > facts["step"]):
        raise state_file.damaged(path, "its rows are not those of a run to its step")


def _check_tensors(folder: Path, learner: Learner, tensors: dict[str, Tensor], step: int) -> None:
    """Raise UserError if tensors are missing, unknown, of another shape, or not what `step` steps of AdamW leave.

    A parameter that never had a gradient has no moments.
    """
    path = state_file.path_in(folder)
    wanted = {f"model/{key}": value for key, value in learner.module.state_dict().items()}
    wanted |= {f"average/{key}": value for key, value in learner.average.values.items()}
    trained = {name.split("/")[1] for name in tensors if name.startswith("optimizer/")}
    for index, parameter in enumerate(learner.parameters):
        if str(index) in trained:
            moments = {"exp_avg": parameter, "exp_avg_sq": parameter, "step": torch.tensor(0.0)}
            wanted |= {f"optimizer/{index}/{key}": value for key, value in moments.items()}
    state_file.check_tensors(path, tensors, wanted)
    if bool(trained) != (step > 0):
        raise state_file.damaged(path, "it has moments of the optimiser without steps, or steps without moments")
    for index in trained:
        count = float(tensors[f"optimizer/{index}/step"])
        if not (count.is_integer() and 1 <= count <= step) or (tensors[f"optimizer/{index}/exp_avg_sq"] < 0).any():
            raise state_file.damaged(path, f"the optimiser's moments of parameter {index} are none")


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
