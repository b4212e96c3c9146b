"""The number format in which a network's products are computed while it trains.

`learner` and `perf train` call it. Weights, optimiser, losses, the channel and the power rule stay in float32.
Autocast only lowers the precision of matrix products and convolutions.
"""

from __future__ import annotations

import contextlib

from systems.precision import bfloat16, multiplies_bfloat16


def resolve(setting: str, device: str) -> str:
    """ "bfloat16" or "off". "auto" becomes bfloat16 if the hardware can multiply it."""
    if setting != "auto":
        return setting
    return "bfloat16" if multiplies_bfloat16(device) else "off"


def autocast(setting: str, device: str):
    """The context in which a training step runs its forward pass."""
    if resolve(setting, device) == "off":
        return contextlib.nullcontext()
    return bfloat16(device)
