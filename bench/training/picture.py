"""One training picture with its mask and its teacher's labels, decoded. `sources` and `pack_format`
make it, `crops` uses it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """One training picture.

    pixels: uint8 (H, W, 3).
    mask: class ids uint8 (H, W), 255 = void, or None.
    labels: a teacher's class ids uint8 (h, w) of the whole picture, at the teacher's own size, or None.
    teacher: the name of this teacher.
    pack: sha256 of the pack that the picture came from, or "". Name, mask and labels are then as this pack says.
    """

    name: str
    pixels: np.ndarray
    mask: np.ndarray | None = None
    labels: np.ndarray | None = None
    teacher: str = ""
    pack: str = ""

    @property
    def source(self) -> str:
        """The source of the picture."""
        return self.name.rpartition("/")[0]

    @property
    def digest(self) -> str:
        """sha256 of size and pixels: the key under which its labels are stored."""
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()

    def enlarged(self, least_side: int) -> Picture:
        """The picture with a shorter side of at least `least_side`: bicubic, masks by nearest neighbour."""
        height, width = self.pixels.shape[:2]
        if min(height, width) >= least_side:
            return self
        scale = least_side / min(height, width)
        size = tuple(max(least_side, round(side * scale)) for side in (width, height))
        pixels = np.asarray(Image.fromarray(self.pixels).resize(size, Image.Resampling.BICUBIC))
        mask = self.mask
        if mask is not None:
            mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        return replace(self, pixels=pixels, mask=mask)
