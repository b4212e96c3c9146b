"""Tests of `gensc-select`: untrained it equals `linear-select`, and a training step changes the receiver only."""

import pytest
import torch
from digital_links import through
from skimage import data

import baselines  # noqa: F401  registers the systems
from baselines.gensc_select import GenSCSelect, GenSCSelectConfig
from bench.measure.channel import transmit
from systems import registry
from systems.errors import CheckpointError
from systems.interface import Budget, Link

SMALL = GenSCSelectConfig(depth=2, width=32, heads=2, window=4, time_dim=16)


def make_link(size, snr_db, cbr=1 / 16, channel="awgn"):
    return Link("reconstruction", *size, Budget.from_cbr(cbr, *size), channel, snr_db)


def photographs(height, width, count=2):
    whole = [data.astronaut(), data.coffee(), data.chelsea()][:count]
    return torch.stack([torch.from_numpy(p[:height, :width].copy()).permute(2, 0, 1).float() / 255 for p in whole])


@pytest.fixture(scope="module")
def system():
    return GenSCSelect("gensc-select", checkpoint="none", config=SMALL)


@pytest.mark.parametrize(("size", "channel"), [((64, 96), "awgn"), ((75, 101), "rayleigh-fast")])
def test_untrained_it_is_linear_select_to_the_bit(system, size, channel):
    images, link = photographs(*size), make_link(size, 8.0, channel=channel)
    plain = registry.create("linear-select")
    sent = system.encode(images, link)
    assert torch.equal(sent.symbols, plain.encode(images, link).symbols)
    received = through(sent, link, [1, 2])
    with torch.no_grad():
        assert torch.equal(system.decode(received, link).output, plain.decode(received, link).output)


def test_a_training_step_mends_the_receiver_at_many_snrs_at_once(system):
    """Each picture of the batch meets an SNR of its own. A few steps on one batch reduce its error."""
    system = GenSCSelect("gensc-select", checkpoint="none", config=SMALL).train()
    images = photographs(64, 64, 3)
    link = make_link((64, 64), torch.tensor([1.0, 9.0, 19.0]))

    def channel(transmission, at):
        return transmit(transmission, at, [5, 6, 7])

    optimiser = torch.optim.AdamW(system.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = system.training_step(images, images, link, channel)["picture"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    assert all(parameter.grad is not None for parameter in system.parameters())


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


def test_no_weights_ship_and_others_codebooks_are_refused(system, tmp_path):
    with pytest.raises(CheckpointError, match="ships no weights"):
        registry.create("gensc-select")
    from systems import zoo

    state = system.state_dict()
    assert "codebook_sha256" in state and not any(key.startswith("front") for key in state)
    state["codebook_sha256"] = state["codebook_sha256"] ^ 1
    path = tmp_path / "w.safetensors"
    zoo.save_weights(path, state, {"system": "gensc-select", "size": "small"})
    with pytest.raises(CheckpointError, match="another codebook"):
        GenSCSelect("gensc-select", checkpoint=str(path), config=SMALL)
