"""What `python -m bench train` does: builds systems, reads pictures once, trains, and writes weights with their
sidecars."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import baselines  # noqa: F401  (registers the baselines)
from bench.data import default_data_root
from bench.spec.identity import is_learned
from bench.training.crops import Pictures
from bench.training.protocol import Protocol, read_protocol
from bench.training.teacher import load_teacher
from bench.training.trainer import Trainer, World, reconstruction_psnr
from bench.util.environment import git_commit
from systems import registry, zoo
from systems.errors import UserError
from systems.learned import fill_from

FLOOR = "linear"  # the system whose statistics others start from, and below which they count as undertrained


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
    **overrides,
) -> list[Path]:
    """Train each named system by one protocol, or by `tasks` of it alone; gives the weight files.

    systems: None for all that have one of the tasks. A run in `out` that was stopped is resumed.
    """
    if threads:
        torch.set_num_threads(threads)
    plan = read_protocol(protocol, tasks, **overrides)
    if overrides.get("teacher") and not any(entry.distill for entry in plan.tasks.values()):
        raise UserError(
            f"--teacher has no effect: no task of the protocol trained here has `distill` ({', '.join(plan.tasks)})"
        )
    if systems is None:
        systems = _all_of(plan)
    for name in systems:
        if not registry.find(name, parts=True).fitted and not is_learned(name):
            raise UserError(
                f"{name} has nothing to train; learned systems are "
                + ", ".join(entry.name for entry in registry.trainables())
            )
    root = data_root or default_data_root()
    out = out or Path("results") / "training"
    written = []
    with World.join(device) as world:
        data: dict[str, Pictures] = {}
        for name in systems:
            folder = out / f"{name}-{size}"
            folder.mkdir(parents=True, exist_ok=True)
            if registry.find(name, parts=True).fitted:
                if world.rank == 0:
                    written.append(_fit(name, plan, root, folder))
                continue
            module = _build(name, size, plan.start)
            for task in module.tasks:
                if task in plan.tasks and task not in data:
                    data[task] = _pictures(plan, task, root)
            trainer = Trainer(module, name, size, plan, data, folder, world, _teacher(plan, module, root, world.device))
            if trainer.load_state() and world.rank == 0:
                print(f"{name}: resuming at step {trainer.step} of {len(trainer.schedule)}", file=sys.stderr)
            trainer.run(max_steps)
            if trainer.step == len(trainer.schedule) and world.rank == 0:
                path = folder / f"{name}-{size}.safetensors"
                facts = {
                    **trainer.facts(),
                    "knowledge": _knowledge(plan, module, trainer.teacher),
                    "commit": git_commit(),
                }
                facts |= {
                    key: module.facts[key] for key in ("linear_validation", "undertrained") if key in module.facts
                }
                if "reconstruction" in trainer.tasks and trainer.rows:
                    floor = reconstruction_psnr(
                        registry.create(FLOOR), data["reconstruction"], plan.tasks["reconstruction"], plan.channel
                    )
                    # A learned system below the best linear code has not been trained far enough to be judged.
                    facts |= {
                        "linear_validation": floor,
                        "undertrained": any(trainer.rows[-1][key] < floor[key] for key in floor),
                    }
                zoo.save_weights(path, trainer.weights(), facts)
                written.append(path)
    return written


def _all_of(plan: Protocol) -> list[str]:
    """Every system with one of the protocol's tasks; those that others start from come first."""
    return [entry.name for entry in registry.trainables() if set(registry.tasks_of(entry.name)) & set(plan.tasks)]


def _build(name: str, size: str, start: str):
    """The network as training finds it: from scratch, beside the statistics of `linear`, or with the weights that
    ship."""
    origin, _, other = start.partition(":")
    if origin not in ("none", "shipped") or (other and origin == "none"):
        raise UserError(f"unknown start {start!r} in the protocol; it is none or shipped, or shipped:SIZE")
    system = registry.find(name, parts=True).load()(name=name, size=size, checkpoint="none")
    if origin == "shipped":  # into the network as training builds it, with the backbone's first stages frozen
        system.facts, system.variant = fill_from(system, name, other or size, origin)
    else:
        system.start_from_klt(registry.create(FLOOR).klt)
    return system


def _teacher(plan: Protocol, module, root: Path, device: str):
    """The protocol's teacher, where the system takes part in a task that is distilled; FCN is not its own."""
    wanted = any(plan.tasks[task].distill for task in module.tasks if task in plan.tasks)
    if plan.teacher == "none" or not wanted or plan.teacher == module.name:
        return None
    return load_teacher(plan.teacher, root, device)


def _knowledge(plan: Protocol, module, teacher) -> str:
    """What a system knew besides the training pictures: a column of the tables."""
    parts = [*module.knowledge()]
    if not module.sends and any(entry.coded for entry in plan.tasks.values()):
        parts.append("crops as JPEG leaves them")
    if teacher is not None:
        kind = "" if plan.teacher.endswith(".tflite") else f"{plan.teacher} "
        parts.append(f"soft labels of {kind}{teacher.variant}")
    return "; ".join(parts) or "none"


def _pictures(plan: Protocol, task: str, root: Path) -> Pictures:
    entry = plan.tasks[task]
    largest = max(stage.crop for stage in entry.stages)
    return Pictures(entry.sources, root, task == "segmentation", plan.holdout, max(largest, 224))


def _fit(name: str, plan: Protocol, root: Path, folder: Path) -> Path:
    """The statistics of a system without a network, from the training pictures of its task."""
    kind = registry.find(name).load()
    if kind.fitted_task not in plan.tasks:
        raise UserError(
            f"{name} is fitted to pictures of {kind.fitted_task}, which the protocol does not train; leave {name} out"
        )
    pictures = _pictures(plan, kind.fitted_task, root)
    state = kind.fit(torch.from_numpy(p.pixels).permute(2, 0, 1).float() / 255 for p in pictures.training)
    path = folder / f"{name}-{kind.fitted_size}.safetensors"
    facts = {
        "system": name,
        "size": kind.fitted_size,
        "images_seen": {kind.fitted_task: len(pictures.training)},
        "licence": plan.licence,
        "commit": git_commit(),
        "knowledge": kind.fitted_knowledge,
        "data": {
            kind.fitted_task: {
                "sources": plan.tasks[kind.fitted_task].sources,
                "pictures": len(pictures.training),
                "sha256_of_contents": pictures.digest,
            }
        },
    }
    zoo.save_weights(path, state, facts)
    return path
