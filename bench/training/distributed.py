"""Training in several processes: each has a part of the batch, and together they compute the same as one process with
the whole batch.

`learner` calls it, under torchrun. DistributedDataParallel averages the gradients. This is the gradient of the whole
batch only if nothing else depends on the process that has a picture. Three things do: batch norm takes its mean and
variance over the pictures at hand, dropout draws for them, and a mean over labelled pixels has a different divisor in
each process. Here, batch norm uses the pictures of all processes, dropout draws for the whole batch, and means are
weighted. (torch's SyncBatchNorm does the first on GPUs only.) Sums are still added in another order, so results agree
up to rounding, not exactly.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce  # differentiable: it sums the gradients of all processes

from systems.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among those of torchrun. A single process is rank 0 of 1."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def same(self, value: float) -> float:
        """The first process's `value`, in all processes. Clocks differ, and a run must end at
        the same step everywhere.
        """
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str):
        """In a `with` block: the world that torchrun's environment describes. Raises UserError for a wrong environment
        or device.

        All processes leave the block together. torchrun ends all others as soon as one fails, so one that fails at its
        exit would take the first with it, which still writes the weights.
        """
        try:
            size = int(os.environ.get("WORLD_SIZE", "1"))
            local = int(os.environ.get("LOCAL_RANK", "0"))
        except ValueError:
            raise UserError(
                "WORLD_SIZE and LOCAL_RANK are not numbers; start several processes with torchrun"
            ) from None
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError("--device cuda: no CUDA device is visible; use --device cpu")
        if size == 1:
            yield cls(device=device)
            return
        if device.startswith("cuda"):
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        try:
            yield cls(dist.get_rank(), size, f"cuda:{local}" if device.startswith("cuda") else "cpu")
            dist.barrier()
        finally:
            dist.destroy_process_group()


def share_layers(module: nn.Module, rank: int, size: int) -> None:
    """Make batch norm and dropout of `module` work as for the batch of all processes.

    Process r of `size` has the pictures r, r + size, ...
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = partial(_batch_norm, layer, layer.forward)
        elif isinstance(layer, nn.Dropout):
            layer.forward = partial(_dropout, layer, rank, size)


def weight_of(target: Tensor, void: int, size: int) -> Tensor | float:
    """The weight of this process's mean in the mean over all processes: its share of all labelled pixels, times the
    number of processes `size`.

    target: class indices (B, H, W), where `void` is not labelled. For pictures or probabilities (B, C, H, W) every
    pixel counts. Returns a scalar on the target's device.
    """
    if target.is_floating_point():
        return 1.0
    own = (target != void).sum().double()
    total = own.clone()
    dist.all_reduce(total)
    return (own * size / total.clamp(min=1)).float()


def mean_over_processes(values: list[float], device: str) -> list[float]:
    """The mean of each value over the processes."""
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return (total / dist.get_world_size()).tolist()


def _batch_norm(layer: nn.BatchNorm2d, alone, x: Tensor) -> Tensor:
    """`layer` on x (b, C, H, W). Where it uses the batch's statistics, they are those of all processes, computed in two
    passes.
    """
    if not layer.training:
        return alone(x)
    values, over = x.float(), (0, 2, 3)
    count = values.numel() // values.shape[1] * dist.get_world_size()  # every process has the same number of pictures
    mean = all_reduce(values.sum(over)) / count
    centred = values - mean[:, None, None]
    variance = all_reduce(centred.square().sum(over)) / count
    if layer.track_running_stats:
        with torch.no_grad():
            layer.num_batches_tracked += 1
            momentum = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean, momentum)
            layer.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)
    y = centred * torch.rsqrt(variance + layer.eps)[:, None, None]
    if layer.affine:
        y = y * layer.weight[:, None, None] + layer.bias[:, None, None]
    for name in ("drop", "act"):  # timm's batch norm includes its activation
        if hasattr(layer, name):
            y = getattr(layer, name)(y)
    return y.to(x.dtype)


def _dropout(layer: nn.Dropout, rank: int, size: int, x: Tensor) -> Tensor:
    """The part of the whole batch's draw for the pictures of this process. All processes have the same state of the
    generator.
    """
    if not layer.training or layer.p == 0:
        return x
    layout = (
        torch.channels_last
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    whole = torch.empty((len(x) * size, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=layout).fill_(1)
    return x * F.dropout(whole, layer.p)[rank::size]
