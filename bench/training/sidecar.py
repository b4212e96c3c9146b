"""The sidecar of trained weights: what they are, how they were trained, and with what. The trainer calls it."""

from __future__ import annotations

from typing import Any

from bench.training.crops import Album
from bench.training.learner import Learner
from bench.training.precision import resolve
from bench.training.protocol import TaskProtocol
from bench.training.resume import protocol_of
from systems.sidecars import images_seen

#: What is kept of the training before. Its curve is in the sidecar of its own weights.
_HISTORY = ("sha256", "commit", "images_seen", "steps", "seed", "protocol", "started_from")


def sidecar_of(learner: Learner, rows: list[dict], seconds: float) -> dict[str, Any]:
    """The content of the sidecar. rows: the validations. seconds: the time of training."""
    protocol, tasks = learner.protocol, learner.tasks
    before = learner.module.facts  # of the weights from which this run started
    known = images_seen(before)  # {} for weights of others that do not say it; `started_from` keeps what they say
    seen = {task: known.get(task, 0) + learner.seen.get(task, 0) for task in learner.module.tasks}
    earlier = before["data"] if isinstance(before.get("data"), dict) else {}
    data = {task: _with_earlier(earlier.get(task), data_of(plan, learner.albums[task])) for task, plan in tasks.items()}
    low, high = protocol.snr_range
    facts = {
        "system": learner.name,
        "size": learner.size,
        "images_seen": seen,
        "steps": learner.step,
        "minutes": None if learner.minutes is None else round(seconds / 60, 2),
        "seed": protocol.seed,
        "snr_db": [low, high],  # equal if the protocol fixes the SNR
        "config": getattr(learner.module.config, "__dict__", {}),
        "protocol": protocol_of(learner),
        "precision": resolve(protocol.autocast, learner.world.device),
        "data": {**earlier, **data},
        "validation": rows,
        "licence": protocol.licence,
    }
    if before:
        facts["started_from"] = {key: before[key] for key in _HISTORY if key in before}
        facts |= {"notes": before["notes"]} if "notes" in before else {}
        licences = [*str(before.get("licence", protocol.licence)).split("; "), protocol.licence]
        facts["licence"] = "; ".join(dict.fromkeys(licences))
    return facts


def data_of(plan: TaskProtocol, album: Album) -> dict[str, Any]:
    """What one task was trained on. `packs` is the sha256 of each pack that pictures came from: what `sources` names is
    then as this file says.
    """
    packs = sorted({picture.pack for picture in album.training} - {""})
    return {
        "sources": list(plan.sources),
        "pictures": len(album),
        "sha256_of_contents": album.digest,
        **({"packs": packs} if packs else {}),
    }


def _with_earlier(told: Any, now: dict[str, Any]) -> dict[str, Any]:
    """`now`, with the sources and packs that the sidecar of the training before told of the same task."""
    told = told if isinstance(told, dict) else {}
    lists = {key: [*_texts(told.get(key)), *now.get(key, [])] for key in ("sources", "packs")}
    return now | {key: list(dict.fromkeys(names)) for key, names in lists.items() if names}


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
