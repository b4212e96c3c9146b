"""The block Karhunen-Loeve transform (KLT): the best linear code. Learned systems may start from it.

Called by the baseline `linear`, by `systems.layers.linear_path` and by GenSC.

Take blocks of p x p x 3 values with covariance V diag(lambda) V^T. The code sends the first m coefficients c = V^T
(block - mean), each with an amplitude proportional to lambda^(-1/4). The receiver is the LMMSE estimator. Under a power
constraint this minimises the mean squared error among linear codes (Lee and Petersen, 1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from systems.layers.dense import linear
from systems.layers.padding import pad_to_multiple


@dataclass(frozen=True)
class BlockKLT:
    """The transform and the statistics of `block` x `block` x 3 values in [0, 1]; p = `block`.

    basis: (3pp, m), orthonormal columns in order of falling eigenvalues.
    eigenvalues: (3pp,), the variance of each coefficient.
    mean: (3pp,).
    """

    basis: Tensor
    eigenvalues: Tensor
    mean: Tensor
    block: int

    @classmethod
    def fit(cls, pictures, block: int) -> BlockKLT:
        """Measure the statistics of an iterable of pictures, float (3, H, W) in [0, 1]."""
        size = 3 * block * block
        total, second, count = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64), 0
        for picture in pictures:
            rows = F.unfold(pad_to_multiple(picture[None], block), block, stride=block)[0].T.double()
            total += rows.sum(0)
            second += rows.T @ rows
            count += len(rows)
        mean = total / count
        eigenvalues, vectors = torch.linalg.eigh(second / count - torch.outer(mean, mean))
        order = torch.argsort(eigenvalues, descending=True)
        return cls(vectors[:, order].float(), eigenvalues[order].clamp_min(1e-9).float(), mean.float(), block)

    @classmethod
    def markov(cls, block: int, correlation: float = 0.95, variance: float = 0.05) -> BlockKLT:
        """The transform of a stationary Markov source, a model of photographs that needs no pictures.

        The correlation of two values is correlation^(distance) along rows and along columns, and 0.9 between colours.
        """
        steps = torch.arange(block, dtype=torch.float64)
        spatial, along = torch.linalg.eigh(correlation ** (steps[:, None] - steps).abs())
        colour, mixed = torch.linalg.eigh(0.1 * torch.eye(3, dtype=torch.float64) + 0.9)
        eigenvalues = variance * torch.kron(colour, torch.kron(spatial, spatial))
        order = torch.argsort(eigenvalues, descending=True)
        vectors = torch.kron(mixed, torch.kron(along, along))[:, order]
        return cls(vectors.float(), eigenvalues[order].float(), torch.full((3 * block * block,), 0.5), block)

    def analyse(self, images: Tensor, coefficients: int) -> Tensor:
        """(B, 3, H, W), both sides multiples of `block` -> coefficient maps (B, coefficients, H/block, W/block)."""
        kernel = self.basis[:, :coefficients].T.reshape(coefficients, 3, self.block, self.block)
        offset = -(self.mean @ self.basis[:, :coefficients])
        return F.conv2d(images, kernel, offset, stride=self.block)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """The inverse of `analyse`: (B, coefficients, h, w) -> (B, 3, h block, w block). Missing coefficients count as
        0.
        """
        batch, count, height, width = coefficients.shape
        blocks = linear(coefficients.flatten(2).transpose(1, 2), self.basis[:, :count], self.mean)
        pixels = blocks.view(batch, height, width, 3, self.block, self.block).permute(0, 3, 1, 4, 2, 5)
        return pixels.reshape(batch, 3, height * self.block, width * self.block)

    def amplitudes(self, coefficients: int) -> Tensor:
        """Amplitudes of the first coefficients, (coefficients,): proportional to lambda^(-1/4).

        They are scaled so that a picture with the fitted statistics has mean |x|^2 = 1.
        """
        values = self.eigenvalues[:coefficients]
        # A complex use carries two reals, so each real is given power 1/2 on average.
        return values**-0.25 * (0.5 / values.sqrt().mean()).sqrt()


def lmmse(reals: Tensor, amplitude: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
    """LMMSE estimate of c from reals = amplitude * c + n, where E c^2 = prior and E n^2 = noise.

    All four broadcast against each other, for example reals (B, C, h, w) and prior (C, 1, 1). Returns the shape of
    `reals`.
    """
    return reals * amplitude * prior / (amplitude.square() * prior + noise)
