"""The number format in which a network multiplies: float32, or bfloat16, which some hardware multiplies faster.

`systems.learned` calls it for `--precision`, and training for its steps. In bfloat16, matrix products and convolutions
take numbers of 8 significant bits and add in float32. Weights, the block-KLT code, the power rule and everything that
passes between systems and harness stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from systems.errors import UserError

PRECISIONS = ("float32", "bf16")
#: Flags of processors that multiply bfloat16 in hardware. Others emulate it, 14 times as slow as float32.
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def check_precision(name: str) -> str:
    """Return `name` if it is one of PRECISIONS. Otherwise raise UserError."""
    if name not in PRECISIONS:
        raise UserError(f"--precision {name}: no such precision; there are {' and '.join(PRECISIONS)}")
    return name


def multiplies_bfloat16(device: str) -> bool:
    """Whether the hardware of a device ("cpu", "cuda", "cuda:N") multiplies bfloat16 itself."""
    return device.startswith("cuda") or any(flag in _cpu_flags() for flag in _CPU_FLAGS)


def bfloat16(device: str) -> torch.autocast:
    """The context in which products are in bfloat16, on a device ("cpu", "cuda", "cuda:N")."""
    # With the cache, a weight is converted once until the end of the block; without it, at every use.
    return torch.autocast(device.partition(":")[0], torch.bfloat16, cache_enabled=True)


def in_bfloat16(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, a method whose first argument is a tensor or holds `symbols`, with its products in bfloat16. If it
    returns a function, that one too.
    """

    @wraps(call)
    def lowered(first: Any, *rest: Any) -> Any:
        device = (first if isinstance(first, torch.Tensor) else first.symbols).device.type

        def run(step: Callable[..., Any], *given: Any) -> Any:
            with bfloat16(device):
                return step(*given)

        done = run(call, first, *rest)
        return (lambda *given: run(done, *given)) if callable(done) else done

    return lowered


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
