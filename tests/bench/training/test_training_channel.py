"""Tests of the channel on the device: it follows the harness's definition, with draws of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.measure import channel as records
from bench.measure.channel import transmit as measured
from bench.training import draws
from bench.training.channel import ON_DEVICE, transmit
from systems.interface import Budget, Link, Transmission

CHANNELS = records.CHANNELS.own_names


def case(channel: str, batch: int = 6, uses: int = 4000):
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randn(batch, uses, dtype=torch.complex64, generator=generator)
    symbols = symbols / symbols.abs().square().mean(dim=1, keepdim=True).sqrt()
    snr = torch.linspace(0, 20, batch)
    link = Link("reconstruction", 64, 64, Budget(uses=uses), channel, snr)
    return Transmission(symbols, torch.zeros(batch, 8, dtype=torch.uint8)), link


@pytest.mark.parametrize("channel", CHANNELS)
def test_shapes_variances_and_side_information_are_those_of_the_harness(channel):
    sent, link = case(channel)
    ours, theirs = transmit(sent, link, torch.arange(6)), measured(sent, link, range(6))
    assert torch.equal(ours.noise_var, theirs.noise_var) and torch.equal(ours.side_info, theirs.side_info)
    assert ours.csi.shape == theirs.csi.shape and ours.symbols.dtype == theirs.symbols.dtype == torch.complex64
    noise = ours.symbols - ours.csi * sent.symbols
    power = noise.abs().square().mean(dim=1) / ours.noise_var
    assert (power - 1).abs().max() < 6 / np.sqrt(4000)  # exponential draws: a standard deviation of 1 each
    real = noise.real.square().mean(dim=1) / ours.noise_var
    assert (real - 0.5).abs().max() < 6 * np.sqrt(0.5 / 4000)


def test_fading_has_unit_power_and_is_known():
    sent, link = case("rayleigh-fast", batch=20)
    gain = transmit(sent, link, torch.arange(20)).csi
    assert abs(gain.abs().square().mean() - 1) < 6 / np.sqrt(gain.numel())
    blocks = transmit(*case("rayleigh-block", batch=3000, uses=1), torch.arange(3000)).csi
    assert blocks.shape == (3000, 1) and abs(blocks.abs().square().mean() - 1) < 6 / np.sqrt(3000)


def test_noise_does_not_depend_on_the_fading_or_on_the_batch():
    sent, link = case("awgn")
    keys = draws.sample_keys(1, torch.arange(6))
    noise = transmit(sent, link, keys).symbols - sent.symbols
    faded = transmit(sent, link.at(channel="rayleigh-block"), keys)
    assert torch.allclose(faded.symbols - faded.csi * sent.symbols, noise, atol=1e-5)
    one = transmit(Transmission(sent.symbols[2:3]), link.at(snr_db=link.snr_db[2:3]), keys[2:3])
    assert torch.equal(one.symbols - sent.symbols[2:3], noise[2:3])


@pytest.mark.parametrize("channel", CHANNELS)
def test_gradients_pass(channel):
    sent, link = case(channel, batch=2, uses=5)
    symbols = sent.symbols.clone().requires_grad_()
    received = transmit(Transmission(symbols), link, torch.arange(2))
    (gradient,) = torch.autograd.grad(received.symbols.abs().square().sum(), symbols)
    expected = 2 * (received.symbols * received.csi.conj())
    assert torch.allclose(gradient, expected.detach(), rtol=1e-4, atol=1e-5)


def test_only_channels_of_the_bench_are_drawn_on_the_device():
    assert set(ON_DEVICE) <= set(CHANNELS)


def test_a_receiver_that_does_not_know_the_gain_is_trained_without_it(monkeypatch):
    """Also on a channel that the device could draw: what the receiver is told comes from the record."""
    wrong = records.Csi("half", "the receiver is told half of h", lambda gain, noise_var, seed: gain / 2)
    half = replace(records.CHANNELS["rayleigh-fast"], csi=wrong)
    monkeypatch.setattr(records.CHANNELS, "_own", {**records.CHANNELS._own, "rayleigh-fast": half})
    sent, link = case("rayleigh-fast", batch=3)
    received = transmit(sent, link, torch.arange(3))
    power = (received.symbols - 2 * received.csi * sent.symbols).abs().square().mean(dim=1) / received.noise_var
    assert (power - 1).abs().max() < 6 / np.sqrt(4000)


def test_a_channel_of_a_package_is_the_one_that_is_trained(monkeypatch):
    """A record that no code here names: its gain reaches the training step, and not the one of another channel."""
    turned = records.Channel("turned", "a quarter turn", lambda seed, uses: np.full(1, 1j))
    monkeypatch.setattr(records.CHANNELS, "_own", {**records.CHANNELS._own, "turned": turned})
    sent, link = case("turned", batch=3)
    keys = draws.sample_keys(5, torch.arange(3))
    assert (keys < 0).any()
    received = transmit(sent, link, keys)
    assert torch.equal(received.csi, torch.full((3, 1), 1j, dtype=torch.complex64))
    power = (received.symbols - 1j * sent.symbols).abs().square().mean(dim=1) / received.noise_var
    assert (power - 1).abs().max() < 6 / np.sqrt(4000)
    assert torch.equal(received.symbols, transmit(sent, link, keys).symbols)
    one = transmit(Transmission(sent.symbols[2:]), link.at(snr_db=link.snr_db[2:]), keys[2:])
    assert torch.equal(one.symbols, received.symbols[2:])
