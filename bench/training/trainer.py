"""The training loop of one system: it resumes exactly, runs alone or under torchrun, and by crops or by the clock.

    python -m bench train --systems gensc,witt --config small --data-root DATA
    torchrun --nproc-per-node 2 -m bench train --systems witt --config small --data-root DATA

`bench.training.run` calls it. Every draw (crops, flips, SNR, noise, dropout, budget) depends only on (seed, step,
position in the batch). So a run that is killed and started again continues exactly from its last state (on the CPU; a
GPU adds in another order). Two processes with half a batch each compute the same as one process with the whole batch,
up to rounding (see `bench.training.distributed`). Between two reports, nothing is copied back from the device.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from baselines.digital import codec as source_codec
from baselines.digital.system import from_uint8, to_pictures
from bench.training import distributed as together
from bench.training import draws, saved_state
from bench.training.channel import transmit
from bench.training.crops import Album, Window
from bench.training.distributed import World
from bench.training.fast_step import Compiled, Recorded
from bench.training.precision import autocast, resolve
from bench.training.protocol import Protocol, TaskProtocol
from bench.training.schedule import Schedule
from bench.training.teacher import soften
from bench.training.validate import validate
from bench.util.files import write_atomic
from systems.errors import UserError
from systems.interface import VOID, Link
from systems.learned import RECONSTRUCTION_LOSSES

REPORT_SECONDS = 10.0  # between two lines of progress
_HISTORY = ("sha256", "commit", "images_seen", "steps", "seed", "protocol", "validation", "started_from")


@dataclass(frozen=True)
class Batch:
    """This process's part of one step's batch.

    images: float32 (B, 3, crop, crop).
    target: as `training_step` takes it.
    keys: int64 (B,), of the samples' draws.
    size: samples of the whole batch.
    """

    task: str
    images: Tensor
    target: Tensor
    link: Link
    keys: Tensor
    size: int


class _Step(nn.Module):
    """One training step as the forward pass of a module, as DistributedDataParallel and torch.compile need it."""

    def __init__(self, system: nn.Module):
        super().__init__()
        self.system = system

    def forward(self, images: Tensor, target: Tensor, link: Link, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, each a scalar. images: (B, 3, H, W). keys: int64 (B,)."""
        return self.system.training_step(images, target, link, lambda sent, at: transmit(sent, at, keys))


