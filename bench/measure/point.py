"""One batch of pictures of one system at its operating points: encode, audit, transmit, decode, score.

`bench.sweep.worker` calls it for every cell, `bench.perf` for single pictures. It knows no files and no plan, and keeps
nothing but what one transmission has in common over a sweep. `bench.perf.plain` does the same in the plainest way, and
shares none of this code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.measure.apart import RemoteSystem
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
)
from bench.measure.seeds import draw_seed
from systems import cache as memo
from systems import timing as stopwatch
from systems.interface import Budget, Link, System, Transmission
from systems.pixels import to_uint8
from systems.zoo import seeded

#: What a system may report for each picture: columns of samples.csv.
REPORT_COLUMNS = {
    "payload_bits", "header_bits", "coded_bits", "mcs", "source_scale",
    "status", "stop_reason", "n_bits", "n_bit_errors", "n_blocks", "n_block_errors",
}  # fmt: skip

_TEXTS = ("mcs", "status", "stop_reason")
_STATUS = ("ok", "outage")


class ReportError(ValueError):
    """A system reports what the table cannot hold."""


_SCORES = memo.Memo(512)  # of outputs after rounding: a digital link delivers few different ones over a sweep


@dataclass(frozen=True)
class Conditions:
    """What all points of a measurement share; `dataset` is the data set's name, a part of every seed."""

    task: str
    dataset: str
    channel: str
    cbr: float | None
    bits: int | None
    requirement: str
    seed: int = 0
    salt: str = ""

    def link(self, height: int, width: int, snr_db: float | Tensor) -> Link:
        """A link of its own for each call: what a system does to one never reaches another."""
        budget = Budget.by_rule(self.cbr, self.bits, height, width)
        return Link(self.task, height, width, budget, self.channel, snr_db, self.requirement)

    def seeds(self, ids: Sequence[str], point: Point, stream: str) -> list[int]:
        """The seed of each picture's draw at a point."""
        return [
            draw_seed(self.seed, self.dataset, one, self.channel, point.snr_db, point.rep, stream, self.salt)
            for one in ids
        ]


class Point(NamedTuple):
    """One operating point and repetition."""

    snr_db: float
    rep: int


#: Stands for the point where none is known yet: an encoder that sees no SNR works before there is one.
_ANY_POINT = Point(0.0, 0)


