"""The file `state.safetensors` of a training run: tensors and plain facts, written and read.

`resume` calls it. Every fact is checked here by one schema, so no other code meets a value of another kind or range.
The file is written completely or not at all. Loading unpickles nothing. A damaged file gives a message of one line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
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
_MOST = 10**15  # steps, crops or seconds of a run


def _is_number(value: Any, least: float = -1e300, most: float = 1e300) -> bool:
    """Whether a value is a finite number within limits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value, 0, _MOST)


def _is_row(row: Any) -> bool:
    """Whether a value is a row of metrics.csv: a step, and numbers under names that a line can show."""
    return isinstance(row, dict) and _is_count(row.get("step")) and all(map(_is_metric, row.items()))


def _is_metric(item: tuple[str, Any]) -> bool:
    """Whether a row may hold the item. The mIoU of masks without a labelled pixel is NaN."""
    name, value = item
    empty = name.startswith("val_miou") and isinstance(value, float) and math.isnan(value)
    return name.isprintable() and (empty or _is_number(value))


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


#: What each fact must be: in words, and the check.
_FACTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "step": ("a number of steps", _is_count),
    "seen": ("a number of crops for each task", _are_counts),
    "done": ("a number of steps for each task", _are_counts),
    "rows": ("rows of numbers, each with its step", lambda rows: isinstance(rows, list) and all(map(_is_row, rows))),
    "protocol": ("a text", lambda value: isinstance(value, str)),
    "seconds": ("a time in seconds", lambda value: _is_number(value, 0, _MOST)),
    "minutes": ("null, or a time in minutes", lambda value: value is None or _is_number(value, 1e-12, _MOST)),
    "ended": ("true or false", lambda value: isinstance(value, bool)),
}


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
    damaged, or if a fact is missing, or is not what it must be.
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
    except OSError as error:
        raise UserError(f"{path}: cannot read the state of this training run ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise damaged(path) from None
    for key, (words, holds) in _FACTS.items():
        if not holds(facts.get(key)):
            raise damaged(path, f"its {key} must be {words}")
    return facts


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


def check_tensors(path: Path, tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Raise UserError if a state's tensors are not those of `wanted`, by name, type and shape, or not finite."""
    if strange := sorted(tensors.keys() ^ wanted.keys()):
        kind = "has an unknown" if strange[0] in tensors else "lacks the"
        raise damaged(path, f"it {kind} tensor {strange[0]!r:.80}")
    for name, value in tensors.items():
        if (value.dtype, value.shape) != (wanted[name].dtype, wanted[name].shape):
            raise damaged(path, f"its tensor {name} has another type or shape than the network's")
        if not torch.isfinite(value).all():
            raise damaged(path, f"its tensor {name} is not finite")


def damaged(path: Path, why: str = "") -> UserError:
    """The UserError for a state from which training cannot continue. why: what is wrong, in words."""
    return UserError(
        f"{path}: damaged{f' ({why})' if why else ''}, so training cannot continue from it; remove the file to start "
        "again, or choose another --out"
    )
