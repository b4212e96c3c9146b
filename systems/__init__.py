"""The `System` interface, its registry, the weight zoo, and GenSC.

Nothing here imports `baselines` or `bench`: imports point one way, `bench -> baselines -> systems`.
Names are imported when they are first used, so that the command line can report errors without loading torch.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "Budget": "interface",
    "Decoded": "interface",
    "Link": "interface",
    "Received": "interface",
    "System": "interface",
    "Transmission": "interface",
    "create": "registry",
    "register": "registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"systems.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'systems' has no attribute {name!r}")
