"""One batch of pictures of one system at its operating points: encode, audit, transmit, decode, score.

`bench.sweep.worker` calls it for every cell, `bench.measure.probe` for its diagnoses. It uses no files and no plan. It
keeps only results that several points of a sweep share, such as a transmission. `bench.perf.plain` does the same in the
simplest way, and shares none of this code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.measure import control_channel
from bench.measure.audit import Ledger, Spent, audit, audit_output, audit_report
from bench.measure.budget import budget_of
from bench.measure.calls import Encoded, End, fresh, joined, link_of_rows, rows_of
from bench.measure.seeds import NOISE_ID, draw_seed
from bench.measure.tasks import TASKS
from systems import result_cache, stage_times
from systems.errors import AuditError
from systems.interface import Decoded, Link, Transmission

LOST = "control word lost"  # the column `stop_reason`

_SCORES = result_cache.Memo(512)  # by rounded output: over a sweep, a digital link delivers few different outputs


@dataclass(frozen=True)
class Conditions:
    """What all points of a measurement share.

    task, channel: names. requirement: the request in words, "" for the task's default.
    dataset: the name that enters the seeds.
    cbr, bits, uses: one of them gives the budget.
    seed: the base seed.
    salt: see `bench.measure.seeds`. No system is ever given it.
    """

    task: str
    dataset: str
    channel: str
    cbr: float | None
    bits: int | None
    requirement: str
    seed: int = 0
    salt: str = ""
    uses: int | None = None

    def link(self, height: int, width: int, snr_db: float | Tensor) -> Link:
        """A new link for each call, so that nothing that a system does to it reaches another call.

        snr_db: one number, or one per picture, (B,).
        """
        budget = budget_of(self.channel, height, width, cbr=self.cbr, bits=self.bits, uses=self.uses)
        return Link(self.task, height, width, budget, self.channel, snr_db, self.requirement)

    def seeds(self, ids: Sequence[str], point: Point, stream: str) -> list[int]:
        """The seeds of the pictures' draws at a point. stream: what is drawn, such as "channel"."""
        return [
            draw_seed(self.seed, self.dataset, one, self.channel, point.snr_db, point.rep, stream, self.salt)
            for one in ids
        ]


class Point(NamedTuple):
    """One operating point and repetition. snr_db: in dB. rep: number of the repetition, from 0."""

    snr_db: float
    rep: int


#: Takes the place of the point while it is not known: an encoder that does not see the SNR works before it is chosen.
_ANY_POINT = Point(0.0, 0)


