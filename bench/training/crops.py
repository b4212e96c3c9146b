"""The pictures of one task on the training device, and crops of them, for a whole batch at once.

`batch` calls it. All pictures are in one uint8 tensor. A batch is gathered from it, with windows that depend only
on the keys of the samples (`draws`). Nothing is copied from the host, and nothing is copied back from the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.training import draws
from bench.training.sources import Picture
from systems.errors import UserError
from systems.interface import NUM_CLASSES, VOID

#: Positions in a sample's uniform numbers.
_PICTURE, _CLASS, _SIDE, _ASPECT, _WHOLE, _TOP, _LEFT, _FLIP, _SNR = range(9)


@dataclass(frozen=True)
class Window:
    """How crops are cut.

    crop: side of the result in pixels.
    lowest_scale: 1: windows of crop x crop pixels. Below 1: the side of a window is from `lowest_scale` to 1 of the
    picture's shorter side, with aspect ratios from sqrt(3/4) to sqrt(4/3), and the window is resized to the crop.
    whole: the share of such windows that are the whole picture, as in tests.
    balance: first draw a class, then a picture that shows it.
    """

    crop: int
    lowest_scale: float = 1.0
    whole: float = 0.35
    balance: bool = False


@dataclass(frozen=True)
class Crops:
    """One batch.

    images: float32 (B, 3, crop, crop) in [0, 1], channels last.
    mask, labels: int64 (B, crop, crop), of the ground truth and of the teacher, or None.
    snr: float32 (B,), uniform from 0 to below 1; the protocol's range scales it.
    """

    images: Tensor
    mask: Tensor | None
    labels: Tensor | None
    snr: Tensor


def split(pictures: Sequence[Picture], first: str, holdout: int) -> tuple[list[Picture], list[Picture]]:
    """(training, held out). The `holdout` pictures of the source `first` whose names have the lowest hashes are held
    out.

    So validation uses one kind of picture. Raises UserError if nothing is left for training.
    """
    own = sorted((p for p in pictures if p.source == first), key=lambda p: _order(p.name))
    held_out = own[:holdout]
    kept = {picture.name for picture in held_out}
    training = [picture for picture in pictures if picture.name not in kept]
    if not training:
        raise UserError(
            f"only {len(pictures)} training pictures, and {holdout} are held out; add pictures or lower holdout in the "
            "protocol"
        )
    return training, held_out


def _order(name: str) -> str:
    """A fixed order that does not depend on the meaning of file names."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


