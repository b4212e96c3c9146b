"""The file `state.safetensors` of a training run: tensors and plain facts, written and read.

`resume` calls it, and says what the file must hold. The file is written completely or not at all. Loading unpickles
nothing. A damaged file gives a message of one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.util.files import replacing
from systems.errors import UserError

FILE = "state.safetensors"
_LONGEST = 10**9  # longest plausible header in bytes


def path_in(folder: Path) -> Path:
    """The file with the state of a run in `folder`."""
    return folder / FILE


def save_state(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors, by name and of any shape, and plain facts. A missing folder is made. Raises StorageError if the
    disk refuses.
    """
    stored = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    with replacing(path_in(folder)) as temporary:
        save_file(stored, temporary, {"facts": json.dumps(facts)})


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of a run in `folder`, without its tensors. None if there is none. Raises UserError if the file is
    damaged.
    """
    path = path_in(folder)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < _LONGEST:
                raise ValueError("no header")
            facts = json.loads(json.loads(file.read(length))["__metadata__"]["facts"])
        if not isinstance(facts, dict):
            raise ValueError("facts are no table")
        return facts
    except OSError as error:
        raise UserError(f"{path}: cannot read the state of this training run ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise damaged(path) from None


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors by name, in their saved shapes; facts) of a run in `folder`. None if there is none. Raises UserError if
    the file is damaged.
    """
    facts = read_facts(folder)
    if facts is None:
        return None
    try:
        return load_file(path_in(folder)), facts
    except OSError as error:
        raise UserError(
            f"{path_in(folder)}: cannot read the state of this training run ({error.strerror or error})"
        ) from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
        raise damaged(path_in(folder)) from None


def damaged(path: Path) -> UserError:
    """The UserError for a state from which training cannot continue."""
    return UserError(
        f"{path}: damaged, so training cannot continue from it; remove the file to start again, or choose another --out"
    )