@dataclass
class Batch:
    """Pictures of one size: images float32 (B, 3, H, W) in [0, 1] on the device, the same as uint8, masks (B, H, W)."""

    ids: tuple[str, ...]
    images: Tensor
    reference: Tensor
    masks: Tensor | None

    @classmethod
    def of(cls, samples: Sequence[Any], task: str, device: str) -> Batch:
        """From samples of a data set, all of one size."""
        reference = torch.stack([sample.image for sample in samples])
        masks = torch.stack([sample.mask for sample in samples]) if task == "segmentation" else None
        return cls(tuple(sample.image_id for sample in samples), reference.to(device).float() / 255, reference, masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.reference.shape[2], self.reference.shape[3]


@dataclass
class Sent:
    """A batch that has left the transmitter, audited; `seconds` per picture."""

    transmission: Transmission
    spent: Spent
    seconds: float


@dataclass
class Delivered:
    """What the receiver made of a batch at one point: pictures or labels as uint8 on the CPU.

    seeds: of each picture's channel. report: per-picture lists, of `REPORT_COLUMNS` only. Times in seconds per picture.
    together: pictures that the receiver decoded at once.
    """

    sent: Sent
    seeds: list[int]
    output: Tensor
    report: dict[str, list]
    channel_s: float
    decode_s: float
    together: int


class Measurement:
    """A system under given conditions on a device."""

    def __init__(self, system: System, conditions: Conditions, device: str = "cpu"):
        self.system, self.conditions, self.device = system, conditions, device

    def sender(self, batch: Batch) -> Callable[[Point], Sent]:
        """Does what serves every point of a sweep, and gives the rest as a function of the point.

        That is the whole transmission where the encoder sees no SNR. Raises AuditError, and what the system raises.
        """
        system, count = self.system, len(batch.ids)
        # NaN, so that an encoder that looks at an SNR it must not see is caught by the audit.
        blind = self.conditions.link(*batch.size, snr_db=math.nan)
        send, seconds = self._timed(lambda: system.prepare(batch.images, blind), batch, _ANY_POINT)

        def at(snr_db: float, point: Point) -> Sent:
            link = self.conditions.link(*batch.size, snr_db=snr_db)
            transmission, more = self._timed(lambda: send(link), batch, point)
            return Sent(transmission, audit(system, transmission, link), (seconds + more) / count)

        if system.encoder_sees_snr:
            return lambda point: at(point.snr_db, point)
        # The SNR of an encoder that sees none has no part in its seed either.
        once = at(math.nan, _ANY_POINT)
        return lambda point: once

    def deliver(self, points: Sequence[Point], batch: Batch, sent: Sequence[Sent]) -> Iterator[Delivered]:
        """One batch through channel and decoder at all points at once; `sent[i]` is what was sent for `points[i]`."""
        count, together = len(batch.ids), len(batch.ids) * len(points)
        snr_db: float | Tensor = points[0].snr_db
        if len(points) > 1:
            snr_db = torch.tensor([point.snr_db for point in points]).repeat_interleave(count)
        link = self.conditions.link(*batch.size, snr_db=snr_db)
        seeds = [self.conditions.seeds(batch.ids, point, "channel") for point in points]
        with stopwatch.stage("channel"):
            start = self._now()
            joined = _joined([one.transmission for one in sent])
            received = transmit(joined, link, [seed for own in seeds for seed in own])
            channel_s = (self._now() - start) / together
        draws = self.conditions.seeds(batch.ids, points[0], "decoder")
        with stopwatch.stage("decode"), self.random(draws[0]):
            memo.take_saved()
            self._overhead()
            start = self._now()
            decoded = self.system.decode(received, link)
            decode_s = (self._now() - start - self._overhead() + memo.take_saved()) / together
            audit_output(self.system, decoded, link, together)
            told = columns_of(decoded.report, together)
            if self.conditions.task == "reconstruction":
                output = to_uint8(decoded.output).cpu()
            else:
                output = decoded.output.argmax(dim=1).to(torch.uint8).cpu()
        for index, own in enumerate(sent):
            rows = slice(index * count, (index + 1) * count)
            report = {key: values[rows] for key, values in told.items()}
            yield Delivered(own, seeds[index], output[rows], report, channel_s, decode_s, together)

    def scores(self, batch: Batch, delivered: Delivered) -> list[dict[str, Any]]:
        """The metrics of each picture, by column."""
        scores = []
        for index, output in enumerate(delivered.output):
            if self.conditions.task == "reconstruction":
                truth, work = batch.reference[index], partial(_picture_scores, batch.reference[index], output)
            else:
                assert batch.masks is not None
                truth, work = batch.masks[index], partial(_label_scores, output, batch.masks[index])
            # By content: two data sets may have one name, and an outage gives each the same grey.
            key = (self.conditions.task, memo.digest(truth.cpu().numpy()), memo.digest(output.numpy()))
            scores.append(_SCORES.get(key, work))
        memo.take_saved()  # of the scores: no cost of a system's
        return scores

    def random(self, seed: int):
        """Systems that draw (a diffusion sampler) draw the same on every engine; the caller's stream is left alone."""
        seed %= 2**63
        if self.device.startswith("cuda"):
            torch.cuda.manual_seed_all(seed)
        return seeded(seed)

    def _timed(self, work: Callable[[], Any], batch: Batch, point: Point) -> tuple[Any, float]:
        """The encoder's work under its own random stream, and its seconds."""
        with self.random(self.conditions.seeds(batch.ids, point, "encoder")[0]):
            self._overhead()
            start = self._now()
            done = work()
            return done, self._now() - start - self._overhead()

    def _overhead(self) -> float:
        """Seconds since the last call in which no system worked: a third party's process was started."""
        return self.system.take_overhead() if isinstance(self.system, RemoteSystem) else 0.0

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def columns_of(report: dict[str, list], count: int) -> dict[str, list]:
    """What a system reports that is a column of the table, a value per picture. ReportError where it is not."""
    own = {key: values for key, values in report.items() if key in REPORT_COLUMNS}
    for key, values in own.items():
        if len(values) != count:
            raise ReportError(f"report {key!r} has {len(values)} values for {count} pictures")
        for value in values:
            if key in _TEXTS:
                fits = value is None or (isinstance(value, str) and (key != "status" or value in _STATUS))
            else:
                fits = value is None or (isinstance(value, Real) and math.isfinite(value))
            if not fits:
                wanted = " or ".join(_STATUS) if key == "status" else "a text" if key in _TEXTS else "a finite number"
                raise ReportError(f"report {key!r} holds {value!r}, it must be {wanted}")
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
