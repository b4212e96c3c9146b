"""Makes the forward and backward passes of a training step faster: CUDA graphs on a GPU, or `torch.compile`.

`learner` calls it. The step of a small network consists of thousands of short kernels, and a GPU waits until the host
has launched each of them. A recorded step (a CUDA graph) is launched once. One step is recorded for each kind of batch
(task, sizes, budget). If recording fails, or if the recorded losses or gradients differ from those of the plain passes,
a line says so, and training continues with the plain passes. The same holds if compiling fails or takes too long.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from bench.training.batch import TrainingBatch

Losses = dict[str, Tensor]
Passes = Callable[["TrainingBatch"], Losses]
Body = Callable[[], tuple[Losses, list[Tensor | None]]]

AGREES = 0.02  # relative difference of losses and of the gradient's norm up to which a record counts as the same step
MOST_KINDS = 64  # kinds of batches that are recorded; others take the plain passes
WATCHED_STEPS = 16  # a compiled step that meets a new shape compiles again; this many first steps are timed


class Recorded:
    """Passes that are recorded when a kind of batch comes for the second time, and replayed from then on.

    plain: the passes of one batch. It leaves gradients in `parameters`, and returns the losses, detached.
    record: makes a form of a function without arguments that can be replayed. It is `cuda_graph`, except in tests.
    seed: sets the random numbers of dropout. The recorded and the plain passes need the same ones to be compared.
    """

    def __init__(
        self,
        plain: Passes,
        parameters: Sequence[nn.Parameter],
        name: str,
        say: Callable[[str], None],
        record: Callable[[Body], Body] | None = None,
        sees_link: bool = True,
        seed: Callable[[], None] = lambda: None,
    ):
        self.plain, self.parameters, self.name, self.say, self.seed = plain, parameters, name, say, seed
        self.record, self.sees_link = record or cuda_graph, sees_link
        self.kinds: dict[tuple, Callable[[TrainingBatch], Losses] | None] = {}
        self.off = False

    def __call__(self, batch: TrainingBatch) -> Losses:
        """Losses of the batch, detached; gradients lie in the parameters."""
        kind = self._kind(batch)
        if self.off or (kind not in self.kinds and len(self.kinds) >= MOST_KINDS):
            return self.plain(batch)
        if kind not in self.kinds:
            self.kinds[kind] = None
            return self.plain(batch)
        known = self.kinds[kind]
        return known(batch) if known is not None else self._make(kind, batch)

    def _kind(self, batch: TrainingBatch) -> tuple:
        link = batch.link
        spoken = (link.budget, link.channel) if self.sees_link else ()
        return (batch.task, tuple(batch.images.shape), tuple(batch.target.shape), batch.target.dtype, *spoken)

    def _make(self, kind: tuple, batch: TrainingBatch) -> Losses:
        """The plain passes, then a record of them, which must give the same."""
        losses, size = self.plain(batch), self._gradient_size()
        place = Place.now(batch.images.device)
        try:
            replay = self._recorded(batch)
            self.seed()
            found = replay(batch)
            for key, value in losses.items():
                if not torch.allclose(found[key].float(), value.float(), rtol=AGREES, atol=1e-4):
                    raise RuntimeError(f"{key} was {float(value):.4g} plain and {float(found[key]):.4g} recorded")
            again = self._gradient_size()
            if not torch.allclose(again, size, rtol=5 * AGREES, atol=1e-6):
                raise RuntimeError(f"the gradient's norm was {float(size):.4g} plain and {float(again):.4g} recorded")
        except Exception as error:  # any error of a driver: the plain passes do not need it
            self.off = True
            self.kinds.clear()
            place.restore()
            self.say(f"{self.name}: steps are not recorded ({_words(error)}); training goes on without")
            self.seed()
            return self.plain(batch)
        self.kinds[kind] = replay
        return found

    def _recorded(self, batch: TrainingBatch) -> Callable[[TrainingBatch], Losses]:
        images = batch.images.clone()
        target = images if batch.target is batch.images else batch.target.clone()
        snr_db = batch.link.snr_db.clone() if isinstance(batch.link.snr_db, Tensor) else batch.link.snr_db
        keys = batch.keys.clone()
        own = replace(batch, images=images, target=target, keys=keys, link=batch.link.at(snr_db=snr_db))

        def body() -> tuple[Losses, list[Tensor | None]]:
            losses = self.plain(own)
            return losses, [parameter.grad for parameter in self.parameters]

        again = self.record(body)

        def replay(new: TrainingBatch) -> Losses:
            images.copy_(new.images)
            if target is not images:
                target.copy_(new.target)
            keys.copy_(new.keys)
            if isinstance(snr_db, Tensor):
                snr_db.copy_(new.link.snr_db)
            losses, gradients = again()
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            return {key: value.clone() for key, value in losses.items()}

        return replay

    def _gradient_size(self) -> Tensor:
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return torch.stack(torch._foreach_norm(found)).norm()


def cuda_graph(body: Body) -> Body:
    """Record `body` as a CUDA graph; all graphs of the process share their memory, since one runs at a time."""
    global _pool
    if _pool is None:
        _pool = torch.cuda.graph_pool_handle()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool):
        held = body()

    def again():
        graph.replay()
        return held

    return again


_pool = None


class Place:
    """The state of a GPU before a recording, and how to restore it. A recording that fails may leave another stream,
    and a random generator that is still in recording mode.
    """

    def __init__(self, device: torch.device, stream):
        self.device, self.stream = device, stream

    @classmethod
    def now(cls, device: torch.device) -> Place:
        """The state of `device` at present."""
        return cls(device, torch.cuda.current_stream(device) if device.type == "cuda" else None)

    def restore(self) -> None:
        """Bring the device back to this state."""
        global _pool
        if self.stream is None:
            return
        torch.cuda.set_stream(self.stream)
        _pool = None
        fresh = torch.Generator(device=self.device)
        own = torch.cuda.default_generators[self.device.index or 0]
        own.graphsafe_set_state(fresh.graphsafe_get_state())


class Compiled:
    """Passes that `torch.compile` makes faster. If compiling takes longer than the limit, the plain passes are used.

    passes(step, batch): the passes of a batch by a module like `step`.
    """

    def __init__(
        self,
        passes: Callable[[nn.Module, TrainingBatch], Losses],
        step: nn.Module,
        name: str,
        say: Callable[[str], None],
        seconds: float,
    ):
        self.passes, self.step, self.name, self.say = passes, step, name, say
        self.left, self.steps = seconds, 0
        self.compiled: nn.Module | None = None
        self.off = False

    def __call__(self, batch: TrainingBatch) -> Losses:
        """Losses of the batch, detached; gradients lie in the parameters."""
        if self.off:
            return self.passes(self.step, batch)
        began = time.monotonic()
        try:
            with limit(self.left if self.steps < WATCHED_STEPS else None):
                if self.compiled is None:
                    self.compiled = torch.compile(self.step)  # type: ignore[assignment]
                losses = self.passes(self.compiled, batch)
        except TooLong:
            return self._without(batch, "compiling takes longer than it may")
        except Exception as error:  # an error of the network itself comes again below
            return self._without(batch, f"compiling failed: {_words(error)}")
        self.steps += 1
        self.left = max(1.0, self.left - (time.monotonic() - began))
        return losses

    def _without(self, batch: TrainingBatch, why: str) -> Losses:
        self.off, self.compiled = True, None
        losses = self.passes(self.step, batch)
        self.say(f"{self.name}: the step is not compiled ({why}); training goes on without")
        return losses


class TooLong(BaseException):
    """The time is over. Not an Exception: a compiler that catches these would go on."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raise TooLong in the body after this many seconds. None: no limit; nor is there one outside the main thread."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _words(error: BaseException) -> str:
    """An error as part of one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
