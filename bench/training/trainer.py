"""The training loop: resumable to the bit, alone or under torchrun.

    python -m bench train --systems gensc,witt --config small --data-root DATA
    torchrun --nproc-per-node 2 -m bench train --systems witt --config small --data-root DATA

Every draw (crops, flips, SNR, noise, dropout, budget) is a function of (seed, step, position in the batch). A run
killed at any moment and started again therefore goes on exactly where its last checkpoint left it, and two processes
with half a batch each compute what one process computes with the whole, to rounding (see `bench.training.distributed`).
State lies in safetensors; loading it unpickles nothing.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.digital import codec as source_codec
from baselines.digital.system import from_uint8, to_uint8
from bench.measure.channel import transmit
from bench.measure.metrics.scores import confusion, miou, mse_per_image, psnr_db
from bench.training import distributed as together
from bench.training.crops import Pictures, centre
from bench.training.protocol import Protocol, TaskProtocol
from systems.errors import UserError
from systems.interface import VOID, Budget, Link, System
from systems.learned import RECONSTRUCTION_LOSSES

VALIDATION_SNRS = (0.0, 10.0, 20.0)
_VALIDATION_SIZE = 224
_HISTORY = ("sha256", "commit", "images_seen", "steps", "seed", "protocol", "validation", "started_from")


@dataclass(frozen=True)
class World:
    """This process among those of torchrun; one process alone is rank 0 of 1."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str):
        """The world that torchrun's environment describes; leaves the process group at the end."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError("--device cuda: no CUDA device is visible; use --device cpu")
        if size == 1:
            yield cls(device=device)
            return
        local = int(os.environ["LOCAL_RANK"])
        if device.startswith("cuda"):
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        try:
            yield cls(dist.get_rank(), size, f"cuda:{local}" if device.startswith("cuda") else "cpu")
        finally:
            dist.destroy_process_group()


def step_seed(*parts) -> int:
    """A 63-bit seed from any printable parts."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


@torch.inference_mode()
def reconstruction_psnr(
    system: System, data: Pictures, plan: TaskProtocol, channel: str, device: str = "cpu"
) -> dict[str, float]:
    """Mean PSNR of a system on the held-out pictures' centres at three SNRs; the noise is the same for every system."""
    results = {}
    images = [centre(picture, _VALIDATION_SIZE, whole=False)[0][None].to(device) for picture in data.held_out]
    budget = _budget(plan, _VALIDATION_SIZE, 1.0)
    for snr in VALIDATION_SNRS:
        link = Link("reconstruction", _VALIDATION_SIZE, _VALIDATION_SIZE, budget, channel, snr)
        values = []
        for index, image in enumerate(images):
            received = transmit(system.encode(image, link), link, [step_seed("validation", snr, index)])
            values.append(psnr_db(mse_per_image(image, system.decode(received, link).output))[0])
        results[f"val_psnr_{snr:g}db"] = float(np.mean(values))
    return results


class _Step(nn.Module):
    """One training step as a module's forward, so that DistributedDataParallel can hook it."""

    def __init__(self, system: nn.Module):
        super().__init__()
        self.system = system

    def forward(self, *arguments) -> dict[str, Tensor]:
        return self.system.training_step(*arguments)


