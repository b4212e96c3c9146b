"""Sidecars: the JSON file beside each weight file, which says what the weights are. Nothing here needs torch.

`systems.weight_files` writes them, and checks weights against them. `python -m bench list` reads them alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from systems.errors import CheckpointError


def sidecar(path: Path) -> Path:
    """Path of the JSON file beside a weight file."""
    return path.parent / f"{path.stem}.json"  # with_suffix would refuse "."


def read_facts(path: Path) -> dict[str, Any]:
    """The content of the sidecar of a weight file. Raises CheckpointError if it is missing or no JSON object."""
    must_be_plain(sidecar(path))
    try:
        facts = json.loads(sidecar(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: its sidecar {sidecar(path).name} is missing; put both files into one folder"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = "its values are nested too deep" if isinstance(error, RecursionError) else error
        raise CheckpointError(
            f"{sidecar(path)}: the sidecar is not valid JSON ({reason}); get it again with its weights"
        ) from None
    if not isinstance(facts, dict):
        raise CheckpointError(
            f"{sidecar(path)}: the file is not a JSON object, so it is no sidecar of weights; get the right one"
        )
    return facts


def must_be_plain(path: Path) -> None:
    """Raise CheckpointError for a pipe or a device, which would block its reader for ever."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: this is not a plain file; name a file of weights, with its sidecar beside it")
