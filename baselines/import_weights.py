"""Reads weights that others published, and converts names and layouts of their tensors to ours.

`python -m bench weights import` calls it. Each reader takes a public state dict. It gives the configuration, inferred
from the tensors alone, and the state under our names. A tensor that it cannot place raises an error of one line. The
known layouts:

    witt       KeYang8/WITT, the authors' program (HR and CIFAR models, with and without ModNet)
    deepjscc   chunbaobao/Deep-JSCC-PyTorch (Bourtsoulatze 2019)
    fcn        torchvision's fcn_resnet50
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from systems import registry, weight_files
from systems.errors import FAULTS, CheckpointError, UnknownName, UserError, did_you_mean, reason
from systems.learned import IMPORTED

State = dict[str, Tensor]


@dataclass(frozen=True)
class ImportedWeights:
    """A public file after a reader: the configuration, the state under our names, and facts for the sidecar."""

    config: Any
    state: State
    facts: dict[str, Any]

    def sidecar(self) -> dict[str, Any]:
        """The facts, with the configuration. When the weights are used, the network is built
        from this configuration.
        """
        return {**self.facts, "config": asdict(self.config)}


def witt(state: State) -> ImportedWeights:
    """The authors' WITT. Raises CheckpointError if it is another layout.

    Their patch merging lists a 2 x 2 patch by columns, ours by rows, so these weights are permuted.
    """
    from baselines.witt import WITTConfig

    def count(prefix: str) -> int:
        found = {int(m[1]) for key in state if (m := re.match(re.escape(prefix) + r"(\d+)\.", key))}
        return len(found)

    stages = count("encoder.layers.")
    _need(stages > 0, "witt", "no tensor 'encoder.layers.0...'")
    first = [f"encoder.layers.{level}.blocks.0." for level in range(stages)]
    tables = [_of(state, f"{prefix}attn.relative_position_bias_table", "witt") for prefix in first]
    windows = tuple((math.isqrt(len(table)) + 1) // 2 for table in tables)
    embed = tuple(len(_of(state, f"{prefix}norm1.weight", "witt")) for prefix in first)
    gates = count("encoder.bm_list.")
    # The authors' program decides when it builds the network, by the size of its crops, whether windows shift. A file
    # has the masks of those that do. One without any masks does not say it.
    masked = [any(key.startswith(f"encoder.layers.{level}.") and key.endswith("attn_mask") for key in state)
              for level in range(stages)]  # fmt: skip
    config = WITTConfig(
        channels=len(_of(state, "encoder.head_list.weight", "witt")),
        embed=embed,
        depths=tuple(count(f"encoder.layers.{level}.blocks.") for level in range(stages)),
        heads=tuple(table.shape[1] for table in tables),
        window=max(windows),
        windows=windows if len(set(windows)) > 1 else (),
        shifted=tuple(masked) if any(masked) else (),
        mlp_ratio=len(_of(state, f"{first[0]}mlp.fc1.weight", "witt")) / embed[0],
        modnet_layers=gates,
        modnet_hidden=len(_of(state, "encoder.sm_list.0.weight", "witt")) if gates else 0,
        embed_norm="encoder.patch_embed.norm.weight" in state,
    )
    _need(all(dim % heads == 0 for dim, heads in zip(embed, config.heads)), "witt", "heads do not divide the widths")
    names = (
        (r"encoder\.patch_embed\.proj\.", "encoder.embed."),
        (r"encoder\.patch_embed\.norm\.", "encoder.embed_norm."),
        (r"(encoder|decoder)\.head_list\.", r"\1.head."),
        (r"(encoder|decoder)\.bm_list\.(\d+)\.fc\.", r"\1.modnet.gates.\2."),
        (rf"(encoder|decoder)\.sm_list\.{gates}\.", r"\1.modnet.out."),
        (r"(encoder|decoder)\.sm_list\.", r"\1.modnet.linears."),
        (r"(encoder|decoder)\.layers\.(\d+)\.(?:downsample|upsample)\.", r"\1.merges.\2."),
        (r"(encoder|decoder)\.layers\.", r"\1.stages."),
    )
    ours: State = {}
    for key, value in state.items():
        if not key.startswith(("encoder.", "decoder.")) or key.endswith(("relative_position_index", "attn_mask")):
            continue  # buffers that the sizes determine, and losses that the model contains
        new = next((re.sub("^" + old, name, key) for old, name in names if re.match(old, key)), key)
        new = new.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")
        if ".downsample." in key:
            value = _by_rows(value)
        ours[new] = value
    return ImportedWeights(config, ours, {"snr_db": [1.0, 13.0]} if gates else {})


def _by_rows(value: Tensor) -> Tensor:
    """Reorder (4C,) of a LayerNorm, or (out, 4C) of a reduction, over a 2 x 2 patch: from
    columns first to rows first.
    """
    first, second, third, fourth = value.chunk(4, dim=-1)
    return torch.cat([first, third, second, fourth], dim=-1)


def deepjscc(state: State) -> ImportedWeights:
    """Deep-JSCC-PyTorch. Raises CheckpointError if it is another layout.

    Its symbols have power 1 per real value, ours 1/2, so the decoder's first layer is scaled. Its noise has half of the
    nominal power (as its own notes say): true SNR = nominal SNR + 3.01 dB, also in training.
    """
    from baselines.deepjscc import DeepJSCCConfig

    layers = sorted(int(m[1]) for key in state if (m := re.fullmatch(r"encoder\.conv(\d+)\.conv\.weight", key)))
    _need(
        len(layers) >= 3 and layers == list(range(1, len(layers) + 1)), "deepjscc", "no 'encoder.conv1.conv.weight'..."
    )
    weights = [_of(state, f"encoder.conv{index}.conv.weight", "deepjscc") for index in layers]
    kernels = {tuple(weight.shape[2:]) for weight in weights}
    _need(len(kernels) == 1, "deepjscc", f"kernels of several sizes ({kernels})")
    config = DeepJSCCConfig(
        channels=len(weights[-1]), filters=tuple(len(w) for w in weights[:-1]), kernel=weights[0].shape[-1]
    )
    ours: State = {}
    for key, value in state.items():
        match = re.fullmatch(r"(encoder|decoder)\.t?conv(\d+)\.(conv|transconv|prelu|activate)\.(weight|bias)", key)
        _need(match is not None, "deepjscc", f"unknown tensor {key!r}")
        side, index, kind, part = match.groups()  # type: ignore[union-attr]
        place = 2 * (int(index) - 1) + (kind in ("prelu", "activate"))
        if side == "decoder" and index == "1" and part == "weight" and kind == "transconv":
            value = value * math.sqrt(2)
        ours[f"{side}.{place}.{part}"] = value
    return ImportedWeights(config, ours, {"notes": "true SNR of training and of published curves = nominal + 3.01 dB"})


def fcn(state: State) -> ImportedWeights:
    """torchvision's fcn_resnet50, with the names and sizes of our FCN in size `paper`. Raises CheckpointError."""
    from baselines.fcn import FCNConfig, from_torchvision
    from systems.sizes import load_size

    ours = from_torchvision(state)
    _need("backbone.net.layer1.0.conv1.weight" in ours, "fcn", "no 'backbone.layer1.0.conv1.weight'")
    return ImportedWeights(load_size(FCNConfig, "fcn", "paper"), ours, {"knowledge": "ImageNet backbone"})


