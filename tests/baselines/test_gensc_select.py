"""Tests of `gensc-select` and `adjscc-select`: untrained they equal `linear-select`. In training their front end stays
on the device, and sends and estimates what `linear-select` does.
"""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from digital_links import through
from skimage import data

import baselines  # noqa: F401  registers the systems
from baselines.adjscc_select import ADJSCCSelect, ADJSCCSelectConfig
from baselines.gensc_select import GenSCSelect, GenSCSelectConfig
from baselines.linear_select import POWER_BITS
from baselines.select import batch, class_map
from baselines.select.learned import BANDS
from bench.measure.channel import transmit
from systems import registry
from systems.errors import CheckpointError
from systems.interface import Budget, Link

SMALL = GenSCSelectConfig(depth=2, width=32, heads=2, window=4, time_dim=16)
BOTH_ENDS = dataclasses.replace(SMALL, encoder_depth=1, encoder_width=16, encoder_heads=2)


def make_link(size, snr_db, cbr=1 / 16, channel="awgn"):
    return Link("reconstruction", *size, Budget.from_cbr(cbr, *size), channel, snr_db)


def photographs(height, width, count=2):
    whole = [data.astronaut(), data.coffee(), data.chelsea()][:count]
    return torch.stack([torch.from_numpy(p[:height, :width].copy()).permute(2, 0, 1).float() / 255 for p in whole])


def make(which):
    """The receiver alone, both ends, or ADJSCC's stages."""
    if which == "adjscc":
        return ADJSCCSelect("adjscc-select", checkpoint="none", config=ADJSCCSelectConfig(6, 16, 4))
    return GenSCSelect("gensc-select", checkpoint="none", config=SMALL if which == "receiver" else BOTH_ENDS)


@pytest.fixture(scope="module")
def system():
    return make("receiver")


@pytest.mark.parametrize("which", ["receiver", "both", "adjscc"])
@pytest.mark.parametrize(("size", "channel"), [((64, 96), "awgn"), ((75, 101), "rayleigh-fast")])
def test_untrained_it_is_linear_select_to_the_bit(which, size, channel):
    system = make(which)
    images, link = photographs(*size), make_link(size, 8.0, channel=channel)
    plain = registry.create("linear-select")
    sent, expected = system.encode(images, link), plain.encode(images, link)
    assert torch.equal(sent.symbols, expected.symbols) and torch.equal(sent.side_info, expected.side_info)
    received = through(sent, link, [1, 2])
    with torch.no_grad():
        assert torch.equal(system.decode(received, link).output, plain.decode(received, link).output)


@pytest.mark.parametrize("which", ["receiver", "both", "adjscc"])
def test_training_steps_mend_the_picture_at_many_snrs_at_once(which):
    """Each picture of the batch meets an SNR of its own. A few steps on one batch reduce its error.
    (ADJSCC's stages bear a lower rate only: inverse GDN is quadratic.)
    """
    system = make(which).train()
    images = photographs(64, 64, 3)
    link = make_link((64, 64), torch.tensor([1.0, 9.0, 19.0]))
    optimiser = torch.optim.AdamW(system.parameters(), lr=2e-4 if which == "adjscc" else 2e-3)
    losses = []
    for _ in range(12):
        loss = system.training_step(images, images, link, lambda sent, at: transmit(sent, at, [5, 6, 7]))["picture"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses) < 0.98 * losses[0] and max(losses) < 2 * losses[0]
    assert all(parameter.grad is not None for parameter in system.parameters())


def host(front, link, images, classes):
    """Symbols and side information of `linear-select` for given classes, whatever bits they take."""
    from baselines.select import lapped

    found = lapped.analyse(images)
    plan = front.plan(link)
    rows = []
    for means, details, own in zip(found.means.double().numpy(), found.details, classes, strict=True):
        bits = np.concatenate([np.ones(1, np.uint8), class_map.encode(own, front.codebook.tables, 10**5)])
        wide = plan._replace(map_bits=10**5)
        parts = front.codebook.analyse(details.flatten(0, 1).numpy())
        rows.append(front.modulate(wide, own, bits, means, parts))
    return plan, [symbols for symbols, _ in rows], [side_info for _, side_info in rows]


@pytest.mark.parametrize("snr_db", [0.0, 10.25, 20.0])
def test_the_training_front_end_is_that_of_linear_select(system, snr_db):
    images = photographs(64, 96)
    link = make_link((64, 96), torch.full((2,), snr_db))
    system = make("receiver").train()
    sent = system.encode(images, link)
    front = system.front
    classes = sent.side_info[:, :-1].long().unflatten(1, (4, 6)).numpy()
    plan, symbols, side_info = host(front, link.at(snr_db=snr_db), images, classes)
    expected = torch.from_numpy(np.stack(symbols))
    assert torch.allclose(sent.symbols[:, : plan.uses], expected, atol=2e-3)
    assert not sent.symbols[:, plan.uses :].any()
    received = transmit(sent, link, [3, 4])
    linear, features = system._linear_batch(received, link)
    reals = torch.view_as_real(received.symbols).flatten(1).double().numpy()[:, : 2 * plan.uses]
    noise = np.full_like(reals, plan.noise)
    estimates = [
        front._estimate(plan, *row) for row in zip(reals, noise, (one[: POWER_BITS + 10**5] for one in side_info))
    ]
    assert torch.allclose(linear, front.pictures(estimates), atol=5e-3)
    known = np.stack([system._known(one) for one in estimates])
    np.testing.assert_allclose(features.numpy(), known, atol=5e-3)


