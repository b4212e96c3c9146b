"""Does one training step of a network; each part of the step is a method. It writes no files and validates nothing.

`trainer` calls it for each step of a run, and `bench.perf.train` times its parts. Every draw (crops, flips, SNR, noise,
dropout, budget) depends only on (seed, step, position in the batch). Two processes with half a batch each compute the
same as one process with the whole batch, up to rounding (see `distributed`). Nothing is copied back from the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from bench.training import distributed as together
from bench.training import draws
from bench.training.batch import Batches, TrainingBatch
from bench.training.channel import transmit
from bench.training.crops import Album
from bench.training.distributed import World
from bench.training.fast_step import Compiled, Recorded
from bench.training.optimiser import MovingAverage, freeze_shared, make_optimiser, update
from bench.training.precision import autocast
from bench.training.protocol import Protocol
from bench.training.schedule import Schedule
from systems.errors import UserError
from systems.interface import VOID, Link
from systems.learned import Network
from systems.losses import RECONSTRUCTION_LOSSES


class _Step(nn.Module):
    """One training step as the forward pass of a module, as DistributedDataParallel and torch.compile need it."""

    def __init__(self, system: nn.Module):
        super().__init__()
        self.system = system

    def forward(self, images: Tensor, target: Tensor, link: Link, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, each a scalar. images: (B, 3, H, W). keys: int64 (B,)."""
        return self.system.training_step(images, target, link, lambda sent, at: transmit(sent, at, keys))


class Learner:
    """A network, its optimiser, the moving average of its weights, and the number of steps that it has done.

    module: the network. It is moved to the device of `world`.
    albums: the pictures of each task.
    minutes: the time of the run, if the clock and not the number of crops ends it.
    teacher: the name of the teacher that the system learns from, or "".
    say: receives lines for the user.
    Raises UserError if the protocol has none of the system's tasks, or if a batch cannot be divided among the
    processes.
    """

    def __init__(
        self,
        module: Network,
        protocol: Protocol,
        albums: dict[str, Album],
        world: World | None = None,
        minutes: float | None = None,
        teacher: str = "",
        say: Callable[[str], None] = lambda text: None,
    ):
        self.module, self.name, self.size = module, module.name, module.size
        self.protocol, self.albums, self.world = protocol, albums, world or World()
        self.minutes, self.teacher, self.say = minutes, teacher, say
        self.tasks = {task: plan for task, plan in protocol.tasks.items() if task in module.tasks}
        self._check()
        self.module.reconstruction_loss = RECONSTRUCTION_LOSSES[protocol.reconstruction_loss]
        freeze_shared(module, self.tasks, protocol)
        self.schedule = Schedule.of(protocol, self.tasks, minutes)
        self.batches = Batches(protocol, albums, self.world, bool(teacher), module.sends)
        self.module.to(self.world.device)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimiser = make_optimiser(self.module, self.parameters, protocol)
        self.average = MovingAverage(self.module, protocol.ema)
        self.step = 0
        self.seen, self.done = dict.fromkeys(self.tasks, 0), dict.fromkeys(self.tasks, 0)
        self.step_module: nn.Module = _Step(self.module)
        if self.world.size > 1:
            together.share_layers(self.module, self.world.rank, self.world.size)
            self.step_module = nn.parallel.DistributedDataParallel(self.step_module, find_unused_parameters=True)
        self.passes = self._passes()

    def _check(self) -> None:
        if not self.tasks:
            raise UserError(
                f"{self.name}: the protocol trains {', '.join(self.protocol.tasks)}, and {self.name} does only "
                f"{', '.join(self.module.tasks)}; name another protocol (--config)"
            )
        for plan in self.tasks.values():
            for stage in plan.stages:
                if stage.batch % self.world.size:
                    raise UserError(
                        f"a batch of {stage.batch} does not divide over {self.world.size} processes; change the "
                        "protocol's batch or the number of processes"
                    )

    def _passes(self) -> Callable[[TrainingBatch], dict[str, Tensor]]:
        """Forward and backward pass of a batch, as fast as protocol and machine allow: gives the losses, detached."""
        plain = partial(self.pass_by, self.step_module)
        if self.world.size > 1 or not self.module.host_free:
            return plain
        if self.protocol.compile:
            seconds = self.protocol.compile_seconds
            if self.minutes is not None:
                seconds = min(seconds, 15 * self.minutes)  # a quarter of the time
            return Compiled(self.pass_by, self.step_module, self.name, self.say, seconds)
        if self.protocol.record and self.world.device.startswith("cuda"):
            return Recorded(plain, self.parameters, self.name, self.say, None, self.module.sends, self.prepare)
        return plain

    def draw(self) -> TrainingBatch:
        """This process's part of the next step's batch."""
        task = self.schedule.task(self.done)
        return self.batches.draw(task, self.schedule.stage(task, self.seen[task], self.step), self.step)

    def prepare(self) -> None:
        """Set training mode, and the seed of the step's dropout."""
        torch.manual_seed(draws.step_seed(self.protocol.seed, self.step, 0, "dropout"))
        self.module.train()

    def forward(self, batch: TrainingBatch, step: nn.Module | None = None) -> dict[str, Tensor]:
        """This process's losses by name, each a scalar. Their mean over processes is the loss of the whole batch.
        step: used instead of `step_module`.
        """
        with autocast(self.protocol.autocast, self.world.device):
            losses = (step or self.step_module)(batch.images, batch.target, batch.link, batch.keys)
            if self.world.size > 1:
                weight = together.weight_of(batch.target, VOID, self.world.size)
                losses = {key: weight * value for key, value in losses.items()}
        return losses

    def backward(self, losses: dict[str, Tensor]) -> None:
        """Compute the gradients of the sum of the losses (scalars)."""
        self.optimiser.zero_grad(set_to_none=True)
        sum(losses.values()).backward()

    def pass_by(self, step: nn.Module, batch: TrainingBatch) -> dict[str, Tensor]:
        """Both passes by the module `step`. Returns the losses, detached scalars."""
        losses = self.forward(batch, step)
        self.backward(losses)
        return {key: value.detach() for key, value in losses.items()}

    def optimise(self) -> float:
        """Clip the gradients, do one step of AdamW, and update the moving average. Returns the learning rate."""
        rate = self.protocol.rate_of(self.name) * self.schedule.rate(self.step)
        update(self.optimiser, self.parameters, rate, self.protocol.clip_norm)
        self.average.follow(self.step)
        return rate

    def advance(self) -> dict:
        """Do one step. Returns its task, learning rate and losses. The losses are still on the device."""
        batch = self.draw()
        self.prepare()
        losses = self.passes(batch)
        rate = self.optimise()
        self.step += 1
        self.done[batch.task] += 1
        self.seen[batch.task] += batch.size
        return {"task": batch.task, "lr": rate, "losses": losses}

    @contextmanager
    def averaged(self) -> Iterator[Network]:
        """In a `with` block: the network in evaluation mode, with the averaged weights."""
        kept = {key: value.clone() for key, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.average.values)
        self.module.eval()
        self.module.watching = True
        try:
            yield self.module
        finally:
            self.module.watching = False
            self.module.load_state_dict(kept)
