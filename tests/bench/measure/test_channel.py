"""Tests of the channel: its SNR, the split of the noise between real and imaginary part, the law of fading, and that
draws depend on the seed only.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from bench.measure.channel import CHANNELS, Csi, csi_words, standard_complex, transmit
from systems.errors import UserError
from systems.interface import Budget, Link, Received, Transmission

USES = 400_000  # the estimate of a power from N complex draws has std 4.34/sqrt(N) dB = 0.007 dB here


def link_for(channel: str = "awgn", snr_db=10.0) -> Link:
    return Link("reconstruction", 224, 224, Budget(uses=USES), channel, snr_db)


def qpsk(batch: int, uses: int, seed: int = 0) -> Transmission:
    """Unit-power symbols: |x| is exactly 1."""
    bits = np.random.default_rng(seed).integers(0, 4, (batch, uses))
    return Transmission(torch.from_numpy(np.exp(1j * (np.pi / 4 + np.pi / 2 * bits))).to(torch.complex64))


def send(sent: Transmission, link: Link, seed: int = 3) -> Received:
    return transmit(sent, link, [seed + row for row in range(len(sent.symbols))])


def noise_of(sent: Transmission, received: Received) -> np.ndarray:
    return (received.symbols - received.csi * sent.symbols).numpy().astype(np.complex128)


channels = pytest.mark.parametrize("channel", CHANNELS.names())


@channels
@pytest.mark.parametrize("snr_db", [-3.0, 0.0, 7.0, 20.0])
def test_snr_is_what_was_asked(channel, snr_db):
    sent = qpsk(2, USES)
    noise = noise_of(sent, received := send(sent, link_for(channel, snr_db)))
    measured = -10 * np.log10((np.abs(noise) ** 2).mean(axis=1))  # E|x|^2 = 1 and E|h|^2 = 1
    assert np.abs(measured - snr_db).max() < 0.05
    np.testing.assert_allclose(received.noise_var.numpy(), 10 ** (-snr_db / 10), rtol=1e-6)


@channels
def test_noise_is_split_evenly_over_i_and_q(channel):
    sent = qpsk(1, USES)
    noise = noise_of(sent, send(sent, link_for(channel, 6.0)))[0]
    expected = 10 ** (-0.6) / 2
    for part in (noise.real, noise.imag):
        assert abs(10 * math.log10(part.var() / expected)) < 0.05
        assert abs(part.mean()) < 5 * math.sqrt(expected / USES)
        assert stats.kstest(part[:50_000] / math.sqrt(expected), "norm").pvalue > 1e-3
    correlation = np.corrcoef(noise.real, noise.imag)[0, 1]
    assert abs(correlation) < 5 / math.sqrt(USES)


@pytest.mark.parametrize("channel", ["rayleigh-block", "rayleigh-fast"])
def test_fading_is_rayleigh_with_unit_power(channel):
    sent = qpsk(20_000, 1) if channel == "rayleigh-block" else qpsk(1, 20_000)
    fading = send(sent, link_for(channel)).csi.numpy().ravel()
    assert fading.size == 20_000
    assert abs((np.abs(fading) ** 2).mean() - 1) < 5 / math.sqrt(fading.size)  # |h|^2 is exponential, std 1
    assert stats.kstest(np.abs(fading), stats.rayleigh(scale=math.sqrt(0.5)).cdf).pvalue > 1e-3
    assert stats.kstest(np.angle(fading), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_block_fading_is_constant_over_a_picture_and_fast_fading_is_not():
    sent = qpsk(3, 500)
    # At 100 dB the ratio y/x is h. So h is measured at the output, not read from the csi that the receiver gets.
    block = send(sent, link_for("rayleigh-block", 100.0))
    ratio = (block.symbols / sent.symbols).numpy()
    assert np.abs(ratio - ratio[:, :1]).max() < 1e-3
    np.testing.assert_allclose(ratio[:, 0], block.csi.numpy()[:, 0], atol=1e-3)
    assert np.unique(block.csi.numpy().round(4)).size == 3

    fast = send(sent, link_for("rayleigh-fast", 100.0))
    np.testing.assert_allclose((fast.symbols / sent.symbols).numpy(), fast.csi.numpy(), atol=1e-3)
    assert np.unique(fast.csi.numpy().round(4)).size > 1400
    awgn = send(sent, link_for("awgn", 100.0))
    np.testing.assert_allclose(awgn.symbols.numpy(), sent.symbols.numpy(), atol=1e-3)


def test_noise_and_fading_are_independent():
    sent = qpsk(1, 100_000)
    received = transmit(sent, link_for("rayleigh-fast", 0.0), [11])
    noise, fading = noise_of(sent, received)[0], received.csi.numpy()[0]
    assert abs(np.mean(noise * fading.conj())) < 5 / math.sqrt(100_000)


@channels
def test_a_system_with_fewer_uses_meets_a_prefix_of_the_same_channel(channel):
    long, short = qpsk(1, 1000), qpsk(1, 137)
    far, near = transmit(long, link_for(channel), [5]), transmit(short, link_for(channel), [5])
    np.testing.assert_array_equal(far.csi.numpy()[:, : near.csi.shape[1]], near.csi.numpy())
    # rounding to complex64 of h x + n
    np.testing.assert_allclose(noise_of(long, far)[:, :137], noise_of(short, near), atol=3e-7)


@channels
def test_a_picture_meets_the_same_draw_in_any_batch_and_order(channel):
    sent, link = qpsk(4, 301), link_for(channel)
    together = transmit(sent, link, [9, 8, 7, 6])
    for row, seed in enumerate([9, 8, 7, 6]):
        alone = transmit(Transmission(sent.symbols[row : row + 1]), link, [seed])
        np.testing.assert_array_equal(alone.csi.numpy(), together.csi.numpy()[row : row + 1])
        np.testing.assert_allclose(alone.symbols.numpy(), together.symbols.numpy()[row : row + 1], atol=3e-7)
    again = transmit(Transmission(sent.symbols.flip(0)), link, [6, 7, 8, 9])
    np.testing.assert_allclose(again.symbols.flip(0).numpy(), together.symbols.numpy(), atol=3e-7)
    assert not np.allclose(noise_of(sent, together)[0], noise_of(sent, together)[1], atol=1e-2)


@channels
def test_two_systems_meet_the_same_noise(channel):
    one, other = qpsk(1, 200, seed=1), qpsk(1, 200, seed=2)
    first, second = transmit(one, link_for(channel), [4]), transmit(other, link_for(channel), [4])
    np.testing.assert_array_equal(first.csi.numpy(), second.csi.numpy())
    np.testing.assert_allclose(noise_of(one, first), noise_of(other, second), atol=5e-7)


def test_each_picture_of_a_batch_meets_its_own_snr():
    snr = torch.tensor([0.0, 10.0, 20.0])
    sent = qpsk(3, USES)
    noise = noise_of(sent, received := send(sent, link_for("awgn", snr)))
    measured = -10 * np.log10((np.abs(noise) ** 2).mean(axis=1))
    np.testing.assert_allclose(measured, snr.numpy(), atol=0.05)
    np.testing.assert_allclose(received.noise_var.numpy(), [1, 0.1, 0.01], rtol=1e-6)


def test_the_draw_itself_is_pinned():
    """A change of the random stream would change every published row."""
    zero = Transmission(torch.zeros(1, 2, dtype=torch.complex64))
    noise = transmit(zero, link_for("awgn", 0.0), [12345]).symbols.numpy()[0]
    np.testing.assert_allclose(noise, [1.26396736 - 0.3455213j, 0.76535323 - 0.31813512j], rtol=1e-6)
    faded = transmit(zero, link_for("rayleigh-fast", 0.0), [12345])
    np.testing.assert_allclose(
        faded.csi.numpy()[0], [-0.01644925 - 0.63502773j, -1.19562514 - 0.52608319j], rtol=1e-6, atol=1e-8
    )


@channels
def test_training_channel_passes_the_gradient_of_h(channel):
    symbols = qpsk(2, 50).symbols.requires_grad_()
    received = transmit(Transmission(symbols), link_for(channel), [1, 2])
    received.symbols.real.sum().backward()
    expected = received.csi.conj().expand(2, 50)  # d Re(h x) / dx, in torch's convention, is conj(h)
    torch.testing.assert_close(symbols.grad, expected)


def estimated(gain, noise_var, seed):
    """h with an error of power N0, as one pilot symbol gives it."""
    return gain + math.sqrt(noise_var) * standard_complex(seed, 2, len(gain))


def test_a_receiver_that_estimates_the_gain_is_told_the_estimate_and_meets_the_true_gain(monkeypatch):
    known = CHANNELS["rayleigh-fast"]
    pilots = replace(known, name="pilots", csi=Csi("pilot", "the receiver estimates h from one pilot", estimated))
    monkeypatch.setattr(CHANNELS, "_own", {**CHANNELS._own, "pilots": pilots})
    sent = qpsk(2, 20_000)
    snr_db = torch.tensor([0.0, 20.0])
    exact, told = send(sent, link_for(known.name, snr_db)), send(sent, link_for("pilots", snr_db))
    assert torch.equal(told.symbols, exact.symbols) and torch.equal(told.noise_var, exact.noise_var)
    error = (told.csi - exact.csi).abs().square().mean(dim=1)
    torch.testing.assert_close(error, exact.noise_var, rtol=5 / math.sqrt(20_000), atol=0)
    near = transmit(qpsk(2, 137), link_for("pilots", snr_db), [3, 4])
    assert torch.equal(near.csi, told.csi[:, :137])
    assert csi_words(["awgn", "pilots", "rayleigh-fast"]) == (
        "perfect: the receiver knows h and the SNR; pilot: the receiver estimates h from one pilot"
    )


def test_side_information_arrives_untouched():
    bits = torch.randint(0, 2, (2, 8), dtype=torch.uint8)
    sent = Transmission(qpsk(2, 10).symbols, bits)
    assert torch.equal(send(sent, link_for()).side_info, bits)


def test_unknown_channel_names_the_channels():
    with pytest.raises(UserError, match="rayleigh-fast"):
        send(qpsk(1, 4), link_for("rayleigh"))


def test_wrong_number_of_seeds_or_snrs_is_refused():
    with pytest.raises(ValueError, match="seeds"):
        transmit(qpsk(2, 4), link_for(), [1])
    with pytest.raises(ValueError, match="snr"):
        transmit(qpsk(2, 4), link_for("awgn", torch.zeros(3)), [1, 2])
    with pytest.raises(UserError, match="SNR"):
        transmit(qpsk(1, 4), link_for("awgn", math.nan), [1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@channels
def test_the_gpu_meets_the_noise_of_the_cpu(channel):
    sent = qpsk(2, 1000)
    there = transmit(Transmission(sent.symbols.cuda()), link_for(channel), [1, 2])
    here = transmit(sent, link_for(channel), [1, 2])
    assert torch.equal(there.csi.cpu(), here.csi)
    torch.testing.assert_close(there.symbols.cpu(), here.symbols, atol=3e-7, rtol=0)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh-block", "rayleigh-fast"])
@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 20.0])
def test_what_is_received_is_rounded_once(channel, snr_db):
    """y = h x + n in float64, with the draws of the record, and then complex64."""
    uses = 500
    symbols = torch.randn(2, uses, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    link = Link("reconstruction", 16, 16, Budget(uses=uses), channel, snr_db)
    received = transmit(Transmission(symbols), link, [3, 4])
    record, amplitude = CHANNELS[channel], np.sqrt(np.float64(np.float32(10 ** (-snr_db / 10))))
    for row, seed in enumerate([3, 4]):
        gain, noise = record.gain(seed, uses), amplitude * record.noise(seed, uses)
        expected = gain * symbols[row].numpy().astype(np.complex128) + noise
        assert np.array_equal(received.symbols[row].numpy(), expected.astype(np.complex64))
        assert np.array_equal(received.csi[row].numpy(), gain.astype(np.complex64))


@pytest.mark.parametrize("snr_db", [-20.0, 0.0])
def test_no_digit_of_a_symbol_arrives_where_the_noise_covers_it(snr_db):
    """Symbols have one of two last digits. A receiver that knows both excludes the one that no float32 noise completes
    to what it received. With noise in float32 it would never err, and know a tenth of the digits or more.
    """
    uses = 20_000
    digits = torch.randint(0, 2, (1, 2 * uses), generator=torch.Generator().manual_seed(0))
    values = np.array([0.5 - 2.0**-10 + 1365 * 2.0**-25, 0.5 - 2.0**-10 + 2 * 2.0**-25], np.float32)
    symbols = torch.view_as_complex(torch.from_numpy(values)[digits].reshape(1, uses, 2))
    link = Link("reconstruction", 16, 16, Budget(uses=uses), "awgn", snr_db)
    received = torch.view_as_real(transmit(Transmission(symbols), link, [7]).symbols).reshape(1, -1).numpy()
    fits = [value + (received.astype(np.float64) - value).astype(np.float32) == received for value in values]
    known = fits[0] != fits[1]
    right = np.where(fits[1], 1, 0)[known] == digits.numpy()[known]
    assert known.sum() > 1000 and abs(right.mean() - 0.5) < 4 * 0.5 / np.sqrt(known.sum())
