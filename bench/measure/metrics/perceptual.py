"""LPIPS: how different two pictures look, by the features of a network trained on human judgements."""

from __future__ import annotations

import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.measure.metrics.image import PicturePair, check_shapes
from systems.pixels import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"


def lpips(reference: Tensor, output: Tensor) -> np.ndarray | None:
    """LPIPS (AlexNet, v0.1) of each picture after 8-bit rounding, lower is better, (B, 3, H, W) -> float64 (B,).

    None unless the package `lpips` is installed and AlexNet's weights already lie in torch's hub folder: a metric must
    not start a download in the middle of a sweep.
    """
    import torch

    check_shapes(reference, output)
    model = _lpips_model(torch.hub.get_dir())
    if model is None:
        return None
    x, y = (to_uint8(images).float().cpu() / 127.5 - 1 for images in (reference, output))
    with torch.no_grad():
        return model(x, y).flatten().double().numpy()


def lpips_of(pair: PicturePair) -> float | None:
    """LPIPS of one picture."""
    values = lpips(pair.reference[None], pair.output[None])
    return None if values is None else float(values[0])


@lru_cache(maxsize=1)
def _lpips_model(hub: str):
    weights = Path(hub) / "checkpoints" / LPIPS_BACKBONE
    if importlib.util.find_spec("lpips") is None or not weights.is_file():
        return None
    import lpips as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision in an old way
        return package.LPIPS(net="alex", verbose=False).eval()