@dataclass
class Batch:
    """Pictures of one size.

    ids: their names.
    images: float32 (B, 3, H, W) in [0, 1], on the device.
    reference: the same pictures, uint8 (B, 3, H, W).
    masks: class ids uint8 (B, H, W), or None.
    """

    ids: tuple[str, ...]
    images: Tensor
    reference: Tensor
    masks: Tensor | None

    @classmethod
    def of(cls, samples: Sequence[Any], task: str, device: str) -> Batch:
        """A batch of samples of a data set, all of one size."""
        reference = torch.stack([sample.image for sample in samples])
        masks = torch.stack([sample.mask for sample in samples]) if TASKS[task].target == "mask" else None
        return cls(tuple(sample.image_id for sample in samples), reference.to(device).float() / 255, reference, masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.reference.shape[2], self.reference.shape[3]

    @property
    def targets(self) -> Tensor:
        """What the task's output is compared with: pictures uint8 (B, 3, H, W), or masks (B, H, W)."""
        return self.reference if self.masks is None else self.masks


@dataclass
class Sent:
    """A batch after the transmitter and the audit.

    report: lists with one value per picture, audited.
    seconds: per picture.
    """

    transmission: Transmission
    spent: Spent
    report: dict[str, list]
    seconds: float


@dataclass
class Delivered:
    """A batch as the receiver delivered it at one point.

    noise_ids: numbers of each picture's channel draw, for the tables.
    output: pictures (B, 3, H, W) or labels (B, H, W), uint8 on the CPU.
    report: lists with one value per picture, for columns of the table. `status` is always among them.
    channel_s, decode_s: seconds per picture.
    together: number of pictures that went through the channel at once.
    """

    sent: Sent
    noise_ids: list[int]
    output: Tensor
    report: dict[str, list]
    channel_s: float
    decode_s: float
    together: int


class Measurement:
    """A system under given conditions on a device.

    receiver: the end that decodes, if it is not the transmitter's.
    ledger: shared by all measurements of one system.
    """

    def __init__(
        self,
        transmitter: End,
        conditions: Conditions,
        device: str = "cpu",
        receiver: End | None = None,
        ledger: Ledger | None = None,
    ):
        self.transmitter, self.receiver = transmitter, receiver or transmitter
        self.facts, self.conditions, self.device = transmitter.facts, conditions, device
        self.task, self.ledger = TASKS[conditions.task], ledger or Ledger()

    def sender(self, batch: Batch) -> Callable[[Point], Sent]:
        """Do the part of the encoding that serves every point of a sweep, and return the rest as a function of the
        point.

        If the encoder does not see the SNR, the first part is the whole transmission. Raises AuditError, and the errors
        of the system.
        """
        count, conditions = len(batch.ids), self.conditions
        # The SNR is NaN here. If the encoder uses it, the symbols are not finite, and the audit finds this.
        blind = conditions.link(*batch.size, snr_db=math.nan)
        send, seconds = self.transmitter.prepare(
            batch.images, blind, conditions.seeds(batch.ids, _ANY_POINT, "encoder")
        )

        def at(snr_db: float, point: Point) -> Sent:
            draws = conditions.seeds(batch.ids, point, "encoder")
            encoded = send(conditions.link(*batch.size, snr_db=snr_db), draws)
            seen = snr_db if self.facts.encoder_sees_snr else None
            return self._audited(encoded, batch, conditions.link(*batch.size, snr_db=snr_db), seen, seconds / count)

        if self.facts.encoder_sees_snr:
            return lambda point: at(point.snr_db, point)
        # If the encoder does not see the SNR, its seed must not depend on it either.
        once = at(math.nan, _ANY_POINT)
        return lambda point: once

    def _audited(self, encoded: Encoded, batch: Batch, link: Link, snr_db: float | None, before: float) -> Sent:
        """Copy the bytes of a transmission and audit the copy. Exactly this copy is sent."""
        given, facts, count = encoded.transmission, self.facts, len(batch.ids)
        if not isinstance(given, Transmission) or given.side_info is None:
            raise AuditError(
                f"audit: system {facts.name}: encode returned a {type(given).__name__}, not a whole Transmission"
            )
        try:
            symbols, side_info = fresh(given.symbols, "symbols"), fresh(given.side_info, "side_info")
        except TypeError as error:
            raise AuditError(f"audit: system {facts.name}: {error}") from None
        made_for = given.side_info_snr_db
        transmission = Transmission(symbols, side_info, {}, made_for)
        spent = audit(facts, transmission, link)
        if len(symbols) != count:
            raise AuditError(
                f"audit: system {facts.name}: {len(symbols)} rows of symbols for {count} pictures; each needs one"
            )
        self.ledger.check(facts, link, spent, snr_db)
        return Sent(transmission, spent, audit_report(facts, given.report, count), before + encoded.seconds / count)

    def deliver(self, points: Sequence[Point], batch: Batch, sent: Sequence[Sent]) -> Iterator[Delivered]:
        """Send one batch through channel and decoder, at all points at once. `sent[i]` is the transmission for
        `points[i]`.

        Raises AuditError, and the errors of the system.
        """
        count, together = len(batch.ids), len(batch.ids) * len(points)
        conditions = self.conditions
        snr_db: float | Tensor = points[0].snr_db
        if len(points) > 1:
            snr_db = torch.tensor([point.snr_db for point in points]).repeat_interleave(count)
        link = conditions.link(*batch.size, snr_db=snr_db)
        with stage_times.stage("channel"):
            start = self._now()
            draws = [seed for point in points for seed in conditions.seeds(batch.ids, point, "channel")]
            received, arrived = control_channel.send(
                joined(self.facts.name, [one.transmission for one in sent]), link, draws
            )
            channel_s = (self._now() - start) / together
        with stage_times.stage("decode"):
            output = torch.full((together, *batch.targets.shape[1:]), self.task.outage_level, dtype=torch.uint8)
            report: dict[str, list] = {
                "status": ["outage"] * together,
                "stop_reason": [LOST] * together,
            }
            rows, decode_s = arrived.nonzero()[:, 0].tolist(), 0.0
            if rows:  # a receiver whose control word is lost decodes nothing
                seeds = [seed for point in points for seed in conditions.seeds(batch.ids, point, "decoder")]
                whole = len(rows) == together
                at = link if whole else link_of_rows(link, rows)
                answer = self.receiver.decode(
                    received if whole else rows_of(received, rows), at, [seeds[row] for row in rows]
                )
                decode_s = answer.seconds / len(rows)
                self.paint(answer.decoded, conditions.link(*batch.size, snr_db=at.snr_db), rows, output, report)
        for index, own in enumerate(sent):
            part = slice(index * count, (index + 1) * count)
            noise_ids = conditions.seeds(batch.ids, points[index], NOISE_ID)
            told = {key: values[part] for key, values in report.items()}
            yield Delivered(own, noise_ids, output[part], told, channel_s, decode_s, together)

    def paint(self, decoded: Any, link: Link, rows: list[int], output: Tensor, report: dict[str, list]) -> None:
        """Audit the decoded rows and copy them to `output`, except outages: their content is chosen by the harness.

        rows: the places of the decoded pictures in `output`, uint8 (B, 3, H, W) or labels (B, H, W), and in the lists
        of `report`, which gets the audited report. link: one that no system was given. Raises AuditError.
        """
        if not isinstance(decoded, Decoded):
            raise AuditError(
                f"audit: system {self.facts.name}: decode returned a {type(decoded).__name__}, not a Decoded"
            )
        found = self.task.delivered(audit_output(self.facts, decoded, link, len(rows), self.task)).cpu()
        told = audit_report(self.facts, decoded.report, len(rows))
        status = [value or "ok" for value in told.get("status", ["ok"] * len(rows))]
        told = {"stop_reason": [None] * len(rows), **told, "status": status}
        for key in told:
            report.setdefault(key, [None] * len(output))
        for place, row in enumerate(rows):
            for key, values in told.items():
                report[key][row] = values[place]
            if status[place] == "ok":
                output[row] = found[place]

    def scores(self, batch: Batch, delivered: Delivered) -> list[dict[str, Any]]:
        """The metrics of each picture, by column. Each picture is scored alone, so no digit depends on the batch."""
        scores = []
        for target, output in zip(batch.targets, delivered.output, strict=True):
            # The key is the content: data sets may share a name, and all outages have the same grey.
            key = (self.task.name, result_cache.digest(target.numpy()), result_cache.digest(output.numpy()))
            scores.append(_SCORES.get(key, partial(self.task.score, target, output)))
        result_cache.take_saved()  # the time of scores is no cost of the system
        return scores

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