def read_state(path: Path) -> State:
    """The state dict in a public file: safetensors, or torch's format read with `weights_only`.

    Names stay, except that DataParallel's prefix `module.` and an outer `state_dict` or `model` are removed. Raises
    CheckpointError.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would block its reader for ever
            raise CheckpointError(f"{path}: this is not a plain file; name a file of weights")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: the file cannot be read ({error.strerror})") from None
    try:
        if path.suffix == ".safetensors":
            found: Any = load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: the file is not a whole safetensors file ({error}); get it again") from None
    except Exception as error:  # torch passes on the errors of its archive reader, of pickle and of zipfile
        raise CheckpointError(
            f"{path}: the file is not a plain state dict ({reason(error)}), and the bench runs no code of a file; "
            "save the model's state_dict() alone, or as safetensors"
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()) or not found:
        raise CheckpointError(f"{path}: the file holds no state dict (names to tensors); save the model's state_dict()")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def import_weights(name: str, path: Path, out: Path, snr_db: tuple[float, float] | None = None) -> dict[str, Any]:
    """Convert a public file to safetensors (every bit is kept) and a sidecar at `out`. Returns the facts of the
    sidecar.

    snr_db: lowest and highest SNR in dB of its training, where the layout does not say. Raises CheckpointError, or
    UnknownName if the layout of `name` is not known.
    """
    if name not in READERS:
        hint = did_you_mean(name, READERS, "known layouts")
        raise UnknownName(f"no published layout of {name!r} is known (baselines/import_weights.py); {hint}")
    state = read_state(path)
    try:
        return _convert(name, path, state, out, snr_db)
    except (UserError, OSError):
        raise
    except FAULTS as error:  # whatever a stranger's names, shapes and values make readers and networks raise
        raise CheckpointError(
            f"{path}: the weights do not fit {name} ({reason(error)}); name a file of a layout that "
            "baselines/import_weights.py lists"
        ) from None


def _convert(name: str, path: Path, state: State, out: Path, snr_db: tuple[float, float] | None) -> dict[str, Any]:
    try:
        found = READERS[name](state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    kind: Any = registry.find(name, parts=True).load()
    with weight_files.no_larger_than(path, str(path)):
        network = kind(name=name, size=IMPORTED, checkpoint="none", config=found.config)
    weight_files.fit_state(network, found.state, str(path))
    facts = {
        "system": name,
        "size": IMPORTED,
        "images_seen": "not known: weights of others",
        "licence": "that of the weights' publisher; not ours to ship",
        "origin": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "tensors": len(state)},
        **found.sidecar(),
        **({"snr_db": list(snr_db)} if snr_db else {}),
    }
    digest = weight_files.save_weights(out, network.state_dict(), facts, bits=32)
    return {**facts, "sha256": digest, "parameters": weight_files.count_parameters(network)}


READERS: dict[str, Callable[[State], ImportedWeights]] = {"witt": witt, "deepjscc": deepjscc, "fcn": fcn}


def _of(state: State, key: str, name: str) -> Tensor:
    _need(key in state, name, f"no tensor {key!r}")
    return state[key]


def _need(holds: bool, name: str, problem: str) -> None:
    if not holds:
        raise CheckpointError(f"this is not the published layout of {name} (baselines/import_weights.py): {problem}")
