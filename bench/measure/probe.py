"""Diagnoses of a receiver: its output for symbols without content, for the symbols of another picture, and with a wrong
SNR.

`python -m bench probe` calls it. A receiver that delivers a good picture from zeroed symbols has memorised the set. A
receiver whose output follows the symbols of another picture really decodes its symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.measure import control_channel
from bench.measure.calls import End, copy_of
from bench.measure.point import Batch, Conditions, Measurement, Point
from systems.interface import Link, Received

MISREPORTED_DB = 3.0


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe.

    mean: over pictures, of the task's default metric.
    against_other: if the probe swaps symbols: the same, scored against the picture whose symbols were decoded.
    """

    probe: str
    mean: float
    against_other: float | None = None


PROBES = ("as sent", "symbols zeroed", "symbols of the next picture", "SNR told 3 dB too high", "SNR told 3 dB too low")


def probe(
    end: End, conditions: Conditions, batches: list[Batch], snr_db: float, device: str = "cpu"
) -> list[ProbeResult]:
    """Run every probe over all pictures at one SNR in dB.

    batches: each holds pictures of one size. Swapping symbols needs two pictures of one size.
    Raises AuditError, and the errors of the system.
    """
    sums: dict[str, list[list[float]]] = {name: [[], []] for name in PROBES}
    for batch in batches:
        for name, own, others in _one_batch(Measurement(end, conditions, device), batch, Point(snr_db, 0)):
            sums[name][0] += own
            sums[name][1] += others
    return [
        ProbeResult(name, sum(own) / len(own), sum(others) / len(others) if others else None)
        for name, (own, others) in sums.items()
        if own
    ]


def _one_batch(measurement: Measurement, batch: Batch, point: Point) -> Iterator[tuple[str, list[float], list[float]]]:
    conditions, count = measurement.conditions, len(batch.ids)
    seeds = conditions.seeds(batch.ids, point, "channel")
    link = conditions.link(*batch.size, snr_db=point.snr_db)
    received, arrived = control_channel.send(measurement.sender(batch)(point).transmission, link, seeds)
    if not bool(arrived.all()):
        received.side_info[~arrived] = 0
    yield "as sent", _scores(measurement, batch, received, link), []
    nothing = replace(received, symbols=torch.zeros_like(received.symbols))
    yield "symbols zeroed", _scores(measurement, batch, nothing, link), []
    if count > 1:
        index = torch.arange(count).roll(-1)
        swapped = Received(
            received.symbols[index], received.csi[index], received.noise_var[index], received.side_info[index]
        )
        output = _decode(measurement, batch, swapped, link)
        others = [_value(measurement, batch.targets[int(index[row])], output[row]) for row in range(count)]
        own = [_value(measurement, batch.targets[row], output[row]) for row in range(count)]
        yield "symbols of the next picture", own, others
    for name, error in ((PROBES[3], MISREPORTED_DB), (PROBES[4], -MISREPORTED_DB)):
        told = conditions.link(*batch.size, snr_db=point.snr_db + error)
        wrong = replace(received, noise_var=received.noise_var * 10 ** (-error / 10))
        yield name, _scores(measurement, batch, wrong, told), []


def _decode(measurement: Measurement, batch: Batch, received: Received, link: Link) -> torch.Tensor:
    """The receiver's output, uint8, audited as in a run, with outages in the harness's grey or background."""
    count = len(batch.ids)
    seeds = measurement.conditions.seeds(batch.ids, Point(0.0, 0), "decoder")
    decoded = measurement.receiver.decode(copy_of(received), link, seeds).decoded
    output = torch.full(tuple(batch.targets.shape), measurement.task.outage_level, dtype=torch.uint8)
    measurement.paint(decoded, link, list(range(count)), output, {})
    return output


def _scores(measurement: Measurement, batch: Batch, received: Received, link: Link) -> list[float]:
    output = _decode(measurement, batch, received, link)
    return [_value(measurement, target, one) for target, one in zip(batch.targets, output, strict=True)]


def _value(measurement: Measurement, target: torch.Tensor, output: torch.Tensor) -> float:
    scores: dict[str, Any] = measurement.task.score(target, output)
    return float(scores[measurement.task.default_metric])
