"""The Python interface: notebooks and scripts call it as `bench.run`, `bench.evaluate`, `bench.transmit`,
`bench.load_run`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.measure.calls import LocalEnd
from bench.measure.point import Batch, Conditions, Measurement, Point
from bench.measure.tasks import TASKS
from bench.results.find import find_run
from bench.results.reader import Run
from bench.spec.figure import check_channel, parse_cbr, parse_kbits, parse_snr
from bench.spec.grammar import split_names
from bench.spec.identity import apart, build, facts_of, tasks_of
from bench.spec.request import Request, resolve
from bench.util.devices import pick_device
from systems import registry
from systems.errors import UserError
from systems.interface import System

Images = Tensor | np.ndarray | str | Path | Sequence[str | Path]


def load_run(run: str | Path | None = None) -> Run:
    """A finished or unfinished run, with its tables as pandas frames: `.samples`, `.summary`, `.confusion`,
    `.pictures`, and `.manifest`.

    run: its folder, or its name under results/. None: the last run. Raises UserError if there is none.
    """
    return Run.open(find_run(None if run is None else str(run)))


def run(
    figures: str | Iterable[str] | None = None,
    systems: str | Iterable[str] | None = None,
    snr: Any = None,
    *,
    out: str | Path | None = None,
    engine: str = "serial",
    workers: int | None = None,
    device: str = "auto",
    options: dict[str, Any] | None = None,
    **request: Any,
) -> Run:
    """Simulate figures, as `python -m bench run` does, and return the finished run. Calling it again resumes an
    unfinished run.

    figures, systems: names, in a list or in a text with commas between. None: all.
    snr: "0:20:2", "1,4,7", or numbers, in dB.
    out: the run's folder. None: a folder under results/, named after the request.
    engine: "serial" works everywhere. "process" needs the usual `if __name__ == "__main__":` guard in a script.
    workers: number of processes. device: "auto", "cpu", "cuda" or "cuda:N".
    options: size, checkpoint, precision, code_rate, link of systems.
    request: dataset, data_root, cbr, kbits, channel, requirement, limit, reps, seed.
    Raises UserError for bad input, and RuntimeError if cells failed or the run was interrupted.
    """
    from bench.perf.flops import fill as fill_flops
    from bench.sweep.execute import execute

    asked = Request(
        figures=_names(figures, "figures"),
        systems=_names(systems, "systems"),
        snr=snr,
        options=dict(options or {}),
        **request,
    )
    result = execute(
        resolve(asked), None if out is None else Path(out), engine=engine, workers=workers, device=pick_device(device)
    )
    if not result.interrupted:
        fill_flops(result.run_dir)
    if result.exit_code:
        raise RuntimeError("; ".join(result.failure_lines()) or "the run was interrupted; the same call resumes")
    return Run.open(result.run_dir)


@torch.inference_mode()
def evaluate(
    system: str | System,
    images: Images,
    snr_db: float | Iterable[float] | str = 10.0,
    *,
    masks: Tensor | np.ndarray | None = None,
    task: str | None = None,
    channel: str = "awgn",
    cbr: Any = "1/16",
    kbits: Any = 20,
    seed: int = 0,
    device: str = "auto",
    **options: Any,
) -> pd.DataFrame:
    """Score a system on your own pictures, under the same audit as every run. One row per picture and SNR.

    system: a name, or a System object. A third party's system that is named runs in separate processes, as in a run.
    An object runs in this process, without such isolation.
    images: (B, 3, H, W) or (3, H, W), uint8 0..255 or float in [0, 1]; or paths of picture files of one size.
    snr_db: one number, several, or a range such as "0:20:2".
    masks: class ids (B, H, W), 255 for void; needed for segmentation.
    task: None: segmentation if masks are given, otherwise the system's first task.
    cbr: uses / (3HW), for reconstruction. kbits: thousands of coded bits, for segmentation.
    seed: the noise follows from it alone, so it is no secret to a system.
    options: those of the system, such as size or checkpoint.
    Raises UserError for bad input, and AuditError if the system breaks a rule.
    """
    measurement, batch = _measurement(system, images, masks, task, channel, cbr, kbits, seed, device, options)
    asked = TASKS[measurement.conditions.task]
    if batch.masks is None and asked.target == "mask":
        raise UserError(f"masks: {asked.name} is scored against class ids; give them, or call bench.transmit")
    send, rows = measurement.sender(batch), []
    for snr in parse_snr(snr_db if isinstance(snr_db, str) else _numbers(snr_db), "snr_db"):
        point = Point(snr, 0)
        sent = send(point)
        (delivered,) = measurement.deliver([point], batch, [sent])
        statuses = delivered.report.get("status", ["ok"] * len(batch.ids))
        for index, scores in enumerate(measurement.scores(batch, delivered)):
            rows.append({
                "system": measurement.facts.name, "image": batch.ids[index], "snr_db": snr,
                "n_uses": sent.spent.n_uses, "tx_power": sent.spent.tx_power[index], "status": statuses[index],
                **{key: value for key, value in scores.items() if key != "confusion"},
            })  # fmt: skip
    return pd.DataFrame(rows)


@torch.inference_mode()
def transmit(
    system: str | System,
    images: Images,
    snr_db: float = 10.0,
    *,
    task: str | None = None,
    channel: str = "awgn",
    cbr: Any = "1/16",
    kbits: Any = 20,
    seed: int = 0,
    device: str = "auto",
    **options: Any,
) -> Tensor:
    """Send pictures once and return what the receiver delivers: uint8 (B, 3, H, W), or class ids uint8 (B, H, W) for
    segmentation.

    The arguments are those of `evaluate`. task: None: the system's first task. Raises UserError and AuditError.
    """
    measurement, batch = _measurement(system, images, None, task, channel, cbr, kbits, seed, device, options)
    (snr,) = parse_snr(_numbers(snr_db), "snr_db")
    point = Point(snr, 0)
    (delivered,) = measurement.deliver([point], batch, [measurement.sender(batch)(point)])
    return delivered.output


def _measurement(
    system: str | System,
    images: Images,
    masks: Tensor | np.ndarray | None,
    task: str | None,
    channel: str,
    cbr: Any,
    kbits: Any,
    seed: int,
    device: str,
    options: dict[str, Any],
) -> tuple[Measurement, Batch]:
    """The system under the requested conditions, and the pictures as a batch on its device."""
    device = pick_device(device)
    own, tasks = _system(system, images, options, device)
    with_masks = [name for name in tasks if masks is not None and TASKS[name].target == "mask"]
    task = task or (with_masks or tasks)[0]
    if task not in tasks:
        raise UserError(f"system {own.name!r} does {', '.join(tasks)}, not {task}")
    ratio, bits = (None, parse_kbits(kbits)) if TASKS[task].budget == "kbits" else (parse_cbr(cbr), None)
    check_channel(channel)
    conditions = Conditions(task, "images", channel, ratio, bits, "", seed)
    return Measurement(LocalEnd(own, device), conditions, device), _batch(images, masks, device)


def _system(
    system: str | System, images: Images, options: dict[str, Any], device: str
) -> tuple[System, tuple[str, ...]]:
    """A system and its tasks; a third party's that is named lives in processes of its own."""
    if not isinstance(system, str):
        return system.to(device), system.tasks
    if registry.is_ours(system):
        own = build(system, options).to(device)
        return own, own.tasks
    files = [images] if isinstance(images, str | Path) else [] if isinstance(images, Tensor | np.ndarray) else images
    return apart(facts_of(system, options), [Path("results"), *map(Path, files)], device), tasks_of(system)


