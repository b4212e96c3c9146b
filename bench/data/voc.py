"""The classes and the palette of PASCAL VOC. Data sets, training, figures and the command line use them.

Source: M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 111, 2015, and the
development kit VOC2012 (the order of classes; the colours from the bits of the class id).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

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
# The same two numbers as in systems.interface. They are not imported from there, so that data sets stay independent.
NUM_CLASSES = len(VOC_CLASSES)
VOID = 255  # label of pixels that no metric counts


def voc_palette() -> np.ndarray:
    """The VOC colour of each label, uint8 (256, 3).

    The development kit's rule: bits 0, 1, 2 of the label are the highest bits of red, green and blue, bits 3, 4, 5 the
    next lower ones, and so on. Label 255 becomes the cream of the void rims (224, 224, 192).
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
    """Labels uint8 (H, W) -> their VOC colours, uint8 (H, W, 3)."""
    return voc_palette()[labels]
