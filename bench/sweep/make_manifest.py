"""The manifest of a run: what was asked for, on which data, with which code. `bench.sweep.execute` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bench.analysis.quantity import outage_words
from bench.data import catalogue
from bench.measure.channel import CHANNELS, SNR_DEF, SNR_DEF_WORDS, csi_words
from bench.measure.metrics.table import METRICS
from bench.measure.tasks import TASKS
from bench.results.schema import SCHEMA
from bench.results.store import RunStore
from bench.spec.request import Resolved, config_sha256
from bench.spec.source_code import measure_digest
from bench.sweep.plan import Plan
from bench.util.environment import git_state, host_facts, versions, without_paths
from bench.util.files import shown


def make_manifest(
    resolved: Resolved,
    config: dict[str, Any],
    plan: Plan,
    store: RunStore,
    argv: Sequence[str],
    engine: dict[str, Any],
    salt_is: str,
) -> dict[str, Any]:
    """The manifest of a run that begins or continues. `end`, `salt` and the counts of cells are filled in at its end.

    config: of the whole run, earlier commands included.
    salt_is: "drawn" in this session, "given" by the user, "kept" from a session that did not end, or "published" by one
    that did: noise whose salt is in a manifest is no secret.
    """
    before = store.manifest() or {}
    return {
        "schema": SCHEMA,
        "run": shown(store.root.resolve().name),
        "argv": _told(argv),
        "config": config,
        "config_sha256": config_sha256(config),
        "base_seed": resolved.request.seed,
        "salt": None,  # published when the run ends
        "limited": resolved.request.limit is not None or bool(before.get("limited")),
        "definitions": {
            "snr_def": f"{SNR_DEF}: {SNR_DEF_WORDS}",
            "csi": csi_words(unit.channel for unit in (*plan.earlier, *plan.units)),
            "n_uses": "complex channel uses, those charged for side information included",
            "bits": "n_uses x bits_per_use; an analog use counts as 4 bits; coded_bits of a varying modulation",
            "outage": f"scored as {_lost_as(plan)}; flagged and counted",
        },
        "versions": versions(),
        "git": git_state(),
        "measure": measure_digest(),
        "systems": {
            **before.get("systems", {}),
            **{name: facts.for_manifest() for name, facts in plan.systems.items()},
        },
        "datasets": {
            **before.get("datasets", {}),
            **{
                dataset.name: {
                    "fingerprint": dataset.fingerprint(),
                    "pictures": len(dataset.ids),
                    "tasks": list(dataset.tasks),
                    "demonstration": dataset.demonstration,
                    "licence": dataset.licence,
                    "description": ""
                    if dataset.name.startswith("folder:")
                    else dataset.description,  # the description of a folder contains its path
                    "files": dataset.hashes(),
                }
                for dataset in plan.datasets.values()
            },
        },
        "host": host_facts(),
        "engine": engine,
        "cells": {"expected": None, "done": None, "failed": None},
        # Cells of earlier sessions were made with the versions and options listed here.
        "sessions": [
            *before.get("sessions", []),
            {
                "start": now(),
                "argv": _told(argv),
                "versions": versions(),
                "git": git_state(),
                "engine": engine,
                "salt": salt_is,
                "inside": inside(),
            },
        ],
        "start": before.get("start") or now(),
        "end": None,
    }


def _lost_as(plan: Plan) -> str:
    """What lost pictures are scored as: "mid-grey (reconstruction), background (segmentation)"."""
    tasks = dict.fromkeys(unit.task for unit in (*plan.earlier, *plan.units))
    return ", ".join(f"{outage_words(task)} ({task})" for task in tasks)


def inside() -> list[str]:
    """Code of installed packages that runs in the process of the harness, where no audit can check it."""
    return [*(one for records in (CHANNELS, METRICS, TASKS) for one in records.foreign()), *catalogue.foreign()]


def _told(argv: Sequence[str]) -> list[str]:
    """The command line without paths, as text that UTF-8 can hold: a file's name need not be."""
    return [shown(argument, most=5000) for argument in without_paths(argv)]


def now() -> str:
    """The time in UTC, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
