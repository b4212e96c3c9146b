"""Weights: safetensors with a JSON sidecar that says what they are. Loading never unpickles.

A shipped checkpoint lies in its package, `<package>/weights/<system>-<size>.safetensors`, stored in float16; the
sidecar of the same stem holds config, data, images seen, seed, commit, validation curve, licence of the data, and the
sha256 of the weight file, which is verified on every load.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from systems.errors import CheckpointError


def shipped(package: str, system: str, size: str) -> Path | None:
    """Path of the weights that ship with `package`, or None."""
    path = Path(str(resources.files(package))) / "weights" / f"{system}-{size}.safetensors"
    return path if path.is_file() else None


def sidecar(path: Path) -> Path:
    """The JSON file beside a weight file."""
    return path.with_suffix(".json")


def save_weights(path: Path, state: dict[str, Tensor], facts: dict[str, Any]) -> str:
    """Write weights (floats as float16) and their sidecar, each under a temporary name first; gives the sha256."""
    tensors = {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in state.items()
    }
    lost = [key for key, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if lost:
        raise ValueError(f"{path}: {lost[0]!r} is not finite in float16, in which weights are stored")
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "sha256": digest}, indent=1, sort_keys=True) + "\n"
    for target, content in ((path, data), (sidecar(path), text.encode())):
        temporary = target.with_name(target.name + ".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, target)
    return digest


def read_facts(path: Path) -> dict[str, Any]:
    """The sidecar of a weight file."""
    try:
        return json.loads(sidecar(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no {sidecar(path).name} beside it; both files belong together") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{sidecar(path)}: not valid JSON ({error})") from None


def load_weights(module: nn.Module, path: Path) -> dict[str, Any]:
    """Fill `module` from `path` and give the sidecar. CheckpointError if missing, altered, truncated or misshapen."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint ({error.strerror})") from None
    facts = read_facts(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != facts.get("sha256"):
        raise CheckpointError(
            f"{path}: sha256 is {digest[:12]}..., its sidecar says {str(facts.get('sha256'))[:12]}...; "
            "the file is truncated or altered, fetch it again"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shapes = [key for key in set(wanted) & set(tensors) if wanted[key].shape != tensors[key].shape]
    if missing or extra or shapes:
        first = (missing + extra + shapes)[0]
        raise CheckpointError(
            f"{path}: does not fit this model ({len(missing)} tensors missing, {len(extra)} unknown, "
            f"{len(shapes)} of another shape, first {first!r}); use the size it was trained with"
        )
    module.load_state_dict({key: value.to(wanted[key].dtype) for key, value in tensors.items()})
    return facts


def count_parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random initialisation inside is fixed by `seed`; the caller's random stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
