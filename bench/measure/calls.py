"""Calls a system for the harness: with fixed random streams and a clock. Only bytes pass in and out.

`bench.measure.point` calls it. `LocalEnd` calls a system in this process. That system may be a `RemoteSystem`, which
passes each call to a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bench.measure.apart import RemoteSystem
from bench.measure.streams import stream
from systems import result_cache
from systems.errors import AuditError
from systems.interface import Decoded, Link, Received, System, Transmission, joined_reports, joined_transmissions


@dataclass(frozen=True)
class Facts:
    """What a system declares about itself, read once. Plain values, so that they can pass between processes."""

    name: str
    variant: str
    bits_per_use: int | None
    encoder_sees_snr: bool
    joins_snr: bool
    draws: bool
    genie: bool

    @classmethod
    def of(cls, system: System) -> Facts:
        """Read the facts of a system. Raises AuditError unless `bits_per_use` is None or a whole number: half a bit has
        no constellation.
        """
        bits = system.bits_per_use
        if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16):
            raise AuditError(
                f"audit: system {system.name}: bits_per_use is {bits!r}; it must be None or a whole number from 1 to 16"
            )
        return cls(
            name=str(system.name),
            variant=str(system.variant),
            bits_per_use=bits,
            encoder_sees_snr=bool(system.encoder_sees_snr),
            joins_snr=bool(system.joins_snr),
            draws=bool(system.draws),
            genie=bool(system.genie),
        )


class Encoded(NamedTuple):
    """A batch as it left the transmitter, not yet audited, and the seconds that the call took."""

    transmission: Transmission
    seconds: float


class Answer(NamedTuple):
    """A batch as the receiver decoded it, not yet audited, and the seconds that the call took.

    A result that the system remembered counts with the time that it took to compute.
    """

    decoded: Decoded
    seconds: float


#: The result of `System.prepare`.
Prepared = Callable[[Link], Transmission]
#: The second step of `End.prepare`: the link with its SNR, and one seed per picture -> the transmission.
Send = Callable[[Link, Sequence[int]], Encoded]


class End(Protocol):
    """A system as the harness calls it. seeds: one per picture, for the random streams that the system may use."""

    @property
    def facts(self) -> Facts:
        """What the system declares about itself."""
        ...

    def prepare(self, images: Tensor, link: Link, seeds: Sequence[int]) -> tuple[Send, float]:
        """`System.prepare`. images: float32 (B, 3, H, W). Returns the second step, and the seconds of the first."""
        ...

    def decode(self, received: Received, link: Link, seeds: Sequence[int]) -> Answer:
        """`System.decode`."""
        ...


class LocalEnd:
    """A system in this process.

    A system that draws random numbers gets single pictures, each with the picture's own seed. Then its draws do not
    depend on the batch or its order. If a system draws without saying so (`System.draws`), the state of the random
    streams shows it, and the call is repeated with single pictures.
    """

    def __init__(self, system: System, device: str = "cpu"):
        self.system, self.device, self.facts = system, device, Facts.of(system)

    def prepare(self, images: Tensor, link: Link, seeds: Sequence[int]) -> tuple[Send, float]:
        """See `End.prepare`. images: float32 (B, 3, H, W). Every call gets a copy of the pictures and of the link."""
        whole: Prepared | None = None
        singles: list[Prepared] | None = None
        seconds, drew = 0.0, self.facts.draws
        if not drew:
            whole, seconds, drew = self._call(partial(self.system.prepare, images.clone(), link.at()), seeds[0])
        if drew:
            singles, seconds = self._prepare_singles(images, link, seeds)

        def send(at: Link, draws: Sequence[int]) -> Encoded:
            own = singles
            if own is None:
                assert whole is not None
                sent, spent, used = self._call(partial(whole, at.at()), draws[0])
                if not used:
                    return Encoded(sent, spent)
                own, _ = self._prepare_singles(images, link, seeds)
            calls = [self._call(partial(one, at.at()), seed) for one, seed in zip(own, draws, strict=True)]
            whole_batch = joined(self.facts.name, [sent for sent, _, _ in calls])
            return Encoded(whole_batch, sum(spent for _, spent, _ in calls))

        return send, seconds

    def _prepare_singles(self, images: Tensor, link: Link, seeds: Sequence[int]) -> tuple[list[Prepared], float]:
        """The first step of the encoder for each picture alone, and the seconds of all."""
        calls = [
            self._call(partial(self.system.prepare, images[row : row + 1].clone(), link.at()), seed)
            for row, seed in enumerate(seeds)
        ]
        return [done for done, _, _ in calls], sum(seconds for _, seconds, _ in calls)

    def decode(self, received: Received, link: Link, seeds: Sequence[int]) -> Answer:
        """See `End.decode`. The receiver gets a copy."""
        if not self.facts.draws:
            decoded, seconds, drew = self._call(partial(self.system.decode, copy_of(received), link.at()), seeds[0])
            if not drew:
                return Answer(decoded, seconds)
        calls = []
        for row, seed in enumerate(seeds):
            own, at = rows_of(received, [row]), link_of_rows(link, [row])
            calls.append(self._call(partial(self.system.decode, own, at), seed))
        outputs = torch.cat([decoded.output for decoded, _, _ in calls])
        report = joined_reports([decoded.report for decoded, _, _ in calls])
        return Answer(Decoded(outputs, report), sum(seconds for _, seconds, _ in calls))

    def _call(self, work: Callable[[], Any], seed: int) -> tuple[Any, float, bool]:
        """The result, the seconds, and whether random numbers were drawn."""
        with stream(seed, self.device) as draws:
            result_cache.take_saved()
            self._overhead()
            start = self._now()
            done = work()
            seconds = self._now() - start - self._overhead() + result_cache.take_saved()
            return done, seconds, draws.used()

    def _overhead(self) -> float:
        """Seconds since the last call in which no system worked, because a process of a third party's system was being
        started.
        """
        return self.system.take_overhead() if isinstance(self.system, RemoteSystem) else 0.0

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


# ---------------------------------------------------------------- nothing but bytes


def fresh(tensor: Tensor, name: str) -> Tensor:
    """The same numbers in new contiguous memory, in the same shape, such as (B, n). Attributes, views or larger storage
    do not pass.

    Raises TypeError if it is not a plain dense tensor.
    """
    if type(tensor) is not Tensor or tensor.layout is not torch.strided:
        raise TypeError(f"{name} must be a plain dense torch.Tensor, not {type(tensor).__name__}")
    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def copy_of(received: Received) -> Received:
    """A copy that a receiver may change without effects elsewhere."""
    return Received(
        fresh(received.symbols, "symbols"),
        fresh(received.csi, "csi"),
        fresh(received.noise_var, "noise_var"),
        fresh(received.side_info, "side_info"),
    )


def rows_of(received: Received, rows: Sequence[int]) -> Received:
    """Some pictures of a batch, in the order of `rows`, as copies."""
    index = torch.as_tensor(rows, device=received.symbols.device)
    return Received(received.symbols[index], received.csi[index], received.noise_var[index], received.side_info[index])


def link_of_rows(link: Link, rows: Sequence[int]) -> Link:
    """The link for some pictures of a batch."""
    if not isinstance(link.snr_db, Tensor) or link.snr_db.ndim == 0:
        return link.at()
    chosen = link.snr_db[torch.as_tensor(rows)]
    # A single picture gets a number, for systems that take only one SNR at a time.
    return link.at(snr_db=float(chosen[0]) if len(chosen) == 1 else chosen)


def joined(system: str, transmissions: Sequence[Transmission]) -> Transmission:
    """Several transmissions of a system as one batch. Raises AuditError if their numbers of uses differ."""
    if len(transmissions) == 1:
        return transmissions[0]
    widths = {sent.symbols.shape[1:] for sent in transmissions}
    if len(widths) > 1:
        counts = ", ".join(str(width[0]) for width in sorted(widths) if width)
        raise AuditError(
            f"audit: system {system}: pictures of one size are sent with different numbers of uses ({counts}); pad all "
            "pictures to the same number"
        )
    return joined_transmissions(transmissions)
