"""What is measured, and exactly how.

Pictures are rounded to 8 bits before anything is measured, because that is what a viewer gets; squared errors are sums
of integers, so they do not depend on the batch or the order of addition. Segmentation is scored on one confusion matrix
over the whole data set, not as a mean over pictures.
"""

from __future__ import annotations

import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from systems.interface import NUM_CLASSES, VOID
from systems.pixels import to_uint8

if TYPE_CHECKING:  # tables of a finished run are made without torch
    from torch import Tensor

PSNR_CAP_DB = 100.0
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003, Sec. 3.2
MS_SSIM_SMALLEST_SIDE = 161  # the least side that leaves room for an 11x11 window at the fifth scale
LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"


# ---------------------------------------------------------------- pictures


def mse_per_image(reference: Tensor, output: Tensor) -> np.ndarray:
    """Mean squared error on the 0..255 scale after 8-bit rounding of both, (B, C, H, W) each -> float64 (B,)."""
    _check_shapes(reference, output)
    planes = (to_uint8(images).flatten(1).cpu().numpy() for images in (reference, output))
    # One picture at a time, differences in 16 bits: the working set stays in the processor's cache.
    differences = (x.astype(np.int16) - y for x, y in zip(*planes, strict=True))
    return np.array([np.einsum("i,i->", d, d, dtype=np.int64) / d.size for d in differences])


def psnr_db(mse: float | np.ndarray) -> np.ndarray | float:
    """10 log10(255^2 / MSE) in dB, at most 100; NaN stays NaN.

    The cap keeps one perfect picture (MSE 0) from making every mean infinite. It bites only where fewer than 7 samples
    in a million differ by one grey level; the `mse` column keeps the exact value.
    """
    mse = np.asarray(mse, dtype=np.float64)
    with np.errstate(divide="ignore"):
        value = np.minimum(10 * np.log10(255.0**2 / mse), PSNR_CAP_DB)
    return value if value.ndim else float(value)


def mean_psnr_db(mse: np.ndarray) -> float:
    """Mean over pictures of their PSNR: the reduction of most image-coding papers."""
    return float(np.mean(psnr_db(np.asarray(mse, dtype=np.float64))))


def psnr_of_mean_mse_db(mse: np.ndarray) -> float:
    """PSNR of the mean MSE over pictures: the other reduction, lower whenever the pictures differ (Jensen)."""
    return float(psnr_db(np.mean(np.asarray(mse, dtype=np.float64))))


def ms_ssim(reference: Tensor, output: Tensor) -> np.ndarray | None:
    """MS-SSIM of each picture after 8-bit rounding, (B, C, H, W) -> float64 (B,); None where a side is below 161.

    Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", 2003: 11x11 Gaussian
    window of sigma 1.5 without padding, K1 = 0.01, K2 = 0.03, 2x2 mean between five scales with their weights. Each
    colour channel is scored alone and the mean taken, as learned-compression papers do (the 2003 paper scores grey
    pictures). Negative contrast terms count as 0. A small picture gets no value rather than one from fewer scales,
    which would be another metric under the same name.
    """
    _check_shapes(reference, output)
    if min(reference.shape[-2:]) < MS_SSIM_SMALLEST_SIDE:
        return None
    batch, channels = reference.shape[:2]
    planes = zip(*(to_uint8(images).flatten(0, 1).cpu().double() for images in (reference, output)))
    values = [_ms_ssim_of_plane(x[None], y[None]) for x, y in planes]
    return np.array(values).reshape(batch, channels).mean(axis=1)


def _ms_ssim_of_plane(x: Tensor, y: Tensor) -> float:
    """One colour plane, float64 (1, H, W) on the 0..255 scale."""
    import torch.nn.functional as F

    from bench.measure.metrics.ssim import ssim_terms

    result = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            # ceil_mode keeps an odd last row or column, averaged over what is there, as the authors' filter does.
            x, y = (F.avg_pool2d(plane, 2, ceil_mode=True) for plane in (x, y))
        similarity, contrast = ssim_terms(x[0].numpy(), y[0].numpy())
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        result *= max(similarity if last else contrast, 0.0) ** weight
    return result


