"""Computes the codebook of `linear-select` from training pictures. It is deterministic and takes minutes on one core.

`LinearSelect.fit` calls it. At first, blocks are put into classes by their energy and its distribution over
frequencies. Then two steps alternate: each class takes the covariance of its blocks, and each block moves to the class
that codes it best at a medium operating point (10 dB, CBR 1/16). A class that has lost its blocks takes half of those
of the largest class. Each picture is used at its size and at half its size, because test pictures are often scaled
down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from baselines.select import allocation, class_map, lapped
from baselines.select.allocation import Prices, prices_of
from baselines.select.class_map import ContextTables
from baselines.select.codebook import (
    BITS_UNIT,
    DETAILS,
    FREQUENCIES,
    SNRS_DB,
    USES_A_BLOCK,
    Codebook,
    frequency_bands,
)
from systems.layers.padding import pad_to_multiple

LEAST_BLOCKS = 60  # the fewest blocks of a class


@dataclass(frozen=True)
class FitOptions:
    """Choices of the computation.

    classes: number of classes.
    rotated: the most details that a class transforms.
    blocks: blocks sampled per picture and size.
    rounds: how often covariances and classes are computed in turn.
    snr_db, uses: the operating point; uses per block.
    maps: the most pictures that give the statistics of class maps.
    rates: how many of these give the sizes of class maps.
    seed: of the random choices.
    """

    classes: int = 64
    rotated: int = 1
    blocks: int = 50
    rounds: int = 8
    snr_db: float = 10.0
    uses: float = 48.0
    maps: int = 60
    rates: int = 12
    seed: int = 1


@dataclass
class _Sample:
    """Blocks and statistics of the training pictures.

    details: float32 (blocks, 765).
    mean_levels, mean_counts: power and number of the transformed means, by colour and band.
    pictures: whole pictures, analysed, for the maps.
    """

    details: np.ndarray
    mean_levels: np.ndarray
    mean_counts: np.ndarray
    pictures: list[tuple[np.ndarray, int, int]]


def fit(pictures: Iterable[Tensor], options: FitOptions = FitOptions(), control_rate=lambda snr_db: 0.5) -> Codebook:
    """Compute the codebook from pictures, float (3, H, W) in [0, 1].

    control_rate: a function from the SNR in dB to the bits of side information per use.
    """
    sample = _sample(pictures, options)
    order = np.argsort(-np.square(sample.details, dtype=np.float64).mean(axis=0), kind="stable")
    blocks = sample.details[:, order]
    classes = _start(blocks, options)
    codebook = _estimate(blocks, classes, order, sample, options)
    for _ in range(options.rounds):
        prices = _prices(codebook, classes, sample, options.snr_db, options.uses)
        share = np.bincount(classes, minlength=options.classes) / len(classes)
        bits = -np.log2(np.maximum(share, 1e-4))
        price = prices.use / control_rate(options.snr_db)
        best = [
            (codebook.costs(codebook.analyse(part), prices) + price * bits).argmin(axis=1)
            for part in np.array_split(sample.details, -(-len(sample.details) // 4096))
        ]
        classes = _refill(np.concatenate(best), options)
        codebook = _estimate(blocks, classes, order, sample, options)
    return _with_maps(codebook, classes, sample, options, control_rate)


def _sample(pictures: Iterable[Tensor], options: FitOptions) -> _Sample:
    rng = np.random.default_rng(options.seed)
    rows, whole = [], []
    power, count = np.zeros((3, FREQUENCIES)), np.zeros(FREQUENCIES)
    for number, picture in enumerate(pictures):
        half = F.interpolate(picture[None].float(), scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
        for one in (picture[None].float(), half):
            means, details = lapped.analyse(pad_to_multiple(one, lapped.BLOCK))
            height, width = means.shape[2:]
            flat = details.flatten(0, 2).numpy()
            rows.append(flat[rng.permutation(len(flat))[: options.blocks]])
            bands = frequency_bands(height, width)
            squares = means[0].double().square().numpy()
            squares[:, 0, 0] /= height * width
            for colour in range(3):
                power[colour] += np.bincount(bands.ravel(), squares[colour].ravel(), FREQUENCIES)
            count += np.bincount(bands.ravel(), minlength=FREQUENCIES)
        if number % 4 == 0:
            whole.append((flat, height, width))  # of the half size
    known = np.flatnonzero(count > 0)
    levels = allocation.level(power / np.maximum(count, 1))
    # a band that no picture had takes the values of the nearest one
    nearest = known[np.abs(np.arange(FREQUENCIES)[:, None] - known).argmin(axis=1)]
    return _Sample(np.concatenate(rows), levels[:, nearest], count, whole[:: -(-len(whole) // options.maps)])


def _start(blocks: np.ndarray, options: FitOptions) -> np.ndarray:
    """First classes, int64 (blocks,): k-means on the logarithms of the energy in groups of details."""
    rng = np.random.default_rng(options.seed)
    groups = np.array_split(np.arange(blocks.shape[1]), [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 160, 320])
    features = np.stack([np.log(np.square(blocks[:, group]).mean(axis=1) + 1e-5) for group in groups], axis=1)
    centres = features[rng.choice(len(features), options.classes, replace=False)]
    for _ in range(8):
        distance = np.square(centres).sum(axis=1) - 2 * features @ centres.T
        nearest = distance.argmin(axis=1)
        for k in range(options.classes):
            if (nearest == k).any():
                centres[k] = features[nearest == k].mean(axis=0)
    return _refill(nearest, options)


def _refill(classes: np.ndarray, options: FitOptions) -> np.ndarray:
    """Each class with fewer than LEAST_BLOCKS blocks takes every other block of the largest class."""
    least = min(LEAST_BLOCKS, len(classes) // (2 * options.classes))
    for k in range(options.classes):
        if (classes == k).sum() < least:
            largest = np.bincount(classes, minlength=options.classes).argmax()
            classes[np.flatnonzero(classes == largest)[::2]] = k
    return classes


def _estimate(
    blocks: np.ndarray, classes: np.ndarray, order: np.ndarray, sample: _Sample, options: FitOptions
) -> Codebook:
    """KLT and variances of each class. For classes with few blocks they are drawn towards those of all blocks."""
    r = min(options.rotated, DETAILS)
    pooled = np.square(blocks, dtype=np.float64).mean(axis=0)
    rotations = np.empty((options.classes, r, r), np.float32)
    levels = np.empty((options.classes, DETAILS), np.int16)
    for k in range(options.classes):
        own = blocks[classes == k].astype(np.float64)
        variance = np.square(own).mean(axis=0)
        scale = variance.sum() / pooled.sum()
        trust = len(own) / (len(own) + 20.0)
        variance = trust * variance + (1 - trust) * scale * pooled
        head = own[:, :r]
        covariance = head.T @ head / len(own)
        shrink = r / (len(own) + r)
        covariance = (1 - shrink) * covariance + shrink * np.diag(variance[:r])
        values, vectors = np.linalg.eigh(covariance)
        rotations[k] = vectors[:, ::-1]
        levels[k] = allocation.level(np.concatenate([values[::-1], variance[r:]]))
    # classes in order of rising energy, so that classes with neighbouring numbers are similar
    rank = np.argsort([np.sqrt(np.exp2(row / allocation.STEPS)).sum() for row in levels.astype(np.float64)])
    classes[:] = np.argsort(rank)[classes]
    flat = ContextTables.flat(options.classes)
    bits = np.zeros((len(SNRS_DB), len(USES_A_BLOCK)), np.int16)
    return Codebook(order, rotations[rank], levels[rank], sample.mean_levels, flat, bits)


def _prices(codebook: Codebook, classes: np.ndarray, sample: _Sample, snr_db: float, uses: float) -> Prices:
    """Prices for the case that the blocks of the sample were one picture."""
    levels = codebook.levels.astype(np.int64)
    lowest = int(min(levels.min(), codebook.mean_levels.min()))
    number = np.bincount(classes, minlength=codebook.classes)
    counts = np.zeros(int(max(levels.max(), codebook.mean_levels.max())) - lowest + 1)
    for k, row in enumerate(levels):
        counts += number[k] * np.bincount(row - lowest, minlength=len(counts))
    means = np.repeat(sample.mean_counts[None] * len(classes) / sample.mean_counts.sum(), 3, axis=0)
    np.add.at(counts, (codebook.mean_levels.astype(np.int64) - lowest).ravel(), means.ravel())
    return prices_of(counts, lowest, int(uses * len(classes)), 10 ** (-snr_db / 10) / 2)


def _with_maps(codebook: Codebook, classes: np.ndarray, sample: _Sample, options: FitOptions, control_rate) -> Codebook:
    """Add the context tables, from the maps of whole pictures, and the number of bits that a map may take."""

    def maps(pictures: list, tables: ContextTables, snr_db: float, uses: float) -> tuple[list[np.ndarray], float]:
        """Maps of pictures (parts, rows, columns), and the bits that a block takes."""
        prices = _prices(codebook, classes, sample, snr_db, uses)
        price = prices.use / control_rate(snr_db)
        found = [
            class_map.choose(codebook.costs(parts(), prices), price, (rows, columns), tables)
            for parts, rows, columns in pictures
        ]
        return [one for one, _ in found], sum(bits for _, bits in found) / sum(one.size for one, _ in found)

    pictures = [(partial(codebook.analyse, flat), rows, columns) for flat, rows, columns in sample.pictures]
    tables = codebook.tables
    for _ in range(2):
        tables = ContextTables.fit(maps(pictures, tables, options.snr_db, options.uses)[0], options.classes)
    few = [(cache(parts), rows, columns) for parts, rows, columns in pictures[:: -(-len(pictures) // options.rates)]]
    bits = [[maps(few, tables, snr, uses)[1] for uses in USES_A_BLOCK] for snr in SNRS_DB]
    return replace(codebook, tables=tables, bits=np.round(np.array(bits) * BITS_UNIT).astype(np.int16))
