"""Random streams that a system may use while it is called. A seed fixes them, and the caller's streams are restored.

`bench.measure.calls` and `bench.measure.apart.child` call it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass
class Stream:
    """The global streams after they were seeded: of torch (CPU, and the device if it is CUDA), numpy and Python."""

    device: str
    _start: list[Any]

    def used(self) -> bool:
        """Whether random numbers were drawn since."""
        return any(not _same(one, other) for one, other in zip(self._start, _states(self.device), strict=True))


@contextmanager
def stream(seed: int, device: str = "cpu") -> Iterator[Stream]:
    """Seed the global streams for the `with` block. Afterwards they continue as before."""
    before = _states(device)
    torch.default_generator.manual_seed(seed % 2**63)
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield Stream(device, _states(device))
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
        if device.startswith("cuda"):
            torch.cuda.set_rng_state(before[3], device)


def _states(device: str) -> list[Any]:
    states: list[Any] = [torch.get_rng_state(), np.random.get_state(), random.getstate()]
    return [*states, torch.cuda.get_rng_state(device)] if device.startswith("cuda") else states


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and any(isinstance(part, np.ndarray) for part in one):
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