def lpips(reference: Tensor, output: Tensor) -> np.ndarray | None:
    """LPIPS (AlexNet, v0.1) of each picture after 8-bit rounding, lower is better, (B, 3, H, W) -> float64 (B,).

    None unless the package `lpips` is installed and AlexNet's weights already lie in torch's hub folder: a metric must
    not start a download in the middle of a sweep.
    """
    import torch

    _check_shapes(reference, output)
    model = _lpips_model(torch.hub.get_dir())
    if model is None:
        return None
    x, y = (to_uint8(images).float().cpu() / 127.5 - 1 for images in (reference, output))
    with torch.no_grad():
        return model(x, y).flatten().double().numpy()


@lru_cache(maxsize=1)
def _lpips_model(hub: str):
    weights = Path(hub) / "checkpoints" / LPIPS_BACKBONE
    if importlib.util.find_spec("lpips") is None or not weights.is_file():
        return None
    import lpips as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision in an old way
        return package.LPIPS(net="alex", verbose=False).eval()


def _check_shapes(reference: Tensor, output: Tensor) -> None:
    if reference.shape != output.shape or reference.ndim != 4:
        shapes = f"{tuple(reference.shape)} and output {tuple(output.shape)}"
        raise ValueError(f"reference {shapes} must be equal (B, C, H, W)")


# ---------------------------------------------------------------- segmentation


def confusion(
    pred: Tensor | np.ndarray, target: Tensor | np.ndarray, classes: int = NUM_CLASSES, void: int = VOID
) -> np.ndarray:
    """Pixels of class i labelled as class j, int64 (classes, classes): truth along rows, prediction along columns.

    pred, target: class indices of equal shape, (H, W) or more pictures at once. Pixels whose target is `void` are left
    out. ValueError for any other label outside 0 .. classes - 1, where the index would otherwise count as another pair.
    """
    pred, target = (np.asarray(x if isinstance(x, np.ndarray) else x.cpu()).astype(np.int64) for x in (pred, target))
    if pred.shape != target.shape:
        raise ValueError(f"prediction {pred.shape} and target {target.shape} differ in shape")
    counted = target != void
    pred, target = pred[counted], target[counted]
    for name, labels in (("prediction", pred), ("target", target)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"{name} has labels from {labels.min()} to {labels.max()}, classes are 0 to {classes - 1}")
    return np.bincount(target * classes + pred, minlength=classes**2).reshape(classes, classes)


def intersections_unions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrix -> intersection and union of each class in pixels, int64 (classes,) each.

    They add up over pictures: the sums over a data set are those of the data set's confusion matrix.
    """
    intersections = np.diag(matrix).astype(np.int64)
    return intersections, (matrix.sum(axis=0) + matrix.sum(axis=1) - intersections).astype(np.int64)


def iou(intersections: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Intersection over union, float64 of the same shape; NaN where a class is neither in the truth nor predicted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(unions) > 0, np.asarray(intersections, dtype=np.float64) / unions, np.nan)


def mean_iou(intersections: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Mean IoU over the last axis (classes), over classes with a union; NaN where there is none.

    A class that is predicted and nowhere true has a union and an IoU of 0, so false alarms cost. On a set that holds
    all 21 classes, such as VOC 2012 val, this is the benchmark's plain mean over 21.
    """
    values, present = iou(intersections, unions), np.asarray(unions) > 0
    count = present.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, np.where(present, values, 0.0).sum(axis=-1) / count, np.nan)


def iou_from_confusion(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class, float64 (classes,), NaN for a class without a union."""
    return iou(*intersections_unions(matrix))


def miou(matrix: np.ndarray) -> float:
    """Mean IoU of a data set from its confusion matrix (the sum over its pictures); see `mean_iou`."""
    return float(mean_iou(*intersections_unions(matrix)))


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Share of the counted pixels that got their class; NaN if none was counted."""
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")