class Trainer:
    """Trains one system by a protocol, in a folder of its own."""

    def __init__(
        self,
        system: nn.Module,
        name: str,
        size: str,
        protocol: Protocol,
        data: dict[str, Pictures],
        folder: Path,
        world: World,
        teacher: nn.Module | None = None,
    ):
        self.module = system
        self.name, self.size, self.protocol, self.data, self.folder, self.world = (
            name,
            size,
            protocol,
            data,
            folder,
            world,
        )
        self.teacher = teacher
        self.tasks = {task: plan for task, plan in protocol.tasks.items() if task in self.module.tasks}
        if not self.tasks:
            raise UserError(f"{name}: the protocol trains {', '.join(protocol.tasks)}, which {name} does not do")
        if protocol.reconstruction_loss not in RECONSTRUCTION_LOSSES:
            raise UserError(
                f"unknown reconstruction_loss {protocol.reconstruction_loss!r} in the protocol; it is one of "
                + ", ".join(RECONSTRUCTION_LOSSES)
            )
        self.module.reconstruction_loss = RECONSTRUCTION_LOSSES[protocol.reconstruction_loss]
        self._freeze_what_others_use()
        self.schedule = _schedule(self.tasks)
        self.module.to(world.device, memory_format=torch.channels_last)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        shares = self.module.rate_shares()
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if shares.get(id(p), 1.0) == scale], "scale": scale}
                for scale in sorted({shares.get(id(parameter), 1.0) for parameter in self.parameters})
            ],
            lr=protocol.learning_rate,
            betas=protocol.betas,
            weight_decay=protocol.weight_decay,
            fused=True,
        )
        self.average = {key: value.detach().clone() for key, value in self.module.state_dict().items()}
        self.step = 0
        self.seen = dict.fromkeys(self.tasks, 0)
        self.rows: list[dict] = []
        self.step_module = _Step(self.module)
        if world.size > 1:
            together.share_layers(self.module, world.rank, world.size)
            self.step_module = nn.parallel.DistributedDataParallel(self.step_module, find_unused_parameters=True)

    def _freeze_what_others_use(self) -> None:
        """Going on with some tasks of weights that serve more: what the others use stays, to the bit."""
        if self.protocol.start == "none" or set(self.tasks) == set(self.module.tasks):
            return
        own = {id(parameter) for task in self.tasks for parameter in self.module.own_parameters(task)}
        for parameter in self.module.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in own)

    # ------------------------------------------------------------------ one step

    def _batch(self, task: str, plan: TaskProtocol, step: int):
        """This rank's pictures, targets and link of one step, and the noise seeds of its pictures."""
        stage = _stage(plan, self.seen[task])
        if stage.batch % self.world.size:
            raise UserError(
                f"a batch of {stage.batch} does not divide over {self.world.size} processes; change the protocol"
            )
        rows = range(self.world.rank, stage.batch, self.world.size)
        pairs, snrs, seeds = [], [], []
        for row in rows:
            rng = np.random.default_rng(step_seed(self.protocol.seed, task, step, row))
            pairs.append(self.data[task].draw(rng, stage.crop, plan.lowest_scale, plan.balance_classes))
            snrs.append(rng.uniform(*self.protocol.snr_db))
            seeds.append(int(rng.integers(2**62)))
        images = torch.stack([image for image, _ in pairs]).to(self.world.device, memory_format=torch.channels_last)
        target = images if task == "reconstruction" else torch.stack([mask for _, mask in pairs]).to(self.world.device)
        shared = np.random.default_rng(step_seed(self.protocol.seed, task, step, "budget"))
        share = 1.0 if shared.random() < 0.5 else 1.0 - plan.budget_jitter * shared.random()
        link = Link(
            task,
            stage.crop,
            stage.crop,
            _budget(plan, stage.crop, share),
            self.protocol.channel,
            torch.tensor(snrs, dtype=torch.float32),
        )
        return images, target, link, seeds, stage.batch

    def advance(self) -> dict[str, float]:
        """One optimiser step; gives this process's losses, whose mean over processes is the batch's."""
        protocol, step = self.protocol, self.step
        task = self.schedule[step]
        plan = self.tasks[task]
        images, target, link, seeds, batch = self._batch(task, plan, step)
        torch.manual_seed(step_seed(protocol.seed, step, 0, "dropout"))
        self.module.train()
        rate = protocol.learning_rate * _rate(step, len(self.schedule), protocol.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        with _autocast(protocol.autocast, self.world.device):
            if task == "segmentation" and self.teacher is not None and plan.distill:
                target = self._soften(images, target, plan.distill)
            if plan.coded and not self.module.sends:
                images = self._coded(images, plan, step)
            losses = self.step_module(images, target, link, lambda sent, at: transmit(sent, at, seeds))
            if self.world.size > 1:
                weight = together.weight_of(target, VOID, self.world.size)
                losses = {key: weight * value for key, value in losses.items()}
            loss = sum(losses.values())
        if not torch.isfinite(loss):
            raise UserError(
                f"{self.name}: the loss is {loss.item()} at step {step}; lower learning_rate in the protocol"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, protocol.clip_norm)
        self.optimizer.step()
        self._follow(step)
        self.step += 1
        self.seen[task] += batch
        return {"task": task, "lr": rate, **{key: float(value.detach()) for key, value in losses.items()}}

    @torch.no_grad()
    def _soften(self, images: Tensor, target: Tensor, weight: float) -> Tensor:
        """Class probabilities (B, 21, H, W): the teacher's beside the ground truth, the teacher's alone where that is
        void."""
        soft = self.teacher.segment(images).float().softmax(dim=1)
        void = (target == VOID)[:, None]
        hard = F.one_hot(target.masked_fill(target == VOID, 0), soft.shape[1]).permute(0, 3, 1, 2).float()
        return torch.where(void, soft, (1 - weight) * hard + weight * soft)

    def _coded(self, images: Tensor, plan: TaskProtocol, step: int) -> Tensor:
        """The crops as a network behind a digital link meets them: some of them as JPEG delivers them in a few
        bytes."""
        images = images.clone()
        for row in range(len(images)):
            rng = np.random.default_rng(
                step_seed(self.protocol.seed, "coded", step, self.world.rank + row * self.world.size)
            )
            if rng.random() < plan.coded:
                most = round(np.exp(rng.uniform(*np.log(plan.coded_bytes))))
                (pixels,) = to_uint8(images[row : row + 1])
                images[row] = from_uint8(
                    source_codec.decode(source_codec.encode_under(pixels, most).payload, "jpeg", *pixels.shape[:2])
                )
        return images

    def _follow(self, step: int) -> None:
        """Exponential moving average of weights and running statistics; counters are taken as they are."""
        decay = min(self.protocol.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            state = self.module.state_dict()
            floats = [key for key, value in state.items() if value.is_floating_point()]
            torch._foreach_lerp_([self.average[key] for key in floats], [state[key] for key in floats], 1 - decay)
            for key in state.keys() - set(floats):
                self.average[key].copy_(state[key])

    # ------------------------------------------------------------------ validation

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Mean PSNR at three SNRs on held-out pictures, and mIoU at 10 dB, with the averaged weights."""
        kept = {key: value.clone() for key, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.average)
        self.module.eval()
        results = {}
        try:
            for task, plan in self.tasks.items():
                whole = task == "segmentation"  # segmentation is watched on whole pictures, as it is tested
                if whole:
                    pairs = [centre(picture, _VALIDATION_SIZE, whole) for picture in self.data[task].held_out]
                    total = sum(
                        confusion(self._segment(image, plan, index).argmax(1)[0].cpu().numpy(), mask.numpy())
                        for index, (image, mask) in enumerate(pairs)
                    )
                    results["val_miou_10db"] = float(miou(total))
                    continue
                results |= reconstruction_psnr(
                    self.module, self.data[task], plan, self.protocol.channel, self.world.device
                )
        finally:
            self.module.load_state_dict(kept)
        return results

    def _segment(self, image: Tensor, plan: TaskProtocol, index: int) -> Tensor:
        images = image[None].to(self.world.device)
        if not self.module.sends:  # a part that sits behind a link sees the picture itself
            return self.module.segment(images)
        link = Link("segmentation", *image.shape[1:], _budget(plan, image.shape[1], 1.0), self.protocol.channel, 10.0)
        return self.module.decode(
            transmit(self.module.encode(images, link), link, [step_seed("validation", index)]), link
        ).output

    # ------------------------------------------------------------------ state on disk

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.safetensors"

    def save_state(self) -> None:
        """All that resuming needs, under a temporary name first."""
        tensors = {f"model/{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"average/{key}": value for key, value in self.average.items()}
        for index, parameter in enumerate(self.parameters):
            tensors |= {
                f"optimizer/{index}/{key}": value for key, value in self.optimizer.state.get(parameter, {}).items()
            }
        facts = {"step": self.step, "seen": self.seen, "rows": self.rows, "protocol": self._digest()}
        temporary = self._state_file.with_suffix(".tmp")
        save_file(
            {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()},
            temporary,
            {"facts": json.dumps(facts)},
        )
        os.replace(temporary, self._state_file)

    def load_state(self) -> bool:
        """Resume from the folder's state, if there is one. UserError if another protocol made it."""
        if not self._state_file.is_file():
            return False
        with safe_open(self._state_file, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            if facts["protocol"] != self._digest():
                raise UserError(
                    f"{self.folder}: holds a training run of another protocol or data; choose another --out or remove it"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        self.module.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model/")})
        for key in self.average:
            self.average[key].copy_(tensors[f"average/{key}"])
        for index, parameter in enumerate(self.parameters):
            prefix = f"optimizer/{index}/"
            entry = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            # Moments lie in memory as their parameter does: the fused optimiser walks both as they lie.
            self.optimizer.state[parameter] = {
                key: value.to(parameter.device) if key == "step" else torch.empty_like(parameter.data).copy_(value)
                for key, value in entry.items()
            }
        self.step, self.seen, self.rows = facts["step"], facts["seen"], facts["rows"]
        return True

    def _protocol(self) -> dict:
        """The protocol, with only the tasks that this system takes part in."""
        return {**self.protocol.as_dict(), "tasks": {task: asdict(plan) for task, plan in self.tasks.items()}}

    def _digest(self) -> str:
        data = {task: pictures.digest for task, pictures in self.data.items() if task in self.tasks}
        start = getattr(self.module, "facts", {}).get("sha256")
        decides = [
            self._protocol(),
            start,
            data,
            self.name,
            self.size,
            repr(getattr(self.module, "config", "")),
            _autocast_type(self.protocol.autocast, self.world.device),
            getattr(self.teacher, "facts", {}).get("sha256"),
        ]
        return hashlib.sha256(json.dumps(decides, default=str).encode()).hexdigest()

    def write_metrics(self) -> None:
        """metrics.csv: one row a report; the rows of a lost stretch are gone with it."""
        if not self.rows:
            return
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        temporary = self.folder / "metrics.csv.tmp"
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.folder / "metrics.csv")

    # ------------------------------------------------------------------ the run

    def run(self, max_steps: int | None = None) -> None:
        """Train to the end of the schedule (or for `max_steps` steps), reporting and checkpointing on the way."""
        total, start, first = len(self.schedule), time.monotonic(), self.step
        while self.step < total and (max_steps is None or self.step - first < max_steps):
            report = self.advance()
            last = self.step == total
            if self.step % self.protocol.validate_every == 0 or last:
                losses = {key: value for key, value in report.items() if key not in ("task", "lr")}
                if self.world.size > 1:
                    losses = dict(
                        zip(losses, together.mean_over_processes([*losses.values()], self.world.device), strict=True)
                    )
                if self.world.rank == 0:
                    self.rows.append(
                        {
                            "step": self.step,
                            **{f"seen_{task}": seen for task, seen in self.seen.items()},
                            "lr": report["lr"],
                            **losses,
                            **self.validate(),
                        }
                    )
                    self.write_metrics()
            pause = max_steps is not None and self.step - first == max_steps
            if self.world.rank == 0 and (self.step % self.protocol.checkpoint_every == 0 or last or pause):
                self.save_state()
            if self.world.rank == 0 and (self.step % 50 == 0 or last):
                left = (time.monotonic() - start) / (self.step - first) * (total - self.step)
                shown = " ".join(
                    f"{key}={value:.4g}"
                    for key, value in (self.rows[-1] if self.rows else {}).items()
                    if key.startswith("val")
                )
                losses = " ".join(f"{key}={value:.4g}" for key, value in report.items() if key not in ("task", "lr"))
                print(
                    f"{self.name} {self.step}/{total} {report['task'][:3]} {losses} {shown} ETA {left / 60:.1f} min",
                    file=sys.stderr,
                    flush=True,
                )

    def facts(self) -> dict:
        """The sidecar of the trained weights."""
        config = getattr(self.module, "config", None)
        before = getattr(self.module, "facts", {})  # of the weights that this run went on from
        seen = {task: before.get("images_seen", {}).get(task, 0) + self.seen.get(task, 0) for task in self.module.tasks}
        data = {
            task: {
                "sources": plan.sources,
                "pictures": len(self.data[task].training),
                "sha256_of_contents": self.data[task].digest,
            }
            for task, plan in self.tasks.items()
        }
        facts = {
            "system": self.name,
            "size": self.size,
            "images_seen": seen,
            "steps": self.step,
            "seed": self.protocol.seed,
            "config": getattr(config, "__dict__", {}),
            "protocol": self._protocol(),
            "data": {**before.get("data", {}), **data},
            "validation": self.rows,
            "licence": self.protocol.licence,
        }
        if before:
            facts["started_from"] = {key: before[key] for key in _HISTORY if key in before}
            facts |= {"notes": before["notes"]} if "notes" in before else {}
            facts["licence"] = "; ".join(
                dict.fromkeys([before.get("licence", self.protocol.licence), self.protocol.licence])
            )
        return facts

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, under the system's own names."""
        return dict(self.average)


def _schedule(tasks: dict[str, TaskProtocol]) -> list[str]:
    """The task of each step, the tasks' steps spread evenly over the run."""
    moments = []
    for order, (task, plan) in enumerate(tasks.items()):
        steps = _steps(plan)
        moments += [((index + 0.5) / steps, order, task) for index in range(steps)]
    return [task for _, _, task in sorted(moments)]


def _steps(plan: TaskProtocol) -> int:
    steps, seen = 0, 0
    while seen < plan.images_seen:
        seen += _stage(plan, seen).batch
        steps += 1
    return steps


def _stage(plan: TaskProtocol, seen: int):
    return next((stage for stage in plan.stages if seen < stage.until * plan.images_seen), plan.stages[-1])


def _rate(step: int, total: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _budget(plan: TaskProtocol, side: int, share: float) -> Budget:
    if plan.cbr is not None:
        return Budget.from_cbr(plan.cbr_value * share, side, side)
    return Budget(bits=round(plan.kbits * 1000 * share))


def _autocast_type(setting: str, device: str) -> str:
    """ "auto" resolved: bfloat16 where the hardware multiplies it."""
    if setting != "auto":
        return setting
    return "bfloat16" if device.startswith("cuda") or "avx512_bf16" in _cpu_flags() else "off"


def _autocast(setting: str, device: str):
    if _autocast_type(setting, device) == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.partition(":")[0], torch.bfloat16)


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
