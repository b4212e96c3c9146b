"""PASCAL VOC: its classes, its palette, and what a segmentation set holds of each class.

Source: M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 111, 2015, and the
development kit VOC2012 (class order; colour map from the bits of the class id).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from systems.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from bench.data.dataset import Dataset

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
# The same two numbers as in systems.interface, not imported from there: that would load torch to list data sets.
NUM_CLASSES = len(VOC_CLASSES)
VOID = 255  # label of pixels that no metric counts


def voc_palette() -> np.ndarray:
    """The VOC colour of each label, uint8 (256, 3).

    The development kit's rule: bits 0, 1, 2 of the label are the top bits of red, green and blue, bits 3, 4, 5 the next
    lower ones, and so on. Label 255 comes out as the cream of the void rims (224, 224, 192).
    """
    import numpy as np

    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (labels >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


def colourise(labels: np.ndarray) -> np.ndarray:
    """Labels uint8 (H, W) -> the VOC colours uint8 (H, W, 3)."""
    return voc_palette()[labels]


@dataclass(frozen=True)
class ClassCount:
    """What a set holds of one class. `share` is of the pixels that count, void left out."""

    class_id: int
    name: str
    pictures: int
    pixels: int
    share: float


def class_statistics(dataset: Dataset) -> list[ClassCount]:
    """Pictures and pixels of each of the 21 classes; the last entry (255, "void") counts what no metric counts.

    Reads the set once, one picture at a time. Raises UserError for a set without masks.
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
