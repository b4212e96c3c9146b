"""Computes SSIM of two planes in one compiled pass, row by row. So blurred means, energies and products stay in the
processor's cache.

`bench.measure.metrics.image` calls it. All values are float64, and sums are added in a fixed order, so the result does
not depend on the load or the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from systems.numba_compile import compiled

RADIUS = 5  # 11 taps
SIGMA = 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # K1 = 0.01, K2 = 0.03 on the 0..255 scale

_half = [math.exp(-(offset**2) / (2 * SIGMA**2)) for offset in range(-RADIUS, 1)]
_TAPS = tuple(value / (2 * sum(_half) - _half[-1]) for value in _half + _half[-2::-1])


@compiled
def _blur_row(source: np.ndarray, target: np.ndarray) -> None:
    for j in range(target.shape[0]):
        total = 0.0
        for k in range(len(_TAPS)):
            total += _TAPS[k] * source[j + k]
        target[j] = total


@compiled
def ssim_terms(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Means over a plane of SSIM and of its contrast-structure part.

    x, y: float64 (H, W) in 0..255, with sides of at least 11. Only the sum of the two variances is needed, so there are
    four blurs: of x, y, x^2 + y^2 and x y.
    """
    columns, width, height = x.shape[1], x.shape[1] - 2 * RADIUS, x.shape[0] - 2 * RADIUS
    # Arrays with one dimension, so that every inner loop runs along a row and becomes vector instructions.
    down_x, down_y, down_energy, down_product = (
        np.empty(columns),
        np.empty(columns),
        np.empty(columns),
        np.empty(columns),
    )
    mean_x, mean_y, energy, product = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    similarity, contrast = np.zeros(width), np.zeros(width)
    for i in range(height):
        for j in range(columns):
            sum_x, sum_y, sum_energy, sum_product = 0.0, 0.0, 0.0, 0.0
            for k in range(len(_TAPS)):
                weight = _TAPS[k]  # read once; with a second read the compiler makes no vector instructions
                a, b = x[i + k, j], y[i + k, j]
                weighted_a, weighted_b = weight * a, weight * b
                sum_x += weighted_a
                sum_y += weighted_b
                sum_energy += weighted_a * a + weighted_b * b
                sum_product += weighted_a * b
            down_x[j], down_y[j], down_energy[j], down_product[j] = sum_x, sum_y, sum_energy, sum_product
        _blur_row(down_x, mean_x)
        _blur_row(down_y, mean_y)
        _blur_row(down_energy, energy)
        _blur_row(down_product, product)
        for j in range(width):
            squares, cross = mean_x[j] * mean_x[j] + mean_y[j] * mean_y[j], mean_x[j] * mean_y[j]
            part = (2 * (product[j] - cross) + C2) / (energy[j] - squares + C2)
            contrast[j] += part
            similarity[j] += (2 * cross + C1) / (squares + C1) * part
    return similarity.sum() / (height * width), contrast.sum() / (height * width)
