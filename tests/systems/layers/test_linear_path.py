"""Tests of the linear path: a network that adds nothing equals `linear`, and the statistics are those of the named
source.
"""

import pytest
import torch

import baselines  # noqa: F401  (registers the baselines)
from bench.measure.channel import transmit
from systems import Budget, Link, create
from systems.layers.klt import BlockKLT
from systems.layers.linear_path import BLOCK, LinearPath, contrast, picture_features
from systems.sizes import sizes_of

WITH_PATH = ("deepjscc", "adjscc", "witt")


def pictures(height=112, width=112):
    coarse = torch.rand(2, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def test_the_markov_statistics_are_those_of_the_source():
    """V diag(lambda) V^T is correlation^(distance) along rows and columns, and 0.9 between colours."""
    klt = BlockKLT.markov(4, correlation=0.9, variance=2.0)
    assert torch.allclose(klt.basis.T @ klt.basis, torch.eye(48), atol=1e-5)
    assert (klt.eigenvalues[:-1] >= klt.eigenvalues[1:]).all()
    covariance = klt.basis @ klt.eigenvalues.diag() @ klt.basis.T
    place = lambda colour, row, column: 16 * colour + 4 * row + column  # noqa: E731
    assert covariance[place(0, 1, 1), place(0, 1, 1)].item() == pytest.approx(2.0, rel=1e-4)
    assert covariance[place(0, 0, 3), place(0, 2, 1)].item() == pytest.approx(2.0 * 0.9**4, rel=1e-4)
    assert covariance[place(0, 0, 3), place(2, 2, 1)].item() == pytest.approx(0.9 * 2.0 * 0.9**4, rel=1e-4)


def test_synthesis_undoes_analysis_with_all_coefficients():
    path, images = LinearPath(3 * BLOCK * BLOCK), pictures()
    coefficients = path.analyse(images) * path.unit(contrast(images))
    assert torch.allclose(path.synthesise(coefficients), images, atol=1e-4)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh-block"])
@pytest.mark.parametrize("name", WITH_PATH)
def test_training_starts_at_the_linear_code(name, channel):
    """Before its first step a network with a linear path sends and delivers exactly what `linear` does."""
    linear = create("linear")
    system = create(name, size="small", checkpoint="none")
    system.linear_path.load(linear.klt)
    images = pictures()
    # CBR 1/16 and the uses of the control word: `linear` then keeps as many coefficients as the networks carry.
    at = Link("reconstruction", 112, 112, Budget(uses=2352 + 23), channel, 7.0)
    with torch.inference_mode():
        sent, wanted = system.encode(images, at), linear.encode(images, at)
        assert torch.allclose(sent.symbols, wanted.symbols, atol=1e-5) and torch.equal(sent.side_info, wanted.side_info)
        shown, expected = (s.decode(transmit(wanted, at, [1, 2]), at).output for s in (system, linear))
    assert torch.allclose(shown, expected, atol=1e-5)


@pytest.mark.parametrize("name", WITH_PATH)
def test_the_published_size_has_no_linear_path(name):
    assert "paper" in sizes_of(name)
    with torch.device("meta"):
        assert create(name, size="paper", checkpoint="none").linear_path is None


def test_picture_features_are_the_picture_in_its_own_units():
    images = pictures()
    unit = contrast(images)
    features = picture_features(images, unit, 4)
    assert features.shape == (2, 48, 28, 28)
    back = torch.nn.functional.pixel_shuffle(features, 4) * unit + images.mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(back, images, atol=1e-5)


def test_the_powers_of_channels_that_follow_the_snr_start_at_those_of_the_linear_code():
    path, snr_db = LinearPath(96, allocates=True), torch.tensor([0.0, 20.0])
    start = path.klt.amplitudes(96)
    assert torch.equal(path.amplitudes(snr_db)[:, :, 0, 0], start.expand(2, -1))
    torch.nn.init.normal_(path.allocation[-1].weight, std=0.3)
    low, high = path.amplitudes(snr_db)[:, :, 0, 0]
    assert not torch.allclose(low, high) and torch.equal(LinearPath(96).amplitudes(snr_db)[1, :, 0, 0], start)


@pytest.mark.parametrize("name", ["adjscc", "witt", "gensc"])
def test_every_shipped_encoder_that_knows_the_snr_shares_power_by_it(name):
    """Equal footing: no publication names it, so either all systems with a KLT start have it, or none."""
    system = create(name)
    assert system.encoder_sees_snr and system.linear_path is not None
    ends = torch.tensor([0.0, 20.0])
    if name == "gensc":
        low, high = system.jscc_encoder.gain("reconstruction", ends).exp()
    else:
        low, high = system.linear_path.amplitudes(ends)[:, :, 0, 0]
    assert not torch.allclose(low / low.norm(), high / high.norm(), rtol=0.01)


@pytest.mark.parametrize("allocates", [False, True])
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_the_expected_error_is_the_error_of_pictures_with_the_statistics(snr_db, allocates):
    """It is wrong if the receiver takes other powers of the channels than were sent."""
    path, told = LinearPath(96, allocates=allocates), torch.tensor([snr_db])
    if allocates:
        path.allocation[-1].bias.data = torch.linspace(0.5, -0.5, 96)
    draws = torch.randn(1, 96, 80, 80, generator=torch.Generator().manual_seed(1))
    images = path.synthesise(draws * path.deviation[:96, None, None])
    side = 80 * BLOCK
    at = Link("reconstruction", side, side, Budget.from_cbr(1 / 16 + 1e-4, side, side), "awgn", snr_db)
    received = transmit(
        path.send_beside(images, path.analyse(images), torch.zeros_like(draws), told, at, "test"), at, [3]
    )
    opened = path.open(received, told, at)
    # 614,400 coefficients; the kinds with the largest error have 6,400 each, so their mean square is known to about 1 %
    assert path.expected_error(opened).item() == pytest.approx(
        (opened.picture - images).square().mean().sqrt().item(), rel=0.01
    )