class Trainer:
    """Trains one system by a protocol, in a folder of its own.

    system: a network with the members of `systems.learned.Network`.
    albums: the pictures of each task.
    minutes: train by the clock, including validation and writing. None: by crops.
    teacher: the name of the teacher that the system learns from, or "". Nothing is written before the first state is
    saved. Raises UserError if the protocol has none of the system's tasks, or if a batch cannot be divided among the
    processes.
    """

    def __init__(
        self,
        system,
        protocol: Protocol,
        albums: dict[str, Album],
        folder: Path,
        world: World | None = None,
        minutes: float | None = None,
        teacher: str = "",
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ):
        self.module, self.name, self.size = system, system.name, system.size
        self.protocol, self.albums, self.folder, self.world = protocol, albums, folder, world or World()
        self.minutes, self.teacher, self.say = minutes, teacher, say
        self.tasks = {task: plan for task, plan in protocol.tasks.items() if task in system.tasks}
        if not self.tasks:
            raise UserError(
                f"{self.name}: the protocol trains {', '.join(protocol.tasks)}, which {self.name} does not do"
            )
        for plan in self.tasks.values():
            for stage in plan.stages:
                if stage.batch % self.world.size:
                    raise UserError(
                        f"a batch of {stage.batch} does not divide over {self.world.size} processes; change the "
                        "protocol"
                    )
        self.module.reconstruction_loss = RECONSTRUCTION_LOSSES[protocol.reconstruction_loss]
        self._freeze_what_others_use()
        self.schedule = Schedule.of(protocol, self.tasks, minutes)
        self.module.to(self.world.device, memory_format=torch.channels_last)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimizer = self._make_optimizer()
        self._live = self.module.state_dict()
        self.average = {key: value.detach().clone() for key, value in self._live.items()}
        self._floats = [key for key, value in self._live.items() if value.is_floating_point()]
        self._counters = [key for key in self._live if key not in set(self._floats)]
        self.step, self.spent, self.validations = 0, 0.0, protocol.validations
        self.seen, self.done = dict.fromkeys(self.tasks, 0), dict.fromkeys(self.tasks, 0)
        self.rows: list[dict] = []
        self.step_module: nn.Module = _Step(self.module)
        if self.world.size > 1:
            together.share_layers(self.module, self.world.rank, self.world.size)
            self.step_module = nn.parallel.DistributedDataParallel(self.step_module, find_unused_parameters=True)
        self.passes = self._passes()

    def _passes(self) -> Callable[[Batch], dict[str, Tensor]]:
        """Forward and backward pass of a batch, as fast as protocol and machine allow: gives the losses, detached."""
        plain = partial(self._pass, self.step_module)
        if self.world.size > 1 or not self.module.host_free:
            return plain
        if self.protocol.compile:
            seconds = self.protocol.compile_seconds
            if self.minutes is not None:
                seconds = min(seconds, 15 * self.minutes)  # a quarter of what there is
            return Compiled(self._pass, self.step_module, self.name, self.say, seconds)
        if self.protocol.record and self.world.device.startswith("cuda"):
            return Recorded(plain, self.parameters, self.name, self.say, None, self.module.sends, self.prepare)
        return plain

    def _freeze_what_others_use(self) -> None:
        """If only some tasks of existing weights are trained, freeze the parameters that the other tasks use."""
        if self.protocol.start == "none" or set(self.tasks) == set(self.module.tasks):
            return
        own = {id(parameter) for task in self.tasks for parameter in self.module.own_parameters(task)}
        for parameter in self.module.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in own)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        shares = self.module.rate_shares()
        groups = [
            {"params": [p for p in self.parameters if shares.get(id(p), 1.0) == scale], "scale": scale}
            for scale in sorted({shares.get(id(parameter), 1.0) for parameter in self.parameters})
        ]
        return torch.optim.AdamW(
            groups,
            lr=self.protocol.rate_of(self.name),
            betas=self.protocol.betas,
            weight_decay=self.protocol.weight_decay,
            fused=True,
        )

    # ------------------------------------------------------------------ one step, in its parts

    def draw(self) -> Batch:
        """This process's part of the next step's batch. It depends only on (seed, task, step,
        position in the batch).
        """
        task, step, world = self.schedule.task(self.done), self.step, self.world
        plan, stage = self.tasks[task], self.schedule.stage(task, self.seen[task], step)
        seed = draws.step_seed(self.protocol.seed, task, step)
        places = torch.arange(world.rank, stage.batch, world.size, device=world.device)
        keys = draws.sample_keys(seed, places)
        window = Window(stage.crop, plan.lowest_scale, plan.whole, plan.balance_classes)
        crops = self.albums[task].cut(keys, window)
        low, high = self.protocol.snr_range
        budget = plan.budget(stage.crop, draws.host_uniforms(draws.step_seed(seed, "budget"), 2))
        snr_db = low + (high - low) * crops.snr
        link = Link(task, stage.crop, stage.crop, budget, self.protocol.channel, snr_db)
        images = crops.images.contiguous(memory_format=torch.channels_last)
        if task == "reconstruction":
            target = images
        else:
            target = soften(crops.mask, crops.labels, plan.distill if self.teacher else 0.0, VOID)
            if plan.coded and not self.module.sends:
                images = self._coded(images, plan, step)
        return Batch(task, images, target, link, keys, stage.batch)

    def prepare(self) -> None:
        """Set training mode, and the seed of the step's dropout."""
        torch.manual_seed(draws.step_seed(self.protocol.seed, self.step, 0, "dropout"))
        self.module.train()

    def forward(self, batch: Batch, step: nn.Module | None = None) -> dict[str, Tensor]:
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
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()

    def _pass(self, step: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Both passes by the module `step`."""
        losses = self.forward(batch, step)
        self.backward(losses)
        return {key: value.detach() for key, value in losses.items()}

    def optimise(self) -> float:
        """Clip the gradients, do one step of AdamW, and update the moving average. Returns the learning rate."""
        rate = self.protocol.rate_of(self.name) * self.schedule.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        nn.utils.clip_grad_norm_(self.parameters, self.protocol.clip_norm)
        self.optimizer.step()
        self._follow()
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

    @torch.no_grad()
    def _follow(self) -> None:
        """Update the moving average of weights and running statistics. Counters are copied."""
        decay = min(self.protocol.ema, (1 + self.step) / (10 + self.step))
        average, live = self.average, self._live
        torch._foreach_lerp_([average[key] for key in self._floats], [live[key] for key in self._floats], 1 - decay)
        for key in self._counters:
            average[key].copy_(live[key])

    def _coded(self, images: Tensor, plan: TaskProtocol, step: int) -> Tensor:
        """The crops for a network behind a digital link: some of them are replaced by what JPEG delivers in a few
        bytes.

        JPEG runs on the host, with one thread per core. The bytes of each crop are drawn from its position in the
        batch.
        """

        def one(row: int) -> Tensor | None:
            place = self.world.rank + row * self.world.size
            rng = np.random.default_rng(draws.step_seed(self.protocol.seed, "coded", step, place))
            if rng.random() >= plan.coded:
                return None
            most = round(np.exp(rng.uniform(*np.log(plan.coded_bytes))))
            file = source_codec.encode_under(pixels[row], most).payload
            return from_uint8(source_codec.decode(file, "jpeg", *pixels[row].shape[:2]))

        pixels = to_pictures(images)
        with ThreadPoolExecutor() as pool:
            coded = list(pool.map(one, range(len(images))))
        images = images.clone()
        for row, picture in enumerate(coded):
            if picture is not None:
                images[row] = picture
        return images

    # ------------------------------------------------------------------ validation

    def validate(self) -> dict[str, float]:
        """Validation scores on held-out pictures, with the averaged weights."""
        kept = {key: value.clone() for key, value in self._live.items()}
        self.module.load_state_dict(self.average)
        self.module.eval()
        self.module.watching = True
        try:
            return validate(
                self.module, self.albums, self.tasks, self.protocol.channel, self.protocol.snr_range, self.world.device
            )
        finally:
            self.module.watching = False
            self.module.load_state_dict(kept)

    # ------------------------------------------------------------------ state on disk

    def save_state(self) -> None:
        """Write everything that resuming needs. Raises StorageError if the disk refuses."""
        tensors = {f"model/{key}": value for key, value in self._live.items()}
        tensors |= {f"average/{key}": value for key, value in self.average.items()}
        for index, parameter in enumerate(self.parameters):
            entry = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer/{index}/{key}": value for key, value in entry.items()}
        facts = {
            "step": self.step, "seen": self.seen, "done": self.done, "rows": self.rows, "protocol": self.digest(),
            "seconds": self.spent, "minutes": self.schedule.minutes, "ended": self.schedule.ended(self.step),
        }  # fmt: skip
        saved_state.save_state(self.folder, tensors, facts)

    def load_state(self) -> bool:
        """Continue from the state in the folder, if there is one. Returns whether there was one.

        Raises UserError if it is of another protocol, or damaged.
        """
        loaded = saved_state.load_state(self.folder)
        if loaded is None:
            return False
        tensors, facts = loaded
        self._take(facts)
        try:
            self.module.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model/")})
            for key in self.average:
                self.average[key].copy_(tensors[f"average/{key}"])
            for index, parameter in enumerate(self.parameters):
                prefix = f"optimizer/{index}/"
                entry = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
                # Moments need their parameter's memory layout, because the fused optimiser reads both in order.
                self.optimizer.state[parameter] = {
                    key: value.to(parameter.device) if key == "step" else torch.empty_like(parameter.data).copy_(value)
                    for key, value in entry.items()
                }
        except (KeyError, RuntimeError):
            raise saved_state.damaged(saved_state.state_file(self.folder)) from None
        return True

    def _take(self, facts: dict) -> None:
        try:
            if facts["protocol"] != self.digest():
                raise UserError(
                    f"{self.folder}: holds a training run of another protocol or data; choose another --out or "
                    "remove it"
                )
            self.step, self.rows, self.spent = int(facts["step"]), list(facts["rows"]), float(facts["seconds"])
            self.seen = {task: int(facts["seen"][task]) for task in self.tasks}
            self.done = {task: int(facts["done"][task]) for task in self.tasks}
            if self.minutes is not None:
                self.schedule.minutes = float(facts["minutes"])
                self.schedule.used = self.spent
        except (KeyError, TypeError, ValueError):
            raise saved_state.damaged(saved_state.state_file(self.folder)) from None

    def _protocol(self) -> dict:
        """The protocol, with only those tasks that this system has."""
        return {**self.protocol.as_dict(), "tasks": {task: asdict(plan) for task, plan in self.tasks.items()}}

    def digest(self) -> str:
        """sha256 of everything that decides the run. A state with another digest is refused."""
        speed = ("compile", "compile_seconds", "record", "shares")  # they decide how fast, not what
        decides = [
            {key: value for key, value in self._protocol().items() if key not in speed},
            self.module.facts.get("sha256"),
            {task: self.albums[task].digest for task in self.tasks},
            self.name,
            self.size,
            repr(self.module.config),
            resolve(self.protocol.autocast, self.world.device),
            self.teacher,
            "clock" if self.minutes is not None else "crops",
        ]
        return hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()

    def write_metrics(self) -> None:
        """Write metrics.csv: one row per validation."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(self.folder / "metrics.csv", text.getvalue().encode())

    # ------------------------------------------------------------------ the run

    def run(self, max_steps: int | None = None, started: float | None = None) -> bool:
        """Train to the end of the schedule, or for `max_steps` steps. Returns whether the run has ended.

        It reports and saves on the way, also at Ctrl-C. started: the time of `time.monotonic()` from which the minutes
        count. Raises UserError if a loss is not finite.
        """
        start, first = time.monotonic() if started is None else started, self.step
        before, shown = self.spent, 0.0
        if self.minutes is not None and self.step == 0:  # the first validation, and the first state
            begin = time.monotonic()
            self.rows.clear()  # of a run that was stopped before its first step
            self._watch({"lr": 0.0, "losses": {}})
            watched = time.monotonic()
            if self.world.first:
                self.save_state()
            # What the end will take: as much again, and the weights.
            reserve = 1.5 * (watched - begin) + 2 * (time.monotonic() - watched) + 1.0
            self.schedule.minutes = self.world.same(max(self.minutes - min(reserve / 60, self.minutes / 2), 1e-9))
            # Watching takes a tenth of the time at most.
            most = int(0.1 * 60 * self.minutes / max(self.world.same(watched - begin), 1e-3))
            self.validations = max(1, min(self.protocol.validations, most))
        try:
            while not self._over() and (max_steps is None or self.step - first < max_steps):
                share, earlier = self.schedule.share(self.step), self.spent
                report = self.advance()
                now = time.monotonic()
                if self.world.size == 1 or self.step % 16 == 0 or self.step == first + 1:
                    self.spent = before + self.world.same(now - start)
                self.schedule.used, self.schedule.pace = self.spent, self.spent - earlier
                last = self._over()
                due = self._due(share)
                pause = max_steps is not None and self.step - first == max_steps
                if due or last or pause or self.step == first + 1 or now - shown > REPORT_SECONDS:
                    shown = now
                    losses = self._read_losses(report, of_all=due or last)
                    if due or last:
                        self._watch(report | {"losses": losses})
                    if self.world.first:
                        self.say(self._progress(report["task"], losses, now - start, first))
                if self.world.first and (last or pause or due or self.step % self.protocol.checkpoint_every == 0):
                    self._read_losses(report)
                    self.save_state()
        except KeyboardInterrupt:
            if self.world.first:
                self.save_state()
                self.say(self.stopped())
            raise
        if not self._over() and self.world.first:
            self.say(self.stopped())
        return self._over()

    def _over(self) -> bool:
        return self.step > 0 and self.schedule.ended(self.step)

    def _due(self, share: float) -> bool:
        """Whether to validate after the step that began at the share `share` of the run."""
        if self.minutes is None:
            return self.step % self.protocol.validate_every == 0
        count = self.validations
        return math.floor(share * count) != math.floor(self.schedule.share(self.step) * count)

    def _watch(self, report: dict) -> None:
        """Validate, and add a row to the metrics."""
        row = {
            "step": self.step,
            **({"seconds": round(self.spent, 1)} if self.minutes is not None else {}),
            **{f"seen_{task}": seen for task, seen in self.seen.items()},
            "lr": report["lr"],
            **report["losses"],
        }
        if self.world.first:
            self.rows.append({**row, **self.validate()})
            if self.step:
                self.write_metrics()

    def _read_losses(self, report: dict, of_all: bool = False) -> dict[str, float]:
        """The losses of a step in this process, or their means over all processes, which must then all call it.

        Raises UserError if they are not finite, because the weights are then lost.
        """
        losses = {key: float(value) for key, value in report["losses"].items()}
        if of_all and self.world.size > 1:
            means = together.mean_over_processes([*losses.values()], self.world.device)
            losses = dict(zip(losses, means, strict=True))
        total = sum(losses.values())
        if not math.isfinite(total):
            raise UserError(
                f"{self.name}: the loss is {total} by step {self.step}; lower its learning rate in the protocol "
                f"(learning_rates.{self.name} or learning_rate, here {self.protocol.rate_of(self.name):g})"
            )
        return losses

    def _progress(self, task: str, losses: dict[str, float], seconds: float, first: int) -> str:
        share = self.schedule.share(self.step)
        speed = (self.step - first) / max(seconds, 1e-9)
        total = self.schedule.total
        left = 60 * self.schedule.minutes - self.spent if total is None else (total - self.step) / speed
        shown = [f"{self.name} step {self.step}" + ("" if total is None else f"/{total}"), f"{100 * share:.0f} %", task]
        shown += [f"{key} {value:.4g}" for key, value in losses.items()]
        watched = next((row for row in reversed(self.rows)), {})
        shown += [f"{key} {value:.4g}" for key, value in watched.items() if key.startswith("val")]
        return "  ".join([*shown, f"{speed:.3g} steps/s", f"ETA {max(0.0, left) / 60:.1f} min"])

    @property
    def weights_file(self) -> Path:
        """The path of the finished weights."""
        return self.folder / f"{self.name}-{self.size}.safetensors"

    def stopped(self) -> str:
        """A line that says where the run stands, how to continue it, and where its weights will be."""
        where = f"step {self.step}" + ("" if self.schedule.total is None else f" of {self.schedule.total}")
        return (
            f"{self.name} stopped at {where}; the same command continues from there "
            f"({saved_state.state_file(self.folder)}), and its weights will be in {self.weights_file}"
        )

    def facts(self) -> dict:
        """The content of the sidecar of the trained weights."""
        before = self.module.facts  # of the weights from which this run started
        seen = {task: before.get("images_seen", {}).get(task, 0) + self.seen.get(task, 0) for task in self.module.tasks}
        data = {
            task: {
                "sources": plan.sources,
                "pictures": len(self.albums[task]),
                "sha256_of_contents": self.albums[task].digest,
            }
            for task, plan in self.tasks.items()
        }
        low, high = self.protocol.snr_range
        facts = {
            "system": self.name,
            "size": self.size,
            "images_seen": seen,
            "steps": self.step,
            "minutes": None if self.minutes is None else round(self.spent / 60, 2),
            "seed": self.protocol.seed,
            "snr_db": [low, high],  # equal if the protocol fixes the SNR
            "config": getattr(self.module.config, "__dict__", {}),
            "protocol": self._protocol(),
            "precision": resolve(self.protocol.autocast, self.world.device),
            "data": {**before.get("data", {}), **data},
            "validation": self.rows,
            "licence": self.protocol.licence,
        }
        if before:
            facts["started_from"] = {key: before[key] for key in _HISTORY if key in before}
            facts |= {"notes": before["notes"]} if "notes" in before else {}
            licences = [before.get("licence", self.protocol.licence), self.protocol.licence]
            facts["licence"] = "; ".join(dict.fromkeys(licences))
        return facts

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, with the names and shapes of the system's state dict."""
        return dict(self.average)
