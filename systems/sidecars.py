"""Sidecars: the JSON file beside each weight file, which says what the weights are. Nothing here needs torch.

`systems.weight_files` writes them, and checks weights against them. `python -m bench list` reads them alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from systems.errors import CheckpointError

#: The licence in the sidecar where a training protocol names none for its pictures.
NO_LICENCE = "not stated"


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


def images_seen(facts: dict[str, Any]) -> dict[str, int]:
    """The number of pictures that weights saw in training, by task, as their sidecar says it.

    What is no count is left out, because the sidecar may be a stranger's.
    """
    told = facts.get("images_seen")
    counts = told.items() if isinstance(told, dict) else ()
    return {task: count for task, count in counts if _is_whole(count) and 0 <= count < 10**18}


def snr_range_db(facts: dict[str, Any], where: str = "the sidecar") -> tuple[float, float] | None:
    """The lowest and the highest SNR in dB that weights were trained at. None if their sidecar does not say it.

    where: the file, for the message. Raises CheckpointError for anything but a list of numbers.
    """
    protocol = facts.get("protocol")
    found = facts.get("snr_db", protocol.get("snr_db") if isinstance(protocol, dict) else None)
    if found is None or found == []:
        return None
    if not isinstance(found, list) or not all(map(_is_snr, found)):
        raise CheckpointError(f"{where}: snr_db is {found!r:.60}; it must be [LOW, HIGH], in dB, as training writes it")
    return float(found[0]), float(found[-1])


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_snr(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and -1000 <= value <= 1000


#: Facts of weights that ship: what each must be if it is there, in words, and its types.
_FACTS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("system", "size", "licence", "sha256", "knowledge", "notes", "commit"), ("a text", str)),
    "data": ("a text, a list or an object", (str, list, dict)),
    **dict.fromkeys(("config", "protocol", "linear_validation", "started_from", "origin"), ("an object", dict)),
    "undertrained": ("true or false", bool),
    "validation": ("a list", list),
}


def check_facts(facts: dict[str, Any], where: str) -> None:
    """Raise CheckpointError, with the first of them, for facts of a type that tables and commands cannot show.

    where: the sidecar, for the message.
    """
    for key, (words, kinds) in _FACTS.items():
        if key in facts and not isinstance(facts[key], kinds):
            raise CheckpointError(f"{where}: {key} is {facts[key]!r:.60}; it must be {words}: correct it")
    told = facts.get("images_seen")
    if told is not None and images_seen(facts) != told:
        raise CheckpointError(
            f"{where}: images_seen is {told!r:.60}; it must be an object with a number of pictures for each task, as "
            '{"reconstruction": 300000}: correct it'
        )
    snr_range_db(facts, where)


def must_be_plain(path: Path) -> None:
    """Raise CheckpointError for a pipe or a device, which would block its reader for ever."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: this is not a plain file; name a file of weights, with its sidecar beside it")