class Album:
    """The training pictures of one task, and those that are held out.

    pictures: of all sources, in order.
    first, holdout: as in `split`.
    least_side: smaller pictures are enlarged to it.
    with_masks: the task needs class ids. A picture without a mask counts as void everywhere, and must have a teacher's
    labels.
    Raises UserError if nothing is left for training, or for a picture that has neither mask nor labels.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        first: str,
        holdout: int,
        least_side: int,
        with_masks: bool = False,
        device: str = "cpu",
    ):
        training, held_out = split(pictures, first, holdout)
        self.training = [picture.enlarged(least_side) for picture in training]
        self.held_out = [picture.enlarged(least_side) for picture in held_out]
        if with_masks:
            for picture in self.training:
                if picture.mask is None and picture.labels is None:
                    raise UserError(
                        f"{picture.name}: segmentation is trained on pictures with masks, or with a teacher's labels; "
                        "take this source out of the protocol, or set `teacher` and `distill`"
                    )
            self.held_out = [picture for picture in self.held_out if picture.mask is not None]
        self.digest = contents(self.training)
        self.device = torch.device(device)
        self._pixels = _Stack([picture.pixels for picture in self.training], self.device)
        self._masks = self._labels = None
        if with_masks:
            masks = [p.mask if p.mask is not None else np.full((1, 1), VOID, np.uint8) for p in self.training]
            self._masks = _Stack(masks, self.device)
            if any(picture.labels is not None for picture in self.training):
                void = np.full((1, 1), VOID, np.uint8)
                self._labels = _Stack([void if p.labels is None else p.labels for p in self.training], self.device)
            self._members, self._counts = self._by_class()

    def __len__(self) -> int:
        return len(self.training)

    def _by_class(self) -> tuple[Tensor, Tensor]:
        """Indices of the pictures of each class that occurs, (classes, most), and the number of valid ones per row,
        (classes,).
        """
        shown = [np.unique(p.mask if p.mask is not None else p.labels) for p in self.training]
        rows = [[i for i, ids in enumerate(shown) if c in ids] for c in range(1, NUM_CLASSES)]
        rows = [row for row in rows if row] or [list(range(len(self.training)))]
        most = max(map(len, rows))
        members = torch.tensor([row + [0] * (most - len(row)) for row in rows], device=self.device)
        return members, torch.tensor([len(row) for row in rows], device=self.device)

    def cut(self, keys: Tensor, window: Window) -> Crops:
        """One crop per key, int64 (B,) of `draws.sample_keys`: images (B, 3, crop, crop). Each crop depends only on its
        own key.
        """
        u = draws.uniforms(draws.stream(keys, draws.WINDOW), 9)
        picture = self._choose(u, window.balance)
        height, width = self._pixels.height[picture], self._pixels.width[picture]
        if window.lowest_scale < 1.0:
            rows, columns = _scaled(u, height, width, window)
        else:
            rows = columns = torch.full_like(height, window.crop)
        top, left = _below(u[:, _TOP], height - rows + 1), _below(u[:, _LEFT], width - columns + 1)
        flip = u[:, _FLIP] < 0.5
        box = (top, left, rows, columns)
        if window.lowest_scale < 1.0:
            images = self._resized(picture, box, flip, window.crop)
        else:
            y, x = _grid(box, flip, window.crop, 0.5)
            images = self._pixels.at(picture, y.long(), x.long()).permute(0, 3, 1, 2).float() / 255
        masks = self._classes(self._masks, picture, box, flip, window.crop)
        labels = self._classes(self._labels, picture, box, flip, window.crop)
        return Crops(images, masks, labels, u[:, _SNR].float())

    def _choose(self, u: Tensor, balance: bool) -> Tensor:
        if not (balance and self._masks is not None):
            return _below(u[:, _PICTURE], len(self.training))
        row = _below(u[:, _CLASS], len(self._counts))
        return self._members[row, _below(u[:, _PICTURE], self._counts[row])]

    def _resized(self, picture: Tensor, box, flip: Tensor, crop: int) -> Tensor:
        """Bilinear samples on a grid finer than the result, averaged, so that a window that shrinks has no aliasing.

        The fineness follows from the largest picture, not from the batch, so no size has to be copied from the device.
        """
        fine = max(1, round(self._pixels.largest_short_side / crop))
        total = 0
        for dy in range(fine):
            for dx in range(fine):
                y, x = _grid(box, flip, crop, (dy + 0.5) / fine, (dx + 0.5) / fine)
                total = total + self._bilinear(picture, y - 0.5, x - 0.5)
        return (total / (255 * fine * fine)).permute(0, 3, 1, 2)

    def _bilinear(self, picture: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Pixels float32 (B, crop, crop, 3) at positions y (B, crop), x (B, crop). Outside, the border is repeated."""
        y0, x0 = y.floor(), x.floor()
        wy, wx = (y - y0).float()[:, :, None, None], (x - x0).float()[:, None, :, None]
        y0, x0 = y0.long(), x0.long()
        above = torch.lerp(self._float(picture, y0, x0), self._float(picture, y0, x0 + 1), wx)
        below = torch.lerp(self._float(picture, y0 + 1, x0), self._float(picture, y0 + 1, x0 + 1), wx)
        return torch.lerp(above, below, wy)

    def _float(self, picture: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return self._pixels.at(picture, y, x).float()

    def _classes(self, stack: _Stack | None, picture: Tensor, box, flip: Tensor, crop: int) -> Tensor | None:
        """The class ids nearest to the crop's pixels. A map of another size than the picture
        covers the whole picture.
        """
        if stack is None:
            return None
        y, x = _grid(box, flip, crop, 0.5)
        y = y * (stack.height[picture] / self._pixels.height[picture])[:, None]
        x = x * (stack.width[picture] / self._pixels.width[picture])[:, None]
        return stack.at(picture, y.long(), x.long())[..., 0].long()


class _Stack:
    """Arrays of several sizes in one uint8 tensor (N, channels), pixel after pixel."""

    def __init__(self, arrays: Sequence[np.ndarray], device: torch.device):
        sizes = torch.tensor([array.shape[:2] for array in arrays])
        ends = sizes.prod(dim=1).cumsum(0)
        channels = 1 if arrays[0].ndim == 2 else arrays[0].shape[2]
        flat = torch.empty((int(ends[-1]), channels), dtype=torch.uint8)
        for array, end in zip(arrays, ends.tolist(), strict=True):
            pixels = array.reshape(-1, channels)
            flat[end - len(pixels) : end] = torch.from_numpy(np.array(pixels))
        self.flat = flat.to(device)
        self.start = (ends - sizes.prod(dim=1)).to(device)
        self.height, self.width = sizes[:, 0].to(device), sizes[:, 1].to(device)
        self.largest_short_side = int(sizes.min(dim=1).values.max())

    def at(self, picture: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Values (B, rows, columns, channels) of pictures (B,) at rows y (B, rows) and columns x (B, columns), int64.

        Outside, the border is repeated.
        """
        height, width = self.height[picture][:, None], self.width[picture][:, None]
        y = torch.minimum(y.clamp_min(0), height - 1)
        x = torch.minimum(x.clamp_min(0), width - 1)
        return self.flat[(self.start[picture][:, None] + y * width)[:, :, None] + x[:, None, :]]


def contents(pictures: Sequence[Picture]) -> str:
    """sha256 over names, pixels, masks and labels of the pictures."""
    total = hashlib.sha256()
    for line in sorted(
        f"{picture.name} {picture.digest} {_hash(picture.mask)} {_hash(picture.labels)}" for picture in pictures
    ):
        total.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return total.hexdigest()


def centre(picture: Picture, size: int, whole: bool) -> tuple[Tensor, Tensor | None]:
    """A held-out picture for validation: float32 (3, size, size), and class ids int64 (size, size) or None.

    whole: True: the whole picture, resized. False: its centre.
    """
    image, mask = Image.fromarray(picture.pixels), None if picture.mask is None else Image.fromarray(picture.mask)
    if whole:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
        mask = None if mask is None else mask.resize((size, size), Image.Resampling.NEAREST)
    else:
        left, top = (image.width - size) // 2, (image.height - size) // 2
        box = (left, top, left + size, top + size)
        image, mask = image.crop(box), None if mask is None else mask.crop(box)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return tensor, None if mask is None else torch.from_numpy(np.array(mask)).long()


def _hash(values: np.ndarray | None) -> str:
    return "-" if values is None else hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()


def _below(u: Tensor, limit: Tensor | int) -> Tensor:
    """Whole numbers from 0 to below `limit`, int64, from uniform numbers."""
    return (u * limit).long()


def _scaled(u: Tensor, height: Tensor, width: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    side = torch.minimum(height, width) * (window.lowest_scale + (1 - window.lowest_scale) * u[:, _SIDE])
    aspect = (3 / 4) ** (0.5 - u[:, _ASPECT])
    rows = torch.minimum(height, (side * aspect).round().long().clamp_min(1))
    columns = torch.minimum(width, (side / aspect).round().long().clamp_min(1))
    whole = u[:, _WHOLE] < window.whole
    return torch.where(whole, height, rows), torch.where(whole, width, columns)


def _grid(box, flip: Tensor, crop: int, down: float, right: float | None = None) -> tuple[Tensor, Tensor]:
    """Positions in the picture for each pixel of the crop, at (`down`, `right`) inside the pixel: float64 (B, crop)
    each.
    """
    top, left, rows, columns = box
    steps = torch.arange(crop, device=top.device, dtype=torch.float64)
    y = top[:, None] + (steps + down) * (rows[:, None] / crop)
    x = left[:, None] + (steps + (down if right is None else right)) * (columns[:, None] / crop)
    return y, torch.where(flip[:, None], x.flip(1), x)
