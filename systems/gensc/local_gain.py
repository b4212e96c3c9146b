"""Local gain: more power for the busy blocks of a picture and less for the flat ones. The receiver undoes it.

The JSCC encoder (transmitter) and `systems.gensc.system` (receiver) call it where a configuration has `local_gain`.

The best linear code gives a coefficient of local standard deviation s an amplitude proportional to s^(-1/2). Within a
picture, s changes from block to block, so the same gain for all blocks, lambda^(-1/4), loses 1 to 2 dB at low SNR. The
transmitter measures the activity of each block in bands of coefficients. The activity is not sent: the receiver
estimates it from the received symbols.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.layers.linear_path import LinearPath, start_from_zero

GAIN_LIMIT = 1.5  # largest change of a block's log gain by the network: +-13 dB
BAND_LIMIT = 10.0  # limit of a block's log activity; measured values lie between log(FLOOR) and about 6
PRIOR_LIMIT = 4.0  # largest change of the logarithm of a coefficient's variance
FLOOR = 0.02  # energy that is added to every band, in units of a coefficient's mean variance


def band_edges(channels: int) -> tuple[int, ...]:
    """Edges of bands of coefficients: 0, 1, 3, 6, 12, 24, ..., `channels`. Coefficients are in order of falling
    variance.
    """
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
    """The value of each band, (B, bands, h, w), repeated for all channels of the band, (B, channels, h, w)."""
    edges = band_edges(channels)
    widths = [high - low for low, high in zip(edges, edges[1:])]
    # No tensor of widths: its copy to a GPU would wait for all that the GPU still has to do.
    parts = [bands[:, i : i + 1].expand(-1, width, -1, -1) for i, width in enumerate(widths)]
    return torch.cat(parts, dim=1)


def bounded(x: Tensor, limit: float) -> Tensor:
    """limit * tanh(x / limit), in the shape of x (B, C, h, w): near x for small x, never outside +-limit.

    It keeps an exponential of a network's output from growing without limit.
    """
    return limit * torch.tanh(x / limit)


class LocalStatistics(nn.Module):
    """The receiver's estimate of each block: its activity, corrections of gain and prior, and a correction from its
    context.

    One 1 x 1 convolution computes all four from the symbols, their noisy bands and the KB's features. All are 0 when
    training starts.
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
        """Activity (B, bands, h, w), and log gain, log prior and context, (B, C, h, w) each.

        scaled: symbols (B, C, h, w).
        noisy_bands: (B, bands, h, w).
        feature: (B, F, h, w), or None without a KB.
        """
        x = [scaled, noisy_bands] if feature is None else [scaled, noisy_bands, feature]
        bands, gain, prior, context = (
            self.head(torch.cat(x, dim=1)).float().split([self.bands, *[self.channels] * 3], dim=1)
        )
        return bounded(bands, BAND_LIMIT), bounded(gain, GAIN_LIMIT), bounded(prior, PRIOR_LIMIT), context


def activity(coefficients: Tensor, path: LinearPath) -> Tensor:
    """The activity that the transmitter measures: the log energy of each band in each block, in units of the band's
    mean variance.

    coefficients: in absolute units, (B, C, h, w). Returns (B, bands, h, w).
    """
    return band_energies(coefficients / path.deviation[: path.coefficients, None, None], FLOOR)
