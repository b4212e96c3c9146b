"""Puts trained weights into their package, where `systems.weight_files` looks for them.

`python -m bench weights ship` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from systems import registry, sidecars, weight_files
from systems.errors import CheckpointError
from systems.learned import IMPORTED
from systems.sidecars import NO_LICENCE
from systems.sizes import sizes_of

NEEDED = ("system", "size", "images_seen", "licence")


def ship(path: Path, bits: int = 16, keep: Sequence[str] = ()) -> Path:
    """Check a weight file, store it with `bits` bits per value (8 or 16), and put it with its sidecar into its package.

    keep: patterns of tensor names that stay in float16 where `bits` is 8. Returns the path of the new file. Raises
    CheckpointError if the file is altered, does not fit its size, was published by others, or if its sidecar does not
    say what it was trained on, or says it in another form.
    """
    tensors, facts = weight_files.read_weights(path)
    missing = [key for key in NEEDED if not facts.get(key)]
    if missing:
        raise CheckpointError(
            f"{sidecars.sidecar(path)}: the sidecar does not say {', '.join(missing)}; weights that ship must "
            "say how they were trained: add it, or train them again"
        )
    if NO_LICENCE in str(facts["licence"]).split("; "):  # of this training, or of the one that it started from
        raise CheckpointError(
            f"{sidecars.sidecar(path)}: the licence of the training pictures is {NO_LICENCE!r}; write it as `licence` "
            "into the protocol and train again"
        )
    if facts["size"] == IMPORTED:
        raise CheckpointError(
            f"{path}: these weights were published by others, and their licence does not let them ship here; use them "
            "with --checkpoint"
        )
    sidecars.check_facts(facts, str(sidecars.sidecar(path)))
    name, size = facts["system"], facts["size"]
    entry = registry.find(name, parts=True)
    kind: Any = entry.load()
    sizes = (kind.fitted_size,) if entry.fitted else sizes_of(name)
    if size not in sizes:  # it becomes a part of the path
        known = ", ".join(sizes)
        raise CheckpointError(
            f"{path}: these weights are of size {size!r}, which {name} does not have; its sizes are {known} "
            "(configs/models)"
        )
    kind(name=name, checkpoint=str(path), **({} if entry.fitted else {"size": size}))  # raises if they do not fit
    target = weight_files.home(entry.target.partition(".")[0], name, size)
    try:
        weight_files.save_weights(target, tensors, {**facts, "packed_from": facts["sha256"]}, bits, keep)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return target
