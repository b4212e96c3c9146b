"""Pictures to bytes under a byte budget: JPEG, WebP, AVIF and HEIC, without metadata; headers count.

The digital systems and the capacity bounds call `encode_under` and `decode`.

The rule has two steps. First, for each size of the picture (whole, half, a quarter, ...) and each way to store colour,
take the largest quality whose file fits. The ways to store colour are 4:2:0 (colour at half the resolution) and 4:4:4
(colour at full resolution), if the format has both. Second, of these files, take the one whose picture has the least
squared error after it is resized to the original size. With few bytes a smaller size wins: at quality 8, JPEG's blocks
cost more than half of the resolution. With many bytes 4:4:4 wins: 4:2:0 leaves out colour, and no quality brings it
back. The result names both, in `scale` and `chroma`.

Pillow writes JPEG, WebP and AVIF. HEIC (pictures coded by HEVC) needs the extra `heic`, the package pillow-heif, whose
wheels hold libheif (LGPL-3) and the encoder x265 (GPL-2).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from baselines.digital.names import CODECS
from systems import result_cache
from systems.errors import BudgetTooSmall, MissingDependency, missing_package

QUALITIES = range(1, 101)
SMALLEST_SIDE = 8  # pixels; no smaller size is tried


class UnreadablePayload(ValueError):
    """Bytes that are no picture of the expected codec. A receiver gets them after errors that were not detected."""


def _pillow_write(kind: str, options: dict, chroma: dict) -> Callable[[Image.Image, int, str], bytes]:
    def write(image: Image.Image, quality: int, way: str) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format=kind, quality=quality, **options, **chroma[way])
        return buffer.getvalue()

    return write


def _pillow_open(kind: str) -> Callable[[bytes], Image.Image]:
    return lambda payload: Image.open(io.BytesIO(payload), formats=[kind])


def _pillow_heif():
    try:
        import pillow_heif
    except ImportError as error:
        raise missing_package("HEIC", "pillow-heif", error, advice="its encoder x265 is GPL-2") from error
    return pillow_heif


def _write_heic(image: Image.Image, quality: int, way: str) -> bytes:
    """Write HEIC by pillow-heif's own calls. Pillow, which the whole process shares, need not be changed."""
    buffer = io.BytesIO()
    _pillow_heif().from_pillow(image).save(buffer, quality=quality, chroma=int(way.replace(":", "")))
    return buffer.getvalue()


def _open_heic(payload: bytes):
    return _pillow_heif().open_heif(io.BytesIO(payload), convert_hdr_to_8bit=True)


@dataclass(frozen=True)
class Format:
    """The functions and properties of one codec.

    write: (picture, quality 1..100, way to store colour) -> file.
    open: file -> an object with `size` in pixels, which is known before the pixels are decoded.
    chroma: the ways to store colour that the format has.
    overshoot: a higher quality sometimes gives a smaller file. Therefore the search continues upwards until files are
    too large by this share.
    """

    write: Callable[[Image.Image, int, str], bytes]
    open: Callable[[bytes], Image.Image]
    chroma: tuple[str, ...]
    overshoot: float


def _pillow_format(kind: str, options: dict, chroma: dict[str, dict], overshoot: float) -> Format:
    return Format(_pillow_write(kind, options, chroma), _pillow_open(kind), tuple(chroma), overshoot)


#: Options that save bits at the cost of encoding time. One thread, so that files do not depend on the host. On natural
#: pictures, the largest drop in size from one quality to a higher one is 0.3 % (JPEG), 2.8 % (WebP) and 3.3 % (AVIF).
FORMATS = {
    "jpeg": _pillow_format(
        "JPEG", {"optimize": True}, {"4:2:0": {"subsampling": "4:2:0"}, "4:4:4": {"subsampling": "4:4:4"}}, 0.10
    ),
    "webp": _pillow_format("WEBP", {"method": 4}, {"4:2:0": {}}, 0.10),  # lossy WebP has only 4:2:0
    "avif": _pillow_format(
        "AVIF",
        {"speed": 6, "max_threads": 1},
        {"4:2:0": {"subsampling": "4:2:0"}, "4:4:4": {"subsampling": "4:4:4"}},
        0.10,
    ),
    "heic": Format(_write_heic, _open_heic, ("4:2:0", "4:4:4"), 0.10),
}
assert tuple(FORMATS) == CODECS


@dataclass(frozen=True)
class Coded:
    """A coded picture.

    payload: the file.
    quality: from 1 to 100.
    scale: its sides over those of the picture, 1, 1/2, 1/4, ...
    chroma: how it stores colour, "4:2:0" or "4:4:4".
    """

    payload: bytes
    quality: int
    scale: float
    chroma: str


