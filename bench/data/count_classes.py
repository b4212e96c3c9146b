"""Counts the classes of a segmentation set. `python -m bench data info NAME --classes` prints the result."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.dataset import Dataset
from bench.data.voc import NUM_CLASSES, VOC_CLASSES, VOID
from systems.errors import UserError


@dataclass(frozen=True)
class ClassCount:
    """Pictures and pixels of one class in a set. share: of this class among all pixels that are not void."""

    class_id: int
    name: str
    pictures: int
    pixels: int
    share: float


def class_statistics(dataset: Dataset) -> list[ClassCount]:
    """Pictures and pixels of each of the 21 classes. The last entry (255, "void") holds the pixels that no metric
    counts.

    The set is read once, one picture at a time. Raises UserError for a set without masks.
    """
    import numpy as np

    if not dataset.has_masks:
        raise UserError(f"data set {dataset.name!r} has no masks, so it has no class statistics")
    pictures, pixels = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    for sample in dataset:
        counts = np.bincount(sample.mask.numpy().ravel(), minlength=256)
        pixels += counts
        pictures += counts > 0
    total = max(1, int(pixels[:NUM_CLASSES].sum()))
    labels = [*enumerate(VOC_CLASSES), (VOID, "void")]
    shares = {i: float(pixels[i] / total) for i in range(NUM_CLASSES)}
    return [ClassCount(i, name, int(pictures[i]), int(pixels[i]), shares.get(i, 0.0)) for i, name in labels]
