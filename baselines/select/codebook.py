"""The codebook of `linear-select`: what both ends know about blocks of photographs.

A class is a Gaussian: the variance of each detail of a block, and, where it pays, a transform of the class's own for
the strongest details (a Karhunen-Loeve transform, KLT). All else follows from it: which class codes a block best, which
coefficients are sent, with how much power, and how they are estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines.select import allocation
from baselines.select.class_map import ContextTables
from baselines.select.lapped import BLOCK, COLOURS, SIZE

DETAILS = SIZE - COLOURS
ROTATION_SCALE = 127  # a rotation is stored in 8 bits per entry, and made orthogonal again when it is read
FREQUENCIES = 18  # bands of the transformed block means, half an octave each; the first is the picture's mean
#: Where the share of the class map is tabulated: SNRs in dB, and complex uses per block.
SNRS_DB = np.arange(-5.0, 31.0, 5.0)
USES_A_BLOCK = 2.0 ** np.arange(2, 9)
BITS_UNIT = 64  # steps of the table per bit
MAP_START_BITS = (
    10  # the first block has no neighbours, and the coder ends with two bits: pictures of few blocks feel it
)


@dataclass(frozen=True)
class Codebook:
    """order: int64 (765,), details by falling variance over all blocks. rotations: float32 (classes, r, r), orthogonal:
    the first r details of a block, as a row, times its class's rotation are its coefficients; the others are their own.
    levels: int16 (classes, 765), variances in steps of `allocation.STEPS` per octave. mean_levels: int16 (3,
    FREQUENCIES). tables: of the class map. bits: int16 (SNRS_DB, USES_A_BLOCK), bits per block that the map is worth.
    """

    order: np.ndarray
    rotations: np.ndarray
    levels: np.ndarray
    mean_levels: np.ndarray
    tables: ContextTables
    bits: np.ndarray

    @property
    def classes(self) -> int:
        return len(self.levels)

    @property
    def rotated(self) -> int:
        """Details that a class transforms."""
        return self.rotations.shape[1]

    def analyse(self, details: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Details float32 (blocks, 765) -> coefficients of every class (classes, blocks, r), and the rest, which no
        class transforms (blocks, 765 - r)."""
        ordered = details[:, self.order]
        return ordered[:, : self.rotated] @ self.rotations, ordered[:, self.rotated :]

    def costs(self, parts: tuple[np.ndarray, np.ndarray], prices: allocation.Prices) -> np.ndarray:
        """Cost of each block in each class (`allocation.cost_of_square`), float64 (blocks, classes); parts: from
        `analyse`."""
        rotated, rest = parts
        weights, fixed = allocation.cost_of_square(allocation.deviation(self.levels), prices)
        weights = weights.astype(np.float32)
        found = np.square(rest) @ weights[:, self.rotated :].T
        found += (np.square(rotated) @ weights[:, : self.rotated, None])[..., 0].T
        return found + fixed.sum(axis=1)

    def coefficients(self, parts: tuple[np.ndarray, np.ndarray], classes: np.ndarray) -> np.ndarray:
        """Coefficients float32 (blocks, 765) of blocks in classes int (blocks,); parts: from `analyse`."""
        rotated, rest = parts
        return np.concatenate([rotated[classes, np.arange(len(rest))], rest], axis=1)

    def details(self, coefficients: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Inverse of `analyse` and `coefficients`: float32 (blocks, 765)."""
        ordered = coefficients.astype(np.float32)
        for k in np.unique(classes):
            own = classes == k
            ordered[own, : self.rotated] = ordered[own, : self.rotated] @ self.rotations[k].T
        details = np.empty_like(ordered)
        details[:, self.order] = ordered
        return details

    def all_levels(self, classes: np.ndarray) -> np.ndarray:
        """Levels int16 of all coefficients of a picture whose blocks have classes int (rows, columns): first the
        transformed means (3, rows, columns), then block by block (765)."""
        return np.concatenate([self.levels_of_means(*classes.shape).ravel(), self.levels[classes.ravel()].ravel()])

    def levels_of_means(self, rows: int, columns: int) -> np.ndarray:
        """Levels int16 (3, rows, columns) of the transformed block means."""
        levels = self.mean_levels[:, frequency_bands(rows, columns)].astype(np.int64)
        levels[:, 0, 0] += round(allocation.STEPS * np.log2(rows * columns))
        return levels.astype(np.int16)

    def map_bits(self, snr_db: float, uses: int, blocks: int) -> int:
        """Bits that the class map of a picture is given: a rule of what both ends know, so that it needs no length."""
        at_snr = np.array([np.interp(snr_db, SNRS_DB, column) for column in self.bits.T])
        each = np.interp(np.log2(max(uses, 1) / blocks), np.log2(USES_A_BLOCK), at_snr) / BITS_UNIT
        bits = each * blocks
        return int(round(bits + min(MAP_START_BITS, 4 * bits)))

    # --- on disk ------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """What a file holds."""
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
        """Inverse of `tensors`; the rotations are those nearest to what was stored."""
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
    """Band of each transformed mean, int64 (rows, columns); frequencies are counted in blocks, whatever the picture's
    size."""
    vertical, horizontal = (np.arange(size) / (2 * size) for size in (rows, columns))
    squared = np.maximum(vertical[:, None] ** 2 + horizontal**2, 1e-12)
    bands = 1 + np.floor(2 * np.log2(256 * np.sqrt(squared)))
    bands = np.clip(bands, 1, FREQUENCIES - 1).astype(np.int64)
    bands[0, 0] = 0
    return bands


def padded_blocks(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of blocks of a picture."""
    return -(-height // BLOCK), -(-width // BLOCK)
