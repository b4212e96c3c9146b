"""Chooses the device that computes, and the number of workers. Called by the commands that compute."""

from __future__ import annotations

import os

from bench.util.environment import cores
from systems.errors import UserError

#: Environment variables that numerical libraries read once, when they are imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def plan_with_one_thread() -> None:
    """Limit numerical libraries to one thread. Call it before numpy and torch are imported.

    A process that only makes a plan needs no threads, and only a process without threads may fork safely.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


def pick_device(name: str) -> str:
    """auto | cpu | cuda | cuda:N -> the name of a device that exists. Raises UserError."""
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: devices are auto, cpu, cuda and cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UserError(
                f"--device {name}: this machine has {count or 'no'} CUDA device{'s' if count > 1 else ''}; "
                "use --device cpu"
            )
    return name


def default_workers(device: str) -> int:
    """The number of workers: one per core on a CPU, one per GPU for "cuda", otherwise 1."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.device_count() if device == "cuda" else 1
    return cores()
