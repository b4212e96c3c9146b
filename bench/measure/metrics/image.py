"""Scores of pictures: squared error, PSNR and MS-SSIM. `bench.measure.metrics.table` lists them.

Pictures are rounded to 8 bits before they are scored, because a viewer sees 8 bits. Squared errors are sums of
integers, so they do not depend on the batch or on the order of addition.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from systems.pixels import to_uint8

if TYPE_CHECKING:  # the tables of a finished run are made without torch
    from torch import Tensor

PSNR_CAP_DB = 100.0
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003, Sec. 3.2
MS_SSIM_SMALLEST_SIDE = 161  # with smaller sides, an 11x11 window does not fit at the fifth scale


class PicturePair:
    """A picture and the delivered one, uint8 (3, H, W) each: the input of all metrics of pictures."""

    def __init__(self, reference: Tensor, output: Tensor):
        self.reference, self.output = reference, output

    @cached_property
    def mse(self) -> float:
        """Mean squared error on the scale 0..255."""
        return float(mse_per_image(self.reference[None], self.output[None])[0])


def mse_per_image(reference: Tensor, output: Tensor) -> np.ndarray:
    """Mean squared error on the scale 0..255 after 8-bit rounding of both, (B, C, H, W) each -> float64 (B,).

    Raises ValueError if the shapes differ, or for values that are not finite.
    """
    check_shapes(reference, output)
    planes = (to_uint8(images).flatten(1).cpu().numpy() for images in (reference, output))
    # One picture at a time, differences in 16 bits, so that the data stays in the processor's cache.
    differences = (x.astype(np.int16) - y for x, y in zip(*planes, strict=True))
    return np.array([np.einsum("i,i->", d, d, dtype=np.int64) / d.size for d in differences])


def psnr_db(mse: float | np.ndarray) -> np.ndarray | float:
    """10 log10(255^2 / MSE) in dB, at most 100. NaN stays NaN. Any shape, such as (B,), stays.

    Without the cap, one perfect picture (MSE 0) would make every mean infinite. The cap has an effect only if fewer
    than 7 values in a million differ by one grey level. The column `mse` keeps the exact value.
    """
    mse = np.asarray(mse, dtype=np.float64)
    with np.errstate(divide="ignore"):
        value = np.minimum(10 * np.log10(255.0**2 / mse), PSNR_CAP_DB)
    return value if value.ndim else float(value)


def mean_psnr_db(mse: np.ndarray) -> float:
    """Mean of the pictures' PSNR, from their MSE (pictures,). Most papers on image coding use this mean."""
    return float(np.mean(psnr_db(np.asarray(mse, dtype=np.float64))))


def psnr_of_mean_mse_db(mse: np.ndarray) -> float:
    """PSNR of the pictures' mean MSE, from their MSE (pictures,). It is lower than the mean PSNR if the pictures differ
    (Jensen).
    """
    return float(psnr_db(float(np.mean(np.asarray(mse, dtype=np.float64)))))


def ms_ssim(reference: Tensor, output: Tensor) -> np.ndarray | None:
    """MS-SSIM of each picture after 8-bit rounding, (B, C, H, W) -> float64 (B,). None if a side is below 161 pixels.

    Source: Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", 2003. The window
    is an 11x11 Gaussian with sigma 1.5, without padding; K1 = 0.01, K2 = 0.03; a 2x2 mean leads from each of the five
    scales to the next; the scales have the paper's weights. Each colour channel is scored alone, and the mean is taken,
    as papers on learned compression do (the 2003 paper scores grey pictures). Negative contrast terms count as 0. A
    small picture gets no value, because a value from fewer scales would be another metric with the same name. Raises
    ValueError if the shapes differ.
    """
    check_shapes(reference, output)
    if min(reference.shape[-2:]) < MS_SSIM_SMALLEST_SIDE:
        return None
    batch, channels = reference.shape[:2]
    planes = zip(*(to_uint8(images).flatten(0, 1).cpu().double() for images in (reference, output)))
    values = [_ms_ssim_of_plane(x[None], y[None]) for x, y in planes]
    return np.array(values).reshape(batch, channels).mean(axis=1)


def ms_ssim_of(pair: PicturePair) -> float | None:
    """MS-SSIM of one picture. None if it is too small."""
    values = ms_ssim(pair.reference[None], pair.output[None])
    return None if values is None else float(values[0])


def _ms_ssim_of_plane(x: Tensor, y: Tensor) -> float:
    """MS-SSIM of one colour plane, float64 (1, H, W) on the scale 0..255."""
    import torch.nn.functional as F

    from bench.measure.metrics.ssim import ssim_terms

    result = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            # ceil_mode keeps an odd last row or column, averaged over its own pixels, as the authors' filter does.
            x, y = (F.avg_pool2d(plane, 2, ceil_mode=True) for plane in (x, y))
        similarity, contrast = ssim_terms(x[0].numpy(), y[0].numpy())
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        result *= max(similarity if last else contrast, 0.0) ** weight
    return result


def check_shapes(reference: Tensor, output: Tensor) -> None:
    """Raise ValueError unless both pictures have the same shape (B, C, H, W)."""
    if reference.shape != output.shape or reference.ndim != 4:
        shapes = f"{tuple(reference.shape)} and {tuple(output.shape)}"
        raise ValueError(f"the shapes of reference and output, {shapes}, must be equal (B, C, H, W)")
