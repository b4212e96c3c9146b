"""Compute cells: the worker that every engine calls with a task of the plan (`bench.sweep.plan`), or with a check
before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data import Dataset, open_dataset
from bench.measure.audit import Spent, audit, audit_output
from bench.measure.channel import transmit
from bench.measure.metrics.scores import (
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
from bench.measure.seeds import draw_seed
from bench.results.store import SAMPLE_COLUMNS, SCHEMA, RunStore, StorageError
from bench.spec.figure import make_budget
from bench.spec.identity import build
from bench.sweep.engines import Outcome
from bench.sweep.plan import Cell, Reading, Task, Trial
from systems import cache as memo
from systems import registry
from systems import timing as stopwatch
from systems.errors import AuditError, UserError
from systems.interface import Link, System, Transmission
from systems.zoo import seeded

#: A batch holds at most so many, unless --batch says otherwise: on a CPU what its caches hold, on a GPU what fills it.
BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 22}
SCORES_KEPT = 512  # of outputs after rounding: a digital link delivers few different ones over a sweep
_REPORT_COLUMNS = {
    "payload_bits", "header_bits", "coded_bits", "mcs", "source_scale",
    "status", "stop_reason", "n_bits", "n_bit_errors", "n_blocks", "n_block_errors",
}  # fmt: skip


@dataclass
class Batch:
    """Pictures of one size: images float32 (B, 3, H, W) in [0, 1] on the device, the same as uint8, masks (B, H, W)."""

    ids: tuple[str, ...]
    images: Tensor
    reference: Tensor
    masks: Tensor | None


@dataclass
class Sent:
    """A batch that has left the transmitter, audited; `seconds` a picture."""

    transmission: Transmission
    spent: Spent
    seconds: float


@dataclass
class Delivered:
    """What the receiver made of a batch at one point: pictures or labels as uint8 on the CPU; times in seconds a
    picture."""

    sent: Sent
    seeds: list[int]
    output: Tensor
    report: dict[str, list]
    channel_s: float
    decode_s: float
    together: int  # pictures decoded at once


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
    _apart: set[tuple[str, str]] = field(
        default_factory=set, repr=False
    )  # systems and tasks known to pass nothing aside
    _ready: tuple[Task, list[Batch], list[Callable[[Cell], Sent]]] | None = field(default=None, repr=False)
    _scores: memo.Memo = field(default_factory=lambda: memo.Memo(SCORES_KEPT), repr=False)

    def __getstate__(self) -> dict:
        return {
            **self.__dict__,
            "_built": {},
            "_opened": {},
            "_apart": set(),
            "_ready": None,
            "_scores": memo.Memo(SCORES_KEPT),
        }

    def place(self, index: int) -> None:
        """Worker number `index` of several takes its own GPU."""
        if self.device == "cuda":
            self.device = f"cuda:{index % torch.cuda.device_count()}"

    def __call__(self, task: Task | Reading | Trial) -> Iterator[Outcome]:
        """Compute the task's cells, those that share a batch together. Each outcome takes along where the time went."""
        for outcome in self._outcomes(task) if isinstance(task, Task) else [self._checked(task)]:
            yield replace(outcome, spent=stopwatch.take())

    def _checked(self, check: Reading | Trial) -> Outcome:
        """Failed where something is the user's to mend. Another fault of a system is none here: its cells will say
        so."""
        try:
            with stopwatch.stage("preflight"):
                if isinstance(check, Reading):
                    for image_id in check.image_ids:
                        self._dataset(check.dataset).load(image_id)
                else:
                    self._try(check)
        except Exception as error:
            return _failed(check, error)
        return Outcome(check.id, "done")

    def _try(self, trial: Trial) -> None:
        system = self._system(trial.system)
        for task, image_ids, (lowest, highest) in trial.points:
            for image_id, snr_db in product(
                image_ids, sorted({lowest, highest}) if system.encoder_sees_snr else [highest]
            ):
                image = self._dataset(task.dataset).load(image_id).image[None].to(self.device).float() / 255
                with torch.inference_mode(), seeded(0):
                    try:
                        system.encode(image, _link(task, *image.shape[2:], snr_db=snr_db))
                    except UserError:
                        raise
                    except Exception:  # that of one point must not hide the user's at another
                        continue

    def _outcomes(self, task: Task) -> Iterator[Outcome]:
        try:
            with torch.inference_mode():
                system = self._system(task.system)
                batches, senders = self._prepared(system, task)
                self._hold_apart(system, task, batches[0], senders[0])
        except Exception as error:
            for cell in task.cells:
                yield _failed(cell, error)
            return
        for group in self._groups(system, task, batches):
            wanted = [cell for cell in group if cell in task.cells]
            if not wanted:
                continue
            try:
                rows = self._compute(system, task, group, batches, senders)
            except Exception as error:
                if len(group) == 1:
                    yield _failed(group[0], error)
                    continue
                rows = {}  # one point that fails must not take those beside it along: each alone
            for cell in wanted:
                try:
                    done = rows[cell] if rows else self._compute(system, task, [cell], batches, senders)[cell]
                    with stopwatch.stage("store"):
                        self._write(task, cell, batches, *done)
                    yield Outcome(cell.id, "done")
                except StorageError as error:
                    yield Outcome(cell.id, "fatal", str(error), users=True)
                    return
                except Exception as error:
                    yield _failed(cell, error)

    def _prepared(self, system: System, task: Task) -> tuple[list[Batch], list[Callable[[Cell], Sent]]]:
        """Pictures and what is sent of them: those of the task before, where this is another piece of it."""
        if self._ready is None or self._ready[0] != task.inputs:
            self._ready = None  # never two at once
            with stopwatch.stage("data"):
                batches = self._batches(task)
            with stopwatch.stage("encode"):
                senders = [self._sender(system, task, batch) for batch in batches]
            self._ready = (task.inputs, batches, senders)
        return self._ready[1:]

    def _hold_apart(self, system: System, task: Task, batch: Batch, sender: Callable[[Cell], Sent]) -> None:
        """A third party's receiver must make the same of the symbols in an instance that never saw the pictures;
        AuditError where
        it does not. Those of the bench are held to it by its tests."""
        if registry.is_ours(task.system) or (task.system, task.task) in self._apart:
            return
        if getattr(system, "genie", False):
            raise AuditError(
                f"audit: system {system.name}: says genie, which lifts a rule; the bench's own bounds alone may"
            )
        twin = build(task.system, self.systems[task.system]).to(self.device)
        cell = task.cells[0]
        link = _link(task, *batch.images.shape[2:], snr_db=cell.snr_db)
        seeds = self._seeds(task, batch.ids, cell.snr_db, cell.rep, "channel")
        received, outputs = transmit(sender(cell).transmission, link, seeds), []
        for one in (system, twin):
            with self._random(seeds[0]):
                try:
                    outputs.append(one.decode(received, link).output)
                except Exception as error:
                    if one is twin:
                        raise AuditError(
                            f"audit: system {system.name}: its receiver fails in an instance that did not encode "
                            f"({type(error).__name__}: {error})"
                        ) from error
                    return  # the cell will say so
        if outputs[0].shape != outputs[1].shape or not torch.allclose(*outputs, rtol=1e-4, atol=1e-4, equal_nan=True):
            raise AuditError(
                f"audit: system {system.name}: its receiver makes something else of the same symbols in an instance "
                "that did not encode them; something passes from encode to decode beside the transmission"
            )
        self._apart.add((task.system, task.task))

    def _groups(self, system: System, task: Task, batches: list[Batch]) -> Iterator[Sequence[Cell]]:
        """Points that go through the decoder in one batch: a function of the plan and the options, not of what is
        left."""
        points, per = task.points or task.cells, 1
        if system.joins_snr:
            per = max(1, min(self._batch_size(*batch.images.shape[2:]) // len(batch.ids) for batch in batches))
        return (points[start : start + per] for start in range(0, len(points), per))

    def _compute(
        self,
        system: System,
        task: Task,
        group: Sequence[Cell],
        batches: list[Batch],
        senders: list[Callable[[Cell], Sent]],
    ) -> dict[Cell, tuple[list[dict[str, Any]], dict[str, np.ndarray]]]:
        """Rows of the group's cells, and outputs of the pictures that they keep."""
        rows: dict[Cell, list] = {cell: [] for cell in group}
        kept: dict[Cell, dict[str, np.ndarray]] = {cell: {} for cell in group}
        with torch.inference_mode():
            for batch, sender in zip(batches, senders, strict=True):
                with stopwatch.stage("encode"):
                    sent = [sender(cell) for cell in group]
                for cell, delivered in zip(group, self._deliver(system, task, group, batch, sent), strict=True):
                    with stopwatch.stage("metrics"):
                        rows[cell] += self._measure(system, task, cell, batch, delivered)
                    for image_id, output in zip(batch.ids, delivered.output, strict=True):
                        if image_id in cell.pictures:
                            kept[cell][image_id] = output.numpy()
        order = {image_id: index for index, image_id in enumerate(task.image_ids)}
        return {cell: (sorted(own, key=lambda row: order[row["image_id"]]), kept[cell]) for cell, own in rows.items()}

    def _write(
        self, task: Task, cell: Cell, batches: list[Batch], rows: list[dict], kept: dict[str, np.ndarray]
    ) -> None:
        store, name = RunStore(self.root), self._dataset(task.dataset).name
        palette = _palette() if task.task == "segmentation" else None
        for batch in batches:
            for index, image_id in enumerate(batch.ids):
                if image_id in kept:
                    pixels = kept[image_id] if palette else np.ascontiguousarray(kept[image_id].transpose(1, 2, 0))
                    store.write_picture(task.picture_file(name, image_id, cell), pixels, palette)
                    _write_references(store, name, image_id, batch, index)
        store.write_cell(cell.id, rows)

    def _system(self, name: str) -> System:
        if name not in self._built:
            with stopwatch.stage("start-up"):
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
            step = self._batch_size(height, width)
            for start in range(0, len(samples), step):
                part = samples[start : start + step]
                reference = torch.stack([sample.image for sample in part])
                masks = torch.stack([s.mask for s in part]) if task.task == "segmentation" else None
                images = reference.to(self.device).float() / 255
                batches.append(Batch(tuple(sample.image_id for sample in part), images, reference, masks))
        return batches

    def _batch_size(self, height: int, width: int) -> int:
        """Pictures at once."""
        return self.batch or max(1, BATCH_PIXELS[torch.device(self.device).type] // (height * width))

    def _seeds(self, task: Task, ids: tuple[str, ...], snr_db: float, rep: int, stream: str) -> list[int]:
        name = self._dataset(task.dataset).name
        return [draw_seed(self.seed, name, image_id, task.channel, snr_db, rep, stream) for image_id in ids]

    def _sender(self, system: System, task: Task, batch: Batch) -> Callable[[Cell], Sent]:
        """Does what serves every point of the sweep, and gives the rest: the whole of it where the encoder sees no
        SNR."""
        # NaN, so that an encoder that looks at an SNR it must not see is caught by the audit.
        blind = _link(task, *batch.images.shape[2:], snr_db=math.nan)
        send, seconds = self._timed(lambda: system.prepare(batch.images, blind), task, batch, 0.0, 0)

        def at(snr_db: float, rep: int) -> Sent:
            link = blind.at(snr_db=snr_db)
            # The SNR of an encoder that sees none has no part in its seed either.
            seed_snr = 0.0 if math.isnan(snr_db) else snr_db
            transmission, more = self._timed(lambda: send(link), task, batch, seed_snr, rep)
            return Sent(transmission, audit(system, transmission, link), (seconds + more) / len(batch.ids))

        if system.encoder_sees_snr:
            return lambda cell: at(cell.snr_db, cell.rep)
        once = at(math.nan, 0)
        return lambda cell: once

    def _timed(self, work: Callable[[], Any], task: Task, batch: Batch, snr_db: float, rep: int) -> tuple[Any, float]:
        """The encoder's work under its own random stream, and its seconds."""
        with self._random(self._seeds(task, batch.ids, snr_db, rep, "encoder")[0]):
            start = self._now()
            done = work()
            return done, self._now() - start

    def _deliver(
        self, system: System, task: Task, group: Sequence[Cell], batch: Batch, sent: list[Sent]
    ) -> Iterator[Delivered]:
        """One batch through channel and decoder at all points of the group at once."""
        count, together = len(batch.ids), len(batch.ids) * len(group)
        link = _link(task, *batch.images.shape[2:], snr_db=group[0].snr_db)
        if len(group) > 1:
            link = link.at(snr_db=torch.tensor([cell.snr_db for cell in group]).repeat_interleave(count))
        seeds = [self._seeds(task, batch.ids, cell.snr_db, cell.rep, "channel") for cell in group]
        with stopwatch.stage("channel"):
            start = self._now()
            received = transmit(
                _joined([one.transmission for one in sent]), link, [seed for own in seeds for seed in own]
            )
            channel_s = (self._now() - start) / together
        draws = self._seeds(task, batch.ids, group[0].snr_db, group[0].rep, "decoder")
        with stopwatch.stage("decode"), self._random(draws[0]):
            memo.take_saved()
            start = self._now()
            decoded = system.decode(received, link)
            decode_s = (self._now() - start + memo.take_saved()) / together
            audit_output(system, decoded, link, together)
            told = _columns_of(decoded.report, together)
            if task.task == "reconstruction":
                output = to_uint8(decoded.output).cpu()
            else:
                output = decoded.output.argmax(dim=1).to(torch.uint8).cpu()
        for index, own in enumerate(sent):
            rows = slice(index * count, (index + 1) * count)
            report = {key: values[rows] for key, values in told.items()}
            yield Delivered(own, seeds[index], output[rows], report, channel_s, decode_s, together)

    def _measure(
        self, system: System, task: Task, cell: Cell, batch: Batch, delivered: Delivered
    ) -> list[dict[str, Any]]:
        """A row a picture."""
        dataset, sent, count = self._dataset(task.dataset), delivered.sent, len(batch.ids)
        height, width = batch.reference.shape[2:]
        report = {**_columns_of(sent.transmission.report, count), **delivered.report}
        bits_per_use = system.bits_per_use or make_budget(task.cbr, task.bits, height, width).analog_bits_per_use
        rows = []
        for index, image_id in enumerate(batch.ids):
            row: dict[str, Any] = {
                "schema": SCHEMA, "cell_id": cell.id, "system": task.system, "variant": system.variant,
                "task": task.task, "dataset": dataset.name, "image_id": image_id, "height": height, "width": width,
                "rep": cell.rep, "seed": delivered.seeds[index], "channel": task.channel, "csi": "perfect",
                "snr_def": "esn0",
                "snr_db": cell.snr_db, "tx_power": sent.spent.tx_power[index], "cbr_target": task.cbr,
                "bits_target": task.bits, "budget_uses": sent.spent.budget_uses,
                "n_source": 3 * height * width,
                "n_uses": sent.spent.n_uses, "cbr": sent.spent.cbr, "bits_per_use": float(bits_per_use),
                "bits": float(sent.spent.n_uses * bits_per_use), "side_bits": sent.spent.side_bits,
                "side_uses": sent.spent.side_uses, "status": "ok", "encode_s": sent.seconds,
                "channel_s": delivered.channel_s, "decode_s": delivered.decode_s, "batch": delivered.together,
                "device": self.device,
            }  # fmt: skip
            row |= {key: values[index] for key, values in report.items()}
            if system.bits_per_use is None and row.get("coded_bits"):  # a digital system that chooses its constellation
                row["bits"] = float(row["coded_bits"])
                row["bits_per_use"] = row["bits"] / sent.spent.symbol_uses
            output, key = (
                delivered.output[index],
                (dataset.name, image_id, memo.digest(delivered.output[index].numpy())),
            )
            if task.task == "reconstruction":
                row |= self._scores.get(key, partial(_picture_scores, batch.reference[index], output))
            else:
                row |= self._scores.get(key, partial(_label_scores, output, batch.masks[index]))
            rows.append(row)
        memo.take_saved()  # of the scores: no cost of a system's
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


def _link(task: Task, height: int, width: int, snr_db: float) -> Link:
    budget = make_budget(task.cbr, task.bits, height, width)
    return Link(task.task, height, width, budget, task.channel, snr_db, task.requirement)


def _failed(cell: Cell, error: Exception) -> Outcome:
    users = isinstance(error, UserError)
    lines = str(error).strip().splitlines() or ["no message"]
    text = lines[0] if users else f"{type(error).__name__}: {lines[0]}"
    return Outcome(cell.id, "failed", text[:500], users)


def _columns_of(report: dict[str, list], count: int) -> dict[str, list]:
    """What a system reports that is a column of the table, a value a picture. ValueError where it is not."""
    own = {key: values for key, values in report.items() if key in _REPORT_COLUMNS}
    for key, values in own.items():
        if len(values) != count:
            raise ValueError(f"report {key!r} has {len(values)} values for {count} pictures")
    return own


def _joined(transmissions: list[Transmission]) -> Transmission:
    """Several batches as one; reports stay behind."""
    if len(transmissions) == 1:
        return transmissions[0]
    symbols, side_info = ([getattr(sent, name) for sent in transmissions] for name in ("symbols", "side_info"))
    return Transmission(torch.cat(symbols), torch.cat(side_info))


def _picture_scores(reference: Tensor, output: Tensor) -> dict[str, Any]:
    """Of one picture, uint8 (3, H, W): alone, so that no digit depends on the batch."""
    reference, output = reference[None], output[None]
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
