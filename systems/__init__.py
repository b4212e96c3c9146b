"""The `System` interface, its registry, the store of trained weights (`weight_files`), and GenSC.

Both `baselines` and `bench` import this package. Nothing here imports either of them: imports point one way, `bench ->
baselines -> systems`. Each name is imported when it is first used, so that the command line can report errors without
loading torch.
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