@dataclass
class _Ladder:
    """All files of one picture that were made so far, because a sweep codes one picture for many budgets.

    A file is named by a rung: (halvings, way to store colour, quality).
    """

    image: Image.Image
    codec: str
    files: dict[tuple[int, str, int], bytes] = field(default_factory=dict)
    errors: dict[tuple[int, str, int], float] = field(default_factory=dict)

    @property
    def format(self) -> Format:
        return FORMATS[self.codec]

    def error(self, halvings: int, chroma: str, quality: int) -> float:
        """Mean squared error of a file's picture."""
        rung = halvings, chroma, quality
        if rung not in self.errors:
            whole = np.asarray(self.image)
            found = decode(self.file(*rung), self.codec, *whole.shape[:2])
            self.errors[rung] = float(np.square(found.astype(np.float32) - whole).mean(dtype=np.float64))
        return self.errors[rung]

    def file(self, halvings: int, chroma: str, quality: int) -> bytes:
        rung = halvings, chroma, quality
        if rung not in self.files:
            size = scaled_size(self.image.width, self.image.height, halvings)
            image = self.image if halvings == 0 else self.image.resize(size, Image.Resampling.LANCZOS)
            self.files[rung] = self.format.write(image, quality, chroma)
        return self.files[rung]

    def largest_quality(self, halvings: int, chroma: str, max_bytes: int) -> int | None:
        """The largest quality whose file fits. None if none fits."""

        def size(quality: int) -> int:
            return len(self.file(halvings, chroma, quality))

        low, high = QUALITIES[0] - 1, QUALITIES[-1] + 1  # `low` fits (or is below the least quality), `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if size(middle) <= max_bytes else (low, middle)
        for quality in range(low + 1, QUALITIES[-1] + 1):
            if size(quality) <= max_bytes:
                low = quality
            elif size(quality) > max_bytes * (1 + self.format.overshoot):
                break
        return low if low >= QUALITIES[0] else None

    def best_at(self, halvings: int, max_bytes: int) -> tuple[int, str, int] | None:
        """Of the files of one size that fit, the one with the least error. None if none fits."""
        found = [(way, self.largest_quality(halvings, way, max_bytes)) for way in self.format.chroma]
        rungs = [(halvings, way, quality) for way, quality in found if quality is not None]
        return min(rungs, key=lambda rung: self.error(*rung)) if rungs else None


_LADDERS = result_cache.Memo(64)


def _ladder(image: np.ndarray, codec: str) -> _Ladder:
    if codec not in FORMATS:
        raise ValueError(f"unknown codec {codec!r}; codecs are {', '.join(CODECS)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"the picture is {image.dtype} {image.shape}; it must be uint8 (H, W, 3)")
    return _LADDERS.get(
        (codec, result_cache.digest(image)), lambda: _Ladder(Image.fromarray(np.ascontiguousarray(image)), codec)
    )


def scaled_size(width: int, height: int, halvings: int) -> tuple[int, int]:
    """Width and height after `halvings` halvings, rounded up."""
    return math.ceil(width / 2**halvings), math.ceil(height / 2**halvings)


def encode_under(image: np.ndarray, max_bytes: int, codec: str = "jpeg") -> Coded:
    """The best file of a picture, uint8 (H, W, 3), with at most `max_bytes` bytes.

    Raises BudgetTooSmall if no file is small enough, ValueError for another codec or shape, MissingDependency for HEIC
    without its package.
    """
    ladder = _ladder(image, codec)
    height, width = image.shape[:2]
    halvings, smallest = 0, math.inf
    best: tuple[int, str, int] | None = None
    while halvings == 0 or min(scaled_size(width, height, halvings)) >= SMALLEST_SIDE:
        rung = ladder.best_at(halvings, max_bytes)
        if rung is None:
            smallest = min(smallest, *(len(ladder.file(halvings, way, QUALITIES[0])) for way in ladder.format.chroma))
        elif best is None or ladder.error(*rung) < ladder.error(*best):
            best = rung
        else:
            break  # if a smaller size is worse, even smaller sizes are too
        halvings += 1
    if best is None:
        raise BudgetTooSmall(
            f"{max_bytes} bytes are too few for any {codec.upper()} of this {width}x{height} picture: "
            f"the smallest has {smallest} bytes"
        )
    return Coded(ladder.file(*best), best[2], 0.5 ** best[0], best[1])


def decode(payload: bytes, codec: str, height: int, width: int) -> np.ndarray:
    """File -> picture, uint8 (height, width, 3). A picture that was coded at a smaller scale is resized with a Lanczos
    filter.

    Raises UnreadablePayload if the bytes are not a picture of `codec`, or of no scale of (height, width).
    """
    try:
        image = FORMATS[codec].open(payload)
        allowed = {scaled_size(width, height, halvings) for halvings in range(16)}
        if tuple(image.size) not in allowed:  # checked before decoding: a broken header may claim gigabytes
            raise UnreadablePayload(
                f"the file holds a {image.size[0]}x{image.size[1]} picture where {width}x{height} is expected"
            )
        picture = (image if isinstance(image, Image.Image) else image.to_pillow()).convert("RGB")
    except (UnreadablePayload, MissingDependency):
        raise
    except Exception as error:  # the decoders raise errors of many kinds
        raise UnreadablePayload(f"the file is not a readable {codec.upper()}: {error}") from error
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)
