"""The sidecar of trained weights: what they are, how they were trained, and with what. The trainer calls it."""

from __future__ import annotations

from typing import Any

from bench.training.learner import Learner
from bench.training.precision import resolve
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
    data = {
        task: {
            "sources": plan.sources,
            "pictures": len(learner.albums[task]),
            "sha256_of_contents": learner.albums[task].digest,
        }
        for task, plan in tasks.items()
    }
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
        "data": {**(before["data"] if isinstance(before.get("data"), dict) else {}), **data},
        "validation": rows,
        "licence": protocol.licence,
    }
    if before:
        facts["started_from"] = {key: before[key] for key in _HISTORY if key in before}
        facts |= {"notes": before["notes"]} if "notes" in before else {}
        licences = [*str(before.get("licence", protocol.licence)).split("; "), protocol.licence]
        facts["licence"] = "; ".join(dict.fromkeys(licences))
    return facts
