"""Scores of segmentations: confusion matrix, IoU, pixel accuracy. `bench.measure.metrics.table` lists them.

A set of pictures is scored by one confusion matrix over all pictures, not by a mean over pictures.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from systems.interface import NUM_CLASSES, VOID

if TYPE_CHECKING:
    from torch import Tensor


class LabelPair:
    """True labels and delivered labels, uint8 (H, W) each: the input of all metrics of segmentations."""

    def __init__(self, truth: Tensor, labels: Tensor):
        self.truth, self.labels = truth, labels

    @cached_property
    def matrix(self) -> np.ndarray:
        """The confusion matrix of the picture, int64 (classes, classes)."""
        return confusion(self.labels, self.truth)

    @property
    def confusion_text(self) -> str:
        """The value of the column `confusion`: class:intersection:predicted:labelled for each class that occurs, joined
        by ";".
        """
        intersections, unions = intersections_unions(self.matrix)
        predicted, labelled = self.matrix.sum(axis=0), self.matrix.sum(axis=1)
        return ";".join(
            f"{index}:{intersections[index]}:{predicted[index]}:{labelled[index]}"
            for index in np.flatnonzero(unions).tolist()
        )


def argmax_labels(logits: Tensor) -> Tensor:
    """Class logits (B, classes, H, W) -> labels uint8 (B, H, W) on the CPU."""
    import torch

    return logits.argmax(dim=1).to(torch.uint8).cpu()


def confusion(
    pred: Tensor | np.ndarray, target: Tensor | np.ndarray, classes: int = NUM_CLASSES, void: int = VOID
) -> np.ndarray:
    """Number of pixels of class i that were labelled as class j, int64 (classes, classes): rows are truth, columns
    prediction.

    pred, target: class indices of equal shape, (H, W) or several pictures at once. Pixels whose target is `void` do not
    count.
    Raises ValueError for different shapes, and for any other label outside 0 .. classes - 1, because it would count as
    another pair.
    """
    pred, target = (np.asarray(x if isinstance(x, np.ndarray) else x.cpu()).astype(np.int64) for x in (pred, target))
    if pred.shape != target.shape:
        raise ValueError(f"the shapes of prediction {pred.shape} and target {target.shape} differ; they must be equal")
    counted = target != void
    pred, target = pred[counted], target[counted]
    for name, labels in (("prediction", pred), ("target", target)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"the {name} has labels from {labels.min()} to {labels.max()}; classes are 0 to {classes - 1}"
            )
    return np.bincount(target * classes + pred, minlength=classes**2).reshape(classes, classes)


def intersections_unions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrix (classes, classes) -> intersection and union of each class in pixels, int64 (classes,) each.

    They can be added over pictures: the sums over a data set are those of the data set's confusion matrix.
    """
    intersections = np.diag(matrix).astype(np.int64)
    return intersections, (matrix.sum(axis=0) + matrix.sum(axis=1) - intersections).astype(np.int64)


def iou(intersections: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Intersection over union: (..., classes) each -> float64 (..., classes). NaN for a class that is neither in the
    truth nor predicted.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(unions) > 0, np.asarray(intersections, dtype=np.float64) / unions, np.nan)


def mean_iou(intersections: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Mean IoU over the classes with a union: (..., classes) each -> float64 (...,). NaN if there is none.

    A class that is predicted but nowhere true has a union and an IoU of 0, so false alarms lower the mean. If a data
    set holds all 21 classes, such as VOC 2012 val, this is the benchmark's plain mean over 21 classes.
    """
    values, present = iou(intersections, unions), np.asarray(unions) > 0
    count = present.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, np.where(present, values, 0.0).sum(axis=-1) / count, np.nan)


def mean_iou_of_resample(
    intersections: np.ndarray, unions: np.ndarray, labelled: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """`mean_iou` of a resample of pictures: (..., classes) each -> float64 (...,).

    labelled: pixels that show each class in the resample. whole: in the whole set, (..., classes). A class of the set
    that a resample lacks does not count there. With its false alarms it would count as 0, but not at all for a system
    without one, so a few stray pixels would move an interval away from its mean.
    """
    lacking = (np.asarray(labelled) == 0) & (np.asarray(whole) > 0)
    return mean_iou(intersections, np.where(lacking, 0, unions))


def iou_from_confusion(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class, from a confusion matrix (classes, classes) -> float64 (classes,). NaN for a class without a
    union.
    """
    return iou(*intersections_unions(matrix))


def miou(matrix: np.ndarray) -> float:
    """Mean IoU of a data set, from its confusion matrix (classes, classes), the sum over its
    pictures. See `mean_iou`.
    """
    return float(mean_iou(*intersections_unions(matrix)))


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Share of the counted pixels with the right class, from a confusion matrix (classes, classes). NaN if none was
    counted.
    """
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")
