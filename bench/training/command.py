"""What `python -m bench train` does: builds systems, reads pictures once, trains, and writes weights with their sidecars."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import baselines  # noqa: F401  (registers the baselines)
from bench.data import default_data_root
from bench.environment import git_commit
from bench.training.loop import Trainer, World, reconstruction_psnr
from bench.training.pictures import Pictures
from bench.training.protocol import Protocol, read_protocol
from systems import registry, zoo
from systems.errors import UserError
from systems.klt import BlockKLT

LICENCE = ("weights trained on photographs for research use (BSDS500, Urban100, Sun-Hays 80, PASCAL VOC 2012, COCO 2017); "
           "research use only")


def run_training(
    systems: list[str],
    protocol: str | Path = "small",
    data_root: Path | None = None,
    out: Path | None = None,
    size: str = "small",
    device: str = "cpu",
    max_steps: int | None = None,
    threads: int | None = None,
    **overrides,
) -> list[Path]:
    """Train each named system by one protocol; gives the weight files. A run in `out` that was stopped is resumed."""
    if threads:
        torch.set_num_threads(threads)
    plan = read_protocol(protocol, **overrides)
    for name in systems:
        if name not in ("linear", "fcn") and not registry.find(name).learned:
            raise UserError(f"{name} has nothing to train; learned systems are "
                            + ", ".join(entry.name for entry in registry.entries() if entry.learned) + ", fcn, and linear")
    root = data_root or default_data_root()
    out = out or Path("results") / "training"
    written = []
    with World.join(device) as world:
        data: dict[str, Pictures] = {}
        for name in systems:
            folder = out / f"{name}-{size}"
            folder.mkdir(parents=True, exist_ok=True)
            if name == "linear":
                written.append(_fit_linear(plan, root, folder))
                continue
            module = _build(name, size)
            for task in getattr(module, "tasks", ("segmentation",)):
                if task in plan.tasks and task not in data:
                    data[task] = _pictures(plan, task, root)
            teacher = _teacher(plan, name) if "segmentation" in data and "segmentation" in getattr(module, "tasks", ()) else None
            trainer = Trainer(module, name, size, plan, data, folder, world, teacher)
            if trainer.load_state() and world.rank == 0:
                print(f"{name}: resuming at step {trainer.step} of {len(trainer.schedule)}", file=sys.stderr)
            trainer.run(max_steps)
            if trainer.step == len(trainer.schedule) and world.rank == 0:
                path = folder / f"{name}-{size}.safetensors"
                knowledge = getattr(module, "knowledge", "none")
                if trainer.teacher is not None:
                    knowledge = f"{knowledge}; soft labels of {plan.teacher}" if knowledge != "none" else f"soft labels of {plan.teacher}"
                facts = {**trainer.facts(LICENCE), "knowledge": knowledge, "commit": git_commit()}
                if "reconstruction" in trainer.tasks and trainer.rows:
                    floor = reconstruction_psnr(registry.create("linear"), data["reconstruction"], plan.tasks["reconstruction"], plan.channel)
                    # A learned system below the best linear code has not been trained far enough to be judged.
                    facts |= {"linear_validation": floor, "undertrained": any(trainer.rows[-1][key] < floor[key] for key in floor)}
                zoo.save_weights(path, trainer.weights(), facts)
                written.append(path)
    return written


def _build(name: str, size: str):
    if name == "fcn":
        from baselines.fcn import FCN

        return FCN.load(size=size, checkpoint="none")
    system = registry.create(name, size=size, checkpoint="none")
    if hasattr(system, "start_from_klt") and system.config.klt_start:
        system.start_from_klt(registry.create("linear").klt)
    return system


def _teacher(plan: Protocol, name: str):
    if plan.teacher != "fcn" or name == "fcn" or not any(task.distill for task in plan.tasks.values()):
        return None
    from baselines.fcn import FCN

    return FCN.load()


def _pictures(plan: Protocol, task: str, root: Path) -> Pictures:
    entry = plan.tasks[task]
    largest = max(stage.crop for stage in entry.stages)
    return Pictures(entry.sources, root, task == "segmentation", plan.holdout, max(largest, 224))


def _fit_linear(plan: Protocol, root: Path, folder: Path) -> Path:
    """The statistics of `linear`: the covariance of 16 x 16 blocks over the reconstruction task's training pictures."""
    pictures = _pictures(plan, "reconstruction", root)
    klt = BlockKLT.fit((torch.from_numpy(p.pixels).permute(2, 0, 1).float() / 255 for p in pictures.training), 16)
    path = folder / "linear-klt16.safetensors"
    state = {"basis": klt.basis, "eigenvalues": klt.eigenvalues.log(), "mean": klt.mean}
    facts = {"system": "linear", "images_seen": {"reconstruction": len(pictures.training)}, "licence": LICENCE, "commit": git_commit(),
             "data": {"reconstruction": {"sources": plan.tasks["reconstruction"].sources, "pictures": len(pictures.training)}}}
    zoo.save_weights(path, state, facts)
    return path