@pytest.mark.parametrize("snr_db", [0.0, 2.0, 10.0, 18.0])
def test_the_training_front_end_chooses_maps_as_large_and_as_good(snr_db):
    """Of three photographs: the coder's bits for its maps, and the linear picture's PSNR beside the real encoder's."""
    system = make("receiver")
    images = photographs(128, 128, 3)
    link = make_link((128, 128), torch.full((3,), snr_db))

    def psnr(sent, decode):
        pictures = decode(transmit(sent, link, [5, 6, 7]))[..., :128, :128]
        return -10 * (pictures - images).square().mean(dim=(1, 2, 3)).log10().mean().item()

    real = psnr(system.encode(images, link), lambda got: system.front.pictures(system._estimates(got, link)))
    system.train()
    sent = system.encode(images, link)
    assert abs(psnr(sent, lambda got: system._linear_batch(got, link)[0]) - real) < 0.25
    room = system.front.plan(link.at(snr_db=snr_db)).map_bits - 1
    tables = system.front.codebook.tables
    classes = sent.side_info[:, :-1].long().unflatten(1, (8, 8)).numpy()
    spent = np.mean([len(class_map.encode(one, tables, 10**5)) for one in classes])
    assert 0.75 * room < spent < 1.25 * room  # by the tables, without the coder's own counts


def test_the_blocks_of_a_diagonal_are_chosen_as_one_after_the_other():
    """Against a plain loop over the blocks, for costs without any structure."""
    front = make("receiver").batch_front(torch.zeros(1))
    generator = torch.Generator().manual_seed(3)
    costs = torch.rand(2, 3, 5, front.classes, generator=generator)
    price = torch.tensor([[-6.0], [-2.0]])
    expected = torch.full((2, 4, 6), front.classes)
    for picture, row, column in itertools.product(range(2), range(3), range(5)):
        bits = front.bits[expected[picture, row + 1, column], expected[picture, row, column + 1]]
        total = costs[picture, row, column] + 2 ** price[picture] * bits
        expected[picture, row + 1, column + 1] = total.argmin()
    assert torch.equal(front._cheapest(costs, price), expected[:, 1:, 1:])


def test_dearer_bits_make_no_longer_maps():
    """So the price at which a map fits can be found by halving. A map that is chosen block by block may be a little
    longer, because a block does not know what its class costs the next ones.
    """
    front = make("receiver").batch_front(torch.zeros(1))
    snr_db, uses = torch.zeros(3), torch.full((3,), 2500.0)
    _, details = front.analyse(photographs(128, 128, 3))
    plain = torch.full((3, 8, 8), front.plain_class)
    *_, water, least = front.allocate(front.deviations(plain), uses, 10 ** (-snr_db / 10) / 2, 5000)
    costs = front._costs(details, water, least)
    prices = [torch.full((3, 1), float(exponent)) for exponent in range(-12, 9)]
    bits = torch.stack([front.map_bits(front._cheapest(costs, price)) for price in prices])
    assert (bits[1:] <= bits[:-1] + 12).all()
    assert bits[0].min() > 150 and bits[-1].max() < 40


def test_what_is_known_has_the_bands_means():
    """One picture of 2 x 2 blocks, everything unknown: variance and error agree, and add up."""
    generator = torch.Generator().manual_seed(1)
    deviations = torch.rand(1, 4 * 768, generator=generator)
    features = batch.known(deviations.square(), deviations, 2, 2, BANDS)
    bands = len(BANDS) - 1
    assert features.shape == (1, 2, 2, 2 * bands + 1)
    assert torch.allclose(features[..., :bands], features[..., bands:-1])
    assert torch.allclose(features[..., -1].mean(), deviations.square().sum() / (4 * 768), rtol=1e-5)


def test_rows_of_a_batch_with_many_snrs_are_those_of_single_pictures(system):
    images, snrs = photographs(64, 64, 3), [1.0, 9.0, 19.0]
    link = make_link((64, 64), torch.tensor(snrs))
    sent = system.encode(images, link)
    received = transmit(sent, link, [5, 6, 7])
    together = system.front.pictures(system._estimates(received, link))
    for row, snr in enumerate(snrs):
        own = make_link((64, 64), snr)
        alone = system.encode(images[row : row + 1], own)
        assert torch.equal(sent.symbols[row, : alone.symbols.shape[1]], alone.symbols[0])
        assert not sent.symbols[row, alone.symbols.shape[1] :].any()
        estimates = system.front.estimate(transmit(alone, own, [5 + row]), own)
        assert torch.allclose(together[row], system.front.pictures(estimates)[0], atol=1e-6)


def test_what_the_network_may_change_is_what_is_unknown(system):
    """The scale of the network's corrections is larger where the receiver's uncertainty is larger."""
    images = photographs(128, 128, 1)
    units = []
    for snr in (0.0, 20.0):
        link = make_link((128, 128), snr)
        estimates = system.front.estimate(through(system.encode(images, link), link, [1]), link)
        units.append(system._known(estimates[0])[..., -1].mean())
        error = (system.front.pictures(estimates) - images).square().mean().item()
        assert 0.4 < error / units[-1] < 2.5  # posterior error per pixel value
    assert units[0] > 2 * units[1]


def test_weights_of_other_codebooks_are_refused(system, tmp_path):
    with pytest.raises(CheckpointError, match="ships no weights"):
        registry.create("gensc-select", size="light")
    from systems import weight_files

    state = system.state_dict()
    assert "codebook_sha256" in state and not any(key.startswith("front") for key in state)
    state["codebook_sha256"] = state["codebook_sha256"] ^ 1
    path = tmp_path / "w.safetensors"
    weight_files.save_weights(path, state, {"system": "gensc-select", "size": "small"})
    with pytest.raises(CheckpointError, match="another codebook"):
        GenSCSelect("gensc-select", checkpoint=str(path), config=SMALL)
