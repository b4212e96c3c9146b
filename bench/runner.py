"""Plan cells, compute them, and put the tables together.

A cell is one system on one block of pictures at one operating point and repetition: the unit of caching and resume. Its
id is a hash of everything that decides its rows, so a cell that is on disk is never computed again, and one whose
weights, pictures or source changed always is. A task is the cells of one system and block: its pictures are encoded
once for the whole sweep wherever the encoder does not see the SNR.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.audit import Spent, audit, audit_output
from bench.channel import transmit
from bench.data import Dataset, open_dataset
from bench.engines import Outcome
from bench.experiment import Experiment, make_budget
from bench.metrics import (
    confusion,
    intersections_unions,
    lpips,
    miou,
    ms_ssim,
    mse_per_image,
    pixel_accuracy,
    psnr_db,
    to_uint8,
)
from bench.provenance import SystemFacts, build
from bench.seeds import draw_seed
from bench.store import SAMPLE_COLUMNS, SCHEMA, RunStore, StorageError
from systems.errors import UserError
from systems.interface import Budget, Link, System, Transmission
from systems.zoo import seeded

BLOCK = 8  # pictures a cell; never a function of the number of workers
BATCH_PIXELS = 1 << 20  # a batch holds at most so many, unless --batch says otherwise
PREFLIGHT_PARAMETERS = 100_000_000  # above this, building and encoding once more costs too much
_REPORT_COLUMNS = {
    "payload_bits", "header_bits", "coded_bits", "mcs", "source_scale",
    "status", "stop_reason", "n_bits", "n_bit_errors", "n_blocks", "n_block_errors",
}  # fmt: skip


# ---------------------------------------------------------------- the plan


@dataclass(frozen=True)
class Cell:
    """One operating point and repetition of a task. `pictures`: images whose output is kept as PNG."""

    id: str
    snr_db: float
    rep: int
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What a worker is given: one system, one block of pictures, and the cells wanted of them."""

    system: str
    task: str
    dataset: str  # the spec that opens it
    image_ids: tuple[str, ...]
    channel: str
    cbr: float | None
    bits: int | None
    requirement: str
    cells: tuple[Cell, ...]

    def picture_file(self, dataset: str, image_id: str, cell: Cell) -> str:
        """Where the PNG of one output lies, relative to the run."""
        return RunStore.picture_name(dataset, image_id, f"{self.system}-{cell.snr_db:g}dB-{cell.id[:8]}")


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, in the order of its tables. `datasets`: by the spec that the figures use."""

    figures: tuple[Experiment, ...]
    tasks: tuple[Task, ...]
    datasets: dict[str, Dataset]
    systems: dict[str, SystemFacts]

    @property
    def cells(self) -> list[tuple[Task, Cell]]:
        """Every cell with its task."""
        return [(task, cell) for task in self.tasks for cell in task.cells]


def cell_id(facts: SystemFacts, dataset: str, fingerprint: str, task: Task, snr_db: float, rep: int, seed: int) -> str:
    """First 16 hex digits of the sha256 of all that decides a cell's rows; `dataset` is its name, not what opens it."""
    key = {
        "schema": SCHEMA,
        "system": facts.identity,
        "task": task.task,
        "dataset": dataset,
        "fingerprint": fingerprint,
        "block": task.image_ids,
        "channel": task.channel,
        "snr_db": float(snr_db),
        "cbr": task.cbr,
        "bits": task.bits,
        "rules": [Budget(uses=1).analog_bits_per_use, Budget(uses=1).side_info_bits_per_use],
        "requirement": task.requirement,
        "rep": rep,
        "base_seed": seed,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def make_plan(
    figures: tuple[Experiment, ...], datasets: dict[str, Dataset], systems: dict[str, SystemFacts], seed: int
) -> Plan:
    """All cells of the figures; what two figures share is planned once."""
    tasks: dict[Any, dict] = {}
    for figure in figures:
        dataset = datasets[figure.dataset]
        shown = dataset.ids[: figure.pictures.limit]
        for system in figure.systems:
            for start in range(0, len(dataset.ids), BLOCK):
                block = dataset.ids[start : start + BLOCK]
                key = Task(system, figure.task, figure.dataset, block, figure.channel, figure.cbr, figure.bits,
                           figure.requirement, ())  # fmt: skip
                cells = tasks.setdefault(key, {})
                for snr_db in figure.snr_db:
                    for rep in range(figure.reps):
                        keep = shown if rep == 0 and snr_db in figure.pictures.snr_db else ()
                        before = cells.get((snr_db, rep), ())
                        cells[snr_db, rep] = tuple(i for i in block if i in keep or i in before)
    sets = {spec: (dataset.name, dataset.fingerprint()) for spec, dataset in datasets.items()}
    planned = []
    for task, cells in tasks.items():
        ids = {point: cell_id(systems[task.system], *sets[task.dataset], task, *point, seed) for point in cells}
        planned.append(replace(task, cells=tuple(Cell(ids[point], *point, cells[point]) for point in sorted(cells))))
    return Plan(figures, tuple(planned), datasets, systems)


def missing(plan: Plan, store: RunStore) -> list[Task]:
    """The plan's tasks with the cells that are not on disk, whole and with their pictures."""
    left = []
    store.look()
    for task in plan.tasks:
        name = plan.datasets[task.dataset].name
        cells = tuple(
            cell
            for cell in task.cells
            if not store.has_cell(cell.id, task.image_ids)
            or not all((store.root / task.picture_file(name, image_id, cell)).is_file() for image_id in cell.pictures)
        )
        if cells:
            left.append(replace(task, cells=cells))
    return left


def only(tasks: list[Task], ids: set[str]) -> list[Task]:
    """The tasks cut to some cells."""
    cut = (replace(task, cells=tuple(cell for cell in task.cells if cell.id in ids)) for task in tasks)
    return [task for task in cut if task.cells]


def schedule(tasks: list[Task], plan: Plan, workers: int) -> list[Task]:
    """The order of work: heavy tasks first, and tasks split at operating points until every worker has several.

    A split costs a second encoding of the block, never another row: cells do not know which task they came in.
    """

    def weight(task: Task) -> float:
        pixels = sum(math.prod(plan.datasets[task.dataset].size(image_id)) for image_id in task.image_ids)
        return pixels * len(task.cells) * (1 + plan.systems[task.system].parameters / 1e5)

    tasks = sorted(tasks, key=weight, reverse=True)
    while workers > 1 and tasks and len(tasks) < 4 * workers and len(tasks[0].cells) > 1:
        first = tasks.pop(0)
        half = len(first.cells) // 2
        tasks += [replace(first, cells=first.cells[:half]), replace(first, cells=first.cells[half:])]
        tasks.sort(key=weight, reverse=True)
    return tasks


def preflight(plan: Plan, tasks: list[Task]) -> None:
    """Find the user's errors before anything is written: pictures that cannot be read, budgets that hold nothing.

    Every picture is read once, and every system (the very large aside) encodes the smallest one at each of its budgets;
    under a budget in bits also the largest, which has the fewest bits a pixel. Where the encoder sees the SNR, it does
    so at the lowest and the highest one.
    """
    smallest: dict[str, Tensor] = {}
    largest: dict[str, Tensor] = {}
    for task in tasks:
        if task.dataset in smallest:
            continue
        dataset = plan.datasets[task.dataset]
        for sample in dataset:
            if task.task == "segmentation" and sample.mask is None:
                raise UserError(f"data set {dataset.name!r} has no masks; segmentation needs them")
            if task.dataset not in smallest or sample.image.numel() < smallest[task.dataset].numel():
                smallest[task.dataset] = sample.image
            if task.dataset not in largest or sample.image.numel() > largest[task.dataset].numel():
                largest[task.dataset] = sample.image
    points: dict[tuple[str, Task], set[float]] = {}
    for task in tasks:
        key = (task.system, replace(task, image_ids=(), cells=()))
        points.setdefault(key, set()).update(cell.snr_db for cell in task.cells)
    for name in dict.fromkeys(name for name, _ in points):
        facts = plan.systems[name]
        if facts.parameters > PREFLIGHT_PARAMETERS:
            continue
        system = build(name, facts.options)
        for task, snrs in ((task, snrs) for (own, task), snrs in points.items() if own == name):
            images = {image.shape: image for image in (smallest[task.dataset], largest[task.dataset])}
            tried = list(images.values()) if task.bits is not None else [smallest[task.dataset]]
            extremes = sorted({min(snrs), max(snrs)}) if system.encoder_sees_snr else [max(snrs)]
            for image, snr_db in product(tried, extremes):
                with torch.inference_mode(), seeded(0):
                    try:
                        system.encode(image[None].float() / 255, _link(task, *image.shape[1:], snr_db=snr_db))
                    except UserError:
                        raise
                    except Exception:  # a fault of the system, not of the user: its cells will say so
                        continue


def _link(task: Task, height: int, width: int, snr_db: float) -> Link:
    budget = make_budget(task.cbr, task.bits, height, width)
    return Link(task.task, height, width, budget, task.channel, snr_db, task.requirement)


# ---------------------------------------------------------------- the work


@dataclass
class Batch:
    """Pictures of one size: images float32 (B, 3, H, W) in [0, 1] on the device, the same as uint8, masks (B, H, W)."""

    ids: tuple[str, ...]
    images: Tensor
    reference: Tensor
    masks: Tensor | None


@dataclass
class Sent:
    """A batch that has left the transmitter, audited."""

    transmission: Transmission
    spent: Spent
    seconds: float


@dataclass
class Worker:
    """`work(task)` of the engines: computes cells and writes them. Picklable; what it builds stays in its process."""

    root: Path
    systems: dict[str, dict[str, Any]]  # options of each
    datasets: dict[str, tuple[str | None, int | None]]  # spec -> data root, limit
    seed: int = 0
    batch: int | None = None
    device: str = "cpu"
    _built: dict[str, System] = field(default_factory=dict, repr=False)
    _opened: dict[str, Dataset] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_built": {}, "_opened": {}}

    def place(self, index: int) -> None:
        """Worker number `index` of several takes its own GPU."""
        if self.device == "cuda":
            self.device = f"cuda:{index % torch.cuda.device_count()}"

    def __call__(self, task: Task) -> Iterator[Outcome]:
        """Compute the task's cells one after another."""
        try:
            with torch.inference_mode():
                system, batches = self._system(task.system), self._batches(task)
                once = None
                if not system.encoder_sees_snr:
                    # NaN, so that an encoder that looks at the SNR all the same is caught by the audit.
                    once = [self._encode(system, task, batch, math.nan, 0) for batch in batches]
        except Exception as error:
            for cell in task.cells:
                yield _failed(cell, error)
            return
        for cell in task.cells:
            try:
                with torch.inference_mode():
                    rows = []
                    for index, batch in enumerate(batches):
                        sent = once[index] if once else self._encode(system, task, batch, cell.snr_db, cell.rep)
                        rows += self._measure(system, task, cell, batch, sent)
                RunStore(self.root).write_cell(
                    cell.id, sorted(rows, key=lambda row: task.image_ids.index(row["image_id"]))
                )
                yield Outcome(cell.id, "done")
            except StorageError as error:
                yield Outcome(cell.id, "fatal", str(error), users=True)
                return
            except Exception as error:
                yield _failed(cell, error)

    def _system(self, name: str) -> System:
        if name not in self._built:
            self._built[name] = build(name, self.systems[name]).to(self.device)
        return self._built[name]

    def _dataset(self, spec: str) -> Dataset:
        if spec not in self._opened:
            data_root, limit = self.datasets[spec]
            dataset = open_dataset(spec, data_root)
            self._opened[spec] = dataset.take(limit) if limit else dataset
        return self._opened[spec]

    def _batches(self, task: Task) -> list[Batch]:
        """Pictures of one size together, in order: batches depend on the block and the options, never on the engine."""
        dataset = self._dataset(task.dataset)
        sizes: dict[tuple[int, int], list] = {}
        for image_id in task.image_ids:
            sample = dataset.load(image_id)
            sizes.setdefault(tuple(sample.image.shape[1:]), []).append(sample)
        batches = []
        for (height, width), samples in sizes.items():
            step = self.batch or max(1, BATCH_PIXELS // (height * width))
            for start in range(0, len(samples), step):
                part = samples[start : start + step]
                reference = torch.stack([sample.image for sample in part])
                masks = torch.stack([s.mask for s in part]) if task.task == "segmentation" else None
                images = reference.to(self.device).float() / 255
                batches.append(Batch(tuple(sample.image_id for sample in part), images, reference, masks))
        return batches

    def _seeds(self, task: Task, ids: tuple[str, ...], snr_db: float, rep: int, stream: str) -> list[int]:
        name = self._dataset(task.dataset).name
        return [draw_seed(self.seed, name, image_id, task.channel, snr_db, rep, stream) for image_id in ids]

    def _encode(self, system: System, task: Task, batch: Batch, snr_db: float, rep: int) -> Sent:
        link = _link(task, *batch.images.shape[2:], snr_db=snr_db)
        # The SNR of an encoder that sees none has no part in its seed either.
        stream = self._seeds(task, batch.ids, 0.0 if math.isnan(snr_db) else snr_db, rep, "encoder")
        with self._random(stream[0]):
            start = self._now()
            transmission = system.encode(batch.images, link)
            seconds = (self._now() - start) / len(batch.ids)
        return Sent(transmission, audit(system, transmission, link), seconds)

    def _measure(self, system: System, task: Task, cell: Cell, batch: Batch, sent: Sent) -> list[dict[str, Any]]:
        """One batch through channel, decoder and metrics: a row a picture."""
        link = _link(task, *batch.images.shape[2:], snr_db=cell.snr_db)
        count = len(batch.ids)
        seeds = self._seeds(task, batch.ids, cell.snr_db, cell.rep, "channel")
        start = self._now()
        received = transmit(sent.transmission, link, seeds)
        channel_s = (self._now() - start) / count
        with self._random(self._seeds(task, batch.ids, cell.snr_db, cell.rep, "decoder")[0]):
            start = self._now()
            decoded = system.decode(received, link)
            decode_s = (self._now() - start) / count
        audit_output(system, decoded, link, count)
        output = decoded.output.cpu()

        dataset = self._dataset(task.dataset)
        report = {**sent.transmission.report, **decoded.report}
        wrong = [key for key, values in report.items() if key in _REPORT_COLUMNS and len(values) != count]
        if wrong:
            raise ValueError(f"report {wrong[0]!r} has {len(report[wrong[0]])} values for {count} pictures")
        bits_per_use = system.bits_per_use or link.budget.analog_bits_per_use
        rows = []
        for index, image_id in enumerate(batch.ids):
            row: dict[str, Any] = {
                "schema": SCHEMA, "cell_id": cell.id, "system": task.system, "variant": system.variant,
                "task": task.task, "dataset": dataset.name, "image_id": image_id,
                "height": link.height, "width": link.width,
                "rep": cell.rep, "seed": seeds[index], "channel": task.channel, "csi": "perfect", "snr_def": "esn0",
                "snr_db": cell.snr_db, "tx_power": sent.spent.tx_power[index], "cbr_target": task.cbr,
                "bits_target": task.bits, "budget_uses": sent.spent.budget_uses,
                "n_source": 3 * link.height * link.width,
                "n_uses": sent.spent.n_uses, "cbr": sent.spent.cbr, "bits_per_use": float(bits_per_use),
                "bits": float(sent.spent.n_uses * bits_per_use), "side_bits": sent.spent.side_bits,
                "side_uses": sent.spent.side_uses, "status": "ok", "encode_s": sent.seconds, "channel_s": channel_s,
                "decode_s": decode_s, "batch": count, "device": self.device,
            }  # fmt: skip
            row |= {key: values[index] for key, values in report.items() if key in _REPORT_COLUMNS}
            if system.bits_per_use is None and row.get("coded_bits"):  # a digital system that chooses its constellation
                row["bits"] = float(row["coded_bits"])
                row["bits_per_use"] = row["bits"] / sent.spent.symbol_uses
            if task.task == "reconstruction":
                row |= _picture_scores(batch.reference[index : index + 1], output[index : index + 1])
                pixels, palette = to_uint8(output[index]).permute(1, 2, 0).numpy(), None
            else:
                labels = output[index].argmax(dim=0).to(torch.uint8)
                row |= _label_scores(labels, batch.masks[index])
                pixels, palette = labels.numpy(), _palette()
            if image_id in cell.pictures:
                store = RunStore(self.root)
                store.write_picture(task.picture_file(dataset.name, image_id, cell), pixels, palette)
                _write_references(store, dataset.name, image_id, batch, index)
            rows.append(row)
        return rows

    def _random(self, seed: int):
        """Systems that draw (a diffusion sampler) draw the same on every engine; the caller's stream is left alone."""
        seed %= 2**63
        if self.device.startswith("cuda"):
            torch.cuda.manual_seed_all(seed)
        return seeded(seed)

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _failed(cell: Cell, error: Exception) -> Outcome:
    users = isinstance(error, UserError)
    lines = str(error).strip().splitlines() or ["no message"]
    text = lines[0] if users else f"{type(error).__name__}: {lines[0]}"
    return Outcome(cell.id, "failed", text[:500], users)


def _picture_scores(reference: Tensor, output: Tensor) -> dict[str, Any]:
    """Of one picture, (1, 3, H, W): alone, so that no digit depends on the batch."""
    mse = float(mse_per_image(reference, output)[0])
    similarity, distance = ms_ssim(reference, output), lpips(reference, output)
    return {
        "mse": mse,
        "psnr_db": float(psnr_db(mse)),
        "ms_ssim": None if similarity is None else float(similarity[0]),
        "lpips": None if distance is None else float(distance[0]),
    }


def _label_scores(labels: Tensor, mask: Tensor) -> dict[str, Any]:
    """Of one picture, (H, W). `confusion`: class:intersection:predicted:labelled of each class that occurs."""
    matrix = confusion(labels, mask)
    intersections, unions = intersections_unions(matrix)
    predicted, labelled = matrix.sum(axis=0), matrix.sum(axis=1)
    text = ";".join(
        f"{index}:{intersections[index]}:{predicted[index]}:{labelled[index]}"
        for index in np.flatnonzero(unions).tolist()
    )
    return {"miou": miou(matrix), "pixel_accuracy": pixel_accuracy(matrix), "confusion": text}


def _write_references(store: RunStore, dataset: str, image_id: str, batch: Batch, index: int) -> None:
    """The original, and the true labels, beside the outputs."""
    original = store.picture_name(dataset, image_id, "original")
    if not (store.root / original).is_file():
        store.write_picture(original, batch.reference[index].permute(1, 2, 0).contiguous().numpy())
    truth = store.picture_name(dataset, image_id, "truth")
    if batch.masks is not None and not (store.root / truth).is_file():
        store.write_picture(truth, batch.masks[index].numpy(), _palette())


def _palette() -> list[int]:
    from bench.data.voc import voc_palette

    return voc_palette().flatten().tolist()


assert _REPORT_COLUMNS <= set(SAMPLE_COLUMNS)
