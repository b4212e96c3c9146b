"""Tests of `linear-select` as a system: what it spends, what it delivers, and that it beats the code that treats all
blocks alike.
"""

import numpy as np
import pytest
import torch
from digital_links import through
from skimage import data

import baselines  # noqa: F401  registers the systems
from baselines.linear_select import LinearSelect
from baselines.select.codebook import Codebook
from systems import registry
from systems.errors import BudgetTooSmall
from systems.interface import Budget, Link


def make_link(size, snr_db, cbr=1 / 16, channel="awgn"):
    return Link("reconstruction", *size, Budget.from_cbr(cbr, *size), channel, snr_db)


def photographs(height, width, count=2):
    whole = [data.astronaut(), data.coffee(), data.chelsea()][:count]
    return torch.stack([torch.from_numpy(p[:height, :width].copy()).permute(2, 0, 1).float() / 255 for p in whole])


def psnr(found, images):
    error = ((found * 255).round() - (images * 255).round()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255**2 / error)


@pytest.fixture(scope="module")
def system():
    return registry.create("linear-select")


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 20.0, 40.0])
@pytest.mark.parametrize("cbr", [1 / 64, 1 / 16, 1 / 6])
def test_it_spends_the_budget_and_no_more(system, snr_db, cbr):
    images, link = photographs(80, 112), make_link((80, 112), snr_db, cbr)
    sent = system.encode(images, link)
    power = sent.symbols.abs().double().square().mean(dim=1)
    assert torch.allclose(power, torch.ones(2, dtype=torch.float64), atol=1e-4)
    charged = sent.symbols.shape[1] + link.budget.side_info_uses(sent.side_info_bits, sent.side_info_snr_db)
    assert link.budget.allowed_uses() - 2 <= charged <= link.budget.allowed_uses()


@pytest.mark.parametrize("snr_db", [1.0, 10.0, 20.0])
def test_it_beats_the_code_that_treats_all_blocks_alike(system, snr_db):
    images, link = photographs(256, 256, 3), make_link((256, 256), snr_db)
    plain = registry.create("linear")
    ours, theirs = (
        psnr(one.decode(through(one.encode(images, link), link, [1, 2, 3]), link).output, images)
        for one in (system, plain)
    )
    assert (ours - theirs).min() > 0.5 and (ours - theirs).mean() > 1.0


def test_without_noise_and_with_all_uses_the_picture_comes_back(system):
    images, link = photographs(64, 80), make_link((64, 80), 60.0, 0.55)
    output = system.decode(through(system.encode(images, link), link, [1, 2]), link).output
    assert psnr(output, images).min() > 50


def test_the_error_is_what_the_receiver_says_it_is(system):
    """The sum of the posterior errors equals the squared error of the picture, on average over the noise."""
    images, link = photographs(256, 256, 3), make_link((256, 256), 5.0)
    sent = system.encode(images, link)
    said, found = 0.0, 0.0
    for seed in range(4):
        received = through(sent, link, [seed, seed + 10, seed + 20])
        estimates = system.estimate(received, link)
        said += sum(one.errors.sum() for one in estimates)
        found += (system.pictures(estimates) - images).square().sum().item()
    assert 0.75 < found / said < 1.25


@pytest.mark.parametrize("channel", ["rayleigh-block", "rayleigh-fast"])
def test_fading_is_equalised(system, channel):
    images, link = photographs(128, 128), make_link((128, 128), 20.0, channel=channel)
    output = system.decode(through(system.encode(images, link), link, [3, 4]), link).output
    assert torch.isfinite(output).all() and psnr(output, images).min() > 15


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_pictures_arrive(system, value):
    images, link = torch.full((1, 3, 64, 64), value), make_link((64, 64), 10.0)
    sent = system.encode(images, link)
    assert sent.symbols.abs().double().square().mean().item() == pytest.approx(1, abs=1e-4)
    output = system.decode(through(sent, link, [1]), link).output
    assert (output - images).abs().max() < 0.05


def test_noise_as_a_picture_keeps_the_rules(system):
    images = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)).round()
    link = make_link((96, 64), 10.0)
    sent = system.encode(images, link)
    assert sent.symbols.abs().double().square().mean().item() == pytest.approx(1, abs=1e-4)
    output = system.decode(through(sent, link, [1]), link).output
    assert (output - images).square().mean() < images.var()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 40), (33, 300)])
def test_any_size(system, size):
    images = photographs(*size, 1)
    link = Link("reconstruction", *size, Budget(uses=400), "awgn", 10.0)
    output = system.decode(through(system.encode(images, link), link, [1]), link).output
    assert output.shape == images.shape and psnr(output, images).item() > 20


def test_a_pictures_result_does_not_depend_on_its_batch(system):
    images, link = photographs(96, 96, 3), make_link((96, 96), 7.0)
    together = system.encode(images, link)
    for row in range(3):
        alone = system.encode(images[row : row + 1], link)
        assert torch.equal(alone.symbols[0], together.symbols[row])
        assert torch.equal(alone.side_info[0], together.side_info[row])


def test_both_ends_need_nothing_but_the_bits(system):
    images, link = photographs(96, 96), make_link((96, 96), 7.0)
    received = through(system.encode(images, link), link, [1, 2])
    other = LinearSelect()
    assert torch.equal(other.decode(received, link).output, system.decode(received, link).output)


def test_a_budget_that_holds_no_symbol_is_an_error_with_figures(system):
    link = Link("reconstruction", 64, 64, Budget(uses=9), "awgn", 10.0)
    with pytest.raises(BudgetTooSmall, match="budget of 9 uses does not hold 9 bits"):
        system.encode(photographs(64, 64, 1), link)
    # no room for a map: all blocks are in one class
    few = Link("reconstruction", 64, 64, Budget(uses=30), "awgn", 10.0)
    assert system.plan(few).map_bits >= 1
    output = system.decode(through(system.encode(photographs(64, 64, 1), few), few, [1]), few).output
    assert torch.isfinite(output).all()


def test_the_codebook_survives_its_file(system):
    stored = system.codebook.tensors()
    again = Codebook.read(stored).tensors()
    assert all(np.array_equal(stored[key], again[key]) for key in stored if key != "rotations")
    assert np.abs(stored["rotations"].astype(int) - again["rotations"]).max() <= 1
    for rotation in system.codebook.rotations.astype(np.float64):
        assert np.abs(rotation.T @ rotation - np.eye(len(rotation))).max() < 1e-5


def test_coefficients_of_any_class_keep_the_energy_and_come_back(system):
    details = np.random.default_rng(0).standard_normal((40, 765)).astype(np.float32)
    parts = system.codebook.analyse(details)
    classes = np.arange(40) % system.codebook.classes
    coefficients = system.codebook.coefficients(parts, classes)
    assert np.allclose(np.square(coefficients).sum(axis=1), np.square(details).sum(axis=1), rtol=1e-4)
    assert np.allclose(system.codebook.details(coefficients, classes), details, atol=1e-4)


def test_what_is_prepared_before_the_snr_is_known_is_sent_for_the_snr(system):
    """A sweep analyses the pictures once, with a link whose SNR is NaN. The later steps see the SNR."""
    images, link = photographs(64, 64), make_link((64, 64), float("nan"))
    send = system.prepare(images, link)
    for snr_db in (3.0, 15.0):
        at = link.at(snr_db=snr_db)
        once, whole = send(at), system.encode(images, at)
        assert once.side_info_snr_db == whole.side_info_snr_db == snr_db
        assert torch.equal(once.symbols, whole.symbols) and torch.equal(once.side_info, whole.side_info)
