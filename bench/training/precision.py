"""In which number format a network's products are computed while it trains.

Called by the trainer and by `perf train`. Weights, optimiser, losses, the channel and the power rule stay in float32;
autocast lowers matrix products and convolutions alone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

#: Flags of processors that multiply bfloat16 in hardware. Others emulate it, 14 times slower than float32.
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def resolve(setting: str, device: str) -> str:
    """ "bfloat16" or "off"; "auto" is bfloat16 where the hardware multiplies it."""
    if setting != "auto":
        return setting
    fast = device.startswith("cuda") or any(flag in _cpu_flags() for flag in _CPU_FLAGS)
    return "bfloat16" if fast else "off"


def autocast(setting: str, device: str):
    """The context in which a training step runs its forward pass."""
    if resolve(setting, device) == "off":
        return contextlib.nullcontext()
    # Without the cache every use of a weight is cast anew; with it once a step.
    return torch.autocast(device.partition(":")[0], torch.bfloat16, cache_enabled=True)


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
