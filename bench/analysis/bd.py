"""Compares whole curves: Bjontegaard's mean gains (VCEG-M33), over SNR instead of rate.

The comparison (`bench.analysis.compare`) calls it. It gives the mean gain in quality at equal SNR, and the mean SNR
saved at equal quality.
"""

from __future__ import annotations

import math

import numpy as np


def bd_psnr(snr_ref: np.ndarray, psnr_ref: np.ndarray, snr: np.ndarray, psnr: np.ndarray) -> float:
    """Mean gain in PSNR (dB) of a curve over the reference, over the SNRs that both cover. All arrays: (points,), SNR
    in dB.

    It is the area between the curves, divided by its width. Bjontegaard interpolates by a cubic, which overshoots at
    the cliff of a digital system. Monotone (PCHIP) interpolation is used instead, and the SNR in dB takes the place of
    the logarithm of the rate. NaN if a curve has fewer than two points, or if the curves share no range. Raises
    ValueError for arrays of different lengths, or for two values at one SNR.
    """
    x_ref, y_ref = _points(snr_ref, psnr_ref)
    x, y = _points(snr, psnr)
    return _mean_gap(x_ref, y_ref, x, y)


def bd_snr(snr_ref: np.ndarray, psnr_ref: np.ndarray, snr: np.ndarray, psnr: np.ndarray) -> float:
    """Mean SNR (dB) that a curve saves at equal PSNR; positive if it needs less SNR than the reference. All arrays:
    (points,).

    Each curve is read as the lowest SNR at which it reaches a PSNR, so flat and falling parts do no harm. NaN and
    ValueError as in `bd_psnr`.
    """
    y_ref, x_ref = _first_reached(*_points(snr_ref, psnr_ref))
    y, x = _first_reached(*_points(snr, psnr))
    return -_mean_gap(y_ref, x_ref, y, x)


def _points(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The simulated points, in order of x."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a curve needs as many values as SNRs, got {x.shape} and {y.shape}")
    known = ~np.isnan(y)
    x, y = x[known], y[known]
    order = np.argsort(x)
    x, y = x[order], y[order]
    if (np.diff(x) == 0).any():
        raise ValueError("a curve has two values at one SNR; average them first")
    return x, y


def _first_reached(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve with its axes swapped, at the points that lie above all points before them."""
    best = np.concatenate([[-np.inf], np.maximum.accumulate(y)[:-1]])
    rising = y > best
    return y[rising], x[rising]


def _mean_gap(x_ref: np.ndarray, y_ref: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    if len(x_ref) < 2 or len(x) < 2:
        return math.nan
    low, high = max(x_ref[0], x[0]), min(x_ref[-1], x[-1])
    if not high > low:
        return math.nan
    from scipy.interpolate import PchipInterpolator

    gap = PchipInterpolator(x, y).integrate(low, high) - PchipInterpolator(x_ref, y_ref).integrate(low, high)
    return float(gap / (high - low))
