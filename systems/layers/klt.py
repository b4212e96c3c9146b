"""The block Karhunen-Loeve transform (KLT): the best linear code, and where learned systems may start from.

For blocks of p x p x 3 values with covariance V diag(lambda) V^T, sending the first m coefficients c = V^T (block -
mean) with amplitude proportional to lambda^(-1/4) minimises the mean squared error of a linear code under a power
constraint, when the receiver is the LMMSE estimator (Lee and Petersen, 1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from systems.layers.analog import pad_to_multiple


@dataclass(frozen=True)
class BlockKLT:
    """basis (3pp, m) orthonormal columns by falling eigenvalue; eigenvalues (3pp,); mean (3pp,). Values in [0, 1]."""

    basis: Tensor
    eigenvalues: Tensor
    mean: Tensor
    block: int

    @classmethod
    def fit(cls, pictures, block: int) -> BlockKLT:
        """From an iterable of pictures, float (3, H, W) in [0, 1]."""
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
        """That of a stationary Markov source, correlation^(distance) along rows and along columns and 0.9 between
        colours: what
        is known of photographs before any was seen."""
        steps = torch.arange(block, dtype=torch.float64)
        spatial, along = torch.linalg.eigh(correlation ** (steps[:, None] - steps).abs())
        colour, mixed = torch.linalg.eigh(0.1 * torch.eye(3, dtype=torch.float64) + 0.9)
        eigenvalues = variance * torch.kron(colour, torch.kron(spatial, spatial))
        order = torch.argsort(eigenvalues, descending=True)
        vectors = torch.kron(mixed, torch.kron(along, along))[:, order]
        return cls(vectors.float(), eigenvalues[order].float(), torch.full((3 * block * block,), 0.5), block)

    def analyse(self, images: Tensor, coefficients: int) -> Tensor:
        """(B, 3, H, W), sides multiples of `block` -> coefficient maps (B, coefficients, H/block, W/block)."""
        kernel = self.basis[:, :coefficients].T.reshape(coefficients, 3, self.block, self.block)
        offset = -(self.mean @ self.basis[:, :coefficients])
        return F.conv2d(images, kernel, offset, stride=self.block)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Inverse of `analyse` for the coefficients given; the others are taken as 0."""
        count = coefficients.shape[1]
        kernel = self.basis[:, :count].T.reshape(count, 3, self.block, self.block)
        pictures = F.conv_transpose2d(coefficients, kernel, stride=self.block)
        height, width = coefficients.shape[-2:]
        return pictures + F.fold(
            self.mean[None, :, None].expand(1, -1, height * width).contiguous(),
            (height * self.block, width * self.block),
            self.block,
            stride=self.block,
        )

    def amplitudes(self, coefficients: int) -> Tensor:
        """lambda^(-1/4) of the first coefficients, scaled so that a picture with the fitted statistics has mean |x|^2 =
        1."""
        values = self.eigenvalues[:coefficients]
        # A complex use carries two reals, so each real is given power 1/2 on average.
        return values**-0.25 * (0.5 / values.sqrt().mean()).sqrt()


def lmmse(reals: Tensor, amplitude: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
    """LMMSE estimate of c from reals = amplitude * c + n, with E c^2 = prior and E n^2 = noise; all broadcast."""
    return reals * amplitude * prior / (amplitude.square() * prior + noise)
