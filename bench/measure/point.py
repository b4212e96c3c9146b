"""One batch of pictures of one system at its operating points: encode, audit, transmit, decode, score.

`bench.sweep.worker` calls it for every cell, `bench.measure.probe` for its diagnoses. It knows no files and no plan,
and keeps nothing but what one transmission has in common over a sweep. `bench.perf.plain` does the same in the plainest
way, and shares none of this code.
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

from bench.measure import control
from bench.measure.audit import Ledger, Spent, audit, audit_output, audit_report
from bench.measure.budget import budget_of
from bench.measure.ends import Encoded, End, fresh, link_of_rows, rows_of
from bench.measure.seeds import draw_seed
from bench.measure.tasks import TASKS
from systems import cache as memo
from systems import timing as stopwatch
from systems.errors import AuditError
from systems.interface import Decoded, Link, Transmission

LOST = "control word lost"  # the column `stop_reason`

_SCORES = memo.Memo(512)  # of outputs after rounding: a digital link delivers few different ones over a sweep


@dataclass(frozen=True)
class Conditions:
    """What all points of a measurement share.

    dataset: the name that seeds are drawn with. One of cbr, bits and uses gives the budget. salt: see
    `bench.measure.seeds`; it is in nothing that a system is given.
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
        """A link of its own for each call: what a system does to one never reaches another."""
        budget = budget_of(self.channel, height, width, cbr=self.cbr, bits=self.bits, uses=self.uses)
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
        masks = torch.stack([sample.mask for sample in samples]) if TASKS[task].target == "mask" else None
        return cls(tuple(sample.image_id for sample in samples), reference.to(device).float() / 255, reference, masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.reference.shape[2], self.reference.shape[3]

    @property
    def targets(self) -> Tensor:
        """What the task's output is held against."""
        return self.reference if self.masks is None else self.masks


@dataclass
class Sent:
    """A batch that has left the transmitter, audited; `seconds` per picture. report: per-picture lists, audited."""

    transmission: Transmission
    spent: Spent
    report: dict[str, list]
    seconds: float


@dataclass
class Delivered:
    """What the receiver made of a batch at one point: pictures or labels as uint8 on the CPU.

    seeds: of each picture's channel. report: per-picture lists of columns, `status` always among them.
    Times in seconds per picture. together: pictures that went through the channel at once.
    """

    sent: Sent
    seeds: list[int]
    output: Tensor
    report: dict[str, list]
    channel_s: float
    decode_s: float
    together: int


class Measurement:
    """A system under given conditions on a device: its transmitter, and its receiver where that is another one.

    The ledger is shared by all measurements of one system.
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
        """Does what serves every point of a sweep, and gives the rest as a function of the point.

        That is the whole transmission where the encoder sees no SNR. Raises AuditError, and what the system raises.
        """
        count, conditions = len(batch.ids), self.conditions
        # NaN, so that an encoder that looks at an SNR it must not see is caught by the audit.
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
        # The SNR of an encoder that sees none has no part in its seed either.
        once = at(math.nan, _ANY_POINT)
        return lambda point: once

    def _audited(self, encoded: Encoded, batch: Batch, link: Link, snr_db: float | None, before: float) -> Sent:
        """The bytes of a transmission, and nothing else of it: what is audited is what is sent."""
        given, facts, count = encoded.transmission, self.facts, len(batch.ids)
        if not isinstance(given, Transmission) or given.side_info is None:
            raise AuditError(f"audit: system {facts.name}: encode gives no Transmission")
        try:
            symbols, side_info = fresh(given.symbols, "symbols"), fresh(given.side_info, "side_info")
        except TypeError as error:
            raise AuditError(f"audit: system {facts.name}: {error}") from None
        made_for = given.side_info_snr_db
        transmission = Transmission(symbols, side_info, {}, made_for)
        spent = audit(facts, transmission, link)
        if len(symbols) != count:
            raise AuditError(f"audit: system {facts.name}: {len(symbols)} rows of symbols for {count} pictures")
        self.ledger.check(facts, link, spent, snr_db)
        return Sent(transmission, spent, audit_report(facts, given.report, count), before + encoded.seconds / count)

    def deliver(self, points: Sequence[Point], batch: Batch, sent: Sequence[Sent]) -> Iterator[Delivered]:
        """One batch through channel and decoder at all points at once; `sent[i]` is what was sent for `points[i]`."""
        count, together = len(batch.ids), len(batch.ids) * len(points)
        conditions = self.conditions
        snr_db: float | Tensor = points[0].snr_db
        if len(points) > 1:
            snr_db = torch.tensor([point.snr_db for point in points]).repeat_interleave(count)
        link = conditions.link(*batch.size, snr_db=snr_db)
        with stopwatch.stage("channel"):
            start = self._now()
            draws = [seed for point in points for seed in conditions.seeds(batch.ids, point, "channel")]
            received, arrived = control.send(_joined([one.transmission for one in sent]), link, draws)
            channel_s = (self._now() - start) / together
        with stopwatch.stage("decode"):
            output = torch.full((together, *batch.targets.shape[1:]), self.task.outage_level, dtype=torch.uint8)
            report: dict[str, list] = {
                "status": ["outage"] * together,
                "stop_reason": [LOST] * together,
            }
            rows, decode_s = arrived.nonzero()[:, 0].tolist(), 0.0
            if rows:  # the receiver of a lost control word knows that it has nothing to decode
                seeds = [seed for point in points for seed in conditions.seeds(batch.ids, point, "decoder")]
                whole = len(rows) == together
                at = link if whole else link_of_rows(link, rows)
                answer = self.receiver.decode(
                    received if whole else rows_of(received, rows), at, [seeds[row] for row in rows]
                )
                decode_s = answer.seconds / len(rows)
                self._paint(answer.decoded, conditions.link(*batch.size, snr_db=at.snr_db), rows, output, report)
        for index, own in enumerate(sent):
            part = slice(index * count, (index + 1) * count)
            own_seeds = conditions.seeds(batch.ids, points[index], "channel")
            told = {key: values[part] for key, values in report.items()}
            yield Delivered(own, own_seeds, output[part], told, channel_s, decode_s, together)

    def _paint(self, decoded: Any, link: Link, rows: list[int], output: Tensor, report: dict[str, list]) -> None:
        """Audit what was decoded of some rows, and put it where it is no outage: that is the harness's to paint."""
        if not isinstance(decoded, Decoded):
            raise AuditError(f"audit: system {self.facts.name}: decode gives no Decoded")
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
        """The metrics of each picture, by column. Each picture is scored alone: no digit depends on the batch."""
        scores = []
        for target, output in zip(batch.targets, delivered.output, strict=True):
            # By content: two data sets may have one name, and an outage gives each picture the same grey.
            key = (self.task.name, memo.digest(target.numpy()), memo.digest(output.numpy()))
            scores.append(_SCORES.get(key, partial(self.task.score, target, output)))
        memo.take_saved()  # of the scores: no cost of a system's
        return scores

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _joined(transmissions: list[Transmission]) -> Transmission:
    """Several batches as one."""
    if len(transmissions) == 1:
        return transmissions[0]
    symbols = torch.cat([sent.symbols for sent in transmissions])
    side_info = torch.cat([sent.side_info for sent in transmissions if sent.side_info is not None])
    return Transmission(symbols, side_info, {}, transmissions[0].side_info_snr_db)
