"""Local gain: power where the picture is busy, less than its share where it is not, undone at the receiver.

For coefficients of local deviation s the best linear code has amplitude s^(-1/2). A picture's deviations change from
block to block, so one gain for all blocks (lambda^(-1/4)) leaves 1 to 2 dB at low SNR. The transmitter measures the
activity of each block in bands of coefficients; the receiver, which is not told, infers it from what it received.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.layers.linear_path import LinearPath, start_from_zero

GAIN_LIMIT = 1.5  # +-13 dB: what a network may add to a block's gain
BAND_LIMIT = 10.0  # of a block's log activity; what is measured lies between log(FLOOR) and about 6
PRIOR_LIMIT = 4.0  # of the logarithm of a coefficient's variance
FLOOR = 0.02  # of a coefficient's mean variance: what a silent band counts as


def band_edges(channels: int) -> tuple[int, ...]:
    """0, 1, 3, 6, 12, 24, ...: bands of coefficients, by falling variance, about doubling."""
    edges = [0, 1, 3]
    while edges[-1] < channels:
        edges.append(min(2 * edges[-1], channels))
    return tuple(edges)


def band_energies(maps: Tensor, floor: float) -> Tensor:
    """log(mean square + floor) of each band of channels: (B, C, h, w) -> (B, bands, h, w)."""
    edges = band_edges(maps.shape[1])
    squares = maps.float().square()
    energies = [squares[:, low:high].mean(dim=1) for low, high in zip(edges, edges[1:])]
    return (torch.stack(energies, dim=1) + floor).log()


def per_channel(bands: Tensor, channels: int) -> Tensor:
    """A value of each band, (B, bands, h, w), repeated for its channels, (B, channels, h, w)."""
    edges = band_edges(channels)
    widths = [high - low for low, high in zip(edges, edges[1:])]
    # No tensor of widths: its copy to a GPU would wait for all that the GPU still has to do.
    parts = [bands[:, i : i + 1].expand(-1, width, -1, -1) for i, width in enumerate(widths)]
    return torch.cat(parts, dim=1)


def bounded(x: Tensor, limit: float) -> Tensor:
    """x for small x, never beyond +-limit: an exponential of what a network says must not run away."""
    return limit * torch.tanh(x / limit)


class LocalStatistics(nn.Module):
    """The receiver's estimate of each block: (C, noisy bands, KB features) -> activity, gain and prior corrections,
    context.

    Gives activity (B, bands, h, w), and log gain, log prior and context (B, C, h, w), all zero at the start.
    """

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.channels = channels
        self.bands = len(band_edges(channels)) - 1
        self.head = nn.Conv2d(channels + self.bands + features, self.bands + 3 * channels, 1)
        start_from_zero(self.head)

    def forward(
        self, scaled: Tensor, noisy_bands: Tensor, feature: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """scaled (B, C, h, w), noisy_bands (B, bands, h, w), feature (B, F, h, w) or None -> activity (B, bands, h, w),
        log gain, log prior and context (B, C, h, w)."""
        x = [scaled, noisy_bands] if feature is None else [scaled, noisy_bands, feature]
        bands, gain, prior, context = (
            self.head(torch.cat(x, dim=1)).float().split([self.bands, *[self.channels] * 3], dim=1)
        )
        return bounded(bands, BAND_LIMIT), bounded(gain, GAIN_LIMIT), bounded(prior, PRIOR_LIMIT), context


def activity(coefficients: Tensor, path: LinearPath) -> Tensor:
    """What the transmitter measures: energy of each band of each block in units of its mean variance, as a logarithm.

    coefficients: absolute, (B, C, h, w). Gives (B, bands, h, w).
    """
    return band_energies(coefficients / path.deviation[: path.coefficients, None, None], FLOOR)
