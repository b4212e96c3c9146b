"""Training pictures: decoded once into memory, cropped by a random stream that depends on (seed, step, position)
alone."""

from __future__ import annotations

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from systems.errors import UserError
from systems.interface import NUM_CLASSES

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".webp")


@dataclass(frozen=True)
class Picture:
    """One training picture: uint8 (H, W, 3) and, for segmentation, class ids uint8 (H, W)."""

    name: str
    pixels: np.ndarray
    mask: np.ndarray | None = None


def _files(source: str, root: Path) -> list[tuple[str, Path, Path | None]]:
    """(name, picture, mask) of one source: `photos` (a folder under the data root) or `voc2012:SPLIT`."""
    kind, _, split = source.partition(":")
    if kind == "voc2012":
        base = root / "VOCdevkit" / "VOC2012"
        listing = base / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listing.is_file():
            raise UserError(f"{listing}: no such split; point --data-root at a folder that holds VOCdevkit")
        names = listing.read_text().split()
        return [
            (f"{source}/{name}", base / "JPEGImages" / f"{name}.jpg", base / "SegmentationClass" / f"{name}.png")
            for name in names
        ]
    folder = root / source
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of training pictures; set --data-root, or `sources` in the protocol")
    return [
        (f"{source}/{path.name}", path, None) for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES
    ]


def _order(name: str) -> str:
    """A fixed order that does not depend on file names' meaning: the first of it are held out."""
    return hashlib.sha256(name.encode()).hexdigest()


class Pictures:
    """The pictures of one task, split into training and held-out ones."""

    def __init__(self, sources: tuple[str, ...], root: Path, with_masks: bool, holdout: int, least_side: int):
        listed = [item for source in sources for item in _files(source, root)]
        if not listed:
            raise UserError(f"no training pictures under {root} for {', '.join(sources)}")
        with ThreadPoolExecutor(2) as pool:
            pictures = list(pool.map(lambda item: _read(*item, with_masks=with_masks, least_side=least_side), listed))
        # Only pictures of the first source are held out, so that what is watched is one kind of picture.
        first = sorted(
            (picture for picture in pictures if picture.name.startswith(sources[0] + "/")), key=lambda p: _order(p.name)
        )
        self.held_out = first[:holdout]
        kept = {picture.name for picture in self.held_out}
        self.training = [picture for picture in pictures if picture.name not in kept]
        if not self.training:
            raise UserError(
                f"only {len(pictures)} pictures under {root} for {', '.join(sources)}, and {holdout} are held out; "
                "add pictures or lower holdout in the protocol"
            )
        contents = sorted(f"{picture.name} {zlib.crc32(picture.pixels)}" for picture in self.training)
        self.digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()
        self._by_class = None
        if with_masks:
            present = [np.unique(picture.mask) for picture in self.training]
            by_class = [np.array([i for i, ids in enumerate(present) if c in ids]) for c in range(1, NUM_CLASSES)]
            self._by_class = [members for members in by_class if len(members)]

    def draw(
        self, rng: np.random.Generator, crop: int, lowest_scale: float, balance: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One augmented crop: float32 (3, crop, crop) in [0, 1], and class ids int64 (crop, crop) or None."""
        if balance and self._by_class is not None:
            members = self._by_class[rng.integers(len(self._by_class))]
            picture = self.training[members[rng.integers(len(members))]]
        else:
            picture = self.training[rng.integers(len(self.training))]
        height, width = picture.pixels.shape[:2]
        if lowest_scale < 1.0:  # random resized crop, as segmentation needs objects at several scales
            side = min(height, width) * rng.uniform(lowest_scale, 1.0)
            aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
            rows, columns = min(height, round(side * aspect)), min(width, round(side / aspect))
            if rng.random() < 0.35:  # the whole picture, as the test sees it
                rows, columns = height, width
        else:
            rows = columns = crop
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        flip = rng.random() < 0.5
        pixels = picture.pixels[top : top + rows, left : left + columns]
        mask = None if picture.mask is None else picture.mask[top : top + rows, left : left + columns]
        if (rows, columns) != (crop, crop):
            pixels = np.asarray(Image.fromarray(pixels).resize((crop, crop), Image.Resampling.BILINEAR))
            mask = (
                None
                if mask is None
                else np.asarray(Image.fromarray(mask).resize((crop, crop), Image.Resampling.NEAREST))
            )
        if flip:
            pixels, mask = pixels[:, ::-1], None if mask is None else mask[:, ::-1]
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255
        return image, None if mask is None else torch.from_numpy(np.array(mask)).long()


def _read(name: str, path: Path, mask_path: Path | None, with_masks: bool, least_side: int) -> Picture:
    try:
        image = Image.open(path).convert("RGB")
        mask = Image.open(mask_path) if with_masks and mask_path is not None else None
        if with_masks and mask is None:
            raise UserError(
                f"{path}: segmentation is trained on pictures with masks; take this source out of the protocol"
            )
        if min(image.size) < least_side:
            scale = least_side / min(image.size)
            size = tuple(max(least_side, round(side * scale)) for side in image.size)
            image = image.resize(size, Image.Resampling.BICUBIC)
            mask = None if mask is None else mask.resize(size, Image.Resampling.NEAREST)
        return Picture(name, np.array(image), None if mask is None else np.array(mask))
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot read the picture ({error.strerror or error})") from None


def centre(picture: Picture, size: int, whole: bool) -> tuple[Tensor, Tensor | None]:
    """A held-out picture for validation: its centre `size` x `size`, or the `whole` picture resized to that."""
    image, mask = Image.fromarray(picture.pixels), None if picture.mask is None else Image.fromarray(picture.mask)
    if whole:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
        mask = None if mask is None else mask.resize((size, size), Image.Resampling.NEAREST)
    else:
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return tensor, None if mask is None else torch.from_numpy(np.array(mask)).long()
