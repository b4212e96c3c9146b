"""Tests of the control channel: the errors of its code against the union bound and against the limit of its rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from baselines.digital import nr_code
from bench.measure import control_channel
from bench.measure.channel import CHANNELS, transmit
from systems.interface import Budget, Link, Transmission
from systems.side_info import CHARGED_CRC_BITS, WORD_ERROR, control_uses


def words(count: int, bits: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (count, bits), dtype=np.uint8)


def sent(bits: np.ndarray, uses: int = 1) -> Transmission:
    return Transmission(torch.ones(len(bits), uses, dtype=torch.complex64), torch.from_numpy(bits))


def link_at(snr_db: float, made_for: float, channel: str = "awgn") -> Link:
    return Link("reconstruction", 8, 8, Budget(uses=100, control_snr_db=made_for), channel, snr_db)


def errors(bits: int, snr_db: float, made_for: float, count: int, channel: str = "awgn") -> tuple[float, float]:
    """The share of words that are lost, and the share of words that arrive wrong."""
    told = words(count, bits)
    received, arrived = control_channel.send(sent(told), link_at(snr_db, made_for, channel), list(range(count)))
    wrong = (received.side_info.numpy() != told).any(axis=1)
    return float((~arrived).float().mean()), float((wrong & arrived.numpy()).mean())


def union_bound(bits: int, uses: int, snr_db: float) -> float:
    """The union bound for maximum likelihood over all words, from the weights of the code: a word at distance d is
    chosen with probability Q(sqrt(d Es/N0)) for QPSK.
    """
    every = ((np.arange(2**bits)[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
    weights = control_channel._small_block(every, 2 * uses).sum(axis=1)[1:]
    return float(norm.sf(np.sqrt(weights * 10 ** (snr_db / 10))).sum())


def test_the_small_block_code_is_that_of_the_standard():
    """Minimum weights of the (32, 11) code of TS 38.212 and of its subcodes: 16 up to 6 bits, 12 up to 10 bits, 10 at
    11 bits.
    """
    least = {}
    for bits in range(3, 12):
        every = ((np.arange(2**bits)[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
        coded = control_channel._small_block(every, 32)
        assert len(np.unique(coded, axis=0)) == 2**bits
        least[bits] = int(coded.sum(axis=1)[1:].min())
    assert least == {3: 16, 4: 16, 5: 16, 6: 16, 7: 12, 8: 12, 9: 12, 10: 12, 11: 10}


@pytest.mark.parametrize("bits", range(1, 12))
def test_a_short_word_keeps_the_promise_of_its_rule(bits):
    """The union bound, which is above the true error rate, is at most 1e-5 at the SNR for which the word is made, over
    a range of 30 dB.
    """
    for snr_db in range(-10, 21, 2):
        uses = control_uses(bits, snr_db)
        assert union_bound(bits, uses, snr_db) < WORD_ERROR, (bits, snr_db, uses)


def test_8_bits_at_0_db_take_about_40_uses():
    assert control_uses(8, 0.0) == 39
    assert [control_uses(8, snr) for snr in (-10, 10, 20)] == [400, 8, 8]
    assert control_uses(0, 0.0) == 0


def test_measured_errors_agree_with_the_union_bound():
    """8 bits made for 0 dB are received at -2 and -3 dB, where errors are frequent enough to count. The decoder notices
    most of them and gives the word up.
    """
    for snr_db, count in ((-2.0, 40_000), (-3.0, 20_000)):
        told = words(count, 8)
        received = transmit(Transmission(control_channel.encode(told, 39)), link_at(snr_db, 0.0), list(range(count)))
        every, signs = control_channel._codebook(8, 78)
        soft = np.empty((count, 78))
        soft[:, 0::2], soft[:, 1::2] = received.symbols.real.numpy(), received.symbols.imag.numpy()
        wrong = (every[(soft @ signs).argmax(axis=1)] != told).any(axis=1).mean()
        bound = union_bound(8, 39, snr_db)
        spread = 4 * math.sqrt(bound / count)
        assert 0.5 * bound - spread < wrong < bound + spread
        lost, unseen = errors(8, snr_db, 0.0, count)
        assert unseen < wrong < lost < 10 * bound  # the decoder notices most errors and gives those words up
    assert errors(8, 0.0, 0.0, 20_000) == (0.0, 0.0)


@pytest.mark.parametrize("bits", [12, 200, 4000])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 18.0])
def test_a_long_word_arrives_at_the_snr_that_it_is_made_for(bits, snr_db):
    assert errors(bits, snr_db, snr_db, 40) == (0.0, 0.0)
    lost, wrong = errors(bits, snr_db - 10, snr_db, 10)
    assert lost > 0.5 and wrong == 0  # the CRC detects it


def test_the_rule_charges_the_crc_that_the_link_appends():
    assert CHARGED_CRC_BITS == nr_code.CRC_BITS == control_channel._long_code(200, 300).frame.crc_bits


def test_more_bits_fit_at_a_high_snr():
    uses = [control_uses(4000, snr_db) for snr_db in (0, 5, 10, 15, 20)]
    assert uses == sorted(uses, reverse=True) and uses[0] > 5000 > uses[1]


def test_low_rates_repeat_and_large_words_are_split():
    for bits, made_for in ((40, -12.0), (9000, 12.0)):
        assert errors(bits, made_for, made_for, 5) == (0.0, 0.0)


@pytest.mark.parametrize("bits", [8, 40])
def test_the_word_meets_the_draw_of_its_picture_and_leaves_the_symbols_theirs(bits):
    """A deep fade also loses the word. The symbols are received as they would be without a word."""
    count = 60
    for channel in CHANNELS.own_names:
        told = words(count, bits)
        transmission, link = sent(told, 50), link_at(0.0, CHANNELS[channel].control_snr_db, channel)
        received, arrived = control_channel.send(transmission, link, list(range(count)))
        plain = transmit(Transmission(transmission.symbols), link, list(range(count)))
        assert torch.equal(received.symbols, plain.symbols) and torch.equal(received.csi, plain.csi)
        assert torch.equal(received.side_info[arrived], torch.from_numpy(told)[arrived])
        if channel == "rayleigh-block":
            gain = received.csi.abs().square()[:, 0]
            assert not arrived.all() and gain[~arrived].max() < 0.1 < gain[arrived].median()
        else:
            assert arrived.all()


def test_a_word_does_not_depend_on_its_batch():
    told = words(30, 8)
    link = link_at(-4.0, 0.0)
    received, arrived = control_channel.send(sent(told), link, list(range(30)))
    for row in (0, 7, 29):
        alone, came = control_channel.send(sent(told[row : row + 1]), link, [row])
        assert torch.equal(alone.side_info[0], received.side_info[row]) and bool(came) == bool(arrived[row])


def test_no_side_information_takes_no_uses():
    transmission = Transmission(torch.ones(2, 5, dtype=torch.complex64))
    received, arrived = control_channel.send(transmission, link_at(-20.0, 0.0), [1, 2])
    assert arrived.all() and received.side_info.shape == (2, 0) and received.symbols.shape == (2, 5)
