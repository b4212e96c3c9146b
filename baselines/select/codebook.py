"""The codebook of `linear-select`: what both ends know about blocks of photographs.

`baselines.linear_select` reads it, `baselines.select.fit` computes it. A class is a Gaussian model of blocks: the
variance of each detail of a block, and, if it helps, a transform of the class's own for the strongest details (a
Karhunen-Loeve transform, KLT). Everything else follows from the variances: which class codes a block best, which
coefficients are sent, with how much power, and how they are estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines.select import allocation
from baselines.select.class_map import ContextTables
from baselines.select.lapped import BLOCK, COLOURS, SIZE

DETAILS = SIZE - COLOURS
ROTATION_SCALE = 127  # rotations are stored in 8 bits per entry, and made orthogonal when they are read
FREQUENCIES = 18  # bands of the transformed means, half an octave each; the first is the picture's mean
#: The grid of the table `bits`: SNRs in dB, and complex uses per block.
SNRS_DB = np.arange(-5.0, 31.0, 5.0)
USES_A_BLOCK = 2.0 ** np.arange(2, 9)
BITS_UNIT = 64  # steps per bit in the table `bits`
MAP_START_BITS = 10  # extra bits of every map: the first block has no neighbours, and the coder ends with two bits


@dataclass(frozen=True)
class Codebook:
    """The codebook, for k classes. A block has 765 details (`DETAILS`).

    order: int64 (765,), the details in order of falling variance over all blocks.
    rotations: float32 (k, r, r), orthogonal. The first r details of a block, as a row, times the rotation of its class
    are coefficients. The other details are coefficients themselves.
    levels: int16 (k, 765), variances in steps of `allocation.STEPS` per octave.
    mean_levels: int16 (3, FREQUENCIES), variances of the transformed means.
    tables: probabilities for the class map.
    bits: int16 (SNRs, uses), the bits per block that the map may take, on the grid `SNRS_DB` x `USES_A_BLOCK`.
    """

    order: np.ndarray
    rotations: np.ndarray
    levels: np.ndarray
    mean_levels: np.ndarray
    tables: ContextTables
    bits: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.levels)

    @property
    def rotated(self) -> int:
        """Number of details that a class transforms."""
        return self.rotations.shape[1]

    def analyse(self, details: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Details float32 (blocks, 765) -> the r coefficients of every class, (classes, blocks, r), and the rest,
        (blocks, 765 - r).

        No class transforms the rest.
        """
        ordered = details[:, self.order]
        return ordered[:, : self.rotated] @ self.rotations, ordered[:, self.rotated :]

    def costs(self, parts: tuple[np.ndarray, np.ndarray], prices: allocation.Prices) -> np.ndarray:
        """Cost of each block in each class (`allocation.cost_of_square`), float64 (blocks, classes).

        parts: as `analyse` gives them.
        """
        rotated, rest = parts
        weights, fixed = allocation.cost_of_square(allocation.deviation(self.levels), prices)
        weights = weights.astype(np.float32)
        found = np.square(rest) @ weights[:, self.rotated :].T
        found += (np.square(rotated) @ weights[:, : self.rotated, None])[..., 0].T
        return found + fixed.sum(axis=1)

    def coefficients(self, parts: tuple[np.ndarray, np.ndarray], classes: np.ndarray) -> np.ndarray:
        """Coefficients float32 (blocks, 765) of blocks with the classes int (blocks,).

        parts: as `analyse` gives them.
        """
        rotated, rest = parts
        return np.concatenate([rotated[classes, np.arange(len(rest))], rest], axis=1)

    def details(self, coefficients: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The inverse of `analyse` and `coefficients`: coefficients (blocks, 765), classes (blocks,) -> details float32
        (blocks, 765).
        """
        ordered = coefficients.astype(np.float32)
        for k in np.unique(classes):
            own = classes == k
            ordered[own, : self.rotated] = ordered[own, : self.rotated] @ self.rotations[k].T
        details = np.empty_like(ordered)
        details[:, self.order] = ordered
        return details

    def all_levels(self, classes: np.ndarray) -> np.ndarray:
        """Levels int16 (m,) of all coefficients of a picture, from the classes of its blocks, int (rows, columns).

        First come the transformed means (3, rows, columns), then the 765 coefficients of each block.
        """
        return np.concatenate([self.levels_of_means(*classes.shape).ravel(), self.levels[classes.ravel()].ravel()])

    def levels_of_means(self, rows: int, columns: int) -> np.ndarray:
        """Levels of the transformed block means, int16 (3, rows, columns)."""
        levels = self.mean_levels[:, frequency_bands(rows, columns)].astype(np.int64)
        levels[:, 0, 0] += round(allocation.STEPS * np.log2(rows * columns))
        return levels.astype(np.int16)

    def map_bits(self, snr_db: float, uses: int, blocks: int) -> int:
        """Bits that the class map of a picture gets. Both ends can compute them, so no length has to be sent.

        uses: complex uses of the picture. blocks: number of blocks.
        """
        at_snr = np.array([np.interp(snr_db, SNRS_DB, column) for column in self.bits.T])
        each = np.interp(np.log2(max(uses, 1) / blocks), np.log2(USES_A_BLOCK), at_snr) / BITS_UNIT
        bits = each * blocks
        return int(round(bits + min(MAP_START_BITS, 4 * bits)))

    # --- on disk ------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of the weight file, in the shapes of `Codebook`, for example levels (classes, 765)."""
        scale = ROTATION_SCALE / np.abs(self.rotations).max(axis=(1, 2), keepdims=True)
        return {
            "order": self.order.astype(np.int16),
            "rotations": np.round(self.rotations * scale).astype(np.int8),
            "levels": self.levels,
            "mean_levels": self.mean_levels,
            "share": self.tables.share,
            "left": self.tables.left,
            "above": self.tables.above,
            "bits": self.bits,
        }

    @classmethod
    def read(cls, tensors: dict[str, np.ndarray]) -> Codebook:
        """The inverse of `tensors`, in the same shapes. Each rotation becomes the orthogonal matrix (r, r) nearest to
        the stored one.
        """
        u, _, v = np.linalg.svd(tensors["rotations"].astype(np.float64))
        return cls(
            tensors["order"].astype(np.int64),
            (u @ v).astype(np.float32),
            tensors["levels"],
            tensors["mean_levels"],
            ContextTables(tensors["share"], tensors["left"], tensors["above"]),
            tensors["bits"],
        )


def frequency_bands(rows: int, columns: int) -> np.ndarray:
    """Band of each transformed mean, int64 (rows, columns). Frequencies are per block, for
    every size of the picture.
    """
    vertical, horizontal = (np.arange(size) / (2 * size) for size in (rows, columns))
    squared = np.maximum(vertical[:, None] ** 2 + horizontal**2, 1e-12)
    bands = 1 + np.floor(2 * np.log2(256 * np.sqrt(squared)))
    bands = np.clip(bands, 1, FREQUENCIES - 1).astype(np.int64)
    bands[0, 0] = 0
    return bands


def padded_blocks(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of blocks of a picture. Incomplete blocks count."""
    return -(-height // BLOCK), -(-width // BLOCK)
