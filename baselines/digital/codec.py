"""Pictures to bytes under a byte budget: JPEG, WebP and AVIF through Pillow, no metadata, headers counted.

The rule: at each size of the picture (whole, half, a quarter, ...) the largest quality whose file fits, and of these
files the one whose picture, brought back to its size, has the least squared error. At a few bytes that is a smaller
size: JPEG at quality 8 loses more to its blocks than half the resolution costs. The result says so in `scale`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from systems import cache as memo
from systems.errors import BudgetTooSmall

#: Options that spend encoder time, not bits; one thread, so that files do not depend on the host.
SAVE_OPTIONS = {
    "jpeg": {"format": "JPEG", "optimize": True},
    "webp": {"format": "WEBP", "method": 4},
    "avif": {"format": "AVIF", "speed": 6, "max_threads": 1},
}
CODECS = tuple(SAVE_OPTIONS)
QUALITIES = range(1, 101)
SMALLEST_SIDE = 8  # pixels; halving stops here

#: File size is not quite monotonic in quality: over natural pictures the worst drop from one quality to a higher one is
#: 0.3 % (JPEG), 2.8 % (WebP) and 3.3 % (AVIF). The search therefore goes on upwards until files overshoot by this much.
OVERSHOOT = 0.10


class UnreadablePayload(ValueError):
    """Bytes that are no picture of the expected codec: what a receiver meets after undetected errors."""


@dataclass(frozen=True)
class Coded:
    """A coded picture: the file, the quality (1..100) it was made with, the scale (1, 1/2, 1/4, ...) of its sides."""

    payload: bytes
    quality: int
    scale: float


@dataclass
class _Ladder:
    """All files of one picture made so far, by scale and quality: one picture meets many budgets in a sweep."""

    image: Image.Image
    codec: str
    files: dict[tuple[int, int], bytes] = field(default_factory=dict)
    errors: dict[tuple[int, int], float] = field(default_factory=dict)

    def error(self, halvings: int, quality: int) -> float:
        """Mean squared error that a file leaves."""
        if (halvings, quality) not in self.errors:
            whole = np.asarray(self.image)
            found = decode(self.file(halvings, quality), self.codec, *whole.shape[:2])
            self.errors[halvings, quality] = float(np.square(found.astype(np.float32) - whole).mean(dtype=np.float64))
        return self.errors[halvings, quality]

    def file(self, halvings: int, quality: int) -> bytes:
        known = self.files.get((halvings, quality))
        if known is None:
            width, height = scaled_size(self.image.width, self.image.height, halvings)
            image = self.image if halvings == 0 else self.image.resize((width, height), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, quality=quality, **SAVE_OPTIONS[self.codec])
            known = self.files[halvings, quality] = buffer.getvalue()
        return known

    def largest_quality(self, halvings: int, max_bytes: int) -> int | None:
        """The largest quality whose file fits, or None."""

        def size(quality: int) -> int:
            return len(self.file(halvings, quality))

        low, high = QUALITIES[0] - 1, QUALITIES[-1] + 1  # low fits (or is nothing), high does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if size(middle) <= max_bytes else (low, middle)
        for quality in range(low + 1, QUALITIES[-1] + 1):
            if size(quality) <= max_bytes:
                low = quality
            elif size(quality) > max_bytes * (1 + OVERSHOOT):
                break
        return low if low >= QUALITIES[0] else None


_LADDERS = memo.Memo(64)


def _ladder(image: np.ndarray, codec: str) -> _Ladder:
    if codec not in SAVE_OPTIONS:
        raise ValueError(f"unknown codec {codec!r}; codecs are {', '.join(CODECS)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 (H, W, 3) picture, got {image.dtype} {image.shape}")
    return _LADDERS.get(
        (codec, memo.digest(image)), lambda: _Ladder(Image.fromarray(np.ascontiguousarray(image)), codec)
    )


def scaled_size(width: int, height: int, halvings: int) -> tuple[int, int]:
    """Sides after `halvings` halvings, rounded up."""
    return math.ceil(width / 2**halvings), math.ceil(height / 2**halvings)


def encode_under(image: np.ndarray, max_bytes: int, codec: str = "jpeg") -> Coded:
    """The best file of `image`, uint8 (H, W, 3), of at most `max_bytes` bytes. Raises BudgetTooSmall."""
    ladder = _ladder(image, codec)
    height, width = image.shape[:2]
    halvings, smallest = 0, math.inf
    best: tuple[int, int] | None = None
    while halvings == 0 or min(scaled_size(width, height, halvings)) >= SMALLEST_SIDE:
        quality = ladder.largest_quality(halvings, max_bytes)
        if quality is None:
            smallest = min(smallest, len(ladder.file(halvings, QUALITIES[0])))
        elif best is None or ladder.error(halvings, quality) < ladder.error(*best):
            best = halvings, quality
        else:
            break  # once a smaller size is worse, those below it are
        halvings += 1
    if best is None:
        raise BudgetTooSmall(
            f"{max_bytes} bytes are too few for any {codec.upper()} of this {width}x{height} picture: "
            f"the smallest has {smallest} bytes"
        )
    return Coded(ladder.file(*best), best[1], 0.5 ** best[0])


def decode(payload: bytes, codec: str, height: int, width: int) -> np.ndarray:
    """File -> uint8 (height, width, 3); a picture coded at a smaller scale is brought back with a Lanczos filter.

    Raises UnreadablePayload if the bytes are not a picture of `codec`, or of no scale of (height, width).
    """
    try:
        with Image.open(io.BytesIO(payload), formats=[SAVE_OPTIONS[codec]["format"]]) as image:
            allowed = {scaled_size(width, height, halvings) for halvings in range(16)}
            if image.size not in allowed:  # asked before the pixels are made: a broken header may claim gigabytes
                raise UnreadablePayload(f"a {image.width}x{image.height} picture where {width}x{height} is expected")
            picture = image.convert("RGB")
    except UnreadablePayload:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their C library met
        raise UnreadablePayload(f"not a readable {codec.upper()}: {error}") from error
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)