def _names(names: str | Iterable[str] | None, what: str) -> tuple[str, ...] | None:
    return split_names(names, what) if names is None or isinstance(names, str) else tuple(names)


def _numbers(values: float | Iterable[float]) -> list[float]:
    single = not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0  # a tensor of one number is iterable
    return [float(value) for value in ([values] if single else values)]


def _batch(images: Images, masks: Tensor | np.ndarray | None, device: str) -> Batch:
    """The pictures as a batch. Their ids are their positions, or the names of their files."""
    if isinstance(images, (str, Path)):
        images = [images]
    if isinstance(images, (Tensor, np.ndarray)):
        pictures, names = torch.as_tensor(images), None
        pictures = pictures[None] if pictures.ndim == 3 else pictures
    else:
        from bench.data import read_picture

        read = [read_picture(Path(path)) for path in images]
        if len({picture.shape for picture in read}) != 1:
            raise UserError("images: the files must be pictures of one size; call once for each size")
        pictures, names = torch.stack(read), [str(path) for path in images]
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not math.prod(pictures.shape):
        raise UserError(f"images: shape {tuple(pictures.shape)}; give (B, 3, H, W) or (3, H, W)")
    if pictures.is_floating_point():
        if not bool(((pictures >= 0) & (pictures <= 1)).all()):
            raise UserError("images: floats must lie in [0, 1]; give uint8 for 0 to 255")
        pictures = (pictures * 255).round().to(torch.uint8)
    elif pictures.dtype != torch.uint8:
        raise UserError(f"images: {pictures.dtype}; give uint8 0..255 or floats in [0, 1]")
    labels = None if masks is None else torch.as_tensor(masks)
    if labels is not None and labels.shape != (len(pictures), *pictures.shape[2:]):
        raise UserError(f"masks: shape {tuple(labels.shape)}; give (B, H, W) as the pictures have")
    ids = tuple(names or (str(index) for index in range(len(pictures))))
    return Batch(ids, pictures.to(device).float() / 255, pictures, labels)
