"""Stores and loads trained weights: a safetensors file, and beside it a JSON file, its *sidecar*. Loading never
unpickles.

A shipped checkpoint lies in its package, `<package>/weights/<system>-<size>.safetensors`. The sidecar has the same name
with the ending `.json`. It holds the configuration, training data, number of images seen, seed, commit, validation
curve, licence of the data, and the sha256 of the weight file, which every load verifies. Called by `systems.learned`,
`systems.ship_weights` and `bench.training`.

Storage forms, chosen by `save_weights(bits=...)` and recorded in the sidecar under `storage`:
- 16: floats are stored as float16, the usual form.
- 32: floats are stored as float32. Weights that others published keep every bit.
- 8: large tensors are stored as int8, symmetric about 0, with the largest magnitude of each slice of the first axis (an
  output channel) in float16. Small tensors are stored as float16. The magnitudes of tensor NAME are the tensor
  "NAME::peak"; value = int8 * peak / 127.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from systems.errors import CheckpointError
from systems.sidecars import must_be_plain, read_facts, sidecar

DERIVED = "relative_position_index"  # older files hold this table; the window size determines it
PEAK = "::peak"
LEAST_INT8 = 2048  # a tensor of fewer values stays in float16
BITS = (8, 16, 32)
HEAD = 50  # least bytes that a file spends on the name, type, shape and place of a tensor


def shipped(package: str, system: str, size: str) -> Path | None:
    """Path of the weights of a system and size that ship with `package`, or None."""
    path = home(package, system, size)
    return path if path.is_file() else None


def home(package: str, system: str, size: str) -> Path:
    """The path that the weights of a system and size have when they ship with `package`. The file need not exist."""
    return Path(str(resources.files(package))) / "weights" / f"{system}-{size}.safetensors"


def packed(state: dict[str, Tensor], bits: int = 16, keep: Iterable[str] = ()) -> dict[str, Tensor]:
    """The tensors of a weight file in one of the storage forms, by name. Shapes stay.

    bits: 8, 16 or 32.
    keep: patterns of names that stay in float16 where `bits` is 8.
    Raises ValueError for other `bits`, or if a value is not finite in the form.
    """
    if bits not in BITS:
        raise ValueError(f"bits is {bits}; weights are stored in {', '.join(map(str, BITS))} bits")
    patterns = tuple(keep)
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if not value.is_floating_point():
            tensors[key] = value
            continue
        if bits == 8 and _is_large(value) and not any(fnmatch(key, pattern) for pattern in patterns):
            tensors[key], tensors[key + PEAK] = _quantise(value)
        else:
            tensors[key] = value.float() if bits == 32 else value.half()
    lost = [key for key, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if lost:
        raise ValueError(f"tensor {lost[0]!r} is not finite in float{max(bits, 16)}, the type in which it is stored")
    return tensors


def unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `packed`, by name; shapes stay. int8 tensors become float32, all others keep their stored type."""
    state = {}
    for key, value in tensors.items():
        if key.endswith(PEAK) or key.endswith(DERIVED):
            continue
        peak = tensors.get(key + PEAK)
        state[key] = value if peak is None else value.float() * (peak.float() / 127).view(-1, *[1] * (value.ndim - 1))
    return state


def _is_large(value: Tensor) -> bool:
    return value.ndim >= 2 and value.numel() >= LEAST_INT8


def _quantise(value: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values in [-127, 127], and the float16 peak of each slice of the first axis."""
    rows = value.float().flatten(1)
    exact = rows.abs().amax(dim=1)
    peak = exact.half()
    # A peak that was rounded down would clip the largest value, so it becomes the next larger float16.
    peak = torch.where(peak.float() < exact, torch.nextafter(peak, peak.new_tensor(6e4)), peak)
    levels = rows * (127 / peak.float().clamp_min(1e-12))[:, None]
    return levels.round().clamp(-127, 127).to(torch.int8).view(value.shape), peak


def save_weights(
    path: Path, state: dict[str, Tensor], facts: dict[str, Any], bits: int = 16, keep: Iterable[str] = ()
) -> str:
    """Write the tensors `state`, of any shapes, in a storage form, and their sidecar. Returns the file's sha256.

    Both files are written under a temporary name and then renamed. facts: the content of the sidecar. bits, keep: see
    `packed`.
    Raises ValueError if a value is not finite in the form.
    """
    try:
        tensors = packed(state, bits, keep)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {**facts, "sha256": digest, "storage": {"bits": bits, "float16_kept": sorted(keep)}}
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    for target, content in ((path, data), (sidecar(path), text.encode())):
        temporary = target.with_name(target.name + ".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, target)
    return digest


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a weight file, unpacked, by name, each in its own shape; and the content of the sidecar.

    Raises CheckpointError if a file is missing, altered or truncated.
    """
    must_be_plain(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read ({error.strerror})") from None
    facts = read_facts(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != facts.get("sha256"):
        raise CheckpointError(
            f"{path}: its sha256 is {digest[:12]}..., and its sidecar says {str(facts.get('sha256'))[:12]}...; "
            "the file is truncated or altered: get it again"
        )
    try:
        return unpacked(load(data)), facts
    except SafetensorError as error:
        raise CheckpointError(f"{path}: the file is not a whole safetensors file ({error}); get it again") from None
    except RuntimeError:  # int8 values and peaks whose shapes do not go together
        raise CheckpointError(
            f"{path}: the shapes of int8 tensors and of their peaks do not fit; write the file again"
        ) from None


def fit_state(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy `tensors`, by name, into `module`. where: the file's name, for messages.

    Raises CheckpointError, with the first name, if tensors are missing, unknown or of another shape.
    """
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shapes = sorted(key for key in set(wanted) & set(tensors) if wanted[key].shape != tensors[key].shape)
    if missing or extra or shapes:
        first = (missing + extra + shapes)[0]
        raise CheckpointError(
            f"{where}: the file does not fit this network ({len(missing)} tensors missing, {len(extra)} unknown, "
            f"{len(shapes)} of another shape, first {first!r}); use the size that it was trained in"
        )
    module.load_state_dict({key: value.to(wanted[key].dtype) for key, value in tensors.items()})


def load_weights(module: nn.Module, path: Path) -> dict[str, Any]:
    """Fill `module` from the file `path`. Returns the content of the sidecar.

    Raises CheckpointError if the file is missing, altered, truncated or does not fit.
    """
    tensors, facts = read_weights(path)
    fit_state(module, tensors, str(path))
    return facts


@contextmanager
def no_larger_than(file: Path, where: str) -> Iterator[None]:
    """In a `with` block: the modules that are made have no more parameters than `file` can hold.

    A stored value takes a byte or more, and a tensor's name and shape take HEAD bytes or more. The tensor that is too
    large is not filled yet, so it takes no memory. where: of the configuration, for the message. Raises
    CheckpointError, also if there is no such file.
    """
    try:
        left = file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{file}: the checkpoint cannot be read ({error.strerror})") from None

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal left
        left -= HEAD + (parameter.numel() if parameter is not None else 0)
        if left < 0:
            raise CheckpointError(
                f"{where}: the configuration is of a network with more values than {file.name} can hold; get the file "
                "again"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters. Buffers do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the `with` block torch's random numbers start from `seed`. Afterwards the caller's random stream continues
    as before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
