"""Tests of local gain: each channel is in exactly one band, activity is measured relative to the source's deviations,
and power follows activity.
"""

import pytest
import torch

import baselines  # noqa: F401  (registers the systems)
from systems import Budget, Link, create
from systems.gensc.local_gain import (
    BAND_LIMIT,
    FLOOR,
    GAIN_LIMIT,
    PRIOR_LIMIT,
    activity,
    band_edges,
    band_energies,
    per_channel,
)
from systems.gensc.system import GenSC
from systems.layers.linear_path import BLOCK, LinearPath, contrast


@pytest.mark.parametrize("channels", [3, 50, 96, 200])
def test_bands_cover_the_channels_once(channels):
    edges = band_edges(channels)
    assert edges[0] == 0 and edges[-1] == channels and list(edges) == sorted(set(edges))
    bands = torch.arange(len(edges) - 1.0)[None, :, None, None]
    spread = per_channel(bands, channels)[0, :, 0, 0]
    assert [int((spread == band).sum()) for band in range(len(edges) - 1)] == [b - a for a, b in zip(edges, edges[1:])]


def test_band_energies_are_logarithms_of_mean_squares():
    maps = torch.zeros(1, 6, 1, 1)
    maps[0, :, 0, 0] = torch.tensor([2.0, 1.0, 3.0, 0.0, 0.0, 0.0])  # bands: {0}, {1, 2}, {3, 4, 5}
    found = band_energies(maps, 0.5)[0, :, 0, 0].exp()
    assert torch.allclose(found, torch.tensor([4.5, 5.5, 0.5]))


def test_a_block_of_one_deviation_has_activity_one():
    path = LinearPath(96)
    coefficients = path.deviation[:, None, None] * torch.ones(1, 96, 2, 3)
    assert torch.allclose(activity(coefficients, path).exp(), torch.full((1, 7, 2, 3), 1 + FLOOR))


def test_power_follows_activity_at_the_start():
    """Untrained, the gain of a block (apart from the gain of its channel) is activity^(-exponent) of the channel's
    band.
    """
    system = GenSC("gensc", checkpoint="none")
    images = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(3))
    images[..., :56] = 0.5 + 0.05 * images[..., :56]  # a quiet half
    path, encoder = system.linear_path, system.jscc_encoder
    with torch.no_grad():
        feature = torch.zeros(1, system.config.feature_dim, 14, 14)
        _, log_gain = encoder(images, feature, path, "reconstruction")
        bands = activity(path.analyse(images) * path.unit(contrast(images)), path)
    assert torch.allclose(log_gain, -encoder.exponent[:, None, None] * per_channel(bands, 96), atol=1e-4)
    gain = log_gain.exp()
    assert (gain[0, 20, :, :3] > 1.3 * gain[0, 20, :, 4:].mean()).all()


def test_without_local_gain_every_block_has_the_same():
    import dataclasses

    full = GenSC("gensc", checkpoint="none")
    system = GenSC(
        "gensc", checkpoint="none", config=dataclasses.replace(full.config, local_gain=False, activity_loss=0.0)
    )
    images = torch.rand(1, 3, BLOCK * 7, BLOCK * 7)
    with torch.no_grad():
        feature = torch.zeros(1, system.config.feature_dim, 14, 14)
        _, gain = system.jscc_encoder(images, feature, system.linear_path, "reconstruction")
    assert not gain.any() and system.local_statistics is None


def test_the_receiver_is_told_nothing_of_the_gains():
    """The side information is the eight bits of the power, as without local gain."""
    system, link = (
        create("gensc", checkpoint="none"),
        Link("reconstruction", 112, 112, Budget.from_cbr(1 / 16, 112, 112)),
    )
    with torch.no_grad():
        assert system.encode(torch.rand(1, 3, 112, 112), link).side_info_bits == 8


def test_gains_are_bounded_whatever_the_network_says():
    """Without a bound, segmentation once drove single blocks to e^50. Blocks of segmentation all have one gain per
    channel.
    """
    system = GenSC("gensc", checkpoint="none")
    path, encoder = system.linear_path, system.jscc_encoder
    images, feature = torch.rand(1, 3, 112, 112), torch.zeros(1, 96, 14, 14)
    with torch.no_grad():
        quiet = encoder(images, feature, path, "reconstruction")[1]
        torch.nn.init.constant_(encoder.local_gain.bias, 1e4)
        torch.nn.init.constant_(system.local_statistics.head.bias, -1e4)
        loud = encoder(images, feature, path, "reconstruction")[1]
        apart = encoder(images, feature, path, "segmentation")[1]
        bands, gain, prior, _ = system.local_statistics(
            torch.zeros(1, 96, 7, 7), torch.zeros(1, 7, 7, 7), torch.zeros(1, 192, 7, 7)
        )
    assert torch.allclose(loud - quiet, torch.full_like(loud, GAIN_LIMIT), atol=1e-4)
    assert not apart.any()
    for value, limit in ((bands, BAND_LIMIT), (gain, GAIN_LIMIT), (prior, PRIOR_LIMIT)):
        assert torch.allclose(value, torch.full_like(value, -limit))
