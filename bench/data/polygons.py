"""Masks that were drawn by hand, stored as polygons: one JSON file per photograph, in `masks/`.

`bench.data.decode` reads them.

    {"image": "chelsea", "size": [451, 300], "void_rim": 2, "notes": "...",
     "polygons": [{"class": "cat", "points": [[x, y], ...]}, ...]}

`size` is (width, height) of the stored picture. Points are pixel coordinates in it. If the picture's edge cuts the
object, points may lie on this edge. Polygons are painted in order, so a later one covers an earlier one: "background"
cuts a hole, and "void" marks pixels that no metric should count. On both sides of every border between labels,
`void_rim` pixels are void. With 2, the rim is about as wide as the five pixels of PASCAL VOC.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.voc import VOC_CLASSES, VOID
from bench.util.files import read_json, shown
from systems.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MOST_SIDE, MOST_RIM = 10_000, 50  # pixels
MASK_FOLDER = Path(__file__).parent / "masks"


@dataclass(frozen=True)
class Polygon:
    """One outline. label: a class id 0..20, or 255."""

    label: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Outline:
    """All polygons of a picture of `size` (width, height)."""

    image: str
    size: tuple[int, int]
    void_rim: int
    polygons: tuple[Polygon, ...]


def load_polygons(path: Path) -> Outline:
    """Read and check one file. Raises UserError with the file and the fault."""
    content = read_json(path, "mask")
    if content is None:
        raise UserError(f"mask {shown(path)} is missing; restore it, or remove its photograph from the set")
    try:
        size = tuple(int(v) for v in content["size"])
        rim = int(content.get("void_rim", 0))
        if len(size) != 2 or not all(1 <= side <= MOST_SIDE for side in size) or not 0 <= rim <= MOST_RIM:
            raise ValueError(f"a size of 1..{MOST_SIDE} by 1..{MOST_SIDE} and a void_rim of 0..{MOST_RIM} are allowed")
        polygons = tuple(_polygon(path, size, entry) for entry in content["polygons"])
        return Outline(str(content["image"]), size, rim, polygons)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"mask {shown(path)} is not a polygon file: {shown(repr(error))}") from None


def _polygon(path: Path, size: tuple[int, int], entry: dict) -> Polygon:
    name = entry["class"]
    if name != "void" and name not in VOC_CLASSES:
        raise UserError(f"mask {path}: {name!r} is not a VOC class")
    points = tuple((float(x), float(y)) for x, y in entry["points"])
    if len(points) < 3:
        raise UserError(f"mask {path}: a polygon of {name} has {len(points)} points; it needs at least 3")
    for x, y in points:
        if not (0 <= x <= size[0] and 0 <= y <= size[1]):
            raise UserError(f"mask {path}: point ({x}, {y}) of {name} lies outside the {size[0]}x{size[1]} picture")
    return Polygon(VOID if name == "void" else VOC_CLASSES.index(name), points)


def rasterise(outline: Outline) -> np.ndarray:
    """Paint the polygons: labels uint8 (H, W), where the background is 0."""
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.new("L", outline.size, 0)
    draw = ImageDraw.Draw(canvas)
    for polygon in outline.polygons:
        draw.polygon(polygon.points, fill=polygon.label)
    labels = np.array(canvas, dtype=np.uint8)
    if outline.void_rim:
        labels[_near_border(labels, outline.void_rim)] = VOID
    return labels


def _near_border(labels: np.ndarray, reach: int) -> np.ndarray:
    """Pixels with another label within `reach` steps, also diagonally; bool (H, W)."""
    import numpy as np

    padded = np.pad(labels, reach, mode="edge")
    height, width = labels.shape
    near = np.zeros(labels.shape, dtype=bool)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            near |= padded[dy : dy + height, dx : dx + width] != labels
    return near
